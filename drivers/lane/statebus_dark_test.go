package lane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// TestNobodyLooked: while events can't be stored nothing is read, and a register has no past.
// What was between is told as unknown, whatever is read afterwards.
func TestNobodyLooked(t *testing.T) {
	for name, life := range map[string]bool{"with a life signal": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			signals := map[string]SignalSettings{"scanning": {}, "estop_ok": {}}
			if life {
				signals["life_counter"] = SignalSettings{}
			}
			b := newBench(t, signals, nil)
			b.set("estop_ok", 1)
			b.run(time.Second)
			b.set("scanning", 1)
			b.run(time.Second)
			last := b.at
			b.at = b.at.Add(10 * time.Minute)
			out := b.sample()
			require.Equal(t, []string{"cycle-1 ended 0.9s by not_observed URGENT", "link lost unknown !safety"}, short(out))
			require.Equal(t, last, out[1].Time)
			require.Contains(t, out[1].Data.(event.LaneSignal).Detail, "nobody looked for 10m0.1s")
			require.True(t, out[0].Data.(event.XrayCycle).Unobserved)
			again := strings.Join(b.run(5*time.Second), "\n")
			require.Contains(t, again, "estop_ok recovered on !safety")
			require.Contains(t, again, "scanning recovered on")
			require.Contains(t, again, "cycle-2 started began_before")
			require.NotContains(t, again, "lost")

			// A bus that is always that slow is lost once, and floods nobody.
			var all []string
			for range 100 {
				b.at = b.at.Add(3 * time.Second)
				all = append(all, short(b.sample())...)
			}
			require.Len(t, all, 2)
			require.Equal(t, "link lost unknown !safety", all[1])
		})
	}
	// One that was never quicker is lost as well, and is told.
	b := newBench(t, map[string]SignalSettings{"estop_ok": {}, "life_counter": {}}, nil)
	var all []string
	for range 10 {
		b.at = b.at.Add(4 * time.Second)
		all = append(all, short(b.sample())...)
	}
	require.Equal(t, []string{"life_counter lost unknown !safety"}, all)
}

// TestTripOfOneSample: a trip is told when it is seen, and ends the scan; only its end is
// debounced.
func TestTripOfOneSample(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(3 * time.Second)
	b.set("estop_ok", 0)
	require.Equal(t, []string{"estop_ok edge off !safety", "cycle-1 ended 3s by estop_ok URGENT"}, short(b.sample()))
	b.set("estop_ok", 1)
	b.set("scanning", 0)
	require.Equal(t, []string{"scanning edge off", "estop_ok edge on !safety"}, b.run(30*time.Second))
	b.fail("estop_ok")
	require.Equal(t, []string{"estop_ok lost unknown !safety"}, short(b.sample()))
	b.set("estop_ok", 0) // from unknown to pressed, at once
	require.Equal(t, []string{"estop_ok recovered off !safety"}, short(b.sample()))
}

// chattering gives a bench whose estop_ok bounced until only its edges are counted.
func chattering(t *testing.T) *bench {
	b := newBench(t, map[string]SignalSettings{"estop_ok": {}, "loop_1": {}}, nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	var out []string
	for i := range 13 {
		b.set("estop_ok", float64(i%2))
		out = append(out, b.run(300*time.Millisecond)...)
	}
	require.Contains(t, strings.Join(out, " "), "estop_ok chatter")
	b.set("estop_ok", 1)
	require.Equal(t, []string{"estop_ok edge on !safety"}, b.run(1200*time.Millisecond))
	return b
}

// TestChatterHidesNoStateThatStays: a button that is pressed, or that can't be read, is told
// after a second, even where its contact bounced before.
func TestChatterHidesNoStateThatStays(t *testing.T) {
	b := chattering(t)
	b.set("estop_ok", 0)
	require.Empty(t, b.run(time.Second))
	pressed := b.at.Add(-900 * time.Millisecond)
	out := b.sample()
	require.Equal(t, []string{"estop_ok edge off !safety"}, short(out))
	require.Equal(t, pressed, out[0].Time, "it is stamped when it was seen first")
	require.Equal(t, []string{"estop_ok chatter_over off !safety"}, b.run(2*time.Minute))

	b = chattering(t)
	b.fail("estop_ok")
	require.Equal(t, []string{"estop_ok lost unknown !safety"}, b.run(1100*time.Millisecond))
	b.set("estop_ok", 1)
	require.Equal(t, []string{"estop_ok recovered on !safety"}, b.run(1100*time.Millisecond))
}

// TestFlickeringNumber: a number that comes and goes is told for a while, then counted, and is
// never urgent; one that stays away is told.
func TestFlickeringNumber(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"kv": {}, "scan_counter": {}, "scanning": {}}, nil)
	b.set("kv", 160)
	b.set("scan_counter", 160)
	b.run(time.Second)
	told, urgent := map[string]int{}, map[string]int{}
	for i := range 3000 { // five minutes
		for _, name := range []string{"kv", "scan_counter"} {
			if i%2 == 0 {
				b.fail(name)
			} else {
				b.set(name, 160)
			}
		}
		for _, o := range b.sample() {
			e := o.Data.(event.LaneSignal)
			told[e.Signal]++
			if e.Class() == event.Urgent {
				urgent[e.Signal]++
			}
		}
	}
	for _, name := range []string{"kv", "scan_counter"} {
		require.LessOrEqual(t, told[name], 11+5)
	}
	require.Zero(t, urgent["kv"])
	require.LessOrEqual(t, urgent["scan_counter"], 6)
	b.set("kv", 160)
	b.run(15 * time.Second)
	b.fail("kv")
	require.Contains(t, b.run(15*time.Second), "kv lost unknown !warning")
}

