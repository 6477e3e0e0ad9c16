package rpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// Kinds of faults of a pillar's power.
const (
	batteryLow = "battery_low"
	acLost     = "ac_lost"
)

// powerMargin is how far above its threshold a voltage or a current must be again until the
// fault is over.
const powerMargin = 1.02

// speedsKept is how many messages of the speed link an event has, the last ones.
const speedsKept = 64

// TSAEnvironment is the driver that listens to the line on which a portal's environmental
// boards tell an SC-880 what they measured, or to the portal's speed link.
func TSAEnvironment() drivers.Driver {
	return drivers.Driver{
		Name:    "tsa-environment",
		Summary: "environmental records and speed link of a Rapiscan/TSA portal's SC-880 side",
		Schemes: []string{"serial", "tcp"},
		Silence: time.Minute,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := EnvironmentSettings{Detectors: []string{"1", "2", "3", "4"}, Pillars: []string{"master", "slave"}, Interval: time.Minute}
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newEnvironment(s)
		},
	}
}

// EnvironmentSettings are the settings of the environmental line.
type EnvironmentSettings struct {
	// Detectors are the labels of the four places in a record; an empty one has no board.
	Detectors []string `yaml:"detectors"`
	// Pillars are those with a board, of master and slave; of another one nothing is told.
	Pillars []string `yaml:"pillars"`
	// Interval is what one event covers.
	Interval time.Duration `yaml:"interval"`
	// BatteryLowV and ACLostA are below what a pillar's battery voltage and alternating current
	// are a fault; 0 for none, since the records know no fault.
	BatteryLowV float64 `yaml:"battery_low_v"`
	ACLostA     float64 `yaml:"ac_lost_a"`
	// SpeedLink: it is the line of the speed messages and not that of the records.
	SpeedLink bool `yaml:"speed_link"`
}

type environment struct {
	settings EnvironmentSettings
	told     bool
	faults   map[string]bool // by kind and pillar
}

func newEnvironment(s EnvironmentSettings) (*environment, error) {
	switch {
	case len(s.Detectors) != tsa.Detectors:
		return nil, fmt.Errorf("detectors: %d labels; a record has %d places, so take \"\" for one without a board", len(s.Detectors), tsa.Detectors)
	case len(s.Pillars) > 2 || slices.ContainsFunc(s.Pillars, func(p string) bool { return p != "master" && p != "slave" }):
		return nil, fmt.Errorf("pillars: %q; take master, slave or both: those with a board", s.Pillars)
	case s.SpeedLink && s.BatteryLowV != 0:
		return nil, errors.New("battery_low_v: the speed link tells no voltage; take it out, or set it at the device of the environmental line")
	case s.SpeedLink && s.ACLostA != 0:
		return nil, errors.New("ac_lost_a: the speed link tells no current; take it out, or set it at the device of the environmental line")
	case s.Interval < minInterval || s.Interval > maxInterval:
		return nil, fmt.Errorf("interval: %s; take %s to %s", s.Interval, minInterval, maxInterval)
	case !(s.BatteryLowV >= 0 && s.BatteryLowV < 100):
		return nil, fmt.Errorf("battery_low_v: %g; take 0 for none, to 100", s.BatteryLowV)
	case !(s.ACLostA >= 0 && s.ACLostA < 100):
		return nil, fmt.Errorf("ac_lost_a: %g; take 0 for none, to 100", s.ACLostA)
	}
	return &environment{settings: s, faults: map[string]bool{}}, nil
}

// pillarOf is the pillar that a record is of; empty for one of the detectors.
var pillarOf = map[tsa.EnvironmentTag]string{tsa.MTRH: "master", tsa.MBAT: "master", tsa.STRH: "slave", tsa.SBAT: "slave"}

// gathered is what one event covers.
type gathered struct {
	since     time.Time
	records   int
	detectors [tsa.Detectors]event.DetectorEnvironment
	pillars   map[string]*event.PillarEnvironment
	last      map[tsa.EnvironmentTag][]byte
	speeds    int
	speed     [][]byte // the last of them
	flags     []string
}

