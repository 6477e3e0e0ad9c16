package rpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// n42PushSilence is for instruments that send when they have something: a lane may be
// empty for a night.
const n42PushSilence = 24 * time.Hour

// maxParts bounds the documents of one request.
const maxParts = 64

// N42Push is the driver of instruments and programs that post documents.
func N42Push() drivers.Driver {
	return drivers.Driver{
		Name:    "n42-push",
		Summary: "radiation instruments that post N42 documents",
		Schemes: []string{"http-listen"},
		Silence: n42PushSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := defaultN42()
			if err := decode(&s); err != nil {
				return nil, err
			}
			d, err := newDocuments(s)
			if err != nil {
				return nil, err
			}
			return &documentPosts{documents: d}, nil
		},
	}
}

type documentPosts struct{ *documents }

// Run implements drivers.Instrument.
func (p *documentPosts) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	inbox, ok := link.As[*link.Inbox](conn)
	if !ok {
		return errors.New("n42-push needs an http-listen: link")
	}
	if err := sweep(h.Ledger(), h.Now()); err != nil {
		return err
	}
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return err
		}
		status, text, err := p.post(h, d)
		if err != nil {
			return err // not answered: it comes again
		}
		d.Reply(status, "text/plain; charset=utf-8", []byte(text))
	}
}

// post takes one request. It is answered with success when all of it is on disk, what can't
// be read too: that is kept as it came, and to send it again would not mend it.
func (p *documentPosts) post(h drivers.Host, d *link.Delivery) (status int, text string, err error) {
	if d.Method != http.MethodPost && d.Method != http.MethodPut {
		return http.StatusMethodNotAllowed, "send the document with POST", nil
	}
	list, err := bodies(d)
	if err != nil {
		list = []arrived{{raw: d.Body}} // kept as it came
	}
	unread := 0
	for _, a := range list {
		a.at = h.Now()
		read, err := p.take(h, a)
		switch {
		case errors.Is(err, errFlood):
			return http.StatusTooManyRequests, "more documents come that can't be read than are kept; send them again later", nil
		case err != nil:
			return 0, "", err
		case !read:
			unread++
		}
	}
	if unread > 0 {
		return http.StatusAccepted, fmt.Sprintf("recorded; %d of %d documents could not be read as N42", unread, len(list)), nil
	}
	return http.StatusOK, "recorded", nil
}

// take tells one document; read is false for one that is broken.
func (p *documentPosts) take(h drivers.Host, a arrived) (read bool, err error) {
	hash := hashOf(a.raw)
	doc, broken := p.documents.read(a)
	if toldBefore(h.Ledger(), hash) {
		if broken == nil {
			h.Valid()
		}
		return broken == nil, nil // it was sent again
	}
	if broken != nil && p.flooded(a.at) {
		return false, errFlood // before the ledger has anything of it
	}
	if a.id, err = intend(h.Ledger(), hash); err != nil {
		return false, err
	}
	if broken != nil {
		err = p.keepBroken(h, a, broken)
	} else {
		h.Valid()
		err = p.tell(h, a, doc, event.RadiationSpectrum{Documents: 1, FaultsChanged: faulty(doc)})
	}
	if errors.Is(err, errFlood) {
		return false, errors.Join(err, h.Ledger().Put("next:"+hash, ""))
	}
	if err != nil {
		return false, err
	}
	return broken == nil, remember(h.Ledger(), hash, a.at)
}

// bodies are the documents of a request: its body, or the files of a form.
func bodies(d *link.Delivery) (list []arrived, err error) {
	media, params, err := mime.ParseMediaType(d.ContentType)
	if err != nil || !strings.HasPrefix(media, "multipart/") {
		return []arrived{{raw: d.Body, name: nameIn(d.Path)}}, nil
	}
	form := multipart.NewReader(bytes.NewReader(d.Body), params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the form: %w", err)
		}
		if len(list) == maxParts {
			return nil, fmt.Errorf("more than %d parts", maxParts)
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, fmt.Errorf("read the form: %w", err)
		}
		// A form has fields beside its files.
		if part.FileName() == "" {
			if _, err := n42.Decode(b, n42.Options{MaxBytes: len(b) + 1}); errors.Is(err, n42.ErrNotN42) {
				continue
			}
		}
		list = append(list, arrived{raw: b, name: nameIn(part.FileName())})
	}
	if len(list) == 0 {
		return nil, errors.New("a form without a document")
	}
	return list, nil
}

// nameIn is the file's name in a path, if there is one.
func nameIn(p string) string {
	name := path.Base(p)
	if name == "." || name == "/" {
		return ""
	}
	return name
}
