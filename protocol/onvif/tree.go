package onvif

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what is taken from a device.
const (
	// MaxDocument bounds a document in bytes. It may hold pictures in base64.
	MaxDocument = 24 << 20
	// MaxDepth bounds how deep elements, or objects in JSON, stand in each other.
	MaxDepth = 64
	// MaxElements bounds how many there are.
	MaxElements = 50_000
	// MaxNotifications bounds the notifications of an answer, and the plates of a
	// piece of metadata.
	MaxNotifications = 1024
)

// element is one of a document, by its local name: makers use what prefixes and
// namespaces they like. An object in JSON makes one too: "@x" is an attribute,
// "#text" the text, and an array the same child several times.
type element struct {
	name     string
	space    string // of its name
	attrs    map[string]string
	children []*element
	text     string
	raw      []byte // of the text, until the element ends
	from, to int64  // where it stands in a document of XML
}

var errTooMuch = fmt.Errorf("the document has more than %d elements, or more than %d in each other", MaxElements, MaxDepth)

// cleaned puts a question mark in place of each byte that is no UTF-8, and a blank in
// place of each control character, so that the length stays.
func cleaned(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		bad := byte(0)
		switch {
		case r == utf8.RuneError && n == 1:
			bad = '?'
		case r < ' ' && r != '\t' && r != '\r' && r != '\n':
			bad = ' '
		}
		if bad != 0 {
			if out == nil {
				out = bytes.Clone(b)
			}
			out[i] = bad
		}
		i += n
	}
	if out == nil {
		return b
	}
	return out
}

// parseXML reads a document. A byte order mark before it is text that nobody reads.
func parseXML(b []byte) (*element, error) {
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("a document of %d bytes: want %d at most", len(b), MaxDocument)
	}
	// No event may be lost for one byte that is no text in the name of a camera. Offsets
	// stay what they are.
	d := xml.NewDecoder(bytes.NewReader(cleaned(b)))
	d.Strict = false
	d.Entity = map[string]string{}
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	root := &element{}
	stack := []*element{root}
	for count := 0; ; {
		before := d.InputOffset()
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("the document is no well-formed XML") // the reason would repeat parts of it
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("the document has a DTD, which is refused")
		case xml.StartElement:
			if count++; count > MaxElements || len(stack) > MaxDepth {
				return nil, errTooMuch
			}
			e := &element{name: t.Name.Local, space: t.Name.Space, from: before}
			for _, a := range t.Attr {
				if e.attrs == nil {
					e.attrs = map[string]string{}
				}
				e.attrs[a.Name.Local] = a.Value
			}
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			top.text, top.raw, top.to = string(top.raw), nil, d.InputOffset()
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 1 {
				top.raw = append(top.raw, t...)
			}
		}
	}
	if len(root.children) != 1 {
		return nil, errors.New("the document has no element")
	}
	return root.children[0], nil
}

// parseJSON reads a document whose top is an object.
func parseJSON(b []byte) (*element, error) {
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("a document of %d bytes: want %d at most", len(b), MaxDocument)
	}
	// Deeper nesting than this is refused by the decoder itself.
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil || v == nil {
		return nil, errors.New("the document is no JSON object") // the reason would repeat parts of it
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON object")
	}
	count := 0
	root := &element{}
	if !root.object(v, 1, &count) {
		return nil, errTooMuch
	}
	return root, nil
}

// object fills an element; false is too much.
func (e *element) object(v map[string]any, depth int, count *int) bool {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		value := v[name]
		attribute, is := strings.CutPrefix(name, "@")
		switch {
		case name == "#text":
			e.text = scalar(value)
		case is:
			if e.attrs == nil {
				e.attrs = map[string]string{}
			}
			e.attrs[attribute] = scalar(value)
		case !e.add(localName(name), value, depth, count):
			return false
		}
	}
	return true
}

func (e *element) add(name string, value any, depth int, count *int) bool {
	if depth > MaxDepth {
		return false
	}
	if list, ok := value.([]any); ok {
		for _, v := range list {
			if !e.add(name, v, depth+1, count) {
				return false
			}
		}
		return true
	}
	if *count++; *count > MaxElements {
		return false
	}
	child := &element{name: name}
	e.children = append(e.children, child)
	if v, ok := value.(map[string]any); ok {
		return child.object(v, depth+1, count)
	}
	child.text = scalar(value)
	return true
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}

// localName takes the prefix off a name.
func localName(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// at finds the first descendant by a path of names; nil if there is none. It may
// be called on nil.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		if e = e.child(name); e == nil {
			return nil
		}
	}
	return e
}

func (e *element) child(name string) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// all are the children of a name.
func (e *element) all(name string) []*element {
	var list []*element
	if e != nil {
		for _, c := range e.children {
			if c.name == name {
				list = append(list, c)
			}
		}
	}
	return list
}

func (e *element) value(path ...string) string {
	if e = e.at(path...); e == nil {
		return ""
	}
	return strings.TrimSpace(e.text)
}

func (e *element) attr(name string) string {
	if e == nil {
		return ""
	}
	return e.attrs[name]
}
