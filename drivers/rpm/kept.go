package rpm

import (
	"encoding/json"
	"time"

	"github.com/lanepost/lanepost/drivers"
)

// Where the state of a portal and of an area monitor are kept in the device's ledger.
const (
	keptPortal  = "portal"
	keptMonitor = "area"
)

// keptPause is how long after the ledger refused it is tried again.
const keptPause = time.Minute

// keptState is what must be known of a portal after the agent was started anew: without it a
// fault would stand for ever that ended meanwhile, and nobody would miss who passed.
type keptState struct {
	// Counter is the last number of which all was told, nil if none is known; Without counts
	// the occupancies since then that ended without one.
	Counter *int     `json:"counter,omitempty"`
	Without int      `json:"without,omitempty"`
	Faults  []string `json:"faults,omitempty"` // those that stand
	Tamper  string   `json:"tamper,omitempty"` // the last state told
}

// keeper keeps the state of an instrument in its ledger, one small text. A ledger that refuses
// stops no instrument: it is logged, and tried again.
type keeper struct {
	key      string // where it is kept
	recalled bool
	text     string // what the ledger has
	kept     time.Time
	refused  time.Time
}

// recall gives what was kept when the agent ran last, once.
func (k *keeper) recall(host drivers.Host, into any) (ok bool) {
	if k.recalled {
		return false // it is only another connection
	}
	k.recalled = true
	k.text = host.Ledger().Get(k.key)
	if k.text == "" {
		return false
	}
	if err := json.Unmarshal([]byte(k.text), into); err != nil {
		host.Log().Warn("what was kept of the instrument can't be read; its alarms, its faults and its counter begin anew", "kept", k.key, "err", err)
		return false
	}
	return true
}

// keep makes durable what has changed; a nil state is none.
func (k *keeper) keep(host drivers.Host, state any) {
	var text []byte
	var err error
	if state != nil {
		text, err = json.Marshal(state)
	}
	now := host.Now()
	if err == nil && string(text) == k.text || !k.refused.IsZero() && now.Sub(k.refused) < keptPause {
		return
	}
	k.refused = time.Time{}
	if err == nil {
		err = host.Ledger().Put(k.key, string(text))
	}
	if err != nil {
		k.refused = now
		host.Log().Warn("the state of the instrument can't be kept; after a restart of the agent its alarms and faults may be told again, or their ends not, and vehicles that pass meanwhile may not be missed", "kept", k.key, "err", err)
		return
	}
	k.text, k.kept = string(text), now
}
