package link

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func openFolder(t *testing.T, connect string) (*Folder, error) {
	t.Helper()
	e, err := Parse(connect, nil)
	require.NoError(t, err)
	again, err := Parse(e.String(), nil)
	require.NoError(t, err)
	require.Equal(t, e.String(), again.String())
	conn, err := e.Open(t.Context())
	if err != nil {
		return nil, err
	}
	f, ok := As[*Folder](conn)
	require.True(t, ok)
	t.Cleanup(func() { _ = f.Close() })
	return f, nil
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a b", "c"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a b", "x.xml"), []byte("<x/>"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outside"), []byte("no"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "outside"), filepath.Join(dir, "a b", "link")))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "a b", "up")))
	f, err := openFolder(t, "folder:"+filepath.Join(dir, "a%20b"))
	require.NoError(t, err)
	list, err := f.ReadDir(t.Context(), ".")
	require.NoError(t, err)
	require.Equal(t, []Entry{{"c", true}, {"x.xml", false}}, list)
	b, err := f.ReadFile(t.Context(), "x.xml", 4)
	require.NoError(t, err)
	require.Equal(t, "<x/>", string(b))
	_, err = f.ReadFile(t.Context(), "x.xml", 3)
	require.ErrorContains(t, err, "more than 3 bytes")
	for _, name := range []string{"../outside", "/etc/passwd", "link", "up/outside", "c/../../outside", "a\x00"} {
		_, err := f.ReadFile(t.Context(), name, 100)
		require.Error(t, err, name)
	}
	_, err = f.ReadFile(t.Context(), "none", 100)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, f.Check(t.Context()))

	// A share that goes away leaves an empty folder of the same name.
	require.NoError(t, os.Rename(filepath.Join(dir, "a b"), filepath.Join(dir, "gone")))
	require.ErrorIs(t, f.Check(t.Context()), ErrUnplugged)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a b"), 0o700))
	require.ErrorIs(t, f.Check(t.Context()), ErrUnplugged)

	require.NoError(t, f.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, f.Wait(t.Context(), time.Hour), os.ErrDeadlineExceeded)
	require.NoError(t, f.Close())
	_, err = f.ReadDir(t.Context(), ".")
	require.Error(t, err)
}

func TestFolderThatIsNotTheShare(t *testing.T) {
	dir := t.TempDir()
	_, err := openFolder(t, "folder:"+dir+"?mounted=yes")
	require.ErrorIs(t, err, ErrUnplugged)
	require.Contains(t, Hint(err), "mount the share")
	_, err = openFolder(t, "folder:"+dir+"?sentinel=.share")
	require.ErrorIs(t, err, ErrUnplugged)
	require.Contains(t, Hint(err), "sentinel")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".share"), nil, 0o600))
	_, err = openFolder(t, "folder:"+dir+"?sentinel=.share")
	require.NoError(t, err)
	_, err = openFolder(t, "folder:/proc?mounted=yes")
	require.NoError(t, err)
	_, err = openFolder(t, "folder:"+filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, bad := range []string{"folder:mnt/x", "folder:", "folder:/x?mounted=no", "folder:/x?sentinel=../x", "folder:/x%"} {
		_, err := Parse(bad, nil)
		require.Error(t, err, bad)
	}
}

// TestFolderHangs: a call that hangs is given up, there is never more than one, and all is
// well again when it returns.
func TestFolderHangs(t *testing.T) {
	f, err := openFolder(t, "folder:"+t.TempDir()+"?io_timeout=100ms")
	require.NoError(t, err)
	release, calls := make(chan struct{}), atomic.Int32{}
	hang := func() error {
		_, err := bounded(t.Context(), f, "read the folder x", func() (int, error) {
			calls.Add(1)
			<-release
			return 0, io.EOF
		})
		return err
	}
	err = hang()
	require.ErrorIs(t, err, ErrHangs)
	require.NotEmpty(t, Hint(err))
	require.ErrorIs(t, hang(), ErrHangs)
	_, err = f.ReadDir(t.Context(), ".")
	require.ErrorIs(t, err, ErrHangs)
	require.EqualValues(t, 1, calls.Load())
	close(release)
	require.Eventually(t, func() bool { _, err := f.ReadDir(t.Context(), "."); return err == nil }, 5*time.Second, time.Millisecond)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stop"))
	require.EqualError(t, f.Wait(ctx, time.Hour), "stop")
}
