package dicos

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// read writes an object with more elements, and reads it again.
func read(t *testing.T, o *Object, pixels []uint16, extra ...Element) *Object {
	t.Helper()
	o.TransferSyntax = ExplicitLE
	b, err := Form{Extra: extra}.Append(nil, o, pixels)
	require.NoError(t, err)
	got, err := Decode(b)
	require.NoError(t, err)
	return got
}

func assessed(flag string) Element {
	return Element{Tag: tagAssess, VR: "SQ", Items: [][]Element{{text(tagFlag, "CS", flag)}}}
}

// A threat beside the sequence makes a report of a picture; what is there and empty does not.
func TestReportInAPicture(t *testing.T) {
	o := read(t, &Object{SOPClass: ClassDX}, nil, assessed("HIGH_THREAT"))
	require.NotNil(t, o.Report)
	require.Equal(t, "HIGH_THREAT", o.Threats[0].Assessments[0].Flag)
	where := Element{Tag: tagRepresent, VR: "SQ", Items: [][]Element{{text(tagLocationText, "ST", "rear")}}}
	require.NotNil(t, read(t, &Object{SOPClass: ClassDX}, nil, where).Report)
	for _, tag := range []Tag{tagThreats, tagRepresent, tagAssess} {
		require.Nil(t, read(t, &Object{SOPClass: ClassDX}, nil, Element{Tag: tag, VR: "SQ", Items: [][]Element{}}).Report)
	}
	require.Nil(t, read(t, &Object{SOPClass: ClassDX}, nil, Element{Tag: tagDecision, VR: "CS"}).Report)
}

// However many bitmaps a report has, its decision, which stands behind them, is read.
func TestMoreBitmapsThanAreKept(t *testing.T) {
	r := &Object{SOPClass: ClassTDR, Report: &Report{Type: "MACHINE", Decision: "ALARM"}}
	for i := range 40 {
		r.Threats = append(r.Threats, Threat{ID: &i, Assessments: []Assessment{{Flag: "HIGH_THREAT"}}, Representations: []Representation{{Regions: []Region{
			{Extents: [3]float64{100, 100, 100}, Bitmap: make([]byte, 125_000)}}}}})
	}
	o := read(t, r, nil)
	require.Equal(t, "ALARM", o.Report.Decision)
	require.Len(t, o.Threats, 40)
	require.Positive(t, o.Dropped)
	require.NotEmpty(t, o.Threats[0].Representations[0].Regions[0].Bitmap)
	require.Empty(t, o.Threats[39].Representations[0].Regions[0].Bitmap)
	require.Equal(t, "HIGH_THREAT", o.Threats[39].Assessments[0].Flag)
}

func TestPixelsThatAreTooFew(t *testing.T) {
	picture := func() *Object { return &Object{SOPClass: ClassDX, Image: Image{Rows: 2, Columns: 3}} }
	require.True(t, read(t, picture(), make([]uint16, 6)).Whole())
	for _, n := range []int{0, 2, 10} {
		require.False(t, read(t, picture(), nil, Element{Tag: tagPixelData, VR: "OW", Value: make([]byte, n)}).Whole())
	}
	require.True(t, read(t, picture(), nil, Element{Tag: tagPixelData, VR: "OW", Value: make([]byte, 12)}).Whole())
}

// A number that is none does not move the others into its place.
func TestNumbersThatAreNone(t *testing.T) {
	nan := math.NaN()
	region := func(base ...float64) Element {
		return Element{Tag: tagROI, VR: "SQ", Items: [][]Element{{floats(tagROIBase, base...), floats(tagROIExtents, 1, 1, 1)}}}
	}
	for _, c := range []struct {
		item             Element
		regions, corners int
		dropped          bool
	}{
		{region(4, 5, 0), 1, 0, false},
		{region(nan, 5, 0), 0, 0, true},
		{floats(tagPolygon, 1, 2, 0, 3, 4, 0), 0, 2, false},
		{floats(tagPolygon, 1, nan, 0, 3, 4, 0, 5, 6, 7), 0, 0, true},
	} {
		o := read(t, &Object{SOPClass: ClassDX}, nil, Element{Tag: tagRepresent, VR: "SQ", Items: [][]Element{{c.item}}})
		require.Len(t, o.Threats[0].Representations[0].Regions, c.regions)
		require.Len(t, o.Threats[0].Representations[0].Polygon, c.corners)
		require.Equal(t, c.dropped, o.Dropped > 0)
	}
}

