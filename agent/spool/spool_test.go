package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var ctx = context.Background()

var day = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func open(t testing.TB, fs FS, dir string, o Options) *Spool {
	t.Helper()
	o.FS = fs
	s, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put appends a record that says its own number and returns that.
func put(t testing.TB, s *Spool, class event.Class, text string) uint64 {
	t.Helper()
	seq, err := add(s, class, text)
	require.NoError(t, err)
	return seq
}

func add(s *Spool, class event.Class, text string) (uint64, error) {
	return s.Append(ctx, class, day, "lanepost/v1/x/"+text, func(seq uint64, _ event.Hash) ([]byte, error) {
		return fmt.Appendf(nil, "%d %s", seq, text), nil
	})
}

// drain reads all that there is and checks that each record is what put made.
func drain(t testing.TB, r *Reader) []uint64 {
	t.Helper()
	var seqs []uint64
	for {
		records, err := r.Next(100, 1<<20)
		require.NoError(t, err)
		if len(records) == 0 {
			return seqs
		}
		for _, rec := range records {
			text := strings.TrimPrefix(rec.Topic, "lanepost/v1/x/")
			require.Equal(t, fmt.Sprintf("%d %s", rec.Sequence, text), string(rec.Payload))
			require.Equal(t, r.log.class, rec.Class)
			if len(seqs) > 0 {
				require.Greater(t, rec.Sequence, seqs[len(seqs)-1])
			}
			seqs = append(seqs, rec.Sequence)
		}
	}
}

func count(from, to uint64) []uint64 {
	var seqs []uint64
	for ; from <= to; from++ {
		seqs = append(seqs, from)
	}
	return seqs
}

func TestRecordComesBackAsItWas(t *testing.T) {
	s := open(t, nil, t.TempDir(), Options{})
	changed := s.Changed()
	payload := []byte("{\"a\":\x00\xf7\xffLP\"}")
	zone := time.FixedZone("", 3600)
	seq, err := s.Append(ctx, event.Urgent, day.In(zone), "a/b", func(seq uint64, _ event.Hash) ([]byte, error) {
		require.Equal(t, uint64(1), seq)
		return payload, nil
	})
	require.NoError(t, err)
	require.Equal(t, uint64(1), seq)
	<-changed
	records, err := s.Reader(DefaultConsumer, event.Urgent).Next(10, 1000)
	require.NoError(t, err)
	require.Equal(t, []Record{{event.Urgent, 1, day, "a/b", payload}}, records)
	records, err = s.Reader(DefaultConsumer, event.Urgent).Next(10, 1000)
	require.NoError(t, err)
	require.Empty(t, records)
	records, err = s.Reader(DefaultConsumer, event.Routine).Next(10, 1000)
	require.NoError(t, err)
	require.Empty(t, records, "the other class is another log")
	require.Same(t, s.Reader(DefaultConsumer, event.Urgent), s.Reader(DefaultConsumer, event.Urgent))
}

func TestClassesCountApart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{})
	require.Equal(t, uint64(1), put(t, s, event.Urgent, "u"))
	require.Equal(t, uint64(1), put(t, s, event.Routine, "r"))
	require.Equal(t, uint64(2), put(t, s, event.Routine, "r"))
	require.NoError(t, s.Close())
	s = open(t, nil, dir, Options{})
	require.Equal(t, uint64(2), put(t, s, event.Urgent, "u"))
	require.Equal(t, uint64(3), put(t, s, event.Routine, "r"))
	require.Equal(t, count(1, 2), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.Equal(t, count(1, 3), drain(t, s.Reader(DefaultConsumer, event.Routine)))
}

