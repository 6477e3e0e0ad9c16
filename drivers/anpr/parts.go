package anpr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/hikvision"
	"github.com/lanepost/lanepost/protocol/multipart"
)

// streamPart is one part of the stream, or the reason of its end.
type streamPart struct {
	mediaType, name, id string
	body                []byte
	truncated           bool
	// skipped says why a part could not be read.
	skipped string
	err     error
}

// startParts reads the parts of a stream. They come over a channel, so that a plate need
// not wait for a picture that does not come. stop ends the reading.
func startParts(ctx context.Context, resp *http.Response) (parts <-chan streamPart, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan streamPart)
	done := make(chan struct{})
	go func() {
		defer close(done)
		readParts(ctx, resp, read)
	}()
	return read, func() {
		cancel()
		_ = resp.Body.Close() // wakes the reader
		<-done
	}
}

// readParts reads until the stream ends. It knows three forms of stream: multipart,
// and bare documents one after the other as the oldest firmware sends them.
func readParts(ctx context.Context, resp *http.Response, parts chan<- streamPart) {
	send := func(p streamPart) bool {
		select {
		case parts <- p:
			return true
		case <-ctx.Done():
			return false
		}
	}
	contentType := resp.Header.Get("Content-Type")
	if t := strings.ToLower(contentType); !strings.HasPrefix(t, "multipart/") && t != "" && !strings.Contains(t, "boundary") {
		readDocuments(resp.Body, send)
		return
	}
	m := multipart.NewReader(resp.Body, contentType)
	for {
		p, err := m.Next()
		switch {
		case errors.Is(err, multipart.ErrTooLarge), errors.Is(err, multipart.ErrHeader):
			if !send(streamPart{skipped: err.Error()}) { // the next part is another matter
				return
			}
			continue
		case errors.Is(err, io.EOF):
			send(streamPart{err: fmt.Errorf("%w: the camera ended the stream", link.ErrUnplugged)})
			return
		case err != nil:
			send(streamPart{err: err})
			return
		}
		part := streamPart{
			mediaType: p.MediaType(), name: cmpOr(p.FileName(), p.Name()), id: p.Header["content-id"],
			body: bytes.Clone(p.Body), truncated: p.Truncated,
		}
		if !send(part) {
			return
		}
	}
}

// endOfAlert ends a bare document.
var endOfAlert = []byte("</EventNotificationAlert>")

// readDocuments reads bare documents.
func readDocuments(r io.Reader, send func(streamPart) bool) {
	var held []byte
	b := make([]byte, 16<<10)
	for {
		n, err := r.Read(b)
		held = append(held, b[:n]...)
		for {
			i := bytes.Index(held, endOfAlert)
			if i < 0 {
				break
			}
			if !send(streamPart{mediaType: "application/xml", body: bytes.Clone(held[:i+len(endOfAlert)])}) {
				return
			}
			held = held[i+len(endOfAlert):]
		}
		if len(held) > hikvision.MaxDocument {
			send(streamPart{err: fmt.Errorf("the camera sends neither parts nor alerts: %d bytes without the end of one", len(held))})
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: the camera ended the stream", link.ErrUnplugged)
			}
			send(streamPart{err: err})
			return
		}
	}
}

// isPicture says whether a part is a picture, by its content if it says nothing.
func isPicture(mediaType string, body []byte) bool {
	return strings.HasPrefix(mediaType, "image/") || bytes.HasPrefix(body, []byte{0xff, 0xd8})
}
