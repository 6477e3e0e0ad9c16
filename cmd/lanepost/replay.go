package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// replayFlags are what replay was asked for.
type replayFlags struct {
	profile, profiles string
	config, device    string
	serve             string
	speed             string
}

func replayCommand() *cobra.Command {
	var o replayFlags
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Play a recording through a profile, or to a program that reads it",
		Long: "replay plays what `lanepost record` has recorded, or an agent's daily files,\n" +
			"through the driver of a profile and prints the events that it makes of it, one\n" +
			"JSON object a line. Their times are those of the recording; nothing is sent or\n" +
			"kept. What was not understood is told at the end. Files of one recording are\n" +
			"given in their order.\n\n" +
			"Without --config the device's own settings are not known: those of the profile\n" +
			"are used, and events may differ from those of the agent.\n\n" +
			"With --serve the bytes are given to whoever connects, with the pauses of the\n" +
			"recording: an agent can read them like the device.\n\n" +
			"A recording holds all that the device sent, plates and documents too, and so do\n" +
			"the events that are printed here.",
		Example: "  lanepost replay medyka-entry-3-rpm-1-20260314T100000Z-001.jsonl\n" +
			"  lanepost replay --profile rapiscan-tsa-extended FILE\n" +
			"  lanepost replay --serve tcp://127.0.0.1:1600 --speed 10x FILE",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("want a file that was recorded")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			t, err := openTape(args)
			if err != nil {
				return err
			}
			defer t.close()
			if o.serve != "" {
				if o.profile != "" || o.config != "" {
					return usageError{errors.New("--serve gives bytes; --profile and --config belong to the other end")}
				}
				return serveTape(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), t, o.serve, o.speed)
			}
			if cmd.Flags().Changed("speed") {
				return usageError{errors.New("--speed belongs to --serve: without it no time passes")}
			}
			return replay(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), t, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.profile, "profile", "", "read with this profile, or this file of one, in place of the recording's")
	f.StringVar(&o.profiles, "profiles", "", "directory with profiles of your own")
	f.StringVarP(&o.config, "config", "c", "", "use the settings of the device in this configuration")
	f.StringVar(&o.device, "device", "", "which device of the configuration, LANE/ID (default: the recording's)")
	f.StringVar(&o.serve, "serve", "", "give the bytes to whoever connects: tcp://HOST:PORT, or pty:[PATH]")
	f.StringVar(&o.speed, "speed", "1x", "with --serve: 1x keeps the pauses of the recording; 20x; max")
	return cmd
}

// player is what a recording is played through.
type player struct {
	what       string // for people
	source     string
	instrument func() (drivers.Instrument, error)
}

// choose finds the driver with its settings.
func (o replayFlags) choose(t *tape) (player, error) {
	h := t.first
	v := player{source: event.Source(cmp.Or(h.Site, "unknown"), cmp.Or(h.Lane, "unknown"), cmp.Or(h.Device, "unknown"))}
	if o.config != "" {
		return o.configured(t, v)
	}
	if o.device != "" {
		return v, usageError{errors.New("--device names one of a configuration: give --config too")}
	}
	name := o.profile
	if name == "" {
		name = h.Profile
	}
	if name == "" {
		return v, usageError{errors.New("the file does not say by which profile it is read: give --profile, or --config and --device")}
	}
	p, err := loadProfile(name, o.profiles)
	if err != nil {
		return v, err
	}
	d, err := driverOf(p)
	if err != nil {
		return v, err
	}
	v.instrument = func() (drivers.Instrument, error) {
		return d.New(func(settings any) error { return p.Decode(settings) })
	}
	v.what = "profile " + p.Name + " with its own settings"
	return v, nil
}

