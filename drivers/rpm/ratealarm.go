package rpm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// Kinds of alarms that no frame names.
const (
	overloadAlarm = "overload"
	ownAlarm      = "own"
)

// alarmKey names an alarm of an instrument.
type alarmKey struct{ kind, channel string }

func (k alarmKey) own() bool { return k.kind == ownAlarm }

// standing is an alarm that stands.
type standing struct {
	id          string
	since       time.Time
	peak        *float64
	unit        string
	interrupted bool
	below       time.Time // since when it is below the agent's threshold; zero if it is not
	// keptPeak and keptUnit are the peak as it is kept.
	keptPeak *float64
	keptUnit string
}

// rates gathers what one event covers.
type rates struct {
	since                 time.Time
	instrument            string
	frames, noValue, over int
	status                bool                // a frame told whether it alarms
	channels              map[string]*rateSum // by channel and unit
	flags                 []string
	raw                   []byte
}

type rateSum struct {
	rateValue
	n             int
	min, max, sum float64
}

func (r *rates) flag(name string) {
	if !slices.Contains(r.flags, name) {
		r.flags = append(r.flags, name)
	}
}

func (r *rates) add(v rateValue) {
	if r.channels == nil {
		r.channels = map[string]*rateSum{}
	}
	// An instrument that is set to another unit has told two things: neither replaces the other.
	key := v.channel + " " + v.unit
	c := r.channels[key]
	if c == nil {
		c = &rateSum{min: v.v, max: v.v}
		r.channels[key] = c
	}
	c.rateValue = v
	c.n++
	c.sum += v.v
	c.min, c.max = min(c.min, v.v), max(c.max, v.v)
}

// summary makes the event of an interval and begins the next one.
func (s *areaSession) summary(now time.Time) error {
	t := &s.thin
	e := event.RadiationRate{
		IntervalS: round3(now.Sub(t.since).Seconds()), Instrument: t.instrument, Frames: t.frames, NoValue: t.noValue, Overloads: t.over,
		Channels: []event.RateChannel{}, Alarms: []string{}, Faults: []string{}, Raw: event.RawOf(t.raw),
	}
	for _, name := range slices.Sorted(maps.Keys(t.channels)) {
		c := t.channels[name]
		mean, _, _ := ratemeter.SI(c.sum/float64(c.n), "uSv/h", 0) // to the digits that say something
		e.Channels = append(e.Channels, event.RateChannel{
			Channel: c.channel, Quantity: c.quantity, Unit: c.unit, Readings: c.n,
			Min: c.min, Mean: min(max(mean, c.min), c.max), Max: c.max, Last: c.v, ValueRaw: c.text, UnitRaw: c.unitText,
		})
	}
	for k := range s.alarms {
		if !slices.Contains(e.Alarms, k.kind) {
			e.Alarms = append(e.Alarms, k.kind)
		}
	}
	for k, stands := range s.faults {
		if stands && !slices.Contains(e.Faults, k.kind) {
			e.Faults = append(e.Faults, k.kind)
		}
	}
	slices.Sort(e.Alarms)
	slices.Sort(e.Faults)
	if len(e.Faults) > 0 {
		t.flag(event.RateFault)
	}
	if len(e.Channels) == 0 {
		t.flag(event.RateNoReading)
	}
	if t.frames > 0 && !t.status {
		t.flag(event.RateAlarmsUnknown)
	}
	slices.Sort(t.flags)
	e.Quality = append([]string{}, t.flags...)
	if err := s.h.Emit(drivers.Observation{Data: e, Time: now}); err != nil {
		return err
	}
	s.told = true
	s.thin = rates{since: now, instrument: t.instrument}
	return nil
}

