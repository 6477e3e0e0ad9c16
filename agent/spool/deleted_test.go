package spool

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// deleteFiles deletes the files of both classes whose names fit.
func deleteFiles(t *testing.T, dir, pattern string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*", pattern))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.NoError(t, os.Remove(name))
	}
}

// killed leaves a spool as SIGKILL does, and opens a copy of it.
func killed(t *testing.T, dir string, o Options) *Spool {
	t.Helper()
	next := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.CopyFS(next, os.DirFS(dir)))
	return open(t, nil, next, o)
}

// Somebody deletes the segments that are written to: they are written anew from what is
// open, at the next event or within two seconds, and nothing is lost.
func TestDeletedActiveSegmentsAreRescued(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the files", "the directories", "at an event"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "spool")
				s := open(t, nil, dir, Options{})
				for range 5 {
					put(t, s, event.Urgent, "u")
					put(t, s, event.Routine, "r")
				}
				require.Zero(t, s.Stats().Deleted)
				if how == "the directories" {
					require.NoError(t, os.RemoveAll(filepath.Join(dir, "urgent")))
					require.NoError(t, os.RemoveAll(filepath.Join(dir, "routine")))
				} else {
					deleteFiles(t, dir, "*.seg")
				}
				if how != "at an event" {
					time.Sleep(2 * time.Second)
					synctest.Wait()
					require.NotZero(t, s.Stats().Deleted)
				}
				put(t, s, event.Urgent, "u")
				put(t, s, event.Routine, "r")
				n := killed(t, dir, Options{})
				for _, o := range []*Spool{s, n} {
					require.Equal(t, count(1, 6), drain(t, o.Reader(DefaultConsumer, event.Urgent)))
					require.Equal(t, count(1, 6), drain(t, o.Reader(DefaultConsumer, event.Routine)))
					require.Empty(t, o.Losses())
				}
				require.NoError(t, n.Close())
				require.NoError(t, s.Close())
			})
		})
	}
}

// A reader that comes to a deleted segment before it is rescued waits for that.
func TestReaderWaitsForTheRescue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		s := open(t, nil, dir, Options{})
		put(t, s, event.Urgent, "u")
		deleteFiles(t, dir, "*.seg")
		_, err := s.Reader(DefaultConsumer, event.Urgent).Next(1, 1)
		require.ErrorIs(t, err, os.ErrNotExist)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, count(1, 1), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
		require.Empty(t, s.Losses())
		require.NoError(t, s.Close())
	})
}

// Segments that nothing has open can't be rescued. What they held is one loss, told
// once, and again after a kill as long as it is not recorded.
func TestDeletedSealedSegmentsAreOneLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		o := Options{SegmentBytes: 512}
		s := open(t, nil, dir, o)
		for range 30 {
			put(t, s, event.Urgent, "u")
		}
		first, _ := segmentsOf(s, event.Urgent)
		require.Greater(t, len(first), 3)
		active := first[len(first)-1].first
		deleteFiles(t, dir, "*.seg")
		time.Sleep(listEvery + 2*time.Second)
		synctest.Wait()
		losses := s.Losses()
		require.Len(t, losses, 1)
		require.Equal(t, [3]uint64{1, active - 1, active - 1}, [3]uint64{losses[0].First, losses[0].Last, losses[0].Count})
		require.NotZero(t, s.Stats().Deleted)
		require.Equal(t, count(active, 30), drain(t, s.Reader(DefaultConsumer, event.Urgent)))

		n := killed(t, dir, o)
		again := n.Losses()
		require.Len(t, again, 1)
		require.Equal(t, losses[0].Last, again[0].Last)
		require.NoError(t, n.Close())

		// Recording the loss makes no further one.
		s.LossRecorded(losses[0], 0)
		put(t, s, event.Urgent, "loss")
		time.Sleep(3 * listEvery)
		synctest.Wait()
		require.Empty(t, s.Losses())
		require.NoError(t, s.Close())
	})
}

// A cursor that somebody deletes is written anew.
func TestDeletedCursorIsWrittenAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		s := open(t, nil, dir, Options{})
		for range 5 {
			put(t, s, event.Urgent, "u")
		}
		time.Sleep(time.Second)
		deleteFiles(t, dir, "cursor")
		r := s.Reader(DefaultConsumer, event.Urgent)
		drain(t, r)
		require.NoError(t, r.Ack(4))
		time.Sleep(time.Second)
		synctest.Wait()
		n := killed(t, dir, Options{})
		require.Equal(t, count(5, 5), drain(t, n.Reader(DefaultConsumer, event.Urgent)))
		require.NoError(t, n.Close())
		require.NoError(t, s.Close())
	})
}

