package xray

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of what is kept of the DICOS objects of a scan.
const (
	// maxDICOSParts is how many pictures a scan may have, and maxDICOSReports how many
	// reports beside them: however many pictures there are, what was found in them counts.
	maxDICOSParts, maxDICOSReports = 256, 64
	// maxDICOSEntry is how long one may be in the ledger, in bytes; threats beyond that are
	// counted only. wholeDICOSEntry is that with what is known of its file.
	maxDICOSEntry, wholeDICOSEntry = 14 << 10, 16<<10 - 128
	// dicosWord bounds a text, dicosList a list of texts.
	dicosWord, dicosList = 128, 8
	// Bounds of what a threat has, and of how many an event tells.
	maxThreatParts, maxThreatCorners, maxThreats = 8, 64, 200
	// dicosReferences bounds the UIDs of the pictures that a report names, in bytes.
	dicosReferences = 6 << 10
)

// dicosRules are the settings that say what DICOS objects mean.
type dicosRules struct {
	zone *time.Location
	// machineClears: a machine's CLEAR stands for an inspection.
	machineClears bool
	// withoutImages: pictures that reports name are not expected.
	withoutImages bool
}

// dicosScan is what came of one scan: pictures and reports, in the order in which they
// came. It makes the scan's event of all of them together.
type dicosScan struct {
	key   string
	parts []*dicosPart
	// alarm: something was found in it, and the objects that say so are forgotten.
	alarm bool
}

// dicosPart is one DICOS object, as much of it as the event needs.
type dicosPart struct {
	// Key is the id of the scan that it belongs to; empty if it names none.
	Key string
	// Head is the object without its threats, with its texts bounded.
	Head    dicos.Object
	Threats []event.XrayThreat
	More    int // threats that are not kept
	// Unnamed is how many of the pictures that it names are not kept.
	Unnamed int
	File    event.XrayFile
	Size    int64
	// Whole: it was read to its end.
	Whole bool
	// Marked: somebody marked a threat in it as one. Projected: it is a drill, in which
	// threats were projected into the picture; such a threat is not Marked.
	Marked, Projected bool
	// Left stands in the scan's first object: what is left out of the scan, since it has too
	// many.
	Left left
	// Path and Seal are those of the file; empty for an object that came over a network.
	Path, Seal string
	// Gone are the hashes of what was there in its place before.
	Gone []string
}

// left is what is left out of a scan.
type left int

const (
	leftObjects left = iota + 1
	leftAlarm        // one of them was an alarm
)

// dicosKey gives the id of the scan that an object belongs to; empty if it names none. Its
// UID is believed whether it is valid or not, but for those that can be no id at all. A
// scanner's own number begins anew some day, so it is one only with the day and the machine.
func dicosKey(o *dicos.Object) string {
	key := o.ScanInstance
	if !isScanUID(key) {
		if o.ScanID == "" || o.Start.IsZero() {
			return ""
		}
		key = strings.Join([]string{o.ScanID, o.Start.Format("20060102"), o.Scanner.Machine}, "@")
	}
	if len(key) > dicosWord {
		sum := sha256.Sum256([]byte(key))
		key = key[:dicosWord/2] + "~" + hex.EncodeToString(sum[:8])
	}
	return dicosText(key)
}

// isScanUID reports whether a text may be the UID of a scan.
func isScanUID(s string) bool { return strings.Contains(s, ".") }

// identity is what tells its content from others: the hash, if it was taken.
func (p *dicosPart) identity() string {
	if p.File.SHA256 != "" {
		return p.File.SHA256
	}
	sum := sha256.Sum256([]byte(p.Path + " " + p.Seal))
	return hex.EncodeToString(sum[:])
}

// alarms reports whether a report says that something was found, or would if it was no drill.
func (p *dicosPart) alarms() bool {
	r := p.Head.Report
	return r != nil && (r.Decision == "ALARM" || r.Decision != "CLEAR" && p.threatens())
}

// threatens reports whether a threat is marked as one, or said to be there.
func (p *dicosPart) threatens() bool {
	r := p.Head.Report
	return p.Marked || r != nil && r.Alarms != nil && *r.Alarms > 0
}

// shorten makes it fit into the ledger, and says whether it does.
func (p *dicosPart) shorten() bool {
	fits := func() bool {
		b := p.encode(len(p.Threats))
		return b != nil && len(b) <= wholeDICOSEntry
	}
	if fits() {
		return true
	}
	h := &p.Head
	h.Dropped++
	h.Inspected.OtherIDs, h.Inspected.Authority, h.Inspected.Descriptor, h.ScanDescription = nil, "", "", ""
	h.Scanner = dicos.Scanner{}
	if r := h.Report; r != nil {
		p.Unnamed += len(r.References)
		r.Algorithm, r.References = nil, nil
	}
	p.More, p.Threats = p.More+len(p.Threats), nil
	return fits()
}

