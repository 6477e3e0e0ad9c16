package simulator

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/lanepost/lanepost/protocol/aspect"
)

// aspectSwitches are what such portals and the way to them may do, those that tell of a
// fault with every third vehicle.
var aspectSwitches = []string{
	"no-description", // there is nothing at address 0
	"no-map",         // the description is one that can't be
	"short-map",      // the registers end after 17, or what the option size says
	"counter-jump",   // an object is counted that nobody saw
	"counter-wrap",   // the counter is about to begin anew
	"overload",       // the gamma channel is overloaded while the vehicle is in the portal
	"power-fail",     // the power fails for a while
	"tamper",         // somebody opens the cabinet
	"slow",           // an answer takes 300 ms, or what the option answer_after says
}

// What a simulated portal is.
const (
	aspectGammaBackground   = 1673
	aspectNeutronBackground = 2.25
	aspectNeutronCount      = 2
	aspectSigma             = 5
	aspectNeutronAlarm      = 15
	// aspectNoise is by how much a count is off at most, which is less than what alarms.
	aspectNoise = 20
	// aspectSteps is in how many steps a vehicle drives through.
	aspectSteps = 4
	// aspectPolls is how often a client without a clock must have read a unit before the
	// next step comes.
	aspectPolls    = 2
	aspectShortMap = 17
	maxAspectUnits = 32
	// aspectAfter is how long after a vehicle a fault ends.
	aspectAfter = time.Second
	// aspectFirst is the counter at the beginning, and aspectNearWrap with counter-wrap.
	aspectFirst    = 4711
	aspectNearWrap = 65534
)

// aspectWheels are the wheels on one side that a portal sees of each kind of vehicle.
var aspectWheels = map[string]uint16{"car": 2, "van": 2, "bus": 3, "truck": 5}

// aspectPortal is one address with one portal or more, each of which is a unit.
type aspectPortal struct {
	*modbusFront
	env   cameraEnv
	base  int
	size  int
	slow  time.Duration
	units []*aspectUnit

	mu     sync.Mutex
	polled chan struct{}
}

// aspectUnit is one portal; its portal's mu guards it.
type aspectUnit struct {
	n           int
	block       aspect.Block
	queue       []aspectStep
	busy        time.Duration
	polls       int // since the last step
	occupancies int
	vehicles    int
}

// aspectStep is what happens at a time.
type aspectStep struct {
	at time.Duration
	do func()
}

func newAspectPortal(env cameraEnv) (cameraModel, error) {
	s := env.Settings
	p := &aspectPortal{env: env, base: aspect.FixedBase, size: aspect.BlockSize, polled: make(chan struct{}, 1)}
	units := 1
	for _, o := range []struct {
		name      string
		into      *int
		low, high int
	}{{"units", &units, 1, maxAspectUnits}, {"base", &p.base, aspect.DescriptionSize, 65000}, {"size", &p.size, 4, aspect.BlockSize}} {
		text := s.Options[o.name]
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < o.low || n > o.high {
			return nil, fmt.Errorf("%s: %q is no number from %d to %d", o.name, text, o.low, o.high)
		}
		*o.into = n
	}
	if s.Has("short-map") && s.Options["size"] == "" {
		p.size = aspectShortMap
	}
	if s.Has("slow") {
		p.slow = answerAfter
		if text := s.Options["answer_after"]; text != "" {
			d, err := time.ParseDuration(text)
			if err != nil || d < 0 || d > time.Minute {
				return nil, fmt.Errorf("answer_after: %q is no time up to 1m", text)
			}
			p.slow = d
		}
	}
	for n := range units {
		u := &aspectUnit{n: n + 1}
		u.block = aspect.Block{
			Read:  aspect.AllFields,
			Gamma: aspect.Channel{Status: aspect.Ready, Count: aspectGammaBackground, Background: aspectGammaBackground, Variance: aspectGammaBackground},
			Neutron: aspect.Channel{
				Status: aspect.Ready, Count: aspectNeutronCount, Background: aspectNeutronBackground, Variance: aspectNeutronBackground,
			},
			Objects: aspectFirst, Outputs: aspect.OutEntryGreen,
		}
		if s.Has("counter-wrap") {
			u.block.Objects = aspectNearWrap
		}
		p.units = append(p.units, u)
	}
	var err error
	if p.modbusFront, err = newModbusFront(env); err != nil {
		return nil, err
	}
	if err := p.serve(p); err != nil {
		return nil, err
	}
	return p, nil
}

