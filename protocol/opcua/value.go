package opcua

import (
	"fmt"
	"math"
	"time"
)

// Type is one of the built-in types of a value (IEC 62541-6 5.1.2).
type Type byte

// The types that a value is taken of, and those that other ones are told by.
const (
	Null            Type = 0
	Boolean         Type = 1
	SByte           Type = 2
	Byte            Type = 3
	Int16           Type = 4
	UInt16          Type = 5
	Int32           Type = 6
	UInt32          Type = 7
	Int64           Type = 8
	UInt64          Type = 9
	Float           Type = 10
	Double          Type = 11
	String          Type = 12
	DateTime        Type = 13
	GUID            Type = 14
	ByteString      Type = 15
	XMLElement      Type = 16
	NodeIDType      Type = 17
	ExpandedNodeID  Type = 18
	StatusCodeType  Type = 19
	QualifiedName   Type = 20
	LocalizedText   Type = 21
	ExtensionObject Type = 22
	DataValueType   Type = 23
	VariantType     Type = 24
	DiagnosticInfo  Type = 25
)

var typeNames = [...]string{
	"nothing", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "DateTime", "Guid", "ByteString",
	"XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "ExtensionObject", "DataValue", "Variant", "DiagnosticInfo",
}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Variant is a value with its type. What is no number, no Boolean and no text is
// passed over: only its type is known then. So is an array.
type Variant struct {
	Type Type
	// Array: it is an array; Length is how many elements it has.
	Array  bool
	Length int
	// Bits is the value of a number: 0 or 1 of a Boolean, the two's complement of an
	// integer, the IEEE 754 double of a Float or a Double.
	Bits uint64
	// Text is that of a String or of a LocalizedText.
	Text string
}

// Number is the value as a float64. It fails for what is no number, is an array, is
// no finite number, or is an integer that a float64 does not have exactly.
func (v Variant) Number() (float64, error) {
	const exact = 1 << 53
	switch {
	case v.Array:
		return 0, fmt.Errorf("the value is an array of %d elements of the type %v, not a single one: name the node of one element", v.Length, v.Type)
	case v.Type == Null:
		return 0, fmt.Errorf("the server says that the value is good and gives none")
	case v.Type == Float, v.Type == Double:
		f := math.Float64frombits(v.Bits)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, fmt.Errorf("the value is %v, which is no number", f)
		}
		return f, nil
	case v.Type == SByte, v.Type == Int16, v.Type == Int32, v.Type == Int64:
		n := int64(v.Bits) //nolint:gosec // two's complement
		if n > exact || n < -exact {
			return 0, fmt.Errorf("the value %d is too large to be taken exactly", n)
		}
		return float64(n), nil
	case v.Type >= Boolean && v.Type <= UInt64:
		if v.Bits > exact {
			return 0, fmt.Errorf("the value %d is too large to be taken exactly", v.Bits)
		}
		return float64(v.Bits), nil
	}
	return 0, fmt.Errorf("the value is of the type %v, which is neither a number nor a Boolean", v.Type)
}

// Bit is one bit of an integer, 0 the lowest.
func (v Variant) Bit(n int) (bool, error) {
	sizes := [...]int{SByte: 8, Byte: 8, Int16: 16, UInt16: 16, Int32: 32, UInt32: 32, Int64: 64, UInt64: 64}
	if v.Array || int(v.Type) >= len(sizes) || sizes[v.Type] == 0 {
		return false, fmt.Errorf("the value is of the type %v, which has no bits", v.Type)
	}
	if n < 0 || n >= sizes[v.Type] {
		return false, fmt.Errorf("bit %d of a value of the type %v: it has the bits 0 to %d", n, v.Type, sizes[v.Type]-1)
	}
	return v.Bits>>n&1 != 0, nil
}

const (
	variantArray      = 0x80
	variantDimensions = 0x40
)

