package xray

import (
	"bytes"
	"errors"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/event"
)

const scanUID = "1.2.3.17"

func dicosFolder(change ...func(*FolderSettings)) func(*FolderSettings) {
	return func(s *FolderSettings) {
		s.Dialect, s.Sidecars, s.Days = dialectDICOS, []string{"*.dcm"}, nil
		for _, f := range change {
			f(s)
		}
	}
}

func dicosBytes(t testing.TB, o *dicos.Object, form dicos.Form) []byte {
	t.Helper()
	var pixels []uint16
	for i := range o.Image.Rows * o.Image.Columns {
		pixels = append(pixels, uint16(i*37))
	}
	b, err := form.Append(nil, o, pixels)
	require.NoError(t, err)
	return b
}

type objectChange = func(*dicos.Object)

// dx is a picture.
func dx(t testing.TB, change ...objectChange) []byte {
	o := &dicos.Object{
		TransferSyntax: dicos.ExplicitLE, SOPClass: dicos.ClassDX, SOPInstance: scanUID + ".1", Modality: "XRAY", ScanInstance: scanUID, ScanID: "17",
		ScanType: "OPERATIONAL", AcquisitionStatus: "SUCCESSFUL", Start: drivers.ScriptStart().Add(-time.Minute),
		Inspected: dicos.Inspected{ID: "AB1234", IDType: "TEXT", Type: "CARGO"},
		Image:     dicos.Image{Rows: 20, Columns: 40}, Scanner: dicos.Scanner{Manufacturer: "LANESIM", Model: "X", Location: "gate", Software: "1"},
	}
	for _, f := range change {
		f(o)
	}
	return dicosBytes(t, o, dicos.Form{})
}

// tdr is a report that was made so many seconds after the scan.
func tdr(t testing.TB, kind, decision string, seconds int, change ...objectChange) []byte {
	o := &dicos.Object{
		TransferSyntax: dicos.ExplicitLE, SOPClass: dicos.ClassTDR, SOPInstance: scanUID + ".2." + strconv.Itoa(seconds), Modality: "TDR", ScanInstance: scanUID,
		ScanType: "OPERATIONAL", Inspected: dicos.Inspected{ID: "AB1234", IDType: "TEXT", Type: "CARGO"},
		Report: &dicos.Report{
			Type: kind, Decision: decision, Abort: "SUCCESS", DecisionTime: drivers.ScriptStart().Add(time.Duration(seconds)*time.Second - time.Minute),
			References: []dicos.Reference{{Class: dicos.ClassDX, Instance: scanUID + ".1"}}, Operator: kind == "OPERATOR",
		},
	}
	for _, f := range change {
		f(o)
	}
	return dicosBytes(t, o, dicos.Form{})
}

func drop(at time.Duration, name string, content []byte) drivers.Dropped {
	return drivers.Dropped{At: at, Name: name, Content: content}
}

func marked(flag string) objectChange {
	return func(o *dicos.Object) {
		id, p := 3, 0.75
		o.Threats = []dicos.Threat{{
			ID: &id, Assessments: []dicos.Assessment{{Category: "CONTRABAND", Flag: flag, Probability: &p}},
			Representations: []dicos.Representation{{Regions: []dicos.Region{{Base: [3]float64{4, 5, 0}, Extents: [3]float64{3, 3, 1}, Bitmap: []byte{0xff, 0}}}}},
		}}
	}
}

const wholeScan = scanUID + " r1 complete operational "

