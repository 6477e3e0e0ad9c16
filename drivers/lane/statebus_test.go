package lane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// bench drives an engine by hand, 100 ms from sample to sample.
type bench struct {
	t    *testing.T
	e    *signalEngine
	at   time.Time
	held map[string]link.Sample
	life float64
	dead bool // the life signal stands still
	ids  int
}

const sampleStep = 100 * time.Millisecond

func newBench(t *testing.T, signals map[string]SignalSettings, change func(*StateBusSettings)) *bench {
	t.Helper()
	s := StateBusSettings{
		Every: sampleStep, LifeTimeout: 3 * time.Second, StuckAfter: time.Minute, Chatter: 10, ReportEvery: 10 * time.Second,
		CounterEndsScan: true, Signals: signals,
	}
	if change != nil {
		change(&s)
	}
	for i, name := range slices.Sorted(maps.Keys(signals)) {
		one := signals[name]
		one.At = fmt.Sprintf("holding:%d", 10*i)
		signals[name] = one
	}
	bus, err := newStateBus(s)
	require.NoError(t, err)
	b := &bench{t: t, e: bus.engine, at: drivers.ScriptStart(), held: map[string]link.Sample{}}
	b.e.newID = func() (string, error) {
		b.ids++
		return fmt.Sprintf("cycle-%d", b.ids), nil
	}
	b.e.connected(b.at)
	return b
}

// run samples for a time and gives what came out, in short.
func (b *bench) run(d time.Duration) []string {
	b.t.Helper()
	return short(b.many(d))
}

// many samples for a time.
func (b *bench) many(d time.Duration) (all []drivers.Observation) {
	b.t.Helper()
	for end := b.at.Add(d); b.at.Before(end); {
		all = append(all, b.sample()...)
	}
	return all
}

func (b *bench) sample() []drivers.Observation {
	b.t.Helper()
	if !b.dead {
		b.life++
	}
	b.at = b.at.Add(sampleStep)
	samples := make([]link.Sample, len(b.e.signals))
	for i, s := range b.e.signals {
		samples[i] = b.held[s.name]
		if s.kind.kind == event.SignalLife && samples[i].Err == nil {
			samples[i].Value = b.life
		}
	}
	b.e.sample(b.at, samples)
	out, err := b.e.take()
	require.NoError(b.t, err)
	return out
}

func (b *bench) set(name string, v float64) { b.held[name] = link.Sample{Value: v} }

func (b *bench) fail(name string) { b.held[name] = link.Sample{Err: errors.New("exception 2")} }

// short writes events as "estop_ok edge off !safety".
func short(list []drivers.Observation) (out []string) {
	for _, o := range list {
		switch e := o.Data.(type) {
		case event.LaneSignal:
			text := e.Signal + " " + e.Reason + " "
			switch {
			case e.Quality == "unknown":
				text += "unknown"
				if e.State != nil || e.Value != nil {
					text += " WITH A VALUE"
				}
			case e.State != nil:
				text += map[bool]string{true: "on", false: "off"}[*e.State]
			default:
				text += fmt.Sprint(*e.Value)
			}
			if e.Text != "" {
				text += " " + e.Text
			}
			if e.Severity != event.SeverityInfo {
				text += " !" + e.Severity
			}
			out = append(out, text)
		case event.XrayCycle:
			text := e.CycleID + " " + e.Phase
			if e.EndedTS != nil {
				text += fmt.Sprintf(" %gs by %s", *e.DurationS, e.End)
			}
			if e.Class() == event.Urgent {
				text += " URGENT"
			}
			if len(e.Flags) > 0 {
				text += " " + strings.Join(e.Flags, ",")
			}
			out = append(out, text)
		}
	}
	return out
}

func scanner() map[string]SignalSettings {
	return map[string]SignalSettings{"scanning": {}, "scan_counter": {}, "estop_ok": {}, "life_counter": {}}
}

// TestInitialStateOnce: nothing is told before the device shows that it lives, then
// everything, once.
func TestInitialStateOnce(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	require.Empty(t, short(b.sample()))
	require.Equal(t, []string{"estop_ok initial on", "life_counter initial 2", "scan_counter initial 0", "scanning initial off"}, short(b.sample()))
	require.Empty(t, b.run(time.Minute))
}

