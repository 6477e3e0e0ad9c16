package xray

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/dimse"
	"github.com/lanepost/lanepost/protocol/event"
)

// scanOf is the event of files that came one after the other.
func scanOf(t *testing.T, rules dicosRules, files ...[]byte) event.XrayScan {
	t.Helper()
	s := dicosScan{key: scanUID}
	for i, b := range files {
		o, err := dicos.Decode(b)
		require.NoError(t, err)
		_, err = s.add(newDICOSPart(o, event.XrayFile{Name: strconv.Itoa(i), State: "here", SHA256: strconv.Itoa(i)}, 1, o.Whole()))
		require.NoError(t, err)
	}
	rules.zone = time.UTC
	e, err := s.event(rules, drivers.ScriptStart())
	require.NoError(t, err)
	return e
}

// with is a file that has more elements than an Object.
func with(t *testing.T, b []byte, extra ...dicos.Element) []byte {
	t.Helper()
	o, err := dicos.Decode(b)
	require.NoError(t, err)
	return dicosBytes(t, o, dicos.Form{Extra: extra})
}

func flag(vr, word string) dicos.Element {
	return dicos.Element{Tag: 0x40101038, VR: "SQ", Items: [][]dicos.Element{{{Tag: 0x40101015, VR: vr, Value: []byte(word)}}}}
}

