package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// fixture is a spool of twelve urgent records, as found after an orderly end
// or after a kill at once, before any cursor was written.
func fixture(t *testing.T, closed bool, segmentBytes int64) *memFS {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: segmentBytes})
	for i := range 12 {
		put(t, s, event.Urgent, fmt.Sprint("event ", i))
	}
	if closed {
		require.NoError(t, s.Close())
		return m.clone()
	}
	n := m.clone()
	require.NoError(t, s.Close())
	return n
}

// segments returns the urgent segments' paths, oldest first.
func (m *memFS) segments() []string {
	var paths []string
	for name := range m.names {
		if filepath.Dir(name) == "/spool/urgent" && strings.HasSuffix(name, ".seg") {
			paths = append(paths, name)
		}
	}
	slices.Sort(paths)
	return paths
}

// frames returns where the frames of a segment lie: the offset of each and of
// the end of the last.
func frames(t *testing.T, b []byte) []int {
	offsets := []int{segmentHeader}
	for at := segmentHeader; ; {
		f, ok := parseFrame(b[at:], 1)
		if !ok {
			return offsets
		}
		at += f.size
		offsets = append(offsets, at)
	}
}

// outcome is what a spool has to show after damage.
type outcome struct {
	delivered []uint64
	lost      []uint64
	next      uint64 // number of a new record
	losses    []Loss
}

// reopen is look, and another start that gives the same.
func reopen(t *testing.T, m *memFS) outcome {
	t.Helper()
	o := look(t, m)
	again := look(t, m.clone())
	require.Equal(t, append(slices.Clone(o.delivered), o.next), again.delivered, "another start delivers the same")
	require.Equal(t, o.lost, again.lost, "and tells of the same losses, which nobody confirmed")
	require.Equal(t, o.next+1, again.next)
	return o
}

// look opens a spool, reads it all, appends one, and checks what must hold
// whatever happened: every number below the new one is either delivered or
// reported as lost, once.
func look(t *testing.T, m *memFS) (o outcome) {
	t.Helper()
	s := open(t, m, "/spool", Options{SegmentBytes: 4096})
	r := s.Reader(DefaultConsumer, event.Urgent)
	acked := s.Stats().Urgent.Acked
	o.delivered = drain(t, r)
	o.losses = s.Losses()
	for _, l := range o.losses {
		require.Equal(t, l.Last-l.First+1, l.Count)
		require.Equal(t, "damaged", l.Reason)
		require.Equal(t, event.Urgent, l.Class)
		o.lost = append(o.lost, count(l.First, l.Last)...)
	}
	slices.Sort(o.lost)
	r.Rewind()
	require.Equal(t, o.delivered, drain(t, r), "a second reading gives the same")
	require.Empty(t, s.Losses(), "and tells of no loss twice")
	o.next = put(t, s, event.Urgent, "new")
	require.Equal(t, []uint64{o.next}, drain(t, r))
	all := append(slices.Clone(o.delivered), o.lost...)
	slices.Sort(all)
	if !slices.Equal(slices.DeleteFunc(all, func(n uint64) bool { return n <= acked }), count(acked+1, o.next-1)) {
		t.Fatalf("delivered %v and lost %v are not all of %d to %d", o.delivered, o.lost, acked+1, o.next-1)
	}
	require.NoError(t, s.Close())
	return o
}

// sometimes is reopen for one in ten, else look, to save time.
func sometimes(t *testing.T, m *memFS, i int) outcome {
	t.Helper()
	if i%10 == 0 {
		return reopen(t, m)
	}
	return look(t, m)
}

// The log cut off, and zeroed, at every byte.
func TestTailGone(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		good := fixture(t, closed, 4096)
		path := good.segments()[0]
		offsets := frames(t, good.names[path].mem)
		require.Len(t, offsets, 13)
		for at := range offsets[12] {
			for _, zero := range []bool{false, true} {
				m := good.clone()
				if zero {
					clear(m.names[path].mem[at:])
				} else {
					m.names[path].mem = m.names[path].mem[:at]
				}
				o := sometimes(t, m, at)
				whole, _ := slices.BinarySearch(offsets[1:], at+1) // frames that end at or before at
				want := outcome{delivered: count(1, uint64(whole)), next: uint64(whole) + 1, losses: o.losses}
				if closed { // it is known what there was
					want.lost, want.next = count(uint64(whole)+1, 12), 13
				}
				if !closed && zero && at == offsets[whole+1]-1 && o.next == want.next+1 {
					continue // all but one byte of a checksum: this looks damaged
				}
				require.Equal(t, want, o, "closed %v, zero %v, at %d", closed, zero, at)
			}
		}
	}
}

