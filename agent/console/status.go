package console

import "github.com/lanepost/lanepost/protocol/event"

// Status is a snapshot of the agent. Times are those of the agent's clock.
type Status struct {
	// At is when the snapshot was made.
	At event.Time `json:"at"`
	// Version is the program's, Site the crossing point, Agent the id in the events.
	Version string `json:"version"`
	Site    string `json:"site"`
	Agent   string `json:"agent"`
	// Simulated is true if a simulator plays the instruments, so that nothing here is real.
	Simulated bool `json:"simulated"`
	// Started is when the agent was started, UptimeS how long ago that is in seconds.
	Started event.Time `json:"started"`
	UptimeS float64    `json:"uptime_s"`
	// Clock is what the system says of its clock.
	Clock Clock `json:"clock"`
	// Config is what configuration is in effect.
	Config Config `json:"config"`
	// Problems are what is wrong now, the worst first; empty if nothing is.
	Problems []Problem `json:"problems"`
	// Lanes are in the order of the configuration.
	Lanes []Lane `json:"lanes"`
	// Uplinks are the ways to the brokers; empty if none is configured.
	Uplinks []Uplink `json:"uplinks"`
	// Spool is what is kept on disk.
	Spool Spool `json:"spool"`
	// Process is the agent as a program.
	Process Process `json:"process"`
}

// Clock is the quality of the wall clock.
type Clock struct {
	// Synchronised is "yes", "no", or "unknown" where the system does not say.
	Synchronised string `json:"synchronised"`
	// MaxErrorMs is the system's bound on the error in milliseconds; absent if unknown.
	MaxErrorMs *int64 `json:"max_error_ms,omitempty"`
}

// Config tells of the configuration.
type Config struct {
	// Path is the file, SHA256 the hash of what is in effect.
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	// LoadedAt is when that was taken up.
	LoadedAt event.Time `json:"loaded_at"`
	// LastReload is the last time that the file was read again; absent if it was not
	// since the start.
	LastReload *Reload `json:"last_reload,omitempty"`
	// Refused is why the file as it is now is not in effect, or not all of it; empty if
	// it is.
	Refused []string `json:"refused"`
}

// Reload is one attempt to take up a changed configuration.
type Reload struct {
	At event.Time `json:"at"`
	Reloaded
}

// Problem is something that a person should do something about.
type Problem struct {
	// What is wrong, in words.
	What string `json:"what"`
	// Device is the one that it is about, "lane/id"; absent if it is about none.
	Device string `json:"device,omitempty"`
	// ToDo is what to do about it; empty if nobody knows.
	ToDo string `json:"to_do"`
}

// Lane is one lane with its devices.
type Lane struct {
	ID string `json:"id"`
	// Name is for people; absent if the configuration gives none.
	Name    string   `json:"name,omitempty"`
	Devices []Device `json:"devices"`
}

// Device is one instrument.
type Device struct {
	// Device is "lane/id", by which the other requests name it.
	Device string `json:"device"`
	Lane   string `json:"lane"`
	ID     string `json:"id"`
	// Profile is the firmware profile, Driver what reads it.
	Profile string `json:"profile"`
	Driver  string `json:"driver"`
	// Kind is what Passed counts of it: "portal" (occupancies), "plate_reader" (vehicles) or
	// "scanner" (scans); absent for other devices.
	Kind string `json:"kind,omitempty"`
	// Connect is where it is reached, without secrets.
	Connect string `json:"connect"`
	// State is "connecting", "online", "silent", "offline" or "fault". Only "online"
	// means that fresh valid data comes in.
	State string `json:"state"`
	// Since is when that state began.
	Since event.Time `json:"since"`
	// Reason says in words what is wrong, ToDo what to do about it; both empty while
	// nothing is known to be.
	Reason string `json:"reason"`
	ToDo   string `json:"to_do"`
	// SilenceLimitS is how long it may stay without a valid record, in seconds.
	SilenceLimitS float64 `json:"silence_limit_s"`
	// LastRecord is when the last valid record came; absent if none has since the start.
	LastRecord *event.Time `json:"last_record,omitempty"`
	// Records counts valid records, Unparsed what no decoder understood, Reconnects the
	// new connections; all since the agent's start.
	Records    int64 `json:"records"`
	Unparsed   int64 `json:"unparsed"`
	Reconnects int64 `json:"reconnects"`
	// ClockOffsetS is by how many seconds its clock is ahead of the agent's, below zero
	// if it is behind; absent if it tells no time, or has not yet.
	ClockOffsetS *float64 `json:"clock_offset_s,omitempty"`
	// RawBytes says that its raw bytes can be listened to.
	RawBytes bool `json:"raw_bytes"`
	// LastEvent is the last event of it; absent if there was none since the start.
	LastEvent *Event `json:"last_event,omitempty"`
	// Occupancies are the last KeptOccupancies of a portal, Plates the last KeptPlates
	// of a plate reader, the oldest first; empty for other devices.
	Occupancies []Occupancy `json:"occupancies"`
	Plates      []Plate     `json:"plates"`
	// Scan is the last one of an X-ray scanner; absent if there was none since the start.
	Scan *Scan `json:"scan,omitempty"`
	// Passed counts what passed since the agent's start.
	Passed Passed `json:"passed"`
}

