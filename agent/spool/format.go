package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// The files of a spool:
//
//	lock                       flock of the process that has the spool open, which
//	                           locks the directory itself as well
//	urgent/                    one directory for each class
//	  NNN-GGG.seg              segments: first sequence number, generation
//	  cursor                   what is delivered (cursor.go)
//	  consumers                to whom, if there are several (consumers.go)
//	routine/
//	quarantine/                copies of what could not be read
//	reserve                    room put aside for a full disk (room.go)
//
// A segment is a header of 128 bytes and frames, one after the other. What
// follows the last frame is zeros (preallocated space) until the segment is
// sealed, which cuts it off. All numbers are little-endian. CRC is CRC-32C.
//
//	segment header                          frame
//	 0  8  segmentMagic                      0  4  frameMagic
//	 8  2  format version, 1                 4  1  class: 1 urgent, 2 routine
//	10  1  class: 1 urgent, 2 routine        5  1  flags: 1 = sealed (seal.go)
//	11  1  flags: 1 = has sealed frames      6  2  topic length
//	12  4  where the frames begin, 128       8  4  payload length
//	16 16  spool id, random                 12  2  extension length, 0 or 32 if sealed
//	32  8  first sequence number            14  2  reserved, 0
//	40  8  generation                       16  8  sequence number
//	48  8  begun at, Unix nanoseconds       24  8  recorded at, Unix nanoseconds
//	56 68  reserved, 0                      32  4  reserved, 0
//	124 4  CRC of the 124 bytes before      36  4  CRC of the 36 bytes before
//	                                        40     extension, topic, payload
//	                                               CRC of the whole frame before
//
// A reader skips an extension that it does not know, and touches neither a
// segment nor a frame whose flags it does not know.
//
// The second byte of frameMagic, 0xff, is never found in UTF-8. So a frame can't be
// imitated by text inside of a payload, where a search for the next frame
// after damage may come along. In sealed bytes it is found by chance only, and
// never with the two checksums that make a frame.
//
// A segment is written by one process, once. Generations grow with each
// segment that is tried. The rule that keeps a refused record from coming back
// under a number that another record got meanwhile: of a segment, only the
// numbers below the first one of the next generation count. When a write or a
// sync fails, the segment is left as it is, and the batch goes to a new one
// that begins with the batch's first number. Whatever the disk made of the
// failed write is thereby void, whether or not it could be cut off as well.
const (
	segmentMagic  = "\xf7LPSEG\r\n"
	frameMagic    = "\xf7\xffLP"
	formatVersion = 1

	segmentHeader = 128
	frameHeader   = 40
	frameTrailer  = 4
	frameMin      = frameHeader + frameTrailer

	// maxSequence bounds what is believed of a file: nothing ever counts so far.
	maxSequence = 1 << 62

	// sectorBytes is what a disk writes as a whole at the least.
	sectorBytes = 512
	// blockBytes is the piece in which unreadable places are passed over.
	blockBytes = 4096
	// chunkBytes is how much is read at a time.
	chunkBytes = 128 << 10
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // cached by crc32

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// classCode is how a class stands in files, zero for an unknown one.
func classCode(c event.Class) byte {
	switch c {
	case event.Urgent:
		return 1
	case event.Routine:
		return 2
	}
	return 0
}

// spoolID tells the files of one spool from another's. Zero means that it was
// not known when the file was written.
type spoolID [16]byte

type segmentInfo struct {
	class      byte
	sealed     bool // some of its frames may be
	id         spoolID
	first, gen uint64
	begun      int64
	frames     int64 // offset of the first frame
}

func appendSegmentHeader(b []byte, h segmentInfo) []byte {
	at := len(b)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	var flags byte
	if h.sealed {
		flags = flagSealed
	}
	b = append(b, h.class, flags)
	b = binary.LittleEndian.AppendUint32(b, segmentHeader)
	b = append(b, h.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.gen)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.begun))
	b = append(b, make([]byte, segmentHeader-4-(len(b)-at))...)
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

// parseSegmentHeader reports whether b begins with an undamaged header, and
// whether this version can read what follows.
func parseSegmentHeader(b []byte) (h segmentInfo, intact, known bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[124:]) != checksum(b[:124]) {
		return h, false, false
	}
	h.class, h.sealed = b[10], b[11]&flagSealed != 0
	h.frames = int64(binary.LittleEndian.Uint32(b[12:]))
	copy(h.id[:], b[16:])
	h.first = binary.LittleEndian.Uint64(b[32:])
	h.gen = binary.LittleEndian.Uint64(b[40:])
	h.begun = int64(binary.LittleEndian.Uint64(b[48:]))
	known = binary.LittleEndian.Uint16(b[8:]) == formatVersion && b[11]&^flagSealed == 0 && h.frames >= segmentHeader
	return h, true, known
}

