package rpm

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/protocol/aspect"
	"github.com/lanepost/lanepost/protocol/event"
)

// aspectOccupancy is what is known so far of the occupancy that goes on.
type aspectOccupancy struct {
	id        string
	start     time.Time
	occupied  time.Time // when an occupancy input was last set
	free      bool      // none was at the last look
	joinedMid bool
	// damaged is true once some of it was not observed.
	damaged bool
	counted bool // the portal has counted the object
	counter *int // and this is its number, nil if it is not known

	channels  map[string]*aspectSeries
	direction string
	turned    bool // both directions were told
	mark      *int
	speeds    []float64
	output    bool // the alarm output was on
	reported  map[string]float64
	truncated bool
	raw       rawBuffer
}

// aspectSeries is what one channel told in an occupancy.
type aspectSeries struct {
	samples, alarms int
	faulty          bool
	highest         int
	background      *float64 // in counts per second
	list            []event.Sample
}

func sum(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// whole is how many counts an int holds everywhere.
func whole(count uint32) int { return int(min(count, math.MaxInt32)) }

// passages is the portal's state machine. An occupancy begins when the object counter
// changes or an occupancy input is set, and ends when none is.
func (s *aspectSession) passages(b aspect.Block) error {
	occupied := b.Read.Has(aspect.InputSignals) && b.Inputs.Occupied()
	objects, err := s.count(b)
	if err != nil {
		return err
	}
	if s.occ != nil && objects > 0 && !s.occ.counted {
		// It began with its input, and is counted now.
		objects--
		n := int(b.Objects - uint16(objects)) //nolint:gosec // below the limit of a step
		s.occ.counted, s.occ.counter = true, &n
	}
	unseen := s.unwatched()
	switch {
	case objects > 0 && s.occ != nil:
		end := event.EndNextObject
		if !occupied || s.occ.free {
			end = event.EndClear
		}
		if err := s.close(end); err != nil {
			return err
		}
		fallthrough
	case objects > 0:
		// The last of them is in the portal, or was a moment ago. Without its input neither
		// its beginning nor its end was seen.
		if unseen && !occupied {
			break // of what passed while nobody looked there is nothing to say but the number
		}
		objects--
		if err := s.open(unseen || !occupied); err != nil {
			return err
		}
		n := int(b.Objects)
		s.occ.counted, s.occ.counter = true, &n
	case occupied && s.occ == nil:
		if err := s.open(unseen); err != nil {
			return err
		}
		// What is in the portal when the link comes up was counted before: the next count
		// is the next object's.
		s.occ.counted = s.first
	}
	if objects > 0 {
		if err := s.missed(b, objects); err != nil {
			return err
		}
	}
	if err := s.measured(b, occupied); err != nil {
		return err
	}
	if s.occ == nil {
		return nil
	}
	if s.occ.free = !occupied; occupied {
		s.occ.occupied = s.now
		return nil
	}
	if !b.Read.Has(aspect.InputSignals) {
		s.occ.damaged = true
	}
	if s.now.Sub(s.occ.occupied) < s.p.settings.Linger {
		return nil
	}
	return s.close(event.EndClear)
}

// unwatched says that it is not known what was before the look in hand.
func (s *aspectSession) unwatched() bool { return s.late.now || s.first }

// count follows the object counter and gives how many objects came.
func (s *aspectSession) count(b aspect.Block) (objects int, err error) {
	p := s.p
	if !b.Read.Has(aspect.ObjectCounter) {
		return 0, nil
	}
	before, have := p.counter, p.haveCounter
	p.counter, p.haveCounter = b.Objects, true
	if !have {
		return 0, nil
	}
	objects, restarted := aspect.Step(before, b.Objects, p.settings.CounterJump)
	if !restarted {
		return objects, nil
	}
	if s.occ != nil {
		s.occ.damaged = true
	}
	return 0, s.diagnose(event.DiagObjectCounterReset, "",
		fmt.Sprintf("the portal's object counter went from %d to %d: it was set back or switched off, or is another portal's. "+
			"How many vehicles passed unobserved is not known", before, b.Objects),
		map[string]float64{"before": float64(before), "after": float64(b.Objects)})
}

// missed tells of objects that were counted and not observed.
func (s *aspectSession) missed(b aspect.Block, n int) error {
	return s.diagnose(event.DiagObjectCounterJump, "",
		fmt.Sprintf("the portal's object counter is at %d, and %d of the objects up to it were not observed: whether they alarmed is not known", b.Objects, n),
		map[string]float64{"after": float64(b.Objects), "missed": float64(n)})
}

// open begins an occupancy.
func (s *aspectSession) open(joinedMid bool) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id for an occupancy: %w", err)
	}
	s.occ = &aspectOccupancy{
		id: id.String(), start: s.now, occupied: s.now, joinedMid: joinedMid,
		channels: map[string]*aspectSeries{}, speeds: []float64{}, reported: map[string]float64{},
		raw: rawBuffer{hash: sha256.New()},
	}
	return nil
}

