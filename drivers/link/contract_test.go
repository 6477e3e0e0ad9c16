package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is how long something may take that happens at once, on a busy machine.
const soon = 2 * time.Second

// rig is a real instrument's side of one kind of link.
type rig struct {
	// connect is the URL by which the other side is reached. More options may be
	// appended to it after an &.
	connect string
	// meet returns the instrument's end of a link that was just opened.
	meet func(t *testing.T) far
	// replug connects the instrument anew after unplug or vanish.
	replug func(t *testing.T)
}

// far is the instrument's end.
type far struct {
	io.ReadWriter
	// vanish: the instrument's end is closed in good order.
	vanish func(t *testing.T)
	// unplug: the cable or the adapter is pulled.
	unplug func(t *testing.T)
}

func (r *rig) open(t *testing.T, options string) (Conn, far) {
	t.Helper()
	c := r.openAlone(t, options)
	return c, r.meet(t)
}

func (r *rig) openAlone(t *testing.T, options string) Conn {
	t.Helper()
	e, err := Parse(r.connect+options, nil)
	require.NoError(t, err)
	c, err := e.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// kinds of link, all under one contract. Linux adds the serial ones.
var kinds = map[string]func(t *testing.T) *rig{"tcp": tcpRig}

func eachKind(t *testing.T, test func(t *testing.T, r *rig)) {
	for name, build := range kinds {
		t.Run(name, func(t *testing.T) { test(t, build(t)) })
	}
}

func tcpRig(t *testing.T) *rig {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return &rig{
		connect: "tcp://" + l.Addr().String() + "?keepalive=20s",
		meet: func(t *testing.T) far {
			c, err := l.Accept()
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			return far{
				ReadWriter: c,
				vanish:     func(t *testing.T) { require.NoError(t, c.Close()) },
				unplug: func(t *testing.T) {
					require.NoError(t, c.(*net.TCPConn).SetLinger(0)) // a reset, as from a device that restarted
					require.NoError(t, c.Close())
				},
			}
		},
		replug: func(*testing.T) {},
	}
}

// background runs do and gives its result.
func background[T any](do func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- do() }()
	return result
}

func await[T any](t *testing.T, result <-chan T) T {
	t.Helper()
	select {
	case r := <-result:
		return r
	case <-time.After(10 * time.Second):
		require.FailNow(t, "still blocked")
		panic("unreachable")
	}
}

func readError(c Conn) error {
	n, err := c.Read(make([]byte, 64))
	if n != 0 || err == nil {
		return errors.New("the read succeeded")
	}
	return err
}

// settle gives a goroutine time to block. The tests hold without it as well,
// they then only try less.
func settle() { time.Sleep(30 * time.Millisecond) }

// every byte value, so that none is eaten or changed on the way.
func everyByte() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

func TestBytesTravelUnchanged(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		n, err := c.Write(everyByte())
		require.NoError(t, err)
		require.Equal(t, 256, n)
		got := make([]byte, 256)
		_, err = io.ReadFull(far, got)
		require.NoError(t, err)
		require.Equal(t, everyByte(), got)

		_, err = far.Write(everyByte())
		require.NoError(t, err)
		got = make([]byte, 256)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, everyByte(), got)
	})
}

func TestReadReturnsWhatIsThere(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		read := background(func() string {
			p := make([]byte, 64)
			n, err := c.Read(p)
			if err != nil {
				return err.Error()
			}
			return string(p[:n])
		})
		settle()
		_, err := far.Write([]byte("GB"))
		require.NoError(t, err)
		require.Equal(t, "GB", await(t, read))

		n, err := c.Read(nil)
		require.Zero(t, n)
		require.Error(t, err)
	})
}

func TestReadInPieces(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		_, err := far.Write([]byte("GB,000010\r\n"))
		require.NoError(t, err)
		var got []byte
		one := make([]byte, 1)
		for len(got) < 11 {
			n, err := c.Read(one)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			got = append(got, one[0])
		}
		require.Equal(t, "GB,000010\r\n", string(got))
	})
}

