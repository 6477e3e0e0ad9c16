package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"text/template"

	"github.com/lanepost/lanepost/protocol/event"
)

//go:embed events.md.tmpl
var page string

// row is one line of a table of fields.
type row struct {
	Name, Type, Unit, Meaning string
}

// kind is one type of event as the page tells it.
type kind struct {
	event.Kind
	Anchor      string
	Description string
	Class       string
	Topic       string
	Rows        []row
	Values      []listed
	Text        string
}

// listed is a field whose values mean more than they say.
type listed struct {
	Name   string
	Values []value
}

// docs writes the page.
func (s *source) docs() ([]byte, error) {
	t, err := template.New("events.md").Parse(page)
	if err != nil {
		return nil, err
	}
	attributes, _, err := s.rows(reflect.TypeFor[event.Event](), "")
	if err != nil {
		return nil, err
	}
	raw, _, err := s.rows(reflect.TypeFor[event.Raw](), "")
	if err != nil {
		return nil, err
	}
	attachment, _, err := s.rows(reflect.TypeFor[event.Attachment](), "")
	if err != nil {
		return nil, err
	}
	var kinds []kind
	for _, k := range event.Types() {
		of := reflect.TypeOf(k.Zero)
		rows, values, err := s.rows(of, "")
		if err != nil {
			return nil, err
		}
		text, err := k.Example.Encode()
		if err != nil {
			return nil, err
		}
		class := "none, it is a state"
		if !k.Retained {
			class = "none, it is a notice"
		}
		if !k.Unsequenced {
			var names []string
			for _, c := range k.Classes {
				names = append(names, string(c))
			}
			class = strings.Join(names, " or ")
		}
		kinds = append(kinds, kind{
			Kind: k, Anchor: strings.ReplaceAll(k.Type, ".", ""),
			Description: s.typeComment(k), Class: class,
			Topic: event.Topic(k.Example.Header.Source, k.Type),
			Rows:  rows, Values: values, Text: layout(text),
		})
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Kinds": kinds, "Attributes": attributes, "Raw": raw, "Attachment": attachment,
		"Modalities": s.values["Modality"], "Outcomes": s.values["Outcome"], "Classes": s.values["Class"],
		"Envelope": envelope, "ContentType": event.ContentType, "Root": event.TopicRoot,
		"MaxSize": event.MaxSize >> 20, "MaxRaw": event.MaxRaw >> 10, "AgentLane": event.AgentLane,
		"SchemaBase": strings.TrimSuffix(event.SchemaURI(envelope), envelope+".json"),
	})
	return b.Bytes(), err
}

// typeComment is the comment of a type, for people outside.
func (s *source) typeComment(k event.Kind) string {
	of := reflect.TypeOf(k.Zero)
	subject := "This event"
	if k.Unsequenced && k.Retained {
		subject = "This state"
	}
	return s.outward(subject+strings.TrimPrefix(s.types[of.Name()], of.Name()), of)
}

// rows lists the fields of a struct, those of structs in it included. Raw is
// told once for all.
func (s *source) rows(t reflect.Type, prefix string) (list []row, values []listed, err error) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, optional := jsonName(f)
		if name == "-" {
			continue
		}
		meaning := s.fieldComment(t, f.Name)
		if meaning == "" {
			return nil, nil, fmt.Errorf("%s.%s has no comment: say what it means", t.Name(), f.Name)
		}
		typ, inner := typeWords(f.Type)
		if name == privateMember {
			typ += " or string"
		}
		switch {
		case optional:
			typ += ", optional"
		case f.Type.Kind() == reflect.Pointer:
			typ += " or null"
		}
		if v := s.fieldValues(f); len(v) > 0 {
			// What modalities, outcomes and classes mean is told once for all.
			if v[0].Meaning != "" && f.Type.Name() == "string" {
				values = append(values, listed{prefix + name, v})
			}
			var texts []string
			for _, x := range v {
				texts = append(texts, "`"+x.Text+"`")
			}
			if !mentions(meaning, v) {
				meaning += " One of " + strings.Join(texts, ", ") + "."
			}
		}
		if above := s.sameAs(t, i); above >= 0 {
			name, _ := jsonName(t.Field(above))
			meaning = "See `" + prefix + name + "`."
		}
		list = append(list, row{"`" + prefix + name + "`", typ, unit(name), meaning})
		if inner == nil {
			continue
		}
		below := prefix + name
		if f.Type.Kind() == reflect.Slice {
			below += "[]"
		}
		more, moreValues, err := s.rows(inner, below+".")
		if err != nil {
			return nil, nil, err
		}
		list, values = append(list, more...), append(values, moreValues...)
	}
	return list, values, nil
}

