package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// The cursor file says what of a class is delivered. It has two slots of
// cursorSlot bytes that are overwritten in place by turns, to spare the flash
// and the journal; the slot of the higher count that is whole is the one that
// counts. A slot is left alone until the other one is synced.
//
//	 0  8  cursorMagic
//	 8  2  format version, 1
//	10  1  class
//	11  1  flags: 1 = closed in order, 2 = the chain's value follows
//	12  4  number of losses
//	16 16  spool id
//	32  8  count of writes
//	40  8  acknowledged sequence number
//	48  8  head: highest sequence number given
//	56  8  generation: highest one tried
//	64     losses of 32 bytes: first, last, count, flags (1 = recorded,
//	       2 = evicted, 4 = none: delivered and deleted, otherwise damaged)
//	       and above the lowest 8 bits the urgent event that tells it
//	       CRC of everything before
//	       value of the hash chain after the head, zeros if not known
//	       CRC of everything before
//
// Earlier versions wrote no chain, and read no further than the first CRC.
const (
	cursorMagic  = "\xf7LPCUR\r\n"
	cursorSlot   = 4096
	cursorHeader = 64
	lossBytes    = 32
	chainBytes   = len(event.Hash{}) + 4

	// maxLosses bounds the losses of a class in the cursor file, and knownLosses
	// those in memory.
	maxLosses   = 120
	knownLosses = 10_000
	// toldLosses bounds those that are remembered only to be counted and shown.
	toldLosses = 64
)

// cursorState is what a slot holds.
type cursorState struct {
	id         spoolID
	acked      uint64
	head       uint64
	gen        uint64
	closed     bool
	losses     []knownLoss
	chain      event.Hash // after head, zero if it is not known
	writeCount uint64
}

// knownLoss is a loss that the Reader need not find again.
type knownLoss struct {
	first, last, count uint64
	// recorded is set when the loss is an event that is on disk, and at is the
	// urgent sequence of that.
	recorded bool
	reason   reason
	at       uint64
}

// dense says that every number of the range is lost.
func (k knownLoss) dense() bool { return k.count == k.last-k.first+1 }

// condense makes losses fit into a slot. Those that are not recorded come
// first, and if they are too many, neighbours become one.
func condense(losses []knownLoss) []knownLoss {
	if len(losses) <= maxLosses {
		return slices.Clone(losses)
	}
	var open, recorded []knownLoss
	for _, k := range losses {
		if k.recorded {
			recorded = append(recorded, k)
		} else {
			open = append(open, k)
		}
	}
	var fit []knownLoss
	for group := range slices.Chunk(open, (len(open)+maxLosses-1)/maxLosses+1) {
		sum := group[0]
		for _, k := range group[1:] {
			if k.reason != sum.reason {
				sum.reason = damaged
			}
			sum.last, sum.count = max(sum.last, k.last), sum.count+k.count
		}
		fit = append(fit, sum)
	}
	fit = append(fit, recorded[:min(len(recorded), maxLosses-len(fit))]...)
	order.By(fit, func(a, b knownLoss) int { return cmp.Compare(a.first, b.first) })
	return fit
}

func appendCursor(b []byte, class byte, c cursorState) []byte {
	at := len(b)
	flags := byte(2)
	if c.closed {
		flags |= 1
	}
	b = append(b, cursorMagic...)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	b = append(b, class, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.losses)))
	b = append(b, c.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, c.writeCount)
	b = binary.LittleEndian.AppendUint64(b, c.acked)
	b = binary.LittleEndian.AppendUint64(b, c.head)
	b = binary.LittleEndian.AppendUint64(b, c.gen)
	for _, l := range c.losses {
		flags := l.at<<8 | uint64(l.reason)<<1
		if l.recorded {
			flags |= 1
		}
		b = binary.LittleEndian.AppendUint64(b, l.first)
		b = binary.LittleEndian.AppendUint64(b, l.last)
		b = binary.LittleEndian.AppendUint64(b, l.count)
		b = binary.LittleEndian.AppendUint64(b, flags)
	}
	b = binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
	b = append(b, c.chain[:]...)
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

