package framing

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/lanepost/lanepost/protocol/document"
)

// Bounds of documents without framing, beside their size and depth.
const (
	// maxName bounds the name of an element and the first key of an object, in bytes.
	maxName = 256
	// maxTries bounds how many documents in a row may turn out to be broken before as many
	// bytes as a document may have are passed over unseen.
	maxTries = 16
)

// documents takes documents apart that follow each other. It looks at as much of XML and
// JSON as tells where a document ends; what else is wrong in it is found by who reads it.
//
// What comes behind a broken document may still be a part of it, and a part must not be
// taken for a whole. So after one the next begins only at a declaration of XML, at an element
// with the name of a root that was seen, or at an object with a first key that was seen and
// that stands where a value can't; or after a pause.
type documents struct {
	buffer
	root string // that XML must have, if it is not empty
	most int

	scan     scanner // of the document that begins at the buffer's at; nil for none
	hunting  bool
	from     int    // from where on a beginning is looked for
	why      string // what was wrong with the last document
	previous byte   // the last one that is no blank before at
	good     string // how the last whole document began, and the last broken one
	bad      string
	tries    int
	skip     int
}

func newDocuments(root string, most int) *documents { return &documents{root: root, most: most} }

// verdict is what a scanner has found so far.
type verdict int

const (
	unfinished verdict = iota
	whole
	damaged
)

// scanner looks for the end of a document. scan gets all of it that is there, each time from
// its beginning, and remembers how far it looked; for a whole one it gives where it ends.
type scanner interface {
	scan(b []byte) (n int, v verdict)
	// began says how the document begins, as beginnings are compared; empty if that is
	// not known yet.
	began() string
}

// Next implements Splitter.
func (s *documents) Next() (Piece, bool) {
	for {
		rest := s.buf[s.at:]
		if len(rest) == 0 {
			if s.idle {
				s.hunting, s.skip, s.tries, s.previous = false, 0, 0, 0
			}
			s.idle = false
			return Piece{}, false
		}
		p, n := s.step(rest)
		if n == 0 && p.Problem == again {
			continue
		}
		if n == 0 {
			return Piece{}, false
		}
		if t := bytes.TrimRight(rest[:n], blanks); len(t) > 0 {
			s.previous = t[len(t)-1]
		}
		s.at += n
		s.from = 0
		if p.Bytes != nil {
			return p, true
		}
	}
}

// again is the problem of a step that has taken nothing, and must be made anew.
const again = "again"

// blanks are the bytes between documents that say nothing.
const blanks = "\r\n\t \x00"

// step takes n bytes of the rest; 0 waits for more. A piece without bytes is not given.
func (s *documents) step(rest []byte) (Piece, int) {
	if s.skip > 0 {
		n := min(s.skip, len(rest))
		s.skip -= n
		return s.junk(rest, n, "passed over, since many documents were broken")
	}
	if s.scan == nil {
		return s.begin(rest)
	}
	window := rest[:min(len(rest), s.most)]
	n, v := s.scan.scan(window)
	switch {
	case v == whole:
		s.good, s.tries, s.hunting, s.scan = s.scan.began(), 0, false, nil
		return Piece{Bytes: rest[:n], Data: rest[:n]}, n
	case v == damaged:
		s.why = "of a document that is damaged"
	case len(rest) >= s.most:
		s.why = fmt.Sprintf("of a document that has more than %d", s.most)
	case s.idle:
		s.why = "of a document that was broken off"
	default:
		return Piece{}, 0
	}
	s.bad, s.hunting, s.from, s.scan = s.scan.began(), true, 1, nil
	if s.tries++; s.tries > maxTries {
		s.tries, s.skip = 0, s.most
	}
	return Piece{Problem: again}, 0
}

// begin looks for the beginning of a document.
func (s *documents) begin(rest []byte) (Piece, int) {
	if !s.hunting {
		s.why = "before a document begins"
	}
	for i := s.from; i < len(rest); i++ {
		if rest[i] != '<' && rest[i] != '{' {
			continue
		}
		is, known := s.isBeginning(rest[i:], s.before(rest, i))
		if !known && !s.idle {
			s.from = i
			if i >= maxJunk {
				return s.junk(rest, i, s.why)
			}
			return Piece{}, 0
		}
		if !is {
			continue
		}
		if i > 0 {
			return s.junk(rest, i, s.why)
		}
		s.hunting = false
		if rest[0] == '<' {
			s.scan = &xmlScanner{}
		} else {
			s.scan = &jsonScanner{}
		}
		return Piece{Problem: again}, 0
	}
	if s.idle || len(rest) >= maxJunk || blankOnly(rest) {
		return s.junk(rest, len(rest), s.why)
	}
	s.from = len(rest)
	return Piece{}, 0
}

