package agent

import (
	"sync"

	"github.com/lanepost/lanepost/agent/ledger"
)

// deviceLedger is the ledger of one device. It is opened when its driver asks for it the
// first time: most have none.
type deviceLedger struct {
	a    *Agent
	path string

	mu     sync.Mutex
	opened *ledger.Ledger
}

func (d *deviceLedger) open() (*ledger.Ledger, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened != nil {
		return d.opened, nil
	}
	l, err := ledger.Open(d.path)
	if err != nil {
		return nil, err
	}
	if l.Left > 0 {
		d.a.log.Warn("a part of a ledger could not be read and is left out", "file", d.path, "lines", l.Left)
	}
	d.opened = l
	return l, nil
}

// Get implements drivers.Ledger. What can't be opened holds nothing that is known, and
// Put says so.
func (d *deviceLedger) Get(key string) string {
	l, err := d.open()
	if err != nil {
		d.a.log.Error("a ledger can't be opened", "file", d.path, "err", err)
		return ""
	}
	return l.Get(key)
}

// Put implements drivers.Ledger.
func (d *deviceLedger) Put(key, value string) error {
	l, err := d.open()
	if err != nil {
		return err
	}
	return l.Put(key, value)
}

// Each implements drivers.Ledger.
func (d *deviceLedger) Each(prefix string, f func(key, value string) bool) {
	if l, err := d.open(); err == nil { // Get has told
		l.Each(prefix, f)
	}
}

// close closes the file, after the driver has come to rest.
func (d *deviceLedger) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == nil {
		return
	}
	if err := d.opened.Close(); err != nil {
		d.a.log.Error("a ledger can't be closed", "file", d.path, "err", err)
	}
	d.opened = nil
}
