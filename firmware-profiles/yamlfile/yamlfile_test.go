package yamlfile

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	words := []string{"nsigma", "groups", "intervals", "site", "id"}
	for word, want := range map[string]string{
		"nsigmas": "nsigma", "nsgima": "nsigma", "N_sigma": "nsigma", "group": "groups", "intervall": "intervals",
		"siet": "site", "idd": "id", "x": "", "sigma": "nsigma", "spool": "", "": "", strings.Repeat("site", 20): "",
	} {
		require.Equal(t, want, Nearest(word, words), word)
	}
}

// What stands in a message may go to a log and into events.
func TestSnippetsHoldNoSecret(t *testing.T) {
	for line, want := range map[string]string{
		"password: hunter2":                           "password: ***",
		"  pasword:   hunter2  ":                      "  pasword:   ***",
		`{"password": "hunter2", x: 1}`:               `{"password": ***, x: 1}`,
		"{mqtt_passwd: hunter2}":                      "{mqtt_passwd: ***}",
		"PWD: hunter2":                                "PWD: ***",
		"api_token: hunter2 and more":                 "api_token: ***",
		"client-secret: hunter2":                      "client-secret: ***",
		"brokers: [tls://me:hunter2@mqtt.example]":    "brokers: [tls://***@mqtt.example]",
		"connect: tcp://hunter2@10.0.0.1 # me@there":  "connect: tcp://***@there",
		"connect: http://a:b/hunter2@10.0.0.1":        "connect: http://***@10.0.0.1",
		`"http://me:a/'b hunter2@10.0.0.1"`:           `"http://***@10.0.0.1"`,
		"password_file: /etc/lanepost/password":       "password_file: /etc/lanepost/password",
		"password_env: LANEPOST_PASSWORD":             "password_env: LANEPOST_PASSWORD",
		"password_env: hunter2":                       "password_env: ***",
		"password_env: $hunter2":                      "password_env: ***",
		"passage: 3":                                  "passage: ***", // too careful, and no harm
		"connect: serial:/dev/ttyUSB0?baud=19200":     "connect: serial:/dev/ttyUSB0?baud=19200",
		"\tname: \x1b[31mred\x00":                     " name: ?[31mred?",
		"name: Wjazd żółty":                           "name: Wjazd żółty",
		"password:":                                   "password:",
		"x: {token: hunter2, password_file: p, y: 1}": "x: {token: ***, password_file: p, y: 1}",
	} {
		got, _ := snippet(line, 1)
		require.Equal(t, want, got)
	}
}

// The caret stays under what it points at, whatever is taken out before it.
func TestCaret(t *testing.T) {
	for _, c := range []struct{ line, under string }{
		{"{password: hunter2, idd: 1}", "idd"},
		{"{a: tls://me:hunter2@host, b: tls://me:hunter2@host, idd: 1}", "idd"},
		{"{name: ciężarówki, password: zażółć, idd: 1}", "idd"},
		{"idd: {password: hunter2}", "idd"},
		{"\tidd: 1", "idd"},
		{"x: " + strings.Repeat("ż", 500) + " idd: 1" + strings.Repeat(" y", 500), "idd"},
		{strings.Repeat("ż", maxSnippet-1) + "idd" + strings.Repeat(" y", 500), "idd"},
	} {
		at := strings.Index(c.line, c.under)
		shown, caret := snippet(c.line, utf8.RuneCountInString(c.line[:at])+1)
		require.Equal(t, c.under, string([]rune(shown)[caret:caret+3]), "%s", shown)
		require.LessOrEqual(t, utf8.RuneCountInString(shown), maxSnippet+8)
	}
	// In the middle of a secret it stands at its beginning, and past the end of a
	// line after it.
	shown, caret := snippet("password: hunter2", 14)
	require.Equal(t, "password: ***", shown)
	require.Equal(t, 10, caret)
	shown, caret = snippet("a: [", 5)
	require.Equal(t, "a: [", shown)
	require.Equal(t, 4, caret)
}

func TestLinesUnderASecretAreNotShown(t *testing.T) {
	d := Parse("f", []byte("mqtt:\n  password: |\n    hunter2\n\n    two\n  list:\n    - x\n  token:\n    - - hunter2\n  key_file:\n    - y\n"))
	for line, shown := range map[int]bool{1: true, 2: true, 3: false, 5: false, 6: true, 7: true, 9: false, 11: true} {
		require.Equal(t, shown, d.problem(line, 1, "", "").Snippet != "", "line %d", line)
	}
}

func TestOrder(t *testing.T) {
	d := Parse("b.yaml", []byte("x: 1\ny: 2\n"))
	d.add(2, 3, "fourth", "")
	d.add(2, 1, "third", "")
	d.Include(Problems{{File: "a.yaml", Line: 1, Text: "fifth"}})
	d.add(0, 0, "first", "")
	d.add(1, 1, "second", "")
	var order []string
	for _, p := range d.Err().(Problems) {
		order = append(order, p.Text)
	}
	require.Equal(t, []string{"first", "second", "third", "fourth", "fifth"}, order)
	require.NoError(t, d.Fresh().Err())
}

