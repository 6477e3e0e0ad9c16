package main

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/xray"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Every scan of a scanner that stores over the network is told, with all its objects,
// whatever it and the network do, and though the agent can't store each event at once.
func TestDICOSNetwork(t *testing.T) {
	t.Parallel()
	cases := map[string][]string{
		"with a clock":           nil,
		"in pieces":              {"small-pdu", "one-association-each", "implicit", "echo-first"},
		"cut off and told twice": {"cut-mid-object", "twice", "rle", "non-operational"},
	}
	for name, switches := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := l.Addr().String()
			require.NoError(t, l.Close())
			camera := simulator.CameraSettings{Push: address, Switches: switches}
			scenario := cameraScenario("dicos-scanner", 2*time.Minute, camera)
			scenario.Lanes[0].Traffic.Random.PerHour = 80
			h := newRecordingHost()
			var emitted atomic.Int64
			h.refuse = func(drivers.Observation) error {
				if emitted.Add(1)%4 == 2 {
					return errors.New("the disk does not take it")
				}
				return nil
			}
			runDriver(t, xray.Network(), "tcp-listen://"+address, func(into any) error {
				s := into.(*xray.NetworkSettings)
				s.Title, s.Calling = "LANEPOST", []string{"LANESIM"}
				return nil
			}, h)
			var options []simulator.Options
			if switches == nil {
				options = append(options, simulator.Options{Speed: 60})
			}
			sim := simulator.Start(t, scenario, options...)
			require.NoError(t, sim.Wait())
			truth := map[string]simulator.ScanTruth{}
			for _, s := range sim.Truth().Scans {
				if s.What == "finished" {
					truth[s.ScanID] = s
				}
			}
			require.Greater(t, len(truth), 1)
			revision, previous := map[string]int{}, map[string]string{}
			attached := map[string]int{}
			last := map[string]event.XrayScan{}
			for _, o := range h.events() {
				e := o.Data.(event.XrayScan)
				// A revision that the disk refused counts: nobody can know that it never came.
				require.Greater(t, e.Revision, revision[e.ScanID], "a revision forks")
				if e.Revision == revision[e.ScanID]+1 {
					require.Equal(t, previous[e.ScanID], e.Supersedes)
				}
				revision[e.ScanID], previous[e.ScanID], last[e.ScanID] = e.Revision, o.ID, e
				for _, a := range o.Attachments {
					if a.MediaType == "application/dicom" {
						attached[e.ScanID]++
					}
				}
			}
			require.Len(t, last, len(truth))
			for id, s := range truth {
				e := last[id]
				require.Len(t, e.Files, 3)
				require.Equal(t, 3, attached[id], "each object goes with one of the events")
				require.Equal(t, "complete", e.Completeness)
				want := event.DecisionNothingFound
				switch {
				case s.Suspicious:
					want = event.DecisionSuspicious
				case s.Mode != "":
					want = event.DecisionUnknown
				}
				require.Equal(t, want, e.Decision)
				require.Equal(t, s.Mode != "", e.Mode != event.ScanOperational)
			}
			require.NotEmpty(t, h.problems(), "what was not kept is told")
			for _, p := range h.problems() {
				if !camera.Has("cut-mid-object") {
					require.Contains(t, p, "the disk does not take it")
				}
			}
		})
	}
}
