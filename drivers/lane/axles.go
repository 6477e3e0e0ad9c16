package lane

import (
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// maxAxles bounds the axles of one vehicle. With one more it is told what there is.
const maxAxles = 32

// axles are those of the vehicle that drives over a scale which weighs one at a time.
type axles struct {
	list        []event.LaneWeight
	began, left time.Time // when the first came, and the last left
}

// add takes an axle that has left.
func (a *axles) add(h drivers.Host, e event.LaneWeight, began, left time.Time) error {
	if len(a.list) == maxAxles {
		if err := a.tell(h); err != nil {
			return err
		}
	}
	if len(a.list) == 0 {
		a.began = began
	}
	a.list, a.left = append(a.list, e), left
	return nil
}

// passed tells the vehicle if no axle has come for long enough.
func (a *axles) passed(h drivers.Host, now time.Time, gap time.Duration) error {
	if len(a.list) == 0 || now.Sub(a.left) < gap {
		return nil
	}
	return a.tell(h)
}

// tell makes one weighing of the axles. The weight is only known if that of each is.
func (a *axles) tell(h drivers.Host) error {
	if len(a.list) == 0 {
		return nil
	}
	e := a.list[0]
	e.AxlesKG, e.Flags, e.Outcome = nil, slices.Clone(e.Flags), event.WeightStable
	sum := 0.0
	for i, x := range a.list {
		e.AxlesKG = append(e.AxlesKG, x.WeightKG)
		if x.WeightKG == nil {
			e.Outcome = event.WeightUnstable
		} else {
			sum += *x.WeightKG
		}
		if i == 0 {
			continue
		}
		e.Readings += x.Readings
		e.StableReadings += x.StableReadings
		e.Moved = e.Moved || x.Moved
		if x.PeakKG != nil && (e.PeakKG == nil || *x.PeakKG > *e.PeakKG) {
			e.PeakKG = x.PeakKG
		}
		for _, f := range x.Flags {
			if !slices.Contains(e.Flags, f) {
				e.Flags = append(e.Flags, f)
			}
		}
		e.EndedTS, e.Raw = x.EndedTS, x.Raw
	}
	e.DurationS = a.left.Sub(a.began).Round(time.Millisecond).Seconds()
	e.WeightKG = nil
	switch {
	case e.Outcome == event.WeightStable:
		e.WeightKG = &sum
	case e.PeakKG == nil:
		e.Outcome = event.WeightNone
	}
	if err := h.Emit(drivers.Observation{Data: e, Time: a.began, Subject: e.WeighingID}); err != nil {
		return err
	}
	a.list = nil
	return nil
}
