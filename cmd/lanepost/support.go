package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/cmd/internal/version"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/capture"
)

// Bounds of an archive.
const (
	// maxSupportFile bounds one file in the archive, and maxSupport all of them, in bytes
	// before they are compressed.
	maxSupportFile = 4 << 20
	maxSupport     = 32 << 20
	// maxSupportProfiles bounds how many profile files are taken.
	maxSupportProfiles = 200
	// supportPatience bounds each step: a disk that hangs must not keep the rest away.
	// checkPatience bounds the check of all devices and brokers, which takes a minute.
	supportPatience = 20 * time.Second
	checkPatience   = 2 * time.Minute
	// maxSupportCapture bounds how long devices are listened to.
	maxSupportCapture = 10 * time.Minute
	// journalLines are how many lines of the journal are taken when no agent runs.
	journalLines = "1000"
)

type supportFlags struct {
	config, spool, out string
	check, personal    bool
	captures           time.Duration
}

func supportCommand() *cobra.Command {
	var o supportFlags
	cmd := &cobra.Command{
		Use:   "support",
		Short: "Make one archive of all that those who help need to know",
		Long: "support makes an archive (tar.gz) with versions, the configuration without its\n" +
			"secrets, status, metrics, the last of the log, the state of the spool, the table of\n" +
			"lanepost check and the site's profiles. Call it with sudo, or as the agent's user.\n" +
			"It works with and without a running agent, and with a full disk if --out names\n" +
			"another one.\n\n" +
			"No password, key or login is in it, and no plate, document or tag number. With\n" +
			"--with-personal-data plates that the log or a recording may hold are not taken out.\n\n" +
			"It opens no device and sends nothing, unless --check is given. With --captures it\n" +
			"listens at the running agent to what devices send; plate readers, document and tag\n" +
			"readers, scanners and devices of your own description are left out of that unless\n" +
			"--with-personal-data is given.",
		Example: "  sudo lanepost support\n" +
			"  sudo lanepost support --captures 30s --out /media/usb/support.tar.gz",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.captures < 0 || o.captures > maxSupportCapture {
				return usageError{fmt.Errorf("--captures %s is out of range: want at most %s", o.captures, maxSupportCapture)}
			}
			return support(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", defaultConfig, "configuration file")
	f.StringVar(&o.spool, "spool", "", "the spool directory, if the configuration can't be read")
	f.StringVar(&o.out, "out", "", "file to write (default: lanepost-support-SITE-TIME.tar.gz here)")
	f.BoolVar(&o.check, "check", false, "check devices and brokers too, as lanepost check does: it opens them")
	f.DurationVar(&o.captures, "captures", 0, "how long to listen to what devices send, for instance 10s (default: not at all)")
	f.BoolVar(&o.personal, "with-personal-data", false, "leave in what may hold plates, documents or tags")
	return cmd
}

// supported is an archive that is being made.
type supported struct {
	o      supportFlags
	at     time.Time
	files  []supportFile
	notes  []string // what is not in it, and why
	bytes  int
	scrub  *scrubber
	config string         // the text of the configuration
	cfg    *config.Config // nil if it can't be used
	refuse error          // why it can't
	dir    string         // the spool; empty if unknown
	// profileDir is the directory of the site's profiles; empty if there is none. profiles
	// are those in it.
	profileDir string
	profiles   []profileText
	agent      *http.Client // nil if no agent answers
	status     *console.Status
}

// profileText is a file of the site's profiles.
type profileText struct{ name, text string }

type supportFile struct {
	name, what string
	content    []byte
}

func support(ctx context.Context, out io.Writer, o supportFlags) error {
	s := &supported{o: o, at: time.Now().UTC(), dir: o.spool, scrub: &scrubber{}}
	// Before there is nothing to write to, the work is not begun.
	if o.out != "" {
		if _, err := os.Lstat(o.out); err == nil {
			return fmt.Errorf("%s exists already; name another file with --out", o.out)
		}
	}
	// What is secret is known before anything goes in.
	s.readConfig(ctx)
	s.readProfiles(ctx)
	if why := s.scrub.withheld; why != "" {
		s.notes = append(s.notes, "the content of every file: "+why)
	}
	s.addConfig()
	s.readAgent(ctx)
	s.readBox(ctx)
	s.readSpool(ctx)
	s.readChecks(ctx)
	s.addProfiles()
	s.readCaptures(ctx)
	packed, err := s.pack()
	if err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	path := o.out
	if path == "" {
		site := "lane"
		switch {
		case s.cfg != nil:
			site = s.cfg.Site
		case s.status != nil:
			site = s.status.Site
		}
		path = "lanepost-support-" + strings.TrimLeft(plainName.ReplaceAllString(site, "_"), ".-") + "-" + s.at.Format("20060102T150405Z") + ".tar.gz"
	}
	if err := writeNew(path, packed); err != nil {
		return fmt.Errorf("write the archive: %w; name a file on a disk with room with --out, for instance on a USB stick", err)
	}
	for _, f := range s.files {
		fmt.Fprintf(out, "  %-28s %9s  %s\n", safe(f.name), size(int64(len(f.content))), f.what)
	}
	for _, n := range s.notes {
		fmt.Fprintln(out, "  not in it: "+clean(n))
	}
	if denied := s.denied(); denied != "" {
		fmt.Fprintln(out, "  -> "+denied)
	}
	personal := "No secret and no plate is in it."
	if o.personal {
		personal = "It MAY HOLD PLATES, DOCUMENTS OR TAGS: give it only to those who may see them. No secret is in it."
	}
	fmt.Fprintf(out, "%s: %s. %s Look into it before you send it: tar -tzf %s\n", path, size(int64(len(packed))), personal, path)
	if s.config == "" && s.status == nil && !s.has("spool.json") {
		fmt.Fprintln(out, "It holds next to nothing: neither the configuration nor the agent nor the spool could be read. Name them with --config and --spool.")
		return errReported
	}
	return nil
}

func (s *supported) has(name string) bool {
	for _, f := range s.files {
		if f.name == name {
			return true
		}
	}
	return false
}

// denied says what to do if something could not be read for want of the right to.
func (s *supported) denied() string {
	for _, n := range s.notes {
		if strings.Contains(n, fs.ErrPermission.Error()) {
			return "run it with sudo, or as the agent's user: this user may not read all of it"
		}
	}
	return ""
}

// writeNew writes a file that nobody else can read; nothing is left of one that failed.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// add puts a file into the archive, without secrets.
func (s *supported) add(name, what string, b []byte) {
	b = s.scrub.clean(b)
	if len(b) > maxSupportFile {
		s.note("%s: of its %s only the last %s are kept", name, size(int64(len(b))), size(maxSupportFile))
		b = b[len(b)-maxSupportFile:]
	}
	if s.bytes+len(b) > maxSupport {
		s.note("%s: the archive is as large as it may be", name)
		return
	}
	s.bytes += len(b)
	s.files = append(s.files, supportFile{name, what, b})
}

func (s *supported) addJSON(name, what string, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.note("%s: %v", name, err)
		return
	}
	s.add(name, what, append(b, '\n'))
}

// note says what is not in it. The values are put in as text.
func (s *supported) note(format string, args ...any) {
	if s.scrub.withheld != "" {
		for i := range args {
			args[i] = withheldText
		}
		s.notes = append(s.notes, fmt.Sprintf(format, args...))
		return
	}
	s.notes = append(s.notes, string(s.scrub.clean([]byte(fmt.Sprintf(format, args...)))))
}

// within does a step that may hang, as a disk does, and gives up after supportPatience.
func within[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	v, err := withinTime(ctx, supportPatience, func(ctx context.Context) (any, error) { return do(ctx) })
	t, _ := v.(T)
	return t, err
}

func withinTime(ctx context.Context, patience time.Duration, do func(context.Context) (any, error)) (any, error) {
	type answer struct {
		v   any
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		v, err := do(ctx)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer within %s: %w", patience, ctx.Err())
	}
}

// spoolDirLine and profileDirLine find directories in a configuration that can't be used: for
// a mistake in it, or since a variable with a password is set for the service alone.
var (
	spoolDirLine   = regexp.MustCompile(`(?m)^spool:(?:[ \t]*\{.*?|[ \t]*\r?\n(?:[ \t]+.*\n)*?[ \t]+)dir:[ \t]*["']?([^\s"'#,}]+)`)
	profileDirLine = regexp.MustCompile(`(?m)^profiles:[ \t]*["']?([^\s"'#]+)`)
)

// spoolDirOf is the spool's directory of a configuration, whether that can be used or not.
func spoolDirOf(path string) (string, error) {
	cfg, err := config.Load(path)
	if err == nil {
		return cfg.Spool.Dir, nil
	}
	b, failed := readBounded(path, yamlfile.MaxBytes)
	if m := spoolDirLine.FindSubmatch(b); failed == nil && m != nil {
		return string(m[1]), nil
	}
	return "", err
}

// readConfig reads the configuration and learns its secrets.
func (s *supported) readConfig(ctx context.Context) {
	raw, err := within(ctx, func(context.Context) ([]byte, error) { return readBounded(s.o.config, yamlfile.MaxBytes) })
	if err != nil {
		s.note("the configuration: %v", err)
		return
	}
	s.config = string(raw)
	s.learn(ctx, s.config)
	cfg, err := within(ctx, func(context.Context) (*config.Config, error) { return config.Load(s.o.config) })
	if err != nil {
		s.refuse = err
		if m := spoolDirLine.FindSubmatch(raw); m != nil && s.dir == "" {
			s.dir = string(m[1])
		}
		if m := profileDirLine.FindSubmatch(raw); m != nil {
			s.profileDir = string(m[1])
		}
		return
	}
	s.cfg, s.profileDir = cfg, cfg.ProfileDir
	s.dir = cmp.Or(s.dir, cfg.Spool.Dir)
}

// learn has the secrets of a text looked for in all that follows.
func (s *supported) learn(ctx context.Context, texts ...string) {
	before := s.scrub
	after, err := within(ctx, func(context.Context) (*scrubber, error) {
		c := before.clone()
		for _, text := range texts {
			c.learn(text)
		}
		return c, nil
	})
	if err != nil {
		after = before.clone()
		after.withhold("the files with secrets do not answer, so it can't be told what must not be in the archive")
	}
	s.scrub = after
}

func (s *supported) addConfig() {
	if s.config != "" {
		s.add("config.yaml", "the configuration, *** in place of secrets", []byte(config.Redact(s.config)))
	}
	if s.refuse != nil {
		text := strings.Join(config.Lines(s.refuse), "\n") + "\n"
		s.add("config-problems.txt", "why the configuration can't be used", []byte(text))
	}
}

// readAgent asks the running agent; without one it looks into the journal.
func (s *supported) readAgent(ctx context.Context) {
	err := errors.New("the spool directory is not known; name it with --spool")
	if s.dir != "" {
		s.agent, err = within(ctx, func(context.Context) (*http.Client, error) { return client.Dial(s.dir) })
	}
	if err != nil {
		s.agent = nil
		s.note("status, metrics and the agent's log: %v", err)
		s.readJournal(ctx)
		return
	}
	defer s.agent.CloseIdleConnections()
	status, err := within(ctx, func(ctx context.Context) (*console.Status, error) {
		v := new(console.Status)
		return v, client.Get(ctx, s.agent, "/api/v1/status", v)
	})
	if err != nil {
		s.note("status: %v", err)
	} else {
		s.status = status
		s.addJSON("status.json", "what lanepost watch shows", s.depersonalised(*status))
	}
	metrics, err := within(ctx, func(ctx context.Context) ([]byte, error) {
		r, err := client.Open(ctx, s.agent, http.MethodGet, "/metrics")
		if err != nil {
			return nil, err
		}
		defer r.Close() //nolint:errcheck // it was only read
		return io.ReadAll(io.LimitReader(r, maxSupportFile))
	})
	if err != nil {
		s.note("metrics: %v", err)
	} else {
		s.add("metrics.txt", "figures in Prometheus' format", metrics)
	}
	type records struct {
		Records []console.LogRecord `json:"records"`
	}
	log, err := within(ctx, func(ctx context.Context) (v records, err error) {
		err = client.Get(ctx, s.agent, "/api/v1/log", &v)
		return v, err
	})
	if err != nil {
		s.note("the agent's log: %v", err)
		return
	}
	var b strings.Builder
	for _, r := range log.Records {
		device := r.Device
		if s.mayTellPersons(device) {
			r.Details = leftOut
		}
		fmt.Fprintf(&b, "%s %-5s %s %s %s\n", r.At.UTC().Format(time.RFC3339Nano), r.Level, cmp.Or(device, "-"), r.Message, r.Details)
	}
	s.add("log.txt", "the last of the agent's log", []byte(b.String()))
}

// readJournal takes what the service said last.
func (s *supported) readJournal(ctx context.Context) {
	const hint = "journalctl -u lanepost -n " + journalLines
	text, err := within(ctx, func(ctx context.Context) ([]byte, error) {
		return exec.CommandContext(ctx, "journalctl", "-u", "lanepost", "-n", journalLines, "--no-pager", "-o", "short-iso-precise", "-q").Output()
	})
	if err != nil || len(text) == 0 {
		s.note("the journal: it can't be read here, or holds nothing of the service; `" + hint + "` shows it")
		return
	}
	var b strings.Builder
	left := 0
	for line := range strings.Lines(string(text)) {
		if s.mayTellPersons(deviceOfLine(line)) {
			left++
			continue
		}
		b.WriteString(line)
	}
	if left > 0 {
		s.note("%s of the journal about devices that read plates, documents or tags", plural(left, "line"))
	}
	s.add("journal.txt", "what the service said last", []byte(b.String()))
}

// readBox tells what this box and its program are.
func (s *supported) readBox(ctx context.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "made %s\nlanepost %s\n%s %s/%s\n", s.at.Format(time.RFC3339), version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, file := range []string{"/proc/version", "/etc/os-release", "/proc/uptime", "/proc/loadavg", "/proc/meminfo"} {
		text, err := within(ctx, func(context.Context) ([]byte, error) {
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			defer f.Close() //nolint:errcheck // it was only read
			return io.ReadAll(io.LimitReader(f, 16<<10))
		})
		if err != nil {
			fmt.Fprintf(&b, "\n%v\n", err)
			continue
		}
		fmt.Fprintf(&b, "\n%s\n%s", file, text)
	}
	ports, err := within(ctx, func(context.Context) ([]link.Port, error) { return link.Ports() })
	fmt.Fprintln(&b, "\nserial ports")
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, p := range ports {
		fmt.Fprintf(&b, "%s %s:%s %s %s %s %s %s\n", p.Name, cmp.Or(p.VID, "-"), cmp.Or(p.PID, "-"), cmp.Or(strings.TrimSpace(p.Manufacturer+" "+p.Product), "-"), cmp.Or(p.Driver, "-"), p.Stable(), cmp.Or(p.Problem, "-"), strings.Join(p.Users, ","))
	}
	s.add("box.txt", "versions, system, serial ports", []byte(b.String()))
}

func (s *supported) readSpool(ctx context.Context) {
	if s.dir == "" {
		return
	}
	st, err := within(ctx, func(context.Context) (spoolStat, error) {
		// Without keys: what is encrypted is counted, and no event is read.
		i, err := spool.Inspect(s.dir, spool.InspectOptions{})
		if err != nil {
			return spoolStat{}, hinted(err)
		}
		return spoolStatOf(i), nil
	})
	if err != nil {
		s.note("the spool: %v", err)
	} else {
		s.addJSON("spool.json", "how much is stored and waits; no events", st)
	}
	list, err := within(ctx, func(context.Context) ([]byte, error) {
		var b strings.Builder
		for _, dir := range []string{"", "urgent", "routine", "quarantine"} {
			entries, err := os.ReadDir(filepath.Join(s.dir, dir))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, e := range entries {
				if info, err := e.Info(); err == nil {
					fmt.Fprintf(&b, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), filepath.Join(dir, e.Name()))
				}
			}
		}
		return []byte(b.String()), nil
	})
	if err != nil {
		s.note("the list of the spool's files: %v", err)
		return
	}
	s.add("spool-files.txt", "names, sizes and times of its files", list)
}

