package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// segment is one file of a log. It holds the numbers from first up to, not
// including, the first of the next segment.
type segment struct {
	gen, first uint64
	end        int64     // what lies at or after it is no record
	size       int64     // on disk
	begun      time.Time // zero if that was not looked up: see finished
	// keep is set when damaged bytes in it could not be copied: the file then
	// goes to quarantine instead of being deleted.
	keep bool
}

func (g segment) name() string { return fmt.Sprintf("%020d-%010d.seg", g.first, g.gen) }

func parseSegmentName(name string) (g segment, ok bool) {
	first, gen, ok := strings.Cut(strings.TrimSuffix(name, ".seg"), "-")
	if !ok || len(first) != 20 || len(gen) != 10 || !strings.HasSuffix(name, ".seg") {
		return g, false
	}
	var err1, err2 error
	g.first, err1 = strconv.ParseUint(first, 10, 64)
	g.gen, err2 = strconv.ParseUint(gen, 10, 64)
	return g, err1 == nil && err2 == nil && g.first > 0 && g.first <= maxEvidence
}

// classLog is the log of one class.
type classLog struct {
	s     *Spool
	class event.Class
	code  byte
	dir   string

	// Guarded by s.mu. Only the committing goroutine changes segments and head,
	// so it may read them without.
	queue       []*request
	segments    []segment  // by generation
	head, acked uint64     // acked: the least of the consumers'
	chain       event.Hash // value of the hash chain after head
	anew        uint64     // the number with which the chain began anew at Open, zero if it did not
	consumers   []*consumer
	losses      []knownLoss
	told        []knownLoss // recorded, and behind the cursor
	fresh       []Loss      // for Losses
	dirty       bool        // the cursor file lags behind
	oldest      oldest      // after acked
	resumeRead  resumption

	// Of Open, then of the committing goroutine.
	cursor         cursorFile
	positions      cursorFile
	found          cursorState
	newestAt       int64 // when the newest records were recorded, Unix nanoseconds; zero if none is there
	foundAt        positions
	written        []position // in the consumers file
	positionsStale bool       // the consumers file is to be written in any case
	haveCursor     bool
	caps           Caps
	segmentBytes   int64         // of a segment that has room
	rollAfter      time.Duration // a segment is not written to for longer; no bound if zero
	dropTo         uint64        // up to here nothing that is delivered is retained
	gen            uint64        // highest one tried
	next           event.Hash    // value of the hash chain after what is pending
	active         File          // the last segment while it is written to
	capacity       int64         // of the active segment
	batch          []*request
	pending        []*request // encoded in frames
	frames         []byte
	synced         time.Time // of the cursor
	failing        bool      // the last write failed
	listing        time.Time // when the directory is to be listed next: see missing
	cursorBad      bool      // the last write of the cursor failed
}

// maxEvidence bounds the numbers that names and cursors are believed; it leaves
// room below maxSequence to count on from there.
const maxEvidence = maxSequence / 2

func newClassLog(s *Spool, class event.Class) *classLog {
	dir := filepath.Join(s.dir, string(class))
	return &classLog{
		s: s, class: class, code: classCode(class), dir: dir, segmentBytes: s.segmentBytes,
		cursor:    cursorFile{fs: s.fs, path: filepath.Join(dir, "cursor"), class: classCode(class)},
		positions: cursorFile{fs: s.fs, path: filepath.Join(dir, "consumers"), class: classCode(class)},
	}
}

// oldest is when the first record from seq on was recorded, and where it is.
type oldest struct {
	seq uint64
	at  time.Time
	gen uint64 // of its segment; zero if that was not looked up
	off int64
}

func (l *classLog) path(g segment) string { return filepath.Join(l.dir, g.name()) }

