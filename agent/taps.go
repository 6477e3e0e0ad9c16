package agent

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/daily"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/tee"
)

// taps are those who get the raw bytes of devices beside their drivers: tees, daily files
// and those who listen by the console. They outlive the connections of a device and its
// restarts, and follow the configuration without one.
type taps struct {
	// mu is not held while anything is closed: what ends may tell of a problem yet,
	// and then the agent's state is made.
	mu    sync.Mutex
	of    map[string]*tap // by "lane/id"
	store *daily.Store
	// storeProblem is why there is no store that should be there.
	storeProblem string
}

// tap is what gets the bytes of one device.
type tap struct {
	tee  atomic.Pointer[tee.Tee]
	file atomic.Pointer[daily.Recorder]
	raw  console.Raw

	// Guarded by taps.mu.
	wanted  *tee.Settings
	problem string // why the tee is not there
}

// tap gives that of a device.
func (t *taps) tap(key string) *tap {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tapLocked(key)
}

func (t *taps) tapLocked(key string) *tap {
	if t.of == nil {
		t.of = map[string]*tap{}
	}
	if t.of[key] == nil {
		t.of[key] = &tap{}
	}
	return t.of[key]
}

// received is called with each read of the device's link. It does not wait.
func (p *tap) received(at time.Time, b []byte) {
	p.raw.Received(at, b)
	if to := p.tee.Load(); to != nil {
		to.Received(b)
	}
	if file := p.file.Load(); file != nil {
		file.Received(at, b)
	}
}

// parted is called at the end of the device's link.
func (p *tap) parted(at time.Time) {
	p.raw.Parted(at)
	if to := p.tee.Load(); to != nil {
		to.Parted()
	}
	if file := p.file.Load(); file != nil {
		file.Parted(at)
	}
}

// follow brings the taps to what a configuration says. What has not changed goes on,
// with those who are attached to it.
//
// follow, retry and close are called by the goroutine of Agent.run only.
func (t *taps) follow(a *Agent, cfg *config.Config) {
	wanted := map[string]config.Device{}
	t.mu.Lock()
	for _, d := range cfg.Devices() {
		key := d.Lane + "/" + d.ID
		wanted[key] = d
		t.tapLocked(key)
	}
	// First all that go, since one may have the address of one that comes.
	var tees []*tee.Tee
	for key, p := range t.of {
		p.wanted = wanted[key].Tee
		if to := p.tee.Load(); to != nil && (p.wanted == nil || !to.Settings().Equal(*p.wanted)) {
			p.tee.Store(nil)
			tees = append(tees, to)
		}
	}
	var store *daily.Store
	if t.store != nil && cfg.Daily.Dir == "" {
		store, t.store = t.store, nil
		t.endFilesLocked()
	}
	t.mu.Unlock()
	closeTaps(a, tees, store)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.openTeesLocked(a)
	t.openDailyLocked(a, cfg)
	for key, p := range t.of {
		d, ok := wanted[key]
		before := p.file.Load()
		switch {
		case t.store != nil && d.Daily != "":
			file := t.store.Recorder(a.site + "-" + d.Daily)
			p.file.Store(file)
			if before != nil && before != file {
				before.End()
			}
		case before != nil:
			p.file.Store(nil)
			before.End()
		}
		if !ok {
			p.raw.Removed()
			delete(t.of, key)
		}
	}
}

// endFilesLocked lets go of all recorders; each notes the line that it is in.
func (t *taps) endFilesLocked() {
	for _, p := range t.of {
		if file := p.file.Swap(nil); file != nil {
			file.End()
		}
	}
}

// closeTaps ends what is no longer wanted, with what still waits for it.
func closeTaps(a *Agent, tees []*tee.Tee, store *daily.Store) {
	var closing sync.WaitGroup
	for _, to := range tees {
		closing.Go(func() {
			if err := to.Close(); err != nil {
				a.log.Warn("close a tee", "err", err)
			}
		})
	}
	if store != nil {
		closing.Go(store.Close)
	}
	closing.Wait()
}

// retry tries again to open what could not be opened.
func (t *taps) retry(a *Agent) {
	t.mu.Lock()
	changed := t.openTeesLocked(a)
	t.mu.Unlock()
	if changed {
		a.publishState()
	}
}

// openTeesLocked opens the tees that are not there, and reports whether there is
// news. One that can't be opened keeps no device from running.
func (t *taps) openTeesLocked(a *Agent) (changed bool) {
	for key, p := range t.of {
		if p.wanted == nil || p.tee.Load() != nil {
			if p.problem != "" && p.wanted == nil {
				p.problem, changed = "", true
			}
			continue
		}
		before := p.problem
		opened, err := tee.Open(*p.wanted, a.log.With("tee", key))
		if err == nil {
			p.tee.Store(opened)
			p.problem = ""
		} else {
			p.problem = fmt.Sprintf("nobody can read %s along: %v; it is tried again", key, err)
			if before == "" {
				a.log.Error("a tee can't be opened and is tried again", "device", key, "err", err)
			}
		}
		changed = changed || before != p.problem
	}
	return changed
}

func (t *taps) openDailyLocked(a *Agent, cfg *config.Config) {
	t.storeProblem = ""
	if cfg.Daily.Dir == "" {
		return
	}
	if t.store != nil {
		if t.store.Settings() == cfg.Daily {
			return
		}
		// In place: a device may be in the middle of a line.
		if err := t.store.Change(cfg.Daily, a.roomForDaily(cfg.Daily.Dir)); err != nil {
			t.storeProblem = err.Error() + "; daily files go on as before"
			a.log.Error("the new settings of daily files can't be taken, and they go on as before", "err", err)
		}
		return
	}
	store, err := daily.Open(daily.Options{
		Settings: cfg.Daily, Room: a.roomForDaily(cfg.Daily.Dir), Changed: a.publishState, Log: a.log,
	})
	if err != nil {
		t.storeProblem = err.Error()
		a.log.Error("there are no daily files", "err", err)
		return
	}
	t.store = store
}

// roomForDaily says whether daily files may be written: not when so little is free
// that events would soon give way. They leave twice of what the spool does.
func (a *Agent) roomForDaily(dir string) func() error {
	c := a.cfg.Spool
	leave := spool.MinFree{Share: c.MinFreeShare, Bytes: c.MinFreeBytes}
	fs := spool.Counting(nil, a.disk)
	return func() error {
		free, total, err := fs.Free(dir)
		if err != nil {
			return nil //nolint:nilerr // the directory is not there yet, or writing will say what is wrong
		}
		if floor := 2 * leave.Floor(total); free < floor {
			return fmt.Errorf("the disk of %s has %d bytes free, and %d are left to the events", dir, free, floor)
		}
		return nil
	}
}

// problems lists what is wrong with tees and daily files.
func (t *taps) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, p := range t.of {
		if p.problem != "" {
			list = append(list, p.problem)
		}
	}
	slices.Sort(list)
	if t.storeProblem != "" {
		list = append(list, t.storeProblem)
	}
	if t.store != nil { // its own lock is never held while it calls
		if text := t.store.Problem(); text != "" {
			list = append(list, text)
		}
	}
	return list
}

// close ends all tees and daily files.
func (t *taps) close(a *Agent) {
	t.mu.Lock()
	var tees []*tee.Tee
	for _, p := range t.of {
		if to := p.tee.Swap(nil); to != nil {
			tees = append(tees, to)
		}
		p.wanted = nil
	}
	t.endFilesLocked()
	store := t.store
	t.store = nil
	t.mu.Unlock()
	closeTaps(a, tees, store)
}
