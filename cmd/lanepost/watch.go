package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
)

const (
	// watchEvery spaces the snapshots, and watchAgain the attempts to have the agent back.
	watchEvery = time.Second
	watchAgain = time.Second
	// watchJSONEvery spaces the snapshots of --json.
	watchJSONEvery = 10 * time.Second
	// maxWatchedLine bounds a line of the stream of events, in bytes.
	maxWatchedLine = 256 << 10
)

type watchFlags struct {
	config, spool string
	json          bool
}

func watchCommand() *cobra.Command {
	var o watchFlags
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch the running agent: devices, events, buffer, and what is wrong",
		Long: "watch shows the running agent on the terminal, what is wrong and what to do about\n" +
			"it on top; q or Ctrl-C ends it. It changes nothing.\n\n" +
			"Piped, or on a terminal of the kind \"dumb\", it prints a line for each event and\n" +
			"for each change of state and each problem, and its end, instead. With NO_COLOR set\n" +
			"there is no colour; each state stands in words too.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("config") && o.spool != "" {
				return usageError{errors.New("--config and --spool exclude each other: the configuration names the spool directory")}
			}
			return watch(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", defaultConfig, "configuration file that names the spool directory")
	cmd.Flags().StringVar(&o.spool, "spool", "", "the spool directory of the agent, instead of a configuration")
	cmd.Flags().BoolVar(&o.json, "json", false, "print snapshots and events as JSON, one on each line")
	return cmd
}

// watcher shows what it is told.
type watcher interface {
	// status takes a snapshot, event an event.
	status(s *console.Status)
	event(e console.Event)
	// away says since when the agent does not answer, and why; back that it does again.
	away(since time.Time, err error)
	back(since, at time.Time)
	// missed says that events may be missing here.
	missed(why string)
}

// seenOf is one thing that was learned of the agent; one field is set.
type seenOf struct {
	status *console.Status
	event  *console.Event
	err    error  // the agent does not answer
	missed string // why events may be missing
}

func watch(ctx context.Context, out io.Writer, o watchFlags) error {
	dir := o.spool
	if dir == "" {
		var err error
		if dir, err = spoolDirOf(o.config); err != nil {
			return fmt.Errorf("%w\n(--spool DIRECTORY watches an agent without its configuration)", err)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c, err := client.Dial(dir)
	if errors.Is(err, client.ErrNotRunning) {
		return fmt.Errorf("%w\nAs a service: sudo systemctl start lanepost; journalctl -u lanepost -n 20 tells why it stopped", err)
	}
	if err != nil {
		return err
	}
	c.CloseIdleConnections()

	seen := make(chan seenOf, 64)
	go learn(ctx, dir, seen)
	if o.json {
		return follow(ctx, seen, nil, &jsonLines{out: out})
	}
	if s, err := openScreen(out); err != nil {
		return err
	} else if s != nil {
		defer s.close()
		return follow(ctx, seen, s.keys(ctx), s)
	}
	lines := &lineWatcher{out: out}
	err = follow(ctx, seen, nil, lines)
	if lines.err != nil {
		return nil // who read them has gone, as head does
	}
	return err
}

// follow shows what is learned until ctx ends, or a key ends it.
func follow(ctx context.Context, seen <-chan seenOf, keys <-chan struct{}, w watcher) error {
	var gone time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-keys:
			return nil
		case x := <-seen:
			switch {
			case x.err != nil:
				if gone.IsZero() {
					gone = time.Now()
				}
				w.away(gone, x.err)
			case x.status != nil:
				if !gone.IsZero() {
					w.back(gone, time.Now())
					gone = time.Time{}
				}
				w.status(x.status)
			case x.event != nil:
				w.event(*x.event)
			case x.missed != "":
				w.missed(x.missed)
			}
			if f, ok := w.(interface{ failed() error }); ok && f.failed() != nil {
				return nil // nobody reads any more
			}
		}
	}
}