// faultEdges follows the faults that the instrument tells.
func (s *areaSession) faultEdges(now time.Time, r ratemeter.Reading, frame []byte) error {
	if !r.Status {
		return nil
	}
	for _, f := range r.Faults {
		if err := s.fault(now, f, "", true, frame); err != nil {
			return err
		}
	}
	for _, k := range sortedKeys(s.faults) {
		told := k.kind == event.RateFrozen || slices.ContainsFunc(r.Faults, func(f ratemeter.Fault) bool { return f.Kind == k.kind })
		if !told && !r.Partial {
			if err := s.fault(now, ratemeter.Fault{Kind: k.kind}, "", false, frame); err != nil {
				return err
			}
		}
	}
	return nil
}

// fault tells a fault on its edges, of one channel or, if that is empty, of the instrument.
func (s *areaSession) fault(now time.Time, f ratemeter.Fault, channel string, raised bool, frame []byte) error {
	k := alarmKey{f.Kind, channel}
	if raised {
		s.thin.flag(event.RateFault)
	}
	if s.faults[k] == raised {
		return nil
	}
	detectors := []string{}
	if channel != "" {
		detectors = append(detectors, channel)
	}
	state := "cleared"
	if raised {
		state = "raised"
	}
	err := s.h.Emit(drivers.Observation{Time: now, Data: event.RadiationFault{
		Kind: f.Kind, State: state, Code: f.Code, CPS: []int{}, Detectors: detectors, Raw: event.RawOf(frame),
	}})
	if err == nil {
		s.faults[k] = raised
	}
	return err
}

// alarmEdges follows the instrument's alarms and the agent's own.
func (s *areaSession) alarmEdges(now time.Time, r ratemeter.Reading, values []rateValue, frozen bool, frame []byte) error {
	told := map[alarmKey]bool{}
	for _, a := range r.Alarms {
		told[alarmKey{a.Kind, a.Channel}] = true
	}
	if r.Over {
		told[alarmKey{overloadAlarm, ""}] = true
	}
	for k, x := range s.alarms {
		s.peak(k, x)
	}
	for _, k := range sortedKeys(told) {
		if s.alarms[k] == nil {
			if err := s.raise(now, k, nil, frame); err != nil {
				return err
			}
		}
	}
	if r.Status && !r.Partial {
		for _, k := range sortedKeys(s.alarms) {
			overloaded := k.kind == overloadAlarm && r.NoValue // no value is not one that is low
			if !told[k] && !k.own() && !overloaded {
				if err := s.clear(now, k, frame); err != nil {
					return err
				}
			}
		}
	}
	if r.Over || r.NoValue || frozen {
		for _, x := range s.alarms { // it was not seen to be below all the time
			x.below = time.Time{}
		}
	}
	s.idle(values)
	for _, v := range values {
		threshold := s.threshold(v)
		k := alarmKey{ownAlarm, v.channel}
		x := s.alarms[k]
		switch {
		case threshold == 0:
		case x == nil && v.v >= threshold:
			if err := s.raise(now, k, &threshold, frame); err != nil {
				return err
			}
		case x == nil:
		case v.v >= threshold:
			x.below = time.Time{}
		case x.below.IsZero() && s.settings.ClearAfter > 0:
			x.below = now
		case now.Sub(x.below) >= s.settings.ClearAfter:
			if err := s.clear(now, k, frame); err != nil {
				return err
			}
		}
	}
	return nil
}

func sortedKeys[V any](m map[alarmKey]V) (list []alarmKey) {
	for k := range m {
		list = append(list, k)
	}
	order.By(list, func(a, b alarmKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.channel, b.channel))
	})
	return list
}

// threshold is the agent's own for a value; 0 for none. A gray of gamma or beta radiation is
// a sievert; of neutrons and alpha particles it is more, and nobody knows how much.
func (s *areaSession) threshold(v rateValue) float64 {
	switch v.unit {
	case "uSv/h":
		return s.settings.AlarmAboveUSvH
	case "uGy/h":
		if !heavy[v.channel] {
			return s.settings.AlarmAboveUSvH
		}
	case "cps":
		return s.settings.AlarmAboveCPS
	}
	return 0
}

