package wiegand

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func parse(t *testing.T, s string) Frame {
	t.Helper()
	f, err := Parse(s)
	require.NoError(t, err)
	return f
}

// The examples of the manual.
func Test26(t *testing.T) {
	for _, c := range []struct {
		plate string
		hash  uint32
		bits  string
	}{
		{"HK55EVB", 0x80CF15, "1 100000001100 111100010101 0"},
		{"AB123CD", 0x8CB9FB, "01000110010111001111110110"},
	} {
		require.Equal(t, c.hash, Hash(c.plate))
		f, err := Encode26(c.hash)
		require.NoError(t, err)
		require.Equal(t, parse(t, c.bits), f)
		hash, err := Decode26(f)
		require.NoError(t, err)
		require.Equal(t, c.hash, hash)

		// Any one bit that is altered is noticed.
		for i := range 26 {
			_, err := Decode26(Frame{f.Bits ^ 1<<i, 26})
			require.ErrorContains(t, err, "parity")
		}
	}
	require.Equal(t, uint32(0x80CF15), Hash(" hk 55\u00a0evb "))

	_, err := Encode26(1 << 24)
	require.EqualError(t, err, "wiegand: hash 0x1000000 has more than 24 bits")
	_, err = Decode26(Frame{Len: 25})
	require.EqualError(t, err, "wiegand: a frame of 25 bits: want 26")
	_, err = Decode26(Frame{Bits: 1 << 26, Len: 26})
	require.EqualError(t, err, "wiegand: a frame of more than the 26 bits that it is said to have")
}

func Test64(t *testing.T) {
	for _, c := range []struct {
		plate string
		bits  uint64
		back  string
	}{
		{"HK55EVB", 0x600002191555EBDB, "HK55EVB"},
		{"VR46#T", 0x6000000BEB516FED, "VR46?T"},
		{"AB123CD", 0x600001A6D149371D, "AB123CD"},
		{"ab123cd", 0x600001A6D149371D, "AB123CD"},
		{"", 0x6000000000000000, ""},
		{"\u0416", 0x600000000000003F, "?"},
		{"9999999999", 0x6659659659659659, "9999999999"},
	} {
		f, err := Encode64(c.plate)
		require.NoError(t, err)
		require.Equal(t, Frame{c.bits, 64}, f, c.plate)
		back, err := Decode64(f)
		require.NoError(t, err)
		require.Equal(t, c.back, back)
	}
	_, err := Encode64("ABCDEFGHIJK")
	require.EqualError(t, err, "wiegand: a plate of more than 10 characters")
	for bits, want := range map[uint64]string{
		0x7000000000000000: "wiegand: a frame that begins with 0111: want 0110",
		0x6000000000000001: "wiegand: place 10 of 10 holds 1, which is no character's code",
		0x6000000000000034: "wiegand: place 10 of 10 holds 52, which is no character's code",
		0x6000000000000680: "wiegand: place 10 of 10 holds 0, which is no character's code", // A, and nothing behind
	} {
		_, err := Decode64(Frame{bits, 64})
		require.EqualError(t, err, want)
	}
	_, err = Decode64(Frame{0x600001A6D149371D, 26})
	require.EqualError(t, err, "wiegand: a frame of 26 bits: want 64")
}

func TestParse(t *testing.T) {
	f := parse(t, "0001 10")
	require.Equal(t, Frame{6, 6}, f)
	require.Equal(t, "000110", f.String())
	require.Equal(t, Frame{}, parse(t, ""))
	require.Empty(t, Frame{}.String())
	require.Empty(t, Frame{1, -1}.String())
	require.Len(t, Frame{1, 1 << 30}.String(), 64)
	_, err := Parse("012")
	require.EqualError(t, err, "wiegand: '2' is no bit: want 0 or 1")
	_, err = Parse(Frame{^uint64(0), 64}.String() + "1")
	require.EqualError(t, err, "wiegand: more than 64 bits")
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plate := rapid.StringMatching(`[A-Z0-9]{0,10}`).Draw(t, "plate")
		f, err := Encode64(plate)
		require.NoError(t, err)
		again, err := Parse(f.String())
		require.NoError(t, err)
		back, err := Decode64(again)
		require.NoError(t, err)
		require.Equal(t, plate, back)

		hash := rapid.Uint32Range(0, 1<<24-1).Draw(t, "hash")
		f, err = Encode26(hash)
		require.NoError(t, err)
		got, err := Decode26(f)
		require.NoError(t, err)
		require.Equal(t, hash, got)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(uint64(0x600002191555EBDB), 64)
	f.Add(uint64(0x6000000BEB516FED), 64)
	f.Add(uint64(0b1_100000001100_111100010101_0), 26)
	f.Fuzz(func(t *testing.T, bits uint64, length int) {
		frame := Frame{bits, length}
		if plate, err := Decode64(frame); err == nil {
			again, err := Encode64(plate)
			require.NoError(t, err)
			require.Equal(t, frame, again)
		}
		if hash, err := Decode26(frame); err == nil {
			again, err := Encode26(hash)
			require.NoError(t, err)
			require.Equal(t, frame, again)
		}
	})
}
