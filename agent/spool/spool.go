// Package spool is the durable event log between the drivers and the uplinks.
//
// Every class of events (event.Urgent, event.Routine) is a log of its own:
// own directory, own segment files, own gap-free sequence from 1. Append
// returns when the record is on disk (fdatasync, one for all callers that wait
// at the same moment). A Reader hands the records out in order to one consumer,
// and Ack moves that consumer's durable position; segments that all consumers
// have acknowledged are deleted.
//
// The promises, in the order in which they matter:
//
//   - A record whose Append returned nil is handed out by Next until it is
//     acknowledged, over any number of crashes. Where the disk itself loses or
//     damages it, a Loss names the sequence numbers that are gone.
//   - A sequence number is never given to two records that anybody could have
//     seen. After damage the numbers go on above everything for which there is
//     evidence that it was handed out.
//   - Open never refuses to start because of what it finds in its files, and
//     what it costs does not grow with the backlog.
//   - A failed Append consumes no sequence number; when the disk works again,
//     so does Append.
//
// What is at risk when, in every mode: nothing for which Append returned nil. It
// returns after fdatasync, whatever Options.CommitDelay says, which only lets
// routine records wait for each other before. A record in that wait is in memory;
// its caller has not been told that it is safe. Only acknowledgements may be
// forgotten (see Reader.Ack), which means that records are delivered again.
//
// What is kept is bounded (Options.Urgent, Routine, MinFree). Routine records make
// room, the oldest first, and a Loss names those that were not delivered. Urgent
// records are refused instead, and each class says so before it is too late
// (Stats.Pressure).
//
// format.go describes the files.
package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of the work of one step.
const (
	defaultSegmentBytes = 8 << 20
	defaultMaxBatch     = 512
	// maxBatchBytes ends a batch, which is then larger by one record at most.
	maxBatchBytes = 1 << 20
	// cursorEvery is how long the cursor file may lag behind Ack, and syncEvery
	// how long the disk may lag behind the cursor file.
	cursorEvery = 200 * time.Millisecond
	syncEvery   = 2 * time.Second
	// unreadableAfter is how long a failing read is tried before what lies
	// there counts as damaged.
	unreadableAfter = 10 * time.Second
	// maxCommitDelay bounds Options.CommitDelay.
	maxCommitDelay = 100 * time.Millisecond
	// maxQuarantine bounds the copies of damaged bytes that are kept.
	maxQuarantine = 64 << 20
)

// MaxRecord is the largest payload of one record, in bytes.
const MaxRecord = 1 << 20

// MaxTopic is the longest topic of one record, in bytes: what MQTT can carry.
const MaxTopic = 1<<16 - 1

// Errors that Append and the others wrap; ask with errors.Is.
var (
	// ErrFull says that the disk (or the quota) is full, or that as many urgent
	// events wait as may. Nothing was stored; Append works again as soon as there
	// is room.
	ErrFull = errors.New("the spool is full")
	// ErrTooLarge says that a payload or a topic is above MaxRecord or MaxTopic.
	ErrTooLarge = errors.New("the record is too large")
	// ErrClosed says that the spool is closed.
	ErrClosed = errors.New("the spool is closed")
	// ErrLocked says that another process has the spool open.
	ErrLocked = errors.New("the spool is in use by another process")
)

// Record is one stored event.
type Record struct {
	Class    event.Class
	Sequence uint64
	// Recorded is the time that was given to Append, in UTC. Times outside the
	// years 1678 to 2261 are stored as the nearest that fits.
	Recorded time.Time
	Topic    string
	// Payload is the caller's to keep.
	Payload []byte
}

