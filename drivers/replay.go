package drivers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Replay plays what was captured of an instrument, in virtual time as Play does, and holds
// no more of it than one chunk. It is for one goroutine.
type Replay struct {
	// Start is the time that the moments of the chunks count from.
	Start time.Time
	// Observed takes each observation, and Unparsed what could not be understood, which
	// it must not keep. What Observed returns, the driver gets from Host.Emit.
	Observed func(Observation) error
	Unparsed func(reason string, raw []byte)

	// Valid counts the well-formed records, Written what the driver sent to the device,
	// Read the bytes that it read.
	Valid, Written, Read int64

	ledger MemoryLedger
	rest   *Chunk // what the driver left of a connection that it ended itself
}

// ErrPanic says that a driver panicked: it must not be used again.
var ErrPanic = errors.New("the driver panicked")

// Connection runs d over one connection. next gives the chunks in order, and io.EOF when
// the other side has hung up; any other error of it is returned. ended is nil if the driver
// read to that end, and else why it ended the connection itself: what is left is given to
// the next call.
func (r *Replay) Connection(ctx context.Context, d Instrument, next func() (Chunk, error)) (ended, err error) {
	p := &player{ctx: ctx, start: r.Start, more: next, chunk: r.rest, to: r}
	r.rest = nil
	p.begin()
	counted := countedConn{scriptedConn{p}, r}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrPanic, v)
		}
	}()
	ended = d.Run(ctx, counted, scriptedHost{p})
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over != nil && !errors.Is(p.over, io.EOF):
		return nil, p.over
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case p.over != nil && p.chunk == nil && (ended == nil || errors.Is(ended, link.ErrUnplugged)):
		return nil, nil
	case ended == nil:
		ended = errors.New("it gave no reason")
	}
	if p.chunk != nil && p.sent < len(p.chunk.Bytes) {
		r.rest = &Chunk{At: p.chunk.At, Bytes: p.chunk.Bytes[p.sent:]}
	}
	return ended, nil
}

// countedConn counts what is read.
type countedConn struct {
	scriptedConn
	r *Replay
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.scriptedConn.Read(b)
	c.r.Read += int64(n)
	return n, err
}

// Drop forgets what was left of a connection.
func (r *Replay) Drop() { r.rest = nil }
