package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/lanepost/lanepost/protocol/event"
)

// envelope is what the schema of the whole event is called, in place of a type.
const envelope = "lanepost.event.v1"

// timePattern is event.TimeLayout as a regular expression.
const timePattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`

// schemas gives the JSON Schema of the envelope and of each type's data, by
// type. The published ones allow fields that they do not know, because a newer
// agent may send some; strict ones, for tests, do not.
func (s *source) schemas(strict bool) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, k := range event.Types() {
		schema := s.schema(reflect.TypeOf(k.Zero), k.Type, strict)
		schema.Description = k.Summary
		b, err := marshal(schema)
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", k.Type, err)
		}
		all[k.Type] = b
	}
	b, err := marshal(s.envelopeSchema(strict))
	if err != nil {
		return nil, fmt.Errorf("schema of the envelope: %w", err)
	}
	all[envelope] = b
	return all, nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

func (s *source) schema(t reflect.Type, typ string, strict bool) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, AllowAdditionalProperties: !strict,
		LookupComment: func(t reflect.Type, field string) string {
			if field == "" {
				if t.Kind() != reflect.Struct {
					return ""
				}
				return s.outward(s.types[t.Name()], t)
			}
			return s.fieldComment(t, field)
		},
		Mapper: s.mapped,
	}
	schema := r.ReflectFromType(t)
	schema.ID = jsonschema.ID(event.SchemaURI(typ))
	schema.Title = typ
	s.complete(t, schema, schema.Definitions)
	return schema
}

// mapped gives the schemas of what is no struct and no plain value.
func (s *source) mapped(t reflect.Type) *jsonschema.Schema {
	switch {
	case t == reflect.TypeFor[event.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time", Pattern: timePattern}
	case t == reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{Type: "object"}
	case t.Kind() == reflect.String && t.Name() != "string":
		values := &jsonschema.Schema{Type: "string"}
		for _, v := range s.values[t.Name()] {
			values.Enum = append(values.Enum, v.Text)
		}
		return values
	}
	return nil
}

// complete adds to the schema of a struct, and of the structs in it, what the
// reflector can't know.
func (s *source) complete(t reflect.Type, schema *jsonschema.Schema, defs jsonschema.Definitions) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, optional := jsonName(f)
		p, ok := schema.Properties.Get(name)
		if !ok {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if def, ok := defs[inner.Name()]; ok && inner.Kind() == reflect.Struct {
			s.complete(inner, def, defs)
		}
		// Nearly all whole numbers of the contract count something.
		if p.Type == "integer" {
			if !strings.HasPrefix(p.Minimum.String(), "-") { // one that may be less says so
				p.Minimum = "0"
			}
		}
		if p.Items != nil && p.Items.Type == "integer" {
			p.Items.Minimum = "0"
		}
		if f.Type.Kind() == reflect.Pointer && !optional {
			schema.Properties.Set(name, orNull(p))
		}
		if name == privateMember {
			schema.Properties.Set(name, orRedacted(p))
		}
	}
}

// privateMember is the object that a hash takes the place of in the public form
// of an event, see event.Hash.
const privateMember = "private"

func orRedacted(p *jsonschema.Schema) *jsonschema.Schema {
	description := p.Description
	p.Description = ""
	redacted := &jsonschema.Schema{Type: "string", Pattern: "^sha256:[0-9a-f]{64}$"}
	return &jsonschema.Schema{Description: description, OneOf: []*jsonschema.Schema{p, redacted}}
}

// orNull allows null, which says that the value is not known.
func orNull(p *jsonschema.Schema) *jsonschema.Schema {
	if p.Type != "" {
		if p.Extras == nil {
			p.Extras = map[string]any{}
		}
		p.Extras["type"] = []string{p.Type, "null"}
		p.Type = ""
		return p
	}
	description := p.Description
	p.Description = ""
	return &jsonschema.Schema{Description: description, AnyOf: []*jsonschema.Schema{p, {Type: "null"}}}
}

// envelopeSchema is the schema of a whole event: its attributes, and its data
// by the schema of its type.
func (s *source) envelopeSchema(strict bool) *jsonschema.Schema {
	schema := s.schema(reflect.TypeFor[event.Event](), envelope, strict)
	schema.Description = s.outward(s.types["Event"], reflect.TypeFor[event.Event]())
	set := func(name string, change func(*jsonschema.Schema)) {
		p, ok := schema.Properties.Get(name)
		if !ok {
			return // the tests hold that each is there
		}
		change(p)
	}
	one := uint64(1)
	set("specversion", func(p *jsonschema.Schema) { p.Const = event.SpecVersion })
	set("datacontenttype", func(p *jsonschema.Schema) { p.Const = event.DataContentType })
	set("dataschema", func(p *jsonschema.Schema) { p.Format = "uri" })
	set("id", func(p *jsonschema.Schema) { p.Format = "uuid" })
	set("source", func(p *jsonschema.Schema) { p.Pattern = `^(/[A-Za-z0-9._~-]+){3}$` })
	for _, name := range []string{"agent", "type"} {
		set(name, func(p *jsonschema.Schema) { p.MinLength = &one })
	}

	var states []any
	for _, k := range event.Types() {
		if k.Unsequenced {
			states = append(states, k.Type)
		}
		schema.AllOf = append(schema.AllOf, &jsonschema.Schema{
			If: with(property{"type", &jsonschema.Schema{Const: k.Type}}),
			Then: with(property{"data", &jsonschema.Schema{Ref: k.Type + ".json"}},
				property{"dataschema", &jsonschema.Schema{Const: event.SchemaURI(k.Type)}}),
		})
	}
	schema.AllOf = append(schema.AllOf, &jsonschema.Schema{
		If:   with(property{"type", &jsonschema.Schema{Enum: states}}),
		Then: with(property{"priority", jsonschema.FalseSchema}, property{"sequence", jsonschema.FalseSchema}),
		Else: &jsonschema.Schema{Required: []string{"priority", "sequence"}},
	})
	return schema
}

// property is one property of a schema.
type property struct {
	name   string
	schema *jsonschema.Schema
}

// with is a schema that says something of the given properties only.
func with(list ...property) *jsonschema.Schema {
	properties := jsonschema.NewProperties()
	for _, p := range list {
		properties.Set(p.name, p.schema)
	}
	return &jsonschema.Schema{Properties: properties}
}
