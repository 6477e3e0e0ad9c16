package blobs

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
)

// Outcomes of a delivery, as in event.DeviceAttachment.
const (
	delivered = "delivered"
	evicted   = "evicted"
	refused   = "refused"
	damaged   = "damaged"
)

// maxText bounds each text of a Reference and of an Outcome, in bytes.
const maxText = 1 << 10

// Reference says that an event names a content.
type Reference struct {
	// EventID is the event's id. It is empty only in an Outcome, for content whose
	// event is not known any more.
	EventID string
	// Class is the event's, and so is Source: "/site/lane/device".
	Class  event.Class
	Source string
	// Sequence is set by Refer.
	Sequence   uint64
	Attachment event.Attachment
	// Withheld names the consumers that do not get the content, because they do not
	// get the event either or must not see pictures.
	Withheld []string
}

func (r Reference) check() error {
	if err := r.Attachment.Check(); err != nil {
		return err
	}
	if r.EventID == "" || !slices.Contains(event.Classes[:], r.Class) {
		return errors.New("the event's id or its class is missing")
	}
	for _, text := range []string{r.EventID, r.Source, r.Attachment.MediaType, r.Attachment.Name} {
		if len(text) > maxText {
			return fmt.Errorf("a text of %d bytes, the most is %d", len(text), maxText)
		}
	}
	_, err := event.ParseChunkTopic(event.ChunkTopic(event.Chunk{
		Source: r.Source, SHA256: r.Attachment.SHA256, Size: r.Attachment.Size,
	}))
	return err
}

// Outcome says what became of an attachment at a consumer.
type Outcome struct {
	Reference
	Consumer string
	// Outcome is "delivered", "evicted", "refused" or "damaged"; Detail says more in
	// words unless it is delivered.
	Outcome, Detail string
	// Chunks is how many there are, ChunkBytes the size of all but the last.
	Chunks, ChunkBytes int64

	id uint64
}

// Data is the event that states the outcome. Its source is o.Source.
func (o Outcome) Data() event.DeviceAttachment {
	return event.DeviceAttachment{
		SHA256: o.Attachment.SHA256, Size: o.Attachment.Size, MediaType: o.Attachment.MediaType, Name: o.Attachment.Name,
		EventID: o.EventID, Uplink: o.Consumer, Chunks: o.Chunks, ChunkBytes: o.ChunkBytes,
		Outcome: o.Outcome, Detail: o.Detail,
	}
}

// promise is a content that has to be delivered for an event.
type promise struct {
	id         uint64
	eventID    string
	class      event.Class
	source     string
	mediaType  string
	name       string
	sequence   uint64
	referred   bool // the sequence is known
	chunk      int64
	blob       *blob
	deliveries []*delivery
	recorded   []string // consumers whose outcome is an event already

	sums   []uint32 // CRC-32C of each chunk, once the content is verified
	queued bool     // to be verified
	tries  int
}

// delivery is a promise toward one consumer.
type delivery struct {
	p         *promise
	sender    *Sender
	confirmed bits
	out       bits // handed out and not confirmed in this session
	next      int  // every chunk before it is confirmed or out
	n         int  // confirmed
	outcome   string
	detail    string
}

func (p *promise) chunks() int { return int((p.blob.size + p.chunk - 1) / p.chunk) }

func (p *promise) undecided() bool {
	return slices.ContainsFunc(p.deliveries, func(d *delivery) bool { return d.outcome == "" })
}

func (p *promise) reference() Reference {
	return Reference{
		EventID: p.eventID, Class: p.class, Source: p.source, Sequence: p.sequence,
		Attachment: event.Attachment{SHA256: p.blob.sum.String(), Size: p.blob.size, MediaType: p.mediaType, Name: p.name},
	}
}

type bits []uint64

func (b bits) has(i int) bool { return i>>6 < len(b) && b[i>>6]&(1<<(i&63)) != 0 }

