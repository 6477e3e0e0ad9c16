package uplink

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

const chunkTopic = "lanepost/v1/test/entry-1/cam-1/chunk"

// attachment is an idle source of n chunks of a size.
type attachment struct {
	mu        sync.Mutex
	n, size   int
	next      int
	confirmed []int
	refused   []int
	rewinds   int
	changed   chan struct{}
}

func newAttachment(n, size int) *attachment {
	return &attachment{n: n, size: size, changed: make(chan struct{}, 1)}
}

func (a *attachment) source() *Idle {
	return &Idle{
		Next: func() (Message, any, bool) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.next == a.n {
				return Message{}, nil, false
			}
			a.next++
			return Message{chunkTopic, append(fmt.Appendf(nil, "chunk %d ", a.next), bytes.Repeat([]byte{'x'}, a.size)...)}, a.next, true
		},
		Confirmed: func(token any) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.confirmed = append(a.confirmed, token.(int))
		},
		Refused: func(token any, _ string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.refused = append(a.refused, token.(int))
		},
		Rewind: func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.rewinds++
			a.next = 0
			if n := len(a.confirmed); n > 0 {
				a.next = a.confirmed[n-1]
			}
		},
		Changed: func() <-chan struct{} { return a.changed },
	}
}

func (a *attachment) done() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]int(nil), a.confirmed...)
}

func TestIdleComesLast(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	a := newAttachment(5, 1000)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window, o.Idle = 8, a.source()
	u, _ := start(t, s, o)
	c := b.welcome()
	chunks := c.events(2)
	require.True(t, strings.HasPrefix(chunks[0].payload, "chunk 1 "))
	require.False(t, chunks[0].retain)
	c.quiet(50 * time.Millisecond) // a quarter of the window
	// An event does not wait for a chunk.
	record(t, s, event.Urgent, 20, 100)
	events := c.events(6)
	require.Equal(t, string(body(event.Urgent, 1, 100)), events[0].payload)
	c.quiet(50 * time.Millisecond)
	// As long as events wait, each free slot is theirs.
	c.puback(chunks[0].id, chunks[1].id)
	events = append(events, c.events(2)...)
	eventually(t, func() bool { return len(a.done()) == 2 })
	for len(events) < 20 {
		c.puback(events[0].id)
		p := c.events(1)[0]
		require.Equal(t, eventTopic, p.topic)
		events = append(events[1:], p)
		if p.payload == string(body(event.Urgent, 20, 100)) {
			break
		}
	}
	for _, p := range events {
		c.puback(p.id)
	}
	for i := range 3 {
		p := c.events(1)[0]
		require.True(t, strings.HasPrefix(p.payload, fmt.Sprintf("chunk %d ", i+3)))
		c.puback(p.id)
	}
	eventually(t, func() bool { return len(a.done()) == 5 && backlog(s) == 0 })
	require.Equal(t, []int{1, 2, 3, 4, 5}, a.done())
	// What comes later is noticed.
	a.mu.Lock()
	a.n = 6
	a.mu.Unlock()
	a.changed <- struct{}{}
	c.puback(c.events(1)[0].id)
	eventually(t, func() bool { return len(a.done()) == 6 })
	require.EqualValues(t, 20, u.Status().Acked, "chunks are no events")
}

func TestIdleBytesAndLostSession(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	a := newAttachment(4, 100_000)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Idle = a.source()
	start(t, newSpool(t), o)
	c := b.welcome()
	chunks := c.events(2)
	c.quiet(50 * time.Millisecond) // a third one would be above 256 kB
	c.puback(chunks[0].id)
	c.events(1)
	require.NoError(t, c.Close())
	c = b.welcome()
	for i := range 3 {
		p := c.events(1)[0]
		require.True(t, strings.HasPrefix(p.payload, fmt.Sprintf("chunk %d ", i+2)), "%.10s", p.payload)
		c.puback(p.id)
	}
	eventually(t, func() bool { return len(a.done()) == 4 })
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Equal(t, 2, a.rewinds)
}

func TestIdleTooLarge(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	a := newAttachment(3, 5000)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Idle, o.MaxPacket = a.source(), 4096
	u, _ := start(t, newSpool(t), o)
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.refused) == 3
	})
	require.Zero(t, u.Status().Reconnects)
	require.Len(t, b.all(), 1)
}

