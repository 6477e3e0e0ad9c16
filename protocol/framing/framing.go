// Package framing takes messages out of a stream of bytes, and puts them into one: as
// lines, between STX and ETX, behind their length, or as documents of XML and JSON one
// after the other without anything between. It knows no vendor and nothing of what is in a
// message. It does no I/O.
package framing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/protocol/textframe"
)

// The kinds of framing.
const (
	// Lines end with CR LF or LF; with the end \r, with CR.
	Lines = "lines"
	// Marks stand around a message, STX (02) and ETX (03) if no others are given.
	Marks = "stx_etx"
	// ByLength is a length before a message.
	ByLength = "length"
	// Documents follow each other without anything around them.
	Documents = "document"
)

// Kinds lists the kinds of framing.
func Kinds() []string { return []string{Lines, Marks, ByLength, Documents} }

// maxJunk is how many bytes that belong to no message make one report.
const maxJunk = 4 << 10

// Framing is how messages stand in a stream.
type Framing struct {
	// Kind is one of Kinds; empty is Documents.
	Kind string `yaml:"kind"`
	// Framing has the start, the end and the checksum for Lines and Marks; the pause after
	// which a message that was begun is broken off, and the bound of a message, for all.
	textframe.Framing `yaml:",inline"`
	// Length is for ByLength.
	Length Length `yaml:"length"`
	// Root is the name of the element that documents of XML have, if it is known: then
	// nothing else is taken for the beginning of one.
	Root string `yaml:"-"`
}

// Length is how the length of a message stands before it.
type Length struct {
	// Magic stands before the length, with the escapes of textframe.Framing.Start. Without
	// it the next message can't be found after a damaged one before a pause.
	Magic string `yaml:"magic"`
	// Bytes is 2 or 4, the default.
	Bytes int `yaml:"bytes"`
	// Order is "big" (the default) or "little".
	Order string `yaml:"order"`
	// Counts is what the length counts: "body" (the default), "length" (itself too) or "all"
	// (the magic too).
	Counts string `yaml:"counts"`
}

// Format is a Framing that was checked.
type Format struct {
	kind   string
	root   string
	frames *textframe.Frames
	most   int
	magic  []byte
	bytes  int
	order  binary.AppendByteOrder
	read   func([]byte) uint64
	extra  int // what the length counts beside the body
}

// Compile checks a framing. The error names the setting and the mend.
func (f Framing) Compile() (*Format, error) {
	c := &Format{kind: f.Kind, root: f.Root, most: f.Most}
	t := f.Framing
	switch f.Kind {
	case "":
		c.kind = Documents
	case Lines:
		if t.End == "" {
			t.End = `\n`
		}
	case Marks:
		if t.Start == "" {
			t.Start = `\x02`
		}
		if t.End == "" {
			t.End = `\x03`
		}
	case ByLength, Documents:
	default:
		return nil, fmt.Errorf("kind: %q is not known; take one of %s", f.Kind, strings.Join(Kinds(), ", "))
	}
	if (c.kind == ByLength || c.kind == Documents) && (t.Start != "" || t.End != "" || t.Checksum != (textframe.Checksum{})) {
		return nil, fmt.Errorf("start, end, checksum: the kind %s has none; take them out, or take the kind %s", c.kind, Marks)
	}
	if c.kind != ByLength && f.Length != (Length{}) {
		return nil, fmt.Errorf("length: the kind %s has none; take it out, or take the kind %s", c.kind, ByLength)
	}
	if t.Encoding != "" {
		return nil, errors.New("encoding: frames have none; say it of what is in them")
	}
	var err error
	if c.frames, err = t.Compile(); err != nil {
		return nil, err
	}
	if c.most == 0 {
		c.most = textframe.MaxFrame
		t.Most = c.most
		if c.frames, err = t.Compile(); err != nil {
			return nil, err
		}
	}
	return c, c.compileLength(f.Length)
}

func (c *Format) compileLength(l Length) error {
	var err error
	if c.magic, err = textframe.Bytes(l.Magic); err != nil {
		return fmt.Errorf("length: magic: %w", err)
	}
	little := false
	switch l.Order {
	case "", "big":
	case "little":
		little = true
	default:
		return fmt.Errorf("length: order: %q; take big or little", l.Order)
	}
	switch c.bytes = l.Bytes; l.Bytes {
	case 0:
		c.bytes = 4
	case 2, 4:
	default:
		return fmt.Errorf("length: bytes: %d; take 2 or 4", l.Bytes)
	}
	c.order = binary.BigEndian
	if little {
		c.order = binary.LittleEndian
	}
	c.read = func(b []byte) (n uint64) {
		for i := range c.bytes {
			k := i
			if little {
				k = c.bytes - 1 - i
			}
			n = n<<8 | uint64(b[k])
		}
		return n
	}
	switch l.Counts {
	case "", "body":
	case "length":
		c.extra = c.bytes
	case "all":
		c.extra = c.bytes + len(c.magic)
	default:
		return fmt.Errorf("length: counts: %q; take body, length or all", l.Counts)
	}
	return nil
}

// Piece is a part of the stream.
type Piece struct {
	// Bytes are those of the stream, with what is around the message, and Data is the
	// message. They are valid until the next Write.
	Bytes, Data []byte
	// Problem says why the bytes are no message; empty if they are one. It tells nothing of
	// what is in them.
	Problem string
}

// Splitter cuts a stream of bytes into messages, the same ones however the stream is cut
// into Writes. It finds the next message after bytes that belong to none. Call Next until it
// gives none after each Write: memory is then bounded by the longest message and the size
// of one Write.
type Splitter interface {
	// Write takes bytes as they come. It never fails.
	Write(b []byte) (int, error)
	// Idle says that nothing comes any more of what was begun, since the line was silent or
	// the connection ended: it is broken off, and told by Next.
	Idle()
	// Pending is how many bytes wait for the rest of a message.
	Pending() int
	// Next gives the next piece, or false if there is none yet.
	Next() (Piece, bool)
}

// Splitter makes a splitter for one connection.
func (c *Format) Splitter() Splitter {
	switch c.kind {
	case Lines, Marks:
		return &textSplitter{c.frames.Splitter(), c.frames}
	case ByLength:
		return &lengthSplitter{c: c}
	}
	return newDocuments(c.root, c.most)
}

// Append writes a message into a stream. It fails for one that can't be told from its frame,
// or is too long.
func (c *Format) Append(dst, message []byte) ([]byte, error) {
	if len(message) > c.most {
		return dst, fmt.Errorf("write a message: it has %d bytes, and %d at most are allowed", len(message), c.most)
	}
	switch c.kind {
	case Lines, Marks:
		frame, err := c.frames.Encode(string(message))
		return append(dst, frame...), err
	case ByLength:
		n := len(message) + c.extra
		dst = append(dst, c.magic...)
		if c.bytes == 2 {
			if n > 0xffff {
				return dst, fmt.Errorf("write a message: its length %d does not fit into two bytes", n)
			}
			dst = c.order.AppendUint16(dst, uint16(n))
		} else {
			dst = c.order.AppendUint32(dst, uint32(n)) //nolint:gosec // most is far below
		}
	}
	return append(dst, message...), nil
}

// textSplitter is for what textframe can cut.
type textSplitter struct {
	*textframe.Splitter
	frames *textframe.Frames
}

// Next implements Splitter.
func (s *textSplitter) Next() (Piece, bool) {
	p, ok := s.Splitter.Next()
	if !ok || p.Problem != "" {
		return Piece{Bytes: p.Bytes, Problem: p.Problem}, ok
	}
	data, err := s.frames.Data(p.Bytes)
	if err != nil {
		return Piece{Bytes: p.Bytes, Problem: err.Error()}, true
	}
	return Piece{Bytes: p.Bytes, Data: data}, true
}

