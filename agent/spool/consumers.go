package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// DefaultConsumer is the consumer of a spool whose options name none.
const DefaultConsumer = "mqtt"

// The consumers file says how far each consumer is, where there are several. It
// is written after the cursor, whose acknowledged number is the least of them,
// and in the same way: two slots of cursorSlot bytes by turns. With one consumer,
// or none, there is no such file. If it is lost, all consumers are where the
// cursor is.
//
//	 0  8  consumersMagic
//	 8  2  format version, 1
//	10  1  class
//	11  1  number of consumers
//	12  4  reserved, 0
//	16 16  spool id
//	32  8  count of writes
//	40     consumers of 40 bytes: name, padded to 32 with zeros; acknowledged
//	       sequence number
//	       CRC of everything before
const (
	consumersMagic  = "\xf7LPCON\r\n"
	consumersHeader = 40
	consumerBytes   = 40
	consumerName    = 32

	// maxConsumers bounds the consumers of a spool.
	maxConsumers = 8
)

var consumerText = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// checkConsumers returns the names, or says what is wrong with them.
func checkConsumers(names []string) ([]string, error) {
	if names == nil {
		names = []string{DefaultConsumer}
	}
	if len(names) > maxConsumers {
		return nil, fmt.Errorf("%d consumers: at most %d", len(names), maxConsumers)
	}
	for i, name := range names {
		if !consumerText.MatchString(name) {
			return nil, fmt.Errorf("consumer %q: want 1 to %d of a-z, 0-9 and -", name, consumerName)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("consumer %q is named twice", name)
		}
	}
	return slices.Clone(names), nil
}

// consumer is somebody who reads a class and acknowledges. s.mu guards it.
type consumer struct {
	position
	handed uint64 // highest number that Next returned
	oldest oldest
}

// position is how far a consumer is.
type position struct {
	name  string
	acked uint64
}

// positions is what a slot of the consumers file holds.
type positions struct {
	id         spoolID
	list       []position
	writeCount uint64
}

func appendPositions(b []byte, class byte, p positions) []byte {
	at := len(b)
	b = append(b, consumersMagic...)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	b = append(b, class, byte(len(p.list)), 0, 0, 0, 0)
	b = append(b, p.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, p.writeCount)
	for _, c := range p.list {
		b = append(b, c.name...)
		b = append(b, make([]byte, consumerName-len(c.name))...)
		b = binary.LittleEndian.AppendUint64(b, c.acked)
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

func parsePositions(b []byte, class byte) (p positions, ok bool) {
	if len(b) < consumersHeader || string(b[:8]) != consumersMagic ||
		binary.LittleEndian.Uint16(b[8:]) != formatVersion || b[10] != class || b[11] > maxConsumers {
		return p, false
	}
	end := consumersHeader + int(b[11])*consumerBytes
	if len(b) < end+4 || binary.LittleEndian.Uint32(b[end:]) != checksum(b[:end]) {
		return p, false
	}
	copy(p.id[:], b[16:])
	p.writeCount = binary.LittleEndian.Uint64(b[32:])
	for at := consumersHeader; at < end; at += consumerBytes {
		c := position{
			name:  string(bytes.TrimRight(b[at:at+consumerName], "\x00")),
			acked: binary.LittleEndian.Uint64(b[at+consumerName:]),
		}
		if !consumerText.MatchString(c.name) || c.acked > maxEvidence ||
			slices.ContainsFunc(p.list, func(o position) bool { return o.name == c.name }) {
			return positions{}, false
		}
		p.list = append(p.list, c)
	}
	return p, true
}

// loadPositions reads the consumers file. Without one that can be read, what is
// delivered to the consumers that were ahead of others is delivered again.
func (l *classLog) loadPositions() {
	ok, err := l.positions.openSlots(func(b []byte) (uint64, bool) {
		p, ok := parsePositions(b, l.code)
		if ok {
			l.foundAt = p
		}
		return p.writeCount, ok
	})
	if err != nil {
		l.warn("the positions of the consumers can't be read, or not be relied on; if they are lost, events are delivered again to those that were ahead", "error", err)
	}
	if !ok {
		l.foundAt = positions{}
	}
	l.positionsStale = true // a consumer may have come or gone
}

// placeConsumers puts the consumers where they were: new ones where the cursor is, and
// none behind it. Those that are gone hold nothing back any more. It is called
// by Open when acked and head are known.
func (l *classLog) placeConsumers() {
	for _, old := range l.foundAt.list {
		if !slices.Contains(l.s.names, old.name) {
			l.s.log.Info("a consumer is gone; nothing is kept for it any more", "class", l.class, "consumer", old.name, "acknowledged", old.acked)
		}
	}
	l.consumers = nil
	for _, name := range l.s.names {
		c := &consumer{position: position{name: name, acked: l.acked}}
		for _, old := range l.foundAt.list {
			if old.name == name {
				c.acked = max(c.acked, old.acked)
			}
		}
		c.handed = c.acked
		l.consumers = append(l.consumers, c)
	}
	l.foundAt = positions{}
}

// over returns the number up to which nothing is left to deliver, if everything
// up to acked is delivered: what follows may be known to be lost. The caller
// holds s.mu.
func (l *classLog) over(acked uint64) uint64 {
	for _, k := range l.losses {
		if k.dense() && k.first <= acked+1 && k.last > acked {
			acked = k.last
		}
	}
	return acked
}

// writePositions brings the consumers file up to date.
func (l *classLog) writePositions(list []position, sync bool) error {
	if len(l.s.names) < 2 {
		if !l.positionsStale {
			return nil
		}
		_ = l.positions.close() // it goes
		err := l.s.fs.Remove(l.positions.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l.positions.exists, l.positionsStale = false, false
		return nil
	}
	if slices.Equal(list, l.written) && !l.positionsStale && (!sync || !l.positions.unsynced) {
		return nil
	}
	err := l.positions.writeSlots(func(b []byte, count uint64) []byte {
		return appendPositions(b, l.code, positions{id: l.s.id, list: list, writeCount: count})
	}, sync)
	if err == nil {
		l.written, l.positionsStale = list, false
	}
	return err
}

// Delivered reports whether a consumer has acknowledged a sequence, or has
// nothing more to do with it because it is lost. It costs next to nothing. A
// consumer that there is not waits for nothing.
func (s *Spool) Delivered(consumer string, class event.Class, seq uint64) bool {
	l := s.classLog(class)
	if l == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range l.consumers {
		if c.name == consumer {
			return seq <= c.acked
		}
	}
	return true
}

// NewestAtOpen is the latest time at which a record of the newest segments was recorded, as
// Open found them; zero if there was none.
func (s *Spool) NewestAtOpen() (at time.Time) {
	if newest := max(s.logs[0].newestAt, s.logs[1].newestAt); newest > 0 {
		at = time.Unix(0, newest)
	}
	return at
}

// Anew is the sequence with which the hash chain of a class began anew at Open because
// the newest record before could not be read; zero if it went on.
func (s *Spool) Anew(class event.Class) uint64 { return s.classLog(class).anew }

// Head is the last sequence of a class and the value of its hash chain after it,
// which is zero if that is not known.
func (s *Spool) Head(class event.Class) (seq uint64, chain event.Hash) {
	l := s.classLog(class)
	if l == nil {
		return 0, event.Hash{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.head, l.chain
}
