package drivers

import (
	"context"
	"errors"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Held is what the registers of an instrument hold from one moment of a script on.
type Held struct {
	// At is the moment, counted from ScriptStart.
	At time.Duration
	// Set gives the values by address, as a driver asks for them and as numbers that are
	// decoded already; Fails the reasons why others can't be read, an exception of Modbus if
	// it begins with the name or the number of one. What is not named stays.
	Set   map[string]float64
	Fails map[string]string
}

// busTail is how long a script of a bus goes on after its last step.
const busTail = 2 * time.Second

// PlayBus runs d over a bus whose registers hold what the script says, in virtual time.
// Two seconds after the last step the other side hangs up.
func PlayBus(ctx context.Context, d Instrument, script []Held) (Played, error) {
	return PlayBusWith(ctx, &MemoryLedger{}, d, script)
}

// PlayBusWith is PlayBus with what the device's ledger holds, and keeps.
func PlayBusWith(ctx context.Context, ledger Ledger, d Instrument, script []Held) (Played, error) {
	p := &player{ctx: ctx, start: ScriptStart(), now: ScriptStart(), ledger: ledger}
	b := &scriptedBus{scriptedConn: scriptedConn{p}, script: script, held: map[string]link.Sample{}}
	err := d.Run(ctx, b, scriptedHost{p})
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		return p.played, errors.New("play: the driver ended without a reason")
	case errors.Is(err, link.ErrUnplugged):
		return p.played, nil
	}
	return p.played, err
}

type scriptedBus struct {
	scriptedConn
	script []Held
	next   int
	held   map[string]link.Sample
}

// Sample implements link.Bus.
func (b *scriptedBus) Sample(ctx context.Context, points []link.Point) ([]link.Sample, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b.p.mu.Lock()
	passed := b.p.now.Sub(b.p.start)
	b.p.mu.Unlock()
	for ; b.next < len(b.script) && b.script[b.next].At <= passed; b.next++ {
		for address, v := range b.script[b.next].Set {
			b.held[address] = link.Sample{Value: v}
		}
		for address, why := range b.script[b.next].Fails {
			b.held[address] = link.Sample{Err: scriptedFailure(why)}
		}
	}
	if n := len(b.script); b.next == n && (n == 0 || passed > b.script[n-1].At+busTail) {
		return nil, link.ErrUnplugged
	}
	samples := make([]link.Sample, len(points))
	for i, at := range points {
		s, ok := b.held[at.At]
		if !ok {
			s.Err = scriptedFailure("illegal data address: the script has nothing at " + at.At)
		}
		if s.Err == nil && at.Bit != nil {
			s.Value = float64(int64(s.Value) >> *at.Bit & 1)
		}
		samples[i] = s
	}
	return samples, nil
}

// Pause lets time pass.
func (b *scriptedBus) Pause(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.p.now = b.p.now.Add(max(d, time.Millisecond))
	return nil
}

// scriptedFailure is why a register of a script can't be read, in the script's words.
type scriptedFailure string

func (f scriptedFailure) Error() string { return string(f) }

// As finds the exception that the words name.
func (f scriptedFailure) As(target any) bool {
	into, ok := target.(**link.Exception)
	if x := link.NamedException(string(f)); ok && x != nil {
		*into = x
		return true
	}
	return false
}