// heavy are the channels of which a gray is more than a sievert.
var heavy = map[string]bool{ratemeter.Neutron: true, ratemeter.HighEnergyNeutron: true, ratemeter.Alpha: true, ratemeter.Total: true}

// idle flags a threshold that is held against none of a frame's values.
func (s *areaSession) idle(values []rateValue) {
	if len(values) == 0 {
		return
	}
	doses, counts := s.settings.AlarmAboveUSvH > 0, s.settings.AlarmAboveCPS > 0
	for _, v := range values {
		if s.threshold(v) > 0 {
			doses, counts = doses && v.unit == "cps", counts && v.unit != "cps"
		}
	}
	if doses || counts {
		s.thin.flag(event.RateThresholdIdle)
	}
}

// valueOf is what an alarm goes by: the last value of its channel, or the highest dose rate if
// it names none; ok is false if there is no value.
func (s *areaSession) valueOf(k alarmKey) (best rateValue, ok bool) {
	if v, known := s.values[k.channel]; known {
		return v, true
	}
	if k.channel != "" && k.channel != ratemeter.Dose || k.kind == overloadAlarm {
		return rateValue{}, false
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		v := s.values[name]
		if !ok || v.quantity == best.quantity && v.v > best.v || v.quantity == "dose_rate" && best.quantity != "dose_rate" {
			best, ok = v, true
		}
	}
	return best, ok
}

// peak keeps the highest value of an alarm. Where there are several units it is of a dose rate
// if there was one, else of the unit that came first: what was measured is not forgotten for
// something else.
func (s *areaSession) peak(k alarmKey, x *standing) {
	v, ok := s.valueOf(k)
	switch {
	case !ok:
	case x.peak == nil, !isDoseRate(x.unit) && isDoseRate(v.unit), (x.unit == v.unit || isDoseRate(x.unit) && isDoseRate(v.unit)) && v.v > *x.peak:
		x.peak, x.unit = &v.v, v.unit
	}
}

// isDoseRate tells the units of dose rates, which are near enough to each other to be compared.
func isDoseRate(unit string) bool { return unit == "uSv/h" || unit == "uGy/h" }

func (s *areaSession) raise(now time.Time, k alarmKey, threshold *float64, frame []byte) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of an alarm: %w", err)
	}
	x := &standing{id: id.String(), since: now}
	s.peak(k, x)
	if err := s.tell(now, k, x, "raised", threshold, frame); err != nil {
		return err
	}
	s.alarms[k] = x
	return nil
}

func (s *areaSession) clear(now time.Time, k alarmKey, frame []byte) error {
	x := s.alarms[k]
	var threshold *float64
	if k.own() {
		if v := s.threshold(rateValue{channel: k.channel, unit: x.unit}); v > 0 {
			threshold = &v
		}
	}
	if err := s.tell(now, k, x, "cleared", threshold, frame); err != nil {
		return err
	}
	delete(s.alarms, k)
	return nil
}

func (s *areaSession) tell(now time.Time, k alarmKey, x *standing, state string, threshold *float64, frame []byte) error {
	e := event.RadiationRateAlarm{
		AlarmID: x.id, Kind: k.kind, Channel: k.channel, By: event.ByInstrument, State: state, Unit: x.unit, PeakValue: x.peak, Threshold: threshold,
		StartedTS: event.At(x.since), DurationS: round3(now.Sub(x.since).Seconds()), Interrupted: x.interrupted, Raw: event.RawOf(frame),
	}
	if k.own() {
		e.By = event.ByAgent
	}
	if v, ok := s.valueOf(k); ok {
		e.Value, e.Unit, e.ValueRaw, e.UnitRaw = &v.v, v.unit, v.text, v.unitText
	}
	return s.h.Emit(drivers.Observation{Data: e, Time: now, Subject: x.id})
}