// Whatever is not the whole word of somebody about a whole scan is not "nothing found", and
// an alarm stays one.
func TestDICOSEvidence(t *testing.T) {
	change := func(f objectChange) objectChange { return f }
	aborted := change(func(o *dicos.Object) { o.Report.Abort, o.Report.AbortReason = "ABORT", "NOT_REVIEWED" })
	untimed := change(func(o *dicos.Object) { o.Report.DecisionTime = time.Time{} })
	alarms := change(func(o *dicos.Object) { n := 2; o.Report.Objects, o.Report.Alarms = &n, &n })
	unnamed := change(func(o *dicos.Object) { o.Report.References = nil })
	second := change(func(o *dicos.Object) { o.SOPInstance = scanUID + ".9" })
	counted := change(func(o *dicos.Object) { o.ScanInstance = "0" })
	many := change(func(o *dicos.Object) {
		for i := range 1200 {
			word := "NO_THREAT"
			if i > 1000 {
				word = "HIGH_THREAT"
			}
			o.Threats = append(o.Threats, dicos.Threat{ID: &i, Assessments: []dicos.Assessment{{Flag: word}}})
		}
	})
	named := func(pictures int) objectChange {
		return func(o *dicos.Object) {
			for i := range pictures {
				o.Report.References = append(o.Report.References, dicos.Reference{Instance: fmt.Sprintf("%s.1.%d", scanUID, i)})
			}
		}
	}
	var pictures [][]byte
	for i := range 32 {
		pictures = append(pictures, dx(t, func(o *dicos.Object) { o.SOPInstance = fmt.Sprintf("%s.1.%d", scanUID, i) }))
	}
	machine, operator := func(word string, at int, c ...objectChange) []byte { return tdr(t, "MACHINE", word, at, c...) },
		func(word string, at int, c ...objectChange) []byte { return tdr(t, "OPERATOR", word, at, c...) }
	nothing, err := dicos.Decode(dx(t))
	require.NoError(t, err)
	noPixels, err := dicos.Form{Extra: []dicos.Element{{Tag: 0x7fe00010, VR: "OW"}}}.Append(nil, nothing, nil)
	require.NoError(t, err)
	nothing.Start, nothing.TransferSyntax = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), dicos.ExplicitLE
	ancient := dicosBytes(t, nothing, dicos.Form{})
	clears := dicosRules{machineClears: true}
	for name, c := range map[string]struct {
		rules  dicosRules
		files  [][]byte
		want   string
		remark string
	}{
		"a threat in a picture":                           {files: [][]byte{with(t, dx(t), flag("CS", "HIGH_THREAT"))}, want: "complete operational suspicious"},
		"a threat in a picture, and CLEAR":                {files: [][]byte{with(t, dx(t), flag("CS", "HIGH_THREAT")), operator("CLEAR", 5)}, want: "complete operational suspicious"},
		"CLEAR with objects that alarm":                   {files: [][]byte{dx(t), operator("CLEAR", 5, alarms)}, want: "complete operational unknown", remark: "clear_with_threats"},
		"UNKNOWN with objects that alarm":                 {files: [][]byte{dx(t), machine("UNKNOWN", 5, alarms)}, want: "complete operational suspicious"},
		"UNKNOWN with a threat":                           {files: [][]byte{dx(t), machine("UNKNOWN", 5, marked("HIGH_THREAT"))}, want: "complete operational suspicious"},
		"an abort with a threat":                          {files: [][]byte{dx(t), machine("UNKNOWN", 5, aborted, marked("THREAT"))}, want: "complete operational suspicious"},
		"a flag that can't be read":                       {files: [][]byte{dx(t), with(t, operator("CLEAR", 5), flag("OB", "THREAT"))}, want: "complete operational unknown", remark: "values_left_out"},
		"more threats than are read":                      {files: [][]byte{dx(t), operator("CLEAR", 5, many)}, want: "complete operational unknown", remark: "values_left_out"},
		"an empty sequence in a picture changes no order": {files: [][]byte{with(t, dx(t), dicos.Element{Tag: 0x40101011, VR: "SQ", Items: [][]dicos.Element{}}), operator("ALARM", 9), operator("CLEAR", 5)}, want: "complete operational suspicious"},
		"a report without a time changes no order":        {files: [][]byte{dx(t), operator("ALARM", 9), machine("CLEAR", 1, untimed), operator("CLEAR", 5)}, want: "complete operational suspicious"},
		"no pixels":                               {files: [][]byte{noPixels, operator("CLEAR", 5)}, want: "partial operational unknown"},
		"an alarm, and CLEAR about half a scan":   {files: [][]byte{noPixels, machine("ALARM", 3), operator("CLEAR", 5)}, want: "partial operational suspicious"},
		"CLEAR, then the operator's abort":        {files: [][]byte{dx(t), operator("CLEAR", 5), operator("UNKNOWN", 6, aborted)}, want: "complete operational unknown"},
		"an abort, then CLEAR":                    {files: [][]byte{dx(t), operator("UNKNOWN", 5, aborted), operator("CLEAR", 6)}, want: "complete operational nothing_found"},
		"an alarm of nobody known after CLEAR":    {files: [][]byte{dx(t), operator("CLEAR", 5), tdr(t, "UNDEFINED", "ALARM", 6)}, want: "complete operational suspicious"},
		"an alarm of nobody known before CLEAR":   {files: [][]byte{dx(t), operator("CLEAR", 5), tdr(t, "UNDEFINED", "ALARM", 4)}, want: "complete operational nothing_found"},
		"machines: all clear":                     {rules: clears, files: [][]byte{dx(t), machine("CLEAR", 5), machine("CLEAR", 6)}, want: "complete operational nothing_found"},
		"machines: clear, unknown":                {rules: clears, files: [][]byte{dx(t), machine("CLEAR", 5), machine("UNKNOWN", 6)}, want: "complete operational unknown"},
		"machines: unknown, clear":                {rules: clears, files: [][]byte{dx(t), machine("UNKNOWN", 5), machine("CLEAR", 6)}, want: "complete operational unknown"},
		"machines: clear, abort":                  {rules: clears, files: [][]byte{dx(t), machine("CLEAR", 5), machine("CLEAR", 6, aborted)}, want: "complete operational unknown"},
		"machines: clear, an operator's abort":    {rules: clears, files: [][]byte{dx(t), machine("CLEAR", 5), operator("UNKNOWN", 6, aborted)}, want: "complete operational unknown"},
		"machines: an operator has the last word": {rules: clears, files: [][]byte{dx(t), machine("UNKNOWN", 5), operator("CLEAR", 6)}, want: "complete operational nothing_found"},
		"more pictures named than are here":       {files: append(append([][]byte{dx(t)}, pictures...), operator("CLEAR", 5, named(60))), want: "partial operational unknown"},
		"all that are named are here":             {files: append(append([][]byte{dx(t)}, pictures...), operator("CLEAR", 5, named(32))), want: "complete operational nothing_found"},
		"more pictures named than are kept":       {rules: dicosRules{withoutImages: true}, files: [][]byte{dx(t), operator("CLEAR", 5, named(900))}, want: "partial operational unknown", remark: "values_left_out"},
		"no picture, and none named":              {files: [][]byte{operator("CLEAR", 5, unnamed)}, want: "partial operational unknown", remark: "without_picture"},
		"no picture is expected":                  {rules: dicosRules{withoutImages: true}, files: [][]byte{operator("CLEAR", 5, unnamed)}, want: "complete operational nothing_found"},
		"a picture that nobody named":             {files: [][]byte{dx(t), operator("CLEAR", 5), dx(t, second)}, want: "complete operational unknown", remark: "pictures_not_named"},
		"CLEAR about the whole scan":              {files: [][]byte{dx(t), operator("CLEAR", 5, unnamed), dx(t, second)}, want: "complete operational nothing_found"},
		"without a UID":                           {files: [][]byte{dx(t, counted), operator("CLEAR", 5, counted)}, want: "complete operational unknown", remark: "without_scan_uid"},
		"without a UID, an alarm before":          {files: [][]byte{dx(t, counted), machine("ALARM", 3, counted), operator("CLEAR", 5, counted)}, want: "complete operational suspicious", remark: "without_scan_uid"},
		"a year in which there were none":         {files: [][]byte{ancient}, want: "complete operational pending", remark: "time_out_of_range"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := scanOf(t, c.rules, c.files...)
			require.Equal(t, c.want, e.Completeness+" "+e.Mode+" "+e.Decision)
			if c.remark != "" {
				require.Contains(t, e.Remarks, c.remark)
			}
			if c.remark == "time_out_of_range" {
				require.Nil(t, e.StartedTS)
			}
		})
	}
}

