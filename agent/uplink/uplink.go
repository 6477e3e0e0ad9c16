// Package uplink delivers what is in the spool to an MQTT broker.
//
// What it promises:
//
//   - An event leaves the spool's backlog only when the broker has confirmed it
//     with a PUBACK, and only together with everything before it in its class.
//   - Within a class events go out in sequence. After a lost session everything
//     from the first unconfirmed event is sent again, in order and with the same
//     bytes. A subscriber that keeps the first copy of each id has the order.
//   - Urgent events go before routine ones, at every slot of the window.
//   - An uplink with a filter tells its receiver, in order, which sequences it
//     keeps back, with their digests.
//   - There is one session at a time. The old one is down before the next one is
//     opened.
//   - What stands in the way is told in words, with what to do about it.
//
// One goroutine (Run) does all of it, session after session. session.go holds
// the life of one session, login.go its beginning and goodbye.go its end;
// streams.go what is to be sent and filter.go what is not, flights.go what is on
// its way; watch.go when a session counts as dead; conn.go the connection under
// paho.
package uplink

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds and defaults of the package.
const (
	defaultWindow      = 64
	maxWindow          = 1024
	defaultWindowBytes = 4 << 20
	defaultKeepAlive   = 20 * time.Second
	maxKeepAlive       = 5 * time.Minute
	defaultConnect     = 10 * time.Second
	defaultAck         = 30 * time.Second
	defaultStop        = 5 * time.Second
	defaultHeartbeat   = time.Minute
	defaultRetryMin    = time.Second
	defaultRetryMax    = time.Minute
	defaultReturn      = 5 * time.Minute
	maxReturn          = time.Hour

	maxPrefix = 1024
	minPacket = 1024

	// healthyAfter is how long a session must last to count as good when it had
	// no event to deliver.
	healthyAfter = 30 * time.Second
	// stuckAfter is how many sessions in a row must end with the same event on
	// its way before that event is suspected.
	stuckAfter = 3
	// readAhead bounds what is read from the spool at once.
	readAheadRecords = 64
	readAheadBytes   = 1 << 20
	// readRetry spaces the attempts to read a spool whose disk fails.
	readRetry = time.Second
	// relogAfter spaces the log lines about a failure that stays the same.
	relogAfter = 10 * time.Minute
)

