package supervise

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// watchEvery is how often silence is looked for.
func (s *Supervisor) watchEvery() time.Duration {
	return min(max(s.dev.Silence/10, 10*time.Millisecond), time.Second)
}

func (s *Supervisor) isSilent(opened time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isSilentLocked(opened)
}

func (s *Supervisor) isEmitting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emitting > 0
}

func (s *Supervisor) isSilentLocked(opened time.Time) bool {
	if s.emitting > 0 {
		return false // the disk is slow, not the device
	}
	// What came while an event waited for the disk is still to be read: the
	// device gets its whole time anew.
	from := opened
	for _, t := range []time.Time{s.lastValid, s.held} {
		if t.After(from) {
			from = t
		}
	}
	return time.Since(from) > s.dev.Silence
}

// strange says of what came and made no record what it looks like; empty if nothing came,
// or it looks like nothing known. It may take a while: the sample is played to drivers.
func (s *Supervisor) strange() string {
	s.mu.Lock()
	sample := slices.Clone(s.sample)
	s.mu.Unlock()
	if len(sample) == 0 {
		return ""
	}
	if s.dev.Belongs != nil {
		if text := s.dev.Belongs(sample); text != "" {
			return text
		}
	}
	return link.Strange(s.dev.Endpoint, sample)
}

// silent tells that the device is, and what is strange of what came. It reports false if
// a record has come meanwhile.
func (s *Supervisor) silent(opened time.Time, strange string) bool {
	s.mu.Lock()
	if !s.isSilentLocked(opened) {
		s.mu.Unlock()
		return false
	}
	e := event.DeviceSilent{
		Connect: s.state.Connect, LastValid: s.lastValidLocked(),
		LimitS: s.dev.Silence.Seconds(), BytesSince: s.bytes,
		Hint: "check that the instrument is switched on and its data cable is in",
	}
	if s.bytes > 0 {
		if strange == "" {
			strange = "check the profile"
		}
		e.Hint = fmt.Sprintf("%d bytes came, none of them a record: %s", s.bytes, strange)
	}
	s.setLocked("silent", fmt.Sprintf("no valid record for %s", s.dev.Silence), e.Hint)
	first := s.announced != "silent"
	s.announced = "silent"
	s.mu.Unlock()
	s.hooks.Changed()
	if first {
		s.hooks.Log.Warn("device is silent", "limit", s.dev.Silence, "hint", e.Hint)
		s.emit(e, time.Now())
	}
	return true
}

func (s *Supervisor) countBytes(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(n)
}

// watchedConn counts bytes, shows them to whoever reads along, and once woken keeps its read deadline in the past,
// so that a driver which is just about to set a later one can't sleep on.
type watchedConn struct {
	link.Conn
	s *Supervisor
	r *reading

	mu    sync.Mutex
	woken bool
}

// Unwrap gives the link itself, for link.As.
func (c *watchedConn) Unwrap() link.Conn { return c.Conn }

func (c *watchedConn) Read(p []byte) (int, error) {
	began := time.Now()
	n, err := c.Conn.Read(p)
	c.s.noteRead(c.r, err != nil || time.Since(began) > time.Millisecond)
	c.s.countBytes(n)
	c.s.keepSample(p[:n])
	if n > 0 && c.s.hooks.Received != nil {
		c.s.hooks.Received(time.Now(), p[:n])
	}
	return n, err
}

func (c *watchedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.woken {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *watchedConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	// If this fails the link is broken, and the read returns for that reason.
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}
