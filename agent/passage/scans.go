// Package passage says which events of a lane are of the same vehicle.
//
// So far that is the scans of an X-ray scanner, of which the agent learns by two ways: the
// state bus tells at once that the scanner scans, by the agent's clock, and the files of the
// scan come later, minutes or days, with times by the scanner's own clock. Joined, they
// say more than each alone: by how much the scanner's clock is wrong, and above all that a
// vehicle was scanned of which no picture ever came.
package passage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds and times of joining.
const (
	// keepFor is how long a scan of which the other half is missing waits for it.
	keepFor = 8 * 24 * time.Hour
	// maxWaiting bounds those that wait in one lane, of either kind.
	maxWaiting = 5000
	// maxKnown bounds the files of scans that are known to be joined, in one lane: their
	// revisions are no news.
	maxKnown = 5000
	// cycleGrace is how long files wait for the state bus to tell of their scan: its end may
	// be debounced, or the files be quicker.
	cycleGrace = 2 * time.Minute
	// clockTolerance is how far a scanner's clock may be from what it was in the scans
	// before.
	clockTolerance = 10 * time.Second
	// durationTolerance is how far the two durations of a scan may be apart.
	durationTolerance = 2 * time.Second
	// offsets is how many of the last scans say how wrong the scanner's clock is, and
	// offsetsWanted how many do for it to count.
	offsets, offsetsWanted = 9, 3
	// recent is how many of the last scans are compared to find out how wrong a clock is that
	// is not known, votes how many of them have to agree, and voteTolerance how well.
	recent, votes = 24, 4
	voteTolerance = 2 * time.Second
)

// Half is what is known of one scan by one way: the cycle that the state bus tells, or the
// scan that the files tell.
type Half struct {
	// ID is the cycle's id, or the scanner's id of the scan.
	ID string `json:"id"`
	// Event is the id of the event that told it, Source the device.
	Event  string `json:"event"`
	Source string `json:"source"`
	// Started and Ended are by the agent's clock for a cycle, by the scanner's for files;
	// zero if not told.
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Seen is when the agent learnt of it.
	Seen time.Time `json:"seen"`
	// Inspection is false for a drill and the like.
	Inspection bool `json:"inspection,omitempty"`
	// Unobserved is true for a cycle whose end nobody saw, BeganBefore for one that was under
	// way when the bus was connected: the two may be one scan.
	Unobserved  bool `json:"unobserved,omitempty"`
	BeganBefore bool `json:"began_before,omitempty"`
	// Replayed is true for files that were there before the agent looked.
	Replayed bool `json:"replayed,omitempty"`
	// Told is the event which said that the other half is missing; empty if none did.
	Told string `json:"told,omitempty"`
}

// Scans joins the scans of all lanes. It is for one goroutine.
//
// What waits is in a ledger, so that nothing is forgotten over a restart. A join is in it
// from before it is told until Told: after a crash it is told again, with the same id.
type Scans struct {
	book  drivers.Ledger
	lanes map[string]*lane
	most  int // that wait in one lane, of either kind
}

type lane struct {
	cycles, files map[string]Half // by id; those of files by source and id
	offsets       map[string][]float64
	known         map[string]time.Time // joined files, and when

	// The last ones of either kind, joined or not, since the agent was started.
	lastCycles []Half
	lastFiles  map[string][]Half // by source
	// changed: something came since it was looked for what fits.
	changed bool
}

// Join is a join that is to be told.
type Join struct {
	// Lane and Source are where it belongs, ID is the id for its event.
	Lane, Source, ID string
	Data             event.XrayJoin
}

