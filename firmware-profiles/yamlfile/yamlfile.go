// Package yamlfile reads YAML files that people write. It refuses unknown keys
// and wrong types, collects everything that is wrong in one go, and says each
// with line, column, the offending text and a hint.
package yamlfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file.
const (
	// MaxBytes is the largest file, in bytes.
	MaxBytes = 1 << 20
	// maxDepth is how deep brackets, braces and indentation may nest. The parser
	// recurses, so this is looked for before it runs.
	maxDepth = 100
	// maxProblems bounds what is reported of one file.
	maxProblems = 50
	// maxSnippet bounds how much of a line is shown, in characters.
	maxSnippet = 120
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int // from 1; 0 if it is not about one place
	Text         string
	// Snippet is the offending line; Hint says what to do. Either may be empty.
	Snippet, Hint string
}

// String is what a person reads: the place and the text, the line with a caret
// under the place, and the hint.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	b.WriteString(p.Text)
	if p.Snippet != "" {
		fmt.Fprintf(&b, "\n    %s\n    %s^", p.Snippet, strings.Repeat(" ", max(0, p.Column-1)))
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "\n    hint: %s", p.Hint)
	}
	return b.String()
}

// Problems is everything that is wrong, in the order of the file. As an error it
// reads as one block for each problem.
type Problems []Problem

func (p Problems) Error() string {
	var list []string
	for _, one := range p {
		list = append(list, one.String())
	}
	return strings.Join(list, "\n")
}

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
func Parse(file string, b []byte) *Document {
	d := &Document{file: file}
	if len(b) > MaxBytes {
		d.add(0, 0, fmt.Sprintf("the file has %d bytes", len(b)), fmt.Sprintf("at most %d are read", MaxBytes))
		return d
	}
	if !utf8.Valid(b) {
		d.add(0, 0, "the file is not UTF-8 text", "save it as UTF-8 without a byte order mark")
		return d
	}
	d.lines = strings.Split(string(b), "\n")
	if d.refuseTabs() || d.refuseDepth() {
		return d
	}
	f, err := parse(b)
	if err != nil {
		d.fromLibrary(err, 1, 1)
		return d
	}
	var roots []ast.Node
	for _, doc := range f.Docs {
		if doc.Body != nil {
			roots = append(roots, doc.Body)
		}
	}
	switch len(roots) {
	case 0:
		d.add(1, 1, "the file is empty", "")
	case 1:
		d.root = roots[0]
	default:
		d.At(roots[1], "only one document to a file", "a second document begins here")
	}
	return d
}

// parse contains panics of the library: the text comes from outside.
func parse(b []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the text can't be read as YAML: %v", r)
		}
	}()
	return parser.ParseBytes(b, 0)
}

// refuseTabs looks for tabs in indentations, which YAML forbids and editors
// hide.
func (d *Document) refuseTabs() bool {
	for i, l := range d.lines {
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if t := strings.IndexByte(indent, '\t'); t >= 0 && strings.TrimSpace(l) != "" {
			d.add(i+1, t+1, "a tab in the indentation", "YAML is indented with spaces only; set the editor to insert two spaces")
		}
	}
	return len(d.problems) > 0
}

func (d *Document) refuseDepth() bool {
	depth := 0
	for i, l := range d.lines {
		if n := len(l) - len(strings.TrimLeft(l, " ")); n > 4*maxDepth {
			d.add(i+1, 1, "indented too deep", fmt.Sprintf("at most %d spaces", 4*maxDepth))
			return true
		}
		if strings.Count(l, "- ") > maxDepth || strings.Count(l, "? ") > maxDepth || strings.Count(l, ": ") > maxDepth {
			d.add(i+1, 1, "nested too deep in one line", "")
			return true
		}
		for _, c := range l {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > maxDepth {
				d.add(i+1, 1, "brackets nested too deep", fmt.Sprintf("at most %d levels", maxDepth))
				return true
			}
		}
	}
	return false
}

// Root is the top node, nil if there is none.
func (d *Document) Root() ast.Node { return d.root }

// Err is everything that is wrong so far, in the order of the file; nil if
// nothing is.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	p := slices.Clone(d.problems)
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if d.tooMany {
		p = append(p, Problem{File: d.file, Text: fmt.Sprintf("and more than %d problems in all", maxProblems)})
	}
	return p
}

// Failed reports whether anything is wrong so far.
func (d *Document) Failed() bool { return len(d.problems) > 0 }

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

func (d *Document) add(line, column int, text, hint string) {
	if len(d.problems) >= maxProblems {
		d.tooMany = true
		return
	}
	d.problems = append(d.problems, d.problem(line, column, text, hint))
}

