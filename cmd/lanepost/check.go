package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

// Bounds of a check.
const (
	// brokerCheckTimeout bounds the check of one broker.
	brokerCheckTimeout = 15 * time.Second
	// maxDefaultWait bounds how long check listens to a device unless it is told
	// otherwise: a silence limit may be a day.
	maxDefaultWait = time.Minute
	// littleSpace is the free space, in bytes, below which the spool's disk is
	// worth a warning.
	littleSpace = 256 << 20
)

// result is one row of the table.
type result struct {
	what   string
	state  string // "ok", "warning", "skipped" or "FAILED"
	detail string
	hint   string
}

func (r result) failed() bool { return r.state == "FAILED" }

func checkCommand() *cobra.Command {
	var path string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, every device and the broker",
		Long: "check reads the configuration, opens every device and listens for a valid\n" +
			"record, and logs in to the brokers, where it has one message confirmed. It\n" +
			"sends nothing to a device, records no event and leaves the spool as it is. It\n" +
			"ends with 0 when nothing failed.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 {
				return usageError{fmt.Errorf("--wait %s is negative", wait)}
			}
			return check(cmd.Context(), cmd.OutOrStdout(), path, wait)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to listen to each device (default: a little over its silence limit, a minute at the most)")
	return cmd
}

func check(ctx context.Context, out io.Writer, path string, wait time.Duration) error {
	cfg, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(out, err)
		return errReported
	}
	devices := cfg.Devices()
	results := []result{{what: "configuration", state: "ok", detail: fmt.Sprintf("%s: %d devices", path, len(devices))}}
	for _, w := range cfg.Warnings {
		hint := w.Hint
		w.Hint, w.Snippet = "", ""
		results = append(results, result{what: "configuration", state: "warning", detail: w.String(), hint: hint})
	}
	spooled := checkSpool(cfg.Spool.Dir)
	results = append(results, spooled)
	// A portal's controller serves one client: the running agent has it.
	running := spooled.state == "skipped"

	rows := make([]result, len(devices))
	var group sync.WaitGroup
	for i, d := range devices {
		if running {
			rows[i] = result{
				what: d.Lane + "/" + d.ID, state: "skipped", detail: d.Endpoint.String() + " is in use by the running agent",
				hint: "stop the agent to check the device itself; its state is on the agent's state topic",
			}
			continue
		}
		group.Go(func() { rows[i] = checkDevice(ctx, d, wait) })
	}
	var brokers []result
	if len(cfg.MQTT) == 0 {
		brokers = []result{{what: "broker", state: "skipped", detail: "no mqtt section: events stay on this box"}}
	} else {
		brokers = checkBrokers(ctx, cfg)
	}
	group.Wait()
	results = append(append(results, rows...), brokers...)
	return report(out, results)
}

