package textframe

import (
	"bytes"
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
	// Digits is "binary" (the default), one or two bytes; "hex", twice as many
	// hexadecimal digits, upper or lower case; or "decimal", three digits or five.
	Digits string `yaml:"digits"`
	// Mark stands right before the checksum, with the escapes of Framing.Start: the * of
	// NMEA 0183. It is not counted.
	Mark string `yaml:"mark"`
	// Skip is how many bytes of the text are not counted, from its beginning.
	Skip int `yaml:"skip"`
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
	// What Modbus ASCII calls its LRC: with it the bytes add up to 0. Others call the xor so.
	"lrc-modbus": {1, func(b []byte) (x uint16) {
		for _, c := range b {
			x -= uint16(c)
		}
		return x & 0xff
	}},
	"crc16-arc":         {2, func(b []byte) uint16 { return crcReflected(b, 0, 0xa001) }},
	"crc16-kermit":      {2, func(b []byte) uint16 { return crcReflected(b, 0, 0x8408) }},
	"crc16-ibm-sdlc":    {2, func(b []byte) uint16 { return ^crcReflected(b, 0xffff, 0x8408) }},
	"crc16-modbus":      {2, ModbusCRC},
	"crc16-ccitt-false": {2, func(b []byte) uint16 { return crc(b, 0xffff, 0x1021) }},
	"crc16-xmodem":      {2, func(b []byte) uint16 { return crc(b, 0, 0x1021) }},
}

// ModbusCRC is the check of Modbus RTU (Modbus over Serial Line V1.02, 6.2.2), which sends its low
// byte first.
func ModbusCRC(b []byte) uint16 { return crcReflected(b, 0xffff, 0xa001) }

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
	decimal  bool
	lowFirst bool
	mark     []byte
	skip     int
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
	case "decimal":
		s.decimal, s.size = true, 2*s.bytes+1
	default:
		return checksum{}, fmt.Errorf("checksum: digits %q are not known; take binary, hex or decimal", shown(c.Digits))
	}
	var err error
	if s.mark, err = mark("checksum: mark", c.Mark); err != nil {
		return checksum{}, err
	}
	s.size += len(s.mark)
	if s.skip = c.Skip; s.skip < 0 || s.skip > MaxMark {
		return checksum{}, fmt.Errorf("checksum: skip: %d; take 0 to %d bytes", c.Skip, MaxMark)
	}
	switch {
	case s.after && !hasEnd:
		return checksum{}, errors.New("checksum: it stands after the end, and there is no end")
	case s.end && !s.after:
		return checksum{}, errors.New("checksum: it stands before the end and can't count it; take out with_end")
	case s.bytes == 1 && s.lowFirst:
		return checksum{}, errors.New("checksum: one byte has no order; take out low_first")
	case s.decimal && s.lowFirst:
		return checksum{}, errors.New("checksum: a decimal number has no order of bytes; take out low_first")
	}
	return s, nil
}

// written is the checksum of a text as it stands in a frame, with its mark, hexadecimal
// digits in upper case.
func (s checksum) written(start, data, end []byte) []byte {
	if s.sum == nil {
		return nil
	}
	var counted []byte
	if s.start {
		counted = append(counted, start...)
	}
	counted = append(counted, data[min(s.skip, len(data)):]...)
	if s.end {
		counted = append(counted, end...)
	}
	x := s.sum(counted)
	if s.decimal {
		return fmt.Appendf(slices.Clone(s.mark), "%0*d", s.size-len(s.mark), x)
	}
	b := []byte{byte(x)}
	if s.bytes == 2 {
		b = []byte{byte(x >> 8), byte(x)}
		if s.lowFirst {
			slices.Reverse(b)
		}
	}
	if s.hex {
		b = []byte(strings.ToUpper(hex.EncodeToString(b)))
	}
	return slices.Concat(s.mark, b)
}

// same compares a checksum of a frame with what it should be.
func (s checksum) same(got, want []byte) bool {
	if s.hex && bytes.HasPrefix(got, s.mark) {
		return bytes.EqualFold(got[len(s.mark):], want[len(s.mark):])
	}
	return bytes.Equal(got, want)
}

// ChecksumOf gives the checksum of a frame and what it should be, without the mark, and where
// in the frame it stands; ok is false if there is none, or the bytes can't be a frame.
func (f *Frames) ChecksumOf(frame []byte) (at int, got, want []byte, ok bool) {
	tail := f.sum.size + len(f.end)
	if f.sum.sum == nil || len(frame) < len(f.start)+tail || !bytes.HasPrefix(frame, f.start) {
		return 0, nil, nil, false
	}
	at = len(frame) - tail
	data, end := frame[len(f.start):at], frame[len(frame)-len(f.end):]
	if f.sum.after {
		end = frame[at : at+len(f.end)]
		at += len(f.end)
	}
	if !bytes.Equal(end, f.end) {
		return 0, nil, nil, false
	}
	want = f.sum.written(f.start, data, f.end)
	n := len(f.sum.mark)
	return at + n, frame[at+n : at+f.sum.size], want[n:], true
}