// Clocks that were not set, and "never", tell no time.
func TestYears(t *testing.T) {
	for text, want := range map[string]bool{
		"20260105120000": true, "20000101000000": true, "19991231235959": false, "00010102000000": false, "99991231235959-0500": false, "22001231235959": true, "22010101000000": false,
	} {
		at, _ := moment(text)
		require.Equal(t, want, !at.IsZero(), text)
	}
	o := read(t, &Object{SOPClass: ClassTDR, Start: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), Report: &Report{Decision: "ALARM"}}, nil, text(tagDecisionTime, "DT", "99991231235959-0500"))
	require.Equal(t, 2, o.WrongTimes)
	require.True(t, o.Start.IsZero())
	require.True(t, o.Report.DecisionTime.IsZero())
}

func TestThreatImageProjection(t *testing.T) {
	for _, c := range []struct {
		element Element
		want    bool
	}{
		{text(tagTIPType, "CS", "FTI"), true},
		{text(tagTIPType, "CS", "NONE"), false},
		{text(tagTIPType, "CS", ""), false},
		{text(tagTIP1, "LO", "image 7"), true},
		{whole(tagTIP2, "US", 1), true},
		{whole(tagTIP2, "US", 0), false},
		{Element{Tag: tagTIP3, VR: "SQ", Items: [][]Element{{text(tagTIPType, "CS", "CTI")}}}, true},
		{Element{Tag: tagTIP3, VR: "SQ", Items: [][]Element{}}, false},
	} {
		require.Equal(t, c.want, read(t, &Object{SOPClass: ClassDX}, nil, c.element).Projected, c.element)
		o := read(t, &Object{SOPClass: ClassTDR}, nil, Element{Tag: tagThreats, VR: "SQ", Items: [][]Element{{whole(tagThreatID, "US", 1), c.element}}})
		require.Equal(t, c.want, o.Threats[0].Projected)
		require.False(t, o.Projected)
	}
}

// A sample ends before what may tell of a person, in files and data sets; what is none of
// them is shown.
func TestSample(t *testing.T) {
	for _, syntax := range []string{ExplicitLE, ImplicitLE} {
		o := &Object{
			TransferSyntax: syntax, SOPClass: ClassTDR, SOPInstance: "1.2", Modality: "TDR", Inspected: Inspected{ID: "SECRET1"},
			Scanner: Scanner{Manufacturer: "SHOWN"}, Report: &Report{Operator: true, Decision: "ALARM"},
		}
		b, err := Form{Extra: []Element{text(0x00081070, "PN", "SECRET2")}}.Append(nil, o, nil)
		require.NoError(t, err)
		body := bytes.Index(b, []byte{8, 0, 5, 0})
		for _, x := range [][]byte{b, b[body:]} {
			require.Contains(t, string(Sample(x)), "SHOWN")
		}
		for n := range b {
			require.NotContains(t, string(Sample(b[:n])), "SECRET")
		}
		for _, x := range [][]byte{b, b[body:]} {
			require.NotContains(t, string(Sample(x)), "SECRET")
		}
		require.Equal(t, b[:140], Sample(b[:140]))
	}
	small := typed(t, "1000 2000 'LO' 0800 'SECRET1 '")
	require.Empty(t, Sample(small))
	require.Empty(t, Sample(typed(t, "1040 1310 'LT' 0800 'SECRET1 '")))
	require.Equal(t, "no DICOS", string(Sample([]byte("no DICOS"))))
	require.Empty(t, Sample(nil))
}
