package blobs

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// The journal is a text file. Each line is a record: eight hexadecimal digits,
// the CRC-32C of what follows the space behind them, and an entry in JSON. Lines
// are only ever appended. When finished promises make up most of it, the file is
// written anew beside the old one and takes its name.
const journalName = "promises.log"

const (
	// maxLine bounds a record: the texts of a promise, each byte escaped, or the
	// confirmed chunks of one delivery.
	maxLine = 64 << 10
	// crcDigits begin a line.
	crcDigits = 8
	// journalSlack is how far the journal grows before it is worth writing anew.
	journalSlack = 4 << 20
	// maxPending bounds what waits to be written. Beyond it the journal is written
	// anew from memory, as after a failed write.
	maxPending = 1 << 20
)

// What an entry says.
const (
	opPromise  = "promise"  // all but Chunk, Consumer, Outcome, Detail, Bits
	opRefer    = "refer"    // the sequence
	opWithdraw = "withdraw" // there is no such event
	opChunk    = "chunk"    // a consumer has Chunk
	opChunks   = "chunks"   // a consumer has those of Bits
	opOutcome  = "outcome"  // decided for a consumer
	opRecorded = "recorded" // the outcome for a consumer is an event
)

// entry is one record of the journal.
type entry struct {
	Op         string      `json:"op"`
	ID         uint64      `json:"id"`
	EventID    string      `json:"event,omitempty"`
	Class      event.Class `json:"class,omitempty"`
	Source     string      `json:"source,omitempty"`
	Sequence   uint64      `json:"seq,omitempty"`
	Referred   bool        `json:"referred,omitempty"`
	SHA256     string      `json:"sha256,omitempty"`
	Size       int64       `json:"size,omitempty"`
	MediaType  string      `json:"media_type,omitempty"`
	Name       string      `json:"name,omitempty"`
	ChunkBytes int64       `json:"chunk_bytes,omitempty"`
	Consumer   string      `json:"uplink,omitempty"`
	Chunk      int         `json:"chunk,omitempty"`
	Bits       bits        `json:"bits,omitempty"`
	Outcome    string      `json:"outcome,omitempty"`
	Detail     string      `json:"detail,omitempty"`
}

func (p *promise) entry() entry {
	return entry{
		Op: opPromise, ID: p.id, EventID: p.eventID, Class: p.class, Source: p.source, Sequence: p.sequence,
		Referred: p.referred, SHA256: p.blob.sum.String(), Size: p.blob.size, MediaType: p.mediaType, Name: p.name,
		ChunkBytes: p.chunk,
	}
}

func (e entry) appendLine(b []byte) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		return b // an entry holds nothing that JSON can't
	}
	b = fmt.Appendf(b, "%0*x ", crcDigits, crc32.Checksum(text, castagnoli))
	b = append(b, text...)
	return append(b, '\n')
}

// parseLine reads a record without its line end.
func parseLine(line []byte) (e entry, ok bool) {
	if len(line) <= crcDigits || line[crcDigits] != ' ' {
		return e, false
	}
	sum, err := strconv.ParseUint(string(line[:crcDigits]), 16, 32)
	text := line[crcDigits+1:]
	if err != nil || crc32.Checksum(text, castagnoli) != uint32(sum) {
		return e, false
	}
	return e, json.Unmarshal(text, &e) == nil
}

// record queues an entry. The caller holds mu, and has it written by flush or wake.
func (s *Store) record(e entry) {
	if s.rewrite {
		return // the file will be made from what is in memory
	}
	if s.pending = e.appendLine(s.pending); len(s.pending) > maxPending {
		s.pending, s.rewrite = nil, true
	}
}

