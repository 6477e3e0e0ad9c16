// Package multipart reads and writes MIME multipart as cameras send it, which is
// often not as the standard has it: lengths that are wrong or missing, line ends
// of one kind or the other, boundaries that begin with dashes of their own,
// headers that are folded or not ended, and streams that never end.
//
// It does no I/O of its own; the reader takes what an io.Reader gives.
package multipart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"strconv"
	"strings"
)

// Bounds of a stream.
const (
	// MaxPart bounds the body of one part in bytes.
	MaxPart = 16 << 20
	// MaxHeader bounds the header of one part in bytes, and a delimiter line.
	MaxHeader = 16 << 10
	// maxBoundary is the longest boundary that RFC 2046 allows, with room for the
	// dashes that some cameras put before it.
	maxBoundary = 76
	// slack is by how many bytes a Content-Length may be off: cameras count the
	// line end before the delimiter, or do not.
	slack = 2
	// readSize is how much is read at once.
	readSize = 32 << 10
)

// Errors of a stream. After ErrTooLarge and ErrHeader the reader goes on at the
// next delimiter.
var (
	ErrTooLarge   = fmt.Errorf("a part has more than %d bytes", MaxPart)
	ErrHeader     = fmt.Errorf("the header of a part has more than %d bytes", MaxHeader)
	ErrNoBoundary = errors.New("the stream is not multipart: no delimiter line was found")
)

// Part is one part of a stream.
type Part struct {
	// Header holds the values by their names in lower case. Of several with one
	// name the last counts.
	Header map[string]string
	// Body is valid until the next call of Next.
	Body []byte
	// LengthWrong: the Content-Length was not that of the body. Where that showed
	// only after the part was given out, the next one has PreviousWrong.
	LengthWrong, PreviousWrong bool
	// Truncated: the stream ended inside the body.
	Truncated bool
	// Continued: the body goes on after that of the part before, which looked whole
	// and was given out: a second document of one part.
	Continued bool
}

