package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	goserialport "github.com/tarm/goserial"
	bugstport "go.bug.st/serial"
	"golang.org/x/sys/unix"
)

const (
	// writeChunk is how many bytes are handed to the driver once it says that it
	// has room. Linux says so with fewer than 256 bytes waiting, and the buffers
	// of serial drivers hold more than 512, so a chunk seldom waits in the kernel.
	writeChunk = 256
	// freeEvery is how often a write that waits in the kernel is freed again
	// until it comes back.
	freeEvery = 10 * time.Millisecond
	// emptyReads is how often a port may be readable and give nothing before it
	// counts as unplugged. Once can be chance: somebody flushed it just then.
	emptyReads = 3
	// goserialTimeout is the shortest read timeout that goserial has. Only a
	// read that finds less than the port promised ever waits for it.
	goserialTimeout = 100 * time.Millisecond
)

// backends open a port, set its line, and then read and write it. They never
// wait: serialConn calls Read and Write only when the port is ready.
var backends = map[string]func(path string, l line) (io.ReadWriteCloser, error){
	bugst:    openBugst,
	goserial: openGoserial,
}

func openBugst(path string, l line) (p io.ReadWriteCloser, err error) {
	port, err := bugstport.Open(path, &bugstport.Mode{
		BaudRate: l.baud,
		DataBits: l.data,
		Parity: map[string]bugstport.Parity{
			"none": bugstport.NoParity, "odd": bugstport.OddParity, "even": bugstport.EvenParity,
			"mark": bugstport.MarkParity, "space": bugstport.SpaceParity,
		}[l.parity],
		StopBits: map[int]bugstport.StopBits{1: bugstport.OneStopBit, 2: bugstport.TwoStopBits}[l.stop],
	})
	if err != nil {
		return nil, err
	}
	if err := port.SetReadTimeout(0); err != nil {
		return nil, errors.Join(err, port.Close())
	}
	// It reads by select(2), which has no room for descriptors from 1024 on: Read
	// then panics. Better here than later.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, errors.Join(fmt.Errorf("too many files are open in this process for backend %s: %w", bugst, unix.EMFILE), port.Close())
		}
	}()
	// Reading nothing always ends in an error that says nothing.
	_, _ = port.Read(nil)
	return port, nil
}

func openGoserial(path string, l line) (io.ReadWriteCloser, error) {
	port, err := goserialport.OpenPort(&goserialport.Config{Name: path, Baud: l.baud, ReadTimeout: goserialTimeout})
	if err != nil {
		return nil, err
	}
	// For a baud that it does not know it returns neither.
	if port == nil {
		return nil, fmt.Errorf("%w: backend %s cannot do baud=%d", errLineSettings, goserial, l.baud)
	}
	return port, nil
}

// Open opens the port for this process alone, sets its line, checks that the
// driver took it, and drops what the port received before.
//
// Opening can wait in the kernel, behind another program's last bytes for
// instance. When ctx ends first, the port is closed as soon as it is open.
func (e *serialEndpoint) Open(ctx context.Context) (Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening %s: %w", e.path, err)
	}
	type opened struct {
		conn *serialConn
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		c, err := e.open()
		done <- opened{c, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return o.conn, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				_ = o.conn.Close() // nobody is left to tell
			}
		}()
		return nil, fmt.Errorf("opening %s: %w", e.path, ctx.Err())
	}
}

