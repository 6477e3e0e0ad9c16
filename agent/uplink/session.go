package uplink

import (
	"context"
	"fmt"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

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
	trust  trust
	// leave ends the session in good order, for another one.
	leave   func()
	renewal *renewal

	streams [len(event.Classes)]*stream
	// states are the retained messages on their way.
	states flights

	prefix    string // of every topic
	finishing bool   // only what waits already is sent
	// replies are the answers on their way.
	replies      flights
	subscription mqtt.Token // until it is answered
	// idle are the messages on their way that could wait, and waiting is the next.
	idle         flights
	idleInFlight int // bytes
	waiting      *pause

	trial        *trial    // of an event that seems to end sessions; nil if there is none
	untried      bool      // no trial in this session any more
	turn         *suspect  // whose turn it was last
	proof                  // of the states
	sent         uint64    // events since Status was told
	count, bytes int       // on their way
	online       time.Time // since when
	healthy      bool      // an event was confirmed, or it has lasted
	busy         time.Time // when data last waited for the line
}

// session runs one session with a broker to its end, which is without an error
// if ctx ended or another session is to follow at once. healthy tells that the
// broker was of use.
func (u *Uplink) session(ctx context.Context, broker *url.URL) (healthy bool, err error) {
	s, err := u.open(ctx, broker)
	if err != nil {
		return false, err
	}
	life, leave := context.WithCancel(ctx)
	defer leave()
	s.leave = leave
	s.renewal = newRenewal(&s.trust, time.Now())
	better := u.seekBetter(life, broker, leave)
	err = s.run(life)
	leave()
	if <-better {
		u.returns++
	} else if s.healthy {
		u.returns = 0
	}
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
		will.Topic = u.o.prefix() + will.Topic
	}
	s := &session{u: u, prefix: u.o.prefix()}
	err := s.connect(ctx, broker, &u.o, will, func() { u.numberUsed = true })
	u.mu.Lock()
	u.status.Certificates, u.status.RenewalError = s.trust.certificates(), ""
	u.mu.Unlock()
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

// run publishes the birth, then the states, then events, until the session or
// ctx ends. nil means that ctx ended.
func (s *session) run(ctx context.Context) error {
	u := s.u
	birth := ""
	if u.o.State != nil {
		topic, payload := u.o.State(true)
		birth = topic
		err := s.sendAndWait(ctx, Message{topic, payload}, true, u.o.AckTimeout)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("publish the agent's state: %w", err)
		}
	}
	u.freshStates(birth)
	u.mu.Lock()
	s.begin(len(u.pending.topics), birth)
	u.sessions++
	u.status.Reconnects = u.sessions - 1
	broker := u.status.Broker
	for i, class := range event.Classes {
		s.streams[i] = &stream{class: class, reader: u.spool.Reader(u.o.Name, class), window: u.o.Window}
		s.streams[i].skip.limit = u.o.skipLimit()
		if u.heads[class].Sessions >= stuckAfter {
			s.streams[i].window = 1
			s.streams[i].skip.limit = min(warySkipped, s.streams[i].skip.limit)
		}
	}
	u.mu.Unlock()
	s.subscribe(birth)
	s.online = time.Now()
	u.setState(Online, nil)
	u.log.Info("online", "broker", broker, "session", u.number)
	for _, st := range s.streams {
		st.reader.Rewind()
	}
	for _, source := range u.idle {
		if source.Rewind != nil {
			source.Rewind()
		}
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
		if u.o.Filter.passesState(m.Topic) {
			u.pending.putOlder(m)
		}
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
	s.finishing = finish
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
		again, idle := u.idleChanged()
		if err := s.fill(); err != nil {
			return err
		}
		if finish && s.count == 0 {
			return nil
		}
		var trialWake <-chan time.Time
		if s.trial != nil {
			trialWake = s.trial.wake
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
		case <-s.replies.decided():
		case <-s.idle.decided():
		case <-again:
		case <-idle:
		case <-changed:
		case <-u.states:
		case <-u.removed:
		case <-trialWake:
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
