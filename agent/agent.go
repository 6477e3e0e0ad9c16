// Package agent is one running lanepost agent. Read this file to see the whole
// flow:
//
//	link → driver → supervise → Agent.record → spool (fsync) → uplink → broker
//
// Agent.record is the one door through which every event goes: it stamps an
// observation, gives it to the spool, and returns when it is on disk.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/agent/blobs"
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/supervise"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// Times of the agent.
const (
	// tickEvery is how often the agent looks at its clock and its spool.
	tickEvery = 5 * time.Second
	// aliveEvery spaces the signs of life from which the next start tells how
	// long the lane was unobserved.
	aliveEvery = 30 * time.Second
	// recordRetry spaces the attempts to write while the disk refuses.
	recordRetry = time.Second
	// stopGrace bounds how long a stop may wait for a disk that refuses. It is
	// longer than the time that a driver gets to come to rest.
	stopGrace = 10 * time.Second
)

// Options are what a command gives to Run.
type Options struct {
	// ConfigPath is the configuration file, read at the start and at each
	// reload.
	ConfigPath string
	// Version of the program, told in events.
	Version string
	// Stdout gets each event as one JSON line once it is on disk; nil for none.
	Stdout io.Writer
	// Reload makes the agent read its configuration again.
	Reload <-chan struct{}
	// Service is told how the agent is.
	Service Service
	Log     *slog.Logger
}

// Agent is a running agent.
type Agent struct {
	opts        Options
	log         *slog.Logger
	site        string
	spool       *spool.Spool
	disk        *spool.Counters
	blobs       *blobs.Store
	id          *identity
	checkpoints *checkpoints
	joins       *joins
	taps        taps
	pulse       *pulse
	ledgerDir   string
	clock       clock
	began       time.Time

	// life ends when nothing can be recorded any more. It outlives the devices,
	// so that they can still say what they hold when they are told to stop.
	life context.Context

	mu      sync.Mutex
	cfg     *config.Config
	devices map[string]*device // by "lane/id"
	uplinks []*uplinkRun       // in the order of the configuration
	// waiting counts the events that wait for the disk, refused is why, and refusedHint
	// what to do.
	waiting              int
	refused, refusedHint string
	// refusedConfig is why the last reload was refused.
	refusedConfig []string

	// short is what the spool is short of by the log, and when it last was; the loop's own.
	short map[string]time.Time

	// reloads are asked for by requests.
	reloads chan chan reloaded

	// publishing keeps retained states in order: a state is made and handed over
	// under it.
	publishing sync.Mutex

	pseudonymKey atomic.Pointer[[]byte]

	printer *printer // nil if nothing is printed

	logs    *console.Logs
	recent  recent
	disks   disks
	console *console.Console // nil before it is opened
}

// device is one supervised device and the means to stop it.
type device struct {
	cfg    config.Device
	sup    *supervise.Supervisor
	ctx    context.Context
	stop   context.CancelFunc
	done   chan struct{}
	ledger *deviceLedger
	gone   bool // replaced or taken out; guarded by Agent.publishing
}

// Run runs an agent until ctx ends, whose cause is recorded as the reason, and
// returns when everything has come to rest. It fails when the configuration is
// refused or the spool can't be opened; nothing that a device, a disk or a
// broker does later makes it return.
func Run(ctx context.Context, o Options) error {
	cfg, err := config.Load(o.ConfigPath)
	if err != nil {
		return err
	}
	logs := console.NewLogs(o.Log.Handler())
	logs.SetLevels(logLevels(cfg))
	o.Log = slog.New(logs.Handler())
	for _, w := range cfg.Warnings {
		o.Log.Warn("configuration", "warning", w.String())
	}
	disk := &spool.Counters{}
	so, err := spoolOptions(cfg, o.Log, disk)
	if err != nil {
		return err
	}
	sp, err := spool.Open(cfg.Spool.Dir, so)
	if err != nil {
		return whatToDo(err) // it names the spool
	}
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	defer die()
	a := &Agent{
		opts: o, log: o.Log, logs: logs, site: cfg.Site, spool: sp, disk: disk, cfg: cfg, life: life,
		ledgerDir: filepath.Join(cfg.Spool.Dir, "ledgers"),
		began:     time.Now(), devices: map[string]*device{}, reloads: make(chan chan reloaded),
	}
	if o.Stdout != nil {
		a.printer = newPrinter(o.Stdout, o.Log, sp.Stats())
		defer a.printer.close()
	}
	err = a.run(ctx, die)
	if closeErr := sp.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close the spool: %w", closeErr)
	}
	o.Log.Info("what the spool asked of its disk", "syncs", disk.Syncs.Load(), "bytes_written", disk.Bytes.Load())
	return err
}

