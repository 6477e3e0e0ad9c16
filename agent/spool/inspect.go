package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// maxLooks bounds how often an inspection begins anew because an agent began a
// new segment meanwhile.
const maxLooks = 10

// lookAgain is how long an inspection lets an agent come to an end with what it
// is doing to a file.
const lookAgain = 2 * time.Millisecond

// Errors of Inspect; ask with errors.Is.
var (
	// ErrNotSpool says that a directory holds no spool.
	ErrNotSpool = errors.New("this is no spool")
	// ErrVersion says that a spool is in a format that this version does not know.
	ErrVersion = errors.New("the spool is in a format that this version does not know")
)

// Inspection is what the files of a spool hold at one moment. It is taken without
// the lock and without writing anything, so an agent may have the spool open, and
// the disk may be mounted read-only. It shows what an agent would find that
// started now.
type Inspection struct {
	Dir     string
	Classes []ClassInspection
	// Quarantine lists the files in the quarantine directory.
	Quarantine []Quarantined

	spool *Spool                     // whose file system changes nothing
	acked [len(event.Classes)]uint64 // as the cursors say
}

// ClassInspection is one class of an Inspection.
type ClassInspection struct {
	Class event.Class
	// First is the lowest sequence number for which there is a segment, zero if
	// there is none.
	First uint64
	// Stats has the class's numbers, as the agent would count them.
	Stats ClassStats
	// Segments is the number of segment files, and Sealed how many of those may
	// hold sealed records.
	Segments, Sealed int
	// Refused is the number of segment files with nothing but refused writes.
	Refused int
	// Foreign names segment files that are not this log's, or of another format.
	Foreign []string
	// BadHeaders names segment files whose first 128 bytes are damaged. Their
	// records can be read nevertheless.
	BadHeaders []string
	// Cursor says that there is a cursor that can be read. Without one, all that is
	// on disk counts as waiting.
	Cursor bool
	// Closed says that the last agent closed the class in good order. While an
	// agent runs it is false.
	Closed bool
	// Losses are those that the cursor notes, the last ones once they are told, and those
	// that this look found.
	Losses []NotedLoss
	// Delivered is how many records are delivered to all consumers, Lost how many are lost,
	// of those that the cursor notes or that this look found, and Waiting how many wait.
	Delivered, Lost, Waiting uint64
}

// NotedLoss is a loss in the cursor file.
type NotedLoss struct {
	// First and Last bound the range, Count is how many of it are lost.
	First, Last, Count uint64
	// Reported says that an agent.loss event about it is on disk.
	Reported bool
}

// Quarantined is a file in the quarantine directory.
type Quarantined struct {
	Name string
	Size int64
	// Class, First and Last are what its name tells: the numbers that damaged bytes
	// stand for. Last is zero for a whole segment, whose name tells the first only.
	Class       event.Class
	First, Last uint64
	// Segment says that it is a whole segment.
	Segment bool
}

// InspectOptions are the options of Inspect. The zero value is good.
type InspectOptions struct {
	// Keys open sealed records.
	Keys *Keyring
	// FS is where the files are, the operating system's if nil.
	FS FS
}

// Inspect looks at the spool in dir. It reads the directories, the cursors, the
// head of each segment and the newest segment of each class. The errors wrap
// ErrNotSpool, ErrVersion and what the file system says.
func Inspect(dir string, o InspectOptions) (*Inspection, error) {
	base := o.FS
	if base == nil {
		base = osFS{}
		if err := lookAround(dir); err != nil {
			return nil, err
		}
	}
	s := &Spool{
		dir: dir, fs: lookFS{base}, log: slog.New(slog.DiscardHandler),
		segmentBytes: defaultSegmentBytes, wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	s.keys.Store(o.Keys)
	i := &Inspection{Dir: dir, spool: s}
	for range maxLooks {
		settled, err := i.look()
		if err != nil {
			return nil, fmt.Errorf("inspect spool %s: %w", dir, err)
		}
		if settled {
			break
		}
		time.Sleep(lookAgain)
	}
	files, err := s.fs.ReadDir(s.quarantineDir())
	if err != nil {
		return nil, fmt.Errorf("inspect spool %s: %w", dir, err)
	}
	for _, f := range files {
		i.Quarantine = append(i.Quarantine, parseQuarantined(f))
	}
	order.By(i.Quarantine, func(a, b Quarantined) int { return cmp.Compare(a.Name, b.Name) })
	return i, nil
}

// lookAround says in words what is wrong with a directory.
func lookAround(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such directory: %w", dir, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s can't be looked into: %w", dir, fs.ErrPermission)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file, not a directory: %w", dir, ErrNotSpool)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if _, ok := parseSegmentName(e.Name()); ok {
			return fmt.Errorf("%s is the directory of one class: name the one above it: %w", dir, ErrNotSpool)
		}
		found = found || slices.Contains(event.Classes[:], event.Class(e.Name())) && e.IsDir()
	}
	if !found {
		return fmt.Errorf("%s has neither a directory %q nor %q: %w", dir, event.Urgent, event.Routine, ErrNotSpool)
	}
	return nil
}

