package n42

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the script beside the tests prints of a document.
type independent struct {
	Refused    string
	Generation string
	Spectra    []struct {
		Live, Real *float64
		Counts     *sums
	}
	Gross []struct {
		Live   *float64
		Counts *sums
	}
	Doses  []float64
	Slices []struct {
		Class, Start string
		Occupied     *bool
	}
	Nuclides []struct{ Name, Confidence, Words, Category string }
	Alarms   []string
}

type sums struct {
	Channels        int
	Total, Weighted float64
}

func sumsOf(list []float64) *sums {
	if len(list) == 0 {
		return nil
	}
	s := &sums{Channels: len(list)}
	for i, c := range list {
		s.Total += c
		s.Weighted += float64(i) * c
	}
	return s
}

// readByOther reads documents with the script.
func readByOther(t *testing.T, paths []string) []independent {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: there is no independent reading to compare with")
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/independent.py")
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n") + "\n")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var list []independent
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		var one independent
		require.NoError(t, json.Unmarshal(sc.Bytes(), &one))
		list = append(list, one)
	}
	require.Len(t, list, len(paths))
	return list
}

func known(d Duration) *float64 {
	if !d.Known {
		return nil
	}
	return &d.Seconds
}

// compare compares what both have read, value by value.
func compare(t *testing.T, d *Document, want independent) {
	t.Helper()
	require.Equal(t, want.Generation, string(d.Generation))
	spectra, gross, doses := 0, 0, 0
	for _, m := range d.Measurements {
		for _, s := range m.Spectra {
			require.Less(t, spectra, len(want.Spectra))
			w := want.Spectra[spectra]
			spectra++
			real := s.Real
			if real.Raw == "" {
				real = m.Real
			}
			require.Equal(t, w.Live, known(s.Live), "live time of spectrum %d", spectra)
			require.Equal(t, w.Real, known(real), "real time of spectrum %d", spectra)
			require.Equal(t, w.Counts, sumsOf(s.Counts), "channels of spectrum %d", spectra)
		}
		for _, g := range m.Counts {
			require.Less(t, gross, len(want.Gross))
			require.Equal(t, want.Gross[gross].Live, known(g.Live))
			require.Equal(t, want.Gross[gross].Counts, sumsOf(g.Counts))
			gross++
		}
		for _, r := range m.DoseRates {
			require.Equal(t, want.Doses[doses], *r.MicroSvH)
			doses++
		}
	}
	require.Equal(t, []int{len(want.Spectra), len(want.Gross), len(want.Doses)}, []int{spectra, gross, doses})
	if want.Slices != nil {
		require.Len(t, d.Measurements, len(want.Slices))
		for i, w := range want.Slices {
			m := d.Measurements[i]
			require.Equal(t, w.Class, m.Class)
			require.Equal(t, w.Start, m.Start.Raw)
			require.Equal(t, w.Occupied, m.Occupied)
			require.False(t, m.Start.At.IsZero(), m.Start.Raw)
		}
	}
	var nuclides []Nuclide
	var alarms []string
	for _, a := range d.Analyses {
		nuclides = append(nuclides, a.Nuclides...)
		for _, x := range a.Alarms {
			alarms = append(alarms, x.Category)
		}
	}
	require.Len(t, nuclides, len(want.Nuclides))
	for i, w := range want.Nuclides {
		n := nuclides[i]
		require.Equal(t, w.Name, n.Name)
		require.Equal(t, w.Confidence, n.Confidence)
		require.Equal(t, w.Words, n.ConfidenceText)
		require.Equal(t, w.Category, n.Category)
	}
	require.Equal(t, len(want.Alarms), len(alarms))
	if len(alarms) > 0 {
		require.Equal(t, want.Alarms, alarms)
	}
}

// The sample documents that are not part of the repository: how many of a folder are read,
// and what those say that are refused.
var samples = map[string]struct {
	read    int
	refused map[string]string
}{
	"n42-nist":    {read: 11},
	"n42-generic": {read: 20},
	"n42-templates": {read: 2, refused: map[string]string{
		"FLIR_R400_UW-LGH_template.n42":           `value 1 is "${sample_counts}": it is no count`,
		"Kromek_D5_template.n42":                  "it does not begin with <",
		"ORTEC-HX_template_spectrum.n42":          `value 1 is "${compressed_sample_counts}": it is no count`,
		"Smith_RadseekerCS_template_spectrum.n42": "illegal character code U+001C",
		"Symmetrica_SN31N_template_spectrum.n42":  "<RadInstrumentData> is ended by </RadMeasurement>",
	}},
}