func (b *bits) set(i int) {
	for i>>6 >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

// Announce makes it durable that contents from Put are to be delivered for an
// event that is about to be appended to the spool. Then call Refer when the event
// is on disk, or Withdraw when it will not be. If the agent dies in between, the
// contents are delivered without waiting for more than the events that were there.
func (s *Store) Announce(refs ...Reference) error {
	if err := s.announce(refs); err != nil {
		return fmt.Errorf("announce an attachment: %w", err)
	}
	return nil
}

func (s *Store) announce(refs []Reference) error {
	for _, r := range refs {
		if err := r.check(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if len(s.promises)+len(refs) > maxPromises {
		s.mu.Unlock()
		return fmt.Errorf("%w: %d attachments wait", ErrFull, maxPromises)
	}
	for _, r := range refs {
		sum, _ := parseHash(r.Attachment.SHA256)
		if b := s.blobs[sum]; b == nil || b.size != r.Attachment.Size {
			s.mu.Unlock()
			return fmt.Errorf("%w: %s", ErrUnknown, r.Attachment.SHA256)
		}
	}
	var made []*promise
	for _, r := range refs {
		sum, _ := parseHash(r.Attachment.SHA256)
		s.lastID++
		p := &promise{
			id: s.lastID, eventID: r.EventID, class: r.Class, source: r.Source, mediaType: r.Attachment.MediaType,
			name: r.Attachment.Name, chunk: s.o.ChunkBytes, blob: s.blobs[sum],
		}
		p.blob.fresh = max(0, p.blob.fresh-1)
		for name := range s.senders {
			if slices.Contains(r.Withheld, name) {
				p.recorded = append(p.recorded, name)
			}
		}
		if len(s.senders) > len(p.recorded) {
			s.add(p)
			s.announced[p.eventID] = append(s.announced[p.eventID], p)
			s.record(p.entry())
			for _, name := range p.recorded {
				s.record(entry{Op: opRecorded, ID: p.id, Consumer: name})
			}
			made = append(made, p)
		}
		s.settle(p.blob)
	}
	s.mu.Unlock()
	if len(made) == 0 {
		return nil
	}
	if err := s.flush(true); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range made {
			s.withdraw(p)
		}
		return noSpace(err)
	}
	return nil
}

// add makes a promise count, toward every consumer that has not had its outcome.
func (s *Store) add(p *promise) {
	for _, name := range s.o.Consumers {
		if !slices.Contains(p.recorded, name) {
			p.deliveries = append(p.deliveries, &delivery{p: p, sender: s.senders[name]})
		}
	}
	p.blob.needs += len(p.deliveries)
	p.blob.promises = append(p.blob.promises, p)
	s.promises[p.id] = p
	if len(s.order) > 2*len(s.promises)+1024 {
		s.order = slices.DeleteFunc(s.order, func(p *promise) bool { return s.promises[p.id] != p })
	}
	s.order = append(s.order, p)
}

// Refer gives the sequence of an event that is on disk to the attachments that
// were announced for it. They go out when it has been delivered.
func (s *Store) Refer(eventID string, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.announced[eventID] {
		p.sequence = sequence
		s.refer(p)
		s.record(entry{Op: opRefer, ID: p.id, Sequence: sequence})
	}
	delete(s.announced, eventID)
	s.wake()
}

// refer lines a promise up.
func (s *Store) refer(p *promise) {
	p.referred = true
	for _, d := range p.deliveries {
		if d.outcome == "" {
			d.sender.queue(p.class).insert(d)
			d.sender.notify()
		}
	}
}

// Withdraw says that an announced event will never be on disk.
func (s *Store) Withdraw(eventID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.announced[eventID]) {
		s.withdraw(p)
	}
	s.wake()
}

func (s *Store) withdraw(p *promise) {
	if s.promises[p.id] != p {
		return
	}
	for _, d := range p.deliveries {
		if d.outcome == "" {
			d.outcome = evicted // of no interest to anybody
			p.blob.needs--
		}
	}
	list := slices.DeleteFunc(s.announced[p.eventID], func(x *promise) bool { return x == p })
	if s.announced[p.eventID] = list; len(list) == 0 {
		delete(s.announced, p.eventID)
	}
	s.finish(p)
	s.record(entry{Op: opWithdraw, ID: p.id})
}

// finish forgets a promise.
func (s *Store) finish(p *promise) {
	delete(s.promises, p.id)
	p.blob.promises = slices.DeleteFunc(p.blob.promises, func(x *promise) bool { return x == p })
	s.settle(p.blob)
}

// decide ends a delivery.
func (s *Store) decide(d *delivery, outcome, detail string) {
	if d.outcome != "" {
		return
	}
	p := d.p
	d.outcome, d.detail = outcome, cut(detail)
	d.confirmed, d.out = nil, nil
	d.sender.queue(p.class).end(d)
	d.sender.notify()
	p.blob.needs--
	s.settle(p.blob)
	if outcome == delivered {
		if p.blob.sent == nil {
			p.blob.sent = map[place]bool{}
		}
		p.blob.sent[place{d.sender.name, p.source}] = true
	} else {
		s.log.Error("an attachment is not delivered", "sha256", p.blob.sum.String(), "bytes", p.blob.size, "event", p.eventID,
			"source", p.source, "uplink", d.sender.name, "outcome", outcome, "detail", detail)
	}
	if !p.undecided() {
		p.sums = nil
	}
	s.record(entry{Op: opOutcome, ID: p.id, Consumer: d.sender.name, Outcome: outcome, Detail: d.detail})
	s.report(d)
	s.wake()
}

// report queues the outcome for the agent.
func (s *Store) report(d *delivery) {
	s.fresh = append(s.fresh, Outcome{
		Reference: d.p.reference(), Consumer: d.sender.name, Outcome: d.outcome, Detail: d.detail,
		Chunks: int64(d.p.chunks()), ChunkBytes: d.p.chunk, id: d.p.id,
	})
	close(s.changed)
	s.changed = make(chan struct{})
}

func cut(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}

// Outcomes returns what was decided since the last call, a bounded number at a
// time: ask until there are none, for the first time after Open. Each is returned
// once, and again after a restart until OutcomeRecorded confirmed it.
func (s *Store) Outcomes() []Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.fresh), outcomesAtOnce)
	list := slices.Clone(s.fresh[:n])
	if s.fresh = s.fresh[n:]; len(s.fresh) == 0 {
		s.fresh = nil
	}
	return list
}

