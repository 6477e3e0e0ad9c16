package grammar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/order"
	"github.com/lanepost/lanepost/protocol/sidecar"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// Message is what was found out about one record, or one message that makes none.
type Message struct {
	// Text is the message by its code page, with what is around it if the failure lies there.
	Text string
	// Kind and Tells are those of the record; empty if it is of no kind.
	Kind, Tells string
	// Values are by the names of the fields. One that the record need not have, and has not,
	// is not in it.
	Values map[string]Value
	// Tried are the kinds that it is not, with the reason, and Found the fields that were read,
	// in the order in which they were.
	Tried []Tried
	Found []Found
	// Failure is why it could not be read; nil if it was.
	Failure *Failure
}

// Value is one value.
type Value struct {
	// Raw is what the instrument wrote.
	Raw string
	// Missing: the instrument says that there is none, or that it does not know. Over: that
	// it is more than it can measure. The others do not count then.
	Missing, Over bool
	// Number is in Unit, the one that was set or told, by its first name; empty for none.
	Number float64
	Unit   string
	Flag   bool
	Text   string
	Bytes  []byte
	// Time is zero for one that is no time; Zoned is true if the instrument told its zone.
	Time  time.Time
	Zoned bool
}

// Tried is a kind that a message is not.
type Tried struct{ Kind, Why string }

// Found is a field that was read.
type Found struct {
	Name, Place string
	// From and To are where in the text, in bytes.
	From, To int
	// Read is what stands there, and Value what that means.
	Read, Value string
}

// Failure is where reading stopped.
type Failure struct {
	// Kind and Field are the record and the field; empty if it did not come so far.
	Kind, Field, Place string
	// From and To are where in the text, in bytes; From is below zero if no place can be told.
	From, To int
	// Want is what was wanted there, Got what stands there, and Hint what to do about it.
	Want, Got, Hint string
}

// Error tells nothing of what is in the message.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Kind != "" {
		fmt.Fprintf(&b, "record %s: ", f.Kind)
	}
	if f.Field != "" {
		fmt.Fprintf(&b, "field %s, %s: ", f.Field, f.Place)
	}
	return b.String() + "want " + f.Want
}

// Broken says of a piece that is no message where that shows. The text is the piece by its code page.
func (f *Format) Broken(p framing.Piece) Message {
	text, _ := f.text.Text(p.Bytes)
	m := Message{Text: text, Failure: &Failure{From: -1, Want: f.words, Got: p.Problem}}
	if f.marks == nil {
		return m
	}
	at, got, want, ok := f.marks.ChecksumOf(p.Bytes)
	if !ok || string(got) == string(want) {
		return m
	}
	m.Failure.From, m.Failure.To = f.at(p.Bytes, at), f.at(p.Bytes, at+len(got))
	m.Failure.Want, m.Failure.Got = "the checksum "+printable(want), printable(got)
	m.Failure.Hint = "the message is damaged; if all are so, the kind of the checksum or what it counts is another: see with_start, with_end, skip"
	if others := f.otherSums(p.Bytes); len(others) > 0 {
		m.Failure.Hint = "the message is damaged, or the checksum is another: for this one " + strings.Join(others, "; or ") + " would be right. Look whether it is for all"
	}
	return m
}

// otherSums are settings of the checksum by which a frame would be right.
func (f *Format) otherSums(frame []byte) (list []string) {
	if !f.Explain {
		return nil
	}
	for _, kind := range textframe.ChecksumKinds() {
		for n := range 4 {
			t := f.marked
			t.Checksum.Kind, t.Checksum.WithStart, t.Checksum.WithEnd = kind, n&1 != 0, n&2 != 0
			words := "kind: " + kind
			if t.Checksum.WithStart {
				words += ", with_start: true"
			}
			if t.Checksum.WithEnd {
				words += ", with_end: true"
			}
			other, err := t.Compile()
			if err != nil {
				continue
			}
			if _, err := other.Data(frame); err == nil && len(list) < 3 {
				list = append(list, words)
			}
		}
	}
	return list
}

