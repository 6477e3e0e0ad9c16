package nedap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// headerSize is the size of a message's header, and the first number in it.
const headerSize = 24

// CommandTransit is the command of a message about a vehicle.
const CommandTransit = 40000

// Message is one message over TCP.
type Message struct {
	// Command is CommandTransit at every message that is documented.
	Command uint32
	// Reserved are the third and fourth number of the header, zero by the manual.
	Reserved [2]uint32
	// Error is the device's error code; the codes are not documented, zero is none.
	Error uint32
	// Fields are in the order in which they came, which varies.
	Fields []Field
}

// Field is one field of a message.
type Field struct {
	Tag  Tag
	Data []byte // without padding
}

// DecodeMessage reads a whole message, as a Splitter gives it. The fields' data
// are parts of b.
func DecodeMessage(b []byte, order ByteOrder) (Message, error) {
	if len(b) < headerSize {
		return Message{}, fmt.Errorf("message of %d bytes: the header alone has %d", len(b), headerSize)
	}
	var h [6]uint32
	for i := range h {
		h[i] = order.bytes().Uint32(b[4*i:])
	}
	m := Message{Command: h[1], Reserved: [2]uint32{h[2], h[3]}, Error: h[4]}
	switch length := h[5]; {
	case h[0] != headerSize:
		return Message{}, fmt.Errorf("message: its header has %d bytes: want %d (is the byte order right?)", h[0], headerSize)
	case length > MaxPayload:
		return Message{}, fmt.Errorf("message: %d bytes of fields: want %d at most", length, MaxPayload)
	case length%4 != 0:
		return Message{}, fmt.Errorf("message: %d bytes of fields: want a multiple of 4", length)
	case int(length) != len(b)-headerSize:
		return Message{}, fmt.Errorf("message: %d bytes of fields, and %d are announced", len(b)-headerSize, length)
	}
	for rest := b[headerSize:]; len(rest) > 0; {
		if len(m.Fields) == MaxFields {
			return Message{}, fmt.Errorf("message: more than %d fields", MaxFields)
		}
		if len(rest) < 8 {
			return Message{}, fmt.Errorf("message: %d bytes behind the last field", len(rest))
		}
		tag, size := Tag(order.bytes().Uint32(rest)), order.bytes().Uint32(rest[4:])
		rest = rest[8:]
		if uint64(size) > uint64(len(rest)) {
			return Message{}, fmt.Errorf("message: field %s has %d bytes, and %d are left", tag, size, len(rest))
		}
		m.Fields = append(m.Fields, Field{tag, rest[:size:size]})
		rest = rest[padded(int(size)):] // what is left is a multiple of 4, as all was
	}
	return m, nil
}

// padded is a size rounded up to a multiple of 4.
func padded(size int) int { return (size + 3) &^ 3 }

// Encode writes a message. It fails for one that could not be read again, or with
// a field longer than the manual allows.
func (m Message) Encode(order ByteOrder) ([]byte, error) {
	if err := order.Check(); err != nil {
		return nil, err
	}
	if len(m.Fields) > MaxFields {
		return nil, fmt.Errorf("message: %d fields: want %d at most", len(m.Fields), MaxFields)
	}
	length := 0
	for _, f := range m.Fields {
		if most := tags[f.Tag].most; most > 0 && len(f.Data) > most {
			return nil, fmt.Errorf("message: field %s has %d bytes: want %d at most", f.Tag, len(f.Data), most)
		}
		length += 8 + padded(len(f.Data))
	}
	if length > MaxPayload {
		return nil, fmt.Errorf("message: %d bytes of fields: want %d at most", length, MaxPayload)
	}
	b := make([]byte, 0, headerSize+length)
	b = order.append(b, headerSize, m.Command, m.Reserved[0], m.Reserved[1], m.Error, uint32(length))
	for _, f := range m.Fields {
		b = order.append(b, uint32(f.Tag), uint32(len(f.Data)))
		b = append(b, f.Data...)
		b = append(b, make([]byte, padded(len(f.Data))-len(f.Data))...)
	}
	return b, nil
}

// Tag says what a field is.
type Tag uint32