// before gives the last byte before i that is no blank.
func (s *documents) before(rest []byte, i int) byte {
	for i--; i >= 0; i-- {
		if !blank(rest[i]) {
			return rest[i]
		}
	}
	return s.previous
}

// isBeginning reports whether a document begins with b, and whether b is enough to tell.
func (s *documents) isBeginning(b []byte, previous byte) (is, known bool) {
	if b[0] == '{' {
		if s.root != "" {
			return false, true
		}
		key, known := firstKey(b)
		if !s.hunting || !known {
			return key != "", known
		}
		return (key == s.good || key == s.bad) && strings.IndexByte(":,[", previous) < 0, true
	}
	if len(b) < 2 {
		return false, false
	}
	const declaration = "<?xml"
	switch c := b[1]; {
	case c == '?':
		if len(b) <= len(declaration) {
			return false, !bytes.HasPrefix([]byte(declaration), b)
		}
		return bytes.HasPrefix(b, []byte(declaration)) && blank(b[len(declaration)]), true
	case c == '!':
		if s.hunting || len(b) < 3 {
			return false, s.hunting
		}
		return b[2] == '-' || b[2] == 'D', true
	case !nameStart(c):
		return false, true
	case s.root == "" && !s.hunting:
		return true, true
	}
	name, known := elementName(b)
	if !known || s.root != "" {
		return name == s.root && name != "", known
	}
	return "<"+name == s.good || "<"+name == s.bad, true
}

func (s *documents) junk(rest []byte, n int, why string) (Piece, int) {
	if blankOnly(rest[:n]) {
		return Piece{}, n
	}
	return Piece{Bytes: rest[:n], Problem: fmt.Sprintf("%d bytes: %s", n, why)}, n
}

// blankOnly reports whether bytes between documents say nothing: blanks, and the byte order
// mark of UTF-8.
func blankOnly(b []byte) bool {
	for len(b) > 0 {
		switch {
		case blank(b[0]):
			b = b[1:]
		case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
			b = b[3:]
		default:
			return false
		}
	}
	return true
}

func nameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

// elementName gives the local name of the element whose tag begins with b, and whether b is
// enough to tell. It is empty for one that is too long.
func elementName(b []byte) (name string, known bool) {
	for i := 1; i < len(b); i++ {
		if c := b[i]; blank(c) || c == '>' || c == '/' {
			return localName(b[1:i]), true
		}
		if i > maxName {
			return "", true
		}
	}
	return "", false
}

func localName(b []byte) string { return string(b[bytes.IndexByte(b, ':')+1:]) }

// firstKey gives the first key of an object that begins with b, with a brace before it, and
// whether b is enough to tell. For an empty object that is the brace. It is empty for what is
// no object.
func firstKey(b []byte) (key string, known bool) {
	i := 1
	for i < len(b) && b[i] <= ' ' {
		if i++; i > maxName {
			return "", true
		}
	}
	if i == len(b) {
		return "", false
	}
	if b[i] == '}' {
		return "{", true
	}
	if b[i] != '"' {
		return "", true
	}
	for j := i + 1; j < len(b); j++ {
		switch {
		case b[j] == '\\':
			j++
		case b[j] == '"':
			return "{" + string(b[i+1:j]), true
		}
		if j-i > maxName {
			return "", true
		}
	}
	return "", false
}

// xmlScanner follows the tags of a document of XML.
type xmlScanner struct {
	open  []string
	first string
	// at is how far it looked, markup where the markup begins that is being read; in is
	// what that is, 0 for text between.
	at, markup int
	in         byte
	quote      byte
	angles     int
}

// What markup is.
const (
	inUnknown   = 'u'
	inStart     = 's'
	inEnd       = 'e'
	inComment   = 'c'
	inCDATA     = 'd'
	inProcess   = 'p'
	inDirective = 'D'
)

func (x *xmlScanner) began() string {
	if x.first == "" {
		return ""
	}
	return "<" + x.first
}

func (x *xmlScanner) scan(b []byte) (int, verdict) {
	for {
		if x.in == 0 {
			i := bytes.IndexByte(b[x.at:], '<')
			text := b[x.at:]
			if i >= 0 {
				text = text[:i]
			}
			if len(x.open) == 0 && len(bytes.Trim(text, blanks)) > 0 {
				return 0, damaged // text outside of the document
			}
			if i < 0 {
				x.at = len(b)
				return 0, unfinished
			}
			x.markup = x.at + i
			x.at, x.in = x.markup+1, inUnknown
		}
		if x.in == inUnknown && !x.classify(b[x.markup:]) {
			return 0, unfinished
		}
		if x.first == "" && x.in == inStart {
			x.first, _ = elementName(b[x.markup:]) // it may be broken off behind its name
		}
		end, v := x.end(b)
		if v != whole {
			return 0, v
		}
		markup := b[x.markup:end]
		in := x.in
		x.at, x.in, x.quote, x.angles = end, 0, 0, 0
		if !x.take(markup, in) {
			return 0, damaged
		}
		if len(x.open) == 0 && (in == inEnd || in == inStart) {
			return end, whole
		}
	}
}

