package xray

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// revisions are the lines of events, with what each supersedes: 0 for none, else which.
func revisions(h *host) (list []string) {
	ids := map[string]int{"": 0}
	for i, o := range h.observations {
		ids[o.ID] = i + 1
	}
	for _, o := range h.observations {
		list = append(list, fmt.Sprintf("%s over %d %v", line(o), ids[o.Data.(event.XrayScan).Supersedes], o.Data.(event.XrayScan).Remarks))
	}
	return list
}

// The agent stops between an alarm's event and the ledger, and another message of the scan
// comes first: no revision is there twice, and the alarm stands.
func TestRevisionsDoNotFork(t *testing.T) {
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	say := func(text string) error {
		_, _, err := messengerOf(t).(*messenger).take(h, []byte(text))
		return err
	}
	require.NoError(t, say(message("A", "")))
	h.lose = func(drivers.Observation) error { return errStop }
	require.ErrorIs(t, say(message("A", "FOUND")), errStop)
	require.ErrorIs(t, say(message("A", "", "<More/>")), errStop)
	require.ErrorIs(t, say(message("A", "", "<More/>")), errStop)
	h.lose = nil
	require.NoError(t, say(message("A", "", "<More/>")))
	require.NoError(t, say(message("A", "FOUND")))
	require.NoError(t, say(message("A", "FOUND")))
	require.Equal(t, []string{
		"A r1 complete operational pending over 0 []",
		"A r2 complete operational suspicious over 1 []",
		"A r3 complete operational suspicious over 2 [alarm_of_earlier_revision]",
		"A r3 complete operational suspicious over 2 [alarm_of_earlier_revision]",
		"A r3 complete operational suspicious over 2 [alarm_of_earlier_revision]",
		"A r4 complete operational suspicious over 5 []",
	}, revisions(h))
	require.Equal(t, h.observations[2].ID, h.observations[3].ID, "the same event, which a receiver knows by its id")
	require.Equal(t, h.observations[2].ID, h.observations[4].ID)
	require.Empty(t, h.ledger.Get("next:A"))
}

// What was intended and not told is superseded too: whether it was can't be known.
func TestRevisionThatNeverCame(t *testing.T) {
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	m := messengerOf(t).(*messenger)
	h.refuse = func(drivers.Observation) error { return errStop }
	_, _, err := m.take(h, []byte(message("A", "OK")))
	require.ErrorIs(t, err, errStop)
	h.refuse = nil
	for _, text := range []string{message("A", ""), message("A", "OK")} {
		_, _, err = m.take(h, []byte(text))
		require.NoError(t, err)
	}
	require.Len(t, h.observations, 2)
	require.Equal(t, "A r2 complete operational pending", line(h.observations[0]))
	require.NotEmpty(t, h.observations[0].Data.(event.XrayScan).Supersedes)
	require.Equal(t, "A r3 complete operational nothing_found", line(h.observations[1]))
}

// A full ledger stops no scan: it is told, once as long as the agent runs, with revisions,
// and that the ledger is full is told once.
func TestFullLedger(t *testing.T) {
	full := &drivers.MemoryLedger{Most: 1}
	require.NoError(t, full.Put("x", "y"))
	h := &host{ledger: full, now: time.Now}
	m := messengerOf(t).(*messenger)
	for _, reason := range []string{"OK", "OK", "FOUND", "OK"} {
		_, good, err := m.take(h, []byte(message("A", reason)))
		require.NoError(t, err)
		require.True(t, good)
	}
	require.Equal(t, []string{"A r1 complete operational nothing_found over 0 []", "A r2 complete operational suspicious over 1 []"}, revisions(h))
	require.Len(t, h.unparsed, 1)
	require.Contains(t, h.unparsed[0], "may be told again after a restart")

	dir := t.TempDir()
	for i := range 3 {
		name := fmt.Sprint(i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".xml"), scan(name, "1", func(s *sidecar.Scan) { s.Files = nil }), 0o600))
	}
	h = &host{ledger: full, now: time.Now}
	require.ErrorIs(t, watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days = nil }), 6), errStop)
	require.Len(t, h.observations, 3)
	require.Len(t, h.unparsed, 1)
}

// What the ledger did not take is in memory, in a bounded number, until it does.
func TestUnkept(t *testing.T) {
	full := &drivers.MemoryLedger{Most: 1}
	require.NoError(t, full.Put("scan:old", "1"))
	var u unkept
	l := u.over(&host{ledger: full, now: time.Now}).Ledger()
	for i := range maxUnkept + 1 {
		require.NoError(t, l.Put(fmt.Sprint("scan:", i), "1"))
	}
	require.Empty(t, l.Get("scan:0"), "the oldest gives way")
	require.Equal(t, "1", l.Get("scan:1"))
	require.NoError(t, l.Put("scan:1", ""))
	require.Empty(t, l.Get("scan:1"))
	count := func() (n int) {
		l.Each("scan:", func(string, string) bool { n++; return true })
		return n
	}
	require.Equal(t, maxUnkept, count()) // and the old one
	require.NoError(t, l.Put("scan:old", ""))
	require.NoError(t, l.Put("scan:2", "2"))
	require.Equal(t, "2", full.Get("scan:2"))
	require.Equal(t, "2", l.Get("scan:2"))
	require.Equal(t, maxUnkept-1, count())
}