// What comes of the files of a scan, in whatever order they come.
func TestDICOSRevisions(t *testing.T) {
	minute := time.Minute
	rev := func(n int, rest string) string { return scanUID + " r" + strconv.Itoa(n) + " " + rest }
	without := " without " + scanUID + ".1"
	image, machine, operator := dx(t), tdr(t, "MACHINE", "ALARM", 5), tdr(t, "OPERATOR", "CLEAR", 30)
	for name, c := range map[string]struct {
		script []drivers.Dropped
		want   []string
	}{
		"picture, machine, operator": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(minute, "2.dcm", machine), drop(2*minute, "3.dcm", operator)},
			[]string{wholeScan + "pending", rev(2, "complete operational suspicious"), rev(3, "complete operational nothing_found")}},
		"all at once": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "2.dcm", machine), drop(0, "3.dcm", operator)}, []string{wholeScan + "nothing_found"}},
		"report before the picture": {[]drivers.Dropped{drop(0, "2.dcm", machine), drop(minute, "1.dcm", image)},
			[]string{rev(1, "partial operational suspicious"+without), rev(2, "complete operational suspicious")}},
		"report without a picture": {[]drivers.Dropped{drop(0, "3.dcm", operator)}, []string{rev(1, "partial operational unknown"+without)}},
		"machine after the operator": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "3.dcm", operator), drop(minute, "2.dcm", machine)},
			[]string{wholeScan + "nothing_found", rev(2, "complete operational nothing_found")}},
		"the same again, in another place": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "2.dcm", machine), drop(minute, "b/1.dcm", image), drop(minute, "2.dcm", machine), drop(2*minute, "b/9.dcm", machine)},
			[]string{wholeScan + "suspicious"}},
		"two operators, the later one wins however they come": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "3.dcm", tdr(t, "OPERATOR", "ALARM", 60)), drop(minute, "4.dcm", operator)},
			[]string{wholeScan + "suspicious", rev(2, "complete operational suspicious")}},
		"a report is written anew in its place": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "2.dcm", tdr(t, "MACHINE", "UNKNOWN", 5)), drop(minute, "2.dcm", machine),
			drop(2*minute, "old/2.dcm", tdr(t, "MACHINE", "UNKNOWN", 5))}, []string{wholeScan + "unknown", rev(2, "complete operational suspicious")}},
		"two scans": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "2.dcm", dx(t, func(o *dicos.Object) { o.ScanInstance = "1.2.9" }))},
			[]string{"1.2.9 r1 complete operational pending", wholeScan + "pending"}},
		"picture that is cut off, for good": {[]drivers.Dropped{drop(0, "1.dcm", image[:len(image)-100]), drop(minute, "3.dcm", tdr(t, "OPERATOR", "CLEAR", 30))},
			[]string{rev(1, "partial operational unknown"+without), rev(2, "partial operational unknown without 1.dcm")}},
		"picture that is cut off, and completed": {[]drivers.Dropped{drop(0, "1.dcm", image[:300]), drop(minute, "1.dcm", image)}, []string{wholeScan + "pending"}},
		"picture that is completed too late, in another place": {[]drivers.Dropped{drop(0, "1.dcm", image[:len(image)-9]), drop(5*minute, "b/1.dcm", image)},
			[]string{rev(1, "partial operational pending without 1.dcm"), rev(2, "complete operational pending")}},
		"the files are taken away": {[]drivers.Dropped{drop(0, "1.dcm", image), drop(0, "2.dcm", tdr(t, "OPERATOR", "ALARM", 50)), {At: minute, Name: "1.dcm", Remove: true},
			{At: minute, Name: "2.dcm", Remove: true}, drop(2*minute, "3.dcm", tdr(t, "MACHINE", "CLEAR", 5))},
			[]string{wholeScan + "suspicious", rev(2, "complete operational suspicious")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := play(t, instrument(t, dicosFolder()), c.script...)
			got := lines(p)
			if name == "two scans" {
				slices.Sort(got)
				slices.Sort(c.want)
			}
			require.Equal(t, c.want, got)
			require.Empty(t, p.Unparsed)
			for i, o := range p.Observations {
				require.Len(t, o.Attachments, len(o.Data.(event.XrayScan).Attachments))
				if i > 0 && o.Subject == p.Observations[i-1].Subject {
					require.Equal(t, p.Observations[i-1].ID, o.Data.(event.XrayScan).Supersedes)
				}
			}
		})
	}
}