// readChecks makes the table of lanepost check: without devices and brokers, unless asked.
func (s *supported) readChecks(ctx context.Context) {
	what, patience := "the table of lanepost check", checkPatience
	if !s.o.check {
		what, patience = what+", without devices and brokers (--check)", supportPatience
	}
	v, err := withinTime(ctx, patience, func(ctx context.Context) (any, error) {
		account, err := agentAccount("")
		if err != nil {
			return nil, err
		}
		if s.o.check && s.cfg != nil {
			return checkRows(ctx, s.cfg, account, checkOptions{path: s.o.config}), nil
		}
		var rows []result
		switch {
		case s.cfg != nil:
			rows = checkFiles(s.cfg, account)
		case s.refuse != nil:
			rows = unreadable(s.o.config, s.refuse)
		}
		running := false
		if s.dir != "" {
			var spooled []result
			spooled, running = checkSpool(s.dir, account)
			rows = append(rows, spooled...)
		}
		rows = append(rows, checkClock(nil)...)
		if running && s.cfg != nil {
			rows = append(rows, devicesOfAgent(ctx, s.cfg)...)
		}
		return rows, nil
	})
	if err != nil {
		s.note("the check: %v", err)
		return
	}
	rows, _ := v.([]result)
	s.add("check.txt", what, []byte(layOut(s.impersonalRows(rows), 0)))
}

