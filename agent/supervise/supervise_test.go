package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// pipeEndpoint hands one end of a pipe to the supervisor and the other to the
// test, at each opening. It stands in for TCP because a pipe obeys the fake
// clock of synctest; the real links are tested in drivers/link.
type pipeEndpoint struct {
	mu     sync.Mutex
	refuse error
	opened []time.Time
	device chan net.Conn
}

func (e *pipeEndpoint) Scheme() string { return "tcp" }
func (e *pipeEndpoint) String() string { return "tcp://portal.test:1600" }

func (e *pipeEndpoint) Open(context.Context) (link.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened = append(e.opened, time.Now())
	if e.refuse != nil {
		return nil, e.refuse
	}
	a, d := net.Pipe()
	e.device <- d
	return pipeConn{a}, nil
}

func (e *pipeEndpoint) setRefuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse = err
}

func (e *pipeEndpoint) openings() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]time.Time(nil), e.opened...)
}

type pipeConn struct{ net.Conn }

func (c pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = link.ErrUnplugged
	}
	return n, err
}

// lineInstrument is a small real instrument: each line is a record; "ok" lines
// are valid, "emit X" lines are observations, "panic" panics, others are
// unparsed. What it still holds at the end it emits, as a driver must.
type lineInstrument struct{ made int }

func (l *lineInstrument) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	defer func() {
		_ = h.Emit(drivers.Observation{Data: diagnostic("held"), Time: h.Now()})
	}()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
				continue
			}
			return err
		}
		line = strings.TrimSpace(line)
		switch {
		case line == "panic":
			panic("division by a portal")
		case line == "ok":
			h.Valid()
		case strings.HasPrefix(line, "emit "):
			h.Valid()
			if err := h.Emit(drivers.Observation{Data: diagnostic(line[5:]), Time: h.Now()}); err != nil {
				return err
			}
		case line == "keep":
			if err := h.Emit(drivers.Observation{Data: event.DeviceUnparsed{Count: 1, Total: 1}, Time: h.Now()}); err != nil {
				return err
			}
		default:
			h.Unparsed("not a record", []byte(line))
		}
	}
}

func diagnostic(s string) event.RadiationDiagnostic { return event.RadiationDiagnostic{Kind: s} }

// bench is one supervised device in a test.
type bench struct {
	*Supervisor
	end    *pipeEndpoint
	mu     sync.Mutex
	events []event.Data
	times  []time.Time // of the events
	made   int
	block  chan struct{} // Emit waits for it when set
	slow   time.Duration // and takes so long
	cancel context.CancelFunc
	done   chan struct{}
}

func start(t *testing.T, silence time.Duration) *bench {
	b := &bench{end: &pipeEndpoint{device: make(chan net.Conn, 100)}, done: make(chan struct{})}
	b.Supervisor = New(Device{
		Lane: "entry-1", ID: "rpm-1", Profile: "test", Endpoint: b.end, Silence: silence,
		New: func() (drivers.Instrument, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.made++
			return &lineInstrument{made: b.made}, nil
		},
	}, Hooks{
		Emit: func(o drivers.Observation) error {
			b.mu.Lock()
			block, slow := b.block, b.slow
			b.mu.Unlock()
			time.Sleep(slow)
			if block != nil {
				<-block
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events, b.times = append(b.events, o.Data), append(b.times, o.Time)
			return nil
		},
		Changed: func() {},
		Log:     slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	go func() {
		defer close(b.done)
		b.Run(ctx)
	}()
	return b
}

func (b *bench) stop() {
	b.cancel()
	<-b.done
}

// refuse makes the disk take no events until the channel is closed.
func (b *bench) refuse() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.block = make(chan struct{})
	return b.block
}

// said lists the events so far, shortly.
func (b *bench) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, d := range b.events {
		s := strings.TrimSuffix(strings.TrimPrefix(d.Type(), "lanepost."), ".v1")
		if d, ok := d.(event.RadiationDiagnostic); ok {
			s = d.Kind
		}
		list = append(list, s)
	}
	return list
}

func send(t *testing.T, c net.Conn, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(c, format+"\n", args...)
	require.NoError(t, err)
	synctest.Wait()
}

func TestOnlineOnlyWithValidData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		synctest.Wait()
		require.Equal(t, "connecting", b.State().State, "an open socket is not health")
		send(t, dev, "gibberish")
		require.Equal(t, "connecting", b.State().State)
		send(t, dev, "emit first")
		require.Equal(t, "online", b.State().State)
		require.Equal(t, []string{"device.online", "first"}, b.said(), "online is said before what follows")
		b.stop()
		require.Equal(t, []string{"device.online", "first", "held", "device.unparsed"}, b.said())
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Equal(t, "online", b.State().State)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, "silent", b.State().State)
		require.Equal(t, []string{"device.online", "device.silent", "held"}, b.said())

		// It connects again; a silence that goes on is not said twice.
		dev = <-b.end.device
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"device.online", "device.silent", "held"}, b.said()[:3])
		require.NotContains(t, b.said()[3:], "device.silent")
		_ = dev
		for len(b.end.device) > 0 {
			<-b.end.device
		}
		dev = <-b.end.device // just opened, so it stays open for the silence limit
		send(t, dev, "ok")
		require.Equal(t, "online", b.State().State)
		b.mu.Lock()
		online := b.events[len(b.events)-1].(event.DeviceOnline)
		b.mu.Unlock()
		require.Greater(t, *online.AbsentS, 60.0)
		b.stop()
	})
}

func TestSilenceNamesBytesThatMakeNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		for range 12 {
			send(t, dev, "~~~~")
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b.stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, d := range b.events {
			if s, ok := d.(event.DeviceSilent); ok {
				require.Positive(t, s.BytesSince)
				require.Contains(t, s.Hint, "another instrument answers there")
				return
			}
		}
		t.Fatal("bytes that make no record kept the device from being silent")
	})
}

func TestSlowDiskIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		disk := b.refuse()
		send(t, dev, "emit waits")
		time.Sleep(unreadAfter - time.Millisecond)
		synctest.Wait()
		require.Equal(t, "online", b.State().State)
		close(disk)
		synctest.Wait()
		require.Equal(t, []string{"device.online", "waits"}, b.said())
		// What the device said meanwhile is still to be read.
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Equal(t, "online", b.State().State)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, "silent", b.State().State)
		b.stop()
	})
}

func TestOfflineIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		b.end.setRefuse(errors.New("connection refused"))
		require.NoError(t, dev.Close())
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"device.online", "held", "device.offline"}, b.said())
		require.Equal(t, "offline", b.State().State)
		require.Contains(t, b.State().Detail, "connection refused")

		// The pauses grow, stay bounded, and differ.
		at := b.end.openings()
		var longest time.Duration
		pauses := map[time.Duration]bool{}
		for i := 2; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			pauses[pause] = true
			longest = max(longest, pause)
		}
		require.LessOrEqual(t, longest, backoffMax*3/2)
		require.Greater(t, longest, backoffMax/3)
		require.Greater(t, len(pauses), len(at)/2, "without jitter all lanes of a crossing come back at once")

		b.end.setRefuse(nil)
		dev = <-b.end.device
		send(t, dev, "ok")
		require.Equal(t, "online", b.State().State)
		b.stop()
	})
}

func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		send(t, dev, "panic")
		require.Equal(t, []string{"device.online", "held", "device.fault"}, b.said())
		require.Equal(t, "fault", b.State().State)
		require.Contains(t, b.State().Detail, "division by a portal")
		dev = <-b.end.device
		send(t, dev, "ok")
		require.Equal(t, "online", b.State().State)
		b.stop()
		require.Equal(t, 2, b.made, "an instrument that panicked must not be used again")
	})
}

func TestPanicInNewIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := &pipeEndpoint{device: make(chan net.Conn, 1)}
		var events []event.Data
		s := New(Device{
			Endpoint: end, Silence: time.Second,
			New: func() (drivers.Instrument, error) { panic("no memory of it") },
		}, Hooks{
			Emit:    func(o drivers.Observation) error { events = append(events, o.Data); return nil },
			Changed: func() {}, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Run(ctx)
		require.IsType(t, event.DeviceFault{}, events[0])
	})
}

// deafInstrument ignores its context and the read deadline.
type deafInstrument struct{ release chan struct{} }

func (d deafInstrument) Run(context.Context, link.Conn, drivers.Host) error {
	<-d.release
	return errors.New("released")
}

func TestDeafDriverDoesNotHoldUpTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := &pipeEndpoint{device: make(chan net.Conn, 1)}
		release := make(chan struct{})
		s := New(Device{
			Endpoint: end, Silence: time.Hour,
			New: func() (drivers.Instrument, error) { return deafInstrument{release}, nil },
		}, Hooks{
			Emit:    func(drivers.Observation) error { return nil },
			Changed: func() {}, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		<-end.device
		synctest.Wait()
		began := time.Now()
		cancel()
		<-done
		require.LessOrEqual(t, time.Since(began), 2*stopGrace)
		close(release)
	})
}

func TestUnparsedIsRateLimitedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, time.Hour)
		dev := <-b.end.device
		go func() { _, _ = io.Copy(io.Discard, dev) }()
		for range 600 {
			send(t, dev, "%s", strings.Repeat("x", 2000))
			time.Sleep(time.Second)
		}
		b.stop()
		var count int64
		var events int
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, d := range b.events {
			if u, ok := d.(event.DeviceUnparsed); ok {
				events++
				count += u.Count
				require.LessOrEqual(t, len(u.Samples), unparsedSamples)
				require.Equal(t, 2000, u.Samples[0].Raw.Size)
				require.Len(t, u.Samples[0].Raw.Text, unparsedBytes)
				require.True(t, u.Samples[0].Raw.Truncated)
			}
		}
		require.Equal(t, int64(600), count, "every one is counted")
		require.LessOrEqual(t, events, 13)
		require.GreaterOrEqual(t, events, 9)
	})
}

