package drivers

import (
	"context"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// pauser is a bus whose time is not the clock's: that of a script.
type pauser interface {
	Pause(ctx context.Context, d time.Duration) error
}

// Pause waits between two looks at a bus, until ctx ends at the most.
func Pause(ctx context.Context, bus link.Bus, d time.Duration) error {
	if p, ok := bus.(pauser); ok {
		return p.Pause(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
