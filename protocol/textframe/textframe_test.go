package textframe

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func compile(t testing.TB, g Grammar) *Format {
	t.Helper()
	f, err := g.Compile()
	require.NoError(t, err)
	return f
}

// axxon is the text of Auto-Intellect's port 55555.
func axxon() Grammar {
	return Grammar{
		Framing: Framing{Start: `\x02`, End: `\x03`},
		Pattern: `^(?P<time>\d{14})(?P<camera>\d\d)(?P<plate>.*)$`,
	}
}

func lines() Grammar {
	return Grammar{Framing: Framing{End: `\r\n`}, Pattern: `^(?P<plate>[^;]*)(;(?P<confidence>\d+))?$`}
}

// split gives the plates and the problems of a stream that comes in pieces of n
// bytes.
func split(f *Format, stream string, n int, idle bool) (plates, problems []string, junk string) {
	s := f.Splitter()
	take := func() {
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			switch {
			case p.Problem != "":
				problems = append(problems, p.Problem)
				junk += string(p.Bytes)
			case p.Message.Heartbeat:
				plates = append(plates, "alive")
			default:
				plates = append(plates, p.Message.Fields[Plate])
			}
		}
	}
	for len(stream) > 0 {
		k := min(n, len(stream))
		_, _ = s.Write([]byte(stream[:k]))
		stream = stream[k:]
		take()
	}
	if idle {
		s.Idle()
		take()
	}
	return plates, problems, junk
}

func TestTheVendorsExample(t *testing.T) {
	frame, err := hex.DecodeString("02" + "3230323630333031313031323531" + "3037" + "41423132334344" + "03")
	require.NoError(t, err)
	f := compile(t, axxon())
	m, err := f.Decode(frame)
	require.NoError(t, err)
	require.Equal(t, map[string]string{Time: "20260301101251", Camera: "07", Plate: "AB123CD"}, m.Fields)

	encoded, err := f.Encode(Template("{time}{camera}{plate}").Write(m.Fields))
	require.NoError(t, err)
	require.Equal(t, frame, encoded)
}

func TestChecksums(t *testing.T) {
	// The check values of the catalogues, over the digits 1 to 9; the exclusive or
	// and the sum by hand: 31^32^...^39 = 31, 31+32+...+39 = 1dd.
	for kind, want := range map[string]uint16{
		"crc16-modbus": 0x4b37, "crc16-ccitt-false": 0x29b1, "crc16-xmodem": 0x31c3, "xor": 0x31, "sum8": 0xdd,
		"crc16-arc": 0xbb3d, "crc16-kermit": 0x2189, "crc16-ibm-sdlc": 0x906e, "lrc-modbus": 0x23, // dd + 23 = 100
	} {
		require.Equal(t, want, checksumKinds[kind].sum([]byte("123456789")), kind)
	}
	require.Len(t, checksumKinds, 9)
	frames := map[string]struct {
		sum   Checksum
		frame string
	}{
		"binary before the end":  {Checksum{Kind: "xor"}, "\x02123456789\x31\x03"},
		"hex before the end":     {Checksum{Kind: "sum8", Digits: "hex"}, "\x02123456789DD\x03"},
		"small hex":              {Checksum{Kind: "sum8", Digits: "hex"}, "\x02123456789dd\x03"},
		"after the end with it":  {Checksum{Kind: "xor", Place: "after_end", WithEnd: true}, "\x02123456789\x03\x32"},
		"with start and end":     {Checksum{Kind: "xor", Place: "after_end", WithStart: true, WithEnd: true}, "\x02123456789\x03\x30"},
		"low byte first":         {Checksum{Kind: "crc16-modbus", LowFirst: true}, "\x02123456789\x37\x4b\x03"},
		"behind a mark":          {Checksum{Kind: "xor", Digits: "hex", Mark: "*"}, "\x02123456789*31\x03"},
		"decimal":                {Checksum{Kind: "sum8", Digits: "decimal"}, "\x02123456789221\x03"},
		"decimal, two bytes":     {Checksum{Kind: "crc16-kermit", Digits: "decimal", Mark: ";", Place: "after_end"}, "\x02123456789\x03;08585"},
		"without the first two":  {Checksum{Kind: "sum8", Digits: "hex", Skip: 2}, "\x021234567897A\x03"}, // dd - 31 - 32
		"high byte first, digit": {Checksum{Kind: "crc16-xmodem", Digits: "hex", Place: "after_end"}, "\x02123456789\x0331C3"},
	}
	for name, c := range frames {
		f := compile(t, Grammar{Framing: Framing{Start: `\x02`, End: `\x03`, Checksum: c.sum}, Pattern: `^(?P<plate>[0-9]+)$`})
		for _, n := range []int{1, 3, 100} {
			plates, problems, _ := split(f, c.frame+c.frame, n, true)
			require.Equal(t, []string{"123456789", "123456789"}, plates, name)
			require.Empty(t, problems, name)
			plates, problems, _ = split(f, strings.Replace(c.frame, "5", "6", 1)+c.frame, n, true)
			require.Equal(t, []string{"123456789"}, plates, name)
			require.NotEmpty(t, problems, name)
		}
	}
}

