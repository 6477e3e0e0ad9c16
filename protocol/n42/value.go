package n42

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxCount bounds the counts of one channel; up to there a float64 holds whole numbers.
const maxCount = 1 << 53

// errCounts are why channels can't be read.
var (
	errNoCount  = errors.New("it is no count")
	errChannels = fmt.Errorf("more than %d channels", MaxChannels)
	errTotal    = fmt.Errorf("%w: more than %d channels in all spectra", ErrTooLarge, MaxTotalChannels)
)

// Zeroes tells what was odd in counted zeroes.
type Zeroes struct {
	// Cut: the last 0 has no length after it. It was taken as one channel.
	Cut bool
	// Double: a 0 is followed by a 0. The first was taken as one channel, as other readers
	// do it.
	Double bool
}

// ParseCounts reads the counts of channels or windows, parted by white space of any kind or
// commas. With counted, a 0 is followed by the length of the run of zeros that it stands
// for. Counts may be written as 12.0; negative ones, such that are no number and more than
// most of them are errors.
func ParseCounts(text []byte, counted bool, most int) (list []float64, odd Zeroes, err error) {
	zero := false // a 0 whose length is to come
	n := 0
	for i := 0; i < len(text); {
		if blank(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && !blank(text[i]) {
			i++
		}
		v, ok := parseCount(text[start:i])
		if !ok {
			return nil, odd, fmt.Errorf("value %d is %q: %w", n+1, cut(string(text[start:min(i, start+32)]), 32), errNoCount)
		}
		n++
		run := 1
		switch {
		case zero && v == 0:
			odd.Double = true // and this one waits for its length
		case zero:
			if v != math.Trunc(v) || v > float64(MaxChannels) {
				return nil, odd, fmt.Errorf("value %d is a run of %g zeros: %w", n, v, errChannels)
			}
			zero, run, v = false, int(v), 0
		case counted && v == 0:
			zero, run = true, 0
		}
		if len(list)+run > most {
			return nil, odd, errChannels
		}
		if list == nil {
			list = make([]float64, 0, min(most, max(run, len(text)/4)))
		}
		for range run {
			list = append(list, v)
		}
	}
	if zero {
		odd.Cut = true
		if len(list) >= most {
			return nil, odd, errChannels
		}
		list = append(list, 0)
	}
	return list, odd, nil
}

func blank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ',' }

// parseCount reads one number, of digits alone as a rule.
func parseCount(b []byte) (float64, bool) {
	if len(b) <= 15 {
		n := int64(0)
		for i, c := range b {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int64(c-'0')
			if i == len(b)-1 {
				return float64(n), true
			}
		}
	}
	if len(b) > 64 {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil && v >= 0 && v <= maxCount && decimal(b)
}

// decimal keeps out what ParseFloat reads beside decimal numbers: hexadecimal ones,
// underscores, infinities.
func decimal(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return false
		}
	}
	return true
}

// number reads a number that may be negative, and is finite.
func number(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) && decimal([]byte(s))
}

// maxDuration bounds a duration: a hundred years.
const maxDuration = 100 * 365 * 24 * 3600

// ParseDuration reads a duration of ISO 8601, PT0.99989S or PT16M44S, in days, hours,
// minutes and seconds; or a number alone, which is taken as seconds.
func ParseDuration(s string) (seconds float64, ok bool) {
	if v, ok := number(s); ok {
		return v, v >= 0 && v <= maxDuration
	}
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" {
		return 0, false
	}
	inTime, last, parts := false, -1, 0
	for rest != "" {
		if rest[0] == 'T' && !inTime {
			inTime, rest = true, rest[1:]
			last = 1
			if rest == "" {
				return 0, false
			}
			continue
		}
		i := strings.IndexAny(rest, "DHMS")
		if i <= 0 {
			return 0, false
		}
		v, good := number(rest[:i])
		if !good || v < 0 || rest[0] == '+' {
			return 0, false
		}
		order := strings.IndexByte("DTHMS", rest[i])
		if inTime == (rest[i] == 'D') || order <= last {
			return 0, false
		}
		seconds += v * map[byte]float64{'D': 86400, 'H': 3600, 'M': 60, 'S': 1}[rest[i]]
		last, parts, rest = order, parts+1, rest[i+1:]
	}
	return seconds, parts > 0 && seconds <= maxDuration
}

// TimeForm tells what was assumed of a time.
type TimeForm struct {
	// NoZone: it has none, and the given one was taken.
	NoZone bool
	// Order: day and month could be either way round.
	Order bool
}

