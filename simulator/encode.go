package simulator

import (
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// encoder turns records into what a portal with this setting sends.
type encoder struct{ guards bool }

func (e encoder) record(r tsa.Record) ([]byte, error) {
	r.Guarded = e.guards
	return r.AppendTo(nil)
}

// reportSetup changes the setup as told and sends the burst of setup records.
func (p *portal) reportSetup(at time.Duration) {
	change := p.setupPending
	p.setupPending = nil
	set := &p.set
	if change.Groups != nil {
		set.Groups = change.Groups
	}
	if change.NSigma != nil {
		set.NSigma = *change.NSigma
	}
	for to, from := range map[*int]*int{
		&set.Intervals: change.Intervals, &set.HoldIn: change.HoldIn,
		&set.GammaHigh: change.GammaHigh, &set.GammaLow: change.GammaLow, &set.NeutronHigh: change.NeutronHigh,
	} {
		if from != nil {
			*to = *from
		}
	}
	p.stateNow(at, "setup", "reported")
	for _, r := range setupRecords(set) {
		p.send(at, r)
	}
}

// setupRecords are the five records of a setup report. What the simulator has
// no setting for is as in a public capture.
func setupRecords(s *PortalSettings) []tsa.Record {
	bits := func(on func(i int) bool) string {
		b := []byte("0000")
		for i := range b {
			if on(i) {
				b[i] = '1'
			}
		}
		return string(b)
	}
	fitted := bits(func(i int) bool { return slices.Contains(s.Detectors, i+1) })
	groups := bits(func(i int) bool { return slices.Contains(s.Groups, groupNames[i]) })
	const gammaSeconds, neutronSeconds = gammaBlocks * 5, neutronBlocks * 5
	return []tsa.Record{
		{Tag: tsa.SG1, Fields: fmt.Appendf(nil, "%06d,%06d,%02d,%02d,%04.1f,P", s.GammaHigh, s.GammaLow, s.Intervals, s.HoldIn, s.NSigma)},
		{Tag: tsa.SG2, Fields: fmt.Appendf(nil, "%s,0.069,0.455,01,%s,A", fitted, groups)},
		{Tag: tsa.SG3, Fields: fmt.Appendf(nil, "0.069,0.455,%03d,000,%s", gammaSeconds, s.Firmware)},
		{Tag: tsa.SN1, Fields: fmt.Appendf(nil, "%06d,03,0004,1200,01,%03d", s.NeutronHigh, neutronSeconds)},
		{Tag: tsa.SN2, Fields: []byte("0.504,5.040,0.504,5.040,PP")},
	}
}
