package plate

import (
	"container/list"
	"fmt"
	"strings"
	"time"
)

// MaxSeen bounds how many messages a Seen remembers.
const MaxSeen = 1 << 16

// Seen remembers the messages of one device that are safely recorded, so that
// one that the device sends again makes no second event. It holds a bounded
// number of keys for a bounded time, and forgets the one that was met longest
// ago first. It is not safe for concurrent use.
type Seen struct {
	size int
	keep time.Duration
	at   map[string]*list.Element
	met  *list.List // of sighting, the latest in front
}

type sighting struct {
	key string
	at  time.Time
}

// NewSeen makes one for at most size keys (at least one, at most MaxSeen), each
// remembered for keep after it was met last.
func NewSeen(size int, keep time.Duration) *Seen {
	size = min(max(size, 1), MaxSeen)
	return &Seen{size: size, keep: keep, at: map[string]*list.Element{}, met: list.New()}
}

// Has reports whether a message came before, and if so counts this as a meeting.
// The empty key, a device's message without one, is never met.
func (s *Seen) Has(key string, now time.Time) bool {
	s.expire(now)
	e, ok := s.at[key]
	if ok {
		e.Value = sighting{key, now}
		s.met.MoveToFront(e)
	}
	return ok
}

// Add remembers a message. Call it only when the event is on disk: what is
// remembered and then lost would be lost for good.
func (s *Seen) Add(key string, now time.Time) {
	if key == "" || s.Has(key, now) {
		return
	}
	s.at[key] = s.met.PushFront(sighting{key, now})
	for s.met.Len() > s.size {
		s.forget(s.met.Back())
	}
}

// Len is how many messages are remembered.
func (s *Seen) Len() int { return s.met.Len() }

func (s *Seen) expire(now time.Time) {
	for e := s.met.Back(); e != nil && now.Sub(e.Value.(sighting).at) > s.keep; e = s.met.Back() {
		s.forget(e)
	}
}

func (s *Seen) forget(e *list.Element) {
	delete(s.at, e.Value.(sighting).key)
	s.met.Remove(e)
}

// MessageKey makes the key of a message from the parts by which the vendor tells
// messages apart, different parts never giving the same key. It is empty, which
// Seen never has met, when any part is missing: without its key a message can't
// be told from another, and two events are better than none.
//
// The parts are, with each vendor: Hikvision UUID; Dahua EventID and UTC, over
// ITSAPI PicName and UploadNum; Axis and FF Group packetCounter; Vzen serialno
// and plateid; Rekor best_uuid, which is of a picture, so that the plate belongs to
// it; Nedap TRANSIT_ID; Plate Recognizer the hook's id and file name and the plate.
// What not every message has is written as "-". A counter may start anew with its device, so add
// the device's own time of the event to one: a new read must never pass for an
// old one.
func MessageKey(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p == "" {
			return ""
		}
		fmt.Fprintf(&b, "%d:%s", len(p), p)
	}
	return b.String()
}
