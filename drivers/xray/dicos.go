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

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/event"
)

// dicosRemembered is for how long the objects of a scan are remembered, to be told together
// with one that comes late.
const dicosRemembered = 30 * 24 * time.Hour

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

func dicosEntry(key string, n int) string { return fmt.Sprintf("part:%s:%d", key, n) }

// loadDICOS gives the scan as the ledger has it.
func loadDICOS(l drivers.Ledger, key string) *dicosScan {
	s := &dicosScan{key: key, alarm: l.Get("alarm:"+key) != ""}
	for n := range maxDICOSParts + maxDICOSReports {
		var p dicosPart
		text := l.Get(dicosEntry(key, n))
		if text == "" || json.Unmarshal([]byte(text), &p) != nil {
			break
		}
		s.parts = append(s.parts, &p)
	}
	return s
}

// save puts the scan into the ledger. That comes before its event, so that nothing that
// was told is forgotten by a crash.
func (s *dicosScan) save(l drivers.Ledger) error {
	for n, p := range s.parts {
		if text := string(p.encode(len(p.Threats))); l.Get(dicosEntry(s.key, n)) != text {
			if err := l.Put(dicosEntry(s.key, n), text); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell makes the scan's event, unless it was told as it is. list are the contents that go
// with it.
func (s *dicosScan) tell(h drivers.Host, rules dicosRules, replayed bool, list []drivers.Attachment) error {
	if len(s.parts) == 0 {
		return nil
	}
	var before told
	if text := h.Ledger().Get("scan:" + s.key); text != "" && json.Unmarshal([]byte(text), &before) != nil {
		before = told{}
	}
	if before.SHA256 == s.digest() {
		return nil
	}
	now := h.Now()
	e, err := s.event(rules, now)
	if err != nil {
		return err
	}
	e.Replayed = replayed
	for _, a := range list {
		e.Attachments = append(e.Attachments, a.Attachment)
	}
	if err := s.save(h.Ledger()); err != nil {
		return err
	}
	next := told{Revision: before.Revision + 1, SHA256: s.digest(), Missing: len(e.Missing), At: now.Unix()}
	return publish(h, s.key, e, before, next, list)
}

// untoldDICOS are the scans of which the ledger has objects that were not told: the agent
// stopped before their event, and their files may be gone.
func untoldDICOS(h drivers.Host) (keys []string) {
	h.Ledger().Each("part:", func(key, _ string) bool {
		key, first := strings.CutSuffix(strings.TrimPrefix(key, "part:"), ":0")
		if t, _ := toldBefore(h, key); first && t.SHA256 != loadDICOS(h.Ledger(), key).digest() {
			keys = append(keys, key)
		}
		return true
	})
	slices.Sort(keys)
	return keys
}

// forgetDICOS takes the objects of scans out of the ledger of which nothing was heard since
// then. What was told last is kept.
func forgetDICOS(l drivers.Ledger, since time.Time) error {
	var old, gone []string
	l.Each("scan:", func(key, value string) bool {
		var t told
		key = strings.TrimPrefix(key, "scan:")
		if json.Unmarshal([]byte(value), &t) == nil && t.At < since.Unix() && l.Get(dicosEntry(key, 0)) != "" {
			old = append(old, key)
		}
		return true
	})
	l.Each("alarm:", func(key, _ string) bool {
		if key = strings.TrimPrefix(key, "alarm:"); l.Get("scan:"+key) == "" && l.Get(dicosEntry(key, 0)) == "" {
			gone = append(gone, "alarm:"+key)
		}
		return true
	})
	for _, key := range gone {
		if err := l.Put(key, ""); err != nil {
			return err
		}
	}
	for _, key := range old {
		// That there was an alarm is not forgotten as long as there is a number to go on with.
		if s := loadDICOS(l, key); l.Get("alarm:"+key) == "" && s.alarmed(since) {
			if err := l.Put("alarm:"+key, "1"); err != nil {
				return err
			}
		}
		for n := range maxDICOSParts + maxDICOSReports {
			if l.Get(dicosEntry(key, n)) == "" {
				break
			}
			if err := l.Put(dicosEntry(key, n), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// alarmed reports whether something was found in an inspection, and not taken back. Its
// rules are the most careful ones.
func (s *dicosScan) alarmed(now time.Time) bool {
	e, err := s.event(dicosRules{zone: time.UTC, withoutImages: true}, now)
	return err != nil || e.Class() == event.Urgent
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

// acquired reports whether a scan went well, or nothing else is told.
func acquired(status string) bool { return status == "" || status == "SUCCESSFUL" }

func inZone(t time.Time, zone *time.Location) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
}

func (p *dicosPart) decided(zone *time.Location) time.Time {
	r := p.Head.Report
	if r.Zoned || r.DecisionTime.IsZero() {
		return r.DecisionTime
	}
	return inZone(r.DecisionTime, zone)
}

// reports are the objects that have a report in them, as they came; those that tell the time
// of their decision are among each other in the order of that.
func (s *dicosScan) reports(zone *time.Location) (list []*dicosPart) {
	var timed []*dicosPart
	for _, p := range s.parts {
		if p.Head.Report != nil {
			list = append(list, p)
			if !p.Head.Report.DecisionTime.IsZero() {
				timed = append(timed, p)
			}
		}
	}
	slices.SortStableFunc(timed, func(a, b *dicosPart) int { return a.decided(zone).Compare(b.decided(zone)) })
	for i, p := range list {
		if !p.Head.Report.DecisionTime.IsZero() {
			list[i], timed = timed[0], timed[1:]
		}
	}
	return list
}

// analysis is what one report says, and what is odd about it.
func (p *dicosPart) analysis(zone *time.Location) (a event.XrayAnalysis, odd string) {
	r := p.Head.Report
	a = event.XrayAnalysis{
		By: reporter(r.Type), Name: cmp.Or(r.Type, p.Head.Modality, "report"), Status: "done", Decision: event.DecisionUnknown, ResultRaw: r.Decision, Reason: r.AbortReason,
		Algorithm: r.Algorithm, Objects: r.Objects, Alarms: r.Alarms, AdditionalScreening: r.AdditionalScreening == "YES", EndedTS: stamp(p.decided(zone)),
	}
	for _, n := range []**int{&a.Objects, &a.Alarms} {
		if *n != nil && **n < 0 {
			*n = nil
		}
	}
	failed := r.Abort != "" && r.Abort != "SUCCESS"
	switch {
	case p.alarms():
		// An alarm counts, however the report ended.
		a.Decision = event.DecisionSuspicious
	case failed:
	case !p.Whole, r.Decision == "":
		a.Status = "unknown"
	case r.Decision == "CLEAR" && p.threatens():
		odd = "clear_with_threats"
	case r.Decision == "CLEAR" && a.By != "unknown":
		a.Decision = event.DecisionNothingFound
	}
	if failed {
		a.Status = "failed"
	}
	return a, odd
}

// judge says what the scan was made for, and what came of it. Nothing is taken for
// "nothing found" but the whole word of an operator about a whole scan, or of all machines
// where the settings say that they stand for an inspection. A word that is not taken for it
// takes no alarm back.
func (s *dicosScan) judge(e *event.XrayScan, reports []*dicosPart, rules dicosRules, remark func(string)) {
	e.Decision = event.DecisionPending
	operator, truth, doubt := false, false, false
	say := func(a event.XrayAnalysis) { e.Decision, e.DecisionRaw = a.Decision, a.ResultRaw }
	var alarm *event.XrayAnalysis
	for i, a := range e.Analyses {
		if a.Decision == event.DecisionSuspicious && a.By != "ground_truth" {
			alarm = &e.Analyses[i]
			// Whether it came before or after the others, and from whom, nobody knows.
			doubt = doubt || a.By == "unknown" && a.EndedTS == nil
		}
		switch {
		case a.By == "ground_truth":
			truth = true
		case a.By == "operator" && a.Decision == event.DecisionSuspicious:
			operator = true
			say(a)
		case a.By == "operator" && a.Status == "done":
			// One who can't say takes no alarm back.
			if a.Decision == event.DecisionNothingFound || e.Decision != event.DecisionSuspicious {
				operator = operator || a.Decision == event.DecisionNothingFound
				say(a)
			}
		case a.By == "operator" && e.Decision == event.DecisionNothingFound:
			// He looked once more, and did not come to an end.
			e.Decision = event.DecisionUnknown
		case operator && a.By != "unknown":
			// He has the last word over machines.
		case a.Decision == event.DecisionSuspicious:
			say(a)
		case a.Status == "done" && e.Decision == event.DecisionPending && (a.Decision != event.DecisionNothingFound || rules.machineClears):
			say(a)
		}
	}
	e.Mode = s.mode(e, reports, truth, remark)
	whole := e.Completeness == "complete" && e.Mode == event.ScanOperational && acquired(e.AcquisitionStatus) && !doubt &&
		!slices.ContainsFunc([]string{"objects_differ", "without_scan_uid", "threat_projected"}, func(what string) bool { return slices.Contains(e.Remarks, what) }) &&
		!slices.ContainsFunc(s.parts, func(p *dicosPart) bool { return p.Head.Dropped > 0 })
	if e.Decision == event.DecisionNothingFound {
		// What one machine can't say, another's word does not stand for.
		whole = whole && (operator || !slices.ContainsFunc(e.Analyses, func(a event.XrayAnalysis) bool {
			return a.By != "ground_truth" && (a.Status != "done" || a.Decision != event.DecisionNothingFound)
		}))
		if !s.seen(e.Analyses, reports, operator) {
			whole = false
			remark("pictures_not_named")
		}
	}
	if e.Decision == event.DecisionNothingFound && !whole {
		e.Decision = event.DecisionUnknown
		if alarm != nil {
			say(*alarm)
		}
	}
	if s.alarm {
		remark("alarm_remembered")
	}
	if s.alarm || len(s.parts) > 0 && s.parts[0].Left == leftAlarm {
		e.Decision = event.DecisionSuspicious
	}
}

// seen reports whether those who found nothing have looked at each picture that is here. A
// report that names no pictures is about all; in a picture, it is about that one.
func (s *dicosScan) seen(analyses []event.XrayAnalysis, reports []*dicosPart, operator bool) bool {
	seen := map[string]bool{}
	for i, a := range analyses {
		if a.Decision != event.DecisionNothingFound || a.By == "ground_truth" || operator && a.By != "operator" {
			continue
		}
		h := reports[i].Head
		if len(h.Report.References) == 0 && !h.Image.Pixels {
			return true
		}
		seen[h.SOPInstance] = true
		for _, r := range h.Report.References {
			seen[r.Instance] = true
		}
	}
	return !slices.ContainsFunc(s.parts, func(p *dicosPart) bool { return p.Head.Image.Pixels && !seen[p.Head.SOPInstance] })
}

// testArticles are the words of the standard for what is scanned for a test.
var testArticles = []string{"NIST_FAT", "NIST_SAT", "OTK", "CTIQ", "CALIBRATION", "GIQ"}

// mode says what a scan was made for. Where the files contradict each other, it was an
// inspection: an alarm too many is better than one that is lost. A scan with a projected
// threat is a drill, unless a machine found something in it and does not say that it was
// that.
func (s *dicosScan) mode(e *event.XrayScan, reports []*dicosPart, truth bool, remark func(string)) string {
	operational, other, article, projected, live := false, false, false, false, false
	for _, p := range s.parts {
		operational = operational || p.Head.ScanType == "OPERATIONAL"
		other = other || p.Head.ScanType != "" && p.Head.ScanType != "OPERATIONAL"
		article = article || slices.Contains(testArticles, p.Head.TestArticle)
		projected = projected || p.Projected
	}
	for i, a := range e.Analyses {
		live = live || a.Decision == event.DecisionSuspicious && (a.By == "machine" || a.By == "aggregate") && !reports[i].Projected
	}
	if projected {
		remark("threat_projected")
	}
	switch {
	case article, projected && !live, truth && e.Decision != event.DecisionSuspicious:
		return event.ScanTest
	case operational && other:
		remark("scan_type_differs")
	case other:
		return event.ScanNonOperational
	}
	return event.ScanOperational
}
