package drivers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds and times of a folder that is followed.
const (
	minFollowEvery, maxFollowEvery       = 200 * time.Millisecond, 5 * time.Minute
	maxFollowQuiet                       = 10 * time.Minute
	minFollowDeadline, maxFollowDeadline = time.Second, 48 * time.Hour
	maxFollowDepth                       = 6
	maxFollowBatch                       = 10_000
	maxPatterns                          = 64
	// MaxFollowed bounds the files that are followed at a time.
	MaxFollowed = 100_000
	// maxUnread bounds the folders and files at a time of which it is told that they can't be
	// read.
	maxUnread = 64
	// retryMin and retryMax bound the pause before a file is tried again that can't be
	// read.
	retryMin, retryMax = 5 * time.Second, 10 * time.Minute
	// replayedAfter is how old a file is that was there before the agent looked.
	replayedAfter = 10 * time.Minute
)

// FollowSettings say how the files of a folder are followed.
type FollowSettings struct {
	// Ignore are the patterns of the names of files that are not meant, and of those that
	// are not there in full; capital letters do not count.
	Ignore []string `yaml:"ignore"`
	// Depth is how many folders below are looked into.
	Depth int `yaml:"depth"`
	// Every is how often it is looked, Quiet how long a file must not have changed.
	Every time.Duration `yaml:"every"`
	Quiet time.Duration `yaml:"quiet"`
	// Deadline is how long what is missing is waited for: the end of a file that is being
	// written, or other files that it names.
	Deadline time.Duration `yaml:"deadline"`
	// Batch is how many files are worked off between two looks, so that a new one does not
	// wait for an old heap.
	Batch int `yaml:"batch"`
}

// DefaultFollow is what suits a folder that nobody has said anything about.
func DefaultFollow() FollowSettings {
	return FollowSettings{
		Ignore: []string{".*", "*.tmp", "*.part", "*.filepart"},
		Depth:  3, Every: 2 * time.Second, Quiet: 2 * time.Second, Deadline: 2 * time.Minute, Batch: 20,
	}
}

// Check refuses settings that no folder can be followed by. names are the patterns of the
// files that are meant, under the name that the settings give them.
func (s *FollowSettings) Check(what string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("%s: there is none; write for example *.xml", what)
	}
	for _, list := range []struct {
		name     string
		patterns []string
	}{{what, names}, {"ignore", s.Ignore}} {
		if len(list.patterns) > maxPatterns {
			return fmt.Errorf("%s: there are more than %d patterns", list.name, maxPatterns)
		}
		for _, p := range list.patterns {
			if _, err := path.Match(p, "x"); err != nil || strings.Contains(p, "/") {
				return fmt.Errorf("%s: %q is no pattern of file names, as *.xml is", list.name, p)
			}
		}
	}
	for _, c := range []struct {
		name     string
		is       time.Duration
		min, max time.Duration
	}{{"every", s.Every, minFollowEvery, maxFollowEvery}, {"quiet", s.Quiet, 0, maxFollowQuiet}, {"deadline", s.Deadline, minFollowDeadline, maxFollowDeadline}} {
		if c.is < c.min || c.is > c.max {
			return fmt.Errorf("%s: %s; take %s to %s", c.name, c.is, c.min, c.max)
		}
	}
	switch {
	case s.Depth < 0 || s.Depth > maxFollowDepth:
		return fmt.Errorf("depth: %d; take 0 to %d", s.Depth, maxFollowDepth)
	case s.Batch < 1 || s.Batch > maxFollowBatch:
		return fmt.Errorf("batch: %d; take 1 to %d", s.Batch, maxFollowBatch)
	}
	return nil
}

// Follower follows the files of one folder over reconnections. Under "path:" the ledger has
// what a file was like when it was told, so that it is told once however often the agent is
// started. It is for one goroutine.
type Follower struct {
	Settings FollowSettings
	// Names are the patterns of the files that are meant.
	Names []string
	// Folders are those to look into now; nil for the folder itself.
	Folders func(now time.Time) []string
	// Gone, if there is one, is called for a file that is no longer there.
	Gone func(h Host, path string) error
	// Most is how many files are followed at the most; zero for MaxFollowed.
	Most int

	files map[string]*Followed
	began time.Time
	full  bool
	// unread are the folders and files that could not be read at the last look, and whether
	// that was told; untold, that there are more of them than are told.
	unread map[string]bool
	untold bool
}

