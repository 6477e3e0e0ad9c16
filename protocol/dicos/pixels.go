package dicos

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"math/bits"
)

// appendRLE writes a frame in DICOM's run-length encoding: the upper bytes of all pixels,
// then the lower ones; each row for itself.
func appendRLE(b []byte, pixels []uint16, columns int) []byte {
	var segments [2][]byte
	plane := make([]byte, columns)
	for row := 0; row < len(pixels); row += columns {
		for s, shift := range []int{8, 0} {
			for i := range plane {
				plane[i] = byte(pixels[row+i] >> shift)
			}
			segments[s] = appendRuns(segments[s], plane)
		}
	}
	var head [64]byte
	binary.LittleEndian.PutUint32(head[:], 2)
	at := len(head)
	for s := range segments {
		if len(segments[s])%2 == 1 {
			segments[s] = append(segments[s], 0)
		}
		binary.LittleEndian.PutUint32(head[4+4*s:], uint32(at))
		at += len(segments[s])
	}
	b = append(b, head[:]...)
	return append(append(b, segments[0]...), segments[1]...)
}

// appendRuns writes bytes as runs (PackBits).
func appendRuns(b, row []byte) []byte {
	run := func(i int) int {
		n := 1
		for n < 128 && i+n < len(row) && row[i+n] == row[i] {
			n++
		}
		return n
	}
	for i := 0; i < len(row); {
		if n := run(i); n > 1 {
			b = append(b, byte(257-n), row[i])
			i += n
			continue
		}
		start := i
		for i < len(row) && i-start < 128 && run(i) < 3 {
			i++
		}
		b = append(append(b, byte(i-start-1)), row[start:i]...)
	}
	return b
}

// decodeRuns reads runs until the whole is full.
func decodeRuns(b []byte, whole []byte) error {
	for n := 0; n < len(whole); {
		if len(b) < 2 {
			return ErrTruncated
		}
		c := int(int8(b[0]))
		switch {
		case c == -128:
			b = b[1:]
		case c < 0:
			k := min(1-c, len(whole)-n)
			for i := range k {
				whole[n+i] = b[1]
			}
			n, b = n+k, b[2:]
		default:
			if len(b) < 2+c {
				return ErrTruncated
			}
			n += copy(whole[n:], b[1:2+c])
			b = b[2+c:]
		}
	}
	return nil
}

// decodeRLE reads a frame of one or two bytes for each pixel.
func decodeRLE(b []byte, size, width int) ([]uint16, error) {
	if len(b) < 64 || int(binary.LittleEndian.Uint32(b)) != width {
		return nil, fmt.Errorf("%w: its run-length encoding has another number of segments", ErrForm)
	}
	pixels, plane := make([]uint16, size), make([]byte, size)
	for s := range width {
		at := binary.LittleEndian.Uint32(b[4+4*s:])
		if int64(at) > int64(len(b)) {
			return nil, ErrTruncated
		}
		if err := decodeRuns(b[at:], plane); err != nil {
			return nil, err
		}
		for i, v := range plane {
			pixels[i] = pixels[i]<<8 | uint16(v)
		}
	}
	return pixels, nil
}

// Picture reads the first frame of a picture of grey values: not compressed, RLE or
// lossless JPEG. It is as bright as the bits that it uses say. It has at most maxPixels.
func Picture(b []byte, maxPixels int) (*image.Gray16, error) {
	o, err := Decode(b)
	if err != nil {
		return nil, err
	}
	i := o.Image
	if i.Rows < 1 || i.Columns < 1 || i.Columns > maxPixels/i.Rows {
		return nil, fmt.Errorf("%w: a picture of %d by %d", ErrBounds, i.Columns, i.Rows)
	}
	if !i.Pixels || i.Samples > 1 || i.BitsAllocated != 8 && i.BitsAllocated != 16 || i.BitsStored > i.BitsAllocated {
		return nil, fmt.Errorf("%w: no picture of grey values with 8 or 16 bits", ErrForm)
	}
	size, width := i.Rows*i.Columns, i.BitsAllocated/8
	var frame []byte
	if i.Encapsulated {
		frame, err = firstFragment(b, o)
	} else {
		start, ok := pixelStart(b)
		if !ok || len(b)-start < size*width {
			return nil, ErrTruncated
		}
		frame = b[start:]
	}
	if err != nil {
		return nil, err
	}
	var pixels []uint16
	switch o.TransferSyntax {
	case RLE:
		pixels, err = decodeRLE(frame, size, width)
	case JPEGLossless:
		pixels, err = decodeJPEG(frame, i.Columns, i.Rows)
	case ExplicitLE, ImplicitLE:
		if i.Encapsulated {
			return nil, fmt.Errorf("%w: fragments in a syntax that has none", ErrForm)
		}
		pixels = make([]uint16, size)
		for n := range pixels {
			if width == 1 {
				pixels[n] = uint16(frame[n])
			} else {
				pixels[n] = binary.LittleEndian.Uint16(frame[2*n:])
			}
		}
	default:
		err = fmt.Errorf("%w: pictures in %s are not read", ErrSyntax, o.TransferSyntax)
	}
	if err != nil {
		return nil, err
	}
	return develop(pixels, o.Image), nil
}

// develop makes a picture of the values: the range that they use becomes black to white.
func develop(pixels []uint16, i Image) *image.Gray16 {
	img := image.NewGray16(image.Rect(0, 0, i.Columns, i.Rows))
	low, high := pixels[0], pixels[0]
	for _, v := range pixels {
		low, high = min(low, v), max(high, v)
	}
	span := max(uint32(high)-uint32(low), 1)
	for n, v := range pixels {
		x := uint16((uint32(v) - uint32(low)) * 0xffff / span)
		if i.Photometric == "MONOCHROME1" {
			x = ^x
		}
		binary.BigEndian.PutUint16(img.Pix[2*n:], x)
	}
	return img
}

// pixelStart is where the pixel data begin, behind their length.
func pixelStart(b []byte) (int, bool) {
	w := &walker{r: bufio.NewReader(bytes.NewReader(b))}
	h, err := w.head()
	if err != nil {
		return 0, false
	}
	implicit := h.syntax == ImplicitLE
	for {
		x, err := w.header(implicit, -1)
		if err != nil {
			return 0, false
		}
		if x.tag == tagPixelData {
			return int(w.at), true
		}
		if err := w.element(x, 0, implicit, -1, false); err != nil {
			return 0, false
		}
	}
}

// firstFragment is the first frame: a fragment, or all of them if there is one frame only.
func firstFragment(b []byte, o *Object) ([]byte, error) {
	start, ok := pixelStart(b)
	if !ok {
		return nil, ErrTruncated
	}
	var frame []byte
	for b, n := b[start:], 0; len(b) >= 8; n++ {
		length := binary.LittleEndian.Uint32(b[4:])
		if !bytes.Equal(b[:4], []byte{0xfe, 0xff, 0x00, 0xe0}) || int64(length) > int64(len(b)-8) {
			break
		}
		if n > 0 { // the first is the table of the frames
			frame = append(frame, b[8:8+length]...)
			if o.Image.Frames > 1 {
				break
			}
		}
		b = b[8+length:]
	}
	if len(frame) == 0 {
		return nil, ErrTruncated
	}
	return frame, nil
}

// Set counts the voxels of a bitmap that belong to the threat.
func (r Region) Set() (n int) {
	for _, b := range r.Bitmap {
		n += bits.OnesCount8(b)
	}
	return n
}
