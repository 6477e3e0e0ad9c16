package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// shelf is a quarantine that remembers.
type shelf struct {
	mu      sync.Mutex
	records []spool.Record
	reasons []string
	fail    error
}

func (q *shelf) put(_ context.Context, r spool.Record, reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fail != nil {
		err := q.fail
		q.fail = nil
		return err
	}
	q.records = append(q.records, r)
	q.reasons = append(q.reasons, reason)
	return nil
}

func (q *shelf) list() []spool.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]spool.Record(nil), q.records...)
}

func (q *shelf) options(t testing.TB, brokers ...string) Options {
	o := (&agent{}).options(t, brokers...)
	o.Quarantine = q.put
	o.trialHold = 20 * time.Millisecond
	return o
}

// serve answers each packet of each session: answer says whether to confirm it,
// and whether to go on. n counts the PUBLISH packets of the session from 1.
func (b *rawBroker) serve(answer func(session, n int, p rawPacket) (confirm, goOn bool)) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for session := 1; ; session++ {
			select {
			case <-stop:
				return
			case c := <-b.conns:
				c.answer(session, answer)
			}
		}
	})
	b.t.Cleanup(func() {
		close(stop)
		b.mu.Lock()
		for _, nc := range b.open {
			_ = nc.Close()
		}
		b.mu.Unlock()
		group.Wait()
	})
}

func (c *rawConn) answer(session int, answer func(session, n int, p rawPacket) (confirm, goOn bool)) {
	defer func() { _ = c.Close() }()
	n := 0
	for {
		p, err := c.read()
		if err != nil {
			return
		}
		switch p.kind {
		case typeConnect:
			_, err = c.Write([]byte{0x20, 2, 0, 0})
		case typePublish:
			n++
			confirm, goOn := answer(session, n, p)
			if confirm {
				_, err = c.Write([]byte{0x40, 2, byte(p.id >> 8), byte(p.id)})
			}
			if !goOn {
				// All that was confirmed arrives.
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c.Conn)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestPoisonIsQuarantined: a broker closes the connection at one payload and
// takes all others.
func TestPoisonIsQuarantined(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	poison := string(body(event.Routine, 3, 100))
	var mu sync.Mutex
	var order []string
	sessions, times := 0, 0
	b.serve(func(session, _ int, p rawPacket) (bool, bool) {
		mu.Lock()
		defer mu.Unlock()
		sessions = session
		if p.payload == poison {
			times++
			return false, false
		}
		if p.topic == eventTopic {
			order = append(order, p.payload)
		}
		return true, true
	})
	s := newSpool(t)
	record(t, s, event.Routine, 6, 100)
	q := &shelf{fail: errors.New("the disk is full")}
	o := q.options(t, "tcp://"+b.addr)
	u, _ := start(t, s, o)
	// The other class goes on all the time.
	eventually(t, func() bool { return len(u.Status().Stuck) == 1 })
	record(t, s, event.Urgent, 3, 100)
	eventually(t, func() bool { return s.Stats().Urgent.Backlog == 0 })
	eventually(t, func() bool { return backlog(s) == 0 })

	require.Len(t, q.list(), 1)
	r := q.list()[0]
	require.EqualValues(t, 3, r.Sequence)
	require.Equal(t, event.Routine, r.Class)
	require.Equal(t, poison, string(r.Payload))
	require.Contains(t, q.reasons[0], "5 times in a row when this event was alone on the line")
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, stuckAfter+defaultPoisonAfter, times)
	require.Equal(t, times+1, sessions)
	var routine []string
	for _, p := range order {
		if strings.HasPrefix(p, "routine") && (len(routine) == 0 || p > routine[len(routine)-1]) {
			routine = append(routine, p)
		}
	}
	require.Len(t, routine, 5)
	eventuallyStatus(t, u, func(s Status) bool { return s.Quarantined == 1 && len(s.Stuck) == 0 })
}

// TestMosquittoRefusesLargePacket: the real thing, whose limit nobody told the
// agent.
func TestMosquittoRefusesLargePacket(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t, "allow_anonymous true", "max_packet_size 4096")
	s := newSpool(t)
	record(t, s, event.Routine, 3, 100)
	record(t, s, event.Routine, 1, 20_000)
	record(t, s, event.Routine, 3, 100)
	q := &shelf{}
	u, _ := start(t, s, q.options(t, "tcp://"+m.addr))
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Len(t, q.list(), 1)
	require.EqualValues(t, 4, q.list()[0].Sequence)
	eventuallyStatus(t, u, func(s Status) bool { return s.Acked == 6 && s.Quarantined == 1 })
}

// TestUrgentPoison: while an urgent event is tried, routine ones get through.
func TestUrgentPoison(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	poison := string(body(event.Urgent, 1, 100))
	b.serve(func(_, _ int, p rawPacket) (bool, bool) { return p.payload != poison, p.payload != poison })
	s := newSpool(t)
	record(t, s, event.Urgent, 2, 100)
	q := &shelf{}
	o := q.options(t, "tcp://"+b.addr)
	o.PoisonAfter, o.trialHold = 3, 300*time.Millisecond
	u, _ := start(t, s, o)
	eventually(t, func() bool { return len(u.Status().Stuck) == 1 })
	record(t, s, event.Routine, 20, 100)
	eventually(t, func() bool { return s.Stats().Routine.Backlog == 0 })
	require.Empty(t, q.list(), "routine events did not wait for the quarantine")
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Len(t, q.list(), 1)
}

// requireInnocent runs until n events are delivered and nothing was put away.
func requireInnocent(t *testing.T, s *spool.Spool, q *shelf, u *Uplink) {
	t.Helper()
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Empty(t, q.list())
	require.Zero(t, u.Status().Quarantined)
}

// TestClosesAfterMessages: brokers, or lines, that end every session after so
// many messages, whichever they are.
func TestClosesAfterMessages(t *testing.T) {
	t.Parallel()
	for _, last := range []int{2, 3, 4, 5, 9} {
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			t.Parallel()
			b := newRawBroker(t)
			b.serve(func(session, n int, _ rawPacket) (bool, bool) {
				// At first no event ever gets through, so that there is a suspect.
				limit := last
				if session <= stuckAfter {
					limit = 2
				}
				over := session > 40
				return over || n < limit, over || n < limit
			})
			s := newSpool(t)
			record(t, s, event.Routine, 4, 100)
			q := &shelf{}
			u, _ := start(t, s, q.options(t, "tcp://"+b.addr))
			requireInnocent(t, s, q, u)
		})
	}
}

