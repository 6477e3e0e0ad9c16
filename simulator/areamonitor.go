package simulator

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// What a simulated area monitor measures.
const (
	areaBackground = 0.1  // uSv/h, of it a tenth neutrons where it has a channel for them
	areaThreshold  = 1.0  // uSv/h, its own
	areaPerCPS     = 1e-3 // uSv/h for each net count per second of a source's portal
	areaDefault    = "radeye"
	// areaPass is how many readings a vehicle that passes lasts, and how strong it is in each
	// against the strongest.
	areaPass = 8
)

var areaShape = [areaPass]float64{0.1, 0.4, 0.8, 1, 1, 0.8, 0.4, 0.1}

// areaSwitches are what area monitors do, or may do, at each third vehicle or all the time.
var areaSwitches = []string{
	"alarm",        // each third vehicle carries enough for an alarm
	"overload",     // each third vehicle carries more than it can measure
	"low-battery",  // while each third vehicle passes
	"fail",         // its detector fails while each third vehicle passes
	"silent",       // it says nothing while each third vehicle passes
	"frozen",       // after the second vehicle it tells the very same for ever
	"bad-checksum", // each fifth frame is damaged
	"dribble",      // a few bytes at a time
}

// areaKnows are the switches that a format has a word for; the others of these are refused.
var areaKnows = map[string][]string{
	"ludlum-375":         {"alarm", "overload", "fail"},
	"ludlum-375-printer": {"alarm", "fail"},
	"drm":                {"alarm", "overload", "low-battery", "fail"},
	"radeye":             {"alarm", "overload", "low-battery"},
	"kromek":             {"alarm"},
}

// areaWords are those that need a word of the format.
var areaWords = []string{"alarm", "overload", "low-battery", "fail"}

// areaMonitor is an area monitor beside the lane. Its option "format" is one of
// ratemeter.Names. One that must be asked answers requests; on a line where it can't hear it
// talks all the same.
type areaMonitor struct {
	env    cameraEnv
	format ratemeter.Format
	name   string
	asked  bool // it answers and does not talk by itself

	mu      sync.Mutex
	queue   []ratemeter.Reading
	now     ratemeter.Reading // while there is nothing in the queue
	frozen  map[int][]byte    // by request
	freeze  bool
	mute    int        // readings that are not told
	made    int        // readings
	sent    int        // frames
	dose    [2]float64 // of an LB 6420, in pSv: gamma and neutrons
	at      time.Time  // when it was asked last
	inbox   []byte
	changed chan struct{} // a hint that the queue is shorter
	noise   interface{ NormFloat64() float64 }
}

func newAreaMonitor(env cameraEnv) (cameraModel, error) {
	name := env.Settings.Options["format"]
	if name == "" {
		name = areaDefault
	}
	f, err := ratemeter.Lookup(name, ratemeter.Options{Address: 1, LiveTime: "ms", Checksum: env.Settings.Options["checksum"]})
	if err != nil {
		return nil, err
	}
	for _, s := range areaWords {
		if env.Settings.Has(s) && !slices.Contains(areaKnows[name], s) {
			return nil, fmt.Errorf("switch %q: the format %s has no word for it; it has for %s", s, name, strings.Join(areaKnows[name], ", "))
		}
	}
	m := &areaMonitor{
		env: env, format: f, name: name, asked: len(f.Requests) > 0 && env.Hear != nil,
		changed: make(chan struct{}, 1), noise: env.Rand, at: time.Now(), frozen: map[int][]byte{},
	}
	m.now, _ = m.reading(0, 0)
	if env.Hear != nil {
		env.Hear(m.heard)
	}
	return m, nil
}

