package mrz

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The specimens of Doc 9303, parts 4 to 7.
var specimens = map[Size][]string{
	TD1:  {"I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"},
	TD2:  {"I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"},
	TD3:  {"P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"},
	MRVA: {"V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L8988901C4XXX4009078F96121096ZE184226B<<<<<<"},
	MRVB: {"V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "L8988901C4XXX4009078F9612109<<<<<<<<"},
}

func TestCheckDigits(t *testing.T) {
	for text, want := range map[string]string{"L898902C3": "6", "740812": "2", "120415": "9", "ZE184226B<<<<<": "1", "520727": "3", "AB2134<<<": "5", "": "0"} {
		got, err := CheckDigit(text)
		require.NoError(t, err)
		require.Equal(t, want, string(got), text)
	}
	_, err := CheckDigit("l898902C3")
	require.ErrorIs(t, err, ErrCharacter)
}

func TestSpecimens(t *testing.T) {
	for size, want := range map[Size]Document{
		TD1: {
			Code: "I", Issuer: "UTO", Nationality: "UTO", Number: "D23145890", BirthDate: "740812", ExpiryDate: "120415", Sex: "F",
			OptionalCheck: Absent, CompositeCheck: Valid,
		},
		TD2: {
			Code: "I", Issuer: "UTO", Nationality: "UTO", Number: "D23145890", BirthDate: "740812", ExpiryDate: "120415", Sex: "F",
			OptionalCheck: Absent, CompositeCheck: Valid,
		},
		TD3: {
			Code: "P", Issuer: "UTO", Nationality: "UTO", Number: "L898902C3", BirthDate: "740812", ExpiryDate: "120415", Sex: "F", Optional: "ZE184226B",
			OptionalCheck: Valid, CompositeCheck: Valid,
		},
		MRVA: {
			Code: "V", Issuer: "UTO", Nationality: "XXX", Number: "L8988901C", BirthDate: "400907", ExpiryDate: "961210", Sex: "F", Optional: "6ZE184226B",
			OptionalCheck: Absent, CompositeCheck: Absent,
		},
		MRVB: {
			Code: "V", Issuer: "UTO", Nationality: "XXX", Number: "L8988901C", BirthDate: "400907", ExpiryDate: "961210", Sex: "F",
			OptionalCheck: Absent, CompositeCheck: Absent,
		},
	} {
		want.Size, want.Surname, want.GivenNames = size, "ERIKSSON", "ANNA MARIA"
		want.NumberCheck, want.BirthCheck, want.ExpiryCheck = Valid, Valid, Valid
		d, err := Parse(specimens[size])
		require.NoError(t, err)
		require.Equal(t, want, *d)
		require.True(t, d.Valid())
		lines, err := d.Lines()
		require.NoError(t, err)
		require.Equal(t, specimens[size], lines)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", d, *d, *d, d), want.Number)
	}
}

// Every character counts: whichever is taken for another, a check says so. What no digit
// covers are the kind, the states, the names and the sex.
func TestEachWrongCharacter(t *testing.T) {
	uncovered := map[Size]func(line, at int) bool{
		TD1: func(l, at int) bool { return l == 0 && at < 5 || l == 1 && (at == 7 || at >= 15 && at < 18) || l == 2 },
		TD2: func(l, at int) bool { return l == 0 || at >= 10 && at < 13 || at == 20 },
		TD3: func(l, at int) bool { return l == 0 || at >= 10 && at < 13 || at == 20 },
	}
	for size, free := range uncovered {
		for l, line := range specimens[size] {
			for at := range line {
				wrong := append([]string{}, specimens[size]...)
				b := []byte(line)
				switch c := b[at]; {
				case c == Filler:
					b[at] = '1'
				case c == '9' || c == 'Z':
					b[at]--
				default:
					b[at]++
				}
				wrong[l] = string(b)
				d, err := Parse(wrong)
				require.NoError(t, err)
				require.Equal(t, free(l, at), d.Valid(), "%s, line %d, character %d", size, l+1, at+1)
			}
		}
	}
}

func TestZonesThatAreOdd(t *testing.T) {
	// A number of twelve characters goes on in the optional data, and its digit is there: the
	// example of Doc 9303 part 5.
	long := []string{"I<UTOD23145890<7349<<<<<<<<<<<", "3407127M9507122UTO<<<<<<<<<<<2", "STEVENSON<<PETER<JOHN<<<<<<<<<"}
	d, err := Parse(long)
	require.NoError(t, err)
	require.True(t, d.Valid())
	require.Equal(t, "D23145890734", d.Number)
	require.Empty(t, d.Optional)
	lines, err := d.Lines()
	require.NoError(t, err)
	require.Equal(t, long, lines)

	// An empty optional field has a filler or a zero for its digit.
	for _, digit := range []string{"<", "0"} {
		d, err = Parse([]string{specimens[TD3][0], "L898902C36UTO7408122F1204159<<<<<<<<<<<<<<" + digit + "8"})
		require.NoError(t, err)
		require.Equal(t, Absent, d.OptionalCheck)
	}
	// A number without its digit, and no number at all.
	for second, want := range map[string]Check{"L898902C3<UTO7408122F1204159ZE184226B<<<<<10": Invalid, "<<<<<<<<<<UTO7408122F1204159ZE184226B<<<<<10": Absent} {
		d, err = Parse([]string{specimens[TD3][0], second})
		require.NoError(t, err)
		require.Equal(t, want, d.NumberCheck)
		require.False(t, d.Valid())
	}
	for _, bad := range [][]string{nil, {""}, specimens[TD1][:2], {specimens[TD3][0], specimens[TD2][1]}, {specimens[TD3][0]}} {
		_, err := Parse(bad)
		require.ErrorIs(t, err, ErrLines)
	}
	_, err = Parse([]string{specimens[TD3][0], strings.ToLower(specimens[TD3][1])})
	require.ErrorIs(t, err, ErrCharacter)
	require.NotContains(t, err.Error(), "8989")
	_, err = Document{Size: TD3, Code: "PASS"}.Lines()
	require.ErrorContains(t, err, "longer than its place")
	_, err = Document{Size: TD3, Number: "x"}.Lines()
	require.ErrorIs(t, err, ErrCharacter)
	_, err = Document{}.Lines()
	require.ErrorContains(t, err, "not known")
}

func TestExpiry(t *testing.T) {
	seen := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"120415": "2012-04-15", "961210": "1996-12-10", "350101": "2035-01-01", "760101": "2076-01-01", "770101": "1977-01-01"} {
		got, ok := Document{ExpiryDate: text}.Expiry(seen)
		require.True(t, ok)
		require.Equal(t, want, got.Format(time.DateOnly))
	}
	for _, bad := range []string{"", "1204", "129915", "12<<15", "000230"} {
		_, ok := Document{ExpiryDate: bad}.Expiry(seen)
		require.False(t, ok, bad)
	}
}

