package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// slowLooks is how many looks one after the other take longer than they should before that is
// logged, once for each link.
const slowLooks = 10

// Bounds of the settings of a state bus.
const (
	minPoll        = 20 * time.Millisecond
	maxPoll        = 10 * time.Second // well below the driver's silence
	maxSignals     = 256
	maxDebounce    = 10 * time.Second
	minLifeTimeout = 100 * time.Millisecond
	maxLifeTimeout = 10 * time.Minute
	maxStuckAfter  = 24 * time.Hour
	maxReportEvery = 24 * time.Hour
	maxValues      = 256
	maxText        = 64
)

// StateBus is the driver of controllers whose registers tell the state of a scanner or a
// lane. It only reads.
func StateBus() drivers.Driver {
	return drivers.Driver{
		Name:    "state-bus",
		Summary: "state signals of a scanner or a lane over Modbus or OPC UA, read only",
		Schemes: []string{"modbus-tcp", "modbus-rtu", "modbus-rtu-tcp", "opcua"},
		Silence: 30 * time.Second,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := StateBusSettings{
				Every: 100 * time.Millisecond, LifeTimeout: 3 * time.Second, StuckAfter: 15 * time.Minute, Chatter: 20,
				ReportEvery: 10 * time.Second, CounterEndsScan: true,
			}
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newStateBus(s)
		},
	}
}

// StateBusSettings are the settings of a state bus.
type StateBusSettings struct {
	// Every is how often all signals are read.
	Every time.Duration `yaml:"every"`
	// LifeTimeout is how long a life signal may stay the same.
	LifeTimeout time.Duration `yaml:"life_timeout"`
	// StuckAfter is how long a loop, a curtain or a moving barrier may be on; 0 for ever.
	StuckAfter time.Duration `yaml:"stuck_after"`
	// Chatter is how many edges a signal may have in a minute before they are counted only.
	Chatter int `yaml:"chatter"`
	// ReportEvery is how often a number that changes is told at the most.
	ReportEvery time.Duration `yaml:"report_every"`
	// CounterEndsScan: the scan counter goes up when a scan ends. False for controllers that
	// count when it starts.
	CounterEndsScan bool `yaml:"counter_ends_scan"`
	// Signals by canonical name.
	Signals map[string]SignalSettings `yaml:"signals"`
}

// SignalSettings say where a signal is and how it is read.
type SignalSettings struct {
	// At, Type, Words and Bit are as in link.Point.
	At    string `yaml:"at"`
	Type  string `yaml:"type"`
	Words string `yaml:"words"`
	Bit   *int   `yaml:"bit"`
	// Kind of a signal of one's own, whose name begins with custom_.
	Kind string `yaml:"kind"`
	// Invert: on is 0. Scale and Offset make the value of a number: value x scale + offset.
	Invert bool     `yaml:"invert"`
	Scale  *float64 `yaml:"scale"`
	Offset float64  `yaml:"offset"`
	// Debounce is how long a change must last.
	Debounce *time.Duration `yaml:"debounce"`
	// StuckAfter is the signal's own; also for one that is not watched otherwise.
	StuckAfter *time.Duration `yaml:"stuck_after"`
	// Deadband is by how much a number must change to be told.
	Deadband float64 `yaml:"deadband"`
	// Wrap is where a counter begins anew at 0, Jump by how much it may go up between two
	// looks; 0 for any.
	Wrap float64  `yaml:"wrap"`
	Jump *float64 `yaml:"jump"`
	// Values are the words for the numbers of a mode.
	Values map[string]string `yaml:"values"`
}

type stateBus struct {
	settings StateBusSettings
	points   []link.Point
	engine   *signalEngine
	kept     string // what the ledger has
}

