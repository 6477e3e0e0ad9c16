package evidence

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"sort"

	"github.com/lanepost/lanepost/protocol/event"
)

// stream is what was received of one class of one agent.
type stream struct {
	a     *agent
	class event.Class
	// runs are the pieces that are there, in order of their sequences. Each piece is
	// a chain that holds. Two pieces side by side are not tied together.
	runs     []run
	seen     map[uint64]seen
	claimed  []claim // signed heads whose event has not come
	losses   []loss
	restarts []uint64
	branches []branch
	notices  []notice
	// closed are gaps that came out of the list of runs because it was too long.
	closed []gap
	sum    Stream
	signed claim // the farthest that holds
	// kept is the event that came first, if it is a checkpoint: one that the broker
	// kept, perhaps, and the recording began later.
	kept uint64
}

// run is a piece of a stream.
type run struct {
	first, last uint64
	before      event.Hash // the chain's value before first, if chained
	chained     bool       // first carries a prevhash
	after       event.Hash // the chain's value after last
	tail        bool       // last carries a prevhash
	signed      uint64     // up to here a checkpoint covers it; zero if none does
}

// seen is an event that is remembered.
type seen struct {
	digest, after event.Hash
	id            string // empty for what a notice told
}

// item is an event at its place, or what a notice says of one.
type item struct {
	sequence uint64
	id       string // empty for what a notice told
	before   event.Hash
	chained  bool // it carries before
	digest   event.Hash
}

// claim is a head that the agent has signed.
type claim struct {
	sequence uint64
	hash     event.Hash
	at       uint64 // the sequence of the checkpoint
	time     event.Time
	key      ed25519.PublicKey
	kept     bool // the checkpoint is the first event that came
}

// loss is what the agent says that it lost, and where it says so. Without a reason it is not
// lost: see anew.
type loss struct {
	first, last    uint64
	class          event.Class
	at             uint64
	reason, detail string
}

// branch is a second history.
type branch struct {
	last    uint64
	after   event.Hash
	digests map[uint64]event.Hash
	found   int // its finding, -1 if there is none
}

type notice struct {
	first, last uint64
	digests     []byte
}

type gap struct{ first, last uint64 }

// find is the index of the run that holds the sequence, or of the first one
// above it.
func (s *stream) find(sequence uint64) (i int, holds bool) {
	n := len(s.runs)
	if n > 0 && sequence > s.runs[n-1].last {
		return n, false
	}
	i = sort.Search(n, func(i int) bool { return s.runs[i].last >= sequence })
	return i, i < n && s.runs[i].first <= sequence
}

// take puts an event into its place. again is true if it was there already.
func (s *stream) take(v *Verifier, it item) (again bool) {
	i, holds := s.find(it.sequence)
	if holds {
		return s.again(v, it)
	}
	s.insert(v, it, i)
	s.sum.Distinct++
	if s.sum.First == 0 || it.sequence < s.sum.First {
		s.sum.First = it.sequence
	}
	s.sum.Last = max(s.sum.Last, it.sequence)
	s.name(v, it)
	s.followNotices(v)
	return false
}

// name notes the id of an event, and finds one that was used before.
func (s *stream) name(v *Verifier, it item) {
	here := place{s, it.sequence}
	if p, used := s.a.ids[it.id]; used && p != here {
		v.found.add(s.at(finding(KindReplay, fmt.Sprintf("event %s was %s %d before", it.id, p.s.class, p.sequence)),
			it.sequence, it.sequence))
		return
	}
	s.a.ids[it.id] = here
}

func (s *stream) at(f Finding, first, last uint64) Finding {
	f.Agent, f.Class, f.First, f.Last = s.a.name, s.class, first, last
	return f
}

