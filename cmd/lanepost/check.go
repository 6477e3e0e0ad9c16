package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

// brokerCheckTimeout bounds the check of one broker.
const brokerCheckTimeout = 15 * time.Second

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
			"record, and logs in to the brokers. It sends nothing to a device and records\n" +
			"no event. It ends with 0 when all is well.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return check(cmd.Context(), cmd.OutOrStdout(), path, wait)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to listen to each device (default: a little over its silence limit)")
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
		results = append(results, result{what: "configuration", state: "warning", detail: w.String(), hint: w.Hint})
	}
	spooled := checkSpool(cfg.SpoolDir)
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
	if cfg.MQTT == nil {
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
	failed := 0
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, r.state, oneLine(r.detail))
		if r.hint != "" && r.state != "ok" {
			fmt.Fprintf(w, "\t\t-> %s\n", oneLine(r.hint))
		}
		if r.failed() {
			failed++
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if failed > 0 {
		fmt.Fprintf(out, "\n%d of %d checks failed.\n", failed, len(results))
		return errReported
	}
	fmt.Fprintf(out, "\nAll well.\n")
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// checkSpool opens and closes the spool as the agent would. "skipped" means
// that a running agent holds it.
func checkSpool(dir string) result {
	r := result{what: "spool", state: "ok", detail: dir}
	s, err := spool.Open(dir, spool.Options{Log: slog.New(slog.DiscardHandler)})
	switch {
	case errors.Is(err, spool.ErrLocked):
		r.state, r.detail = "skipped", dir+" is in use: an agent is running"
		return r
	case err != nil:
		r.state, r.detail = "FAILED", err.Error()
		r.hint = "the directory must exist or be creatable, writable by the agent's user, on a disk with free space"
		return r
	}
	stats := s.Stats()
	backlog := stats.Urgent.Backlog + stats.Routine.Backlog
	if err := s.Close(); err != nil {
		r.state, r.detail = "FAILED", err.Error()
		return r
	}
	r.detail = fmt.Sprintf("%s, %d events wait for delivery", dir, backlog)
	return r
}

// listener is the drivers.Host of a check: it counts, and records nothing.
type listener struct {
	mu       sync.Mutex
	records  int
	unparsed int
	reason   string
	bytes    int
	heard    chan struct{}
	once     sync.Once
}

func (*listener) Now() time.Time                 { return time.Now() }
func (*listener) Log() *slog.Logger              { return slog.New(slog.DiscardHandler) }
func (*listener) Emit(drivers.Observation) error { return nil }

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
		wait = d.Silence + time.Second
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
	l := &listener{heard: make(chan struct{})}
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
	default:
		r.detail = fmt.Sprintf("%s is open, and nothing came in %s", d.Endpoint, wait)
		r.hint = "check that the instrument is on, that its data cable is in, and that no other program holds its connection"
	}
	return r
}

// checkBrokers logs in to each broker of the list.
func checkBrokers(ctx context.Context, cfg *config.Config) []result {
	m := cfg.MQTT
	var rows []result
	for _, b := range m.Brokers {
		r := result{what: "broker", state: "ok", detail: b + ": logged in, and a message was confirmed"}
		o := uplink.Options{
			Brokers: []string{b}, ClientID: "lanepost-check", Username: m.ReadUsername, Password: m.ReadPassword,
			Log: slog.New(slog.DiscardHandler),
		}
		if m.TLS() {
			o.TLS = &uplink.TLSOptions{CAFile: m.CAFile, CertFile: m.CertFile, KeyFile: m.KeyFile, ServerName: m.ServerName}
		}
		probeCtx, cancel := context.WithTimeout(ctx, brokerCheckTimeout)
		if err := uplink.Probe(probeCtx, o, cfg.Site); err != nil {
			r.state, r.detail, r.hint = "FAILED", b+": "+err.Error(), uplink.Hint(err)
		}
		cancel()
		rows = append(rows, r)
	}
	return rows
}
