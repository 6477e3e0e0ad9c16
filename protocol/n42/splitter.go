package n42

import (
	"bytes"
	"errors"
	"fmt"
)

// The bytes around a document in a stream, as the RS-350 writes them.
const (
	STX = 0x02
	ETX = 0x03
)

// Splitter cuts a stream into documents that stand between STX and ETX. The zero value is
// ready for use, with MaxBytes for a document.
//
// What it gives is everything that came, in its order: documents, and what is none. A byte
// STX begins a document anew, since it can't be inside of one (XML does not allow it, and
// in UTF-8 it is not part of another character; in UTF-16 it can be, so documents whose
// first bytes are those of UTF-16 are taken up to an ETX that is a character).
type Splitter struct {
	// Max bounds a document, in bytes; 0 for MaxBytes.
	Max int

	buf    []byte
	at     int // up to where buf was looked at
	inside bool
	skip   bool // a document that is too long: up to its end nothing is kept
	joined bool // something was complete already
}

// Frame is a piece of the stream.
type Frame struct {
	// Bytes are the document without STX and ETX; or if Err is set, what could not be taken
	// as one, or the beginning of it. They are valid until the next call.
	Bytes []byte
	// Err says why it is no document.
	Err error
	// First is true for what came before the first STX of a stream: joining cut it.
	First bool
}

// Errors of frames.
var (
	ErrOutside  = errors.New("bytes outside of a document's STX and ETX")
	ErrCut      = errors.New("the link ended in the middle of the document")
	ErrUnended  = errors.New("a document without its end: another has begun in it")
	errTooLong  = errors.New("a document that is too long")
	maxOutside  = 64 << 10 // of bytes outside of a document that are kept together
	sampleBytes = 4 << 10  // of a document that is too long
)

// Write takes bytes as they came.
func (s *Splitter) Write(b []byte) {
	s.buf = append(s.buf, b...)
}

func (s *Splitter) max() int {
	if s.Max > 0 {
		return s.Max
	}
	return MaxBytes
}

// Begun reports whether a document has begun and not ended.
func (s *Splitter) Begun() bool { return s.inside || s.skip }

// Next gives the next piece; ok is false if there is none yet.
func (s *Splitter) Next() (f Frame, ok bool) {
	for {
		switch {
		case s.skip:
			i := bytes.IndexAny(s.buf, "\x02\x03")
			if i < 0 {
				s.drop(len(s.buf))
				return f, false
			}
			end := i
			if s.buf[i] == ETX {
				end++
			}
			s.drop(end)
			s.skip = false
		case !s.inside:
			i := bytes.IndexByte(s.buf, STX)
			if i < 0 {
				if len(s.buf) < maxOutside {
					return f, false
				}
				i = len(s.buf)
			}
			out := s.buf[:i]
			rest := min(i+1, len(s.buf))
			s.inside = i < len(s.buf)
			if noise := bytes.Trim(out, "\x00 \t\r\n"); len(noise) > 0 {
				f = Frame{Bytes: out, Err: ErrOutside, First: !s.joined}
				s.take(rest)
				s.joined = true
				return f, true
			}
			s.take(rest)
			s.joined = true
		default:
			return s.document()
		}
	}
}

// document looks for the end of the document that has begun.
func (s *Splitter) document() (f Frame, ok bool) {
	wide, big := wide(s.buf)
	for i := s.at; i < len(s.buf); i++ {
		c := s.buf[i]
		if c != STX && c != ETX {
			continue
		}
		if wide && c == STX {
			// Another document begins as this one did, or it is half of a character.
			if len(s.buf)-i-1 < wideStart {
				s.at = i
				return f, false
			}
			// One that is not of UTF-16 says that what seemed to begin as such did not.
			if !narrowBegins(s.buf[i+1:]) && !bytes.Equal(s.buf[i+1:i+1+wideStart], s.buf[:wideStart]) {
				continue
			}
		}
		if wide && c == ETX && !ended(s.buf, i, big) {
			continue
		}
		f.Bytes = s.buf[:i]
		if c == STX {
			f.Err = ErrUnended
			s.take(i + 1)
			return f, true
		}
		s.inside = false
		s.take(i + 1)
		if len(f.Bytes) > s.max() {
			f.Err, f.Bytes = errTooLong, f.Bytes[:min(len(f.Bytes), sampleBytes)]
		}
		return f, true
	}
	s.at = len(s.buf)
	if len(s.buf) > s.max() {
		f = Frame{Bytes: s.buf[:min(len(s.buf), sampleBytes)], Err: fmt.Errorf("%w: it has more than %d bytes", errTooLong, s.max())}
		s.inside, s.skip = false, true
		s.take(len(s.buf))
		return f, true
	}
	return f, false
}

// wide reports whether a document begins as UTF-16 does.
func wide(b []byte) (is, big bool) {
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("<\x00")):
		return true, false
	case bytes.HasPrefix(b, []byte("\xfe\xff")), bytes.HasPrefix(b, []byte("\x00<")):
		return true, true
	}
	return false, false
}

// wideStart is how much of two documents in UTF-16 begins alike.
const wideStart = 4

// ended reports whether a text in UTF-16 ends at i: where a character would begin, behind
// the end of an element.
func ended(b []byte, i int, big bool) bool {
	if i%2 != 0 {
		return false
	}
	const longest = 256 // of an element's end, in bytes
	closed := false
	next := byte(0)
	for j := i - 2; j >= 0 && j > i-longest; j -= 2 {
		c, high := b[j], b[j+1]
		if big {
			c, high = high, c
		}
		if high != 0 {
			return false
		}
		switch {
		case !closed && c == '>':
			closed = true
		case !closed && c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != 0:
			return false
		case closed && c == '<':
			return next == '/'
		}
		next = c
	}
	return false
}

// take forgets the first n bytes, which may still be in a Frame.
func (s *Splitter) take(n int) { s.buf, s.at = s.buf[n:], 0 }

// drop forgets them for good.
func (s *Splitter) drop(n int) { s.buf, s.at = s.buf[:copy(s.buf, s.buf[n:])], 0 }

// Rest gives what is left when the stream ends: of a document that has begun, or of what
// stands outside of one. It is empty if there is nothing.
func (s *Splitter) Rest() Frame {
	f := Frame{Bytes: s.buf, Err: ErrCut}
	if !s.inside {
		f.Err, f.First = ErrOutside, !s.joined
		if s.skip || len(bytes.Trim(s.buf, "\x00 \t\r\n")) == 0 {
			f = Frame{}
		}
	}
	s.buf, s.at, s.inside, s.skip, s.joined = nil, 0, false, false, true
	return f
}

// Begins reports whether bytes begin as a document does, and not in the middle of one.
func Begins(b []byte) bool {
	b = bytes.TrimLeft(b, "\x00 \t\r\n")
	if is, _ := wide(b); is || bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		return true
	}
	return len(b) > 1 && b[0] == '<' && (b[1] == '?' || b[1] == '!' || letter(b[1]))
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// narrowBegins reports whether a document that is not UTF-16 begins at b. In one of UTF-16
// no three bytes of a tag follow each other.
func narrowBegins(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) || len(b) > 2 && b[0] == '<' && (b[1] == '?' || letter(b[1])) && b[2] > ' ' && b[2] < 0x7f
}
