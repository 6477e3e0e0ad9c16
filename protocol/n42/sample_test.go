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
	}
}
