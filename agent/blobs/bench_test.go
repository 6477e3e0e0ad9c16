package blobs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{100 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{MaxBytes: 256 << 20})
			require.NoError(b, err)
			content := picture(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				binary.LittleEndian.PutUint64(content, uint64(i))
				a, err := s.Put(ctx, bytes.NewReader(content), 1<<30)
				require.NoError(b, err)
				s.Release(a)
			}
			require.NoError(b, s.Close())
		})
	}
}

// BenchmarkAnnounce is one promise with its fsync.
func BenchmarkAnnounce(b *testing.B) {
	s, err := Open(b.TempDir(), Options{Consumers: []string{"central"}})
	require.NoError(b, err)
	a, err := s.Put(ctx, bytes.NewReader(picture(1, 1000)), 1<<20)
	require.NoError(b, err)
	a.MediaType = "image/jpeg"
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint(i)
		require.NoError(b, s.Announce(reference(id, event.Routine, a)))
		s.Withdraw(id)
	}
	require.NoError(b, s.Close())
}

// BenchmarkNext hands out and confirms the chunks of one content after the other.
func BenchmarkNext(b *testing.B) {
	s, err := Open(b.TempDir(), Options{Consumers: []string{"central"}})
	require.NoError(b, err)
	sd := s.Sender("central")
	b.SetBytes(DefaultChunkBytes)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		changed := sd.Changed()
		_, _, token, ok := sd.Next()
		for !ok {
			b.StopTimer()
			for _, o := range s.Outcomes() {
				s.OutcomeRecorded(o)
			}
			n++
			a, err := s.Put(ctx, bytes.NewReader(picture(n, 64*DefaultChunkBytes)), 1<<30)
			require.NoError(b, err)
			a.MediaType = "image/tiff"
			require.NoError(b, s.Announce(reference(fmt.Sprint(n), event.Routine, a)))
			s.Refer(fmt.Sprint(n), n)
			if _, _, token, ok = sd.Next(); !ok {
				<-changed
			}
			for !ok {
				changed = sd.Changed()
				if _, _, token, ok = sd.Next(); !ok {
					<-changed
				}
			}
			b.StartTimer()
		}
		sd.Confirmed(token)
	}
	require.NoError(b, s.Close())
}

// BenchmarkOpen opens a store in which 100,000 contents wait.
func BenchmarkOpen(b *testing.B) {
	const waiting = 100_000
	dir := b.TempDir()
	o := Options{Consumers: []string{"central"}, noSync: true}
	s, err := Open(dir, o)
	require.NoError(b, err)
	require.NoError(b, s.Close())
	var journal []byte
	for i := range uint64(waiting) {
		var sum hash
		binary.BigEndian.PutUint64(sum[:], i*0x9e3779b97f4a7c15)
		require.NoError(b, os.MkdirAll(filepath.Dir(s.path(sum)), 0o700))
		require.NoError(b, os.WriteFile(s.path(sum), nil, 0o600))
		journal = entry{
			Op: opPromise, ID: i + 1, EventID: fmt.Sprintf("019ceb6f-5a3f-7e04-a9d1-%012x", i), Class: event.Routine, Source: source,
			Sequence: i + 1, Referred: true, SHA256: sum.String(), Size: 200_000, MediaType: "image/jpeg", Name: "front.jpg", ChunkBytes: DefaultChunkBytes,
		}.appendLine(journal)
	}
	require.NoError(b, os.WriteFile(filepath.Join(dir, journalName), journal, 0o600))
	b.ReportAllocs()
	var before, after syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
	defer func() {
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
		cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(cpu)/1e6/float64(b.N), "cpu-ms/op")
	}()
	for b.Loop() {
		s, err := Open(dir, o)
		require.NoError(b, err)
		require.Equal(b, waiting, s.Stats().Promises)
		require.NoError(b, s.Close())
	}
}