// companyIn is how long the records that wait go on waiting for others to share a
// sync with.
func (l *classLog) companyIn() time.Duration {
	if l.s.commitDelay == 0 || l.class == event.Urgent {
		return 0
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.closed || len(l.queue) == 0 || len(l.queue) >= l.s.maxBatch {
		return 0
	}
	return l.s.commitDelay - time.Since(l.queue[0].since)
}

// commit writes one batch of what waits and returns how many waited.
func (l *classLog) commit() int {
	l.s.mu.Lock()
	n := min(len(l.queue), l.s.maxBatch)
	l.batch = append(l.batch[:0], l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	l.s.mu.Unlock()

	for _, rq := range l.batch {
		if !rq.claimed.CompareAndSwap(false, true) {
			continue // the caller gave up
		}
		payload, err := l.encode(rq)
		if err != nil {
			rq.err = err
			rq.done <- struct{}{}
			continue
		}
		seq := l.head + 1 + uint64(len(l.pending))
		l.frames = l.s.keys.Load().appendFrame(l.frames, l.code, seq, rq.recorded, rq.topic, payload)
		l.pending = append(l.pending, rq)
		l.next = event.After(payload)
		if len(l.frames) >= maxBatchBytes {
			l.flush()
		}
	}
	l.flush()
	clear(l.batch)
	return n
}

// encode calls the caller's function for the next number.
func (l *classLog) encode(rq *request) (payload []byte, err error) {
	seq := l.head + 1 + uint64(len(l.pending))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("spool: encode of %s sequence %d panicked: %v", l.class, seq, p)
		}
	}()
	payload, err = rq.encode(seq, l.next)
	if err == nil && len(payload) > MaxRecord {
		err = fmt.Errorf("spool: payload of %d bytes on topic %s: %w (at most %d)", len(payload), rq.topic, ErrTooLarge, MaxRecord)
	}
	return payload, err
}

// flush stores what is encoded and tells the callers.
func (l *classLog) flush() {
	if len(l.pending) == 0 {
		return
	}
	first := l.head + 1
	err := l.store()
	l.next = l.chain // which is where next was, if the batch is stored
	switch {
	case err != nil:
		if isFull(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		err = fmt.Errorf("spool: %s log in %s: %w", l.class, l.dir, err)
		if !l.failing {
			l.s.log.Error("events can't be stored", "class", l.class, "error", err)
		}
	case l.failing:
		l.s.log.Info("events can be stored again", "class", l.class)
	}
	l.failing = err != nil
	for i, rq := range l.pending {
		rq.seq, rq.err = first+uint64(i), err
		if err != nil {
			rq.seq = 0
		}
		rq.done <- struct{}{}
	}
	clear(l.pending)
	l.pending = l.pending[:0]
	l.frames = l.frames[:0]
}

func write(f File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return f.Sync()
}

// begin starts a segment of that size with the encoded batch as its first records. It leaves
// nothing behind if it fails, as far as the disk allows.
func (l *classLog) begin(capacity int64) error {
	g := segment{first: l.head + 1, begun: time.Now()}
	f, end, err := l.create(&g, capacity, l.frames)
	if err != nil {
		return err
	}
	l.active, l.capacity = f, max(capacity, end)
	l.publish(&g, end)
	return nil
}

// create makes the file of a new generation with these frames in it, and returns where they
// end.
func (l *classLog) create(g *segment, capacity int64, frames []byte) (f File, end int64, err error) {
	if err := l.s.fs.MkdirAll(l.dir); err != nil { // somebody may have deleted it
		return nil, 0, err
	}
	if !l.s.rooted {
		if err := l.s.root(); err != nil {
			return nil, 0, err
		}
	}
	l.gen++
	g.gen = l.gen
	b := appendSegmentHeader(make([]byte, 0, segmentHeader+len(frames)), segmentInfo{
		class: l.code, sealed: l.s.keys.Load() != nil, id: l.s.id, first: g.first, gen: g.gen, begun: unixNano(g.begun),
	})
	b = append(b, frames...)
	end = int64(len(b))
	g.size = max(capacity, end)
	f, err = l.s.fs.OpenFile(l.path(*g), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = f.Truncate(0) // should it not be possible to remove it
			_ = f.Close()
			l.remove(*g)
		}
	}()
	if err = f.Allocate(g.size); errors.Is(err, errors.ErrUnsupported) {
		g.size, err = end, nil
	}
	if err == nil {
		err = write(f, b, 0)
	}
	if err == nil {
		err = l.s.fs.SyncDir(l.dir)
	}
	return f, end, err
}

