package opcua

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// coder writes or reads the fields of a message. Each message has one list of its
// fields, which is gone through in both directions.
type coder struct {
	// b is what was written, or what is left to read.
	b       []byte
	reading bool
	depth   int
	err     error
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// take gives the next n bytes to read, nil after an error.
func (c *coder) take(n int) []byte {
	switch {
	case c.err != nil:
		return nil
	case n < 0 || n > len(c.b):
		c.fail(ErrShort)
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *coder) u8(v *byte) {
	if !c.reading {
		c.b = append(c.b, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) u16(v *uint16) {
	if !c.reading {
		c.b = binary.LittleEndian.AppendUint16(c.b, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (c *coder) u32(v *uint32) {
	if !c.reading {
		c.b = binary.LittleEndian.AppendUint32(c.b, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func (c *coder) u64(v *uint64) {
	if !c.reading {
		c.b = binary.LittleEndian.AppendUint64(c.b, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.LittleEndian.Uint64(b)
	}
}

func (c *coder) f64(v *float64) {
	bits := math.Float64bits(*v)
	c.u64(&bits)
	*v = math.Float64frombits(bits)
}

func (c *coder) flag(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	c.u8(&b)
	*v = b != 0
}

// bytes is a byte string; none and empty are both nil when they are read.
func (c *coder) bytes(v *[]byte) {
	n := uint32(math.MaxUint32)
	if len(*v) > 0 {
		n = uint32(len(*v)) //nolint:gosec // bounded by MaxText below
	}
	if !c.reading && len(*v) > MaxText {
		c.fail(fmt.Errorf("%w: a text of %d bytes", ErrBound, len(*v)))
		return
	}
	c.u32(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *v...)
	case n == math.MaxUint32 || n == 0:
		*v = nil
	case n > MaxText:
		c.fail(fmt.Errorf("%w: a text of %d bytes", ErrBound, n))
	default:
		*v = c.take(int(n))
	}
}

// skipBytes passes over a byte string of any length that fits the message.
func (c *coder) skipBytes() {
	var n uint32
	c.u32(&n)
	if n != math.MaxUint32 {
		c.take(int(min(n, math.MaxInt32)))
	}
}

func (c *coder) text(v *string) {
	b := []byte(*v)
	c.bytes(&b)
	if c.reading {
		*v = string(b)
	}
}

// list is an array. each is called for every element in turn.
func list[T any](c *coder, v *[]T, most int, each func(*T)) {
	n := c.count(len(*v), most)
	if c.reading {
		*v = nil
		if n >= 0 {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		if c.err != nil {
			return
		}
		each(&(*v)[i])
	}
}

// count is the length of an array: what is written, or was read; below zero for none. It has no type of its own,
// since each would be another copy in the program.
func (c *coder) count(length, most int) int {
	n := uint32(length) //nolint:gosec // bounded below
	if !c.reading && length > most {
		c.fail(fmt.Errorf("%w: an array of %d elements", ErrBound, length))
		return -1
	}
	c.u32(&n)
	if c.reading {
		if n == math.MaxUint32 || c.err != nil {
			return -1
		}
		// Each element has at least a byte.
		if int64(n) > int64(min(most, len(c.b))) {
			c.fail(fmt.Errorf("%w: an array of %d elements", ErrBound, n))
			return -1
		}
	}
	return int(n)
}

// epoch is the time 0 of the protocol, 1 January 1601, in seconds of Unix.
const epoch = -11644473600

// time is a DateTime: units of 100 ns since 1601. 0 stands for no time at all.
func (c *coder) time(v *time.Time) {
	var ticks uint64
	if !v.IsZero() {
		ticks = uint64((v.Unix()-epoch)*1e7 + int64(v.Nanosecond()/100)) //nolint:gosec // the time of a machine
	}
	c.u64(&ticks)
	if !c.reading {
		return
	}
	*v = time.Time{}
	if at := int64(ticks); at > 0 && at != math.MaxInt64 { //nolint:gosec // the sign is looked at
		*v = time.Unix(at/1e7+epoch, at%1e7*100).UTC()
	}
}

// within bounds how deep values may stand in one another.
func (c *coder) within(f func()) {
	if c.depth++; c.depth > maxDepth {
		c.fail(fmt.Errorf("%w: values within values, %d deep", ErrBound, c.depth))
		return
	}
	f()
	c.depth--
}

// localizedText keeps the text and passes over its language.
func (c *coder) localizedText(v *string) {
	var mask byte
	if *v != "" {
		mask = 2
	}
	c.u8(&mask)
	if mask&1 != 0 {
		c.skipBytes()
	}
	if mask&2 != 0 {
		c.text(v)
	}
}

// diagnostics is a DiagnosticInfo, which is passed over.
func (c *coder) diagnostics() {
	var mask byte
	c.u8(&mask)
	c.within(func() {
		// Numbers of texts in the table of the header.
		for _, bit := range []byte{1, 2, 4, 8} {
			if mask&bit != 0 {
				c.take(4)
			}
		}
		if mask&0x10 != 0 {
			c.skipBytes()
		}
		if mask&0x20 != 0 {
			c.take(4)
		}
		if mask&0x40 != 0 {
			c.diagnostics()
		}
	})
}

// extension is an ExtensionObject in binary form: the id of its type and its fields.
func (c *coder) extension(id *NodeID, body *[]byte) {
	c.nodeID(id)
	var form byte
	if *id != (NodeID{}) {
		form = 1
	}
	c.u8(&form)
	if form == 1 {
		c.bytes(body)
	} else if form == 2 {
		c.skipBytes()
	} else if form != 0 {
		c.fail(fmt.Errorf("%w: an extension object of the form %d", ErrFormat, form))
	}
}
