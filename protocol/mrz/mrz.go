// Package mrz reads and writes the machine-readable zone of travel documents (ICAO Doc
// 9303, parts 3 to 7), and what readers of it put around (serial.go). It checks and never
// repairs: a field whose check digit does not fit is as it was read.
//
// What is in a zone is personal. No error of this package, and no text that a Document makes
// of itself, holds any of it.
package mrz

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Size is the form of a zone.
type Size string

// The sizes: of cards, of larger documents, of passports, and of visas of two sizes.
const (
	TD1  Size = "td1"  // three lines of 30
	TD2  Size = "td2"  // two lines of 36
	TD3  Size = "td3"  // two lines of 44
	MRVA Size = "mrva" // two lines of 44, visa
	MRVB Size = "mrvb" // two lines of 36, visa
)

// Filler stands where nothing is.
const Filler = '<'

// Check is what a check digit says.
type Check string

// The results of a check. Absent: the size has no such digit, or there is nothing to check.
const (
	Valid   Check = "valid"
	Invalid Check = "invalid"
	Absent  Check = "absent"
)

// Document is what a zone says, with the fillers at the ends of fields taken off.
type Document struct {
	Size Size
	// Code is one or two letters for the kind of document; a P is a passport, a V a visa.
	Code string
	// Issuer and Nationality are codes of up to three letters, mostly of ISO 3166-1.
	Issuer, Nationality string
	// Surname and GivenNames have blanks in place of single fillers.
	Surname, GivenNames string
	Number              string
	// BirthDate and ExpiryDate are YYMMDD; of a date of birth parts may be fillers.
	BirthDate, ExpiryDate string
	// Sex is M, F, X or empty.
	Sex string
	// Optional and Optional2 are the issuer's own; only TD1 has the second.
	Optional, Optional2 string

	NumberCheck, BirthCheck, ExpiryCheck, OptionalCheck, CompositeCheck Check
}

// String says what kind of document it is, and nothing of what is in it.
func (d Document) String() string { return fmt.Sprintf("a document of the size %s", d.Size) }

// GoString implements fmt.GoStringer for the same reason.
func (d Document) GoString() string { return d.String() }

// Valid reports whether no check digit says that something was read wrongly, and there is
// one for the number at least.
func (d Document) Valid() bool {
	for _, c := range []Check{d.BirthCheck, d.ExpiryCheck, d.OptionalCheck, d.CompositeCheck} {
		if c == Invalid {
			return false
		}
	}
	return d.NumberCheck == Valid
}

// What is wrong with lines.
var (
	ErrLines     = errors.New("these are no lines of a machine-readable zone: want three of 30 characters, two of 36 or two of 44")
	ErrCharacter = errors.New("a character that no machine-readable zone has: there are A to Z, 0 to 9 and <")
)

// value is what a character counts.
func value(c byte) (int, bool) {
	switch {
	case c == Filler:
		return 0, true
	case c >= '0' && c <= '9':
		return int(c - '0'), true
	case c >= 'A' && c <= 'Z':
		return int(c-'A') + 10, true
	}
	return 0, false
}

// CheckDigit gives the check digit of a text: the sum of its characters' values with the
// weights 7, 3, 1 by turns, modulo 10 (Doc 9303 part 3, 4.9).
func CheckDigit(text string) (byte, error) {
	sum := 0
	for i := range len(text) {
		v, ok := value(text[i])
		if !ok {
			return 0, ErrCharacter
		}
		sum += v * []int{7, 3, 1}[i%3]
	}
	return byte('0' + sum%10), nil
}

// checked compares a check digit with its text. With nothing, a text that is empty has none:
// then the digit may be a filler.
func checked(text string, digit byte, nothing bool) Check {
	if empty := strings.Trim(text, "<") == ""; empty && (digit == Filler || nothing && digit == '0') {
		return Absent
	}
	if want, err := CheckDigit(text); err != nil || want != digit {
		return Invalid
	}
	return Valid
}

// Parse reads the lines of a zone, without line ends.
func Parse(lines []string) (*Document, error) {
	for _, l := range lines {
		if len(l) != len(lines[0]) {
			return nil, ErrLines
		}
		for i := range len(l) {
			if _, ok := value(l[i]); !ok {
				return nil, ErrCharacter
			}
		}
	}
	switch {
	case len(lines) == 3 && len(lines[0]) == 30:
		return parseTD1(lines), nil
	case len(lines) == 2 && len(lines[0]) == 36:
		return parseTwo(lines, TD2, MRVB), nil
	case len(lines) == 2 && len(lines[0]) == 44:
		return parseTwo(lines, TD3, MRVA), nil
	}
	return nil, ErrLines
}

func bare(s string) string { return strings.TrimRight(s, "<") }

// name takes the field of the name apart.
func (d *Document) name(field string) {
	surname, given, _ := strings.Cut(bare(field), "<<")
	words := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == Filler }), " ")
	}
	d.Surname, d.GivenNames = words(surname), words(given)
}

// number takes the document's number, which goes on in the optional data if a filler stands
// in place of its check digit and it has more than nine characters.
func (d *Document) number(field string, digit byte, optional string) {
	d.Number, d.NumberCheck, d.Optional = bare(field), checked(field, digit, false), bare(optional)
	more, rest, _ := strings.Cut(optional, "<")
	if digit != Filler || len(d.Number) < len(field) || len(more) < 2 {
		if digit == Filler && d.Number != "" {
			d.NumberCheck = Invalid // there must be one
		}
		return
	}
	d.Number += more[:len(more)-1]
	d.NumberCheck, d.Optional = checked(d.Number, more[len(more)-1], false), bare(rest)
}