// at is where in a text a byte of the message is.
func (f *Format) at(b []byte, n int) int {
	text, _ := f.text.Text(b[:n])
	return len(text)
}

func printable(b []byte) string {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return "hex " + hex.EncodeToString(b)
		}
	}
	return string(b)
}

// Blank reports whether a message says nothing.
func Blank(data []byte) bool { return len(strings.Trim(string(data), blanks)) == 0 }

// Decode reads a message: one record, or of a document as many as it has.
func (f *Format) Decode(data []byte) []Message {
	if len(data) > f.most {
		return []Message{{Failure: &Failure{From: -1, Want: fmt.Sprintf("a message of at most %d bytes", f.most), Got: fmt.Sprintf("%d bytes", len(data)), Hint: "set max_frame in framing if it may be so long"}}}
	}
	documents := slices.ContainsFunc(f.kinds, func(k *kind) bool { return k.document })
	texts := slices.ContainsFunc(f.kinds, func(k *kind) bool { return !k.document })
	if documents && (!texts || likeDocument(data)) {
		list := f.documents(data)
		if len(list) != 1 || !texts || list[0].Kind != "" {
			return list
		}
	}
	text, lossy := f.text.Text(data)
	return []Message{f.decodeText(text, lossy)}
}

// likeDocument reports whether a message begins as XML or JSON does, or as UTF-16.
func likeDocument(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return true
	}
	first := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), blanks)
	return len(first) > 0 && (first[0] == '<' || first[0] == '{' || first[0] == '[')
}

// decodeText reads a text.
func (f *Format) decodeText(text string, lossy bool) Message {
	m := Message{Text: text}
	for _, k := range f.kinds {
		if k.document {
			m.Tried = append(m.Tried, Tried{k.Name, "it is for documents of XML or JSON"})
			continue
		}
		if why, at := f.fits(k, text); why != "" {
			if at != nil && (m.Failure == nil || at.From > m.Failure.From) {
				m.Failure = at
			}
			m.Tried = append(m.Tried, Tried{k.Name, why})
			continue
		}
		m.Kind, m.Tells, m.Failure = k.Name, k.Tells, nil
		f.readText(&m, k, lossy)
		return m
	}
	if m.Failure == nil {
		m.Failure = &Failure{From: -1}
	}
	m.Failure.Got = "none of them"
	m.Failure.Want, m.Failure.Kind = "a record that is described: "+f.names(), ""
	m.Failure.Hint = "add a record of this kind; if it says nothing of use, with tells: nothing"
	return m
}

