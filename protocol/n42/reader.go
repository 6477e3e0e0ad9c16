package n42

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Options say how a document is read.
type Options struct {
	// MaxBytes bounds it; 0 for the package's MaxBytes.
	MaxBytes int
	// Zone is that of times which have none; nil for UTC.
	Zone *time.Location
	// MonthFirst is for dates like 05/06/2016; otherwise the day is first.
	MonthFirst bool
}

// Errors of a document that can't be read.
var (
	// ErrTooLarge says that a document goes beyond a bound.
	ErrTooLarge = errors.New("the document goes beyond a bound")
	// ErrNotN42 says that it is something else.
	ErrNotN42 = errors.New("it is no N42 document")
	// ErrNothing says that none of its values can be read.
	ErrNothing = errors.New("nothing that is measured in it can be read")
	errDTD     = errors.New("a document type definition, which no instrument sends and nobody must expand")
)

// reader goes through the elements of a document. It takes tokens as they stand, since
// instruments use prefixes that they do not declare, and holds what is open itself.
type reader struct {
	xml      *xml.Decoder
	doc      *Document
	zone     *time.Location
	month    bool
	open     []xml.Name // with the prefix in Space
	bindings []binding
	spaces   map[string][]string // the namespaces of each prefix, the innermost last
	rootNS   string              // that of the root, and its prefix
	rootPre  string
	inside   bool // the root is known
	results  bool // in AnalysisResults of the 2006 edition, where makers have elements of their own
	elements int
	channels int
	slices   int
	text     []byte
	coding   string // the compression that Data in a value says
	good     int    // values that could be read
	first    string // reason why one could not
}

// binding is a prefix that is declared, and how deep.
type binding struct {
	depth  int
	prefix string
}

// element is the start of one.
type element struct {
	name  string
	attrs []xml.Attr
}

func (e *element) attr(names ...string) string {
	for _, name := range names {
		for i := range e.attrs {
			if e.attrs[i].Name.Local == name {
				return e.attrs[i].Value
			}
		}
	}
	return ""
}

// plain makes a document UTF-8 without a byte order mark. Documents in UTF-16 are known by
// their mark, or by the zero byte beside the first <.
func plain(b []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return b[3:], nil
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		return from16(b[2:], false)
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		return from16(b[2:], true)
	case bytes.HasPrefix(b, []byte("<\x00")):
		return from16(b, false)
	case bytes.HasPrefix(b, []byte("\x00<")):
		return from16(b, true)
	}
	return b, nil
}

