package xray

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// tell makes the event of a scan.
func (w *watcher) tell(ctx context.Context, f *link.Folder, h drivers.Host, c *drivers.Followed, scan *sidecar.Scan, raw []byte, hash string, before told, found files) error {
	now := h.Now()
	e, err := w.settings.scanEvent(w.settings.Dialect, scan, raw, now)
	if err != nil {
		return err
	}
	e.Missing, e.Completeness = append(e.Missing, found.missing...), "complete"
	e.Missing = append(e.Missing, found.growing...)
	if len(e.Missing) > 0 {
		e.Completeness = "partial"
	}
	doubt(&e)
	e.Replayed = w.follower.Replayed(c)
	if w.settings.Dialect != dialectOpaque {
		e.Files = append(e.Files, event.XrayFile{Name: word(c.Name()), Role: "sidecar", State: "here", SHA256: hash})
	}
	attachments, err := w.attach(ctx, f, &e, found)
	if err != nil {
		return err
	}
	if len(raw) > event.MaxRaw { // the event has the head of it only
		a := event.NewAttachment(raw, "application/xml", word(c.Name()))
		e.Attachments = append(e.Attachments, a)
		attachments = append(attachments, drivers.Attachment{Attachment: a, Content: raw})
	}
	next := told{Revision: before.Revision + 1, SHA256: hash, Missing: len(e.Missing), At: now.Unix(), Path: c.Path, Earlier: before.earlier(hash)}
	if err := publish(h, scan.ID, e, before, next, attachments); err != nil {
		return err
	}
	c.Done = next.Missing == 0
	if !c.Done {
		c.Later(now)
		return nil
	}
	return c.Keep(h)
}

// attach makes attachments of the files that are here, and the small picture.
func (w *watcher) attach(ctx context.Context, f *link.Folder, e *event.XrayScan, found files) ([]drivers.Attachment, error) {
	var list []drivers.Attachment
	want := w.settings.Pictures == nil || *w.settings.Pictures
	var best *file
	for i := range found.list {
		x := &found.list[i]
		if (x.State == "here" || x.State == "incomplete") && x.size > 0 && want {
			a, err := w.sum(ctx, f, x)
			if err != nil {
				return nil, err
			}
			x.SHA256 = a.SHA256
			e.Attachments = append(e.Attachments, a)
			list = append(list, drivers.Attachment{Attachment: a, Open: func() (io.ReadCloser, error) { return f.Open(ctx, x.path) }})
			picture := x.State == "here" && strings.HasPrefix(a.MediaType, "image/") && x.size <= previewSize
			if picture && (x.Role == "preview" || x.Role == "image") && (best == nil || x.Role == "preview" && best.Role != "preview") {
				best = x
			}
		}
		e.Files = append(e.Files, x.XrayFile)
	}
	if best == nil {
		return list, nil
	}
	content, err := f.ReadFile(ctx, best.path, previewSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", best.path, err)
	}
	if small := thumbnail(content); small != nil {
		a := event.NewAttachment(small, "image/jpeg", "thumbnail.jpg")
		// It is sent before the large ones.
		e.Attachments = append([]event.Attachment{a}, e.Attachments...)
		list = append([]drivers.Attachment{{Attachment: a, Content: small}}, list...)
	}
	return list, nil
}

// sum reads a file for its hash, and finds out what it is.
func (w *watcher) sum(ctx context.Context, f *link.Folder, x *file) (event.Attachment, error) {
	r, err := f.Open(ctx, x.path)
	if err != nil {
		return event.Attachment{}, fmt.Errorf("read %s: %w", x.path, err)
	}
	defer func() { _ = r.Close() }() // it was only read
	head := make([]byte, 512)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return event.Attachment{}, fmt.Errorf("read %s: %w", x.path, err)
	}
	x.head = head[:n]
	hash := sha256.New()
	hash.Write(head[:n])
	more, err := io.Copy(hash, io.LimitReader(r, w.settings.MaxFile))
	if err != nil {
		return event.Attachment{}, fmt.Errorf("read %s: %w", x.path, err)
	}
	return event.Attachment{
		SHA256: hex.EncodeToString(hash.Sum(nil)), Size: int64(n) + more, MediaType: mediaType(x.Name, head[:n]), Name: x.Name,
	}, nil
}

// mediaType says what a file is. The raw pictures of scanners are in forms that nobody has
// published.
func mediaType(name string, head []byte) string {
	if strings.EqualFold(path.Ext(name), ".xml") {
		return "application/xml"
	}
	t, _, _ := strings.Cut(http.DetectContentType(head), ";")
	if strings.HasPrefix(t, "image/") {
		return t
	}
	return "application/octet-stream"
}
