package uplink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// TestReturnsToTheFirst: the uplink goes back to the broker that it prefers as
// soon as that answers again, in good order.
func TestReturnsToTheFirst(t *testing.T) {
	t.Parallel()
	addr := freeAddress(t)
	second := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+addr, "tcp://"+second.addr)
	o.ReturnAfter, o.StopTimeout = 50*time.Millisecond, patience
	u, _ := start(t, s, o)
	record(t, s, event.Urgent, 20, 100)
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Equal(t, "tcp://"+second.addr, u.Status().Broker)
	require.EqualValues(t, 1, u.Status().Session)

	first := embed(t, addr, nil, nil)
	eventuallyStatus(t, u, func(st Status) bool { return st.State == Online && st.Broker == "tcp://"+addr })
	require.EqualValues(t, 2, u.Status().Session)
	require.Empty(t, u.Status().LastError, "this is no failure")
	require.Empty(t, second.willsSent())
	require.Equal(t, string(stateBody(false, 1)), second.retained(stateTopic))
	record(t, s, event.Routine, 20, 100)
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Zero(t, requireEvents(t, second.all(), event.Urgent, 20, 100))
	require.Zero(t, requireEvents(t, first.all(), event.Routine, 20, 100))
}

// TestReturnsSeldomToUseless: a preferred broker that answers and lets nobody in
// interrupts the delivery less and less often.
func TestReturnsSeldomToUseless(t *testing.T) {
	t.Parallel()
	useless := newRawBroker(t)
	refused := make(chan time.Time, 16)
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(done)
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case c := <-useless.conns:
				if p, err := c.read(); err == nil && p.kind == typeConnect {
					_, _ = c.Write([]byte{0x20, 2, 0, 3})
					refused <- time.Now()
				}
				_ = c.Close()
			}
		}
	}()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+useless.addr, "tcp://"+b.addr)
	o.ReturnAfter, o.StopTimeout = 50*time.Millisecond, patience
	_, stop := start(t, s, o)
	record(t, s, event.Urgent, 20, 100)
	var times []time.Time
	for range 5 {
		select {
		case at := <-refused:
			times = append(times, at)
		case <-time.After(patience):
			t.Fatal("it is not called again")
		}
	}
	for i, least := range []time.Duration{50, 100, 200, 400} {
		require.GreaterOrEqual(t, times[i+1].Sub(times[i]), least*time.Millisecond, "pause %d", i)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	requireEvents(t, b.all(), event.Urgent, 20, 100)
	// The broker may see the next session before the end of the last one, and then
	// publishes the will of that; the next session's birth comes after it.
}
