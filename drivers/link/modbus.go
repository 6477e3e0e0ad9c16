package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/simonvetter/modbus"
)

// Times of Modbus.
const (
	defaultModbusPort    = "502"
	defaultModbusTimeout = time.Second
	minModbusTimeout     = 50 * time.Millisecond
	maxModbusTimeout     = time.Minute
	// gateTimeout bounds what happens within this machine.
	gateTimeout = 5 * time.Second
	// damagedTries is how often a request is sent whose answer came damaged, or not at all.
	damagedTries = 3
	// The longest answer is an RTU frame of 256 bytes or a TCP one of 260.
	gateBuffer = 512
)

var (
	// errNoAnswer: the link is there and the device does not answer.
	errNoAnswer = errors.New("the device does not answer")
	// errDamaged: what it answers is not Modbus.
	errDamaged = errors.New("the answers are damaged")
	// errNotARead: something else than a read was to be sent.
	errNotARead = errors.New("only reads are let through")
)

type modbusEndpoint struct {
	scheme  string
	carrier Endpoint
	rtu     bool
	baud    int // of the line, for the pauses between frames; 0 for TCP
	unit    int
	timeout time.Duration
}

func parseModbusTCP(rest string, s *settings) (Endpoint, error) {
	return parseModbusNet("modbus-tcp", rest, s)
}

func parseModbusGateway(rest string, s *settings) (Endpoint, error) {
	return parseModbusNet("modbus-rtu-tcp", rest, s)
}

func parseModbusNet(scheme, rest string, s *settings) (Endpoint, error) {
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok || strings.Contains(authority, "/") {
		return nil, fmt.Errorf("connect: after %s: two slashes and the host must follow and nothing else, for example %s", scheme, schemes()[scheme].example)
	}
	if _, ok := s.values["port"]; !ok && scheme == "modbus-tcp" {
		s.values["port"], s.origin["port"] = defaultModbusPort, "connect"
	}
	carrier, err := parseTCP(rest, s)
	if err != nil {
		return nil, err
	}
	e := &modbusEndpoint{scheme: scheme, carrier: carrier, rtu: scheme == "modbus-rtu-tcp"}
	return e.read(s)
}

func parseModbusRTU(rest string, s *settings) (Endpoint, error) {
	// Modbus over Serial Line V1.02, 2.5.1: a character has eleven bits, two of them stop
	// bits where there is no parity.
	usual := map[string]string{"data": "8", "stop": "1"}
	if s.values["parity"] == "none" {
		usual["stop"] = "2"
	}
	for key, value := range usual {
		if _, ok := s.values[key]; !ok {
			s.values[key], s.origin[key] = value, "connect"
		}
	}
	carrier, err := parseSerial(rest, s)
	if err != nil {
		return nil, err
	}
	line := carrier.(*serialEndpoint).line
	if line.data != 8 {
		return nil, fmt.Errorf("%s: data=%d; Modbus RTU has data=8", s.origin["data"], line.data)
	}
	e := &modbusEndpoint{scheme: "modbus-rtu", carrier: carrier, rtu: true, baud: line.baud}
	return e.read(s)
}

// read reads the options that all kinds have.
func (e *modbusEndpoint) read(s *settings) (Endpoint, error) {
	e.unit = 1
	var errs [2]error
	if _, ok := s.values["unit"]; ok {
		// 0 is a broadcast on a line, which nobody answers, and 248 to 255 are reserved
		// there; over TCP both are used by devices that have no unit.
		low, high := 0, 255
		if e.rtu {
			low, high = 1, 247
		}
		e.unit, errs[0] = s.number("unit", low, high)
	}
	e.timeout, errs[1] = s.duration("timeout", defaultModbusTimeout, minModbusTimeout, maxModbusTimeout, false)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *modbusEndpoint) Scheme() string { return e.scheme }

func (e *modbusEndpoint) String() string {
	place, options, _ := strings.Cut(strings.TrimPrefix(e.carrier.String(), e.carrier.Scheme()+":"), "?")
	text := e.scheme + ":" + place + "?unit=" + strconv.Itoa(e.unit)
	if options != "" {
		text += "&" + options
	}
	if e.timeout != defaultModbusTimeout {
		text += "&timeout=" + e.timeout.String()
	}
	return text
}

