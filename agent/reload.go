package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// reloaded tells what became of a reload.
type reloaded struct {
	Applied      bool     `json:"applied"`
	ConfigSHA256 string   `json:"config_sha256"`
	Problems     []string `json:"problems"`
}

// refusedFile begins the problem of a file that was refused.
const refusedFile = "the configuration file is not valid and was not loaded: "

// reload reads the configuration again. Only devices that changed are
// restarted; a file that does not validate changes nothing.
func (a *Agent) reload() reloaded {
	a.pulse.reloading()
	defer a.pulse.ready()
	next, err := config.Load(a.opts.ConfigPath)
	if err != nil {
		a.log.Error("reload refused, the old configuration goes on", "err", err)
		a.mu.Lock()
		a.refusedConfig = []string{refusedFile + strings.Join(config.Lines(err), "; ")}
		a.mu.Unlock()
		a.try(event.AgentConfigChanged{
			Applied: false, ConfigSHA256: a.cfg.SHA256, Problems: config.Lines(err),
			Added: []string{}, Changed: []string{}, Removed: []string{},
		})
		a.publishState()
		return reloaded{ConfigSHA256: a.cfg.SHA256, Problems: config.Lines(err)}
	}
	for _, w := range next.Warnings {
		a.log.Warn("configuration", "warning", w.String())
	}
	changed := event.AgentConfigChanged{
		Applied: true, ConfigSHA256: next.SHA256, Problems: a.needsRestart(next),
		Added: []string{}, Changed: []string{}, Removed: []string{},
	}
	old := map[string]config.Device{}
	for _, d := range a.cfg.Devices() {
		old[d.Lane+"/"+d.ID] = d
	}
	var start []config.Device
	keep := map[string]bool{}
	for _, d := range next.Devices() {
		key := d.Lane + "/" + d.ID
		before, known := old[key]
		switch {
		case !known:
			changed.Added = append(changed.Added, key)
			start = append(start, d)
		case before.Fingerprint != d.Fingerprint:
			changed.Changed = append(changed.Changed, key)
			start = append(start, d)
		default:
			keep[key] = true
		}
		delete(old, key)
	}
	for key := range old {
		changed.Removed = append(changed.Removed, key)
	}
	slices.Sort(changed.Removed)
	a.log.Info("configuration reloaded", "added", changed.Added, "changed", changed.Changed,
		"removed", changed.Removed, "restart_needed_for", changed.Problems)

	a.stopDevices(func(d *device) bool { return !keep[d.cfg.Lane+"/"+d.cfg.ID] })
	var startUplinks []*config.MQTT
	keepUplinks := map[string]bool{}
	var uplinks []*config.MQTT
	for _, m := range next.MQTT {
		i := slices.IndexFunc(a.cfg.MQTT, func(o *config.MQTT) bool { return o.Name == m.Name })
		switch {
		case i < 0:
			continue // at the next start, see needsRestart
		case m.Equal(a.cfg.MQTT[i]):
			keepUplinks[m.Name] = true
		default:
			startUplinks = append(startUplinks, m)
		}
		uplinks = append(uplinks, m)
	}
	next.MQTT = uplinks
	a.stopUplinks(func(u *uplinkRun) bool { return !keepUplinks[u.cfg.Name] })
	a.mu.Lock()
	// What needs a restart holds for the life of the process.
	next.Site, next.Spool, next.Log.Format = a.cfg.Site, a.cfg.Spool, a.cfg.Log.Format
	a.cfg = next
	a.mu.Unlock()
	if err := a.knowDevices(); err != nil {
		a.log.Warn("the list of devices is not on disk yet", "err", err)
	}
	for _, source := range a.removed() {
		a.publishRemoved(source)
	}
	for _, m := range startUplinks {
		if err := a.startUplink(m); err != nil {
			changed.Problems = append(changed.Problems, err.Error())
			a.log.Error("uplink not started", "err", err)
		}
	}
	// After the stops and before the starts: a device that is taken out has said its
	// last, and a new one loses no byte.
	a.taps.follow(a, next)
	for _, d := range start {
		a.addDevice(d).start()
	}
	a.recent.follow(next)
	a.console.Follow(next.Console.Door)
	a.logs.SetLevels(logLevels(next))
	a.checkpoints.reload(a, next.Evidence)
	if err := a.readPseudonymKey(next); err != nil {
		changed.Problems = append(changed.Problems, err.Error())
		a.log.Error("the key of the pseudonyms is not reloaded; the old one goes on", "err", err)
	}
	if err := a.reloadKeys(); err != nil {
		changed.Problems = append(changed.Problems, err.Error())
		a.log.Error("the spool's keys are not reloaded; the old ones go on", "err", err)
	}
	a.mu.Lock()
	a.refusedConfig = slices.Clone(changed.Problems)
	a.mu.Unlock()
	a.try(changed)
	a.publishState()
	return reloaded{Applied: true, ConfigSHA256: next.SHA256, Problems: changed.Problems}
}

// reloadKeys takes up a changed key file of the spool.
func (a *Agent) reloadKeys() error {
	path := a.cfg.Spool.KeyFile
	if path == "" {
		return nil
	}
	keys, err := spool.ReadKeyring(path)
	if err == nil {
		err = a.spool.SetKeys(keys)
	}
	if err != nil {
		return fmt.Errorf("spool.key_file: %w", err)
	}
	return nil
}

// needsRestart lists what a reload can't change.
func (a *Agent) needsRestart(next *config.Config) []string {
	var list []string
	if next.Site != a.cfg.Site {
		list = append(list, fmt.Sprintf("site was changed in the configuration: it takes effect when the agent is started again; until then events say %s", a.cfg.Site))
	}
	if next.Spool != a.cfg.Spool {
		list = append(list, "spool was changed in the configuration: it takes effect when the agent is started again")
	}
	for _, m := range next.MQTT {
		if !slices.ContainsFunc(a.cfg.MQTT, func(o *config.MQTT) bool { return o.Name == m.Name }) {
			list = append(list, fmt.Sprintf("the uplink %s is new in the configuration: it begins when the agent is started again", m.Name))
		}
	}
	if next.Log.Format != a.cfg.Log.Format {
		list = append(list, "log.format was changed in the configuration: it takes effect when the agent is started again")
	}
	return list
}
