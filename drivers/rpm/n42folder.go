package rpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// Bounds of a watched folder.
const (
	n42FolderSilence = 2 * time.Minute
	maxFollowed      = 100_000
	maxN42Depth      = 6
	maxN42Patterns   = 64
	// replayedAfter is how old a document is that was there before the agent looked.
	replayedAfter = 10 * time.Minute
	// againAfter is the pause before a file is tried again that can't be read.
	againAfter = 10 * time.Second
)

// N42FolderSettings are the settings of instruments whose documents come as files.
type N42FolderSettings struct {
	N42Settings `yaml:",inline"`
	// Files are the patterns of their names, Ignore those of files that are not there in
	// full; capital letters do not count.
	Files  []string `yaml:"files"`
	Ignore []string `yaml:"ignore"`
	// Depth is how many folders below are looked into.
	Depth int `yaml:"depth"`
	// Every is how often it is looked, Quiet how long a file must not have changed.
	Every time.Duration `yaml:"every"`
	Quiet time.Duration `yaml:"quiet"`
	// Deadline is how long the end of a document is waited for; then it is broken.
	Deadline time.Duration `yaml:"deadline"`
	// Batch is how many files are worked off between two looks, so that a new one does not
	// wait for an old heap.
	Batch int `yaml:"batch"`
}

func (s *N42FolderSettings) check() error {
	switch {
	case len(s.Files) == 0 || len(s.Files) > maxN42Patterns || len(s.Ignore) > maxN42Patterns:
		return fmt.Errorf("files: write 1 to %d patterns, like *.n42", maxN42Patterns)
	case s.Depth < 0 || s.Depth > maxN42Depth:
		return fmt.Errorf("depth: %d; take 0 to %d", s.Depth, maxN42Depth)
	case s.Every < 200*time.Millisecond || s.Every > 5*time.Minute:
		return fmt.Errorf("every: %s; take 200ms to 5m", s.Every)
	case s.Quiet < 0 || s.Quiet > 10*time.Minute:
		return fmt.Errorf("quiet: %s; take up to 10m", s.Quiet)
	case s.Deadline < time.Second || s.Deadline > 48*time.Hour:
		return fmt.Errorf("deadline: %s; take 1s to 48h", s.Deadline)
	case s.Batch < 1 || s.Batch > 1000:
		return fmt.Errorf("batch: %d; take 1 to 1000", s.Batch)
	}
	for _, p := range append(slices.Clone(s.Files), s.Ignore...) {
		if _, err := path.Match(p, "x"); err != nil {
			return fmt.Errorf("files: %q is no pattern: %w", p, err)
		}
	}
	return nil
}

// N42Folder is the driver of instruments whose documents are dropped into a folder: by
// hand-held ones when they are docked, by their makers' programs, by other systems.
func N42Folder() drivers.Driver {
	return drivers.Driver{
		Name:    "n42-folder",
		Summary: "radiation instruments whose N42 documents are files in a folder",
		Schemes: []string{"folder"},
		Silence: n42FolderSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := N42FolderSettings{
				N42Settings: defaultN42(), Files: []string{"*.n42", "*.xml"}, Ignore: []string{".*", "*.tmp", "*.part", "*.filepart"},
				Depth: 3, Every: 2 * time.Second, Quiet: 2 * time.Second, Deadline: 2 * time.Minute, Batch: 20,
			}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			d, err := newDocuments(s.N42Settings)
			if err != nil {
				return nil, err
			}
			return &documentFolder{documents: d, files: s, followed: map[string]*followed{}}, nil
		},
	}
}

// documentFolder follows the files of a folder. Under "path:" the ledger has what a file
// was like when it was told.
type documentFolder struct {
	*documents
	files    N42FolderSettings
	followed map[string]*followed
	began    time.Time
}

// followed is a file that is being followed.
type followed struct {
	path     string
	size     int64
	modified time.Time
	since    time.Time // it was first seen as it is
	again    time.Time // it may be tried again
	done     bool
	seen     bool // in this look
}

func (f *followed) seal() string { return fmt.Sprintf("%d %d", f.size, f.modified.UnixNano()) }

// Run implements drivers.Instrument.
func (w *documentFolder) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	f, ok := link.As[*link.Folder](conn)
	if !ok {
		return errors.New("n42-folder needs a folder: link")
	}
	if w.began.IsZero() {
		w.began = h.Now()
	}
	for {
		began := time.Now()
		more, err := w.look(ctx, f, h)
		if err != nil {
			return err
		}
		h.Valid()
		pause := w.files.Every
		if more {
			pause = 0
		}
		// A large folder on a slow share is not looked at without end.
		if err := f.Wait(ctx, max(pause, min(4*time.Since(began), time.Minute))); err != nil {
			return err
		}
	}
}

