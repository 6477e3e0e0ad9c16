package multipart

import (
	"bytes"
	"encoding/json"
)

// Bounds of the look at whether a body is whole.
const (
	// maxTail and maxProlog bound the blanks after a document and what stands before
	// its root, where it is looked at whether it is whole. That happens each time
	// something comes, so it must not take longer the more has come.
	maxTail, maxProlog = 64, 4 << 10
	// maxJSONProbe bounds the JSON whose end is looked for by its own form.
	maxJSONProbe = 64 << 10
)

// Complete says whether a body is whole by its own form: XML up to the end of its
// root, a JSON value, a JPEG up to its end mark, or the word that some cameras
// send as a sign of life.
func Complete(b []byte) bool {
	if bytes.HasPrefix(b, []byte{0xff, 0xd8}) {
		return bytes.HasSuffix(b, []byte{0xff, 0xd9})
	}
	const blank = "\r\n\t \x00"
	tail := len(b) - max(0, len(b)-maxTail)
	t := b[:len(b)-tail+len(bytes.TrimRight(b[len(b)-tail:], blank))]
	if len(t) == 0 || len(t) == len(b)-tail {
		return false
	}
	t = bytes.TrimPrefix(t, []byte("\xef\xbb\xbf"))
	head := t[:min(len(t), maxProlog)]
	lead := len(head) - len(bytes.TrimLeft(head, "\r\n\t "))
	t = t[lead:]
	switch {
	case len(t) == 0 || lead == maxProlog:
		return false
	case t[0] == '<':
		return t[len(t)-1] == '>' && closesRoot(t)
	case t[0] == '{' || t[0] == '[':
		last := t[len(t)-1]
		return (last == '}' || last == ']') && len(t) <= maxJSONProbe && json.Valid(t)
	}
	return bytes.EqualFold(t, []byte("Heartbeat"))
}

// closesRoot says whether XML ends with the end tag of its first element.
func closesRoot(t []byte) bool {
	rest := t[:min(len(t), maxProlog)]
	for {
		i := bytes.IndexByte(rest, '<')
		if i < 0 || i+1 >= len(rest) {
			return false
		}
		rest = rest[i+1:]
		switch {
		case rest[0] == '?':
			end := bytes.Index(rest, []byte("?>"))
			if end < 0 {
				return false
			}
			rest = rest[end+2:]
			continue
		case bytes.HasPrefix(rest, []byte("!--")):
			end := bytes.Index(rest, []byte("-->"))
			if end < 0 {
				return false
			}
			rest = rest[end+3:]
			continue
		case rest[0] == '!' || rest[0] == '/':
			return false
		}
		n := bytes.IndexAny(rest, " \t\r\n/>")
		if n <= 0 {
			return false
		}
		name := rest[:n]
		tail, ok := bytes.CutSuffix(t, []byte(">"))
		tail = bytes.TrimRight(tail, " \t\r\n")
		return ok && bytes.HasSuffix(tail, append([]byte("</"), name...))
	}
}
