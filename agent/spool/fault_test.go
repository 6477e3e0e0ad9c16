package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// ledger is what the callers of a spool know: what was confirmed to them, what
// was refused, what they acknowledged.
type ledger struct {
	stored  [2]map[uint64]string
	refused map[string]bool
	acked   [2]uint64 // by the first consumer; the second one is behind
	n       int
	routine Caps // of the spool of the script
}

// day's spool has two consumers.
var dayConsumers = []string{DefaultConsumer, "slow"}

func newLedger() *ledger {
	return &ledger{stored: [2]map[uint64]string{{}, {}}, refused: map[string]bool{}}
}

// append appends a record of a text that is used once.
func (l *ledger) append(s *Spool, class, size int) error {
	l.n++
	text := fmt.Sprintf("event %d %s", l.n, strings.Repeat("x", size))
	seq, err := s.Append(ctx, event.Classes[class], day, "t", func(seq uint64, _ event.Hash) ([]byte, error) {
		return fmt.Appendf(nil, "%d %s", seq, text), nil
	})
	if err != nil {
		l.refused[text] = true
		return err
	}
	if old, ok := l.stored[class][seq]; ok {
		return fmt.Errorf("sequence %d given to %q and %q", seq, old, text)
	}
	l.stored[class][seq] = text
	return nil
}

// ack reads some and acknowledges half of them.
func (l *ledger) ack(s *Spool, class int) error {
	r := s.Reader(DefaultConsumer, event.Classes[class])
	records, err := r.Next(6, 1<<20)
	if err != nil || len(records) == 0 {
		return err
	}
	seq := records[len(records)/2].Sequence
	if err := r.Ack(seq); err != nil {
		return err
	}
	behind := l.acked[class]
	l.acked[class] = max(l.acked[class], seq)
	r.Rewind()
	if slow := s.Reader("slow", event.Classes[class]); slow.none == nil {
		records, err := slow.Next(1000, 1<<20)
		if err != nil || len(records) == 0 {
			return err
		}
		return slow.Ack(min(behind, records[len(records)-1].Sequence))
	}
	return nil
}

// check opens what is left on a healthy disk and compares. Losses are allowed
// only of numbers that nobody was told of.
func (l *ledger) check(t *testing.T, m *memFS, lossesAllowed bool) {
	t.Helper()
	s := open(t, m, "/spool", Options{SegmentBytes: 2048, Consumers: dayConsumers})
	lost := [2]map[uint64]bool{{}, {}}
	var delivered [2]map[uint64]string
	texts := map[string]uint64{}
	for class := range event.Classes {
		delivered[class] = map[uint64]string{}
		r := s.Reader(DefaultConsumer, event.Classes[class])
		for {
			records, err := r.Next(10, 1<<20)
			require.NoError(t, err)
			if len(records) == 0 {
				break
			}
			for _, rec := range records {
				seq, text, ok := strings.Cut(string(rec.Payload), " ")
				require.True(t, ok)
				require.Equal(t, fmt.Sprint(rec.Sequence), seq)
				require.NotContains(t, delivered[class], rec.Sequence)
				require.NotContains(t, texts, text, "a record comes once")
				delivered[class][rec.Sequence] = text
				texts[text] = rec.Sequence
			}
		}
	}
	for class := range event.Classes {
		require.LessOrEqual(t, s.logs[class].consumers[1].acked, s.logs[class].consumers[0].acked)
		r := s.Reader("slow", event.Classes[class])
		seen := map[uint64]bool{}
		for {
			records, err := r.Next(10, 1<<20)
			require.NoError(t, err)
			if len(records) == 0 {
				break
			}
			for _, rec := range records {
				seen[rec.Sequence] = true
			}
		}
		for seq := range delivered[class] {
			require.True(t, seen[seq], "%s %d is delivered to one consumer and not to the other", event.Classes[class], seq)
		}
	}
	losses := s.Losses()
	evicted := map[uint64]bool{}
	for _, loss := range losses {
		if loss.Reason == "evicted" {
			require.NotZero(t, l.routine)
			require.Equal(t, event.Routine, loss.Class)
			require.Equal(t, loss.Last-loss.First+1, loss.Count)
			for _, seq := range count(loss.First, loss.Last) {
				evicted[seq] = true
			}
		} else if !lossesAllowed {
			require.Empty(t, loss)
		}
		for class := range event.Classes {
			if event.Classes[class] == loss.Class {
				for _, seq := range count(loss.First, loss.Last) {
					lost[class][seq] = true
				}
			}
		}
	}
	for class := range event.Classes {
		st := s.logs[class]
		for seq, text := range l.stored[class] {
			if seq > l.acked[class] && !(event.Classes[class] == event.Routine && evicted[seq]) {
				require.Equal(t, text, delivered[class][seq], "%s %d was confirmed", event.Classes[class], seq)
			}
		}
		for seq, text := range delivered[class] {
			if confirmed, ok := l.stored[class][seq]; ok {
				require.Equal(t, confirmed, text, "%s %d", event.Classes[class], seq)
			} else {
				require.True(t, l.refused[text], "%s %d %q was never given to the spool", event.Classes[class], seq, text)
			}
		}
		for seq := st.consumers[0].acked + 1; seq <= st.head; seq++ {
			_, ok := delivered[class][seq]
			require.True(t, ok || lost[class][seq], "%s %d is neither delivered nor lost", event.Classes[class], seq)
		}
		head := st.head
		require.NoError(t, l.append(s, class, 10), "it goes on")
		require.Contains(t, l.stored[class], head+1)
	}
	require.NoError(t, s.Close())
}

