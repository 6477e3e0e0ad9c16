package n42

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"portal-2012.n42", "portal-2006.n42", "envelope.n42", "refused-character.n42"} {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Decode(b, Options{MaxBytes: 1 << 20})
		if err != nil {
			require.Nil(t, d)
			return
		}
		require.LessOrEqual(t, len(d.Flags), maxFlags+1)
		d.Outcome()
		out, err := Append(nil, d)
		if err != nil {
			return
		}
		back, err := Decode(out, Options{})
		require.NoError(t, err)
		require.Equal(t, d.Outcome(), back.Outcome())
		require.Equal(t, d.Alarmed(), back.Alarmed())
	})
}

func FuzzCountedZeroes(f *testing.F) {
	f.Add([]byte("0 5 2 3"), true)
	f.Add([]byte("0 0 1\t2.0\n0"), true)
	f.Add([]byte("1 2 3"), false)
	f.Fuzz(func(t *testing.T, b []byte, counted bool) {
		list, _, err := ParseCounts(b, counted, 1024)
		require.LessOrEqual(t, len(list), 1024)
		if err != nil || len(list) == 0 {
			return
		}
		back, odd, err := ParseCounts(AppendCountedZeroes(nil, list), true, 1024)
		require.NoError(t, err)
		require.Equal(t, Zeroes{}, odd)
		require.Equal(t, list, back)
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x02<a/>\x03x\x02\xff\xfe<\x00"), 3)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(1, step%64)
		s := Splitter{Max: 100}
		for len(b) > 0 {
			n := min(step, len(b))
			s.Write(b[:n])
			b = b[n:]
			for {
				fr, ok := s.Next()
				if !ok {
					break
				}
				if fr.Err == nil {
					require.LessOrEqual(t, len(fr.Bytes), 100)
				}
			}
			require.LessOrEqual(t, len(s.buf), maxOutside+64)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"portal-2012.n42", "portal-2006.n42"} {
		doc := fixture(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(doc)))
			for range b.N {
				if _, err := Decode(doc, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseCounts(b *testing.B) {
	text := []byte(strings.Repeat("0 3 12 7 1 ", 200))
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for range b.N {
		if _, _, err := ParseCounts(text, true, MaxChannels); err != nil {
			b.Fatal(err)
		}
	}
}
