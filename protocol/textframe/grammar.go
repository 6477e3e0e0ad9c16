// Package textframe reads and writes what plate readers send whose output is a
// template that somebody wrote at the site: a text between a start and an end,
// perhaps with a checksum, in some code page. All of that is a Grammar. The
// package knows no vendor; a profile does. Other instruments send texts of the same
// kind with other fields (Vocabulary).
//
// Framing cuts and checks, Grammar finds the fields in a text, Splitter takes a
// stream of bytes apart. Patterns are those of package regexp, whose time is
// linear in the text whatever the pattern.
package textframe

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// Bounds of a grammar and of what is read by it.
const (
	// MaxFrame bounds a frame in bytes, and is what Framing.Most may be at most:
	// templates may hold pictures.
	MaxFrame = 16 << 20
	// defaultMost is Framing.Most where it is not set.
	defaultMost = 64 << 10
	// MaxMark bounds a start, an end or a separator, in bytes.
	MaxMark = 64
	// MaxPattern bounds a pattern, in bytes.
	MaxPattern = 4 << 10
	// MaxColumns bounds the columns.
	MaxColumns = 64
	// MaxValue bounds a value in bytes; a longer one is cut. Pictures are bounded by
	// the frame.
	MaxValue = 1 << 10
	// MinIdle and MaxIdle bound the pause that ends a frame.
	MinIdle = time.Millisecond
	MaxIdle = time.Minute
	// maxJunk is how many bytes that are no frame make one report.
	maxJunk = 4 << 10
	// maxStarts bounds where in one piece a frame is tried to begin.
	maxStarts = 16
)

// Framing is how a text stands in a stream of bytes.
type Framing struct {
	// Start and End are what a frame begins and ends with. Both may be empty.
	// \r, \n, \t, \\ and \x02 (two hexadecimal digits) are understood. A frame
	// without an end lasts until the next start, or until a pause. The end \n takes a
	// \r before it along.
	Start string `yaml:"start"`
	End   string `yaml:"end"`
	// Checksum stands in the frame unless its kind is empty.
	Checksum Checksum `yaml:"checksum"`
	// Encoding is the code page of the text, one of Encodings. Empty is UTF-8.
	Encoding string `yaml:"encoding"`
	// Idle is the pause after which the reader sends no more of the frame: it ends
	// one without an end, and what was begun of one with an end is then broken
	// off. 0 is no such pause.
	Idle time.Duration `yaml:"idle_gap"`
	// Most bounds a frame in bytes, up to MaxFrame; 0 is 64 KiB.
	Most int `yaml:"max_frame"`
}

// Grammar is a template, seen from its reader.
type Grammar struct {
	Framing `yaml:",inline"`
	// Pattern matches the text; its named groups are the fields.
	Pattern string `yaml:"pattern"`
	// Separator and Columns are for a text of columns, in place of Pattern. A column
	// that does not matter has the name "".
	Separator string   `yaml:"separator"`
	Columns   []string `yaml:"columns"`
	// Parts are patterns for one field each, in place of Pattern, for texts whose
	// parts come in any order. The field is the first group in parentheses.
	Parts map[string]string `yaml:"parts"`
	// Heartbeat matches texts that say only that the reader is alive.
	Heartbeat string `yaml:"heartbeat"`
	// Base64 lists fields that are sent in base64. Pictures always are.
	Base64 []string `yaml:"base64"`
	// Escapes is how the text escapes characters in values: "" not at all, "xml" or
	// "json".
	Escapes string `yaml:"escapes"`
}

// The fields that a grammar can have.
const (
	Plate        = "plate"
	Country      = "country"
	Confidence   = "confidence"
	Direction    = "direction"
	Date         = "date" // stands before Time if there are both
	Time         = "time"
	Camera       = "camera"
	Lane         = "lane"
	ID           = "id"      // of the message
	NoRead       = "no_read" // if it is there and not empty, no plate was read
	PlateType    = "plate_type"
	PlateColor   = "plate_color"
	VehicleType  = "vehicle_type"
	VehicleColor = "vehicle_color"
	VehicleMake  = "vehicle_make"
	VehicleModel = "vehicle_model"
	Speed        = "speed" // km/h
	Trigger      = "trigger"
	List         = "list"
	Model        = "model"
	Serial       = "serial"
	Wiegand      = "wiegand" // a frame as digits 0 and 1
	Picture      = "picture"
	PlatePicture = "plate_picture"
)