// Options of New and Probe. Brokers and ClientID are needed, all else has a
// default.
type Options struct {
	// Brokers are URLs, tried in turn: tcp:// or mqtt:// (port 1883), tls://,
	// ssl:// or mqtts:// (8883), ws:// (80), wss:// (443).
	Brokers []string
	// ClientID must be unique at the broker: a second client of the same id
	// takes the session over.
	ClientID string
	// Username and Password are asked at each connect, so that a changed file
	// counts without a restart; nil for none.
	Username, Password func() (string, error)
	// TLS is for tls:// and wss:// brokers. If nil, the system's certificate
	// authorities are trusted and no client certificate is shown.
	TLS *TLSOptions

	// Name tells several uplinks of one spool apart, each of which has a cursor of
	// its own under its name; DefaultName if empty.
	Name string
	// Filter chooses the events to send.
	Filter Filter
	// TopicPrefix comes before each topic, with a slash between, those of the states
	// and of the last will included; empty for none.
	TopicPrefix string
	// Redact sends events in their public form (see event.Hash), without what is
	// personal.
	Redact bool
	// MaxPacket is the largest MQTT packet that the brokers take, in bytes; zero if
	// that is not known.
	MaxPacket int
	// Quarantine takes an event out of the line that the broker will never take: one
	// that is too large, or that ends every session (see quarantine.go for the
	// proof that is asked for). It must keep the record and have its loss recorded;
	// the cursor moves over it when it returned nil, and on an error it is called
	// again a second later. It is called on a goroutine of its own, one event of a
	// class at a time, and must return soon when ctx ends. After a crash it may be
	// called twice for one event. If it is nil, such an event holds up its class
	// until a person helps.
	Quarantine func(ctx context.Context, r spool.Record, reason string) error
	// PoisonAfter is how many sessions in a row an event must end, alone on the
	// line, to be taken out; 5 if zero.
	PoisonAfter int

	// Window is how many messages may be on their way unconfirmed, 1 to 1024; 64
	// if zero. Over a long line the rate is Window per round trip.
	Window int
	// WindowBytes bounds the same in bytes, 4 MiB if zero. One larger message
	// goes out alone.
	WindowBytes int

	// KeepAlive is MQTT's, in whole seconds, 20 s if zero. The broker fires the
	// last will after one and a half of it; a line on which nothing moves for
	// twice as long is given up.
	KeepAlive time.Duration
	// ConnectTimeout bounds the dialling with the TLS handshake, and once more
	// the broker's answer to the login; 10 s if zero.
	ConnectTimeout time.Duration
	// AckTimeout is how long a message may go unconfirmed when it is the first in
	// its queue and the line has taken it, and how long the line may take
	// nothing; 30 s if zero.
	AckTimeout time.Duration
	// StopTimeout bounds the orderly end; 5 s if zero. Half of it is for events
	// that still wait.
	StopTimeout time.Duration
	// Heartbeat is how often State is published anew, a minute if zero. It heals
	// brokers that lose their retained messages.
	Heartbeat time.Duration
	// RetryMin and RetryMax bound the pause between two rounds through the
	// brokers: the first is random between zero and RetryMin (1 s if zero), and
	// the upper end doubles up to RetryMax (a minute if zero).
	RetryMin, RetryMax time.Duration
	// ReturnAfter is how long a session with a broker that is not the first of
	// the list lasts before those before it are called; if one answers, the
	// session ends in good order and the list is tried from the top. 5 min if
	// zero; it doubles up to an hour as long as that brings nothing better.
	ReturnAfter time.Duration

	// State makes the agent's retained state: published first in each session,
	// then at each Heartbeat, and with online false at an orderly end.
	State func(online bool) (topic string, payload []byte)
	// Will makes the last will that the broker publishes, retained, when the
	// session ends in any other way.
	Will func(session uint64) (topic string, payload []byte)
	// Session counts a new session and makes the count durable. It is called
	// when the last number may have reached a broker, and not for each attempt.
	// The number counts even if it comes with an error: a disk that refuses must
	// not stop the delivery.
	Session func() (uint64, error)
	// Skipped makes the notice of events that the filter keeps back. It is needed
	// with a filter.
	Skipped func(event.AgentSkipped) (topic string, payload []byte)
	// Retained lists the other retained states, published after State at the
	// beginning of each session.
	Retained func() []Message

	// Idle is a source of messages that can wait; nil for none.
	Idle *Idle

	// Requests takes requests of a central system; nil for none.
	Requests *Requests

	// Log gets a line for each change; nil for none.
	Log *slog.Logger

	trialHold, trialFor time.Duration // for tests; the constants if zero
}

// DefaultName is the name of an uplink that has none.
const DefaultName = "mqtt"

// Message is a topic without the uplink's prefix, and a payload, for example a
// retained state document. The payload
// must not change any more.
type Message struct {
	Topic   string
	Payload []byte
}

// State of an uplink.
type State string

// The states.
const (
	// Offline: not running, or pausing before the next attempt.
	Offline State = "offline"
	// Connecting: an attempt is being made.
	Connecting State = "connecting"
	// Online: the broker has confirmed this session's first message.
	Online State = "online"
)

// Status is a snapshot for people and for health.
type Status struct {
	// Name is the uplink's.
	Name  string
	State State
	// Since is when the uplink went online, or since when it is not.
	Since time.Time
	// Broker is the URL in use, or the one that was tried last.
	Broker string
	// Session is the number of the current or last session.
	Session uint64
	// LastError says why the last attempt or session failed, and Hint what to do
	// about it; empty if none failed since the uplink was last healthy.
	LastError, Hint string
	LastErrorAt     time.Time
	// LastAck is when the broker last confirmed an event.
	LastAck time.Time
	// InFlight counts messages that are on their way now.
	InFlight int
	// Published and Acked count events since New; Published with repetitions.
	Published, Acked uint64
	// Skipped counts events that the filter kept back and of which the receiver was
	// told.
	Skipped uint64
	// Quarantined counts events that were taken out of the line.
	Quarantined uint64
	// Requests counts what central systems asked for.
	Requests RequestCounts
	// Resent counts events that were sent again by Resend.
	Resent uint64
	// Reconnects counts the sessions after the first.
	Reconnects uint64
	// Stuck lists events that seem to end the sessions in which they are sent.
	Stuck []Stuck
	// SpoolError says why the spool can't be read now; empty if it can.
	SpoolError string
	// Certificates are those on which the connection rests, or the last attempt
	// to make one; none without TLS. See Problems.
	Certificates []CertificateStatus
	// RenewalError says why changed certificate files are not used yet; empty if
	// there are none.
	RenewalError string
}

