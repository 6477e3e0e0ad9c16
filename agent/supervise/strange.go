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
	// own: it was told with what the device observed, which counts more than what its web
	// server says.
	own        bool
	text, hint string
}

// sawClock notes by how much the device's clock is ahead of the box's.
func (s *Supervisor) sawClock(offset time.Duration, own bool) {
	text, hint := drivers.ClockWords(offset)
	s.mu.Lock()
	// The figure moves a little with each message; that is no news.
	wrong := (text != "") != (s.clock.text != "")
	if s.clock.own && !own || !wrong {
		s.clock.own = s.clock.own || own
		s.mu.Unlock()
		return
	}
	s.clock = deviceClock{own: s.clock.own || own, text: text, hint: hint}
	if s.state.State == "online" {
		s.setLocked("online", text, hint)
	}
	s.mu.Unlock()
	s.hooks.Changed()
	if text != "" {
		s.hooks.Log.Warn("the device's clock is wrong", "offset_s", offset.Seconds(), "err", text, "hint", hint)
	} else {
		s.hooks.Log.Info("the device's clock is right again", "offset_s", offset.Seconds())
	}
}
