package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/supervise"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// pipeEndpoint reaches a simulated device without a socket, since a pipe obeys
// the fake clock in which an hour passes at once.
type pipeEndpoint struct{ l *simulator.PipeListener }

func (pipeEndpoint) Scheme() string { return "tcp" }
func (pipeEndpoint) String() string { return "tcp://simulated:1600" }
func (e pipeEndpoint) Open(ctx context.Context) (link.Conn, error) {
	c, err := e.l.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return pipeConn{c}, nil
}

type pipeConn struct{ net.Conn }

func (c pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		err = link.ErrUnplugged
	}
	return n, err
}

// observed is what came out of one device.
type observed struct {
	mu   sync.Mutex
	list []drivers.Observation
}

func (o *observed) add(one drivers.Observation) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, one)
	return nil
}

// TestSimulatedHour runs an hour in which everything goes wrong that the
// simulator knows, under the real supervisor and the real driver, and holds
// what came out against what really happened. Where the two disagree, the test
// must know why.
func TestSimulatedHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scenario := simulator.MustLoad(t, "every-fault")
		if s := os.Getenv("LANEPOST_SEED"); s != "" {
			seed, err := strconv.ParseUint(s, 10, 64)
			require.NoError(t, err)
			scenario.Seed = seed
		}
		set, err := profiles.Load("")
		require.NoError(t, err)
		profile, ok := set.Get("rapiscan-tsa")
		require.True(t, ok)
		driver, ok := registry.ByName(profile.Driver)
		require.True(t, ok)

		listeners := map[string]net.Listener{}
		for _, d := range scenario.Lanes[0].Devices {
			listeners["entry-1/"+d.ID] = simulator.NewPipeListener()
		}
		sim, err := simulator.New(scenario, simulator.Options{Speed: 1, Listeners: listeners})
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, sim.Start(t.Context()))

		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		out := map[string]*observed{}
		for _, d := range scenario.Lanes[0].Devices {
			o := &observed{}
			out[d.ID] = o
			s := supervise.New(supervise.Device{
				Lane: "entry-1", ID: d.ID, Profile: profile.Name, Silence: driver.Silence,
				Endpoint: pipeEndpoint{listeners["entry-1/"+d.ID].(*simulator.PipeListener)},
				New:      func() (drivers.Instrument, error) { return driver.New(profile.Decode) },
			}, supervise.Hooks{Emit: o.add, Changed: func() {}, Log: slog.New(slog.DiscardHandler), Ledger: &drivers.MemoryLedger{}})
			running.Go(func() { s.Run(ctx) })
		}
		require.NoError(t, sim.Wait())
		cancel()
		running.Wait()
		require.NoError(t, sim.Close())
		require.InDelta(t, time.Hour.Seconds(), time.Since(began).Seconds(), 60)

		intact := 0
		for _, d := range scenario.Lanes[0].Devices {
			h := holding{t: t, began: began, device: d.ID, own: os.Getenv("LANEPOST_SEED") == "", truth: sim.Truth().Device("entry-1", d.ID), events: out[d.ID].list}
			intact += h.occupancies()
			h.states()
			h.nothingInvented()
		}
		require.Greater(t, intact, 150, "too few occupancies were untouched for the comparison to mean anything")
	})
}

// holding holds the events of one device against the truth.
type holding struct {
	t      *testing.T
	began  time.Time
	device string
	own    bool // the scenario's own seed, of which more is known
	truth  *simulator.Truth
	events []drivers.Observation
}

func (h *holding) seconds(at time.Time) float64 { return at.Sub(h.began).Seconds() }

// of lists the events of T.
func of[T event.Data](h *holding) (data []T, at []float64) {
	for _, o := range h.events {
		if d, ok := o.Data.(T); ok {
			data, at = append(data, d), append(at, h.seconds(o.Time))
		}
	}
	return data, at
}

