package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// A portal that is read by the agent over TCP, and one through a pseudo-terminal: two
// others read along and get the bytes that the portal sent, the events are those of
// the recording, and a replay of the daily file sends the same bytes once more.
func TestTeeAndDailyFiles(t *testing.T) {
	t.Parallel()
	recording, err := os.ReadFile("testdata/own.csv")
	require.NoError(t, err)
	var wire bytes.Buffer
	_, err = simulator.Replay(t.Context(), bytes.NewReader(recording), &wire, simulator.ReplayOptions{})
	require.NoError(t, err)
	want := table(t, "testdata/own.occupancies.csv")
	const settings = "settings: {nsigma: 4.0, groups: [sum, vertical]}"

	for _, l := range []struct{ name, profile, query string }{
		{"tcp", "rapiscan-tsa", ""},
		{"serial", "rapiscan-tsa-serial", "?baud=115200&parity=odd"},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			listen := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
			connect := listen
			if l.name == "serial" {
				listen, connect = "pty:"+filepath.Join(dir, "portal"), "serial:"+filepath.Join(dir, "portal")
			}
			address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			p := start(t, writeConfig(t, deviceYAML("rpm-1", l.profile, connect+l.query, settings, "tee: {listen: tcp://"+address+"}"),
				"daily: {dir: "+filepath.Join(dir, "daily")+", zone: Europe/Kyiv}\n"))
			p.waitFor("lanepost.device.offline.v1", 1) // the portal is not there yet, and the tee is
			var clients [2]net.Conn
			for i := range clients {
				c, err := net.Dial("tcp", address)
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
				clients[i] = c
			}
			require.Eventually(t, func() bool {
				return strings.Count(p.log.String(), "attached") == len(clients)
			}, patience, 5*time.Millisecond)

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := simulator.ReplayListen(ctx, bytes.NewReader(recording), listen, simulator.ReplayOptions{})
			require.NoError(t, err)
			defer r.Close()
			for _, c := range clients {
				got, err := io.ReadAll(c) // to the end of the portal's link
				require.NoError(t, err)
				require.Equal(t, wire.String(), string(got))
			}
			p.wait("every occupancy", occupancies(len(want)))
			requireOccupancies(t, want, p.stop())

			files, err := filepath.Glob(filepath.Join(dir, "daily", "test-entry-1-rpm-1-*.csv"))
			require.NoError(t, err)
			slices.Sort(files)
			var written []byte
			for _, f := range files { // two if the test runs at midnight
				one, err := os.ReadFile(f)
				require.NoError(t, err)
				written = append(written, one...)
			}
			var again bytes.Buffer
			_, err = simulator.Replay(t.Context(), bytes.NewReader(written), &again, simulator.ReplayOptions{})
			require.NoError(t, err)
			require.Equal(t, wire.String(), again.String())
		})
	}
}

// occupancies says when there are so many.
func occupancies(n int) func([]event.Event) bool {
	return func(list []event.Event) bool {
		found := 0
		for _, e := range list {
			if e.Type == "lanepost.radiation.occupancy.v1" {
				found++
			}
		}
		return found >= n
	}
}