// Kinds of devices.
const (
	Portal      = "portal"
	PlateReader = "plate_reader"
	Scanner     = "scanner"
)

// Passed counts what a device saw pass since the agent's start.
type Passed struct {
	// Occupancies counts those of a portal; of them AlarmOccupancies those with an alarm
	// and IncompleteOccupancies those without one that were not observed from beginning to
	// end. The others had none.
	Occupancies           uint64 `json:"occupancies"`
	AlarmOccupancies      uint64 `json:"alarm_occupancies"`
	IncompleteOccupancies uint64 `json:"incomplete_occupancies"`
	// GammaAlarms and NeutronAlarms count occupancies with such an alarm.
	GammaAlarms   uint64 `json:"gamma_alarms"`
	NeutronAlarms uint64 `json:"neutron_alarms"`
	// PlateReads counts plates, NoReads vehicles without a plate that could be read.
	PlateReads uint64 `json:"plate_reads"`
	NoReads    uint64 `json:"no_reads"`
	// Scans counts X-ray scans, without their later revisions.
	Scans uint64 `json:"scans"`
}

// Event is one event in short.
type Event struct {
	// At is when it happened.
	At event.Time `json:"at"`
	// Device is "lane/id"; the lane of the agent's own events is "agent".
	Device string `json:"device"`
	// Type is the event's type, Priority its class, Sequence its place in that.
	Type     string      `json:"type"`
	Priority event.Class `json:"priority"`
	Sequence string      `json:"sequence"`
	// ID is the event's.
	ID string `json:"id"`
	// Text is what happened, in some words.
	Text string `json:"text"`
}

// Occupancy is one occupancy of a portal.
type Occupancy struct {
	// ID is the occupancy's.
	ID string `json:"id"`
	// Start is when it began, DurationS how long it took in seconds.
	Start     event.Time `json:"start"`
	DurationS float64    `json:"duration_s"`
	// Outcome is "alarm", "no_alarm" or "incomplete"; End is how it ended.
	Outcome event.Outcome `json:"outcome"`
	End     string        `json:"end"`
	// GammaAlarm and NeutronAlarm are the portal's own.
	GammaAlarm   bool `json:"gamma_alarm"`
	NeutronAlarm bool `json:"neutron_alarm"`
	// Gamma and Neutron tell what is known of each kind of detector: "data", "no_data",
	// "fault" or "not_fitted".
	Gamma   event.Modality `json:"gamma"`
	Neutron event.Modality `json:"neutron"`
	// GammaMaxCounts is the highest count of one second over all gamma detectors, GammaBackgroundCPS
	// the background in counts per second, GammaSigma their distance in units of the
	// background's square root; null if unknown.
	GammaMaxCounts     *int     `json:"gamma_max_counts"`
	GammaBackgroundCPS *int     `json:"gamma_background_cps"`
	GammaSigma         *float64 `json:"gamma_sigma"`
	// NeutronCounts are the counts of all neutron samples.
	NeutronCounts int `json:"neutron_counts"`
	// SpeedKPH is the speed in km/h; null if unknown.
	SpeedKPH *float64 `json:"speed_kph"`
}

// Plate is one read of a plate reader.
type Plate struct {
	At event.Time `json:"at"`
	// ID is the read's.
	ID string `json:"id"`
	// Text is the plate as far as the configuration permits to show it: masked
	// ("A*****7"), a pseudonym (the first digits of it), or the plate; empty if there is
	// nothing to show, or no plate was read.
	Text string `json:"text"`
	// Read is false if a vehicle was seen and no plate read.
	Read bool `json:"read"`
	// Country is ISO 3166-1 alpha-2; empty if unknown.
	Country string `json:"country"`
	// Confidence runs from 0 to 1; null if the device tells none.
	Confidence *float64 `json:"confidence"`
	// Direction is "toward", "away", "left", "right" or "unknown".
	Direction string `json:"direction"`
}

// Scan is one X-ray scan.
type Scan struct {
	At event.Time `json:"at"`
	// ID is the scanner's own id of the scan, Revision which word on it this is.
	ID       string `json:"id"`
	Revision int    `json:"revision"`
	// Mode, Decision and Completeness are as in the event.
	Mode         string `json:"mode"`
	Decision     string `json:"decision"`
	Completeness string `json:"completeness"`
	// Thumbnail is the small picture of it, where pictures may be shown; absent otherwise,
	// or if there is none.
	Thumbnail *event.Attachment `json:"thumbnail,omitempty"`
}

