package simulator

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/tsa"
)

const passing = plain + `
    traffic:
      vehicles:
        - {kind: truck, arrive: 58s, length: 12, speed: 8, gamma: {cps: 8000}}
        - {kind: car, arrive: 2m}
`

func withFault(fault string) string { return passing + "    faults: [" + fault + "]\n" }

// TestWireFaultsChangeWhatTheTruthSays plays the same scenario with and without
// a fault, and turns the one into the other with nothing but the truth.
func TestWireFaultsChangeWhatTheTruthSays(t *testing.T) {
	clean, cleanTruth := generated(t, passing)
	for _, fault := range []string{
		"{kind: cut, at: 59s, records: 20}",
		"{kind: cut, every: 3s}",
		"{kind: garble, at: 59s, records: 10}",
		"{kind: garble, every: 3s}",
		"{kind: noise, at: 59s, records: 10}",
		"{kind: duplicate, at: 59s, records: 10}",
		"{kind: drop, at: 59s, records: 10}",
		"{kind: drop, tag: GX}",
		"{kind: drop, tag: GX, every: 10ms}",
		"{kind: drop, tag: GA, every: 500ms}",
		"{kind: cut, tag: GB, every: 10s}",
	} {
		t.Run(fault, func(t *testing.T) {
			if strings.Contains(fault, "10ms") {
				_, err := Parse("x", []byte(withFault(fault)))
				require.ErrorContains(t, err, "every: 10ms is out of range")
				return
			}
			chunks, truth := generated(t, withFault(fault))
			want := slices.Clone(clean)
			require.NotEmpty(t, truth.Faults)
			for _, f := range truth.Faults {
				require.Equal(t, OnWire, f.Where)
				was, err := strconv.Unquote(f.Was)
				require.NoError(t, err)
				became, err := strconv.Unquote(f.Became)
				require.NoError(t, err)
				require.NotEqual(t, was, became)
				require.True(t, strings.HasPrefix(was, f.Tag+","))
				i := slices.IndexFunc(want, func(c Chunk) bool { return seconds(c.At) == f.AtS && string(c.Bytes) == was })
				require.GreaterOrEqual(t, i, 0, "%+v", f)
				want[i].Bytes = []byte(became)
				switch f.Fault {
				case "cut":
					require.Less(t, len(strings.TrimRight(became, "\r\n")), len(was)-2)
					require.True(t, strings.HasPrefix(was, strings.TrimRight(became, "\r\n")))
				case "garble":
					require.Equal(t, len(was), len(became))
					require.True(t, strings.HasSuffix(became, "\r\n"))
				case "noise":
					require.True(t, strings.HasSuffix(became, was))
				case "duplicate":
					require.Equal(t, was+was, became)
				case "drop":
					require.Empty(t, became)
				}
				if f.Occupancy > 0 {
					touched := truth.Occupancies[f.Occupancy-1].Touched
					require.Contains(t, touched, Touch{Fault: f.Fault, Tag: f.Tag, AtS: f.AtS})
				}
			}
			require.Equal(t, joined(want), joined(chunks))
			// The figures are those of the portal, whatever happens on the way.
			for i, o := range truth.Occupancies {
				o.Touched, o.TouchedBackground, o.TouchedEnd = []Touch{}, []Touch{}, []Touch{}
				require.Equal(t, cleanTruth.Occupancies[i], o)
			}
		})
	}
}

// TestACutRecordSpoilsTheNext: without its line end, a record and the next are
// one line.
func TestACutRecordSpoilsTheNext(t *testing.T) {
	spoilt := 0
	for seed := range 20 {
		s := MustParse(t, withFault("{kind: cut, at: 59s}"))
		s.Seed = uint64(seed)
		_, truth, err := Generate(s)
		require.NoError(t, err)
		became, err := strconv.Unquote(truth.Faults[0].Became)
		require.NoError(t, err)
		touched := truth.Occupancies[0].Touched
		if strings.HasSuffix(became, "\r\n") {
			require.Len(t, touched, 1)
		} else {
			require.Len(t, touched, 2)
			spoilt++
		}
	}
	require.Greater(t, spoilt, 4)
	require.Less(t, spoilt, 16)
}

func TestStall(t *testing.T) {
	clean, _ := generated(t, passing)
	chunks, truth := generated(t, withFault("{kind: stall, at: 60s, for: 4s}"))
	require.Equal(t, joined(clean), joined(chunks), "nothing is lost")
	from := truth.Faults[0].AtS
	require.InDelta(t, 60, from, 0.3)
	held := 0
	for _, c := range chunks {
		at := c.At.Seconds()
		require.False(t, at > from && at < from+4-0.001, "bytes at %v", c.At)
		if seconds(c.At) == round(from+4, 3) {
			held++
		}
	}
	require.Greater(t, held, 15, "what was held back comes at once")
	require.InDelta(t, held*3/4, len(truth.Occupancies[0].Touched), 5, "all but those of the last second")
}

func TestSlow(t *testing.T) {
	clean, _ := generated(t, passing)
	chunks, truth := generated(t, withFault("{kind: slow, at: 60s, for: 3s}"))
	require.Equal(t, joined(clean), joined(chunks))
	single := 0
	for _, c := range chunks {
		if at := c.At.Seconds(); at > truth.Faults[0].AtS && at < truth.Faults[0].AtS+3 {
			require.Len(t, c.Bytes, 1)
			single++
		}
	}
	require.Greater(t, single, 400)
	require.True(t, truth.Occupancies[0].Intact(), "slow is not wrong")
}

func TestBrokenConnections(t *testing.T) {
	clean, _ := generated(t, passing)
	for _, kind := range []string{"disconnect", "second-client"} {
		chunks, truth := generated(t, withFault("{kind: "+kind+", at: 60s, for: 2s}"))
		i := slices.IndexFunc(chunks, func(c Chunk) bool { return c.Break })
		require.GreaterOrEqual(t, i, 0)
		require.Equal(t, 2*time.Second, chunks[i].Down)
		from := chunks[i].At
		var want bytes.Buffer
		lost := 0
		for _, c := range clean {
			if c.At < from || c.At >= from+2*time.Second {
				want.Write(c.Bytes)
			} else {
				lost++
			}
		}
		require.Equal(t, want.String(), joined(chunks))
		require.Greater(t, lost, 8)
		require.Len(t, truth.Occupancies[0].Touched, lost+1, "each lost record and the break itself")
		require.False(t, truth.Occupancies[0].Intact())
		require.Equal(t, 1, truth.Faults[0].Occupancy)
		require.True(t, truth.Occupancies[1].Intact(), "%+v", truth.Occupancies[1])
	}

	chunks, truth := generated(t, withFault("{kind: join-mid-record, at: 60s}"))
	i := slices.IndexFunc(chunks, func(c Chunk) bool { return c.Break })
	require.Zero(t, chunks[i].Down)
	first := string(chunks[i+1].Bytes)
	require.Less(t, len(first), 32)
	require.Greater(t, len(first), 8)
	require.Contains(t, joined(clean), first)
	require.NotContains(t, strings.Split(joined(clean), "\r\n"), strings.TrimSuffix(first, "\r\n"))
	require.Len(t, truth.Occupancies[0].Touched, 2)
}

// TestDetectorFaults looks at what the backgrounds say during a fault.
func TestDetectorFaults(t *testing.T) {
	for _, c := range []struct {
		fault, tag string
		detector   int
		low, high  int
		subject    string
		state      string
	}{
		{"{kind: gamma-high, at: 60s, for: 60s, detectors: [2]}", "GH", 2, 2001, 3200, "gamma", "high"},
		{"{kind: gamma-high, at: 60s, for: 60s, detectors: [2], cps: 9000}", "GH", 2, 2001, 9400, "gamma", "high"},
		{"{kind: gamma-low, at: 60s, for: 60s, detectors: [3]}", "GL", 3, 0, 67, "gamma", "low"},
		{"{kind: neutron-high, at: 60s, for: 3m, detectors: [1]}", "NH", 1, 51, 240, "neutron", "high"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			chunks, truth := generated(t, plain+"    faults: ["+c.fault+"]\n")
			normal, faulty := 0, 0
			first, last := time.Duration(0), time.Duration(0)
			for _, l := range linesOf(t, chunks) {
				if l.tag != c.tag {
					if l.tag[0] == c.tag[0] {
						normal++
					}
					continue
				}
				faulty++
				if first == 0 {
					first = l.at
				}
				last = l.at
				require.GreaterOrEqual(t, l.v[c.detector-1], c.low)
				require.LessOrEqual(t, l.v[c.detector-1], c.high)
			}
			require.Greater(t, faulty, 5)
			require.Greater(t, normal, 60)
			require.Len(t, truth.Faults, 1)
			require.InDelta(t, 60, truth.Faults[0].AtS, 0.3)
			require.Len(t, truth.States, 2)
			require.Equal(t, c.subject+" "+c.state, truth.States[0].Subject+" "+truth.States[0].State)
			require.Equal(t, c.subject+" normal", truth.States[1].Subject+" "+truth.States[1].State)
			require.Equal(t, seconds(first), truth.States[0].AtS)
			require.Greater(t, truth.States[1].AtS, seconds(last))
			require.InDelta(t, 5, truth.States[1].AtS-seconds(last), 0.1)
		})
	}
}

