package profiles_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

func TestEveryProfileKeepsItsWord(t *testing.T) {
	set, err := profiles.Load("")
	require.NoError(t, err)
	require.Subset(t, set.Names(), []string{"rapiscan-tsa", "rapiscan-tsa-serial", "rapiscan-tsa-extended"})
	for _, name := range set.Names() {
		p, _ := set.Get(name)
		require.Equal(t, "built in", p.Origin)
		d, ok := registry.ByName(p.Driver)
		require.True(t, ok, "%s wants the driver %s", name, p.Driver)
		require.NotEmpty(t, p.Vectors, "%s proves nothing", name)
		for _, v := range p.Vectors {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				require.NoError(t, p.Check(d, v))
			})
		}
	}
}

// A vector that can't fail proves nothing: every single expectation, changed,
// must make its vector fail.
func TestEveryVectorCanFail(t *testing.T) {
	set, err := profiles.Load("")
	require.NoError(t, err)
	changed := 0
	for _, name := range set.Names() {
		p, _ := set.Get(name)
		d, _ := registry.ByName(p.Driver)
		for _, v := range p.Vectors {
			for i := range v.Expect {
				shorter := v
				shorter.Expect = append(append([]profiles.Expected(nil), v.Expect[:i]...), v.Expect[i+1:]...)
				require.Error(t, p.Check(d, shorter), "%s/%s without event %d", name, v.Name, i+1)
				for field := range v.Expect[i].Data {
					data := map[string]any{}
					for k, val := range v.Expect[i].Data {
						data[k] = val
					}
					data[field] = "something else"
					other := v
					other.Expect = append([]profiles.Expected(nil), v.Expect...)
					other.Expect[i].Data = data
					require.ErrorContains(t, p.Check(d, other), field)
					changed++
				}
			}
			more := v
			more.Unparsed++
			require.Error(t, p.Check(d, more))
		}
	}
	require.Greater(t, changed, 30)
}

func TestDirectoryOverrides(t *testing.T) {
	set, err := profiles.Load("")
	require.NoError(t, err)
	builtIn, _ := set.Get("rapiscan-tsa")

	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("mine.yaml", strings.Replace(builtIn.Source(), "silence: 12s", "silence: 20s", 1))
	write("new.yaml", "profile: our-gate\nsummary: our own\ndriver: tsa-portal\nevidence: assumed\n")
	write("broken.yaml", "profile: Broken!\nsumary: x\ndriver: tsa-portal\nevidence: sure\n")
	write("twice.yaml", "profile: our-gate\nsummary: again\ndriver: tsa-portal\nevidence: assumed\n")
	write("notes.txt", "not a profile")

	set, err = profiles.Load(dir)
	require.NoError(t, err)
	p, _ := set.Get("rapiscan-tsa")
	require.Equal(t, "local: "+filepath.Join(dir, "mine.yaml"), p.Origin)
	require.Equal(t, 20.0, p.Silence.Seconds())
	_, ok := set.Get("our-gate")
	require.True(t, ok)
	serial, _ := set.Get("rapiscan-tsa-serial")
	require.Equal(t, "built in", serial.Origin)

	require.Len(t, set.Problems, 2)
	require.EqualError(t, set.Problems[0], dir+`/broken.yaml:1:1: the profile has no summary
    profile: Broken!
    ^
    hint: add summary: ...
`+dir+`/broken.yaml:1:10: profile name "Broken!"
    profile: Broken!
             ^
    hint: use 1 to 40 lower-case letters, digits and dashes, a letter or digit first
`+dir+`/broken.yaml:2:1: unknown key "sumary" in the profile
    sumary: x
    ^
    hint: did you mean "summary"?
`+dir+`/broken.yaml:4:11: evidence is "sure"
    evidence: sure
              ^
    hint: want one of verified, documented, assumed`)
	require.ErrorContains(t, set.Problems[1], "is in "+filepath.Join(dir, "new.yaml")+" already")

	_, err = profiles.Load(filepath.Join(dir, "nowhere"))
	require.ErrorContains(t, err, "nowhere")
}

func TestBrokenVectors(t *testing.T) {
	const head = "profile: x\nsummary: x\ndriver: tsa-portal\nevidence: assumed\nvectors:\n"
	for _, c := range []struct{ vector, why string }{
		{"  - {name: a, expect: []}\n", "a vector has no input"},
		{"  - name: a\n    input: |\n      soon GB\n    expect: []\n", `input line 1 begins with "soon"`},
		{"  - name: a\n    input: |\n      2 GB\n      1 GB\n    expect: []\n", "input line 2 goes back in time"},
		{"  - name: a\n    input: |\n      1 hex: 0g\n    expect: []\n", "invalid byte"},
		{"  - name: a\n    input: \"# nothing\"\n    expect: []\n", "the input is empty"},
		{"  - name: a\n    input: 1 GB\n    expect: [{kind: x}]\n", `unknown key "kind"`},
		{"  - name: a\n    input: 1 GB\n    expect: []\n    unparsed: many\n", "want a whole number"},
	} {
		_, err := profiles.Parse("p.yaml", []byte(head+c.vector))
		require.ErrorContains(t, err, c.why)
		require.ErrorContains(t, err, "p.yaml:")
	}
}

func FuzzParse(f *testing.F) {
	set, err := profiles.Load("")
	require.NoError(f, err)
	for _, name := range set.Names() {
		p, _ := set.Get(name)
		f.Add([]byte(p.Source()))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		// No panic, and a bounded time, is all that is asked.
		_, _ = profiles.Parse("fuzz.yaml", b)
	})
}
