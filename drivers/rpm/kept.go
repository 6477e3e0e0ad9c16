package rpm

import (
	"encoding/json"
	"time"

	"github.com/lanepost/lanepost/drivers"
)

// keptKey is where a portal's state is kept in the device's ledger, one small text.
const keptKey = "portal"

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

// keeper keeps a portal's state in its ledger. A ledger that refuses stops no portal: it is
// logged, and tried again.
type keeper struct {
	recalled bool
	text     string // what the ledger has
	refused  time.Time
}

// recall gives what was kept when the agent ran last, once.
func (k *keeper) recall(host drivers.Host) (state keptState, ok bool) {
	if k.recalled {
		return state, false // it is only another connection
	}
	k.recalled = true
	k.text = host.Ledger().Get(keptKey)
	if k.text == "" {
		return state, false
	}
	if err := json.Unmarshal([]byte(k.text), &state); err != nil {
		host.Log().Warn("what was kept of the portal can't be read; its faults and its counter begin anew", "err", err)
		return keptState{}, false
	}
	return state, true
}

// keep makes durable what has changed.
func (k *keeper) keep(host drivers.Host, state keptState) {
	text, err := json.Marshal(state)
	if err == nil && string(text) == k.text || !k.refused.IsZero() && host.Now().Sub(k.refused) < keptPause {
		return
	}
	k.refused = time.Time{}
	if err == nil {
		err = host.Ledger().Put(keptKey, string(text))
	}
	if err != nil {
		k.refused = host.Now()
		host.Log().Warn("the portal's state can't be kept; after a restart of the agent, vehicles that pass meanwhile may not be missed", "err", err)
		return
	}
	k.text = string(text)
}

// Edges are told at once, so many of a kind in a minute. Of what flickers on, the end is told
// when it has been quiet for as long.
const (
	edgesAtOnce = 6
	edgeQuiet   = time.Minute
)

// pace bounds how often something is told.
type pace struct{ times []time.Time }

// free says whether it may be told now.
func (p *pace) free(now time.Time) bool {
	for len(p.times) > 0 && now.Sub(p.times[0]) >= edgeQuiet {
		p.times = p.times[1:]
	}
	return len(p.times) < edgesAtOnce
}

// took notes that it was told.
func (p *pace) took(now time.Time) {
	if len(p.times) > edgesAtOnce {
		p.times = p.times[1:]
	}
	p.times = append(p.times, now)
}

// edge is one thing that is there or not.
type edge struct {
	last    bool      // what it is
	since   time.Time // since when
	changes int       // since it was last told
	pace    pace
}

// turns takes what it is now, and was when it was last told, and says whether to tell it, and
// how often it changed.
func (e *edge) turns(now time.Time, told, is bool) (changes int, tell bool) {
	if is != e.last {
		e.last, e.since = is, now
		e.changes++
	}
	if is == told || !is && !e.pace.free(now) && now.Sub(e.since) < edgeQuiet {
		return 0, false
	}
	e.pace.took(now)
	changes, e.changes = e.changes, 0
	if changes == 1 {
		changes = 0 // which the event itself says
	}
	return changes, true
}
