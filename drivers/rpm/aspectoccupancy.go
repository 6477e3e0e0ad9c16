package rpm

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
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
	freed     time.Time // since when, if so
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
	inputs    aspect.Inputs // all that were set
	outputs   aspect.Outputs
}

// alarmAgain is how long after an alarm the same one is told again in an occupancy, if it went
// and came back; one that is new is told at once.
const alarmAgain = 10 * time.Second

// countLooks is for how many looks an object is waited for to be counted when it has left.
const countLooks = 3

// aspectSeries is what one channel told in an occupancy.
type aspectSeries struct {
	samples, alarms int
	faulty          bool
	highest         int
	background      *float64      // in counts per second
	bits            aspect.Status // all that were set
	last, seen      aspect.Status // alarms that were on at the last look, and that were told
	owed            bool          // one came back and was not told again yet
	told            time.Time
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
	occupied, err := s.occupied(b)
	if err != nil {
		return err
	}
	// One that has left and waits to be counted is not what is in the portal now.
	if s.occ != nil && s.occ.free && occupied && s.now.Sub(s.occ.occupied) >= s.p.settings.Linger {
		if err := s.close(event.EndClear); err != nil {
			return err
		}
	}
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
	if occupied {
		s.occ.free, s.occ.occupied = false, s.now
		return s.stuck(b)
	}
	if !s.occ.free {
		s.occ.free, s.occ.freed = true, s.now
	}
	if !b.Read.Has(aspect.InputSignals) {
		s.occ.damaged = true
	}
	if s.now.Sub(s.occ.occupied) < s.p.settings.Linger {
		return nil
	}
	// Some portals count an object a moment after it has left.
	if !s.occ.counted && b.Read.Has(aspect.ObjectCounter) && s.now.Sub(s.occ.freed) < countLooks*s.p.settings.Every {
		return nil
	}
	return s.close(event.EndClear)
}

// occupied says whether something is in the portal, by the inputs that are not stuck.
func (s *aspectSession) occupied(b aspect.Block) (bool, error) {
	if !b.Read.Has(aspect.InputSignals) {
		return false, nil
	}
	before := s.p.stuck
	s.p.stuck &= b.Inputs
	occupied := (b.Inputs &^ s.p.stuck).Occupied()
	if !occupied {
		s.inside = time.Time{}
	} else if s.inside.IsZero() {
		s.inside = s.now
	}
	if before == 0 || s.p.stuck != 0 {
		return occupied, nil
	}
	return occupied, s.diagnose(event.DiagOccupancyStuck, "", "no occupancy input of the portal is stuck any more", map[string]float64{"stuck": 0})
}