// look does what Open does, on a file system that keeps nothing of it. settled
// is false if an agent changed what was looked at.
func (i *Inspection) look() (settled bool, err error) {
	s := i.spool
	s.id = spoolID{}
	i.Classes = nil
	settled = true
	// The cursor, which is read after the listing, may know of a later segment.
	var newest [len(event.Classes)]uint64
	for n, class := range event.Classes {
		s.logs[n] = newClassLog(s, class)
		if err := s.logs[n].load(); err != nil {
			return false, err
		}
		for _, g := range s.logs[n].segments {
			newest[n] = max(newest[n], g.gen)
		}
	}
	defer func() {
		for _, l := range s.logs {
			_ = l.cursor.close() // read only
			_ = l.positions.close()
		}
	}()
	if err := s.identify(); err != nil {
		return false, err
	}
	s.names = s.namesFound()
	for n, l := range s.logs {
		c := ClassInspection{Class: l.class, Cursor: l.haveCursor, Closed: l.found.closed}
		var gone bool
		if gone, err = l.sort(&c); err != nil {
			return false, err
		}
		listed := len(l.segments)
		i.acked[n] = l.found.acked
		if !l.haveCursor && listed > 0 {
			i.acked[n] = l.segments[0].first - 1
		}
		var sizes int64
		for _, g := range l.segments {
			sizes += g.size // with preallocated space, which resume takes off
		}
		known := len(l.found.losses)
		l.resume()
		// What looks lost may be a record that was written while its segment was read.
		settled = settled && len(l.told)+len(l.losses) <= known
		c.Segments, c.Refused = len(l.segments), listed-len(l.segments)
		if c.Segments > 0 {
			c.First = l.segments[0].first
		}
		c.Stats = l.stats()
		c.Stats.Bytes = sizes
		c.Delivered, c.Waiting = c.Stats.Acked, c.Stats.Backlog
		for _, k := range append(l.told, l.losses...) {
			c.Losses = append(c.Losses, NotedLoss{k.first, k.last, k.count, k.recorded})
			lost := k.count
			if k.reason == passed {
				lost = 0
			}
			c.Lost += lost
			if k.last <= l.acked {
				c.Delivered -= lost
			} else {
				c.Waiting -= min(c.Waiting, k.count)
			}
		}
		i.Classes = append(i.Classes, c)
		later, err := l.later(newest[n])
		if err != nil {
			return false, err
		}
		settled = settled && !gone && !later
	}
	return settled, nil
}

