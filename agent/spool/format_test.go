package spool

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// crcBitwise is CRC-32C from its definition: reflected polynomial 0x82f63b78.
func crcBitwise(b []byte) []byte {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	crc = ^crc
	return []byte{byte(crc), byte(crc >> 8), byte(crc >> 16), byte(crc >> 24)}
}

// The formats, byte for byte as format.go and cursor.go describe them. If one
// of these changes, spools in the field can't be read any more.
func TestFormatIsFixed(t *testing.T) {
	require.Equal(t, unhex(t, "83 92 06 e3"), crcBitwise([]byte("123456789")), "the check value of CRC-32C, 0xe3069283")

	header := unhex(t, `
		f7 4c 50 53 45 47 0d 0a  01 00  01  00  80 00 00 00
		00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
		15 cd 5b 07 00 00 00 00
		03 00 00 00 00 00 00 00
		00 00 01 00 00 00 00 00`)
	header = append(header, make([]byte, 68)...)
	header = append(header, crcBitwise(header)...)
	info := segmentInfo{class: 1, id: spoolID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, first: 123456789, gen: 3, begun: 65536}
	require.Equal(t, header, appendSegmentHeader(nil, info))
	got, intact, known := parseSegmentHeader(header)
	info.frames = 128
	require.Equal(t, info, got)
	require.True(t, intact && known)
	later := bytes.Clone(header[:124])
	later[8] = 2
	_, intact, known = parseSegmentHeader(append(later, crcBitwise(later)...))
	require.True(t, intact && !known, "a later version is intact and not known")

	record := unhex(t, `
		f7 ff 4c 50  02  00  03 00  05 00 00 00  00 00  00 00
		15 cd 5b 07 00 00 00 00
		00 00 00 00 01 00 00 00
		00 00 00 00`)
	record = append(record, crcBitwise(record)...)
	record = append(record, "a/bhello"...)
	record = append(record, crcBitwise(record)...)
	require.Equal(t, record, appendFrame(nil, 2, 123456789, time.Unix(4, 294967296), "a/b", []byte("hello")))
	f, ok := parseFrame(record, 2)
	require.True(t, ok)
	require.Equal(t, frame{seq: 123456789, recorded: 1 << 32, topic: []byte("a/b"), payload: []byte("hello"), size: 52}, f)
	_, ok = parseFrame(record, 1)
	require.False(t, ok, "of the other class")

	// An extension is passed over.
	extended := bytes.Clone(record[:36])
	extended[12] = 2
	extended = append(extended, crcBitwise(extended)...)
	extended = append(extended, "XXa/bhello"...)
	extended = append(extended, crcBitwise(extended)...)
	f, ok = parseFrame(extended, 2)
	require.True(t, ok)
	require.Equal(t, "a/b hello", string(f.topic)+" "+string(f.payload))
	// Flags that are not known are not touched.
	flagged := bytes.Clone(record[:36])
	flagged[5] = 1
	flagged = append(flagged, crcBitwise(flagged)...)
	flagged = append(flagged, "a/bhello"...)
	_, ok = parseFrame(append(flagged, crcBitwise(flagged)...), 2)
	require.False(t, ok)

	cursor := unhex(t, `
		f7 4c 50 43 55 52 0d 0a  01 00  02  03  02 00 00 00
		00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
		07 00 00 00 00 00 00 00
		09 00 00 00 00 00 00 00
		0b 00 00 00 00 00 00 00
		05 00 00 00 00 00 00 00
		02 00 00 00 00 00 00 00  04 00 00 00 00 00 00 00  03 00 00 00 00 00 00 00  01 2c 01 00 00 00 00 00
		06 00 00 00 00 00 00 00  07 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00`)
	state := cursorState{id: info.id, acked: 9, head: 11, gen: 5, closed: true, writeCount: 7, losses: []knownLoss{{2, 4, 3, true, damaged, 300}, {6, 7, 2, false, evicted, 0}}}
	old := bytes.Clone(cursor) // of an earlier version
	old[11] = 1
	old = append(append(old, crcBitwise(old)...), make([]byte, 100)...)
	parsed, ok := parseCursor(old, 2)
	require.True(t, ok)
	require.Equal(t, state, parsed)
	cursor = append(cursor, crcBitwise(cursor)...)
	cursor = append(cursor, unhex(t, `
		40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f
		50 51 52 53 54 55 56 57 58 59 5a 5b 5c 5d 5e 5f`)...)
	cursor = append(cursor, crcBitwise(cursor)...)
	for i := range state.chain {
		state.chain[i] = byte(0x40 + i)
	}
	require.Equal(t, cursor, appendCursor(nil, 2, state))
	parsed, ok = parseCursor(cursor, 2)
	require.True(t, ok)
	require.Equal(t, state, parsed)
	_, ok = parseCursor(cursor[:len(cursor)-1], 2)
	require.False(t, ok)
	_, ok = parseCursor(cursor, 1)
	require.False(t, ok)

	consumers := unhex(t, `
		f7 4c 50 43 4f 4e 0d 0a  01 00  01  02  00 00 00 00
		00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
		03 00 00 00 00 00 00 00
		6d 71 74 74 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
		09 00 00 00 00 00 00 00
		61 2d 31 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
		0c 01 00 00 00 00 00 00`)
	consumers = append(consumers, crcBitwise(consumers)...)
	at := positions{id: info.id, writeCount: 3, list: []position{{"mqtt", 9}, {"a-1", 268}}}
	require.Equal(t, consumers, appendPositions(nil, 1, at))
	parsedAt, ok := parsePositions(consumers, 1)
	require.True(t, ok)
	require.Equal(t, at, parsedAt)
	_, ok = parsePositions(consumers, 2)
	require.False(t, ok)
	for bit := range len(consumers) * 8 {
		consumers[bit/8] ^= 1 << (bit % 8)
		_, ok = parsePositions(consumers, 1)
		require.False(t, ok, "bit %d", bit)
		consumers[bit/8] ^= 1 << (bit % 8)
	}

	require.Contains(t, frameMagic, "\xff", "which is never found in UTF-8")
	require.Equal(t, "00000000000123456789-0000000003.seg", segment{first: 123456789, gen: 3}.name())
}

