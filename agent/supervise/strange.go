package supervise

import (
	"time"

	"github.com/lanepost/lanepost/drivers"
)

// sampleBytes is how much is kept of what comes and makes no record.
const sampleBytes = 4096

// keepSample keeps the first of the bytes since the last record.
func (s *Supervisor) keepSample(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sample = append(s.sample, b[:min(len(b), sampleBytes-len(s.sample))]...)
}

// deviceClock is what is known of the device's clock.
type deviceClock struct {
	known bool
	// own: it was told with what the device observed, which counts more than what its web
	// server says.
	own bool
	// offset is by how much it is ahead, and told what offset was when it was told last.
	offset, told time.Duration
	text, hint   string
}

// ClockOffset is by how much the device's clock is ahead of the box's; false if it has told
// no time.
func (s *Supervisor) ClockOffset() (offset time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.offset, s.clock.known
}

// sawClock notes by how much the device's clock is ahead of the box's.
func (s *Supervisor) sawClock(offset time.Duration, own bool) {
	s.mu.Lock()
	c := &s.clock
	if c.own && !own {
		s.mu.Unlock()
		return
	}
	before := c.text
	c.known, c.own, c.offset = true, own, offset
	c.text, c.hint = drivers.ClockWords(offset)
	if s.state.State == "online" {
		s.setLocked("online", c.text, c.hint)
	}
	// The figure moves a little with each message; that is no news.
	news := (c.text == "") != (before == "") || c.text != "" && (offset-c.told).Abs() >= drivers.ClockTolerance
	text, hint := c.text, c.hint
	if news {
		c.told = offset
	}
	s.mu.Unlock()
	if !news {
		return
	}
	s.hooks.Changed()
	if text != "" {
		s.hooks.Log.Warn("the device's clock is wrong", "offset_s", offset.Seconds(), "err", text, "hint", hint)
	} else {
		s.hooks.Log.Info("the device's clock is right again", "offset_s", offset.Seconds())
	}
}
