package identify

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/aspect"
	"github.com/lanepost/lanepost/protocol/opcua"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds of probing.
const (
	// probeListen is how long is listened before anything is asked, and probeEach how long
	// the answers to one profile's requests are waited for.
	probeListen = 8 * time.Second
	probeEach   = 3 * time.Second
	// probeSpacing is the time between two connections to one device; one that serves one
	// client takes a while to notice that the last one has gone. If it hangs up at once it
	// is tried again, probeTries times in all.
	probeSpacing = 500 * time.Millisecond
	probeTries   = 3
	// unitTimeout is how long one Modbus unit is waited for, firstUnit and lastUnit those
	// that are asked.
	unitTimeout = 200 * time.Millisecond
	firstUnit   = 1
	lastUnit    = 32
	// httpTimeout bounds an answer over HTTP in time, httpHeaders and httpHead its headers
	// and what is read of its body, in bytes.
	httpTimeout = 4 * time.Second
	httpHeaders = 16 << 10
	httpHead    = 4 << 10
)

// probed is what came of asking.
type probed struct {
	hearing
	found  bool
	said   []string
	config string
}

// probeAddress asks, by reads only, until something answers that is understood. What the
// port is usually for is tried first. silent says that nothing came unasked: only then is
// what comes an answer.
func (r *Recogniser) probeAddress(ctx context.Context, address string, silent bool, o Options) probed {
	steps := []struct {
		ports []int
		what  string
		try   func(context.Context, string, Options) probed
	}{
		{[]int{502}, "Modbus", r.probeModbus},
		{[]int{4840}, "OPC UA", r.probeOPCUA},
		{[]int{80, 81, 443, 8000, 8080, 8443}, "HTTP", r.probeHTTP},
		{nil, "instruments", func(ctx context.Context, address string, o Options) probed {
			return r.probeDrivers(ctx, address, silent, o)
		}},
	}
	port := portOf(address)
	order.Stable(steps, func(a, b struct {
		ports []int
		what  string
		try   func(context.Context, string, Options) probed
	}) int {
		rank := func(ports []int) int {
			switch {
			case slices.Contains(ports, port):
				return 0
			case ports == nil:
				return 1
			}
			return 2
		}
		return rank(a.ports) - rank(b.ports)
	})
	var all probed
	wait(ctx, probeSpacing)
	for _, s := range steps {
		if ctx.Err() != nil {
			break
		}
		o.tell("asking %s: %s", address, s.what)
		p := s.try(ctx, address, o)
		p.said = append(all.said, p.said...)
		if all = p; p.found {
			break
		}
		wait(ctx, probeSpacing)
	}
	return all
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// answered makes a hearing of an answer that no stream is.
func (r *Recogniser) answered(profile string, level Level, records int) (hearing, *profiles.Profile) {
	p, ok := r.set.Get(profile)
	if !ok {
		return hearing{verdict: verdict{level: Unknown}, heard: &heard{}}, nil
	}
	c := &candidate{profile: p, proof: slices.Index(profiles.Proofs, profiles.ProofForm)}
	return hearing{verdict: verdict{level: level, best: &fit{candidate: c, records: records, proof: c.proof}}, heard: &heard{}}, p
}

// asker is the drivers.Host of a driver that asks. It keeps nothing. What it is told of is
// not acknowledged to anybody by these drivers: they ask, and that is all that they send.
type asker struct{ ledger drivers.MemoryLedger }

func (*asker) Now() time.Time                 { return time.Now() }
func (*asker) Emit(drivers.Observation) error { return nil }
func (*asker) Valid()                         {}
func (*asker) Unparsed(string, []byte)        {}
func (a *asker) Ledger() drivers.Ledger       { return &a.ledger }
func (*asker) Log() *slog.Logger              { return slog.New(slog.DiscardHandler) }

// recorder keeps what is read from a link.
type recorder struct {
	link.Conn
	began time.Time
	mu    sync.Mutex
	heard heard
}

// Unwrap gives the link itself, for link.As.
func (c *recorder) Unwrap() link.Conn { return c.Conn }

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && !c.heard.add(time.Since(c.began), p[:n]) {
		return n, errors.Join(err, io.ErrShortBuffer)
	}
	return n, err
}

// ask lets one profile's driver ask over an open link, and judges what is answered.
func (r *Recogniser) ask(ctx context.Context, c *candidate, scheme string, silent bool, conn link.Conn) (hearing, bool) {
	x := hearing{verdict: verdict{level: Silent}, heard: &heard{}}
	instrument, err := c.new()
	if err != nil {
		return x, false
	}
	asking, cancel := context.WithTimeout(ctx, probeEach)
	defer cancel()
	// A driver looks at ctx only between two reads.
	stop := context.AfterFunc(asking, func() { _ = conn.SetReadDeadline(time.Now().Add(-time.Second)) })
	defer stop()
	rec := &recorder{Conn: conn, began: time.Now()}
	func() {
		defer func() { _ = recover() }() // a driver that an answer breaks has not found its device
		x.err = instrument.Run(asking, rec, &asker{})
	}()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	x.heard = &rec.heard
	answers := ""
	if silent {
		answers = c.profile.Name
	}
	x.verdict = r.judge(ctx, scheme, x.heard, answers)
	found := x.level == Certain || x.level == Likely || x.level == Equal
	if found {
		x.err = nil // it ran out of time, as it was to
	}
	return x, found
}

