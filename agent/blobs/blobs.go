// Package blobs keeps the content of attachments (pictures, spectra) beside the
// spool and hands it out, in chunks, after the events that name it.
//
// The way of one attachment:
//
//	Put        the content is on disk under its hash
//	Announce   the promise to deliver it is on disk, before its event is
//	           (the event is appended to the spool)
//	Refer      the promise learns its event's sequence, after which it is sent
//	Sender     hands the chunks to one uplink and takes the confirmations
//	Outcomes   says what became of it, for the agent to record as an event
//
// The promises:
//
//   - Content whose Announce returned nil is handed out to every consumer until
//     all of its chunks are confirmed, over any number of crashes, or an Outcome
//     says why not. What a crash leaves behind before Announce is removed after
//     Options.Keep: no event can name it.
//   - What has not been delivered is never deleted without an Outcome. At the cap
//     Put is refused, so that the instrument is not acknowledged; only
//     Options.Evict lets the oldest undelivered routine content go.
//   - Content is checked against its hash before its first chunk is handed out,
//     and each chunk again when it is read.
//   - Open never refuses to start because of what it finds in its files.
//
// On disk: ab/abcdef... is the content whose SHA-256 begins so; promises.log is
// the journal (journal.go); tmp/ holds what is being written, quarantine/ what
// was damaged.
package blobs

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds and defaults of the package.
const (
	defaultMaxBytes = 4 << 30
	// DefaultChunkBytes is the size of the pieces in which attachments are sent, in bytes.
	// It leaves 1 KiB of a packet of 128 KiB, a broker's usual limit, for the topic and
	// the header.
	DefaultChunkBytes = 127 << 10
	minChunkBytes     = 1 << 10
	maxChunkBytes     = 1 << 20
	defaultKeep       = time.Hour
	// maxChunks bounds the chunks of one content, and so the record of them.
	maxChunks = 1 << 16
	// maxPromises bounds the undelivered attachments.
	maxPromises = 1 << 20
	// maxActive is how many contents of a class a Sender has begun at one time.
	maxActive = 32
	// outcomesAtOnce bounds what Outcomes returns.
	outcomesAtOnce = 256
	// maxQuarantine bounds the damaged contents that are kept, in bytes.
	maxQuarantine = 64 << 20
	// readTries is how often content is read, a second apart, before it counts as
	// damaged because of an error of the disk.
	readTries = 10
	// syncEvery is how long the disk may lag behind the progress.
	syncEvery = 2 * time.Second
	// collectEvery spaces the searches for what nobody needs any more.
	collectEvery = time.Minute
	// copyBytes is the unit of writing and of accounting.
	copyBytes = 128 << 10
)

// Errors that the methods wrap; ask with errors.Is.
var (
	// ErrFull says that there is no room for the content. The instrument should
	// keep it and try again later.
	ErrFull = errors.New("the store of attachments is full")
	// ErrTooLarge says that a content is above its limit.
	ErrTooLarge = errors.New("the attachment is too large")
	// ErrEmpty says that a content has no bytes.
	ErrEmpty = errors.New("the attachment is empty")
	// ErrUnknown says that a content is not, or not any more, in the store.
	ErrUnknown = errors.New("the content of the attachment is not in the store")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("the store of attachments is closed")
	// ErrLocked says that another process has the store open.
	ErrLocked = errors.New("the store of attachments is in use by another process")
)

// Options of Open.
type Options struct {
	// MaxBytes bounds the contents on disk, 4 GiB if zero.
	MaxBytes int64
	// MinFree is what Put leaves free on the file system, in bytes.
	MinFree int64
	// ChunkBytes is the size of a chunk, 1 KiB to 1 MiB; 127 KiB if zero. What was
	// promised before it changed keeps its size.
	ChunkBytes int64
	// Consumers names the uplinks. One that is no longer named is no longer
	// waited for; a new one gets what is not yet delivered to the others.
	Consumers []string
	// Evict lets the oldest undelivered routine content be deleted for a new one.
	Evict bool
	// Keep is how long content that nobody waits for stays, an hour if zero.
	// Where room is needed, it goes earlier.
	Keep time.Duration
	// Delivered tells whether a consumer has done with the event of a sequence: has
	// delivered it, or never will. nil says that it always has. It is called often,
	// and must not call the store.
	Delivered func(consumer string, class event.Class, sequence uint64) bool
	// Head gives the last sequence recorded in a class. Open asks for it, to place
	// what was announced when the agent died: its event, if there is one, is not
	// behind that. nil stands for none.
	Head func(event.Class) uint64
	// Source is the agent's own. After damage of the journal, content whose event
	// is not known any more is delivered from there; if empty, it is not.
	Source string
	// Log gets what a person should know; nothing is logged if nil.
	Log *slog.Logger
	// Now is the wall clock, time.Now if nil.
	Now func() time.Time

	// hook is called before each change of a file, for tests; an error makes the
	// change fail. For a rename the path is the old and the new one, with a zero
	// byte between.
	hook   func(op, path string) error
	noSync bool // for tests
}

