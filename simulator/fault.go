package simulator

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// Where is the place where a fault happens.
type Where string

// The three places.
const (
	InDevice Where = "device"
	OnWire   Where = "wire"
	InWorld  Where = "world"
)

// faultKind says what the fields of a Fault of this kind mean.
type faultKind struct {
	where Where
	// effect is what happens, for people.
	effect string
	// lasts is the default of For; zero means that the kind has no length.
	lasts time.Duration
	// cps is the default count rate from the portal's limits; nil means that
	// the kind takes neither cps nor detectors.
	cps func(p *PortalSettings) float64
	// onRecord is true for a fault that is done to single records.
	onRecord bool
}

// faultKinds is every kind of fault.
var faultKinds = map[string]faultKind{
	// In the device.
	"gamma-high": {where: InDevice, lasts: time.Minute, effect: "the gamma detectors count far too much",
		cps: func(p *PortalSettings) float64 { return 1.5 * float64(p.GammaHigh) }},
	"gamma-low": {where: InDevice, lasts: time.Minute, effect: "the gamma detectors hardly count",
		cps: func(p *PortalSettings) float64 { return 0.2 * float64(p.GammaLow) }},
	"neutron-high": {where: InDevice, lasts: time.Minute, effect: "the neutron detectors count far too much",
		cps: func(p *PortalSettings) float64 { return 4 * float64(p.NeutronHigh) }},
	"tamper":        {where: InDevice, lasts: 30 * time.Second, effect: "the cabinet is open"},
	"setup":         {where: InDevice, effect: "the portal reports its setup with the next background, changed as told"},
	"counter-reset": {where: InDevice, effect: "the occupancy counter starts again at 1"},
	"power-cycle":   {where: InDevice, lasts: 20 * time.Second, effect: "no power; afterwards the counter and the backgrounds start anew"},
	"stray-speed":   {where: InDevice, effect: "a speed record without an occupancy"},

	// On the wire, after encoding.
	"cut":       {where: OnWire, onRecord: true, effect: "the end of the record is missing"},
	"garble":    {where: OnWire, onRecord: true, effect: "one to four bytes of the record are others"},
	"noise":     {where: OnWire, onRecord: true, effect: "NULs and 8-bit bytes before the record"},
	"duplicate": {where: OnWire, onRecord: true, effect: "the record comes twice"},
	"drop":      {where: OnWire, onRecord: true, effect: "the record does not come"},
	"stall":     {where: OnWire, lasts: 4 * time.Second, effect: "no bytes; then all that was held back at once"},
	"slow":      {where: OnWire, lasts: 5 * time.Second, effect: "bytes come one at a time"},
	"disconnect": {where: OnWire, lasts: 5 * time.Second,
		effect: "the connection breaks and nobody is let in for a while"},
	"second-client": {where: OnWire, lasts: 5 * time.Second,
		effect: "another client has taken the place; ours is refused for a while"},
	"join-mid-record": {where: OnWire, effect: "the connection breaks; the next client is let in in the middle of a record"},

	// In the world.
	"stop-beside":   {where: InWorld, lasts: 25 * time.Second, effect: "the next vehicle stops just before the beam"},
	"stop-inside":   {where: InWorld, lasts: 8 * time.Second, effect: "the next vehicle stops between the pillars"},
	"tailgate":      {where: InWorld, effect: "another vehicle follows the next one so closely that both are one occupancy"},
	"reverse":       {where: InWorld, effect: "the next vehicle drives back out of the portal and comes again"},
	"parked-beside": {where: InWorld, lasts: 25 * time.Second, effect: "a truck stands beside the portal without cutting the beam"},
}

// FaultKinds lists the kinds of faults by name.
func FaultKinds() []string { return slices.Sorted(maps.Keys(faultKinds)) }

// schedule tells when a fault happens.
type schedule struct {
	Fault
	kind faultKind
	next time.Duration // never if negative
	rng  *rand.Rand
	left int // records that the fault at next has yet to touch
}

const never = time.Duration(-1)

func newSchedule(f Fault, rng *rand.Rand) *schedule {
	s := &schedule{Fault: f, kind: faultKinds[f.Kind], next: f.At, rng: rng, left: max(1, f.Records)}
	if f.Every > 0 {
		s.next += s.gap()
	}
	return s
}

func (s *schedule) gap() time.Duration {
	return max(time.Millisecond, time.Duration(s.rng.ExpFloat64()*float64(s.Every))).Truncate(time.Millisecond)
}

// due reports whether the fault happens at or before t.
func (s *schedule) due(t time.Duration) bool { return s.next != never && s.next <= t }

// done moves on to the next time. One that lasts does not begin again before
// it has ended.
func (s *schedule) done(now time.Duration) {
	if s.Every == 0 {
		s.next = never
		return
	}
	s.next = max(s.next, now) + s.For + s.gap()
	s.left = max(1, s.Records)
}

// plainTags are those of the records that every portal sends, extendedTags those that one with
// PortalSettings.Extended sends beside them.
var (
	plainTags = []tsa.Tag{
		tsa.GB, tsa.GH, tsa.GL, tsa.NB, tsa.NH, tsa.GS, tsa.GA, tsa.NS, tsa.NA, tsa.GX, tsa.SP, tsa.TT, tsa.TC, tsa.SG1, tsa.SG2, tsa.SG3, tsa.SN1, tsa.SN2,
	}
	extendedTags = []tsa.Tag{tsa.NB1, tsa.AB1, tsa.AR, tsa.AS, tsa.AM, tsa.AX, tsa.AA, tsa.AC, tsa.NC, tsa.NX, tsa.NZ, tsa.RW}
)

// matches reports whether a fault of the wire may touch a record with this tag.
func (s *schedule) matches(tag tsa.Tag) bool { return s.Tag == "" || s.Tag == string(tag) }
