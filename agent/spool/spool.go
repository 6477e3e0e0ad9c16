// Package spool is the durable event log between the drivers and the uplinks.
//
// Every class of events (event.Urgent, event.Routine) is a log of its own:
// own directory, own segment files, own gap-free sequence from 1. Append
// returns when the record is on disk (fdatasync, one for all callers that wait
// at the same moment). A Reader hands the records out in order, and Ack moves
// a durable cursor; segments behind the cursor are deleted.
//
// The promises, in the order in which they matter:
//
//   - A record whose Append returned nil is handed out by Next until it is
//     acknowledged, over any number of crashes. Where the disk itself loses or
//     damages it, a Loss names the sequence numbers that are gone.
//   - A sequence number is never given to two records that anybody could have
//     seen. After damage the numbers go on above everything for which there is
//     evidence that it was handed out.
//   - Open never refuses to start because of what it finds in its files, and
//     what it costs does not grow with the backlog.
//   - A failed Append consumes no sequence number; when the disk works again,
//     so does Append.
//
// format.go describes the files.
package spool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// MaxRecord is the largest payload of one record, in bytes.
const MaxRecord = 1 << 20

// MaxTopic is the longest topic of one record, in bytes: what MQTT can carry.
const MaxTopic = 1<<16 - 1

// Errors that Append and the others wrap; ask with errors.Is.
var (
	// ErrFull says that the disk (or the quota) is full. Nothing was stored;
	// Append works again as soon as there is room.
	ErrFull = errors.New("the disk is full")
	// ErrTooLarge says that a payload or a topic is above MaxRecord or MaxTopic.
	ErrTooLarge = errors.New("the record is too large")
	// ErrClosed says that the spool is closed.
	ErrClosed = errors.New("the spool is closed")
	// ErrLocked says that another process has the spool open.
	ErrLocked = errors.New("the spool is in use by another process")
)

// Record is one stored event.
type Record struct {
	Class    event.Class
	Sequence uint64
	// Recorded is the time that was given to Append, in UTC. Times outside the
	// years 1678 to 2261 are stored as the nearest that fits.
	Recorded time.Time
	Topic    string
	// Payload is the caller's to keep.
	Payload []byte
}

// Options of Open. The zero value is good.
type Options struct {
	// SegmentBytes is the size of a segment file, 8 MiB if zero. It is allocated
	// when the segment is begun, so that a full disk shows then and not in the
	// middle of a record. Space is given back one segment at a time.
	SegmentBytes int64
	// MaxBatch is how many records share one fdatasync at the most, 512 if zero.
	MaxBatch int
	// Log gets what a person should know; nothing is logged if nil.
	Log *slog.Logger
	// FS is where the files are, the operating system's if nil. Tests put one
	// that fails here.
	FS FS
}

// Stats is a snapshot of the spool.
type Stats struct {
	Urgent, Routine ClassStats
}

// ClassStats is a snapshot of one class.
type ClassStats struct {
	// Head is the highest sequence number given, zero if none.
	Head uint64
	// Acked is the number up to which everything is delivered.
	Acked uint64
	// Backlog is Head - Acked: the records that wait, including lost ones that
	// the Reader has not come to yet.
	Backlog uint64
	// Bytes is what the class's segments take on disk, with preallocated space.
	Bytes int64
	// OldestUnacked is when the first waiting record was recorded, zero if none
	// waits.
	OldestUnacked time.Time
}

// Loss is a range of records that were stored and can't be read any more.
type Loss struct {
	Class event.Class
	// First and Last bound the range, both included.
	First, Last uint64
	// Count is how many sequence numbers of the range are lost.
	Count uint64
	// Reason is one word as in event.AgentLoss: "damaged".
	Reason string
	// Detail is for a person.
	Detail string
	// Quarantine is the file that holds a copy of the damaged bytes; empty if
	// there were none, or no copy could be made.
	Quarantine string
}

// Open opens the spool in dir, which is created with mode 0700 if it is not
// there. Damaged files never make it fail: what is readable is kept, what is
// not is put in quarantine and reported by Losses. It fails if the directory
// can't be used at all, or with ErrLocked.
func Open(dir string, o Options) (*Spool, error) { return nil, errors.ErrUnsupported }

// Append stores one record and returns its sequence number once it is on disk.
// Concurrent calls share an fdatasync.
//
// encode makes the payload for the sequence number that the record gets. It is
// called once for each accepted record, in the order of the numbers, on the
// spool's committing goroutine, so it must not block and must not call the
// spool. If encode fails, Append returns its error and the number goes to the
// next record. The same happens to all records of a batch that can't be
// written: what encode did for them must not count until Append returned nil.
//
// On an error nothing is stored and no number is used, with one exception: if
// the process dies or the machine loses power after a failed write and before
// the next successful one, the refused record may be found on disk and be
// delivered after all, under its number, which then no other record gets.
//
// ctx ends the wait for the record's turn. When the record is being written,
// Append waits for the outcome.
func (s *Spool) Append(ctx context.Context, class event.Class, recorded time.Time, topic string, encode func(seq uint64) ([]byte, error)) (seq uint64, err error) {
	return 0, errors.ErrUnsupported
}

// Reader returns the reader of a class, always the same one.
func (s *Spool) Reader(class event.Class) *Reader { return &Reader{} }

// Next returns the records after the read position, oldest first, and moves
// the position behind them. It never waits: no records and a nil error mean
// that there are none now. It returns at most maxRecords (at least one), and
// stops before topics and payloads exceed maxBytes, but returns one record
// however large it is. Only records that are on disk are returned.
//
// Records that can't be read are passed over and reported by Losses. After an
// error of the disk the position stands where it was; wait and call again. A
// place that stays unreadable for ten seconds of trying counts as damaged.
func (r *Reader) Next(maxRecords, maxBytes int) ([]Record, error) { return nil, errors.ErrUnsupported }

// Rewind puts the read position back to just after the last acknowledged
// record.
func (r *Reader) Rewind() {}

// Ack says that everything up to seq is delivered. A lower number than before
// changes nothing; one that Next has not returned since Open is an error.
//
// The cursor file follows within 200 ms, which outlives the process; it is
// synced to disk within two seconds, before a segment behind it is deleted,
// and by Close. An acknowledgement that is lost means that the records are
// delivered again.
func (r *Reader) Ack(seq uint64) error { return errors.ErrUnsupported }

// Changed returns a channel that is closed when records become durable after
// the call, or when the spool is closed. To lose no wake-up, take the channel
// first, then call Next, and wait only if Next returned nothing:
//
//	for {
//		changed := s.Changed()
//		records, err := r.Next(100, 1<<20)
//		...
//		if len(records) == 0 {
//			<-changed
//		}
//	}
func (s *Spool) Changed() <-chan struct{} { return nil }

// Stats returns a snapshot. It may read up to one segment of each class.
func (s *Spool) Stats() Stats { return Stats{} }

// Losses returns the losses found since the last call, by Open or by Next. Each
// is returned once, and again after a restart until LossRecorded confirmed it.
func (s *Spool) Losses() []Loss { return nil }

// LossRecorded says that a loss from Losses has been made an event that is on
// disk, so that it need not be reported again after a restart.
func (s *Spool) LossRecorded(l Loss) {}

// Close commits what waits, writes the cursors and gives the lock back. No
// goroutine is left. It may be called more than once.
func (s *Spool) Close() error { return nil }

// Spool is an open spool. Its methods may be called from several goroutines.
type Spool struct{}

// Reader hands out the records of one class. Its methods may be called from
// several goroutines.
type Reader struct{}
