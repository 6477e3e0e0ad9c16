package tsa

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// vectors are typed by hand from the description of the protocol: real records
// of a day file and of a burst, and the shapes that other simulators give for
// what no capture holds.
var vectors = []struct {
	line string
	want Record
}{
	{"NB,000000,000000,000000,000000", Record{Tag: NB}},
	{"GB,000401,000406,000436,000436", Record{Tag: GB, Counts: [4]int{401, 406, 436, 436}}},
	{"NS,000001,000000,000001,000000", Record{Tag: NS, Counts: [4]int{1, 0, 1, 0}}},
	{"NA,000012,000003,000009,000004", Record{Tag: NA, Counts: [4]int{12, 3, 9, 4}}},
	{"GS,000063,000058,000051,000078", Record{Tag: GS, Counts: [4]int{63, 58, 51, 78}}},
	{"GA,000071,000061,000065,000080", Record{Tag: GA, Counts: [4]int{71, 61, 65, 80}}},
	{"GH,001999,002100,000400,000410", Record{Tag: GH, Counts: [4]int{1999, 2100, 400, 410}}},
	{"GL,000012,000406,000436,000436", Record{Tag: GL, Counts: [4]int{12, 406, 436, 436}}},
	{"NH,000060,000000,000071,000000", Record{Tag: NH, Counts: [4]int{60, 0, 71, 0}}},
	{"GX,000630,002566,000000,000000", Record{Tag: GX, Counter: 630, NeutronBackground: 2566}},
	{"TT,000000,000000,000000,000000", Record{Tag: TT}},
	{"TC,111111,111111,111111,111111", Record{Tag: TC, Counts: [4]int{111111, 111111, 111111, 111111}}},
	{"SP,0.1281,05.323,008.57,000000", Record{Tag: SP, Speed: Speed{0.1281, 5.323, 8.57}}},
	{"SP,0.0000,99.999,160.93,000000", Record{Tag: SP, Speed: Speed{0, 99.999, 160.93}}},
	{"SG1,002000,000068,05,10,05.0,P", Record{Tag: SG1, Fields: []byte("002000,000068,05,10,05.0,P"), Setup: &Setup{
		GammaHighLimit: 2000, GammaLowLimit: 68, Intervals: 5, HoldIn: 10, NSigma: 5,
	}}},
	{"SG2,1111,0.069,0.455,01,1010,A", Record{Tag: SG2, Fields: []byte("1111,0.069,0.455,01,1010,A"), Setup: &Setup{
		DetectorsOnLine: [4]bool{true, true, true, true}, Algorithm: Algorithm{Sum: true, Vertical: true}, Software: "A",
		MasterLowerLevel: 0.069, MasterUpperLevel: 0.455, RelayMode: 1,
	}}},
	{"SG3,0.069,0.455,020,000,1.10.1", Record{Tag: SG3, Fields: []byte("0.069,0.455,020,000,1.10.1"), Setup: &Setup{
		GammaBackgroundSeconds: 20, Firmware: "1.10.1", SlaveLowerLevel: 0.069, SlaveUpperLevel: 0.455,
	}}},
	{"SN1,000050,03,0004,1200,01,120", Record{Tag: SN1, Fields: []byte("000050,03,0004,1200,01,120"), Setup: &Setup{
		NeutronHighLimit: 50, NeutronBackgroundSeconds: 120,
		NeutronMaxIntervals: 3, Alpha: 4, ZMax: 1200, NeutronSequentialIntervals: 1,
	}}},
	{"SN2,0.504,5.040,0.504,5.040,PP", Record{Tag: SN2, Fields: []byte("0.504,5.040,0.504,5.040,PP"), Setup: &Setup{
		NeutronMasterLowerLevel: 0.504, NeutronMasterUpperLevel: 5.04, NeutronSlaveLowerLevel: 0.504, NeutronSlaveUpperLevel: 5.04,
	}}},
	{"NB1,3.86666703,0.00000000,2.50000000,0.00000000", Record{
		Tag: NB1, NeutronRates: [4]float64{3.86666703, 0, 2.5, 0}, Fields: []byte("3.86666703,0.00000000,2.50000000,0.00000000"),
	}},
	{"AX, -0.3262,  0.6026,  1.2426,  1.4939,  1.8949", Record{Tag: AX, Fields: []byte(" -0.3262,  0.6026,  1.2426,  1.4939,  1.8949")}},
	{"AA,000001,000001,000001,11111A", Record{Tag: AA, Fields: []byte("000001,000001,000001,11111A")}},
	{"NC,-5.61666630,0.60322779", Record{Tag: NC, Fields: []byte("-5.61666630,0.60322779")}},
	{"AB1,620.5,310.25,210.0,105.75", Record{Tag: AB1, Fields: []byte("620.5,310.25,210.0,105.75")}},
	{"AR,0.4978,0.2489,0.1685,0.0848", Record{Tag: AR, Fields: []byte("0.4978,0.2489,0.1685,0.0848")}},
	{"AS,000105,000131,000060,000048", Record{Tag: AS, Fields: []byte("000105,000131,000060,000048")}},
	{"AM,000212,000171,000118,000092", Record{Tag: AM, Fields: []byte("000212,000171,000118,000092")}},
	{"AC,4.50000000,1.25000000", Record{Tag: AC, Fields: []byte("4.50000000,1.25000000")}},
	{"NX,1.20000000,-0.50000000", Record{Tag: NX, Fields: []byte("1.20000000,-0.50000000")}},
	{"NZ,0.31000000,-1.02000000", Record{Tag: NZ, Fields: []byte("0.31000000,-1.02000000")}},
	{"RW,000000,000000,000000,000000", Record{Tag: RW, Fields: []byte("000000,000000,000000,000000")}},
	{"TPDT,291.4,291.2,290.9,291.0,0", Record{Tag: "TPDT", Fields: []byte("291.4,291.2,290.9,291.0,0")}},
	{"!GB,000401,000406,000436,000436", Record{Tag: GB, Counts: [4]int{401, 406, 436, 436}, Guarded: true}},
	{"GS,000063,000058,000051,000078,14-03-07.250", Record{
		Tag: GS, Counts: [4]int{63, 58, 51, 78},
		Time: TimeColumn{FormDaily, time.Date(1, 1, 1, 14, 3, 7, 250e6, time.UTC)},
	}},
	{"GX,000109,006383,000000,000000,2016-06-01 15:05:11.151 -07", Record{
		Tag: GX, Counter: 109, NeutronBackground: 6383,
		Time: TimeColumn{FormFull, time.Date(2016, 6, 1, 15, 5, 11, 151e6, time.FixedZone("", -7*3600))},
	}},
	{"AX, -0.3262,  0.6026,2016-06-01 15:05:10.784 -07", Record{
		Tag: AX, Fields: []byte(" -0.3262,  0.6026"),
		Time: TimeColumn{FormFull, time.Date(2016, 6, 1, 15, 5, 10, 784e6, time.FixedZone("", -7*3600))},
	}},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.line, func(t *testing.T) {
			got, err := Parse([]byte(v.line))
			require.NoError(t, err)
			require.True(t, v.want.Time.At.Equal(got.Time.At))
			want := v.want
			want.Time.At, got.Time.At = time.Time{}, time.Time{}
			require.Equal(t, want, got)

			// The encoder against the same text, not against our decoder.
			wire := v.line + "\r\n"
			if v.want.Guarded {
				wire += "#"
			}
			b, err := v.want.AppendTo([]byte("before"))
			require.NoError(t, err)
			require.Equal(t, "before"+wire, string(b))
		})
	}
}

