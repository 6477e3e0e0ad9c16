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
	"time"

	"github.com/lanepost/lanepost/protocol/order"
)

// Note begins a line that did not come from the device.
const Note = "# lanepost: "

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
)

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
	zone *time.Location
	stop chan struct{}
	done chan struct{}

	mu        sync.Mutex
	recorders map[string]*Recorder
	problem   string
	busy      time.Time // since when the disk is being written to; zero if it is not
	stopped   bool

	// The rest belongs to the goroutine that writes.
	swept time.Time
	large bool // the cap can't be held, and that was said
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
	zone, err := Location(o.Zone)
	if err != nil {
		return nil, fmt.Errorf("daily files: %w", err)
	}
	return &Store{o: o, zone: zone, stop: make(chan struct{}), done: make(chan struct{}), recorders: map[string]*Recorder{}}, nil
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

// Settings are what it was opened with.
func (s *Store) Settings() Settings { return s.o.Settings }

// Problem says what is wrong now; empty if nothing is.
func (s *Store) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy.IsZero() && s.o.Now().Sub(s.busy) > hungAfter {
		return fmt.Sprintf("daily files: the disk of %s has not answered since %s", s.o.Dir, s.busy.In(s.zone).Format(time.RFC3339))
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
		s.o.Log.Error("the disk of the daily files hangs, and what they still lack is lost", "dir", s.o.Dir)
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
	if s.o.Room != nil {
		first = s.o.Room()
	}
	short := first != nil
	turned := false
	for _, r := range s.list() {
		t, err := r.flush(now, short)
		turned = turned || t
		first = cmp.Or(first, err)
		s.forget(r)
	}
	if turned || s.swept.IsZero() || now.Sub(s.swept).Abs() >= sweepEvery {
		s.swept = now
		first = cmp.Or(first, s.sweep(now))
	}
	s.report(first)
}

func (s *Store) setBusy(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = since
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
		s.o.Log.Info("daily files are written again", "dir", s.o.Dir)
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
}

// sweep takes away what is older or more than is to be kept, and tells if that
// can't be done. Files with other names are left alone.
func (s *Store) sweep(now time.Time) error {
	entries, err := os.ReadDir(s.o.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was written yet
	}
	if err != nil {
		return fmt.Errorf("look for old files: %w", err)
	}
	var old []dayFile // those that may go
	var total int64
	today := now.In(s.zone).Format(time.DateOnly)
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
		if m[1] < today && !open[e.Name()] {
			old = append(old, dayFile{e.Name(), begins.AddDate(0, 0, 1), info.Size()})
		}
	}
	order.By(old, func(a, b dayFile) int {
		return cmp.Or(a.ends.Compare(b.ends), cmp.Compare(a.name, b.name))
	})
	var failed error
	for _, f := range old {
		aged := s.o.Keep > 0 && now.Sub(f.ends) > s.o.Keep
		if !aged && (s.o.MaxBytes <= 0 || total <= s.o.MaxBytes) {
			continue
		}
		if err := os.Remove(filepath.Join(s.o.Dir, f.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = fmt.Errorf("take away an old file: %w", err)
			continue
		}
		total -= f.size
		s.o.Log.Info("an old daily file is taken away", "file", f.name, "too_old", aged)
	}
	large := s.o.MaxBytes > 0 && total > s.o.MaxBytes
	if large && !s.large && failed == nil {
		s.o.Log.Warn("the daily files of today alone are larger than they may be", "dir", s.o.Dir, "bytes", total, "hint", "raise daily.max_size")
	}
	s.large = large
	return failed
}

func (s *Store) openFiles() map[string]bool {
	open := map[string]bool{}
	for _, r := range s.list() {
		if r.file != nil {
			open[r.fileName] = true
		}
	}
	return open
}
