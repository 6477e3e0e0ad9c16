// Package ratemeter reads and writes what area monitors and hand-held dose rate meters
// tell: Ludlum 375, Rotem and MGP DRM, Thermo RadEye and FHT 6020, Berthold LB 6420, Kromek
// D3S and D5. It does no I/O.
//
// Facts are from the pages of the makers' manuals that are public, and from public programs
// that read such instruments; each format says which. What neither fixes is an Option.
package ratemeter

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what comes from outside.
const (
	// maxLine bounds a frame of text in bytes, maxBinary any frame: a report of Kromek's
	// with every byte escaped.
	maxLine   = 256
	maxBinary = 2*kromekMost + 2
	// maxJunk is how many bytes that belong to no frame are told at once.
	maxJunk = 256
)

// Names of what a value is measured by.
const (
	Gamma             = "gamma"
	Neutron           = "neutron"
	HighEnergyNeutron = "neutron_high_energy"
	Alpha             = "alpha"
	Beta              = "beta"
	// Total is gamma and neutron together.
	Total = "total"
	// Dose is a dose rate, and an alarm that goes by it, of which the instrument does not say
	// what radiation it is of.
	Dose = "dose"
)

// Channels lists what an Option may name as a channel.
func Channels() []string {
	return []string{Gamma, Neutron, HighEnergyNeutron, Alpha, Beta, Total, Dose}
}

// Kinds of alarms.
const (
	// High and Low are the two thresholds of a Ludlum 375: the low one warns first.
	High = "high"
	Low  = "low"
	// Threshold: the instrument says that a threshold is exceeded, not which.
	Threshold = "threshold"
)

// Kinds of faults.
const (
	// Failure: the instrument says that it fails. Detector: that its detector does.
	// MonitorOff: that it does not watch.
	Failure       = "failure"
	Detector      = "detector"
	MonitorOff    = "monitor_off"
	BatteryLow    = "battery_low"
	ExternalPower = "external_power"
)

// Flags of a reading.
const (
	// FlagStatus: the instrument tells a status whose meaning is not public.
	FlagStatus = "status"
	// FlagMonitorOff: the instrument's own monitor status is off.
	FlagMonitorOff = "monitor_off"
)

// Alarm is an alarm that stands by the instrument's own threshold.
type Alarm struct {
	Kind string
	// Channel is what it goes by; empty if the instrument does not tell.
	Channel string
}

// Fault is a fault that the instrument tells. Code is its own code, empty if it has none.
type Fault struct{ Kind, Code string }

// Value is one value of a reading.
type Value struct {
	Channel string
	// Value is in Unit: "uSv/h", "cps" and so on, empty if the instrument does not tell.
	Value float64
	Unit  string
	// Text and UnitText are what the instrument told; UnitText is empty if it told no unit.
	Text, UnitText string
	// Counter: it is what was counted since the instrument began, so that two of them
	// make a rate. Unit is "pSv" then.
	Counter bool
}

// Reading is what one frame tells.
type Reading struct {
	// ID is what the instrument calls itself: a number or a model.
	ID     string
	Values []Value
	// Over: there is more than the instrument can measure. NoValue: it tells no value
	// although this frame is for one. Values is empty then: what stands in their place
	// counts for nothing.
	Over, NoValue bool
	// Bare: the instrument only said that it got a request, and nothing of what it measures.
	Bare bool
	// Status: Alarms and Faults are what stands now. Without Status the frame does not tell.
	Status bool
	// Partial: the frame tells one thing only, so that what it does not list is not over.
	Partial bool
	Alarms  []Alarm
	Faults  []Fault
	Flags   []string
}

// Options are what a site must know of its instrument.
type Options struct {
	// Checksum is how it is made: "none" does not look at it, "" is what the format has.
	// For drm "sum" (all 26 bytes add up to 0 modulo 256, the default) or "hex" (the two
	// bytes are the hexadecimal digits of what makes the others add up to 0).
	Checksum string
	// Address of an FHT 6020, 1 to 99.
	Address int
	// Channels name the values of a frame in their order; an empty one is left out.
	Channels []string
	// NoError are the error codes of a Ludlum 375 that mean that there is none.
	NoError string
	// LiveTime is the unit of Kromek's live times: "ms", "us" or "s". Without it no count
	// rate is made of the counts.
	LiveTime string
}

// Format is one way to tell rates.
type Format struct {
	Name string
	// Start is what makes the instrument talk, sent one after the other; Requests are what
	// asks for readings, sent in turn. None of them changes what it measures or alarms by.
	Start, Requests [][]byte
	// ByTime: the frames have no beginning that could be found again. After an answer that
	// does not come whole (Splitter.Flush) the connection must be made anew.
	ByTime bool
	// Counts: the values are counters (Value.Counter), so that a rate is as good as the times
	// that are known of two answers.
	Counts bool

	// frame gives the length of the frame at the beginning of b: 0 if more bytes are
	// needed, below zero for so many bytes that belong to none.
	frame func(b []byte) int
	// longest is the longest frame, in bytes.
	longest int
	// between is what may stand between frames.
	between string
	// tail: a frame begins where the one before ended, so that the first one of a
	// connection may be the rest of another.
	tail bool
	// seven: the eighth bit is none of the format's.
	seven  bool
	parse  func(frame []byte) (Reading, error)
	append func(b []byte, r Reading) []byte
}

