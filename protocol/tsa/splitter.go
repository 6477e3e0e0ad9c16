package tsa

import (
	"bytes"
	"fmt"
)

// MaxLine bounds a line, without its end. The longest record that is known has
// 55 characters; with the longest time column it stays below 100.
const MaxLine = 256

// maxRun is how many bytes without a line end make one report; a stream that
// never ends a line is reported again and again, and not only at its end.
const maxRun = 16 * MaxLine

// headKept is how much of an over-long line is kept to show.
const headKept = 64

// Splitter cuts a stream of bytes into lines. Its memory is bounded by MaxLine
// and the size of a Write. The zero value is ready to use; Reset it for a new
// connection, because the first line after joining may be the tail of a record.
type Splitter struct {
	buf     []byte // bytes that are not yet given out
	at      int    // how far they are
	long    bool   // inside of a line that is too long
	skipped int    // how much of it is not yet reported
	head    []byte // its first bytes
	started bool   // a line end has been seen since Reset
	wire    []byte // the last line with its end
}

// Line is one line of the stream.
type Line struct {
	// Bytes is the line without its end, and without the '#' that ends a
	// guarded frame. It is valid until the next Write or Reset. Of an over-long
	// line it is the first bytes only.
	Bytes []byte
	// Problem says why the line can't be a record; empty if it may be one.
	Problem string
	// First is true for the first line since Reset. It may be the tail of a
	// record that was cut by joining; if it does not parse, that is no fault.
	First bool
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
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			// The '\r' of a line end, and a guard, may still come.
			if len(rest) > MaxLine+2 {
				s.long = true
				s.skip(rest)
				s.buf, s.at = s.buf[:0], 0
				if s.skipped >= maxRun {
					return s.tooLong(), true
				}
			}
			return Line{}, false
		}
		s.at += end + 1
		line := rest[:end]
		s.wire = rest[:end+1]
		if s.long {
			s.skip(line)
			s.long = false
			if s.skipped == 0 {
				continue // reported already
			}
			return s.tooLong(), true
		}
		first := !s.started
		s.started = true
		line = bytes.TrimRight(line, "\r")
		// The guard '#' comes behind the line end of its record, and so stands
		// before the next one.
		line = bytes.TrimPrefix(line, []byte{'#'})
		if len(line) == 0 {
			continue
		}
		l := Line{Bytes: line, First: first}
		switch {
		case len(line) > MaxLine:
			l.Problem = fmt.Sprintf("%d bytes in one line, want at most %d", len(line), MaxLine)
			l.Bytes = line[:headKept]
			s.wire = l.Bytes
		default:
			for i, c := range line {
				if c < 0x20 || c > 0x7e {
					l.Problem = fmt.Sprintf("byte 0x%02x at position %d is not printable ASCII", c, i)
					break
				}
			}
		}
		return l, true
	}
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
	}
	s.wire = s.head
	s.started = true
	s.skipped = 0
	return l
}

// skip counts bytes of a line that is too long, and keeps its head.
func (s *Splitter) skip(p []byte) {
	if s.skipped == 0 {
		s.head = s.head[:0]
	}
	if room := headKept - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
	s.skipped += len(p)
}
