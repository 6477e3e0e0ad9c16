package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/protocol/event"
)

// uplinkRun is a running uplink and the means to stop it.
type uplinkRun struct {
	*uplink.Uplink
	cfg  *config.MQTT
	stop context.CancelFunc
	done chan struct{}
}

// startUplink starts to deliver.
func (a *Agent) startUplink(m *config.MQTT) error {
	clientID := m.ClientID
	if clientID == "" {
		clientID = "lanepost-" + a.id.kept.Agent
		if m.Name != config.DefaultUplink {
			clientID += "-" + m.Name // two of them may use one broker
		}
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(a.life))
	run := &uplinkRun{cfg: m, stop: stop, done: make(chan struct{})}
	options := uplink.Options{
		Name: m.Name, Brokers: m.Brokers, ClientID: clientID,
		Username: m.ReadUsername, Password: m.ReadPassword,
		Filter:      filter(m),
		TopicPrefix: m.TopicPrefix, Redact: m.Redact, MaxPacket: m.MaxPacket,
		Window:  m.Window,
		Session: a.id.nextSession,
		State:   func(online bool) (string, []byte) { return a.encodeState(online, run.Status().Session) },
		Will:    func(session uint64) (string, []byte) { return a.encodeState(false, session) },
		Skipped: func(s event.AgentSkipped) (string, []byte) {
			return a.encodeSnapshot(event.Source(a.site, event.AgentLane, a.id.kept.Agent), time.Now(), s)
		},
		Quarantine: func(ctx context.Context, r spool.Record, reason string) error {
			return a.quarantine(ctx, m.Name, r, reason)
		},
		Idle:     a.idleSource(m.Name),
		Requests: a.requests(ctx, run),
		Retained: a.retained,
		Log:      a.log.With("part", "uplink", "uplink", m.Name),
	}
	if m.TLS() {
		options.TLS = &uplink.TLSOptions{
			CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.KeyFile, ServerName: m.ServerName,
			ALPN: m.ALPN,
		}
	}
	up, err := uplink.New(a.spool, options)
	if err != nil {
		stop()
		return fmt.Errorf("start the uplink %s: %w", m.Name, err)
	}
	run.Uplink = up
	a.mu.Lock()
	a.uplinks = append(a.uplinks, run)
	a.mu.Unlock()
	go func() {
		defer close(run.done)
		if err := up.Run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("the uplink ended", "uplink", m.Name, "err", err)
		}
	}()
	return nil
}

// filter chooses the events of an uplink.
func filter(m *config.MQTT) uplink.Filter {
	return uplink.Filter{Lanes: m.Only.Lanes, Types: m.Only.Types, Classes: m.Only.Classes}
}

// retained lists the states that each broker should have.
func (a *Agent) retained() []uplink.Message {
	var list []uplink.Message
	for _, d := range a.deviceList() {
		list = append(list, a.deviceMessage(d))
	}
	for _, source := range a.removed() {
		list = append(list, a.removedMessage(source))
	}
	return list
}

func everyUplink(*uplinkRun) bool { return true }

// stopUplinks says goodbye to the brokers of the chosen uplinks, side by side,
// and waits for it to be said.
func (a *Agent) stopUplinks(choose func(*uplinkRun) bool) {
	a.mu.Lock()
	var chosen []*uplinkRun
	a.uplinks = slices.DeleteFunc(a.uplinks, func(u *uplinkRun) bool {
		if !choose(u) {
			return false
		}
		chosen = append(chosen, u)
		return true
	})
	a.mu.Unlock()
	for _, u := range chosen {
		u.stop()
	}
	for _, u := range chosen {
		<-u.done
	}
}

func (a *Agent) currentUplinks() []*uplinkRun {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.uplinks)
}
