package spool

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// benchFS counts what goes to the disk.
type benchFS struct {
	FS
	syncs, written, read atomic.Int64
}

type benchFile struct {
	File
	c *benchFS
}

func (c *benchFS) OpenFile(name string, flag int) (File, error) {
	f, err := c.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &benchFile{f, c}, nil
}

func (c *benchFS) SyncDir(dir string) error {
	c.syncs.Add(1)
	return c.FS.SyncDir(dir)
}

func (f *benchFile) Sync() error {
	f.c.syncs.Add(1)
	return f.File.Sync()
}

func (f *benchFile) WriteAt(b []byte, off int64) (int, error) {
	f.c.written.Add(int64(len(b)))
	return f.File.WriteAt(b, off)
}

func (f *benchFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.c.read.Add(int64(n))
	return n, err
}

const benchTopic = "lanepost/v1/medyka/entry-3/rpm-1/lanepost.radiation.occupancy"

// BenchmarkAppend stores events of 600 bytes, each durable when Append returns.
func BenchmarkAppend(b *testing.B) {
	payload := make([]byte, 600)
	for i := range payload {
		payload[i] = 'x'
	}
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			fs := &benchFS{FS: osFS{}}
			s := open(b, fs, b.TempDir(), Options{})
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			b.ResetTimer()
			var wg sync.WaitGroup
			var n atomic.Int64
			for range callers {
				wg.Go(func() {
					for n.Add(1) <= int64(b.N) {
						_, err := s.Append(ctx, event.Routine, day, benchTopic, func(uint64, event.Hash) ([]byte, error) { return payload, nil })
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(fs.syncs.Load())/float64(b.N), "fsyncs/event")
			b.ReportMetric(float64(fs.written.Load())/float64(b.N), "written-B/event")
		})
	}
}

// BenchmarkDrain reads and acknowledges a backlog, 64 events at a time.
func BenchmarkDrain(b *testing.B) {
	fs := &benchFS{FS: osFS{}}
	s := open(b, fs, b.TempDir(), Options{})
	fill(b, s, event.Routine, b.N, 600)
	fs.syncs.Store(0)
	fs.written.Store(0)
	r := s.Reader(DefaultConsumer, event.Routine)
	b.ReportAllocs()
	b.SetBytes(600)
	b.ResetTimer()
	for left := b.N; left > 0; {
		records, err := r.Next(64, 1<<20)
		require.NoError(b, err)
		require.NotEmpty(b, records)
		left -= len(records)
		require.NoError(b, r.Ack(records[len(records)-1].Sequence))
	}
	b.StopTimer()
	b.ReportMetric(float64(fs.syncs.Load())/float64(b.N), "fsyncs/event")
	b.ReportMetric(float64(fs.written.Load())/float64(b.N), "written-B/event")
	b.ReportMetric(float64(fs.read.Load())/float64(b.N), "read-B/event")
}

// BenchmarkOpen opens a spool in which a hundred thousand events wait, up to
// the first event.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, nil, dir, Options{})
	fill(b, s, event.Urgent, 100_000, 600)
	require.NoError(b, s.Close())
	b.ReportAllocs()
	for b.Loop() {
		s := open(b, nil, dir, Options{})
		records, err := s.Reader(DefaultConsumer, event.Urgent).Next(1, 0)
		require.NoError(b, err)
		require.Len(b, records, 1)
		require.NoError(b, s.Close())
	}
}

// fill appends n records of size bytes, many at once.
func fill(tb testing.TB, s *Spool, class event.Class, n, size int) {
	tb.Helper()
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = 'x'
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := s.Append(ctx, class, day, benchTopic, func(uint64, event.Hash) ([]byte, error) { return payload, nil }); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
