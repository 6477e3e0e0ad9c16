package opcua

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// NodeID names a node of a server. Two of the same node are equal.
type NodeID struct {
	Namespace uint16
	// Kind is 'i' for a number, 's' for a text, 'g' for a GUID, 'b' for bytes; 0 is
	// that of the null id.
	Kind   byte
	Number uint32
	// Name is the text; the 16 bytes of a GUID as they are on the wire; the bytes.
	Name string
}

// Forms of a node id on the wire (IEC 62541-6 5.2.2.9).
const (
	formTwoByte   = 0
	formFourByte  = 1
	formNumeric   = 2
	formString    = 3
	formGUID      = 4
	formBytes     = 5
	flagURI       = 0x80
	flagServer    = 0x40
	maxTwoByte    = 0xff
	maxFourByte   = 0xffff
	maxFourByteNS = 0xff
)

func (c *coder) nodeID(id *NodeID) {
	form := byte(formTwoByte)
	switch id.Kind {
	case 's':
		form = formString
	case 'g':
		form = formGUID
	case 'b':
		form = formBytes
	default:
		switch {
		case id.Namespace > maxFourByteNS || id.Number > maxFourByte:
			form = formNumeric
		case id.Namespace > 0 || id.Number > maxTwoByte:
			form = formFourByte
		}
	}
	c.u8(&form)
	c.nodeIDIn(form, id)
}

// nodeIDIn is what follows the form.
func (c *coder) nodeIDIn(form byte, id *NodeID) {
	short, narrow, number := byte(id.Number), uint16(id.Number), id.Number //nolint:gosec // the form was chosen by the size
	ns, name := byte(id.Namespace), id.Name                                //nolint:gosec // the same
	kind := byte('i')
	switch form {
	case formTwoByte:
		c.u8(&short)
		number, id.Namespace = uint32(short), 0
		if number == 0 {
			kind = 0
		}
	case formFourByte:
		c.u8(&ns)
		c.u16(&narrow)
		number, id.Namespace = uint32(narrow), uint16(ns)
	case formNumeric:
		c.u16(&id.Namespace)
		c.u32(&number)
	case formString, formBytes:
		c.u16(&id.Namespace)
		c.text(&name)
		kind, number = 's', 0
		if form == formBytes {
			kind = 'b'
		}
	case formGUID:
		c.u16(&id.Namespace)
		kind, number = 'g', 0
		if !c.reading {
			c.b = append(c.b, (name + strings.Repeat("\x00", 16))[:16]...)
		} else {
			name = string(c.take(16))
		}
	default:
		c.fail(fmt.Errorf("%w: a node id of the form %d", ErrFormat, form))
	}
	if c.reading {
		*id = NodeID{Namespace: id.Namespace, Kind: kind, Number: number, Name: name}
		if kind == 'i' || kind == 0 {
			id.Name = ""
		}
	}
}

// expandedNodeID is only read, and passed over.
func (c *coder) expandedNodeID() {
	var form byte
	var id NodeID
	c.u8(&form)
	c.nodeIDIn(form&^(flagURI|flagServer), &id)
	if form&flagURI != 0 {
		c.skipBytes()
	}
	if form&flagServer != 0 {
		c.take(4)
	}
}

var errNodeID = errors.New(`write it as ns=2;s=Scanner.Scanning or ns=3;i=1001, as the server's own tool shows it`)

// ParseNodeID reads a node id as IEC 62541-6 5.3.1.10 writes it: ns=NUMBER; if the
// namespace is not 0, then i=NUMBER, s=TEXT, g=GUID or b=BASE64. A text goes on to
// the end, whatever is in it.
func ParseNodeID(text string) (NodeID, error) {
	var id NodeID
	rest := text
	if after, ok := strings.CutPrefix(rest, "ns="); ok {
		number, tail, found := strings.Cut(after, ";")
		ns, err := strconv.ParseUint(number, 10, 16)
		if err != nil || !found {
			return id, fmt.Errorf("%q is no node id: after ns= comes a number from 0 to 65535 and a semicolon; %w", text, errNodeID)
		}
		id.Namespace, rest = uint16(ns), tail
	}
	kind, value, found := strings.Cut(rest, "=")
	if !found || len(kind) != 1 || value == "" {
		return id, fmt.Errorf("%q is no node id; %w", text, errNodeID)
	}
	id.Kind = kind[0]
	switch id.Kind {
	case 'i':
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return id, fmt.Errorf("%q is no node id: %q is not a number from 0 to 4294967295; %w", text, value, errNodeID)
		}
		if id.Number = uint32(n); id.Number == 0 && id.Namespace == 0 {
			return id, fmt.Errorf("%q is the id of no node; %w", text, errNodeID)
		}
	case 's':
		id.Name = value
	case 'g':
		b, err := hex.DecodeString(strings.ReplaceAll(value, "-", ""))
		if err != nil || len(b) != 16 || len(value) != 36 {
			return id, fmt.Errorf("%q is no node id: a GUID is written as 09087e75-8e5e-499b-954f-f2a9603db28a", text)
		}
		id.Name = string(swapGUID(b))
	case 'b':
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(b) == 0 {
			return id, fmt.Errorf("%q is no node id: what follows b= is not base64", text)
		}
		id.Name = string(b)
	default:
		return id, fmt.Errorf("%q is no node id; %w", text, errNodeID)
	}
	if len(id.Name) > MaxNodeID {
		return id, fmt.Errorf("the node id has %d bytes, at most %d are allowed", len(id.Name), MaxNodeID)
	}
	return id, nil
}

// swapGUID turns the first three numbers of a GUID, which are little-endian on the
// wire and are written with the highest digit first.
func swapGUID(b []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(b))
	out = binary.LittleEndian.AppendUint16(out, binary.BigEndian.Uint16(b[4:]))
	out = binary.LittleEndian.AppendUint16(out, binary.BigEndian.Uint16(b[6:]))
	return append(out, b[8:16]...)
}

// String writes the id as ParseNodeID reads it.
func (id NodeID) String() string {
	text := ""
	if id.Namespace != 0 {
		text = "ns=" + strconv.Itoa(int(id.Namespace)) + ";"
	}
	switch id.Kind {
	case 's':
		return text + "s=" + id.Name
	case 'b':
		return text + "b=" + base64.StdEncoding.EncodeToString([]byte(id.Name))
	case 'g':
		if len(id.Name) == 16 {
			b := swapGUID([]byte(id.Name))
			return fmt.Sprintf("%sg=%x-%x-%x-%x-%x", text, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		}
	}
	return text + "i=" + strconv.FormatUint(uint64(id.Number), 10)
}
