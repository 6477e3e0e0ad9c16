package uplink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(clusterNode); config != "" {
		if err := runClusterNode(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for; only a failing test waits so long.
const patience = 20 * time.Second

const (
	stateTopic  = "lanepost/v1/test/agent/a-1/lanepost.agent.state"
	deviceTopic = "lanepost/v1/test/entry-1/rpm-1/lanepost.device.state"
	eventTopic  = "lanepost/v1/test/entry-1/rpm-1/lanepost.radiation.occupancy"
)

// testLog writes to the test's log as long as the test runs.
func testLog(t testing.TB) *slog.Logger {
	w := &logWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		w.t = nil
		w.mu.Unlock()
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// newSpool opens a spool that is closed after the test.
func newSpool(t testing.TB) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{SegmentBytes: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// body is the payload of an event of the tests.
func body(class event.Class, seq uint64, size int) []byte {
	b := fmt.Appendf(nil, "%s %d ", class, seq)
	for len(b) < size {
		b = append(b, byte('a'+(len(b)+int(seq))%26))
	}
	return b
}

// record appends n events of about size bytes.
func record(t testing.TB, s *spool.Spool, class event.Class, n, size int) {
	t.Helper()
	var group sync.WaitGroup
	slots := make(chan struct{}, 128) // they share their fsyncs
	for range n {
		slots <- struct{}{}
		group.Go(func() {
			_, err := s.Append(context.Background(), class, time.Now(), eventTopic, func(seq uint64, _ event.Hash) ([]byte, error) {
				return body(class, seq, size), nil
			})
			if err != nil {
				t.Errorf("append: %v", err)
			}
			<-slots
		})
	}
	group.Wait()
}

// backlog is how many events wait.
func backlog(s *spool.Spool) uint64 {
	st := s.Stats()
	return st.Urgent.Backlog + st.Routine.Backlog
}

// agent plays the agent to an uplink: it makes its states and counts sessions.
type agent struct {
	mu      sync.Mutex
	session uint64
	devices []Message
}

func (a *agent) state(online bool) (string, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return stateTopic, stateBody(online, a.session)
}

func stateBody(online bool, session uint64) []byte {
	return fmt.Appendf(nil, "online=%t session=%d", online, session)
}

func (a *agent) options(t testing.TB, brokers ...string) Options {
	return Options{
		Brokers: brokers, ClientID: "lanepost-a-1", Log: testLog(t),
		RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		ConnectTimeout: 3 * time.Second, AckTimeout: 5 * time.Second, KeepAlive: 5 * time.Second,
		// Raw brokers seldom confirm the offline state.
		StopTimeout: 100 * time.Millisecond,
		State:       a.state,
		Will:        func(n uint64) (string, []byte) { return stateTopic, stateBody(false, n) },
		Session: func() (uint64, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.session++
			return a.session, nil
		},
		Retained: func() []Message {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.devices
		},
	}
}

// start runs an uplink. stop ends it and is called at the end of the test at
// the latest.
func start(t testing.TB, s *spool.Spool, o Options) (u *Uplink, stop func()) {
	t.Helper()
	u, err := New(s, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	})
	t.Cleanup(stop)
	return u, stop
}

// eventually waits for a condition.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 2*time.Millisecond)
}

// eventuallyStatus waits for a condition on the status of an uplink.
func eventuallyStatus(t testing.TB, u *Uplink, ok func(Status) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		s := u.Status()
		if ok(s) {
			return
		}
		if time.Now().After(deadline) {
			require.FailNowf(t, "the uplink did not come to the awaited state", "%+v", s)
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

func online(s Status) bool { return s.State == Online }

// failing makes a condition on the last error.
func failing(reason string) func(Status) bool {
	return func(s Status) bool { return s.LastError == reason }
}

// published is one PUBLISH as a broker saw it.
type published struct {
	client, topic string
	payload       []byte
	retain        bool
	qos           byte
}

// ledger is what a broker has received, in order.
type ledger struct {
	mu   sync.Mutex
	list []published
}

func (l *ledger) add(p published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, p)
}

func (l *ledger) all() []published {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]published(nil), l.list...)
}

func (l *ledger) has(topic string, payload []byte) bool {
	for _, p := range l.all() {
		if p.topic == topic && bytes.Equal(p.payload, payload) {
			return true
		}
	}
	return false
}

// requireEvents checks what arrived of a class: all from 1 to n, each with its
// bytes every time, first copies in order. It returns the number of copies
// beyond the first.
func requireEvents(t testing.TB, list []published, class event.Class, n, size int) (duplicates int) {
	t.Helper()
	last := uint64(0)
	for _, p := range list {
		var c event.Class
		var seq uint64
		if p.topic != eventTopic {
			continue
		}
		_, err := fmt.Sscanf(string(p.payload), "%s %d ", &c, &seq)
		require.NoError(t, err)
		if c != class {
			continue
		}
		require.Equal(t, string(body(class, seq, size)), string(p.payload), "the bytes of %s %d", class, seq)
		require.False(t, p.retain, "an event is not retained")
		require.EqualValues(t, 1, p.qos)
		if seq <= last {
			duplicates++
			continue
		}
		require.Equal(t, last+1, seq, "%s: first copies in order, none missing", class)
		last = seq
	}
	require.EqualValues(t, n, last, "%s events that arrived", class)
	return duplicates
}

// watcher is the hook that watches an embedded broker.
type watcher struct {
	mochi.HookBase
	ledger

	mu     sync.Mutex
	login  func(cl *mochi.Client, pk packets.Packet) bool
	logins int
	wills  []published
}

func (*watcher) ID() string { return "watcher" }

func (*watcher) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish, mochi.OnWillSent}, []byte{b})
}

