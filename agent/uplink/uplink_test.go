package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

func TestBirthThenStatesThenEvents(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Routine, 300, 600)
	record(t, s, event.Urgent, 100, 600)
	a := &agent{devices: []Message{{deviceTopic, []byte("connecting")}}}
	u, stop := start(t, s, a.options(t, "tcp://"+b.addr))
	eventually(t, func() bool { return backlog(s) == 0 })

	list := b.all()
	require.Equal(t, published{"lanepost-a-1", stateTopic, stateBody(true, 1), true, 1}, list[0])
	require.Equal(t, published{"lanepost-a-1", deviceTopic, []byte("connecting"), true, 1}, list[1])
	require.Zero(t, requireEvents(t, list, event.Urgent, 100, 600))
	require.Zero(t, requireEvents(t, list, event.Routine, 300, 600))
	for i, p := range list[2:102] {
		require.Equal(t, string(body(event.Urgent, uint64(i+1), 600)), string(p.payload), "urgent goes first")
	}
	// A PUBACK that has moved the cursor is in the status a moment later.
	eventually(t, func() bool { return u.Status().Acked == 400 && u.Status().InFlight == 0 })
	st := u.Status()
	require.Equal(t, Online, st.State)
	require.Equal(t, "tcp://"+b.addr, st.Broker)
	require.EqualValues(t, 1, st.Session)
	require.EqualValues(t, 400, st.Published)
	require.Zero(t, st.Reconnects)
	require.Empty(t, st.LastError)
	require.Empty(t, st.Stuck)
	require.WithinDuration(t, time.Now(), st.LastAck, patience)

	// New events go out as they come.
	record(t, s, event.Urgent, 1, 600)
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	require.Equal(t, Offline, u.Status().State)
}

func TestOrderlyStop(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.StopTimeout = patience
	u, stop := start(t, s, o)
	eventuallyStatus(t, u, online)
	// What is recorded just before the stop is still delivered.
	record(t, s, event.Urgent, 200, 600)
	stop()
	require.Zero(t, backlog(s))
	list := b.all()
	require.Equal(t, published{"lanepost-a-1", stateTopic, stateBody(false, 1), true, 1}, list[len(list)-1],
		"the last word is the offline state")
	eventually(t, func() bool { return b.server.Clients.Len() == 0 })
	require.Empty(t, b.willsSent(), "no last will after an orderly stop")
	require.Equal(t, string(stateBody(false, 1)), b.retained(stateTopic))
}

// TestStopWithoutConfirmation: a broker that does not confirm the offline state
// must not get a DISCONNECT, or the retained state would say "online" for ever.
func TestStopWithoutConfirmation(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.StopTimeout = 400 * time.Millisecond
	u, stop := start(t, s, o)
	c := b.welcome()
	require.Equal(t, stateTopic, c.willTopic)
	require.Equal(t, string(stateBody(false, 1)), c.will)
	eventuallyStatus(t, u, online)
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 3*time.Second)
	require.Equal(t, string(stateBody(false, 1)), c.expect().payload)
	_, err := c.read()
	require.Error(t, err, "no DISCONNECT")
}

func TestStopWhileNothingAnswers(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t) // takes the connection and says nothing
	_, stop := start(t, newSpool(t), (&agent{}).options(t, "tcp://"+b.addr))
	b.accept()
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 2*time.Second)
}

func TestWillOnCut(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr).serve()
	s := newSpool(t)
	a := &agent{}
	start(t, s, a.options(t, "tcp://"+p.addr))
	eventually(t, func() bool { return b.retained(stateTopic) == string(stateBody(true, 1)) })
	p.cut()
	eventually(t, func() bool { return b.retained(stateTopic) == string(stateBody(true, 2)) })
	require.Equal(t, []published{{"lanepost-a-1", stateTopic, stateBody(false, 1), true, 1}}, b.willsSent())
}