func (a *Agent) run(ctx context.Context, die context.CancelFunc) (err error) {
	a.pulse = startPulse(a)
	defer a.pulse.close()
	id, previous, lastAlive, err := a.openIdentity(ctx)
	if err != nil {
		return err
	}
	a.id = id
	if a.blobs, err = a.openBlobs(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.blobs.Close()) }()
	a.joins = openJoins(a)
	defer func() { err = errors.Join(err, a.joins.close()) }()
	a.checkpoints = newCheckpoints(a)
	if err := a.readPseudonymKey(a.cfg); err != nil {
		return err
	}
	a.recent.follow(a.cfg)
	a.disks.last = a.onDisk()
	a.openConsole()
	defer a.console.Close()
	started := event.AgentStarted{
		Version: a.opts.Version, PreviousStop: previous,
		Devices: len(a.cfg.Devices()), ConfigSHA256: a.cfg.SHA256,
	}
	// The disk may have refused the signs of life, or have taken an event after the last.
	if newest := a.spool.NewestAtOpen(); newest.After(lastAlive) {
		lastAlive = newest
	}
	anew := func(c event.Class) string {
		if seq := a.spool.Anew(c); seq > 0 {
			return event.FormatSequence(seq)
		}
		return ""
	}
	started.UrgentAnew, started.RoutineAnew = anew(event.Urgent), anew(event.Routine)
	if !lastAlive.IsZero() {
		t := event.At(lastAlive)
		started.LastAlive = &t
	}
	stopWaiting := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, die) })
	defer stopWaiting()
	// The devices are told as "connecting" before anything else, so that what the
	// broker keeps from the last run does not count as their state now. And the
	// delivery begins first: it is what gives a full disk its room back.
	var devices []*device
	for _, d := range a.cfg.Devices() {
		devices = append(devices, a.addDevice(d))
	}
	if err := a.knowDevices(); err != nil {
		a.log.Warn("the list of devices is not on disk yet", "err", err)
	}
	if len(a.cfg.MQTT) == 0 {
		a.log.Warn("no mqtt section: events are kept in the spool and go nowhere", "spool", a.cfg.Spool.Dir)
	}
	for _, m := range a.cfg.MQTT {
		if err := a.startUplink(m); err != nil {
			return err
		}
	}
	defer a.stopUplinks(everyUplink)
	// On a disk that refuses, this waits: an agent that can't record must not
	// look as if it did. A stop ends the wait.
	if err := a.recordOwn(started); err != nil {
		return err
	}
	a.checkpoints.tellKey(a)
	// An agent that is ended again and again would otherwise never come to sign.
	a.tryCheckpoint()
	a.taps.follow(a, a.cfg)
	defer a.taps.close(a)
	a.log.Info("agent started", "agent", id.kept.Agent, "version", a.opts.Version,
		"previous_stop", previous, "devices", started.Devices)
	a.joins.unsaid()
	for _, d := range devices {
		d.start()
	}
	a.pulse.ready()
	a.loop(ctx)

	a.log.Info("agent stops", "reason", context.Cause(ctx))
	a.pulse.stops(context.Cause(ctx))
	// Before the devices go: who looks must not see a lane without any.
	a.console.Close()
	a.stopDevices(func(*device) bool { return true })
	stopped := event.AgentStopped{
		Reason: context.Cause(ctx).Error(), UptimeS: time.Since(a.began).Round(time.Millisecond).Seconds(),
	}
	a.recordLosses()
	a.tryCheckpoint()
	err = a.recordOwn(stopped)
	a.stopUplinks(everyUplink)
	if err != nil {
		return err
	}
	return a.id.stopped()
}

