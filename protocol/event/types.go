package event

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Kind describes one type of event.
type Kind struct {
	// Type is the CloudEvents type.
	Type string
	// Classes lists the classes that its events can have; empty if unsequenced.
	Classes []Class
	// Unsequenced is true for what is made at the moment of sending and not
	// spooled, and so has neither priority nor sequence: a state, which is retained
	// too, or a notice of an uplink.
	Unsequenced bool
	// Retained is true for what is published with the retain flag.
	Retained bool
	// Subject says what the event's subject is; empty when it has none.
	Subject string
	// Summary says in a sentence what it means, When when it is sent.
	Summary, When string
	// Zero is a zero value of its Go type.
	Zero Data
	// Example is one realistic event.
	Example Example
}

// Example is an event with synthetic, consistent numbers.
type Example struct {
	Header   Header
	Sequence uint64 // zero if unsequenced
	Data     Data
}

// Encode gives the example as it would be published.
func (x Example) Encode() ([]byte, error) {
	if unsequenced(x.Data.Type()) {
		_, b, err := EncodeState(x.Header, x.Data)
		return b, err
	}
	d, err := NewDraft(x.Header, x.Data)
	if err != nil {
		return nil, err
	}
	return d.Encode(x.Sequence, sha256.Sum256([]byte(x.Header.ID))), nil // like all of it, made up
}

// TypeNames are the names of all types, as in topics. Unlike Types it brings no example
// into the program.
func TypeNames() []string {
	list := make([]string, 0, len(kinds))
	for _, k := range kinds {
		list = append(list, TypeName(k.Type))
	}
	return list
}

// Types lists every type of event, those of instruments first, with examples.
func Types() []Kind {
	list := slices.Clone(kinds[:])
	all := examples()
	for i := range list {
		list[i].Example = all[list[i].Type]
	}
	return list
}

func kindOf(typ string) (Kind, bool) {
	for _, k := range kinds {
		if k.Type == typ {
			return k, true
		}
	}
	return Kind{}, false
}

func unsequenced(typ string) bool {
	k, _ := kindOf(typ)
	return k.Unsequenced
}

// Retained reports whether what is published to a topic is to carry the retain
// flag. It goes by the topic's last level, which is the type without version.
func Retained(topic string) bool {
	name := topic[strings.LastIndexByte(topic, '/')+1:]
	for _, k := range kinds {
		if k.Retained && TypeName(k.Type) == name {
			return true
		}
	}
	return false
}

var (
	urgent  = []Class{Urgent}
	routine = []Class{Routine}
)