// Changed is closed at the next outcome. Take it before asking for Outcomes.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// OutcomeRecorded says that an outcome from Outcomes has been made an event that
// is on disk. If the agent dies soon after, the outcome may come once more.
func (s *Store) OutcomeRecorded(o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.promises[o.id]
	if p == nil || p.eventID != o.EventID || slices.Contains(p.recorded, o.Consumer) {
		return
	}
	p.recorded = append(p.recorded, o.Consumer)
	s.record(entry{Op: opRecorded, ID: p.id, Consumer: o.Consumer})
	if s.complete(p) {
		s.finish(p)
	}
	s.wake()
}

// complete tells whether every consumer's outcome is recorded.
func (s *Store) complete(p *promise) bool {
	for _, name := range s.o.Consumers {
		if !slices.Contains(p.recorded, name) {
			return false
		}
	}
	return true
}

// evict gives up the oldest undelivered routine content; false if there is none.
// The content is idle then.
func (s *Store) evict(why string) bool {
	for len(s.order) > 0 && s.promises[s.order[0].id] != s.order[0] {
		s.order = s.order[1:]
	}
	for _, p := range s.order {
		b := p.blob
		if b.fresh > 0 || s.promises[p.id] != p || !p.undecided() ||
			slices.ContainsFunc(b.promises, func(x *promise) bool {
				return x.undecided() && (x.class != event.Routine || !x.referred)
			}) {
			continue
		}
		s.decideAll(b, evicted, "it was deleted to make room: "+why)
		return true
	}
	return false
}

