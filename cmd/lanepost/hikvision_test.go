package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// cameraScenario is a lane with one reader and a vehicle every half minute.
func cameraScenario(model string, length time.Duration, camera simulator.CameraSettings) *simulator.Scenario {
	return &simulator.Scenario{
		Name: model, Seed: 7, Duration: length,
		Lanes: []simulator.Lane{{
			ID: "entry-1", Devices: []simulator.Device{{ID: "anpr-1", Model: model, Camera: &camera}},
			Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 120}},
		}},
	}
}

// seen lists the plates that a reader had before it, "" for one that it did not
// read.
func seen(truth *simulator.Truth) []string {
	list := []string{}
	for _, p := range truth.Plates {
		if p.What == "seen" {
			list = append(list, p.Plate)
		}
	}
	return list
}

// Each thing that firmware is known to do, alone: the driver reads every plate, in
// order, once.
func TestHikvisionStreamSwitches(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	cases := map[string]simulator.CameraSettings{"plain": {}}
	for _, s := range []string{
		"lf-only", "no-length", "wrong-length", "folded", "json", "recorder", "motion", "heartbeat-isapi", "heartbeat-psia", "quiet-heartbeats",
		"empty-pictures", "no-pictures", "fewer-pictures", "old-path", "not-chunked", "stale-nonce",
	} {
		cases[s] = simulator.CameraSettings{Switches: []string{s}}
	}
	for _, b := range []string{"MIME_boundary", "--MIME_boundary", "---------------------------7e13971310878"} {
		cases["boundary "+b] = simulator.CameraSettings{Options: map[string]string{"boundary": b}}
	}
	cases["plates in Cyrillic, misread, unread, from abroad, with a clock that is wrong"] = simulator.CameraSettings{
		Script: "cyrillic", Misread: 0.3, NoRead: 0.3, WrongCountry: 0.3, Zone: "Europe/Kyiv", ClockOffset: 3 * time.Minute,
	}
	cases["the rear, in Greek"] = simulator.CameraSettings{Sees: "rear", Script: "greek"}
	cases["all together"] = simulator.CameraSettings{
		NoRead: 0.2, Script: "cyrillic", Options: map[string]string{"boundary": "--MIME_boundary"},
		Switches: []string{"lf-only", "wrong-length", "folded", "json", "recorder", "motion", "heartbeat-isapi", "quiet-heartbeats", "fewer-pictures", "old-path", "not-chunked", "stale-nonce"},
	}
	for name, camera := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera.Username, camera.Password = "lane", "hunter2"
			sim := simulator.Start(t, cameraScenario("hikvision", 10*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, anpr.HikvisionStream(), sim.Devices()[0].Connect+"?username=lane&password_file="+password, nil, h)
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			require.Greater(t, len(want), 8)
			h.wait(t, fmt.Sprintf("%d reads", len(want)), func() bool { return len(h.reads()) >= len(want) })
			require.Equal(t, want, h.reads())
			observations, unparsed, valid := h.said()
			require.Empty(t, unparsed)
			require.GreaterOrEqual(t, valid, len(want))
			for _, o := range observations {
				if d, ok := o.Data.(event.PlateRead); ok {
					checkHikvisionRead(t, o, d, camera)
				}
			}
		})
	}
}

func checkHikvisionRead(t *testing.T, o drivers.Observation, d event.PlateRead, camera simulator.CameraSettings) {
	t.Helper()
	require.Equal(t, event.TimeFromDevice, d.Capture.TimeSource)
	require.Equal(t, map[bool]string{false: "toward", true: "away"}[camera.Sees == "rear"], d.Direction)
	require.NotNil(t, d.Confidence.Value)
	require.NotEmpty(t, d.Country.Code, d.Country.Raw)
	require.NotEmpty(t, d.Capture.VendorEventID)
	require.Len(t, o.Attachments, len(d.Attachments))
	want := 2
	switch {
	case camera.Has("empty-pictures"), camera.Has("no-pictures"), camera.Has("heartbeat-psia"):
		want = 0
	case camera.Has("fewer-pictures"):
		want = 1
	}
	require.Len(t, d.Attachments, want)
	if want > 0 {
		require.Equal(t, "licensePlatePicture.jpg", d.Attachments[0].Name)
		require.Equal(t, "image/jpeg", d.Attachments[0].MediaType)
	}
	require.Equal(t, "iDS-TCM203-A", d.Capture.Reader.Model)
	if camera.Script == "cyrillic" {
		require.Equal(t, strings.ToValidUTF8(d.Private.MatchKey, ""), d.Private.MatchKey)
	}
}

