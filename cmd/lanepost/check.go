package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/drivers"
)

// Bounds of a check.
const (
	// brokerCheckTimeout bounds the check of one broker.
	brokerCheckTimeout = 45 * time.Second
	// maxDefaultWait bounds how long check listens to a device unless it is told
	// otherwise: a silence limit may be a day.
	maxDefaultWait = time.Minute
	// narrowScreen and wideScreen bound how wide a table is made for a terminal, in characters.
	narrowScreen, wideScreen = 40, 160
)

// Results of a check.
const (
	isOK      = "ok"
	isWarning = "warning"
	isSkipped = "skipped"
	isFailed  = "FAILED"
)

// result is one row of the table.
type result struct {
	// What is checked: "spool", "entry-3/rpm-1"; Check is what of it.
	What  string `json:"what"`
	Check string `json:"check"`
	// State is one of the results.
	State  string `json:"result"`
	Detail string `json:"detail"`
	// Hint is what to do; empty if nothing is.
	Hint string `json:"hint,omitempty"`
}

func checkCommand() *cobra.Command {
	o := checkOptions{}
	profile := profileCheck{records: shownRecords}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, every device, the brokers, the disk and the clock; or a profile",
		Long: "check reads the configuration, opens every device and listens for a valid\n" +
			"record, tries the brokers step by step, and looks at the disk, the clock and\n" +
			"the permissions of the agent's user. It ends in a table, with what to do about\n" +
			"each failure.\n\n" +
			"It sends nothing to a device that the agent would not send, records no event\n" +
			"and leaves the spool as it is. Each broker gets a few messages of its own topic,\n" +
			"the largest as large as a piece of a picture.\n\n" +
			"Ctrl-C ends the listening: the table then holds what is known, and skips the rest.\n\n" +
			"Run as root, it looks at files, disk and serial ports as the agent's user would.\n\n" +
			"With --profile it reads a profile and runs its vectors instead, and shows where\n" +
			"reading stops; with --bytes it shows how a recording of a device is read by it.\n\n" +
			"It ends with 0 when nothing failed, with 1 when something did, and with 2 when\n" +
			"the command line is wrong. Warnings and skipped checks are no failure; what Ctrl-C\n" +
			"has ended is one.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := profile.validate(cmd.Flags().Changed); err != nil {
				return err
			}
			if profile.path != "" {
				return profile.run(cmd.Context(), cmd.OutOrStdout())
			}
			if o.wait < 0 {
				return usageError{fmt.Errorf("--wait %s is negative", o.wait)}
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if onTerminal(cmd.ErrOrStderr()) {
				o.notes = cmd.ErrOrStderr()
			}
			return check(ctx, cmd.OutOrStdout(), o)
		},
	}
	cmd.Flags().StringVarP(&o.path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "how long to listen to each device (default: a little over its silence limit, a minute at the most)")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the table as JSON")
	cmd.Flags().StringVar(&o.user, "user", "", "whose permissions to look at when run as root (default: the user of the service lanepost)")
	cmd.Flags().StringVar(&profile.path, "profile", "", "check this profile in place of a configuration")
	cmd.Flags().StringVar(&profile.capture, "bytes", "", "with --profile: show how this file is read: a recording of lanepost record, or bytes as a device sent them")
	cmd.Flags().IntVar(&profile.records, "records", shownRecords, "with --profile: how many records to show")
	cmd.Flags().BoolVar(&profile.trace, "trace", false, "with --profile: show also the records that were read")
	return cmd
}

type checkOptions struct {
	path, user string
	wait       time.Duration
	json       bool
	notes      io.Writer // told what takes long; nil for nobody
}

