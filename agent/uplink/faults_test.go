package uplink

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// TestCutAtEveryByte cuts the line after one byte, then after two, and so on
// until three events are through: at every byte of the login, of the birth and
// of a PUBLISH; and likewise in what the broker answers.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"from the client", "from the broker"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			const events, size = 3, 60
			b := embed(t, "127.0.0.1:0", nil, nil)
			p := newProxy(t, b.addr)
			var bytes atomic.Int64
			next := func() int { return int(bytes.Add(1)) } // one connection at a time
			if p.cutAfter = next; way == "from the broker" {
				p.cutAfter, p.cutBack = nil, next
			}
			p.serve()
			s := newSpool(t)
			record(t, s, event.Urgent, events, size)
			o := (&agent{}).options(t, "tcp://"+p.addr)
			o.RetryMin, o.RetryMax = time.Nanosecond, time.Nanosecond
			u, stop := start(t, s, o)
			eventually(t, func() bool { return backlog(s) == 0 })
			stop()
			least := 4 + 4 + 4 // CONNACK, and PUBACKs for the birth and an event
			if way == "from the client" {
				least = len(stateTopic) + len(stateTopic) + len(eventTopic) + size // will, birth, event
			}
			require.Greater(t, int(bytes.Load()), least)
			t.Logf("%d cuts", bytes.Load())
			require.NotZero(t, requireEvents(t, b.all(), event.Urgent, events, size))
			require.Empty(t, u.Status().Stuck)
		})
	}
}

// TestOneWayLine: a line that carries one direction only, or has no room.
func TestOneWayLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   func(*proxy, bool)
		size    int
		connect time.Duration
		reason  string
	}{
		"nothing arrives at the broker": {func(p *proxy, on bool) { p.deaf.Store(on) }, 100, 300 * time.Millisecond, "the broker took messages and confirms none"},
		"nothing comes back":            {func(p *proxy, on bool) { p.mute.Store(on) }, 100, 300 * time.Millisecond, "the broker took messages and confirms none"},
		// To record so much takes longer on a busy machine than the line takes to
		// fail, and the next failure, of the login, would hide that of the line.
		"the line takes nothing": {func(p *proxy, on bool) { p.full.Store(on) }, 1_000_000, patience, "the line to the broker takes no data any more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events = 4
			b := embed(t, "127.0.0.1:0", nil, nil)
			p := newProxy(t, b.addr)
			p.rate = 3_000_000 // with it come small buffers
			p.serve()
			s := newSpool(t)
			o := (&agent{}).options(t, "tcp://"+p.addr)
			o.AckTimeout, o.ConnectTimeout, o.WindowBytes = 500*time.Millisecond, c.connect, 64<<20
			u, _ := start(t, s, o)
			eventuallyStatus(t, u, online)
			c.fault(p, true)
			record(t, s, event.Routine, events, c.size)
			eventuallyStatus(t, u, failing(c.reason))
			require.NotEmpty(t, u.Status().Hint)
			require.Zero(t, s.Stats().Routine.Acked)
			c.fault(p, false)
			eventually(t, func() bool { return backlog(s) == 0 })
			duplicates := requireEvents(t, b.all(), event.Routine, events, c.size)
			if name == "nothing comes back" {
				require.NotZero(t, duplicates)
			}
		})
	}
}

// TestLongLine: what takes long to be confirmed is not taken for lost, and the
// window bounds the rate.
func TestLongLine(t *testing.T) {
	t.Parallel()
	const events, window, delay = 400, 64, 50 * time.Millisecond
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr)
	p.delay = delay
	p.serve()
	s := newSpool(t)
	record(t, s, event.Routine, events, 600)
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.Window = window
	u, _ := start(t, s, o)
	began := time.Now()
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Greater(t, time.Since(began), events/window*2*delay)
	require.Zero(t, u.Status().Reconnects)
	require.Zero(t, requireEvents(t, b.all(), event.Routine, events, 600))
}

