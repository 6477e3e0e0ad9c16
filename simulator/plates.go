package simulator

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// plateForm is what plates of a country look like: L is a letter, D a digit, and
// the rest stands for itself.
type plateForm struct {
	country, form, letters string
	weight                 int
}

// looksAlike are the letters that Latin and Cyrillic share, which countries with
// Cyrillic script keep to.
const looksAlike = "ABCEHIKMOPTX"

var plateForms = []plateForm{
	{"UA", "LLDDDDLL", looksAlike, 6},
	{"PL", "LLLDDDDD", "BCDEFGHJKLMNOPRSTUWXYZ", 5},
	{"RO", "LLDDLLL", "ABCDEFGHIJKLMNOPRSTUVXYZ", 2},
	{"MD", "LLLDDD", "ABCDEFGHJKLMNPRSTUVWXYZ", 1},
	{"LT", "LLLDDD", "ABCDEFGHJKLMNOPRSTUVZ", 1},
	{"SK", "LLDDDLL", "ABCDEFGHIJKLMNOPRSTVXYZ", 1},
	{"GR", "LLLDDDD", "ABEZHIKMNOPTYX", 1},
}

// drawPlate draws a plate and its country (ISO 3166-1 alpha-2).
func drawPlate(rng *rand.Rand) (text, country string) {
	sum := 0
	for _, f := range plateForms {
		sum += f.weight
	}
	n := rng.IntN(sum)
	var form plateForm
	for _, form = range plateForms {
		if n -= form.weight; n < 0 {
			break
		}
	}
	var b strings.Builder
	for _, c := range form.form {
		switch c {
		case 'L':
			b.WriteByte(form.letters[rng.IntN(len(form.letters))])
		case 'D':
			b.WriteByte(byte('0' + rng.IntN(10)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), form.country
}

// platesOf gives the plates of a vehicle: that in front and that on its rear,
// which for a lorry with a trailer is another one, often of another country. All
// devices of a lane see the same.
func platesOf(seed uint64, lane string, v *vehicle) (front, frontCountry, rear, rearCountry string, trailer bool) {
	rng := newRand(seed, lane, "plates", strconv.Itoa(v.n))
	front, frontCountry = drawPlate(rng)
	rear, rearCountry = front, frontCountry
	if trailer = v.what == "truck" && v.length > 12; trailer {
		rear, rearCountry = drawPlate(rng)
	}
	return front, frontCountry, rear, rearCountry, trailer
}

// homoglyphs are the letters by which a reader writes Latin look-alikes when it
// believes in another script.
var homoglyphs = map[string]map[rune]rune{
	"cyrillic": {'A': 'А', 'B': 'В', 'C': 'С', 'E': 'Е', 'H': 'Н', 'I': 'І', 'K': 'К', 'M': 'М', 'O': 'О', 'P': 'Р', 'T': 'Т', 'X': 'Х', 'Y': 'У'},
	"greek":    {'A': 'Α', 'B': 'Β', 'E': 'Ε', 'Z': 'Ζ', 'H': 'Η', 'I': 'Ι', 'K': 'Κ', 'M': 'Μ', 'N': 'Ν', 'O': 'Ο', 'P': 'Ρ', 'T': 'Τ', 'Y': 'Υ', 'X': 'Χ'},
}

// written is a plate in the script that a reader believes in.
func written(text, script string) string {
	return strings.Map(func(r rune) rune {
		if g, ok := homoglyphs[script][r]; ok {
			return g
		}
		return r
	}, text)
}

// confusable are the characters that readers take for each other.
var confusable = map[byte]string{
	'0': "OQD", 'O': "0QD", 'Q': "0OD", 'D': "0OQ", '1': "IL", 'I': "1L", 'L': "1I", '2': "Z", 'Z': "2",
	'5': "S", 'S': "5", '6': "G", 'G': "6", '7': "T", 'T': "7", '8': "B", 'B': "8", 'U': "V", 'V': "UY", 'Y': "V",
}

// misread is a plate with one character taken for another, if there is one that
// can be.
func misread(text string, rng *rand.Rand) string {
	b := []byte(text)
	from := rng.IntN(len(b))
	for i := range b {
		k := (from + i) % len(b)
		if other := confusable[b[k]]; other != "" {
			b[k] = other[rng.IntN(len(other))]
			return string(b)
		}
	}
	return text
}