// probeDrivers has every profile that asks ask.
func (r *Recogniser) probeDrivers(ctx context.Context, address string, silent bool, o Options) probed {
	var p probed
	for i := range r.candidates {
		c := &r.candidates[i]
		if !c.asks || c.variant.Text != "" || !slices.Contains(c.driver.Schemes, "tcp") || ctx.Err() != nil {
			continue
		}
		e, err := link.Parse("tcp://"+address, nil)
		if err != nil {
			return p
		}
		o.tell("asking %s as %s does", address, c.profile.Name)
		var x hearing
		var found bool
		for range probeTries {
			conn, err := e.Open(ctx)
			if err != nil {
				p.said = append(p.said, err.Error())
				return p
			}
			x, found = r.ask(ctx, c, "tcp", silent, conn)
			_ = conn.Close() // nothing waits to be sent
			if x.heard.bytes > 0 || !errors.Is(x.err, link.ErrUnplugged) && !errors.Is(x.err, syscall.ECONNRESET) && !errors.Is(x.err, syscall.EPIPE) {
				break
			}
			wait(ctx, probeSpacing)
		}
		if found {
			p.found, p.hearing = true, x
			p.said = append(p.said, "it answered the requests of "+c.profile.Name)
			return p
		}
		wait(ctx, probeSpacing)
	}
	return p
}

// probeSerial has every profile that asks ask, at the settings that it declares.
func (r *Recogniser) probeSerial(ctx context.Context, silent bool, o Options) (hearing, bool) {
	usual := []line{{9600, 8, "none", 1}}
	for i := range r.candidates {
		c := &r.candidates[i]
		if !c.asks || c.variant.Text != "" || !slices.Contains(c.driver.Schemes, "serial") {
			continue
		}
		lines := c.profileLines()
		if len(lines) == 0 {
			lines = usual
		}
		for _, l := range lines {
			if ctx.Err() != nil {
				return hearing{}, false
			}
			o.tell("asking at %s as %s does", l, c.profile.Name)
			conn, err := o.openLine(ctx, l)
			if err != nil {
				continue // the listening has told why
			}
			x, found := r.ask(ctx, c, "serial", silent, conn)
			_ = conn.Close() // nothing waits to be sent
			if found {
				x.line = l
				return x, true
			}
		}
	}
	return hearing{}, false
}

