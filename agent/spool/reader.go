package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Reader hands out the records of one class to one consumer. Its methods may be
// called from several goroutines.
type Reader struct {
	log      *classLog
	consumer *consumer
	none     error // says that there is no such class or consumer

	mu      sync.Mutex
	next    uint64 // number to return next; what is not above the cursor means the one after it
	file    File   // the segment that is being read, nil if none
	gen     uint64 // of that segment
	scan    scanner
	failing time.Time // since when reading fails where it stands, zero if it does not
}

// Next returns the records after the read position, oldest first, and moves
// the position behind them. It never waits: no records and a nil error mean
// that there are none now. It returns at most maxRecords (at least one), and
// stops before topics and payloads exceed maxBytes, but returns one record
// however large it is. Only records that are on disk are returned.
//
// Records that can't be read are passed over and reported by Losses. At a record
// that is sealed with a key that is not there (*KeyError), nothing is passed over
// or lost: Next returns the error until the key is there. After an
// error of the disk the position stands where it was; wait and call again. A
// place that stays unreadable for ten seconds of trying counts as damaged.
func (r *Reader) Next(maxRecords, maxBytes int) ([]Record, error) {
	if r.none != nil {
		return nil, r.none
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	want := wanted{records: max(maxRecords, 1), bytes: maxBytes}
	for {
		p, err := r.place()
		if err != nil {
			return nil, err
		}
		if p.empty {
			break
		}
		full, err := r.read(p, &want)
		if err != nil && len(want.got) == 0 {
			return nil, fmt.Errorf("spool: read %s sequence %d: %w", r.log.class, r.next, err)
		}
		if full || err != nil { // the error comes again
			break
		}
	}
	r.log.s.mu.Lock()
	r.consumer.handed = max(r.consumer.handed, r.next-1)
	r.log.s.mu.Unlock()
	return want.got, nil
}

// Rewind puts the read position back to just after the last acknowledged
// record.
func (r *Reader) Rewind() {
	if r.none != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = 0
	r.leave()
}

// Ack says that everything up to seq is delivered to the consumer. A lower number than before
// changes nothing; one that Next has not returned since Open is an error.
//
// The cursor file follows within 200 ms, which outlives the process; it is
// synced to disk within two seconds or so, before a segment behind it is
// deleted, and by Close. An acknowledgement that is lost means that the records
// are delivered again.
func (r *Reader) Ack(seq uint64) error {
	if r.none != nil {
		return r.none
	}
	l, c := r.log, r.consumer
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	switch {
	case l.s.closed:
		return fmt.Errorf("spool %s: %w", l.s.dir, ErrClosed)
	case seq > c.handed:
		return fmt.Errorf("spool: %s acknowledged %s sequence %d, of which %d is the last that was read", c.name, l.class, seq, c.handed)
	case seq <= c.acked:
		return nil
	}
	c.acked = seq
	l.settle()
	if !l.dirty {
		l.dirty = true
		l.s.signal()
	}
	return nil
}

// wanted is what a call of Next asks for and has got.
type wanted struct {
	records, bytes int
	got            []Record
}

// place is where the next record should be.
type place struct {
	empty bool    // there is none yet
	lost  bool    // no segment holds it
	seg   segment // that holds it
	limit uint64  // the first number that is not to be found there
}

// place finds the segment of the next number.
func (r *Reader) place() (place, error) {
	l := r.log
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.closed {
		return place{}, fmt.Errorf("spool %s: %w", l.s.dir, ErrClosed)
	}
	r.next = max(r.next, r.consumer.acked+1)
	if r.next > l.head {
		return place{empty: true}, nil
	}
	p := place{limit: l.head + 1}
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].first > r.next })
	if i < len(l.segments) {
		p.limit = l.segments[i].first
	}
	if i == 0 {
		p.lost = true
	} else {
		p.seg = l.segments[i-1]
	}
	return p, nil
}