// Every bit of a record turned over, at the end of the log and in the middle.
func TestBitFlipped(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		good := fixture(t, closed, 4096)
		path := good.segments()[0]
		offsets := frames(t, good.names[path].mem)
		for _, seq := range []uint64{12, 6} {
			for bit := offsets[seq-1] * 8; bit < offsets[seq]*8; bit++ {
				m := good.clone()
				damaged := m.names[path].mem
				damaged[bit/8] ^= 1 << (bit % 8)
				o := sometimes(t, m, bit)
				require.Equal(t, slices.DeleteFunc(count(1, 12), func(n uint64) bool { return n == seq }), o.delivered)
				if closed || seq != 12 {
					require.Equal(t, []uint64{seq}, o.lost)
					require.Equal(t, uint64(13), o.next)
				} else {
					// The last one, of which nothing is known for sure: its number is
					// not given again, and some more may be left out.
					require.GreaterOrEqual(t, o.next, uint64(13), "bit %d", bit-offsets[seq-1]*8)
					require.Equal(t, count(12, o.next-1), o.lost)
				}
				kept := m.names[o.losses[0].Quarantine]
				require.NotNil(t, kept)
				require.Equal(t, damaged[offsets[seq-1]:offsets[seq]], kept.mem, "the damaged bytes are kept")
				require.Contains(t, o.losses[0].Detail, filepath.Base(path))
			}
		}
	}
}

// Every bit of the segment's header turned over: the records are not harmed,
// unless it then says that it is no header of this version.
func TestSegmentHeaderFlipped(t *testing.T) {
	good := fixture(t, false, 4096)
	path := good.segments()[0]
	for bit := range segmentHeader * 8 {
		m := good.clone()
		m.names[path].mem[bit/8] ^= 1 << (bit % 8)
		require.Equal(t, outcome{delivered: count(1, 12), next: 13}, sometimes(t, m, bit))
	}
}

// One sector after the other unreadable for good, zeroed, or overwritten.
func TestSectorGone(t *testing.T) {
	for _, closed := range []bool{true, false} {
		good := fixture(t, closed, 4096)
		path := good.segments()[0]
		offsets := frames(t, good.names[path].mem)
		rnd := rand.New(rand.NewPCG(1, 2))
		for at := 0; at < offsets[12]; at += sectorBytes {
			for _, kind := range []string{"zeros", "junk"} {
				m := good.clone()
				b := m.names[path].mem[at : at+sectorBytes]
				for i := range b {
					b[i] = 0
					if kind == "junk" {
						b[i] = byte(rnd.Uint32())
					}
				}
				o := reopen(t, m)
				var intact []uint64
				for i := range 12 {
					if offsets[i+1] <= at || offsets[i] >= at+sectorBytes {
						intact = append(intact, uint64(i+1))
					}
				}
				require.Equal(t, intact, o.delivered, "%s at %d", kind, at)
				if closed {
					require.Equal(t, uint64(13), o.next)
				}
			}
		}
	}
}

// Junk behind the last record is no record. After a kill it might be one that
// was damaged, so numbers are left out.
func TestJunkAtTheEnd(t *testing.T) {
	for _, closed := range []bool{true, false} {
		m := fixture(t, closed, 4096)
		f := m.names[m.segments()[0]]
		end := frames(t, f.mem)[12]
		f.mem = append(f.mem[:end], strings.Repeat("junk", 30)...)
		o := reopen(t, m)
		require.Equal(t, count(1, 12), o.delivered)
		if closed {
			require.Equal(t, uint64(13), o.next)
			require.Empty(t, o.losses)
		} else {
			require.Equal(t, count(13, o.next-1), o.lost)
		}
	}
}