// stuck gives up inputs that have been set for too long. What passes after that is told by the
// other inputs, the object counter and the alarms, and is not clear.
func (s *aspectSession) stuck(b aspect.Block) error {
	limit := s.p.settings.StuckAfter
	if limit == 0 || s.now.Sub(s.inside) < limit {
		return nil
	}
	id := s.occ.id
	s.p.stuck = b.Inputs & aspect.OccupMask
	if err := s.close(event.EndStuck); err != nil {
		return err
	}
	return s.diagnose(event.DiagOccupancyStuck, id,
		fmt.Sprintf("%s of the portal set for %s: look whether something stands in the light barriers or the sensor is broken. "+
			"Until it ends vehicles can't be told apart by it; alarms are told all the same", strings.Join(s.p.stuck.Names(), " and "), limit),
		map[string]float64{"stuck": 1, "limit_s": limit.Seconds()})
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
		id: id.String(), start: s.now, occupied: s.now, freed: s.now, joinedMid: joinedMid,
		damaged:  s.p.stuck != 0,
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
		o.inputs |= b.Inputs
		if d := b.Inputs.Direction(); d != "" && d != o.direction {
			o.turned = o.turned || o.direction != ""
			o.direction = d
		}
	}
	o.outputs |= b.Outputs
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
	on := c.Status & (aspect.Alarm1 | aspect.Alarm2)
	if c.read {
		x.owed = alarm && (x.owed || on&^x.last != 0)
		x.bits, x.last = x.bits|c.Status, on
	}
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
	x.alarms++
	if on&^x.seen == 0 && (!x.owed || s.now.Sub(x.told) < alarmAgain) {
		return nil
	}
	x.seen, x.told, x.owed = x.seen|on, s.now, false
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
	} else if end == event.EndClear && o.free {
		over = o.freed // likewise
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
		Signals: signals(o.inputs, o.outputs, gamma.bits, neutron.bits),
	}
	if !o.turned {
		e.Direction = o.direction
	}
	if !s.p.settings.Neutron && neutron.samples == 0 {
		e.Neutron = event.NotFitted
	}
	if gamma.background != nil {
		cps := int(math.Round(min(*gamma.background, math.MaxInt32)))
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

// signals names bits that were set, nil if none was.
func signals(inputs aspect.Inputs, outputs aspect.Outputs, gamma, neutron aspect.Status) map[string][]string {
	list := map[string][]string{}
	for name, bits := range map[string][]string{
		"inputs": inputs.Names(), "outputs": outputs.Names(), "gamma_status": gamma.Names(), "neutron_status": neutron.Names(),
	} {
		if len(bits) > 0 {
			list[name] = bits
		}
	}
	return list
}

// aspectThinner gathers what a free portal tells. What a channel tells while it has a fault is
// gathered apart.
type aspectThinner struct {
	since time.Time
	sent  bool // an event went out on this connection
	looks int
	good  aspectMeans
	bad   aspectMeans

	inputs         aspect.Inputs // all that were set
	outputs        aspect.Outputs
	gamma, neutron aspect.Status
}

// aspectMeans gathers figures by name.
type aspectMeans struct {
	sums map[string]float64
	n    map[string]int
	min  float64 // of the gamma background in counts per second
	max  float64
}

func newAspectMeans() aspectMeans {
	return aspectMeans{map[string]float64{}, map[string]int{}, math.Inf(1), 0}
}

func (m *aspectMeans) add(name string, v float64) {
	m.sums[name] += v
	m.n[name]++
}

// background emits what was gathered when it is time, and at the first look.
func (s *aspectSession) background(b aspect.Block) error {
	t := &s.thin
	if t.looks == 0 {
		t.good, t.bad = newAspectMeans(), newAspectMeans()
	}
	t.looks++
	t.inputs, t.outputs, t.gamma, t.neutron = t.inputs|b.Inputs, t.outputs|b.Outputs, t.gamma|b.Gamma.Status, t.neutron|b.Neutron.Status
	for _, c := range s.channels(b) {
		m := &t.good
		if s.p.faulty(c.name) {
			m = &t.bad
		}
		m.add(c.name+"_looks", 1)
		for name, v := range backgrounds(c.name, b) {
			m.add(name, v)
		}
		if c.counted {
			m.add(c.name+"_count", float64(c.Count))
		}
		if cps := s.perSecond(c); cps != nil {
			m.add(c.name, *cps)
			if c.name == "gamma" {
				m.min, m.max = min(m.min, *cps), max(m.max, *cps)
			}
		}
	}
	elapsed := s.now.Sub(t.since)
	if t.sent && elapsed < s.p.settings.BackgroundInterval {
		return nil
	}
	e := event.RadiationBackground{
		IntervalS: round3(elapsed.Seconds()), Records: t.looks, GammaCPS: []float64{}, NeutronCPS: []float64{},
		Reported: map[string]float64{}, Detectors: []string{"portal"}, Signals: signals(t.inputs, t.outputs, t.gamma, t.neutron),
		Gamma: t.modality("gamma"), Neutron: t.modality("neutron"), Raw: event.RawOf(s.wire),
	}
	for _, channel := range []string{"gamma", "neutron"} {
		t.means(channel, &e)
	}
	if !s.p.settings.Neutron {
		e.Neutron = event.NotFitted
	}
	s.thin = aspectThinner{since: s.now, sent: true}
	return s.emit(e, "")
}

// means gives those of a channel without its faults, or with them if it had nothing else.
func (t *aspectThinner) means(channel string, e *event.RadiationBackground) {
	m := t.good
	if m.n[channel+"_looks"] == 0 {
		m = t.bad
	}
	for name, sum := range m.sums {
		if of, what, _ := strings.Cut(name, "_"); of != channel || what == "looks" {
			continue
		}
		mean := round3(sum / float64(m.n[name]))
		switch name {
		case "gamma":
			e.GammaCPS = append(e.GammaCPS, mean)
			e.GammaSumMinCPS, e.GammaSumMaxCPS = int(math.Round(min(m.min, math.MaxInt32))), int(math.Round(min(m.max, math.MaxInt32)))
		case "neutron":
			e.NeutronCPS, e.NeutronExact = append(e.NeutronCPS, mean), true
		default:
			e.Reported[name] = mean
		}
	}
}

// modality says what is known of a channel whose background was gathered.
func (t *aspectThinner) modality(channel string) event.Modality {
	switch {
	case t.bad.n[channel+"_looks"] > 0:
		return event.ModalityFault
	case t.good.n[channel+"_background"] > 0:
		return event.HasData
	}
	return event.NoData
}