func TestManyProblems(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "k%d: 1\n", i)
	}
	d := Parse("f", []byte(text.String()))
	d.Mapping(d.Root(), "it")
	require.Len(t, d.Err(), maxProblems+1)
	require.ErrorContains(t, d.Err(), "f: and more; only 50 are shown")
}

// The parser's time grows with the square of what it gets; what would keep it
// for minutes is not given to it.
func TestHostileFilesTakeNoTime(t *testing.T) {
	fill := func(line string) string { return strings.Repeat(line, MaxBytes/len(line)) }
	var keys strings.Builder
	for i := 0; keys.Len() < MaxBytes-20; i++ {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	for text, why := range map[string]string{
		keys.String():       "more than 30000 words and signs",
		fill("---\na: 1\n"): "more than 30000 words and signs",
		"a: &a [x]\nb: [" + fill("*a,")[:MaxBytes-20]: "more than 30000 words and signs",
		fill("["):                         "more than 30000 words and signs",
		"a: \"" + fill("x")[:MaxBytes-10]: "a quote is not closed",
		"a: " + fill("x ")[:MaxBytes-10]:  "",
	} {
		require.LessOrEqual(t, len(text), MaxBytes)
		began := time.Now()
		err := Parse("f", []byte(text)).Err()
		// Generous, for the race detector on a busy machine; without the bounds
		// it is minutes.
		require.Less(t, time.Since(began), 30*time.Second, text[:20])
		if why == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, why, text[:20])
		require.Less(t, len(err.Error()), 1000)
	}
}

func TestJustWithinTheBounds(t *testing.T) {
	var keys strings.Builder
	for i := range maxTokens / 3 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	require.NoError(t, Parse("f", []byte(keys.String())).Err())
	require.ErrorContains(t, Parse("f", []byte(keys.String()+"x: 1\n")).Err(), "more than 30000 words and signs")
	nested := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	require.NoError(t, Parse("f", []byte("a: "+nested)).Err())
	require.ErrorContains(t, Parse("f", []byte("a: ["+nested+"]")).Err(), "nested too deep")
	require.NoError(t, Parse("f", []byte("a:\n"+strings.Repeat(" ", maxIndent)+"b: 1")).Err())
	require.ErrorContains(t, Parse("f", []byte("a:\n"+strings.Repeat(" ", maxIndent+1)+"b: 1")).Err(), "indented too deep")
	// What stands in a comment or in a text is no nesting.
	require.NoError(t, Parse("f", []byte(strings.Repeat("# [\n", 200)+"a: '"+strings.Repeat("[", 200)+"'\n")).Err())
}

type settings struct {
	Name   string        `yaml:"name"`
	Factor float64       `yaml:"factor"`
	Count  int           `yaml:"count"`
	Wait   time.Duration `yaml:"wait"`
	On     bool          `yaml:"on"`
	List   []string      `yaml:"list"`
	Deep   struct {
		X int `yaml:"x"`
	} `yaml:"deep"`
}

func TestDecode(t *testing.T) {
	decode := func(text string) (settings, error) {
		s := settings{Name: "before", Factor: 1, List: []string{"before"}}
		d := Parse("f", []byte(text))
		require.NoError(t, d.Err())
		ok := d.Decode(d.Root(), "settings", &s)
		require.Equal(t, d.Err() == nil, ok)
		return s, d.Err()
	}
	s, err := decode("factor: 3\nwait: 1m30s\nlist: [a, b]\ndeep: {x: 4}\n")
	require.NoError(t, err)
	require.Equal(t, settings{Name: "before", Factor: 3, Wait: 90 * time.Second, List: []string{"a", "b"}, Deep: struct {
		X int `yaml:"x"`
	}{4}}, s)
	_, err = decode("factor: x\ncount: 1.5\nwait: 3\non: maybe\nlist: a\nnome: b\ndeep: {y: 1}\nname:\n")
	require.EqualError(t, err, `f:1:9: factor is "x", want a number
    factor: x
            ^
f:2:8: count is "1.5", want a whole number
    count: 1.5
           ^
f:3:7: wait is "3", want a time with its unit, for instance 12s or 2m
    wait: 3
          ^
f:4:5: on is "maybe", want true or false
    on: maybe
        ^
f:5:7: list must be a list, not "a"
    list: a
          ^
    hint: begin each element with a dash: - ...
f:6:1: unknown key "nome" in settings
    nome: b
    ^
    hint: did you mean "name"?
f:7:8: unknown key "y" in deep
    deep: {y: 1}
           ^
    hint: known here: x
f:8:1: name has no value
    name:
    ^
    hint: write one, or take the key out`)
}