// script is a day in the life of a spool. Errors are the caller's to judge.
func (l *ledger) script(m *memFS, fail func(error)) {
	for range 2 {
		var s *Spool
		for range 3 {
			var err error
			if s, err = Open("/spool", Options{FS: m, SegmentBytes: 2048, Consumers: dayConsumers, Routine: l.routine}); err == nil {
				break
			}
			fail(err)
		}
		if s == nil {
			return
		}
		for i := range 24 {
			if err := l.append(s, i%2, 30+i*40%500); err != nil {
				fail(err)
			}
			if i%6 == 5 {
				if err := l.ack(s, i/6%2); err != nil {
					fail(err)
				}
				time.Sleep(cursorEvery + time.Millisecond) // the cursor is written
				synctest.Wait()
			}
		}
		if err := s.Close(); err != nil {
			fail(err)
		}
	}
}

// operations runs the script on a healthy disk and returns the operations.
func operations(t *testing.T, routine Caps) (ops []string) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		m.hook = func(op, path string) error {
			ops = append(ops, op+" "+path)
			return nil
		}
		l := newLedger()
		l.routine = routine
		l.script(m, func(err error) { t.Error(err) })
		m.setHook(nil)
		l.check(t, m, false)
	})
	return ops
}

// Every operation of the file system fails in turn, alone or with the next few,
// in every way; then it goes on, and in the end there is an orderly stop, a
// kill, or a power cut.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	ops := operations(t, Caps{})
	t.Logf("%d operations", len(ops))
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, burst := range []int{1, 4, 25} {
			for i, op := range ops {
				if burst > 1 && i%burst != 0 {
					continue // the others overlap with these
				}
				synctest.Test(t, func(t *testing.T) {
					m := newMemFS(uint64(i))
					n := 0
					m.hook = func(string, string) error {
						n++
						if n > i && n <= i+burst {
							return cause
						}
						return nil
					}
					l := newLedger()
					l.script(m, func(err error) {
						if !errors.Is(err, cause) && !errors.Is(err, ErrClosed) {
							t.Errorf("%s: an error that is not the disk's: %v", op, err)
						}
						if errors.Is(cause, syscall.ENOSPC) && strings.Contains(err.Error(), " log in ") && !errors.Is(err, ErrFull) {
							t.Errorf("%s: not ErrFull: %v", op, err)
						}
					})
					m.setHook(nil)
					end := []func() *memFS{m.clone, m.killed, m.powerCut}[(i+burst)%3]
					l.check(t, end(), true)
				})
				if t.Failed() {
					t.Fatalf("%v at operation %d, %s, and %d more", cause, i, op, burst-1)
				}
			}
		}
	}
}

// The process is killed, or the power cut, at every operation.
func TestEveryOperationIsTheLast(t *testing.T) {
	t.Parallel()
	ops := operations(t, Caps{})
	dead := errors.New("dead")
	for _, powerCut := range []bool{false, true} {
		for i, op := range ops {
			for seed := range uint64(2) {
				if !powerCut && seed > 0 {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					m := newMemFS(seed)
					n := 0
					m.hook = func(string, string) error {
						if n++; n > i {
							return dead
						}
						return nil
					}
					l := newLedger()
					l.script(m, func(error) {})
					if powerCut {
						// A write that was underway may leave holes: numbers that
						// nobody was told of.
						l.check(t, m.powerCut(), true)
					} else {
						l.check(t, m.killed(), false)
					}
				})
				if t.Failed() {
					t.Fatalf("power cut %v at operation %d, %s, seed %d", powerCut, i, op, seed)
				}
			}
		}
	}
}

