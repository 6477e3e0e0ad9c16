package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxHostAnswer bounds what a camera reads of its host's answer.
const maxHostAnswer = 64 << 10

// outbox is what a camera that sends by itself keeps until its host took it. It sends
// in order, one at a time.
type outbox struct {
	env cameraEnv
	// most is how much it keeps; what is oldest is lost then.
	most int

	mu      sync.Mutex
	waiting []*letter
	sending bool
}

// letter is one message.
type letter struct {
	s Sighting
	// last: it is the last of its sighting.
	last bool
	// send is called until it returns nil.
	send  func(context.Context) error
	tried bool
}

func (o *outbox) put(l letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= o.most {
		o.env.Told(o.waiting[0].s, "lost")
		o.waiting = o.waiting[1:]
	}
	o.waiting = append(o.waiting, &l)
}

// send sends what waits. With a clock it gives up at the first that nobody takes, and
// the camera tries again later; without one it goes on trying.
func (o *outbox) send(ctx context.Context) error {
	o.mu.Lock()
	if o.sending {
		o.mu.Unlock()
		return nil
	}
	o.sending = true
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.sending = false
		o.mu.Unlock()
	}()
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 {
			o.mu.Unlock()
			return nil
		}
		l := o.waiting[0]
		again := l.tried
		l.tried = true
		o.mu.Unlock()
		if err := l.send(ctx); err != nil {
			if !o.env.Fast {
				return nil //nolint:nilerr // it is tried again
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-o.env.Done:
				return nil
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		o.mu.Lock()
		if len(o.waiting) > 0 && o.waiting[0] == l { // else it made room for another meanwhile
			o.waiting = o.waiting[1:]
		}
		o.mu.Unlock()
		if l.last {
			o.env.Told(l.s, map[bool]string{false: "sent", true: "resent"}[again])
		}
	}
}

// post posts to the host, at what follows its path, and gives its answer. A status
// that is not 200 to 299 is an error.
func (e *cameraEnv) post(ctx context.Context, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.Settings.Push+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := e.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxHostAnswer))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("the host answered with %d", resp.StatusCode)
	}
	return said, err
}

// needsPush refuses settings without a host to send to.
func (s CameraSettings) needsPush(model string) error {
	if s.Push == "" {
		return fmt.Errorf("a camera of model %s sends by itself: set push to http://HOST:PORT/PATH", model)
	}
	return nil
}

// sender is a camera that only sends: nothing of it can be asked for.
type sender struct{}

// ServeHTTP implements http.Handler.
func (sender) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