// buffer is what came and was not given yet.
type buffer struct {
	buf  []byte
	at   int // what is given out of buf
	idle bool
}

// Write implements Splitter.
func (b *buffer) Write(p []byte) (int, error) {
	if b.at > 0 {
		b.buf = append(b.buf[:0], b.buf[b.at:]...)
		b.at = 0
	}
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// Idle implements Splitter.
func (b *buffer) Idle() { b.idle = true }

// Pending implements Splitter.
func (b *buffer) Pending() int { return len(b.buf) - b.at }

// lengthSplitter is for messages behind their length.
type lengthSplitter struct {
	buffer
	c *Format
	// lost: a length can't be right and there is no magic, so that only a pause helps.
	lost bool
}

// Next implements Splitter.
func (s *lengthSplitter) Next() (Piece, bool) {
	for {
		rest := s.buf[s.at:]
		if len(rest) == 0 {
			s.lost = s.lost && !s.idle
			s.idle = false
			return Piece{}, false
		}
		p, n := s.step(rest)
		if n == 0 {
			return Piece{}, false
		}
		s.at += n
		if p.Bytes != nil {
			return p, true
		}
	}
}

// step takes n bytes of the rest; 0 waits for more. A piece without bytes is not given.
func (s *lengthSplitter) step(rest []byte) (Piece, int) {
	c := s.c
	if s.lost {
		return s.junk(rest, min(len(rest), maxJunk), "behind a length that can't be right")
	}
	if !bytes.HasPrefix(rest, c.magic) {
		n := bytes.Index(rest, c.magic)
		if n < 0 {
			n = len(rest)
			if !s.idle {
				n -= beginning(rest, c.magic)
				if n < maxJunk {
					return Piece{}, 0
				}
			}
		}
		if n = min(n, maxJunk); blankOnly(rest[:n]) {
			return Piece{}, n
		}
		return s.junk(rest, n, "before a message begins")
	}
	head := len(c.magic) + c.bytes
	if len(rest) < head {
		return s.wait(rest)
	}
	n := c.read(rest[len(c.magic):])
	if n < uint64(c.extra) || n-uint64(c.extra) > uint64(c.most) {
		if len(c.magic) == 0 {
			s.lost = true
			return s.junk(rest, head, "a length that can't be right; the next message is looked for after a pause")
		}
		return s.junk(rest, s.next(rest, head), "a length that can't be right")
	}
	end := head + int(n) - c.extra //nolint:gosec // most is far below
	if len(rest) < end {
		return s.wait(rest)
	}
	if end == head {
		return Piece{}, end // nothing in it
	}
	return Piece{Bytes: rest[:end], Data: rest[head:end]}, end
}

func (s *lengthSplitter) wait(rest []byte) (Piece, int) {
	if !s.idle {
		return Piece{}, 0
	}
	return s.junk(rest, s.next(rest, len(rest)), "of a message that was broken off")
}

// next is where the next message may begin in the first n bytes.
func (s *lengthSplitter) next(rest []byte, n int) int {
	if len(s.c.magic) == 0 {
		return n
	}
	if i := bytes.Index(rest[1:], s.c.magic); i >= 0 && 1+i < n {
		return 1 + i
	}
	return max(1, n-beginning(rest[1:n], s.c.magic))
}

func (s *lengthSplitter) junk(rest []byte, n int, why string) (Piece, int) {
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes: %s", n, why)}, n
}

// beginning is how many of the last bytes are the beginning of a mark.
func beginning(b, mark []byte) int {
	for k := min(len(mark)-1, len(b)); k > 0; k-- {
		if bytes.HasSuffix(b, mark[:k]) {
			return k
		}
	}
	return 0
}

// blank reports whether a byte between messages says nothing.
func blank(c byte) bool { return slices.Contains([]byte("\r\n\t \x00"), c) }
