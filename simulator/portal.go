package simulator

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// The cadence of a portal, as measured on a day of a real one.
const (
	places = tsa.Detectors
	// tick is the time of one gamma sample.
	tick = 200 * time.Millisecond
	// mostInRecord is what six digits hold, mostInTick what a detector counts at
	// most in a tick, so that a second of it still fits.
	mostInRecord = 999_999
	mostInTick   = mostInRecord / int(time.Second/tick)
	// presamples is how many samples from before the beam was cut come first.
	presamples = 5
	// neutronTicks is how many ticks make a neutron sample.
	neutronTicks = 5
	// blockTicks make a block of the background, which is reported then.
	blockTicks = 25
	// gammaBlocks and neutronBlocks are the blocks that the backgrounds are the
	// mean of: 20 s and 120 s.
	gammaBlocks, neutronBlocks = 4, 24
	// gammaAfterNeutron is how long after NB the GB comes.
	gammaAfterNeutron = 80 * time.Millisecond
	// burstGap parts records that are sent in one go.
	burstGap = 3 * time.Millisecond
	// usualLag is how late a record is at most, and worstLag one in lateOneIn.
	usualLag, worstLag = 40 * time.Millisecond, 400 * time.Millisecond
	lateOneIn          = 400
	// speedLead is how long before the beam is cut a speed record may come.
	speedLead = 300 * time.Millisecond
	// strayReach is how long before an occupancy a speed record without one can
	// be taken for one of it.
	strayReach = 2 * time.Second
	// bootTime is from power to the first tick.
	bootTime = 500 * time.Millisecond
)

// groupNames are the groups of detectors that an alarm test may run over, in
// the order of the bits of SG2.
var groupNames = [...]string{"sum", "horizontal", "vertical", "single"}

// groupPlaces are the places of each group.
var groupPlaces = map[string][][]int{
	"sum":        {{0, 1, 2, 3}},
	"horizontal": {{0, 2}, {1, 3}},
	"vertical":   {{0, 1}, {2, 3}},
	"single":     {{0}, {1}, {2}, {3}},
}

// portal is a radiation portal as a generator: each step is a tick of 200 ms
// of simulated time and yields the records that fall due in it.
type portal struct {
	lane, id string
	set      PortalSettings
	fitted   [places]bool
	encode   encoder
	traffic  *traffic
	// witness is true for the device that tells the truth about vehicles.
	witness bool
	faults  []*schedule
	phys    *rand.Rand // counts
	habit   *rand.Rand // lags, speeds and other habits of the electronics

	phase time.Duration // of the ticks
	n     int64         // ticks so far
	last  time.Duration // when the last record was sent
	out   []item
	later []item // truth about vehicles on the way
	err   error

	coming   []*vehicle
	noMore   bool
	speeds   []speedDue
	active   []detectorFault
	tampered time.Duration // until when; 0 if it is not
	// early are speed records that were sent before their occupancy, stray is
	// when the last one without any was.
	early []float64
	stray time.Duration

	off     bool
	powerAt time.Duration

	// Idle: samples of the block, and the blocks that backgrounds are made of.
	recent        [][places]int // gamma samples, the last ones last
	recentNeutron [][places]int
	blockLeft     int
	gammaBlock    [places]int
	neutronBlock  [places]int
	gammaHistory  [][places]int
	neutronHist   [][places]int

	gammaTag     tsa.Tag // of the last gamma background sent; "" if none
	gammaCPS     [places]int
	neutronTag   tsa.Tag
	neutronCPS   [places]float64
	setupPending *SetupChange
	counter      int
	occupancies  int
	occ          *occupancy
	sigma        float64 // of the strongest group at the last sample
}

// occupancy is the one that goes on.
type occupancy struct {
	truth   OccupancyTruth
	samples [][places]int
	index   int // of the next sample after the early ones
	clear   int // ticks since the beam was last cut
}

