package opcua

import (
	"encoding/binary"
	"fmt"
)

// HeadLength is how many bytes FrameLength looks at.
const HeadLength = 8

// Kind is what a chunk begins with.
type Kind string

// The kinds of chunks (IEC 62541-6 7.1.2.2 and 6.7.2.2).
const (
	Hello       Kind = "HEL"
	Acknowledge Kind = "ACK"
	Failure     Kind = "ERR"
	Open        Kind = "OPN"
	Service     Kind = "MSG"
	Close       Kind = "CLO"
)

var kinds = map[Kind]bool{Hello: true, Acknowledge: true, Failure: true, Open: true, Service: true, Close: true}

// FrameLength says how long the chunk is that begins with head, header included.
func FrameLength(head []byte) (int, error) {
	if len(head) < HeadLength {
		return 0, ErrShort
	}
	if !kinds[Kind(head[:3])] {
		return 0, fmt.Errorf("%w: it begins with %q", ErrFormat, head[:4])
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < HeadLength || n > MaxFrame {
		return 0, fmt.Errorf("%w: a chunk of %d bytes, at most %d are taken", ErrBound, n, MaxFrame)
	}
	return int(n), nil
}

// frame puts a header before what follows it.
func frame(kind Kind, final byte, rest []byte) []byte {
	b := append([]byte(kind), final)
	b = binary.LittleEndian.AppendUint32(b, uint32(HeadLength+len(rest))) //nolint:gosec // far below 4 GiB
	return append(b, rest...)
}

// Limits is what a side takes, in a Hello and in an Acknowledge. 0 of the last two
// is no limit.
type Limits struct {
	Version             uint32
	Receive, Send       uint32
	MaxMessage, MaxPart uint32
}

// Ours are the limits of this package.
var Ours = Limits{Receive: MaxFrame, Send: MaxFrame, MaxMessage: MaxMessage, MaxPart: MaxChunks}

func (l *Limits) fields(c *coder) {
	for _, v := range []*uint32{&l.Version, &l.Receive, &l.Send, &l.MaxMessage, &l.MaxPart} {
		c.u32(v)
	}
}

// EncodeHello begins a connection to the server at url.
func EncodeHello(l Limits, url string) []byte {
	c := &coder{}
	l.fields(c)
	c.text(&url)
	return frame(Hello, 'F', c.b)
}

// DecodeHello reads it.
func DecodeHello(b []byte) (l Limits, url string, err error) {
	c, err := body(Hello, b)
	if err != nil {
		return l, "", err
	}
	l.fields(c)
	c.text(&url)
	return l, url, c.err
}

// EncodeAcknowledge answers a Hello.
func EncodeAcknowledge(l Limits) []byte {
	c := &coder{}
	l.fields(c)
	return frame(Acknowledge, 'F', c.b)
}

// DecodeAcknowledge reads it. It fails if the server takes chunks that are smaller
// than the protocol allows, and by a FailureError if the server refused.
func DecodeAcknowledge(b []byte) (l Limits, err error) {
	c, err := body(Acknowledge, b)
	if err != nil {
		return l, err
	}
	l.fields(c)
	switch {
	case c.err != nil:
		return l, c.err
	case l.Receive < MinFrame || l.Send < MinFrame:
		return l, fmt.Errorf("%w: buffers of %d and %d bytes, at least %d are needed", ErrBound, l.Receive, l.Send, MinFrame)
	}
	return l, nil
}

// A FailureError is what the other side sends before it ends the connection.
type FailureError struct {
	Status Status
	Reason string
}

func (e *FailureError) Error() string {
	if e.Reason == "" {
		return e.Status.Error()
	}
	return fmt.Sprintf("%v (%.200q)", e.Status, e.Reason)
}

func (e *FailureError) Unwrap() error { return e.Status }

func (e *FailureError) fields(c *coder) {
	c.u32((*uint32)(&e.Status))
	c.text(&e.Reason)
}

// EncodeFailure ends a connection.
func EncodeFailure(status Status, reason string) []byte {
	c := &coder{}
	(&FailureError{status, reason}).fields(c)
	return frame(Failure, 'F', c.b)
}

// body is what follows the header of a chunk of one kind.
func body(kind Kind, b []byte) (*coder, error) {
	n, err := FrameLength(b)
	if err != nil {
		return nil, err
	}
	if n != len(b) {
		return nil, ErrShort
	}
	c := &coder{b: b[HeadLength:], reading: true}
	got := Kind(b[:3])
	if got == Failure && kind != Failure {
		e := &FailureError{}
		if e.fields(c); c.err != nil {
			return nil, c.err
		}
		return nil, e
	}
	if got != kind || b[3] != 'F' {
		return nil, fmt.Errorf("%w: %q where %s is expected", ErrFormat, b[:4], kind)
	}
	return c, nil
}
