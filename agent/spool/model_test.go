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

	n     int
	names []string // the consumers
	cap   int64    // of the routine class

	retain Retain
	logs   [2]modelLog
}

var modelNames = []string{"mqtt", "alarm", "third"}

type modelLog struct {
	seen   map[uint64]string // by number: confirmed to a caller, or delivered
	mine   map[uint64]bool   // confirmed
	failed map[string]bool   // refused, or in the dark about it
	head   uint64            // highest number confirmed, delivered or lost
	at     map[string]*modelPosition
}

// modelPosition is a consumer's.
type modelPosition struct {
	acked uint64 // highest acknowledged, as far as it was kept
	next  uint64 // read position
	read  uint64 // highest delivered since the start
}

// low is the least that any consumer acknowledged.
func (l *modelLog) low() uint64 {
	low := uint64(maxSequence)
	for _, p := range l.at {
		low = min(low, p.acked)
	}
	return low
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, m: newMemFS(rapid.Uint64().Draw(t, "seed")), fail: -1}
	w.m.noAlloc = rapid.Bool().Draw(t, "noAlloc")
	for i := range w.logs {
		w.logs[i] = modelLog{seen: map[uint64]string{}, mine: map[uint64]bool{}, failed: map[string]bool{}, at: map[string]*modelPosition{}}
	}
	w.names = modelNames[:rapid.IntRange(1, 3).Draw(t, "consumers")]
	w.cap = rapid.SampledFrom([]int64{0, 12_000}).Draw(t, "cap")
	w.retain = rapid.SampledFrom([]Retain{{}, {Bytes: 9_000}, {For: time.Hour}}).Draw(t, "retain")
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
	s, err := Open("/spool", Options{FS: w.m, SegmentBytes: 1500, MaxBatch: 4, cursorEvery: time.Millisecond, Consumers: w.names, Routine: Caps{MaxBytes: w.cap}, Retain: w.retain})
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.s = s
	for i := range w.logs {
		l := &w.logs[i]
		old := l.at
		l.at = map[string]*modelPosition{}
		for _, c := range s.Stats().of(i).Consumers {
			var was uint64
			if p := old[c.Name]; p != nil {
				was = p.acked
			} else {
				// It begins with what was still to be delivered to anybody.
				for _, p := range old {
					was = max(was, p.acked)
				}
			}
			if c.Acked > max(was, l.head) {
				// The cursor passes over what is lost.
				w.losses()
			}
			if c.Acked > was && c.Acked > l.head {
				w.t.Fatalf("%s acknowledged %d, the caller knows of %d", c.Name, c.Acked, was)
			}
			l.at[c.Name] = &modelPosition{acked: c.Acked, next: c.Acked + 1, read: c.Acked}
		}
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
			if loss.Reason == "evicted" && loss.Class == event.Routine {
				l.seen[seq] = "lost"
				delete(l.mine, seq)
			}
			if l.mine[seq] {
				w.t.Fatalf("%s %d was confirmed and is lost: %s", loss.Class, seq, loss.Detail)
			}
			if _, ok := l.seen[seq]; !ok {
				l.seen[seq] = "lost"
			}
			l.head = max(l.head, seq)
		}
		w.s.LossRecorded(loss, 0)
	}
}

func (w *world) consumer() string { return rapid.SampledFrom(w.names).Draw(w.t, "consumer") }

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
	name := w.consumer()
	at := l.at[name]
	r := w.s.Reader(name, event.Classes[class])
	records, err := r.Next(rapid.IntRange(1, 20).Draw(t, "records"), rapid.IntRange(0, 3000).Draw(t, "bytes"))
	if err != nil {
		return // the disk; the position stands
	}
	w.losses()
	for _, rec := range records {
		for at.next < rec.Sequence && l.seen[at.next] == "lost" {
			at.next++
		}
		if rec.Sequence != at.next {
			t.Fatalf("%d delivered where %d should be", rec.Sequence, at.next)
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
		at.next = rec.Sequence + 1
		at.read = max(at.read, rec.Sequence)
	}
	if len(records) == 0 && at.next <= l.head {
		for l.seen[at.next] == "lost" {
			at.next++
		}
		if at.next <= l.head {
			t.Fatalf("nothing is delivered though %d of %d waits", at.next, l.head)
		}
	}
}

func (w *world) ack(t *rapid.T) {
	class := w.class()
	name := w.consumer()
	p := w.logs[class].at[name]
	seq := rapid.Uint64Range(0, p.read).Draw(t, "sequence")
	if err := w.s.Reader(name, event.Classes[class]).Ack(seq); err != nil {
		t.Fatalf("%s acknowledges %d of %d: %v", name, seq, p.read, err)
	}
	p.acked = max(p.acked, seq)
	st := w.s.Stats().of(class)
	p.next = max(p.next, st.of(name).Acked+1)
	if low := w.logs[class].low(); st.Acked < low {
		t.Fatalf("all acknowledged %d, the cursor is at %d", low, st.Acked)
	}
}

func (s ClassStats) of(name string) ConsumerStats {
	for _, c := range s.Consumers {
		if c.Name == name {
			return c
		}
	}
	return ConsumerStats{}
}

// again reads what is on disk, whoever it was delivered to.
func (w *world) again(t *rapid.T) {
	class := w.class()
	l := &w.logs[class]
	from := rapid.Uint64Range(0, l.head).Draw(t, "from")
	to := rapid.Uint64Range(from, l.head+1).Draw(t, "to")
	records, err := w.s.Read(event.Classes[class], from, to, 20, 1<<20)
	if err != nil {
		return // the disk
	}
	for _, rec := range records {
		_, text, _ := strings.Cut(string(rec.Payload), " ")
		known, ok := l.seen[rec.Sequence]
		if rec.Sequence < from || rec.Sequence > to || ok && known != text && known != "lost" || !ok && !l.failed[text] {
			t.Fatalf("%d was %q and is read again as %q, in %d to %d", rec.Sequence, known, text, from, to)
		}
		from = rec.Sequence + 1
	}
}

func (w *world) rewind(t *rapid.T) {
	class := w.class()
	name := w.consumer()
	w.s.Reader(name, event.Classes[class]).Rewind()
	w.logs[class].at[name].next = w.s.Stats().of(class).of(name).Acked + 1
}

func (w *world) close(t *rapid.T) {
	w.heal()
	if err := w.s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	var before [2]map[string]*modelPosition
	var low [2]uint64
	for i := range w.logs {
		before[i], low[i] = w.logs[i].at, w.logs[i].low()
	}
	w.names = modelNames[:rapid.IntRange(1, 3).Draw(t, "consumers")]
	w.start()
	for i := range w.logs {
		for _, c := range w.s.Stats().of(i).Consumers {
			was := low[i]
			if p := before[i][c.Name]; p != nil {
				was = p.acked
			}
			if c.Acked < was {
				t.Fatalf("%s acknowledged %d, and %d after an orderly stop", c.Name, was, c.Acked)
			}
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
			"again":   w.again,
			"wait":    func(*rapid.T) { time.Sleep(3 * time.Millisecond) }, // for the cursor
			"fault":   w.fault,
			"close":   w.close,
			"kill":    func(*rapid.T) { w.end(w.m.killed) },
			"power":   func(*rapid.T) { w.end(w.m.powerCut) },
		})
	})
}
