//go:build linux

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/supervise"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; only a failing test waits so long.
const patience = 30 * time.Second

// portal is the other end of a portal's line: it says what the test types.
type portal struct {
	t    *testing.T
	ln   net.Listener
	conn net.Conn
}

func newPortal(t *testing.T) *portal {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return &portal{t: t, ln: ln}
}

func (p *portal) accept() {
	require.NoError(p.t, p.ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	c, err := p.ln.Accept()
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	p.conn = c
}

func (p *portal) say(records ...string) {
	for _, r := range records {
		_, err := io.WriteString(p.conn, r+"\r\n")
		require.NoError(p.t, err)
	}
}

// tamper opens or closes the portal's cabinet, which gives one event each.
func (p *portal) tamper(on bool) {
	if on {
		p.say("TT,000000,000000,000000,000000")
	} else {
		p.say("TC,111111,111111,111111,111111")
	}
}

// bench is an agent in this process.
type bench struct {
	t       *testing.T
	path    string
	cancel  context.CancelCauseFunc
	done    chan error
	ended   sync.WaitGroup
	reload  chan struct{}
	service Service

	mu     sync.Mutex
	events []event.Event
	byType map[string][]event.Event
	log    bytes.Buffer
}

// Write takes what the agent prints.
func (b *bench) Write(line []byte) (int, error) {
	e, err := event.Parse(line)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.t.Errorf("not an event: %v: %s", err, line)
		return len(line), nil
	}
	b.events = append(b.events, e)
	if b.byType == nil {
		b.byType = map[string][]event.Event{}
	}
	b.byType[e.Type] = append(b.byType[e.Type], e)
	return len(line), nil
}

type logBuffer struct{ *bench }

func (l logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bench.log.Write(p)
}

func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// of lists the events of a type.
func (b *bench) of(typ string) []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byType[typ] // nothing in it changes any more
}

func (b *bench) waitFor(typ string, n int) event.Event {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return len(b.of(typ)) >= n }, patience, 5*time.Millisecond,
		"event %d of %s did not come; the log:\n%s", n, typ, lazy(b.logged))
	return b.of(typ)[n-1]
}

// lazy is a text that is made when it is printed.
type lazy func() string

func (l lazy) String() string { return l() }

// writeConfig writes a configuration with one device and its spool at dir.
func writeConfig(t *testing.T, dir string, connect string) string {
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	text := fmt.Sprintf("site: test\nlanes:\n  - id: entry-1\n    devices:\n      - id: rpm-1\n        profile: rapiscan-tsa\n"+
		"        connect: %s\nspool:\n  dir: %s\n", connect, dir)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func newBench(t *testing.T, path string) *bench {
	return &bench{t: t, path: path, done: make(chan error, 1), reload: make(chan struct{})}
}

// start runs a whole agent.
func (b *bench) start(stdout io.Writer) {
	ctx, cancel := context.WithCancelCause(b.t.Context())
	b.cancel = cancel
	b.t.Cleanup(func() { // before the disk goes
		cancel(errors.New("the test is over"))
		b.ended.Wait()
	})
	b.ended.Add(1)
	go func() {
		defer b.ended.Done()
		b.done <- Run(ctx, Options{
			ConfigPath: b.path, Version: "test", Stdout: stdout, Log: slog.New(slog.NewTextHandler(logBuffer{b}, nil)),
		})
	}()
}

// startWith runs an agent on a spool of small segments, and lends its inside.
func (b *bench) startWith(stdout io.Writer) *Agent {
	cfg, err := config.Load(b.path)
	require.NoError(b.t, err)
	life, die := context.WithCancel(b.t.Context())
	log := slog.New(slog.NewTextHandler(logBuffer{b}, nil))
	disk := &spool.Counters{}
	o, err := spoolOptions(cfg, log, disk)
	require.NoError(b.t, err)
	o.SegmentBytes = 128 << 10
	sp, err := spool.Open(cfg.Spool.Dir, o)
	require.NoError(b.t, err)
	a := &Agent{
		opts: Options{Version: "test", ConfigPath: b.path, Log: log, Reload: b.reload, Service: b.service}, log: log, site: cfg.Site,
		ledgerDir: filepath.Join(cfg.Spool.Dir, "ledgers"),
		spool:     sp, disk: disk, cfg: cfg, life: life, began: time.Now(), devices: map[string]*device{},
		printer: newPrinter(stdout, log, sp.Stats()), reloads: make(chan chan reloaded), logs: console.NewLogs(log.Handler()),
	}
	ctx, cancel := context.WithCancelCause(b.t.Context())
	b.cancel = cancel
	b.ended.Add(1)
	go func() {
		defer b.ended.Done()
		err := a.run(ctx, die)
		a.printer.close()
		b.done <- errors.Join(err, sp.Close())
		die()
	}()
	b.t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		b.ended.Wait()
	})
	return a
}

