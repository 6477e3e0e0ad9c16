package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/lanepost/lanepost/agent/blobs"
	"github.com/lanepost/lanepost/agent/supervise"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// openBlobs opens the store of attachments, which stands in the spool directory.
func (a *Agent) openBlobs() (*blobs.Store, error) {
	o := blobs.Options{
		Consumers: consumers(a.cfg), MaxBytes: a.cfg.Spool.Attachments.MaxBytes,
		Delivered: a.spool.Delivered,
		Head: func(class event.Class) uint64 {
			seq, _ := a.spool.Head(class)
			return seq
		},
		Source: event.Source(a.site, event.AgentLane, a.id.kept.Agent),
		Log:    a.log.With("part", "attachments"),
	}
	return blobs.Open(filepath.Join(a.cfg.Spool.Dir, "blobs"), o)
}

// keepAttachments brings what an event names to disk before the event. kept says
// that there is something to be referred to. While the disk refuses, it waits,
// and so does the instrument.
func (a *Agent) keepAttachments(h event.Header, class event.Class, topic string, list []drivers.Attachment) (kept bool, err error) {
	if len(list) == 0 {
		return false, nil
	}
	var withheld []string
	for _, m := range a.config().MQTT {
		only := filter(m)
		if m.Redact || !only.Passes(topic, class) {
			withheld = append(withheld, m.Name)
		}
	}
	var refs []blobs.Reference
	for _, one := range list {
		err := a.untilTaken(h.Source, "an attachment", func() error {
			stored, err := a.putAttachment(one)
			if errors.Is(err, blobs.ErrTooLarge) || errors.Is(err, blobs.ErrEmpty) {
				// The event goes without it, and says by its hash what is missing.
				a.log.Error("an attachment can't be kept", "source", h.Source, "event", h.ID, "bytes", len(one.Content), "err", err)
				return nil
			}
			if err != nil {
				return err
			}
			if stored.SHA256 != one.SHA256 || stored.Size != one.Size {
				a.blobs.Release(stored)
				a.log.Error("an attachment is not what its event says", "source", h.Source, "event", h.ID, "says", one.SHA256, "is", stored.SHA256)
				return nil
			}
			refs = append(refs, blobs.Reference{EventID: h.ID, Class: class, Source: h.Source, Attachment: one.Attachment, Withheld: withheld})
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	if len(refs) == 0 {
		return false, nil
	}
	err = a.untilTaken(h.Source, "an attachment", func() error { return a.blobs.Announce(refs...) })
	if err != nil {
		return false, fmt.Errorf("%w: %w", supervise.ErrUnrecordable, err)
	}
	return true, nil
}

// putAttachment brings the content of one attachment into the store.
func (a *Agent) putAttachment(one drivers.Attachment) (event.Attachment, error) {
	if one.Open == nil {
		return a.blobs.Put(a.life, bytes.NewReader(one.Content), int64(len(one.Content)))
	}
	r, err := one.Open()
	if err != nil {
		// It was there when the driver looked. The event says by its hash what is missing.
		return event.Attachment{}, fmt.Errorf("%w: %w", blobs.ErrEmpty, err)
	}
	defer func() { _ = r.Close() }() // it was only read
	// A folder that goes away in the middle is no fault of the disk.
	content := &reading{Reader: r}
	stored, err := a.blobs.Put(a.life, content, one.Size)
	if err != nil && content.err != nil {
		return stored, fmt.Errorf("%w: %w", blobs.ErrEmpty, content.err)
	}
	return stored, err
}

// reading notes that reading failed.
type reading struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// idleSource hands the contents of attachments to an uplink.
func (a *Agent) idleSource(uplinkName string) *uplink.Idle {
	sender := a.blobs.Sender(uplinkName)
	if sender == nil {
		return nil // of an uplink that is new since the start
	}
	return &uplink.Idle{
		Next: func() (uplink.Message, any, bool) {
			topic, payload, token, ok := sender.Next()
			return uplink.Message{Topic: topic, Payload: payload}, token, ok
		},
		Confirmed: sender.Confirmed,
		Refused:   sender.Refused,
		Rewind:    sender.Rewind,
		Changed:   sender.Changed,
	}
}

// recordOutcomes puts into the stream what became of attachments.
func (a *Agent) recordOutcomes() {
	for {
		list := a.blobs.Outcomes()
		if len(list) == 0 {
			return
		}
		for _, o := range list {
			if err := a.record(o.Source, drivers.Observation{Data: o.Data()}); err != nil {
				// The next start tells it again.
				a.log.Error("event not recorded", "type", o.Data().Type(), "err", err)
				continue
			}
			a.blobs.OutcomeRecorded(o)
		}
	}
}
