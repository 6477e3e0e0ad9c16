package yamlfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

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
	// Read takes the value. It is not called for a key without a value, which is
	// a problem: nobody can tell whether it was left out on purpose.
	Read func(ast.Node)
	// Instead, if set, refuses the key and says what to write.
	Instead string
}

// Mapping reads a mapping with the given keys and notes those that are unknown,
// missing or without a value.
func (d *Document) Mapping(n ast.Node, what string, keys ...Key) {
	pairs, ok := d.pairs(n, what)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		name := keyName(p)
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
		if i < 0 {
			d.unknown(p.Key, name, what, keys)
			continue
		}
		seen[name] = true
		switch k := keys[i]; {
		case k.Instead != "":
			d.At(p.Key, fmt.Sprintf("%s can't have the key %q", what, name), k.Instead)
		case empty(p):
			d.empty(p.Key, name)
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
func (d *Document) unknown(at ast.Node, name, what string, keys []Key) {
	var names, allowed []string
	for _, k := range keys {
		names = append(names, k.Name)
		if k.Instead == "" {
			allowed = append(allowed, k.Name)
		}
	}
	hint := "known here: " + strings.Join(allowed, ", ")
	if near := Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		if i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == near }); keys[i].Instead != "" {
			hint = keys[i].Instead
		}
	}
	d.At(at, fmt.Sprintf("unknown key %q in %s", clip(name), what), hint)
}

func empty(p *ast.MappingValueNode) bool { return p.Value == nil || p.Value.Type() == ast.NullType }

func (d *Document) empty(at ast.Node, name string) {
	d.At(at, fmt.Sprintf("%s has no value", clip(name)), "write one, or take the key out")
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
		if empty(p) {
			d.empty(p.Key, keyName(p))
			continue
		}
		each(keyName(p), p.Key, p.Value)
	}
}

// Value is the value of a key of a mapping, nil if it is not there.
func Value(n ast.Node, key string) ast.Node {
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	}
	for _, p := range pairs {
		if keyName(p) == key {
			return p.Value
		}
	}
	return nil
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
		d.At(n, fmt.Sprintf("%s is %s, want a time from %s to %s", what, echo(n), short(low), short(high)),
			"write a number with its unit, for instance 12s or 2m")
		return 0, false
	}
	return v, true
}

// short writes a duration without the parts that are zero: 24h, not 24h0m0s.
func short(t time.Duration) string {
	s := t.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// Decode fills a struct from a mapping by its yaml tags, refusing unknown keys
// and wrong types. What the mapping does not name keeps its value. It reports
// whether all went well.
func (d *Document) Decode(n ast.Node, what string, into any) bool {
	before := len(d.problems)
	keys, types := tags(into)
	pairs, ok := d.pairs(n, what)
	if !ok {
		return false
	}
	for _, p := range pairs {
		name := keyName(p)
		switch {
		case !slices.ContainsFunc(keys, func(k Key) bool { return k.Name == name }):
			d.unknown(p.Key, name, what, keys)
		case empty(p):
			d.empty(p.Key, name)
		case types[name] == reflect.TypeFor[time.Duration]() && p.Value.Type() == ast.IntegerType:
			// The library would take it as nanoseconds.
			d.At(p.Value, "want "+wanted(types[name]), "")
		default:
			// One at a time, so that each wrong one is told.
			if err := decode(p, into); err != nil {
				line, column := place(p.Value)
				d.fromLibrary(err, line, column)
			}
		}
	}
	return len(d.problems) == before && !d.tooMany
}

func decode(n ast.Node, into any) (err error) {
	defer contain(&err)
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

// tags lists the keys of a struct, and their types.
func tags(v any) ([]Key, map[string]reflect.Type) {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var keys []Key
	types := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if name != "" && name != "-" {
				keys = append(keys, Key{Name: name})
				types[name] = t.Field(i).Type
			}
		}
	}
	return keys, types
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
