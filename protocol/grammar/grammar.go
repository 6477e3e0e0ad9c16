// Package grammar reads what instruments send that nobody knows but the technician who
// describes them: how messages stand in the stream, which kinds of records there are, where
// in a record each value stands, what it is written in, and what its words mean. All of that
// is a Settings; a driver says with a Vocabulary what values there can be.
//
// What is not as the settings say is never taken for something: it is a Failure, with the
// place where reading stopped, what was wanted there and what stands there. A word that is not
// in the settings is a failure too, and never "no". The package does no I/O.
package grammar

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// Bounds of a grammar and of what is read by it.
const (
	// MaxKinds bounds the kinds of records, MaxFields the fields of one.
	MaxKinds  = 32
	MaxFields = 64
	// MaxColumns bounds the columns of a record, and MaxAt where a field of fixed width
	// may begin and end, in characters.
	MaxColumns = 256
	MaxAt      = 4096
	// MaxWords bounds the words of a field, MaxWord one of them in bytes.
	MaxWords = 64
	MaxWord  = 256
	// MaxValue bounds a value, in bytes.
	MaxValue = 1 << 10
	// MaxRecords bounds the records of one message.
	MaxRecords = 256
	// MaxMessage bounds a message in bytes where the settings say nothing.
	MaxMessage = 64 << 10
	// maxTextMessage bounds one that is no document: patterns run over it.
	maxTextMessage = 1 << 20
)

// Nothing is what a record tells that says only that the instrument is alive.
const Nothing = "nothing"

// Settings describe what an instrument sends.
type Settings struct {
	// Framing is how messages stand in the stream. By HTTP a request is a message.
	Framing framing.Framing `yaml:"framing"`
	// Root is the name of the element that all documents of XML have, if it is known.
	Root string `yaml:"root"`
	// Encoding is the code page of texts, one of textframe.Encodings. Empty is UTF-8.
	Encoding string `yaml:"encoding"`
	// Zone is the zone of times that are told without one, an IANA name. Empty is UTC.
	Zone string `yaml:"zone"`
	// Records are the kinds of records. The first one that fits a record is it.
	Records []Kind `yaml:"records"`
}

// Kind is one kind of records.
type Kind struct {
	// Name is what the technician calls it.
	Name string `yaml:"name"`
	// Starts and Matches choose the records that are of this kind, by how they begin and
	// by a pattern; Has and Element choose documents, by a place that is there and by the
	// name of the outermost element. All that are set must fit. A kind without any takes what comes.
	Starts  string `yaml:"starts"`
	Matches string `yaml:"matches"`
	Has     string `yaml:"has"`
	Element string `yaml:"element"`
	// Tells is what its values are of: a word of the driver's, or "nothing" for a record that
	// says only that the instrument is alive.
	Tells string `yaml:"tells"`
	// Separator is between columns. Columns is how many there must be; 0 for at least as
	// many as the fields need.
	Separator string `yaml:"separator"`
	Columns   int    `yaml:"columns"`
	// Pattern finds values by its named groups.
	Pattern string `yaml:"pattern"`
	// Each is a place in a document each of which is a record; places of fields count
	// from there, or with a slash before them from the document.
	Each string `yaml:"each"`
	// Fields are the values by their names.
	Fields map[string]Field `yaml:"fields"`
}

