package nedap

import (
	"fmt"
)

// What a packet begins and ends with.
const (
	packetStart = 0x89ABCDEF
	packetEnd   = 0x12345678
)

// Sizes of what is in front of a packet's data, and behind it.
const (
	packetHead = 12 // start, id, length
	packetTail = 5  // check byte, end
)

// Packet is one packet over RS-485.
type Packet struct {
	// ID counts the packets of a device from 1. One that comes again has its old id.
	ID uint32
	// Data is the text of the device's template.
	Data []byte
}

// DecodePacket reads a whole packet, as a Splitter gives it. The data are a part
// of b.
func DecodePacket(b []byte, order ByteOrder) (Packet, error) {
	if len(b) < packetHead+packetTail {
		return Packet{}, fmt.Errorf("packet of %d bytes: the shortest has %d", len(b), packetHead+packetTail)
	}
	o := order.bytes()
	start, id, length := o.Uint32(b), o.Uint32(b[4:]), o.Uint32(b[8:])
	switch {
	case start != packetStart:
		return Packet{}, fmt.Errorf("packet: it begins with %08x: want %08x", start, uint32(packetStart))
	case length > MaxPacketData:
		return Packet{}, fmt.Errorf("packet: %d bytes of data: want %d at most", length, MaxPacketData)
	case int(length) != len(b)-packetHead-packetTail:
		return Packet{}, fmt.Errorf("packet: %d bytes of data, and %d are announced", len(b)-packetHead-packetTail, length)
	}
	checked, tail := b[:len(b)-packetTail], b[len(b)-packetTail:]
	if want := xor(checked); tail[0] != want {
		return Packet{}, fmt.Errorf("packet: its check byte is %02x: want %02x", tail[0], want)
	}
	if end := o.Uint32(tail[1:]); end != packetEnd {
		return Packet{}, fmt.Errorf("packet: it ends with %08x: want %08x", end, uint32(packetEnd))
	}
	return Packet{ID: id, Data: checked[packetHead:len(checked):len(checked)]}, nil
}

// Encode writes a packet.
func (p Packet) Encode(order ByteOrder) ([]byte, error) {
	if err := order.Check(); err != nil {
		return nil, err
	}
	if len(p.Data) > MaxPacketData {
		return nil, fmt.Errorf("packet: %d bytes of data: want %d at most", len(p.Data), MaxPacketData)
	}
	b := make([]byte, 0, packetHead+len(p.Data)+packetTail)
	b = order.append(b, packetStart, p.ID, uint32(len(p.Data)))
	b = append(b, p.Data...)
	b = append(b, xor(b))
	return order.append(b, packetEnd), nil
}

func xor(b []byte) (x byte) {
	for _, c := range b {
		x ^= c
	}
	return x
}
