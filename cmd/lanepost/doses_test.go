package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/simulator"
)

// A monitor that tells doses only: the agent's own alarm rises with each vehicle that is a source,
// and ends behind it.
func TestOwnAlarmOfDoses(t *testing.T) {
	t.Parallel()
	scenario := cameraScenario("area-monitor", 5*time.Minute, simulator.CameraSettings{Options: map[string]string{"format": "berthold-lb6420"}})
	source := &simulator.Source{CPS: 30000}
	scenario.Lanes[0].Traffic = simulator.Traffic{Vehicles: []simulator.Vehicle{
		{Kind: "car", Arrive: 10 * time.Second}, {Kind: "truck", Arrive: time.Minute, Gamma: source}, {Kind: "car", Arrive: 2 * time.Minute},
		// What follows the last one is measured at all: with the world ends what the instrument tells, and a rate needs two
		// answers whose times are known well.
		{Kind: "truck", Arrive: 3 * time.Minute, Gamma: source}, {Kind: "car", Arrive: 220 * time.Second}, {Kind: "car", Arrive: 4 * time.Minute},
	}}
	sim := simulator.Start(t, scenario)
	h := newRecordingHost()
	runDriver(t, rpm.AreaMonitor(), sim.Devices()[0].Connect, func(into any) error {
		s := into.(*rpm.AreaSettings)
		s.Format, s.Channels, s.Every = "berthold-lb6420", []string{"", "gamma", "", ""}, 25*time.Millisecond
		s.AlarmAboveUSvH, s.ClearAfter = 1, 0
		return nil
	}, h)
	require.NoError(t, sim.Wait())
	h.wait(t, "the end of two alarms", func() bool { return tallyOf(h.events()).cleared["own"] >= 2 })
	got := tallyOf(h.events())
	require.Equal(t, 2, got.raised["own"])
	require.Equal(t, 2, got.cleared["own"])
}
