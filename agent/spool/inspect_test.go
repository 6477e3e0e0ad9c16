package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// spoolOnDisk makes a spool of chained routine events in small segments, of
// which the first delivered are acknowledged. It returns the segment files.
func spoolOnDisk(t testing.TB, dir string, n, delivered int, o Options) []string {
	t.Helper()
	o.SegmentBytes = 2048
	s := open(t, nil, dir, o)
	for range n {
		chained(t, s, event.Routine, "x")
	}
	if delivered > 0 {
		r := s.Reader(DefaultConsumer, event.Routine)
		_, err := r.Next(delivered, 1<<20)
		require.NoError(t, err)
		require.NoError(t, r.Ack(uint64(delivered)))
	}
	require.NoError(t, s.Close())
	return segmentFiles(t, dir, event.Routine)
}

func segmentFiles(t testing.TB, dir string, class event.Class) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, string(class), "*.seg"))
	require.NoError(t, err)
	return files
}

func chained(t testing.TB, s *Spool, class event.Class, text string) uint64 {
	t.Helper()
	seq, err := s.Append(ctx, class, day, "t", func(seq uint64, previous event.Hash) ([]byte, error) {
		return fmt.Appendf(nil, `{"sequence":"%020d","prevhash":"%s","data":{"text":%q}}`, seq, previous, text), nil
	})
	require.NoError(t, err)
	return seq
}

// print is what a directory holds and when each file was changed.
func print(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		fmt.Fprintln(&b, path, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			fmt.Fprintf(&b, "%d %x\n", len(content), sha256.Sum256(content))
		}
		return nil
	}))
	return b.String()
}