func check(ctx context.Context, out io.Writer, o checkOptions) error {
	account, err := agentAccount(o.user)
	if err != nil {
		return usageError{err}
	}
	cfg, err := config.Load(o.path)
	if err != nil {
		if o.json {
			return tell(out, o, unreadable(o.path, err))
		}
		fmt.Fprintln(out, err)
		if hint := fileHint(err); hint != "" {
			fmt.Fprintln(out, "    hint: "+hint)
		}
		fmt.Fprintln(out, "\nThe configuration can't be used, so nothing else was checked.")
		return errReported
	}
	err = tell(out, o, checkRows(ctx, cfg, account, o))
	if ctx.Err() != nil && err == nil {
		err = errReported
	}
	return err
}

// waitFor is how long a device is listened to at most.
func (o checkOptions) waitFor(d config.Device) time.Duration {
	if o.wait > 0 {
		return o.wait
	}
	return min(d.Silence+time.Second, maxDefaultWait)
}

// announce says what is going on until there is a table.
func (o checkOptions) announce(devices []config.Device, cfg *config.Config) {
	if o.notes == nil {
		return
	}
	var longest time.Duration
	for _, d := range devices {
		longest = max(longest, o.waitFor(d))
	}
	doing := "listening to " + plural(len(devices), "device")
	switch {
	case len(devices) == 0 && len(cfg.MQTT) == 0:
		return
	case len(devices) == 0:
		doing, longest = "trying the broker", brokerCheckTimeout
	}
	fmt.Fprintf(o.notes, "%s, up to %s; Ctrl-C ends it with what is known by then\n", doing, drivers.Span(longest))
}

// checkRows are the rows of a configuration that can be used.
func checkRows(ctx context.Context, cfg *config.Config, account *account, o checkOptions) []result {
	devices := cfg.Devices()
	results := []result{{"configuration", "file", isOK, fmt.Sprintf("%s: %s, %s", o.path, plural(len(devices), "device"), plural(len(cfg.MQTT), "uplink")), ""}}
	for _, w := range cfg.Warnings {
		hint := w.Hint
		w.Hint, w.Snippet = "", ""
		results = append(results, result{"configuration", "file", isWarning, w.String(), hint})
	}
	results = append(results, checkFiles(cfg, account)...)
	spooled, running := checkSpool(cfg.Spool.Dir, account)
	results = append(results, spooled...)

	// A portal's controller serves one client: the running agent has it.
	var live []result
	if running {
		live = devicesOfAgent(ctx, cfg)
	}
	if running {
		o.announce(nil, cfg)
	} else {
		o.announce(devices, cfg)
	}
	rows := make([]deviceRows, len(devices))
	var group sync.WaitGroup
	for i, d := range devices {
		if running {
			continue
		}
		rows[i].list = checkPort(d, account)
		if !failed(rows[i].list) {
			group.Go(func() { rows[i].check(ctx, cfg, d, o.waitFor(d)) })
		}
	}
	brokers := checkBrokers(ctx, cfg, running)
	group.Wait()
	results = append(results, checkClock(rows)...)
	results = append(results, live...)
	for _, r := range rows {
		results = append(results, r.list...)
	}
	return append(results, brokers...)
}

// fileHint says what to do about a configuration that can't be read.
func fileHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "lanepost init writes a first one; or name the one that is there with --config"
	case errors.Is(err, fs.ErrPermission):
		return "run it with sudo, or as the agent's user"
	}
	return ""
}

// unreadable are the rows of a configuration that can't be used.
func unreadable(path string, err error) (rows []result) {
	for _, line := range config.Lines(err) {
		detail, hint, _ := strings.Cut(line, "; hint: ")
		hint = cmp.Or(hint, fileHint(err))
		rows = append(rows, result{"configuration", "file", isFailed, detail, hint})
	}
	if len(rows) == 0 {
		rows = []result{{"configuration", "file", isFailed, path + ": " + err.Error(), ""}}
	}
	return rows
}

func failed(rows []result) bool {
	for _, r := range rows {
		if r.State == isFailed {
			return true
		}
	}
	return false
}

// makePrintable makes rows such as may be printed: devices and brokers speak in them.
func makePrintable(rows []result) {
	for i := range rows {
		for _, text := range []*string{&rows[i].What, &rows[i].Check, &rows[i].Detail, &rows[i].Hint} {
			*text = clean(*text)
		}
	}
}

