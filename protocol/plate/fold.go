package plate

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// twins are the upper-case letters that look like a Latin one, and the digits
// of other scripts. Accented letters of Latin and Greek come here without their
// accents.
var twins = map[rune]rune{
	// Cyrillic.
	'А': 'A', // U+0410
	'В': 'B', // U+0412
	'Е': 'E', // U+0415
	'І': 'I', // U+0406
	'Ј': 'J', // U+0408
	'К': 'K', // U+041A
	'М': 'M', // U+041C
	'Н': 'H', // U+041D
	'О': 'O', // U+041E
	'Р': 'P', // U+0420
	'С': 'C', // U+0421
	'Ѕ': 'S', // U+0405
	'Т': 'T', // U+0422
	'У': 'Y', // U+0423
	'Х': 'X', // U+0425

	// Greek.
	'Α': 'A', // U+0391
	'Β': 'B', // U+0392
	'Ε': 'E', // U+0395
	'Ζ': 'Z', // U+0396
	'Η': 'H', // U+0397
	'Ι': 'I', // U+0399
	'Κ': 'K', // U+039A
	'Μ': 'M', // U+039C
	'Ν': 'N', // U+039D
	'Ο': 'O', // U+039F
	'Ρ': 'P', // U+03A1
	'Τ': 'T', // U+03A4
	'Υ': 'Y', // U+03A5
	'Χ': 'X', // U+03A7

	// Latin letters whose stroke Unicode does not take for an accent.
	'Đ': 'D', // U+0110
	'Ð': 'D', // U+00D0, which looks the same
	'Ł': 'L', // U+0141
	'Ø': 'O', // U+00D8

	// Arabic digits, and their Persian form.
	'٠': '0', '١': '1', '٢': '2', '٣': '3', '٤': '4', '٥': '5', '٦': '6', '٧': '7', '٨': '8', '٩': '9',
	'۰': '0', '۱': '1', '۲': '2', '۳': '3', '۴': '4', '۵': '5', '۶': '6', '۷': '7', '۸': '8', '۹': '9',
}

// fold makes the match key of a clean text.
func fold(clean string) string {
	s := clean
	for range maxRounds {
		next := Clean(foldOnce(s))
		if next == s {
			break
		}
		s = next
	}
	return s
}

func foldOnce(clean string) string {
	var b strings.Builder
	b.Grow(len(clean))
	bare := false // the last letter is one that has no accents in a key
	for _, r := range clean {
		if unicode.Is(unicode.Mn, r) && bare {
			continue
		}
		// A Cyrillic letter with a mark is a letter of its own: Ї is no І.
		if base := firstOf(norm.NFD.String(string(r))); bareScript(base) {
			r = base
		}
		if twin, ok := twins[r]; ok {
			r = twin
		}
		bare = bareScript(r)
		b.WriteRune(r)
	}
	return b.String()
}

func firstOf(s string) rune {
	for _, r := range s {
		return r
	}
	return 0
}

func bareScript(r rune) bool {
	return unicode.In(r, unicode.Latin, unicode.Greek) || '0' <= r && r <= '9'
}

// character reports whether r can tell plates apart.
func character(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
