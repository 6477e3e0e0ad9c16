package ratemeter

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	stx = 0x02
	etx = 0x03
	ack = 0x06
	bel = 0x07
	nak = 0x15
)

// radeyeUnits are the units of a RadEye by their number, and how many steps of its values are
// one. From a public program that reads the G10 and SX models; others may differ, and
// then the value goes out as it came.
var radeyeUnits = map[int]struct {
	name  string
	steps float64
}{
	0: {"uSv/h", 100}, 1: {"uGy/h", 100}, 2: {"uR/h", 1}, 3: {"cpm", 100}, 5: {"cps", 100},
	6: {"Bq", 100}, 7: {"dpm", 100}, 8: {"Bq/cm2", 100}, 9: {"dps", 100}, 10: {"urem/h", 1},
}

// Flags of a RadEye.
const (
	radeyeOverload = 1 << 1
	radeyeAlarm    = 1 << 2
	radeyeBattery  = 1 << 5
)

// radeye is what a RadEye sends each second once it was told to: STX, then parted by blanks
// two values with their units, the flags in hexadecimal digits, the model and a dose, ETX.
// There is no check sum. '@' wakes it, which it answers with '>'; ">X1" makes it send.
func radeye(o Options) Format {
	return Format{
		Start: [][]byte{[]byte("@"), []byte(">X1\n")},
		frame: between("\x02", etx), between: "\r\n>#@ ", seven: true,
		parse: func(b []byte) (Reading, error) { return parseRadEye(b, o) },
		append: func(b []byte, r Reading) []byte {
			flags, values := 0, [2]string{"0 0", "0 5"}
			for i, v := range r.Values {
				if i < len(values) && v.Unit == "uSv/h" {
					values[i] = fmt.Sprintf("%.0f 0", v.Value*100)
				} else if i < len(values) {
					values[i] = fmt.Sprintf("%.0f 5", v.Value*100)
				}
			}
			if r.Over {
				flags |= radeyeOverload
			}
			if len(r.Alarms) > 0 {
				flags |= radeyeAlarm
			}
			if hasFault(r, BatteryLow) {
				flags |= radeyeBattery
			}
			return fmt.Appendf(b, "\x02 %s %s %02X %s 120 \r\n\x03", values[0], values[1], flags, r.ID)
		},
	}
}

func parseRadEye(b []byte, o Options) (Reading, error) {
	fields := strings.Fields(string(b[1 : len(b)-1]))
	if len(fields) != 7 && len(fields) != 8 { // an eighth was seen to be cut off unread
		return Reading{}, fmt.Errorf("it has %d fields, and not seven", len(fields))
	}
	flags, err := strconv.ParseUint(fields[4], 16, 16)
	if err != nil {
		return Reading{}, fmt.Errorf("the flags %q are no hexadecimal number", fields[4])
	}
	r := Reading{ID: fields[5], Status: true, Over: flags&radeyeOverload != 0}
	for i := range 2 {
		raw, unit := fields[2*i], fields[2*i+1]
		steps, err := rate(raw)
		if err != nil {
			return Reading{}, err
		}
		number, err := strconv.ParseUint(unit, 10, 8)
		if err != nil {
			return Reading{}, fmt.Errorf("the unit %q is no number", unit)
		}
		if i >= len(o.Channels) || o.Channels[i] == "" {
			continue
		}
		v := Value{Channel: o.Channels[i], Value: steps, Text: raw, UnitText: unit}
		if u, known := radeyeUnits[int(number)]; known {
			v.Value, v.Unit = trim(steps/u.steps), u.name
		}
		r.Values = append(r.Values, v)
	}
	if flags&radeyeAlarm != 0 {
		r.Alarms = []Alarm{{Kind: Threshold}} // which of the values is not told
	}
	if flags&radeyeBattery != 0 {
		r.Faults = []Fault{{BatteryLow, fields[4]}}
	}
	if flags&^(radeyeOverload|radeyeAlarm|radeyeBattery) != 0 {
		r.Flags = []string{FlagStatus}
	}
	return r, nil
}

// fht is the line of an FHT 6020, which is asked: BEL, the address in two digits, a command, a
// check sum in two hexadecimal digits, ETX; it answers in the same form, with address and
// command first, then a value in uSv/h, the status of the channel and that of the
// system as four hexadecimal digits, parted by blanks. RM1 is the value of the first
// channel, RM2 of the second. NAK is its word for a parity error or a wrong check sum, ACK
// for a command that has no answer. From two public programs.
func fht(o Options) Format {
	f := Format{
		frame: between("\x06\x07\x15", etx), between: "\r\n", seven: true,
		parse: func(b []byte) (Reading, error) { return parseFHT(b, o) },
		append: func(b []byte, r Reading) []byte {
			for i, c := range o.Channels {
				for _, v := range r.Values {
					if v.Channel == c {
						return appendFHT(b, fmt.Sprintf("%02dRM%d %.4f 0000 0000 ", o.Address, i+1, v.Value))
					}
				}
			}
			return append(b, ack, etx)
		},
	}
	for i, c := range o.Channels {
		if c != "" {
			f.Requests = append(f.Requests, appendFHT(nil, fmt.Sprintf("%02dRM%d", o.Address, i+1)))
		}
	}
	return f
}

func appendFHT(b []byte, text string) []byte {
	frame := append([]byte{bel}, text...)
	return append(append(b, fmt.Appendf(frame, "%02X", sum(frame))...), etx)
}

func parseFHT(b []byte, o Options) (Reading, error) {
	switch {
	case b[0] == nak:
		return Reading{}, fmt.Errorf("it answers NAK: it did not understand the request; look at the line's settings")
	case b[0] == ack:
		return Reading{NoValue: true, Bare: true}, nil
	case len(b) < len("\x0701RM1")+3:
		return Reading{}, fmt.Errorf("an answer has more than %d bytes", len(b))
	}
	text, check := string(b[1:len(b)-3]), string(b[len(b)-3:len(b)-1])
	if want := fmt.Sprintf("%02X", sum(b[:len(b)-3])); o.Checksum != "none" && want != check {
		return Reading{}, fmt.Errorf("the check sum is %q, and not %q", check, want)
	}
	if want := fmt.Sprintf("%02d", o.Address); text[:2] != want {
		return Reading{}, fmt.Errorf("it is from address %q, and not %q", text[:2], want)
	}
	command, rest := text[2:5], text[5:]
	place := int(command[2]) - '1'
	if command[:2] != "RM" || place < 0 || place >= len(o.Channels) || o.Channels[place] == "" {
		return Reading{}, fmt.Errorf("it answers %q, which was not asked", command)
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return Reading{NoValue: true}, nil
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || strings.ContainsAny(fields[0], "xX_pP") {
		return Reading{}, fmt.Errorf("%q is no rate", fields[0])
	}
	r := Reading{Values: []Value{{Channel: o.Channels[place], Value: v, Unit: "uSv/h", Text: fields[0]}}}
	for _, word := range fields[1:] { // what the bits mean is not public
		status, err := strconv.ParseUint(word, 16, 16)
		if err != nil {
			return Reading{}, fmt.Errorf("the status %q is no hexadecimal number", word)
		}
		if status != 0 {
			r.Flags = []string{FlagStatus}
		}
	}
	return r, nil
}
