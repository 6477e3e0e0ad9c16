package daily

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/capture"
)

// Recorder writes the daily files of one device. Received and Parted never wait
// for the disk.
type Recorder struct {
	s    *Store
	name string

	mu      sync.Mutex
	partial []byte // of the line that is not ended yet, at most maxLine bytes
	beyond  int    // how many more of it came
	heard   bool   // something came since the link was opened
	queue   []piece
	queued  int // bytes in queue, and those that are being written
	gap     gap
	failed  string // why the disk took nothing the last time
	ended   bool

	// The rest belongs to the goroutine that writes.
	file     *os.File
	fileName string
	dir      string // where that is
	day      string // of the file, as YYYY-MM-DD
	size     int64  // of the file, as far as this recorder wrote it
	inLine   bool   // the file's last line has no end yet
}

// piece is some lines of one file.
type piece struct {
	set       *current
	file, day string
	b         []byte
}

// gap is what was left out since the last time that the disk took anything.
type gap struct {
	lines, bytes int
	from, to     time.Time
	why          string
}

// stamp is the time column.
func (r *Recorder) stamp(b []byte, at time.Time) []byte {
	at = at.In(r.s.set.Load().zone)
	layout := "2006-01-02 15:04:05.000 -07"
	if _, offset := at.Zone(); offset%3600 != 0 {
		layout += "00"
	}
	return at.AppendFormat(b, layout)
}

// Received takes bytes of the link, that came at a time. It does not keep b.
func (r *Recorder) Received(at time.Time, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.heard = r.heard || len(b) > 0
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			r.hold(b)
			return
		}
		r.hold(b[:end+1])
		r.line(at)
		b = b[end+1:]
	}
}

// hold keeps a part of a line.
func (r *Recorder) hold(b []byte) {
	n := min(len(b), maxLine-len(r.partial))
	r.partial = append(r.partial, b[:n]...)
	r.beyond += len(b) - n
}

// line takes the line that is complete. The time stands before the line end, so
// that without it the line is what was received, to the byte.
func (r *Recorder) line(at time.Time) {
	if r.beyond > 0 {
		r.note(at, fmt.Sprintf(capture.NoteLong+"%d bytes, which begins with %s", len(r.partial)+r.beyond, escaped(r.partial)))
	} else {
		body := bytes.TrimRight(r.partial, "\r\n")
		b := append(make([]byte, 0, len(r.partial)+40), body...)
		b = r.stamp(append(b, ','), at)
		r.put(at, append(b, r.partial[len(body):]...))
	}
	r.partial, r.beyond = r.partial[:0], 0
}

// escaped writes bytes so that they are text of one line.
func escaped(b []byte) string { return strconv.QuoteToASCII(string(b)) }

// Parted tells that the link has ended. A line that has no end yet is no line, and
// is kept in a note.
func (r *Recorder) Parted(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended || !r.heard:
	case r.beyond > 0:
		r.note(at, fmt.Sprintf(capture.NotePartIn+" of %d bytes, which begins with %s", len(r.partial)+r.beyond, escaped(r.partial)))
	case len(r.partial) > 0:
		r.note(at, capture.NotePartIn+", of which there is "+escaped(r.partial))
	default:
		r.note(at, capture.NoteParted)
	}
	r.heard = false
	r.partial, r.beyond = r.partial[:0], 0
}

// End tells that the device is no longer recorded. What waits is still written, and a
// line that has no end yet is kept in a note.
func (r *Recorder) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended && len(r.partial) > 0 {
		r.note(r.s.o.Now(), fmt.Sprintf(capture.NoteEndedIn+" of %d bytes, which begins with %s", len(r.partial)+r.beyond, escaped(r.partial)))
	}
	r.ended, r.heard = true, false
	r.partial, r.beyond = r.partial[:0], 0
}

func (r *Recorder) noteText(at time.Time, text string) []byte {
	b := append(r.stamp([]byte(Note), at), ' ')
	return append(append(b, text...), "\r\n"...)
}

func (r *Recorder) note(at time.Time, text string) { r.put(at, r.noteText(at, text)) }

// put queues a line, or counts it as left out. Once one is left out all are, until
// the disk takes what waits: so there is one gap, and it is where the note is.
func (r *Recorder) put(at time.Time, line []byte) {
	if r.gap.lines > 0 || r.queued+len(line) > maxQueue {
		if r.gap.lines == 0 {
			r.gap.from, r.gap.why = at, r.failed
		}
		r.gap.lines++
		r.gap.bytes += len(line)
		r.gap.to = at
		return
	}
	set := r.s.set.Load()
	local := at.In(set.zone)
	year, month, day := local.Date()
	date := local.Format(time.DateOnly)
	if last := len(r.queue) - 1; last >= 0 && r.queue[last].set == set && r.queue[last].day == date {
		r.queue[last].b = append(r.queue[last].b, line...)
	} else {
		midnight := time.Date(year, month, day, 0, 0, 0, 0, set.zone)
		r.queue = append(r.queue, piece{set, r.name + "-" + date + midnight.Format("-0700") + ".csv", date, line})
	}
	r.queued += len(line)
}

