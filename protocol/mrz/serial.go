package mrz

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what a reader sends.
const (
	// maxLine bounds a line, in bytes.
	maxLine = 64
	// maxHead is how many bytes may stand before the name of a message: its length, which
	// some readers send and some do not.
	maxHead = 4
)

// ErrNothingRead says that a reader has sent a message in which no line is.
var ErrNothingRead = errors.New("the reader has sent a message without a line: it could not read the document")

// ParseMessage gives the lines of a message of a 3M RTE6701: what stands between SOH and ETX
// is
//
//	[length] "OU" STX flag line CR line CR line CR
//
// The zone's last line is always the third, and underscores pad. Whether there is a length,
// and what the flag says, is not published.
func ParseMessage(b []byte) ([]string, error) {
	at := bytes.Index(b, []byte("OU\x02"))
	if at < 0 || at > maxHead || len(b) < at+4 {
		return nil, errors.New("a message of the reader that is not known: it has no OU and STX at its beginning")
	}
	var lines []string
	for _, l := range strings.Split(string(b[at+4:]), "\r") {
		if l = strings.Trim(l, "_\n "); l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return nil, ErrNothingRead
	}
	return lines, nil
}

// AppendMessage writes the lines of a zone as such a message, without SOH, ETX and what stands
// behind them.
func AppendMessage(dst []byte, lines []string) []byte {
	dst = append(dst, "OU\x020"...)
	width := 0
	for _, l := range lines {
		width = max(width, len(l))
	}
	for len(lines) < 3 {
		lines = append([]string{strings.Repeat("_", width)}, lines...)
	}
	for _, l := range lines {
		dst = append(append(dst, l...), '\r')
	}
	return dst
}

// Splitter takes the zones out of a stream of lines, which end with CR, LF or both. The
// first line's length says how many lines a zone has.
type Splitter struct {
	line  []byte
	lines []string
	long  bool // the line is too long, and its rest is passed over
	zones []Zone
}

// Zone is one zone, or what is wrong. It tells nothing of what came.
type Zone struct {
	Lines   []string
	Problem string
}

// Write takes bytes as they come. It never fails.
func (s *Splitter) Write(b []byte) (int, error) {
	for _, c := range b {
		switch {
		case c == '\r' || c == '\n':
			s.end()
		case s.long:
		case len(s.line) == maxLine:
			s.problem("a line that is too long for a machine-readable zone")
			s.line, s.long = nil, true
		default:
			s.line = append(s.line, c)
		}
	}
	return len(b), nil
}

func (s *Splitter) problem(what string) {
	if n := len(s.lines); n > 0 {
		what += fmt.Sprintf("; %d lines of a zone are left out", n)
	}
	s.lines = nil
	s.zones = append(s.zones, Zone{Problem: what})
}

// end ends a line.
func (s *Splitter) end() {
	line := strings.Trim(string(s.line), " \x00")
	s.line = s.line[:0]
	if s.long {
		s.long = false
		return
	}
	if line == "" {
		return
	}
	wanted := map[int]int{30: 3, 36: 2, 44: 2}[len(line)]
	if wanted == 0 {
		s.problem(fmt.Sprintf("a line of %d characters, which no machine-readable zone has", len(line)))
		return
	}
	if len(s.lines) > 0 && len(s.lines[0]) != len(line) {
		s.problem("lines of different lengths")
	}
	if s.lines = append(s.lines, line); len(s.lines) == wanted {
		s.zones = append(s.zones, Zone{Lines: s.lines})
		s.lines = nil
	}
}

// Idle says that nothing comes any more of what was begun: the line was silent, or the
// connection ended.
func (s *Splitter) Idle() {
	s.end()
	if len(s.lines) > 0 {
		s.problem("a zone that was broken off")
	}
}

// Pending is how much waits for the rest of a zone.
func (s *Splitter) Pending() int {
	n := len(s.line)
	for _, l := range s.lines {
		n += len(l)
	}
	return n
}

// Next gives the next zone, or false if there is none yet.
func (s *Splitter) Next() (Zone, bool) {
	if len(s.zones) == 0 {
		return Zone{}, false
	}
	z := s.zones[0]
	s.zones = s.zones[1:]
	return z, true
}
