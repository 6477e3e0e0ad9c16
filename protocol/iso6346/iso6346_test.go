package iso6346

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckDigit(t *testing.T) {
	for number, want := range map[string]byte{
		"CSQU305438": '3', "TSTU100001": '9', "TSTU100002": '4',
		"TSTU100003": '0', "TSTU100018": '0', "TSTU100022": '0', // the raw remainder is 10
	} {
		require.Equal(t, string(want), string(CheckDigit(number)), number)
	}
	// The values of letters leave out 11, 22 and 33.
	for letter, value := range map[string]int{"A": 10, "B": 12, "K": 21, "L": 23, "U": 32, "V": 34, "Z": 38} {
		require.Equal(t, byte('0'+value%11%10), CheckDigit(letter), letter)
	}
}

func TestParse(t *testing.T) {
	for raw, want := range map[string]struct {
		code  string
		check Check
	}{
		"CSQU3054383":   {"CSQU3054383", Valid},
		"csqu 305438-3": {"CSQU3054383", Valid},
		"CSQU30S4383":   {"CSQU3054383", Corrected},
		"C5QU3054383":   {"CSQU3054383", Corrected},
		"CSQU3054384":   {"CSQU3054384", Invalid},
		"CSQX3054383":   {"", NoCode},
		"C5QU30S4383":   {"", NoCode}, // two wrong ones are too many
		"":              {"", NoCode},
		"ABCU1+2345":    {"", NoCode},
		"CSQU305438":    {"", NoCode},
		"TSTU1000030":   {"TSTU1000030", Valid},
	} {
		code, check := Parse(raw)
		require.Equal(t, want.code, code, raw)
		require.Equal(t, want.check, check, raw)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("CSQU3054383")
	f.Add("CSQU 30S438 3")
	f.Fuzz(func(t *testing.T, raw string) {
		code, check := Parse(raw)
		if (code == "") != (check == NoCode) {
			t.Fatalf("%q is %s, %q", raw, check, code)
		}
		if check == Valid || check == Corrected {
			if again, c := Parse(code); again != code || c != Valid {
				t.Fatalf("%q became %q, which is %s", raw, code, c)
			}
		}
	})
}
