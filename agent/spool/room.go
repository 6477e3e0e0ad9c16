package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// What the classes take of the disk unless the options say otherwise, and the
// bounds of making room.
const (
	defaultUrgentBytes  = 512 << 20
	defaultRoutineBytes = 2 << 30
	// Of the disk, defaultFreeShare is left free, but not more than defaultFreeBytes.
	defaultFreeShare = 0.05
	defaultFreeBytes = 1 << 30
	// segmentsPerCap is how many segments a cap has room for at the least, so that
	// an eviction takes no more than that part.
	segmentsPerCap = 8
	// smallSegment is what a segment shrinks to when room is short. It shrinks
	// further only if nothing else helps.
	smallSegment = 64 << 10
	// diskSlack is what a file costs the file system beside its content.
	diskSlack = 16 << 10
	// lookEvery is how often ages and the disk's free space are looked at.
	lookEvery = time.Second
	// shedPerLook bounds the segments that a look deletes in each class, so that
	// appends don't wait long.
	shedPerLook = 4
)

// Caps bound what a class takes of the disk.
type Caps struct {
	// MaxBytes bounds the class's segments, with preallocated space. Zero means 512
	// MiB for urgent and 2 GiB for routine events; negative means no bound.
	MaxBytes int64
	// MaxAge is for routine events only; none if zero. A segment is evicted when the
	// one after it was begun so long ago, by the clock of this machine; a new one
	// is begun at least each eighth of it. The newest segment always stays.
	MaxAge time.Duration
}

// MinFree is what the spool leaves free of its file system. If both are set, the
// lesser counts. Zero means 5 % and 1 GiB; negative means nothing.
//
// When less than that is free, routine events evict as many older ones as they
// need room, urgent events evict routine ones. Urgent events are refused only
// when the file system is really full.
type MinFree struct {
	Share float64
	Bytes int64
}

// Floor is what is left free of a file system of that size.
func (m MinFree) Floor(total int64) int64 {
	if m == (MinFree{}) {
		m = MinFree{Share: defaultFreeShare, Bytes: defaultFreeBytes}
	}
	share := int64(m.Share * float64(total))
	switch {
	case m.Share < 0 || m.Bytes < 0:
		return 0
	case m.Share == 0:
		return m.Bytes
	case m.Bytes == 0:
		return share
	}
	return min(share, m.Bytes)
}

// disk is what is known of the file system. s.mu guards it.
type disk struct {
	known       bool
	free, total int64
}

// look asks the file system for its free space.
func (s *Spool) look() disk {
	free, total, err := s.fs.Free(s.dir)
	d := disk{known: err == nil && total > 0, free: free, total: total}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk = d
	return d
}

// tick keeps the classes within their caps.
func (s *Spool) tick() {
	d := s.look()
	for _, l := range s.logs {
		l.rescue()
		l.missing()
		l.keepWithin(d)
	}
	s.layReserve()
}

// keepWithin deletes what is too old or too much.
func (l *classLog) keepWithin(d disk) {
	for range shedPerLook {
		var freed int64
		switch {
		case l.class == event.Routine && l.caps.MaxAge > 0 && len(l.segments) > 1 && time.Since(l.finished(0)) > l.caps.MaxAge:
			freed = l.shed(true, fmt.Sprintf("routine events are kept for %s", l.caps.MaxAge))
		case l.caps.MaxBytes > 0 && l.bytes() > l.caps.MaxBytes:
			freed = l.shed(true, l.capText())
		case d.known && d.free < l.s.minFree.Floor(d.total):
			if freed = l.shed(false, ""); freed > 0 {
				d = l.s.look()
			}
		}
		if freed == 0 {
			break
		}
	}
	l.s.mu.Lock()
	acked := l.acked
	l.s.mu.Unlock()
	if l.s.retain != (Retain{}) && l.deletable(acked) > 0 {
		l.shed(false, "") // the others that are due go with it
	}
}

func (l *classLog) capText() string {
	return fmt.Sprintf("%s events may take %d bytes", l.class, l.caps.MaxBytes)
}

// bound sets the caps of a class.
func (l *classLog) bound(c Caps) {
	l.caps = c
	if c.MaxBytes > 0 {
		l.segmentBytes = min(l.segmentBytes, max(c.MaxBytes/segmentsPerCap, sectorBytes))
	}
	l.rollAfter = c.MaxAge / segmentsPerCap
	r := l.s.retain
	if r.For > 0 && (l.rollAfter == 0 || r.For/segmentsPerCap < l.rollAfter) {
		l.rollAfter = r.For / segmentsPerCap
	}
	if r.Bytes > 0 {
		l.segmentBytes = min(l.segmentBytes, max(r.Bytes/segmentsPerCap, sectorBytes))
	}
}