// The tags.
const (
	TagDate         Tag = 14000
	TagTime         Tag = 14001 // HH-MM-SS
	TagNetBIOSName  Tag = 14002
	TagPlate        Tag = 14003 // with the country behind: 46HVR9-NLD
	TagPlateString  Tag = 14004
	TagPlateCountry Tag = 14005 // ISO 3166-1 alpha-3
	TagNRead        Tag = 14006
	TagImageName    Tag = 14007
	TagImagePath    Tag = 14008
	TagTransitID    Tag = 14009
	TagPlateMinX    Tag = 14010
	TagPlateMinY    Tag = 14011
	TagPlateMaxX    Tag = 14012
	TagPlateMaxY    Tag = 14013
	TagSpeed        Tag = 14014
	TagClass        Tag = 14015
	TagClassString  Tag = 14016
	TagSN           Tag = 14017
	TagDirection    Tag = 14018
	TagNetTrigID    Tag = 14019
	TagImageBW      Tag = 14020 // JPEG
	TagImageCol     Tag = 14021 // JPEG
	TagOCRScore     Tag = 14022
)

// form is how a field is written.
type form int

const (
	text     form = iota // ends with a zero byte
	number               // int32
	picture              // JPEG
	unstated             // a number or a text; the manual does not say
)

// tags is the manual's table of fields.
var tags = map[Tag]struct {
	name string
	form form
	most int // bytes, as far as the manual says
}{
	TagDate:         {"DATE", text, 12},
	TagTime:         {"TIME", text, 16},
	TagNetBIOSName:  {"NETBIOSNAME", text, 32},
	TagPlate:        {"PLATE", text, 24},
	TagPlateString:  {"PLATE_STRING", text, 20},
	TagPlateCountry: {"PLATE_COUNTRY", text, 4},
	TagNRead:        {"NREAD", number, 4},
	TagImageName:    {"IMAGENAME", text, 128},
	TagImagePath:    {"IMAGEPATH", text, 128},
	TagTransitID:    {"TRANSIT_ID", unstated, 0},
	TagPlateMinX:    {"PLATE_MIN_X", unstated, 0},
	TagPlateMinY:    {"PLATE_MIN_Y", unstated, 0},
	TagPlateMaxX:    {"PLATE_MAX_X", unstated, 0},
	TagPlateMaxY:    {"PLATE_MAX_Y", unstated, 0},
	TagSpeed:        {"SPEED", unstated, 0},
	TagClass:        {"CLASS", unstated, 0},
	TagClassString:  {"CLASS_STRING", text, 0},
	TagSN:           {"SN", unstated, 0},
	TagDirection:    {"DIRECTION", text, 12},
	TagNetTrigID:    {"NET_TRIG_ID", text, 32},
	TagImageBW:      {"IMAGE_BW", picture, 0},
	TagImageCol:     {"IMAGE_COL", picture, 0},
	TagOCRScore:     {"OCRSCORE", unstated, 0},
}

// String is the manual's name of the tag, or its number.
func (t Tag) String() string {
	if k, ok := tags[t]; ok {
		return k.name
	}
	return strconv.FormatUint(uint64(t), 10)
}