// ServeHTTP implements http.Handler; it serves nothing.
func (m *areaMonitor) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// reading is what it measures of sources that give so much, in uSv/h, and whether that
// exceeds its threshold.
func (m *areaMonitor) reading(gamma, neutron float64) (ratemeter.Reading, bool) {
	m.made++
	wobble := func(v float64) float64 { return math.Max(v*(1+0.1*m.noise.NormFloat64()), v/2) }
	g, n := wobble(areaBackground)+gamma, wobble(areaBackground/10)+neutron
	r := ratemeter.Reading{ID: "1"}
	switch m.name {
	case "kromek":
		r.ID = strconv.Itoa(m.made)
		r.Values = []ratemeter.Value{{Channel: ratemeter.Dose, Value: g, Unit: "uSv/h"}, {Channel: ratemeter.Gamma, Value: math.Round(1000 * g), Unit: "cps"}, {Channel: ratemeter.Neutron, Value: math.Round(100 * n), Unit: "cps"}}
	case "fht-6020", "berthold-lb6420":
		r.Values = []ratemeter.Value{{Channel: ratemeter.Gamma, Value: g, Unit: "uSv/h"}, {Channel: ratemeter.Neutron, Value: n, Unit: "uSv/h"}}
	case "ludlum-375", "ludlum-375-printer": // which shows tenths, of uR/h
		r.Values = []ratemeter.Value{{Channel: ratemeter.Gamma, Value: 100 * g}}
	default:
		r.Values = []ratemeter.Value{{Channel: ratemeter.Gamma, Value: g, Unit: "uSv/h"}}
	}
	if g >= areaThreshold {
		r.Alarms = m.alarms()
	}
	return r, g >= areaThreshold
}

func (m *areaMonitor) alarms() []ratemeter.Alarm {
	switch m.name {
	case "ludlum-375":
		return []ratemeter.Alarm{{Kind: ratemeter.High}, {Kind: ratemeter.Low}}
	case "fht-6020", "berthold-lb6420":
		return nil
	}
	return []ratemeter.Alarm{{Kind: ratemeter.Threshold, Channel: ratemeter.Dose}}
}