// frame is one record as it lies in a segment.
type frame struct {
	seq            uint64
	recorded       int64
	topic, payload []byte // in the scanner's buffer; nil if sealed, until Keyring.open
	size           int    // of the whole frame
	sealed         []byte // the whole frame, nil if it is not sealed; in the scanner's buffer
}

func appendFrame(b []byte, class byte, seq uint64, recorded time.Time, topic string, payload []byte) []byte {
	at := len(b)
	b = appendFrameHeader(b, class, 0, 0, seq, recorded, len(topic), len(payload))
	b = append(b, topic...)
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

func appendFrameHeader(b []byte, class, flags byte, extension int, seq uint64, recorded time.Time, topic, payload int) []byte {
	at := len(b)
	b = append(b, frameMagic...)
	b = append(b, class, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(topic))
	b = binary.LittleEndian.AppendUint32(b, uint32(payload))
	b = binary.LittleEndian.AppendUint16(b, uint16(extension))
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(unixNano(recorded)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

// unixNano is t.UnixNano for all times: what does not fit is brought to the
// nearest that does.
func unixNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// parseFrameHeader reports whether b begins with an intact frame header of the
// class. Its size is then to be trusted, the rest of the frame is not yet.
func parseFrameHeader(b []byte, class byte) (f frame, topicAt, payloadAt int, ok bool) {
	if len(b) < frameHeader || string(b[:4]) != frameMagic || b[4] != class || b[5]&^flagSealed != 0 ||
		binary.LittleEndian.Uint32(b[36:]) != checksum(b[:36]) {
		return f, 0, 0, false
	}
	f.seq = binary.LittleEndian.Uint64(b[16:])
	f.recorded = int64(binary.LittleEndian.Uint64(b[24:]))
	payload := binary.LittleEndian.Uint32(b[8:])
	if payload > MaxRecord || f.seq == 0 || f.seq > maxSequence {
		return f, 0, 0, false
	}
	extension := int(binary.LittleEndian.Uint16(b[12:]))
	topicAt = frameHeader + extension
	payloadAt = topicAt + int(binary.LittleEndian.Uint16(b[6:]))
	f.size = payloadAt + int(payload) + frameTrailer
	if b[5]&flagSealed != 0 {
		if extension != sealExtension {
			return f, 0, 0, false
		}
		f.size += sealTag
	}
	return f, topicAt, payloadAt, true
}

// parseFrame reads the frame that b begins with.
func parseFrame(b []byte, class byte) (f frame, ok bool) {
	f, topicAt, payloadAt, ok := parseFrameHeader(b, class)
	if !ok || len(b) < f.size {
		return f, false
	}
	end := f.size - frameTrailer
	if binary.LittleEndian.Uint32(b[end:]) != checksum(b[:end]) {
		return f, false
	}
	if b[5]&flagSealed != 0 {
		f.sealed = b[:f.size:f.size]
		return f, true
	}
	f.topic, f.payload = b[topicAt:payloadAt], b[payloadAt:end]
	return f, true
}

// scanner walks over the frames of one segment. Where there is no valid frame
// it searches for the next one.
type scanner struct {
	file  io.ReaderAt
	class byte
	off   int64 // where the next frame should be
	end   int64 // nothing is read from here on

	// gapFrom and gapTo bound what peek passed over to find its frame, or to
	// find that there is none; both zero if nothing but zeros was in the way.
	gapFrom, gapTo int64

	// tolerant makes unreadable blocks read as junk, which no frame survives,
	// instead of failing. unreadable says that there were some.
	tolerant, unreadable bool

	// tries is how many unreadable blocks a tolerant scanner touches before it
	// takes all the rest for unreadable too; any number if zero.
	tries, tried int

	buf  []byte
	base int64 // offset of buf[0]
}

// bytesAt returns n bytes from off, fewer only where the segment ends. They are
// valid until the next call.
func (s *scanner) bytesAt(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), s.end-off))
	if n <= 0 {
		return nil, nil
	}
	if off >= s.base && off+int64(n) <= s.base+int64(len(s.buf)) {
		return s.buf[off-s.base:][:n], nil
	}
	want := int(min(int64(max(n, chunkBytes)), s.end-off))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.base = s.buf[:want], off
	if s.givenUp() {
		fillJunk(s.buf)
		return s.buf[:n], nil
	}
	got, err := s.file.ReadAt(s.buf, off)
	if err == nil || errors.Is(err, io.EOF) {
		s.buf = s.buf[:got]
		return s.buf[:min(n, got)], nil
	}
	if !s.tolerant {
		// Not all that was read ahead may be needed.
		got, err = s.file.ReadAt(s.buf[:n], off)
		if err == nil || errors.Is(err, io.EOF) {
			s.buf = s.buf[:got]
			return s.buf, nil
		}
		s.buf = s.buf[:0]
		return nil, err
	}
	for at := 0; at < want; {
		stop := min(want, at+blockBytes-int((off+int64(at))%blockBytes))
		if s.givenUp() {
			fillJunk(s.buf[at:])
			break
		}
		got, err := s.file.ReadAt(s.buf[at:stop], off+int64(at))
		if errors.Is(err, io.EOF) {
			s.buf = s.buf[:at+got]
			return s.buf[:min(n, len(s.buf))], nil
		}
		if err != nil {
			s.unreadable = true
			s.tried++
			fillJunk(s.buf[at:stop])
		}
		at = stop
	}
	return s.buf[:n], nil
}