// place is the address without options, for errors.
func (e *modbusEndpoint) place() string {
	place, _, _ := strings.Cut(e.String(), "?")
	return place
}

// Open opens the line or the connection, and puts the gate before it.
func (e *modbusEndpoint) Open(ctx context.Context) (_ Conn, err error) {
	b := &modbusBus{ending: newEnding(), endpoint: e}
	defer func() {
		if err == nil {
			return
		}
		b.end(err)
		if b.line != nil {
			err = errors.Join(err, b.line.leave(b))
		}
	}()
	// The library opens its connections itself and lets go of none before its timeout, so
	// it is given one to this process, and the link's own lies behind that.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open %s: listen within this machine: %w", e.place(), err)
	}
	defer l.Close() //nolint:errcheck // nothing was written to it
	kind := "tcp"
	if e.rtu {
		kind = "rtuovertcp"
	}
	b.client, err = modbus.NewClient(&modbus.ClientConfiguration{
		URL: kind + "://" + l.Addr().String(), Speed: uint(e.baud), Timeout: e.timeout, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), //nolint:gosec // a baud is positive
	})
	if err == nil {
		err = b.client.SetUnitId(uint8(e.unit)) //nolint:gosec // at most 255
	}
	if err == nil {
		err = b.client.Open()
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.place(), err)
	}
	if err = l.(*net.TCPListener).SetDeadline(time.Now().Add(gateTimeout)); err == nil {
		b.inner, err = l.Accept()
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.place(), errors.Join(err, b.client.Close()))
	}
	shared := newSharedLine()
	if e.rtu {
		shared = sharedLineAt(e.place()) // with the other units
	}
	if err = shared.join(ctx, b); err != nil {
		return nil, errors.Join(err, b.inner.Close(), b.client.Close())
	}
	context.AfterFunc(b.over, func() { _ = b.inner.Close() }) // the library's read ends by it
	b.side.Go(b.up)
	return b, nil
}

// modbusBus is a Bus over Modbus. What the library sends goes through a gate that lets
// reads through and nothing else.
type modbusBus struct {
	meter
	*ending
	endpoint *modbusEndpoint
	line     *modbusLine
	inner    net.Conn // the library's other end
	client   *modbus.ModbusClient
	side     sync.WaitGroup

	learned
	shelf []learned // of other points, the oldest first
}

// up carries requests. Every request that reads is of the same length.
func (b *modbusBus) up() {
	size, function := 12, 7 // after the header of TCP
	if b.endpoint.rtu {
		size, function = 8, 1
	}
	request := make([]byte, size)
	for {
		if _, err := io.ReadFull(b.inner, request); err != nil {
			b.end(ErrClosed) // by Close, or because the other side is gone: then that was told before
			return
		}
		if f := request[function]; f < readCoils || f > readInput {
			b.end(fmt.Errorf("%s: %w, and function %d is none", b.endpoint.place(), errNotARead, f))
			return
		}
		if err := b.line.send(b, request); err != nil {
			b.end(err)
			return
		}
	}
}

// Sample implements Bus.
func (b *modbusBus) Sample(ctx context.Context, points []Point) ([]Sample, error) {
	stop := context.AfterFunc(ctx, func() { b.end(context.Cause(ctx)) })
	defer stop()
	b.prepare(points)
	samples := make([]Sample, len(points))
	for i, err := range b.plan.wrong {
		samples[i].Err = err
	}
	for i := 0; i < len(b.plan.groups); {
		g := b.plan.groups[i]
		words, err := b.ask(g)
		var refused *Exception
		if errors.As(err, &refused) {
			if parts := b.plan.split(g); refused.ofAddress() && len(parts) > 1 {
				if b.rejoinAt.IsZero() {
					b.rejoinAt = time.Now().Add(rejoinAfter)
				}
				b.plan.groups = append(b.plan.groups[:i:i], append(parts, b.plan.groups[i+1:]...)...)
				continue
			}
			for _, m := range g.members {
				samples[m].Err = fmt.Errorf("%s: %w", points[m].At, refused)
			}
		} else if err != nil {
			return nil, err
		} else {
			for _, m := range g.members {
				r := b.plan.registers[m]
				samples[m].Value, samples[m].Err = r.value(words[r.address-g.from:][:r.width])
			}
		}
		i++
	}
	return samples, nil
}

