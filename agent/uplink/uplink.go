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
	"context"
	"errors"
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

// DefaultName is the name of an uplink that has none.
const DefaultName = "mqtt"

// Message is a topic without the uplink's prefix, and a payload, for example a
// retained state document. The payload
// must not change any more.
type Message struct {
	Topic   string
	Payload []byte
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
	number     uint64     // of the session
	numberUsed bool       // a broker may have seen it
	returns    int        // sessions in a row that were ended for a better broker
	suspects   []*suspect // the next whose turn it is first
	tryLeft    time.Time  // when a state that is left out is tried again
	large      int        // bytes of the smallest event that was taken out, zero if a larger one got through since
	unproven   int        // sessions in a row that ended before the states were proven
	replyEnds  int        // sessions in a row that ended with an answer on its way
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
		removals: map[event.Class]*removal{}, removed: make(chan struct{}, 1),
		resendsChanged: make(chan struct{}, 1), inbox: make(chan errand, maxInbox),
	}
	u.idle = append(u.idle, u.again())
	if o.Idle != nil {
		u.idle = append(u.idle, o.Idle)
	}
	return u, nil
}

// brokerPorts are the accepted schemes and their default ports.
var brokerPorts = map[string]string{
	"tcp": "1883", "mqtt": "1883",
	"tls": "8883", "ssl": "8883", "mqtts": "8883",
	"ws": "80", "wss": "443",
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
