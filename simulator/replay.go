package simulator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// maxReplayPiece bounds how much of a line is read at once; a longer line is
// sent in pieces and has no time.
const maxReplayPiece = 64 << 10

// ReplayOptions say how a recorded file is played.
type ReplayOptions struct {
	// Speed is how much faster than recorded; 1 keeps the pauses of the file, 0
	// is as fast as the client reads.
	Speed float64
	// KeepTime leaves the time column in; the wire has none.
	KeepTime bool
	// Log is where the replay logs; nil is nowhere.
	Log *slog.Logger
}

// Replayed says what a replay did.
type Replayed struct {
	// Lines is how many lines the file has, Timed how many of them have a time.
	Lines, Timed int
	// Bytes is how many bytes a client got, LostLines how many lines nobody
	// got.
	Bytes     int64
	LostLines int
}

// Replay plays a recorded daily file onto a connection: each line byte for byte
// with its line end, after the pauses that the times at the end of the lines
// tell, in either form (",HH-MM-SS.mmm" or ",YYYY-MM-DD HH:MM:SS.mmm -07", also with the minutes of the zone),
// without that time column. A line without a time follows the one before at
// once; a time that goes back makes no pause, but over midnight in the first
// form. Lines that begin with "# lanepost: " and have no time at their end are an
// agent's notes in its daily file, and are left out. It does not close conn.
func Replay(ctx context.Context, r io.Reader, conn io.Writer, opts ReplayOptions) (Replayed, error) {
	return replay(ctx, newRecording(r, opts.KeepTime), given{conn}, opts)
}

func replay(ctx context.Context, rec *recording, l link, opts ReplayOptions) (Replayed, error) {
	if opts.Speed < 0 {
		return Replayed{}, fmt.Errorf("a speed of %v; want 1 for the pauses of the file, more for faster, 0 for as fast as possible", opts.Speed)
	}
	counted := &countingLink{link: l}
	p := &player{stream: rec, link: counted, speed: opts.Speed, log: opts.log(), tell: func(Entry) {}}
	err := p.play(ctx)
	return Replayed{Lines: rec.lines, Timed: rec.timed, Bytes: counted.bytes, LostLines: counted.lost}, err
}

func (o ReplayOptions) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// countingLink counts what goes over a link.
type countingLink struct {
	link
	bytes int64
	lost  int
}

func (c *countingLink) send(ctx context.Context, b []byte) (bool, error) {
	sent, err := c.link.send(ctx, b)
	if sent {
		c.bytes += int64(len(b))
	} else {
		c.lost++
	}
	return sent, err
}

// Replayer is a file that is played to whoever connects.
type Replayer struct {
	// Connect is where a client reaches it, for instance tcp://127.0.0.1:1600
	// or serial:/dev/pts/5.
	Connect string

	cancel context.CancelFunc
	link   link
	done   chan struct{}
	result Replayed
	err    error
}

// ReplayListen opens a listener ("tcp://HOST:PORT", "pty:" or "pty:PATH"),
// waits for a client, plays the file to it once as Replay does, and closes. A
// client that leaves loses the lines that fall due without it; at speed 0 the
// file waits for the next client. On darwin nobody can see a client open a
// pseudo-terminal, and the file starts at once.
func ReplayListen(ctx context.Context, r io.Reader, listen string, opts ReplayOptions) (*Replayer, error) {
	address, err := parseListen(listen)
	if err != nil {
		return nil, err
	}
	l, err := openLink(address, opts.log(), func(string) {})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &Replayer{Connect: l.connect(), cancel: cancel, link: l, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { _ = l.close(false) }) // the close below reports
		defer stop()
		if p.err = l.client(ctx); p.err == nil {
			p.result, p.err = replay(ctx, newRecording(r, opts.KeepTime), l, opts)
		}
		if ctx.Err() != nil && errors.Is(p.err, net.ErrClosed) {
			p.err = ctx.Err() // the link was closed for it, and that was seen first
		}
		err := l.close(p.err == nil)
		if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
			err = nil // by the end of ctx, a moment earlier
		}
		p.err = errors.Join(p.err, err)
	}()
	return p, nil
}

// Wait returns when the file is played and the client has it all, or when the
// replay was ended otherwise.
func (p *Replayer) Wait() (Replayed, error) {
	<-p.done
	return p.result, p.err
}

// Close ends the replay.
func (p *Replayer) Close() error {
	p.cancel()
	<-p.done
	if errors.Is(p.err, context.Canceled) {
		return nil
	}
	return p.err
}

// recording is a file as a stream: each line at the time that it tells.
type recording struct {
	in       *bufio.Reader
	keepTime bool
	failed   error

	lines, timed int
	at           time.Duration
	last         timeColumn
	inPiece      bool // the line before was cut since it was too long
}

func newRecording(r io.Reader, keepTime bool) *recording {
	return &recording{in: bufio.NewReaderSize(r, maxReplayPiece), keepTime: keepTime}
}

func (r *recording) err() error { return r.failed }

// note begins a line of an agent's daily file that did not come from the device.
const note = "# lanepost: "

func (r *recording) next() (item, bool) {
	for {
		i, more := r.line()
		if !more || i.bytes != nil {
			return i, more
		}
	}
}

// line is the next line, without bytes for a note.
func (r *recording) line() (item, bool) {
	line, err := r.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		r.failed = fmt.Errorf("read the recording after line %d: %w", r.lines, err)
		return item{}, false
	}
	if len(line) == 0 {
		return item{}, false
	}
	long := errors.Is(err, bufio.ErrBufferFull)
	whole := !long && !r.inPiece
	if !r.inPiece {
		r.lines++
	}
	r.inPiece = long
	if !whole {
		return item{at: r.at, bytes: bytes.Clone(line)}, true
	}
	body := bytes.TrimRight(line, "\r\n")
	end := line[len(body):]
	timed := false
	if comma := bytes.LastIndexByte(body, ','); comma >= 0 {
		if t, ok := parseTimeColumn(body[comma+1:]); ok {
			timed = true
			r.timed++
			r.at += t.since(r.last)
			r.last = t
			if !r.keepTime {
				body = body[:comma]
			}
		}
	}
	if !timed && bytes.HasPrefix(line, []byte(note)) {
		return item{}, true
	}
	return item{at: r.at, bytes: append(bytes.Clone(body), end...)}, true
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
