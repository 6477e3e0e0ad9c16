package xray

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/cargovision"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// day is where the scripts drop: they begin on 5 January 2026.
const day = "2026/01/05/"

func picture(shade uint8) []byte {
	img := image.NewGray(image.Rect(0, 0, 64, 32))
	for i := range img.Pix {
		img.Pix[i] = shade + uint8(i%7)
	}
	img.SetGray(1, 1, color.Gray{255})
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// scan is a sidecar; verdict is empty for one that nobody has looked at.
func scan(id, verdict string, change ...func(*sidecar.Scan)) []byte {
	at := drivers.ScriptStart().Add(-time.Minute)
	s := &sidecar.Scan{
		ID: id, Site: "000412", System: "HCVP", Start: at, End: at.Add(30 * time.Second),
		Files: []sidecar.File{{Name: id + "S.Img", Role: "image"}, {Name: id + "S_stamp.jpg", Role: "preview"}},
	}
	if verdict != "" {
		s.Analyses = append(s.Analyses, sidecar.Analysis{Name: "analysis", Result: verdict, Start: at.Add(time.Minute), End: at.Add(90 * time.Second)})
	}
	for _, f := range change {
		f(s)
	}
	return cargovision.Form{}.Append(nil, s)
}

// files are the two that a scan names.
func filesOf(at time.Duration, dir, id string) []drivers.Dropped {
	return []drivers.Dropped{
		{At: at, Name: day + dir + "/" + id + "S.Img", Content: []byte("raw " + id)},
		{At: at, Name: day + dir + "/" + id + "S_stamp.jpg", Content: picture(90)},
	}
}

func instrument(t *testing.T, change ...func(*FolderSettings)) drivers.Instrument {
	t.Helper()
	d, err := Folder().New(func(into any) error {
		s := into.(*FolderSettings)
		s.Days, s.Every = []string{"%Y/%m/%d"}, 15*time.Second
		s.Verdicts = map[string]string{"0": event.DecisionNothingFound, "1": event.DecisionSuspicious}
		for _, f := range change {
			f(s)
		}
		return nil
	})
	require.NoError(t, err)
	return d
}

// line is what a test compares of an event.
func line(o drivers.Observation) string {
	e := o.Data.(event.XrayScan)
	text := fmt.Sprintf("%s r%d %s %s %s", e.ScanID, e.Revision, e.Completeness, e.Mode, e.Decision)
	if len(e.Missing) > 0 {
		text += " without " + strings.Join(e.Missing, ",")
	}
	return text
}

func play(t *testing.T, d drivers.Instrument, script ...drivers.Dropped) drivers.Played {
	t.Helper()
	p, err := drivers.PlayFolder(t.Context(), d, script)
	require.NoError(t, err)
	return p
}

func lines(p drivers.Played) []string {
	list := []string{}
	for _, o := range p.Observations {
		list = append(list, line(o))
	}
	return list
}

func join(lists ...[]drivers.Dropped) []drivers.Dropped {
	var all []drivers.Dropped
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func one(at time.Duration, name string, content []byte) []drivers.Dropped {
	return []drivers.Dropped{{At: at, Name: day + name, Content: content}}
}

// Each thing that goes wrong with files, by its name.
func TestFiles(t *testing.T) {
	const id = "20260105000412001K"
	whole := picture(90)
	complete := id + " r1 complete operational pending"
	for name, c := range map[string]struct {
		script   []drivers.Dropped
		want     []string
		unparsed int
	}{
		"sidecar first":   {join(one(0, "a/"+id+".xml", scan(id, "")), filesOf(20*time.Second, "a", id)), []string{complete}, 0},
		"image first":     {join(filesOf(0, "a", id), one(20*time.Second, "a/"+id+".xml", scan(id, ""))), []string{complete}, 0},
		"everything once": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, ""))), []string{complete}, 0},
		"slow write": {join(filesOf(0, "a", id),
			one(time.Second, "a/"+id+".xml", scan(id, "")[:100]), one(3*time.Second, "a/"+id+".xml", scan(id, "")[:400]), one(5*time.Second, "a/"+id+".xml", scan(id, ""))), []string{complete}, 0},
		"temporary name, then renamed": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml.tmp", scan(id, "")), one(0, "a/."+id+".xml", []byte("x")),
			[]drivers.Dropped{{At: 10 * time.Second, Name: day + "a/" + id + ".xml.tmp", Remove: true}}, one(10*time.Second, "a/"+id+".xml", scan(id, ""))), []string{complete}, 0},
		"truncated JPEG that is completed": {join(filesOf(0, "a", id), one(0, "a/"+id+"S_stamp.jpg", whole[:len(whole)-10]), one(0, "a/"+id+".xml", scan(id, "")),
			one(30*time.Second, "a/"+id+"S_stamp.jpg", whole)), []string{complete}, 0},
		"truncated JPEG for good": {join(filesOf(0, "a", id), one(0, "a/"+id+"S_stamp.jpg", whole[:len(whole)-10]), one(0, "a/"+id+".xml", scan(id, ""))),
			[]string{id + " r1 partial operational pending without " + id + "S_stamp.jpg"}, 0},
		"file of no bytes": {join(filesOf(0, "a", id), one(0, "a/"+id+"S.Img", nil), one(0, "a/"+id+".xml", scan(id, ""))),
			[]string{id + " r1 partial operational pending without " + id + "S.Img"}, 0},
		"sidecar of no bytes": {one(0, "a/"+id+".xml", nil), []string{}, 1},
		"a file that never comes": {join(filesOf(0, "a", id)[:1], one(0, "a/"+id+".xml", scan(id, ""))),
			[]string{id + " r1 partial operational pending without " + id + "S_stamp.jpg"}, 0},
		"a file that comes after the deadline": {join(filesOf(0, "a", id)[:1], one(0, "a/"+id+".xml", scan(id, "")), filesOf(5*time.Minute, "a", id)[1:]),
			[]string{id + " r1 partial operational pending without " + id + "S_stamp.jpg", id + " r2 complete operational pending"}, 0},
		"a file that is marked as deleted": {join(filesOf(0, "a", id)[:1], one(0, "a/"+id+".xml", scan(id, "", func(s *sidecar.Scan) { s.Files[1].Deleted = true }))), []string{complete}, 0},
		"copied from another disk, slowly and not in one piece": {join(
			one(0, "a/"+id+"S.Img", []byte("r")), one(0, "a/"+id+"S_stamp.jpg", whole[:40]), one(4*time.Second, "a/"+id+".xml", scan(id, "")[:200]),
			one(8*time.Second, "a/"+id+"S.Img", []byte("raw")), one(8*time.Second, "a/"+id+"S_stamp.jpg", whole), one(40*time.Second, "a/"+id+".xml", scan(id, ""))), []string{complete}, 0},
		"the day by local time, and by UTC": {join(
			[]drivers.Dropped{{At: 20 * time.Hour, Name: "2026/01/07/local/1.xml", Content: scan("1", "", func(s *sidecar.Scan) { s.Files = nil })}},
			[]drivers.Dropped{{At: 21 * time.Hour, Name: "2026/01/06/utc/2.xml", Content: scan("2", "", func(s *sidecar.Scan) { s.Files = nil })}}),
			[]string{"1 r1 complete operational pending", "2 r1 complete operational pending"}, 0},
		"the export comes twice": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, "")), filesOf(time.Minute, "b", id), one(time.Minute, "b/"+id+".xml", scan(id, ""))),
			[]string{complete}, 0},
		"the same is written again": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, "")), one(time.Minute, "a/"+id+".xml", scan(id, "")), one(2*time.Minute, "a/"+id+".xml", scan(id, ""))),
			[]string{complete}, 0},
		"an old export comes after a new one": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, "")), one(time.Minute, "a/"+id+".xml", scan(id, "1")),
			filesOf(2*time.Minute, "b", id), one(2*time.Minute, "b/"+id+".xml", scan(id, ""))),
			[]string{complete, id + " r2 complete operational suspicious"}, 0},
		"names in capitals": {join(one(0, "a/"+strings.ToLower(id)+"s_STAMP.JPG", whole), one(0, "a/"+id+"S.Img", []byte("x")), one(0, "a/"+id+".XML", scan(id, ""))), []string{complete}, 0},
		"a name that leads away": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, "", func(s *sidecar.Scan) { s.Files[0].Name = "../../../../../etc/passwd" }))),
			[]string{id + " r1 partial operational pending without ../../../../../etc/passwd"}, 0},
		"an XML bomb":      {one(0, "a/x.xml", []byte(`<!DOCTYPE a [<!ENTITY b "`+strings.Repeat("x", 1000)+`">]><DataForm><TruckId>&b;&b;</TruckId></DataForm>`)), []string{}, 1},
		"another document": {one(0, "a/x.xml", []byte(`<other/>`)), []string{}, 1},
		"UTF-16":           {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", cargovision.Form{Old: true, UTF16: true}.Append(nil, &sidecar.Scan{ID: id}))), []string{complete}, 0},
		"too large":        {one(0, "a/x.xml", bytes.Repeat([]byte(" "), sidecar.MaxDocument+1)), []string{}, 1},
		"the next day, over midnight": {join(
			[]drivers.Dropped{{At: 17*time.Hour + 59*time.Minute, Name: "2026/01/05/z/" + id + ".xml", Content: scan(id, "", func(s *sidecar.Scan) { s.Files = nil })}},
			[]drivers.Dropped{{At: 18*time.Hour + time.Minute, Name: "2026/01/06/a/2.xml", Content: scan("2", "", func(s *sidecar.Scan) { s.Files = nil })}},
			[]drivers.Dropped{{At: 19 * time.Hour, Name: "2026/01/04/late/3.xml", Content: scan("3", "", func(s *sidecar.Scan) { s.Files = nil })}}),
			[]string{complete, "2 r1 complete operational pending", "3 r1 complete operational pending"}, 0},
		"the folder of the day is taken away": {join(filesOf(0, "a", id), one(0, "a/"+id+".xml", scan(id, "")), []drivers.Dropped{{At: time.Minute, Name: "2026", Remove: true}},
			one(2*time.Minute, "b/2.xml", scan("2", "", func(s *sidecar.Scan) { s.Files = nil }))), []string{complete, "2 r1 complete operational pending"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := play(t, instrument(t), c.script...)
			require.Equal(t, c.want, lines(p))
			require.Len(t, p.Unparsed, c.unparsed, "%v", p.Unparsed)
			for _, o := range p.Observations {
				e := o.Data.(event.XrayScan)
				require.Len(t, o.Attachments, len(e.Attachments))
				require.NotContains(t, e.Private.Raw.Text, "root:")
			}
		})
	}
}

