package identify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/drivers/link"
)

// Times of listening.
const (
	// look is how often it is looked whether the time is over.
	look = 100 * time.Millisecond
	// pause is how long a link must be quiet for what came to be judged, and
	// longPause for a line setting to be given up if it made no sense.
	pause     = 250 * time.Millisecond
	longPause = 700 * time.Millisecond
	// junk is how many bytes are listened to, that make no sense and are no text, before
	// the next setting is tried, without a pause; littleJunk with one.
	junk       = 300
	littleJunk = 12
	// patience is how long is listened at each setting the second time round, when no
	// setting made sense at first: records may be long, or come seldom.
	patience = 6 * time.Second
	// maxSenseless is how many bytes in which no profile finds a record are listened to
	// at most on a link that has no settings to change.
	maxSenseless = 256 << 10
	// DefaultFor is how long is listened to a connection unless Options say otherwise,
	// and to a serial port as long as nothing comes; DefaultSerial is for all settings of a
	// port together.
	DefaultFor    = time.Minute
	DefaultSerial = 3 * time.Minute
)

// Options of a session.
type Options struct {
	// For is how long to listen at most; 0 is the defaults.
	For time.Duration
	// Probe lets requests be sent to a device that says nothing, or nothing that is
	// understood.
	Probe bool
	// Progress, if set, is told what is going on, in a few words.
	Progress func(text string)
	// openLine opens the port at a line, in tests.
	openLine func(ctx context.Context, l line) (link.Conn, error)
}

func (o Options) tell(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// hearing is what came of listening to one link.
type hearing struct {
	verdict
	line    line // of a serial port
	heard   *heard
	took    time.Duration // until the verdict was the last one
	tried   []line
	err     error // why it could not be listened to, or what ended it
	peerEnd bool  // the other side hung up
}

// gone says that the port went away while it was listened to. A silence until then proves
// nothing.
func (x *hearing) gone(err error) {
	x.err = fmt.Errorf("the port went away: %w", err)
	if x.level == Silent {
		x.level = Failed
	}
}

// better replaces what was found by what is better.
func (x *hearing) better(v verdict, l line, h *heard, took time.Duration) {
	rank := func(v verdict) int {
		for i, l := range []Level{Silent, Unknown, Possible, Equal, Likely, Certain} {
			if v.level == l {
				return i
			}
		}
		return -1
	}
	if x.heard != nil && (rank(v) < rank(x.verdict) || rank(v) == rank(x.verdict) && h.bytes < x.heard.bytes) {
		return
	}
	x.verdict, x.line, x.heard, x.took = v, l, h, took
}

// listener reads one open link. Reading goes on while what came is judged: on a small box
// that takes a while, and a port holds 4 KiB only.
type listener struct {
	conn  link.Conn
	began time.Time

	mu    sync.Mutex
	heard heard
	quiet time.Time // since when nothing came

	judged int // bytes that the last judgement was of
}

// read keeps what comes until the link fails, there is no room for more, or stop is closed.
func (l *listener) read(stop <-chan struct{}, came chan<- struct{}) error {
	buf := make([]byte, 16<<10)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := l.conn.SetReadDeadline(time.Now().Add(look)); err != nil {
			return err
		}
		n, err := l.conn.Read(buf)
		room := true
		if n > 0 {
			l.mu.Lock()
			l.quiet = time.Now()
			room = l.heard.add(l.quiet.Sub(l.began), buf[:n])
			l.mu.Unlock()
			select {
			case came <- struct{}{}:
			default: // it is known already
			}
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if !room {
			return errFull
		}
	}
}

// errFull ends the reading of a link that has sent enough.
var errFull = errors.New("enough was heard")

// snapshot is what has come up to now, and for how long nothing has.
func (l *listener) snapshot() (*heard, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &heard{chunks: slices.Clone(l.heard.chunks), bytes: l.heard.bytes}, time.Since(l.quiet)
}

// run reads until judge says that it is enough, or the link fails, or ctx ends. judge is
// called when something new has come and it pauses, or enough of it has.
func (l *listener) run(ctx context.Context, judge func(h *heard, quietFor time.Duration) (done bool)) error {
	l.quiet = time.Now()
	stop, came, ended := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- l.read(stop, came) }()
	every := time.NewTicker(look)
	defer every.Stop()
	for {
		var err error
		over := false
		select {
		case <-came:
		case <-every.C:
		case <-ctx.Done():
			over = true
		case err = <-ended:
			over = true
			ended <- nil
		}
		h, quietFor := l.snapshot()
		grown := h.bytes >= l.judged+l.judged/4+64
		done := over
		if over || grown || quietFor >= pause || h.bytes == 0 {
			done = judge(h, quietFor) || over
		}
		if done {
			close(stop)
			<-ended // the link is closed after this, and must not be read any more
			if errors.Is(err, errFull) {
				err = nil
			}
			return err
		}
	}
}

