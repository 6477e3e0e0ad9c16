package spool

import (
	"os"
	"path/filepath"
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
		first := s.classLog(event.Urgent).segments
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
		s.LossRecorded(losses[0])
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
