// Package yamlfile reads YAML files that people write. It refuses unknown keys
// and wrong types, collects everything that is wrong in one go, and says each
// with line, column, the offending text and a hint.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file.
const (
	// MaxBytes is the largest file, in bytes.
	MaxBytes = 1 << 20
	// maxTokens bounds the words and signs of a file. The parser's time grows
	// with their square: a second or two for so many, minutes for a file of
	// MaxBytes that is full of keys.
	maxTokens = 30000
	// maxDepth is how deep brackets and braces, and the dashes and colons of one
	// line, may nest. The parser recurses, so this is looked for before it runs.
	maxDepth = 100
	// maxIndent is the deepest indentation in spaces, for the same reason.
	maxIndent = 400
	// maxElements is how long a list among a driver's settings may be.
	maxElements = 1000
	// maxProblems bounds what is reported of one file.
	maxProblems = 50
	// maxSnippet bounds how much of a line is shown, in characters.
	maxSnippet = 120
)

// Document is a parsed file. Its methods read nodes and collect what is wrong.
type Document struct {
	file     string
	lines    []string
	root     ast.Node
	problems Problems
	tooMany  bool
}

// Parse parses one YAML document. It always returns a Document; if the text is
// not YAML at all, Root is nil and Err says why.
//
// Anchors, aliases, merge keys and tags are refused: a file for people has no
// need of them, and they make a small file large. Of a key that is there twice
// the first counts for what else is wrong.
func Parse(file string, b []byte) *Document {
	d := &Document{file: file}
	if len(b) > MaxBytes {
		d.add(0, 0, fmt.Sprintf("the file has more than %d bytes", MaxBytes), "at most so many are read")
		return d
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) {
		d.add(0, 0, "the file is not UTF-8 text", "set the editor to save it as UTF-8")
		return d
	}
	d.lines = strings.Split(string(b), "\n")
	if d.refuseIndentation() {
		return d
	}
	tokens, err := tokenize(b)
	if err == nil && d.refuseTokens(tokens) {
		return d
	}
	var f *ast.File
	if err == nil {
		f, err = parse(tokens)
	}
	if err != nil {
		d.fromLibrary(err, 1, 1)
		return d
	}
	for _, doc := range f.Docs {
		if doc.Body == nil {
			continue
		}
		if d.root != nil {
			d.At(doc.Body, "only one document to a file", "a second document begins here; take it out, and the --- before it")
			d.root = nil
			return d
		}
		d.root = doc.Body
	}
	if d.root == nil {
		d.add(1, 1, "the file is empty", "")
		return d
	}
	d.dropDuplicates(d.root)
	return d
}

// Fresh is the same document with nothing noted yet.
func (d *Document) Fresh() *Document {
	return &Document{file: d.file, lines: d.lines, root: d.root}
}

// tokenize and parse contain panics of the library: the text comes from outside.
func tokenize(b []byte) (t token.Tokens, err error) {
	defer contain(&err)
	return lexer.Tokenize(string(b)), nil
}

func parse(t token.Tokens) (f *ast.File, err error) {
	defer contain(&err)
	return parser.Parse(t, 0, parser.AllowDuplicateMapKey())
}

func contain(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the text can't be read as YAML: %v", r)
	}
}

// refuseIndentation looks for what editors hide in indentations: tabs, which
// YAML forbids, and the wide spaces that come with a copy from a page.
func (d *Document) refuseIndentation() bool {
	for i, l := range d.lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		indent := l[:len(l)-len(strings.TrimLeftFunc(l, unicode.IsSpace))]
		at := strings.IndexFunc(indent, func(r rune) bool { return r != ' ' })
		switch {
		case at >= 0 && indent[at] == '\t':
			d.add(i+1, at+1, "a tab in the indentation", "YAML is indented with spaces only; set the editor to insert two spaces")
		case at >= 0:
			d.add(i+1, at+1, "a character in the indentation that looks like a space and is none", "delete it and type spaces")
		case len(indent) > maxIndent:
			d.add(i+1, 1, "indented too deep", fmt.Sprintf("at most %d spaces are allowed", maxIndent))
		}
	}
	return len(d.problems) > 0
}

// unsupported are the signs of YAML that are refused.
var unsupported = map[token.Type]string{
	token.AnchorType:    "an anchor (&), which is not supported",
	token.AliasType:     "an alias (*), which is not supported",
	token.MergeKeyType:  "a merge key (<<), which is not supported",
	token.TagType:       "a tag (!), which is not supported",
	token.DirectiveType: "a directive (%), which is not supported",
}

// refuseTokens looks for what the parser must not get.
func (d *Document) refuseTokens(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.add(0, 0, fmt.Sprintf("the file has more than %d words and signs", maxTokens), "divide it")
		return true
	}
	depth, line, inLine := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth = max(0, depth-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			if depth == 0 {
				inLine++
			}
		default:
			if text, refused := unsupported[t.Type]; refused {
				d.add(line, t.Position.Column, text, "write what you mean in full, or put the text in quotes")
			}
		}
		if depth > maxDepth || inLine > maxDepth {
			d.add(line, t.Position.Column, "nested too deep", fmt.Sprintf("at most %d levels are allowed", maxDepth))
			return true
		}
	}
	return len(d.problems) > 0
}

