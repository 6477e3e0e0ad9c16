package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Retain says how long and how much of what is delivered is kept, in whole
// segments of each class. If both are set, what comes first counts; if none is,
// nothing is kept. What is retained is the first to go when room is short.
type Retain struct {
	// For is counted from when the segment's last record was stored.
	For time.Duration
	// Bytes bounds the delivered segments of each class.
	Bytes int64
}

// retains reports whether a delivered segment is kept. bytes is what it and the
// delivered ones after it take.
func (l *classLog) retains(i int, bytes int64) bool {
	r := l.s.retain
	return (r.For > 0 || r.Bytes > 0) &&
		(r.Bytes <= 0 || bytes <= r.Bytes) &&
		(r.For <= 0 || time.Since(l.finished(i)) <= r.For)
}

// resumption is where a Read may go on that begins with seq. s.mu guards it.
type resumption struct {
	seq, gen uint64
	off      int64
}

// Read returns the records from..to (both included) that are on disk, whether
// they wait or are retained, without regard to consumers and without changing
// anything. It returns at most maxRecords (at least one), and stops before topics
// and payloads exceed maxBytes, but returns one record however large it is. What is
// not there any more, or can't be read, is left out. To go on, call it with from
// one above the last number that it returned; there is no more if it returns
// none. A record that is sealed with a key that is not there is a *KeyError, once
// all before it are returned.
func (s *Spool) Read(class event.Class, from, to uint64, maxRecords, maxBytes int) ([]Record, error) {
	l := s.classLog(class)
	if l == nil {
		return nil, fmt.Errorf("spool: no class %q", class)
	}
	s.mu.Lock()
	closed := s.closed
	segments, hint := slices.Clone(l.segments), l.resumeRead
	to = min(to, l.head)
	s.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("spool %s: %w", s.dir, ErrClosed)
	}
	from = max(from, 1)
	w := wanted{records: max(maxRecords, 1), bytes: maxBytes}
	for i := max(0, after(segments, from)-1); i < len(segments) && segments[i].first <= to; i++ {
		limit := to + 1
		if i+1 < len(segments) {
			limit = min(limit, segments[i+1].first)
		}
		off := int64(segmentHeader)
		if hint.seq == from && hint.gen == segments[i].gen {
			off = hint.off
		}
		full, err := l.readRange(segments[i], off, from, limit, &w)
		if err != nil && len(w.got) == 0 {
			return nil, fmt.Errorf("spool: read %s from sequence %d: %w", class, from, err)
		}
		if full || err != nil { // the error comes again
			break
		}
	}
	return w.got, nil
}

// after is the index of the first segment that begins after a number.
func after(segments []segment, seq uint64) int {
	return sort.Search(len(segments), func(i int) bool { return segments[i].first > seq })
}

// readRange takes the records from one number to below another from a segment.
// full says that no more are wanted.
func (l *classLog) readRange(g segment, off int64, from, limit uint64, w *wanted) (full bool, err error) {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // deleted meanwhile
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // read only
	sc := scanner{file: f, class: l.code, off: off, end: g.end, tolerant: true, tries: fewTries}
	if off == segmentHeader {
		var foreign bool
		if sc.off, foreign = l.firstFrame(&sc, g); foreign {
			return false, nil
		}
	}
	for {
		fr, ok, _ := sc.peek() // being tolerant, it does not fail
		if !ok || fr.seq >= limit {
			return false, nil
		}
		if fr.seq >= from {
			size := fr.content()
			if len(w.got) == w.records || len(w.got) > 0 && size > w.bytes {
				l.s.mu.Lock()
				l.resumeRead = resumption{w.got[len(w.got)-1].Sequence + 1, g.gen, sc.off}
				l.s.mu.Unlock()
				return true, nil
			}
			switch err := l.s.keys.Load().open(&fr); {
			case errors.Is(err, errSeal): // left out; the Reader reports it
			case err != nil:
				return false, err
			default:
				w.bytes -= size
				w.got = append(w.got, fr.record(l.class))
				from = fr.seq + 1
			}
		}
		sc.take(fr)
	}
}

// Find returns the number of the first record on disk that was recorded at t or
// later, or the number that the next record will get if there is none. It is
// exact as long as the clock did not go back; where it did, Find may return a
// later one of several places that fit.
func (s *Spool) Find(class event.Class, t time.Time) (seq uint64, err error) {
	l := s.classLog(class)
	if l == nil {
		return 0, fmt.Errorf("spool: no class %q", class)
	}
	s.mu.Lock()
	closed := s.closed
	segments, next := slices.Clone(l.segments), l.head+1
	s.mu.Unlock()
	if closed {
		return 0, fmt.Errorf("spool %s: %w", s.dir, ErrClosed)
	}
	at := unixNano(t)
	// In the segment before the first one that begins with a later record.
	i := sort.Search(len(segments), func(i int) bool {
		fr, ok := l.firstFrom(segments[i], 0, func(*frame) bool { return true })
		return ok && fr.recorded >= at
	})
	for i = max(0, i-1); i < len(segments); i++ {
		limit := next
		if i+1 < len(segments) {
			limit = segments[i+1].first
		}
		fr, ok := l.firstFrom(segments[i], limit, func(f *frame) bool { return f.recorded >= at })
		if ok {
			return fr.seq, nil
		}
	}
	return next, nil
}

// firstFrom returns the first frame of a segment below a number (no bound if zero)
// for which fits. Its content is not valid any more.
func (l *classLog) firstFrom(g segment, limit uint64, fits func(*frame) bool) (fr frame, ok bool) {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if err != nil {
		return fr, false // deleted meanwhile, or for the Reader to report
	}
	defer func() { _ = f.Close() }() // read only
	sc := scanner{file: f, class: l.code, off: segmentHeader, end: g.end, tolerant: true, tries: fewTries}
	for {
		fr, ok, _ = sc.peek() // being tolerant, it does not fail
		if !ok || limit > 0 && fr.seq >= limit {
			return frame{}, false
		}
		if fits(&fr) {
			return fr, true
		}
		sc.take(fr)
	}
}
