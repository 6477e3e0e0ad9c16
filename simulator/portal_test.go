package simulator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plain is a lane of one portal without traffic, which tests add to.
const plain = `
name: plain
seed: 1
duration: 10m
lanes:
  - id: l
    devices:
      - id: d
        model: tsa-portal
`

// line is a record as a test reads it: by hand, without the protocol package.
type line struct {
	at   time.Duration
	text string
	tag  string
	v    [4]int
}

// linesOf takes a portal's output apart. Faults on the wire must be off.
func linesOf(t *testing.T, chunks []Chunk) []line {
	t.Helper()
	var lines []line
	for _, c := range chunks {
		text, ok := strings.CutSuffix(string(c.Bytes), "\r\n")
		require.True(t, ok, "%q does not end in CR LF", c.Bytes)
		fields := strings.Split(text, ",")
		l := line{at: c.At, text: text, tag: fields[0]}
		if len(fields) == 5 && len(fields[0]) == 2 && fields[0] != "SP" {
			for i := range 4 {
				l.v[i], _ = strconv.Atoi(fields[i+1]) // extended records have other fields
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func (l line) sum() int { return l.v[0] + l.v[1] + l.v[2] + l.v[3] }

func generated(t *testing.T, yaml string) ([]Chunk, *Truth) {
	t.Helper()
	s := MustParse(t, yaml)
	streams, truth, err := Generate(s)
	require.NoError(t, err)
	return streams["l/d"], truth
}

const lively = plain + `
    traffic:
      random: {per_hour: 300, gamma: 0.15, norm: 0.2, neutron: 0.1, stop_and_go: 0.1}
`

func hour(yaml string) string { return strings.Replace(yaml, "duration: 10m", "duration: 1h", 1) }

func hash(chunks []Chunk) string {
	h := sha256.New()
	for _, c := range chunks {
		fmt.Fprintf(h, "%d %q\n", c.At, c.Bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestSameSeedSameBytesAndTruth(t *testing.T) {
	for _, info := range Scenarios() {
		t.Run(info.Name, func(t *testing.T) {
			once := func(seed uint64) (string, string) {
				s := MustLoad(t, info.Name)
				s.Duration = 10 * time.Minute
				s.Seed += seed
				streams, truth, err := Generate(s)
				require.NoError(t, err)
				var sums, told bytes.Buffer
				for _, key := range slices.Sorted(mapKeys(streams)) {
					fmt.Fprintln(&sums, key, hash(streams[key]))
				}
				require.NoError(t, truth.WriteJSON(&told))
				return sums.String(), told.String()
			}
			bytes1, truth1 := once(0)
			bytes2, truth2 := once(0)
			bytes3, truth3 := once(1)
			require.Equal(t, bytes1, bytes2)
			require.Equal(t, truth1, truth2)
			require.NotEqual(t, bytes1, bytes3)
			require.NotEqual(t, truth1, truth3)
		})
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestClassicRecordsAreThirtyCharacters(t *testing.T) {
	shapes := map[string]*regexp.Regexp{
		"SP": regexp.MustCompile(`^SP,\d\.\d{4},\d\d\.\d{3},\d{3}\.\d\d,000000$`),
		"GX": regexp.MustCompile(`^GX,\d{6},\d{6},000000,000000$`),
	}
	groups := regexp.MustCompile(`^(GB|GH|GL|NB|NH|GS|GA|NS|NA|TT|TC)(,\d{6}){4}$`)
	chunks, _ := generated(t, hour(lively)+`
    faults:
      - {kind: gamma-high, at: 2m, for: 4m, detectors: [2]}
      - {kind: gamma-low, at: 10m, for: 4m, detectors: [3]}
      - {kind: neutron-high, at: 20m, for: 4m}
      - {kind: tamper, at: 30m}
`)
	seen := map[string]int{}
	for _, l := range linesOf(t, chunks) {
		require.Len(t, l.text, 30)
		shape := shapes[l.tag]
		if shape == nil {
			shape = groups
		}
		require.Regexp(t, shape, l.text)
		seen[l.tag]++
	}
	for _, tag := range []string{"GB", "GH", "GL", "NB", "NH", "GS", "GA", "NS", "NA", "GX", "SP", "TT", "TC"} {
		require.NotZero(t, seen[tag], "no %s", tag)
	}
	require.Contains(t, joined(chunks), "TT,000000,000000,000000,000000\r\n")
	require.Contains(t, joined(chunks), "TC,111111,111111,111111,111111\r\n")
	require.Contains(t, joined(chunks), "SP,0.0000,99.999,160.93,000000\r\n")
}

func joined(chunks []Chunk) string {
	var b bytes.Buffer
	for _, c := range chunks {
		b.Write(c.Bytes)
	}
	return b.String()
}

// The burst is that of a real portal with these settings.
const realSetup = "SG1,002000,000068,05,10,05.0,P\r\n" +
	"SG2,1111,0.069,0.455,01,1010,A\r\n" +
	"SG3,0.069,0.455,020,000,1.10.1\r\n" +
	"SN1,000050,03,0004,1200,01,120\r\n" +
	"SN2,0.504,5.040,0.504,5.040,PP\r\n"

func TestSetupBurst(t *testing.T) {
	chunks, truth := generated(t, plain+`
    faults:
      - {kind: setup, at: 1m}
      - {kind: setup, at: 2m, set: {n_sigma: 4.0, groups: [sum, single], gamma_high: 1500}}
`)
	require.Contains(t, joined(chunks), realSetup)
	require.Contains(t, joined(chunks), "SG1,001500,000068,05,10,04.0,P\r\nSG2,1111,0.069,0.455,01,1001,A\r\n")
	lines := linesOf(t, chunks)
	bursts := 0
	for i, l := range lines {
		if l.tag != "SG1" {
			continue
		}
		bursts++
		require.Equal(t, "NB", lines[i-1].tag, "the burst stands between NB and GB")
		require.Equal(t, "GB", lines[i+5].tag)
		require.LessOrEqual(t, lines[i+4].at-l.at, 31*time.Millisecond)
	}
	require.Equal(t, 2, bursts)
	reported := 0
	for _, s := range truth.States {
		if s.Subject == "setup" {
			reported++
		}
	}
	require.Equal(t, 2, reported)
}

func TestIdleCadence(t *testing.T) {
	chunks, truth := generated(t, hour(plain))
	require.Empty(t, truth.Occupancies)
	lines := linesOf(t, chunks)
	require.Less(t, lines[0].at, 5100*time.Millisecond)
	require.InDelta(t, 1440, len(lines), 2, "NB and GB each five seconds for an hour")
	for i := 0; i+3 < len(lines); i += 2 {
		require.Equal(t, "NB", lines[i].tag)
		require.Equal(t, "GB", lines[i+1].tag)
		require.InDelta(t, 80, (lines[i+1].at - lines[i].at).Milliseconds(), 10)
		require.InDelta(t, 5000, (lines[i+2].at - lines[i].at).Milliseconds(), 20)
	}
}

// TestOccupancyCadence holds the time line against that of 750 real ones.
func TestOccupancyCadence(t *testing.T) {
	chunks, truth := generated(t, hour(lively))
	lines := linesOf(t, chunks)
	occupancies, shortest := 0, 1000
	var gaps []float64
	for i := 0; i < len(lines); i++ {
		if lines[i].tag != "NS" && lines[i].tag != "NA" {
			require.Contains(t, []string{"NB", "GB", "SP"}, lines[i].tag, "only an NS begins an occupancy")
			continue
		}
		if lines[i].at > 59*time.Minute {
			break // the scenario's end may cut it
		}
		occupancies++
		start := lines[i].at
		var gamma, neutron []line
		k := i
		for ; lines[k].tag != "GX"; k++ {
			switch lines[k].tag {
			case "GS", "GA":
				gamma = append(gamma, lines[k])
			case "NS", "NA":
				neutron = append(neutron, lines[k])
			default:
				require.Equal(t, "SP", lines[k].tag, "nothing else within an occupancy")
			}
		}
		gx := lines[k]
		burst := 0
		for _, g := range gamma {
			if g.at <= start+300*time.Millisecond {
				burst++
			}
		}
		if burst < 6 { // a late record is rare
			require.Greater(t, gamma[5].at-start, 200*time.Millisecond)
		}
		require.LessOrEqual(t, burst, 7)
		for n := 6; n < len(gamma); n++ {
			gap := gamma[n].at - gamma[n-1].at
			gaps = append(gaps, gap.Seconds())
			require.LessOrEqual(t, gap, 610*time.Millisecond)
		}
		after := gx.at - gamma[len(gamma)-1].at
		require.Less(t, after, 610*time.Millisecond)
		require.InDelta(t, 5+(gx.at-start).Seconds()/0.2, float64(len(gamma)), 3.1)
		require.Equal(t, 1+(len(gamma)-5)/5, len(neutron), "one a second, the first at once")
		shortest = min(shortest, len(gamma))
		if next := lines[min(k+1, len(lines)-1)]; next.tag == "NB" {
			require.InDelta(t, 4.8, (next.at - gx.at).Seconds(), 0.45)
		}
		i = k
	}
	require.Greater(t, occupancies, 200)
	told := 0
	for _, o := range truth.Occupancies {
		if o.StartS <= 59*60 {
			told++
		}
	}
	require.Equal(t, told, occupancies)
	slices.Sort(gaps)
	require.Greater(t, gaps[len(gaps)/50], 0.15)
	require.Less(t, gaps[len(gaps)*98/100], 0.25)
	require.InDelta(t, 0.2, gaps[len(gaps)/2], 0.005)

	// The shortest possible: a beam cut for a moment.
	chunks, truth = generated(t, plain+`
    traffic:
      vehicles: [{kind: motorcycle, arrive: 20s, length: 0.5, speed: 40}]
`)
	require.Len(t, truth.Occupancies, 1)
	require.Equal(t, 15, truth.Occupancies[0].GammaSamples)
	require.InDelta(t, 2.03, truth.Occupancies[0].EndS-truth.Occupancies[0].StartS, 0.2)
	require.NotEmpty(t, chunks)
}

func TestBackToBackWithoutBackground(t *testing.T) {
	s := MustLoad(t, "back-to-back")
	streams, truth, err := Generate(s)
	require.NoError(t, err)
	lines := linesOf(t, streams["entry-1/rpm-1"])
	immediate, withinASecond := 0, 0
	for i, l := range lines {
		if l.tag != "GX" {
			continue
		}
		for _, next := range lines[i+1:] {
			if next.tag == "SP" {
				continue
			}
			if next.tag == "NS" {
				immediate++
				if next.at-l.at < time.Second {
					withinASecond++
				}
			}
			break
		}
	}
	require.Greater(t, immediate, 10)
	require.NotZero(t, withinASecond)
	both := 0
	for _, o := range truth.Occupancies {
		if len(o.Vehicles) > 1 {
			both++
		}
	}
	require.GreaterOrEqual(t, both, 2, "tailgating puts two vehicles into one occupancy")
}

// judge repeats the portal's alarm test from the text of the records alone.
type judge struct {
	background [4]int
	known      bool
	n          float64
	groups     [][]int
}

func (j judge) alarms(last5 [][4]int) bool {
	if !j.known || len(last5) < 5 {
		return false
	}
	for _, g := range j.groups {
		s, b := 0, 0
		for _, d := range g {
			b += j.background[d-1]
			for _, sample := range last5 {
				s += sample[d-1]
			}
		}
		if float64(s) >= float64(b)+j.n*math.Sqrt(float64(b)) {
			return true
		}
	}
	return false
}

// figures recomputes what an occupancy's truth must say from its lines.
func figures(t *testing.T, lines []line, j judge) []OccupancyTruth {
	var all []OccupancyTruth
	var o *OccupancyTruth
	var samples [][4]int
	var early []line
	for _, l := range lines {
		switch l.tag {
		case "GB", "GH", "GL":
			require.Nil(t, o)
			j.background, j.known = l.v, true
		case "SP":
			if o == nil {
				early = append(early, l)
				continue
			}
			o.SpeedsKPH = append(o.SpeedsKPH, kph(t, l))
		case "NS", "NA":
			if o == nil {
				o = &OccupancyTruth{StartS: seconds(l.at), SpeedsKPH: []float64{}}
				samples = nil
				if j.known {
					o.GammaBgSumCPS = j.background[0] + j.background[1] + j.background[2] + j.background[3]
				}
				for _, e := range early {
					if l.at-e.at < 400*time.Millisecond {
						o.SpeedsKPH = append(o.SpeedsKPH, kph(t, e))
					}
				}
				early = nil
			}
			o.NeutronSamples++
			o.NeutronCounts += l.sum()
			require.Equal(t, l.sum() >= 20, l.tag == "NA", "%s at %v", l.text, l.at)
			if l.tag == "NA" {
				o.NeutronAlarmSamples++
				o.NeutronAlarm = true
			}
		case "GS", "GA":
			samples = append(samples, l.v)
			last := samples[max(0, len(samples)-5):]
			sum := 0
			for _, s := range last {
				sum += s[0] + s[1] + s[2] + s[3]
			}
			o.GammaSamples++
			o.GammaMax5SampleSum = max(o.GammaMax5SampleSum, sum)
			require.Equal(t, j.alarms(last), l.tag == "GA", "%s at %v", l.text, l.at)
			if l.tag == "GA" {
				o.GammaAlarmSamples++
				o.GammaAlarm = true
			}
		case "GX":
			o.GXCounter = l.v[0]
			o.NeutronBgCPS = float64(l.v[1]) / 1000
			o.EndS = seconds(l.at)
			o.SpeedRecords = len(o.SpeedsKPH)
			if b := float64(o.GammaBgSumCPS); b > 0 {
				o.GammaMaxNSigma = math.Round(1000*(float64(o.GammaMax5SampleSum)-b)/math.Sqrt(b)) / 1000
			}
			all = append(all, *o)
			o = nil
		}
	}
	return all
}

func kph(t *testing.T, l line) float64 {
	v, err := strconv.ParseFloat(strings.Split(l.text, ",")[3], 64)
	require.NoError(t, err)
	return v
}

// TestTruthIsWhatTheBytesSay recomputes every figure and every alarm.
func TestTruthIsWhatTheBytesSay(t *testing.T) {
	for name, c := range map[string]struct {
		settings string
		groups   [][]int
		n        float64
	}{
		"sum and vertical": {"{counter: 629}", [][]int{{1, 2, 3, 4}, {1, 2}, {3, 4}}, 5},
		"all groups, four sigma": {"{n_sigma: 4, groups: [sum, horizontal, vertical, single]}",
			[][]int{{1, 2, 3, 4}, {1, 2}, {3, 4}, {1, 3}, {2, 4}, {1}, {2}, {3}, {4}}, 4},
		"two detectors":    {"{detectors: [1, 3]}", [][]int{{1, 3}, {1}, {3}}, 5},
		"extended records": {"{extended: true}", [][]int{{1, 2, 3, 4}, {1, 2}, {3, 4}}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			chunks, truth := generated(t, strings.Replace(hour(lively), "model: tsa-portal", "model: tsa-portal\n        settings: "+c.settings, 1))
			got := figures(t, linesOf(t, chunks), judge{n: c.n, groups: c.groups})
			if last := truth.Occupancies[len(truth.Occupancies)-1]; last.End == "scenario-end" {
				truth.Occupancies = truth.Occupancies[:len(truth.Occupancies)-1]
			}
			require.Equal(t, len(truth.Occupancies), len(got))
			gamma, neutron := 0, 0
			for i, want := range truth.Occupancies {
				require.True(t, want.Intact())
				if want.GammaAlarm {
					gamma++
				}
				if want.NeutronAlarm {
					neutron++
				}
				// What the bytes can't tell.
				want.Kind, want.Lane, want.Device, want.Occupancy, want.Vehicles, want.CutS, want.End = "", "", "", 0, nil, 0, ""
				want.NSigma, want.Groups, want.Intervals, want.SourceInside, want.BackgroundTag = 0, nil, 0, false, ""
				want.Touched, want.TouchedBackground, want.TouchedSetup, want.TouchedEnd = nil, nil, nil, nil
				require.Equal(t, want, got[i], "occupancy %d", i+1)
			}
			require.NotZero(t, gamma)
			require.NotZero(t, neutron)
		})
	}
}

func TestCounterCountsAndRestarts(t *testing.T) {
	_, truth := generated(t, strings.Replace(hour(lively), "model: tsa-portal", "model: tsa-portal\n        settings: {counter: 999996}", 1)+`
    faults: [{kind: counter-reset, at: 30m}]
`)
	var counters []int
	restarted := 0
	for _, o := range truth.Occupancies {
		if o.End == "gx" {
			counters = append(counters, o.GXCounter)
		}
		if o.GXCounter == 1 {
			restarted++
		}
	}
	require.Equal(t, []int{999997, 999998, 999999, 1, 2}, counters[:5])
	require.Equal(t, 2, restarted, "once over the top, once by the fault")
}

// sampleFigures are mean and variance of each detector's 200 ms samples over
// many passages of vehicles that keep nothing away.
func TestCountsArePoisson(t *testing.T) {
	var yaml strings.Builder
	yaml.WriteString(hour(plain) + "    traffic:\n      vehicles:\n")
	for i := range 60 {
		fmt.Fprintf(&yaml, "        - {kind: car, arrive: %ds, length: 4, speed: 3, shielding: 0}\n", 10+30*i)
	}
	chunks, _ := generated(t, yaml.String())
	var gamma, neutron [4][]float64
	for _, l := range linesOf(t, chunks) {
		for i := range 4 {
			switch l.tag {
			case "GS", "GA":
				gamma[i] = append(gamma[i], float64(l.v[i]))
			case "NS", "NA":
				neutron[i] = append(neutron[i], float64(l.v[i]))
			}
		}
	}
	require.Greater(t, len(gamma[0]), 2000)
	want := DefaultPortal()
	for i := range 4 {
		mean, variance := moments(gamma[i])
		require.InDelta(t, want.GammaBackground[i]*0.2, mean, 1)
		require.InDelta(t, 1, variance/mean, 0.15, "variance and mean of a Poisson number are equal")
		mean, variance = moments(neutron[i])
		require.InDelta(t, want.NeutronBackground[i], mean, 0.15)
		require.InDelta(t, 1, variance/mean, 0.3)
	}
	// Against the formula, for a small and a large mean.
	rng := newRand(1, "poisson")
	for _, mean := range []float64{0.4, 12, 29.9, 30.1, 800} {
		n := make([]float64, 50_000)
		zeros := 0
		for i := range n {
			n[i] = float64(poisson(rng, mean))
			if n[i] == 0 {
				zeros++
			}
		}
		m, v := moments(n)
		require.InEpsilon(t, mean, m, 0.01)
		require.InEpsilon(t, mean, v, 0.04)
		require.InDelta(t, math.Exp(-mean), float64(zeros)/50_000, 0.01)
	}
	require.Zero(t, poisson(rng, 0))
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(x)-1)
}

func TestVehiclesShieldTheBackground(t *testing.T) {
	_, truth := generated(t, hour(plain)+`
    traffic:
      random: {per_hour: 400}
`)
	require.Greater(t, len(truth.Vehicles), 200)
	for _, v := range truth.Vehicles {
		require.GreaterOrEqual(t, v.Shielding, 0.2)
		require.LessOrEqual(t, v.Shielding, 0.4)
	}
	// Long trucks: what the middle of a passage counts.
	chunks, _ := generated(t, plain+`
    traffic:
      vehicles:
        - {kind: truck, arrive: 30s, length: 18, speed: 3, shielding: 0.4}
        - {kind: truck, arrive: 2m, length: 18, speed: 3, shielding: 0.2}
`)
	var passages [][]float64
	for _, l := range linesOf(t, chunks) {
		switch l.tag {
		case "GS", "GA":
			passages[len(passages)-1] = append(passages[len(passages)-1], 5*float64(l.sum()))
		case "GX", "NB":
			if len(passages) == 0 || len(passages[len(passages)-1]) > 0 {
				passages = append(passages, nil)
			}
		}
	}
	for i, kept := range []float64{0.6, 0.8} {
		middle := passages[i][30:90]
		mean, _ := moments(middle)
		require.InDelta(t, kept, mean/(401+406+436+436), 0.02)
	}
}

// TestBackgroundIsARollingMean looks for the mark of a mean over four blocks:
// its steps are anti-correlated at a lag of four, and not at shorter ones.
func TestBackgroundIsARollingMean(t *testing.T) {
	chunks, _ := generated(t, strings.Replace(plain, "duration: 10m", "duration: 6h", 1))
	var gb []float64
	for _, l := range linesOf(t, chunks) {
		if l.tag == "GB" {
			gb = append(gb, float64(l.sum()))
		}
	}
	mean, variance := moments(gb)
	require.InDelta(t, 401+406+436+436-2, mean, 2, "each of four values is cut to a whole number")
	require.InDelta(t, mean/20, variance, mean/60, "a mean over 20 s")
	var steps []float64
	for i := 1; i < len(gb); i++ {
		steps = append(steps, gb[i]-gb[i-1])
	}
	for lag := 1; lag <= 6; lag++ {
		sum := 0.0
		for i := lag; i < len(steps); i++ {
			sum += steps[i] * steps[i-lag]
		}
		_, v := moments(steps)
		r := sum / float64(len(steps)-lag) / v
		if lag == 4 {
			require.InDelta(t, -0.5, r, 0.08)
		} else {
			require.InDelta(t, 0, r, 0.08, "lag %d", lag)
		}
	}
}

func TestVehicleBesideDepressesTheBackground(t *testing.T) {
	s := MustLoad(t, "depressed-background")
	streams, truth, err := Generate(s)
	require.NoError(t, err)
	lowest, usual := 10_000, 0
	for _, l := range linesOf(t, streams["entry-1/rpm-1"]) {
		if l.tag == "GB" {
			lowest, usual = min(lowest, l.sum()), max(usual, l.sum())
		}
	}
	require.InDelta(t, 0.6, float64(lowest)/float64(usual), 0.06)
	var alarms []OccupancyTruth
	for _, o := range truth.Occupancies {
		if o.GammaAlarm {
			alarms = append(alarms, o)
		}
	}
	require.Len(t, alarms, 3)
	require.False(t, alarms[0].SourceInside)
	require.False(t, alarms[1].SourceInside)
	require.True(t, alarms[2].SourceInside)
	for _, v := range truth.Vehicles {
		if v.Beside {
			for _, o := range truth.Occupancies {
				require.NotContains(t, o.Vehicles, v.Vehicle)
			}
		}
	}
}

func TestDemoAlarmsSoon(t *testing.T) {
	s := MustLoad(t, "demo")
	s.Duration = 3 * time.Minute
	_, truth, err := Generate(s)
	require.NoError(t, err)
	for _, id := range []string{"rpm-1", "rpm-2"} {
		d := truth.Device("entry-1", id)
		gamma, neutron := 0.0, 0.0
		for _, o := range d.Occupancies {
			if o.GammaAlarm && gamma == 0 {
				gamma = o.EndS
			}
			if o.NeutronAlarm && neutron == 0 {
				neutron = o.EndS
			}
		}
		require.Greater(t, gamma, 0.0)
		require.Greater(t, neutron, 0.0)
		require.Less(t, gamma, 40.0)
		require.Less(t, neutron, 40.0)
		require.InDelta(t, 12, len(d.Occupancies), 5, "a vehicle about each 15 s")
	}
}

func TestSources(t *testing.T) {
	// A point source in the middle gives what it says at its peak; off the
	// middle, the nearer pillar gets more.
	peak := func(yaml string) (sum float64, left, right int) {
		chunks, _ := generated(t, plain+"    traffic:\n      vehicles:\n        - "+yaml+"\n")
		var last [][4]int
		best := 0
		for _, l := range linesOf(t, chunks) {
			if l.tag == "GS" || l.tag == "GA" {
				last = append(last, l.v)
				last = last[max(0, len(last)-5):]
				total := 0
				for _, s := range last {
					total += s[0] + s[1] + s[2] + s[3]
				}
				best = max(best, total)
				left += l.v[0] + l.v[1]
				right += l.v[2] + l.v[3]
			}
		}
		return float64(best) - 1679, left, right
	}
	sum, _, _ := peak("{kind: truck, arrive: 20s, length: 10, speed: 2, shielding: 0, gamma: {cps: 20000}}")
	require.InEpsilon(t, 20000, sum, 0.05)
	sum, _, _ = peak("{kind: truck, arrive: 20s, length: 10, speed: 2, shielding: 0, gamma: {cps: 20000, broad: 6}}")
	require.InEpsilon(t, 20000, sum, 0.05)
	_, left, right := peak("{kind: truck, arrive: 20s, length: 10, speed: 5, gamma: {cps: 20000, offset: 1.5}}")
	require.Greater(t, float64(right), 2*float64(left))
}

func TestSpeedRecords(t *testing.T) {
	chunks, truth := generated(t, hour(lively))
	before, capped, total, near := 0, 0, 0, 0
	lines := linesOf(t, chunks)
	idle := true
	for _, l := range lines {
		switch l.tag {
		case "NS", "NA":
			idle = false
		case "GX":
			idle = true
		case "SP":
			total++
			if idle {
				before++
			}
			if kph(t, l) == 160.93 {
				capped++
			}
		}
	}
	speedOf := map[int]float64{}
	for _, v := range truth.Vehicles {
		speedOf[v.Vehicle] = v.SpeedKPH
	}
	for _, o := range truth.Occupancies {
		require.LessOrEqual(t, o.SpeedRecords, 6*len(o.Vehicles))
		for _, s := range o.SpeedsKPH {
			if math.Abs(s-speedOf[o.Vehicles[0]]) < 0.2*speedOf[o.Vehicles[0]] {
				near++
			}
		}
	}
	require.Greater(t, before, total/10)
	require.NotZero(t, capped)
	require.Greater(t, near, total*7/10, "most tell the true speed")
}

func TestExtendedRecords(t *testing.T) {
	chunks, _ := generated(t, strings.Replace(lively, "model: tsa-portal",
		"model: tsa-portal\n        settings: {extended: true, neutron_background: [3.8, 0, 2.8, 0]}", 1))
	shapes := map[string]*regexp.Regexp{
		"NB1": regexp.MustCompile(`^NB1(,\d+\.\d{8}){4}$`),
		"AB1": regexp.MustCompile(`^AB1(,\d+\.\d{8}){4}$`),
		"AR":  regexp.MustCompile(`^AR(,\d\.\d{4}){4}$`),
		"AS":  regexp.MustCompile(`^AS(,\d{6}){4}$`),
		"AM":  regexp.MustCompile(`^AM(,\d{6}){4}$`),
		"AX":  regexp.MustCompile(`^AX(,[ 0-9-]{2}\d\.\d{4}){5}$`),
		"AA":  regexp.MustCompile(`^AA,00000([123]),00000([123]),00000([123]),11111A$`),
		"AC":  regexp.MustCompile(`^AC(,-?\d+\.\d{8}){2}$`),
		"NC":  regexp.MustCompile(`^NC(,-?\d+\.\d{8}){2}$`),
		"NX":  regexp.MustCompile(`^NX(,-?\d+\.\d{8}){2}$`),
		"NZ":  regexp.MustCompile(`^NZ(,-?\d+\.\d{8}){2}$`),
		"RW":  regexp.MustCompile(`^RW(,000000){4}$`),
	}
	seen := map[string]int{}
	lines := linesOf(t, chunks)
	var tags []string
	for i, l := range lines {
		if shape := shapes[l.tag]; shape != nil {
			require.Regexp(t, shape, l.text)
		} else {
			require.Len(t, l.text, 30)
		}
		require.GreaterOrEqual(t, len(l.text), 22)
		require.LessOrEqual(t, len(l.text), 55)
		seen[l.tag]++
		tags = append(tags, l.tag)
		if l.tag != "NB1" {
			continue
		}
		// NB is what NB1 is without its decimals; the next GX has 1000 times
		// their sum, cut.
		sum := 0.0
		for k, f := range strings.Split(l.text, ",")[1:] {
			v, err := strconv.ParseFloat(f, 64)
			require.NoError(t, err)
			require.Equal(t, int(v), lines[i-1].v[k])
			sum += v
		}
		for _, next := range lines[i+1:] {
			if next.tag == "GX" {
				require.Equal(t, int(1000*sum+1e-3), next.v[1])
			}
			if next.tag == "GX" || next.tag == "NB1" {
				break
			}
		}
	}
	for tag := range shapes {
		require.NotZero(t, seen[tag], "no %s", tag)
	}
	all := strings.Join(tags, " ")
	require.Contains(t, all, "NC NX NB NB1 GB RW AC AB1 AR")
	require.Contains(t, all, "NZ NS GS GS GS GS GS GS AS")
	require.Contains(t, all, "GA AS AX AM AA")
}

func TestGuards(t *testing.T) {
	chunks, _ := generated(t, strings.Replace(plain, "model: tsa-portal", "model: tsa-portal\n        settings: {guards: true}", 1))
	for _, c := range chunks {
		require.Len(t, c.Bytes, 34)
		require.Regexp(t, `^!(NB|GB)(,\d{6}){4}\r\n#$`, string(c.Bytes))
	}
}

func TestPowerCycle(t *testing.T) {
	chunks, truth := generated(t, plain+`
    traffic:
      vehicles:
        - {kind: truck, arrive: 58s, length: 10, speed: 4}
        - {kind: car, arrive: 2m}
        - {kind: car, arrive: 150s}
    faults: [{kind: power-cycle, at: 1m, for: 40s}]
`)
	require.Len(t, truth.Occupancies, 3)
	require.Equal(t, "power-cycle", truth.Occupancies[0].End)
	require.False(t, truth.Occupancies[0].Intact())
	require.Equal(t, 1, truth.Occupancies[1].GXCounter)
	broke, silent := false, true
	for _, c := range chunks {
		if c.Break {
			broke = true
			require.InDelta(t, 60, c.At.Seconds(), 0.3)
			require.Equal(t, 40*time.Second, c.Down)
		} else if c.At > 60500*time.Millisecond && c.At < 100*time.Second {
			silent = false
		}
	}
	require.True(t, broke)
	require.True(t, silent)
	var states []string
	for _, s := range truth.States {
		states = append(states, s.Subject+" "+s.State)
	}
	require.Equal(t, []string{"power off", "power on"}, states)
}

// TestNothingOverflows: sources beyond all reason still give six digits.
func TestNothingOverflows(t *testing.T) {
	chunks, truth := generated(t, strings.Replace(plain, "model: tsa-portal",
		"model: tsa-portal\n        settings: {gamma_background: [100000, 0, 0, 100000], neutron_background: [100000, 1, 1, 100000], gamma_high: 999999}", 1)+`
    traffic:
      vehicles: [{kind: truck, arrive: 20s, speed: 4, gamma: {cps: 1000000}, neutron: {cps: 1000000}}]
    faults: [{kind: gamma-high, at: 2m, detectors: [1], cps: 1000000}]
`)
	most := 0
	for _, l := range linesOf(t, chunks) {
		require.Len(t, l.text, 30)
		most = max(most, slices.Max(l.v[:]))
	}
	require.Equal(t, 999_999, most)
	require.Equal(t, 999.999, truth.Occupancies[0].NeutronBgCPS)
}
