package simulator

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/simonvetter/modbus"
)

// Bounds and times of the Modbus side of a controller.
const (
	plcAddresses = 64 // of each table
	dropAfter    = 120
	answerAfter  = 300 * time.Millisecond
)

// plcModbusSwitches are what is seen on Modbus beside what the controller does.
var plcModbusSwitches = append(slices.Clone(plcSwitches),
	"word-swap",  // numbers of two registers have the low one first
	"slow-slave", // an answer takes 300 ms, or what the option answer_after says
	"drops-tcp",  // the gateway ends the connection after 120 requests, or what the option drop_after says
)

// plcRegister is where a signal lies.
type plcRegister struct {
	name, table string
	address     int
	words       int     // 0 for a bit
	scale       float64 // the register holds the value divided by it
}

// plcRegisters is the map that the option "map" changes: "kv=holding:20,loop_1=coil:3".
func plcRegisters() []plcRegister {
	bits := []string{
		"scanning", "xray_on", "beam_permit", "interlock_ok", "estop_ok", "door_closed", "warmup", "ready", "conveyor_fwd", "conveyor_rev", "conveyor_stop",
		"loop_1", "loop_2", "barrier_up", "barrier_down", "barrier_moving", "barrier_fault", "light_red", "light_amber", "light_green", "curtain", "estop",
	}
	list := make([]plcRegister, 0, len(plcSignals))
	for i, name := range bits {
		list = append(list, plcRegister{name: name, table: "discrete", address: i})
	}
	return append(list,
		plcRegister{"life_counter", "holding", 0, 1, 1}, plcRegister{"scan_counter", "holding", 1, 2, 1}, plcRegister{"fault_code", "holding", 3, 1, 1},
		plcRegister{"mode", "holding", 4, 1, 1}, plcRegister{"kv", "input", 0, 1, 0.1}, plcRegister{"ma", "input", 1, 1, 0.01},
		plcRegister{"dose_rate", "input", 2, 1, 0.01}, plcRegister{"tube_hours", "input", 3, 2, 1}, plcRegister{"image_disk_free_pct", "input", 5, 1, 1},
	)
}

// plcModbus serves a controller over Modbus TCP. Clients come to a gateway, which is a
// listener of this program, and from there to the library's server.
type plcModbus struct {
	*plc
	*modbusFront
	registers []plcRegister
	missing   map[string]bool
	dropAfter int
	slow      time.Duration
	lowFirst  bool
	requests  int // under the front's lock
}

func newPLCModbus(env cameraEnv) (cameraModel, error) {
	s := env.Settings
	m := &plcModbus{plc: newPLC(env), registers: plcRegisters(), missing: map[string]bool{}, lowFirst: s.Has("word-swap")}
	if err := m.remap(s.Options["map"]); err != nil {
		return nil, err
	}
	for at := range strings.SplitSeq(s.Options["missing"], ",") {
		m.missing[strings.TrimSpace(at)] = true
	}
	if s.Has("drops-tcp") {
		m.dropAfter = dropAfter
		if text := s.Options["drop_after"]; text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("drop_after: %q is no number of requests", text)
			}
			m.dropAfter = n
		}
	}
	if s.Has("slow-slave") {
		m.slow = answerAfter
		if text := s.Options["answer_after"]; text != "" {
			d, err := time.ParseDuration(text)
			if err != nil || d < 0 || d > time.Minute {
				return nil, fmt.Errorf("answer_after: %q is no time up to 1m", text)
			}
			m.slow = d
		}
	}
	var err error
	if m.modbusFront, err = newModbusFront(env); err != nil {
		return nil, err
	}
	if err := m.serve(m); err != nil {
		return nil, err
	}
	return m, nil
}

// remap reads the option map.
func (m *plcModbus) remap(text string) error {
	if text == "" {
		return nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, at, _ := strings.Cut(strings.TrimSpace(pair), "=")
		table, number, _ := strings.Cut(at, ":")
		address, err := strconv.Atoi(number)
		i := slices.IndexFunc(m.registers, func(r plcRegister) bool { return r.name == name })
		switch bit := table == "coil" || table == "discrete"; {
		case i < 0:
			return fmt.Errorf("map: there is no signal %q", name)
		case err != nil || address < 0 || address+max(m.registers[i].words, 1) > plcAddresses || !bit && table != "holding" && table != "input":
			return fmt.Errorf("map: %q is no address; write holding:3, input, coil or discrete, up to %d", at, plcAddresses-1)
		case bit && m.registers[i].words > 0:
			return fmt.Errorf("map: %s is a number and does not fit into a %s", name, table)
		case !bit && m.registers[i].words == 0:
			m.registers[i].words, m.registers[i].scale = 1, 1
		}
		m.registers[i].table, m.registers[i].address = table, address
	}
	return nil
}

// answer reads a range of a table.
func (m *plcModbus) answer(table string, from, n int) ([]uint16, error) {
	if m.slow > 0 {
		time.Sleep(m.slow) // that is what it takes
	}
	m.connection.Lock()
	m.requests++
	drop := m.dropAfter > 0 && m.requests%m.dropAfter == 0
	m.connection.Unlock()
	if drop {
		m.drop(false)
		return nil, modbus.ErrServerDeviceBusy
	}
	if from+n > plcAddresses {
		return nil, modbus.ErrIllegalDataAddress
	}
	for a := from; a < from+n; a++ {
		if m.missing[table+":"+strconv.Itoa(a)] {
			return nil, modbus.ErrIllegalDataAddress
		}
	}
	values := m.look(len(table)<<16 | from)
	words := make([]uint16, plcAddresses)
	for _, r := range m.registers {
		switch {
		case r.table != table:
		case r.words == 0:
			words[r.address] = uint16(values[r.name])
		case r.words == 1:
			words[r.address] = uint16(math.Round(values[r.name] / r.scale))
		default:
			v := uint32(math.Round(values[r.name] / r.scale))
			high, low := uint16(v>>16), uint16(v) //nolint:gosec // the two halves
			if m.lowFirst {
				high, low = low, high
			}
			words[r.address], words[r.address+1] = high, low
		}
	}
	return words[from : from+n], nil
}

func (m *plcModbus) bits(table string, from, n uint16) ([]bool, error) {
	words, err := m.answer(table, int(from), int(n))
	list := make([]bool, len(words))
	for i, w := range words {
		list[i] = w != 0
	}
	return list, err
}

// wrote notes that somebody wanted to write, which the controller refuses.
func (m *plcModbus) wrote() error {
	m.env.Event("written")
	return modbus.ErrIllegalFunction
}

// HandleCoils implements modbus.RequestHandler.
func (m *plcModbus) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	if r.IsWrite {
		return nil, m.wrote()
	}
	return m.bits("coil", r.Addr, r.Quantity)
}

// HandleDiscreteInputs implements modbus.RequestHandler.
func (m *plcModbus) HandleDiscreteInputs(r *modbus.DiscreteInputsRequest) ([]bool, error) {
	return m.bits("discrete", r.Addr, r.Quantity)
}

// HandleHoldingRegisters implements modbus.RequestHandler.
func (m *plcModbus) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	if r.IsWrite {
		return nil, m.wrote()
	}
	return m.answer("holding", int(r.Addr), int(r.Quantity))
}

// HandleInputRegisters implements modbus.RequestHandler.
func (m *plcModbus) HandleInputRegisters(r *modbus.InputRegistersRequest) ([]uint16, error) {
	return m.answer("input", int(r.Addr), int(r.Quantity))
}
