// Package cargovision reads and writes the DataForm documents that Smiths Detection
// CargoVision writes beside its pictures, versions V01.07 and V01.20. It does no I/O.
//
// Facts are from 15 real documents of seven sites. What the numbers of verdicts mean is
// not known from them: they are kept as they are.
package cargovision

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/encoding/unicode"

	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Types of operations.
const (
	Acquisition = "1"
	Analysis    = "3"
	Correction  = "14" // by what it holds; its meaning is guessed
)

// roles of the types of resources. The first of the three pictures is raw, and the last
// has IsPreview.
var roles = map[string]string{
	"img": "image", "dhe": "dual_energy", "rt": "other", "snap": "snapshot", "OCRsnap": "snapshot", "OCRxml": "ocr", "ard": "radiation",
}

// CodeNames lists the elements that each site gives a meaning of its own.
func CodeNames() []string {
	return []string{"State", "Custom1", "Custom2", "Custom3", "Custom4", "Custom5", "Custom6"}
}

// Parse reads a document.
func Parse(b []byte, codePage string) (*sidecar.Scan, error) {
	n, err := sidecar.Parse(b, codePage, "DataForm")
	if err != nil {
		return nil, err
	}
	s := &sidecar.Scan{
		ID: n.Get("TruckId"), Site: n.Get("Site"), Software: n.Get("Version"), Zoned: true,
		Training: n.Get("InTraining") == "1", Reference: n.Get("InReference") == "1",
	}
	if s.ID == "" {
		return nil, errors.New("a DataForm without a TruckId")
	}
	admin := n.Child("AdminData")
	for _, name := range CodeNames() {
		code := n.Get(name)
		if code == "" {
			code = admin.Get(name)
		}
		if code != "" {
			if s.Codes == nil {
				s.Codes = map[string]string{}
			}
			s.Codes[name] = code
		}
	}
	vehicle := admin.Child("Vehicle")
	addPlate(s, vehicle, false)
	for _, t := range vehicle.Child("Trailers").All("Trailer") {
		addPlate(s, t, true)
		for _, c := range t.Child("Containers").All("Container") {
			if text := c.Get("ContainerId"); text != "" && len(s.Containers) < sidecar.MaxContainers {
				s.Containers = append(s.Containers, sidecar.Container{Position: len(s.Containers) + 1, Text: text, Confidence: c.Get("OCR")})
			}
		}
	}
	for _, o := range n.Child("Operations").All("Operation") {
		if err := addOperation(s, o); err != nil {
			return s, err
		}
	}
	if s.Start.IsZero() {
		// The document's date is up to two minutes after the scan.
		s.Start, s.Zoned, _ = sidecar.ParseTime(n.Get("Date"), sidecar.XMLTimes()...)
	}
	return s, nil
}

func addPlate(s *sidecar.Scan, n *document.Node, trailer bool) {
	if text := n.Get("PlateNumber"); text != "" && len(s.Plates) < sidecar.MaxPlates {
		s.Plates = append(s.Plates, sidecar.Plate{Trailer: trailer, Text: text, Confidence: n.Get("OCR")})
	}
}

func addOperation(s *sidecar.Scan, o *document.Node) error {
	start, zoned, ok := sidecar.ParseTime(o.Get("Start"), sidecar.XMLTimes()...)
	end, _, _ := sidecar.ParseTime(o.Get("End"), sidecar.XMLTimes()...)
	verdict := o.Child("Verdict")
	switch o.Attr("Type") {
	case Acquisition:
		if s.Start.IsZero() && ok {
			s.Start, s.End, s.Zoned = start, end, zoned
		}
		if v := o.Get("System"); v != "" {
			s.System = v
		}
	default:
		name := map[string]string{Analysis: "analysis", Correction: "correction"}[o.Attr("Type")]
		if name == "" {
			name = "operation " + o.Attr("Type")
		}
		if len(s.Analyses) == sidecar.MaxAnalyses {
			return fmt.Errorf("more than %d analyses of one scan", sidecar.MaxAnalyses)
		}
		s.Analyses = append(s.Analyses, sidecar.Analysis{Name: name, Result: verdict.Attr("Value"), Text: textOf(verdict), Start: start, End: end})
		if name == "analysis" {
			s.Inspected = true
		}
	}
	for _, a := range o.Child("ATR_Results").All("ATR") {
		if len(s.Analyses) == sidecar.MaxAnalyses {
			return fmt.Errorf("more than %d analyses of one scan", sidecar.MaxAnalyses)
		}
		s.Analyses = append(s.Analyses, sidecar.Analysis{
			Machine: true, Name: a.Attr("ATRType"), Failed: a.Get("Status") != "Success", Result: a.Get("Result"), Text: labels(a),
		})
	}
	for _, r := range o.Child("Resources").All("Resource") {
		if r.Text == "" {
			continue
		}
		if len(s.Files) == sidecar.MaxFiles {
			return fmt.Errorf("more than %d files of one scan", sidecar.MaxFiles)
		}
		role := roles[r.Attr("Type")]
		switch {
		case sidecar.True(r.Attr("IsPreview"), "true", "1"):
			role = "preview"
		case role == "":
			role = "other"
		}
		s.Files = append(s.Files, sidecar.File{Name: r.Text, Role: role, Deleted: sidecar.True(r.Attr("IsDeleted"), "true", "1")})
	}
	return nil
}