// read takes records from one segment. full says that no more are wanted.
func (r *Reader) read(p place, want *wanted) (full bool, err error) {
	if p.lost {
		r.pass(p.limit, nil)
		return false, nil
	}
	if r.file == nil || r.gen != p.seg.gen {
		if done, err := r.enter(p); done || err != nil {
			return false, err
		}
	}
	r.scan.end = p.seg.end
	for {
		f, ok, err := r.scan.peek()
		if err != nil {
			if !r.givenUp() {
				return false, err
			}
			r.scan.tolerant = true
			continue
		}
		if !ok || f.seq >= p.limit {
			r.pass(p.limit, r.gap(p))
			return false, nil
		}
		if f.seq > r.next {
			r.pass(f.seq, r.gap(p))
		}
		if f.seq == r.next {
			size := f.content()
			if len(want.got) > 0 && size > want.bytes {
				return true, nil
			}
			switch err := r.log.s.keys.Load().open(&f); {
			case errors.Is(err, errSeal):
				r.pass(f.seq+1, &gap{seg: p.seg, file: r.file, from: r.scan.off, to: r.scan.off + int64(f.size)})
			case err != nil:
				return false, err // the position stays, however long the key is missing
			default:
				want.bytes -= size
				want.got = append(want.got, f.record(r.log.class))
				r.next++
			}
		}
		r.scan.take(f)
		r.recovered()
		if len(want.got) == want.records {
			return true, nil
		}
		if r.next == p.limit {
			return false, nil
		}
	}
}

// record is an open frame's content.
func (f *frame) record(class event.Class) Record {
	payload := f.payload
	if f.sealed == nil {
		payload = bytes.Clone(payload)
	}
	return Record{
		Class:    class,
		Sequence: f.seq,
		Recorded: time.Unix(0, f.recorded).UTC(),
		Topic:    string(f.topic),
		Payload:  payload,
	}
}

// pass gives up the numbers from the next one to below limit.
func (r *Reader) pass(limit uint64, g *gap) {
	if r.next < limit {
		r.log.lose(r.next, limit-1, g)
		r.next = limit
	}
}

// gap is what the last peek passed over.
func (r *Reader) gap(p place) *gap {
	return &gap{seg: p.seg, file: r.file, from: r.scan.gapFrom, to: r.scan.gapTo}
}

// enter opens the segment of the next number. done says that there is nothing
// to be read from it.
func (r *Reader) enter(p place) (done bool, err error) {
	r.leave()
	l := r.log
	f, err := l.s.fs.OpenFile(l.path(p.seg), os.O_RDONLY)
	switch {
	case errors.Is(err, os.ErrNotExist):
		there, newest := l.has(p.seg)
		if newest && !r.givenUp() {
			return true, err // it may be open still, and is then rescued
		}
		if there {
			r.pass(p.limit, nil)
		}
		r.failing = time.Time{}
		return true, nil // else it was delivered meanwhile
	case err != nil && !r.givenUp():
		return true, err
	case err != nil:
		r.pass(p.limit, nil)
		r.failing = time.Time{}
		return true, nil
	}
	r.file, r.gen = f, p.seg.gen
	// The buffer serves segment after segment.
	r.scan = scanner{file: f, class: l.code, end: p.seg.end, buf: r.scan.buf[:0]}
	off, foreign := l.firstFrame(&r.scan, p.seg)
	if foreign {
		r.pass(p.limit, &gap{seg: p.seg, file: f, to: p.seg.end})
		r.leave()
		return true, nil
	}
	r.scan.off = off
	return false, nil
}

// leave closes the segment that is being read.
func (r *Reader) leave() {
	if r.file != nil {
		_ = r.file.Close() // read only
		r.file = nil
	}
}

// givenUp reports whether reading has failed here for long enough.
func (r *Reader) givenUp() bool {
	if r.failing.IsZero() {
		r.failing = time.Now()
	}
	return time.Since(r.failing) >= unreadableAfter
}

// recovered notes that reading works where it stands, so that the next place
// that fails is tried for as long as this one.
func (r *Reader) recovered() {
	r.failing = time.Time{}
	if r.scan.tolerant {
		r.scan.tolerant, r.scan.unreadable = false, false
		r.scan.buf = r.scan.buf[:0] // may hold what was made up for unreadable blocks
	}
}

func (r *Reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave()
}

// has reports whether the segment is part of the log still, and whether it is the newest.
func (l *classLog) has(g segment) (there, newest bool) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for i, o := range l.segments {
		if o.gen == g.gen {
			return true, i == len(l.segments)-1
		}
	}
	return false, false
}