var kinds = [...]Kind{
	{
		Type: RadiationOccupancy{}.Type(), Zero: RadiationOccupancy{}, Classes: Classes[:], Subject: "the occupancy id",
		Summary: "The summary of one occupancy of a portal: one vehicle, or a part of one.",
		When: "When an occupancy ends, however it ends; that is its time. It is routine when its outcome is " +
			"`no_alarm`, and urgent otherwise.",
	},
	{
		Type: RadiationAlarm{}.Type(), Zero: RadiationAlarm{}, Classes: urgent, Subject: "the occupancy id",
		Summary: "A portal alarms while the vehicle is still in it.",
		When: "At the first alarming sample of an occupancy, once for gamma and once for neutron. The " +
			"occupancy's summary repeats it.",
	},
	{
		Type: RadiationBackground{}.Type(), Zero: RadiationBackground{}, Classes: routine,
		Summary: "The background of a free portal over an interval.",
		When: "Once per interval of the portal's settings while background records come, and for the first time as soon " +
			"as there is something to tell.",
	},
	{
		Type: RadiationFault{}.Type(), Zero: RadiationFault{}, Classes: urgent,
		Summary: "A fault that a portal or another radiation instrument reports.",
		When:    "On each edge: when it is raised and when it is cleared.",
	},
	{
		Type: RadiationTamper{}.Type(), Zero: RadiationTamper{}, Classes: urgent,
		Summary: "The portal's tamper contact.",
		When:    "On each edge.",
	},
	{
		Type: RadiationSetupChanged{}.Type(), Zero: RadiationSetupChanged{}, Classes: urgent,
		Summary: "The portal reported settings that differ from what was known.",
		When:    "At the first report of settings since the agent started, and at each later report that differs.",
	},
	{
		Type: RadiationDiagnostic{}.Type(), Zero: RadiationDiagnostic{}, Classes: Classes[:],
		Subject: "the occupancy id, if it is about one",
		Summary: "Something about a portal that a person should look at, neither alarm nor fault.",
		When:    "When it is noticed.",
	},
	{
		Type: RadiationIdentification{}.Type(), Zero: RadiationIdentification{}, Classes: Classes[:], Subject: "the identification id",
		Summary: "What an instrument that identifies nuclides has found.",
		When: "For each document with an alarm or the result of an analysis; of a stream of results that nothing was identified, once " +
			"per interval of the settings. It is routine when its outcome is " +
			"`nothing_identified` and it has no alarm, and urgent otherwise.",
	},
	{
		Type: RadiationSpectrum{}.Type(), Zero: RadiationSpectrum{}, Classes: Classes[:],
		Summary: "What an instrument with spectra has measured, without an alarm and without a result of an analysis.",
		When: "For each document of an occupied portal and each that came as a file or by HTTP; of others once per interval of " +
			"the settings, and at once when the instrument's faults change, which is urgent.",
	},
	{
		Type: RadiationRate{}.Type(), Zero: RadiationRate{}, Classes: routine,
		Summary: "What an area monitor or a hand-held radiation instrument measured over an interval.",
		When: "Once per interval of its settings while the link is open, also if nothing was measured, and for the first time as soon " +
			"as there is something to tell.",
	},
	{
		Type: RadiationRateAlarm{}.Type(), Zero: RadiationRateAlarm{}, Classes: urgent, Subject: "the alarm id",
		Summary: "An area monitor or a hand-held radiation instrument alarms, or is overloaded.",
		When:    "At the onset of each alarm, and when the instrument tells that it is over.",
	},
	{
		Type: RadiationEnvironment{}.Type(), Zero: RadiationEnvironment{}, Classes: routine,
		Summary: "Temperatures, humidity, pressure and power of a portal's detectors and pillars over an interval.",
		When: "Once per interval of its settings while the link is open, also if nothing was told, and for the first time as soon " +
			"as the boards begin their second round.",
	},
	{
		Type: PlateRead{}.Type(), Zero: PlateRead{}, Classes: routine, Subject: "the read id",
		Summary: "A number plate was read.",
		When: "When the reader tells it. Some readers tell more than once of one read, and change their mind about it: each " +
			"time is an event of its own, with the same read id.",
	},
	{
		Type: PlateNoRead{}.Type(), Zero: PlateNoRead{}, Classes: routine, Subject: "the read id",
		Summary: "A number-plate reader looked at a vehicle and read no plate.",
		When:    "When the reader tells it. Readers that keep silent about it can't be told from an empty lane.",
	},
	{
		Type: XrayScan{}.Type(), Zero: XrayScan{}, Classes: Classes[:], Subject: "the scanner's id of the scan",
		Summary: "An X-ray scan of a vehicle, with its pictures and what came of it.",
		When: "When all files of the scan are there, or the time for them is over, and again at each change. It is urgent if the " +
			"scan is an inspection in which something was found, and routine otherwise.",
	},
	{
		Type: XrayJoin{}.Type(), Zero: XrayJoin{}, Classes: Classes[:], Subject: "the scanner's id of the scan, or the cycle id if no files came",
		Summary: "Which files belong to which scan of an X-ray scanner that has a state bus; or that a scan was made of which no files came, or the other way round.",
		When: "When both are there, or the time for that is over, and again when what was missing comes. It is urgent for an inspection without " +
			"files, and routine otherwise.",
	},
	{
		Type: LaneWeight{}.Type(), Zero: LaneWeight{}, Classes: routine, Subject: "the weighing id",
		Summary: "One vehicle was weighed.",
		When:    "When it has left the scale, or stands on it for longer than a weighing takes.",
	},
	{
		Type: LaneTag{}.Type(), Zero: LaneTag{}, Classes: routine, Subject: "the passage id",
		Summary: "An RFID tag passed a reader.",
		When:    "When it is gone, or stays for too long, or the link breaks.",
	},
	{
		Type: LaneSignal{}.Type(), Zero: LaneSignal{}, Classes: Classes[:],
		Summary: "A signal of a state bus: of a scanner's PLC, a loop, a barrier, a light.",
		When: "When the bus is connected, at each edge of what is on or off, and for numbers when they have changed enough. It is " +
			"urgent if it concerns safety, or if something is lost, and routine otherwise.",
	},
	{
		Type: XrayCycle{}.Type(), Zero: XrayCycle{}, Classes: Classes[:], Subject: "the cycle id",
		Summary: "The beginning or the end of a scan, from the scanner's state bus.",
		When:    "Once at each of the two. It is urgent if the scan was cut short or its end was not seen, and routine otherwise.",
	},
	{
		Type: LaneDocument{}.Type(), Zero: LaneDocument{}, Classes: routine, Subject: "the reading id",
		Summary: "A travel document was read.",
		When:    "When its machine-readable zone was read, on devices that are allowed to read personal data.",
	},
	{
		Type: DeviceOnline{}.Type(), Zero: DeviceOnline{}, Classes: urgent,
		Summary: "A device speaks.",
		When:    "At its first well-formed record since the agent started, or since it was silent, offline or in fault.",
	},
	{
		Type: DeviceSilent{}.Type(), Zero: DeviceSilent{}, Classes: urgent,
		Summary: "The link to a device is open and nothing well-formed comes. What passes now is unobserved, not clear.",
		When:    "Once, when the silence limit has passed.",
	},
	{
		Type: DeviceOffline{}.Type(), Zero: DeviceOffline{}, Classes: urgent,
		Summary: "The link to a device can't be opened, or broke, or the agent could not read it for its disk. What passes now is unobserved, not clear.",
		When:    "Once, when it is noticed; the agent goes on trying.",
	},
	{
		Type: DeviceFault{}.Type(), Zero: DeviceFault{}, Classes: urgent,
		Summary: "The agent's own driver for a device failed and is started anew.",
		When:    "Each time that it fails.",
	},
	{
		Type: DeviceUnparsed{}.Type(), Zero: DeviceUnparsed{}, Classes: routine,
		Summary: "Samples of what a device sent and no decoder understood.",
		When:    "When there is something to tell, rate-limited; it counts what came since the last one.",
	},
	{
		Type: DeviceRefused{}.Type(), Zero: DeviceRefused{}, Classes: urgent,
		Summary: "Somebody else sent to the address of a device: a camera with another lane's path, or something unknown.",
		When:    "When it is noticed, once a minute at the most; it counts what came since the last one.",
	},
	{
		Type: DeviceAttachment{}.Type(), Zero: DeviceAttachment{}, Classes: routine,
		Summary: "What became of the content of an event's attachment: delivered in full, or lost.",
		When:    "For each attachment and uplink once it is decided; after a crash perhaps once more.",
	},
	{
		Type: AgentStarted{}.Type(), Zero: AgentStarted{}, Classes: urgent,
		Summary: "The agent started. Since last_alive its lanes were unobserved.",
		When:    "First of all events after each start.",
	},
	{
		Type: AgentStopped{}.Type(), Zero: AgentStopped{}, Classes: urgent,
		Summary: "The agent stops in an orderly way. Its lanes are unobserved until it starts again.",
		When:    "Last of all events before an orderly stop; not after a crash or a power cut.",
	},
	{
		Type: AgentConfigChanged{}.Type(), Zero: AgentConfigChanged{}, Classes: urgent,
		Summary: "The configuration was read again, and either took effect or was refused.",
		When:    "At each reload.",
	},
	{
		Type: AgentClockChanged{}.Type(), Zero: AgentClockChanged{}, Classes: urgent,
		Summary: "The wall clock was stepped; times before and after it can't be compared.",
		When:    "When the step is noticed.",
	},
	{
		Type: AgentLoss{}.Type(), Zero: AgentLoss{}, Classes: urgent,
		Summary: "Events that were once recorded can't be delivered. It explains the gap in the sequence.",
		When:    "When the loss is noticed, once for each range.",
	},
	{
		Type: AgentCheckpoint{}.Type(), Zero: AgentCheckpoint{}, Classes: urgent, Retained: true,
		Summary: "A signed statement of how far the agent's hash chains have come.",
		When: "At short intervals while events are recorded, and before an orderly stop. It is in the chain like any event, and " +
			"the broker keeps the latest.",
	},
	{
		Type: AgentKey{}.Type(), Zero: AgentKey{}, Classes: urgent,
		Summary: "The key with which the agent signs from now on, endorsed by the one before it.",
		When:    "At the first start, and when the key was changed or is lost.",
	},
	{
		Type: AgentRequest{}.Type(), Zero: AgentRequest{}, Classes: routine,
		Summary: "A central system asked the agent for something.",
		When:    "When the request is answered or refused; not for one above the rate limit, and once for one that came twice.",
	},
	{
		Type: AgentSkipped{}.Type(), Zero: AgentSkipped{}, Unsequenced: true,
		Summary: "Events that the uplink's filter keeps back from this receiver, with their digests, so that the hash chain can be " +
			"followed over them.",
		When: "Before the next event of the class that passes the filter, and at the latest after 1000 events or a minute. " +
			"Not on an uplink without a filter.",
	},
	{
		Type: AgentState{}.Type(), Zero: AgentState{}, Unsequenced: true, Retained: true,
		Summary: "The state of an agent: birth, heartbeat and last will.",
		When: "At each connection to the broker, at short intervals as a heartbeat, and at each change. The broker " +
			"publishes the offline form when the agent vanishes.",
	},
	{
		Type: DeviceState{}.Type(), Zero: DeviceState{}, Unsequenced: true, Retained: true,
		Summary: "The state of a device now.",
		When:    "At each connection to the broker and at each change.",
	},
}
