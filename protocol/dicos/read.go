package dicos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decode reads a file. With ErrTruncated it gives what there was of it.
func Decode(b []byte) (*Object, error) { return Read(bytes.NewReader(b)) }

// Read reads a file to its end, and passes over its pixel data. It holds no more than
// MaxExcerpt of it at a time. With ErrTruncated it gives what there was of it; other errors
// are those of r, ErrForm, ErrBounds and ErrSyntax.
func Read(r io.Reader) (*Object, error) {
	w := &walker{r: bufio.NewReader(r)}
	h, err := w.head()
	if err != nil {
		return nil, err
	}
	return w.object(h)
}

// DecodeDataset reads a data set without a head, as it comes over a network in a transfer
// syntax that was agreed on. It fails as Read does.
func DecodeDataset(syntax string, b []byte) (*Object, error) {
	return (&walker{r: bufio.NewReader(bytes.NewReader(b))}).object(head{syntax: strings.Trim(syntax, " \x00")})
}

// lastShown is the last element of a Sample: those that name operators and what was scanned
// come later, since elements are in the order of their numbers.
const lastShown = tagManufacturer

// Sample is what of the beginning of a file or a data set may be shown to find out what it is:
// what stands before the first element that may tell of a person. What is neither a file nor
// a data set is left as it is.
func Sample(b []byte) []byte {
	w := &walker{r: bufio.NewReader(bytes.NewReader(b))}
	h, err := w.head()
	if err != nil {
		if len(b) >= 132 && string(b[128:132]) == "DICM" {
			return b[:w.at]
		}
		// A data set begins with a small number of two bytes, or one of DICOS' group.
		if len(b) < 2 || b[1] != 0 && !(b[0] == 0x10 && b[1] == 0x40) {
			return b
		}
		w = &walker{r: bufio.NewReader(bytes.NewReader(b))}
	}
	implicit := w.implicit(h)
	for {
		start := w.at
		x, err := w.header(implicit, -1)
		if err != nil || x.tag > lastShown || w.element(x, 0, implicit, -1, false) != nil {
			return b[:start]
		}
	}
}

// implicit reports whether a data set does not say the types of its elements. In one that
// does, two capital letters are behind the first tag.
func (w *walker) implicit(h head) bool {
	if h.syntax != "" {
		return h.syntax == ImplicitLE
	}
	b, _ := w.r.Peek(6)
	return len(b) == 6 && (b[4] < 'A' || b[4] > 'Z' || b[5] < 'A' || b[5] > 'Z')
}

func (w *walker) object(h head) (*Object, error) {
	if h.syntax == bigEndian || h.syntax == deflated {
		return nil, fmt.Errorf("%w: %s", ErrSyntax, h.syntax)
	}
	ends := w.dataset(0, w.implicit(h), -1, true)
	if ends != nil && !errors.Is(ends, ErrTruncated) {
		return nil, ends
	}
	elements, err := decode(w.excerpt)
	if err != nil {
		return nil, err
	}
	o := objectOf(elements)
	o.TransferSyntax, o.WrongGroupLength = h.syntax, h.wrongLength
	if o.Version == "" {
		o.Version = h.version
	}
	o.Image.Pixels, o.Image.Encapsulated, o.Image.PixelBytes = w.pixels, w.encapsulated, w.pixelBytes
	o.Dropped += w.dropped
	return o, ends
}

// all are the values of an element as text.
func (s set) all(t Tag) []string {
	var list []string
	switch v := s[t].(type) {
	case []string:
		list = v
	case []float64:
		for _, x := range v {
			list = append(list, strconv.FormatFloat(x, 'g', -1, 64))
		}
	}
	if len(list) == 1 && list[0] == "" {
		return nil
	}
	return list
}

