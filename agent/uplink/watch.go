package uplink

import (
	"errors"
	"time"
)

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
	s.renew(now)
	s.subscribed()
	idle := s.conn.lastIdle()
	for _, f := range []*flights{&s.states, &s.streams[0].flying, &s.streams[1].flying, &s.replies, &s.idle} {
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
