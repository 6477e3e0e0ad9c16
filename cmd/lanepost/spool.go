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
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

func spoolCommand() *cobra.Command {
	var at spoolAt
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look into the spool: stat, cat, verify, export, requeue",
		Long: "spool shows and checks what is stored, on a running agent's box as well as on a\n" +
			"disk that was pulled out of one. All but requeue only read: they take no lock,\n" +
			"write nothing to the directory, and work on a disk that is mounted read-only.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVarP(&at.config, "config", "c", defaultConfig, "configuration file that names the spool and its key file")
	cmd.PersistentFlags().StringVar(&at.dir, "dir", "", "the spool's directory, instead of a configuration")
	cmd.PersistentFlags().StringVar(&at.keyFile, "key-file", "", "file with the keys of an encrypted spool")
	cmd.AddCommand(spoolStatCommand(&at), spoolCatCommand(&at), spoolVerifyCommand(&at), spoolExportCommand(&at), spoolRequeueCommand(&at))
	return cmd
}

// spoolAt says where a spool is and what opens it.
type spoolAt struct{ config, dir, keyFile string }

// find returns the directory and the keys.
func (a *spoolAt) find() (dir string, keys *spool.Keyring, err error) {
	dir, keyFile := a.dir, a.keyFile
	if dir == "" {
		cfg, err := config.Load(a.config)
		if err != nil {
			// The directory may stand in a file that has a mistake.
			in, _ := spoolDirOf(a.config)
			return "", nil, fmt.Errorf("%w\n(--dir %s looks at a spool without a configuration)", err, cmp.Or(in, "DIRECTORY"))
		}
		dir = cfg.Spool.Dir
		if keyFile == "" {
			keyFile = cfg.Spool.KeyFile
		}
	}
	if keyFile != "" {
		if keys, err = spool.ReadKeyring(keyFile); err != nil {
			return "", nil, err
		}
	}
	return dir, keys, nil
}

// inspect looks at the spool.
func (a *spoolAt) inspect() (*spool.Inspection, error) {
	dir, keys, err := a.find()
	if err != nil {
		return nil, err
	}
	i, err := spool.Inspect(dir, spool.InspectOptions{Keys: keys})
	return i, hinted(err)
}

// hinted adds what to do to an error about a spool.
func hinted(err error) error {
	var hint string
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, fs.ErrPermission):
		hint = "run this as root or as the agent's user"
	case errors.Is(err, fs.ErrNotExist):
		return errors.New(strings.TrimSuffix(err.Error(), ": "+fs.ErrNotExist.Error()))
	case errors.Is(err, spool.ErrNotSpool):
		hint = "--dir takes the directory that holds urgent/ and routine/, spool.dir in the configuration"
	case errors.Is(err, spool.ErrLocked):
		hint = "stop the agent first (systemctl stop lanepost). While it runs, it can be asked over MQTT to send events again"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