// measured takes what the channels tell. An alarm that begins in a free portal makes an
// occupancy of its own.
func (s *aspectSession) measured(b aspect.Block, occupied bool) error {
	channels := s.channels(b)
	if len(channels) == 1 {
		s.alarms[1] = false
	}
	for i, c := range channels {
		alarm := c.read && c.Status.Alarms()
		if alarm && !s.alarms[i] && s.occ == nil {
			if err := s.open(true); err != nil {
				return err
			}
		}
		if c.read {
			s.alarms[i] = alarm
		}
	}
	o := s.occ
	if o == nil {
		return nil
	}
	o.raw.add(s.wire)
	o.object(b, s.p.settings.SeriesLimit)
	for _, c := range channels {
		if err := s.sampled(c, b, occupied || o.start.Equal(s.now)); err != nil {
			return err
		}
	}
	return nil
}

// object takes what the portal says of the object itself.
func (o *aspectOccupancy) object(b aspect.Block, limit int) {
	if b.Read.Has(aspect.InputSignals) {
		o.damaged = o.damaged || b.Inputs&aspect.Reset != 0
		if d := b.Inputs.Direction(); d != "" && d != o.direction {
			o.turned = o.turned || o.direction != ""
			o.direction = d
		}
	}
	o.output = o.output || b.Read.Has(aspect.OutputSignals) && b.Outputs&aspect.OutAlarm != 0
	if b.Read.Has(aspect.ObjectMark) && b.Mark != 0 {
		mark := int(b.Mark)
		o.mark = &mark
	}
	if !b.Read.Has(aspect.ObjectSpeed) || b.Speed == 0 {
		return
	}
	if kph := round3(aspect.KPH(b.Speed)); len(o.speeds) == 0 || o.speeds[len(o.speeds)-1] != kph {
		if len(o.speeds) >= limit {
			o.truncated = true
			return
		}
		o.speeds = append(o.speeds, kph)
	}
}

