package scale

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// The frames are those of manuals and of a capture, and were computed by hand from the
// rules.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		format string
		o      Options
		frame  []byte
		want   Reading
	}{
		"Toledo, stable, with a check":         {"toledo", Options{Checksum: true}, raw(t, "02 2A 30 20 30 34 30 32 36 30 30 30 30 30 30 30 0D 2B"), Reading{Value: 40260, Unit: "kg", Motion: Stable, HasTare: true}},
		"Toledo, in motion":                    {"toledo", Options{Checksum: true}, raw(t, "02 2A 38 20 30 34 30 32 34 30 30 30 30 30 30 30 0D 25"), Reading{Value: 40240, Unit: "kg", Motion: Moving, HasTare: true}},
		"Toledo, with a zero that is not sent": {"toledo", Options{Checksum: true}, raw(t, "02 31 30 20 30 30 34 30 32 36 30 30 30 30 30 30 0D 24"), Reading{Value: 40260, Unit: "kg", Motion: Stable, HasTare: true}},
		"Toledo, over":                         {"toledo", Options{}, raw(t, "02 2A 34 20 30 34 30 32 36 30 30 30 30 30 30 30 0D"), Reading{Unit: "kg", Motion: Stable, HasTare: true, Over: true}},
		"Toledo, negative, in pounds":          {"toledo", Options{}, raw(t, "02 2A 22 20 30 30 30 32 36 30 30 30 30 30 30 30 0D"), Reading{Value: -260, Unit: "lb", Motion: Stable, HasTare: true}},
		"Yaohua, as captured":                  {"yaohua", Options{}, raw(t, "02 2B 30 30 33 32 39 30 30 31 33 03"), Reading{Value: 3290}},
		"Yaohua":                               {"yaohua", Options{}, raw(t, "02 2B 30 34 30 32 36 30 30 31 42 03"), Reading{Value: 40260}},
		"Yaohua, with decimals":                {"yaohua", Options{}, raw(t, "02 2D 30 30 30 31 30 30 32 31 45 03"), Reading{Value: -1}},
		"Yaohua A12":                           {"yaohua-a12", Options{}, raw(t, "57 47 30 30 34 2E 31 33 39 6B 67 33 44 0D 0A"), Reading{Value: 4.139, Unit: "kg"}},
		"Yaohua A12, over":                     {"yaohua-a12", Options{}, []byte("OL23\r\n"), Reading{Over: true}},
		"Yaohua, backwards":                    {"yaohua-back", Options{}, []byte("=00.1000-"), Reading{Value: -1}},
		"Yaohua, forwards":                     {"yaohua-back", Options{}, []byte("=-0001.00"), Reading{Value: -1}},
		"Rinstrum A":                           {"rinstrum", Options{}, raw(t, "02 20 20 30 34 30 32 36 30 47 03"), Reading{Value: 40260, Motion: Stable}},
		"Rinstrum, in motion":                  {"rinstrum", Options{}, []byte("\x02 0040260GM  kg \x03"), Reading{Value: 40260, Motion: Moving, Unit: "kg"}},
		"SysTec IT6000":                        {"systec", Options{}, []byte("<00000    1100       0    1100kg122.12.0812:59   0>"), Reading{Value: 1100, HasTare: true, Unit: "kg", Motion: Stable}},
		"CSV":                                  {"csv", Options{}, []byte("ST,GS,+0040260 kg\r\n"), Reading{Value: 40260, Unit: "kg", Motion: Stable}},
		"CSV, in motion":                       {"csv", Options{}, []byte("US,NT,-0000260 kg\r\n"), Reading{Value: -260, Unit: "kg", Motion: Moving, Net: true}},
		"CSV, over":                            {"csv", Options{}, []byte("OL,GS,+9999999 kg\r\n"), Reading{Over: true}},
		"MT-SICS, stable":                      {"mt-sics", Options{}, []byte("S S      40260 kg\r\n"), Reading{Value: 40260, Unit: "kg", Motion: Stable}},
		"MT-SICS, in motion":                   {"mt-sics", Options{}, []byte("S D     -12.50 kg\r\n"), Reading{Value: -12.5, Unit: "kg", Motion: Moving}},
		"MT-SICS, over":                        {"mt-sics", Options{}, []byte("S +\r\n"), Reading{Over: true}},
		"MT-SICS, can't now":                   {"mt-sics", Options{}, []byte("S I\r\n"), Reading{NoValue: true}},
		"SCP-01":                               {"scp-01", Options{}, []byte("\n  40260KG\r\n00\r\x03"), Reading{Value: 40260, Unit: "kg", Motion: Stable}},
		"SCP-01, the bit the other way":        {"scp-01", Options{StableBit: true}, []byte("\n  40260KG\r\n10\r\x03"), Reading{Value: 40260, Unit: "kg", Motion: Stable}},
		"SCP-01, over":                         {"scp-01", Options{}, []byte("\n02\r\x03"), Reading{Over: true, Motion: Stable}},
	} {
		t.Run(name, func(t *testing.T) {
			f, ok := Lookup(c.format, c.o)
			require.True(t, ok)
			s := NewSplitter(f)
			for _, b := range c.frame { // one byte at a time, with a parity bit on some
				if b%3 == 0 && b > 0x20 {
					b |= 0x80
				}
				s.Write([]byte{b})
			}
			frame, ok := s.Next()
			require.True(t, ok)
			got, err := f.Parse(frame)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestRefused(t *testing.T) {
	for format, frames := range map[string][]string{
		"toledo":     {"\x02*0 0 0260000000\r", "\x02*0 0x0260000000\r"},
		"yaohua":     {"\x02+003290014\x03", "\x02*003290013\x03"},
		"yaohua-a12": {"WG004.139kg3E\r\n", "XX\r\n"},
		"mt-sics":    {"ES\r\n", "S S x kg\r\n", "I0\r\n"},
		"rinstrum":   {"\x02 040260G\x03", "\x02  040260X\x03"},
		"systec":     {"<13>", "<00>", "<01000    1100       0    1100kg122.12.0812:59   0>"},
		"scp-01":     {"\n?\r\x03", "\x03", "\n1\r\x03"},
		"csv":        {"ST,GS\r\n", "XX,GS,1\r\n", "ST,XX,1\r\n", "ST,GS,1e9 kg\r\n"},
	} {
		f, ok := Lookup(format, Options{})
		require.True(t, ok)
		for _, text := range frames {
			s := NewSplitter(f)
			s.Write([]byte(text))
			frame, ok := s.Next()
			if !ok {
				continue // no frame at all
			}
			_, err := f.Parse(frame)
			require.Error(t, err, "%s %q", format, text)
		}
	}
	_, ok := Lookup("avery", Options{})
	require.False(t, ok)
	require.Equal(t, 1000.0, KG(1, "t", "kg"))
	require.InDelta(t, 453.59237, KG(1000, "lb", ""), 1e-9)
	require.Equal(t, 2.0, KG(2000, "", "g"))
}

// TestStream: frames run together, are cut, and have noise between them.
func TestStream(t *testing.T) {
	for _, name := range Names() {
		o := Options{Checksum: true}
		f, _ := Lookup(name, o)
		var stream []byte
		for _, kg := range []float64{1200, 40260, 0, 18000} {
			stream = f.Append(stream, o, Reading{Value: kg, Motion: Stable})
		}
		s := NewSplitter(f)
		half := f.Append(nil, o, Reading{Value: 5000, Motion: Stable})
		s.Write(half[len(half)/2:]) // joined in the middle
		s.Write(stream)
		var got []float64
		for frame, ok := s.Next(); ok; frame, ok = s.Next() {
			if r, err := f.Parse(frame); err == nil {
				got = append(got, r.Value)
			}
		}
		require.Subset(t, []float64{1200, 40260, 0, 18000}, got, name)
		require.GreaterOrEqual(t, len(got), 3, name)
		require.Equal(t, 18000.0, got[len(got)-1], name)
	}
}

func FuzzStream(f *testing.F) {
	for _, name := range Names() {
		format, _ := Lookup(name, Options{})
		f.Add(name, format.Append(nil, Options{}, Reading{Value: 40260, Motion: Stable}))
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		format, ok := Lookup(name, Options{})
		if !ok {
			return
		}
		s := NewSplitter(format)
		for len(b) > 0 {
			n := min(len(b), 7)
			s.Write(b[:n])
			b = b[n:]
			for frame, ok := s.Next(); ok; frame, ok = s.Next() {
				if len(frame) > MaxFrame {
					t.Fatalf("a frame of %d bytes", len(frame))
				}
				r, err := format.Parse(frame)
				if err == nil && r.Value != r.Value {
					t.Fatal("no number")
				}
			}
			if len(s.buf) > MaxPending+16 {
				t.Fatalf("%d bytes wait", len(s.buf))
			}
		}
	})
}
