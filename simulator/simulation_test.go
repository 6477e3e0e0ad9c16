package simulator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const minute = `
name: minute
seed: 4
duration: 1m
lanes:
  - id: l
    devices:
      - id: d
        model: tsa-portal
    traffic:
      vehicles:
        - {kind: truck, arrive: 8s, length: 12, speed: 12, gamma: {cps: 8000}}
        - {kind: car, arrive: 40s}
`

func dial(t *testing.T, connect string) net.Conn {
	t.Helper()
	address, ok := strings.CutPrefix(connect, "tcp://")
	require.True(t, ok, connect)
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestSpeedsGiveTheSameBytes plays one scenario as fast as possible over TCP,
// and on the clock at several speeds, and compares with Generate.
func TestSpeedsGiveTheSameBytes(t *testing.T) {
	want, wantTruth := generated(t, minute)
	wantTruth.Links = nil

	sim := Start(t, MustParse(t, minute))
	got, err := io.ReadAll(dial(t, sim.Devices()[0].Connect))
	require.NoError(t, err)
	require.NoError(t, sim.Wait())
	require.Equal(t, joined(want), string(got))
	truth := sim.Truth()
	truth.Links = nil
	require.Equal(t, wantTruth, truth)

	for _, speed := range []float64{0.5, 1, 20, 1000} {
		synctest.Test(t, func(t *testing.T) {
			ln := NewPipeListener()
			sim := Start(t, MustParse(t, minute), Options{Speed: speed, Wait: true, Listeners: map[string]net.Listener{"l/d": ln}})
			require.Equal(t, "tcp://pipe", sim.Devices()[0].Connect)
			time.Sleep(time.Hour) // it waits for its first client
			conn, err := ln.Dial(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			start := time.Now()
			in := bufio.NewReader(conn)
			var got bytes.Buffer
			for _, c := range want {
				line, err := in.ReadBytes('\n')
				require.NoError(t, err)
				got.Write(line)
				require.InDelta(t, c.At.Seconds()/speed, time.Since(start).Seconds(), 1e-5)
			}
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, joined(want), got.String())
			require.NoError(t, sim.Wait())
			truth := sim.Truth()
			truth.Links = nil
			require.Equal(t, wantTruth, truth)
		})
	}
}

// TestServe plays onto one end of a pipe on simulated time.
func TestServe(t *testing.T) {
	want, _ := generated(t, minute)
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var truth bytes.Buffer
		done := make(chan error, 1)
		go func() {
			done <- Serve(t.Context(), MustParse(t, minute), "l/d", far, Options{Speed: 1, Truth: &truth})
			_ = far.Close()
		}()
		start := time.Now()
		got, err := io.ReadAll(near)
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.Equal(t, joined(want), string(got))
		require.InDelta(t, 60, time.Since(start).Seconds(), 0.01)
		told, err := ReadTruth(&truth)
		require.NoError(t, err)
		require.Len(t, told.Occupancies, 2)
		require.Len(t, told.Vehicles, 2)
	})
}