func TestSamples(t *testing.T) {
	root, err := filepath.Abs("../../../shared/data/radiation")
	require.NoError(t, err)
	if _, err := os.Stat(root); err != nil {
		t.Skip("the sample documents are not there: " + root)
	}
	var paths []string
	require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if strings.HasSuffix(p, ".n42") {
			paths = append(paths, p)
		}
		return err
	}))
	others := readByOther(t, paths)
	read := map[string]int{}
	for i, p := range paths {
		folder, name := filepath.Base(filepath.Dir(p)), filepath.Base(p)
		t.Run(folder+"/"+name, func(t *testing.T) {
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			d, err := Decode(b, Options{})
			if why := samples[folder].refused[name]; why != "" {
				require.ErrorContains(t, err, why)
				require.NotEmpty(t, others[i].Refused, "the other reading takes it")
				return
			}
			require.NoError(t, err)
			require.Empty(t, others[i].Refused)
			read[folder]++
			compare(t, d, others[i])
			ordered(t, b, false)
		})
	}
	for folder, want := range samples {
		require.Equal(t, want.read, read[folder], folder)
	}
}

// Our own documents, which cover the same ground, by the same two readings.
func TestFixtures(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.n42")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	others := readByOther(t, paths)
	for i, p := range paths {
		t.Run(filepath.Base(p), func(t *testing.T) {
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			d, err := Decode(b, Options{})
			if strings.Contains(p, "refused") {
				require.Error(t, err)
				require.NotEmpty(t, others[i].Refused)
				return
			}
			require.NoError(t, err)
			compare(t, d, others[i])
		})
	}
}

// The order of the elements that the encoder writes, by the element that they are in, and
// which of them have to be there: from the examples in the standard's annexes, which the
// test of the samples holds against it.
var order = map[string][]string{
	"RadInstrumentData": {"Remark*", "RadInstrumentDataCreatorName?", "RadInstrumentInformation", "RadDetectorInformation+", "RadItemInformation*",
		"EnergyCalibration*", "EnergyWindows*", "RadMeasurementGroup*", "RadMeasurement*", "DerivedData*", "AnalysisResults*"},
	"RadInstrumentInformation": {"RadInstrumentManufacturerName", "RadInstrumentIdentifier?", "RadInstrumentModelName", "RadInstrumentDescription?",
		"RadInstrumentClassCode", "RadInstrumentVersion+", "RadInstrumentQualityControl?", "RadInstrumentCharacteristics?"},
	"RadInstrumentVersion":   {"RadInstrumentComponentName", "RadInstrumentComponentVersion"},
	"Characteristic":         {"Remark*", "CharacteristicName", "CharacteristicValue", "CharacteristicValueUnits", "CharacteristicValueDataClassCode"},
	"RadDetectorInformation": {"Remark*", "RadDetectorName?", "RadDetectorCategoryCode", "RadDetectorKindCode", "RadDetectorDescription?", "RadDetectorLengthValue?", "RadDetectorWidthValue?", "RadDetectorDepthValue?", "RadDetectorDiameterValue?", "RadDetectorVolumeValue?", "RadDetectorCharacteristics?"},
	"RadItemInformation":     {"RadItemDescription?", "RadItemCharacteristics?"},
	"EnergyWindows":          {"WindowStartEnergyValues", "WindowEndEnergyValues"},
	"RadMeasurement": {"Remark*", "MeasurementClassCode", "StartDateTime", "RealTimeDuration", "Spectrum*", "GrossCounts*", "DoseRate*",
		"RadInstrumentState?", "RadDetectorState*", "RadItemState*", "OccupancyIndicator?", "HumidityValue?", "TemperatureValue?"},
	"DerivedData": {"Remark*", "MeasurementClassCode", "StartDateTime", "RealTimeDuration", "Spectrum*", "GrossCounts*", "DoseRate*"},
	"Spectrum":    {"LiveTimeDuration", "ChannelData"},
	"GrossCounts": {"LiveTimeDuration", "CountData"},
	"DoseRate":    {"DoseRateValue", "DoseRateLevelDescription?"},
	"Fault":       {"FaultCodeValue", "FaultDescription?", "FaultSeverityCode"},
	"AnalysisResults": {"Remark*", "AnalysisStartDateTime?", "AnalysisComputationDuration?", "AnalysisAlgorithmName?", "AnalysisAlgorithmCreatorName?", "AnalysisAlgorithmVersion*",
		"AnalysisAlgorithmSetting*", "AnalysisResultStatusCode?", "AnalysisResultDescription?", "RadAlarm*", "NuclideAnalysisResults?", "SpectrumPeakAnalysisResults?"},
	"RadAlarm":               {"Remark*", "RadAlarmDateTime?", "RadAlarmCategoryCode", "RadAlarmDescription?", "RadAlarmLightColor?"},
	"NuclideAnalysisResults": {"Nuclide*"},
	"Nuclide":                {"NuclideIdentifiedIndicator", "NuclideName", "NuclideActivityValue?", "NuclideIDConfidenceValue?", "NuclideIDConfidenceDescription?", "NuclideCategoryDescription?", "SourcePosition?"},
}