// TestStrangeAcks: confirmations of what was never sent, or of what was
// confirmed before, move nothing.
func TestStrangeAcks(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	s := newSpool(t)
	record(t, s, event.Routine, 6, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Window = 2
	u, _ := start(t, s, o)
	c := b.welcome()
	list := c.events(2)
	c.puback(0, 999, 0xffff, list[1].id+1)
	c.quiet(50 * time.Millisecond)
	require.Zero(t, s.Stats().Routine.Acked)
	c.puback(list[1].id, list[1].id, list[1].id)
	c.quiet(50 * time.Millisecond)
	require.Zero(t, s.Stats().Routine.Acked, "the first of them is not confirmed")
	c.puback(list[0].id)
	for range 4 {
		p := c.events(1)[0]
		c.puback(p.id, p.id, 0)
	}
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Zero(t, u.Status().Reconnects)
	require.Empty(t, u.Status().LastError)
}

// TestGarbage: a broker that talks nonsense, before the login or after it.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, garbage := range map[string]string{
		"a web server":             "HTTP/1.1 400 Bad Request\r\n\r\n",
		"a mail server":            "220 mail.example ESMTP\r\n",
		"a second welcome":         "\x40\x02\xff\xff\x20\x02\x00\x00",
		"zeros":                    strings.Repeat("\x00", 64),
		"ones":                     strings.Repeat("\xff", 64),
		"a packet for a broker":    "\x82\x06\x00\x01\x00\x01a\x01",
		"a confirmation too long":  "\x40\x05\x00\x01\x00\x00\x00",
		"a publish without an end": "\x30\xff\xff\xff\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRawBroker(t)
			s := newSpool(t)
			record(t, s, event.Urgent, 3, 100)
			u, _ := start(t, s, (&agent{}).options(t, "tcp://"+b.addr))
			c := b.accept()
			c.send([]byte(garbage)...)
			eventuallyStatus(t, u, func(s Status) bool {
				return strings.HasPrefix(s.LastError, "127.0.0.1 does not speak MQTT on port "+port(b.addr))
			})
			c = b.welcome()
			list := c.events(3)
			c.puback(list[0].id)
			if name == "a mail server" {
				garbage += garbage + garbage // or it could be the beginning of a message
			}
			c.send([]byte(garbage)...)
			eventuallyStatus(t, u, func(s Status) bool { return strings.HasPrefix(s.LastError, "the broker broke the protocol: ") })
			require.Contains(t, u.Status().Hint, "the broker's log")
			require.EqualValues(t, 1, s.Stats().Urgent.Acked, "what was confirmed before is")
			c = b.welcome()
			for i, p := range c.events(2) {
				require.Equal(t, string(body(event.Urgent, uint64(2+i), 100)), p.payload)
				c.puback(p.id)
			}
			eventually(t, func() bool { return backlog(s) == 0 })
		})
	}
}

// faultTime is how long TestFaults does damage; LANEPOST_FAULT_TIME changes it.
const faultTime = 3 * time.Second