// probeModbus asks each unit for its first registers, over one connection.
func (r *Recogniser) probeModbus(ctx context.Context, address string, o Options) probed {
	var p probed
	dialer := net.Dialer{Timeout: httpTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		p.said = append(p.said, err.Error())
		return p
	}
	defer conn.Close() //nolint:errcheck // nothing waits to be sent
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	m := &units{conn: conn}
	var portals []string
	asked := firstUnit - 1 // the last unit that was
	for asked < lastUnit && ctx.Err() == nil && err == nil {
		asked++
		o.tell("asking %s: Modbus unit %d of %d", address, asked, lastUnit)
		var words []uint16
		if words, _, err = m.read(byte(asked), aspect.DescriptionAddress, aspect.DescriptionSize); len(words) != aspect.DescriptionSize {
			continue
		}
		d, wrong := aspect.ParseDescription([aspect.DescriptionSize]uint16(words))
		if wrong != nil {
			continue
		}
		base, wrong := d.Map()
		if wrong != nil {
			continue
		}
		var block []uint16
		if block, _, err = m.read(byte(asked), uint16(base.Base), uint16(base.Readable())); len(block) == base.Readable() { //nolint:gosec // within a table of Modbus
			portals = append(portals, strconv.Itoa(asked))
		}
	}
	if err == nil {
		m.late()
	}
	var present []string
	for unit := firstUnit; unit <= asked; unit++ {
		if m.there[unit] {
			present = append(present, strconv.Itoa(unit))
		}
	}
	if len(present) == 0 {
		return p
	}
	p.found = true
	if len(present) == lastUnit-firstUnit+1 {
		// A device that has no units answers to any number.
		p.said = append(p.said, "Modbus TCP: it answers whatever the unit's number is, so that is one device; unit 1 will do")
		present, portals = present[:1], portals[:min(len(portals), 1)]
	} else {
		p.said = append(p.said, fmt.Sprintf("Modbus TCP: of the units %d to %d these answer: %s", firstUnit, asked, strings.Join(present, ", ")))
	}
	if err != nil && ctx.Err() == nil {
		p.said = append(p.said, fmt.Sprintf("Modbus TCP: the asking ended at unit %d of %d: %s", asked, lastUnit, clean(err.Error())))
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
	place := address
	if host, port, err := net.SplitHostPort(address); err == nil && port == "502" {
		place = hostURL(host)
	}
	var config strings.Builder
	for i, unit := range list {
		s := snippet(profile, "modbus-tcp://"+place+"?unit="+unit, needed)
		config.WriteString(strings.Replace(s, "-1\n", "-"+strconv.Itoa(i+1)+"\n", 1))
	}
	p.config = config.String()
	return p
}

// signals are settings that only the integrator of a controller knows.
const signals = "{signals: {}}   # needed: which signal stands where; ask the integrator, and see the profile's examples"

func hostURL(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
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

// probeOPCUA says hello.
func (r *Recogniser) probeOPCUA(ctx context.Context, address string, _ Options) probed {
	var p probed
	dialer := net.Dialer{Timeout: httpTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		p.said = append(p.said, err.Error())
		return p
	}
	defer conn.Close() //nolint:errcheck // nothing waits to be sent
	if err := conn.SetDeadline(time.Now().Add(httpTimeout)); err != nil {
		return p
	}
	hello := opcua.EncodeHello(opcua.Limits{Receive: 1 << 16, Send: 1 << 16, MaxMessage: 1 << 20, MaxPart: 16}, "opc.tcp://"+address)
	if _, err := conn.Write(hello); err != nil {
		return p
	}
	answer := make([]byte, httpHead)
	n, _ := io.ReadAtLeast(conn, answer, 8) // what is too short is told by what follows
	var refused *opcua.FailureError
	switch _, err := opcua.DecodeAcknowledge(answer[:n]); {
	case err == nil:
		p.said = append(p.said, "an OPC UA server answers")
	case errors.As(err, &refused):
		p.said = append(p.said, "an OPC UA server answers, and wants to be called by another address; ask its integrator for its path")
	default:
		return p
	}
	p.found = true
	var profile *profiles.Profile
	if p.hearing, profile = r.answered("state-bus-opcua", Possible, 1); profile != nil {
		place := strings.TrimSuffix(address, ":4840")
		p.config = snippet(profile, "opcua://"+place, signals)
	}
	return p
}

// probeHTTP asks for the pages that profiles name, without a login, and never guesses one.
func (r *Recogniser) probeHTTP(ctx context.Context, address string, o Options) probed {
	var p probed
	scheme := "http"
	if port := portOf(address); port == 443 || port == 8443 {
		scheme = "https"
	}
	client := &http.Client{
		Timeout: httpTimeout,
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: httpHeaders,
			// It is asked what it is: nothing secret is sent, and who it is is shown.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // as above
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	asked := map[string]string{}
	var fits []string
	for _, name := range r.set.Names() {
		profile, ok := r.set.Get(name)
		if !ok || profile.Identify.Ask.Path == "" || ctx.Err() != nil {
			continue
		}
		ask := profile.Identify.Ask
		head, known := asked[ask.Path]
		if !known {
			o.tell("asking %s for %s", address, ask.Path)
			var err error
			if head, err = get(ctx, client, (&url.URL{Scheme: scheme, Host: address}).String()+ask.Path); err != nil {
				p.said = append(p.said, "no answer over "+strings.ToUpper(scheme)+": "+clean(err.Error()))
				return p
			}
			asked[ask.Path] = head
			p.said = append(p.said, fmt.Sprintf("%s answers %s: %s", strings.ToUpper(scheme), ask.Path, summary(head)))
			wait(ctx, probeSpacing)
		}
		if ask.Answer.MatchString(head) {
			fits = append(fits, name)
		}
	}
	if len(fits) == 0 {
		return p
	}
	p.found = true
	level := Likely
	if len(fits) > 1 {
		level = Equal
	}
	var profile *profiles.Profile
	if p.hearing, profile = r.answered(fits[0], level, 1); profile == nil {
		return p
	}
	for _, other := range fits[1:] {
		x, _ := r.answered(other, level, 1)
		p.rivals = append(p.rivals, x.best)
	}
	place := strings.TrimSuffix(strings.TrimSuffix(address, ":80"), ":443")
	p.config = snippet(profile, scheme+"://"+place, "") + "  username: lanepost   # needed: a user of the camera that may be told of events\n  password_file: /etc/lanepost/anpr-1.password   # needed\n"
	return p
}

// get gives the status line, the headers and the first bytes of the body.
func get(ctx context.Context, client *http.Client, page string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	var head strings.Builder
	head.WriteString(response.Status + "\n")
	if err := response.Header.Write(&head); err != nil {
		return "", err
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, httpHead)) // a stream ends by the time limit
	return head.String() + "\n" + string(body), nil
}

// summary is the status and who the server says to be.
func summary(head string) string {
	lines := strings.Split(head, "\n")
	text := lines[0]
	for _, l := range lines[1:] {
		lower := strings.ToLower(l)
		if strings.HasPrefix(lower, "server:") {
			text += ", " + l
		}
		if strings.HasPrefix(lower, "www-authenticate:") {
			if _, realm, ok := strings.Cut(l, `realm="`); ok {
				realm, _, _ = strings.Cut(realm, `"`)
				text += `, it calls itself "` + realm + `" and wants a login`
			}
		}
	}
	return clean(text)
}

// maxClean bounds what is repeated of a device's own words, in bytes.
const maxClean = 200

// clean makes a device's words fit for a terminal.
func clean(s string) string {
	if len(s) > maxClean {
		s = s[:maxClean] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}