func textOf(n *document.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// labels gives what an automatic analysis comments.
func labels(a *document.Node) string {
	var list []string
	for _, l := range a.Child("Comments").All("Label") {
		for _, p := range l.All("Param") {
			list = append(list, strings.TrimSpace(p.Attr("name")+" "+p.Attr("use")+" "+p.Text))
		}
		if l.Text != "" {
			list = append(list, l.Text)
		}
	}
	return strings.Join(list, "; ")
}

// Form is how a document is written.
type Form struct {
	// Old is V01.07, without a namespace.
	Old bool
	// UTF16 is UTF-16 with the low byte first and a byte order mark.
	UTF16 bool
}

// Append appends a document.
func (f Form) Append(b []byte, s *sidecar.Scan) []byte {
	w := &writer{}
	version, open := "V01.20", `<DataForm xmlns="dataforms.model.cargovision.smiths.com">`
	if f.Old {
		version, open = "V01.07", "<DataForm>"
	}
	w.raw(open)
	w.element("Version", version)
	w.element("TruckId", s.ID)
	w.element("State", "5")
	w.element("Site", s.Site)
	w.element("Date", stamp(s.Start.Add(500*time.Millisecond)))
	w.element("InTraining", bit(s.Training))
	w.element("InReference", bit(s.Reference))
	w.element("Archived", "0")
	w.element("Analysed", bit(s.Inspected))
	w.raw("<AdminData><FileId/><Comments/><Vehicle>")
	var trailers []sidecar.Plate
	for _, p := range s.Plates {
		if p.Trailer {
			trailers = append(trailers, p)
			continue
		}
		w.element("PlateNumber", p.Text)
		w.element("OCR", p.Confidence)
	}
	w.raw("<Trailers>")
	for i := range max(len(trailers), 1) {
		w.raw("<Trailer>")
		if i < len(trailers) {
			w.element("PlateNumber", trailers[i].Text)
			w.element("OCR", trailers[i].Confidence)
		}
		w.raw("<Containers>")
		for k := range 2 {
			w.raw("<Container>")
			if i == 0 && k < len(s.Containers) {
				w.element("ContainerId", s.Containers[k].Text)
				w.element("OCR", s.Containers[k].Confidence)
			} else {
				w.raw("<ContainerId /><OCR>-1</OCR>")
			}
			w.raw("</Container>")
		}
		w.raw("</Containers></Trailer>")
	}
	w.raw("</Trailers><Driver/></Vehicle></AdminData><Operations>")
	w.raw(`<Operation Type="1">`)
	w.element("Start", stamp(s.Start))
	w.element("End", stamp(s.End))
	w.element("Site", s.Site)
	w.element("System", s.System)
	w.raw(`<Verdict Value="2"/><Resources>`)
	for _, r := range s.Files {
		typ := map[string]string{"image": "img", "preview": "img", "dual_energy": "dhe", "snapshot": "snap", "ocr": "OCRxml", "radiation": "ard"}[r.Role]
		if typ == "" {
			typ = "rt"
		}
		w.raw(fmt.Sprintf(`<Resource Type="%s" IsLinked="false" IsPreview="%t" IsDeleted="%t">`, typ, r.Role == "preview", r.Deleted))
		w.text(r.Name)
		w.raw("</Resource>")
	}
	w.raw("</Resources><ATR_Results>")
	for _, a := range s.Analyses {
		if a.Machine {
			status := "Success"
			if a.Failed {
				status = "Failure"
			}
			w.raw(`<ATR ATRType="` + a.Name + `">`)
			w.element("Status", status)
			w.element("Result", a.Result)
			w.raw(`<Comments><Label LabelType="E">`)
			w.text(a.Text)
			w.raw("</Label></Comments></ATR>")
		}
	}
	w.raw("</ATR_Results></Operation>")
	for _, a := range s.Analyses {
		if !a.Machine {
			w.raw(`<Operation Type="3">`)
			w.element("Start", stamp(a.Start))
			w.element("End", stamp(a.End))
			w.raw("<Login>op1</Login><Workstation>DAW01</Workstation>")
			w.raw(`<Verdict Value="` + a.Result + `">`)
			w.text(a.Text)
			w.raw("</Verdict></Operation>")
		}
	}
	w.raw("</Operations><UpdateCount>11</UpdateCount></DataForm>")
	text := w.b.String()
	if f.UTF16 {
		out, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
		if err == nil {
			return append(b, out...)
		}
	}
	return append(b, text...)
}

type writer struct{ b strings.Builder }

func (w *writer) raw(s string) { w.b.WriteString(s) }

func (w *writer) text(s string) { _ = xml.EscapeText(&w.b, []byte(s)) } // a builder takes everything

func (w *writer) element(name, text string) {
	if text == "" {
		w.raw("<" + name + "/>")
		return
	}
	w.raw("<" + name + ">")
	w.text(text)
	w.raw("</" + name + ">")
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// TruckID makes the id of a scan: the day, the site's six digits and a count in base 36.
func TruckID(day time.Time, site string, count int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var c [4]byte
	for i := range c {
		c[len(c)-1-i] = digits[count%36]
		count /= 36
	}
	return day.Format("20060102") + fmt.Sprintf("%06s", site)[:6] + string(c[:])
}
