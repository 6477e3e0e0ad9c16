package plate

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoRead(t *testing.T) {
	for _, c := range []struct {
		vendor    Vendor
		raw, want string
	}{
		{Hikvision, "unknown", Marked},
		{Hikvision, "Unknown", Marked},
		{Hikvision, " unknown\r\n", Marked},
		{Hikvision, "", NoText},
		{Hikvision, " ", NoText},
		{Hikvision, "noPlate", Marked},
		{Hikvision, "无车牌", Marked},
		{Hikvision, "AA1234BB", ""},
		{Hikvision, "UNKNOWN1", ""},
		{Dahua, "Unknown", Marked},
		{Dahua, "unknow", Marked},
		{Dahua, "No Plate", Marked},
		{Dahua, "<unknown>", Marked},
		{Dahua, "unlicensed", Marked},
		{Dahua, "NOPLATE", ""}, // no word of this vendor; somebody may have it on his car
		{Vzen, "_无_", Marked},
		{Vzen, "苏A8HK52", ""},
		{Axxon, "Not defined", Marked},
		{Rekor, "unknown", ""},
		{Nedap, "--", NoCharacters},
		{Nedap, "????", NoCharacters},
		{Nedap, "A???", ""},
		{"somebody's", "", NoText},
		{"somebody's", "AA1234BB", ""},
		{"somebody's", "ب", ""},
	} {
		require.Equal(t, c.want, Of(c.vendor).NoReadReason(c.raw), "%s %q", c.vendor, c.raw)
	}
}

func TestConfidence(t *testing.T) {
	of := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		scale Scale
		raw   string
		want  *float64
	}{
		{OfHundred, "97", of(0.97)},
		{OfHundred, "0", of(0)},
		{OfHundred, "100", of(1)},
		{OfHundred, "91.5", of(0.915)},
		{OfHundred, " 92 ", of(0.92)},
		{OfHundred, "101", nil},
		{OfHundred, "-1", nil}, // Genetec: none
		{OfHundred, "", nil},
		{OfHundred, "high", nil},
		{OfHundred, "NaN", nil},
		{OfHundred, "+Inf", nil},
		{OfOne, "0.719034", of(0.719)},
		{OfOne, "1", of(1)},
		{OfOne, "92", nil},
		{Of255, "160", of(0.6275)},
		{Of255, "255", of(1)},
		{OfThousand, "870", of(0.87)},
		{OfHundredOrThousand, "870", of(0.87)},
		{OfHundredOrThousand, "87", of(0.87)},
		{OfHundredOrThousand, "100", of(1)},
		{OfHundredOrThousand, "1001", nil},
		{ScaleUnknown, "92", nil},
		{"", "92", nil},
	} {
		got := c.scale.Of(c.raw)
		require.Equal(t, c.want, got.Value, "%s %q", c.scale, c.raw)
		require.Equal(t, c.raw, got.Raw)
		require.Equal(t, c.scale, got.Scale)
	}
	require.Len(t, OfHundred.Of(strings.Repeat("9", 1000)).Raw, MaxConfidence)
	require.True(t, Of255.Known())
	require.True(t, Scale("").Known())
	require.False(t, Scale("0-10").Known())

	require.Equal(t, of(0.97), Of(Hikvision).Confidence("97").Value)
	require.Equal(t, of(0.97), Of(Vzen).Confidence("97").Value)
	require.Nil(t, Of(Nedap).Confidence("92").Value, "nobody knows the scale")
	require.Nil(t, Of(TVT).Confidence("").Value)
}

