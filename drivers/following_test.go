package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
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

// An agent that is not root can't look into lost+found.
func TestAFolderThatCantBeReadStopsNoOther(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), []byte("x"), 0o600))
	for i := range 3 {
		require.True(t, unreadable(fmt.Errorf("look: %w", &os.PathError{Op: "open", Path: "x", Err: []error{syscall.EACCES, syscall.EIO, syscall.ESTALE}[i]})))
	}
	require.False(t, unreadable(link.ErrHangs))
	require.False(t, unreadable(nil))
	if os.Getuid() == 0 {
		t.Skip("root may look anywhere")
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0))
	enough := errors.New("enough")
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error { return nil })
	require.NoError(t, err)
	defer f.Close()
	w := Follower{Settings: DefaultFollow(), Names: []string{"*.xml"}}
	w.Settings.Quiet = 0
	h := &notingHost{}
	looks := 0
	err = w.Follow(t.Context(), f, h, func(_ *link.Folder, ready []*Followed) (bool, error) {
		require.Len(t, ready, 1)
		if looks++; looks == 3 {
			return false, enough
		}
		return false, nil
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, []string{"no permission to read the folder lost+found"}, h.unparsed)
}