// A threat that the scanner projected into a picture is a drill; what a machine found beside
// it is none.
func TestDICOSProjection(t *testing.T) {
	tip := dicos.Element{Tag: 0x40101039, VR: "CS", Value: []byte("FTI ")}
	none := dicos.Element{Tag: 0x40101039, VR: "CS", Value: []byte("NONE")}
	item := func(extra ...dicos.Element) dicos.Element {
		return dicos.Element{Tag: 0x40101011, VR: "SQ", Items: [][]dicos.Element{append([]dicos.Element{
			{Tag: 0x40101038, VR: "SQ", Items: [][]dicos.Element{{{Tag: 0x40101015, VR: "CS", Value: []byte("THREAT")}}}}}, extra...)}}
	}
	projected := dicos.Element{Tag: 0x40102041, VR: "LO", Value: []byte("image 7")}
	report := func(kind string, threats dicos.Element) []byte {
		o, err := dicos.Decode(tdr(t, kind, "ALARM", 5))
		require.NoError(t, err)
		b, err := dicos.Form{Extra: []dicos.Element{threats}}.Append(nil, &dicos.Object{
			TransferSyntax: dicos.ExplicitLE, SOPClass: dicos.ClassTDR, SOPInstance: o.SOPInstance, Modality: "TDR", ScanInstance: scanUID, ScanType: "OPERATIONAL", Inspected: o.Inspected,
		}, nil)
		require.NoError(t, err)
		b = append(b, reportTail(kind)...)
		return b
	}
	for name, c := range map[string]struct {
		files  [][]byte
		want   string
		urgent bool
	}{
		"an operator finds it":       {[][]byte{with(t, dx(t), tip), tdr(t, "OPERATOR", "ALARM", 5)}, "test suspicious", false},
		"an operator misses it":      {[][]byte{with(t, dx(t), tip), tdr(t, "OPERATOR", "CLEAR", 5)}, "test unknown", false},
		"a machine finds something":  {[][]byte{with(t, dx(t), tip), tdr(t, "MACHINE", "ALARM", 5)}, "operational suspicious", true},
		"no projection":              {[][]byte{with(t, dx(t), none), tdr(t, "OPERATOR", "ALARM", 5)}, "operational suspicious", true},
		"a threat that is projected": {[][]byte{dx(t), report("MACHINE", item(projected))}, "test suspicious", false},
		"a threat that is not":       {[][]byte{dx(t), report("MACHINE", item())}, "operational suspicious", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := scanOf(t, dicosRules{}, c.files...)
			require.Equal(t, c.want, e.Mode+" "+e.Decision)
			require.Equal(t, c.urgent, e.Class() == event.Urgent)
			require.Equal(t, name != "no projection" && name != "a threat that is not", len(e.Remarks) > 0)
		})
	}
}

