package xray

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	// Supersedes is of what is being told only.
	Supersedes string `json:"s,omitempty"`
	// Decision is what was told last.
	Decision string `json:"d,omitempty"`
	// Path is where the sidecar of a folder was, and Earlier the hashes of what was told before:
	// a copy of an old one in another place, or an old message that comes again, is no news.
	Path    string   `json:"p"`
	Earlier []string `json:"o,omitempty"`
}

// maxEarlier bounds how many earlier forms of a sidecar or a message are known.
const maxEarlier = 32

// earlier are the hashes of all that was told, for the revision that follows with the hash
// next.
func (t told) earlier(next string) []string {
	if t.SHA256 == "" || t.SHA256 == next || slices.Contains(t.Earlier, t.SHA256) {
		return t.Earlier
	}
	list := append(slices.Clone(t.Earlier), t.SHA256)
	return list[max(0, len(list)-maxEarlier):]
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
//
// If something else comes first after such a crash, what was intended may have been told. It
// counts as if it was: a revision is never there twice, and what comes then supersedes it. So
// a revision may supersede an event that never came, and its number is one too high.
//
// What says nothing of the decision takes no alarm back: the alarm stays, with a remark.
func publish(h drivers.Host, scan string, e event.XrayScan, before, next told, list []drivers.Attachment) error {
	var intended told
	text := h.Ledger().Get("next:" + scan)
	unfinished := text != "" && json.Unmarshal([]byte(text), &intended) == nil && intended.Event != "" && intended.Revision > before.Revision
	same := unfinished && intended.SHA256 == next.SHA256 && intended.Missing == next.Missing
	alarm := before.Decision == event.DecisionSuspicious || unfinished && intended.Decision == event.DecisionSuspicious
	e.Supersedes = before.Event
	switch {
	case same:
		next.Revision, next.Event = intended.Revision, intended.Event
		e.Supersedes = cmp.Or(intended.Supersedes, before.Event)
	case unfinished:
		next.Revision, e.Supersedes = intended.Revision+1, intended.Event
	}
	e.Revision, next.Supersedes = next.Revision, e.Supersedes
	if alarm && e.Decision == event.DecisionPending {
		e.Decision = event.DecisionSuspicious
		e.Remarks = append(slices.Clip(e.Remarks), "alarm_of_earlier_revision")
	}
	next.Decision = e.Decision
	if next.Event == "" {
		if err := intend(h, scan, &next); err != nil {
			return err
		}
	}
	o := observation(e, list)
	o.ID = next.Event
	if err := h.Emit(o); err != nil {
		return err
	}
	next.Supersedes = ""
	done, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := h.Ledger().Put("scan:"+scan, string(done)); err != nil {
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

// intend gives an event that is about to be told its id, and writes that down.
func intend(h drivers.Host, scan string, next *told) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an event id: %w", err)
	}
	next.Event = id.String()
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := h.Ledger().Put("next:"+scan, string(text)); err != nil {
		return fmt.Errorf("%w: %w", errNotIntended, err)
	}
	return nil
}