// look looks once. more is true if there is more to be told at once.
func (w *documentFolder) look(ctx context.Context, f *link.Folder, h drivers.Host) (more bool, err error) {
	if err := f.Check(ctx); err != nil {
		return false, err
	}
	for _, c := range w.followed {
		c.seen = false
	}
	if err := w.list(ctx, f, h, ".", w.files.Depth); err != nil {
		return false, err
	}
	// A folder that vanishes while it is looked at must not read as an empty one.
	if err := f.Check(ctx); err != nil {
		return false, err
	}
	now := h.Now()
	var ready []*followed
	for p, c := range w.followed {
		switch {
		case !c.seen:
			delete(w.followed, p)
			if err := h.Ledger().Put("path:"+p, ""); err != nil {
				return false, err
			}
		case c.done || now.Before(c.again) || now.Sub(c.since) < w.files.Quiet:
		default:
			ready = append(ready, c)
		}
	}
	// What is new comes first: it may be the vehicle that still stands there.
	slices.SortFunc(ready, func(a, b *followed) int {
		return cmp.Or(b.modified.Compare(a.modified), strings.Compare(a.path, b.path))
	})
	for i, c := range ready {
		if i == w.files.Batch {
			return true, nil
		}
		if err := w.take(ctx, f, h, c); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (w *documentFolder) list(ctx context.Context, f *link.Folder, h drivers.Host, dir string, depth int) error {
	entries, err := f.ReadDir(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && dir != ".":
		return nil // it was taken away meanwhile
	case err != nil:
		return fmt.Errorf("look into the folder %s: %w", dir, err)
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		if e.Dir {
			if depth > 0 && !strings.HasPrefix(e.Name, ".") {
				if err := w.list(ctx, f, h, p, depth-1); err != nil {
					return err
				}
			}
			continue
		}
		if !fits(w.files.Files, e.Name) || fits(w.files.Ignore, e.Name) {
			continue
		}
		info, err := f.Stat(ctx, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was renamed meanwhile
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		c, now := w.followed[p], h.Now()
		if c == nil {
			if len(w.followed) >= maxFollowed {
				continue
			}
			c = &followed{path: p, size: info.Size(), modified: info.ModTime(), since: now}
			c.done = h.Ledger().Get("path:"+p) == c.seal()
			w.followed[p] = c
		}
		c.seen = true
		if c.size != info.Size() || !c.modified.Equal(info.ModTime()) {
			*c = followed{path: p, size: info.Size(), modified: info.ModTime(), since: now, seen: true}
		}
	}
	return nil
}

// fits reports whether a name fits one of the patterns, in upper or lower case.
func fits(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(strings.ToLower(p), strings.ToLower(name))
		return err == nil && ok
	})
}

// take tells a file if it is there in full, or its time is over.
func (w *documentFolder) take(ctx context.Context, f *link.Folder, h drivers.Host, c *followed) error {
	now := h.Now()
	if c.size > int64(w.settings.MaxDocument) {
		h.Unparsed(fmt.Sprintf("N42, %s: it has %d bytes, and at most %d are read (max_document); it stays where it is", word(c.path), c.size, w.settings.MaxDocument), nil)
		return w.done(h, c)
	}
	raw, err := f.ReadFile(ctx, c.path, int64(w.settings.MaxDocument))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it was renamed meanwhile
	case errors.Is(err, fs.ErrPermission):
		if c.again.IsZero() {
			h.Unparsed("no permission to read "+word(c.path), nil)
		}
		c.again = now.Add(againAfter)
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", c.path, err)
	case int64(len(raw)) != c.size:
		return nil // it grows
	}
	hash := hashOf(raw)
	if toldBefore(h.Ledger(), hash) {
		return w.done(h, c) // the same again, perhaps in another place
	}
	a := arrived{raw: raw, name: path.Base(c.path), at: now, replayed: c.modified.Before(w.began.Add(-replayedAfter))}
	doc, broken := w.documents.read(a)
	if broken != nil && !n42.Ended(raw) && now.Sub(c.since) < w.files.Deadline {
		c.again = now.Add(w.files.Every) // it may be written still
		return nil
	}
	if a.id, err = intend(h.Ledger(), hash); err != nil {
		return err
	}
	if broken != nil {
		if err = w.keepBroken(h, a, broken); errors.Is(err, errFlood) {
			c.again = now.Add(againAfter)
			return nil
		}
	} else {
		err = w.tell(h, a, doc, event.RadiationSpectrum{Documents: 1, FaultsChanged: faulty(doc)})
	}
	if err != nil {
		return err
	}
	if err := remember(h.Ledger(), hash, now); err != nil {
		return err
	}
	return w.done(h, c)
}

// done leaves a file alone until it changes.
func (w *documentFolder) done(h drivers.Host, c *followed) error {
	c.done = true
	return h.Ledger().Put("path:"+c.path, c.seal())
}

// faulty reports whether a document tells a fault. Documents that come one by one are of
// several instruments: what they said before is not known.
func faulty(doc *n42.Document) bool {
	return slices.ContainsFunc(doc.Measurements, func(m n42.Measurement) bool { return len(m.Faults) > 0 })
}
