package main

import (
	"fmt"
	"time"

	"github.com/lanepost/lanepost/cmd/internal/version"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// How long the samples of an occupancy take, in seconds.
const (
	gammaSample   = 0.2
	neutronSample = 1.0
)

// n42Portal is what an occupancy does not tell of its portal.
type n42Portal struct{ Manufacturer, Model, GammaKind, NeutronKind string }

// occupancyDocument makes an N42 document of an occupancy: each sample a measurement with
// the counts of each detector, the background, and the alarms. It fails for one of a portal
// that is read over registers: how long its samples count is not in its event.
func occupancyDocument(o *foundOccupancy, about n42Portal) (*n42.Document, error) {
	if len(o.Reported)+len(o.Signals) > 0 {
		return nil, fmt.Errorf("the occupancy %s is of a portal that is read over Modbus: its event does not tell how long each sample counts, so it can't be written as N42; send the event itself", o.OccupancyID)
	}
	group := "Occupancy-" + o.OccupancyID
	d := &n42.Document{
		UUID: o.OccupancyID, Creator: "lanepost " + version.String(),
		Remarks: []string{
			"outcome " + string(o.Outcome) + ", end " + o.End,
			"The portal tells no live times: those of samples are their durations.",
		},
		Instrument: n42.Instrument{
			ID: "Portal", Manufacturer: about.Manufacturer, Model: about.Model, Serial: o.source, Class: "Portal Monitor",
			Versions: []n42.Version{{Component: "Software", Version: "unspecified"}},
		},
		Items:  []n42.Item{{ID: "Vehicle"}},
		Groups: []string{group},
	}
	if o.SeriesTruncated {
		d.Remarks = append(d.Remarks, "Samples are missing: there were more than the event holds.")
	}
	labels := labelsOf(o)
	detectors := func(prefix, category, kind string, n int) (ids []string) {
		for i := range n {
			x := n42.Detector{ID: fmt.Sprintf("%s%d", prefix, i+1), Category: category, Kind: kind}
			if n == len(labels) {
				x.Name = labels[i]
			}
			d.Detectors = append(d.Detectors, x)
			ids = append(ids, x.ID)
		}
		return ids
	}
	gamma := detectors("Gamma", "Gamma", about.GammaKind, widest(o.GammaSeries))
	neutron := detectors("Neutron", "Neutron", about.NeutronKind, widest(o.NeutronSeries))
	background := n42.Measurement{
		ID: "Background", Class: n42.Background, Start: n42.Time{At: o.FirstSampleTS.Time}, Real: n42.Duration{Seconds: 1, Known: true}, Occupied: new(bool),
		Remarks: []string{"What the portal took for its background, as counts in one second, all detectors together. It was taken before, over a time that is not told."},
	}
	sum := func(id, category, kind string, cps float64) {
		d.Detectors = append(d.Detectors, n42.Detector{ID: id, Category: category, Kind: kind, Description: "all of them together"})
		background.Counts = append(background.Counts, n42.GrossCounts{ID: "Background-" + id, Detector: id, Live: background.Real, Counts: []float64{cps}})
	}
	if o.GammaBgSumCPS != nil {
		sum("GammaSum", "Gamma", about.GammaKind, float64(*o.GammaBgSumCPS))
	}
	if o.NeutronBgCPS != nil {
		sum("NeutronSum", "Neutron", about.NeutronKind, *o.NeutronBgCPS)
	}
	if len(background.Counts) > 0 {
		d.Measurements = append(d.Measurements, background)
	}
	analysis := n42.Analysis{Description: "outcome " + string(o.Outcome)}
	series := func(name string, list []event.Sample, ids []string, seconds float64) {
		for i, s := range list {
			occupied := s.OffsetS >= 0
			m := n42.Measurement{
				ID: fmt.Sprintf("%s-%d", name, i+1), Groups: d.Groups, Class: n42.Foreground, Occupied: &occupied, Real: n42.Duration{Seconds: seconds, Known: true},
				Start: n42.Time{At: o.StartTS.Add(time.Duration(s.OffsetS * float64(time.Second)))},
			}
			for j, c := range s.Counts {
				m.Counts = append(m.Counts, n42.GrossCounts{ID: fmt.Sprintf("%s-%s", m.ID, ids[j]), Detector: ids[j], Live: m.Real, Counts: []float64{float64(c)}})
			}
			if s.Alarm {
				analysis.Measurements = append(analysis.Measurements, m.ID)
			}
			d.Measurements = append(d.Measurements, m)
		}
	}
	series("GammaSample", o.GammaSeries, gamma, gammaSample)
	series("NeutronSample", o.NeutronSeries, neutron, neutronSample)
	if len(d.Measurements) == 0 {
		d.Measurements = append(d.Measurements, n42.Measurement{
			ID: "Passage", Groups: d.Groups, Class: n42.Foreground, Start: n42.Time{At: o.StartTS.Time}, Real: n42.Duration{Seconds: max(0, o.DurationS), Known: true},
			Remarks: []string{"The portal told no samples and no background of it."},
		})
	}
	if len(d.Detectors) == 0 {
		d.Detectors = append(d.Detectors, n42.Detector{ID: "GammaSum", Category: "Gamma", Kind: about.GammaKind, Description: "all of them together"})
	}
	// What was not observed must not read as clear.
	if o.Outcome == event.OutcomeIncomplete {
		analysis.Status = "Failure"
		analysis.Description += ": not all of the passage was observed; that no alarm is told does not say that there was none"
	}
	if o.JoinedMid {
		d.Remarks = append(d.Remarks, "The agent connected in the middle of the occupancy: its beginning is missing.")
	}
	last := &d.Measurements[len(d.Measurements)-1]
	for _, x := range []struct {
		is   event.Modality
		name string
	}{{o.Gamma, "gamma"}, {o.Neutron, "neutron"}} {
		switch x.is {
		case event.ModalityFault:
			last.Faults = append(last.Faults, n42.Fault{Code: x.name + "_fault", Severity: "Error", Description: "the portal told a fault of its " + x.name + " detectors"})
		case event.NoData:
			last.Faults = append(last.Faults, n42.Fault{Code: x.name + "_no_data", Severity: "Error", Description: "there is no data of the " + x.name + " detectors"})
		}
	}
	if o.SpeedKPH != nil && len(d.Measurements) > 0 {
		ms := *o.SpeedKPH / 3.6
		d.Measurements[len(d.Measurements)-1].SpeedMS = &ms
	}
	for _, x := range []struct {
		is       bool
		category string
	}{{o.GammaAlarm, "Gamma"}, {o.NeutronAlarm, "Neutron"}} {
		if x.is {
			analysis.Alarms = append(analysis.Alarms, n42.Alarm{Category: x.category, Description: "alarm of the portal"})
		}
	}
	d.Analyses = []n42.Analysis{analysis}
	return d, nil
}

// widest is how many detectors a series has.
func widest(list []event.Sample) (n int) {
	for _, s := range list {
		n = max(n, len(s.Counts))
	}
	return n
}

// labelsOf are the names of the detectors, if the event has them.
func labelsOf(o *foundOccupancy) []string {
	if o.Recomputed == nil {
		return nil
	}
	for _, g := range o.Recomputed.Groups {
		if g.Group == "sum" {
			return g.Detectors
		}
	}
	return nil
}
