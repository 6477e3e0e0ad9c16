package simulator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// Bounds of a scenario.
const (
	maxScenarioBytes = 1 << 20
	maxLanes         = 64
	maxDevices       = 16 // in a lane
	maxVehicles      = 10_000
	maxFaults        = 1_000 // in a lane
	maxStops         = 32    // of a vehicle
	maxFaultRecords  = 1_000 // touched by one wire fault
	maxLength        = 100.0 // m, of a vehicle
	minSpeed         = 1.0   // km/h
	maxSpeed         = 160.0 // km/h
	maxCPS           = 1_000_000.0
	minEvery         = 100 * time.Millisecond // between random faults
	maxDuration      = 366 * 24 * time.Hour
)

// problem is what is wrong at one place of a scenario.
type problem struct {
	path, text   string
	line, column int // in the file, if there is one
}

func (p problem) Error() string { return p.path + ": " + p.text }

// Validate fills in defaults and reports everything that is wrong. New and
// Generate call it.
func (s *Scenario) Validate() error {
	problems := s.check()
	slices.SortFunc(problems, func(a, b problem) int { return strings.Compare(a.path, b.path) })
	var errs []error
	for _, p := range problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// firmwarePattern fills the rest of the 30 characters of SG3.
var firmwarePattern = regexp.MustCompile(`^[0-9A-Za-z.]{6}$`)

// checker collects problems.
type checker struct{ problems []problem }

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, problem{path: path, text: fmt.Sprintf(format, args...)})
}

func (c *checker) id(path, id string) {
	if !idPattern.MatchString(id) {
		c.add(path, "%q is no id; want small letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit", id)
	}
}

func (c *checker) number(path string, v, low, high float64, unit string) {
	if !(v >= low && v <= high) {
		c.add(path, "%v is out of range; want %v to %v%s", v, low, high, unit)
	}
}

func (c *checker) length(path string, n, most int, what string) bool {
	if n > most {
		c.add(path, "%d %s, at most %d", n, what, most)
	}
	return n <= most
}

func (c *checker) duration(path string, d, low time.Duration) {
	if d < low || d > maxDuration {
		c.add(path, "%v is out of range; want %v to %v", d, low, maxDuration)
	}
}

func (s *Scenario) check() []problem {
	c := &checker{}
	if s.Name == "" {
		c.add("name", "missing; give the scenario a name")
	}
	c.duration("duration", s.Duration, 0)
	if len(s.Lanes) == 0 {
		c.add("lanes", "missing; a scenario needs a lane with a device")
	}
	if !c.length("lanes", len(s.Lanes), maxLanes, "lanes") {
		return c.problems
	}
	lanes, listens := map[string]bool{}, map[string]string{}
	for i := range s.Lanes {
		path := fmt.Sprintf("lanes[%d]", i)
		l := &s.Lanes[i]
		c.id(path+".id", l.ID)
		if lanes[l.ID] {
			c.add(path+".id", "lane %q is there twice", l.ID)
		}
		lanes[l.ID] = true
		c.lane(path, l, listens)
	}
	return c.problems
}

