package tee

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; only a failing test waits so long.
const patience = 30 * time.Second

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t *testing.T, s Settings) (*Tee, *logged) {
	t.Helper()
	if s.Address == "" {
		s.Address = "127.0.0.1:0"
	}
	log := &logged{}
	tee, err := Open(s, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tee.Close()) })
	return tee, log
}

// attach connects and waits until it is attached.
func attach(t *testing.T, tee *Tee) *net.TCPConn {
	t.Helper()
	before := tee.Stats().Attached
	c := dial(t, tee)
	require.Eventually(t, func() bool { return tee.Stats().Attached > before }, patience, time.Millisecond)
	return c
}

func dial(t *testing.T, tee *Tee) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tee.Addr().(*net.TCPAddr).Port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// read takes exactly n bytes.
func read(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	return string(b)
}

// Everybody gets every byte as it was read, however it was cut and whatever it is.
func TestManyClientsGetTheSameBytes(t *testing.T) {
	tee, _ := open(t, Settings{Clients: MaxClients})
	const size = 200 << 10
	want := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(want)

	var sums sync.Map
	var readers sync.WaitGroup
	for i := range MaxClients {
		c := attach(t, tee)
		readers.Go(func() {
			h := sha256.New()
			_, err := io.CopyN(h, c, size)
			sums.Store(i, fmt.Sprintf("%x %v", h.Sum(nil), err))
		})
	}
	cut := rand.New(random)
	for rest := want; len(rest) > 0; {
		n := min(1+cut.IntN(5000), len(rest))
		piece := bytes.Clone(rest[:n])
		tee.Received(piece)
		clear(piece) // a tee must not keep what it is lent
		rest = rest[n:]
	}
	readers.Wait()
	for i := range MaxClients {
		got, _ := sums.Load(i)
		require.Equal(t, fmt.Sprintf("%x <nil>", sha256.Sum256(want)), got, "client %d", i)
	}
	require.Equal(t, Stats{Clients: MaxClients, Attached: MaxClients}, tee.Stats())
}

// One that does not read is dropped, alone, and nothing waits for it.
func TestSlowReaderIsDropped(t *testing.T) {
	tee, log := open(t, Settings{})
	slow, good := attach(t, tee), attach(t, tee)
	require.NoError(t, slow.SetReadBuffer(4<<10))
	chunk := bytes.Repeat([]byte("GS,000063,000058,000051,000078\r\n"), 1024)
	sent := 0
	for tee.Stats().Slow == 0 {
		tee.Received(chunk)
		require.Equal(t, string(chunk), read(t, good, len(chunk)))
		sent += len(chunk)
		require.Less(t, sent, 64<<20, "the slow one was never dropped")
	}
	require.Greater(t, sent, queueBytes)
	require.Equal(t, Stats{Clients: 1, Attached: 2, Slow: 1}, tee.Stats())
	require.Contains(t, log.String(), "does not keep up")
	require.Contains(t, log.String(), slow.LocalAddr().String())
	// The dropped one sees that its stream was broken off.
	_, err := io.Copy(io.Discard, slow)
	require.ErrorContains(t, err, "reset")
	tee.Received([]byte("NB"))
	require.Equal(t, "NB", read(t, good, 2))
}

// What a client sends is thrown away, however much; and one that only ends its own
// side goes on reading.
func TestClientsAreNotHeard(t *testing.T) {
	tee, _ := open(t, Settings{})
	c := attach(t, tee)
	for range 64 {
		_, err := c.Write(make([]byte, 64<<10))
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseWrite())
	tee.Received([]byte("GB\r\n"))
	require.Equal(t, "GB\r\n", read(t, c, 4))
	require.Equal(t, 1, tee.Stats().Clients)
}