// flush writes what waits, unless the disk is short, and ends the file of a day that
// is over. It says whether a file was begun or ended.
func (r *Recorder) flush(now time.Time, short bool) (turned bool, err error) {
	for !short {
		p, ok := r.take()
		if !ok {
			break
		}
		began := p.file != r.fileName || p.set.Dir != r.dir
		n, err := r.write(p, now)
		turned = turned || began
		r.mu.Lock()
		r.queued -= n
		if err != nil {
			r.failed = err.Error()
			p.b = p.b[n:]
			r.queue = append([]piece{p}, r.queue...)
		}
		r.mu.Unlock()
		if err != nil {
			return turned, err
		}
	}
	r.mu.Lock()
	if short {
		r.failed = "the disk is nearly full"
	}
	over := r.file != nil && len(r.queue) == 0 && (r.ended || r.day != now.In(r.s.set.Load().zone).Format(time.DateOnly))
	r.mu.Unlock()
	if over {
		return true, r.closeFile()
	}
	return turned, nil
}

// take gives the next piece to write; the note of a gap when all before it is
// written.
func (r *Recorder) take() (piece, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.gap; len(r.queue) == 0 && g.lines > 0 {
		r.gap = gap{}
		r.note(g.to, fmt.Sprintf("%d"+capture.NoteGap+"%d bytes) are left out, from %s to %s: %s", g.lines, g.bytes,
			r.stamp(nil, g.from), r.stamp(nil, g.to), oneLine(g.why)))
	}
	if len(r.queue) == 0 {
		return piece{}, false
	}
	p := r.queue[0]
	r.queue = r.queue[1:]
	return p, true
}

func oneLine(s string) string {
	if s == "" {
		s = "more came than could be written"
	}
	return strings.Join(strings.Fields(s), " ")
}

// write appends to the file of a piece, and says how much of it was taken.
func (r *Recorder) write(p piece, now time.Time) (int, error) {
	if r.file != nil && (r.fileName != p.file || r.dir != p.set.Dir) {
		if err := r.closeFile(); err != nil {
			return 0, err
		}
	}
	cut := 0
	if r.file == nil {
		var err error
		if cut, err = r.openFile(p, now); err != nil {
			return cut, err
		}
	}
	n, err := r.append(p.b[cut:])
	return cut + n, err
}

func (r *Recorder) append(b []byte) (int, error) {
	n, err := r.file.Write(b)
	r.size += int64(n)
	if n > 0 {
		r.inLine = b[n-1] != '\n'
	}
	if err != nil {
		// It may work with another file under the same name, when the disk was mounted
		// anew.
		_ = r.file.Close() // the write has failed already
		r.file = nil
		return n, fmt.Errorf("write %s: %w", r.path(), err)
	}
	return n, nil
}

func (r *Recorder) path() string { return filepath.Join(r.dir, r.fileName) }

// openFile opens the file of a piece at its end. If it is not as this recorder left
// it, cut is how many bytes of the piece are the rest of a line that is not there.
func (r *Recorder) openFile(p piece, now time.Time) (cut int, err error) {
	if err := os.MkdirAll(p.set.Dir, 0o750); err != nil {
		return 0, fmt.Errorf("make the directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(p.set.Dir, p.file), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return 0, err // it names the file
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing was written
		return 0, err
	}
	again := p.file == r.fileName && p.set.Dir == r.dir
	known := again && info.Size() == r.size
	lost := again && !known && r.inLine
	r.file, r.fileName, r.dir, r.day, r.size = f, p.file, p.set.Dir, p.day, info.Size()
	if known {
		return 0, nil
	}
	r.inLine = false
	var b []byte
	if info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] != '\n' {
			b = append([]byte("\r\n"), r.noteText(now, capture.NoteNoEnd)...)
		}
		b = append(b, r.noteText(now, capture.NoteAnew+" to write this file")...)
	}
	if lost {
		cut = bytes.IndexByte(p.b, '\n') + 1
		b = append(b, r.noteText(now, capture.NoteLost+", with the end "+escaped(p.b[:cut]))...)
	}
	if len(b) == 0 {
		return cut, nil
	}
	_, err = r.append(b)
	return cut, err
}

// closeFile makes a file durable and closes it.
func (r *Recorder) closeFile() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Sync()
	if closeErr := r.file.Close(); err == nil {
		err = closeErr
	}
	r.file = nil
	if err != nil {
		return fmt.Errorf("end %s: %w", r.path(), err)
	}
	return nil
}