func TestReadDeadline(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")

		start := time.Now()
		require.NoError(t, c.SetReadDeadline(start.Add(70*time.Millisecond)))
		require.ErrorIs(t, readError(c), os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(start), 70*time.Millisecond)
		require.Less(t, time.Since(start), soon)

		// It stays passed.
		require.ErrorIs(t, readError(c), os.ErrDeadlineExceeded)

		// Taken away, it no longer counts, and nothing was lost.
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		_, err := far.Write([]byte("x"))
		require.NoError(t, err)
		p := make([]byte, 8)
		n, err := c.Read(p)
		require.NoError(t, err)
		require.Equal(t, "x", string(p[:n]))

		// Set by another goroutine, it ends the read that is under way.
		read := background(func() error { return readError(c) })
		settle()
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, await(t, read), os.ErrDeadlineExceeded)
	})
}

func TestCloseWhileReadBlocks(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, _ := r.open(t, "")
		read := background(func() error { return readError(c) })
		settle()
		start := time.Now()
		require.NoError(t, c.Close())
		require.ErrorIs(t, await(t, read), ErrClosed)
		took := time.Since(start)
		require.Less(t, took, soon)
		t.Logf("closed after %v", took)

		require.NoError(t, c.Close(), "again")
		require.ErrorIs(t, readError(c), ErrClosed)
		_, err := c.Write([]byte("x"))
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, c.SetReadDeadline(time.Now()), ErrClosed)
	})
}

// flood is more than all buffers between the two sides hold.
const flood = 64 << 20

func TestCloseWhileWriteBlocks(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		type result struct {
			n   int
			err error
		}
		bytes := make([]byte, flood)
		write := background(func() result {
			n, err := c.Write(bytes)
			return result{n, err}
		})
		_, err := io.ReadFull(far, make([]byte, 1)) // it has begun
		require.NoError(t, err)
		settle()
		start := time.Now()
		require.NoError(t, c.Close())
		got := await(t, write)
		require.ErrorIs(t, got.err, ErrClosed)
		require.Less(t, got.n, flood)
		require.Positive(t, got.n)
		require.Less(t, time.Since(start), soon)
		t.Logf("closed after %v, with %d bytes written", time.Since(start), got.n)
	})
}

func TestWriteTimeout(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, _ := r.open(t, "&write_timeout=150ms")
		start := time.Now()
		n, err := c.Write(make([]byte, flood))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Less(t, n, flood)
		require.Less(t, time.Since(start), 5*time.Second)
		t.Logf("ended after %v", time.Since(start))
	})
}

func TestGone(t *testing.T) {
	for _, how := range []struct {
		name string
		of   func(far far) func(*testing.T)
	}{
		{"unplugged", func(far far) func(*testing.T) { return far.unplug }},
		{"vanished", func(far far) func(*testing.T) { return far.vanish }},
	} {
		t.Run(how.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, r *rig) {
				c, far := r.open(t, "")
				read := background(func() error { return readError(c) })
				settle()
				start := time.Now()
				how.of(far)(t)
				err := await(t, read)
				require.ErrorIs(t, err, ErrUnplugged)
				require.NotErrorIs(t, err, ErrClosed)
				require.Less(t, time.Since(start), soon)
				require.NotEmpty(t, Hint(err))

				// It stays so, with and without a deadline, and for writes too. The
				// network may take a write or two before the news comes.
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
				require.ErrorIs(t, readError(c), ErrUnplugged)
				require.Eventually(t, func() bool {
					_, err := c.Write([]byte("x"))
					return errors.Is(err, ErrUnplugged)
				}, 5*time.Second, 5*time.Millisecond)

				// Then it comes back.
				require.NoError(t, c.Close())
				r.replug(t)
				again, far2 := r.open(t, "")
				_, err = far2.Write([]byte("back"))
				require.NoError(t, err)
				p := make([]byte, 4)
				_, err = io.ReadFull(again, p)
				require.NoError(t, err)
				require.Equal(t, "back", string(p))
			})
		})
	}
}

func TestGoneWhileWriteBlocks(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		write := background(func() error {
			_, err := c.Write(make([]byte, flood))
			return err
		})
		time.Sleep(200 * time.Millisecond)
		far.unplug(t)
		require.ErrorIs(t, await(t, write), ErrUnplugged)
	})
}

