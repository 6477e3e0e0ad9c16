package plate

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
)

// Country is the country of a plate as a reader tells it. Readers often take one
// for another that has plates of the same form, so it is a hint and no fact.
type Country struct {
	// Code is ISO 3166-1 alpha-2, XK for Kosovo; empty if not known.
	Code string
	// Raw is what the device said; empty if it said nothing.
	Raw string
}

// CountryForm is a way in which readers write countries. Which one a text is in
// must be known: ES is Spain as ISO code and El Salvador as sign on a car, ROU is
// Romania by the one and Uruguay by the other.
type CountryForm string

// The forms.
const (
	// Alpha2 is ISO 3166-1 alpha-2.
	Alpha2 CountryForm = "alpha-2"
	// Alpha3 is ISO 3166-1 alpha-3.
	Alpha3 CountryForm = "alpha-3"
	// Vienna is the distinguishing sign of vehicles in international traffic, the
	// new ones and those that they replaced: NMK and MK, UK and GB, KG and KS.
	Vienna CountryForm = "vienna"
	// Name is the English name.
	Name CountryForm = "name"
	// Region is "eu-ro", a group of countries and a country; "us-ca", a country
	// and a part of it; or "ro", a country.
	Region CountryForm = "region"
	// HikvisionIndex is the number of a country or region in Hikvision's lists.
	HikvisionIndex CountryForm = "hikvision-index"
)

// MaxCountry bounds the text of a country, in bytes. Of longer ones Country.Raw
// holds the beginning.
const MaxCountry = 128

// countriesText is made of the data set country-codes of datahub.io (public
// domain, PDDL), its column DS being the signs, with the signs that have changed
// since put in front of the old ones, and Kosovo. A sign that the data set gives
// to several countries stands with the one that it is the sign of.
//
//go:embed countries.csv
var countriesText []byte

// countryCodes gives the alpha-2 code by form and upper-case text.
var countryCodes = sync.OnceValue(func() map[CountryForm]map[string]string {
	codes := map[CountryForm]map[string]string{Alpha2: {}, Alpha3: {}, Vienna: {}, Name: {}}
	rows, err := csv.NewReader(bytes.NewReader(countriesText)).ReadAll()
	if err != nil {
		return codes // the tests see to it that it can be read
	}
	for _, row := range rows[1:] {
		code := row[0]
		codes[Alpha2][code] = code
		codes[Alpha3][row[1]] = code
		for _, sign := range strings.Fields(row[2]) {
			codes[Vienna][sign] = code
		}
		codes[Name][strings.ToUpper(row[3])] = code
	}
	for _, of := range codes {
		delete(of, "")
	}
	return codes
})

// groups are what Region has in front of a country.
var groups = map[string]bool{"EU": true}

// countryOf reads a country that is written in one of the given forms, the first
// that fits. A device may well say that it does not know, or use a number that
// nobody knows: then there is no code.
func countryOf(raw string, forms []CountryForm, index Index, unverified bool) Country {
	raw = strings.ToValidUTF8(raw, "\uFFFD")
	if len(raw) > MaxCountry {
		raw = strings.ToValidUTF8(raw[:MaxCountry], "")
	}
	c := Country{Raw: raw}
	text := strings.ToUpper(strings.TrimSpace(raw))
	for _, form := range forms {
		switch form {
		case HikvisionIndex:
			c.Code = index.code(text, unverified)
		case Region:
			first, second, both := strings.Cut(text, "-")
			if both && groups[first] {
				first = second
			}
			c.Code = countryCodes()[Alpha2][first]
		default:
			c.Code = countryCodes()[form][text]
		}
		if c.Code != "" {
			break
		}
	}
	return c
}

// Index says which number stands for which country at one vendor.
type Index struct{ entries map[int]indexEntry }

type indexEntry struct {
	code      string
	confirmed bool
}

// maxIndex bounds the numbers of an index, and their count.
const maxIndex = 1000

//go:embed hikvision-countries.csv
var hikvisionText []byte

var hikvision = sync.OnceValues(func() (Index, error) { return ParseIndex(bytes.NewReader(hikvisionText)) })

// HikvisionCountries is the index that this package knows. Eight of its numbers
// were seen with plates that fit, and are marked as confirmed; the others are
// not, and count only where Conventions.Unverified is set.
func HikvisionCountries() Index {
	x, _ := hikvision() // the tests see to it that it can be read
	return x
}

// ParseIndex reads an index: comma-separated, a heading index,alpha3,evidence,
// and a line for each number, with evidence "confirmed" or "unverified".
func ParseIndex(r io.Reader) (Index, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = 3
	x := Index{entries: map[int]indexEntry{}}
	for first := true; ; first = false {
		row, err := in.Read()
		if errors.Is(err, io.EOF) && !first {
			return x, nil
		}
		if err != nil {
			return Index{}, fmt.Errorf("index of countries: %w", err)
		}
		if first {
			if got := strings.Join(row, ","); got != "index,alpha3,evidence" {
				return Index{}, fmt.Errorf("index of countries: the heading is %q: want index,alpha3,evidence", got)
			}
			continue
		}
		line, _ := in.FieldPos(0)
		n, err := strconv.Atoi(row[0])
		if err != nil || n < 0 || n > maxIndex {
			return Index{}, fmt.Errorf("index of countries: line %d: %q is no number from 0 to %d", line, row[0], maxIndex)
		}
		if _, twice := x.entries[n]; twice {
			return Index{}, fmt.Errorf("index of countries: line %d: %d is there twice", line, n)
		}
		code, ok := countryCodes()[Alpha3][row[1]]
		if !ok {
			return Index{}, fmt.Errorf("index of countries: line %d: %q is no ISO 3166-1 alpha-3 code", line, row[1])
		}
		if row[2] != "confirmed" && row[2] != "unverified" {
			return Index{}, fmt.Errorf(`index of countries: line %d: evidence is %q: want "confirmed" or "unverified"`, line, row[2])
		}
		x.entries[n] = indexEntry{code, row[2] == "confirmed"}
	}
}

// With gives an index in which the numbers of site stand in place of the same
// numbers of x.
func (x Index) With(site Index) Index {
	both := maps.Clone(x.entries)
	if both == nil {
		both = map[int]indexEntry{}
	}
	maps.Copy(both, site.entries)
	return Index{both}
}

func (x Index) code(text string, unverified bool) string {
	n, err := strconv.Atoi(text)
	if err != nil {
		return ""
	}
	if e := x.entries[n]; e.confirmed || unverified {
		return e.code
	}
	return ""
}