// dropDuplicates notes the keys that are there twice and takes the later ones
// out of the tree.
func (d *Document) dropDuplicates(n ast.Node) {
	switch v := n.(type) {
	case *ast.SequenceNode:
		for _, one := range v.Values {
			d.dropDuplicates(one)
		}
	case *ast.MappingValueNode:
		d.dropDuplicates(v.Value)
	case *ast.MappingNode:
		first := map[string]ast.Node{}
		v.Values = slices.DeleteFunc(v.Values, func(p *ast.MappingValueNode) bool {
			name := keyName(p)
			if before, twice := first[name]; twice {
				line, _ := place(before)
				d.At(p.Key, fmt.Sprintf("the key %q is there twice", clip(name)), fmt.Sprintf("the first is in line %d; take one of them out", line))
				return true
			}
			first[name] = p.Key
			d.dropDuplicates(p.Value)
			return false
		})
	}
}

// Root is the top node, nil if there is none.
func (d *Document) Root() ast.Node { return d.root }

// Err is everything that is wrong so far, in the order of the file; nil if
// nothing is. It is a Problems.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	p := d.problems.sorted(d.file)
	if d.tooMany {
		p = append(p, Problem{File: d.file, Text: fmt.Sprintf("and more; only %d are shown", maxProblems)})
	}
	return p
}

// At notes a problem at a node.
func (d *Document) At(n ast.Node, text, hint string) {
	line, column := place(n)
	d.add(line, column, text, hint)
}

// ProblemAt makes a Problem of a node without noting it, for a warning.
func (d *Document) ProblemAt(n ast.Node, text, hint string) Problem {
	line, column := place(n)
	return d.problem(line, column, text, hint)
}

// Include notes the problems of another file that this one depends on.
func (d *Document) Include(p Problems) {
	for _, one := range p {
		d.note(one)
	}
}

func (d *Document) add(line, column int, text, hint string) {
	d.note(d.problem(line, column, text, hint))
}

func (d *Document) note(p Problem) {
	if len(d.problems) >= maxProblems {
		d.tooMany = true
		return
	}
	d.problems = append(d.problems, p)
}

// Line is the line of a node.
func Line(n ast.Node) int {
	line, _ := place(n)
	return line
}

// place is where a node begins. A mapping begins at its first key.
func place(n ast.Node) (line, column int) {
	for {
		switch v := n.(type) {
		case *ast.MappingNode:
			if len(v.Values) > 0 {
				n = v.Values[0]
				continue
			}
		case *ast.MappingValueNode:
			n = v.Key
			continue
		}
		break
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1, 1
	}
	pos := n.GetToken().Position
	return pos.Line, pos.Column
}

// wordings say in a technician's words what the YAML library says in its own.
var wordings = []struct{ library, text, hint string }{
	{"could not find end character of double-quoted text", "a quote is not closed", `put a " at the end of the text`},
	{"could not find end character of single-quoted text", "a quote is not closed", "put a ' at the end of the text"},
	{"sequence end token ']' not found", "a bracket is not closed", "put a ] at the end of the list"},
	{"',' or ']' must be specified", "a bracket before this is not closed", "put a ] at the end of the list, and a comma between its elements"},
	{"could not find flow map content", "a brace is not closed", "put a } at its end"},
	{"',' or '}' must be specified", "a brace before this is not closed", "put a } at its end, and a comma between its keys"},
	{"is a reserved character", "", "put the text in quotes"},
	{"mapping value is not allowed in this context", "a colon, or a deeper indentation, where no value can begin",
		"put a text that has a colon and a space in it in quotes; or indent the next line like its neighbours"},
	{"value is not allowed in this context", "this does not fit what stands before it",
		"look for a missing colon, and for a line that is indented more or less than its neighbours"},
	{"non-map value", "this is not a key with a value", "write key: value, with a colon and a space"},
	{"unexpected scalar value type", "an element is missing between two commas", "write it, or take one comma out"},
	{"unexpected key name", "this is not a key with a value", "write key: value, with a colon and a space"},
}

// fromLibrary notes an error of the YAML library; at a place of its own, or at
// the given one.
func (d *Document) fromLibrary(err error, line, column int) {
	text, hint := err.Error(), ""
	var e yaml.Error
	if errors.As(err, &e) {
		text = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			line, column = t.Position.Line, t.Position.Column
		}
	}
	for _, w := range wordings {
		if strings.Contains(text, w.library) {
			if w.text != "" {
				text = w.text
			}
			hint = w.hint
			break
		}
	}
	d.add(line, column, text, hint)
}
