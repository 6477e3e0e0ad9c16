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

// plcNodes are signals of the simulated controller by OPC UA, and what they are at first.
var plcNodes = map[string]float64{
	"scanning": 0, "interlock_ok": 1, "estop_ok": 1, "loop_1": 0, "barrier_down": 1, "light_red": 0,
	"scan_counter": 4711, "fault_code": 0, "kv": 0, "ma": 0, "life_counter": 0, "mode": 1,
}

// Every edge and every scan is told over OPC UA too, whatever the controller and its
// server do; and what has no good value has none.
func TestSimulatedStateBusOPCUA(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]simulator.CameraSettings{
		"as it should be":   {},
		"life-stops":        {},
		"estop-mid-scan":    {},
		"interlock-chatter": {},
		"slow-server":       {Options: map[string]string{"answer_after": "20ms"}},
		"drops-tcp":         {Options: map[string]string{"drop_after": "150"}},
		"nodes":             {Options: map[string]string{"missing": "ma", "bad": "kv", "uncertain": "loop_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(name, "-") {
				c.Switches = []string{name}
			}
			sim := simulator.Start(t, cameraScenario("plc-opcua", 150*time.Second, c))
			require.True(t, strings.HasPrefix(sim.Devices()[0].Connect, "opcua://127.0.0.1:"))
			h := newRecordingHost()
			runDriver(t, lane.StateBus(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*lane.StateBusSettings)
				s.Every, s.LifeTimeout, s.ReportEvery, s.Signals = 20*time.Millisecond, 400*time.Millisecond, 0, map[string]lane.SignalSettings{}
				quick := 5 * time.Millisecond
				for signal := range plcNodes {
					one := lane.SignalSettings{At: "ns=1;s=" + signal}
					if strings.Contains("scanning interlock_ok estop_ok loop_1 barrier_down light_red fault_code", signal) {
						one.Debounce = &quick
					}
					s.Signals[signal] = one
				}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := sim.Truth()
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
			lost := func(signal string) bool {
				return slices.ContainsFunc(told, func(e event.LaneSignal) bool { return e.Signal == signal && e.Reason == "lost" })
			}
			for signal, initial := range plcNodes {
				why := map[string]string{"ma": "BadNodeIdUnknown", "kv": "BadSensorFailure", "loop_1": "UncertainLastUsableValue"}[signal]
				if name == "nodes" && why != "" {
					require.Contains(t, last(told, signal).Detail, why)
					for _, e := range told {
						require.False(t, e.Signal == signal && (e.Value != nil || e.State != nil), "%s has no good value, and one was told", signal)
					}
					continue
				}
				if signal == "life_counter" || signal == "mode" || signal == "interlock_ok" && name == "interlock-chatter" {
					continue
				}
				want, got := []float64{initial}, []float64(nil)
				for _, x := range truth.Signals {
					if x.Signal == signal {
						want = append(want, x.Value)
					}
				}
				for _, e := range told {
					v := e.Value
					if e.State != nil {
						n := map[bool]float64{true: 1}[*e.State]
						v = &n
					}
					if e.Signal == signal && v != nil && (len(got) == 0 || got[len(got)-1] != *v) {
						got = append(got, *v)
					}
				}
				require.InDeltaSlice(t, want, got, 1e-6, signal)
			}
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
			cut := slices.DeleteFunc(slices.Clone(ended), func(e event.XrayCycle) bool { return !e.CutShort })
			require.Len(t, cut, stops)
			require.Equal(t, name == "estop-mid-scan", stops > 0)
			if name == "drops-tcp" {
				require.True(t, lost("link"))
				require.GreaterOrEqual(t, len(started), scans)
			} else {
				require.Len(t, started, scans)
				require.Len(t, ended, scans)
			}
			require.Equal(t, name == "life-stops", lost("life_counter"))
			require.Equal(t, name == "interlock-chatter", slices.ContainsFunc(told, func(e event.LaneSignal) bool { return e.Reason == "chatter" }))
		})
	}
}