func (*watcher) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (w *watcher) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.login != nil && !w.login(cl, pk) {
		return false
	}
	w.logins++
	return true
}

// OnPublish is called before the PUBACK.
func (w *watcher) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	w.add(published{cl.ID, pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Retain, pk.FixedHeader.Qos})
	return pk, nil
}

func (w *watcher) OnWillSent(cl *mochi.Client, pk packets.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wills = append(w.wills, published{cl.ID, pk.TopicName, bytes.Clone(pk.Payload), pk.FixedHeader.Retain, pk.FixedHeader.Qos})
}

func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logins
}

func (w *watcher) willsSent() []published {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]published(nil), w.wills...)
}

// embedded is a mochi broker in the test's process.
type embedded struct {
	*watcher
	server *mochi.Server
	addr   string
	close  func()
}

// retained is the retained message of a topic.
func (e *embedded) retained(topic string) string {
	pk, ok := e.server.Topics.Retained.Get(topic)
	if !ok {
		return ""
	}
	return string(pk.Payload)
}

// kick ends the connection of a client without a word.
func (e *embedded) kick(t testing.TB, id string) {
	t.Helper()
	cl, ok := e.server.Clients.Get(id)
	require.True(t, ok, "client %s is not connected", id)
	_ = cl.Net.Conn.Close()
}

// embed starts a mochi broker. c may change its listener.
func embed(t testing.TB, addr string, c *listeners.Config, login func(*mochi.Client, packets.Packet) bool) *embedded {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	e := &embedded{watcher: &watcher{login: login}, server: server}
	require.NoError(t, server.AddHook(e.watcher, nil))
	config := listeners.Config{}
	if c != nil {
		config = *c
	}
	config.ID, config.Address = "test", addr
	var l listeners.Listener
	switch config.Type {
	case listeners.TypeWS:
		if config.Address == "127.0.0.1:0" {
			config.Address = freeAddress(t) // it does not tell which port it took
		}
		l = listeners.NewWebsocket(config)
	default:
		l = listeners.NewTCP(config)
	}
	// The broker waits at its end for clients that it may be counting just then: a race of
	// its own. Its count is held above zero until nobody comes any more.
	server.Listeners.ClientsWg.Add(1)
	require.NoError(t, server.AddListener(&heldListener{Listener: l, held: &server.Listeners.ClientsWg}))
	require.NoError(t, server.Serve())
	e.addr = l.Address()
	e.close = sync.OnceFunc(func() { _ = server.Close() })
	t.Cleanup(e.close)
	return e
}

// heldListener lets go of its broker's count of clients when it is closed.
type heldListener struct {
	listeners.Listener
	held *sync.WaitGroup
	once sync.Once
}

func (l *heldListener) Close(clients listeners.CloseFn) {
	l.Listener.Close(clients)
	l.once.Do(l.held.Done)
}

// freeAddress is an address that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return ln.Addr().String()
}

// Packet types of MQTT 3.1.1, chapter 2.2.1.
const (
	typeConnect    = 1
	typePublish    = 3
	typeSubscribe  = 8
	typePingreq    = 12
	typeDisconnect = 14
)

// rawBroker is a listener whose connections a test serves packet by packet.
type rawBroker struct {
	t     testing.TB
	ln    net.Listener
	addr  string
	conns chan *rawConn

	mu   sync.Mutex
	open []net.Conn
}

