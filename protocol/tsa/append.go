package tsa

import (
	"fmt"
	"math"
	"strconv"
)

// Caps of a speed record: what the portal sends for anything faster.
const (
	MaxMPH = 99.999
	MaxKPH = 160.93
)

// maxSecondsPerFoot is the longest time that the record's four decimals leave
// room for.
const maxSecondsPerFoot = 9.9999

// maxCount is the largest number that six digits hold.
const maxCount = 999_999

// SpeedOf makes the content of a speed record from the time that a vehicle
// takes for one foot, in seconds, with the portal's caps.
func SpeedOf(secondsPerFoot float64) Speed {
	s := Speed{SecondsPerFoot: secondsPerFoot, MPH: MaxMPH, KPH: MaxKPH}
	if secondsPerFoot > 0 {
		mph := 3600.0 / 5280 / secondsPerFoot
		s.MPH = min(mph, MaxMPH)
		s.KPH = min(mph*1.609344, MaxKPH)
	}
	return s
}

// AppendTo appends the record as it stands on the wire, with CR LF, with guards
// if Guarded, and with the time column if Time has one. Records with Fields
// (setup, extended, unknown) are written from them. It fails, and leaves dst as
// it was, for a value that does not fit.
func (r Record) AppendTo(dst []byte) ([]byte, error) {
	b := dst
	if r.Guarded {
		b = append(b, '!')
	}
	if !isTag([]byte(r.Tag)) {
		return dst, fmt.Errorf("encode %q: %w", r.Tag, errTag)
	}
	b = append(b, r.Tag...)
	shape := formText
	for i := range layout {
		if layout[i].tag == r.Tag {
			shape = layout[i].form
			break
		}
	}
	var err error
	switch shape {
	case formCounts:
		b, err = appendGroups(b, r.Counts)
	case formEnd:
		b, err = appendGroups(b, [Detectors]int{r.Counter, r.NeutronBackground, r.Counts[2], r.Counts[3]})
	case formSpeed:
		b, err = appendSpeed(b, r.Speed)
	case formRates:
		if len(r.Fields) > 0 {
			b, err = appendFields(b, r.Fields)
			break
		}
		for _, v := range r.NeutronRates {
			if !(v >= 0 && v <= maxRate) || math.Signbit(v) {
				err = fmt.Errorf("a rate of %v, want 0 to %d", v, maxRate)
			}
			b = strconv.AppendFloat(append(b, ','), v, 'f', 8, 64)
		}
	case formSetup:
		if b, err = appendFields(b, r.Fields); err == nil {
			// What the portal could not have sent is not written either.
			_, err = parseSetup(r.Tag, b[len(b)-len(r.Fields)-1-len(r.Tag):], r.Fields)
		}
	default:
		b, err = appendFields(b, r.Fields)
	}
	if err != nil {
		return dst, fmt.Errorf("encode %s: %w", r.Tag, err)
	}
	if r.Guarded && r.Time.Form == FormNone && b[len(b)-1] == '#' {
		return dst, fmt.Errorf("encode %s: %w", r.Tag, errGuard)
	}
	if b, err = appendTime(b, r.Time); err != nil {
		return dst, fmt.Errorf("encode %s: %w", r.Tag, err)
	}
	if n := len(b) - len(dst); n > MaxLine {
		return dst, fmt.Errorf("encode %s: %d characters, want at most %d", r.Tag, n, MaxLine)
	}
	b = append(b, '\r', '\n')
	if r.Guarded {
		b = append(b, '#')
	}
	return b, nil
}

// appendTime writes the time column. A zone with minutes is written with them,
// since the short form would tell another instant.
func appendTime(b []byte, c TimeColumn) ([]byte, error) {
	switch c.Form {
	case FormDaily:
		return c.At.AppendFormat(append(b, ','), dailyLayout), nil
	case FormFull:
		_, offset := c.At.Zone()
		if y := c.At.Year(); y < 0 || y > 9999 || offset%60 != 0 || offset <= -day || offset >= day {
			return b, fmt.Errorf("the time %v has a year or a zone that the column can't hold", c.At)
		}
		layout := fullLayouts[0]
		if offset%3600 != 0 {
			layout = fullLayouts[2]
		}
		return c.At.AppendFormat(append(b, ','), layout), nil
	}
	return b, nil
}

func appendGroups(b []byte, v [Detectors]int) ([]byte, error) {
	for _, n := range v {
		if n < 0 || n > maxCount {
			return b, fmt.Errorf("a count of %d, want 0 to %d", n, maxCount)
		}
		b = append(b, ',')
		for div := 100_000; div > 0; div /= 10 {
			b = append(b, byte('0'+n/div%10))
		}
	}
	return b, nil
}

func appendSpeed(b []byte, s Speed) ([]byte, error) {
	for _, f := range []struct {
		name     string
		v, limit float64
		decimals int
	}{
		{"seconds per foot", s.SecondsPerFoot, maxSecondsPerFoot, 4},
		{"mph", s.MPH, MaxMPH, 3},
		{"km/h", s.KPH, MaxKPH, 2},
	} {
		if !(f.v >= 0 && f.v <= f.limit) || math.Signbit(f.v) {
			return b, fmt.Errorf("%v %s, want 0 to %v", f.v, f.name, f.limit)
		}
		b = fmt.Appendf(b, ",%06.*f", f.decimals, f.v)
	}
	return append(b, ",000000"...), nil
}

func appendFields(b, fields []byte) ([]byte, error) {
	if len(fields) == 0 {
		return b, fmt.Errorf("no field")
	}
	if err := printable(fields); err != nil {
		return b, err
	}
	return append(append(b, ','), fields...), nil
}