// The forms of a time without its zone.
var (
	isoForms   = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "20060102T150405", "2006/01/02 15:04:05"}
	dayForms   = []string{"2/1/2006 15:04:05", "2/1/2006 3:04:05 PM", "2.1.2006 15:04:05", "2-1-2006 15:04:05", "2/1/2006T15:04:05", "2.1.2006T15:04:05", "2-1-2006T15:04:05", "2-Jan-2006 15:04:05", "2 Jan 2006 15:04:05", "2/1/2006 15:04", "2.1.2006 15:04", "2-1-2006 15:04"}
	monthForms = []string{"1/2/2006 15:04:05", "1/2/2006 3:04:05 PM", "1-2-2006 15:04:05", "1/2/2006T15:04:05", "1-2-2006T15:04:05", "1/2/2006 15:04", "1-2-2006 15:04"}
	zoneForms  = []string{"Z07:00", "-0700", "-07", " Z07:00", " -0700", " -07", " MST"}
)

// ParseTime reads a moment in the forms that instruments write, step by step: ISO 8601 with
// a zone, with one that lacks its colon, without one, and dates with the day or the month
// first. zone is for those that have none.
func ParseTime(s string, zone *time.Location, monthFirst bool) (at time.Time, form TimeForm, ok bool) {
	if len(s) > 64 || len(s) < 8 {
		return at, form, false
	}
	if at, form.NoZone, ok = inForms(s, isoForms, zone); ok {
		return at, form, sane(at)
	}
	first, second := dayForms, monthForms
	if monthFirst {
		first, second = second, first
	}
	at, form.NoZone, ok = inForms(s, first, zone)
	other, noZone, alsoOther := inForms(s, second, zone)
	switch {
	case ok && alsoOther:
		form.Order = !at.Equal(other)
	case alsoOther:
		at, form.NoZone, ok = other, noZone, true
	}
	return at, form, ok && sane(at)
}

func inForms(s string, forms []string, zone *time.Location) (at time.Time, noZone, ok bool) {
	for _, f := range forms {
		if len(s) < len(f)-4 {
			continue
		}
		for _, z := range zoneForms {
			if z == " MST" && !strings.HasSuffix(s, " UTC") && !strings.HasSuffix(s, " GMT") {
				continue // other names of zones stand for several
			}
			if at, err := time.Parse(f+z, s); err == nil {
				return at, false, true
			}
		}
		if at, err := time.ParseInLocation(f, s, zone); err == nil {
			return at, true, true
		}
	}
	return time.Time{}, false, false
}

// sane keeps out years that no event can have.
func sane(at time.Time) bool { return at.Year() >= 1970 && at.Year() <= 9998 }

// doseUnits are units of dose rate in µSv/h.
var doseUnits = map[string]float64{
	"usv/h": 1, "nsv/h": 1e-3, "msv/h": 1e3, "sv/h": 1e6, "mrem/h": 10, "urem/h": 0.01, "rem/h": 1e4,
	"usv/s": 3600, "msv/s": 3.6e6,
}

// MicroSvPerHour converts a dose rate. Roentgen and gray are no units of dose equivalent:
// they are not converted.
func MicroSvPerHour(v float64, unit string) (float64, bool) {
	u := strings.ToLower(strings.NewReplacer("µ", "u", "μ", "u", " ", "", "micro", "u", "milli", "m", "nano", "n").Replace(strings.ToLower(unit)))
	u = strings.ReplaceAll(u, "sievert", "sv")
	u = strings.ReplaceAll(u, "per", "/")
	for _, hour := range []string{"/hour", "/hr", "h-1", "h^-1"} {
		if rest, ok := strings.CutSuffix(u, hour); ok {
			u = strings.TrimSuffix(rest, "/") + "/h"
			break
		}
	}
	f, ok := doseUnits[u]
	return v * f, ok && !math.IsInf(v*f, 0)
}

// activityUnits are units of activity in Bq.
var activityUnits = map[string]float64{
	"bq": 1, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9, "tbq": 1e12, "ci": 3.7e10, "mci": 3.7e7, "uci": 3.7e4, "nci": 37,
}

// becquerel converts an activity. The case of the prefix counts for mBq alone, which is
// not distinguished from MBq by all that write it: it is not converted.
func becquerel(v float64, unit string) (float64, bool) {
	if unit == "mBq" || unit == "MCi" {
		return 0, false
	}
	f, ok := activityUnits[strings.NewReplacer("µ", "u", "μ", "u").Replace(strings.ToLower(unit))]
	return v * f, ok && !math.IsInf(v*f, 0)
}