// classify finds out what markup begins with b; false if it can't be told yet.
func (x *xmlScanner) classify(b []byte) bool {
	for _, m := range []struct {
		mark string
		in   byte
	}{{"<!--", inComment}, {"<![CDATA[", inCDATA}, {"<?", inProcess}, {"</", inEnd}, {"<!", inDirective}} {
		if bytes.HasPrefix(b, []byte(m.mark)) {
			x.in = m.in
			x.at = x.markup + len(m.mark)
			return true
		}
		if len(b) < len(m.mark) && strings.HasPrefix(m.mark, string(b)) {
			return false
		}
	}
	x.in = inStart
	return true
}

// end finds where markup ends; damaged if it can't any more.
func (x *xmlScanner) end(b []byte) (int, verdict) {
	if mark, ok := map[byte]string{inComment: "-->", inCDATA: "]]>", inProcess: "?>"}[x.in]; ok {
		if i := bytes.Index(b[x.at:], []byte(mark)); i >= 0 {
			return x.at + i + len(mark), whole
		}
		x.at = max(x.at, len(b)-len(mark)+1)
		return 0, unfinished
	}
	for ; x.at < len(b); x.at++ {
		c := b[x.at]
		switch {
		case x.in == inDirective && c == '<':
			x.angles++
		case x.in == inDirective && c == '>' && x.angles > 0:
			x.angles--
		case c == '<': // not in a value either
			return 0, damaged
		case x.in == inDirective && c != '>':
		case x.quote != 0:
			if c == x.quote {
				x.quote = 0
				continue
			}
			// A value may be a picture: it is looked at once, also if its end has not come yet.
			value := b[x.at:]
			if i := bytes.IndexByte(value, x.quote); i >= 0 {
				value = value[:i]
			}
			if i := bytes.IndexByte(value, '<'); i >= 0 {
				value = value[:i]
			}
			x.at += len(value) - 1
		case x.in == inStart && (c == '"' || c == '\''):
			x.quote = c
		case c == '>':
			return x.at + 1, whole
		}
	}
	return 0, unfinished
}

// take takes markup; false if it can't stand where it does.
func (x *xmlScanner) take(b []byte, in byte) bool {
	switch in {
	case inStart:
		if !nameStart(b[1]) {
			return false
		}
		name, _ := elementName(b)
		if name == "" || len(x.open) >= document.MaxDepth {
			return false
		}
		if b[len(b)-2] != '/' {
			x.open = append(x.open, name)
		}
	case inEnd:
		name := localName(bytes.TrimRight(b[2:len(b)-1], blanks))
		if len(x.open) == 0 || x.open[len(x.open)-1] != name {
			return false
		}
		x.open = x.open[:len(x.open)-1]
	case inProcess:
		// A declaration stands at the beginning only.
		return !(bytes.HasPrefix(b, []byte("<?xml")) && blank(b[5])) || x.markup == 0
	case inCDATA:
		return len(x.open) > 0
	}
	return true
}

// jsonScanner follows the braces of a document of JSON.
type jsonScanner struct {
	open    []byte // the closing ones that are wanted
	key     string
	at      int
	last    byte // the last one that is no blank, outside of texts
	inText  bool
	stopped bool // the next byte of the text is escaped
}

func (x *jsonScanner) began() string { return x.key }

func (x *jsonScanner) scan(b []byte) (int, verdict) {
	if x.key == "" {
		x.key, _ = firstKey(b)
	}
	for ; x.at < len(b); x.at++ {
		c := b[x.at]
		switch {
		case x.stopped:
			x.stopped = false
		case x.inText:
			x.stopped = c == '\\'
			x.inText = c != '"'
		case c <= ' ':
		case !x.follows(c):
			return 0, damaged
		case len(x.open) == 0:
			return x.at + 1, whole
		}
	}
	return 0, unfinished
}

// follows takes a byte outside of texts; false if it can't stand where it does.
func (x *jsonScanner) follows(c byte) bool {
	value := strings.IndexByte(":,[", x.last) >= 0 || x.last == 0
	switch c {
	case '{', '[':
		if !value || len(x.open) > document.MaxDepth {
			return false
		}
		x.open = append(x.open, c+2) // the closing one is two further in ASCII
	case '}', ']':
		n := len(x.open)
		if n == 0 || x.open[n-1] != c {
			return false
		}
		x.open = x.open[:n-1]
	case '"':
		if !value && x.last != '{' {
			return false
		}
		x.inText = true
	default:
		if strings.IndexByte(":,0123456789+-.eEtrufalsn", c) < 0 {
			return false
		}
	}
	x.last = c
	return true
}
