package profiles_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	"github.com/lanepost/lanepost/drivers/rpm"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

func TestEveryProfileKeepsItsWord(t *testing.T) {
	set, err := profiles.Load("")
	require.NoError(t, err)
	require.Subset(t, set.Names(), []string{"rapiscan-tsa", "rapiscan-tsa-serial", "rapiscan-tsa-extended"})
	for _, name := range set.Names() {
		p, ok := set.Get(name)
		require.True(t, ok, set.Problems)
		require.Equal(t, "built in", p.Origin)
		require.FileExists(t, name+".yaml", "a profile stands in the file of its name")
		require.NotEmpty(t, p.Products, name)
		require.NotEmpty(t, p.Vectors, "%s proves nothing", name)
		d, ok := registry.ByName(p.Driver)
		require.True(t, ok)
		for key, value := range p.Link {
			require.NoError(t, link.CheckDefault(d.Schemes, key, value), name)
		}
		results := p.Check(registry.ByName)
		require.Len(t, results, len(p.Vectors))
		for _, r := range results {
			t.Run(name+"/"+r.Vector, func(t *testing.T) { require.NoError(t, r.Err) })
		}
	}
}

// A vector that can't fail proves nothing: every single expectation, changed,
// must make its vector fail, and no other.
func TestEveryVectorCanFail(t *testing.T) {
	set, err := profiles.Load("")
	require.NoError(t, err)
	changed := 0
	for _, name := range set.Names() {
		p, _ := set.Get(name)
		for i := range p.Vectors {
			v := &p.Vectors[i]
			right := *v
			failsWith := func(text, why string) {
				t.Helper()
				for k, r := range p.Check(registry.ByName) {
					if k == i {
						require.ErrorContains(t, r.Err, text, "%s/%s: %s", name, right.Name, why)
						require.ErrorContains(t, r.Err, name)
						require.ErrorContains(t, r.Err, right.Name)
					} else {
						require.NoError(t, r.Err)
					}
				}
				*v = right
				changed++
			}
			for k, want := range right.Expect {
				v.Expect = slices.Delete(slices.Clone(right.Expect), k, k+1)
				failsWith("event", "one expected event fewer")

				v.Expect = slices.Insert(slices.Clone(right.Expect), k, want)
				failsWith("event", "one expected event twice")

				v.Expect = slices.Clone(right.Expect)
				v.Expect[k].Type = "lanepost.radiation.else.v1"
				failsWith("want lanepost.radiation.else.v1", "another type")

				for field := range want.Data {
					v.Expect = slices.Clone(right.Expect)
					v.Expect[k].Data = maps.Clone(want.Data)
					v.Expect[k].Data[field] = "something else"
					failsWith("data."+field, "another value")
				}
				v.Expect = slices.Clone(right.Expect)
				v.Expect[k].Data = map[string]any{"no_such_field": nil}
				failsWith("no_such_field", "a field that is not there")
			}
			v.Unparsed++
			failsWith(" not understood", "one more unparsed")
		}
	}
	require.Greater(t, changed, 100)
}

func TestVectorsOfAnUnknownDriverFail(t *testing.T) {
	p, err := profiles.Parse("p.yaml", []byte(head+"vectors: [{name: a, input: \"1 GB\", expect: []}]\n"))
	require.NoError(t, err)
	results := p.Check(func(string) (drivers.Driver, bool) { return drivers.Driver{}, false })
	require.Len(t, results, 1)
	require.ErrorContains(t, results[0].Err, `no driver "tsa-portal"`)
}

const head = "profile: x\nsummary: x\ndriver: tsa-portal\nevidence: assumed\n"

// folder makes a directory of profiles.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func builtIn(t *testing.T, name string) *profiles.Profile {
	t.Helper()
	set, err := profiles.Load("")
	require.NoError(t, err)
	p, ok := set.Get(name)
	require.True(t, ok)
	return p
}

