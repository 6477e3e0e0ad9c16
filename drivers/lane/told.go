package lane

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// SignalKind gives the kind of a signal by its canonical name, or for one of one's own, whose
// name begins with custom_, by what it is declared as. binary is true if it is on or off.
func SignalKind(name, declared string) (kind string, binary bool, err error) {
	s, err := toldSignal(name, declared)
	if err != nil {
		return "", false, err
	}
	return s.kind.kind, s.binary(), nil
}

func toldSignal(name, declared string) (*signal, error) {
	s := &signal{name: name, scale: 1}
	if strings.HasPrefix(name, customName) && plainName.MatchString(name) && len(name) > len(customName) {
		if declared == "" {
			return nil, fmt.Errorf("kind is missing; a signal of your own needs one of %s", strings.Join(signalKinds, ", "))
		}
		if !slices.Contains(signalKinds, declared) {
			return nil, fmt.Errorf("kind: %q is none; a signal of your own needs one of %s", declared, strings.Join(signalKinds, ", "))
		}
		s.kind = signalKind{kind: declared}
		return s, nil
	}
	var err error
	if s.kind, err = lookupSignal(name); err != nil {
		return nil, err
	}
	if declared != "" && declared != s.kind.kind {
		return nil, fmt.Errorf("kind: %s is of kind %s always; take kind out", name, s.kind.kind)
	}
	return s, nil
}

// ToldSignal is what is known of a signal that a device tells by itself.
type ToldSignal struct {
	// Kind is for signals of one's own, Deadband by how much a number must change to be told.
	Kind     string
	Deadband float64
}

// ToldSignals makes events of signals that a device tells by itself, in messages, rather than
// those that are read on a bus. Nothing is debounced: what is told is so. It is for one goroutine
// at a time.
type ToldSignals struct {
	signals     map[string]*signal
	reportEvery time.Duration
}

// NewToldSignals checks the signals. A number that changes is told once in reportEvery at the
// most.
func NewToldSignals(list map[string]ToldSignal, reportEvery time.Duration) (*ToldSignals, error) {
	if reportEvery < 0 || reportEvery > maxReportEvery {
		return nil, fmt.Errorf("report_every: %s; take 0 to %s", reportEvery, maxReportEvery)
	}
	t := &ToldSignals{signals: map[string]*signal{}, reportEvery: reportEvery}
	for name, of := range list {
		s, err := toldSignal(name, of.Kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.Deadband = of.Deadband
		t.signals[name] = s
	}
	return t, nil
}

// Begin begins a connection: nothing is known of the signals.
func (t *ToldSignals) Begin() {
	for _, s := range t.signals {
		s.told, s.now, s.rawSince, s.heldSince = reading{}, reading{}, time.Time{}, time.Time{}
	}
}

// Tell takes what a signal is; an input or safety signal is on if value is not 0.
func (t *ToldSignals) Tell(h drivers.Host, name string, value float64) error {
	r := reading{value: value, known: !math.IsNaN(value) && !math.IsInf(value, 0), why: "the value is no number"}
	return t.tell(h, t.signals[name], r)
}

// Due is when Tick has something to do; zero for never.
func (t *ToldSignals) Due() (at time.Time) {
	for _, s := range t.signals {
		if !s.heldSince.IsZero() {
			at = drivers.Sooner(at, s.toldAt.Add(t.reportEvery))
		}
	}
	return at
}

// Tick tells the numbers that changed too soon after they were told, when it is time.
func (t *ToldSignals) Tick(h drivers.Host) error { return t.release(h, t.reportEvery) }

// release tells the numbers that are held and were told so long ago.
func (t *ToldSignals) release(h drivers.Host, ago time.Duration) error {
	for _, name := range slices.Sorted(maps.Keys(t.signals)) {
		if s := t.signals[name]; !s.heldSince.IsZero() && h.Now().Sub(s.toldAt) >= ago {
			if err := t.emit(h, s, s.held, "changed", s.heldSince); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unknown takes that nobody knows what signals are, and why.
func (t *ToldSignals) Unknown(h drivers.Host, names []string, why string) error {
	for _, name := range names {
		if err := t.tell(h, t.signals[name], reading{why: why[:min(len(why), maxDetail)]}); err != nil {
			return err
		}
	}
	return nil
}

func (t *ToldSignals) tell(h drivers.Host, s *signal, r reading) error {
	now := h.Now()
	since := s.heldSince
	s.heldSince = time.Time{}
	reason := "changed"
	switch {
	case s.rawSince.IsZero():
		reason = "initial"
	case r.same(s.told):
		return nil
	case !r.known:
		reason = "lost"
	case !s.told.known:
		reason = "recovered"
	case s.binary():
		reason = "edge"
	case s.kind.kind == event.SignalLife:
		s.now, s.told = r, r
		return nil // its beats are not told
	case s.kind.kind == event.SignalCounter && r.value < s.told.value:
		reason = "jump"
	case s.kind.kind == event.SignalMode:
	case math.Abs(r.value-s.told.value) < s.Deadband:
		return nil
	case now.Sub(s.toldAt) < t.reportEvery:
		if since.IsZero() || !r.same(s.held) {
			since = now
		}
		s.held, s.heldSince = r, since
		return nil
	}
	return t.emit(h, s, r, reason, now)
}

// emit makes the event of a signal, which is so since a moment.
func (t *ToldSignals) emit(h drivers.Host, s *signal, r reading, reason string, since time.Time) error {
	now, first := h.Now(), s.rawSince.IsZero()
	s.now, s.rawSince, s.since = r, now, since
	if !first {
		s.edges = 1
	}
	if err := h.Emit(drivers.Observation{Data: s.data(reason, since), Time: since}); err != nil {
		s.rawSince = time.Time{} // told anew
		return err
	}
	s.told, s.toldAt, s.edges, s.heldSince = r, now, 0, time.Time{}
	return nil
}

// End tells what is held, and that all signals are unknown when the link breaks, and gives the
// reason back.
func (t *ToldSignals) End(h drivers.Host, reason error) error {
	if err := t.release(h, 0); err != nil {
		return err
	}
	now := h.Now()
	why := reason.Error()
	x := event.LaneSignal{
		Signal: linkSignal, Kind: event.SignalLife, Severity: event.SeverityWarning, Quality: "unknown", Reason: "lost",
		ObservedTS: event.At(now), Detail: why[:min(len(why), maxDetail)],
	}
	for _, name := range slices.Sorted(maps.Keys(t.signals)) {
		if s := t.signals[name]; s.told.known {
			x.Affects = append(x.Affects, name)
			if s.kind.kind == event.SignalSafety {
				x.Severity = event.SeveritySafety
			}
		}
	}
	if len(x.Affects) > 0 {
		if err := h.Emit(drivers.Observation{Data: x, Time: now}); err != nil {
			return err
		}
	}
	t.Begin()
	return reason
}
