package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestLedgerLasts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "x.jsonl")
	l := open(t, path)
	require.Empty(t, l.Get("a"))
	require.NoError(t, l.Put("a", "1"))
	require.NoError(t, l.Put("path:ü\n", "2\n\""))
	require.NoError(t, l.Put("a", "3"))
	require.NoError(t, l.Put("gone", "4"))
	require.NoError(t, l.Put("gone", ""))
	require.Error(t, l.Put("", "x"))
	require.Error(t, l.Put("x", strings.Repeat("x", MaxText+1)))
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Put("a", "4"), os.ErrClosed)

	l = open(t, path)
	require.Equal(t, "3", l.Get("a"))
	require.Equal(t, "2\n\"", l.Get("path:ü\n"))
	require.Empty(t, l.Get("gone"))
	found := map[string]string{}
	l.Each("path:", func(k, v string) bool { found[k] = v; return true })
	require.Equal(t, map[string]string{"path:ü\n": "2\n\""}, found)
}

// TestPowerCut: whatever a power failure leaves of the last line, everything before it is
// there, and more can be written.
func TestPowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path)
	for i := range 5 {
		require.NoError(t, l.Put(fmt.Sprint("k", i), strings.Repeat("v", 20)))
	}
	require.NoError(t, l.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	last := strings.LastIndex(strings.TrimSuffix(string(whole), "\n"), "\n") + 1
	for cut := last; cut <= len(whole); cut++ {
		for _, garbage := range []string{"", "\x00\x00\x00\x00", "{\"k\":"} {
			require.NoError(t, os.WriteFile(path, append(whole[:cut:cut], garbage...), 0o600))
			l, err := Open(path)
			require.NoError(t, err)
			for i := range 4 {
				require.NotEmpty(t, l.Get(fmt.Sprint("k", i)), "cut at %d", cut)
			}
			require.NoError(t, l.Put("new", "1"))
			require.NoError(t, l.Close())
			l, err = Open(path)
			require.NoError(t, err)
			require.Equal(t, "1", l.Get("new"))
			require.Zero(t, l.Left)
			require.NoError(t, l.Close())
		}
	}
}

func TestLedgerStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path)
	for i := range 3000 {
		require.NoError(t, l.Put(fmt.Sprint("k", i%3), fmt.Sprint(i)))
	}
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, st.Size(), int64(40_000))
	require.Equal(t, "2999", l.Get("k2"))
	require.NoError(t, l.Close())
	require.Equal(t, "2997", open(t, path).Get("k0"))
}

// TestFullDisk: what the disk refuses is not known, and nothing else is lost.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	path := filepath.Join(t.TempDir(), "x.jsonl")
	l := open(t, path)
	require.NoError(t, l.Put("a", "1"))
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	good := l.file
	l.file = full
	require.Error(t, l.Put("a", "2"))
	require.Equal(t, "1", l.Get("a"))
	require.NoError(t, full.Close())
	l.file = good
	require.NoError(t, l.Put("b", "2"))
	require.NoError(t, l.Close())
	l = open(t, path)
	require.Equal(t, "1", l.Get("a"))
	require.Equal(t, "2", l.Get("b"))
}