// Options of Open. The zero value is good.
type Options struct {
	// SegmentBytes is the size of a segment file, 8 MiB if zero. It is allocated
	// when the segment is begun, so that a full disk shows then and not in the
	// middle of a record. Space is given back one segment at a time.
	SegmentBytes int64
	// MaxBatch is how many records share one fdatasync at the most, 512 if zero.
	MaxBatch int
	// Log gets what a person should know; nothing is logged if nil.
	Log *slog.Logger
	// FS is where the files are, the operating system's if nil. Tests put one
	// that fails here.
	FS FS
	// Urgent and Routine bound the classes. When a cap of the routine class is
	// reached, its oldest segments are evicted, and what was not delivered of them
	// is a Loss; so is it when the disk gets full. Urgent events are never evicted:
	// at their cap Append fails with ErrFull. SegmentBytes shrinks to an eighth of
	// a class's MaxBytes.
	Urgent, Routine Caps
	// MinFree is what is left free of the file system.
	MinFree MinFree
	// CommitDelay is how long a routine record may wait for others to share an
	// fdatasync with, at most 100 ms. Urgent records never wait. It spares flash
	// where records come one by one, and makes no record less safe: Append returns
	// later, and never before the record is on disk.
	CommitDelay time.Duration
	// Retain says what is kept of delivered records, for Read.
	Retain Retain
	// Reserve is how many bytes are put aside for urgent events on a full disk, but
	// at most a 32nd part of the file system: 1 MiB if zero, none if negative.
	Reserve int64
	// Consumers are the names of those who read, each at its own pace: 1 to 32 of
	// a-z, 0-9 and -, at most eight. Nil means DefaultConsumer alone. A record is
	// kept until all have acknowledged it. One that is new begins with the oldest
	// record that is still to be delivered to anybody; one that is not named any
	// more holds nothing back. With none (not nil) all records wait for one that
	// is named at a later start.
	Consumers []string
	// Keys seal new records and open sealed ones; without, new records are stored
	// in the clear.
	Keys *Keyring

	cursorEvery time.Duration // for tests; the constant if zero
}

// Stats is a snapshot of the spool.
type Stats struct {
	Urgent, Routine ClassStats
	// Free is how many bytes the spool may still write to its file system, as of a
	// second ago or so; negative if that is not known. Total is how large it is; zero if
	// that is not known.
	Free, Total int64
	// Pressure says in words what is short, empty if nothing is: "disk" (less than
	// MinFree is free, or the reserve is used), "urgent cap", "routine cap" (more than
	// seven eighths are used by what waits), or several with a comma between them.
	Pressure string
	// Deleted is when it was last noticed that somebody else had deleted segments, zero if
	// not since Open.
	Deleted time.Time
}

// ClassStats is a snapshot of one class.
type ClassStats struct {
	// Head is the highest sequence number given, zero if none.
	Head uint64
	// Acked is the number up to which everything is delivered to all consumers.
	Acked uint64
	// Backlog is Head - Acked: the records that wait, including lost ones that
	// the Reader has not come to yet.
	Backlog uint64
	// Bytes is what the class's segments take on disk, with preallocated space, and
	// MaxBytes what they may.
	Bytes, MaxBytes int64
	// OldestUnacked is when the first waiting record was recorded, zero if none
	// waits.
	OldestUnacked time.Time
	// Consumers are those of the options, in their order.
	Consumers []ConsumerStats
}

// ConsumerStats is how far one consumer is in one class. The fields are as in
// ClassStats.
type ConsumerStats struct {
	Name           string
	Acked, Backlog uint64
	OldestUnacked  time.Time
}