// tell prints the results and says by its error whether something failed.
func tell(out io.Writer, o checkOptions, results []result) error {
	counts := map[string]int{}
	makePrintable(results)
	for _, r := range results {
		counts[r.State]++
	}
	var err error
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(struct {
			Failed   int      `json:"failed"`
			Warnings int      `json:"warnings"`
			Skipped  int      `json:"skipped"`
			Checks   []result `json:"checks"`
		}{counts[isFailed], counts[isWarning], counts[isSkipped], results})
	} else {
		_, err = io.WriteString(out, layOut(results, widthOf(out))+summary(counts, len(results)))
	}
	if err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if counts[isFailed] > 0 {
		return errReported
	}
	return nil
}

func summary(counts map[string]int, all int) string {
	var rest []string
	if n := counts[isWarning]; n > 0 {
		rest = append(rest, plural(n, "warning"))
	}
	if n := counts[isSkipped]; n > 0 {
		rest = append(rest, fmt.Sprintf("%d skipped", n))
	}
	with := ""
	if len(rest) > 0 {
		with = " (" + strings.Join(rest, ", ") + ")"
	}
	switch {
	case counts[isFailed] > 0:
		return fmt.Sprintf("\n%d of %s failed%s.\n", counts[isFailed], plural(all, "check"), with)
	case len(rest) > 0:
		return fmt.Sprintf("\nNothing failed of %s%s.\n", plural(all, "check"), with)
	}
	return "\nAll well.\n"
}

// plural writes a number with its noun.
func plural[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// widthOf is how wide a terminal is; 0 if out is none: then a row is a line, for grep.
func widthOf(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok || !onTerminal(f) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return min(max(width, narrowScreen), wideScreen)
}

// layOut makes a table of the rows. On a terminal the text is wrapped under its column.
func layOut(rows []result, width int) string {
	what, check := len("WHAT"), len("CHECK")
	for _, r := range rows {
		what, check = max(what, len(r.What)), max(check, len(r.Check))
	}
	var b strings.Builder
	indent := what + 2 + check + 2 + len("skipped") + 2
	line := func(w, c, s, text string) {
		if indent > width/2 { // a narrow screen: the text goes under its row
			fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("%-*s  %-*s  %s", what, w, check, c, s), " "))
			b.WriteString(wrapped(text, 4, width))
			return
		}
		head := fmt.Sprintf("%-*s  %-*s  %-7s  ", what, w, check, c, s)
		b.WriteString(head + strings.TrimPrefix(wrapped(text, indent, width), strings.Repeat(" ", indent)))
	}
	if width == 0 {
		indent = 0
		line = func(w, c, s, text string) {
			fmt.Fprintf(&b, "%-*s  %-*s  %-7s  %s\n", what, w, check, c, s, text)
		}
	}
	before := ""
	for _, r := range rows {
		name := r.What
		if width > 0 && name == before {
			name = "" // said above
		}
		before = r.What
		line(name, r.Check, r.State, r.Detail)
		if r.Hint == "" || r.State == isOK {
			continue
		}
		if width == 0 {
			fmt.Fprintf(&b, "%-*s  %-*s  %-7s  -> %s\n", what, "", check, "", "", r.Hint)
			continue
		}
		at := indent
		if at > width/2 {
			at = 4
		}
		b.WriteString(wrapped("-> "+r.Hint, at, width))
	}
	return b.String()
}

// wrapped breaks a text between words into lines of at most so many characters, each
// behind its indentation.
func wrapped(text string, indent, width int) string {
	var b strings.Builder
	used := 0
	for _, w := range strings.Fields(text) {
		n := len([]rune(w))
		switch {
		case used == 0:
			b.WriteString(strings.Repeat(" ", indent))
			used = indent
		case used+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = indent
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(w)
		used += n
	}
	b.WriteByte('\n')
	return b.String()
}