func TestSegmentsMissing(t *testing.T) {
	for _, closed := range []bool{true, false} {
		good := fixture(t, closed, 400) // three records each
		paths := good.segments()
		require.Len(t, paths, 4)
		for gone := range 1 << len(paths) {
			m := good.clone()
			want := outcome{lost: []uint64{}}
			for i, path := range paths {
				seqs := count(uint64(3*i+1), uint64(3*i+3))
				if gone&(1<<i) != 0 {
					delete(m.names, path)
					want.lost = append(want.lost, seqs...)
				} else {
					want.delivered = append(want.delivered, seqs...)
				}
			}
			o := reopen(t, m)
			if closed {
				require.Equal(t, want.delivered, o.delivered)
				require.Equal(t, want.lost, append([]uint64{}, o.lost...))
				require.Equal(t, uint64(13), o.next)
				continue
			}
			// There is no evidence of what was behind the last one.
			last := uint64(0)
			if len(want.delivered) > 0 {
				last = want.delivered[len(want.delivered)-1]
			}
			require.Equal(t, want.delivered, o.delivered)
			require.Equal(t, slices.DeleteFunc(want.lost, func(n uint64) bool { return n > last }), append([]uint64{}, o.lost...))
			require.Equal(t, last+1, o.next)
		}
	}
}

// A number that was delivered is not given again even if the log is gone.
func TestCursorAheadOfTheLog(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	for range 5 {
		put(t, s, event.Urgent, "x")
	}
	drain(t, s.Reader(DefaultConsumer, event.Urgent))
	require.NoError(t, s.Reader(DefaultConsumer, event.Urgent).Ack(4))
	require.NoError(t, s.Close())
	delete(m.names, m.segments()[0])
	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.Equal(t, Loss{Class: event.Urgent, First: 5, Last: 5, Count: 1, Reason: "damaged",
		Detail: "sequence 5 of the urgent log can't be read: their segment is missing"}, losses[0])
	require.Equal(t, uint64(6), put(t, s, event.Urgent, "x"))
	require.Equal(t, []uint64{6}, drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.NoError(t, s.Reader(DefaultConsumer, event.Urgent).Ack(6))
}

func TestCursorDamaged(t *testing.T) {
	make := func() *memFS {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{SegmentBytes: 400})
		for range 12 {
			put(t, s, event.Urgent, "event x")
		}
		drain(t, s.Reader(DefaultConsumer, event.Urgent))
		require.NoError(t, s.Reader(DefaultConsumer, event.Urgent).Ack(2))
		require.NoError(t, s.Close())
		s = open(t, m, "/spool", Options{SegmentBytes: 400})
		drain(t, s.Reader(DefaultConsumer, event.Urgent))
		require.NoError(t, s.Reader(DefaultConsumer, event.Urgent).Ack(8))
		require.NoError(t, s.Close())
		return m.clone()
	}
	const path = "/spool/urgent/cursor"
	good := make()
	require.Equal(t, count(9, 12), reopen(t, good.clone()).delivered)

	for name, damage := range map[string]func(m *memFS){
		"gone":  func(m *memFS) { delete(m.names, path) },
		"empty": func(m *memFS) { m.names[path].mem = nil },
		"zeros": func(m *memFS) { clear(m.names[path].mem) },
		"junk": func(m *memFS) {
			for i := range m.names[path].mem {
				m.names[path].mem[i] = byte(i)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := good.clone()
			damage(m)
			o := reopen(t, m)
			require.Equal(t, count(7, 12), o.delivered, "all that is there is delivered again")
			require.Equal(t, uint64(13), o.next)
		})
	}
	// One slot is enough; the older one means that more is delivered again.
	for bit := range len(good.names[path].mem) * 8 {
		if b := good.names[path].mem[bit/8&^7:][:8]; string(b) == strings.Repeat("\x00", 8) {
			continue
		}
		m := good.clone()
		m.names[path].mem[bit/8] ^= 1 << (bit % 8)
		o := look(t, m)
		require.Contains(t, []uint64{7, 9}, o.delivered[0])
		require.Equal(t, uint64(12), o.delivered[len(o.delivered)-1])
		require.Equal(t, uint64(13), o.next)
		require.Empty(t, o.losses)
	}
}

