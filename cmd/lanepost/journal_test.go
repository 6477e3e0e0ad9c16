package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/lanepost/lanepost/agent/config"
)

// Into the journal go lines with the priority that it knows and without the time that it
// knows itself; into another file, also with the variable set, lines as ever.
func TestLogForTheJournal(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	st := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	text := func(format, variable string) string {
		require.NoError(t, f.Truncate(0))
		_, err := f.Seek(0, io.SeekStart)
		require.NoError(t, err)
		log := newLogger(f, config.Log{Format: format}, variable)
		log.With("lane", "entry-1").Debug("a")
		log.Info("b b", "n", 1)
		log.WithGroup("g").Warn("c", "level", "x")
		log.Log(t.Context(), slog.LevelError+4, "d")
		b, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, "<7>msg=a lane=entry-1\n<6>msg=\"b b\" n=1\n<4>msg=c g.level=x\n<3>msg=d\n", text("text", stream))
	for _, other := range []string{"", "8:1", "x", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1)} {
		require.True(t, strings.HasPrefix(text("text", other), "time="), other)
	}
	require.True(t, strings.HasPrefix(text("json", stream), `{"time"`))
}

// The line that the command makes is one that the configuration takes, and what it is
// asked for wrongly is said.
func TestConsolePassword(t *testing.T) {
	t.Parallel()
	run := func(in string, args ...string) (string, int) {
		cmd := lanepost(append([]string{"console", "password"}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		b, _ := cmd.CombinedOutput() // the exit code tells
		return string(b), cmd.ProcessState.ExitCode()
	}
	text, code := run("cold hands at four\n", "anna")
	require.Zero(t, code, text)
	name, hash, _ := strings.Cut(strings.TrimSpace(text), ":")
	require.Equal(t, "anna", name)
	require.NoError(t, bcrypt.CompareHashAndPassword([]byte(hash), []byte("cold hands at four")))
	text, code = run("short\n", "anna")
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "fewer than 10")
	text, code = run("")
	require.Equal(t, exitUsage, code)
	require.Contains(t, text, "name one user")
}

// Whatever the system has taken the default address for, the agent runs and says so, and
// that is no problem of its state.
func TestConsoleDefaultAddress(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:7480")
	if err == nil {
		defer ln.Close()
	} // else another test's agent has it, which does as well
	path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))))
	p := start(t, path)
	p.waitFor("lanepost.device.offline.v1", 1)
	c := dialAgent(t, spoolOf(path))
	if ln != nil {
		require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "another program listens on 127.0.0.1:7480") }, patience, 10*time.Millisecond)
	}
	for _, one := range statusOf(t, c).Problems {
		require.NotContains(t, one.What, "browsers")
	}
	p.stop()
}
