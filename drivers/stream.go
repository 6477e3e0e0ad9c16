package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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

// Stream is what an instrument on a line or a connection sends in frames.
type Stream struct {
	// Of is who sends, for errors: "the plate reader".
	Of string
	// Take gets what came.
	Take func([]byte) error
	// Pending is how many bytes wait for the rest of a frame.
	Pending func() int
	// Pause is how long the line must be silent for what waits to be broken off, or
	// complete; 0 is never. Idle is called then, and at the end.
	Pause time.Duration
	Idle  func() error
	// Tick, if there is one, is called before each read, and at the latest at the moment of
	// Due; zero for never.
	Tick func() error
	Due  func() time.Time
}

// Run reads until the link fails, and returns why.
func (s Stream) Run(ctx context.Context, conn link.Conn, h Host) error {
	buf := make([]byte, streamRead)
	heard := h.Now()
	for {
		var deadline time.Time
		if s.Tick != nil {
			if err := s.Tick(); err != nil {
				return err
			}
			deadline = s.Due()
		}
		now, pausing := h.Now(), s.Pause > 0 && s.Pending() > 0
		if pausing {
			deadline = Sooner(deadline, heard.Add(s.Pause))
		}
		if soonest := now.Add(streamGrace); !deadline.IsZero() && deadline.Before(soonest) {
			deadline = soonest
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return s.end(fmt.Errorf("set the read deadline of the link of %s: %w", s.Of, err))
		}
		// After the deadline, so that one that was set to wake this loop is not
		// overwritten unseen.
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		n, err := conn.Read(buf)
		if n > 0 {
			if err := s.Take(buf[:n]); err != nil {
				return err
			}
			heard = h.Now()
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.end(ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded) && !deadline.IsZero():
			switch now := h.Now(); {
			case now.Sub(deadline) > streamLate:
				heard = now // it may have sent meanwhile
			case pausing && now.Sub(heard) >= s.Pause:
				if err := s.Idle(); err != nil {
					return err
				}
			}
		default:
			return s.end(fmt.Errorf("read from %s: %w", s.Of, err))
		}
	}
}

// Sooner is the earlier of two moments, of which zero is never.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s Stream) end(reason error) error {
	if err := s.Idle(); err != nil {
		return err
	}
	return reason
}
