package nedap

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// kept is a piece that outlives the next Write.
type kept struct {
	bytes   string
	problem string
}

// cut feeds a stream in parts of the given sizes, the last one repeated, and
// says that it is idle at the end.
func cut(s *Splitter, stream []byte, sizes ...int) (pieces []kept) {
	next := func() {
		for {
			p, ok := s.Next()
			if !ok {
				return
			}
			pieces = append(pieces, kept{string(p.Bytes), p.Problem})
		}
	}
	for i := 0; len(stream) > 0; i++ {
		n := min(max(sizes[min(i, len(sizes)-1)], 1), len(stream))
		_, _ = s.Write(stream[:n])
		stream = stream[n:]
		next()
	}
	s.Idle()
	next()
	return pieces
}

func texts(end string) *Splitter {
	s, err := Texts(end)
	if err != nil {
		panic(err) // in a test
	}
	return s
}

func TestSplitter(t *testing.T) {
	message := string(unhex(t, messageLittle))
	packet := string(unhex(t, packetBig))
	badXOR := string(unhex(t, `89abcdef 00000001 00000009 41423132334344 0d0a 3c 12345678`))
	big := string(unhex(t, messageBig))
	for _, c := range []struct {
		name   string
		s      *Splitter
		stream string
		want   []kept
	}{
		{"messages", Messages(LittleEndian), message + message, []kept{{message, ""}, {message, ""}}},
		{"noise before, between and behind", Messages(LittleEndian), "\x18\x00x" + message + "\x18\x00\x00\x00" + message + "ab", []kept{
			{"\x18\x00x", "3 bytes that make no message"}, {message, ""}, {"\x18\x00\x00\x00", "4 bytes that make no message"}, {message, ""},
			{"ab", "2 bytes that make no message"},
		}},
		{"a message that lost bytes does not swallow the next", Messages(LittleEndian), message[:40] + message[60:] + message + message, []kept{
			{message[:40] + message[60:], "64 bytes that make no message"}, {message, ""}, {message, ""},
		}},
		{"a message that is cut off", Messages(LittleEndian), message + message[:50], []kept{
			{message, ""}, {message[:50], "50 bytes that make no message"},
		}},
		{"the wrong byte order", Messages(LittleEndian), big + big, []kept{
			{big + big, "168 bytes that make no message; one in the other byte order begins in them: check the setting"},
		}},
		{"an unknown command", Messages(LittleEndian), "\x18\x00\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 16), []kept{
			{"\x18\x00\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 16), ""},
		}},
		{"long noise", Messages(LittleEndian), strings.Repeat("x", 2*maxJunk+1) + message, []kept{
			{strings.Repeat("x", maxJunk), "4096 bytes that make no message"}, {strings.Repeat("x", maxJunk), "4096 bytes that make no message"},
			{"x", "1 bytes that make no message"}, {message, ""},
		}},

		{"packets", Packets(BigEndian), packet + packet, []kept{{packet, ""}, {packet, ""}}},
		{"a bad check byte", Packets(BigEndian), packet + badXOR + packet, []kept{
			{packet, ""}, {badXOR, "26 bytes that make no packet"}, {packet, ""},
		}},
		{"a length that was altered", Packets(BigEndian), packet[:10] + "\x01" + packet[11:] + packet, []kept{
			{packet[:10] + "\x01" + packet[11:], "26 bytes that make no packet"}, {packet, ""},
		}},
		{"packets in the other order", Packets(LittleEndian), packet, []kept{
			{packet, "26 bytes that make no packet; one in the other byte order begins in them: check the setting"},
		}},

		{"texts", texts("\r\n"), "AB123CD\r\n\r\nHK55EVB\r\nAB", []kept{
			{"AB123CD\r\n", ""}, {"\r\n", ""}, {"HK55EVB\r\n", ""}, {"AB", "2 bytes that make no text"},
		}},
		{"a text that is too long", texts("\r\n"), strings.Repeat("x", 5000) + "\r\nAB123CD\r\n", []kept{
			{strings.Repeat("x", 4096), "4096 bytes that make no text"}, {strings.Repeat("x", 904) + "\r\n", "906 bytes that make no text"}, {"AB123CD\r\n", ""},
		}},
		{"a text that is just not too long", texts("\r\n"), strings.Repeat("x", MaxText-2) + "\r\n", []kept{{strings.Repeat("x", MaxText-2) + "\r\n", ""}}},
		{"nothing", texts("\r\n"), "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
				c.s.Reset()
				require.Equal(t, c.want, cut(c.s, []byte(c.stream), size), "in parts of %d", size)
				require.Zero(t, c.s.Pending())
			}
		})
	}
	_, err := Texts("")
	require.EqualError(t, err, "texts: their end has 0 bytes: want 1 to 4095")
}

