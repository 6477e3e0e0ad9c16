package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/identify"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

// Bounds of identify.
const (
	minIdentify = time.Second
	maxIdentify = time.Hour
	// lookingEvery is how often the progress is shown, and lookingWidth how much of it.
	lookingEvery = 200 * time.Millisecond
	lookingWidth = 78
)

func identifyCommand() *cobra.Command {
	var options identify.Options
	var asJSON bool
	var dir string
	var ports []int
	cmd := &cobra.Command{
		Use:   "identify PORT|HOST:PORT|RANGE",
		Short: "Find out which instrument is at a serial port or an address",
		Long: "identify listens to a serial port or a connection, tries line settings and every\n" +
			"profile, and says what it heard and what to write into the configuration. It\n" +
			"sends nothing unless --probe is given, and then requests that read only.\n\n" +
			"A range (10.0.3.0/28) or an address without a port is looked through for ports\n" +
			"that answer; then it listens to each. Many instruments serve one client only: a\n" +
			"connection from here may take the place of another box's agent. One that a\n" +
			"program of this box has is left alone.",
		Example: "  lanepost identify /dev/ttyUSB0\n  lanepost identify 10.0.3.21:1600\n  lanepost identify --probe 10.0.3.71:502\n  lanepost identify 10.0.3.0/28",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("one port, address or range is needed; lanepost ports lists the serial ports")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if options.For != 0 && (options.For < minIdentify || options.For > maxIdentify) {
				return usageError{fmt.Errorf("--for %s; take %s to %s", options.For, minIdentify, maxIdentify)}
			}
			set, err := profiles.Load(dir)
			if err != nil {
				return err
			}
			set.CheckDrivers(registry.ByName)
			for _, p := range set.Problems {
				fmt.Fprintln(cmd.ErrOrStderr(), p)
			}
			// Ctrl-C ends the listening, and what was heard till then is told.
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			shown := &looking{w: cmd.ErrOrStderr(), on: onTerminal(cmd.ErrOrStderr())}
			options.Progress = shown.show
			reports, err := identifyTarget(ctx, identify.New(set, registry.ByName), args[0], ports, options)
			shown.clear()
			if err != nil {
				return err
			}
			return printReports(cmd.OutOrStdout(), args[0], reports, asJSON)
		},
	}
	cmd.Flags().DurationVar(&options.For, "for", 0, "how long to listen at most (default 1m; 3m for a serial port on which something comes; 15s for each of a range)")
	cmd.Flags().BoolVar(&options.Probe, "probe", false, "send requests that read only to what says nothing by itself")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&dir, "profiles", "", "directory with profiles of your own")
	cmd.Flags().IntSliceVar(&ports, "port", nil, "TCP ports to look at in a range (default: those that profiles name)")
	return cmd
}

// comPort is a port of Windows, deviceName one without its directory.
var (
	comPort    = regexp.MustCompile(`(?i)^COM[0-9]{1,3}$`)
	deviceName = regexp.MustCompile(`^tty[A-Za-z]+[0-9]+$`)
)

// identifyTarget does what the argument is.
func identifyTarget(ctx context.Context, r *identify.Recogniser, target string, ports []int, o identify.Options) ([]identify.Report, error) {
	target = strings.TrimPrefix(strings.TrimPrefix(target, "serial:"), "tcp://")
	switch {
	case deviceName.MatchString(target):
		target = filepath.Join("/dev", target)
		fallthrough
	case strings.HasPrefix(target, "/dev/"), strings.HasPrefix(target, "/") && !strings.Contains(target, ":"), comPort.MatchString(target):
		return []identify.Report{r.Serial(ctx, target, o)}, nil
	}
	addresses, err := identify.ParseRange(target)
	if err == nil {
		if len(ports) == 0 {
			ports = r.Ports()
		}
		for _, p := range ports {
			if p < 1 || p > 65535 {
				return nil, usageError{fmt.Errorf("--port %d: there are ports from 1 to 65535", p)}
			}
		}
		return r.Range(ctx, addresses, ports, o), nil
	}
	if strings.Contains(target, "/") {
		return nil, usageError{err}
	}
	if !strings.Contains(target, ":") {
		return nil, usageError{fmt.Errorf("%q has no port; write HOST:PORT, or an IP address to look for its ports", target)}
	}
	return []identify.Report{r.Address(ctx, target, o)}, nil
}

