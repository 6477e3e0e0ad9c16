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
	w.shows(`buffer: urgent`)
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
	killed.shows(`buffer: urgent`)
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
