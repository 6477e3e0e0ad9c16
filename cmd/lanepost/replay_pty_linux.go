package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// ptySettle is how long a program that has opened the terminal gets to set it up.
	ptySettle = 250 * time.Millisecond
	// ptyPoll is how often it is looked whether the terminal was read empty.
	ptyPoll = 10 * time.Millisecond
)

// pseudoTerminal is a serial line whose other end a program opens like a serial port.
type pseudoTerminal struct {
	master, slave *os.File
	path          string
	symlink       string
	watch         *os.File // tells of those who open it
}

// openPseudoTerminal makes one, with a symbolic link to it if path is not empty.
func openPseudoTerminal(path string) (_ line, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	p := &pseudoTerminal{master: os.NewFile(uintptr(fd), "pseudo-terminal")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open a pseudo-terminal: %w", err), p.close())
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	p.path = fmt.Sprintf("/dev/pts/%d", number)
	// Held open, so that its settings and what is in it stay.
	if p.slave, err = os.OpenFile(p.path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	if _, err := term.MakeRaw(int(p.slave.Fd())); err != nil {
		return nil, err
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	p.watch = os.NewFile(uintptr(watch), "watch of "+p.path)
	if _, err := unix.InotifyAddWatch(watch, p.path, unix.IN_OPEN); err != nil {
		return nil, err
	}
	if path != "" {
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink == 0 {
			return nil, fmt.Errorf("%s is there and is no symbolic link; give another path", path)
		}
		_ = os.Remove(path) // an older link; the next line tells what is wrong
		if err := os.Symlink(p.path, path); err != nil {
			return nil, err
		}
		p.symlink = path
	}
	go func() { _, _ = io.Copy(io.Discard, p.master) }() // what a client writes, or the terminal would fill
	return p, nil
}

func (p *pseudoTerminal) where() string {
	if p.symlink != "" {
		return "serial:" + p.symlink
	}
	return "serial:" + p.path
}

func (p *pseudoTerminal) parts() bool { return false }

// client waits until a program opens the terminal.
func (p *pseudoTerminal) client(ctx context.Context) (io.WriteCloser, error) {
	b := make([]byte, 4096)
	if _, err := p.watch.Read(b); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("wait for a program that opens %s: %w", p.path, err)
	}
	if err := pause(ctx, ptySettle); err != nil {
		return nil, err
	}
	return terminalClient{p}, nil
}

// terminalClient is the line to the program that has the terminal open. A serial line has no
// connection that could end: where the recording has one, it goes on.
type terminalClient struct{ p *pseudoTerminal }

func (t terminalClient) Write(b []byte) (int, error)         { return t.p.master.Write(b) }
func (t terminalClient) SetWriteDeadline(at time.Time) error { return t.p.master.SetWriteDeadline(at) }

// Close waits until what was written has been read: closing a pseudo-terminal throws away
// what is in it.
func (t terminalClient) Close() error {
	for end := time.Now().Add(serveLinger); time.Now().Before(end); time.Sleep(ptyPoll) {
		n, err := unix.IoctlGetInt(int(t.p.slave.Fd()), unix.TIOCINQ)
		if err != nil {
			return err
		}
		if n == 0 {
			time.Sleep(5 * ptyPoll) // what is on its way to the reader
			return nil
		}
	}
	return errors.New("the program that opened it does not read")
}

func (p *pseudoTerminal) close() error {
	if p.symlink != "" {
		if to, err := os.Readlink(p.symlink); err == nil && to == p.path {
			_ = os.Remove(p.symlink) // a stale one is replaced
		}
	}
	var err error
	for _, f := range []*os.File{p.watch, p.master, p.slave} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
