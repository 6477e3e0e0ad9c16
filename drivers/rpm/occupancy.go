package rpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// occupancy is what is known so far of the occupancy that goes on. Its memory
// does not grow with its length beyond the series' limit.
type occupancy struct {
	id        string
	start     time.Time
	joinedMid bool
	// damaged is true once a record of it may have been lost to noise.
	damaged bool

	background *[tsa.Detectors]int // frozen; nil if unknown
	neutronBg  *float64            // counts per second, all detectors
	recomputed *recomputation      // nil without a background
	gamma      series
	neutron    series
	counts     int // neutrons

	second window // the gamma counts of the last second
	max    int    // its highest sum, -1 before there is one

	speeds       []float64
	speedRecords int
	truncated    bool
	raw          rawBuffer
}

// series is one kind of samples.
type series struct {
	samples, alarms int
	sum             int           // of all counts
	first           time.Duration // offset of the first one
	list            []event.Sample
}

// add takes the next sample. Its offset is told by its number and not by its
// arrival: the portal measures in step, but sends the first samples in one
// burst, and a replay may send all at once.
func (s *series) add(counts []int, span time.Duration, alarm bool, limit int) (kept bool) {
	offset := s.first + time.Duration(s.samples)*span
	s.samples++
	for _, c := range counts {
		s.sum += c
	}
	if alarm {
		s.alarms++
	}
	if len(s.list) >= limit {
		return false
	}
	s.list = append(s.list, event.Sample{OffsetS: round3(offset.Seconds()), Counts: counts, Alarm: alarm})
	return true
}

// held is a record from before the occupancy that it may belong to.
type held struct {
	wire       []byte
	at, column time.Time
	speed      bool
	kph        float64
	// gamma and neutron count the backgrounds that came since.
	gamma, neutron int
	// damaged: it was not understood, and may have been a sample.
	damaged bool
}

// prelude keeps a record that belongs to an occupancy if that begins with the
// next record: NZ comes right before a neutron sample, and what noise left may
// have been one.
func (s *session) prelude(damaged bool) {
	if s.occ != nil {
		s.occ.raw.add(s.wire)
		s.occ.damaged = s.occ.damaged || damaged
		return
	}
	isPrelude := func(h held) bool { return !h.speed }
	if i := slices.IndexFunc(s.held, isPrelude); i >= 0 && len(s.held) >= maxHeld {
		s.held = slices.Delete(s.held, i, i+1)
	}
	s.held = append(s.held, held{wire: bytes.Clone(s.wire), at: s.now, damaged: damaged})
}

// forgetPrelude drops the records that belong to an occupancy only if it begins
// with the next record.
func (s *session) forgetPrelude() {
	s.held = slices.DeleteFunc(s.held, func(h held) bool { return !h.speed })
}

// dropSpeeds gives up the speed records for which it is too late.
func (s *session) dropSpeeds(late func(held) bool) error {
	var raw []byte
	var given []held
	s.held = slices.DeleteFunc(s.held, func(h held) bool {
		if !h.speed || !late(h) {
			return false
		}
		given, raw = append(given, h), append(raw, h.wire...)
		return true
	})
	n := len(given)
	if n == 0 {
		return nil
	}
	return s.emitAt(event.RadiationDiagnostic{
		Kind: event.DiagSpeedOrphan, Raw: event.RawOf(raw),
		Detail: fmt.Sprintf("%d speed records came and no occupancy followed; one now and then is normal, "+
			"many mean that something disturbs the speed sensors", n),
		Values: map[string]float64{"records": float64(n), "last_kph": given[n-1].kph},
	}, "", given[0].at, given[0].column)
}

// speed attaches a speed record to the occupancy, or keeps it for the next one.
func (s *session) speed(rec tsa.Record) error {
	if s.occ != nil {
		s.occ.raw.add(s.wire)
		s.occ.speed(rec.Speed.KPH, s.p.settings.SeriesLimit)
		return nil
	}
	if len(s.held) >= maxHeld {
		if err := s.dropSpeeds(func(held) bool { return true }); err != nil {
			return err
		}
	}
	s.held = append(s.held, held{wire: bytes.Clone(s.wire), at: s.now, column: s.column, speed: true, kph: rec.Speed.KPH})
	return nil
}

func (o *occupancy) speed(kph float64, limit int) {
	o.speedRecords++
	if len(o.speeds) >= limit {
		o.truncated = true
		return
	}
	o.speeds = append(o.speeds, kph)
}

// mayBeSample reports whether a line that is no record may be what noise left
// of one that matters for an occupancy. It is not if the tag stands intact and
// is another one.
func mayBeSample(line []byte) bool {
	tag, _, found := bytes.Cut(bytes.TrimPrefix(line, []byte{'!'}), []byte{','})
	if !found {
		return true
	}
	switch t := tsa.Tag(tag); t {
	case tsa.GS, tsa.GA, tsa.NS, tsa.NA, tsa.GX:
		return true
	default:
		return !tsa.Record{Tag: t}.Known()
	}
}