func TestMessagesOfReaders(t *testing.T) {
	td3 := specimens[TD3]
	for text, want := range map[string][]string{
		"OU\x020" + strings.Repeat("_", 44) + "\r" + td3[0] + "\r" + td3[1] + "\r":                 td3,
		"\x00\x60OU\x02X\r" + td3[0] + "\r" + td3[1] + "\r":                                        td3,
		"OU\x020" + specimens[TD1][0] + "\r" + specimens[TD1][1] + "\r" + specimens[TD1][2] + "\r": specimens[TD1],
		"OU\x020" + td3[0] + "__\r" + td3[1] + "__\r":                                              td3,
	} {
		lines, err := ParseMessage([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, lines)
	}
	_, err := ParseMessage([]byte("OU\x020____\r____\r____\r"))
	require.ErrorIs(t, err, ErrNothingRead)
	for _, bad := range []string{"", "OU", "OU\x02", "12345OU\x020", "XX\x020" + td3[0]} {
		_, err := ParseMessage([]byte(bad))
		require.ErrorContains(t, err, "not known")
	}
	require.Equal(t, "OU\x020____\rABCD\rEFGH\r", string(AppendMessage(nil, []string{"ABCD", "EFGH"})))
}

func TestZonesInLines(t *testing.T) {
	td3, td1 := strings.Join(specimens[TD3], "\r\n")+"\r\n", strings.Join(specimens[TD1], "\r")+"\r"
	for name, c := range map[string]struct {
		stream   string
		zones    int
		problems []string
	}{
		"one":              {td3, 1, nil},
		"three lines":      {td1, 1, nil},
		"two":              {td3 + td1 + "\n\n" + td3, 3, nil},
		"a line was lost":  {td3[:46] + "~" + td1, 1, []string{"a zone that was broken off; 1 lines of a zone are left out"}},
		"another size":     {td3[:46] + td1, 1, []string{"lines of different lengths; 1 lines of a zone are left out"}},
		"a line broke off": {td3[:60] + "~" + td3, 1, []string{"a line of 14 characters, which no machine-readable zone has; 1 lines of a zone are left out"}},
		"no line end":      {strings.TrimSpace(td3) + "~", 1, nil},
		"something else":   {"READY\r\n" + td3, 1, []string{"a line of 5 characters, which no machine-readable zone has"}},
		"too long":         {strings.Repeat("A", 500) + "\r\n" + td3, 1, []string{"a line that is too long for a machine-readable zone"}},
	} {
		for _, n := range []int{1, 7, 1000} {
			zones, problems := split(c.stream, n)
			require.Len(t, zones, c.zones, name)
			require.Equal(t, c.problems, problems, name)
			for _, z := range zones {
				_, err := Parse(z)
				require.NoError(t, err)
			}
		}
	}
}

// split gives the zones of a stream in pieces of n bytes; "~" is a pause.
func split(stream string, n int) (zones [][]string, problems []string) {
	var s Splitter
	take := func() {
		for z, ok := s.Next(); ok; z, ok = s.Next() {
			if z.Problem != "" {
				problems = append(problems, z.Problem)
			} else {
				zones = append(zones, z.Lines)
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
	return zones, problems
}

// FuzzParse: what is read is written again as it was, as far as a zone can be written; and
// no problem tells what came.
func FuzzParse(f *testing.F) {
	for _, lines := range specimens {
		f.Add(strings.Join(lines, "\n"), byte(3))
	}
	f.Fuzz(func(t *testing.T, stream string, n byte) {
		stream += "~"
		zones, problems := split(stream, len(stream))
		again, problemsAgain := split(stream, int(n)+1)
		require.Equal(t, zones, again)
		require.Equal(t, problems, problemsAgain)
		for _, z := range zones {
			d, err := Parse(z)
			if err != nil {
				continue
			}
			lines, err := d.Lines()
			if err != nil {
				continue
			}
			same, err := Parse(lines)
			require.NoError(t, err)
			require.Equal(t, d.Number, same.Number)
			require.Equal(t, d.BirthDate, same.BirthDate)
		}
		_, _ = ParseMessage([]byte(stream))
	})
}
