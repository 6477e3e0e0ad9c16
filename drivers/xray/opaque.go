package xray

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// dialectOpaque is for scanners that drop one file for each scan in a form that is not
// published, the Unified File Format of the World Customs Organization before all. Such a
// file is evidence: it is kept and passed on, and nothing in it is claimed to be
// understood. Who has the specification writes a package with a function Parse that gives
// a sidecar.Scan, and names it in FolderSettings.parse.
const dialectOpaque = "opaque"

// rawHead is how much of an opaque file is in its event, in bytes.
const rawHead = 64

// looksLike tells from the first bytes what a file may be.
func looksLike(head []byte) string {
	text := bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "zip"
	case bytes.HasPrefix(text, []byte("<?xml")):
		return "xml"
	case bytes.HasPrefix(head, []byte("\x89HDF")):
		return "hdf5"
	case len(head) >= 132 && string(head[128:132]) == "DICM":
		return "dicom"
	}
	return "unknown"
}

// takeOpaque tells of a file that is a scan of its own. Its place is the scan's id, since
// nothing else is known of it.
func (w *watcher) takeOpaque(ctx context.Context, f *link.Folder, h drivers.Host, c *drivers.Followed) (worked bool, err error) {
	now := h.Now()
	if c.Size == 0 {
		if now.Sub(c.Since) < w.settings.Deadline {
			c.Later(now)
			return false, nil
		}
		return false, w.reject(h, c, errors.New("it is empty"), nil)
	}
	x := file{XrayFile: event.XrayFile{Name: word(c.Name()), Role: "opaque", State: "here"}, path: c.Path, size: c.Size}
	hash := c.Seal() // of one that is too large
	if c.Size > w.settings.MaxFile {
		x.State, x.path = "too_large", ""
	} else {
		a, err := w.sum(ctx, f, &x)
		if c.Away(h, err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", c.Path, err)
		}
		hash, x.Looks = a.SHA256, looksLike(x.head)
	}
	before, known := toldBefore(h, c.Path)
	if known && before.SHA256 == hash {
		return false, c.Finish(h)
	}
	scan := &sidecar.Scan{ID: c.Path, Inspected: true} // perhaps: it is not known
	return true, w.tell(ctx, f, h, c, scan, x.head[:min(len(x.head), rawHead)], hash, before, files{list: []file{x}})
}
