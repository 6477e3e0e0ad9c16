package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/agent/identify"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/cmd/internal/version"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/capture"
)

// What a recording does unless it is told otherwise, and its bounds.
const (
	defaultRecordSize = "100MB"
	minRecordSize     = 16 << 10
	maxRecordSize     = 1 << 40
	// recordAgain spaces the attempts to have the device, or the agent, back.
	recordAgain = time.Second
	// nothingYet is after how long without a byte that is told.
	nothingYet = 10 * time.Second
	// maxRawLine bounds a line of the agent's answer, in bytes: a read in base64.
	maxRawLine = 256 << 10
)

type recordFlags struct {
	config, connect, profile, out string
	lasts                         time.Duration
	maxSize, rotate               string
	force                         bool
}

func recordCommand() *cobra.Command {
	var o recordFlags
	cmd := &cobra.Command{
		Use:   "record [LANE/]DEVICE",
		Short: "Record what a device sends, byte for byte, with its times",
		Long: "record writes each read of a device's link into a file, with its time, until\n" +
			"Ctrl-C or --for. While an agent runs it gives a copy, and nothing changes for the\n" +
			"device or its events. Without one the device is opened here; nothing is sent to\n" +
			"it, so a device that answers only when it is asked stays silent.\n\n" +
			"It takes devices on tcp:, serial: and tcp-listen: links; those on tcp-listen:\n" +
			"only without an agent. Cameras that speak HTTP, folders, registers and brokers\n" +
			"have no stream of bytes that could be recorded.\n\n" +
			"The file holds all that the device sends, plates and documents too. Only its\n" +
			"owner can read it; give it away only to those who may see them.",
		Example: "  lanepost record entry-3/rpm-1 --for 10m\n" +
			"  lanepost record rpm-1 --rotate 10MB --max-size 100MB --out /var/tmp\n" +
			"  lanepost record --connect 'serial:/dev/ttyUSB0?baud=9600&data=8&parity=none&stop=1'",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("want one device")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			device := ""
			if len(args) == 1 {
				device = args[0]
			}
			return record(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), device, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", defaultConfig, "configuration file")
	f.StringVar(&o.connect, "connect", "", "record this link, without a configuration")
	f.StringVar(&o.profile, "profile", "", "with --connect: the profile to note in the file, whose settings the link takes")
	f.StringVar(&o.out, "out", ".", "directory to write to, which must be there")
	f.DurationVar(&o.lasts, "for", 0, "how long to record, for instance 10m (default: until Ctrl-C)")
	f.StringVar(&o.maxSize, "max-size", defaultRecordSize, "how large the recording may be; then it ends, or with --rotate its oldest file is removed")
	f.BoolVar(&o.force, "force", false, "connect even if another program of this box has a connection there: most instruments then serve only one of the two")
	f.StringVar(&o.rotate, "rotate", "", "begin a new file at this size, for instance 10MB")
	return cmd
}

// recorded is a device that is to be recorded.
type recorded struct {
	header   capture.Header
	endpoint link.Endpoint
	key      string // "lane/id"; empty without a configuration
	room     spool.MinFree
	agent    *http.Client // nil if no agent runs
}

func record(ctx context.Context, out, notes io.Writer, device string, o recordFlags) error {
	maxSize, err := parseSize("--max-size", o.maxSize)
	if err != nil {
		return err
	}
	rotate := int64(0)
	if o.rotate != "" {
		if rotate, err = parseSize("--rotate", o.rotate); err != nil {
			return err
		}
		if rotate > maxSize/2 {
			return usageError{errors.New("--rotate must be at most half of --max-size, so that a file stays when the oldest is removed")}
		}
	}
	if o.lasts < 0 {
		return usageError{fmt.Errorf("--for %s is negative", o.lasts)}
	}
	d, err := o.find(device)
	if err != nil {
		return err
	}
	// A stick that is not mounted must not be made a folder of, on the disk of the events.
	if info, err := os.Stat(o.out); err != nil || !info.IsDir() {
		return fmt.Errorf("--out %s: there is no such directory; make it (mkdir), or mount the disk that it is on", o.out)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(end)
	go func() {
		select {
		case s := <-end:
			if s == os.Interrupt {
				stop(errors.New("ended by Ctrl-C"))
			}
			stop(fmt.Errorf("ended by the signal: %s", s))
		case <-ctx.Done():
		}
	}()
	if err := d.findAgent(ctx); err != nil {
		return err
	}
	if d.agent == nil && !o.force {
		if hint, err := identify.InUse(ctx, d.endpoint); err != nil {
			return fmt.Errorf("%w; %s; --force connects all the same", err, hint)
		}
	}

	q := newRecordQueue()
	begun := make(chan error, 1) // whether the device, or the agent, is there
	over := make(chan error, 1)
	go func() { over <- d.read(ctx, q, begun) }()
	if err := <-begun; err != nil {
		return err
	}
	d.header.Begun = time.Now()
	w := &recordFiles{
		dir: o.out, header: d.header, name: d.fileName(), maxSize: maxSize, rotate: rotate,
		room: d.roomFor(o.out), notes: notes,
	}
	if err := w.begin(time.Now()); err != nil {
		stop(nil)
		return err
	}
	fmt.Fprintf(notes, "recording %s to %s; Ctrl-C ends it\n", d.what(), w.path)
	fmt.Fprintln(notes, "the file holds all that the device sends, plates and documents too")
	if o.lasts > 0 {
		timer := time.AfterFunc(o.lasts, func() { stop(errors.New("the time that was asked for is over")) })
		defer timer.Stop()
	}
	failed := w.write(ctx, q, over)
	stop(nil)
	w.report(out)
	if failed == nil && w.reads == 0 {
		fmt.Fprintln(notes, "the recording is empty: nothing came. Look whether the device is on and set to send, and its cable in; without an agent nobody asks it")
		return errReported
	}
	return failed
}

var recordSize = regexp.MustCompile(`^([0-9]{1,12}) ?(B|kB|KB|MB|GB|KiB|MiB|GiB)$`)

var recordUnits = map[string]int64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}

func parseSize(flag, text string) (int64, error) {
	m := recordSize.FindStringSubmatch(text)
	if m == nil {
		return 0, usageError{fmt.Errorf("%s %q is no size: write a whole number and its unit, for instance 50MB", flag, text)}
	}
	unit := recordUnits[m[2]]
	v, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || v > maxRecordSize/unit || v*unit < minRecordSize {
		return 0, usageError{fmt.Errorf("%s %s is out of range: want 16KiB to 1024GiB", flag, text)}
	}
	return v * unit, nil
}

// find finds out what is to be recorded.
func (o recordFlags) find(device string) (*recorded, error) {
	d := &recorded{header: capture.Header{Part: 1, Program: "lanepost " + version.Number()}}
	if o.connect == "" {
		if device == "" {
			return nil, usageError{errors.New("name a device of the configuration as LANE/ID, or a link with --connect")}
		}
		if o.profile != "" {
			return nil, usageError{errors.New("--profile belongs to --connect; a device of the configuration has one")}
		}
		cfg, err := config.Load(o.config)
		if err != nil {
			if hint := fileHint(err); hint != "" {
				err = fmt.Errorf("%w; %s", err, hint)
			}
			return nil, err
		}
		c, err := deviceOf(cfg, device)
		if err != nil {
			return nil, err
		}
		d.endpoint, d.key = c.Endpoint, c.Lane+"/"+c.ID
		d.header.Site, d.header.Lane, d.header.Device, d.header.Profile = cfg.Site, c.Lane, c.ID, c.Profile.Name
		d.room = spool.MinFree{Share: cfg.Spool.MinFreeShare, Bytes: cfg.Spool.MinFreeBytes}
		d.header.Connect = d.endpoint.String()
		return d, d.canBeRecorded(cfg.Spool.Dir)
	}
	if device != "" {
		return nil, usageError{errors.New("name a device, or a link with --connect; not both")}
	}
	defaults := map[string]string{}
	if o.profile != "" {
		p, err := loadProfile(o.profile, "")
		if err != nil {
			return nil, err
		}
		defaults, d.header.Profile = p.Link, p.Name
	}
	var err error
	if d.endpoint, err = link.Parse(o.connect, defaults); err != nil {
		return nil, err
	}
	d.header.Connect = d.endpoint.String()
	return d, d.canBeRecorded("")
}

// canBeRecorded refuses links without a stream of bytes, and finds the running agent.
func (d *recorded) canBeRecorded(spoolDir string) error {
	if scheme := d.endpoint.Scheme(); !slices.Contains(streams, scheme) {
		return fmt.Errorf("%s can't be recorded: a %s: link has no stream of bytes; only tcp:, serial: and tcp-listen: have", d.what(), scheme)
	}
	if spoolDir == "" {
		return nil
	}
	running, err := locked(filepath.Join(spoolDir, "lock"))
	if err != nil {
		return fmt.Errorf("look whether an agent is running: %w; call the command with sudo, or as the agent's user", err)
	}
	if !running {
		return nil
	}
	if d.endpoint.Scheme() == "tcp-listen" {
		return fmt.Errorf("%s can't be recorded while the agent runs: the agent gives no copy of what comes over tcp-listen: links; stop the agent for the recording", d.key)
	}
	d.agent, err = client.Dial(spoolDir)
	if errors.Is(err, client.ErrNotRunning) {
		return fmt.Errorf("an agent is running and has the device, but gives nothing away: there is no socket %s; start the agent anew, or stop it for the recording",
			filepath.Join(spoolDir, client.Socket))
	}
	return err
}

// findAgent asks the agent for what it knows.
func (d *recorded) findAgent(ctx context.Context) error {
	if d.agent == nil {
		d.header.Via = "link"
		synced, within := agent.ClockQuality()
		d.header.ClockSync = synced
		if ms := within.Milliseconds(); ms > 0 {
			d.header.ClockMaxErrorMs = &ms
		}
		return nil
	}
	var s console.Status
	if err := client.Get(ctx, d.agent, "/api/v1/status", &s); err != nil {
		return err
	}
	d.header.Via = "agent"
	d.header.ClockSync, d.header.ClockMaxErrorMs = s.Clock.Synchronised, s.Clock.MaxErrorMs
	for _, lane := range s.Lanes {
		for _, one := range lane.Devices {
			if one.Device == d.key { // what runs, if the file was changed since
				d.header.Profile, d.header.Connect = one.Profile, one.Connect
			}
		}
	}
	return nil
}

// what names it for people.
func (d *recorded) what() string {
	text := d.endpoint.String()
	if d.key != "" {
		text = d.key + " (" + text + ")"
	}
	if d.agent != nil {
		text += ", which the agent reads,"
	}
	return text
}

// plainName keeps a site's name from being a path.
var plainName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func (d *recorded) fileName() string {
	h := d.header
	name := "link"
	if h.Device != "" {
		name = h.Site + "-" + h.Lane + "-" + h.Device
	}
	return strings.TrimLeft(plainName.ReplaceAllString(name, "_"), ".") + "-" + h.Begun.UTC().Format("20060102T150405Z")
}

// roomFor says whether the disk may be written to: a recording leaves twice of what the
// spool does, as daily files do, so that it never pushes events out.
func (d *recorded) roomFor(dir string) func() error {
	fs := spool.Counting(nil, &spool.Counters{})
	return func() error {
		free, total, err := fs.Free(dir)
		if err != nil {
			return nil //nolint:nilerr // writing will say what is wrong
		}
		if floor := 2 * d.room.Floor(total); free < floor {
			return fmt.Errorf("the disk of %s has %d MB free, and %d MB are left to the agent's events; free some, or give another disk with --out", dir, free>>20, floor>>20)
		}
		return nil
	}
}

// read puts what comes into q until ctx ends or nothing can come any more, and gives the
// reason for that. begun gets nil once something can come, or why it can't.
func (d *recorded) read(ctx context.Context, q *recordQueue, begun chan<- error) error {
	once := func(err error) {
		if begun != nil {
			begun <- err
			begun = nil
		}
	}
	for {
		var err error
		var last bool
		if d.agent != nil {
			last, err = d.listen(ctx, q, func() { once(nil) })
		} else {
			err = d.open(ctx, q, func() { once(nil) })
		}
		if ctx.Err() != nil {
			once(context.Cause(ctx))
			return context.Cause(ctx)
		}
		if begun != nil {
			if hint := link.Hint(err); hint != "" && d.agent == nil {
				err = fmt.Errorf("%w; %s", err, hint)
			}
			once(err)
			return err
		}
		if last {
			return err
		}
		if pause(ctx, recordAgain) != nil {
			return context.Cause(ctx)
		}
	}
}

// rawLine is one line of the agent's answer.
type rawLine struct {
	At     time.Time `json:"at"`
	Bytes  []byte    `json:"bytes"`
	Parted bool      `json:"parted"`
	Ended  string    `json:"ended"`
	Offset *int64    `json:"offset"`
}

// rawReader reads the agent's answer, line by line.
type rawReader struct{ in lineReader }

func newRawReader(r io.Reader) rawReader { return rawReader{newLineReader(r, maxRawLine)} }

// errRawLine says that a line of the agent's answer is none that this program knows.
var errRawLine = errors.New("the agent's answer can't be read")

// next gives the next line. An error that is no errRawLine is the end of the answer.
func (r rawReader) next() (l rawLine, err error) {
	text, err := r.in.next()
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("%w: %w", errRawLine, err)
	}
	return l, nil
}

