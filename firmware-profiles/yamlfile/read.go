package yamlfile

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

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
			// A key that is missing since it is misspelt is one mistake.
			seen[d.unknown(p.Key, name, what, keys)] = true
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

// unknown notes a key that nobody knows, and gives the one that is probably meant; "" for none.
func (d *Document) unknown(at ast.Node, name, what string, keys []Key) (near string) {
	var names, allowed []string
	for _, k := range keys {
		names = append(names, k.Name)
		if k.Instead == "" {
			allowed = append(allowed, k.Name)
		}
	}
	hint := "known here: " + strings.Join(allowed, ", ")
	if near = Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		if i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == near }); keys[i].Instead != "" {
			hint = keys[i].Instead
		}
	}
	d.At(at, fmt.Sprintf("unknown key %q in %s", clip(name), what), hint)
	return near
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
	d.At(n, fmt.Sprintf("%s must be a set of keys with values, not %s", what, say(n)), "write key: value, one to a line")
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
		d.At(n, fmt.Sprintf("%s must be a list, not %s", what, say(n)), "begin each element with a dash: - ...")
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
	hint := ""
	if n.Type() == ast.NullType {
		hint = `for an empty text write ""`
	}
	d.At(n, fmt.Sprintf("%s must be text, not %s", what, say(n)), hint)
	return "", false
}

// Whole reads a whole number from low to high.
func (d *Document) Whole(n ast.Node, what string, low, high int) (int, bool) {
	v, ok := whole(n)
	if !ok || v < int64(low) || v > int64(high) {
		d.At(n, fmt.Sprintf("%s is %s, want a whole number from %d to %d", what, say(n), low, high), "")
		return 0, false
	}
	return int(v), true
}

// whole reads a number as people write it. YAML would take 010 for eight, and
// the library 4.7 for four.
func whole(n ast.Node) (int64, bool) {
	if n.Type() != ast.IntegerType {
		return 0, false
	}
	v, err := strconv.ParseInt(n.GetToken().Value, 10, 64)
	return v, err == nil && strconv.FormatInt(v, 10) == n.GetToken().Value
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// number reads a number likewise.
func number(n ast.Node) (float64, bool) {
	if n.Type() != ast.IntegerType && n.Type() != ast.FloatType || !decimal.MatchString(n.GetToken().Value) {
		return 0, false
	}
	v, err := strconv.ParseFloat(n.GetToken().Value, 64)
	return v, err == nil
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
//
// It knows text, truth values, numbers, durations, lists, structs (also inline),
// mappings with free keys, and pointers to any of these, and takes
// each only as it is written: the YAML library would turn a label 010 into 8, an
// empty element into a text, and 4.7 into a whole number.
func (d *Document) Decode(n ast.Node, what string, into any) bool {
	before := len(d.problems)
	d.fillStruct(n, what, reflect.ValueOf(into).Elem())
	return len(d.problems) == before && !d.tooMany
}

func (d *Document) fillStruct(n ast.Node, what string, into reflect.Value) {
	d.Mapping(n, what, d.keysOf(into)...)
}

// keysOf lists the keys of a struct with those of the structs that are inline.
func (d *Document) keysOf(into reflect.Value) (keys []Key) {
	for i := range into.NumField() {
		name, option, _ := strings.Cut(into.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case option == "inline" && into.Field(i).Kind() == reflect.Struct:
			keys = append(keys, d.keysOf(into.Field(i))...)
		case name != "" && name != "-":
			keys = append(keys, Key{Name: name, Read: func(n ast.Node) { d.fill(n, name, into.Field(i)) }})
		}
	}
	return keys
}

// fill reads a value of any kind that Decode knows.
func (d *Document) fill(n ast.Node, what string, into reflect.Value) {
	var want string
	var ok bool
	switch kind := into.Kind(); {
	case into.Type() == reflect.TypeFor[time.Duration]():
		want = "a time with its unit, for instance 12s or 2m"
		v, err := time.ParseDuration(n.GetToken().Value)
		if ok = err == nil && n.Type() == ast.StringType; ok {
			into.SetInt(int64(v))
		}
	case kind == reflect.String:
		if v, isText := d.Text(n, what); isText {
			into.SetString(v)
		}
		return
	case kind == reflect.Bool:
		var v *ast.BoolNode
		if v, ok = n.(*ast.BoolNode); ok {
			into.SetBool(v.Value)
		}
		want = "true or false"
	case into.CanInt():
		var v int64
		if v, ok = whole(n); ok && into.OverflowInt(v) {
			ok = false
		}
		if ok {
			into.SetInt(v)
		}
		want = "a whole number"
	case into.CanFloat():
		var v float64
		if v, ok = number(n); ok {
			into.SetFloat(v)
		}
		want = "a number"
	case kind == reflect.Slice:
		list := reflect.MakeSlice(into.Type(), 0, 0)
		i := 0
		d.Sequence(n, what, maxElements, func(n ast.Node) {
			i++
			element := reflect.New(into.Type().Elem()).Elem()
			d.fill(n, fmt.Sprintf("%s, element %d,", what, i), element)
			list = reflect.Append(list, element)
		})
		into.Set(list)
		return
	case kind == reflect.Struct:
		d.fillStruct(n, what, into)
		return
	case kind == reflect.Pointer:
		target := reflect.New(into.Type().Elem())
		d.fill(n, what, target.Elem())
		into.Set(target)
		return
	case kind == reflect.Map && into.Type().Key().Kind() == reflect.String:
		d.fillMap(n, what, into)
		return
	default:
		want = "another kind of setting; the driver's " + into.Type().String() + " can't be read from a file"
	}
	if !ok {
		d.At(n, fmt.Sprintf("%s is %s, want %s", what, say(n), want), "")
	}
}

// fillMap reads a mapping whose keys are free. It takes the place of what was there.
func (d *Document) fillMap(n ast.Node, what string, into reflect.Value) {
	m := reflect.MakeMap(into.Type())
	d.Pairs(n, what, func(key string, at, value ast.Node) {
		name := reflect.ValueOf(key).Convert(into.Type().Key())
		switch {
		case m.Len() >= maxElements:
			d.At(at, fmt.Sprintf("%s has more than %d keys", what, maxElements), "")
		case m.MapIndex(name).IsValid():
			d.At(at, fmt.Sprintf("%s has the key %q twice", what, clip(key)), "take one out")
		default:
			element := reflect.New(into.Type().Elem()).Elem()
			d.fill(value, what+"."+clip(key), element)
			m.SetMapIndex(name, element)
		}
	})
	into.Set(m)
}

// Any decodes a node into plain Go values.
func (d *Document) Any(n ast.Node) (v any) {
	if err := decode(n, &v); err != nil {
		line, column := place(n)
		d.fromLibrary(err, line, column)
	}
	return v
}

func decode(n ast.Node, into any) (err error) {
	defer contain(&err)
	return yaml.NodeToValue(n, into)
}

// say tells what a node is in a person's words.
func say(n ast.Node) string {
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
