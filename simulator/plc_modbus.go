package simulator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/simonvetter/modbus"
)

// Bounds and times of the Modbus side of a controller.
const (
	plcAddresses = 64 // of each table
	dropAfter    = 120
	answerAfter  = 300 * time.Millisecond
	plcIdle      = 10 * time.Minute
	plcClients   = 16
	startTries   = 20
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
	registers  []plcRegister
	missing    map[string]bool
	dropAfter  int
	slow       time.Duration
	lowFirst   bool
	front      net.Listener
	server     *modbus.ModbusServer
	behind     string
	side       sync.WaitGroup
	connection sync.Mutex // of what follows
	conns      map[net.Conn]bool
	closed     bool
	requests   int
}

func newPLCModbus(env cameraEnv) (cameraModel, error) {
	s := env.Settings
	if err := s.Only(plcModbusSwitches, []string{"map", "missing", "drop_after", "answer_after"}); err != nil {
		return nil, err
	}
	m := &plcModbus{plc: newPLC(env), registers: plcRegisters(), missing: map[string]bool{}, lowFirst: s.Has("word-swap"), front: env.Listener, conns: map[net.Conn]bool{}}
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
	if m.front == nil {
		return nil, errors.New("a controller is reached over tcp")
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	m.side.Go(m.accept)
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

// start starts the library's server, which wants to know its port before.
func (m *plcModbus) start() error {
	var failed error
	for range startTries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a port: %w", err)
		}
		m.behind = l.Addr().String()
		if err := l.Close(); err != nil {
			return fmt.Errorf("find a port: %w", err)
		}
		m.server, err = modbus.NewServer(&modbus.ServerConfiguration{
			URL: "tcp://" + m.behind, Timeout: plcIdle, MaxClients: plcClients, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		}, m)
		if err == nil {
			err = m.server.Start()
		}
		if failed = err; failed == nil {
			return nil
		}
	}
	return fmt.Errorf("serve Modbus: %w", failed)
}

// accept is the gateway.
func (m *plcModbus) accept() {
	for {
		client, err := m.front.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // too many files are open, perhaps
			continue
		}
		device, err := net.Dial("tcp", m.behind)
		if err != nil {
			_ = client.Close() // the controller is off
			continue
		}
		if !m.hold(client, device) {
			_, _ = client.Close(), device.Close() // it is over
			return
		}
		m.env.Event("connected")
		m.side.Go(func() {
			carry(device, client)
			m.release(client, device)
			m.env.Event("disconnected")
		})
		m.side.Go(func() { carry(client, device) })
	}
}

// carry copies until one side ends, and ends both.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from) // however it ends
	_, _ = to.Close(), from.Close()
}

func (m *plcModbus) hold(conns ...net.Conn) bool {
	m.connection.Lock()
	defer m.connection.Unlock()
	for _, c := range conns {
		m.conns[c] = true
	}
	return !m.closed
}

func (m *plcModbus) release(conns ...net.Conn) {
	m.connection.Lock()
	defer m.connection.Unlock()
	for _, c := range conns {
		delete(m.conns, c)
	}
}

// drop ends every connection.
func (m *plcModbus) drop(forGood bool) {
	m.connection.Lock()
	defer m.connection.Unlock()
	m.closed = m.closed || forGood
	for c := range m.conns {
		_ = c.Close() // that is the fault
	}
}

// Close ends the controller.
func (m *plcModbus) Close() error {
	err := m.front.Close()
	m.drop(true)
	m.side.Wait()
	return errors.Join(err, m.server.Stop())
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
