// Package capture is the file that holds what a device sent: each read of its link, byte
// for byte, with its time. A file is JSON on lines, so that a person can read it and the
// tools for text can search it:
//
//	{"capture":1,"site":"medyka","lane":"entry-3","device":"rpm-1","profile":"rapiscan-tsa",...}
//	{"at":"2026-03-14T10:00:00.08Z","text":"GB,000401,000406,000436,000436\r\n"}
//	{"at":"2026-03-14T10:00:05.3Z","base64":"AQMCAAG5yw=="}
//	{"at":"2026-03-14T10:01:07Z","mark":"parted"}
//	{"at":"2026-03-14T10:01:30Z","end":"signal: interrupt","reads":2,"bytes":39}
//
// The last line counts what is above it. A file without it was cut off, by a loss of power
// for instance, and is read as far as it goes.
//
// The package also reads the daily files that an agent writes of portals, see Lines.
package capture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"
)

// Version is the version of the format. A reader takes no other; what a later one adds to
// this version, it passes over.
const Version = 1

// Bounds of a file.
const (
	// MaxRead bounds the bytes of one entry. A longer read is written as several entries
	// with one time.
	MaxRead = 64 << 10
	// maxLine bounds a line in bytes: of a read that is text, at most a quarter takes six
	// bytes for one, and the rest two.
	maxLine = 256 << 10
	// maxHeader bounds the first line, and maxWhy a text that gives a reason.
	maxHeader = 16 << 10
	maxWhy    = 1 << 10
)

// Header says what was captured.
type Header struct {
	// Site, Lane and Device name it as the events do, Profile is the firmware profile, and
	// Connect the link without secrets. Any may be empty.
	Site    string `json:"site,omitempty"`
	Lane    string `json:"lane,omitempty"`
	Device  string `json:"device,omitempty"`
	Profile string `json:"profile,omitempty"`
	Connect string `json:"connect,omitempty"`
	// Begun is when this file was begun, and Part counts the files of one recording from 1.
	Begun time.Time `json:"begun"`
	Part  int       `json:"part"`
	// Via is "agent" if a running agent read the device and gave a copy, and "link" if the
	// recording had the link for itself.
	Via string `json:"via,omitempty"`
	// ClockSync tells whether the box's clock was synchronised: "yes", "no" or "unknown".
	// ClockMaxErrorMs bounds its error in milliseconds; nil when unknown.
	ClockSync       string `json:"clock_sync,omitempty"`
	ClockMaxErrorMs *int64 `json:"clock_max_error_ms,omitempty"`
	// Program is what wrote the file, with its version.
	Program string `json:"program,omitempty"`
}

// Mark is something that happened to the link or the recording.
type Mark string

// Marks. A reader passes over those that it does not know.
const (
	// Opened: the link was opened, or the instrument has connected.
	Opened Mark = "opened"
	// Parted: the link has ended.
	Parted Mark = "parted"
	// Lost: something that came is not in the file, at this place.
	Lost Mark = "lost"
)

// Entry is one read of the link, or a mark.
type Entry struct {
	// At is the time by the wall clock of the box, to the nanosecond. It goes back when
	// the clock was set back.
	At time.Time
	// Conn counts the connections where an instrument makes several, from 1; 0 where there
	// is one at a time.
	Conn int
	// Bytes are what was read; none for a mark.
	Bytes []byte
	Mark  Mark
	// Why is the reason for a mark, for people; it may be empty.
	Why string
	// LostReads and LostBytes say how much a Lost stands for; 0 if that is not known.
	LostReads, LostBytes int64
}

// End is what the last line says.
type End struct {
	At time.Time
	// Reason is why the file ends. Rotated: another part follows.
	Reason string
	// Reads and Bytes count what is in the file, Holes the marks Lost.
	Reads, Bytes, Holes int64
}

// Rotated is the reason of a file that is followed by another part.
const Rotated = "rotated"

// Errors of a Reader. Both come after the last entry that could be read.
var (
	// ErrCut: the file has no last line.
	ErrCut = errors.New("the file was cut off: its last line is missing, and with it whatever came after the time above")
	// ErrCounts: the last line counts another number than is there.
	ErrCounts = errors.New("lines of the file are missing or were changed")
)

