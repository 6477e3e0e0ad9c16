package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// The scanner's controller tells of scans at once and its files come later: the agent says
// which belong together, also after it was killed in between.
func TestScansAreJoined(t *testing.T) {
	t.Parallel()
	scenario := &simulator.Scenario{Name: "joins", Seed: 7, Lanes: []simulator.Lane{{
		ID: "entry-1", Devices: []simulator.Device{
			{ID: "plc-1", Model: "plc", Camera: &simulator.CameraSettings{}},
			{ID: "xray-1", Model: "xray-scanner", Camera: &simulator.CameraSettings{}},
		},
		Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 100}},
	}}}
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 10})
	devices := deviceYAML("plc-1", "state-bus-modbus", sim.Devices()[0].Connect, `settings: {every: 20ms, signals: {life_counter: {at: "holding:0"}, scanning: {at: "discrete:0"}}}`) +
		deviceYAML("xray-1", "smiths-cargovision", sim.Devices()[1].Connect, "settings: {every: 200ms, quiet: 100ms}")
	config := writeConfig(t, devices)
	p := start(t, config)
	p.waitFor("lanepost.xray.cycle.v1", 2)
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	all := p.seen()
	p = start(t, config)
	p.waitFor("lanepost.xray.join.v1", 4)
	p.stop()
	all = append(all, p.seen()...)

	byID := map[string]event.Event{}
	for _, e := range all {
		byID[e.ID] = e
	}
	scans, cycles := map[string]bool{}, map[string]bool{}
	for _, e := range all {
		if e.Type != "lanepost.xray.join.v1" {
			continue
		}
		j := decode[*event.XrayJoin](t, e)
		require.True(t, strings.HasSuffix(e.Source, "/entry-1/xray-1"), e.Source)
		if j.Outcome != event.JoinJoined { // of a scan that had begun before the agent
			continue
		}
		require.Equal(t, j.ScanID, e.Subject)
		require.False(t, scans[j.ScanID], "joined twice")
		require.False(t, cycles[j.CycleID], "joined twice")
		scans[j.ScanID], cycles[j.CycleID] = true, true
		if x, printed := byID[j.ScanEvent]; printed { // it may have been killed before that
			require.Equal(t, j.ScanID, decode[*event.XrayScan](t, x).ScanID)
		}
		if x, printed := byID[j.CycleEvent]; printed {
			c := decode[*event.XrayCycle](t, x)
			require.Equal(t, j.CycleID, c.CycleID)
			require.Equal(t, "ended", c.Phase)
		}
		require.True(t, strings.HasSuffix(j.CycleSource, "/entry-1/plc-1"))
		require.NotNil(t, j.ClockAheadS)
	}
	require.NotEmpty(t, scans)
}