func TestEveryKnownTagHasAVector(t *testing.T) {
	have := map[Tag]bool{}
	for _, v := range vectors {
		have[v.want.Tag] = true
	}
	for _, l := range layout {
		require.True(t, known[l.tag], l.tag)
		require.True(t, have[l.tag], "no vector for %s", l.tag)
	}
	require.Len(t, layout, len(known))
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ line, why string }{
		{"", "no comma"},
		{"GB", "no comma"},
		{"GB,", "GB: no field after the tag"},
		{",000401", "the tag is not"},
		{"gb,000401,000406,000436,000436", "the tag is not"},
		{"GBGBG,000401,000406,000436,000436", "the tag is not"},
		{"9B,000401,000406,000436,000436", "the tag is not"},
		{"GB,000401,000406,000436,00043", "GB: 29 characters, want 30"},
		{"GB,000401,000406,000436,0004366", "GB: 31 characters, want 30"},
		{"GB,00401,0000406,000436,000436", "GB: field 1 is"},
		{"GB,000401,000406;000436,000436", "no comma at position 16"},
		{"GB,-00401,000406,000436,000436", `field 1 is "-00401"`},
		{"GB,000401,000406,  0436,000436", `field 3 is "  0436"`},
		{"GX,000630,00256A,000000,000000", `field 2 is "00256A"`},
		{"SP,0.12.1,05.323,008.57,000000", `field 1 is "0.12.1"`},
		{"SP,.12811,05.323,008.57,000000", `field 1 is ".12811"`},
		{"SP,0.1281,05.323,008.57,000001", "field 4"},
		{"SG1,002000,000068,05,10,05.0", "SG1: 5 fields, want 6"},
		{"SG2,1121,0.069,0.455,01,1010,A", `detectors_on_line is "1121"`},
		{"SG1,00200x,000068,05,10,05.0,P", `gamma_high_limit_cps is "00200x"`},
		{"NB1,3.8,0.0,2.5", "NB1: 3 fields, want 4"},
		{"NB1,3.8,0.0,NaN,0.0", `field 3 is "NaN"`},
		{"NB1,3.8,0.0,2.5,-1", `field 4 is "-1"`},
		// The spectroscopic portals' daily file: same tags, other meaning.
		{"GB,Aa1,0,5,12,33,18,9,4,1", "GB: "},
		{"NB,120,12,0", "NB: "},
		{"GX,Red,123,06-06-06.666,file.n42,003.1,003.0", "GX: "},
		{strings.Repeat("A", 300), "300 characters"},
		{"XY,\x01", "not printable"},
		// Numbers that a lenient reader of numbers would make something of.
		{"NB1,0x1p4,0.0,2.5,0.0", `field 1 is "0x1p4"`},
		{"NB1,3.8,1_0,2.5,0.0", `field 2 is "1_0"`},
		{"NB1,3.8,0.0,2.5,-0.0", `field 4 is "-0.0"`},
		{"NB1,3.8,0.0,+2.5,0.0", `field 3 is "+2.5"`},
		{"NB1,1e3,0.0,2.5,0.0", `field 1 is "1e3"`},
		{"NB1,1000000,0.0,2.5,0.0", `field 1 is "1000000"`},
		{"SG1,+02000,000068,05,10,05.0,P", `gamma_high_limit_cps is "+02000"`},
		{"SG2,1111,0.069,x.455,01,1010,A", `master_upper_level_v is "x.455"`},
		{"SG3,0.069,0.455,02x,000,1.10.1", `gamma_background_s is "02x"`},
		{"SN1,000050,03,zzzz,1200,01,120", `neutron_alpha is "zzzz"`},
		{"SN1,000050,xx,0004,1200,01,120", `neutron_max_intervals is "xx"`},
		{"SN2,0.504,5.040,a.504,5.040,PP", `neutron_slave_lower_level_v is "a.504"`},
		{"!AS,1##", "more than one #"},
		// Columns that are not a time.
		{"GS,000063,000058,000051,000078,24-00-00.000", "GS: 43 characters, want 30"},
		{"GS,000063,000058,000051,000078,2016-06-31 15:05:11.151 -07", "GS: 58 characters, want 30"},
		{"GS,000063,000058,000051,000078,2016-06-01 15:05:11.151", "GS: 54 characters, want 30"},
		{"GS,000063,000058,000051,000078,2016-06-01 15:05:11.151 +24:00", "GS: 61 characters, want 30"},
		// The other kind of daily file once more, as near to our shape as it gets.
		{"GS,Aa1,000001,0,5,12,33,18,9,4", "GS: "},
		{"NS,Aa1N,1,0", "NS: "},
	} {
		_, err := Parse([]byte(c.line))
		require.ErrorContains(t, err, c.why, "%q", c.line)
	}
}