// first, entry and last are the lines as JSON.
type first struct {
	Capture int `json:"capture"`
	Header
}

type entry struct {
	At     string  `json:"at"`
	Conn   int     `json:"conn,omitempty"`
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
	Mark   Mark    `json:"mark,omitempty"`
	Why    string  `json:"why,omitempty"`
	End    string  `json:"end,omitempty"`
	Reads  int64   `json:"reads,omitempty"`
	Bytes  int64   `json:"bytes,omitempty"`
	Holes  int64   `json:"holes,omitempty"`
}

// Writer writes a file. Each call is one write of whole lines, so that a file that is cut
// off ends with a whole line, or with a part of one.
type Writer struct {
	w    io.Writer
	end  End
	size int64
}

// NewWriter writes the first line. The header's times are written in UTC.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Begun = h.Begun.UTC()
	line, err := encode(first{Version, h})
	if err != nil {
		return nil, fmt.Errorf("begin a capture: %w", err)
	}
	if len(line) > maxHeader {
		return nil, fmt.Errorf("begin a capture: its first line would have %d bytes, at most %d are allowed", len(line), maxHeader)
	}
	c := &Writer{w: w}
	return c, c.write(line)
}

// Size is how many bytes were written.
func (c *Writer) Size() int64 { return c.size }

// Add writes an entry.
func (c *Writer) Add(e Entry) error {
	if e.Mark != "" || len(e.Bytes) == 0 {
		if e.Mark == "" {
			return nil // nothing came
		}
		line, err := encode(entry{At: stamp(e.At), Conn: e.Conn, Mark: e.Mark, Why: cutText(e.Why), Reads: e.LostReads, Bytes: e.LostBytes})
		if err != nil {
			return fmt.Errorf("write to a capture: %w", err)
		}
		if e.Mark == Lost {
			c.end.Holes++
		}
		return c.write(line)
	}
	var lines []byte
	for b := e.Bytes; len(b) > 0; {
		n := min(len(b), MaxRead)
		l := entry{At: stamp(e.At), Conn: e.Conn}
		if readable(b[:n]) {
			text := string(b[:n])
			l.Text = &text
		} else {
			l.Base64 = b[:n]
		}
		line, err := encode(l)
		if err != nil {
			return fmt.Errorf("write to a capture: %w", err)
		}
		lines = append(lines, line...)
		c.end.Reads++
		c.end.Bytes += int64(n)
		b = b[n:]
	}
	return c.write(lines)
}

// End writes the last line.
func (c *Writer) End(at time.Time, reason string) error {
	if reason == "" {
		reason = "ended"
	}
	line, err := encode(entry{
		At: stamp(at), End: cutText(reason), Reads: c.end.Reads, Bytes: c.end.Bytes, Holes: c.end.Holes,
	})
	if err != nil {
		return fmt.Errorf("end a capture: %w", err)
	}
	return c.write(line)
}

func (c *Writer) write(lines []byte) error {
	n, err := c.w.Write(lines)
	c.size += int64(n)
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func cutText(s string) string {
	if len(s) > maxWhy {
		s = s[:maxWhy] + "..."
	}
	return s
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// readable reports whether bytes are better read as text. Up to a quarter may be control
// characters, as in frames between STX and ETX; JSON escapes those. What a terminal would
// not show as it is, or in another order, is no text.
func readable(b []byte) bool {
	controls := 0
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError: // also the character of that name, so that none stands for damage
			return false
		case r == '\r', r == '\n', r == '\t', unicode.IsPrint(r):
		case r < ' ':
			controls++
		default:
			return false
		}
		rest = rest[n:]
	}
	return controls*4 <= len(b)
}

// Reader reads a file from its beginning to its end, in the memory of one line.
type Reader struct {
	in     *bufio.Reader
	header Header
	line   int
	seen   End
	end    *End
	failed error
}

// NewReader reads the first line.
func NewReader(r io.Reader) (*Reader, error) {
	c := &Reader{in: bufio.NewReaderSize(r, maxLine)}
	line, err := c.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, err
	}
	var f first
	if err := decode(line, &f); err != nil || f.Capture == 0 {
		return nil, errors.New("the file is no capture: its first line is not that of one")
	}
	if f.Capture != Version {
		return nil, fmt.Errorf("the capture is of version %d, and this program reads version %d; take a newer program", f.Capture, Version)
	}
	c.header = f.Header
	return c, nil
}

