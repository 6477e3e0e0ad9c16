package dicos

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// undefined is the length of what ends with a delimiter.
const undefined = 0xffffffff

// walker goes over the elements of a file within bounds, and writes those that are wanted
// into an excerpt: explicit little endian, with sequences of undefined length.
type walker struct {
	r        *bufio.Reader
	at       int64
	elements int
	excerpt  []byte
	dropped  int

	pixels, encapsulated bool
	pixelBytes           int64
}

// read reads n bytes, which must end before end; an end below 0 is none.
func (w *walker) read(b []byte, end int64) error {
	if end >= 0 && w.at+int64(len(b)) > end {
		return fmt.Errorf("%w: an element leads out of what it is in, at byte %d", ErrForm, w.at)
	}
	n, err := io.ReadFull(w.r, b)
	w.at += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

func (w *walker) skip(n, end int64) error {
	if end >= 0 && w.at+n > end {
		return fmt.Errorf("%w: an element leads out of what it is in, at byte %d", ErrForm, w.at)
	}
	done, err := io.CopyN(io.Discard, w.r, n)
	w.at += done
	if errors.Is(err, io.EOF) {
		return ErrTruncated
	}
	return err
}

// header is what stands before a value.
type header struct {
	tag    Tag
	vr     string
	length uint32
}

// header reads one.
func (w *walker) header(implicit bool, end int64) (h header, err error) {
	var b [4]byte
	if err := w.read(b[:], end); err != nil {
		return h, err
	}
	h.tag = Tag(binary.LittleEndian.Uint16(b[:]))<<16 | Tag(binary.LittleEndian.Uint16(b[2:]))
	if w.elements++; w.elements > MaxElements {
		return h, fmt.Errorf("%w: there are more than %d elements", ErrBounds, MaxElements)
	}
	if err := w.read(b[:], end); err != nil {
		return h, err
	}
	if implicit || h.tag.group() == 0xfffe {
		h.length = binary.LittleEndian.Uint32(b[:])
		return h, nil
	}
	h.vr = string(b[:2])
	if b[0] < 'A' || b[0] > 'Z' || b[1] < 'A' || b[1] > 'Z' {
		return h, fmt.Errorf("%w: the element (%04x,%04x) at byte %d has no type", ErrForm, h.tag.group(), h.tag.element(), w.at-8)
	}
	if !long[h.vr] {
		h.length = uint32(binary.LittleEndian.Uint16(b[2:]))
		return h, nil
	}
	if err := w.read(b[:], end); err != nil {
		return h, err
	}
	h.length = binary.LittleEndian.Uint32(b[:])
	return h, nil
}

// dataset goes over elements until end, a delimiter if it is in an item, or the end of the
// file if it is in none. keep is false in what is not wanted.
func (w *walker) dataset(depth int, implicit bool, end int64, keep bool) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: sequences are more than %d deep", ErrBounds, MaxDepth)
	}
	for end < 0 || w.at < end {
		if depth == 0 && end < 0 {
			if _, err := w.r.Peek(1); errors.Is(err, io.EOF) {
				return nil
			}
		}
		h, err := w.header(implicit, end)
		if err != nil {
			return err
		}
		switch {
		case h.tag == tagItemEnd && depth > 0 && end < 0:
			return nil
		case h.tag.group() == 0xfffe:
			return fmt.Errorf("%w: there is a delimiter that ends nothing, at byte %d", ErrForm, w.at)
		}
		if err := w.element(h, depth, implicit, end, keep); err != nil {
			return err
		}
	}
	return nil
}

