package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/capture"
)

const (
	// maxRecordQueue bounds what waits for the disk, in bytes.
	maxRecordQueue = 8 << 20
	// entryBytes is what an entry counts beside its bytes.
	entryBytes = 128
	// roomEvery is how often it is looked whether the disk has room.
	roomEvery = time.Second
	// lastLine is what is kept of a size for the last line, in bytes.
	lastLine = 2 << 10
	// filesAtMost bounds the files of one recording.
	filesAtMost = 10_000
)

var discardLog = slog.New(slog.DiscardHandler)

// lineReader reads lines of a bounded length.
type lineReader struct{ in *bufio.Reader }

func newLineReader(r io.Reader, most int) lineReader { return lineReader{bufio.NewReaderSize(r, most)} }

// next gives a line, which is good until the next call. A line without its end is none.
func (l lineReader) next() ([]byte, error) {
	b, err := l.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return b, nil
}

// recordQueue is between the device and the disk. Who puts never waits: what is too much is
// left out and counted, and a mark says so in its place.
type recordQueue struct {
	some chan struct{} // one token: there is something to take

	mu       sync.Mutex
	list     []capture.Entry
	bytes    int
	lost     capture.Entry // what was left out behind list; LostReads is 0 for nothing
	numbered int
	// holeWhy is why what came from the agent has a hole before its next piece; expected is
	// the offset of that piece without one, and counted whether it is known.
	holeWhy  string
	expected int64
	counted  bool
}

func newRecordQueue() *recordQueue { return &recordQueue{some: make(chan struct{}, 1)} }

// connection numbers a connection.
func (q *recordQueue) connection() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.numbered++
	return q.numbered
}

// put adds an entry, of which it keeps a copy.
func (q *recordQueue) put(e capture.Entry) {
	q.mu.Lock()
	q.putLocked(e)
	q.mu.Unlock()
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *recordQueue) putLocked(e capture.Entry) {
	if q.lost.Mark != "" || q.bytes+len(e.Bytes)+entryBytes > maxRecordQueue {
		if q.lost.Mark == "" {
			q.lost = capture.Entry{At: e.At, Mark: capture.Lost, Why: "the disk did not keep up"}
		}
		if e.Mark == capture.Lost {
			q.lost.LostReads += e.LostReads
			q.lost.LostBytes += e.LostBytes
		}
		if len(e.Bytes) > 0 {
			q.lost.LostReads++
			q.lost.LostBytes += int64(len(e.Bytes))
		}
		return
	}
	e.Bytes = bytes.Clone(e.Bytes)
	q.list = append(q.list, e)
	q.bytes += len(e.Bytes) + entryBytes
}

// hole notes that something may be missing before the next piece of the agent.
func (q *recordQueue) hole(why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holeWhy == "" {
		q.holeWhy = why
	}
}

// piece puts a piece of the agent, and before it what is missing.
func (q *recordQueue) piece(l rawLine) {
	q.mu.Lock()
	missing := int64(0)
	if l.Offset != nil {
		if q.counted {
			missing = *l.Offset - q.expected // below zero: another agent, which counts anew
		}
		q.expected, q.counted = *l.Offset+int64(len(l.Bytes)), true
	}
	if missing != 0 || q.holeWhy != "" && l.Offset == nil {
		e := capture.Entry{At: l.At, Mark: capture.Lost, Why: q.holeWhy, LostBytes: max(0, missing)}
		if e.Why == "" {
			e.Why = "the agent did not give it"
		}
		q.putLocked(e)
	}
	q.holeWhy = ""
	q.mu.Unlock()
	q.put(capture.Entry{At: l.At, Bytes: l.Bytes})
}

// take gives what waits.
func (q *recordQueue) take() []capture.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	if q.lost.Mark != "" {
		list = append(list, q.lost)
	}
	q.list, q.bytes, q.lost = nil, 0, capture.Entry{}
	return list
}

// left says at the end whether something may be missing.
func (q *recordQueue) left() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holeWhy
}

// recordFiles are the files of one recording.
type recordFiles struct {
	dir, name       string
	header          capture.Header
	maxSize, rotate int64 // rotate is 0 for one file
	room            func() error
	notes           io.Writer
	// create makes a file; nil for one on disk.
	create func(path string) (recordFile, error)

	path    string
	file    recordFile
	w       *capture.Writer
	kept    []keptFile // those that are ended
	total   int64      // of those
	removed int
	looked  time.Time

	reads, bytes, holes int64
	began, ended        time.Time
	reason              string
}

// recordFile is what is needed of a file.
type recordFile interface {
	io.WriteCloser
	Sync() error
}

type keptFile struct {
	path string
	size int64
}

// errEnough ends a recording in good order.
var errEnough = errors.New("the size that was asked for is reached")

