package lane

import (
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// scanCycle is a scan that is under way.
type scanCycle struct {
	id      string
	started time.Time
	before  *float64
	scans   int
	flags   []string
}

// owedAfterCut is how long a scan that was cut short may be counted later.
const owedAfterCut = 10 * time.Second

// lastCycle is what must be known of the scan before, to understand the counter.
type lastCycle struct {
	counter *float64 // the scan counter when it was looked at last
	// owed: the scan ended before it was counted, so the next count is of it.
	// owedUntil bounds that after a scan that was cut short, which many controllers do not
	// count; zero is for ever.
	owed      bool
	owedUntil time.Time
	// early: the scan that the signal is about to tell of was counted already, and told.
	early bool
}

// scanningRaw says whether the scanner scans, be it debounced or not.
func (e *signalEngine) scanningRaw() bool {
	s := e.find(scanning)
	return s != nil && (s.on() || s.raw.known && s.raw.value != 0)
}

// counts is how far the scan counter went up; nothing if it is not known, or was set.
func (e *signalEngine) counts(before, after *float64) int {
	s := e.find(scanCounter)
	if s == nil || before == nil || after == nil {
		return 0
	}
	up := *after - *before
	if up < 0 && s.Wrap > 0 {
		up += s.Wrap
	}
	if up < 0 || up > maxScansAtOnce {
		return 0
	}
	return int(up)
}

func (e *signalEngine) counter() *float64 {
	if s := e.find(scanCounter); s != nil {
		return s.now.pointer()
	}
	return nil
}

// mode is the word for the scanner's mode, or its number.
func (e *signalEngine) mode() string {
	s := e.find("mode")
	if s == nil || !s.now.known {
		return ""
	}
	if text := s.data("", time.Time{}).Text; text != "" {
		return text
	}
	return fmt.Sprint(s.now.value)
}

// scanningChanged follows the signal.
func (e *signalEngine) scanningChanged(s *signal) {
	switch {
	case !s.now.known:
		e.endCycle(s.since, "unreadable")
	case s.now.value == 0:
		end := scanning
		// What cuts a scan short may be seen a sample later than the scan's end.
		for _, o := range e.signals {
			// What was bad before the scan did not end it.
			if o.bad(o.raw) && e.cycle != nil && !o.rawSince.Before(e.cycle.started) {
				end = o.name
				break
			}
		}
		e.endCycle(s.since, end)
	case e.last.early:
		e.last.early = false
	case e.cycle == nil && !s.was.known:
		e.startCycle(s.since, e.counter(), 1, "began_before")
	case e.cycle == nil:
		e.startCycle(s.since, e.counter(), 1)
	}
}

// counted follows the scan counter, whose value was there at a time.
func (e *signalEngine) counted(s *signal, at time.Time) {
	if !s.now.known {
		return
	}
	before := e.last.counter
	e.last.counter = s.now.pointer()
	if before == nil || !e.settings.CounterEndsScan {
		return
	}
	up := e.counts(before, s.now.pointer())
	if up < 1 { // or it was set back, or to something else: no scans
		return
	}
	if e.last.owed {
		e.last.owed = false
		if e.last.owedUntil.IsZero() || at.Before(e.last.owedUntil) {
			up--
			next := *before + 1
			if s.Wrap > 0 && next >= s.Wrap {
				next -= s.Wrap
			}
			before = &next
			if e.cycle != nil {
				e.cycle.before = before
			}
		}
	}
	if up < 1 {
		return
	}
	if e.cycle == nil {
		if x := e.find(scanning); x != nil && e.told && !x.on() && x.raw.known && x.raw.value != 0 {
			e.last.early = true // it is just being debounced
			e.startCycle(x.rawSince, before, up)
		} else {
			e.startCycle(at, before, up, "start_not_seen") // it was over between two looks
		}
	}
	if up > 1 && e.cycle != nil {
		e.cycle.flags = append(e.cycle.flags, "counter_jump")
	}
	e.endCycle(at, scanCounter)
}

// startCycle begins a scan, or as many as only the counter tells of.
func (e *signalEngine) startCycle(at time.Time, before *float64, scans int, flags ...string) {
	id, err := e.newID()
	if err != nil {
		e.err = fmt.Errorf("make the id of a scan: %w", err)
		return
	}
	e.cycle = &scanCycle{id: id, started: at, before: before, scans: scans, flags: append([]string{}, flags...)}
	e.add(drivers.Observation{Time: at, Subject: id, Data: event.XrayCycle{
		CycleID: id, Phase: "started", StartedTS: event.At(at), CounterBefore: before, Scans: scans, Mode: e.mode(), Flags: slices.Clone(e.cycle.flags),
	}})
}

// endCycle ends the scan that is under way, if there is one.
func (e *signalEngine) endCycle(at time.Time, end string) {
	c := e.cycle
	if c == nil {
		return
	}
	e.cycle = nil
	if at.Before(c.started) {
		at = c.started
	}
	ended, duration := event.At(at), at.Sub(c.started).Round(time.Millisecond).Seconds()
	x := event.XrayCycle{
		CycleID: c.id, Phase: "ended", StartedTS: event.At(c.started), EndedTS: &ended, DurationS: &duration, End: end,
		Unobserved:    slices.Contains([]string{"agent_stopped", "life_lost", "link_lost", "not_observed", "unreadable"}, end),
		CounterBefore: c.before, CounterAfter: e.counter(), Scans: c.scans, Mode: e.mode(), Flags: c.flags,
	}
	x.CutShort = !x.Unobserved && end != scanning && end != scanCounter
	if x.CounterAfter != nil && e.settings.CounterEndsScan && end != scanCounter {
		// Many controllers count a moment later, and after a loss nobody knows.
		e.last.owed = c.before != nil && *c.before == *x.CounterAfter
		if e.last.owedUntil = (time.Time{}); x.CutShort {
			e.last.owedUntil = at.Add(owedAfterCut)
		}
		if e.last.owed && end == scanning {
			x.Flags = append(x.Flags, "counter_unchanged")
		}
		if e.counts(c.before, x.CounterAfter) > 1 {
			x.Flags = append(x.Flags, "counter_jump")
		}
		e.last.counter = x.CounterAfter
	}
	if e.settings.CounterEndsScan {
		x.Scans = max(c.scans, e.counts(c.before, x.CounterAfter))
	}
	e.add(drivers.Observation{Time: at, Subject: c.id, Data: x})
}
