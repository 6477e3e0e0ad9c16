package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// Requeued says what will be delivered again.
type Requeued struct {
	Class event.Class
	// First and Last bound the sequence numbers that wait now and did not before,
	// both included. What the disk does not hold any more because it was delivered
	// is not among them.
	First, Last uint64
}

// Requeue moves the cursor of a class back, so that what is still on disk from
// the sequence number on is delivered again, the same bytes under the same
// numbers. Nobody may have the spool open: ErrLocked. consumer names who gets them
// again; if it is empty, everybody does. fs is the operating system's if nil.
func Requeue(dir string, class event.Class, consumer string, from uint64, fs FS) (Requeued, error) {
	var done Requeued
	err := closed(dir, class, fs, func(i *Inspection, l *classLog, fs FS) error {
		acked := uint64(0)
		known := consumer == ""
		var names []string
		for _, c := range l.consumers {
			names = append(names, c.name)
			if consumer == "" || consumer == c.name {
				known, acked = true, max(acked, c.acked)
			}
		}
		switch {
		case !known:
			return fmt.Errorf("there is no consumer %q (there is %s)", consumer, strings.Join(names, ", "))
		case from == 0:
			return errors.New("sequence numbers begin with 1")
		case from > acked:
			return fmt.Errorf("%s sequence %d is not delivered yet, so it waits already (delivered up to %d)", class, from, acked)
		case len(l.segments) == 0 || from < l.segments[0].first:
			return fmt.Errorf("%s sequence %d is not on this disk any more: the oldest that is has sequence %d", class, from, i.oldest(l))
		}
		done = Requeued{Class: class, First: from, Last: acked}
		if consumer == "" || len(l.consumers) < 2 {
			return moveBack(l, fs, from-1, nil)
		}
		return moveOneBack(l, fs, consumer, from-1)
	})
	return done, err
}

// RequeueSegment puts a whole segment back that was moved to quarantine, for
// instance by a version that did not know its format, and moves the cursor back to
// before it. It is refused if the segment is not this spool's, or if its numbers
// belong to other records by now. name is the file's, as Inspect lists it. Nobody
// may have the spool open: ErrLocked.
func RequeueSegment(dir, name string, fs FS) (Requeued, error) {
	q := parseQuarantined(FileInfo{Name: name})
	if !q.Segment {
		return Requeued{}, fmt.Errorf("%s is no segment: only whole segments can be put back, and not copies of damaged bytes, in which no record is intact", name)
	}
	var done Requeued
	err := closed(dir, q.Class, fs, func(i *Inspection, l *classLog, fs FS) error {
		g, _ := parseSegmentName(name[len(q.Class)+1:])
		from := filepath.Join(l.s.quarantineDir(), name)
		end, err := l.fits(from, g)
		if err != nil {
			return err
		}
		last := i.delivered(l)
		limit, err := i.room(l, g)
		if err != nil {
			return err
		}
		end = min(end, limit-1)
		done = Requeued{Class: q.Class, First: g.first, Last: max(last, end)}
		// The cursor first: if this is where it ends, the segment's numbers are
		// reported lost, and it is still there to be put back.
		if err := moveBack(l, fs, min(last, g.first-1), &knownLoss{first: g.first, last: end}); err != nil {
			return err
		}
		if err := fs.Rename(from, l.path(g)); err != nil {
			return err
		}
		return errors.Join(fs.SyncDir(l.dir), fs.SyncDir(l.s.quarantineDir()))
	})
	return done, err
}

// closed calls do while it holds the lock of a spool.
func closed(dir string, class event.Class, base FS, do func(*Inspection, *classLog, FS) error) (err error) {
	if base == nil {
		base = osFS{}
		if err := lookAround(dir); err != nil {
			return err
		}
	}
	// It is not made here, where it might belong to another user than the agent's.
	held, err := lock(base, dir, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("requeue in spool %s: %w", dir, err)
	}
	defer held.close()
	i, err := Inspect(dir, InspectOptions{FS: base})
	if err != nil {
		return err
	}
	l := i.spool.classLog(class)
	if l == nil {
		return fmt.Errorf("spool: no class %q", class)
	}
	if err := do(i, l, base); err != nil {
		return fmt.Errorf("requeue in spool %s: %w", dir, err)
	}
	return nil
}

// oldest is the lowest number for which there is a segment, or the next one.
func (i *Inspection) oldest(l *classLog) uint64 {
	if len(l.segments) == 0 {
		return l.head + 1
	}
	return l.segments[0].first
}

