package xray

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// told is what the ledger has of a scan.
type told struct {
	Revision int    `json:"r"`
	Event    string `json:"e"`
	SHA256   string `json:"h"`
	Missing  int    `json:"m,omitempty"`
	At       int64  `json:"t"` // in seconds since 1970
	// Path is where the sidecar of a folder was, and Earlier the hashes of those before it: a copy
	// of an old one in another place is no news.
	Path    string   `json:"p"`
	Earlier []string `json:"o,omitempty"`
}

// toldBefore gives what was told of a scan last.
func toldBefore(h drivers.Host, scan string) (t told, known bool) {
	text := h.Ledger().Get("scan:" + scan)
	return t, text != "" && json.Unmarshal([]byte(text), &t) == nil
}

// publish makes the next revision of a scan durable.
//
// Under "scan:" the ledger has what was told of a scan last, and under "next:" what is just
// being told: that is written before the event, with the event's id, so that a crash between
// the event and the ledger makes the same event again and not another one.
func publish(h drivers.Host, scan string, e event.XrayScan, before, next told, list []drivers.Attachment) error {
	e.Revision, e.Supersedes = next.Revision, before.Event
	var err error
	if next.Event, err = intend(h, scan, next); err != nil {
		return err
	}
	o := observation(e, list)
	o.ID = next.Event
	if err := h.Emit(o); err != nil {
		return err
	}
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := h.Ledger().Put("scan:"+scan, string(text)); err != nil {
		return err
	}
	return h.Ledger().Put("next:"+scan, "")
}

// observation is the event of a scan with its time: the scanner's, if it tells one.
func observation(e event.XrayScan, list []drivers.Attachment) drivers.Observation {
	o := drivers.Observation{Data: e, Time: e.ReceivedTS.Time, Subject: e.ScanID, Attachments: list}
	if e.StartedTS != nil {
		o.DeviceTime = e.StartedTS.Time
		if o.DeviceTime.Before(o.Time) { // a clock that is ahead can't have seen the future
			o.Time = o.DeviceTime
		}
	}
	return o
}

// errNotIntended: the ledger did not take what is to be told, and nothing was told.
var errNotIntended = errors.New("the ledger takes nothing")

// intend gives the id of an event that is about to be told: the one that was intended
// before a crash, if it was for the same.
func intend(h drivers.Host, scan string, next told) (string, error) {
	var intended told
	if text := h.Ledger().Get("next:" + scan); text != "" && json.Unmarshal([]byte(text), &intended) == nil &&
		intended.Revision == next.Revision && intended.SHA256 == next.SHA256 && intended.Missing == next.Missing && intended.Event != "" {
		return intended.Event, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an event id: %w", err)
	}
	next.Event = id.String()
	text, err := json.Marshal(next)
	if err != nil {
		return "", fmt.Errorf("write the ledger: %w", err)
	}
	if err := h.Ledger().Put("next:"+scan, string(text)); err != nil {
		return "", fmt.Errorf("%w: %w", errNotIntended, err)
	}
	return next.Event, nil
}