func TestBrokerNeverAcks(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 10, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window, o.AckTimeout = 4, 300*time.Millisecond
	u, _ := start(t, s, o)

	var before []rawPacket
	var old *rawConn
	for range 3 {
		c := b.welcome()
		if old != nil {
			old.gone() // never two connections at a time
		}
		old = c
		list := c.events(4)
		if before != nil {
			for i := range list {
				require.Equal(t, before[i].payload, list[i].payload)
			}
		}
		before = list
		require.Zero(t, s.Stats().Routine.Acked)
	}
	eventuallyStatus(t, u, failing("the broker took messages and confirms none"))
	require.Contains(t, u.Status().Hint, "events wait in the spool")

	// Three sessions ended so: the event is suspected and goes out alone.
	c := b.welcome()
	eventually(t, func() bool { return len(u.Status().Stuck) == 1 })
	require.Equal(t, []Stuck{{Class: event.Routine, Sequence: 1, Topic: eventTopic, Bytes: 100, Sessions: 3}}, u.Status().Stuck)
	first := c.events(1)[0]
	require.Equal(t, before[0].payload, first.payload)
	c.quiet(100 * time.Millisecond)
	c.puback(first.id)
	for range 9 {
		c.puback(c.events(1)[0].id)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Empty(t, u.Status().Stuck)
	require.Empty(t, u.Status().LastError)
}

// TestHeadNeverAcked: it does not help a broker that it takes, and even
// confirms, what comes after the event that it does not confirm.
func TestHeadNeverAcked(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 1, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.AckTimeout, o.Window = 500*time.Millisecond, 1024
	u, _ := start(t, s, o)
	c := b.welcome()
	c.events(1)
	began := time.Now()
	for ended := false; !ended; {
		record(t, s, event.Urgent, 1, 100)
		record(t, s, event.Routine, 1, 100)
		for range 2 {
			p, err := c.read()
			if ended = err != nil; ended {
				break
			}
			if strings.HasPrefix(p.payload, "urgent") {
				_, _ = c.Write([]byte{0x40, 2, byte(p.id >> 8), byte(p.id)}) // the client may have left just now
			}
		}
		require.Less(t, time.Since(began), patience)
	}
	require.Greater(t, time.Since(began), o.AckTimeout/2)
	eventuallyStatus(t, u, func(s Status) bool { return s.LastError == "the broker took messages and confirms none" })
	require.Zero(t, s.Stats().Routine.Acked)
	require.NotZero(t, s.Stats().Urgent.Acked)
}

func TestAcksOutOfOrder(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 12, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window = 4
	start(t, s, o)
	c := b.welcome()
	list := c.events(4)
	c.puback(list[2].id, list[3].id, list[1].id)
	c.quiet(100 * time.Millisecond) // the window counts from the first unconfirmed one
	require.Zero(t, s.Stats().Routine.Acked, "nothing is contiguous yet")
	c.puback(list[0].id)
	next := c.events(4)
	require.EqualValues(t, 4, s.Stats().Routine.Acked)
	for i, p := range next {
		require.Equal(t, string(body(event.Routine, uint64(5+i), 100)), p.payload)
	}
	// Confirmed out of order and then cut: all from the first unconfirmed one
	// comes again.
	c.puback(next[0].id, next[2].id, next[3].id)
	again6 := c.events(1)
	require.Equal(t, string(body(event.Routine, 9, 100)), again6[0].payload)
	require.NoError(t, c.Close())
	c = b.welcome()
	for i, p := range c.events(4) {
		require.Equal(t, string(body(event.Routine, uint64(6+i), 100)), p.payload)
		require.False(t, p.dup, "a new session begins anew")
		c.puback(p.id)
	}
	for _, p := range c.events(3) {
		c.puback(p.id)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
}

func TestDiesBetweenPublishAndPuback(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	const events = 40
	record(t, s, event.Urgent, events, 200)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window = 8
	start(t, s, o)
	var list []published
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round, left := 0, events; left > 0; round++ {
		c := b.welcome()
		take := 1 + random.IntN(min(8, left))
		confirm := random.IntN(take + 1)
		if round%2 == 0 { // or the first event would be suspected and sent alone
			confirm = max(confirm, 1)
		}
		left -= confirm
		for i, p := range c.events(take) {
			list = append(list, published{topic: p.topic, payload: []byte(p.payload), qos: 1})
			if i < confirm {
				c.puback(p.id)
			}
		}
		require.NoError(t, c.CloseWrite())
		c.gone() // what was confirmed is read before the end is seen
		eventually(t, func() bool { return backlog(s) == uint64(left) })
	}
	duplicates := requireEvents(t, list, event.Urgent, events, 200)
	t.Logf("%d duplicates", duplicates)
	require.NotZero(t, duplicates)
}

// CloseWrite ends the broker's side after everything that it has sent.
func (c *rawConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func TestPoisonedMessage(t *testing.T) {
	t.Parallel()
	// A broker that ends the connection at the third event, as one does to whom
	// a message is too large. Everything before it gets through, and it is named.
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 6, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	u, _ := start(t, s, o)
	poison := string(body(event.Routine, 3, 100))
	for session := 1; ; session++ {
		c := b.welcome()
		for {
			p := c.expect()
			if p.payload == poison {
				break
			}
			c.puback(p.id)
		}
		require.NoError(t, c.CloseWrite())
		c.gone()
		if stuck := u.Status().Stuck; len(stuck) > 0 {
			require.EqualValues(t, 3, stuck[0].Sequence)
			break
		}
		require.Less(t, session, 10)
	}
	require.EqualValues(t, 2, s.Stats().Routine.Acked)
	require.Contains(t, u.Status().Hint, "size limit")
	c := b.welcome()
	for range 4 {
		c.puback(c.expect().id)
	}
	eventually(t, func() bool { return backlog(s) == 0 && len(u.Status().Stuck) == 0 })
}

func TestUrgentOvertakesRoutine(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 100, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window = 4
	start(t, s, o)
	c := b.welcome()
	flying := c.events(4)
	record(t, s, event.Urgent, 3, 100)
	// Each free slot goes to an urgent event as long as one waits.
	for i := range 3 {
		c.puback(flying[i].id)
		p := c.events(1)[0]
		require.Equal(t, string(body(event.Urgent, uint64(i+1), 100)), p.payload)
		flying = append(flying, p)
	}
	c.puback(flying[3].id)
	require.Equal(t, string(body(event.Routine, 5, 100)), c.events(1)[0].payload)
	// Urgent ones are confirmed on their own: the cursor of their class moves.
	c.puback(flying[4].id, flying[5].id)
	eventually(t, func() bool { return s.Stats().Urgent.Acked == 2 && s.Stats().Routine.Acked == 4 })
}

func TestWindowBytes(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 3, 10_000)
	record(t, s, event.Routine, 2, 100_000) // each above the cap
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.WindowBytes = 25_000
	start(t, s, o)
	c := b.welcome()
	list := c.events(2)
	c.quiet(50 * time.Millisecond)
	c.puback(list[0].id, list[1].id)
	c.puback(c.events(1)[0].id)
	for range 2 { // alone
		p := c.events(1)
		c.quiet(50 * time.Millisecond)
		c.puback(p[0].id)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
}

func TestClientIDTakenOver(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	a := &agent{}
	u, _ := start(t, s, a.options(t, "tcp://"+b.addr))
	eventuallyStatus(t, u, online)
	thief := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID("lanepost-a-1").SetAutoReconnect(false))
	token := thief.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	t.Cleanup(func() { thief.Disconnect(100) })
	eventually(t, func() bool { return u.Status().Reconnects == 1 && u.Status().State == Online })
	require.Equal(t, "the broker closed the connection", u.Status().LastError)
	require.Contains(t, u.Status().Hint, "another client may use the client id lanepost-a-1")
	record(t, s, event.Urgent, 10, 100)
	eventually(t, func() bool { return backlog(s) == 0 })
	requireEvents(t, b.all(), event.Urgent, 10, 100)
	require.Empty(t, u.Status().LastError, "delivery makes the old trouble forgotten")
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	for code, want := range map[byte]struct{ reason, hint string }{
		1:  {"the broker does not speak MQTT 3.1.1", "allow protocol version 3.1.1"},
		2:  {"the broker does not accept the client id lanepost-a-1", "another client id"},
		3:  {"the broker says that it is not available", "keeps trying"},
		4:  {"the broker does not accept the user name or the password", "the password file"},
		5:  {"the broker does not let this client in: not authorised", "client id lanepost-a-1"},
		17: {"the broker refused the login: connection refused with code 17, which MQTT 3.1.1 does not know", "the broker's log"},
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			b := newRawBroker(t)
			a := &agent{}
			u, _ := start(t, newSpool(t), a.options(t, "tcp://"+b.addr))
			b.accept().connack(code)
			eventuallyStatus(t, u, failing(want.reason))
			require.Contains(t, u.Status().Hint, want.hint)
			require.NotEqual(t, Online, u.Status().State)
			b.welcome()
			eventuallyStatus(t, u, online)
		})
	}
}