func TestDoesNotFit(t *testing.T) {
	for _, r := range []Record{
		{Tag: GS, Counts: [4]int{1_000_000, 0, 0, 0}},
		{Tag: GS, Counts: [4]int{-1, 0, 0, 0}},
		{Tag: GX, Counter: 1_000_000},
		{Tag: SP, Speed: Speed{10, 1, 1}},
		{Tag: SP, Speed: Speed{0.1, 100, 1}},
		{Tag: SP, Speed: Speed{0.1, 1, 161}},
		{Tag: NB1, NeutronRates: [4]float64{-1}},
		{Tag: AS},
		{Tag: "x", Fields: []byte("1")},
		{Tag: AS, Fields: []byte("1\n2")},
		{Tag: AS, Fields: []byte("1#"), Guarded: true},
		{Tag: AS, Fields: bytes.Repeat([]byte("1"), MaxLine)},
		{Tag: NB1, NeutronRates: [4]float64{math.NaN()}},
		{Tag: NB1, NeutronRates: [4]float64{math.Copysign(0, -1)}},
		{Tag: SP, Speed: Speed{math.NaN(), 1, 1}},
		{Tag: SP, Speed: Speed{math.Copysign(0, -1), 1, 1}},
		{Tag: SP, Speed: SpeedOf(-0.1)},
		{Tag: SG1, Fields: []byte("2000,68,5,10,5,P")},
		{Tag: SG1, Setup: &Setup{NSigma: 5}},
		{Tag: GS, Time: TimeColumn{FormFull, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{Tag: GS, Time: TimeColumn{FormFull, time.Date(1899, 1, 1, 0, 0, 0, 0, time.FixedZone("", 1172))}},
	} {
		b, err := r.AppendTo([]byte("kept"))
		require.Error(t, err, "%+v", r)
		require.Equal(t, "kept", string(b))
	}
}

func TestSpeedOf(t *testing.T) {
	s := SpeedOf(0.1281)
	require.InDelta(t, 5.323, s.MPH, 0.0005)
	require.InDelta(t, 8.57, s.KPH, 0.005)
	require.Equal(t, Speed{0, 99.999, 160.93}, SpeedOf(0))
	require.Equal(t, Speed{0.001, 99.999, 160.93}, SpeedOf(0.001))
}

func TestSetupFields(t *testing.T) {
	r, err := Parse([]byte("SG1,002000,000068,05,10,05.0,P"))
	require.NoError(t, err)
	require.Equal(t, []Field{
		{"gamma_high_limit_cps", "002000"}, {"gamma_low_limit_cps", "000068"}, {"alarm_intervals", "05"},
		{"hold_in_intervals", "10"}, {"n_sigma", "05.0"}, {"sg1_placeholder", "P"},
	}, r.SetupFields())
	require.Nil(t, Record{Tag: GB}.SetupFields())
}

// lines runs a stream through a Splitter in pieces and gives copies.
func lines(pieces ...[]byte) (list []Line) {
	var s Splitter
	for _, p := range pieces {
		_, _ = s.Write(p)
		for {
			l, ok := s.Next()
			if !ok {
				break
			}
			l.Bytes = bytes.Clone(l.Bytes)
			list = append(list, l)
		}
	}
	return list
}

func TestSplitter(t *testing.T) {
	const gb = "GB,000401,000406,000436,000436"
	const ns = "NS,000001,000000,000001,000000"
	for _, c := range []struct {
		name, in string
		want     []Line
	}{
		{"CR LF", gb + "\r\n" + ns + "\r\n", []Line{{[]byte(gb), "", true, false}, {[]byte(ns), "", false, false}}},
		{"LF", gb + "\n" + ns + "\n", []Line{{[]byte(gb), "", true, false}, {[]byte(ns), "", false, false}}},
		{"empty lines", "\r\n\n" + gb + "\r\n\r\n", []Line{{[]byte(gb), "", false, false}}},
		{"unfinished", gb, nil},
		{"joined in mid-record", "406,000436,000436\r\n" + gb + "\r\n", []Line{{[]byte("406,000436,000436"), "", true, false}, {[]byte(gb), "", false, false}}},
		{
			"guards, with and without", "!" + gb + "\r\n#!" + ns + "\r\n#" + gb + "\r\n",
			[]Line{{[]byte("!" + gb), "", true, false}, {[]byte("!" + ns), "", false, false}, {[]byte(gb), "", false, false}},
		},
		{"NUL", "GB,0004\x0001\r\n", []Line{{[]byte("GB,0004\x0001"), "byte 0x00 at position 7 is not printable ASCII", true, false}}},
		{"8 bit", "\xffB\r\n", []Line{{[]byte("\xffB"), "byte 0xff at position 0 is not printable ASCII", true, false}}},
		{
			"over-long", strings.Repeat("x", 300) + "\r\n" + gb + "\r\n",
			[]Line{{bytes.Repeat([]byte("x"), headKept), "300 bytes without a line end, want at most 256", true, true}, {[]byte(gb), "", false, false}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, lines([]byte(c.in)))
		})
	}
}

func TestAMegabyteWithoutALineEnd(t *testing.T) {
	const gb = "GB,000401,000406,000436,000436"
	var s Splitter
	var reports, bytesReported int
	for range 1024 {
		_, _ = s.Write(bytes.Repeat([]byte("x"), 1024))
		for {
			l, ok := s.Next()
			if !ok {
				break
			}
			reports++
			require.Contains(t, l.Problem, "without a line end")
			require.Len(t, l.Bytes, headKept)
			bytesReported += 4096
		}
		require.Less(t, cap(s.buf), 8<<10, "memory must not grow with the line")
	}
	require.Equal(t, 256, reports)
	_, _ = s.Write([]byte("\r\n" + gb + "\r\n"))
	l, ok := s.Next()
	require.True(t, ok)
	if l.Problem != "" {
		l, ok = s.Next()
		require.True(t, ok)
	}
	require.Equal(t, gb, string(l.Bytes), "the record behind the noise is read")
}

func TestRoundTrip(t *testing.T) {
	count := rapid.IntRange(0, 999_999)
	rapid.Check(t, func(t *rapid.T) {
		var r Record
		l := layout[rapid.IntRange(0, len(layout)-1).Draw(t, "tag")]
		r.Tag = l.tag
		switch l.form {
		case formCounts:
			for i := range r.Counts {
				r.Counts[i] = count.Draw(t, "count")
			}
		case formEnd:
			r.Counter, r.NeutronBackground = count.Draw(t, "counter"), count.Draw(t, "background")
		case formSpeed:
			r.Speed = SpeedOf(float64(rapid.IntRange(0, 99_999).Draw(t, "time")) / 10_000)
		case formText:
			r.Fields = []byte(rapid.StringMatching(`[ 0-9A-Z.\-]{1,9}(,[ 0-9A-Z.\-]{1,9}){0,4}`).Draw(t, "fields"))
		case formRates:
			for i := range r.NeutronRates {
				r.NeutronRates[i] = float64(count.Draw(t, "rate")) / 1e3
			}
		case formSetup:
			n := rapid.IntRange(0, 99)
			text := map[Tag]string{
				SG1: "%06d,%06d,%02d,%02d,%02d.0,P", SG2: "1011,0.0%02d,0.4%02d,%02d,0110,A", SG3: "0.0%02d,0.4%02d,0%02d,0%02d,1.10.%d",
				SN1: "0000%02d,%02d,00%02d,12%02d,%02d,120", SN2: "0.5%02d,5.0%02d,0.5%02d,5.0%02d,P%d",
			}[l.tag]
			args := []any{n.Draw(t, "1"), n.Draw(t, "2"), n.Draw(t, "3"), n.Draw(t, "4"), rapid.IntRange(0, 9).Draw(t, "5")}
			if l.tag == SG2 {
				args = args[:3]
			}
			r.Fields = fmt.Appendf(nil, text, args...)
		}
		r.Guarded = rapid.Bool().Draw(t, "guarded")
		b, err := r.AppendTo(nil)
		require.NoError(t, err)
		got := lines(b)
		require.Len(t, got, 1)
		require.Empty(t, got[0].Problem)
		back, err := Parse(got[0].Bytes)
		require.NoError(t, err)
		again, err := back.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, string(b), string(again))
		require.Equal(t, r.Counts, back.Counts)
		require.Equal(t, r.Counter, back.Counter)
		require.Equal(t, r.NeutronBackground, back.NeutronBackground)
		require.Equal(t, r.NeutronRates, back.NeutronRates)
		require.Equal(t, l.form == formSetup, back.Setup != nil)
	})
}