// Names lists the formats.
func Names() []string {
	return []string{"berthold-lb6420", "drm", "fht-6020", "kromek", "ludlum-375", "ludlum-375-printer", "radeye"}
}

// DefaultChannels are the channels of a format where the site says nothing else. A Ludlum 375
// and a DRM measure gamma; the first value of a RadEye is taken for gamma and the second
// for nothing, since that differs between models.
func DefaultChannels(format string) []string {
	switch format {
	case "fht-6020":
		return []string{Gamma, Neutron}
	case "berthold-lb6420":
		return []string{Total, Gamma, HighEnergyNeutron, Neutron}
	case "kromek":
		return []string{Dose, Gamma, Neutron}
	}
	return []string{Gamma}
}

// places is how many values a frame of a format has, or how many are asked for.
func places(format string) int {
	if format == "radeye" {
		return 2
	}
	return len(DefaultChannels(format))
}

// Lookup makes a format. The error names the option that is wrong.
func Lookup(name string, o Options) (Format, error) {
	if len(o.Channels) == 0 {
		o.Channels = DefaultChannels(name)
	}
	if n := places(name); len(o.Channels) > n {
		return Format{}, fmt.Errorf("channels: there are %d; %s has %d", len(o.Channels), name, n)
	}
	for i, c := range o.Channels {
		switch {
		case c == "":
		case !slices.Contains(Channels(), c):
			return Format{}, fmt.Errorf("channels: %q is not known; take %s", c, strings.Join(Channels(), ", "))
		case slices.Contains(o.Channels[:i], c):
			return Format{}, fmt.Errorf("channels: %q is there twice", c)
		}
	}
	checks := map[string][]string{"drm": {"", "sum", "hex", "none"}, "fht-6020": {"", "none"}, "kromek": {"", "none"}}[name]
	if o.Checksum != "" && !slices.Contains(checks, o.Checksum) {
		return Format{}, fmt.Errorf("checksum: %q is none of %s's", o.Checksum, name)
	}
	var f Format
	switch name {
	case "ludlum-375":
		f = ludlum(o)
	case "ludlum-375-printer":
		f = printer(o)
	case "drm":
		f = drm(o)
	case "radeye":
		f = radeye(o)
	case "fht-6020":
		if o.Address < 1 || o.Address > 99 {
			return Format{}, fmt.Errorf("address: %d; an FHT 6020 has 1 to 99", o.Address)
		}
		f = fht(o)
	case "berthold-lb6420":
		f = berthold(o)
	case "kromek":
		if _, known := liveTimes[o.LiveTime]; !known {
			return Format{}, fmt.Errorf("live_time: %q is not known; take ms, us or s, or nothing", o.LiveTime)
		}
		f = kromek(o)
	default:
		return Format{}, fmt.Errorf("format: %q is not known; there are %s", name, strings.Join(Names(), ", "))
	}
	f.Name = name
	f.longest = cmp.Or(f.longest, maxLine)
	return f, nil
}

// Parse reads a frame that a Splitter gave.
func (f Format) Parse(frame []byte) (Reading, error) {
	r, err := f.parse(frame)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", f.Name, err)
	}
	if r.Over || r.NoValue {
		r.Values = nil
	}
	return r, nil
}

// Append appends the frame of a reading. What the format has no place for is left out.
func (f Format) Append(b []byte, r Reading) []byte { return f.append(b, r) }

// Splitter takes frames out of a stream.
type Splitter struct {
	f       Format
	buf     []byte
	junk    []byte
	started bool
	before  int // bytes before the first frame
}

// NewSplitter makes one, for one connection.
func NewSplitter(f Format) *Splitter { return &Splitter{f: f} }

// Write takes bytes as they come. Call Next until it gives none after each Write: memory is
// then bounded by the longest frame and the size of one Write.
func (s *Splitter) Write(b []byte) {
	for _, c := range b {
		if s.f.seven {
			c &= 0x7f
		}
		s.buf = append(s.buf, c)
	}
}

// Piece is a frame, or bytes that belong to none.
type Piece struct {
	Bytes []byte
	// Junk: no frame. First: it may be the rest of a frame that began before the connection,
	// so that it is no fault if it can't be read.
	Junk, First bool
}