// occupancies compares every occupancy and returns how many were untouched and
// so had to agree in every figure.
func (h *holding) occupancies() (intact int) {
	t := h.t
	events, _ := of[event.RadiationOccupancy](h)
	used := make([]bool, len(events))
	for _, truth := range h.truth.Occupancies {
		name := fmt.Sprintf("%s occupancy %d at %.1f s", h.device, truth.Occupancy, truth.StartS)
		var found []event.RadiationOccupancy
		for i, e := range events {
			// Held-back bytes come late; nothing comes early. An event that began
			// before can hold this one too, when the end between them was lost.
			if h.seconds(e.StartTS.Time) < truth.EndS+late && h.seconds(e.EndTS.Time) > truth.StartS-0.1 {
				found = append(found, e)
				used[i] = true
			}
		}
		if truth.End == "scenario-end" {
			continue // cut off by the end of the hour
		}
		if truth.Intact() && !h.stalled(truth) {
			intact++
			i := slices.IndexFunc(found, func(e event.RadiationOccupancy) bool { return e.GXCounter != nil && *e.GXCounter == truth.GXCounter })
			require.GreaterOrEqual(t, i, 0, "%s is missing", name)
			h.equal(name, truth, found[i])
			continue
		}
		h.excused(name, truth, found)
	}
	for i, e := range events {
		require.True(t, used[i], "%s: an occupancy at %.1f s that never was: %+v", h.device, h.seconds(e.StartTS.Time), e)
	}
	return intact
}

// stalled reports whether the bytes of an occupancy were held back on the way.
// After three seconds without a record the driver gives an occupancy up, as it
// must, so one that is held back for longer falls in two.
func (h *holding) stalled(o simulator.OccupancyTruth) bool {
	return slices.ContainsFunc(h.truth.Faults, func(f simulator.FaultTruth) bool {
		return f.Fault == "stall" && f.AtS < o.EndS && f.UntilS > o.StartS-1
	})
}

// strayed reports whether a speed record that belongs to no vehicle came within
// the second in which the driver must take it for the next one's, or inside; a
// slow line can bring it some seconds late.
func (h *holding) strayed(o simulator.OccupancyTruth) bool {
	return slices.ContainsFunc(h.truth.Faults, func(f simulator.FaultTruth) bool {
		return f.Fault == "stray-speed" && f.AtS > o.StartS-6 && f.AtS < o.EndS
	})
}

// late is by how much a stall or a slow line may delay what is told, in
// seconds: the longest stall of the scenario and the time after it.
const late = 25

// around lists what was told about a time, for a failure's message.
func (h *holding) around(from, to float64) string {
	var b strings.Builder
	for _, o := range h.events {
		if at := h.seconds(o.Time); at > from && at < to {
			text := fmt.Sprintf("%+v", o.Data)
			fmt.Fprintf(&b, "\n%.3f %s %s", at, o.Data.Type(), text[:min(len(text), 250)])
		}
	}
	return b.String()
}

// equal wants every figure equal.
func (h *holding) equal(name string, truth simulator.OccupancyTruth, e event.RadiationOccupancy) {
	t := h.t
	name += h.around(truth.StartS-60, truth.EndS+15)
	require.Equal(t, event.EndGX, e.End, name)
	require.False(t, e.JoinedMid, name)
	require.InDelta(t, truth.NeutronBgCPS, *e.NeutronBgCPS, 1e-9, name)
	require.Equal(t, truth.GammaSamples, e.GammaSamples, name)
	require.Equal(t, truth.GammaAlarmSamples, e.GammaAlarmSamples, name)
	require.Equal(t, truth.NeutronSamples, e.NeutronSamples, name)
	require.Equal(t, truth.NeutronAlarmSamples, e.NeutronAlarmSamples, name)
	require.Equal(t, truth.NeutronCounts, e.NeutronCounts, name)
	require.Equal(t, truth.GammaAlarm, e.GammaAlarm, name)
	require.Equal(t, truth.NeutronAlarm, e.NeutronAlarm, name)
	if h.strayed(truth) {
		require.GreaterOrEqual(t, e.SpeedRecords, truth.SpeedRecords, name)
	} else {
		require.Equal(t, truth.SpeedRecords, e.SpeedRecords, name)
		require.Equal(t, append([]float64{}, truth.SpeedsKPH...), e.SpeedsKPH, name)
	}
	if truth.BackgroundTag == "" {
		require.Nil(t, e.GammaBgSumCPS, name)
	} else {
		require.Equal(t, truth.GammaBgSumCPS, *e.GammaBgSumCPS, name)
		require.InDelta(t, truth.GammaMaxNSigma, *e.GammaMaxNSigma, 0.001, name)
		require.NotNil(t, e.Recomputed, name)
		require.True(t, e.Recomputed.Agrees, "%s: %+v", name, e.Recomputed)
		require.Zero(t, e.Recomputed.DisagreeingSamples, "%s: %+v", name, e.Recomputed)
	}
	if truth.GammaSamples >= 5 {
		require.Equal(t, truth.GammaMax5SampleSum, *e.GammaMax5SampleSum, name)
	}
	switch {
	case truth.GammaAlarm || truth.NeutronAlarm:
		require.Equal(t, event.OutcomeAlarm, e.Outcome, name)
	case truth.BackgroundTag == "GB" && e.Neutron == event.HasData:
		require.Equal(t, event.OutcomeNoAlarm, e.Outcome, name)
	default:
		// A portal in fault, or without a background, can clear nobody.
		require.Equal(t, event.OutcomeIncomplete, e.Outcome, name)
	}
}

