package link

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const n81 = "?baud=115200&data=8&parity=none&stop=1"

func init() {
	for _, backend := range []string{bugst, goserial} {
		kinds["serial/"+backend] = func(t *testing.T) *rig { return serialRig(t, backend) }
	}
}

// pair is a pseudo-terminal: master is the instrument, slave is the port, held
// open as an adapter's driver would hold it.
type pair struct{ master, slave *os.File }

func newPair(t *testing.T) pair {
	master, slave, err := pty.Open()
	require.NoError(t, err)
	_, err = term.MakeRaw(int(slave.Fd()))
	require.NoError(t, err)
	t.Cleanup(func() {
		master.Close()
		slave.Close()
	})
	return pair{master, slave}
}

// serialRig is a port under a lasting name, as udev makes it in
// /dev/serial/by-id.
func serialRig(t *testing.T, backend string) *rig {
	name := filepath.Join(t.TempDir(), "usb-FTDI_0001-if00-port0")
	p := newPair(t)
	require.NoError(t, os.Symlink(p.slave.Name(), name))
	return &rig{
		connect: "serial:" + name + n81 + "&backend=" + backend,
		meet: func(t *testing.T) far {
			return far{
				ReadWriter: p.master,
				vanish:     func(t *testing.T) { require.NoError(t, p.master.Close()) },
				unplug:     func(t *testing.T) { hangUp(t, p.slave) },
			}
		},
		replug: func(t *testing.T) {
			p = newPair(t)
			require.NoError(t, os.Remove(name))
			require.NoError(t, os.Symlink(p.slave.Name(), name))
		},
	}
}

// hangUp does what the kernel does when a USB adapter is pulled.
func hangUp(t *testing.T, slave *os.File) {
	err := unix.IoctlSetInt(int(slave.Fd()), unix.TIOCVHANGUP, 0)
	if errors.Is(err, unix.EPERM) && os.Getenv("CI") != "true" {
		t.Skip("hanging up a terminal takes CAP_SYS_ADMIN")
	}
	require.NoError(t, err)
}

func eachBackend(t *testing.T, test func(t *testing.T, backend string)) {
	for backend := range backends {
		t.Run(backend, func(t *testing.T) { test(t, backend) })
	}
}

func openSerial(t *testing.T, connect string) (Conn, error) {
	t.Helper()
	e, err := Parse(connect, nil)
	require.NoError(t, err)
	c, err := e.Open(t.Context())
	if err != nil {
		require.Nil(t, c)
		return nil, err
	}
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, nil
}

// TestSerialLineIsSet reads the line back from the other descriptor of the
// pseudo-terminal. Its driver keeps speed, stop bits and the sense of the parity,
// and always clears the parity enable bit and sets eight data bits.
func TestSerialLineIsSet(t *testing.T) {
	for _, c := range []struct {
		settings      string
		baud          uint32
		odd, inpck    bool
		twoStop, mark bool
	}{
		{"baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st", 19200, true, true, false, false},
		{"baud=9600&data=7&parity=even&stop=2&backend=go.bug.st", 9600, false, true, true, false},
		{"baud=1200&data=8&parity=none&stop=2&backend=go.bug.st", 1200, false, false, true, false},
		{"baud=14400&data=8&parity=none&stop=1&backend=go.bug.st", 14400, false, false, false, false},
		{"baud=250000&data=8&parity=mark&stop=1&backend=go.bug.st", 250000, true, true, false, true},
		{"baud=4800&data=8&parity=space&stop=1&backend=go.bug.st", 4800, false, true, false, true},
		{"baud=2400&data=8&parity=none&stop=1&backend=goserial", 2400, false, false, false, false},
		{"baud=115200&data=8&parity=none&stop=1&backend=goserial", 115200, false, false, false, false},
	} {
		t.Run(c.settings, func(t *testing.T) {
			p := newPair(t)
			_, err := openSerial(t, "serial:"+p.slave.Name()+"?"+c.settings)
			require.NoError(t, err)
			got, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS2)
			require.NoError(t, err)
			require.Equal(t, c.baud, got.Ispeed)
			require.Equal(t, c.baud, got.Ospeed)
			require.Equal(t, c.odd, got.Cflag&unix.PARODD != 0, "odd")
			require.Equal(t, c.inpck, got.Iflag&unix.INPCK != 0, "parity checked")
			require.Equal(t, c.mark, got.Cflag&unix.CMSPAR != 0, "mark or space")
			require.Equal(t, c.twoStop, got.Cflag&unix.CSTOPB != 0, "two stop bits")
			require.Zero(t, got.Cflag&unix.CRTSCTS, "flow control")
			require.Zero(t, got.Iflag&(unix.IXON|unix.IXOFF|unix.ICRNL|unix.INLCR|unix.IGNCR|unix.ISTRIP), "input untouched")
			require.Zero(t, got.Oflag&unix.OPOST, "output untouched")
			require.Zero(t, got.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG), "raw")
		})
	}
}

