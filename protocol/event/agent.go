package event

// AgentStarted is the first event after each start of an agent.
type AgentStarted struct {
	// Version is the version of the agent's program.
	Version string `json:"version"`
	// PreviousStop is "clean", "unclean" (killed, power cut), "none" at the very
	// first start, or "damaged" when the agent's record of itself could not be
	// read: it then goes on under a new agent id.
	PreviousStop string `json:"previous_stop" jsonschema:"enum=clean,enum=unclean,enum=none,enum=damaged"`
	// LastAlive is the last time that the agent is known to have run, and its
	// disk to have taken events, before this start: its last sign of life, or its
	// newest event on disk if that is later. Between it and this event the lanes
	// were unobserved. Absent when not known.
	LastAlive *Time `json:"last_alive,omitempty"`
	// UrgentAnew and RoutineAnew are the sequence with which the hash chain of the
	// class begins anew, because the event before could not be read at this start:
	// it is damaged or lost, or sealed with a key that is missing. Absent where the
	// chain goes on.
	UrgentAnew  string `json:"urgent_anew,omitempty" jsonschema:"pattern=^[0-9]{20}$"`
	RoutineAnew string `json:"routine_anew,omitempty" jsonschema:"pattern=^[0-9]{20}$"`
	// Devices counts the configured devices.
	Devices int `json:"devices"`
	// ConfigSHA256 is the SHA-256 of the configuration file in lower-case
	// hexadecimal.
	ConfigSHA256 string `json:"config_sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
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
	Applied bool `json:"applied"`
	// ConfigSHA256 is the SHA-256 of the file whose configuration is in effect
	// now, in lower-case hexadecimal.
	ConfigSHA256 string `json:"config_sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Added, Changed and Removed list devices as "lane/device". All three are
	// empty when the file was refused.
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
	// Problems says why the file was refused, or what of it takes effect at a
	// restart only.
	Problems []string `json:"problems,omitempty"`
}

// AgentClockChanged says that the wall clock was stepped: it moved against the
// monotonic clock by more than a second.
type AgentClockChanged struct {
	// StepS is by how much the wall clock jumped, in seconds, forward positive.
	StepS float64 `json:"step_s"`
	// Before is what the clock would have said without the step.
	Before Time `json:"before"`
}

// AgentLoss says that events which were once recorded can't be delivered.
type AgentLoss struct {
	// Priority is the class of the lost events.
	Priority Class `json:"priority"`
	// FirstSequence and LastSequence bound the lost range, both included.
	FirstSequence string `json:"first_sequence" jsonschema:"pattern=^[0-9]{20}$"`
	LastSequence  string `json:"last_sequence" jsonschema:"pattern=^[0-9]{20}$"`
	// Count is how many sequences of the range are lost. After a crash that
	// damaged the end of a log it is an upper bound.
	Count uint64 `json:"count"`
	// Reason is "damaged" (the disk does not give them back), "evicted" (deleted
	// to make room) or "refused" (the broker will never take them).
	Reason string `json:"reason" jsonschema:"enum=damaged,enum=evicted,enum=refused"`
	// Uplink names the uplink whose receiver does not get the events; absent when
	// nobody does.
	Uplink string `json:"uplink,omitempty"`
	// Detail says in words what happened.
	Detail string `json:"detail"`
}

// AgentRequest says that a central system asked the agent for something over its
// broker, and what became of it. Requests only read, send again or reload: none
// of them makes the agent act on a device.
type AgentRequest struct {
	// RequestID is the id that the asker gave to the request.
	RequestID string `json:"request_id"`
	// Command is what was asked for, for instance "resend".
	Command string `json:"command"`
	// Args are the request's arguments as they came, JSON as text, cut after 1024
	// bytes; empty if there were none.
	Args string `json:"args"`
	// From is the way by which the request came, for instance "mqtt:national".
	From string `json:"from"`
	// Accepted is false when the command is not allowed here.
	Accepted bool `json:"accepted"`
	// Outcome says in words what became of it: "ok", or why not.
	Outcome string `json:"outcome"`
}

