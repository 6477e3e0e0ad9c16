package passage

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/ledger"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

const scanner, bus = "/site/entry-1/xray-1", "/site/entry-1/plc-1"

func start() time.Time { return time.Date(2026, 3, 14, 8, 0, 0, 0, time.UTC) }

// site is one lane with a state bus and a scanner of files.
type site struct {
	t     *testing.T
	book  *ledger.Ledger
	scans *Scans
	now   time.Time
	n     int
	has   Fitted
	last  []Join // what is told, and not yet noted as told
}

func newSite(t *testing.T) *site {
	book, err := ledger.Open(t.TempDir() + "/joins.jsonl")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, book.Close()) })
	s := &site{t: t, book: book, now: start(), has: Fitted{FilesWithin: 10 * time.Minute, StateBus: true}}
	s.restart()
	return s
}

func (s *site) restart() {
	scans, left := Open(s.book)
	require.Zero(s.t, left)
	s.scans = scans
}

func (s *site) id() (string, error) { s.n++; return fmt.Sprintf("join-%04d", s.n), nil }

// cycle is a scan of so many seconds that ends now.
func (s *site) cycle(id string, takes time.Duration) {
	require.NoError(s.t, s.scans.Cycle("entry-1", Half{ID: id, Event: "e-" + id, Source: bus, Started: s.now.Add(-takes), Ended: s.now, Seen: s.now, Inspection: true}))
}

// files are those of a scan that began and took so long by the scanner's clock.
func (s *site) files(id string, began time.Time, takes time.Duration, change ...func(*Half)) {
	h := Half{ID: id, Event: "e-" + id, Source: scanner, Seen: s.now, Inspection: true}
	if !began.IsZero() {
		h.Started, h.Ended = began, began.Add(takes)
	}
	for _, f := range change {
		f(&h)
	}
	require.NoError(s.t, s.scans.Files("entry-1", h))
}

func (s *site) after(d time.Duration) []string {
	s.now = s.now.Add(d)
	return s.due()
}

// due gives what is told, in short.
func (s *site) due() []string {
	joins, err := s.scans.Due(s.now, func(string) Fitted { return s.has }, s.id)
	require.NoError(s.t, err)
	s.last = joins
	var list []string
	for _, j := range joins {
		require.NoError(s.t, s.scans.Told(j))
		d := j.Data
		text := d.Outcome + " " + strings.TrimSpace(d.CycleID+" "+d.ScanID)
		if d.By != "" {
			text += " by " + d.By
			if !d.Certain {
				text += "?"
			}
		}
		if len(d.Supersedes) > 0 {
			text += " for " + strings.Join(d.Supersedes, " ")
		}
		list = append(list, text)
	}
	return list
}

// learn lets three scans pass, so that it is known that the scanner's clock is 53 minutes
// ahead.
func (s *site) learn() {
	for i := range 3 {
		s.now = s.now.Add(5 * time.Minute)
		s.cycle(fmt.Sprintf("L%d", i), 30*time.Second)
		s.files(fmt.Sprintf("F%d", i), s.now.Add(-30*time.Second+53*time.Minute+time.Duration(i)*time.Second), 30*time.Second)
		require.Equal(s.t, []string{fmt.Sprintf("joined L%d F%d by only", i, i)}, s.due())
	}
	s.now = s.now.Add(5 * time.Minute)
}

func TestFilesRightAfterTheScan(t *testing.T) {
	s := newSite(t)
	s.cycle("c1", 33*time.Second)
	require.Empty(t, s.due())
	s.now = s.now.Add(20 * time.Second)
	s.files("scan-1", s.now, 33*time.Second)
	require.Equal(t, []string{"joined c1 scan-1 by only"}, s.due())
	j := s.last[0]
	require.Equal(t, "entry-1", j.Lane)
	require.Equal(t, scanner, j.Source)
	require.Equal(t, event.XrayJoin{
		Outcome: "joined", By: "only", Certain: true, Inspection: true, ScanID: "scan-1", ScanEvent: "e-scan-1", ScanSource: scanner,
		CycleID: "c1", CycleEvent: "e-c1", CycleSource: bus, ClockAheadS: new(53.0), WaitedS: 20,
	}, j.Data)
	require.Empty(t, s.after(time.Hour))
	s.files("scan-1", s.now, time.Second) // a revision
	require.Empty(t, s.after(time.Hour))
}