// printReports says what came of it; its error says that nothing was found.
func printReports(out io.Writer, target string, reports []identify.Report, asJSON bool) error {
	found := slices.ContainsFunc(reports, func(r identify.Report) bool { return r.Profile != "" })
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if reports == nil {
			reports = []identify.Report{}
		}
		if err := e.Encode(reports); err != nil {
			return fmt.Errorf("print the result: %w", err)
		}
	} else {
		if len(reports) == 0 {
			fmt.Fprintf(out, "%s: nothing answers. Check power and cables, and this box's own address (ip addr); --port looks at other ports.\n", target)
		}
		for i, r := range reports {
			if i > 0 {
				fmt.Fprintln(out)
			}
			printReport(out, r)
		}
	}
	if !found {
		return errReported
	}
	return nil
}

// headlines say how sure it is. %s is what fits.
var headlines = map[identify.Level]string{
	identify.Certain:  "%s. This is certain.",
	identify.Likely:   "probably %s.",
	identify.Equal:    "several profiles fit, one of them is %s.",
	identify.Possible: "can't tell: %s would do, but it takes anything of this kind.",
	identify.Unknown:  "%s came, and no profile makes sense of that.",
	identify.Silent:   "nothing came.",
	identify.Failed:   "can't listen: ",
}

func printReport(out io.Writer, r identify.Report) {
	what := r.Profile
	if r.Line != "" {
		what += " at " + r.Line
	}
	switch {
	case r.Records == 0 || r.Bytes == 0:
	case r.Level == identify.Possible:
		what += fmt.Sprintf(" (%d of %d records parsed)", r.Records, r.Records+r.Unparsed)
	default:
		what += fmt.Sprintf(": %d of %d records parsed", r.Records, r.Records+r.Unparsed)
	}
	head := headlines[r.Level]
	switch r.Level {
	case identify.Failed:
		head += r.Error
	case identify.Unknown:
		head = fmt.Sprintf(head, plural(r.Bytes, "byte"))
	case identify.Silent:
	default:
		head = fmt.Sprintf(head, what)
	}
	fmt.Fprintf(out, "%s: %s (%.1f s)\n", r.Target, head, r.Seconds)
	label := "closest other:"
	if r.Level == identify.Equal {
		label = "as well:"
	}
	var anything []string
	for _, o := range r.Others {
		name := strings.TrimSpace(o.Profile + " " + o.Settings)
		if o.TakesAnything {
			anything = append(anything, name)
			continue
		}
		fmt.Fprintf(out, "  %s %s, %d of %d records parsed\n", label, name, o.Records, o.Records+o.Unparsed)
	}
	switch {
	case len(anything) == 0:
	case r.Level == identify.Possible:
		fmt.Fprintf(out, "  so would %s.\n", strings.Join(anything, ", "))
	default:
		fmt.Fprintf(out, "  these take nearly anything, so they prove nothing: %s\n", strings.Join(anything, ", "))
	}
	if len(r.Tried) > 1 || r.Level == identify.Unknown && len(r.Tried) > 0 {
		fmt.Fprintf(out, "  listened at: %s\n", strings.Join(r.Tried, ", "))
	}
	for _, s := range r.Said {
		fmt.Fprintf(out, "  %s\n", s)
	}
	if len(r.Shape) > 0 {
		fmt.Fprintln(out, "  its lines look like this, with 9 for a digit and A for a letter:")
		for _, s := range r.Shape {
			fmt.Fprintf(out, "    %s\n", s)
		}
	}
	if r.Config != "" {
		fmt.Fprintln(out, "  to paste under devices: in the configuration:")
		for l := range strings.Lines(r.Config) {
			fmt.Fprintf(out, "      %s", l)
		}
	}
	for _, a := range r.Advice {
		fmt.Fprintf(out, "  -> %s\n", a)
	}
}

// looking shows what is going on in one line of a terminal.
type looking struct {
	w    io.Writer
	on   bool
	last time.Time
}

func (p *looking) show(text string) {
	if !p.on || time.Since(p.last) < lookingEvery {
		return
	}
	p.last = time.Now()
	runes := []rune(text)
	fmt.Fprintf(p.w, "\r\x1b[K%s", string(runes[:min(len(runes), lookingWidth)]))
}

func (p *looking) clear() {
	if p.on && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