// Stuck is an event that was on its way when several sessions in a row ended,
// the first unconfirmed one of its class. Until it is confirmed, its class is
// sent one event at a time, so that the event that the broker does not take is
// alone on the line.
type Stuck struct {
	Class    event.Class
	Sequence uint64
	Topic    string
	// Bytes is the size of the payload.
	Bytes int
	// Sessions is how many ended so.
	Sessions int
}

// Uplink delivers a spool to a broker. Its methods may be called from several
// goroutines; Run only once.
type Uplink struct {
	o       Options
	log     *slog.Logger
	spool   *spool.Spool
	brokers []*url.URL

	// states wakes the session when PublishState was called.
	states chan struct{}
	// removed wakes it when a call of Quarantine has returned.
	removed chan struct{}
	// idle are the sources of what can wait: resends first, then Options.Idle.
	idle           []*Idle
	resendsChanged chan struct{}
	inbox          chan errand

	mu      sync.Mutex
	status  Status
	pending stateQueue
	heads   map[event.Class]Stuck // the head of each class when a session last ended
	running bool
	replies []Message // that wait
	resends []*resend // their content is of Run's goroutine
	// sessions counts those that came online.
	sessions uint64

	// Of Run's goroutine alone.
	number     uint64 // of the session
	numberUsed bool   // a broker may have seen it
	returns    int    // sessions in a row that were ended for a better broker
	suspects   map[event.Class]*suspect
	removals   map[event.Class]*removal
	life       context.Context // of Run
	group      sync.WaitGroup  // of calls of Quarantine, and of the clerk
	logged     string          // the failure that was logged last
	loggedAt   time.Time
}

// New checks the options. Nothing is connected before Run.
func New(s *spool.Spool, o Options) (*Uplink, error) {
	brokers, err := o.complete()
	if err != nil {
		return nil, err
	}
	u := &Uplink{
		o: o, log: o.Log, spool: s, brokers: brokers,
		states:   make(chan struct{}, 1),
		status:   Status{Name: o.Name, State: Offline, Since: time.Now()},
		heads:    map[event.Class]Stuck{},
		suspects: map[event.Class]*suspect{}, removals: map[event.Class]*removal{}, removed: make(chan struct{}, 1),
		resendsChanged: make(chan struct{}, 1), inbox: make(chan errand, maxInbox),
	}
	u.idle = append(u.idle, u.again())
	if o.Idle != nil {
		u.idle = append(u.idle, o.Idle)
	}
	return u, nil
}

