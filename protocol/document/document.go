// Package document reads what instruments send as XML or JSON into one kind of tree,
// by local names. It forgives what their firmware writes and a strict reader would
// refuse, and bounds everything. It does no I/O.
package document

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a document, beside its size.
const (
	// MaxDepth bounds how many values are inside each other.
	MaxDepth = 32
	// MaxNodes bounds how many there are, attributes counted too.
	MaxNodes = 8192
	// MaxDocuments bounds the documents that stand one after the other in one body.
	MaxDocuments = 64
)

// Node is a document or a part of it: an element of XML, by its local name since the
// namespaces of the same elements differ by firmware, or a value of JSON. The values
// of a JSON array are as many nodes of its name.
type Node struct {
	Name string
	// Text is without the blanks around it. Numbers and booleans of JSON are as they
	// were written, null is empty.
	Text string
	// Attrs are the attributes of an element of XML, by local name.
	Attrs    map[string]string
	Children []*Node
	// Offset is where it begins in the body, in bytes; a little beside it if bytes before it
	// are no UTF-8.
	Offset int
}

// Child gives the first of the named children, nil if there is none. The names are
// tried in their order. It may be called on nil.
func (n *Node) Child(names ...string) *Node {
	if n == nil {
		return nil
	}
	for _, name := range names {
		for _, c := range n.Children {
			if c.Name == name {
				return c
			}
		}
	}
	return nil
}

// Get gives the text of the first of the named children.
func (n *Node) Get(names ...string) string {
	if c := n.Child(names...); c != nil {
		return c.Text
	}
	return ""
}

// At follows a path of names; nil if there is none.
func (n *Node) At(path ...string) *Node {
	for _, name := range path {
		n = n.Child(name)
	}
	return n
}

// All gives the children of a name.
func (n *Node) All(name string) []*Node {
	if n == nil {
		return nil
	}
	var list []*Node
	for _, c := range n.Children {
		if c.Name == name {
			list = append(list, c)
		}
	}
	return list
}

// Attr gives an attribute of an element.
func (n *Node) Attr(name string) string {
	if n == nil {
		return ""
	}
	return n.Attrs[name]
}

// Texts gives the texts of nodes.
func Texts(list []*Node) []string {
	var texts []string
	for _, n := range list {
		texts = append(texts, n.Text)
	}
	return texts
}

// Errors of a body that goes beyond a bound, or has what no instrument sends.
var (
	ErrDepth = fmt.Errorf("more than %d elements inside each other", MaxDepth)
	ErrNodes = fmt.Errorf("more than %d elements", MaxNodes)
	ErrDTD   = errors.New("a document type definition, which no instrument sends and nobody must expand")
)

// Parse reads the documents of a body of at most most bytes: XML or JSON, one or
// several. What stands before the first is passed over. With an error it gives those
// that came before it.
func Parse(body []byte, most int) ([]*Node, error) {
	if len(body) > most {
		return nil, fmt.Errorf("a document of %d bytes; at most %d are read", len(body), most)
	}
	all := len(body)
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), "\x00 \t\r\n")
	before := all - len(body)
	body = bytes.TrimRight(body, "\x00 \t\r\n")
	start := bytes.IndexAny(body, "<{")
	if start < 0 {
		return nil, errors.New("neither XML nor JSON")
	}
	if body[start] == '{' {
		return parseAllJSON(blanks(body[start:]), before+start)
	}
	return parseXML(readable(body[start:]), before+start)
}

// ParseOne reads the first document of a body.
func ParseOne(body []byte, most int) (*Node, error) {
	list, err := Parse(body, most)
	if len(list) == 0 {
		return nil, err // never nil then
	}
	return list[0], nil
}

// ParseLarge is ParseOne for JSON that has up to so many values.
func ParseLarge(body []byte, most, nodes int) (*Node, error) {
	if len(body) > most {
		return nil, fmt.Errorf("a document of %d bytes; at most %d are read", len(body), most)
	}
	start := bytes.IndexByte(body, '{')
	if start < 0 {
		return nil, errors.New("no JSON")
	}
	n, _, err := parseJSON(blanks(body[start:]), nodes, start)
	return n, err
}

