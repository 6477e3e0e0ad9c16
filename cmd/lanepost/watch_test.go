package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/capture"
	"github.com/lanepost/lanepost/protocol/event"
)

// watching is a `lanepost watch` on a terminal of its own.
type watching struct {
	t        *testing.T
	cmd      *exec.Cmd
	terminal *os.File
	slave    *os.File
	before   term.State
	screen   *syncBuffer
	done     chan error
}

func startWatching(t *testing.T, config string, env ...string) *watching {
	t.Helper()
	master, slave, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 100}))
	w := &watching{t: t, cmd: lanepost("watch", "--config", config), terminal: master, slave: slave, screen: &syncBuffer{}, done: make(chan error, 1)}
	state, err := term.GetState(int(slave.Fd()))
	require.NoError(t, err)
	w.before = *state
	w.cmd.Env = append(append(w.cmd.Env, "TERM=xterm-256color", "NO_COLOR="), env...)
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = slave, slave, slave
	require.NoError(t, w.cmd.Start())
	go func() { _, _ = io.Copy(w.screen, master) }()
	go func() { w.done <- w.cmd.Wait() }()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = master.Close()
		_ = slave.Close()
	})
	return w
}

func (w *watching) shows(pattern string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return matches(pattern, w.screen.String()) }, patience, 10*time.Millisecond, "%s in vain: %q", pattern, tail(w.screen))
}

func tail(b *syncBuffer) string {
	s := b.String()
	return s[max(0, len(s)-4000):]
}

// ends wants it to have ended well, and the terminal to be as it was.
func (w *watching) ends() {
	w.t.Helper()
	select {
	case err := <-w.done:
		require.NoError(w.t, err, "%q", tail(w.screen))
	case <-time.After(patience):
		require.Fail(w.t, "it does not end")
	}
	w.shows(`\x1b\[\?25h\x1b\[\?1049l$`)
	state, err := term.GetState(int(w.slave.Fd()))
	require.NoError(w.t, err)
	require.Equal(w.t, w.before, *state)
}

// ours are the sequences that the screen may be steered with.
var ours = regexp.MustCompile(`\x1b\[(\?1049[hl]|\?25[hl]|2J|H|K|J|[0-9;]*m)`)

// On a terminal: states in words and colour, what is wrong on top, other sizes, an agent that
// goes away and comes back, and a terminal that is left as it was.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	sim := quietLane(t, 50)
	path := writeConfig(t, devicesOf(sim)+deviceYAML("rpm-9", "rapiscan-tsa", "tcp://127.0.0.1:1"))
	p := start(t, path)
	p.waitFor("lanepost.device.online.v1", 2)
	p.waitFor("lanepost.device.offline.v1", 1)
	dialAgent(t, spoolOf(path))
	w := startWatching(t, path)
	plain := startWatching(t, path, "NO_COLOR=1")
	w.shows(`\x1b\[32mONLINE +\x1b\[0mentry-1/rpm-1`)
	w.shows(`\x1b\[1;31mOFFLINE +\x1b\[0mentry-1/rpm-9`)
	w.shows(`PROBLEM(S|)[^\n]*\r\n[^\n]*entry-1/rpm-9`)
	w.shows(`-> .*check`)
	w.shows(`buffer: .*urgent`)
	w.shows(`entry-1/rpm-[12] +radiation\.`)
	plain.shows(`ONLINE +entry-1/rpm-1`)

	// Another size is taken up at once, and no line is longer than it.
	require.NoError(t, pty.Setsize(w.terminal, &pty.Winsize{Rows: 12, Cols: 40}))
	mark := len(w.screen.String())
	require.Eventually(t, func() bool { return strings.Contains(w.screen.String()[mark:], "\x1b[2J") }, patience, 10*time.Millisecond)
	_, after, _ := strings.Cut(w.screen.String()[mark:], "\x1b[2J")
	require.Eventually(t, func() bool {
		_, after, _ = strings.Cut(w.screen.String()[mark:], "\x1b[2J")
		return strings.Count(after, "\x1b[H") >= 2
	}, patience, 10*time.Millisecond)
	frame := strings.Split(strings.Split(after, "\x1b[H")[1], "\r\n")
	require.LessOrEqual(t, len(frame), 12)
	for _, line := range frame {
		require.LessOrEqual(t, columns(ours.ReplaceAllString(line, "")), 39, line)
	}

	// The agent goes away: no device looks well any more. It comes back.
	p.stop()
	plain.shows(`THE AGENT IS AWAY since \d\d:\d\d:\d\dZ`)
	plain.shows(`UNKNOWN +entry-1/rpm-1`)
	again := start(t, path)
	again.waitFor("lanepost.device.online.v1", 2)
	plain.shows(`the agent is back; it was away since \d\d:\d\d:\d\dZ`)

	_, err := w.terminal.WriteString("q")
	require.NoError(t, err)
	w.ends()
	_, err = plain.terminal.WriteString("\x03") // Ctrl-C
	require.NoError(t, err)
	plain.ends()
	require.NotRegexp(t, `\x1b\[[0-9;]+m.*\n`, strings.ReplaceAll(plain.screen.String(), "\x1b[0m", ""), "no colour")
	for _, one := range []*watching{w, plain} {
		require.NotContains(t, ours.ReplaceAllString(one.screen.String(), ""), "\x1b")
	}

	// A signal leaves no raw terminal either.
	killed := startWatching(t, path)
	killed.shows(`buffer: .*urgent`)
	require.NoError(t, killed.cmd.Process.Signal(syscall.SIGTERM))
	killed.ends()
	again.stop()
}

