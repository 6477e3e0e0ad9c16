// Package drivers turns instruments into events. This file is the page to read
// before writing a driver.
//
// A driver is small. It gets an open link and a host, reads until the link
// fails, and returns why. It does not connect, reconnect, back off, watch for
// silence, log for the agent, or know of MQTT: the agent does that, once, for
// all drivers (agent/supervise).
//
// To add one: a protocol package, one file in drivers/<class>/, one line in
// drivers/registry, one profile in firmware-profiles/, one simulated device.
// CONTRIBUTING.md walks through it.
package drivers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// Driver describes one kind of instrument to the agent.
type Driver struct {
	// Name is what profiles call it, for instance "tsa-portal".
	Name string
	// Summary is one line for a person.
	Summary string
	// Schemes are the link schemes that it can be reached by, for instance
	// "tcp" and "serial".
	Schemes []string
	// Lines says that what the instrument sends is lines of text, each a record, so
	// that they can be kept in daily files.
	Lines bool
	// Silence is how long a healthy instrument stays quiet at the most. A
	// profile or a device may set another limit.
	Silence time.Duration
	// New makes an instrument from its settings. decode fills a settings struct
	// (yaml tags) strictly: first from the profile, then from the device's own
	// settings. New starts from its defaults, calls decode once, checks what
	// came, and does nothing else; an error names the setting and the mend.
	New func(decode func(settings any) error) (Instrument, error)
}

// Instrument is one configured device. The agent calls Run again after each
// reconnection, never twice at a time; state that must outlive a connection
// (the slow baseline, the last occupancy number) lives in the Instrument.
type Instrument interface {
	// Run reads from conn until it fails or ctx ends, and returns the reason,
	// never nil. Before it returns it emits what it still holds, an unfinished
	// occupancy for instance. It does not close conn.
	//
	// On the end of ctx the agent sets a read deadline in the past, so that a
	// blocked read returns.
	Run(ctx context.Context, conn link.Conn, host Host) error
}

// Observation is what a driver has to say.
type Observation struct {
	// Data is the payload, one of package event's types.
	Data event.Data
	// Time is when it happened, by Host.Now.
	Time time.Time
	// DeviceTime is the instrument's own time, zero if it tells none.
	DeviceTime time.Time
	// Subject is the id of what the event is about, if it has one.
	Subject string
	// ID is the id of the event (UUIDv7), for a driver that has put it into its ledger
	// before; empty for a new one.
	ID string
	// Attachments are the contents that Data names (event.NewAttachment). They are
	// on disk before the event is.
	Attachments []Attachment
}

// Attachment is content that belongs to an observation: a picture, a spectrum
// file.
type Attachment struct {
	event.Attachment
	// Content has the size and the hash that the Attachment says. It must not
	// change any more.
	Content []byte
	// Open, if set, gives the content in place of Content, for what is too large to be
	// held. What it gives is checked against the Attachment.
	Open func() (io.ReadCloser, error)
}

// Bounds of a ledger: how many keys it holds, and the length of a key or a value in bytes.
const (
	MaxLedgerKeys = 500_000
	MaxLedgerText = 16 << 10
)

// Ledger is what a driver must still know after the agent was started anew: which files
// it has read, for instance. It is small and lasts as long as the device is configured.
// It is safe for concurrent use.
type Ledger interface {
	// Get gives the value of a key, empty for none.
	Get(key string) string
	// Put is durable when it returns nil. An empty value takes the key out. It fails
	// when the disk refuses, the ledger is full, or a text is too long.
	Put(key, value string) error
	// Each calls f for every key with a prefix, in no order, until f returns false.
	Each(prefix string, f func(key, value string) bool)
}

// ErrUnrecordable marks an error of Host.Emit that lies in the observation itself: it is
// lost, and waiting would not help.
var ErrUnrecordable = errors.New("the observation can't be recorded and is lost")

// Host is what the agent lends a running driver. It is safe for use by the
// goroutine that called Run and those that Run started.
type Host interface {
	// Now is the clock to stamp with. Its times carry a monotonic reading, so
	// subtract them for durations. It stands still once a session ends because
	// Emit waited too long: what the driver still has in hand came before.
	Now() time.Time
	// Emit makes an observation durable: it returns nil only when the event is
	// on disk. It waits as long as the disk is full, and fails only when the
	// agent stops, or with ErrUnrecordable; the driver then returns the error.
	// After a long wait nothing more can be read, and ctx has ended.
	// One that has more to tell may tell of an ErrUnrecordable by Unparsed
	// instead, and go on.
	Emit(o Observation) error
	// Valid reports one well-formed record. Health rests on it: a device is
	// online while valid records come, not while a socket is open.
	Valid()
	// Unparsed reports bytes that could not be understood, with the reason. The
	// agent counts them and keeps samples; the driver goes on.
	Unparsed(reason string, raw []byte)
	// Ledger is the device's own.
	Ledger() Ledger
	// Log is for what a developer wants to know; a healthy device logs nothing.
	Log() *slog.Logger
}