// TestFaults combines what can go wrong, at random, on the line and at the
// broker. LANEPOST_SEED makes the same choices again, if not at the same
// moments.
func TestFaults(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if text := os.Getenv("LANEPOST_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	last := faultTime
	if text := os.Getenv("LANEPOST_FAULT_TIME"); text != "" {
		var err error
		last, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	t.Logf("LANEPOST_SEED=%d", seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with LANEPOST_SEED=%d", seed)
		}
	})
	const size = 300
	random := rand.New(rand.NewPCG(seed, 0))
	b := &faultyBroker{rawBroker: newRawBroker(t), random: rand.New(rand.NewPCG(seed, 1)), done: make(chan struct{}),
		acked: map[string]bool{}, faults: map[string]int{}, checked: map[event.Class]uint64{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.serve()
	}()
	t.Cleanup(func() {
		close(b.done)
		<-ended
	})
	p := newProxy(t, b.addr)
	lineRandom := rand.New(rand.NewPCG(seed, 2))
	p.cutAfter = func() int { // one connection at a time
		if b.calm() || lineRandom.IntN(4) > 0 {
			return -1
		}
		return 1 + lineRandom.IntN(20_000)
	}
	p.serve()
	s := newSpool(t)
	o := (&agent{}).options(t, "tcp://"+p.addr)
	o.AckTimeout, o.ConnectTimeout, o.KeepAlive = 100*time.Millisecond, 100*time.Millisecond, time.Second
	o.RetryMin, o.RetryMax, o.Window = time.Millisecond, 5*time.Millisecond, 16
	o.Log = nil
	u, _ := start(t, s, o)

	words := map[string]string{} // what the status said
	began := time.Now()
	for time.Since(began) < last {
		class, n := event.Classes[random.IntN(len(event.Classes))], 1+random.IntN(20)
		if backlog(s) < 1000 {
			record(t, s, class, n, size)
		} else {
			time.Sleep(time.Millisecond) // until the faulty broker has taken some
		}
		st := u.Status()
		words[st.LastError] = st.Hint
		b.check(t, s)
	}
	b.calmDown()
	eventually(t, func() bool {
		b.check(t, s)
		return backlog(s) == 0
	})
	stats, list := s.Stats(), b.all()
	duplicates := requireEvents(t, list, event.Urgent, int(stats.Urgent.Acked), size)
	duplicates += requireEvents(t, list, event.Routine, int(stats.Routine.Acked), size)
	t.Logf("%d events, %d duplicates, %d sessions", stats.Urgent.Acked+stats.Routine.Acked, duplicates, u.Status().Session)
	for _, name := range slices.Sorted(maps.Keys(b.faults)) {
		t.Logf("%4d times: %s", b.faults[name], name)
	}
	for reason, hint := range words {
		require.NotContains(t, reason, "read tcp", "in words")
		require.NotContains(t, reason, "EOF", "in words")
		require.Equal(t, reason == "", hint == "", "what to do about %q", reason)
	}
	require.Greater(t, len(words), 1)
}

// faultyBroker serves one connection after the other, each with another fault.
type faultyBroker struct {
	*rawBroker
	ledger
	random *rand.Rand
	done   chan struct{}

	mu     sync.Mutex
	quiet  bool            // no more faults
	acked  map[string]bool // class and sequence
	faults map[string]int

	checked map[event.Class]uint64 // up to where, by check
}

func (b *faultyBroker) calm() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.quiet
}

func (b *faultyBroker) calmDown() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet = true
}

// check compares the cursors with what was confirmed: they stand at or before
// the first event that was not.
func (b *faultyBroker) check(t testing.TB, s *spool.Spool) {
	t.Helper()
	stats := s.Stats() // before the confirmations are looked at
	b.mu.Lock()
	defer b.mu.Unlock()
	for class, cursor := range map[event.Class]uint64{event.Urgent: stats.Urgent.Acked, event.Routine: stats.Routine.Acked} {
		for ; b.checked[class] < cursor; b.checked[class]++ {
			seq := b.checked[class] + 1
			require.True(t, b.acked[fmt.Sprint(class, " ", seq)], "the cursor of %s is at %d, and %d was never confirmed", class, cursor, seq)
		}
	}
}

func (b *faultyBroker) serve() {
	for {
		select {
		case <-b.done:
			return
		case c := <-b.conns:
			b.connection(c)
			_ = c.Close()
		}
	}
}

// brokerFaults are what ends a connection after some messages, and what is told
// of it. They return when the connection is of no more use.
var brokerFaults = []struct {
	name string
	do   func(b *faultyBroker, c *rawConn)
}{
	{"dies before the confirmation", func(_ *faultyBroker, _ *rawConn) {}},
	{"closes one direction", func(_ *faultyBroker, c *rawConn) {
		_ = c.CloseWrite()
		c.drain(50 * time.Millisecond)
	}},
	{"never confirms again", func(_ *faultyBroker, c *rawConn) { c.drain(time.Second) }},
	{"resets", func(_ *faultyBroker, c *rawConn) { _ = c.Conn.(interface{ SetLinger(int) error }).SetLinger(0) }},
	{"sends garbage", func(b *faultyBroker, c *rawConn) {
		garbage := make([]byte, 1+b.random.IntN(64))
		for i := range garbage {
			garbage[i] = byte(b.random.Uint32())
		}
		garbage[0] = 0x50 // or it may be a confirmation by chance
		_, _ = c.Write(garbage)
		c.drain(50 * time.Millisecond)
	}},
	{"half a confirmation", func(_ *faultyBroker, c *rawConn) { _, _ = c.Write([]byte{0x40, 2, 0}) }},
	{"says goodbye as MQTT 5 does", func(_ *faultyBroker, c *rawConn) { _, _ = c.Write([]byte{0xe0, 2, 0x8e, 0}) }},
}

