package blobs

import (
	"fmt"
	"hash/crc32"
	"os"

	"github.com/lanepost/lanepost/protocol/event"
)

// Sender hands the chunks of what is promised to one consumer, urgent events'
// before routine ones', in the order of their events. Any number of chunks may
// be out at a time, and be confirmed in any order.
type Sender struct {
	store *Store
	name  string

	// Guarded by the store's mu.
	queues  [len(event.Classes)]queue
	changed chan struct{}
}

// token is a chunk that is out.
type token struct {
	d     *delivery
	chunk int
}

// Sender returns the sender of a consumer of Options.Consumers, nil for another.
func (s *Store) Sender(consumer string) *Sender {
	return s.senders[consumer]
}

func (sd *Sender) queue(class event.Class) *queue {
	for i, c := range event.Classes {
		if c == class {
			return &sd.queues[i]
		}
	}
	return &sd.queues[len(sd.queues)-1]
}

func (sd *Sender) notify() {
	close(sd.changed)
	sd.changed = make(chan struct{})
}

// Changed is closed when Next may have more than before. Take it before Next. It
// does not tell of events that the consumer itself has delivered: ask Next again
// after those.
func (sd *Sender) Changed() <-chan struct{} {
	sd.store.mu.Lock()
	defer sd.store.mu.Unlock()
	return sd.changed
}

// Next gives the next chunk to send and a token for it; false if there is none
// now. The payload is the caller's. It never waits for more than the reading of
// one chunk.
func (sd *Sender) Next() (topic string, payload []byte, tok any, ok bool) {
	for {
		d, chunk, sum := sd.pick()
		if d == nil {
			return "", nil, nil, false
		}
		payload, err := sd.store.read(d.p, chunk, sum)
		if err != nil {
			sd.unreadable(d, chunk, err)
			continue
		}
		topic := event.ChunkTopic(event.Chunk{
			Source: d.p.source, SHA256: d.p.blob.sum.String(), Size: d.p.blob.size, Offset: int64(chunk) * d.p.chunk,
		})
		return topic, payload, token{d, chunk}, true
	}
}

// pick chooses a chunk and marks it as out.
func (sd *Sender) pick() (d *delivery, chunk int, sum uint32) {
	s := sd.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, 0
	}
	for i := range sd.queues {
		q := &sd.queues[i]
		sd.begin(q)
		for _, d := range q.active {
			if d.p.sums == nil {
				s.verify(d.p)
				continue
			}
			n := d.p.chunks()
			for d.next < n && (d.confirmed.has(d.next) || d.out.has(d.next)) {
				d.next++
			}
			if d.next < n {
				d.out.set(d.next)
				return d, d.next, d.p.sums[d.next]
			}
		}
	}
	return nil, 0, 0
}

// begin begins the deliveries whose event the consumer has delivered.
func (sd *Sender) begin(q *queue) {
	s := sd.store
	for len(q.waiting) > 0 && len(q.active) < maxActive {
		d := q.waiting[0]
		p := d.p
		if d.outcome == "" {
			if s.o.Delivered != nil && p.sequence > 0 && !s.o.Delivered(sd.name, p.class, p.sequence) {
				return
			}
			// What the consumer has had from this source is not sent once more, and
			// what it is getting is waited for.
			for _, other := range q.active {
				if other.p.blob == p.blob && other.p.source == p.source {
					return
				}
			}
		}
		q.waiting[0] = nil
		if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
			q.waiting = nil
		}
		switch {
		case d.outcome != "":
		case p.blob.sent[place{sd.name, p.source}]:
			s.decide(d, delivered, "")
		default:
			q.active = append(q.active, d)
		}
	}
}

// read reads a chunk and checks it.
func (s *Store) read(p *promise, chunk int, sum uint32) ([]byte, error) {
	f, err := os.Open(s.path(p.blob.sum))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading, nothing to lose
	at := int64(chunk) * p.chunk
	b := make([]byte, min(p.chunk, p.blob.size-at))
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, fmt.Errorf("the chunk at %d: %w", at, errAltered)
	}
	return b, nil
}

// unreadable has the whole content checked again, which decides.
func (sd *Sender) unreadable(d *delivery, chunk int, err error) {
	s := sd.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.outcome != "" {
		return
	}
	s.log.Warn("a chunk of an attachment can't be read", "sha256", d.p.blob.sum.String(), "chunk", chunk, "err", err)
	d.out, d.next = nil, 0
	d.p.sums = nil
	s.verify(d.p)
}

// Confirmed says that the broker has confirmed the chunk of a token from Next.
func (sd *Sender) Confirmed(tok any) {
	t, ok := tok.(token)
	if !ok {
		return
	}
	s := sd.store
	s.mu.Lock()
	defer s.mu.Unlock()
	d := t.d
	if d.outcome != "" || d.confirmed.has(t.chunk) {
		return
	}
	d.confirmed.set(t.chunk)
	d.n++
	if d.n == d.p.chunks() {
		s.decide(d, delivered, "")
		return
	}
	s.record(entry{Op: opChunk, ID: d.p.id, Consumer: sd.name, Chunk: t.chunk})
	s.wake()
}

// Refused says that the broker will never take the chunk of a token from Next.
// Its content is given up for this consumer.
func (sd *Sender) Refused(tok any, reason string) {
	t, ok := tok.(token)
	if !ok {
		return
	}
	sd.store.mu.Lock()
	defer sd.store.mu.Unlock()
	sd.store.decide(t.d, refused, reason)
}

// Rewind says that the session is lost: chunks that are out and unconfirmed will
// be given by Next again.
func (sd *Sender) Rewind() {
	sd.store.mu.Lock()
	defer sd.store.mu.Unlock()
	for i := range sd.queues {
		for _, d := range sd.queues[i].active {
			d.out, d.next = nil, 0
		}
	}
	sd.notify()
}
