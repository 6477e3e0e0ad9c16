package spool

import (
	"cmp"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// fewTries is how many unreadable blocks are tried at a start: each may take a
// failing disk many seconds. The Reader tries all.
const fewTries = 4

// load lists the segments and reads the cursor.
func (l *classLog) load() error {
	if err := l.s.fs.MkdirAll(l.dir); err != nil {
		return err
	}
	files, err := l.s.fs.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name == "cursor.new" || f.Name == "consumers.new" {
			if err := l.s.fs.Remove(filepath.Join(l.dir, f.Name)); err != nil {
				l.warn("an unfinished file is in the way", "file", f.Name, "error", err)
			}
			continue
		}
		if g, ok := parseSegmentName(f.Name); ok {
			g.end, g.size = f.Size, f.Size
			l.segments = append(l.segments, g)
			l.gen = max(l.gen, g.gen)
		}
	}
	order.By(l.segments, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.gen, b.gen), cmp.Compare(a.first, b.first))
	})
	l.found, l.haveCursor, err = l.cursor.open()
	if err != nil {
		l.warn("the cursor can't be read, or not be relied on; if it is lost, delivered events are delivered again", "error", err)
	}
	l.gen = max(l.gen, l.found.gen)
	l.loadPositions()
	return nil
}

// identify finds the spool's id in the cursors, else in the newest segments. A
// new spool gets a new one. If there are files and none of them tells, the id
// stays zero, which goes with any.
func (s *Spool) identify() error {
	segments := 0
	for _, l := range s.logs {
		if s.id == (spoolID{}) {
			s.id = l.found.id
		}
		segments += len(l.segments)
	}
	for _, l := range s.logs {
		for _, g := range slices.Backward(l.segments) {
			if s.id != (spoolID{}) {
				break
			}
			s.id = l.readID(g)
		}
	}
	for _, l := range s.logs {
		if l.haveCursor && !s.owns(l.found.id) {
			l.warn("the cursor belongs to another spool and is not used; delivered events are delivered again")
			l.found, l.haveCursor = cursorState{}, false
			_ = l.cursor.close() // nothing is written yet
		}
		if !s.owns(l.foundAt.id) {
			l.warn("the positions of the consumers belong to another spool and are not used")
			l.foundAt = positions{}
			_ = l.positions.close() // nothing is written yet
		}
	}
	if s.id == (spoolID{}) && segments == 0 {
		if _, err := rand.Read(s.id[:]); err != nil {
			return err
		}
	}
	return nil
}

// owns reports whether a file with the id may be one of this spool.
func (s *Spool) owns(id spoolID) bool {
	return id == s.id || id == spoolID{} || s.id == spoolID{}
}

// readID returns the spool id in a segment's header, zero if it can't be read.
func (l *classLog) readID(g segment) spoolID {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if err != nil {
		return spoolID{}
	}
	defer func() { _ = f.Close() }() // read only
	b := make([]byte, segmentHeader)
	n, _ := f.ReadAt(b, 0) // a short or failed read has no intact header
	h, _, _ := parseSegmentHeader(b[:n])
	return h.id
}

