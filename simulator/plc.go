package simulator

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Times of a simulated controller.
const (
	// stepPolls is how often a client without a clock must have read what it reads before
	// the next change comes, and standPolls how often while the controller stands still or a
	// loop is stuck.
	stepPolls  = 3
	standPolls = 80
	// lifeEvery is how often the life counter goes up, in simulated time.
	lifeEvery = 500 * time.Millisecond
	// standsFor is how long a controller stands still.
	standsFor = 10 * time.Second
	// stuckFor is how long a stuck loop stays on.
	stuckFor = 20 * time.Minute
	// chatterEdges is how often a bad contact goes, chatterEach how long it stays.
	chatterEdges = 30
	chatterEach  = 200 * time.Millisecond
	loopFree     = "the loop is free again"
)

// plcSwitches are what controllers and their wiring were seen to do, each with every third
// vehicle.
var plcSwitches = []string{
	"life-stops",        // the controller stands still for ten seconds while its registers can be read
	"estop-mid-scan",    // somebody stops the scan
	"interlock-chatter", // a door's contact is loose
	"stuck-loop",        // the first loop stays on when the vehicle has gone
}

// plc is a controller that sees a scanner, two loops, a barrier and a light. How it is
// asked for its values is not its own: it is what Modbus and others serve.
type plc struct {
	env cameraEnv

	mu      sync.Mutex
	values  map[string]float64
	queue   []plcChange
	busy    time.Duration // until then it works on the vehicle before
	stands  []plcSpan     // when it stands still
	still   bool          // likewise, without a clock
	polls   map[int]int   // since the last change, by what was asked for
	polled  chan struct{}
	vehicle int
}

type plcSpan struct{ from, to time.Duration }

// plcChange is what a signal becomes at a time.
type plcChange struct {
	at    time.Duration
	name  string
	value float64
	why   string
}

// plcSignals are the signals and what they are at the beginning.
var plcSignals = map[string]float64{
	"xray_on": 0, "beam_permit": 1, "interlock_ok": 1, "estop_ok": 1, "door_closed": 1, "warmup": 0, "ready": 1, "scanning": 0,
	"conveyor_fwd": 0, "conveyor_rev": 0, "conveyor_stop": 1, "fault_code": 0, "life_counter": 0, "scan_counter": 4711,
	"kv": 0, "ma": 0, "dose_rate": 0, "tube_hours": 1203, "image_disk_free_pct": 64, "mode": 1,
	"loop_1": 0, "loop_2": 0, "barrier_up": 0, "barrier_down": 1, "barrier_moving": 0, "barrier_fault": 0,
	"light_red": 0, "light_amber": 0, "light_green": 1, "curtain": 0, "estop": 0,
}

func newPLC(env cameraEnv) *plc {
	return &plc{env: env, values: maps.Clone(plcSignals), polls: map[int]int{}, polled: make(chan struct{}, 1)}
}

// ServeHTTP implements http.Handler; a controller serves nothing by HTTP.
func (p *plc) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }

// look gives what every signal is now, by name. what tells apart what a client asks for, so
// that a change waits until all of it was asked for, and is any number.
func (p *plc) look(what int) map[string]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.env.Fast {
		p.polls[what]++
		if !p.still {
			p.values["life_counter"]++
		}
		select {
		case p.polled <- struct{}{}:
		default:
		}
	} else {
		p.advance(p.env.Elapsed())
	}
	return maps.Clone(p.values)
}

// advance lets happen what is due. p.mu is held.
func (p *plc) advance(now time.Duration) {
	for len(p.queue) > 0 && p.queue[0].at <= now {
		p.become(p.queue[0])
		p.queue = p.queue[1:]
	}
	lived := now
	for _, s := range p.stands {
		lived -= max(0, min(now, s.to)-s.from)
	}
	p.values["life_counter"] = float64(lived / lifeEvery % (1 << 16))
}

// become makes a change, and puts it into the truth. p.mu is held.
func (p *plc) become(c plcChange) {
	if p.values[c.name] == c.value {
		return
	}
	p.values[c.name] = c.value
	p.env.Signalled(SignalTruth{Kind: "signal", AtS: seconds(c.at), Signal: c.name, Value: c.value, Why: c.why})
}