func (e *serialEndpoint) open() (_ *serialConn, err error) {
	// Once, so that the guard and the backend open the same device while somebody
	// is changing plugs.
	device, err := filepath.EvalSymlinks(e.path)
	if err != nil {
		// It may name only the first folder that is missing.
		var missing *fs.PathError
		if errors.As(err, &missing) {
			err = missing.Err
		}
		return nil, fmt.Errorf("opening serial port: %w", &fs.PathError{Op: "open", Path: e.path, Err: err})
	}
	fail := func(op string, err error) error {
		return fmt.Errorf("opening serial port %s: %w", e.path, &fs.PathError{Op: op, Path: device, Err: err})
	}
	guard, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening serial port %s: %w", e.path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, guard.Close())
		}
	}()
	raw, err := guard.SyscallConn()
	if err != nil {
		return nil, fail("open", err)
	}
	// Does fn with the guard's descriptor.
	do := func(op string, fn func(fd int) error) error {
		var err error
		if ctl := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); ctl != nil {
			err = ctl
		}
		if err != nil {
			return fail(op, err)
		}
		return nil
	}
	var pty bool
	if err := do("ask", func(fd int) error {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS2); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		pty = unix.Major(st.Rdev) >= 136 && unix.Major(st.Rdev) <= 143 // Unix98 pseudo-terminals
		return err
	}); err != nil {
		return nil, err
	}
	if err := do("lock", func(fd int) error {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return unix.EBUSY
		}
		return err
	}); err != nil {
		return nil, err
	}
	port, err := backends[e.backend](device, e.line)
	if err != nil {
		return nil, fail("open", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, port.Close())
		}
	}()
	if err := do("set line", func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
		if err != nil {
			return err
		}
		return e.line.taken(t, pty)
	}); err != nil {
		return nil, err
	}
	if err := do("prepare", func(fd int) error {
		// TIOCEXCL keeps out programs that know no flock. It lasts until the last
		// descriptor is closed, and the maker of a pseudo-terminal may keep one: an
		// agent that was killed could then never open it again.
		exclusive := uint(unix.TIOCEXCL)
		if pty {
			exclusive = unix.TIOCNXCL
		}
		if err := unix.IoctlSetInt(fd, exclusive, 0); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	}); err != nil {
		return nil, err
	}
	return &serialConn{
		device: device, guard: guard, raw: raw, port: port,
		writeTimeout: e.writeTimeout, closing: make(chan struct{}),
	}, nil
}

// maxBaudError is how far the driver's speed may be from what was asked for, in
// per cent. A serial receiver stands about 4 % between both ends.
const maxBaudError = 3

// taken compares what the driver says that it set with l: it may leave out what
// its chip cannot do without an error, and a line without its parity bit reads
// as garbage. A pseudo-terminal has no line; it keeps only the speed.
func (l line) taken(t *unix.Termios, pty bool) error {
	if diff := int(t.Ospeed) - l.baud; 100*max(diff, -diff) > maxBaudError*l.baud {
		return fmt.Errorf("%w: the driver made %d of baud=%d", errLineSettings, t.Ospeed, l.baud)
	}
	if pty {
		return nil
	}
	data := map[int]uint32{5: unix.CS5, 6: unix.CS6, 7: unix.CS7, 8: unix.CS8}[l.data]
	parity := map[string]uint32{
		"odd":   unix.PARENB | unix.PARODD,
		"even":  unix.PARENB,
		"mark":  unix.PARENB | unix.PARODD | unix.CMSPAR,
		"space": unix.PARENB | unix.CMSPAR,
	}[l.parity]
	parityMask := uint32(unix.PARENB)
	if parity != 0 {
		parityMask |= unix.PARODD | unix.CMSPAR
	}
	stop := map[int]uint32{2: unix.CSTOPB}[l.stop]
	for _, s := range []struct {
		name       string
		mask, want uint32
	}{
		{fmt.Sprintf("data=%d", l.data), unix.CSIZE, data},
		{"parity=" + l.parity, parityMask, parity},
		{fmt.Sprintf("stop=%d", l.stop), unix.CSTOPB, stop},
	} {
		if t.Cflag&s.mask != s.want {
			return fmt.Errorf("%w: the driver did not set %s", errLineSettings, s.name)
		}
	}
	return nil
}

// serialConn is an open serial port.
//
// Neither backend can be left alone with a wait: closing goserial under a read
// hangs, closing go.bug.st under a write leaves the write where it is, and both
// tell an unplugged adapter by the same result as something harmless. So the
// waiting is done by guard, a second descriptor of the same port, in Go's own
// poller, and the backend is called once the port is ready. Hence deadlines are
// exact, Close ends a wait at once, a waiting link costs no thread, and the
// backend's descriptor is never closed while the backend uses it.
type serialConn struct {
	device string
	guard  *os.File
	raw    syscall.RawConn // of guard
	port   io.ReadWriteCloser

	writeTimeout time.Duration
	writing      sync.Mutex
	close        sync.Once
	closing      chan struct{} // closed when Close begins
}

// ready asks, without waiting, whether the port is in the state of events, or
// unplugged: then the backend is called too, to find it out.
func ready(fd int, events int16) (bool, error) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0, err
	}
}

func (c *serialConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, errEmptyRead
	}
	var n int
	var err error
	wait := c.raw.Read(func(fd uintptr) bool {
		n, err = c.readReady(int(fd), p)
		return n > 0 || err != nil
	})
	if n > 0 {
		return n, nil
	}
	return 0, c.failed("read", errors.Join(err, wait))
}