// What happens to files of a form that is not published.
func TestOpaque(t *testing.T) {
	dicom := append(make([]byte, 128), "DICM"...)
	opaque := func(s *FolderSettings) {
		s.Dialect, s.Sidecars, s.Days, s.MaxFile = dialectOpaque, []string{"*.uff"}, nil, 1000
	}
	p := play(t, instrument(t, opaque),
		drivers.Dropped{At: 0, Name: "1.uff", Content: []byte("PK\x03\x04one")},
		drivers.Dropped{At: 0, Name: "2.uff", Content: dicom},
		drivers.Dropped{At: 0, Name: "3.uff"},
		drivers.Dropped{At: 0, Name: "4.uff", Content: make([]byte, 1001)},
		drivers.Dropped{At: 0, Name: "5.xml", Content: []byte("<x/>")},
		drivers.Dropped{At: 5 * time.Minute, Name: "1.uff", Content: []byte("PK\x03\x04one")}, // the same again
		drivers.Dropped{At: 6 * time.Minute, Name: "b/1.uff", Content: []byte("\x89HDF two")},
		drivers.Dropped{At: 7 * time.Minute, Name: "4.uff", Content: []byte("four")},
		drivers.Dropped{At: 8 * time.Minute, Name: "4.uff", Content: []byte("\xef\xbb\xbf<?xml?>")},
		drivers.Dropped{At: 20 * time.Minute, Name: "5.xml", Content: []byte("<x/>")},
	)
	require.Len(t, p.Unparsed, 1)
	require.Contains(t, p.Unparsed[0].Reason, "3.uff can't be read: it is empty")
	var got []string
	for _, o := range p.Observations {
		e := o.Data.(event.XrayScan)
		require.Len(t, e.Files, 1)
		require.Equal(t, event.DecisionUnknown, e.Decision, "nobody can know")
		require.Equal(t, event.Routine, e.Class())
		require.Len(t, o.Attachments, len(e.Attachments))
		if f := e.Files[0]; f.State == "here" {
			require.Equal(t, f.SHA256, e.Attachments[0].SHA256)
		}
		got = append(got, fmt.Sprintf("%s r%d %s %s", e.ScanID, e.Revision, e.Files[0].State, e.Files[0].Looks))
	}
	slices.Sort(got)
	require.Equal(t, []string{"1.uff r1 here zip", "2.uff r1 here dicom", "4.uff r1 too_large ", "4.uff r2 here unknown", "4.uff r3 here xml", "b/1.uff r1 here hdf5"}, got)
	_, err := Folder().New(func(into any) error {
		opaque(into.(*FolderSettings))
		into.(*FolderSettings).Sidecar = &sidecar.Dialect{}
		return nil
	})
	require.ErrorContains(t, err, "the dialect opaque has none")
}

