package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// A camera that is asked gives every read once, busy or not.
func TestHikvisionAsked(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	for name, c := range map[string]struct {
		driver   drivers.Driver
		switches []string
		noRead   float64
		pictures int
	}{
		"plates":                {anpr.HikvisionPlates(), []string{"polled"}, 0.2, 0},
		"plates, busy":          {anpr.HikvisionPlates(), []string{"polled", "busy", "stale-nonce"}, 0.2, 0},
		"on demand":             {anpr.HikvisionOnDemand(), []string{"on-demand"}, 0, 2},
		"on demand, everything": {anpr.HikvisionOnDemand(), []string{"on-demand", "busy", "stale-nonce", "json", "lf-only", "wrong-length"}, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{Username: "lane", Password: "hunter2", NoRead: c.noRead, Switches: c.switches}
			sim := simulator.Start(t, cameraScenario("hikvision", 6*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, c.driver, sim.Devices()[0].Connect+"?username=lane&password_file="+password, func(into any) error {
				s := into.(*anpr.HikvisionPollSettings)
				s.Every, s.Zone, s.Lookback = 500*time.Millisecond, "UTC", 24*time.Hour
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			require.Greater(t, len(want), 4)
			h.wait(t, "every read", func() bool { return len(h.reads()) >= len(want) })
			require.Equal(t, want, h.reads())
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				if d, ok := o.Data.(event.PlateRead); ok {
					require.Len(t, d.Attachments, c.pictures)
				}
			}
		})
	}
}

// A camera locks out who guesses. The agent sends a rejected password once and leaves the
// camera alone, so that the right one is taken as soon as it is there.
func TestHikvisionLockOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter3"), 0o600))
	sim := simulator.Start(t, cameraScenario("hikvision", 0, simulator.CameraSettings{Username: "lane", Password: "hunter2"}), simulator.Options{Speed: 1})
	connect := sim.Devices()[0].Connect + "?username=lane&password_file=" + password
	ask := func(e link.Endpoint) error {
		conn, err := e.Open(t.Context())
		if err != nil {
			return err
		}
		defer func() { require.NoError(t, conn.Close()) }()
		client, ok := link.As[*link.Client](conn)
		require.True(t, ok)
		resp, err := client.Get(t.Context(), "/ISAPI/System/deviceInfo")
		if err != nil {
			return err
		}
		require.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.Body.Close()
	}
	e, err := link.Parse(connect, nil)
	require.NoError(t, err)
	for range 10 { // as a supervisor would
		var later *link.RetryError
		require.ErrorAs(t, ask(e), &later)
		require.ErrorIs(t, later, link.ErrLogin)
		require.NotContains(t, later.Error(), "hunter3")
	}
	require.NoError(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	e, err = link.Parse(connect, nil) // as a reload does
	require.NoError(t, err)
	require.NoError(t, ask(e), "one wrong password was sent, not ten")

	// Who does guess is locked out, and told so.
	require.NoError(t, os.WriteFile(password, []byte("hunter4"), 0o600))
	for range 5 {
		e, err = link.Parse(connect, nil)
		require.NoError(t, err)
		err = ask(e)
		require.ErrorIs(t, err, link.ErrLogin)
	}
	require.NoError(t, os.WriteFile(password, []byte("hunter2"), 0o600))
	e, err = link.Parse(connect, nil)
	require.NoError(t, err)
	require.ErrorContains(t, ask(e), "has locked this address out for a while")
}
