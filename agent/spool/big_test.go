package spool

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// bigBacklog is how many events wait in BenchmarkStartWithBigBacklog.
const bigBacklog = 5_000_000

// BenchmarkStartWithBigBacklog opens a spool with five million small events (about
// 1 GB) and reads the first one and all. Making them takes minutes, so it only
// runs with LANEPOST_BIG=1:
//
//	LANEPOST_BIG=1 go test -run '^$' -bench BigBacklog -benchtime 1x ./agent/spool
func BenchmarkStartWithBigBacklog(b *testing.B) {
	if os.Getenv("LANEPOST_BIG") == "" {
		b.Skip("LANEPOST_BIG=1 runs it")
	}
	dir := b.TempDir()
	o := Options{Routine: Caps{MaxBytes: -1}, MinFree: MinFree{Bytes: -1}}
	s, err := Open(dir, o)
	require.NoError(b, err)
	payload := bytes.Repeat([]byte("x"), 100)
	var callers sync.WaitGroup
	for range 1000 {
		callers.Go(func() {
			for range bigBacklog / 1000 {
				if _, err := s.Append(context.Background(), event.Routine, day, benchTopic, func(uint64, event.Hash) ([]byte, error) { return payload, nil }); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	require.NoError(b, s.Close())
	payload = nil
	runtime.GC()
	for b.Loop() {
		before := resident(b)
		began := time.Now()
		s, err := Open(dir, o)
		require.NoError(b, err)
		opened := time.Since(began)
		r := s.Reader(DefaultConsumer, event.Routine)
		records, err := r.Next(1, 1<<20)
		require.NoError(b, err)
		require.Equal(b, uint64(1), records[0].Sequence)
		first := time.Since(began)
		require.Equal(b, uint64(bigBacklog), s.Stats().Routine.Backlog)
		after := resident(b)
		n := 1
		for {
			records, err := r.Next(1000, 1<<20)
			require.NoError(b, err)
			if len(records) == 0 {
				break
			}
			n += len(records)
		}
		require.Equal(b, bigBacklog, n)
		all := time.Since(began)
		require.NoError(b, s.Close())
		b.ReportMetric(float64(opened.Microseconds())/1000, "ms-open")
		b.ReportMetric(float64(first.Microseconds())/1000, "ms-first")
		b.ReportMetric(all.Seconds(), "s-all")
		b.ReportMetric(float64(after-before)/(1<<20), "MiB-open")
		b.ReportMetric(float64(resident(b))/(1<<20), "MiB-resident")
	}
}

// resident is the memory of this process, in bytes.
func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}