// Field is one value of a record.
type Field struct {
	// Column counts from 1. At and Length are for a fixed width: the first character, from 1
	// on, and how many. Group is one of the kind's pattern. Path is a place in a document:
	// names with slashes, "@name" at the end for an attribute, "name@type=gamma" for the one
	// whose attribute has that value. One of the four says where the value stands.
	Column int    `yaml:"column"`
	At     int    `yaml:"at"`
	Length int    `yaml:"length"`
	Group  string `yaml:"group"`
	Path   string `yaml:"path"`
	// Type is how it is written: one of Types. Empty is what the value is used for.
	Type string `yaml:"type"`
	// Decimal is the decimal sign, "." or ",".
	Decimal string `yaml:"decimal"`
	// Bit takes one bit of a whole or hexadecimal number, 0 for the lowest.
	Bit *int `yaml:"bit"`
	// Unit is that of the value, or UnitFrom the field of the record that tells it. To is
	// the unit that a value is told in which may have any.
	Unit     string `yaml:"unit"`
	UnitFrom string `yaml:"unit_from"`
	To       string `yaml:"to"`
	// Scale and Offset make the value: number x scale + offset, in Unit.
	Scale  *float64 `yaml:"scale"`
	Offset float64  `yaml:"offset"`
	// Range is the least and the largest value that is believed, in Unit.
	Range []float64 `yaml:"range"`
	// Missing are the words that say that there is no value, Over those that say that it is
	// more than the instrument can measure.
	Missing []string `yaml:"missing"`
	Over    []string `yaml:"over"`
	// Words say what the words mean: yes, no or unknown of what is or is not, another word
	// of texts. A word that is not among them can't be read.
	Words map[string]string `yaml:"words"`
	// Above makes a yes of a number that is above it.
	Above *float64 `yaml:"above"`
	// Layout is how a time is written: as Go writes 2 January 2006, 15:04:05.000, or unix or
	// unix_ms.
	Layout string `yaml:"layout"`
	// Kind and Deadband are for the driver.
	Kind     string  `yaml:"kind"`
	Deadband float64 `yaml:"deadband"`
	// Optional: a record need not have it.
	Optional bool `yaml:"optional"`
}

// How a value is written.
const (
	TypeNumber  = "number"
	TypeInteger = "integer"
	TypeHex     = "hex"
	TypeText    = "text"
	TypeTime    = "time"
)

// Types lists how values are written.
func Types() []string { return []string{TypeNumber, TypeInteger, TypeHex, TypeText, TypeTime} }

// Use is what a value is used for.
type Use int

// The uses.
const (
	// Number is a figure, Flag a yes or no, Text a word, Time a moment, Bytes what is written
	// in hexadecimal digits.
	Number Use = iota
	Flag
	Text
	Time
	Bytes
)

func (u Use) String() string {
	return [...]string{"a number", "a yes or no", "a text", "a time", "bytes"}[u]
}

// Target is a value that a driver has a use for.
type Target struct {
	Use Use
	// Quantities are those its unit must be of; nil for a number without one that counts.
	Quantities []string
}

// Vocabulary is what records of one kind can tell.
type Vocabulary struct {
	// Target finds a value by the name of its field. The error names the setting of the field
	// that is wrong, or says what names there are.
	Target func(name string, f Field) (Target, error)
	// Needs are fields that each record must have; of those in one list one is enough.
	Needs [][]string
}

// Problem is what is wrong with a setting.
type Problem struct{ text, hint string }

// Error has the path of the setting, the problem and the mend.
func (p *Problem) Error() string {
	if p.hint == "" {
		return p.text
	}
	return p.text + "; " + p.hint
}

// Parts are the path with the problem, and the mend.
func (p *Problem) Parts() (text, hint string) { return p.text, p.hint }

// Wrong makes a Problem.
func Wrong(path, text, hint string) *Problem { return &Problem{path + ": " + text, hint} }

// Format is a grammar that was checked.
type Format struct {
	frames *framing.Format
	marks  *textframe.Frames // for what a checksum should have been; nil for none
	marked textframe.Framing // of marks
	words  string            // the framing in words
	text   *textframe.Frames
	most   int
	kinds  []*kind
	// Explain looks also for where in a pattern a text stops to fit, which takes time.
	Explain bool
}

type kind struct {
	Kind
	matches, pattern *regexp.Regexp
	starts           string
	separator        string
	columns          int // at least
	fields           []*field
	document         bool
}

type field struct {
	name string
	Field
	use        Use
	helper     bool // tells the unit of another one
	quantities []string
	unit       string // by its first name
	scale      float64
	location   *time.Location
}