// bytes is what the class takes.
func (l *classLog) bytes() (n int64) {
	for _, g := range l.segments {
		n += g.size
	}
	return n
}

// finished is when nothing more was written to a segment that is not the last.
func (l *classLog) finished(i int) time.Time {
	g := l.segments[i+1]
	if !g.begun.IsZero() {
		return g.begun
	}
	begun := time.Now() // the most careful guess
	if f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY); err == nil {
		b := make([]byte, segmentHeader)
		n, _ := f.ReadAt(b, 0) // a short or failed read has no intact header
		if h, intact, _ := parseSegmentHeader(b[:n]); intact {
			begun = time.Unix(0, h.begun)
		}
		_ = f.Close() // read only
	}
	l.s.mu.Lock()
	l.segments[i+1].begun = begun
	l.s.mu.Unlock()
	return begun
}

// shed deletes the oldest segment, even if it is retained, and returns how much
// room that gave; nothing for the newest one. What was not delivered is a loss,
// which is only made if lossy, and never of urgent events.
func (l *classLog) shed(lossy bool, why string) (freed int64) {
	if len(l.segments) < 2 {
		return 0
	}
	g, last := l.segments[0], l.segments[1].first-1
	l.s.mu.Lock()
	waits := l.acked < last
	l.s.mu.Unlock()
	if waits {
		if !lossy || l.class != event.Routine {
			return 0
		}
		l.evict(g, last, why)
	}
	l.dropTo = max(l.dropTo, last)
	// The cursor, which knows of the loss, is on disk before the segment goes.
	if err := l.writeCursor(true, false); err != nil && !l.cursorBad {
		l.cursorBad = true
		l.s.log.Error("the cursor can't be written", "class", l.class, "error", err)
	}
	if l.segments[0].gen == g.gen {
		return 0
	}
	return g.size
}

// store makes the encoded batch durable: behind the last one, or, if there is
// no room or that fails, in a new segment.
func (l *classLog) store() error {
	l.rescue()
	if l.active != nil && l.rollAfter > 0 && time.Since(l.segments[len(l.segments)-1].begun) > l.rollAfter {
		l.seal() // so that it gets old as a whole
	}
	if l.active != nil {
		end := l.segments[len(l.segments)-1].end
		if end+int64(len(l.frames)) <= l.capacity {
			err := write(l.active, l.frames, end)
			if err == nil {
				l.publish(nil, end+int64(len(l.frames)))
				return nil
			}
			// What the failed write left is void: see format.go.
			l.warn("a write failed; trying again in a new segment", "error", err)
		}
		l.seal()
	}
	need := int64(segmentHeader + len(l.frames))
	size, err := l.fit(need)
	if err != nil {
		return err
	}
	if err := l.begin(size); !isFull(err) {
		return err
	}
	return l.squeeze(need, size)
}

// fit makes room for a new segment within the caps, and returns its size.
func (l *classLog) fit(need int64) (size int64, err error) {
	size = max(l.segmentBytes, need)
	if limit := l.caps.MaxBytes; limit > 0 {
		for l.bytes()+size > limit && l.shed(true, l.capText()) > 0 {
		}
		room := limit - l.bytes()
		if room < need && l.class == event.Urgent {
			return 0, fmt.Errorf("%w: %s, and those that wait take %d: bring the receiver back, or set a larger cap", ErrFull, l.capText(), l.bytes())
		}
		size = max(min(size, room), need)
	}
	d := l.s.look()
	short := l.s.minFree.Floor(d.total) - (d.free - size)
	if !d.known || short <= 0 {
		return size, nil
	}
	// Others may have taken the disk, so no more is given up than is taken. The
	// segments that go are a little smaller, because their ends are cut off.
	if want := min(short, size-size/4); l.s.make(want, true, "the disk has less free space than it is to have") < want {
		size = max(need, min(size, smallSegment))
	}
	return size, nil
}

// make gives back that much of the disk, as far as possible: what is delivered,
// and if lossy also the oldest routine events.
func (s *Spool) make(want int64, lossy bool, why string) (freed int64) {
	for _, l := range s.logs {
		for freed < want {
			n := l.shed(false, "")
			if n == 0 {
				break
			}
			freed += n
		}
	}
	for routine := s.classLog(event.Routine); lossy && freed < want; {
		n := routine.shed(true, why)
		if n == 0 {
			break
		}
		freed += n
	}
	return freed
}

