package anpr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/plate"
)

// pushSilence is for readers that post what they read and may have no heartbeat: a
// lane may be empty for a night.
const pushSilence = 24 * time.Hour

// sampleSize is how much of a body that nobody understands is kept.
const sampleSize = 4 << 10

// answer is what a reader that posted gets, with status 200: any other status makes
// most of them send for ever.
type answer struct {
	contentType string
	body        []byte
	// wait holds it back, for a reader that posts again at once.
	wait time.Duration
}

func jsonAnswer(body []byte) answer { return answer{contentType: "application/json", body: body} }

// answerPosts takes what a reader posts. What take gives is the answer; its error
// leaves the post unanswered, so that the reader sends it again.
func answerPosts(ctx context.Context, conn link.Conn, take func(*link.Delivery) (answer, error)) error {
	inbox, ok := link.As[*link.Inbox](conn)
	if !ok {
		return errors.New("a reader that posts needs an http-listen: link")
	}
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return err
		}
		a, err := take(d)
		if err != nil {
			return err
		}
		if a.wait > 0 {
			time.AfterFunc(a.wait, func() { d.Reply(http.StatusOK, a.contentType, a.body) })
			continue
		}
		d.Reply(http.StatusOK, a.contentType, a.body)
	}
}

// takeMessages takes what a reader publishes. What take returns nil for is confirmed to
// the broker; its error leaves the message there, so that it comes again.
func takeMessages(ctx context.Context, s *link.Subscriber, filters []string, take func(*link.Message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	subscribed := make(chan struct{})
	// What the broker has kept stands before its answer, so it is taken meanwhile.
	go func() {
		defer close(subscribed)
		if err := s.Subscribe(ctx, filters...); err != nil {
			cancel(err)
		}
	}()
	defer func() {
		cancel(nil)
		<-subscribed
	}()
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return err
		}
		if err := take(m); err != nil {
			return err
		}
		m.Done()
	}
}

// posts is an instrument that posts and whose driver is one function.
type posts struct {
	recorder *Recorder
	take     func(*Recorder, drivers.Host, *link.Delivery) (answer, error)
}

// Run implements drivers.Instrument.
func (p *posts) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	return answerPosts(ctx, conn, func(d *link.Delivery) (a answer, err error) {
		whole := d.Body
		defer func() { d.Body = whole }()
		for _, body := range listed(whole) {
			d.Body = body
			if a, err = p.take(p.recorder, h, d); err != nil {
				return a, err
			}
		}
		return a, nil
	})
}

// maxListed bounds the documents of a list.
const maxListed = 64

// listed gives the documents of a body that is a list of them, as some receivers' makers
// configure it; any other body is one. What is beyond the bound, or broken, stays together
// at the end, where it is told.
func listed(body []byte) [][]byte {
	if start := bytes.TrimLeft(body, " \t\r\n\ufeff"); len(start) == 0 || start[0] != '[' {
		return [][]byte{body}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return [][]byte{body}
	}
	var list [][]byte
	for d.More() && len(list) < maxListed {
		at := d.InputOffset()
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return append(list, body[at:])
		}
		list = append(list, one)
	}
	if d.More() {
		list = append(list, body[d.InputOffset():])
	}
	if len(list) == 0 {
		return [][]byte{body}
	}
	return list
}

// newPosts makes one whose settings are those of all plate readers.
func newPosts(v plate.Vendor, take func(*Recorder, drivers.Host, *link.Delivery) (answer, error)) func(func(any) error) (drivers.Instrument, error) {
	return func(decode func(any) error) (drivers.Instrument, error) {
		var s Settings
		if err := decode(&s); err != nil {
			return nil, err
		}
		if err := s.Check(); err != nil {
			return nil, err
		}
		return &posts{recorder: NewRecorder(v, s), take: take}, nil
	}
}

// sample is the beginning of a body.
func sample(body []byte) []byte { return body[:min(len(body), sampleSize)] }

// withPictures gives a reading the pictures of a document that holds them as base64,
// and the document without them as its raw bytes. If not every picture could be taken
// out as one, the document is attached as it came: none is lost.
func withPictures(h drivers.Host, x Reading, body []byte, pictures ...Picture) Reading {
	x.Raw = body
	rest, n := document.Elide(body)
	long := 0
	for _, p := range pictures {
		if len(p.Content) == 0 {
			continue
		}
		if p.MediaType == "" {
			p.MediaType = http.DetectContentType(p.Content)
		}
		x.Pictures = append(x.Pictures, p)
		if pictureOf(p.Content) {
			long++
		}
	}
	if n == 0 {
		return x
	}
	if long < n {
		h.Unparsed(fmt.Sprintf("%d pictures of a read could not be taken as pictures; the whole document is attached", n-long), sample(rest))
		x.Pictures = append([]Picture{{Name: "document", MediaType: "application/octet-stream", Content: body}}, x.Pictures...)
	}
	x.Raw = rest
	return x
}

// pictureOf says whether content may be long enough to have been taken out as a
// picture; with and without padding that is not the same length.
func pictureOf(content []byte) bool { return len(content) >= document.MinPicture-8 }
