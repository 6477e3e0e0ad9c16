package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Every passage before a simulated camera comes, with each switch alone and with all
// together, over both of its paths.
func TestDahuaStreamSwitches(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	together := []string{"other-keys", "real-utc", "group", "non-motor", "motion", "stale-nonce"}
	sets := map[string][]string{"plain": nil, "all together": together, "no-pictures": {"no-pictures"}}
	for _, s := range together {
		sets[s] = []string{s}
	}
	for name, switches := range sets {
		for _, pictures := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "/snapManager", false: "/eventManager"}[pictures], func(t *testing.T) {
				t.Parallel()
				camera := simulator.CameraSettings{
					Username: "lane", Password: "hunter2", Switches: switches, Zone: "Europe/Kyiv", NoRead: 0.2, Script: "cyrillic", Duplicate: 0.1,
				}
				sim := simulator.Start(t, cameraScenario("dahua-stream", 10*time.Minute, camera))
				h := newRecordingHost()
				runDriver(t, anpr.DahuaStream(), sim.Devices()[0].Connect+"?username=lane&password_file="+password, func(s any) error {
					x := s.(*anpr.DahuaSettings)
					x.Pictures, x.Zone = &pictures, "Europe/Kyiv"
					return nil
				}, h)
				require.NoError(t, sim.Wait())
				plates := seen(sim.Truth())
				require.Greater(t, len(plates), 8)
				each := 1
				if slices.Contains(switches, "group") {
					each = 3
				}
				var want []string
				for i, p := range plates {
					for range each {
						want = append(want, p)
					}
					if slices.Contains(switches, "non-motor") && (i+1)%5 == 0 {
						want = append(want, "")
					}
				}
				h.wait(t, "every passage", func() bool { return len(h.reads()) >= len(want) })
				require.Equal(t, want, h.reads())
				require.Empty(t, h.problems())
				ids := map[string]int{}
				for _, o := range h.events() {
					ids[o.Subject]++
					d, ok := o.Data.(event.PlateRead)
					if !ok {
						continue
					}
					require.Equal(t, "toward", d.Direction)
					require.InDelta(t, 0.9, *d.Confidence.Value, 0.11)
					require.NotEmpty(t, d.Country.Code)
					source, attached := event.TimeFromDeviceZone, 2
					if slices.Contains(switches, "real-utc") {
						source = event.TimeFromDevice
					}
					require.Equal(t, source, d.Capture.TimeSource)
					// The wall's clock was not taken for UTC.
					require.True(t, o.DeviceTime.After(fastStart.Add(-time.Minute)) && o.DeviceTime.Before(fastStart.Add(11*time.Minute)), o.DeviceTime)
					switch {
					case !pictures || slices.Contains(switches, "no-pictures"):
						attached = 0
					case each == 3:
						attached = 1
					}
					require.Len(t, d.Attachments, attached)
				}
				bicycles := 0
				if slices.Contains(switches, "non-motor") {
					bicycles = len(plates) / 5
				}
				require.Len(t, ids, len(plates)+bicycles, "the events of one group have one read id")
			})
		}
	}
}

// fastStart is where the clock of a simulation without one begins.
var fastStart = time.Date(2026, time.January, 5, 6, 0, 0, 0, time.UTC)
