package supervise

import (
	"log/slog"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// flushUnparsed sends what could not be understood, if it is time.
func (s *Supervisor) flushUnparsed(now bool) {
	s.mu.Lock()
	u := &s.unparsed
	if u.since == 0 || (!now && !u.sent.IsZero() && time.Since(u.sent) < unparsedEvery) {
		s.mu.Unlock()
		return
	}
	e := event.DeviceUnparsed{Count: u.since, Total: s.state.Unparsed, Samples: u.samples}
	u.since, u.samples, u.sent = 0, nil, time.Now()
	s.mu.Unlock()
	s.emit(e, time.Now())
}

// host is the drivers.Host of one session.
type host struct {
	s *Supervisor
	r *reading
}

// Now stands still once the session was held up for too long: what the driver still has in
// hand was read before.
func (h host) Now() time.Time {
	h.s.mu.Lock()
	now := h.r.since
	h.s.mu.Unlock()
	if now.IsZero() {
		now = time.Now()
	}
	return now
}

func (h host) Log() *slog.Logger { return h.s.hooks.Log }

func (h host) Emit(o drivers.Observation) error {
	if offset, ok := drivers.ClockOf(o); ok {
		h.s.sawClock(offset, true)
	}
	return h.s.emitFor(h.r, h.s.counted(o))
}

func (h host) Ledger() drivers.Ledger             { return h.s.hooks.Ledger }
func (h host) Valid()                             { h.s.valid(h.r) }
func (h host) Unparsed(reason string, raw []byte) { h.s.addUnparsed(reason, raw) }

func (s *Supervisor) valid(r *reading) {
	now := time.Now()
	s.mu.Lock()
	if !r.since.IsZero() { // it is from before, and the session ends
		s.state.Records++
		s.mu.Unlock()
		return
	}
	before := s.lastValid
	s.lastValid = now
	s.bytes, s.sample = 0, s.sample[:0]
	s.state.Records++
	s.state.LastValid = s.lastValidLocked()
	if s.announced == "online" {
		s.mu.Unlock()
		return
	}
	s.announced = "online"
	s.setLocked("online", s.clock.text, s.clock.hint)
	e := event.DeviceOnline{Connect: s.state.Connect, Profile: s.dev.Profile}
	if !before.IsZero() {
		absent := now.Sub(before).Round(time.Millisecond).Seconds()
		e.AbsentS = &absent
	}
	s.mu.Unlock()
	s.hooks.Changed()
	s.hooks.Log.Info("device is online", "connect", e.Connect)
	if err := s.emitFor(r, drivers.Observation{Data: e, Time: now}); err != nil {
		s.notRecorded(e, err)
	}
}

// counted counts what could not be understood and the driver keeps whole, as an event of
// its own.
func (s *Supervisor) counted(o drivers.Observation) drivers.Observation {
	if u, ok := o.Data.(event.DeviceUnparsed); ok {
		s.mu.Lock()
		s.state.Unparsed += u.Count
		u.Total = s.state.Unparsed
		s.mu.Unlock()
		o.Data = u
	}
	return o
}

func (s *Supervisor) addUnparsed(reason string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Unparsed++
	s.unparsed.since++
	if len(s.unparsed.samples) < unparsedSamples {
		s.unparsed.samples = append(s.unparsed.samples, event.UnparsedSample{
			Time: event.At(time.Now()), Reason: reason, Raw: sampleOf(raw),
		})
	}
}

// sampleOf is a Raw that tells size and hash of all of b and carries its head.
func sampleOf(b []byte) event.Raw {
	whole := event.RawOf(b)
	if len(b) <= unparsedBytes {
		return whole
	}
	head := event.RawOf(b[:unparsedBytes])
	head.Size, head.SHA256, head.Truncated = whole.Size, whole.SHA256, true
	return head
}