// Followed is a file that is being followed.
type Followed struct {
	// Path is in the folder, with slashes.
	Path     string
	Size     int64
	Modified time.Time
	// Since is when it was first seen as it is, by the agent's clock.
	Since time.Time
	// Again is when it may be tried again.
	Again time.Time
	// Done: it has been told as it is.
	Done bool
	// Unread: it was told that it can't be read.
	Unread bool

	wait time.Duration // the pause before Again
	seen bool          // in this look
}

// Dir is the folder of the file, Name its name there.
func (c *Followed) Dir() string { return path.Dir(c.Path) }

// Name is the file's name.
func (c *Followed) Name() string { return path.Base(c.Path) }

// Seal is what a file was like: it changes with it.
func (c *Followed) Seal() string { return Seal(c.Size, c.Modified) }

// Seal is what a file was like: it changes with it.
func Seal(size int64, modified time.Time) string {
	return fmt.Sprintf("%d %d", size, modified.UnixNano())
}

// Finish leaves a file alone until it changes, also after a restart.
func (c *Followed) Finish(h Host) error {
	c.Done = true
	return c.Keep(h)
}

// Keep notes in the ledger that the file was told as it is.
func (c *Followed) Keep(h Host) error { return h.Ledger().Put("path:"+c.Path, c.Seal()) }

// Later leaves a file alone for a while, each time for longer.
func (c *Followed) Later(now time.Time) {
	c.wait = min(max(2*c.wait, retryMin), retryMax)
	c.Again = now.Add(c.wait)
}

// Away reports whether a file can't be read for now, and leaves it alone for a while, so
// that the others go on. Why is told once.
func (c *Followed) Away(h Host, err error) bool {
	gone := errors.Is(err, fs.ErrNotExist) && !unreadable(err)
	if !gone && !unreadable(err) {
		return false
	}
	c.Later(h.Now())
	if !gone && !c.Unread {
		c.Unread = true
		h.Unparsed(why(c.Path, err), nil)
	}
	return true
}

// unreadable reports whether an error is of one file or folder, and not of the link.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ESTALE)
}

func why(name string, err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "no permission to read " + name
	}
	return fmt.Sprintf("%s can't be read, and is tried again: %v", name, err)
}

// Follow looks again and again and gives those files to take that are there in full, the
// newest first. take is called at each look, and says whether there is more to be told at
// once. Follow returns when the link fails, or take does.
func (w *Follower) Follow(ctx context.Context, conn link.Conn, h Host, take func(f *link.Folder, ready []*Followed) (more bool, err error)) error {
	f, ok := link.As[*link.Folder](conn)
	if !ok {
		return errors.New("files are followed over a folder: link only")
	}
	if w.began.IsZero() {
		w.began = h.Now()
	}
	for {
		began := time.Now()
		ready, err := w.look(ctx, f, h)
		if err != nil {
			return err
		}
		more, err := take(f, ready)
		if err != nil {
			return err
		}
		h.Valid()
		pause := w.Settings.Every
		if more {
			pause = 0
		}
		// A large folder on a slow share is not looked at without end.
		if err := f.Wait(ctx, max(pause, min(4*time.Since(began), time.Minute))); err != nil {
			return err
		}
	}
}

// Replayed reports whether a file was there long before the agent looked.
func (w *Follower) Replayed(c *Followed) bool {
	return c.Modified.Before(w.began.Add(-replayedAfter))
}

// Here reports whether a file was seen at the last look, or may be where it could not be seen.
func (w *Follower) Here(path string) bool { return w.files[path] != nil || w.unreadAt(path) }

// unreadAt reports whether a file, or a folder that it is in, could not be read at the last
// look.
func (w *Follower) unreadAt(name string) bool {
	for len(w.unread) > 0 && name != "." && name != "/" {
		if _, unread := w.unread[name]; unread {
			return true
		}
		name = path.Dir(name)
	}
	return false
}

// unreadPlaces are the folders and files that could not be read at a look, and whether that was
// told: of so many of them.
type unreadPlaces struct {
	told  map[string]bool
	count int
}

