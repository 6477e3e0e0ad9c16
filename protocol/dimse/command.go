package dimse

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of a command.
const (
	maxCommand  = 64 << 10
	maxElements = 128
	// maxComment is how long DICOM lets a comment be.
	maxComment = 64
)

// Field is what a command is (PS3.7, E.1-1).
type Field uint16

// The commands that are known. An answer has the highest bit set.
const (
	StoreRQ  Field = 0x0001
	StoreRSP Field = 0x8001
	EchoRQ   Field = 0x0030
	EchoRSP  Field = 0x8030
	// Cancel takes back what was asked; it is not answered.
	Cancel Field = 0x0fff
	answer Field = 0x8000
)

// Status is how a command was answered (PS3.7, annex C; PS3.4, table B.2-1).
type Status uint16

// The answers that are given.
const (
	Success Status = 0x0000
	// NoClass: the SOP class is not one that is taken.
	NoClass Status = 0x0122
	// NotKnown: the command is not one that is known.
	NotKnown Status = 0x0211
	// OutOfResources: there is no room for the object.
	OutOfResources Status = 0xa700
	// NotUnderstood: the object can't be understood.
	NotUnderstood Status = 0xc000
)

// Stored reports whether an object was stored: success, or one of the warnings.
func (s Status) Stored() bool { return s == Success || s>>12 == 0xb }

// noDataSet is what (0000,0800) holds if there is none; everything else says that there is.
const noDataSet = 0x0101

// Elements of a command (PS3.7, annex E): the number in group 0000.
const (
	elementLength     = 0x0000
	elementClass      = 0x0002
	elementField      = 0x0100
	elementID         = 0x0110
	elementResponding = 0x0120
	elementPriority   = 0x0700
	elementDataSet    = 0x0800
	elementStatus     = 0x0900
	elementComment    = 0x0902
	elementInstance   = 0x1000
)

// Command is a command set.
type Command struct {
	Field Field
	// ID numbers a request, Responding is the one that an answer is for.
	ID, Responding uint16
	// Class and Instance are the UIDs of what it is about.
	Class, Instance string
	// DataSet: a data set follows.
	DataSet bool
	// Status and Comment are an answer's.
	Status  Status
	Comment string
}

// Append appends a command set, which is always in implicit VR little endian, with its
// group length.
func (c Command) Append(b []byte) []byte {
	var body []byte
	element := func(n uint16, content []byte) {
		body = binary.LittleEndian.AppendUint16(body, 0)
		body = binary.LittleEndian.AppendUint16(body, n)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(content)))
		body = append(body, content...)
	}
	number := func(n, value uint16) { element(n, binary.LittleEndian.AppendUint16(nil, value)) }
	padded := func(n uint16, s string, with byte) {
		if s == "" {
			return
		}
		content := []byte(s)
		if len(content)%2 == 1 {
			content = append(content, with)
		}
		element(n, content)
	}
	padded(elementClass, c.Class, 0)
	number(elementField, uint16(c.Field))
	if c.Field&answer == 0 {
		number(elementID, c.ID)
	} else {
		number(elementResponding, c.Responding)
	}
	if c.Field == StoreRQ {
		number(elementPriority, 0)
	}
	if c.DataSet {
		number(elementDataSet, 0)
	} else {
		number(elementDataSet, noDataSet)
	}
	if c.Field&answer != 0 {
		number(elementStatus, uint16(c.Status))
		padded(elementComment, c.Comment[:min(len(c.Comment), maxComment)], ' ')
	}
	padded(elementInstance, c.Instance, 0)
	b = append(b, 0, 0, 0, 0, 4, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// ParseCommand reads a command set. What is not needed is passed over; the group length is
// not believed.
func ParseCommand(b []byte) (c Command, err error) {
	if len(b) > maxCommand {
		return c, fmt.Errorf("a command has %d bytes, and at most %d are taken", len(b), maxCommand)
	}
	seen := map[uint16]bool{}
	for len(b) > 0 {
		if len(b) < 8 {
			return c, fmt.Errorf("a command ends with %d bytes that are no element", len(b))
		}
		group, n := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		length := binary.LittleEndian.Uint32(b[4:])
		switch {
		case group != 0:
			return c, fmt.Errorf("a command has an element of the group %04x", group)
		case uint64(length) > uint64(len(b)-8):
			return c, fmt.Errorf("element (0000,%04x) of a command is longer than the command", n)
		case seen[n]:
			return c, fmt.Errorf("element (0000,%04x) of a command is there twice", n)
		case len(seen) == maxElements:
			return c, fmt.Errorf("a command has more than %d elements", maxElements)
		}
		seen[n] = true
		if err := c.take(n, b[8:8+length]); err != nil {
			return c, fmt.Errorf("element (0000,%04x) of a command: %w", n, err)
		}
		b = b[8+length:]
	}
	switch {
	case !seen[elementField]:
		return c, errors.New("a command does not say what it is")
	case !seen[elementDataSet]:
		return c, errors.New("a command does not say whether it has a data set")
	case c.Field&answer == 0 && c.Field != Cancel && !seen[elementID]:
		return c, errors.New("a command has no number, and can't be answered")
	case c.Field&answer != 0 && !(seen[elementResponding] && seen[elementStatus]):
		return c, errors.New("an answer does not say what it is for, or what it is")
	}
	return c, nil
}

func (c *Command) take(n uint16, b []byte) (err error) {
	number := func() uint16 {
		if len(b) != 2 {
			err = fmt.Errorf("it has %d bytes, want 2", len(b))
			return 0
		}
		return binary.LittleEndian.Uint16(b)
	}
	switch n {
	case elementClass:
		c.Class, err = uid(b)
	case elementInstance:
		c.Instance, err = uid(b)
	case elementField:
		c.Field = Field(number())
	case elementID:
		c.ID = number()
	case elementResponding:
		c.Responding = number()
	case elementDataSet:
		c.DataSet = number() != noDataSet
	case elementStatus:
		c.Status = Status(number())
	case elementComment:
		c.Comment = text(b[:min(len(b), maxComment)])
	}
	return err
}
