package lane

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// lookedBus gives one pair of scan_counter and scanning for each look, and ends.
type lookedBus struct {
	link.Conn
	looks [][2]float64
}

func (b *lookedBus) Sample(context.Context, []link.Point) ([]link.Sample, error) {
	if len(b.looks) == 0 {
		return nil, io.EOF
	}
	now := b.looks[0]
	b.looks = b.looks[1:]
	return []link.Sample{{Value: now[0]}, {Value: now[1]}}, nil
}

func (b *lookedBus) Pause(context.Context, time.Duration) error { return nil }

// killedHost takes no events any more once the bus is at its end, as when the power is cut.
type killedHost struct {
	drivers.Host
	bus    *lookedBus
	ledger *drivers.MemoryLedger
	now    time.Time
	out    []drivers.Observation
}

func (h *killedHost) Now() time.Time {
	h.now = h.now.Add(sampleStep / 2)
	return h.now
}

func (h *killedHost) Emit(o drivers.Observation) error {
	if len(h.bus.looks) == 0 {
		return errors.New("the agent is gone")
	}
	h.out = append(h.out, o)
	return nil
}

func (h *killedHost) Valid()                 {}
func (h *killedHost) Ledger() drivers.Ledger { return h.ledger }
func (h *killedHost) Log() *slog.Logger      { return slog.New(slog.DiscardHandler) }

// TestPowerCutInAScan: after it the scan that was under way is ended, and those that were counted
// meanwhile are told.
func TestPowerCutInAScan(t *testing.T) {
	ledger := &drivers.MemoryLedger{}
	run := func(at string, looks ...[2]float64) []drivers.Observation {
		bus, err := newStateBus(StateBusSettings{
			Every: sampleStep, LifeTimeout: 3 * time.Second, Chatter: 20, CounterEndsScan: true,
			Signals: map[string]SignalSettings{"scan_counter": {At: at}, "scanning": {At: "coil:1"}},
		})
		require.NoError(t, err)
		h := &killedHost{bus: &lookedBus{looks: looks}, ledger: ledger, now: drivers.ScriptStart()}
		require.ErrorContains(t, bus.Run(t.Context(), h.bus, h), "the agent is gone")
		return h.out
	}
	scans := func(list []drivers.Observation) (out []event.XrayCycle) {
		for _, o := range list {
			if x, ok := o.Data.(event.XrayCycle); ok {
				out = append(out, x)
			}
		}
		return out
	}
	first := scans(run("holding:1", [2]float64{7, 0}, [2]float64{7, 1}, [2]float64{7, 1}, [2]float64{7, 1}))
	require.Len(t, first, 1)
	require.Equal(t, "started", first[0].Phase)

	again := scans(run("holding:1", [2]float64{10, 0}, [2]float64{10, 0}))
	require.Len(t, again, 3)
	require.Equal(t, first[0].CycleID, again[0].CycleID)
	require.Equal(t, "agent_stopped", again[0].End)
	require.True(t, again[0].Unobserved)
	require.Equal(t, first[0].StartedTS, *again[0].EndedTS)
	require.Equal(t, "ended", again[2].Phase)
	require.Equal(t, 2, again[2].Scans, "one of the three is the scan that was under way")

	require.Empty(t, scans(run("holding:1", [2]float64{10, 0}, [2]float64{10, 0})), "it is told once")
	require.Empty(t, scans(run("holding:2", [2]float64{15, 0}, [2]float64{15, 0})), "another counter tells nothing of this one")
}

// slowHost is one whose bus takes some time for each look.
type slowHost struct {
	*killedHost
	took time.Duration
	log  strings.Builder
}

func (h *slowHost) Now() time.Time {
	h.now = h.now.Add(h.took)
	return h.now
}

func (h *slowHost) Log() *slog.Logger { return slog.New(slog.NewTextHandler(&h.log, nil)) }

// TestSlowLooks: a bus that is slower than every is logged once, a single slow look is not.
func TestSlowLooks(t *testing.T) {
	for _, c := range []struct {
		looks int
		took  time.Duration
		want  int
	}{{slowLooks - 1, 2 * sampleStep, 0}, {5 * slowLooks, 2 * sampleStep, 1}, {5 * slowLooks, sampleStep, 0}} {
		bus, err := newStateBus(StateBusSettings{
			Every: sampleStep, LifeTimeout: 3 * time.Second, Chatter: 20,
			Signals: map[string]SignalSettings{"scan_counter": {At: "holding:1"}, "scanning": {At: "coil:1"}},
		})
		require.NoError(t, err)
		h := &slowHost{killedHost: &killedHost{bus: &lookedBus{looks: make([][2]float64, c.looks)}, ledger: &drivers.MemoryLedger{}, now: drivers.ScriptStart()}, took: c.took}
		require.Error(t, bus.Run(t.Context(), h.bus, h))
		require.Equal(t, c.want, strings.Count(h.log.String(), "takes longer than every"))
	}
}