func (f *Format) names() string {
	var names []string
	for _, k := range f.kinds {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// fits says why a text is not of a kind; empty if it is.
func (f *Format) fits(k *kind, text string) (why string, at *Failure) {
	switch {
	case k.starts != "" && !strings.HasPrefix(text, k.starts):
		n := 0
		for n < min(len(text), len(k.starts)) && text[n] == k.starts[n] {
			n++
		}
		return fmt.Sprintf("it does not begin with %q", k.starts), &Failure{From: n, To: n + 1}
	case k.matches != nil && !k.matches.MatchString(text):
		return "it is not as matches says", f.stopped(k.matches, text)
	case k.pattern != nil && k.starts == "" && k.matches == nil && !k.pattern.MatchString(text):
		return "it is not as the pattern says", f.stopped(k.pattern, text)
	}
	return "", nil
}

// stopped finds where a text stops to be as a pattern says.
func (f *Format) stopped(re *regexp.Regexp, text string) *Failure {
	if !f.Explain {
		return nil
	}
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil || tree.Op != syntax.OpConcat {
		return nil
	}
	for n := len(tree.Sub) - 1; n > 0; n-- {
		part, err := regexp.Compile((&syntax.Regexp{Op: syntax.OpConcat, Sub: tree.Sub[:n]}).String())
		if err != nil {
			return nil
		}
		if at := part.FindStringIndex(text); at != nil {
			rest := (&syntax.Regexp{Op: syntax.OpConcat, Sub: tree.Sub[n:]}).String()
			if inner, is := strings.CutPrefix(rest, "(?-m:"); is { // what it says of $ is of no use here
				rest = strings.TrimSuffix(inner, ")")
			}
			return &Failure{From: at[1], To: at[1] + 1, Want: "the rest of the pattern, " + rest}
		}
	}
	return nil
}

// readText reads the fields of a text.
func (f *Format) readText(m *Message, k *kind, lossy bool) {
	var columns [][2]int
	if k.separator != "" {
		from := 0
		for {
			i := strings.Index(m.Text[from:], k.separator)
			if i < 0 || len(columns) == MaxColumns {
				columns = append(columns, [2]int{from, len(m.Text)})
				break
			}
			columns = append(columns, [2]int{from, from + i})
			from += i + len(k.separator)
		}
		switch {
		case k.Columns > 0 && len(columns) > k.Columns:
			extra := columns[k.Columns]
			m.fail(k, nil, extra[0], extra[1], fmt.Sprintf("%d columns", k.Columns), fmt.Sprintf("%d", len(columns)), "set columns to how many there are; take columns out if that differs")
			return
		case k.Columns > 0 && len(columns) < k.Columns:
			m.fail(k, nil, len(m.Text), len(m.Text), fmt.Sprintf("%d columns", k.Columns), fmt.Sprintf("%d", len(columns)), "set columns to how many there are; take columns out if that differs")
			return
		}
	}
	var groups []int
	if k.pattern != nil {
		if groups = k.pattern.FindStringSubmatchIndex(m.Text); groups == nil {
			m.fail(k, nil, -1, -1, "a text as the pattern says", "another", "compare the pattern with the text")
			if at := f.stopped(k.pattern, m.Text); at != nil {
				m.Failure.From, m.Failure.To, m.Failure.Want = at.From, at.To, at.Want
			}
			return
		}
	}
	f.readAll(m, k, func(x *field) (from, to int, there bool) {
		switch {
		case x.Column > 0:
			if x.Column > len(columns) {
				return len(m.Text), len(m.Text), false
			}
			return columns[x.Column-1][0], columns[x.Column-1][1], true
		case x.Group != "":
			if i := 2 * k.pattern.SubexpIndex(x.Group); groups[i] >= 0 {
				return groups[i], groups[i+1], true
			}
			return len(m.Text), len(m.Text), false
		}
		from, ok := characters(m.Text, 0, x.At-1)
		to, whole := characters(m.Text, from, x.Length)
		return from, to, ok && whole
	}, lossy)
}

// characters goes so many characters on.
func characters(s string, from, n int) (at int, ok bool) {
	for ; n > 0; n-- {
		if from >= len(s) {
			return len(s), false
		}
		_, size := utf8.DecodeRuneInString(s[from:])
		from += size
	}
	return from, true
}

// fail notes where reading stopped.
func (m *Message) fail(k *kind, x *field, from, to int, want, got, hint string) {
	m.Failure = &Failure{Kind: k.Name, From: from, To: to, Want: want, Got: got, Hint: hint}
	if x != nil {
		m.Failure.Field, m.Failure.Place = x.name, x.place()
	}
	m.Values = nil
}

func (x *field) place() string {
	switch {
	case x.Column > 0:
		return fmt.Sprintf("column %d", x.Column)
	case x.Group != "":
		return "group " + x.Group
	case x.Path != "":
		return x.Path
	case x.Length == 1:
		return fmt.Sprintf("character %d", x.At)
	}
	return fmt.Sprintf("characters %d to %d", x.At, x.At+x.Length-1)
}

// readAll reads the fields, those first that tell the units of others. The others follow in the
// order in which they stand.
func (f *Format) readAll(m *Message, k *kind, find func(*field) (from, to int, there bool), lossy bool) {
	m.Values = map[string]Value{}
	type placed struct {
		*field
		from, to int
		there    bool
	}
	var list []*placed
	for _, x := range k.fields {
		from, to, there := find(x)
		list = append(list, &placed{x, from, to, there})
	}
	order.Stable(list, func(a, b *placed) int {
		if a.helper != b.helper {
			if a.helper {
				return -1
			}
			return 1
		}
		return a.from - b.from
	})
	for _, x := range list {
		if !x.there {
			if x.Optional {
				continue
			}
			m.fail(k, x.field, x.from, x.to, "a value", "nothing: it ends before", "if not all records have it, set optional: true")
			return
		}
		raw := m.Text[x.from:x.to]
		if v, ok := f.value(m, k, x.field, raw, x.from, x.to, lossy); ok {
			m.Values[x.name] = v
			m.Found = append(m.Found, Found{Name: x.name, Place: x.place(), From: x.from, To: x.to, Read: raw, Value: v.words(x.field)})
			continue
		}
		return
	}
}

// words says a value for a person.
func (v Value) words(x *field) string {
	switch {
	case v.Over:
		return "more than can be measured"
	case v.Missing:
		return "not known"
	case x.use == Number:
		return strings.TrimSpace(strconv.FormatFloat(v.Number, 'f', -1, 64) + " " + v.Unit)
	case x.use == Flag && v.Flag:
		return "yes"
	case x.use == Flag:
		return "no"
	case x.use == Time:
		return v.Time.Format(time.RFC3339Nano)
	case x.use == Bytes:
		return strings.ToUpper(hex.EncodeToString(v.Bytes))
	}
	return strconv.Quote(v.Text)
}

var (
	spacedSign = regexp.MustCompile(`^([+-])[ ]+`)
	wholeForm  = regexp.MustCompile(`^[+-]?[0-9]{1,15}$`)
	hexForm    = regexp.MustCompile(`^(0[xX])?[0-9A-Fa-f]{1,12}$`)
	pointForm  = regexp.MustCompile(`^[+-]?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})([eE][+-]?[0-9]{1,2})?$`)
)

// value reads one value; false if that failed.
func (f *Format) value(m *Message, k *kind, x *field, raw string, from, to int, lossy bool) (v Value, ok bool) {
	text := strings.Trim(raw, blanks)
	fail := func(want, hint string) (Value, bool) {
		got := strconv.Quote(text)
		if text == "" {
			got = "nothing"
		}
		m.fail(k, x, from, to, want, got, hint)
		return Value{}, false
	}
	v.Raw = text
	switch {
	case len(text) > MaxValue:
		return fail(fmt.Sprintf("at most %d bytes", MaxValue), "")
	case slices.Contains(x.Missing, text):
		v.Missing = true
		return v, true
	case slices.Contains(x.Over, text):
		v.Over = true
		return v, true
	case lossy && strings.ContainsRune(text, utf8.RuneError):
		return fail("text of the code page", "some bytes are none of it: set encoding")
	case text == "" && x.Words[""] == "":
		hint := `if that means that there is no value, add missing: [""]`
		if x.use == Flag {
			hint = `say in words what an empty one means, as "": unknown`
		}
		return fail("a value", hint)
	}
	var number float64
	switch x.Type {
	case TypeText:
	case TypeTime:
		t, zoned, err := readTime(x.Layout, text, x.location)
		if err != nil {
			return fail("a time like "+x.Layout, "write the layout as the instrument would write 2 January 2006, 15:04:05")
		}
		v.Time, v.Zoned = t, zoned
		return v, true
	default:
		if x.use == Bytes {
			b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
			if err != nil {
				return fail("pairs of hexadecimal digits", "for another text take type: text")
			}
			v.Bytes = b
			return v, true
		}
		var want, hint string
		if number, want, hint = x.number(text); want != "" {
			return fail(want, hint)
		}
	}
	if x.Bit != nil {
		if number != math.Trunc(number) || number < 0 || number >= 1<<32 {
			return fail("a number of 32 bits at most", "")
		}
		number = float64(uint64(number) >> *x.Bit & 1)
		text = strconv.Itoa(int(number))
	} else if x.Type != TypeText {
		number = tidy(number*x.scale + x.Offset)
		if x.Range != nil && !(number >= x.Range[0] && number <= x.Range[1]) {
			return fail(fmt.Sprintf("a number from %g to %g", x.Range[0], x.Range[1]), "range has the bounds; it is never cut to them")
		}
	}
	switch x.use {
	case Number:
		v.Number = number
		return f.inUnit(m, v, x, fail)
	case Flag:
		return x.flag(v, text, number, fail)
	case Bytes:
		v.Bytes = []byte(text)
	case Text:
		if v.Text = text; len(x.Words) > 0 {
			var known bool
			if v.Text, known = x.Words[text]; !known {
				return fail("a word that is in words", "add it, with what it means")
			}
		}
	}
	return v, true
}

// number reads a number; want is what it had to be, if it is none.
func (x *field) number(text string) (v float64, want, hint string) {
	text = spacedSign.ReplaceAllString(text, "$1")
	var err error
	switch x.Type {
	case TypeInteger:
		if want = "a whole number"; wholeForm.MatchString(text) {
			v, err = strconv.ParseFloat(text, 64)
			want = ""
		}
	case TypeHex:
		if want = "a hexadecimal number"; hexForm.MatchString(text) {
			var n uint64
			n, err = strconv.ParseUint(strings.TrimPrefix(strings.ToLower(text), "0x"), 16, 64)
			v, want = float64(n), ""
		}
	default:
		sign, other := orElse(x.Decimal, "."), ","
		if sign == "," {
			other = "."
		}
		want = fmt.Sprintf("a number with the decimal sign %q", sign)
		plain := text
		if sign == "," {
			plain = strings.Replace(strings.ReplaceAll(text, ".", "?"), ",", ".", 1)
		}
		if pointForm.MatchString(plain) {
			v, err = strconv.ParseFloat(plain, 64)
			want = ""
		} else if strings.Count(text, other) == 1 && pointForm.MatchString(strings.Replace(text, other, ".", 1)) {
			hint = fmt.Sprintf("set decimal: %q", other)
		}
	}
	if want != "" && hint == "" {
		hint = "if this word means that there is no value, add it to missing"
		if x.use == Number {
			hint += "; if it means more than can be measured, to over"
		}
	}
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, "a number that a computer can hold", ""
	}
	return v, want, hint
}

// flag reads a yes or no.
func (x *field) flag(v Value, text string, number float64, fail func(want, hint string) (Value, bool)) (Value, bool) {
	switch {
	case len(x.Words) > 0:
		switch meanings[x.Words[text]] {
		case "yes":
			v.Flag = true
		case "no":
		case "unknown":
			v.Missing = true
		default:
			return fail("a word that is in words", "add it, with what it means: yes, no or unknown. A word that nobody knows is never taken for no")
		}
	case x.Above != nil:
		v.Flag = number > *x.Above
	default:
		v.Flag = number != 0
	}
	return v, true
}

// inUnit gives a number its unit.
func (f *Format) inUnit(m *Message, v Value, x *field, fail func(want, hint string) (Value, bool)) (Value, bool) {
	v.Unit = x.unit
	if x.UnitFrom != "" {
		told, there := m.Values[x.UnitFrom]
		u, known := lookupUnit(told.Text)
		if !there || told.Missing || !known || len(x.quantities) > 0 && !slices.Contains(x.quantities, u.quantity) {
			v, ok := fail("a unit of "+x.name+" in the field "+x.UnitFrom, "say in the words of "+x.UnitFrom+" which unit the instrument's word is, as K: kg")
			m.Failure.Got = strconv.Quote(told.Raw)
			return v, ok
		}
		v.Unit = u.name
	}
	if x.To != "" {
		out, ok := Convert(v.Number, v.Unit, x.To)
		if !ok {
			return fail("a value that can be told in "+x.To, "")
		}
		u, _ := lookupUnit(x.To)
		v.Number, v.Unit = out, u.name
	}
	return v, true
}

// firstYear and lastYear bound what is taken for a time: others are of a clock that was
// never set.
const firstYear, lastYear = 2000, 2199

var errTime = errors.New("no time")

func readTime(layout, text string, location *time.Location) (at time.Time, zoned bool, err error) {
	switch layout {
	case "unix", "unix_ms":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, false, err
		}
		if layout == "unix" {
			at = time.Unix(n, 0)
		} else {
			at = time.UnixMilli(n)
		}
		at, zoned = at.UTC(), true
	default:
		if at, err = time.ParseInLocation(layout, text, location); err != nil {
			return time.Time{}, false, err
		}
		zoned = strings.Contains(layout, "Z07") || strings.Contains(layout, "-07")
	}
	if at.Year() < firstYear || at.Year() > lastYear {
		return time.Time{}, false, errTime
	}
	return at, zoned, nil
}

