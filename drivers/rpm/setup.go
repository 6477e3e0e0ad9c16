package rpm

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// algorithm is the alarm test by the settings alone.
func (s Settings) algorithm() algorithm {
	return algorithm{nsigma: s.NSigma, intervals: s.Intervals, kinds: s.Groups, source: "profile"}
}

// asSetup writes what the settings say of the portal as its setup records do.
func (s Settings) asSetup() map[string]string {
	bit := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	var onLine, kinds string
	for _, l := range s.Detectors {
		onLine += bit(fitted(l))
	}
	for _, k := range groupKinds() {
		kinds += bit(slices.Contains(s.Groups, k))
	}
	nsigma := fmt.Sprintf("%04.1f", s.NSigma)
	if v, err := strconv.ParseFloat(nsigma, 64); err != nil || v != s.NSigma {
		nsigma = strconv.FormatFloat(s.NSigma, 'f', -1, 64)
	}
	return map[string]string{
		"alarm_intervals":   fmt.Sprintf("%02d", s.Intervals),
		"hold_in_intervals": fmt.Sprintf("%02d", s.HoldIn),
		"n_sigma":           nsigma,
		"detectors_on_line": onLine,
		"algorithm":         kinds,
	}
}

// burst is a setup report that is coming in.
type burst struct {
	began   time.Time
	column  time.Time // of the first record
	records []tsa.Record
	wire    []byte
}

// setup handles SG1 to SN2. The records of one burst make one event: they come
// within 31 ms with nothing between them, so another record ends it, or a pause.
func (s *session) setup(rec tsa.Record) error {
	if s.burst != nil && slices.ContainsFunc(s.burst.records, func(r tsa.Record) bool { return r.Tag == rec.Tag }) {
		if err := s.endBurst(); err != nil {
			return err
		}
	}
	if s.burst == nil {
		s.burst = &burst{began: s.now, column: s.column}
	}
	b := s.burst
	rec.Fields = slices.Clone(rec.Fields) // they outlive the line
	b.records = append(b.records, rec)
	b.wire = append(b.wire, s.wire...)
	return nil
}

// endBurst takes over what the portal reported and tells of what differs.
func (s *session) endBurst() error {
	b := s.burst
	if b == nil {
		return nil
	}
	s.burst = nil
	p := s.p
	first := !p.reported
	p.reported = true
	e := event.RadiationSetupChanged{
		First: first, Changes: []event.SetupChange{}, Setup: map[string]string{}, Raw: event.RawOf(b.wire),
	}
	for _, rec := range b.records {
		for _, f := range rec.SetupFields() {
			e.Setup[f.Name] = f.Value
			if before, ok := p.known[f.Name]; ok && before != f.Value {
				e.Changes = append(e.Changes, event.SetupChange{Name: f.Name, Before: before, After: f.Value})
			}
			p.known[f.Name] = f.Value
		}
		p.adopt(rec)
	}
	if !first && len(e.Changes) == 0 {
		return nil
	}
	return s.emitAt(e, "", b.began, b.column)
}

// adopt takes over the settings that this driver works by. Values that can't be
// right are reported like the others, and not used.
func (p *portal) adopt(rec tsa.Record) {
	set := rec.Setup
	switch rec.Tag {
	case tsa.SG1:
		if set.NSigma >= minNSigma && set.NSigma <= maxNSigma && set.Intervals >= 1 && set.Intervals <= maxIntervals {
			p.algorithm.nsigma, p.algorithm.intervals = set.NSigma, set.Intervals
			p.algorithm.source = "setup"
		}
	case tsa.SG2:
		a := set.Algorithm
		kinds := []string{}
		for i, on := range []bool{a.Sum, a.Horizontal, a.Vertical, a.Single} {
			if on {
				kinds = append(kinds, groupKinds()[i])
			}
		}
		p.algorithm.kinds, p.algorithm.source = kinds, "setup"
		p.onLine = 0
		for _, on := range set.DetectorsOnLine {
			if on {
				p.onLine++
			}
		}
	}
}