// impersonalRows makes rows such as may be printed, and takes out what may tell of persons:
// of a device that may, only what was checked and how it went stays.
func (s *supported) impersonalRows(rows []result) []result {
	makePrintable(rows)
	for i, r := range rows {
		if !s.mayTellPersons(r.What) {
			continue
		}
		rows[i].Detail = leftOut
		if r.Hint != "" {
			rows[i].Hint = leftOut
		}
	}
	return rows
}

// readProfiles reads the site's profiles and learns their secrets.
func (s *supported) readProfiles(ctx context.Context) {
	if s.profileDir == "" {
		return
	}
	type profilesRead struct {
		list []profileText
		not  []error // why others are not in it
	}
	read, err := within(ctx, func(context.Context) (r profilesRead, err error) {
		entries, err := os.ReadDir(s.profileDir)
		if err != nil {
			return r, err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || filepath.Ext(e.Name()) != ".yaml" {
				continue
			}
			if len(r.list) == maxSupportProfiles {
				r.not = append(r.not, fmt.Errorf("there are more than %d", maxSupportProfiles))
				break
			}
			b, err := readBounded(filepath.Join(s.profileDir, e.Name()), yamlfile.MaxBytes)
			if err != nil {
				r.not = append(r.not, err)
				continue
			}
			r.list = append(r.list, profileText{e.Name(), string(b)})
		}
		return r, nil
	})
	if err != nil {
		s.note("the site's profiles: %v", err)
		return
	}
	s.profiles = read.list
	texts := make([]string, 0, len(read.list))
	for _, p := range read.list {
		texts = append(texts, p.text)
	}
	s.learn(ctx, texts...)
	for _, err := range read.not {
		s.note("a profile of the site: %v", err)
	}
}

