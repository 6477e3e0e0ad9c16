package simulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"image"
	"math/big"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/dicos"
)

// machineAfter is when a scanner that writes DICOS files has the machine's report, counted
// from the end of the scan.
const machineAfter = 3 * time.Second

// dicosSwitches are what DICOS files do, beside what all files do.
var dicosSwitches = []string{
	"implicit",           // implicit little endian
	"jpeg-lossless",      // the picture as lossless JPEG
	"rle",                // the picture with run lengths
	"unknown-tags",       // elements that no dictionary has, and one with another type
	"report-first",       // the machine's report before the picture
	"no-image",           // reports without a picture
	"report-in-image",    // the machine's report in the picture, beside the sequence
	"overrule",           // the machine says the opposite of what the operator says then
	"abort",              // the machine gives up
	"empty-roi",          // a region without a bitmap
	"non-operational",    // each third scan is no inspection
	"test-article",       // each third scan is of a test article
	"incomplete-scan",    // each third scan did not succeed
	"huge-pixels",        // four gigabytes of pixels are announced, and are not there
	"bad-uid",            // UIDs with zeros in front, and too long
	"cut-off",            // each third picture is cut off, and stays so
	"wrong-group-length", // of the head of the file
	"ct",                 // a volume of two slices in place of a picture
}

// dicosUID makes the UID of a scan.
func (c *scanner) dicosUID(s Sighting) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d", c.env.Seed, s.Vehicle, c.count))
	number := new(big.Int).SetBytes(sum[:12]).String()
	if c.env.Settings.Has("bad-uid") {
		return "1.02.003." + number + ".0" + number + ".00.1"
	}
	return "2.25." + number
}

// dicosTruth says what the files of a scan tell, and what they do not.
func (c *scanner) dicosTruth(dense bool) (t ScanTruth) {
	has := c.env.Settings.Has
	third := c.count%3 == 0
	words := map[bool]string{true: "ALARM", false: "CLEAR"}
	t.Machine = words[dense != has("overrule")]
	if has("abort") {
		t.Machine = "ABORT"
	}
	if !has("no-analysis") {
		t.Operator = words[dense]
	}
	switch {
	case has("non-operational") && third:
		t.Mode = "non_operational"
	case has("test-article") && third:
		t.Mode = "test"
	}
	t.Incomplete = has("no-image") || has("huge-pixels") || third && (has("cut-off") || has("incomplete-scan"))
	return t
}

