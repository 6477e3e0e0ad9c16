package agent

import (
	"sync"
	"time"
)

// clockQualityFor is how long one answer of the kernel is used: asking costs a
// system call, and the answer moves slowly.
const clockQualityFor = 10 * time.Second

// clock stamps events with the quality of the wall clock.
type clock struct {
	mu         sync.Mutex
	asked      time.Time
	sync       string
	maxErrorMs *int64
}

func (c *clock) quality(now time.Time) (sync string, maxErrorMs *int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() || now.Sub(c.asked) > clockQualityFor {
		c.sync, c.maxErrorMs = clockQuality()
		c.asked = now
	}
	return c.sync, c.maxErrorMs
}

// clockStepLimit is by how much wall and monotonic clock may drift apart
// between two looks before it counts as a step. Slewing moves at most 0.5 ms
// per second.
const clockStepLimit = time.Second

// clockStep compares two looks at the clock, each with wall and monotonic
// reading, and tells by how much the wall clock was stepped in between; zero if
// it was not.
func clockStep(before, now time.Time) time.Duration {
	wall := now.Round(0).Sub(before.Round(0))
	step := wall - now.Sub(before)
	if step.Abs() < clockStepLimit {
		return 0
	}
	return step
}