// Two files in folders with long names are two scans.
func TestLongPaths(t *testing.T) {
	long := strings.Repeat("\u0436", 100) + "/" + strings.Repeat("x", 200) + "/"
	p := play(t, instrument(t, func(s *FolderSettings) { s.Dialect, s.Sidecars, s.Days = dialectOpaque, []string{"*.uff"}, nil }),
		drivers.Dropped{Name: long + "1.uff", Content: []byte("one")}, drivers.Dropped{Name: long + "2.uff", Content: []byte("two")})
	require.Len(t, p.Observations, 2)
	a, b := p.Observations[0].Data.(event.XrayScan).ScanID, p.Observations[1].Data.(event.XrayScan).ScanID
	require.NotEqual(t, a, b)
	require.LessOrEqual(t, len(a), maxWord)
	require.Contains(t, a, "#")
}

// TestLateTwiceAndCorrected: a scan that arrives an hour late, twice, and then corrected is
// one scan with revisions, and its alarm is there.
func TestLateTwiceAndCorrected(t *testing.T) {
	const id = "20260105000412001K"
	p := play(t, instrument(t), join(
		filesOf(time.Hour, "a", id), one(time.Hour, "a/"+id+".xml", scan(id, "0")),
		filesOf(time.Hour+time.Minute, "b", id), one(time.Hour+time.Minute, "b/"+id+".xml", scan(id, "0")),
		one(time.Hour+10*time.Minute, "a/"+id+".xml", scan(id, "1")),
	)...)
	require.Equal(t, []string{id + " r1 complete operational nothing_found", id + " r2 complete operational suspicious"}, lines(p))
	first, second := p.Observations[0], p.Observations[1]
	require.Equal(t, first.ID, second.Data.(event.XrayScan).Supersedes)
	require.NotEqual(t, first.ID, second.ID)
	require.Equal(t, event.Routine, first.Data.Class())
	require.Equal(t, event.Urgent, second.Data.Class())
	require.Equal(t, id, second.Subject)
	e := second.Data.(event.XrayScan)
	require.Equal(t, "thumbnail.jpg", e.Attachments[0].Name)
	require.Less(t, e.Attachments[0].Size, int64(maxThumbnail))
	require.Len(t, e.Attachments, 3)
	require.Equal(t, drivers.ScriptStart().Add(-time.Minute), second.DeviceTime.UTC())
}

