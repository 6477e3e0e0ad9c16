package n42

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What documents hold beside the plain case, and what must be made of it.
func TestHalfRead(t *testing.T) {
	const alarm = "<AnalysisResults><RadAlarm><RadAlarmCategoryCode>Gamma</RadAlarmCategoryCode></RadAlarm></AnalysisResults>"
	of2006 := func(s string) string {
		return "<N42InstrumentData><Measurement>" + s + "</Measurement></N42InstrumentData>"
	}
	alarmed := func(t *testing.T, d *Document) { require.True(t, d.Alarmed()) }
	for name, c := range map[string]struct {
		in    string
		fails string
		flags []string
		check func(*testing.T, *Document)
	}{
		"a detector that is not described": {in: strings.Replace(strings.Replace(string(small("PT1S", "<LiveTimeDuration>PT1S</LiveTimeDuration><ChannelData>1</ChannelData>", "")), "<RadMeasurement", "<RadDetectorInformation id='A'/><RadMeasurement", 1), `<Spectrum id="S"`, `<Spectrum id="S" radDetectorInformationReference="B"`, 1), flags: []string{FlagReference}},
		"nothing in it":                    {in: "<RadInstrumentData/>", fails: "neither a measurement nor a result"},
		"a spectrum of no channels":        {in: string(small("PT1S", "<LiveTimeDuration>PT1S</LiveTimeDuration>", "")), fails: "no channels"},
		"an exposure rate": {in: "<RadInstrumentData><RadMeasurement id='M'><ExposureRate id='E'><ExposureRateValue>500</ExposureRateValue></ExposureRate><TotalDose id='T'><TotalDoseValue>9</TotalDoseValue></TotalDose></RadMeasurement></RadInstrumentData>",
			flags: []string{FlagMeasured, FlagMeasured}},
		"a count rate of 2006": {in: of2006("<CountDoseData DetectorType='Neutron'><SampleRealTime>PT1S</SampleRealTime><CountRate>55</CountRate></CountDoseData>"), flags: []string{FlagMeasured}},
		"a real time is no live time": {in: of2006("<CountDoseData DetectorType='Neutron'><SampleRealTime>PT2S</SampleRealTime><Counts>10</Counts></CountDoseData>"), flags: []string{FlagLiveMissing},
			check: func(t *testing.T, d *Document) { require.False(t, d.Measurements[0].Counts[0].Live.Known) }},
		"a fault of an analysis": {in: "<RadInstrumentData><AnalysisResults><Fault><FaultCodeValue>gain</FaultCodeValue><FaultSeverityCode>Fatal</FaultSeverityCode></Fault></AnalysisResults></RadInstrumentData>",
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []Fault{{Code: "gain", Severity: "Fatal"}}, d.Faults)
			}},
		"the health of 2006": {in: "<N42InstrumentData><InstrumentInformation><HealthStatus SubSystem='Gamma' Operational='true' Alarmed='false'/><HealthStatus SubSystem='Neutron' Operational='false' Alarmed='true' ErrorCode='7'/><HealthStatus SubSystem='Battery' Alarmed='1'/></InstrumentInformation></N42InstrumentData>",
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []Fault{{"7", "Neutron: the instrument says that it does not work", "Error"}, {"Battery", "Battery: the instrument says that it is alarmed", "Warning"}}, d.Faults)
			}},
		"a nuclide that is not present": {in: of2006("<AnalysisResults><NuclideAnalysis><Nuclide><NuclideName>Pu-239</NuclideName><NuclideIDConfidenceDescription>Not present</NuclideIDConfidenceDescription></Nuclide></NuclideAnalysis></AnalysisResults>"),
			check: func(t *testing.T, d *Document) { require.Equal(t, OutcomeNothingIdentified, d.Outcome()) }},
		"channels whose element says the compression": {in: of2006("<Spectrum><LiveTime>PT1S</LiveTime><ChannelData><Data Compression='CountedZeroes'>0 5 2 3</Data></ChannelData></Spectrum>"),
			check: func(t *testing.T, d *Document) {
				require.Equal(t, []float64{0, 0, 0, 0, 0, 2, 3}, d.Measurements[0].Spectra[0].Counts)
			}},
		"a spectrum in SpectrumAvailable": {in: of2006("<DetectorData><DetectorMeasurement><SpectrumMeasurement><SpectrumAvailable><Spectrum><LiveTime>PT1S</LiveTime><ChannelData>1 2 3</ChannelData></Spectrum></SpectrumAvailable></SpectrumMeasurement></DetectorMeasurement></DetectorData>"),
			check: func(t *testing.T, d *Document) { require.Len(t, d.Measurements[0].Spectra, 1) }},
		"windows-1251":           {in: "<?xml version=\"1.0\" encoding=\"windows-1251\"?><RadInstrumentData><Remark>\xcb\xfc\xe2\xb3\xe2</Remark>" + alarm + "</RadInstrumentData>", check: func(t *testing.T, d *Document) { require.Equal(t, []string{"Львів"}, d.Remarks) }},
		"a harmless DOCTYPE":     {in: "<!DOCTYPE RadInstrumentData><RadInstrumentData>" + alarm + "</RadInstrumentData>", check: alarmed},
		"a DOCTYPE with a place": {in: "<!DOCTYPE x SYSTEM 'http://a/'><RadInstrumentData>" + alarm + "</RadInstrumentData>", fails: "document type definition"},
		"XML 1.1":                {in: "<?xml version=\"1.1\"?><RadInstrumentData>" + alarm + "</RadInstrumentData>", check: alarmed},
		"two panels in one event": {in: "<Event>" + of2006("") + "<N42InstrumentData><Measurement><AnalysisResults><GammaAlarm>true</GammaAlarm></AnalysisResults></Measurement></N42InstrumentData></Event>",
			check: alarmed},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Decode([]byte(c.in), Options{})
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
}

// The order of day and month is that of the settings, in every form.
func TestOrderOfDates(t *testing.T) {
	for _, s := range []string{"05/06/2016 3:04:05 PM", "05-06-2016T15:04:05", "05/06/2016T15:04:05", "05-06-2016 15:04", "05/06/2016 15:04:05"} {
		for _, monthFirst := range []bool{false, true} {
			at, form, ok := ParseTime(s, time.UTC, monthFirst)
			require.True(t, ok, s)
			require.True(t, form.Order, s)
			want := time.June
			if monthFirst {
				want = time.May
			}
			require.Equal(t, want, at.Month(), s)
			require.Equal(t, 15, at.Hour(), s)
		}
	}
}

// Many prefixes, references and numbers take neither much time nor much room.
func TestManyOfThem(t *testing.T) {
	var b strings.Builder
	b.WriteString("<RadInstrumentData")
	for i := range 50000 {
		fmt.Fprintf(&b, ` xmlns:a%d="u"`, i)
	}
	b.WriteString(">" + strings.Repeat("<b/>", 100000) + "<AnalysisResults/></RadInstrumentData>")
	began := time.Now()
	decode(t, []byte(b.String()))
	require.Less(t, time.Since(began), 3*time.Second)
	for name, doc := range map[string]string{
		"references": `<RadInstrumentData><RadMeasurement id="M" radMeasurementGroupReferences="` + strings.Repeat("a ", 4<<20) + `"/></RadInstrumentData>`,
		"numbers":    `<RadInstrumentData><EnergyCalibration id="M"><CoefficientValues>` + strings.Repeat("1 ", 4<<20) + `</CoefficientValues></EnergyCalibration></RadInstrumentData>`,
	} {
		in := []byte(doc)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Decode(in, Options{}) // read or refused: both are right
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(45<<20), name)
	}
}
