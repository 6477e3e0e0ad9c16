package tsa

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// classicWidth is the length of a classic or setup record without its end.
const classicWidth = 30

// form is how the rest of a record after its tag is laid out.
type form int

const (
	formCounts form = iota
	formEnd         // GX
	formSpeed       // SP
	formSetup       // SG1 to SN2
	formRates       // NB1
	formText        // extended and unknown
)

// layout is a known tag and its form. A table and not a map, so that a tag is
// found, and its name taken, without allocating.
var layout = [...]struct {
	tag  Tag
	form form
}{
	{GS, formCounts}, {GA, formCounts}, {NS, formCounts}, {NA, formCounts},
	{GB, formCounts}, {NB, formCounts}, {GH, formCounts}, {GL, formCounts}, {NH, formCounts},
	{TT, formCounts}, {TC, formCounts},
	{GX, formEnd}, {SP, formSpeed},
	{SG1, formSetup}, {SG2, formSetup}, {SG3, formSetup}, {SN1, formSetup}, {SN2, formSetup},
	{NB1, formRates},
	{AB1, formText}, {AR, formText}, {AS, formText}, {AM, formText}, {AX, formText}, {AA, formText},
	{AC, formText}, {NC, formText}, {NX, formText}, {NZ, formText}, {RW, formText},
}

// Errors of Parse that are not about a field.
var (
	errNoComma = errors.New("no comma after the tag")
	errGuard   = errors.New("a guarded record ends in more than one #")
	errTag     = errors.New("the tag is not two to four capital letters and digits")
)

// Parse decodes one line without its end. It accepts guards and either form of
// time column. A tag that this package does not know gives a Record whose
// Known is false, as long as it looks like a tag; a classic tag with another
// shape than the portal's is an error, because the daily files of
// spectroscopic portals use the same tags with other meanings.
//
// It does not allocate for scan, background, end and speed records. The
// record's Fields alias line.
func Parse(line []byte) (Record, error) {
	var r Record
	if len(line) > MaxLine {
		return r, fmt.Errorf("%d characters, want at most %d", len(line), MaxLine)
	}
	if len(line) > 0 && line[0] == '!' {
		r.Guarded = true
		line = bytes.TrimSuffix(line[1:], []byte{'#'})
		if bytes.HasSuffix(line, []byte{'#'}) {
			return Record{}, errGuard
		}
	}
	comma := bytes.IndexByte(line, ',')
	if comma < 0 {
		return Record{}, errNoComma
	}
	if !isTag(line[:comma]) {
		return Record{}, errTag
	}
	tag := line[:comma]
	body, column := cutTime(line)
	r.Time = column
	if len(body) <= comma+1 {
		return Record{}, fmt.Errorf("%s: no field after the tag", tag)
	}
	fields := body[comma+1:]

	shape := formText
	for i := range layout {
		if string(layout[i].tag) == string(tag) {
			r.Tag, shape = layout[i].tag, layout[i].form
			break
		}
	}
	if r.Tag == "" {
		r.Tag = Tag(tag)
	}
	var err error
	switch shape {
	case formCounts:
		r.Counts, err = parseGroups(body)
	case formEnd:
		var g [Detectors]int
		if g, err = parseGroups(body); err == nil {
			r.Counter, r.NeutronBackground = g[0], g[1]
			r.Counts[2], r.Counts[3] = g[2], g[3]
		}
	case formSpeed:
		r.Speed, err = parseSpeed(body)
	case formSetup:
		r.Fields = fields
		r.Setup, err = parseSetup(r.Tag, body, fields)
	case formRates:
		r.Fields = fields
		r.NeutronRates, err = parseRates(fields)
	case formText:
		r.Fields = fields
		err = printable(fields)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%s: %w", tag, err)
	}
	return r, nil
}

// Rescue finds a whole record at the end of a line that does not parse, and
// tells where it begins: behind noise, or behind a record that lost its end and
// so shares a line with the next one. Only records of the classic shape are
// found, since nothing else is as sure a mark as a known tag and four groups of
// six right before a line end.
func Rescue(line []byte) (r Record, at int, ok bool) {
	at = len(line) - classicWidth
	if at <= 0 {
		return Record{}, 0, false
	}
	r, err := Parse(line[at:])
	if err != nil || !r.Known() || r.Fields != nil || r.Guarded {
		return Record{}, 0, false
	}
	return r, at, true
}

// isTag reports two to four capital letters and digits, a letter first.
func isTag(b []byte) bool {
	if len(b) < 2 || len(b) > 4 || b[0] < 'A' || b[0] > 'Z' {
		return false
	}
	for _, c := range b[1:] {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// parseGroups reads the four groups of six digits of a classic record.
func parseGroups(body []byte) (v [Detectors]int, err error) {
	if len(body) != classicWidth {
		return v, fmt.Errorf("%d characters, want %d", len(body), classicWidth)
	}
	for d := range v {
		group := body[3+7*d : 9+7*d]
		if body[2+7*d] != ',' {
			return v, fmt.Errorf("no comma at position %d", 2+7*d)
		}
		for _, c := range group {
			if c < '0' || c > '9' {
				return v, fmt.Errorf("field %d is %q, want six digits", d+1, group)
			}
			v[d] = v[d]*10 + int(c-'0')
		}
	}
	return v, nil
}

// parseSpeed reads SP: seconds per foot, mph, km/h, zero.
func parseSpeed(body []byte) (s Speed, err error) {
	if len(body) != classicWidth {
		return s, fmt.Errorf("%d characters, want %d", len(body), classicWidth)
	}
	for i, to := range []*float64{&s.SecondsPerFoot, &s.MPH, &s.KPH} {
		field := body[3+7*i : 9+7*i]
		if body[2+7*i] != ',' {
			return s, fmt.Errorf("no comma at position %d", 2+7*i)
		}
		var ok bool
		if *to, ok = decimal(field); !ok {
			return s, fmt.Errorf("field %d is %q, want a number of six characters", i+1, field)
		}
	}
	if string(body[23:]) != ",000000" {
		return s, fmt.Errorf("field 4 is %q, want 000000", body[24:])
	}
	return s, nil
}

// decimal reads digits with at most one point between them. Unlike
// strconv.ParseFloat it needs no string.
func decimal(b []byte) (v float64, ok bool) {
	scale := 0.0
	n := 0.0
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n*10 + float64(c-'0')
			if scale > 0 {
				scale *= 10
			}
		case c == '.' && scale == 0 && i > 0 && i < len(b)-1:
			scale = 1
		default:
			return 0, false
		}
	}
	if scale == 0 {
		scale = 1
	}
	return n / scale, true
}

// parseRates reads the four numbers of NB1.
func parseRates(fields []byte) (v [Detectors]float64, err error) {
	rest := fields
	for d := range v {
		field := rest
		if d < Detectors-1 {
			i := bytes.IndexByte(rest, ',')
			if i < 0 {
				return v, fmt.Errorf("%d fields, want %d", d+1, Detectors)
			}
			field, rest = rest[:i], rest[i+1:]
		}
		// ParseFloat alone would take 0x1p4 and 1_0 as well.
		_, ok := decimal(field)
		f, err := strconv.ParseFloat(string(field), 64)
		if !ok || err != nil || f > maxRate {
			return v, fmt.Errorf("field %d is %q, want a rate from 0 to %d", d+1, field, maxRate)
		}
		v[d] = f
	}
	return v, nil
}

// maxRate bounds a neutron rate in counts per second to what the classic record
// can hold.
const maxRate = 999_999

func printable(b []byte) error {
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			return fmt.Errorf("byte 0x%02x at position %d is not printable ASCII", c, i)
		}
	}
	return nil
}

// Layouts of the time columns. Files write the zone as hours alone; the longer
// spellings are accepted for the sake of other tools that write such files.
const dailyLayout = "15-04-05.000"

var fullLayouts = [...]string{
	"2006-01-02 15:04:05.000 -07",
	"2006-01-02 15:04:05.000 -0700",
	"2006-01-02 15:04:05.000 -07:00",
}

// day bounds the offset of a zone, in seconds; the time package takes larger ones.
const day = 24 * 60 * 60

// cutTime takes a time column off the end of a line.
func cutTime(line []byte) (body []byte, c TimeColumn) {
	i := bytes.LastIndexByte(line, ',')
	if i < 0 {
		return line, TimeColumn{}
	}
	last := line[i+1:]
	switch {
	case len(last) == len(dailyLayout) && last[2] == '-' && last[5] == '-':
		if t, err := time.Parse(dailyLayout, string(last)); err == nil {
			return line[:i], TimeColumn{FormDaily, time.Date(1, 1, 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)}
		}
	case len(last) >= len(fullLayouts[0]) && last[4] == '-' && last[10] == ' ' && last[13] == ':':
		for _, layout := range fullLayouts {
			// In UTC, so that the result does not depend on the machine's zone.
			t, err := time.ParseInLocation(layout, string(last), time.UTC)
			if err != nil {
				continue
			}
			if _, offset := t.Zone(); offset > -day && offset < day {
				return line[:i], TimeColumn{FormFull, t}
			}
		}
	}
	return line, TimeColumn{}
}
