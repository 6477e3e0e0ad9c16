package simulator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/opcua"
)

// opcuaClients is how many clients a controller takes at a time.
const opcuaClients = 16

// plcOPCUASwitches are what is seen on OPC UA beside what the controller does.
var plcOPCUASwitches = append(slices.Clone(plcSwitches),
	"slow-server", // an answer takes 300 ms, or what the option answer_after says
	"drops-tcp",   // the server ends the connection after 120 reads, or what the option drop_after says
)

// plcOPCUANodes are the types of the nodes; what is not among them is a Boolean. The
// node of a signal is ns=1;s=NAME.
var plcOPCUANodes = map[string]opcua.Type{
	"life_counter": opcua.UInt16, "scan_counter": opcua.UInt32, "fault_code": opcua.UInt16, "mode": opcua.Int32, "kv": opcua.Float,
	"ma": opcua.Float, "dose_rate": opcua.Double, "tube_hours": opcua.UInt32, "image_disk_free_pct": opcua.Byte,
}

// plcOPCUA serves a controller by OPC UA, for reading only.
type plcOPCUA struct {
	*plc
	status    map[string]opcua.Status // of nodes that have no good value
	login     func(user, password string) bool
	slow      time.Duration
	dropAfter int

	side       sync.WaitGroup
	connection sync.Mutex // of what follows
	conns      map[net.Conn]bool
	closed     bool
	reads      int
}

func newPLCOPCUA(env cameraEnv) (cameraModel, error) {
	s := env.Settings
	if env.Listener == nil {
		return nil, errors.New("a controller is reached over tcp")
	}
	p := &plcOPCUA{plc: newPLC(env), status: map[string]opcua.Status{}, conns: map[net.Conn]bool{}}
	for option, status := range map[string]opcua.Status{
		"missing": opcua.BadNodeIDUnknown, "bad": opcua.BadSensorFailure, "uncertain": opcua.UncertainLastUsableValue,
	} {
		for name := range strings.SplitSeq(s.Options[option], ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if _, ok := plcSignals[name]; !ok {
				return nil, fmt.Errorf("%s: there is no signal %q", option, name)
			}
			p.status[name] = status
		}
	}
	if s.Username != "" {
		p.login = func(user, password string) bool { return user == s.Username && password == s.Password }
	}
	var err error
	if s.Has("drops-tcp") {
		if p.dropAfter, err = strconv.Atoi(orElse(s.Options["drop_after"], strconv.Itoa(dropAfter))); err != nil || p.dropAfter < 1 {
			return nil, fmt.Errorf("drop_after: %q is no number of reads", s.Options["drop_after"])
		}
	}
	if s.Has("slow-server") {
		if p.slow, err = time.ParseDuration(orElse(s.Options["answer_after"], answerAfter.String())); err != nil || p.slow < 0 || p.slow > time.Minute {
			return nil, fmt.Errorf("answer_after: %q is no time up to 1m", s.Options["answer_after"])
		}
	}
	p.side.Go(p.accept)
	return p, nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (p *plcOPCUA) accept() {
	for id := uint32(1); ; id++ {
		conn, err := p.env.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-p.env.Done:
				return
			case <-time.After(acceptPause): // too many files are open, perhaps
			}
			continue
		}
		p.connection.Lock()
		full := p.closed || len(p.conns) >= opcuaClients
		if !full {
			p.conns[conn] = true
		}
		p.connection.Unlock()
		if full {
			_ = conn.Close() // nothing was said yet
			continue
		}
		p.env.Event("connected")
		p.side.Go(func() {
			p.serve(conn, id)
			p.connection.Lock()
			delete(p.conns, conn)
			p.connection.Unlock()
			_ = conn.Close() // the client may be gone
			p.env.Event("disconnected")
		})
	}
}

// serve answers one client until one side ends the connection.
func (p *plcOPCUA) serve(conn net.Conn, id uint32) {
	drop := false
	r := &opcua.Responder{
		URL: "opc.tcp://" + p.env.Listener.Addr().String(), URI: "urn:lanesim:plc", Login: p.login, Rand: rand.Reader, Now: p.env.Now, ID: id,
		Read: func(nodes []opcua.ReadNode) []opcua.DataValue {
			p.connection.Lock()
			p.reads++
			drop = p.dropAfter > 0 && p.reads%p.dropAfter == 0
			p.connection.Unlock()
			return p.read(nodes)
		},
	}
	for {
		if conn.SetDeadline(time.Now().Add(modbusIdle)) != nil {
			return
		}
		chunk := make([]byte, opcua.HeadLength)
		if _, err := io.ReadFull(conn, chunk); err != nil {
			return
		}
		n, err := opcua.FrameLength(chunk)
		if err != nil {
			return
		}
		chunk = append(chunk, make([]byte, n-len(chunk))...)
		if _, err := io.ReadFull(conn, chunk[opcua.HeadLength:]); err != nil {
			return
		}
		out, err := r.Respond(chunk)
		if drop {
			return // that is the fault
		}
		if p.slow > 0 {
			select {
			case <-time.After(p.slow):
			case <-p.env.Done:
				return
			}
		}
		if _, failed := conn.Write(out); err != nil || failed != nil {
			return
		}
	}
}

// read gives the values of nodes.
func (p *plcOPCUA) read(nodes []opcua.ReadNode) []opcua.DataValue {
	var values map[string]float64
	if slices.ContainsFunc(nodes, func(n opcua.ReadNode) bool { return n.ID.Namespace == 1 }) {
		values = p.look(1)
	}
	now := p.env.Now()
	out := make([]opcua.DataValue, len(nodes))
	for i, n := range nodes {
		value, ok := values[n.ID.Name]
		status, troubled := p.status[n.ID.Name]
		switch {
		case n.ID.Namespace != 1 || n.ID.Kind != 's' || !ok:
			out[i].Status = opcua.BadNodeIDUnknown
		case n.Attribute != opcua.AttributeValue:
			out[i].Status = opcua.BadAttributeIDInvalid
		case troubled && !status.IsUncertain():
			out[i].Status = status
		default:
			// What is doubted has a value all the same, which nobody may take for one.
			out[i] = opcua.DataValue{Value: variantOf(n.ID.Name, value), Status: status, Source: now}
		}
	}
	return out
}

func variantOf(name string, value float64) opcua.Variant {
	t, ok := plcOPCUANodes[name]
	switch {
	case !ok:
		t = opcua.Boolean
	case t == opcua.Float || t == opcua.Double:
		return opcua.Variant{Type: t, Bits: math.Float64bits(value)}
	}
	return opcua.Variant{Type: t, Bits: uint64(math.Round(value))}
}

// Close ends the controller.
func (p *plcOPCUA) Close() error {
	err := p.env.Listener.Close()
	p.connection.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close() // its goroutine ends by it
	}
	p.connection.Unlock()
	p.side.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
