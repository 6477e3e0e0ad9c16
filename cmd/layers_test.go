// Package cmd holds the programs, and the tests of how the whole house hangs
// together.
package cmd

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/lanepost/lanepost/"

// forbidden lists who may not import whom; the reasons are in
// docs/architecture.md.
var forbidden = []struct {
	from string
	to   []string
}{
	{"protocol", []string{"drivers", "agent", "simulator", "firmware-profiles", "cmd"}},
	{"drivers", []string{"agent", "simulator", "firmware-profiles", "cmd"}},
	{"firmware-profiles", []string{"agent", "simulator", "cmd"}},
	{"simulator", []string{"drivers", "agent", "firmware-profiles", "cmd"}},
	{"agent", []string{"simulator", "cmd"}},
	{"agent/spool", []string{"drivers", "agent", "firmware-profiles"}},
	{"agent/uplink", []string{"drivers", "agent/config", "agent/supervise", "firmware-profiles"}},
	{"cmd/lanesim", []string{"agent", "drivers"}},
}

type goPackage struct {
	ImportPath   string
	Doc          string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err)
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		list = append(list, p)
	}
}

func under(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, module)
	return ok && (rest == folder || strings.HasPrefix(rest, folder+"/"))
}

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		imports := append(append(p.Imports, p.TestImports...), p.XTestImports...)
		for _, rule := range forbidden {
			if !under(p.ImportPath, rule.from) {
				continue
			}
			seen[rule.from] = true
			for _, to := range rule.to {
				for _, i := range imports {
					if under(i, to) && !under(i, rule.from) {
						t.Errorf("%s imports %s, which it must not", p.ImportPath, i)
					}
				}
			}
		}
	}
	for _, rule := range forbidden {
		require.True(t, seen[rule.from], "the rule for %s guards no package", rule.from)
	}
}

// The agent must stay small and must hold no broker, the simulator must build
// where there is no serial port.
func TestWhatIsLinked(t *testing.T) {
	for _, c := range []struct{ command, not string }{
		{"cmd/lanepost", "github.com/mochi-mqtt/server"},
		{"cmd/lanepost", module + "simulator"},
		{"cmd/lanepost", "github.com/invopop/jsonschema"},
		{"cmd/lanepost", "github.com/gopcua/opcua"},
		{"cmd/lanepost", "testing"},
		{"cmd/lanesim", "go.bug.st/serial"},
		{"cmd/lanesim", "testing"},
	} {
		cmd := exec.Command("go", "list", "-deps", "./"+c.command)
		cmd.Dir = ".."
		out, err := cmd.Output()
		require.NoError(t, err)
		for _, dep := range strings.Fields(string(out)) {
			if dep == c.not || strings.HasPrefix(dep, c.not+"/") {
				t.Errorf("%s links %s", c.command, dep)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.Imports) == 0 && p.Doc == "" {
			continue // test files only
		}
		require.NotEmpty(t, p.Doc, "%s has no package comment", p.ImportPath)
	}
}