// planDICOS says what happens when to the files of a scan: a picture, then what a machine
// found in it, then what an operator thinks of that.
func (c *scanner) planDICOS(o *openScan, img image.Image, write func(dir, name string, content []byte) error) error {
	has, truth, uid := c.env.Settings.Has, o.truth, o.scan.ID
	third := c.count%3 == 0
	base := dicos.Object{
		TransferSyntax: dicos.ExplicitLE, Version: "V03", ScanInstance: uid, ScanID: strconv.Itoa(c.count), ScanType: "OPERATIONAL",
		Start: o.scan.Start, AcquisitionStatus: "SUCCESSFUL",
		Inspected: dicos.Inspected{ID: cmp.Or(o.scan.Plates[0].Text, "VEHICLE "+strconv.Itoa(o.s.Vehicle)), Authority: "LANESIM", IDType: "TEXT", Type: "CARGO"},
		Scanner:   dicos.Scanner{Manufacturer: "LANESIM", Model: "X", Serial: "1", Software: "1.0", Machine: "X-1", Location: "000412"},
	}
	if has("implicit") {
		base.TransferSyntax = dicos.ImplicitLE
	}
	switch {
	case truth.Mode == "non_operational":
		base.ScanType = "NON_OPERATIONAL"
	case truth.Mode == "test":
		base.TestArticle = "CTIQ"
	case has("incomplete-scan") && third:
		base.AcquisitionStatus = "INCOMPLETE"
	}
	picture := base
	picture.SOPClass, picture.SOPInstance, picture.Modality = dicos.ClassDX, uid+".11", "XRAY"
	picture.Image = dicos.Image{Type: []string{"ORIGINAL", "INTENSITY"}, Rows: img.Bounds().Dy(), Columns: img.Bounds().Dx(), Frames: 1}
	pixels := greyPixels(img)
	if has("ct") {
		picture.SOPClass, picture.Modality, picture.Image.Frames = dicos.ClassCT, "CT", 2
		pixels = append(pixels, pixels...)
	}
	for name, syntax := range map[string]string{"jpeg-lossless": dicos.JPEGLossless, "rle": dicos.RLE} {
		if has(name) {
			picture.TransferSyntax = syntax
		}
	}
	report := func(kind, decision string, instance string, after time.Duration) *dicos.Object {
		r := base
		r.SOPClass, r.SOPInstance, r.Modality = dicos.ClassTDR, uid+instance, "TDR"
		objects, alarms, took := 12, 0, 812.5
		r.Report = &dicos.Report{
			Type: kind, Decision: decision, DecisionTime: o.scan.Start.Add(scanTakes + after), Abort: "SUCCESS", Algorithm: []string{"LANESIM", "1.0", "default"},
			Objects: &objects, Alarms: &alarms, Milliseconds: &took, Operator: kind == "OPERATOR", AdditionalScreening: "NO",
			References: []dicos.Reference{{Class: picture.SOPClass, Instance: picture.SOPInstance}},
		}
		switch decision {
		case "ALARM":
			alarms, r.Report.AdditionalScreening = 1, "YES"
			r.Threats = []dicos.Threat{c.dicosThreat(pixels, picture.Image.Columns, picture.Image.Rows, picture.SOPInstance, picture.SOPClass)}
		case "ABORT":
			r.Report.Decision, r.Report.Abort, r.Report.AbortReason = "UNKNOWN", "ABORT", "TIMEOUT"
		}
		return &r
	}
	machine := report("MACHINE", truth.Machine, ".12", machineAfter)
	if has("report-in-image") {
		picture.Version, picture.Modality, picture.Report = "V02A", "DX", machine.Report
		picture.Report.References = nil
		for _, t := range machine.Threats {
			t.ID = nil
			picture.Threats = append(picture.Threats, t)
		}
	}
	form := dicos.Form{}
	if has("unknown-tags") {
		form.Extra = unknownElements()
	}
	if has("wrong-group-length") {
		form.GroupLength = 40
	}
	name := func(kind string) string { return uid[max(0, len(uid)-24):] + "-" + kind + ".dcm" }
	files := map[string][]byte{}
	for kind, x := range map[string]*dicos.Object{"image": &picture, "machine": machine, "operator": report("OPERATOR", truth.Operator, ".13", analysisAfter-scanTakes)} {
		var err error
		if kind == "image" {
			files[kind], err = form.Append(nil, x, pixels)
		} else {
			files[kind], err = form.Append(nil, x, nil)
		}
		if err != nil {
			return fmt.Errorf("write the DICOS file %s: %w", name(kind), err)
		}
	}
	if has("huge-pixels") {
		// Its length is at the end of what stands before the pixels.
		at := len(files["image"]) - 2*len(pixels) - 4
		binary.LittleEndian.PutUint32(files["image"][at:], 0xfffffffe)
	}
	c.stepsDICOS(o, files, name, write)
	return nil
}

// stepsDICOS says when each file is written.
func (c *scanner) stepsDICOS(o *openScan, files map[string][]byte, name func(string) string, write func(dir, name string, content []byte) error) {
	has, third := c.env.Settings.Has, c.count%3 == 0
	at := o.started + scanTakes
	step := func(at time.Duration, dir, kind string, content []byte) {
		o.steps = append(o.steps, scanStep{at, func() error { return write(dir, name(kind), content) }})
	}
	drop := func(at time.Duration, kind string) {
		content := files[kind]
		if has("slow-write") {
			step(at, o.dir, kind, content[:len(content)/3])
			step(at+time.Second, o.dir, kind, content[:2*len(content)/3])
			at += 2 * time.Second
		}
		step(at, o.dir, kind, content)
		if has("rewrites") {
			step(at+10*time.Second, o.dir, kind, content)
		}
		if has("twice") {
			step(at+15*time.Second, o.dir+"-2", kind, content)
		}
	}
	image := at
	if has("report-first") {
		image += machineAfter + 3*time.Second
	}
	whole := files["image"]
	switch {
	case has("no-image"):
	case has("cut-off") && third:
		step(image, o.dir, "image", whole[:len(whole)*2/3])
	case has("truncated") && third:
		step(image, o.dir, "image", whole[:len(whole)*2/3])
		drop(image+lateBy, "image")
	default:
		drop(image, "image")
	}
	if !has("report-in-image") {
		drop(at+machineAfter, "machine")
	}
	if o.truth.Operator != "" {
		drop(o.started+analysisAfter, "operator")
	}
}

