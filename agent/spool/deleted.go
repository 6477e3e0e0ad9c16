package spool

import (
	"errors"
	"os"
	"time"
)

// listEvery is how often it is looked whether all segments are on the disk still. A
// listing takes at most a hundredth of the time.
const listEvery = 5 * time.Second

// rescue writes the active segment anew if somebody deleted its file or moved it away:
// what is open can still be read, and what is written to it would be gone with the
// process. What can't be rescued is a loss.
func (l *classLog) rescue() {
	if l.active == nil {
		return
	}
	at := len(l.segments) - 1
	g := l.segments[at]
	if !l.active.Gone(l.path(g)) {
		return
	}
	l.warn("somebody deleted the segment that the agent writes to; it is written anew", "file", l.path(g))
	was := l.active
	l.active, l.s.rooted = nil, false
	frames := make([]byte, g.end-segmentHeader)
	n, err := was.ReadAt(frames, segmentHeader)
	if n == len(frames) { // its own error comes with less
		// As a new generation, so that it counts whatever stands under the old name.
		l.active, _, err = l.create(&g, l.capacity, frames)
		if isFull(err) { // what is open takes its room still
			l.capacity = g.end
			l.active, _, err = l.create(&g, 0, frames)
		}
	}
	_ = was.Close() // nobody has its name any more
	if err != nil {
		l.active = nil
		l.warn("it can't be", "error", err)
		l.forget(at, at+1)
		return
	}
	l.s.mu.Lock()
	l.segments[at] = g
	l.dirty = true
	l.s.deleted = time.Now()
	l.s.mu.Unlock()
}

// missing finds segments that somebody else deleted. What was not delivered of them is
// lost, and each hole is one loss.
func (l *classLog) missing() {
	began := time.Now()
	if began.Before(l.listing) || len(l.segments) == 0 {
		return
	}
	files, err := l.s.fs.ReadDir(l.dir)
	took := time.Since(began)
	l.listing = began.Add(max(listEvery, 100*took))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return
	}
	there := map[string]bool{}
	for _, f := range files {
		there[f.Name] = true
	}
	for i := 0; i < len(l.segments); i++ {
		n := i
		for n < len(l.segments) && !there[l.segments[n].name()] && (l.active == nil || n+1 < len(l.segments)) {
			n++
		}
		if n > i {
			l.forget(i, n)
		}
	}
}

// forget takes the segments from..to (not included) out of the log, with what they held.
func (l *classLog) forget(from, to int) {
	first, last := l.segments[from].first, l.head
	if to < len(l.segments) {
		last = l.segments[to].first - 1
	}
	// As a loss first: a Reader that finds no segment would make more than one of it.
	l.lose(first, last, nil)
	l.s.mu.Lock()
	l.segments = append(l.segments[:from], l.segments[to:]...)
	l.dirty = true
	l.s.deleted = time.Now()
	l.s.mu.Unlock()
}
