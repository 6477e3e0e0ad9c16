package lane

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// signalKind is what is known of a canonical signal.
type signalKind struct {
	kind string
	// stuck: it should not be on for long.
	stuck bool
	// numbered: there may be several of them, loop_1 and loop_2; must: there always is a
	// number.
	numbered, must bool
}

// signalTable has the canonical names: those of a scanner and those of a lane.
var signalTable = map[string]signalKind{
	"xray_on":      {kind: event.SignalInput},
	"beam_permit":  {kind: event.SignalInput},
	"interlock_ok": {kind: event.SignalSafety, numbered: true},
	"estop_ok":     {kind: event.SignalSafety, numbered: true},
	"door_closed":  {kind: event.SignalSafety, numbered: true},
	"warmup":       {kind: event.SignalInput},
	"ready":        {kind: event.SignalInput},
	scanning:       {kind: event.SignalInput},

	"conveyor_fwd":  {kind: event.SignalInput},
	"conveyor_rev":  {kind: event.SignalInput},
	"conveyor_stop": {kind: event.SignalInput},

	"fault_code":   {kind: event.SignalMode},
	"mode":         {kind: event.SignalMode},
	"life_counter": {kind: event.SignalLife},
	scanCounter:    {kind: event.SignalCounter},

	"kv":                  {kind: event.SignalNumeric},
	"ma":                  {kind: event.SignalNumeric},
	"dose_rate":           {kind: event.SignalNumeric},
	"tube_hours":          {kind: event.SignalNumeric},
	"image_disk_free_pct": {kind: event.SignalNumeric},

	"loop":           {kind: event.SignalInput, stuck: true, numbered: true, must: true},
	"barrier_up":     {kind: event.SignalInput, numbered: true},
	"barrier_down":   {kind: event.SignalInput, numbered: true},
	"barrier_moving": {kind: event.SignalInput, stuck: true, numbered: true},
	"barrier_fault":  {kind: event.SignalInput, numbered: true},
	"light_red":      {kind: event.SignalInput, numbered: true},
	"light_amber":    {kind: event.SignalInput, numbered: true},
	"light_green":    {kind: event.SignalInput, numbered: true},
	"curtain":        {kind: event.SignalInput, stuck: true, numbered: true},
	// estop is on when it is pressed, the other way round than estop_ok.
	"estop": {kind: event.SignalSafety, numbered: true},
}

// Names that mean something to the engine.
const (
	scanning    = "scanning"
	scanCounter = "scan_counter"
	linkSignal  = "link"
	customName  = "custom_"
)

// usualDebounce is how long a change must last, where the configuration does not say.
var usualDebounce = map[string]time.Duration{
	event.SignalSafety: 30 * time.Millisecond, event.SignalInput: 50 * time.Millisecond, event.SignalMode: 100 * time.Millisecond,
}

var (
	signalKinds  = []string{event.SignalInput, event.SignalSafety, event.SignalNumeric, event.SignalCounter, event.SignalLife, event.SignalMode}
	numberedName = regexp.MustCompile(`^(.+)_([1-9][0-9]?)$`)
	plainName    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)
)

// lookupSignal finds what a name means.
func lookupSignal(name string) (signalKind, error) {
	if k, ok := signalTable[name]; ok && !k.must {
		return k, nil
	}
	if m := numberedName.FindStringSubmatch(name); m != nil {
		if k, ok := signalTable[m[1]]; ok && k.numbered {
			return k, nil
		}
	}
	if signalTable[name].must {
		return signalKind{}, fmt.Errorf("%s needs a number: %s_1", name, name)
	}
	hint := "; declare one of your own as custom_NAME with a kind"
	if near := link.Nearest(strings.TrimRight(name, "_0123456789"), slices.Sorted(maps.Keys(signalTable))); near != "" {
		hint = fmt.Sprintf("; did you mean %s?%s", near, strings.TrimPrefix(hint, ";"))
	}
	return signalKind{}, fmt.Errorf("there is no signal of this name%s", hint)
}

// reading is what a signal is at one moment: a value, or unknown.
type reading struct {
	value float64
	known bool
	why   string // of an unknown one
}

func (r reading) same(o reading) bool { return r.known == o.known && (!r.known || r.value == o.value) }

func (r reading) pointer() *float64 {
	if !r.known {
		return nil
	}
	v := r.value
	return &v
}

