package spool

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// readAll reads a range by small steps.
func readAll(t *testing.T, s *Spool, class event.Class, from, to uint64) (seqs []uint64) {
	t.Helper()
	for {
		records, err := s.Read(class, from, to, 7, 1500)
		require.NoError(t, err)
		if len(records) == 0 {
			return seqs
		}
		for _, rec := range records {
			require.True(t, strings.HasPrefix(string(rec.Payload), fmt.Sprint(rec.Sequence, " ")))
			seqs = append(seqs, rec.Sequence)
			from = rec.Sequence + 1
		}
	}
}

func TestRetainBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		o := Options{Retain: Retain{Bytes: 16 << 10}, Consumers: two}
		s := open(t, m, "/spool", o)
		for range 10 {
			pour(t, s, event.Urgent, 40)
			for _, name := range two {
				r := s.Reader(name, event.Urgent)
				seqs := drain(t, r)
				require.NoError(t, r.Ack(seqs[len(seqs)-1]))
			}
			later(lookEvery)
		}
		check := func() uint64 {
			require.LessOrEqual(t, s.Stats().Urgent.Bytes, int64(18<<10))
			kept := readAll(t, s, event.Urgent, 0, 1<<60)
			require.Equal(t, count(kept[0], 400), kept)
			require.Greater(t, len(kept), 40)
			require.Less(t, len(kept), 80)
			return kept[0]
		}
		first := check()
		require.Equal(t, count(380, 390), readAll(t, s, event.Urgent, 380, 390))
		require.Empty(t, readAll(t, s, event.Urgent, 1, first-1))
		require.Empty(t, readAll(t, s, event.Routine, 1, 10))
		require.Zero(t, s.Stats().Urgent.Backlog)
		require.NoError(t, s.Close())
		_, err := s.Read(event.Urgent, 1, 2, 1, 1)
		require.ErrorIs(t, err, ErrClosed)
		_, err = s.Find(event.Urgent, day)
		require.ErrorIs(t, err, ErrClosed)

		s = open(t, m.clone(), "/spool", o)
		later(2 * lookEvery)
		check()
		require.Empty(t, drain(t, s.Reader("alarm", event.Urgent)), "what is retained is not delivered again")
		require.Empty(t, s.Losses())
		require.NoError(t, s.Close())

		s = open(t, m.clone(), "/spool", Options{})
		later(2 * lookEvery)
		require.Less(t, s.Stats().Urgent.Bytes, int64(4<<10), "it goes when nothing is to be retained any more")
	})
}

func TestRetainFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		o := Options{Retain: Retain{For: 8 * time.Hour, Bytes: 1 << 20}}
		s := open(t, m, "/spool", o)
		for i := range 24 {
			pour(t, s, event.Routine, 1)
			r := s.Reader(DefaultConsumer, event.Routine)
			drain(t, r)
			require.NoError(t, r.Ack(uint64(i+1)))
			later(time.Hour + time.Minute)
		}
		kept := readAll(t, s, event.Routine, 1, 100)
		require.Equal(t, count(kept[0], 24), kept)
		require.InDelta(t, 8, len(kept), 2)
		require.NoError(t, s.Close())
		s = open(t, m.clone(), "/spool", o)
		later(4 * time.Hour)
		require.InDelta(t, 4, len(readAll(t, s, event.Routine, 1, 100)), 2, "ages are known after a restart")
	})
}

// What is retained gives room to what waits, in both classes, and is no loss.
func TestRetainedGoesFirst(t *testing.T) {
	m := newMemFS(1)
	m.capacity = 256 << 10
	s := open(t, m, "/spool", Options{SegmentBytes: 8 << 10, Retain: Retain{For: time.Hour}, MinFree: MinFree{Bytes: -1}})
	for _, class := range event.Classes {
		pour(t, s, class, 250)
		r := s.Reader(DefaultConsumer, class)
		drain(t, r)
		require.NoError(t, r.Ack(250))
	}
	require.Len(t, readAll(t, s, event.Routine, 1, 1000), 250)
	require.Len(t, readAll(t, s, event.Urgent, 1, 1000), 250)
	pour(t, s, event.Urgent, 600)
	require.Empty(t, s.Losses())
	require.Less(t, len(readAll(t, s, event.Routine, 1, 1000)), 250)
	require.Equal(t, count(251, 850), drain(t, s.Reader(DefaultConsumer, event.Urgent)))

	s = open(t, newMemFS(1), "/spool", Options{Routine: Caps{MaxBytes: 16 << 10}, Retain: Retain{For: time.Hour}})
	r := s.Reader(DefaultConsumer, event.Routine)
	for range 50 {
		pour(t, s, event.Routine, 10)
		require.NoError(t, r.Ack(drain(t, r)[9]))
	}
	require.LessOrEqual(t, s.Stats().Routine.Bytes, int64(16<<10), "within the cap")
	require.Empty(t, s.Losses())
	require.Empty(t, s.Stats().Pressure)
}

// Read is on disk's side: it leaves out what is damaged and tells nobody.
func TestReadPassesDamage(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 2000})
	pour(t, s, event.Urgent, 50)
	name := m.segments()[1]
	first, _ := parseSegmentName(name[len(name)-35:])
	m.names[name].mem[segmentHeader+60] ^= 1
	got := readAll(t, s, event.Urgent, 1, 50)
	require.Equal(t, append(count(1, first.first-1), count(first.first+1, 50)...), got)
	require.Empty(t, s.Losses())
	require.Equal(t, got, drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.Len(t, s.Losses(), 1)
	_, err := s.Read("other", 1, 2, 3, 4)
	require.ErrorContains(t, err, "no class")
	_, err = s.Find("other", day)
	require.ErrorContains(t, err, "no class")
	records, err := s.Read(event.Urgent, 5, 1, 10, 10)
	require.NoError(t, err)
	require.Empty(t, records)
}

func TestFind(t *testing.T) {
	s := open(t, newMemFS(1), "/spool", Options{SegmentBytes: 1000})
	seq, err := s.Find(event.Routine, day)
	require.NoError(t, err)
	require.Equal(t, uint64(1), seq)
	at := func(i int) time.Time { return day.Add(time.Duration(i/3*10) * time.Second) } // three at a time
	for i := range 100 {
		_, err := s.Append(ctx, event.Routine, at(i), "t", func(uint64, event.Hash) ([]byte, error) { return make([]byte, 60), nil })
		require.NoError(t, err)
	}
	require.Greater(t, len(s.logs[1].segments), 8)
	for i := range 100 {
		seq, err := s.Find(event.Routine, at(i))
		require.NoError(t, err)
		require.Equal(t, uint64(i/3*3+1), seq)
		seq, err = s.Find(event.Routine, at(i).Add(time.Nanosecond))
		require.NoError(t, err)
		require.Equal(t, uint64(min(i/3*3+4, 101)), seq)
	}
	seq, err = s.Find(event.Routine, time.Time{})
	require.NoError(t, err)
	require.Equal(t, uint64(1), seq)
	seq, err = s.Find(event.Routine, day.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, uint64(101), seq)
}
