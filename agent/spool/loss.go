package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Loss is a range of records that were stored and can't be delivered.
type Loss struct {
	Class event.Class
	// First and Last bound the range, both included.
	First, Last uint64
	// Count is how many sequence numbers of the range are lost. After a crash
	// that damaged the end of a log it is an upper bound.
	Count uint64
	// Reason is one word as in event.AgentLoss: "damaged", or "evicted" if they had
	// to make room. A consumer may have acknowledged some of the evicted ones.
	Reason string
	// Detail is for a person.
	Detail string
	// Quarantine is the file that holds a copy of the damaged bytes; empty if
	// there were none, or no copy could be made.
	Quarantine string

	eviction eviction
}

// reason is why records are lost, as it stands in the cursor file.
type reason byte

const (
	damaged reason = 0
	evicted reason = 1
	passed  reason = 2 // none: delivered and deleted, where a cursor was moved back
)

// text is the reason's word in a Loss.
func (r reason) text() string {
	if r == evicted {
		return "evicted"
	}
	return "damaged"
}

// eviction is what is known of records that were evicted.
type eviction struct {
	why            string
	oldest, newest time.Time // zero if they can't be read
}

// lose notes that the records first to last are gone, as far as they are
// neither delivered nor known to be lost, and copies what stands in their place
// to quarantine. It is called by Open, under the Reader's lock by Next, and by the
// committing goroutine.
func (l *classLog) lose(first, last uint64, g *gap) {
	l.s.mu.Lock()
	pieces := l.unknown(first, last)
	l.s.mu.Unlock()
	for _, k := range pieces {
		loss := Loss{Class: l.class, First: k.first, Last: k.last, Count: k.count, Reason: damaged.text()}
		loss.Detail = fmt.Sprintf("%s of the %s log can't be read", numbers(k.first, k.last), l.class)
		var copyErr error
		switch {
		case g == nil:
			loss.Detail += ": their segment is missing"
		case g.from >= g.to:
			loss.Detail += fmt.Sprintf(": they are missing in segment %s", g.seg.name())
		default:
			loss.Detail += fmt.Sprintf(": damage in segment %s, bytes %d to %d", g.seg.name(), g.from, g.to)
			loss.Quarantine, copyErr = l.quarantineCopy(k, g)
			if copyErr != nil {
				loss.Detail += "; no copy could be made: " + copyErr.Error()
			}
		}
		l.s.mu.Lock()
		told := len(l.unknown(k.first, k.last)) == 0 // by another Reader meanwhile
		l.s.mu.Unlock()
		if told {
			continue
		}
		l.s.log.Error("records are lost", "class", l.class, "first", k.first, "last", k.last, "detail", loss.Detail, "quarantine", loss.Quarantine)
		l.s.mu.Lock()
		l.addLoss(k)
		l.addFresh(loss)
		l.s.untell()
		if copyErr != nil {
			for i := range l.segments {
				if l.segments[i].gen == g.seg.gen {
					l.segments[i].keep = true
				}
			}
		}
		l.s.mu.Unlock()
	}
	if len(pieces) > 0 {
		l.s.signal() // the cursor file remembers it
	}
}

// unknown returns what of first to last is neither delivered nor known to be lost.
// The caller holds s.mu.
func (l *classLog) unknown(first, last uint64) []knownLoss {
	first = max(first, l.acked+1)
	var pieces []knownLoss
	piece := func(first, last uint64) {
		if first <= last {
			pieces = append(pieces, knownLoss{first: first, last: last, count: last - first + 1})
		}
	}
	for _, k := range l.losses { // by first
		if !k.dense() || k.last < first || k.first > last {
			continue
		}
		piece(first, k.first-1)
		first = k.last + 1
	}
	piece(first, last)
	return pieces
}

// evict notes that what is not delivered of the oldest segment is lost because
// it has to go. last is the segment's last number.
func (l *classLog) evict(g segment, last uint64, why string) {
	l.s.mu.Lock()
	pieces := l.unknown(0, last)
	l.s.mu.Unlock()
	for _, k := range pieces {
		k.reason = evicted
		loss := Loss{Class: l.class, First: k.first, Last: k.last, Count: k.count, Reason: k.reason.text()}
		loss.eviction = eviction{why: why}
		loss.eviction.oldest, loss.eviction.newest = l.recordedIn(g, k.first, k.last)
		loss.Detail = loss.evictionText()
		l.s.log.Error("events were evicted before they were delivered", "class", l.class, "first", k.first, "last", k.last, "detail", loss.Detail)
		l.s.mu.Lock()
		if !l.extend(loss) {
			l.addFresh(loss)
			l.addLoss(k)
		}
		l.s.mu.Unlock()
	}
}