func TestFilesBeforeTheScanHasEnded(t *testing.T) {
	s := newSite(t)
	s.files("scan-1", s.now, 30*time.Second)
	require.Empty(t, s.after(3*time.Second))
	s.cycle("c1", 30*time.Second)
	require.Equal(t, []string{"joined c1 scan-1 by only"}, s.due())
	require.Zero(t, s.last[0].Data.WaitedS)
}

func TestNoFilesOfAScan(t *testing.T) {
	s := newSite(t)
	s.cycle("c1", 33*time.Second)
	require.Empty(t, s.after(10*time.Minute-time.Second))
	require.Equal(t, []string{"no_files c1"}, s.after(time.Second))
	require.Equal(t, event.Urgent, s.last[0].Data.Class())
	require.Equal(t, bus, s.last[0].Source)
	require.Empty(t, s.after(time.Minute))

	// A drill, and a lane without a scanner of files.
	require.NoError(t, s.scans.Cycle("entry-1", Half{ID: "c2", Ended: s.now, Seen: s.now}))
	require.Equal(t, []string{"no_files c2"}, s.after(10*time.Minute))
	require.Equal(t, event.Routine, s.last[0].Data.Class())
	s.has.FilesWithin = 0
	s.cycle("c3", time.Second)
	require.Empty(t, s.after(time.Hour))
}

// The files come an hour late, when another vehicle has been scanned.
func TestFilesOfAnHourAgo(t *testing.T) {
	s := newSite(t)
	s.learn()
	began := s.now.Add(53 * time.Minute)
	s.cycle("late", 0)
	require.Equal(t, []string{"no_files late"}, s.after(10*time.Minute))
	said := s.last[0].ID
	s.now = s.now.Add(50 * time.Minute)
	s.cycle("other", 30*time.Second)
	s.files("scan-late", began, 0)
	require.Equal(t, []string{"joined late scan-late by clock for " + said}, s.due())
	require.InDelta(t, 53*60, *s.last[0].Data.ClockAheadS, 0.001)
	s.files("scan-other", s.now.Add(-30*time.Second+53*time.Minute), 30*time.Second)
	require.Equal(t, []string{"joined other scan-other by clock"}, s.due())
}

// Two scans whose files come in the other order: the clock tells them apart.
func TestFilesOvertake(t *testing.T) {
	s := newSite(t)
	s.learn()
	first := s.now.Add(53 * time.Minute)
	s.cycle("c1", 0)
	s.now = s.now.Add(40 * time.Second)
	second := s.now.Add(53 * time.Minute)
	s.cycle("c2", 0)
	s.now = s.now.Add(20 * time.Second)
	s.files("scan-2", second, 0)
	require.Equal(t, []string{"joined c2 scan-2 by clock"}, s.due())
	s.files("scan-1", first, 0)
	require.Equal(t, []string{"joined c1 scan-1 by clock"}, s.due())
}

// Before the clock is known two scans wait: what can be said is marked as uncertain.
func TestTwoScansWait(t *testing.T) {
	s := newSite(t)
	s.cycle("c1", 33*time.Second)
	s.now = s.now.Add(time.Minute)
	s.cycle("c2", 21*time.Second)
	s.files("scan-2", s.now.Add(time.Hour), 21*time.Second)
	require.Equal(t, []string{"joined c2 scan-2 by duration?"}, s.due())
	s.cycle("c3", 33*time.Second)
	s.files("scan-x", time.Time{}, 0)
	require.Equal(t, []string{"joined c1 scan-x by order?"}, s.due())
	require.Nil(t, s.last[0].Data.ClockAheadS)
}

