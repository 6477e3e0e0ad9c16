package plate

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNormalise(t *testing.T) {
	for _, c := range []struct{ name, raw, plate, key string }{
		{"plain", "AA1234BB", "AA1234BB", "AA1234BB"},
		{"nothing", "", "", ""},
		{"lower case", "aa1234bb", "AA1234BB", "AA1234BB"},
		{"separators", " AA-1234·BB\u00a0•_./\u2013\u2212", "AA1234BB", "AA1234BB"},
		{"Cyrillic", "\u0410\u04101234\u0412\u0412", "\u0410\u04101234\u0412\u0412", "AA1234BB"},
		{"Cyrillic, lower case", "\u0430\u0456\u0458\u0455", "\u0410\u0406\u0408\u0405", "AIJS"},
		{"all Cyrillic twins", "АВЕІЈКМНОРСЅТУХ", "АВЕІЈКМНОРСЅТУХ", "ABEIJKMHOPCSTYX"},
		{"Cyrillic without twins", "БГДЖЇЧ", "БГДЖЇЧ", "БГДЖЇЧ"},
		{"Cyrillic letters with marks", "ЇЙЁ", "ЇЙЁ", "ЇЙЁ"},
		{"the same, marks apart", "\u0406\u0308\u0418\u0306", "\u0407\u0419", "\u0407\u0419"},
		{"Greek", "\u0399\u039c\u03a71234", "\u0399\u039c\u03a71234", "IMX1234"},
		{"all Greek twins", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"},
		{"Greek without twins", "ΓΔΘΛΞΠΣΦΨΩ", "ΓΔΘΛΞΠΣΦΨΩ", "ΓΔΘΛΞΠΣΦΨΩ"},
		{"Greek with an accent", "Άϋ", "ΆΫ", "AY"},
		{"full width", "\uff21\uff22\uff11\uff12\uff0d\uff13", "AB123", "AB123"},
		{"Arabic digits", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669", "0123456789"},
		{"Persian digits", "\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9", "\u06f0\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9", "0123456789"},
		{"Turkish i", "\u0130\u0131i", "\u0130II", "III"},
		{"accents", "ČŠŽĆĐÖÜÄ", "ČŠŽĆĐÖÜÄ", "CSZCDOUA"},
		{"accents, marks apart", "C\u030cO\u0308", "\u010c\u00d6", "CO"},
		{"vowels that are marks", "\u0e01\u0e341234", "\u0e01\u0e341234", "\u0e01\u0e341234"},
		{"strokes", "đðłø", "ĐÐŁØ", "DDLO"},
		{"a colour first", "蓝苏A8HK52", "蓝苏A8HK52", "蓝苏A8HK52"},
		{"a flag and a shield", "\U0001f1fa\U0001f1e6AA\u26e81234\ue001BB", "AA1234BB", "AA1234BB"},
		{"invisible marks", "\u200eAA\u200b1234\ufeffBB\x00", "AA1234BB", "AA1234BB"},
		{"a sign for what was not read", "AA?234BB", "AA?234BB", "AA?234BB"},
		{"bytes of another code page", "AA\xc01234", "AA\ufffd1234", "AA\ufffd1234"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := Normalise(c.raw)
			require.Equal(t, strings.ToValidUTF8(c.raw, "\ufffd"), text.Raw)
			require.Equal(t, c.plate, text.Plate)
			require.Equal(t, c.key, text.MatchKey)
			require.Equal(t, c.key, Key(c.raw))
			require.False(t, text.Truncated)
		})
	}

	long := Normalise(strings.Repeat("Ж", MaxText))
	require.True(t, long.Truncated)
	require.Equal(t, strings.Repeat("Ж", MaxText/2), long.Raw)
	require.Equal(t, long.Raw, long.Plate)
	require.False(t, Normalise(strings.Repeat("A", MaxText)).Truncated)
	odd := Normalise("A" + strings.Repeat("Ж", MaxText))
	require.True(t, utf8.ValidString(odd.Raw))
	require.Len(t, odd.Raw, MaxText-1)

	require.Equal(t, []string{"AA1234BB", "AA9876XX"}, Split("AA1234BB|AA9876XX"))
}

// The table names each character by its code in a comment; that is what the
// protocol page gives, and two characters that look alike are easily mixed up.
func TestTwins(t *testing.T) {
	for twin, codes := range map[rune][]rune{
		'A': {0x410, 0x391}, 'B': {0x412, 0x392}, 'E': {0x415, 0x395}, 'I': {0x406, 0x399}, 'J': {0x408},
		'K': {0x41a, 0x39a}, 'M': {0x41c, 0x39c}, 'H': {0x41d, 0x397}, 'O': {0x41e, 0x39f, 0xd8}, 'P': {0x420, 0x3a1},
		'C': {0x421}, 'S': {0x405}, 'T': {0x422, 0x3a4}, 'Y': {0x423, 0x3a5}, 'X': {0x425, 0x3a7}, 'Z': {0x396},
		'N': {0x39d}, 'D': {0x110, 0xd0}, 'L': {0x141},
	} {
		for _, code := range codes {
			require.Equal(t, string(twin), Key(string(code)), "U+%04X", code)
			require.Equal(t, string(twin), Key(string(unicode.ToLower(code))), "lower case of U+%04X", code)
		}
	}
	for from, to := range twins {
		require.Equal(t, from, unicode.ToUpper(from), "U+%04X", from)
		require.True(t, 'A' <= to && to <= 'Z' || '0' <= to && to <= '9', "U+%04X", from)
	}
}

// However the scripts of a plate are mixed, and wherever separators stand, the
// key is the same; and it is its own key.
func TestKeyOfMixedScripts(t *testing.T) {
	looks := map[rune][]string{}
	for from, to := range twins {
		if !unicode.IsDigit(to) {
			looks[to] = append(looks[to], string(from), strings.ToLower(string(from)))
		} else {
			looks[to] = append(looks[to], string(from))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.StringMatching(`[A-Z0-9]{1,10}`).Draw(t, "plate")
		var b strings.Builder
		for _, r := range want {
			options := append([]string{string(r), string(r + 0xfee0)}, looks[r]...)
			b.WriteString(rapid.SampledFrom(options).Draw(t, "letter"))
			b.WriteString(rapid.SampledFrom([]string{"", "", " ", "-", "·", "\u00a0", "\u200b"}).Draw(t, "between"))
		}
		require.Equal(t, want, Key(b.String()))
		require.Equal(t, want, Key(Clean(b.String())))
	})
}

func TestKeyOfItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkSettled(t, rapid.String().Draw(t, "raw")) })
}