func (c *coder) variant(v *Variant) {
	mask := byte(v.Type)
	if !c.reading && v.Array {
		c.fail(fmt.Errorf("%w: arrays are read and not written", ErrBound))
		return
	}
	c.u8(&mask)
	if !c.reading {
		c.scalar(v)
		return
	}
	*v = Variant{Type: Type(mask & 0x3f), Array: mask&variantArray != 0}
	if !v.Array {
		if mask&variantDimensions != 0 {
			c.fail(fmt.Errorf("%w: a single value with dimensions", ErrFormat))
			return
		}
		c.within(func() { c.scalar(v) })
		return
	}
	var n uint32
	c.u32(&n)
	if n == math.MaxUint32 {
		n = 0
	}
	// Elements without a type take no room, so that a message could ask for any number of them.
	if v.Type == Null && n > 0 {
		c.fail(fmt.Errorf("%w: an array of %d elements that have no type", ErrFormat, n))
		return
	}
	if int64(n) > int64(len(c.b)) {
		c.fail(ErrShort)
		return
	}
	v.Length = int(n)
	c.within(func() {
		for range n {
			if c.scalar(&Variant{Type: v.Type}); c.err != nil {
				return
			}
		}
	})
	if mask&variantDimensions != 0 {
		c.u32(&n)
		if n != math.MaxUint32 {
			c.take(int(min(4*int64(n), math.MaxInt32)))
		}
	}
}

// scalar is the value without its type.
func (c *coder) scalar(v *Variant) {
	b8, b16, b32 := byte(v.Bits), uint16(v.Bits), uint32(v.Bits) //nolint:gosec // as wide as the type
	switch v.Type {
	case Null:
	case Boolean, Byte:
		c.u8(&b8)
		v.Bits = uint64(b8)
		if v.Type == Boolean && b8 != 0 {
			v.Bits = 1
		}
	case SByte:
		c.u8(&b8)
		v.Bits = uint64(int8(b8)) //nolint:gosec // two's complement
	case Int16:
		c.u16(&b16)
		v.Bits = uint64(int16(b16)) //nolint:gosec // two's complement
	case UInt16:
		c.u16(&b16)
		v.Bits = uint64(b16)
	case Int32:
		c.u32(&b32)
		v.Bits = uint64(int32(b32)) //nolint:gosec // two's complement
	case UInt32, StatusCodeType:
		c.u32(&b32)
		v.Bits = uint64(b32)
	case Int64, UInt64, Double, DateTime:
		c.u64(&v.Bits)
	case Float:
		b32 = math.Float32bits(float32(math.Float64frombits(v.Bits)))
		c.u32(&b32)
		v.Bits = math.Float64bits(float64(math.Float32frombits(b32)))
	case String:
		c.text(&v.Text)
	case LocalizedText:
		c.localizedText(&v.Text)
	default:
		c.pass(v.Type)
	}
}

// pass passes over a value that is not kept.
func (c *coder) pass(t Type) {
	if !c.reading {
		c.fail(fmt.Errorf("%w: values of the type %v are read and not written", ErrBound, t))
		return
	}
	switch t {
	case GUID:
		c.take(16)
	case ByteString, XMLElement:
		c.skipBytes()
	case NodeIDType:
		c.nodeID(&NodeID{})
	case ExpandedNodeID:
		c.expandedNodeID()
	case QualifiedName:
		c.take(2)
		c.skipBytes()
	case ExtensionObject:
		var form byte
		c.nodeID(&NodeID{})
		if c.u8(&form); form != 0 {
			c.skipBytes()
		}
	case DataValueType:
		c.within(func() { c.dataValue(&DataValue{}) })
	case VariantType:
		c.within(func() { c.variant(&Variant{}) })
	case DiagnosticInfo:
		c.diagnostics()
	default:
		c.fail(fmt.Errorf("%w: a value of the type %d", ErrFormat, byte(t)))
	}
}

// DataValue is what is read of a node.
type DataValue struct {
	Value  Variant
	Status Status
	// Source is the time of the value at its source, Server that at the server; zero
	// if there is none.
	Source, Server time.Time
}

func (c *coder) dataValue(d *DataValue) {
	var mask byte
	for bit, has := range map[byte]bool{1: d.Value.Type != Null, 2: d.Status != 0, 4: !d.Source.IsZero(), 8: !d.Server.IsZero()} {
		if has {
			mask |= bit
		}
	}
	c.u8(&mask)
	if c.reading {
		*d = DataValue{}
	}
	if mask&1 != 0 {
		c.variant(&d.Value)
	}
	if mask&2 != 0 {
		c.u32((*uint32)(&d.Status))
	}
	if mask&4 != 0 {
		c.time(&d.Source)
	}
	if mask&0x10 != 0 {
		c.take(2) // picoseconds
	}
	if mask&8 != 0 {
		c.time(&d.Server)
	}
	if mask&0x20 != 0 {
		c.take(2)
	}
}