func TestWhatAChecksumShouldBe(t *testing.T) {
	f, err := Framing{Start: "$", End: `\r\n`, Checksum: Checksum{Kind: "xor", Digits: "hex", Mark: "*"}}.Compile()
	require.NoError(t, err)
	at, got, want, ok := f.ChecksumOf([]byte("$123456789*32\r\n"))
	require.True(t, ok)
	require.Equal(t, 11, at)
	require.Equal(t, "32", string(got))
	require.Equal(t, "31", string(want))
	_, _, _, ok = f.ChecksumOf([]byte("$*\r\n"))
	require.False(t, ok)
	_, err = Framing{End: `\n`, Checksum: Checksum{Kind: "xor", Mark: `\q`}}.Compile()
	require.ErrorContains(t, err, "checksum: mark")
	_, err = Framing{End: `\n`, Checksum: Checksum{Kind: "xor", Skip: -1}}.Compile()
	require.ErrorContains(t, err, "checksum: skip")
	_, err = Framing{End: `\n`, Checksum: Checksum{Kind: "crc16-arc", Digits: "decimal", LowFirst: true}}.Compile()
	require.ErrorContains(t, err, "low_first")
}

func TestAChecksumThatLooksLikeTheEnd(t *testing.T) {
	f := compile(t, Grammar{Framing: Framing{Start: `\x02`, End: `\x03`, Checksum: Checksum{Kind: "xor"}}, Pattern: `^(?P<plate>[A-Z0-9]+)$`})
	// A ^ B = 03, and A ^ C = 02, the start.
	for _, n := range []int{1, 2, 50} {
		plates, problems, _ := split(f, "\x02AB\x03\x03\x02AC\x02\x03\x02AB\x03\x03", n, false)
		require.Equal(t, []string{"AB", "AC", "AB"}, plates)
		require.Empty(t, problems)
	}
}

func TestTheNextFrameIsFound(t *testing.T) {
	full := Grammar{Framing: Framing{End: `\r\n`}, Pattern: `^(?P<plate>.+)$`}
	strict := Grammar{Framing: Framing{Start: `\x02`, End: `\x03`}, Pattern: `^(?P<plate>[A-Z0-9]*)$`, Heartbeat: `^\?$`}
	words := Grammar{Framing: Framing{Start: "LP:", End: ";"}, Pattern: `^(?P<plate>[A-Z0-9]+)$`}
	summed := Grammar{
		Framing: Framing{Start: `\x02`, End: `\x03`, Checksum: Checksum{Kind: "xor", Place: "after_end"}}, Pattern: `^(?P<plate>[A-Z0-9]+)$`,
	}
	for name, c := range map[string]struct {
		g        Grammar
		stream   string
		plates   []string
		problems int
		junk     string
	}{
		"two in one read":       {strict, "\x02AB12\x03\x02CD34\x03", []string{"AB12", "CD34"}, 0, ""},
		"line ends between":     {strict, "\x02AB12\x03\r\n\x02CD34\x03\r\n", []string{"AB12", "CD34"}, 0, ""},
		"noise between":         {strict, "\xff\x00x\x02AB12\x03zz\x02CD34\x03", []string{"AB12", "CD34"}, 2, "\xff\x00xzz"},
		"an end was lost":       {strict, "\x02AB12\x02CD34\x03", []string{"CD34"}, 1, "\x02AB12"},
		"a start was lost":      {strict, "\x02AB12\x03CD34\x03\x02EF56\x03", []string{"AB12", "EF56"}, 1, "CD34\x03"},
		"noise inside":          {strict, "\x02A\xf0B\x03\x02CD34\x03", []string{"CD34"}, 1, "\x02A\xf0B\x03"},
		"no plate":              {strict, "\x02\x03", []string{""}, 0, ""},
		"alive":                 {strict, "\x02?\x03\x02AB\x03", []string{"alive", "AB"}, 0, ""},
		"words, an end lost":    {words, "LP:AB12LP:CD34;", []string{"CD34"}, 1, "LP:AB12"},
		"a checksum was lost":   {summed, "\x02AB\x03\x02CD\x03\x07", []string{"CD"}, 1, "\x02AB\x03"},
		"line feeds":            {full, "AB12\r\n\r\nCD34\r\n\x00\nEF56\r\n", []string{"AB12", "CD34", "EF56"}, 0, ""},
		"a line without a text": {lines(), "AB12;90\r\n\r\nCD34\r\n\x00\nEF56;7\r\n", []string{"AB12", "", "CD34", "EF56"}, 0, ""},
		"a line that is not so": {lines(), "AB12;90\r\nCD34;x\r\nEF56\r\n", []string{"AB12", "EF56"}, 1, "CD34;x\r\n"},
	} {
		for _, n := range []int{1, 2, 7, 1000} {
			plates, problems, junk := split(compile(t, c.g), c.stream, n, false)
			require.Equal(t, c.plates, plates, "%s, %d bytes at a time", name, n)
			require.Len(t, problems, c.problems, name)
			require.Equal(t, c.junk, junk, name)
		}
	}
}

