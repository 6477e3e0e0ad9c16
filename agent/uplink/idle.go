package uplink

import "errors"

// idleBytes bounds what an idle source has on its way, and so how long a live
// event waits behind it on the line.
const idleBytes = 256 << 10

// Idle is a source of messages that can wait, for instance the pieces of an
// attachment. They go out with QoS 1, not retained, and only when no state and
// no event is ready: at most a quarter of the window and 256 kB at a time, or
// one larger message. Its functions are called on the uplink's goroutine and
// must not block.
type Idle struct {
	// Next gives the next message, with a token of the source's own; ok is false
	// if there is none now. The topic is without the uplink's prefix.
	Next func() (m Message, token any, ok bool)
	// Confirmed tells that the broker has confirmed a message, in the order in which
	// Next gave them.
	Confirmed func(token any)
	// Refused tells that a message is above the size that the broker takes and will
	// not be sent. Nil if the source gives none such; the message is then passed
	// over.
	Refused func(token any, reason string)
	// Rewind tells that a session begins: what was given and not confirmed is lost,
	// and Next is to give it again. Nil if the source does without.
	Rewind func()
	// Changed gives a channel that is closed, or gets a value, when there may be
	// more than at the call. It is called before Next.
	Changed func() <-chan struct{}
}

func (i *Idle) check() error {
	if i != nil && (i.Next == nil || i.Confirmed == nil || i.Changed == nil) {
		return errors.New("an idle source needs Next, Confirmed and Changed")
	}
	return nil
}

// pause is a message of an idle source that waits for room.
type pause struct {
	source  *Idle
	message Message
	token   any
}

// idleRoom tells whether an idle message fits.
func (s *session) idleRoom(bytes int) bool {
	n := len(s.idle.list)
	return s.room(bytes) && (n == 0 || n < max(1, s.u.o.Window/4) && s.idleInFlight+bytes <= idleBytes)
}

// fillIdle sends what can wait, if nothing else is ready.
func (s *session) fillIdle() error {
	for s.idleRoom(0) {
		if s.waiting == nil {
			s.waiting = s.u.nextIdle()
		}
		w := s.waiting
		if w == nil {
			return nil
		}
		if why := s.tooLarge(w.message.Topic, w.message.Payload, false); why != "" {
			s.waiting = nil
			s.u.log.Error("a message is above what the broker takes", "topic", w.message.Topic, "reason", why)
			if w.source.Refused != nil {
				w.source.Refused(w.token, why)
			}
			continue
		}
		if !s.idleRoom(s.size(w.message)) {
			return nil
		}
		f, err := s.publish(w.message, false)
		if err != nil {
			return err
		}
		s.waiting = nil
		f.source, f.idle = w.source, w.token
		f.message = Message{}
		s.idle.add(f)
		s.idleInFlight += f.bytes
	}
	return nil
}

// landIdle takes the confirmed ones off the window.
func (s *session) landIdle(gone func(flight)) error {
	return s.idle.land(func(f flight) {
		gone(f)
		s.idleInFlight -= f.bytes
		f.source.Confirmed(f.idle)
		s.good()
	})
}

// nextIdle asks the sources in turn.
func (u *Uplink) nextIdle() *pause {
	for _, source := range u.idle {
		if m, token, ok := source.Next(); ok {
			return &pause{source, m, token}
		}
	}
	return nil
}

// idleChanged gives the channels on which the sources tell of more.
func (u *Uplink) idleChanged() (again, idle <-chan struct{}) {
	if u.o.Idle != nil {
		idle = u.o.Idle.Changed()
	}
	return u.resendsChanged, idle
}
