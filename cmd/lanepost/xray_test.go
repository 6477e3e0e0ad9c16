package main

import (
	"maps"
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/xray"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// What the files of scanners were seen to do, each alone and all together: every scan is
// there, its last revision tells what is true, and no drill is an alarm.
func TestXrayScanner(t *testing.T) {
	t.Parallel()
	all := []string{
		"sidecar-first", "late-files", "slow-write", "temp-rename", "truncated", "never-comes", "deleted", "twice", "rewrites", "utf16", "old-version",
		"clock-ahead", "training", "failed-analysis", "wrong-plate", "wrong-check-digit", "empty-trailer",
	}
	cases := map[string]simulator.CameraSettings{
		"plain": {}, "all together": {Switches: all}, "nobody looks": {Switches: []string{"no-analysis"}}, "plates that were not read": {NoRead: 0.5},
		"a scan that ends before it starts": {Switches: []string{"negative-duration"}},
		"manifest":                          {Options: map[string]string{"dialect": "manifest"}},
		"manifest, all together":            {Options: map[string]string{"dialect": "manifest", "days": "200601/20060102"}, Switches: []string{"sidecar-first", "late-files", "slow-write", "temp-rename", "truncated", "twice", "rewrites"}},
	}
	for _, s := range all {
		cases[s] = simulator.CameraSettings{Switches: []string{s}}
	}
	for name, camera := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "plain" && name != "all together" {
				withoutRace(t)
			}
			scenario := cameraScenario("xray-scanner", 5*time.Minute, camera)
			scenario.Lanes[0].Traffic.Random.PerHour = 60
			sim := simulator.Start(t, scenario, simulator.Options{Speed: 120})
			h := newRecordingHost()
			runDriver(t, xray.Folder(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*xray.FolderSettings)
				if camera.Options["dialect"] == "manifest" {
					s.Dialect = "manifest"
				}
				s.Every, s.Quiet, s.Deadline = 200*time.Millisecond, 100*time.Millisecond, 2*time.Second
				s.Verdicts = map[string]string{"0": event.DecisionNothingFound, "1": event.DecisionSuspicious}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			truth := map[string]simulator.ScanTruth{}
			for _, s := range sim.Truth().Scans {
				if s.What == "finished" {
					truth[s.ScanID] = s
				}
			}
			require.Greater(t, len(truth), 2)
			last := func() map[string]event.XrayScan {
				m := map[string]event.XrayScan{}
				for _, o := range h.events() {
					e := o.Data.(event.XrayScan)
					m[e.ScanID] = e
				}
				return m
			}
			settled := func(e event.XrayScan, s simulator.ScanTruth) bool {
				want := event.DecisionNothingFound
				if s.Training || camera.Has("never-comes") {
					want = event.DecisionUnknown // nobody can have seen all of an inspection
				}
				if s.Suspicious {
					want = event.DecisionSuspicious
				}
				if camera.Has("no-analysis") {
					want = event.DecisionPending
				}
				return e.Decision == want && (e.Completeness == "complete" || camera.Has("never-comes"))
			}
			h.wait(t, "every scan as it is", func() bool {
				scans := last()
				for id, s := range truth {
					if e, ok := scans[id]; !ok || !settled(e, s) {
						return false
					}
				}
				return len(scans) == len(truth)
			})
			previous := map[string]string{}
			revision := map[string]int{}
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
				require.Len(t, o.Attachments, len(e.Attachments))
				if s.Plate != "" && !camera.Has("wrong-plate") {
					require.Equal(t, s.Plate, e.Private.Plates[0].Plate)
				}
				for _, c := range e.Containers {
					require.Equal(t, map[bool]string{false: "valid", true: "invalid"}[camera.Has("wrong-check-digit")], c.Check)
				}
				if camera.Has("clock-ahead") {
					require.Contains(t, e.Remarks, "clock_ahead")
				}
				if camera.Has("negative-duration") {
					require.Contains(t, e.Remarks, "ends_before_start")
				}
			}
			for _, e := range last() {
				names := map[string]bool{}
				for _, a := range e.Attachments {
					names[a.Name] = true
				}
				require.True(t, names["thumbnail.jpg"], "a small picture of the vehicle")
			}
			require.Empty(t, h.problems())
		})
	}
}

// Files of a form that is not published: each is told with its hash, and none is thought to
// be clear.
func TestOpaqueScanner(t *testing.T) {
	t.Parallel()
	for name, switches := range map[string][]string{"plain": nil, "temp-rename": {"temp-rename"}, "rewrites": {"rewrites"}, "slow-write": {"slow-write"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "plain" && name != "all together" {
				withoutRace(t)
			}
			camera := simulator.CameraSettings{Options: map[string]string{"dialect": "opaque"}, Switches: switches}
			scenario := cameraScenario("xray-scanner", 5*time.Minute, camera)
			scenario.Lanes[0].Traffic.Random.PerHour = 60
			sim := simulator.Start(t, scenario, simulator.Options{Speed: 120})
			h := newRecordingHost()
			runDriver(t, xray.Folder(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*xray.FolderSettings)
				s.Dialect, s.Sidecars, s.Every, s.Quiet = "opaque", []string{"*.uff"}, 200*time.Millisecond, 400*time.Millisecond
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			want := map[string]bool{}
			for _, s := range sim.Truth().Scans {
				want[s.ScanID+".uff"] = true
			}
			require.Greater(t, len(want), 2)
			last := func() map[string]bool {
				m := map[string]bool{}
				for _, o := range h.events() {
					e := o.Data.(event.XrayScan)
					require.Equal(t, event.DecisionUnknown, e.Decision)
					m[path.Base(e.ScanID)] = e.Files[0].State == "here" && e.Files[0].Looks == "zip" && len(o.Attachments) == 1
				}
				return m
			}
			h.wait(t, "every scan", func() bool { return maps.Equal(want, last()) })
		})
	}
}