func spoolStatCommand(at *spoolAt) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Show how much is stored, delivered, waiting and lost",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i, err := at.inspect()
			if err != nil {
				return err
			}
			st := spoolStatOf(i)
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(st)
			}
			return st.print(cmd.OutOrStdout(), time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// spoolStat is what stat prints with --json.
type spoolStat struct {
	Dir        string           `json:"dir"`
	Classes    []classStat      `json:"classes"`
	Quarantine []quarantineStat `json:"quarantine"`
}

type classStat struct {
	Class         event.Class `json:"class"`
	Head          uint64      `json:"head"`
	Delivered     uint64      `json:"delivered"`
	Waiting       uint64      `json:"waiting"`
	Lost          uint64      `json:"lost"`
	OldestWaiting *time.Time  `json:"oldest_waiting,omitempty"`
	First         uint64      `json:"first_on_disk,omitempty"`
	Bytes         int64       `json:"bytes"`
	Segments      int         `json:"segments"`
	Sealed        int         `json:"sealed_segments"`
	Refused       int         `json:"refused_segments"`
	Foreign       []string    `json:"foreign_segments,omitempty"`
	BadHeaders    []string    `json:"damaged_headers,omitempty"`
	Cursor        bool        `json:"cursor"`
	Closed        bool        `json:"closed_in_order"`
	Losses        []lossStat  `json:"losses"`
	// Consumers are told where there are several.
	Consumers []consumerStat `json:"consumers,omitempty"`
}

type consumerStat struct {
	Name      string `json:"name"`
	Delivered uint64 `json:"delivered"`
	Waiting   uint64 `json:"waiting"`
}

type lossStat struct {
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Count    uint64 `json:"count"`
	Reported bool   `json:"reported"`
}

type quarantineStat struct {
	File  string      `json:"file"`
	Bytes int64       `json:"bytes"`
	Class event.Class `json:"class,omitempty"`
	First uint64      `json:"first,omitempty"`
	Last  uint64      `json:"last,omitempty"`
}

func spoolStatOf(i *spool.Inspection) spoolStat {
	st := spoolStat{Dir: i.Dir, Quarantine: []quarantineStat{}}
	for _, c := range i.Classes {
		s := classStat{
			Class: c.Class, Head: c.Stats.Head, Delivered: c.Delivered, Waiting: c.Waiting, Lost: c.Lost, First: c.First,
			Bytes: c.Stats.Bytes, Segments: c.Segments, Sealed: c.Sealed, Refused: c.Refused, Foreign: c.Foreign,
			BadHeaders: c.BadHeaders, Cursor: c.Cursor, Closed: c.Closed, Losses: []lossStat{},
		}
		if !c.Stats.OldestUnacked.IsZero() {
			s.OldestWaiting = &c.Stats.OldestUnacked
		}
		for _, l := range c.Losses {
			s.Losses = append(s.Losses, lossStat(l))
		}
		if len(c.Stats.Consumers) > 1 {
			for _, one := range c.Stats.Consumers {
				s.Consumers = append(s.Consumers, consumerStat{one.Name, one.Acked, one.Backlog})
			}
		}
		st.Classes = append(st.Classes, s)
	}
	for _, q := range i.Quarantine {
		st.Quarantine = append(st.Quarantine, quarantineStat{q.Name, q.Size, q.Class, q.First, q.Last})
	}
	return st
}

func (st spoolStat) print(out io.Writer, now time.Time) error {
	fmt.Fprintf(out, "%s\n\n", st.Dir)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLASS\tHEAD\tDELIVERED\tWAITING\tLOST\tOLDEST WAITING\tON DISK\tSEGMENTS")
	for _, c := range st.Classes {
		oldest := "-"
		if c.OldestWaiting != nil {
			oldest = fmt.Sprintf("%s (%s ago)", c.OldestWaiting.Format(time.RFC3339), now.Sub(*c.OldestWaiting).Round(time.Second))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%d\n", c.Class, c.Head, c.Delivered, c.Waiting, c.Lost, oldest, size(c.Bytes), c.Segments)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for _, c := range st.Classes {
		for _, one := range c.Consumers {
			note("%s: %s has %d delivered or lost, %d waiting", c.Class, one.Name, one.Delivered, one.Waiting)
		}
		if c.Segments > 0 && !c.Cursor {
			note("%s: there is no cursor that can be read; all that is on disk will be delivered again", c.Class)
		}
		if c.Sealed > 0 {
			note("%s: %d of %d segments are encrypted", c.Class, c.Sealed, c.Segments)
		}
		if c.Refused > 0 {
			note("%s: %d segments hold refused writes only; the next start removes them", c.Class, c.Refused)
		}
		for _, name := range c.Foreign {
			note("%s: segment %s is not of this spool, or of another version; it is not delivered", c.Class, name)
		}
		for _, name := range c.BadHeaders {
			note("%s: segment %s has a damaged header; its records are read nevertheless", c.Class, name)
		}
		for n, l := range c.Losses {
			if n == manyLines {
				note("%s: %d more losses (--json lists them)", c.Class, len(c.Losses)-n)
				break
			}
			state := "not reported yet"
			if l.Reported {
				state = "reported in an agent.loss event, or deleted after delivery"
			}
			note("%s: %d records of %d to %d are gone, %s", c.Class, l.Count, l.First, l.Last, state)
		}
	}
	var bytes int64
	for _, q := range st.Quarantine {
		bytes += q.Bytes
	}
	if n := len(st.Quarantine); n > 0 {
		note("quarantine: %s, %s", plural(n, "file"), size(bytes))
	}
	for n, q := range st.Quarantine {
		if n == manyLines {
			note("  and %d more (--json lists them)", len(st.Quarantine)-n)
			break
		}
		what := ""
		switch {
		case q.Last > 0:
			what = fmt.Sprintf(": bytes in the place of %s sequence %d to %d", q.Class, q.First, q.Last)
		case q.First > 0:
			what = fmt.Sprintf(": a segment of %s from sequence %d on", q.Class, q.First)
		}
		note("  %s, %s%s", q.File, size(q.Bytes), what)
	}
	if len(notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(notes, "\n"))
	}
	return nil
}

// manyLines bounds the lines of one sort that are printed for a person.
const manyLines = 20

// size is a number of bytes for a person.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, "kMGTPE"
	for value >= unit {
		value, prefix = value/unit, prefix[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, prefix[0])
}

// printFindings says on standard error what was found instead of records, and
// returns errReported if there was anything.
func printFindings(out io.Writer, findings []spool.Finding, more int) error {
	for _, f := range findings {
		fmt.Fprintf(out, "lanepost: %s\n  -> %s\n", f, f.Advice())
	}
	if more > 0 {
		fmt.Fprintf(out, "lanepost: and %d more; lanepost spool verify lists them\n", more)
	}
	if len(findings) > 0 {
		return errReported
	}
	return nil
}

func spoolRequeueCommand(at *spoolAt) *cobra.Command {
	var class, consumer, quarantined string
	var from uint64
	cmd := &cobra.Command{
		Use:   "requeue --class CLASS --from SEQUENCE | --quarantined FILE",
		Short: "Have stored events delivered again (the agent must be stopped)",
		Long: "requeue moves the cursor of a class back, so that the agent delivers again, from\n" +
			"the sequence on, what is still on disk: the same bytes with the same ids.\n\n" +
			"With --quarantined it puts a whole segment back that was moved to quarantine,\n" +
			"by its file name there, unless its numbers belong to other events by now.\n\n" +
			"An exported file can't be requeued: an event's sequence and its place in the\n" +
			"hash chain are part of it, so it could only come back as another event.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := cmd.Flags().Changed("from")
			switch {
			case quarantined != "" && (set || class != "" || consumer != ""):
				return usageError{errors.New("--quarantined stands alone: the file's name tells class and sequence")}
			case quarantined == "" && (!set || class == ""):
				return usageError{errors.New("--class and --from say what to deliver again, or --quarantined FILE")}
			}
			c, err := classes(class)
			if err != nil {
				return err
			}
			dir, _, err := at.find()
			if err != nil {
				return err
			}
			var done spool.Requeued
			if quarantined != "" {
				done, err = spool.RequeueSegment(dir, quarantined, nil)
			} else {
				done, err = spool.Requeue(dir, c[0], consumer, from, nil)
			}
			if err != nil {
				return hinted(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s sequence %d to %d will be delivered again when the agent starts.\n", done.Class, done.First, done.Last)
			return nil
		},
	}
	cmd.Flags().StringVar(&class, "class", "", "class: urgent or routine")
	cmd.Flags().StringVar(&consumer, "consumer", "", "name of the uplink that gets them again (default all)")
	cmd.Flags().Uint64Var(&from, "from", 0, "first sequence number to deliver again")
	cmd.Flags().StringVar(&quarantined, "quarantined", "", "name of a segment in quarantine to put back")
	return cmd
}

// classes is the class of a flag, all of them if it is empty.
func classes(name string) ([]event.Class, error) {
	if name == "" {
		return event.Classes[:], nil
	}
	for _, c := range event.Classes {
		if string(c) == name {
			return []event.Class{c}, nil
		}
	}
	return nil, usageError{fmt.Errorf("--class %q: want %s or %s", name, event.Urgent, event.Routine)}
}

func spoolVerifyCommand(at *spoolAt) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Read every byte and check checksums, sequence and hash chain",
		Long: "verify reads the whole spool and says what is damaged, missing or altered. It\n" +
			"ends with 1 if something is that nothing accounts for.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i, err := at.inspect()
			if err != nil {
				return err
			}
			var total int64
			for _, c := range i.Classes {
				total += i.Size(spool.Walk{Class: c.Class})
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			p := newProgress(os.Stderr, total)
			v, err := i.Verify(ctx, p.add)
			p.end()
			if err != nil {
				return hinted(err)
			}
			return printVerification(cmd.OutOrStdout(), i, v)
		},
	}
}

