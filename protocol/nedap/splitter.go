package nedap

import (
	"bytes"
	"fmt"
)

// Splitter cuts a stream of bytes into frames, the same ones however the stream
// is cut into Writes. It finds the next frame after bytes that belong to none,
// and after a frame that is damaged, in which the next one may have begun. Call
// Next until it gives none after each Write: memory is then bounded by the
// longest frame, what one report of other bytes holds, and the size of one Write.
type Splitter struct {
	name string // of a frame, for a person
	// look judges what stands at the beginning of a text.
	look func(rest []byte) (n int, v verdict)
	// starts are the bytes that every frame begins with; other are those of the
	// other byte order.
	starts, other []byte
	// end is what a frame without a beginning ends with.
	end []byte

	buf  []byte
	at   int  // what is given out of buf
	junk int  // how much of the rest is no frame
	long bool // the junk is the beginning of a frame that is too long
	idle bool
}

type verdict int

const (
	none verdict = iota // no frame begins here
	more                // one may
	full                // one does, and it is all here
)

// Piece is a part of the stream.
type Piece struct {
	// Bytes are valid until the next Write.
	Bytes []byte
	// Problem says why the bytes are no frame; empty for a frame.
	Problem string
}

// Messages cuts what comes over TCP into messages, for DecodeMessage. Only what
// DecodeMessage can read is a frame.
func Messages(order ByteOrder) *Splitter {
	return &Splitter{
		name: "message", starts: order.append(nil, headerSize), other: order.other().append(nil, headerSize, CommandTransit),
		look: func(rest []byte) (int, verdict) {
			if len(rest) < headerSize {
				return 0, more
			}
			o := order.bytes()
			command, length := o.Uint32(rest[4:]), o.Uint32(rest[20:])
			zeros := o.Uint32(rest[8:]) == 0 && o.Uint32(rest[12:]) == 0
			if command != CommandTransit && !zeros || length > MaxPayload || length%4 != 0 {
				return 0, none
			}
			n := headerSize + int(length)
			if len(rest) < n {
				return 0, more
			}
			if _, err := DecodeMessage(rest[:n], order); err != nil {
				return 0, none
			}
			return n, full
		},
	}
}

// Packets cuts what comes over RS-485 into packets, for DecodePacket. Only what
// DecodePacket can read is a frame.
func Packets(order ByteOrder) *Splitter {
	return &Splitter{
		name: "packet", starts: order.append(nil, packetStart), other: order.other().append(nil, packetStart),
		look: func(rest []byte) (int, verdict) {
			if len(rest) < packetHead {
				return 0, more
			}
			length := order.bytes().Uint32(rest[8:])
			if length > MaxPacketData {
				return 0, none
			}
			n := packetHead + int(length) + packetTail
			if len(rest) < n {
				return 0, more
			}
			if _, err := DecodePacket(rest[:n], order); err != nil {
				return 0, none
			}
			return n, full
		},
	}
}

// Texts cuts what comes by a template into texts: what stands before each end,
// which is "\r\n" where the template has it. A frame holds its end. It fails
// without an end: such a device tells texts apart by pauses only.
func Texts(end string) (*Splitter, error) {
	if end == "" || len(end) >= MaxText {
		return nil, fmt.Errorf("texts: their end has %d bytes: want 1 to %d", len(end), MaxText-1)
	}
	s := &Splitter{name: "text", end: []byte(end)}
	s.look = func(rest []byte) (int, verdict) {
		if i := bytes.Index(rest[:min(len(rest), MaxText)], s.end); i >= 0 {
			return i + len(s.end), full
		}
		if len(rest) < MaxText {
			return 0, more
		}
		return 0, none
	}
	return s, nil
}

// Reset forgets what is buffered, for a new connection.
func (s *Splitter) Reset() { s.buf, s.at, s.junk, s.long, s.idle = s.buf[:0], 0, 0, false, false }

// Write takes bytes as they come. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	if s.at > 0 {
		s.buf = append(s.buf[:0], s.buf[s.at:]...)
		s.at = 0
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

// Pending is how many bytes wait for the rest of a frame.
func (s *Splitter) Pending() int { return len(s.buf) - s.at }

// Idle says that nothing comes any more of what was begun: that the line was
// silent for longer than a device pauses within a frame, or is closed. What is
// pending is then no frame, and Next looks for one in it.
func (s *Splitter) Idle() { s.idle = s.Pending() > 0 }

// Next gives the next piece, or false if there is none yet.
func (s *Splitter) Next() (Piece, bool) {
	for {
		rest := s.buf[s.at:]
		if s.junk >= maxJunk {
			return s.give(maxJunk, true), true
		}
		if s.junk == len(rest) {
			if s.idle && s.junk > 0 {
				return s.give(s.junk, true), true
			}
			s.long, s.idle = s.long && !s.idle, false
			return Piece{}, false
		}
		if s.long {
			if !s.skipLong(rest) {
				return Piece{}, false
			}
			continue
		}
		n, v := s.judge(rest[s.junk:])
		switch {
		case v == full && s.junk > 0:
			return s.give(s.junk, true), true
		case v == full:
			return s.give(n, false), true
		case v == more && !s.idle:
			return Piece{}, false
		}
		s.junk += s.skip(rest[s.junk:])
	}
}

// judge asks look only about what begins as a frame does.
func (s *Splitter) judge(rest []byte) (int, verdict) {
	if have := min(len(rest), len(s.starts)); !bytes.Equal(rest[:have], s.starts[:have]) {
		return 0, none
	}
	return s.look(rest)
}

// skip is how far it is to where a frame may begin next.
func (s *Splitter) skip(rest []byte) int {
	if len(s.starts) == 0 {
		s.long = true
		return 0
	}
	if i := bytes.IndexByte(rest[1:], s.starts[0]); i >= 0 {
		return 1 + i
	}
	return len(rest)
}

// skipLong passes over a frame that is too long, to its end; false if that has
// not come, and there is nothing to report yet.
func (s *Splitter) skipLong(rest []byte) bool {
	if i := bytes.Index(rest[s.junk:], s.end); i >= 0 {
		s.junk += i + len(s.end)
		s.long = false
		return true
	}
	if s.idle {
		s.junk = len(rest)
		return true
	}
	// The first bytes of the end may be there.
	s.junk = max(s.junk, len(rest)-len(s.end)+1)
	return s.junk >= maxJunk
}

func (s *Splitter) give(n int, junk bool) Piece {
	p := Piece{Bytes: s.buf[s.at : s.at+n]}
	s.at += n
	if !junk {
		return p
	}
	s.junk -= n
	p.Problem = fmt.Sprintf("%d bytes that make no %s", n, s.name)
	if len(s.other) > 0 && bytes.Contains(p.Bytes, s.other) {
		p.Problem += "; one in the other byte order begins in them: check the setting"
	}
	return p
}
