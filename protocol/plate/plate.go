// Package plate brings what number-plate readers say into one form: the text of
// a plate and the key to match it by, the country, the confidence, the
// direction, and whether there was a plate at all. The drivers of all vendors
// use it, so that a central system meets one set of rules.
//
// What a device said is always kept beside what is made of it, and nothing is
// guessed: a country, a confidence or a direction that can't be told stays
// empty. What the vendors do is in one table, Of.
//
// Plates are personal data. Mask is for logs and pages, Pseudonym for receivers
// that may only recognise a plate; a Text prints itself masked.
package plate

import (
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxText bounds the text of one plate, in bytes. The longest plates that are
// in use stay far below it, two on one line included.
const MaxText = 256

// Text is the text of one plate.
type Text struct {
	// Raw is what the device sent.
	Raw string
	// Plate is Raw made readable, see Clean.
	Plate string
	// MatchKey is what equal plates have in common, see Key.
	MatchKey string
	// Truncated is true when the device sent more than MaxText, which no plate
	// has; the fields hold its beginning.
	Truncated bool
}

// Normalise makes a Text of what a device sent. Bytes that are not UTF-8 come
// out as U+FFFD; Decode reads them by a legacy code page before.
func Normalise(raw string) Text {
	t := Text{Raw: strings.ToValidUTF8(raw, "\uFFFD")}
	if len(t.Raw) > MaxText {
		end := MaxText
		for !utf8.RuneStart(t.Raw[end]) {
			end--
		}
		t.Raw, t.Truncated = t.Raw[:end], true
	}
	t.Plate = Clean(t.Raw)
	t.MatchKey = fold(t.Plate)
	return t
}

// String gives the plate masked, so that one that is printed by mistake tells
// little.
func (t Text) String() string { return Mask(t.Plate) }

// GoString does the same for %#v.
func (t Text) GoString() string { return `plate.Text{` + t.String() + `}` }

// LogValue does the same for structured logs.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Separator stands between the plates of one vehicle where a device lists
// several in one text; Split them before Normalise.
const Separator = "|"

// Split gives the plates of a list: "AA1234BB|AA9876XX" are two.
func Split(raw string) []string { return strings.Split(raw, Separator) }

// Clean makes the text of a plate readable and comparable by eye: Unicode
// compatibility composition (NFKC, which makes full-width letters plain ones),
// upper case by no language's own rules, and no separators. Letters stay in
// their script and keep their accents.
func Clean(raw string) string {
	s := strings.ToValidUTF8(raw, "\uFFFD")
	// To take a mark or a separator out can let what is beside it compose, and
	// what composes can have another upper case. One more round settles it.
	for range maxRounds {
		next := norm.NFKC.String(strings.Map(cleaned, norm.NFKC.String(s)))
		if next == s {
			break
		}
		s = next
	}
	return s
}

// maxRounds bounds the search for a text that cleaning or folding does not
// change any more.
const maxRounds = 8

// cleaned is what becomes of one character; -1 takes it out.
func cleaned(r rune) rune {
	switch {
	case r == utf8.RuneError: // stands for a character that is not known
		return r
	case separators[r], unicode.IsSpace(r), unicode.In(r, dropped...):
		return -1
	}
	return unicode.ToUpper(r)
}

// separators stand between groups of characters and are no part of the plate.
// Dashes and spaces of every kind are too.
var separators = map[rune]bool{
	'.': true, '_': true, '/': true,
	'·': true, // U+00B7
	'•': true, // U+2022
	'−': true, // U+2212, a minus
}

// dropped are the classes of characters that are no part of a plate: spaces and
// dashes, controls and invisible marks, and pictures such as the shield or the
// flag of a country, which some readers render by a symbol or by a character of
// their own font.
var dropped = []*unicode.RangeTable{unicode.Zs, unicode.Zl, unicode.Zp, unicode.Pd, unicode.Cc, unicode.Cf, unicode.So, unicode.Co}

// Key gives the text by which plates are matched: Clean, with letters of the
// Cyrillic and Greek script that look like a Latin one replaced by it, Arabic
// and Persian digits by plain ones, and accents taken off Latin and Greek
// letters. Two readers that see the same plate and think of different scripts
// come to the same key. Letters without a Latin twin stay.
//
// It is for comparing only: different plates can have the same key, and the
// key is not what stands on the plate.
func Key(raw string) string { return fold(Clean(raw)) }