// Spool is an open spool. Its methods may be called from several goroutines.
type Spool struct {
	dir          string
	fs           FS
	log          *slog.Logger
	id           spoolID
	segmentBytes int64
	maxBatch     int
	commitDelay  time.Duration
	cursorEvery  time.Duration
	caps         map[event.Class]Caps
	minFree      MinFree
	retain       Retain
	reserveBytes int64
	keys         atomic.Pointer[Keyring]
	lock         locks
	logs         [len(event.Classes)]*classLog
	names        []string // of the consumers
	readers      []*Reader

	wake     chan struct{} // one token: there is work for the committing goroutine
	done     chan struct{} // closed when that goroutine has ended
	closeErr error         // its result
	requests sync.Pool
	turned   atomic.Pointer[time.Time]
	// Of Open, then of the committing goroutine.
	rooted      bool // the directories are durable
	reserveUsed bool // and not put back yet
	reserveBad  bool // the last attempt to put it back failed

	// mu guards what follows, and what classLog says that it guards. No I/O is
	// done under it.
	mu       sync.Mutex
	closed   bool
	changed  chan struct{}
	watched  bool // changed has been given to somebody
	disk     disk
	deleted  time.Time // see Stats
	reserved bool      // there is a reserve; only the committing goroutine changes it
}

// Encode makes the payload of the record that gets the sequence number. previous
// is the value of the class's hash chain before it (see event.Hash).
type Encode func(seq uint64, previous event.Hash) ([]byte, error)

// request is one call of Append.
type request struct {
	recorded time.Time
	topic    string
	encode   Encode
	claimed  atomic.Bool // by the committing goroutine, or by a caller who gave up
	seq      uint64
	err      error
	done     chan struct{} // of capacity one
	since    time.Time     // when the wait for others began, if there is one
}

