package spool

import (
	"errors"
	"io"
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
	was := l.active
	l.active = nil
	n, err := l.remake(g, was)
	_ = was.Close() // nobody has its name any more
	if err != nil {
		l.s.log.Error("a segment was deleted while the agent writes to it, and can't be written anew", "class", l.class, "file", l.path(g), "error", err)
		l.forget(at, at+1)
		return
	}
	l.s.log.Error("a segment was deleted while the agent writes to it; it is written anew and nothing is lost", "class", l.class, "file", l.path(n))
	l.s.mu.Lock()
	l.segments[at] = n
	l.dirty = true
	l.s.deleted = time.Now()
	l.s.mu.Unlock()
}

// remake writes the content of an open segment as the next generation, so that it counts
// whatever stands under the old name.
func (l *classLog) remake(g segment, from File) (segment, error) {
	b := make([]byte, g.end)
	if n, err := from.ReadAt(b, 0); n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		return g, err
	}
	if err := l.s.fs.MkdirAll(l.dir); err != nil {
		return g, err
	}
	if err := l.s.root(); err != nil {
		return g, err
	}
	l.gen++
	g.gen, g.size = l.gen, g.end
	copy(b, appendSegmentHeader(nil, segmentInfo{
		class: l.code, sealed: l.s.keys.Load() != nil, id: l.s.id, first: g.first, gen: g.gen, begun: unixNano(g.begun),
	}))
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return g, err
	}
	err = errors.Join(write(f, b, 0), f.Close())
	if err == nil {
		err = l.s.fs.SyncDir(l.dir)
	}
	if err != nil {
		l.remove(g)
	}
	return g, err
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
			l.s.log.Error("segments were deleted while the agent runs", "class", l.class, "first", l.path(l.segments[i]), "segments", n-i)
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
	l.segments = append(l.segments[:from:from], l.segments[to:]...)
	l.dirty = true
	l.s.deleted = time.Now()
	l.s.mu.Unlock()
}