// extend joins an eviction to the one before it, if nobody was told of that yet.
// The caller holds s.mu.
func (l *classLog) extend(loss Loss) bool {
	for i := range l.fresh {
		f := &l.fresh[i]
		if f.Reason != loss.Reason || f.Last+1 != loss.First || f.Count != f.Last-f.First+1 || f.eviction.why != loss.eviction.why {
			continue
		}
		at := slices.IndexFunc(l.losses, func(k knownLoss) bool {
			return k.first == f.First && k.last == f.Last && k.reason == evicted && !k.recorded
		})
		if at < 0 {
			return false
		}
		l.losses[at].last, l.losses[at].count = loss.Last, l.losses[at].count+loss.Count
		f.Last, f.Count = loss.Last, f.Count+loss.Count
		if f.eviction.oldest.IsZero() {
			f.eviction.oldest = loss.eviction.oldest
		}
		if !loss.eviction.newest.IsZero() {
			f.eviction.newest = loss.eviction.newest
		}
		f.Detail = f.evictionText()
		l.settle()
		l.dirty = true
		return true
	}
	return false
}

func (l *Loss) evictionText() string {
	text := fmt.Sprintf("%s of the %s log deleted to make room: %s", numbers(l.First, l.Last), l.Class, l.eviction.why)
	if !l.eviction.oldest.IsZero() {
		text += fmt.Sprintf("; recorded from %s to %s", l.eviction.oldest.Format(time.RFC3339), l.eviction.newest.Format(time.RFC3339))
	}
	return text
}

// recordedIn returns when the first and the last readable record of a range in a
// segment were recorded.
func (l *classLog) recordedIn(g segment, first, last uint64) (oldest, newest time.Time) {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if err != nil {
		return oldest, newest
	}
	defer func() { _ = f.Close() }() // read only
	sc := scanner{file: f, class: l.code, off: segmentHeader, end: g.end, tolerant: true, tries: fewTries}
	for {
		fr, ok, _ := sc.peek() // being tolerant, it does not fail
		if !ok || fr.seq > last {
			return oldest, newest
		}
		if fr.seq >= first {
			newest = time.Unix(0, fr.recorded).UTC()
			if oldest.IsZero() {
				oldest = newest
			}
		}
		sc.take(fr)
	}
}

func numbers(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("sequence %d", first)
	}
	return fmt.Sprintf("sequences %d to %d", first, last)
}

// addLoss remembers a loss in the cursor. The caller holds s.mu.
func (l *classLog) addLoss(k knownLoss) {
	l.losses = append(l.losses, k)
	for i := len(l.losses) - 1; i > 0 && l.losses[i-1].first >= k.first; i-- {
		l.losses[i-1], l.losses[i] = l.losses[i], l.losses[i-1]
	}
	if len(l.losses) > knownLosses {
		// One that is recorded can be forgotten: at the worst it is reported
		// twice. Otherwise the last two become one.
		if i := slices.IndexFunc(l.losses, func(e knownLoss) bool { return e.recorded }); i >= 0 {
			l.losses = append(l.losses[:i], l.losses[i+1:]...)
		} else {
			n := len(l.losses)
			a, b := &l.losses[n-2], l.losses[n-1]
			a.last, a.count = max(a.last, b.last), a.count+b.count
			l.losses = l.losses[:n-1]
		}
	}
	l.settle()
	l.dirty = true
}

// addFresh queues a loss for Losses. The caller holds s.mu.
func (l *classLog) addFresh(loss Loss) {
	n := len(l.fresh)
	if n < maxLosses || l.fresh[n-1].Reason != loss.Reason {
		l.fresh = append(l.fresh, loss)
		return
	}
	f := &l.fresh[n-1]
	f.First, f.Last = min(f.First, loss.First), max(f.Last, loss.Last)
	f.Count += loss.Count
	f.Detail = fmt.Sprintf("%d within %s of the %s log are %s, in many places", f.Count, numbers(f.First, f.Last), l.class, f.Reason)
	f.Quarantine = ""
}

// settle moves the consumers over losses that nothing undelivered precedes, and
// the cursor to the last of them. It forgets the losses that are behind the
// cursor and recorded. The caller holds s.mu.
func (l *classLog) settle() {
	low := l.over(l.acked)
	if len(l.consumers) > 0 {
		low = maxSequence
	}
	for _, c := range l.consumers {
		c.acked = l.over(max(c.acked, l.acked))
		c.handed = max(c.handed, c.acked)
		low = min(low, c.acked)
	}
	l.acked = max(l.acked, low)
	l.losses = slices.DeleteFunc(l.losses, func(k knownLoss) bool {
		over := k.recorded && k.last <= l.acked
		if over {
			l.tell(k)
		}
		return over
	})
}

