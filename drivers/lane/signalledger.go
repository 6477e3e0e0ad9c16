package lane

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
)

// ledgerKey is where the scan is kept that is under way, and the scan counter.
const ledgerKey = "scan"

// keptScan is what must be known after the agent was started anew.
type keptScan struct {
	Cycle   string    `json:"cycle,omitempty"` // none is under way if it is empty
	Started time.Time `json:"started,omitzero"`
	Before  *float64  `json:"before,omitempty"`
	Scans   int       `json:"scans,omitempty"`
	Flags   []string  `json:"flags,omitempty"`
	Counter *float64  `json:"counter,omitempty"`
	At      string    `json:"at,omitempty"` // the address of the counter
	Owed    bool      `json:"owed,omitempty"`
}

// keep makes durable what has changed since it was kept last.
func (b *stateBus) keep(h drivers.Host) error {
	e := b.engine
	k := keptScan{Counter: e.last.counter, Owed: e.last.owed && e.last.owedUntil.IsZero()}
	if s := e.find(scanCounter); s != nil {
		k.At = s.At
	}
	if c := e.cycle; c != nil {
		k.Cycle, k.Started, k.Before, k.Scans, k.Flags = c.id, c.started.Round(0), c.before, c.scans, c.flags
	}
	text, err := json.Marshal(k)
	if err == nil && string(text) != b.kept {
		err = h.Ledger().Put(ledgerKey, string(text))
	}
	if err != nil {
		return fmt.Errorf("keep the scan that is under way: %w", err)
	}
	b.kept = string(text)
	return nil
}

// recall takes up what was kept when the agent ran last. A scan that was under way then is
// ended: nobody saw how it went on. If the agent was killed just after its end was stored, its
// end is told a second time.
func (b *stateBus) recall(h drivers.Host) {
	if b.kept != "" {
		return // it is only another connection
	}
	b.kept = h.Ledger().Get(ledgerKey)
	var k keptScan
	if b.kept == "" {
		return
	}
	if err := json.Unmarshal([]byte(b.kept), &k); err != nil {
		h.Log().Warn("what was kept of the last scan can't be read", "err", err)
		return
	}
	e := b.engine
	if k.Cycle != "" {
		e.cycle = &scanCycle{id: k.Cycle, started: k.Started, before: k.Before, scans: k.Scans, flags: slices.Clone(k.Flags)}
		e.endCycle(k.Started, "agent_stopped")
		k.Owed = k.Before != nil && k.Counter != nil && *k.Before == *k.Counter // as after a lost link
	}
	if s := e.find(scanCounter); s != nil && s.At == k.At {
		e.last.counter, e.last.owed = k.Counter, k.Owed
	}
}
