package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
)

// Loss is a range of records that were stored and can't be read any more.
type Loss struct {
	Class event.Class
	// First and Last bound the range, both included.
	First, Last uint64
	// Count is how many sequence numbers of the range are lost. After a crash
	// that damaged the end of a log it is an upper bound.
	Count uint64
	// Reason is one word as in event.AgentLoss: "damaged".
	Reason string
	// Detail is for a person.
	Detail string
	// Quarantine is the file that holds a copy of the damaged bytes; empty if
	// there were none, or no copy could be made.
	Quarantine string
}

const reasonDamaged = "damaged"

// lose notes that the records first to last are gone, as far as they are
// neither delivered nor known to be lost, and copies what stands in their place
// to quarantine. It is called by Open and, under the Reader's lock, by Next.
func (l *classLog) lose(first, last uint64, g *gap) {
	l.s.mu.Lock()
	first = max(first, l.acked+1)
	var pieces []knownLoss
	for _, k := range l.losses { // by first
		if !k.dense() || k.last < first || k.first > last {
			continue
		}
		if k.first > first {
			pieces = append(pieces, knownLoss{first: first, last: k.first - 1})
		}
		first = k.last + 1
	}
	l.s.mu.Unlock()
	if first <= last {
		pieces = append(pieces, knownLoss{first: first, last: last})
	}
	for _, k := range pieces {
		k.count = k.last - k.first + 1
		loss := Loss{Class: l.class, First: k.first, Last: k.last, Count: k.count, Reason: reasonDamaged}
		loss.Detail = fmt.Sprintf("%s of the %s log can't be read", numbers(k.first, k.last), l.class)
		var copyErr error
		switch {
		case g == nil:
			loss.Detail += ": their segment is missing"
		case g.from >= g.to:
			loss.Detail += fmt.Sprintf(": they are missing in segment %s", g.seg.name())
		default:
			loss.Detail += fmt.Sprintf(": damage in segment %s, bytes %d to %d", g.seg.name(), g.from, g.to)
			loss.Quarantine, copyErr = l.quarantineCopy(k, g)
			if copyErr != nil {
				loss.Detail += "; no copy could be made: " + copyErr.Error()
			}
		}
		l.s.log.Error("records are lost", "class", l.class, "first", k.first, "last", k.last, "detail", loss.Detail, "quarantine", loss.Quarantine)
		l.s.mu.Lock()
		l.addLoss(k)
		l.addFresh(loss)
		if copyErr != nil {
			for i := range l.segments {
				if l.segments[i].gen == g.seg.gen {
					l.segments[i].keep = true
				}
			}
		}
		l.s.mu.Unlock()
	}
	if len(pieces) > 0 {
		l.s.signal() // the cursor file remembers it
	}
}

func numbers(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("sequence %d", first)
	}
	return fmt.Sprintf("sequences %d to %d", first, last)
}

// addLoss remembers a loss in the cursor. The caller holds s.mu.
func (l *classLog) addLoss(k knownLoss) {
	at, _ := slices.BinarySearchFunc(l.losses, k.first, func(e knownLoss, first uint64) int {
		if e.first < first {
			return -1
		}
		return 1
	})
	l.losses = slices.Insert(l.losses, at, k)
	if len(l.losses) > knownLosses {
		// One that is recorded can be forgotten: at the worst it is reported
		// twice. Otherwise the last two become one.
		if i := slices.IndexFunc(l.losses, func(e knownLoss) bool { return e.recorded }); i >= 0 {
			l.losses = slices.Delete(l.losses, i, i+1)
		} else {
			n := len(l.losses)
			a, b := &l.losses[n-2], l.losses[n-1]
			a.last, a.count = max(a.last, b.last), a.count+b.count
			l.losses = l.losses[:n-1]
		}
	}
	l.settle()
	l.dirty = true
}

// addFresh queues a loss for Losses. The caller holds s.mu.
func (l *classLog) addFresh(loss Loss) {
	n := len(l.fresh)
	if n < maxLosses {
		l.fresh = append(l.fresh, loss)
		return
	}
	f := &l.fresh[n-1]
	f.First, f.Last = min(f.First, loss.First), max(f.Last, loss.Last)
	f.Count += loss.Count
	f.Detail = fmt.Sprintf("%d within %s of the %s log can't be read: damage in many places", f.Count, numbers(f.First, f.Last), l.class)
	f.Quarantine = ""
}