// flush writes what is queued, and with sync makes all that was written durable.
// After a failure the next one writes the whole journal anew: what a failed write
// or sync has left in the old file is not to be relied on.
func (s *Store) flush(sync bool) error {
	s.jmu.Lock()
	defer s.jmu.Unlock()
	if s.shut {
		return ErrClosed
	}
	s.mu.Lock()
	anew := s.rewrite || s.journal == nil || s.offset+int64(len(s.pending)) > 2*s.base+journalSlack
	text := s.pending
	if anew {
		text = s.snapshot()
	}
	s.pending, s.rewrite = nil, false
	s.mu.Unlock()

	err := s.writeJournal(text, anew, sync)
	if err != nil {
		s.mu.Lock()
		s.pending, s.rewrite = nil, true
		s.mu.Unlock()
		return fmt.Errorf("write the journal of attachments: %w", err)
	}
	return nil
}

func (s *Store) writeJournal(text []byte, anew, sync bool) error {
	if anew {
		return s.replaceJournal(text)
	}
	if len(text) > 0 {
		if err := s.files.writeAt(s.journal, text, s.offset); err != nil {
			return err
		}
		s.offset += int64(len(text))
		s.unsynced = true
	}
	if sync && s.unsynced {
		if err := s.files.sync(s.journal); err != nil {
			return err
		}
		s.unsynced = false
	}
	return nil
}

