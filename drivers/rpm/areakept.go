package rpm

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// What stands when the agent is started anew is in the device's ledger, so that its end is
// told: under these, the kind, a stroke and the channel.
const (
	keptAlarm = "alarm:"
	keptFault = "fault:"
	// maxKept is how many of each are taken from a ledger.
	maxKept = 64
)

// keptStanding is an alarm that was told.
type keptStanding struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"`
	Peak  *float64  `json:"peak,omitempty"`
	Unit  string    `json:"unit,omitempty"`
}

func (k alarmKey) text() string { return k.kind + "/" + k.channel }

func alarmKeyOf(text string) alarmKey {
	kind, channel, _ := strings.Cut(text, "/")
	return alarmKey{kind, channel}
}

// recall takes what stood when the agent ran last, once.
func (a *areaMonitor) recall(h drivers.Host) {
	if a.recalled {
		return
	}
	a.recalled, a.orphans = true, true
	h.Ledger().Each(keptAlarm, func(key, value string) bool {
		var x keptStanding
		if err := json.Unmarshal([]byte(value), &x); err != nil || x.ID == "" {
			h.Log().Warn("an alarm that stood can't be read from what was kept; if it is over, that is not told", "alarm", key, "err", err)
			return true
		}
		a.alarms[alarmKeyOf(strings.TrimPrefix(key, keptAlarm))] = &standing{id: x.ID, since: x.Since, peak: x.Peak, unit: x.Unit}
		return len(a.alarms) < maxKept
	})
	h.Ledger().Each(keptFault, func(key, _ string) bool {
		a.faults[alarmKeyOf(strings.TrimPrefix(key, keptFault))] = true
		return len(a.faults) < maxKept
	})
}

// keep notes that an alarm or a fault stands, or with an empty text that it does not. A
// ledger that refuses stops no monitor.
func keep(h drivers.Host, key, text string) {
	if err := h.Ledger().Put(key, text); err != nil {
		h.Log().Warn("what stands can't be kept; after a restart of the agent it may be told again, or its end not", "key", key, "err", err)
	}
}

func (x *standing) kept() string {
	b, err := json.Marshal(keptStanding{x.id, x.since, x.peak, x.unit})
	if err != nil {
		return "" // a peak that is no number
	}
	return string(b)
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