// sameAs is the first field before field i that has the same comment, -1 if
// there is none.
func (s *source) sameAs(t reflect.Type, i int) int {
	comments := s.fields[t.Name()]
	for j := range i {
		if comments[t.Field(j).Name] == comments[t.Field(i).Name] {
			return j
		}
	}
	return -1
}

// mentions reports whether a text already names each of the values.
func mentions(text string, values []value) bool {
	for _, v := range values {
		if !strings.Contains(text, `"`+v.Text+`"`) {
			return false
		}
	}
	return true
}

// typeWords names a type for people. inner is the struct whose fields are to be
// listed, if there is one.
func typeWords(t reflect.Type) (words string, inner reflect.Type) {
	switch t {
	case reflect.TypeFor[event.Time]():
		return "time", nil
	case reflect.TypeFor[event.Raw]():
		return "[raw](#raw)", nil
	case reflect.TypeFor[json.RawMessage]():
		return "object", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeWords(t.Elem())
	case reflect.Slice:
		words, inner = typeWords(t.Elem())
		return "list of " + words, inner
	case reflect.Map:
		words, _ = typeWords(t.Elem())
		return "object of " + words, nil
	case reflect.Struct:
		return "object", t
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "boolean", nil
	case reflect.Float64:
		return "number", nil
	}
	return "integer", nil
}

// units tells the unit of a field from its name, the first that fits.
var units = []struct{ suffix, unit string }{
	{"clockmaxerrorms", "ms"},
	{"nsigma", "sigma"},
	{"_cps", "counts/s"},
	{"_sum", "counts"},
	{"_kph", "km/h"},
	{"_s", "s"},
	{"bytes_since", "bytes"},
}

// unitsOf are the units of fields whose name says nothing of them.
var unitsOf = map[string]string{
	"t": "s", "cps": "counts/s", "size": "bytes",
	"counts": "counts", "sum": "counts", "neutron_counts": "counts", "gamma_max_5sample_sum": "counts",
	"bg_sum_cps": "counts/s",
}

func unit(name string) string {
	if u, ok := unitsOf[name]; ok {
		return u
	}
	for _, u := range units {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return ""
}

// width is how wide a line of an example may be.
const width = 110

// layout breaks JSON into lines for people: what fits stays on one line.
func layout(text []byte) string {
	var b strings.Builder
	lay(&b, text, 0, 0)
	return b.String()
}

func lay(b *strings.Builder, text []byte, indent, used int) {
	short := spaced(text)
	if open := text[0]; used+len(short) <= width || (open != '{' && open != '[') {
		b.WriteString(short)
		return
	}
	parts := split(text)
	fmt.Fprintf(b, "%c\n", text[0])
	pad := strings.Repeat("  ", indent+1)
	for i := 0; i < len(parts); i++ {
		b.WriteString(pad)
		used := len(pad)
		if text[0] == '{' {
			key := spaced(parts[i]) + ": "
			b.WriteString(key)
			used += len(key)
			i++
		}
		// Short members of a list share lines.
		if one := spaced(parts[i]); text[0] == '[' && len(one) < width/3 {
			for i+1 < len(parts) && used+len(one)+2+len(spaced(parts[i+1])) < width {
				one += ", " + spaced(parts[i+1])
				i++
			}
			b.WriteString(one)
		} else {
			lay(b, parts[i], indent+1, used)
		}
		if i < len(parts)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(strings.Repeat("  ", indent))
	b.WriteByte(text[len(text)-1])
}

// split gives the members of compact JSON in their order: keys and values of an
// object by turns, or the elements of a list.
func split(text []byte) [][]byte {
	var parts [][]byte
	depth, quoted, from := 0, false, 1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
			if depth == 0 && i > from {
				parts = append(parts, text[from:i])
			}
		case depth == 1 && (c == ',' || c == ':'):
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return parts
}

// spaced is compact JSON with a space after each comma and colon.
func spaced(text []byte) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		b.WriteByte(c)
		switch {
		case quoted && c == '\\':
			i++
			b.WriteByte(text[i])
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			b.WriteByte(' ')
		}
	}
	return b.String()
}
