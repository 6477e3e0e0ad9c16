package grammar

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/ratemeter"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// words is a vocabulary with one value of each use.
var words = map[string]Vocabulary{"things": {Target: func(name string, _ Field) (Target, error) {
	t, known := map[string]Target{
		"number": {}, "rate": {Quantities: []string{DoseRate, CountRate}}, "kilos": {Quantities: []string{Weight}},
		"flag": {Use: Flag}, "text": {Use: Text}, "time": {Use: Time}, "bytes": {Use: Bytes},
	}[name]
	if !known {
		return t, errors.New("there is nothing of this name; take another")
	}
	return t, nil
}}}

var lines = framing.Framing{Kind: framing.Lines}

func one(fields map[string]Field, more ...func(*Kind)) Settings {
	k := Kind{Name: "r", Tells: "things", Separator: ";", Fields: fields}
	for _, m := range more {
		m(&k)
	}
	return Settings{Framing: lines, Records: []Kind{k}}
}

func decodeOne(t *testing.T, s Settings, text string) Message {
	t.Helper()
	f, err := Compile(s, words)
	require.NoError(t, err)
	list := f.Decode([]byte(text))
	require.Len(t, list, 1)
	return list[0]
}

func pointer[T any](v T) *T { return &v }

// The values are typed from what the words mean.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		name  string
		field Field
		text  string
		want  Value
	}{
		{"number", Field{}, "-12.50", Value{Number: -12.5}},
		{"number", Field{}, "+ 12", Value{Number: 12}},
		{"number", Field{}, " .5e1 ", Value{Number: 5}},
		{"number", Field{Decimal: ","}, "1,5", Value{Number: 1.5}},
		{"number", Field{Scale: pointer(0.1), Offset: -4}, "123", Value{Number: 8.3}},
		{"number", Field{Type: "integer"}, "0010", Value{Number: 10}},
		{"number", Field{Type: "hex"}, "0x1f", Value{Number: 31}},
		{"number", Field{Type: "hex", Bit: pointer(4)}, "10", Value{Number: 1}},
		{"number", Field{Range: []float64{0, 5}}, "5", Value{Number: 5}},
		{"number", Field{Missing: []string{"---"}}, "---", Value{Missing: true}},
		{"number", Field{Over: []string{"OL"}}, "OL", Value{Over: true}},
		{"number", Field{Unit: "m/s", To: "km/h"}, "10", Value{Number: 36, Unit: "km/h"}},
		{"number", Field{Unit: "°F", To: "C"}, "212", Value{Number: 100, Unit: "C"}},
		{"number", Field{Unit: "K", To: "C"}, "0", Value{Number: -273.15, Unit: "C"}},
		{"number", Field{Unit: "ft", To: "m"}, "10", Value{Number: 3.048, Unit: "m"}},
		{"rate", Field{Unit: "µR/h"}, "12", Value{Number: 12, Unit: "uR/h"}},
		{"rate", Field{Unit: "1/s"}, "12", Value{Number: 12, Unit: "cps"}},
		{"kilos", Field{Unit: "lb"}, "1", Value{Number: 1, Unit: "lb"}},
		{"flag", Field{Words: map[string]string{"A": "yes", "N": "no"}}, "A", Value{Flag: true}},
		{"flag", Field{Words: map[string]string{"A": "true", "N": "false"}}, "N", Value{}},
		{"flag", Field{Words: map[string]string{"A": "yes", "": "no"}}, "", Value{}},
		{"flag", Field{Words: map[string]string{"A": "yes", "N": "no", "?": "unknown"}}, "?", Value{Missing: true}},
		{"flag", Field{Above: pointer(10.0)}, "10", Value{}},
		{"flag", Field{Above: pointer(10.0)}, "10.1", Value{Flag: true}},
		{"flag", Field{Bit: pointer(2)}, "4", Value{Flag: true}},
		{"flag", Field{Bit: pointer(2)}, "3", Value{}},
		{"flag", Field{Bit: pointer(31), Type: "hex"}, "80000000", Value{Flag: true}},
		{"flag", Field{Bit: pointer(0), Words: map[string]string{"0": "yes", "1": "no"}}, "2", Value{Flag: true}},
		{"text", Field{}, " a b ", Value{Text: "a b"}},
		{"text", Field{Words: map[string]string{"IN": "toward"}}, "IN", Value{Text: "toward"}},
		{"bytes", Field{}, "30 0a FF", Value{Bytes: []byte{0x30, 0x0a, 0xff}}},
		{"bytes", Field{Type: "text"}, "card", Value{Bytes: []byte("card")}},
		{"time", Field{Layout: "unix"}, "1767592800", Value{Time: time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC), Zoned: true}},
	} {
		c.field.Column = 2
		m := decodeOne(t, one(map[string]Field{c.name: c.field}), "x;"+c.text)
		require.Nil(t, m.Failure, "%+v", c)
		c.want.Raw = strings.TrimSpace(c.text)
		require.Equal(t, c.want, m.Values[c.name], "%+v", c)
	}
}

