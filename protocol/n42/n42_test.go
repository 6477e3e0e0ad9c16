package n42

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

type node struct {
	name     string
	attrs    map[string]string
	text     string
	children []*node
}

// elementsOf reads a document into a tree.
func elementsOf(b []byte) (*node, error) {
	root := &node{}
	open := []*node{root}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return root.children[0], nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			n := &node{name: t.Name.Local, attrs: map[string]string{}}
			for _, a := range t.Attr {
				n.attrs[a.Name.Local] = a.Value
			}
			last := open[len(open)-1]
			last.children, open = append(last.children, n), append(open, n)
		case xml.CharData:
			open[len(open)-1].text += string(t)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return b
}

func decode(t testing.TB, b []byte) *Document {
	t.Helper()
	d, err := Decode(b, Options{})
	require.NoError(t, err)
	return d
}

// small is a document of 2012 with one measurement; spectrum is what is in its spectrum,
// rest what comes after it in the measurement.
func small(real, spectrum, rest string) []byte {
	return []byte(`<RadInstrumentData xmlns="http://physics.nist.gov/N42/2011/N42"><RadMeasurement id="M"><MeasurementClassCode>Foreground</MeasurementClassCode>` +
		`<StartDateTime>2026-03-14T08:10:00Z</StartDateTime><RealTimeDuration>` + real + `</RealTimeDuration><Spectrum id="S">` + spectrum + `</Spectrum>` + rest + `</RadMeasurement></RadInstrumentData>`)
}

func flags(d *Document) (list []string) {
	for _, f := range d.Flags {
		list = append(list, f.Code)
	}
	return list
}

func utf16Of(b []byte, order binary.ByteOrder, mark bool) (out []byte) {
	units := utf16.Encode([]rune(string(b)))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	for _, u := range units {
		var two [2]byte
		order.PutUint16(two[:], u)
		out = append(out, two[:]...)
	}
	return out
}

func TestPortal2012(t *testing.T) {
	d := decode(t, fixture(t, "portal-2012.n42"))
	require.Equal(t, Edition2012, d.Generation)
	require.Equal(t, "4d0f3a52-9b0e-4a57-8d0c-2f6f0e8d6b11", d.UUID)
	require.Equal(t, Instrument{
		ID: "I1", Manufacturer: "Example Portals", Model: "SP 4", Serial: "SP-0042", Class: "Spectroscopic Portal Monitor",
		Versions: []Version{{"Software", "2.1"}}, Characteristics: []Characteristic{{"Battery Charge", "87", "%"}},
	}, d.Instrument)
	require.Equal(t, []Detector{{ID: "Aa1", Name: "Aa1", Category: "Gamma", Kind: "NaI"}, {ID: "Aa1N", Category: "Neutron", Kind: "He3"}}, d.Detectors)
	require.Equal(t, []Item{{ID: "ITEM", Characteristics: []Characteristic{{"ContainerID", "TEST0000017", "unit-less"}}}}, d.Items)
	require.Equal(t, []float64{-1.5, 2.96, 0.0002}, d.Calibrations[0].Coefficients)
	require.Equal(t, []string{"Occupancy-17"}, d.Groups)
	require.Len(t, d.Measurements, 3)
	b, f, sum := d.Measurements[0], d.Measurements[1], d.Measurements[2]
	require.Equal(t, Duration{"PT5M", 300, true}, b.Real)
	require.Equal(t, Duration{"PT4M59.5S", 299.5, true}, b.Spectra[0].Live, "that of the maker's own element is another")
	require.Equal(t, []float64{0, 0, 0, 40, 81, 33, 0, 0, 12, 5}, b.Spectra[0].Counts)
	require.Equal(t, []float64{612}, b.Counts[0].Counts)
	require.Nil(t, b.Occupied)
	require.Equal(t, []float64{0, 0, 0, 3, 12, 7, 0, 0, 1, 0}, f.Spectra[0].Counts)
	require.True(t, *f.Occupied, "though its class is background")
	require.Equal(t, Background, f.Class)
	require.True(t, f.Start.At.Equal(time.Date(2026, 3, 14, 8, 21, 5, 200e6, time.UTC)))
	require.InDelta(t, 0.31, *f.DoseRates[0].MicroSvH, 1e-12)
	require.Equal(t, []Fault{{"5", "Overspeed", "Warning"}}, f.Faults)
	require.InDelta(t, 2.5, *f.SpeedMS, 0)
	require.True(t, sum.Derived)
	require.Equal(t, []Alarm{{Category: "Isotope", Description: "industrial source", Light: "Red", Detectors: []string{"Aa1"}, Remarks: []string{"Isotope: Cs-137"}}}, d.Analyses[0].Alarms)
	cs, k := d.Analyses[0].Nuclides[0], d.Analyses[0].Nuclides[1]
	require.Equal(t, "Cs-137 0.97 Industrial", cs.Name+" "+cs.Confidence+" "+cs.Category)
	require.InDelta(t, 370e3, *cs.ActivityBq, 0, "kBq is the standard's unit")
	require.True(t, *cs.Indicator)
	require.False(t, *k.Indicator)
	require.Equal(t, OutcomeIdentified, d.Outcome())
	require.True(t, d.Alarmed())
	require.True(t, *d.Occupied())
	require.Empty(t, d.Flags)
}