// detectorFault sets the rates of some detectors.
type detectorFault struct {
	kind   string
	places []int
	cps    float64
	until  time.Duration
}

type speedDue struct {
	at, kph float64
	early   bool // comes before the beam is cut
}

func newPortal(seed uint64, lane *Lane, d *Device, witness bool) *portal {
	p := &portal{
		lane: lane.ID, id: d.ID, set: *d.Settings, witness: witness,
		traffic: newTraffic(seed, lane),
		phys:    newRand(seed, lane.ID, d.ID, "counts"),
		habit:   newRand(seed, lane.ID, d.ID, "habits"),
		counter: d.Settings.Counter,
		encode:  encoder{guards: d.Settings.Guards},
	}
	for _, place := range p.set.Detectors {
		p.fitted[place-1] = true
	}
	for i, f := range lane.Faults {
		if faultKinds[f.Kind].where == InDevice && (f.Device == "" || f.Device == d.ID) {
			p.faults = append(p.faults, newSchedule(f, newRand(seed, lane.ID, d.ID, "device fault", f.Kind, strconv.Itoa(i))))
		}
	}
	p.phase = time.Duration(p.habit.Int64N(int64(tick/time.Millisecond))) * time.Millisecond
	// The portal has been on for longer than its backgrounds reach back.
	for range neutronBlocks {
		var gamma, neutron [places]int
		for i := range places {
			if p.fitted[i] {
				gamma[i] = poisson(p.phys, p.set.GammaBackground[i]*(blockTicks*tick).Seconds())
				neutron[i] = poisson(p.phys, p.set.NeutronBackground[i]*(blockTicks*tick).Seconds())
			}
		}
		p.gammaHistory = pushLast(p.gammaHistory, gamma, gammaBlocks)
		p.neutronHist = pushLast(p.neutronHist, neutron, neutronBlocks)
	}
	p.blockLeft = 1 + p.habit.IntN(blockTicks)
	for i := range places {
		if p.fitted[i] {
			gone := float64(blockTicks-p.blockLeft) * tick.Seconds()
			p.gammaBlock[i] = poisson(p.phys, p.set.GammaBackground[i]*gone)
			p.neutronBlock[i] = poisson(p.phys, p.set.NeutronBackground[i]*gone)
		}
	}
	p.neutronCPS = p.neutronMean()
	return p
}

func pushLast(list [][places]int, v [places]int, most int) [][places]int {
	if len(list) >= most {
		list = append(list[:0], list[len(list)-most+1:]...)
	}
	return append(list, v)
}

// next returns the next item; false means that an error ended the stream.
func (p *portal) next() (item, bool) {
	for len(p.out) == 0 && p.err == nil {
		p.step()
		slices.SortStableFunc(p.out, func(a, b item) int { return cmp.Compare(a.at, b.at) })
	}
	if p.err != nil {
		return item{}, false
	}
	it := p.out[0]
	p.out = p.out[1:]
	return it, true
}

// end gives the truth about an occupancy that the scenario's end cuts off.
func (p *portal) end(at time.Duration) []item {
	p.out = nil
	if p.occ != nil {
		p.closeOccupancy(at, "scenario-end")
	}
	return p.out
}