// What is not a value is none, whatever it looks like, and the error tells nothing of it.
func TestNoValues(t *testing.T) {
	for _, c := range []struct {
		name  string
		field Field
		text  string
		want  string
	}{
		{"number", Field{}, "1,5", `a number with the decimal sign "."`},
		{"number", Field{Decimal: ","}, "1.234,5", `a number with the decimal sign ","`},
		{"number", Field{}, "NaN", "a number"},
		{"number", Field{}, "Inf", "a number"},
		{"number", Field{}, "0x10", "a number"},
		{"number", Field{}, "1_000", "a number"},
		{"number", Field{}, "--5", "a number"},
		{"number", Field{}, ".", "a number"},
		{"number", Field{}, "", "a value"},
		{"number", Field{}, "12345678901234567890", "a number"},
		{"number", Field{Type: "integer"}, "5.0", "a whole number"},
		{"number", Field{Type: "hex"}, "-1", "a hexadecimal number"},
		{"number", Field{Type: "hex", Bit: pointer(0)}, "1FFFFFFFF", "a number of 32 bits"},
		{"number", Field{Range: []float64{0, 5}}, "5.001", "a number from 0 to 5"},
		{"number", Field{Range: []float64{0, 5}, Offset: 10}, "1", "a number from 0 to 5"},
		{"number", Field{}, strings.Repeat("1", 2000), "at most 1024 bytes"},
		{"flag", Field{Words: map[string]string{"A": "yes", "N": "no"}}, "a", "a word that is in words"},
		{"flag", Field{Words: map[string]string{"A": "yes", "N": "no"}}, "", "a value"},
		{"flag", Field{Above: pointer(1.0)}, "", "a value"},
		{"text", Field{Words: map[string]string{"IN": "toward"}}, "IM", "a word that is in words"},
		{"text", Field{}, "\xff", "text of the code page"},
		{"bytes", Field{}, "abc", "pairs of hexadecimal digits"},
		{"time", Field{Layout: "15:04 02.01.2006"}, "25:00 05.01.2026", "a time like"},
		{"time", Field{Layout: "unix"}, "0", "a time like"},
	} {
		c.field.Column = 2
		m := decodeOne(t, one(map[string]Field{c.name: c.field}), "x;"+c.text)
		require.NotNil(t, m.Failure, "%+v", c)
		require.Contains(t, m.Failure.Want, c.want, "%+v", c)
		require.Nil(t, m.Values, "nothing of a record that could not be read is taken")
		require.Equal(t, "r", m.Failure.Kind)
		require.Contains(t, m.Failure.Error(), "record r: field "+c.name+", column 2: want ")
		if len(c.text) > 4 {
			require.NotContains(t, m.Failure.Error(), c.text, "it may be personal")
		}
	}
}