// drain reads until the client has gone, for a while at most. What arrives so is
// not counted as received: a broker may have lost it.
func (c *rawConn) drain(d time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 4096)
	for {
		if _, err := c.Conn.Read(buf); err != nil {
			return
		}
	}
}

// connection serves one connection.
func (b *faultyBroker) connection(c *rawConn) {
	calm := b.calm()
	if p, err := c.read(); err != nil || p.kind != typeConnect {
		return
	}
	fault := brokerFaults[b.random.IntN(len(brokerFaults))]
	name, left := fault.name, 1+b.random.IntN(60)
	shuffle, login := b.random.IntN(2) == 0, b.random.IntN(12)
	if calm {
		left, login = 1<<30, 2
	}
	switch login {
	case 0:
		b.note("says nothing to the login")
		c.drain(time.Second)
		return
	case 1:
		b.note("refuses the login")
		_, _ = c.Write([]byte{0x20, 2, 0, byte(1 + b.random.IntN(5))})
		return
	}
	if _, err := c.Write([]byte{0x20, 2, 0, 0}); err != nil {
		return
	}
	var waiting []rawPacket // received and not confirmed
	for ; left > 0; left-- {
		// With nothing more to come for a moment, all that waits is confirmed.
		p, err := c.readAny()
		if err != nil {
			return
		}
		switch p.kind {
		case typePingreq:
			_, _ = c.Write([]byte{0xd0, 0})
			continue
		case typeDisconnect:
			return
		}
		b.ledger.add(published{topic: p.topic, payload: []byte(p.payload), retain: p.retain, qos: 1})
		waiting = append(waiting, p)
		if p.topic == eventTopic && !calm && len(waiting) < 8 && b.random.IntN(4) > 0 {
			continue // several are confirmed together
		}
		if shuffle {
			b.random.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
			if b.random.IntN(4) == 0 { // of what was never sent
				b.note("confirms what was never sent")
				_, _ = c.Write([]byte{0x40, 2, 0xff, byte(b.random.Uint32())})
			}
		}
		for _, p := range waiting {
			b.confirm(c, p)
		}
		waiting = waiting[:0]
	}
	b.note(name)
	fault.do(b, c)
}

// confirm counts a message as confirmed before the client can know.
func (b *faultyBroker) confirm(c *rawConn, p rawPacket) {
	if p.topic == eventTopic {
		words := strings.SplitN(p.payload, " ", 3)
		b.mu.Lock()
		b.acked[words[0]+" "+words[1]] = true
		b.mu.Unlock()
	}
	_, _ = c.Write([]byte{0x40, 2, byte(p.id >> 8), byte(p.id)}) // the client may have left
}

func (b *faultyBroker) note(fault string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[fault]++
}

// TestSilentBroker: something takes the connection and says nothing.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]string{
		"tcp": "127.0.0.1 took the connection on port %s and did not answer the login",
		"tls": "127.0.0.1 took the connection on port %s and said nothing",
		"ws":  "127.0.0.1 does not answer on port %s",
		"wss": "127.0.0.1 took the connection on port %s and said nothing",
	} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			b := newRawBroker(t)
			s := newSpool(t)
			record(t, s, event.Urgent, 3, 100)
			o := (&agent{}).options(t, scheme+"://"+b.addr)
			o.ConnectTimeout = 200 * time.Millisecond
			u, _ := start(t, s, o)
			eventuallyStatus(t, u, failing(fmt.Sprintf(want, port(b.addr))))
			require.NotEmpty(t, u.Status().Hint)
			require.EqualValues(t, 3, backlog(s))
		})
	}
}