func (b *bench) stop() error {
	b.t.Helper()
	b.cancel(errors.New("the test ends it"))
	select {
	case err := <-b.done:
		return err
	case <-time.After(patience):
		require.FailNow(b.t, "the agent did not stop", b.logged())
		return nil
	}
}

// smallDisk is a file system of a few megabytes.
func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("a small tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill takes all the room of a disk; the returned function gives it back.
func fill(t *testing.T, dir string) (giveBack func()) {
	hog, err := os.Create(filepath.Join(dir, "hog"))
	require.NoError(t, err)
	for b := make([]byte, 4096); err == nil; {
		_, err = hog.Write(b)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, hog.Close())
	return func() { require.NoError(t, os.Remove(hog.Name())) }
}

// alternates checks that every opening and closing of the cabinet is there, once
// and in order, under sequences without a gap.
func (b *bench) alternates(n int) {
	b.t.Helper()
	list := b.of("lanepost.radiation.tamper.v1")
	require.Len(b.t, list, n)
	for i, e := range list {
		d, err := event.DecodeData(e)
		require.NoError(b.t, err)
		want := "on"
		if i%2 == 1 {
			want = "clear"
		}
		require.Equal(b.t, want, d.(*event.RadiationTamper).State, "tamper %d", i)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := map[event.Class]uint64{}
	for _, e := range b.events {
		seq, err := event.ParseSequence(e.Sequence)
		require.NoError(b.t, err)
		if before, ok := last[e.Priority]; ok {
			require.Equal(b.t, before+1, seq, "in the order of the sequences, without a gap")
		}
		last[e.Priority] = seq
	}
}

// A full disk: the agent waits, says so, and when there is room it has lost
// nothing.
func TestFullDiskWhileRunning(t *testing.T) {
	disk := smallDisk(t)
	p := newPortal(t)
	b := newBench(t, writeConfig(t, filepath.Join(disk, "spool"), "tcp://"+p.ln.Addr().String()))
	b.startWith(b)
	p.accept()
	p.say("GB,000400,000400,000400,000400")
	b.waitFor("lanepost.device.online.v1", 1)

	giveBack := fill(t, disk)
	// Segments are allocated ahead, so it takes some events to need the next one.
	said := 0
	for deadline := time.Now().Add(patience); !bytes.Contains([]byte(b.logged()), []byte("the disk does not take events")); {
		require.True(t, time.Now().Before(deadline), "the disk never refused")
		// The agent does not read while it waits, so this must not block for good.
		require.NoError(t, p.conn.SetWriteDeadline(time.Now().Add(time.Second)))
		p.tamper(said%2 == 0)
		said++
	}
	p.tamper(said%2 == 0)
	p.tamper(said%2 == 1)
	said += 2
	time.Sleep(1500 * time.Millisecond) // one more attempt at least
	require.Less(t, len(b.of("lanepost.radiation.tamper.v1")), said)
	giveBack()
	b.waitFor("lanepost.radiation.tamper.v1", said)
	require.Contains(t, b.logged(), "the disk takes events again")
	require.Empty(t, b.of("lanepost.device.silent.v1"))
	require.Empty(t, b.of("lanepost.device.offline.v1"))
	b.alternates(said)
	require.NoError(t, b.stop())
}

// A start on a full disk waits, and a stop ends the wait.
func TestFullDiskAtTheStart(t *testing.T) {
	disk := smallDisk(t)
	p := newPortal(t)
	path := writeConfig(t, filepath.Join(disk, "spool"), "tcp://"+p.ln.Addr().String())
	giveBack := fill(t, disk)

	b := newBench(t, path)
	b.start(b)
	require.Eventually(t, func() bool { return bytes.Contains([]byte(b.logged()), []byte("waits")) || len(b.done) > 0 }, patience, 5*time.Millisecond)
	require.Empty(t, b.done, "a full disk must not end the agent: %s", b.logged())
	require.Error(t, b.stop(), "nothing was recorded, and the exit says so")
	require.Empty(t, b.events)

	b = newBench(t, path)
	b.start(b)
	require.Eventually(t, func() bool { return bytes.Contains([]byte(b.logged()), []byte("waits")) }, patience, 5*time.Millisecond)
	giveBack()
	started := b.waitFor("lanepost.agent.started.v1", 1)
	require.Equal(t, event.FormatSequence(1), started.Sequence)
	p.accept()
	p.say("GB,000400,000400,000400,000400")
	b.waitFor("lanepost.device.online.v1", 1)
	require.NoError(t, b.stop())
}

// A reader of standard output that neither reads nor leaves stops nothing.
func TestStdoutThatBlocks(t *testing.T) {
	p := newPortal(t)
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://"+p.ln.Addr().String()))
	r, w := io.Pipe()
	defer r.Close() // lets the writer go
	a := b.startWith(w)
	p.accept()
	p.say("GB,000400,000400,000400,000400")
	const said = 2*printLines + 100
	for i := range said {
		require.NoError(t, p.conn.SetWriteDeadline(time.Now().Add(patience)))
		p.tamper(i%2 == 0)
	}
	// agent.started, agent.key, device.online, and all of those; and checkpoints.
	require.Eventually(t, func() bool { return a.spool.Stats().Urgent.Head >= said+3 }, patience, 20*time.Millisecond)
	require.Contains(t, b.logged(), "nobody reads standard output")
	began := time.Now()
	require.NoError(t, b.stop())
	require.Less(t, time.Since(began), printGrace+5*time.Second)
}

// panicking is an instrument that panics at its first byte.
type panicking struct{}

func (panicking) Run(_ context.Context, conn link.Conn, _ drivers.Host) error {
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	var none *event.RadiationAlarm
	none.Sum++
	return nil
}

// A driver that panics is told as a fault, again and again, and its neighbour
// goes on undisturbed.
func TestAPanicStaysWithItsDevice(t *testing.T) {
	good, bad := newPortal(t), newPortal(t)
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://"+good.ln.Addr().String()))
	a := b.startWith(b)
	good.accept()
	good.say("GB,000400,000400,000400,000400")
	b.waitFor("lanepost.device.online.v1", 1)

	endpoint, err := link.Parse("tcp://"+bad.ln.Addr().String(), nil)
	require.NoError(t, err)
	worse := a.cfg.Devices()[0]
	worse.ID, worse.Endpoint = "rpm-2", endpoint
	worse.New = func() (drivers.Instrument, error) { return panicking{}, nil }
	a.addDevice(worse).start()
	for i := range 2 {
		bad.accept()
		_, err := bad.conn.Write([]byte("x"))
		require.NoError(t, err)
		fault := b.waitFor("lanepost.device.fault.v1", i+1)
		require.Equal(t, "/test/entry-1/rpm-2", fault.Source)
		good.tamper(i%2 == 0)
		b.waitFor("lanepost.radiation.tamper.v1", i+1)
	}
	require.NoError(t, b.stop())
	b.alternates(2)
	require.Empty(t, b.of("lanepost.device.offline.v1"))
	require.Contains(t, b.logged(), "nil pointer dereference")
}

// What can't be recorded is lost with a trace.
func TestUnrecordableObservation(t *testing.T) {
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://127.0.0.1:1"))
	sp, err := spool.Open(t.TempDir(), spool.Options{})
	require.NoError(t, err)
	defer sp.Close()
	a := &Agent{log: slog.New(slog.NewTextHandler(logBuffer{b}, nil)), site: "test", spool: sp, life: t.Context(), id: &identity{}, cfg: &config.Config{}}
	a.id.kept.Agent = "lane-1"
	a.checkpoints = newCheckpoints(a)
	err = a.record("/test/entry-1/rpm-1", drivers.Observation{Data: event.DeviceFault{Reason: string(make([]byte, spool.MaxRecord))}})
	require.ErrorIs(t, err, supervise.ErrUnrecordable)
	require.Contains(t, b.logged(), "event lost")
}

// The broker keeps the last state of a device that is no longer configured, so
// the agent remembers it over restarts.
func TestRemovedDevicesAreRemembered(t *testing.T) {
	dir := t.TempDir()
	id, previous, _, err := openIdentity(dir)
	require.NoError(t, err)
	require.Equal(t, "none", previous)
	require.NoError(t, id.know([]string{"/test/a/1", "/test/a/2", "/elsewhere/a/3"}))
	require.NoError(t, id.stopped())

	id, previous, _, err = openIdentity(dir)
	require.NoError(t, err)
	require.Equal(t, "clean", previous)
	a := &Agent{site: "test", id: id, cfg: &config.Config{}}
	require.Equal(t, []string{"/test/a/1", "/test/a/2"}, a.removed())
	for i := range 4 {
		var many []string
		for j := range maxKnownDevices / 2 {
			many = append(many, fmt.Sprintf("/test/b/%d-%d", i, j))
		}
		require.NoError(t, id.know(many))
	}
	require.Len(t, id.known(), maxKnownDevices)
	require.NotContains(t, id.known(), "/test/a/1", "the oldest go first")
}

// Two events that became durable together are printed in the order of their
// sequences.
func TestPrinterOrder(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out, slog.New(slog.DiscardHandler), spool.Stats{Urgent: spool.ClassStats{Head: 7}})
	p.add(event.Urgent, 10, []byte("u10"))
	p.add(event.Urgent, 9, []byte("u9"))
	p.add(event.Routine, 2, []byte("r2"))
	p.add(event.Urgent, 8, []byte("u8"))
	p.add(event.Routine, 1, []byte("r1"))
	p.close()
	require.Equal(t, "u8\nu9\nu10\nr1\nr2\n", out.String())
}

// Files of the spool that somebody deletes, and events that are lost by it, are problems.
func TestDeletedSegmentsAreAProblem(t *testing.T) {
	p := newPortal(t)
	dir := filepath.Join(t.TempDir(), "spool")
	b := newBench(t, writeConfig(t, dir, "tcp://"+p.ln.Addr().String()))
	a := b.startWith(b)
	p.accept()
	p.say(background)
	b.waitFor("lanepost.device.online.v1", 1)
	require.NotContains(t, strings.Join(problemsOf(a), "\n"), "deleted")
	segments, err := filepath.Glob(filepath.Join(dir, "urgent", "*.seg"))
	require.NoError(t, err)
	require.Len(t, segments, 1)
	require.NoError(t, os.Remove(segments[0]))
	p.tamper(true)
	b.waitFor("lanepost.radiation.tamper.v1", 1)
	require.Contains(t, strings.Join(problemsOf(a), "\n"), "somebody deleted files of the spool")
	require.NotContains(t, strings.Join(problemsOf(a), "\n"), "lost")
	require.NoError(t, a.recordOwn(event.AgentLoss{
		Priority: event.Routine, FirstSequence: event.FormatSequence(1), LastSequence: event.FormatSequence(3), Count: 3, Reason: "evicted",
	}))
	require.Contains(t, strings.Join(problemsOf(a), "\n"), "3 events were lost")
	require.NoError(t, b.stop())
}

// An agent that is ended again and again signs at each start, tells the time of its newest
// event where its sign of life is older, and with which event a chain begins anew that it
// can't go on with.
func TestWhatAStartTells(t *testing.T) {
	p := newPortal(t)
	dir := filepath.Join(t.TempDir(), "spool")
	path := writeConfig(t, dir, "tcp://"+p.ln.Addr().String())
	b := newBench(t, path)
	b.startWith(b)
	b.waitFor("lanepost.agent.checkpoint.v1", 1)
	require.NoError(t, b.stop())
	stopped := b.of("lanepost.agent.stopped.v1")[0]
	long := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(dir, identityFile), long, long))

	start := func() (d *event.AgentStarted, e event.Event) {
		b := newBench(t, path)
		b.startWith(b)
		e = b.waitFor("lanepost.agent.started.v1", 1)
		data, err := event.DecodeData(e)
		require.NoError(t, err)
		b.waitFor("lanepost.agent.checkpoint.v1", 1)
		require.NoError(t, b.stop())
		return data.(*event.AgentStarted), e
	}
	d, _ := start()
	require.False(t, d.LastAlive.Before(stopped.RecordedTime.Truncate(time.Millisecond)), "%s before %s", d.LastAlive, stopped.RecordedTime)
	require.Empty(t, d.UrgentAnew)

	segments, err := filepath.Glob(filepath.Join(dir, "urgent", "*.seg"))
	require.NoError(t, err)
	newest := segments[len(segments)-1]
	content, err := os.ReadFile(newest)
	require.NoError(t, err)
	content[len(content)-10] ^= 1
	require.NoError(t, os.WriteFile(newest, content, 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "urgent", "cursor")))
	d, e := start()
	require.Equal(t, e.Sequence, d.UrgentAnew)
	require.Equal(t, event.Hash{}.String(), e.PrevHash)
	require.Empty(t, d.RoutineAnew)
}