func TestPortal2006(t *testing.T) {
	d := decode(t, fixture(t, "portal-2006.n42"))
	require.Equal(t, Edition2006, d.Generation)
	require.Equal(t, "Event", d.Wrapper)
	require.Equal(t, "591", d.EventNumber)
	require.Equal(t, "Example Portals SP 2 77 3 Portal", strings.Join([]string{d.Instrument.Manufacturer, d.Instrument.Model, d.Instrument.Serial, d.Instrument.Lane, d.Instrument.Class}, " "))
	s, b := d.Measurements[0], d.Measurements[1]
	require.True(t, *s.Occupied)
	require.InDelta(t, 2.2352, *s.SpeedMS, 1e-9)
	require.Equal(t, []float64{0, 0, 5, 1, 0, 2}, s.Spectra[0].Counts)
	require.True(t, s.Start.At.Equal(time.Date(2010, 1, 27, 18, 2, 20, 400e6, time.UTC)), "-0500 without a colon")
	require.Equal(t, Foreground, s.Class)
	require.Equal(t, Background, b.Class)
	require.True(t, b.Start.At.Equal(time.Date(2010, 1, 27, 12, 58, 0, 0, time.UTC)), "the day is first")
	require.Equal(t, Duration{"PT298.5S", 298.5, true}, b.Spectra[0].Live)
	require.Equal(t, []float64{0, 3, 0}, d.Calibrations[0].Coefficients)
	n := d.Analyses[0].Nuclides[0]
	require.Equal(t, "Co-60 100 High Industrial", n.Name+" "+n.Confidence+" "+n.ConfidenceText+" "+n.Category)
	require.InDelta(t, 230, *n.ActivityBq, 0)
	require.Equal(t, []string{FlagNoZone}, flags(d))
}

func TestEnvelope(t *testing.T) {
	d := decode(t, fixture(t, "envelope.n42"))
	require.Equal(t, "MessageEnvelope", d.Wrapper)
	require.InDelta(t, 3601.5, d.Measurements[0].Real.Seconds, 0)
	require.Equal(t, OutcomeNothingIdentified, d.Outcome())
}