// Compile checks settings. The error joins all problems.
func Compile(s Settings, tells map[string]Vocabulary) (*Format, error) {
	c := &compiler{tells: tells}
	f := &Format{}
	c.framing(f, s)
	location, err := time.LoadLocation(s.Zone)
	if err != nil || s.Zone == "Local" {
		c.wrong("zone", fmt.Sprintf("%q is no time zone that is known", s.Zone), "take a name like Europe/Kyiv")
		location = time.UTC
	}
	switch {
	case len(s.Records) == 0:
		c.wrong("records", "there are none", "say what the instrument sends, as docs/own-devices.md shows")
	case len(s.Records) > MaxKinds:
		c.wrong("records", fmt.Sprintf("there are %d", len(s.Records)), fmt.Sprintf("take %d at most", MaxKinds))
	}
	for i, k := range s.Records {
		path := fmt.Sprintf("records: %d", i+1)
		if k.Name == "" {
			c.wrong(path, "the record has no name", "add name: ..., a word of your own")
		} else if slices.ContainsFunc(s.Records[:i], func(o Kind) bool { return o.Name == k.Name }) {
			c.wrong(path, fmt.Sprintf("there is a record %q already", k.Name), "give each its own name")
		} else {
			path = "records: " + k.Name
		}
		if x := c.kind(path, k, location); x != nil {
			f.kinds = append(f.kinds, x)
		}
	}
	return f, errors.Join(c.errs...)
}

type compiler struct {
	tells map[string]Vocabulary
	errs  []error
}

func (c *compiler) wrong(path, text, hint string) { c.errs = append(c.errs, Wrong(path, text, hint)) }

// failed adds an error in the form of package textframe: "setting: problem; mend".
func (c *compiler) failed(path string, err error) {
	text, hint, _ := strings.Cut(err.Error(), "; ")
	c.wrong(path, text, hint)
}