// loadProfile finds a profile that its driver can use: in a file if the name is that of one,
// else in dir, which may be empty, and among those that are built in.
func loadProfile(name, dir string) (*profiles.Profile, error) {
	if strings.Contains(name, "/") || strings.HasSuffix(name, ".yaml") {
		return readProfile(name)
	}
	set, err := profiles.Load(dir)
	if err != nil {
		return nil, err
	}
	p, ok := set.Get(name)
	if ok && !set.Spoiled(name) {
		return p, p.CheckDriver(registry.ByName)
	}
	if set.Spoiled(name) && len(set.Problems) > 0 {
		return nil, set.Problems
	}
	if near := yamlfile.Nearest(name, set.Names()); near != "" {
		return nil, fmt.Errorf("there is no profile %q; did you mean %q?", name, near)
	}
	return nil, fmt.Errorf("there is no profile %q; if it is one of your own, name its directory with --profiles", name)
}

// streams are the links whose bytes can be recorded.
var streams = []string{"tcp", "serial", "tcp-listen"}

// driverOf gives the driver of a profile, if it reads bytes.
func driverOf(p *profiles.Profile) (drivers.Driver, error) {
	d, ok := registry.ByName(p.Driver)
	if !ok {
		return d, fmt.Errorf("profile %s wants the driver %q, which this version does not have", p.Name, p.Driver)
	}
	if !slices.ContainsFunc(d.Schemes, func(s string) bool { return slices.Contains(streams, s) }) {
		return d, fmt.Errorf("profile %s reads %s: links, of which there is no recording of bytes; choose another profile", p.Name, strings.Join(d.Schemes, ": and "))
	}
	return d, nil
}

// configured takes the device of a configuration.
func (o replayFlags) configured(t *tape, v player) (player, error) {
	if o.profile != "" {
		return v, usageError{errors.New("--profile and --config exclude each other: the configuration says by which profile its device is read")}
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return v, err
	}
	key := o.device
	if key == "" {
		if t.first.Device == "" {
			return v, usageError{errors.New("the file does not say of which device it is: give --device LANE/ID")}
		}
		key = t.first.Lane + "/" + t.first.Device
	}
	d, err := deviceOf(cfg, key)
	if err != nil {
		return v, err
	}
	if _, err := driverOf(d.Profile); err != nil {
		return v, err
	}
	v.source = event.Source(cfg.Site, d.Lane, d.ID)
	v.instrument = d.New
	v.what = fmt.Sprintf("profile %s with the settings of %s in %s", d.Profile.Name, key, o.config)
	return v, nil
}