func (d *Document) problem(line, column int, text, hint string) Problem {
	p := Problem{File: d.file, Line: line, Column: column, Text: text, Hint: hint}
	if line > 0 && line <= len(d.lines) {
		s := strings.TrimRight(strings.ReplaceAll(redact(d.lines[line-1]), "\t", " "), " \r")
		if r := []rune(s); len(r) > maxSnippet {
			s = string(r[:maxSnippet]) + " ..."
		}
		p.Snippet = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, s)
		if column > maxSnippet {
			p.Snippet = ""
		}
	}
	return p
}

// What a line may hold that must not stand in a log: the value of a key that
// speaks of a password, even a misspelt one, and a login in a URL.
var (
	secretValue = regexp.MustCompile(`(?i)([\w-]*(?:pas|secret|token|credential)[\w-]*\s*:\s*)([^,}]+)`)
	urlLogin    = regexp.MustCompile(`[^\s"'/\[,]+@`)
)

func redact(line string) string {
	line = secretValue.ReplaceAllStringFunc(line, func(m string) string {
		parts := secretValue.FindStringSubmatch(m)
		key := strings.TrimRight(parts[1], " :\t")
		if strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_env") {
			return m // names the place of a secret, and is none
		}
		return parts[1] + "***"
	})
	return urlLogin.ReplaceAllString(line, "***@")
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

// fromLibrary notes an error of the YAML library; at a place of its own, or at
// the given one.
func (d *Document) fromLibrary(err error, line, column int) {
	text := err.Error()
	var e yaml.Error
	if errors.As(err, &e) {
		text = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			line, column = t.Position.Line, t.Position.Column
		}
	}
	hint := ""
	var duplicate *yaml.DuplicateKeyError
	var wrong *yaml.TypeError
	var overflow *yaml.OverflowError
	switch {
	case errors.As(err, &duplicate), strings.Contains(text, "already defined"):
		hint = "each key once; take one of them out"
	case errors.As(err, &wrong):
		text = "want " + wanted(wrong.DstType)
	case errors.As(err, &overflow):
		text = "the number is too large"
	case strings.Contains(text, "non-map value"), strings.Contains(text, "unexpected key name"), strings.Contains(text, "not allowed in this context"):
		hint = "look for a missing colon, or for a line that is indented more or less than its neighbours"
	}
	d.add(line, column, text, hint)
}

// wanted says in a person's words what a Go type takes.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a time with its unit, for instance 12s or 2m"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a set of keys with values"
	}
	return "text"
}

// Key is one key that a mapping may have.
type Key struct {
	Name     string
	Required bool
	// Read takes the value; it is not called for a key that is left empty.
	Read func(ast.Node)
	// Instead, if set, refuses the key and says what to write.
	Instead string
}

// Mapping reads a mapping with the given keys and notes unknown, missing and
// empty ones.
func (d *Document) Mapping(n ast.Node, what string, keys ...Key) {
	pairs, ok := d.pairs(n, what)
	if !ok {
		return
	}
	seen := map[string]bool{}
	var names []string
	for _, k := range keys {
		if k.Instead == "" {
			names = append(names, k.Name)
		}
	}
	for _, p := range pairs {
		name := keyName(p)
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
		if i < 0 {
			d.unknown(p.Key, name, what, names)
			continue
		}
		seen[name] = true
		k := keys[i]
		switch {
		case k.Instead != "":
			d.At(p.Key, fmt.Sprintf("%s can't have the key %q", what, name), k.Instead)
		case p.Value == nil || p.Value.Type() == ast.NullType:
			if k.Required {
				d.At(p.Key, name+" is empty", "")
			}
		default:
			k.Read(p.Value)
		}
	}
	for _, k := range keys {
		if k.Required && !seen[k.Name] {
			d.At(n, fmt.Sprintf("%s has no %s", what, k.Name), "add "+k.Name+": ...")
		}
	}
}

// unknown notes a key that nobody knows.
func (d *Document) unknown(at ast.Node, name, what string, names []string) {
	hint := "known here: " + strings.Join(names, ", ")
	if near := Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	d.At(at, fmt.Sprintf("unknown key %q in %s", clip(name), what), hint)
}

func keyName(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return p.Key.String()
}

func (d *Document) pairs(n ast.Node, what string) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	}
	d.At(n, fmt.Sprintf("%s must be a set of keys with values, not %s", what, kind(n)), "write key: value, one to a line")
	return nil, false
}

// Pairs gives the keys and values of a mapping whose keys are free.
func (d *Document) Pairs(n ast.Node, what string, each func(key string, at, value ast.Node)) {
	pairs, _ := d.pairs(n, what)
	for _, p := range pairs {
		each(keyName(p), p.Key, p.Value)
	}
}