// A device that stops in the middle of a packet holds up the ones behind it only
// until the line was idle.
func TestIdle(t *testing.T) {
	packet := unhex(t, packetBig)
	s := Packets(BigEndian)
	_, _ = s.Write(append(unhex(t, `89abcdef 00000001 00000fff`), packet...))
	_, ok := s.Next()
	require.False(t, ok)
	require.Equal(t, 12+len(packet), s.Pending())
	s.Idle()
	p, ok := s.Next()
	require.True(t, ok)
	require.Equal(t, "12 bytes that make no packet", p.Problem)
	p, ok = s.Next()
	require.True(t, ok)
	require.Empty(t, p.Problem)
	require.Equal(t, packet, p.Bytes)
	_, ok = s.Next()
	require.False(t, ok)

	// Idle with nothing pending is no matter to what comes after.
	s.Idle()
	_, _ = s.Write(packet[:5])
	_, ok = s.Next()
	require.False(t, ok)
	_, _ = s.Write(packet[5:])
	p, ok = s.Next()
	require.True(t, ok)
	require.Equal(t, packet, p.Bytes)
}

// All frames come out of a stream with noise between them, nothing is lost, and
// it does not matter how the stream is cut.
func TestSplitterProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := orders.Draw(t, "order")
		packets := rapid.Bool().Draw(t, "packets")
		s := Messages(order)
		if packets {
			s = Packets(order)
		}
		var stream []byte
		var frames []string
		for range rapid.IntRange(0, 5).Draw(t, "frames") {
			// Noise that no frame can begin in.
			noise := rapid.SliceOfN(rapid.ByteRange('a', 'z'), 0, 30).Draw(t, "noise")
			var b []byte
			var err error
			if packets {
				b, err = Packet{rapid.Uint32().Draw(t, "id"), rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data")}.Encode(order)
			} else {
				b, err = drawMessage(t).Encode(order)
			}
			require.NoError(t, err)
			stream = slices.Concat(stream, noise, b)
			frames = append(frames, string(b))
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 60), 1, 20).Draw(t, "sizes")
		pieces := cut(s, stream, sizes...)
		var all []byte
		var got []string
		for _, p := range pieces {
			all = append(all, p.bytes...)
			if p.problem == "" {
				got = append(got, p.bytes)
			}
		}
		require.Equal(t, stream, all)
		require.Equal(t, frames, got)
		s.Reset()
		require.Equal(t, pieces, cut(s, stream, len(stream)))
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add(unhex(f, messageLittle+messageLittle), uint8(1))
	f.Add(unhex(f, messageBig), uint8(2))
	f.Add(unhex(f, packetLittle+packetBig), uint8(3))
	f.Add([]byte("AB123CD\r\nx\r\n"), uint8(0))
	f.Add(bytes.Repeat([]byte{0x18, 0, 0, 0}, 2000), uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		for _, order := range []ByteOrder{LittleEndian, BigEndian} {
			for _, s := range []*Splitter{Messages(order), Packets(order), texts("\r\n")} {
				pieces := cut(s, stream, int(size))
				var all strings.Builder
				for _, p := range pieces {
					require.NotEmpty(t, p.bytes)
					all.WriteString(p.bytes)
				}
				require.Equal(t, string(stream), all.String(), "no byte is lost, none comes twice")
				require.Zero(t, s.Pending())
				s.Reset()
				require.Equal(t, pieces, cut(s, stream, 1<<20))
			}
		}
	})
}

func BenchmarkMessages(b *testing.B) {
	m := Message{Command: CommandTransit, Fields: []Field{TextField(TagPlateString, "AB123CD"), {TagImageCol, make([]byte, 100<<10)}}}
	wire, err := m.Encode(LittleEndian)
	require.NoError(b, err)
	s := Messages(LittleEndian)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := wire; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
			_, _ = s.Write(rest[:min(len(rest), 16<<10)])
		}
		if _, ok := s.Next(); !ok {
			b.Fatal("no message")
		}
	}
}