func newGathered(since time.Time) gathered {
	return gathered{since: since, pillars: map[string]*event.PillarEnvironment{}, last: map[tsa.EnvironmentTag][]byte{}}
}

func (g *gathered) flag(name string) {
	if !slices.Contains(g.flags, name) {
		g.flags = append(g.flags, name)
	}
}

type environmentSession struct {
	*environment
	h     drivers.Host
	lines tsa.Splitter
	speed tsa.SpeedSplitter
	now   gathered
}

// Run implements drivers.Instrument.
func (e *environment) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	s := &environmentSession{environment: e, h: h, now: newGathered(h.Now())}
	buf := make([]byte, readSize)
	for {
		due := s.now.since.Add(e.settings.Interval)
		if err := conn.SetReadDeadline(due); err != nil {
			return s.end(fmt.Errorf("set the read deadline of the environmental line: %w", err))
		}
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		n, err := conn.Read(buf)
		if takeErr := s.take(buf[:n]); takeErr != nil {
			return takeErr
		}
		if now := h.Now(); !now.Before(due) {
			if err := s.summary(now); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.end(ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return s.end(fmt.Errorf("read from the environmental line: %w", err))
		}
	}
}

func (s *environmentSession) take(b []byte) error {
	if s.settings.SpeedLink {
		s.speed.Write(b)
		for m, message, first, ok := s.speed.Next(); ok; m, message, first, ok = s.speed.Next() {
			switch {
			case message:
				s.h.Valid()
				s.now.speeds++
				if len(s.now.speed) == speedsKept {
					s.now.speed = s.now.speed[1:]
				}
				s.now.speed = append(s.now.speed, bytes.Clone(m))
			case !first:
				s.h.Unparsed("the bytes are no message of the speed link", m)
			}
		}
		if !s.told && s.now.speeds > 0 {
			return s.summary(s.h.Now())
		}
		return nil
	}
	_, _ = s.lines.Write(b) // it never fails
	for line, ok := s.lines.Next(); ok; line, ok = s.lines.Next() {
		wire := s.lines.Wire()
		r, err := tsa.ParseEnvironment(line.Bytes)
		if line.Problem != "" {
			err = errors.New(line.Problem)
		}
		if err != nil {
			if !line.First {
				s.h.Unparsed(err.Error(), wire)
			}
			continue
		}
		s.h.Valid()
		if err := s.record(r, wire); err != nil {
			return err
		}
	}
	return nil
}

// record takes one record.
func (s *environmentSession) record(r tsa.Environment, wire []byte) error {
	g := &s.now
	if _, again := g.last[r.Tag]; again && !s.told {
		if err := s.summary(s.h.Now()); err != nil {
			return err
		}
	}
	g.records++
	g.last[r.Tag] = append(g.last[r.Tag][:0], wire...)
	pillar := pillarOf[r.Tag]
	if pillar == "" {
		for i, v := range r.Values {
			d := &g.detectors[i]
			switch r.Tag {
			case tsa.TPDT:
				celsius(&d.TemperatureC, v)
			case tsa.RHDT:
				unlessZero(&d.HumidityPct, v)
			case tsa.PRES:
				unlessZero(&d.PressureHPa, v)
			case tsa.DEWP:
				celsius(&d.DewPointC, v)
			}
		}
		return nil
	}
	if !slices.Contains(s.settings.Pillars, pillar) {
		return nil
	}
	p := g.pillars[pillar]
	if p == nil {
		p = &event.PillarEnvironment{Pillar: pillar}
		g.pillars[pillar] = p
	}
	if r.Tag == tsa.MTRH || r.Tag == tsa.STRH {
		celsius(&p.TemperatureC, r.Values[0])
		unlessZero(&p.HumidityPct, r.Values[1])
		if !celsius(&p.ThermocoupleC, r.Values[2]) {
			g.flag("no_thermocouple")
		}
		unlessZero(&p.OutsideHumidityPct, r.Values[3])
		return nil
	}
	volts, ac := r.Values[0], r.Values[3]
	if volts == 0 {
		g.flag("no_battery_voltage")
	}
	if !slices.ContainsFunc(r.Values[:], func(v float64) bool { return v != 0 }) {
		return nil // there is no board: zeros are no reading, and no fault either
	}
	add(&p.BatteryV, volts)
	add(&p.DCCurrentA, r.Values[1])
	add(&p.ACCurrentA, ac)
	if err := s.power(batteryLow, pillar, volts, s.settings.BatteryLowV, wire); err != nil {
		return err
	}
	return s.power(acLost, pillar, ac, s.settings.ACLostA, wire)
}