// learn asks the agent until ctx ends. When it goes away, it is looked for until it is back.
func learn(ctx context.Context, dir string, seen chan<- seenOf) {
	tell := func(x seenOf) {
		select {
		case seen <- x:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		err := learnOnce(ctx, dir, tell)
		if ctx.Err() == nil && err != nil {
			tell(seenOf{err: err})
		}
		_ = pause(ctx, watchAgain) // ends with ctx
	}
}

// learnOnce asks the agent until it does not answer.
func learnOnce(ctx context.Context, dir string, tell func(seenOf)) error {
	c, err := client.Dial(dir)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		learnEvents(ctx, c, tell)
	}()
	defer func() {
		cancel()
		<-over
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		var s console.Status
		if err := client.Get(ctx, c, "/api/v1/status", &s); err != nil {
			return err
		}
		tell(seenOf{status: &s})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// learnEvents follows the stream of events until ctx ends. The snapshots tell whether the
// agent is there.
func learnEvents(ctx context.Context, c *http.Client, tell func(seenOf)) {
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			_ = pause(ctx, watchAgain) // ends with ctx
		}
		r, err := client.Open(ctx, c, http.MethodGet, "/api/v1/events")
		if err != nil {
			if ctx.Err() == nil {
				tell(seenOf{missed: err.Error()})
			}
			continue
		}
		why := readEvents(r, tell)
		_ = r.Close() // it was only read
		if ctx.Err() == nil {
			tell(seenOf{missed: why})
		}
	}
}

// readEvents reads server-sent events to their end, and says why they ended.
func readEvents(r io.Reader, tell func(seenOf)) string {
	in := newLineReader(r, maxWatchedLine)
	kind := ""
	for {
		b, err := in.next()
		if err != nil {
			return "the agent ended the stream"
		}
		line := strings.TrimRight(string(b), "\r\n")
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			kind = v
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		switch {
		case !ok:
		case kind == "recorded":
			var e console.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return "an event can't be read: " + err.Error()
			}
			tell(seenOf{event: &e})
		case kind == "dropped":
			var why struct {
				Error string `json:"error"`
			}
			if json.Unmarshal([]byte(data), &why) != nil || why.Error == "" {
				why.Error = "the agent ended the stream"
			}
			return why.Error
		}
	}
}

// jsonLines prints what the agent says as it is.
type jsonLines struct {
	out  io.Writer
	last time.Time
	err  error
}

func (j *jsonLines) failed() error { return j.err }

func (j *jsonLines) print(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		j.err = err
		return
	}
	if _, err := io.WriteString(j.out, printable(b)+"\n"); err != nil {
		j.err = err
	}
}

// printable writes what could steer a terminal as \u escapes, which JSON leaves as it is.
func printable(b []byte) string {
	var s strings.Builder
	for _, r := range string(b) {
		switch {
		case unicode.IsPrint(r):
			s.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&s, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&s, `\u%04x`, r)
		}
	}
	return s.String()
}

func (j *jsonLines) status(s *console.Status) {
	if time.Since(j.last) < watchJSONEvery {
		return
	}
	j.last = time.Now()
	j.print(map[string]any{"status": s})
}

func (j *jsonLines) event(e console.Event) { j.print(map[string]any{"event": e}) }

func (j *jsonLines) away(since time.Time, err error) {
	if !j.last.IsZero() { // once
		j.last = time.Time{}
		j.print(map[string]any{"away": map[string]any{"since": since.UTC(), "error": err.Error()}})
	}
}

func (j *jsonLines) back(since, at time.Time) {
	j.last = time.Time{}
	j.print(map[string]any{"back": map[string]any{"since": since.UTC(), "at": at.UTC()}})
}

func (j *jsonLines) missed(why string) { j.print(map[string]any{"missed": why}) }

// lineWatcher prints a line for each event and for each change.
type lineWatcher struct {
	out      io.Writer
	err      error
	gone     bool
	states   map[string]string
	problems []console.Problem // without what the states of devices tell
}

func (p *lineWatcher) failed() error { return p.err }

func (p *lineWatcher) line(at time.Time, what, text string) {
	if _, err := fmt.Fprintf(p.out, "%s  %s  %s\n", at.UTC().Format("2006-01-02T15:04:05Z"), clean(what), clean(text)); err != nil {
		p.err = err
	}
}

func (p *lineWatcher) event(e console.Event) {
	p.line(e.At.Time, e.Device, shortType(e.Type)+": "+e.Text)
}

func (p *lineWatcher) away(since time.Time, err error) {
	if !p.gone {
		p.gone = true
		p.line(since, "agent", "AWAY: "+err.Error())
	}
}

func (p *lineWatcher) back(since, at time.Time) {
	p.gone = false
	p.line(at, "agent", fmt.Sprintf("back; it was away since %s", since.UTC().Format("2006-01-02T15:04:05Z")))
}

