package rpm

import (
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// maxKept is how many alarms and faults are kept, of each.
const maxKept = 64

// keptArea is what stands of an area monitor when the agent is started anew, so that its end is
// told.
type keptArea struct {
	Alarms []keptStanding `json:"alarms,omitempty"`
	Faults []keptFault    `json:"faults,omitempty"`
}

// keptStanding is an alarm that was told.
type keptStanding struct {
	keptFault
	ID    string    `json:"id"`
	Since time.Time `json:"since"`
	Peak  *float64  `json:"peak,omitempty"`
	Unit  string    `json:"unit,omitempty"`
}

type keptFault struct {
	Kind    string `json:"kind"`
	Channel string `json:"channel,omitempty"`
}

// recall takes what stood when the agent ran last, once.
func (a *areaMonitor) recall(h drivers.Host) {
	var k keptArea
	if !a.keeper.recall(h, &k) {
		return
	}
	a.orphans = true
	for _, x := range k.Alarms[:min(len(k.Alarms), maxKept)] {
		if x.ID != "" {
			a.alarms[alarmKey{x.Kind, x.Channel}] = &standing{id: x.ID, since: x.Since, peak: x.Peak, unit: x.Unit, keptPeak: x.Peak, keptUnit: x.Unit}
		}
	}
	for _, x := range k.Faults[:min(len(k.Faults), maxKept)] {
		a.faults[alarmKey{x.Kind, x.Channel}] = true
	}
}

// keep makes durable what stands. A peak that grows is kept once in a while only.
func (s *areaSession) keep() {
	var k keptArea
	now := s.h.Now()
	for _, key := range sortedKeys(s.alarms) {
		x := s.alarms[key]
		if x.keptPeak == nil || now.Sub(s.keeper.kept) >= keptPause {
			x.keptPeak, x.keptUnit = x.peak, x.unit
		}
		k.Alarms = append(k.Alarms, keptStanding{keptFault{key.kind, key.channel}, x.id, x.since, x.keptPeak, x.keptUnit})
	}
	for _, key := range sortedKeys(s.faults) {
		if s.faults[key] {
			k.Faults = append(k.Faults, keptFault{key.kind, key.channel})
		}
	}
	k.Alarms, k.Faults = k.Alarms[:min(len(k.Alarms), maxKept)], k.Faults[:min(len(k.Faults), maxKept)]
	if len(k.Alarms)+len(k.Faults) == 0 {
		s.keeper.keep(s.h, nil)
		return
	}
	s.keeper.keep(s.h, k)
}

// dropOrphans ends what stood when the agent ran last and nothing watches any more, since its
// setting is gone.
func (s *areaSession) dropOrphans(now time.Time, frame []byte) error {
	if !s.orphans {
		return nil
	}
	for _, k := range sortedKeys(s.alarms) {
		if k.own() && s.threshold(rateValue{channel: k.channel, unit: s.alarms[k].unit}) == 0 {
			if err := s.clear(now, k, frame); err != nil {
				return err
			}
		}
	}
	for _, k := range sortedKeys(s.faults) {
		if k.kind == event.RateFrozen && s.settings.FrozenAfter == 0 {
			if err := s.fault(now, ratemeter.Fault{Kind: k.kind}, k.channel, false, frame); err != nil {
				return err
			}
		}
	}
	s.orphans = false
	return nil
}
