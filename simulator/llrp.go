package simulator

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/llrp"
)

// Times of a simulated RFID reader.
const (
	reportsPerTag  = 4 // a report each second
	keepaliveEvery = 10 * time.Second
	// maxUnanswered keepalives, and the client is taken for dead.
	maxUnanswered = 2
	// maxHeld bounds the tags that are held back for a client.
	maxHeld = 10000
)

// llrpSwitches are what RFID readers do, or may do.
var llrpSwitches = []string{
	"keepalives", // it asks whether the client is there
	"held-back",  // nothing is told before the client has enabled it
	"long-epc",   // tags with 128 bits instead of 96
	"epc-only",   // no antenna, signal or time is told
	"damaged",    // each fifth report is damaged
	"dribble",    // one byte at a time
	"closes",     // it ends the connection after each third vehicle
	"refuses",    // the first client is told that there is another one
}

// rfidReader is an RFID reader on LLRP. It needs no setup: it reads from the beginning.
type rfidReader struct {
	env cameraEnv

	mu         sync.Mutex
	session    int
	id         uint32
	enabled    bool
	held       []llrp.Tag
	present    []*presentTag
	reports    int
	unanswered int
	inbox      llrp.Splitter
	answers    [][]byte
	changed    chan struct{} // a hint that something was heard
}

type presentTag struct {
	tag  llrp.Tag
	left int
}

func newLLRPReader(env cameraEnv) (cameraModel, error) {
	r := &rfidReader{env: env, changed: make(chan struct{}, 1)}
	if env.Hear != nil {
		env.Hear(r.heard)
	}
	return r, nil
}