// namesFound are the consumers of whom there is a position, at least one.
func (s *Spool) namesFound() (names []string) {
	for _, l := range s.logs {
		for _, p := range l.foundAt.list {
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}
	if names == nil {
		names = []string{DefaultConsumer}
	}
	return names
}

// later reports whether there is a segment of a higher generation by now.
func (l *classLog) later(gen uint64) (bool, error) {
	files, err := l.s.fs.ReadDir(l.dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(files, func(f FileInfo) bool {
		g, ok := parseSegmentName(f.Name)
		return ok && g.gen > gen
	}), nil
}

// sort takes segments that are not of this log out of the list, and notes what
// the heads of the others tell. gone says that something changed
// meanwhile, or may have.
func (l *classLog) sort(c *ClassInspection) (gone bool, err error) {
	others := false
	l.segments = slices.DeleteFunc(l.segments, func(g segment) bool {
		h, intact, known, openErr := l.header(g)
		switch {
		case errors.Is(openErr, fs.ErrNotExist):
			gone = true
			return true
		case openErr != nil:
			err = cmp.Or(err, openErr)
			return false
		case !intact:
			gone = gone || g.gen == l.gen // it may be just about to be written
			if !l.blank(g) {
				c.BadHeaders = append(c.BadHeaders, g.name())
			}
			return false // its frames speak for themselves
		case known && l.belongs(g, h):
			if h.sealed {
				c.Sealed++
			}
			return false
		}
		others = others || !known
		c.Foreign = append(c.Foreign, g.name())
		return true
	})
	if err == nil && others && len(l.segments) == 0 {
		err = fmt.Errorf("%s: %w: use the lanepost that wrote it, or a later one", filepath.Join(l.dir, c.Foreign[0]), ErrVersion)
	}
	return gone, err
}

func (l *classLog) header(g segment) (h segmentInfo, intact, known bool, err error) {
	f, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY)
	if err != nil {
		return h, false, false, err
	}
	defer func() { _ = f.Close() }() // read only
	b := make([]byte, segmentHeader)
	n, _ := f.ReadAt(b, 0) // a short or failed read has no intact header
	h, intact, known = parseSegmentHeader(b[:n])
	return h, intact, known, nil
}

func (l *classLog) belongs(g segment, h segmentInfo) bool {
	return l.s.owns(h.id) && h.class == l.code && h.first == g.first && h.gen == g.gen
}

func parseQuarantined(f FileInfo) Quarantined {
	q := Quarantined{Name: f.Name, Size: f.Size}
	for _, class := range event.Classes {
		rest, ok := strings.CutPrefix(f.Name, string(class)+"-")
		if !ok {
			continue
		}
		if g, ok := parseSegmentName(rest); ok {
			q.Class, q.First, q.Segment = class, g.first, true
			return q
		}
		first, last, ok := strings.Cut(strings.TrimSuffix(rest, ".bad"), "-")
		a, err1 := strconv.ParseUint(first, 10, 64)
		b, err2 := strconv.ParseUint(last, 10, 64)
		if ok && err1 == nil && err2 == nil && strings.HasSuffix(rest, ".bad") {
			q.Class, q.First, q.Last = class, a, b
		}
	}
	return q
}

// cursorNow reads the cursor again.
func (l *classLog) cursorNow() cursorState {
	c := cursorFile{fs: l.s.fs, path: l.cursor.path, class: l.code}
	state, _, _ := c.open() // what can't be read accounts for nothing
	_ = c.close()           // read only
	return state
}

// accounts reports whether a number is delivered, or known to be lost.
func (c cursorState) accounts(seq uint64) bool {
	return seq <= c.acked || slices.ContainsFunc(c.losses, func(k knownLoss) bool { return k.first <= seq && seq <= k.last })
}

// lookFS shows a file system and keeps nothing of what is done to it.
type lookFS struct{ fs FS }

func (l lookFS) OpenFile(name string, flag int) (File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	f, err := l.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return lookFile{f}, nil
}

// ReadDir shows an empty directory where there is none.
func (l lookFS) ReadDir(dir string) ([]FileInfo, error) {
	files, err := l.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return files, err
}

// Free is not told, as nothing is written.
func (lookFS) Free(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

func (lookFS) MkdirAll(string) error       { return nil }
func (lookFS) Rename(string, string) error { return nil }
func (lookFS) Remove(string) error         { return nil }
func (lookFS) SyncDir(string) error        { return nil }

// lookFile reads a file and refuses to write.
type lookFile struct{ File }

func (lookFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.EROFS }
func (lookFile) Allocate(int64) error               { return syscall.EROFS }
func (lookFile) Truncate(int64) error               { return nil }
func (lookFile) Sync() error                        { return nil }
func (lookFile) Lock() error                        { return syscall.EROFS }
