package n42

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func framed(b []byte) []byte { return append(append([]byte{STX}, b...), ETX) }

func TestSplitter(t *testing.T) {
	a, b := string(small("PT1S", "<ChannelData>1</ChannelData>", "")), string(fixture(t, "portal-2012.n42"))
	wide, big := string(utf16Of([]byte(b), binary.LittleEndian, true)), string(utf16Of([]byte(strings.Replace(b, "shift B", "ă Ȃ", 1)), binary.BigEndian, true))
	little := string(utf16Of([]byte(strings.Replace(b, "shift B", "ă Ȃ", 1)), binary.LittleEndian, false))
	frame := func(s ...string) (out string) {
		for _, x := range s {
			out += string(framed([]byte(x)))
		}
		return out
	}
	for name, c := range map[string]struct {
		in   string
		max  int
		want []string // "ok" with the document, or why it is none
		docs []string
	}{
		"two documents":                        {in: frame(a, b), want: []string{"", ""}, docs: []string{a, b}},
		"line ends between":                    {in: frame(a) + "\r\n" + frame(b), want: []string{"", ""}, docs: []string{a, b}},
		"joined inside":                        {in: a[20:] + "\x03" + frame(b), want: []string{ErrOutside.Error(), ""}, docs: []string{b}},
		"noise between":                        {in: frame(a) + "noise" + frame(b), want: []string{"", ErrOutside.Error(), ""}, docs: []string{a, b}},
		"cut, and the next":                    {in: "\x02" + b[:700] + frame(a), want: []string{ErrUnended.Error(), ""}, docs: []string{a}},
		"too long, and the next":               {in: frame(b, a), max: 1000, want: []string{errTooLong.Error(), ""}, docs: []string{a}},
		"too long and cut, and the next":       {in: "\x02" + b[:2000] + frame(a), max: 1000, want: []string{errTooLong.Error(), ""}, docs: []string{a}},
		"UTF-16":                               {in: frame(wide, wide), want: []string{"", ""}, docs: []string{wide, wide}},
		"UTF-16, big end first":                {in: frame(big, a), want: []string{"", ""}, docs: []string{big, a}},
		"UTF-16 with characters that have STX": {in: frame(little, little), want: []string{"", ""}, docs: []string{little, little}},
		"UTF-16 that is cut, and the next":     {in: "\x02" + wide[:777] + frame(wide), want: []string{ErrUnended.Error(), ""}, docs: []string{wide}},
		"an empty document":                    {in: frame("", a), want: []string{"", ""}, docs: []string{"", a}},
	} {
		for _, step := range []int{1, 7, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				s := Splitter{Max: c.max}
				var got, docs []string
				for in := []byte(c.in); len(in) > 0; {
					n := min(step, len(in))
					s.Write(in[:n])
					in = in[n:]
					for {
						f, ok := s.Next()
						if !ok {
							break
						}
						why := ""
						if f.Err != nil {
							why = f.Err.Error()
						} else {
							docs = append(docs, string(f.Bytes))
						}
						got = append(got, why)
					}
				}
				if c.max > 0 && step > c.max { // it is known to be too long as a whole
					require.Equal(t, c.docs, docs)
					return
				}
				require.Len(t, got, len(c.want))
				for i := range c.want {
					if c.want[i] == "" {
						require.Empty(t, got[i])
					} else {
						require.Contains(t, got[i], c.want[i])
					}
				}
				require.Equal(t, c.docs, docs)
				require.False(t, s.Begun())
				require.Empty(t, s.Rest().Bytes)
			})
		}
	}
}
