package n42

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What makers write as results of the 2006 edition, where they have their own places,
// elements and namespaces: each is told, and what is not understood is flagged.
func TestResults2006(t *testing.T) {
	const spectrum = "<Spectrum ID='s'><LiveTime>PT1S</LiveTime><ChannelData>1 2</ChannelData></Spectrum>"
	inside := func(s string) string {
		return "<N42InstrumentData xmlns:v='urn:maker'><Measurement>" + spectrum + s + "</Measurement></N42InstrumentData>"
	}
	beside := func(s string) string {
		return "<Event><N42InstrumentData><Measurement>" + spectrum + "</Measurement></N42InstrumentData>" + s + "</Event>"
	}
	results := func(s string) string { return "<AnalysisResults>" + s + "</AnalysisResults>" }
	const cs = "<Nuclide><NuclideName>Cs-137</NuclideName><NuclideIDConfidence>9</NuclideIDConfidence></Nuclide>"
	for name, c := range map[string]struct {
		in       string
		outcome  Outcome
		nuclides string
		alarms   string
		flags    []string
	}{
		"ICD-1 of hand-held instruments":            {in: beside(results("<RadiationDataAnalysis><SpectrumID>s</SpectrumID>" + cs + "</RadiationDataAnalysis>")), outcome: OutcomeIdentified, nuclides: "Cs-137"},
		"ICD-1, nothing in it":                      {in: beside(results("<RadiationDataAnalysis><SpectrumID>s</SpectrumID></RadiationDataAnalysis>")), outcome: OutcomeNotAnalysed},
		"the element of 2012":                       {in: inside(results("<NuclideAnalysisResults>" + cs + "</NuclideAnalysisResults>")), outcome: OutcomeIdentified, nuclides: "Cs-137"},
		"a threat in words":                         {in: inside(results("<ThreatDescription>Neutron alarm</ThreatDescription>")), outcome: OutcomeNotAnalysed, alarms: "ThreatDescription Neutron alarm"},
		"the maker's namespace":                     {in: inside(results("<v:GammaAlarm>true</v:GammaAlarm>")), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"a prefix nobody declared":                  {in: inside(results("<DHS:GammaAlarm>true</DHS:GammaAlarm>")), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"results of a maker's prefix":               {in: inside("<v:AnalysisResults><v:NuclideAnalysis>" + cs + "</v:NuclideAnalysis></v:AnalysisResults>"), outcome: OutcomeIdentified, nuclides: "Cs-137"},
		"ICD-2 of portals":                          {in: inside("<dndoarns:AnalysisResults><dndoarns:AnalyzedGammaData><dndoarns:SpectrumSummed dndoarns:NuclidesIdentified='Th-232-001 Ra-226-002'><LiveTime>PT1S</LiveTime><ChannelData>1</ChannelData></dndoarns:SpectrumSummed><dndoarns:SpectrumSummed dndoarns:NuclidesIdentified='Th-232-001'/></dndoarns:AnalyzedGammaData></dndoarns:AnalysisResults>"), outcome: OutcomeIdentified, nuclides: "Th-232-001 Ra-226-002"},
		"ICD-2, none":                               {in: inside("<dndoarns:AnalysisResults><dndoarns:SpectrumSummed dndoarns:NuclidesIdentified=''/></dndoarns:AnalysisResults>"), outcome: OutcomeNothingIdentified},
		"an alarm in an attribute":                  {in: inside(results(`<GammaAlarm Value="true"/>`)), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"an alarm by its type":                      {in: inside(results(`<Alarms><Alarm Type="Gamma"/></Alarms>`)), outcome: OutcomeNotAnalysed, alarms: "Alarm Type Gamma"},
		"an attribute that is an alarm":             {in: inside(results(`<Portal NeutronAlarm="1" GammaAlarm="0"/>`)), outcome: OutcomeNotAnalysed, alarms: "NeutronAlarm 1"},
		"alarms that are denied":                    {in: inside(results(`<GammaAlarm Value="false"/><NeutronAlarm/><AlarmResults><GammaAlarm>false</GammaAlarm><X>0</X></AlarmResults><SumAlarm>No Alarm</SumAlarm>`)), outcome: OutcomeNotAnalysed},
		"an alarm deeper":                           {in: inside(results("<PortalResults><GammaAlarm>true</GammaAlarm></PortalResults>")), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"results in the data of a detector":         {in: inside("<DetectorData>" + results("<GammaAlarm>true</GammaAlarm>") + "</DetectorData>"), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"results in a spectrum":                     {in: strings.Replace(inside(""), "</Spectrum>", results("<NuclideAnalysis>"+cs+"</NuclideAnalysis>")+"</Spectrum>", 1), outcome: OutcomeIdentified, nuclides: "Cs-137"},
		"results in the channels":                   {in: strings.Replace(inside(""), "1 2", "1 "+results("<NuclideAnalysis>"+cs+"</NuclideAnalysis>")+" 2", 1), outcome: OutcomeIdentified, nuclides: "Cs-137"},
		"results in what is passed over":            {in: inside("<v:Extra><Deep>" + results("<GammaAlarm>true</GammaAlarm>") + "</Deep></v:Extra>"), outcome: OutcomeNotAnalysed, alarms: "GammaAlarm true"},
		"a result that is not understood":           {in: inside(results("<Verdict>plutonium</Verdict>")), outcome: OutcomeNotAnalysed, flags: []string{FlagAnalysis}},
		"nothing found, in the standard's own form": {in: inside(results("<NuclideAnalysis/>")), outcome: OutcomeNothingIdentified},
	} {
		t.Run(name, func(t *testing.T) {
			d := decode(t, []byte(c.in))
			var nuclides, alarms []string
			for _, a := range d.Analyses {
				for _, n := range a.Nuclides {
					nuclides = append(nuclides, n.Name)
				}
				for _, x := range a.Alarms {
					alarms = append(alarms, x.Category+" "+x.Description)
				}
			}
			require.Equal(t, c.outcome, d.Outcome())
			require.Equal(t, c.nuclides, strings.Join(nuclides, " "))
			require.Equal(t, c.alarms, strings.Join(alarms, " "))
			require.Equal(t, c.flags, flags(d))
			require.Equal(t, []float64{1, 2}, d.Measurements[0].Spectra[0].Counts)
		})
	}
}

// Noise that looks like the beginning of UTF-16 swallows no document.
func TestSplitterAfterWideNoise(t *testing.T) {
	const doc = "<RadInstrumentData/>"
	for _, noise := range []string{"\x02\xff\xfe\x11\x22", "\x02\xfe\xff", "\x02<\x00"} {
		s := Splitter{}
		s.Write([]byte(noise))
		for range 100 {
			s.Write(framed([]byte(doc)))
		}
		n := 0
		for {
			f, ok := s.Next()
			if !ok {
				break
			}
			if f.Err == nil {
				require.Equal(t, doc, string(f.Bytes))
				n++
			}
		}
		require.Equal(t, 100, n)
	}
}
