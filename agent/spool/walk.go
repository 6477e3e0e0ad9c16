package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// ErrStop makes a Walk end early, without an error.
var ErrStop = errors.New("stop")

// Walk is a reading of one class.
type Walk struct {
	Class event.Class
	// From and To bound the sequence numbers, both included; zero is no bound.
	From, To uint64
	// Since and Until bound the time of recording: from Since on, before Until;
	// zero is no bound.
	Since, Until time.Time
	// Record gets each record, in order. Its payload is good until it returns. An
	// error ends the walk.
	Record func(Record) error
	// Found gets each range in which there is something else than records.
	Found func(Finding)
	// Progress gets how many bytes of segments were gone over since it was called
	// last.
	Progress func(bytes int64)

	sealed Finding // consecutive ones that lack the same key
}

// delivered is the number up to which everything is delivered, as the cursor says.
func (i *Inspection) delivered(l *classLog) uint64 {
	for n, o := range i.spool.logs {
		if o == l {
			return i.acked[n]
		}
	}
	return 0
}

// Size is how many bytes of segments a walk goes over.
func (i *Inspection) Size(w Walk) (n int64) {
	l := i.spool.classLog(w.Class)
	for at, g := range l.segments {
		if l.concerns(at, w) {
			n += g.end
		}
	}
	return n
}

// concerns reports whether a segment may hold records that a walk wants.
func (l *classLog) concerns(at int, w Walk) bool {
	return l.limit(at) > w.From && (w.To == 0 || l.segments[at].first <= w.To)
}

// limit is the first number that is not to be found in a segment.
func (l *classLog) limit(at int) uint64 {
	if at+1 < len(l.segments) {
		return l.segments[at+1].first
	}
	return l.head + 1
}

// Walk reads the records of a class that were there when the inspection was
// made. Segments that an agent deletes meanwhile because they are delivered
// are passed over.
func (i *Inspection) Walk(ctx context.Context, w Walk) error {
	l := i.spool.classLog(w.Class)
	if l == nil {
		return fmt.Errorf("spool: no class %q", w.Class)
	}
	next := max(w.From, i.delivered(l)+1)
	if len(l.segments) == 0 {
		w.found(Finding{Kind: Missing, Class: l.class, First: next, Last: l.head})
		return nil
	}
	// What was delivered and deleted during the look is not missing.
	if first := l.segments[0].first; next < first && !l.cursorNow().accounts(first-1) {
		w.found(Finding{Kind: Missing, Class: l.class, First: next, Last: first - 1})
	}
	next = max(w.From, l.segments[0].first)
	for at := range l.segments {
		if !l.concerns(at, w) {
			continue
		}
		var err error
		if next, err = i.walkSegment(ctx, l, at, next, &w); err != nil {
			w.flush()
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
	}
	w.flush()
	return nil
}

// found reports what lies in the range of the walk.
func (w *Walk) found(f Finding) {
	w.flush()
	if w.To > 0 {
		f.Last = min(f.Last, w.To)
	}
	if f.First = max(f.First, w.From); f.First <= f.Last && w.Found != nil {
		w.Found(f)
	}
}

// flush reports the sealed records that came one after the other.
func (w *Walk) flush() {
	if w.sealed.Kind != "" && w.Found != nil {
		w.Found(w.sealed)
	}
	w.sealed = Finding{}
}

func (w *Walk) progress(n int64) {
	if w.Progress != nil {
		w.Progress(n)
	}
}

// walkSegment returns the number after the last that the segment accounts for.
func (i *Inspection) walkSegment(ctx context.Context, l *classLog, at int, next uint64, w *Walk) (uint64, error) {
	g, limit := l.segments[at], l.limit(at)
	next = max(next, g.first)
	lost := Finding{Class: l.class, Segment: g.name(), Last: limit - 1}
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if now := l.cursorNow(); next < limit && !now.accounts(limit-1) {
			w.found(Finding{Kind: Missing, Class: l.class, First: next, Last: limit - 1})
		}
		w.progress(g.end)
		return limit, nil
	case err != nil:
		return 0, fmt.Errorf("spool: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	sc := scanner{file: f, class: l.code, end: g.end, tolerant: true}
	off, _ := l.firstFrame(&sc, g)
	sc.off = off
	gone := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		fr, ok, err := sc.peek()
		if err != nil {
			return 0, fmt.Errorf("spool: %s: %w", g.name(), err)
		}
		end := !ok || fr.seq >= limit
		if end || fr.seq > next {
			lost.First, lost.From, lost.To = next, sc.gapFrom, sc.gapTo
			if !end {
				lost.Last = fr.seq - 1
			} else {
				lost.Last = limit - 1
			}
			if lost.First <= lost.Last {
				i.missed(l, lost, w)
			}
		}
		if end {
			break
		}
		next = max(next, fr.seq)
		w.progress(sc.off - gone)
		gone = sc.off
		if fr.seq == next {
			if w.To > 0 && fr.seq > w.To {
				return next, ErrStop
			}
			if err := i.give(l, g, sc.off, &fr, w); err != nil {
				return 0, err
			}
			next++
		}
		sc.take(fr)
	}
	w.progress(g.end - gone)
	return limit, nil
}

// missed reports records that can't be read.
func (i *Inspection) missed(l *classLog, f Finding, w *Walk) {
	f.Kind = Damaged
	if f.From >= f.To {
		f.Kind = Missing
	}
	f.Delivered = f.Last <= i.delivered(l)
	w.found(f)
}

// give hands a record out, if it is wanted.
func (i *Inspection) give(l *classLog, g segment, off int64, fr *frame, w *Walk) error {
	recorded := time.Unix(0, fr.recorded).UTC()
	if recorded.Before(w.Since) || !w.Until.IsZero() && !recorded.Before(w.Until) {
		return nil
	}
	err := l.s.keys.Load().open(fr)
	var missing *KeyError
	switch {
	case errors.As(err, &missing):
		if w.sealed.Kind == "" || w.sealed.Key != missing.Key || w.sealed.Last+1 != fr.seq {
			w.flush()
			w.sealed = Finding{Kind: NoKey, Class: l.class, First: fr.seq, Segment: g.name(), From: off, Key: missing.Key}
		}
		w.sealed.Last, w.sealed.To = fr.seq, off+int64(fr.size)
		return nil
	case err != nil:
		w.found(Finding{
			Kind: Altered, Class: l.class, First: fr.seq, Last: fr.seq, Segment: g.name(),
			From: off, To: off + int64(fr.size), Delivered: fr.seq <= i.delivered(l),
		})
		return nil
	}
	w.flush()
	return w.Record(Record{Class: l.class, Sequence: fr.seq, Recorded: recorded, Topic: string(fr.topic), Payload: fr.payload})
}