// Traffic without a pause: whenever files come, other scans have been made since. The clock is
// found out by what fits most of them, although the first pictures were lost.
func TestClockOfABusyScanner(t *testing.T) {
	s := newSite(t)
	gaps := []time.Duration{9, 16, 11, 25, 8, 13, 31, 10, 14, 19, 8, 22}
	var began []time.Time
	for _, g := range gaps {
		s.now = s.now.Add(g * time.Second)
		began = append(began, s.now)
	}
	type step struct {
		at time.Time
		do func()
	}
	var steps []step
	for i, b := range began {
		steps = append(steps, step{b.Add(5 * time.Second), func() { s.cycle(fmt.Sprintf("c%d", i), 5*time.Second) }})
		if i >= 2 {
			steps = append(steps, step{b.Add(33 * time.Second), func() {
				s.files(fmt.Sprintf("f%d", i), b.Add(-7*time.Minute+time.Duration(i%3)*300*time.Millisecond), 33*time.Second)
			}})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	var told []string
	for _, x := range steps {
		s.now = x.at
		x.do()
		told = append(told, s.due()...)
	}
	require.Equal(t, []string{ // at first what is next in the queue, which is wrong and said to be a guess
		"joined c0 f2 by order?", "joined c1 f3 by order?", "joined c2 f4 by order?",
		"joined c5 f5 by clock", "joined c6 f6 by clock", "joined c7 f7 by clock", "joined c8 f8 by clock", "joined c9 f9 by clock",
		"joined c10 f10 by clock", "joined c11 f11 by clock",
	}, told)
	require.InDelta(t, -420, *s.last[0].Data.ClockAheadS, 1)
}

// The scanner's clock is set: that is a guess until enough scans agree again.
func TestScannersClockIsSet(t *testing.T) {
	s := newSite(t)
	s.learn()
	for i, gap := range []time.Duration{5, 7, 4, 9, 6, 8, 5} {
		s.now = s.now.Add(gap * time.Minute)
		s.cycle(fmt.Sprintf("c%d", i), 0)
		s.files(fmt.Sprintf("f%d", i), s.now, 0)
		want := fmt.Sprintf("joined c%d f%d by only?", i, i)
		if i >= 4 {
			want = fmt.Sprintf("joined c%d f%d by clock", i, i)
		}
		require.Equal(t, []string{want}, s.due())
	}
}

// The picture of a scan is lost, and files of another one come that the bus has not seen: it
// took less time. That is no certain join, and says nothing of the clock.
func TestOnlyOneAndNotAlike(t *testing.T) {
	s := newSite(t)
	for i := range 4 {
		s.now = s.now.Add(time.Hour)
		s.cycle(fmt.Sprintf("A%d", i), 33*time.Second)
		s.now = s.now.Add(9 * time.Minute)
		s.files(fmt.Sprintf("B%d", i), s.now, 5*time.Second)
		require.Equal(t, []string{fmt.Sprintf("joined A%d B%d by only?", i, i)}, s.due())
	}
	_, known := s.scans.lanes["entry-1"].ahead(scanner)
	require.False(t, known)
}

// The gateway drops the connection in the middle of a scan: its two halves are one scan.
func TestOneScanInTwoHalves(t *testing.T) {
	for name, filesFirst := range map[string]bool{"files last": false, "files between": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			half := func(id string, takes time.Duration, change func(*Half)) {
				h := Half{ID: id, Event: "e-" + id, Source: bus, Started: s.now.Add(-takes), Ended: s.now, Seen: s.now, Inspection: true}
				change(&h)
				require.NoError(t, s.scans.Cycle("entry-1", h))
			}
			began := s.now
			s.now = s.now.Add(10 * time.Second)
			half("c1", 10*time.Second, func(h *Half) { h.Unobserved = true })
			require.Empty(t, s.due())
			var told []string
			if filesFirst {
				s.files("f1", began, 30*time.Second)
				told = s.due()
			}
			s.now = s.now.Add(20 * time.Second)
			half("c2", 15*time.Second, func(h *Half) { h.BeganBefore = true })
			if !filesFirst {
				s.files("f1", began, 30*time.Second)
			}
			told = append(told, s.due()...)
			require.Len(t, told, 1)
			require.Contains(t, told[0], "joined c1 f1 by only")
			require.Empty(t, s.after(time.Hour), "no files are missing")
		})
	}
}

func TestFilesWithoutAScan(t *testing.T) {
	s := newSite(t)
	s.files("scan-0", s.now, 0)
	require.Empty(t, s.after(time.Hour), "nobody has seen the state bus tell of a scan")
	s.learn() // the files of before have no part in it
	s.now = s.now.Add(5 * time.Minute)
	s.files("scan-1", s.now, 0)
	s.files("scan-2", s.now, 0, func(h *Half) { h.Replayed = true })
	require.Empty(t, s.after(cycleGrace-time.Second))
	got := s.after(time.Second)
	require.Contains(t, got, "no_cycle scan-1")
	require.NotContains(t, strings.Join(got, ";"), "scan-2")
	s.has.StateBus = false
	s.files("scan-3", s.now, 0)
	require.Empty(t, s.after(time.Hour))
}

func TestJoinsOverARestart(t *testing.T) {
	s := newSite(t)
	s.learn()
	began := s.now.Add(53 * time.Minute)
	s.cycle("c1", 0)
	s.restart()
	s.now = s.now.Add(3 * time.Minute)
	s.files("scan-1", began, 0)
	s.restart()
	joins, err := s.scans.Due(s.now, func(string) Fitted { return s.has }, s.id)
	require.NoError(t, err)
	require.Len(t, joins, 1)
	require.Equal(t, "clock", joins[0].Data.By)
	s.restart() // before it was told
	require.Equal(t, joins, s.scans.Unsaid())
	require.NoError(t, s.scans.Told(joins[0]))
	require.Empty(t, s.scans.Unsaid())
	require.Empty(t, s.due())
	s.files("scan-1", began, 0)
	require.Empty(t, s.after(time.Hour), "it is joined already")
}

