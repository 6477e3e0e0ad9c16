package lane

import (
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds and times of the engine.
const (
	// chatterSpan is the time over which edges are counted.
	chatterSpan = time.Minute
	// maxDetail bounds the reason of an unknown signal, in bytes.
	maxDetail = 300
	// maxWindow bounds the times of edges that are kept, and so the edges that make a chatter.
	maxWindow = 1000
	// maxScansAtOnce is how far the scan counter goes up between two looks at the most; more
	// is a counter that was set.
	maxScansAtOnce = 1000
	// settled is how long a state lasts that is told of a signal that chatters.
	settled = time.Second
	// maxUnread is how long nothing may be read before that is told; a life signal that is read and
	// stands still has its own time.
	maxUnread = time.Second
)

// signalEngine makes events of samples. It does no I/O and has no clock but the times that
// it is given.
type signalEngine struct {
	settings StateBusSettings
	signals  []*signal // in the order of their names
	newID    func() (string, error)

	connectedAt time.Time // of this connection
	lookedAt    time.Time // the last sample, of use or not
	readAt      time.Time // the last one in which anything was read
	sampledAt   time.Time // the last one that was of use
	alive       bool      // the device lives: what it tells is so
	aliveAt     time.Time // when it showed that last
	lifeTold    bool      // that it does not live
	told        bool      // the receiver knows the signals of this connection
	cycle       *scanCycle
	last        lastCycle
	out         []drivers.Observation
	err         error
}

// find gives a signal by name; nil if there is none.
func (e *signalEngine) find(name string) *signal {
	i := slices.IndexFunc(e.signals, func(s *signal) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return e.signals[i]
}

// life are the signals that change as long as the device lives.
func (e *signalEngine) life(s *signal) bool { return s.kind.kind == event.SignalLife }

func (e *signalEngine) hasLife() bool { return slices.ContainsFunc(e.signals, e.life) }

// connected begins anew: what was known of the signals is old.
func (e *signalEngine) connected(at time.Time) {
	e.connectedAt, e.aliveAt, e.readAt, e.alive, e.told = at, at, at, false, false
	e.lookedAt, e.sampledAt = time.Time{}, time.Time{}
	for _, s := range e.signals {
		s.rawSince, s.edges, s.window, s.chattering, s.stuckTold = time.Time{}, 0, nil, false, false
	}
}

// disconnected tells what is unknown from now on.
func (e *signalEngine) disconnected(at time.Time, why string) ([]drivers.Observation, error) {
	if e.told {
		last := at
		if !e.sampledAt.IsZero() {
			last = e.sampledAt
		}
		e.endCycle(last, "link_lost")
		e.lose(linkSignal, at, why)
	}
	return e.take()
}

// take hands over the events that were made.
func (e *signalEngine) take() ([]drivers.Observation, error) {
	out, err := e.out, e.err
	e.out, e.err = nil, nil
	return out, err
}

// lose tells, in one event, that every signal is unknown.
func (e *signalEngine) lose(name string, at time.Time, why string) {
	x := event.LaneSignal{
		Signal: name, Kind: event.SignalLife, Severity: event.SeverityWarning, Quality: "unknown", Reason: "lost",
		ObservedTS: event.At(at), Detail: why[:min(len(why), maxDetail)],
	}
	for _, s := range e.signals {
		if s.kind.kind == event.SignalSafety {
			x.Severity = event.SeveritySafety
		}
		if s.name == name {
			x.Previous = s.told.pointer()
		} else {
			x.Affects = append(x.Affects, s.name)
		}
		s.told = reading{}
	}
	e.told = false
	e.add(drivers.Observation{Data: x, Time: at})
}

func (e *signalEngine) add(o drivers.Observation) { e.out = append(e.out, o) }

// tell makes the event of a signal.
func (e *signalEngine) tell(s *signal, reason string, observed, now time.Time) {
	x := s.data(reason, observed)
	if s.name == "beam_permit" && e.cycle != nil && reason == "edge" && s.now.known && s.now.value == 0 {
		x.Severity = event.SeveritySafety
	}
	s.told, s.toldAt, s.edges = s.now, now, 0
	e.add(drivers.Observation{Data: x, Time: observed, DeviceTime: s.device})
}

// sample takes what was read at a moment, in the order of the signals. It reports whether
// anything was read of a device that lives.
func (e *signalEngine) sample(at time.Time, samples []link.Sample) (valid bool) {
	gap := e.notLooked(at)
	changed := make([]bool, len(e.signals))
	read, beats := false, false
	for i, s := range e.signals {
		r := s.read(samples[i])
		read = read || r.known
		if s.name == scanning && s.raw.same(s.now) {
			e.last.early = false
		}
		before, first := s.raw, s.rawSince.IsZero()
		changed[i] = s.sample(at, r, samples[i].At)
		if e.life(s) && r.known && !first && !(before.known && before.value == r.value) {
			beats = true
		}
	}
	if read {
		e.readAt = at
	}
	// One look after a long time shows nothing of the rhythm yet.
	if !read || gap {
		beats = false
	} else if !e.hasLife() {
		beats = true
	}
	if beats {
		e.alive, e.aliveAt = true, at
	}
	if e.alive && at.Sub(e.aliveAt) >= e.settings.LifeTimeout {
		e.alive = false
	}
	if e.alive && !read && at.Sub(e.readAt) >= min(maxUnread, e.settings.LifeTimeout) {
		e.alive = false
	}
	switch {
	case e.alive && !e.told:
		e.begin(at)
	case e.alive && !read: // for a moment; all of them are told together if it lasts
	case e.alive:
		e.sampledAt = at
		// The scan comes first: its counter may be read a moment later than the signal.
		for i, s := range e.signals {
			if s.name == scanning && changed[i] {
				e.change(s, at)
			}
		}
		for i, s := range e.signals {
			if s.name != scanning && changed[i] {
				e.change(s, at)
			}
			e.watch(s, at)
		}
	case e.told:
		end := "life_lost"
		if !read {
			end = "unreadable"
		}
		e.endCycle(e.aliveAt, end)
		e.lifeLost(at)
	case !e.lifeTold && at.Sub(e.connectedAt) >= e.settings.LifeTimeout:
		e.lifeLost(at)
	}
	return read && e.alive
}

// notLooked reports whether nobody looked for so long that anything may have happened: the
// disk took no events, or the bus was slow. What is read now does not tell what was between, so
// the scan ends unobserved and all signals are lost.
func (e *signalEngine) notLooked(at time.Time) bool {
	last := e.lookedAt
	e.lookedAt = at
	if last.IsZero() || at.Sub(last) <= e.settings.LifeTimeout {
		return false
	}
	if !e.lifeTold {
		e.endCycle(last, "not_observed")
		e.lose(linkSignal, last, fmt.Sprintf("nobody looked for %s: the events before could not be stored, or the bus was slow", at.Sub(last).Round(time.Millisecond)))
	}
	since := e.connectedAt
	e.connected(at)
	e.connectedAt, e.lookedAt, e.lifeTold = since, at, true
	return true
}

// lifeLost tells once that the device stands still.
func (e *signalEngine) lifeLost(at time.Time) {
	name, why := linkSignal, "no signal can be read"
	if i := slices.IndexFunc(e.signals, e.life); i >= 0 {
		s := e.signals[i]
		name, why = s.name, "the life signal does not change: the controller stands still, or something answers in its place"
		if !s.raw.known {
			why = s.raw.why
		}
	} else if len(e.signals) > 0 && e.signals[0].raw.why != "" {
		why = e.signals[0].raw.why
	}
	e.lose(name, at, why)
	e.lifeTold = true
}

// begin tells every signal as it is now: at the first look, and after the device stood still.
func (e *signalEngine) begin(at time.Time) {
	reason := "initial"
	if e.lifeTold {
		reason = "recovered"
	}
	e.told, e.lifeTold, e.sampledAt = true, false, at
	e.last.early = false
	for _, s := range e.signals {
		if !s.raw.same(s.now) { // nothing is debounced that was not told
			s.now, s.since = s.raw, s.rawSince
		}
		e.tell(s, reason, at, at)
	}
	if s := e.find(scanCounter); s != nil {
		e.counted(s, at) // scans that nobody saw
	}
	if s := e.find(scanning); s != nil && s.on() {
		e.startCycle(at, e.counter(), 1, "began_before")
	}
}

// change handles a signal whose debounced state is another one.
func (e *signalEngine) change(s *signal, at time.Time) {
	switch {
	case e.life(s):
		return // its beats are not told, and what becomes of them is told for all signals
	case s.name == scanCounter:
		e.counted(s, s.since)
	case s.name == scanning:
		e.scanningChanged(s)
	}
	if s.bad(s.now) || s.name == "beam_permit" && s.now.known && s.now.value == 0 && e.scanningRaw() {
		e.tellEdge(s, at)
		e.endCycle(s.since, s.name)
		return
	}
	e.tellEdge(s, at)
}

// tellEdge tells a change, unless it is one of too many.
func (e *signalEngine) tellEdge(s *signal, at time.Time) {
	if !s.chattering {
		e.tellState(s, at)
	}
}

// tellState tells what a signal is now, if the receiver does not know.
func (e *signalEngine) tellState(s *signal, at time.Time) {
	switch {
	case s.now.same(s.told):
	case !s.now.known:
		e.tell(s, "lost", s.since, at)
	case !s.told.known:
		e.tell(s, "recovered", s.since, at)
	case s.binary():
		e.tell(s, "edge", s.since, at)
	case s.kind.kind == event.SignalMode:
		e.tell(s, "changed", s.since, at)
	case s.kind.kind == event.SignalCounter && s.was.known && s.now.value < s.was.value:
		reason := "jump"
		if s.Wrap > 0 && s.now.value+s.Wrap-s.was.value <= s.Wrap/2 {
			reason = "wrap"
		}
		e.tell(s, reason, s.since, at)
	case s.kind.kind == event.SignalCounter && s.was.known && s.jump > 0 && s.now.value-s.was.value > s.jump:
		e.tell(s, "jump", s.since, at)
	}
}

// watch looks at a signal at each sample, changed or not.
func (e *signalEngine) watch(s *signal, at time.Time) {
	switch s.kind.kind {
	case event.SignalNumeric, event.SignalCounter:
		moved := s.now.value - s.told.value
		if s.now.known && s.told.known && moved != 0 && max(moved, -moved) >= s.Deadband && at.Sub(s.toldAt) >= e.settings.ReportEvery {
			e.tell(s, "changed", s.since, at)
		}
	case event.SignalLife:
		return
	}
	stuckAfter := e.settings.StuckAfter
	if s.StuckAfter != nil {
		stuckAfter = *s.StuckAfter
	} else if !s.kind.stuck {
		stuckAfter = 0
	}
	if s.on() && !s.stuckTold && stuckAfter > 0 && at.Sub(s.since) >= stuckAfter {
		s.stuckTold = true
		e.tell(s, "stuck", s.since, at)
	}
	for len(s.window) > 0 && at.Sub(s.window[0]) >= chatterSpan {
		s.window = s.window[1:]
	}
	lasts := settled
	if s.kind.kind == event.SignalNumeric || s.kind.kind == event.SignalCounter {
		lasts = max(settled, e.settings.ReportEvery)
	}
	if s.chattering && s.raw.same(s.now) && at.Sub(s.rawSince) >= lasts {
		e.tellState(s, at) // chatter hides what comes and goes, and not what stays
	}
	many := len(s.window) > e.settings.Chatter
	if extra := len(s.window) - e.settings.Chatter - 1; extra > 0 {
		s.window = s.window[extra:] // more are not needed to know that it chatters
	}
	switch {
	case many && !s.chattering:
		s.chattering, s.chatterTold = true, at
		e.tell(s, "chatter", at, at)
	case s.chattering && !many:
		s.chattering = false
		e.tell(s, "chatter_over", at, at)
	case s.chattering && at.Sub(s.chatterTold) >= chatterSpan:
		s.chatterTold = at
		e.tell(s, "chatter", at, at)
	}
}