func (c *checker) lane(path string, l *Lane, listens map[string]string) {
	if len(l.Devices) == 0 {
		c.add(path+".devices", "missing; a lane needs a device")
	}
	if !c.length(path+".devices", len(l.Devices), maxDevices, "devices") ||
		!c.length(path+".traffic.vehicles", len(l.Traffic.Vehicles), maxVehicles, "vehicles") ||
		!c.length(path+".faults", len(l.Faults), maxFaults, "faults") {
		return
	}
	ids := map[string]bool{}
	for i := range l.Devices {
		p, d := fmt.Sprintf("%s.devices[%d]", path, i), &l.Devices[i]
		c.id(p+".id", d.ID)
		if ids[d.ID] {
			c.add(p+".id", "device %q is there twice in the lane", d.ID)
		}
		ids[d.ID] = true
		if !slices.Contains(Models(), d.Model) {
			c.add(p+".model", "%q is no model; lanesim list names those that there are", d.Model)
		}
		if d.Listen == "" {
			d.Listen = "tcp://127.0.0.1:0"
		}
		if cameraModels[d.Model].folder {
			if _, ok := parseFolder(d.Listen); !ok && d.Listen != "tcp://127.0.0.1:0" {
				c.add(p+".listen", "%q: an %s drops files: want folder:PATH, or nothing for a folder of its own", d.Listen, d.Model)
			}
			d.Listen = "folder:" + strings.TrimPrefix(strings.TrimPrefix(d.Listen, "tcp://127.0.0.1:0"), "folder:")
		} else if a, err := parseListen(d.Listen); err != nil {
			c.add(p+".listen", "%s", err)
		} else if other, taken := listens[d.Listen]; taken && !a.shareable() {
			c.add(p+".listen", "%s is also the place of %s", d.Listen, other)
		}
		if d.Listen != "folder:" {
			listens[d.Listen] = l.ID + "/" + d.ID
		}
		if d.Model != portalModel {
			if d.Settings != nil {
				c.add(p+".settings", "are for a %s; those of a %s are under camera", portalModel, d.Model)
			}
			if d.Camera == nil {
				d.Camera = &CameraSettings{}
			}
			c.camera(p+".camera", d.Camera)
			if kind, ok := cameraModels[d.Model]; ok {
				c.has(p+".camera", d, kind)
			}
			continue
		}
		if d.Camera != nil {
			c.add(p+".camera", "is for a number-plate reader; those of a %s are under settings", portalModel)
		}
		if d.Settings == nil {
			s := DefaultPortal()
			d.Settings = &s
		}
		c.portal(p+".settings", d.Settings)
	}
	var last time.Duration
	for i := range l.Traffic.Vehicles {
		p, v := fmt.Sprintf("%s.traffic.vehicles[%d]", path, i), &l.Traffic.Vehicles[i]
		c.vehicle(p, v)
		if i > 0 && v.Arrive < last && v.Follows == 0 {
			c.add(p+".arrive", "%v is before the vehicle ahead (%v); list vehicles in the order of their arrival", v.Arrive, last)
		}
		last = max(last, v.Arrive)
	}
	if r := l.Traffic.Random; r != nil {
		p := path + ".traffic.random"
		c.number(p+".per_hour", r.PerHour, 0.001, 3600, " vehicles in an hour")
		total := 0.0
		for kind, weight := range r.Mix {
			total += weight
			if _, ok := vehicleKinds[kind]; !ok {
				c.add(p+".mix."+kind, "no such kind of vehicle; want one of %s", kindNames())
			}
			c.number(p+".mix."+kind, weight, 0, 1e6, "")
		}
		if len(r.Mix) > 0 && total == 0 {
			c.add(p+".mix", "no kind of vehicle has any weight")
		}
		for name, v := range map[string]float64{"gamma": r.Gamma, "norm": r.Norm, "neutron": r.Neutron, "stop_and_go": r.StopAndGo} {
			c.number(p+"."+name, v, 0, 1, "")
		}
	}
	for i := range l.Faults {
		c.fault(fmt.Sprintf("%s.faults[%d]", path, i), &l.Faults[i], l.Devices)
	}
}

func (c *checker) camera(path string, s *CameraSettings) {
	if s.Sees == "" {
		s.Sees = "front"
	}
	if s.Sees != "front" && s.Sees != "rear" {
		c.add(path+".sees", "%q; want front or rear", s.Sees)
	}
	if s.Script == "" {
		s.Script = "latin"
	}
	if s.Script != "latin" && homoglyphs[s.Script] == nil {
		c.add(path+".script", "%q; want latin, cyrillic or greek", s.Script)
	}
	if _, err := time.LoadLocation(s.Zone); err != nil {
		c.add(path+".zone", "%q is no time zone that is known", s.Zone)
	}
	c.number(path+".clock_offset", s.ClockOffset.Hours(), -24, 24, " hours")
	c.number(path+".clock_jump", s.ClockJump.Hours(), -24, 24, " hours")
	c.number(path+".latency", s.Latency.Seconds(), 0, 10, " s")
	for name, v := range map[string]float64{"loss": s.Loss, "misread": s.Misread, "no_read": s.NoRead, "wrong_country": s.WrongCountry, "duplicate": s.Duplicate} {
		c.number(path+"."+name, v, 0, 1, "")
	}
	c.length(path+".switches", len(s.Switches), maxSwitches, "switches")
	c.length(path+".options", len(s.Options), maxSwitches, "options")
}

