package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of a session.
const (
	// handOver bounds paho's Publish, which does not block over our conn.
	handOver = 5 * time.Second
	// downTimeout bounds the wait for paho's goroutines.
	downTimeout = 10 * time.Second
	// watchEvery is how often a session is looked after.
	watchEvery = time.Second
	// packetSlack is what a PUBLISH adds to its topic and payload, at most.
	packetSlack = 16
	// qos of everything. Nothing is gained from 2: subscribers know events by id.
	qos = 1
)

// session is one connection to a broker, from login to its end.
type session struct {
	u      *Uplink
	client mqtt.Client
	conn   *conn

	streams [len(event.Classes)]*stream
	// states are the retained messages on their way.
	states flights

	count, bytes int       // on their way
	online       time.Time // since when
	healthy      bool      // an event was confirmed, or it has lasted
	busy         time.Time // when data last waited for the line
}

// stream is one class of events.
type stream struct {
	class  event.Class
	reader *spool.Reader
	window int
	ready  []spool.Record // read and not yet sent
	flying flights        // sent and not yet confirmed, in sequence
	retry  time.Time      // do not read the spool before, after a failure
}

// flight is a message on its way: handed to paho and not yet taken off the
// window.
type flight struct {
	token    mqtt.Token
	sent     time.Time
	bytes    int
	sequence uint64  // of an event
	message  Message // a state's; of an event only the topic
}

// flights are messages on their way in the order in which they were sent. They
// are taken off from the front only: what is confirmed out of order waits for
// what is before it, and takes its slot of the window until then.
type flights struct {
	list []flight
	// since is when the first of them became the first, or when it was last seen
	// to wait for the line.
	since time.Time
	taken bool // the line has taken the first of them
}

func (f *flights) add(fl flight) {
	if len(f.list) == 0 {
		f.since, f.taken = fl.sent, false
	}
	f.list = append(f.list, fl)
}

// overdue tells whether the first of them is unconfirmed for too long. idle is
// when the line had last taken everything.
func (f *flights) overdue(now, idle time.Time, timeout time.Duration) bool {
	if len(f.list) == 0 {
		return false
	}
	if !f.taken {
		f.taken = idle.After(f.list[0].sent)
		f.since = now
	}
	return now.Sub(f.since) > timeout
}

// decided is the channel that closes when the first of them is confirmed or has
// failed; nil if there is none.
func (f *flights) decided() <-chan struct{} {
	if len(f.list) == 0 {
		return nil
	}
	return f.list[0].token.Done()
}

// land takes the confirmed ones off the front, up to the first that is not
// confirmed, and returns its error if it has failed.
func (f *flights) land(each func(flight)) error {
	for len(f.list) > 0 {
		first := f.list[0]
		select {
		case <-first.token.Done():
		default:
			return nil
		}
		// Here, and only here, an event counts as delivered: with the way paho is
		// set up, no error means PUBACK.
		if err := first.token.Error(); err != nil {
			return err
		}
		f.list[0] = flight{}
		f.list = f.list[1:]
		f.since, f.taken = time.Now(), false
		each(first)
	}
	return nil
}

// session runs one session with a broker to its end, which is never without an
// error unless ctx ended. healthy tells that the broker was of use.
func (u *Uplink) session(ctx context.Context, broker *url.URL) (healthy bool, err error) {
	s, err := u.open(ctx, broker)
	if err != nil {
		return false, err
	}
	err = s.run(ctx)
	if err == nil {
		s.goodbye()
	} else if cause := s.conn.reason(); cause != nil {
		err = cause // what ended the connection explains the failed message
	}
	s.down()
	// Now every message is decided: what was confirmed at the last moment counts.
	_ = s.reap() // the end of the session is told already
	s.settle(err)
	if err != nil {
		err = explain(running, err, broker, u.o.ClientID)
	}
	return s.healthy, err
}

