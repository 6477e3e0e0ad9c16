package dicos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// JPEG lossless (ITU-T T.81, process 14) with the left neighbour as the prediction, which
// is all that DICOS has: one component, up to 16 bits.

// errJPEG is for a picture that is not of this kind.
var errJPEG = errors.New("this is no lossless JPEG with first-order prediction")

// The categories of differences, 0 to 16, have codes of five bits each.
const jpegCategories, jpegBits = 17, 5

// bitWriter writes bits, and a zero behind each FF as JPEG wants it.
type bitWriter struct {
	b     []byte
	bits  uint64
	count int
}

func (w *bitWriter) put(v uint32, n int) {
	w.bits = w.bits<<n | uint64(v)&(1<<n-1)
	for w.count += n; w.count >= 8; w.count -= 8 {
		x := byte(w.bits >> (w.count - 8))
		if w.b = append(w.b, x); x == 0xff {
			w.b = append(w.b, 0)
		}
	}
}

// appendJPEG writes a picture of 16 bits.
func appendJPEG(b []byte, pixels []uint16, columns, rows int) []byte {
	b = append(b, 0xff, 0xd8, 0xff, 0xc3, 0, 11, 16)
	b = binary.BigEndian.AppendUint16(b, uint16(rows))
	b = binary.BigEndian.AppendUint16(b, uint16(columns))
	b = append(b, 1, 1, 0x11, 0)
	b = append(b, 0xff, 0xc4, 0, 3+16+jpegCategories, 0)
	counts := [16]byte{jpegBits - 1: jpegCategories}
	b = append(b, counts[:]...)
	for c := range byte(jpegCategories) {
		b = append(b, c)
	}
	b = append(b, 0xff, 0xda, 0, 8, 1, 1, 0, 1, 0, 0)
	w := bitWriter{b: b}
	for i, v := range pixels {
		d := int(int16(v - predict(pixels, i, columns, 16)))
		if d == -1<<15 {
			w.put(16, jpegBits) // it has no bits behind it
			continue
		}
		size := bits.Len(uint(max(d, -d)))
		if w.put(uint32(size), jpegBits); d < 0 {
			d--
		}
		w.put(uint32(d), size)
	}
	if w.count > 0 {
		w.put(1<<(8-w.count)-1, 8-w.count)
	}
	return append(w.b, 0xff, 0xd9)
}

// predict gives what is expected of the pixel i.
func predict(pixels []uint16, i, columns, precision int) uint16 {
	switch {
	case i == 0:
		return 1 << (precision - 1)
	case i%columns == 0:
		return pixels[i-columns]
	}
	return pixels[i-1]
}

// decodeJPEG reads a picture, which must be of the size that is expected.
func decodeJPEG(b []byte, columns, rows int) ([]uint16, error) {
	if len(b) < 2 || b[0] != 0xff || b[1] != 0xd8 {
		return nil, errJPEG
	}
	precision, framed := 0, false
	var tables [4]huffman
	for b = b[2:]; ; {
		for len(b) > 1 && b[0] == 0xff && b[1] == 0xff {
			b = b[1:]
		}
		if len(b) < 4 || b[0] != 0xff {
			return nil, errJPEG
		}
		marker, length := b[1], int(binary.BigEndian.Uint16(b[2:]))
		if length < 2 || len(b) < 2+length {
			return nil, errJPEG
		}
		segment := b[4 : 2+length]
		b = b[2+length:]
		switch {
		case marker == 0xc3:
			if len(segment) < 9 || segment[5] != 1 || int(binary.BigEndian.Uint16(segment[1:])) != rows || int(binary.BigEndian.Uint16(segment[3:])) != columns {
				return nil, fmt.Errorf("%w of %d by %d", errJPEG, columns, rows)
			}
			if precision, framed = int(segment[0]), true; precision < 2 || precision > 16 {
				return nil, errJPEG
			}
		case marker == 0xc4:
			for len(segment) > 0 {
				rest, err := tables[segment[0]&3].read(segment[1:])
				if err != nil {
					return nil, err
				}
				segment = rest
			}
		case marker == 0xda:
			// One component, its table, the prediction, and no shift.
			if len(segment) < 6 || segment[0] != 1 || segment[3] != 1 || segment[5]&15 != 0 || !framed {
				return nil, errJPEG
			}
			return tables[segment[2]>>4&3].picture(b, columns, rows, precision)
		case marker >= 0xc0 && marker <= 0xcf, marker == 0xdd: // another process, or restarts
			return nil, errJPEG
		}
	}
}

// huffman is a table of codes: for each length how many there are, the values in order.
type huffman struct {
	counts [17]int
	values []byte
}

func (h *huffman) read(b []byte) (rest []byte, err error) {
	if len(b) < 16 {
		return nil, errJPEG
	}
	n := 0
	for i, c := range b[:16] {
		h.counts[i+1] = int(c)
		n += int(c)
	}
	if len(b) < 16+n {
		return nil, errJPEG
	}
	h.values = b[16 : 16+n]
	return b[16+n:], nil
}

// bitReader reads what bitWriter writes.
type bitReader struct {
	b     []byte
	bits  uint32
	count int
}

func (r *bitReader) take(n int) (uint32, bool) {
	for r.count < n {
		if len(r.b) == 0 {
			return 0, false
		}
		x := r.b[0]
		if r.b = r.b[1:]; x == 0xff {
			if len(r.b) == 0 || r.b[0] != 0 {
				return 0, false // a marker: the picture is over
			}
			r.b = r.b[1:]
		}
		r.bits, r.count = r.bits<<8|uint32(x), r.count+8
	}
	r.count -= n
	return r.bits >> r.count & (1<<n - 1), true
}

func (h *huffman) category(r *bitReader) (int, bool) {
	code, first, index := 0, 0, 0
	for n := 1; n <= 16; n++ {
		bit, ok := r.take(1)
		if !ok {
			return 0, false
		}
		code = code<<1 | int(bit)
		if code-first < h.counts[n] {
			return int(h.values[index+code-first]), true
		}
		index += h.counts[n]
		first = (first + h.counts[n]) << 1
	}
	return 0, false
}

func (h *huffman) picture(b []byte, columns, rows, precision int) ([]uint16, error) {
	// A pixel has one bit at least.
	if columns < 1 || rows < 1 || columns*rows > 8*len(b) {
		return nil, ErrTruncated
	}
	r := bitReader{b: b}
	pixels := make([]uint16, columns*rows)
	for i := range pixels {
		size, ok := h.category(&r)
		if !ok {
			return nil, ErrTruncated
		}
		d := 0
		switch {
		case size == 16:
			d = 1 << 15
		case size > 16:
			return nil, errJPEG
		case size > 0:
			v, ok := r.take(size)
			if !ok {
				return nil, ErrTruncated
			}
			if d = int(v); v>>(size-1) == 0 {
				d += 1 - 1<<size
			}
		}
		pixels[i] = predict(pixels, i, columns, precision) + uint16(d)
	}
	return pixels, nil
}