// cantRead notes that a folder or a file can't be read, and tells why if it could be at the look
// before.
func (w *Follower) cantRead(h Host, unread *unreadPlaces, name, what string, err error) {
	told := w.unread[name]
	switch {
	case told:
	case unread.count < maxUnread:
		told = true
		h.Unparsed(why(what, err), nil)
	case !w.untold:
		w.untold = true
		h.Unparsed(fmt.Sprintf("more than %d folders and files can't be read, and of the others it is not told; one of them: %s", maxUnread, why(what, err)), nil)
	}
	if unread.told[name] = told; told {
		unread.count++
	}
}

// Full reports whether there are more files than are followed, so that it is not known
// of all whether they are here.
func (w *Follower) Full() bool { return w.full }

func (w *Follower) look(ctx context.Context, f *link.Folder, h Host) ([]*Followed, error) {
	if w.files == nil {
		w.files = map[string]*Followed{}
	}
	if err := f.Check(ctx); err != nil {
		return nil, err
	}
	for _, c := range w.files {
		c.seen = false
	}
	full, unread := false, &unreadPlaces{told: map[string]bool{}}
	folders := []string{"."}
	if w.Folders != nil {
		folders = w.Folders(h.Now())
	}
	for _, dir := range folders {
		more, err := w.list(ctx, f, h, unread, dir, w.Settings.Depth)
		if err != nil {
			return nil, err
		}
		full = full || more
	}
	// A folder that vanishes while it is looked at must not read as an empty one.
	if err := f.Check(ctx); err != nil {
		return nil, err
	}
	if full && !w.full {
		h.Unparsed(fmt.Sprintf("the folder has more than %d files that fit, and what is beyond them is not read: move old ones away", w.most()), nil)
	}
	w.full, w.unread = full, unread.told // what could be read, and can't be any more, is told again
	now := h.Now()
	var ready []*Followed
	for p, c := range w.files {
		switch {
		case !c.seen && w.unreadAt(p): // nobody knows whether it is gone
		case !c.seen:
			delete(w.files, p)
			if w.Gone != nil {
				if err := w.Gone(h, p); err != nil {
					return nil, err
				}
			}
		case c.Done || now.Before(c.Again) || now.Sub(c.Since) < w.Settings.Quiet:
		default:
			ready = append(ready, c)
		}
	}
	// What is new comes first: it may be the vehicle that still stands there.
	order.By(ready, func(a, b *Followed) int {
		return cmp.Or(b.Modified.Compare(a.Modified), strings.Compare(a.Path, b.Path))
	})
	return ready, nil
}

func (w *Follower) most() int { return cmp.Or(w.Most, MaxFollowed) }

// list looks into one folder. full is true if it has files for which there is no place; what
// can't be read is noted in unread.
func (w *Follower) list(ctx context.Context, f *link.Folder, h Host, unread *unreadPlaces, dir string, depth int) (full bool, err error) {
	entries, err := f.ReadDir(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && dir != ".":
		return false, nil // there is none for that day yet, or it was taken away
	case unreadable(err) && dir != ".": // such as lost+found
		w.cantRead(h, unread, dir, "the folder "+dir, err)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look into the folder %s: %w", dir, err)
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		if e.Dir {
			if depth > 0 && !strings.HasPrefix(e.Name, ".") {
				more, err := w.list(ctx, f, h, unread, p, depth-1)
				if err != nil {
					return false, err
				}
				full = full || more
			}
			continue
		}
		if !fits(w.Names, e.Name) || fits(w.Settings.Ignore, e.Name) {
			continue
		}
		info, err := f.Stat(ctx, p)
		if unreadable(err) { // also what is not known to be there, since a folder above can't be read
			w.cantRead(h, unread, p, p, err)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was renamed meanwhile
		}
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", p, err)
		}
		c := w.files[p]
		switch {
		case c == nil && len(w.files) >= w.most():
			full = true
			continue
		case c == nil:
			c = &Followed{Path: p, Size: info.Size(), Modified: info.ModTime(), Since: h.Now()}
			c.Done = h.Ledger().Get("path:"+p) == c.Seal()
			w.files[p] = c
		case c.Size != info.Size() || !c.Modified.Equal(info.ModTime()):
			*c = Followed{Path: p, Size: info.Size(), Modified: info.ModTime(), Since: h.Now()}
		}
		c.seen = true
	}
	return full, nil
}

// fits reports whether a name fits one of the patterns, in upper or lower case.
func fits(patterns []string, name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(strings.ToLower(p), name)
		return err == nil && ok
	})
}