func printVerification(out io.Writer, i *spool.Inspection, v *spool.Verification) error {
	problems := v.Unexplained()
	for n, c := range v.Classes {
		if c.Records == 0 {
			fmt.Fprintf(out, "%s: no record on disk\n", c.Class)
		} else {
			fmt.Fprintf(out, "%s: %d records read, sequence %d to %d; %d follow the one before in the hash chain; %s\n",
				c.Class, c.Records, c.First, c.Last, c.Chained, size(c.Bytes))
		}
		for _, name := range i.Classes[n].Foreign {
			problems++
			fmt.Fprintf(out, "PROBLEM: %s segment %s is not of this spool, or of another version, and is not read\n  -> keep the file; the agent moves it to quarantine\n", c.Class, name)
		}
		for _, name := range i.Classes[n].BadHeaders {
			problems++
			fmt.Fprintf(out, "PROBLEM: %s segment %s has a damaged header; its records were read nevertheless\n  -> check the disk (dmesg, smartctl)\n", c.Class, name)
		}
	}
	for _, f := range v.Findings {
		word := "PROBLEM"
		if f.Explained != "" {
			word = "explained"
		}
		fmt.Fprintf(out, "%s: %s\n  -> %s\n", word, f, f.Advice())
	}
	if problems > 0 {
		fmt.Fprintf(out, "\n%d problems.\n", problems)
		return errReported
	}
	fmt.Fprintln(out, "\nAll well.")
	return nil
}