func (s *supported) addProfiles() {
	for _, p := range s.profiles {
		text, what := config.Redact(p.text), "a profile of the site"
		if !s.o.personal {
			var whole bool
			if text, whole = withoutVectors(text); !whole {
				what += ", without its vectors"
			}
		}
		s.add("profiles/"+plainName.ReplaceAllString(p.name, "_"), what, []byte(text))
	}
}

// readCaptures listens at the running agent to what devices send.
func (s *supported) readCaptures(ctx context.Context) {
	if s.o.captures == 0 {
		return
	}
	if s.agent == nil || s.status == nil {
		s.note("captures: no agent answers, and no device is opened here; lanepost record does")
		return
	}
	type captured struct {
		device string
		b      []byte
		err    error
	}
	done := make(chan captured)
	waiting := 0
	for _, l := range s.status.Lanes {
		for _, d := range l.Devices {
			switch {
			case !d.RawBytes:
				s.note("capture of %s: its link has no stream of bytes", d.Device)
			case s.mayTellPersons(d.Device):
				s.note("capture of %s: it may hold plates, documents or tags; --with-personal-data takes it", d.Device)
			default:
				waiting++
				go func() {
					b, err := s.listen(ctx, d)
					done <- captured{d.Device, b, err}
				}()
			}
		}
	}
	for range waiting {
		c := <-done
		if c.err != nil {
			s.note("capture of %s: %v", c.device, c.err)
			continue
		}
		s.add("captures/"+plainName.ReplaceAllString(c.device, "_")+".jsonl", "what "+c.device+" sent in "+s.o.captures.String(), c.b)
	}
}