// has refuses switches and options that a model does not have.
func (c *checker) has(path string, d *Device, kind cameraKind) {
	for i, name := range d.Camera.Switches {
		if !slices.Contains(kind.switches, name) {
			c.add(fmt.Sprintf("%s.switches[%d]", path, i), "%s has no switch %q; it has %s", d.Model, name, strings.Join(kind.switches, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Camera.Options)) {
		if !slices.Contains(kind.options, name) {
			c.add(path+".options."+name, "%s has no option %q; it has %s", d.Model, name, cmp.Or(strings.Join(kind.options, ", "), "none"))
		}
	}
}

func (c *checker) portal(path string, s *PortalSettings) {
	c.detectors(path+".detectors", s.Detectors)
	if len(s.Detectors) == 0 {
		c.add(path+".detectors", "no detector is fitted; want some of 1, 2, 3, 4")
	}
	for name, rates := range map[string][]float64{"gamma_background": s.GammaBackground, "neutron_background": s.NeutronBackground} {
		if len(rates) != places {
			c.add(path+"."+name, "%d values, want %d", len(rates), places)
		}
		for i, r := range rates {
			c.number(fmt.Sprintf("%s.%s[%d]", path, name, i), r, 0, 100_000, " counts per second")
		}
	}
	c.sigma(path+".n_sigma", s.NSigma)
	c.groups(path+".groups", s.Groups)
	c.number(path+".intervals", float64(s.Intervals), 1, 20, "")
	c.number(path+".hold_in", float64(s.HoldIn), 1, 99, "")
	c.number(path+".gamma_high", float64(s.GammaHigh), 1, 999_999, "")
	c.number(path+".gamma_low", float64(s.GammaLow), 0, 999_999, "")
	c.number(path+".neutron_high", float64(s.NeutronHigh), 1, 999_999, "")
	c.number(path+".neutron_alarm", float64(s.NeutronAlarm), 1, 999_999, "")
	c.number(path+".counter", float64(s.Counter), 0, 999_999, "")
	c.number(path+".spurious_speed", s.SpuriousSpeed, 0, 1, "")
	if !firmwarePattern.MatchString(s.Firmware) {
		c.add(path+".firmware", "%q does not fit into SG3; want six letters, digits or dots, for instance 1.10.1", s.Firmware)
	}
}

// sigma has one decimal, since SG1 has room for no more.
func (c *checker) sigma(path string, v float64) {
	c.number(path, v, 0.1, 99, "")
	if round(v, 1) != v {
		c.add(path, "%v has more than one decimal; SG1 has room for one", v)
	}
}

func (c *checker) groups(path string, groups []string) {
	for _, g := range groups {
		if !slices.Contains(groupNames[:], g) {
			c.add(path, "%q is no group; want some of %s", g, strings.Join(groupNames[:], ", "))
		}
	}
}

func (c *checker) detectors(path string, list []int) {
	for i, d := range list {
		if d < 1 || d > places || slices.Index(list, d) != i {
			c.add(path, "%v: want each of 1, 2, 3, 4 at most once", list)
			return
		}
	}
}

func (c *checker) vehicle(path string, v *Vehicle) {
	if _, ok := vehicleKinds[v.Kind]; !ok {
		c.add(path+".kind", "%q is no kind of vehicle; want one of %s", v.Kind, kindNames())
	}
	c.duration(path+".arrive", v.Arrive, 0)
	c.duration(path+".follows", v.Follows, 0)
	if v.Length != 0 {
		c.number(path+".length", v.Length, 0.5, maxLength, " m")
	}
	if v.Speed != 0 {
		c.number(path+".speed", v.Speed, minSpeed, maxSpeed, " km/h")
	}
	if v.Shielding != nil {
		c.number(path+".shielding", *v.Shielding, 0, 0.9, "")
	}
	for name, src := range map[string]*Source{"gamma": v.Gamma, "neutron": v.Neutron} {
		if src == nil {
			continue
		}
		p := path + "." + name
		c.number(p+".cps", src.CPS, 0, maxCPS, " counts per second")
		c.number(p+".offset", src.Offset, -2, 2, " m")
		c.number(p+".broad", src.Broad, 0, maxLength, " m")
		if src.At != nil {
			c.number(p+".at", *src.At, 0, maxLength, " m")
		}
	}
	if !c.length(path+".stops", len(v.Stops), maxStops, "stops") {
		return
	}
	for i, s := range v.Stops {
		p := fmt.Sprintf("%s.stops[%d]", path, i)
		c.number(p+".at", s.At, -approach, maxLength, " m past the beam")
		c.duration(p+".for", s.For, time.Millisecond)
		if i > 0 && s.At < v.Stops[i-1].At {
			c.add(p+".at", "stops must be in the order of driving")
		}
	}
	if v.Reverse != nil {
		c.number(path+".reverse.at", v.Reverse.At, -approach, maxLength, " m past the beam")
		c.number(path+".reverse.by", v.Reverse.By, 0.1, maxLength, " m")
	}
}

func joinTags(lists ...[]tsa.Tag) string {
	var names []string
	for _, tag := range slices.Concat(lists...) {
		names = append(names, string(tag))
	}
	return strings.Join(names, ", ")
}

func (c *checker) fault(path string, f *Fault, devices []Device) {
	kind, ok := faultKinds[f.Kind]
	if !ok {
		c.add(path+".kind", "%q is no kind of fault; want one of %s", f.Kind, strings.Join(FaultKinds(), ", "))
		return
	}
	switch {
	case f.Device == "":
	case kind.where == InWorld:
		c.add(path+".device", "a fault of kind %s happens in the lane, not to a device", f.Kind)
	case !slices.ContainsFunc(devices, func(d Device) bool { return d.ID == f.Device }):
		c.add(path+".device", "the lane has no device %q", f.Device)
	}
	// Whom it happens to, unless it is the lane: only portals have faults.
	var portals []Device
	for _, d := range devices {
		if d.Model == portalModel && (f.Device == "" || f.Device == d.ID) {
			portals = append(portals, d)
		}
	}
	switch {
	case kind.where == InWorld:
	case len(portals) == 0 && f.Device == "":
		c.add(path+".kind", "a fault of kind %s happens to a %s, and the lane has none", f.Kind, portalModel)
	case len(portals) == 0:
		c.add(path+".device", "a fault of kind %s happens to a %s only; of other models the switches say what goes wrong", f.Kind, portalModel)
	case f.Tag == "" || slices.Contains(plainTags, tsa.Tag(f.Tag)):
	case !slices.Contains(extendedTags, tsa.Tag(f.Tag)):
		c.add(path+".tag", "no record has the tag %q; want one of %s", f.Tag, joinTags(plainTags, extendedTags))
	case !slices.ContainsFunc(portals, func(d Device) bool { return d.Settings != nil && d.Settings.Extended }):
		c.add(path+".tag", "only a portal with extended: true sends %s, and none here has it", f.Tag)
	}
	c.duration(path+".at", f.At, 0)
	if f.Every != 0 {
		c.duration(path+".every", f.Every, minEvery)
	}
	takes := func(name string, set, allowed bool) {
		if set && !allowed {
			c.add(path+"."+name, "a fault of kind %s has no %s", f.Kind, name)
		}
	}
	takes("for", f.For != 0, kind.lasts > 0)
	takes("detectors", len(f.Detectors) > 0, kind.cps != nil)
	takes("cps", f.CPS != 0, kind.cps != nil)
	takes("tag", f.Tag != "", kind.onRecord)
	takes("records", f.Records != 0, kind.onRecord)
	takes("set", f.Set != nil, f.Kind == "setup")
	if f.For == 0 {
		f.For = kind.lasts
	}
	if kind.lasts > 0 {
		c.duration(path+".for", f.For, time.Millisecond)
	}
	c.detectors(path+".detectors", f.Detectors)
	c.number(path+".cps", f.CPS, 0, maxCPS, " counts per second")
	c.number(path+".records", float64(f.Records), 0, maxFaultRecords, "")
	if s := f.Set; s != nil {
		c.groups(path+".set.groups", s.Groups)
		if s.NSigma != nil {
			c.sigma(path+".set.n_sigma", *s.NSigma)
		}
		for name, v := range map[string]*int{"intervals": s.Intervals, "hold_in": s.HoldIn} {
			if v != nil {
				c.number(path+".set."+name, float64(*v), 1, 20, "")
			}
		}
		for name, v := range map[string]*int{"gamma_high": s.GammaHigh, "gamma_low": s.GammaLow, "neutron_high": s.NeutronHigh} {
			if v != nil {
				c.number(path+".set."+name, float64(*v), 0, 999_999, "")
			}
		}
	}
}