// begin makes the next file.
func (f *recordFiles) begin(now time.Time) error {
	if f.began.IsZero() {
		f.began = now
	}
	if err := f.room(); err != nil {
		return err
	}
	f.path = filepath.Join(f.dir, fmt.Sprintf("%s-%03d.jsonl", f.name, f.header.Part))
	create := f.create
	if create == nil {
		create = func(path string) (recordFile, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		}
	}
	file, err := create(f.path)
	if err != nil {
		return fmt.Errorf("begin the recording: %w", err)
	}
	f.file = file
	f.header.Begun = now
	if f.w, err = capture.NewWriter(file, f.header); err != nil {
		return errors.Join(fmt.Errorf("begin the recording: %w", err), file.Close())
	}
	return nil
}

// add writes an entry, into the next file if this one is full.
func (f *recordFiles) add(e capture.Entry) error {
	if now := time.Now(); now.Sub(f.looked) >= roomEvery {
		f.looked = now
		if err := f.room(); err != nil {
			return err
		}
	}
	need := int64(2*len(e.Bytes) + lastLine)
	if f.rotate > 0 && f.w.Size()+need > f.rotate && f.w.Size() > lastLine {
		if err := f.finish(e.At, capture.Rotated); err != nil {
			return err
		}
		if f.header.Part++; f.header.Part > filesAtMost {
			return fmt.Errorf("the recording has %d files: give a larger --rotate", filesAtMost)
		}
		for f.total+f.rotate > f.maxSize && len(f.kept) > 0 {
			if err := os.Remove(f.kept[0].path); err != nil {
				return fmt.Errorf("make room for the recording: %w", err)
			}
			f.removed++
			f.total -= f.kept[0].size
			f.kept = f.kept[1:]
		}
		if err := f.begin(e.At); err != nil {
			return err
		}
	}
	if f.rotate == 0 && f.w.Size()+need > f.maxSize {
		return errEnough
	}
	if err := f.w.Add(e); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	switch {
	case e.Mark == capture.Lost:
		f.holes++
	case len(e.Bytes) > 0:
		f.reads++
		f.bytes += int64(len(e.Bytes))
	}
	return nil
}

// finish writes the last line of a file and makes it durable.
func (f *recordFiles) finish(at time.Time, reason string) error {
	if f.file == nil {
		return nil
	}
	err := f.w.End(at, reason)
	if err == nil {
		err = f.file.Sync()
	}
	err = errors.Join(err, f.file.Close())
	f.kept = append(f.kept, keptFile{f.path, f.w.Size()})
	f.total += f.w.Size()
	f.file = nil
	if err != nil {
		return fmt.Errorf("end the recording: %w", err)
	}
	return nil
}

// write writes what comes into q until ctx ends, the device has nothing more, or the disk
// or the size says so. It returns what went wrong.
func (f *recordFiles) write(ctx context.Context, q *recordQueue, over <-chan error) error {
	silent := time.NewTimer(nothingYet)
	defer silent.Stop()
	var failed error
	for end := false; !end && failed == nil; {
		select {
		case <-q.some:
		case <-ctx.Done():
			f.reason = context.Cause(ctx).Error()
			end = true
		case err := <-over:
			f.reason, failed, end = err.Error(), err, true
			if ctx.Err() != nil {
				f.reason, failed = context.Cause(ctx).Error(), nil
			}
		case <-silent.C:
			if f.reads == 0 {
				fmt.Fprintf(f.notes, "nothing has come for %s; it goes on. Look whether the device is on and its cable is in\n", nothingYet)
			}
		}
		if err := f.addAll(q.take()); err != nil {
			f.reason, failed = err.Error(), err
			if errors.Is(err, errEnough) {
				failed = nil
				break
			}
		}
	}
	if why := q.left(); why != "" && f.file != nil && failed == nil {
		failed = f.add(capture.Entry{At: time.Now(), Mark: capture.Lost, Why: why})
	}
	f.ended = time.Now()
	err := f.finish(f.ended, f.reason)
	if failed != nil {
		return failed
	}
	return err
}

func (f *recordFiles) addAll(list []capture.Entry) error {
	for _, e := range list {
		if err := f.add(e); err != nil {
			return err
		}
	}
	return nil
}

// report tells what there is.
func (f *recordFiles) report(w io.Writer) {
	fmt.Fprintf(w, "%s, %s in %s (%s)\n", plural(f.reads, "read"), plural(f.bytes, "byte"),
		f.ended.Sub(f.began).Round(100*time.Millisecond), clean(f.reason))
	if f.holes > 0 {
		fmt.Fprintf(w, "something is missing at %s; the file says where\n", plural(f.holes, "place"))
	}
	if f.removed > 0 {
		fmt.Fprintf(w, "removed to stay within --max-size: the oldest %s\n", plural(f.removed, "file"))
	}
	for _, k := range f.kept {
		fmt.Fprintln(w, k.path)
	}
}
