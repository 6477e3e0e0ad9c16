package xray

import (
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
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// dialectDICOS is for scanners that drop DICOS files: pictures and threat detection
// reports, each a file of its own. Those that share a scan instance UID are one scan.
const dialectDICOS = "dicos"

// mediaDICOM is the media type of DICOS files.
const mediaDICOM = "application/dicom"

// dicosGroup are the files of one scan that are told together.
type dicosGroup struct {
	scan       *dicosScan
	candidates []*drivers.Followed
}

func (s *FolderSettings) dicosRules() dicosRules {
	zone, _ := s.location() // check has passed
	return dicosRules{zone: zone, machineClears: s.MachineClears, withoutImages: s.WithoutImages}
}

// takeDICOS works off files that are ready, the newest first. more is true if not all of
// them were looked at.
func (w *watcher) takeDICOS(ctx context.Context, f *link.Folder, h drivers.Host, ready []*drivers.Followed) (more bool, err error) {
	if w.forgot.IsZero() {
		for _, key := range untoldDICOS(h) {
			if err := w.tellDICOS(ctx, f, h, &dicosGroup{scan: loadDICOS(h.Ledger(), key)}); err != nil {
				return false, err
			}
		}
	}
	if now := h.Now(); now.Sub(w.forgot) > 24*time.Hour {
		w.forgot = now
		if err := forgetDICOS(h.Ledger(), now.Add(-dicosRemembered)); err != nil {
			return false, err
		}
	}
	batch := slices.Clone(ready[:min(len(ready), w.settings.Batch)])
	// In a scan the oldest comes first: so they were written.
	order.By(batch, func(a, b *drivers.Followed) int {
		return cmp.Or(a.Modified.Compare(b.Modified), strings.Compare(a.Path, b.Path))
	})
	groups := map[string]*dicosGroup{}
	var order []string
	for _, c := range batch {
		part, err := w.readDICOS(ctx, f, h, c)
		if err != nil {
			return false, err
		}
		if part == nil {
			continue
		}
		key := cmp.Or(part.Key, c.Path)
		g := groups[key]
		if g == nil {
			g = &dicosGroup{scan: loadDICOS(h.Ledger(), key)}
			groups[key], order = g, append(order, key)
		}
		if _, err := g.scan.add(part); err != nil {
			if err := w.reject(h, c, err, nil); err != nil {
				return false, err
			}
			continue
		}
		g.candidates = append(g.candidates, c)
	}
	for _, key := range slices.Backward(order) {
		if err := w.tellDICOS(ctx, f, h, groups[key]); err != nil {
			return false, err
		}
	}
	return len(ready) > len(batch), nil
}

// readDICOS reads a file, to its end. It gives nil for one that is not there in full yet,
// and for one that can't be read, which is told.
func (w *watcher) readDICOS(ctx context.Context, f *link.Folder, h drivers.Host, c *drivers.Followed) (*dicosPart, error) {
	r, err := f.Open(ctx, c.Path)
	if c.Away(h, err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.Path, err)
	}
	defer func() { _ = r.Close() }()     // it was only read
	large := c.Size > w.settings.MaxFile // it is read to its end all the same, to see that it has one
	sum, head := sha256.New(), &headWriter{}
	bounded := &io.LimitedReader{R: r, N: c.Size}
	through := io.TeeReader(bounded, io.MultiWriter(sum, head))
	o, why := dicos.Read(through)
	if _, err := io.Copy(io.Discard, through); err != nil {
		return nil, fmt.Errorf("read %s: %w", c.Path, err)
	}
	now := h.Now()
	if bounded.N > 0 { // it has become shorter meanwhile
		c.Later(now)
		return nil, nil
	}
	file := event.XrayFile{Name: word(c.Name()), Role: "image", State: "here", SHA256: hex.EncodeToString(sum.Sum(nil))}
	whole := why == nil && o.Whole()
	if large {
		file.State, file.SHA256 = "too_large", ""
	}
	if !whole {
		// It may be written still.
		if now.Sub(c.Since) < w.settings.Deadline {
			c.Later(now)
			return nil, nil
		}
		if !large {
			file.State = "incomplete"
		}
		if o == nil {
			if why == nil || errors.Is(why, dicos.ErrTruncated) {
				why = fmt.Errorf("%w, and it does not say which scan it is", dicos.ErrTruncated)
			}
			return nil, w.reject(h, c, why, dicos.Sample(head.b))
		}
		if dicosKey(o) == "" && o.Report == nil {
			return nil, w.reject(h, c, fmt.Errorf("%w, and it does not say which scan it is", dicos.ErrTruncated), dicos.Sample(head.b))
		}
	}
	if o.SOPClass == dicos.ClassTDR || o.Modality == "TDR" {
		file.Role = "threat_report"
	}
	part := newDICOSPart(o, file, c.Size, whole)
	part.Path, part.Seal = c.Path, c.Seal()
	return part, nil
}