// ServeHTTP implements http.Handler; a portal serves nothing by HTTP.
func (p *aspectPortal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// drive is what a unit does when a vehicle comes, after its start.
func (p *aspectPortal) drive(u *aspectUnit, v Sighting, start time.Duration) (list []aspectStep) {
	has := p.env.Settings.Has
	u.vehicles++
	third := u.vehicles%3 == 0
	b := &u.block
	mmPerSecond := uint16(min(math.Round(v.SpeedKPH/3.6*1000), math.MaxUint16))
	inside := max(600*time.Millisecond, time.Duration(v.Length/max(v.SpeedKPH/3.6, 0.1)*float64(time.Second)))
	end := start + inside
	truth := &OccupancyTruth{
		Kind: "occupancy", Unit: u.n, End: "clear", CutS: seconds(start), StartS: seconds(start), EndS: seconds(end), Vehicles: []int{v.Vehicle},
		Groups: []string{}, SpeedsKPH: []float64{round(aspect.KPH(mmPerSecond), 3)}, SpeedRecords: 1, SourceInside: v.GammaCPS > 0 || v.NeutronCPS > 0,
		GammaBgSumCPS: aspectGammaBackground, NeutronBgCPS: aspectNeutronBackground, Direction: "1_to_0", Mark: int(aspectWheels[v.Kind]),
		Touched: []Touch{}, TouchedBackground: []Touch{}, TouchedSetup: []Touch{}, TouchedEnd: []Touch{},
	}
	way := aspect.Direction1To0
	if v.Toward {
		way, truth.Direction = aspect.Direction0To1, "0_to_1"
	}
	set := func(bit aspect.Inputs, on bool, signal string, at time.Duration) {
		value := 0.0
		if b.Inputs &^= bit; on {
			b.Inputs |= bit
			value = 1
		}
		p.env.Signalled(SignalTruth{Kind: "signal", AtS: seconds(at), Signal: signal, Value: value, Why: "switch"})
	}
	faults := func(on bool, at time.Duration) {
		if has("power-fail") && third {
			set(aspect.PowerFail, on, "external_power", at)
		}
		if has("tamper") && third {
			set(aspect.Open, on, "tamper", at)
		}
		if has("overload") && third {
			value := 0.0
			if b.Gamma.Status &^= aspect.Overload; on {
				b.Gamma.Status |= aspect.Overload
				value = 1
			}
			p.env.Signalled(SignalTruth{Kind: "signal", AtS: seconds(at), Signal: "gamma_overload", Value: value, Why: "switch"})
		}
	}
	for i := range aspectSteps {
		at := start + inside*time.Duration(i)/aspectSteps
		near := math.Sin(math.Pi * (float64(i) + 0.5) / aspectSteps)
		gamma := uint32(aspectGammaBackground + v.GammaCPS*near + float64(p.env.Rand.IntN(2*aspectNoise)-aspectNoise))
		neutron := uint32(aspectNeutronCount + v.NeutronCPS*near)
		list = append(list, aspectStep{at, func() {
			if i == 0 {
				if b.Objects++; has("counter-jump") && third {
					b.Objects++
					p.env.Signalled(SignalTruth{Kind: "signal", AtS: seconds(at), Signal: "missed", Value: 1, Why: "switch"})
				}
				u.occupancies++
				truth.Occupancy, truth.GXCounter = u.occupancies, int(b.Objects)
				b.Inputs |= aspect.Occup0 | way
				b.Speed, b.Mark = mmPerSecond, uint16(truth.Mark) //nolint:gosec // few
				b.Outputs |= aspect.OutBusy
				faults(true, at)
			}
			b.Inputs = b.Inputs&^aspect.OccupMask | aspect.Occup0<<(i*2/aspectSteps)
			b.Gamma.Count, b.Neutron.Count = gamma, neutron
			truth.HighestCount, truth.NeutronCounts = max(truth.HighestCount, int(gamma)), max(truth.NeutronCounts, int(neutron))
			if float64(gamma) >= aspectGammaBackground+aspectSigma*math.Sqrt(aspectGammaBackground) {
				b.Gamma.Status |= aspect.Alarm1 | aspect.N0
				truth.GammaAlarm = true
			}
			if neutron >= aspectNeutronAlarm {
				b.Neutron.Status |= aspect.Alarm1 | aspect.N0
				truth.NeutronAlarm = true
			}
			if truth.GammaAlarm || truth.NeutronAlarm {
				b.Outputs |= aspect.OutAlarm
			}
		}})
	}
	list = append(list, aspectStep{end, func() {
		b.Inputs &^= aspect.OccupMask | way
		b.Gamma.Count, b.Neutron.Count = aspectGammaBackground, aspectNeutronCount
		b.Gamma.Status &^= aspect.Alarm1 | aspect.N0
		b.Neutron.Status &^= aspect.Alarm1 | aspect.N0
		b.Outputs &^= aspect.OutAlarm | aspect.OutBusy
		b.Speed, b.Mark = 0, 0
		p.env.Occupied(*truth)
	}})
	return append(list, aspectStep{end + aspectAfter, func() { faults(false, end+aspectAfter) }})
}

func (p *aspectPortal) observe(ctx context.Context, s Sighting) error {
	if s.Trailer {
		return nil
	}
	u := p.units[int(s.Serial)%len(p.units)] //nolint:gosec // a small number
	p.mu.Lock()
	list := p.drive(u, s, max(s.At, u.busy))
	u.busy = list[len(list)-1].at + time.Second
	if !p.env.Fast {
		u.queue = append(u.queue, list...)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	if err := p.seen(ctx, u); err != nil { // somebody is there, and knows how it was before
		return err
	}
	for _, step := range list {
		p.mu.Lock()
		step.do()
		p.mu.Unlock()
		if err := p.seen(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// seen waits until a client has read a unit's block a few times.
func (p *aspectPortal) seen(ctx context.Context, u *aspectUnit) error {
	p.mu.Lock()
	u.polls = 0
	p.mu.Unlock()
	for {
		p.mu.Lock()
		enough := u.polls >= aspectPolls
		p.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-p.polled:
		case <-p.env.Done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *aspectPortal) tick(context.Context, time.Duration) {
	if p.env.Fast {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.units {
		p.advance(u)
	}
}

// advance lets happen what is due. p.mu is held.
func (p *aspectPortal) advance(u *aspectUnit) {
	now := p.env.Elapsed()
	for len(u.queue) > 0 && u.queue[0].at <= now {
		u.queue[0].do()
		u.queue = u.queue[1:]
	}
	u.block.Elapsed = uint32(now / time.Millisecond) //nolint:gosec // it begins anew
}

// words gives what lies at an address, false if nothing does. p.mu is held.
func (p *aspectPortal) words(u *aspectUnit, from, n int) ([]uint16, bool) {
	if from < aspect.DescriptionSize {
		if from+n > aspect.DescriptionSize || p.env.Settings.Has("no-description") {
			return nil, false
		}
		d := aspect.Description{Signature: 1, Registers: aspect.BlockSize, BlockID: uint16(u.n), Base: uint16(p.base), Size: aspect.BlockSize} //nolint:gosec // bounded
		if p.env.Settings.Has("no-map") {
			d.Base = 0
		}
		words := d.Words()
		return words[from : from+n], true
	}
	if from < p.base || from+n > p.base+p.size {
		return nil, false
	}
	r := u.block.Encode()
	return slices.Clone(r.Words[from-p.base : from-p.base+n]), true
}

// HandleHoldingRegisters implements modbus.RequestHandler.
func (p *aspectPortal) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	if r.IsWrite {
		return nil, p.wrote()
	}
	if p.slow > 0 {
		time.Sleep(p.slow) // that is what it takes
	}
	if r.UnitId < 1 || int(r.UnitId) > len(p.units) {
		return nil, modbus.ErrGWTargetFailedToRespond
	}
	u := p.units[r.UnitId-1]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.env.Fast {
		p.advance(u)
	}
	words, ok := p.words(u, int(r.Addr), int(r.Quantity))
	if !ok {
		return nil, modbus.ErrIllegalDataAddress
	}
	if int(r.Addr) == p.base {
		u.polls++
		select {
		case p.polled <- struct{}{}:
		default:
		}
	}
	return words, nil
}

// wrote notes that somebody wanted to write, which the portal refuses.
func (p *aspectPortal) wrote() error {
	p.env.Event("written")
	return modbus.ErrIllegalFunction
}

// HandleCoils implements modbus.RequestHandler; there are none.
func (p *aspectPortal) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	if r.IsWrite {
		return nil, p.wrote()
	}
	return nil, modbus.ErrIllegalFunction
}

// HandleDiscreteInputs implements modbus.RequestHandler; there are none.
func (p *aspectPortal) HandleDiscreteInputs(*modbus.DiscreteInputsRequest) ([]bool, error) {
	return nil, modbus.ErrIllegalFunction
}

// HandleInputRegisters implements modbus.RequestHandler; there are none.
func (p *aspectPortal) HandleInputRegisters(*modbus.InputRegistersRequest) ([]uint16, error) {
	return nil, modbus.ErrIllegalFunction
}
