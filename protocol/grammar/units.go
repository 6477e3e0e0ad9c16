package grammar

import (
	"math"
	"slices"
	"strings"
)

// The quantities that units are of.
const (
	DoseRate    = "dose rate"
	CountRate   = "count rate"
	Weight      = "weight"
	Speed       = "speed"
	Length      = "length"
	Temperature = "temperature"
	Pressure    = "pressure"
	Voltage     = "voltage"
	Current     = "current"
	Share       = "share"
)

// unit is a unit by its name: value x factor + offset is the value in the first unit of
// its quantity. Factors from roentgens depend on a convention, and are left to the driver.
type unit struct {
	name, quantity string
	factor, offset float64
	aliases        []string
}

var units = []unit{
	{"uSv/h", DoseRate, 1, 0, nil},
	{"nSv/h", DoseRate, 1e-3, 0, nil},
	{"mSv/h", DoseRate, 1e3, 0, nil},
	{"Sv/h", DoseRate, 1e6, 0, nil},
	{"urem/h", DoseRate, 1e-2, 0, nil},
	{"mrem/h", DoseRate, 10, 0, nil},
	{"rem/h", DoseRate, 1e4, 0, nil},
	{"uR/h", DoseRate, 0, 0, nil},
	{"mR/h", DoseRate, 0, 0, nil},
	{"R/h", DoseRate, 0, 0, nil},
	{"uGy/h", DoseRate, 0, 0, nil},
	{"mGy/h", DoseRate, 0, 0, nil},
	{"Gy/h", DoseRate, 0, 0, nil},
	{"cps", CountRate, 1, 0, []string{"1/s", "counts/s"}},
	{"cpm", CountRate, 1.0 / 60, 0, []string{"1/min", "counts/min"}},
	{"kg", Weight, 1, 0, nil},
	{"g", Weight, 1e-3, 0, nil},
	{"t", Weight, 1e3, 0, nil},
	{"lb", Weight, 0.45359237, 0, nil},
	{"km/h", Speed, 1, 0, nil},
	{"m/s", Speed, 3.6, 0, nil},
	{"mph", Speed, 1.609344, 0, nil},
	{"m", Length, 1, 0, nil},
	{"km", Length, 1e3, 0, nil},
	{"cm", Length, 1e-2, 0, nil},
	{"mm", Length, 1e-3, 0, nil},
	{"ft", Length, 0.3048, 0, nil},
	{"in", Length, 0.0254, 0, nil},
	{"C", Temperature, 1, 0, []string{"°C"}},
	{"F", Temperature, 5.0 / 9, -160.0 / 9, []string{"°F"}},
	{"K", Temperature, 1, -273.15, nil},
	{"hPa", Pressure, 1, 0, []string{"mbar"}},
	{"Pa", Pressure, 1e-2, 0, nil},
	{"kPa", Pressure, 10, 0, nil},
	{"bar", Pressure, 1e3, 0, nil},
	{"V", Voltage, 1, 0, nil},
	{"mV", Voltage, 1e-3, 0, nil},
	{"kV", Voltage, 1e3, 0, nil},
	{"A", Current, 1, 0, nil},
	{"mA", Current, 1e-3, 0, nil},
	{"%", Share, 1, 0, nil},
}

// Units lists the units of some quantities, or of all.
func Units(quantities ...string) []string {
	var list []string
	for _, u := range units {
		if len(quantities) == 0 || slices.Contains(quantities, u.quantity) {
			list = append(list, u.name)
		}
	}
	return list
}

// micro are the two characters that look like a small mu.
var micro = strings.NewReplacer("µ", "u", "μ", "u")

// lookupUnit finds a unit by a name of it.
func lookupUnit(name string) (unit, bool) {
	name = micro.Replace(name)
	i := slices.IndexFunc(units, func(u unit) bool { return u.name == name || slices.Contains(u.aliases, name) })
	if i < 0 {
		return unit{}, false
	}
	return units[i], true
}

// Convert gives a value of one unit in another of the same quantity; ok is false for units that
// don't go together, and for those whose factor is a convention.
func Convert(v float64, from, to string) (out float64, ok bool) {
	a, known := lookupUnit(from)
	b, also := lookupUnit(to)
	switch {
	case !known || !also || a.quantity != b.quantity:
		return 0, false
	case a.name == b.name:
		return v, true
	case a.factor == 0 || b.factor == 0:
		return 0, false
	}
	return tidy((v*a.factor + a.offset - b.offset) / b.factor), true
}

// tidy takes away what binary fractions add: ten digits are more than any instrument has.
func tidy(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	scale := math.Pow(10, 9-math.Floor(math.Log10(math.Abs(v))))
	if math.IsInf(scale, 0) || scale == 0 {
		return v
	}
	return math.Round(v*scale) / scale
}