// TestCapture reads a real capture of newer firmware, where it is at hand, and
// checks what is known of how its records hang together.
func TestCapture(t *testing.T) {
	path := filepath.Join("..", "..", "..", "shared", "data", "radiation", "S2-C3-NORM2.csv")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("the capture is not at hand: %v", err)
	}
	var nb [4]int
	var rates [4]float64
	tags := map[Tag]int{}
	for _, l := range lines(file) {
		require.Empty(t, l.Problem)
		r, err := Parse(l.Bytes)
		require.NoError(t, err, "%s", l.Bytes)
		require.True(t, r.Known(), r.Tag)
		require.Equal(t, FormFull, r.Time.Form)
		tags[r.Tag]++
		b, err := r.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, string(l.Bytes)+"\r\n", string(b))
		switch r.Tag {
		case NB:
			nb = r.Counts
		case NB1:
			rates = r.NeutronRates
			for d := range nb {
				require.Equal(t, int(rates[d]), nb[d], "NB is NB1 cut to whole numbers")
			}
		case GX:
			sum := rates[0] + rates[1] + rates[2] + rates[3]
			require.InDelta(t, 1000*sum, r.NeutronBackground, 1.5) // cut, and reckoned in single precision
		case SP:
			if want := SpeedOf(r.Speed.SecondsPerFoot); r.Speed.SecondsPerFoot > 0.02 {
				require.InEpsilon(t, want.KPH, r.Speed.KPH, 0.005)
			}
		}
	}
	require.Equal(t, 25, tags[GX])
	require.Equal(t, 824, tags[GS])
	require.Equal(t, 675, tags[GA])
}

