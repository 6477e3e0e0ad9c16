package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// plcSignals is where the simulated controller has its signals.
func plcSignals(words string) map[string]lane.SignalSettings {
	quick, tenth, hundredth := 5*time.Millisecond, 0.1, 0.01
	signals := map[string]lane.SignalSettings{
		"life_counter": {At: "holding:0"}, "scan_counter": {At: "holding:1", Type: "u32", Words: words}, "fault_code": {At: "holding:3", Debounce: &quick},
		"mode": {At: "holding:4", Values: map[string]string{"1": "operational"}},
		"kv":   {At: "input:0", Scale: &tenth}, "ma": {At: "input:1", Scale: &hundredth}, "tube_hours": {At: "input:3", Type: "u32", Words: words},
	}
	for name, at := range map[string]string{
		"scanning": "discrete:0", "interlock_ok": "discrete:3", "estop_ok": "discrete:4", "loop_1": "discrete:11", "loop_2": "discrete:12",
		"barrier_up": "discrete:13", "barrier_down": "discrete:14", "light_red": "discrete:17",
	} {
		signals[name] = lane.SignalSettings{At: at, Debounce: &quick}
	}
	return signals
}

// Every edge and every scan is told, whatever the controller, its wiring and its gateway do.
func TestSimulatedStateBus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		camera simulator.CameraSettings
		change func(s *lane.StateBusSettings)
	}{
		"as it should be":   {},
		"life-stops":        {},
		"estop-mid-scan":    {},
		"interlock-chatter": {},
		"stuck-loop":        {change: func(s *lane.StateBusSettings) { s.StuckAfter = time.Second }},
		"word-swap":         {},
		"slow-slave":        {camera: simulator.CameraSettings{Options: map[string]string{"answer_after": "5ms"}}},
		"exception":         {camera: simulator.CameraSettings{Options: map[string]string{"missing": "input:1,discrete:5"}}},
		"drops-tcp":         {camera: simulator.CameraSettings{Options: map[string]string{"drop_after": "150"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "as it should be" && name != "exception" {
				c.camera.Switches = []string{name}
			}
			sim := simulator.Start(t, cameraScenario("plc", 100*time.Second, c.camera))
			h := newRecordingHost()
			words := ""
			if name == "word-swap" {
				words = "low_first"
			}
			runDriver(t, lane.StateBus(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*lane.StateBusSettings)
				s.Every, s.LifeTimeout, s.ReportEvery, s.Signals = 20*time.Millisecond, 400*time.Millisecond, 0, plcSignals(words)
				if c.change != nil {
					c.change(s)
				}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := sim.Truth()
			require.False(t, slices.ContainsFunc(truth.Links, func(l simulator.LinkTruth) bool { return l.What == "written" }))
			var told []event.LaneSignal
			var started, ended []event.XrayCycle
			for _, o := range h.events() {
				switch e := o.Data.(type) {
				case event.LaneSignal:
					told = append(told, e)
				case event.XrayCycle:
					if e.Phase == "started" {
						started = append(started, e)
					} else {
						ended = append(ended, e)
					}
				}
			}
			require.NotEmpty(t, told)
			lost := func(signal string) int {
				return len(slices.DeleteFunc(slices.Clone(told), func(e event.LaneSignal) bool { return e.Signal != signal || e.Reason != "lost" }))
			}

			// What was told of each signal, one after the other, is what it really was.
			for signal := range plcSignals("") {
				if slices.Contains([]string{"life_counter", "tube_hours", "mode"}, signal) || signal == "interlock_ok" && name == "interlock-chatter" {
					continue
				}
				if signal == "ma" && name == "exception" {
					require.Equal(t, "unknown", last(told, signal).Quality)
					require.Contains(t, last(told, signal).Detail, "exception 2 (illegal data address)")
					continue
				}
				var want, got []float64
				for _, x := range truth.Signals {
					if x.Signal == signal {
						want = append(want, x.Value)
					}
				}
				initial := map[string]float64{"interlock_ok": 1, "estop_ok": 1, "barrier_down": 1, "scan_counter": 4711}[signal]
				want = append([]float64{initial}, want...)
				for _, e := range told {
					v := e.Value
					if e.State != nil {
						n := map[bool]float64{false: 0, true: 1}[*e.State]
						v = &n
					}
					if e.Signal == signal && v != nil && (len(got) == 0 || got[len(got)-1] != *v) {
						got = append(got, *v)
					}
				}
				require.InDeltaSlice(t, want, got, 1e-9, signal)
			}

			// So are the scans.
			scans, stops := 0, 0
			for _, x := range truth.Signals {
				switch {
				case x.Signal == "scanning" && x.Value == 1:
					scans++
				case x.Signal == "scanning" && strings.Contains(x.Why, "emergency"):
					stops++
				}
			}
			require.Greater(t, scans, 3)
			cut := 0
			for i, e := range ended {
				require.Equal(t, started[i].CycleID, e.CycleID)
				if e.CutShort {
					cut++
					require.Equal(t, "estop_ok", e.End)
					require.Equal(t, event.Urgent, e.Class())
				}
			}
			require.Equal(t, stops, cut)
			require.Equal(t, name == "estop-mid-scan", stops > 0)
			if name == "drops-tcp" {
				require.Positive(t, lost("link"))
				require.GreaterOrEqual(t, len(started), scans, "one that a break cut in two is told as two")
			} else {
				require.Len(t, started, scans)
				require.Len(t, ended, scans)
			}
			require.Equal(t, name == "life-stops", lost("life_counter") > 0)
			require.Equal(t, name == "stuck-loop", slices.ContainsFunc(told, func(e event.LaneSignal) bool { return e.Reason == "stuck" && e.Signal == "loop_1" }))
			require.Equal(t, name == "interlock-chatter", slices.ContainsFunc(told, func(e event.LaneSignal) bool { return e.Reason == "chatter" && e.Class() == event.Urgent }))
		})
	}
}

// last is what was told last of a signal.
func last(told []event.LaneSignal, signal string) event.LaneSignal {
	for _, e := range slices.Backward(told) {
		if e.Signal == signal {
			return e
		}
	}
	return event.LaneSignal{}
}