// Open reads what waits. Entries that can't be read are left out, and counted.
func Open(book drivers.Ledger) (s *Scans, left int) {
	s = &Scans{book: book, lanes: map[string]*lane{}, most: maxWaiting}
	read := func(prefix string, into func(l *lane, id, text string) error) {
		book.Each(prefix, func(key, text string) bool {
			name, id, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
			if !ok || into(s.lane(name), id, text) != nil {
				left++
			}
			return true
		})
	}
	half := func(into func(*lane) map[string]Half) func(*lane, string, string) error {
		return func(l *lane, id, text string) error {
			var h Half
			if err := json.Unmarshal([]byte(text), &h); err != nil {
				return err
			}
			into(l)[id] = h
			return nil
		}
	}
	read("cycle/", half(func(l *lane) map[string]Half { return l.cycles }))
	read("files/", half(func(l *lane) map[string]Half { return l.files }))
	read("offsets/", func(l *lane, source, text string) error {
		var list []float64
		err := json.Unmarshal([]byte(text), &list)
		l.offsets[source] = list
		return err
	})
	read("known/", func(l *lane, id, text string) (err error) {
		l.known[id], err = time.Parse(time.RFC3339Nano, text)
		return err
	})
	for _, j := range s.Unsaid() {
		if s.settle(j) != nil {
			left++
		}
	}
	return s, left
}

// settle takes up what a join that is still to be told has decided: the agent may have
// stopped in the middle.
func (s *Scans) settle(j Join) error {
	l, d := s.lane(j.Lane), j.Data
	c, waits := l.cycles[d.CycleID]
	f, waitsToo := l.files[d.ScanSource+" "+d.ScanID]
	switch {
	case d.Outcome == event.JoinJoined && (waits || waitsToo):
		if !waits {
			c.ID = d.CycleID
		}
		if !waitsToo {
			f.ID, f.Source = d.ScanID, d.ScanSource
		}
		return s.joined(j.Lane, l, c, f, d, time.Now())
	case d.Outcome == event.JoinNoFiles && waits && c.Told == "":
		c.Told = j.ID
		l.cycles[c.ID] = c
		return s.put("cycle/"+j.Lane+"/"+c.ID, c)
	case d.Outcome == event.JoinNoCycle && waitsToo && f.Told == "":
		f.Told = j.ID
		l.files[f.Source+" "+f.ID] = f
		return s.put("files/"+j.Lane+"/"+f.Source+" "+f.ID, f)
	}
	return nil
}

func (s *Scans) lane(name string) *lane {
	l := s.lanes[name]
	if l == nil {
		l = &lane{changed: true, cycles: map[string]Half{}, files: map[string]Half{}, offsets: map[string][]float64{}, known: map[string]time.Time{}, lastFiles: map[string][]Half{}}
		s.lanes[name] = l
	}
	return l
}

// Cycle takes a scan that the state bus has told. One that was under way when the bus was
// connected is the rest of the one before, if nobody saw the end of that.
func (s *Scans) Cycle(name string, h Half) error {
	l := s.lane(name)
	l.changed = true
	if i := len(l.lastCycles) - 1; i >= 0 && h.BeganBefore && l.lastCycles[i].Unobserved && l.lastCycles[i].Source == h.Source {
		whole := &l.lastCycles[i]
		whole.Ended, whole.Unobserved = h.Ended, h.Unobserved
		c, waits := l.cycles[whole.ID]
		if !waits {
			return nil // its files came already
		}
		c.Ended, c.Unobserved = h.Ended, h.Unobserved
		l.cycles[c.ID] = c
		return s.put("cycle/"+name+"/"+c.ID, c)
	}
	l.cycles[h.ID] = h
	l.lastCycles = last(l.lastCycles, h)
	return s.put("cycle/"+name+"/"+h.ID, h)
}

// Files takes a scan that files have told. What is known already is no news.
func (s *Scans) Files(name string, h Half) error {
	l, id := s.lane(name), h.Source+" "+h.ID
	if _, waits := l.files[id]; waits {
		return nil
	}
	if _, joined := l.known[id]; joined {
		return nil
	}
	l.files[id], l.changed = h, true
	if !h.Started.IsZero() {
		l.lastFiles[h.Source] = last(l.lastFiles[h.Source], h)
	}
	return s.put("files/"+name+"/"+id, h)
}

// last adds to the last ones.
func last(list []Half, h Half) []Half {
	list = append(list, h)
	return slices.Clone(list[max(0, len(list)-recent):])
}

