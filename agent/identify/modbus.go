package identify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/textframe"

	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/aspect"
)

// probeModbus asks each unit for its first registers, over one connection.
func (r *Recogniser) probeModbus(ctx context.Context, address string, o Options) probed {
	dialer := net.Dialer{Timeout: httpTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return probed{said: []string{err.Error()}}
	}
	defer conn.Close() //nolint:errcheck // nothing waits to be sent
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	m := &units{conn: conn}
	s := scanUnits(ctx, m, &m.there, func(unit int) { o.tell("asking %s: Modbus unit %d of %d", address, unit, lastUnit) })
	if s.err == nil {
		m.late()
	}
	place := address
	if host, port, err := net.SplitHostPort(address); err == nil && port == "502" {
		place = hostURL(host)
	}
	return r.unitsFound("Modbus TCP", s, &m.there, func(unit string) string { return "modbus-tcp://" + place + "?unit=" + unit })
}

// modbusLines are the settings at which units of a serial line are asked: that of the
// specification first (Modbus over Serial Line V1.02, 2.5.1), then the usual ones.
var modbusLines = []line{{19200, 8, "even", 1}, {9600, 8, "none", 1}, {9600, 8, "even", 1}, {19200, 8, "none", 1}, {115200, 8, "none", 1}}

// probeUnits asks each unit of a silent serial line, at one setting after the other until
// one answers.
func (r *Recogniser) probeUnits(ctx context.Context, name string, o Options) probed {
	for _, l := range modbusLines {
		if ctx.Err() != nil {
			break
		}
		conn, err := o.openLine(ctx, l)
		if err != nil {
			continue // the listening has told why
		}
		m := &lineUnits{conn: conn}
		s := scanUnits(ctx, m, &m.there, func(unit int) { o.tell("asking at %s: Modbus unit %d of %d", l, unit, lastUnit) })
		_ = conn.Close() // nothing waits to be sent
		p := r.unitsFound("Modbus RTU at "+l.String(), s, &m.there, func(unit string) string {
			return "modbus-rtu:" + escapePath(name) + "?" + strings.Join(l.options(), "&") + "&unit=" + unit
		})
		if p.found {
			p.line = l
			return p
		}
	}
	return probed{}
}

// registers are read of units.
type registers interface {
	read(unit byte, address, count uint16) (words []uint16, there bool, err error)
}

// unitScan is what came of asking all units.
type unitScan struct {
	asked   int      // the last unit that was
	portals []string // units that describe themselves as an Aspect portal does
	err     error
}

// scanUnits asks each unit whether it describes its registers, and for those; and once more
// those whose answer came too late. there are those that have answered.
func scanUnits(ctx context.Context, m registers, there *[256]bool, tell func(unit int)) (s unitScan) {
	var answered, portal [256]bool
	ask := func(unit int) {
		tell(unit)
		var words []uint16
		if words, answered[unit], s.err = m.read(byte(unit), aspect.DescriptionAddress, aspect.DescriptionSize); len(words) != aspect.DescriptionSize {
			return
		}
		d, wrong := aspect.ParseDescription([aspect.DescriptionSize]uint16(words))
		if wrong != nil {
			return
		}
		base, wrong := d.Map()
		if wrong != nil {
			return
		}
		var block []uint16
		block, answered[unit], s.err = m.read(byte(unit), uint16(base.Base), uint16(base.Readable())) //nolint:gosec // within a table of Modbus
		portal[unit] = len(block) == base.Readable()
	}
	s.asked = firstUnit - 1
	for s.asked < lastUnit && ctx.Err() == nil && s.err == nil {
		s.asked++
		ask(s.asked)
	}
	for unit := firstUnit; unit <= s.asked && ctx.Err() == nil && s.err == nil; unit++ {
		if there[unit] && !answered[unit] {
			ask(unit)
		}
	}
	for unit := firstUnit; unit <= s.asked; unit++ {
		if portal[unit] {
			s.portals = append(s.portals, strconv.Itoa(unit))
		}
	}
	if s.err != nil && ctx.Err() != nil {
		s.err = nil // it was ended, and did not fail
	}
	return s
}

