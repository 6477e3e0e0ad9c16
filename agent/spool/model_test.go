package spool

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lanepost/lanepost/protocol/event"
)

// world is a spool on a disk that may do anything, beside what its callers know.
type world struct {
	t    *rapid.T
	m    *memFS
	s    *Spool
	fail int // operations until one fails, negative for never

	n    int
	logs [2]modelLog
}

type modelLog struct {
	seen   map[uint64]string // by number: confirmed to a caller, or delivered
	mine   map[uint64]bool   // confirmed
	failed map[string]bool   // refused, or in the dark about it
	head   uint64            // highest number confirmed, delivered or lost
	acked  uint64            // highest acknowledged, as far as the cursor kept it
	next   uint64            // read position
	read   uint64            // highest delivered since the start
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, m: newMemFS(rapid.Uint64().Draw(t, "seed")), fail: -1}
	w.m.noAlloc = rapid.Bool().Draw(t, "noAlloc")
	for i := range w.logs {
		w.logs[i] = modelLog{seen: map[uint64]string{}, mine: map[uint64]bool{}, failed: map[string]bool{}}
	}
	w.start()
	return w
}

func (w *world) start() {
	w.heal()
	w.m.hook = func(string, string) error {
		if w.fail == 0 {
			w.fail = -1
			return syscall.EIO
		}
		if w.fail > 0 {
			w.fail--
		}
		return nil
	}
	s, err := Open("/spool", Options{FS: w.m, SegmentBytes: 1500, MaxBatch: 4, cursorEvery: time.Millisecond})
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.s = s
	for i := range w.logs {
		l := &w.logs[i]
		acked := s.Stats().of(i).Acked
		if acked > max(l.acked, l.head) {
			// The cursor passes over what is lost.
			w.losses()
		}
		if acked > l.acked && acked > l.head {
			w.t.Fatalf("%d acknowledged, the caller knows of %d", acked, l.acked)
		}
		l.next, l.read, l.acked = acked+1, acked, acked
	}
	w.losses()
}

func (s Stats) of(class int) ClassStats { return [2]ClassStats{s.Urgent, s.Routine}[class] }

// losses takes the losses: nothing that was confirmed may be among them, unless
// it was acknowledged.
func (w *world) losses() {
	for _, loss := range w.s.Losses() {
		l := &w.logs[0]
		if loss.Class == event.Routine {
			l = &w.logs[1]
		}
		for _, seq := range count(loss.First, loss.Last) {
			if l.mine[seq] {
				w.t.Fatalf("%s %d was confirmed and is lost: %s", loss.Class, seq, loss.Detail)
			}
			if _, ok := l.seen[seq]; !ok {
				l.seen[seq] = "lost"
			}
			l.head = max(l.head, seq)
		}
		w.s.LossRecorded(loss)
	}
}

func (w *world) class() int { return rapid.IntRange(0, 1).Draw(w.t, "class") }

func (w *world) append(t *rapid.T) {
	class, callers := w.class(), rapid.IntRange(1, 8).Draw(t, "callers")
	size := rapid.SampledFrom([]int{0, 10, 300, 2000}).Draw(t, "size")
	var mu sync.Mutex
	var wg sync.WaitGroup
	var problems []string
	l := &w.logs[class]
	for range callers {
		w.n++
		text := fmt.Sprint("event ", w.n, strings.Repeat("x", size))
		wg.Go(func() {
			seq, err := w.s.Append(ctx, event.Classes[class], day, "t", func(seq uint64, _ event.Hash) ([]byte, error) {
				return fmt.Append(nil, seq, " ", text), nil
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				l.failed[text] = true
				return
			}
			if old, ok := l.seen[seq]; ok {
				problems = append(problems, fmt.Sprintf("%d given to %q and %q", seq, old, text))
			}
			l.seen[seq], l.mine[seq] = text, true
			l.head = max(l.head, seq)
		})
	}
	wg.Wait()
	for _, p := range problems {
		t.Fatal(p)
	}
}

func (w *world) read(t *rapid.T) {
	class := w.class()
	l := &w.logs[class]
	r := w.s.Reader(event.Classes[class])
	records, err := r.Next(rapid.IntRange(1, 20).Draw(t, "records"), rapid.IntRange(0, 3000).Draw(t, "bytes"))
	if err != nil {
		return // the disk; the position stands
	}
	w.losses()
	for _, rec := range records {
		for l.next < rec.Sequence && l.seen[l.next] == "lost" {
			l.next++
		}
		if rec.Sequence != l.next {
			t.Fatalf("%d delivered where %d should be", rec.Sequence, l.next)
		}
		seq, text, _ := strings.Cut(string(rec.Payload), " ")
		if seq != fmt.Sprint(rec.Sequence) {
			t.Fatalf("%d delivered as %s", rec.Sequence, seq)
		}
		known, ok := l.seen[rec.Sequence]
		switch {
		case ok && known != text:
			t.Fatalf("%d was %q and is %q", rec.Sequence, known, text)
		case !ok && !l.failed[text]:
			t.Fatalf("%d is %q, which nobody appended", rec.Sequence, text)
		}
		l.seen[rec.Sequence] = text
		l.head = max(l.head, rec.Sequence)
		l.next = rec.Sequence + 1
		l.read = max(l.read, rec.Sequence)
	}
	if len(records) == 0 && l.next <= l.head {
		for l.seen[l.next] == "lost" {
			l.next++
		}
		if l.next <= l.head {
			t.Fatalf("nothing is delivered though %d of %d waits", l.next, l.head)
		}
	}
}

func (w *world) ack(t *rapid.T) {
	class := w.class()
	l := &w.logs[class]
	seq := rapid.Uint64Range(0, l.read).Draw(t, "sequence")
	if err := w.s.Reader(event.Classes[class]).Ack(seq); err != nil {
		t.Fatalf("acknowledge %d of %d: %v", seq, l.read, err)
	}
	l.acked = max(l.acked, seq)
	l.next = max(l.next, w.s.Stats().of(class).Acked+1)
}

func (w *world) rewind(t *rapid.T) {
	class := w.class()
	w.s.Reader(event.Classes[class]).Rewind()
	w.logs[class].next = w.s.Stats().of(class).Acked + 1
}

func (w *world) close(t *rapid.T) {
	w.heal()
	if err := w.s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	before := w.logs
	w.start()
	for i, l := range before {
		if got := w.s.Stats().of(i); got.Acked < l.acked {
			t.Fatalf("%d acknowledged and %d after an orderly stop", l.acked, got.Acked)
		}
	}
}

func (w *world) heal() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.fail = -1
}

func (w *world) fault(t *rapid.T) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.fail = rapid.IntRange(0, 20).Draw(t, "after")
}

// end ends the process without warning.
func (w *world) end(next func() *memFS) {
	w.m.mu.Lock()
	w.m.hook = func(string, string) error { return errDead }
	w.m.mu.Unlock()
	_ = w.s.Close() // only the goroutine is to end
	w.m = next()
	w.start()
}

var errDead = syscall.ENXIO

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		defer func() { _ = w.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append":  w.append,
			"append2": w.append,
			"read":    w.read,
			"ack":     w.ack,
			"rewind":  w.rewind,
			"wait":    func(*rapid.T) { time.Sleep(3 * time.Millisecond) }, // for the cursor
			"fault":   w.fault,
			"close":   w.close,
			"kill":    func(*rapid.T) { w.end(w.m.killed) },
			"power":   func(*rapid.T) { w.end(w.m.powerCut) },
		})
	})
}