func TestPasswordIsReadAtEachConnect(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, func(_ *mochi.Client, pk packets.Packet) bool {
		return string(pk.Connect.Username) == "lane" && string(pk.Connect.Password) == "right"
	})
	var mu sync.Mutex
	password, readErr := "", errors.New("open /run/secret: no such file")
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Username = func() (string, error) { return "lane", nil }
	o.Password = func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return password, readErr
	}
	u, _ := start(t, newSpool(t), o)
	eventuallyStatus(t, u, failing("read the password: open /run/secret: no such file"))
	require.Contains(t, u.Status().Hint, "the agent's user may read it")
	mu.Lock()
	password, readErr = "wrong", nil
	mu.Unlock()
	eventuallyStatus(t, u, failing("the broker does not let this client in: not authorised"))
	mu.Lock()
	password = "right"
	mu.Unlock()
	eventuallyStatus(t, u, online)
}

// TestSessionNumbers: the number is used up only when a broker may have seen it.
func TestSessionNumbers(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	a := &agent{}
	o := a.options(t, "tcp://"+addr)
	u, _ := start(t, newSpool(t), o)
	eventually(t, func() bool { return u.Status().LastError != "" })
	require.Contains(t, u.Status().LastError, "127.0.0.1 refuses connections on port")
	first := u.Status().LastErrorAt
	eventually(t, func() bool { return u.Status().LastErrorAt.After(first.Add(100 * time.Millisecond)) }) // it tries again
	b := embed(t, addr, nil, nil)
	eventuallyStatus(t, u, online)
	require.EqualValues(t, 1, u.Status().Session)
	b.kick(t, "lanepost-a-1")
	eventually(t, func() bool { return u.Status().State == Online && u.Status().Session == 2 })
}