// What a report means, alone and against others.
func TestDICOSDecisions(t *testing.T) {
	change := func(f objectChange) objectChange { return f }
	aborted := change(func(o *dicos.Object) { o.Report.Abort, o.Report.AbortReason = "ABORT", "TIMEOUT" })
	kind := func(s string) objectChange { return func(o *dicos.Object) { o.ScanType = s } }
	status := func(s string) objectChange { return func(o *dicos.Object) { o.AcquisitionStatus = s } }
	article := func(s string) objectChange { return func(o *dicos.Object) { o.TestArticle = s } }
	other := change(func(o *dicos.Object) { o.Inspected.ID = "XY9" })
	untimed := change(func(o *dicos.Object) { o.Report.DecisionTime = time.Time{} })
	for name, c := range map[string]struct {
		image  []byte
		report [][]byte
		want   string // mode and decision
		last   string // of the last analysis: by, status, decision
	}{
		"machine clear":                         {nil, [][]byte{tdr(t, "MACHINE", "CLEAR", 5)}, "operational pending", "machine done nothing_found"},
		"machine unknown":                       {nil, [][]byte{tdr(t, "MACHINE", "UNKNOWN", 5)}, "operational unknown", "machine done unknown"},
		"machine alarm":                         {nil, [][]byte{tdr(t, "MACHINE", "ALARM", 5)}, "operational suspicious", "machine done suspicious"},
		"aborted, clear":                        {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, aborted)}, "operational pending", "operator failed unknown"},
		"failed":                                {nil, [][]byte{tdr(t, "MACHINE", "CLEAR", 5, func(o *dicos.Object) { o.Report.Abort = "FAILED" })}, "operational pending", "machine failed unknown"},
		"aborted, alarm":                        {nil, [][]byte{tdr(t, "MACHINE", "ALARM", 5, aborted)}, "operational suspicious", "machine failed suspicious"},
		"operator clear":                        {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5)}, "operational nothing_found", "operator done nothing_found"},
		"operator can't say after an alarm":     {nil, [][]byte{tdr(t, "MACHINE", "ALARM", 5), tdr(t, "OPERATOR", "UNKNOWN", 9)}, "operational suspicious", "operator done unknown"},
		"clear with a threat in it":             {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, marked("THREAT"))}, "operational unknown", "operator done unknown"},
		"clear with what is no threat":          {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, marked("NO_THREAT"))}, "operational nothing_found", "operator done nothing_found"},
		"no word, and a threat":                 {nil, [][]byte{tdr(t, "", "", 5, marked("HIGH_THREAT"), func(o *dicos.Object) { o.Report.Abort = "SUCCESS" })}, "operational suspicious", "unknown done suspicious"},
		"clear by nobody known":                 {nil, [][]byte{tdr(t, "UNDEFINED", "CLEAR", 5)}, "operational unknown", "unknown done unknown"},
		"ground truth":                          {nil, [][]byte{tdr(t, "GROUND TRUTH", "CLEAR", 5)}, "test pending", "ground_truth done nothing_found"},
		"ground truth with an operator's alarm": {nil, [][]byte{tdr(t, "OPERATOR", "ALARM", 2), tdr(t, "GROUND TRUTH", "CLEAR", 5)}, "operational suspicious", "ground_truth done nothing_found"},
		"aggregate alarm":                       {nil, [][]byte{tdr(t, "AGGREGATE", "ALARM", 5)}, "operational suspicious", "aggregate done suspicious"},
		"not operational":                       {dx(t, kind("NON_OPERATIONAL")), [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, kind("NON_OPERATIONAL"))}, "non_operational unknown", "operator done nothing_found"},
		"not operational, alarm":                {dx(t, kind("NON_OPERATIONAL")), [][]byte{tdr(t, "OPERATOR", "ALARM", 5, kind(""))}, "non_operational suspicious", "operator done suspicious"},
		"operational and not":                   {nil, [][]byte{tdr(t, "OPERATOR", "ALARM", 5, kind("NON_OPERATIONAL"))}, "operational suspicious", "operator done suspicious"},
		"test article":                          {dx(t, article("CTIQ")), [][]byte{tdr(t, "OPERATOR", "ALARM", 5)}, "test suspicious", "operator done suspicious"},
		"a word that is no test article":        {dx(t, article("NONE")), [][]byte{tdr(t, "OPERATOR", "ALARM", 5)}, "operational suspicious", "operator done suspicious"},
		"jam":                                   {dx(t, status("JAM")), [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, status("SUCCESSFUL"))}, "operational unknown", "operator done nothing_found"},
		"incomplete":                            {dx(t, status("INCOMPLETE")), [][]byte{tdr(t, "OPERATOR", "CLEAR", 5)}, "operational unknown", "operator done nothing_found"},
		"another object":                        {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, other)}, "operational unknown", "operator done nothing_found"},
		"times that are not told":               {nil, [][]byte{tdr(t, "OPERATOR", "CLEAR", 5, untimed), tdr(t, "OPERATOR", "ALARM", 6, untimed)}, "operational suspicious", "operator done suspicious"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.image == nil {
				c.image = dx(t)
			}
			s := dicosScan{key: scanUID}
			for i, b := range append([][]byte{c.image}, c.report...) {
				o, err := dicos.Decode(b)
				require.NoError(t, err)
				news, err := s.add(newDICOSPart(o, event.XrayFile{Name: strconv.Itoa(i), State: "here", SHA256: strconv.Itoa(i)}, 1, true))
				require.NoError(t, err)
				require.True(t, news)
			}
			e, err := s.event(dicosRules{zone: time.UTC}, drivers.ScriptStart())
			require.NoError(t, err)
			require.Equal(t, c.want, e.Mode+" "+e.Decision)
			last := e.Analyses[len(e.Analyses)-1]
			require.Equal(t, c.last, last.By+" "+last.Status+" "+last.Decision)
			require.Equal(t, e.Mode == event.ScanOperational && e.Decision == event.DecisionSuspicious, e.Class() == event.Urgent)
			e2, err := s.event(dicosRules{zone: time.UTC, machineClears: true}, drivers.ScriptStart())
			require.NoError(t, err)
			if name == "machine clear" {
				require.Equal(t, event.DecisionNothingFound, e2.Decision)
			} else {
				require.Equal(t, e.Decision, e2.Decision)
			}
		})
	}
}

