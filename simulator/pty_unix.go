//go:build linux || darwin

package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Times of a pseudo-terminal.
const (
	// settle is how long a program that has opened the terminal gets to set it
	// up, and perhaps to throw away what it finds, before the first byte of a
	// stream that waited for it.
	settle = 250 * time.Millisecond
	// drainPoll is how often the terminal's queue is looked at before it is
	// closed, drainQuiet how often in a row it must be empty, and drainStuck
	// after how long without any progress it is closed all the same.
	drainPoll  = 10 * time.Millisecond
	drainQuiet = 5
	drainStuck = 5 * time.Second
)

// terminal is a link on a pseudo-terminal: a serial line whose other end a
// program opens like a serial port.
type terminal struct {
	log     *slog.Logger
	event   func(string)
	master  *os.File
	slave   *os.File // held open, so that its settings and its queue stay
	path    string
	symlink string
	users   *users

	mu          sync.Mutex
	silentUntil time.Time
	settled     int // the session that has had its time to settle
	closed      bool

	abandoned chan struct{} // closed when nobody waits for the client any more
	abandon   sync.Once
	running   sync.WaitGroup
}

func openTerminal(symlink string, log *slog.Logger, event func(string)) (link, error) {
	ptmx, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	path := slave.Name()
	master, err := nonblocking(ptmx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a pseudo-terminal: %w", err), slave.Close())
	}
	t := &terminal{log: log, event: event, master: master, slave: slave, path: path, symlink: symlink, abandoned: make(chan struct{})}
	fail := func(err error) (link, error) {
		return nil, errors.Join(err, master.Close(), slave.Close())
	}
	// Raw before anybody opens it: no echo, no translation of line ends.
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil {
		return fail(fmt.Errorf("set %s raw: %w", path, err))
	}
	if symlink != "" {
		if err := pointTo(symlink, path); err != nil {
			return fail(err)
		}
	}
	if t.users, err = watchUsers(path, t.came, t.went); err != nil {
		return fail(err)
	}
	// Whatever a client writes is read and forgotten, or the terminal would fill.
	t.running.Go(func() { _, _ = io.Copy(io.Discard, t.master) })
	return t, nil
}

// nonblocking gives the master side to the runtime's poller, so that deadlines
// hold and Close wakes a blocked read.
func nonblocking(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd), f.Close())
	}
	return os.NewFile(uintptr(fd), f.Name()), f.Close()
}

// pointTo makes a symbolic link, in place of an older one but of nothing else.
func pointTo(symlink, path string) error {
	if info, err := os.Lstat(symlink); err == nil {
		if info.Mode()&os.ModeSymlink == 0 {
			return fmt.Errorf("%s is no symbolic link; remove it or give another path for the pseudo-terminal", symlink)
		}
		if err := os.Remove(symlink); err != nil {
			return fmt.Errorf("replace the symbolic link to the pseudo-terminal: %w", err)
		}
	}
	if err := os.Symlink(path, symlink); err != nil {
		return fmt.Errorf("make the symbolic link to the pseudo-terminal: %w", err)
	}
	return nil
}

func (t *terminal) came() { t.event("connected") }

// went clears the line for the next program, as closing a serial port does.
func (t *terminal) went() {
	if err := resetLine(int(t.slave.Fd())); err != nil {
		t.log.Warn("clear the pseudo-terminal", "path", t.path, "error", err)
	}
	t.event("disconnected")
}

func (t *terminal) send(_ context.Context, b []byte) (bool, error) {
	t.mu.Lock()
	silent := time.Now().Before(t.silentUntil)
	t.mu.Unlock()
	if silent || !t.users.present() {
		return false, nil
	}
	if err := t.master.SetWriteDeadline(time.Now().Add(stalledAfter)); err != nil {
		return false, fmt.Errorf("write to %s: %w", t.path, err)
	}
	_, err := t.master.Write(b)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.log.Info("nobody reads the pseudo-terminal; bytes lost", "path", t.path)
		return false, nil
	}
	return false, fmt.Errorf("write to %s: %w", t.path, err)
}

// breakOff makes the line silent: a serial line has no connection to break.
func (t *terminal) breakOff(down time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.silentUntil = time.Now().Add(down)
	return nil
}

func (t *terminal) client(ctx context.Context) error {
	for {
		if err := t.users.wait(ctx); err != nil {
			return err
		}
		session := t.users.session()
		if t.settled == session {
			return nil
		}
		pause := time.NewTimer(settle)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
		if t.users.present() && t.users.session() == session {
			t.settled = session
			return nil
		}
	}
}

func (t *terminal) session() int { return t.users.session() }

func (t *terminal) connect() string {
	if t.symlink != "" {
		return "serial:" + t.symlink
	}
	return "serial:" + t.path
}

func (t *terminal) close(drain bool) error {
	if !drain {
		t.abandon.Do(func() { close(t.abandoned) })
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	if drain {
		t.drain()
	}
	var errs []error
	if t.symlink != "" {
		if to, err := os.Readlink(t.symlink); err == nil && to == t.path {
			errs = append(errs, os.Remove(t.symlink))
		}
	}
	errs = append(errs, t.users.close(), t.master.Close(), t.slave.Close())
	t.running.Wait()
	return errors.Join(errs...)
}

// drain waits until the client has read everything: closing a pseudo-terminal
// throws away what is still in it.
func (t *terminal) drain() {
	left, since := -1, time.Now()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for quiet := 0; quiet < drainQuiet && t.users.present(); {
		select {
		case <-poll.C:
		case <-t.abandoned:
			return
		}
		n, err := queued(int(t.slave.Fd()))
		if err != nil {
			t.log.Warn("look into the pseudo-terminal", "path", t.path, "error", err)
			return
		}
		if n == 0 {
			quiet++
			continue
		}
		quiet = 0
		if n != left {
			left, since = n, time.Now()
		}
		if time.Since(since) > drainStuck {
			t.log.Warn("the client of the pseudo-terminal does not read; bytes lost", "path", t.path, "bytes", n)
			return
		}
	}
}
