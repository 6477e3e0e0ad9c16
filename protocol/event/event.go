// Package event is the outbound contract of lanepost: what a central system
// receives. It holds the CloudEvents envelope, the topic layout, and one Go
// type for each kind of event, from which the JSON Schemas and docs/events.md
// are generated.
//
// The package is pure: it encodes and decodes; it does no I/O and reads no
// clock. Within version 1 the contract only grows: a field that is added later
// is always optional (omitempty), and no name changes its meaning.
package event

//go:generate go run ./gen

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Class tells how urgently an event must travel. Each class is its own log in
// the spool with its own gap-free sequence; urgent events are sent first.
type Class string

// The two classes.
const (
	// Urgent: alarms, faults, losses and changes of state; sent first.
	Urgent Class = "urgent"
	// Routine: all else.
	Routine Class = "routine"
)

// Classes lists every class, most urgent first.
var Classes = [...]Class{Urgent, Routine}

// Data is the payload of an event. Its JSON form is the CloudEvents "data".
type Data interface {
	// Type is the CloudEvents type with its version, for example
	// "lanepost.radiation.occupancy.v1".
	Type() string
	// Class may depend on the content: an occupancy with an alarm is urgent.
	Class() Class
}

// SpecVersion is the CloudEvents version of every envelope.
const SpecVersion = "1.0"

// ContentType is the MQTT and HTTP content type of an encoded event.
const ContentType = "application/cloudevents+json; charset=utf-8"

// DataContentType is the content type of the data within an event.
const DataContentType = "application/json"

// AgentLane stands in the lane position of sources and topics for events of
// the agent itself. No lane may bear this id.
const AgentLane = "agent"

// Event is one CloudEvents 1.0 event in structured JSON. The attributes after
// Data's schema are CloudEvents extensions.
//
// An event is encoded exactly once, when it enters the spool; the encoded bytes
// are what is fsynced, published and hashed. It is never changed afterwards:
// a correction is a new event that names the old one in Supersedes.
type Event struct {
	// SpecVersion is always "1.0".
	SpecVersion string `json:"specversion"`
	// ID is a UUID, of version 7 unless it is a state. It stays the same over every
	// delivery attempt, so a subscriber can drop a duplicate by it.
	ID string `json:"id"`
	// Source is "/{site}/{lane}/{device}", or "/{site}/agent/{agent}".
	Source string `json:"source"`
	// Type names the kind of event and its version.
	Type string `json:"type"`
	// Subject is the id of the thing that the event is about, for instance the
	// occupancy id, where there is one.
	Subject string `json:"subject,omitempty"`
	// Time is when it happened, by the agent's wall clock, in UTC.
	Time Time `json:"time"`
	// DataContentType is always "application/json".
	DataContentType string `json:"datacontenttype"`
	// DataSchema is the URI of the JSON Schema of Data.
	DataSchema string `json:"dataschema"`

	// Agent is the id of the agent that recorded the event. Sequence is counted
	// per agent and class.
	Agent string `json:"agent"`
	// Priority is the event's class: "urgent" or "routine". A state has none.
	Priority Class `json:"priority,omitempty"`
	// Sequence counts the events of one agent and class without a gap, from 1,
	// zero-padded to 20 digits so that it sorts as text. A state has none.
	Sequence string `json:"sequence,omitempty" jsonschema:"pattern=^[0-9]{20}$"`
	// PrevHash is the value of the class's hash chain before this event, 64
	// zeros at a chain's beginning; see docs/evidence.md. A state has none.
	PrevHash string `json:"prevhash,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// RecordedTime is when the agent recorded the event, by its wall clock.
	RecordedTime Time `json:"recordedtime"`
	// DeviceTime is the instrument's own time of the event, where it tells one.
	// It is never corrected.
	DeviceTime *Time `json:"devicetime,omitempty"`
	// ClockSync tells whether the agent's clock was synchronised: "yes", "no",
	// or "unknown" where the system does not say.
	ClockSync string `json:"clocksync" jsonschema:"enum=yes,enum=no,enum=unknown"`
	// ClockMaxErrorMs is the system's bound on the clock error in milliseconds;
	// absent when unknown.
	ClockMaxErrorMs *int64 `json:"clockmaxerrorms,omitempty"`
	// CorrelationID joins the events of one vehicle passage.
	CorrelationID string `json:"correlationid,omitempty"`
	// Supersedes is the id of an earlier event that this one corrects.
	Supersedes string `json:"supersedes,omitempty"`

	// Data is the payload, an object whose fields depend on Type.
	Data json.RawMessage `json:"data"`
}

// Time is a wall-clock time written as RFC 3339 in UTC with exactly three
// decimals, so that times compare as text.
type Time struct{ time.Time }

// TimeLayout is how every time of the outbound contract is written.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// At makes a Time of t.
func At(t time.Time) Time { return Time{t} }

// MarshalJSON writes the time in TimeLayout. It fails for a year that has not
// four digits.
func (t Time) MarshalJSON() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return t.appendJSON(make([]byte, 0, len(TimeLayout)+2)), nil
}

func (t Time) appendJSON(b []byte) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, TimeLayout)
	return append(b, '"')
}

func (t Time) check() error {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return fmt.Errorf("event time: year %d can't be written in RFC 3339", y)
	}
	return nil
}

// UnmarshalJSON reads any RFC 3339 time.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("event time %s: want a quoted RFC 3339 time", b)
	}
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("event time: %w", err)
	}
	read := At(v.UTC())
	if err := read.check(); err != nil {
		return err
	}
	*t = read
	return nil
}

// FormatSequence writes a sequence number as it stands in an event.
func FormatSequence(n uint64) string { return fmt.Sprintf("%020d", n) }

// ParseSequence reads what FormatSequence wrote.
func ParseSequence(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) != 20 {
		return 0, fmt.Errorf("event sequence %q: want 20 digits", s)
	}
	return n, nil
}

// Source makes the source of an event from a device.
func Source(site, lane, device string) string {
	return "/" + site + "/" + lane + "/" + device
}

// SchemaURI is the dataschema of an event type.
func SchemaURI(typ string) string {
	return "https://lanepost.github.io/schemas/" + typ + ".json"
}

// TopicRoot begins every topic of this version of the contract.
const TopicRoot = "lanepost/v1"

// Topic is where an event of the given source and type is published:
// "lanepost/v1/{site}/{lane}/{device}/{type without version}".
func Topic(source, typ string) string { return TopicRoot + source + "/" + TypeName(typ) }

// TypeName is a type without its version: the last level of a topic.
func TypeName(typ string) string {
	if i := strings.LastIndex(typ, ".v"); i > 0 {
		return typ[:i]
	}
	return typ
}