// TestZoneKeepsItsMinutes: a time written without them is another time.
func TestZoneKeepsItsMinutes(t *testing.T) {
	const gs = "GS,000063,000058,000051,000078,2016-06-01 15:05:11.151 "
	for _, c := range []struct{ zone, written, utc string }{
		{"-07", "-07", "22:05:11.151"},
		{"-0700", "-07", "22:05:11.151"},
		{"-07:00", "-07", "22:05:11.151"},
		{"+0530", "+05:30", "09:35:11.151"},
		{"+05:30", "+05:30", "09:35:11.151"},
		{"-0330", "-03:30", "18:35:11.151"},
		{"+00", "+00", "15:05:11.151"},
	} {
		r, err := Parse([]byte(gs + c.zone))
		require.NoError(t, err, c.zone)
		require.Equal(t, c.utc, r.Time.At.UTC().Format("15:04:05.000"), c.zone)
		b, err := r.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, gs+c.written+"\r\n", string(b))
	}
}

// TestLane reads a passage with an alarm, faults, setup and extended records,
// and writes it back.
func TestLane(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("testdata", "lane.txt"))
	require.NoError(t, err)
	var unknown []Tag
	var alarms, total int
	tags := map[Tag]int{}
	for i, l := range lines(file) {
		require.Empty(t, l.Problem, i)
		r, err := Parse(l.Bytes)
		require.NoError(t, err, "line %d", i+1)
		tags[r.Tag]++
		if !r.Known() {
			unknown = append(unknown, r.Tag)
		}
		if r.Tag == GA {
			alarms++
			total += r.Counts[0]
		}
		b, err := r.AppendTo(nil)
		require.NoError(t, err)
		want := string(l.Bytes) + "\r\n"
		if r.Guarded {
			want += "#"
		}
		require.Equal(t, want, string(b))
	}
	for tag := range known {
		require.NotZero(t, tags[tag], "no %s in the file", tag)
	}
	require.Equal(t, []Tag{"MBAT"}, unknown)
	require.Equal(t, 5, alarms)
	require.Equal(t, 131+142+128+101+150, total)
}