// TestUrgentOvertakesAttachment: over a slow line an event waits for what is on
// its way, and not for the attachment.
func TestUrgentOvertakesAttachment(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr)
	p.rate = 1_000_000
	p.serve()
	s := newSpool(t)
	a := newAttachment(100, 32<<10) // 3.3 s
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.Idle = a.source()
	start(t, s, o)
	eventually(t, func() bool { return len(a.done()) > 2 })
	var worst time.Duration
	for n := 1; n <= 5; n++ {
		began := time.Now()
		record(t, s, event.Urgent, 1, 600)
		eventually(t, func() bool { return s.Stats().Urgent.Acked == uint64(n) })
		worst = max(worst, time.Since(began))
	}
	require.Less(t, len(a.done()), 100, "the attachment is through already")
	t.Logf("an urgent event took %s at most, with %d of 100 chunks confirmed", worst, len(a.done()))
	// 256 kB at 1 MB/s, and as much again for a busy machine.
	require.Less(t, worst, 800*time.Millisecond)
}

// TestResend: what was delivered is sent again, if the spool still has it.
func TestResend(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Filter, o.Skipped = Filter{Lanes: []string{"entry-1"}}, skippedNotice
	u, _ := start(t, s, o)
	require.EqualError(t, u.Resend("high", 1, 2), `there is no class "high"`)
	require.EqualError(t, u.Resend(event.Urgent, 3, 2), "3 to 2 is no range of sequences")
	require.EqualError(t, u.Resend(event.Urgent, 0, 2), "0 to 2 is no range of sequences")
	c := b.welcome()
	record(t, s, event.Routine, 4, 100)
	recordEvent(t, s, "entry-2", event.DeviceUnparsed{}) // 5
	record(t, s, event.Routine, 2, 100)
	for range 7 { // six events, and the notice of one that is kept back
		c.puback(c.expect().id)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
	require.NoError(t, u.Resend(event.Routine, 4, 20))
	list := c.events(3)
	for i, n := range []uint64{4, 6, 7} {
		require.Equal(t, string(body(event.Routine, n, 100)), list[i].payload)
		require.Equal(t, eventTopic, list[i].topic)
		require.False(t, list[i].retain)
	}
	c.puback(list[0].id)
	eventually(t, func() bool { return u.Status().Resent == 1 })
	require.NoError(t, c.Close())
	c = b.welcome()
	for _, n := range []uint64{6, 7} {
		p := c.events(1)[0]
		require.Equal(t, string(body(event.Routine, n, 100)), p.payload)
		c.puback(p.id)
	}
	eventually(t, func() bool { return u.Status().Resent == 3 })
	require.EqualValues(t, 6, u.Status().Acked, "events sent again are no new ones")
	require.NoError(t, u.Resend(event.Urgent, 1, 1_000_000)) // there are none
	c.quiet(50 * time.Millisecond)
	idle, err := New(s, o) // does not run
	require.NoError(t, err)
	for range maxResends {
		require.NoError(t, idle.Resend(event.Urgent, 1, 2))
	}
	require.ErrorContains(t, idle.Resend(event.Urgent, 1, 2), "16 ranges wait")
}

// TestTwoUplinks: each has its own position and filter, and one that confirms
// nothing does not hold the other back.
func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	s, err := spool.Open(t.TempDir(), spool.Options{SegmentBytes: 1 << 20, Consumers: []string{"national", "local"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	dead := newRawBroker(t)
	dead.serve(func(_, _ int, p rawPacket) (bool, bool) { return p.topic == stateTopic, true })
	b := embed(t, "127.0.0.1:0", nil, nil)
	national := (&agent{}).options(t, "tcp://"+dead.addr)
	national.Name = "national"
	local := (&agent{}).options(t, "tcp://"+b.addr)
	local.Name, local.TopicPrefix = "local", "station"
	local.Filter, local.Skipped = Filter{Classes: []event.Class{event.Urgent}}, skippedNotice
	local.StopTimeout = patience
	first, _ := start(t, s, national)
	second, stop := start(t, s, local)
	record(t, s, event.Urgent, 500, 200)
	record(t, s, event.Routine, 100, 200)
	eventually(t, func() bool { return second.Status().Acked == 500 })
	stop()
	require.EqualValues(t, 100, second.Status().Skipped)
	require.Zero(t, first.Status().Acked)
	require.Equal(t, "national", first.Status().Name)
	require.EqualValues(t, 600, backlog(s), "the other one's events are kept")
	n := 0
	for _, p := range b.all() {
		if p.topic == "station/"+eventTopic {
			n++
			require.Equal(t, string(body(event.Urgent, uint64(n), 200)), string(p.payload))
		}
	}
	require.Equal(t, 500, n)
}