// tell keeps a loss that is recorded and behind the cursor, so that what was lost does not
// count as delivered. The caller holds s.mu.
func (l *classLog) tell(k knownLoss) {
	if k.reason == passed {
		return
	}
	if n := len(l.told); n > 0 {
		// One with its neighbour, once nothing can become of the events that tell them.
		p := &l.told[n-1]
		if p.reason == k.reason && p.last+1 == k.first && p.dense() && k.dense() && max(p.at, k.at) <= l.s.logs[0].acked {
			p.last, p.count = k.last, p.count+k.count
			return
		}
	}
	l.told = append(l.told[max(0, len(l.told)+1-toldLosses):], k)
}

// untell has the losses reported again whose events are lost themselves. The caller holds
// s.mu.
func (s *Spool) untell() {
	gone := s.logs[0].losses // urgent
	for _, l := range s.logs {
		known, again := append(l.told, l.losses...), false
		for i := range known {
			k := &known[i]
			for _, g := range gone {
				if k.recorded && g.dense() && g.first <= k.at && k.at <= g.last {
					k.recorded, again = false, true
					l.addFresh(l.oldLoss(*k, "before; the event that said so is lost itself"))
				}
			}
		}
		if again {
			l.told, l.losses = nil, known
			l.settle()
			l.dirty = true
		}
	}
}

// oldLosses queues those that were found before and not recorded.
func (l *classLog) oldLosses() {
	for _, k := range l.losses {
		if k.recorded {
			continue
		}
		loss := l.oldLoss(k, "before the last start")
		if name := l.quarantineName(k); l.exists(name) {
			loss.Quarantine = name
		}
		l.addFresh(loss)
	}
	l.settle()
}

func (l *classLog) oldLoss(k knownLoss, when string) Loss {
	what := "can't be read; found"
	if k.reason == evicted {
		what = "deleted to make room"
	}
	return Loss{
		Class: l.class, First: k.first, Last: k.last, Count: k.count, Reason: k.reason.text(),
		Detail: fmt.Sprintf("%d within %s of the %s log %s %s", k.count, numbers(k.first, k.last), l.class, what, when),
	}
}

func (l *classLog) lossRecorded(loss Loss, at uint64) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for i, k := range l.losses {
		if k.first >= loss.First && k.last <= loss.Last && !k.recorded {
			l.losses[i].recorded, l.losses[i].at = true, at
			l.dirty = true
		}
	}
	l.settle()
	l.s.signal()
}

func (s *Spool) quarantineDir() string { return filepath.Join(s.dir, "quarantine") }

func (l *classLog) quarantineName(k knownLoss) string {
	return filepath.Join(l.s.quarantineDir(), fmt.Sprintf("%s-%020d-%020d.bad", l.class, k.first, k.last))
}

func (l *classLog) exists(name string) bool {
	f, err := l.s.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return false
	}
	_ = f.Close() // read only
	return true
}

// quarantineCopy copies the bytes of a gap and returns the name of the copy.
func (l *classLog) quarantineCopy(k knownLoss, g *gap) (string, error) {
	dir, name := l.s.quarantineDir(), l.quarantineName(k)
	if err := l.s.fs.MkdirAll(dir); err != nil {
		return "", err
	}
	files, err := l.s.fs.ReadDir(dir)
	if err != nil {
		return "", err
	}
	total := g.to - g.from
	for _, f := range files {
		switch {
		case f.Name == filepath.Base(name) && f.Size == g.to-g.from:
			return name, nil // by an earlier start
		case strings.HasSuffix(f.Name, ".bad"):
			total += f.Size
		}
	}
	if total > maxQuarantine {
		return "", fmt.Errorf("%s is full (%d bytes)", dir, maxQuarantine)
	}
	to, err := l.s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return "", err
	}
	err = copyRange(to, g, l.code)
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = l.s.fs.SyncDir(dir)
	}
	if err == nil {
		err = l.s.fs.SyncDir(l.s.dir)
	}
	if err != nil {
		_ = l.s.fs.Remove(name) // half a copy is none
		return "", err
	}
	return name, nil
}

func copyRange(to File, g *gap, class byte) error {
	sc := scanner{file: g.file, class: class, end: g.to, tolerant: true}
	for at := g.from; at < g.to; {
		b, err := sc.bytesAt(at, int(min(chunkBytes, g.to-at)))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			break
		}
		if _, err := to.WriteAt(b, at-g.from); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return to.Sync()
}

// quarantineFile moves a whole segment away, which takes no space.
func (l *classLog) quarantineFile(g segment) {
	dir := l.s.quarantineDir()
	err := l.s.fs.MkdirAll(dir)
	if err == nil {
		err = l.s.fs.Rename(l.path(g), filepath.Join(dir, string(l.class)+"-"+g.name()))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.warn("a segment can't be moved to quarantine", "file", l.path(g), "error", err)
	}
}