// open connects and logs in.
func (u *Uplink) open(ctx context.Context, broker *url.URL) (*session, error) {
	if u.numberUsed || u.number == 0 {
		u.nextNumber()
	}
	will := Message{}
	if u.o.Will != nil {
		will.Topic, will.Payload = u.o.Will(u.number)
	}
	s := &session{u: u}
	err := s.connect(ctx, broker, &u.o, will, func() { u.numberUsed = true })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// nextNumber counts a new session.
func (u *Uplink) nextNumber() {
	if u.o.Session == nil {
		u.number++
	} else {
		n, err := u.o.Session()
		if err != nil {
			u.log.Warn("the session's number is not on disk", "session", n, "err", err)
		}
		u.number = n
	}
	u.numberUsed = false
	u.mu.Lock()
	u.status.Session = u.number
	u.mu.Unlock()
}

// connect opens the connection and logs in. reached is called when the broker
// may hear of this session.
func (s *session) connect(ctx context.Context, broker *url.URL, o *Options, will Message, reached func()) error {
	po, err := s.clientOptions(o, will)
	if err != nil {
		return explain(dialing, err, broker, o.ClientID)
	}
	nc, err := dial(ctx, broker, o)
	if err != nil {
		return explain(dialing, err, broker, o.ClientID)
	}
	reached()
	s.conn = newConn(nc, o.AckTimeout, o.WindowBytes+2*(spool.MaxRecord+spool.MaxTopic))
	po.Servers = []*url.URL{broker}
	po.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return s.conn, nil })
	s.client = mqtt.NewClient(po)
	login := s.client.Connect()
	select {
	case <-login.Done():
	case <-ctx.Done():
		s.conn.end(ctx.Err())
		<-login.Done() // it was reading from the connection
	}
	if err = login.Error(); err == nil {
		return nil
	}
	if cause := s.conn.reason(); cause != nil && !errors.Is(cause, errEnded) {
		err = cause
	}
	if t, ok := login.(*mqtt.ConnectToken); ok && t.ReturnCode() > 0 && t.ReturnCode() <= packets.ErrRefusedNotAuthorised {
		err = refused(t.ReturnCode())
	}
	// Not down: a Disconnect at the end of paho's failed Connect would wait for
	// goroutines that never started. There is nothing of paho left to end.
	s.conn.end(errCut)
	<-s.conn.ended
	return explain(loggingIn, err, broker, o.ClientID)
}

// clientOptions sets paho up so that a token without an error means PUBACK: no
// reconnecting by itself, a clean session, and one client for one connection.
func (s *session) clientOptions(o *Options, will Message) (*mqtt.ClientOptions, error) {
	po := mqtt.NewClientOptions().
		SetClientID(o.ClientID).
		SetProtocolVersion(4). // or paho tries MQTT 3.1 after each refusal
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(false).
		SetStore(mqtt.NewMemoryStore()).
		SetConnectTimeout(o.ConnectTimeout).
		SetWriteTimeout(handOver).
		SetKeepAlive(o.KeepAlive).
		// paho would give a line up on which the answer to a ping waits behind a
		// large message. watch does it better.
		SetPingTimeout(24 * time.Hour)
	if will.Topic != "" {
		po.SetBinaryWill(will.Topic, will.Payload, qos, true)
	}
	var user, password string
	for _, credential := range []struct {
		read func() (string, error)
		into *string
		name string
	}{{o.Username, &user, "user name"}, {o.Password, &password, "password"}} {
		if credential.read == nil {
			continue
		}
		v, err := credential.read()
		if err != nil {
			return nil, &localError{fmt.Errorf("read the %s: %w", credential.name, err)}
		}
		*credential.into = v
	}
	if user == "" && password != "" {
		return nil, &localError{errors.New("there is a password and no user name; MQTT 3.1.1 can't send that")}
	}
	return po.SetUsername(user).SetPassword(password), nil
}