// unitsFound says what came of a scan. bus is what was asked, connect makes the URL of a unit.
func (r *Recogniser) unitsFound(bus string, s unitScan, there *[256]bool, connect func(unit string) string) (p probed) {
	var present []string
	for unit := firstUnit; unit <= s.asked; unit++ {
		if there[unit] {
			present = append(present, strconv.Itoa(unit))
		}
	}
	if len(present) == 0 {
		return p
	}
	p.found = true
	portals := s.portals
	if len(present) == lastUnit-firstUnit+1 {
		// A device that has no units answers to any number.
		p.said = append(p.said, bus+": it answers whatever the unit's number is, so that is one device; unit 1 will do")
		present, portals = present[:1], portals[:min(len(portals), 1)]
	} else {
		p.said = append(p.said, fmt.Sprintf("%s: of the units %d to %d these answer: %s", bus, firstUnit, s.asked, strings.Join(present, ", ")))
	}
	if s.err != nil {
		p.said = append(p.said, fmt.Sprintf("%s: the asking ended at unit %d of %d: %s", bus, s.asked, lastUnit, clean(s.err.Error())))
	}
	name, level, list, needed := "aspect-modbus", Likely, portals, ""
	if len(portals) == 0 {
		name, level, list, needed = "state-bus-modbus", Possible, present, signals
		p.said = append(p.said, "none describes its registers as an Aspect portal does. It may be a portal without a description, or any controller: which registers mean what only its integrator knows")
	} else {
		p.said = append(p.said, "described as an Aspect portal's registers are: unit "+strings.Join(portals, ", "))
	}
	var profile *profiles.Profile
	p.hearing, profile = r.answered(name, level, len(list))
	if profile == nil {
		return p
	}
	var config strings.Builder
	for i, unit := range list {
		config.WriteString(strings.Replace(snippet(profile, connect(unit), needed), "-1\n", "-"+strconv.Itoa(i+1)+"\n", 1))
	}
	p.config = config.String()
	return p
}

// units reads holding registers over Modbus TCP. It has no way to write any. A late answer
// is known by its number, so that all units are asked over one connection.
type units struct {
	conn  net.Conn
	asked []byte    // the units, by the number of the request from 1
	there [256]bool // those that answered, late ones included
}

// Of the Modbus Application Protocol V1.1b3 and Modbus Messaging on TCP/IP V1.0b: the head
// of a message, the function that reads holding registers, and the exceptions by which a
// gateway says that a unit is not there.
const (
	mbapHead        = 7
	maxModbusPDU    = 253
	readHolding     = 3
	exceptionBit    = 0x80
	gatewayNoPath   = 0x0a
	gatewayNoAnswer = 0x0b
)

// read gives the registers, and whether the unit is there: one that answers with an
// exception is, unless it is the gateway's.
func (m *units) read(unit byte, address, count uint16) (words []uint16, there bool, err error) {
	m.asked = append(m.asked, unit)
	number := len(m.asked)
	request := binary.BigEndian.AppendUint16(nil, uint16(number)) //nolint:gosec // two for each unit
	request = append(request, 0, 0, 0, 6, unit, readHolding)
	request = binary.BigEndian.AppendUint16(request, address)
	request = binary.BigEndian.AppendUint16(request, count)
	if err := m.conn.SetDeadline(time.Now().Add(unitTimeout)); err != nil {
		return nil, false, err
	}
	if _, err := m.conn.Write(request); err != nil {
		return nil, false, err
	}
	for {
		of, pdu, err := m.answer()
		switch {
		case err != nil || pdu == nil:
			return nil, false, err
		case of != number:
			continue // of a unit that was given up
		case pdu[0] == readHolding|exceptionBit:
			return nil, m.there[unit], nil
		case len(pdu) != 2+2*int(count):
			return nil, false, errNoModbus
		}
		for i := range int(count) {
			words = append(words, binary.BigEndian.Uint16(pdu[2+2*i:]))
		}
		return words, true, nil
	}
}

var errNoModbus = errors.New("what answers is no Modbus")