// step lives through one tick.
func (p *portal) step() {
	from := p.phase + time.Duration(p.n)*tick
	to := from + tick
	p.n++
	p.meet(to)
	p.deviceFaults(to)
	if p.off {
		if to < p.powerAt {
			return
		}
		p.boot(to)
		return
	}
	gamma, neutron := p.count(from, to)
	cut, isCut := p.beamCut(from, to)

	if p.occ == nil && !isCut {
		p.sendSpeeds(to)
		p.remember(gamma, neutron)
		p.idle(to, gamma, neutron)
		return
	}
	if p.occ == nil {
		p.sendSpeeds(cut)
		p.openOccupancy(cut)
	}
	p.sendSpeeds(to)
	p.noteVehicles(from, to)
	if isCut {
		p.occ.clear = 0
	} else {
		p.occ.clear++
	}
	lag := p.lag()
	if p.occ.index > 0 && p.occ.index%neutronTicks == 0 {
		p.neutronSample(to + lag)
	}
	if p.occ.clear >= p.set.HoldIn {
		p.sendGX(to + lag)
		p.remember(gamma, neutron)
		p.blockLeft, p.gammaBlock, p.neutronBlock = blockTicks, [places]int{}, [places]int{}
		p.idle(to, gamma, neutron)
		return
	}
	if p.occ.index == 0 {
		for _, s := range p.recent {
			p.gammaSample(to+lag, s)
		}
	}
	p.gammaSample(to+lag, gamma)
	p.extendedSample(to+lag, gamma)
	p.remember(gamma, neutron)
	p.occ.index++
}

// meet makes the vehicles that will soon be there, and forgets those gone by.
func (p *portal) meet(now time.Duration) {
	t := now.Seconds()
	for !p.noMore && p.traffic.nominal < t+lookAhead {
		v := p.traffic.next()
		if v == nil {
			p.noMore = true
			break
		}
		p.coming = append(p.coming, v)
		p.speedsOf(v)
		if p.witness {
			for _, e := range v.entries {
				p.later = append(p.later, item{at: time.Duration(e.EntryTime() * float64(time.Second)), truth: e})
			}
		}
	}
	p.later = slices.DeleteFunc(p.later, func(it item) bool {
		if it.at <= now {
			p.out = append(p.out, it)
		}
		return it.at <= now
	})
	p.coming = slices.DeleteFunc(p.coming, func(v *vehicle) bool { return v.end() < t-1 })
}

// speedsOf draws the speed records that a vehicle will cause.
func (p *portal) speedsOf(v *vehicle) {
	if len(v.beam) == 0 {
		return
	}
	truth := v.entries[0].(*VehicleTruth)
	for i := range p.habit.IntN(5) + p.habit.IntN(3) {
		s := speedDue{at: v.beam[0].from + p.habit.Float64()*(v.beam[len(v.beam)-1].to-v.beam[0].from)}
		if i == 0 && p.habit.IntN(2) == 0 {
			s.at, s.early = v.beam[0].from-p.habit.Float64()*speedLead.Seconds(), true
		}
		s.kph = truth.SpeedKPH * (1 + 0.04*p.habit.NormFloat64())
		if p.habit.Float64() < p.set.SpuriousSpeed {
			s.kph = [...]float64{10 + 150*p.habit.Float64(), 2 * tsa.MaxKPH, 1e6}[p.habit.IntN(3)]
		}
		p.speeds = append(p.speeds, s)
	}
	slices.SortStableFunc(p.speeds, func(a, b speedDue) int { return cmp.Compare(a.at, b.at) })
}

func (p *portal) sendSpeeds(until time.Duration) {
	for len(p.speeds) > 0 && p.speeds[0].at <= until.Seconds() {
		s := p.speeds[0]
		p.speeds = p.speeds[1:]
		p.sendSpeed(time.Duration(s.at*float64(time.Second)), s.kph, s.early)
	}
}

func (p *portal) sendSpeed(at time.Duration, kph float64, early bool) {
	speed := tsa.SpeedOf(round(0.3048/(kph/3.6), 4))
	sent := round(speed.KPH, 2)
	occ := 0
	switch {
	case p.occ != nil:
		p.occ.truth.SpeedsKPH = append(p.occ.truth.SpeedsKPH, sent)
		occ = p.occupancies
	case early:
		p.early = append(p.early, sent)
		occ = p.occupancies + 1
	default:
		p.stray = at
	}
	p.sendFor(occ, at, tsa.Record{Tag: tsa.SP, Speed: speed})
}