func newStateBus(s StateBusSettings) (*stateBus, error) {
	switch {
	case s.Every < minPoll || s.Every > maxPoll:
		return nil, fmt.Errorf("every: %s; take %s to %s", s.Every, minPoll, maxPoll)
	case s.LifeTimeout < minLifeTimeout || s.LifeTimeout > maxLifeTimeout || s.LifeTimeout < 2*s.Every:
		return nil, fmt.Errorf("life_timeout: %s; take %s to %s, and at least twice every", s.LifeTimeout, minLifeTimeout, maxLifeTimeout)
	case s.StuckAfter < 0 || s.StuckAfter > maxStuckAfter:
		return nil, fmt.Errorf("stuck_after: %s; take 0 (for ever) to %s", s.StuckAfter, maxStuckAfter)
	case s.Chatter < 2 || s.Chatter >= maxWindow:
		return nil, fmt.Errorf("chatter: %d; take 2 to %d edges in a minute", s.Chatter, maxWindow-1)
	case s.ReportEvery < 0 || s.ReportEvery > maxReportEvery:
		return nil, fmt.Errorf("report_every: %s; take 0 to %s", s.ReportEvery, maxReportEvery)
	case len(s.Signals) == 0:
		return nil, errors.New("signals: there are none; write for example signals: {scanning: {at: discrete:0}}: no two controllers have the same addresses, so there are no defaults")
	case len(s.Signals) > maxSignals:
		return nil, fmt.Errorf("signals: %d; at most %d are read", len(s.Signals), maxSignals)
	}
	b := &stateBus{settings: s, engine: &signalEngine{settings: s, newID: newID}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Signals)) {
		one, err := newSignal(name, s.Signals[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("signals: %s: %w", name, err))
			continue
		}
		b.engine.signals = append(b.engine.signals, one)
		b.points = append(b.points, one.point())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b, nil
}

func newID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

func (s SignalSettings) point() link.Point {
	return link.Point{At: s.At, Type: s.Type, Words: s.Words, Bit: s.Bit}
}

// newSignal checks the settings of one signal.
func newSignal(name string, s SignalSettings) (*signal, error) {
	var kind signalKind
	if plainName.MatchString(name) && len(name) > len(customName) && name[:len(customName)] == customName {
		if !slices.Contains(signalKinds, s.Kind) {
			return nil, fmt.Errorf("kind: %q; a signal of your own needs one of %v", s.Kind, signalKinds)
		}
		kind = signalKind{kind: s.Kind}
	} else {
		var err error
		if kind, err = lookupSignal(name); err != nil {
			return nil, err
		}
		if s.Kind != "" {
			return nil, fmt.Errorf("kind: %s is of kind %s always; take kind out", name, kind.kind)
		}
	}
	one := &signal{name: name, kind: kind, SignalSettings: s, debounce: usualDebounce[kind.kind], scale: 1}
	binary := one.binary()
	number := kind.kind == event.SignalNumeric || kind.kind == event.SignalCounter
	if s.Debounce != nil {
		one.debounce = *s.Debounce
	}
	if s.Scale != nil {
		one.scale = *s.Scale
	}
	if s.Jump != nil {
		one.jump = *s.Jump
	} else if name == scanCounter {
		one.jump = 1
	}
	// A register is as wide as its type; of an OPC UA node, whose id has a =, nobody knows.
	if one.Wrap == 0 && kind.kind == event.SignalCounter && one.scale == 1 && s.Offset == 0 && s.Bit == nil && !strings.Contains(s.At, "=") {
		one.Wrap = map[string]float64{"": 1 << 16, "u16": 1 << 16, "u32": 1 << 32}[s.Type]
	}
	if s.At == "" {
		return nil, errors.New("at: the address is missing; write for example at: holding:100")
	}
	if err := link.CheckPoint(s.point()); err != nil {
		return nil, fmt.Errorf("at: %w", err)
	}
	switch {
	case one.debounce < 0 || one.debounce > maxDebounce:
		return nil, fmt.Errorf("debounce: %s; take 0 to %s", one.debounce, maxDebounce)
	case s.Debounce != nil && !binary && kind.kind != event.SignalMode:
		return nil, fmt.Errorf("debounce: a %s is not debounced; take it out", kind.kind)
	case s.Invert && !binary:
		return nil, fmt.Errorf("invert: a %s is neither on nor off; take invert out", kind.kind)
	case binary && (s.Scale != nil || s.Offset != 0):
		return nil, fmt.Errorf("scale, offset: an %s signal is on or off; take them out", kind.kind)
	case one.scale == 0 || s.Scale != nil && kind.kind == event.SignalLife:
		return nil, fmt.Errorf("scale: %g can't be", one.scale)
	case s.StuckAfter != nil && (!binary || *s.StuckAfter < 0 || *s.StuckAfter > maxStuckAfter):
		return nil, fmt.Errorf("stuck_after: %s; take 0 (for ever) to %s, of what is on or off", *s.StuckAfter, maxStuckAfter)
	case s.Deadband < 0 || s.Deadband != 0 && !number:
		return nil, fmt.Errorf("deadband: %g; it is of numbers, and not negative", s.Deadband)
	case (s.Wrap != 0 || s.Jump != nil) && kind.kind != event.SignalCounter:
		return nil, errors.New("wrap, jump: they are of counters; take them out")
	case s.Wrap < 0 || one.jump < 0:
		return nil, errors.New("wrap, jump: they are not negative")
	case len(s.Values) > 0 && kind.kind != event.SignalMode:
		return nil, errors.New("values: they are of modes and fault codes; take them out")
	case len(s.Values) > maxValues:
		return nil, fmt.Errorf("values: %d; at most %d are taken", len(s.Values), maxValues)
	}
	for number, text := range s.Values {
		if _, err := strconv.ParseInt(number, 10, 64); err != nil || text == "" || len(text) > maxText {
			return nil, fmt.Errorf("values: %q: %q; write whole numbers with a word of at most %d letters each, as in {\"1\": operational}", number, text, maxText)
		}
	}
	return one, nil
}