func (m *areaMonitor) observe(ctx context.Context, s Sighting) error {
	m.mu.Lock()
	list := m.passes(s)
	if !m.env.Fast || m.asked {
		m.queue = append(m.queue, list...)
		m.mu.Unlock()
		if m.env.Fast {
			return m.told(ctx)
		}
		return nil
	}
	m.mu.Unlock()
	if err := m.env.Line.client(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range list {
		if err := m.tell(ctx, r, 0); err != nil {
			return err
		}
	}
	return nil
}

// passes is what it measures while a vehicle passes. It puts that into the truth.
func (m *areaMonitor) passes(s Sighting) (list []ratemeter.Reading) {
	has, third := m.env.Settings.Has, s.Serial%3 == 0
	gamma, neutron := s.GammaCPS*areaPerCPS, s.NeutronCPS*areaPerCPS
	if has("alarm") && third {
		gamma = math.Max(gamma, 5*areaThreshold)
	}
	m.freeze = m.freeze || has("frozen") && s.Serial > 2
	t := RateTruth{
		Kind: "rate", AtS: seconds(s.At), Vehicle: s.Vehicle, PeakUSvH: round(gamma+areaBackground, 3), NeutronUSvH: round(neutron, 3),
		Overload: has("overload") && third, Fails: has("fail") && third, LowBattery: has("low-battery") && third,
		Untold: has("silent") && third || m.freeze,
	}
	free := func() {
		r, _ := m.reading(0, 0)
		list = append(list, r)
	}
	free()
	for _, share := range areaShape {
		r, exceeds := m.reading(share*gamma, share*neutron)
		switch {
		case t.Overload:
			r.Over, r.Alarms, exceeds = true, m.alarms(), m.name != "drm" // which tells one thing at a time
		case t.Fails:
			r.Alarms, r.Faults, exceeds = nil, []ratemeter.Fault{{Kind: ratemeter.Detector, Code: "3"}}, false
		case t.LowBattery:
			r.Faults = []ratemeter.Fault{{Kind: ratemeter.BatteryLow}}
		}
		t.Alarm = t.Alarm || exceeds && !t.Untold
		list = append(list, r)
	}
	// Twice: with the last reading asked for, the world may be over before its alarms are.
	free()
	free()
	m.env.Rated(t)
	if has("silent") && third {
		m.mute = len(list) * max(len(m.format.Requests), 1)
	}
	return list
}

// told waits until the client has asked for everything.
func (m *areaMonitor) told(ctx context.Context) error {
	for {
		m.mu.Lock()
		left := len(m.queue)
		m.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-m.changed:
		case <-m.env.Done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next is what it measures now.
func (m *areaMonitor) next() ratemeter.Reading {
	if len(m.queue) == 0 {
		m.now, _ = m.reading(0, 0)
		return m.now
	}
	m.now, m.queue = m.queue[0], m.queue[1:]
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return m.now
}

// tell sends a reading that answers a request, damaged as the switches say.
func (m *areaMonitor) tell(ctx context.Context, r ratemeter.Reading, request int) error {
	has := m.env.Settings.Has
	if m.mute > 0 {
		m.mute--
		return nil
	}
	frame := m.format.Append(nil, r)
	if m.freeze {
		if m.frozen[request] == nil {
			m.frozen[request] = frame
		}
		frame = slices.Clone(m.frozen[request])
	}
	m.sent++
	switch {
	case !has("bad-checksum"):
	case m.format.ByTime && m.sent == 5: // once: the client must begin anew then
		frame = frame[:len(frame)/2]
	case !m.format.ByTime && m.sent%5 == 0:
		frame[len(frame)/2] ^= 0x41
	}
	step := len(frame)
	if has("dribble") {
		step = 1 + len(frame)/100
	}
	for i := 0; i < len(frame); i += step {
		if _, err := m.env.Line.send(ctx, frame[i:min(i+step, len(frame))]); err != nil {
			return err
		}
	}
	return nil
}

// heard answers what a client asks.
func (m *areaMonitor) heard(_ int, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inbox = append(m.inbox, b...)
	if len(m.inbox) > 4096 {
		m.inbox = nil // this is no client of such an instrument
	}
	for len(m.inbox) > 0 {
		n, which := 0, -1
		for i, request := range m.format.Requests {
			if strings.HasPrefix(string(m.inbox), string(request)) {
				n, which = len(request), i
			} else if strings.HasPrefix(string(request), string(m.inbox)) {
				return // the rest is on its way
			}
		}
		if which < 0 {
			m.inbox = m.inbox[1:]
			continue
		}
		m.inbox = m.inbox[n:]
		if !m.asked {
			continue
		}
		if err := m.answer(which); err != nil {
			m.env.Log.Warn("an area monitor can't answer", "error", err)
		}
	}
}

// answer answers a request. The first one goes on to the next reading.
func (m *areaMonitor) answer(which int) error {
	r := m.now
	if which == 0 {
		r = m.next()
	}
	ctx := context.Background() // the line has a deadline of its own
	switch m.name {
	case "fht-6020":
		r.Values = r.Values[which : which+1]
	case "kromek":
		if r.Status = which == 1; r.Status {
			r.Values = nil
		}
	case "berthold-lb6420":
		// The client makes rates by its own clock, so the doses grow by that and not by the
		// world's.
		elapsed := time.Since(m.at).Seconds()
		m.at = time.Now()
		for i := range m.dose {
			if !m.freeze {
				m.dose[i] += r.Values[i].Value * 1e6 / 3600 * elapsed
			}
		}
		r.Values = []ratemeter.Value{
			{Channel: ratemeter.Total, Value: math.Floor(m.dose[0]) + math.Floor(m.dose[1])},
			{Channel: ratemeter.Gamma, Value: math.Floor(m.dose[0])}, {Channel: ratemeter.Neutron, Value: math.Floor(m.dose[1])},
		}
	}
	return m.tell(ctx, r, which)
}

func (m *areaMonitor) tick(ctx context.Context, _ time.Duration) {
	if m.env.Fast || m.asked {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.tell(ctx, m.next(), 0); err != nil && ctx.Err() == nil {
		m.env.Log.Warn("an area monitor can't talk", "error", err)
	}
}
