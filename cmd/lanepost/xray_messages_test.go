package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/xray"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/textframe"
	"github.com/lanepost/lanepost/simulator"
)

// What scanners that send messages may do, each alone and together, in each framing and
// format, to a client and to a server: every scan is told, its last revision is what is
// true, and no drill is an alarm.
func TestXrayMessenger(t *testing.T) {
	t.Parallel()
	kinds := []string{"split", "dribble", "merged", "garbage", "half", "reconnect", "twice", "heartbeats", "training", "no-id", "bad-base64", "cut-picture", "no-analysis"}
	type options = map[string]string
	cases := map[string]simulator.CameraSettings{
		"plain": {}, "json": {Options: options{"format": "json"}}, "plates that were not read": {NoRead: 0.5},
		"lines of text":                    {Options: options{"framing": "lines", "format": "text"}, Switches: []string{"garbage", "half", "heartbeats", "no-id"}},
		"lines of JSON":                    {Options: options{"framing": "lines", "format": "json"}, Switches: []string{"split", "heartbeats"}},
		"marks":                            {Options: options{"framing": "stx_etx"}, Switches: []string{"garbage", "half", "split", "twice"}},
		"length":                           {Options: options{"framing": "length", "format": "json"}, Switches: []string{"garbage", "half", "merged", "split"}},
		"all together":                     {Switches: []string{"split", "garbage", "half", "twice", "heartbeats", "training", "no-id", "bad-base64"}},
		"it connects":                      {Push: "tcp://"},
		"it connects, and does everything": {Push: "tcp://", Options: options{"format": "json"}, Switches: []string{"dribble", "garbage", "half", "reconnect", "twice", "training", "cut-picture"}},
	}
	for _, s := range kinds {
		cases[s] = simulator.CameraSettings{Switches: []string{s}}
	}
	for name, camera := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "plain" && name != "all together" {
				withoutRace(t)
			}
			var opts simulator.Options
			address := ""
			if camera.Push != "" {
				// With a clock. Connections are read side by side, but the scanner waits at the end of
				// each until it is taken, so that a scan's verdict never comes before its first message.
				opts.Speed = 40
				port := freePort(t)
				camera.Push, address = fmt.Sprintf("tcp://127.0.0.1:%d", port), fmt.Sprintf("tcp-listen://127.0.0.1:%d", port)
			}
			sim := simulator.Start(t, cameraScenario("xray-messenger", 5*time.Minute, camera), opts)
			if address == "" {
				address = sim.Devices()[0].Connect
			}
			h := newRecordingHost()
			runDriver(t, xray.Messages(), address, func(into any) error {
				s := into.(*xray.MessageSettings)
				s.Framing.Kind = camera.Options["framing"]
				if s.Framing.Kind == "length" {
					s.Framing.Length.Magic = "XR"
				}
				if camera.Options["format"] == "text" {
					s.Text = &textframe.Grammar{Separator: ";", Columns: []string{"id", "start", "plate", "container", "operator_result", "training"}}
				} else {
					s.Pictures = []xray.MessagePicture{{Place: "Images/Under", Role: "image", Name: "under"}, {Place: "Images/Front", Role: "snapshot", Name: "front"}}
				}
				s.Sidecar.Fields = map[string][]string{
					"id": {"ScanId"}, "start": {"ScanTime"}, "plate": {"Plate"}, "container": {"container_no"}, "operator_result": {"Result"}, "training": {"Training"},
				}
				s.Heartbeat = `^(<Alive/>|\{"Alive":1\}|ALIVE)$`
				s.Verdicts = map[string]string{"OK": event.DecisionNothingFound, "ALARM": event.DecisionSuspicious}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := map[string]simulator.ScanTruth{}
			for _, s := range sim.Truth().Scans {
				if s.What == "finished" {
					truth[s.ScanID] = s
				}
			}
			require.Greater(t, len(truth), 5)
			last := func() map[string]event.XrayScan {
				m := map[string]event.XrayScan{}
				for _, o := range h.events() {
					e := o.Data.(event.XrayScan)
					m[e.ScanID] = e
				}
				return m
			}
			h.wait(t, "every scan as it is", func() bool {
				scans := last()
				for id, s := range truth {
					want := event.DecisionNothingFound
					if s.Suspicious {
						want = event.DecisionSuspicious
					} else if s.Training {
						want = event.DecisionUnknown
					}
					if camera.Has("no-analysis") {
						want = event.DecisionPending
					}
					if e, ok := scans[id]; !ok || e.Decision != want {
						return false
					}
				}
				return len(scans) == len(truth)
			})
			previous, revision, partial := map[string]string{}, map[string]int{}, 0
			for _, o := range h.events() {
				e := o.Data.(event.XrayScan)
				require.Equal(t, revision[e.ScanID]+1, e.Revision)
				require.Equal(t, previous[e.ScanID], e.Supersedes)
				revision[e.ScanID], previous[e.ScanID] = e.Revision, o.ID
				s := truth[e.ScanID]
				require.Equal(t, map[bool]string{false: event.ScanOperational, true: event.ScanTraining}[s.Training], e.Mode)
				if s.Training {
					require.Equal(t, event.Routine, e.Class())
				}
				if s.Plate != "" {
					require.Equal(t, s.Plate, e.Private.Plates[0].Plate)
				}
				if e.Completeness == "partial" {
					partial++
				}
			}
			require.Equal(t, camera.Has("bad-base64") && !camera.Has("no-id") || camera.Has("cut-picture"), partial > 0)
			for id, e := range last() {
				require.LessOrEqual(t, e.Revision, 2, "what comes twice is told once")
				if camera.Options["format"] == "text" {
					continue
				}
				require.Equal(t, []string{"thumbnail.jpg", "under.jpg", "front.jpg"}, []string{e.Attachments[0].Name, e.Attachments[1].Name, e.Attachments[2].Name}, id)
				require.True(t, camera.Has("no-analysis") || e.Completeness == "complete")
			}
			require.Equal(t, camera.Has("garbage") || camera.Has("half") || camera.Has("no-id"), len(h.problems()) > 0, h.problems())
		})
	}
}
