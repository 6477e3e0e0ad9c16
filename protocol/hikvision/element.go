// Package hikvision reads and writes what cameras with Hikvision's ISAPI say of
// number plates: the alerts of the alert stream and of HTTP hosts, as XML and as
// JSON, and the list that the plates poll gives. It does no I/O.
//
// Facts are from the ISAPI guide, from captures and from programs that talk to
// real cameras; spellings that look wrong are those of the wire.
package hikvision

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a document.
const (
	// MaxDocument bounds a document in bytes.
	MaxDocument = 1 << 20
	// maxDepth and maxElements bound how deep and how large it may be.
	maxDepth, maxElements = 32, 8192
	// maxDocuments bounds the documents of one part.
	maxDocuments = 64
)

// element is a document or a part of it, of XML or of JSON, by local names: the
// namespaces of the same elements differ by firmware.
type element struct {
	name     string
	text     string
	children []*element
}

// child gives the first of the named children, nil if there is none. It may be
// called on nil.
func (e *element) child(names ...string) *element {
	if e == nil {
		return nil
	}
	for _, name := range names {
		for _, c := range e.children {
			if c.name == name {
				return c
			}
		}
	}
	return nil
}

// get gives the text of the first of the named children.
func (e *element) get(names ...string) string {
	if c := e.child(names...); c != nil {
		return c.text
	}
	return ""
}

// all gives the children of a name.
func (e *element) all(name string) []*element {
	if e == nil {
		return nil
	}
	var list []*element
	for _, c := range e.children {
		if c.name == name {
			list = append(list, c)
		}
	}
	return list
}

var (
	errDepth    = fmt.Errorf("more than %d elements inside each other", maxDepth)
	errElements = fmt.Errorf("more than %d elements", maxElements)
	errDTD      = errors.New("a document type definition, which no camera sends and nobody must expand")
)

// parse reads the documents of a body: XML, several of it one after the other, or
// one of JSON. What stands before the first is passed over.
func parse(body []byte) ([]*element, error) {
	if len(body) > MaxDocument {
		return nil, fmt.Errorf("a document of %d bytes; at most %d are read", len(body), MaxDocument)
	}
	body = bytes.Trim(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "\x00 \t\r\n")
	start := bytes.IndexAny(body, "<{")
	if start < 0 {
		return nil, errors.New("neither XML nor JSON")
	}
	if body[start] == '{' {
		return parseAllJSON(body[start:])
	}
	return parseXML(readable(body[start:]))
}

// readable makes of a text what XML allows: each byte that is no UTF-8 becomes
// U+FFFD, each control character a blank. Names that users give to channels have
// both, and no plate may be lost for them.
func readable(body []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0xfffe || r == 0xffff {
			return ' '
		}
		return r
	}, body)
}

// parseAllJSON reads the documents of a list, or of several one after the other.
func parseAllJSON(body []byte) ([]*element, error) {
	var documents []*element
	for {
		e, n, err := parseJSON(body)
		if err != nil {
			return documents, err
		}
		if documents = append(documents, e); len(documents) > maxDocuments {
			return documents, fmt.Errorf("more than %d documents in one part", maxDocuments)
		}
		next := bytes.IndexByte(body[n:], '{')
		if next < 0 {
			return documents, nil
		}
		body = body[int(n)+next:]
	}
}

func parseXML(body []byte) ([]*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	// The strict decoder refuses an ampersand alone, which camera names have.
	d.Strict = false
	d.Entity = map[string]string{}
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var documents []*element
	var open []*element
	count := 0
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if len(open) > 0 {
				return documents, fmt.Errorf("XML that ends inside <%s>", open[len(open)-1].name)
			}
			if len(documents) == 0 {
				return nil, errors.New("XML without an element")
			}
			return documents, nil
		}
		if err != nil {
			return documents, fmt.Errorf("XML: %w", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return documents, errDTD
		case xml.StartElement:
			if count++; count > maxElements {
				return documents, errElements
			}
			if len(open) >= maxDepth {
				return documents, errDepth
			}
			e := &element{name: t.Name.Local}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			}
			open = append(open, e)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != t.Name.Local {
				return documents, fmt.Errorf("XML with an end of <%s> that was not begun", t.Name.Local)
			}
			e := open[len(open)-1]
			e.text = strings.TrimSpace(e.text)
			if open = open[:len(open)-1]; len(open) == 0 {
				if documents = append(documents, e); len(documents) > maxDocuments {
					return documents, fmt.Errorf("more than %d documents in one part", maxDocuments)
				}
			}
		case xml.CharData:
			if len(open) > 0 {
				e := open[len(open)-1]
				e.text += strings.ToValidUTF8(string(t), "\ufffd")
			}
		}
	}
}

// parseJSON reads the JSON of the firmware that sends the same names in it.
// Numbers and booleans become the text that they were written as. It gives where
// the document ends, too.
func parseJSON(body []byte) (*element, int64, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	count := 0
	root := &element{}
	if err := readJSON(d, root, "", 0, &count); err != nil {
		return nil, 0, fmt.Errorf("JSON: %w", err)
	}
	e := root.children[0]
	// Some have the name of the document around it, some have not.
	if inner := e.child("EventNotificationAlert", "Plates", "ResponseStatus", "DeviceInfo"); inner != nil && e.get("eventType") == "" {
		e = inner
	} else {
		e.name = "EventNotificationAlert"
	}
	return e, d.InputOffset(), nil
}

func readJSON(d *json.Decoder, parent *element, name string, depth int, count *int) error {
	if depth > maxDepth {
		return errDepth
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	if *count++; *count > maxElements {
		return errElements
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' { // as many elements of the name as there are values
			for d.More() {
				if err := readJSON(d, parent, name, depth+1, count); err != nil {
					return err
				}
			}
			_, err := d.Token()
			return err
		}
		e := &element{name: name}
		parent.children = append(parent.children, e)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			k, ok := key.(string)
			if !ok {
				return errors.New("a key that is no text")
			}
			if err := readJSON(d, e, k, depth+1, count); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return err
	case nil:
		parent.children = append(parent.children, &element{name: name})
	default:
		parent.children = append(parent.children, &element{name: name, text: strings.TrimSpace(fmt.Sprint(t))})
	}
	return nil
}