// One slot of the cursor is lost after segments were deleted: those are no loss.
func TestCursorSlotDamagedAfterDeletion(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 400, cursorEvery: time.Millisecond})
	for range 30 {
		put(t, s, event.Urgent, "event x")
	}
	before := len(m.clone().segments())
	drain(t, s.Reader(DefaultConsumer, event.Urgent))
	require.NoError(t, s.Reader(DefaultConsumer, event.Urgent).Ack(20))
	require.Eventually(t, func() bool { return len(m.clone().segments()) < before }, 5*time.Second, time.Millisecond)
	left := m.clone()
	for slot := range 2 {
		m := left.clone()
		clear(m.names["/spool/urgent/cursor"].mem[slot*cursorSlot:][:cursorSlot])
		o := look(t, m)
		require.Empty(t, o.losses)
		require.Equal(t, count(21, 30), o.delivered)
	}
}

// A spool that was closed in order, used again and killed, without a chance to
// say so in the cursor: what the cursor says of the end is out of date.
func TestClosedLongAgo(t *testing.T) {
	m := fixture(t, true, 8<<10)
	m.hook = func(op, path string) error {
		if strings.Contains(path, "cursor") && (op == "write" || op == "sync" || op == "rename") {
			return syscall.EIO
		}
		return nil
	}
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	require.Equal(t, uint64(13), put(t, s, event.Urgent, "x"))
	after := m.clone()
	require.Error(t, s.Close())
	require.Equal(t, outcome{delivered: count(1, 13), next: 14}, reopen(t, after))
}

// A segment of another spool, and one of another class, are not taken for ours.
func TestForeignSegment(t *testing.T) {
	other := fixture(t, true, 400)
	m := fixture(t, true, 400)
	paths := m.segments()
	m.names[paths[1]] = other.names[paths[1]]
	m.names[paths[3]] = other.names[paths[3]]
	o := reopen(t, m)
	require.Equal(t, append(count(1, 3), count(7, 9)...), o.delivered)
	require.Equal(t, append(count(4, 6), count(10, 12)...), o.lost)
	require.Equal(t, uint64(13), o.next)
	kept := 0
	for name, f := range m.names {
		if strings.HasPrefix(name, "/spool/quarantine/") && len(f.mem) > 0 {
			kept++
		}
	}
	require.Equal(t, 2, kept)
}

