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

	"github.com/lanepost/lanepost/protocol/capture"
)

// maxReplayPiece bounds how much of a line is read at once; a longer line is
// sent in pieces and has no time.
const maxReplayPiece = capture.MaxLine

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
	// Lines is how many lines the file has, Timed how many of them have a time. Of a
	// capture they are its reads.
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
// agent's notes in its daily file, and are left out.
//
// A capture (protocol/capture) is played read by read, and its marks are left out. One
// that was cut off is played as far as it goes, and then the error says so.
//
// Replay does not close conn.
func Replay(ctx context.Context, r io.Reader, conn io.Writer, opts ReplayOptions) (Replayed, error) {
	rec := newRecording(r, opts.KeepTime)
	rec.keepLink = true
	return replay(ctx, rec, given{conn}, opts)
}

func replay(ctx context.Context, rec *recording, l link, opts ReplayOptions) (Replayed, error) {
	if opts.Speed < 0 {
		return Replayed{}, fmt.Errorf("a speed of %v; want 1 for the pauses of the file, more for faster, 0 for as fast as possible", opts.Speed)
	}
	counted := &countingLink{link: l}
	p := &player{stream: rec, link: counted, speed: opts.Speed, log: opts.log(), tell: func(Entry) {}}
	err := p.play(ctx)
	return Replayed{Lines: rec.count, Timed: rec.timed, Bytes: counted.bytes, LostLines: counted.lost}, err
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
// waits for a client, plays the file to it once as Replay does, and closes. Where the
// link ended in a capture, the connection is broken. A
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
		err := l.close(p.err == nil || errors.Is(p.err, capture.ErrCut))
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

// recording is a file as a stream: what came, each at the time that the file tells.
type recording struct {
	// Of a daily file there are lines, of a capture there is the capture.
	lines    *capture.Lines
	capture  *capture.Reader
	keepTime bool
	keepLink bool // it is not broken
	failed   error

	count, timed int
	at           time.Duration
	last         time.Time
}

func newRecording(r io.Reader, keepTime bool) *recording {
	in := bufio.NewReaderSize(r, maxReplayPiece)
	begin, _ := in.Peek(32) // a failure comes again with the first line
	if !capture.Is(begin) {
		return &recording{lines: capture.NewLines(in), keepTime: keepTime}
	}
	c, err := capture.NewReader(in)
	return &recording{capture: c, failed: err}
}

func (r *recording) err() error { return r.failed }

func (r *recording) next() (item, bool) {
	for r.failed == nil {
		var i item
		var err error
		if r.lines != nil {
			i, err = r.line()
		} else {
			i, err = r.entry()
		}
		switch {
		case errors.Is(err, io.EOF):
			return item{at: r.at}, false
		case err != nil:
			r.failed = err
		case i.bytes != nil || i.link != linkNone:
			return i, true
		}
	}
	return item{at: r.at}, false
}

// line is the next line, without bytes for a note.
func (r *recording) line() (item, error) {
	l, err := r.lines.Next()
	if err != nil {
		return item{}, err
	}
	r.at = l.After
	if l.Begins {
		r.count++
	}
	if l.Timed {
		r.timed++
	}
	b := l.Wire
	if r.keepTime {
		b = l.Whole
	}
	if l.Note != "" {
		b = nil
	}
	return item{at: r.at, bytes: bytes.Clone(b)}, nil
}

// entry is the next entry of a capture. Where the link ended there, it is broken here, so
// that halves of records are not joined.
func (r *recording) entry() (item, error) {
	e, err := r.capture.Next()
	if err != nil {
		return item{}, err
	}
	if e.Conn > 0 && !r.keepLink {
		return item{}, errors.New("the capture is of an instrument that makes its connections itself: nobody could connect to it")
	}
	if !r.last.IsZero() {
		r.at += max(0, e.At.Sub(r.last))
	}
	r.last = e.At
	if e.Mark == capture.Parted && !r.keepLink {
		return item{at: r.at, link: linkBreak}, nil
	}
	if len(e.Bytes) > 0 {
		r.count++
		r.timed++
	}
	return item{at: r.at, bytes: e.Bytes}, nil
}
