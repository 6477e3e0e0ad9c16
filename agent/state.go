package agent

import (
	"fmt"
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
	stats := a.spool.Stats()
	s := event.AgentState{
		State: "offline", Session: session, Since: event.At(now), Version: a.opts.Version,
		Problems: []string{},
	}
	if online {
		s.State = "online"
		s.Since = event.At(a.began)
		s.Problems = append(s.Problems, a.problems()...)
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

// problems lists what is wrong now, in words.
func (a *Agent) problems() []string {
	var list []string
	a.mu.Lock()
	if a.refused != "" {
		list = append(list, "the disk does not take events: "+a.refused)
	}
	list = append(list, a.refusedConfig...)
	a.mu.Unlock()
	if a.joins != nil && a.joins.broken != "" {
		list = append(list, a.joins.broken)
	}
	for _, d := range a.deviceList() {
		if s := d.sup.State(); s.State != "online" && s.State != "connecting" {
			list = append(list, fmt.Sprintf("%s/%s is %s: %s", d.cfg.Lane, d.cfg.ID, s.State, s.Detail))
		}
	}
	list = append(list, a.taps.problems()...)
	list = append(list, pressureProblems(a.spool.Stats())...)
	for _, u := range a.currentUplinks() {
		list = append(list, uplinkProblems(u.Status(), time.Now())...)
	}
	if sync, _ := a.clock.quality(time.Now()); sync == "no" {
		list = append(list, "the clock of this box is not synchronised: check its time server")
	}
	return list
}

// pressureProblems tells what the spool is short of.
func pressureProblems(s spool.Stats) []string {
	if s.Pressure == "" {
		return nil
	}
	words := map[string]string{
		"disk":        "the disk of the spool directory is nearly full: routine events give way, and a loss event says which; free space on it",
		"urgent cap":  "urgent events have nearly reached their cap: when it is reached, instruments are not read on; bring the broker back, or raise spool.urgent.max_size",
		"routine cap": "routine events have nearly reached their cap: the oldest give way, and a loss event says which; bring the broker back, or raise spool.routine.max_size",
	}
	var list []string
	for _, one := range strings.Split(s.Pressure, ", ") {
		text, ok := words[one]
		if !ok {
			text = "the spool is short of " + one
		}
		list = append(list, text)
	}
	return list
}

// uplinkProblems lists what is wrong with an uplink. Others than the one that
// tells the state may be down.
func uplinkProblems(s uplink.Status, now time.Time) []string {
	var list []string
	if s.State != uplink.Online && s.LastError != "" {
		list = append(list, fmt.Sprintf("the uplink %s has no broker since %s: %s: %s", s.Name, s.Since.UTC().Format(time.RFC3339), s.LastError, s.Hint))
	}
	for _, p := range s.Problems(now) {
		list = append(list, p.Text)
	}
	for _, e := range s.Stuck {
		list = append(list, fmt.Sprintf("the uplink %s can't get %s sequence %d past its broker: look in the broker's log", s.Name, e.Class, e.Sequence))
	}
	if s.SpoolError != "" {
		list = append(list, s.SpoolError)
	}
	return list
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
