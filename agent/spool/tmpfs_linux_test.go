package spool

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

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