// host is a drivers.Host over a real folder, which can be told to stop.
type host struct {
	ledger drivers.Ledger
	now    func() time.Time

	mu           sync.Mutex
	observations []drivers.Observation
	valid        int
	unparsed     []string
	// refuse, if set, is asked before an event is taken, lose after.
	refuse, lose func(drivers.Observation) error
}

func (h *host) Now() time.Time         { return h.now() }
func (h *host) Log() *slog.Logger      { return slog.New(slog.DiscardHandler) }
func (h *host) Ledger() drivers.Ledger { return h.ledger }
func (h *host) Valid()                 { h.mu.Lock(); h.valid++; h.mu.Unlock() }
func (h *host) Unparsed(reason string, _ []byte) {
	h.mu.Lock()
	h.unparsed = append(h.unparsed, reason)
	h.mu.Unlock()
}

func (h *host) Emit(o drivers.Observation) error {
	if h.refuse != nil {
		if err := h.refuse(o); err != nil {
			return err
		}
	}
	h.mu.Lock()
	h.observations = append(h.observations, o)
	h.mu.Unlock()
	if h.lose != nil {
		return h.lose(o)
	}
	return nil
}

var errStop = errors.New("the script is over")

// watch looks n times at a folder, a minute apart.
func watch(t *testing.T, dir string, h *host, d drivers.Instrument, n int) error {
	t.Helper()
	now := h.now()
	h.now = func() time.Time { return now }
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error {
		if n--; n == 0 {
			return errStop
		}
		now = now.Add(time.Minute)
		return nil
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	return d.Run(t.Context(), f, h)
}

// TestCrash: wherever a run is cut off, the next one makes the event that is missing, with
// the same id, and no other.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), scan("1", "", func(s *sidecar.Scan) { s.Files = nil }), 0o600))
	flat := func(s *FolderSettings) { s.Days, s.Quiet = nil, 0 }
	ledger := &drivers.MemoryLedger{}
	start := time.Now()
	fresh := func() *host { return &host{ledger: ledger, now: func() time.Time { return start }} }
	crash := errors.New("the power is gone")

	h := fresh()
	h.refuse = func(drivers.Observation) error { return crash } // before the event is on disk
	require.ErrorIs(t, watch(t, dir, h, instrument(t, flat), 3), crash)

	h = fresh()
	h.lose = func(drivers.Observation) error { return crash } // after that, and before the ledger
	require.ErrorIs(t, watch(t, dir, h, instrument(t, flat), 3), crash)
	require.Len(t, h.observations, 1)
	id := h.observations[0].ID

	h = fresh()
	require.ErrorIs(t, watch(t, dir, h, instrument(t, flat), 3), errStop)
	require.Len(t, h.observations, 1)
	require.Equal(t, id, h.observations[0].ID, "the same event, which a receiver knows by its id")

	h = fresh()
	require.ErrorIs(t, watch(t, dir, h, instrument(t, flat), 3), errStop)
	require.Empty(t, h.observations, "told once, however often the agent is started")
	require.NotZero(t, h.valid)
}