// moveBack writes the cursor with another acknowledged number, without the losses
// in the range that came back. What was delivered after that range, and deleted,
// is noted like a loss that is reported, so that it is passed over and not
// reported as lost.
func moveBack(l *classLog, fs FS, acked uint64, back *knownLoss) error {
	c := cursorFile{fs: fs, path: l.cursor.path, class: l.code}
	state, ok, err := c.open()
	defer func() { _ = c.close() }() // synced by then
	if err != nil {
		return err
	}
	if !ok {
		if back == nil {
			return errors.New("there is no cursor, so all that is on disk is delivered again anyway")
		}
		return nil
	}
	// The consumers that were ahead of others go back as well.
	if err := fs.Remove(l.positions.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := state.acked
	state.acked = acked
	state.losses = slices.DeleteFunc(state.losses, func(k knownLoss) bool { return k.told(was, acked) })
	if back != nil {
		var losses []knownLoss
		for _, k := range state.losses {
			losses = append(losses, k.without(*back)...)
		}
		if gone := (knownLoss{first: back.last + 1, last: was, recorded: true, reason: passed}); gone.first <= gone.last {
			for _, g := range l.segments {
				if g.first > back.last {
					gone.last = min(gone.last, g.first-1)
					break
				}
			}
			if gone.count = gone.last - gone.first + 1; gone.first <= gone.last {
				losses = slices.DeleteFunc(losses, func(k knownLoss) bool { return k.first >= gone.first && k.last <= gone.last })
				losses = append(losses, gone)
			}
		}
		order.By(losses, func(a, b knownLoss) int { return cmp.Compare(a.first, b.first) })
		state.losses = condense(losses)
	}
	// In both slots: should one be damaged, the other must not tell of before.
	return cmp.Or(c.write(state, true), c.write(state, true))
}

// moveOneBack moves one of several consumers back and leaves the others where they
// are.
func moveOneBack(l *classLog, fs FS, consumer string, acked uint64) error {
	c := cursorFile{fs: fs, path: l.cursor.path, class: l.code}
	state, ok, err := c.open()
	defer func() { _ = c.close() }() // synced by then
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("there is no cursor, so all that is on disk is delivered again anyway")
	}
	var list []position
	for _, o := range l.consumers {
		p := o.position
		if p.name == consumer {
			p.acked = acked
		}
		list = append(list, p)
	}
	// The positions first: nobody is behind the cursor, so until that is written
	// too, everything is as before.
	p := cursorFile{fs: fs, path: l.positions.path, class: l.code}
	defer func() { _ = p.close() }() // synced by then
	if _, err := p.openSlots(func(b []byte) (uint64, bool) {
		was, ok := parsePositions(b, l.code)
		return was.writeCount, ok
	}); err != nil {
		return err
	}
	encode := func(b []byte, count uint64) []byte {
		return appendPositions(b, l.code, positions{id: l.s.id, list: list, writeCount: count})
	}
	if err := cmp.Or(p.writeSlots(encode, true), p.writeSlots(encode, true)); err != nil {
		return err
	}
	state.losses = slices.DeleteFunc(state.losses, func(k knownLoss) bool { return k.told(state.acked, acked) })
	state.acked = min(state.acked, acked)
	return cmp.Or(c.write(state, true), c.write(state, true))
}

// told says that a loss is remembered only to be shown, and is not behind the cursor any
// more when that goes back: perhaps it can be read now.
func (k knownLoss) told(was, acked uint64) bool { return k.recorded && k.last <= was && k.last > acked }

// without is what is left of a loss when a range is there again. Of one that is
// not dense it can't be known which numbers it had, so it stays.
func (k knownLoss) without(back knownLoss) (left []knownLoss) {
	if !k.dense() || k.last < back.first || k.first > back.last {
		return []knownLoss{k}
	}
	if k.first < back.first {
		left = append(left, knownLoss{k.first, back.first - 1, back.first - k.first, k.recorded, k.reason, k.at})
	}
	if k.last > back.last {
		left = append(left, knownLoss{back.last + 1, k.last, k.last - back.last, k.recorded, k.reason, k.at})
	}
	return left
}

// fits returns the last number in a file, which is an intact segment of this log.
func (l *classLog) fits(path string, g segment) (last uint64, err error) {
	f, err := l.s.fs.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // read only
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	sc := scanner{file: f, class: l.code, end: size, tolerant: true}
	b, _ := sc.bytesAt(0, segmentHeader) // tolerant
	h, intact, known := parseSegmentHeader(b)
	switch {
	case !intact:
		return 0, fmt.Errorf("%s has a damaged header, so it is not known to be of this spool", path)
	case !known:
		return 0, fmt.Errorf("%s: %w", path, ErrVersion)
	case !l.belongs(g, h):
		return 0, fmt.Errorf("%s is of another spool", path)
	}
	sc.off = h.frames
	for {
		fr, ok, _ := sc.peek() // tolerant
		if !ok {
			break
		}
		last = max(last, fr.seq)
		sc.take(fr)
	}
	if last < g.first {
		return 0, fmt.Errorf("%s holds no record that can be read", path)
	}
	return last, nil
}

// room returns the first number that a segment would not account for if it were
// put back, or an error if its place is taken.
func (i *Inspection) room(l *classLog, g segment) (limit uint64, err error) {
	if _, err := l.s.fs.OpenFile(l.path(g), os.O_RDONLY); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is there already", l.path(g))
	}
	at, _ := slices.BinarySearchFunc(l.segments, g.gen, func(o segment, gen uint64) int { return cmp.Compare(o.gen, gen) })
	limit = l.head + 1
	taken := at > 0 && l.segments[at-1].first >= g.first
	if at < len(l.segments) {
		limit = l.segments[at].first
		taken = taken || limit <= g.first
	}
	if limit <= g.first {
		limit = g.first + 1
	}
	err = i.Walk(context.Background(), Walk{
		Class: l.class, From: g.first, To: limit - 1,
		Record: func(Record) error {
			taken = true
			return ErrStop
		},
		Found: func(f Finding) { taken = taken || f.Kind == NoKey || f.Kind == Altered },
	})
	if err == nil && taken {
		err = fmt.Errorf("the numbers from %d on belong to other records by now, so the segment can't be put back", g.first)
	}
	return limit, err
}
