package link

import (
	"net/http"
	"sync"
	"time"
)

// webClock is what the answers of a device tell of its clock.
type webClock struct {
	mu     sync.Mutex
	known  bool
	offset time.Duration
}

// answered takes the Date of an answer that came at now. It has whole seconds, so that the
// middle of one is nearest to the truth.
func (c *webClock) answered(date string, now time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return // many devices tell none
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.offset = true, at.Add(time.Second/2).Sub(now)
}

// DeviceClock is by how much the clock of the device was ahead of this machine's when it
// last answered, to about a second; false if it has not told.
func (c *Client) DeviceClock() (offset time.Duration, ok bool) {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	return c.clock.offset, c.clock.known
}
