package textframe

import (
	"bytes"
	"fmt"
)

// Piece is a part of the stream.
type Piece struct {
	// Bytes are valid until the next Write.
	Bytes []byte
	// Message is what the frame says, if Problem is empty.
	Message Message
	// Problem says why the bytes are no frame. It tells nothing of what is in them.
	Problem string
}

// Splitter cuts a stream of bytes into frames, the same ones however the stream
// is cut into Writes. Blanks and line ends between frames are passed over, unless
// they are a frame by the grammar; other bytes there are told. It finds the next frame after bytes that belong to none,
// and after a damaged frame, in which the next one may have begun. Call Next until
// it gives none after each Write: memory is then bounded by the longest frame and
// the size of one Write.
type Splitter struct {
	f *Frames
	// decode reads a frame; one that it refuses is none.
	decode func([]byte) (Message, error)

	buf  []byte
	at   int // what is given out of buf
	from int // from where on the end is looked for
	// skipping: a frame without a start was too long, and its rest is passed over.
	skipping bool
	idle     bool
}

// Splitter makes a splitter for one connection.
func (f *Format) Splitter() *Splitter { return &Splitter{f: f.Frames, decode: f.Decode} }

// Splitter makes a splitter for one connection that looks only at the frames: the messages
// of its pieces are empty.
func (f *Frames) Splitter() *Splitter {
	return &Splitter{f: f, decode: func(frame []byte) (Message, error) {
		_, err := f.Data(frame)
		return Message{}, err
	}}
}

// Write takes bytes as they come. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	if s.at > 0 {
		s.buf = append(s.buf[:0], s.buf[s.at:]...)
		s.at = 0
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

// Idle says that nothing comes any more of what was begun: the line was silent
// for the grammar's pause, or the connection ended. It ends a frame without an
// end; other bytes are broken off, and told by Next.
func (s *Splitter) Idle() { s.idle = true }

// Pending is how many bytes wait for the rest of a frame.
func (s *Splitter) Pending() int { return len(s.buf) - s.at }

// Next gives the next piece, or false if there is none yet.
func (s *Splitter) Next() (Piece, bool) {
	for {
		rest := s.buf[s.at:]
		if len(rest) == 0 {
			s.skipping = s.skipping && !s.idle
			s.idle, s.from = false, 0
			return Piece{}, false
		}
		piece, n := s.step(rest)
		if n == 0 {
			return Piece{}, false
		}
		s.at += n
		s.from = 0
		if piece.Bytes != nil {
			return piece, true
		}
	}
}

// step takes n bytes of the rest; 0 waits for more. A piece without bytes is not
// given.
func (s *Splitter) step(rest []byte) (Piece, int) {
	f := s.f
	if s.skipping {
		return s.skip(rest)
	}
	if len(f.start) == 0 && len(f.end) > 0 && f.sum.sum == nil {
		switch {
		case bytes.HasPrefix(rest, f.end):
			// A line without a text: whether that says anything is the grammar's word.
			m, err := s.decode(rest[:len(f.end)])
			if err != nil {
				return Piece{}, len(f.end)
			}
			return Piece{Bytes: rest[:len(f.end)], Message: m}, len(f.end)
		case bytes.HasPrefix(f.end, rest) && !s.idle:
			return Piece{}, 0
		case rest[0] == '\r', rest[0] == '\n', rest[0] == 0:
			return Piece{}, 1 // what is left of a line end
		}
	}
	if !bytes.HasPrefix(rest, f.start) {
		return s.noise(rest)
	}
	window := rest[:min(len(rest), f.most)]
	if len(f.end) == 0 {
		return s.untilStart(rest, window)
	}
	s.from = max(s.from, len(f.start))
	i := -1
	if s.from <= len(window) {
		i = bytes.Index(window[s.from:], f.end)
	}
	if i < 0 {
		switch {
		case len(rest) >= f.most:
			return s.tooLong(rest)
		case s.idle:
			return s.broken(rest, len(rest), "broken off")
		}
		s.from = max(s.from, len(rest)-len(f.end)+1)
		return Piece{}, 0
	}
	s.from += i
	return s.frame(rest, s.from)
}

// frame tries what ends with the end at e.
func (s *Splitter) frame(rest []byte, e int) (Piece, int) {
	f := s.f
	n := e + len(f.end)
	slack := 0
	if f.sum.after {
		n += f.sum.size
	} else if f.sum.sum != nil && !f.sum.hex {
		slack = f.sum.size // the checksum may look like the end
	}
	if len(rest) < n {
		if s.idle {
			return s.broken(rest, len(rest), "broken off")
		}
		return Piece{}, 0
	}
	problem := ""
	for _, at := range s.starts(rest[:e]) {
		for more := range slack + 1 {
			to := n + more
			if to > len(rest) {
				break
			}
			if !f.sum.after && !bytes.Equal(rest[to-len(f.end):to], f.end) {
				continue
			}
			m, err := s.decode(rest[at:to])
			switch {
			case err != nil:
				if problem == "" {
					problem = err.Error()
				}
			case at > 0:
				return Piece{Bytes: rest[:at], Problem: fmt.Sprintf("%d bytes of a frame that was broken off", at)}, at
			default:
				return Piece{Bytes: rest[:to], Message: m}, to
			}
		}
	}
	if len(rest) < n+slack && !s.idle {
		return Piece{}, 0
	}
	return s.broken(rest, n, problem)
}