var fieldNames = []string{
	Plate, Country, Confidence, Direction, Date, Time, Camera, Lane, ID, NoRead, PlateType, PlateColor, VehicleType, VehicleColor,
	VehicleMake, VehicleModel, Speed, Trigger, List, Model, Serial, Wiegand, Picture, PlatePicture,
}

// Fields lists the fields that a grammar can have.
func Fields() []string { return slices.Clone(fieldNames) }

// Vocabulary is what the fields of a grammar may be.
type Vocabulary struct {
	// Names are those of all fields.
	Names []string
	// Told are those of which a message needs one; empty for none.
	Told []string
	// Pictures are those that hold a picture in base64.
	Pictures []string
}

// plates is the vocabulary of plate readers.
var plates = Vocabulary{Names: fieldNames, Told: []string{Plate, NoRead, Wiegand}, Pictures: []string{Picture, PlatePicture}}

var encodings = map[string]encoding.Encoding{
	"utf-8": nil, "windows-1250": charmap.Windows1250, "windows-1251": charmap.Windows1251, "windows-1252": charmap.Windows1252,
	"windows-1253": charmap.Windows1253, "windows-1254": charmap.Windows1254, "iso-8859-1": charmap.ISO8859_1,
	"iso-8859-2": charmap.ISO8859_2, "iso-8859-5": charmap.ISO8859_5, "iso-8859-7": charmap.ISO8859_7, "iso-8859-9": charmap.ISO8859_9,
	"koi8-r": charmap.KOI8R, "koi8-u": charmap.KOI8U, "cp866": charmap.CodePage866, "gbk": simplifiedchinese.GBK,
	"gb18030": simplifiedchinese.GB18030,
}

// Encodings lists the code pages.
func Encodings() []string { return slices.Sorted(maps.Keys(encodings)) }

// Frames is a Framing that was checked.
type Frames struct {
	start, end []byte
	sum        checksum
	encoding   encoding.Encoding // nil is UTF-8
	idle       time.Duration
	most       int
}

// Compile checks a framing. The error names the setting and the mend.
func (f Framing) Compile() (*Frames, error) {
	c := &Frames{idle: f.Idle, most: f.Most}
	var err error
	if c.start, err = mark("start", f.Start); err != nil {
		return nil, err
	}
	if c.end, err = mark("end", f.End); err != nil {
		return nil, err
	}
	if c.sum, err = f.Checksum.compile(len(c.end) > 0); err != nil {
		return nil, err
	}
	if f.Encoding != "" {
		var ok bool
		if c.encoding, ok = encodings[f.Encoding]; !ok {
			return nil, fmt.Errorf("encoding: %q is not known; there are %s", shown(f.Encoding), strings.Join(Encodings(), ", "))
		}
	}
	if f.Idle != 0 && (f.Idle < MinIdle || f.Idle > MaxIdle) {
		return nil, fmt.Errorf("idle_gap: %s; take %s to %s, or 0 for none", f.Idle, MinIdle, MaxIdle)
	}
	if c.most == 0 {
		c.most = defaultMost
	}
	if c.most < 1 || c.most > MaxFrame {
		return nil, fmt.Errorf("max_frame: %d; take 1 to %d bytes, or 0 for %d", f.Most, MaxFrame, defaultMost)
	}
	return c, nil
}

// Idle is the pause after which the Splitter's Idle must be called; 0 is none.
func (f *Frames) Idle() time.Duration { return f.idle }

// Bare reports whether a text stands by itself, without a start, an end and a
// checksum.
func (f *Frames) Bare() bool { return len(f.start)+len(f.end) == 0 && f.sum.sum == nil }

// Ends reports whether a frame has an end. One without needs a pause, the end of a
// connection, or a message of its own.
func (f *Frames) Ends() bool { return len(f.end) > 0 }

// Bytes reads a text with the escapes of Framing.Start, up to MaxMark bytes.
func Bytes(text string) ([]byte, error) {
	b, err := unescape(text)
	if err == nil && len(b) > MaxMark {
		err = fmt.Errorf("%d bytes; take %d at most", len(b), MaxMark)
	}
	return b, err
}