// newDICOSPart takes from an object what the event needs.
func newDICOSPart(o *dicos.Object, file event.XrayFile, size int64, whole bool) *dicosPart {
	p := &dicosPart{Key: dicosKey(o), Head: *o, File: file, Size: size, Whole: whole}
	h := &p.Head
	h.Threats = nil
	p.Projected = o.Projected
	for _, s := range []*string{
		&h.TransferSyntax, &h.Version, &h.SOPClass, &h.SOPInstance, &h.Modality, &h.Inspected.ID, &h.Inspected.Authority, &h.Inspected.IDType, &h.Inspected.Type,
		&h.Inspected.Descriptor, &h.ScanInstance, &h.ScanID, &h.ScanType, &h.ScanDescription, &h.AcquisitionStatus, &h.TestArticle,
		&h.Scanner.Manufacturer, &h.Scanner.Model, &h.Scanner.Serial, &h.Scanner.Software, &h.Scanner.Machine, &h.Scanner.Location, &h.Scanner.Address,
		&h.Scanner.SubLocation, &h.Image.Photometric,
	} {
		*s = dicosText(*s)
	}
	h.Inspected.OtherIDs, h.Image.Type = dicosTexts(o.Inspected.OtherIDs), nil
	by := "unknown"
	if o.Report != nil {
		r := *o.Report
		for _, s := range []*string{&r.Type, &r.Decision, &r.Abort, &r.AbortReason, &r.AdditionalScreening} {
			*s = dicosText(*s)
		}
		r.Algorithm, r.References = dicosTexts(r.Algorithm), nil
		room := dicosReferences
		for i, x := range o.Report.References {
			name := dicosText(x.Instance)
			if room -= len(strconv.Quote(name)) + len(`{"Class":"","Instance":},`); room < 0 {
				p.Unnamed = len(o.Report.References) - i
				break
			}
			r.References = append(r.References, dicos.Reference{Instance: name})
		}
		h.Report, by = &r, reporter(r.Type)
	}
	projected := 0
	for _, t := range o.Threats {
		if t.Projected {
			projected++
		}
		for _, a := range t.Assessments {
			p.Marked = p.Marked || !t.Projected && (a.Flag == "THREAT" || a.Flag == "HIGH_THREAT" || a.Flag == "HIGH THREAT")
		}
		p.Threats = append(p.Threats, threat(t, by))
	}
	p.Projected = p.Projected || projected > 0 && projected == len(o.Threats)
	most := min(len(p.Threats), maxThreats)
	for most > 0 && len(p.encode(most)) > maxDICOSEntry {
		most = most * 3 / 4
	}
	p.Threats, p.More = p.Threats[:most], len(p.Threats)-most
	return p
}

// encode is what the ledger has of it, with so many threats.
func (p *dicosPart) encode(threats int) []byte {
	short := *p
	short.Threats, short.More = p.Threats[:threats], p.More+len(p.Threats)-threats
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(&short) != nil {
		return nil // there are only texts and finite numbers in it
	}
	return bytes.TrimSpace(b.Bytes())
}

// dicosText bounds what a scanner says in its own words.
func dicosText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, word(s))
	if len(s) > dicosWord {
		s = strings.ToValidUTF8(s[:dicosWord], "")
	}
	return s
}

func dicosTexts(list []string) []string {
	var short []string
	for _, s := range list[:min(len(list), dicosList)] {
		if s = dicosText(s); s != "" {
			short = append(short, s)
		}
	}
	return short
}

// reporter says whose a report is, by its type.
func reporter(kind string) string {
	by, ok := map[string]string{
		"MACHINE": "machine", "OPERATOR": "operator", "GROUND TRUTH": "ground_truth", "GROUND_TRUTH": "ground_truth", "AGGREGATE": "aggregate", "MOD_AGGREGATE": "aggregate",
	}[kind]
	if !ok {
		return "unknown"
	}
	return by
}