// squeeze begins a segment on a full disk: for what is delivered, in a smaller
// one, for routine events, for the reserve, in this order.
func (l *classLog) squeeze(need, size int64) error {
	if l.reclaim() {
		if err := l.begin(size); !isFull(err) {
			return err
		}
	}
	for _, o := range l.s.logs {
		o.seal() // gives the preallocated rest back
	}
	l.s.make(size, false, "")
	err := l.beginSmall(need, size)
	if isFull(err) && l.s.lacksSpace(need, err) && l.s.make(max(need, min(size, smallSegment)), true, "the disk is full") > 0 {
		err = l.beginSmall(need, size)
	}
	if isFull(err) && l.class == event.Urgent && l.s.takeReserve() {
		err = l.beginSmall(need, size)
	}
	return err
}

// lacksSpace reports whether an error that says so comes from a lack of bytes,
// against which an eviction helps, as far as the file system tells.
func (s *Spool) lacksSpace(need int64, err error) bool {
	d := s.look()
	return errors.Is(err, syscall.EDQUOT) || d.known && d.free < 2*max(need, smallSegment)+diskSlack
}

// beginSmall begins a segment of the size, or of less if there is no room.
func (l *classLog) beginSmall(need, size int64) error {
	sizes := []int64{size}
	if d := l.s.look(); d.known {
		if room := (d.free - diskSlack) &^ (blockBytes - 1); room < size {
			sizes = []int64{room}
		}
	}
	var err error
	last := int64(0)
	for _, n := range append(sizes, smallSegment, need) {
		if n = max(need, min(n, size)); n == last {
			continue
		}
		if err = l.begin(n); !isFull(err) {
			return err
		}
		last = n
	}
	return err
}

// The reserve is a file that takes up room as long as there is some. On a full
// disk it is given up, so that urgent events can be stored for a while longer:
// among them those that say what was lost.
const (
	defaultReserve = 1 << 20
	// reserveShare is the part of a small file system that the reserve is at most.
	reserveShare = 32
)

func (s *Spool) reservePath() string { return filepath.Join(s.dir, "reserve") }

// layReserve puts the reserve back when there is room again.
func (s *Spool) layReserve() {
	d := s.look()
	size := s.reserveBytes
	if d.known {
		size = min(size, d.total/reserveShare)
	}
	if size <= 0 || s.reserved {
		return
	}
	var err error
	if d.known && d.free < size+2*smallSegment && d.free < d.total/4 {
		err = syscall.ENOSPC
	} else {
		err = s.allocateReserve(size)
	}
	s.mu.Lock()
	s.reserved = err == nil
	s.mu.Unlock()
	if err != nil && !isFull(err) && !s.reserveBad {
		s.log.Warn("no room can be put aside for a full disk", "file", s.reservePath(), "error", err)
	}
	if err == nil && s.reserveUsed {
		s.log.Info("the disk has room again, and the reserve is put back", "file", s.reservePath())
		s.reserveUsed = false
	}
	s.reserveBad = err != nil
}

func (s *Spool) allocateReserve(size int64) (err error) {
	f, err := s.fs.OpenFile(s.reservePath(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = s.fs.Remove(s.reservePath()) // it would take room for nothing; tried again
		}
	}()
	if have, err := f.Size(); err != nil || have == size {
		return err
	}
	err = f.Truncate(0) // a hole would hold no room
	if err == nil {
		err = f.Allocate(size)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for at := int64(0); at < size; at += chunkBytes {
		if _, err := f.WriteAt(make([]byte, min(chunkBytes, size-at)), at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// takeReserve gives the reserve up, and reports whether there was one.
func (s *Spool) takeReserve() bool {
	if !s.reserved {
		return false
	}
	if err := s.fs.Remove(s.reservePath()); err != nil {
		s.log.Warn("the reserve can't be given up", "file", s.reservePath(), "error", err)
		return false
	}
	s.log.Error("the disk is full: urgent events use the reserve", "file", s.reservePath())
	s.reserveUsed = true
	s.mu.Lock()
	s.reserved = false
	s.mu.Unlock()
	return true
}

// pressure says what is short. The caller holds s.mu.
func (s *Spool) pressure() string {
	var short []string
	if s.disk.known && s.disk.free < s.minFree.Floor(s.disk.total) || s.reserveBytes > 0 && !s.reserved {
		short = append(short, "disk")
	}
	for _, l := range s.logs {
		var waiting int64
		for i, g := range l.segments {
			if i+1 == len(l.segments) || l.segments[i+1].first-1 > l.acked {
				waiting += g.size
			}
		}
		if limit := l.caps.MaxBytes; limit > 0 && waiting > limit-limit/segmentsPerCap {
			short = append(short, string(l.class)+" cap")
		}
	}
	return strings.Join(short, ", ")
}