// tail is the last of RadInstrumentData's that has a fixed place.
const tail = 4

// ordered checks a document against the table. Of what others wrote elements are passed
// over that the table does not have.
func ordered(t *testing.T, b []byte, ours bool) {
	t.Helper()
	root, err := elementsOf(b)
	require.NoError(t, err)
	var visit func(n *node)
	visit = func(n *node) {
		rules, ruled := order[n.name]
		if ruled {
			at, seen := 0, map[string]int{}
			for _, c := range n.children {
				i := slices.IndexFunc(rules, func(r string) bool { return strings.TrimRight(r, "?*+") == c.name })
				if i < 0 {
					require.False(t, ours, "%s is not known in %s", c.name, n.name)
					continue
				}
				if !ours && n.name == "RadInstrumentData" && i > tail {
					i = tail // what comes after the items may be in any order
				}
				require.GreaterOrEqual(t, i, at, "%s stands too late in %s", c.name, n.name)
				at = i
				seen[c.name]++
			}
			for _, r := range rules {
				name := strings.TrimRight(r, "?*+")
				switch r[len(r)-1] {
				case '?':
					require.LessOrEqual(t, seen[name], 1, "%s in %s", name, n.name)
				case '*':
				case '+':
					require.Positive(t, seen[name], "%s in %s", name, n.name)
				default:
					require.Equal(t, 1, seen[name], "%s in %s", name, n.name)
				}
			}
		}
		for _, c := range n.children {
			visit(c)
		}
	}
	if root.name == "RadInstrumentData" {
		visit(root)
		if ours {
			ruled(t, root)
		}
	}
}

// references are what the attributes of references have to lead to.
var references = map[string]string{
	"radDetectorInformationReference": "RadDetectorInformation", "radDetectorInformationReferences": "RadDetectorInformation", "energyCalibrationReference": "EnergyCalibration",
	"energyWindowsReference": "EnergyWindows", "radMeasurementGroupReferences": "RadMeasurementGroup", "radMeasurementReferences": "RadMeasurement",
	"derivedDataReferences": "DerivedData", "radInstrumentInformationReference": "RadInstrumentInformation", "radItemInformationReference": "RadItemInformation",
}

// described are the elements that need a description if their code is "Other".
var described = map[string][2]string{
	"RadDetectorKindCode": {"RadDetectorInformation", "RadDetectorDescription"}, "RadDetectorCategoryCode": {"RadDetectorInformation", "RadDetectorDescription"},
	"RadAlarmCategoryCode": {"RadAlarm", "RadAlarmDescription"},
}

// listed are the words that some elements have to be one of.
var listed = map[string][]string{
	"AnalysisResultStatusCode": {"Success", "Failure"}, "RadAlarmCategoryCode": {"Alpha", "Beta", "Gamma", "Neutron", "Isotope", "Other"},
}