// settle moves the consumers over losses that nothing undelivered precedes, and
// the cursor to the last of them. It forgets the losses that are behind the
// cursor and recorded. The caller holds s.mu.
func (l *classLog) settle() {
	low := l.over(l.acked)
	if len(l.consumers) > 0 {
		low = maxSequence
	}
	for _, c := range l.consumers {
		c.acked = l.over(max(c.acked, l.acked))
		c.handed = max(c.handed, c.acked)
		low = min(low, c.acked)
	}
	l.acked = max(l.acked, low)
	l.losses = slices.DeleteFunc(l.losses, func(k knownLoss) bool { return k.recorded && k.last <= l.acked })
}

// oldLosses queues those that were found before and not recorded.
func (l *classLog) oldLosses() {
	for _, k := range l.losses {
		if k.recorded {
			continue
		}
		loss := Loss{Class: l.class, First: k.first, Last: k.last, Count: k.count, Reason: reasonDamaged}
		loss.Detail = fmt.Sprintf("%d within %s of the %s log can't be read; found before the last start", k.count, numbers(k.first, k.last), l.class)
		if name := l.quarantineName(k); l.exists(name) {
			loss.Quarantine = name
		}
		l.addFresh(loss)
	}
	l.settle()
}

func (l *classLog) lossRecorded(loss Loss) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for i, k := range l.losses {
		if k.first >= loss.First && k.last <= loss.Last && !k.recorded {
			l.losses[i].recorded = true
			l.dirty = true
		}
	}
	l.settle()
	l.s.signal()
}

func (s *Spool) quarantineDir() string { return filepath.Join(s.dir, "quarantine") }

func (l *classLog) quarantineName(k knownLoss) string {
	return filepath.Join(l.s.quarantineDir(), fmt.Sprintf("%s-%020d-%020d.bad", l.class, k.first, k.last))
}

func (l *classLog) exists(name string) bool {
	f, err := l.s.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return false
	}
	_ = f.Close() // read only
	return true
}

// quarantineCopy copies the bytes of a gap and returns the name of the copy.
func (l *classLog) quarantineCopy(k knownLoss, g *gap) (string, error) {
	dir, name := l.s.quarantineDir(), l.quarantineName(k)
	if err := l.s.fs.MkdirAll(dir); err != nil {
		return "", err
	}
	files, err := l.s.fs.ReadDir(dir)
	if err != nil {
		return "", err
	}
	total := g.to - g.from
	for _, f := range files {
		switch {
		case f.Name == filepath.Base(name) && f.Size == g.to-g.from:
			return name, nil // by an earlier start
		case strings.HasSuffix(f.Name, ".bad"):
			total += f.Size
		}
	}
	if total > maxQuarantine {
		return "", fmt.Errorf("%s is full (%d bytes)", dir, maxQuarantine)
	}
	to, err := l.s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return "", err
	}
	err = copyRange(to, g, l.code)
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = l.s.fs.SyncDir(dir)
	}
	if err == nil {
		err = l.s.fs.SyncDir(l.s.dir)
	}
	if err != nil {
		_ = l.s.fs.Remove(name) // half a copy is none
		return "", err
	}
	return name, nil
}

func copyRange(to File, g *gap, class byte) error {
	sc := scanner{file: g.file, class: class, end: g.to, tolerant: true}
	for at := g.from; at < g.to; {
		b, err := sc.bytesAt(at, int(min(chunkBytes, g.to-at)))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			break
		}
		if _, err := to.WriteAt(b, at-g.from); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return to.Sync()
}

// quarantineFile moves a whole segment away, which takes no space.
func (l *classLog) quarantineFile(g segment) {
	dir := l.s.quarantineDir()
	err := l.s.fs.MkdirAll(dir)
	if err == nil {
		err = l.s.fs.Rename(l.path(g), filepath.Join(dir, string(l.class)+"-"+g.name()))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.warn("a segment can't be moved to quarantine", "file", l.path(g), "error", err)
	}
}
