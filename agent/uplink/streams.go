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
	flying flights        // sent and not yet confirmed, in sequence
	retry  time.Time      // do not read the spool before, after a failure
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