func threat(t dicos.Threat, by string) event.XrayThreat {
	x := event.XrayThreat{By: by, Assessments: []event.XrayAssessment{}, Regions: []event.XrayRegion{}}
	if t.ID != nil && *t.ID >= 0 {
		x.ObjectID = t.ID
	}
	for _, a := range t.Assessments[:min(len(t.Assessments), maxThreatParts)] {
		y := event.XrayAssessment{Category: dicosText(a.Category), Flag: dicosText(a.Flag), Ability: dicosText(a.Ability), Text: dicosText(a.Text)}
		if a.Probability != nil && *a.Probability >= 0 && *a.Probability <= 1 {
			y.Probability = a.Probability
		}
		x.Assessments = append(x.Assessments, y)
	}
	for _, r := range t.Representations[:min(len(t.Representations), maxThreatParts)] {
		x.Location = cmp.Or(x.Location, dicosText(r.Location))
		x.Mass, x.Density = cmp.Or(x.Mass, r.Mass), cmp.Or(x.Density, r.Density)
		x.ZEffective, x.Volume = cmp.Or(x.ZEffective, r.ZEffective), cmp.Or(x.Volume, r.Volume)
		image := ""
		if len(r.References) > 0 {
			image = dicosText(r.References[0].Instance)
		}
		for _, g := range r.Regions[:min(len(r.Regions), maxThreatParts)] {
			region := event.XrayRegion{Image: image, Base: &g.Base, Extents: &g.Extents}
			if len(g.Bitmap) > 0 {
				n := g.Set()
				region.Set = &n
			}
			x.Regions = append(x.Regions, region)
		}
		if len(r.Polygon) > 0 {
			x.Regions = append(x.Regions, event.XrayRegion{Image: image, Polygon: r.Polygon[:min(len(r.Polygon), maxThreatCorners)]})
		}
	}
	x.Regions = x.Regions[:min(len(x.Regions), maxThreatParts)]
	return x
}

// errDICOSParts is for a scan that has more objects than are kept, errDICOSEntry for an object
// that does not fit into the ledger.
var (
	errDICOSParts = fmt.Errorf("the scan has more than %d pictures or %d reports", maxDICOSParts, maxDICOSReports)
	errDICOSEntry = errors.New("what it says takes more room than there is for one object")
)

// add puts an object to the scan. It reports whether that is news: what came before, in
// this place or another, is none. An object that is written anew in its place stands for the
// one before, and a whole one for one that was cut off; but nothing without an alarm stands
// for one. With errDICOSParts it is not kept, and the first of them is news all the same: the
// scan's event tells that something is left out.
func (s *dicosScan) add(p *dicosPart) (news bool, err error) {
	for _, old := range s.parts {
		if old.identity() == p.identity() && old.File.State == p.File.State && old.Whole == p.Whole || slices.Contains(old.Gone, p.identity()) && p.Path != old.Path {
			return false, nil
		}
	}
	for i, old := range s.parts {
		same := p.Path != "" && old.Path == p.Path && (old.Head.SOPInstance == p.Head.SOPInstance || !old.Whole && old.Head.SOPInstance == "")
		completed := !old.Whole && p.Whole && old.Head.SOPInstance == p.Head.SOPInstance && p.Head.SOPInstance != "" && old.Head.SOPClass == p.Head.SOPClass
		if (same || completed) && (p.alarms() || !old.alarms()) {
			p.Left, p.Gone = old.Left, nil
			if !p.shorten() {
				return false, errDICOSEntry
			}
			p.Gone = append(slices.Clone(old.Gone), old.identity())
			p.Gone = p.Gone[max(0, len(p.Gone)-dicosList):]
			if !p.shorten() {
				p.Gone = nil
			}
			s.parts[i] = p
			return true, nil
		}
	}
	reports := 0
	for _, old := range s.parts {
		if old.Head.Report != nil {
			reports++
		}
	}
	full := len(s.parts)-reports >= maxDICOSParts
	if p.Head.Report != nil {
		full = reports >= maxDICOSReports
	}
	if full {
		first, what := s.parts[0], leftObjects
		if p.alarms() {
			what = leftAlarm
		}
		news = what > first.Left
		first.Left = max(first.Left, what)
		return news, errDICOSParts
	}
	if !p.shorten() {
		return false, errDICOSEntry
	}
	s.parts = append(s.parts, p)
	return true, nil
}

