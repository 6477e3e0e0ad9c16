package aspect

import "fmt"

// Bit is one bit of a register.
type Bit struct {
	Mask uint16
	Name string
}

// Status is the state of a channel.
type Status uint16

// The bits of a channel's status.
const (
	Alarm1    Status = 0x0001
	Alarm2    Status = 0x0002
	LowCount  Status = 0x0010
	HighCount Status = 0x0020
	Overload  Status = 0x0040
	Ready     Status = 0x0080
	// N0 is the first of eight bits, one for each detector.
	N0 Status = 0x0100
)

// Inputs are the portal's input signals.
type Inputs uint16

// The bits of the inputs.
const (
	Occup0        Inputs = 0x0001
	Occup1        Inputs = 0x0002
	Occup2        Inputs = 0x0004
	Occup3        Inputs = 0x0008
	Button        Inputs = 0x0010
	Sensor        Inputs = 0x0020
	Direction0To1 Inputs = 0x0040
	Direction1To0 Inputs = 0x0080
	PowerFail     Inputs = 0x0100
	LowBattery    Inputs = 0x0200
	Open          Inputs = 0x0400
	Error         Inputs = 0x0800
	Reset         Inputs = 0x8000
)

// Masks over the inputs.
const (
	OccupMask   = Occup0 | Occup1 | Occup2 | Occup3
	WarningMask = Inputs(0x8500)
	FailureMask = Inputs(0x0A00)
)

// Outputs are the portal's output signals.
type Outputs uint16

// The bits of the outputs.
const (
	OutAlarm      Outputs = 0x0001
	OutVideo      Outputs = 0x0002
	OutYellow     Outputs = 0x0004
	OutFastFlash  Outputs = 0x0008
	OutSlowFlash  Outputs = 0x0010
	OutBusy       Outputs = 0x0020
	OutAdaptation Outputs = 0x0040
	OutEntryGreen Outputs = 0x0100
	OutExitGreen  Outputs = 0x0200
	OutExitArrow  Outputs = 0x0400
)

// Tables of the bits, the lowest first.
var (
	statusBits = [...]Bit{
		{0x0001, "alarm1"}, {0x0002, "alarm2"}, {0x0010, "low_count"}, {0x0020, "high_count"}, {0x0040, "overload"}, {0x0080, "ready"},
		{0x0100, "n0"}, {0x0200, "n1"}, {0x0400, "n2"}, {0x0800, "n3"}, {0x1000, "n4"}, {0x2000, "n5"}, {0x4000, "n6"}, {0x8000, "n7"},
	}
	inputBits = [...]Bit{
		{0x0001, "occup0"}, {0x0002, "occup1"}, {0x0004, "occup2"}, {0x0008, "occup3"}, {0x0010, "button"}, {0x0020, "sensor"},
		{0x0040, "direction_0_to_1"}, {0x0080, "direction_1_to_0"}, {0x0100, "power_fail"}, {0x0200, "low_battery"}, {0x0400, "open"},
		{0x0800, "error"}, {0x8000, "reset"},
	}
	outputBits = [...]Bit{
		{0x0001, "alarm"}, {0x0002, "video"}, {0x0004, "yellow"}, {0x0008, "fast_flash"}, {0x0010, "slow_flash"}, {0x0020, "busy"},
		{0x0040, "adaptation"}, {0x0100, "entry_green"}, {0x0200, "exit_green"}, {0x0400, "exit_arrow"},
	}
)

func names(v uint16, table []Bit) []string {
	list := []string{}
	for _, b := range table {
		if v&b.Mask != 0 {
			list = append(list, b.Name)
			v &^= b.Mask
		}
	}
	for mask := uint16(1); v != 0; mask <<= 1 {
		if v&mask != 0 {
			list = append(list, fmt.Sprintf("0x%04x", mask))
			v &^= mask
		}
	}
	return list
}

// Names gives the names of the bits that are set; one without a meaning is
// written as its number.
func (s Status) Names() []string { return names(uint16(s), statusBits[:]) }

// Names gives the names of the bits that are set; one without a meaning is
// written as its number.
func (i Inputs) Names() []string { return names(uint16(i), inputBits[:]) }

// Names gives the names of the bits that are set; one without a meaning is
// written as its number.
func (o Outputs) Names() []string { return names(uint16(o), outputBits[:]) }

// Alarms says whether the channel alarms, by either of its alarms.
func (s Status) Alarms() bool { return s&(Alarm1|Alarm2) != 0 }

// Occupied says whether something is in the portal.
func (i Inputs) Occupied() bool { return i&OccupMask != 0 }

// Direction is "0_to_1" or "1_to_0", and empty if neither or both are told.
func (i Inputs) Direction() string {
	switch i & (Direction0To1 | Direction1To0) {
	case Direction0To1:
		return "0_to_1"
	case Direction1To0:
		return "1_to_0"
	}
	return ""
}