// Header is what the first line says.
func (c *Reader) Header() Header { return c.header }

// Line is the number of the line that was read last, from 1.
func (c *Reader) Line() int { return c.line }

// End is what the last line says; nil before it was read, and for a file that has none.
func (c *Reader) End() *End { return c.end }

// Next gives the next entry. After the last it returns io.EOF, ErrCut or ErrCounts
// (wrapped), or what is wrong with a line; it then goes on returning that.
func (c *Reader) Next() (Entry, error) {
	if c.failed != nil {
		return Entry{}, c.failed
	}
	e, err := c.entry()
	if err != nil {
		c.failed = err
	}
	return e, err
}

func (c *Reader) entry() (Entry, error) {
	line, err := c.next()
	if errors.Is(err, io.EOF) {
		return Entry{}, ErrCut
	}
	if err != nil {
		return Entry{}, err
	}
	e, end, err := parse(line)
	if err != nil {
		if line[len(line)-1] != '\n' {
			return Entry{}, ErrCut // a part of a line
		}
		return Entry{}, fmt.Errorf("line %d of the capture: %w", c.line, err)
	}
	switch {
	case end != nil:
		return Entry{}, c.finish(*end)
	case e.Mark == Lost:
		c.seen.Holes++
	case e.Mark != "":
	default:
		c.seen.Reads++
		c.seen.Bytes += int64(len(e.Bytes))
	}
	return e, nil
}

// finish is called with the last line.
func (c *Reader) finish(end End) error {
	c.end = &end
	if _, err := c.in.ReadByte(); err == nil {
		return fmt.Errorf("line %d of the capture: more follows behind its last line", c.line+1)
	}
	if end.Reads != c.seen.Reads || end.Bytes != c.seen.Bytes || end.Holes != c.seen.Holes {
		return fmt.Errorf("%w: its last line counts %d reads and %d bytes, and %d and %d are there",
			ErrCounts, end.Reads, end.Bytes, c.seen.Reads, c.seen.Bytes)
	}
	return io.EOF
}

// next reads a line, with its end unless the file ends without.
func (c *Reader) next() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("line %d of the capture has more than %d bytes", c.line+1, maxLine)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read the capture after line %d: %w", c.line, err)
	case len(line) == 0:
		return nil, io.EOF
	}
	c.line++
	return line, nil
}

func decode(line []byte, into any) error {
	if !utf8.Valid(line) {
		return errors.New("it is not UTF-8") // the decoder would put another character in place
	}
	return json.Unmarshal(line, into)
}

func parse(line []byte) (Entry, *End, error) {
	var l entry
	if err := decode(line, &l); err != nil {
		return Entry{}, nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, l.At)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("at: %w", err)
	}
	at = at.UTC()
	e := Entry{At: at, Conn: l.Conn, Mark: l.Mark, Why: l.Why}
	kinds := 0
	if l.Text != nil {
		e.Bytes = []byte(*l.Text)
		kinds++
	}
	if l.Base64 != nil {
		e.Bytes = l.Base64
		kinds++
	}
	if l.Mark != "" {
		e.LostReads, e.LostBytes = l.Reads, l.Bytes
		kinds++
	}
	if l.End != "" {
		kinds++
	}
	switch {
	case kinds != 1:
		return Entry{}, nil, errors.New("want one of text, base64, mark and end")
	case l.End != "":
		return Entry{}, &End{At: at, Reason: l.End, Reads: l.Reads, Bytes: l.Bytes, Holes: l.Holes}, nil
	case l.Mark == "" && (len(e.Bytes) == 0 || len(e.Bytes) > MaxRead):
		return Entry{}, nil, fmt.Errorf("it has %d bytes, want 1 to %d", len(e.Bytes), MaxRead)
	case l.Conn < 0 || l.Reads < 0 || l.Bytes < 0:
		return Entry{}, nil, errors.New("a number is negative")
	}
	return e, nil, nil
}