// reportTail are the elements of a report that stand behind its threats.
func reportTail(kind string) (b []byte) {
	for _, x := range []struct {
		element byte
		text    string
	}{{0x27, kind}, {0x31, "ALARM"}} {
		if len(x.text)%2 == 1 {
			x.text += " "
		}
		b = append(b, 0x10, 0x40, x.element, 0x10, 'C', 'S', byte(len(x.text)), 0)
		b = append(b, x.text...)
	}
	return b
}

// A scanner's own number begins anew each day: another vehicle does not inherit what was
// said of the one before.
func TestDICOSCountedScans(t *testing.T) {
	counted := func(day int) objectChange {
		return func(o *dicos.Object) {
			o.ScanInstance, o.ScanID, o.Inspected, o.Scanner.Machine = "", "17", dicos.Inspected{}, "LANE 4"
			o.Start = drivers.ScriptStart().Add(time.Duration(day) * 24 * time.Hour)
			o.SOPInstance += strconv.Itoa(day)
		}
	}
	h, n := newHost(), keeping(t)
	for _, b := range [][]byte{dx(t, counted(0)), tdr(t, "OPERATOR", "CLEAR", 5, counted(0)), dx(t, counted(1))} {
		require.NoError(t, n.keep(h, stored{content: b, instance: "1"}))
	}
	last := h.observations[2].Data.(event.XrayScan)
	require.Equal(t, "17@20260106@LANE 4 r1 complete operational pending", line(h.observations[2]))
	require.Equal(t, "17", last.ScanNumber)
	require.Equal(t, "17@20260105@LANE 4", h.observations[1].Subject)
	// Without a day it is no id at all.
	undated := func(o *dicos.Object) { counted(0)(o); o.Start = time.Time{} }
	require.NoError(t, n.keep(h, stored{content: tdr(t, "OPERATOR", "ALARM", 5, undated), instance: "1"}))
	require.Equal(t, scanUID+".2.50", h.observations[3].Subject)
}

// However many bitmaps a report has, its alarm is told.
func TestDICOSManyBitmaps(t *testing.T) {
	big := func(o *dicos.Object) {
		for i := range 5 {
			o.Threats = append(o.Threats, dicos.Threat{ID: &i, Assessments: []dicos.Assessment{{Flag: "HIGH_THREAT", Category: "EXPLOSIVE"}},
				Representations: []dicos.Representation{{Regions: []dicos.Region{{Extents: [3]float64{200, 200, 200}, Bitmap: make([]byte, 1_000_000)}}}}})
		}
	}
	h := newHost()
	require.NoError(t, keeping(t).keep(h, stored{content: tdr(t, "MACHINE", "ALARM", 5, big), instance: "1"}))
	e := h.observations[0].Data.(event.XrayScan)
	require.Equal(t, event.Urgent, e.Class())
	require.Len(t, e.Threats, 5)
}

