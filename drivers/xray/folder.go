package xray

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Bounds and times of a watched folder.
const (
	// folderSilence is how long a healthy folder may go without a look that succeeds.
	folderSilence = 2 * time.Minute
	// maxCandidates bounds the sidecars that are followed at a time.
	maxCandidates = 100_000
	// retryMin and retryMax bound the pause before a sidecar is tried again that can't be
	// read.
	retryMin, retryMax = 5 * time.Second, 10 * time.Minute
	// watchPartial is how long files are looked for that did not come in time.
	watchPartial = 7 * 24 * time.Hour
	// replayedAfter is how old a scan is that was there before the agent looked.
	replayedAfter = 10 * time.Minute
	// previewSize bounds the picture that the small one is made of, in bytes.
	previewSize = 32 << 20
)

// Folder is the driver of scanners that drop a document and pictures for each scan.
func Folder() drivers.Driver {
	return drivers.Driver{
		Name:    "xray-folder",
		Summary: "X-ray scanner that drops files into a folder",
		Schemes: []string{"folder"},
		Silence: folderSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := defaults()
			if err := decode(&s); err != nil {
				return nil, err
			}
			if s.Dialect == "configured" && s.Sidecar == nil {
				s.Sidecar = &sidecar.Dialect{}
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			return &watcher{settings: s, candidates: map[string]*candidate{}}, nil
		},
	}
}

// watcher follows the sidecars of one folder.
//
// What has been told is in the ledger (ledger.go), so a file is told once however often the
// agent is started. Under "path:" that has what a sidecar was like when it was read.
type watcher struct {
	settings   FolderSettings
	candidates map[string]*candidate
	unkept     unkept
	began      time.Time
	forgot     time.Time // when old DICOS objects were forgotten last
	swept      time.Time // and when old files and scans were
}

// candidate is a sidecar that is being followed.
type candidate struct {
	dir, name string
	size      int64
	modified  time.Time
	// since is when it was first seen as it is, first when it was first seen at all.
	since, first time.Time
	// done: it has been told as it is.
	done bool
	// again is when it may be tried again, wait the pause before that.
	again time.Time
	wait  time.Duration
	seen  bool // in this look
	// unread: it was told that it can't be read.
	unread bool
}

func (c *candidate) path() string { return path.Join(c.dir, c.name) }