// truth reads a boolean of XML.
func truth(s string) *bool {
	var v bool
	switch strings.ToLower(s) {
	case "true", "1":
		v = true
	case "false", "0":
	default:
		return nil
	}
	return &v
}

func failed(status string) bool {
	s := strings.ToLower(status)
	return strings.HasPrefix(s, "fail") || s == "error"
}

// time reads the open element as a moment.
func (r *reader) time(where string) (t Time, err error) {
	if t.Raw, err = r.string(); err != nil || t.Raw == "" {
		return t, err
	}
	at, form, ok := ParseTime(t.Raw, r.zone, r.month)
	switch {
	case !ok:
		r.flag(FlagTime, where, t.Raw)
		return t, nil
	case form.NoZone:
		r.flag(FlagNoZone, where, t.Raw)
	}
	if form.Order {
		r.flag(FlagDayFirst, where, t.Raw)
	}
	t.At = at
	return t, nil
}

// duration reads the open element as a duration.
func (r *reader) duration(where string) (d Duration, err error) {
	if d.Raw, err = r.string(); err != nil {
		return d, err
	}
	if d.Seconds, d.Known = ParseDuration(d.Raw); !d.Known {
		d.Seconds = 0
		r.flag(FlagDuration, where, d.Raw)
	}
	return d, nil
}

// compressions are how the compression of channels is called.
var compressions = []string{"compressionCode", "CompressionCode", "Compression", "compression"}

// counts reads the open element as channels or windows. Those that can't be read are
// flagged and nil.
func (r *reader) counts(where, code, compression string) ([]float64, error) {
	b, err := r.value()
	if err != nil {
		return nil, err
	}
	if compression == "" {
		compression = r.coding
	}
	counted := false
	switch c := strings.ToLower(compression); c {
	case "", "none":
	case "countedzeroes", "countedzeros":
		counted = true
	default:
		r.flag(FlagCompression, where, compression)
		r.unread(code, where, "the compression "+compression+" is not known")
		return nil, nil
	}
	list, odd, err := ParseCounts(b, counted, MaxChannels)
	if err != nil {
		r.unread(code, where, err.Error())
		return nil, nil
	}
	if r.channels += len(list); r.channels > MaxTotalChannels {
		return nil, errTotal
	}
	if odd.Cut {
		r.flag(FlagZeroesCut, where, "the last 0 has no length after it")
	}
	if odd.Double {
		r.flag(FlagZeroesDouble, where, "a run of no zeros")
	}
	if len(list) == 0 {
		r.unread(code, where, "there are no counts")
		return nil, nil
	}
	r.good++
	return list, nil
}

func (r *reader) unread(code, where, why string) {
	if r.first == "" {
		r.first = why
	}
	r.flag(code, where, why)
}

// floats reads the open element as a list of numbers.
func (r *reader) floats(where string) ([]float64, error) {
	b, err := r.value()
	if err != nil {
		return nil, err
	}
	var list []float64
	for word := range bytes.FieldsSeq(b) {
		if len(list) > MaxChannels {
			return nil, fmt.Errorf("%w: more than %d numbers", ErrTooLarge, MaxChannels+1)
		}
		if r.channels++; r.channels > MaxTotalChannels {
			return nil, errTotal
		}
		w := string(word[:min(len(word), MaxText)])
		v, ok := number(w)
		if !ok {
			r.flag(FlagNumber, where, w)
			return nil, nil
		}
		list = append(list, v)
	}
	return list, nil
}

// float reads the open element as one number; nil if it is none.
func (r *reader) float(where string) (*float64, error) {
	s, err := r.string()
	if err != nil {
		return nil, err
	}
	v, ok := number(s)
	if !ok {
		r.flag(FlagNumber, where, s)
		return nil, nil
	}
	return &v, nil
}

// dose makes a dose rate of what stands there; fallback is the unit of one that has none.
func (r *reader) dose(where, raw, unit, fallback string) DoseRate {
	d := DoseRate{Raw: raw, Unit: unit}
	if unit == "" {
		unit = fallback
	}
	v, ok := number(raw)
	if !ok || v < 0 {
		r.unread(FlagNumber, where, "the dose rate is "+raw)
		return d
	}
	r.good++
	if usv, ok := MicroSvPerHour(v, unit); ok {
		d.MicroSvH = &usv
	} else {
		r.flag(FlagDoseUnit, where, raw+" "+unit)
	}
	return d
}