func TestServeEnds(t *testing.T) {
	s := MustParse(t, minute)
	require.ErrorContains(t, Serve(t.Context(), s, "l/x", io.Discard, Options{}), `no device "l/x"`)
	require.ErrorContains(t, Serve(t.Context(), s, "l/d", io.Discard, Options{Speed: -1}), "speed")

	near, far := net.Pipe()
	require.NoError(t, near.Close())
	require.ErrorIs(t, Serve(t.Context(), s, "l/d", far, Options{}), ErrDisconnected)

	ctx, cancel := context.WithCancel(t.Context())
	near, far = net.Pipe()
	defer near.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	require.ErrorIs(t, Serve(ctx, s, "l/d", far, Options{}), context.Canceled, "while nobody reads")

	broken := MustParse(t, minute+"    faults: [{kind: disconnect, at: 20s}]\n")
	near, far = net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, near) }()
	require.ErrorIs(t, Serve(t.Context(), broken, "l/d", far, Options{}), ErrDisconnected)
	_, err := far.Write([]byte{1})
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// TestOneClientAtATime: as with the real controllers.
func TestOneClientAtATime(t *testing.T) {
	sim := Start(t, MustParse(t, minute), Options{Speed: 1})
	connect := sim.Devices()[0].Connect
	first := dial(t, connect)
	waitFor(t, sim, "connected", 1)
	// The reset may come so early that connecting fails already.
	if second, err := net.Dial("tcp", strings.TrimPrefix(connect, "tcp://")); err == nil {
		require.NoError(t, second.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, err := second.Read(make([]byte, 1))
		require.Zero(t, n)
		require.Error(t, err)
		require.False(t, isTimeout(err), "refused at once: %v", err)
		require.NoError(t, second.Close())
	}
	waitFor(t, sim, "refused", 1)
	require.NoError(t, first.Close())
	waitFor(t, sim, "disconnected", 1)
	_ = dial(t, connect)
	waitFor(t, sim, "connected", 2)
	require.NoError(t, sim.Close())
	require.NoError(t, sim.Close(), "twice does no harm")
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func waitFor(t *testing.T, sim *Simulation, what string, times int) {
	t.Helper()
	require.Eventually(t, func() bool {
		n := 0
		for _, l := range sim.Truth().Links {
			if l.What == what {
				n++
			}
		}
		return n == times
	}, 5*time.Second, time.Millisecond, what)
}

// TestLostWithoutAClient: on the clock, what falls due while nobody is there is
// gone, and the truth says so.
func TestLostWithoutAClient(t *testing.T) {
	want, _ := generated(t, minute)
	synctest.Test(t, func(t *testing.T) {
		ln := NewPipeListener()
		sim := Start(t, MustParse(t, minute), Options{Speed: 1, Listeners: map[string]net.Listener{"l/d": ln}})
		start := time.Now()
		read := func(from, to time.Duration) string {
			time.Sleep(time.Until(start.Add(from)))
			conn, err := ln.Dial(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetReadDeadline(start.Add(to)))
			b, err := io.ReadAll(conn)
			if err != nil {
				require.True(t, isTimeout(err), "%v", err)
			}
			return string(b)
		}
		// The first vehicle is there from 8 s to 14 s.
		a := read(3*time.Second+time.Microsecond, 10*time.Second+time.Microsecond)
		b := read(11*time.Second+time.Microsecond, 61*time.Second)
		var wantA, wantB bytes.Buffer
		lost := 0
		for _, c := range want {
			switch {
			case c.At > 3*time.Second && c.At <= 10*time.Second:
				wantA.Write(c.Bytes)
			case c.At > 11*time.Second:
				wantB.Write(c.Bytes)
			default:
				lost++
			}
		}
		require.Equal(t, wantA.String(), a)
		require.Equal(t, wantB.String(), b)
		require.NoError(t, sim.Wait())
		truth := sim.Truth()
		require.False(t, truth.Occupancies[0].Intact())
		require.True(t, truth.Occupancies[1].Intact())
		told := 0
		for _, l := range truth.Links {
			told += l.Records
		}
		require.Equal(t, lost, told)
		for _, x := range truth.Occupancies[0].Touched {
			require.Equal(t, "no-client", x.Fault)
		}
	})
}

// TestBreaksOnTheClock: the connection goes, comers are refused for a while,
// and then somebody gets the rest.
func TestBreaksOnTheClock(t *testing.T) {
	yaml := minute + "    faults: [{kind: disconnect, at: 10s, for: 5s}, {kind: join-mid-record, at: 20s}]\n"
	want, _ := generated(t, yaml)
	synctest.Test(t, func(t *testing.T) {
		ln := NewPipeListener()
		sim := Start(t, MustParse(t, yaml), Options{Speed: 1, Wait: true, Listeners: map[string]net.Listener{"l/d": ln}})
		start := time.Now()
		var got bytes.Buffer
		refused := 0
		for {
			conn, err := ln.Dial(t.Context())
			if err != nil {
				break // the scenario is over
			}
			n, err := io.Copy(&got, conn)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			if n == 0 {
				refused++
				time.Sleep(100 * time.Millisecond)
			}
		}
		require.InDelta(t, 60, time.Since(start).Seconds(), 1)
		require.InDelta(t, 50, refused, 3)
		require.Equal(t, joined(want), got.String())
		require.NoError(t, sim.Wait())
	})
}

// TestAsFastAsPossibleLosesNothing, whoever comes and goes.
func TestAsFastAsPossibleLosesNothing(t *testing.T) {
	s := MustParse(t, strings.Replace(minute, "duration: 1m", "duration: 30m", 1)+`
    faults: [{kind: power-cycle, every: 3m}, {kind: disconnect, every: 2m}, {kind: slow, every: 2m}]
`)
	streams, _, err := Generate(s)
	require.NoError(t, err)
	sim := Start(t, s)
	var got bytes.Buffer
	sessions := 0
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(sim.Devices()[0].Connect, "tcp://"))
		if err != nil {
			break
		}
		_, err = io.Copy(&got, conn)
		_ = conn.Close()
		if err != nil {
			continue // refused: the one before was still there
		}
		sessions++
	}
	require.NoError(t, sim.Wait())
	require.Greater(t, sessions, 15)
	require.Equal(t, joined(streams["l/d"]), got.String())
	for _, l := range sim.Truth().Links {
		require.Zero(t, l.Records)
	}
}