// again compares an event with the one that has its sequence already. It is
// false for another event.
func (s *stream) again(v *Verifier, it item) bool {
	first, remembered := s.seen[it.sequence]
	told := it.id == "" // by a notice
	switch {
	case !remembered && told, first.digest == it.digest && told:
		return true
	case !remembered:
		s.sum.Uncompared++
		return true
	case first.digest == it.digest && first.id == "":
		// A notice told of it, and now it came.
		first.id = it.id
		s.seen[it.sequence] = first
		s.sum.Skipped--
		s.sum.Distinct++
		s.name(v, it)
		return false
	case first.digest == it.digest:
		s.sum.Duplicates++
		return true
	case told || first.id == "":
		v.found.add(s.at(finding(KindFork, "the notice of a filter tells another digest than the event has"), it.sequence, it.sequence))
		return false
	}
	after := event.Link(it.before, it.digest)
	for i := range s.branches {
		b := &s.branches[i]
		if d, ok := b.digests[it.sequence]; ok && d == it.digest {
			s.sum.Duplicates++
			return true
		}
		if b.last+1 == it.sequence && b.after == it.before {
			b.last, b.after = it.sequence, after
			if len(b.digests) < maxBranch {
				b.digests[it.sequence] = it.digest
			}
			if b.found >= 0 {
				f := &v.found.list[b.found]
				replay := finding(KindReplay, fmt.Sprintf("sequences %d to %d came twice, as two different chains", f.First, it.sequence))
				*f = s.at(replay, f.First, max(f.Last, it.sequence))
			}
			return false
		}
	}
	text := fmt.Sprintf("the events %s and %s have the same sequence", first.id, it.id)
	if first.id == it.id {
		text = fmt.Sprintf("event %s came with two different contents", it.id)
	}
	b := branch{last: it.sequence, after: after, digests: map[uint64]event.Hash{it.sequence: it.digest}}
	b.found = v.found.add(s.at(finding(KindFork, text), it.sequence, it.sequence))
	if len(s.branches) >= maxBranches {
		s.branches = append(s.branches[:0], s.branches[1:]...)
	}
	s.branches = append(s.branches, b)
	return false
}

// insert puts an item before run i, and joins what holds together.
func (s *stream) insert(v *Verifier, it item, i int) {
	// What carries no prevhash is chained to zero, as event.After has it.
	r := run{first: it.sequence, last: it.sequence, before: it.before, chained: it.chained, tail: it.chained}
	r.after = event.Link(it.before, it.digest)
	v.remember(s, it.sequence, seen{it.digest, r.after, it.id})
	if !it.chained {
		v.found.add(s.at(finding(KindUnchained, "recorded before the chain"), it.sequence, it.sequence))
	}
	if it.chained && it.before.IsZero() && it.sequence > 1 && !slices.Contains(s.restarts, it.sequence) && len(s.restarts) < maxRuns {
		s.restarts = append(s.restarts, it.sequence)
	}
	s.runs = append(s.runs, run{})
	copy(s.runs[i+1:], s.runs[i:])
	s.runs[i] = r
	if i+1 < len(s.runs) && s.runs[i+1].first == it.sequence+1 && s.joins(v, i) {
		s.join(i)
	}
	if i > 0 && s.runs[i-1].last+1 == it.sequence && s.joins(v, i-1) {
		s.join(i - 1)
	}
	s.settle(v, it.sequence, r.after)
	if r.chained {
		s.settle(v, it.sequence-1, r.before)
	}
	if len(s.runs) > maxRuns {
		s.closeOldest(v)
	}
}

// joins says whether run i+1 follows run i, which ends where it begins, and
// tells if it should and does not.
func (s *stream) joins(v *Verifier, i int) bool {
	a, b := &s.runs[i], &s.runs[i+1]
	var text string
	switch {
	case !b.chained:
		if !a.tail {
			return true
		}
		text = fmt.Sprintf("event %d carries no prevhash, and the one before it does", b.first)
	case b.before.IsZero():
		return false // the chain begins anew: see Result
	case a.after == b.before:
		return true
	default:
		for _, other := range s.branches {
			if other.last == a.last && other.after == b.before {
				return true // it continues the other history
			}
		}
		text = fmt.Sprintf("the prevhash of event %d is %s, and after event %d as it stands it should be %s",
			b.first, b.before, a.last, a.after)
	}
	v.found.add(s.at(finding(KindAltered, text), a.last, b.first))
	return false
}

// join makes one run of the runs i and i+1.
func (s *stream) join(i int) {
	a, b := s.runs[i], s.runs[i+1]
	s.runs[i] = run{
		first: a.first, before: a.before, chained: a.chained,
		last: b.last, after: b.after, tail: b.tail, signed: max(a.signed, b.signed),
	}
	s.runs = append(s.runs[:i+1], s.runs[i+2:]...)
}

// closeOldest takes the two lowest runs for one. The gap between them can't be
// filled any more.
func (s *stream) closeOldest(v *Verifier) {
	a, b := s.runs[0], s.runs[1]
	if b.first > a.last+1 {
		if len(s.closed) < maxRuns {
			s.closed = append(s.closed, gap{a.last + 1, b.first - 1})
		} else {
			s.sum.Missing += b.first - a.last - 1 // whether it was lost is not known
		}
	}
	s.sum.NotCovered += uncovered(a)
	s.join(0)
	s.runs[0].signed = b.signed
	if b.signed == 0 { // what was counted just now must not be counted again
		s.runs[0].signed = b.first - 1
	}
	v.limit("more than %d gaps in one class: the first of them can't be filled any more", maxRuns)
}

func uncovered(r run) uint64 {
	return r.last - max(r.signed, r.first-1)
}