// errNotABus: the link has no registers.
var errNotABus = errors.New("this link has no registers to read: the driver and the link do not fit")

// Run implements drivers.Instrument.
func (b *stateBus) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	bus, ok := link.As[link.Bus](conn)
	if !ok {
		return errNotABus
	}
	b.recall(h)
	if err := b.emit(h, b.engine.take); err != nil {
		return err
	}
	b.engine.connected(h.Now())
	next := h.Now()
	slow := 0
	for {
		began := h.Now()
		samples, err := bus.Sample(ctx, b.points)
		if err != nil {
			err = cmp.Or(ctx.Err(), fmt.Errorf("read the state bus: %w", err))
			return errors.Join(b.emit(h, func() ([]drivers.Observation, error) { return b.engine.disconnected(h.Now(), err.Error()) }), err)
		}
		if took := h.Now().Sub(began); took <= b.settings.Every {
			if slow < slowLooks {
				slow = 0
			}
		} else if slow++; slow == slowLooks {
			h.Log().Warn("a look at the state bus takes longer than every: shorter changes are missed; set a longer every, or read fewer signals", "took", took, "every", b.settings.Every)
		}
		if b.engine.sample(h.Now(), samples) {
			h.Valid()
		}
		if err := b.emit(h, b.engine.take); err != nil {
			return err
		}
		// The rhythm is kept as long as the bus is quick enough for it.
		now := h.Now()
		if next = next.Add(b.settings.Every); next.Before(now) {
			next = now
		}
		if err := drivers.Pause(ctx, bus, next.Sub(now)); err != nil {
			return errors.Join(b.emit(h, func() ([]drivers.Observation, error) { return b.engine.disconnected(h.Now(), err.Error()) }), err)
		}
	}
}

// emit makes durable what the engine has to say.
func (b *stateBus) emit(h drivers.Host, take func() ([]drivers.Observation, error)) error {
	list, err := take()
	for _, o := range list {
		if err := h.Emit(o); err != nil {
			return err
		}
	}
	if len(list) > 0 && err == nil {
		err = b.keep(h)
	}
	return err
}