// text is the value of an element, several of them as they stand in the file.
func (s set) text(t Tag) string { return strings.Join(s.all(t), `\`) }

// word is the first value of an element, in capitals.
func (s set) word(t Tag) string {
	if list := s.all(t); len(list) > 0 {
		return strings.ToUpper(list[0])
	}
	return ""
}

// numbers are the values of an element as numbers, whatever its type. Those that are none
// are left out.
func (s set) numbers(t Tag) []float64 {
	var list []float64
	add := func(x float64) {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			list = append(list, x)
		}
	}
	switch v := s[t].(type) {
	case []float64:
		for _, x := range v {
			add(x)
		}
	default:
		for _, text := range s.all(t) {
			if x, err := strconv.ParseFloat(text, 64); err == nil {
				add(x)
			}
		}
	}
	return list
}

func (s set) number(t Tag) *float64 {
	if list := s.numbers(t); len(list) > 0 {
		return &list[0]
	}
	return nil
}

func (s set) whole(t Tag) *int {
	if x := s.number(t); x != nil && *x == math.Trunc(*x) && math.Abs(*x) < 1<<31 {
		n := int(*x)
		return &n
	}
	return nil
}

func (s set) count(t Tag) int {
	if n := s.whole(t); n != nil {
		return *n
	}
	return 0
}

// told is how many values an element has.
func (s set) told(t Tag) int {
	if v, ok := s[t].([]float64); ok {
		return len(v)
	}
	return len(s.all(t))
}

// point is a place or an extent; ok is false if one of its numbers is none.
func (s set) point(t Tag) (p [3]float64, ok bool) {
	list := s.numbers(t)
	copy(p[:], list)
	return p, len(list) == s.told(t)
}

// projected reports whether a set says that a threat was projected into the picture.
func (s set) projected() bool {
	return slices.ContainsFunc([]Tag{tagTIPType, tagTIP1, tagTIP2, tagTIP3}, func(t Tag) bool {
		switch v := s[t].(type) {
		case []set:
			return len(v) > 0
		case []float64:
			return slices.ContainsFunc(v, func(x float64) bool { return x != 0 })
		}
		return !slices.Contains([]string{"", "NONE", "NO", "N", "FALSE", "0"}, s.word(t))
	})
}

// items are those of a sequence, at most so many, and how many are left out.
func (s set) items(t Tag, most int) (list []set, dropped int) {
	items, _ := s[t].([]set)
	list = items[:min(len(items), most)]
	return list, len(items) - len(list)
}

func objectOf(s set) *Object {
	o := &Object{
		Version: s.word(tagVersion), SOPClass: s.text(tagSOPClass), SOPInstance: s.text(tagSOPInstance), Modality: s.word(tagModality),
		Inspected: Inspected{
			ID: s.text(tagOOI), Authority: s.text(tagOOIAuthority), IDType: s.word(tagOOIIDType), Type: s.word(tagOOIType), Descriptor: s.text(tagDescriptor),
		},
		ScanInstance: s.text(tagScanInstance), ScanID: s.text(tagScanID), ScanType: s.word(tagScanType), ScanDescription: s.text(tagDescription),
		Start:             clock(s.word(tagScanDate), s.word(tagScanTime)),
		AcquisitionStatus: s.word(tagAcquisition), TestArticle: s.word(tagTestArticle),
		Scanner: Scanner{
			Manufacturer: s.text(tagManufacturer), Model: s.text(tagModel), Serial: s.text(tagSerial), Software: s.text(tagSoftware),
			Machine: s.text(tagMachine), Location: s.text(tagLocation), Address: s.text(tagAddress), SubLocation: s.text(tagSubLocation),
		},
		Image: Image{
			Type: s.all(tagImageType), Rows: s.count(tagRows), Columns: s.count(tagColumns), Frames: max(s.count(tagFrames), 1), Samples: s.count(tagSamples),
			BitsAllocated: s.count(tagBitsAllocated), BitsStored: s.count(tagBitsStored), Photometric: s.word(tagPhotometric),
		},
	}
	others, dropped := s.items(tagOtherIDs, MaxParts)
	o.Dropped += dropped
	for _, x := range others {
		if id := x.text(tagOOI); id != "" {
			o.Inspected.OtherIDs = append(o.Inspected.OtherIDs, id)
		}
	}
	if o.Start.IsZero() && s.text(tagScanDate) != "" {
		o.WrongTimes++
	}
	o.Projected = s.projected()
	o.report(s)
	o.threats(s)
	return o
}

// report reads the head of a report, in whatever kind of object it stands.
func (o *Object) report(s set) {
	r := Report{
		Type: s.word(tagReportType), Decision: s.word(tagDecision), Abort: s.word(tagAbort), AbortReason: s.word(tagAbortReason),
		Algorithm: s.all(tagAlgorithm), Objects: s.whole(tagObjects), Alarms: s.whole(tagAlarms), Milliseconds: s.number(tagMilliseconds),
		AdditionalScreening: s.word(tagScreening),
	}
	r.DecisionTime, r.Zoned = moment(s.word(tagDecisionTime))
	if s[tagDecisionTime] != nil && r.DecisionTime.IsZero() && s.text(tagDecisionTime) != "" {
		o.WrongTimes++
	}
	told := !r.DecisionTime.IsZero() || slices.ContainsFunc([]Tag{tagReportType, tagDecision, tagAbort, tagAbortReason, tagObjects, tagAlarms, tagThreats, tagRepresent, tagAssess}, func(t Tag) bool {
		// Empty sequences and elements are normal, and say nothing.
		switch v := s[t].(type) {
		case []set:
			return len(v) > 0
		case []string:
			return s.text(t) != ""
		default:
			return v != nil
		}
	})
	if !told && o.SOPClass != ClassTDR {
		return
	}
	var dropped int
	operators, _ := s.items(tagOperator, 1)
	r.Operator = len(operators) > 0
	r.References, dropped = references(s, tagRefScans)
	o.Dropped += dropped
	o.Report = &r
}

// threats reads those of the sequence, and what stands beside it: some viewers write a
// threat into the picture itself.
func (o *Object) threats(s set) {
	items, dropped := s.items(tagThreats, MaxThreats)
	o.Dropped += dropped
	for _, i := range items {
		t := o.threat(i)
		t.ID, t.Projected = i.whole(tagThreatID), i.projected()
		o.Threats = append(o.Threats, t)
	}
	if t := o.threat(s); len(t.Representations)+len(t.Assessments) > 0 {
		t.ID = s.whole(tagThreatID)
		o.Threats = append(o.Threats, t)
	}
}

func (o *Object) threat(s set) (t Threat) {
	items, dropped := s.items(tagRepresent, MaxParts)
	o.Dropped += dropped
	for _, i := range items {
		r := Representation{
			Location: i.text(tagLocationText), Mass: i.number(tagMass), Density: i.number(tagDensity), ZEffective: i.number(tagZEffective), Volume: i.number(tagVolume),
		}
		r.References, dropped = references(i, tagRefInstances)
		o.Dropped += dropped
		regions, dropped := i.items(tagROI, MaxParts)
		o.Dropped += dropped
		for _, x := range regions {
			base, first := x.point(tagROIBase)
			extents, second := x.point(tagROIExtents)
			if !first || !second { // a wrong place would be worse than none
				o.Dropped++
				continue
			}
			region := Region{Base: base, Extents: extents}
			if bits, _ := x[tagROIBitmap].([]byte); len(bits) > 0 {
				region.Bitmap = bits
			}
			r.Regions = append(r.Regions, region)
		}
		corners := i.numbers(tagPolygon)
		if len(corners) != i.told(tagPolygon) {
			o.Dropped++
			corners = nil
		}
		for corner := range slices.Chunk(corners, 3) {
			if len(corner) < 3 || len(r.Polygon) == MaxPoints {
				o.Dropped++
				break
			}
			r.Polygon = append(r.Polygon, [3]float64(corner))
		}
		t.Representations = append(t.Representations, r)
	}
	items, dropped = s.items(tagAssess, MaxParts)
	o.Dropped += dropped
	for _, i := range items {
		t.Assessments = append(t.Assessments, Assessment{
			Category: i.word(tagCategory), Text: i.text(tagCategoryText), Ability: i.word(tagAbility), Flag: i.word(tagFlag), Probability: i.number(tagProbability),
		})
	}
	return t
}

func references(s set, t Tag) (list []Reference, dropped int) {
	items, dropped := s.items(t, MaxReferences)
	for _, i := range items {
		if r := (Reference{i.text(tagRefClass), i.text(tagRefInstance)}); r.Instance != "" {
			list = append(list, r)
		}
	}
	return list, dropped
}

// clock reads a date and a time. Old files have separators in them, and a time may be
// told to the hour only. It is zero if it is none, or in a year in which no scan was made.
func clock(date, at string) time.Time {
	date, at = strings.ReplaceAll(date, ".", ""), strings.ReplaceAll(at, ":", "")
	at, fraction, _ := strings.Cut(at, ".")
	if len(date) != 8 || len(at)%2 != 0 || len(at) > 6 {
		return time.Time{}
	}
	t, err := time.Parse("20060102150405", date+at+"000000"[len(at):])
	if err != nil {
		return time.Time{}
	}
	if t.Year() < minYear || t.Year() > maxYear {
		return time.Time{}
	}
	fraction = strings.TrimRight(fraction, " \x00")
	if len(fraction) > 9 {
		fraction = fraction[:9]
	}
	if n, err := strconv.ParseUint(fraction+"000000000"[len(fraction):], 10, 32); err == nil {
		t = t.Add(time.Duration(n))
	}
	return t
}

// moment reads a date with a time and perhaps a zone, as +0100.
func moment(text string) (t time.Time, zoned bool) {
	zone := ""
	if i := strings.LastIndexAny(text, "+-"); i >= 8 {
		text, zone = text[:i], text[i:]
	}
	if len(text) < 8 {
		return time.Time{}, false
	}
	if t = clock(text[:8], text[8:]); t.IsZero() || zone == "" {
		return t, false
	}
	offset, err := time.Parse("-0700", zone)
	if err != nil {
		return t, false
	}
	_, seconds := offset.Zone()
	return t.Add(-time.Duration(seconds) * time.Second), true
}
