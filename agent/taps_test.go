//go:build linux

package agent

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// writeTaps writes a configuration of one portal with more lines for it and at the
// end.
func writeTaps(t *testing.T, path, spool, connect, device, more string) {
	t.Helper()
	text := fmt.Sprintf("site: test\nlanes:\n  - id: entry-1\n    devices:\n      - id: rpm-1\n        profile: rapiscan-tsa\n"+
		"        connect: %s\n%sspool:\n  dir: %s\n%s", connect, device, spool, more)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func attachTo(t *testing.T, address string) net.Conn {
	t.Helper()
	var c net.Conn
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = net.Dial("tcp", address)
		return err == nil
	}, patience, 5*time.Millisecond)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// hears reads exactly the text.
func hears(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, text, string(b))
}

// attachedTo waits until the tee of the portal has so many clients.
func attachedTo(t *testing.T, a *Agent, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		to := a.taps.tap("entry-1/rpm-1").tee.Load()
		return to != nil && to.Stats().Clients == n
	}, patience, time.Millisecond)
}

const background = "GB,000400,000400,000400,000400"

// A tee goes on while its device is connected anew, restarted by a reload, and while
// others of its settings change; the portal hears nothing of those who read along,
// and is not disturbed when a tee comes, changes or goes.
func TestTeeOverReconnectionsAndReloads(t *testing.T) {
	p := newPortal(t)
	spool, path := t.TempDir(), filepath.Join(t.TempDir(), "lanepost.yaml")
	connect := "tcp://" + p.ln.Addr().String()
	address, other := freeAddress(t), freeAddress(t)
	tee := "        tee: {listen: \"tcp://" + address + "\"}\n"
	writeTaps(t, path, spool, connect, tee, "")
	b := newBench(t, path)
	a := b.startWith(b)
	first := attachTo(t, address)
	attachedTo(t, a, 1)
	_, err := io.WriteString(first, "SET,ALARM,OFF\r\n")
	require.NoError(t, err)
	p.accept()
	p.say(background)
	hears(t, first, background+"\r\n")
	b.waitFor("lanepost.device.online.v1", 1)

	// The portal goes and comes back.
	waits := attachTo(t, address)
	attachedTo(t, a, 2)
	require.NoError(t, p.conn.Close())
	_, err = first.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "who had a part of the stream is told that it ended")
	p.accept()
	p.say(background)
	hears(t, waits, background+"\r\n")
	b.waitFor("lanepost.device.online.v1", 2)

	reload := func(device string) *event.AgentConfigChanged {
		t.Helper()
		writeTaps(t, path, spool, connect, device, "")
		n := len(b.of("lanepost.agent.config-changed.v1"))
		b.reload <- struct{}{}
		d, err := event.DecodeData(b.waitFor("lanepost.agent.config-changed.v1", n+1))
		require.NoError(t, err)
		changed := d.(*event.AgentConfigChanged)
		require.True(t, changed.Applied)
		return changed
	}
	// A reload that changes nothing: the client stays, and reads on.
	require.Empty(t, reload(tee+"        # a comment\n").Changed)
	p.say(background)
	hears(t, waits, background+"\r\n")
	// A reload that restarts the device: the tee stands, also for one that waits.
	third := attachTo(t, address)
	attachedTo(t, a, 2)
	require.Equal(t, []string{"entry-1/rpm-1"}, reload(tee+"        silence: 40s\n").Changed)
	p.accept()
	p.say(background)
	hears(t, third, background+"\r\n")
	_, err = waits.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	// Another address: the portal's connection stands, the clients of the old one go.
	changed := reload("        silence: 40s\n        tee: {listen: \"tcp://" + other + "\", clients: 1}\n")
	require.Empty(t, changed.Changed)
	_, err = third.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	fourth := attachTo(t, other)
	attachedTo(t, a, 1)
	p.say(background)
	hears(t, fourth, background+"\r\n")
	// Taken out: nobody listens any more, and the portal still has its connection.
	require.Empty(t, reload("        silence: 40s\n").Changed)
	_, err = fourth.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	_, err = net.Dial("tcp", other)
	require.Error(t, err)
	p.tamper(true)
	b.waitFor("lanepost.radiation.tamper.v1", 1)
	require.NoError(t, b.stop())

	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	heard, err := io.ReadAll(p.conn)
	require.NoError(t, err)
	require.Empty(t, heard, "nothing that a client sends reaches the device")
	require.Len(t, b.of("lanepost.device.online.v1"), 3)
}

