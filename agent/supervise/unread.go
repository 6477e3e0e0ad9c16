package supervise

import (
	"errors"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

const (
	// unreadAfter is how long an Emit may take before its device counts as not read. What
	// waits in the link until then is read that much late at the most.
	unreadAfter = 5 * time.Second
	// perByte is what is added to it for each byte of an attachment, which is copied first.
	perByte = time.Microsecond
)

// errUnread ends a session in which nothing was read for too long because events could not
// be stored. What waits in the link then is from vehicles that are long gone: read now, it
// would be told of those that stand there now.
var errUnread = errors.New("the agent's disk took no events")

const unreadHint = "the agent's problems say why: bring the broker back, make room on the disk, or replace it"

// reading is one session, as far as an Emit can hold it up. Supervisor.mu guards it.
type reading struct {
	// end ends the session, and takes care that nothing is read any more.
	end func()
	// since is when the Emit began that held it up for too long; zero if none did.
	since time.Time
	// behind adds up shorter hold-ups until a read finds nothing waiting; reads says that
	// there are reads to tell that by.
	behind time.Duration
	reads  bool
}

// emitFor makes an observation of the running driver durable. If that takes so long that
// its device is not read meanwhile, this is told at once, and the session ends.
func (s *Supervisor) emitFor(r *reading, o drivers.Observation) error {
	limit := min(unreadAfter, s.dev.Silence)
	for _, a := range o.Attachments {
		limit += time.Duration(a.Size) * perByte
	}
	began := time.Now()
	s.mu.Lock()
	s.emitting++
	limit -= r.behind
	s.mu.Unlock()
	done := false // guarded by mu
	timer := time.AfterFunc(limit, func() {
		s.mu.Lock()
		changed := !done && s.setUnreadLocked(r, began)
		s.mu.Unlock()
		if changed {
			s.hooks.Changed()
		}
	})
	err := s.hooks.Emit(o)
	timer.Stop()
	s.mu.Lock()
	done = true
	s.emitting--
	now := time.Now()
	took := now.Sub(began)
	if took > heldUp {
		s.held = now
		if r.reads {
			r.behind += took
		}
	}
	changed := took >= limit && s.setUnreadLocked(r, began)
	unread := !r.since.IsZero()
	s.mu.Unlock()
	if changed {
		s.hooks.Changed()
	}
	if unread {
		r.end()
	}
	return err
}

// setUnreadLocked notes that the device is not read, and reports whether that is new.
func (s *Supervisor) setUnreadLocked(r *reading, since time.Time) bool {
	if !r.since.IsZero() {
		return false
	}
	r.since = since
	s.unread = since
	s.setLocked("offline", fmt.Sprintf("the agent's disk takes no events since %s: this device is not read", clockTime(since)),
		unreadHint)
	s.state.Since = event.At(since)
	return true
}

// wasUnread is why a session ended in which the device was not read.
func wasUnread(since time.Time) error {
	return fmt.Errorf("%w from %s to %s: this device was not read, and what it sent then is not recorded",
		errUnread, clockTime(since), clockTime(time.Now()))
}

func clockTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// noteRead keeps account of whether the reads have caught up with what came: one that had
// to wait found nothing.
func (s *Supervisor) noteRead(r *reading, waited bool) {
	s.mu.Lock()
	r.reads = true
	if waited {
		r.behind = 0
	}
	s.mu.Unlock()
}
