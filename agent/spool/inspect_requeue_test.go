package spool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestRequeueDeliversAgain(t *testing.T) {
	dir := t.TempDir()
	spoolOnDisk(t, dir, 50, 45, Options{})
	first := inspect(t, dir, InspectOptions{}).Classes[1].First
	require.Greater(t, first, uint64(1))
	before := print(t, dir)

	for _, c := range []struct {
		from uint64
		want string
	}{
		{0, "begin with 1"},
		{46, "waits already (delivered up to 45)"},
		{first - 1, "not on this disk any more: the oldest"},
	} {
		_, err := Requeue(dir, event.Routine, "", c.from, nil)
		require.ErrorContains(t, err, c.want)
	}
	_, err := Requeue(dir, event.Urgent, "", 1, nil)
	require.Error(t, err)
	_, err = Requeue(dir, "other", "", 1, nil)
	require.Error(t, err)
	require.Equal(t, before, print(t, dir), "refused, so nothing changed")

	done, err := Requeue(dir, event.Routine, "", first, nil)
	require.NoError(t, err)
	require.Equal(t, Requeued{event.Routine, first, 45}, done)
	// Both slots tell the same.
	for slot := range 2 {
		b, err := os.ReadFile(filepath.Join(dir, "routine", "cursor"))
		require.NoError(t, err)
		state, ok := parseCursor(b[slot*cursorSlot:], 2)
		require.True(t, ok)
		require.Equal(t, first-1, state.acked)
		require.Equal(t, uint64(50), state.head)
	}
	s := open(t, nil, dir, Options{})
	records, err := s.Reader(DefaultConsumer, event.Routine).Next(100, 1<<20)
	require.NoError(t, err)
	require.Equal(t, first, records[0].Sequence)
	require.Len(t, records, int(51-first))
	require.Empty(t, s.Losses())
	require.Equal(t, uint64(51), chained(t, s, event.Routine, "x"))

	_, err = Requeue(dir, event.Routine, "", first, nil)
	require.ErrorIs(t, err, ErrLocked, "while an agent has it open")
	require.NoError(t, s.Close())
}

// quarantined makes a spool of which one segment in the middle was taken for
// another version's.
func quarantined(t *testing.T, dir string) (name string, g, next segment) {
	t.Helper()
	segments := spoolOnDisk(t, dir, 60, 0, Options{})
	g, _ = parseSegmentName(filepath.Base(segments[1]))
	next, _ = parseSegmentName(filepath.Base(segments[2]))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "quarantine"), 0o700))
	name = "routine-" + filepath.Base(segments[1])
	require.NoError(t, os.Rename(segments[1], filepath.Join(dir, "quarantine", name)))
	return name, g, next
}

func TestQuarantinedSegmentComesBack(t *testing.T) {
	dir := t.TempDir()
	name, g, next := quarantined(t, dir)
	s := open(t, nil, dir, Options{})
	r := s.Reader(DefaultConsumer, event.Routine)
	records, err := r.Next(100, 1<<20)
	require.NoError(t, err)
	require.NoError(t, r.Ack(records[len(records)-11].Sequence))
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.Equal(t, next.first-g.first, losses[0].Count)
	require.NoError(t, s.Close())

	// The disk has freed the segments before it meanwhile, which is no hindrance.
	done, err := RequeueSegment(dir, name, nil)
	require.NoError(t, err)
	require.Equal(t, Requeued{event.Routine, g.first, 50}, done)
	require.NoFileExists(t, filepath.Join(dir, "quarantine", name))
	s = open(t, nil, dir, Options{})
	records, err = s.Reader(DefaultConsumer, event.Routine).Next(100, 1<<20)
	require.NoError(t, err)
	var seqs []uint64
	for _, rec := range records {
		seqs = append(seqs, rec.Sequence)
	}
	// What was delivered and deleted after it is passed over, and not called lost.
	require.Equal(t, append(count(g.first, next.first-1), count(51, 60)...), seqs)
	require.Empty(t, s.Losses())
	require.NoError(t, s.Close())
	require.Zero(t, verify(t, inspect(t, dir, InspectOptions{})).Unexplained())
}

