package tsa

import (
	"bytes"
	"fmt"
)

// MaxLine bounds a line, without its end. The longest record that is known has
// 55 characters; with the longest time column it stays below 100.
const MaxLine = 256

// maxWhole is the longest line with its guard '#' in front and the '\r' behind.
const maxWhole = MaxLine + 2

// maxRun is how many bytes without a line end make one report; a stream that
// never ends a line is reported again and again, and not only at its end.
const maxRun = 16 * MaxLine

// headKept is how much of an over-long line is kept to show.
const headKept = 64

// Splitter cuts a stream of bytes into lines, the same ones however the stream
// is cut into Writes. Call Next until it gives none after each Write: memory is
// then bounded by MaxLine and the size of one Write. The zero value is ready to use; Reset it for a new
// connection, because the first line after joining may be the tail of a record.
type Splitter struct {
	buf     []byte // bytes that are not yet given out
	at      int    // how far they are
	long    bool   // inside of a line that is too long
	skipped int    // how much of it is not yet reported
	cr      bool   // its last byte so far is '\r', which may belong to the line end
	head    []byte // its first bytes
	started bool   // a line end has been seen since Reset
	wire    []byte // the last line with its end
}

// Line is one line of the stream.
type Line struct {
	// Bytes is the line without its end, and without the '#' that ends a
	// guarded frame. It is valid until the next Write or Reset.
	Bytes []byte
	// Problem says why the line can't be a record; empty if it may be one.
	Problem string
	// First is true for the first line since Reset. It may be the tail of a
	// record that was cut by joining; if it does not parse, that is no fault.
	First bool
	// Long is true for an over-long line, of which Bytes is the first bytes only.
	Long bool
}

// Reset forgets what is buffered, for a new connection.
func (s *Splitter) Reset() {
	*s = Splitter{buf: s.buf[:0], head: s.head[:0]}
}

// Write takes bytes as they come. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	if s.at > 0 {
		s.buf = append(s.buf[:0], s.buf[s.at:]...)
		s.at = 0
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

// Next gives the next whole line, or false if there is none yet. Empty lines
// are passed over.
func (s *Splitter) Next() (Line, bool) {
	for {
		rest := s.buf[s.at:]
		if s.long {
			if l, ok := s.skip(rest); ok {
				return l, true
			}
			if s.long {
				return Line{}, false
			}
			continue
		}
		end := bytes.IndexByte(rest, '\n')
		if end > maxWhole || end < 0 && len(rest) > maxWhole {
			s.long = true
			s.at += guard(rest)
			continue
		}
		if end < 0 {
			return Line{}, false
		}
		line := bytes.TrimRight(rest[:end], "\r")
		// The guard '#' comes behind the line end of its record, and so stands
		// before the next one.
		line = line[guard(line):]
		if len(line) > MaxLine {
			s.long = true
			s.at += guard(rest)
			continue
		}
		s.at += end + 1
		s.wire = rest[:end+1]
		first := !s.started
		s.started = true
		if len(line) == 0 {
			continue
		}
		l := Line{Bytes: line, First: first}
		if err := printable(line); err != nil {
			l.Problem = err.Error()
		}
		return l, true
	}
}

// guard is how many bytes the '#' before a line takes.
func guard(line []byte) int {
	if len(line) > 0 && line[0] == '#' {
		return 1
	}
	return 0
}

// Wire is the line that Next gave last byte for byte, with its end. A '#' at its
// beginning closed the guarded frame before. It is valid as long as that line,
// and of an over-long one also the first bytes only.
func (s *Splitter) Wire() []byte { return s.wire }

// tooLong reports what was skipped.
func (s *Splitter) tooLong() Line {
	l := Line{
		Bytes: s.head, First: !s.started,
		Problem: fmt.Sprintf("%d bytes without a line end, want at most %d", s.skipped, MaxLine),
		Long:    true,
	}
	s.wire = s.head
	s.started = true
	s.skipped = 0
	return l
}

// skip passes over a line that is too long, up to its end or to what makes one
// report, keeps the first bytes, and gives the report if there is one.
func (s *Splitter) skip(rest []byte) (Line, bool) {
	if s.skipped == 0 {
		s.head = s.head[:0]
	}
	end := bytes.IndexByte(rest, '\n')
	p := rest
	if end >= 0 {
		p = rest[:end]
	}
	p = p[:min(len(p), maxRun-s.skipped)]
	if room := headKept - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
	if len(p) > 0 {
		s.cr = p[len(p)-1] == '\r'
	}
	s.skipped += len(p)
	s.at += len(p)
	switch {
	case s.skipped == maxRun:
		return s.tooLong(), true
	case end < 0:
		return Line{}, false
	}
	s.at++
	s.long = false
	if s.cr && s.skipped > 0 {
		s.skipped--
		s.head = s.head[:min(len(s.head), s.skipped)]
	}
	s.cr = false
	if s.skipped == 0 {
		return Line{}, false // reported already
	}
	return s.tooLong(), true
}
