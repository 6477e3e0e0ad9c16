package capture

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
)

// Source gives the entries of a capture or of a daily file.
type Source struct {
	capture *Reader
	lines   *Lines
	began   time.Time
	timed   bool
	marks   []Entry // of the last note, to be given
}

// undated is when a daily file begins that tells no date.
var undated = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// Is reports whether a file that begins so is a capture. It wants no more than its first
// 32 bytes.
func Is(begin []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(begin, " \t"), []byte(`{"capture":`))
}

// Open finds out what a file is and reads its beginning.
func Open(r io.Reader) (*Source, error) {
	in := bufio.NewReaderSize(r, MaxLine)
	begin, err := in.Peek(MaxLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case Is(begin):
		c, err := NewReader(in)
		if err != nil {
			return nil, err
		}
		return &Source{capture: c, began: c.header.Begun}, nil
	case len(begin) == 0:
		return nil, errors.New("the file is empty")
	}
	s := &Source{lines: NewLines(in)}
	s.began, s.timed = firstTime(begin)
	return s, nil
}

// firstTime is the first full time in the beginning of a daily file, and whether any line
// has a time.
func firstTime(begin []byte) (at time.Time, timed bool) {
	for l := NewLines(bytes.NewReader(begin)); ; {
		v, err := l.Next()
		if err != nil {
			return undated, timed
		}
		timed = timed || v.Timed
		if !v.Time.IsZero() {
			return v.Time.UTC(), true
		}
	}
}

// Timed reports whether its times are known: those of a capture are, and those of a daily file
// whose lines end in one. Without, it may be any text.
func (s *Source) Timed() bool { return s.capture != nil || s.timed }

// Daily reports whether it is a daily file.
func (s *Source) Daily() bool { return s.lines != nil }

// Header is that of a capture; of a daily file only Begun is known.
func (s *Source) Header() Header {
	if s.capture != nil {
		return s.capture.Header()
	}
	return Header{Begun: s.began}
}

// End is that of a capture, see Reader.End.
func (s *Source) End() *End {
	if s.capture != nil {
		return s.capture.End()
	}
	return nil
}

// Next gives the next entry, as Reader.Next does. Of a daily file each line is a read at
// the time that its column tells, and the agent's notes are the marks of what they say.
func (s *Source) Next() (Entry, error) {
	if s.capture != nil {
		return s.capture.Next()
	}
	for {
		if len(s.marks) > 0 {
			e := s.marks[0]
			s.marks = s.marks[1:]
			return e, nil
		}
		l, err := s.lines.Next()
		if err != nil {
			return Entry{}, err
		}
		e := Entry{At: s.began.Add(l.After)}
		if l.Note == "" {
			e.Bytes = bytes.Clone(l.Wire)
			return e, nil
		}
		for _, mark := range marksOf(l.Note) {
			e.Mark, e.Why = mark, l.Note
			s.marks = append(s.marks, e)
		}
	}
}

// Beginnings of the notes in daily files. Before NoteGap stands how many lines there were.
const (
	NoteLong    = "a line of "
	NoteLost    = "a line is lost"
	NoteNoEnd   = "the line above is not whole"
	NoteGap     = " lines ("
	NotePartIn  = "the link ended in a line"
	NoteParted  = "the link ended"
	NoteEndedIn = "the recording ended in a line"
	NoteAnew    = "the agent began anew"
)

// noteMarks are what notes stand for; the first that fits counts.
var noteMarks = []struct {
	begins string
	marks  []Mark
}{
	{NoteLong, []Mark{Lost}}, {NoteLost, []Mark{Lost}}, {NoteNoEnd, []Mark{Lost}}, {NoteGap, []Mark{Lost}},
	{NotePartIn, []Mark{Lost, Parted}}, {NoteParted, []Mark{Parted}}, {NoteEndedIn, []Mark{Lost}}, {NoteAnew, []Mark{Parted}},
}

// marksOf are what a note of a daily file stands for.
func marksOf(note string) []Mark {
	note = strings.TrimLeft(note, "0123456789")
	for _, n := range noteMarks {
		if strings.HasPrefix(note, n.begins) {
			return n.marks
		}
	}
	return nil
}