// What a driver keeps whole is told by the driver itself, and counts with the rest.
func TestUnparsedThatADriverKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, time.Hour)
		dev := <-b.end.device
		go func() { _, _ = io.Copy(io.Discard, dev) }()
		for _, line := range []string{"x", "keep", "y", "keep"} {
			send(t, dev, "%s", line)
			time.Sleep(2 * time.Minute)
		}
		b.stop()
		var counts, totals []int64
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, d := range b.events {
			if u, ok := d.(event.DeviceUnparsed); ok {
				counts, totals = append(counts, u.Count), append(totals, u.Total)
			}
		}
		require.Equal(t, []int64{1, 1, 1, 1}, counts)
		require.Equal(t, []int64{1, 2, 3, 4}, totals)
	})
}

// A library under a link may panic too.
type brokenEndpoint struct{ pipeEndpoint }

func (*brokenEndpoint) Open(context.Context) (link.Conn, error) { panic("no such baud rate") }

func TestPanicInALinkIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []event.Data
		s := New(Device{
			Lane: "entry-1", ID: "rpm-1", Endpoint: &brokenEndpoint{}, Silence: time.Second,
			New: func() (drivers.Instrument, error) { return &lineInstrument{}, nil },
		}, Hooks{
			Emit:    func(o drivers.Observation) error { events = append(events, o.Data); return nil },
			Changed: func() {}, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.Run(ctx)
		require.Equal(t, "fault", s.State().State)
		require.Contains(t, s.State().Detail, "no such baud rate")
		require.Greater(t, len(events), 2, "it is tried again")
	})
}

// What can't be recorded is told as a fault of the driver, not of the line.
func TestUnrecordable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := &pipeEndpoint{device: make(chan net.Conn, 10)}
		var mu sync.Mutex
		var events []event.Data
		s := New(Device{
			Lane: "entry-1", ID: "rpm-1", Endpoint: end, Silence: time.Minute,
			New: func() (drivers.Instrument, error) { return &lineInstrument{}, nil },
		}, Hooks{
			Emit: func(o drivers.Observation) error {
				if _, ok := o.Data.(event.RadiationDiagnostic); ok {
					return fmt.Errorf("%w: not a number", ErrUnrecordable)
				}
				mu.Lock()
				defer mu.Unlock()
				events = append(events, o.Data)
				return nil
			},
			Changed: func() {}, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		dev := <-end.device
		send(t, dev, "ok")
		send(t, dev, "emit x")
		mu.Lock()
		fault, ok := events[len(events)-1].(event.DeviceFault)
		mu.Unlock()
		require.True(t, ok, "%v", events)
		require.Contains(t, fault.Reason, "can't be recorded and is lost: not a number")
		<-end.device // it goes on
		cancel()
		<-done
	})
}

// Who reads along gets every byte before the driver, and is told of the end of each
// link, whoever ends it.
func TestReadingAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		add := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s)
		}
		heard := func() string {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(got, "|")
		}
		end := &pipeEndpoint{device: make(chan net.Conn, 100)}
		s := New(Device{
			Lane: "entry-1", ID: "rpm-1", Endpoint: end, Silence: 12 * time.Second,
			New: func() (drivers.Instrument, error) { return &lineInstrument{}, nil },
		}, Hooks{
			Emit: func(o drivers.Observation) error {
				if d, ok := o.Data.(event.RadiationDiagnostic); ok && d.Kind != "held" {
					add("emitted " + d.Kind)
				}
				return nil
			},
			Changed: func() {}, Log: slog.New(slog.DiscardHandler),
			Received: func(at time.Time, b []byte) {
				require.Equal(t, time.Now(), at)
				add(string(b))
			},
			Parted: func(time.Time) { add("parted") },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx)
		}()
		dev := <-end.device
		send(t, dev, "emit 1")
		send(t, dev, "gibberish")
		require.Equal(t, "emit 1\n|emitted 1|gibberish\n", heard())
		require.NoError(t, dev.Close())
		synctest.Wait()
		require.Equal(t, "emit 1\n|emitted 1|gibberish\n|parted", heard())
		// A link that can't be opened has no end.
		end.setRefuse(errors.New("refused"))
		time.Sleep(time.Minute)
		require.Equal(t, 1, strings.Count(heard(), "parted"))
		end.setRefuse(nil)
		dev = <-end.device
		send(t, dev, "ok")
		time.Sleep(14 * time.Second) // silence
		synctest.Wait()
		require.Equal(t, 2, strings.Count(heard(), "parted"))
		dev = <-end.device
		send(t, dev, "panic")
		require.Equal(t, 3, strings.Count(heard(), "parted"))
		<-end.device
		synctest.Wait()
		cancel()
		<-done
		require.Equal(t, 4, strings.Count(heard(), "parted"))
	})
}