// Piped: a line for each event and each change, and JSON.
func TestWatchPiped(t *testing.T) {
	t.Parallel()
	sim := quietLane(t, 50)
	path := writeConfig(t, devicesOf(sim))
	// Without an agent it says so, and what to do.
	text, code := output(t, "watch", "--config", path)
	require.Equal(t, 1, code)
	require.Contains(t, text, "no agent is running")
	require.Contains(t, text, "systemctl start lanepost")

	p := start(t, path)
	p.waitFor("lanepost.device.online.v1", 2)
	dialAgent(t, spoolOf(path))
	run := func(args ...string) *syncBuffer {
		cmd := lanepost(append([]string{"watch", "--spool", spoolOf(path)}, args...)...)
		out := &syncBuffer{}
		cmd.Stdout, cmd.Stderr = out, out
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			require.NoError(t, cmd.Wait(), "%s", out)
		})
		return out
	}
	lines, raw := run(), run("--json")
	wait := func(b *syncBuffer, pattern string) {
		t.Helper()
		require.Eventually(t, func() bool { return matches(pattern, b.String()) }, patience, 10*time.Millisecond, "%s in vain: %s", pattern, b)
	}
	wait(lines, `(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  entry-1/rpm-1  ONLINE$`)
	wait(lines, `entry-1/rpm-[12]  radiation\.`)
	wait(raw, `"event":`)
	require.NoError(t, sim.Close())
	wait(lines, `entry-1/rpm-1  ONLINE -> OFFLINE: .* -> `)
	p.stop()
	wait(lines, `agent  AWAY: `)
	again := start(t, path)
	wait(lines, `agent  back; it was away since \d{4}-`)
	wait(raw, `"back":`)
	again.stop()

	kinds := map[string]int{}
	for in := bufio.NewScanner(strings.NewReader(raw.String())); in.Scan(); {
		var v map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(in.Bytes(), &v), in.Text())
		for kind, text := range v {
			kinds[kind]++
			if kind == "status" {
				var s console.Status
				require.NoError(t, json.Unmarshal(text, &s))
				require.Equal(t, "test", s.Site)
			}
		}
	}
	require.Positive(t, kinds["status"])
	require.Positive(t, kinds["event"])
	require.Positive(t, kinds["away"])
}