// loop does what is to be done now and then, until ctx ends.
func (a *Agent) loop(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	last, alive := time.Now(), time.Now()
	for {
		a.pulse.beat()
		select {
		case <-ctx.Done():
			return
		case <-a.opts.Reload:
			a.recent.reloaded(a.reload())
		case done := <-a.reloads:
			done <- a.recent.reloaded(a.reload())
		case <-a.blobs.Changed():
			a.recordOutcomes()
		case <-a.checkpoints.due:
			a.tryCheckpoint()
		case <-a.joins.due:
			a.joins.tell(time.Now())
		case <-tick.C:
			now := time.Now()
			if step := clockStep(last, now); step != 0 {
				a.log.Warn("the wall clock was stepped", "step", step)
				a.try(event.AgentClockChanged{
					StepS:  step.Round(time.Millisecond).Seconds(),
					Before: event.At(now.Round(0).Add(-step)),
				})
			}
			last = now
			a.recent.sample(a, now)
			a.recordLosses()
			a.tellShort(a.spool.Stats(), now)
			a.recordOutcomes()
			a.joins.tell(now)
			a.checkpoints.tellKey(a)
			a.taps.retry(a)
			if a.checkpoints.overdue(now) {
				a.tryCheckpoint()
			}
			if err := a.id.retry(); err != nil {
				a.log.Debug("the agent's identity is not on disk", "err", err)
			}
			if now.Sub(alive) >= aliveEvery {
				alive = now
				a.signOfLife(now)
			}
			a.pulse.refresh()
		}
	}
}

// spoolOptions are what the configuration says of the spool.
func spoolOptions(cfg *config.Config, log *slog.Logger, disk *spool.Counters) (spool.Options, error) {
	c := cfg.Spool
	o := spool.Options{
		Log: log, FS: spool.Counting(nil, disk), Consumers: consumers(cfg),
		Urgent:      spool.Caps{MaxBytes: c.Urgent.MaxBytes},
		Routine:     spool.Caps{MaxBytes: c.Routine.MaxBytes, MaxAge: c.Routine.MaxAge},
		MinFree:     spool.MinFree{Share: c.MinFreeShare, Bytes: c.MinFreeBytes},
		Retain:      spool.Retain{For: c.RetainFor, Bytes: c.RetainBytes},
		CommitDelay: c.CommitDelay,
	}
	if c.KeyFile != "" {
		var err error
		if o.Keys, err = spool.ReadKeyring(c.KeyFile); err != nil {
			return o, fmt.Errorf("spool.key_file: %w", err)
		}
	}
	return o, nil
}

// consumers are those for whom events are kept. Without an uplink they wait for the
// one that the configuration will name.
func consumers(cfg *config.Config) []string {
	if len(cfg.MQTT) == 0 {
		return []string{config.DefaultUplink}
	}
	var names []string
	for _, m := range cfg.MQTT {
		names = append(names, m.Name)
	}
	return names
}

// recordLosses puts into the stream what the spool found missing.
func (a *Agent) recordLosses() {
	for _, l := range a.spool.Losses() {
		a.log.Error("events lost", "class", l.Class, "first", l.First, "last", l.Last,
			"count", l.Count, "reason", l.Reason, "quarantine", l.Quarantine)
		at, err := a.recordAt(a.source(), drivers.Observation{Data: event.AgentLoss{
			Priority: l.Class, FirstSequence: event.FormatSequence(l.First),
			LastSequence: event.FormatSequence(l.Last), Count: l.Count,
			Reason: l.Reason, Detail: l.Detail,
		}})
		if err != nil {
			// It stays unconfirmed, so the next start reports it again.
			a.log.Error("loss not recorded", "err", err)
			continue
		}
		a.spool.LossRecorded(l, at)
	}
}