// sample handles GS, GA, NS and NA.
func (s *session) sample(rec tsa.Record) error {
	if s.occ == nil {
		if err := s.open(rec); err != nil {
			return err
		}
	}
	o := s.occ
	o.raw.add(s.wire)
	counts := s.p.pick(rec.Counts)
	limit := s.p.settings.SeriesLimit
	switch rec.Tag {
	case tsa.GS, tsa.GA:
		marked := rec.Tag == tsa.GA
		onset := marked && o.gamma.alarms == 0
		if o.gamma.samples == 0 {
			o.gamma.first = -preSamples * gammaSpan
			if o.joinedMid {
				o.gamma.first = s.now.Sub(o.start) - gammaSpan
			}
		}
		if !o.gamma.add(counts, gammaSpan, marked, limit) {
			o.truncated = true
		}
		sum, full := o.second.add(total(rec.Counts))
		if full {
			o.max = max(o.max, sum)
		}
		if o.recomputed != nil {
			o.recomputed.add(rec.Counts, marked)
		}
		if onset {
			return s.gammaAlarm(counts, sum, full)
		}
	case tsa.NS, tsa.NA:
		marked := rec.Tag == tsa.NA
		onset := marked && o.neutron.alarms == 0
		if o.neutron.samples == 0 {
			o.neutron.first = s.now.Sub(o.start) - neutronSpan
		}
		if !o.neutron.add(counts, neutronSpan, marked, limit) {
			o.truncated = true
		}
		n := total(rec.Counts)
		o.counts = min(o.counts, math.MaxInt-n) + n
		if onset {
			return s.emit(event.RadiationAlarm{
				OccupancyID: o.id, Kind: "neutron", Counts: counts, Detectors: s.p.labels,
				Sum: n, BgSumCPS: o.neutronBg, Raw: event.RawOf(s.wire),
			}, o.id)
		}
	}
	return nil
}

func (s *session) gammaAlarm(counts []int, sum int, full bool) error {
	o := s.occ
	e := event.RadiationAlarm{
		OccupancyID: o.id, Kind: "gamma", Counts: counts, Detectors: s.p.labels,
		Sum: sum, Raw: event.RawOf(s.wire),
	}
	if o.background != nil {
		b := float64(total(*o.background))
		e.BgSumCPS = &b
		if full { // less than a second can't be set against counts per second
			e.NSigma = sigma(sum, b)
		}
	}
	return s.emit(e, o.id)
}

// open begins an occupancy with its first sample.
func (s *session) open(rec tsa.Record) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id for an occupancy: %w", err)
	}
	o := &occupancy{
		id:    id.String(),
		start: s.now,
		// An occupancy begins with NS. After a silence in the middle of one, NS
		// is as likely as any that it goes on.
		joinedMid:  s.state == lost || s.state == unknown && rec.Tag != tsa.NS,
		background: s.gamma,
		neutronBg:  s.neutronBackground(),
		second:     newWindow(secondOfSamples),
		max:        -1,
		speeds:     []float64{},
		gamma:      series{list: []event.Sample{}},
		neutron:    series{list: []event.Sample{}},
		raw:        rawBuffer{hash: sha256.New()},
	}
	if o.background != nil {
		o.recomputed = s.p.newRecomputation(*o.background)
	}
	for _, h := range s.held {
		o.raw.add(h.wire)
		o.damaged = o.damaged || h.damaged
		if h.speed {
			o.speed(h.kph, s.p.settings.SeriesLimit)
		}
	}
	s.held = nil
	s.occ, s.state = o, occupied
	if o.background == nil {
		return s.diagnose(event.DiagBackgroundMissing, o.id,
			"an occupancy began before the portal had sent a background on this connection; it can't be judged, and counts as incomplete",
			nil)
	}
	return nil
}

// endOfOccupancy handles GX.
func (s *session) endOfOccupancy(rec tsa.Record) error {
	id := ""
	if s.occ != nil {
		id = s.occ.id
		s.occ.raw.add(s.wire)
		if err := s.close(event.EndGX, &rec); err != nil {
			return err
		}
	} else if err := s.diagnose(event.DiagGXOrphan, "",
		"the portal ended an occupancy of which no record came; a vehicle may have passed unobserved",
		map[string]float64{"gx_counter": float64(rec.Counter)}); err != nil {
		return err
	}
	s.forgetPrelude()
	s.state = idle
	return s.count(rec.Counter, id)
}

// count follows the portal's occupancy counter.
func (s *session) count(counter int, id string) error {
	p := s.p
	before, without, have := p.counter, p.without, p.haveCounter
	p.counter, p.without, p.haveCounter = counter, 0, true
	switch missed := counter - before - 1 - without; {
	case !have, id == "" && counter == before: // nothing to compare with; a GX sent twice
		return nil
	case counter <= before:
		return s.diagnose(event.DiagGXCounterReset, id,
			fmt.Sprintf("the portal's occupancy counter went from %d to %d; it restarts daily and when the portal is switched on", before, counter),
			map[string]float64{"before": float64(before), "after": float64(counter)})
	case missed > 0:
		return s.diagnose(event.DiagGXCounterJump, id,
			fmt.Sprintf("the portal's occupancy counter went from %d to %d: %d occupancies were not observed", before, counter, missed),
			map[string]float64{"before": float64(before), "after": float64(counter), "missed": float64(missed)})
	}
	return nil
}

