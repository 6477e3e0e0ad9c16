package link

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a Modbus request, from the Modbus Application Protocol V1.1b3, 6.1 to 6.4.
const (
	maxBits      = 2000
	maxRegisters = 125
)

// The tables of Modbus and the functions that read them. No other function is ever sent.
const (
	readCoils     = 1
	readDiscrete  = 2
	readHolding   = 3
	readInput     = 4
	maxAddress    = 0xffff
	bitsOfOne     = 16 // of one register
	swappedSuffix = "_bytes_swapped"
)

var registerTables = map[string]byte{"coil": readCoils, "discrete": readDiscrete, "holding": readHolding, "input": readInput}

// registerTypes gives the number of registers of each type.
var registerTypes = map[string]int{"bool": 1, "u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2, "u64": 4, "i64": 4, "f64": 4}

var wordOrders = []string{"high_first", "low_first", "high_first" + swappedSuffix, "low_first" + swappedSuffix}

var (
	errNotANumber = errors.New("the registers hold no number (NaN or infinity); check type and words")
	errNotExact   = errors.New("is too large to be taken exactly; check type and words")
)

// register is a Point of Modbus, taken apart.
type register struct {
	function byte
	address  int
	width    int // registers, or one bit of a table of bits
	kind     string
	lowFirst bool
	swapped  bool
	bit      int // -1 for the whole
}

// isNodeID says whether an address is written like a node id of OPC UA.
func isNodeID(at string) bool {
	for _, prefix := range []string{"ns=", "nsu=", "i=", "s=", "g=", "b="} {
		if strings.HasPrefix(at, prefix) {
			return true
		}
	}
	return false
}

// parseRegister reads a Point of Modbus.
func parseRegister(p Point) (register, error) {
	const how = "write table:address, as in coil:3, discrete:10, holding:100 or input:7; the address is the one that travels, counted from 0: what a manual calls 40001 is holding:0"
	table, number, found := strings.Cut(p.At, ":")
	r := register{bit: -1, width: 1}
	var known bool
	if r.function, known = registerTables[table]; !found || !known {
		return r, fmt.Errorf("%q: %w%s; %s", echo(p.At), errPoint, didYouMean(table, slices.Sorted(maps.Keys(registerTables))), how)
	}
	var err error
	if r.address, err = strconv.Atoi(number); err != nil || strconv.Itoa(r.address) != number || r.address < 0 || r.address > maxAddress {
		return r, fmt.Errorf("%q: the address is not a whole number from 0 to %d; %s", echo(p.At), maxAddress, how)
	}
	if r.bits() {
		r.kind = "bool"
		if p.Type != "" && p.Type != "bool" || p.Words != "" || p.Bit != nil {
			return r, fmt.Errorf("%s: coils and discrete inputs are single bits; take out type, words and bit", p.At)
		}
		return r, nil
	}
	r.kind = "u16"
	if p.Type != "" {
		r.kind = p.Type
	}
	if r.width, known = registerTypes[r.kind]; !known {
		names := slices.Sorted(maps.Keys(registerTypes))
		return r, fmt.Errorf("%s: type %q is none of %s%s", p.At, echo(p.Type), list(names, "or"), didYouMean(p.Type, names))
	}
	if r.address+r.width-1 > maxAddress {
		return r, fmt.Errorf("%s: a %s from there on would end beyond address %d", p.At, r.kind, maxAddress)
	}
	if p.Words != "" && !slices.Contains(wordOrders, p.Words) {
		return r, fmt.Errorf("%s: words %q is none of %s%s", p.At, echo(p.Words), list(wordOrders, "or"), didYouMean(p.Words, wordOrders))
	}
	r.lowFirst, r.swapped = strings.HasPrefix(p.Words, "low_first"), strings.HasSuffix(p.Words, swappedSuffix)
	if p.Bit != nil {
		r.bit = *p.Bit
		if strings.HasPrefix(r.kind, "f") || r.kind == "bool" || r.bit < 0 || r.bit >= bitsOfOne*r.width {
			return r, fmt.Errorf("%s: bit %d of a %s; take 0 to 15 of a u16, to 31 of a u32, to 63 of a u64", p.At, r.bit, r.kind)
		}
	}
	return r, nil
}

// bits says whether the register is in a table of bits.
func (r register) bits() bool { return r.function == readCoils || r.function == readDiscrete }

// maxExact is the largest integer that a float64 has exactly, as those below it.
const maxExact = 1 << 53

// value makes a number of registers, the one of the lowest address first. An integer that
// would be rounded is an error, as it is of OPC UA.
func (r register) value(words []uint16) (float64, error) {
	var all uint64
	for i := range words {
		w := words[i]
		if r.lowFirst {
			w = words[len(words)-1-i]
		}
		if r.swapped {
			w = w<<8 | w>>8
		}
		all = all<<16 | uint64(w)
	}
	if r.bit >= 0 {
		return float64(all >> r.bit & 1), nil
	}
	v := 0.0
	switch r.kind {
	case "bool":
		if all != 0 {
			v = 1
		}
	case "i16":
		v = float64(int16(all)) //nolint:gosec // the sign is what is wanted
	case "i32":
		v = float64(int32(all)) //nolint:gosec // as above
	case "i64":
		n := int64(all) //nolint:gosec // as above
		if n > maxExact || n < -maxExact {
			return 0, fmt.Errorf("the value %d %w", n, errNotExact)
		}
		v = float64(n)
	case "f32":
		v = float64(math.Float32frombits(uint32(all))) //nolint:gosec // two registers
	case "f64":
		v = math.Float64frombits(all)
	default:
		if all > maxExact {
			return 0, fmt.Errorf("the value %d %w", all, errNotExact)
		}
		v = float64(all)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, errNotANumber
	}
	return v, nil
}
