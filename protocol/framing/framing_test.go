package framing

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/textframe"
)

func compile(t testing.TB, f Framing) *Format {
	t.Helper()
	c, err := f.Compile()
	require.NoError(t, err)
	return c
}

// split gives the messages of a stream that comes in pieces of n bytes, the problems, and
// the bytes that belong to no message without the blanks. The bytes "~" in the stream are
// pauses.
func split(c *Format, stream string, n int) (messages, problems []string, junk string) {
	s := c.Splitter()
	take := func() {
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			if p.Problem != "" {
				problems = append(problems, p.Problem)
				junk += string(p.Bytes)
			} else if len(p.Data) > 0 {
				messages = append(messages, string(p.Data))
			}
		}
	}
	for _, part := range strings.SplitAfter(stream, "~") {
		part, pause := strings.CutSuffix(part, "~")
		for len(part) > 0 {
			k := min(n, len(part))
			_, _ = s.Write([]byte(part[:k]))
			part = part[k:]
			take()
		}
		if pause {
			s.Idle()
			take()
		}
	}
	bare := strings.NewReplacer("\r", "", "\n", "", "\t", "", " ", "", "\x00", "", "\xef\xbb\xbf", "")
	return messages, problems, bare.Replace(junk)
}

func TestMessages(t *testing.T) {
	lines := Framing{Kind: Lines}
	marks := Framing{Kind: Marks}
	summed := Framing{Kind: Marks, Framing: textframe.Framing{Checksum: textframe.Checksum{Kind: "xor", Place: "after_end", WithEnd: true}}}
	four := Framing{Kind: ByLength}
	little := Framing{Kind: ByLength, Length: Length{Bytes: 2, Order: "little", Counts: "length"}}
	magic := Framing{Kind: ByLength, Framing: textframe.Framing{Most: 100}, Length: Length{Magic: `XR`, Bytes: 2, Counts: "all"}}
	documents := Framing{}
	rooted := Framing{Root: "Scan"}
	short := Framing{Framing: textframe.Framing{Most: 60}}
	const a, b = `<Scan id="1"><Plate>AA&lt;1</Plate></Scan>`, `<Scan id="2"/>`
	const j, k = `{"id":"1","x":[{"a":"}\"{"},-1.5e3,true,null]}`, `{"id":"2"}`
	for name, c := range map[string]struct {
		framing  Framing
		stream   string
		messages []string
		junk     string
	}{
		"lines with CR LF":                {lines, "ab\r\ncd\r\n\r\nef\r\n", []string{"ab", "cd", "ef"}, ""},
		"lines with LF":                   {lines, "ab\ncd\n", []string{"ab", "cd"}, ""},
		"lines with CR":                   {Framing{Kind: Lines, Framing: textframe.Framing{End: `\r`}}, "ab\rcd\r\nef\r", []string{"ab", "cd", "ef"}, ""},
		"half a line":                     {lines, "ab\ncd~ef\n", []string{"ab", "ef"}, "cd"},
		"marks":                           {marks, "\x02ab\x03\x02cd\x03", []string{"ab", "cd"}, ""},
		"marks, garbage between":          {marks, "\x02ab\x03xx\x02cd\x03", []string{"ab", "cd"}, "xx"},
		"marks, half a message":           {marks, "\x02ab~\x02cd\x03", []string{"cd"}, "\x02ab"},
		"marks, an end was lost":          {marks, "\x02ab\x02cd\x03", []string{"cd"}, "\x02ab"},
		"checksum":                        {summed, "\x02AB\x03\x00", []string{"AB"}, ""}, // 41^42^03 = 0
		"wrong checksum":                  {summed, "\x02AB\x03\x01\x02AB\x03\x00", []string{"AB"}, "\x02AB\x03\x01"},
		"length":                          {four, "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01c", []string{"ab", "c"}, ""},
		"length, little, counting itself": {little, "\x04\x00ab\x03\x00c", []string{"ab", "c"}, ""},
		"length, half a message":          {four, "\x00\x00\x00\x05ab~\x00\x00\x00\x01c", []string{"c"}, "\x05ab"},
		"length that can't be right":      {four, "abcdefgh\x00\x00~\x00\x00\x00\x01c", []string{"c"}, "abcdefgh"},
		"length less than itself":         {little, "\x01\x00abc~\x03\x00c", []string{"c"}, "\x01abc"},
		"magic":                           {magic, "XR\x00\x06abXR\x00\x05c", []string{"ab", "c"}, ""},
		"magic, garbage between":          {magic, "zzXXR\x00\x06abzXR\x00\x05c", []string{"ab", "c"}, "zzXz"},
		"magic, half a message":           {magic, "XR\x00\x16abXR\x00\x05c~", []string{"c"}, "XR\x16ab"},
		"magic, wrong length":             {magic, "XR\xff\x06abXR\x00\x05c", []string{"c"}, "XR\xff\x06ab"},

		"documents":               {documents, a + b + "\r\n" + a, []string{a, b, a}, ""},
		"documents of JSON":       {documents, j + k + "\n" + j, []string{j, k, j}, ""},
		"both":                    {documents, a + j + b + k, []string{a, j, b, k}, ""},
		"declaration and comment": {documents, "\xef\xbb\xbf<?xml version=\"1.0\"?><!-- <Scan> --> " + a + "\n<?xml version='1.0'?>" + b, []string{"<?xml version=\"1.0\"?><!-- <Scan> --> " + a, "<?xml version='1.0'?>" + b}, ""},
		"quotes, comments, CDATA": {documents, `<S a="x>y" b='"/>'><!-- </S> > --><![CDATA[</S>]]></S>` + b, []string{`<S a="x>y" b='"/>'><!-- </S> > --><![CDATA[</S>]]></S>`, b}, ""},
		"prefixes":                {documents, `<x:Scan xmlns:x="u"><x:A></x:A ></x:Scan>` + b, []string{`<x:Scan xmlns:x="u"><x:A></x:A ></x:Scan>`, b}, ""},
		"a definition of a type":  {documents, `<!DOCTYPE S [<!ENTITY a "b">]><S>&a;</S>` + b, []string{`<!DOCTYPE S [<!ENTITY a "b">]><S>&a;</S>`, b}, ""},
		"garbage between":         {documents, "??" + a + "\x06<1< {x" + b + "\x15", []string{a, b}, "??\x06<1<{x"},
		"garbage at the end":      {documents, a + "xx~", []string{a}, "xx"},
		"half a message, a pause": {documents, a[:21] + "~" + b, []string{b}, `<Scanid="1"><Plate>A`},
		"half, no pause, declared": {
			documents, a[:21] + `<?xml version="1.0"?>` + b, []string{`<?xml version="1.0"?>` + b}, `<Scanid="1"><Plate>A`,
		},
		"half in a tag, no pause":         {documents, a[:16] + b, []string{b}, `<Scanid="1"><Pl`},
		"half in a value, no pause":       {documents, `<Scan id="1` + b, []string{b}, `<Scanid="1`},
		"half in a long value, no pause":  {documents, `<Scan id="1` + strings.Repeat("x", 20) + b, []string{b}, `<Scanid="1` + strings.Repeat("x", 20)},
		"half, no pause, told at a pause": {documents, a[:21] + b + "~", []string{b}, `<Scanid="1"><Plate>A`},
		"half in CDATA, a pause":          {documents, `<Scan><![CDATA[x` + b + "~", []string{b}, `<Scan><![CDATA[x`},
		"a part is no document":           {documents, `<R><A></B><Scan>x</Scan></R>` + "\n<R/>", []string{"<R/>"}, `<R><A></B><Scan>x</Scan></R>`},
		"a part is none after a pause":    {documents, `<R><Scan>x</Scan>~<R/>`, []string{"<R/>"}, `<R><Scan>x</Scan>`},
		"half of JSON, a pause":           {documents, `{"id":"1","v":{"id":"7"},~` + k, []string{k}, `{"id":"1","v":{"id":"7"},`},
		"half of JSON in a text":          {documents, `{"id":"1","pl` + k, []string{k}, `{"id":"1","pl`},
		"half of JSON behind a number":    {documents, `{"id":1` + k, []string{k}, `{"id":1`},
		"closed by the wrong brace":       {documents, `{"id":[1}` + k, []string{k}, `{"id":[1}`},
		"nothing but the root":            {rooted, `<Other><Scan/></Other>{"id":1}` + a, []string{"<Scan/>", a}, `<Other></Other>{"id":1}`},
		"too long":                        {short, `<Scan>` + strings.Repeat("x", 100) + `</Scan>` + b, []string{b}, `<Scan>` + strings.Repeat("x", 100) + `</Scan>`},
		"too deep":                        {documents, strings.Repeat("<a>", 40) + "~" + b, []string{b}, strings.Repeat("<a>", 40)},
		"JSON too deep":                   {documents, `{"a":` + strings.Repeat("[", 40) + "~" + k, []string{k}, `{"a":` + strings.Repeat("[", 40)},
		"a name too long":                 {documents, `<` + strings.Repeat("x", 300) + `/>~` + b, []string{b}, `<` + strings.Repeat("x", 300) + `/>`},
	} {
		for _, n := range []int{1, 2, 7, 100000} {
			messages, problems, junk := split(compile(t, c.framing), c.stream, n)
			require.Equal(t, c.messages, messages, "%s, %d bytes at a time", name, n)
			require.Equal(t, c.junk, junk, "%s, %d bytes at a time", name, n)
			require.Equal(t, c.junk != "", len(problems) > 0, name)
		}
	}
}

