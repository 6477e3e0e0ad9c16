package drivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Exchange is one message of a script: an HTTP request that an instrument sends, its
// answer to one, or what it publishes over MQTT.
type Exchange struct {
	// At is the moment, counted from ScriptStart.
	At time.Duration
	// Method of a request; empty is POST.
	Method string
	// Path of a request is what follows the device's own path; that of an answer is
	// how the path and query begin that it is the answer to; that of a message over
	// MQTT is its topic.
	Path string
	// Retained: a message that the broker had before.
	Retained    bool
	ContentType string
	// Status of an answer; 0 is 200.
	Status int
	Body   []byte
}

// Reply is what a driver answered to a request.
type Reply struct {
	Status      int
	ContentType string
	Body        []byte
}

// PlayRequests runs d over an inbox into which the requests of the script come,
// each after the one before was answered. Then the device goes away.
func PlayRequests(ctx context.Context, d Instrument, script []Exchange) (Played, error) {
	p := &player{ctx: ctx, start: ScriptStart(), now: ScriptStart()}
	inbox := link.NewInbox()
	ended := make(chan error, 1)
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- d.Run(runCtx, inbox, scriptedHost{p}) }()
	var runErr error
	running := true
	for _, x := range script {
		p.mu.Lock()
		p.now = p.start.Add(x.At)
		p.mu.Unlock()
		target, err := url.Parse(x.Path)
		if err != nil {
			return Played{}, fmt.Errorf("play: path %q: %w", x.Path, err)
		}
		method := x.Method
		if method == "" {
			method = http.MethodPost
		}
		answered := make(chan struct{})
		var reply Reply
		var offerErr error
		go func() {
			defer close(answered)
			header := http.Header{"Content-Type": {x.ContentType}}
			reply.Status, reply.ContentType, reply.Body, offerErr = inbox.Offer(runCtx, &link.Delivery{
				Method: method, Path: target.Path, Target: target.Path, Query: target.Query(), Header: header, ContentType: x.ContentType, Body: x.Body, At: p.start.Add(x.At),
			})
		}()
		select {
		case <-answered:
		case runErr = <-ended:
			running = false
			cancel()
			<-answered
		}
		if offerErr != nil {
			break
		}
		p.mu.Lock()
		p.played.Replies = append(p.played.Replies, reply)
		p.mu.Unlock()
	}
	if running {
		cancel()
		runErr = <-ended
	}
	_ = inbox.Close() // nobody uses it any more
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case runErr == nil:
		return p.played, errors.New("play: the driver ended without a reason")
	case errors.Is(runErr, context.Canceled), errors.Is(runErr, link.ErrClosed):
		return p.played, ctx.Err()
	}
	return p.played, runErr
}

// PlayResponses runs d over a client whose requests are answered from the script:
// each gets the first answer that is not used yet and whose Path begins it. A
// request that none is left for finds the device gone.
func PlayResponses(ctx context.Context, d Instrument, script []Exchange) (Played, error) {
	p := &player{ctx: ctx, start: ScriptStart(), now: ScriptStart()}
	c := link.ClientOver(&scriptedDevice{p: p, script: script, used: make([]bool, len(script))})
	err := d.Run(ctx, c, scriptedHost{p})
	_ = c.Close() // nobody uses it any more
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		return p.played, errors.New("play: the driver ended without a reason")
	case errors.Is(err, link.ErrUnplugged):
		return p.played, nil
	}
	return p.played, err
}

type scriptedDevice struct {
	p      *player
	script []Exchange
	used   []bool
}

// RoundTrip implements http.RoundTripper.
func (s *scriptedDevice) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close() // the script does not look at it
	}
	target := r.URL.RequestURI()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for i, x := range s.script {
		if s.used[i] || !strings.HasPrefix(target, x.Path) {
			continue
		}
		s.used[i] = true
		if at := s.p.start.Add(x.At); at.After(s.p.now) {
			s.p.now = at
		}
		status := x.Status
		if status == 0 {
			status = http.StatusOK
		}
		return &http.Response{
			StatusCode: status, Status: strconv.Itoa(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Type": {x.ContentType}}, ContentLength: -1,
			Body: io.NopCloser(bytes.NewReader(x.Body)), Request: r,
		}, nil
	}
	return nil, fmt.Errorf("play: nothing answers %s: %w", target, link.ErrUnplugged)
}

// ScriptPrefix is the prefix of the link of PlayMessages: what a connect URL has behind
// the broker.
const ScriptPrefix = "own"

// PlayMessages runs d over a subscription to which the messages of the script come,
// each after the one before was confirmed. Then the broker goes away.
func PlayMessages(ctx context.Context, d Instrument, script []Exchange) (Played, error) {
	p := &player{ctx: ctx, start: ScriptStart(), now: ScriptStart()}
	s := link.NewSubscriber(ScriptPrefix)
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, s, scriptedHost{p})
		_ = s.Close() // so that Offer does not wait
	}()
	for _, x := range script {
		p.mu.Lock()
		p.now = p.start.Add(x.At)
		p.mu.Unlock()
		if err := s.Offer(ctx, &link.Message{Topic: x.Path, Payload: x.Body, Retained: x.Retained}); err != nil {
			break // Run says why
		}
	}
	_ = s.Close() // nobody uses it any more
	err := <-ended
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		return p.played, errors.New("play: the driver ended without a reason")
	case errors.Is(err, link.ErrClosed):
		return p.played, ctx.Err()
	}
	return p.played, err
}