// TestCycle follows two scans, one that the signal ends and one that the counter ends.
func TestCycle(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	require.Equal(t, []string{"cycle-1 started", "scanning edge on"}, b.run(5*time.Second))
	b.set("scanning", 0)
	require.Equal(t, []string{"cycle-1 ended 5s by scanning counter_unchanged", "scanning edge off"}, b.run(500*time.Millisecond))
	b.set("scan_counter", 1) // it counts late: that is no scan of its own
	require.NotContains(t, strings.Join(b.run(11*time.Second), " "), "cycle-2")

	b.set("scanning", 1)
	require.Equal(t, []string{"cycle-2 started", "scanning edge on"}, b.run(3*time.Second))
	b.set("scan_counter", 2)
	require.Equal(t, "cycle-2 ended 3s by scan_counter", b.run(sampleStep)[0])
	b.set("scanning", 0)
	require.Equal(t, []string{"scanning edge off"}, b.run(time.Second))
}

// TestScanBetweenTwoLooks: a scan that only the counter tells of is told, and more than
// one is flagged.
func TestScanBetweenTwoLooks(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.run(20 * time.Second)
	b.set("scan_counter", 1)
	require.Equal(t, []string{"cycle-1 started start_not_seen", "cycle-1 ended 0s by scan_counter start_not_seen"}, b.run(sampleStep)[:2])
	b.run(20 * time.Second)
	b.set("scan_counter", 4)
	require.Equal(t, []string{
		"cycle-2 started start_not_seen", "cycle-2 ended 0s by scan_counter start_not_seen,counter_jump", "scan_counter jump 4 !warning",
	}, b.run(sampleStep))
	b.set("scan_counter", 0) // somebody set it back: no scans
	require.Equal(t, []string{"scan_counter jump 0 !warning"}, b.run(sampleStep))
	b.set("scan_counter", 65535)
	b.run(20 * time.Second)
	b.set("scan_counter", 0)
	require.Equal(t, []string{
		"cycle-3 started start_not_seen", "cycle-3 ended 0s by scan_counter start_not_seen", "scan_counter wrap 0",
	}, b.run(sampleStep))
}

// TestCountedBeforeItIsDebounced: a scan of one sample, whose counter is read when the signal
// is not debounced yet, is one scan.
func TestCountedBeforeItIsDebounced(t *testing.T) {
	signals, d := scanner(), 150*time.Millisecond
	signals["scanning"] = SignalSettings{Debounce: &d}
	b := newBench(t, signals, nil)
	b.run(20 * time.Second)
	b.set("scanning", 1)
	require.Empty(t, b.run(sampleStep))
	b.set("scan_counter", 1)
	require.Equal(t, []string{"cycle-1 started", "cycle-1 ended 0.1s by scan_counter", "scan_counter changed 1"}, b.run(sampleStep))
	require.Equal(t, []string{"scanning edge on"}, b.run(time.Second))
	b.set("scanning", 0)
	b.run(time.Second)
	b.set("scanning", 1)
	require.Equal(t, []string{"cycle-2 started", "scanning edge on"}, b.run(time.Second))
	b.set("scanning", 0)
	b.set("scan_counter", 2) // both at once, the signal being debounced
	require.Equal(t, "cycle-2 ended 1s by scan_counter", b.run(time.Second)[0])
	b.set("scanning", 1) // and a bounce swallows no scan
	b.sample()
	b.set("scan_counter", 3)
	b.set("scanning", 0)
	require.Equal(t, []string{"cycle-3 started start_not_seen", "cycle-3 ended 0s by scan_counter start_not_seen"}, b.run(time.Second)[:2])
	b.set("scanning", 1)
	require.Contains(t, b.run(time.Second), "cycle-4 started")
}

// TestCounterAtTheStart is a controller that counts when a scan starts.
func TestCounterAtTheStart(t *testing.T) {
	b := newBench(t, scanner(), func(s *StateBusSettings) { s.CounterEndsScan = false })
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.set("scan_counter", 1)
	require.Equal(t, []string{"cycle-1 started", "scanning edge on"}, b.run(3*time.Second))
	b.set("scanning", 0)
	require.Equal(t, "cycle-1 ended 3s by scanning", b.run(time.Second)[0])
}

