package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/scale"
	"github.com/lanepost/lanepost/simulator"
)

// Every vehicle is weighed once, whatever the format and what the scale does.
func TestSimulatedScales(t *testing.T) {
	t.Parallel()
	cases := map[string]simulator.CameraSettings{}
	for _, name := range scale.Names() {
		cases["format "+name] = simulator.CameraSettings{Options: map[string]string{"format": name}}
	}
	for _, s := range []string{"checksum", "motion-forever", "overload", "negative", "zero-not-returned", "bad-checksum", "parity", "dribble", "stays"} {
		cases[s] = simulator.CameraSettings{Switches: []string{s}}
	}
	cases["all together"] = simulator.CameraSettings{Switches: []string{"checksum", "overload", "zero-not-returned", "parity", "dribble", "bad-checksum"}}
	for name, camera := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulator.Start(t, cameraScenario("scale", 10*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, lane.Scale(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*lane.ScaleSettings)
				s.Format, s.Checksum, s.StableFor = "toledo", camera.Has("checksum"), 0
				if f := camera.Options["format"]; f != "" {
					s.Format = f
				}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := sim.Truth().Weights
			require.Greater(t, len(truth), 4)
			h.wait(t, "every weighing", func() bool { return len(h.events()) >= len(truth) })
			require.Len(t, h.events(), len(truth))
			for i, o := range h.events() {
				e := o.Data.(event.LaneWeight)
				switch {
				case truth[i].Overload:
					require.Contains(t, e.Flags, "overload")
					require.Nil(t, e.WeightKG)
				case camera.Has("motion-forever"):
					require.Equal(t, event.WeightUnstable, e.Outcome)
					require.InDelta(t, truth[i].KG, *e.PeakKG, 100)
				default:
					require.NotNil(t, e.WeightKG)
					require.InDelta(t, truth[i].KG, *e.WeightKG, 0.5)
				}
				if camera.Has("zero-not-returned") || camera.Has("negative") {
					require.Contains(t, e.Flags, "zero_not_returned")
				}
			}
			require.Equal(t, camera.Has("bad-checksum"), len(h.problems()) > 0)
		})
	}
}
