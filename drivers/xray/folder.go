package xray

import (
	"bytes"
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
	// watchPartial is how long files are looked for that did not come in time.
	watchPartial = 7 * 24 * time.Hour
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
			w := &watcher{settings: s, follower: drivers.Follower{Settings: s.FollowSettings, Names: s.Sidecars}}
			w.follower.Folders = w.folders
			return w, nil
		},
	}
}

// watcher follows the sidecars of one folder.
//
// What has been told is in the ledger (ledger.go), so a file is told once however often the
// agent is started.
type watcher struct {
	settings FolderSettings
	follower drivers.Follower
	unkept   unkept
	forgot   time.Time // when old DICOS objects were forgotten last
	swept    time.Time // and when old files and scans were
}

// Run implements drivers.Instrument.
func (w *watcher) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	h = w.unkept.over(h)
	return w.follower.Follow(ctx, conn, h, func(f *link.Folder, ready []*drivers.Followed) (bool, error) {
		now := h.Now()
		if now.Sub(w.swept) > forgetEvery && !w.follower.Full() {
			w.swept = now
			if err := forgetOld(h.Ledger(), now.Add(-rememberFiles), maxRemembered, w.follower.Here); err != nil {
				return false, err
			}
		}
		if w.settings.Dialect == dialectDICOS {
			return w.takeDICOS(ctx, f, h, ready)
		}
		return w.takeAll(ctx, f, h, ready)
	})
}

// takeAll tells scans. more is true if there are more of them.
func (w *watcher) takeAll(ctx context.Context, f *link.Folder, h drivers.Host, ready []*drivers.Followed) (more bool, err error) {
	now := h.Now()
	n := 0
	for _, c := range ready {
		if n == w.settings.Batch {
			return true, nil
		}
		worked, err := w.take(ctx, f, h, c)
		if errors.Is(err, drivers.ErrUnrecordable) {
			c.Later(now)
			if !c.Unread {
				c.Unread = true
				h.Unparsed(fmt.Sprintf("the scan %s can't be told, and is tried again: %v", c.Path, err), nil)
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

// take tells a scan, if it is there in full or its time is over. worked is true if there
// was something to do; an error is one of the link or the agent.
func (w *watcher) take(ctx context.Context, f *link.Folder, h drivers.Host, c *drivers.Followed) (worked bool, err error) {
	if w.settings.Dialect == dialectOpaque {
		return w.takeOpaque(ctx, f, h, c)
	}
	now := h.Now()
	if c.Size > sidecar.MaxDocument {
		return false, w.reject(h, c, fmt.Errorf("it has %d bytes, and at most %d are read", c.Size, sidecar.MaxDocument), nil)
	}
	raw, err := f.ReadFile(ctx, c.Path, sidecar.MaxDocument)
	if c.Away(h, err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", c.Path, err)
	}
	sum := sha256.Sum256(raw)
	hash := hex.EncodeToString(sum[:])
	scan, err := w.settings.parse(raw)
	if err != nil {
		// It may be written still.
		if now.Sub(c.Since) < w.settings.Deadline {
			c.Later(now)
			return false, nil
		}
		return false, w.reject(h, c, err, raw)
	}
	if len(scan.ID) > maxWord {
		return false, w.reject(h, c, fmt.Errorf("the scan's id has %d bytes, and at most %d are taken", len(scan.ID), maxWord), raw)
	}
	before, known := toldBefore(h, scan.ID)
	if known && before.SHA256 == hash && before.Missing == 0 {
		c.Done = true // the same again, perhaps in another place
		return false, c.Keep(h)
	}
	if known && before.Path != c.Path && slices.Contains(before.Earlier, hash) {
		return false, c.Finish(h)
	}
	found, err := w.files(ctx, f, c, scan)
	if err != nil {
		return false, err
	}
	late := now.Sub(c.Since) >= w.settings.Deadline
	if known && before.SHA256 == hash && len(found.missing)+len(found.growing) >= before.Missing {
		// It was told without them, and they are not there still.
		c.Later(now)
		if now.Sub(time.Unix(before.At, 0)) > watchPartial {
			return false, c.Finish(h)
		}
		return false, nil
	}
	if len(found.missing)+len(found.growing) > 0 && !late {
		c.Again = now.Add(w.settings.Every)
		return false, nil
	}
	return true, w.tell(ctx, f, h, c, scan, raw, hash, before, found)
}

// reject tells once that a sidecar can't be read, and leaves it alone until it changes.
func (w *watcher) reject(h drivers.Host, c *drivers.Followed, why error, raw []byte) error {
	c.Done = true
	h.Unparsed(fmt.Sprintf("the scan %s can't be read: %v", c.Path, why), raw[:min(len(raw), 4<<10)])
	return c.Keep(h)
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
func (w *watcher) files(ctx context.Context, f *link.Folder, c *drivers.Followed, scan *sidecar.Scan) (files, error) {
	var all files
	names := map[string]string{} // as they are in the folder, by lower case
	for _, s := range scan.Files {
		x := file{XrayFile: event.XrayFile{Name: word(s.Name), Role: s.Role, State: "here"}, path: path.Join(c.Dir(), s.Name)}
		if !sidecar.Bare(s.Name) {
			x.State, x.path = "missing", ""
			all.missing = append(all.missing, word(s.Name))
			all.list = append(all.list, x)
			continue
		}
		info, err := f.Stat(ctx, x.path)
		if errors.Is(err, fs.ErrNotExist) {
			if len(names) == 0 {
				entries, err := f.ReadDir(ctx, c.Dir())
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return all, err
				}
				for _, e := range entries {
					names[strings.ToLower(e.Name)] = e.Name
				}
			}
			if other := names[strings.ToLower(s.Name)]; other != "" && other != s.Name {
				x.path = path.Join(c.Dir(), other)
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