// complete checks the options and fills in defaults.
func (o *Options) complete() ([]*url.URL, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("no broker is given")
	}
	if o.ClientID == "" {
		return nil, errors.New("no client id is given")
	}
	var brokers []*url.URL
	for _, b := range o.Brokers {
		u, err := parseBroker(b)
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, u)
	}
	o.Name = cmp.Or(o.Name, DefaultName)
	if err := o.Filter.check(); err != nil {
		return nil, err
	}
	if !o.Filter.all() && o.Skipped == nil {
		return nil, errors.New("a filter is given, and no way to tell of what it keeps back")
	}
	if len(o.TopicPrefix) > maxPrefix || strings.ContainsAny(o.TopicPrefix, "+#\x00") || strings.HasPrefix(o.TopicPrefix, "$") ||
		strings.HasSuffix(o.TopicPrefix, "/") {
		return nil, fmt.Errorf("%q can't come before topics: want at most %d bytes without +, # and a slash at the end", o.TopicPrefix, maxPrefix)
	}
	if o.MaxPacket != 0 && o.MaxPacket < minPacket {
		return nil, fmt.Errorf("the largest packet must be %d bytes at least, not %d", minPacket, o.MaxPacket)
	}
	if err := errors.Join(o.checkQuarantine(), o.Idle.check(), o.checkRequests()); err != nil {
		return nil, err
	}
	o.PoisonAfter = cmp.Or(o.PoisonAfter, defaultPoisonAfter)
	if o.Window < 0 || o.Window > maxWindow {
		return nil, fmt.Errorf("the window must be 1 to %d messages, not %d", maxWindow, o.Window)
	}
	o.Window = cmp.Or(o.Window, defaultWindow)
	o.WindowBytes = cmp.Or(max(o.WindowBytes, 0), defaultWindowBytes)
	o.KeepAlive = cmp.Or(o.KeepAlive, defaultKeepAlive)
	if o.KeepAlive < time.Second || o.KeepAlive > maxKeepAlive {
		return nil, fmt.Errorf("the keep-alive must be 1 s to %s, not %s", maxKeepAlive, o.KeepAlive)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.ConnectTimeout, defaultConnect}, {&o.AckTimeout, defaultAck}, {&o.StopTimeout, defaultStop},
		{&o.Heartbeat, defaultHeartbeat}, {&o.RetryMin, defaultRetryMin}, {&o.RetryMax, defaultRetryMax},
		{&o.ReturnAfter, defaultReturn},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("a time of the uplink is negative: %s", *d.value)
		}
		*d.value = cmp.Or(*d.value, d.fallback)
	}
	if err := o.TLS.check(); err != nil {
		return nil, err
	}
	o.trialHold, o.trialFor = cmp.Or(o.trialHold, trialHold), cmp.Or(o.trialFor, trialFor)
	o.RetryMax = max(o.RetryMin, o.RetryMax)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return brokers, nil
}

// prefix is what stands before each topic.
func (o *Options) prefix() string {
	if o.TopicPrefix == "" {
		return ""
	}
	return o.TopicPrefix + "/"
}

// skipLimit is how many events one notice covers.
func (o *Options) skipLimit() int {
	if o.MaxPacket == 0 {
		return maxSkipped
	}
	fits := (o.MaxPacket - noticeSlack - len(o.TopicPrefix)) / base64.StdEncoding.EncodedLen(len(event.Hash{}))
	return min(maxSkipped, max(1, fits))
}

// brokerPorts are the accepted schemes and their default ports.
var brokerPorts = map[string]string{
	"tcp": "1883", "mqtt": "1883",
	"tls": "8883", "ssl": "8883", "mqtts": "8883",
	"ws": "80", "wss": "443",
}

// parseBroker reads a broker URL and fills in the port.
func parseBroker(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The text of url's error holds the URL, and that may hold a password.
		return nil, errors.New("a broker URL can't be read: want for example tls://mqtt.example:8883")
	}
	if u.User != nil {
		return nil, fmt.Errorf("broker %s: user name and password do not belong into the URL", u.Redacted())
	}
	port, known := brokerPorts[u.Scheme]
	if !known {
		return nil, fmt.Errorf("broker %s: want tcp://, tls://, ws:// or wss:// before the host", s)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("broker %s: the host is missing", s)
	}
	if u.Port() == "" {
		u.Host += ":" + port
	}
	return u, nil
}