// Each value is what stands there, or an error; never something near it.
func TestDecodeTakesThingsAsWritten(t *testing.T) {
	for text, want := range map[string]settings{
		"name: 010":                             {Name: "010"},
		"name: 1.50":                            {Name: "1.50"},
		"name: true":                            {Name: "true"},
		"name: 0x1F":                            {Name: "0x1F"},
		"name: \"\"":                            {Name: ""},
		"list: [01, 1_0, no, 2026-01-01, \"\"]": {List: []string{"01", "1_0", "no", "2026-01-01", ""}},
		"list: []":                              {List: []string{}},
		"count: -5":                             {Count: -5},
		"factor: 5":                             {Factor: 5},
		"factor: -0.25":                         {Factor: -0.25},
		"wait: '3s'":                            {Wait: 3 * time.Second},
		"on: false":                             {On: false},
	} {
		var got settings
		d := Parse("f", []byte(text))
		require.True(t, d.Decode(d.Root(), "settings", &got), "%s: %v", text, d.Err())
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"count: 010", "count: 0x10", "count: 1_0", "count: +5", "count: 4.7", "count: 1e3", "count: '5'", "count: 9223372036854775808",
		"factor: 010", "factor: .inf", "factor: .nan", "factor: '5'", "factor: 1e3", "factor: [1]", "factor: 1_0.5", "factor: .5",
		"wait: 1.5", "wait: 0", "wait: 3 s", "wait: [3s]", "on: yes", "on: 'true'", "on: 1", "list: [a, ~]", "list: [[a]]", "list: {a: b}", "name: [a]", "deep: 5", "deep: [x]",
	} {
		var got settings
		d := Parse("f", []byte(text))
		require.NoError(t, d.Err(), text)
		require.False(t, d.Decode(d.Root(), "settings", &got), "%s gives %+v", text, got)
		require.Len(t, d.Err(), 1)
	}
	var other struct {
		M map[int]int `yaml:"m"`
	}
	d := Parse("f", []byte("m: {1: 1}"))
	require.False(t, d.Decode(d.Root(), "settings", &other))
	require.ErrorContains(t, d.Err(), "map[int]int can't be read from a file")
}

func TestDecodeFreeKeysPointersAndInline(t *testing.T) {
	type inner struct {
		Free map[string]string `yaml:"free"`
		On   *bool             `yaml:"on"`
	}
	type outer struct {
		inner `yaml:",inline"`
		Name  string `yaml:"name"`
	}
	var got outer
	d := Parse("f", []byte("free: {a: 010, b: x}\non: false\nname: n\n"))
	require.True(t, d.Decode(d.Root(), "settings", &got), "%v", d.Err())
	off := false
	require.Equal(t, outer{inner{map[string]string{"a": "010", "b": "x"}, &off}, "n"}, got)
	for text, want := range map[string]string{
		"fre: {}":          `did you mean "free"?`,
		"free: {a: [b]}":   "free.a must be text",
		"free: [a]":        "free must be a set of keys",
		"free: {a: ~}":     "a has no value",
		"on: yes":          "want true or false",
		"free: {a: b}\n1:": "unknown key",
	} {
		d := Parse("f", []byte(text))
		require.False(t, d.Decode(d.Root(), "settings", &got), text)
		require.ErrorContains(t, d.Err(), want)
	}
}

func TestDuration(t *testing.T) {
	require.Equal(t, "24h", short(24*time.Hour))
	require.Equal(t, "1h10m", short(70*time.Minute))
	require.Equal(t, "10m", short(10*time.Minute))
	require.Equal(t, "1m30s", short(90*time.Second))
	require.Equal(t, "1s", short(time.Second))
	for text, ok := range map[string]bool{"12s": true, "1m": true, "12": false, "0s": false, "25h": false, "-1s": false, "{a: b}": false, "[]": false, "12 s": false} {
		d := Parse("f", []byte("t: "+text))
		d.Pairs(d.Root(), "it", func(_ string, _, v ast.Node) {
			_, got := d.Duration(v, "t", time.Second, 24*time.Hour)
			require.Equal(t, ok, got, text)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a: 1\n", "a: {b: [c, d]}\n", "- a\n- b: c\n", "a: |\n  x\n", "a: \"\\x41\"\n", "? a\n: b\n", "a: 0x1F\nb: .nan\nc: 1_000\nd: 0o7\n",
		"a: 1\na: 2\n", "&a b: *a\n", "---\n...\n", "\xef\xbb\xbfa: b\r\n", "name: x\nfactor: 1\nwait: 3s\nlist: []\ndeep: {x: 1}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := Parse("fuzz", b)
		if d.Root() == nil {
			require.Error(t, d.Err())
			return
		}
		var s settings
		d.Decode(d.Root(), "settings", &s)
		d.Any(d.Root())
		d.Mapping(d.Root(), "it", Key{Name: "a", Read: func(n ast.Node) {
			d.Text(n, "a")
			d.Whole(n, "a", 0, 10)
			d.Duration(n, "a", 0, time.Hour)
			d.Sequence(n, "a", 10, func(n ast.Node) { d.Text(n, "an element") })
		}})
		if err := d.Err(); err != nil {
			require.True(t, utf8.ValidString(err.Error()))
		}
	})
}