// deviceOf finds a device of a configuration by "lane/id", or by its id if that is enough.
func deviceOf(cfg *config.Config, key string) (config.Device, error) {
	var names []string
	var found []config.Device
	for _, d := range cfg.Devices() {
		name := d.Lane + "/" + d.ID
		names = append(names, name)
		if name == key {
			return d, nil
		}
		if d.ID == key {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		hint := "there are " + strings.Join(names, ", ")
		if near := yamlfile.Nearest(key, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		} else if len(names) == 0 {
			hint = "it has none"
		}
		return config.Device{}, usageError{fmt.Errorf("%s has no device %q; %s", cfg.Path, key, hint)}
	}
	return config.Device{}, usageError{fmt.Errorf("%s has several devices %q; name it as LANE/ID", cfg.Path, key)}
}

// replayed is an event as replay prints it. It has no id, sequence or hash: it is none that
// was recorded.
type replayed struct {
	Time       event.Time      `json:"time"`
	Type       string          `json:"type"`
	Priority   event.Class     `json:"priority"`
	Source     string          `json:"source"`
	Subject    string          `json:"subject,omitempty"`
	DeviceTime *event.Time     `json:"devicetime,omitempty"`
	Data       json.RawMessage `json:"data"`
}

// replayer prints what a driver makes of a recording.
type replayer struct {
	out    *bufio.Writer
	source string
	began  time.Time
	// ids are those that the driver made, with what stands in their place: the same
	// recording prints the same.
	ids map[string]string

	events, refused int
	unparsed        []notUnderstood
	more            int64 // of other reasons
	failed          error // writing
}

// notUnderstood is why something was not understood, how often, and the first of it.
type notUnderstood struct {
	text  string
	count int64
	raw   string
}

func (r *replayer) observed(o drivers.Observation) error {
	h := event.Header{
		ID: uuid.Nil.String(), Source: r.source, Agent: uuid.Nil.String(), Subject: o.Subject,
		Time: event.At(o.Time), RecordedTime: event.At(o.Time), ClockSync: "unknown",
	}
	if !o.DeviceTime.IsZero() {
		at := event.At(o.DeviceTime)
		h.DeviceTime = &at
	}
	draft, err := event.NewDraft(h, o.Data)
	var e event.Event
	if err == nil {
		e, err = event.Parse(draft.Encode(1, event.Hash{}))
	}
	var line []byte
	if err == nil {
		line, err = json.Marshal(replayed{e.Time, e.Type, e.Priority, e.Source, e.Subject, e.DeviceTime, e.Data})
	}
	if err != nil {
		r.refused++
		return fmt.Errorf("%w: %w", drivers.ErrUnrecordable, err)
	}
	r.events++
	if _, err := r.out.Write(append(r.renumber(line), '\n')); err != nil {
		r.failed = err
		return err
	}
	return nil
}

// madeIDs finds UUIDs of version 7, which begin with the time when they were made.
var madeIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// renumber puts numbers in place of the ids that were made in this run, and leaves those
// that are in the recording.
func (r *replayer) renumber(line []byte) []byte {
	return madeIDs.ReplaceAllFunc(line, func(id []byte) []byte {
		ms, err := strconv.ParseInt(string(id[:8])+string(id[9:13]), 16, 64)
		if at := time.UnixMilli(ms); err != nil || at.Before(r.began.Add(-time.Second)) || at.After(time.Now().Add(time.Minute)) {
			return id
		}
		made, ok := r.ids[string(id)]
		if !ok {
			if len(r.ids) >= maxIDs {
				clear(r.ids)
			}
			made = fmt.Sprintf("00000000-0000-7000-8000-%012x", r.count())
			r.ids[string(id)] = made
		}
		return []byte(made)
	})
}

// maxIDs bounds the ids that are remembered. What belongs together comes together.
const maxIDs = 100_000

func (r *replayer) count() int { return len(r.ids) + 1 }

// sampleBytes is how much of what was not understood is shown.
const sampleBytes = 48

func (r *replayer) addUnparsed(why string, raw []byte) {
	for i := range r.unparsed {
		if r.unparsed[i].text == why {
			r.unparsed[i].count++
			return
		}
	}
	if len(r.unparsed) >= maxTold {
		r.more++
		return
	}
	sample := raw[:min(len(raw), sampleBytes)]
	text := strconv.QuoteToASCII(string(sample))
	if strings.Count(text, `\x`) > len(sample)/2 {
		text = hex.EncodeToString(sample)
	}
	if len(sample) < len(raw) {
		text += "..."
	}
	r.unparsed = append(r.unparsed, notUnderstood{why, 1, text})
}

// replay plays a tape through a driver.
func replay(ctx context.Context, out, notes io.Writer, t *tape, o replayFlags) error {
	v, err := o.choose(t)
	if err != nil {
		return err
	}
	instrument, err := v.instrument()
	if err != nil {
		return err
	}
	r := &replayer{out: bufio.NewWriter(out), source: v.source, began: time.Now(), ids: map[string]string{}}
	p := &drivers.Replay{Start: t.first.Begun, Observed: r.observed, Unparsed: r.addUnparsed}
	left := ended{}
	err = playTape(ctx, p, instrument, t, &left)
	if flushErr := r.out.Flush(); r.failed == nil {
		r.failed = flushErr
	}
	if r.failed != nil {
		return fmt.Errorf("print the events: %w", r.failed)
	}
	r.report(notes, t, v, p, left)
	switch {
	case ctx.Err() != nil:
		return errors.New("the replay was ended before the end of the recording")
	case err != nil:
		return err
	case t.damaged, p.Valid == 0 && t.bytes > 0:
		return errReported
	}
	return nil
}

// ended counts how often a driver ended a connection itself.
type ended struct {
	times   int
	first   error
	skipped int
}

func playTape(ctx context.Context, p *drivers.Replay, d drivers.Instrument, t *tape, left *ended) error {
	for {
		c, err := t.connection()
		if c == nil || err != nil {
			return err
		}
		if err := playConnection(ctx, p, d, c, left); err != nil {
			return err
		}
	}
}

func playConnection(ctx context.Context, p *drivers.Replay, d drivers.Instrument, c *connection, left *ended) error {
	for {
		before := p.Read
		why, err := p.Connection(ctx, d, func() (drivers.Chunk, error) { return c.chunk(p.Start) })
		if err != nil || why == nil {
			return err
		}
		left.times++
		if left.first == nil {
			left.first = why
		}
		if p.Read > before {
			continue // with what is left, as over a new connection
		}
		p.Drop()
		some, err := c.skip()
		if some {
			left.skipped++
		}
		return err
	}
}

// report tells what was played, and what became of it.
func (r *replayer) report(w io.Writer, t *tape, v player, p *drivers.Replay, left ended) {
	t.report(w)
	fmt.Fprintf(w, "read by %s: %s, %s, %s not understood\n", clean(v.what),
		plural(p.Valid, "valid record"), plural(r.events, "event"), plural(r.total(), "piece"))
	order.Stable(r.unparsed, func(a, b notUnderstood) int { return int(b.count - a.count) })
	for _, u := range r.unparsed {
		fmt.Fprintf(w, "  %s: %s; the first is %s\n", plural(u.count, "time"), clean(u.text), u.raw)
	}
	if r.more > 0 {
		fmt.Fprintf(w, "  %s: for other reasons\n", plural(r.more, "time"))
	}
	if r.refused > 0 {
		fmt.Fprintf(w, "%s could not be made events of and are not printed\n", plural(r.refused, "observation"))
	}
	if left.times > 0 {
		fmt.Fprintf(w, "the driver ended the connection itself %s, first since: %s\n", plural(left.times, "time"), clean(left.first.Error()))
	}
	if left.skipped > 0 {
		fmt.Fprintf(w, "%s could not be read to the end by this driver\n", plural(left.skipped, "connection"))
	}
	if p.Written > 0 {
		fmt.Fprintf(w, "the driver asks the device: %s; the answers are those of the recording, asked for or not\n", plural(p.Written, "request"))
	}
	if p.Valid == 0 && t.bytes > 0 {
		if t.daily && !t.timed {
			fmt.Fprintln(w, "no line of it is a record: this is probably no recording, but a log or another text")
		}
		fmt.Fprintln(w, "no valid record: try another profile with --profile, and check baud rate and parity of the device")
	}
}

func (r *replayer) total() int64 {
	n := r.more
	for _, u := range r.unparsed {
		n += u.count
	}
	return n
}

// report tells what the files hold.
func (t *tape) report(w io.Writer) {
	h := t.first
	if t.begun.IsZero() {
		fmt.Fprintln(w, "nothing of the recording was played")
		return
	}
	what := "daily file"
	if !t.timed {
		what = "file without times, taken for the bytes of a device"
	}
	if !t.daily {
		what = "recording"
		if h.Device != "" {
			what += fmt.Sprintf(" of %s/%s", h.Lane, h.Device)
		}
		if h.Connect != "" {
			what += " on " + h.Connect
		}
	}
	fmt.Fprintf(w, "%s, from %s to %s: %s, %s, %s\n", clean(what), t.begun.Format(time.RFC3339), t.last.Format(time.RFC3339),
		plural(t.reads, "read"), plural(t.bytes, "byte"), plural(t.connections, "connection"))
	if h.ClockSync == "no" {
		fmt.Fprintln(w, "the clock of the box was not synchronised; the times may be wrong")
	}
	for _, text := range t.told {
		fmt.Fprintln(w, clean(text))
	}
	for _, text := range t.holes {
		fmt.Fprintf(w, "something is missing at %s\n", clean(text))
	}
	if t.moreHoles > 0 {
		fmt.Fprintf(w, "something is missing at %s\n", plural(t.moreHoles, "more place"))
	}
	if t.back > 0 {
		fmt.Fprintf(w, "the time goes back %s: the clock was set while it was recorded\n", plural(t.back, "time"))
	}
}