// What waits is bounded, and what is given up for that is told, and nothing else.
func TestWaitingIsBounded(t *testing.T) {
	s := newSite(t)
	s.scans.most, s.has.FilesWithin = 20, 7*24*time.Hour
	for i := range 20 {
		s.now = s.now.Add(time.Minute)
		s.cycle(fmt.Sprintf("c%d", i), 0)
	}
	require.Empty(t, s.due())
	for i := range 3 {
		s.now = s.now.Add(time.Minute)
		s.cycle(fmt.Sprintf("d%d", i), 0)
	}
	require.Equal(t, []string{"no_files c0", "no_files c1", "no_files c2"}, s.due())
	require.Len(t, s.scans.lanes["entry-1"].cycles, 20)
	require.Empty(t, s.due())
	require.Len(t, s.after(7*24*time.Hour), 20)
	require.Empty(t, s.after(keepFor))
	require.Empty(t, s.scans.lanes["entry-1"].cycles)
	s.restart()
	require.Empty(t, s.scans.lanes)
}

// Wherever the agent stops while it joins, it tells the same join afterwards, and no other.
func TestJoinsOverACrash(t *testing.T) {
	s := newSite(t)
	s.cycle("c1", 0)
	s.files("f1", s.now, 0)
	joins, err := s.scans.Due(s.now, func(string) Fitted { return s.has }, s.id)
	require.NoError(t, err)
	require.Len(t, joins, 1)
	// As if the power had gone after the first of the notes.
	for _, undone := range []string{"cycle/entry-1/c1", "files/entry-1/" + scanner + " f1"} {
		require.NoError(t, s.book.Put(undone, `{"id":"`+undone[strings.LastIndexAny(undone, "/ ")+1:]+`","event":"e","source":"`+scanner+`","seen":"2026-03-14T08:00:00Z","ended":"2026-03-14T08:00:00Z","inspection":true}`))
	}
	require.NoError(t, s.book.Put("known/entry-1/"+scanner+" f1", ""))
	s.restart()
	require.Equal(t, joins, s.scans.Unsaid())
	require.Empty(t, s.after(time.Hour))
	s.restart()
	require.Empty(t, s.after(time.Hour))
	require.NoError(t, s.scans.Told(joins[0]))

	s.cycle("c2", 0)
	s.now = s.now.Add(time.Hour)
	joins, err = s.scans.Due(s.now, func(string) Fitted { return s.has }, s.id)
	require.NoError(t, err)
	require.Equal(t, event.JoinNoFiles, joins[0].Data.Outcome)
	b, err := json.Marshal(Half{ID: "c2", Event: "e-c2", Source: bus, Ended: s.now.Add(-time.Hour), Seen: s.now.Add(-time.Hour), Inspection: true})
	require.NoError(t, err)
	require.NoError(t, s.book.Put("cycle/entry-1/c2", string(b))) // not yet noted as told
	s.restart()
	require.Equal(t, joins, s.scans.Unsaid())
	require.Empty(t, s.after(time.Hour), "told once")
}

// refusing is a ledger on a disk that takes nothing for a while.
type refusing struct {
	drivers.Ledger
	refuses bool
}

func (r *refusing) Put(key, value string) error {
	if r.refuses {
		return errors.New("no space left on device")
	}
	return r.Ledger.Put(key, value)
}

// What can't be noted is joined when the disk takes it again.
func TestLedgerRefuses(t *testing.T) {
	s := newSite(t)
	s.cycle("c1", 0)
	s.files("f1", s.now, 0)
	s.scans.book = &refusing{Ledger: s.book, refuses: true}
	joins, err := s.scans.Due(s.now, func(string) Fitted { return s.has }, s.id)
	require.Error(t, err)
	require.Empty(t, joins)
	s.scans.book = s.book
	require.Equal(t, []string{"joined c1 f1 by only"}, s.after(5*time.Second))
}

func TestUnreadableNotesAreLeftOut(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.book.Put("cycle/entry-1/x", "no JSON"))
	require.NoError(t, s.book.Put("known/nothing", "x"))
	_, left := Open(s.book)
	require.Equal(t, 2, left)
}