// ServeHTTP implements http.Handler; a reader serves nothing by HTTP.
func (r *rfidReader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// heard takes what a client sends.
func (r *rfidReader) heard(session int, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if session != r.session {
		return // it was greeted by nobody
	}
	r.inbox.Write(b)
	for {
		m, ok, err := r.inbox.Next()
		if err != nil || !ok {
			break
		}
		switch m.Type {
		case llrp.EnableEventsAndReports:
			r.enabled = true
		case llrp.KeepaliveAck:
			r.unanswered = 0
		case llrp.GetReport:
			r.answers = append(r.answers, llrp.Message{Type: llrp.ROAccessReport, ID: m.ID}.Append(nil))
		default:
			r.answers = append(r.answers, llrp.Message{Type: llrp.ErrorMessage, ID: m.ID}.Append(nil))
		}
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// ready greets a new client. It reports whether there is one that may be told of tags.
func (r *rfidReader) ready(ctx context.Context, now time.Time) (bool, error) {
	n := r.env.Line.session()
	r.mu.Lock()
	fresh := n != r.session
	if fresh {
		r.session, r.inbox, r.answers, r.enabled, r.unanswered = n, llrp.Splitter{}, nil, !r.env.Settings.Has("held-back"), 0
	}
	r.mu.Unlock()
	if fresh {
		e := llrp.Event{UTC: now, Attempt: true}
		refused := n == 1 && r.env.Settings.Has("refuses")
		if refused {
			e.Status = 2
		}
		if _, err := r.send(ctx, llrp.ReaderEventNotification, llrp.AppendEvent(nil, e)); err != nil {
			return false, err
		}
		if refused {
			return false, r.env.Line.breakOff(0)
		}
	}
	r.mu.Lock()
	answers, enabled := r.answers, r.enabled
	r.answers = nil
	r.mu.Unlock()
	for _, b := range answers {
		if _, err := r.env.Line.send(ctx, b); err != nil {
			return false, err
		}
	}
	return enabled && n > 0, nil
}

func (r *rfidReader) send(ctx context.Context, t llrp.Type, payload []byte) (bool, error) {
	r.id++
	b := llrp.Message{Type: t, ID: r.id, Payload: payload}.Append(nil)
	step := len(b)
	if r.env.Settings.Has("dribble") {
		step = 1
	}
	for i := 0; i < len(b); i += step {
		if ok, err := r.env.Line.send(ctx, b[i:i+step]); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// report tells of a tag.
func (r *rfidReader) report(ctx context.Context, t llrp.Tag) error {
	payload := llrp.AppendReport(nil, t)
	if r.reports++; r.env.Settings.Has("damaged") && r.reports%5 == 0 {
		payload[3] += 7 // it says that it is longer than it is
	}
	_, err := r.send(ctx, llrp.ROAccessReport, payload)
	return err
}

func (r *rfidReader) observe(ctx context.Context, s Sighting) error {
	if s.Trailer {
		return nil
	}
	has := r.env.Settings.Has
	t := llrp.Tag{EPC: make([]byte, 12), Antenna: 1, RSSI: int8(-45 - int(s.Serial%20)), HasRSSI: true, FirstSeen: s.When}
	if has("long-epc") {
		t.EPC = make([]byte, 16)
	}
	rng := newRand(r.env.Seed, "tag", strconv.Itoa(s.Vehicle))
	for i := range t.EPC {
		t.EPC[i] = byte(rng.Uint32())
	}
	if has("epc-only") {
		t.Antenna, t.HasRSSI, t.FirstSeen = 0, false, time.Time{}
	}
	r.env.Tagged(TagTruth{Kind: "tag", AtS: seconds(s.At), Vehicle: s.Vehicle, EPC: strings.ToUpper(hex.EncodeToString(t.EPC))})
	if !r.env.Fast {
		r.mu.Lock()
		r.present = append(r.present, &presentTag{t, reportsPerTag})
		r.mu.Unlock()
		return nil
	}
	if err := r.greeted(ctx); err != nil {
		return err
	}
	for range reportsPerTag {
		if err := r.report(ctx, t); err != nil {
			return err
		}
	}
	if has("closes") && s.Serial%3 == 0 {
		return r.hangUp(ctx)
	}
	return nil
}

// greeted waits for a client that may be told of tags.
func (r *rfidReader) greeted(ctx context.Context) error {
	for {
		if err := r.env.Line.client(ctx); err != nil {
			return err
		}
		if ok, err := r.ready(ctx, r.env.Now()); ok || err != nil {
			return err
		}
		select {
		case <-r.changed:
		case <-time.After(10 * time.Millisecond): // it may be another client already
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rfidReader) hangUp(ctx context.Context) error {
	if _, err := r.send(ctx, llrp.ReaderEventNotification, llrp.AppendEvent(nil, llrp.Event{UTC: r.env.Now(), Closing: true})); err != nil {
		return err
	}
	for at := r.env.Line.session(); r.env.Fast && r.env.Line.session() == at; {
		// The client goes by itself; what it has not read is not taken from it.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.env.Done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *rfidReader) tick(ctx context.Context, at time.Duration) {
	if err := r.second(ctx, at); err != nil && ctx.Err() == nil {
		r.env.Log.Warn("an RFID reader can't talk", "error", err)
	}
}

func (r *rfidReader) second(ctx context.Context, at time.Duration) error {
	ok, err := r.ready(ctx, r.env.Clock(at))
	if err != nil {
		return err
	}
	if r.env.Settings.Has("keepalives") && at%keepaliveEvery == 0 && ok {
		r.mu.Lock()
		r.unanswered++
		dead := r.unanswered > maxUnanswered
		r.mu.Unlock()
		if dead && !r.env.Fast {
			return r.env.Line.breakOff(0)
		}
		if _, err := r.send(ctx, llrp.Keepalive, nil); err != nil {
			return err
		}
	}
	r.mu.Lock()
	var tell []llrp.Tag
	if ok {
		tell, r.held = r.held, nil
	}
	kept := r.present[:0]
	for _, p := range r.present {
		if ok {
			tell = append(tell, p.tag)
		} else if len(r.held) < maxHeld {
			r.held = append(r.held, p.tag)
		}
		if p.left--; p.left > 0 {
			kept = append(kept, p)
		}
	}
	r.present = kept
	r.mu.Unlock()
	for _, t := range tell {
		if err := r.report(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
