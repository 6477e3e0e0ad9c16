package main

import (
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Every tag is told, once, whatever the reader does.
func TestSimulatedRFID(t *testing.T) {
	t.Parallel()
	cases := map[string][]string{"as it should be": nil, "all together": {"held-back", "long-epc", "damaged", "dribble", "closes", "refuses", "keepalives"}}
	for _, s := range []string{"keepalives", "held-back", "long-epc", "epc-only", "damaged", "dribble", "closes", "refuses"} {
		cases[s] = []string{s}
	}
	for name, switches := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{Switches: switches}
			sim := simulator.Start(t, cameraScenario("llrp-reader", 10*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, lane.LLRP(), sim.Devices()[0].Connect, func(into any) error {
				into.(*lane.LLRPSettings).GoneAfter = 200 * time.Millisecond
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := sim.Truth().Tags
			require.Greater(t, len(truth), 4)
			h.wait(t, "every tag", func() bool { return len(h.events()) >= len(truth) })
			want, got := map[string]bool{}, map[string]bool{}
			for _, x := range truth {
				want[x.EPC] = true
			}
			for _, o := range h.events() {
				e := o.Data.(event.LaneTag)
				require.False(t, got[e.Private.EPC], "told twice")
				got[e.Private.EPC] = true
				require.Equal(t, camera.Has("epc-only"), e.PeakRSSIDBM == nil)
			}
			require.Equal(t, want, got)
			require.Equal(t, camera.Has("damaged"), len(h.problems()) > 0)
		})
	}
}

// A reader with a clock hangs up on a client that does not answer its keepalives, and
// stays with the driver, which does.
func TestRFIDKeepalives(t *testing.T) {
	t.Parallel()
	scenario := cameraScenario("llrp-reader", 5*time.Minute, simulator.CameraSettings{Switches: []string{"keepalives"}})
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
	h := newRecordingHost()
	runDriver(t, lane.LLRP(), sim.Devices()[0].Connect, func(into any) error {
		into.(*lane.LLRPSettings).GoneAfter = 500 * time.Millisecond
		return nil
	}, h)
	deaf := simulator.Start(t, scenario, simulator.Options{Speed: 20})
	conn, err := net.Dial("tcp", strings.TrimPrefix(deaf.Devices()[0].Connect, "tcp://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, _ = io.Copy(io.Discard, conn) // until it hangs up, or is over
	require.NoError(t, deaf.Wait())
	require.Less(t, disconnected(deaf.Truth()), 60.0)
	require.NoError(t, sim.Wait())
	h.wait(t, "every tag", func() bool { return len(h.events()) >= len(sim.Truth().Tags) })
	require.Greater(t, disconnected(sim.Truth()), 290.0)
}

// disconnected is when a client was lost first.
func disconnected(truth *simulator.Truth) float64 {
	for _, l := range truth.Links {
		if l.What == "disconnected" {
			return l.AtS
		}
	}
	return math.Inf(1)
}