// listen takes what a running agent gives. last says that nothing more will come.
func (d *recorded) listen(ctx context.Context, q *recordQueue, begun func()) (last bool, err error) {
	r, err := client.Open(ctx, d.agent, http.MethodGet, "/api/v1/raw?device="+url.QueryEscape(d.key))
	if err != nil {
		return false, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	begun()
	in := newRawReader(r)
	for {
		l, err := in.next()
		switch {
		case errors.Is(err, errRawLine):
			return true, err
		case err != nil:
			if ctx.Err() == nil {
				q.hole("the agent has ended")
			}
			return false, err
		case l.Ended != "":
			q.hole(l.Ended)
			return false, errors.New(l.Ended)
		case l.Parted:
			q.put(capture.Entry{At: l.At, Mark: capture.Parted})
		default:
			q.piece(l)
		}
	}
}

// open opens the link and takes what comes, until it ends.
func (d *recorded) open(ctx context.Context, q *recordQueue, begun func()) error {
	conn, err := openLink(ctx, d.endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()                                                                   //nolint:errcheck // nothing was written, so nothing can be lost by a bad close
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
	defer stop()
	begun()
	acceptor, ok := link.As[*link.Acceptor](conn)
	if !ok {
		return readAll(conn, q, 0)
	}
	return acceptor.Serve(ctx, discardLog, func(_ context.Context, c link.Conn) error { return readAll(c, q, q.connection()) })
}

func readAll(conn link.Conn, q *recordQueue, number int) error {
	q.put(capture.Entry{At: time.Now(), Conn: number, Mark: capture.Opened})
	b := make([]byte, capture.MaxRead)
	for {
		n, err := conn.Read(b)
		if n > 0 {
			q.put(capture.Entry{At: time.Now(), Conn: number, Bytes: b[:n]})
		}
		if err != nil {
			why := ""
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				why = err.Error()
			}
			q.put(capture.Entry{At: time.Now(), Conn: number, Mark: capture.Parted, Why: why})
			return err
		}
	}
}