// TestClosesByTheClock: the line breaks by the clock.
func TestClosesByTheClock(t *testing.T) {
	t.Parallel()
	for _, life := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 120 * time.Millisecond} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			b := newRawBroker(t)
			var ended atomic.Int64
			stop := make(chan struct{})
			var group sync.WaitGroup
			// Events are confirmed only from the 40th session on, before that the
			// session ends when its time is up, whatever is on its way.
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					case c := <-b.conns:
						n := ended.Add(1)
						if n < 40 {
							time.AfterFunc(life, func() { _ = c.Close() })
						}
						group.Go(func() {
							c.answer(int(n), func(_, _ int, p rawPacket) (bool, bool) {
								return p.topic != eventTopic || n >= 40, true
							})
						})
					}
				}
			})
			s := newSpool(t)
			record(t, s, event.Routine, 4, 100)
			q := &shelf{}
			o := q.options(t, "tcp://"+b.addr)
			o.trialFor = 60 * time.Millisecond
			u, _ := start(t, s, o)
			t.Cleanup(func() {
				close(stop)
				b.mu.Lock()
				for _, nc := range b.open {
					_ = nc.Close()
				}
				b.mu.Unlock()
				group.Wait()
			})
			requireInnocent(t, s, q, u)
		})
	}
}

// TestNeverAcksIsNoPoison: a broker that confirms states and no events hangs; it
// may yet take them.
func TestNeverAcksIsNoPoison(t *testing.T) {
	t.Parallel()
	// Each of two rules is enough: that the others go on when the suspect stays
	// alone for too long, and that only the broker's closing counts.
	for _, alone := range []time.Duration{20 * time.Millisecond, patience} {
		t.Run(alone.String(), func(t *testing.T) {
			t.Parallel()
			testNeverAcks(t, alone)
		})
	}
}

