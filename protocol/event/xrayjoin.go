package event

// What came of joining the two ways by which a scan is told.
const (
	// JoinJoined: the state bus has told that the scanner scanned, and these are the files
	// of it.
	JoinJoined = "joined"
	// JoinNoFiles: the scanner scanned, and no files of it have come in time. The picture
	// of a vehicle may be lost, or come later.
	JoinNoFiles = "no_files"
	// JoinNoCycle: files came of a scan of which the state bus has told nothing.
	JoinNoCycle = "no_cycle"
)

// By what two halves of a scan were joined.
const (
	// JoinByClock: the scanner's times fit, with its clock as wrong as it was before.
	JoinByClock = "clock"
	// JoinByOnly: there was no other.
	JoinByOnly = "only"
	// JoinByDuration: the scan took as long, and no other did.
	JoinByDuration = "duration"
	// JoinByOrder: the lane is a queue, and these are next.
	JoinByOrder = "order"
)

// XrayJoin says that a scan of which a state bus has told (xray.cycle) and a scan of which
// files have told (xray.scan) are the same, or that one of the two is missing. Neither of
// those events is changed by it.
type XrayJoin struct {
	// Outcome is "joined", "no_files" or "no_cycle".
	Outcome string `json:"outcome" jsonschema:"enum=joined,enum=no_files,enum=no_cycle"`
	// By is why they are taken for the same; absent if there is nothing to join.
	By string `json:"by,omitempty" jsonschema:"enum=clock,enum=only,enum=duration,enum=order"`
	// Certain is false if a person should look before relying on it.
	Certain bool `json:"certain"`
	// Inspection is false for a drill and the like.
	Inspection bool `json:"inspection"`
	// ScanID is the scanner's id of the scan, ScanEvent the id of the event that told it
	// first, ScanSource the device; absent if no files came.
	ScanID     string `json:"scan_id,omitempty"`
	ScanEvent  string `json:"scan_event,omitempty"`
	ScanSource string `json:"scan_source,omitempty"`
	// CycleID, CycleEvent and CycleSource are the same of the state bus; absent if it told
	// nothing.
	CycleID     string `json:"cycle_id,omitempty"`
	CycleEvent  string `json:"cycle_event,omitempty"`
	CycleSource string `json:"cycle_source,omitempty"`
	// ClockAheadS is by how many seconds the scanner's clock is ahead of the agent's, by
	// the start of this scan; negative for one that is behind, null if it tells no time.
	ClockAheadS *float64 `json:"clock_ahead_s"`
	// WaitedS is how many seconds after the scan its files came, or how long was waited.
	WaitedS float64 `json:"waited_s"`
	// Supersedes are the ids of the events which said that a half was missing, and is there
	// now.
	Supersedes []string `json:"supersedes,omitempty"`
}

// Type implements Data.
func (XrayJoin) Type() string { return "lanepost.xray.join.v1" }

// Class implements Data. An inspection of which there is no picture is urgent.
func (j XrayJoin) Class() Class {
	if j.Outcome == JoinNoFiles && j.Inspection {
		return Urgent
	}
	return Routine
}