// flip turns over one bit of a file.
func flip(t testing.TB, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	b[(at+int64(len(b)))%int64(len(b))] ^= 4
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

func inspect(t testing.TB, dir string, o InspectOptions) *Inspection {
	t.Helper()
	i, err := Inspect(dir, o)
	require.NoError(t, err)
	return i
}

func verify(t testing.TB, i *Inspection) *Verification {
	t.Helper()
	v, err := i.Verify(ctx, nil)
	require.NoError(t, err)
	return v
}

func walk(t testing.TB, i *Inspection, w Walk) (seqs []uint64, found []string) {
	t.Helper()
	w.Record = func(r Record) error {
		seqs = append(seqs, r.Sequence)
		require.Contains(t, string(r.Payload), event.FormatSequence(r.Sequence))
		return nil
	}
	w.Found = func(f Finding) { found = append(found, fmt.Sprintf("%s %d-%d", f.Kind, f.First, f.Last)) }
	require.NoError(t, i.Walk(ctx, w))
	return seqs, found
}

func TestInspectTellsWhatTheSpoolHolds(t *testing.T) {
	dir := t.TempDir()
	segments := spoolOnDisk(t, dir, 50, 20, Options{})
	require.Greater(t, len(segments), 2)
	before := print(t, dir)
	i := inspect(t, dir, InspectOptions{})
	require.Len(t, i.Classes, 2)
	require.Zero(t, i.Classes[0].Stats.Head)
	require.Zero(t, i.Classes[0].Stats.Bytes)
	c := i.Classes[1]
	require.Equal(t, event.Routine, c.Class)
	require.Equal(t, uint64(50), c.Stats.Head)
	require.Equal(t, uint64(20), c.Stats.Acked)
	require.Equal(t, uint64(30), c.Stats.Backlog)
	require.Equal(t, day, c.Stats.OldestUnacked)
	require.Equal(t, len(segments), c.Segments)
	require.True(t, c.Cursor && c.Closed)
	require.Greater(t, c.First, uint64(1))
	require.LessOrEqual(t, c.First, uint64(21))
	var sizes int64
	for _, name := range segments {
		info, err := os.Stat(name)
		require.NoError(t, err)
		sizes += info.Size()
	}
	require.Equal(t, sizes, c.Stats.Bytes)

	seqs, found := walk(t, i, Walk{Class: event.Routine})
	require.Equal(t, count(c.First, 50), seqs)
	require.Empty(t, found)
	seqs, _ = walk(t, i, Walk{Class: event.Routine, From: 25, To: 30})
	require.Equal(t, count(25, 30), seqs)
	seqs, _ = walk(t, i, Walk{Class: event.Routine, From: 49, To: 99})
	require.Equal(t, count(49, 50), seqs)
	seqs, _ = walk(t, i, Walk{Class: event.Routine, From: 51})
	require.Empty(t, seqs)
	seqs, _ = walk(t, i, Walk{Class: event.Routine, Since: day, Until: day.Add(1)})
	require.Len(t, seqs, int(51-c.First))
	seqs, _ = walk(t, i, Walk{Class: event.Routine, Since: day.Add(1)})
	require.Empty(t, seqs)
	seqs, _ = walk(t, i, Walk{Class: event.Routine, Until: day})
	require.Empty(t, seqs)
	stop := 0
	require.NoError(t, i.Walk(ctx, Walk{Class: event.Routine, Record: func(Record) error {
		stop++
		return ErrStop
	}}))
	require.Equal(t, 1, stop)

	var gone int64
	v, err := i.Verify(ctx, func(n int64) { gone += n })
	require.NoError(t, err)
	require.Empty(t, v.Findings)
	require.Equal(t, 51-c.First, v.Classes[1].Records)
	require.Equal(t, 50-c.First, v.Classes[1].Chained)
	require.Equal(t, i.Size(Walk{Class: event.Routine}), gone, "the progress adds up")
	require.Equal(t, v.Classes[1].Bytes, gone)
	require.Equal(t, before, print(t, dir), "nothing was touched")
}

func TestInspectErrorsArePlain(t *testing.T) {
	dir := t.TempDir()
	segments := spoolOnDisk(t, dir, 3, 0, Options{})
	_, err := Inspect(filepath.Join(dir, "nowhere"), InspectOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Inspect(filepath.Join(dir, "routine"), InspectOptions{})
	require.ErrorIs(t, err, ErrNotSpool)
	require.ErrorContains(t, err, "name the one above it")
	_, err = Inspect(t.TempDir(), InspectOptions{})
	require.ErrorIs(t, err, ErrNotSpool)
	_, err = Inspect(segments[0], InspectOptions{})
	require.ErrorIs(t, err, ErrNotSpool)

	b, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	b[8] = 2
	copy(b[124:], crcBitwise(b[:124]))
	require.NoError(t, os.WriteFile(segments[0], b, 0o600))
	_, err = Inspect(dir, InspectOptions{})
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "use the lanepost that wrote it")
}

// Each sort of damage is found at its place and nothing else is, and looking
// changes nothing.
func TestVerifyFindsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, segments []string)
		want   []string
		header bool
	}{
		"one bit in the middle": {damage: func(t *testing.T, s []string) { flip(t, s[1], 600) }, want: []string{"damaged"}},
		"one bit in the newest": {damage: func(t *testing.T, s []string) { flip(t, s[len(s)-1], 600) }, want: []string{"damaged"}},
		"the last byte":         {damage: func(t *testing.T, s []string) { flip(t, s[len(s)-1], -1) }, want: []string{"damaged"}},
		"a segment gone":        {damage: func(t *testing.T, s []string) { require.NoError(t, os.Remove(s[1])) }, want: []string{"missing"}},
		"the first gone":        {damage: func(t *testing.T, s []string) { require.NoError(t, os.Remove(s[0])) }, want: []string{"missing"}},
		"the newest gone":       {damage: func(t *testing.T, s []string) { require.NoError(t, os.Remove(s[len(s)-1])) }, want: []string{"missing"}},
		"cut short":             {damage: func(t *testing.T, s []string) { require.NoError(t, os.Truncate(s[1], 300)) }, want: []string{"damaged"}},
		"a header":              {damage: func(t *testing.T, s []string) { flip(t, s[1], 20) }, header: true},
		"two places": {damage: func(t *testing.T, s []string) {
			flip(t, s[0], 400)
			flip(t, s[2], 900)
		}, want: []string{"damaged", "damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.damage(t, spoolOnDisk(t, dir, 60, 0, Options{}))
			before := print(t, dir)
			i := inspect(t, dir, InspectOptions{})
			v := verify(t, i)
			require.Equal(t, before, print(t, dir))
			require.Equal(t, c.header, len(i.Classes[1].BadHeaders) > 0)
			var kinds []string
			gone := uint64(0)
			for _, f := range v.Findings {
				kinds = append(kinds, string(f.Kind))
				gone += f.Last - f.First + 1
				require.NotEmpty(t, f.String())
				require.NotEmpty(t, f.Advice())
				require.False(t, f.Delivered)
			}
			require.Equal(t, c.want, kinds, "%v", v.Findings)
			require.Equal(t, uint64(60), v.Classes[1].Records+gone, "every number is accounted for")
			require.Equal(t, len(c.want), v.Unexplained())

			// The agent finds the same, reports it, and then it is explained.
			s := open(t, nil, dir, Options{})
			r := s.Reader(DefaultConsumer, event.Routine)
			for {
				records, err := r.Next(10, 1<<20)
				require.NoError(t, err)
				if len(records) == 0 {
					break
				}
			}
			lost := uint64(0)
			for _, loss := range s.Losses() {
				lost += loss.Count
				_, err := s.Append(ctx, event.Urgent, day, "t", func(uint64, event.Hash) ([]byte, error) {
					return fmt.Appendf(nil, `{"type":"lanepost.agent.loss.v1","data":{"priority":"routine","first_sequence":"%020d","last_sequence":"%020d","count":%d,"reason":"damaged","detail":""}}`,
						loss.First, loss.Last, loss.Count), nil
				})
				require.NoError(t, err)
				s.LossRecorded(loss, 0)
			}
			require.GreaterOrEqual(t, lost, gone)
			require.NoError(t, s.Close())
			v = verify(t, inspect(t, dir, InspectOptions{}))
			require.Zero(t, v.Unexplained(), "%v", v.Findings)
		})
	}
}

