package event

// Kinds of signals of a state bus.
const (
	// SignalInput is a contact or a state that is on or off.
	SignalInput = "input"
	// SignalSafety is one on which somebody's safety hangs.
	SignalSafety = "safety"
	// SignalNumeric is a measured value.
	SignalNumeric = "numeric"
	// SignalCounter counts up.
	SignalCounter = "counter"
	// SignalLife changes as long as the device lives.
	SignalLife = "life"
	// SignalMode is a number that stands for a word.
	SignalMode = "mode"
)

// Severities of a signal.
const (
	// SeveritySafety: a safety signal went bad, came back, or is not known.
	SeveritySafety = "safety"
	// SeverityWarning: a person should look at the wiring, the bus or the device.
	SeverityWarning = "warning"
	// SeverityInfo is all else.
	SeverityInfo = "info"
)

// LaneSignal is what one signal of a state bus is from now on: of a PLC or an I/O box that
// tells of a scanner, of loops, barriers and lights. It is only ever read.
type LaneSignal struct {
	// Signal is its canonical name: "scanning", "estop_ok", "loop_1"; "link" stands for all
	// of the bus.
	Signal string `json:"signal"`
	// Kind is "input", "safety", "numeric", "counter", "life" or "mode".
	Kind string `json:"kind" jsonschema:"enum=input,enum=safety,enum=numeric,enum=counter,enum=life,enum=mode"`
	// Severity is "safety", "warning" or "info".
	Severity string `json:"severity" jsonschema:"enum=safety,enum=warning,enum=info"`
	// Quality is "good", or "unknown" if the signal can't be read: it is neither on nor off
	// then, and State and Value are null.
	Quality string `json:"quality" jsonschema:"enum=good,enum=unknown"`
	// Reason is why it is told: "initial" (the bus was connected), "edge", "changed" (a
	// number), "jump" or "wrap" (a counter), "stuck" (on for longer than it should be),
	// "chatter" (more edges than there should be; told again each minute), "chatter_over",
	// "lost" (it can't be read any more), "recovered".
	Reason string `json:"reason" jsonschema:"enum=initial,enum=edge,enum=changed,enum=jump,enum=wrap,enum=stuck,enum=chatter,enum=chatter_over,enum=lost,enum=recovered"`
	// State of an input or a safety signal; null for the others.
	State *bool `json:"state"`
	// Value of a number, scaled; null for inputs and safety signals. Text is the word for it,
	// where the configuration has one.
	Value *float64 `json:"value"`
	Text  string   `json:"text,omitempty"`
	// Previous is what it was before, a state as 0 or 1; null if that is not known.
	Previous *float64 `json:"previous"`
	// Edges counts the changes that were seen since the signal was told before, this one and
	// those that debouncing held back included.
	Edges int `json:"edges"`
	// ObservedTS is when the change was seen first, before debouncing, by the agent's clock.
	ObservedTS Time `json:"observed_ts"`
	// DeviceTS is the device's own time of the value; null if it tells none.
	DeviceTS *Time `json:"device_ts"`
	// Affects are the other signals that are unknown from now on for the same reason.
	Affects []string `json:"affects,omitempty"`
	// Detail is why it can't be read.
	Detail string `json:"detail,omitempty"`
}

// Type implements Data.
func (LaneSignal) Type() string { return "lanepost.lane.signal.v1" }

// Class implements Data: what concerns safety is urgent, and what is lost, but for a mere
// number.
func (s LaneSignal) Class() Class {
	if s.Severity == SeveritySafety || s.Reason == "lost" && s.Kind != SignalNumeric || s.Kind == SignalLife && s.Reason == "recovered" {
		return Urgent
	}
	return Routine
}

// XrayCycle is the beginning or the end of one scan as the scanner's state bus tells it.
// The pictures of the scan come later, and from elsewhere.
type XrayCycle struct {
	// CycleID is the agent's own id of the scan (UUIDv7), also the event's subject. The two
	// events of one scan have the same.
	CycleID string `json:"cycle_id"`
	// Phase is "started" or "ended".
	Phase string `json:"phase" jsonschema:"enum=started,enum=ended"`
	// StartedTS and EndedTS are by the agent's clock, at the first sample that showed it;
	// EndedTS is null at the start. After a loss it is the last moment that was seen.
	StartedTS Time  `json:"started_ts"`
	EndedTS   *Time `json:"ended_ts"`
	// DurationS is the time between in seconds, by a clock that nobody sets; null at the start.
	DurationS *float64 `json:"duration_s"`
	// End is what ended it: "scanning" (the signal went off), "scan_counter" (it went up),
	// the name of the safety signal that cut it short, "life_lost" (the device stands still),
	// "link_lost", "not_observed" (nobody looked for a while), "unreadable" or "agent_stopped"
	// (the agent ended meanwhile, and EndedTS is the start, the last moment that is known);
	// empty at the start.
	End string `json:"end"`
	// CutShort is true if it was ended by a safety signal, and Unobserved if nobody knows how
	// it went on.
	CutShort   bool `json:"cut_short"`
	Unobserved bool `json:"unobserved"`
	// CounterBefore and CounterAfter are the scan counter at the start and at the end; null if
	// it is not known.
	CounterBefore *float64 `json:"counter_before"`
	CounterAfter  *float64 `json:"counter_after"`
	// Scans is how many scans this is: 1, or as many as the counter counted, of which the signal
	// showed one at the most.
	Scans int `json:"scans"`
	// Mode is that of the scanner at the time of the event: "operational", "training" or what
	// the configuration calls it; empty if it is not known.
	Mode string `json:"mode"`
	// Flags are what a person should look at: "began_before" (it was under way when the bus was
	// connected or could be read again), "start_not_seen" (only the counter told of it), "counter_jump" (more than one
	// scan was counted), "counter_unchanged" (the end was seen and not counted).
	Flags []string `json:"flags"`
}

// Type implements Data.
func (XrayCycle) Type() string { return "lanepost.xray.cycle.v1" }

// Class implements Data: a scan that was cut short or lost is urgent.
func (c XrayCycle) Class() Class {
	if c.CutShort || c.Unobserved {
		return Urgent
	}
	return Routine
}
