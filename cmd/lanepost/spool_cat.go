package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// followEvery is how long cat --follow waits before it looks again.
const followEvery = 500 * time.Millisecond

// selection is what cat and export read.
type selection struct {
	class        string
	from, to     uint64
	since, until string
	waiting      bool
}

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.class, "class", "", "class: urgent or routine (default both)")
	f.Uint64Var(&s.from, "from", 0, "first sequence number")
	f.Uint64Var(&s.to, "to", 0, "last sequence number")
	f.StringVar(&s.since, "since", "", "recorded at this time or later (RFC 3339, such as 2026-05-01T06:00:00Z)")
	f.StringVar(&s.until, "until", "", "recorded before this time")
	f.BoolVar(&s.waiting, "waiting", false, "only what is not delivered yet")
}

// walks turns the flags into readings, one for each class.
func (s *selection) walks() ([]spool.Walk, error) {
	list, err := classes(s.class)
	if err != nil {
		return nil, err
	}
	w := spool.Walk{From: s.from, To: s.to}
	if s.to > 0 && s.to < s.from {
		return nil, usageError{fmt.Errorf("--to %d is before --from %d", s.to, s.from)}
	}
	if s.class == "" && (s.from > 0 || s.to > 0) {
		return nil, usageError{errors.New("--from and --to need --class: each class counts for itself")}
	}
	for _, t := range []struct {
		flag, text string
		at         *time.Time
	}{{"since", s.since, &w.Since}, {"until", s.until, &w.Until}} {
		if t.text == "" {
			continue
		}
		if *t.at, err = time.Parse(time.RFC3339, t.text); err != nil {
			return nil, usageError{fmt.Errorf("--%s %q: want a time such as 2026-05-01T06:00:00Z", t.flag, t.text)}
		}
	}
	var all []spool.Walk
	for _, c := range list {
		w.Class = c
		all = append(all, w)
	}
	return all, nil
}

// concrete narrows a reading to what waits.
func (s *selection) concrete(i *spool.Inspection, w spool.Walk) spool.Walk {
	for _, c := range i.Classes {
		if s.waiting && c.Class == w.Class {
			w.From = max(w.From, c.Stats.Acked+1)
		}
	}
	return w
}

// nothingWaits reports whether only what waits is asked for, and nothing does.
func (s *selection) nothingWaits(i *spool.Inspection) bool {
	for _, c := range i.Classes {
		if (s.class == "" || s.class == string(c.Class)) && c.Stats.Backlog > 0 {
			return false
		}
	}
	return s.waiting
}

// untilSignal ends a command in good order.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// printed counts what a printer wrote.
type printed struct {
	class       event.Class
	events      uint64
	first, last uint64
}

// printer writes events as lines and keeps what it could not write.
type printer struct {
	out      *bufio.Writer
	classes  []printed
	findings []spool.Finding
	more     int // findings above manyLines
}

// read writes what a reading gives.
func (p *printer) read(ctx context.Context, i *spool.Inspection, w spool.Walk, progress func(int64)) error {
	count := printed{class: w.Class}
	w.Progress = progress
	w.Found = func(f spool.Finding) {
		if len(p.findings) < manyLines {
			p.findings = append(p.findings, f)
		} else {
			p.more++
		}
	}
	w.Record = func(r spool.Record) error {
		if bytes.ContainsAny(r.Payload, "\r\n") {
			return fmt.Errorf("%s sequence %d holds a line break, so it can't be one line of the output; it is no event of lanepost's", r.Class, r.Sequence)
		}
		if count.events == 0 {
			count.first = r.Sequence
		}
		count.events++
		count.last = r.Sequence
		_, _ = p.out.Write(r.Payload) // the error comes again
		return p.out.WriteByte('\n')
	}
	err := i.Walk(ctx, w)
	p.classes = append(p.classes, count)
	return err
}

func spoolCatCommand(at *spoolAt) *cobra.Command {
	var s selection
	var follow bool
	cmd := &cobra.Command{
		Use:   "cat",
		Short: "Print stored events, one line of JSON each",
		Long: "cat prints the events that are on disk, each exactly as it is stored: the urgent\n" +
			"ones, then the routine ones, each class in the order of its sequence. What can't be\n" +
			"read is told on standard error, and cat then ends with 1.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			walks, err := s.walks()
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			p := printer{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)}
			for first := true; ; first = false {
				i, err := at.inspect()
				if err != nil {
					return err
				}
				var bar *progress
				if first && !follow && !onTerminal(os.Stdout) {
					bar = newProgress(os.Stderr, sizeOf(i, walks))
				}
				for n := range walks {
					if first {
						walks[n] = s.concrete(i, walks[n])
					}
					if err = p.read(ctx, i, walks[n], bar.add); err != nil {
						break
					}
					if follow {
						walks[n].From = max(walks[n].From, i.Classes[classAt(i, walks[n].Class)].Stats.Head+1)
					}
				}
				bar.end()
				err = errors.Join(p.out.Flush(), err)
				if follow && errors.Is(err, context.Canceled) {
					return printFindings(cmd.ErrOrStderr(), p.findings, p.more)
				}
				if err != nil {
					return hinted(err)
				}
				if !follow {
					return printFindings(cmd.ErrOrStderr(), p.findings, p.more)
				}
				_ = printFindings(cmd.ErrOrStderr(), p.findings, p.more) // goes on
				p.findings, p.more, p.classes = nil, 0, nil
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(followEvery):
				}
			}
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events until interrupted")
	return cmd
}