// A day with outages, stalls and pictures that are cut off: what the camera keeps
// and sends again is there, and once.
func TestHikvisionDay(t *testing.T) {
	t.Parallel()
	length := 24 * time.Hour
	camera := simulator.CameraSettings{Switches: []string{"retransmission", "outages", "cut-picture", "quiet-heartbeats", "motion"}}
	s := cameraScenario("hikvision", length, camera)
	s.Lanes[0].Traffic.Random.PerHour = 40
	sim := simulator.Start(t, s, simulator.Options{Speed: 7200})
	h := newRecordingHost()
	runDriver(t, anpr.HikvisionStream(), sim.Devices()[0].Connect, nil, h)
	require.NoError(t, sim.Wait())
	truth := sim.Truth()
	lost := map[uint64]bool{}
	done := map[uint64]bool{}
	resent := 0
	for _, p := range truth.Plates {
		switch p.What {
		case "lost":
			lost[p.Serial] = true
		case "sent", "resent":
			done[p.Serial] = true
			if p.What == "resent" {
				resent++
			}
		}
	}
	require.Greater(t, resent, 20, "the camera has had to send again")
	var want []string
	for _, p := range truth.Plates {
		if p.What == "seen" && done[p.Serial] && !lost[p.Serial] {
			want = append(want, p.Plate)
		}
	}
	slices.Sort(want)
	h.wait(t, "every read", func() bool { return len(h.reads()) >= len(want) })
	ids := map[string]string{}
	var got []string
	observations, _, _ := h.said()
	for _, o := range observations {
		d := o.Data.(event.PlateRead)
		key := d.Capture.VendorEventID
		require.Empty(t, ids[key], "the same message of the camera makes one event")
		ids[key] = d.ReadID
		got = append(got, d.Private.Plate)
	}
	slices.Sort(got)
	// What was under way when the stream ended may have come without the camera
	// knowing, so there may be more, and never less.
	for _, p := range want {
		i, found := slices.BinarySearch(got, p)
		require.True(t, found, "%s was sent and did not come", p)
		got = slices.Delete(got, i, i+1)
	}
	t.Logf("%d reads, %d of them sent again", len(want), resent)
}

// A plate waits for its pictures for two seconds and no longer.
func TestHikvisionLatePictures(t *testing.T) {
	camera := simulator.CameraSettings{Switches: []string{"late-pictures"}}
	s := cameraScenario("hikvision", 40*time.Second, camera)
	s.Lanes[0].Traffic = simulator.Traffic{Vehicles: []simulator.Vehicle{{Kind: "car", Arrive: 13 * time.Second}}}
	sim := simulator.Start(t, s, simulator.Options{Speed: 4})
	h := newRecordingHost()
	runDriver(t, anpr.HikvisionStream(), sim.Devices()[0].Connect, nil, h)
	h.wait(t, "the read", func() bool { return len(h.reads()) > 0 })
	require.NoError(t, sim.Wait())
	observations, _, _ := h.said()
	require.Len(t, observations, 1)
	d := observations[0].Data.(event.PlateRead)
	// At this speed the pictures come 0.75 s after the plate: they are in time.
	require.Len(t, d.Attachments, 2)
}

// The camera posts, and posts again until it is answered with 200.
func TestHikvisionPush(t *testing.T) {
	t.Parallel()
	for name, switches := range map[string][]string{
		"plain": nil, "lf-only": {"lf-only"}, "json": {"json"}, "wrong-length": {"wrong-length"}, "no-pictures": {"no-pictures"},
		"retransmission": {"retransmission", "folded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The port is free again at once, and the driver takes it.
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := ln.Addr().String() + "/hik/c2VjcmV0LXBhdGg"
			require.NoError(t, ln.Close())
			h := newRecordingHost()
			var refused atomic.Int32
			h.refuse = func(drivers.Observation) error {
				// What is not recorded is not answered, and comes again.
				if refused.Load() < 3 {
					refused.Add(1)
					return context.DeadlineExceeded
				}
				return nil
			}
			runDriver(t, anpr.HikvisionPush(), "http-listen://"+address, nil, h)
			sim := simulator.Start(t, cameraScenario("hikvision", 5*time.Minute, simulator.CameraSettings{
				Push: "http://" + address, Switches: switches,
			}))
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			require.NotEmpty(t, want)
			require.Equal(t, want, h.reads())
			_, unparsed, _ := h.said()
			require.Empty(t, unparsed)
			require.EqualValues(t, 3, refused.Load())
		})
	}
}
