package drivers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/link"
)

// notingHost notes what can't be read.
type notingHost struct {
	MemoryLedger
	unparsed []string
}

func (h *notingHost) Now() time.Time                { return time.Now() }
func (h *notingHost) Log() *slog.Logger             { return slog.New(slog.DiscardHandler) }
func (h *notingHost) Emit(Observation) error        { return nil }
func (h *notingHost) Valid()                        {}
func (h *notingHost) Ledger() Ledger                { return &h.MemoryLedger }
func (h *notingHost) Unparsed(why string, _ []byte) { h.unparsed = append(h.unparsed, why) }

func TestAFolderThatIsTooFullIsTold(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	for i := range 4 {
		put(fmt.Sprintf("%d.xml", i))
	}
	put("other.txt")
	put("half.xml.part")
	looks := 0
	enough := errors.New("enough")
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error { return nil })
	require.NoError(t, err)
	defer f.Close()
	w := Follower{Settings: DefaultFollow(), Names: []string{"*.xml"}, Most: 3}
	w.Settings.Quiet = 0
	h := &notingHost{}
	err = w.Follow(t.Context(), f, h, func(_ *link.Folder, ready []*Followed) (bool, error) {
		looks++
		switch looks {
		case 1:
			require.Len(t, ready, 3)
			require.True(t, w.Full())
			for _, c := range ready {
				require.NoError(t, c.Finish(h))
			}
		case 2:
			require.Empty(t, ready, "they are told, and there is no place for the fourth")
			require.NoError(t, os.Remove(filepath.Join(dir, "0.xml")))
		case 3: // there was no place yet when it was listed
			require.Len(t, h.unparsed, 1)
			require.Contains(t, h.unparsed[0], "more than 3 files")
		case 4:
			require.Len(t, ready, 1)
			require.Equal(t, "3.xml", ready[0].Name())
			require.False(t, w.Full())
			return false, enough
		}
		return false, nil
	})
	require.ErrorIs(t, err, enough)
	require.Len(t, h.unparsed, 1, "it is told once")
}

// asNobody runs a test once more as a user who is not root, who may look anywhere.
func asNobody(t *testing.T) (isNobody bool) {
	t.Helper()
	if os.Getuid() != 0 {
		return true
	}
	child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	child.Dir = "/"
	out, err := child.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: "+t.Name(), string(out))
	return false
}

// follow looks once for each step, and ends with the last.
func follow(t *testing.T, dir string, w *Follower, h *notingHost, steps ...func(ready []*Followed)) {
	t.Helper()
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error { return nil })
	require.NoError(t, err)
	defer f.Close()
	enough := errors.New("enough")
	err = w.Follow(t.Context(), f, h, func(_ *link.Folder, ready []*Followed) (bool, error) {
		steps[0](ready)
		if steps = steps[1:]; len(steps) == 0 {
			return false, enough
		}
		return false, nil
	})
	require.ErrorIs(t, err, enough)
}

func TestWhatIsUnreadable(t *testing.T) {
	for _, err := range []error{syscall.EACCES, syscall.EIO, syscall.ESTALE} {
		require.True(t, unreadable(fmt.Errorf("look: %w", &os.PathError{Op: "open", Path: "x", Err: err})))
	}
	require.False(t, unreadable(link.ErrHangs))
	require.False(t, unreadable(nil))
}

// An agent that is not root can't look into lost+found.
func TestAFolderThatCantBeReadStopsNoOther(t *testing.T) {
	if !asNobody(t) {
		return
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), []byte("x"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0))
	w := &Follower{Settings: DefaultFollow(), Names: []string{"*.xml"}}
	w.Settings.Quiet = 0
	h := &notingHost{}
	look := func(ready []*Followed) { require.Len(t, ready, 1) }
	follow(t, dir, w, h, look, look, look)
	require.Equal(t, []string{"no permission to read the folder lost+found"}, h.unparsed)
}

// The files of a folder that can't be read are not gone, and each time that it can't be read
// any more is told.
func TestFilesThatCantBeSeenAreNotGone(t *testing.T) {
	if !asNobody(t) {
		return
	}
	// Of the second its name can be seen, and nothing of it.
	for name, mode := range map[string]fs.FileMode{"no rights": 0, "no right to look at files": 0o400} {
		t.Run(name, func(t *testing.T) {
			const told = "no permission to read the folder sub"
			dir := t.TempDir()
			sub := filepath.Join(dir, "sub")
			require.NoError(t, os.Mkdir(sub, 0o700))
			t.Cleanup(func() { _ = os.Chmod(sub, 0o700) }) //nolint:gosec // it is to be removed
			require.NoError(t, os.WriteFile(filepath.Join(sub, "1.xml"), []byte("x"), 0o600))
			var gone []string
			w := &Follower{Settings: DefaultFollow(), Names: []string{"*.xml"}, Gone: func(_ Host, path string) error {
				gone = append(gone, path)
				return nil
			}}
			w.Settings.Quiet = 0
			h := &notingHost{}
			may := func(mode fs.FileMode) { require.NoError(t, os.Chmod(sub, mode)) }
			follow(t, dir, w, h, func(ready []*Followed) {
				require.Len(t, ready, 1)
				require.NoError(t, ready[0].Finish(h))
				may(mode)
			}, func(ready []*Followed) {
				require.Empty(t, ready)
				require.Empty(t, gone)
				require.True(t, w.Here("sub/1.xml"))
				require.False(t, w.Here("other/1.xml"))
			}, func([]*Followed) {
				require.Equal(t, []string{told}, h.unparsed)
				may(0o700)
			}, func(ready []*Followed) {
				require.Empty(t, ready, "it is told already")
				may(mode)
			}, func([]*Followed) {
				require.Equal(t, []string{told, told}, h.unparsed)
				may(0o700)
				require.NoError(t, os.Remove(filepath.Join(sub, "1.xml")))
			}, func([]*Followed) {
				require.Equal(t, []string{"sub/1.xml"}, gone)
				require.False(t, w.Here("sub/1.xml"))
			})
		})
	}
}

// Of many that can't be read it is told that there are more.
func TestManyFoldersThatCantBeRead(t *testing.T) {
	if !asNobody(t) {
		return
	}
	dir := t.TempDir()
	for i := range maxUnread + 6 {
		require.NoError(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0))
	}
	w := &Follower{Settings: DefaultFollow(), Names: []string{"*.xml"}}
	h := &notingHost{}
	look := func([]*Followed) {}
	follow(t, dir, w, h, look, look, look)
	require.Len(t, h.unparsed, maxUnread+1)
	require.Contains(t, h.unparsed[maxUnread], "more than 64 folders and files can't be read")
	require.True(t, w.Here("69/1.xml"), "nobody knows")
}