func (s *Store) replaceJournal(text []byte) error {
	temp := filepath.Join(s.dir, "tmp", journalName)
	f, err := s.files.create(temp)
	if err != nil {
		return err
	}
	name := filepath.Join(s.dir, journalName)
	if err = s.files.writeAt(f, text, 0); err == nil {
		err = s.files.sync(f)
	}
	if err == nil {
		err = s.files.rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if s.journal != nil {
		_ = s.journal.Close() // nothing in it counts any more
	}
	s.journal, s.offset, s.base, s.unsynced = f, int64(len(text)), int64(len(text)), false
	return s.files.syncDir(s.dir)
}

// snapshot is the journal of what is in memory. The caller holds mu.
func (s *Store) snapshot() []byte {
	var b []byte
	for _, p := range s.order {
		if s.promises[p.id] != p {
			continue
		}
		b = p.entry().appendLine(b)
		for _, d := range p.deliveries {
			if d.n > 0 && d.outcome == "" {
				b = entry{Op: opChunks, ID: p.id, Consumer: d.sender.name, Bits: d.confirmed}.appendLine(b)
			}
			if d.outcome != "" {
				b = entry{Op: opOutcome, ID: p.id, Consumer: d.sender.name, Outcome: d.outcome, Detail: d.detail}.appendLine(b)
			}
		}
		for _, name := range p.recorded {
			b = entry{Op: opRecorded, ID: p.id, Consumer: name}.appendLine(b)
		}
	}
	return b
}

// load reads what the last process left.
func (s *Store) load() error {
	if err := s.clean(); err != nil {
		return err
	}
	reports, err := s.readJournal()
	if err != nil {
		return err
	}
	if err := s.scan(); err != nil {
		return err
	}
	for _, p := range s.order {
		if s.promises[p.id] != p {
			continue
		}
		if !p.referred {
			if s.o.Head != nil {
				p.sequence = s.o.Head(p.class)
			}
			p.referred = true
			s.rewrite = true
		}
		for _, d := range p.deliveries {
			if d.outcome == "" {
				q := d.sender.queue(p.class)
				q.waiting = append(q.waiting, d)
			}
		}
	}
	for _, sd := range s.senders {
		for i := range sd.queues {
			order.By(sd.queues[i].waiting, compareDeliveries)
		}
	}
	for _, d := range reports {
		s.report(d)
	}
	for _, p := range slices.Clone(s.order) {
		if p.blob.puts == 0 && s.blobs[p.blob.sum] == p.blob { // no file
			s.bytes += p.blob.size // as if it had just gone
			s.damage(p.blob, errors.New("its file is missing"))
		}
	}
	if s.damaged > 0 {
		s.afterDamage()
	}
	if err := s.flush(true); err != nil {
		s.log.Error("the journal of attachments can't be written; new ones are refused until it can", "err", err)
	}
	return nil
}

// clean removes what was being written and counts what is in quarantine.
func (s *Store) clean() error {
	temps, err := os.ReadDir(filepath.Join(s.dir, "tmp"))
	if err != nil {
		return err
	}
	for _, e := range temps {
		if err := s.files.remove(filepath.Join(s.dir, "tmp", e.Name())); err != nil {
			s.log.Warn("a temporary file can't be removed", "file", e.Name(), "err", err)
		}
	}
	kept, err := os.ReadDir(filepath.Join(s.dir, "quarantine"))
	if err != nil {
		return err
	}
	for _, e := range kept {
		if info, err := e.Info(); err == nil {
			s.quarantined += info.Size()
		}
	}
	return nil
}

// readJournal makes the promises. It returns the deliveries whose outcome is not
// an event yet.
func (s *Store) readJournal() (reports []*delivery, err error) {
	name := filepath.Join(s.dir, journalName)
	f, err := os.OpenFile(name, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // flush makes it
	}
	if err != nil {
		return nil, err
	}
	s.journal = f
	texts := map[string]string{}
	s.sources = map[string]bool{}
	defer func() { s.sources = nil }()
	r := bufio.NewReaderSize(f, maxLine)
	torn := 0 // bad records since the last good one
	for {
		line, err := r.ReadSlice('\n')
		s.offset += int64(len(line))
		if err != nil {
			if len(line) > 0 {
				torn++
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if !errors.Is(err, io.EOF) {
				s.log.Error("the journal of attachments can't be read to its end", "err", err)
				s.damaged++
			}
			break
		}
		e, ok := parseLine(bytes.TrimSuffix(line, []byte("\n")))
		if ok {
			ok = s.replay(e, texts)
		}
		if !ok {
			torn++
			continue
		}
		s.damaged += torn
		torn = 0
	}
	s.base = s.offset
	s.rewrite = torn > 0 || s.damaged > 0
	for _, p := range s.order {
		if s.promises[p.id] != p {
			continue
		}
		if s.complete(p) {
			s.finish(p)
			s.rewrite = true
			continue
		}
		for _, d := range p.deliveries {
			if d.outcome != "" && !slices.Contains(p.recorded, d.sender.name) {
				reports = append(reports, d)
			}
		}
	}
	return reports, nil
}

// replay does what an entry says; false if it makes no sense.
func (s *Store) replay(e entry, texts map[string]string) bool {
	intern := func(text string) string {
		if known, ok := texts[text]; ok {
			return known
		}
		texts[text] = text
		return text
	}
	class := event.Routine
	if e.Class == event.Urgent {
		class = event.Urgent
	}
	if e.Op == opPromise {
		if !s.sources[e.Source] { // to check each would be much of the start's work
			r := Reference{EventID: cmp.Or(e.EventID, "none"), Class: e.Class, Source: e.Source, Attachment: event.Attachment{
				SHA256: e.SHA256, Size: e.Size, MediaType: e.MediaType,
			}}
			if r.check() != nil {
				return false
			}
			s.sources[e.Source] = true
		}
		sum, ok := parseHash(e.SHA256)
		if !ok || e.Size < 1 || e.Size > event.MaxAttachment || e.MediaType == "" || e.Class != event.Urgent && e.Class != event.Routine ||
			s.promises[e.ID] != nil || e.ChunkBytes < minChunkBytes || e.ChunkBytes > maxChunkBytes {
			return false
		}
		b := s.blobs[sum]
		if b == nil {
			b = &blob{sum: sum, size: e.Size}
			s.blobs[sum] = b
		}
		if b.size != e.Size {
			return false
		}
		s.lastID = max(s.lastID, e.ID)
		s.add(&promise{
			id: e.ID, eventID: e.EventID, class: class, source: intern(e.Source),
			mediaType: intern(e.MediaType), name: e.Name, sequence: e.Sequence, referred: e.Referred,
			chunk: e.ChunkBytes, blob: b,
		})
		return true
	}
	p := s.promises[e.ID]
	if p == nil {
		return true // its promise is in a damaged record, which is counted
	}
	var d *delivery
	for _, x := range p.deliveries {
		if x.sender.name == e.Consumer {
			d = x
		}
	}
	confirm := func(i int) {
		if d != nil && d.outcome == "" && i >= 0 && i < p.chunks() && !d.confirmed.has(i) {
			d.confirmed.set(i)
			d.n++
		}
	}
	switch e.Op {
	case opRefer:
		p.sequence, p.referred = e.Sequence, true
	case opWithdraw:
		for _, d := range p.deliveries {
			if d.outcome == "" {
				d.outcome = evicted // of no interest to anybody
				p.blob.needs--
			}
		}
		s.finish(p)
	case opChunk:
		confirm(e.Chunk)
	case opChunks:
		for i := range min(len(e.Bits)*64, p.chunks()) {
			if e.Bits.has(i) {
				confirm(i)
			}
		}
	case opOutcome:
		if d != nil && d.outcome == "" {
			d.outcome, d.detail, d.confirmed = e.Outcome, e.Detail, nil
			p.blob.needs--
		}
	case opRecorded:
		if !slices.Contains(p.recorded, e.Consumer) {
			p.recorded = append(p.recorded, intern(e.Consumer))
		}
		if d != nil && d.outcome == "" { // its outcome is in a damaged record
			d.outcome = delivered
			p.blob.needs--
		}
	default:
		return false
	}
	return true
}

// scan finds the contents.
func (s *Store) scan() error {
	dirs, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	times := map[*blob]time.Time{}
	for _, dir := range dirs {
		if !dir.IsDir() || len(dir.Name()) != 2 {
			continue
		}
		s.dirs[filepath.Join(s.dir, dir.Name())] = true // Open has made it so
		d, err := os.Open(filepath.Join(s.dir, dir.Name()))
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		_ = d.Close() // opened for reading, nothing to lose
		if err != nil {
			return err
		}
		for _, name := range names {
			sum, ok := parseHash(name)
			if !ok || name[:2] != dir.Name() {
				continue
			}
			b := s.blobs[sum]
			if b == nil || b.needs == 0 {
				info, err := os.Stat(s.path(sum))
				if err != nil || !info.Mode().IsRegular() {
					s.log.Warn("an attachment can't be looked at", "sha256", name, "err", err)
					continue
				}
				if b == nil {
					b = &blob{sum: sum}
					s.blobs[sum] = b
				}
				b.size = info.Size()
				times[b] = info.ModTime()
			}
			b.puts = 1
			s.bytes += b.size
		}
	}
	var idle []*blob
	for sum, b := range s.blobs {
		if b.idle != nil { // by a promise that was finished
			s.idle.Remove(b.idle)
			b.idle = nil
		}
		switch {
		case b.puts == 0 && b.needs == 0:
			delete(s.blobs, sum)
		case b.puts > 0 && b.needs == 0:
			idle = append(idle, b)
		}
	}
	order.By(idle, func(a, b *blob) int { return times[a].Compare(times[b]) })
	for _, b := range idle {
		b.since = times[b]
		b.idle = s.idle.PushBack(b)
	}
	return nil
}

// afterDamage keeps the damaged journal, and promises anew what it may have
// promised: content that is still there and that no readable record speaks of.
func (s *Store) afterDamage() {
	keep := filepath.Join(s.dir, "quarantine", fmt.Sprintf("promises-%d.log", s.o.Now().Unix()))
	if err := os.Link(filepath.Join(s.dir, journalName), keep); err != nil {
		s.log.Error("no copy of the damaged journal of attachments could be kept", "err", err)
	}
	s.log.Error("records of the journal of attachments are damaged; contents without a record are delivered once more",
		"records", s.damaged, "contents", s.idle.Len(), "quarantine", keep)
	if s.o.Source == "" || len(s.senders) == 0 {
		return
	}
	for e := s.idle.Front(); e != nil; e = s.idle.Front() {
		b := e.Value.(*blob)
		s.lastID++
		p := &promise{
			id: s.lastID, class: event.Routine, source: s.o.Source, mediaType: "application/octet-stream",
			chunk: s.o.ChunkBytes, blob: b, referred: true,
		}
		s.add(p)
		s.settle(b)
		s.refer(p)
	}
}
