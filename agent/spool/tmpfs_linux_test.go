package spool

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// Routine events fill a real file system and urgent ones come to it: the routine
// ones make room, then the reserve is used and put back.
func TestUrgentOnAFullDiskForReal(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	s, err := Open(dir, Options{SegmentBytes: 128 << 10})
	require.NoError(t, err)
	require.FileExists(t, dir+"/reserve")
	pour(t, s, event.Routine, 10_000)
	require.Positive(t, s.look().free)
	require.Len(t, s.Losses(), 1)
	var stored uint64
	for {
		seq, err := addNow(s, event.Urgent)
		if err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		stored = seq
	}
	require.Greater(t, s.Stats().Urgent.Bytes, int64(1500<<10))
	require.NoFileExists(t, dir+"/reserve")
	require.Equal(t, "disk", s.Stats().Pressure)
	r := s.Reader(DefaultConsumer, event.Urgent)
	require.Len(t, drain(t, r), int(stored))
	require.NoError(t, r.Ack(stored))
	pour(t, s, event.Urgent, 1)
	require.Eventually(t, func() bool { return s.Stats().Pressure == "" }, 10*time.Second, 10*time.Millisecond)
	require.FileExists(t, dir+"/reserve")
	require.NoError(t, s.Close())
}

// A real file system that is really full. It takes the right to mount one;
// TestDiskFull shows the same on one in memory, everywhere.
func TestDiskFullForReal(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	s, err := Open(dir, Options{SegmentBytes: 128 << 10})
	require.NoError(t, err)
	fillUp(t, s)
	require.NoError(t, s.Close())

	// Another process takes all the rest: a start must work all the same.
	hog, err := os.Create(dir + "/hog")
	require.NoError(t, err)
	for b := make([]byte, 4096); err == nil; {
		_, err = hog.Write(b)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, hog.Close())
	s, err = Open(dir, Options{SegmentBytes: 128 << 10})
	require.NoError(t, err)
	_, err = add(s, "urgent", "x")
	require.ErrorIs(t, err, ErrFull)
	require.NotEmpty(t, drain2(t, s))
	require.NoError(t, os.Remove(dir+"/hog"))
	_, err = add(s, "urgent", "x")
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
