package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
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
		f.keep(watchedEvent{e.At.Time, clean(e.Device), clean(shortType(e.Type)), clean(e.Text)})
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
	events []watchedEvent // the newest first
}

// watchedEvent is an event, or a note of this program's own, which has text alone.
type watchedEvent struct {
	at                 time.Time
	device, kind, text string
}

func (f *watchFrame) keep(e watchedEvent) {
	f.events = append([]watchedEvent{e}, f.events[:min(len(f.events), keptEvents-1)]...)
}

func (f *watchFrame) note(at time.Time, text string) { f.keep(watchedEvent{at: at, text: text}) }

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

// fit makes a line of pieces that is at most so many columns wide. What is cut off is marked.
func (f *watchFrame) fit(width int, pieces ...piece) string {
	var b strings.Builder
	left := width - 1 // a terminal may wrap at its last column
	if widthOfPieces(pieces) > left {
		left--
	}
	for _, p := range pieces {
		text := cutColumns(p.text, left)
		left -= columns(text)
		whole := len(text) == len(p.text)
		if !whole {
			text += "…"
		}
		if f.colour && p.colour != "" && text != "" {
			text = "\x1b[" + p.colour + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if !whole {
			break
		}
	}
	return b.String()
}

func widthOfPieces(pieces []piece) (n int) {
	for _, p := range pieces {
		n += columns(p.text)
	}
	return n
}

// rows are a head and a text, which goes on under it where it does not fit: at most so many
// rows, and the mark of fit if they are not enough.
func (f *watchFrame) rows(width, indent, most int, text piece, head ...piece) (list []string) {
	used := widthOfPieces(head)
	line := append(head, text)
	if used+columns(text.text) < width || most == 1 {
		return []string{f.fit(width, line...)}
	}
	parts := wrapColumns(cutColumns(text.text, most*width), width-1-used, width-1-indent)
	for i, part := range parts {
		if i == most-1 {
			part = strings.Join(parts[i:], " ")
		}
		line[len(line)-1].text = part
		list = append(list, f.fit(width, line...))
		if i == most-1 {
			break
		}
		line = []piece{{strings.Repeat(" ", indent), ""}, text}
	}
	return list
}

// wrapColumns breaks a text between its words, and within a word that is longer than a row.
// The first row has another room than the others, which have two columns at the least.
func wrapColumns(text string, first, rest int) (rows []string) {
	row, room := "", first
	next := func() {
		rows = append(rows, strings.TrimRight(row, " "))
		row, room = "", rest
	}
	for _, w := range strings.Fields(text) {
		if row != "" && columns(row)+columns(w) > room || columns(w) > room && columns(w) <= rest {
			next()
		}
		for columns(row)+columns(w) > room {
			part := cutColumns(w, room-columns(row))
			row, w = row+part, w[len(part):]
			next()
		}
		row += w + " "
	}
	next()
	return rows
}

func cutColumns(s string, most int) string {
	n := 0
	for i, r := range s {
		n += columns(string(r))
		if n > most {
			return s[:i]
		}
	}
	return s
}

func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-columns(s)))
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
	list := []string{f.fit(width, piece{"lanepost", strong}, piece{"  q quits  " + clean(s.Site) + "  " + clock(now) + "  up " +
		drivers.Span(time.Duration(s.UptimeS*float64(time.Second))) + "  version " + clean(s.Version), ""})}
	list = append(list, f.wrong(width, max(2, height/3))...)
	tail := f.buffer(width, max(1, min(3, height/(4+4*max(1, len(s.Uplinks))))))
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
			list = append(list, f.event(width, min(3, height-len(list)), e)...)
		}
	}
	return list[:min(len(list), height)]
}

