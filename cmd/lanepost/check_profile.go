package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/own"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/capture"
)

// Bounds of a check of a profile.
const (
	// maxCapture bounds a capture in bytes, captureChunk the pieces that it is played in.
	maxCapture   = 64 << 20
	captureChunk = 16 << 10
	// shownRecords is how many records are shown unless --records says it.
	shownRecords = 20
	// maxSteps bounds what is kept of a run to be shown.
	maxSteps = 10_000
	// maxEventShown bounds what is shown of an event, in characters.
	maxEventShown = 700
)

// profileCheck is what check was asked to do with a profile.
type profileCheck struct {
	path, capture string
	records       int
	trace         bool
}

func (c profileCheck) validate(given func(flag string) bool) error {
	for _, other := range []string{"config", "wait", "json", "user"} {
		if c.path != "" && given(other) {
			return usageError{fmt.Errorf("--%s belongs to the check of a configuration, and --profile checks a profile: give one of the two", other)}
		}
	}
	switch {
	case c.path == "" && (c.capture != "" || c.trace || given("records")):
		return usageError{errors.New("--bytes, --trace and --records go with --profile FILE")}
	case c.records < 0:
		return usageError{fmt.Errorf("--records %d is negative", c.records)}
	}
	return nil
}

// run checks a profile, and with a capture how that is read by it.
func (c profileCheck) run(ctx context.Context, out io.Writer) error {
	p, err := readProfile(c.path)
	var problems yamlfile.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(out, safe(problems.Error()))
		return errReported
	}
	if err != nil {
		return err
	}
	if c.capture != "" {
		return c.playCapture(ctx, out, p)
	}
	fmt.Fprintf(out, "%s: profile %s, driver %s, %s\n", safe(c.path), safe(p.Name), safe(p.Driver), plural(len(p.Vectors), "vector"))
	failed := 0
	for _, v := range p.Vectors {
		var seen steps
		r := p.CheckVector(registry.ByName, v, seen.watch)
		if r.Err == nil {
			fmt.Fprintf(out, "ok      %s\n", safe(v.Name))
			if c.trace {
				seen.print(out, c.records, false)
			}
			continue
		}
		failed++
		fmt.Fprintf(out, "FAILED  %s\n", safe(v.Name))
		var bad yamlfile.Problems
		if errors.As(r.Err, &bad) {
			fmt.Fprintln(out, indented(safe(bad.Error())))
			continue
		}
		if !printEvents(out, r.Events) {
			fmt.Fprintf(out, "  %s\n", safe(shorter(innermost(r.Err))))
		}
		seen.printUnread(out, r.Played)
		seen.print(out, c.records, !c.trace)
	}
	switch {
	case failed > 0:
		fmt.Fprintf(out, "\n%d of %s failed.\n", failed, plural(len(p.Vectors), "vector"))
		return errReported
	case len(p.Vectors) == 0:
		fmt.Fprintf(out, "\nThe profile can be used, and nothing shows that it reads the device: add vectors, from a recording.\n")
	default:
		fmt.Fprintf(out, "\nAll well.\n")
	}
	return nil
}

// innermost is the error without what the reader knows already.
func innermost(err error) string {
	text := err.Error()
	if i := strings.Index(text, `": `); strings.HasPrefix(text, "profile ") && i >= 0 {
		return text[i+3:]
	}
	return text
}

