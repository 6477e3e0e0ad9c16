package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxLine bounds how much of a line of a daily file is read at once, in bytes.
const MaxLine = 64 << 10

// Note begins a line of an agent's daily file that did not come from the device.
const Note = "# lanepost: "

// Line is a line of a daily file.
type Line struct {
	// After is how long after the first time of the file it came. A line without a time
	// came with the one before.
	After time.Duration
	// Time is what the time column says; zero if there is none, or one without a date.
	Time  time.Time
	Timed bool
	// Whole is the line as it stands, Wire what the device sent: without the time column,
	// with the line end.
	Whole, Wire []byte
	// Note is what the agent noted, without its time; Wire is empty then.
	Note string
	// Begins is false for the second and later pieces of a line that is too long to be
	// read at once. A piece has no time.
	Begins bool
}

// Lines reads recorded lines with the time of each as a last column, in either form
// (",HH-MM-SS.mmm" or ",YYYY-MM-DD HH:MM:SS.mmm -07", also with the minutes of the zone). A
// time that goes back makes no pause, but over midnight in the first form. Lines that begin
// with Note and have no time at their end are notes.
type Lines struct {
	in      *bufio.Reader
	count   int
	after   time.Duration
	last    timeColumn
	inPiece bool
}

// NewLines reads r, which has no other reader.
func NewLines(r io.Reader) *Lines { return &Lines{in: bufio.NewReaderSize(r, MaxLine)} }

// Next gives the next line, whose bytes are good until the call after; io.EOF at the end.
func (l *Lines) Next() (Line, error) {
	text, err := l.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return Line{}, fmt.Errorf("read the recording after line %d: %w", l.count, err)
	}
	if len(text) == 0 {
		return Line{}, io.EOF
	}
	long := errors.Is(err, bufio.ErrBufferFull)
	whole := !long && !l.inPiece
	v := Line{Whole: text, Wire: text, Begins: !l.inPiece}
	if !l.inPiece {
		l.count++
	}
	l.inPiece = long
	if whole {
		l.column(&v)
	}
	v.After = l.after
	return v, nil
}

func (l *Lines) column(v *Line) {
	body := bytes.TrimRight(v.Whole, "\r\n")
	end := v.Whole[len(body):]
	if comma := bytes.LastIndexByte(body, ','); comma >= 0 {
		if t, ok := parseTimeColumn(body[comma+1:]); ok {
			v.Timed = true
			if !t.daily {
				v.Time = t.at
			}
			l.after += t.since(l.last)
			l.last = t
			v.Wire = append(bytes.Clone(body[:comma]), end...)
			return
		}
	}
	if note, ok := bytes.CutPrefix(body, []byte(Note)); ok {
		v.Wire = nil
		v.Note = string(note)
		// "2026-03-14 11:59:00.000 +02 the link ended"
		if words := bytes.SplitN(note, []byte(" "), 4); len(words) == 4 {
			v.Note = string(words[3])
		}
	}
}

// timeColumn is a time at the end of a line.
type timeColumn struct {
	known bool
	daily bool // only the time of day is known
	at    time.Time
}

// timeColumnLayouts are the forms of the time column; the daily one first.
var timeColumnLayouts = [...]string{"15-04-05.000", "2006-01-02 15:04:05.000 -07", "2006-01-02 15:04:05.000 -0700"}

func parseTimeColumn(b []byte) (timeColumn, bool) {
	for i, layout := range timeColumnLayouts {
		if len(b) != len(layout) {
			continue
		}
		if t, err := time.Parse(layout, string(b)); err == nil {
			return timeColumn{known: true, daily: i == 0, at: t}, true
		}
	}
	return timeColumn{}, false
}

// halfDay parts a clock that passed midnight from one that was set back.
const halfDay = 12 * time.Hour

// since is the pause after the line before.
func (t timeColumn) since(before timeColumn) time.Duration {
	if !before.known || before.daily != t.daily {
		return 0
	}
	d := t.at.Sub(before.at)
	if t.daily && d < -halfDay {
		d += 24 * time.Hour
	}
	return max(0, d)
}
