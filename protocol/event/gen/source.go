package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
)

// source is what the Go source of package event says beside its types: what
// they mean, and which values they can have.
type source struct {
	types  map[string]string            // comment by type
	fields map[string]map[string]string // comment by type and field
	// values lists the constants of each named string type in their order, the
	// untyped ones under "".
	values map[string][]value
	// events names the event of each Go type that is one's data.
	events map[string]string
}

// value is one value that a string can have.
type value struct{ Text, Meaning string }

// readSource parses the Go files of dir, tests left out.
func readSource(dir string) (*source, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no Go source in %s", dir)
	}
	s := &source{
		types: map[string]string{}, fields: map[string]map[string]string{}, values: map[string][]value{},
		events: map[string]string{},
	}
	for _, k := range event.Types() {
		s.events[reflect.TypeOf(k.Zero).Name()] = k.Type
	}
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				s.read(g)
			}
		}
	}
	return s, nil
}

func (s *source) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = g.Doc
			}
			s.types[spec.Name.Name] = oneLine(doc.Text())
			if st, ok := spec.Type.(*ast.StructType); ok {
				s.fields[spec.Name.Name] = fieldComments(st)
			}
		case *ast.ValueSpec:
			if g.Tok != token.CONST || len(spec.Names) != 1 || len(spec.Values) != 1 {
				continue
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				continue
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				continue // the compiler would not have it either
			}
			of := ""
			if id, ok := spec.Type.(*ast.Ident); ok {
				of = id.Name
			}
			meaning := oneLine(spec.Doc.Text())
			meaning = strings.TrimPrefix(meaning, spec.Names[0].Name+": ")
			s.values[of] = append(s.values[of], value{text, meaning})
		}
	}
}

// fieldComments gives each field its comment. A comment may stand over several
// fields: those that it names and that have none of their own.
func fieldComments(st *ast.StructType) map[string]string {
	comments := map[string]string{}
	above := ""
	for _, f := range st.Fields.List {
		if f.Doc != nil {
			above = oneLine(f.Doc.Text())
		}
		for _, n := range f.Names {
			if f.Doc != nil || regexp.MustCompile(`\b`+n.Name+`\b`).MatchString(above) {
				comments[n.Name] = above
			}
		}
	}
	return comments
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// jsonName is the name of a field in JSON, and whether it is left out when
// empty.
func jsonName(f reflect.StructField) (name string, optional bool) {
	name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, option == "omitempty"
}

var goWord = regexp.MustCompile(`\b[A-Z]\w*\b`)

// outward rewrites a comment for readers who do not see the Go source: names of
// the struct's fields become those in JSON, names of types become types of
// events, in backquotes.
func (s *source) outward(comment string, of reflect.Type) string {
	names := maps.Clone(s.events)
	for i := range of.NumField() {
		if name, _ := jsonName(of.Field(i)); name != "-" {
			names[of.Field(i).Name] = name
		}
	}
	delete(names, of.Name()) // "AgentLoss says that" reads well enough
	return goWord.ReplaceAllStringFunc(comment, func(w string) string {
		if n, ok := names[w]; ok {
			return "`" + n + "`"
		}
		return w
	})
}

// fieldComment is the comment of a field, for people outside. Its own name at
// the beginning says nothing beside the name itself and goes, unless the
// comment is about several fields.
func (s *source) fieldComment(of reflect.Type, field string) string {
	c := s.fields[of.Name()][field]
	shared := 0
	for _, other := range s.fields[of.Name()] {
		if other == c {
			shared++
		}
	}
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(c, field+verb); ok && shared == 1 {
			c = s.outward(rest, of)
			return strings.ToUpper(c[:1]) + c[1:]
		}
	}
	return s.outward(c, of)
}

// fieldValues lists the values that a field of strings can have; none when it
// is free.
func (s *source) fieldValues(f reflect.StructField) []value {
	t := f.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() == reflect.String && t.Name() != "string" {
		return s.values[t.Name()]
	}
	var list []value
	for _, tag := range strings.Split(f.Tag.Get("jsonschema"), ",") {
		text, ok := strings.CutPrefix(tag, "enum=")
		if !ok {
			continue
		}
		v := value{Text: text}
		for _, c := range s.values[""] {
			if c.Text == text {
				v.Meaning = c.Meaning
			}
		}
		list = append(list, v)
	}
	return list
}

// repositoryRoot walks up from the working directory to go.mod.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it within the repository")
		}
		dir = up
	}
}
