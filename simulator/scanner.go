package simulator

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/cargovision"
	"github.com/lanepost/lanepost/protocol/iso6346"
	"github.com/lanepost/lanepost/protocol/manifest"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Times of an X-ray scanner.
const (
	// scanTakes is how long a scan takes, analysisAfter when an operator has looked at
	// it, both counted from its start.
	scanTakes     = 33 * time.Second
	analysisAfter = 40 * time.Second
	// lateBy is how late files come with "late-files".
	lateBy = 20 * time.Second
	// scannerQueue bounds the scans that are not finished.
	scannerQueue = 1000
)

// scannerSwitches are what the files of scanners were seen to do.
var scannerSwitches = []string{
	"sidecar-first",     // the document before the pictures
	"late-files",        // the preview twenty seconds later
	"slow-write",        // the document in pieces
	"temp-rename",       // under another name first
	"truncated",         // each third preview is cut off at first
	"never-comes",       // the document names a file that is not there
	"deleted",           // and one that is marked as deleted
	"twice",             // each export comes again in another folder
	"rewrites",          // the document is written anew five times, the same and not
	"utf16",             // UTF-16 with a byte order mark
	"old-version",       // V01.07
	"clock-ahead",       // the clock of the acquisition is 53 minutes ahead
	"negative-duration", // a scan ends before it starts
	"training",          // each third scan is a drill
	"failed-analysis",   // the automatic analysis fails
	"wrong-plate",       // digits of the container in the plate
	"wrong-check-digit", // of the container
	"empty-trailer",     // a second trailer without anything
	"no-analysis",       // nobody looks
}

// scanner drops files for each vehicle, as cargo X-ray scanners do. Its options are
// "dialect" (cargovision, the default, manifest, opaque or dicos), "days" (the folders of a day, as
// Go's package time has them) and "dense" (the share of vehicles with something in the
// load that an operator finds).
type scanner struct {
	env     cameraEnv
	dialect string
	days    string
	dense   float64

	mu    sync.Mutex
	count int
	open  []*openScan
	// drop, if set, takes each file in place of the folder.
	drop func(content []byte) error
}

// openScan is a scan whose files are not all there.
type openScan struct {
	s       Sighting
	scan    sidecar.Scan
	dense   bool
	dir     string
	steps   []scanStep
	started time.Duration
	truth   ScanTruth
}

// scanStep is one thing that is to be done at a time.
type scanStep struct {
	at time.Duration
	do func() error
}

