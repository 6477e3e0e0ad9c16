package xray

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
)

const (
	// maxUnkept bounds the entries in memory that the ledger did not take.
	maxUnkept = 10_000
	// tellUnkept is how often it is told that it takes none.
	tellUnkept = 24 * time.Hour
)

// unkept stands before a ledger that may refuse: it is full, or its disk is, or an entry is
// too long. No scan waits for that. What was refused is known until the agent is started
// anew, and may be told again then: that is better than to lose it.
//
// It is not for concurrent use.
type unkept struct {
	drivers.Ledger
	host   drivers.Host
	values map[string]string // by key; empty for one that the ledger has still
	order  []string
	told   time.Time
}

// hostOver is a host with such a ledger.
type hostOver struct {
	drivers.Host
	ledger *unkept
}

func (h hostOver) Ledger() drivers.Ledger { return h.ledger }

// over puts itself before the ledger of a host.
func (u *unkept) over(h drivers.Host) drivers.Host {
	u.Ledger, u.host = h.Ledger(), h
	return hostOver{h, u}
}

// Get implements drivers.Ledger.
func (u *unkept) Get(key string) string {
	if value, ok := u.values[key]; ok {
		return value
	}
	return u.Ledger.Get(key)
}

// Put implements drivers.Ledger. It never fails.
func (u *unkept) Put(key, value string) error {
	err := u.Ledger.Put(key, value)
	if err == nil {
		u.forget(key)
		return nil
	}
	if now := u.host.Now(); u.told.IsZero() || now.Sub(u.told) > tellUnkept {
		u.told = now
		u.host.Log().Warn("the ledger takes nothing", "error", err)
		u.host.Unparsed("scans are told without the ledger, and may be told again after a restart: "+err.Error(), nil)
	}
	u.forget(key)
	if value == "" && u.Ledger.Get(key) == "" {
		return nil
	}
	if u.values == nil {
		u.values = map[string]string{}
	}
	if len(u.order) == maxUnkept {
		delete(u.values, u.order[0])
		u.order = u.order[1:]
	}
	u.values[key], u.order = value, append(u.order, key)
	return nil
}

func (u *unkept) forget(key string) {
	if _, ok := u.values[key]; ok {
		delete(u.values, key)
		u.order = slices.DeleteFunc(u.order, func(k string) bool { return k == key })
	}
}

// Each implements drivers.Ledger.
func (u *unkept) Each(prefix string, f func(key, value string) bool) {
	for key, value := range maps.Clone(u.values) {
		if value != "" && strings.HasPrefix(key, prefix) && !f(key, value) {
			return
		}
	}
	u.Ledger.Each(prefix, func(key, value string) bool {
		if _, ok := u.values[key]; ok {
			return true
		}
		return f(key, value)
	})
}
