// Package aspect holds the registers of Aspect radiation portals, which are read over
// Modbus with function 03: a description of eight registers at address 0, and one block
// with what the portal measures and sees.
//
// No document of the maker is public. Everything here is what the driver
// sensorhub-driver-aspect of Botts Innovative Research reads (commit aaefbb79). It does not
// say of which time the counts and backgrounds are, nor what the bits N0 to N7 of a channel
// tell; both are given as they come.
package aspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Where things lie.
const (
	// DescriptionAddress and DescriptionSize are of the description.
	DescriptionAddress = 0
	DescriptionSize    = 8
	// FixedBase is where the block lies if no description says otherwise, BlockSize how many
	// registers of it have a meaning.
	FixedBase = 100
	BlockSize = 21
	// minSize holds the inputs and the status of the gamma channel: with less there is
	// nothing to watch a passage by.
	minSize = 4
	// addresses is how many there are in a table of Modbus.
	addresses = 1 << 16
)

// Map is where the block lies.
type Map struct {
	// Base is the address of its first register, Size how many registers it has.
	Base, Size int
}

// Fixed is the map of portals without a description.
func Fixed() Map { return Map{FixedBase, BlockSize} }

// Readable is how many registers of the block have a meaning and are there.
func (m Map) Readable() int { return min(m.Size, BlockSize) }

// Description is what the portal says of its registers.
type Description struct {
	// Signature is the portal's own; which values there are is not known.
	Signature uint16
	// Registers is the count of registers.
	Registers uint16
	// BlockID, Base and Size are of the block.
	BlockID, Base, Size uint16
	// Rest is not understood.
	Rest [3]uint16
}

// Errors of descriptions.
var (
	// ErrNoDescription: where it should be there are zeros only.
	ErrNoDescription = errors.New("there is no description: its registers are all zero")
	// ErrImpossible: there can be no such block.
	ErrImpossible = errors.New("the description is impossible")
)

// ParseDescription reads the registers of the description.
func ParseDescription(words [DescriptionSize]uint16) (Description, error) {
	if words == ([DescriptionSize]uint16{}) {
		return Description{}, ErrNoDescription
	}
	return Description{
		Signature: words[0], Registers: words[1], BlockID: words[2], Base: words[3], Size: words[4],
		Rest: [3]uint16(words[5:]),
	}, nil
}

// Words gives the registers.
func (d Description) Words() [DescriptionSize]uint16 {
	return [DescriptionSize]uint16{d.Signature, d.Registers, d.BlockID, d.Base, d.Size, d.Rest[0], d.Rest[1], d.Rest[2]}
}

// Map gives the place of the block. What can't be is ErrImpossible with the reason.
func (d Description) Map() (Map, error) {
	m := Map{int(d.Base), int(d.Size)}
	switch {
	case m.Size < minSize:
		return Map{}, fmt.Errorf("%w: a block of %d registers does not hold the inputs and the gamma channel's status", ErrImpossible, m.Size)
	case m.Base < DescriptionAddress+DescriptionSize:
		return Map{}, fmt.Errorf("%w: a block at address %d would lie over the description itself", ErrImpossible, m.Base)
	case m.Base+m.Size > addresses:
		return Map{}, fmt.Errorf("%w: %d registers from address %d on would end beyond address %d", ErrImpossible, m.Size, m.Base, addresses-1)
	}
	return m, nil
}

// Field is one value of the block.
type Field int

// The fields, in the order in which they lie.
const (
	Elapsed Field = iota
	InputSignals
	GammaStatus
	GammaCount
	GammaBackground
	GammaVariance
	NeutronStatus
	NeutronCount
	NeutronBackground
	NeutronVariance
	ObjectCounter
	ObjectMark
	ObjectSpeed
	OutputSignals
	fieldCount
)

// places says where each field lies in the block. A field of two registers has its low
// word first.
var places = [fieldCount]struct {
	name          string
	offset, width int
}{
	Elapsed:           {"time_elapsed", 0, 2},
	InputSignals:      {"input_signals", 2, 1},
	GammaStatus:       {"gamma_status", 3, 1},
	GammaCount:        {"gamma_count", 4, 2},
	GammaBackground:   {"gamma_background", 6, 2},
	GammaVariance:     {"gamma_variance", 8, 2},
	NeutronStatus:     {"neutron_status", 10, 1},
	NeutronCount:      {"neutron_count", 11, 2},
	NeutronBackground: {"neutron_background", 13, 2},
	NeutronVariance:   {"neutron_variance", 15, 2},
	ObjectCounter:     {"object_counter", 17, 1},
	ObjectMark:        {"object_mark", 18, 1},
	ObjectSpeed:       {"object_speed", 19, 1},
	OutputSignals:     {"output_signals", 20, 1},
}

// String is the field's name.
func (f Field) String() string {
	if f < 0 || f >= fieldCount {
		return fmt.Sprintf("field %d", int(f))
	}
	return places[f].name
}