// power tells a fault of a pillar's power on its edges.
func (s *environmentSession) power(kind, pillar string, v, threshold float64, wire []byte) error {
	key := kind + "/" + pillar
	var state string
	switch {
	case v < threshold && !s.faults[key]:
		state = "raised"
	case v >= threshold*powerMargin && s.faults[key]:
		state = "cleared"
	default:
		return nil
	}
	err := s.h.Emit(drivers.Observation{Time: s.h.Now(), Data: event.RadiationFault{
		Kind: kind, State: state, CPS: []int{}, Detectors: []string{pillar}, Raw: event.RawOf(wire),
	}})
	if err == nil {
		s.faults[key] = state == "raised"
	}
	return err
}

// add puts a value into a spread.
func add(s **event.Spread, v float64) {
	if *s == nil {
		*s = &event.Spread{Min: v, Max: v}
	}
	x := *s
	x.Readings++
	x.Min, x.Max, x.Last = min(x.Min, v), max(x.Max, v), v
}

// celsius takes a temperature; false if it is none.
func celsius(s **event.Spread, k float64) bool {
	c, ok := tsa.Celsius(k)
	if ok {
		add(s, c)
	}
	return ok
}

// unlessZero takes a value that is never zero where there is a board.
func unlessZero(s **event.Spread, v float64) {
	if v != 0 {
		add(s, v)
	}
}

// summary makes the event of an interval and begins the next one.
func (s *environmentSession) summary(now time.Time) error {
	g := &s.now
	e := event.RadiationEnvironment{
		IntervalS: round3(now.Sub(g.since).Seconds()), Records: g.records, SpeedMessages: g.speeds,
		Detectors: []event.DetectorEnvironment{}, Pillars: []event.PillarEnvironment{}, Faults: []string{},
	}
	for i, d := range g.detectors {
		if d.Detector = s.settings.Detectors[i]; d.Detector != "" && !s.settings.SpeedLink {
			e.Detectors = append(e.Detectors, d)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.pillars)) {
		e.Pillars = append(e.Pillars, *g.pillars[name])
	}
	for key, stands := range s.faults {
		if stands {
			e.Faults = append(e.Faults, key)
		}
	}
	slices.Sort(e.Faults)
	var raw []byte
	for _, tag := range tsa.EnvironmentTags() {
		raw = append(raw, g.last[tag]...)
	}
	e.Raw = event.RawOf(raw)
	if g.speeds > 0 {
		speed := event.RawOf(bytes.Join(g.speed, nil))
		e.SpeedRaw = &speed
	}
	if g.records+g.speeds == 0 {
		g.flag(event.RateNoReading)
	}
	slices.Sort(g.flags)
	e.Quality = append([]string{}, g.flags...)
	if err := s.h.Emit(drivers.Observation{Data: e, Time: now}); err != nil {
		return err
	}
	s.told = true
	s.now = newGathered(now)
	return nil
}

// end tells what is held when the connection is over.
func (s *environmentSession) end(reason error) error {
	if s.now.records+s.now.speeds > 0 {
		if err := s.summary(s.h.Now()); err != nil {
			return err
		}
	}
	return reason
}
