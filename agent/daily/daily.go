// Package daily keeps what portals send in files, one for each device and local
// day: each line as it was received, with the time of its arrival at its end. They
// are raw evidence for people and for a replay; events do not depend on them, and
// nothing that goes wrong with them holds up a device.
//
// A file is called SITE-LANE-DEVICE-YYYY-MM-DD+hhmm.csv; the offset is that of the
// zone at the beginning of the day. A line is
//
//	GB,000401,000406,000436,000436,2026-03-14 13:05:07.123 +02
//
// with the line end that was received. Where the zone's offset has minutes, the
// column has them too (+0530). Lines that begin with Note are the agent's own: a
// link that ended, bytes that were no line, and what could not be written. No other
// line begins so and has no time at its end.
package daily

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanepost/lanepost/protocol/capture"
	"github.com/lanepost/lanepost/protocol/order"
)

// Note begins a line that did not come from the device.
const Note = capture.Note

// Bounds and times of daily files.
const (
	// DefaultKeep and DefaultMaxBytes bound a directory if the settings do not.
	DefaultKeep     = 400 * 24 * time.Hour
	DefaultMaxBytes = 2 << 30
	// flushEvery is how long a line may wait in memory.
	flushEvery = time.Second
	// maxQueue is what may wait for the disk, for each device; more is left out and
	// counted. A busy portal sent so much in five hours.
	maxQueue = 1 << 20
	// maxLine bounds a line; of a longer one so many bytes are kept, in a note.
	maxLine = 1024
	// sweepEvery is how often old files are looked for.
	sweepEvery = 10 * time.Minute
	// hungAfter is when a disk that does not answer is a problem.
	hungAfter = 30 * time.Second
	// closeGrace bounds how long Close waits for a disk that hangs.
	closeGrace = 3 * time.Second
	// steadyFor is how long the clock must have gone steadily before a file is taken
	// away for its age, and maxDrift how far it may be off meanwhile: a box without a
	// battery for its clock begins in some other year, and a bad time server sets it
	// there.
	steadyFor = 6 * time.Hour
	maxDrift  = time.Minute
	// maxTaken is how many files go at a time, so that a mistake about the time shows
	// while most are there yet.
	maxTaken = 8
)

// firstDay is the first that can be true; files of days before it are from a clock
// that was not set, and nobody knows how old they are.
const firstDay = "2025-01-01"

// Settings say where daily files are and how long they are kept.
type Settings struct {
	// Dir is the directory; it is made if it is not there.
	Dir string
	// Keep is how long a file is kept after its day, MaxBytes how large all may be
	// together. The oldest go first, and none of today.
	Keep     time.Duration
	MaxBytes int64
	// Zone is the zone of the days, as in the IANA database; empty is the box's own.
	Zone string
}

// Options are Settings and what the agent lends.
type Options struct {
	Settings
	// Room, if set, says why nothing may be written now; nil if it may.
	Room func() error
	// Changed, if set, is called when Problem would say something new.
	Changed func()
	// Now is the clock; nil is the system's.
	Now func() time.Time
	Log *slog.Logger
}

// Store is a directory of daily files. One goroutine writes them all.
type Store struct {
	o    Options
	set  atomic.Pointer[current]
	stop chan struct{}
	done chan struct{}

	mu        sync.Mutex
	recorders map[string]*Recorder
	problem   string
	busy      time.Time // since when the disk is being written to; zero if it is not
	busyDir   string    // where
	stopped   bool

	// The rest belongs to the goroutine that writes.
	swept    time.Time
	sweptFor *current
	large    bool // the cap can't be held, and that was said
	// mono is a clock that nobody sets. At the time since, by it, the other said wall.
	mono  func() time.Duration
	since time.Duration
	wall  time.Time
}

// current is what the store goes by now.
type current struct {
	Settings
	zone *time.Location
	room func() error
}

