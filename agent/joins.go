package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/agent/ledger"
	"github.com/lanepost/lanepost/agent/passage"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// joins tells which files of an X-ray scanner belong to which scan that the state bus of
// the lane has told.
//
// A scan is noted after its event is on disk. A crash between the two leaves the event as
// it is and the scan unjoined; the other order could name an event that nobody ever gets.
type joins struct {
	a    *Agent
	book *ledger.Ledger // nil if it can't be opened
	due  chan struct{}

	mu    sync.Mutex
	scans *passage.Scans
}

// openJoins reads what waits. Without a ledger nothing is joined, and the log says so: that
// must not keep the events themselves from being recorded.
func openJoins(a *Agent) *joins {
	j := &joins{a: a, due: make(chan struct{}, 1)}
	// No lane begins with a dot, so this is not the ledger of a device.
	book, err := ledger.Open(filepath.Join(a.ledgerDir, ".joins.jsonl"))
	if err != nil {
		a.log.Error("X-ray scans and their files are not joined", "err", err, "hint", "mend the directory of the spool and start the agent anew")
		return j
	}
	scans, left := passage.Open(book)
	if left += book.Left; left > 0 {
		a.log.Warn("a part of what is known of X-ray scans could not be read and is left out", "entries", left)
	}
	j.book, j.scans = book, scans
	return j
}

// drills are the modes of a scanner in which nobody is inspected. What another word means,
// or none, is not known, and counts as an inspection.
var drills = []string{event.ScanTraining, event.ScanReference, event.ScanTest, event.ScanNonOperational, "calibration", "maintenance"}

// recorded takes an event that is on disk.
func (j *joins) recorded(h event.Header, data event.Data) {
	half := passage.Half{Event: h.ID, Source: h.Source, Seen: h.RecordedTime.Time}
	if j.book == nil {
		return
	}
	var note func(lane string, h passage.Half) error
	switch d := data.(type) {
	case event.XrayCycle:
		if d.EndedTS == nil {
			return // it has only begun
		}
		half.ID, half.Inspection = d.CycleID, !slices.Contains(drills, d.Mode)
		half.Started, half.Ended = d.StartedTS.Time, d.EndedTS.Time
		note = j.scans.Cycle
	case event.XrayScan:
		half.ID, half.Inspection, half.Replayed = d.ScanID, d.Mode == event.ScanOperational, d.Replayed
		if d.StartedTS != nil {
			half.Started = d.StartedTS.Time
		}
		if d.EndedTS != nil {
			half.Ended = d.EndedTS.Time
		}
		note = j.scans.Files
	}
	if note == nil {
		return
	}
	j.mu.Lock()
	err := note(laneOf(h.Source), half)
	j.mu.Unlock()
	if err != nil {
		j.a.log.Error("an X-ray scan can't be noted and will not be joined", "source", h.Source, "id", half.ID, "err", err)
	}
	select {
	case j.due <- struct{}{}:
	default:
	}
}

// laneOf takes the lane out of a source, /SITE/LANE/DEVICE.
func laneOf(source string) string {
	if parts := strings.Split(source, "/"); len(parts) == 4 {
		return parts[2]
	}
	return ""
}

// unsaid tells what was to be told when the agent stopped.
func (j *joins) unsaid() {
	if j.book != nil {
		j.say(j.scans.Unsaid())
	}
}

// tell tells what is due.
func (j *joins) tell(now time.Time) {
	if j.book == nil {
		return
	}
	cfg := j.a.config()
	fitted := func(lane string) (f passage.Fitted) {
		f.FilesWithin, f.StateBus = cfg.Scans(lane)
		return f
	}
	newID := func() (string, error) {
		id, err := uuid.NewV7()
		return id.String(), err
	}
	j.mu.Lock()
	list, err := j.scans.Due(now, fitted, newID)
	j.mu.Unlock()
	if err != nil {
		j.a.log.Error("X-ray scans can't be joined", "err", err)
	}
	j.say(list)
}

func (j *joins) say(list []passage.Join) {
	for _, x := range list {
		subject := x.Data.ScanID
		if subject == "" {
			subject = x.Data.CycleID
		}
		err := j.a.record(x.Source, drivers.Observation{ID: x.ID, Subject: subject, Data: x.Data})
		if err == nil {
			j.mu.Lock()
			err = j.scans.Told(x)
			j.mu.Unlock()
		}
		if err != nil {
			// The ledger still has it, for the next start.
			j.a.log.Error("what belongs to an X-ray scan is not told yet", "source", x.Source, "id", subject, "err", err)
		}
	}
}

func (j *joins) close() error {
	if j.book == nil {
		return nil
	}
	if err := j.book.Close(); err != nil {
		return fmt.Errorf("close the ledger of X-ray scans: %w", err)
	}
	return nil
}
