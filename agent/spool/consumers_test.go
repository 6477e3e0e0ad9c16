package spool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

var two = []string{"national", "alarm"}

func TestConsumersEachAtItsOwnPace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{Consumers: two, SegmentBytes: 1000})
	for i := range 30 {
		_, err := s.Append(ctx, event.Urgent, day.Add(time.Duration(i)*time.Second), "t", func(uint64, event.Hash) ([]byte, error) { return make([]byte, 100), nil })
		require.NoError(t, err)
	}
	national, alarm := s.Reader("national", event.Urgent), s.Reader("alarm", event.Urgent)
	require.Same(t, alarm, s.Reader("alarm", event.Urgent))
	for range 3 {
		_, err := national.Next(10, 1<<20)
		require.NoError(t, err)
	}
	require.ErrorContains(t, alarm.Ack(1), "alarm acknowledged urgent sequence 1, of which 0", "what the other one read does not count")
	records, err := alarm.Next(12, 1<<20)
	require.NoError(t, err)
	require.Equal(t, uint64(1), records[0].Sequence)
	require.NoError(t, national.Ack(30))
	require.NoError(t, alarm.Ack(12))
	want := []ConsumerStats{
		{Name: "national", Acked: 30},
		{Name: "alarm", Acked: 12, Backlog: 18, OldestUnacked: day.Add(12 * time.Second)},
	}
	st := s.Stats().Urgent
	require.Equal(t, want, st.Consumers)
	require.Equal(t, []uint64{30, 12, 18}, []uint64{st.Head, st.Acked, st.Backlog})
	require.NoError(t, s.Close())
	require.ErrorIs(t, alarm.Ack(13), ErrClosed)

	s = open(t, nil, dir, Options{Consumers: two, SegmentBytes: 1000})
	require.Equal(t, want, s.Stats().Urgent.Consumers)
	require.Equal(t, uint64(12), s.Stats().Urgent.Acked)
	records, err = s.Reader("national", event.Urgent).Next(100, 1<<20)
	require.NoError(t, err)
	require.Empty(t, records)
	records, err = s.Reader("alarm", event.Urgent).Next(100, 1<<20)
	require.NoError(t, err)
	require.Len(t, records, 18)
	require.Equal(t, uint64(13), records[0].Sequence)
	require.Empty(t, s.Losses())
}

func TestConsumersComeAndGo(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 1000}
	s := open(t, nil, dir, o)
	for range 20 {
		put(t, s, event.Routine, strings.Repeat("x", 100))
	}
	r := s.Reader(DefaultConsumer, event.Routine)
	drain(t, r)
	require.NoError(t, r.Ack(10))
	require.NoError(t, s.Close())
	require.NoFileExists(t, dir+"/routine/consumers", "one consumer needs no file of its own")

	o.Consumers = []string{"alarm", DefaultConsumer}
	s = open(t, nil, dir, o)
	require.Equal(t, count(11, 20), drain(t, s.Reader("alarm", event.Routine)), "a new one begins with the oldest that waits")
	r = s.Reader(DefaultConsumer, event.Routine)
	require.Equal(t, count(11, 20), drain(t, r))
	require.NoError(t, r.Ack(20))
	require.Equal(t, uint64(10), s.Stats().Routine.Acked)
	require.NoError(t, s.Close())
	require.FileExists(t, dir+"/routine/consumers")

	o.Consumers = []string{DefaultConsumer}
	s = open(t, nil, dir, o)
	require.Equal(t, uint64(20), s.Stats().Routine.Acked, "the one that is gone holds nothing back")
	require.Equal(t, uint64(21), put(t, s, event.Routine, "x"))
	require.NoError(t, s.Close())
	require.NoFileExists(t, dir+"/routine/consumers")

	o.Consumers = []string{}
	s = open(t, nil, dir, o)
	require.Empty(t, s.Stats().Routine.Consumers)
	require.Equal(t, uint64(22), put(t, s, event.Routine, "x"))
	_, err := s.Reader(DefaultConsumer, event.Routine).Next(1, 1)
	require.ErrorContains(t, err, `no consumer "mqtt"`)
	require.ErrorContains(t, s.Reader(DefaultConsumer, event.Routine).Ack(1), `no consumer "mqtt"`)
	require.NoError(t, s.Close())

	o.Consumers = nil
	s = open(t, nil, dir, o)
	require.Equal(t, count(21, 22), drain(t, s.Reader(DefaultConsumer, event.Routine)))
}

