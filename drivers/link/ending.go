package link

import (
	"context"
	"os"
	"sync"
	"time"
)

// ending ends the waits of a link that is not read by Read: at its read deadline,
// and when it is closed.
type ending struct {
	over context.Context
	end  context.CancelCauseFunc

	wakeMu sync.Mutex
	wake   *time.Timer
}

func newEnding() *ending {
	e := &ending{}
	e.over, e.end = context.WithCancelCause(context.Background())
	return e
}

// SetReadDeadline ends everything that waits, and what waits later, at t.
func (e *ending) SetReadDeadline(t time.Time) error {
	e.wakeMu.Lock()
	defer e.wakeMu.Unlock()
	if e.wake != nil {
		e.wake.Stop()
		e.wake = nil
	}
	if !t.IsZero() {
		e.wake = time.AfterFunc(time.Until(t), func() { e.end(os.ErrDeadlineExceeded) })
	}
	return nil
}