// broken gives bytes up to n that are no frame, or up to where the next one may
// begin among them.
func (s *Splitter) broken(rest []byte, n int, problem string) (Piece, int) {
	if f := s.f; len(f.start) > 0 {
		from := len(f.start)
		if s.from > from && problem != "broken off" {
			from = s.from // what begins before the end has been tried
		}
		if from = min(from, n); from > 0 {
			if i := bytes.Index(rest[from:n], f.start); i >= 0 {
				n = from + i
			} else {
				n -= beginning(rest[from:n], f.start) // the rest of it may be on its way
			}
		}
	}
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes that make no frame: %s", n, problem)}, n
}

// starts are where a frame may begin before its end, the likeliest first. A
// control character does not stand in a text, so a start with one is the last; of
// others it is the first.
func (s *Splitter) starts(piece []byte) []int {
	list := []int{0}
	if len(s.f.start) == 0 {
		return list
	}
	control := s.f.start[0] < ' '
	for from := len(s.f.start); ; {
		i := bytes.Index(piece[min(from, len(piece)):], s.f.start)
		if i < 0 {
			break
		}
		at := from + i
		from = at + len(s.f.start)
		if control {
			list = append([]int{at}, list...)
			if len(list) > maxStarts {
				list = append(list[:maxStarts-1], 0)
			}
		} else if list = append(list, at); len(list) == maxStarts {
			break
		}
	}
	return list
}

// untilStart gives a frame without an end.
func (s *Splitter) untilStart(rest, window []byte) (Piece, int) {
	f := s.f
	n := len(rest)
	next := -1
	if len(f.start) > 0 {
		s.from = max(s.from, len(f.start))
		if next = bytes.Index(window[min(s.from, len(window)):], f.start); next >= 0 {
			n = s.from + next
		}
	}
	if next < 0 {
		if len(rest) > f.most || len(rest) == f.most && !s.idle {
			return s.tooLong(rest)
		}
		if !s.idle {
			s.from = max(s.from, len(rest)-len(f.start)+1)
			return Piece{}, 0
		}
	}
	m, err := s.decode(rest[:n])
	if err != nil {
		if blank(rest[:n]) {
			return Piece{}, n
		}
		return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes that make no frame: %s", n, err)}, n
	}
	return Piece{Bytes: rest[:n], Message: m}, n
}

// noise gives bytes before the next start.
func (s *Splitter) noise(rest []byte) (Piece, int) {
	n := bytes.Index(rest, s.f.start)
	if n < 0 {
		n = len(rest)
		if !s.idle {
			n -= beginning(rest, s.f.start)
			if n < maxJunk {
				return Piece{}, 0
			}
		}
	}
	n = min(n, maxJunk)
	if blank(rest[:n]) {
		return Piece{}, n
	}
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes before a frame begins", n)}, n
}

// beginning is how many of the last bytes are the beginning of a start.
func beginning(b, start []byte) int {
	for k := min(len(start)-1, len(b)); k > 0; k-- {
		if bytes.HasSuffix(b, start[:k]) {
			return k
		}
	}
	return 0
}

// blank reports whether there is nothing in some bytes but blanks, line ends and
// zeros.
func blank(b []byte) bool { return len(bytes.Trim(b, "\r\n\t \x00")) == 0 }

func (s *Splitter) tooLong(rest []byte) (Piece, int) {
	n := s.f.most
	if len(s.f.start) == 0 {
		s.skipping = true
		n = min(n, maxJunk)
	} else if i := bytes.Index(rest[1:n], s.f.start); i >= 0 {
		n = 1 + i
	} else {
		n = min(n, max(1, n-len(s.f.start)+1)) // the next one may begin at the last bytes
	}
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes of a frame that has more than %d", n, s.f.most)}, n
}

// skip passes over the rest of a frame that is too long.
func (s *Splitter) skip(rest []byte) (Piece, int) {
	n, found := len(rest), -1
	if len(s.f.end) > 0 {
		found = bytes.Index(rest, s.f.end)
	}
	switch {
	case found >= 0:
		n = found + len(s.f.end)
	case !s.idle && len(s.f.end) > 0:
		n = len(rest) - len(s.f.end) + 1
	}
	if n > maxJunk {
		n = maxJunk
		if found >= 0 && n > found {
			n = found // not into the end
		}
	} else if found < 0 && !s.idle && n < maxJunk {
		return Piece{}, 0
	} else if found >= 0 || s.idle {
		s.skipping = false
	}
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes of a frame that has more than %d", n, s.f.most)}, n
}
