package nedap

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func unhex(t require.TestingT, s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// The message of the protocol page: PLATE AB123CD-ROU, PLATE_STRING AB123CD,
// PLATE_COUNTRY ROU, OCRSCORE 92. The second is the first with every number
// turned round by hand.
const (
	messageLittle = `18000000 409c0000 00000000 00000000 00000000 3c000000
		b3360000 0c000000 41423132 3343442d 524f5500
		b4360000 08000000 41423132 33434400
		b5360000 04000000 524f5500
		c6360000 04000000 5c000000`
	messageBig = `00000018 00009c40 00000000 00000000 00000000 0000003c
		000036b3 0000000c 41423132 3343442d 524f5500
		000036b4 00000008 41423132 33434400
		000036b5 00000004 524f5500
		000036c6 00000004 0000005c`
)

// The packets of the protocol page: id 1, data "AB123CD\r\n".
const (
	packetBig    = `89abcdef 00000001 00000009 41423132334344 0d0a 3b 12345678`
	packetLittle = `efcdab89 01000000 09000000 41423132334344 0d0a 3b 78563412`
)

func TestMessage(t *testing.T) {
	for _, c := range []struct {
		order ByteOrder
		text  string
	}{{LittleEndian, messageLittle}, {BigEndian, messageBig}} {
		wire := unhex(t, c.text)
		m, err := DecodeMessage(wire, c.order)
		require.NoError(t, err)
		require.Equal(t, uint32(40000), m.Command)
		require.Zero(t, m.Error)
		require.Len(t, m.Fields, 4)
		require.Equal(t, Field{14003, []byte("AB123CD-ROU\x00")}, m.Fields[0])

		transit, err := m.Transit(Reading{Order: c.order})
		require.NoError(t, err)
		require.Equal(t, Transit{Plate: "AB123CD", Country: "ROU", Score: "92"}, transit)

		built := Message{Command: CommandTransit, Fields: []Field{
			TextField(TagPlate, "AB123CD-ROU"), TextField(TagPlateString, "AB123CD"), TextField(TagPlateCountry, "ROU"),
			NumberField(TagOCRScore, 92, c.order),
		}}
		got, err := built.Encode(c.order)
		require.NoError(t, err)
		require.Equal(t, wire, got)
	}
	_, err := DecodeMessage(unhex(t, messageBig), LittleEndian)
	require.EqualError(t, err, "message: its header has 402653184 bytes: want 24 (is the byte order right?)")
}

// A picture of 34231 bytes takes 34232 on the wire.
func TestPadding(t *testing.T) {
	m := Message{Command: CommandTransit, Fields: []Field{{TagImageBW, make([]byte, 34231)}, TextField(TagDirection, "GO")}}
	b, err := m.Encode(LittleEndian)
	require.NoError(t, err)
	require.Len(t, b, 24+8+34232+8+4)
	require.Equal(t, unhex(t, "b7850000"), b[24+4:24+8])
	again, err := DecodeMessage(b, LittleEndian)
	require.NoError(t, err)
	require.Equal(t, m, again)
}

func TestMessageErrors(t *testing.T) {
	head := `18000000 409c0000 00000000 00000000 00000000 `
	for text, want := range map[string]string{
		``:                         "message of 0 bytes: the header alone has 24",
		`18000000`:                 "message of 4 bytes: the header alone has 24",
		head + `00000000 00`:       "message: 1 bytes of fields, and 0 are announced",
		head + `08000000 b3360000`: "message: 4 bytes of fields, and 8 are announced",
		head + `02000000 0000`:     "message: 2 bytes of fields: want a multiple of 4",
		head + `04000001`:          "message: 16777220 bytes of fields: want 16777216 at most",
		head + `04000000 b3360000`: "message: 4 bytes behind the last field",
		head + `0c000000 b3360000 05000000 41424344`: "message: field PLATE has 5 bytes, and 4 are left",
		head + `08000000 01000000 ffffffff`:          "message: field 1 has 4294967295 bytes, and 0 are left",
	} {
		_, err := DecodeMessage(unhex(t, text), LittleEndian)
		require.EqualError(t, err, want)
	}

	many := Message{Fields: make([]Field, MaxFields+1)}
	_, err := many.Encode(BigEndian)
	require.EqualError(t, err, "message: 257 fields: want 256 at most")
	text := head + `08080000` + strings.Repeat(`b3360000 00000000`, MaxFields+1)
	_, err = DecodeMessage(unhex(t, text), LittleEndian)
	require.EqualError(t, err, "message: more than 256 fields")
	_, err = Message{Fields: []Field{{TagPlateCountry, []byte("ROUM\x00")}}}.Encode(BigEndian)
	require.EqualError(t, err, "message: field PLATE_COUNTRY has 5 bytes: want 4 at most")
	_, err = Message{Fields: []Field{{TagImageCol, make([]byte, MaxPayload)}}}.Encode(BigEndian)
	require.ErrorContains(t, err, "want 16777216 at most")
	_, err = Message{}.Encode("middle")
	require.EqualError(t, err, `byte order "middle": want "little" or "big"`)
}

func TestTransit(t *testing.T) {
	reads := int32(3)
	fields := []Field{
		{TagOCRScore, []byte{87, 0, 0, 0}},
		TextField(TagPlate, "46HVR9-NLD"),
		TextField(TagDate, "2025-03-01"),
		TextField(TagTime, "10-15-12"),
		TextField(TagNetBIOSName, "LANE2"),
		{TagNRead, []byte{3, 0, 0, 0}},
		TextField(TagImageName, "a.jpg"),
		TextField(TagImagePath, "/img"),
		{TagTransitID, []byte{0x39, 0x30, 0, 0}}, // 12345, or the text "90"
		{TagPlateMinX, []byte{1, 0, 0, 0}},
		{TagPlateMinY, []byte{2, 0, 0, 0}},
		{TagPlateMaxX, []byte{0xff, 0xff, 0xff, 0xff}},
		{TagPlateMaxY, []byte("410\x00\x00")}, // of five bytes, so a text
		TextField(TagClassString, "TRUCK"),
		TextField(TagDirection, "GO AWAY"),
		TextField(TagNetTrigID, "t-7"),
		{TagImageBW, []byte("\xff\xd8bw")},
		{TagImageCol, []byte("\xff\xd8col")},
		TextField(TagSN, "1234567"),
		TextField(TagSN, "second"),
		{15000, []byte("new")},
		{TagNRead, []byte{1}},
	}
	want := Transit{
		Error: 7, Date: "2025-03-01", Time: "10-15-12", Name: "LANE2", Plate: "46HVR9", Country: "NLD", Reads: &reads,
		ImageName: "a.jpg", ImagePath: "/img", ID: "12345", MinX: "1", MinY: "2", MaxX: "-1", MaxY: "410",
		ClassName: "TRUCK", Serial: "1234567", Direction: "GO AWAY", TriggerID: "t-7", Score: "87",
		ImageBW: []byte("\xff\xd8bw"), ImageColor: []byte("\xff\xd8col"),
		Others: []Field{TextField(TagSN, "second"), {15000, []byte("new")}, {TagNRead, []byte{1}}},
	}
	m := Message{Command: CommandTransit, Error: 7, Fields: fields}
	got, err := m.Transit(Reading{Order: LittleEndian})
	require.NoError(t, err)
	require.Equal(t, want, got)

	// The order of the fields says nothing, but for which of two is the second.
	rapid.Check(t, func(t *rapid.T) {
		mixed := rapid.Permutation(fields[:18]).Draw(t, "fields")
		got, err := Message{Command: CommandTransit, Error: 7, Fields: append(mixed, fields[18:]...)}.Transit(Reading{Order: LittleEndian})
		require.NoError(t, err)
		require.Equal(t, want, got)
	})

	got, err = m.Transit(Reading{Order: LittleEndian, TextNumbers: true})
	require.NoError(t, err)
	require.Equal(t, "90", got.ID)
	require.Equal(t, "W", got.Score)
	require.Equal(t, &reads, got.Reads, "its form is documented")

	// A wrong NREAD does not hide the right one behind it.
	got, err = Message{Command: CommandTransit, Fields: []Field{{TagNRead, nil}, {TagNRead, []byte{0, 0, 0, 3}}}}.Transit(Reading{Order: BigEndian})
	require.NoError(t, err)
	require.Equal(t, &reads, got.Reads)

	_, err = Message{Command: 40001}.Transit(Reading{})
	require.ErrorIs(t, err, ErrNotTransit)
	require.EqualError(t, err, "the message is about no transit: its command is 40001 and not 40000")
}

func TestSplitPlate(t *testing.T) {
	for s, want := range map[string][2]string{
		"46HVR9-NLD": {"46HVR9", "NLD"}, "46-HVR-9-NLD": {"46-HVR-9", "NLD"}, "46HVR9": {"46HVR9", ""}, "": {"", ""},
		"-NLD": {"", "NLD"}, "AB-12": {"AB-12", ""}, "AB-123": {"AB-123", ""}, "AB-nld": {"AB-nld", ""}, "NLD": {"NLD", ""},
	} {
		plate, country := SplitPlate(s)
		require.Equal(t, want, [2]string{plate, country}, s)
	}
}

func TestTags(t *testing.T) {
	require.Len(t, Tags(), 23)
	require.Equal(t, Tag(14000), Tags()[0])
	require.Equal(t, Tag(14022), Tags()[22])
	require.Equal(t, "PLATE_MAX_Y", Tag(14013).String())
	require.Equal(t, "15000", Tag(15000).String())
}

func TestPacket(t *testing.T) {
	for _, c := range []struct {
		order ByteOrder
		text  string
	}{{LittleEndian, packetLittle}, {BigEndian, packetBig}} {
		wire := unhex(t, c.text)
		p, err := DecodePacket(wire, c.order)
		require.NoError(t, err)
		require.Equal(t, Packet{1, []byte("AB123CD\r\n")}, p)
		got, err := p.Encode(c.order)
		require.NoError(t, err)
		require.Equal(t, wire, got)

		// One bit anywhere is noticed.
		for i := range wire {
			for bit := range 8 {
				wire[i] ^= 1 << bit
				_, err := DecodePacket(wire, c.order)
				require.Error(t, err, "byte %d", i)
				wire[i] ^= 1 << bit
			}
		}
	}
	for text, want := range map[string]string{
		`89abcdef`:   "packet of 4 bytes: the shortest has 17",
		packetLittle: "packet: it begins with efcdab89: want 89abcdef",
		`89abcdef 00000001 00000009 41423132334344 0d0a 3a 12345678`: "packet: its check byte is 3a: want 3b",
		`89abcdef 00000001 00000009 41423132334344 0d0a 3b 12345679`: "packet: it ends with 12345679: want 12345678",
		`89abcdef 00000001 00000008 41423132334344 0d0a 3b 12345678`: "packet: 9 bytes of data, and 8 are announced",
		`89abcdef 00000001 00001001 41423132334344 0d0a 3b 12345678`: "packet: 4097 bytes of data: want 4096 at most",
	} {
		_, err := DecodePacket(unhex(t, text), BigEndian)
		require.EqualError(t, err, want)
	}
	_, err := Packet{Data: make([]byte, MaxPacketData+1)}.Encode(BigEndian)
	require.EqualError(t, err, "packet: 4097 bytes of data: want 4096 at most")
	_, err = Packet{}.Encode("")
	require.ErrorContains(t, err, "byte order")
}

var orders = rapid.SampledFrom([]ByteOrder{LittleEndian, BigEndian})

func drawMessage(t *rapid.T) Message {
	n := rapid.Uint32()
	m := Message{Command: CommandTransit, Reserved: [2]uint32{n.Draw(t, "reserved"), n.Draw(t, "reserved")}, Error: n.Draw(t, "error")}
	for range rapid.IntRange(0, 8).Draw(t, "fields") {
		tag := rapid.OneOf(rapid.SampledFrom(Tags()), rapid.Map(n, func(n uint32) Tag { return Tag(n) })).Draw(t, "tag")
		most := 40
		if k := tags[tag].most; k > 0 {
			most = k
		}
		m.Fields = append(m.Fields, Field{tag, rapid.SliceOfN(rapid.Byte(), 0, most).Draw(t, "data")})
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := orders.Draw(t, "order")
		m := drawMessage(t)
		b, err := m.Encode(order)
		require.NoError(t, err)
		again, err := DecodeMessage(b, order)
		require.NoError(t, err)
		require.Equal(t, m, again)

		p := Packet{rapid.Uint32().Draw(t, "id"), rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data")}
		b, err = p.Encode(order)
		require.NoError(t, err)
		p2, err := DecodePacket(b, order)
		require.NoError(t, err)
		require.Equal(t, p, p2)
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{messageLittle, messageBig, packetLittle, packetBig} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, order := range []ByteOrder{LittleEndian, BigEndian} {
			if m, err := DecodeMessage(b, order); err == nil {
				_, err := m.Transit(Reading{Order: order})
				if err != nil {
					require.ErrorIs(t, err, ErrNotTransit)
				}
				// Texts that are too long are read, and not written.
				if again, err := m.Encode(order); err == nil {
					require.Len(t, again, len(b))
					m2, err := DecodeMessage(again, order)
					require.NoError(t, err)
					require.Equal(t, m, m2)
				}
			}
			if p, err := DecodePacket(b, order); err == nil {
				again, err := p.Encode(order)
				require.NoError(t, err)
				require.Equal(t, b, again)
			}
		}
	})
}