func testNeverAcks(t *testing.T, alone time.Duration) {
	b := newRawBroker(t)
	var over atomic.Bool
	var sessions atomic.Int64
	b.serve(func(session, _ int, p rawPacket) (bool, bool) {
		sessions.Store(int64(session))
		return over.Load() || p.topic == stateTopic, true
	})
	s := newSpool(t)
	record(t, s, event.Routine, 4, 100)
	q := &shelf{}
	o := q.options(t, "tcp://"+b.addr)
	o.AckTimeout, o.trialFor = 100*time.Millisecond, alone
	u, _ := start(t, s, o)
	eventually(t, func() bool { return sessions.Load() > 15 })
	require.Len(t, u.Status().Stuck, 1)
	over.Store(true)
	requireInnocent(t, s, q, u)
}

// TestTakeOverIsNoPoison: another client takes the id over again and again.
func TestTakeOverIsNoPoison(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Routine, 1000, 5_000)
	q := &shelf{}
	o := q.options(t, "tcp://"+b.addr)
	o.Window = 1
	u, _ := start(t, s, o)
	for n := 0; n < 30 || u.Status().Reconnects <= 2; n++ {
		require.Less(t, n, 10_000, "nobody takes the id over")
		// Or whatever is left has been delivered meanwhile.
		eventually(t, func() bool { return u.Status().State == Online || backlog(s) == 0 })
		thief := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID("lanepost-a-1").SetAutoReconnect(false))
		token := thief.Connect()
		require.True(t, token.WaitTimeout(patience))
		thief.Disconnect(0)
	}
	requireInnocent(t, s, q, u)
}

// TestTooLarge: an event above the broker's limit is never sent, and nothing
// waits for it but what is behind it in its class, and that not for long.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Routine, 3, 100)
	record(t, s, event.Routine, 2, 3000)
	record(t, s, event.Routine, 3, 100)
	release := make(chan struct{})
	q := &shelf{fail: errors.New("the disk is full")}
	o := q.options(t, "tcp://"+b.addr)
	o.MaxPacket = 2048
	o.Quarantine = func(ctx context.Context, r spool.Record, reason string) error {
		<-release
		return q.put(ctx, r, reason)
	}
	u, _ := start(t, s, o)
	eventually(t, func() bool { return s.Stats().Routine.Acked == 3 })
	record(t, s, event.Urgent, 3, 100)
	eventually(t, func() bool { return s.Stats().Urgent.Acked == 3 })
	require.EqualValues(t, 3, s.Stats().Routine.Acked, "it is not in quarantine yet")
	close(release)
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Len(t, q.list(), 2)
	require.Contains(t, q.reasons[0], "the broker takes 2048")
	for _, p := range b.all() {
		require.Less(t, len(p.payload), 2048)
	}
	require.Zero(t, u.Status().Reconnects)
	require.EqualValues(t, 2, u.Status().Quarantined)
	require.EqualValues(t, 9, u.Status().Acked)
}

func TestPacketBytes(t *testing.T) {
	t.Parallel()
	// MQTT 3.1.1, 2.2.3: one byte of length up to 127, two up to 16383, ...
	for remaining, packet := range map[int]int{4: 6, 127: 129, 128: 131, 16_383: 16_386, 16_384: 16_388, 2_097_151: 2_097_155, 2_097_152: 2_097_157} {
		got, r := packetBytes(0, remaining-4)
		require.Equal(t, remaining, r)
		require.Equal(t, packet, got, remaining)
	}
}

// TestPoisonInBothClasses: neither suspect ends the other's row, and all others
// get through.
func TestPoisonInBothClasses(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t, "allow_anonymous true", "max_packet_size 4096")
	s := newSpool(t)
	for _, class := range []event.Class{event.Urgent, event.Routine} {
		record(t, s, class, 3, 100)
		record(t, s, class, 1, 20_000)
		record(t, s, class, 3, 100)
		record(t, s, class, 1, 25_000) // a suspect at once
	}
	q := &shelf{}
	o := q.options(t, "tcp://"+m.addr)
	o.Retained = func() []Message { return []Message{{deviceTopic, []byte("online")}} }
	u, _ := start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Len(t, q.list(), 4)
	for _, r := range q.list() {
		require.Contains(t, []uint64{4, 8}, r.Sequence)
	}
	st := u.Status()
	require.EqualValues(t, 12, st.Acked)
	require.Empty(t, st.LeftOut)
	// Of each of the first two: some sessions until it is a suspect, in which it may break
	// the other's row once.
	require.LessOrEqual(t, st.Reconnects, uint64(2*(3*stuckAfter+2*defaultPoisonAfter)))
}
