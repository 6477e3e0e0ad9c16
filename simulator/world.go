package simulator

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The lane's geometry in metres. The beam is at 0; vehicles drive toward
// positive numbers.
const (
	// approach is where a vehicle begins and, behind its rear, where it ends.
	approach = 8.0
	// halfLane is from the middle of the lane to a pillar; halfHeight is from
	// the height of a source to that of a detector.
	halfLane, halfHeight = 2.5, 0.7
	// view is how far to each side a vehicle still takes background away;
	// full is how much vehicle there must be in view to take all it can.
	view, full = 3.0, 4.0
	// broadPoints stand for a source that is spread out.
	broadPoints = 9
)

// Times of traffic in seconds.
const (
	// bumper is the least time between a vehicle and the one behind it.
	bumper = 0.3
	// lookAhead is how long before its arrival a vehicle is made: longer than
	// the slowest takes for the approach.
	lookAhead = 40.0
	// opening is when random traffic begins: after every portal's first report
	// of its background.
	opening = 6.0
)

// vehicleKind is the range of what a kind of vehicle is like.
type vehicleKind struct {
	length, speed, shielding [2]float64
	weight                   float64 // in the default mix
	cargo                    bool    // may carry naturally radioactive goods
}

var vehicleKinds = map[string]vehicleKind{
	"motorcycle": {length: [2]float64{1.9, 2.4}, speed: [2]float64{8, 20}, shielding: [2]float64{0.02, 0.05}},
	"car":        {length: [2]float64{3.6, 5.0}, speed: [2]float64{8, 20}, shielding: [2]float64{0.20, 0.26}, weight: 6},
	"van":        {length: [2]float64{5.0, 7.0}, speed: [2]float64{7, 16}, shielding: [2]float64{0.22, 0.30}, weight: 1},
	"bus":        {length: [2]float64{10.0, 13.5}, speed: [2]float64{6, 12}, shielding: [2]float64{0.25, 0.34}, weight: 1},
	"truck":      {length: [2]float64{8.0, 18.5}, speed: [2]float64{5, 11}, shielding: [2]float64{0.28, 0.40}, weight: 4, cargo: true},
}

func kindNames() string { return strings.Join(slices.Sorted(maps.Keys(vehicleKinds)), ", ") }

// newRand gives each part of a scenario a source of its own, so that a change
// in one part leaves the others as they were.
func newRand(seed uint64, parts ...string) *rand.Rand {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p)) // a hash never fails
		h.Write([]byte{0})
	}
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func between(rng *rand.Rand, r [2]float64) float64 { return r[0] + (r[1]-r[0])*rng.Float64() }

// vehicle is one vehicle with its whole drive known. Times are in seconds.
type vehicle struct {
	n         int
	what      string  // its kind
	kph       float64 // how fast it drives where nothing stops it
	length    float64
	shielding float64
	gamma     *source
	neutron   *source
	beside    bool
	knots     []knot
	// beam holds when it cuts the beam, in order.
	beam []span
	// entries are what the truth has to say of it.
	entries []Entry
}

// knot is where the front is at a time; between knots it moves evenly.
type knot struct{ t, x float64 }

type span struct{ from, to float64 }

func (v *vehicle) start() float64 { return v.knots[0].t }
func (v *vehicle) end() float64   { return v.knots[len(v.knots)-1].t }

// front is where the front is at t, which must lie within start and end.
func (v *vehicle) front(t float64) float64 {
	i, _ := slices.BinarySearchFunc(v.knots, t, func(k knot, t float64) int {
		if k.t <= t {
			return -1
		}
		return 1
	})
	if i == 0 {
		return v.knots[0].x
	}
	if i == len(v.knots) {
		return v.knots[i-1].x
	}
	a, b := v.knots[i-1], v.knots[i]
	return a.x + (b.x-a.x)*(t-a.t)/(b.t-a.t)
}

// shadow is the share of the gamma background that the vehicle takes at t.
func (v *vehicle) shadow(t float64) float64 {
	x := v.front(t)
	seen := min(x, view) - max(x-v.length, -view)
	return v.shielding * min(1, max(0, seen)/full)
}

// source is radioactive material, as points behind the front.
type source struct {
	cps    float64
	points []float64 // m behind the front
	offset float64   // m from the middle of the lane
	peak   float64   // what field gives when it is highest
}