func TestQuarantinedSegmentIsRefused(t *testing.T) {
	dir := t.TempDir()
	name, g, _ := quarantined(t, dir)
	path := filepath.Join(dir, "quarantine", name)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	_, err = RequeueSegment(dir, "routine-00000000000000000001-00000000000000000004.bad", nil)
	require.ErrorContains(t, err, "only whole segments")
	_, err = RequeueSegment(dir, "../lock", nil)
	require.ErrorContains(t, err, "only whole segments")
	_, err = RequeueSegment(dir, "urgent-"+name[len("routine-"):], nil)
	require.ErrorIs(t, err, os.ErrNotExist)

	other := append([]byte(nil), whole...)
	other[16] ^= 1
	copy(other[124:], crcBitwise(other[:124]))
	for want, b := range map[string][]byte{"another spool": other, "damaged header": whole[:100]} {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		before := print(t, dir)
		_, err = RequeueSegment(dir, name, nil)
		require.ErrorContains(t, err, want)
		require.Equal(t, before, print(t, dir))
	}
	require.NoError(t, os.WriteFile(path, whole, 0o600))

	// Under a later generation its numbers are others' records by now.
	later := g
	later.gen = 900
	b := append([]byte(nil), whole...)
	b[40], b[41] = 0x84, 3
	copy(b[124:], crcBitwise(b[:124]))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quarantine", "routine-"+later.name()), b, 0o600))
	before := print(t, dir)
	_, err = RequeueSegment(dir, "routine-"+later.name(), nil)
	require.ErrorContains(t, err, "belong to other records by now")
	require.Equal(t, before, print(t, dir))
}

// One of several consumers goes back, and the others stay.
func TestRequeueForOneConsumer(t *testing.T) {
	dir := t.TempDir()
	o := Options{Consumers: []string{"national", "alarm"}}
	s := open(t, nil, dir, o)
	for range 9 {
		chained(t, s, event.Routine, "x")
	}
	for name, n := range map[string]int{"national": 6, "alarm": 8} {
		r := s.Reader(name, event.Routine)
		_, err := r.Next(n, 1<<20)
		require.NoError(t, err)
		require.NoError(t, r.Ack(uint64(n)))
	}
	require.NoError(t, s.Close())
	st := inspect(t, dir, InspectOptions{}).Classes[1].Stats
	require.Equal(t, uint64(6), st.Acked)
	require.Equal(t, []ConsumerStats{{"national", 6, 3, day}, {"alarm", 8, 1, day}}, st.Consumers)

	_, err := Requeue(dir, event.Routine, "other", 3, nil)
	require.ErrorContains(t, err, `no consumer "other" (there is national, alarm)`)
	_, err = Requeue(dir, event.Routine, "national", 7, nil)
	require.ErrorContains(t, err, "delivered up to 6")
	done, err := Requeue(dir, event.Routine, "alarm", 3, nil)
	require.NoError(t, err)
	require.Equal(t, Requeued{event.Routine, 3, 8}, done)
	s = open(t, nil, dir, o)
	for name, first := range map[string]uint64{"national": 7, "alarm": 3} {
		records, err := s.Reader(name, event.Routine).Next(20, 1<<20)
		require.NoError(t, err)
		require.Equal(t, first, records[0].Sequence, name)
		require.Len(t, records, int(10-first))
	}
	require.NoError(t, s.Close())
	_, err = Requeue(dir, event.Routine, "", 2, nil)
	require.NoError(t, err)
	s = open(t, nil, dir, o)
	for _, name := range o.Consumers {
		records, err := s.Reader(name, event.Routine).Next(1, 0)
		require.NoError(t, err)
		require.Equal(t, uint64(2), records[0].Sequence, name)
	}
}
