package tsa

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Environmental records go into an SC-880, on a serial line of 19200 baud with odd parity: what
// the boards of the detectors and of the pillars measured. They have thirty characters,
// a tag of four letters, four values of five characters and a last field that is 0, and stand
// between guards, '!' and CR LF '#'. From Rapiscan's public program that sends them; what
// it gets from the boards is twelve numbers without public meanings, and is not read here.

// EnvironmentTag is the tag of an environmental record.
type EnvironmentTag string

// Environmental records.
const (
	TPDT EnvironmentTag = "TPDT" // temperature of the four detectors, K
	RHDT EnvironmentTag = "RHDT" // their humidity, % RH
	PRES EnvironmentTag = "PRES" // their pressure, hPa
	DEWP EnvironmentTag = "DEWP" // their dew point, K
	MTRH EnvironmentTag = "MTRH" // master pillar: temperature K, humidity %, thermocouple K, humidity outside %
	STRH EnvironmentTag = "STRH" // the same of the slave pillar
	MBAT EnvironmentTag = "MBAT" // master pillar: battery V, direct current A, 0, alternating current A
	SBAT EnvironmentTag = "SBAT" // the same of the slave pillar
)

// EnvironmentTags lists them in the order in which they are sent.
func EnvironmentTags() []EnvironmentTag {
	return []EnvironmentTag{TPDT, RHDT, PRES, DEWP, MBAT, MTRH, SBAT, STRH}
}

// kelvin is zero degrees Celsius.
const kelvin = 273.15

// Environment is one environmental record.
type Environment struct {
	Tag EnvironmentTag
	// Values are as the record has them: temperatures in kelvin, humidity in percent, pressure
	// in hPa, volts and amperes. A board that is not there tells zero.
	Values [4]float64
	// Guarded is true if the record came behind a '!'.
	Guarded bool
}

// Celsius gives a temperature of a record in degrees Celsius; ok is false for zero kelvin,
// which is what is told of a board that is not there, and of a broken thermocouple.
func Celsius(k float64) (c float64, ok bool) {
	if k < 1 {
		return 0, false
	}
	text := strconv.FormatFloat(k-kelvin, 'f', 2, 64)
	c, err := strconv.ParseFloat(text, 64)
	return c, err == nil
}

// ParseEnvironment decodes a line that a Splitter gave.
func ParseEnvironment(line []byte) (Environment, error) {
	var e Environment
	line, e.Guarded = bytes.CutPrefix(line, []byte{'!'})
	if len(line) != classicWidth {
		return Environment{}, fmt.Errorf("%d characters, want %d", len(line), classicWidth)
	}
	fields := strings.Split(string(line), ",")
	if len(fields) != 6 || len(fields[0]) != 4 || fields[5] != "0" {
		return Environment{}, errors.New("it is no tag of four letters, four values and a 0")
	}
	for _, tag := range EnvironmentTags() {
		if fields[0] == string(tag) {
			e.Tag = tag
		}
	}
	if e.Tag == "" {
		return Environment{}, fmt.Errorf("%q is no environmental record", fields[0])
	}
	for i, text := range fields[1:5] {
		if len(text) != 5 || strings.Trim(text, "-0123456789.") != "" || e.Tag.whole(i) == (text[3] == '.') {
			return Environment{}, fmt.Errorf("field %d of %s, %q, is no value", i+1, e.Tag, text)
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return Environment{}, fmt.Errorf("field %d of %s, %q, is no value", i+1, e.Tag, text)
		}
		e.Values[i] = v
	}
	return e, nil
}

// whole reports whether a value is a whole number; the others have one decimal.
func (t EnvironmentTag) whole(i int) bool {
	return t == PRES || (t == MBAT || t == SBAT) && i == 2
}

// Append appends the record with its guards.
func (e Environment) Append(b []byte) []byte {
	b = append(append(b, '!'), e.Tag...)
	for i, v := range e.Values {
		if e.Tag.whole(i) {
			b = fmt.Appendf(b, ",%05.0f", v)
		} else {
			b = fmt.Appendf(b, ",%05.1f", v)
		}
	}
	return append(b, ",0\r\n#"...)
}

// SpeedMessage is the length of a message of the speed link, a second serial line of the same
// settings. It ends CR LF, or LF LF as was seen; what is before that is not public.
const SpeedMessage = 6

// SpeedSplitter takes messages out of the speed link's stream. The zero value is ready to use.
type SpeedSplitter struct {
	buf   []byte
	begun bool
}

// Write takes bytes as they come. Call Next until it gives none after each Write.
func (s *SpeedSplitter) Write(b []byte) { s.buf = append(s.buf, b...) }

// Next gives the next message, or bytes that belong to none; ok is false if there is neither
// yet. first is true for what may be the rest of a message that began before the
// connection. The bytes are valid until the next call of Write.
func (s *SpeedSplitter) Next() (b []byte, message, first, ok bool) {
	if len(s.buf) < SpeedMessage {
		s.buf = append([]byte(nil), s.buf...)
		return nil, false, false, false
	}
	// The beginning has no mark: it is where the end is in its place.
	k := 0
	for k+SpeedMessage <= len(s.buf) && !ended(s.buf[k:k+SpeedMessage]) {
		k++
	}
	if first = !s.begun; k > 0 {
		b, s.buf = s.buf[:k:k], s.buf[k:]
		return b, false, first, true
	}
	b, s.buf, s.begun = s.buf[:SpeedMessage:SpeedMessage], s.buf[SpeedMessage:], true
	return b, true, false, true
}

func ended(b []byte) bool {
	return b[SpeedMessage-1] == '\n' && (b[SpeedMessage-2] == '\n' || b[SpeedMessage-2] == '\r')
}