// digest says what the scan consists of.
func (s *dicosScan) digest() string {
	h := sha256.New()
	for _, p := range s.parts {
		fmt.Fprintf(h, "%s %s %t\n", p.identity(), p.File.State, p.Whole)
		if p.Left > 0 {
			fmt.Fprintf(h, "left %d\n", p.Left)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// event makes the event of what there is of the scan, without attachments.
func (s *dicosScan) event(rules dicosRules, received time.Time) (event.XrayScan, error) {
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return event.XrayScan{}, fmt.Errorf("make a salt: %w", err)
	}
	e := event.XrayScan{
		ScanID: s.key, Completeness: "complete", Missing: []string{}, TimeSource: event.TimeFromArrival, ReceivedTS: event.At(received), Threats: []event.XrayThreat{},
		Remarks: []string{}, Scanner: event.XrayScanner{Dialect: dialectDICOS}, Containers: []event.ContainerCode{}, Analyses: []event.XrayAnalysis{},
		Files: []event.XrayFile{}, Attachments: []event.Attachment{}, Private: &event.XrayPrivate{Salt: event.Salt(random), Plates: []event.XrayPlate{}, Raw: event.RawOf(nil)},
	}
	remark := func(what string) {
		if !slices.Contains(e.Remarks, what) {
			e.Remarks = append(e.Remarks, what)
		}
	}
	here := map[string]bool{}
	var start time.Time
	pictures, short := 0, false
	for _, p := range s.parts {
		h := p.Head
		here[h.SOPInstance] = true
		e.Files = append(e.Files, p.File)
		if !p.Whole {
			e.Missing = append(e.Missing, p.File.Name)
		}
		if h.Dropped > 0 {
			remark("values_left_out")
		}
		if h.WrongTimes > 0 {
			remark("time_out_of_range")
		}
		if !isScanUID(h.ScanInstance) {
			remark("without_scan_uid")
		}
		if p.Left > 0 {
			short = true
			remark("objects_left_out")
		}
		if p.Unnamed > 0 {
			short = true
			remark("values_left_out")
		}
		if h.Image.Pixels {
			pictures++
		}
		if !h.Start.IsZero() && (start.IsZero() || h.Start.Before(start)) {
			start = h.Start
		}
		e.ScanNumber, e.ObjectType = cmp.Or(e.ScanNumber, h.ScanID), cmp.Or(e.ObjectType, h.Inspected.Type)
		e.TestArticle = cmp.Or(e.TestArticle, h.TestArticle)
		// What went wrong is told before what went well.
		if e.AcquisitionStatus == "" || acquired(e.AcquisitionStatus) {
			e.AcquisitionStatus = cmp.Or(h.AcquisitionStatus, e.AcquisitionStatus)
		}
		e.Scanner.System = cmp.Or(e.Scanner.System, word(strings.TrimSpace(h.Scanner.Manufacturer+" "+h.Scanner.Model)))
		e.Scanner.Site, e.Scanner.Software = cmp.Or(e.Scanner.Site, h.Scanner.Location), cmp.Or(e.Scanner.Software, h.Scanner.Software)
		if i := h.Inspected; i.ID != "" {
			switch {
			case e.Private.Object == nil:
				e.Private.Object = &event.XrayObject{ID: i.ID, Authority: i.Authority, IDType: i.IDType, OtherIDs: i.OtherIDs, Descriptor: i.Descriptor}
			case e.Private.Object.ID != i.ID:
				remark("objects_differ")
			default:
				x := e.Private.Object
				x.Authority, x.IDType, x.Descriptor = cmp.Or(x.Authority, i.Authority), cmp.Or(x.IDType, i.IDType), cmp.Or(x.Descriptor, i.Descriptor)
			}
		}
	}
	if !start.IsZero() {
		e.StartedTS, e.TimeSource = stamp(inZone(start, rules.zone)), event.TimeFromDeviceZone
	}
	reports := s.reports(rules.zone)
	for _, p := range reports {
		a, odd := p.analysis(rules.zone)
		if odd != "" {
			remark(odd)
		}
		e.Analyses = append(e.Analyses, a)
		for _, r := range p.Head.Report.References {
			if !here[r.Instance] && !rules.withoutImages {
				here[r.Instance] = true
				e.Missing = append(e.Missing, r.Instance)
			}
		}
	}
	for _, p := range slices.Backward(reports) {
		n := min(len(p.Threats), maxThreats-len(e.Threats))
		e.Threats = append(e.Threats, p.Threats[:n]...)
		e.ThreatsMore += p.More + len(p.Threats) - n
	}
	if pictures == 0 && !rules.withoutImages {
		short = true
		remark("without_picture")
	}
	if short || len(e.Missing) > 0 {
		e.Completeness = "partial"
	}
	if !acquired(e.AcquisitionStatus) {
		remark("not_acquired")
	}
	s.judge(&e, reports, rules, remark)
	for _, what := range remarks(&e, received) {
		remark(what)
	}
	return e, nil
}