func TestBrokerListFailOver(t *testing.T) {
	t.Parallel()
	first := embed(t, "127.0.0.1:0", nil, nil)
	second := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 10, 100)
	u, _ := start(t, s, (&agent{}).options(t, "tcp://"+first.addr, "tcp://"+second.addr))
	eventually(t, func() bool { return backlog(s) == 0 })
	requireEvents(t, first.all(), event.Urgent, 10, 100)
	require.Equal(t, "tcp://"+first.addr, u.Status().Broker)

	first.close()
	record(t, s, event.Routine, 10, 100)
	eventually(t, func() bool { return backlog(s) == 0 })
	requireEvents(t, second.all(), event.Routine, 10, 100)
	require.Equal(t, "tcp://"+second.addr, u.Status().Broker)

	// When the session is lost, the first of the list is tried first again.
	back := embed(t, first.addr, nil, nil)
	second.kick(t, "lanepost-a-1")
	eventually(t, func() bool { return back.count() > 0 && u.Status().State == Online })
	require.Equal(t, "tcp://"+first.addr, u.Status().Broker)
}

// TestUselessBroker: one that lets the client in and drops it at its first
// event is passed over for the next of the list.
func TestUselessBroker(t *testing.T) {
	t.Parallel()
	useless := newRawBroker(t)
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 10, 100)
	u, _ := start(t, s, (&agent{}).options(t, "tcp://"+useless.addr, "tcp://"+b.addr))
	c := useless.welcome()
	c.expect()
	require.NoError(t, c.Close())
	eventually(t, func() bool { return backlog(s) == 0 })
	requireEvents(t, b.all(), event.Urgent, 10, 100)
	require.Equal(t, "tcp://"+b.addr, u.Status().Broker)
}

// TestCutAgainAndAgain sends many events over a line that breaks all the time.
func TestCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	const events, size = 5000, 600
	b := embed(t, "127.0.0.1:0", nil, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newProxy(t, b.addr)
	var mu sync.Mutex
	p.cutAfter = func() int {
		mu.Lock()
		defer mu.Unlock()
		return 20_000 + random.IntN(180_000)
	}
	p.serve()
	s := newSpool(t)
	record(t, s, event.Routine, events*4/5, size)
	record(t, s, event.Urgent, events/10, size)
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.RetryMax = time.Minute // sessions that deliver something must not make the pauses grow
	u, _ := start(t, s, o)
	began := time.Now()
	record(t, s, event.Urgent, events/10, size) // while it goes on
	eventually(t, func() bool { return backlog(s) == 0 })
	t.Logf("%d cuts, %s", p.cuts.Load(), time.Since(began).Round(time.Millisecond))
	list := b.all()
	duplicates := requireEvents(t, list, event.Routine, events*4/5, size)
	duplicates += requireEvents(t, list, event.Urgent, events/5, size)
	t.Logf("%d duplicates", duplicates)
	require.Greater(t, p.cuts.Load(), int64(5))
	require.EqualValues(t, p.cuts.Load(), u.Status().Reconnects)
}