// Offset is the place of the field's first register in the block.
func (f Field) Offset() int { return places[f].offset }

// Fields are those of a block that were read.
type Fields uint16

// Has says whether all of some fields are among them.
func (f Fields) Has(fields ...Field) bool {
	for _, x := range fields {
		if f&(1<<x) == 0 {
			return false
		}
	}
	return true
}

// With adds a field.
func (f Fields) With(x Field) Fields { return f | 1<<x }

// AllFields are all.
const AllFields Fields = 1<<fieldCount - 1

// Channel is what the block has of one kind of detectors.
type Channel struct {
	Status Status
	// Count is of a time that is not known. Background and Variance are not negative.
	Count                uint32
	Background, Variance float32
}

// Block is what the portal measures and sees.
type Block struct {
	// Read are the fields that the others of this type hold; the rest is not zero but
	// unknown.
	Read Fields
	// Elapsed is a time, of a unit and since a moment that are not known.
	Elapsed        uint32
	Inputs         Inputs
	Gamma, Neutron Channel
	// Objects counts what passes, and begins anew after 65535.
	Objects uint16
	// Mark is a mark of the object, by Botts its wheels. Speed is in mm/s.
	Mark, Speed uint16
	Outputs     Outputs
}

// Registers are those of a block, with which of them were read.
type Registers struct {
	Words [BlockSize]uint16
	Read  [BlockSize]bool
}

// Bytes gives those that were read as they travel.
func (r Registers) Bytes() []byte {
	b := make([]byte, 0, 2*BlockSize)
	for i, w := range r.Words {
		if r.Read[i] {
			b = binary.BigEndian.AppendUint16(b, w)
		}
	}
	return b
}

// Decode reads a block. A field is read when all its registers were. A background or a
// variance that is no number, negative, or more than a count can be, is not read, and why says
// so; why is nil if there is none.
func Decode(r Registers) (b Block, why error) {
	var errs []error
	var raw [fieldCount]uint32
	for f, p := range places {
		read := true
		for i := range p.width {
			read = read && r.Read[p.offset+i]
			raw[f] |= uint32(r.Words[p.offset+i]) << (16 * i)
		}
		if read {
			b.Read = b.Read.With(Field(f))
		}
	}
	word := func(f Field) uint16 {
		if !b.Read.Has(f) {
			return 0
		}
		return uint16(raw[f]) //nolint:gosec // one register
	}
	long := func(f Field) uint32 {
		if !b.Read.Has(f) {
			return 0
		}
		return raw[f]
	}
	float := func(f Field) float32 {
		v := math.Float32frombits(raw[f])
		switch x := float64(v); {
		case !b.Read.Has(f):
			return 0
		case math.IsNaN(x), math.IsInf(x, 0), x < 0, x > math.MaxUint32:
			b.Read &^= 1 << f
			errs = append(errs, fmt.Errorf("%s is %g, which it can't be; it was taken as not read", f, x))
			return 0
		}
		return v
	}
	b.Elapsed, b.Inputs, b.Outputs = long(Elapsed), Inputs(word(InputSignals)), Outputs(word(OutputSignals))
	b.Gamma = Channel{Status(word(GammaStatus)), long(GammaCount), float(GammaBackground), float(GammaVariance)}
	b.Neutron = Channel{Status(word(NeutronStatus)), long(NeutronCount), float(NeutronBackground), float(NeutronVariance)}
	b.Objects, b.Mark, b.Speed = word(ObjectCounter), word(ObjectMark), word(ObjectSpeed)
	return b, errors.Join(errs...)
}

// Encode gives the registers of what is in the block's Read.
func (b Block) Encode() Registers {
	raw := [fieldCount]uint32{
		b.Elapsed, uint32(b.Inputs),
		uint32(b.Gamma.Status), b.Gamma.Count, math.Float32bits(b.Gamma.Background), math.Float32bits(b.Gamma.Variance),
		uint32(b.Neutron.Status), b.Neutron.Count, math.Float32bits(b.Neutron.Background), math.Float32bits(b.Neutron.Variance),
		uint32(b.Objects), uint32(b.Mark), uint32(b.Speed), uint32(b.Outputs),
	}
	var r Registers
	for f, p := range places {
		if !b.Read.Has(Field(f)) {
			continue
		}
		for i := range p.width {
			r.Words[p.offset+i] = uint16(raw[f] >> (16 * i)) //nolint:gosec // one of its words
			r.Read[p.offset+i] = true
		}
	}
	return r
}

// Step says how many objects came between two looks at the counter, over its wrap as well.
// A step of more than limit is a counter that was set back, of which nothing is known.
func Step(before, after uint16, limit int) (objects int, restarted bool) {
	objects = int(after - before) // modulo 65536
	if objects > limit {
		return 0, true
	}
	return objects, false
}

// KPH is a speed in km/h.
func KPH(mmPerSecond uint16) float64 { return float64(mmPerSecond) * 3.6 / 1000 }