func parseCursor(b []byte, class byte) (c cursorState, ok bool) {
	if len(b) < cursorHeader || string(b[:8]) != cursorMagic ||
		binary.LittleEndian.Uint16(b[8:]) != formatVersion || b[10] != class {
		return c, false
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if n > maxLosses {
		return c, false
	}
	end := cursorHeader + int(n)*lossBytes
	if len(b) < end+4 || binary.LittleEndian.Uint32(b[end:]) != checksum(b[:end]) {
		return c, false
	}
	c.closed = b[11]&1 != 0
	copy(c.id[:], b[16:])
	c.writeCount = binary.LittleEndian.Uint64(b[32:])
	c.acked = binary.LittleEndian.Uint64(b[40:])
	c.head = binary.LittleEndian.Uint64(b[48:])
	c.gen = binary.LittleEndian.Uint64(b[56:])
	for at := cursorHeader; at < end; at += lossBytes {
		k := knownLoss{
			first:    binary.LittleEndian.Uint64(b[at:]),
			last:     binary.LittleEndian.Uint64(b[at+8:]),
			count:    binary.LittleEndian.Uint64(b[at+16:]),
			recorded: b[at+24]&1 != 0,
			reason:   reason(b[at+24] >> 1 & 3),
			at:       binary.LittleEndian.Uint64(b[at+24:]) >> 8,
		}
		if k.first > k.last || k.last > c.head || k.count > k.last-k.first+1 {
			return c, false
		}
		c.losses = append(c.losses, k)
	}
	if b[11]&2 != 0 {
		at := end + chainBytes // of the second CRC
		if len(b) < at+4 || binary.LittleEndian.Uint32(b[at:]) != checksum(b[:at]) {
			return c, false
		}
		copy(c.chain[:], b[end+4:])
	}
	return c, c.acked <= c.head && c.head <= maxEvidence
}

// cursorFile writes the slots, of the cursor or of the consumers file.
type cursorFile struct {
	fs    FS
	path  string
	class byte

	file     File // nil before the first write and after a failed one
	exists   bool // there is a file that the next start would believe
	count    uint64
	slot     int64 // to write next: 0 or 1
	unsynced bool
	buf      []byte
}

// open reads the cursor. ok is false if there is none that can be read. The
// error only says why.
func (c *cursorFile) open() (state cursorState, ok bool, err error) {
	ok, err = c.openSlots(func(b []byte) (uint64, bool) {
		s, whole := parseCursor(b, c.class)
		if whole {
			state = s
		}
		return s.writeCount, whole
	})
	return state, ok, err
}

// openSlots reads the file. The slot that counts is the last one that parse gets;
// it returns the slot's count of writes, or that it is not whole.
func (c *cursorFile) openSlots(parse func(b []byte) (uint64, bool)) (ok bool, err error) {
	f, err := c.fs.OpenFile(c.path, os.O_RDWR)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	var newest []byte
	for slot := range int64(2) {
		b := make([]byte, cursorSlot)
		n, readErr := f.ReadAt(b, slot*cursorSlot)
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			err = readErr
			continue
		}
		count, whole := parse(b[:n])
		if whole && (!ok || count > c.count) {
			c.count, ok = count, true
			c.slot = 1 - slot
			newest = b[:n]
		}
	}
	if ok {
		parse(newest)
	}
	c.exists = ok
	// A process that was killed may have left the slot unsynced. It must be
	// durable before the other one is touched.
	if ok && err == nil {
		if err = f.Sync(); err == nil {
			c.file = f
			return true, nil
		}
	}
	_ = f.Close() // the next write makes a new file
	if !ok && err == nil {
		err = fmt.Errorf("%s is damaged", c.path)
	}
	return ok, err
}

// write writes a slot; sync makes it durable too. If that fails, it makes a new
// file instead of trying the same pages again.
func (c *cursorFile) write(state cursorState, sync bool) error {
	return c.writeSlots(func(b []byte, count uint64) []byte {
		state.writeCount = count
		return appendCursor(b, c.class, state)
	}, sync)
}

// writeSlots is write for the content that encode appends.
func (c *cursorFile) writeSlots(encode func(b []byte, count uint64) []byte, sync bool) error {
	c.count++
	c.buf = encode(c.buf[:0], c.count)
	if c.file != nil {
		err := os.ErrNotExist
		if !c.file.Gone(c.path) { // somebody may have deleted it
			err = c.overwrite(sync)
		}
		if err == nil {
			return nil
		}
		_ = c.close() // given up
	}
	return c.create()
}

func (c *cursorFile) overwrite(sync bool) error {
	if _, err := c.file.WriteAt(c.buf, c.slot*cursorSlot); err != nil {
		return err
	}
	c.unsynced = true
	if !sync {
		return nil
	}
	if err := c.file.Sync(); err != nil {
		return err
	}
	c.unsynced = false
	c.slot = 1 - c.slot
	return nil
}

// create puts a new cursor file in the place of the old one, durably.
func (c *cursorFile) create() (err error) {
	temp := c.path + ".new"
	f, err := c.fs.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = c.fs.Remove(temp) // Open removes it at the latest
		}
	}()
	// The file has its size from the start, so that a full disk can't stop a
	// write to it.
	c.buf = append(c.buf, make([]byte, 2*cursorSlot-len(c.buf))...)
	if _, err := f.WriteAt(c.buf, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := c.fs.Rename(temp, c.path); err != nil {
		return err
	}
	c.exists = true
	if err := c.fs.SyncDir(filepath.Dir(c.path)); err != nil {
		return err
	}
	c.file, c.slot, c.unsynced = f, 1, false
	return nil
}

// discard removes the file, for the space that it takes.
func (c *cursorFile) discard() error {
	if err := c.fs.Remove(c.path); err != nil {
		return err
	}
	if err := c.fs.SyncDir(filepath.Dir(c.path)); err != nil {
		return err
	}
	c.exists = false
	return nil
}

func (c *cursorFile) close() error {
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}