// ask sends one request. Bits come as words that are 0 or 1.
func (b *modbusBus) ask(g group) (words []uint16, err error) {
	for try := 1; ; try++ {
		if b.over.Err() != nil {
			return nil, context.Cause(b.over)
		}
		release, failed := b.line.turn(b)
		if failed != nil {
			return nil, failed
		}
		words, err = b.request(g)
		release()
		switch {
		case b.over.Err() != nil && err != nil:
			return nil, context.Cause(b.over)
		case errors.Is(err, modbus.ErrRequestTimedOut):
			if err := b.missed(try); err != nil {
				b.end(err)
				return nil, context.Cause(b.over)
			}
			continue
		}
		b.line.answered(b, true)
		if err == nil {
			return words, nil
		}
		if refused := exceptionOf(err); refused != nil {
			return nil, refused
		}
		// What is damaged is flushed before it is asked for again. Behind a whole frame of
		// somebody else's the true answer still comes, and would be taken for the next one's.
		again := b.endpoint.rtu && (errors.Is(err, modbus.ErrBadCRC) || errors.Is(err, modbus.ErrShortFrame))
		if errors.Is(err, modbus.ErrBadUnitId) {
			err = fmt.Errorf("%w: another unit's answer came; is there a second master on the line, or does the port server give every client all bytes?", err)
		}
		if try == damagedTries || !again {
			b.end(fmt.Errorf("%s: %w: %w", b.endpoint.place(), errDamaged, err))
			return nil, context.Cause(b.over)
		}
	}
}

// missed handles an answer that did not come, and gives an error when the device is not asked
// again. Over TCP a late answer names its request. On a line it does not: the unit is left
// alone for as long as it may take, and what comes meanwhile is nobody's.
func (b *modbusBus) missed(try int) error {
	e := b.endpoint
	misses := b.line.answered(b, false)
	none := fmt.Errorf("%s: %w within %s, %d times in a row", e.place(), errNoAnswer, e.timeout, misses)
	alone := b.line.alone()
	switch {
	case e.rtu && !alone && misses >= 2:
		return &RetryError{Err: fmt.Errorf("unit %d on a line with others: %w", e.unit, none), Until: time.Now().Add(hungShare * e.timeout)}
	case try == damagedTries:
		return none
	case !e.rtu:
		return nil
	}
	quiet := time.NewTimer(e.timeout)
	defer quiet.Stop()
	select {
	case <-quiet.C:
		return nil
	case <-b.over.Done():
		return context.Cause(b.over)
	}
}

func (b *modbusBus) request(g group) ([]uint16, error) {
	address, count := uint16(g.from), uint16(g.to-g.from) //nolint:gosec // parseRegister bounds both
	switch g.function {
	case readHolding:
		return b.client.ReadRegisters(address, count, modbus.HOLDING_REGISTER)
	case readInput:
		return b.client.ReadRegisters(address, count, modbus.INPUT_REGISTER)
	}
	read := b.client.ReadCoils
	if g.function == readDiscrete {
		read = b.client.ReadDiscreteInputs
	}
	bits, err := read(address, count)
	words := make([]uint16, len(bits))
	for i, bit := range bits {
		if bit {
			words[i] = 1
		}
	}
	return words, err
}

// Read implements Conn; a bus is sampled.
func (b *modbusBus) Read([]byte) (int, error) {
	return 0, errors.New("a register bus is not read but sampled: the driver and the link do not fit")
}

// Write implements Conn; nothing is ever written to a bus.
func (b *modbusBus) Write([]byte) (int, error) {
	return 0, errors.New("a register bus is not written to: the driver and the link do not fit")
}

// Close ends the link and what waits on it.
func (b *modbusBus) Close() error {
	b.end(ErrClosed)
	err := b.line.leave(b)
	_ = b.inner.Close()  // within this machine there is nothing to lose
	_ = b.client.Close() // likewise
	b.side.Wait()
	return err
}
