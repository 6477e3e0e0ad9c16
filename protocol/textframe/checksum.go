package textframe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Checksum is a check over the bytes of a frame.
type Checksum struct {
	// Kind is one of ChecksumKinds; empty is none.
	Kind string `yaml:"kind"`
	// Place is "before_end" (the default) or "after_end".
	Place string `yaml:"place"`
	// Digits is "binary" (the default), one or two bytes, or "hex", twice as many
	// hexadecimal digits, upper or lower case.
	Digits string `yaml:"digits"`
	// LowFirst is true if the low byte of a CRC comes first.
	LowFirst bool `yaml:"low_first"`
	// WithStart and WithEnd count the start and the end in. The end can count only
	// if the checksum stands after it.
	WithStart bool `yaml:"with_start"`
	WithEnd   bool `yaml:"with_end"`
}

// checksumKinds are the sums, with their size in bytes.
var checksumKinds = map[string]struct {
	size int
	sum  func([]byte) uint16
}{
	"xor": {1, func(b []byte) (x uint16) {
		for _, c := range b {
			x ^= uint16(c)
		}
		return x
	}},
	"sum8": {1, func(b []byte) (x uint16) {
		for _, c := range b {
			x += uint16(c)
		}
		return x & 0xff
	}},
	"crc16-modbus":      {2, func(b []byte) uint16 { return crcReflected(b, 0xffff, 0xa001) }},
	"crc16-ccitt-false": {2, func(b []byte) uint16 { return crc(b, 0xffff, 0x1021) }},
	"crc16-xmodem":      {2, func(b []byte) uint16 { return crc(b, 0, 0x1021) }},
}

// ChecksumKinds lists the checksums: the CRCs by their names in catalogues, and
// the exclusive or and the sum of all bytes.
func ChecksumKinds() []string { return slices.Sorted(maps.Keys(checksumKinds)) }

func crc(b []byte, x, poly uint16) uint16 {
	for _, c := range b {
		x ^= uint16(c) << 8
		for range 8 {
			if x&0x8000 != 0 {
				x = x<<1 ^ poly
			} else {
				x <<= 1
			}
		}
	}
	return x
}

func crcReflected(b []byte, x, poly uint16) uint16 {
	for _, c := range b {
		x ^= uint16(c)
		for range 8 {
			if x&1 != 0 {
				x = x>>1 ^ poly
			} else {
				x >>= 1
			}
		}
	}
	return x
}

// checksum is a Checksum that was checked; without sum there is none.
type checksum struct {
	sum      func([]byte) uint16
	bytes    int // of the sum
	size     int // in the frame
	after    bool
	hex      bool
	lowFirst bool
	start    bool
	end      bool
}

func (c Checksum) compile(hasEnd bool) (checksum, error) {
	if c.Kind == "" {
		if c != (Checksum{}) {
			return checksum{}, errors.New("checksum: it has settings and no kind; set kind, or take it out")
		}
		return checksum{}, nil
	}
	kind, ok := checksumKinds[c.Kind]
	if !ok {
		return checksum{}, fmt.Errorf("checksum: kind %q is not known; there are %s", shown(c.Kind), strings.Join(ChecksumKinds(), ", "))
	}
	s := checksum{sum: kind.sum, bytes: kind.size, size: kind.size, lowFirst: c.LowFirst, start: c.WithStart, end: c.WithEnd}
	switch c.Place {
	case "", "before_end":
	case "after_end":
		s.after = true
	default:
		return checksum{}, fmt.Errorf("checksum: place %q is not known; take before_end or after_end", shown(c.Place))
	}
	switch c.Digits {
	case "", "binary":
	case "hex":
		s.hex, s.size = true, 2*s.bytes
	default:
		return checksum{}, fmt.Errorf("checksum: digits %q are not known; take binary or hex", shown(c.Digits))
	}
	switch {
	case s.after && !hasEnd:
		return checksum{}, errors.New("checksum: it stands after the end, and there is no end")
	case s.end && !s.after:
		return checksum{}, errors.New("checksum: it stands before the end and can't count it; take out with_end")
	case s.bytes == 1 && s.lowFirst:
		return checksum{}, errors.New("checksum: one byte has no order; take out low_first")
	}
	return s, nil
}

// written is the checksum of a text as it stands in a frame, hexadecimal digits in
// upper case.
func (s checksum) written(start, data, end []byte) []byte {
	if s.sum == nil {
		return nil
	}
	var counted []byte
	if s.start {
		counted = append(counted, start...)
	}
	counted = append(counted, data...)
	if s.end {
		counted = append(counted, end...)
	}
	x := s.sum(counted)
	b := []byte{byte(x)}
	if s.bytes == 2 {
		b = []byte{byte(x >> 8), byte(x)}
		if s.lowFirst {
			slices.Reverse(b)
		}
	}
	if s.hex {
		return []byte(strings.ToUpper(hex.EncodeToString(b)))
	}
	return b
}
