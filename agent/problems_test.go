//go:build linux

package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
)

// problemsOf are those that the broker is told.
func problemsOf(a *Agent) []string { return a.problems(a.disks.ask(a.onDisk)) }

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
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(problemsOf(a), "\n"), words) }, patience, 5*time.Millisecond, "%v", lazy(b.logged))
	s := a.status()
	d := s.Lanes[0].Devices[0]
	require.Equal(t, "connecting", d.State)
	require.Equal(t, "its clock is 1 h behind this box's", d.Reason)
	require.Contains(t, d.ToDo, "time zones")
	require.Equal(t, words, s.Problems[0].What)
	require.Equal(t, "entry-1/cam-1", s.Problems[0].Device)
	require.Equal(t, d.ToDo, s.Problems[0].ToDo)
}

// The log says once that room is short and once that it is over, however it goes up and down
// meanwhile; a disk without a byte is not called nearly full.
func TestShortOfRoomIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := &Agent{log: slog.New(slog.NewTextHandler(&log, nil))}
	now := time.Now()
	look := func(pressure string, free int64) {
		now = now.Add(tickEvery)
		a.tellShort(spool.Stats{Pressure: pressure, Free: free, Total: 3 << 20}, now)
	}
	said := func(what string) int { return strings.Count(log.String(), what) }
	for range 20 {
		look("disk", 4096)
		look("", 1<<20)
	}
	require.Equal(t, 1, said("level=WARN"), log.String())
	require.Equal(t, 1, said("nearly full"))
	require.Zero(t, said("level=INFO"))
	look("disk, routine cap", 0)
	look("disk", 0)
	require.Equal(t, 3, said("level=WARN"), log.String())
	require.Equal(t, 1, said("is full: "))
	require.Equal(t, 1, said("routine events have nearly reached"))
	for range 20 {
		look("", 1<<20)
	}
	require.Equal(t, 3, said("level=INFO"), log.String())
	require.Equal(t, 3, said("level=WARN"))
	require.Empty(t, a.short)
}

// A disk that somebody else has filled is told by the log, in the problems and in the
// snapshot, before an event is refused.
func TestDiskThatOthersFilled(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	p := newPortal(t)
	b := newBench(t, writeConfig(t, filepath.Join(disk, "spool"), "tcp://"+p.ln.Addr().String()))
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	require.Empty(t, a.status().Spool.Pressure)
	giveBack := fill(t, disk)
	require.Eventually(t, func() bool { return strings.Contains(b.logged(), "the spool is short of room") }, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		s := a.status().Spool
		return s.Pressure == "disk" && *s.DiskFreeBytes == 0
	}, patience, 5*time.Millisecond)
	require.Contains(t, strings.Join(problemsOf(a), "\n"), "the disk of the spool directory is full: ")
	giveBack()
	require.NoError(t, b.stop())
}

// What of a changed file waits for a restart is a problem, and what to do stands with it.
func TestChangesThatNeedARestart(t *testing.T) {
	t.Parallel()
	p := newPortal(t)
	spool := t.TempDir()
	path := writeConfig(t, spool, "tcp://"+p.ln.Addr().String())
	b := newBench(t, path)
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	problems := func() (list []console.Problem) {
		b.reload <- struct{}{}
		b.reload <- struct{}{} // it is taken when the first is done
		for _, one := range a.status().Problems {
			if strings.Contains(one.What, "configuration") {
				list = append(list, one)
			}
		}
		return list
	}
	other := strings.Replace(string(text), "dir: "+spool, "dir: "+t.TempDir(), 1) + "mqtt: {name: centre, brokers: [\"tcp://127.0.0.1:1\"]}\n"
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(other, "site: test", "site: elsewhere", 1)), 0o600))
	list := problems()
	require.Len(t, list, 3, "%v", lazy(b.logged))
	for i, what := range []string{
		"site was changed in the configuration: it takes effect when the agent is started again; until then events say test",
		"spool was changed in the configuration: it takes effect when the agent is started again",
		"the uplink centre is new in the configuration: it begins when the agent is started again",
	} {
		require.Equal(t, console.Problem{What: what, ToDo: "restart the agent (systemctl restart lanepost)"}, list[i])
	}
	require.NoError(t, os.WriteFile(path, append(text, "nonsense\n"...), 0o600))
	list = problems()
	require.Len(t, list, 1)
	require.Contains(t, list[0].ToDo, "mend the file")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	require.Empty(t, problems())
}