func TestBigDataBothWays(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		c, far := r.open(t, "")
		size := 1 << 20
		source := rand.NewChaCha8([32]byte{7})
		out, in := make([]byte, size), make([]byte, size)
		source.Read(out)
		source.Read(in)

		wrote := background(func() error { _, err := c.Write(out); return err })
		fed := background(func() error {
			// In uneven pieces, as instruments do.
			rest := in
			for i := 1; len(rest) > 0; i++ {
				n := min(1+i*37%1500, len(rest))
				if _, err := far.Write(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		})
		received := background(func() []byte {
			got := make([]byte, size)
			if _, err := io.ReadFull(far, got); err != nil {
				return []byte(err.Error())
			}
			return got
		})
		got := make([]byte, size)
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(in, got))
		require.NoError(t, await(t, wrote))
		require.NoError(t, await(t, fed))
		require.True(t, bytes.Equal(out, await(t, received)))
	})
}

// TestCloseAmidTraffic closes under reads and writes that are at work, over and
// over, for the race detector and for leaks of descriptors.
func TestCloseAmidTraffic(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		before := 0
		for round := range 60 {
			if round == 10 {
				before = openFiles(t)
			}
			e, err := Parse(r.connect, nil)
			require.NoError(t, err)
			c, err := e.Open(t.Context())
			require.NoError(t, err)
			far := r.meet(t)
			var side sync.WaitGroup
			side.Go(func() {
				p := make([]byte, 16)
				for {
					if _, err := c.Read(p); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			side.Go(func() {
				for {
					if _, err := c.Write(everyByte()); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			for range 5 {
				_, err := far.Write([]byte("GB,000010,000011\r\n"))
				require.NoError(t, err)
			}
			require.NoError(t, c.Close())
			side.Wait()
			r.finish(t, far)
		}
		require.LessOrEqual(t, openFiles(t), before+2)
	})
}

// finish ends the far end of a link that is done with, where each has its own.
func (r *rig) finish(t *testing.T, f far) {
	if c, ok := f.ReadWriter.(net.Conn); ok {
		require.NoError(t, c.Close())
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip("this system does not tell which files are open: ", err)
	}
	return len(entries)
}

func TestOpenStopped(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		e, err := Parse(r.connect, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c, err := e.Open(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, c)
	})
}

func TestTCPRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	e, err := Parse("tcp://"+address, nil)
	require.NoError(t, err)
	c, err := e.Open(t.Context())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Nil(t, c)
	require.ErrorContains(t, err, address)
	require.Contains(t, Hint(err), "takes no connection: check the port number")
}

// TestTCPLastWords: what was sent before the end is read before the end.
func TestTCPLastWords(t *testing.T) {
	c, far := tcpRig(t).open(t, "")
	_, err := far.Write([]byte("GX,000123\r\n"))
	require.NoError(t, err)
	far.vanish(t)
	p := make([]byte, 64)
	n, err := c.Read(p)
	require.NoError(t, err)
	require.Equal(t, "GX,000123\r\n", string(p[:n]))
	require.ErrorIs(t, readError(c), ErrUnplugged)
}

// TestTCPConnectTimeout dials into a full queue: nothing answers, as with an
// instrument that hangs.
func TestTCPConnectTimeout(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	port := name.(*syscall.SockaddrInet4).Port
	e, err := Parse("tcp://127.0.0.1?connect_timeout=200ms", map[string]string{"port": itoa(port)})
	require.NoError(t, err)
	for range 8 {
		start := time.Now()
		c, err := e.Open(t.Context())
		if err == nil {
			defer c.Close()
			continue // the queue has still room
		}
		require.Less(t, time.Since(start), soon)
		require.Contains(t, Hint(err), "no answer from 127.0.0.1:")
		return
	}
	require.FailNow(t, "the queue never filled")
}

func itoa(n int) string {
	var digits []byte
	for ; n > 0; n /= 10 {
		digits = append(digits, byte('0'+n%10))
	}
	slices.Reverse(digits)
	return string(digits)
}
