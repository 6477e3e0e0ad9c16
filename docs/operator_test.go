// Package docs_test holds the pages to what the program knows.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/event"
)

// table gives the rows of the table below a heading: their cells.
func table(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+heading+"\n")
	require.True(t, ok, heading)
	begun := false
	for _, line := range strings.Split(rest, "\n") {
		if strings.HasPrefix(line, "#") {
			break
		}
		if !strings.HasPrefix(line, "|") {
			if begun {
				break
			}
			continue
		}
		begun = true
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if strings.HasPrefix(cells[0], "`") {
			cells[0] = strings.Trim(cells[0], "`")
			rows = append(rows, cells)
		}
	}
	require.NotEmpty(t, rows, heading)
	return rows
}

func first(rows [][]string) (list []string) {
	for _, r := range rows {
		list = append(list, r[0])
	}
	return list
}

var enum = regexp.MustCompile(`enum=([a-z0-9_]+)`)

// words are those of a field of an event.
func words(t *testing.T, data any, field string) (list []string) {
	t.Helper()
	f, ok := reflect.TypeOf(data).FieldByName(field)
	require.True(t, ok)
	for _, m := range enum.FindAllStringSubmatch(f.Tag.Get("jsonschema"), -1) {
		list = append(list, m[1])
	}
	require.NotEmpty(t, list)
	return list
}

// constants are the values of a type's constants, as the source has them.
func constants(t *testing.T, file, typ string) (list []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == typ {
				list = append(list, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	require.NotEmpty(t, list)
	return list
}

func TestOperatorGuideHasEveryWord(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("operator.md")
	require.NoError(t, err)
	page := string(b)
	var types []string
	for _, k := range event.Types() {
		types = append(types, k.Type)
	}
	for heading, want := range map[string][]string{
		"### Events":             types,
		"### States of a device": words(t, event.DeviceState{}, "State"),
		"### Faults of an instrument (`radiation.fault`)":      words(t, event.RadiationFault{}, "Kind"),
		"### Diagnostics of a portal (`radiation.diagnostic`)": words(t, event.RadiationDiagnostic{}, "Kind"),
		"### How an occupancy ended":                           words(t, event.RadiationOccupancy{}, "End"),
		"### What is known of gamma and neutrons":              constants(t, "../protocol/event/radiation.go", "Modality"),
		"### Quality of a signal":                              words(t, event.LaneSignal{}, "Quality"),
	} {
		rows := table(t, page, heading)
		require.ElementsMatch(t, want, first(rows), heading)
		for _, r := range rows {
			for _, cell := range r {
				require.NotEmpty(t, strings.TrimSpace(cell), "%s: %s", heading, r[0])
			}
		}
	}
}

func TestOperatorGuideHasEveryProfile(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("operator.md")
	require.NoError(t, err)
	set, err := profiles.Load("")
	require.NoError(t, err)
	serial := map[string][]string{}
	for _, r := range table(t, string(b), "## Wiring") {
		serial[r[0]] = r[1:]
	}
	rows := table(t, string(b), "## Profiles, and how certain they are")
	require.ElementsMatch(t, set.Names(), first(rows))
	for _, r := range rows {
		p, ok := set.Get(r[0])
		require.True(t, ok, r[0])
		require.Len(t, r, 4, r[0])
		require.Equal(t, p.Evidence, r[1], r[0])
		require.Equal(t, p.Summary, r[2], r[0])
		require.Equal(t, p.Caveats[0].Text, r[3], r[0])
		line := serial[r[0]]
		require.Equal(t, p.Link["data"] != "", line != nil, "%s: its line settings", r[0])
		for i, option := range []string{"baud", "data", "parity", "stop"} {
			if line == nil {
				break
			}
			want := p.Link[option]
			if want == "" {
				want = "give it"
			}
			require.Equal(t, want, line[i], "%s: %s", r[0], option)
		}
	}
}
