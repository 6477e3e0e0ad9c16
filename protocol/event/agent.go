package event

// AgentStarted is the first event after each start of an agent.
type AgentStarted struct {
	Version string `json:"version"`
	// PreviousStop is "clean", "unclean" (killed, power cut), "none" at the very
	// first start, or "damaged" when the agent's record of itself could not be
	// read: it then goes on under a new agent id.
	PreviousStop string `json:"previous_stop"`
	// LastAlive is the last time that the agent is known to have run before
	// this start. Between it and this event the lane was unobserved.
	LastAlive *Time `json:"last_alive,omitempty"`
	// Devices counts the configured devices.
	Devices int `json:"devices"`
	// ConfigSHA256 is the hash of the configuration file.
	ConfigSHA256 string `json:"config_sha256"`
}

// AgentStopped is the last event of an orderly stop.
type AgentStopped struct {
	// Reason is why, for instance "signal: terminated".
	Reason string `json:"reason"`
	// UptimeS is how long the agent ran, in seconds.
	UptimeS float64 `json:"uptime_s"`
}

// AgentConfigChanged records a reload of the configuration.
type AgentConfigChanged struct {
	// Applied is false when the new file was refused and the old configuration
	// goes on.
	Applied      bool   `json:"applied"`
	ConfigSHA256 string `json:"config_sha256"`
	// Added, Changed and Removed list device ids as "lane/device".
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
	// Problems says why it was refused, or what takes effect at a restart only.
	Problems []string `json:"problems,omitempty"`
}

// AgentClockChanged says that the wall clock was stepped: it moved against the
// monotonic clock by more than a second.
type AgentClockChanged struct {
	// StepS is by how many seconds the wall clock jumped, forward positive.
	StepS float64 `json:"step_s"`
	// Before is what the clock would have said without the step.
	Before Time `json:"before"`
}

// AgentLoss says that events which were once recorded can't be delivered.
type AgentLoss struct {
	// Priority is the class of the lost events.
	Priority Class `json:"priority"`
	// FirstSequence and LastSequence bound the lost range, both included.
	FirstSequence string `json:"first_sequence"`
	LastSequence  string `json:"last_sequence"`
	// Count is how many sequences of the range are lost.
	Count uint64 `json:"count"`
	// Reason is "damaged", "evicted" or "refused".
	Reason string `json:"reason"`
	// Detail is for a person.
	Detail string `json:"detail"`
}

// AgentState is the retained state of an agent: birth, heartbeat and last will.
// It is a snapshot, not evidence: it is not spooled and has no sequence.
type AgentState struct {
	// State is "online", or "offline" (last will, or an orderly stop).
	State string `json:"state"`
	// Session counts the agent's MQTT sessions since its first start; a will
	// of an older session is out of date.
	Session uint64 `json:"session"`
	// Since is when this state began.
	Since   Time   `json:"since"`
	Version string `json:"version"`
	// Backlog counts recorded events that the broker has not confirmed yet.
	Backlog uint64 `json:"backlog"`
	// OldestUnsent is the time at which the oldest of them was recorded.
	OldestUnsent *Time `json:"oldest_unsent,omitempty"`
	// UrgentHead and RoutineHead are the last sequences recorded.
	UrgentHead  uint64 `json:"urgent_head"`
	RoutineHead uint64 `json:"routine_head"`
	// Problems lists what is wrong now, each with what to do.
	Problems []string `json:"problems"`
}

// DeviceState is the retained state of a device. Like AgentState it is a
// snapshot and not spooled.
type DeviceState struct {
	// State is "connecting", "online", "silent", "offline", "fault" or
	// "removed". Only "online" means that fresh valid data comes in.
	State   string `json:"state"`
	Since   Time   `json:"since"`
	Profile string `json:"profile"`
	Connect string `json:"connect"`
	// LastValid is when the last well-formed record arrived.
	LastValid *Time `json:"last_valid,omitempty"`
	// Records, Unparsed and Reconnects count since the agent's start.
	Records    int64 `json:"records"`
	Unparsed   int64 `json:"unparsed"`
	Reconnects int64 `json:"reconnects"`
	// Detail says in words what is wrong and what to do; empty when online.
	Detail string `json:"detail"`
}

// Type implements Data.
func (AgentStarted) Type() string       { return "lanepost.agent.started.v1" }
func (AgentStopped) Type() string       { return "lanepost.agent.stopped.v1" }
func (AgentConfigChanged) Type() string { return "lanepost.agent.config-changed.v1" }
func (AgentClockChanged) Type() string  { return "lanepost.agent.clock-changed.v1" }
func (AgentLoss) Type() string          { return "lanepost.agent.loss.v1" }
func (AgentState) Type() string         { return "lanepost.agent.state.v1" }
func (DeviceState) Type() string        { return "lanepost.device.state.v1" }

// Class implements Data.
func (AgentStarted) Class() Class       { return Urgent }
func (AgentStopped) Class() Class       { return Urgent }
func (AgentConfigChanged) Class() Class { return Urgent }
func (AgentClockChanged) Class() Class  { return Urgent }
func (AgentLoss) Class() Class          { return Urgent }
func (AgentState) Class() Class         { return Urgent }
func (DeviceState) Class() Class        { return Urgent }
