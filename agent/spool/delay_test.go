package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestCommitDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{CommitDelay: 50 * time.Millisecond, MaxBatch: 5})
		synctest.Wait()
		began := time.Now()
		var done []time.Duration
		results := make(chan time.Duration, 10)
		add := func(class event.Class) {
			go func() {
				if _, err := add(s, class, "x"); err != nil {
					t.Error(err)
				}
				results <- time.Since(began)
			}()
		}
		add(event.Routine)
		later(20 * time.Millisecond)
		syncs := m.syncCount()
		add(event.Urgent)
		require.Equal(t, 20*time.Millisecond, <-results, "urgent events don't wait")
		add(event.Routine)
		later(10 * time.Millisecond)
		add(event.Routine)
		for range 3 {
			done = append(done, <-results)
		}
		require.Equal(t, []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}, done)
		require.LessOrEqual(t, m.syncCount()-syncs, 10)

		// A full batch goes at once, and so does what waits at the end.
		began = time.Now()
		for range 5 {
			add(event.Routine)
		}
		for range 5 {
			require.Zero(t, <-results)
		}
		add(event.Routine)
		synctest.Wait()
		require.NoError(t, s.Close())
		require.Zero(t, <-results)
		require.Equal(t, uint64(9), s.Stats().Routine.Head)
	})
	s := open(t, newMemFS(1), "/spool", Options{CommitDelay: time.Hour})
	require.Equal(t, 100*time.Millisecond, s.commitDelay)
}