func classAt(i *spool.Inspection, class event.Class) int {
	for n, c := range i.Classes {
		if c.Class == class {
			return n
		}
	}
	return 0
}

func sizeOf(i *spool.Inspection, walks []spool.Walk) (total int64) {
	for _, w := range walks {
		total += i.Size(w)
	}
	return total
}

func spoolExportCommand(at *spoolAt) *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write stored events to a file and tell its SHA-256",
		Long: "export writes what cat prints to a new file, which is there either in full or not\n" +
			"at all. It overwrites nothing. With - it writes to standard output.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name the file to write, or - for standard output")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			walks, err := s.walks()
			if err != nil {
				return err
			}
			i, err := at.inspect()
			if err != nil {
				return err
			}
			for n := range walks {
				walks[n] = s.concrete(i, walks[n])
			}
			if s.nothingWaits(i) {
				return errors.New("nothing waits for delivery, so no file is written")
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			bar := newProgress(os.Stderr, sizeOf(i, walks))
			defer bar.end()
			e := export{hash: sha256.New()}
			write := func(out io.Writer) error {
				e.out = bufio.NewWriterSize(io.MultiWriter(out, e.hash, &e.bytes), 256<<10)
				for _, w := range walks {
					if err := e.read(ctx, i, w, bar.add); err != nil {
						return err
					}
				}
				if e.events() == 0 {
					return errors.New("there is no event in that range that can be read; nothing is written")
				}
				return e.out.Flush()
			}
			out := cmd.OutOrStdout()
			if args[0] == "-" {
				err = write(out)
				out = cmd.ErrOrStderr()
			} else {
				err = newFile(args[0], i.Dir, write)
			}
			bar.end()
			found := printFindings(cmd.ErrOrStderr(), e.findings, e.more)
			if err != nil {
				return hinted(err)
			}
			e.say(out, args[0])
			return found
		},
	}
	s.flags(cmd)
	return cmd
}

// export is a printer that knows what its file came to.
type export struct {
	printer
	hash  hash.Hash
	bytes counter
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func (e *export) events() (n uint64) {
	for _, c := range e.classes {
		n += c.events
	}
	return n
}

func (e *export) say(out io.Writer, name string) {
	fmt.Fprintf(out, "%s: %s, %s\n", name, plural(int64(e.events()), "event"), plural(int64(e.bytes), "byte"))
	for _, c := range e.classes {
		if c.events > 0 {
			fmt.Fprintf(out, "  %s: %d, sequence %d to %d\n", c.class, c.events, c.first, c.last)
		}
	}
	if len(e.findings) > 0 {
		fmt.Fprintf(out, "  not all that was asked for could be read\n")
	}
	fmt.Fprintf(out, "  SHA-256 %s\n", hex.EncodeToString(e.hash.Sum(nil)))
}

// newFile writes a file that is not there yet, in full and on disk, or not at
// all. It must not lie in the spool.
func newFile(name, spoolDir string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(name)
	if inside(dir, spoolDir) {
		return fmt.Errorf("%s is inside of the spool, where nothing is written: name another place", name)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s: make it, or name another place", dir)
	}
	if err := absent(name); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*.part")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already if all went well
	if err := errors.Join(write(temp), temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// A link never replaces another file. Some file systems, as of USB sticks, have none.
	switch err := os.Link(temp.Name(), name); {
	case errors.Is(err, fs.ErrExist):
		return absent(name)
	case err != nil:
		if err := absent(name); err != nil {
			return err
		}
		if err := os.Rename(temp.Name(), name); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = d.Close() }() // read only
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// absent is an error unless there is nothing of that name.
func absent(name string) error {
	switch _, err := os.Lstat(name); {
	case err == nil:
		return fmt.Errorf("%s is there already and is not overwritten: name another file", name)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// inside reports whether a directory is another one or within it.
func inside(dir, other string) bool {
	a, err1 := filepath.EvalSymlinks(dir)
	b, err2 := filepath.EvalSymlinks(other)
	if err1 != nil || err2 != nil {
		return false // what is not there can't be written to
	}
	a, err1 = filepath.Abs(a)
	b, err2 = filepath.Abs(b)
	return err1 == nil && err2 == nil && (a == b || strings.HasPrefix(a, b+string(filepath.Separator)))
}