// record stamps an observation and returns when it is on disk. While the disk
// refuses it waits and tries again: the instrument's bytes wait in its socket
// meanwhile. It fails only at the agent's end, or for an observation that can't
// be encoded.
func (a *Agent) record(source string, o drivers.Observation) error {
	_, err := a.recordAt(source, o)
	return err
}

// recordAt is record for who wants to know the sequence.
func (a *Agent) recordAt(source string, o drivers.Observation) (seq uint64, err error) {
	now := time.Now()
	if o.Time.IsZero() {
		o.Time = now
	}
	sync, maxError := a.clock.quality(now)
	id := o.ID
	if id == "" {
		made, err := uuid.NewV7()
		if err != nil {
			return 0, fmt.Errorf("make an event id: %w", err)
		}
		id = made.String()
	}
	h := event.Header{
		ID: id, Source: source, Agent: a.id.kept.Agent, Subject: o.Subject,
		Time: event.At(o.Time), RecordedTime: event.At(now),
		ClockSync: sync, ClockMaxErrorMs: maxError,
	}
	if !o.DeviceTime.IsZero() {
		t := event.At(o.DeviceTime)
		h.DeviceTime = &t
	}
	data, err := a.withPseudonym(o.Data)
	if err != nil {
		return 0, fmt.Errorf("%w: pseudonym of a plate: %w", supervise.ErrUnrecordable, err)
	}
	draft, err := event.NewDraft(h, data)
	if err != nil {
		a.log.Error("event lost: it can't be encoded", "source", source, "type", o.Data.Type(), "err", err)
		return 0, fmt.Errorf("%w: encode %s: %w", supervise.ErrUnrecordable, o.Data.Type(), err)
	}
	attached, err := a.keepAttachments(h, draft.Class(), draft.Topic(), o.Attachments)
	if err != nil {
		return 0, err
	}
	var line []byte
	encode := func(seq uint64, previous event.Hash) ([]byte, error) {
		line = draft.Encode(seq, previous)
		return line, nil
	}
	err = a.untilTaken(h.Source, o.Data.Type(), func() (err error) {
		seq, err = a.spool.Append(a.life, draft.Class(), now, draft.Topic(), encode)
		return err
	})
	switch {
	case err != nil && attached:
		a.blobs.Withdraw(h.ID)
	case attached:
		a.blobs.Refer(h.ID, seq)
	}
	if err != nil {
		return 0, err
	}
	a.recorded()
	a.recent.recorded(h, draft.Class(), seq, data, o.Attachments, line)
	a.joins.recorded(h, o.Data)
	if a.printer != nil {
		a.printer.add(draft.Class(), seq, line)
	}
	return seq, nil
}

// untilTaken tries to bring something to disk, and tries again for as long as
// the disk refuses. It fails only at the agent's end, or when trying again would
// not help.
func (a *Agent) untilTaken(source, typ string, try func() error) error {
	waits := false
	for {
		err := try()
		if err == nil {
			if waits {
				a.setRefused(-1, nil)
			}
			return nil
		}
		if errors.Is(err, spool.ErrTooLarge) { // waiting would not help
			a.log.Error("event lost: it is too large", "source", source, "type", typ, "err", err)
			return fmt.Errorf("%w: record %s: %w", supervise.ErrUnrecordable, typ, err)
		}
		if a.life.Err() != nil {
			a.log.Error("event lost: the agent stops while the disk does not take events",
				"source", source, "type", typ, "err", err)
			return fmt.Errorf("record %s: the agent has stopped: %w", typ, err)
		}
		if waits {
			a.setRefused(0, err)
		} else {
			a.setRefused(1, err)
			waits = true
		}
		select {
		case <-a.life.Done():
		case <-time.After(recordRetry):
		}
	}
}