// Next gives the next frame, or what there is between frames; ok is false if there is none
// yet. The bytes are valid until the next call of Write.
func (s *Splitter) Next() (Piece, bool) {
	for len(s.buf) > 0 {
		n := s.f.frame(s.buf)
		if n == 0 && len(s.buf) > maxBinary {
			n = -1
		}
		switch {
		case n > 0 && len(s.junk) > 0:
			return s.spill(), true // and the frame the next time
		case n > 0:
			p := Piece{Bytes: s.buf[:n:n], First: s.f.tail && !s.started}
			s.buf, s.started = s.buf[n:], true
			return p, true
		case n < 0:
			for _, c := range s.buf[:-n] {
				if strings.IndexByte(s.f.between, c) < 0 {
					s.junk = append(s.junk, c)
				}
			}
			s.buf = s.buf[-n:]
			if len(s.junk) >= maxJunk {
				return s.spill(), true
			}
		default:
			return Piece{}, false
		}
	}
	s.buf = nil
	return Piece{}, false
}

func (s *Splitter) spill() Piece {
	s.before += len(s.junk)
	p := Piece{Bytes: s.junk, Junk: true, First: !s.started && s.before <= s.f.longest}
	s.junk = nil
	return p
}

// Waiting is how many bytes wait for the rest of a frame.
func (s *Splitter) Waiting() int { return len(s.buf) }

// Flush gives up what waits for the rest of a frame; ok is false if nothing does.
func (s *Splitter) Flush() (Piece, bool) {
	s.junk, s.buf = append(s.junk, s.buf...), nil
	if len(s.junk) == 0 {
		return Piece{}, false
	}
	return s.spill(), true
}

// until gives frames that end with a byte and begin where the one before ended.
func until(end byte) func([]byte) int {
	return func(b []byte) int {
		switch i := bytes.IndexByte(b[:min(len(b), maxLine)], end); {
		case i >= 0:
			return i + 1
		case len(b) >= maxLine:
			return -maxLine
		}
		return 0
	}
}

// between gives frames that begin with one of some bytes and end with another. The beginning
// stands in no other place: a frame that has it inside was cut short.
func between(starts string, end byte) func([]byte) int {
	return func(b []byte) int {
		if n := skip(b, starts); n != 0 {
			return n
		}
		head := b[:min(len(b), maxLine)]
		i := bytes.IndexByte(head, end)
		if i < 0 {
			i = len(head)
		}
		if k := bytes.LastIndexAny(b[1:i], starts); k >= 0 {
			return -(k + 1)
		}
		switch {
		case i < len(head):
			return i + 1
		case len(b) >= maxLine:
			return -1
		}
		return 0
	}
}

// skip gives how far the beginning of a frame is, below zero; 0 if it is here.
func skip(b []byte, starts string) int {
	if i := bytes.IndexAny(b, starts); i >= 0 {
		return -i
	}
	return -len(b)
}

// rate reads a number of digits and a point.
func rate(text string) (float64, error) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no rate", text)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no rate", text)
	}
	return v, nil
}

// SI gives a value in the unit of its quantity: dose rates in "uSv/h" (or "uGy/h", since what
// a gray is in sieverts depends on the radiation), count rates in "cps". Units that it does
// not know are left as they are, with the quantity "unknown". perMilliroentgen is how many
// microsieverts a milliroentgen counts for: that is a convention, mostly 10.
func SI(value float64, unit string, perMilliroentgen float64) (v float64, quantity, si string) {
	for _, u := range units {
		if u.name == unit {
			factor := u.factor
			if u.roentgen {
				factor *= perMilliroentgen
			}
			return trim(value * factor), u.quantity, u.si
		}
	}
	return value, "unknown", unit
}

// Units lists the units that SI knows.
func Units() []string {
	var list []string
	for _, u := range units {
		list = append(list, u.name)
	}
	return list
}

var units = []struct {
	name         string
	factor       float64
	quantity, si string
	roentgen     bool
}{
	{"uSv/h", 1, "dose_rate", "uSv/h", false},
	{"nSv/h", 1e-3, "dose_rate", "uSv/h", false},
	{"mSv/h", 1e3, "dose_rate", "uSv/h", false},
	{"Sv/h", 1e6, "dose_rate", "uSv/h", false},
	{"urem/h", 1e-2, "dose_rate", "uSv/h", false},
	{"mrem/h", 1e1, "dose_rate", "uSv/h", false},
	{"rem/h", 1e4, "dose_rate", "uSv/h", false},
	{"uR/h", 1e-3, "dose_rate", "uSv/h", true},
	{"mR/h", 1, "dose_rate", "uSv/h", true},
	{"R/h", 1e3, "dose_rate", "uSv/h", true},
	{"uGy/h", 1, "dose_rate", "uGy/h", false},
	{"mGy/h", 1e3, "dose_rate", "uGy/h", false},
	{"Gy/h", 1e6, "dose_rate", "uGy/h", false},
	{"cps", 1, "count_rate", "cps", false},
	{"cpm", 1.0 / 60, "count_rate", "cps", false},
}

// trim takes away what binary fractions add: ten significant digits are more than any of
// these instruments has.
func trim(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	scale := math.Pow(10, 9-math.Floor(math.Log10(math.Abs(v))))
	if math.IsInf(scale, 0) || scale == 0 {
		return v
	}
	return math.Round(v*scale) / scale
}