// drive is what happens when a vehicle comes, after its start.
func (p *plc) drive(s Sighting) (list []plcChange, stands *plcSpan) {
	has, third := p.env.Settings.Has, s.Serial%3 == 0
	at := func(after time.Duration, why string, names map[string]float64) {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			list = append(list, plcChange{after, name, names[name], why})
		}
	}
	const ms = time.Millisecond
	at(0, "a vehicle comes", map[string]float64{"loop_1": 1, "light_green": 0, "light_red": 1})
	at(1000*ms, "the scan begins", map[string]float64{
		"ready": 0, "xray_on": 1, "scanning": 1, "conveyor_fwd": 1, "conveyor_stop": 0, "kv": 160, "ma": 2.5, "dose_rate": 0.8, "curtain": 1,
	})
	end, idle := 6000*ms, map[string]float64{"xray_on": 0, "scanning": 0, "conveyor_fwd": 0, "conveyor_stop": 1, "kv": 0, "ma": 0, "dose_rate": 0, "curtain": 0}
	if has("estop-mid-scan") && third {
		idle["estop_ok"], idle["estop"], idle["beam_permit"], idle["fault_code"] = 0, 1, 0, 17
		at(3000*ms, "emergency stop", idle)
		at(5500*ms, "emergency stop released", map[string]float64{"estop_ok": 1, "estop": 0, "beam_permit": 1, "fault_code": 0})
	} else {
		p.vehicle++
		idle["scan_counter"] = plcSignals["scan_counter"] + float64(p.vehicle)
		at(end, "the scan ends", idle)
	}
	at(6300*ms, "the vehicle goes on", map[string]float64{"loop_2": 1, "ready": 1})
	if !has("stuck-loop") || !third {
		at(6600*ms, "the vehicle goes on", map[string]float64{"loop_1": 0})
	}
	at(7000*ms, "the barrier opens", map[string]float64{"barrier_down": 0, "barrier_moving": 1})
	at(7500*ms, "the barrier is open", map[string]float64{"barrier_up": 1, "barrier_moving": 0})
	at(8500*ms, "the vehicle has left", map[string]float64{"loop_2": 0, "barrier_up": 0, "barrier_down": 1, "light_red": 0, "light_green": 1})
	if has("interlock-chatter") && third {
		for i := range chatterEdges {
			at(9*time.Second+time.Duration(i)*chatterEach, "a loose contact", map[string]float64{"interlock_ok": float64(i % 2)})
		}
	}
	if has("stuck-loop") && third {
		at(9*time.Second+stuckFor, loopFree, map[string]float64{"loop_1": 0})
	}
	if has("life-stops") && third {
		stands = &plcSpan{from: 9 * time.Second, to: 9*time.Second + standsFor}
	}
	slices.SortStableFunc(list, func(a, b plcChange) int { return cmp.Compare(a.at, b.at) })
	return list, stands
}

func (p *plc) observe(ctx context.Context, s Sighting) error {
	if s.Trailer {
		return nil
	}
	p.mu.Lock()
	list, stands := p.drive(s)
	start := max(s.At, p.busy)
	for i := range list {
		list[i].at += start
	}
	p.busy = list[len(list)-1].at + time.Second
	if stands != nil {
		stands.from, stands.to = stands.from+start, stands.to+start
		p.busy = max(p.busy, stands.to+time.Second)
		p.env.Signalled(SignalTruth{Kind: "signal", AtS: seconds(stands.from), Signal: "life_counter", Why: "the controller stands still"})
	}
	if !p.env.Fast {
		p.queue = append(p.queue, list...)
		if stands != nil {
			p.stands = append(p.stands, *stands)
		}
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	if err := p.seen(ctx, stepPolls); err != nil { // somebody is there, and knows how it was before
		return err
	}
	for len(list) > 0 {
		if list[0].why == loopFree {
			if err := p.seen(ctx, standPolls); err != nil {
				return err
			}
		}
		n := 1
		for n < len(list) && list[n].at == list[0].at {
			n++
		}
		p.mu.Lock()
		for _, c := range list[:n] {
			p.become(c)
		}
		p.mu.Unlock()
		list = list[n:]
		if err := p.seen(ctx, stepPolls); err != nil {
			return err
		}
	}
	if stands == nil {
		return nil
	}
	p.stand(true)
	if err := p.seen(ctx, standPolls); err != nil {
		return err
	}
	p.stand(false)
	return p.seen(ctx, stepPolls)
}

func (p *plc) stand(still bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.still = still
}

// seen waits until a client has read all that it reads n times.
func (p *plc) seen(ctx context.Context, n int) error {
	p.mu.Lock()
	clear(p.polls)
	p.mu.Unlock()
	for {
		p.mu.Lock()
		most := 0
		for _, k := range p.polls {
			most = max(most, k)
		}
		p.mu.Unlock()
		if most >= n {
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

func (p *plc) tick(context.Context, time.Duration) {
	if p.env.Fast {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(p.env.Elapsed())
}
