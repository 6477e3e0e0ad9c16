package tsa

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvironment(t *testing.T) {
	for text, want := range map[string]Environment{
		"!TPDT,294.7,295.1,293.0,000.0,0\r\n#": {TPDT, [4]float64{294.7, 295.1, 293, 0}, true},
		"!RHDT,038.2,040.0,100.0,000.0,0\r\n#": {RHDT, [4]float64{38.2, 40, 100, 0}, true},
		"!PRES,01012,01013,00998,00000,0\r\n#": {PRES, [4]float64{1012, 1013, 998, 0}, true},
		"!DEWP,279.9,280.4,281.0,273.2,0\r\n#": {DEWP, [4]float64{279.9, 280.4, 281, 273.2}, true},
		"!MTRH,297.8,031.0,291.5,055.5,0\r\n#": {MTRH, [4]float64{297.8, 31, 291.5, 55.5}, true},
		"!STRH,297.8,031.0,000.0,055.5,0\r\n#": {STRH, [4]float64{297.8, 31, 0, 55.5}, true},
		"!MBAT,013.4,-01.2,00000,000.6,0\r\n#": {MBAT, [4]float64{13.4, -1.2, 0, 0.6}, true},
		"!SBAT,012.9,001.2,00000,000.0,0\r\n#": {SBAT, [4]float64{12.9, 1.2, 0, 0}, true},
		"SBAT,012.9,001.2,00000,000.0,0\r\n":   {SBAT, [4]float64{12.9, 1.2, 0, 0}, false},
	} {
		var s Splitter
		_, err := s.Write([]byte(text))
		require.NoError(t, err)
		line, ok := s.Next()
		require.True(t, ok)
		require.Empty(t, line.Problem)
		got, err := ParseEnvironment(line.Bytes)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		if want.Guarded {
			require.Equal(t, text, string(want.Append(nil)))
			require.Len(t, text, 34)
		}
	}
	for _, text := range []string{
		"", "!", "!TPDT,294.7,295.1,293.0,000.0,1", "!TPDT,294.7,295.1,293.0,000.0", "!TPDT,294.7,295.1,293.0,0000.0,", "!TPXX,294.7,295.1,293.0,000.0,0",
		"!TPDT,294.7,295.1,293.0,00e.0,0", "!TPDT,294.7,295.1,293.0,0-0.0,0", "!GB,000401,000406,000436,000436", "!TPDT,294.7,295.1,2930,0000.0,0",
	} {
		_, err := ParseEnvironment([]byte(text))
		require.Error(t, err, text)
	}
	c, ok := Celsius(294.7)
	require.True(t, ok)
	require.Equal(t, 21.55, c)
	c, ok = Celsius(253.1)
	require.True(t, ok)
	require.Equal(t, -20.05, c)
	_, ok = Celsius(0)
	require.False(t, ok)
}

func TestSpeedMessages(t *testing.T) {
	var s SpeedSplitter
	var messages, junk []string
	stream := []byte("3\r\n" + "0123\r\n" + "4567\n\n" + "x" + "89ab\r\n" + "cd\r\n" + "\n\n\n\n\r\n")
	for _, c := range stream {
		s.Write([]byte{c})
		for b, message, first, ok := s.Next(); ok; b, message, first, ok = s.Next() {
			switch {
			case message:
				messages = append(messages, string(b))
			case !first:
				junk = append(junk, string(b))
			}
		}
	}
	require.Equal(t, []string{"0123\r\n", "4567\n\n", "89ab\r\n"}, messages[:3])
	require.Equal(t, "x", junk[0])
}

func FuzzEnvironment(f *testing.F) {
	f.Add([]byte("!TPDT,294.7,295.1,293.0,000.0,0\r\n#!MBAT,013.4,-01.2,00000,000.6,0\r\n#"))
	f.Add([]byte("PRES,01012,01013,00998,00000,0\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Splitter
		_, _ = s.Write(b)
		for line, ok := s.Next(); ok; line, ok = s.Next() {
			e, err := ParseEnvironment(line.Bytes)
			if err != nil {
				continue
			}
			for _, v := range e.Values {
				if math.IsNaN(v) || math.Abs(v) > 99999 {
					t.Fatalf("%q gives %v", line.Bytes, v)
				}
			}
			if n := len(e.Append(nil)); n != 34 {
				t.Fatalf("%q is written with %d bytes", line.Bytes, n)
			}
		}
	})
}

func FuzzSpeed(f *testing.F) {
	f.Add([]byte("0123\r\n4567\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		var s SpeedSplitter
		var out []byte
		for rest := b; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			s.Write(rest[:n])
			rest = rest[n:]
			for x, message, _, ok := s.Next(); ok; x, message, _, ok = s.Next() {
				out = append(out, x...)
				if message && len(x) != SpeedMessage {
					t.Fatalf("a message of %d bytes", len(x))
				}
			}
			if len(s.buf) >= SpeedMessage {
				t.Fatalf("%d bytes wait", len(s.buf))
			}
		}
		if !bytes.HasPrefix(b, out) {
			t.Fatal("bytes were changed")
		}
	})
}

func BenchmarkParseEnvironment(b *testing.B) {
	line := []byte("!TPDT,294.7,295.1,293.0,000.0,0")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEnvironment(line); err != nil {
			b.Fatal(err)
		}
	}
}
