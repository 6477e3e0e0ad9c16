package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// serviceManager listens where systemd would.
func serviceManager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// hear waits for a message that has all of the parts, and gives it.
func hear(t *testing.T, c *net.UnixConn, parts ...string) string {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		require.NoError(t, err, "waiting for %q", parts)
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(string(b[:n]), part)
		}
		if !missing {
			return string(b[:n])
		}
	}
}

// A fresh installation waits for its lanes, and then runs, as one process.
func TestRunWaitsForLanes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@lanepost-test-%d", os.Getpid())} {
		c := serviceManager(t, name)
		blank, err := os.ReadFile("../../deploy/package/lanepost.yaml")
		require.NoError(t, err)
		dir := t.TempDir()
		path, spool := filepath.Join(dir, "lanepost.yaml"), filepath.Join(dir, "spool")
		text := strings.Replace(string(blank), "/var/lib/lanepost\n", spool+"\n", 1)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cmd := lanepost("run", "--config", path, "--stdout")
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=400000")
		p := startCommand(t, cmd)
		hear(t, c, "READY=1", "STATUS=no lane is configured yet")
		hear(t, c, "WATCHDOG=1")
		require.NoDirExists(t, spool, "nothing is recorded")

		// The placeholder does not become part of events.
		text = strings.Replace(text, "lanes: []\n", "lanes: [{id: entry-1, devices: []}]\n", 1)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
		hear(t, c, "RELOADING=1\nMONOTONIC_USEC=")
		hear(t, c, "READY=1", "not valid", "the site is still called change-me")

		text = strings.Replace(text, "change-me", "medyka", 1)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
		hear(t, c, "RELOADING=1\nMONOTONIC_USEC=")
		hear(t, c, "READY=1", "STATUS=no device is configured, ", "no broker is configured")
		hear(t, c, "WATCHDOG=1")
		started := p.waitFor("lanepost.agent.started.v1", 1)
		require.Equal(t, "none", decode[*event.AgentStarted](t, started).PreviousStop)
		require.Equal(t, "medyka", strings.Split(started.Source, "/")[1])
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		hear(t, c, "STOPPING=1", "STATUS=stops: signal: terminated")
		<-p.done
		require.Zero(t, cmd.ProcessState.ExitCode())
	}
}

// A stop while it waits is a stop in good order.
func TestStopBeforeLanes(t *testing.T) {
	t.Parallel()
	c := serviceManager(t, filepath.Join(t.TempDir(), "notify"))
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	require.NoError(t, os.WriteFile(path, []byte("site: change-me\nlanes: []\n"), 0o600))
	cmd := lanepost("run", "--config", path)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+c.LocalAddr().String())
	require.NoError(t, cmd.Start())
	hear(t, c, "READY=1")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	hear(t, c, "STOPPING=1")
	require.NoError(t, cmd.Wait())
}

func TestOpenService(t *testing.T) {
	t.Parallel()
	c := serviceManager(t, filepath.Join(t.TempDir(), "notify"))
	name := c.LocalAddr().String()
	open := func(pairs ...string) (time.Duration, bool, error) {
		s, end, err := openService(func(key string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == key {
					return pairs[i+1]
				}
			}
			return ""
		})
		defer end()
		return s.Watchdog, s.Tell != nil, err
	}
	self := fmt.Sprint(os.Getpid())
	for _, c := range []struct {
		env      []string
		watchdog time.Duration
		tells    bool
		bad      string
	}{
		{env: nil},
		{env: []string{"WATCHDOG_USEC", "1000000"}},
		{env: []string{"NOTIFY_SOCKET", name}, tells: true},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "2000000"}, tells: true, watchdog: 2 * time.Second},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "2000000", "WATCHDOG_PID", self}, tells: true, watchdog: 2 * time.Second},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "2000000", "WATCHDOG_PID", "1"}, tells: true},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "soon"}, tells: true, bad: "microseconds"},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "-1"}, tells: true, bad: "microseconds"},
		{env: []string{"NOTIFY_SOCKET", name, "WATCHDOG_USEC", "9223372036854775807"}, tells: true, bad: "microseconds"},
		{env: []string{"NOTIFY_SOCKET", "vsock:2:1"}, bad: "want a path"},
		{env: []string{"NOTIFY_SOCKET", name + "-none"}, bad: "no such file"},
	} {
		watchdog, tells, err := open(c.env...)
		require.Equal(t, c.watchdog, watchdog, "%q", c.env)
		require.Equal(t, c.tells, tells, "%q", c.env)
		if c.bad == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.bad)
		}
	}
}

// A service manager that reads nothing holds up nobody for long.
func TestServiceManagerThatReadsNothing(t *testing.T) {
	t.Parallel()
	c := serviceManager(t, filepath.Join(t.TempDir(), "notify"))
	s, end, err := openService(func(key string) string { return map[string]string{"NOTIFY_SOCKET": c.LocalAddr().String()}[key] })
	require.NoError(t, err)
	defer end()
	began := time.Now()
	for err == nil && time.Since(began) < patience {
		err = s.Tell(strings.Repeat("x", 1000))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Less(t, time.Since(began), 30*notifyTimeout)
}
