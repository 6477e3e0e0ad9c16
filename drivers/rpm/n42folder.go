package rpm

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// n42FolderSilence is how long a healthy folder may go without a look that succeeds.
const n42FolderSilence = 2 * time.Minute

// N42FolderSettings are the settings of instruments whose documents come as files.
type N42FolderSettings struct {
	N42Settings `yaml:",inline"`
	// Files are the patterns of their names.
	Files                  []string `yaml:"files"`
	drivers.FollowSettings `yaml:",inline"`
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
			s := N42FolderSettings{N42Settings: defaultN42(), Files: []string{"*.n42", "*.xml"}, FollowSettings: drivers.DefaultFollow()}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.Check("files", s.Files); err != nil {
				return nil, err
			}
			d, err := newDocuments(s.N42Settings)
			if err != nil {
				return nil, err
			}
			return &documentFolder{documents: d, files: s, follower: drivers.Follower{Settings: s.FollowSettings, Names: s.Files, Gone: forgetFile}}, nil
		},
	}
}

// documentFolder follows the files of a folder.
type documentFolder struct {
	*documents
	files    N42FolderSettings
	follower drivers.Follower
}

func forgetFile(h drivers.Host, path string) error { return h.Ledger().Put("path:"+path, "") }

// Run implements drivers.Instrument.
func (w *documentFolder) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	return w.follower.Follow(ctx, conn, h, func(f *link.Folder, ready []*drivers.Followed) (bool, error) {
		for i, c := range ready {
			if i == w.files.Batch {
				return true, nil
			}
			if err := w.take(ctx, f, h, c); err != nil {
				return false, err
			}
		}
		return false, nil
	})
}

// take tells a file if it is there in full, or its time is over.
func (w *documentFolder) take(ctx context.Context, f *link.Folder, h drivers.Host, c *drivers.Followed) error {
	now := h.Now()
	if c.Size > int64(w.settings.MaxDocument) {
		h.Unparsed(fmt.Sprintf("N42, %s: it has %d bytes, and at most %d are read (max_document); it stays where it is", word(c.Path), c.Size, w.settings.MaxDocument), nil)
		return c.Finish(h)
	}
	raw, err := f.ReadFile(ctx, c.Path, int64(w.settings.MaxDocument))
	switch {
	case c.Away(h, err):
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", c.Path, err)
	case int64(len(raw)) != c.Size:
		return nil // it grows
	}
	hash := hashOf(raw)
	if toldBefore(h.Ledger(), hash) {
		return c.Finish(h) // the same again, perhaps in another place
	}
	a := arrived{raw: raw, name: path.Base(c.Path), at: now, replayed: w.follower.Replayed(c)}
	doc, broken := w.documents.read(a)
	if broken != nil && !n42.Ended(raw) && now.Sub(c.Since) < w.files.Deadline {
		c.Again = now.Add(w.files.Every) // it may be written still
		return nil
	}
	if broken != nil && w.flooded(now) {
		c.Later(now)
		return nil
	}
	if a.id, err = intend(h.Ledger(), hash); err != nil {
		return err
	}
	if broken != nil {
		if err = w.keepBroken(h, a, broken); errors.Is(err, errFlood) {
			c.Later(now)
			return nil
		}
	} else {
		if err = w.tell(h, a, doc, event.RadiationSpectrum{Documents: 1, FaultsChanged: faulty(doc)}); errors.Is(err, errFlood) {
			c.Later(now)
			return nil
		}
	}
	if err != nil {
		return err
	}
	if err := remember(h.Ledger(), hash, now); err != nil {
		return err
	}
	return c.Finish(h)
}

// faulty reports whether a document tells a fault. Documents that come one by one are of
// several instruments: what they said before is not known.
func faulty(doc *n42.Document) bool {
	return len(doc.Faults) > 0 || slices.ContainsFunc(doc.Measurements, func(m n42.Measurement) bool { return len(m.Faults) > 0 })
}