func newSource(s Source, length float64) *source {
	if s.CPS == 0 {
		return nil
	}
	at := length / 2
	if s.At != nil {
		at = min(*s.At, length)
	}
	src := &source{cps: s.CPS, offset: s.Offset, points: []float64{at}, peak: 1}
	if s.Broad > 0 {
		src.points = nil
		src.peak = 0
		for i := range broadPoints {
			d := s.Broad * (float64(i)/(broadPoints-1) - 0.5)
			src.points = append(src.points, at+d)
			src.peak += field(d, 0, 1) / broadPoints
		}
	}
	return src
}

// field is what a detector in the pillar at side (1 or -1) gets from a point at
// x along and y across the lane, against a point in the middle of the portal:
// the inverse square of the distance times the slant at which the flat
// detector sees it.
func field(x, y, side float64) float64 {
	d0 := halfLane*halfLane + halfHeight*halfHeight
	across := halfLane - side*y
	d := x*x + across*across + halfHeight*halfHeight
	return math.Pow(d0/d, 1.5)
}

// rate is what the source gives to one of n detectors, in counts per second.
func (s *source) rate(front float64, place, n int) float64 {
	if s == nil {
		return 0
	}
	side := -1.0
	if place >= places/2 {
		side = 1
	}
	sum := 0.0
	for _, p := range s.points {
		sum += field(front-p, s.offset, side)
	}
	return s.cps / float64(n) * sum / float64(len(s.points)) / s.peak
}

// traffic makes the vehicles of a lane, one after the other.
type traffic struct {
	lane     *Lane
	rng      *rand.Rand
	faults   []*schedule
	listed   int // of the listed vehicles, how many are made
	made     int
	nominal  float64 // when the last one was to arrive
	clear    float64 // when the last one will have left the beam
	followup []Vehicle
}

func newTraffic(seed uint64, lane *Lane) *traffic {
	t := &traffic{lane: lane, rng: newRand(seed, lane.ID, "traffic"), clear: -lookAhead}
	for i, f := range lane.Faults {
		if faultKinds[f.Kind].where == InWorld {
			t.faults = append(t.faults, newSchedule(f, newRand(seed, lane.ID, "world fault", f.Kind, strconv.Itoa(i))))
		}
	}
	return t
}

// next makes the next vehicle; nil means that there is none.
func (t *traffic) next() *vehicle {
	if len(t.followup) > 0 {
		v := t.followup[0]
		t.followup = t.followup[1:]
		return t.make(v, nil)
	}
	v, ok := t.spec()
	if !ok {
		return nil
	}
	arrive := time.Duration(t.nominalOf(v) * float64(time.Second))
	var faults []*FaultTruth
	for _, s := range t.faults {
		if !s.due(arrive) {
			continue
		}
		truth := &FaultTruth{Lane: t.lane.ID, Fault: s.Kind, Where: InWorld, Effect: s.kind.effect, AtS: seconds(s.next)}
		switch s.Kind {
		case "stop-beside":
			v.Stops = append(slices.Clone(v.Stops), Stop{At: -0.4, For: s.For})
			slices.SortStableFunc(v.Stops, func(a, b Stop) int { return cmp.Compare(a.At, b.At) })
		case "stop-inside":
			v.Stops = []Stop{{At: 0.4 * v.Length, For: s.For}}
		case "reverse":
			v.Reverse = &Reverse{At: 0.5 * v.Length, By: 0.5*v.Length + 2}
		case "tailgate":
			follower := t.random()
			follower.Follows = time.Duration(between(s.rng, [2]float64{bumper, 1.3}) * float64(time.Second))
			t.followup = append(t.followup, follower)
		case "parked-beside":
			// It comes first; the vehicle itself is next.
			t.followup = slices.Insert(t.followup, 0, v)
			v = Vehicle{Kind: "truck", Arrive: s.next, Length: 16, Speed: 10, Beside: true, Stops: []Stop{{At: 8, For: s.For}}}
		}
		s.done(arrive)
		faults = append(faults, truth)
		if s.Kind == "parked-beside" {
			break
		}
	}
	return t.make(v, faults)
}