// documents reads the records of documents.
func (f *Format) documents(data []byte) []Message {
	text, err := sidecar.Decode(data, "")
	if err != nil {
		s, _ := f.text.Text(data)
		text = []byte(s)
	}
	whole := string(text)
	nodes, err := document.Parse(text, len(text))
	var list []Message
	for _, n := range nodes {
		for _, m := range f.document(whole, n) {
			if len(list) == MaxRecords {
				return append(list, Message{Text: whole, Failure: &Failure{From: -1, Want: fmt.Sprintf("at most %d records in one message", MaxRecords), Got: "more"}})
			}
			list = append(list, m)
		}
	}
	if err != nil {
		list = append(list, Message{Text: whole, Failure: &Failure{From: -1, Want: "a whole document of XML or JSON", Got: err.Error(), Hint: "if it is cut off, max_frame may be too small, or the framing another"}})
	}
	return list
}

// document reads the records of one document.
func (f *Format) document(text string, n *document.Node) []Message {
	m := Message{Text: text}
	for _, k := range f.kinds {
		switch {
		case !k.document:
			m.Tried = append(m.Tried, Tried{k.Name, "it is for texts"})
			continue
		case k.Element != "" && k.Element != n.Name:
			m.Tried = append(m.Tried, Tried{k.Name, fmt.Sprintf("its outermost element is %q, and not %q", shown(n.Name), k.Element)})
			continue
		case k.Has != "" && len(at(n, k.Has)) == 0:
			m.Tried = append(m.Tried, Tried{k.Name, "it has no " + k.Has})
			continue
		}
		m.Kind, m.Tells = k.Name, k.Tells
		if k.Each == "" {
			f.readNode(&m, k, n, n)
			return []Message{m}
		}
		var list []Message
		for _, one := range at(n, k.Each) {
			if len(list) > MaxRecords {
				break
			}
			x := m
			f.readNode(&x, k, n, one)
			list = append(list, x)
		}
		if len(list) == 0 {
			m.fail(k, nil, n.Offset, n.Offset, "at least one "+k.Each, "none", nearest(n))
			return []Message{m}
		}
		return list
	}
	m.Failure = &Failure{From: n.Offset, To: n.Offset, Want: "a record that is described: " + f.names(), Got: "none of them", Hint: "add a record of this kind; if it says nothing of use, with tells: nothing"}
	return []Message{m}
}