// TestEstopMidScan: the scan is cut short and says so, whichever of the two signals is seen
// first, and the e-stop is an event of its own severity, going and coming.
func TestEstopMidScan(t *testing.T) {
	for _, first := range []string{"estop_ok", "scanning", "both"} {
		t.Run(first, func(t *testing.T) {
			b := newBench(t, scanner(), nil)
			b.set("estop_ok", 1)
			b.run(time.Second)
			b.set("scanning", 1)
			b.run(4 * time.Second)
			both := []string{"estop_ok", "scanning"}
			var out []string
			if first != "both" {
				b.set(first, 0)
				out = b.run(sampleStep)
			}
			for _, s := range both {
				b.set(s, 0)
			}
			all := strings.Join(append(out, b.run(time.Second)...), "\n")
			require.Contains(t, all, "estop_ok edge off !safety")
			require.Regexp(t, `cycle-1 ended 4(\.1)?s by estop_ok URGENT`, all)
			require.Equal(t, 1, strings.Count(all, "cycle-1"))
			b.set("estop_ok", 1)
			require.Equal(t, []string{"estop_ok edge on !safety"}, b.run(time.Minute))
		})
	}
}

// TestLifeStops: after three seconds one event says that nothing is known any more, a scan
// ends, and nothing is told until the device lives again.
func TestLifeStops(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(2 * time.Second)
	b.dead = true
	require.Empty(t, b.run(2900*time.Millisecond))
	require.Equal(t, []string{"cycle-1 ended 1.9s by life_lost URGENT", "life_counter lost unknown !safety"}, b.run(sampleStep))
	b.set("scanning", 0) // a value that nobody should believe
	b.set("estop_ok", 0)
	require.Empty(t, b.run(time.Hour))
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.dead = false
	require.Equal(t, []string{"estop_ok recovered on !safety", "life_counter recovered 31", "scan_counter recovered 0", "scanning recovered off"}, b.run(time.Second))
}

// TestNeverAlive: a gateway answers in place of a device that stands still. Nothing of it is
// told as if it were so, and it is told once though the link is opened again and again.
func TestNeverAlive(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.dead = true
	b.set("estop_ok", 1)
	require.Equal(t, []string{"life_counter lost unknown !safety"}, b.run(time.Minute))
	for range 3 {
		_, err := b.e.disconnected(b.at, "gone")
		require.NoError(t, err)
		b.e.connected(b.at)
		require.Empty(t, b.run(time.Minute))
	}
}

// TestLinkLost: a lost link ends the scan and says once what is unknown.
func TestLinkLost(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(2 * time.Second)
	out, err := b.e.disconnected(b.at.Add(time.Second), "the other side is gone")
	require.NoError(t, err)
	require.Equal(t, []string{"cycle-1 ended 1.9s by link_lost URGENT", "link lost unknown !safety"}, short(out))
	e := out[1].Data.(event.LaneSignal)
	require.Equal(t, []string{"estop_ok", "life_counter", "scan_counter", "scanning"}, e.Affects)
	require.Equal(t, event.Urgent, e.Class())
	b.at = b.at.Add(time.Minute)
	b.e.connected(b.at)
	b.set("scan_counter", 5)
	require.Equal(t, []string{
		"estop_ok initial on", "life_counter initial 32", "scan_counter initial 5", "scanning initial on",
		"cycle-2 started start_not_seen", "cycle-2 ended 0s by scan_counter start_not_seen,counter_jump", "cycle-3 started began_before",
	}, b.run(200*time.Millisecond))
}

// TestUnreadableIsUnknown: a signal that can't be read is unknown and never off, and a scan
// does not go on in the dark.
func TestUnreadableIsUnknown(t *testing.T) {
	b := newBench(t, scanner(), nil)
	b.set("estop_ok", 1)
	b.run(time.Second)
	b.set("scanning", 1)
	b.run(2 * time.Second)
	b.fail("estop_ok")
	require.Equal(t, []string{"estop_ok lost unknown !safety"}, b.run(time.Minute))
	b.fail("scanning")
	require.Equal(t, []string{"cycle-1 ended 62s by unreadable URGENT", "scanning lost unknown !warning"}, b.run(time.Minute))
	b.set("scanning", 0)
	b.set("estop_ok", 1)
	require.Equal(t, []string{"scanning recovered off", "estop_ok recovered on !safety"}, b.run(time.Minute))
	// For one sample: nothing changed.
	b.fail("scanning")
	b.fail("estop_ok")
	b.fail("scan_counter")
	b.sample()
	b.set("scanning", 0)
	b.set("estop_ok", 1)
	b.set("scan_counter", 0)
	require.NotContains(t, strings.Join(b.run(time.Minute), " "), "edge")
}