// excused looks at an occupancy whose records, or those that its figures rest
// on, did not all come through. What may differ is little: nothing may be called
// clear of which the receiver can know that something is missing, and an alarm
// that came through must be told.
func (h *holding) excused(name string, truth simulator.OccupancyTruth, found []event.RadiationOccupancy) {
	t := h.t
	lostAlarms, cameThrough := 0, 0
	invisible := true // everything that happened to it left no trace on the wire
	for _, touch := range truth.Touched {
		if touch.Tag == "GA" || touch.Tag == "NA" {
			switch touch.Fault {
			case "duplicate", "slow", "stall", "noise":
				cameThrough++
			default:
				lostAlarms++
			}
		}
		if touch.Fault != "drop" && touch.Fault != "duplicate" && touch.Fault != "slow" && touch.Fault != "stall" {
			invisible = false
		}
	}
	told := slices.ContainsFunc(found, func(e event.RadiationOccupancy) bool { return e.GammaAlarm || e.NeutronAlarm })
	alarms := truth.GammaAlarmSamples + truth.NeutronAlarmSamples
	if alarms > lostAlarms {
		require.True(t, told, "%s: %d of its %d alarming samples came through and no alarm is told; touched: %+v; events: %+v",
			name, alarms-lostAlarms, alarms, truth.Touched, found)
	}
	for _, e := range found {
		if e.Outcome != event.OutcomeNoAlarm || alarms == 0 {
			continue
		}
		// Cleared although the portal alarmed: only if a record was lost so that
		// nobody can know. An event of the occupancy before or after may also
		// stand here, which was cleared rightly.
		other := *e.GXCounter != truth.GXCounter || h.seconds(e.StartTS.Time) > truth.EndS && !h.stalled(truth)
		require.True(t, other || invisible, "%s alarmed and is told as clear; touched: %+v", name, truth.Touched)
	}
	if len(found) == 0 {
		// Not seen at all: nearly all of it was lost on the way.
		samples := truth.GammaSamples + truth.NeutronSamples
		lost := 0
		for _, touch := range truth.Touched {
			if touch.Tag == "GS" || touch.Tag == "GA" || touch.Tag == "NS" || touch.Tag == "NA" {
				lost++
			}
		}
		require.GreaterOrEqual(t, lost, samples-1, "%s is missing; touched: %+v", name, truth.Touched)
	}
}