// A confirmed loss is not reported again, an unconfirmed one is, even when the
// cursor has passed it.
func TestLossUntilItIsRecorded(t *testing.T) {
	m := fixture(t, true, 4096)
	path := m.segments()[0]
	at := frames(t, m.names[path].mem)
	m.names[path].mem[at[3]+50] ^= 1 // 4
	m.names[path].mem[at[7]+50] ^= 1 // 8

	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	losses := s.Losses()
	require.Len(t, losses, 2)
	r := s.Reader(DefaultConsumer, event.Urgent)
	require.Equal(t, append(append(count(1, 3), count(5, 7)...), count(9, 12)...), drain(t, r))
	require.NoError(t, r.Ack(3))
	require.Equal(t, uint64(4), s.Stats().Urgent.Acked, "what is lost is not waited for")
	require.NoError(t, r.Ack(10))
	require.NoError(t, s.Close())

	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	again := s.Losses()
	require.Len(t, again, 2)
	require.Equal(t, losses[0].Quarantine, again[0].Quarantine)
	require.Equal(t, uint64(8), again[1].First)
	s.LossRecorded(again[0], 0)
	require.NoError(t, s.Close())

	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	again = s.Losses()
	require.Len(t, again, 1)
	require.Equal(t, uint64(8), again[0].First)
	s.LossRecorded(again[0], 0)
	require.NoError(t, s.Close())

	s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	require.Empty(t, s.Losses())
	require.Equal(t, count(11, 12), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
}

// Recorded before it is delivered: not reported again though it is met again.
func TestLossRecordedAheadOfDelivery(t *testing.T) {
	m := fixture(t, true, 400)
	path := m.segments()[1]
	m.names[path].mem[segmentHeader+50] ^= 1 // 4
	for i := range 3 {
		s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		require.Len(t, drain(t, s.Reader(DefaultConsumer, event.Urgent)), 11)
		losses := s.Losses()
		if i == 0 {
			require.Len(t, losses, 1)
			s.LossRecorded(losses[0], 0)
		} else {
			require.Empty(t, losses)
		}
		require.NoError(t, s.Close())
	}
}

// More damaged places than the cursor file remembers one by one.
func TestManyLosses(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 1 << 20})
	const n = 1000
	for range n {
		put(t, s, event.Urgent, "x")
	}
	require.NoError(t, s.Close())
	f := m.names[m.segments()[0]]
	at := frames(t, f.mem)
	for i := 1; i < n; i += 2 {
		f.mem[at[i]+frameHeader] ^= 1
	}
	for start := range 3 {
		s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		r := s.Reader(DefaultConsumer, event.Urgent)
		left := drain(t, r)
		losses := s.Losses()
		require.LessOrEqual(t, len(losses), maxLosses)
		var total uint64
		lost := map[uint64]bool{}
		for _, l := range losses {
			total += l.Count
			require.LessOrEqual(t, l.Count, l.Last-l.First+1)
			for _, seq := range count(l.First, l.Last) {
				lost[seq] = true
			}
		}
		for seq := uint64(2); seq <= n; seq += 2 {
			require.True(t, lost[seq], "%d", seq)
		}
		if start == 0 {
			require.Equal(t, uint64(n/2), total)
		} else {
			require.GreaterOrEqual(t, total, uint64(n/2), "some twice, none not at all")
		}
		if start < 2 {
			require.Len(t, left, n/2)
		} else {
			require.Empty(t, left, "all is delivered, and the losses are not recorded yet")
		}
		r.Rewind()
		require.Equal(t, left, drain(t, r))
		require.Empty(t, s.Losses())
		if start == 1 {
			require.NoError(t, r.Ack(n-1))
		}
		require.NoError(t, s.Close())
	}
}

// Damage while the spool is open, also in the segment that is written to.
func TestDamageWhileRunning(t *testing.T) {
	for _, reader := range []string{"before", "after"} {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		for range 5 {
			put(t, s, event.Urgent, "x")
		}
		r := s.Reader(DefaultConsumer, event.Urgent)
		if reader == "before" { // it has read what is then damaged
			drain(t, r)
			r.Rewind()
		}
		f := m.names[m.segments()[0]]
		at := frames(t, f.mem)
		f.mem[at[4]+3] ^= 1
		require.Equal(t, count(1, 4), drain(t, r))
		losses := s.Losses()
		require.Len(t, losses, 1)
		require.Equal(t, uint64(5), losses[0].First)
		require.Equal(t, uint64(6), put(t, s, event.Urgent, "x"))
		require.Equal(t, []uint64{6}, drain(t, r))

		require.NoError(t, m.Remove(m.segments()[0])) // and now all of it, which is written anew
		require.Equal(t, uint64(7), put(t, s, event.Urgent, "x"))
		r.Rewind()
		require.Equal(t, []uint64{1, 2, 3, 4, 6, 7}, drain(t, r))
		require.Empty(t, s.Losses())
		require.NoError(t, s.Close())
		s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		require.Equal(t, uint64(8), put(t, s, event.Urgent, "x"))
	}
}