// The same with a cap, so that segments are evicted: whatever fails and whenever
// it ends, an event that was confirmed is delivered or named in a loss.
func TestEvictionSurvivesAll(t *testing.T) {
	t.Parallel()
	small := Caps{MaxBytes: 3000}
	ops := operations(t, small)
	t.Logf("%d operations", len(ops))
	for i, op := range ops {
		for _, end := range []int{0, 1 + i%3} {
			synctest.Test(t, func(t *testing.T) {
				m := newMemFS(uint64(i))
				n := 0
				m.hook = func(string, string) error {
					n++
					switch {
					case end < 2 && n > i, end >= 2 && n > i && n <= i+2:
						return syscall.EIO
					}
					return nil
				}
				l := newLedger()
				l.routine = small
				l.script(m, func(error) {})
				m.setHook(nil)
				switch end {
				case 0:
					l.check(t, m.killed(), false)
				case 1, 2:
					l.check(t, m.powerCut(), true)
				case 3:
					l.check(t, m.clone(), true)
				}
			})
			if t.Failed() {
				t.Fatalf("operation %d, %s, end %d", i, op, end)
			}
		}
	}
	l := newLedger()
	l.routine = small
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		l.script(m, func(err error) { t.Error(err) })
		s := open(t, m.clone(), "/spool", Options{Consumers: dayConsumers})
		require.NotEmpty(t, s.Losses(), "something is evicted in this story")
	})
}

// A record that was refused does not come back under a number that another
// record got: neither when the failed write reached the disk after all, nor
// when nothing of it can be undone.
func TestRefusedRecordStaysAway(t *testing.T) {
	for _, failing := range []string{"sync", "syncdir"} {
		for _, end := range []string{"close", "kill", "power"} {
			m := newMemFS(7)
			s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
			l := newLedger()
			require.NoError(t, l.append(s, 0, 10))
			broken := true
			m.hook = func(op, path string) error {
				switch {
				case !broken:
				case failing == "sync" && op == "sync", failing == "syncdir" && (op == "syncdir" || op == "sync" && strings.HasSuffix(path, "0001.seg")):
					return syscall.EIO
				case op == "truncate" || op == "remove":
					return syscall.EIO
				}
				return nil
			}
			for range 3 {
				require.ErrorIs(t, l.append(s, 0, 10), syscall.EIO)
			}
			require.Equal(t, uint64(1), s.Stats().Urgent.Head)
			broken = false
			require.NoError(t, l.append(s, 0, 10))
			require.Contains(t, l.stored[0], uint64(2))
			require.Len(t, drain2(t, s), 2)
			switch end {
			case "close":
				require.NoError(t, s.Close())
				m = m.clone()
			case "kill":
				m = m.killed()
			case "power":
				m = m.powerCut()
			}
			l.check(t, m, false)
			s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
			require.Len(t, drain2(t, s), 3)
			seen := map[uint64]bool{}
			for _, path := range m.segments() {
				g, _ := parseSegmentName(filepath.Base(path))
				require.False(t, seen[g.first], "what was refused is out of the way")
				seen[g.first] = true
			}
		}
	}
}

// The same when the record before it is damaged, so that the reader comes upon
// the refused one in its search.
func TestRefusedRecordBehindDamage(t *testing.T) {
	m := newMemFS(7)
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	l := newLedger()
	require.NoError(t, l.append(s, 0, 10))
	require.NoError(t, l.append(s, 0, 10))
	m.hook = func(op, path string) error {
		if strings.HasSuffix(path, ".seg") && (op == "truncate" || op == "sync" && strings.HasSuffix(path, "-0000000001.seg")) {
			return syscall.EIO
		}
		return nil
	}
	require.NoError(t, l.append(s, 0, 10), "in a new segment")
	m.setHook(nil)
	require.NoError(t, s.Close())
	m = m.clone()
	old := m.names[m.segments()[0]]
	at := frames(t, old.mem)
	ghost := appendFrame(nil, 1, 4, day, "t", []byte("4 ghost")) // as if four had been refused
	old.mem = append(append(old.mem[:at[2]], ghost...), make([]byte, 100)...)
	old.mem[at[1]+45] ^= 1
	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	require.NoError(t, l.append(s, 0, 10))
	require.Contains(t, l.stored[0], uint64(4))
	var seqs []uint64
	for _, rec := range drain2(t, s) {
		require.NotContains(t, string(rec.Payload), "ghost")
		seqs = append(seqs, rec.Sequence)
	}
	require.Equal(t, []uint64{1, 3, 4}, seqs)
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.Equal(t, []uint64{2, 2}, []uint64{losses[0].First, losses[0].Last})
}