func (c *compiler) framing(f *Format, s Settings) {
	fr := s.Framing
	fr.Root = s.Root
	if fr.Most == 0 {
		fr.Most = MaxMessage
	}
	f.most = fr.Most
	marked := fr.Kind == framing.Lines || fr.Kind == framing.Marks
	switch {
	case fr.Kind == "":
		c.wrong("framing", "kind is missing", "add kind: one of "+strings.Join(framing.Kinds(), ", "))
		return
	case fr.Kind == framing.Lines && fr.End == "" && fr.Checksum.Kind != "":
		c.wrong("framing", "lines with a checksum need their end", `add end: \r\n, or \n, or \r, as the instrument sends it`)
		return
	case fr.Kind != framing.Documents && fr.Most > maxTextMessage:
		c.wrong("framing: max_frame", strconv.Itoa(fr.Most), fmt.Sprintf("take %d at most", maxTextMessage))
	}
	var err error
	if f.frames, err = fr.Compile(); err != nil {
		c.failed("framing", err)
		return
	}
	if f.text, err = (textframe.Framing{Encoding: s.Encoding}).Compile(); err != nil {
		c.errs = append(c.errs, err)
		return
	}
	start, end := fr.Start, fr.End
	if fr.Kind == framing.Marks {
		start, end = orElse(start, `\x02`), orElse(end, `\x03`)
	}
	if fr.Kind == framing.Lines {
		end = orElse(end, `\n`)
	}
	if marked && fr.Checksum.Kind != "" {
		t := fr.Framing
		t.Start, t.End = start, end
		f.marked = t
		f.marks, _ = t.Compile() // it has been compiled above
	}
	f.words = describe(fr, start, end)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// describe says a framing in words.
func describe(fr framing.Framing, start, end string) string {
	switch fr.Kind {
	case framing.ByLength:
		return "a length and so many bytes"
	case framing.Documents:
		if fr.Root != "" {
			return "documents <" + fr.Root + ">"
		}
		return "documents of XML or JSON"
	}
	words := "from " + start + " to " + end
	if start == "" {
		words = "lines that end with " + end
	}
	if k := fr.Checksum.Kind; k != "" {
		words += ", with the checksum " + k
	}
	return words
}

// Splitter makes a splitter for one connection.
func (f *Format) Splitter() framing.Splitter { return f.frames.Splitter() }

// Kinds lists the names of the kinds that tell something.
func (f *Format) Kinds(tells string) (names []string) {
	for _, k := range f.kinds {
		if k.Tells == tells {
			names = append(names, k.Name)
		}
	}
	return names
}

// Fields lists the names of the values that records of a kind tell.
func (f *Format) Fields(name string) (names []string) {
	for _, k := range f.kinds {
		if k.Name != name {
			continue
		}
		for _, x := range k.fields {
			if !x.helper {
				names = append(names, x.name)
			}
		}
	}
	return names
}

func (c *compiler) kind(path string, k Kind, location *time.Location) *kind {
	before := len(c.errs)
	x := &kind{Kind: k, columns: k.Columns}
	if len(k.Name) > MaxWord {
		c.wrong(path, "the name is too long", fmt.Sprintf("take %d bytes at most", MaxWord))
		return nil
	}
	if k.Starts != "" {
		if b, err := textframe.Bytes(k.Starts); err != nil {
			c.failed(path+": starts", err)
		} else {
			x.starts = string(b)
		}
	}
	x.matches = c.pattern(path+": matches", k.Matches)
	x.pattern = c.pattern(path+": pattern", k.Pattern)
	if k.Separator != "" {
		if b, err := textframe.Bytes(k.Separator); err != nil {
			c.failed(path+": separator", err)
		} else {
			x.separator = string(b)
		}
	}
	switch {
	case k.Columns < 0 || k.Columns > MaxColumns:
		c.wrong(path+": columns", strconv.Itoa(k.Columns), fmt.Sprintf("take 1 to %d", MaxColumns))
	case k.Columns > 0 && k.Separator == "":
		c.wrong(path+": columns", "there are columns and no separator", "add separator: what stands between them")
	case k.Separator != "" && k.Pattern != "":
		c.wrong(path+": pattern", "there is a separator too", "take one out")
	case len(k.Fields) > MaxFields:
		c.wrong(path+": fields", fmt.Sprintf("there are %d", len(k.Fields)), fmt.Sprintf("take %d at most", MaxFields))
		return nil
	}
	words, known := c.tells[k.Tells]
	switch {
	case k.Tells == "":
		c.wrong(path, "tells is missing", "add tells: one of "+c.tellable())
		return nil
	case k.Tells == Nothing:
		if len(k.Fields) > 0 {
			c.wrong(path+": fields", "a record that tells nothing has none", "take them out, or say what it tells: "+c.tellable())
		}
	case !known:
		c.wrong(path+": tells", fmt.Sprintf("%q is nothing that a record can tell", k.Tells), "take one of "+c.tellable())
		return nil
	case len(k.Fields) == 0:
		c.wrong(path, "fields are missing", "say where the values stand")
	}
	for _, f := range k.Fields {
		x.document = x.document || f.Path != ""
	}
	x.document = x.document || k.Has != "" || k.Element != "" || k.Each != ""
	for _, name := range slices.Sorted(maps.Keys(k.Fields)) {
		if f := c.field(path+": fields: "+name, name, k, words); f != nil {
			f.location = location
			x.columns = max(x.columns, f.Column)
			x.fields = append(x.fields, f)
		}
	}
	for _, of := range []struct{ key, place string }{{"has", k.Has}, {"each", k.Each}} {
		if of.place != "" {
			c.place(path+": "+of.key, of.place)
		}
	}
	if x.document && (k.Starts != "" || k.Matches != "" || k.Separator != "" || k.Pattern != "") {
		c.wrong(path, "it has places of documents (path, has, element, each) beside those of texts (starts, matches, separator, pattern)", "a record is a document or a text: take one of them out")
	}
	for _, need := range words.Needs {
		if !slices.ContainsFunc(need, func(n string) bool { _, has := k.Fields[n]; return has }) && len(c.errs) == before {
			c.wrong(path, fmt.Sprintf("a record that tells %s needs the field %s", k.Tells, strings.Join(need, " or ")), "add it to fields: where it stands, and how it is written")
		}
	}
	if len(c.errs) > before {
		return nil
	}
	return x
}

func (c *compiler) tellable() string {
	return strings.Join(append(slices.Sorted(maps.Keys(c.tells)), Nothing), ", ")
}

func (c *compiler) pattern(path, text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	if len(text) > textframe.MaxPattern {
		c.wrong(path, fmt.Sprintf("%d bytes", len(text)), fmt.Sprintf("take %d at most", textframe.MaxPattern))
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		c.wrong(path, strings.TrimPrefix(err.Error(), "error parsing regexp: "), "mend the pattern; a sign that stands for itself needs a backslash before it, as in \\*")
	}
	return re
}

func (c *compiler) place(path, place string) {
	if strings.Trim(place, "/") == "" || len(place) > MaxWord {
		c.wrong(path, fmt.Sprintf("%q is no place", shown(place)), "write names with slashes, as Reading/Dose, or Reading@unit for an attribute")
	}
}

func (c *compiler) field(path, name string, k Kind, words Vocabulary) *field {
	f := k.Fields[name]
	x := &field{name: name, Field: f, scale: 1}
	for _, other := range k.Fields {
		x.helper = x.helper || other.UnitFrom == name
	}
	target := Target{Use: Text}
	if !x.helper && words.Target != nil {
		var err error
		if target, err = words.Target(name, f); err != nil {
			c.failed(path, err)
			return nil
		}
	}
	x.use, x.quantities = target.Use, target.Quantities
	before := len(c.errs)
	c.where(path, f, k)
	c.number(path, x)
	c.unit(path, x, k)
	c.words(path, x)
	switch x.use {
	case Flag:
		if len(f.Words) == 0 && f.Above == nil && f.Bit == nil {
			c.wrong(path, "nobody can tell what means yes and what no", "add words: {A: yes, N: no}, or above: 0 for a number, or bit: 0 for a bit of one")
		}
	case Time:
		if f.Layout == "" {
			c.wrong(path, "layout is missing", `add layout: how 2 January 2006, 15:04:05 is written, for instance "2006-01-02 15:04:05", or unix, or unix_ms`)
		}
	}
	if f.Layout != "" && x.use != Time {
		c.wrong(path+": layout", name+" is no time", "take it out")
	}
	if len(c.errs) > before {
		return nil
	}
	return x
}

// where checks the place of a value.
func (c *compiler) where(path string, f Field, k Kind) {
	ways := 0
	for _, set := range []bool{f.Column != 0, f.At != 0, f.Group != "", f.Path != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways != 1:
		c.wrong(path, "it needs one place", "say where it stands with one of column, at and length, group, or path")
	case f.Column != 0 && k.Separator == "":
		c.wrong(path+": column", "the record has no separator", `add separator: to the record, for instance separator: ","`)
	case f.Column < 0 || f.Column > MaxColumns || k.Columns > 0 && f.Column > k.Columns:
		most := MaxColumns
		if k.Columns > 0 {
			most = min(k.Columns, MaxColumns)
		}
		c.wrong(path+": column", strconv.Itoa(f.Column), fmt.Sprintf("take 1 to %d", most))
	case f.At < 0 || f.At > MaxAt:
		c.wrong(path+": at", strconv.Itoa(f.At), fmt.Sprintf("take 1 to %d; the first character is 1", MaxAt))
	case f.At != 0 && (f.Length < 1 || f.Length > MaxValue):
		c.wrong(path, "length is missing or wrong", fmt.Sprintf("add length: how many characters it has, 1 to %d", MaxValue))
	case f.At == 0 && f.Length != 0:
		c.wrong(path+": length", "it goes with at", "take it out, or say at which character the value begins")
	case f.Group != "" && k.Pattern == "":
		c.wrong(path+": group", "the record has no pattern", "add pattern: to the record, with a group (?P<"+shown(f.Group)+">...)")
	case f.Group != "":
		if re, err := regexp.Compile(k.Pattern); err == nil && re.SubexpIndex(f.Group) < 0 {
			c.wrong(path+": group", fmt.Sprintf("the pattern has no group %q", shown(f.Group)), "name it there: (?P<"+shown(f.Group)+">...)")
		}
	case f.Path != "":
		c.place(path+": path", f.Path)
	}
}

// number checks how a value is written.
func (c *compiler) number(path string, x *field) {
	f := x.Field
	if x.Type == "" {
		x.Type = map[Use]string{Number: TypeNumber, Flag: TypeText, Text: TypeText, Time: TypeTime, Bytes: TypeHex}[x.use]
		if f.Above != nil {
			x.Type = TypeNumber
		}
		if f.Bit != nil {
			x.Type = TypeInteger
		}
	}
	allowed := map[Use][]string{
		Number: {TypeNumber, TypeInteger, TypeHex}, Flag: Types()[:4], Text: {TypeText}, Time: {TypeTime}, Bytes: {TypeHex, TypeText},
	}[x.use]
	numeric := x.Type == TypeNumber || x.Type == TypeInteger || x.Type == TypeHex && x.use != Bytes
	switch {
	case !slices.Contains(Types(), x.Type):
		c.wrong(path+": type", fmt.Sprintf("%q is not known", shown(x.Type)), "take one of "+strings.Join(Types(), ", "))
	case !slices.Contains(allowed, x.Type):
		c.wrong(path+": type", fmt.Sprintf("%s is %s, and can't be written as %s", x.name, x.use, x.Type), "take one of "+strings.Join(allowed, ", "))
	case f.Decimal != "" && f.Decimal != "." && f.Decimal != ",":
		c.wrong(path+": decimal", fmt.Sprintf("%q", shown(f.Decimal)), `take "." or ","`)
	case f.Decimal != "" && x.Type != TypeNumber:
		c.wrong(path+": decimal", "only type: number has one", "take it out")
	case f.Bit != nil && (x.Type != TypeInteger && x.Type != TypeHex || *f.Bit < 0 || *f.Bit > 31):
		c.wrong(path+": bit", "it takes a bit of a number", "take 0 to 31, with type: integer or type: hex")
	case f.Bit != nil && f.Above != nil:
		c.wrong(path+": above", "there is a bit too", "take one out")
	case f.Above != nil && (x.use != Flag || !numeric):
		c.wrong(path+": above", "it makes a yes or no of a number", "take it out, or take the type number, integer or hex")
	case !numeric && (f.Scale != nil || f.Offset != 0 || f.Range != nil):
		c.wrong(path, "scale, offset and range are for numbers", "take them out")
	case f.Range != nil && (len(f.Range) != 2 || f.Range[0] > f.Range[1]):
		c.wrong(path+": range", "it is not two numbers, the least and the largest", "write for instance range: [0, 1000]")
	case f.Scale != nil && *f.Scale == 0:
		c.wrong(path+": scale", "0 would make all values the same", "take another number")
	case f.Over != nil && x.use != Number:
		c.wrong(path+": over", "only a number can be more than can be measured", "take it out")
	}
	if f.Scale != nil {
		x.scale = *f.Scale
	}
}

func (c *compiler) unit(path string, x *field, k Kind) {
	f := x.Field
	known := "take one of " + strings.Join(Units(x.quantities...), ", ")
	u, isKnown := lookupUnit(f.Unit)
	x.unit = u.name
	fits := len(x.quantities) == 0 || slices.Contains(x.quantities, u.quantity)
	to, toKnown := lookupUnit(f.To)
	helper, hasHelper := k.Fields[f.UnitFrom]
	switch {
	case x.use != Number:
		if f.Unit != "" || f.UnitFrom != "" || f.To != "" {
			c.wrong(path, x.name+" is "+x.use.String()+" and has no unit", "take unit, unit_from and to out")
		}
	case f.Unit != "" && f.UnitFrom != "":
		c.wrong(path+": unit_from", "there is a unit too", "take one out")
	case f.UnitFrom != "" && f.Range != nil:
		c.wrong(path+": range", "its unit is not known, since the record tells it", "take range out, or set unit if it is always the same")
	case f.UnitFrom != "" && (!hasHelper || f.UnitFrom == x.name):
		c.wrong(path+": unit_from", fmt.Sprintf("the record has no field %q", shown(f.UnitFrom)), "add it to fields: where the unit stands")
	case f.Unit != "" && !isKnown:
		c.wrong(path+": unit", fmt.Sprintf("%q is not known", shown(f.Unit)), known+"; scale makes others fit")
	case f.Unit != "" && !fits:
		c.wrong(path+": unit", fmt.Sprintf("%s is of %s and %s is not", u.name, u.quantity, x.name), known)
	case f.Unit == "" && f.UnitFrom == "" && len(x.quantities) > 0:
		c.wrong(path, "unit is missing", "add unit: the one that the instrument counts in, "+known)
	case f.To != "" && len(x.quantities) > 0:
		c.wrong(path+": to", x.name+" has a unit of its own that it is told in", "take it out")
	case f.To != "" && (!toKnown || f.Unit == "" || to.quantity != u.quantity):
		c.wrong(path+": to", fmt.Sprintf("%q does not go with the unit %q", shown(f.To), shown(f.Unit)), "set unit and to, both of one quantity")
	}
	if f.UnitFrom == "" || !hasHelper {
		return
	}
	for word, name := range helper.Words {
		if u, ok := lookupUnit(name); !ok || len(x.quantities) > 0 && !slices.Contains(x.quantities, u.quantity) {
			c.wrong("records: "+k.Name+": fields: "+f.UnitFrom+": words", fmt.Sprintf("%q is %q, which is no unit of %s", shown(word), shown(name), x.name), known)
		}
	}
}

// What flags' words may mean.
var meanings = map[string]string{"yes": "yes", "no": "no", "unknown": "unknown", "true": "yes", "false": "no"}

func (c *compiler) words(path string, x *field) {
	f := x.Field
	if len(f.Words)+len(f.Missing)+len(f.Over) > MaxWords {
		c.wrong(path+": words", "there are too many", fmt.Sprintf("take %d at most", MaxWords))
		return
	}
	list := slices.Concat(f.Missing, f.Over, slices.Sorted(maps.Keys(f.Words)))
	for i, w := range list {
		if len(w) > MaxWord || w != strings.Trim(w, blanks) {
			c.wrong(path, fmt.Sprintf("the word %q is too long, or has blanks around it", shown(w)), "write it without the blanks around; they do not count")
		} else if slices.Contains(list[:i], w) {
			c.wrong(path, fmt.Sprintf("the word %q is in more than one of words, missing and over", shown(w)), "it can mean one thing only")
		}
	}
	if len(f.Words) == 0 {
		return
	}
	switch x.use {
	case Flag:
		if f.Above != nil {
			c.wrong(path+": above", "there are words too", "take one of them out")
			return
		}
		had := map[string]bool{}
		for _, w := range slices.Sorted(maps.Keys(f.Words)) {
			m, ok := meanings[f.Words[w]]
			if !ok {
				c.wrong(path+": words", fmt.Sprintf("%q is %q", shown(w), shown(f.Words[w])), "a word means yes, no or unknown")
				return
			}
			had[m] = true
		}
		if !had["yes"] || !had["no"] {
			c.wrong(path+": words", "they need one for yes and one for no", "add the other one: without it nobody could tell them apart")
		}
	case Text:
	default:
		c.wrong(path+": words", x.name+" is "+x.use.String()+" and has none", "missing and over are for words in place of a number")
	}
}

// blanks are what may stand around a value.
const blanks = " \t\r\n\x00"

// shown bounds what an error repeats.
func shown(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