func checkSettled(t require.TestingT, raw string) {
	text := Normalise(raw)
	require.Equal(t, text.Plate, Clean(text.Plate), "%q", raw)
	require.Equal(t, text.MatchKey, Key(text.MatchKey), "%q", raw)
	require.Equal(t, text.MatchKey, Key(text.Plate), "%q", raw)
	require.True(t, utf8.ValidString(text.Plate))
	require.True(t, utf8.ValidString(text.MatchKey))
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"AA1234BB", "А А-1234ВВ", "\uff21\u0301", "A-\u0301", "\u0345", "\u1e9b\u0323", "|", "\xff", "ᾳ", "ǅ", "한글"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		checkSettled(t, raw)
		require.LessOrEqual(t, len(Normalise(raw).Raw), MaxText)
		for v := range conventions {
			c := Of(v)
			c.NoReadReason(raw)
			c.Country(raw)
			c.Direction(raw)
			if v := c.Confidence(raw).Value; v != nil {
				require.True(t, *v >= 0 && *v <= 1)
			}
		}
	})
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		raw, codePage, want string
		lossy               bool
	}{
		{"AA1234BB", "", "AA1234BB", false},
		{"\xd0\x90\xd0\x92", "windows-1251", "АВ", false}, // UTF-8 as it is
		{"\xc0\xc21234", "windows-1251", "АВ1234", false},
		{"\xc9\xcc\xd71234", "windows-1253", "ΙΜΧ1234", false},
		{"\xc8\xa9\xae", "iso-8859-2", "ČŠŽ", false},
		{"\xcb\xd5A8HK52", "gbk", "苏A8HK52", false},
		{"\xc0\xc21234", "", "\ufffd\ufffd1234", true},
		{"A\xffB", "gbk", "A\ufffdB", true},
		{"A\x98B", "windows-1251", "A\ufffdB", true}, // the one byte that it does not use
	} {
		got, lossy, err := Decode([]byte(c.raw), c.codePage)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%q", c.raw)
		require.Equal(t, c.lossy, lossy, "%q", c.raw)
	}
	_, _, err := Decode([]byte("A"), "koi8-r")
	require.EqualError(t, err, `decode a plate: no code page "koi8-r": want one of gbk, iso-8859-2, windows-1251, windows-1253`)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\xc0\xc21234"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, page := range append(CodePages(), "") {
			text, lossy, err := Decode(raw, page)
			require.NoError(t, err)
			require.True(t, utf8.ValidString(text))
			require.False(t, lossy && utf8.Valid(raw))
		}
	})
}

func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		"AA1234BB": "A***B", "aa 12-34 bb": "A***B", "АА1234ВВ": "А***В", "AA12": "***", "ABCDE": "A***E", "A-B-C-D": "***", "": "***",
	} {
		require.Equal(t, want, Mask(text))
	}
}

// A text that finds its way into a log or an error shows no plate.
func TestTextPrintsMasked(t *testing.T) {
	text := Normalise("AA1234BB")
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("read", "plate", text)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("read", "plate", text)
	var all strings.Builder
	all.WriteString(logged.String())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&all, verb+"\n", text)
		fmt.Fprintf(&all, verb+"\n", struct{ Plate Text }{text})
		fmt.Fprintf(&all, verb+"\n", &text)
	}
	require.NotContains(t, all.String(), "1234")
	require.Equal(t, 17, strings.Count(all.String(), "A***B"))
}

// The pseudonyms were computed with openssl dgst -sha256 -mac HMAC.
func TestPseudonym(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	for raw, want := range map[string]string{
		"AA1234BB":   "02c77d0024562b37d772ceffc4eedb6665f06904034593d9d0491ff1ccbf4d48",
		"АА 1234-ВВ": "02c77d0024562b37d772ceffc4eedb6665f06904034593d9d0491ff1ccbf4d48",
		"БГ1234ЖЖ":   "2aacc091751170b4ae8a08f86c7095fd121b4035bffeb33a3dea7fa3b4fc93b8",
		"-":          "",
	} {
		got, err := Pseudonym(key, Key(raw))
		require.NoError(t, err)
		require.Equal(t, want, got, raw)
	}
	_, err := Pseudonym(key[1:], "AA1234BB")
	require.EqualError(t, err, "pseudonym of a plate: the key has 31 bytes: want 32 at least")
}
