package rpm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/aspect"
	"github.com/lanepost/lanepost/protocol/event"
)

// channelFaults are the bits of a channel's status that tell of a fault; the kind of the
// fault has the channel's name before it.
var channelFaults = []struct {
	bit  aspect.Status
	when bool // what the bit is when there is the fault
	kind string
}{
	{aspect.LowCount, true, "_low"},
	{aspect.HighCount, true, "_high"},
	{aspect.Overload, true, "_overload"},
	{aspect.Ready, false, "_not_ready"},
}

// inputFaults are the bits of the inputs that do. A failure spoils what is measured; a
// warning is only told.
var inputFaults = []struct {
	bit  aspect.Inputs
	kind string
}{
	{aspect.PowerFail, "external_power"},
	{aspect.LowBattery, "battery_low"},
	{aspect.Error, "error"},
	{aspect.Reset, "reset"},
}

// faultEdges tells what changed. What can't be read stays as it was.
func (s *aspectSession) faultEdges(b aspect.Block) error {
	for _, c := range s.channels(b) {
		if !c.read {
			continue
		}
		for _, f := range channelFaults {
			if err := s.fault(c.name+f.kind, (c.Status&f.bit != 0) == f.when); err != nil {
				return err
			}
		}
	}
	if !b.Read.Has(aspect.InputSignals) {
		return nil
	}
	for _, f := range inputFaults {
		if err := s.fault(f.kind, b.Inputs&f.bit != 0); err != nil {
			return err
		}
	}
	if err := s.pressed(b.Inputs&aspect.Button != 0); err != nil {
		return err
	}
	open := b.Inputs&aspect.Open != 0
	changes, tell := s.p.edge("tamper", s.p.tamper == "on").turns(s.now, s.p.tamper == "on", open)
	if !tell {
		return nil
	}
	if s.p.tamper = "clear"; open {
		s.p.tamper = "on"
	}
	return s.emit(event.RadiationTamper{State: s.p.tamper, Changes: changes, Raw: event.RawOf(s.wire)}, "")
}

// edge is that of a kind, which was told to be there or not.
func (p *aspectPortal) edge(kind string, told bool) *edge {
	if p.edges[kind] == nil {
		p.edges[kind] = &edge{last: told}
	}
	return p.edges[kind]
}

// fault tells of a fault that is there, or is not any more.
func (s *aspectSession) fault(kind string, raised bool) error {
	told := s.p.faults[kind]
	changes, tell := s.p.edge(kind, told).turns(s.now, told, raised)
	if !tell {
		return nil
	}
	s.p.faults[kind] = raised
	state := "cleared"
	if raised {
		state = "raised"
	}
	return s.emit(event.RadiationFault{
		Kind: kind, State: state, Changes: changes, CPS: []int{}, Detectors: []string{}, Raw: event.RawOf(s.wire),
	}, "")
}

// pressed tells that the button is pressed, and nothing when it is let go.
func (s *aspectSession) pressed(is bool) error {
	b := &s.p.button
	before := b.last
	if b.last = is; !is || before || !b.pace.free(s.now) {
		return nil
	}
	b.pace.took(s.now)
	return s.diagnose(event.DiagButton, "", "somebody pressed the button of the portal", nil)
}

// frozenFault is the fault of a portal whose registers stand still. What measures never tells
// the very same for long: its processor hangs, perhaps, behind a server that goes on answering.
const frozenFault = "frozen"

// frozen sees whether the registers stand still.
func (s *aspectSession) frozen() error {
	p := s.p
	if !bytes.Equal(s.wire, p.block) {
		first := p.block == nil
		p.block, p.changed = slices.Clone(s.wire), s.now
		if first {
			return nil // whether it moves is not known yet
		}
		return s.fault(frozenFault, false)
	}
	if limit := p.settings.FrozenAfter; limit == 0 || s.now.Sub(p.changed) < limit {
		return nil
	}
	return s.fault(frozenFault, true)
}

// aspectChannel is one channel of a look.
type aspectChannel struct {
	aspect.Channel
	name string
	// read says that its status was, counted that its count was, and background that its
	// background was.
	read, counted, background bool
}