func TestFramesThatAPauseEnds(t *testing.T) {
	g := Grammar{Framing: Framing{Idle: 50 * time.Millisecond}, Pattern: `^(?P<plate>[A-Z0-9]+)$`}
	plates, problems, _ := split(compile(t, g), "AB12", 1, true)
	require.Equal(t, []string{"AB12"}, plates)
	require.Empty(t, problems)

	g.Start = ">"
	plates, problems, _ = split(compile(t, g), ">AB12>CD34", 1, false)
	require.Equal(t, []string{"AB12"}, plates, "the second may go on")
	require.Empty(t, problems)
	plates, _, _ = split(compile(t, g), ">AB12>CD34", 4, true)
	require.Equal(t, []string{"AB12", "CD34"}, plates)

	plates, problems, junk := split(compile(t, axxon()), "\x022026030110", 3, true)
	require.Empty(t, plates)
	require.Len(t, problems, 1, "what is broken off is told")
	require.Equal(t, "\x022026030110", junk)
}

func TestTooLong(t *testing.T) {
	g := lines()
	g.Most = 20
	f := compile(t, g)
	for _, n := range []int{1, 9, 100000} {
		plates, problems, junk := split(f, strings.Repeat("x", 9000)+"\r\nAB12;50\r\n", n, false)
		require.Equal(t, []string{"AB12"}, plates, "the rest of the long line is no line")
		require.NotEmpty(t, problems)
		require.Equal(t, strings.Repeat("x", 9000)+"\r\n", junk)
	}
	g = axxon()
	g.Most = 40
	plates, problems, _ := split(compile(t, g), "\x02"+strings.Repeat("9", 9000)+"\x022026030110125107AB123CD\x03", 11, false)
	require.Equal(t, []string{"AB123CD"}, plates)
	require.NotEmpty(t, problems)
}

func TestCodePages(t *testing.T) {
	g := lines()
	g.Encoding = "windows-1251"
	f := compile(t, g)
	// КІ1234СІ: these bytes would be UTF-8 too, of other letters.
	m, err := f.Decode([]byte("\xca\xb21234\xd1\xb2;90\r\n"))
	require.NoError(t, err)
	require.Equal(t, "КІ1234СІ", m.Fields[Plate])
	require.False(t, m.Lossy)
	frame, err := f.Encode("КІ1234СІ;90")
	require.NoError(t, err)
	require.Equal(t, "\xca\xb21234\xd1\xb2;90\r\n", string(frame))
	_, err = f.Encode("京A12345")
	require.Error(t, err)

	g.Encoding = "gbk"
	m, err = compile(t, g).Decode([]byte("\xbe\xa9A12345;90\r\n"))
	require.NoError(t, err)
	require.Equal(t, "京A12345", m.Fields[Plate])

	g.Encoding = ""
	m, err = compile(t, g).Decode([]byte("\xca\xb21234\xff;90\r\n"))
	require.NoError(t, err)
	require.True(t, m.Lossy)
}

