package uplink

import (
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// maxResends bounds the ranges that wait to be sent again.
const maxResends = 16

// resend is a range that is to be sent again, as far as it is still there.
type resend struct {
	class     event.Class
	next, to  uint64
	confirmed uint64 // up to here, in the order of sending
	out       int    // sent and not confirmed
	ready     []spool.Record
	retry     time.Time // do not read before
}

// resent is the token of a record that is sent again.
type resent struct {
	of       *resend
	sequence uint64
}

// Resend has the events of a range sent again, as far as the spool still has them,
// with the same bytes on the same topics, when nothing else is to be sent. What
// the filter keeps back is passed over. It returns at once; Status tells how many
// were confirmed. What is still to be sent when the uplink ends is forgotten.
func (u *Uplink) Resend(class event.Class, from, to uint64) error {
	switch {
	case !slices.Contains(event.Classes[:], class):
		return fmt.Errorf("there is no class %q", class)
	case from == 0 || to < from:
		return fmt.Errorf("%d to %d is no range of sequences", from, to)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.resends) >= maxResends {
		return fmt.Errorf("%d ranges wait to be sent again already: ask later", maxResends)
	}
	u.resends = append(u.resends, &resend{class: class, next: from, to: to, confirmed: from - 1})
	wake(u.resendsChanged)
	return nil
}

// again is the source of what is sent again.
func (u *Uplink) again() *Idle {
	return &Idle{
		Next: u.nextAgain,
		Confirmed: func(token any) {
			t := token.(resent)
			t.of.confirmed = t.sequence
			t.of.out--
			u.mu.Lock()
			u.status.Resent++
			u.mu.Unlock()
		},
		Refused: func(token any, reason string) {
			t := token.(resent)
			t.of.out--
			u.log.Warn("an event can't be sent again", "class", t.of.class, "sequence", t.sequence, "reason", reason)
		},
		Rewind: func() {
			for _, r := range u.resendList() {
				r.next, r.out, r.ready = r.confirmed+1, 0, nil
			}
		},
		Changed: func() <-chan struct{} { return u.resendsChanged },
	}
}

func (u *Uplink) resendList() []*resend {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resends = slices.DeleteFunc(u.resends, func(r *resend) bool { return r.next > r.to && r.out == 0 && len(r.ready) == 0 })
	return slices.Clone(u.resends)
}

// nextAgain gives the next record of the first range that has one.
func (u *Uplink) nextAgain() (m Message, token any, ok bool) {
	for _, r := range u.resendList() {
		for {
			if len(r.ready) == 0 && !u.readAgain(r) {
				break
			}
			record := r.ready[0]
			r.ready[0] = spool.Record{}
			r.ready = r.ready[1:]
			if !u.o.Filter.Passes(record.Topic, r.class) {
				continue
			}
			m := Message{record.Topic, record.Payload}
			if u.o.Redact {
				m.Payload = event.Redact(m.Payload)
			}
			r.out++
			return m, resent{r, record.Sequence}, true
		}
	}
	return Message{}, nil, false
}

// readAgain reads on in a range. more is false if there is nothing now.
func (u *Uplink) readAgain(r *resend) (more bool) {
	if r.next > r.to || time.Now().Before(r.retry) {
		return false
	}
	records, err := u.spool.Read(r.class, r.next, r.to, readAheadRecords, idleBytes)
	if err != nil {
		u.log.Error("events that are to be sent again can't be read", "class", r.class, "from", r.next, "to", r.to, "err", err)
		r.retry = time.Now().Add(resendRetry)
		return false
	}
	if len(records) == 0 {
		r.next = r.to + 1
		return false
	}
	r.ready, r.next = records, records[len(records)-1].Sequence+1
	return true
}

// resendRetry spaces the attempts to read.
const resendRetry = 10 * time.Second
