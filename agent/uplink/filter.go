package uplink

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of what a notice covers.
const (
	maxSkipped = 1000
	// warySkipped is how many events a notice covers while the class has an event,
	// or a notice, that seems to end sessions.
	warySkipped = 64
	// skippedAfter is how long an event that is passed over waits for the notice
	// about it.
	skippedAfter = time.Minute
	// noticeSlack is the most that a notice has beside its digests.
	noticeSlack = 2048
)

// Filter chooses the events that an uplink sends. What is empty chooses
// everything, and an event must be chosen by all three.
//
// The zero Filter sends all. With any other, a receiver still gets notices
// (event.AgentSkipped) with the digests of what is passed over, in order, so
// that it can tell a gap and follow the hash chain; and what explains the chain
// itself passes every filter.
type Filter struct {
	// Lanes are lane ids; event.AgentLane is the agent itself.
	Lanes []string
	// Types are patterns as of path.Match for the last level of the topic, which is
	// the type without its version: "lanepost.radiation.*".
	Types []string
	// Classes are classes of events.
	Classes []event.Class
}

// unfiltered are types without version that pass every filter: without them a
// receiver could not tell an honest gap from a forged one.
var unfiltered = []string{"lanepost.agent.loss", "lanepost.agent.checkpoint", "lanepost.agent.key"}

func (f *Filter) check() error {
	for _, pattern := range f.Types {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("the filter's type %q is no pattern: want for example lanepost.radiation.*", pattern)
		}
	}
	for _, class := range f.Classes {
		if !slices.Contains(event.Classes[:], class) {
			return fmt.Errorf("the filter's class %q does not exist", class)
		}
	}
	return nil
}

func (f *Filter) all() bool { return len(f.Lanes)+len(f.Types)+len(f.Classes) == 0 }

// laneOf and typeOf read the levels of a topic as event.Topic makes it.
func laneOf(topic string) string {
	levels := strings.Split(topic, "/")
	if len(levels) < 3 {
		return ""
	}
	return levels[len(levels)-3]
}

func typeOf(topic string) string { return topic[strings.LastIndexByte(topic, '/')+1:] }

// Passes tells whether an event is to be sent.
func (f *Filter) Passes(topic string, class event.Class) bool {
	if f.all() || slices.Contains(unfiltered, typeOf(topic)) {
		return true
	}
	fits := func(pattern string) bool {
		ok, err := path.Match(pattern, typeOf(topic))
		return ok && err == nil
	}
	return (len(f.Lanes) == 0 || slices.Contains(f.Lanes, laneOf(topic))) &&
		(len(f.Types) == 0 || slices.ContainsFunc(f.Types, fits)) &&
		(len(f.Classes) == 0 || slices.Contains(f.Classes, class))
}

// passesState tells whether a state is to be sent: the agent's own always, and
// those of a device if the filter lets its lane pass. A receiver of a device's
// events must be able to tell that it is silent.
func (f *Filter) passesState(topic string) bool {
	lane := laneOf(topic)
	return len(f.Lanes) == 0 || lane == event.AgentLane || slices.Contains(f.Lanes, lane)
}

// skipped are the events of a class, one after the other, that were passed over
// since the last message of that class.
type skipped struct {
	first, last uint64 // no event if last is zero
	began       time.Time
	digests     []byte
	limit       int
}

func (s *skipped) count() int { return len(s.digests) / len(event.Hash{}) }

// takes tells whether one notice can cover the event too.
func (s *skipped) takes(sequence uint64) bool {
	return s.last == 0 || sequence == s.last+1 && s.count() < s.limit
}

func (s *skipped) add(r spool.Record) {
	if s.last == 0 {
		s.first, s.began = r.Sequence, time.Now()
	}
	s.last = r.Sequence
	digest := event.Digest(r.Payload)
	s.digests = append(s.digests, digest[:]...)
}

// due tells whether the notice is to be sent though nothing comes after it.
func (s *skipped) due(now time.Time, finishing bool) bool {
	return s.last != 0 && (finishing || s.count() >= s.limit || now.Sub(s.began) >= skippedAfter)
}

// bytes is about what the notice takes.
func (s *skipped) bytes() int { return base64.StdEncoding.EncodedLen(len(s.digests)) + noticeSlack }

func (s *skipped) notice(class event.Class) event.AgentSkipped {
	return event.AgentSkipped{
		Priority: class, FirstSequence: event.FormatSequence(s.first), LastSequence: event.FormatSequence(s.last),
		Digests: base64.StdEncoding.EncodeToString(s.digests),
	}
}

func (s *skipped) clear() {
	s.first, s.last, s.digests = 0, 0, s.digests[:0]
}