// Another report under a name that was used is another report.
func TestDICOSNameUsedTwice(t *testing.T) {
	p := play(t, instrument(t, dicosFolder()), drop(0, "1.dcm", dx(t)), drop(0, "report.dcm", tdr(t, "MACHINE", "ALARM", 5)),
		drop(time.Minute, "report.dcm", tdr(t, "AGGREGATE", "UNKNOWN", 9)), drop(2*time.Minute, "report.dcm", tdr(t, "MACHINE", "UNKNOWN", 5)))
	require.Equal(t, []string{wholeScan + "suspicious", scanUID + " r2 complete operational suspicious", scanUID + " r3 complete operational suspicious"}, lines(p))
	require.Len(t, p.Observations[1].Data.(event.XrayScan).Analyses, 2)
}

// A scan with more pictures than are kept is not whole, and what is found in them counts.
func TestDICOSFullScan(t *testing.T) {
	h, n := newHost(), keeping(t)
	s := dicosScan{key: scanUID}
	for i := range maxDICOSParts {
		o, err := dicos.Decode(dx(t, func(o *dicos.Object) { o.SOPInstance = fmt.Sprintf("1.2.%d", i) }))
		require.NoError(t, err)
		_, err = s.add(newDICOSPart(o, event.XrayFile{Name: strconv.Itoa(i), State: "here", SHA256: strconv.Itoa(i)}, 1, true))
		require.NoError(t, err)
	}
	require.NoError(t, s.tell(h, n.rules, false, nil))
	one := stored{content: dx(t, func(o *dicos.Object) { o.SOPInstance = "1.2.999" }), instance: "x"}
	for range 2 { // it comes again, since it is refused for now
		err := n.keep(h, one)
		require.ErrorIs(t, err, errDICOSParts)
		require.NotErrorIs(t, err, errObject)
	}
	require.Len(t, h.observations, 2)
	require.Equal(t, scanUID+" r2 partial operational pending", line(h.observations[1]))
	require.NoError(t, n.keep(h, stored{content: tdr(t, "OPERATOR", "CLEAR", 5), instance: "2"}))
	require.NoError(t, n.keep(h, stored{content: tdr(t, "OPERATOR", "ALARM", 6), instance: "2"}))
	require.Len(t, h.observations, 4)
	require.Contains(t, line(h.observations[2]), "r3 partial operational unknown")
	last := h.observations[3].Data.(event.XrayScan)
	require.Equal(t, event.Urgent, last.Class())
	require.Contains(t, last.Remarks, "objects_left_out")

	// An alarm for which there is no room is one.
	s = dicosScan{key: scanUID}
	for i := range maxDICOSReports + 1 {
		word := "CLEAR"
		if i == maxDICOSReports {
			word = "ALARM"
		}
		o, err := dicos.Decode(tdr(t, "OPERATOR", word, i))
		require.NoError(t, err)
		news, err := s.add(newDICOSPart(o, event.XrayFile{SHA256: strconv.Itoa(i)}, 1, true))
		require.True(t, news)
		require.Equal(t, i == maxDICOSReports, errors.Is(err, errDICOSParts))
	}
	e, err := s.event(dicosRules{zone: time.UTC, withoutImages: true}, drivers.ScriptStart())
	require.NoError(t, err)
	require.Equal(t, event.Urgent, e.Class())
}

// quotes are twice as long in the ledger.
func quotes(n int) string { return strings.Repeat(`"`, n) }

// narrowLedger takes keys and values as long as the agent's ledger does.
type narrowLedger struct{ drivers.Ledger }

func (l narrowLedger) Put(key, value string) error {
	if max(len(key), len(value)) > 16<<10 {
		return errors.New("it is too long")
	}
	return l.Ledger.Put(key, value)
}