func TestTruthIsWrittenAndToldAsItHappens(t *testing.T) {
	var mu sync.Mutex
	var lines bytes.Buffer
	var told []Entry
	sim := Start(t, MustLoad(t, "back-to-back"), Options{
		Truth:   writerFunc(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return lines.Write(b) }),
		OnTruth: func(e Entry) { mu.Lock(); defer mu.Unlock(); told = append(told, e) },
	})
	_, err := io.Copy(io.Discard, dial(t, sim.Devices()[0].Connect))
	require.NoError(t, err)
	require.NoError(t, sim.Wait())
	mu.Lock()
	defer mu.Unlock()
	read, err := ReadTruth(&lines)
	require.NoError(t, err)
	require.Equal(t, sim.Truth(), read)
	require.Len(t, read.Entries(), len(told))
	for _, e := range told {
		require.NotEmpty(t, e.String())
	}

	failing := Start(t, MustParse(t, minute), Options{Truth: writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite })})
	_, err = io.Copy(io.Discard, dial(t, failing.Devices()[0].Connect))
	require.NoError(t, err)
	require.ErrorIs(t, failing.Wait(), io.ErrShortWrite)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestReadTruthRefusesNonsense(t *testing.T) {
	for text, want := range map[string]string{
		"{":                                     "line 1 of the truth",
		`{"kind":"weather"}`:                    `"weather" is no kind of entry`,
		`{"kind":"vehicle","vehicle":"twelve"}`: "line 1 of the truth",
	} {
		_, err := ReadTruth(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
}

func TestEndings(t *testing.T) {
	s := MustParse(t, minute)
	sim, err := New(s, Options{})
	require.NoError(t, err)
	require.NoError(t, sim.Wait(), "not started")
	require.NoError(t, sim.Close())
	require.ErrorContains(t, sim.Start(t.Context()), "the simulation was closed before")
	require.NoError(t, sim.Wait())
	require.Empty(t, sim.Devices())

	sim, err = New(s, Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, sim.Start(ctx))
	require.Error(t, sim.Start(ctx))
	cancel()
	require.NoError(t, sim.Wait(), "the end of its context is no failure")

	// A port that is taken.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	sim, err = New(s, Options{Listen: map[string]string{"l/d": "tcp://" + ln.Addr().String()}})
	require.NoError(t, err)
	err = sim.Start(t.Context())
	require.ErrorContains(t, err, "l/d: listen on tcp://"+ln.Addr().String())
	require.NoError(t, sim.Close())

	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Speed: -2}, "speed"},
		{Options{Listen: map[string]string{"d": "tcp://127.0.0.1:0"}}, `no device "d"`},
		{Options{Listen: map[string]string{"l/d": "udp://x"}}, "want tcp://HOST:PORT"},
		{Options{Listeners: map[string]net.Listener{"x": ln}}, `no device "x"`},
	} {
		_, err := New(s, c.o)
		require.ErrorContains(t, err, c.want)
	}
}

// recorder is a TB that notes what a test would see.
type recorder struct {
	*testing.T
	failed string
}

type stopTest struct{}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = format
	panic(stopTest{})
}

func TestHelpersFailTheTest(t *testing.T) {
	for name, f := range map[string]func(r *recorder){
		"load":  func(r *recorder) { MustLoad(r, "no-such") },
		"parse": func(r *recorder) { MustParse(r, "name: x") },
		"start": func(r *recorder) { Start(r, &Scenario{}) },
		"speed": func(r *recorder) { Start(r, MustParse(t, minute), Options{Speed: -1}) },
	} {
		r := &recorder{T: t}
		require.PanicsWithValue(t, stopTest{}, func() { f(r) }, name)
		require.NotEmpty(t, r.failed)
	}
}
