package dicos

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// example is a picture with a report in it, with everything that is written.
func example() *Object {
	return &Object{
		TransferSyntax: ExplicitLE, Version: "V02A", SOPClass: ClassDX, SOPInstance: "1.2.3.4", Modality: "DX",
		Inspected:    Inspected{ID: "TSTU1000006", Authority: "LANE", IDType: "TEXT", Type: "CARGO", Descriptor: "lorry", OtherIDs: []string{"AB1234", "odd"}},
		ScanInstance: "1.2.3", ScanID: "17", ScanType: "OPERATIONAL", ScanDescription: "Łódź", Start: time.Date(2026, 1, 5, 12, 0, 0, 123456000, time.UTC),
		AcquisitionStatus: "SUCCESSFUL", TestArticle: "OTK",
		Scanner: Scanner{Manufacturer: "LANESIM", Model: "X", Serial: "1", Software: "2.0", Machine: "M", Location: "L", Address: "A", SubLocation: "S"},
		Image:   Image{Type: []string{"ORIGINAL", "INTENSITY"}, Rows: 21, Columns: 33, Frames: 1, Samples: 1, BitsAllocated: 16, BitsStored: 16, Photometric: "MONOCHROME2"},
		Report: &Report{
			Type: "MACHINE", Decision: "ALARM", DecisionTime: time.Date(2026, 1, 5, 12, 0, 9, 0, time.UTC), Zoned: true, Abort: "ABORT", AbortReason: "TIMEOUT",
			Algorithm: []string{"LANESIM", "1", "fast"}, Objects: pointer(3), Alarms: pointer(2), Milliseconds: pointer(12.5), AdditionalScreening: "YES", Operator: true,
			References: []Reference{{ClassDX, "1.2.3.4"}},
		},
		Threats: []Threat{{
			ID: pointer(7),
			Representations: []Representation{{
				References: []Reference{{ClassDX, "1.2.3.4"}},
				Regions:    []Region{{Base: [3]float64{1, 2, 0}, Extents: [3]float64{16, 1, 1}, Bitmap: []byte{1, 0x80}}, {Base: [3]float64{1, 2, 3}}},
				Polygon:    [][3]float64{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, Location: "rear", Mass: pointer(1.5), Density: pointer(2.5), ZEffective: pointer(7.5), Volume: pointer(0.5),
			}},
			Assessments: []Assessment{{Category: "EXPLOSIVE", Text: "text", Ability: "SHIELD", Flag: "THREAT", Probability: pointer(0.5)}},
		}, {Assessments: []Assessment{{Category: "OTHER", Flag: "NO_THREAT"}}}},
	}
}

func ramp(o *Object) []uint16 {
	pixels := make([]uint16, o.Image.Rows*o.Image.Columns)
	for i := range pixels {
		pixels[i] = uint16(i*i*31 + i%7*9000)
	}
	pixels[40], pixels[41] = 0, 1<<15 // the greatest difference there is
	return pixels
}

var syntaxes = map[string]string{"explicit": ExplicitLE, "implicit": ImplicitLE, "JPEG lossless": JPEGLossless, "RLE": RLE}

// tool gives a program of Debian's, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not here; .ci/install-test-tools fetches it", name)
	}
	return path
}

func pydicom(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import pydicom").Run() == nil {
			return python
		}
	}
	t.Skip("python3-pydicom is not here; .ci/install-test-tools fetches it")
	return ""
}

func TestRoundTrip(t *testing.T) {
	for name, syntax := range syntaxes {
		t.Run(name, func(t *testing.T) {
			want := example()
			want.TransferSyntax = syntax
			b, err := Form{}.Append(nil, want, ramp(want))
			require.NoError(t, err)
			got, err := Decode(b)
			require.NoError(t, err)
			require.True(t, got.Image.Pixels)
			require.Equal(t, syntax == JPEGLossless || syntax == RLE, got.Image.Encapsulated)
			img, err := Picture(b, 1<<20)
			require.NoError(t, err)
			raw := want.Image
			require.Equal(t, develop(ramp(want), raw).Pix, img.Pix)
			got.Image.Pixels, got.Image.Encapsulated, got.Image.PixelBytes = false, false, 0
			want.Report.References, got.Report.References = nil, nil
			require.Equal(t, want, got)
			for n := len(b) - 200; n < len(b); n++ {
				_, err := Decode(b[:n])
				require.ErrorIs(t, err, ErrTruncated)
			}
		})
	}
}

func TestPictureOfFormsThatAreNotRead(t *testing.T) {
	o := example()
	b, err := Form{}.Append(nil, o, ramp(o))
	require.NoError(t, err)
	_, err = Picture(b, 100)
	require.ErrorIs(t, err, ErrBounds)
	_, err = Form{}.Append(nil, o, make([]uint16, 3))
	require.Error(t, err)
	o.TransferSyntax = bigEndian
	_, err = Form{}.Append(nil, o, nil)
	require.ErrorIs(t, err, ErrSyntax)
}