// TestOurDiskIsFull: a scan waits for room, is not taken for told meanwhile, and is told
// once when there is some.
func TestOurDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), scan("1", "1", func(s *sidecar.Scan) { s.Files = nil }), 0o600))
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	waits, room := make(chan struct{}), make(chan struct{})
	h.refuse = func(drivers.Observation) error {
		close(waits)
		<-room
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		ended <- watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days, s.Quiet = nil, 0 }), 5)
	}()
	<-waits
	require.Empty(t, h.ledger.Get("path:1.xml"))
	require.Empty(t, h.ledger.Get("scan:1"))
	close(room)
	require.ErrorIs(t, <-ended, errStop)
	require.Equal(t, []string{"1 r1 complete operational suspicious"}, lines(drivers.Played{Observations: h.observations}))
	require.NotEmpty(t, h.ledger.Get("path:1.xml"))
}

// TestFolderVanishes: a share that is gone is no quiet lane.
func TestFolderVanishes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "share")
	require.NoError(t, os.Mkdir(dir, 0o700))
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error { return os.Rename(dir, dir+"-gone") })
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.ErrorIs(t, instrument(t).Run(t.Context(), f, h), link.ErrUnplugged)
	require.Equal(t, 1, h.valid)
}

// TestLinks: symbolic links are neither read nor followed.
func TestLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "1.xml")
	require.NoError(t, os.WriteFile(secret, scan("1", "", func(s *sidecar.Scan) { s.Files = nil }), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "1.xml")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "sub")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2.xml"), scan("2", ""), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "2S.Img")))
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	require.ErrorIs(t, watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days = nil }), 6), errStop)
	require.Len(t, h.observations, 1)
	require.Equal(t, "2 r1 partial operational pending without 2S.Img,2S_stamp.jpg", line(h.observations[0]))
}

// TestReadOnly: nothing is written into the folder.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), scan("1", "", func(s *sidecar.Scan) { s.Files = nil }), 0o400))
	before, err := os.Stat(filepath.Join(dir, "1.xml"))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o500))
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	require.ErrorIs(t, watch(t, dir, h, instrument(t, func(s *FolderSettings) { s.Days = nil }), 4), errStop)
	require.Len(t, h.observations, 1)
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, after, 1)
	info, err := after[0].Info()
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), info.ModTime())
	require.NoError(t, os.Chmod(dir, 0o700))
}