// root makes the spool's directories durable.
func (s *Spool) root() error {
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	s.rooted = true
	return nil
}

// publish makes the stored batch known: it ends at end of the last segment, or
// of the new one.
func (l *classLog) publish(begun *segment, end int64) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if begun != nil {
		l.segments = append(l.segments, *begun)
	}
	g := &l.segments[len(l.segments)-1]
	g.end = end
	g.size = max(g.size, end)
	first := oldest{seq: l.head + 1, at: time.Unix(0, unixNano(l.pending[0].recorded)).UTC()}
	if l.acked == l.head {
		l.oldest = first
	}
	for _, c := range l.consumers {
		if c.acked == l.head {
			c.oldest = first
		}
	}
	l.head += uint64(len(l.pending))
	l.chain = l.next
	l.dirty = true
	l.s.notify()
}

// seal ends the active segment and gives its unused space back.
func (l *classLog) seal() {
	l.rescue()
	if l.active == nil {
		return
	}
	end := l.segments[len(l.segments)-1].end
	err := l.active.Truncate(end)
	_ = l.active.Close() // what counts of it is synced
	l.active = nil
	if err != nil {
		l.warn("the unused end of a segment can't be cut off; it stays until the segment is deleted", "error", err)
		return
	}
	l.s.mu.Lock()
	l.segments[len(l.segments)-1].size = end
	l.s.mu.Unlock()
}

// tidy writes the cursor if it lags, and deletes what it passed.
func (l *classLog) tidy() {
	l.s.mu.Lock()
	dirty := l.dirty
	l.s.mu.Unlock()
	if !dirty && !l.cursor.unsynced && !l.positions.unsynced {
		return
	}
	err := l.writeCursor(false, false)
	if err != nil && !l.cursorBad {
		l.s.log.Error("the cursor can't be written; delivered events stay on disk and are delivered again after a restart", "class", l.class, "error", err)
	}
	if err == nil && l.cursorBad {
		l.s.log.Info("the cursor can be written again", "class", l.class)
	}
	l.cursorBad = err != nil
}

// writeCursor brings the cursor file up to date, and once it is synced deletes
// the segments behind it. The newest segment always stays: its name keeps the
// sequence even when the cursor is lost.
func (l *classLog) writeCursor(sync, closed bool) error {
	l.s.mu.Lock()
	state := cursorState{
		id: l.s.id, acked: l.acked, head: l.head, gen: l.gen, closed: closed,
		losses: condense(l.losses), chain: l.chain,
	}
	state.losses = append(slices.Clone(l.told[max(0, len(l.told)-(maxLosses-len(state.losses))):]), state.losses...)
	var at []position
	for _, c := range l.consumers {
		at = append(at, c.position)
	}
	l.dirty = false
	l.s.mu.Unlock()
	n := l.deletable(state.acked)

	now := time.Now()
	if n > 0 && !l.cursor.exists {
		// On a full disk there may be no room for a new cursor file until segments
		// go. Without a cursor the next start begins with the oldest segment, so it
		// won't miss these.
		if err := l.cursor.write(state, true); err == nil || isFull(err) {
			l.deleteSegments(n)
			n = 0
		}
	}
	sync = sync || n > 0 || now.Sub(l.synced) >= syncEvery
	err := l.cursor.write(state, sync)
	if err == nil && (n > 0 || closed) {
		// In the other slot as well: should one be damaged, the segments that are
		// then gone must not look lost.
		err = l.cursor.write(state, true)
	}
	if isFull(err) && n > 0 {
		// The old file failed and there is no room for a new one.
		if err = l.cursor.discard(); err == nil {
			return l.writeCursor(sync, closed)
		}
	}
	if err != nil {
		l.s.mu.Lock()
		l.dirty = true
		l.s.mu.Unlock()
		return err
	}
	if sync {
		l.synced = now
	}
	l.deleteSegments(n)
	if err := l.writePositions(at, sync); err != nil {
		l.s.mu.Lock()
		l.dirty = true
		l.s.mu.Unlock()
		return err
	}
	return nil
}

