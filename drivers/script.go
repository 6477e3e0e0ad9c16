package drivers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Chunk is what an instrument sends at one moment of a script. One without
// bytes lets time pass.
type Chunk struct {
	// At is the moment, counted from ScriptStart. It never runs backwards in a
	// script.
	At    time.Duration
	Bytes []byte
}

// Played is what a driver made of a script.
type Played struct {
	// Observations holds what it emitted, in order.
	Observations []Observation
	// Valid counts the well-formed records that it reported.
	Valid int
	// Unparsed holds what it could not understand, in order.
	Unparsed []UnparsedBytes
	// Written counts what it sent to the device.
	Written int
	// Replies holds what it answered to the requests of PlayRequests, in order.
	Replies []Reply
}

// MemoryLedger is a Ledger that lasts as long as it is referred to, for tests and
// scripts. It has the bounds of the agent's.
type MemoryLedger struct {
	// Most is how many keys it holds; MaxLedgerKeys if it is 0.
	Most int

	mu     sync.Mutex
	values map[string]string
}

// Get implements Ledger.
func (l *MemoryLedger) Get(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.values[key]
}

// Put implements Ledger.
func (l *MemoryLedger) Put(key, value string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.values == nil {
		l.values = map[string]string{}
	}
	_, known := l.values[key]
	switch {
	case key == "" || len(key) > MaxLedgerText || len(value) > MaxLedgerText:
		return fmt.Errorf("the ledger takes keys and values of at most %d bytes", MaxLedgerText)
	case !known && value != "" && len(l.values) >= cmp.Or(l.Most, MaxLedgerKeys):
		return errors.New("the ledger is full")
	}
	if l.values[key] = value; value == "" {
		delete(l.values, key)
	}
	return nil
}

// Each implements Ledger.
func (l *MemoryLedger) Each(prefix string, f func(key, value string) bool) {
	l.mu.Lock()
	all := maps.Clone(l.values)
	l.mu.Unlock()
	for k, v := range all {
		if strings.HasPrefix(k, prefix) && !f(k, v) {
			return
		}
	}
}

// UnparsedBytes is one piece that a driver could not understand.
type UnparsedBytes struct {
	Reason string
	Raw    []byte
}

// ScriptStart is the time that a script's moments count from.
func ScriptStart() time.Time { return time.Date(2026, time.January, 5, 6, 0, 0, 0, time.UTC) }

// Play runs d over one connection on which the script is sent, in virtual time:
// reading takes no time, and waiting takes none either, but the clock that the
// driver sees moves as if it did. The link opens at the moment of the first
// chunk; the other side hangs up right after the last one. The same script
// always plays alike. Play again on the same instrument, with later moments,
// for another connection.
//
// The error is what Run returned, unless that is the hanging up.
func Play(ctx context.Context, d Instrument, script []Chunk) (Played, error) {
	return PlayWith(ctx, &MemoryLedger{}, d, script)
}

// PlayWith is Play with what the device's ledger holds, and keeps.
func PlayWith(ctx context.Context, ledger Ledger, d Instrument, script []Chunk) (Played, error) {
	p := &player{ctx: ctx, start: ScriptStart(), ledger: ledger, more: func() (Chunk, error) {
		if len(script) == 0 {
			return Chunk{}, io.EOF
		}
		next := script[0]
		script = script[1:]
		return next, nil
	}}
	p.begin()
	err := d.Run(ctx, scriptedConn{p}, scriptedHost{p})
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

// maxIdleReads bounds how often a driver may read in vain without the clock
// moving, so that a driver which sets its deadlines wrongly fails instead of
// running for ever.
const maxIdleReads = 1000

var errSpins = fmt.Errorf("play: the driver read %d times with a deadline that had passed", maxIdleReads)

type player struct {
	ctx   context.Context
	start time.Time

	mu       sync.Mutex
	now      time.Time
	deadline time.Time
	// more gives the chunk after the last one, and io.EOF or what is wrong when there
	// is none.
	more   func() (Chunk, error)
	chunk  *Chunk // the one that is being read; nil if more is to be asked
	sent   int    // bytes of it already read
	over   error  // what more ended with
	idle   int    // reads in vain since the clock moved
	closed bool
	played Played
	ledger Ledger  // made at the first use if there is none
	to     *Replay // gets what the driver says in place of played; nil in a script
}

// begin sets the clock to the moment of the first chunk.
func (p *player) begin() {
	p.now = p.start
	if next := p.next(); next != nil {
		p.now = p.start.Add(next.At)
	}
}

// next is the chunk that is being read, nil at the end.
func (p *player) next() *Chunk {
	if p.chunk == nil && p.over == nil {
		c, err := p.more()
		if err != nil {
			p.over = err
			return nil
		}
		p.chunk, p.sent = &c, 0
	}
	return p.chunk
}

// scriptedConn and scriptedHost are the two sides of a player; apart, since
// link.Conn and Host must not be mistaken for each other.
type (
	scriptedConn struct{ p *player }
	scriptedHost struct{ p *player }
)

func (c scriptedConn) Read(b []byte) (int, error) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, link.ErrClosed
		case p.ctx.Err() != nil: // the agent wakes a driver so
			return 0, p.timeout()
		case !p.deadline.IsZero() && !p.deadline.After(p.now):
			return 0, p.timeout()
		}
		next := p.next()
		if next == nil {
			return 0, link.ErrUnplugged
		}
		if at := p.start.Add(next.At); at.After(p.now) {
			if !p.deadline.IsZero() && p.deadline.Before(at) {
				p.now, p.idle = p.deadline, 0
				return 0, p.timeout()
			}
			p.now, p.idle = at, 0
		}
		n := copy(b, next.Bytes[p.sent:])
		p.sent += n
		if p.sent == len(next.Bytes) {
			p.chunk = nil
		}
		if n > 0 {
			p.idle = 0
			return n, nil
		}
		if len(b) == 0 {
			return 0, io.ErrShortBuffer
		}
	}
}

func (p *player) timeout() error {
	if p.idle++; p.idle > maxIdleReads {
		return errSpins
	}
	return fmt.Errorf("play: %w", os.ErrDeadlineExceeded)
}

func (c scriptedConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.played.Written++
	if c.p.to != nil {
		c.p.to.Written++
	}
	return len(b), nil
}

func (c scriptedConn) SetReadDeadline(t time.Time) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.deadline = t
	return nil
}

func (c scriptedConn) Close() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.closed = true
	return nil
}

func (h scriptedHost) Now() time.Time {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	return h.p.now
}

func (h scriptedHost) Emit(o Observation) error {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.p.to != nil {
		return h.p.to.Observed(o)
	}
	h.p.played.Observations = append(h.p.played.Observations, o)
	return nil
}

func (h scriptedHost) Valid() {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.played.Valid++
	if h.p.to != nil {
		h.p.to.Valid++
	}
}

func (h scriptedHost) Unparsed(reason string, raw []byte) {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.p.to != nil {
		h.p.to.Unparsed(reason, raw)
		return
	}
	h.p.played.Unparsed = append(h.p.played.Unparsed, UnparsedBytes{reason, bytes.Clone(raw)})
}

func (h scriptedHost) Ledger() Ledger {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.p.to != nil {
		return &h.p.to.ledger
	}
	if h.p.ledger == nil {
		h.p.ledger = &MemoryLedger{}
	}
	return h.p.ledger
}

func (scriptedHost) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }
