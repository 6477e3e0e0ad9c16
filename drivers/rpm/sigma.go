package rpm

import (
	"math"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// algorithm is how the portal tests gamma samples for an alarm.
type algorithm struct {
	nsigma    float64
	intervals int
	kinds     []string // of groups, as in Settings.Groups
	source    string   // "profile" or "setup"
}

// groups lists the sums of detectors that a portal may test. Detectors 1 and 2
// stand in one pillar, 3 and 4 in the other.
var groups = [...]struct {
	kind, name string
	places     []int
}{
	{"sum", "sum", []int{0, 1, 2, 3}},
	{"vertical", "vertical-1", []int{0, 1}},
	{"vertical", "vertical-2", []int{2, 3}},
	{"horizontal", "horizontal-1", []int{0, 2}},
	{"horizontal", "horizontal-2", []int{1, 3}},
	{"single", "single-1", []int{0}},
	{"single", "single-2", []int{1}},
	{"single", "single-3", []int{2}},
	{"single", "single-4", []int{3}},
}

// groupKinds lists the kinds of groups in the order of the setup record's bits.
func groupKinds() []string { return []string{"sum", "horizontal", "vertical", "single"} }

const (
	// borderline is how near the threshold, in counts, a sample may lie for
	// portal and agent to differ on it: the portal cuts the background that it
	// reports to whole numbers and tests with the uncut one.
	borderline = 2
	// mismatchSamples is how many samples beyond that make a mismatch even if
	// the alarm as a whole agrees. With the portal's own settings there are
	// none; a single one may come of a record lost on the way.
	mismatchSamples = 3
)

// sigma is how far a sum lies above its expectation, in units of the
// expectation's square root, rounded to three decimals; nil when there is none.
func sigma(sum int, expected float64) *float64 {
	if expected <= 0 {
		return nil
	}
	v := round3((float64(sum) - expected) / math.Sqrt(expected))
	return &v
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

// window sums the last values of a series.
type window struct {
	values []int
	n, sum int
}

func newWindow(size int) window { return window{values: make([]int, size)} }

// add takes the next value. full says that the sum is over a whole window.
func (w *window) add(v int) (sum int, full bool) {
	i := w.n % len(w.values)
	w.sum += v - w.values[i]
	w.values[i] = v
	w.n++
	if w.n == 2*len(w.values) {
		w.n = len(w.values) // so that it never overflows
	}
	return w.sum, w.n >= len(w.values)
}

// recomputation repeats the portal's gamma alarm test over one occupancy.
type recomputation struct {
	algorithm algorithm
	groups    []groupTest

	judged, alarms          int
	disagreeing, borderline int
}

// groupTest is the test of one group.
type groupTest struct {
	name      string
	labels    []string
	places    []int
	bg        int
	expected  float64 // counts within the window by the background
	threshold float64
	window    window
	max       int
	alarms    int
}

// newRecomputation makes a test against the frozen background.
func (p *portal) newRecomputation(bg [tsa.Detectors]int) *recomputation {
	r := &recomputation{algorithm: p.algorithm}
	for _, g := range groups {
		if !slices.Contains(p.algorithm.kinds, g.kind) {
			continue
		}
		t := groupTest{name: g.name, window: newWindow(p.algorithm.intervals), max: -1}
		for _, place := range g.places {
			if l := p.settings.Detectors[place]; fitted(l) {
				t.places = append(t.places, place)
				t.labels = append(t.labels, l)
				t.bg += bg[place]
			}
		}
		if len(t.places) == 0 {
			continue
		}
		// The background is in counts per second. A window of another length
		// than a second expects its part of it.
		t.expected = float64(t.bg) * float64(p.algorithm.intervals) / secondOfSamples
		t.threshold = t.expected + p.algorithm.nsigma*math.Sqrt(t.expected)
		r.groups = append(r.groups, t)
	}
	return r
}

// add judges the next sample and compares with the portal's own mark. The first
// samples, with which no window is full, are not judged.
func (r *recomputation) add(counts [tsa.Detectors]int, marked bool) {
	nearest, full := math.Inf(-1), true
	for i := range r.groups {
		g := &r.groups[i]
		v := 0
		for _, place := range g.places {
			v += counts[place]
		}
		var sum int
		if sum, full = g.window.add(v); !full {
			continue
		}
		g.max = max(g.max, sum)
		if g.expected <= 0 {
			continue // nothing to measure by
		}
		over := float64(sum) - g.threshold
		if over >= 0 {
			g.alarms++
		}
		nearest = max(nearest, over)
	}
	if !full {
		return
	}
	r.judged++
	if nearest >= 0 {
		r.alarms++
	}
	if nearest >= 0 != marked {
		r.disagreeing++
		if math.Abs(nearest) <= borderline {
			r.borderline++
		}
	}
}

// result is the judgement, nil if no sample could be judged. alarm is the
// portal's own latched alarm.
func (r *recomputation) result(alarm bool) *event.Recomputed {
	if r == nil || r.judged == 0 {
		return nil
	}
	e := &event.Recomputed{
		NSigma: r.algorithm.nsigma, Intervals: r.algorithm.intervals, Source: r.algorithm.source,
		Groups:       make([]event.GroupSigma, 0, len(r.groups)),
		AlarmSamples: r.alarms, DisagreeingSamples: r.disagreeing, BorderlineSamples: r.borderline,
		Agrees: r.alarms > 0 == alarm,
	}
	for _, g := range r.groups {
		e.Groups = append(e.Groups, event.GroupSigma{
			Group: g.name, Detectors: g.labels, BgCPS: g.bg,
			MaxSum: g.max, MaxNSigma: sigma(g.max, g.expected), AlarmSamples: g.alarms,
		})
	}
	return e
}

// mismatch says that the portal can't have used the same settings.
func mismatch(e *event.Recomputed) bool {
	if e == nil {
		return false
	}
	beyond := e.DisagreeingSamples - e.BorderlineSamples
	return beyond >= mismatchSamples || beyond > 0 && !e.Agrees
}