func TestPlaces(t *testing.T) {
	// By columns, with one that need not be there.
	s := one(map[string]Field{"number": {Column: 1}, "text": {Column: 3, Optional: true}})
	m := decodeOne(t, s, "5;x")
	require.Nil(t, m.Failure)
	require.NotContains(t, m.Values, "text")
	// A separator of several characters, with an escape.
	s = one(map[string]Field{"number": {Column: 2}}, func(k *Kind) { k.Separator = `\t|` })
	require.InDelta(t, 7, decodeOne(t, s, "x\t|7\t|").Values["number"].Number, 0)
	// By characters, not bytes.
	s = one(map[string]Field{"text": {At: 3, Length: 2}, "number": {At: 5, Length: 1}}, func(k *Kind) { k.Separator = "" })
	m = decodeOne(t, s, "ваги7")
	require.Equal(t, "ги", m.Values["text"].Text)
	require.InDelta(t, 7, m.Values["number"].Number, 0)
	// By groups, one of which takes part in one of two forms only.
	s = one(map[string]Field{"number": {Group: "n"}, "text": {Group: "t", Optional: true}}, func(k *Kind) {
		k.Separator, k.Pattern = "", `^(?P<n>[0-9]+)(/(?P<t>[a-z]+))?$`
	})
	require.NotContains(t, decodeOne(t, s, "12").Values, "text")
	require.Equal(t, "kg", decodeOne(t, s, "12/kg").Values["text"].Text)
	require.NotNil(t, decodeOne(t, s, "12/").Failure)
	// In documents.
	s = Settings{Framing: framing.Framing{Kind: framing.Documents}, Records: []Kind{{
		Name: "r", Tells: "things", Has: "v@unit", Fields: map[string]Field{"kilos": {Path: "v@x=1", UnitFrom: "u"}, "u": {Path: "v@unit", Words: map[string]string{"T": "t"}}, "time": {Path: "/t", Layout: "2006-01-02T15:04Z07:00"}},
	}}}
	m = decodeOne(t, s, `<a><t>2026-01-05T06:00Z</t><v x="1" unit="T">2.5</v></a>`)
	require.Nil(t, m.Failure)
	require.Equal(t, Value{Raw: "2.5", Number: 2.5, Unit: "t"}, m.Values["kilos"])
	require.True(t, m.Values["time"].Zoned)
	// UTF-16 and a code page.
	m = decodeOne(t, s, "\xff\xfe<\x00a\x00>\x00<\x00/\x00a\x00>\x00")
	require.Equal(t, []Tried{{"r", "it has no v@unit"}}, m.Tried)
	s = one(map[string]Field{"text": {Column: 1}})
	s.Encoding = "gb18030"
	require.Equal(t, "重量", decodeOne(t, s, "\xd6\xd8\xc1\xbf;").Values["text"].Text)
}

func TestSeveralRecordsAndKinds(t *testing.T) {
	s := Settings{Framing: framing.Framing{Kind: framing.Lines}, Records: []Kind{
		{Name: "list", Tells: "things", Each: "l", Fields: map[string]Field{"number": {Path: "n"}}},
		{Name: "ping", Tells: Nothing, Matches: "^PING$"},
	}}
	f, err := Compile(s, words)
	require.NoError(t, err)
	list := f.Decode([]byte(`{"l": [{"n": 1}, {"n": "x"}, {"n": 3}]} {"l": [{"n": 4}]}`))
	require.Len(t, list, 4)
	require.NotNil(t, list[1].Failure)
	require.InDelta(t, 3, list[2].Values["number"].Number, 0)
	require.InDelta(t, 4, list[3].Values["number"].Number, 0)
	require.Equal(t, Nothing, f.Decode([]byte("PING"))[0].Tells)
	require.NotNil(t, f.Decode([]byte("PONG"))[0].Failure)
	// What follows a broken document is told, and what was before it is not lost.
	list = f.Decode([]byte(`{"l": [{"n": 1}]} {"l": `))
	require.Len(t, list, 2)
	require.Nil(t, list[0].Failure)
	require.NotNil(t, list[1].Failure)
	// Bounds.
	many := `{"l": [` + strings.Repeat(`{"n": 1},`, MaxRecords+5) + `{"n": 1}]}`
	list = f.Decode([]byte(many))
	require.Len(t, list, MaxRecords+1)
	require.Contains(t, list[MaxRecords].Failure.Error(), "at most 256 records")
	require.Contains(t, f.Decode([]byte(strings.Repeat("x", MaxMessage+1)))[0].Failure.Error(), "a message of at most 65536 bytes")
}