// A write that did not come to its end when the power went is no damage.
func TestVerifyPassesOverATornEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{})
	for range 3 {
		chained(t, s, event.Routine, "x")
	}
	name := segmentFiles(t, dir, event.Routine)[0]
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	end := segmentHeader
	for range 3 {
		f, ok := parseFrame(b[end:], 2)
		require.True(t, ok)
		end += f.size
	}
	half := appendFrame(nil, 2, 4, day, "t", make([]byte, 200))
	copy(b[end:], half[:100])
	copied := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(copied, "routine"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(copied, "routine", filepath.Base(name)), b, 0o600))
	i := inspect(t, copied, InspectOptions{})
	require.Equal(t, uint64(3), i.Classes[1].Stats.Head)
	require.False(t, i.Classes[1].Cursor)
	v := verify(t, i)
	require.Empty(t, v.Findings)
	require.Equal(t, uint64(3), v.Classes[1].Records)
}

func TestVerifyFindsABrokenChain(t *testing.T) {
	dir := t.TempDir()
	spoolOnDisk(t, dir, 5, 0, Options{})
	// Record 3 replaced, with checksums that are right.
	name := segmentFiles(t, dir, event.Routine)[0]
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	first, ok := parseFrame(b[segmentHeader:], 2)
	require.True(t, ok)
	third := b[segmentHeader+2*first.size:][:first.size]
	at := strings.Index(string(third), `"text":"x"`)
	third[at+8] = 'y'
	copy(third[len(third)-4:], crcBitwise(third[:len(third)-4]))
	require.NoError(t, os.WriteFile(name, b, 0o600))
	v := verify(t, inspect(t, dir, InspectOptions{}))
	require.Len(t, v.Findings, 1)
	require.Equal(t, Broken, v.Findings[0].Kind)
	require.Equal(t, uint64(4), v.Findings[0].First)
	require.Contains(t, v.Findings[0].String(), "routine sequence 4 does not continue the hash chain: its prevhash is ")
	require.Contains(t, v.Findings[0].String(), "after sequence 3 it should be")
	require.Equal(t, 1, v.Unexplained())
	require.Equal(t, uint64(5), v.Classes[1].Records)
	require.Equal(t, uint64(3), v.Classes[1].Chained)
}

func TestVerifySealed(t *testing.T) {
	dir := t.TempDir()
	spoolOnDisk(t, dir, 10, 0, Options{})
	spoolOnDisk(t, dir, 10, 0, Options{Keys: keyring(t, keyA)})
	i := inspect(t, dir, InspectOptions{Keys: keyring(t, keyB, keyA)})
	v := verify(t, i)
	require.Empty(t, v.Findings)
	require.Equal(t, uint64(20), v.Classes[1].Records)
	require.Equal(t, uint64(19), v.Classes[1].Chained)
	require.Positive(t, i.Classes[1].Sealed)

	i = inspect(t, dir, InspectOptions{})
	seqs, found := walk(t, i, Walk{Class: event.Routine})
	require.Equal(t, count(1, 10), seqs)
	require.Equal(t, []string{"sealed 11-20"}, found)
	v = verify(t, i)
	require.Equal(t, 1, v.Unexplained())
	require.Contains(t, v.Findings[0].String(), "sequences 11 to 20 sealed with key "+keyAID)
	require.Contains(t, v.Findings[0].Advice(), "--key-file")
	require.Equal(t, uint64(20), i.Classes[1].Stats.Head)
}