func TestDeadLine(t *testing.T) {
	t.Parallel()
	// Half-open: nothing arrives any more, and nothing says so.
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr).serve()
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.KeepAlive = 2 * time.Second
	o.ConnectTimeout = 300 * time.Millisecond
	u, _ := start(t, newSpool(t), o)
	eventuallyStatus(t, u, online)
	p.hole.Store(true)
	eventuallyStatus(t, u, failing("nothing comes from the broker any more, not even the answer to a ping"))
	eventuallyStatus(t, u, failing("127.0.0.1 took the connection on port "+port(p.addr)+" and did not answer the login"))
	p.hole.Store(false)
	eventuallyStatus(t, u, online)
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

func TestIdleLineStaysUp(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.KeepAlive = 2 * time.Second
	u, _ := start(t, newSpool(t), o)
	eventuallyStatus(t, u, online)
	since := u.Status().Since
	// The broker gives up after three seconds, the uplink after four.
	eventually(t, func() bool { return time.Since(since) > 5*time.Second })
	require.Equal(t, since, u.Status().Since, "pings keep it up: %+v", u.Status())
}

// TestSlowLine: a message that takes longer than the time for its confirmation
// gets through as long as the line moves.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr)
	p.rate = 400_000
	p.serve()
	s := newSpool(t)
	record(t, s, event.Routine, 1, 1_000_000)
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.AckTimeout = 1500 * time.Millisecond
	u, _ := start(t, s, o)
	began := time.Now()
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Greater(t, time.Since(began), o.AckTimeout, "the line is too fast for this test")
	require.Zero(t, u.Status().Reconnects)
	require.Zero(t, requireEvents(t, b.all(), event.Routine, 1, 1_000_000))
}

func TestStates(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	a := &agent{devices: []Message{{deviceTopic, []byte("fresh")}}}
	o := a.options(t, "tcp://"+b.addr)
	u, err := New(newSpool(t), o)
	require.NoError(t, err)
	// Before there is a session: of a topic only the latest counts, and what
	// Retained says is newer still.
	u.PublishState(Message{"gone/1", []byte("old")})
	u.PublishState(Message{"gone/1", []byte("removed")})
	u.PublishState(Message{deviceTopic, []byte("stale")})
	u.PublishState(Message{stateTopic, []byte("stale")})
	u.PublishState(Message{"no/+/topic", []byte("x")})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	c := b.welcome()
	first := c.events(2)
	require.Equal(t, deviceTopic+" fresh", first[0].topic+" "+first[0].payload)
	require.Equal(t, "gone/1 removed", first[1].topic+" "+first[1].payload)
	require.True(t, first[0].retain && first[1].retain)
	// Unconfirmed when the session ends: the next one sends it again.
	c.puback(first[0].id)
	require.NoError(t, c.Close())
	c = b.welcome()
	again := c.events(2)
	require.Equal(t, deviceTopic+" fresh", again[0].topic+" "+again[0].payload)
	require.Equal(t, "gone/1 removed", again[1].topic+" "+again[1].payload)
	c.puback(again[0].id, again[1].id)
	u.PublishState(Message{deviceTopic, []byte("silent")})
	p := c.expect()
	require.Equal(t, deviceTopic+" silent", p.topic+" "+p.payload)
	c.puback(p.id)
	cancel()
	p = c.expect()
	require.Equal(t, string(stateBody(false, 2)), p.payload)
	c.puback(p.id)
	require.EqualValues(t, typeDisconnect, c.expect().kind)
	require.NoError(t, <-ended)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	a := &agent{}
	o := a.options(t, "tcp://"+b.addr)
	o.Heartbeat, o.StopTimeout = 20*time.Millisecond, patience
	_, stop := start(t, newSpool(t), o)
	eventually(t, func() bool { return len(b.all()) > 5 })
	stop()
	list := b.all()
	for _, p := range list[:len(list)-1] {
		require.Equal(t, string(stateBody(true, 1)), string(p.payload))
	}
	require.Equal(t, string(stateBody(false, 1)), string(list[len(list)-1].payload))
}