// at gives what stands at a place.
func at(n *document.Node, place string) []*document.Node {
	path, attribute := place, ""
	if i := strings.LastIndexByte(place, '@'); i >= 0 && !strings.ContainsAny(place[i:], "=/") {
		path, attribute = place[:i], place[i+1:]
	}
	nodes := []*document.Node{n}
	if strings.Trim(path, "/") != "" {
		nodes = sidecar.NodesAt(n, path)
	}
	if attribute == "" {
		return nodes
	}
	var list []*document.Node
	for _, n := range nodes {
		if v, there := n.Attrs[attribute]; there {
			list = append(list, &document.Node{Name: attribute, Text: strings.TrimSpace(v), Offset: n.Offset})
		}
	}
	return list
}

// readNode reads the fields of a part of a document.
func (f *Format) readNode(m *Message, k *kind, root, n *document.Node) {
	m.Values, m.Found = map[string]Value{}, nil
	list := slices.Clone(k.fields)
	order.Stable(list, func(a, b *field) int {
		switch {
		case a.helper == b.helper:
			return 0
		case a.helper:
			return -1
		}
		return 1
	})
	for _, x := range list {
		base := n
		if strings.HasPrefix(x.Path, "/") {
			base = root
		}
		nodes := at(base, x.Path)
		switch {
		case len(nodes) == 0 && x.Optional:
			continue
		case len(nodes) == 0:
			from, hint := stoppedAt(base, x.Path)
			if hint == "" {
				hint = "if not all records have it, set optional: true"
			}
			m.fail(k, x, from, from, "a value", "nothing", hint)
			return
		case len(nodes) > 1:
			second := valueAt(m.Text, nodes[1])
			m.fail(k, x, second, second, "one value", strconv.Itoa(len(nodes)), "choose one by an attribute, as name@type=gamma, or make a record of each with each: ...")
			return
		}
		from := valueAt(m.Text, nodes[0])
		to := from
		if t := nodes[0].Text; t != "" {
			if i := strings.Index(m.Text[min(from, len(m.Text)):], t); i >= 0 {
				from += i
				to = from + len(t)
			}
		}
		v, ok := f.value(m, k, x, nodes[0].Text, from, to, true)
		if !ok {
			return
		}
		m.Values[x.name] = v
		m.Found = append(m.Found, Found{Name: x.name, Place: x.place(), From: from, To: to, Read: nodes[0].Text, Value: v.words(x)})
	}
}

