// Package llrp reads and writes the part of EPCglobal's Low Level Reader Protocol that is
// needed to hear which tags a reader sees. It does no I/O.
//
// The form of messages and the types of tags' parameters are confirmed by messages that the
// project EdgeX has as fixtures (device-rfid-llrp-go); the lengths of other parameters and
// the meaning of a status are from the standard. What is not needed is passed over.
package llrp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what comes.
const (
	// MaxMessage bounds a message in bytes, MaxTags the tags of one report.
	MaxMessage = 1 << 20
	MaxTags    = 4096
	maxEPC     = 64
	header     = 10
	version    = 1
)

// Type is the type of a message.
type Type uint16

// The types that are known.
const (
	GetReport               Type = 60
	ROAccessReport          Type = 61
	Keepalive               Type = 62
	ReaderEventNotification Type = 63
	EnableEventsAndReports  Type = 64
	KeepaliveAck            Type = 72
	ErrorMessage            Type = 100
)

// Parameters. Those below 128 have no length of their own.
const (
	tvAntennaID    = 1
	tvFirstSeenUTC = 2
	tvPeakRSSI     = 6
	tvEPC96        = 13

	tlvUTCTimestamp    = 128
	tlvTagReportData   = 240
	tlvEPCData         = 241
	tlvReaderEvent     = 246
	tlvAttempt         = 257
	tlvConnectionClose = 260
)

// tvLengths are the bytes of the parameters without a length, by the standard.
var tvLengths = map[byte]int{1: 2, 2: 8, 3: 8, 4: 8, 5: 8, 6: 1, 7: 2, 8: 2, 9: 4, 10: 2, 11: 2, 12: 2, 13: 12, 14: 2, 15: 2, 16: 4, 17: 4, 18: 4, 19: 2, 20: 2}

// Message is one message.
type Message struct {
	Type    Type
	ID      uint32
	Payload []byte
}

// Append appends a message without a payload, or with one.
func (m Message) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, version<<10|uint16(m.Type)&0x3ff)
	b = binary.BigEndian.AppendUint32(b, uint32(header+len(m.Payload)))
	b = binary.BigEndian.AppendUint32(b, m.ID)
	return append(b, m.Payload...)
}

// ErrFrame says that what comes is no LLRP, or was joined in the middle: there is no way
// to find the next message.
var ErrFrame = errors.New("this is no LLRP message")

// Splitter takes messages out of a stream.
type Splitter struct{ buf []byte }

// Write takes bytes.
func (s *Splitter) Write(b []byte) { s.buf = append(s.buf, b...) }

// Next gives the next message; ok is false if it is not there in full. After an error the
// connection is of no use.
func (s *Splitter) Next() (m Message, ok bool, err error) {
	if len(s.buf) < header {
		return m, false, nil
	}
	first, n := binary.BigEndian.Uint16(s.buf), binary.BigEndian.Uint32(s.buf[2:])
	if first>>13 != 0 || first>>10&7 == 0 || n < header || n > MaxMessage {
		return m, false, ErrFrame
	}
	if uint32(len(s.buf)) < n {
		return m, false, nil
	}
	m = Message{Type: Type(first & 0x3ff), ID: binary.BigEndian.Uint32(s.buf[6:]), Payload: slices.Clone(s.buf[header:n])}
	s.buf = s.buf[n:]
	if len(s.buf) == 0 {
		s.buf = nil
	}
	return m, true, nil
}

// Event is what a reader tells of itself.
type Event struct {
	UTC time.Time
	// Attempt: it tells of the attempt to connect, Status being 0 for success.
	Attempt bool
	Status  uint16
	// Closing: it ends the connection.
	Closing bool
}

// Tag is one tag that a reader saw.
type Tag struct {
	EPC []byte
	// Antenna counts from 1; 0 if it is not told.
	Antenna uint16
	// RSSI is in dBm; HasRSSI if it is told.
	RSSI    int8
	HasRSSI bool
	// FirstSeen is by the reader's clock; zero if it is not told.
	FirstSeen time.Time
}