// states compares faults and tamper: what is told must have been so, and what
// was so for long, with a connection, must be told.
func (h *holding) states() {
	t := h.t
	// stateAt is what the portal said of a subject at a time.
	stateAt := func(subject string, at float64) string {
		state := map[string]string{"tamper": "clear"}[subject]
		if state == "" {
			state = "normal"
		}
		begin := state
		for _, s := range h.truth.States {
			switch {
			case s.AtS > at+0.01:
			case s.Subject == subject:
				state = s.State
			case s.Subject == "power":
				state = begin // what was raised before is told anew
			}
		}
		return state
	}
	tampers, at := of[event.RadiationTamper](h)
	require.NotEmpty(t, tampers)
	for i, e := range tampers {
		require.True(t, h.was(func(s float64) bool { return stateAt("tamper", s) == e.State }, at[i]),
			"%s: tamper %s told at %.1f s", h.device, e.State, at[i])
	}
	faults, at := of[event.RadiationFault](h)
	require.NotEmpty(t, faults)
	kinds := map[string][2]string{"gamma_high": {"gamma", "high"}, "gamma_low": {"gamma", "low"}, "neutron_high": {"neutron", "high"}}
	seen := map[string]bool{}
	for i, e := range faults {
		k, ok := kinds[e.Kind]
		require.True(t, ok, e.Kind)
		seen[e.Kind+" "+e.State] = true
		raised := e.State == "raised"
		require.True(t, h.was(func(s float64) bool { return (stateAt(k[0], s) == k[1]) == raised }, at[i]),
			"%s: %s %s told at %.1f s, when %s was %s", h.device, e.Kind, e.State, at[i], k[0], stateAt(k[0], at[i])+h.around(at[i]-60, at[i]+10))
	}
	for k := range kinds {
		require.True(t, seen[k+" raised"] && seen[k+" cleared"] || !h.own, "%s: no %s in an hour that had them", h.device, k)
	}
}

// was reports whether something was so at a time or, because a stall delays what
// is told, shortly before.
func (h *holding) was(so func(float64) bool, at float64) bool {
	for s := at; s > at-late; s -= 0.25 {
		if so(s) {
			return true
		}
	}
	return false
}

// nothingInvented looks at the other events.
func (h *holding) nothingInvented() {
	t := h.t
	near := func(at float64, within float64, kinds ...string) bool {
		return slices.ContainsFunc(h.truth.Faults, func(f simulator.FaultTruth) bool {
			return slices.Contains(kinds, f.Fault) && at > f.AtS-1 && at < math.Max(f.UntilS, f.AtS)+within
		})
	}
	linkFaults := []string{"disconnect", "second-client", "join-mid-record", "power-cycle", "stall"}
	offline, at := of[event.DeviceOffline](h)
	require.NotEmpty(t, offline)
	for i, e := range offline {
		require.True(t, near(at[i], 60, linkFaults...) || at[i] > 3590, "%s: offline at %.1f s for nothing: %s", h.device, at[i], e.Reason)
	}
	// Backgrounds come every five seconds, so two in a row that are broken or
	// lost make a silence too.
	wireFaults := append([]string{"cut", "garble", "drop"}, linkFaults...)
	silent, at := of[event.DeviceSilent](h)
	require.True(t, len(silent) > 0 || !h.own, "a stall of 20 s is a silence")
	for i := range silent {
		require.True(t, near(at[i], 60, wireFaults...), "%s: silent at %.1f s for nothing%s", h.device, at[i], h.around(at[i]-60, at[i]+5))
	}
	setups, at := of[event.RadiationSetupChanged](h)
	require.NotEmpty(t, setups)
	for i := range setups {
		require.True(t, slices.ContainsFunc(h.truth.States, func(s simulator.StateTruth) bool {
			return s.Subject == "setup" && at[i] > s.AtS-0.1 && at[i] < s.AtS+late
		}), "%s: setup at %.1f s for nothing", h.device, at[i])
	}
	faults, _ := of[event.DeviceFault](h)
	require.Empty(t, faults, "the driver failed")

	alarms, at := of[event.RadiationAlarm](h)
	require.NotEmpty(t, alarms)
	for i, e := range alarms {
		require.True(t, slices.ContainsFunc(h.truth.Occupancies, func(o simulator.OccupancyTruth) bool {
			return at[i] > o.StartS-0.1 && at[i] < o.EndS+late && (e.Kind == "gamma" && o.GammaAlarm || e.Kind == "neutron" && o.NeutronAlarm)
		}), "%s: a %s alarm at %.1f s that never was", h.device, e.Kind, at[i])
	}
}
