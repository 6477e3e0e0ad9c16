// Package customsgate reads and writes the frames by which the lanes of Chinese customs
// checkpoints and their platform speak (gate and platform protocol, version 1.0): a header
// of fixed length, a document of XML, and two bytes at the end. All lengths are little
// endian. It does no I/O.
//
// The facts are from the protocol's document and two programs of others. No driver uses it:
// it is here for what an instrument behind such a gate says, and for a platform to come.
package customsgate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind is what a frame is for.
type Kind byte

// The kinds of frames.
const (
	Gather   Kind = 0x21 // what a lane has gathered of a vehicle
	Release  Kind = 0x22 // what the platform decides
	Control  Kind = 0x31
	Feedback Kind = 0x32 // the answer to a Control
)

// Bounds and lengths of a frame, in bytes.
const (
	// MaxDocument bounds the document.
	MaxDocument = 1 << 20
	idLength    = 10
	headLength  = 38
	// Overhead is how much longer a frame is than its document.
	Overhead = headLength + 2
)

var (
	magic = []byte{0xe2, 0x5c, 0x4b, 0x89}
	end   = []byte{0xff, 0xff}
)

// Frame is one frame.
type Frame struct {
	Kind Kind
	// Area and Lane are ids of ten characters.
	Area, Lane string
	// Out is false for a vehicle that comes in.
	Out bool
	// Mark is the identifier, 00 or FF in all of its bytes as it was seen.
	Mark uint32
	// Document is the XML without the NULs that some count into it.
	Document []byte
}

// Errors of Splitter.Next. What was passed over is in none of the frames.
var (
	// ErrForm says that a frame is not as it must be.
	ErrForm = errors.New("no frame of a customs gate")
	// ErrNoise says that there was something between the frames.
	ErrNoise = errors.New("bytes before a frame of a customs gate")
)

// Append appends the frame. It fails for ids and documents that do not fit.
func (f Frame) Append(b []byte) ([]byte, error) {
	for _, id := range []string{f.Area, f.Lane} {
		if len(id) != idLength {
			return b, fmt.Errorf("%w: the id %q has %d characters, and must have %d", ErrForm, id, len(id), idLength)
		}
	}
	if len(f.Document) > MaxDocument {
		return b, fmt.Errorf("%w: a document of %d bytes; at most %d fit", ErrForm, len(f.Document), MaxDocument)
	}
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Document)+Overhead)) //nolint:gosec // bounded above
	b = append(b, byte(f.Kind))
	b = append(append(b, f.Area...), f.Lane...)
	if f.Out {
		b = append(b, 'E')
	} else {
		b = append(b, 'I')
	}
	b = binary.LittleEndian.AppendUint32(b, f.Mark)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Document))) //nolint:gosec // bounded above
	return append(append(b, f.Document...), end...), nil
}

// Splitter takes frames out of what a connection brings. After something that is none it
// goes on at the next that looks like the beginning of one.
type Splitter struct {
	b []byte
}

// Write takes what came. The bound of it is that of one frame: Next must be called until it
// has none.
func (s *Splitter) Write(b []byte) { s.b = append(s.b, b...) }

// Next gives the next frame; ok is false if it is not there yet. With an error something was
// passed over, and it can be called again.
func (s *Splitter) Next() (f Frame, ok bool, err error) {
	if i := bytes.Index(s.b, magic); i != 0 {
		if i < 0 { // the beginning of the next may be there
			i = max(0, len(s.b)-len(magic)+1)
			for i < len(s.b) && !bytes.HasPrefix(magic, s.b[i:]) {
				i++
			}
		}
		if i > 0 {
			s.b = s.b[i:]
			return f, false, ErrNoise
		}
		return f, false, nil
	}
	if len(s.b) < headLength {
		return f, false, nil
	}
	total, n := binary.LittleEndian.Uint32(s.b[4:]), binary.LittleEndian.Uint32(s.b[34:])
	direction := s.b[29]
	switch {
	case n > MaxDocument || total != n+Overhead:
		err = fmt.Errorf("%w: a document of %d bytes in a frame of %d", ErrForm, n, total)
	case direction != 'I' && direction != 'E':
		err = fmt.Errorf("%w: the direction %q; it is I or E", ErrForm, direction)
	case uint64(len(s.b)) < uint64(total):
		return f, false, nil
	case !bytes.Equal(s.b[total-2:total], end):
		err = fmt.Errorf("%w: it does not end with FF FF", ErrForm)
	}
	if err != nil {
		s.b = s.b[len(magic):]
		return f, false, err
	}
	f = Frame{
		Kind: Kind(s.b[8]), Area: string(s.b[9:19]), Lane: string(s.b[19:29]), Out: direction == 'E',
		Mark: binary.LittleEndian.Uint32(s.b[30:]), Document: bytes.TrimRight(bytes.Clone(s.b[headLength:total-2]), "\x00"),
	}
	s.b = s.b[total:]
	return f, true, nil
}