// A disk that does not read: tried again for ten seconds, then given up where
// it fails and nowhere else.
func TestUnreadable(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		for _, open0 := range []bool{false, true} { // opening fails, or reading
			t.Run(fmt.Sprint("lasting=", lasting, ",open=", open0), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemFS(1)
					s := open(t, m, "/spool", Options{SegmentBytes: 32 << 10})
					for range 1000 {
						put(t, s, event.Urgent, "12345678901234567890")
					}
					require.NoError(t, s.Close())
					s = open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
					bad := m.segments()[1]
					first, limit := uint64(0), uint64(0)
					for i, path := range m.segments()[1:3] {
						g, ok := parseSegmentName(filepath.Base(path))
						require.True(t, ok)
						if i == 0 {
							first = g.first
						} else {
							limit = g.first
						}
					}
					m.readFails = func(path string, from, to int64) error {
						for _, at := range []int64{8 << 10, 20 << 10} { // two blocks
							if path == bad && from < at+4096 && to > at {
								return syscall.EIO
							}
						}
						return nil
					}
					m.hook = func(op, path string) error {
						if open0 && op == "open" && path == bad {
							return syscall.EIO
						}
						return nil
					}
					r := s.Reader(DefaultConsumer, event.Urgent)
					started := time.Now()
					var seqs []uint64
					for len(seqs) == 0 || seqs[len(seqs)-1] < 1000 {
						if !lasting && time.Since(started) > 5*time.Second {
							m.mu.Lock()
							m.readFails, m.hook = nil, nil
							m.mu.Unlock()
						}
						records, err := r.Next(100, 1<<20)
						if err != nil {
							require.ErrorIs(t, err, syscall.EIO)
							require.Empty(t, records)
							time.Sleep(time.Second)
						}
						for _, rec := range records {
							seqs = append(seqs, rec.Sequence)
						}
					}
					losses := s.Losses()
					if !lasting {
						require.Equal(t, count(1, 1000), seqs)
						require.Empty(t, losses)
						return
					}
					if open0 {
						require.WithinDuration(t, started.Add(unreadableAfter), time.Now(), 2*time.Second)
						require.Len(t, losses, 1)
						require.Equal(t, []uint64{first, limit - 1}, []uint64{losses[0].First, losses[0].Last})
						require.Len(t, seqs, 1000-int(limit-first))
						return
					}
					require.WithinDuration(t, started.Add(2*unreadableAfter), time.Now(), 3*time.Second)
					require.Len(t, losses, 2)
					for _, loss := range losses {
						require.InDelta(t, 4096/115, loss.Count, 10)
						require.Greater(t, loss.First, first)
						require.Less(t, loss.Last, limit-1)
					}
					require.Len(t, seqs, 1000-int(losses[0].Count+losses[1].Count))
				})
			})
		}
	}
}

// The newest segment can't be read at the start: nothing is given up, no number
// given again.
func TestNewestUnreadableAtOpen(t *testing.T) {
	for _, op := range []string{"open", "read"} {
		m := fixture(t, false, 4096)
		bad := m.segments()[0]
		m.hook = func(o, path string) error {
			if o == op && path == bad {
				return syscall.EIO
			}
			return nil
		}
		s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
		require.Empty(t, s.Losses())
		next := put(t, s, event.Urgent, "x")
		require.Greater(t, next, uint64(12))
		m.setHook(nil) // it was the cable
		require.Equal(t, append(count(1, 12), next), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
		losses := s.Losses()
		require.Len(t, losses, 1)
		require.Equal(t, []uint64{13, next - 1}, []uint64{losses[0].First, losses[0].Last})
	}
}

// When there is no room for a copy of damaged bytes, the segment itself goes to
// quarantine instead of being deleted.
func TestNoRoomForTheCopy(t *testing.T) {
	m := fixture(t, true, 400)
	bad := m.segments()[1]
	m.names[bad].mem[segmentHeader+50] ^= 1
	m.hook = func(op, path string) error {
		if op == "write" && strings.HasPrefix(path, "/spool/quarantine") {
			return syscall.ENOSPC
		}
		return nil
	}
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10})
	r := s.Reader(DefaultConsumer, event.Urgent)
	drain(t, r)
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.Empty(t, losses[0].Quarantine)
	require.Contains(t, losses[0].Detail, "no copy could be made")
	require.NoError(t, r.Ack(12))
	require.NoError(t, s.Close())
	require.Len(t, m.segments(), 1)
	require.NotNil(t, m.names["/spool/quarantine/urgent-"+filepath.Base(bad)])
}

// The same at the end of the newest segment: what is lost is not cut off.
func TestNoRoomForTheCopyOfTheTail(t *testing.T) {
	m := fixture(t, true, 8<<10)
	f := m.names[m.segments()[0]]
	f.mem[len(f.mem)-1] ^= 1
	damaged := slices.Clone(f.mem)
	m.hook = func(op, path string) error {
		if op == "write" && strings.HasPrefix(path, "/spool/quarantine") {
			return syscall.ENOSPC
		}
		return nil
	}
	s := open(t, m, "/spool", Options{})
	require.Len(t, s.Losses(), 1)
	require.NoError(t, s.Close())
	require.Equal(t, damaged, f.mem)
}

// What a start reads does not grow with the backlog.
func TestStartReadsOneSegment(t *testing.T) {
	const segmentBytes = 64 << 10
	for _, n := range []int{2_000, 40_000} {
		fs := &benchFS{FS: osFS{}}
		dir := t.TempDir()
		s := open(t, fs, dir, Options{SegmentBytes: segmentBytes})
		fill(t, s, event.Routine, n, 100)
		require.NoError(t, s.Close())
		names, err := filepath.Glob(filepath.Join(dir, "routine", "*.seg"))
		require.NoError(t, err)
		fs.read.Store(0)
		s = open(t, fs, dir, Options{SegmentBytes: segmentBytes})
		records, err := s.Reader(DefaultConsumer, event.Routine).Next(1, 0)
		require.NoError(t, err)
		require.Equal(t, uint64(1), records[0].Sequence)
		require.Equal(t, uint64(n), s.Stats().Routine.Backlog)
		t.Logf("%d events in %d segments: %d bytes read", n, len(names), fs.read.Load())
		require.Less(t, fs.read.Load(), int64(3*segmentBytes+chunkBytes))
	}
}

// Names that are no segments of ours are left alone.
func TestStrangeNames(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{})
	put(t, s, event.Urgent, "x")
	require.NoError(t, s.Close())
	strange := []string{"notes.txt", "x.seg", "00000000000000000000-0000000001.seg", "99999999999999999999-0000000001.seg",
		"18446744073709551615-0000000009.seg", "0000000000000000001-00000000001.seg", "-.seg"}
	for _, name := range strange {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "urgent", name), []byte("x"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "urgent", "00000000000000000007-0000000007.seg"), 0o700))
	s = open(t, nil, dir, Options{})
	require.Equal(t, uint64(2), put(t, s, event.Urgent, "x"))
	require.Equal(t, count(1, 2), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.Empty(t, s.Losses())
	for _, name := range strange {
		require.FileExists(t, filepath.Join(dir, "urgent", name))
	}
}

// FuzzOpen puts any bytes in the place of a segment and a cursor. It starts,
// works, and comes to the same at the next start.
func FuzzOpen(f *testing.F) {
	var log []byte
	log = appendSegmentHeader(log, segmentInfo{class: 1, id: spoolID{1}, first: 7, gen: 2})
	for i := range 5 {
		log = appendFrame(log, 1, uint64(7+i), day, "t", []byte("payload"))
	}
	cursor := make([]byte, 2*cursorSlot)
	copy(cursor, appendCursor(nil, 1, cursorState{id: spoolID{1}, acked: 8, head: 20, gen: 2, losses: []knownLoss{{15, 16, 2, true, damaged, 0}}}))
	f.Add(log, cursor)
	f.Add(append(slices.Clone(log), make([]byte, 100)...), []byte{})
	f.Add(log[:200], cursor[:100])
	f.Add([]byte{}, cursor)
	f.Fuzz(func(t *testing.T, segment, cursor []byte) {
		m := newMemFS(1)
		for name, b := range map[string][]byte{
			"/spool/urgent/00000000000000000007-0000000002.seg": segment,
			"/spool/urgent/cursor":                              cursor,
		} {
			file := &memFile{mem: slices.Clone(b), disk: slices.Clone(b), dirty: map[int64]bool{}}
			m.names[name], m.durable[name] = file, file
		}
		var before []Record
		for range 2 {
			s := open(t, m, "/spool", Options{SegmentBytes: 4096})
			seq, err := add(s, event.Urgent, "x")
			require.NoError(t, err)
			records, err := s.Reader(DefaultConsumer, event.Urgent).Next(1<<20, 1<<30)
			require.NoError(t, err)
			require.Equal(t, seq, records[len(records)-1].Sequence)
			require.Equal(t, before, append([]Record(nil), records[:len(before)]...))
			before = records
			require.NoError(t, s.Close())
		}
	})
}