func TestCountry(t *testing.T) {
	for _, c := range []struct {
		form      CountryForm
		raw, want string
	}{
		{Alpha2, "UA", "UA"}, {Alpha2, "ua", "UA"}, {Alpha2, "ZZ", ""}, {Alpha2, "XK", "XK"}, {Alpha2, "UKR", ""},
		{Alpha3, "UKR", "UA"}, {Alpha3, "rou", "RO"}, {Alpha3, "NON", ""}, {Alpha3, "null", ""}, {Alpha3, "", ""},
		{Alpha3, "NLD", "NL"}, {Alpha3, " POL ", "PL"},
		{Name, "Ukraine", "UA"}, {Name, "poland", "PL"}, {Name, "Nowhere", ""},
		{Region, "eu-ro", "RO"}, {Region, "ro", "RO"}, {Region, "us-ca", "US"}, {Region, "eu", ""}, {Region, "eu-", ""},
		{Vienna, "A", "AT"}, {Vienna, "B", "BE"}, {Vienna, "BIH", "BA"}, {Vienna, "D", "DE"}, {Vienna, "E", "ES"},
		{Vienna, "EST", "EE"}, {Vienna, "F", "FR"}, {Vienna, "FIN", "FI"}, {Vienna, "GBZ", "GI"}, {Vienna, "H", "HU"},
		{Vienna, "I", "IT"}, {Vienna, "IRL", "IE"}, {Vienna, "KZ", "KZ"}, {Vienna, "L", "LU"}, {Vienna, "MNE", "ME"},
		{Vienna, "N", "NO"}, {Vienna, "NMK", "MK"}, {Vienna, "MK", "MK"}, {Vienna, "P", "PT"}, {Vienna, "RUS", "RU"},
		{Vienna, "S", "SE"}, {Vienna, "SLO", "SI"}, {Vienna, "SRB", "RS"}, {Vienna, "UK", "GB"}, {Vienna, "GB", "GB"},
		{Vienna, "RKS", "XK"}, {Vienna, "KG", "KG"}, {Vienna, "KS", "KG"}, {Vienna, "MGL", "MN"}, {Vienna, "IR", "IR"},
		{Vienna, "IRQ", "IQ"}, {Vienna, "SYR", "SY"}, {Vienna, "SK", "SK"}, {Vienna, "UA", "UA"}, {Vienna, "PL", "PL"},
		{Vienna, "MD", "MD"}, {Vienna, "TR", "TR"}, {Vienna, "ES", "SV"}, {Vienna, "ROU", "UY"}, {Vienna, "NA", ""},
		{HikvisionIndex, "3", "DE"}, {HikvisionIndex, "11", "RU"}, {HikvisionIndex, "19", "HR"}, {HikvisionIndex, "30", "KZ"},
		{HikvisionIndex, "33", "UZ"}, {HikvisionIndex, "59", "CN"}, {HikvisionIndex, "64", "TH"}, {HikvisionIndex, "73", "KG"},
		{HikvisionIndex, "0", ""}, {HikvisionIndex, "255", ""}, {HikvisionIndex, "12", ""}, {HikvisionIndex, "NON", ""},
	} {
		got := Conventions{Countries: []CountryForm{c.form}, Index: HikvisionCountries()}.Country(c.raw)
		require.Equal(t, Country{Code: c.want, Raw: c.raw}, got, "%s %q", c.form, c.raw)
	}

	c := Of(Hikvision)
	require.Equal(t, "UZ", c.Country("33").Code)
	require.Equal(t, "DE", c.Country("DEU").Code, "some firmware tells the country as text")
	require.Empty(t, c.Country("12").Code, "nobody has confirmed that 12 is Ukraine")
	c.Unverified = true
	require.Equal(t, "UA", c.Country("12").Code)
	require.Empty(t, c.Country("255").Code)

	c.Unverified = false
	site, err := ParseIndex(strings.NewReader("index,alpha3,evidence\n12,UKR,confirmed\n33,POL,confirmed\n"))
	require.NoError(t, err)
	c.Index = c.Index.With(site)
	require.Equal(t, "UA", c.Country("12").Code)
	require.Equal(t, "PL", c.Country("33").Code)
	require.Equal(t, "DE", c.Country("3").Code)
	require.Equal(t, "UZ", Of(Hikvision).Country("33").Code, "the built-in index is as it was")
	require.Equal(t, "UA", Index{}.With(site).code("12", false))

	require.Equal(t, "RO", Of(Nedap).Country("ROU").Code)
	require.Equal(t, "RO", Of(Rekor).Country("eu-ro").Code)
	require.Equal(t, "UA", Of(Dahua).Country("UKR").Code)
	require.Equal(t, "RO", Of(ONVIF).Country("RO").Code)
	require.Equal(t, Country{Raw: "RO"}, Of(TVT).Country("RO"), "it is not known to tell countries")
	require.Len(t, Of(ONVIF).Country(strings.Repeat("Ж", 1000)).Raw, MaxCountry)
}

func TestIndexErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "index of countries: EOF",
		"1,CZE,confirmed\n":                   "index of countries: the heading is \"1,CZE,confirmed\": want index,alpha3,evidence",
		"index,alpha3\n":                      "index of countries: record on line 1: wrong number of fields",
		"@x,CZE,confirmed\n":                  "index of countries: line 2: \"x\" is no number from 0 to 1000",
		"@-1,CZE,confirmed\n":                 "index of countries: line 2: \"-1\" is no number from 0 to 1000",
		"@1001,CZE,confirmed\n":               "index of countries: line 2: \"1001\" is no number from 0 to 1000",
		"@1,CZ,confirmed\n":                   "index of countries: line 2: \"CZ\" is no ISO 3166-1 alpha-3 code",
		"@1,CZE,sure\n":                       "index of countries: line 2: evidence is \"sure\": want \"confirmed\" or \"unverified\"",
		"@1,CZE,confirmed\n1,DEU,confirmed\n": "index of countries: line 3: 1 is there twice",
	} {
		_, err := ParseIndex(strings.NewReader(strings.Replace(text, "@", "index,alpha3,evidence\n", 1)))
		require.EqualError(t, err, want)
	}
}