// dcmdump and pydicom read in our files what we wrote, in each syntax.
func TestOthersReadOurFiles(t *testing.T) {
	dir := t.TempDir()
	names := map[string]string{}
	for name, syntax := range syntaxes {
		o := example()
		o.TransferSyntax = syntax
		form := Form{Extra: []Element{{Tag: 0x40101082, VR: "FL", Value: []byte{0, 0, 128, 63}}, {Tag: 0x61000026, VR: "LO", Value: []byte("side")}}}
		b, err := form.Append(nil, o, ramp(o))
		require.NoError(t, err)
		names[name] = filepath.Join(dir, name+".dcm")
		require.NoError(t, os.WriteFile(names[name], b, 0o600))
	}
	want := map[string]string{"AlarmDecision": "ALARM", "TDRType": "MACHINE", "PatientID": "TSTU1000006", "ATDAssessmentFlag": "NO_THREAT", "AbortFlag": "ABORT", "StudyInstanceUID": "1.2.3"}
	t.Run("dcmdump", func(t *testing.T) {
		dump := tool(t, "dcmdump")
		value := regexp.MustCompile(`(?m)^\(....,....\) .. \[?([^\]\s]*)\]? .* (\w+)$`)
		for name, file := range names {
			out, err := exec.Command(dump, "-q", file).CombinedOutput()
			require.NoError(t, err, "%s", out)
			got := map[string]string{}
			for _, m := range value.FindAllStringSubmatch(string(out), -1) {
				got[m[2]] = m[1]
			}
			require.Subset(t, got, map[string]string{"AlarmDecision": "ALARM", "TDRType": "MACHINE", "PatientID": "TSTU1000006", "AbortFlag": "ABORT", "StudyInstanceUID": "1.2.3"}, "%s: %s", name, out)
			require.Regexp(t, `\(4010,1015\) CS \[THREAT\]`, string(out))
			require.Regexp(t, `\(4010,1015\) CS \[NO_THREAT\]`, string(out))
			require.Regexp(t, `\(4010,1006\) OB 01\\80`, string(out))
			require.NotRegexp(t, `(?m)^[WEF]:`, string(out))
		}
	})
	t.Run("pydicom", func(t *testing.T) {
		python := pydicom(t)
		args := []string{"-W", "error", "-c", `
import sys, json, warnings, pydicom
warnings.filterwarnings("ignore", message="Unknown DICOM tag") # in an implicit one its type is not told
all = {}
for f in sys.argv[1:]:
    d = pydicom.dcmread(f)
    t = d.ThreatSequence[0]
    all[f] = {k: str(d[k].value) for k in ("AlarmDecision", "TDRType", "PatientID", "AbortFlag", "StudyInstanceUID")}
    all[f]["flag"] = t.ATDAssessmentSequence[0].ATDAssessmentFlag
    all[f]["bitmap"] = t.PTORepresentationSequence[0].ThreatROIVoxelSequence[0].ThreatROIBitmap.hex()
    all[f]["base"] = str(list(t.PTORepresentationSequence[0].ThreatROIVoxelSequence[0].ThreatROIBase))
    all[f]["ATDAssessmentFlag"] = d.ATDAssessmentSequence[0].ATDAssessmentFlag
    list(d.iterall())
print(json.dumps(all))`}
		for _, file := range names {
			args = append(args, file)
		}
		out, err := exec.Command(python, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		var got map[string]map[string]string
		require.NoError(t, json.Unmarshal(out, &got), "%s", out)
		require.Len(t, got, len(names))
		for _, values := range got {
			require.Subset(t, values, want)
			require.Equal(t, "THREAT", values["flag"])
			require.Equal(t, "0180", values["bitmap"])
			require.Equal(t, "[1.0, 2.0, 0.0]", values["base"])
		}
	})
	t.Run("suyashkumar/dicom", func(t *testing.T) {
		for name, file := range names {
			d, err := dicom.ParseFile(file, nil, dicom.SkipPixelData())
			require.NoError(t, err, name)
			for keyword, value := range map[tag.Tag]string{tag.AlarmDecision: "ALARM", tag.TDRType: "MACHINE", tag.PatientID: "TSTU1000006", tag.AbortFlag: "ABORT", tag.StudyInstanceUID: "1.2.3"} {
				e, err := d.FindElementByTag(keyword)
				require.NoError(t, err)
				require.Equal(t, []string{value}, dicom.MustGetStrings(e.Value), name)
			}
		}
	})
	// What dcmtk unpacks has the pixels that were packed.
	for name, program := range map[string]string{"JPEG lossless": "dcmdjpeg", "RLE": "dcmdrle"} {
		t.Run(program, func(t *testing.T) {
			plain := filepath.Join(dir, program+".dcm")
			out, err := exec.Command(tool(t, program), "-q", names[name], plain).CombinedOutput()
			require.NoError(t, err, "%s", out)
			b, err := os.ReadFile(plain)
			require.NoError(t, err)
			img, err := Picture(b, 1<<20)
			require.NoError(t, err)
			require.Equal(t, develop(ramp(example()), example().Image).Pix, img.Pix)
		})
	}
	// And the other way round: what dcmtk packs is read.
	for program, syntax := range map[string]string{"dcmcjpeg": JPEGLossless, "dcmcrle": RLE} {
		t.Run(program, func(t *testing.T) {
			packed := filepath.Join(dir, program+".dcm")
			out, err := exec.Command(tool(t, program), "-q", names["explicit"], packed).CombinedOutput()
			require.NoError(t, err, "%s", out)
			b, err := os.ReadFile(packed)
			require.NoError(t, err)
			o, err := Decode(b)
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(syntax), o.TransferSyntax)
			require.Equal(t, "ALARM", o.Report.Decision)
			img, err := Picture(b, 1<<20)
			require.NoError(t, err)
			require.Equal(t, develop(ramp(example()), example().Image).Pix, img.Pix)
		})
	}
}
