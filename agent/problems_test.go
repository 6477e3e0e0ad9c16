//go:build linux

package agent

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A camera that tells a wrong time and nothing else: it is not online, and its clock is a
// problem all the same.
func TestWrongClockOfADeviceThatIsNotOnline(t *testing.T) {
	t.Parallel()
	camera := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "multipart/mixed; boundary=boundary")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(camera.Close)
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "site: test\nlanes:\n  - id: entry-1\n    devices:\n      - id: cam-1\n        profile: hikvision-stream\n"+
		"        connect: %s\nspool:\n  dir: %s\nconsole: {listen: off}\n", camera.URL, t.TempDir()), 0o600))
	b := newBench(t, path)
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	const words = "entry-1/cam-1: its clock is 1 h behind this box's"
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(a.problems(), "\n"), words) }, patience, 5*time.Millisecond, "%v", lazy(b.logged))
	s := a.status()
	d := s.Lanes[0].Devices[0]
	require.Equal(t, "connecting", d.State)
	require.Equal(t, "its clock is 1 h behind this box's", d.Reason)
	require.Contains(t, d.ToDo, "time zones")
	require.Equal(t, words, s.Problems[0].What)
	require.Equal(t, "entry-1/cam-1", s.Problems[0].Device)
	require.Equal(t, d.ToDo, s.Problems[0].ToDo)
}
