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

// maxArrived bounds the scans that are not looked at yet. It is full only if the loop of the
// agent waits for the disk, and then nothing more is recorded.
const maxArrived = 10_000

// joins tells which files of an X-ray scanner belong to which scan that the state bus of
// the lane has told.
//
// A scan is noted after its event is on disk. A crash between the two leaves the event as
// it is and the scan unjoined; the other order could name an event that nobody ever gets.
type joins struct {
	a      *Agent
	book   *ledger.Ledger // nil if it can't be opened
	scans  *passage.Scans // of the agent's loop
	due    chan struct{}
	broken string // why nothing is joined

	// mu guards what drivers bring. None of them waits for what is done with it.
	mu      sync.Mutex
	arrived []arrival
	drill   map[string]bool // by cycle id, what it was at its start
}

// arrival is a scan whose event is on disk.
type arrival struct {
	lane  string
	half  passage.Half
	cycle bool // or files
}

// openJoins reads what waits. Without a ledger nothing is joined, and the agent's state says
// so: that must not keep the events themselves from being recorded.
func openJoins(a *Agent) *joins {
	j := &joins{a: a, due: make(chan struct{}, 1), drill: map[string]bool{}}
	// No lane begins with a dot, so this is not the ledger of a device.
	book, err := ledger.Open(filepath.Join(a.ledgerDir, ".joins.jsonl"))
	if err != nil {
		j.broken = "X-ray scans and their files are not joined, and files that do not come are not told: " + err.Error()
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
	if j.book == nil {
		return
	}
	x := arrival{lane: laneOf(h.Source), half: passage.Half{Event: h.ID, Source: h.Source, Seen: h.RecordedTime.Time}}
	switch d := data.(type) {
	case event.XrayCycle:
		drill := slices.Contains(drills, d.Mode)
		if d.EndedTS == nil { // it has only begun
			j.mu.Lock()
			if len(j.drill) < maxArrived {
				j.drill[d.CycleID] = drill
			}
			j.mu.Unlock()
			return
		}
		x.cycle = true
		x.half.ID, x.half.Started, x.half.Ended = d.CycleID, d.StartedTS.Time, d.EndedTS.Time
		x.half.Unobserved, x.half.BeganBefore = d.Unobserved, slices.Contains(d.Flags, "began_before")
		// A scanner that is switched to maintenance when the vehicle has passed has inspected it.
		x.half.Inspection = !drill
	case event.XrayScan:
		x.half.ID, x.half.Inspection, x.half.Replayed = d.ScanID, d.Mode == event.ScanOperational, d.Replayed
		if d.StartedTS != nil {
			x.half.Started = d.StartedTS.Time
		}
		if d.EndedTS != nil {
			x.half.Ended = d.EndedTS.Time
		}
	default:
		return
	}
	j.mu.Lock()
	if drill, known := j.drill[x.half.ID]; x.cycle && known {
		x.half.Inspection = x.half.Inspection || !drill
		delete(j.drill, x.half.ID)
	}
	full := len(j.arrived) >= maxArrived
	if !full {
		j.arrived = append(j.arrived, x)
	}
	j.mu.Unlock()
	if full {
		j.a.log.Error("an X-ray scan will not be joined: too many wait", "source", h.Source, "id", x.half.ID)
	}
	select {
	case j.due <- struct{}{}:
	default:
	}
}

// note takes up what has arrived.
func (j *joins) note() {
	j.mu.Lock()
	list := j.arrived
	j.arrived = nil
	j.mu.Unlock()
	for _, x := range list {
		take := j.scans.Files
		if x.cycle {
			take = j.scans.Cycle
		}
		if err := take(x.lane, x.half); err != nil {
			j.a.log.Error("an X-ray scan can't be noted, and will not be known after a restart", "source", x.half.Source, "id", x.half.ID, "err", err)
		}
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
	j.note()
	cfg := j.a.config()
	fitted := func(lane string) (f passage.Fitted) {
		f.FilesWithin, f.StateBus = cfg.Scans(lane)
		return f
	}
	newID := func() (string, error) {
		id, err := uuid.NewV7()
		return id.String(), err
	}
	list, err := j.scans.Due(now, fitted, newID)
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
			err = j.scans.Told(x)
		}
		if err != nil {
			// The ledger still has it, for the next start.
			j.a.log.Error("what belongs to an X-ray scan is not told yet", "source", x.Source, "id", subject, "err", err)
		}
	}
}

// close notes what has come last and closes the ledger.
func (j *joins) close() error {
	if j.book == nil {
		return nil
	}
	j.note()
	if err := j.book.Close(); err != nil {
		return fmt.Errorf("close the ledger of X-ray scans: %w", err)
	}
	return nil
}