// count draws what the detectors count in a tick.
func (p *portal) count(from, to time.Duration) (gamma, neutron [places]int) {
	t := (from + (to-from)/2).Seconds()
	light := 1.0
	for _, v := range p.coming {
		if v.start() <= t && t <= v.end() {
			light *= 1 - v.shadow(t)
		}
	}
	for i := range places {
		if !p.fitted[i] {
			continue
		}
		g, n := p.set.GammaBackground[i]*light, p.set.NeutronBackground[i]
		for _, v := range p.coming {
			if v.start() <= t && t <= v.end() {
				front := v.front(t)
				g += v.gamma.rate(front, i, len(p.set.Detectors))
				n += v.neutron.rate(front, i, len(p.set.Detectors))
			}
		}
		for _, f := range p.active {
			if slices.Contains(f.places, i+1) {
				if f.kind == "neutron-high" {
					n = f.cps
				} else {
					g = f.cps
				}
			}
		}
		gamma[i] = min(poisson(p.phys, g*tick.Seconds()), mostInTick)
		neutron[i] = min(poisson(p.phys, n*tick.Seconds()), mostInTick)
	}
	return gamma, neutron
}

// beamCut tells when, in the tick, the beam was first seen cut.
func (p *portal) beamCut(from, to time.Duration) (time.Duration, bool) {
	f, t := from.Seconds(), to.Seconds()
	first := math.Inf(1)
	for _, v := range p.coming {
		for _, s := range v.beam {
			if s.from <= t && s.to > f {
				first = min(first, max(s.from, f))
			}
		}
	}
	if math.IsInf(first, 1) {
		return 0, false
	}
	return time.Duration(first * float64(time.Second)), true
}

func (p *portal) noteVehicles(from, to time.Duration) {
	f, t := from.Seconds(), to.Seconds()
	for _, v := range p.coming {
		for _, s := range v.beam {
			if s.from <= t && s.to > f && !slices.Contains(p.occ.truth.Vehicles, v.n) {
				p.occ.truth.Vehicles = append(p.occ.truth.Vehicles, v.n)
				p.occ.truth.SourceInside = p.occ.truth.SourceInside || v.gamma != nil || v.neutron != nil
			}
		}
	}
}

// remember keeps the samples of the last second.
func (p *portal) remember(gamma, neutron [places]int) {
	p.recent = pushLast(p.recent, gamma, presamples)
	p.recentNeutron = pushLast(p.recentNeutron, neutron, neutronTicks)
}

// idle adds a tick to the background and reports it when a block is full.
func (p *portal) idle(to time.Duration, gamma, neutron [places]int) {
	for i := range places {
		p.gammaBlock[i] += gamma[i]
		p.neutronBlock[i] += neutron[i]
	}
	if p.blockLeft--; p.blockLeft > 0 {
		return
	}
	p.gammaHistory = pushLast(p.gammaHistory, p.gammaBlock, gammaBlocks)
	p.neutronHist = pushLast(p.neutronHist, p.neutronBlock, neutronBlocks)
	p.blockLeft, p.gammaBlock, p.neutronBlock = blockTicks, [places]int{}, [places]int{}
	p.report(to)
}

func (p *portal) neutronMean() [places]float64 {
	var mean [places]float64
	for i := range places {
		sum := 0
		for _, b := range p.neutronHist {
			sum += b[i]
		}
		if len(p.neutronHist) > 0 {
			mean[i] = float64(sum) / (float64(len(p.neutronHist)) * (blockTicks * tick).Seconds())
		}
	}
	return mean
}

