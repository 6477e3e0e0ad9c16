package supervise

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// last gives the last event that was recorded, and its time.
func (b *bench) last() (event.Data, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[len(b.events)-1], b.times[len(b.times)-1]
}

// TestUnreadWhileTheDiskRefuses: a device is not online while its events wait for the disk,
// and what waits behind them is not told as if it had just happened.
func TestUnreadWhileTheDiskRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		time.Sleep(time.Second)
		disk := b.refuse()
		before := time.Now()
		send(t, dev, "emit first\nemit in hand")
		go func() { _, _ = dev.Write([]byte("emit late\n")) }() // as the kernel would keep it
		time.Sleep(unreadAfter + time.Millisecond)
		synctest.Wait()
		s := b.State()
		require.Equal(t, "offline", s.State)
		require.Contains(t, s.Detail, "the agent's disk takes no events since 2000-01-01T00:00:01Z: this device is not read; ")
		require.Equal(t, event.At(before), s.Since)
		require.Equal(t, event.At(before), *s.LastValid)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"device.online"}, b.said())

		close(disk)
		synctest.Wait()
		require.Equal(t, []string{"device.online", "first", "in hand", "held", "device.offline"}, b.said())
		require.Equal(t, []time.Time{before, before, before, before}, b.times[1:])
		d, _ := b.last()
		offline := d.(event.DeviceOffline)
		require.Equal(t, event.At(before), *offline.LastValid)
		require.Contains(t, offline.Reason, "from 2000-01-01T00:00:01Z to 2000-01-01T01:00:06Z: this device was not read")
		require.Equal(t, "offline", b.State().State)

		dev = <-b.end.device
		send(t, dev, "ok")
		require.Equal(t, "online", b.State().State)
		d, at := b.last()
		require.InDelta(t, at.Sub(before).Seconds(), *d.(event.DeviceOnline).AbsentS, 0.001)
		b.stop()
		require.NotContains(t, b.said(), "late")
	})
}

// TestSlowDiskIsNoDeafDriver: a driver that still has events in hand may take as long for them as the disk does.
func TestSlowDiskIsNoDeafDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		b.mu.Lock()
		b.slow = 7 * time.Second
		b.mu.Unlock()
		send(t, dev, "emit first\nemit in hand")
		time.Sleep(3 * b.slow)
		b.mu.Lock()
		b.slow = 0
		b.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.stop()
		require.Equal(t, []string{"device.online", "first", "in hand", "held", "device.offline"}, b.said()[:5])
	})
}

// TestUnreadAtTheStop: what was not read is told too when the agent stops or the device is
// replaced.
func TestUnreadAtTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		disk := b.refuse()
		before := time.Now()
		send(t, dev, "emit waits")
		time.Sleep(time.Minute)
		b.cancel()
		time.Sleep(time.Second)
		close(disk)
		<-b.done
		require.Equal(t, []string{"device.online", "waits", "held", "device.offline"}, b.said())
		_, at := b.last()
		require.Equal(t, before, at)
	})
}

// TestHoldUpsAddUp: short ones end the session as well when the reads never catch up.
func TestHoldUpsAddUp(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, 12*time.Second)
			dev := <-b.end.device
			send(t, dev, "ok")
			b.mu.Lock()
			b.slow = 2 * time.Second
			b.mu.Unlock()
			for range 6 {
				if _, err := dev.Write([]byte("emit x\n")); err != nil {
					break // the link was closed
				}
				time.Sleep(every)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			b.mu.Lock()
			b.slow = 0
			b.mu.Unlock()
			require.Equal(t, every == 0, slices.Contains(b.said(), "device.offline"), b.said())
			b.stop()
		})
	}
}

// TestLargeAttachmentIsNoHoldUp: content is copied before its event is on disk.
func TestLargeAttachmentIsNoHoldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		disk := b.refuse()
		r := &reading{end: func() { t.Error("the session was ended") }}
		o := drivers.Observation{Data: diagnostic("large"), Attachments: []drivers.Attachment{{Attachment: event.Attachment{Size: 100e6}}}}
		go func() { _ = b.emitFor(r, o) }()
		time.Sleep(100 * time.Second)
		close(disk)
		synctest.Wait()
		require.Contains(t, b.said(), "large")
		b.stop()
	})
}

// TestTheWatchGoesOnWhileTheDiskRefuses: what is told beside a session does not hold up who
// watches it.
func TestTheWatchGoesOnWhileTheDiskRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		disk := b.refuse()
		send(t, dev, "gibberish")
		time.Sleep(14 * time.Second)
		synctest.Wait()
		require.Equal(t, "silent", b.State().State)
		close(disk)
		b.stop()
		require.Contains(t, b.said(), "device.unparsed")
		require.Contains(t, b.said(), "device.silent")
	})
}

// TestALinkThatEndsWhileTheDiskRefuses: the state does not wait for the events before it.
func TestALinkThatEndsWhileTheDiskRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok\nkeep\ngibberish")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		send(t, dev, "gibberish") // to be told within a minute, or at the end
		disk := b.refuse()
		require.NoError(t, dev.Close())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, "offline", b.State().State)
		close(disk)
		b.stop()
	})
}

// waiting does nothing until its session ends.
type waiting struct{ opened chan link.Conn }

func (w waiting) Run(ctx context.Context, conn link.Conn, _ drivers.Host) error {
	w.opened <- conn
	<-ctx.Done()
	return ctx.Err()
}

// TestRefusedSendersAreToldAtTheEnd: also those of the minute before the agent stops or the
// device is replaced.
func TestRefusedSendersAreToldAtTheEnd(t *testing.T) {
	t.Parallel()
	end, err := link.Parse("http-listen://127.0.0.1:0/camera?allow=10.9.9.9", nil)
	require.NoError(t, err)
	opened, refused := make(chan link.Conn, 1), make(chan event.DeviceRefused, 10)
	s := New(Device{
		Lane: "entry-1", ID: "anpr-1", Endpoint: end, Silence: time.Hour,
		New: func() (drivers.Instrument, error) { return waiting{opened}, nil },
	}, Hooks{
		Emit: func(o drivers.Observation) error {
			if d, ok := o.Data.(event.DeviceRefused); ok {
				refused <- d
			}
			return nil
		},
		Changed: func() {}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	inbox, ok := link.As[*link.Inbox](<-opened)
	require.True(t, ok)
	post := func() {
		answer, err := http.Post("http://"+inbox.Addr().String()+"/camera", "text/plain", strings.NewReader("plate"))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusForbidden, answer.StatusCode)
	}
	post()
	require.Equal(t, int64(1), (<-refused).Senders[0].Count)
	for range 3 {
		post()
	}
	cancel()
	<-done
	require.Len(t, refused, 1)
	require.Equal(t, int64(3), (<-refused).Senders[0].Count)
}