func mark(name, text string) ([]byte, error) {
	b, err := Bytes(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// escapes are what may stand behind a backslash, beside x.
var escapes = map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', '\\': '\\'}

func unescape(s string) ([]byte, error) {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		if i == len(s) {
			return nil, errors.New(`a backslash at the end; a backslash itself is \\`)
		}
		if c, ok := escapes[s[i]]; ok {
			b = append(b, c)
			continue
		}
		if s[i] != 'x' || i+2 >= len(s) {
			return nil, fmt.Errorf(`\%c is not known; take \r, \n, \t, \\ or \x with two hexadecimal digits`, s[i])
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return nil, errors.New(`\x needs two hexadecimal digits, as in \x02`)
		}
		b = append(b, byte(n))
		i += 2
	}
	return b, nil
}

// Format is a Grammar that was checked.
type Format struct {
	*Frames
	words     Vocabulary
	pattern   *regexp.Regexp
	separator string
	columns   []string
	parts     map[string]*regexp.Regexp
	heartbeat *regexp.Regexp
	base64    []string
	escapes   string
}

// Compile checks the grammar of a plate reader. The error names the setting and the mend.
func (g Grammar) Compile() (*Format, error) { return g.CompileFor(plates) }

// CompileFor checks a grammar with other fields.
func (g Grammar) CompileFor(words Vocabulary) (*Format, error) {
	frames, err := g.Framing.Compile()
	if err != nil {
		return nil, err
	}
	f := &Format{Frames: frames, words: words, columns: g.Columns, base64: g.Base64, escapes: g.Escapes}
	ways := 0
	for _, given := range []bool{g.Pattern != "", len(g.Columns) > 0, len(g.Parts) > 0} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, errors.New("the grammar needs exactly one of pattern, columns and parts, to find the fields by")
	}
	var names []string
	if g.Pattern != "" {
		if f.pattern, err = pattern("pattern", g.Pattern); err != nil {
			return nil, err
		}
		names = f.pattern.SubexpNames()
	}
	if len(g.Columns) > 0 {
		if len(g.Columns) > MaxColumns {
			return nil, fmt.Errorf("columns: there are %d; take %d at most", len(g.Columns), MaxColumns)
		}
		separator, err := mark("separator", g.Separator)
		if err != nil {
			return nil, err
		}
		if len(separator) == 0 {
			return nil, errors.New("separator: columns need one")
		}
		f.separator, names = string(separator), g.Columns
	} else if g.Separator != "" {
		return nil, errors.New("separator: it needs columns; take it out, or name the columns")
	}
	if len(g.Parts) > MaxColumns {
		return nil, fmt.Errorf("parts: there are %d; take %d at most", len(g.Parts), MaxColumns)
	}
	f.parts = map[string]*regexp.Regexp{}
	for _, name := range slices.Sorted(maps.Keys(g.Parts)) {
		re, err := pattern("parts: "+shown(name), g.Parts[name])
		if err != nil {
			return nil, err
		}
		if re.NumSubexp() < 1 {
			return nil, fmt.Errorf("parts: the pattern of %s needs parentheses around the value", shown(name))
		}
		f.parts[name] = re
		names = append(names, name)
	}
	if err := words.check(names, g.Base64); err != nil {
		return nil, err
	}
	if g.Heartbeat != "" {
		if f.heartbeat, err = pattern("heartbeat", g.Heartbeat); err != nil {
			return nil, err
		}
	}
	if !slices.Contains([]string{"", "xml", "json"}, g.Escapes) {
		return nil, fmt.Errorf("escapes: %q is not known; take xml, json or nothing", shown(g.Escapes))
	}
	return f, nil
}

func (v Vocabulary) check(names, coded []string) error {
	had := map[string]bool{}
	for _, n := range names {
		switch {
		case n == "":
			continue
		case !slices.Contains(v.Names, n):
			return fmt.Errorf("there is no field %q; there are %s", shown(n), strings.Join(v.Names, ", "))
		case had[n]:
			return fmt.Errorf("the field %s is there twice", n)
		}
		had[n] = true
	}
	if len(v.Told) > 0 && !slices.ContainsFunc(v.Told, func(n string) bool { return had[n] }) {
		return fmt.Errorf("none of the fields %s is there, so nothing would ever be read", strings.Join(v.Told, ", "))
	}
	for _, n := range coded {
		if !had[n] {
			return fmt.Errorf("base64: there is no field %q in the pattern", shown(n))
		}
	}
	return nil
}

func pattern(name, text string) (*regexp.Regexp, error) {
	if len(text) > MaxPattern {
		return nil, fmt.Errorf("%s: %d bytes; take %d at most", name, len(text), MaxPattern)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return re, nil
}

// shown bounds what an error repeats.
func shown(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "..."
	}
	return s
}