// run publishes the birth, then the states, then events, until the session or
// ctx ends. nil means that ctx ended.
func (s *session) run(ctx context.Context) error {
	u := s.u
	if u.o.State != nil {
		topic, payload := u.o.State(true)
		err := s.sendAndWait(ctx, Message{topic, payload}, true, u.o.AckTimeout)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("publish the agent's state: %w", err)
		}
		u.freshStates(topic)
	} else {
		u.freshStates("")
	}
	u.mu.Lock()
	u.sessions++
	u.status.Reconnects = u.sessions - 1
	broker := u.status.Broker
	for i, class := range event.Classes {
		s.streams[i] = &stream{class: class, reader: u.spool.Reader(class), window: u.o.Window}
		if u.heads[class].Sessions >= stuckAfter {
			s.streams[i].window = 1
		}
	}
	u.mu.Unlock()
	s.online = time.Now()
	u.setState(Online, nil)
	u.log.Info("online", "broker", broker, "session", u.number)
	for _, st := range s.streams {
		st.reader.Rewind()
	}
	return s.deliver(ctx, false)
}

// freshStates asks for all retained states at the beginning of a session. birth
// is the topic that has just been published.
func (u *Uplink) freshStates(birth string) {
	u.mu.Lock()
	old := u.pending
	u.pending = stateQueue{}
	u.mu.Unlock()
	var fresh []Message
	if u.o.Retained != nil {
		fresh = u.o.Retained()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// Whatever PublishState brought in between is newer than both.
	for _, m := range fresh {
		u.pending.putOlder(m)
	}
	for m, ok := old.take(); ok; m, ok = old.take() {
		if m.Topic != birth {
			u.pending.putOlder(m)
		}
	}
}

// deliver publishes what there is and moves the cursors, until the session
// ends (an error) or ctx ends (nil). With finish it returns nil as soon as
// nothing waits any more.
func (s *session) deliver(ctx context.Context, finish bool) error {
	u := s.u
	heartbeat := time.NewTicker(u.o.Heartbeat)
	defer heartbeat.Stop()
	watch := time.NewTicker(min(watchEvery, u.o.AckTimeout/4, u.o.KeepAlive/4))
	defer watch.Stop()
	for {
		if err := s.reap(); err != nil {
			return err
		}
		// Taken before the spool is read, so that no wake-up is lost.
		changed := u.spool.Changed()
		if err := s.fill(); err != nil {
			return err
		}
		if finish && s.count == 0 {
			return nil
		}
		if !s.room(0) {
			changed = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.conn.dead:
			return s.conn.reason()
		case <-s.streams[0].flying.decided():
		case <-s.streams[1].flying.decided():
		case <-s.states.decided():
		case <-changed:
		case <-u.states:
		case <-heartbeat.C:
			if u.o.State != nil {
				topic, payload := u.o.State(true)
				u.PublishState(Message{topic, payload})
			}
		case now := <-watch.C:
			if err := s.watch(now); err != nil {
				s.conn.end(err)
				return err
			}
		}
	}
}

// room tells whether one more message fits into the window.
func (s *session) room(bytes int) bool {
	return s.count == 0 || s.count < s.u.o.Window && s.bytes+bytes <= s.u.o.WindowBytes
}

// fill publishes as much as the window takes: at each slot first a state, then
// the most urgent event that waits.
func (s *session) fill() error {
	u := s.u
	for s.room(0) {
		u.mu.Lock()
		m, ok := u.pending.take()
		u.mu.Unlock()
		if !ok {
			break
		}
		f, err := s.publish(m, true)
		if err != nil {
			u.mu.Lock()
			u.pending.putOlder(m)
			u.mu.Unlock()
			return err
		}
		s.states.add(f)
	}
	var sent uint64
	defer func() {
		u.mu.Lock()
		u.status.Published += sent
		u.status.InFlight = s.count
		u.mu.Unlock()
	}()
	for {
		st, err := s.next()
		if err != nil {
			return err
		}
		if st == nil {
			return nil
		}
		r := st.ready[0]
		m := Message{r.Topic, r.Payload}
		if !s.room(size(m)) {
			return nil
		}
		f, err := s.publish(m, false)
		if err != nil {
			return err
		}
		f.sequence = r.Sequence
		f.message.Payload = nil // the spool has it
		st.flying.add(f)
		st.ready[0] = spool.Record{}
		st.ready = st.ready[1:]
		sent++
	}
}

// next is the most urgent stream that has a record to send and may send it; nil
// if there is none.
func (s *session) next() (*stream, error) {
	for _, st := range s.streams {
		if len(st.flying.list) >= st.window {
			continue
		}
		if len(st.ready) == 0 && !time.Now().Before(st.retry) {
			records, err := st.reader.Next(readAheadRecords, readAheadBytes)
			if errors.Is(err, spool.ErrClosed) {
				return nil, err
			}
			s.u.spoolProblem(st, err)
			st.ready = records
		}
		if len(st.ready) > 0 {
			return st, nil
		}
	}
	return nil, nil
}

// spoolProblem notes that a class can't be read, or can again.
func (u *Uplink) spoolProblem(st *stream, err error) {
	if err == nil && st.retry.IsZero() {
		return
	}
	text := ""
	st.retry = time.Time{}
	if err != nil {
		text = fmt.Sprintf("%s events can't be read from the spool: %v", st.class, err)
		st.retry = time.Now().Add(readRetry)
	}
	u.mu.Lock()
	was := u.status.SpoolError
	u.status.SpoolError = text
	u.mu.Unlock()
	if text != "" && text != was {
		u.log.Error("the spool can't be read", "class", st.class, "err", err)
	}
}

// publish hands a message to paho. With an error it is not on its way.
func (s *session) publish(m Message, retained bool) (flight, error) {
	f := flight{sent: time.Now(), message: m, bytes: size(m)}
	var err error
	if f.token, err = s.send(m, retained); err != nil {
		return flight{}, err
	}
	s.count++
	s.bytes += f.bytes
	return f, nil
}

// size is what a message takes in the window.
func size(m Message) int { return len(m.Topic) + len(m.Payload) + packetSlack }

// send hands a message to paho, whose token then tells of the PUBACK.
func (s *session) send(m Message, retained bool) (token mqtt.Token, err error) {
	alive := s.conn.unlessClosing(func() { token = s.client.Publish(m.Topic, qos, retained, m.Payload) })
	if !alive {
		return nil, s.conn.reason()
	}
	select {
	case <-token.Done():
		err = token.Error() // nil if the PUBACK is here already
	default:
	}
	return token, err
}

// sendAndWait sends a message and waits until it is confirmed.
func (s *session) sendAndWait(ctx context.Context, m Message, retained bool, timeout time.Duration) error {
	token, err := s.send(m, retained)
	if err != nil {
		return err
	}
	select {
	case <-token.Done():
		return token.Error()
	case <-s.conn.dead:
		return s.conn.reason()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(timeout):
		s.conn.end(errNoAck)
		return errNoAck
	}
}

// reap takes the confirmed messages off the window and moves the cursors over
// the contiguous part. It returns the error of the first message that failed.
func (s *session) reap() error {
	gone := func(f flight) {
		s.count--
		s.bytes -= f.bytes
	}
	err := s.states.land(gone)
	for _, st := range s.streams {
		if st == nil {
			continue
		}
		var n int
		var last uint64
		err = errors.Join(err, st.flying.land(func(f flight) {
			gone(f)
			n++
			last = f.sequence
		}))
		if n == 0 {
			continue
		}
		s.u.confirmed(st.class, n)
		s.good()
		if ackErr := st.reader.Ack(last); ackErr != nil {
			err = errors.Join(err, fmt.Errorf("move the %s cursor: %w", st.class, ackErr))
		}
	}
	return err
}

// confirmed notes that the broker has confirmed the next n events of a class.
func (u *Uplink) confirmed(class event.Class, n int) {
	u.mu.Lock()
	u.status.Acked += uint64(n)
	u.status.LastAck = time.Now()
	wasStuck := u.heads[class].Sessions >= stuckAfter
	delete(u.heads, class)
	u.mu.Unlock()
	if wasStuck {
		u.log.Info("the event that seemed stuck is delivered", "class", class)
	}
}

// good notes that the broker is of use.
func (s *session) good() {
	if s.healthy {
		return
	}
	s.healthy = true
	u := s.u
	u.logged = ""
	u.mu.Lock()
	u.status.LastError, u.status.Hint, u.status.LastErrorAt = "", "", time.Time{}
	u.mu.Unlock()
}

// watch tells whether the session is dead though nothing has said so.
func (s *session) watch(now time.Time) error {
	o := &s.u.o
	if now.Sub(s.online) > healthyAfter {
		s.good()
	}
	idle := s.conn.lastIdle()
	for _, f := range []*flights{&s.states, &s.streams[0].flying, &s.streams[1].flying} {
		if f.overdue(now, idle, o.AckTimeout) {
			return errNoAck
		}
	}
	// While data waits for the line, the line is slow at the worst: that it takes
	// nothing at all is conn's to find out.
	if s.conn.busy() {
		s.busy = now
	}
	// paho sends its ping a quarter late at most.
	if now.Sub(later(s.conn.lastHeard(), s.busy)) > 2*o.KeepAlive {
		return errSilent
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

var (
	errNoAck  = errors.New("the broker confirms nothing")
	errSilent = errors.New("the line is dead")
)

// goodbye ends the session in good order: what waits is delivered if that does
// not take long, then the offline state, then DISCONNECT. If the offline state
// is not confirmed, the connection is cut, so that the last will says it.
func (s *session) goodbye() {
	u := s.u
	if s.streams[0] != nil {
		ctx, cancel := context.WithTimeout(context.Background(), u.o.StopTimeout/2)
		err := s.deliver(ctx, true)
		cancel()
		if err != nil {
			return
		}
	}
	if u.o.State != nil {
		topic, payload := u.o.State(false)
		if err := s.sendAndWait(context.Background(), Message{topic, payload}, true, u.o.StopTimeout/2); err != nil {
			u.log.Warn("the broker did not confirm the offline state; its last will says it", "err", err)
			return
		}
	}
	s.client.Disconnect(uint(byeTimeout / time.Millisecond))
	u.log.Info("offline in good order", "session", u.number)
}

// down ends what is left of the session. When it returns, the connection is
// closed and nothing of paho runs any more.
func (s *session) down() {
	s.conn.end(errCut)
	// With the connection gone, this returns as soon as paho's goroutines ended.
	s.client.Disconnect(uint(downTimeout / time.Millisecond))
	<-s.conn.ended
}

// errCut is the cause of a connection that this side cut.
var errCut = errors.New("the connection was cut by this side")

// settle keeps what the next session must know: states that were not confirmed
// are to be sent again, and the heads of the classes are watched.
func (s *session) settle(err error) {
	u := s.u
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range s.states.list {
		u.pending.putOlder(f.message)
	}
	if err == nil {
		return
	}
	for _, st := range s.streams {
		if st == nil || len(st.flying.list) == 0 {
			continue
		}
		head := st.flying.list[0]
		h := u.heads[st.class]
		if h.Sequence != head.sequence {
			h = Stuck{
				Class: st.class, Sequence: head.sequence, Topic: head.message.Topic,
				Bytes: head.bytes - len(head.message.Topic) - packetSlack,
			}
		}
		h.Sessions++
		u.heads[st.class] = h
		if h.Sessions == stuckAfter {
			u.log.Error("an event seems to end every session in which it is sent; its class is sent one by one from now on",
				"class", h.Class, "sequence", h.Sequence, "topic", h.Topic, "bytes", h.Bytes, "sessions", h.Sessions,
				"hint", "look in the broker's log: its packet size limit, or this client's right to publish to the topic")
		}
	}
}

// Probe logs in to the first of the brokers, has a message confirmed, and
// leaves. The message is not retained; its topic is
// "lanepost/v1/{site}/agent/{client id}/lanepost.agent.probe".
func Probe(ctx context.Context, o Options, site string) error {
	brokers, err := o.complete()
	if err != nil {
		return err
	}
	s := &session{}
	if err := s.connect(ctx, brokers[0], &o, Message{}, func() {}); err != nil {
		return err
	}
	defer s.down()
	topic := event.Topic(event.Source(site, event.AgentLane, o.ClientID), "lanepost.agent.probe.v1")
	err = s.sendAndWait(ctx, Message{topic, []byte(`{"probe":"lanepost check"}`)}, false, o.AckTimeout)
	if err != nil && ctx.Err() != nil {
		err = errNoAck
	}
	if cause := s.conn.reason(); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return explain(running, err, brokers[0], o.ClientID)
	}
	s.client.Disconnect(uint(byeTimeout / time.Millisecond))
	return nil
}