// MediaType is the Content-Type without its parameters, in lower case.
func (p *Part) MediaType() string {
	t, _, _ := strings.Cut(p.Header["content-type"], ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// Name is the name that the Content-Disposition gives, empty if there is none.
func (p *Part) Name() string { return disposition(p.Header["content-disposition"], "name") }

// FileName is the name of the file that the Content-Disposition gives.
func (p *Part) FileName() string { return disposition(p.Header["content-disposition"], "filename") }

// disposition finds a parameter, with or without blanks and quotes.
func disposition(value, name string) string {
	for field := range strings.SplitSeq(value, ";") {
		key, v, ok := strings.Cut(strings.TrimSpace(field), "=")
		if ok && strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// Boundary finds the boundary in a Content-Type; empty if there is none.
func Boundary(contentType string) string {
	if _, params, err := mime.ParseMediaType(contentType); err == nil && params["boundary"] != "" {
		return params["boundary"]
	}
	// Some put characters into it that need quotes, and no quotes.
	for field := range strings.SplitSeq(contentType, ";") {
		key, v, ok := strings.Cut(strings.TrimSpace(field), "=")
		if ok && strings.EqualFold(strings.TrimSpace(key), "boundary") {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// Reader gives the parts of a stream. Make it with NewReader.
type Reader struct {
	r     io.Reader
	buf   []byte // what was read and not given out begins at at
	at    int
	err   error // sticky: io.EOF, or what broke the stream
	delim []byte
	// search is "\n" and the delimiter.
	search []byte
	// options are the delimiters that are possible until one was seen.
	options [][]byte

	began  bool // a delimiter line was seen
	atLine bool // at is where a delimiter line should be
	wrong  bool // the last part's length turned out to be wrong
	// early is the header of the last part if it was given out before its delimiter
	// came.
	early map[string]string
}

// NewReader reads parts from r, whose Content-Type is contentType. Without a
// boundary in that, the first line that begins with two dashes gives it.
func NewReader(r io.Reader, contentType string) *Reader {
	m := &Reader{r: r}
	if b := Boundary(contentType); b != "" && len(b) <= maxBoundary {
		m.options = append(m.options, []byte("--"+b))
		if strings.HasPrefix(b, "--") {
			m.options = append(m.options, []byte(b))
		}
	}
	return m
}

// fill reads once more. It fails with what the underlying reader says; what was
// read stays, and the call that failed can be made again.
func (m *Reader) fill() error {
	if m.err != nil {
		return m.err
	}
	if m.at > 0 && (m.at == len(m.buf) || cap(m.buf)-len(m.buf) < readSize) {
		m.buf = m.buf[:copy(m.buf, m.buf[m.at:])]
		m.at = 0
	}
	if cap(m.buf)-len(m.buf) < readSize {
		grown := make([]byte, len(m.buf), 2*cap(m.buf)+readSize)
		copy(grown, m.buf)
		m.buf = grown
	}
	for range 100 {
		n, err := m.r.Read(m.buf[len(m.buf):min(cap(m.buf), len(m.buf)+readSize)])
		m.buf = m.buf[:len(m.buf)+max(n, 0)]
		if errors.Is(err, io.EOF) {
			m.err = io.EOF
			err = nil
			if n == 0 {
				return io.EOF
			}
		}
		if n > 0 || err != nil {
			if n > 0 {
				return nil // an error that came with bytes comes again
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				m.err = err
			}
			return err
		}
	}
	return io.ErrNoProgress
}

func (m *Reader) rest() []byte { return m.buf[m.at:] }

// Next gives the next part. At the end of the stream it returns io.EOF. After an
// error of the underlying reader that can pass, a deadline, it may be called again.
func (m *Reader) Next() (*Part, error) {
	header, err := m.toDelimiter()
	if err != nil {
		return nil, err
	}
	if header != nil {
		p := &Part{Header: header, PreviousWrong: true, Continued: true}
		if err := m.body(p, 0); err != nil {
			return nil, err
		}
		m.wrong = false
		return p, nil
	}
	m.early = nil
	header, body, err := m.header()
	if err != nil {
		return nil, err
	}
	p := &Part{Header: header, PreviousWrong: m.wrong}
	if err := m.body(p, body); err != nil {
		return nil, err
	}
	m.wrong = false
	return p, nil
}

// lineAt reports whether a delimiter line begins b, how long it is with its end,
// and whether it is a closing one; more means that b is too short to tell.
func lineAt(b, delim []byte, ended bool) (length int, closing, is, more bool) {
	if len(b) < len(delim) {
		return 0, false, false, !ended && bytes.HasPrefix(delim, b)
	}
	if !bytes.HasPrefix(b, delim) {
		return 0, false, false, false
	}
	i := len(delim)
	if bytes.HasPrefix(b[i:], []byte("--")) {
		closing = true
		i += 2
	}
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r') {
		if i-len(delim) > MaxHeader {
			return 0, false, false, false
		}
		i++
	}
	switch {
	case i == len(b):
		return i, closing, ended, !ended
	case !closing && !ended && string(b[i:]) == "-":
		return 0, false, false, true
	case b[i] == '\n':
		return i + 1, closing, true, false
	}
	return 0, false, false, false
}

// toDelimiter passes over everything up to a delimiter line that opens a part, and
// over that line. Where another document comes in its place it stops before that,
// and gives the header of the part that the document belongs to.
func (m *Reader) toDelimiter() (map[string]string, error) {
	for {
		ended := m.err != nil
		b := m.rest()
		// Line ends before the delimiter belong to it; some cameras fill up with NULs.
		i := 0
		for i < len(b) && (b[i] == '\r' || b[i] == '\n' || b[i] == 0) {
			i++
		}
		var length int
		var closing, is, more bool
		if m.delim != nil {
			length, closing, is, more = lineAt(b[i:], m.delim, ended)
		} else {
			length, closing, is, more = m.firstDelimiter(b[i:], ended)
		}
		switch {
		case is:
			m.began, m.atLine = true, false
			m.at += i + length
			if closing {
				m.atLine = true // what follows is another document, if anything
				m.early = nil
				continue
			}
			return nil, nil
		case more || len(b) == i:
			if err := m.fill(); err != nil {
				if errors.Is(err, io.EOF) && len(m.rest()) > i && !m.began {
					return nil, ErrNoBoundary
				}
				if errors.Is(err, io.EOF) && more {
					m.at = len(m.buf)
				}
				return nil, err
			}
			continue
		}
		// This line is none: a preamble, or what a wrong length left.
		if m.atLine {
			m.wrong, m.atLine = true, false
			if header := m.early; header != nil && (b[i] == '<' || b[i] == '{') {
				m.at += i
				return header, nil
			}
		}
		m.early = nil
		if err := m.passLine(i); err != nil {
			return nil, err
		}
	}
}

// passLine passes over the line that begins at offset i, however long it is.
func (m *Reader) passLine(i int) error {
	m.at += i
	for {
		b := m.rest()
		if m.search != nil {
			// The delimiter is known: no need to look at every line.
			if k := bytes.Index(b, m.search); k >= 0 {
				m.at += k + 1
				return nil
			}
			m.at += max(0, len(b)-len(m.search)+1)
		} else {
			if k := bytes.IndexByte(b, '\n'); k >= 0 {
				m.at += k + 1
				return nil
			}
			m.at += len(b)
		}
		if err := m.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				m.at = len(m.buf)
				if !m.began {
					return ErrNoBoundary
				}
			}
			return err
		}
	}
}

// firstDelimiter looks for the first delimiter line, and fixes what it is.
func (m *Reader) firstDelimiter(b []byte, ended bool) (length int, closing, is, more bool) {
	mark := []byte("\xef\xbb\xbf")
	if len(b) > 0 && len(b) < len(mark) && bytes.HasPrefix(mark, b) && !ended {
		return 0, false, false, true
	}
	if rest, ok := bytes.CutPrefix(b, mark); ok {
		length, closing, is, more = m.firstDelimiter(rest, ended)
		return length + len(b) - len(rest), closing, is, more
	}
	for _, option := range m.options {
		length, closing, is, m2 := lineAt(b, option, ended)
		if is {
			m.fix(option)
			return length, closing, is, false
		}
		more = more || m2
	}
	if len(m.options) > 0 || !bytes.HasPrefix(b, []byte("--")) {
		return 0, false, false, more || len(m.options) == 0 && !ended && bytes.HasPrefix([]byte("--"), b)
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return 0, false, false, !ended && len(b) <= maxBoundary
	}
	line := bytes.TrimRight(b[:end], " \t\r")
	if len(line) < 3 || len(line) > maxBoundary {
		return 0, false, false, false
	}
	m.fix(line)
	return end + 1, false, true, false
}

func (m *Reader) fix(delim []byte) {
	m.delim = bytes.Clone(delim)
	m.search = append([]byte("\n"), delim...)
}

// header reads the header of a part, and gives where its body begins, as an offset
// from at.
func (m *Reader) header() (map[string]string, int, error) {
	header := map[string]string{}
	last := ""
	for i := 0; ; {
		b := m.rest()
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			if i > MaxHeader || len(b)-i > MaxHeader {
				return nil, 0, m.skip(ErrHeader)
			}
			// A body that begins without a blank line may have no line end at all.
			if last != "" && len(b) > i && bodyBegins(b[i:]) {
				return header, i, nil
			}
			if err := m.fill(); err != nil {
				if errors.Is(err, io.EOF) {
					m.at = len(m.buf)
				} else {
					m.backToDelimiter()
				}
				return nil, 0, err
			}
			continue
		}
		line := bytes.TrimRight(b[i:i+end], "\r")
		next := i + end + 1
		if next > MaxHeader {
			return nil, 0, m.skip(ErrHeader)
		}
		switch name, value, ok := bytes.Cut(line, []byte(":")); {
		case len(bytes.TrimSpace(line)) == 0:
			return header, next, nil
		case (line[0] == ' ' || line[0] == '\t') && last != "":
			header[last] += " " + string(bytes.TrimSpace(line))
		case !ok || !isToken(name):
			return header, i, nil // the blank line is missing: this is the body
		default:
			last = strings.ToLower(string(bytes.TrimSpace(name)))
			header[last] = string(bytes.TrimSpace(value))
		}
		i = next
	}
}

// backToDelimiter puts the delimiter line of the part that was begun back, so that
// Next can begin it again.
func (m *Reader) backToDelimiter() {
	line := append(bytes.Clone(m.delim), '\n')
	rest := m.rest()
	if m.at >= len(line) {
		m.at -= len(line)
		copy(m.buf[m.at:], line)
		return
	}
	m.buf = append(line, rest...)
	m.at = 0
}

// skip gives up the part that was begun.
func (m *Reader) skip(err error) error {
	m.atLine = false
	return err
}

// isToken says whether a name can be that of a header.
func isToken(name []byte) bool {
	name = bytes.TrimRight(name, " \t")
	if len(name) == 0 || len(name) > 128 {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte(`()<>@,;:\"/[]?={}`), c) >= 0 {
			return false
		}
	}
	return true
}

// bodyBegins says whether bytes can't be a header: XML, JSON or a JPEG.
func bodyBegins(b []byte) bool {
	return b[0] == '<' || b[0] == '{' || b[0] == '[' || b[0] == 0xff
}

// body finds the end of the body that begins at offset from.
func (m *Reader) body(p *Part, from int) error {
	length, known := -1, false
	if text, ok := p.Header["content-length"]; ok && !p.Continued {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= MaxPart {
			length, known = n, true
		} else {
			p.LengthWrong = true
		}
	}
	searched := from
	if from > 0 {
		searched-- // the line end before the body can begin the delimiter's
	}
	for {
		b := m.rest()
		ended := m.err != nil
		if known && len(b)-from >= length {
			end, next, ok, more := m.endAt(b, from, length, ended)
			switch {
			case ok:
				p.LengthWrong = p.LengthWrong || end-from != length
				m.give(p, from, end, next)
				return nil
			case more && (length == 0 || Complete(b[from:from+length])):
				m.give(p, from, from+length, from+length)
				m.early = p.Header
				return nil
			case !more:
				known, p.LengthWrong = false, true
			}
		}
		if !known {
			if k := bytes.Index(b[searched:], m.search); k >= 0 {
				at := searched + k
				if _, _, is, more := lineAt(b[at+1:], m.delim, ended); is || more && ended {
					end := from
					if at+1 > from {
						end += len(trimEnd(b[from : at+1]))
					}
					m.give(p, from, end, at+1)
					return nil
				} else if more {
					searched = at
				} else {
					searched = at + 1
					continue
				}
			} else {
				searched = max(searched, len(b)-len(m.search))
				// Nothing more is there yet: what is whole by its own form need not wait
				// for the next part.
				// A JPEG must: one that is inside it ends with the same mark.
				if !bytes.HasPrefix(b[from:], []byte{0xff, 0xd8}) && Complete(b[from:]) {
					m.give(p, from, from+len(trimEnd(b[from:])), len(b))
					m.early = p.Header
					return nil
				}
			}
		}
		if len(b)-from > MaxPart+slack+len(m.search) {
			m.at += from
			return m.skip(ErrTooLarge)
		}
		if err := m.fill(); err != nil {
			if m.err == nil {
				m.backToDelimiter()
				return err
			}
			if len(m.rest()) != len(b) {
				continue
			}
			if known { // the length was too long; there may be a delimiter after all
				known, p.LengthWrong = false, true
				continue
			}
			end := from + len(trimEnd(b[from:]))
			if !Complete(b[from:end]) {
				end, p.Truncated = len(b), true
			}
			m.give(p, from, end, len(b))
			return nil
		}
	}
}

// endAt looks for the delimiter where the length puts it, give or take the slack.
// next is where the delimiter's line end begins.
func (m *Reader) endAt(b []byte, from, length int, ended bool) (end, next int, ok, more bool) {
	for _, off := range [...]int{0, -1, 1, -2, 2} {
		end := from + length + off
		if end < from || end > len(b) {
			more = more || end > len(b) && !ended
			continue
		}
		i := end
		for i < len(b) && i < end+4 && (b[i] == '\r' || b[i] == '\n' || b[i] == 0) {
			i++
		}
		if i == len(b) {
			more = more || !ended
			if ended && off == 0 {
				return end, len(b), true, false
			}
			continue
		}
		_, _, is, unsure := lineAt(b[i:], m.delim, ended)
		if is {
			// A length that counts the line end, or a body that has none after it.
			if i == end {
				end = from + len(trimEnd(b[from:end]))
			}
			return end, i, true, false
		}
		more = more || unsure
	}
	return 0, 0, false, more
}

// trimEnd takes one line end off.
func trimEnd(b []byte) []byte {
	b = bytes.TrimSuffix(b, []byte("\n"))
	return bytes.TrimSuffix(b, []byte("\r"))
}

// give hands out the body and moves on.
func (m *Reader) give(p *Part, from, end, next int) {
	p.Body = m.buf[m.at+from : m.at+end : m.at+end]
	m.at += next
	m.atLine = true
}