// What a device says steers no terminal, on any way to it.
func TestWatchIsSafe(t *testing.T) {
	t.Parallel()
	evil := "a\x1b[2Jb\x07\u009b31mc\r\nd\u202ee\x00"
	s := &console.Status{
		Version: evil, Site: evil, Problems: []console.Problem{{What: evil, Device: evil, ToDo: evil}},
		Lanes: []console.Lane{{Devices: []console.Device{{
			Device: evil, State: evil, Reason: evil, ToDo: evil,
			LastEvent: &console.Event{Text: evil},
		}}}},
		Uplinks: []console.Uplink{{Name: evil, State: evil, Broker: evil, LastError: evil}}, Spool: console.Spool{Refused: evil},
	}
	e := console.Event{Device: evil, Type: evil, Text: evil}
	var out strings.Builder
	lines, raw := &lineWatcher{out: &out}, &jsonLines{out: &out}
	for _, w := range []watcher{lines, raw} {
		w.status(s)
		w.event(e)
		w.away(time.Now(), errors.New(evil))
		w.missed(evil)
	}
	f := &watchFrame{now: s}
	f.note(time.Now(), clean(evil))
	out.WriteString(strings.Join(f.lines(120, 40, time.Now()), "\n"))
	f.gone, f.why = time.Now(), evil
	out.WriteString(strings.Join(f.lines(120, 40, time.Now()), "\n"))
	row := []result{{evil, evil, isFailed, evil, evil}}
	require.ErrorIs(t, tell(&out, checkOptions{}, slices.Clone(row)), errReported)
	require.ErrorIs(t, tell(&out, checkOptions{json: true}, slices.Clone(row)), errReported)
	played := &replayer{unparsed: []notUnderstood{{evil, 1, "raw"}}}
	recorded := &tape{told: []string{evil}, holes: []string{evil}, first: capture.Header{Lane: evil, Device: evil, Connect: evil}}
	played.report(&out, recorded, player{what: evil}, &drivers.Replay{}, ended{times: 1, first: errors.New(evil)})
	(&recordFiles{reason: evil}).report(&out)
	require.NotRegexp(t, "[\\x00-\\x09\\x0b-\\x1f\\x7f\u0080-\u009f\u202e]", out.String())
	require.Contains(t, out.String(), "<ESC>[2Jb")
}

// More devices than lines: those that are not well are shown, and the others counted.
func TestWatchSmallScreen(t *testing.T) {
	t.Parallel()
	s := &console.Status{Site: "a", Version: "1", Lanes: []console.Lane{{}}}
	for i := range 60 {
		d := console.Device{Device: "lane/" + string(rune('a'+i%26)) + strings.Repeat("x", i/26), State: "online"}
		if i == 55 {
			d.Device, d.State = "lane/broken", "silent"
		}
		s.Lanes[0].Devices = append(s.Lanes[0].Devices, d)
	}
	for range 30 {
		s.Problems = append(s.Problems, console.Problem{What: "something is wrong", ToDo: "mend it"})
	}
	f := &watchFrame{now: s}
	for range 300 {
		f.note(time.Now(), "an event")
	}
	require.LessOrEqual(t, len(f.events), keptEvents)
	for width := 1; width < 120; width += 7 {
		for height := 1; height < 50; height++ {
			list := f.lines(width, height, event.Time{}.Time)
			require.LessOrEqual(t, len(list), max(height, leastHeight))
			for _, l := range list {
				require.Less(t, columns(l), max(width, leastWidth))
			}
		}
	}
	text := strings.Join(f.lines(80, 24, time.Now()), "\n")
	require.Contains(t, text, "SILENT")
	require.Regexp(t, `\.\.\. \d+ more, \d+ of them online`, text)
	require.Regexp(t, `\.\.\. and \d+ more`, text)
	require.Contains(t, text, "an event")
}

// A vehicle on a portal, as the agent tells of it.
func vehicle(text string) console.Event {
	return console.Event{At: event.At(time.Date(2026, 7, 26, 10, 14, 4, 0, time.UTC)), Device: "entry-1/rpm-1", Type: "lanepost.radiation.occupancy.v1", Text: text}
}