// TestDebounce: the time of an edge is that of its first sample, and a bounce is none, but
// is counted.
func TestDebounce(t *testing.T) {
	d := 250 * time.Millisecond
	b := newBench(t, map[string]SignalSettings{"loop_1": {Debounce: &d}}, nil)
	b.run(time.Second)
	for range 3 { // it bounces
		b.set("loop_1", 1)
		require.Empty(t, short(b.sample()))
		b.set("loop_1", 0)
		require.Empty(t, short(b.sample()))
	}
	b.set("loop_1", 1)
	b.sample()
	first := b.at
	b.sample()
	b.sample()
	out := b.sample()
	require.Equal(t, []string{"loop_1 edge on"}, short(out))
	e := out[0].Data.(event.LaneSignal)
	require.Equal(t, first, out[0].Time)
	require.Equal(t, event.At(first), e.ObservedTS)
	require.Equal(t, 7, e.Edges)
	require.Equal(t, 0.0, *e.Previous)
}

// TestStuckOn: a loop that is on for too long is told once, and again when it was free.
func TestStuckOn(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"loop_1": {}, "light_red": {}}, nil)
	b.set("light_red", 1)
	b.run(time.Second)
	b.set("loop_1", 1)
	require.Equal(t, []string{"loop_1 edge on"}, b.run(time.Minute))
	require.Equal(t, []string{"loop_1 stuck on !warning"}, b.run(time.Hour))
	b.set("loop_1", 0)
	require.Equal(t, []string{"loop_1 edge off"}, b.run(time.Minute))
}

// TestInterlockChatter: it is told once, then counted, not flooded, and its end is told.
func TestInterlockChatter(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"interlock_ok": {}}, nil)
	b.set("interlock_ok", 1)
	b.run(time.Second)
	var all []string
	edges := 0
	for i := range 600 { // five minutes, an edge each 0.5 s
		b.set("interlock_ok", float64(i%2))
		for range 5 {
			for _, o := range b.sample() {
				edges += o.Data.(event.LaneSignal).Edges
				all = append(all, short([]drivers.Observation{o})...)
			}
		}
	}
	require.LessOrEqual(t, len(all), 11+5)
	require.Contains(t, all[len(all)-1], "interlock_ok chatter o")
	b.set("interlock_ok", 1)
	for range 1200 {
		for _, o := range b.sample() {
			edges += o.Data.(event.LaneSignal).Edges
			all = append(all, short([]drivers.Observation{o})...)
		}
	}
	require.Equal(t, "interlock_ok chatter_over on !safety", all[len(all)-1])
	require.Equal(t, 600, edges, "none is lost")
}

// TestNumbers: only beyond the deadband, and not too often.
func TestNumbers(t *testing.T) {
	tenth := 0.1
	b := newBench(t, map[string]SignalSettings{
		"kv": {Scale: &tenth, Deadband: 5}, "mode": {Values: map[string]string{"1": "operational", "3": "training"}}, "fault_code": {},
	}, nil)
	b.set("kv", 2255)
	b.set("mode", 1)
	require.Equal(t, []string{"fault_code initial 0", "kv initial 225.5", "mode initial 1 operational"}, b.run(time.Minute))
	b.set("kv", 2300)
	b.set("mode", 3)
	require.Equal(t, []string{"mode changed 3 training"}, b.run(time.Minute))
	b.set("kv", 0)
	b.set("fault_code", 17)
	require.Equal(t, []string{"kv changed 0", "fault_code changed 17"}, b.run(time.Minute))
	b.set("kv", 1000)
	b.run(sampleStep)
	b.set("kv", 2000)
	require.Equal(t, []string{"kv changed 200"}, b.run(time.Minute))
}