// recordOwn records an event of the agent itself.
func (a *Agent) recordOwn(d event.Data) error {
	return a.record(a.source(), drivers.Observation{Data: d})
}

// source is that of the agent's own events.
func (a *Agent) source() string { return event.Source(a.site, event.AgentLane, a.id.kept.Agent) }

// try records an event of the agent itself where there is nobody to return an
// error to.
func (a *Agent) try(d event.Data) {
	if err := a.recordOwn(d); err != nil {
		a.log.Error("event not recorded", "type", d.Type(), "err", err)
	}
}

// setRefused notes that more or fewer events wait for the disk, and why. Only the
// first to wait and the last to get through are logged: one class may find room
// while the other does not.
func (a *Agent) setRefused(more int, why error) {
	a.mu.Lock()
	before := a.waiting
	a.waiting += more
	after := a.waiting
	if why != nil || after == 0 {
		a.refused, a.refusedHint = diskRefuses(why)
	}
	hint := a.refusedHint
	a.mu.Unlock()
	switch {
	case before == 0 && after > 0:
		a.log.Error("the disk does not take events; instruments wait", "err", why, "hint", hint)
	case before > 0 && after == 0:
		a.log.Info("the disk takes events again")
	default:
		return
	}
	a.publishState()
}

// addDevice makes a device, which start sets going.
func (a *Agent) addDevice(c config.Device) *device {
	source := event.Source(a.site, c.Lane, c.ID)
	log := a.log.With("lane", c.Lane, "device", c.ID)
	ctx, stop := context.WithCancel(a.life)
	d := &device{cfg: c, ctx: ctx, stop: stop, done: make(chan struct{})}
	raw := a.taps.tap(c.Lane + "/" + c.ID)
	d.ledger = &deviceLedger{a: a, path: filepath.Join(a.ledgerDir, c.Lane+"__"+c.ID+".jsonl")}
	d.sup = supervise.New(supervise.Device{
		Lane: c.Lane, ID: c.ID, Profile: c.Profile.Name,
		Endpoint: c.Endpoint, Silence: c.Silence, New: c.New,
		Belongs: func(sample []byte) string { return config.Belongs(a.config().Devices(), c, sample) },
	}, supervise.Hooks{
		Ledger:   d.ledger,
		Emit:     func(o drivers.Observation) error { return a.record(source, o) },
		Changed:  func() { a.publishDevice(d) },
		Received: raw.received, Parted: raw.parted,
		Log: log,
	})
	a.mu.Lock()
	a.devices[c.Lane+"/"+c.ID] = d
	a.mu.Unlock()
	a.publishDevice(d)
	return d
}

// start begins to supervise a device.
func (d *device) start() {
	go func() {
		defer close(d.done)
		d.sup.Run(d.ctx)
		d.ledger.close()
	}()
}

// stopDevices stops the chosen devices side by side and waits for them. A
// device may still have an unfinished occupancy to record.
func (a *Agent) stopDevices(choose func(*device) bool) {
	a.mu.Lock()
	var chosen []*device
	for key, d := range a.devices {
		if choose(d) {
			chosen = append(chosen, d)
			delete(a.devices, key)
		}
	}
	a.mu.Unlock()
	for _, d := range chosen {
		d.stop()
	}
	for _, d := range chosen {
		<-d.done
	}
	a.publishing.Lock()
	defer a.publishing.Unlock()
	for _, d := range chosen {
		d.gone = true
	}
}

// deviceList is the running devices in the order of the configuration.
func (a *Agent) deviceList() []*device {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*device
	for _, c := range a.cfg.Devices() {
		if d := a.devices[c.Lane+"/"+c.ID]; d != nil {
			list = append(list, d)
		}
	}
	return list
}

// config is the configuration in effect.
func (a *Agent) config() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}