// Stats is a snapshot of the store.
type Stats struct {
	// Contents and Bytes count what is on disk, with what is being written.
	Contents int
	Bytes    int64
	// MaxBytes is the cap.
	MaxBytes int64
	// Idle counts the contents that nobody waits for.
	Idle int
	// Promises counts the attachments whose outcome is not recorded for all
	// consumers yet.
	Promises int
	// Full tells that the last Put was refused for want of room.
	Full bool
	// DamagedRecords counts records of the journal that Open could not read.
	DamagedRecords int
}

type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(s string) (h hash, ok bool) {
	if len(s) != 2*len(h) {
		return h, false
	}
	for i, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return h, false
		}
		h[i/2] = h[i/2]<<4 | c
	}
	return h, true
}

// blob is one content on disk.
type blob struct {
	sum  hash
	size int64
	// fresh counts the Puts that are neither announced nor released yet.
	fresh int
	// needs counts what keeps it: announced promises and undecided deliveries.
	needs    int
	promises []*promise
	since    time.Time     // last put or needed
	idle     *list.Element // its place among those that nobody needs
	puts     uint64        // goes up when the file is written anew
	sent     map[place]bool
}

// place is a consumer and a source.
type place struct{ consumer, source string }

// Store is an open store. Its methods may be called from several goroutines.
type Store struct {
	dir   string
	o     Options
	log   *slog.Logger
	files files
	lock  *os.File

	// mu guards what follows. Of I/O only names are changed under it, so that a
	// content is never removed while it is being put again.
	mu          sync.Mutex
	closed      bool
	blobs       map[hash]*blob
	idle        *list.List // of *blob, the oldest first
	bytes       int64      // on disk and reserved
	full        bool
	promises    map[uint64]*promise
	order       []*promise // by id; may hold finished ones
	announced   map[string][]*promise
	lastID      uint64
	senders     map[string]*Sender
	fresh       []Outcome
	changed     chan struct{}
	toVerify    []*promise
	toRetry     []*promise
	pending     []byte // of the journal, not yet written
	rewrite     bool   // the journal's file does not hold what it should
	lastTemp    uint64
	quarantined int64
	damaged     int
	dirs        map[string]bool // of contents: those whose name is durable
	sources     map[string]bool // known to be right, while the journal is read

	// jmu guards the journal's file. It is taken before mu.
	jmu      sync.Mutex
	journal  *os.File
	offset   int64 // its end
	base     int64 // its size when it was last written anew
	unsynced bool
	shut     bool

	kick chan struct{}
	stop chan struct{}
	done chan struct{}
}

// Open opens the store in dir, which is created with mode 0700 if it is not there.
func Open(dir string, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := newStore(dir, o)
	for _, sub := range []string{"", "tmp", "quarantine"} {
		if err := s.files.mkdir(filepath.Join(dir, sub)); err != nil {
			return nil, fmt.Errorf("open the store of attachments: %w", err)
		}
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := s.files.syncDir(d); err != nil {
			return nil, fmt.Errorf("open the store of attachments: %w", err)
		}
	}
	var err error
	if s.lock, err = lock(filepath.Join(dir, "lock")); err != nil {
		return nil, fmt.Errorf("open the store of attachments: %w", err)
	}
	if err := s.load(); err != nil {
		_ = s.lock.Close() // the other error counts
		return nil, fmt.Errorf("open the store of attachments: %w", err)
	}
	go s.work()
	return s, nil
}