// TestNothingReadable: when no signal can be read that is told after a second, whatever the
// time of the life signal is.
func TestNothingReadable(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"estop_ok": {}, "scanning": {}}, func(s *StateBusSettings) { s.LifeTimeout = 10 * time.Minute })
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(time.Second)
	b.fail("estop_ok")
	b.fail("scanning")
	require.Empty(t, b.run(900*time.Millisecond))
	require.Equal(t, []string{"cycle-1 ended 0.9s by unreadable URGENT", "link lost unknown !safety"}, short(b.sample()))
	require.Empty(t, b.run(9*time.Minute))
	b.set("estop_ok", 1)
	b.set("scanning", 0)
	require.Equal(t, []string{"estop_ok recovered on !safety", "scanning recovered off"}, b.run(time.Minute))
}

// counts writes the counters of a scan's events.
func counts(list []drivers.Observation) (out []string) {
	show := func(v *float64) string {
		if v == nil {
			return "?"
		}
		return fmt.Sprint(*v)
	}
	for _, o := range list {
		if e, ok := o.Data.(event.XrayCycle); ok {
			out = append(out, fmt.Sprintf("%s %s %s-%s: %d", e.CycleID, e.Phase, show(e.CounterBefore), show(e.CounterAfter), e.Scans))
		}
	}
	return out
}

// TestHowManyScans: scans that only the counter tells of are told with their number.
func TestHowManyScans(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.set("scan_counter", 100)
	b.run(time.Second)
	_, err := b.e.disconnected(b.at, "gone")
	require.NoError(t, err)
	b.at = b.at.Add(time.Minute)
	b.e.connected(b.at)
	b.set("scan_counter", 105)
	b.sample()
	require.Equal(t, []string{"cycle-1 started 100-?: 5", "cycle-1 ended 100-105: 5"}, counts(b.sample()))

	// Of a scan that was seen, counted late: the next one counts from there.
	b.set("scanning", 1)
	require.Equal(t, []string{"cycle-2 started 105-?: 1"}, counts(b.many(time.Second)))
	b.set("scanning", 0)
	require.Equal(t, []string{"cycle-2 ended 105-105: 1"}, counts(b.many(time.Second)))
	b.set("scanning", 1)
	require.Equal(t, []string{"cycle-3 started 105-?: 1"}, counts(b.many(time.Second)))
	b.set("scan_counter", 106)
	require.Empty(t, counts(b.many(time.Second)))
	b.set("scan_counter", 108) // and another one that nobody saw
	require.Equal(t, []string{"cycle-3 ended 106-108: 2"}, counts(b.many(time.Second)))
}

// TestWhatEndsAScan: a door that stood open before the scan did not cut it short, and the count
// of a scan that was cut short is no scan of its own.
func TestWhatEndsAScan(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"door_closed": {}, "scanning": {}}, nil)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(5 * time.Second)
	b.set("scanning", 0)
	require.Equal(t, []string{"cycle-1 ended 5s by scanning", "scanning edge off"}, b.run(time.Second))

	for wait, want := range map[time.Duration]int{time.Second: 0, time.Minute: 2} {
		b = newBench(t, scanner(), nil)
		b.set("estop_ok", 1)
		b.run(time.Second)
		b.set("scanning", 1)
		b.run(3 * time.Second)
		b.set("estop_ok", 0)
		require.Contains(t, b.run(time.Second), "cycle-1 ended 3s by estop_ok URGENT")
		b.set("scanning", 0)
		b.run(wait)
		b.set("scan_counter", 1)
		require.Len(t, counts(b.many(time.Second)), want, "counted after %s", wait)
	}

	// The middle of a scan that could not be read is not its start.
	b = newBench(t, scanner(), nil)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(time.Second)
	b.fail("scanning")
	require.Contains(t, b.run(300*time.Millisecond), "cycle-1 ended 1s by unreadable URGENT")
	b.set("scanning", 1)
	require.Contains(t, b.run(time.Second), "cycle-2 started began_before")
}

// TestCounterOfUnknownWidth: the counter of an OPC UA node, whose width nobody knows, that goes
// back was set and has not gone round, unless the configuration says where it does.
func TestCounterOfUnknownWidth(t *testing.T) {
	for _, test := range []struct {
		s    SignalSettings
		want float64
	}{
		{SignalSettings{At: "ns=1;s=count"}, 0}, {SignalSettings{At: "ns=1;s=count", Wrap: 256}, 256},
		{SignalSettings{At: "holding:1"}, 65536}, {SignalSettings{At: "holding:1", Type: "u32"}, 1 << 32}, {SignalSettings{At: "holding:1", Type: "u64"}, 0},
	} {
		one, err := newSignal("scan_counter", test.s)
		require.NoError(t, err)
		require.Equal(t, test.want, one.Wrap, test.s)
	}
}
