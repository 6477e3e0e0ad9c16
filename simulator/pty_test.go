//go:build linux

package simulator

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openSerial opens a serial line as a program does that keeps its settings.
func openSerial(t *testing.T, connect string) *os.File {
	t.Helper()
	path, ok := strings.CutPrefix(connect, "serial:")
	require.True(t, ok, connect)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// readLine reads until the line is hung up.
func readSerial(f *os.File, pause time.Duration) ([]byte, error) {
	var got bytes.Buffer
	buf := make([]byte, 700)
	for {
		n, err := f.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
				err = nil
			}
			return got.Bytes(), err
		}
		time.Sleep(pause)
	}
}

// TestReplayOverAPseudoTerminal: every byte arrives, though far more than the
// terminal holds, to a reader that is slow, and the last of it too.
func TestReplayOverAPseudoTerminal(t *testing.T) {
	var file, want strings.Builder
	for range 3000 {
		file.WriteString("GS,000063,000058,000051,000078,12-00-00.000\r\n")
		want.WriteString("GS,000063,000058,000051,000078\r\n")
	}
	for _, pause := range []time.Duration{0, 2 * time.Millisecond} {
		p, err := ReplayListen(t.Context(), strings.NewReader(file.String()), "pty:", ReplayOptions{})
		require.NoError(t, err)
		f := openSerial(t, p.Connect)
		time.Sleep(2 * settle) // nothing was lost in setting up
		got, err := readSerial(f, pause)
		require.NoError(t, err)
		require.Equal(t, want.Len(), len(got))
		require.Equal(t, want.String(), string(got))
		r, err := p.Wait()
		require.NoError(t, err)
		require.Equal(t, Replayed{Lines: 3000, Timed: 3000, Bytes: int64(want.Len())}, r)
	}
}

func TestSimulationOverAPseudoTerminal(t *testing.T) {
	want, _ := generated(t, minute)
	s := MustParse(t, strings.Replace(minute, "model: tsa-portal", "model: tsa-portal\n        listen: 'pty:/nowhere/else'", 1))
	sim := Start(t, s)
	f := openSerial(t, sim.Devices()[0].Connect)
	_, err := f.WriteString("a client that talks is not listened to\r\n")
	require.NoError(t, err)
	got, err := readSerial(f, 0)
	require.NoError(t, err)
	require.Equal(t, joined(want), string(got), "raw: no echo, no translation")
	require.NoError(t, sim.Wait())
}

// TestTerminalWithoutUser: bytes that are sent while nobody has it open, or
// while the line is silent, are gone, not kept for whoever comes.
func TestTerminalWithoutUser(t *testing.T) {
	var events []string
	told := make(chan string, 16)
	l, err := openTerminal("", slog.New(slog.DiscardHandler), func(what string) { told <- what })
	require.NoError(t, err)
	defer func() { require.NoError(t, l.close(false)) }()
	send := func(text string) bool {
		sent, err := l.send(t.Context(), []byte(text))
		require.NoError(t, err)
		return sent
	}
	require.False(t, send("nobody is there\r\n"))
	require.Zero(t, l.session())

	f := openSerial(t, l.connect())
	events = append(events, <-told)
	require.True(t, send("one\r\n"))
	require.NoError(t, l.breakOff(time.Hour))
	require.False(t, send("silent\r\n"))
	require.NoError(t, l.breakOff(0))
	require.True(t, send("two\r\n"))
	require.Equal(t, "one\r\ntwo\r\n", readSome(t, f, 10))
	require.True(t, send("never read\r\n"))
	require.NoError(t, f.Close())
	events = append(events, <-told)

	// The next one finds an empty line, even if the one before had it for
	// itself alone and was killed.
	f = openSerial(t, l.connect())
	events = append(events, <-told)
	require.True(t, send("three\r\n"))
	require.Equal(t, "three\r\n", readSome(t, f, 7))
	require.NoError(t, unix.IoctlSetInt(int(f.Fd()), unix.TIOCEXCL, 0))
	require.NoError(t, f.Close())
	events = append(events, <-told)
	require.Eventually(t, func() bool {
		exclusive, err := unix.IoctlGetInt(int(l.(*terminal).slave.Fd()), unix.TIOCGEXCL)
		return err == nil && exclusive == 0
	}, 5*time.Second, time.Millisecond)
	require.Equal(t, 2, l.session())
	require.Equal(t, []string{"connected", "disconnected", "connected", "disconnected"}, events)
}

func readSome(t *testing.T, f *os.File, n int) string {
	t.Helper()
	require.NoError(t, f.SetReadDeadline(time.Now().Add(5*time.Second)))
	b := make([]byte, n)
	_, err := io.ReadFull(f, b)
	require.NoError(t, err)
	return string(b)
}

// TestTerminalEnds while a client has it open that does not read.
func TestTerminalEnds(t *testing.T) {
	sim := Start(t, MustParse(t, strings.Replace(minute, "model: tsa-portal", "model: tsa-portal\n        listen: 'pty:'", 1)))
	f := openSerial(t, sim.Devices()[0].Connect)
	require.Eventually(t, func() bool {
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
		return err == nil && n > 2000
	}, 5*time.Second, 5*time.Millisecond)
	began := time.Now()
	require.NoError(t, sim.Close())
	require.Less(t, time.Since(began), 3*time.Second)
}

func TestSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rpm-2")
	s := MustParse(t, minute)
	start := func() (*Simulation, error) {
		sim, err := New(s, Options{Listen: map[string]string{"l/d": "pty:" + path}})
		require.NoError(t, err)
		t.Cleanup(func() { _ = sim.Close() })
		return sim, sim.Start(t.Context())
	}
	require.NoError(t, os.Symlink("/dev/null", path), "a left-over of an earlier run")
	sim, err := start()
	require.NoError(t, err)
	require.Equal(t, "serial:"+path, sim.Devices()[0].Connect)
	to, err := os.Readlink(path)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(to, "/dev/pts/"))
	got, err := readSerial(openSerial(t, sim.Devices()[0].Connect), 0)
	require.NoError(t, err)
	require.NotEmpty(t, got)
	require.NoError(t, sim.Close())
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist)

	// A real file is left alone.
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err = start()
	require.ErrorContains(t, err, "is no symbolic link")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))
	path = filepath.Join(dir, "no", "such", "folder")
	_, err = start()
	require.ErrorContains(t, err, "make the symbolic link")
}