// spec is the next vehicle before anything happens to it.
func (t *traffic) spec() (Vehicle, bool) {
	if t.listed < len(t.lane.Traffic.Vehicles) {
		v := t.lane.Traffic.Vehicles[t.listed]
		t.listed++
		k := vehicleKinds[v.Kind]
		// Drawn whether used or not, so that giving one value leaves the others.
		length, speed, shielding := between(t.rng, k.length), between(t.rng, k.speed), between(t.rng, k.shielding)
		if v.Length == 0 {
			v.Length = length
		}
		if v.Speed == 0 {
			v.Speed = speed
		}
		if v.Shielding == nil {
			v.Shielding = &shielding
		}
		return v, true
	}
	r := t.lane.Traffic.Random
	if r == nil {
		return Vehicle{}, false
	}
	v := t.random()
	arrive := max(t.nominal+t.rng.ExpFloat64()*3600/r.PerHour, t.clear+2.2+2*t.rng.Float64(), opening)
	v.Arrive = time.Duration(arrive * float64(time.Second))
	return v, true
}

// random draws a vehicle without a time.
func (t *traffic) random() Vehicle {
	r := t.lane.Traffic.Random
	if r == nil {
		r = &RandomTraffic{}
	}
	kind := t.kind(r.Mix)
	k := vehicleKinds[kind]
	shielding := between(t.rng, k.shielding)
	v := Vehicle{Kind: kind, Length: between(t.rng, k.length), Speed: between(t.rng, k.speed), Shielding: &shielding}
	chance, place, strength := [4]float64{}, t.rng.Float64(), t.rng.Float64()
	for i := range chance {
		chance[i] = t.rng.Float64()
	}
	at := (0.1 + 0.8*place) * v.Length
	offset := 1.5 * (2*t.rng.Float64() - 1)
	if chance[0] < r.Gamma {
		v.Gamma = &Source{CPS: 300 * math.Pow(20, strength), At: &at, Offset: offset}
	}
	if k.cargo && chance[1] < r.Norm {
		v.Gamma = &Source{CPS: 200 + 1300*strength, Broad: 0.6 * v.Length}
	}
	if chance[2] < r.Neutron {
		v.Neutron = &Source{CPS: 40 + 160*strength, At: &at}
	}
	if chance[3] < r.StopAndGo {
		v.Stops = []Stop{{At: at, For: time.Duration((2 + 8*strength) * float64(time.Second))}}
	}
	return v
}

func (t *traffic) kind(mix map[string]float64) string {
	sum := 0.0
	weight := func(kind string) float64 {
		if len(mix) > 0 {
			return mix[kind]
		}
		return vehicleKinds[kind].weight
	}
	kinds := slices.Sorted(maps.Keys(vehicleKinds))
	for _, kind := range kinds {
		sum += weight(kind)
	}
	x := t.rng.Float64() * sum
	for _, kind := range kinds {
		if x -= weight(kind); x < 0 {
			return kind
		}
	}
	return "car"
}

// nominalOf is when the vehicle is to arrive, never before the one ahead.
func (t *traffic) nominalOf(v Vehicle) float64 {
	if v.Follows > 0 {
		return max(t.nominal, t.clear+v.Follows.Seconds())
	}
	return max(t.nominal, v.Arrive.Seconds())
}

