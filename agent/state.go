package agent

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/protocol/event"
)

// encodeState makes the retained state of the agent.
func (a *Agent) encodeState(online bool, session uint64) (topic string, payload []byte) {
	now := time.Now()
	return a.encodeSnapshot(event.Source(a.site, event.AgentLane, a.id.kept.Agent), now, a.state(now, online, session))
}

// state is the agent's state as one uplink tells it.
func (a *Agent) state(now time.Time, online bool, session uint64) event.AgentState {
	// A disk that hangs must not hold up what is told of the devices that wait for it.
	disk, old := a.disks.ask(a.onDisk)
	stats := disk.spool
	s := event.AgentState{
		State: "offline", Session: session, Since: event.At(now), Version: a.opts.Version,
		Problems: []string{},
	}
	if online {
		s.State = "online"
		s.Since = event.At(a.began)
		s.Problems = append(s.Problems, a.problems(disk, old)...)
	}
	var oldest time.Time
	for _, c := range []spool.ClassStats{stats.Urgent, stats.Routine} {
		s.Backlog += c.Backlog
		if !c.OldestUnacked.IsZero() && (oldest.IsZero() || c.OldestUnacked.Before(oldest)) {
			oldest = c.OldestUnacked
		}
	}
	s.UrgentHead, s.RoutineHead = stats.Urgent.Head, stats.Routine.Head
	if !oldest.IsZero() {
		t := event.At(oldest)
		s.OldestUnsent = &t
	}
	return s
}

// encodeSnapshot makes a retained state document.
func (a *Agent) encodeSnapshot(source string, now time.Time, d event.Data) (topic string, payload []byte) {
	sync, maxError := a.clock.quality(now)
	topic, payload, err := event.EncodeState(event.Header{
		ID: uuid.NewString(), Source: source, Agent: a.id.kept.Agent,
		Time: event.At(now), RecordedTime: event.At(now), ClockSync: sync, ClockMaxErrorMs: maxError,
	}, d)
	if err != nil {
		// Only a NaN could do this, and a state holds none.
		a.log.Error("encode a state", "type", d.Type(), "err", err)
	}
	return topic, payload
}

func (a *Agent) deviceMessage(d *device) uplink.Message {
	topic, payload := a.encodeSnapshot(event.Source(a.site, d.cfg.Lane, d.cfg.ID), time.Now(), d.sup.State())
	return uplink.Message{Topic: topic, Payload: payload}
}

// publishDevice sends the state of a device, if there is a broker now; the
// uplink asks for all of them at each new session.
func (a *Agent) publishDevice(d *device) {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	if !d.gone {
		a.publish(func(*uplinkRun) uplink.Message { return a.deviceMessage(d) })
	}
}

// publish gives a state to each uplink.
func (a *Agent) publish(make func(*uplinkRun) uplink.Message) {
	for _, u := range a.currentUplinks() {
		u.PublishState(make(u))
	}
}

// knowDevices notes the configured devices, for the time when they are no longer
// configured.
func (a *Agent) knowDevices() error {
	var now []string
	for _, d := range a.cfg.Devices() {
		now = append(now, event.Source(a.site, d.Lane, d.ID))
	}
	return a.id.know(now)
}

// removed lists the devices of this site that are no longer configured, now or
// since an earlier run. The broker keeps their last states, and "online" must
// not stand there for a device that nobody reads.
func (a *Agent) removed() []string {
	configured := map[string]bool{}
	a.mu.Lock()
	for _, d := range a.cfg.Devices() {
		configured[event.Source(a.site, d.Lane, d.ID)] = true
	}
	a.mu.Unlock()
	var list []string
	for _, source := range a.id.known() {
		if !configured[source] && strings.HasPrefix(source, "/"+a.site+"/") {
			list = append(list, source)
		}
	}
	return list
}

func (a *Agent) removedMessage(source string) uplink.Message {
	now := time.Now()
	topic, payload := a.encodeSnapshot(source, now, event.DeviceState{
		State: "removed", Since: event.At(now), Detail: "no longer in the agent's configuration",
	})
	return uplink.Message{Topic: topic, Payload: payload}
}

// publishRemoved tells that a device is no longer part of the configuration.
func (a *Agent) publishRemoved(source string) {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	a.publish(func(*uplinkRun) uplink.Message { return a.removedMessage(source) })
}

// publishState sends the agent's own state.
func (a *Agent) publishState() {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	a.publish(func(u *uplinkRun) uplink.Message {
		topic, payload := a.encodeState(true, u.Status().Session)
		return uplink.Message{Topic: topic, Payload: payload}
	})
}