// readProfile reads a profile and tries it with its driver.
func readProfile(path string) (*profiles.Profile, error) {
	b, err := readBounded(path, yamlfile.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	p, err := profiles.Parse(path, b)
	if err != nil {
		return nil, err
	}
	return p, p.CheckDriver(registry.ByName)
}

// playCapture shows how a recording of a device is read.
func (c profileCheck) playCapture(ctx context.Context, out io.Writer, p *profiles.Profile) error {
	b, err := readBounded(c.capture, maxCapture)
	if err != nil {
		return fmt.Errorf("read the bytes: %w", err)
	}
	instrument, err := p.Instrument(registry.ByName)
	if err != nil {
		return err
	}
	var seen steps
	seen.watch(instrument)
	if capture.Is(b) {
		return c.playRecording(ctx, out, p, instrument, &seen, b)
	}
	var script []drivers.Chunk
	for rest := b; len(rest) > 0; {
		n := min(captureChunk, len(rest))
		script = append(script, drivers.Chunk{Bytes: rest[:n]})
		rest = rest[n:]
	}
	played, err := drivers.Play(ctx, instrument, script)
	fmt.Fprintf(out, "%s through the profile %s, driver %s: %s\n", safe(c.capture), safe(p.Name), safe(p.Driver), plural(len(b), "byte"))
	return c.printPlayed(out, &seen, played, err)
}

// playRecording plays what lanepost record has written: each read as it came, and no
// connection runs on into the next.
func (c profileCheck) playRecording(ctx context.Context, out io.Writer, p *profiles.Profile, instrument drivers.Instrument, seen *steps, b []byte) error {
	t, err := tapeOf(c.capture, b)
	if err != nil {
		return err
	}
	seen.start = t.first.Begun
	var played drivers.Played
	var left ended
	r := &drivers.Replay{
		Start:    t.first.Begun,
		Observed: func(o drivers.Observation) error { played.Observations = append(played.Observations, o); return nil },
		Unparsed: func(why string, raw []byte) {
			played.Unparsed = append(played.Unparsed, drivers.UnparsedBytes{Reason: why, Raw: bytes.Clone(raw)})
		},
	}
	err = playTape(ctx, r, instrument, t, &left)
	played.Valid = int(r.Valid)
	if err == nil {
		err = left.first
	}
	fmt.Fprintf(out, "%s through the profile %s, driver %s\n", safe(c.capture), safe(p.Name), safe(p.Driver))
	t.report(out)
	err = c.printPlayed(out, seen, played, err)
	if err == nil && t.damaged {
		return errReported
	}
	return err
}

// printPlayed shows what was read, and what was not.
func (c profileCheck) printPlayed(out io.Writer, seen *steps, played drivers.Played, err error) error {
	seen.print(out, c.records, false)
	seen.printUnread(out, played)
	kinds := map[string]int{}
	var order []string
	for _, o := range played.Observations {
		if kinds[o.Data.Type()]++; kinds[o.Data.Type()] == 1 {
			order = append(order, o.Data.Type())
		}
	}
	fmt.Fprintf(out, "\n%s read, %s not.\n", plural(played.Valid, "record"), plural(len(played.Unparsed), "piece"))
	for _, t := range order {
		fmt.Fprintf(out, "%6d  %s\n", kinds[t], t)
	}
	if err != nil {
		return fmt.Errorf("the driver ended: %w", err)
	}
	if len(played.Unparsed) > 0 || played.Valid == 0 {
		return errReported
	}
	return nil
}

// steps are what a driver that can explain itself made of its input.
type steps struct {
	explains bool
	start    time.Time // of what is played
	list     []own.Step
	more     int
}

// watch begins to collect.
func (s *steps) watch(instrument drivers.Instrument) {
	s.start = drivers.ScriptStart()
	e, ok := instrument.(own.Explainer)
	if !ok {
		return
	}
	s.explains = true
	e.Explain(func(x own.Step) {
		if len(s.list) < maxSteps {
			s.list = append(s.list, x)
		} else {
			s.more++
		}
	})
}

// print shows the first so many records; onlyBad leaves those out that were read, if there are
// others.
func (s *steps) print(out io.Writer, most int, onlyBad bool) {
	list := s.list
	if onlyBad {
		var bad []own.Step
		for _, x := range list {
			if x.Failure != nil {
				bad = append(bad, x)
			}
		}
		if len(bad) > 0 {
			list = bad
		}
	}
	for i, x := range list {
		if i == most {
			fmt.Fprintf(out, "\n  and %d more; --records N shows more\n", len(list)-i+s.more)
			break
		}
		s.printStep(out, x)
	}
}

// printUnread shows what a driver that can't explain itself could not read.
func (s *steps) printUnread(out io.Writer, played drivers.Played) {
	if s.explains {
		return
	}
	for i, u := range played.Unparsed {
		if i == shownRecords {
			fmt.Fprintf(out, "  and %d more pieces that were not understood\n", len(played.Unparsed)-i)
			break
		}
		text, _ := marked(string(u.Raw), -1, -1)
		fmt.Fprintf(out, "\n  not understood: %s\n    %s\n", safe(u.Reason), text)
	}
}

// printStep shows one record: the text, with a mark under the place where reading stopped, and
// how it came so far.
func (s *steps) printStep(out io.Writer, x own.Step) {
	of := "read as " + safe(x.Kind)
	switch {
	case x.Failure != nil && x.Kind != "":
		of = "taken for " + safe(x.Kind) + ", and could not be read"
	case x.Failure != nil:
		of = "could not be read"
	}
	fmt.Fprintf(out, "\n  at %s, %s, %s\n", x.Time.Sub(s.start), plural(len(x.Raw), "byte"), of)
	from, to := -1, -1
	if x.Failure != nil {
		from, to = x.Failure.From, x.Failure.To
	}
	text, carets := marked(x.Text, from, to)
	fmt.Fprintf(out, "    %s\n", text)
	if carets != "" {
		fmt.Fprintf(out, "    %s\n", carets)
	}
	if strings.ContainsRune(x.Text, '\ufffd') {
		fmt.Fprintf(out, "    hex: % x\n", x.Raw[:min(len(x.Raw), 64)])
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, t := range x.Tried {
		fmt.Fprintf(w, "      %s\tno: %s\n", safe(t.Kind), safe(t.Why))
	}
	for _, f := range x.Found {
		read, _ := marked(f.Read, -1, -1)
		fmt.Fprintf(w, "      %s\t%s\t\"%s\"\t%s\n", safe(f.Name), safe(f.Place), read, safe(f.Value))
	}
	if f := x.Failure; f != nil && f.Field != "" {
		fmt.Fprintf(w, "      %s\t%s\tstopped here\n", safe(f.Field), safe(f.Place))
	}
	_ = w.Flush() // out is asked at the end of the command
	if f := x.Failure; f != nil {
		fmt.Fprintf(out, "    wanted  %s\n    found   %s\n", safe(f.Want), safe(f.Got))
		if f.Hint != "" {
			fmt.Fprintf(out, "    hint    %s\n", safe(f.Hint))
		}
	}
}

// printEvents shows what came and what was expected, and reports whether that differs.
func printEvents(out io.Writer, events []profiles.EventResult) (differs bool) {
	if !slices.ContainsFunc(events, func(e profiles.EventResult) bool { return e.Err != nil }) {
		return false
	}
	for i, e := range events {
		what := e.Want
		if what == "" {
			what = e.Got
		}
		if e.Err == nil {
			fmt.Fprintf(out, "  event %d  %s  as expected\n", i+1, safe(what))
			continue
		}
		why := shorter(strings.TrimPrefix(e.Err.Error(), what+": "))
		if e.Want != "" && e.Got != "" && e.Want != e.Got {
			why = "came " + e.Got + " in its place"
		}
		fmt.Fprintf(out, "  event %d  %s  %s\n", i+1, safe(what), safe(why))
		if e.Data != "" {
			fmt.Fprintf(out, "    came: %s\n", safe(shorter(e.Data)))
		}
	}
	return true
}

func shorter(s string) string {
	r := []rune(s)
	if len(r) > maxEventShown {
		return string(r[:maxEventShown]) + " ..."
	}
	return s
}

func indented(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }
