// Package dimse reads and writes what DICOM says over a network: the protocol data units
// of the upper layer (PS3.8, chapter 9) and the messages C-ECHO and C-STORE (PS3.7,
// chapter 9). Receiver is the side that objects are sent to. The package does no I/O; the
// objects themselves are bytes to it.
package dimse

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of what comes.
const (
	// MaxLength is the length of a data unit that a Receiver asks its peer to keep to,
	// in bytes behind the header.
	MaxLength = 64 << 10
	// maxData bounds a data unit that does not keep to it, maxAssociate one that
	// proposes or accepts an association, maxShort all others.
	maxData      = 1 << 20
	maxAssociate = 256 << 10
	maxShort     = 64
	// maxFragments bounds the fragments of one data unit.
	maxFragments = 4096

	pduHeader      = 6
	fragmentHeader = 6
)

// Type is the type of a protocol data unit (PS3.8, 9.3.1).
type Type byte

// The types that there are.
const (
	AssociateRQ Type = 1
	AssociateAC Type = 2
	AssociateRJ Type = 3
	DataTF      Type = 4
	ReleaseRQ   Type = 5
	ReleaseRP   Type = 6
	AbortPDU    Type = 7
)

// longest is how long each type may be.
var longest = map[Type]uint32{
	AssociateRQ: maxAssociate, AssociateAC: maxAssociate, AssociateRJ: maxShort, DataTF: maxData,
	ReleaseRQ: maxShort, ReleaseRP: maxShort, AbortPDU: maxShort,
}

// ErrType says that what comes is no protocol data unit of DICOM, ErrLength that one is
// longer than is taken. There is no way to find the next one.
var (
	ErrType   = errors.New("this is no DICOM protocol data unit")
	ErrLength = errors.New("a DICOM protocol data unit is longer than is taken")
)

// PDU is one protocol data unit without its header.
type PDU struct {
	Type Type
	Body []byte
}

// Append appends it with its header.
func (p PDU) Append(b []byte) []byte {
	b = append(b, byte(p.Type), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Body)))
	return append(b, p.Body...)
}

// Splitter takes protocol data units out of a stream.
type Splitter struct {
	buf []byte
	at  int
}

// Write takes bytes.
func (s *Splitter) Write(b []byte) {
	s.buf = append(s.buf[:copy(s.buf, s.buf[s.at:])], b...)
	s.at = 0
}

// Pending is how many bytes wait for the rest of a unit, or to be taken by Next.
func (s *Splitter) Pending() int { return len(s.buf) - s.at }

// Next gives the next unit, whose body is valid until the next Write; ok is false if it is
// not there in full. After an error the connection is of no use.
func (s *Splitter) Next() (p PDU, ok bool, err error) {
	rest := s.buf[s.at:]
	if len(rest) == 0 {
		return p, false, nil
	}
	most, known := longest[Type(rest[0])]
	if !known {
		return p, false, fmt.Errorf("%w: it begins with %02x", ErrType, rest[0])
	}
	if len(rest) < pduHeader {
		return p, false, nil
	}
	n := binary.BigEndian.Uint32(rest[2:])
	if n > most {
		return p, false, fmt.Errorf("%w: type %02x with %d bytes, at most %d are taken", ErrLength, rest[0], n, most)
	}
	if uint32(len(rest)-pduHeader) < n {
		return p, false, nil
	}
	s.at += pduHeader + int(n)
	return PDU{Type(rest[0]), rest[pduHeader : pduHeader+int(n)]}, true, nil
}

// Fragment is a presentation data value: a piece of a command or of a data set (PS3.8,
// 9.3.5.1 and annex E).
type Fragment struct {
	// Context is the id of the presentation context.
	Context byte
	// Command: it is of a command, else of a data set. Last: it is the last piece.
	Command, Last bool
	Bytes         []byte
}

// Append appends it to the body of a data unit.
func (f Fragment) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Bytes)+2))
	var control byte
	if f.Command {
		control |= 1
	}
	if f.Last {
		control |= 2
	}
	b = append(b, f.Context, control)
	return append(b, f.Bytes...)
}