// TestSerialLineNotTaken: a driver that leaves out a setting without an error is
// found out, pseudo-terminals aside.
func TestSerialLineNotTaken(t *testing.T) {
	want := line{baud: 19200, data: 8, parity: "odd", stop: 1}
	good := unix.Termios{Cflag: unix.CS8 | unix.PARENB | unix.PARODD | unix.CREAD | unix.CLOCAL, Ospeed: 19200}
	for _, c := range []struct {
		name   string
		change func(*unix.Termios)
		says   string
	}{
		{"as asked", func(*unix.Termios) {}, ""},
		{"rounded", func(t *unix.Termios) { t.Ospeed = 19230 }, ""},
		{"too slow", func(t *unix.Termios) { t.Ospeed = 9600 }, "the driver made 9600 of baud=19200"},
		{"hung", func(t *unix.Termios) { t.Ospeed = 0 }, "made 0 of"},
		{"seven bits", func(t *unix.Termios) { t.Cflag = t.Cflag&^unix.CSIZE | unix.CS7 }, "did not set data=8"},
		{"no parity", func(t *unix.Termios) { t.Cflag &^= unix.PARENB }, "did not set parity=odd"},
		{"even", func(t *unix.Termios) { t.Cflag &^= unix.PARODD }, "did not set parity=odd"},
		{"mark", func(t *unix.Termios) { t.Cflag |= unix.CMSPAR }, "did not set parity=odd"},
		{"two stop bits", func(t *unix.Termios) { t.Cflag |= unix.CSTOPB }, "did not set stop=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := good
			c.change(&got)
			err := want.taken(&got, false)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
			require.Contains(t, Hint(err), "cannot do these line settings")
		})
	}
	none := line{baud: 19200, data: 8, parity: "none", stop: 1}
	require.NoError(t, none.taken(&unix.Termios{Cflag: unix.CS8 | unix.PARODD, Ospeed: 19200}, false), "the sense of no parity is nothing")
	require.Error(t, none.taken(&good, false))
	require.NoError(t, want.taken(&unix.Termios{Cflag: unix.CS8, Ospeed: 19200}, true), "pseudo-terminal")
	require.Error(t, want.taken(&unix.Termios{Cflag: unix.CS8, Ospeed: 9600}, true))
}

// TestSerialDropsStaleBytes: what came in before the port was opened, perhaps at
// another speed, is not read.
func TestSerialDropsStaleBytes(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		p := newPair(t)
		_, err := p.master.WriteString("half a rec")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			n, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ)
			return err == nil && n == 10
		}, soon, time.Millisecond)
		c, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&backend="+backend)
		require.NoError(t, err)
		_, err = p.master.WriteString("GB")
		require.NoError(t, err)
		got := make([]byte, 64)
		n, err := c.Read(got)
		require.NoError(t, err)
		require.Equal(t, "GB", string(got[:n]))
	})
}

// TestSerialIsExclusive: of two links to one port, under whatever name and by
// whatever backend, the second is refused, and it is let in once the first is
// closed.
func TestSerialIsExclusive(t *testing.T) {
	eachBackend(t, func(t *testing.T, first string) {
		eachBackend(t, func(t *testing.T, second string) {
			r := serialRig(t, first)
			c, f := r.open(t, "")
			device, err := filepath.EvalSymlinks(strings.TrimPrefix(strings.SplitN(r.connect, "?", 2)[0], "serial:"))
			require.NoError(t, err)
			other := "serial:" + device + n81 + "&backend=" + second

			_, err = openSerial(t, other)
			require.ErrorIs(t, err, unix.EBUSY)
			require.Contains(t, Hint(err), device+" is in use by ")
			require.Contains(t, Hint(err), "(pid ")

			// The first does not notice.
			_, err = f.Write([]byte("GB"))
			require.NoError(t, err)
			p := make([]byte, 8)
			n, err := c.Read(p)
			require.NoError(t, err)
			require.Equal(t, "GB", string(p[:n]))

			require.NoError(t, c.Close())
			_, err = openSerial(t, other)
			require.NoError(t, err)
		})
	})
}

// TestSerialLeavesNoLock: neither a killed process nor a closed link keeps a
// pseudo-terminal, which lives on, from being opened again.
func TestSerialLeavesNoLock(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		p := newPair(t)
		exclusive := func() int {
			is, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCGEXCL)
			require.NoError(t, err)
			return is
		}
		c, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&backend="+backend)
		require.NoError(t, err)
		require.Zero(t, exclusive(), "what a kill would leave")

		// As it is on a port of metal.
		require.NoError(t, unix.IoctlSetInt(int(p.slave.Fd()), unix.TIOCEXCL, 0))
		require.Equal(t, 1, exclusive())
		require.NoError(t, c.Close())
		require.Zero(t, exclusive())
	})
}

func TestSerialRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	eachBackend(t, func(t *testing.T, backend string) {
		for _, c := range []struct {
			path string
			is   error
			hint string
		}{
			{"/dev/null", unix.ENOTTY, "/dev/null is no serial port"},
			{file, unix.ENOTTY, file + " is no serial port"},
			{filepath.Dir(file), unix.EISDIR, ""},
			{"/dev/serial/by-id/nothing", fs.ErrNotExist, "there is no /dev/serial/by-id/nothing"},
			{file + "/x", unix.ENOTDIR, ""},
		} {
			t.Run(c.path, func(t *testing.T) {
				_, err := openSerial(t, "serial:"+c.path+n81+"&backend="+backend)
				require.ErrorIs(t, err, c.is)
				require.ErrorContains(t, err, c.path)
				require.Contains(t, Hint(err), c.hint)
			})
		}
	})
}

// TestSerialNeverSilently8N1: each backend's table is asked behind the parser's
// back too.
func TestSerialNeverSilently8N1(t *testing.T) {
	p := newPair(t)
	_, err := openGoserial(p.slave.Name(), line{baud: 14400, data: 8, parity: "none", stop: 1})
	require.Error(t, err)
	e := &serialEndpoint{path: p.slave.Name(), backend: goserial, line: line{baud: 14400, data: 8, parity: "none", stop: 1}, writeTimeout: time.Second}
	c, err := e.Open(t.Context())
	require.Error(t, err)
	require.Nil(t, c)
}

// TestSerialManyFiles: with more than 1024 files open, go.bug.st cannot read. It
// says so when it opens, and goserial works.
func TestSerialManyFiles(t *testing.T) {
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < 1200 {
		t.Skip("only ", limit.Cur, " files may be open")
	}
	p := newPair(t)
	for range 1100 {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
	}
	_, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&backend="+bugst)
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorContains(t, err, bugst)

	c, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&backend="+goserial)
	require.NoError(t, err)
	_, err = p.master.WriteString("GB")
	require.NoError(t, err)
	got := make([]byte, 8)
	n, err := c.Read(got)
	require.NoError(t, err)
	require.Equal(t, "GB", string(got[:n]))
}

// TestSerialWriteAfterTimeout: after a write that the instrument did not take,
// the port works on, and bytes that had not left do not come late.
func TestSerialWriteAfterTimeout(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		p := newPair(t)
		c, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&write_timeout=100ms&backend="+backend)
		require.NoError(t, err)
		taken, err := c.Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Less(t, taken, 1<<20)

		// Some were already with the instrument. It takes those, then the rest.
		got := make([]byte, 1<<20)
		n, err := p.master.Read(got)
		require.NoError(t, err)
		_, err = c.Write([]byte("Q\r\n"))
		require.NoError(t, err)
		for !strings.HasSuffix(string(got[:n]), "Q\r\n") {
			m, err := p.master.Read(got[n:])
			require.NoError(t, err)
			n += m
		}
		require.Less(t, n, taken, "what the kernel still held was dropped")
		require.Empty(t, strings.Trim(string(got[:n-3]), "\x00"))
	})
}

// TestSerialWriteStuckInTheKernel: a driver may have room for less than it is
// given, and the backend then waits where no deadline reaches it. A pseudo-terminal
// does that only for more bytes than Write hands over at once.
func TestSerialWriteStuckInTheKernel(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, c := range []struct {
			name    string
			timeout string
			end     func(t *testing.T, c Conn, p pair)
			want    error
		}{
			{"timeout", "150ms", func(*testing.T, Conn, pair) {}, os.ErrDeadlineExceeded},
			{"close", "1m", func(t *testing.T, c Conn, _ pair) { require.NoError(t, c.Close()) }, ErrClosed},
			{"unplug", "1m", func(t *testing.T, _ Conn, p pair) { hangUp(t, p.slave) }, unix.EIO},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := newPair(t)
				conn, err := openSerial(t, "serial:"+p.slave.Name()+n81+"&write_timeout="+c.timeout+"&backend="+backend)
				require.NoError(t, err)
				s := conn.(*serialConn)
				write := background(func() error {
					var err error
					wait := s.raw.Write(func(fd uintptr) bool {
						_, err = s.writeReady(int(fd), make([]byte, 1<<18))
						return true
					})
					return errors.Join(err, wait)
				})
				select {
				case err := <-write:
					require.Failf(t, "it did not block", "%v", err)
				case <-time.After(100 * time.Millisecond):
				}
				start := time.Now()
				c.end(t, conn, p)
				require.ErrorIs(t, await(t, write), c.want)
				require.Less(t, time.Since(start), 5*time.Second)
				t.Logf("ended after %v", time.Since(start))
			})
		}
	})
}
