package uplink

import (
	"errors"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// stream is one class of events.
type stream struct {
	class  event.Class
	reader *spool.Reader
	window int
	ready  []spool.Record // read and not yet sent
	skip   skipped        // read before what is ready, and passed over
	flying flights        // sent and not yet confirmed, in sequence
	retry  time.Time      // do not read the spool before, after a failure
}

// pop takes the first record off what is ready.
func (st *stream) pop() (r spool.Record) {
	r, st.ready[0] = st.ready[0], spool.Record{}
	st.ready = st.ready[1:]
	return r
}

// fill publishes as much as the window takes: at each slot first a state or an
// answer to a request, then the most urgent event that waits, then what can wait.
func (s *session) fill() error {
	u := s.u
	defer func() {
		u.mu.Lock()
		u.status.Published += s.sent
		u.status.InFlight = s.count
		u.mu.Unlock()
		s.sent = 0
	}()
	if s.wary {
		if err := s.examine(); err != nil || s.wary {
			return err
		}
	}
	if err := s.try(time.Now()); err != nil {
		return err
	}
	for s.room(0) && !s.trial.exclusive() {
		u.mu.Lock()
		m, ok := u.pending.take()
		u.mu.Unlock()
		if !ok {
			break
		}
		if u.setAside(m) {
			s.stated()
			continue
		}
		if err := s.sendState(m); err != nil {
			u.mu.Lock()
			u.pending.putOlder(m)
			u.mu.Unlock()
			return err
		}
	}
	if !s.trial.exclusive() {
		if err := s.fillReplies(); err != nil {
			return err
		}
	}
	for !s.trial.exclusive() {
		st, err := s.next()
		if err != nil {
			return err
		}
		if st == nil && !s.finishing {
			return s.fillIdle()
		}
		if st == nil {
			return nil
		}
		send := s.sendRecord
		if st.skip.last != 0 {
			send = s.sendNotice
		}
		if more, err := send(st); !more || err != nil {
			return err
		}
	}
	return nil
}

// sendRecord sends the event that is next. more is false if there is no room for
// it now.
func (s *session) sendRecord(st *stream) (more bool, err error) {
	r := st.ready[0]
	m := Message{r.Topic, r.Payload}
	if s.u.o.Redact {
		m.Payload = event.Redact(m.Payload)
	}
	if !s.room(s.size(m)) {
		return false, nil
	}
	f, err := s.publish(m, event.Retained(r.Topic))
	if err != nil {
		return false, err
	}
	f.sequence = r.Sequence
	f.message.Payload = nil // the spool has it
	st.flying.add(f)
	st.pop()
	s.sent++
	return true, nil
}

// sendNotice tells of the events that were passed over. more is false if there
// is no room for it now.
func (s *session) sendNotice(st *stream) (more bool, err error) {
	if !s.room(st.skip.bytes()) {
		return false, nil
	}
	topic, payload := s.u.o.Skipped(st.skip.notice(st.class))
	f, err := s.publish(Message{topic, payload}, false)
	if err != nil {
		return false, err
	}
	f.sequence, f.skipped = st.skip.last, st.skip.count()
	f.message.Payload = nil // it is made again
	st.flying.add(f)
	st.skip.clear()
	return true, nil
}

// next is the most urgent stream that has something to send and may send it; nil
// if there is none.
func (s *session) next() (*stream, error) {
	for _, st := range s.streams {
		if len(st.flying.list) >= st.window {
			continue
		}
		ready, err := s.ahead(st)
		if err != nil {
			return nil, err
		}
		if ready && len(st.ready) > 0 {
			held, err := s.held(st)
			if err != nil {
				return nil, err
			}
			ready = !held
		}
		if ready {
			return st, nil
		}
	}
	return nil, nil
}

// ahead passes over what the filter keeps back, and tells whether there is
// something to send: a notice about that, which goes first, or the event that is
// ready.
func (s *session) ahead(st *stream) (bool, error) {
	for {
		if len(st.ready) == 0 && !time.Now().Before(st.retry) {
			records, err := st.reader.Next(readAheadRecords, readAheadBytes)
			if errors.Is(err, spool.ErrClosed) {
				return false, err
			}
			s.u.spoolProblem(st, err)
			st.ready = records
		}
		if len(st.ready) == 0 {
			return st.skip.due(time.Now(), s.finishing), nil
		}
		r := st.ready[0]
		if s.u.o.Filter.Passes(r.Topic, st.class) || !st.skip.takes(r.Sequence) {
			return true, nil
		}
		st.skip.add(r)
		st.pop()
	}
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