// On a phone what came of a vehicle is there in full, and so are the names of the devices.
// What is cut off is marked.
func TestWatchSlimScreen(t *testing.T) {
	t.Parallel()
	at := event.At(time.Date(2026, 7, 26, 10, 15, 0, 0, time.UTC))
	failed, free := event.At(at.Add(-35*time.Second)), int64(0)
	incomplete := vehicle("incomplete: not observed from beginning to end, 12.3 s")
	s := &console.Status{
		At: at, Site: "medyka", Version: "1.2.3", UptimeS: 180,
		Lanes: []console.Lane{{ID: "entry-1", Devices: []console.Device{
			{Device: "entry-1/rpm-1", ID: "rpm-1", State: "online", LastRecord: &at, LastEvent: &incomplete},
			{Device: "entry-1/area-1", ID: "area-1", State: "offline"},
		}}},
		Uplinks: []console.Uplink{{Name: "mqtt", State: "offline", LastError: "it refuses", LastErrorAt: &failed, WaitingUrgent: 3, Broker: "tcp://127.0.0.1:1883"}},
		Spool:   console.Spool{DiskFreeBytes: &free, Pressure: "disk", Urgent: console.SpoolClass{Bytes: 65536, MaxBytes: 536870912}},
	}
	w := &watchScreen{closed: true}
	w.frame.now = s
	f := &w.frame
	for _, text := range []string{"gamma alarm, gamma 12.1 sigma, 3.4 s", "no alarm, 2.1 s", incomplete.Text} {
		w.event(vehicle(text))
	}
	words := func(width, height int) string {
		list := f.lines(width, height, at.Time)
		require.LessOrEqual(t, len(list), height)
		for _, l := range list {
			require.Less(t, columns(l), width, l)
		}
		return strings.Join(strings.Fields(strings.Join(list, " ")), " ")
	}
	for _, size := range [][2]int{{40, 30}, {40, 24}, {80, 24}, {120, 24}} {
		text := words(size[0], size[1])
		if size[0] >= 80 {
			require.NotContains(t, text, "…", text)
			require.Contains(t, text, "to tcp://127.0.0.1:1883")
		}
		require.Contains(t, text, "q quits")
		require.Regexp(t, `10:14:04Z (entry-1/)?rpm-1 (radiation.occupancy: )?incomplete: not observed from beginning to end, 12.3 s`, text)
		require.Regexp(t, `10:14:04Z (entry-1/)?rpm-1 (radiation.occupancy: )?no alarm, 2.1 s`, text)
		require.Regexp(t, `10:14:04Z (entry-1/)?rpm-1 (radiation.occupancy: )?gamma alarm, gamma 12.1 sigma, 3.4 s`, text)
		require.Regexp(t, `OFFLINE (entry-1/)?area-1 no record yet`, text)
		require.Contains(t, text, "tried last 35 s ago, tried again within a minute")
		require.Regexp(t, `FULL buffer: disk 0 B free, clock unknown, urgent 65.5 kB of at most 536.9 MB`, text)
		require.NotContains(t, text, "OK")
	}
	// Where it can't be, it says that something is missing.
	for _, l := range f.lines(40, 6, at.Time) {
		if strings.Contains(l, "buffer:") || strings.Contains(l, "uplink") {
			require.True(t, strings.HasSuffix(l, "…"), l)
		}
	}
	s.Lanes = append(s.Lanes, console.Lane{ID: "exit-1"})
	require.Contains(t, words(40, 24), "entry-1/rpm-1", "of several lanes")
	free, s.Spool.Pressure = 1, "urgent cap"
	require.Contains(t, words(80, 24), "NEARLY FULL buffer")
	s.Spool.Pressure = ""
	require.Contains(t, words(80, 24), "OK buffer")
}

// A text goes on under its row, in the room that there is, and loses nothing.
func TestWrapColumns(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		text        string
		first, rest int
		want        []string
	}{
		{"", 5, 5, []string{""}},
		{"ab cd ef", 5, 5, []string{"ab cd", "ef"}},
		{"ab cd ef", 2, 5, []string{"ab", "cd ef"}},
		{"abc de", -3, 3, []string{"", "abc", "de"}},
		{"a bcdefghi jk", 4, 4, []string{"a", "bcde", "fghi", "jk"}},
		{"abcdefghi", 2, 4, []string{"ab", "cdef", "ghi"}},
		{"日本語 a", 3, 4, []string{"日", "本語", "a"}},
	} {
		require.Equal(t, one.want, wrapColumns(one.text, one.first, one.rest), one.text)
	}
}