func TestConsumersAreNamedWell(t *testing.T) {
	for _, names := range [][]string{
		{""}, {"A"}, {"a_b"}, {strings.Repeat("a", 33)}, {"a", "a"}, {"1", "2", "3", "4", "5", "6", "7", "8", "9"},
	} {
		_, err := Open(t.TempDir(), Options{Consumers: names})
		require.ErrorContains(t, err, "consumer", "%q", names)
	}
	s := open(t, nil, t.TempDir(), Options{Consumers: []string{strings.Repeat("a", 32), "1", "2", "3", "4", "5", "6", "-"}})
	require.Len(t, s.Stats().Urgent.Consumers, 8)
}

// A loss is found once and reported once, whoever comes upon it, and the others
// pass over it.
func TestConsumersShareALoss(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{Consumers: two, SegmentBytes: 1000})
	for range 30 {
		put(t, s, event.Urgent, strings.Repeat("x", 100))
	}
	require.NoError(t, s.Close())
	m = m.clone()
	m.names[m.segments()[1]].mem[segmentHeader+50] ^= 1
	s = open(t, m, "/spool", Options{Consumers: two, SegmentBytes: 1000})
	alarm := s.Reader("alarm", event.Urgent)
	got := drain(t, alarm)
	require.Len(t, got, 29)
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.Equal(t, losses[0].First, losses[0].Last)
	require.NoError(t, alarm.Ack(30))
	s.LossRecorded(losses[0], 0)
	require.NoError(t, s.Close())

	s = open(t, m.clone(), "/spool", Options{Consumers: two, SegmentBytes: 1000})
	national := s.Reader("national", event.Urgent)
	require.Equal(t, got, drain(t, national))
	require.Empty(t, s.Losses())
	require.NoError(t, national.Ack(30))
	require.Equal(t, uint64(30), s.Stats().Urgent.Acked)
}

// The consumers file is lost or damaged: what is delivered to those who were
// ahead is delivered again, and nothing is lost.
func TestConsumersFileIsLost(t *testing.T) {
	for _, damage := range []func(m *memFS){
		func(m *memFS) { delete(m.names, "/spool/urgent/consumers") },
		func(m *memFS) { m.names["/spool/urgent/consumers"].mem = []byte("x") },
		func(m *memFS) {
			b := m.names["/spool/urgent/consumers"].mem
			b[60] ^= 1
			b[cursorSlot+60] ^= 1
		},
		func(m *memFS) { // another spool's
			b := appendPositions(nil, 1, positions{id: spoolID{9}, list: []position{{"alarm", 30}}})
			m.names["/spool/urgent/consumers"].mem = b
		},
	} {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{Consumers: two})
		for range 30 {
			put(t, s, event.Urgent, "x")
		}
		for i, name := range two {
			r := s.Reader(name, event.Urgent)
			drain(t, r)
			require.NoError(t, r.Ack(uint64(10+i*15)))
		}
		require.NoError(t, s.Close())
		m = m.clone()
		damage(m)
		s = open(t, m, "/spool", Options{Consumers: two})
		require.Equal(t, count(11, 30), drain(t, s.Reader("alarm", event.Urgent)))
		require.Equal(t, count(11, 30), drain(t, s.Reader("national", event.Urgent)))
		require.Empty(t, s.Losses())
	}
}

// The position of each consumer outlives a kill after 200 ms and a power cut
// after two seconds.
func TestConsumersOutliveAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{Consumers: two})
		for range 30 {
			put(t, s, event.Urgent, "x")
		}
		alarm := s.Reader("alarm", event.Urgent)
		drain(t, alarm)
		require.NoError(t, alarm.Ack(20))
		time.Sleep(cursorEvery + time.Millisecond)
		synctest.Wait()
		at := func(m *memFS) uint64 {
			p, ok := parsePositions(m.names["/spool/urgent/consumers"].mem, 1)
			q, ok2 := parsePositions(m.names["/spool/urgent/consumers"].mem[cursorSlot:], 1)
			require.True(t, ok || ok2)
			if q.writeCount > p.writeCount {
				p = q
			}
			require.Equal(t, uint64(0), p.list[0].acked)
			return p.list[1].acked
		}
		require.Equal(t, uint64(20), at(m.clone()))
		time.Sleep(syncEvery + 2*cursorEvery)
		synctest.Wait()
		require.Equal(t, uint64(20), at(m.powerCut()))
	})
}
