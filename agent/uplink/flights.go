package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lanepost/lanepost/protocol/event"
)

// first is the first sequence that the flight is about.
func (f flight) first() uint64 { return f.sequence - uint64(max(f.skipped, 1)) + 1 }

// flight is a message on its way: handed to paho and not yet taken off the
// window.
type flight struct {
	token    mqtt.Token
	sent     time.Time
	bytes    int
	payload  int     // its bytes without topic and packet
	sequence uint64  // of an event, or the last that a notice covers
	source   *Idle   // of a message that could wait; nil for all others
	idle     any     // its token
	skipped  int     // how many a notice covers; zero if it is none
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

// room tells whether one more message fits into the window.
func (s *session) room(bytes int) bool {
	return s.count == 0 || s.count < s.u.o.Window && s.bytes+bytes <= s.u.o.WindowBytes
}

// publish hands a message to paho. With an error it is not on its way.
func (s *session) publish(m Message, retained bool) (flight, error) {
	f := flight{sent: time.Now(), message: m, bytes: s.size(m), payload: len(m.Payload)}
	var err error
	if f.token, err = s.send(m, retained); err != nil {
		return flight{}, err
	}
	s.count++
	s.bytes += f.bytes
	return f, nil
}

// size is what a message takes in the window.
func (s *session) size(m Message) int {
	return len(s.prefix) + len(m.Topic) + len(m.Payload) + packetSlack
}

// send hands a message to paho, whose token then tells of the PUBACK.
func (s *session) send(m Message, retained bool) (token mqtt.Token, err error) {
	alive := s.conn.unlessClosing(func() { token = s.client.Publish(s.prefix+m.Topic, qos, retained, m.Payload) })
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
		if !s.clean.IsZero() && !f.sent.Before(s.clean) {
			s.proved()
		}
	}
	err := errors.Join(s.states.land(func(f flight) { gone(f); s.stated() }),
		s.replies.land(func(f flight) { gone(f); s.u.replyEnds = 0 }), s.landIdle(gone))
	for _, st := range s.streams {
		if st == nil {
			continue
		}
		var n, skipped int
		var last uint64
		err = errors.Join(err, st.flying.land(func(f flight) {
			gone(f)
			if f.skipped == 0 {
				n++
				if f.payload >= s.u.large {
					s.u.large = 0
				}
			}
			skipped += f.skipped
			last = f.sequence
		}))
		if last == 0 {
			continue
		}
		s.u.acquit(s.u.suspect(st.class, ""))
		s.u.confirmed(st.class, n, skipped)
		s.good()
		if ackErr := st.reader.Ack(last); ackErr != nil {
			err = errors.Join(err, fmt.Errorf("move the %s cursor: %w", st.class, ackErr))
		}
	}
	return err
}

// confirmed notes that the broker has confirmed the next n events of a class, and
// notices that cover some.
func (u *Uplink) confirmed(class event.Class, n, skipped int) {
	u.mu.Lock()
	u.status.Acked += uint64(n)
	u.status.Skipped += uint64(skipped)
	if n > 0 {
		u.status.LastAck = time.Now()
	}
	wasStuck := u.heads[class].Sessions >= stuckAfter
	delete(u.heads, class)
	u.mu.Unlock()
	if wasStuck {
		u.log.Info("the event that seemed stuck is delivered", "class", class)
	}
}