// Lines say once what is wrong, in full, and that it is over.
func TestWatchLinesOfProblems(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &lineWatcher{out: &out}
	mark := 0
	told := func(s *console.Status) string {
		p.status(s)
		defer func() { mark = out.Len() }()
		return strings.ReplaceAll(out.String()[mark:], "0001-01-01T00:00:00Z  ", "")
	}
	free := int64(1 << 30)
	const refuses = "127.0.0.1 refuses connections on port 1883"
	status := func(uplink string, problems ...console.Problem) *console.Status {
		u := console.Uplink{Name: "mqtt", State: uplink, LastError: refuses, ToDo: "check the port"}
		return &console.Status{
			Lanes:   []console.Lane{{Devices: []console.Device{{Device: "entry-1/cam-1", State: "online", Reason: "its clock is wrong", ToDo: "set it"}}}},
			Uplinks: []console.Uplink{u}, Spool: console.Spool{DiskFreeBytes: &free}, Problems: problems,
		}
	}
	noBroker := func(why string) console.Problem {
		return console.Problem{What: "the uplink mqtt has no broker since 2026-07-26T10:00:00Z: " + why, ToDo: "check the port"}
	}
	require.Equal(t, "entry-1/cam-1  ONLINE\nuplink mqtt  ONLINE\nspool  DISK TAKES EVENTS\n", told(status("online")))

	// A broker that goes and comes back: an attempt between is no news.
	require.Equal(t, "uplink mqtt  ONLINE -> OFFLINE\nproblem  "+noBroker(refuses).What+" -> check the port\n", told(status("offline", noBroker(refuses))))
	require.Empty(t, told(status("connecting", noBroker(refuses))))
	require.Empty(t, told(status("offline", noBroker(refuses))))
	// Why is news; what only moves in it is none.
	expired := func(at string) console.Problem {
		return noBroker("the broker's certificate has expired: current time " + at + " is after 2026-01-01T00:00:00Z")
	}
	require.Equal(t, "problem  "+expired("2026-07-26T10:00:01+02:00").What+" -> check the port\n", told(status("offline", expired("2026-07-26T10:00:01+02:00"))))
	require.Empty(t, told(status("offline", expired("2026-07-26T10:01:01+02:00"))))
	require.Equal(t, "uplink mqtt  OFFLINE -> ONLINE\nproblem  over: "+expired("2026-07-26T10:01:01+02:00").What+"\n", told(status("online")))

	// A clock: of a device that is online, too.
	clock := func(by string) console.Problem {
		return console.Problem{Device: "entry-1/cam-1", What: "entry-1/cam-1: its clock is " + by + " behind this box's", ToDo: "set it"}
	}
	require.Equal(t, "problem  entry-1/cam-1: its clock is 59 min behind this box's -> set it\n", told(status("online", clock("59 min"))))
	require.Empty(t, told(status("online", clock("1 h 1 min"))))
	require.Equal(t, "problem  over: entry-1/cam-1: its clock is 1 h 1 min behind this box's\n", told(status("online")))
	// The state of a device stands in a line of its own, and its problem says no more.
	require.Empty(t, told(status("online", console.Problem{Device: "entry-1/cam-1", What: "entry-1/cam-1 is offline: gone"})))

	// A disk: what gets worse is not over.
	disk := func(how string) console.Problem {
		return console.Problem{What: "the disk of the spool directory is " + how + ": routine events give way", ToDo: "make room"}
	}
	s := status("online", disk("nearly full"))
	s.Spool.Pressure = "disk"
	require.Equal(t, "spool  DISK TAKES EVENTS -> NEARLY FULL\nproblem  "+disk("nearly full").What+" -> make room\n", told(s))
	s.Problems, free = []console.Problem{disk("full")}, 0
	require.Equal(t, "spool  NEARLY FULL -> DISK IS FULL\nproblem  "+disk("full").What+" -> make room\n", told(s))
	s.Problems, s.Spool.Pressure, free = nil, "", 1<<30
	require.Equal(t, "spool  DISK IS FULL -> DISK TAKES EVENTS\nproblem  over: "+disk("full").What+"\n", told(s))
}