// Each trap of documents, by its name.
func TestTraps(t *testing.T) {
	const live = "<LiveTimeDuration>PT1S</LiveTimeDuration>"
	channels := func(s string) string { return live + "<ChannelData>" + s + "</ChannelData>" }
	undeclared := bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(fixture(t, "envelope.n42"), []byte("xmlns:n42="), []byte("other=")), []byte("<n42:"), []byte("<x:")), []byte("</n42:"), []byte("</x:"))
	whole := fixture(t, "portal-2012.n42")
	for name, c := range map[string]struct {
		in    []byte
		flags []string
		fails string
		check func(*testing.T, *Document)
	}{
		"byte order mark":                 {in: append([]byte("\xef\xbb\xbf"), small("PT1S", channels("1"), "")...)},
		"UTF-16 LE with a mark":           {in: utf16Of(whole, binary.LittleEndian, true), check: func(t *testing.T, d *Document) { require.Len(t, d.Measurements, 3) }},
		"UTF-16 BE with a mark":           {in: utf16Of(whole, binary.BigEndian, true), check: func(t *testing.T, d *Document) { require.Len(t, d.Measurements, 3) }},
		"UTF-16 without a mark":           {in: utf16Of(whole, binary.LittleEndian, false), check: func(t *testing.T, d *Document) { require.Len(t, d.Measurements, 3) }},
		"UTF-16 that says so":             {in: utf16Of([]byte(`<?xml version="1.0" encoding="UTF-16"?>`+string(small("PT1S", channels("1"), ""))), binary.LittleEndian, true)},
		"UTF-16 that is cut":              {in: utf16Of(whole, binary.LittleEndian, true)[:501], fails: "middle of a character"},
		"latin-1":                         {in: []byte("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>" + strings.Replace(string(small("PT1S", channels("1"), "")), "<RadMeasurement", "<Remark>Z\xfcrich</Remark><RadMeasurement", 1)), check: func(t *testing.T, d *Document) { require.Equal(t, []string{"Zürich"}, d.Remarks) }},
		"an encoding nobody knows":        {in: []byte(`<?xml version="1.0" encoding="EBCDIC"?><RadInstrumentData/>`), fails: "EBCDIC"},
		"blanks and zero bytes around it": {in: append(append([]byte("\r\n \x00"), small("PT1S", channels("1"), "")...), 0, 0)},
		"a prefix that is not declared": {in: undeclared, flags: []string{FlagNoZone}, check: func(t *testing.T, d *Document) {
			require.Equal(t, []float64{1, 2, 3}, d.Measurements[0].Spectra[0].Counts)
		}},
		"elements of another prefix that is not declared": {in: bytes.Replace(small("PT1S", channels("1"), ""), []byte("<RadMeasurement"), []byte("<DHS:RadMeasurement><DHS:X>1</DHS:X></DHS:RadMeasurement><RadMeasurement"), 1),
			check: func(t *testing.T, d *Document) { require.Len(t, d.Measurements, 1) }},
		"a character that XML forbids": {in: fixture(t, "refused-character.n42"), fails: "U+001C"},
		"cut":                          {in: fixture(t, "refused-cut.n42"), fails: "no XML"},
		"cut between elements":         {in: whole[:bytes.Index(whole, []byte("  <RadDetectorInformation"))], fails: "it ends inside <RadInstrumentData>"},
		"a definition of entities":     {in: []byte(`<!DOCTYPE x [<!ENTITY a "b">]><RadInstrumentData/>`), fails: "document type definition"},
		"another document":             {in: []byte("<html><body/></html>"), fails: "neither RadInstrumentData nor"},
		"no XML":                       {in: []byte("GS,000063,000058,000051,000078"), fails: "does not begin with <"},
		"nothing":                      {in: nil, fails: "does not begin with <"},
		"two documents in one":         {in: append(small("PT1S", channels("1"), ""), small("PT1S", channels("1"), "")...), fails: "second RadInstrumentData"},
		"elements that cross":          {in: []byte("<RadInstrumentData><A><B></A></B></RadInstrumentData>"), fails: "<B> is ended by </A>"},
		"too deep":                     {in: []byte(strings.Repeat("<a>", MaxDepth+1)), fails: "inside each other"},
		"runs of zeros without end":    {in: small("PT1S", channels(""), "<Spectrum id='Z'>"+strings.Repeat(`</Spectrum><Spectrum><ChannelData compressionCode="CountedZeroes">0 65536</ChannelData>`, 70)+"</Spectrum>"), fails: "channels in all spectra"},

		"counted zeroes": {in: small("PT1S", live+`<ChannelData compressionCode="CountedZeroes">0 5 2 3</ChannelData>`, ""),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{0, 0, 0, 0, 0, 2, 3}, d.Measurements[0].Spectra[0].Counts)
			}},
		"counted zeroes, another spelling": {in: small("PT1S", live+`<ChannelData compressionCode="countedzeros">7 0 2</ChannelData>`, ""),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{7, 0, 0}, d.Measurements[0].Spectra[0].Counts)
			}},
		"counted zeroes whose last run has no length": {in: small("PT1S", live+`<ChannelData compressionCode="CountedZeroes">4 0</ChannelData>`, ""), flags: []string{FlagZeroesCut},
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{4, 0}, d.Measurements[0].Spectra[0].Counts)
			}},
		"counted zeroes with a run of none": {in: small("PT1S", live+`<ChannelData compressionCode="CountedZeroes">0 0 3 9</ChannelData>`, ""), flags: []string{FlagZeroesDouble},
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{0, 0, 0, 0, 9}, d.Measurements[0].Spectra[0].Counts)
			}},
		"counted zeroes beyond the channels": {in: small("PT1S", live+`<ChannelData compressionCode="CountedZeroes">1 0 65536</ChannelData>`, "<DoseRate><DoseRateValue>1</DoseRateValue></DoseRate>"), flags: []string{FlagSpectrum},
			check: func(t *testing.T, d *Document) { require.Nil(t, d.Measurements[0].Spectra[0].Counts) }},
		"counted zeroes, a run that is no whole number": {in: small("PT1S", live+`<ChannelData compressionCode="CountedZeroes">0 2.5</ChannelData>`, ""), fails: "run of 2.5 zeros"},
		"a compression that is not known":               {in: small("PT1S", live+`<ChannelData compressionCode="Zip">1</ChannelData>`, ""), fails: "Zip"},
		"counts with a point, tabs and line breaks": {in: small("PT1S", channels("12.0\t7.0\r\n\n 1e2 ,3"), ""),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{12, 7, 100, 3}, d.Measurements[0].Spectra[0].Counts)
			}},
		"channels in an element of their own": {in: small("PT1S", channels("<Data>1 2</Data>"), ""),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{1, 2}, d.Measurements[0].Spectra[0].Counts)
			}},
		"counts that are no number": {in: small("PT1S", channels("1 NaN"), ""), fails: `"NaN"`},
		"counts without end":        {in: small("PT1S", channels("INF"), ""), fails: `"INF"`},
		"negative counts":           {in: small("PT1S", channels("-4"), ""), fails: `"-4"`},
		"hexadecimal counts":        {in: small("PT1S", channels("0x10"), ""), fails: `"0x10"`},
		"a damaged spectrum hides no alarm": {in: bytes.Replace(whole, []byte("0 0 0 3 12.0"), []byte("x 0 0 3 12.0"), 1), flags: []string{FlagSpectrum},
			check: func(t *testing.T, d *Document) { require.True(t, d.Alarmed()) }},

		"real time of zero": {in: small("PT0S", channels("1"), ""), flags: []string{FlagRealZero, FlagLiveOverReal}, check: func(t *testing.T, d *Document) {
			_, ok := Rate(1, d.Measurements[0].Real)
			require.False(t, ok)
		}},
		"live time of zero":            {in: small("PT1S", "<LiveTimeDuration>PT0S</LiveTimeDuration><ChannelData>1</ChannelData>", ""), flags: []string{FlagLiveZero}},
		"no live time":                 {in: small("PT1S", "<ChannelData>1</ChannelData>", ""), flags: []string{FlagLiveMissing}},
		"live time over the real time": {in: small("PT0.99S", channels("1"), ""), flags: []string{FlagLiveOverReal}},
		"live time that is rounded":    {in: small("PT0.99989S", "<LiveTimeDuration>PT1.000S</LiveTimeDuration><ChannelData>1</ChannelData>", "")},
		"a duration that is none":      {in: small("PTxS", channels("1"), ""), flags: []string{FlagDuration}},
		"a time without a zone":        {in: bytes.Replace(small("PT1S", channels("1"), ""), []byte("08:10:00Z"), []byte("08:10:00"), 1), flags: []string{FlagNoZone}},
		"a time that is none":          {in: bytes.Replace(small("PT1S", channels("1"), ""), []byte("2026-03-14T08:10:00Z"), []byte("yesterday"), 1), flags: []string{FlagTime}},
		"an occupancy that is none":    {in: small("PT1S", channels("1"), "<OccupancyIndicator>perhaps</OccupancyIndicator>"), flags: []string{FlagOccupancy}, check: func(t *testing.T, d *Document) { require.Nil(t, d.Occupied()) }},
		"a dose rate in a unit of another": {in: small("PT1S", channels("1"), `<DoseRate><DoseRateValue units="mR/h">2</DoseRateValue></DoseRate>`), flags: []string{FlagDoseUnit}, check: func(t *testing.T, d *Document) {
			require.Equal(t, DoseRate{Raw: "2", Unit: "mR/h"}, d.Measurements[0].DoseRates[0])
		}},
		"a dose rate in mSv/h": {in: small("PT1S", channels("1"), `<DoseRate><DoseRateValue units="mSv/h">0.02</DoseRateValue></DoseRate>`), check: func(t *testing.T, d *Document) {
			require.InDelta(t, 20, *d.Measurements[0].DoseRates[0].MicroSvH, 1e-9)
		}},
		"a text without end": {in: bytes.Replace(small("PT1S", channels("1"), ""), []byte("<RadMeasurement"), []byte("<Remark>"+strings.Repeat("ä", MaxText)+"</Remark><RadMeasurement"), 1), flags: []string{FlagTextCut},
			check: func(t *testing.T, d *Document) { require.Equal(t, strings.Repeat("ä", MaxText/2), d.Remarks[0]) }},
		"an alarm of 2006 in the maker's way": {in: []byte("<N42InstrumentData><Measurement><AnalysisResults><GammaAlarm>true</GammaAlarm><NeutronAlarm>false</NeutronAlarm></AnalysisResults></Measurement></N42InstrumentData>"),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []Alarm{{Category: "GammaAlarm", Description: "true"}}, d.Analyses[0].Alarms)
				require.Equal(t, OutcomeNotAnalysed, d.Outcome())
			}},
		"an analysis that failed": {in: []byte("<RadInstrumentData><AnalysisResults><AnalysisResultStatusCode>Failure</AnalysisResultStatusCode><NuclideAnalysisResults/></AnalysisResults></RadInstrumentData>"),
			check: func(t *testing.T, d *Document) { require.Equal(t, OutcomeFailed, d.Outcome()) }},
		"every spelling of the confidence": {in: []byte("<RadInstrumentData><AnalysisResults><NuclideAnalysisResults>" +
			"<Nuclide><NuclideName>A</NuclideName><NuclideIDConfidence>1</NuclideIDConfidence></Nuclide><Nuclide><NuclideIDConfidenceIndication>2</NuclideIDConfidenceIndication></Nuclide>" +
			"<Nuclide><NuclideIdentificationConfidence>3</NuclideIdentificationConfidence></Nuclide><Nuclide><NuclideIDConfidenceValue>high</NuclideIDConfidenceValue></Nuclide>" +
			"</NuclideAnalysisResults></AnalysisResults></RadInstrumentData>"), flags: []string{FlagConfidenceText}, check: func(t *testing.T, d *Document) {
			n := d.Analyses[0].Nuclides
			require.Equal(t, "1 2 3 high", strings.Join([]string{n[0].Confidence, n[1].Confidence, n[2].Confidence, n[3].ConfidenceText}, " "))
			require.Equal(t, OutcomeIdentified, d.Outcome(), "of one that says nothing it is not known that it is not there")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Decode(c.in, Options{})
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.flags, flags(d))
			if c.check != nil {
				c.check(t, d)
			}
		})
	}
	_, err := Decode(whole, Options{MaxBytes: 1000})
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestTimes(t *testing.T) {
	kyiv := time.FixedZone("", 2*3600)
	utc := func(h, m, s, ms int) time.Time { return time.Date(2016, 5, 22, h, m, s, ms*1e6, time.UTC) }
	for s, want := range map[string]struct {
		at   time.Time
		form TimeForm
	}{
		"2016-05-22T18:02:01.845-04:00": {utc(22, 2, 1, 845), TimeForm{}},
		"2016-05-22T18:02:01.845-0400":  {utc(22, 2, 1, 845), TimeForm{}},
		"2016-05-22T18:02:01Z":          {utc(18, 2, 1, 0), TimeForm{}},
		"2016-05-22 18:02:01 UTC":       {utc(18, 2, 1, 0), TimeForm{}},
		"2016-05-22T18:02:01":           {utc(16, 2, 1, 0), TimeForm{NoZone: true}},
		"22/05/2016 18:02:01":           {utc(16, 2, 1, 0), TimeForm{NoZone: true}},
		"22.05.2016 18:02":              {utc(16, 2, 0, 0), TimeForm{NoZone: true}},
		"22-May-2016 18:02:01":          {utc(16, 2, 1, 0), TimeForm{NoZone: true}},
		"5/22/2016 6:02:01 PM":          {utc(16, 2, 1, 0), TimeForm{NoZone: true}},
		"05/06/2016 10:00:00":           {time.Date(2016, 6, 5, 8, 0, 0, 0, time.UTC), TimeForm{NoZone: true, Order: true}},
		"06/06/2016 10:00:00":           {time.Date(2016, 6, 6, 8, 0, 0, 0, time.UTC), TimeForm{NoZone: true}},
	} {
		at, form, ok := ParseTime(s, kyiv, false)
		require.True(t, ok, s)
		require.True(t, at.Equal(want.at), "%s gives %s", s, at)
		require.Equal(t, want.form, form, s)
	}
	at, _, _ := ParseTime("05/06/2016 10:00:00", time.UTC, true)
	require.Equal(t, time.May, at.Month())
	for _, s := range []string{"", "now", "2016-13-01T00:00:00Z", "0001-01-01T00:00:00Z", "2016-05-22T18:02:01 CST", strings.Repeat("2", 100)} {
		_, _, ok := ParseTime(s, kyiv, false)
		require.False(t, ok, s)
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]float64{
		"PT0.99989S": 0.99989, "PT84611.78047842S": 84611.78047842, "PT16M44S": 1004, "PT1H": 3600, "P1DT1H0.5S": 90000.5, "P2D": 172800, "12.5": 12.5, "PT0S": 0,
	} {
		v, ok := ParseDuration(s)
		require.True(t, ok, s)
		require.InDelta(t, want, v, 1e-9, s)
	}
	for _, s := range []string{"", "P", "PT", "PT1", "P1M", "P1Y", "PT-1S", "PT1S1S", "PT1S1M", "P1D1D", "1S", "PTNaNS", "NaN", "PT1e999S", "-1", "PTT1S", "PT9999999999999S", "P1S"} {
		_, ok := ParseDuration(s)
		require.False(t, ok, s)
	}
}

