package anpr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

const (
	streamRead = 16 << 10
	// streamGrace is how long a read must find nothing before a pause is believed,
	// and streamLate how much later than asked it may return before the time is
	// taken for the process's own pause and not for the reader's.
	streamGrace = 10 * time.Millisecond
	streamLate  = 500 * time.Millisecond
)

// stream is what a reader on a line or a connection sends.
type stream struct {
	// take gets what came.
	take func([]byte) error
	// pending is how many bytes wait for the rest of a frame.
	pending func() int
	// pause is how long the line must be silent for what waits to be broken off, or
	// complete; 0 is never. idle is called then, and at the end.
	pause time.Duration
	idle  func() error
}

// run reads until the link fails, and returns why.
func (s stream) run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	buf := make([]byte, streamRead)
	for {
		var deadline time.Time
		if s.pause > 0 && s.pending() > 0 {
			deadline = h.Now().Add(max(s.pause, streamGrace))
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return s.end(fmt.Errorf("set the read deadline of the reader's link: %w", err))
		}
		// After the deadline, so that one that was set to wake this loop is not
		// overwritten unseen.
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		n, err := conn.Read(buf)
		if n > 0 {
			if err := s.take(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.end(ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded) && !deadline.IsZero():
			if h.Now().Sub(deadline) > streamLate {
				continue
			}
			if err := s.idle(); err != nil {
				return err
			}
		default:
			return s.end(fmt.Errorf("read from the plate reader: %w", err))
		}
	}
}

func (s stream) end(reason error) error {
	if err := s.idle(); err != nil {
		return err
	}
	return reason
}

// maxConns is how many connections of one reader are read at a time.
const maxConns = 8

// acceptAll reads each connection that a reader makes. What read returns matters
// only if the agent stops: a reader may make a connection for each message.
func acceptAll(ctx context.Context, a *link.Acceptor, h drivers.Host, read func(context.Context, link.Conn) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	places := make(chan struct{}, maxConns)
	for {
		conn, err := a.Accept(ctx)
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			_ = conn.Close() // nothing was read from it
			return context.Cause(ctx)
		}
		running.Go(func() {
			defer func() {
				if p := recover(); p != nil { // the agent contains those of Run only
					cancel(fmt.Errorf("a connection of the reader: panic: %v", p))
				}
				_ = conn.Close() // it was read to its end
				<-places
			}()
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
			defer stop()
			if err := read(ctx, conn); ctx.Err() == nil && !errors.Is(err, link.ErrUnplugged) {
				h.Log().Debug("a connection of the reader ended", "error", err)
			}
		})
	}
}