// valueAt is where in the text a node begins. Those of JSON begin right behind what is before.
func valueAt(text string, n *document.Node) int {
	from := min(n.Offset, len(text))
	for from < len(text) && strings.IndexByte(":, \t\r\n", text[from]) >= 0 {
		from++
	}
	return from
}

// stoppedAt follows a place as far as it goes, and says what is there instead.
func stoppedAt(n *document.Node, place string) (from int, hint string) {
	steps := strings.Split(strings.Trim(place, "/"), "/")
	here := n
	for i, step := range steps {
		found := at(n, strings.Join(steps[:i+1], "/"))
		if name, _, has := strings.Cut(step, "@"); len(found) == 0 && has { // without its attribute
			found = at(n, strings.Join(append(slices.Clone(steps[:i]), name), "/"))
		}
		if len(found) == 0 {
			break
		}
		here = found[0]
	}
	return here.Offset, nearest(here)
}

// nearest lists what there is in a node.
func nearest(n *document.Node) string {
	var names []string
	add := func(name string) {
		if name = shown(name); name != "" && !slices.Contains(names, name) && len(names) < 12 {
			names = append(names, name)
		}
	}
	for _, c := range n.Children {
		add(c.Name)
	}
	attributes := []string{}
	for a := range n.Attrs {
		attributes = append(attributes, "@"+a)
	}
	slices.Sort(attributes)
	for _, a := range attributes {
		add(a)
	}
	what := "the document"
	if n.Name != "" {
		what = shown(n.Name)
	}
	if len(names) == 0 {
		return "there is nothing in " + what
	}
	return "in " + what + " there is " + strings.Join(names, ", ")
}