func TestSpoolClosed(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	u, err := New(s, (&agent{}).options(t, "tcp://"+b.addr))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- u.Run(context.Background()) }()
	eventuallyStatus(t, u, online)
	require.NoError(t, s.Close())
	select {
	case err := <-ended:
		require.ErrorIs(t, err, spool.ErrClosed)
		eventually(t, func() bool { return len(b.willsSent()) == 1 }) // this is no orderly end
	case <-time.After(patience):
		t.Fatal("Run did not return")
	}
}

func TestWebsocket(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", &listeners.Config{Type: listeners.TypeWS}, nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 200, 2000)
	o := (&agent{}).options(t, "ws://"+b.addr+"/mqtt")
	o.StopTimeout = patience
	_, stop := start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	requireEvents(t, b.all(), event.Urgent, 200, 2000)
	require.Equal(t, string(stateBody(false, 1)), b.retained(stateTopic))
	require.Empty(t, b.willsSent())
}

func TestProbe(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, func(_ *mochi.Client, pk packets.Packet) bool { return len(pk.Connect.Username) > 0 })
	o := Options{Brokers: []string{"tcp://" + b.addr}, ClientID: "lanepost-check"}
	err := Probe(context.Background(), o, "test")
	require.EqualError(t, err, "the broker does not let this client in: not authorised")
	require.Contains(t, Hint(err), "check user name and password")
	o.Username = func() (string, error) { return "lane", nil }
	require.NoError(t, Probe(context.Background(), o, "test"))
	require.True(t, b.has("lanepost/v1/test/agent/lanepost-check/lanepost.agent.probe", []byte(`{"probe":"lanepost check"}`)))
	require.Empty(t, b.retained("lanepost/v1/test/agent/lanepost-check/lanepost.agent.probe"))

	raw := newRawBroker(t)
	o.Brokers = []string{"tcp://" + raw.addr}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	err = Probe(ctx, o, "test")
	require.ErrorContains(t, err, "did not answer the login")
	require.NotEmpty(t, Hint(err))
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"no broker is given":                                {ClientID: "x"},
		"no client id is given":                             {Brokers: []string{"tcp://h"}},
		"broker http://h: want tcp://":                      {ClientID: "x", Brokers: []string{"http://h"}},
		"broker tcp://:1883: the host is missing":           {ClientID: "x", Brokers: []string{"tcp://:1883"}},
		"user name and password do not belong into the URL": {ClientID: "x", Brokers: []string{"tcp://u:secret@h"}},
		"a broker URL can't be read":                        {ClientID: "x", Brokers: []string{"tcp://u:secret@h:p:q"}},
		"the window must be 1 to 1024 messages, not 2000":   {ClientID: "x", Brokers: []string{"tcp://h"}, Window: 2000},
		"the keep-alive must be 1 s to 5m0s, not 1h0m0s":    {ClientID: "x", Brokers: []string{"tcp://h"}, KeepAlive: time.Hour},
		"a time of the uplink is negative: -1s":             {ClientID: "x", Brokers: []string{"tcp://h"}, AckTimeout: -time.Second},
	} {
		_, err := New(nil, o)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
	for in, want := range map[string]string{
		"tcp://h": "h:1883", "mqtt://h": "h:1883", "tls://h": "h:8883", "ssl://h": "h:8883", "ws://h": "h:80",
		"wss://h/mqtt": "h:443", "tls://[::1]": "[::1]:8883", "tcp://h:99": "h:99",
	} {
		u, err := parseBroker(in)
		require.NoError(t, err)
		require.Equal(t, want, u.Host)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	o := Options{Brokers: []string{"tcp://h"}, ClientID: "x"}
	_, err := o.complete()
	require.NoError(t, err)
	b := newBackoff(o)
	var longest time.Duration
	for round := range 200 {
		b.Reset()
		for i, end := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			d := b.NextBackOff()
			require.GreaterOrEqual(t, d, time.Duration(0))
			require.LessOrEqual(t, d, end*time.Second, "pause %d of round %d", i, round)
			longest = max(longest, d)
		}
	}
	require.Greater(t, longest, 50*time.Second, "the pauses use their whole range")
}