func (s *Scans) put(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("note %s: %w", key, err)
	}
	return s.book.Put(key, string(b))
}

// Unsaid gives the joins that were to be told when the agent stopped.
func (s *Scans) Unsaid() (list []Join) {
	s.book.Each("tell/", func(_, text string) bool {
		var j Join
		if json.Unmarshal([]byte(text), &j) == nil {
			list = append(list, j)
		}
		return true
	})
	order.By(list, func(a, b Join) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Told takes note that a join is on disk.
func (s *Scans) Told(j Join) error { return s.book.Put("tell/"+j.ID, "") }

// Fitted is what a lane has.
type Fitted struct {
	// FilesWithin is how long the files of a scan are waited for before it is told that
	// none came; zero for a lane without a scanner that gives files.
	FilesWithin time.Duration
	// StateBus is true for a lane with a state bus.
	StateBus bool
}

// Due gives what there is to tell at a time. id makes the ids of events.
func (s *Scans) Due(now time.Time, fitted func(lane string) Fitted, id func() (string, error)) ([]Join, error) {
	var list []Join
	for name, l := range s.lanes {
		joins, err := s.due(name, l, now, fitted(name), id)
		list = append(list, joins...)
		if err != nil {
			return list, err
		}
	}
	order.By(list, func(a, b Join) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

func (s *Scans) due(name string, l *lane, now time.Time, has Fitted, id func() (string, error)) (list []Join, err error) {
	defer func() {
		if err != nil {
			l.changed = true // it is tried again
		}
	}()
	add := func(source string, data event.XrayJoin) error {
		made, err := id()
		if err != nil {
			return fmt.Errorf("make an event id: %w", err)
		}
		j := Join{Lane: name, Source: source, ID: made, Data: data}
		if err := s.put("tell/"+j.ID, j); err != nil {
			return err
		}
		list = append(list, j)
		return nil
	}
	// Time alone brings nothing together.
	waiting := sorted(l.files)
	cycles, clocks := sorted(l.cycles), map[string][]time.Duration{}
	if !l.changed {
		waiting = nil
	}
	l.changed = false
	for _, f := range waiting {
		if _, known := clocks[f.Source]; !known {
			clocks[f.Source] = l.clocks(f.Source)
		}
		c, by, certain := match(f, cycles, clocks[f.Source], now, has.FilesWithin)
		if by == "" {
			continue
		}
		cycles = slices.DeleteFunc(cycles, func(x Half) bool { return x.ID == c.ID })
		data := join(c, f, by, certain)
		if err := add(f.Source, data); err != nil {
			return list, err
		}
		if err := s.joined(name, l, c, f, data, now); err != nil {
			return list, err
		}
		delete(clocks, f.Source) // it is known better now
	}
	for i, c := range cycles {
		tooMany := i < len(cycles)-s.most // it is forgotten below
		if c.Told != "" || has.FilesWithin == 0 || now.Sub(c.Ended) < has.FilesWithin && !tooMany {
			continue
		}
		if err := add(c.Source, event.XrayJoin{
			Outcome: event.JoinNoFiles, CycleID: c.ID, CycleEvent: c.Event, CycleSource: c.Source, Inspection: c.Inspection,
			WaitedS: waited(c, now),
		}); err != nil {
			return list, err
		}
		c.Told = list[len(list)-1].ID
		l.cycles[c.ID] = c
		if err := s.put("cycle/"+name+"/"+c.ID, c); err != nil {
			return list, err
		}
	}
	since := l.since()
	for _, f := range sorted(l.files) {
		if f.Told != "" || f.Replayed || !has.StateBus || since.IsZero() || f.Seen.Before(since) || now.Sub(f.Seen) < cycleGrace {
			continue
		}
		if err := add(f.Source, event.XrayJoin{
			Outcome: event.JoinNoCycle, ScanID: f.ID, ScanEvent: f.Event, ScanSource: f.Source, Inspection: f.Inspection,
			WaitedS: now.Sub(f.Seen).Round(time.Millisecond).Seconds(),
		}); err != nil {
			return list, err
		}
		f.Told = list[len(list)-1].ID
		l.files[f.Source+" "+f.ID] = f
		if err := s.put("files/"+name+"/"+f.Source+" "+f.ID, f); err != nil {
			return list, err
		}
	}
	return list, s.forget(name, l, now)
}

// since is when the state bus told of a scan for the first time, as far as is known; zero if
// it never did, and so may not be set to.
func (l *lane) since() (first time.Time) {
	earlier := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	for _, c := range l.cycles {
		earlier(c.Ended)
	}
	for _, t := range l.known {
		earlier(t)
	}
	return first
}

// sorted gives halves in the order in which they were seen.
func sorted(m map[string]Half) []Half {
	var list []Half
	for _, h := range m {
		list = append(list, h)
	}
	order.By(list, func(a, b Half) int { return cmp.Or(a.Seen.Compare(b.Seen), cmp.Compare(a.Event, b.Event)) })
	return list
}

// clocks are by how much a scanner's clock may be ahead: as in the last joins, and as most
// of the last scans agree. None if it is not known.
func (l *lane) clocks(source string) (list []time.Duration) {
	for _, find := range []func(string) (time.Duration, bool){l.ahead, l.vote} {
		if d, ok := find(source); ok {
			list = append(list, d)
		}
	}
	return list
}

// match looks for the cycle to the files of a scan, among those that wait, oldest first; by is
// empty if there is none, or not yet.
func match(f Half, cycles []Half, clocks []time.Duration, now time.Time, within time.Duration) (c Half, by string, certain bool) {
	var all, recent []Half
	for _, c := range cycles {
		if c.Ended.After(f.Seen.Add(cycleGrace)) || f.Replayed && c.Ended.After(f.Seen) {
			continue // nobody writes the files of what is still to come
		}
		all = append(all, c)
		if now.Sub(c.Ended) < max(within, cycleGrace) {
			recent = append(recent, c)
		}
	}
	for _, ahead := range clocks {
		if f.Started.IsZero() {
			break
		}
		best := clockTolerance + 1
		for _, x := range all {
			if d := f.Started.Add(-ahead).Sub(x.Started).Abs(); d < best {
				c, by, best = x, event.JoinByClock, d
			}
		}
		if by != "" {
			return c, by, true
		}
	}
	// The clock is not known yet, or was set.
	lasted := f.Ended.Sub(f.Started)
	timed := !f.Started.IsZero() && !f.Ended.IsZero() && lasted >= 0
	alike := func(x Half) bool { return timed && (x.Ended.Sub(x.Started)-lasted).Abs() <= durationTolerance }
	if len(all) == 1 && len(recent) == 1 && !f.Replayed {
		return all[0], event.JoinByOnly, len(clocks) == 0 && alike(all[0])
	}
	if fits := slices.DeleteFunc(slices.Clone(all), func(x Half) bool { return !alike(x) }); len(fits) == 1 && lasted > 0 {
		return fits[0], event.JoinByDuration, false
	}
	// A lane is a queue: the oldest scan without files has these, if they are of now.
	if len(recent) > 0 && !f.Replayed {
		return recent[0], event.JoinByOrder, false
	}
	return Half{}, "", false
}

// ahead is by how much a scanner's clock was ahead in the last scans: the middle of them.
func (l *lane) ahead(source string) (time.Duration, bool) {
	list := slices.Clone(l.offsets[source])
	if len(list) < offsetsWanted {
		return 0, false
	}
	slices.Sort(list)
	return time.Duration(list[len(list)/2] * float64(time.Second)), true
}

// vote finds out by how much a clock is ahead of which nothing is known, or that was set: the
// difference by which most of the last scans agree. Vehicles come at uneven times, so that a
// wrong one fits only a few.
func (l *lane) vote(source string) (time.Duration, bool) {
	files := l.lastFiles[source]
	if len(files) < votes {
		return 0, false
	}
	agree := func(d time.Duration) (n int) {
		for _, f := range files {
			for _, c := range l.lastCycles {
				if !c.Ended.After(f.Seen.Add(cycleGrace)) && (f.Started.Sub(c.Started)-d).Abs() <= voteTolerance {
					n++
					break
				}
			}
		}
		return n
	}
	type candidate struct {
		ahead time.Duration
		n     int
	}
	var list []candidate
	for _, f := range files {
		for _, c := range l.lastCycles {
			d := f.Started.Sub(c.Started)
			list = append(list, candidate{d, agree(d)})
		}
	}
	// Of those that fit as well, the smallest: clocks are set now and then.
	order.By(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.ahead.Abs(), b.ahead.Abs()))
	})
	if len(list) == 0 || list[0].n < votes {
		return 0, false
	}
	for _, x := range list[1:] {
		if (x.ahead-list[0].ahead).Abs() > 2*voteTolerance && x.n > list[0].n-2 {
			return 0, false // two are as good
		}
	}
	return list[0].ahead, true
}

func join(c, f Half, by string, certain bool) event.XrayJoin {
	data := event.XrayJoin{
		Outcome: event.JoinJoined, By: by, Certain: certain, Inspection: c.Inspection || f.Inspection,
		ScanID: f.ID, ScanEvent: f.Event, ScanSource: f.Source, CycleID: c.ID, CycleEvent: c.Event, CycleSource: c.Source,
		WaitedS: waited(c, f.Seen),
	}
	for _, told := range []string{c.Told, f.Told} {
		if told != "" {
			data.Supersedes = append(data.Supersedes, told)
		}
	}
	if !f.Started.IsZero() {
		ahead := f.Started.Sub(c.Started).Round(time.Millisecond).Seconds()
		data.ClockAheadS = &ahead
	}
	return data
}

// waited is how long after the end of a cycle something came. Files can be quicker than
// the debounced end.
func waited(c Half, until time.Time) float64 {
	return max(0, until.Sub(c.Ended).Round(time.Millisecond).Seconds())
}

func (s *Scans) joined(name string, l *lane, c, f Half, data event.XrayJoin, now time.Time) error {
	if data.ClockAheadS != nil && data.Certain { // a guess teaches nothing
		list := append(slices.Clone(l.offsets[f.Source]), *data.ClockAheadS)
		l.offsets[f.Source] = list[max(0, len(list)-offsets):]
		if err := s.put("offsets/"+name+"/"+f.Source, l.offsets[f.Source]); err != nil {
			return err
		}
	}
	delete(l.cycles, c.ID)
	delete(l.files, f.Source+" "+f.ID)
	l.known[f.Source+" "+f.ID] = now
	for _, x := range [][2]string{
		{"known/" + name + "/" + f.Source + " " + f.ID, now.Format(time.RFC3339Nano)},
		{"files/" + name + "/" + f.Source + " " + f.ID, ""},
		{"cycle/" + name + "/" + c.ID, ""},
	} {
		if err := s.book.Put(x[0], x[1]); err != nil {
			return err
		}
	}
	return nil
}

// forget takes out what has waited for too long, and the oldest of what is too much. All
// of it has been told before.
func (s *Scans) forget(name string, l *lane, now time.Time) error {
	var keys []string
	for kind, m := range map[string]map[string]Half{"cycle/": l.cycles, "files/": l.files} {
		list := sorted(m)
		for i, h := range list {
			if now.Sub(h.Seen) < keepFor && len(list)-i <= s.most {
				break
			}
			id := h.ID
			if kind == "files/" {
				id = h.Source + " " + h.ID
			}
			delete(m, id)
			keys = append(keys, kind+name+"/"+id)
		}
	}
	if len(l.known) > maxKnown {
		ids := make([]string, 0, len(l.known))
		for id := range l.known {
			ids = append(ids, id)
		}
		order.By(ids, func(a, b string) int { return cmp.Or(l.known[a].Compare(l.known[b]), cmp.Compare(a, b)) })
		for _, id := range ids[:len(ids)-maxKnown*9/10] {
			delete(l.known, id)
			keys = append(keys, "known/"+name+"/"+id)
		}
	}
	for _, key := range keys {
		if err := s.book.Put(key, ""); err != nil {
			return err
		}
	}
	return nil
}