// rawConn is one client's connection.
type rawConn struct {
	t testing.TB
	net.Conn
	client, willTopic, will string
}

// rawPacket is a packet from the client.
type rawPacket struct {
	kind    byte
	id      uint16
	topic   string
	payload string
	retain  bool
	dup     bool
}

func newRawBroker(t testing.TB) *rawBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &rawBroker{t: t, ln: ln, addr: ln.Addr().String(), conns: make(chan *rawConn, 16)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.open = append(b.open, nc)
			b.mu.Unlock()
			b.conns <- &rawConn{t: t, Conn: nc}
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, nc := range b.open {
			_ = nc.Close()
		}
	})
	return b
}

// accept waits for a client and reads its CONNECT.
func (b *rawBroker) accept() *rawConn {
	b.t.Helper()
	select {
	case c := <-b.conns:
		p, err := c.read()
		require.NoError(b.t, err)
		require.EqualValues(b.t, typeConnect, p.kind)
		return c
	case <-time.After(patience):
		require.FailNow(b.t, "no client came")
		return nil
	}
}

// welcome accepts a client and confirms its birth.
func (b *rawBroker) welcome() *rawConn {
	b.t.Helper()
	c := b.accept()
	c.connack(0)
	birth := c.expect()
	require.Equal(b.t, stateTopic, birth.topic)
	c.puback(birth.id)
	return c
}

func (c *rawConn) connack(code byte) { c.send(0x20, 2, 0, code) }

func (c *rawConn) puback(ids ...uint16) {
	for _, id := range ids {
		c.send(0x40, 2, byte(id>>8), byte(id))
	}
}

func (c *rawConn) send(b ...byte) {
	_, err := c.Write(b)
	require.NoError(c.t, err)
}

// expect waits for the next packet that is not a ping.
func (c *rawConn) expect() rawPacket {
	c.t.Helper()
	p, err := c.read()
	require.NoError(c.t, err)
	return p
}

// events waits for the next n PUBLISH packets.
func (c *rawConn) events(n int) []rawPacket {
	c.t.Helper()
	var list []rawPacket
	for range n {
		p := c.expect()
		require.EqualValues(c.t, typePublish, p.kind)
		list = append(list, p)
	}
	return list
}

// quiet checks that no packet comes for a while.
func (c *rawConn) quiet(d time.Duration) {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(d)))
	var one [1]byte
	n, err := c.Conn.Read(one[:])
	require.ErrorIs(c.t, err, os.ErrDeadlineExceeded, "read %d bytes: %x", n, one)
}

// gone checks that the client has closed its side, or is about to.
func (c *rawConn) gone() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := io.Copy(io.Discard, c.Conn)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded, "the old connection is still open")
}

// read reads a packet, answering pings.
func (c *rawConn) read() (rawPacket, error) {
	for {
		p, err := c.readAny()
		if err != nil || p.kind != typePingreq {
			return p, err
		}
		if _, err := c.Write([]byte{0xd0, 0}); err != nil {
			return p, err
		}
	}
}

func (c *rawConn) readAny() (p rawPacket, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return p, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
		return p, err
	}
	p.kind, p.retain, p.dup = b[0]>>4, b[0]&1 == 1, b[0]&8 != 0
	length, shift := 0, 0
	for {
		if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
			return p, err
		}
		length |= int(b[0]&0x7f) << shift
		if shift += 7; b[0]&0x80 == 0 {
			break
		}
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(c.Conn, rest); err != nil {
		return p, err
	}
	text := func() string {
		n := int(binary.BigEndian.Uint16(rest))
		s := string(rest[2 : 2+n])
		rest = rest[2+n:]
		return s
	}
	switch p.kind {
	case typeConnect:
		if protocol := text(); protocol != "MQTT" || rest[0] != 4 {
			return p, fmt.Errorf("protocol %q level %d", protocol, rest[0])
		}
		flags := rest[1]
		rest = rest[4:]
		if flags&2 == 0 {
			return p, errors.New("not a clean session")
		}
		c.client = text()
		if flags&4 != 0 {
			c.willTopic, c.will = text(), text()
		}
	case typeSubscribe:
		p.id = binary.BigEndian.Uint16(rest)
	case typePublish:
		p.topic = text()
		p.id = binary.BigEndian.Uint16(rest)
		p.payload = string(rest[2:])
	}
	return p, nil
}

// textLog is a logger whose lines a test reads, under mu.
func textLog(mu *sync.Mutex, b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(&lockedWriter{mu, b}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
