package console

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errTooMany says that as many listen as may.
var errTooMany = errors.New("as many as may are listening already; end one of them first")

// feed gives what comes to all who follow it. It never waits for one of them: who has
// more waiting than the bounds is dropped. Without followers it costs an atomic load.
type feed[T any] struct {
	count atomic.Int32
	mu    sync.Mutex
	all   map[*follower[T]]struct{}
}

// bounds are those of a feed.
type bounds struct{ followers, pieces, bytes int }

// follower is one who follows a feed.
type follower[T any] struct {
	feed *feed[T]
	c    chan weighed[T]
	// waiting is how many bytes wait in c.
	waiting atomic.Int64
	// ended is why nothing comes any more. It is set before c is closed.
	ended string
}

type weighed[T any] struct {
	piece T
	bytes int64
}

func (f *feed[T]) follow(b bounds) (*follower[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) >= b.followers {
		return nil, errTooMany
	}
	if f.all == nil {
		f.all = map[*follower[T]]struct{}{}
	}
	w := &follower[T]{feed: f, c: make(chan weighed[T], b.pieces)}
	f.all[w] = struct{}{}
	f.count.Add(1)
	return w, nil
}

// watched reports whether anybody follows.
func (f *feed[T]) watched() bool { return f.count.Load() > 0 }

// publish gives a piece to all.
func (f *feed[T]) publish(piece T, size int, b bounds) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.all {
		if w.waiting.Load()+int64(size) > int64(b.bytes) {
			f.endLocked(w, endedSlow)
			continue
		}
		select {
		case w.c <- weighed[T]{piece, int64(size)}:
			w.waiting.Add(int64(size))
		default:
			f.endLocked(w, endedSlow)
		}
	}
}

// Why a feed ended, for those who followed it.
const (
	endedSlow    = "this end reads too slowly, and what waited for it grew too long; ask again"
	endedRemoved = "the device is no longer in the configuration"
	endedStop    = "the agent stops"
)

func (f *feed[T]) endLocked(w *follower[T], why string) {
	if _, ok := f.all[w]; !ok {
		return
	}
	delete(f.all, w)
	f.count.Add(-1)
	w.ended = why
	close(w.c)
}

// end ends all who follow.
func (f *feed[T]) end(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.all {
		f.endLocked(w, why)
	}
}

func (w *follower[T]) close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	w.feed.endLocked(w, endedStop)
}

// taken is to be called with what was read of c.
func (w *follower[T]) taken(p weighed[T]) T {
	w.waiting.Add(-p.bytes)
	return p.piece
}

// Recorded is an event that was recorded.
type Recorded struct {
	Event
	// Public is the whole event without what is personal.
	Public []byte
}

// Events are the events as they are recorded. The zero value is ready.
type Events struct{ feed feed[Recorded] }

// Watched reports whether anybody watches, so that nothing need be made for nobody.
func (e *Events) Watched() bool { return e.feed.watched() }

// Publish gives an event to all who watch, and waits for none of them.
func (e *Events) Publish(r Recorded) {
	e.feed.publish(r, len(r.Public)+len(r.Text), eventBounds)
}

var (
	eventBounds = bounds{maxWatchers, watcherEvents, watcherBytes}
	rawBounds   = bounds{maxListeners, listenerPieces, listenerBytes}
)

// Raw are the raw bytes of one device. The zero value is ready.
type Raw struct {
	feed  feed[rawPiece]
	total atomic.Int64 // bytes that were received since the agent's start
}

// rawPiece is one read of a link, or its end.
type rawPiece struct {
	at     time.Time
	bytes  []byte
	offset int64 // how many bytes came before
	parted bool
}

// Received gives what was read of the device's link to all who listen. It copies b and
// does not wait.
func (r *Raw) Received(at time.Time, b []byte) {
	before := r.total.Add(int64(len(b))) - int64(len(b))
	if r.feed.watched() {
		r.feed.publish(rawPiece{at: at, bytes: append([]byte(nil), b...), offset: before}, len(b), rawBounds)
	}
}

// Parted tells all who listen that the link has ended.
func (r *Raw) Parted(at time.Time) {
	if r.feed.watched() {
		r.feed.publish(rawPiece{at: at, parted: true}, 1, rawBounds)
	}
}

// Removed ends all who listen: the device is no longer configured.
func (r *Raw) Removed() { r.feed.end(endedRemoved) }

// Listen follows the bytes from now on.
func (r *Raw) Listen() (*Listener, error) {
	w, err := r.feed.follow(rawBounds)
	if err != nil {
		return nil, err
	}
	return &Listener{w}, nil
}

// Listener is one who listens to a device.
type Listener struct{ w *follower[rawPiece] }

// Close ends it.
func (l *Listener) Close() { l.w.close() }

// rawLine is one line of the answer.
type rawLine struct {
	At    string `json:"at"`
	Bytes []byte `json:"bytes,omitempty"`
	// Offset is how many bytes of the device came before these since the agent's start: who
	// listens again knows by it what is missing.
	Offset *int64 `json:"offset,omitempty"`
	Parted bool   `json:"parted,omitempty"`
	// Ended is why nothing more comes.
	Ended string `json:"ended,omitempty"`
}

func (p rawPiece) line() rawLine {
	l := rawLine{At: p.at.UTC().Format(time.RFC3339Nano), Bytes: p.bytes, Parted: p.parted}
	if !p.parted {
		l.Offset = &p.offset
	}
	return l
}

// watchedEvent is one event as it is told to who watches.
type watchedEvent struct {
	Event
	// Whole is the event itself in its public form, if it was asked for.
	Whole rawJSON `json:"event,omitempty"`
}

// rawJSON is JSON that is taken over as it is. It is not checked again, as json.RawMessage
// would.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }
