package event

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every Go type with a Type method is in the table, once.
func TestTableIsComplete(t *testing.T) {
	var declared []string
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, p := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil && fn.Name.Name == "Type" {
				declared = append(declared, fmt.Sprintf("event.%s", fn.Recv.List[0].Type))
			}
		}
	}
	var listed, types []string
	topics := map[string]bool{}
	for _, k := range Types() {
		listed = append(listed, fmt.Sprintf("%T", k.Zero))
		types = append(types, k.Type)
		topics[Topic("/a/b/c", k.Type)] = true
	}
	require.ElementsMatch(t, declared, listed)
	require.Len(t, topics, len(types), "two types share a topic")
}

func TestTable(t *testing.T) {
	for _, k := range Types() {
		t.Run(k.Type, func(t *testing.T) {
			require.Regexp(t, `^lanepost\.(radiation|plate|xray|lane|device|agent)\.[a-z-]+\.v1$`, k.Type)
			require.Equal(t, k.Zero.Type(), k.Type)
			require.IsType(t, k.Zero, k.Example.Data)
			require.NotEmpty(t, k.Summary)
			require.NotEmpty(t, k.When)
			require.Equal(t, k.Unsequenced, k.Example.Sequence == 0)
			require.Equal(t, k.Unsequenced, len(k.Classes) == 0)
			require.Equal(t, k.Retained, Retained(Topic("/a/b/c", k.Type)))
			if !k.Unsequenced {
				require.Contains(t, k.Classes, k.Example.Data.Class())
				require.Contains(t, k.Classes, k.Zero.Class())
			}
		})
	}
}

// The examples tell one story, so their times, ids and sequences must agree.
func TestExamplesAgree(t *testing.T) {
	all := examples()
	type place struct {
		recorded time.Time
		sequence uint64
	}
	byClass := map[Class][]place{}
	ids := map[string]bool{}
	for typ, x := range all {
		require.False(t, ids[x.Header.ID])
		ids[x.Header.ID] = true
		require.False(t, x.Header.RecordedTime.Before(x.Header.Time.Time), typ)
		if x.Sequence == 0 {
			continue
		}
		require.Equal(t, byte('7'), x.Header.ID[14], "%s: not a UUIDv7", typ)
		ms, err := strconv.ParseInt(strings.ReplaceAll(x.Header.ID[:13], "-", ""), 16, 64)
		require.NoError(t, err)
		require.Equal(t, x.Header.RecordedTime.UnixMilli(), ms, "%s: the time in its id", typ)
		c := x.Data.Class()
		byClass[c] = append(byClass[c], place{x.Header.RecordedTime.Time, x.Sequence})
	}
	for class, list := range byClass {
		slices.SortFunc(list, func(a, b place) int { return a.recorded.Compare(b.recorded) })
		require.True(t, slices.IsSortedFunc(list, func(a, b place) int { return int(a.sequence) - int(b.sequence) }),
			"%s: sequences and times disagree", class)
	}

	silent := all[DeviceSilent{}.Type()]
	data := silent.Data.(DeviceSilent)
	require.InDelta(t, data.LimitS, silent.Header.Time.Sub(data.LastValid.Time).Seconds(), 1)
	online := all[DeviceOnline{}.Type()]
	require.InDelta(t, online.Header.Time.Sub(data.LastValid.Time).Seconds(), *online.Data.(DeviceOnline).AbsentS, 1e-9)
	step := all[AgentClockChanged{}.Type()]
	changed := step.Data.(AgentClockChanged)
	require.InDelta(t, step.Header.Time.Sub(changed.Before.Time).Seconds(), changed.StepS, 1e-9)
	stopped := all[AgentStopped{}.Type()]
	began := all[AgentState{}.Type()].Data.(AgentState).Since
	require.InDelta(t, stopped.Header.Time.Sub(began.Time).Seconds()-changed.StepS, stopped.Data.(AgentStopped).UptimeS, 1e-9)
	loss := all[AgentLoss{}.Type()].Data.(AgentLoss)
	first, err := ParseSequence(loss.FirstSequence)
	require.NoError(t, err)
	last, err := ParseSequence(loss.LastSequence)
	require.NoError(t, err)
	require.Equal(t, last-first+1, loss.Count)
}

// rowsOf reads the raw records of an example: the tag and the fields.
func rowsOf(t *testing.T, r Raw) [][]string {
	t.Helper()
	text := []byte(r.Text)
	if r.Base64 != "" {
		var err error
		text, err = base64.StdEncoding.DecodeString(r.Base64)
		require.NoError(t, err)
	}
	sum := sha256.Sum256(text)
	require.Equal(t, hex.EncodeToString(sum[:]), r.SHA256)
	require.Len(t, text, r.Size)
	var rows [][]string
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n") {
		require.Len(t, line, 30, "a record has 30 characters: %s", line)
		rows = append(rows, strings.Split(line, ","))
	}
	return rows
}

func numbers(t *testing.T, fields []string) []int {
	t.Helper()
	var list []int
	for _, f := range fields {
		n, err := strconv.Atoi(f)
		require.NoError(t, err)
		list = append(list, n)
	}
	return list
}

func sumOf(list []int) (sum int) {
	for _, n := range list {
		sum += n
	}
	return sum
}

func sigmaOf(sum, background float64) float64 {
	return math.Round((sum-background)/math.Sqrt(background)*1000) / 1000
}

// The occupancy's figures follow from its raw records and the background's.
func TestOccupancyExample(t *testing.T) {
	all := examples()
	x := all[RadiationOccupancy{}.Type()]
	o := x.Data.(RadiationOccupancy)
	backgroundRows := rowsOf(t, all[RadiationBackground{}.Type()].Data.(RadiationBackground).Raw)
	require.Equal(t, "GB", backgroundRows[1][0])
	background := numbers(t, backgroundRows[1][1:])

	var gammaCounts, neutronCounts [][]int
	var gammaMarks, neutronMarks []bool
	var speeds []float64
	for _, row := range rowsOf(t, o.Raw) {
		switch row[0] {
		case "GS", "GA":
			gammaCounts = append(gammaCounts, numbers(t, row[1:]))
			gammaMarks = append(gammaMarks, row[0] == "GA")
		case "NS", "NA":
			neutronCounts = append(neutronCounts, numbers(t, row[1:]))
			neutronMarks = append(neutronMarks, row[0] == "NA")
		case "SP":
			v, err := strconv.ParseFloat(row[3], 64)
			require.NoError(t, err)
			speeds = append(speeds, v)
		case "GX":
			fields := numbers(t, row[1:])
			require.Equal(t, fields[0], *o.GXCounter)
			require.InDelta(t, float64(fields[1])/1000, *o.NeutronBgCPS, 1e-9)
		default:
			t.Fatalf("unexpected %v", row)
		}
	}
	check := func(series []Sample, counts [][]int, marks []bool, from, step float64) {
		require.Len(t, series, len(counts))
		for i, s := range series {
			require.Equal(t, counts[i], s.Counts)
			require.Equal(t, marks[i], s.Alarm)
			require.InDelta(t, from+step*float64(i), s.OffsetS, 1e-9)
		}
	}
	check(o.GammaSeries, gammaCounts, gammaMarks, -1, 0.2)
	check(o.NeutronSeries, neutronCounts, neutronMarks, -1, 1)
	count := func(marks []bool) (n int) {
		for _, m := range marks {
			if m {
				n++
			}
		}
		return n
	}
	require.Equal(t, len(gammaCounts), o.GammaSamples)
	require.Equal(t, count(gammaMarks), o.GammaAlarmSamples)
	require.Equal(t, o.GammaAlarmSamples > 0, o.GammaAlarm)
	require.Equal(t, len(neutronCounts), o.NeutronSamples)
	require.Equal(t, count(neutronMarks), o.NeutronAlarmSamples)
	require.Equal(t, o.NeutronAlarmSamples > 0, o.NeutronAlarm)
	require.Equal(t, sumOf(slices.Concat(neutronCounts...)), o.NeutronCounts)
	require.Equal(t, sumOf(background), *o.GammaBgSumCPS)
	require.Equal(t, speeds, o.SpeedsKPH)
	require.Len(t, speeds, o.SpeedRecords)
	require.Contains(t, speeds, *o.SpeedKPH)
	require.Equal(t, o.OccupancyID, x.Header.Subject)
	require.Equal(t, o.EndTS, x.Header.Time)
	require.InDelta(t, o.EndTS.Sub(o.StartTS.Time).Seconds(), o.DurationS, 1e-9)
	require.InDelta(t, -1, o.FirstSampleTS.Sub(o.StartTS.Time).Seconds(), 1e-9)

	// The portal's alarm test, over each group.
	members := map[string][]int{"sum": {0, 1, 2, 3}, "vertical-1": {0, 1}, "vertical-2": {2, 3}}
	require.Len(t, o.Recomputed.Groups, len(members))
	latched := make([]bool, len(gammaCounts))
	for _, g := range o.Recomputed.Groups {
		of := func(counts []int) (sum int) {
			for _, i := range members[g.Group] {
				sum += counts[i]
			}
			return sum
		}
		b := of(background)
		require.Equal(t, b, g.BgCPS)
		limit := float64(b) + o.Recomputed.NSigma*math.Sqrt(float64(b))
		best, alarms := 0, 0
		for i := 4; i < len(gammaCounts); i++ {
			s := 0
			for _, c := range gammaCounts[i-4 : i+1] {
				s += of(c)
			}
			best = max(best, s)
			if float64(s) >= limit {
				alarms++
				latched[i] = true
			}
		}
		require.Equal(t, best, g.MaxSum, g.Group)
		require.InDelta(t, sigmaOf(float64(best), float64(b)), *g.MaxNSigma, 1e-9, g.Group)
		require.Equal(t, alarms, g.AlarmSamples, g.Group)
		require.Len(t, g.Detectors, len(members[g.Group]))
		if g.Group == "sum" {
			require.Equal(t, best, *o.GammaMax5SampleSum)
			require.InDelta(t, *g.MaxNSigma, *o.GammaMaxNSigma, 1e-9)
			require.InDelta(t, sigmaOf(float64(best), o.Baseline.BaselineCPS), *o.Baseline.MaxNSigma, 1e-9)
		}
	}
	require.Equal(t, gammaMarks, latched)
	require.Equal(t, count(latched), o.Recomputed.AlarmSamples)
	require.Zero(t, o.Recomputed.DisagreeingSamples)
	require.True(t, o.Recomputed.Agrees)

	// The alarm event is about the first sample that alarms.
	ax := all[RadiationAlarm{}.Type()]
	a := ax.Data.(RadiationAlarm)
	onset := slices.Index(gammaMarks, true)
	require.Equal(t, o.OccupancyID, a.OccupancyID)
	require.Equal(t, gammaCounts[onset], a.Counts)
	require.Equal(t, a.Counts, numbers(t, rowsOf(t, a.Raw)[0][1:]))
	require.Equal(t, sumOf(slices.Concat(gammaCounts[onset-4:onset+1]...)), a.Sum)
	require.InDelta(t, float64(*o.GammaBgSumCPS), *a.BgSumCPS, 1e-9)
	require.InDelta(t, sigmaOf(float64(a.Sum), *a.BgSumCPS), *a.NSigma, 1e-9)
	require.InDelta(t, o.GammaSeries[onset].OffsetS+0.2, ax.Header.Time.Sub(o.StartTS.Time).Seconds(), 1e-9,
		"it comes when the sample ends")
}

func TestOtherRadiationExamples(t *testing.T) {
	all := examples()
	b := all[RadiationBackground{}.Type()].Data.(RadiationBackground)
	rows := rowsOf(t, b.Raw)
	require.Equal(t, "NB", rows[0][0])
	last := sumOf(numbers(t, rows[1][1:]))
	require.GreaterOrEqual(t, last, b.GammaSumMinCPS)
	require.LessOrEqual(t, last, b.GammaSumMaxCPS)
	var mean float64
	for _, m := range b.GammaCPS {
		mean += m
		_, part := math.Modf(m * float64(b.Records))
		require.Zero(t, part, "no mean of %d whole numbers is %v", b.Records, m)
	}
	require.Greater(t, mean, float64(b.GammaSumMinCPS))
	require.Less(t, mean, float64(b.GammaSumMaxCPS))
	require.InDelta(t, 5, b.IntervalS/float64(b.Records), 1e-9, "a record each five seconds")

	f := all[RadiationFault{}.Type()].Data.(RadiationFault)
	require.Equal(t, f.CPS, numbers(t, rowsOf(t, f.Raw)[0][1:]))
	require.Equal(t, "TT", rowsOf(t, all[RadiationTamper{}.Type()].Data.(RadiationTamper).Raw)[0][0])

	s := all[RadiationSetupChanged{}.Type()].Data.(RadiationSetupChanged)
	var reported []string
	for _, row := range rowsOf(t, s.Raw) {
		reported = append(reported, row[1:]...)
	}
	require.ElementsMatch(t, reported, slices.Collect(maps.Values(s.Setup)))
	for _, c := range s.Changes {
		require.Equal(t, c.After, s.Setup[c.Name])
		require.NotEqual(t, c.Before, c.After)
	}
	d := all[RadiationDiagnostic{}.Type()].Data.(RadiationDiagnostic)
	require.InDelta(t, float64(numbers(t, rowsOf(t, d.Raw)[0][1:2])[0]), d.Values["after"], 0)
	require.InDelta(t, d.Values["after"]-d.Values["before"]-1, d.Values["missed"], 0)
	require.Contains(t, d.Detail, fmt.Sprintf("%v occupancies", d.Values["missed"]))

	u := all[DeviceUnparsed{}.Type()].Data.(DeviceUnparsed)
	require.NotEmpty(t, rowsOf(t, u.Samples[0].Raw))
	require.GreaterOrEqual(t, u.Total, u.Count)
	require.GreaterOrEqual(t, u.Count, int64(len(u.Samples)))
}

func TestRateExamples(t *testing.T) {
	all := examples()
	r := all[RadiationRate{}.Type()].Data.(RadiationRate)
	for _, c := range r.Channels {
		require.LessOrEqual(t, c.Min, c.Mean)
		require.LessOrEqual(t, c.Mean, c.Max)
		require.LessOrEqual(t, c.Readings, r.Frames)
		require.Contains(t, r.Raw.Text+string(mustBase64(t, r.Raw.Base64)), " "+c.ValueRaw+" "+c.UnitRaw+" ")
	}
	x := all[RadiationRateAlarm{}.Type()]
	a := x.Data.(RadiationRateAlarm)
	require.Equal(t, a.AlarmID, x.Header.Subject)
	require.Equal(t, a.StartedTS, x.Header.Time)
	require.Contains(t, string(mustBase64(t, a.Raw.Base64)), " "+a.ValueRaw+" "+a.UnitRaw+" ")
	e := all[RadiationEnvironment{}.Type()].Data.(RadiationEnvironment)
	require.Contains(t, e.Raw.Text, fmt.Sprintf("TPDT,%.1f,", e.Detectors[0].TemperatureC.Last+273.15))
	require.Contains(t, e.Raw.Text, fmt.Sprintf("MBAT,%05.1f,%05.1f,", e.Pillars[0].BatteryV.Last, e.Pillars[0].DCCurrentA.Last))
}

func mustBase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return b
}