// Refused, and then an orderly stop: it does not come back at all.
func TestRefusedRecordIsGoneAfterClose(t *testing.T) {
	m := newMemFS(7)
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	l := newLedger()
	require.NoError(t, l.append(s, 0, 10))
	broken := true
	m.hook = func(op, path string) error {
		if broken && strings.HasSuffix(path, ".seg") && (op == "sync" || op == "truncate" || op == "remove") {
			return syscall.EIO
		}
		return nil
	}
	require.Error(t, l.append(s, 0, 10))
	require.NoError(t, s.Close())
	broken = false
	require.Len(t, m.segments(), 2, "the disk did not let it be undone")
	s = open(t, m.clone(), "/spool", Options{SegmentBytes: 8 << 10})
	require.Len(t, drain2(t, s), 1)
	require.NoError(t, l.append(s, 0, 10))
	require.Contains(t, l.stored[0], uint64(2))
	require.Empty(t, s.Losses())
}

func drain2(t *testing.T, s *Spool) []Record {
	records, err := s.Reader(DefaultConsumer, event.Urgent).Next(100, 1<<20)
	require.NoError(t, err)
	return records
}

// A full disk: an error, nothing half stored, reading goes on, acknowledged
// space is given back, and with that appends work again by themselves.
func TestDiskFull(t *testing.T) {
	for _, noAlloc := range []bool{false, true} {
		m := newMemFS(1)
		m.capacity, m.noAlloc = 64<<10, noAlloc
		s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		fillUp(t, s)
		require.NoError(t, s.Close())
	}
}

// The cursor is gone and there is no room for a new one: delivered segments are
// deleted all the same, and no loss is seen where there is none.
func TestDiskFullWithoutCursor(t *testing.T) {
	m := newMemFS(1)
	m.capacity = 64 << 10
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	l := newLedger()
	for l.append(s, 0, 500) == nil {
	}
	require.NoError(t, s.Close())
	delete(m.names, "/spool/urgent/cursor")
	m.capacity = m.used()
	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	require.NotContains(t, m.names, "/spool/urgent/cursor")
	require.ErrorIs(t, l.append(s, 0, 500), ErrFull)
	fillUp2(t, s, l)
	require.NoError(t, s.Close())
	l.check(t, m, false)
}

// The same when the cursor is there and its pages fail.
func TestDiskFullWithFailingCursor(t *testing.T) {
	m := newMemFS(1)
	m.capacity = 64 << 10
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	l := newLedger()
	for l.append(s, 0, 500) == nil {
	}
	m.capacity = m.used()
	m.hook = func(op, path string) error {
		if op == "sync" && path == "/spool/urgent/cursor.new" && s.logs[0].cursor.exists {
			return syscall.EIO // of the file that was opened under that name
		}
		return nil
	}
	fillUp2(t, s, l)
	m.setHook(nil)
	require.NoError(t, s.Close())
	l.check(t, m, false)
}

// fillUp fills a spool up, twice.
func fillUp(t *testing.T, s *Spool) {
	l := newLedger()
	for range 2 {
		before := len(l.stored[0])
		fillUp2(t, s, l)
		require.Greater(t, len(l.stored[0])-before, 50)
	}
}

func fillUp2(t *testing.T, s *Spool, l *ledger) {
	{
		var err error
		for err == nil {
			err = l.append(s, 0, 500)
		}
		require.ErrorIs(t, err, ErrFull)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorIs(t, l.append(s, 0, 500), ErrFull)
		if m, ok := s.fs.(*memFS); ok {
			require.Len(t, m.segments(), len(s.logs[0].segments), "what failed is gone")
		}
		r := s.Reader(DefaultConsumer, event.Urgent)
		var records []Record
		for {
			more, err := r.Next(1000, 1<<30)
			require.NoError(t, err)
			if len(more) == 0 {
				break
			}
			records = append(records, more...)
		}
		for _, rec := range records {
			require.Equal(t, fmt.Sprint(rec.Sequence, " ", l.stored[0][rec.Sequence]), string(rec.Payload))
		}
		require.NoError(t, r.Ack(records[len(records)-1].Sequence))
		l.acked[0] = records[len(records)-1].Sequence
		require.NoError(t, l.append(s, 0, 500), "there is room at once")
		require.Equal(t, len(l.stored[0]), int(s.Stats().Urgent.Head))
		require.Empty(t, s.Losses())
	}
}