// element goes over the value of one.
func (w *walker) element(h header, depth int, implicit bool, end int64, keep bool) error {
	if h.tag == tagPixelData && depth == 0 {
		w.pixels, w.encapsulated = true, h.length == undefined
		start := w.at
		err := w.pass(h, end)
		w.pixelBytes = w.at - start
		return err
	}
	vr, want := wanted[h.tag]
	want = want && keep
	if h.vr != "" && h.vr != "UN" {
		vr = h.vr
	}
	sequence := vr == "SQ" || implicit && h.length == undefined
	switch {
	case h.vr == "UN" && h.length == undefined, h.vr == "UN" && want && vr == "SQ":
		// What a node did not know is passed on in the implicit form.
		return w.sequence(h, depth, true, end, want && vr == "SQ")
	case sequence && (want || h.length == undefined):
		return w.sequence(h, depth, implicit, end, want && vr == "SQ")
	case h.length == undefined:
		return w.pass(h, end)
	case !want:
		return w.skip(int64(h.length), end)
	}
	return w.value(h, vr, end)
}

// pass goes over a value that is not a sequence: fragments if its length is not defined.
func (w *walker) pass(h header, end int64) error {
	if h.length != undefined {
		return w.skip(int64(h.length), end)
	}
	for {
		item, err := w.header(true, end)
		switch {
		case err != nil:
			return err
		case item.tag == tagSequenceEnd:
			return nil
		case item.tag != tagItem || item.length == undefined:
			return fmt.Errorf("%w: there is something else between fragments, at byte %d", ErrForm, w.at)
		}
		if err := w.skip(int64(item.length), end); err != nil {
			return err
		}
	}
}

// sequence goes over the items of a sequence.
func (w *walker) sequence(h header, depth int, implicit bool, end int64, keep bool) error {
	limit := int64(-1)
	if h.length != undefined {
		limit = w.at + int64(h.length)
		if end >= 0 && limit > end {
			return fmt.Errorf("%w: a sequence leads out of what it is in, at byte %d", ErrForm, w.at)
		}
	} else if end >= 0 {
		limit = end // it must end before
	}
	if keep {
		if err := w.put(header{h.tag, "SQ", undefined}, nil); err != nil {
			return err
		}
	}
	for h.length == undefined || w.at < limit {
		item, err := w.header(true, limit)
		switch {
		case err != nil:
			return errors.Join(err, w.close(keep, tagSequenceEnd)) // what there is of it counts
		case item.tag == tagSequenceEnd && h.length == undefined:
			return w.close(keep, tagSequenceEnd)
		case item.tag != tagItem:
			return fmt.Errorf("%w: there is something else between the items of a sequence, at byte %d", ErrForm, w.at)
		}
		if keep {
			if err := w.put(header{tag: tagItem, length: undefined}, nil); err != nil {
				return err
			}
		}
		inner := int64(-1)
		if item.length != undefined {
			if inner = w.at + int64(item.length); limit >= 0 && inner > limit {
				return fmt.Errorf("%w: an item leads out of its sequence, at byte %d", ErrForm, w.at)
			}
		}
		if err := w.dataset(depth+1, implicit, inner, keep); err != nil {
			return errors.Join(err, w.close(keep, tagItemEnd), w.close(keep, tagSequenceEnd))
		}
		if err := w.close(keep, tagItemEnd); err != nil {
			return err
		}
	}
	return w.close(keep, tagSequenceEnd)
}

func (w *walker) close(keep bool, with Tag) error {
	if !keep {
		return nil
	}
	return w.put(header{tag: with}, nil)
}