// sampled takes one look at a channel. What it counts when the object has left, not inside
// any more, is none of the object's; an alarm is, and what can't be read may have been one.
func (s *aspectSession) sampled(c aspectChannel, b aspect.Block, inside bool) error {
	o := s.occ
	x := o.channels[c.name]
	if x == nil {
		x = &aspectSeries{list: []event.Sample{}}
		o.channels[c.name] = x
		for name, v := range backgrounds(c.name, b) {
			o.reported[name] = v
		}
		x.background = s.perSecond(c)
	}
	alarm := c.read && c.Status.Alarms()
	if !inside && !alarm && c.read {
		return nil
	}
	x.faulty = x.faulty || s.p.faulty(c.name)
	reported, counts := backgrounds(c.name, b), []int{}
	if c.counted {
		count := c.name + "_count"
		reported[count], counts = float64(c.Count), append(counts, whole(c.Count))
		x.highest = max(x.highest, whole(c.Count))
		o.reported[count] = max(o.reported[count], reported[count])
	}
	switch {
	case !c.read || !c.counted:
		o.damaged = true
	case len(x.list) < s.p.settings.SeriesLimit:
		x.list = append(x.list, event.Sample{OffsetS: round3(s.now.Sub(o.start).Seconds()), Counts: counts, Alarm: alarm})
	default:
		o.truncated = true
	}
	if c.read && c.counted {
		x.samples++
	}
	if !alarm {
		return nil
	}
	if x.alarms++; x.alarms > 1 {
		return nil
	}
	return s.emit(event.RadiationAlarm{
		OccupancyID: o.id, Kind: c.name, Counts: counts, Detectors: []string{"portal"}, Sum: sum(counts),
		Status: c.Status.Names(), Reported: reported, BgSumCPS: s.perSecond(c), Raw: event.RawOf(s.wire),
	}, o.id)
}

// perSecond is a channel's background in counts per second, nil if that is not known.
func (s *aspectSession) perSecond(c aspectChannel) *float64 {
	if !c.background || s.p.settings.CountTime == 0 {
		return nil
	}
	cps := round3(float64(c.Background) / s.p.settings.CountTime.Seconds())
	return &cps
}

// backgrounds are a channel's background and variance in the portal's own unit, as far as
// they were read.
func backgrounds(channel string, b aspect.Block) map[string]float64 {
	fields := []aspect.Field{aspect.GammaBackground, aspect.GammaVariance}
	values := []float32{b.Gamma.Background, b.Gamma.Variance}
	if channel == "neutron" {
		fields = []aspect.Field{aspect.NeutronBackground, aspect.NeutronVariance}
		values = []float32{b.Neutron.Background, b.Neutron.Variance}
	}
	list := map[string]float64{}
	for i, f := range fields {
		if b.Read.Has(f) {
			list[f.String()] = float64(values[i])
		}
	}
	return list
}

// close ends the occupancy and emits its summary.
func (s *aspectSession) close(end string) error {
	o := s.occ
	s.occ = nil
	gamma, neutron := o.of("gamma"), o.of("neutron")
	over := s.now
	if end == event.EndClear && s.p.settings.Linger > 0 && s.now.Sub(o.occupied) >= s.p.settings.Linger {
		over = o.occupied // the rest was waiting
	}
	e := event.RadiationOccupancy{
		OccupancyID: o.id, End: end, JoinedMid: o.joinedMid,
		Gamma: gamma.modality(), Neutron: neutron.modality(),
		GXCounter: o.counter, StartTS: event.At(o.start), EndTS: event.At(over), FirstSampleTS: event.At(o.start),
		DurationS:  round3(over.Sub(o.start).Seconds()),
		GammaAlarm: gamma.alarms > 0, NeutronAlarm: neutron.alarms > 0,
		GammaSamples: gamma.samples, GammaAlarmSamples: gamma.alarms,
		NeutronSamples: neutron.samples, NeutronAlarmSamples: neutron.alarms, NeutronCounts: neutron.highest,
		NeutronBgCPS: neutron.background, ObjectMark: o.mark, Reported: o.reported,
		SpeedRecords: len(o.speeds), SpeedsKPH: o.speeds, SpeedKPH: median(o.speeds),
		GammaSeries: gamma.list, NeutronSeries: neutron.list, SeriesTruncated: o.truncated, Raw: o.raw.raw(),
	}
	if !o.turned {
		e.Direction = o.direction
	}
	if !s.p.settings.Neutron && neutron.samples == 0 {
		e.Neutron = event.NotFitted
	}
	if gamma.background != nil {
		cps := int(math.Round(*gamma.background))
		e.GammaBgSumCPS = &cps
	}
	unexplained := o.output && !e.GammaAlarm && !e.NeutronAlarm
	switch {
	case e.GammaAlarm || e.NeutronAlarm:
		e.Outcome = event.OutcomeAlarm
	case end != event.EndClear, o.joinedMid, o.damaged, unexplained, e.Gamma != event.HasData,
		e.Neutron != event.HasData && e.Neutron != event.NotFitted:
		e.Outcome = event.OutcomeIncomplete
	default:
		e.Outcome = event.OutcomeNoAlarm
	}
	if err := s.emit(e, o.id); err != nil || !unexplained {
		return err
	}
	return s.diagnose(event.DiagAlarmOutput, o.id,
		"the portal's alarm output was on and neither channel told an alarm: it may still have been on from before, or an alarm came and went between two looks", nil)
}

