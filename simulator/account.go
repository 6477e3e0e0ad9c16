package simulator

import (
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// noClient is the "fault" of a record that was lost since nobody was connected.
const noClient = "no-client"

// account stands where bytes leave a device. It knows what happened to the
// records that an occupancy rests on, and completes the truth with it.
type account struct {
	occupancies            map[int][]Touch // of the occupancies that are not told yet
	background, setup, end []Touch
	setupSeen              []tsa.Tag // intact since the last touched one
	partLost               bool      // a part of this record did not reach anybody
	partFaults             []string  // that touched a part of this record
	skip                   int       // bytes that the next client misses
	skipFault              string
}

var setupTags = [...]tsa.Tag{tsa.SG1, tsa.SG2, tsa.SG3, tsa.SN1, tsa.SN2}

// cut takes away what a client misses that was let in in the middle of a
// record.
func (a *account) cut(it *item) {
	if a.skip == 0 || len(it.bytes) == 0 {
		return
	}
	n := min(a.skip, len(it.bytes))
	it.bytes = it.bytes[n:]
	a.skip -= n
	it.touched = append(slices.Clone(it.touched), a.skipFault)
	if !it.more {
		a.skip = 0
	}
}

// passed notes that a record, or a part of one, left the device; lost says that
// nobody got it.
func (a *account) passed(it item, lost bool) {
	a.partLost = a.partLost || lost
	for _, f := range it.touched {
		if !slices.Contains(a.partFaults, f) {
			a.partFaults = append(a.partFaults, f)
		}
	}
	if it.more {
		return
	}
	faults := a.partFaults
	if a.partLost {
		faults = append(faults, noClient)
	}
	a.partLost, a.partFaults = false, nil
	isGamma := it.tag == tsa.GB || it.tag == tsa.GH || it.tag == tsa.GL
	isNeutron := it.tag == tsa.NB || it.tag == tsa.NH
	if len(faults) == 0 && isGamma {
		a.background = nil
	}
	if len(faults) == 0 && (isGamma || isNeutron) {
		a.end = nil // a receiver knows now that the occupancy is over
	}
	whole := true
	for _, f := range faults {
		t := Touch{Fault: f, Tag: string(it.tag), AtS: seconds(it.at)}
		a.touch(it.occ, t)
		if isGamma {
			a.background = append(a.background, t)
		}
		if slices.Contains(setupTags[:], it.tag) && !late(f) {
			a.setup, a.setupSeen, whole = append(a.setup, t), nil, false
		}
	}
	if whole && slices.Contains(setupTags[:], it.tag) && !slices.Contains(a.setupSeen, it.tag) {
		if a.setupSeen = append(a.setupSeen, it.tag); len(a.setupSeen) == len(setupTags) {
			a.setup, a.setupSeen = nil, nil
		}
	}
}

// late tells whether a fault only holds records back; a setup is good whenever
// it comes.
func late(fault string) bool { return fault == "stall" || fault == "slow" }

// broken notes that the connection broke. A receiver may give up an occupancy
// that goes on, and forget the background, even if no record is lost.
func (a *account) broken(at time.Duration, occ int, fault string) {
	t := Touch{Fault: fault, AtS: seconds(at)}
	a.touch(occ, t)
	a.background = append(a.background, t)
}

func (a *account) touch(occ int, t Touch) {
	if occ == 0 {
		return
	}
	if a.occupancies == nil {
		a.occupancies = map[int][]Touch{}
	}
	a.occupancies[occ] = append(a.occupancies[occ], t)
}

// tell completes a line of the truth.
func (a *account) tell(e Entry) {
	o, ok := e.(*OccupancyTruth)
	if !ok {
		return
	}
	o.Touched = append(o.Touched, a.occupancies[o.Occupancy]...)
	o.TouchedBackground = append(o.TouchedBackground, a.background...)
	o.TouchedSetup = append(o.TouchedSetup, a.setup...)
	o.TouchedEnd = append(o.TouchedEnd, a.end...)
	delete(a.occupancies, o.Occupancy)
	a.end = nil
	for _, t := range o.Touched {
		if t.Tag == string(tsa.GX) {
			a.end = append(a.end, t)
		}
	}
	if o.End != "gx" {
		a.end = append(a.end, Touch{Fault: o.End, Tag: string(tsa.GX), AtS: o.EndS})
	}
}
