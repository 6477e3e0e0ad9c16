package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/order"
)

const (
	// keptEvents are how many events the screen keeps, the newest ones.
	keptEvents = 200
	// resizeEvery is how often the size of the terminal is looked at.
	resizeEvery = 250 * time.Millisecond
	// leastWidth and leastHeight are the smallest screen that is drawn for.
	leastWidth, leastHeight = 20, 6
)

// watchScreen draws on a terminal. Its methods may be called from several goroutines.
type watchScreen struct {
	out, in *os.File
	before  *term.State

	mu            sync.Mutex
	frame         watchFrame
	width, height int
	closed        bool
	err           error
}

func (s *watchScreen) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *watchScreen) put(text string) {
	if _, err := s.out.WriteString(text); err != nil {
		s.err = err
	}
}

// close gives the terminal back as it was.
func (s *watchScreen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.put("\x1b[0m\x1b[?25h\x1b[?1049l")
	_ = term.Restore(int(s.in.Fd()), s.before) // the terminal is gone otherwise
}

// keys gives a channel that is closed when q, Ctrl-C or Ctrl-D is typed. It sees to the
// size of the terminal too.
func (s *watchScreen) keys(ctx context.Context) <-chan struct{} {
	quit := make(chan struct{})
	go func() {
		defer close(quit)
		b := make([]byte, 64)
		for {
			n, err := s.in.Read(b)
			if err != nil {
				return
			}
			for _, c := range b[:n] {
				if c == 'q' || c == 'Q' || c == 3 || c == 4 {
					return
				}
			}
		}
	}()
	go func() {
		for pause(ctx, resizeEvery) == nil {
			s.mu.Lock()
			if w, h, err := term.GetSize(int(s.out.Fd())); err == nil && (w != s.width || h != s.height) {
				s.drawLocked()
			}
			s.mu.Unlock()
		}
	}()
	return quit
}

func (s *watchScreen) change(f func(*watchFrame)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.frame)
	s.drawLocked()
}

