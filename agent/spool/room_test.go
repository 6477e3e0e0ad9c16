package spool

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pour appends n records of about 200 bytes.
func pour(t *testing.T, s *Spool, class event.Class, n int) {
	t.Helper()
	for range n {
		_, err := addNow(s, class)
		require.NoError(t, err)
	}
}

func addNow(s *Spool, class event.Class) (uint64, error) {
	text := strings.Repeat("x", 100)
	return s.Append(ctx, class, time.Now(), "lanepost/v1/x/"+text, func(seq uint64, _ event.Hash) ([]byte, error) {
		return fmt.Appendf(nil, "%d %s", seq, text), nil
	})
}

// The routine class stays below its cap. What had to go is one loss, durable
// until it is recorded, and all consumers pass over it.
func TestRoutineCapEvictsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		o := Options{Consumers: two, Routine: Caps{MaxBytes: 16 << 10}}
		s := open(t, m, "/spool", o)
		began := time.Now().UTC()
		pour(t, s, event.Routine, 5)
		alarm, national := s.Reader("alarm", event.Routine), s.Reader("national", event.Routine)
		records, err := alarm.Next(3, 1<<20)
		require.NoError(t, err)
		require.NoError(t, alarm.Ack(records[2].Sequence))
		pour(t, s, event.Routine, 295)
		st := s.Stats()
		require.LessOrEqual(t, st.Routine.Bytes, int64(16<<10))
		require.Greater(t, st.Routine.Bytes, int64(12<<10), "no more than an eighth goes at a time")
		require.Equal(t, "routine cap", st.Pressure)
		losses := s.Losses()
		require.Len(t, losses, 1, "neighbours are one")
		loss := losses[0]
		require.Equal(t, "evicted", loss.Reason)
		require.Equal(t, uint64(1), loss.First)
		require.Equal(t, loss.Last, loss.Count)
		require.Equal(t, fmt.Sprintf("sequences 1 to %d of the routine log deleted to make room: routine events may take 16384 bytes; recorded from %s to %[2]s",
			loss.Last, began.Format(time.RFC3339)), loss.Detail)
		require.Empty(t, s.Losses())
		require.Equal(t, count(loss.Last+1, 300), drain(t, national))
		require.Equal(t, count(loss.Last+1, 300), drain(t, alarm))
		require.Empty(t, s.Losses(), "it is no news to the readers")

		// Others follow, which are not reported together with one that was taken.
		pour(t, s, event.Routine, 100)
		next := s.Losses()
		require.Len(t, next, 1)
		require.Equal(t, loss.Last+1, next[0].First)
		s.LossRecorded(next[0], 0)
		later(syncEvery + 2*cursorEvery)

		// It is there again after a power cut, until it is recorded.
		m = m.powerCut()
		s = open(t, m, "/spool", o)
		again := s.Losses()
		require.Len(t, again, 1)
		require.Equal(t, []any{loss.First, loss.Last, loss.Count, "evicted"}, []any{again[0].First, again[0].Last, again[0].Count, again[0].Reason})
		require.Contains(t, again[0].Detail, "deleted to make room before the last start")
		s.LossRecorded(again[0], 0)
		require.Equal(t, count(next[0].Last+1, 400), drain(t, s.Reader("national", event.Routine)))
		require.NoError(t, s.Close())
		s = open(t, m.clone(), "/spool", o)
		require.Empty(t, s.Losses())
	})
}

// What is delivered goes without a loss.
func TestCapWithoutALoss(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{Routine: Caps{MaxBytes: 16 << 10}, Urgent: Caps{MaxBytes: 16 << 10}})
	for _, class := range event.Classes {
		r := s.Reader(DefaultConsumer, class)
		for range 40 {
			pour(t, s, class, 10)
			require.NoError(t, r.Ack(drain(t, r)[9]))
		}
	}
	require.Empty(t, s.Losses())
	require.Empty(t, s.Stats().Pressure)
}

// Nobody reads, and the spool does not fill the disk.
func TestNobodyReads(t *testing.T) {
	s := open(t, newMemFS(1), "/spool", Options{Consumers: []string{}, Routine: Caps{MaxBytes: 16 << 10}})
	pour(t, s, event.Routine, 500)
	require.LessOrEqual(t, s.Stats().Routine.Bytes, int64(16<<10))
	require.Len(t, s.Losses(), 1)
}

// Urgent events are refused at their cap, and nothing of them is evicted.
func TestUrgentCapRefuses(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{Urgent: Caps{MaxBytes: 16 << 10, MaxAge: time.Nanosecond}})
	var stored uint64
	for {
		seq, err := addNow(s, event.Urgent)
		if err != nil {
			require.ErrorIs(t, err, ErrFull)
			require.ErrorContains(t, err, "urgent events may take 16384 bytes")
			require.Contains(t, Hint(err), "bring it back")
			break
		}
		stored = seq
	}
	require.Greater(t, stored, uint64(50))
	require.Equal(t, "urgent cap", s.Stats().Pressure)
	require.LessOrEqual(t, s.Stats().Urgent.Bytes, int64(16<<10))
	r := s.Reader(DefaultConsumer, event.Urgent)
	require.Equal(t, count(1, stored), drain(t, r))
	pour(t, s, event.Routine, 5)
	require.NoError(t, r.Ack(stored))
	seq, err := addNow(s, event.Urgent)
	require.NoError(t, err, "at once")
	require.Equal(t, stored+1, seq)
	require.Empty(t, s.Losses())
	require.Empty(t, s.Stats().Pressure)
}

func TestRoutineGetsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		o := Options{Routine: Caps{MaxAge: 8 * time.Hour}}
		s := open(t, m, "/spool", o)
		for range 16 { // one each half an hour
			pour(t, s, event.Routine, 1)
			pour(t, s, event.Urgent, 1)
			later(30 * time.Minute)
		}
		require.Empty(t, s.Losses())
		require.NoError(t, s.Close())
		s = open(t, m.clone(), "/spool", o) // ages are known after a restart
		later(4 * time.Hour)
		losses := s.Losses()
		require.Len(t, losses, 1)
		require.Equal(t, uint64(1), losses[0].First)
		require.InDelta(t, 7, losses[0].Last, 2)
		require.Contains(t, losses[0].Detail, "routine events are kept for 8h0m0s")
		later(100 * time.Hour)
		require.Positive(t, s.Stats().Routine.Backlog, "the newest segment stays")
		require.Equal(t, count(1, 16), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	})
}

// On a full disk urgent events get all that there is.
func TestDiskFullMakesRoomForUrgent(t *testing.T) {
	for _, noAlloc := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemFS(1)
			m.capacity, m.noAlloc = 512<<10, noAlloc
			s := open(t, m, "/spool", Options{SegmentBytes: 16 << 10, MinFree: MinFree{Bytes: 50 << 10}})
			later(lookEvery)
			pour(t, s, event.Routine, 2500)
			require.GreaterOrEqual(t, m.capacity-m.used(), int64(50<<10), "routine events leave the share free")
			require.Equal(t, m.capacity-m.used(), s.look().free)
			before := s.Losses()
			require.Len(t, before, 1)
			require.Contains(t, before[0].Detail, "less free space")
			s.LossRecorded(before[0], 0)

			// Urgent events get the room of the routine ones, then the free share,
			// then the reserve.
			var stored uint64
			for {
				seq, err := addNow(s, event.Urgent)
				if err != nil {
					require.ErrorIs(t, err, ErrFull)
					require.ErrorIs(t, err, syscall.ENOSPC)
					break
				}
				stored = seq
			}
			require.Greater(t, s.Stats().Urgent.Bytes, m.capacity*8/10)
			require.NotContains(t, m.names, "/spool/reserve")
			later(lookEvery)
			require.Equal(t, "disk", s.Stats().Pressure)
			require.Less(t, s.Stats().Free, int64(1000))
			after := s.Losses()
			require.Len(t, after, 1)
			require.Equal(t, before[0].Last+1, after[0].First)
			left := drain(t, s.Reader(DefaultConsumer, event.Routine))
			require.Equal(t, count(after[0].Last+1, 2500), left)

			// And all returns to normal by itself.
			r := s.Reader(DefaultConsumer, event.Urgent)
			require.Equal(t, count(1, stored), drain(t, r))
			require.NoError(t, r.Ack(stored))
			pour(t, s, event.Urgent, 1)
			later(2 * lookEvery)
			require.Empty(t, s.Stats().Pressure)
			require.Contains(t, m.names, "/spool/reserve")
			pour(t, s, event.Routine, 10)
			require.Empty(t, s.Losses())
		})
	}
}

// Another program has taken the disk: routine events give as much as they take,
// and none are refused.
func TestOthersFillTheDisk(t *testing.T) {
	m := newMemFS(1)
	m.capacity = 1 << 20
	s := open(t, m, "/spool", Options{SegmentBytes: 16 << 10, MinFree: MinFree{Share: 0.5}})
	pour(t, s, event.Routine, 500)
	hog, err := m.OpenFile("/hog", 0o102)
	require.NoError(t, err)
	require.NoError(t, hog.Allocate(m.capacity/2))
	used := m.used()
	bytes := s.Stats().Routine.Bytes
	pour(t, s, event.Routine, 1000)
	require.LessOrEqual(t, m.used(), used+16<<10)
	require.Greater(t, s.Stats().Routine.Bytes, bytes/2)
	require.Len(t, s.Losses(), 1)
	require.Equal(t, "disk", s.Stats().Pressure)
}

// An error that says full while there is room does not cost any event.
func TestFullThatIsNot(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 2048})
	pour(t, s, event.Routine, 100)
	m.hook = func(op, path string) error {
		if op == "fallocate" {
			return syscall.ENOSPC
		}
		return nil
	}
	var err error
	for range 100 {
		if _, err = addNow(s, event.Urgent); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrFull)
	require.Equal(t, count(1, 100), drain(t, s.Reader(DefaultConsumer, event.Routine)))
	require.Empty(t, s.Losses())
}

func TestMinFree(t *testing.T) {
	for _, c := range []struct {
		min         MinFree
		total, want int64
	}{
		{MinFree{}, 10 << 30, 10 << 30 / 20},
		{MinFree{}, 1 << 40, 1 << 30},
		{MinFree{Share: 0.1}, 1 << 40, 1 << 40 / 10},
		{MinFree{Bytes: 5}, 1 << 40, 5},
		{MinFree{Share: 0.1, Bytes: 7}, 100, 7},
		{MinFree{Share: 0.1, Bytes: 70}, 100, 10},
		{MinFree{Bytes: -1}, 100, 0},
		{MinFree{Share: -1}, 100, 0},
	} {
		require.Equal(t, c.want, c.min.Floor(c.total), "%v", c)
	}
}