// The agent's ledger takes whatever a file says, and one that it doesn't take stops no other.
func TestDICOSLedgerEntries(t *testing.T) {
	q := quotes(120)
	long := tdr(t, "OPERATOR", "ALARM", 5, func(o *dicos.Object) {
		o.Inspected = dicos.Inspected{ID: q, Authority: q, IDType: q, Type: q, Descriptor: q, OtherIDs: []string{q, q, q, q, q, q, q, q}}
		o.Scanner = dicos.Scanner{Manufacturer: q, Model: q, Serial: q, Software: q, Machine: q, Location: q, Address: q, SubLocation: q}
		o.Report.Algorithm = []string{q, q, q, q, q, q, q, q}
		for range 300 {
			o.Report.References = append(o.Report.References, dicos.Reference{Instance: q})
		}
	})
	dir := t.TempDir()
	for i, b := range [][]byte{dx(t, func(o *dicos.Object) { o.ScanInstance = "1.2.77" }), long} {
		name := filepath.Join(dir, strconv.Itoa(i)+".dcm")
		require.NoError(t, os.WriteFile(name, b, 0o600))
		at := time.Now().Add(time.Duration(i-2) * time.Minute)
		require.NoError(t, os.Chtimes(name, at, at))
	}
	h := &host{ledger: narrowLedger{&drivers.MemoryLedger{}}, now: time.Now}
	require.ErrorIs(t, watch(t, dir, h, instrument(t, dicosFolder()), 3), errStop)
	require.Len(t, h.observations, 2)
	require.Contains(t, line(h.observations[0]), scanUID+" r1 partial operational suspicious")
	require.Contains(t, line(h.observations[1]), "1.2.77 r1 complete operational pending")

	// What does not fit at all is refused alone.
	s := dicosScan{key: scanUID}
	_, err := s.add(&dicosPart{Path: quotes(9000)})
	require.ErrorIs(t, err, errDICOSEntry)
	require.Empty(t, s.parts)
	require.NoError(t, s.tell(h, dicosRules{}, false, nil))
	require.Len(t, h.observations, 2)
}

// A time that can't be is told as none, and stops nothing.
func TestDICOSNever(t *testing.T) {
	never := tdr(t, "OPERATOR", "ALARM", 5, func(o *dicos.Object) {
		o.Report.DecisionTime, o.Report.Zoned = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -5*3600)), true
	})
	h := newHost()
	require.NoError(t, keeping(t).keep(h, stored{content: never, instance: "1"}))
	e := h.observations[0].Data.(event.XrayScan)
	require.Equal(t, event.Urgent, e.Class())
	require.Contains(t, e.Remarks, "time_out_of_range")
	require.Nil(t, e.Analyses[0].EndedTS)
}

// A file that is too large to be taken must have its end, too.
func TestDICOSTooLargeAndCutOff(t *testing.T) {
	whole := dx(t)
	for cut, want := range map[int]string{0: wholeScan + "nothing_found", 100: scanUID + " r1 partial operational unknown without " + scanUID + ".1"} {
		p := play(t, instrument(t, dicosFolder(func(s *FolderSettings) { s.MaxFile = 1000 })),
			drop(0, "1.dcm", whole[:len(whole)-cut]), drop(0, "2.dcm", tdr(t, "OPERATOR", "CLEAR", 5)), drop(10*time.Minute, "x", nil))
		require.Equal(t, want, lines(p)[0])
		last := p.Observations[len(p.Observations)-1].Data.(event.XrayScan)
		require.Equal(t, cut > 0, last.Completeness == "partial")
	}
}

// What a scanner sends without its end is kept as such: it may have an alarm in it.
func TestKeepWhatIsCutOff(t *testing.T) {
	b := dx(t, func(o *dicos.Object) { o.Report = &dicos.Report{Type: "MACHINE", Decision: "ALARM"} })
	h, n := newHost(), keeping(t)
	for range 2 {
		require.NoError(t, n.keep(h, stored{content: b[:len(b)-7], instance: "1"}))
	}
	require.Len(t, h.observations, 1)
	e := h.observations[0].Data.(event.XrayScan)
	require.Equal(t, event.Urgent, e.Class())
	require.Equal(t, "partial", e.Completeness)
	require.Equal(t, "incomplete", e.Files[0].State)
}

// After a panic in storing, which the link recovers, the next object is stored.
func TestNetworkStoresAfterAPanic(t *testing.T) {
	n := receiving(t, func(drivers.Host, stored) error { panic("in the decoder") })
	require.Panics(t, func() { _ = (&association{n: n, h: newHost()}).take(t.Context(), dimse.Object{}) })
	require.True(t, n.storing.TryLock())
	n.storing.Unlock()
}