// greyPixels gives 16 bits for each pixel.
func greyPixels(img image.Image) []uint16 {
	r := img.Bounds()
	pixels := make([]uint16, 0, r.Dx()*r.Dy())
	if grey, ok := img.(*image.Gray); ok { // as it is drawn
		for _, v := range grey.Pix {
			pixels = append(pixels, uint16(v)<<8|uint16(v))
		}
		return pixels
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			v, _, _, _ := img.At(x, y).RGBA()
			pixels = append(pixels, uint16(v))
		}
	}
	return pixels
}

// Size of the box that a machine draws around what it finds.
const roiWidth, roiHeight = 36, 24

// dicosThreat marks the darkest place of a picture, as a machine does.
func (c *scanner) dicosThreat(pixels []uint16, width, height int, instance, class string) dicos.Threat {
	best, x0, y0 := -1, 0, 0
	for y := 0; y+roiHeight <= height; y += 4 {
		for x := 0; x+roiWidth <= width; x += 4 {
			sum := 0
			for dy := 0; dy < roiHeight; dy += 2 {
				for dx := 0; dx < roiWidth; dx += 2 {
					sum += int(pixels[(y+dy)*width+x+dx])
				}
			}
			if best < 0 || sum < best {
				best, x0, y0 = sum, x, y
			}
		}
	}
	region := dicos.Region{Base: [3]float64{float64(x0), float64(y0), 0}, Extents: [3]float64{roiWidth, roiHeight, 1}}
	if !c.env.Settings.Has("empty-roi") {
		mean := uint16(best / (roiWidth * roiHeight / 4))
		region.Bitmap = make([]byte, dicos.BitmapSize(roiWidth, roiHeight, 1))
		for n := range roiWidth * roiHeight {
			if pixels[(y0+n/roiWidth)*width+x0+n%roiWidth] <= mean {
				region.Bitmap[n/8] |= 1 << (n % 8)
			}
		}
	}
	id, probability, z := 1, 0.875, 7.5
	right, bottom := float64(x0+roiWidth), float64(y0+roiHeight)
	return dicos.Threat{
		ID: &id,
		Representations: []dicos.Representation{{
			References: []dicos.Reference{{Class: class, Instance: instance}}, Regions: []dicos.Region{region}, ZEffective: &z,
			Polygon: [][3]float64{{float64(x0), float64(y0), 0}, {right, float64(y0), 0}, {right, bottom, 0}, {float64(x0), bottom, 0}},
		}},
		Assessments: []dicos.Assessment{{Category: "CONTRABAND", Ability: "NO_INTERFERENCE", Flag: "THREAT", Probability: &probability}},
	}
}

// unknownElements are elements that toolkits write and no dictionary has, one with another
// type than the dictionary's, and private ones.
func unknownElements() []dicos.Element {
	return []dicos.Element{
		{Tag: 0x00090010, VR: "LO", Value: []byte("LANESIM")},
		{Tag: 0x00091001, VR: "UN", Value: []byte{1, 2, 3, 4}},
		{Tag: 0x40101022, VR: "SS", Value: []byte{1, 0}},
		{Tag: 0x40101075, VR: "FD", Value: []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
		{Tag: 0x40101080, VR: "DT", Value: []byte("20260105120000")},
		{Tag: 0x61000100, VR: "SQ", Items: [][]dicos.Element{{{Tag: 0x61000026, VR: "LO", Value: []byte("x")}}, {}}},
		{Tag: 0x61000026, VR: "LO", Value: []byte("side")},
		{Tag: 0x61000028, VR: "US", Value: []byte{1, 0}},
	}
}