// TestBacklog: ten thousand scans are waiting at the start. All come, once, and one that
// arrives meanwhile comes before the heap is worked off.
func TestBacklog(t *testing.T) {
	const heap = 10_000
	dir := t.TempDir()
	old := time.Now().Add(-48 * time.Hour)
	for i := range heap {
		name := filepath.Join(dir, fmt.Sprintf("%02d", i%50), fmt.Sprintf("%05d.xml", i))
		if i < 50 {
			require.NoError(t, os.Mkdir(filepath.Dir(name), 0o700))
		}
		require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, `<DataForm><TruckId>%05d</TruckId></DataForm>`, i), 0o600))
		require.NoError(t, os.Chtimes(name, old, old.Add(time.Duration(i)*time.Second)))
	}
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
	now := time.Now()
	h.now = func() time.Time { return now }
	looks, told := 0, 0
	f, err := link.FolderAt(dir, func(context.Context, time.Duration) error {
		now = now.Add(10 * time.Second)
		if looks++; looks == 3 {
			return os.WriteFile(filepath.Join(dir, "00", "live.xml"), []byte(`<DataForm><TruckId>live</TruckId></DataForm>`), 0o600)
		}
		if len(h.observations) > heap {
			return errStop
		}
		return nil
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.ErrorIs(t, instrument(t, func(s *FolderSettings) { s.Days, s.Batch = nil, 500 }).Run(t.Context(), f, h), errStop)
	ids := map[string]bool{}
	for i, o := range h.observations {
		e := o.Data.(event.XrayScan)
		require.False(t, ids[e.ScanID])
		ids[e.ScanID] = true
		if e.ScanID == "live" {
			told = i
			require.False(t, e.Replayed)
		} else {
			require.True(t, e.Replayed)
		}
	}
	require.Len(t, ids, heap+1)
	require.Less(t, told, heap/2, "the new one did not wait for the heap")
}

func TestContent(t *testing.T) {
	at := drivers.ScriptStart()
	bare := func(s *sidecar.Scan) { s.Files = nil }
	for name, c := range map[string]struct {
		change  func(*sidecar.Scan)
		verdict string
		check   func(*testing.T, event.XrayScan)
	}{
		"a scan that ends before it starts": {func(s *sidecar.Scan) { s.End = s.Start.Add(-time.Second) }, "", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"ends_before_start"}, e.Remarks)
		}},
		"a clock that is 53 minutes ahead": {func(s *sidecar.Scan) { s.Start, s.End = at.Add(3201*time.Second), at.Add(3201*time.Second) }, "0", func(t *testing.T, e event.XrayScan) {
			require.ElementsMatch(t, []string{"clock_ahead", "analysis_before_scan"}, e.Remarks)
			require.Equal(t, event.DecisionNothingFound, e.Decision)
		}},
		"an analysis that ends before it starts": {func(s *sidecar.Scan) { s.Analyses[0].End = s.Analyses[0].Start.Add(-38 * time.Second) }, "0", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"analysis_ends_before_start"}, e.Remarks)
		}},
		"container digits in the plate, and characters that were not read": {func(s *sidecar.Scan) {
			s.Plates = []sidecar.Plate{{Text: "ABCU1+2345", Confidence: "40"}, {Trailer: true, Text: "A?1234", Confidence: "-1"}}
		}, "", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, "ABCU1+2345", e.Private.Plates[0].PlateRaw)
			require.Equal(t, "A?1234", e.Private.Plates[1].PlateRaw)
			require.Nil(t, e.Private.Plates[1].Confidence, "-1 is none")
		}},
		"a clock that was set back between two looks": {func(s *sidecar.Scan) {
			s.Analyses[0].Start, s.Analyses[0].End = s.Start.Add(-2*time.Hour), s.Start.Add(-2*time.Hour+time.Minute)
		}, "1", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"analysis_before_scan"}, e.Remarks)
			require.Equal(t, event.DecisionSuspicious, e.Decision)
		}},
		"a second trailer that is empty": {func(s *sidecar.Scan) {
			s.Plates = []sidecar.Plate{{Text: "AA1234BB"}, {Trailer: true, Text: "AA5678XX"}, {Trailer: true}}
			s.Containers = []sidecar.Container{{Position: 1, Text: "CSQU3054383"}, {Position: 2}}
		}, "", func(t *testing.T, e event.XrayScan) {
			require.Len(t, e.Private.Plates, 2)
			require.Len(t, e.Containers, 1)
		}},
		"two containers, one with a wrong check digit": {func(s *sidecar.Scan) {
			s.Containers = []sidecar.Container{{Position: 1, Text: "CSQU3054383"}, {Position: 2, Text: "CSQU3054384"}}
		}, "", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"valid", "invalid"}, []string{e.Containers[0].Check, e.Containers[1].Check})
		}},
		"an automatic analysis that failed": {func(s *sidecar.Scan) {
			s.Analyses = []sidecar.Analysis{{Machine: true, Name: "NEC", Failed: true, Result: "None", Text: "no data"}}
		}, "", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionPending, e.Decision)
			require.Equal(t, "failed", e.Analyses[0].Status)
		}},
		"a find in a drill": {func(s *sidecar.Scan) { s.Training = true }, "1", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.ScanTraining, e.Mode)
			require.Equal(t, event.Routine, e.Class(), "no live alarm")
		}},
		"nothing found in a drill": {func(s *sidecar.Scan) { s.Training = true }, "0", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionUnknown, e.Decision)
			require.Equal(t, "0", e.DecisionRaw)
		}},
		"nothing found without a picture": {func(s *sidecar.Scan) { s.Files = []sidecar.File{{Name: "x.Img", Role: "image"}} }, "0", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, "partial", e.Completeness)
			require.Equal(t, event.DecisionUnknown, e.Decision)
		}},
		"a find in a reference picture": {func(s *sidecar.Scan) { s.Reference = true }, "1", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.Routine, e.Class())
		}},
		"a verdict that nobody has explained": {bare, "7", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionUnknown, e.Decision)
			require.Equal(t, "7", e.DecisionRaw)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := play(t, instrument(t), one(0, "a/1.xml", scan("1", c.verdict, bare, c.change))...)
			require.Len(t, p.Observations, 1)
			c.check(t, p.Observations[0].Data.(event.XrayScan))
		})
	}
}