// Somebody else has the port: the device runs all the same, the state says what is
// wrong, and when the port is free the tee is there.
func TestTeeWhosePortIsTaken(t *testing.T) {
	p := newPortal(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	writeTaps(t, path, t.TempDir(), "tcp://"+p.ln.Addr().String(), "        tee: {listen: \"tcp://"+taken.Addr().String()+"\"}\n", "")
	b := newBench(t, path)
	a := b.startWith(b)
	p.accept()
	p.say(background)
	b.waitFor("lanepost.device.online.v1", 1)
	require.Contains(t, strings.Join(problemsOf(a), "\n"), "nobody can read entry-1/rpm-1 along: tee: listen tcp "+taken.Addr().String())
	require.NoError(t, taken.Close())
	a.taps.retry(a) // as the loop does every five seconds
	attachedTo(t, a, 0)
	c := attachTo(t, taken.Addr().String())
	attachedTo(t, a, 1)
	p.say(background)
	hears(t, c, background+"\r\n")
	require.NotContains(t, strings.Join(problemsOf(a), "\n"), "along")
	require.NoError(t, b.stop())
}

// Daily files that can't be written disturb no event, are told in the state, and go
// on when they can; a reload moves them, and a device that is taken out ends its
// own.
func TestDailyFiles(t *testing.T) {
	p := newPortal(t)
	dir := t.TempDir()
	spool, path := filepath.Join(dir, "spool"), filepath.Join(dir, "lanepost.yaml")
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	require.NoError(t, os.WriteFile(first+".mistaken", nil, 0o600))
	blocked := filepath.Join(first+".mistaken", "daily") // under a file there is no directory
	connect := "tcp://" + p.ln.Addr().String()
	daily := func(dir string) string { return "daily: {dir: " + dir + ", zone: Europe/Kyiv}\n" }
	writeTaps(t, path, spool, connect, "", daily(blocked))
	b := newBench(t, path)
	a := b.startWith(b)
	p.accept()
	p.say(background)
	b.waitFor("lanepost.device.online.v1", 1)
	for i := range 6 {
		p.tamper(i%2 == 0)
		b.waitFor("lanepost.radiation.tamper.v1", i+1)
	}
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(problemsOf(a), "\n"), "daily files: make the directory: mkdir "+first)
	}, patience, 5*time.Millisecond)
	require.NoError(t, os.Remove(first+".mistaken"))
	content := func(dir string) string {
		files, err := filepath.Glob(filepath.Join(dir, "test-entry-1-rpm-1-*.csv"))
		require.NoError(t, err)
		var all []byte
		for _, f := range files { // two if the test runs at midnight
			one, err := os.ReadFile(f)
			require.NoError(t, err)
			all = append(all, one...)
		}
		return string(all)
	}
	require.Eventually(t, func() bool { return strings.Count(content(blocked), "\r\n") == 7 }, patience, 5*time.Millisecond)
	require.Regexp(t, `^GB,000400,000400,000400,000400,20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d\d \+0[23]\r\nTT,000000,`, content(blocked))
	require.Eventually(t, func() bool { return !strings.Contains(strings.Join(problemsOf(a), "\n"), "daily") }, patience, 5*time.Millisecond)
	require.Equal(t, 1, strings.Count(b.logged(), "daily files are not written"))

	// Another directory, and the portal's connection stands.
	writeTaps(t, path, spool, connect, "", daily(second))
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 1)
	p.tamper(true)
	b.waitFor("lanepost.radiation.tamper.v1", 7)
	require.Equal(t, 7, strings.Count(content(blocked), "\r\n"))
	// No daily files any more.
	writeTaps(t, path, spool, connect, "", "")
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 2)
	require.Regexp(t, `^TT,000000,000000,000000,000000,20[^\r\n]*\r\n$`, content(second), "what waited is written when it ends")
	p.tamper(false)
	b.waitFor("lanepost.radiation.tamper.v1", 8)
	require.NotContains(t, content(second), "TC,")
	// And again, without the device: what it said is ended.
	writeTaps(t, path, spool, connect, "", daily(second))
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 3)
	p.tamper(true)
	p.tamper(false)
	b.waitFor("lanepost.radiation.tamper.v1", 10)
	require.NoError(t, os.WriteFile(path, []byte("site: test\nlanes: []\nspool: {dir: "+spool+"}\n"+daily(second)), 0o600))
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 4)
	require.Eventually(t, func() bool { return strings.HasSuffix(content(second), "the link ended\r\n") }, patience, 5*time.Millisecond, lazy(func() string { return content(second) }))
	require.NoError(t, b.stop())
	require.Len(t, b.of("lanepost.device.online.v1"), 1)
}

// On a disk that is full, daily files stop before events do.
func TestDailyFilesLeaveRoom(t *testing.T) {
	disk := smallDisk(t)
	p := newPortal(t)
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	writeTaps(t, path, t.TempDir(), "tcp://"+p.ln.Addr().String(), "", "daily: {dir: "+disk+"}\n")
	giveBack := fill(t, disk)
	b := newBench(t, path)
	a := b.startWith(b)
	p.accept()
	p.say(background)
	p.tamper(true)
	b.waitFor("lanepost.radiation.tamper.v1", 1)
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(problemsOf(a), "\n"), "daily files: the disk of "+disk+" has 0 bytes free")
	}, patience, 5*time.Millisecond)
	giveBack()
	require.Eventually(t, func() bool {
		files, _ := filepath.Glob(filepath.Join(disk, "*.csv"))
		return len(files) > 0 && !strings.Contains(strings.Join(problemsOf(a), "\n"), "daily")
	}, patience, 5*time.Millisecond)
	require.NoError(t, b.stop())
}