func newCurrent(s Settings, room func() error) (*current, error) {
	zone, err := Location(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("daily files: %w", err)
	}
	return &current{s, zone, room}, nil
}

// Open begins to write. It fails only for a zone that is not known; a directory
// that can't be written to is a Problem, and tried again.
func Open(o Options) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

func newStore(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c, err := newCurrent(o.Settings, o.Room)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s := &Store{
		o: o, stop: make(chan struct{}), done: make(chan struct{}), recorders: map[string]*Recorder{},
		mono: func() time.Duration { return time.Since(began) },
	}
	s.set.Store(c)
	return s, nil
}

// Change goes on with other settings, Dir among them, and another Room. Recorders stay,
// with the line that they are in; what waits already goes where it belonged. It fails
// only for a zone that is not known, and then nothing changes.
func (s *Store) Change(to Settings, room func() error) error {
	c, err := newCurrent(to, room)
	if err != nil {
		return err
	}
	s.set.Store(c)
	return nil
}

// Location finds a zone; the empty one is the box's own.
func Location(zone string) (*time.Location, error) {
	if zone == "" {
		return time.Local, nil
	}
	l, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("there is no zone %q on this box: %w", zone, err)
	}
	return l, nil
}

// Recorder gives the recorder of a name, SITE-LANE-DEVICE.
func (s *Store) Recorder(name string) *Recorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.recorders[name]
	if r == nil {
		r = &Recorder{s: s, name: name}
		s.recorders[name] = r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = false
	return r
}

// Settings are those it goes by.
func (s *Store) Settings() Settings { return s.set.Load().Settings }

// Problem says what is wrong now; empty if nothing is.
func (s *Store) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy.IsZero() && s.o.Now().Sub(s.busy) > hungAfter {
		return fmt.Sprintf("daily files: the disk of %s has not answered since %s", s.busyDir, s.busy.In(s.set.Load().zone).Format(time.RFC3339))
	}
	return s.problem
}

// Close writes what waits and ends the writing. What can't be written is lost, and
// the log says so. A disk that hangs is not waited for long.
func (s *Store) Close() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stop)
	}
	s.mu.Unlock()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-s.done:
	case <-grace.C:
		s.o.Log.Error("the disk of the daily files hangs, and what they still lack is lost", "dir", s.Settings().Dir)
	}
}

func (s *Store) run() {
	defer close(s.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		s.write(s.o.Now())
		select {
		case <-tick.C:
		case <-s.stop:
			s.write(s.o.Now())
			s.finish()
			return
		}
	}
}

// list gives the recorders in the order of their names.
func (s *Store) list() []*Recorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Recorder, 0, len(s.recorders))
	for _, r := range s.recorders {
		list = append(list, r)
	}
	order.By(list, func(a, b *Recorder) int { return cmp.Compare(a.name, b.name) })
	return list
}

// write brings to disk what waits, ends the files of days that are over, and takes
// old ones away.
func (s *Store) write(now time.Time) {
	s.setBusy(now)
	defer s.setBusy(time.Time{})
	var first error
	c := s.set.Load()
	if c.room != nil {
		first = c.room()
	}
	short := first != nil
	turned := false
	for _, r := range s.list() {
		t, err := r.flush(now, short)
		turned = turned || t
		first = cmp.Or(first, err)
		s.forget(r)
	}
	s.follow(now)
	if turned || s.sweptFor != c || now.Sub(s.swept).Abs() >= sweepEvery {
		s.swept, s.sweptFor = now, c
		first = cmp.Or(first, s.sweep(c, now))
	}
	s.report(first)
}

func (s *Store) setBusy(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.busyDir = since, s.set.Load().Dir
}

// forget lets a recorder go that has ended and holds nothing.
func (s *Store) forget(r *Recorder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended && r.file == nil && len(r.queue) == 0 && r.gap.lines == 0 {
		delete(s.recorders, r.name)
	}
}