// resume finds out where the log ends, by reading its newest segment, and how
// far it is delivered.
//
// The head is the highest number for which there is any evidence: a record, the
// name of the newest segment, or the cursor. What lies between the last
// readable record and the head is lost.
//
// What follows the last record without being one is either the rest of a write
// that was never confirmed, which is cut off and whose numbers are given again,
// or a confirmed record that was damaged, whose numbers are not. The cursor
// tells which if it knows a higher head; after an orderly Close it knows the
// exact one. Otherwise the look of the bytes decides (scanner.torn).
func (l *classLog) resume() {
	l.dropVoid()
	c := l.found
	head := max(c.head, c.acked)
	var tail *scan
	for len(l.segments) > 0 {
		g := l.segments[len(l.segments)-1]
		tail = l.scan(g)
		if !tail.foreign {
			break
		}
		tail.close()
		l.warn("a segment does not belong here and goes to quarantine", "file", l.path(g))
		l.quarantineFile(g)
		l.segments = l.segments[:len(l.segments)-1]
	}
	l.losses, l.told, l.acked = nil, nil, c.acked
	for _, k := range c.losses {
		if k.recorded && k.last <= l.acked {
			l.tell(k)
		} else {
			l.losses = append(l.losses, k)
		}
	}
	if len(l.segments) > 0 {
		head = max(head, tail.head, l.segments[len(l.segments)-1].first-1)
		if !l.haveCursor {
			l.acked = l.segments[0].first - 1
		}
	}
	for _, p := range l.foundAt.list {
		head = max(head, p.acked) // it was delivered
	}
	l.head = head
	l.placeConsumers()
	l.oldLosses()
	if len(l.segments) == 0 {
		l.lose(l.acked+1, head, nil)
	} else {
		l.lose(l.acked+1, l.segments[0].first-1, nil)
		if tail.file != nil && !tail.unreadable { // else the Reader tries again
			for _, gap := range tail.gaps {
				l.lose(gap.first, gap.last, &gap)
			}
			l.lose(tail.last+1, head, &tail.rest)
			l.cut(&l.segments[len(l.segments)-1], tail)
		}
		tail.close()
	}
	// Where the last record can't be read, the cursor tells the chain's value, if it was
	// written after that record. Else the chain begins anew.
	if tail != nil && !tail.foreign && head == tail.last {
		l.chain = tail.chain
	}
	if l.chain.IsZero() && head == c.head {
		l.chain = c.chain
	}
	if l.chain.IsZero() && head > 0 {
		l.anew = head + 1
		l.warn("the hash chain begins anew: the newest record can't be read, and its hash is not kept elsewhere", "sequence", head)
	}
	if tail != nil {
		l.newestAt = tail.newest
	}
	l.next = l.chain
	l.found = cursorState{}
	l.dirty = true
}

// dropVoid removes the segments of which no number counts, because the next
// generation begins at their first one: refused writes, or allocated in vain.
func (l *classLog) dropVoid() {
	var kept []segment
	for _, g := range slices.Backward(l.segments) {
		if len(kept) > 0 && g.first >= kept[len(kept)-1].first {
			if l.blank(g) {
				l.remove(g)
			} else {
				l.warn("a segment of refused writes goes to quarantine", "file", l.path(g))
				l.quarantineFile(g)
			}
			continue
		}
		kept = append(kept, g)
	}
	slices.Reverse(kept)
	l.segments = kept
}

// blank reports whether a segment surely holds nothing but its header.
func (l *classLog) blank(g segment) bool {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // read only
	sc := scanner{file: f, class: l.code, end: g.size}
	end, err := sc.trimZeros(segmentHeader, g.size)
	return err == nil && end <= segmentHeader
}

// scan is what resume learns of the newest segment.
type scan struct {
	file    File // nil if it can't be opened
	foreign bool
	// unreadable says that the disk failed to read some of it.
	unreadable bool
	last       uint64     // the last number that is readable or known to be missing before it
	head       uint64     // the highest number that was given, as far as the file shows
	end        int64      // where the last record ends
	newest     int64      // latest time at which any of its records was recorded
	chain      event.Hash // value of the hash chain after last; zero if that is not readable
	torn       bool       // nothing follows but zeros, or an unfinished or refused write
	gaps       []gap
	rest       gap // what follows the last record
}

// gap is a piece of a segment that holds no record, where some should be.
type gap struct {
	first, last uint64 // the missing numbers
	seg         segment
	file        File
	from, to    int64 // the bytes, equal if there are none
}

func (t *scan) close() {
	if t.file != nil {
		_ = t.file.Close() // resume writes nothing but the new size
	}
}