// close ends the occupancy and emits its summary. gx is nil if none came.
func (s *session) close(end string, gx *tsa.Record) error {
	o := s.occ
	s.occ = nil
	if gx == nil {
		s.p.without++
	}
	e := event.RadiationOccupancy{
		OccupancyID: o.id, End: end, JoinedMid: o.joinedMid,
		Gamma:   s.p.gammaModality(o.gamma.sum > 0), // nothing but zeros: it did not measure
		Neutron: s.p.neutronModality(o.neutron.samples > 0, o.counts > 0 || o.neutron.alarms > 0),
		StartTS: event.At(o.start), EndTS: event.At(s.now), FirstSampleTS: event.At(o.start),
		DurationS:  round3(s.now.Sub(o.start).Seconds()),
		GammaAlarm: o.gamma.alarms > 0, NeutronAlarm: o.neutron.alarms > 0,
		GammaSamples: o.gamma.samples, GammaAlarmSamples: o.gamma.alarms,
		NeutronSamples: o.neutron.samples, NeutronAlarmSamples: o.neutron.alarms, NeutronCounts: o.counts,
		SpeedRecords: o.speedRecords, SpeedsKPH: o.speeds, SpeedKPH: s.p.medianSpeed(o.speeds),
		Recomputed:  o.recomputed.result(o.gamma.alarms > 0),
		GammaSeries: o.gamma.list, NeutronSeries: o.neutron.list, SeriesTruncated: o.truncated,
		Raw: o.raw.raw(),
	}
	if gx != nil {
		bg := float64(gx.NeutronBackground) / 1000
		e.GXCounter, e.NeutronBgCPS = &gx.Counter, &bg
	}
	if o.gamma.samples > 0 {
		e.FirstSampleTS = event.At(o.start.Add(o.gamma.first))
	}
	if o.max >= 0 {
		e.GammaMax5SampleSum = &o.max
	}
	if o.background != nil {
		b := total(*o.background)
		e.GammaBgSumCPS = &b
		if o.max >= 0 {
			e.GammaMaxNSigma = sigma(o.max, float64(b))
		}
	}
	e.Baseline = s.againstBaseline(o)
	e.Outcome = s.outcome(o, e)
	if err := s.emit(e, o.id); err != nil {
		return err
	}
	if !mismatch(e.Recomputed) {
		return nil
	}
	r := e.Recomputed
	return s.diagnose(event.DiagAlarmMismatch, o.id,
		fmt.Sprintf("the portal marked %d gamma samples as alarming, and by the agent's settings %d should be; "+
			"compare nsigma, groups and intervals (%s) with the portal's own", e.GammaAlarmSamples, r.AlarmSamples, r.Source),
		map[string]float64{
			"device_alarm_samples": float64(e.GammaAlarmSamples), "agent_alarm_samples": float64(r.AlarmSamples),
			"disagreeing_samples": float64(r.DisagreeingSamples), "borderline_samples": float64(r.BorderlineSamples),
			"nsigma": r.NSigma, "intervals": float64(r.Intervals),
		})
}

// outcome sums up. "no_alarm" needs every reason to doubt it to be absent.
func (s *session) outcome(o *occupancy, e event.RadiationOccupancy) event.Outcome {
	switch {
	case e.GammaAlarm || e.NeutronAlarm:
		return event.OutcomeAlarm
	case e.End != event.EndGX, o.joinedMid, o.damaged, o.background == nil || total(*o.background) == 0,
		e.Gamma != event.HasData,
		e.Neutron != event.HasData && e.Neutron != event.NotFitted:
		return event.OutcomeIncomplete
	}
	return event.OutcomeNoAlarm
}

// medianSpeed is the median of the plausible speeds, nil if there is none.
func (p *portal) medianSpeed(speeds []float64) *float64 {
	var list []float64
	for _, v := range speeds {
		if v >= p.settings.SpeedMinKPH && v <= p.settings.SpeedMaxKPH {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	n := len(list)
	m := round3((list[(n-1)/2] + list[n/2]) / 2)
	return &m
}

// total is over all places, fitted or not: it says what the portal sent.
func total(counts [tsa.Detectors]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// rawBuffer keeps what an event may carry of its bytes, and the hash of all.
type rawBuffer struct {
	hash hash.Hash
	head []byte
	size int
}

func (r *rawBuffer) add(b []byte) {
	r.hash.Write(b) // never fails, by its documentation
	r.size += len(b)
	if room := event.MaxRaw - len(r.head); room > 0 {
		r.head = append(r.head, b[:min(room, len(b))]...)
	}
}

func (r *rawBuffer) raw() event.Raw {
	raw := event.RawOf(r.head)
	if r.size > len(r.head) {
		raw.Size, raw.SHA256, raw.Truncated = r.size, hex.EncodeToString(r.hash.Sum(nil)), true
	}
	return raw
}