func parseTD1(l []string) *Document {
	d := &Document{
		Size: TD1, Code: bare(l[0][:2]), Issuer: bare(l[0][2:5]), BirthDate: bare(l[1][:6]), Sex: bare(l[1][7:8]), ExpiryDate: bare(l[1][8:14]),
		Nationality: bare(l[1][15:18]), Optional2: bare(l[1][18:29]),
		BirthCheck: checked(l[1][:6], l[1][6], false), ExpiryCheck: checked(l[1][8:14], l[1][14], false), OptionalCheck: Absent,
		CompositeCheck: checked(l[0][5:30]+l[1][0:7]+l[1][8:15]+l[1][18:29], l[1][29], false),
	}
	d.number(l[0][5:14], l[0][14], l[0][15:30])
	d.name(l[2])
	return d
}

func parseTwo(l []string, size, visa Size) *Document {
	first, second := l[0], l[1]
	d := &Document{
		Size: size, Code: bare(first[:2]), Issuer: bare(first[2:5]), Nationality: bare(second[10:13]), BirthDate: bare(second[13:19]),
		Sex: bare(second[20:21]), ExpiryDate: bare(second[21:27]),
		BirthCheck: checked(second[13:19], second[19], false), ExpiryCheck: checked(second[21:27], second[27], false), OptionalCheck: Absent, CompositeCheck: Absent,
	}
	d.name(first[5:])
	composite := func(to int) Check { return checked(second[:10]+second[13:20]+second[21:to], second[to], false) }
	switch {
	case first[0] == 'V': // visas have no digit over everything
		d.Size = visa
		d.number(second[:9], second[9], "")
		d.Optional = bare(second[28:])
	case size == TD2:
		d.number(second[:9], second[9], second[28:35])
		d.CompositeCheck = composite(35)
	default:
		d.number(second[:9], second[9], "")
		d.Optional, d.OptionalCheck = bare(second[28:42]), checked(second[28:42], second[42], true)
		d.CompositeCheck = composite(43)
	}
	return d
}

// Expiry gives the last day of a document's validity, as seen on a day: of the two digits of
// the year the next century is meant if the other would be more than fifty years away. False
// if the date is none.
func (d Document) Expiry(seen time.Time) (time.Time, bool) {
	t, err := time.Parse("20060102", "20"+d.ExpiryDate)
	if err != nil || len(d.ExpiryDate) != 6 {
		return time.Time{}, false
	}
	for t.Year() > seen.Year()+50 {
		t = t.AddDate(-100, 0, 0)
	}
	for t.Year() < seen.Year()-50 {
		t = t.AddDate(100, 0, 0)
	}
	return t, true
}

// Lines writes the zone of a document with its check digits. It fails for what does not fit
// into its fields. Names are cut.
func (d Document) Lines() ([]string, error) {
	var bad error
	pad := func(s string, n int) string {
		if len(s) > n {
			bad = errors.New("a field is longer than its place in the zone")
			return s[:n]
		}
		return s + strings.Repeat("<", n-len(s))
	}
	digit := func(s string) string {
		c, err := CheckDigit(s)
		if err != nil {
			bad = err
		}
		return string(c)
	}
	with := func(s string) string { return s + digit(s) }
	name := strings.ReplaceAll(d.Surname, " ", "<") + "<<" + strings.ReplaceAll(d.GivenNames, " ", "<")
	names := func(n int) string { return pad(name[:min(len(name), n)], n) }
	number, optional := d.Number, d.Optional
	numberField := func() string { return with(pad(number, 9)) }
	if len(number) > 9 && (d.Size == TD1 || d.Size == TD2) { // it goes on in the optional data
		optional = number[9:] + digit(number) + "<" + optional
		numberField = func() string { return number[:9] + "<" }
	}
	head, birth, sex, expiry := pad(d.Code, 2)+pad(d.Issuer, 3), with(pad(d.BirthDate, 6)), pad(d.Sex, 1), with(pad(d.ExpiryDate, 6))
	nation := pad(d.Nationality, 3)
	var lines []string
	switch d.Size {
	case TD1:
		lines = []string{head + numberField() + pad(optional, 15), birth + sex + expiry + nation + pad(d.Optional2, 11), names(30)}
		lines[1] += digit(lines[0][5:30] + lines[1][0:7] + lines[1][8:15] + lines[1][18:29])
	case TD2, TD3, MRVA, MRVB:
		width := map[Size]int{TD2: 36, MRVB: 36, TD3: 44, MRVA: 44}[d.Size]
		second := numberField() + nation + birth + sex + expiry
		switch d.Size {
		case TD2:
			second += pad(optional, 7)
		case TD3:
			second += with(pad(optional, 14))
		default:
			second += pad(optional, width-28)
		}
		if len(second) < width {
			second += digit(second[:10] + second[13:20] + second[21:])
		}
		lines = []string{head + names(width-5), second}
	default:
		return nil, fmt.Errorf("the size %q is not known", string(d.Size))
	}
	if bad == nil {
		_, bad = Parse(lines)
	}
	if bad != nil {
		return nil, fmt.Errorf("write a machine-readable zone: %w", bad)
	}
	return lines, nil
}