func (s *Store) decideAll(b *blob, outcome, detail string) {
	for _, p := range slices.Clone(b.promises) {
		for _, d := range p.deliveries {
			s.decide(d, outcome, detail)
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errAltered says that a file has not the content that its name says.
var errAltered = errors.New("its file was altered on the disk")

// verify has a promise's content checked before it is sent.
func (s *Store) verify(p *promise) {
	if !p.queued {
		p.queued = true
		s.toVerify = append(s.toVerify, p)
		s.wake()
	}
}

// verifyNext checks one content; false if none waits for it.
func (s *Store) verifyNext() bool {
	s.mu.Lock()
	if len(s.toVerify) == 0 {
		s.mu.Unlock()
		return false
	}
	p := s.toVerify[0]
	s.toVerify = s.toVerify[1:]
	puts := p.blob.puts
	s.mu.Unlock()

	sums, err := s.checkContent(p)

	s.mu.Lock()
	defer s.mu.Unlock()
	p.queued = false
	switch {
	case !p.undecided() || errors.Is(err, ErrClosed):
	case puts != p.blob.puts: // written anew meanwhile
		s.verify(p)
	case err == nil:
		p.sums, p.tries = sums, 0
		for _, d := range p.deliveries {
			d.sender.notify()
		}
	case errors.Is(err, errAltered), errors.Is(err, fs.ErrNotExist), p.tries >= readTries:
		s.damage(p.blob, err)
	default:
		p.tries++
		p.queued = true
		s.toRetry = append(s.toRetry, p)
	}
	return true
}

func (s *Store) checkContent(p *promise) ([]uint32, error) {
	f, err := os.Open(s.path(p.blob.sum))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading, nothing to lose
	sums := make([]uint32, p.chunks())
	digest := sha256.New()
	buf := make([]byte, p.chunk)
	left := p.blob.size
	for i := range sums {
		select {
		case <-s.stop:
			return nil, ErrClosed
		default:
		}
		b := buf[:min(left, p.chunk)]
		if _, err := io.ReadFull(f, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ends early", errAltered)
		} else if err != nil {
			return nil, err
		}
		left -= int64(len(b))
		_, _ = digest.Write(b) // a hash takes everything
		sums[i] = crc32.Checksum(b, castagnoli)
	}
	if hash(digest.Sum(nil)) != p.blob.sum {
		return nil, fmt.Errorf("%w: its hash is another", errAltered)
	}
	return sums, nil
}

// damage gives up a content that can't be read, and keeps what is there of it.
func (s *Store) damage(b *blob, cause error) {
	s.decideAll(b, damaged, "the content can't be read: "+cause.Error())
	if s.quarantined+b.size > maxQuarantine {
		if b.idle != nil {
			s.drop(b)
		}
		return
	}
	to := filepath.Join(s.dir, "quarantine", b.sum.String())
	if err := s.files.rename(s.path(b.sum), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("a damaged attachment can't be put in quarantine", "sha256", b.sum.String(), "err", err)
		return
	} else if err == nil {
		s.quarantined += b.size
	}
	if b.idle != nil {
		s.idle.Remove(b.idle)
		b.idle = nil
	}
	s.bytes -= b.size
	delete(s.blobs, b.sum)
}

// queue holds a consumer's deliveries of one class.
type queue struct {
	waiting []*delivery // by sequence
	active  []*delivery // begun
}

func (q *queue) insert(d *delivery) {
	i := len(q.waiting)
	for i > 0 && compareDeliveries(q.waiting[i-1], d) > 0 {
		i--
	}
	q.waiting = append(q.waiting, nil)
	copy(q.waiting[i+1:], q.waiting[i:])
	q.waiting[i] = d
}

func compareDeliveries(a, b *delivery) int {
	return cmp.Or(cmp.Compare(a.p.sequence, b.p.sequence), cmp.Compare(a.p.id, b.p.id))
}

// end takes a decided delivery out of those that are begun. Among the waiting it
// stays, and is passed over.
func (q *queue) end(d *delivery) {
	q.active = slices.DeleteFunc(q.active, func(x *delivery) bool { return x == d })
}