// Run delivers until ctx ends. Then it delivers what still waits for half of
// StopTimeout, publishes the offline state, disconnects, and returns nil.
// Before that it returns only if the spool is closed under it. No goroutine is
// left.
func (u *Uplink) Run(ctx context.Context) error {
	u.mu.Lock()
	if u.running {
		u.mu.Unlock()
		return errors.New("the uplink runs already")
	}
	u.running = true
	u.mu.Unlock()
	defer u.setState(Offline, nil)
	life, end := context.WithCancel(ctx)
	defer u.group.Wait()
	defer end()
	u.life = life
	if u.o.Requests != nil {
		u.group.Go(func() { (&clerk{u: u, credit: requestBurst, counted: time.Now()}).serve(life) })
	}

	pause := newBackoff(u.o)
	for {
		healthy, err := u.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue // it ended for the next one
		}
		if errors.Is(err, spool.ErrClosed) {
			return err
		}
		if healthy {
			pause.Reset()
		}
		u.setState(Offline, nil)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// newBackoff gives pauses that are random between zero and an upper end which
// doubles from RetryMin to RetryMax: backoff spreads by its factor to both
// sides of its interval.
func newBackoff(o Options) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(o.RetryMin/2),
		backoff.WithMaxInterval(o.RetryMax/2),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMaxElapsedTime(0), // never give up
	)
}

// round tries one broker after the other until one gave a healthy session, and
// returns when that has ended. The next round begins with the first broker
// again: the order of the list is the operator's preference.
func (u *Uplink) round(ctx context.Context) (healthy bool, err error) {
	for _, broker := range u.brokers {
		u.setState(Connecting, broker)
		healthy, err = u.session(ctx, broker)
		if ctx.Err() != nil || err == nil || errors.Is(err, spool.ErrClosed) {
			return healthy, err
		}
		u.failed(broker, err)
		if healthy {
			return true, err
		}
	}
	return false, err
}

// PublishState publishes a retained state at the next opportunity and never
// waits. Of several messages for one topic the last one counts.
func (u *Uplink) PublishState(m Message) {
	if m.Topic == "" || len(m.Topic) > spool.MaxTopic || strings.ContainsAny(m.Topic, "+#\x00") || len(m.Payload) > spool.MaxRecord {
		u.log.Error("a state can't be published: its topic is wrong or it is too large", "topic", m.Topic, "bytes", len(m.Payload))
		return
	}
	if !u.o.Filter.passesState(m.Topic) {
		return
	}
	u.mu.Lock()
	u.pending.put(m)
	u.mu.Unlock()
	wake(u.states)
}

// Status returns a snapshot.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	for _, class := range event.Classes {
		if h := u.heads[class]; h.Sessions >= stuckAfter {
			s.Stuck = append(s.Stuck, h)
		}
	}
	return s
}

// setState notes a change of state. Connecting and Offline are one as to Since.
func (u *Uplink) setState(state State, broker *url.URL) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if (u.status.State == Online) != (state == Online) {
		u.status.Since = time.Now()
	}
	u.status.State = state
	if broker != nil {
		u.status.Broker = broker.String()
	}
	if state != Online {
		u.status.InFlight = 0
	}
}

// failed notes why an attempt or a session ended. The log gets what is new.
func (u *Uplink) failed(broker *url.URL, err error) {
	now := time.Now()
	hint := Hint(err)
	u.mu.Lock()
	u.status.LastError, u.status.Hint, u.status.LastErrorAt = err.Error(), hint, now
	u.mu.Unlock()
	level := slog.LevelWarn
	line := broker.String() + err.Error()
	if line == u.logged && now.Sub(u.loggedAt) < relogAfter {
		level = slog.LevelDebug
	} else {
		u.logged, u.loggedAt = line, now
	}
	u.log.Log(context.Background(), level, "no session with the broker; events wait in the spool",
		"broker", broker.String(), "err", err, "hint", hint)
}

// stateQueue holds the latest message of each topic in the order in which the
// topics came.
type stateQueue struct {
	topics []string
	latest map[string]Message
}

func (q *stateQueue) put(m Message) {
	if q.latest == nil {
		q.latest = map[string]Message{}
	}
	if _, known := q.latest[m.Topic]; !known {
		q.topics = append(q.topics, m.Topic)
	}
	q.latest[m.Topic] = m
}

// putOlder puts a message unless there is one for its topic.
func (q *stateQueue) putOlder(m Message) {
	if _, newer := q.latest[m.Topic]; !newer {
		q.put(m)
	}
}

func (q *stateQueue) take() (m Message, ok bool) {
	if len(q.topics) == 0 {
		return Message{}, false
	}
	m = q.latest[q.topics[0]]
	delete(q.latest, m.Topic)
	q.topics = q.topics[1:]
	return m, true
}