// One file that can't be told, whatever is wrong with it, stops no other.
func TestOneBadFile(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for i, b := range [][]byte{
		scan("1", "1", func(s *sidecar.Scan) { s.Files = nil }),
		scan(strings.Repeat("9", maxWord+1), "1", func(s *sidecar.Scan) { s.Files = nil }),
		scan(strings.Repeat("9", drivers.MaxLedgerText), "1", func(s *sidecar.Scan) { s.Files = nil }),
		scan("big", "1", func(s *sidecar.Scan) { s.Files = nil }),
		bytes.ReplaceAll(scan("never", "1", func(s *sidecar.Scan) { s.Files = nil }), []byte("2026-01-05T"), []byte("9999-12-31T")),
	} {
		name := filepath.Join(dir, fmt.Sprint(i, ".xml"))
		require.NoError(t, os.WriteFile(name, b, 0o600))
		require.NoError(t, os.Chtimes(name, now, now.Add(time.Duration(i-9)*time.Minute))) // the good one is the last
	}
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now, refuse: func(o drivers.Observation) error {
		if o.Subject == "big" {
			return fmt.Errorf("%w: too large", drivers.ErrUnrecordable)
		}
		_, err := json.Marshal(o.Data)
		return err
	}}
	require.ErrorIs(t, watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days = nil }), 9), errStop)
	require.ElementsMatch(t, []string{"1 r1 complete operational suspicious", "never r1 complete operational suspicious"}, lines(drivers.Played{Observations: h.observations}))
	require.Len(t, h.unparsed, 3, "each is told once")
}

// What is old and not in the folder any more is forgotten; what is there is not, however old
// it is, and is not told again.
func TestFolderForgets(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for _, name := range []string{"here", "gone"} {
		file := filepath.Join(dir, name+".xml")
		require.NoError(t, os.WriteFile(file, scan(name, "1", func(s *sidecar.Scan) { s.Files = nil }), 0o600))
		require.NoError(t, os.Chtimes(file, now, now))
	}
	h := &host{ledger: &drivers.MemoryLedger{}, now: func() time.Time { return now }}
	look := func() {
		require.ErrorIs(t, watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days = nil }), 4), errStop)
	}
	look()
	require.Len(t, h.observations, 2)
	require.NoError(t, os.Remove(filepath.Join(dir, "gone.xml")))
	now = now.Add(rememberFiles - 24*time.Hour)
	h.now = func() time.Time { return now }
	look()
	require.NotEmpty(t, h.ledger.Get("path:gone.xml"))
	require.NotEmpty(t, h.ledger.Get("scan:gone"))
	now = now.Add(48 * time.Hour)
	h.now = func() time.Time { return now }
	look()
	for _, key := range []string{"path:gone.xml", "scan:gone"} {
		require.Empty(t, h.ledger.Get(key))
	}
	for _, key := range []string{"path:here.xml", "scan:here"} {
		require.NotEmpty(t, h.ledger.Get(key))
	}
	require.Len(t, h.observations, 2)
}

// Beyond a number the oldest go, a few at a time.
func TestForgetOld(t *testing.T) {
	var l drivers.MemoryLedger
	now := time.Now()
	for i := range forgetOnce + 100 {
		require.NoError(t, l.Put(fmt.Sprintf("path:%04d", i), drivers.Seal(1, now.Add(time.Duration(i)*time.Second))))
	}
	require.NoError(t, l.Put("scan:x", "?"))
	require.NoError(t, l.Put("part:x", "?"))
	here := func(path string) bool { return path == "0000" }
	count := func() (n int) {
		l.Each("path:", func(string, string) bool { n++; return true })
		return n
	}
	require.NoError(t, forgetOld(&l, now.Add(-time.Hour), 20, here))
	require.Equal(t, 101, count())
	require.Empty(t, l.Get("scan:x"))
	require.NoError(t, forgetOld(&l, now.Add(-time.Hour), 20, here))
	require.Equal(t, 20, count())
	require.NotEmpty(t, l.Get("path:0000"), "it is still in the folder")
	require.Empty(t, l.Get("path:0001"))
	require.NotEmpty(t, l.Get("path:0599"))
	require.NotEmpty(t, l.Get("part:x"))
}