func TestTamper(t *testing.T) {
	chunks, truth := generated(t, plain+"    faults: [{kind: tamper, at: 60s, for: 15s}]\n")
	var seen []string
	for _, l := range linesOf(t, chunks) {
		if l.tag == "TT" || l.tag == "TC" {
			seen = append(seen, l.tag)
			require.InDelta(t, map[string]float64{"TT": 60, "TC": 75}[l.tag], l.at.Seconds(), 0.3)
		}
	}
	require.Equal(t, []string{"TT", "TC"}, seen)
	require.Len(t, truth.States, 2)
	require.Equal(t, "tamper: on clear", truth.States[0].Subject+": "+truth.States[0].State+" "+truth.States[1].State)
}

func TestStraySpeed(t *testing.T) {
	chunks, truth := generated(t, plain+`
    traffic: {vehicles: [{kind: car, arrive: 62s}]}
    faults: [{kind: stray-speed, at: 30s}, {kind: stray-speed, at: 61s}]
`)
	n := 0
	for _, l := range linesOf(t, chunks) {
		if l.tag == "SP" && l.at < 61500*time.Millisecond {
			n++
		}
	}
	require.Equal(t, 2, n)
	require.Len(t, truth.Occupancies[0].Touched, 1, "only the one that a receiver may take for its own")
	require.Equal(t, "stray-speed", truth.Occupancies[0].Touched[0].Fault)
}

// TestSetupFaultChangesTheAlarm: what the portal reports is what it uses.
func TestSetupFaultChangesTheAlarm(t *testing.T) {
	chunks, truth := generated(t, hour(lively)+`
    faults: [{kind: setup, at: 30m, set: {n_sigma: 9, groups: [single]}}]
`)
	lines := linesOf(t, chunks)
	i := slices.IndexFunc(lines, func(l line) bool { return l.tag == "SG1" })
	before := figures(t, lines[:i], judge{n: 5, groups: [][]int{{1, 2, 3, 4}, {1, 2}, {3, 4}}})
	after := figures(t, lines[i:], judge{n: 9, groups: [][]int{{1}, {2}, {3}, {4}}})
	require.Equal(t, 5.0, truth.Occupancies[0].NSigma)
	require.Equal(t, 9.0, truth.Occupancies[len(before)].NSigma)
	require.Equal(t, []string{"single"}, truth.Occupancies[len(before)].Groups)
	for i, o := range after {
		require.Equal(t, truth.Occupancies[len(before)+i].GammaAlarmSamples, o.GammaAlarmSamples)
	}
}

func TestWorldFaults(t *testing.T) {
	traffic := hour(plain) + `
    traffic: {random: {per_hour: 200}}
    faults: [{kind: %s, every: 4m}]
`
	run := func(kind string) (*Truth, []Chunk) {
		chunks, truth := generated(t, strings.Replace(traffic, "%s", kind, 1))
		require.Greater(t, len(truth.Faults), 5)
		for _, f := range truth.Faults {
			require.Equal(t, InWorld, f.Where)
			require.Equal(t, f.Vehicle, truth.Vehicles[f.Vehicle-1].Vehicle)
		}
		return truth, chunks
	}
	vehicle := func(truth *Truth, f FaultTruth) VehicleTruth { return truth.Vehicles[f.Vehicle-1] }

	truth, chunks := run("stop-beside")
	lowest := 10_000
	for _, l := range linesOf(t, chunks) {
		if l.tag == "GB" {
			lowest = min(lowest, l.sum())
		}
	}
	require.Less(t, lowest, 1679*85/100, "it stands in the way of the background")
	for _, f := range truth.Faults {
		require.InDelta(t, 25, vehicle(truth, f).StoppedS, 0.1)
	}

	truth, _ = run("stop-inside")
	for _, f := range truth.Faults {
		v := vehicle(truth, f)
		require.InDelta(t, 8, v.StoppedS, 0.1)
		require.Greater(t, v.LeaveS-v.EnterS, 8.0)
	}

	truth, _ = run("tailgate")
	for _, f := range truth.Faults[:len(truth.Faults)-1] {
		require.True(t, truth.Vehicles[f.Vehicle].TailgatesOne)
		shared := slices.ContainsFunc(truth.Occupancies, func(o OccupancyTruth) bool {
			return slices.Contains(o.Vehicles, f.Vehicle) && slices.Contains(o.Vehicles, f.Vehicle+1)
		})
		require.True(t, shared, "vehicles %d and %d", f.Vehicle, f.Vehicle+1)
	}

	truth, _ = run("reverse")
	for _, f := range truth.Faults[:len(truth.Faults)-1] {
		v := vehicle(truth, f)
		require.True(t, v.Reverses)
		require.Greater(t, v.LeaveS-v.EnterS, 1.4*v.LengthM/(v.SpeedKPH/3.6))
	}

	truth, _ = run("parked-beside")
	for _, f := range truth.Faults {
		require.True(t, vehicle(truth, f).Beside)
	}
}

// TestEveryFaultScenario: each kind happens, and the truth tells the effect.
func TestEveryFaultScenario(t *testing.T) {
	streams, truth, err := Generate(MustLoad(t, "every-fault"))
	require.NoError(t, err)
	require.Len(t, streams, 2)
	seen := map[string]int{}
	for _, f := range truth.Faults {
		seen[f.Fault]++
		require.NotEmpty(t, f.Effect)
	}
	for _, kind := range FaultKinds() {
		require.NotZero(t, seen[kind], "no %s", kind)
	}
	intact, gamma, neutron := 0, 0, 0
	for _, o := range truth.Occupancies {
		if o.Intact() {
			intact++
		}
		if o.GammaAlarm {
			gamma++
		}
		if o.NeutronAlarm {
			neutron++
		}
	}
	require.Greater(t, intact, len(truth.Occupancies)/2)
	require.Greater(t, gamma, 20)
	require.Greater(t, neutron, 10)
}

// TestFaultTags: the tags that a fault may name are those that portals send.
func TestFaultTags(t *testing.T) {
	t.Parallel()
	s := MustLoad(t, "every-fault")
	lane := &s.Lanes[0]
	sent := map[tsa.Tag]bool{}
	for i := range lane.Devices {
		w := newWire(s, lane, &lane.Devices[i], false)
		for it, ok := w.next(); ok; it, ok = w.next() {
			if it.tag != "" {
				sent[it.tag] = true
			}
		}
	}
	require.ElementsMatch(t, slices.Concat(plainTags, extendedTags), slices.Collect(maps.Keys(sent)))
}

// TestAFaultLeavesTheRestAlone: physics and traffic have seeds of their own.
func TestAFaultLeavesTheRestAlone(t *testing.T) {
	_, clean := generated(t, hour(lively))
	_, truth := generated(t, hour(lively)+"    faults: [{kind: tamper, at: 10m}, {kind: drop, every: 1m}]\n")
	require.Equal(t, clean.Vehicles, truth.Vehicles)
	for i := range clean.Occupancies {
		require.Equal(t, clean.Occupancies[i].NeutronCounts, truth.Occupancies[i].NeutronCounts)
		require.Equal(t, clean.Occupancies[i].GammaMax5SampleSum, truth.Occupancies[i].GammaMax5SampleSum)
	}
}

// TestTouchedSetup: a burst that is not whole counts until the next whole one.
func TestTouchedSetup(t *testing.T) {
	_, truth := generated(t, hour(lively)+`
    faults:
      - {kind: setup, at: 5m}
      - {kind: drop, tag: SG2, at: 5m}
      - {kind: setup, at: 20m}
      - {kind: setup, at: 30m}
      - {kind: stall, at: 30m, for: 20s}
      - {kind: setup, at: 40m}
      - {kind: cut, tag: SN2, at: 40m}
`)
	var reported []float64
	for _, s := range truth.States {
		if s.Subject == "setup" {
			reported = append(reported, s.AtS)
		}
	}
	require.Len(t, reported, 4)
	for _, o := range truth.Occupancies {
		bad := o.StartS > reported[0] && o.StartS < reported[1] || o.StartS > reported[3]
		require.Equal(t, bad, len(o.TouchedSetup) > 0, "%+v", o)
	}
}