// channels are those that the portal has, gamma first. Neutron detectors that are not
// fitted are left out unless they alarm: what comes is believed over what the settings say.
func (s *aspectSession) channels(b aspect.Block) []aspectChannel {
	has := b.Read.Has
	list := []aspectChannel{{b.Gamma, "gamma", has(aspect.GammaStatus), has(aspect.GammaCount), has(aspect.GammaBackground)}}
	neutron := aspectChannel{b.Neutron, "neutron", has(aspect.NeutronStatus), has(aspect.NeutronCount), has(aspect.NeutronBackground)}
	if s.p.settings.Neutron || neutron.read && neutron.Status.Alarms() {
		list = append(list, neutron)
	}
	return list
}

// faulty says whether the portal reports a fault of a channel, or of all of itself.
func (p *aspectPortal) faulty(channel string) bool {
	if p.faults[frozenFault] {
		return true
	}
	for _, f := range inputFaults {
		if f.bit&aspect.FailureMask != 0 && p.faults[f.kind] {
			return true
		}
	}
	for _, f := range channelFaults {
		if p.faults[channel+f.kind] {
			return true
		}
	}
	return false
}

// tellAbsent tells which registers can't be read, when that changes.
func (s *aspectSession) tellAbsent() error {
	if len(s.absent) == 0 {
		return s.tellMissing("")
	}
	byReason := map[string][]string{}
	for _, at := range slices.Sorted(maps.Keys(s.absent)) {
		why := s.absent[at].why
		byReason[why] = append(byReason[why], fmt.Sprint(s.place.Base+at))
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		parts = append(parts, fmt.Sprintf("%s (%s)", strings.Join(byReason[why], ", "), why))
	}
	return s.tellMissing("these registers of the portal can't be read, and what they would tell is unknown: " + strings.Join(parts, "; "))
}

// tellMissing tells what can't be read, when that changes. What changes all the time is told
// once in an interval.
func (s *aspectSession) tellMissing(what string) error {
	u := &s.p.unread
	if what != u.last {
		u.last = what
		u.changes++
	}
	if what == s.p.missing || !u.pace.free(s.now) && s.now.Sub(u.told) < s.p.settings.BackgroundInterval {
		return nil
	}
	u.pace.took(s.now)
	changes := u.changes
	s.p.missing, u.told, u.changes = what, s.now, 0
	if what == "" {
		what = "all registers of the portal can be read again"
	}
	values := map[string]float64{"missing": float64(len(s.absent))}
	if changes > 1 {
		what += fmt.Sprintf("; this changed %d times since it was last told", changes)
		values["changes"] = float64(changes)
	}
	return s.diagnose(event.DiagRegistersMissing, "", what, values)
}

// lateness gathers looks that came too late.
type lateness struct {
	now     bool // the look in hand is one
	n       int
	longest time.Duration
	told    time.Time // zero before the first
}

// lateLook sees whether the time since the look before was observed. It is told at once,
// and then at most once per interval. Asking for registers that may be missing takes time
// of its own and is not worth telling.
func (s *aspectSession) lateLook(retry bool) error {
	l := &s.late
	gap := s.now.Sub(s.read)
	l.now = !s.read.IsZero() && gap > s.p.settings.LateAfter
	if l.now && s.occ != nil {
		s.occ.damaged = true
	}
	if l.now && !retry {
		l.n++
		l.longest = max(l.longest, gap)
	}
	if l.n == 0 || !l.told.IsZero() && s.now.Sub(l.told) < s.p.settings.BackgroundInterval {
		return nil
	}
	n, longest := l.n, l.longest
	l.n, l.longest, l.told = 0, 0, s.now
	return s.diagnose(event.DiagLooksLate, "",
		fmt.Sprintf("the portal's registers could not be read for up to %s, %d times; what alarmed and passed in between is not known but for the object counter. "+
			"Look for a slow gateway, other clients of the portal, or a network that loses packets", longest.Round(time.Millisecond), n),
		map[string]float64{"times": float64(n), "longest_s": round3(longest.Seconds())})
}