func (o *aspectOccupancy) of(channel string) *aspectSeries {
	if x := o.channels[channel]; x != nil {
		return x
	}
	return &aspectSeries{list: []event.Sample{}}
}

func (x *aspectSeries) modality() event.Modality {
	switch {
	case x.faulty:
		return event.ModalityFault
	case x.samples > 0:
		return event.HasData
	}
	return event.NoData
}

// median is nil without a value.
func median(list []float64) *float64 {
	n := len(list)
	if n == 0 {
		return nil
	}
	list = slices.Sorted(slices.Values(list))
	m := round3((list[(n-1)/2] + list[n/2]) / 2)
	return &m
}

// aspectThinner gathers what a free portal tells.
type aspectThinner struct {
	since time.Time
	sent  bool // an event went out on this connection
	looks int
	sums  map[string]float64
	n     map[string]int
	min   float64 // of the gamma background in counts per second
	max   float64
}

// background emits what was gathered when it is time, and at the first look.
func (s *aspectSession) background(b aspect.Block) error {
	t := &s.thin
	if t.sums == nil {
		t.sums, t.n, t.min, t.max = map[string]float64{}, map[string]int{}, math.Inf(1), 0
	}
	t.looks++
	add := func(name string, v float64) {
		t.sums[name] += v
		t.n[name]++
	}
	for _, c := range s.channels(b) {
		for name, v := range backgrounds(c.name, b) {
			add(name, v)
		}
		if c.counted {
			add(c.name+"_count", float64(c.Count))
		}
		if cps := s.perSecond(c); cps != nil {
			add(c.name, *cps)
			if c.name == "gamma" {
				t.min, t.max = min(t.min, *cps), max(t.max, *cps)
			}
		}
	}
	elapsed := s.now.Sub(t.since)
	if t.sent && elapsed < s.p.settings.BackgroundInterval {
		return nil
	}
	e := event.RadiationBackground{
		IntervalS: round3(elapsed.Seconds()), Records: t.looks, GammaCPS: []float64{}, NeutronCPS: []float64{},
		Reported: map[string]float64{}, Detectors: []string{"portal"},
		Gamma: t.modality(s.p, "gamma"), Neutron: t.modality(s.p, "neutron"), Raw: event.RawOf(s.wire),
	}
	for name, sum := range t.sums {
		mean := round3(sum / float64(t.n[name]))
		switch name {
		case "gamma":
			e.GammaCPS = append(e.GammaCPS, mean)
			e.GammaSumMinCPS, e.GammaSumMaxCPS = int(math.Round(min(t.min, math.MaxInt32))), int(math.Round(min(t.max, math.MaxInt32)))
		case "neutron":
			e.NeutronCPS, e.NeutronExact = append(e.NeutronCPS, mean), true
		default:
			e.Reported[name] = mean
		}
	}
	if !s.p.settings.Neutron {
		e.Neutron = event.NotFitted
	}
	s.thin = aspectThinner{since: s.now, sent: true}
	return s.emit(e, "")
}

// modality says what is known of a channel whose background was gathered.
func (t *aspectThinner) modality(p *aspectPortal, channel string) event.Modality {
	switch {
	case p.faulty(channel):
		return event.ModalityFault
	case t.n[channel+"_background"] > 0:
		return event.HasData
	}
	return event.NoData
}