// TestOneWrongByte: no digit, comma or letter of a classic record can turn into
// something else without the record being refused or saying what it now says.
func TestOneWrongByte(t *testing.T) {
	for _, line := range []string{
		"GS,000063,000058,000051,000078", "GX,000630,002566,000000,000000", "NB,000002,000000,000001,000000",
		"SP,0.1281,05.323,008.57,000000", "SG1,002000,000068,05,10,05.0,P",
	} {
		for i := range line {
			for c := range 256 {
				b := []byte(line)
				b[i] = byte(c)
				r, err := Parse(b)
				if err != nil {
					continue
				}
				wire, err := r.AppendTo(nil)
				if r.Tag == SP && err != nil {
					require.ErrorContains(t, err, "want 0 to", "faster than the portal says")
					continue
				}
				require.NoError(t, err, "%q", b)
				if r.Tag == SP { // written as the portal writes it
					again, err := Parse(bytes.TrimRight(wire, "\r\n"))
					require.NoError(t, err)
					require.InDelta(t, r.Speed.SecondsPerFoot, again.Speed.SecondsPerFoot, 0.0001, "%q", b)
					continue
				}
				require.Equal(t, string(b)+"\r\n", strings.TrimSuffix(string(wire), "#"))
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.line))
	}
	f.Add([]byte("!AS,1##"))
	f.Add([]byte("GS,000063,000058,000051,000078,2016-06-01 15:05:11.151 +05:30"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			return
		}
		b, err := r.AppendTo(nil)
		if err != nil && r.Tag == SP {
			return // read with a point anywhere, written as the portal writes it
		}
		require.NoError(t, err, "what was read can be written")
		got := lines(b)
		require.Len(t, got, 1)
		again, err := Parse(got[0].Bytes)
		require.NoError(t, err)
		require.Equal(t, r.Counts, again.Counts)
		require.Equal(t, r.Counter, again.Counter)
		require.InDelta(t, r.Speed.KPH, again.Speed.KPH, 0.006)
		require.Equal(t, r.NeutronRates, again.NeutronRates)
		require.Equal(t, string(r.Fields), string(again.Fields))
		require.Equal(t, r.Setup, again.Setup)
		require.Equal(t, r.Guarded, again.Guarded)
		require.Equal(t, r.Time.Form, again.Time.Form)
		require.True(t, r.Time.At.Equal(again.Time.At), "%v became %v", r.Time.At, again.Time.At)
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("GB,000401,000406,000436,000436\r\n#!NS,000001,000000,000001,000000\r\n"), 3)
	f.Add([]byte("x\x00\r\n\n\r\r\n"), 1)
	f.Add([]byte("#"+strings.Repeat("x", maxWhole)+"\r\nGB,1\n"), 7)
	f.Add([]byte(strings.Repeat("y", maxRun)+"\r\n"+strings.Repeat("z", maxRun+5)+"\r\n"), 100)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		whole := lines(stream)
		size = max(1, min(size, 4096))
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got := lines(pieces...)
		require.Equal(t, whole, got, "however it is cut, the same lines come out")
		for _, l := range got {
			require.LessOrEqual(t, len(l.Bytes), MaxLine)
			require.NotContains(t, string(l.Bytes), "\n")
		}

		// Memory is bounded by a line and a Write, whatever comes.
		var s Splitter
		for _, p := range pieces {
			_, _ = s.Write(p)
			for _, ok := s.Next(); ok; _, ok = s.Next() {
				require.LessOrEqual(t, len(s.head), headKept)
			}
			require.LessOrEqual(t, len(s.buf)-s.at, maxWhole)
			require.LessOrEqual(t, cap(s.buf), 4*(maxWhole+size))
		}
	})
}

