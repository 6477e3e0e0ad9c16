// Package iso6346 reads container numbers: four letters, six digits and a check digit.
// It does no I/O.
package iso6346

import "strings"

// Check says what a number is worth.
type Check string

// The checks.
const (
	// Valid: the check digit fits.
	Valid Check = "valid"
	// Corrected: it does after one character, which readers often take for another, was
	// put right, and there is only one way to do so.
	Corrected Check = "corrected"
	// Invalid: it has the form of a number, and the check digit does not fit.
	Invalid Check = "invalid"
	// NoCode: it has not the form of one.
	NoCode Check = "no_code"
)

// length of a number with its check digit.
const length = 11

// confused are the characters that readers take for each other.
var confused = map[byte]byte{
	'0': 'O', 'O': '0', '1': 'I', 'I': '1', '5': 'S', 'S': '5', '8': 'B', 'B': '8', '2': 'Z', 'Z': '2',
}

// Parse gives the number in what a reader told, without blanks and dashes, in capital
// letters; empty if it is none or does not fit.
func Parse(raw string) (code string, check Check) {
	text := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-' || r == '.' || r == '/' || r == '\u00a0':
			return -1
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, raw)
	if valid(text) {
		return text, Valid
	}
	if len(text) != length {
		return "", NoCode
	}
	var found string
	n := 0
	for i := range length {
		other, ok := confused[text[i]]
		if !ok {
			continue
		}
		if repaired := text[:i] + string(other) + text[i+1:]; valid(repaired) {
			found = repaired
			n++
		}
	}
	if n == 1 {
		return found, Corrected
	}
	if formed(text) {
		return text, Invalid
	}
	return "", NoCode
}

// formed reports whether a text has the form of a number.
func formed(text string) bool {
	if len(text) != length || !strings.ContainsRune("UJZ", rune(text[3])) {
		return false
	}
	for i := range length {
		letter := text[i] >= 'A' && text[i] <= 'Z'
		if i < 4 != letter || i >= 4 && (text[i] < '0' || text[i] > '9') {
			return false
		}
	}
	return true
}

func valid(text string) bool { return formed(text) && text[length-1] == CheckDigit(text[:length-1]) }

// CheckDigit computes the check digit of four letters and six digits.
func CheckDigit(number string) byte {
	sum := 0
	for i := range number {
		value := int(number[i] - '0')
		if c := number[i]; c >= 'A' && c <= 'Z' {
			// The values leave out the multiples of 11.
			value = int(c-'A') + 10
			value += (value - 1) / 10
		}
		sum += value << i
	}
	return '0' + byte(sum%11%10)
}