// claim holds a signed head against what was received.
func (s *stream) claim(v *Verifier, c claim) {
	s.sum.Checkpoints++
	i, holds := s.find(c.sequence)
	if holds {
		is, remembered := s.seen[c.sequence]
		switch {
		case remembered:
			s.judge(v, c, is.after)
		case s.runs[i].last == c.sequence:
			s.judge(v, c, s.runs[i].after)
		default:
			s.sum.Uncompared++
		}
		return
	}
	if i < len(s.runs) && s.runs[i].first == c.sequence+1 && s.runs[i].chained && !s.runs[i].before.IsZero() {
		s.judge(v, c, s.runs[i].before)
		return
	}
	if len(s.claimed) >= maxClaims {
		s.claimed = append(s.claimed[:0], s.claimed[1:]...)
	}
	s.claimed = append(s.claimed, c)
}

// settle judges the claims that waited for the chain's value after an event.
func (s *stream) settle(v *Verifier, sequence uint64, after event.Hash) {
	if len(s.claimed) == 0 || after.IsZero() {
		return
	}
	kept := s.claimed[:0]
	for _, c := range s.claimed {
		if c.sequence == sequence {
			s.judge(v, c, after)
		} else {
			kept = append(kept, c)
		}
	}
	s.claimed = kept
}

// judge compares a signed head with the chain's value there.
func (s *stream) judge(v *Verifier, c claim, after event.Hash) {
	if c.hash != after && !slices.ContainsFunc(s.branches, func(b branch) bool { return b.last == c.sequence && b.after == c.hash }) {
		first := c.sequence
		if s.signed.sequence < c.sequence {
			first = max(s.signed.sequence+1, s.sum.First)
		}
		text := fmt.Sprintf("the checkpoint in urgent event %d, of %s, says that the chain is at %s after event %d; it is at %s",
			c.at, c.time.UTC().Format(event.TimeLayout), c.hash, c.sequence, after)
		v.found.add(s.at(finding(KindContradicted, text), min(first, c.sequence), c.sequence))
		return
	}
	if c.sequence > s.signed.sequence {
		s.signed = c
	}
	if i, holds := s.find(c.sequence); holds {
		s.runs[i].signed = max(s.runs[i].signed, c.sequence)
	}
}

// anew notes that the agent says with which event the chain begins anew: like the loss of the
// one before, though that is not lost, which has no reason.
func (s *stream) anew(v *Verifier, sequence string, class event.Class, at uint64) {
	if q, err := event.ParseSequence(sequence); err == nil && q > 1 {
		s.lost(v, loss{first: q - 1, last: q - 1, class: class, at: at})
	}
}

// lost notes what the agent says that it lost.
func (s *stream) lost(v *Verifier, l loss) {
	if slices.ContainsFunc(s.losses, func(o loss) bool { return o.first == l.first && o.last == l.last && o.reason == l.reason }) {
		return
	}
	if len(s.losses) >= maxLosses {
		v.limit("more than %d losses in one class", maxLosses)
		return
	}
	s.losses = append(s.losses, l)
}

// skip follows the chain over events that a filter kept back.
func (s *stream) skip(v *Verifier, n notice) {
	if s.follow(v, n) {
		s.followNotices(v)
		return
	}
	if slices.ContainsFunc(s.notices, func(o notice) bool {
		return o.first == n.first && o.last == n.last && bytes.Equal(o.digests, n.digests)
	}) {
		return
	}
	if len(s.notices) >= maxNotices {
		s.notices = append(s.notices[:0], s.notices[1:]...)
	}
	n.digests = slices.Clone(n.digests)
	s.notices = append(s.notices, n)
}

// followNotices tries the notices that wait.
func (s *stream) followNotices(v *Verifier) {
	for i := 0; i < len(s.notices); i++ {
		if n := s.notices[i]; s.follow(v, n) {
			s.notices = append(s.notices[:i], s.notices[i+1:]...)
			i = -1
		}
	}
}

// follow puts the digests of a notice into their places. It is false if what is
// before them is not there.
func (s *stream) follow(v *Verifier, n notice) bool {
	for q := n.first; q <= n.last; q++ {
		it := item{sequence: q, chained: true}
		copy(it.digest[:], n.digests[(q-n.first)*uint64(len(it.digest)):])
		i, holds := s.find(q)
		switch {
		case holds:
			s.again(v, it)
		case i > 0 && s.runs[i-1].last == q-1:
			it.before = s.runs[i-1].after
			s.insert(v, it, i)
			s.sum.Skipped++
		case q == 1: // nothing is before it, and its hash is zero
			s.insert(v, it, i)
			s.sum.Skipped++
		default:
			return false
		}
	}
	return true
}