func (p *lineWatcher) missed(why string) {
	p.line(time.Now(), "agent", "events may be missing here (they are in the spool): "+why)
}

func (p *lineWatcher) status(s *console.Status) {
	now := map[string]string{}
	change := func(at time.Time, what, state, text string) {
		now[what] = state
		before, known := p.states[what]
		switch {
		case !known:
			p.line(at, what, strings.TrimSuffix(strings.ToUpper(state)+": "+text, ": "))
		case before != state:
			p.line(at, what, strings.TrimSuffix(strings.ToUpper(before)+" -> "+strings.ToUpper(state)+": "+text, ": "))
		}
	}
	for _, l := range s.Lanes {
		for _, d := range l.Devices {
			text := ""
			if d.State != "online" && d.State != "connecting" {
				text = withHint(d.Reason, d.ToDo)
			}
			change(d.Since.Time, d.Device, d.State, text)
		}
	}
	for _, u := range s.Uplinks {
		state := u.State
		if state == "connecting" && u.LastError != "" {
			state = "offline" // one more attempt is no news
		}
		change(u.Since.Time, "uplink "+u.Name, state, "") // why is a problem
	}
	_, disk := shortage(s.Spool)
	change(s.At.Time, "spool", disk, "")
	for what := range p.states {
		if _, ok := now[what]; !ok {
			p.line(s.At.Time, what, "no longer in the configuration")
		}
	}
	p.states = now
	var wrong []console.Problem
	known, stays := map[string]bool{}, map[string]bool{}
	for _, x := range p.problems {
		known[steady(x)] = true
	}
	for _, x := range s.Problems {
		if x.Device == "" || !strings.HasPrefix(x.What, x.Device+" is ") { // its state stands above
			wrong = append(wrong, x)
			stays[subject(x)] = true
		}
	}
	for _, x := range p.problems {
		if !stays[subject(x)] {
			p.line(s.At.Time, "problem", "over: "+x.What)
		}
	}
	for _, x := range wrong {
		if key := steady(x); !known[key] {
			known[key] = true
			p.line(s.At.Time, "problem", withHint(x.What, x.ToDo))
		}
	}
	p.problems = wrong
}

// moving is what changes in the words of a problem that stays the same: times and spans.
var moving = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)|\b\d+ (s|min|h|days)\b( \d+ min\b)?`)

// steady is a problem without what moves in it.
func steady(p console.Problem) string { return p.Device + " " + moving.ReplaceAllString(p.What, "") }

// subject is what a problem is about, without why and how much.
func subject(p console.Problem) string {
	about, _, _ := strings.Cut(steady(p), ": ")
	return strings.Replace(about, "nearly ", "", 1)
}

// shortage is how the spool's room is, in short and as a line says it.
func shortage(s console.Spool) (short, line string) {
	switch {
	case s.OldSince != nil:
		return "no answer", "disk does not answer"
	case s.Refused != "":
		return "refuses", "disk takes no events"
	case s.DiskFreeBytes != nil && *s.DiskFreeBytes <= 0:
		return "full", "disk is full"
	case s.Pressure != "":
		return "nearly full", "nearly full"
	}
	return "ok", "disk takes events"
}

func withHint(what, todo string) string {
	if todo == "" {
		return what
	}
	return what + " -> " + todo
}

// shortType is a type of event without what all have in common.
func shortType(t string) string {
	t = strings.TrimPrefix(t, "lanepost.")
	if i := strings.LastIndex(t, ".v"); i > 0 {
		t = t[:i]
	}
	return t
}

// openScreen gives a screen if out is a terminal that can be drawn on; else nil.
func openScreen(out io.Writer) (*watchScreen, error) {
	f, ok := out.(*os.File)
	if !ok || !onTerminal(f) || !onTerminal(os.Stdin) {
		return nil, nil
	}
	if kind := os.Getenv("TERM"); kind == "dumb" || kind == "" {
		return nil, nil
	}
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal up: %w; pipe the command into cat to have plain lines", err)
	}
	s := &watchScreen{out: f, in: os.Stdin, before: before, frame: watchFrame{colour: os.Getenv("NO_COLOR") == ""}}
	s.put("\x1b[?1049h\x1b[?25l\x1b[2J")
	return s, nil
}