// Open opens the spool in dir, which is created with mode 0700 if it is not
// there. Damaged files never make it fail: what is readable is kept, what is
// not is put in quarantine and reported by Losses. It fails if the directory
// can't be used at all, or with ErrLocked.
func Open(dir string, o Options) (*Spool, error) {
	s := &Spool{
		dir:          dir,
		fs:           o.FS,
		log:          o.Log,
		segmentBytes: o.SegmentBytes,
		maxBatch:     o.MaxBatch,
		cursorEvery:  cmp.Or(o.cursorEvery, cursorEvery),
		wake:         make(chan struct{}, 1),
		done:         make(chan struct{}),
		changed:      make(chan struct{}),
	}
	s.keys.Store(o.Keys)
	if s.fs == nil {
		s.fs = osFS{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.segmentBytes <= 0 {
		s.segmentBytes = defaultSegmentBytes
	}
	if s.maxBatch <= 0 {
		s.maxBatch = defaultMaxBatch
	}
	s.caps = map[event.Class]Caps{
		event.Urgent:  {MaxBytes: cmp.Or(o.Urgent.MaxBytes, defaultUrgentBytes)},
		event.Routine: {MaxBytes: cmp.Or(o.Routine.MaxBytes, defaultRoutineBytes), MaxAge: o.Routine.MaxAge},
	}
	s.retain = o.Retain
	s.commitDelay = max(0, min(o.CommitDelay, maxCommitDelay))
	s.minFree, s.reserveBytes = o.MinFree, cmp.Or(o.Reserve, defaultReserve)
	names, err := checkConsumers(o.Consumers)
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	s.names = names
	s.requests.New = func() any { return &request{done: make(chan struct{}, 1)} }
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	s.turn()
	go s.run()
	return s, nil
}

func (s *Spool) open() error {
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return err
	}
	var err error
	if s.lock, err = lock(s.fs, s.dir, os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	for i, class := range event.Classes {
		s.logs[i] = newClassLog(s, class)
		s.logs[i].bound(s.caps[class])
	}
	for _, l := range s.logs {
		if err := l.load(); err != nil {
			return err
		}
	}
	if err := s.identify(); err != nil {
		return err
	}
	for _, l := range s.logs {
		l.resume()
		l.tidy()
		for _, c := range l.consumers {
			s.readers = append(s.readers, &Reader{log: l, consumer: c})
		}
	}
	s.mu.Lock()
	s.untell()
	s.mu.Unlock()
	s.layReserve()
	return nil
}

// release lets go of what open took.
func (s *Spool) release() {
	for _, l := range s.logs {
		if l != nil {
			_ = l.cursor.close() // written and synced, or reported, before
			_ = l.positions.close()
		}
	}
	for _, r := range s.readers {
		r.close()
	}
	s.lock.close()
}

// locks are those of a spool: of the file "lock", which earlier versions and other commands
// look at, and of the directory itself, since the file can be deleted under a process.
type locks []File

func lock(fs FS, dir string, flag int) (l locks, err error) {
	f, err := fs.OpenFile(filepath.Join(dir, "lock"), flag)
	if err != nil {
		return nil, err
	}
	l = locks{f}
	if err = f.Lock(); err == nil {
		// Some file systems lock no directories; the file is enough there.
		if f, openErr := fs.OpenFile(dir, os.O_RDONLY); openErr == nil {
			l = append(l, f)
			if lockErr := f.Lock(); errors.Is(lockErr, ErrLocked) {
				err = lockErr
			}
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l locks) close() {
	for _, f := range l {
		_ = f.Close() // nothing is written to it
	}
}

// Append stores one record and returns its sequence number once it is on disk.
// Concurrent calls share an fdatasync.
//
// encode is called once for each accepted record, in the order of the numbers, on the
// spool's committing goroutine, so it must not block and must not call the
// spool. If encode fails, Append returns its error and the number goes to the
// next record. The same happens to all records of a batch that can't be
// written: what encode did for them must not count until Append returned nil.
//
// On an error nothing is stored and no number is used, with one exception: if
// the process dies or the machine loses power after a failed write and before
// the next successful one, the refused record may be found on disk and be
// delivered after all, under its number, which then no other record gets.
//
// ctx ends the wait for the record's turn. When the record is being written,
// Append waits for the outcome.
func (s *Spool) Append(ctx context.Context, class event.Class, recorded time.Time, topic string, encode Encode) (seq uint64, err error) {
	l := s.classLog(class)
	if l == nil {
		return 0, fmt.Errorf("spool: no class %q", class)
	}
	if len(topic) > MaxTopic {
		return 0, fmt.Errorf("spool: topic of %d bytes: %w (at most %d)", len(topic), ErrTooLarge, MaxTopic)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}
	rq := s.requests.Get().(*request)
	rq.recorded, rq.topic, rq.encode = recorded, topic, encode
	if s.commitDelay > 0 {
		rq.since = time.Now()
	}

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, fmt.Errorf("spool %s: %w", s.dir, ErrClosed)
	}
	l.queue = append(l.queue, rq)
	s.mu.Unlock()
	s.signal()

	select {
	case <-rq.done:
	case <-ctx.Done():
		if rq.claimed.CompareAndSwap(false, true) {
			return 0, fmt.Errorf("spool: %w", ctx.Err()) // rq stays in the queue and is passed over
		}
		<-rq.done
	}
	seq, err = rq.seq, rq.err
	rq.encode, rq.seq, rq.err = nil, 0, nil
	rq.claimed.Store(false)
	s.requests.Put(rq)
	return seq, err
}

// Changed returns a channel that is closed when records become durable after
// the call, or when the spool is closed. To lose no wake-up, take the channel
// first, then call Next, and wait only if Next returned nothing:
//
//	for {
//		changed := s.Changed()
//		records, err := r.Next(100, 1<<20)
//		...
//		if len(records) == 0 {
//			<-changed
//		}
//	}
func (s *Spool) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = true
	return s.changed
}

// notify wakes those who wait on Changed. The caller holds mu.
func (s *Spool) notify() {
	if s.watched && !s.closed {
		close(s.changed)
		s.changed = make(chan struct{})
		s.watched = false
	}
}

// Reader returns the reader of a class for a consumer, always the same one. For
// a consumer or a class that there is not, its Next and Ack say so.
func (s *Spool) Reader(consumer string, class event.Class) *Reader {
	l := s.classLog(class)
	if l == nil {
		return &Reader{none: fmt.Errorf("spool: no class %q", class)}
	}
	for _, r := range s.readers {
		if r.log == l && r.consumer.name == consumer {
			return r
		}
	}
	return &Reader{none: fmt.Errorf("spool: no consumer %q", consumer)}
}

// Stats returns a snapshot. It may read up to one segment of each class.
func (s *Spool) Stats() Stats {
	st := Stats{
		Urgent:  s.classLog(event.Urgent).stats(),
		Routine: s.classLog(event.Routine).stats(),
		Free:    -1,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk.known {
		st.Free, st.Total = s.disk.free, s.disk.total
	}
	st.Pressure, st.Deleted = s.pressure(), s.deleted
	return st
}

// Losses returns the losses found since the last call, by Open or by Next. Each
// is returned once, and again after a restart until LossRecorded confirmed it.
func (s *Spool) Losses() []Loss {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Loss
	for _, l := range s.logs {
		all = append(all, l.fresh...)
		l.fresh = nil
	}
	return all
}

// LossRecorded says that a loss from Losses has been made the urgent event at, which is on
// disk, so that it need not be reported again, unless that event is lost itself.
func (s *Spool) LossRecorded(loss Loss, at uint64) {
	if l := s.classLog(loss.Class); l != nil {
		l.lossRecorded(loss, at)
	}
}

// Close commits what waits, writes the cursors and gives the lock back. No
// goroutine is left. It may be called more than once.
func (s *Spool) Close() error {
	s.mu.Lock()
	first := !s.closed
	if first {
		s.closed = true
		close(s.changed)
	}
	s.mu.Unlock()
	if first {
		s.signal()
	}
	<-s.done
	return s.closeErr
}

func (s *Spool) classLog(class event.Class) *classLog {
	for _, l := range s.logs {
		if l.class == class {
			return l
		}
	}
	return nil
}

// signal tells the committing goroutine that there is something to do.
func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Turned is when the committing goroutine last came round. It does so each second,
// unless the disk holds it up.
func (s *Spool) Turned() time.Time { return *s.turned.Load() }

func (s *Spool) turn() {
	now := time.Now()
	s.turned.Store(&now)
}

// run is the committing goroutine: it alone writes to the segments and cursors.
func (s *Spool) run() {
	defer close(s.done)
	timer := time.NewTimer(s.cursorEvery) // Open may have failed to write a cursor
	armed := true
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	company := time.NewTimer(0) // ends the wait for it
	defer company.Stop()
	for {
		s.turn()
		select {
		case <-s.wake:
		case <-look.C:
			s.tick()
		case <-company.C:
		case <-timer.C:
			armed = false
			for _, l := range s.logs {
				l.tidy()
			}
		}
		batch := 0
		var held [len(event.Classes)]bool
		for i, l := range s.logs { // urgent first
			if d := l.companyIn(); d > 0 {
				held[i] = true
				company.Reset(d)
				continue
			}
			batch += l.commit()
		}
		if batch > 1 {
			// Many callers at once: those who were just released are let in
			// again before the next batch, which is thereby twice as large.
			runtime.Gosched()
		}
		if !armed && s.untidy() {
			timer.Reset(s.cursorEvery)
			armed = true
		}
		s.mu.Lock()
		waiting := false
		for i, l := range s.logs {
			waiting = waiting || len(l.queue) > 0 && (!held[i] || s.closed)
		}
		closed := s.closed
		s.mu.Unlock()
		switch {
		case waiting:
			s.signal()
		case closed:
			timer.Stop()
			var errs []error
			for _, l := range s.logs {
				l.seal()
				if err := l.writeCursor(true, true); err != nil {
					errs = append(errs, fmt.Errorf("close spool %s: write the %s cursor: %w (delivered events will be delivered again)", s.dir, l.class, err))
				}
			}
			s.closeErr = errors.Join(errs...)
			s.release()
			return
		}
	}
}

// untidy reports whether a cursor is to be written or synced.
func (s *Spool) untidy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		if l.dirty || l.cursor.unsynced || l.positions.unsynced {
			return true
		}
	}
	return false
}
