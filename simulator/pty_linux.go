package simulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// users knows whether a program has a pseudo-terminal open, by inotify: the
// master side alone can't tell, since the simulator itself holds the slave side
// open.
type users struct {
	events *os.File

	mu       sync.Mutex
	open     int
	sessions int
	closed   bool
	changed  chan struct{} // closed and replaced at each change

	running sync.WaitGroup
}

func watchUsers(path string, came, went func()) (*users, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch who opens %s: %w; the limit fs.inotify.max_user_instances may be reached", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN|unix.IN_CLOSE); err != nil {
		return nil, errors.Join(fmt.Errorf("watch who opens %s: %w", path, err), events.Close())
	}
	u := &users{events: events, changed: make(chan struct{})}
	u.running.Go(func() { u.follow(came, went) })
	return u, nil
}

func (u *users) follow(came, went func()) {
	buf := make([]byte, 4096)
	for {
		n, err := u.events.Read(buf)
		if err != nil {
			return // closed
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			mask := binary.NativeEndian.Uint32(buf[at+4:])
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
			switch {
			case mask&unix.IN_OPEN != 0:
				u.change(1, came)
			case mask&unix.IN_CLOSE != 0:
				u.change(-1, went)
			}
		}
	}
}

func (u *users) change(by int, tell func()) {
	u.mu.Lock()
	before := u.open
	u.open = max(0, u.open+by)
	first, last := before == 0 && u.open == 1, before == 1 && u.open == 0
	if first {
		u.sessions++
	}
	close(u.changed)
	u.changed = make(chan struct{})
	u.mu.Unlock()
	if first || last {
		tell()
	}
}

func (u *users) present() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open > 0
}

func (u *users) session() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions
}

func (u *users) wait(ctx context.Context) error {
	for {
		u.mu.Lock()
		open, closed, changed := u.open > 0, u.closed, u.changed
		u.mu.Unlock()
		if open {
			return nil
		}
		if closed {
			return net.ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (u *users) close() error {
	u.mu.Lock()
	u.closed = true
	close(u.changed)
	u.changed = make(chan struct{})
	u.mu.Unlock()
	err := u.events.Close()
	u.running.Wait()
	return err
}

// resetLine throws away what nobody has read, and lifts the exclusive use that
// a program may have left behind when it was killed.
func resetLine(fd int) error {
	return errors.Join(unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH), unix.IoctlSetInt(fd, unix.TIOCNXCL, 0))
}

// queued is how many bytes wait on the slave side.
func queued(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCINQ) }