func TestNextStopsAtItsLimits(t *testing.T) {
	s := open(t, nil, t.TempDir(), Options{})
	for range 5 {
		_, err := s.Append(ctx, event.Urgent, day, "12345", func(uint64, event.Hash) ([]byte, error) { return []byte("12345"), nil })
		require.NoError(t, err)
	}
	r := s.Reader(DefaultConsumer, event.Urgent)
	for _, c := range []struct{ records, bytes, want int }{
		{2, 1000, 2}, {10, 20, 2}, {10, 19, 1}, {10, 0, 1}, {0, -1, 1}, {10, 29, 2}, {10, 30, 3}, {3, 1000, 3}, {10, math.MaxInt, 5},
	} {
		r.Rewind()
		records, err := r.Next(c.records, c.bytes)
		require.NoError(t, err)
		require.Len(t, records, c.want, "%v", c)
	}
}

func TestAckMovesTheCursorOverARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{})
	for range 5 {
		put(t, s, event.Routine, "x")
	}
	r := s.Reader(DefaultConsumer, event.Routine)
	require.ErrorContains(t, r.Ack(1), "of which 0 is the last that was read")
	require.Len(t, drain(t, r), 5)
	require.NoError(t, r.Ack(3))
	require.NoError(t, r.Ack(2), "a lower number changes nothing")
	require.ErrorContains(t, r.Ack(6), "of which 5")
	r.Rewind()
	require.Equal(t, count(4, 5), drain(t, r))
	r.Rewind()
	require.NoError(t, r.Ack(4), "acknowledgements of what was read before Rewind count")
	require.Equal(t, count(5, 5), drain(t, r))
	require.NoError(t, s.Close())
	require.ErrorIs(t, r.Ack(5), ErrClosed)
	_, err := r.Next(1, 1)
	require.ErrorIs(t, err, ErrClosed)

	s = open(t, nil, dir, Options{})
	st := s.Stats().Routine
	require.Equal(t, ClassStats{
		Head: 5, Acked: 4, Backlog: 1, Bytes: st.Bytes, MaxBytes: st.MaxBytes, OldestUnacked: day,
		Consumers: []ConsumerStats{{Name: "mqtt", Acked: 4, Backlog: 1, OldestUnacked: day}},
	}, st)
	require.Equal(t, count(5, 5), drain(t, s.Reader(DefaultConsumer, event.Routine)))
	require.Equal(t, uint64(6), put(t, s, event.Routine, "x"))
	require.Empty(t, s.Losses())
}

func TestStats(t *testing.T) {
	s := open(t, nil, t.TempDir(), Options{SegmentBytes: 4096})
	none := func(most int64) ClassStats {
		return ClassStats{MaxBytes: most, Consumers: []ConsumerStats{{Name: "mqtt"}}}
	}
	first := s.Stats()
	require.Positive(t, first.Free)
	require.GreaterOrEqual(t, first.Total, first.Free)
	first.Free, first.Total, first.Pressure = 0, 0, ""
	require.Equal(t, Stats{Urgent: none(defaultUrgentBytes), Routine: none(defaultRoutineBytes)}, first)
	for i := range 100 {
		_, err := s.Append(ctx, event.Urgent, day.Add(time.Duration(i)*time.Second), "t", func(uint64, event.Hash) ([]byte, error) { return make([]byte, 100), nil })
		require.NoError(t, err)
	}
	st := s.Stats().Urgent
	require.Equal(t, uint64(100), st.Backlog)
	require.Equal(t, day, st.OldestUnacked)
	require.InDelta(t, 145*100, st.Bytes, 5000)
	r := s.Reader(DefaultConsumer, event.Urgent)
	for i := range 100 {
		_, err := r.Next(1, 0)
		require.NoError(t, err)
		require.NoError(t, r.Ack(uint64(i+1)))
		st := s.Stats().Urgent
		require.Equal(t, uint64(99-i), st.Backlog)
		if i < 99 {
			require.Equal(t, day.Add(time.Duration(i+1)*time.Second), st.OldestUnacked)
		} else {
			require.Zero(t, st.OldestUnacked)
		}
	}
}

func TestSpaceIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{SegmentBytes: 4096})
	for range 200 {
		put(t, s, event.Urgent, strings.Repeat("x", 100))
	}
	files := func() int {
		names, err := filepath.Glob(filepath.Join(dir, "urgent", "*.seg"))
		require.NoError(t, err)
		return len(names)
	}
	require.Greater(t, files(), 10)
	r := s.Reader(DefaultConsumer, event.Urgent)
	drain(t, r)
	require.NoError(t, r.Ack(200))
	require.NoError(t, s.Close())
	require.Equal(t, 1, files(), "the newest stays")
	s = open(t, nil, dir, Options{SegmentBytes: 4096})
	require.Equal(t, uint64(201), put(t, s, event.Urgent, "x"))
	require.NoError(t, s.Close())
	require.Equal(t, 1, files())
	info, err := os.Stat(filepath.Join(dir, "urgent"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestCursorFollowsInBoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{SegmentBytes: 1000})
		for range 50 {
			put(t, s, event.Urgent, strings.Repeat("x", 100))
		}
		r := s.Reader(DefaultConsumer, event.Urgent)
		drain(t, r)
		require.NoError(t, r.Ack(20))
		time.Sleep(cursorEvery + time.Millisecond)
		synctest.Wait()
		require.Equal(t, uint64(20), acked(t, m.clone()), "a kill after 200 ms loses no acknowledgement")
		files := m.clone()
		list, err := files.ReadDir("/spool/urgent")
		require.NoError(t, err)
		require.Less(t, len(list), 45, "and space is given back by then")

		put(t, s, event.Urgent, "x")
		syncs := m.syncCount()
		for i := range 9 { // acknowledgements inside of a segment cost no sync each
			require.NoError(t, r.Ack(uint64(21+i/8)))
			time.Sleep(cursorEvery)
			synctest.Wait()
		}
		require.LessOrEqual(t, m.syncCount()-syncs, 2)
		time.Sleep(syncEvery + 2*cursorEvery)
		synctest.Wait()
		require.Empty(t, m.names["/spool/urgent/cursor"].dirty)
		require.Equal(t, uint64(22), acked(t, m.powerCut()), "a power cut after two seconds neither")
	})
}

func acked(t *testing.T, m *memFS) uint64 {
	c := cursorFile{fs: m, path: "/spool/urgent/cursor", class: 1}
	state, ok, err := c.open()
	require.NoError(t, err)
	require.True(t, ok)
	return state.acked
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	s := open(t, nil, t.TempDir(), Options{SegmentBytes: 4096})
	encode := func(n int) func(uint64, event.Hash) ([]byte, error) {
		return func(uint64, event.Hash) ([]byte, error) { return make([]byte, n), nil }
	}
	_, err := s.Append(ctx, event.Urgent, day, "t", encode(MaxRecord+1))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = s.Append(ctx, event.Urgent, day, strings.Repeat("t", MaxTopic+1), encode(1))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = s.Append(ctx, "other", day, "t", encode(1))
	require.ErrorContains(t, err, `no class "other"`)
	_, err = s.Reader(DefaultConsumer, "other").Next(1, 1)
	require.Error(t, err)
	require.Error(t, s.Reader(DefaultConsumer, "other").Ack(1))
	s.Reader(DefaultConsumer, "other").Rewind()

	broken := errors.New("broken")
	_, err = s.Append(ctx, event.Urgent, day, "t", func(uint64, event.Hash) ([]byte, error) { return nil, broken })
	require.ErrorIs(t, err, broken)
	_, err = s.Append(ctx, event.Urgent, day, "t", func(uint64, event.Hash) ([]byte, error) { panic("broken") })
	require.ErrorContains(t, err, "panicked: broken")

	seq, err := s.Append(ctx, event.Urgent, day, strings.Repeat("t", MaxTopic), encode(MaxRecord))
	require.NoError(t, err, "a record may be larger than a segment")
	require.Equal(t, uint64(1), seq, "refused records use no number")
	seq, err = s.Append(ctx, event.Urgent, time.Time{}, "", encode(0))
	require.NoError(t, err)
	require.Equal(t, uint64(2), seq)
	records, err := s.Reader(DefaultConsumer, event.Urgent).Next(2, 1<<30)
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.Len(t, records[0].Payload, MaxRecord)
	require.Equal(t, time.Unix(0, math.MinInt64).UTC(), records[1].Recorded)
}

func TestAppendAfterCloseAndTwiceOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{})
	_, err := Open(dir, Options{})
	require.ErrorIs(t, err, ErrLocked)
	changed := s.Changed()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	<-changed
	<-s.Changed()
	_, err = add(s, event.Urgent, "x")
	require.ErrorIs(t, err, ErrClosed)
	open(t, nil, dir, Options{})
}

func TestAppendGivesUpItsPlaceWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newMemFS(1), "/spool", Options{})
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Append(gone, event.Urgent, day, "t", nil)
		require.ErrorIs(t, err, context.Canceled)

		hold, entered := make(chan struct{}), make(chan struct{})
		results := make(chan error, 2)
		go func() {
			_, err := s.Append(ctx, event.Urgent, day, "t", func(uint64, event.Hash) ([]byte, error) {
				close(entered)
				<-hold
				return []byte("1 t"), nil
			})
			results <- err
		}()
		<-entered
		waiting, cancel := context.WithCancel(ctx)
		go func() {
			_, err := s.Append(waiting, event.Urgent, day, "t", func(uint64, event.Hash) ([]byte, error) {
				t.Error("a record that was given up is encoded")
				return nil, nil
			})
			results <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-results, context.Canceled)
		close(hold)
		require.NoError(t, <-results)
		require.Equal(t, uint64(2), put(t, s, event.Urgent, "x"))
	})
}

// Many callers at once: numbers without gap, encode in their order, and far
// fewer syncs than records.
func TestGroupCommit(t *testing.T) {
	m := newMemFS(1)
	m.hook = func(op, _ string) error {
		if op == "sync" {
			time.Sleep(100 * time.Microsecond) // a quick disk
		}
		return nil
	}
	s := open(t, m, "/spool", Options{SegmentBytes: 64 << 10, MaxBatch: 50})
	const callers, each = 64, 30
	var encoded [2][]uint64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				class := event.Classes[i%2]
				var got uint64
				seq, err := s.Append(ctx, class, day, "lanepost/v1/x/", func(seq uint64, _ event.Hash) ([]byte, error) {
					got = seq
					encoded[i%2] = append(encoded[i%2], seq) // one goroutine calls it
					return fmt.Appendf(nil, "%d ", seq), nil
				})
				if err != nil || seq != got {
					t.Errorf("sequence %d, encoded as %d: %v", seq, got, err)
				}
			}
		})
	}
	wg.Wait()
	for i, class := range event.Classes {
		require.Equal(t, count(1, callers*each/2), encoded[i])
		require.Equal(t, count(1, callers*each/2), drain(t, s.Reader(DefaultConsumer, class)))
	}
	require.Less(t, m.syncCount(), callers*each/4)
}

// A reader that waits as the documentation of Changed says misses nothing,
// while another goroutine appends, and acknowledges concurrently.
func TestChangedLosesNoWakeUp(t *testing.T) {
	s := open(t, newMemFS(1), "/spool", Options{SegmentBytes: 2000})
	const n = 3000
	go func() {
		for i := range n {
			if _, err := add(s, event.Routine, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	r := s.Reader(DefaultConsumer, event.Routine)
	for next := uint64(1); next <= n; {
		changed := s.Changed()
		records, err := r.Next(7, 1<<20)
		require.NoError(t, err)
		if len(records) == 0 {
			<-changed
		}
		for _, rec := range records {
			require.Equal(t, next, rec.Sequence)
			next++
		}
		if next%50 == 0 {
			r.Rewind()
		}
		require.NoError(t, r.Ack(next-1))
	}
}

func TestWithoutPreallocation(t *testing.T) {
	m := newMemFS(1)
	m.noAlloc = true
	s := open(t, m, "/spool", Options{SegmentBytes: 1000})
	for range 50 {
		put(t, s, event.Urgent, "growing")
	}
	s = open(t, m.killed(), "/spool", Options{SegmentBytes: 1000})
	require.Equal(t, uint64(51), put(t, s, event.Urgent, "growing"))
	require.Equal(t, count(1, 51), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.Empty(t, s.Losses())
}