// What is wrong with the content of documents of which settings say what is what.
func TestConfiguredContent(t *testing.T) {
	configured := func(s *FolderSettings) {
		s.Dialect, s.Days, s.Zone = "configured", nil, "Europe/Kyiv"
		s.Verdicts = map[string]string{"OK": event.DecisionNothingFound, "ALARM": event.DecisionSuspicious}
		s.Sidecar = &sidecar.Dialect{Fields: map[string][]string{
			"id": {"ID"}, "start": {"T"}, "suspicious": {"S"}, "inspected": {"I"}, "training": {"D"}, "result": {"S"},
		}}
	}
	for name, c := range map[string]struct {
		body  string
		check func(*testing.T, event.XrayScan)
	}{
		"local time without a zone, in winter": {"<S><ID>1</ID><T>2026-01-05 07:59:41</T></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, "2026-01-05T05:59:41Z", e.StartedTS.UTC().Format(time.RFC3339))
			require.Equal(t, event.TimeFromDeviceZone, e.TimeSource)
			require.Empty(t, e.Remarks)
		}},
		"local time without a zone, in summer": {"<S><ID>1</ID><T>2025-07-05 07:59:41</T></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, "2025-07-05T04:59:41Z", e.StartedTS.UTC().Format(time.RFC3339))
		}},
		"DST ends, and the hour comes twice": {"<S><ID>1</ID><T>2025-10-26 03:30:00</T></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"time_ambiguous"}, e.Remarks)
		}},
		"DST begins, and the hour does not come": {"<S><ID>1</ID><T>2025-03-30 03:30:00</T></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, []string{"time_impossible"}, e.Remarks)
		}},
		"a zone is told": {"<S><ID>1</ID><T>2025-10-26T03:30:00+02:00</T></S>", func(t *testing.T, e event.XrayScan) {
			require.Empty(t, e.Remarks)
			require.Equal(t, event.TimeFromDevice, e.TimeSource)
		}},
		"-1 is yes, as Visual Basic writes it": {"<S><ID>1</ID><S>-1</S><I>-1</I><D>0</D></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionSuspicious, e.Decision)
			require.Equal(t, event.ScanOperational, e.Mode)
		}},
		"0 is no, and a drill": {"<S><ID>1</ID><S>0</S><I>-1</I><D>-1</D></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionUnknown, e.Decision)
			require.Equal(t, event.ScanTraining, e.Mode)
		}},
		"a word that verdicts do not have": {"<S><ID>1</ID><S>0</S><I>-1</I></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionUnknown, e.Decision)
			require.Equal(t, "0", e.DecisionRaw)
		}},
		"a word that verdicts call clear": {"<S><ID>1</ID><S>OK</S><I>-1</I></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionNothingFound, e.Decision)
		}},
		"and nobody has looked": {"<S><ID>1</ID><S>OK</S><I>0</I></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionPending, e.Decision)
		}},
		"a word that verdicts call an alarm": {"<S><ID>1</ID><S>ALARM</S></S>", func(t *testing.T, e event.XrayScan) {
			require.Equal(t, event.DecisionSuspicious, e.Decision)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := play(t, instrument(t, configured), drivers.Dropped{Name: "1.xml", Content: []byte(c.body)})
			require.Len(t, p.Observations, 1)
			c.check(t, p.Observations[0].Data.(event.XrayScan))
		})
	}
}