// parameters calls f for each parameter of a payload. A parameter that is not known and
// has no length ends it: what follows can't be found.
func parameters(b []byte, f func(kind int, value []byte) error) error {
	for len(b) > 0 {
		if b[0]&0x80 != 0 {
			kind := b[0] & 0x7f
			n, ok := tvLengths[kind]
			if !ok {
				return fmt.Errorf("a parameter of type %d, whose length is not known", kind)
			}
			if len(b) < 1+n {
				return fmt.Errorf("a parameter of type %d ends too early", kind)
			}
			if err := f(int(kind), b[1:1+n]); err != nil {
				return err
			}
			b = b[1+n:]
			continue
		}
		if len(b) < 4 {
			return errors.New("a parameter ends too early")
		}
		kind, n := int(binary.BigEndian.Uint16(b)&0x3ff), int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return fmt.Errorf("a parameter of type %d has a length of %d bytes, where %d are left", kind, n, len(b))
		}
		if err := f(kind, b[4:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ParseEvent reads the payload of a ReaderEventNotification.
func ParseEvent(payload []byte) (e Event, err error) {
	err = parameters(payload, func(kind int, v []byte) error {
		if kind != tlvReaderEvent {
			return nil
		}
		return parameters(v, func(kind int, v []byte) error {
			switch {
			case kind == tlvUTCTimestamp && len(v) >= 8:
				e.UTC = micro(v)
			case kind == tlvAttempt && len(v) >= 2:
				e.Attempt, e.Status = true, binary.BigEndian.Uint16(v)
			case kind == tlvConnectionClose:
				e.Closing = true
			}
			return nil
		})
	})
	return e, err
}

func micro(v []byte) time.Time {
	us := binary.BigEndian.Uint64(v)
	if us < 946_684_800_000_000 || us > 4e15 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us)).UTC()
}

// ParseReport reads the payload of an ROAccessReport. With an error it gives the tags that
// came before it.
func ParseReport(payload []byte) (tags []Tag, err error) {
	err = parameters(payload, func(kind int, v []byte) error {
		if kind != tlvTagReportData {
			return nil
		}
		if len(tags) == MaxTags {
			return fmt.Errorf("more than %d tags in one report", MaxTags)
		}
		var t Tag
		inner := parameters(v, func(kind int, v []byte) error {
			switch kind {
			case tvEPC96:
				t.EPC = slices.Clone(v)
			case tlvEPCData:
				if len(v) < 2 {
					return errors.New("an EPC without a length")
				}
				n := (int(binary.BigEndian.Uint16(v)) + 7) / 8
				if n > len(v)-2 || n > maxEPC {
					return fmt.Errorf("an EPC of %d bytes", n)
				}
				t.EPC = slices.Clone(v[2 : 2+n])
			case tvAntennaID:
				t.Antenna = binary.BigEndian.Uint16(v)
			case tvPeakRSSI:
				t.RSSI, t.HasRSSI = int8(v[0]), true
			case tvFirstSeenUTC:
				t.FirstSeen = micro(v)
			}
			return nil
		})
		if len(t.EPC) > 0 {
			tags = append(tags, t) // also what was told before something that is not known
		}
		if inner != nil && len(t.EPC) == 0 {
			return inner
		}
		return nil
	})
	return tags, err
}

// AppendReport appends the payload of a report.
func AppendReport(b []byte, tags ...Tag) []byte {
	for _, t := range tags {
		var v []byte
		if len(t.EPC) == 12 {
			v = append(append(v, 0x80|tvEPC96), t.EPC...)
		} else {
			v = binary.BigEndian.AppendUint16(v, tlvEPCData)
			v = binary.BigEndian.AppendUint16(v, uint16(6+len(t.EPC)))
			v = binary.BigEndian.AppendUint16(v, uint16(8*len(t.EPC)))
			v = append(v, t.EPC...)
		}
		v = binary.BigEndian.AppendUint16(append(v, 0x80|tvAntennaID), t.Antenna)
		if t.HasRSSI {
			v = append(v, 0x80|tvPeakRSSI, byte(t.RSSI))
		}
		if !t.FirstSeen.IsZero() {
			v = binary.BigEndian.AppendUint64(append(v, 0x80|tvFirstSeenUTC), uint64(t.FirstSeen.UnixMicro()))
		}
		b = appendTLV(b, tlvTagReportData, v)
	}
	return b
}

// AppendEvent appends the payload of a notification.
func AppendEvent(b []byte, e Event) []byte {
	v := appendTLV(nil, tlvUTCTimestamp, binary.BigEndian.AppendUint64(nil, uint64(e.UTC.UnixMicro())))
	if e.Attempt {
		v = appendTLV(v, tlvAttempt, binary.BigEndian.AppendUint16(nil, e.Status))
	}
	if e.Closing {
		v = appendTLV(v, tlvConnectionClose, nil)
	}
	return appendTLV(b, tlvReaderEvent, v)
}

func appendTLV(b []byte, kind int, v []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(v)))
	return append(b, v...)
}