// What the ledger has and no event tells is told when the agent starts, also when the file
// is gone by then.
func TestDICOSToldAfterItsFileIsGone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "1.dcm")
	require.NoError(t, os.WriteFile(name, tdr(t, "OPERATOR", "ALARM", 5), 0o600))
	now := time.Now()
	h := &host{ledger: &drivers.MemoryLedger{}, now: func() time.Time { return now }, refuse: func(drivers.Observation) error { return errStop }}
	require.Error(t, watch(t, dir, h, instrument(t, dicosFolder()), 3))
	require.NoError(t, os.Remove(name))
	now = now.Add(time.Hour)
	h.refuse = nil
	require.ErrorIs(t, watch(t, dir, h, instrument(t, dicosFolder()), 3), errStop)
	require.Len(t, h.observations, 1)
	require.Equal(t, event.Urgent, h.observations[0].Data.(event.XrayScan).Class())
	require.ErrorIs(t, watch(t, dir, h, instrument(t, dicosFolder()), 3), errStop)
	require.Len(t, h.observations, 1)
}

// That there was an alarm is known longer than the objects that say so; one that an operator
// took back is none.
func TestDICOSRememberedAlarm(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		want  []string
	}{
		"an alarm":            {[]string{"ALARM"}, []string{"suspicious", "suspicious"}},
		"one that is cleared": {[]string{"ALARM", "CLEAR"}, []string{"pending", "nothing_found"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, n := newHost(), keeping(t)
			now := time.Now()
			h.now = func() time.Time { return now }
			keep := func(b []byte) string {
				require.NoError(t, n.keep(h, stored{content: b, instance: "1"}))
				return h.observations[len(h.observations)-1].Data.(event.XrayScan).Decision
			}
			keep(dx(t))
			for i, word := range c.words {
				keep(tdr(t, "OPERATOR", word, 5+i))
			}
			now = now.Add(dicosRemembered + 24*time.Hour)
			require.Equal(t, c.want, []string{keep(dx(t)), keep(tdr(t, "OPERATOR", "CLEAR", 60))})
			require.NoError(t, h.ledger.Put("scan:"+scanUID, ""))
			now = now.Add(dicosRemembered + 24*time.Hour)
			for i := range 2 { // the objects are forgotten with what was told of them
				require.NoError(t, h.ledger.Put(dicosEntry(scanUID, i), ""))
			}
			require.NoError(t, forgetDICOS(h.ledger, now))
			require.Empty(t, h.ledger.Get("alarm:"+scanUID))
		})
	}
}

// A ledger that is full stops no scan: each is told, once in a run, by what came last.
func TestDICOSFullLedger(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string][]byte{"1.dcm": dx(t), "2.dcm": tdr(t, "MACHINE", "ALARM", 5)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	h := &host{ledger: fullLedger{&drivers.MemoryLedger{}}, now: time.Now}
	w := instrument(t, dicosFolder())
	for range 2 {
		require.ErrorIs(t, watch(t, dir, h, w, 5), errStop)
	}
	require.Len(t, h.observations, 1)
	require.Equal(t, event.Urgent, h.observations[0].Data.(event.XrayScan).Class())
	h = &host{ledger: fullLedger{&drivers.MemoryLedger{}}, now: time.Now}
	require.NoError(t, keeping(t).keep(h, stored{content: tdr(t, "MACHINE", "ALARM", 5), instance: "1"}))
	require.Len(t, h.observations, 1)

	// An alarm is not forgotten because there is no room to remember it.
	full := newHost()
	require.NoError(t, keeping(t).keep(full, stored{content: tdr(t, "MACHINE", "ALARM", 5), instance: "1"}))
	require.NoError(t, forgetDICOS(fullLedger{full.ledger}, time.Now().Add(time.Hour)))
	require.NotEmpty(t, full.ledger.Get(dicosEntry(scanUID, 0)))
}