func TestProblems(t *testing.T) {
	field := func(f Field) Settings { return one(map[string]Field{"number": f}) }
	named := func(name string, f Field) Settings { f.Column = 1; return one(map[string]Field{name: f}) }
	kind := func(change func(*Kind)) Settings { return one(map[string]Field{"number": {Column: 1}}, change) }
	top := func(change func(*Settings)) Settings {
		s := one(map[string]Field{"number": {Column: 1}})
		change(&s)
		return s
	}
	for want, s := range map[string]Settings{
		"records: there are none":                                  {Framing: lines},
		"framing: kind is missing":                                 top(func(s *Settings) { s.Framing.Kind = "" }),
		"framing: kind":                                            top(func(s *Settings) { s.Framing.Kind = "line" }),
		"framing: lines with a checksum need their end":            top(func(s *Settings) { s.Framing.Checksum.Kind = "xor" }),
		"framing: max_frame":                                       top(func(s *Settings) { s.Framing.Most = 2 << 20 }),
		"encoding: ":                                               top(func(s *Settings) { s.Encoding = "latin" }),
		"zone: ":                                                   top(func(s *Settings) { s.Zone = "Kyiv" }),
		"records: 1: the record has no name":                       kind(func(k *Kind) { k.Name = "" }),
		`records: 2: there is a record "r" already`:                top(func(s *Settings) { s.Records = append(s.Records, s.Records[0]) }),
		"records: r: tells is missing":                             kind(func(k *Kind) { k.Tells = "" }),
		`records: r: tells: "x" is nothing`:                        kind(func(k *Kind) { k.Tells = "x" }),
		"records: r: fields are missing":                           kind(func(k *Kind) { k.Fields = nil }),
		"records: r: fields: a record that tells nothing has none": kind(func(k *Kind) { k.Tells = Nothing }),
		"records: r: matches: missing closing":                     kind(func(k *Kind) { k.Matches = "(" }),
		"records: r: separator: a backslash":                       kind(func(k *Kind) { k.Separator = `\` }),
		"records: r: columns: 300":                                 kind(func(k *Kind) { k.Columns = 300 }),
		"records: r: pattern: there is a separator too":            kind(func(k *Kind) { k.Pattern = "x" }),
		"records: r: has: ":                                        kind(func(k *Kind) { k.Has = "/" }),
		"records: r: it has places of documents":                   kind(func(k *Kind) { k.Element = "a" }),
		"records: r: fields: x: there is nothing of this name":     named("x", Field{}),
		"records: r: fields: number: it needs one place":           field(Field{}),
		"fields: number: it needs one place; say":                  field(Field{Column: 1, Path: "a"}),
		"fields: number: column: -1":                               field(Field{Column: -1}),
		"fields: number: at: 5000":                                 field(Field{At: 5000, Length: 1}),
		"fields: number: length is missing":                        field(Field{At: 1}),
		"fields: number: length: it goes with at":                  field(Field{Column: 1, Length: 2}),
		"fields: number: group: the record has no pattern":         field(Field{Group: "a"}),
		"fields: number: type: \"numbr\"":                          named("number", Field{Type: "numbr"}),
		"fields: flag: type: flag is a yes or no":                  named("flag", Field{Type: "time"}),
		"fields: number: decimal: \";\"":                           named("number", Field{Decimal: ";"}),
		"fields: number: decimal: only":                            named("number", Field{Type: "hex", Decimal: ","}),
		"fields: number: bit: ":                                    named("number", Field{Bit: pointer(32)}),
		"fields: number: above: ":                                  named("number", Field{Above: pointer(1.0)}),
		"fields: text: scale, offset and range":                    named("text", Field{Offset: 1}),
		"fields: number: range: ":                                  named("number", Field{Range: []float64{5, 1}}),
		"fields: number: scale: 0":                                 named("number", Field{Scale: pointer(0.0)}),
		"fields: flag: over: ":                                     named("flag", Field{Bit: pointer(1), Over: []string{"x"}}),
		"fields: rate: unit is missing":                            named("rate", Field{}),
		"fields: rate: unit: \"rad\" is not known":                 named("rate", Field{Unit: "rad"}),
		"fields: rate: unit: kg is of weight":                      named("rate", Field{Unit: "kg"}),
		"fields: rate: to: rate has a unit of its own":             named("rate", Field{Unit: "cps", To: "cpm"}),
		"fields: number: to: \"kg\" does not go with":              named("number", Field{Unit: "m", To: "kg"}),
		"fields: kilos: unit_from: the record has no field":        named("kilos", Field{UnitFrom: "u"}),
		"fields: kilos: unit_from: there is a unit too":            named("kilos", Field{Unit: "kg", UnitFrom: "u"}),
		"records: r: fields: u: words: \"K\" is \"kilo\"":          one(map[string]Field{"kilos": {Column: 1, UnitFrom: "u"}, "u": {Column: 2, Words: map[string]string{"K": "kilo"}}}),
		"fields: kilos: range: its unit is not known":              one(map[string]Field{"kilos": {Column: 1, UnitFrom: "u", Range: []float64{0, 1}}, "u": {Column: 2}}),
		"fields: text: text is a text and has no unit":             named("text", Field{Unit: "kg"}),
		"fields: flag: nobody can tell":                            named("flag", Field{}),
		"fields: flag: words: they need one for yes":               named("flag", Field{Words: map[string]string{"A": "yes"}}),
		"fields: flag: words: \"A\" is \"alarm\"":                  named("flag", Field{Words: map[string]string{"A": "alarm", "N": "no"}}),
		"fields: flag: above: there are words too":                 named("flag", Field{Above: pointer(1.0), Words: map[string]string{"A": "yes", "N": "no"}}),
		"fields: number: words: number is a number":                named("number", Field{Words: map[string]string{"A": "yes"}}),
		"the word \"A\" is in more than one":                       named("flag", Field{Missing: []string{"A"}, Words: map[string]string{"A": "yes", "N": "no"}}),
		"the word \" A\" is too long, or has blanks":               named("number", Field{Missing: []string{" A"}}),
		"fields: time: layout is missing":                          named("time", Field{}),
		"fields: text: layout: text is no time":                    named("text", Field{Layout: "unix"}),
	} {
		_, err := Compile(s, words)
		require.ErrorContains(t, err, want)
		var p *Problem
		if errors.As(err, &p) {
			text, hint := p.Parts()
			require.NotEmpty(t, hint, "%s says not what to do", text)
		}
	}
	_, err := Compile(Settings{Framing: lines, Records: []Kind{{Name: "r", Tells: "t", Separator: ";", Fields: map[string]Field{"x": {Column: 1}}}}},
		map[string]Vocabulary{"t": {Needs: [][]string{{"a", "b"}}}})
	require.ErrorContains(t, err, "records: r: a record that tells t needs the field a or b")
	// All problems come at once.
	bad := one(map[string]Field{"rate": {Column: 1}, "flag": {Column: 2}})
	bad.Zone = "x"
	_, err = Compile(bad, words)
	require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), 3)
}

// The units of radiation are those of the events' driver, which converts them.
func TestUnits(t *testing.T) {
	require.ElementsMatch(t, ratemeter.Units(), Units(DoseRate, CountRate))
	for _, name := range Units(DoseRate, CountRate) {
		v, quantity, si := ratemeter.SI(3, name, 10)
		require.NotEqual(t, "unknown", quantity)
		if ours, ok := Convert(3, name, si); ok {
			require.InEpsilon(t, v, ours, 1e-9, name)
		}
	}
	seen := map[string]bool{}
	for _, u := range units {
		for _, name := range append(u.aliases, u.name) {
			require.False(t, seen[name], name)
			seen[name] = true
		}
	}
	_, ok := Convert(1, "kg", "m")
	require.False(t, ok)
	_, ok = Convert(1, "uR/h", "uSv/h")
	require.False(t, ok, "how much a roentgen counts for is a setting")
	v, ok := Convert(1, "uR/h", "µR/h")
	require.True(t, ok)
	require.InDelta(t, 1, v, 0)
}

// A checksum of another kind that would be right is named, for whoever writes the description.
func TestOtherChecksums(t *testing.T) {
	s := one(map[string]Field{"number": {Column: 2}})
	s.Framing = framing.Framing{Kind: framing.Marks, Framing: textframe.Framing{Checksum: textframe.Checksum{Kind: "xor", Digits: "hex"}}}
	f, err := Compile(s, words)
	require.NoError(t, err)
	f.Explain = true
	splitter := f.Splitter()
	_, _ = splitter.Write([]byte("\x02x;5E8\x03")) // 78 + 3b + 35 = e8
	p, ok := splitter.Next()
	require.True(t, ok)
	m := f.Broken(p)
	require.Equal(t, "the checksum 76", m.Failure.Want) // 78 ^ 3b ^ 35
	require.Equal(t, "E8", m.Failure.Got)
	require.Contains(t, m.Failure.Hint, "kind: sum8 would be right")
	require.Equal(t, "E8", m.Text[m.Failure.From:m.Failure.To])
}

// FuzzDecode: whatever comes, by whatever description that is taken, is read or told, within
// bounds, with a place that is in the text, and nothing of a failed record is taken.
func FuzzDecode(f *testing.F) {
	settings := []Settings{
		one(map[string]Field{"number": {Column: 2, Decimal: ",", Range: []float64{-5, 5}}, "flag": {Column: 3, Words: map[string]string{"A": "yes", "N": "no"}}, "text": {Column: 4, Optional: true}}),
		one(map[string]Field{"number": {At: 2, Length: 3, Type: "hex"}, "bytes": {At: 5, Length: 4}}, func(k *Kind) { k.Separator, k.Starts = "", "x" }),
		one(map[string]Field{"number": {Group: "a"}, "flag": {Group: "b", Bit: pointer(3), Optional: true}}, func(k *Kind) { k.Separator, k.Pattern = "", `^(?P<a>\d+)(;(?P<b>.*))?$` }),
		{Framing: framing.Framing{Kind: framing.Documents}, Records: []Kind{
			{Name: "e", Tells: "things", Each: "l/i", Fields: map[string]Field{"number": {Path: "@n"}, "time": {Path: "/t", Layout: "unix_ms", Optional: true}}},
			{Name: "r", Tells: "things", Element: "a", Fields: map[string]Field{"kilos": {Path: "v", UnitFrom: "u"}, "u": {Path: "v@u"}}},
		}},
		{Framing: framing.Framing{Kind: framing.Marks, Framing: textframe.Framing{Checksum: textframe.Checksum{Kind: "lrc-modbus", Digits: "decimal", Mark: "*"}}}, Encoding: "gb18030", Records: []Kind{{Name: "n", Tells: Nothing, Matches: "^a+(b|c)*$"}}},
	}
	var formats []*Format
	for _, s := range settings {
		c, err := Compile(s, words)
		require.NoError(f, err)
		c.Explain = true
		formats = append(formats, c)
	}
	for i, seed := range []string{"x;1,5;A;q\r\n", "x0FFabcd\n", "12;8\n", `<a><v u="kg">5</v></a>{"l":{"i":[{"n":1}]},"t":1767592800000}`, "\x02ab*061\x03"} {
		f.Add(byte(i), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which byte, stream []byte) {
		format := formats[int(which)%len(formats)]
		splitter := format.Splitter()
		_, _ = splitter.Write(stream)
		splitter.Idle()
		check := func(m Message) {
			if m.Failure == nil {
				for _, v := range m.Values {
					require.False(t, math.IsNaN(v.Number) || math.IsInf(v.Number, 0))
				}
				require.NotEmpty(t, m.Kind)
				return
			}
			require.Empty(t, m.Values)
			require.LessOrEqual(t, m.Failure.From, len(m.Text))
			require.NotEmpty(t, m.Failure.Want)
		}
		for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
			if p.Problem != "" {
				check(format.Broken(p))
				continue
			}
			list := format.Decode(p.Data)
			require.NotEmpty(t, list)
			require.LessOrEqual(t, len(list), MaxRecords+2)
			for _, m := range list {
				check(m)
			}
		}
		for _, m := range format.Decode(stream) {
			check(m)
		}
	})
}