// blanks puts a blank in place of each control character: in a text JSON allows none,
// and some firmware sends them.
func blanks(body []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, body)
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
func parseAllJSON(body []byte, before int) ([]*Node, error) {
	var documents []*Node
	for {
		e, n, err := parseJSON(body, MaxNodes, before)
		if err != nil {
			return documents, err
		}
		if documents = append(documents, e); len(documents) > MaxDocuments {
			return documents, fmt.Errorf("more than %d documents in one part", MaxDocuments)
		}
		next := bytes.IndexByte(body[n:], '{')
		if next < 0 {
			return documents, nil
		}
		body = body[int(n)+next:]
		before += int(n) + next
	}
}

// parseXML reads the documents of a body that begins so many bytes after what was given to Parse.
func parseXML(body []byte, before int) ([]*Node, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	// The strict decoder refuses an ampersand alone, which camera names have.
	d.Strict = false
	d.Entity = map[string]string{}
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var documents []*Node
	var open []*Node
	var texts [][]byte // of the open ones
	count := 0
	for {
		offset := before + int(d.InputOffset())
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if len(open) > 0 {
				return documents, fmt.Errorf("XML that ends inside <%s>", open[len(open)-1].Name)
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
			return documents, ErrDTD
		case xml.StartElement:
			if count++; count > MaxNodes {
				return documents, ErrNodes
			}
			if len(open) >= MaxDepth {
				return documents, ErrDepth
			}
			e := &Node{Name: t.Name.Local, Offset: offset}
			for _, a := range t.Attr {
				if count++; count > MaxNodes {
					return documents, ErrNodes
				}
				if e.Attrs == nil {
					e.Attrs = map[string]string{}
				}
				e.Attrs[a.Name.Local] = strings.ToValidUTF8(a.Value, "\ufffd")
			}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.Children = append(parent.Children, e)
			}
			open, texts = append(open, e), append(texts, nil)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].Name != t.Name.Local {
				return documents, fmt.Errorf("XML with an end of <%s> that was not begun", t.Name.Local)
			}
			e := open[len(open)-1]
			e.Text = strings.TrimSpace(strings.ToValidUTF8(string(texts[len(open)-1]), "\ufffd"))
			texts = texts[:len(open)-1]
			if open = open[:len(open)-1]; len(open) == 0 {
				if documents = append(documents, e); len(documents) > MaxDocuments {
					return documents, fmt.Errorf("more than %d documents in one part", MaxDocuments)
				}
			}
		case xml.CharData:
			if len(open) > 0 {
				texts[len(open)-1] = append(texts[len(open)-1], t...)
			}
		}
	}
}

// parseJSON reads one document of JSON, and gives where it ends.
func parseJSON(body []byte, nodes, before int) (*Node, int64, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	left := nodes
	root := &Node{}
	if err := readJSON(d, root, "", 0, &left, before); err != nil {
		return nil, 0, fmt.Errorf("JSON: %w", err)
	}
	return root.Children[0], d.InputOffset(), nil
}

func readJSON(d *json.Decoder, parent *Node, name string, depth int, left *int, before int) error {
	if depth > MaxDepth {
		return ErrDepth
	}
	offset := before + int(d.InputOffset())
	token, err := d.Token()
	if err != nil {
		return err
	}
	if *left--; *left < 0 {
		return ErrNodes
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' { // as many elements of the name as there are values
			for d.More() {
				if err := readJSON(d, parent, name, depth+1, left, before); err != nil {
					return err
				}
			}
			_, err := d.Token()
			return err
		}
		e := &Node{Name: name, Offset: offset}
		parent.Children = append(parent.Children, e)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			k, ok := key.(string)
			if !ok {
				return errors.New("a key that is no text")
			}
			if err := readJSON(d, e, k, depth+1, left, before); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return err
	case nil:
		parent.Children = append(parent.Children, &Node{Name: name, Offset: offset})
	default:
		parent.Children = append(parent.Children, &Node{Name: name, Offset: offset, Text: strings.TrimSpace(fmt.Sprint(t))})
	}
	return nil
}