// deleteSegments deletes the oldest n segments.
func (l *classLog) deleteSegments(n int) {
	if n == 0 {
		return
	}
	l.s.mu.Lock()
	gone := slices.Clone(l.segments[:n])
	l.segments = append(l.segments[:0], l.segments[n:]...)
	l.s.mu.Unlock()
	for _, g := range gone {
		if g.keep {
			l.quarantineFile(g)
		} else {
			l.remove(g)
		}
	}
}

// deletable counts the segments at the front that are delivered and not retained.
func (l *classLog) deletable(acked uint64) int {
	delivered := 0
	var bytes int64
	for delivered+1 < len(l.segments) && l.segments[delivered+1].first-1 <= acked {
		bytes += l.segments[delivered].size
		delivered++
	}
	n := 0
	for n < delivered && (l.segments[n+1].first-1 <= l.dropTo || !l.retains(n, bytes)) {
		bytes -= l.segments[n].size
		n++
	}
	return n
}

// reclaim deletes what is delivered now, in both classes, instead of at the
// next tick. It reports whether there was anything.
func (l *classLog) reclaim() bool {
	freed := false
	for _, o := range l.s.logs {
		l.s.mu.Lock()
		acked := o.acked
		l.s.mu.Unlock()
		if o.deletable(acked) > 0 && o.writeCursor(true, false) == nil {
			freed = true
		}
	}
	return freed
}

func (l *classLog) remove(g segment) {
	if err := l.s.fs.Remove(l.path(g)); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.warn("a segment that is not needed any more can't be deleted; the next start tries again", "error", err)
	}
}

// stats is a snapshot of the class.
func (l *classLog) stats() ClassStats {
	l.s.mu.Lock()
	st := ClassStats{Head: l.head, Acked: l.acked, Backlog: l.head - l.acked, MaxBytes: l.caps.MaxBytes}
	for _, g := range l.segments {
		st.Bytes += g.size
	}
	for _, c := range l.consumers {
		st.Consumers = append(st.Consumers, ConsumerStats{Name: c.name, Acked: c.acked, Backlog: l.head - c.acked})
	}
	consumers := l.consumers
	l.s.mu.Unlock()
	if st.Backlog > 0 {
		st.OldestUnacked = l.recordedAt(&l.oldest, st.Acked+1)
	}
	for i := range st.Consumers {
		c := &st.Consumers[i]
		switch {
		case c.Backlog == 0:
		case c.Acked == st.Acked:
			c.OldestUnacked = st.OldestUnacked
		default:
			c.OldestUnacked = l.recordedAt(&consumers[i].oldest, c.Acked+1)
		}
	}
	return st
}

// recordedAt returns when the first readable record from seq on was recorded, and
// keeps it in o, which s.mu guards.
func (l *classLog) recordedAt(o *oldest, seq uint64) time.Time {
	l.s.mu.Lock()
	hint := *o
	segments := slices.Clone(l.segments)
	l.s.mu.Unlock()
	if hint.seq == seq {
		return hint.at
	}
	for i, g := range segments {
		if i+1 < len(segments) && segments[i+1].first <= seq {
			continue
		}
		f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
		if err != nil {
			continue // deleted meanwhile, or for the Reader to report
		}
		sc := scanner{file: f, class: l.code, off: segmentHeader, end: g.end, tolerant: true, tries: fewTries}
		if g.gen == hint.gen && hint.seq <= seq {
			sc.off = hint.off
		}
		for {
			fr, ok, _ := sc.peek()
			if !ok || i+1 < len(segments) && fr.seq >= segments[i+1].first {
				break
			}
			if fr.seq < seq {
				sc.take(fr)
				continue
			}
			_ = f.Close() // read only
			found := oldest{seq: seq, at: time.Unix(0, fr.recorded).UTC(), gen: g.gen, off: sc.off}
			l.s.mu.Lock()
			*o = found
			l.s.mu.Unlock()
			return found.at
		}
		_ = f.Close() // read only
	}
	return time.Time{}
}

func (l *classLog) warn(msg string, args ...any) {
	l.s.log.Warn(msg, append([]any{"class", l.class}, args...)...)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