func TestSettings(t *testing.T) {
	for name, change := range map[string]func(*FolderSettings){
		"dialect":      func(s *FolderSettings) { s.Dialect = "nuctech" },
		"sidecar":      func(s *FolderSettings) { s.Sidecar = &sidecar.Dialect{} },
		"sidecars":     func(s *FolderSettings) { s.Sidecars = nil },
		"ignore":       func(s *FolderSettings) { s.Ignore = []string{"["} },
		"days":         func(s *FolderSettings) { s.Days = []string{"../%Y"} },
		"days: %q":     func(s *FolderSettings) { s.Days = []string{"%q"} },
		"every":        func(s *FolderSettings) { s.Every = 0 },
		"deadline":     func(s *FolderSettings) { s.Deadline = 0 },
		"back":         func(s *FolderSettings) { s.Back = -1 },
		"depth":        func(s *FolderSettings) { s.Depth = 99 },
		"batch":        func(s *FolderSettings) { s.Batch = 0 },
		"max_file":     func(s *FolderSettings) { s.MaxFile = 0 },
		"code_page":    func(s *FolderSettings) { s.CodePage = "utf-7" },
		"verdicts":     func(s *FolderSettings) { s.Verdicts = map[string]string{"0": "clear"} },
		"alerts":       func(s *FolderSettings) { s.Alerts = map[string][]string{"Custom7": {"AL"}} },
		"alerts: none": func(s *FolderSettings) { s.Alerts = map[string][]string{"Custom2": nil} },
		"alerts: other": func(s *FolderSettings) {
			s.Dialect, s.Alerts = "manifest", map[string][]string{"Custom2": {"AL"}}
		},
		"zone":          func(s *FolderSettings) { s.Zone = "Mars" },
		"without a way": func(s *FolderSettings) { s.Dialect = "configured" },
	} {
		_, err := Folder().New(func(into any) error { change(into.(*FolderSettings)); return nil })
		require.Error(t, err, name)
	}
	for mask, want := range map[string]string{"%Y/%m/%d": "2026/03/04", "%Y%m/%Y%m%d": "202603/20260304", "%Y/%-m/%-d": "2026/3/4", "x": "x"} {
		got, err := dayFolder(mask, time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestThumbnail(t *testing.T) {
	large := image.NewGray(image.Rect(0, 0, 3000, 900))
	for i := range large.Pix {
		large.Pix[i] = uint8(uint32(i) * 2654435761 >> 13)
	}
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, large, nil))
	small := thumbnail(b.Bytes())
	require.NotNil(t, small)
	require.LessOrEqual(t, len(small), maxThumbnail)
	config, err := jpeg.DecodeConfig(bytes.NewReader(small))
	require.NoError(t, err)
	require.LessOrEqual(t, config.Width, thumbnailWidth)
	for _, bad := range [][]byte{nil, []byte("x"), b.Bytes()[:300]} {
		require.Nil(t, thumbnail(bad))
	}
}
