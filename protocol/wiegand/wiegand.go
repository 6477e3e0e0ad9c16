// Package wiegand reads and writes the two Wiegand frames by which Nedap's
// number-plate readers hand a plate to an access controller: one of 26 bits with
// a hash of the plate, and one of 64 bits with its characters. The codes are from
// the manual; its examples were computed again.
package wiegand

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode"
)

// Frame is a number of bits in the order in which they come.
type Frame struct {
	// Bits holds them, the last one lowest.
	Bits uint64
	// Len is how many there are, 64 at most.
	Len int
}

// Parse reads a frame from digits 0 and 1, the first bit first. Blanks between
// them are passed over.
func Parse(s string) (Frame, error) {
	var f Frame
	for _, c := range []byte(s) {
		switch c {
		case ' ':
			continue
		case '0', '1':
		default:
			return Frame{}, fmt.Errorf("wiegand: %q is no bit: want 0 or 1", c)
		}
		if f.Len == 64 {
			return Frame{}, errors.New("wiegand: more than 64 bits")
		}
		f.Bits = f.Bits<<1 | uint64(c-'0')
		f.Len++
	}
	return f, nil
}

// String writes what Parse reads.
func (f Frame) String() string {
	var b strings.Builder
	for i := min(f.Len, 64) - 1; i >= 0; i-- {
		b.WriteByte('0' + byte(f.Bits>>i&1))
	}
	return b.String()
}

func (f Frame) check(length int) error {
	if f.Len != length {
		return fmt.Errorf("wiegand: a frame of %d bits: want %d", f.Len, length)
	}
	if length < 64 && f.Bits>>length != 0 {
		return fmt.Errorf("wiegand: a frame of more than the %d bits that it is said to have", length)
	}
	return nil
}

// Of the 24 bits of a hash, each half has a parity bit.
const (
	hashBits = 24
	halfMask = 1<<(hashBits/2) - 1
)

// Hash is what the frame of 26 bits holds of a plate: the last three bytes of
// SHA-1 of the plate in upper case without blanks. It recognises a plate that is
// known, and does not tell one that is not; different plates can have the same.
func Hash(plate string) uint32 {
	sum := sha1.Sum([]byte(strings.ToUpper(withoutBlanks(plate))))
	tail := sum[len(sum)-3:]
	return uint32(tail[0])<<16 | uint32(tail[1])<<8 | uint32(tail[2])
}

func withoutBlanks(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// Encode26 makes the frame of 26 bits: in front of the hash a bit that makes the
// ones in its first half even, and behind it one that makes those in its second
// half odd. It fails for a hash of more than 24 bits.
func Encode26(hash uint32) (Frame, error) {
	if hash>>hashBits != 0 {
		return Frame{}, fmt.Errorf("wiegand: hash %#x has more than 24 bits", hash)
	}
	front := uint64(bits.OnesCount32(hash>>12) & 1)
	behind := uint64(1 - bits.OnesCount32(hash&halfMask)&1)
	return Frame{Bits: front<<25 | uint64(hash)<<1 | behind, Len: 26}, nil
}

// Decode26 gives the hash in a frame of 26 bits.
func Decode26(f Frame) (uint32, error) {
	if err := f.check(26); err != nil {
		return 0, err
	}
	hash := uint32(f.Bits >> 1 & (1<<hashBits - 1))
	want, err := Encode26(hash)
	if err != nil {
		return 0, err
	}
	if f != want {
		return 0, fmt.Errorf("wiegand: the parity of %s is wrong: a bit was lost or altered", f)
	}
	return hash, nil
}

// Of the 64 bits, the first four say what it is, and each six of the others are
// a character.
const (
	mark     = 0b0110
	places   = 10
	perPlace = 6

	codeEmpty   = 0
	codeZero    = 16 // to 25
	codeA       = 26 // to 51
	codeUnknown = 63
)

// Unknown stands in a plate for a character that the frame of 64 bits has no code
// for.
const Unknown = '?'

// Encode64 makes the frame of 64 bits. Every character but A to Z, in upper or
// lower case, and 0 to 9 is Unknown, a blank too. It fails for a plate of more than
// ten characters.
func Encode64(plate string) (Frame, error) {
	var codes uint64
	n := 0
	for _, r := range plate {
		if n++; n > places {
			return Frame{}, fmt.Errorf("wiegand: a plate of more than %d characters", places)
		}
		code := uint64(codeUnknown)
		switch {
		case '0' <= r && r <= '9':
			code = codeZero + uint64(r-'0')
		case 'A' <= r && r <= 'Z':
			code = codeA + uint64(r-'A')
		case 'a' <= r && r <= 'z':
			code = codeA + uint64(r-'a')
		}
		codes = codes<<perPlace | code
	}
	return Frame{Bits: mark<<(places*perPlace) | codes, Len: 64}, nil
}

// Decode64 gives the plate in a frame of 64 bits, with Unknown for what it has no
// code for; empty if it holds none.
func Decode64(f Frame) (string, error) {
	if err := f.check(64); err != nil {
		return "", err
	}
	if got := f.Bits >> (places * perPlace); got != mark {
		return "", fmt.Errorf("wiegand: a frame that begins with %04b: want %04b", got, mark)
	}
	var b strings.Builder
	for i := range places {
		code := byte(f.Bits >> ((places - 1 - i) * perPlace) & (1<<perPlace - 1))
		switch {
		case code == codeEmpty && b.Len() == 0:
		case codeZero <= code && code < codeA:
			b.WriteByte('0' + code - codeZero)
		case codeA <= code && code < codeA+26:
			b.WriteByte('A' + code - codeA)
		case code == codeUnknown:
			b.WriteByte(Unknown)
		default:
			return "", fmt.Errorf("wiegand: place %d of 10 holds %d, which is no character's code", i+1, code)
		}
	}
	return b.String(), nil
}
