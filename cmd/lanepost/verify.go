package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/evidence"
)

// maxLine bounds a line of a recording, in bytes: an event and its topic.
const maxLine = event.MaxSize + 64<<10

// unreadError says that there is nothing to judge, which is neither good nor bad.
type unreadError struct{ error }

func verifyCommand() *cobra.Command {
	var keys []string
	var asJSON bool
	var live liveOptions
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check stored events: gaps, forks, alterations, signatures",
		Long: "verify reads events as a subscriber stores them, one JSON text on a line, with\n" +
			"or without its topic before it (mosquitto_sub, mosquitto_sub -v), plain or in\n" +
			"gzip; \"-\" is the standard input. Several files are read one after the other.\n" +
			"With --broker it subscribes and checks what comes.\n\n" +
			"It ends with 0 if nothing is wrong, with 1 if something is, and with 2 if there\n" +
			"was nothing that it could check.",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) > 0) == (live.broker != "") {
				return usageError{errors.New("give either files or --broker")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			trusted, err := readKeys(keys)
			if err != nil {
				return usageError{err}
			}
			v := evidence.New(trusted...)
			var readErr error
			if live.broker != "" {
				readErr = live.watch(cmd.Context(), cmd.ErrOrStderr(), v)
			} else {
				readErr = readFiles(cmd.InOrStdin(), args, v)
			}
			return reportEvidence(cmd.OutOrStdout(), v.Result(), asJSON, readErr)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "public key that is trusted, or a file with it; may be given several times")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	f.StringVar(&live.broker, "broker", "", "subscribe at this broker (tcp://, tls://, ws:// or wss://) instead of reading files")
	f.StringVar(&live.topic, "topic", event.TopicRoot+"/#", "what to subscribe to")
	f.DurationVar(&live.duration, "for", 30*time.Second, "how long to listen; 0 until interrupted")
	f.StringVar(&live.username, "username", "", "user name at the broker")
	f.StringVar(&live.passwordFile, "password-file", "", "file with the password")
	f.StringVar(&live.caFile, "ca-file", "", "certificates (PEM) of the authorities that are trusted, instead of the system's")
	return cmd
}

// readKeys reads public keys, each in base64 or in a file that holds only it.
func readKeys(texts []string) (keys []ed25519.PublicKey, err error) {
	for _, text := range texts {
		k, err := evidence.ParseKey(text)
		if err != nil {
			b, readErr := readBounded(text, 4<<10)
			if readErr != nil {
				return nil, fmt.Errorf("--key %s is neither a public key nor a file with one: %w", text, errors.Join(err, readErr))
			}
			if k, err = evidence.ParseKey(strings.TrimSpace(string(b))); err != nil {
				return nil, fmt.Errorf("--key: %s: %w", text, err)
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

var errTooLarge = errors.New("too large")

// readBounded reads a file of at most so many bytes. A larger one is an errTooLarge.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is %w: it has more than %s", path, errTooLarge, plural(most, "byte"))
	}
	return b, nil
}

func readFiles(stdin io.Reader, paths []string, v *evidence.Verifier) error {
	var total int64
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			total += info.Size()
		}
	}
	bar := newProgress(os.Stderr, total)
	defer bar.end()
	for _, p := range paths {
		if err := readFile(stdin, p, bar, v); err != nil {
			return fmt.Errorf("read the recording: %w", err)
		}
	}
	return nil
}

func readFile(stdin io.Reader, path string, bar *progress, v *evidence.Verifier) error {
	from := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		from = f
	}
	r := bufio.NewReaderSize(counted{from, bar}, 256<<10)
	if magic, err := r.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r = bufio.NewReaderSize(z, 256<<10)
	}
	if err := readLines(r, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// counted tells a progress bar of what is read.
type counted struct {
	io.Reader
	bar *progress
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.bar.add(int64(n))
	return n, err
}

// readLines feeds a verifier with lines. What is too long for an event is cut,
// and is then none.
func readLines(r *bufio.Reader, v *evidence.Verifier) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxLine-len(line))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if len(bytes.TrimSpace(line)) > 0 {
			v.Feed(splitLine(line))
		}
		line = line[:0]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// splitLine takes the topic off, where there is one.
func splitLine(line []byte) (topic string, payload []byte) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) > 0 && line[0] == '{' {
		return "", line
	}
	before, after, ok := bytes.Cut(line, []byte(" "))
	if !ok || !bytes.Contains(before, []byte("/")) {
		return "", line
	}
	if string(after) == "(null)" { // what mosquitto_sub prints for nothing
		after = nil
	}
	return string(before), after
}

// reportEvidence prints what was found, and says by its error how it is.
func reportEvidence(out io.Writer, r evidence.Result, asJSON bool, readErr error) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("print the result: %w", err)
		}
	} else if r.Totals.Messages > 0 {
		printEvidence(out, r)
	}
	switch {
	case readErr != nil:
		return unreadError{readErr}
	case r.Totals.Events == 0 && r.Totals.Unreadable == 0:
		return unreadError{errors.New("there is no event in it")}
	case r.Worst() == evidence.Warning, r.Worst() == evidence.Error:
		return errReported
	}
	return nil
}

func printEvidence(out io.Writer, r evidence.Result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AGENT\tCLASS\tFROM\tTO\tEVENTS\tAGAIN\tKEPT BACK\tLOST\tMISSING\tSIGNED TO\tSIGNED AT\tNOT YET SIGNED")
	for _, s := range r.Streams {
		to, at := "-", "-"
		if s.SignedTo > 0 {
			to, at = strconv.FormatUint(s.SignedTo, 10), s.SignedTime.UTC().Format(event.TimeLayout)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%d\n", clean(s.Agent), s.Class, s.First, s.Last,
			s.Distinct, s.Duplicates, s.Skipped, s.Lost, s.Missing, to, at, s.NotCovered)
	}
	_ = w.Flush() // to standard output, which has nobody to report to
	fmt.Fprintln(out)
	if n := r.Totals; n.Full+n.Redacted > 0 {
		fmt.Fprintf(out, "%d events hold personal data, and in %d it is replaced by its hash.\n", n.Full, n.Redacted)
	}
	for _, k := range r.Keys {
		fmt.Fprintf(out, "key %s of %s (%d checkpoints): ", k.Fingerprint, clean(k.Agent), k.Checkpoints)
		switch k.Trust {
		case evidence.TrustGiven:
			fmt.Fprintln(out, "you gave it")
		case evidence.TrustEndorsed:
			fmt.Fprintln(out, "endorsed by the key before it")
		default:
			fmt.Fprintf(out, "trusted only because it came first.\n  Compare it with what \"lanepost key show\" says on the agent's box, then give --key %s\n", k.PublicKey)
		}
	}
	if len(r.Keys) == 0 && r.Totals.Events > 0 {
		fmt.Fprintln(out, "No checkpoint of a known key: nothing proves who recorded this.")
	}
	count := map[evidence.Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		text := f.Text
		if where := f.Where(); where != "" {
			text = where + ": " + text
		}
		fmt.Fprintf(out, "\n%s, %s: %s\n  %s\n", f.Severity, f.Kind, clean(text), f.Meaning)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "\nand %d more findings\n", r.More)
	}
	fmt.Fprintln(out)
	if count[evidence.Error]+count[evidence.Warning] == 0 {
		fmt.Fprintln(out, "Nothing wrong was found.")
		return
	}
	fmt.Fprintf(out, "errors: %d, warnings: %d, notes: %d\n", count[evidence.Error], count[evidence.Warning], count[evidence.Note])
}