// What was evicted does not count as delivered, also once the loss is recorded and behind
// the cursor; nor do segments that are gone.
func TestLostIsNotDelivered(t *testing.T) {
	t.Parallel()
	m := newMemFS(1)
	o := Options{SegmentBytes: 512, Routine: Caps{MaxBytes: 4096}}
	s := open(t, m, "/spool", o)
	for range 10 {
		put(t, s, event.Urgent, "u")
	}
	for range 200 {
		put(t, s, event.Routine, "r")
		for _, loss := range s.Losses() {
			s.LossRecorded(loss, 1)
		}
	}
	inspect := func() ClassInspection {
		i, err := Inspect("/spool", InspectOptions{FS: m})
		require.NoError(t, err)
		for _, c := range i.Classes {
			require.Equal(t, c.Stats.Head, c.Delivered+c.Lost+c.Waiting)
		}
		return i.Classes[1]
	}
	require.NoError(t, s.Close())
	c := inspect()
	require.Zero(t, c.Delivered)
	require.Equal(t, c.First-1, c.Lost)
	require.NotEmpty(t, c.Losses)
	require.True(t, c.Losses[0].Reported)

	s = open(t, m, "/spool", o)
	r := s.Reader(DefaultConsumer, event.Routine)
	for { // in pieces, which moves the cursor over all
		records, err := r.Next(20, 1<<20)
		require.NoError(t, err)
		if len(records) == 0 {
			break
		}
		require.NoError(t, r.Ack(records[len(records)-1].Sequence))
	}
	require.NoError(t, s.Close())
	lost := c.Lost
	c = inspect()
	require.Equal(t, []uint64{200 - lost, lost, 0}, []uint64{c.Delivered, c.Lost, c.Waiting})

	for _, name := range m.segments() {
		require.NoError(t, m.Remove(name))
	}
	i, err := Inspect("/spool", InspectOptions{FS: m})
	require.NoError(t, err)
	u := i.Classes[0]
	require.Equal(t, []uint64{0, 10, 0}, []uint64{u.Delivered, u.Lost, u.Waiting})
}

// segmentsOf are the segments of a class now, and up to which event it is delivered or gone.
func segmentsOf(s *Spool, class event.Class) (list []segment, acked uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.classLog(class)
	return slices.Clone(l.segments), l.acked
}

// A loss whose event is lost itself is reported again, at once and after a start.
func TestLossOfALossIsToldAgain(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			o := Options{SegmentBytes: 512, Routine: Caps{MaxBytes: 4096}}
			s := open(t, nil, dir, o)
			for segments, acked := segmentsOf(s, event.Routine); len(segments) < 2 || acked == 0; segments, acked = segmentsOf(s, event.Routine) {
				put(t, s, event.Routine, "r")
			}
			evicted := s.Losses()
			require.Len(t, evicted, 1)
			s.LossRecorded(evicted[0], put(t, s, event.Urgent, "the loss"))
			for segments, _ := segmentsOf(s, event.Urgent); len(segments) < 3; segments, _ = segmentsOf(s, event.Urgent) {
				put(t, s, event.Urgent, "u")
			}
			require.Empty(t, s.Losses())
			if restart {
				require.NoError(t, s.Close())
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "urgent", "00000000000000000001-0000000001.seg")))
			if restart {
				s = open(t, nil, dir, o)
			} else {
				time.Sleep(2 * listEvery)
				synctest.Wait()
			}
			losses := s.Losses()
			require.Len(t, losses, 2)
			require.Equal(t, event.Urgent, losses[0].Class)
			require.Equal(t, []uint64{evicted[0].First, evicted[0].Last}, []uint64{losses[1].First, losses[1].Last})
			require.Equal(t, "evicted", losses[1].Reason)
			require.NoError(t, s.Close())
		})
	}
}

// Somebody deletes the lock file: a second process is refused all the same, before it
// changes anything.
func TestDeletedLockStillLocks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, nil, dir, Options{})
	put(t, s, event.Urgent, "u")
	require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
	_, err := Open(dir, Options{})
	require.ErrorIs(t, err, ErrLocked)
	_, err = Requeue(dir, event.Urgent, "", 1, nil)
	require.ErrorIs(t, err, ErrLocked)
	require.Equal(t, uint64(2), put(t, s, event.Urgent, "u"))
	require.NoError(t, s.Close())
	s = open(t, nil, dir, Options{})
	require.Equal(t, count(1, 2), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
}

// A record that is written while a look goes over the zeros behind it is not lost.
func TestLookDuringAWrite(t *testing.T) {
	t.Parallel()
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 1 << 20})
	for range 3 {
		put(t, s, event.Urgent, "u")
	}
	f := m.names[m.segments()[0]]
	m.mu.Lock()
	last := frames(t, f.mem)[2]
	written := slices.Clone(f.mem[last:chunkBytes])
	clear(f.mem[last:chunkBytes])
	m.readFails = func(_ string, from, _ int64) error {
		if from >= chunkBytes {
			copy(f.mem[last:], written)
		}
		return nil
	}
	m.mu.Unlock()
	i, err := Inspect("/spool", InspectOptions{FS: m})
	require.NoError(t, err)
	require.Zero(t, i.Classes[0].Lost)
	require.Equal(t, uint64(3), i.Classes[0].Waiting)
}

// On a disk that is nearly full, what is rescued takes no more than it is.
func TestRescueOnAFullDisk(t *testing.T) {
	t.Parallel()
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 256 << 10, Reserve: -1})
	put(t, s, event.Urgent, "u")
	m.mu.Lock()
	m.capacity = m.used() - 200<<10 // the deleted file counts no more here
	m.mu.Unlock()
	require.NoError(t, m.Remove(m.segments()[0]))
	_, _ = add(s, event.Urgent, "u") // which may find no room
	require.Contains(t, drain(t, s.Reader(DefaultConsumer, event.Urgent)), uint64(1))
	require.Empty(t, s.Losses())
}

// Where room can't be allocated, a segment takes more than one batch all the same.
func TestSegmentsWithoutAllocate(t *testing.T) {
	t.Parallel()
	m := newMemFS(1)
	m.noAlloc = true
	s := open(t, m, "/spool", Options{})
	for range 5 {
		put(t, s, event.Urgent, "u")
	}
	require.Len(t, m.segments(), 1)
}