// report prints the table and says by its error whether something failed.
func report(out io.Writer, results []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	failed, skipped := 0, 0
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, r.state, oneLine(r.detail))
		if r.hint != "" && r.state != "ok" {
			fmt.Fprintf(w, "\t\t-> %s\n", oneLine(r.hint))
		}
		switch {
		case r.failed():
			failed++
		case r.state == "skipped":
			skipped++
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if failed > 0 {
		fmt.Fprintf(out, "\n%d of %d checks failed.\n", failed, len(results))
		return errReported
	}
	if skipped > 0 {
		fmt.Fprintf(out, "\nNothing failed; %d of %d checks were skipped.\n", skipped, len(results))
		return nil
	}
	fmt.Fprintf(out, "\nAll well.\n")
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// checkSpool looks whether the agent could write to the spool's directory, and
// changes nothing there: what root makes, the agent's user can't write to.
// "skipped" means that a running agent holds it.
func checkSpool(dir string) result {
	r := result{what: "spool", state: "FAILED", hint: "the directory must be writable by the agent's user, on a disk with free space"}
	at := dir
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	switch {
	case err != nil:
		r.detail = err.Error()
		return r
	case !info.IsDir():
		r.detail = at + " is not a directory"
		return r
	}
	if at == dir {
		running, err := locked(filepath.Join(dir, "lock"))
		if err != nil {
			r.detail = err.Error()
			return r
		}
		if running {
			return result{what: "spool", state: "skipped", detail: dir + " is in use: an agent is running"}
		}
	}
	if err := tryWrite(at); err != nil {
		r.detail = err.Error()
		return r
	}
	r.state, r.detail, r.hint = "ok", dir, ""
	if at != dir {
		r.detail += " is not there yet; the agent makes it"
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(at, &disk); err != nil {
		r.state, r.detail = "FAILED", fmt.Sprintf("free space of %s: %v", at, err)
		return r
	}
	free := disk.Bavail * uint64(disk.Bsize) //nolint:gosec // a block size is positive
	r.detail += fmt.Sprintf(", %d MB free", free>>20)
	if free < littleSpace {
		r.state, r.hint = "warning", "the disk is nearly full: events wait there while the broker can't be reached"
	}
	return r
}

// locked reports whether a running agent holds the lock file of a spool.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // nothing was written; closing lets the lock go
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// tryWrite writes a file that it takes away again.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".lanepost-check-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// listener is the drivers.Host of a check: it counts, and records nothing.
type listener struct {
	ledger drivers.MemoryLedger

	ctx      context.Context
	mu       sync.Mutex
	records  int
	unparsed int
	reason   string
	bytes    int
	heard    chan struct{}
	once     sync.Once
}

func (*listener) Now() time.Time    { return time.Now() }
func (*listener) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Emit never says that an observation is safe: a driver would then tell its
// instrument to forget it.
func (l *listener) Emit(drivers.Observation) error {
	<-l.ctx.Done()
	return fmt.Errorf("a check records nothing: %w", l.ctx.Err())
}

// Ledger implements drivers.Host. A check begins with an empty one.
func (l *listener) Ledger() drivers.Ledger { return &l.ledger }

func (l *listener) Valid() {
	l.mu.Lock()
	l.records++
	l.mu.Unlock()
	l.once.Do(func() { close(l.heard) })
}

func (l *listener) Unparsed(reason string, _ []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unparsed++
	l.reason = reason
}

// countingConn counts what comes.
type countingConn struct {
	link.Conn
	l *listener
}

// Unwrap gives the link itself, for link.As.
func (c countingConn) Unwrap() link.Conn { return c.Conn }

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.Lock()
	c.l.bytes += n
	c.l.mu.Unlock()
	return n, err
}

// checkDevice opens a device and listens until it says something valid.
func checkDevice(ctx context.Context, d config.Device, wait time.Duration) (r result) {
	r = result{what: d.Lane + "/" + d.ID, state: "FAILED"}
	defer func() {
		if p := recover(); p != nil {
			r.detail, r.hint = fmt.Sprintf("the driver panicked: %v", p), "please report this"
		}
	}()
	if wait == 0 {
		wait = min(d.Silence+time.Second, maxDefaultWait)
	}
	instrument, err := d.New()
	if err != nil {
		r.detail = err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := d.Endpoint.Open(ctx)
	if err != nil {
		r.detail, r.hint = err.Error(), link.Hint(err)
		return r
	}
	defer conn.Close() //nolint:errcheck // nothing was written, so nothing can be lost by a bad close
	l := &listener{ctx: ctx, heard: make(chan struct{})}
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				ended <- fmt.Errorf("the driver panicked: %v", p)
			}
		}()
		ended <- instrument.Run(ctx, countingConn{conn, l}, l)
	}()
	var runErr error
	select {
	case <-l.heard:
		r.state = "ok"
		r.detail = fmt.Sprintf("%s speaks %s, first record after %s", d.Endpoint, d.Profile.Name, time.Since(began).Round(100*time.Millisecond))
		return r
	case runErr = <-ended:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.records > 0: // both at once
		r.state, r.detail = "ok", fmt.Sprintf("%s speaks %s", d.Endpoint, d.Profile.Name)
	case runErr != nil && !errors.Is(runErr, context.DeadlineExceeded) && !errors.Is(runErr, os.ErrDeadlineExceeded):
		r.detail, r.hint = runErr.Error(), link.Hint(runErr)
	case l.bytes > 0:
		r.detail = fmt.Sprintf("%d bytes in %s, none of them a record of %s (%s)", l.bytes, wait, d.Profile.Name, l.reason)
		r.hint = "check baud rate, parity and profile: the link carries something else"
	case strings.HasSuffix(d.Endpoint.Scheme(), "-listen"):
		// A camera that posts has nothing to say while no vehicle comes.
		r.state = "warning"
		r.detail = fmt.Sprintf("%s listens, and nothing came in %s", d.Endpoint, wait)
		r.hint = "let a vehicle pass, or have the camera send a test; what it must be set to is in the profile " + d.Profile.Name
	default:
		r.detail = fmt.Sprintf("%s is open, and nothing came in %s", d.Endpoint, wait)
		r.hint = "check that the instrument is on, that its data cable is in, and that no other program holds its connection"
	}
	return r
}

// checkBrokers logs in to each broker of the list.
func checkBrokers(ctx context.Context, cfg *config.Config) []result {
	var rows []result
	for _, m := range cfg.MQTT {
		what := "broker"
		if len(cfg.MQTT) > 1 {
			what += " " + m.Name
		}
		rows = append(rows, checkUplink(ctx, cfg.Site, m, what)...)
	}
	return rows
}

func checkUplink(ctx context.Context, site string, m *config.MQTT, what string) []result {
	var rows []result
	for _, b := range m.Brokers {
		r := result{what: what, state: "ok", detail: b + ": logged in, and a message was confirmed"}
		o := uplink.Options{
			Brokers: []string{b}, ClientID: "lanepost-check", Username: m.ReadUsername, Password: m.ReadPassword,
			TopicPrefix: m.TopicPrefix,
			Log:         slog.New(slog.DiscardHandler),
		}
		if m.TLS() {
			o.TLS = &uplink.TLSOptions{CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.KeyFile, ServerName: m.ServerName, ALPN: m.ALPN}
		}
		probeCtx, cancel := context.WithTimeout(ctx, brokerCheckTimeout)
		if err := uplink.Probe(probeCtx, o, site); err != nil {
			r.state, r.detail, r.hint = "FAILED", b+": "+err.Error(), uplink.Hint(err)
		}
		cancel()
		rows = append(rows, r)
	}
	return rows
}