// report sends the backgrounds, and the setup if it is to be sent.
func (p *portal) report(to time.Duration) {
	p.neutronCPS = p.neutronMean()
	var counts [places]int
	tag, state := tsa.NB, "normal"
	for i, cps := range p.neutronCPS {
		counts[i] = int(cps)
		if p.fitted[i] && counts[i] > p.set.NeutronHigh {
			tag, state = tsa.NH, "high"
		}
	}
	at := to + time.Duration(p.habit.Int64N(10))*time.Millisecond
	p.extendedBefore(at)
	p.state(at, "neutron", state, p.neutronTag, tag)
	p.neutronTag = tag
	p.send(at, tsa.Record{Tag: tag, Counts: counts})
	p.extendedNeutron(at)
	if p.setupPending != nil {
		p.reportSetup(at + burstGap)
	}

	tag, state = tsa.GB, "normal"
	for i := range places {
		sum := 0
		for _, b := range p.gammaHistory {
			sum += b[i]
		}
		// Whole counts per second, cut like those of NB.
		p.gammaCPS[i] = sum * int(time.Second/tick) / (len(p.gammaHistory) * blockTicks)
		if p.fitted[i] && p.gammaCPS[i] < p.set.GammaLow && tag == tsa.GB {
			tag, state = tsa.GL, "low"
		}
		if p.fitted[i] && p.gammaCPS[i] > p.set.GammaHigh {
			tag, state = tsa.GH, "high"
		}
	}
	at += gammaAfterNeutron + time.Duration(p.habit.Int64N(9)-4)*time.Millisecond
	p.state(at, "gamma", state, p.gammaTag, tag)
	p.gammaTag = tag
	p.send(at, tsa.Record{Tag: tag, Counts: p.gammaCPS})
	p.extendedAfter(at)
}

// state tells the truth about a change; the first report is one only if it is
// not normal.
func (p *portal) state(at time.Duration, subject, state string, before, now tsa.Tag) {
	if before == now || before == "" && state == "normal" {
		return
	}
	p.tell(at, &StateTruth{Kind: "state", Lane: p.lane, Device: p.id, AtS: seconds(at), Subject: subject, State: state})
}

func (p *portal) openOccupancy(cut time.Duration) {
	p.occupancies++
	groups := slices.DeleteFunc(slices.Clone(groupNames[:]), func(g string) bool { return !slices.Contains(p.set.Groups, g) })
	p.occ = &occupancy{truth: OccupancyTruth{
		Kind: "occupancy", Lane: p.lane, Device: p.id, Occupancy: p.occupancies, CutS: seconds(cut),
		NSigma: p.set.NSigma, Groups: groups, Intervals: p.set.Intervals, BackgroundTag: string(p.gammaTag),
		Vehicles: []int{}, SpeedsKPH: []float64{}, Touched: []Touch{},
		TouchedBackground: []Touch{}, TouchedSetup: []Touch{}, TouchedEnd: []Touch{},
	}}
	if p.gammaTag != "" {
		p.occ.truth.GammaBgSumCPS = sumOf(p.gammaCPS, groupPlaces["sum"][0])
	}
	p.occ.truth.SpeedsKPH = append(p.occ.truth.SpeedsKPH, p.early...)
	p.early = nil
	if p.stray > 0 && cut-p.stray < strayReach {
		p.occ.truth.Touched = append(p.occ.truth.Touched, Touch{Fault: "stray-speed", Tag: string(tsa.SP), AtS: seconds(p.stray)})
	}
	at := cut + time.Duration(5+p.habit.IntN(15))*time.Millisecond
	p.neutronSample(at)
	p.occ.truth.StartS = seconds(p.last)
}

// neutronSample sends the neutron counts of the last five ticks that are over.
func (p *portal) neutronSample(at time.Duration) {
	p.extendedNeutronScan(at)
	var counts [places]int
	sum := 0
	for _, s := range p.recentNeutron {
		for i, n := range s {
			counts[i] += n
			sum += n
		}
	}
	tag := tsa.NS
	truth := &p.occ.truth
	if sum >= p.set.NeutronAlarm {
		tag = tsa.NA
		truth.NeutronAlarm = true
		truth.NeutronAlarmSamples++
	}
	truth.NeutronSamples++
	truth.NeutronCounts += sum
	p.send(at, tsa.Record{Tag: tag, Counts: counts})
}

func sumOf(counts [places]int, group []int) int {
	sum := 0
	for _, i := range group {
		sum += counts[i]
	}
	return sum
}