// Uplink is one way to a broker.
type Uplink struct {
	Name string `json:"name"`
	// State is "online", "connecting" or "offline"; Connected is true when online.
	State     string `json:"state"`
	Connected bool   `json:"connected"`
	// Since is when it went online, or since when it is not.
	Since event.Time `json:"since"`
	// Broker is the one in use, or that was tried last.
	Broker string `json:"broker"`
	// LastError says why the last attempt or session failed, ToDo what to do about it;
	// empty if none failed since it was last healthy.
	LastError   string      `json:"last_error"`
	ToDo        string      `json:"to_do"`
	LastErrorAt *event.Time `json:"last_error_at,omitempty"`
	// WaitingUrgent and WaitingRoutine count events that the broker has not confirmed.
	WaitingUrgent  uint64 `json:"waiting_urgent"`
	WaitingRoutine uint64 `json:"waiting_routine"`
	// OldestWaiting is when the oldest of them was recorded, OldestWaitingS how long ago
	// that is in seconds; absent if none waits.
	OldestWaiting  *event.Time `json:"oldest_waiting,omitempty"`
	OldestWaitingS *float64    `json:"oldest_waiting_s,omitempty"`
	// InFlight counts messages that are on their way now.
	InFlight int `json:"in_flight"`
	// EventsPerS is how many events were confirmed in a second, over the last minute or
	// the time since the start if that is shorter.
	EventsPerS float64 `json:"events_per_s"`
	// LastConfirmed is when the broker last confirmed an event; absent if it has not
	// since the start.
	LastConfirmed *event.Time `json:"last_confirmed,omitempty"`
	// Published and Confirmed count events since the uplink was started, Published with
	// repetitions; Resent what was sent again on request, Skipped what the uplink's choice
	// keeps back, Quarantined what was taken out since the broker never took it,
	// Reconnects the sessions after the first.
	Published   uint64 `json:"published"`
	Confirmed   uint64 `json:"confirmed"`
	Resent      uint64 `json:"resent"`
	Skipped     uint64 `json:"skipped"`
	Quarantined uint64 `json:"quarantined"`
	Reconnects  uint64 `json:"reconnects"`
	// Certificates are those that the connection rests on; empty without TLS.
	Certificates []Certificate `json:"certificates"`
}

// Certificate is one that a connection rests on.
type Certificate struct {
	// Role is "client", "ca" or "broker".
	Role    string `json:"role"`
	Subject string `json:"subject"`
	// Expires is when it ends, ExpiresInS in how many seconds that is, below zero if it
	// has expired.
	Expires    event.Time `json:"expires"`
	ExpiresInS float64    `json:"expires_in_s"`
}

// Spool is what is kept on disk.
type Spool struct {
	Dir string `json:"dir"`
	// Urgent and Routine are the classes of events.
	Urgent  SpoolClass `json:"urgent"`
	Routine SpoolClass `json:"routine"`
	// AttachmentsBytes is what pictures and files take, AttachmentsMaxBytes what they may.
	AttachmentsBytes    int64 `json:"attachments_bytes"`
	AttachmentsMaxBytes int64 `json:"attachments_max_bytes"`
	// DiskFreeBytes is how much may still be written to the disk, DiskTotalBytes how large
	// it is; absent if unknown.
	DiskFreeBytes  *int64 `json:"disk_free_bytes,omitempty"`
	DiskTotalBytes *int64 `json:"disk_total_bytes,omitempty"`
	// Pressure is what is short: "disk", "urgent cap", "routine cap", or several with a comma
	// between them; empty if nothing is.
	Pressure string `json:"pressure"`
	// Refused is why the disk takes no events now, WaitingForDisk how many wait for it;
	// empty and zero if it takes them.
	Refused        string `json:"refused"`
	WaitingForDisk int    `json:"waiting_for_disk"`
	// LostEvents counts events that were lost or given up since the agent's start. Each
	// loss is an event itself, with range and reason.
	LostEvents uint64 `json:"lost_events"`
	// DiskSyncs counts what was asked of the disk since the start, DiskWrittenBytes what
	// was written.
	DiskSyncs        uint64 `json:"disk_syncs"`
	DiskWrittenBytes uint64 `json:"disk_written_bytes"`
	// OldSince is since when the disk does not answer, so that what stands here, and what
	// waits at the uplinks, is as old as that; absent if it is fresh.
	OldSince *event.Time `json:"old_since,omitempty"`
}

// SpoolClass is one class of events.
type SpoolClass struct {
	// Bytes is what it takes on disk, MaxBytes what it may.
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	// LastSequence is that of the last event; zero if there was none ever.
	LastSequence uint64 `json:"last_sequence"`
	// Waiting counts events that not every uplink has delivered, OldestWaiting is when
	// the oldest of them was recorded; absent if none waits.
	Waiting       uint64      `json:"waiting"`
	OldestWaiting *event.Time `json:"oldest_waiting,omitempty"`
}

// Process is the agent as a program.
type Process struct {
	Goroutines int `json:"goroutines"`
	// HeapBytes is what it uses of its memory, SystemBytes what it has from the system.
	HeapBytes   uint64 `json:"heap_bytes"`
	SystemBytes uint64 `json:"system_bytes"`
	// GoVersion is what the program was built with.
	GoVersion string `json:"go_version"`
}