// stream listens to a link that has no settings.
func (r *Recogniser) stream(ctx context.Context, conn link.Conn, o Options) hearing {
	x := hearing{verdict: verdict{level: Silent}, heard: &heard{}}
	l := &listener{conn: conn, began: time.Now()}
	err := l.run(ctx, func(h *heard, _ time.Duration) bool {
		o.tell("listening, %s, %d bytes%s", time.Since(l.began).Round(time.Second), h.bytes, soFar(x.verdict))
		if h.bytes == l.judged {
			return false
		}
		l.judged = h.bytes
		x.verdict, x.heard, x.took = r.judge(ctx, "tcp", h, ""), h, time.Since(l.began)
		return x.settled() || x.best == nil && h.bytes > maxSenseless && !asText(h.all())
	})
	x.peerEnd = err != nil && errors.Is(err, link.ErrUnplugged)
	x.err = err
	return x
}

func soFar(v verdict) string {
	if v.best == nil {
		return ""
	}
	return fmt.Sprintf(", %s: %s", v.best.name(), v.best.says())
}

// final are errors of opening a port that another setting does not mend.
var final = []error{fs.ErrNotExist, fs.ErrPermission, syscall.EBUSY, syscall.ENOTTY, syscall.EIO, link.ErrUnplugged}

// serial listens to a port, at one setting after the other until something makes sense. A
// line that is silent is silent at every setting: then it waits.
func (r *Recogniser) serial(ctx context.Context, o Options) hearing {
	x := hearing{verdict: verdict{level: Silent}}
	began := time.Now()
	for _, dwell := range []time.Duration{0, patience} {
		for _, setting := range r.lines() {
			if ctx.Err() != nil {
				return x
			}
			conn, err := o.openLine(ctx, setting)
			if err != nil {
				if ctx.Err() == nil && len(x.tried) == 0 {
					x.level, x.err = Failed, err
				}
				if slices.ContainsFunc(final, func(f error) bool { return errors.Is(err, f) }) {
					if len(x.tried) > 0 {
						x.gone(err)
					}
					return x
				}
				continue // the adapter does not do this one
			}
			if x.level == Failed {
				x.level, x.err = Silent, nil
			}
			if !slices.Contains(x.tried, setting) {
				x.tried = append(x.tried, setting)
			}
			stay, err := r.atLine(ctx, conn, setting, o, began, dwell, &x)
			_ = conn.Close() // it was only read
			if err != nil {
				x.gone(err)
				return x
			}
			if stay {
				return x
			}
		}
		if len(x.tried) == 0 {
			return x
		}
	}
	return x
}

// atLine listens at one setting, for dwell at least. stay says that another one is not worth trying.
func (r *Recogniser) atLine(ctx context.Context, conn link.Conn, setting line, o Options, began time.Time, dwell time.Duration, x *hearing) (stay bool, err error) {
	l := &listener{conn: conn, began: time.Now()}
	silence := DefaultFor
	if o.For > 0 {
		silence = o.For
	}
	var v verdict
	err = l.run(ctx, func(h *heard, quietFor time.Duration) bool {
		o.tell("listening at %s, %s, %d bytes%s", setting, time.Since(began).Round(time.Second), h.bytes, soFar(v))
		if h.bytes == 0 {
			stay = time.Since(began) >= silence
			return stay
		}
		if h.bytes != l.judged {
			l.judged = h.bytes
			v = verdict{level: Silent}
			at := setting
			kept := h
			text := false
			for _, reading := range readings(setting, h) {
				text = text || asText(reading.heard.all())
				// Some drivers take the parity off by themselves; then the line without it is the
				// true one.
				if w := r.judge(ctx, "serial", reading.heard, ""); w.score() >= v.score() || v.level == Silent {
					v, at, kept = w, reading.line, reading.heard
				}
			}
			// What takes anything, and a single record that proves little, is believed only if
			// it is text: at a wrong baud some of it is a line as well.
			if !text && (v.level == Possible || v.level == Likely && !v.best.strict() && v.best.records < 2) {
				v = verdict{level: Unknown, rivals: v.rivals}
			}
			x.better(v, at, kept, time.Since(began))
			stay = text || v.level == Certain || v.level == Likely || v.level == Equal
		}
		switch {
		case v.settled():
			return true
		case stay:
			return false
		}
		if time.Since(l.began) < dwell {
			return false
		}
		return h.bytes >= junk || h.bytes >= littleJunk && quietFor >= longPause
	})
	if ctx.Err() != nil {
		stay = true
	}
	return stay, err
}

// score of the verdict's best.
func (v verdict) score() float64 {
	if v.best == nil {
		return 0
	}
	return v.best.score()
}
