package dicos

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/suyashkumar/dicom/pkg/charset"
	"github.com/suyashkumar/dicom/pkg/dicomio"
)

// set is one data set: for each tag a []string, []float64, []byte or []set.
type set map[Tag]any

// values decodes the excerpt of a file.
type values struct {
	r *dicomio.Reader
}

// decode gives the values of an excerpt, which walker has made: explicit little endian, and
// no deeper than it may be.
func decode(excerpt []byte) (s set, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%w: %v", ErrForm, r)
		}
	}()
	v := values{dicomio.NewReader(bufio.NewReader(bytes.NewReader(excerpt)), binary.LittleEndian, int64(len(excerpt)))}
	if s, err = v.set(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return s, nil
}

// tag reads a tag, and the length of what is an item or the end of one.
func (v values) tag() (t Tag, length uint32, err error) {
	group, err := v.r.ReadUInt16()
	if err != nil {
		return 0, 0, err
	}
	element, err := v.r.ReadUInt16()
	if err == nil && group == 0xfffe {
		length, err = v.r.ReadUInt32()
	}
	return Tag(group)<<16 | Tag(element), length, err
}

// set reads elements until the end of an item or of the whole. Of two with the same tag the
// first counts.
func (v values) set() (set, error) {
	s := set{}
	for !v.r.IsLimitExhausted() {
		t, _, err := v.tag()
		if err != nil {
			return nil, err
		}
		if t == tagItemEnd {
			break
		}
		value, err := v.value(t)
		if err != nil {
			return nil, fmt.Errorf("the element (%04x,%04x): %w", t.group(), t.element(), err)
		}
		if _, twice := s[t]; !twice {
			s[t] = value
		}
	}
	return s, nil
}

func (v values) value(t Tag) (any, error) {
	var vr [2]byte
	if _, err := io.ReadFull(v.r, vr[:]); err != nil {
		return nil, err
	}
	kind := string(vr[:])
	length := uint32(0)
	if long[kind] {
		if err := v.r.Skip(2); err != nil {
			return nil, err
		}
		n, err := v.r.ReadUInt32()
		if err != nil {
			return nil, err
		}
		length = n
	} else {
		n, err := v.r.ReadUInt16()
		if err != nil {
			return nil, err
		}
		length = uint32(n)
	}
	switch {
	case kind == "SQ":
		return v.items()
	case width[kind] > 0:
		return v.numbers(kind, int(length)/width[kind])
	case kind == "OB":
		b := make([]byte, length)
		_, err := io.ReadFull(v.r, b)
		return b, err
	}
	text, err := v.r.ReadString(length)
	if err != nil {
		return nil, err
	}
	list := strings.Split(text, `\`)
	for i, x := range list {
		list[i] = strings.Trim(strings.ToValidUTF8(x, "\ufffd"), " \x00\t\r\n")
	}
	if t == tagCharset {
		// An unknown one is read as UTF-8.
		if set, err := charset.ParseSpecificCharacterSet(list); err == nil {
			v.r.SetCodingSystem(set)
		}
	}
	return list, nil
}

func (v values) items() ([]set, error) {
	list := []set{}
	for {
		t, _, err := v.tag()
		if err != nil || t == tagSequenceEnd {
			return list, err
		}
		s, err := v.set()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
}

// numbers reads n numbers of a type.
func (v values) numbers(kind string, n int) ([]float64, error) {
	list := make([]float64, 0, n)
	for range n {
		x, err := v.number(kind)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

func (v values) number(kind string) (float64, error) {
	switch kind {
	case "US":
		x, err := v.r.ReadUInt16()
		return float64(x), err
	case "SS":
		x, err := v.r.ReadInt16()
		return float64(x), err
	case "UL":
		x, err := v.r.ReadUInt32()
		return float64(x), err
	case "SL":
		x, err := v.r.ReadInt32()
		return float64(x), err
	case "FD":
		return v.r.ReadFloat64()
	}
	x, err := v.r.ReadFloat32()
	if err != nil {
		return 0, err
	}
	// As it would be written, 0.1 and not 0.10000000149.
	return strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
}
