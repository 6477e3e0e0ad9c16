package plate

import (
	"math"
	"strconv"
	"strings"
)

// Scale is how a device counts its confidence in a read. The scales of vendors
// can't be compared with each other, so no threshold fits all of them.
type Scale string

// The scales. The empty one is of a device that tells no confidence.
const (
	// OfOne runs from 0 to 1.
	OfOne Scale = "0-1"
	// OfHundred runs from 0 to 100.
	OfHundred Scale = "0-100"
	// Of255 runs from 0 to 255.
	Of255 Scale = "0-255"
	// OfThousand runs from 0 to 1000.
	OfThousand Scale = "0-1000"
	// OfHundredOrThousand runs from 0 to 100, or from 0 to 1000 at some firmware:
	// above 100 it is taken for the second.
	OfHundredOrThousand Scale = "0-100 or 0-1000"
	// ScaleUnknown is a number that nobody knows the range of.
	ScaleUnknown Scale = "unknown"
)

// tops is the highest number of each scale that is known.
var tops = map[Scale]float64{OfOne: 1, OfHundred: 100, Of255: 255, OfThousand: 1000, OfHundredOrThousand: 1000}

// Known reports whether s is one of the scales, for settings.
func (s Scale) Known() bool {
	_, ok := tops[s]
	return ok || s == "" || s == ScaleUnknown
}

// Confidence is how sure a device is of a read.
type Confidence struct {
	// Value runs from 0 to 1, rounded to four decimals; nil if it can't be told.
	// That is not the same as 0.
	Value *float64
	// Raw is what the device said, empty if it said nothing, and Scale what it
	// counts in.
	Raw   string
	Scale Scale
}

// MaxConfidence bounds the text of a confidence, in bytes.
const MaxConfidence = 32

// Of reads a confidence that is counted in this scale. What is no number, or
// lies outside of the scale, gives no value: then the scale is another one than
// was thought.
func (s Scale) Of(raw string) Confidence {
	raw = strings.ToValidUTF8(raw, "\uFFFD")
	if len(raw) > MaxConfidence {
		raw = strings.ToValidUTF8(raw[:MaxConfidence], "")
	}
	c := Confidence{Raw: raw, Scale: s}
	top, known := tops[s]
	f, err := strconv.ParseFloat(strings.TrimSpace(raw), 64)
	if err != nil || !known || !(f >= 0 && f <= top) {
		return c
	}
	if s == OfHundredOrThousand && f <= 100 {
		top = 100
	}
	v := math.Round(f/top*1e4) / 1e4
	c.Value = &v
	return c
}