func (s *scanner) givenUp() bool { return s.tries > 0 && s.tried >= s.tries }

// fillJunk puts in what no frame holds and what is not zero.
func fillJunk(b []byte) {
	for i := range b {
		b[i] = 0xee
	}
}

// peek finds the next valid frame and leaves the position at it. Without one,
// ok is false and the position is at the end.
func (s *scanner) peek() (f frame, ok bool, err error) {
	f, ok, err = s.frameAt(s.off)
	if ok || err != nil || s.off >= s.end {
		return f, ok, err
	}
	at, err := s.resync(s.off + 1)
	if err != nil {
		return f, false, err
	}
	junkEnd, err := s.trimZeros(s.off, at)
	if err != nil {
		return f, false, err
	}
	s.gapFrom, s.gapTo = 0, 0
	if junkEnd > s.off {
		s.gapFrom, s.gapTo = s.off, junkEnd
	}
	s.off = at
	if at >= s.end {
		return f, false, nil
	}
	return s.frameAt(at)
}

// take moves behind the frame that peek returned.
func (s *scanner) take(f frame) {
	s.off += int64(f.size)
	s.gapFrom, s.gapTo = 0, 0
}

func (s *scanner) frameAt(off int64) (f frame, ok bool, err error) {
	b, err := s.bytesAt(off, frameHeader)
	if err != nil {
		return f, false, err
	}
	f, _, _, ok = parseFrameHeader(b, s.class)
	if !ok {
		return f, false, nil
	}
	b, err = s.bytesAt(off, f.size)
	if err != nil {
		return f, false, err
	}
	f, ok = parseFrame(b, s.class)
	return f, ok, nil
}

// resync returns the offset of the first valid frame at or after from, or the
// end.
func (s *scanner) resync(from int64) (int64, error) {
	for {
		b, err := s.bytesAt(from, len(frameMagic))
		if err != nil {
			return 0, err
		}
		if len(b) < len(frameMagic) {
			return s.end, nil
		}
		b = s.buf[from-s.base:] // all that is read already
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			from += int64(len(b) - len(frameMagic) + 1)
			continue
		}
		from += int64(i)
		if _, ok, err := s.frameAt(from); ok || err != nil {
			return from, err
		}
		from++
	}
}

// trimZeros returns where the last byte that is not zero ends in from..to.
func (s *scanner) trimZeros(from, to int64) (int64, error) {
	last := from
	for from < to {
		b, err := s.bytesAt(from, int(min(chunkBytes, to-from)))
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			break
		}
		if !allZero(b) {
			last = from + int64(len(bytes.TrimRight(b, "\x00")))
		}
		from += int64(len(b))
	}
	return last, nil
}

// torn reports whether what stands at off, where there is no valid frame and
// nothing but zeros from junkEnd on, looks like a write that did not come to its
// end: the frame breaks off, or a whole disk sector's share of it is zeros
// still. A frame that is all there and wrong is damage, not a torn write.
//
// It decides whether the number of the last record of a log that was not closed
// may be given again. Events are JSON, which has no zero bytes.
func (s *scanner) torn(off, junkEnd int64) (bool, error) {
	if junkEnd < off+frameHeader {
		return true, nil
	}
	b, err := s.bytesAt(off, frameHeader)
	if err != nil {
		return false, err
	}
	f, _, _, ok := parseFrameHeader(b, s.class)
	if !ok {
		return zeroSector(b, off, 0, 1), nil
	}
	if junkEnd+1 < off+int64(f.size) { // one zero may be the checksum's last byte
		return true, nil
	}
	if b, err = s.bytesAt(off, f.size); err != nil {
		return false, err
	}
	least := 1
	if b[5]&flagSealed != 0 {
		least = 8 // sealed bytes may be zero, so many of them never are
	}
	return len(b) < f.size || zeroSector(b, off, frameHeader, least), nil
}

// zeroSector reports whether b, which lies at off, has only zeros in a sector,
// looking at b[from:], and at sectors of which at least that many bytes are in it.
func zeroSector(b []byte, off int64, from, least int) bool {
	for from < len(b) {
		to := min(len(b), from+sectorBytes-int((off+int64(from))%sectorBytes))
		if to-from >= least && allZero(b[from:to]) {
			return true
		}
		from = to
	}
	return false
}

// allZero is quick: preallocated space is long.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