// What an event tells of a threat, and what is personal stands in private only.
func TestDICOSEvent(t *testing.T) {
	p := play(t, instrument(t, dicosFolder(func(s *FolderSettings) { s.Zone = "Europe/Kyiv" })),
		drop(0, "1.dcm", dx(t)), drop(0, "2.dcm", tdr(t, "MACHINE", "ALARM", 5, marked("THREAT"))))
	require.Len(t, p.Observations, 1)
	e := p.Observations[0].Data.(event.XrayScan)
	require.Equal(t, "17", e.ScanNumber)
	require.Equal(t, "CARGO", e.ObjectType)
	require.Equal(t, &event.XrayObject{ID: "AB1234", IDType: "TEXT"}, e.Private.Object)
	require.Equal(t, event.TimeFromDeviceZone, e.TimeSource)
	require.Equal(t, drivers.ScriptStart().Add(-time.Minute-2*time.Hour), e.StartedTS.UTC())
	require.Equal(t, "LANESIM X", e.Scanner.System)
	id, probability, set := 3, 0.75, 8
	require.Equal(t, []event.XrayThreat{{
		ObjectID: &id, By: "machine", Assessments: []event.XrayAssessment{{Category: "CONTRABAND", Flag: "THREAT", Probability: &probability}},
		Regions: []event.XrayRegion{{Base: &[3]float64{4, 5, 0}, Extents: &[3]float64{3, 3, 1}, Set: &set}},
	}}, e.Threats)
	names := []string{}
	for i, a := range e.Attachments {
		names = append(names, a.Name+" "+a.MediaType)
		if a.Name == "thumbnail.jpg" {
			img, err := jpeg.Decode(bytes.NewReader(p.Observations[0].Attachments[i].Content))
			require.NoError(t, err)
			require.Equal(t, 40, img.Bounds().Dx())
		}
	}
	require.Equal(t, []string{"thumbnail.jpg image/jpeg", "1.dcm application/dicom", "2.dcm application/dicom"}, names)
	draft := strings.Builder{}
	for _, f := range e.Files {
		draft.WriteString(f.Name + " " + f.Role + " " + f.State + ";")
	}
	require.Equal(t, "1.dcm image here;2.dcm threat_report here;", draft.String())
}