// answer takes one answer and notes whose it is; nil if none comes in time.
func (m *units) answer() (number int, pdu []byte, err error) {
	var head [mbapHead]byte
	if n, err := io.ReadFull(m.conn, head[:]); err != nil {
		var timeout net.Error
		if n == 0 && errors.As(err, &timeout) && timeout.Timeout() {
			return 0, nil, nil
		}
		return 0, nil, err
	}
	number, length := int(binary.BigEndian.Uint16(head[:])), int(binary.BigEndian.Uint16(head[4:]))-1
	if head[2] != 0 || head[3] != 0 || length < 2 || length > maxModbusPDU {
		return 0, nil, errNoModbus
	}
	pdu = make([]byte, length)
	if _, err := io.ReadFull(m.conn, pdu); err != nil {
		return 0, nil, err
	}
	isThere := pdu[0] == readHolding && int(pdu[1]) == len(pdu)-2
	if pdu[0] == readHolding|exceptionBit {
		isThere = pdu[1] != gatewayNoPath && pdu[1] != gatewayNoAnswer
	} else if !isThere {
		return 0, nil, errNoModbus
	}
	if isThere && number > 0 && number <= len(m.asked) {
		m.there[m.asked[number-1]] = true
	}
	return number, pdu, nil
}

// late waits for the answers of those that were given up last.
func (m *units) late() {
	if m.conn.SetDeadline(time.Now().Add(unitTimeout)) != nil {
		return
	}
	for {
		if _, pdu, err := m.answer(); err != nil || pdu == nil {
			return
		}
	}
}

// lineUnits reads holding registers over a serial line, by Modbus RTU. It has no way to write
// any. A late answer has no number: it is that of the unit which it names.
type lineUnits struct {
	conn  link.Conn
	there [256]bool
}

// A frame of Modbus RTU (Modbus over Serial Line V1.02, 2.5.1): unit, function, data and two
// bytes of a CRC, the low one first. An answer with registers has their bytes' number before
// them, an exception its code.
const (
	rtuFrame     = 5
	rtuException = 5
	maxRTUFrame  = 256
	// frameGap parts two frames: 3.5 characters at 9600 baud, and a little.
	frameGap = 5 * time.Millisecond
)

// read gives the registers, and whether the unit is there.
func (m *lineUnits) read(unit byte, address, count uint16) (words []uint16, there bool, err error) {
	request := []byte{unit, readHolding}
	request = binary.BigEndian.AppendUint16(request, address)
	request = binary.BigEndian.AppendUint16(request, count)
	request = binary.LittleEndian.AppendUint16(request, textframe.ModbusCRC(request))
	if _, err := m.conn.Write(request); err != nil {
		return nil, false, err
	}
	if err := m.conn.SetReadDeadline(time.Now().Add(unitTimeout)); err != nil {
		return nil, false, err
	}
	var came []byte
	buf := make([]byte, maxRTUFrame)
	for len(came) < 4*maxRTUFrame {
		n, err := m.conn.Read(buf)
		came = append(came, buf[:n]...)
		for {
			of, words, rest := m.answer(came, rtuFrame+2*int(count))
			if of == 0 {
				break
			}
			if came = rest; of == unit {
				time.Sleep(frameGap)
				return words, m.there[unit], nil
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, false, nil
		case err != nil:
			return nil, false, err
		}
	}
	return nil, false, nil
}

// answer finds an answer in what came, notes whose it is and gives what came behind it; the unit
// is 0 if there is none. Before it may stand what some adapters give back of the request, and
// what a line at a wrong setting makes of it.
func (m *lineUnits) answer(b []byte, wanted int) (unit byte, words []uint16, rest []byte) {
	whole := func(b []byte) bool {
		n := len(b) - 2
		return b[0] >= firstUnit && textframe.ModbusCRC(b[:n]) == binary.LittleEndian.Uint16(b[n:])
	}
	for ; len(b) >= rtuException; b = b[1:] {
		if b[1] == readHolding|exceptionBit && whole(b[:rtuException]) {
			if code := b[2]; code != gatewayNoPath && code != gatewayNoAnswer {
				m.there[b[0]] = true
			}
			return b[0], nil, b[rtuException:]
		}
		if b[1] != readHolding || len(b) < wanted || int(b[2]) != wanted-rtuFrame || !whole(b[:wanted]) {
			continue
		}
		m.there[b[0]] = true
		for at := 3; at < wanted-2; at += 2 {
			words = append(words, binary.BigEndian.Uint16(b[at:]))
		}
		return b[0], words, b[wanted:]
	}
	return 0, nil, nil
}