// TestBeamPermit is urgent only if it is lost while scanning.
func TestBeamPermit(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"scanning": {}, "beam_permit": {}}, nil)
	b.set("beam_permit", 1)
	b.run(time.Second)
	b.set("beam_permit", 0)
	require.Equal(t, []string{"beam_permit edge off"}, b.run(time.Second))
	b.set("beam_permit", 1)
	b.set("scanning", 1)
	b.run(time.Second)
	b.set("beam_permit", 0)
	require.Equal(t, []string{"beam_permit edge off !safety", "cycle-1 ended 1s by beam_permit URGENT"}, b.run(time.Second))
}

// TestEstopPolarity: estop is on when it is pressed, estop_ok is off then.
func TestEstopPolarity(t *testing.T) {
	b := newBench(t, map[string]SignalSettings{"estop": {}, "estop_2": {Invert: true}, "estop_ok_3": {}}, nil)
	b.set("estop_2", 1)
	b.set("estop_ok_3", 1)
	require.Equal(t, []string{"estop initial off", "estop_2 initial off", "estop_ok_3 initial on"}, b.run(time.Second))
	b.set("estop", 1)
	require.Equal(t, []string{"estop edge on !safety"}, b.run(time.Second))
}

func TestStateBusRefuses(t *testing.T) {
	one := func(name string, s SignalSettings) StateBusSettings {
		return StateBusSettings{Signals: map[string]SignalSettings{name: s}}
	}
	no, ms := 0.0, time.Millisecond
	for want, s := range map[string]StateBusSettings{
		"signals: there are none":                                      {},
		"every: 10ms; take 20ms to 10s":                                {Every: 10 * time.Millisecond},
		"life_timeout: 150ms; take 100ms to 10m0s, and at least twice": {LifeTimeout: 150 * time.Millisecond},
		"did you mean estop_ok?":                                       one("estopok", SignalSettings{At: "coil:1"}),
		"declare one of your own as custom_NAME with a kind":           one("temperature_of_water", SignalSettings{At: "coil:1"}),
		"loop needs a number: loop_1":                                  one("loop", SignalSettings{At: "coil:1"}),
		"signals: kv_2: there is no signal of this name":               one("kv_2", SignalSettings{At: "coil:1"}),
		"a signal of your own needs one of":                            one("custom_pump", SignalSettings{At: "coil:1"}),
		"kind: scanning is of kind input always":                       one("scanning", SignalSettings{At: "coil:1", Kind: "safety"}),
		"at: the address is missing":                                   one("scanning", SignalSettings{}),
		"what a manual calls 40001 is holding:0":                       one("scanning", SignalSettings{At: "40001"}),
		"an input signal is on or off":                                 one("scanning", SignalSettings{At: "coil:1", Offset: 1}),
		"scale: 0 can't be":                                            one("kv", SignalSettings{At: "input:1", Scale: &no}),
		"a numeric is not debounced":                                   one("kv", SignalSettings{At: "input:1", Debounce: &ms}),
		"invert: a numeric is neither on nor off":                      one("kv", SignalSettings{At: "input:1", Invert: true}),
		"values: they are of modes":                                    one("kv", SignalSettings{At: "input:1", Values: map[string]string{"1": "a"}}),
		`values: "one": "a"; write whole numbers`:                      one("mode", SignalSettings{At: "input:1", Values: map[string]string{"one": "a"}}),
		"wrap, jump: they are of counters":                             one("kv", SignalSettings{At: "input:1", Wrap: 10}),
	} {
		if s.Every == 0 {
			s.Every = sampleStep
		}
		if s.LifeTimeout == 0 {
			s.LifeTimeout = time.Second
		}
		s.Chatter = 20
		if s.Signals == nil && !strings.Contains(want, "none") {
			s.Signals = map[string]SignalSettings{"ready": {At: "coil:1"}}
		}
		_, err := newStateBus(s)
		require.ErrorContains(t, err, want)
	}
}

// TestRunOnAnotherLink: a link without registers is refused.
func TestRunOnAnotherLink(t *testing.T) {
	bus, err := newStateBus(StateBusSettings{Every: sampleStep, LifeTimeout: time.Second, Chatter: 2, Signals: map[string]SignalSettings{"ready": {At: "coil:1"}}})
	require.NoError(t, err)
	_, err = drivers.Play(context.Background(), bus, []drivers.Chunk{{}})
	require.ErrorIs(t, err, errNotABus)
}