func TestScanLinesDoNotAllocate(t *testing.T) {
	for _, line := range []string{
		"GS,000063,000058,000051,000078", "GA,000071,000061,000065,000080", "NS,000001,000000,000001,000000",
		"GB,000401,000406,000436,000436", "GX,000630,002566,000000,000000", "SP,0.1281,05.323,008.57,000000",
		"NA,000012,000003,000009,000004", "NB,000002,000000,000001,000000", "!GA,000071,000061,000065,000080",
		"AS,000105,000131,000060,000048",
	} {
		b := []byte(line)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := Parse(b); err != nil {
				t.Fatal(err)
			}
		}), line)
	}
}

func BenchmarkParse(b *testing.B) {
	line := []byte("GS,000063,000058,000051,000078")
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplitAndParse(b *testing.B) {
	stream := bytes.Repeat([]byte("GS,000063,000058,000051,000078\r\n"), 32)
	var s Splitter
	b.ReportAllocs()
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		_, _ = s.Write(stream)
		for {
			l, ok := s.Next()
			if !ok {
				break
			}
			if _, err := Parse(l.Bytes); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	r := Record{Tag: GS, Counts: [4]int{63, 58, 51, 78}}
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.AppendTo(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRescue(t *testing.T) {
	const ga = "GA,000071,000061,000065,000080"
	for _, c := range []struct {
		name, line string
		at         int // -1: nothing to rescue
	}{
		{"behind noise", "\xb9\x00\x80" + ga, 3},
		{"behind a cut record", "GS,000063,0000" + ga, 14},
		{"behind a cut record and a guard", "!GS,000063,0000!" + ga, 16},
		{"behind a whole one", ga + ga, 30},
		{"by itself", ga, -1},
		{"too short", "000061,000065,000080", -1},
		{"cut itself", "GS,000063" + ga[:29], -1},
		{"not a number", "GS,000063" + "GA,000071,000061,00006x,000080", -1},
		{"unknown tag", "GS,000063" + "XY,000071,000061,000065,000080", -1},
		{"text of the same length", "GS,000063" + "AA,000001,000001,000001,11111A", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, at, ok := Rescue([]byte(c.line))
			require.Equal(t, c.at >= 0, ok)
			if ok {
				require.Equal(t, c.at, at)
				require.Equal(t, Record{Tag: GA, Counts: [4]int{71, 61, 65, 80}}, r)
			}
		})
	}
}