// Sequence reads a list of at most limit elements.
func (d *Document) Sequence(n ast.Node, what string, limit int, each func(ast.Node)) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.At(n, fmt.Sprintf("%s must be a list, not %s", what, kind(n)), "begin each element with a dash: - ...")
		return
	}
	if len(s.Values) > limit {
		d.At(n, fmt.Sprintf("%s has %d elements", what, len(s.Values)), fmt.Sprintf("at most %d are allowed", limit))
		return
	}
	for _, v := range s.Values {
		each(v)
	}
}

// Text reads a string. Numbers and booleans are taken as they are written.
func (d *Document) Text(n ast.Node, what string) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	d.At(n, fmt.Sprintf("%s must be text, not %s", what, kind(n)), "")
	return "", false
}

// Whole reads a whole number from low to high.
func (d *Document) Whole(n ast.Node, what string, low, high int) (int, bool) {
	var v int
	if i, ok := n.(*ast.IntegerNode); !ok || yaml.NodeToValue(i, &v) != nil || v < low || v > high {
		d.At(n, fmt.Sprintf("%s is %s, want a whole number from %d to %d", what, echo(n), low, high), "")
		return 0, false
	}
	return v, true
}

// Duration reads a duration like 12s from low to high.
func (d *Document) Duration(n ast.Node, what string, low, high time.Duration) (time.Duration, bool) {
	v, err := time.ParseDuration(n.GetToken().Value)
	if err != nil || v < low || v > high {
		d.At(n, fmt.Sprintf("%s is %s, want a time from %s to %s", what, echo(n), low, high), "write a number with its unit, for instance 12s or 2m")
		return 0, false
	}
	return v, true
}

// Decode fills a struct from a mapping by its yaml tags, refusing unknown keys
// and wrong types. What the mapping does not name keeps its value. It reports
// whether all went well.
func (d *Document) Decode(n ast.Node, what string, into any) bool {
	before := len(d.problems)
	names := tags(into)
	pairs, ok := d.pairs(n, what)
	if !ok {
		return false
	}
	for _, p := range pairs {
		if name := keyName(p); !slices.Contains(names, name) {
			d.unknown(p.Key, name, what, names)
		}
	}
	if len(d.problems) > before {
		return false
	}
	if err := decode(n, into); err != nil {
		line, column := place(n)
		d.fromLibrary(err, line, column)
	}
	return len(d.problems) == before && !d.tooMany
}

func decode(n ast.Node, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the text can't be read: %v", r)
		}
	}()
	return yaml.NodeToValue(n, into, yaml.Strict())
}

// Any decodes a node into plain Go values.
func (d *Document) Any(n ast.Node) any {
	var v any
	if err := decode(n, &v); err != nil {
		line, column := place(n)
		d.fromLibrary(err, line, column)
	}
	return v
}

// tags lists the keys of a struct.
func tags(v any) []string {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names []string
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if name != "" && name != "-" {
				names = append(names, name)
			}
		}
	}
	return names
}

// kind says what a node is in a person's words.
func kind(n ast.Node) string {
	if n == nil {
		return "nothing"
	}
	switch n.Type() {
	case ast.NullType:
		return "empty"
	case ast.MappingType, ast.MappingValueType:
		return "a set of keys"
	case ast.SequenceType:
		return "a list"
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		return "an anchor or alias, which are not supported"
	case ast.TagType:
		return "a tagged value, which is not supported"
	}
	return echo(n)
}

// echo quotes a node's text, cut short.
func echo(n ast.Node) string {
	t := n.GetToken()
	if t == nil || t.Type == token.MappingValueType || t.Type == token.SequenceEntryType {
		return "not a single value"
	}
	return fmt.Sprintf("%q", clip(t.Value))
}

func clip(s string) string {
	const most = 60
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// Nearest is the word of the list that a typing error may have made of word, or
// nothing.
func Nearest(word string, list []string) string {
	if len(word) > 60 {
		return ""
	}
	best, least := "", 3
	for _, l := range list {
		if n := edits(word, l); n < least && 2*n <= len(l) {
			best, least = l, n
		}
	}
	return best
}

// edits is the number of letters to add, take out, change or swap.
func edits(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	var older []int
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, before, row = before, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// Canonical is a text that is the same for mappings of the same content,
// whatever their comments and order.
func Canonical(v any) string {
	var b bytes.Buffer
	canonical(&b, v)
	return b.String()
}

func canonical(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b.WriteByte('{')
		for _, k := range keys {
			fmt.Fprintf(b, "%q:", k)
			canonical(b, v[k])
			b.WriteByte(',')
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for _, e := range v {
			canonical(b, e)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	default:
		fmt.Fprintf(b, "%T(%v)", v, v)
	}
}