func TestDirectoryOverrides(t *testing.T) {
	dir := folder(t, map[string]string{
		"mine.yaml": strings.Replace(builtIn(t, "rapiscan-tsa").Source(), "silence: 12s", "silence: 20s", 1),
		"new.yaml":  strings.Replace(head, "profile: x", "profile: our-gate", 1),
		"notes.txt": "not a profile",
	})
	set, err := profiles.Load(dir)
	require.NoError(t, err)
	set.CheckDrivers(registry.ByName)
	require.Empty(t, set.Problems)
	p, _ := set.Get("rapiscan-tsa")
	require.Equal(t, "local: "+filepath.Join(dir, "mine.yaml"), p.Origin)
	require.Equal(t, 20*time.Second, p.Silence)
	_, ok := set.Get("our-gate")
	require.True(t, ok)
	serial, _ := set.Get("rapiscan-tsa-serial")
	require.Equal(t, "built in", serial.Origin)

	_, err = profiles.Load(filepath.Join(dir, "nowhere"))
	require.ErrorContains(t, err, "nowhere")
}

// Whatever is wrong with files on disk, the built-in profiles stay, and every
// mistake is told.
func TestBrokenFilesTakeNothingAway(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml": `profile: Broken!
sumary: x
driver: tsa-portal
evidence: sure
`,
		"b.yaml": `profile: rapiscan-tsa
summary: ours
driver: tsa-portal
evidence: assumed
silence: soon
`,
		"c.yaml": head,
		"d.yaml": head,
		"e.yaml": `profile: rapiscan-tsa-serial
summary: ours
driver: tsa-portal
evidence: assumed
settings:
  hold_in: 10
  nsigma: 500
`,
		"f.yaml": `profile: rapiscan-tsa-extended
summary: ours
driver: tsa-portall
evidence: assumed
`,
		"g.yaml": `profile: our-own
summary: ours
driver: tsa-portal
evidence: assumed
settings:
  nsigmas: 4
  intervals: five
  groups: sum
`,
		"h.yaml": "\tprofile: x\n",
		"i.yaml": strings.Repeat("#", 1<<20+1),
		"l.yaml": `profile: our-line
summary: ours
driver: tsa-portal
evidence: assumed
link:
  parity: nne
  baud: 12345678
  bauds: 9600
  stop: 1
`,
		"m.yml": head,
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "j.yaml"), 0o700))
	require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "k.yaml")))

	set, err := profiles.Load(dir)
	require.NoError(t, err)
	set.CheckDrivers(registry.ByName)
	for _, name := range []string{"rapiscan-tsa", "rapiscan-tsa-serial", "rapiscan-tsa-extended"} {
		p, ok := set.Get(name)
		require.True(t, ok, name)
		require.Equal(t, "built in", p.Origin)
	}
	builtIn, err := profiles.Load("")
	require.NoError(t, err)
	require.ElementsMatch(t, append(builtIn.Names(), "x"), set.Names())
	for _, name := range []string{"rapiscan-tsa", "rapiscan-tsa-extended", "rapiscan-tsa-serial", "x"} {
		require.True(t, set.Spoiled(name), name)
	}
	require.False(t, set.Spoiled("another"))
	require.Equal(t, `a.yaml:1:10: profile name "Broken!"
    profile: Broken!
             ^
    hint: use 1 to 40 lower-case letters, digits and dashes, a letter or digit first
a.yaml:2:1: unknown key "sumary" in the profile
    sumary: x
    ^
    hint: did you mean "summary"?
a.yaml:4:11: evidence is "sure"
    evidence: sure
              ^
    hint: want one of verified, documented, assumed
b.yaml:5:10: silence is "soon", want a time from 1s to 24h
    silence: soon
             ^
    hint: write a number with its unit, for instance 12s or 2m
b.yaml: no device can use the profile rapiscan-tsa until this file is mended or taken away
d.yaml: profile x is in c.yaml already
    hint: rename one of them; no device can use the profile until then
h.yaml:1:1: a tab in the indentation
     profile: x
    ^
    hint: YAML is indented with spaces only; set the editor to insert two spaces
i.yaml: the file has more than 1048576 bytes
    hint: at most so many are read
j.yaml: not a file
k.yaml: stat k.yaml: no such file or directory
m.yml: the file of a profile ends in .yaml, so this one is not read
    hint: rename it
l.yaml:6:11: parity=nne is none of none, odd, even, mark or space; did you mean none?
      parity: nne
              ^
l.yaml:7:9: baud=12345678 is not a whole number from 50 to 4000000
      baud: 12345678
            ^
l.yaml:8:10: there is no link setting bauds for tcp and serial; did you mean baud?
      bauds: 9600
             ^
g.yaml:6:3: unknown key "nsigmas" in settings
      nsigmas: 4
      ^
    hint: did you mean "nsigma"?
g.yaml:7:14: intervals is "five", want a whole number
      intervals: five
                 ^
g.yaml:8:11: groups must be a list, not "sum"
      groups: sum
              ^
    hint: begin each element with a dash: - ...
f.yaml:3:9: there is no driver "tsa-portall" in this version
    driver: tsa-portall
            ^
f.yaml: no device can use the profile rapiscan-tsa-extended until this file is mended or taken away
e.yaml:7:11: nsigma: 500 is not between 0.1 and 100; the portal's own value is the fifth field of SG1
      nsigma: 500
              ^
e.yaml: no device can use the profile rapiscan-tsa-serial until this file is mended or taken away`,
		strings.ReplaceAll(set.Problems.Error(), dir+"/", ""))
}

func TestTooManyFiles(t *testing.T) {
	files := map[string]string{}
	for i := range 502 {
		files[fmt.Sprintf("%03d.yaml", i)] = strings.Replace(head, "profile: x", fmt.Sprintf("profile: x%d", i), 1)
	}
	set, err := profiles.Load(folder(t, files))
	require.NoError(t, err)
	require.Len(t, set.Problems, 1)
	require.ErrorContains(t, set.Problems, "500.yaml: more than 500 profiles in one directory")
	_, ok := set.Get("x499")
	require.True(t, ok)
	_, ok = set.Get("rapiscan-tsa")
	require.True(t, ok)
}

func TestBrokenVectors(t *testing.T) {
	for _, c := range []struct{ vector, why string }{
		{"  - {name: a, expect: []}\n", "p.yaml:6:6: a vector needs one of input, http, mqtt, files and registers"},
		{"  - {name: a, registers: [{set: {\"coil:1\": [1]}}], expect: []}\n", "set must be addresses with a number each"},
		{"  - {name: a, registers: [{at: 2s, set: {\"coil:1\": 1}}, {at: 1s, set: {\"coil:1\": 0}}], expect: []}\n", "the step goes back in time"},
		{"  - {input: 1 GB, expect: []}\n", "p.yaml:6:6: a vector has no name"},
		{"  - {name: a, input: 1 GB}\n", "p.yaml:6:6: a vector has no expect"},
		{"  - name: a\n    input: |\n      soon GB\n    expect: []\n", `p.yaml:7:12: input line 1 begins with "soon"`},
		{"  - name: a\n    input: |\n      2 GB\n      1 GB\n    expect: []\n", "input line 2 goes back in time"},
		{"  - name: a\n    input: |\n      NaN GB\n    expect: []\n", "want a moment in seconds"},
		{"  - name: a\n    input: |\n      1e9 GB\n    expect: []\n", "want a moment in seconds"},
		{"  - name: a\n    input: |\n      1 hex: 0g\n    expect: []\n", "invalid byte"},
		{"  - name: a\n    input: \"# nothing\"\n    expect: []\n", "the input is empty"},
		{"  - name: a\n    input: 1 GB\n    expect: [{kind: x}]\n", `unknown key "kind"`},
		{"  - name: a\n    input: 1 GB\n    expect: [{type: x, data: 5}]\n", "data must be a set of fields"},
		{"  - name: a\n    input: 1 GB\n    expect: []\n    unparsed: many\n", "want a whole number"},
		{"  - {name: a, input: 1 GB, expect: []}\n  - {name: a, input: 1 GB, expect: []}\n", `p.yaml:7:12: there is a vector "a" already`},
	} {
		_, err := profiles.Parse("p.yaml", []byte(head+"vectors:\n"+c.vector))
		require.ErrorContains(t, err, c.why)
		require.ErrorContains(t, err, "p.yaml:")
	}
}

// One profile serves several devices, which start at any time.
func TestDecodeTogether(t *testing.T) {
	p := builtIn(t, "rapiscan-tsa")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			var s rpm.Settings
			if err := p.Decode(&s); err != nil || s.NSigma != 5 {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	group.Wait()
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"rapiscan-tsa", "rapiscan-tsa-serial", "rapiscan-tsa-extended"} {
		b, err := os.ReadFile(name + ".yaml")
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(head + "vectors: [{name: a, input: \"1 hex: 00\", expect: [{type: x, data: {a: [1, {b: .nan}]}}]}]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := profiles.Parse("fuzz.yaml", b)
		if err != nil {
			var problems yamlfile.Problems
			require.ErrorAs(t, err, &problems)
			require.NotEmpty(t, problems)
			return
		}
		p.Check(registry.ByName) // no panic, and an end
	})
}
