package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/protocol/opcua"
)

// MaxPoints bounds the points of one bus.
const MaxPoints = 512

// Point names one value on an instrument's register bus, in the bus's own terms.
type Point struct {
	// At is the address. Modbus: the table and the address as it travels, counted from 0:
	// "coil:3", "discrete:10", "holding:100", "input:7". OPC UA: a node id, as in
	// "ns=2;s=Line.Scanning".
	At string
	// Type is how Modbus registers make a number: bool, u16, i16, u32, i32, u64, i64, f32
	// or f64. Empty is bool for coils and discrete inputs, u16 for registers, and all that
	// there is for OPC UA, whose values have a type.
	Type string
	// Words is the order in which a number lies in 16-bit registers: "high_first" (also
	// when empty) or "low_first", each with "_bytes_swapped" if the two bytes of every
	// register are exchanged as well. OPC UA: empty.
	Words string
	// Bit takes one bit of an integer, 0 the lowest.
	Bit *int
}

// Sample is the value of one point.
type Sample struct {
	// Value is the number; a bool is 0 or 1. It means nothing if Err is set.
	Value float64
	// Err says why there is no value: an exception of Modbus, a bad status of OPC UA.
	Err error
	// At is the instrument's own time of the value, zero if it tells none.
	At time.Time
}

// Bus is a link to registers that are only ever read.
type Bus interface {
	Conn
	// Sample reads all points, in as few requests as the bus allows, and gives as many
	// samples in the same order. A point that can't be read has an error of its own; an
	// error of Sample is one of the link, which is of no use then. One goroutine samples;
	// Close and SetReadDeadline end it from any other.
	Sample(ctx context.Context, points []Point) ([]Sample, error)
}

// errPoint: an address is not one of the bus's.
var errPoint = errors.New("no address of this bus")

// CheckPoint finds what is wrong with a point before a bus is opened, as far as it can be
// seen without knowing which kind of bus it will be.
func CheckPoint(p Point) error {
	if isNodeID(p.At) {
		return checkNode(p)
	}
	_, err := parseRegister(p)
	return err
}

// checkNode checks a point of OPC UA, whose values say themselves what they are.
func checkNode(p Point) error {
	if p.Type != "" || p.Words != "" {
		return fmt.Errorf("%s: type and words are Modbus's; the value of an OPC UA node has a type of its own, take them out", echo(p.At))
	}
	if p.Bit != nil && (*p.Bit < 0 || *p.Bit > 63) {
		return fmt.Errorf("%s: bit %d; take 0 to 63", echo(p.At), *p.Bit)
	}
	_, err := opcua.ParseNodeID(p.At)
	return err
}