// listen takes the bytes of a device as the agent gives them, and makes a capture of them.
func (s *supported) listen(ctx context.Context, d console.Device) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.captures)
	defer cancel()
	r, err := client.Open(ctx, s.agent, http.MethodGet, "/api/v1/raw?device="+url.QueryEscape(d.Device))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	var b bytes.Buffer
	w, err := capture.NewWriter(&b, capture.Header{
		Site: s.status.Site, Lane: d.Lane, Device: d.ID, Profile: d.Profile, Connect: d.Connect, Begun: s.at, Part: 1, Via: "agent",
		ClockSync: s.status.Clock.Synchronised, ClockMaxErrorMs: s.status.Clock.MaxErrorMs, Program: "lanepost " + version.Number(),
	})
	if err != nil {
		return nil, err
	}
	why := "the time that was asked for is over"
	in := newRawReader(r)
	for {
		l, err := in.next()
		if errors.Is(err, errRawLine) {
			return nil, err
		}
		if err != nil {
			if ctx.Err() == nil {
				why = "the agent has ended"
			}
			break
		}
		if l.Ended != "" {
			why = l.Ended
			break
		}
		e := capture.Entry{At: l.At, Bytes: l.Bytes}
		if l.Parted {
			e = capture.Entry{At: l.At, Mark: capture.Parted}
		}
		if err := w.Add(e); err != nil {
			return nil, err
		}
		if w.Size() > maxSupportFile/2 {
			why = "it is as large as it may be"
			break
		}
	}
	if err := w.End(time.Now(), why); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// pack makes the archive.
func (s *supported) pack() ([]byte, error) {
	var list strings.Builder
	fmt.Fprintf(&list, "Archive of lanepost support, made %s by lanepost %s.\n\n", s.at.Format(time.RFC3339), version.String())
	for _, f := range s.files {
		fmt.Fprintf(&list, "%-28s %s\n", f.name, f.what)
	}
	for _, n := range s.notes {
		fmt.Fprintf(&list, "not in it: %s\n", n)
	}
	// Names and notes are without secrets already.
	s.files = append(s.files, supportFile{"contents.txt", "this list", []byte(list.String())})
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	root := "lanepost-support-" + s.at.Format("20060102T150405Z") + "/"
	for _, f := range s.files {
		if err := t.WriteHeader(&tar.Header{Name: root + f.name, Mode: 0o600, Size: int64(len(f.content)), ModTime: s.at, Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