// FuzzScanner walks over any bytes: no panic, no frame that is not intact, none
// twice, always to the end.
func FuzzScanner(f *testing.F) {
	var log []byte
	for i := range 3 {
		log = appendFrame(log, 1, uint64(i+1), day, "topic", bytes.Repeat([]byte("payload "), i*20))
	}
	f.Add(log, 0)
	f.Add(append(bytes.Clone(log), make([]byte, 600)...), 3)
	f.Add(append([]byte(frameMagic+frameMagic+"\xf7"), log...), 100)
	f.Add([]byte(strings.Repeat("\xf7", 2000)), 1000)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		inserted := cut > 0 && cut < len(b)
		if inserted { // an intact frame after any junk must be found
			whole := appendFrame(nil, 1, 1<<40, day, "after", []byte("damage"))
			b = append(append(bytes.Clone(b[:cut]), whole...), b[cut:]...)
		}
		s := scanner{file: bytes.NewReader(b), class: 1, end: int64(len(b))}
		var at int64
		found := false
		for {
			fr, ok, err := s.peek()
			require.NoError(t, err)
			require.GreaterOrEqual(t, s.off, at)
			if s.gapTo > s.gapFrom {
				require.GreaterOrEqual(t, s.gapFrom, at)
				require.LessOrEqual(t, s.gapTo, s.off)
			}
			if !ok {
				require.Equal(t, int64(len(b)), s.off)
				break
			}
			want, ok := parseFrame(b[s.off:], 1)
			require.True(t, ok)
			require.Equal(t, want, fr)
			found = found || fr.seq == 1<<40
			at = s.off + int64(fr.size)
			s.take(fr)
		}
		require.Equal(t, inserted, found)
		for off := int64(0); off < int64(len(b)); off += 1 + int64(len(b))/20 {
			_, err := s.torn(off, int64(len(b)))
			require.NoError(t, err)
		}
		_, _ = parseCursor(b, 1)
		_, _, _ = parseSegmentHeader(b)
	})
}

// The scanner gives the same whether the frames lie well in its buffer or not.
func TestScannerOverLongSegments(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var b []byte
	var offsets []int
	for i := range 300 {
		offsets = append(offsets, len(b))
		size := rnd.IntN(3000)
		if i%50 == 0 {
			size = chunkBytes*2 + rnd.IntN(100)
		}
		payload := make([]byte, size)
		for j := range payload {
			payload[j] = byte(rnd.Uint32())
		}
		b = appendFrame(b, 1, uint64(i+1), day, "t", payload)
	}
	damaged := map[uint64]bool{}
	for range 60 {
		i := rnd.IntN(300)
		damaged[uint64(i+1)] = true
		b[offsets[i]+frameHeader+rnd.IntN(5)] ^= 0xff // its bits may turn back
	}
	s := scanner{file: bytes.NewReader(b), class: 1, end: int64(len(b))}
	next := uint64(1)
	for {
		f, ok, err := s.peek()
		require.NoError(t, err)
		if !ok {
			break
		}
		require.Equal(t, int64(offsets[f.seq-1]), s.off)
		for ; next < f.seq; next++ {
			require.True(t, damaged[next], "%d", next)
		}
		next++
		s.take(f)
	}
	require.Greater(t, next, uint64(200))
}

// failingReader can't read some of its bytes.
type failingReader struct {
	b        []byte
	from, to int64
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off < r.to && off+int64(len(p)) > r.from {
		return 0, io.ErrUnexpectedEOF
	}
	return bytes.NewReader(r.b).ReadAt(p, off)
}

// What was read ahead and fails is no reason to fail before it is needed; and
// a tolerant scanner loses no more than the blocks that fail.
func TestScannerOverUnreadableBlocks(t *testing.T) {
	var b []byte
	for i := range 200 {
		b = appendFrame(b, 1, uint64(i+1), day, "t", make([]byte, 55)) // of 100 bytes
	}
	r := failingReader{b, 8192, 12288}
	s := scanner{file: r, class: 1, end: int64(len(b))}
	n := uint64(0)
	for {
		f, ok, err := s.peek()
		if err != nil {
			require.Equal(t, uint64(81), n, "all before the bad block")
			break
		}
		require.True(t, ok)
		n = f.seq
		s.take(f)
	}
	s.tolerant = true
	f, ok, err := s.peek()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, uint64(124), f.seq)
	require.True(t, s.unreadable)

	// With few tries, what follows is not touched any more.
	touched := 0
	s = scanner{class: 1, end: 1 << 20, tolerant: true, tries: 4, file: readerAtFunc(func(b []byte, off int64) (int, error) {
		touched++
		return 0, io.ErrUnexpectedEOF
	})}
	_, ok, err = s.peek()
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, 1+4, touched, "once for all, then block by block")
}

type readerAtFunc func(b []byte, off int64) (int, error)

func (f readerAtFunc) ReadAt(b []byte, off int64) (int, error) { return f(b, off) }