func TestUnits(t *testing.T) {
	for unit, want := range map[string]float64{"uSv/h": 2, "µSv/h": 2, "μSv/hr": 2, "nSv/h": 0.002, "mSv/h": 2000, "mRem/hr": 20, "microsievert per hour": 2, "uSv h-1": 2} {
		v, ok := MicroSvPerHour(2, unit)
		require.True(t, ok, unit)
		require.InDelta(t, want, v, 1e-9, unit)
	}
	for _, unit := range []string{"", "R/h", "mR/h", "Gy/h", "cps"} {
		_, ok := MicroSvPerHour(2, unit)
		require.False(t, ok, unit)
	}
}

// What is written has the structure of the standard, and is read back equal, by the other
// reading as well.
func TestAppend(t *testing.T) {
	d := decode(t, fixture(t, "portal-2012.n42"))
	d.Measurements[1].Faults[0].Description = `a < b & "c"`
	b, err := Append(nil, d)
	require.NoError(t, err)
	again, err := Append(nil, d)
	require.NoError(t, err)
	require.Equal(t, b, again)
	ordered(t, b, true)
	back := decode(t, b)
	second, err := Append(nil, back)
	require.NoError(t, err)
	require.Equal(t, string(b), string(second))
	path := t.TempDir() + "/written.n42"
	require.NoError(t, os.WriteFile(path, b, 0o600))
	compare(t, back, readByOther(t, []string{path})[0])
	want := decode(t, fixture(t, "portal-2012.n42"))
	want.Measurements[1].Faults[0].Description = `a < b & "c"`
	want.Analyses[0].Nuclides[0].ActivityUnit = ""
	same(want)
	same(back)
	require.Equal(t, want, back)
}