// wrong says what is wrong and what to do.
func (f *watchFrame) wrong(width, most int) (list []string) {
	add := func(colour, text string, indent int) {
		for _, row := range wrapColumns(clean(text), width-1-indent, width-1-indent) {
			list = append(list, f.fit(width, piece{strings.Repeat(" ", indent) + row, colour}))
		}
	}
	if !f.gone.IsZero() {
		add(bad, fmt.Sprintf("THE AGENT IS AWAY since %s; what it reads now is unknown. %s", clock(f.gone), f.why), 0)
		add("", "-> it is looked for every second; journalctl -u lanepost -n 20 tells why it stopped", 2)
		return list
	}
	if len(f.now.Problems) == 0 {
		add(good, "NOTHING IS WRONG that the agent knows of", 0)
		return list
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

// slim is how wide a screen must be for rows with all that is known; on a slimmer one what
// matters comes first, and the rest goes.
const slim = 60

// event is an event in up to so many rows.
func (f *watchFrame) event(width, most int, e watchedEvent) []string {
	head := clock(e.at) + "  "
	switch {
	case e.device == "":
	case width >= slim:
		return f.rows(width, 11, most, piece{e.kind + ": " + e.text, ""}, piece{head + e.device + "  ", ""})
	default:
		head += f.slimName(e.device) + "  "
	}
	return f.rows(width, 2, most, piece{e.text, ""}, piece{head, ""})
}

// slimName is the name of a device on a slim screen: without the lane if there is one only.
func (f *watchFrame) slimName(device string) string {
	lane, id, _ := strings.Cut(device, "/")
	switch {
	case lane == event.AgentLane:
		return lane
	case f.now != nil && len(f.now.Lanes) == 1 && lane == clean(f.now.Lanes[0].ID):
		return id
	}
	return device
}

// devices are a line for each device, or more where there is room; if there are too many,
// those that are not online come first, and the others are counted.
func (f *watchFrame) devices(width, most int) (list []string) {
	var all []console.Device
	name := 0
	for _, l := range f.now.Lanes {
		for _, d := range l.Devices {
			d.Device = clean(d.Device)
			if width < slim {
				d.Device = f.slimName(d.Device)
			}
			all = append(all, d)
			name = max(name, columns(d.Device))
		}
	}
	name = min(name, max(8, width/3))
	for _, d := range all {
		list = append(list, f.device(width, name, 3, d)...)
	}
	if len(list) <= most {
		return list
	}
	list = nil
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
		list = append(list, f.device(width, name, 1, d)...)
	}
	return list
}

// device is a device in up to so many rows, its name padded.
func (f *watchFrame) device(width, name, most int, d console.Device) []string {
	state, colour := f.state(d.State)
	age := "no record yet"
	if d.LastRecord != nil {
		age = drivers.Span(max(0, f.now.At.Sub(d.LastRecord.Time))) + " ago"
		if !f.gone.IsZero() {
			age = "last record " + clock(d.LastRecord.Time)
		}
	}
	text := ""
	if d.LastEvent != nil {
		age, text = age+"  ", clean(d.LastEvent.Text)
	}
	return f.rows(width, 2, most, piece{text, ""}, piece{state, colour}, piece{padded(d.Device, name) + "  " + age, ""})
}

// state is the state of a device or an uplink, padded, and its colour.
func (f *watchFrame) state(s string) (text, colour string) {
	if !f.gone.IsZero() {
		return padded("UNKNOWN", stateWidth), bad // what was is no word on what is
	}
	return padded(strings.ToUpper(clean(s)), stateWidth), stateColours[s]
}

// stateWidth is that of the longest state and a space.
const stateWidth = 12

// buffer is what waits, and where it goes, each in up to so many rows.
func (f *watchFrame) buffer(width, most int) (list []string) {
	for _, u := range f.now.Uplinks {
		text := fmt.Sprintf("uplink %s: %d urgent and %d routine wait", clean(u.Name), u.WaitingUrgent, u.WaitingRoutine)
		if u.OldestWaitingS != nil {
			text += ", oldest " + drivers.Span(time.Duration(*u.OldestWaitingS*float64(time.Second)))
		}
		if u.State != "online" && u.LastErrorAt != nil && f.gone.IsZero() {
			text += ", tried last " + drivers.Span(max(0, f.now.At.Sub(u.LastErrorAt.Time))) + " ago, tried again "
			if u.State == "connecting" {
				text += "now"
			} else {
				text += "within a minute"
			}
		}
		text += fmt.Sprintf(", %.1f events/s to %s", u.EventsPerS, clean(u.Broker))
		state, colour := f.state(u.State)
		list = append(list, f.rows(width, 2, most, piece{text, ""}, piece{state, colour})...)
	}
	sp := f.now.Spool
	short, _ := shortage(sp)
	state, colour := f.state(short)
	if f.gone.IsZero() {
		switch short {
		case "ok":
			colour = good
		case "nearly full":
			colour = warning
		default:
			colour = bad
		}
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if sp.LostEvents > 0 {
		add("%d EVENTS LOST", sp.LostEvents)
	}
	if sp.OldSince != nil {
		add("all of this as of %s", clock(sp.OldSince.Time))
	}
	if sp.DiskFreeBytes != nil {
		add("disk %s free", size(*sp.DiskFreeBytes))
	}
	switch f.now.Clock.Synchronised {
	case "yes":
		add("clock synchronised")
	case "no":
		add("clock NOT SYNCHRONISED")
	default:
		add("clock unknown")
	}
	if len(f.now.Uplinks) == 0 {
		add("no uplink")
	}
	add("urgent %s of at most %s", size(sp.Urgent.Bytes), size(sp.Urgent.MaxBytes))
	add("routine %s of at most %s", size(sp.Routine.Bytes), size(sp.Routine.MaxBytes))
	return append(list, f.rows(width, 2, most, piece{"buffer: " + strings.Join(parts, ", "), ""}, piece{state, colour})...)
}
