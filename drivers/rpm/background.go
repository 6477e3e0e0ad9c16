package rpm

import (
	"bytes"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// Kinds of faults.
const (
	gammaHigh   = "gamma_high"
	gammaLow    = "gamma_low"
	neutronHigh = "neutron_high"
)

// faultEdges tells which fault a background record raises, and which it clears.
// A high background does not clear a low one: both may be there, and one record
// can tell of one only.
var faultEdges = map[tsa.Tag]struct {
	raises string
	clears []string
}{
	tsa.GB: {clears: []string{gammaHigh, gammaLow}},
	tsa.GH: {raises: gammaHigh},
	tsa.GL: {raises: gammaLow},
	tsa.NB: {clears: []string{neutronHigh}},
	tsa.NH: {raises: neutronHigh},
}

// background handles GB, GH, GL, NB and NH. They come only from a free portal.
func (s *session) background(rec tsa.Record) error {
	if s.occ != nil {
		if err := s.close(event.EndGXLost, nil); err != nil {
			return err
		}
	}
	s.state = idle
	s.forgetPrelude()
	counts := rec.Counts
	gamma := rec.Tag != tsa.NB && rec.Tag != tsa.NH
	if gamma {
		s.gamma = &counts
		if rec.Tag == tsa.GB {
			s.p.baseline.add(s.now, total(counts))
		}
	} else {
		s.neutron = &counts
	}
	if err := s.ageSpeeds(gamma); err != nil {
		return err
	}
	if err := s.faults(rec); err != nil {
		return err
	}
	return s.thinned(gamma, rec)
}

// ageSpeeds gives up speed records that two backgrounds of one kind follow:
// that is 5 s of the portal's time, however fast the bytes come.
func (s *session) ageSpeeds(gamma bool) error {
	for i := range s.held {
		if gamma {
			s.held[i].gamma++
		} else {
			s.held[i].neutron++
		}
	}
	return s.dropSpeeds(func(h held) bool { return h.gamma > 1 || h.neutron > 1 })
}

func (s *session) faults(rec tsa.Record) error {
	edge := func(kind, state string) error {
		s.p.faults[kind] = state == "raised"
		return s.emit(event.RadiationFault{
			Kind: kind, State: state, CPS: s.p.pick(rec.Counts), Detectors: s.p.labels, Raw: event.RawOf(s.wire),
		}, "")
	}
	e := faultEdges[rec.Tag]
	if e.raises != "" && !s.p.faults[e.raises] {
		return edge(e.raises, "raised")
	}
	for _, kind := range e.clears {
		if s.p.faults[kind] {
			if err := edge(kind, "cleared"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) exactBackground(rec tsa.Record) {
	rates := rec.NeutronRates
	s.exact = &rates
	s.thin.exact.add(rates, s.wire)
}

// neutronBackground is the sum over all detectors in counts per second, nil if
// unknown.
func (s *session) neutronBackground() *float64 {
	var sum float64
	switch {
	case s.exact != nil:
		for _, v := range s.exact {
			sum += v
		}
	case s.neutron != nil:
		sum = float64(total(*s.neutron))
	default:
		return nil
	}
	sum = round3(sum)
	return &sum
}

// gammaModality counts detectors that the portal itself says are not in use as a
// fault, if the settings say that they are fitted. Which ones does not matter,
// as the order of the report's bits is not sure.
func (p *portal) gammaModality(data bool) event.Modality {
	switch {
	case p.faults[gammaHigh], p.faults[gammaLow], p.onLine < len(p.places):
		return event.ModalityFault
	case data:
		return event.HasData
	}
	return event.NoData
}

// neutronModality believes what comes over what the settings say: counted is
// true when neutrons were.
func (p *portal) neutronModality(data, counted bool) event.Modality {
	switch {
	case !p.settings.Neutron && !counted:
		return event.NotFitted
	case p.faults[neutronHigh]:
		return event.ModalityFault
	case data:
		return event.HasData
	}
	return event.NoData
}

// thinner gathers backgrounds for one event.
type thinner struct {
	since    time.Time // zero before the first
	sent     bool      // an event went out on this connection
	gamma    means
	neutron  means
	exact    means
	min, max int // of the gamma sum
}

// means gathers the mean of each detector's values.
type means struct {
	n    int
	sum  [tsa.Detectors]float64
	last []byte
}

func (m *means) add(v [tsa.Detectors]float64, wire []byte) {
	m.n++
	for i := range v {
		m.sum[i] += v[i]
	}
	m.last = append(m.last[:0], wire...)
}

// of gives the means of the places, rounded to three decimals; empty without
// any value.
func (m *means) of(places []int) []float64 {
	list := []float64{}
	for _, p := range places {
		if m.n > 0 {
			list = append(list, round3(m.sum[p]/float64(m.n)))
		}
	}
	return list
}

// thinned takes a background record and emits the gathered ones when it is
// time. The first event of a connection comes as soon as there is one record of
// each kind, so that a technician sees life.
func (s *session) thinned(gamma bool, rec tsa.Record) error {
	t := &s.thin
	if t.since.IsZero() {
		t.since = s.now
	}
	var v [tsa.Detectors]float64
	for i, c := range rec.Counts {
		v[i] = float64(c)
	}
	var due bool
	elapsed := s.now.Sub(t.since)
	if gamma {
		sum := total(rec.Counts)
		if t.gamma.n == 0 {
			t.min, t.max = sum, sum
		}
		t.min, t.max = min(t.min, sum), max(t.max, sum)
		t.gamma.add(v, s.wire)
		due = elapsed >= s.p.settings.BackgroundInterval ||
			!t.sent && (!s.p.settings.Neutron || t.neutron.n > 0 || t.gamma.n > 1)
	} else {
		t.neutron.add(v, s.wire)
		// A portal that sends neutron background only must not stay unheard.
		due = t.gamma.n == 0 && elapsed >= s.p.settings.BackgroundInterval+2*backgroundCadence
	}
	if !due {
		return nil
	}
	e := event.RadiationBackground{
		IntervalS: round3(elapsed.Seconds()), Records: t.gamma.n,
		GammaCPS: t.gamma.of(s.p.places), GammaSumMinCPS: t.min, GammaSumMaxCPS: t.max,
		NeutronCPS: t.neutron.of(s.p.places), Detectors: s.p.labels,
		Gamma: s.p.gammaModality(t.gamma.n > 0), Neutron: s.p.neutronModality(t.neutron.n > 0, false),
		Raw: event.RawOf(bytes.Join([][]byte{t.neutron.last, t.exact.last, t.gamma.last}, nil)),
	}
	if t.exact.n > 0 {
		e.NeutronCPS, e.NeutronExact = t.exact.of(s.p.places), true
	}
	if cps, _, ok := s.p.baseline.median(s.now); ok {
		e.BaselineCPS = &cps
	}
	s.thin = thinner{since: s.now, sent: true}
	return s.emit(e, "")
}

// baseline is the slow gamma background: the median of the sums of the normal
// background records of a while. It is bounded by time and, because a replay
// may be faster than the portal, by the number of records that the portal sends
// in that time.
type baseline struct {
	window  time.Duration
	limit   int
	records []baselineRecord // oldest first
}

type baselineRecord struct {
	at  time.Time
	sum int
}

func newBaseline(window time.Duration) *baseline {
	return &baseline{window: window, limit: int(window / backgroundCadence)}
}

func (b *baseline) add(now time.Time, sum int) {
	b.expire(now)
	if len(b.records) == b.limit {
		b.records = slices.Delete(b.records, 0, 1)
	}
	b.records = append(b.records, baselineRecord{now, sum})
}

func (b *baseline) expire(now time.Time) {
	old := 0
	for old < len(b.records) && now.Sub(b.records[old].at) > b.window {
		old++
	}
	b.records = slices.Delete(b.records, 0, old)
}

// median gives the baseline in counts per second and how many seconds of
// background it rests on, or false without any.
func (b *baseline) median(now time.Time) (cps, seconds float64, ok bool) {
	b.expire(now)
	n := len(b.records)
	if n == 0 {
		return 0, 0, false
	}
	sums := make([]int, n)
	for i, r := range b.records {
		sums[i] = r.sum
	}
	slices.Sort(sums)
	cps = (float64(sums[(n-1)/2]) + float64(sums[n/2])) / 2
	return cps, float64(n) * backgroundCadence.Seconds(), true
}

// againstBaseline sets an occupancy against the slow baseline, nil without one.
func (s *session) againstBaseline(o *occupancy) *event.Baseline {
	cps, seconds, ok := s.p.baseline.median(s.now)
	if !ok {
		return nil
	}
	e := &event.Baseline{BaselineCPS: cps, WindowS: seconds}
	if o.max >= 0 {
		e.MaxNSigma = sigma(o.max, cps)
	}
	if o.background != nil {
		e.BackgroundDepressed = float64(total(*o.background)) < s.p.settings.DepressedBelow*cps
	}
	return e
}