// gammaSample judges a sample and sends it.
func (p *portal) gammaSample(at time.Duration, counts [places]int) {
	o := p.occ
	o.samples = pushLast(o.samples, counts, max(p.set.Intervals, presamples))
	truth := &o.truth
	truth.GammaSamples++
	sum := 0
	for _, s := range o.samples[max(0, len(o.samples)-presamples):] {
		sum += sumOf(s, groupPlaces["sum"][0])
	}
	truth.GammaMax5SampleSum = max(truth.GammaMax5SampleSum, sum)
	tag := tsa.GS
	if p.alarms() {
		tag = tsa.GA
		truth.GammaAlarm = true
		truth.GammaAlarmSamples++
	}
	p.send(at, tsa.Record{Tag: tag, Counts: counts})
}

// alarms is the portal's gamma test: over each group of detectors, the sum of
// the last samples against the frozen background. Before there are enough
// samples, or without any background, it does not alarm.
func (p *portal) alarms() bool {
	o := p.occ
	p.sigma = 0
	if p.gammaTag == "" || len(o.samples) < p.set.Intervals || o.truth.GammaSamples < p.set.Intervals {
		return false
	}
	alarm := false
	for _, name := range p.occ.truth.Groups {
		for _, group := range groupPlaces[name] {
			background, sum := sumOf(p.gammaCPS, group), 0
			if background == 0 {
				continue // no fitted detector, or a dead one
			}
			for _, s := range o.samples[len(o.samples)-p.set.Intervals:] {
				sum += sumOf(s, group)
			}
			// The background of the time that the samples took.
			b := float64(background*p.set.Intervals) / float64(time.Second/tick)
			if float64(sum) >= b+p.set.NSigma*math.Sqrt(b) {
				alarm = true
			}
			p.sigma = max(p.sigma, (float64(sum)-b)/math.Sqrt(b))
		}
	}
	return alarm
}

func (p *portal) sendGX(at time.Duration) {
	p.counter++
	if p.counter > mostInRecord {
		p.counter = 1
	}
	sum := 0.0
	for _, cps := range p.neutronCPS {
		sum += cps
	}
	// The small addend keeps a sum of 1/120ths from falling short of itself.
	milli := min(int(1000*sum+1e-6), mostInRecord)
	p.occ.truth.GXCounter = p.counter
	p.occ.truth.NeutronBgCPS = round(float64(milli)/1000, 3)
	p.send(at, tsa.Record{Tag: tsa.GX, Counter: p.counter, NeutronBackground: milli})
	p.closeOccupancy(p.last, "gx")
}

func (p *portal) closeOccupancy(at time.Duration, how string) {
	truth := &p.occ.truth
	truth.End, truth.EndS = how, seconds(at)
	truth.SpeedRecords = len(truth.SpeedsKPH)
	if b := float64(truth.GammaBgSumCPS); b > 0 {
		truth.GammaMaxNSigma = round((float64(truth.GammaMax5SampleSum)-b)/math.Sqrt(b), 3)
	}
	p.tell(at, truth)
	p.occ = nil
}

// deviceFaults begins and ends what the device suffers.
func (p *portal) deviceFaults(now time.Duration) {
	if p.tampered > 0 && p.tampered <= now {
		p.tampered = 0
		p.stateNow(now, "tamper", "clear")
		if !p.off {
			p.send(now, tsa.Record{Tag: tsa.TC, Counts: [places]int{111111, 111111, 111111, 111111}})
		}
	}
	p.active = slices.DeleteFunc(p.active, func(f detectorFault) bool { return f.until <= now })
	for _, s := range p.faults {
		if !s.due(now) || p.off {
			continue
		}
		p.begin(now, s)
		s.done(now)
	}
}