// headWriter keeps the first bytes of a file, as a sample of one that can't be read.
type headWriter struct{ b []byte }

func (w *headWriter) Write(b []byte) (int, error) {
	w.b = append(w.b, b[:min(len(b), 512-len(w.b))]...)
	return len(b), nil
}

// tellDICOS tells a scan, with the files of it that are there.
func (w *watcher) tellDICOS(ctx context.Context, f *link.Folder, h drivers.Host, g *dicosGroup) error {
	list, err := w.attachDICOS(ctx, f, g)
	if err != nil {
		return err
	}
	replayed := true
	for _, c := range g.candidates {
		replayed = replayed && w.follower.Replayed(c)
	}
	if err := g.scan.tell(h, w.settings.dicosRules(), replayed, list); err != nil {
		return err
	}
	for _, c := range g.candidates {
		c.Done = true
		if err := c.Keep(h); err != nil {
			h.Log().Warn("that a file was told is not known after a restart", "file", c.Path, "error", err)
		}
	}
	return nil
}

// attachDICOS makes attachments of the files of a scan that are as they were read, and a
// small picture of the first that can be drawn.
func (w *watcher) attachDICOS(ctx context.Context, f *link.Folder, g *dicosGroup) ([]drivers.Attachment, error) {
	if w.settings.Pictures != nil && !*w.settings.Pictures {
		return nil, nil
	}
	var list []drivers.Attachment
	var small []byte
	for _, p := range g.scan.parts {
		if p.File.State == "too_large" || p.Path == "" {
			continue
		}
		info, err := f.Stat(ctx, p.Path)
		fresh := slices.ContainsFunc(g.candidates, func(c *drivers.Followed) bool { return c.Path == p.Path && c.Seal() == p.Seal })
		switch {
		case errors.Is(err, fs.ErrNotExist) && fresh: // it was there a moment ago
			p.File.State, p.File.SHA256, p.Whole = "missing", "", false
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // it went with an earlier revision
		case err != nil:
			return nil, fmt.Errorf("look at %s: %w", p.Path, err)
		case drivers.Seal(info.Size(), info.ModTime()) != p.Seal:
			continue // what it is now makes another revision
		}
		a := event.Attachment{SHA256: p.File.SHA256, Size: p.Size, MediaType: mediaDICOM, Name: word(path.Base(p.Path))}
		list = append(list, drivers.Attachment{Attachment: a, Open: func() (io.ReadCloser, error) { return f.Open(ctx, p.Path) }})
		if small == nil && p.Whole && p.Head.Image.Pixels && p.Size <= previewSize {
			content, err := f.ReadFile(ctx, p.Path, previewSize)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("read %s: %w", p.Path, err)
			}
			small = dicosThumbnail(content)
		}
	}
	if small == nil {
		return list, nil
	}
	a := drivers.Attachment{Attachment: event.NewAttachment(small, "image/jpeg", "thumbnail.jpg"), Content: small}
	return append([]drivers.Attachment{a}, list...), nil // it is sent before the large ones
}

// dicosThumbnail makes a small picture of a DICOS file; nil if it can't be drawn.
func dicosThumbnail(content []byte) []byte {
	img, err := dicos.Picture(content, maxPixels)
	if err != nil {
		return nil
	}
	return shrink(img)
}