// make works out the drive.
func (t *traffic) make(s Vehicle, faults []*FaultTruth) *vehicle {
	t.nominal = t.nominalOf(s)
	t.made++
	if s.Shielding == nil {
		x := between(t.rng, vehicleKinds[s.Kind].shielding)
		s.Shielding = &x
	}
	v := &vehicle{n: t.made, what: s.Kind, kph: s.Speed, length: s.Length, shielding: *s.Shielding, beside: s.Beside}
	if s.Gamma != nil {
		v.gamma = newSource(*s.Gamma, s.Length)
	}
	if s.Neutron != nil {
		v.neutron = newSource(*s.Neutron, s.Length)
	}
	v.drive(s)
	arrive := t.nominal
	if s.Follows > 0 {
		arrive = t.clear + s.Follows.Seconds() - v.beam[0].from
	}
	tailgates := false
	if !v.beside {
		arrive = max(arrive, t.clear+bumper-v.beam[0].from)
		tailgates = arrive+v.beam[0].from-t.clear < 2
	}
	for i := range v.knots {
		v.knots[i].t += arrive
	}
	for i := range v.beam {
		v.beam[i].from += arrive
		v.beam[i].to += arrive
	}
	enter, leave := v.beam[0].from, v.beam[len(v.beam)-1].to
	if v.beside {
		v.beam = nil
	} else {
		t.clear = leave
	}

	truth := &VehicleTruth{
		Kind: "vehicle", Lane: t.lane.ID, Vehicle: v.n, What: s.Kind, LengthM: round(s.Length, 2), SpeedKPH: round(s.Speed, 2),
		Shielding: round(*s.Shielding, 3), Reverses: s.Reverse != nil, Beside: s.Beside, TailgatesOne: tailgates,
		EnterS: round(enter, 3), LeaveS: round(leave, 3),
	}
	if s.Gamma != nil {
		truth.GammaCPS, truth.GammaBroadM = round(s.Gamma.CPS, 1), round(s.Gamma.Broad, 2)
	}
	if s.Neutron != nil {
		truth.NeutronCPS = round(s.Neutron.CPS, 1)
	}
	for _, stop := range s.Stops {
		truth.StoppedS += round(stop.For.Seconds(), 3)
	}
	v.entries = append(v.entries, truth)
	for _, f := range faults {
		f.Kind, f.Vehicle = "fault", v.n
		f.AtS = max(f.AtS, 0)
		f.UntilS = max(f.AtS, truth.LeaveS)
		v.entries = append(v.entries, f)
	}
	return v
}

// drive works out the knots and the times at which the beam is cut, for a
// vehicle that would reach the beam at 0.
func (v *vehicle) drive(s Vehicle) {
	speed := s.Speed / 3.6
	t, x := -approach/speed, -approach
	v.knots = []knot{{t, x}}
	move := func(to float64) {
		if to != x {
			t += math.Abs(to-x) / speed
			x = to
			v.knots = append(v.knots, knot{t, x})
		}
	}
	back := func() {
		move(s.Reverse.At)
		move(max(s.Reverse.At-s.Reverse.By, -approach))
	}
	reverse := s.Reverse != nil
	for _, stop := range s.Stops {
		if reverse && s.Reverse.At <= stop.At {
			back()
			reverse = false
		}
		move(stop.At)
		t += stop.For.Seconds()
		v.knots = append(v.knots, knot{t, x})
	}
	if reverse {
		back()
	}
	move(max(x, s.Length+approach))

	for i := 1; i < len(v.knots); i++ {
		a, b := v.knots[i-1], v.knots[i]
		cut, ok := within(a, b, s.Length)
		if !ok {
			continue
		}
		if n := len(v.beam); n > 0 && v.beam[n-1].to >= cut.from {
			v.beam[n-1].to = cut.to
		} else {
			v.beam = append(v.beam, cut)
		}
	}
}

// within is when, from a to b, the front is between 0 and length past the beam.
func within(a, b knot, length float64) (span, bool) {
	if a.x == b.x {
		return span{a.t, b.t}, a.x >= 0 && a.x <= length
	}
	at := func(x float64) float64 { return a.t + (x-a.x)/(b.x-a.x)*(b.t-a.t) }
	from, to := at(0), at(length)
	if from > to {
		from, to = to, from
	}
	from, to = max(from, a.t), min(to, b.t)
	return span{from, to}, from < to
}

// poisson draws a number of counts.
func poisson(rng *rand.Rand, mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean < 30 {
		// Knuth: how many uniform numbers, until their product is too small.
		limit, product, n := math.Exp(-mean), rng.Float64(), 0
		for product > limit {
			product *= rng.Float64()
			n++
		}
		return n
	}
	// Transformed rejection (Hörmann's PTRS) for larger means.
	slope := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*slope
	inverse := 1.1239 + 1.1328/(slope-3.4)
	quick := 0.9277 - 3.6224/(slope-2)
	for {
		u, v := rng.Float64()-0.5, rng.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+slope)*u + mean + 0.43)
		if us >= 0.07 && v <= quick {
			return int(k)
		}
		if k < 0 || us < 0.013 && v > us {
			continue
		}
		lg, _ := math.Lgamma(k + 1)
		if math.Log(v*inverse/(a/(us*us)+slope)) <= k*math.Log(mean)-mean-lg {
			return int(k)
		}
	}
}

// round gives the number that the decimals of x are.
func round(x float64, decimals int) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', decimals, 64), 64)
	if err != nil {
		return x // not a number, or infinite
	}
	return v
}