// readReady reads what is there; 0, nil means nothing.
func (c *serialConn) readReady(fd int, p []byte) (int, error) {
	for range emptyReads {
		ok, err := ready(fd, unix.POLLIN)
		if !ok || err != nil {
			return 0, err
		}
		n, err := c.port.Read(p)
		if n > 0 {
			return n, nil
		}
		// A timeout is (0, nil) or EOF, an unplugged adapter is EOF or PortClosed.
		if err != nil && !errors.Is(err, io.EOF) && !isPortClosed(err) {
			return 0, err
		}
	}
	// Readable and empty: so it stays when the adapter is gone.
	return 0, ErrUnplugged
}

func isPortClosed(err error) bool {
	var pe *bugstport.PortError
	return errors.As(err, &pe) && pe.Code() == bugstport.PortClosed
}

// Write hands p to the driver in small pieces. A piece that the driver does not
// take within the write timeout ends the write, and what has not gone out is
// dropped: late bytes could be the wrong command at the wrong time.
func (c *serialConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for written < len(p) {
		n, err := c.writePiece(p[written:min(written+writeChunk, len(p))])
		written += n
		if err != nil {
			return written, c.failed("write", err)
		}
	}
	return written, nil
}

func (c *serialConn) writePiece(p []byte) (int, error) {
	if err := c.guard.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	var n int
	var err error
	wait := c.raw.Write(func(fd uintptr) bool {
		var ok bool
		if ok, err = ready(int(fd), unix.POLLOUT); ok && err == nil {
			n, err = c.writeReady(int(fd), p)
		}
		return ok || err != nil
	})
	if errors.Is(wait, os.ErrDeadlineExceeded) {
		// A descriptor that was closed meanwhile has nothing left to drop.
		_ = c.raw.Control(func(fd uintptr) { drop(int(fd)) })
	}
	return n, errors.Join(err, wait)
}

// writeReady writes through the backend, which waits in the kernel if the driver
// had less room than p needs. It is freed by dropping what the driver holds.
func (c *serialConn) writeReady(fd int, p []byte) (int, error) {
	done := make(chan struct{})
	freed := make(chan error, 1)
	go func() {
		timeout := time.NewTimer(c.writeTimeout)
		defer timeout.Stop()
		var reason error
		select {
		case <-done:
			freed <- nil
			return
		case <-c.closing:
			reason = ErrClosed
		case <-timeout.C:
			reason = os.ErrDeadlineExceeded
		}
		for {
			drop(fd)
			select {
			case <-done:
				freed <- reason
				return
			case <-time.After(freeEvery):
			}
		}
	}()
	n, err := 0, error(nil)
	for n < len(p) && err == nil {
		var m int
		m, err = c.port.Write(p[n:])
		n += m
		if errors.Is(err, unix.EINTR) {
			err = nil
		} else if m == 0 && err == nil {
			err = io.ErrShortWrite
		}
	}
	close(done)
	if reason := <-freed; reason != nil {
		// What this piece had handed over was dropped.
		return 0, reason
	}
	return n, err
}

// drop discards what the driver has not sent and wakes a writer that waits for
// room. It ignores errors: on an unplugged port there is nothing to discard, and
// its writers wake by themselves.
func drop(fd int) {
	_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH)
	// Not every driver wakes the writer of a flushed buffer; setting the line to
	// what it is makes the kernel wake it.
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS2); err == nil {
		_ = unix.IoctlSetTermios(fd, unix.TCSETS2, t)
	}
}

func (c *serialConn) SetReadDeadline(t time.Time) error {
	if err := c.guard.SetReadDeadline(t); err != nil {
		return c.failed("set the read deadline of", err)
	}
	return nil
}

func (c *serialConn) Close() error {
	var err error
	c.close.Do(func() {
		close(c.closing)
		// Fails on an unplugged port, which nobody will miss.
		_ = c.raw.Control(func(fd uintptr) { _ = unix.IoctlSetInt(int(fd), unix.TIOCNXCL, 0) })
		// Ends the waits, and returns when no read or write uses the port any more.
		err = c.guard.Close()
		err = errors.Join(err, c.port.Close())
	})
	if err != nil {
		return &fs.PathError{Op: "close", Path: c.device, Err: err}
	}
	return nil
}

// failed maps errors to those of a Conn.
func (c *serialConn) failed(op string, err error) error {
	select {
	case <-c.closing:
		err = ErrClosed
	default:
		for _, g := range []error{unix.EIO, unix.ENXIO, unix.ENODEV} {
			if errors.Is(err, g) {
				err = fmt.Errorf("%w: %w", ErrUnplugged, err)
				break
			}
		}
	}
	return &fs.PathError{Op: op, Path: c.device, Err: err}
}
