package textframe

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Message is what a frame says.
type Message struct {
	// Fields are the values by the fields' names. A field that the text does not
	// have is not in it; one that is empty there is empty.
	Fields map[string]string
	// Pictures are the pictures by their fields' names.
	Pictures map[string][]byte
	// Lossy is true if bytes of the text, or a value in base64, could not be read;
	// the bytes are U+FFFD then, the value is as it was sent.
	Lossy bool
	// Cut lists the fields that were longer than MaxValue.
	Cut []string
	// Heartbeat is true if it says only that the reader is alive.
	Heartbeat bool
}

// What is wrong with a frame.
var (
	errChecksum = errors.New("the checksum is wrong")
	errMatch    = errors.New("the text is not as the grammar says")
)

// Decode reads a whole frame, from its start to its end. Its errors tell nothing
// of what is in the frame.
func (f *Format) Decode(frame []byte) (Message, error) {
	data, err := f.Data(frame)
	if err != nil {
		return Message{}, err
	}
	return f.DecodeText(data)
}

// Data checks a whole frame and gives what is in it.
func (f *Frames) Data(frame []byte) ([]byte, error) {
	data, err := f.unwrap(frame)
	if err == nil && string(f.end) == "\n" && f.sum.sum == nil {
		data = bytes.TrimSuffix(data, []byte("\r"))
	}
	return data, err
}

// DecodeText reads a text that came without a start, an end and a checksum.
func (f *Format) DecodeText(data []byte) (Message, error) {
	text, lossy := f.text(data)
	if f.heartbeat != nil && f.heartbeat.MatchString(text) {
		return Message{Heartbeat: true}, nil
	}
	m := Message{Fields: map[string]string{}, Lossy: lossy}
	if err := f.find(&m, text); err != nil {
		return Message{}, err
	}
	if len(f.words.Told) > 0 && !slices.ContainsFunc(f.words.Told, func(n string) bool { _, ok := m.Fields[n]; return ok }) {
		return Message{}, errMatch
	}
	return m, nil
}

// find puts the fields of a text into m.
func (f *Format) find(m *Message, text string) error {
	switch {
	case f.pattern != nil:
		at := f.pattern.FindStringSubmatchIndex(text)
		if at == nil {
			return errMatch
		}
		for i, name := range f.pattern.SubexpNames() {
			if name != "" && at[2*i] >= 0 {
				f.put(m, name, text[at[2*i]:at[2*i+1]])
			}
		}
	case len(f.columns) > 0:
		values := strings.SplitN(text, f.separator, len(f.columns)+1)
		if len(values) != len(f.columns) {
			return fmt.Errorf("%w: it has %d columns or more and not %d", errMatch, len(values), len(f.columns))
		}
		for i, name := range f.columns {
			if name != "" {
				f.put(m, name, values[i])
			}
		}
	default:
		for name, re := range f.parts {
			if at := re.FindStringSubmatchIndex(text); at != nil && at[2] >= 0 {
				f.put(m, name, text[at[2]:at[3]])
			}
		}
		slices.Sort(m.Cut)
	}
	return nil
}

// put keeps one value.
func (f *Format) put(m *Message, name, value string) {
	switch f.escapes {
	case "xml":
		value = html.UnescapeString(value)
	case "json":
		var s string
		if err := json.Unmarshal([]byte(`"`+value+`"`), &s); err == nil {
			value = s
		} else {
			m.Lossy = true
		}
	}
	if slices.Contains(f.words.Pictures, name) {
		if b, ok := decodeBase64(value); ok && len(b) > 0 {
			if m.Pictures == nil {
				m.Pictures = map[string][]byte{}
			}
			m.Pictures[name] = b
		}
		return
	}
	if slices.Contains(f.base64, name) {
		if b, ok := decodeBase64(value); ok {
			text, lossy := f.text(b)
			value, m.Lossy = text, m.Lossy || lossy
		} else {
			m.Lossy = true
		}
	}
	if len(value) > MaxValue {
		value = strings.ToValidUTF8(value[:MaxValue], "")
		m.Cut = append(m.Cut, name)
	}
	m.Fields[name] = strings.Clone(value) // not a part of a frame that may be long
}

// decodeBase64 reads base64 as it comes: with or without padding and line ends.
func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "=\r\n"))
	return b, err == nil
}

// unwrap checks a frame and gives what is between its start, end and checksum.
func (f *Frames) unwrap(frame []byte) ([]byte, error) {
	tail := f.sum.size + len(f.end)
	if len(frame) < len(f.start)+tail || !bytes.HasPrefix(frame, f.start) {
		return nil, errors.New("the frame is too short")
	}
	data, rest := frame[len(f.start):len(frame)-tail], frame[len(frame)-tail:]
	sum, end := rest[:f.sum.size], rest[f.sum.size:]
	if f.sum.after {
		end, sum = rest[:len(f.end)], rest[len(f.end):]
	}
	if !bytes.Equal(end, f.end) {
		return nil, errors.New("the frame has no end")
	}
	if f.sum.sum != nil && !f.sum.same(sum, f.sum.written(f.start, data, f.end)) {
		return nil, errChecksum
	}
	return data, nil
}

// Text reads bytes by the code page. lossy is true if some of them are none of it: they are
// U+FFFD then.
func (f *Frames) Text(b []byte) (text string, lossy bool) { return f.text(b) }

// text reads bytes by the code page.
func (f *Frames) text(b []byte) (string, bool) {
	if f.encoding == nil {
		return strings.ToValidUTF8(string(b), "\ufffd"), !utf8.Valid(b)
	}
	out, err := f.encoding.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\ufffd"), true
	}
	return string(out), bytes.Contains(out, []byte("\ufffd"))
}

// Encode makes a frame of a text. It fails for a text that the code page has not,
// that holds what a frame ends with, or that is too long.
func (f *Frames) Encode(text string) ([]byte, error) {
	data := []byte(text)
	if f.encoding != nil {
		var err error
		if data, err = f.encoding.NewEncoder().Bytes(data); err != nil {
			return nil, fmt.Errorf("write a text: the code page has not all of its characters: %w", err)
		}
	}
	if len(f.end) > 0 && bytes.Contains(data, f.end) {
		return nil, errors.New("write a text: it holds what its end is told by")
	}
	sum := f.sum.written(f.start, data, f.end)
	frame := slices.Concat(f.start, data)
	if f.sum.after {
		frame = append(append(frame, f.end...), sum...)
	} else {
		frame = append(append(frame, sum...), f.end...)
	}
	if len(frame) > f.most {
		return nil, fmt.Errorf("write a text: the frame has %d bytes: want %d at most", len(frame), f.most)
	}
	return frame, nil
}

// Template is the text that a reader makes of a read, with the fields in braces:
// "{date}{camera}{plate}". {plate:base64} writes the value in base64.
type Template string

var placeholder = regexp.MustCompile(`\{([a-z_]+)(:base64)?\}`)

// Write fills the template in; a field without a value is empty.
func (t Template) Write(values map[string]string) string {
	return placeholder.ReplaceAllStringFunc(string(t), func(p string) string {
		name, coded := strings.CutSuffix(strings.Trim(p, "{}"), ":base64")
		if coded {
			return base64.StdEncoding.EncodeToString([]byte(values[name]))
		}
		return values[name]
	})
}