// value keeps the value of a wanted element, if it has the form that its type has.
func (w *walker) value(h header, vr string, end int64) error {
	most := uint32(MaxText)
	size := width[vr]
	switch {
	case h.tag == tagROIBitmap && (vr == "OB" || vr == "OW"):
		most, vr = MaxBitmap, "OB"
	case size > 0:
		most = uint32(size * 3 * MaxPoints)
	case !texts[vr] || h.tag == tagCharset && vr != "CS":
		w.dropped++
		return w.skip(int64(h.length), end)
	}
	if size > 0 && h.length%uint32(size) != 0 {
		w.dropped++
		return w.skip(int64(h.length), end)
	}
	if end >= 0 && w.at+int64(h.length) > end {
		return fmt.Errorf("%w: an element leads out of what it is in, at byte %d", ErrForm, w.at)
	}
	if vr == "OB" && (h.length > most || len(w.excerpt)+int(h.length) > MaxExcerpt-forOthers) {
		// How long it is says how much of the threat's region there is.
		w.dropped++
		return w.skip(int64(h.length), end)
	}
	b := make([]byte, min(h.length, most))
	if err := w.read(b, end); err != nil {
		return err
	}
	if rest := h.length - uint32(len(b)); rest > 0 {
		w.dropped++
		if err := w.skip(int64(rest), end); err != nil {
			return err
		}
	}
	if texts[vr] {
		// Types of text with a long length are written with a short one.
		b = bytes.TrimRight(b, "\x00")
		if vr == "UC" || vr == "UR" || vr == "UT" {
			vr = "LO"
		}
	}
	return w.put(header{h.tag, vr, uint32(len(b))}, b)
}

// put writes an element into the excerpt.
func (w *walker) put(h header, value []byte) error {
	if len(w.excerpt)+len(value)+12 > MaxExcerpt {
		return fmt.Errorf("%w: there are more than %d bytes beside the picture", ErrBounds, MaxExcerpt)
	}
	w.excerpt = appendHeader(w.excerpt, h, false)
	w.excerpt = append(w.excerpt, value...)
	return nil
}

// appendHeader writes what stands before a value.
func appendHeader(b []byte, h header, implicit bool) []byte {
	b = binary.LittleEndian.AppendUint16(b, h.tag.group())
	b = binary.LittleEndian.AppendUint16(b, h.tag.element())
	switch {
	case implicit || h.tag.group() == 0xfffe:
		return binary.LittleEndian.AppendUint32(b, h.length)
	case long[h.vr]:
		b = append(b, h.vr[0], h.vr[1], 0, 0)
		return binary.LittleEndian.AppendUint32(b, h.length)
	}
	b = append(b, h.vr...)
	return binary.LittleEndian.AppendUint16(b, uint16(h.length))
}

// head is what the head of a file says of it.
type head struct {
	syntax, version string
	wrongLength     bool
}

// head reads the preamble and group 0002. Where it ends is told by the elements
// themselves: the length that it announces is wrong in some files.
func (w *walker) head() (x head, err error) {
	var preamble [132]byte
	if err := w.read(preamble[:], -1); err != nil {
		return x, err
	}
	if string(preamble[128:]) != "DICM" {
		return x, fmt.Errorf("%w: it has no DICM at byte 128", ErrForm)
	}
	announced, started := int64(-1), int64(0)
	for {
		group, err := w.r.Peek(2)
		switch {
		case errors.Is(err, io.EOF):
			return x, ErrTruncated
		case err != nil:
			return x, err
		}
		if binary.LittleEndian.Uint16(group) != 2 {
			x.wrongLength = announced >= 0 && announced != w.at-started
			return x, nil
		}
		h, err := w.header(false, -1)
		if err != nil {
			return x, err
		}
		switch {
		case h.length == undefined:
			return x, fmt.Errorf("%w: the head of the file has an element without length", ErrForm)
		case h.tag == tagGroupLength && h.length == 4:
			var n [4]byte
			if err := w.read(n[:], -1); err != nil {
				return x, err
			}
			announced, started = int64(binary.LittleEndian.Uint32(n[:])), w.at
		case (h.tag == tagSyntax || h.tag == tagHeadVersion) && h.length <= 64:
			b := make([]byte, h.length)
			if err := w.read(b, -1); err != nil {
				return x, err
			}
			if text := strings.Trim(string(b), " \x00"); h.tag == tagSyntax {
				x.syntax = text
			} else {
				x.version = text
			}
		default:
			if err := w.skip(int64(h.length), -1); err != nil {
				return x, err
			}
		}
	}
}