// AgentSkipped says that an uplink keeps events back from its receiver because
// its filter says so. Like a state it is made by the uplink and has no sequence;
// unlike a state it is not retained. Together with the events that come, these
// notices cover every sequence without a gap, unless a loss is told.
type AgentSkipped struct {
	// Priority is the class of the events.
	Priority Class `json:"priority"`
	// FirstSequence and LastSequence bound the range, both included.
	FirstSequence string `json:"first_sequence" jsonschema:"pattern=^[0-9]{20}$"`
	LastSequence  string `json:"last_sequence" jsonschema:"pattern=^[0-9]{20}$"`
	// Digests are the digests D of the events, one after the other, 32 bytes each,
	// in base64.
	Digests string `json:"digests" jsonschema_extras:"contentEncoding=base64"`
}

// AgentState is the retained state of an agent: birth, heartbeat and last will.
// It is a snapshot, not evidence: it is not spooled and has no sequence.
type AgentState struct {
	// State is "online", or "offline" (last will, or an orderly stop).
	State string `json:"state" jsonschema:"enum=online,enum=offline"`
	// Session counts the agent's MQTT sessions since its first start; a will
	// of an older session is out of date.
	Session uint64 `json:"session"`
	// Since is when this state began. In a last will it is when the session
	// began, because the broker does not tell when it ended.
	Since Time `json:"since"`
	// Version is the version of the agent's program.
	Version string `json:"version"`
	// Backlog counts recorded events that the broker has not confirmed yet.
	Backlog uint64 `json:"backlog"`
	// OldestUnsent is when the oldest event of the backlog was recorded; absent
	// when there is none.
	OldestUnsent *Time `json:"oldest_unsent,omitempty"`
	// UrgentHead and RoutineHead are the last sequences recorded in each class;
	// zero when there is none yet.
	UrgentHead  uint64 `json:"urgent_head"`
	RoutineHead uint64 `json:"routine_head"`
	// Problems lists what is wrong now, each with what to do.
	Problems []string `json:"problems"`
}

// DeviceState is the retained state of a device. Like AgentState it is a
// snapshot and not spooled.
type DeviceState struct {
	// State is "connecting", "online", "silent", "offline", "fault" or
	// "removed". Only "online" means that fresh valid data comes in. A device
	// that the agent does not read, because its disk takes no events, is
	// "offline".
	State string `json:"state" jsonschema:"enum=connecting,enum=online,enum=silent,enum=offline,enum=fault,enum=removed"`
	// Since is when this state began.
	Since Time `json:"since"`
	// Profile is the name of the firmware profile in use; empty when removed.
	Profile string `json:"profile"`
	// Connect is where the device is reached, without secrets; empty when
	// removed.
	Connect string `json:"connect"`
	// LastValid is when the last well-formed record arrived; absent if none has
	// since the agent started.
	LastValid *Time `json:"last_valid,omitempty"`
	// Records counts well-formed records, Unparsed the pieces that no decoder
	// understood, Reconnects the new connections; all since the agent's start.
	Records    int64 `json:"records"`
	Unparsed   int64 `json:"unparsed"`
	Reconnects int64 `json:"reconnects"`
	// Detail says in words what is wrong and what to do; empty when nothing is.
	Detail string `json:"detail"`
}

// Type implements Data.
func (AgentStarted) Type() string       { return "lanepost.agent.started.v1" }
func (AgentStopped) Type() string       { return "lanepost.agent.stopped.v1" }
func (AgentConfigChanged) Type() string { return "lanepost.agent.config-changed.v1" }
func (AgentClockChanged) Type() string  { return "lanepost.agent.clock-changed.v1" }
func (AgentLoss) Type() string          { return "lanepost.agent.loss.v1" }
func (AgentRequest) Type() string       { return "lanepost.agent.request.v1" }
func (AgentSkipped) Type() string       { return "lanepost.agent.skipped.v1" }
func (AgentState) Type() string         { return "lanepost.agent.state.v1" }
func (DeviceState) Type() string        { return "lanepost.device.state.v1" }

// Class implements Data.
func (AgentStarted) Class() Class       { return Urgent }
func (AgentStopped) Class() Class       { return Urgent }
func (AgentConfigChanged) Class() Class { return Urgent }
func (AgentClockChanged) Class() Class  { return Urgent }
func (AgentLoss) Class() Class          { return Urgent }
func (AgentRequest) Class() Class       { return Routine }
func (AgentSkipped) Class() Class       { return Urgent }
func (AgentState) Class() Class         { return Urgent }
func (DeviceState) Class() Class        { return Urgent }