func (p *portal) begin(now time.Duration, s *schedule) {
	truth := &FaultTruth{
		Kind: "fault", Lane: p.lane, Device: p.id, Fault: s.Kind, Where: InDevice, Effect: s.kind.effect,
		AtS: seconds(now), UntilS: seconds(now + s.For),
	}
	if p.occ != nil {
		truth.Occupancy = p.occupancies
	}
	if s.kind.cps != nil {
		f := detectorFault{kind: s.Kind, places: s.Detectors, cps: s.CPS, until: now + s.For}
		if len(f.places) == 0 {
			f.places = p.set.Detectors
		}
		if f.cps == 0 {
			f.cps = s.kind.cps(&p.set)
		}
		truth.Detectors, truth.CPS = f.places, f.cps
		p.active = append(p.active, f)
	}
	p.tell(now, truth)
	switch s.Kind {
	case "tamper":
		if p.tampered == 0 {
			p.stateNow(now, "tamper", "on")
			p.send(now, tsa.Record{Tag: tsa.TT})
		}
		p.tampered = max(p.tampered, now+s.For)
	case "setup":
		p.setupPending = &SetupChange{}
		if s.Set != nil {
			p.setupPending = s.Set
		}
		truth.Setup = p.setupPending
	case "counter-reset":
		p.counter = 0
		p.stateNow(now, "counter", "reset")
	case "power-cycle":
		p.out = append(p.out, item{at: now, link: linkBreak, down: s.For, fault: s.Kind})
		if p.occ != nil {
			p.closeOccupancy(now, "power-cycle")
		}
		p.off, p.powerAt = true, now+s.For
		p.stateNow(now, "power", "off")
	case "stray-speed":
		p.sendSpeed(now, 160*p.habit.Float64()+1, false)
	}
}

func (p *portal) stateNow(at time.Duration, subject, state string) {
	p.tell(at, &StateTruth{Kind: "state", Lane: p.lane, Device: p.id, AtS: seconds(at), Subject: subject, State: state})
}

// boot is power coming back: what the portal had in memory is gone, its setup
// is not.
func (p *portal) boot(now time.Duration) {
	p.off = false
	p.stateNow(now, "power", "on")
	if p.counter > 0 {
		p.stateNow(now, "counter", "reset")
	}
	p.counter = 0
	p.recent, p.recentNeutron, p.gammaHistory, p.neutronHist = nil, nil, nil, nil
	p.gammaTag, p.neutronTag, p.early = "", "", nil
	p.gammaCPS, p.neutronCPS = [places]int{}, [places]float64{}
	p.blockLeft, p.gammaBlock, p.neutronBlock = blockTicks+int(bootTime/tick), [places]int{}, [places]int{}
	p.speeds = slices.DeleteFunc(p.speeds, func(s speedDue) bool { return s.at <= now.Seconds() })
}

// lag is how long after its tick a record is sent.
func (p *portal) lag() time.Duration {
	most := usualLag
	if p.habit.IntN(lateOneIn) == 0 {
		most = worstLag
	}
	return time.Duration(p.habit.Int64N(int64(most/time.Millisecond))) * time.Millisecond
}

// send sends a record of the occupancy that goes on, or of none.
func (p *portal) send(at time.Duration, r tsa.Record) {
	occ := 0
	if p.occ != nil {
		occ = p.occupancies
	}
	p.sendFor(occ, at, r)
}

// sendFor encodes a record and queues it, never before the one ahead.
func (p *portal) sendFor(occ int, at time.Duration, r tsa.Record) {
	b, err := p.encode.record(r)
	if err != nil {
		p.err = fmt.Errorf("encode %s of %s/%s: %w", r.Tag, p.lane, p.id, err)
		return
	}
	at = at.Truncate(time.Millisecond)
	if at < p.last+burstGap && p.last > 0 {
		at = p.last + burstGap
	}
	p.last = at
	p.out = append(p.out, item{at: at, bytes: b, tag: r.Tag, occ: occ})
}

func (p *portal) tell(at time.Duration, e Entry) {
	p.out = append(p.out, item{at: at, truth: e})
}