// Many broken documents must not be looked at again and again: then this would take hours.
func TestBrokenWithoutEnd(t *testing.T) {
	stream := strings.Repeat(`{"a`, 1<<20)
	messages, _, junk := split(compile(t, Framing{}), stream+`~{"a":1}`, 16<<10)
	require.Equal(t, []string{`{"a":1}`}, messages)
	require.Len(t, junk, len(stream))
}

// Nor a value of which the end has not come.
func TestValueWithoutEnd(t *testing.T) {
	value := strings.Repeat("x", 8<<20)
	s := compile(t, Framing{}).Splitter()
	_, _ = s.Write([]byte(`<a b="` + value))
	_, ok := s.Next()
	require.False(t, ok)
	_, _ = s.Write([]byte(`>'"/>`))
	p, ok := s.Next()
	require.True(t, ok)
	require.Equal(t, `<a b="`+value+`>'"/>`, string(p.Data))
}

func TestAppend(t *testing.T) {
	for want, c := range map[string]Framing{
		"61620d0a":       {Kind: Lines, Framing: textframe.Framing{End: `\r\n`}},
		"02616203":       {Kind: Marks},
		"000000026162":   {Kind: ByLength},
		"04006162":       {Kind: ByLength, Length: Length{Bytes: 2, Order: "little", Counts: "length"}},
		"58000000076162": {Kind: ByLength, Length: Length{Magic: "X", Counts: "all"}},
		"6162":           {Kind: Documents},
	} {
		b, err := compile(t, c).Append(nil, []byte("ab"))
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(b))
	}
	_, err := compile(t, Framing{Kind: Marks}).Append(nil, []byte("a\x03b"))
	require.ErrorContains(t, err, "its end")
	_, err = compile(t, Framing{Kind: ByLength, Length: Length{Bytes: 2}}).Append(nil, make([]byte, 70000))
	require.ErrorContains(t, err, "two bytes")
	_, err = compile(t, Framing{Framing: textframe.Framing{Most: 3}}).Append(nil, make([]byte, 4))
	require.ErrorContains(t, err, "3 at most")
}

