package document

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// longBase64 is from how many characters on a run of base64 is taken for a picture:
// longer than any word that an instrument writes. MinPicture is how many bytes that
// are.
const (
	longBase64 = 512
	MinPicture = longBase64 / 4 * 3
)

// Base64 decodes what a document holds as base64, with line ends, without padding, or
// as a data URL. It is nil for what is none, and for nothing.
func Base64(text string) []byte {
	if strings.HasPrefix(text, "data:") {
		if _, after, ok := strings.Cut(text, "base64,"); ok {
			text = after
		}
	}
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\r', '\n', ' ', '\t', '=':
			return -1
		}
		return r
	}, text)
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

// Elide takes the pictures out of a document that holds them as base64, and gives how
// many there were. Every other byte stays as it came. What is shorter than a picture
// stays too.
func Elide(b []byte) (rest []byte, pictures int) {
	copied := 0
	for i := 0; i < len(b); {
		if !inBase64(b, i) {
			i++
			continue
		}
		from := i
		for i < len(b) && inBase64(b, i) {
			if b[i] == '\\' {
				i++
			}
			i++
		}
		if i-from < longBase64 {
			continue
		}
		pictures++
		rest = append(rest, b[copied:from]...)
		copied = i
	}
	if pictures == 0 {
		return b, 0
	}
	return append(rest, b[copied:]...), pictures
}

// inBase64 says whether a byte belongs to base64, as JSON and XML write it: JSON may
// escape a slash or the end of a line.
func inBase64(b []byte, i int) bool {
	c := b[i]
	switch {
	case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/', c == '=', c == '\r', c == '\n':
		return true
	case c == '\\':
		return i+1 < len(b) && bytes.IndexByte([]byte("/nr"), b[i+1]) >= 0
	}
	return false
}