// ParseData reads the body of a data unit. The fragments share its bytes.
func ParseData(body []byte) ([]Fragment, error) {
	var list []Fragment
	for len(body) > 0 {
		if len(body) < fragmentHeader {
			return nil, fmt.Errorf("a data unit ends with %d bytes that are no fragment", len(body))
		}
		n := binary.BigEndian.Uint32(body)
		if n < 2 || uint64(n) > uint64(len(body)-4) {
			return nil, fmt.Errorf("a fragment says that it has %d bytes, and %d are there", n, len(body)-4)
		}
		if len(list) == maxFragments {
			return nil, fmt.Errorf("a data unit has more than %d fragments", maxFragments)
		}
		list = append(list, Fragment{Context: body[4], Command: body[5]&1 != 0, Last: body[5]&2 != 0, Bytes: body[6 : 4+n]})
		body = body[4+n:]
	}
	if len(list) == 0 {
		return nil, errors.New("a data unit is empty")
	}
	return list, nil
}

// AppendMessage appends the data units of a command and, if it has one, its data set. Each
// has most bytes behind its header at the most, as the other side asks; 0 is no limit.
func AppendMessage(b []byte, context byte, c Command, dataSet []byte, most uint32) []byte {
	b = appendPieces(b, context, true, c.Append(nil), most)
	if c.DataSet {
		b = appendPieces(b, context, false, dataSet, most)
	}
	return b
}

func appendPieces(b []byte, context byte, command bool, content []byte, most uint32) []byte {
	if most == 0 || most > maxData {
		most = MaxLength
	}
	step := max(int(most)-fragmentHeader, 2) &^ 1 // PS3.8, annex E: pieces are even
	for {
		n := min(step, len(content))
		f := Fragment{Context: context, Command: command, Last: n == len(content), Bytes: content[:n]}
		b = PDU{DataTF, f.Append(nil)}.Append(b)
		if content = content[n:]; f.Last {
			return b
		}
	}
}

// Who ends an association (PS3.8, 9.3.8), and why if it is the upper layer.
const (
	ByUser     = 0
	ByProvider = 2

	reasonUnknown    = 0
	reasonType       = 1
	reasonUnexpected = 2
	reasonValue      = 6
)

// Abort ends an association at once.
type Abort struct{ Source, Reason byte }

// Append appends its data unit.
func (a Abort) Append(b []byte) []byte {
	return PDU{AbortPDU, []byte{0, 0, a.Source, a.Reason}}.Append(b)
}

// ParseAbort reads it.
func ParseAbort(body []byte) (Abort, error) {
	if len(body) != 4 {
		return Abort{}, fmt.Errorf("an A-ABORT has %d bytes, want 4", len(body))
	}
	return Abort{body[2], body[3]}, nil
}

// Reject is a refused association (PS3.8, 9.3.4).
type Reject struct{ Result, Source, Reason byte }

// The refusals that are made.
var (
	// RejectVersion: the protocol version is not 1.
	RejectVersion = Reject{1, 2, 2}
	// RejectApplication: the application context is not DICOM's.
	RejectApplication = Reject{1, 1, 2}
	// RejectCalling: the caller's title is not one of those that may call.
	RejectCalling = Reject{1, 1, 3}
	// RejectCalled: the title that is called is not the one of this side.
	RejectCalled = Reject{1, 1, 7}
	// RejectIdentity: the user is not the right one. It is said by the provider, without
	// a reason (PS3.7, D.3.3.7).
	RejectIdentity = Reject{1, 2, 1}
)

// Append appends its data unit.
func (r Reject) Append(b []byte) []byte {
	return PDU{AssociateRJ, []byte{0, r.Result, r.Source, r.Reason}}.Append(b)
}

// ParseReject reads it.
func ParseReject(body []byte) (Reject, error) {
	if len(body) != 4 {
		return Reject{}, fmt.Errorf("an A-ASSOCIATE-RJ has %d bytes, want 4", len(body))
	}
	return Reject{body[1], body[2], body[3]}, nil
}