// Tags lists every tag that is documented.
func Tags() []Tag {
	var list []Tag
	for t := range tags {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}

// TextField makes a field with a text and the zero byte behind it.
func TextField(tag Tag, s string) Field { return Field{tag, append([]byte(s), 0)} }

// NumberField makes a field with a number of 32 bits.
func NumberField(tag Tag, n int32, order ByteOrder) Field {
	return Field{tag, order.append(nil, uint32(n))}
}

// Reading says how to read what the manual leaves open.
type Reading struct {
	// Order is the byte order of numbers.
	Order ByteOrder
	// TextNumbers is true if fields of which the manual does not tell the form hold
	// texts. Otherwise such a field of four bytes is a number, and of any other
	// length a text.
	TextNumbers bool
}

// Transit is what a message tells of a vehicle. Texts are the device's bytes up
// to the zero; they need not be UTF-8. What is missing is empty or nil.
type Transit struct {
	// Error is the message's error code.
	Error uint32
	// Date and Time are the device's own; how a date is written is not documented.
	Date, Time string
	// Name is the device's network name.
	Name string
	// Plate and Country are from PLATE_STRING and PLATE_COUNTRY, or from PLATE
	// where one of those is missing. Country is ISO 3166-1 alpha-3.
	Plate, Country string
	// Reads is NREAD.
	Reads *int32
	// ImageName and ImagePath tell where the device keeps the picture.
	ImageName, ImagePath string
	// ID is the transit's id, the same in each message about it.
	ID string
	// MinX, MinY, MaxX and MaxY frame the plate in the picture.
	MinX, MinY, MaxX, MaxY string
	// Speed, Class and ClassName tell of the vehicle; the unit of the first is not
	// documented.
	Speed, Class, ClassName string
	// Serial is the field SN.
	Serial string
	// Direction is in the device's words.
	Direction string
	// TriggerID is the id that came with a trigger over the network.
	TriggerID string
	// Score is the confidence; its scale is not documented.
	Score string
	// ImageBW and ImageColor are JPEG, parts of the message.
	ImageBW, ImageColor []byte
	// Others are fields that are not documented, or came a second time, or are not
	// in their form.
	Others []Field
}

// ErrNotTransit says that a message is about something else.
var ErrNotTransit = errors.New("the message is about no transit")

// Transit reads what a message tells of a vehicle. It fails with ErrNotTransit
// only. A field that can't be read is among Others.
func (m Message) Transit(r Reading) (Transit, error) {
	if m.Command != CommandTransit {
		return Transit{}, fmt.Errorf("%w: its command is %d and not %d", ErrNotTransit, m.Command, CommandTransit)
	}
	t := Transit{Error: m.Error}
	var whole string
	texts := map[Tag]*string{
		TagDate: &t.Date, TagTime: &t.Time, TagNetBIOSName: &t.Name, TagPlate: &whole, TagPlateString: &t.Plate,
		TagPlateCountry: &t.Country, TagImageName: &t.ImageName, TagImagePath: &t.ImagePath, TagTransitID: &t.ID,
		TagPlateMinX: &t.MinX, TagPlateMinY: &t.MinY, TagPlateMaxX: &t.MaxX, TagPlateMaxY: &t.MaxY, TagSpeed: &t.Speed,
		TagClass: &t.Class, TagClassString: &t.ClassName, TagSN: &t.Serial, TagDirection: &t.Direction,
		TagNetTrigID: &t.TriggerID, TagOCRScore: &t.Score,
	}
	pictures := map[Tag]*[]byte{TagImageBW: &t.ImageBW, TagImageCol: &t.ImageColor}
	had := map[Tag]bool{}
	for _, f := range m.Fields {
		known, ok := tags[f.Tag]
		if !ok || had[f.Tag] || known.form == number && len(f.Data) != 4 {
			t.Others = append(t.Others, f)
			continue
		}
		had[f.Tag] = true
		switch {
		case known.form == number:
			n := r.number(f.Data)
			t.Reads = &n
		case known.form == picture:
			*pictures[f.Tag] = f.Data
		case known.form == unstated && !r.TextNumbers && len(f.Data) == 4:
			*texts[f.Tag] = strconv.Itoa(int(r.number(f.Data)))
		default:
			s, _, _ := bytes.Cut(f.Data, []byte{0})
			*texts[f.Tag] = string(s)
		}
	}
	plate, country := SplitPlate(whole)
	if t.Plate == "" {
		t.Plate = plate
	}
	if t.Country == "" {
		t.Country = country
	}
	return t, nil
}

func (r Reading) number(four []byte) int32 {
	var o binary.ByteOrder = r.Order.bytes()
	return int32(o.Uint32(four))
}

// SplitPlate takes the country off a plate such as 46HVR9-NLD: three letters
// behind the last dash. Without them country is empty.
func SplitPlate(s string) (plate, country string) {
	at := len(s) - 4
	if at < 0 || s[at] != '-' {
		return s, ""
	}
	for _, c := range []byte(s[at+1:]) {
		if c < 'A' || c > 'Z' {
			return s, ""
		}
	}
	return s[:at], s[at+1:]
}