func (s *watchScreen) drawLocked() {
	if s.closed {
		return
	}
	w, h, err := term.GetSize(int(s.out.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		w, h = 80, 24
	}
	if w != s.width || h != s.height {
		s.put("\x1b[2J")
	}
	s.width, s.height = w, h
	lines := s.frame.lines(w, h, time.Now())
	s.put("\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J")
}

func (s *watchScreen) status(v *console.Status) {
	s.change(func(f *watchFrame) { f.now, f.gone = v, time.Time{} })
}

func (s *watchScreen) event(e console.Event) {
	s.change(func(f *watchFrame) {
		f.note(e.At.Time, clean(e.Device)+"  "+clean(shortType(e.Type)+": "+e.Text))
	})
}

func (s *watchScreen) away(since time.Time, err error) {
	s.change(func(f *watchFrame) { f.gone, f.why = since, err.Error() })
}

func (s *watchScreen) back(since, at time.Time) {
	s.change(func(f *watchFrame) {
		f.note(at, fmt.Sprintf("the agent is back; it was away since %s (%s)", clock(since), drivers.Span(at.Sub(since))))
	})
}

func (s *watchScreen) missed(why string) {
	s.change(func(f *watchFrame) {
		f.note(time.Now(), "events may be missing here (they are in the spool): "+clean(why))
	})
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// watchFrame is what the screen shows.
type watchFrame struct {
	colour bool
	now    *console.Status
	gone   time.Time // since when the agent does not answer; zero if it does
	why    string
	events []string // the newest first
}

func (f *watchFrame) note(at time.Time, text string) {
	f.events = slices.Insert(f.events, 0, clock(at)+"  "+text)
	f.events = f.events[:min(len(f.events), keptEvents)]
}

// Colours, which say nothing that does not stand in words too.
const (
	good    = "32"
	warning = "33"
	bad     = "1;31"
	faint   = "2"
	strong  = "1"
)

// stateColours are those of the states of devices and uplinks.
var stateColours = map[string]string{"online": good, "connecting": warning, "silent": bad, "offline": bad, "fault": bad}

// piece is a text in a colour; empty for none.
type piece struct{ text, colour string }

// fit makes a line of pieces that is at most so many columns wide.
func (f *watchFrame) fit(width int, pieces ...piece) string {
	var b strings.Builder
	left := width - 1 // a terminal may wrap at its last column
	for _, p := range pieces {
		text := p.text
		if columns(text) > left {
			text = cutColumns(text, left)
		}
		left -= columns(text)
		if f.colour && p.colour != "" && text != "" {
			text = "\x1b[" + p.colour + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if left <= 0 {
			break
		}
	}
	return b.String()
}

func cutColumns(s string, most int) string {
	n := 0
	for i, r := range s {
		w := columns(string(r))
		if n+w > most {
			return s[:i]
		}
		n += w
	}
	return s
}

func padded(s string, width int) string {
	return cutColumns(s, width) + strings.Repeat(" ", max(0, width-columns(s)))
}

// lines draw the frame for a terminal of a size. No text of outside stands in them as it came.
func (f *watchFrame) lines(width, height int, now time.Time) []string {
	width, height = max(width, leastWidth), max(height, leastHeight)
	s := f.now
	if s == nil && !f.gone.IsZero() {
		return f.wrong(width, height)
	}
	if s == nil {
		return []string{f.fit(width, piece{"lanepost: waiting for the agent's first answer; q quits", ""})}
	}
	list := []string{f.fit(width, piece{"lanepost " + clean(s.Version), strong}, piece{"  " + clean(s.Site) + "  " + clock(now) + "  up " +
		drivers.Span(time.Duration(s.UptimeS*float64(time.Second))) + "  q quits", ""})}
	list = append(list, f.wrong(width, max(2, height/3))...)
	tail := f.buffer(width)
	room := height - len(list) - len(tail) - 1 // a line of a title
	devices := f.devices(width, max(1, min(room*2/3, room-3)))
	list = append(list, devices...)
	list = append(list, tail...)
	if len(list) < height {
		list = append(list, f.fit(width, piece{"Events, the newest first", strong}))
		for _, e := range f.events {
			if len(list) >= height {
				break
			}
			list = append(list, f.fit(width, piece{e, ""}))
		}
	}
	return list[:min(len(list), height)]
}

// wrong says what is wrong and what to do.
func (f *watchFrame) wrong(width, most int) (list []string) {
	add := func(colour, text string, indent int) {
		for line := range strings.Lines(wrapped(clean(text), indent, width-1)) {
			list = append(list, f.fit(width, piece{strings.TrimRight(line, "\n"), colour}))
		}
	}
	if !f.gone.IsZero() {
		add(bad, fmt.Sprintf("THE AGENT IS AWAY since %s; what it reads now is unknown. %s", clock(f.gone), f.why), 0)
		add("", "-> it is looked for every second; journalctl -u lanepost -n 20 tells why it stopped", 2)
		return list
	}
	if len(f.now.Problems) == 0 {
		return []string{f.fit(width, piece{"NOTHING IS WRONG that the agent knows of", good})}
	}
	add(bad, strings.ToUpper(plural(len(f.now.Problems), "problem")), 0)
	for i, p := range f.now.Problems {
		before := len(list)
		what := p.What
		if p.Device != "" && !strings.Contains(what, p.Device) {
			what = p.Device + ": " + what
		}
		add("", what, 0)
		if p.ToDo != "" {
			add(warning, "-> "+p.ToDo, 2)
		}
		if len(list) > most && i > 0 {
			list = append(list[:before], f.fit(width, piece{fmt.Sprintf("... and %d more", len(f.now.Problems)-i), bad}))
			break
		}
	}
	return list
}

// devices are a line for each device; if there are too many, those that are not online
// come first, and the others are counted.
func (f *watchFrame) devices(width, most int) (list []string) {
	var all []console.Device
	name := 0
	for _, l := range f.now.Lanes {
		for _, d := range l.Devices {
			all = append(all, d)
			name = max(name, columns(clean(d.Device)))
		}
	}
	name = min(name, max(8, width/3))
	if len(all) > most {
		order.Stable(all, func(a, b console.Device) int {
			rank := map[bool]int{true: 1}
			return rank[a.State == "online"] - rank[b.State == "online"]
		})
	}
	for i, d := range all {
		if i == most-1 && len(all) > most {
			online := 0
			for _, rest := range all[i:] {
				if rest.State == "online" {
					online++
				}
			}
			text := fmt.Sprintf("... %d more, %d of them online", len(all)-i, online)
			if !f.gone.IsZero() {
				text = fmt.Sprintf("... %d more", len(all)-i)
			}
			return append(list, f.fit(width, piece{text, faint}))
		}
		state, colour := strings.ToUpper(clean(d.State)), stateColours[d.State]
		if !f.gone.IsZero() {
			state, colour = "UNKNOWN", bad // what was is no word on what is
		}
		text := "  no record yet"
		if d.LastRecord != nil {
			text = "  " + drivers.Span(max(0, f.now.At.Sub(d.LastRecord.Time))) + " ago"
			if !f.gone.IsZero() {
				text = "  last record " + clock(d.LastRecord.Time)
			}
		}
		if d.LastEvent != nil {
			text += "  " + clean(d.LastEvent.Text)
		}
		list = append(list, f.fit(width, piece{padded(state, 10) + "  ", colour}, piece{padded(clean(d.Device), name), ""}, piece{text, ""}))
	}
	return list
}

// buffer is what waits, and where it goes.
func (f *watchFrame) buffer(width int) (list []string) {
	for _, u := range f.now.Uplinks {
		state, colour := strings.ToUpper(clean(u.State)), stateColours[u.State]
		if !f.gone.IsZero() {
			state, colour = "UNKNOWN", bad
		}
		text := fmt.Sprintf("uplink %s: %d urgent and %d routine wait", clean(u.Name), u.WaitingUrgent, u.WaitingRoutine)
		if u.OldestWaitingS != nil {
			text += ", oldest " + drivers.Span(time.Duration(*u.OldestWaitingS*float64(time.Second)))
		}
		text += fmt.Sprintf(", %.1f events/s to %s", u.EventsPerS, clean(u.Broker))
		list = append(list, f.fit(width, piece{padded(state, 10) + "  ", colour}, piece{text, ""}))
	}
	sp := f.now.Spool
	state, colour := "OK", good
	switch {
	case !f.gone.IsZero():
		state, colour = "UNKNOWN", bad
	case sp.OldSince != nil:
		state, colour = "NO ANSWER", bad
	case sp.Refused != "":
		state, colour = "REFUSES", bad
	}
	text := fmt.Sprintf("buffer: urgent %s of %s, routine %s of %s", size(sp.Urgent.Bytes), size(sp.Urgent.MaxBytes), size(sp.Routine.Bytes), size(sp.Routine.MaxBytes))
	if len(f.now.Uplinks) == 0 {
		text += ", no uplink"
	}
	if sp.LostEvents > 0 {
		text += fmt.Sprintf(", %d EVENTS LOST", sp.LostEvents)
	}
	if sp.DiskFreeBytes != nil {
		text += ", disk " + size(*sp.DiskFreeBytes) + " free"
	}
	if sp.OldSince != nil {
		text += ", all of this as of " + clock(sp.OldSince.Time)
	}
	text += ", clock " + map[string]string{"yes": "synchronised", "no": "NOT SYNCHRONISED"}[f.now.Clock.Synchronised]
	if f.now.Clock.Synchronised == "unknown" {
		text += "unknown"
	}
	return append(list, f.fit(width, piece{padded(state, 10) + "  ", colour}, piece{text, ""}))
}
