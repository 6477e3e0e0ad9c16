// Package nedap reads and writes what the number-plate readers of Nedap send:
// the tag-length-value messages of ANPR over TCP, its packets over RS-485, and
// texts that are made from a template, as LUMO sends them.
//
// The manuals are silent about the byte order of the first two and about how
// numbers are written in most fields; both are settings here. The frame by which
// a host acknowledges a packet is not public, so there is none: a reader that is
// set to wait for one sends each packet again.
package nedap

import (
	"encoding/binary"
	"fmt"
)

// Bounds of what is taken from a device.
const (
	// MaxPayload bounds the fields of a message, pictures included, in bytes.
	MaxPayload = 16 << 20
	// MaxFields bounds the number of fields of a message.
	MaxFields = 256
	// MaxPacketData bounds the data of a packet, in bytes. It is a text with a
	// plate in it.
	MaxPacketData = 4 << 10
	// MaxText bounds a text of a template with its line end, in bytes.
	MaxText = 4 << 10
	// maxJunk is how many bytes that are no frame make one report.
	maxJunk = 4 << 10
)

// ByteOrder is the order of the bytes of a number, for settings.
type ByteOrder string

// The byte orders. Which one a device uses is not documented; LittleEndian is
// thought likelier.
const (
	LittleEndian ByteOrder = "little"
	BigEndian    ByteOrder = "big"
)

// Check refuses what is neither.
func (o ByteOrder) Check() error {
	if o != LittleEndian && o != BigEndian {
		return fmt.Errorf("byte order %q: want %q or %q", string(o), string(LittleEndian), string(BigEndian))
	}
	return nil
}

func (o ByteOrder) other() ByteOrder {
	if o == BigEndian {
		return LittleEndian
	}
	return BigEndian
}

// bytes is the order of encoding/binary; anything but "big" counts as little.
func (o ByteOrder) bytes() interface {
	binary.ByteOrder
	binary.AppendByteOrder
} {
	if o == BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (o ByteOrder) append(b []byte, numbers ...uint32) []byte {
	for _, n := range numbers {
		b = o.bytes().AppendUint32(b, n)
	}
	return b
}