// Run implements drivers.Instrument.
func (w *watcher) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	f, ok := link.As[*link.Folder](conn)
	if !ok {
		return errors.New("xray-folder needs a folder: link")
	}
	if w.began.IsZero() {
		w.began = h.Now()
	}
	h = w.unkept.over(h)
	for {
		began := time.Now()
		more, err := w.look(ctx, f, h)
		if err != nil {
			return err
		}
		h.Valid()
		pause := w.settings.Every
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
func (w *watcher) look(ctx context.Context, f *link.Folder, h drivers.Host) (more bool, err error) {
	if err := f.Check(ctx); err != nil {
		return false, err
	}
	for _, c := range w.candidates {
		c.seen = false
	}
	for _, dir := range w.folders(h.Now()) {
		if err := w.list(ctx, f, h, dir, w.settings.Depth); err != nil {
			return false, err
		}
	}
	// A folder that vanishes while it is looked at must not read as an empty one.
	if err := f.Check(ctx); err != nil {
		return false, err
	}
	var ready []*candidate
	now := h.Now()
	for p, c := range w.candidates {
		switch {
		case !c.seen:
			delete(w.candidates, p)
		case c.done || now.Before(c.again) || now.Sub(c.since) < w.settings.Quiet:
		default:
			ready = append(ready, c)
		}
	}
	if now.Sub(w.swept) > forgetEvery && len(w.candidates) < maxCandidates {
		w.swept = now
		here := func(path string) bool { return w.candidates[path] != nil }
		if err := forgetOld(h.Ledger(), now.Add(-rememberFiles), maxRemembered, here); err != nil {
			return false, err
		}
	}
	// What is new comes first: it may be the vehicle that still stands there.
	slices.SortFunc(ready, func(a, b *candidate) int {
		return cmp.Or(b.modified.Compare(a.modified), strings.Compare(a.path(), b.path()))
	})
	if w.settings.Dialect == dialectDICOS {
		return w.takeDICOS(ctx, f, h, ready)
	}
	n := 0
	for _, c := range ready {
		if n == w.settings.Batch {
			return true, nil
		}
		worked, err := w.take(ctx, f, h, c)
		if errors.Is(err, drivers.ErrUnrecordable) {
			c.later(now)
			if !c.unread {
				c.unread = true
				h.Unparsed(fmt.Sprintf("the scan %s can't be told, and is tried again: %v", c.path(), err), nil)
			}
			err = nil // the others go on
		}
		if err != nil {
			return false, err
		}
		if worked {
			n++
		}
	}
	return false, nil
}

// folders are those to look into now.
func (w *watcher) folders(now time.Time) []string {
	if len(w.settings.Days) == 0 {
		return []string{"."}
	}
	zone, _ := w.settings.location() // check has passed
	var list []string
	for _, mask := range w.settings.Days {
		// The scanner may count days by another zone, or its clock may be ahead.
		for back := -1; back <= w.settings.Back; back++ {
			dir, _ := dayFolder(mask, now.In(zone).AddDate(0, 0, -back)) // check has passed
			if !slices.Contains(list, dir) {
				list = append(list, dir)
			}
		}
	}
	return list
}

func (w *watcher) list(ctx context.Context, f *link.Folder, h drivers.Host, dir string, depth int) error {
	entries, err := f.ReadDir(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && dir != ".":
		return nil // no scan on that day yet, or it was taken away
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
		if !matches(w.settings.Sidecars, e.Name) || matches(w.settings.Ignore, e.Name) {
			continue
		}
		info, err := f.Stat(ctx, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was renamed meanwhile
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		c := w.candidates[p]
		now := h.Now()
		if c == nil {
			if len(w.candidates) >= maxCandidates {
				continue
			}
			c = &candidate{dir: dir, name: e.Name, first: now, since: now, size: info.Size(), modified: info.ModTime()}
			c.done = h.Ledger().Get("path:"+p) == seal(info.Size(), info.ModTime())
			w.candidates[p] = c
		}
		c.seen = true
		if c.size != info.Size() || !c.modified.Equal(info.ModTime()) {
			c.size, c.modified, c.since, c.done, c.again, c.wait, c.unread = info.Size(), info.ModTime(), now, false, time.Time{}, 0, false
		}
	}
	return nil
}

func seal(size int64, modified time.Time) string {
	return fmt.Sprintf("%d %d", size, modified.UnixNano())
}

// later leaves a candidate alone for a while, each time for longer.
func (c *candidate) later(now time.Time) {
	c.wait = min(max(2*c.wait, retryMin), retryMax)
	c.again = now.Add(c.wait)
}

// away reports whether a candidate can't be read for now, and leaves it alone for a while.
func (c *candidate) away(h drivers.Host, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	c.later(h.Now())
	if errors.Is(err, fs.ErrPermission) && !c.unread {
		c.unread = true
		h.Unparsed("no permission to read "+c.path(), nil)
	}
	return true
}

// take tells a scan, if it is there in full or its time is over. worked is true if there
// was something to do; an error is one of the link or the agent.
func (w *watcher) take(ctx context.Context, f *link.Folder, h drivers.Host, c *candidate) (worked bool, err error) {
	if w.settings.Dialect == dialectOpaque {
		return w.takeOpaque(ctx, f, h, c)
	}
	now := h.Now()
	if c.size > sidecar.MaxDocument {
		return false, w.reject(h, c, fmt.Errorf("it has %d bytes, and at most %d are read", c.size, sidecar.MaxDocument), nil)
	}
	raw, err := f.ReadFile(ctx, c.path(), sidecar.MaxDocument)
	if c.away(h, err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", c.path(), err)
	}
	sum := sha256.Sum256(raw)
	hash := hex.EncodeToString(sum[:])
	scan, err := w.settings.parse(raw)
	if err != nil {
		// It may be written still.
		if now.Sub(c.since) < w.settings.Deadline {
			c.later(now)
			return false, nil
		}
		return false, w.reject(h, c, err, raw)
	}
	if len(scan.ID) > maxWord {
		return false, w.reject(h, c, fmt.Errorf("the scan's id has %d bytes, and at most %d are taken", len(scan.ID), maxWord), raw)
	}
	before, known := toldBefore(h, scan.ID)
	if known && before.SHA256 == hash && before.Missing == 0 {
		c.done = true // the same again, perhaps in another place
		return false, h.Ledger().Put("path:"+c.path(), seal(c.size, c.modified))
	}
	if known && before.Path != c.path() && slices.Contains(before.Earlier, hash) {
		c.done = true
		return false, h.Ledger().Put("path:"+c.path(), seal(c.size, c.modified))
	}
	found, err := w.files(ctx, f, c, scan)
	if err != nil {
		return false, err
	}
	late := now.Sub(c.since) >= w.settings.Deadline
	if known && before.SHA256 == hash && len(found.missing)+len(found.growing) >= before.Missing {
		// It was told without them, and they are not there still.
		c.later(now)
		if now.Sub(time.Unix(before.At, 0)) > watchPartial {
			c.done = true
			return false, h.Ledger().Put("path:"+c.path(), seal(c.size, c.modified))
		}
		return false, nil
	}
	if len(found.missing)+len(found.growing) > 0 && !late {
		c.again = now.Add(w.settings.Every)
		return false, nil
	}
	return true, w.tell(ctx, f, h, c, scan, raw, hash, before, found)
}

// reject tells once that a sidecar can't be read, and leaves it alone until it changes.
func (w *watcher) reject(h drivers.Host, c *candidate, why error, raw []byte) error {
	c.done = true
	h.Unparsed(fmt.Sprintf("the scan %s can't be read: %v", c.path(), why), raw[:min(len(raw), 4<<10)])
	return h.Ledger().Put("path:"+c.path(), seal(c.size, c.modified))
}

// files is what there is of the files of a scan.
type files struct {
	list    []file
	missing []string // and those that do not end as they must
	growing []string // that have changed a moment ago
}

type file struct {
	event.XrayFile
	path string
	size int64
	head []byte
}

// files looks for the files that a scan names.
func (w *watcher) files(ctx context.Context, f *link.Folder, c *candidate, scan *sidecar.Scan) (files, error) {
	var all files
	names := map[string]string{} // as they are in the folder, by lower case
	for _, s := range scan.Files {
		x := file{XrayFile: event.XrayFile{Name: word(s.Name), Role: s.Role, State: "here"}, path: path.Join(c.dir, s.Name)}
		if !sidecar.Bare(s.Name) {
			x.State, x.path = "missing", ""
			all.missing = append(all.missing, word(s.Name))
			all.list = append(all.list, x)
			continue
		}
		info, err := f.Stat(ctx, x.path)
		if errors.Is(err, fs.ErrNotExist) {
			if len(names) == 0 {
				entries, err := f.ReadDir(ctx, c.dir)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return all, err
				}
				for _, e := range entries {
					names[strings.ToLower(e.Name)] = e.Name
				}
			}
			if other := names[strings.ToLower(s.Name)]; other != "" && other != s.Name {
				x.path = path.Join(c.dir, other)
				info, err = f.Stat(ctx, x.path)
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && info.IsDir():
			x.State = "missing"
			if s.Deleted {
				x.State = "deleted"
			} else {
				all.missing = append(all.missing, x.Name)
			}
			x.path = ""
		case err != nil:
			return all, fmt.Errorf("look at %s: %w", x.path, err)
		case info.Size() > w.settings.MaxFile:
			x.State, x.path = "too_large", ""
		default:
			x.size = info.Size()
			whole, err := complete(ctx, f, x.path, x.size)
			if err != nil {
				return all, fmt.Errorf("read %s: %w", x.path, err)
			}
			if !whole {
				all.growing = append(all.growing, x.Name)
				x.State = "incomplete"
			}
		}
		all.list = append(all.list, x)
	}
	return all, nil
}

// complete reports whether a picture ends as pictures do. Of other files that can't be
// told, and that they are not empty must do.
func complete(ctx context.Context, f *link.Folder, name string, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	end := pictureEnds[map[string]string{".jpg": jpegType, ".jpeg": jpegType, ".png": pngType}[strings.ToLower(path.Ext(name))]]
	if end == nil {
		return true, nil
	}
	r, err := f.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }() // it was only read
	if _, err := io.CopyN(io.Discard, r, max(0, size-endSlack)); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	tail, err := io.ReadAll(io.LimitReader(r, endSlack))
	return bytes.Contains(tail, end), err
}