func TestFramingsThatAreRefused(t *testing.T) {
	for want, f := range map[string]Framing{
		`kind: "x"`:             {Kind: "x"},
		"start, end, checksum":  {Framing: textframe.Framing{End: "x"}},
		"length: the kind":      {Kind: Lines, Length: Length{Bytes: 2}},
		"encoding":              {Framing: textframe.Framing{Encoding: "gbk"}},
		"max_frame":             {Framing: textframe.Framing{Most: -1}},
		"bytes: 3":              {Kind: ByLength, Length: Length{Bytes: 3}},
		`order: "middle"`:       {Kind: ByLength, Length: Length{Order: "middle"}},
		`counts: "x"`:           {Kind: ByLength, Length: Length{Counts: "x"}},
		"length: magic":         {Kind: ByLength, Length: Length{Magic: `\q`}},
		`kind "x" is not`:       {Kind: Marks, Framing: textframe.Framing{Checksum: textframe.Checksum{Kind: "x"}}},
		"idle_gap: 1h0m0s; tak": {Framing: textframe.Framing{Idle: time.Hour}},
	} {
		_, err := f.Compile()
		require.ErrorContains(t, err, want)
	}
}

// FuzzSplitter: no byte is lost or made up, and how the stream is cut changes nothing.
func FuzzSplitter(f *testing.F) {
	framings := []Framing{
		{Framing: textframe.Framing{Most: 60}}, {Root: "Scan"}, {}, {Kind: Lines}, {Kind: Marks},
		{Kind: ByLength, Length: Length{Bytes: 2}, Framing: textframe.Framing{Most: 60}},
		{Kind: ByLength, Length: Length{Bytes: 2, Order: "little", Magic: "XR", Counts: "all"}, Framing: textframe.Framing{Most: 60}},
	}
	var formats []*Format
	for _, x := range framings {
		formats = append(formats, compile(f, x))
	}
	f.Add(byte(0), `<Scan id="1"><Plate>A</Plate></Scan>{"id":[1,{"a":"}"}]}`, byte(3))
	f.Add(byte(1), `<?xml version="1.0"?><!-- x --><Scan><![CDATA[<]]></Scan><Sc~<Scan/>`, byte(1))
	f.Add(byte(2), `{"id":"1","v":{"id":2{"id":"1"}~<!DOCTYPE a><a/>`, byte(2))
	f.Add(byte(3), "ab\r\n\r\ncd~ef\n", byte(1))
	f.Add(byte(4), "\x02ab\x03\x02c\x02d\x03", byte(1))
	f.Add(byte(5), "\x00\x02ab\xff\xff\x00\x01c~\x00\x01d", byte(1))
	f.Add(byte(6), "XR\x06\x00abzXXR\xff\xffXR\x05\x00c", byte(1))
	f.Fuzz(func(t *testing.T, which byte, stream string, n byte) {
		format := formats[int(which)%len(formats)]
		stream += "~"
		messages, _, junk := split(format, stream, len(stream))
		again, _, junkAgain := split(format, stream, int(n)+1)
		require.Equal(t, messages, again)
		require.Equal(t, junk, junkAgain)
		require.LessOrEqual(t, len(strings.Join(messages, ""))+len(junk), len(stream))
	})
}

// FuzzRoundTrip: what is written is read again.
func FuzzRoundTrip(f *testing.F) {
	f.Add("AB", byte(0))
	f.Fuzz(func(t *testing.T, text string, which byte) {
		if strings.Contains(text, "~") || text == "" {
			return
		}
		kinds := []Framing{{Kind: Marks}, {Kind: ByLength}, {Kind: ByLength, Length: Length{Magic: "XR", Bytes: 2, Order: "little", Counts: "all"}}}
		format := compile(t, kinds[int(which)%len(kinds)])
		frame, err := format.Append(nil, []byte(text))
		if err != nil || strings.ContainsAny(text, "\x02\x03") {
			return
		}
		messages, problems, _ := split(format, string(frame)+"~", 3)
		require.Empty(t, problems)
		require.Equal(t, []string{text}, messages)
	})
}