// Bounds: a scan with more objects than are kept, a report with more threats, a file that
// is larger than is taken, and files that are none.
func TestDICOSBounds(t *testing.T) {
	s := dicosScan{key: scanUID}
	for i := range maxDICOSParts + 1 {
		_, err := s.add(&dicosPart{File: event.XrayFile{SHA256: strconv.Itoa(i)}})
		require.Equal(t, i == maxDICOSParts, err != nil)
	}
	o := &dicos.Object{Report: &dicos.Report{Type: "MACHINE"}}
	for i := range 1000 {
		o.Threats = append(o.Threats, dicos.Threat{ID: &i, Assessments: slices.Repeat([]dicos.Assessment{{Text: strings.Repeat("\"", 5000)}}, 20)})
	}
	part := newDICOSPart(o, event.XrayFile{SHA256: "x"}, 1, true)
	require.LessOrEqual(t, len(part.encode(len(part.Threats))), maxDICOSEntry)
	require.Equal(t, 1000, len(part.Threats)+part.More)
	require.NotZero(t, part.More)

	image := dx(t)
	p := play(t, instrument(t, dicosFolder(func(s *FolderSettings) { s.MaxFile = int64(len(image)) - 1 })),
		drop(0, "1.dcm", image), drop(0, "2.dcm", tdr(t, "MACHINE", "ALARM", 5)), drop(0, "3.dcm", []byte("no DICOS")), drop(0, "4.dcm", nil), drop(0, "5.dcm", make([]byte, 500)))
	require.Equal(t, []string{wholeScan + "suspicious"}, lines(p))
	require.Len(t, p.Unparsed, 3)
	e := p.Observations[0].Data.(event.XrayScan)
	require.Equal(t, "too_large", e.Files[0].State)
	require.Len(t, e.Attachments, 1)
}

// Wherever a run is cut off, the next one makes the event that is missing, with the same
// id; what was told before is known after a restart, also when its files are gone.
func TestDICOSCrash(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	write("1.dcm", dx(t))
	ledger := &drivers.MemoryLedger{}
	now := time.Now()
	crash := errors.New("the power is gone")
	run := func(want error, change func(*host)) []drivers.Observation {
		h := &host{ledger: ledger, now: func() time.Time { return now }}
		if change != nil {
			change(h)
		}
		require.ErrorIs(t, watch(t, dir, h, instrument(t, dicosFolder()), 3), want)
		now = now.Add(time.Hour)
		return h.observations
	}
	run(crash, func(h *host) { h.refuse = func(drivers.Observation) error { return crash } })
	lost := run(crash, func(h *host) { h.lose = func(drivers.Observation) error { return crash } })
	require.Len(t, lost, 1)
	again := run(errStop, nil)
	require.Len(t, again, 1)
	require.Equal(t, lost[0].ID, again[0].ID)
	require.Empty(t, run(errStop, nil))

	write("2.dcm", tdr(t, "OPERATOR", "ALARM", 40))
	require.Len(t, run(errStop, nil), 1)
	require.NoError(t, os.Remove(filepath.Join(dir, "1.dcm")))
	require.NoError(t, os.Remove(filepath.Join(dir, "2.dcm")))
	write("3.dcm", tdr(t, "OPERATOR", "CLEAR", 20))
	late := run(errStop, nil)
	require.Len(t, late, 1)
	e := late[0].Data.(event.XrayScan)
	require.Equal(t, scanUID+" r3 complete operational suspicious", line(late[0]), "an alarm is not forgotten with its files")
	require.Len(t, e.Files, 3)
	require.Len(t, e.Attachments, 1)

	now = now.Add(2 * dicosRemembered)
	require.Empty(t, run(errStop, nil))
	require.Empty(t, ledger.Get(dicosEntry(scanUID, 0)))
	require.NotEmpty(t, ledger.Get("scan:"+scanUID))
}