// same makes equal what may be written in two ways.
func same(d *Document) {
	duration := func(t *Duration) { t.Raw = FormatDuration(t.Seconds) }
	for i := range d.Measurements {
		m := &d.Measurements[i]
		m.Start.Raw, m.Start.At = "", m.Start.At.UTC()
		duration(&m.Real)
		for j := range m.Spectra {
			duration(&m.Spectra[j].Live)
		}
		for j := range m.Counts {
			duration(&m.Counts[j].Live)
		}
		for j := range m.DoseRates {
			m.DoseRates[j].Unit = "" // the standard's
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Document)
		want   string
	}{
		"no manufacturer":      {func(d *Document) { d.Instrument.Manufacturer = "" }, "RadInstrumentManufacturerName"},
		"no version":           {func(d *Document) { d.Instrument.Versions = nil }, "no version"},
		"no detector":          {func(d *Document) { d.Detectors = nil }, "no detector"},
		"an id twice":          {func(d *Document) { d.Detectors[1].ID = "Aa1" }, "twice"},
		"an id that is none":   {func(d *Document) { d.Detectors[1].ID = "1 a" }, "no name of XML"},
		"a detector not there": {func(d *Document) { d.Measurements[0].Spectra[0].Detector = "X" }, `"X" is the id of no detector`},
		"no start":             {func(d *Document) { d.Measurements[0].Start = Time{} }, "StartDateTime"},
		"no real time":         {func(d *Document) { d.Measurements[0].Real = Duration{} }, "RealTimeDuration"},
		"no channels":          {func(d *Document) { d.Measurements[0].Spectra[0].Counts = nil }, "0 channels"},
		"a class not known":    {func(d *Document) { d.Measurements[0].Class = "x" }, `class "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			d := decode(t, fixture(t, "portal-2012.n42"))
			c.change(d)
			_, err := Append(nil, d)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestEnded(t *testing.T) {
	whole := fixture(t, "portal-2012.n42")
	for i := range len(whole) {
		require.Equal(t, strings.HasSuffix(strings.TrimSpace(string(whole[:i])), "</RadInstrumentData>"), Ended(whole[:i]), i)
	}
	require.True(t, Ended(utf16Of(whole, binary.LittleEndian, true)))
	require.True(t, Ended(utf16Of(fixture(t, "portal-2006.n42"), binary.BigEndian, false)))
	require.False(t, Ended(utf16Of(whole, binary.LittleEndian, true)[:3001]))
	require.False(t, Ended([]byte("<")))
	require.False(t, Ended(nil))
}