// ruled checks a document against the rules that the standard has beside its schema.
func ruled(t *testing.T, root *node) {
	t.Helper()
	byID := map[string]*node{}
	var each func(n *node, f func(n *node))
	each = func(n *node, f func(n *node)) {
		f(n)
		for _, c := range n.children {
			each(c, f)
		}
	}
	child := func(n *node, name string) *node {
		for _, c := range n.children {
			if c.name == name {
				return c
			}
		}
		return nil
	}
	each(root, func(n *node) {
		if id := n.attrs["id"]; id != "" {
			require.Nil(t, byID[id], "the id %s is there twice", id)
			byID[id] = n
		}
	})
	each(root, func(n *node) {
		for attr, want := range references {
			for id := range strings.FieldsSeq(n.attrs[attr]) {
				require.NotNil(t, byID[id], "%s of %s leads to nothing", attr, n.name)
				require.Equal(t, want, byID[id].name, "%s of %s", attr, n.name)
			}
		}
		for code, x := range described {
			if c := child(n, code); n.name == x[0] && c != nil && c.text == "Other" {
				require.NotNil(t, child(n, x[1]), "%s without %s", n.name, x[1])
			}
		}
		if words := listed[n.name]; words != nil {
			require.Contains(t, words, n.text)
		}
		switch n.name {
		case "AnalysisResults":
			about := 0
			for _, attr := range []string{"radMeasurementReferences", "radMeasurementGroupReferences", "derivedDataReferences"} {
				if n.attrs[attr] != "" {
					about++
				}
			}
			require.Equal(t, 1, about, "an analysis is about one kind of thing")
		case "RadMeasurement":
			seen := map[string]bool{}
			for _, c := range n.children {
				if d := c.attrs["radDetectorInformationReference"]; d != "" {
					require.False(t, seen[c.name+" "+d], "two %s of the detector %s", c.name, d)
					seen[c.name+" "+d] = true
				}
			}
		case "GrossCounts":
			want := 1
			if w := byID[n.attrs["energyWindowsReference"]]; w != nil {
				want = len(strings.Fields(child(w, "WindowStartEnergyValues").text))
			}
			require.Len(t, strings.Fields(child(n, "CountData").text), want)
		case "EnergyWindows":
			require.Len(t, strings.Fields(child(n, "WindowEndEnergyValues").text), len(strings.Fields(child(n, "WindowStartEnergyValues").text)))
		}
	})
}

// The standard's own examples, read and written again, keep to its rules.
func TestExamplesWrittenAgain(t *testing.T) {
	for name, why := range map[string]string{
		"Annex B": "", "Annex C": "", "Annex D": "", "Annex D alarmed": "", "Annex E": "",
	} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile("../../../shared/data/radiation/n42-nist/" + name + ".n42")
			if os.IsNotExist(err) {
				t.Skip("the sample documents are not there")
			}
			require.NoError(t, err)
			d := decode(t, b)
			out, err := Append(nil, d)
			if why != "" {
				require.ErrorContains(t, err, why)
				return
			}
			require.NoError(t, err)
			ordered(t, out, true)
			back := decode(t, out)
			require.Equal(t, d.Outcome(), back.Outcome())
			require.Equal(t, d.Alarmed(), back.Alarmed())
		})
	}
}

// What the rules of the standard do not allow is not written, and what they want is added.
func TestAppendRules(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Document)
		want   string
	}{
		"an analysis of nothing in particular": {change: func(d *Document) { d.Analyses[0].Measurements = nil }},
		"an analysis of derived data":          {change: func(d *Document) { d.Analyses[0].Measurements = []string{"SUM"} }},
		"a detector of another kind":           {change: func(d *Document) { d.Detectors[0].Kind, d.Detectors[0].Description = "Other", "" }},
		"an alarm of another category":         {change: func(d *Document) { d.Analyses[0].Alarms[0].Category = "GammaAlarm" }},
		"an analysis of both":                  {func(d *Document) { d.Analyses[0].Measurements = []string{"F1", "SUM"} }, `"SUM" is the id of no measurement`},
		"a status that is none":                {func(d *Document) { d.Analyses[0].Status = "ok" }, `status "ok"`},
		"two spectra of one detector": {func(d *Document) {
			m := &d.Measurements[0]
			s := m.Spectra[0]
			s.ID = "again"
			m.Spectra = append(m.Spectra, s)
		}, "two spectra"},
		"counts of more windows than there are": {func(d *Document) { d.Measurements[0].Counts[0].Counts = []float64{1, 2} }, "2 values of 1 windows"},
	} {
		t.Run(name, func(t *testing.T) {
			d := decode(t, fixture(t, "portal-2012.n42"))
			c.change(d)
			b, err := Append(nil, d)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			ordered(t, b, true)
		})
	}
}