// scan reads the newest segment.
func (l *classLog) scan(g segment) *scan {
	// After an orderly Close the head is known; what is above was refused.
	limit, exact := uint64(maxSequence), false
	if c := l.found; c.closed && g.gen <= c.gen {
		limit, exact = c.head, true
	}
	t := &scan{last: g.first - 1, end: segmentHeader}
	t.rest.seg = g
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDWR)
	if err != nil {
		l.warn("the newest segment can't be opened; the sequence goes on above all that it may hold", "error", err)
		t.head = g.first + uint64(max(g.size, l.s.segmentBytes))/frameMin
		return t
	}
	t.file, t.rest.file = f, f
	sc := scanner{file: f, class: l.code, end: g.size, tolerant: true, tries: fewTries}
	sc.off, t.foreign = l.firstFrame(&sc, g)
	if t.foreign {
		return t
	}
	newest := int64(-1)
	for {
		fr, ok, _ := sc.peek() // being tolerant, it does not fail
		if !ok || fr.seq > limit {
			break
		}
		if fr.seq <= t.last {
			sc.take(fr)
			continue
		}
		if fr.seq > t.last+1 && len(t.gaps) < maxLosses {
			// Further ones are left to the Reader to find.
			t.gaps = append(t.gaps, gap{t.last + 1, fr.seq - 1, g, f, sc.gapFrom, sc.gapTo})
		}
		t.last = fr.seq
		t.newest = max(t.newest, fr.recorded)
		newest = sc.off
		sc.take(fr)
		t.end = sc.off
	}
	gapFrom, gapTo := sc.gapFrom, sc.gapTo
	if newest >= 0 {
		t.chain = l.chainAfter(&sc, newest)
	}
	t.head = t.last
	t.rest.from, t.rest.to = gapFrom, gapTo
	t.unreadable = sc.unreadable
	t.torn = true
	if exact || t.rest.to == t.rest.from {
		return t
	}
	t.torn, _ = sc.torn(t.rest.from, t.rest.to) // tolerant
	t.torn = t.torn && l.found.head <= t.last
	if !t.torn {
		t.head = l.assigned(&sc, t)
	}
	return t
}

// chainAfter returns the value of the hash chain after the frame at off, zero if
// the frame can't be opened.
func (l *classLog) chainAfter(sc *scanner, off int64) event.Hash {
	f, ok, _ := sc.frameAt(off) // tolerant
	if !ok {
		return event.Hash{}
	}
	if err := l.s.keys.Load().open(&f); err != nil {
		l.s.log.Error("the newest record can't be opened", "class", l.class, "sequence", f.seq, "error", err)
		return event.Hash{}
	}
	return event.After(f.payload)
}

// assigned returns the highest number that may have been given to the damaged
// records at the end of a segment. Where a header is intact it tells; else as
// many are assumed as fit.
func (l *classLog) assigned(sc *scanner, t *scan) uint64 {
	head := t.last
	at := t.rest.from
	for at < t.rest.to {
		b, _ := sc.bytesAt(at, frameHeader) // tolerant
		f, _, _, ok := parseFrameHeader(b, l.code)
		if !ok || f.seq <= head || f.seq > head+uint64(t.rest.to-at)/frameMin+1 {
			return head + uint64(t.rest.to-at)/frameMin + 1
		}
		head = f.seq
		at += int64(f.size)
	}
	return head
}

// firstFrame reads a segment's header and returns where its frames begin. foreign
// says that the segment is intact and not one of this log. Where the header is
// damaged the frames speak for themselves.
func (l *classLog) firstFrame(sc *scanner, g segment) (off int64, foreign bool) {
	b, err := sc.bytesAt(0, segmentHeader)
	if err != nil {
		return segmentHeader, false
	}
	h, intact, known := parseSegmentHeader(b)
	if !intact {
		l.s.log.Warn("a segment's header is damaged; its records are read nevertheless", "class", l.class, "file", l.path(g))
		return segmentHeader, false
	}
	if !known || !l.s.owns(h.id) || h.class != l.code || h.first != g.first || h.gen != g.gen {
		return segmentHeader, true
	}
	return h.frames, false
}

// cut takes off what follows the last record, unless it may be damaged records:
// those stay for the Reader to come to.
func (l *classLog) cut(g *segment, t *scan) {
	end := t.end
	switch n := t.rest.to - t.rest.from; {
	case n > 0 && (!t.torn || l.head > t.last):
		end = t.rest.to // only the zeros
	case n > 0:
		l.s.log.Info("cut off a write that was not confirmed when the process ended", "class", l.class, "file", l.path(*g), "bytes", n)
	}
	g.end = end
	if end >= g.size {
		return
	}
	if err := t.file.Truncate(end); err != nil {
		l.warn("the unused end of the newest segment can't be cut off; it stays until the segment is deleted", "error", err)
		return
	}
	g.size = end
}