func from16(b []byte, big bool) ([]byte, error) {
	if len(b)%2 != 0 {
		return nil, errors.New("UTF-16 that ends in the middle of a character")
	}
	at := func(i int) rune {
		if big {
			return rune(b[i])<<8 | rune(b[i+1])
		}
		return rune(b[i+1])<<8 | rune(b[i])
	}
	out := make([]byte, 0, len(b)/2+len(b)/8)
	for i := 0; i < len(b); i += 2 {
		r := at(i)
		if utf16.IsSurrogate(r) {
			var low rune
			if i+3 < len(b) {
				low = at(i + 2)
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return nil, errors.New("UTF-16 with half a character")
			}
			i += 2
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

// charset is asked for what a declaration says. UTF-16 has been made UTF-8 before.
func charset(label string, r io.Reader) (io.Reader, error) {
	switch l := strings.ToLower(label); {
	case l == "utf-8" || l == "utf8" || l == "us-ascii" || l == "ascii" || strings.HasPrefix(l, "utf-16") || l == "ucs-2":
		return r, nil
	case l == "windows-1251" || l == "cp1251":
		return charmap.Windows1251.NewDecoder().Reader(r), nil
	case l == "windows-1250" || l == "cp1250":
		return charmap.Windows1250.NewDecoder().Reader(r), nil
	case l == "iso-8859-1" || l == "latin1" || l == "windows-1252":
		return charmap.Windows1252.NewDecoder().Reader(r), nil
	}
	return nil, fmt.Errorf("the encoding %q is not known", cut(label, 32))
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// Decode reads one document.
//
// A document that is not well-formed, holds characters that XML does not allow, or goes
// beyond a bound is refused as a whole. Of one that can be read, a value which can't be is
// flagged and left out, so that a spectrum which is damaged hides no alarm; if there is no
// value at all, it is refused with ErrNothing.
func Decode(b []byte, o Options) (*Document, error) {
	most := o.MaxBytes
	if most == 0 {
		most = MaxBytes
	}
	if len(b) > most {
		return nil, fmt.Errorf("%w: it has %d bytes, and at most %d are read", ErrTooLarge, len(b), most)
	}
	b, err := plain(b)
	if err != nil {
		return nil, err
	}
	b = bytes.Trim(b, "\x00 \t\r\n")
	if len(b) == 0 || b[0] != '<' {
		return nil, fmt.Errorf("%w: it does not begin with <", ErrNotN42)
	}
	b = version10(b)
	r := &reader{xml: xml.NewDecoder(bytes.NewReader(b)), doc: &Document{}, zone: o.Zone, month: o.MonthFirst}
	r.xml.CharsetReader = charset
	if r.zone == nil {
		r.zone = time.UTC
	}
	if err := r.children(func(e *element) error { return r.root(e, 0) }); err != nil {
		return nil, err
	}
	d := r.doc
	if d.Generation == "" {
		return nil, fmt.Errorf("%w: it has neither RadInstrumentData nor N42InstrumentData", ErrNotN42)
	}
	d.Instrument.finish()
	if len(d.Measurements)+len(d.Analyses)+len(d.Faults) == 0 {
		return nil, fmt.Errorf("%w: there is neither a measurement nor a result in it", ErrNothing)
	}
	if r.good == 0 && r.first != "" && len(d.Analyses)+len(d.Faults) == 0 && !slices.ContainsFunc(d.Measurements, func(m Measurement) bool { return len(m.Faults) > 0 }) {
		return nil, fmt.Errorf("%w: %s", ErrNothing, r.first)
	}
	r.check()
	return d, nil
}

// version10 calls a document of XML 1.1 one of 1.0: what 1.1 allows beside it are characters
// of control, which are refused where they stand.
func version10(b []byte) []byte {
	const longest = 128 // of a declaration
	head := b[:min(len(b), longest)]
	end := bytes.Index(head, []byte("?>"))
	if !bytes.HasPrefix(head, []byte("<?xml")) || end < 0 {
		return b
	}
	for _, v := range []string{`version="1.1"`, `version='1.1'`} {
		if i := bytes.Index(head[:end], []byte(v)); i >= 0 {
			b = bytes.Clone(b)
			b[i+len(v)-2] = '0'
			break
		}
	}
	return b
}

// harmless reports whether a directive defines nothing and names nothing outside of the
// document.
func harmless(d xml.Directive) bool {
	words := strings.Fields(cut(string(d), 256))
	return len(words) == 2 && words[0] == "DOCTYPE" && !bytes.ContainsAny(d, "[<>")
}

// maxWrapped is how deep a document may be in what wraps it.
const maxWrapped = 8

func (r *reader) root(e *element, depth int) error {
	switch e.name {
	case "RadInstrumentData", "N42InstrumentData":
		// Portals of 2006 put what each panel tells into one event.
		again := depth > 0 && e.name == "N42InstrumentData" && r.doc.Generation == Edition2006
		if r.doc.Generation != "" && !again {
			return fmt.Errorf("%w: there is a second %s in it", ErrNotN42, e.name)
		}
		name := r.open[len(r.open)-1]
		r.rootPre, r.rootNS, r.inside = name.Space, r.uri(name.Space), true
		defer func() { r.inside = false }()
		if e.name == "RadInstrumentData" {
			r.doc.Generation = Edition2012
			r.doc.UUID = r.bound(e.attr("n42DocUUID"))
			return r.data2012()
		}
		r.doc.Generation = Edition2006
		r.doc.UUID = r.bound(e.attr("UUID", "n42DocUUID"))
		return r.data2006()
	case "EventNumber":
		v, err := r.string()
		r.doc.EventNumber = v
		return err
	case "AnalysisResults": // portals of the 2006 generation put it beside the measurements
		if depth > 0 {
			return r.analysis2006(e)
		}
	}
	if depth >= maxWrapped {
		return nil
	}
	if depth == 0 {
		if r.doc.Wrapper != "" || r.doc.Generation != "" {
			return fmt.Errorf("%w: there is another root, %s, in it", ErrNotN42, cut(e.name, 64))
		}
		defer func() { r.doc.Wrapper = cut(e.name, 64) }()
	}
	return r.children(func(e *element) error { return r.root(e, depth+1) })
}

// children calls f with each element in the open one, until that ends. What f leaves of an
// element is passed over. Elements of other namespaces are left out.
func (r *reader) children(f func(*element) error) error { return r.each(f, nil) }

// each is children that adds the text which stands directly in the open element to words,
// if that is not nil.
func (r *reader) each(f func(*element) error, words *[]byte) error {
	base := len(r.open)
	for {
		token, err := r.xml.RawToken()
		if err == nil && token == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			if len(r.open) > 0 {
				return fmt.Errorf("it ends inside <%s>: it is cut off", r.open[len(r.open)-1].Local)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no XML: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			foreign, err := r.enter(t)
			if err != nil {
				return err
			}
			e := &element{t.Name.Local, t.Attr}
			switch {
			case r.begins2006(e):
				err = r.analysis2006(e)
			case !foreign && f != nil:
				err = f(e)
			}
			if err != nil {
				return err
			}
			if len(r.open) > base {
				if err := r.children(nil); err != nil {
					return err
				}
			}
			if len(r.open) != base {
				return errors.New("elements that are not closed")
			}
		case xml.EndElement:
			if err := r.leave(t); err != nil {
				return err
			}
			return nil
		case xml.CharData:
			if base == 0 && len(bytes.TrimSpace(t)) > 0 {
				return errors.New("it is no XML: there is text outside of it")
			}
			if words != nil && len(*words) <= MaxText {
				*words = append(*words, t...)
			}
		case xml.Directive:
			if !harmless(t) || r.elements > 0 {
				return errDTD
			}
		}
	}
}

// enter opens an element, and tells whether it belongs to another standard.
func (r *reader) enter(t xml.StartElement) (foreign bool, err error) {
	if r.elements++; r.elements > MaxElements {
		return false, fmt.Errorf("%w: more than %d elements", ErrTooLarge, MaxElements)
	}
	if len(r.open) >= MaxDepth {
		return false, fmt.Errorf("%w: more than %d elements inside each other", ErrTooLarge, MaxDepth)
	}
	r.open = append(r.open, t.Name)
	for _, a := range t.Attr {
		switch {
		case a.Name.Space == "xmlns":
			r.bind(a.Name.Local, a.Value)
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			r.bind("", a.Value)
		}
	}
	return r.inside && !r.results && r.foreign(t.Name.Space), nil
}

func (r *reader) uri(prefix string) string {
	if list := r.spaces[prefix]; len(list) > 0 {
		return list[len(list)-1]
	}
	return ""
}

func (r *reader) bind(prefix, uri string) {
	r.bindings = append(r.bindings, binding{len(r.open), prefix})
	if r.spaces == nil {
		r.spaces = map[string][]string{}
	}
	r.spaces[prefix] = append(r.spaces[prefix], uri)
}

// foreign tells of a prefix whether what bears it is no element of the standard. Makers
// have elements of their own with the same local names and other contents. A prefix that
// is not declared is the standard's only if the root has it, or it is called n42.
func (r *reader) foreign(prefix string) bool {
	uri := r.uri(prefix)
	switch {
	case uri == r.rootNS && uri != "":
		return false
	case uri != "":
		return !strings.HasPrefix(strings.ToLower(uri), "http://physics.nist.gov/")
	}
	return prefix != "" && prefix != r.rootPre && !strings.EqualFold(prefix, "n42")
}

func (r *reader) leave(t xml.EndElement) error {
	if len(r.open) == 0 {
		return fmt.Errorf("it is no XML: an end of <%s> that was not begun", cut(t.Name.Local, 64))
	}
	if is := r.open[len(r.open)-1]; is != t.Name {
		return fmt.Errorf("it is no XML: <%s> is ended by </%s>", cut(is.Local, 64), cut(t.Name.Local, 64))
	}
	for len(r.bindings) > 0 && r.bindings[len(r.bindings)-1].depth == len(r.open) {
		prefix := r.bindings[len(r.bindings)-1].prefix
		r.spaces[prefix] = r.spaces[prefix][:len(r.spaces[prefix])-1]
		r.bindings = r.bindings[:len(r.bindings)-1]
	}
	r.open = r.open[:len(r.open)-1]
	return nil
}

// value gives the text of the open element until it ends, without what is in elements
// inside of it, except for Data: some put the channels of ChannelData there. The bytes are
// valid until the next call.
func (r *reader) value() ([]byte, error) {
	r.text, r.coding = r.text[:0], ""
	err := r.gather()
	return bytes.TrimSpace(r.text), err
}

// gather adds the text of the open element to r.text.
func (r *reader) gather() error {
	base := len(r.open)
	for {
		token, err := r.xml.RawToken()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it ends inside <%s>: it is cut off", r.open[len(r.open)-1].Local)
		}
		if err != nil {
			return fmt.Errorf("it is no XML: %w", err)
		}
		switch t := token.(type) {
		case xml.CharData:
			r.text = append(r.text, t...)
		case xml.StartElement:
			if _, err := r.enter(t); err != nil {
				return err
			}
			if t.Name.Local == "Data" {
				e := element{attrs: t.Attr}
				if c := e.attr(compressions...); c != "" {
					r.coding = c
				}
				r.text = append(r.text, ' ')
				if err := r.gather(); err != nil {
					return err
				}
				continue
			}
			if e := (&element{t.Name.Local, t.Attr}); r.begins2006(e) {
				if err := r.analysis2006(e); err != nil {
					return err
				}
				continue
			}
			if err := r.children(nil); err != nil {
				return err
			}
			if len(r.open) != base {
				return errors.New("elements that are not closed")
			}
		case xml.EndElement:
			return r.leave(t)
		case xml.Directive:
			return errDTD
		}
	}
}

// string gives the text of the open element, bounded.
func (r *reader) string() (string, error) {
	b, err := r.value()
	if err != nil {
		return "", err
	}
	if len(b) > MaxText {
		r.flag(FlagTextCut, "", fmt.Sprintf("%d bytes of text", len(b)))
		return cut(string(b), MaxText), nil
	}
	return string(b), nil
}

func (r *reader) bound(s string) string { return cut(s, MaxText) }

// strings adds the text of the open element to a list.
func (r *reader) appendString(list *[]string) error {
	s, err := r.string()
	if err != nil {
		return err
	}
	if s != "" {
		if err := r.slice(); err != nil {
			return err
		}
		*list = append(*list, s)
	}
	return nil
}

// slice counts what is put into a list.
func (r *reader) slice() error {
	if r.slices++; r.slices > 10*MaxSlices {
		return fmt.Errorf("%w: more than %d entries of lists", ErrTooLarge, 10*MaxSlices)
	}
	return nil
}

// flag notes what is wrong.
func (r *reader) flag(code, where, detail string) {
	d := r.doc
	switch {
	case len(d.Flags) < maxFlags:
		d.Flags = append(d.Flags, Flag{code, cut(where, 128), cut(detail, 256)})
	case len(d.Flags) == maxFlags:
		d.Flags = append(d.Flags, Flag{Code: FlagMoreOfThem})
	}
}

// refs are the ids of an attribute that lists them.
func (r *reader) refs(s string) []string {
	var list []string
	for id := range strings.FieldsSeq(s) {
		if list = append(list, cut(id, 256)); len(list) == MaxSlices {
			break
		}
	}
	return list
}

// Ended reports whether what is there of a document ends with the end of its root: then it
// is not still being written.
func Ended(b []byte) bool {
	const look = 4 << 10
	narrow := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{0}, nil) }
	head, tail := narrow(b[:min(len(b), look)]), bytes.TrimSpace(narrow(b[max(0, len(b)-look):]))
	for {
		i := bytes.IndexByte(head, '<')
		if i < 0 || i+1 >= len(head) {
			return false
		}
		if head = head[i+1:]; head[0] != '?' && head[0] != '!' {
			break
		}
	}
	end := bytes.IndexAny(head, " \t\r\n/>")
	if end <= 0 {
		return false
	}
	last := bytes.LastIndex(tail, []byte("</"))
	if last < 0 || tail[len(tail)-1] != '>' {
		return false
	}
	return string(bytes.TrimSpace(tail[last+2:len(tail)-1])) == string(head[:end])
}