// Refused writes are void, whatever the disk kept of them.
func TestInspectPassesOverRefusedWrites(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{SegmentBytes: 4096})
	chained(t, s, event.Routine, "x")
	refuse := true
	m.mu.Lock()
	m.hook = func(op, path string) error {
		if op == "sync" && strings.HasSuffix(path, ".seg") && refuse {
			return errors.New("the disk says no")
		}
		return nil
	}
	m.mu.Unlock()
	_, err := add(s, event.Routine, "refused")
	require.Error(t, err)
	m.mu.Lock()
	refuse = false
	m.mu.Unlock()
	chained(t, s, event.Routine, "x")
	i := inspect(t, "/spool", InspectOptions{FS: m})
	seqs, found := walk(t, i, Walk{Class: event.Routine})
	require.Equal(t, count(1, 2), seqs)
	require.Empty(t, found)
	require.Empty(t, verify(t, i).Findings)
}

// An agent writes, delivers and deletes while others look.
func TestInspectBesideARunningAgent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{SegmentBytes: 4096, cursorEvery: time.Millisecond})
	chained(t, s, event.Urgent, "x")
	running, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() {
		for running.Err() == nil {
			chained(t, s, event.Urgent, strings.Repeat("x", 50))
		}
	})
	group.Go(func() {
		r := s.Reader(DefaultConsumer, event.Urgent)
		for running.Err() == nil {
			records, err := r.Next(50, 1<<20)
			require.NoError(t, err)
			if len(records) > 0 {
				require.NoError(t, r.Ack(records[len(records)-1].Sequence))
			}
			time.Sleep(time.Millisecond)
		}
	})
	looks, read := 0, uint64(0)
	var last ClassStats
	for running.Err() == nil {
		i := inspect(t, dir, InspectOptions{})
		st := i.Classes[0].Stats
		require.GreaterOrEqual(t, st.Head, last.Head)
		require.GreaterOrEqual(t, st.Acked, last.Acked)
		last = st
		v := verify(t, i)
		require.Empty(t, v.Findings)
		require.Empty(t, i.Classes[0].BadHeaders)
		require.Empty(t, i.Classes[0].Foreign)
		read += v.Classes[0].Records
		looks++
	}
	group.Wait()
	require.NoError(t, s.Close())
	require.Greater(t, looks, 10)
	require.Positive(t, read)
	t.Logf("%d looks, %d records read", looks, read)
	require.NoDirExists(t, filepath.Join(dir, "quarantine"))
}

func TestQuarantineIsListed(t *testing.T) {
	dir := t.TempDir()
	segments := spoolOnDisk(t, dir, 60, 0, Options{})
	flip(t, segments[1], 600)
	s := open(t, nil, dir, Options{})
	_, err := s.Reader(DefaultConsumer, event.Routine).Next(60, 1<<20)
	require.NoError(t, err)
	losses := s.Losses()
	require.NoError(t, s.Close())
	i := inspect(t, dir, InspectOptions{})
	require.Len(t, i.Quarantine, 1)
	q := i.Quarantine[0]
	require.Equal(t, filepath.Base(losses[0].Quarantine), q.Name)
	require.Equal(t, event.Routine, q.Class)
	require.Equal(t, losses[0].First, q.First)
	require.Equal(t, losses[0].Last, q.Last)
	require.False(t, i.Classes[1].Losses[0].Reported)
	require.True(t, slices.ContainsFunc(i.Classes[1].Losses, func(l NotedLoss) bool { return l.First == q.First }))

	require.Equal(t, Quarantined{Name: "urgent-00000000000000000007-0000000002.seg", Size: 5, Class: event.Urgent, First: 7, Segment: true},
		parseQuarantined(FileInfo{"urgent-00000000000000000007-0000000002.seg", 5}))
	require.Equal(t, Quarantined{Name: "other", Size: 5}, parseQuarantined(FileInfo{"other", 5}))
}