// At the end of the link those who got something are closed once they have all; one
// that waits for the first byte stays.
func TestPartedClosesWhoGotSomething(t *testing.T) {
	tee, _ := open(t, Settings{})
	reading := attach(t, tee)
	tee.Received([]byte("GS,0000"))
	waits := attach(t, tee)
	tee.Parted()
	tee.Received([]byte("51,000078\r\n")) // of the next link
	got, err := io.ReadAll(reading)
	require.NoError(t, err)
	require.Equal(t, "GS,0000", string(got), "halves of records are never joined")
	require.Equal(t, "51,000078\r\n", read(t, waits, 11))
	require.Eventually(t, func() bool { return tee.Stats().Clients == 1 }, patience, time.Millisecond)
}

func TestWhoMayAttach(t *testing.T) {
	refused := func(t *testing.T, tee *Tee, n int64, why string, log *logged) {
		t.Helper()
		_, err := dial(t, tee).Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, n, tee.Stats().Refused)
		// It is said after the connection is closed.
		require.Eventually(t, func() bool { return strings.Contains(log.String(), why) }, patience, time.Millisecond, why)
	}
	t.Run("not on the list", func(t *testing.T) {
		tee, log := open(t, Settings{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.3.0/24")}})
		for i := range int64(3) {
			refused(t, tee, i+1, "its address is not in allow", log)
		}
		require.Equal(t, 1, strings.Count(log.String(), "refused"), "the log is not filled")
		require.Zero(t, tee.Stats().Attached)
	})
	t.Run("on the list", func(t *testing.T) {
		tee, _ := open(t, Settings{Address: "0.0.0.0:0", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		c := attach(t, tee)
		tee.Received([]byte("x"))
		require.Equal(t, "x", read(t, c, 1))
	})
	t.Run("too many", func(t *testing.T) {
		tee, log := open(t, Settings{Clients: 2})
		first := attach(t, tee)
		attach(t, tee)
		refused(t, tee, 1, "2 clients are attached", log)
		// One that hung up makes room for the next, also while the device is silent.
		require.NoError(t, first.Close())
		require.Eventually(t, func() bool {
			tee.mu.Lock()
			defer tee.mu.Unlock()
			for c := range tee.clients {
				if c.finished {
					return true
				}
			}
			return false
		}, patience, time.Millisecond)
		third := attach(t, tee)
		tee.Received([]byte("x"))
		require.Equal(t, "x", read(t, third, 1))
		require.Equal(t, 2, tee.Stats().Clients)
	})
	t.Run("the address is taken", func(t *testing.T) {
		tee, _ := open(t, Settings{})
		_, err := Open(Settings{Address: tee.Addr().String()}, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "tee: listen tcp "+tee.Addr().String())
	})
}

// Close gives what waits, and does not wait long for one that takes nothing. goleak
// sees whether something stays.
func TestCloseEndsEverything(t *testing.T) {
	tee, _ := open(t, Settings{})
	good, stuck := attach(t, tee), attach(t, tee)
	require.NoError(t, stuck.SetReadBuffer(4<<10))
	var sent int
	for tee.Stats().Slow == 0 && sent < 512<<10 { // fills the buffers of the one that is stuck
		chunk := make([]byte, 32<<10)
		tee.Received(chunk)
		read(t, good, len(chunk))
		sent += len(chunk)
	}
	tee.Received([]byte("the last"))
	require.NoError(t, tee.Close())
	require.Equal(t, "the last", read(t, good, 8))
	_, err := good.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, tee.Stats().Clients)
	tee.Received([]byte("nobody hears it"))
	tee.Parted()
	require.NoError(t, tee.Close())
	_, err = net.Dial("tcp", tee.Addr().String())
	require.Error(t, err)
}

// Clients that come and go while bytes flow.
func TestComingAndGoing(t *testing.T) {
	tee, _ := open(t, Settings{Clients: 8})
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				tee.Received([]byte("NB,000000,000000,000000,000000\r\n"))
				time.Sleep(50 * time.Microsecond) // as a device does, so that nobody is too slow
			}
		}
	})
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for range 20 {
				c, err := net.Dial("tcp", tee.Addr().String())
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, err = io.CopyN(io.Discard, c, 320)
				if err != nil && tee.Stats().Refused == 0 { // those that left are noticed a little later
					t.Errorf("read: %v", err)
				}
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	close(stop)
	running.Wait()
}
