package identify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
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

// signals are settings that only the integrator of a controller knows.
const signals = "{signals: {}}   # needed: which signal stands where; ask the integrator, and see the profile's examples"

func hostURL(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
