package dicos

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/text/encoding"
)

// set is one data set: for each tag a []string, []float64, []byte or []set.
type set map[Tag]any

// values decodes the excerpt of a file.
type values struct {
	b    []byte // what is left
	text *encoding.Decoder
}

// decode gives the values of an excerpt, which walker has made: explicit little endian, and
// no deeper than it may be.
func decode(excerpt []byte) (set, error) {
	v := &values{b: excerpt}
	s, err := v.set()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return s, nil
}

func (v *values) take(n int) ([]byte, error) {
	if n < 0 || n > len(v.b) {
		return nil, io.ErrUnexpectedEOF
	}
	b := v.b[:n]
	v.b = v.b[n:]
	return b, nil
}

// tag reads a tag, and the length of what is an item or the end of one.
func (v *values) tag() (t Tag, length uint32, err error) {
	b, err := v.take(4)
	if err != nil {
		return 0, 0, err
	}
	group, element := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
	if group == 0xfffe {
		if b, err = v.take(4); err == nil {
			length = binary.LittleEndian.Uint32(b)
		}
	}
	return Tag(group)<<16 | Tag(element), length, err
}

// set reads elements until the end of an item or of the whole. Of two with the same tag the
// first counts.
func (v *values) set() (set, error) {
	s := set{}
	for len(v.b) > 0 {
		t, _, err := v.tag()
		if err != nil {
			return nil, err
		}
		if t == tagItemEnd {
			break
		}
		value, err := v.value(t)
		if err != nil {
			return nil, fmt.Errorf("the element (%04x,%04x): %w", t.group(), t.element(), err)
		}
		if _, twice := s[t]; !twice {
			s[t] = value
		}
	}
	return s, nil
}

func (v *values) value(t Tag) (any, error) {
	vr, err := v.take(2)
	if err != nil {
		return nil, err
	}
	kind, width16 := string(vr), 2
	if long[kind] {
		if _, err := v.take(2); err != nil {
			return nil, err
		}
		width16 = 4
	}
	b, err := v.take(width16)
	if err != nil {
		return nil, err
	}
	length := uint64(binary.LittleEndian.Uint16(b))
	if long[kind] {
		length = uint64(binary.LittleEndian.Uint32(b))
	}
	if kind == "SQ" {
		return v.items()
	}
	if length > uint64(len(v.b)) {
		return nil, io.ErrUnexpectedEOF
	}
	if b, err = v.take(int(length)); err != nil { //nolint:gosec // bounded above
		return nil, err
	}
	switch {
	case width[kind] > 0:
		return numbers(kind, b), nil
	case kind == "OB":
		return b, nil
	}
	text := string(b)
	if v.text != nil && !ascii(b) {
		if decoded, err := v.text.Bytes(b); err == nil {
			text = string(decoded)
		}
	}
	list := strings.Split(text, `\`)
	for i, x := range list {
		list[i] = strings.Trim(strings.ToValidUTF8(x, "\ufffd"), " \x00\t\r\n")
	}
	if t == tagCharset {
		v.text = decoderOf(list)
	}
	return list, nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func (v *values) items() ([]set, error) {
	list := []set{}
	for {
		t, _, err := v.tag()
		if err != nil || t == tagSequenceEnd {
			return list, err
		}
		s, err := v.set()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
}

// numbers reads the numbers of a type.
func numbers(kind string, b []byte) []float64 {
	var list []float64
	for w := width[kind]; len(b) >= w; b = b[w:] {
		list = append(list, number(kind, b))
	}
	return list
}

func number(kind string, b []byte) float64 {
	switch kind {
	case "US":
		return float64(binary.LittleEndian.Uint16(b))
	case "SS":
		return float64(int16(binary.LittleEndian.Uint16(b))) //nolint:gosec // its bits
	case "UL":
		return float64(binary.LittleEndian.Uint32(b))
	case "SL":
		return float64(int32(binary.LittleEndian.Uint32(b))) //nolint:gosec // its bits
	case "FD":
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	// As it would be written, 0.1 and not 0.10000000149.
	x := math.Float32frombits(binary.LittleEndian.Uint32(b))
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
	if err != nil {
		return float64(x)
	}
	return v
}