func TestPartsAndColumns(t *testing.T) {
	f := compile(t, Grammar{
		Framing: Framing{End: "/>"}, Escapes: "xml", Base64: []string{Plate},
		Parts: map[string]string{Plate: `\splate="([^"]*)"`, Direction: `direction="([^"]*)"`, Camera: `cam-id="([^"]*)"`, Picture: `plateImage="([^"]*)"`},
	})
	m, err := f.Decode([]byte(`<CAR_PLATE cam-id="7&amp;8" plate_mask="x" plate="0JDQkTEyMw==" plateImage="/9j/&#10;" direction="left"/>`))
	require.NoError(t, err)
	require.Equal(t, map[string]string{Plate: "АБ123", Direction: "left", Camera: "7&8"}, m.Fields)
	require.Equal(t, map[string][]byte{Picture: {0xff, 0xd8, 0xff}}, m.Pictures)
	m, err = f.Decode([]byte(`<CAR_PLATE plate="Not defined"/>`))
	require.NoError(t, err)
	require.Equal(t, "Not defined", m.Fields[Plate], "a value that is not in base64 is kept")
	require.True(t, m.Lossy)
	_, err = f.Decode([]byte(`<CAR_PLATE direction="left"/>`))
	require.Error(t, err)

	f = compile(t, Grammar{Framing: Framing{End: `\n`}, Separator: ";", Columns: []string{Plate, "", Country}, Escapes: "json"})
	m, err = f.Decode([]byte("A\\u00d6\\\"1;x;DEU\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{Plate: `AÖ"1`, Country: "DEU"}, m.Fields)
	_, err = f.Decode([]byte("AB;x\n"))
	require.Error(t, err)
	m, err = f.Decode([]byte(strings.Repeat("A", MaxValue+1) + ";x;DEU\n"))
	require.NoError(t, err)
	require.Equal(t, []string{Plate}, m.Cut)
	require.Len(t, m.Fields[Plate], MaxValue)
	require.Equal(t, "QQ==,DEU", Template("{plate:base64},{country}{lane}").Write(map[string]string{Plate: "A", Country: "DEU"}))
}

func TestGrammarsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Grammar){
		`start: \q is not known`:      func(g *Grammar) { g.Start = `\q` },
		`\x needs two`:                func(g *Grammar) { g.End = `\xg0` },
		"a backslash at the end":      func(g *Grammar) { g.End = `\` },
		"65 bytes":                    func(g *Grammar) { g.Start = strings.Repeat("a", 65) },
		`kind "crc" is not known`:     func(g *Grammar) { g.Checksum.Kind = "crc" },
		`place "x"`:                   func(g *Grammar) { g.Checksum = Checksum{Kind: "xor", Place: "x"} },
		`digits "x"`:                  func(g *Grammar) { g.Checksum = Checksum{Kind: "xor", Digits: "x"} },
		"settings and no kind":        func(g *Grammar) { g.Checksum.WithEnd = true },
		"can't count it":              func(g *Grammar) { g.Checksum = Checksum{Kind: "xor", WithEnd: true} },
		"one byte has no order":       func(g *Grammar) { g.Checksum = Checksum{Kind: "xor", LowFirst: true} },
		"there is no end":             func(g *Grammar) { g.End, g.Checksum = "", Checksum{Kind: "xor", Place: "after_end"} },
		`encoding: "ebcdic"`:          func(g *Grammar) { g.Encoding = "ebcdic" },
		"idle_gap":                    func(g *Grammar) { g.Idle = time.Hour },
		"max_frame":                   func(g *Grammar) { g.Most = MaxFrame + 1 },
		"exactly one of":              func(g *Grammar) { g.Pattern = "" },
		"pattern: error parsing":      func(g *Grammar) { g.Pattern = "(" },
		`no field "number"`:           func(g *Grammar) { g.Pattern = "(?P<number>.)" },
		"nothing would ever be read":  func(g *Grammar) { g.Pattern = "(?P<country>.)" },
		"take it out, or name":        func(g *Grammar) { g.Separator = ";" },
		"columns need one":            func(g *Grammar) { g.Pattern, g.Columns = "", []string{Plate} },
		"is there twice":              func(g *Grammar) { g.Pattern, g.Separator, g.Columns = "", ";", []string{Plate, Plate} },
		"needs parentheses":           func(g *Grammar) { g.Pattern, g.Parts = "", map[string]string{Plate: "x"} },
		`base64: there is no`:         func(g *Grammar) { g.Base64 = []string{Country} },
		`escapes: "html"`:             func(g *Grammar) { g.Escapes = "html" },
		"4097 bytes; take 4096":       func(g *Grammar) { g.Pattern = strings.Repeat("a", 4097) },
		"heartbeat: error parsing":    func(g *Grammar) { g.Heartbeat = "[" },
		"parts: the pattern of plate": func(g *Grammar) { g.Pattern, g.Parts = "", map[string]string{Plate: ""} },
	} {
		g := lines()
		change(&g)
		_, err := g.Compile()
		require.ErrorContains(t, err, want)
	}
}

func fuzzed(t testing.TB) []*Format {
	short := lines()
	short.Most = 30
	return []*Format{
		compile(t, axxon()), compile(t, short),
		compile(t, Grammar{Framing: Framing{Start: `\x02`, End: `\x03`, Checksum: Checksum{Kind: "xor"}, Most: 40}, Pattern: `(?P<plate>.+)`}),
		compile(t, Grammar{Framing: Framing{Start: "ab", End: "ba", Checksum: Checksum{Kind: "crc16-modbus", Place: "after_end"}, Most: 40}, Pattern: `(?P<plate>.+)`}),
		compile(t, Grammar{Framing: Framing{Start: "aab", Most: 30}, Separator: ";", Columns: []string{Plate, Country}}),
		compile(t, Grammar{Framing: Framing{Start: "LP", End: "\\r\\n", Encoding: "gbk"}, Escapes: "json", Parts: map[string]string{Plate: "p=(.*)", Picture: "i=(.*)"}, Base64: []string{Plate}}),
	}
}

// FuzzSplitter: no byte is lost or made up, and how the stream is cut changes
// nothing.
func FuzzSplitter(f *testing.F) {
	formats := fuzzed(f)
	f.Add(byte(0), "\x022026030110125107AB123CD\x03\x02", byte(3))
	f.Add(byte(1), "AB12;90\r\n\r\n"+strings.Repeat("x", 50)+"\r\nA\r\n", byte(1))
	f.Add(byte(2), "\x02AB\x03\x03\x02AC\x02\x03", byte(2))
	f.Add(byte(3), "ab123456789ba\x4b\x37abba", byte(1))
	f.Add(byte(4), "aabA;BaaabC;D", byte(1))
	f.Add(byte(5), "LPp=QUI=\r\n", byte(1))
	f.Fuzz(func(t *testing.T, which byte, stream string, n byte) {
		format := formats[int(which)%len(formats)]
		plates, problems, junk := split(format, stream, len(stream)+1, true)
		again, problemsAgain, junkAgain := split(format, stream, int(n)+1, true)
		require.Equal(t, plates, again)
		require.Equal(t, problems, problemsAgain)
		require.Equal(t, junk, junkAgain)
		require.LessOrEqual(t, len(junk), len(stream))
	})
}

// FuzzRoundTrip: what is written is read again.
func FuzzRoundTrip(f *testing.F) {
	f.Add("AB123CD", byte(0), true, false)
	f.Add("\x02", byte(3), false, true)
	kinds := append(ChecksumKinds(), "")
	f.Fuzz(func(t *testing.T, text string, kind byte, after, digits bool) {
		g := Grammar{Framing: Framing{Start: `\x02`, End: `\x03`}, Pattern: `(?s)^(?P<plate>.*)$`}
		if k := kinds[int(kind)%len(kinds)]; k != "" {
			g.Checksum = Checksum{Kind: k, WithStart: true, WithEnd: after}
			if after {
				g.Checksum.Place = "after_end"
			}
			if digits {
				g.Checksum.Digits = "hex"
			}
		}
		format := compile(t, g)
		frame, err := format.Encode(text)
		if err != nil {
			return
		}
		m, err := format.Decode(frame)
		require.NoError(t, err)
		if len(m.Cut) == 0 {
			require.Equal(t, strings.ToValidUTF8(text, "\ufffd"), m.Fields[Plate])
		}
	})
}