func TestEmbeddedFiles(t *testing.T) {
	_, err := hikvision()
	require.NoError(t, err)
	confirmed := 0
	for _, e := range HikvisionCountries().entries {
		if e.confirmed {
			confirmed++
		}
	}
	require.Equal(t, 8, confirmed)
	require.Len(t, HikvisionCountries().entries, 49)

	rows, err := csv.NewReader(strings.NewReader(string(countriesText))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"alpha2", "alpha3", "vienna", "name"}, rows[0])
	signs := map[string]bool{}
	for _, row := range rows[1:] {
		require.Regexp(t, `^[A-Z]{2}$`, row[0])
		require.Regexp(t, `^([A-Z]{3})?$`, row[1])
		require.NotEmpty(t, row[3])
		for _, s := range strings.Fields(row[2]) {
			require.False(t, signs[s], "%s is the sign of two countries", s)
			signs[s] = true
		}
	}
	require.Len(t, countryCodes()[Alpha2], len(rows)-1)
	require.Len(t, countryCodes()[Alpha3], len(rows)-2, "all but Kosovo")
	require.Len(t, countryCodes()[Name], len(rows)-1)
}

// Against the whole data set, where it is at hand.
func TestCountriesAgainstDataSet(t *testing.T) {
	f, err := os.Open("../../../shared/data/plates/country-codes.csv")
	if err != nil {
		t.Skip("the data set is not at hand")
	}
	defer func() { require.NoError(t, f.Close()) }()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	column := func(name string) int { return slices.Index(rows[0], name) }
	// The sign has changed since, or belongs to another country in the first place.
	others := map[string]bool{"F": true, "RI": true, "FIN": true, "USA": true, "AUS": true, "NZ": true, "DK": true, "NA": true}
	signs := 0
	for _, row := range rows[1:] {
		code := row[column("ISO3166-1-Alpha-2")]
		require.Equal(t, code, countryCodes()[Alpha3][row[column("ISO3166-1-Alpha-3")]])
		require.Equal(t, code, countryCodes()[Name][strings.ToUpper(row[column("CLDR display name")])])
		sign := strings.Trim(row[column("DS")], "\u00a0 ")
		if sign == "" || others[sign] && countryCodes()[Vienna][sign] != code {
			continue
		}
		require.Equal(t, code, countryCodes()[Vienna][sign], sign)
		signs++
	}
	require.Greater(t, signs, 150)
}

func TestDirection(t *testing.T) {
	for _, c := range []struct {
		vendor Vendor
		raw    string
		want   Direction
	}{
		{Hikvision, "forward", Toward}, {Hikvision, "reverse", Away}, {Hikvision, "unknown", DirectionUnknown}, {Hikvision, "", DirectionUnknown},
		{Dahua, "Approach", Toward}, {Dahua, "Leave", Away}, {Dahua, "Head", Toward}, {Dahua, "Tail", Away}, {Dahua, "Obverse", DirectionUnknown},
		{Axis, "in", DirectionUnknown}, {Axis, "out", DirectionUnknown},
		{Vaxtor, "1", Toward}, {Vaxtor, "2", Away}, {Vaxtor, "0", DirectionUnknown}, {Vaxtor, "3", DirectionUnknown},
		{Vzen, "1", Left}, {Vzen, "2", Right}, {Vzen, "3", DirectionUnknown}, {Vzen, "0", DirectionUnknown},
		{Axxon, "LEFT", Left}, {Genetec, "Moving Away", Away}, {Rekor, "180.5", DirectionUnknown}, {"somebody's", "forward", DirectionUnknown},
	} {
		require.Equal(t, c.want, Of(c.vendor).Direction(c.raw), "%s %q", c.vendor, c.raw)
	}

	c := Of(Hikvision)
	c.Directions["forward"], c.NoRead[0], c.Countries[0] = Away, "x", Name
	require.Equal(t, Toward, Of(Hikvision).Direction("forward"), "what Of gives is the caller's own")
	require.Equal(t, Marked, Of(Hikvision).NoReadReason("unknown"))
	require.Equal(t, "DE", Of(Hikvision).Country("3").Code)

	m := Mounting{Toward: Entry, Away: Exit}
	require.Equal(t, Entry, m.Of(Toward))
	require.Equal(t, Exit, m.Of(Away))
	require.Equal(t, LaneDirectionUnknown, m.Of(Left))
	require.Equal(t, LaneDirectionUnknown, Mounting(nil).Of(Toward))
}

func TestVendors(t *testing.T) {
	require.Len(t, Vendors(), 18)
	for _, v := range Vendors() {
		require.True(t, Of(v).Scale.Known(), v)
	}
}