// newStore makes a store that knows nothing of its files yet.
func newStore(dir string, o Options) *Store {
	s := &Store{
		dir: dir, o: o, log: o.Log, files: files{o.hook, o.noSync},
		blobs: map[hash]*blob{}, dirs: map[string]bool{}, idle: list.New(), promises: map[uint64]*promise{},
		announced: map[string][]*promise{}, senders: map[string]*Sender{}, changed: make(chan struct{}),
		kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	for _, name := range o.Consumers {
		s.senders[name] = &Sender{store: s, name: name, changed: make(chan struct{})}
	}
	return s
}

func (o *Options) complete() error {
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultMaxBytes)
	o.ChunkBytes = cmp.Or(o.ChunkBytes, DefaultChunkBytes)
	o.Keep = cmp.Or(o.Keep, defaultKeep)
	if o.ChunkBytes < minChunkBytes || o.ChunkBytes > maxChunkBytes {
		return fmt.Errorf("a chunk must have %d to %d bytes, not %d", minChunkBytes, maxChunkBytes, o.ChunkBytes)
	}
	if o.MaxBytes < 0 || o.MinFree < 0 || o.Keep < 0 {
		return errors.New("a bound of the store of attachments is negative")
	}
	for i, name := range o.Consumers {
		if name == "" || slices.Contains(o.Consumers[:i], name) {
			return fmt.Errorf("the uplinks of the store of attachments need a name each, not %q", o.Consumers)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = ErrLocked
		}
		_ = f.Close() // nothing was written
		return nil, err
	}
}

// dropIdle deletes the oldest content that nobody needs; false if there is none.
func (s *Store) dropIdle() bool {
	first := s.idle.Front()
	if first == nil {
		return false
	}
	s.drop(first.Value.(*blob))
	return true
}

func (s *Store) drop(b *blob) {
	if b.idle != nil {
		s.idle.Remove(b.idle)
		b.idle = nil
	}
	if err := s.files.remove(s.path(b.sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It stays counted, and is tried again at the next start.
		s.log.Error("an attachment can't be deleted", "sha256", b.sum.String(), "err", err)
		return
	}
	s.bytes -= b.size
	delete(s.blobs, b.sum)
}

// collect deletes what nobody has needed for long.
func (s *Store) collect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	old := func(b *blob) bool { return now.Sub(b.since) >= s.o.Keep }
	for _, b := range s.blobs {
		if b.fresh > 0 && b.needs == 0 && old(b) {
			b.fresh = 0 // whoever put it has forgotten it
			since := b.since
			s.settle(b)
			b.since = since
		}
	}
	for e := s.idle.Front(); e != nil; {
		b := e.Value.(*blob)
		e = e.Next()
		if old(b) {
			s.drop(b)
		}
	}
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Contents: len(s.blobs), Bytes: s.bytes, MaxBytes: s.o.MaxBytes, Idle: s.idle.Len(),
		Promises: len(s.promises), Full: s.full, DamagedRecords: s.damaged,
	}
}

// Close writes what waits and gives the lock back. No goroutine is left. It may
// be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	err := s.flush(true)
	s.jmu.Lock()
	defer s.jmu.Unlock()
	s.shut = true
	if s.journal != nil {
		err = errors.Join(err, s.journal.Close())
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("close the store of attachments: %w", err)
	}
	return nil
}

// work verifies contents, writes progress to the journal and collects, until Close.
func (s *Store) work() {
	defer close(s.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	synced, collected := time.Now(), time.Now()
	failing := false
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
		case <-tick.C:
			s.mu.Lock()
			s.toVerify = append(s.toVerify, s.toRetry...)
			s.toRetry = nil
			s.mu.Unlock()
		}
		for s.verifyNext() {
			select {
			case <-s.stop:
				return
			default:
			}
		}
		due := time.Since(synced) >= syncEvery
		if due {
			synced = time.Now()
		}
		err := s.flush(due)
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				s.log.Error("the journal of attachments can't be written; after a crash some are sent again", "err", err)
			} else {
				s.log.Info("the journal of attachments can be written again")
			}
		}
		if time.Since(collected) >= collectEvery {
			collected = time.Now()
			s.collect()
		}
	}
}

// wake lets work look for work.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Store) path(sum hash) string {
	name := sum.String()
	return filepath.Join(s.dir, name[:2], name)
}