func newScanner(env cameraEnv) (cameraModel, error) {
	c := &scanner{env: env, dialect: "cargovision", days: "2006/01/02", dense: 0.3}
	for name, v := range env.Settings.Options {
		switch name {
		case "dialect":
			if c.dialect = v; !slices.Contains([]string{"cargovision", "manifest", "opaque", "dicos"}, v) {
				return nil, fmt.Errorf("dialect: %q; take cargovision, manifest, opaque or dicos", v)
			}
		case "days":
			c.days = v
		case "dense":
			var err error
			if c.dense, err = parseDense(v); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// ServeHTTP implements http.Handler; a scanner serves nothing.
func (c *scanner) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

func (c *scanner) observe(_ context.Context, s Sighting) error {
	has := c.env.Settings.Has
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	// Decided here, since tick may come late.
	dense := isDense(c.env.Seed, s, c.dense)
	id := cargovision.TruckID(s.When, "000412", c.count)
	if c.dialect == "manifest" {
		id = s.When.Format("20060102") + fmt.Sprintf("%015d", c.count)
	}
	truth := ScanTruth{Kind: "scan", Vehicle: s.Vehicle, Suspicious: dense}
	if c.dialect == "dicos" {
		id = c.dicosUID(s)
		told := c.dicosTruth(dense)
		truth.Mode, truth.Machine, truth.Operator, truth.Incomplete = told.Mode, told.Machine, told.Operator, told.Incomplete
	}
	start := s.When
	if has("clock-ahead") {
		start = start.Add(53*time.Minute + 21*time.Second)
	}
	end := start.Add(scanTakes)
	if has("negative-duration") {
		end = start.Add(-time.Second)
	}
	number, container := containerOf(s)
	if has("wrong-check-digit") {
		container = number + string('0'+(iso6346.CheckDigit(number)-'0'+1)%10)
	}
	scan := sidecar.Scan{
		ID: id, Site: "000412", System: "LANESIM", Start: start, End: end, Training: has("training") && c.count%3 == 0,
		Plates: []sidecar.Plate{{Text: s.Plate, Confidence: strconv.Itoa(s.Confidence)}},
	}
	if s.Kind == "truck" {
		scan.Containers = []sidecar.Container{{Position: 1, Text: container, Confidence: "95"}}
	}
	if has("wrong-plate") {
		scan.Plates[0].Text = "TSTU1+" + number[6:]
	}
	if has("empty-trailer") {
		scan.Plates = append(scan.Plates, sidecar.Plate{Trailer: true, Confidence: "-1"})
	}
	if s.Unread {
		scan.Plates[0] = sidecar.Plate{Text: "", Confidence: "-1"}
	}
	if has("failed-analysis") {
		scan.Analyses = append(scan.Analyses, sidecar.Analysis{Machine: true, Name: "NEC", Failed: true, Result: "None", Text: "no data"})
	}
	truth.ScanID, truth.Training = id, scan.Training
	o := &openScan{s: s, scan: scan, dense: dense, truth: truth, started: s.At, dir: filepath.Join(c.env.Dir, filepath.FromSlash(s.When.Format(c.days)), id)}
	if err := c.plan(o); err != nil {
		return err
	}
	if len(c.open) >= scannerQueue {
		return fmt.Errorf("more than %d scans are not finished", scannerQueue)
	}
	c.open = append(c.open, o)
	truth.AtS, truth.What, truth.Plate = seconds(s.At), "made", scan.Plates[0].Text
	c.env.Scanned(truth)
	return c.work(s.At)
}

// plan says what happens when to the files of a scan.
func (c *scanner) plan(o *openScan) error {
	has := c.env.Settings.Has
	rng := newRand(c.env.Seed, "picture", strconv.Itoa(o.s.Vehicle))
	img := xrayPicture(o.s.Kind, o.s.Length, o.dense, rng)
	preview, raw := encodeJPEG(img), rawPicture(img)
	id := o.scan.ID
	names := struct{ raw, preview string }{id + "S.Img", id + "S_stamp.jpg"}
	sidecarName := id + ".xml"
	if c.dialect == "manifest" {
		names.raw, names.preview = "XRAY-"+id+"-003--Array-0000.img", "XRAY-"+id+"-001--Array-0000-xray.jpg"
	}
	o.scan.Files = []sidecar.File{{Name: names.raw, Role: "image"}, {Name: names.preview, Role: "preview"}}
	if has("never-comes") {
		o.scan.Files = append(o.scan.Files, sidecar.File{Name: id + "_rt.png", Role: "other"})
	}
	if has("deleted") && c.dialect == "cargovision" {
		o.scan.Files = append(o.scan.Files, sidecar.File{Name: id + ".Rad", Role: "radiation", Deleted: true})
	}
	at := o.started + scanTakes
	step := func(at time.Duration, do func() error) { o.steps = append(o.steps, scanStep{at, do}) }
	write := func(dir, name string, content []byte) error {
		if c.drop != nil {
			return c.drop(content)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if has("temp-rename") {
			temp := filepath.Join(dir, name+".part")
			if err := os.WriteFile(temp, content, 0o644); err != nil {
				return err
			}
			return os.Rename(temp, filepath.Join(dir, name))
		}
		return os.WriteFile(filepath.Join(dir, name), content, 0o644)
	}
	if c.dialect == "dicos" {
		err := c.planDICOS(o, img, write)
		slices.SortStableFunc(o.steps, func(a, b scanStep) int { return cmp.Compare(a.at, b.at) })
		return err
	}
	if c.dialect == "opaque" {
		drop := func(share int) func() error { // of it, in halves
			return func() error {
				whole, err := opaqueFile(raw, preview)
				if err != nil {
					return err
				}
				return write(o.dir, id+".uff", whole[:len(whole)*share/2])
			}
		}
		if has("slow-write") {
			step(at, drop(1))
			at += time.Second
		}
		step(at, drop(2))
		if has("rewrites") {
			step(at+10*time.Second, drop(2))
		}
		return nil
	}
	first := c.document(&o.scan)
	pictures, document := at, at+time.Second
	if has("sidecar-first") {
		pictures, document = at+3*time.Second, at
	}
	step(pictures, func() error { return write(o.dir, names.raw, raw) })
	late := pictures
	if has("late-files") {
		late += lateBy
	}
	if has("truncated") && c.count%3 == 0 {
		step(late, func() error { return write(o.dir, names.preview, preview[:len(preview)/2]) })
		late += lateBy
	}
	step(late, func() error { return write(o.dir, names.preview, preview) })
	if has("slow-write") {
		step(document, func() error { return write(o.dir, sidecarName, first[:len(first)/3]) })
		step(document+2*time.Second, func() error { return write(o.dir, sidecarName, first[:2*len(first)/3]) })
		document += 4 * time.Second
	}
	step(document, func() error { return write(o.dir, sidecarName, first) })
	final := first
	done := max(document, late)
	if !has("no-analysis") {
		verdict := "0"
		if o.dense {
			verdict = "1"
		}
		analysed := o.scan
		analysed.Inspected, analysed.Suspicious = true, o.dense
		analysed.Analyses = append(slices.Clone(o.scan.Analyses), sidecar.Analysis{Name: "analysis", Result: verdict, Start: o.s.When.Add(scanTakes + 5*time.Second), End: o.s.When.Add(scanTakes + analysisAfter)})
		final = c.document(&analysed)
		done = max(done, at+analysisAfter)
		step(done, func() error { return write(o.dir, sidecarName, final) })
	}
	if has("rewrites") {
		for range 5 {
			done += 10 * time.Second
			step(done, func() error { return write(o.dir, sidecarName, final) })
		}
	}
	if has("twice") {
		done += 10 * time.Second
		step(done, func() error {
			again := o.dir + "-2"
			for name, content := range map[string][]byte{names.raw: raw, names.preview: preview} {
				if err := write(again, name, content); err != nil {
					return err
				}
			}
			return write(again, sidecarName, final)
		})
	}
	slices.SortStableFunc(o.steps, func(a, b scanStep) int { return cmp.Compare(a.at, b.at) })
	return nil
}

func (c *scanner) document(s *sidecar.Scan) []byte {
	if c.dialect == "manifest" {
		return manifest.Append(nil, s)
	}
	return cargovision.Form{Old: c.env.Settings.Has("old-version"), UTF16: c.env.Settings.Has("utf16")}.Append(nil, s)
}

// opaqueFile packs a scan into one file. What is in those of real scanners is not published.
func opaqueFile(raw, preview []byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, part := range []struct {
		name    string
		content []byte
	}{{"raw", raw}, {"preview.jpg", preview}} {
		w, err := z.Create(part.name)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(part.content); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// work does what is due. Without a clock everything is.
func (c *scanner) work(at time.Duration) error {
	for _, o := range c.open {
		for len(o.steps) > 0 && (c.env.Fast || o.steps[0].at <= at) {
			if err := o.steps[0].do(); err != nil {
				return fmt.Errorf("drop the files of scan %s: %w", o.scan.ID, err)
			}
			if o.steps = o.steps[1:]; len(o.steps) == 0 {
				o.truth.AtS, o.truth.What = seconds(at), "finished"
				c.env.Scanned(o.truth)
			}
		}
	}
	c.open = slices.DeleteFunc(c.open, func(o *openScan) bool { return len(o.steps) == 0 })
	return nil
}

func (c *scanner) tick(_ context.Context, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.work(at); err != nil {
		c.env.Log.Warn("a scanner can't drop its files", "error", err)
	}
}

// finish does what is not due yet, at the end of a scenario.
func (c *scanner) finish(at time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		for i := range o.steps {
			o.steps[i].at = 0
		}
	}
	return c.work(at)
}

// rawPicture is a picture in a form of our own, in place of the vendor's which nobody has
// published: it is opaque to everybody.
func rawPicture(img image.Image) []byte {
	b := []byte("LANESIM1")
	r := img.Bounds()
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Dx()))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Dy()))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			v, _, _, _ := img.At(x, y).RGBA()
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	}
	return b
}

// parseFolder takes the path out of a listen value "folder:PATH".
func parseFolder(listen string) (string, bool) {
	rest, ok := strings.CutPrefix(listen, "folder:")
	return rest, ok
}