// report tells what is wrong, on the edge.
func (s *Store) report(err error) {
	text := ""
	if err != nil {
		text = "daily files: " + err.Error()
	}
	s.mu.Lock()
	before := s.problem
	s.problem = text
	s.mu.Unlock()
	switch {
	case before == "" && text != "":
		s.o.Log.Error("daily files are not written", "err", err, "hint", "mend the disk or the rights of the directory; events go on without them")
	case before != "" && text == "":
		s.o.Log.Info("daily files are written again", "dir", s.Settings().Dir)
	}
	if before != text && s.o.Changed != nil {
		s.o.Changed()
	}
}

// finish closes all files.
func (s *Store) finish() {
	for _, r := range s.list() {
		if err := r.closeFile(); err != nil {
			s.o.Log.Warn("close a daily file", "err", err)
		}
		r.mu.Lock()
		left := r.queued + r.gap.bytes
		r.mu.Unlock()
		if left > 0 {
			s.o.Log.Error("a daily file lacks what came last", "device", r.name, "bytes", left)
		}
	}
}

// fileName is what names of daily files look like.
var fileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-([0-9]{4}-[0-9]{2}-[0-9]{2})([+-][0-9]{4})\.csv$`)

// dayFile is a file in the directory.
type dayFile struct {
	name string
	ends time.Time
	size int64
	aged bool // its age is known
}

// follow watches whether the clock goes steadily.
func (s *Store) follow(now time.Time) {
	now = now.Round(0) // what it shows, not how long it went
	mono := s.mono()
	if drift := now.Sub(s.wall) - (mono - s.since); s.wall.IsZero() || drift.Abs() > maxDrift {
		s.wall, s.since = now, mono
	}
}

// sweep takes away what is older or more than is to be kept, and tells if that
// can't be done. Files with other names are left alone.
func (s *Store) sweep(c *current, now time.Time) error {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was written yet
	}
	if err != nil {
		return fmt.Errorf("look for old files: %w", err)
	}
	var old []dayFile // those that may go
	var total int64
	today := now.In(c.zone).Format(time.DateOnly)
	open := s.openFiles()
	for _, e := range entries {
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		begins, parseErr := time.Parse("2006-01-02-0700", m[1]+m[2])
		if err != nil || parseErr != nil {
			continue // it went this moment, or is of no day
		}
		total += info.Size()
		if m[1] < today && !open[filepath.Join(c.Dir, e.Name())] {
			old = append(old, dayFile{e.Name(), begins.AddDate(0, 0, 1), info.Size(), m[1] >= firstDay})
		}
	}
	order.By(old, func(a, b dayFile) int {
		if a.aged != b.aged {
			if a.aged {
				return -1
			}
			return 1
		}
		return cmp.Or(a.ends.Compare(b.ends), cmp.Compare(a.name, b.name))
	})
	var failed error
	steady := s.mono()-s.since >= steadyFor
	left, taken := len(old), 0
	for _, f := range old {
		aged := steady && f.aged && c.Keep > 0 && now.Sub(f.ends) > c.Keep
		if !aged && (c.MaxBytes <= 0 || total <= c.MaxBytes) {
			continue
		}
		if taken == maxTaken {
			break
		}
		if err := os.Remove(filepath.Join(c.Dir, f.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = fmt.Errorf("take away an old file: %w", err)
			continue
		}
		total -= f.size
		taken++
		left--
		s.o.Log.Info("an old daily file is taken away", "file", f.name, "too_old", aged)
	}
	large := left == 0 && c.MaxBytes > 0 && total > c.MaxBytes
	if large && !s.large && failed == nil {
		s.o.Log.Warn("the daily files of today alone are larger than they may be", "dir", c.Dir, "bytes", total, "hint", "raise daily.max_size")
	}
	s.large = large
	return failed
}

func (s *Store) openFiles() map[string]bool {
	open := map[string]bool{}
	for _, r := range s.list() {
		if r.file != nil {
			open[r.path()] = true
		}
	}
	return open
}