// signal is one signal of the engine.
type signal struct {
	name string
	kind signalKind
	SignalSettings
	debounce time.Duration
	scale    float64
	jump     float64

	// now is what it is since, after debouncing, and was what it was before; raw is the last
	// sample and rawSince when the raw value was seen first.
	was, now, raw   reading
	since, rawSince time.Time
	device          time.Time // the device's own time of raw
	told            reading   // what the receiver knows
	toldAt          time.Time
	// held is a number that changed too soon after it was told, and since when; zero if none is.
	held        reading
	heldSince   time.Time
	edges       int // raw changes since it was told
	stuckTold   bool
	window      []time.Time // of the last raw changes, at most as many as make a chatter
	chattering  bool
	chatterTold time.Time
}

// on says whether an input is on, and is known to be.
func (s *signal) on() bool { return s.now.known && s.now.value != 0 }

// bad says whether a safety signal is not as it should be.
func (s *signal) bad(r reading) bool {
	if s.kind.kind != event.SignalSafety || !r.known {
		return false
	}
	pressed := s.name == "estop" || strings.HasPrefix(s.name, "estop_") && !strings.HasPrefix(s.name, "estop_ok")
	return (r.value != 0) == pressed
}

// binary says whether the signal is on or off.
func (s *signal) binary() bool {
	return s.kind.kind == event.SignalInput || s.kind.kind == event.SignalSafety
}

// read makes a reading of a sample.
func (s *signal) read(x link.Sample) reading {
	if x.Err != nil {
		why := x.Err.Error()
		return reading{why: why[:min(len(why), maxDetail)]}
	}
	if s.binary() {
		if (x.Value != 0) != s.Invert {
			return reading{value: 1, known: true}
		}
		return reading{value: 0, known: true}
	}
	v := x.Value*s.scale + s.Offset
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return reading{why: "the value is no number"}
	}
	return reading{value: v, known: true}
}

// sample takes a reading and reports whether the debounced state has changed.
func (s *signal) sample(at time.Time, r reading, device time.Time) (changed bool) {
	if s.rawSince.IsZero() {
		s.now, s.raw, s.since, s.rawSince, s.device = r, r, at, at, device
		return false
	}
	if !r.same(s.raw) {
		// A number that changes is none of this, and one that comes and goes is.
		if s.binary() || s.kind.kind == event.SignalMode || r.known != s.raw.known {
			s.edges++
			if s.window = append(s.window, at); len(s.window) > maxWindow {
				s.window = s.window[1:]
			}
		}
		s.raw, s.rawSince, s.device = r, at, device
	}
	wait := s.debounce
	if s.kind.kind == event.SignalSafety && (!r.known || s.bad(r)) {
		wait = 0 // a trip that was seen was one; only its end may be a bounce
	}
	if s.raw.same(s.now) || at.Sub(s.rawSince) < wait {
		return false
	}
	s.was, s.now, s.since = s.now, s.raw, s.rawSince
	s.stuckTold = false
	return true
}

// data is the event of the signal as it is now.
func (s *signal) data(reason string, observed time.Time) event.LaneSignal {
	e := event.LaneSignal{
		Signal: s.name, Kind: s.kind.kind, Severity: event.SeverityInfo, Quality: "good", Reason: reason,
		Previous: s.told.pointer(), Edges: s.edges, ObservedTS: event.At(observed),
	}
	if !s.device.IsZero() {
		t := event.At(s.device)
		e.DeviceTS = &t
	}
	switch {
	case !s.now.known:
		e.Quality, e.Detail, e.Severity = "unknown", s.now.why, event.SeverityWarning
	case s.binary():
		on := s.now.value != 0
		e.State = &on
	default:
		e.Value = s.now.pointer()
		if v := s.now.value; v == math.Trunc(v) {
			e.Text = s.Values[strconv.FormatFloat(v, 'f', -1, 64)]
		}
	}
	if reason == "stuck" || reason == "chatter" || reason == "jump" {
		e.Severity = event.SeverityWarning
	}
	// A safety signal that is as it should be at the first look is no news of safety.
	if s.kind.kind == event.SignalSafety && (reason != "initial" || !s.now.known || s.bad(s.now)) {
		e.Severity = event.SeveritySafety
	}
	return e
}
