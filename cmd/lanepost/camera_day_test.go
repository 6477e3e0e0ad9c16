package main

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// A day of a camera that posts, with a host that is away or takes nothing for half an hour
// now and then: what the camera sends again is there, and once.
func TestPushingCamerasForADay(t *testing.T) {
	for model, c := range map[string]struct {
		driver   drivers.Driver
		switches []string
	}{
		"vzen":             {anpr.VzenPush(), []string{"heartbeat", "duplicate"}},
		"dahua":            {anpr.DahuaPush(), []string{"keepalive"}},
		"axis-lpv":         {anpr.AxisLPV(), nil},
		"rekor":            {anpr.Rekor(), []string{"heartbeat"}},
		"plate-recognizer": {anpr.PlateRecognizer(), nil},
		"sharpv":           {anpr.SharpV(), nil},
		"tvt":              {anpr.TVT(), []string{"keepalive"}},
		"milesight":        {anpr.Milesight(), nil},
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := ln.Addr().String()
			require.NoError(t, ln.Close())
			h := newRecordingHost()
			// An hour is a quarter of a second; the disk takes nothing in its first third.
			began := time.Now()
			h.refuse = func(drivers.Observation) error {
				if time.Since(began)%(250*time.Millisecond) < 80*time.Millisecond {
					return errors.New("the disk is full, and the agent stops")
				}
				return nil
			}
			runDriver(t, c.driver, "http-listen://"+address+"/camera/c2VjcmV0LXBhdGg", nil, h)
			camera := simulator.CameraSettings{Push: "http://" + address + "/camera/c2VjcmV0LXBhdGg", Switches: c.switches}
			s := cameraScenario(model, 24*time.Hour, camera)
			s.Lanes[0].Traffic.Random.PerHour = 24
			sim := simulator.Start(t, s, simulator.Options{Speed: 14400})
			require.NoError(t, sim.Wait())
			lost, resent, done := map[uint64]bool{}, 0, map[uint64]bool{}
			for _, p := range sim.Truth().Plates {
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
			require.NotZero(t, resent, "the camera has had to send again")
			require.Empty(t, lost)
			var want []string
			for _, p := range sim.Truth().Plates {
				if p.What == "seen" && done[p.Serial] {
					want = append(want, p.Plate)
				}
			}
			require.Greater(t, len(want), 400)
			var got []string
			ids := map[string]bool{}
			for _, o := range h.events() {
				d, ok := o.Data.(event.PlateRead)
				require.True(t, ok)
				if model == "axis-lpv" && d.Capture.Revision != event.RevisionLost {
					continue // the last word counts
				}
				if d.Capture.VendorEventID != "" {
					require.False(t, ids[d.Capture.VendorEventID], "the same message makes one event")
					ids[d.Capture.VendorEventID] = true
				}
				got = append(got, d.Private.Plate)
			}
			slices.Sort(want)
			slices.Sort(got)
			// What was under way at the end may have come without the camera knowing.
			extra := len(got) - len(want)
			require.True(t, extra >= 0 && extra <= 2, "%d came, %d were sent", len(got), len(want))
			for _, p := range want {
				i, found := slices.BinarySearch(got, p)
				require.True(t, found, "%s was sent and did not come", p)
				got = slices.Delete(got, i, i+1)
			}
			t.Logf("%d reads, %d of them sent again", len(want), resent)
		})
	}
}

// Lines that lose pieces and are slow, and clocks that jump, lose no plate.
func TestBadLinesAndClocks(t *testing.T) {
	t.Parallel()
	jump := func(c *pushCase) { c.camera.ClockJump, c.camera.ClockJumpAt = -2*time.Hour, 5*time.Minute }
	summer := func(c *pushCase) {
		c.camera.ClockStart, c.camera.Zone = time.Date(2026, time.March, 29, 0, 55, 0, 0, time.UTC), "Europe/Kyiv"
	}
	winter := func(c *pushCase) {
		c.camera.ClockStart, c.camera.Zone = time.Date(2026, time.October, 25, 0, 55, 0, 0, time.UTC), "Europe/Kyiv"
	}
	slow := func(c *pushCase) { c.camera.Latency, c.camera.Loss = 5*time.Millisecond, 0.05 }
	for name, change := range map[string]func(*pushCase){
		"a bad line": slow, "a clock that is set back": jump, "to summer time": summer, "to winter time": winter,
		"all at once": func(c *pushCase) { slow(c); winter(c); jump(c) },
	} {
		for _, c := range []pushCase{
			{driver: anpr.VzenPush(), model: "vzen", pictures: 2},
			{driver: anpr.DahuaPush(), model: "dahua", pictures: 2},
			{driver: anpr.Milesight(), model: "milesight", pictures: 2},
			{driver: anpr.SharpV(), model: "sharpv", pictures: 2},
		} {
			t.Run(name+"/"+c.model, func(t *testing.T) {
				t.Parallel()
				c := c
				change(&c)
				c.run(t)
			})
		}
	}
}

// The same on a line, and through a broker.
func TestLateLines(t *testing.T) {
	t.Parallel()
	slow := simulator.CameraSettings{Latency: 5 * time.Millisecond, Loss: 0.2}
	t.Run("a text on a line", func(t *testing.T) {
		t.Parallel()
		readsAll(t, "text-reader", slow, anpr.Template(), "", nil)
	})
	t.Run("through a broker", func(t *testing.T) {
		t.Parallel()
		h, plates := publishes(t, anpr.VzenPush(), "b2c3d4e5-00112233", "vzen", "", slow, nil)
		h.wait(t, "every read", func() bool { return len(h.reads()) >= len(plates) })
		require.ElementsMatch(t, plates, h.reads())
	})
}

// The same on the camera's side of a stream.
func TestHikvisionOnABadLine(t *testing.T) {
	t.Parallel()
	for name, camera := range map[string]simulator.CameraSettings{
		"a bad line": {Latency: 5 * time.Millisecond, Loss: 0.05},
		"summer time, and a clock that is set back": {
			ClockStart: time.Date(2026, time.March, 29, 0, 55, 0, 0, time.UTC), Zone: "Europe/Kyiv", ClockJump: -2 * time.Hour, ClockJumpAt: 5 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simulator.Start(t, cameraScenario("hikvision", 10*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, anpr.HikvisionStream(), sim.Devices()[0].Connect, nil, h)
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			h.wait(t, "every read", func() bool { return len(h.reads()) >= len(want) })
			require.Equal(t, want, h.reads())
			require.Empty(t, h.problems())
			if camera.ClockJump == 0 {
				return
			}
			back := false
			events := h.events()
			for i := 1; i < len(events); i++ {
				back = back || events[i].DeviceTime.Before(events[i-1].DeviceTime)
			}
			require.True(t, back, "the camera's clock was set back, and the events tell it")
		})
	}
}
