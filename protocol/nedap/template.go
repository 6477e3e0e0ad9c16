package nedap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Template is the text that a LUMO makes of a read, with placeholders such as
// %LP% for the plate, and %CR% and %LF% for the line end: "%LP%;%CONF%%CR%%LF%".
// The manual names LP, LP_WS, LP_UL, STATE, STATE_ALPHA_3, CONF, CONF_STATE,
// DIRECTION (in degrees), POS_X, YEAR and others of the last two's kind.
type Template struct {
	parts []part
	whole *regexp.Regexp
}

// part is a placeholder if it has a name, or a text.
type part struct{ name, text string }

// MaxTemplate bounds a template, in bytes.
const MaxTemplate = 4 << 10

var placeholder = regexp.MustCompile(`%([A-Z][A-Z0-9_]*)%`)

// hexBytes are bytes of ASCII in a template.
var hexBytes = regexp.MustCompile(`0x[0-7][0-9A-Fa-f](?:%0x[0-7][0-9A-Fa-f])*`)

// lineEnds are the placeholders that stand for a byte.
var lineEnds = map[string]string{"CR": "\r", "LF": "\n"}

// ParseTemplate reads a template. A sign % that is no part of a placeholder
// stands for itself. Two placeholders must have a text between them, and none may
// come twice, or else nobody could read what is sent.
func ParseTemplate(s string) (Template, error) {
	if len(s) > MaxTemplate {
		return Template{}, fmt.Errorf("template: it has %d bytes: want %d at most", len(s), MaxTemplate)
	}
	var t Template
	literal := func(text string) {
		if n := len(t.parts); n > 0 && t.parts[n-1].name == "" {
			t.parts[n-1].text += text
		} else if text != "" {
			t.parts = append(t.parts, part{text: text})
		}
	}
	// The manual writes bytes as 0x0D%0x0A.
	s = hexBytes.ReplaceAllStringFunc(s, func(m string) string {
		var b strings.Builder
		for one := range strings.SplitSeq(m, "%") {
			n, err := strconv.ParseUint(strings.TrimPrefix(one, "0x"), 16, 8)
			if err != nil {
				return m
			}
			b.WriteByte(byte(n)) // below 0x80, see hexBytes
		}
		return b.String()
	})
	at, had := 0, map[string]bool{}
	for _, m := range placeholder.FindAllStringSubmatchIndex(s, -1) {
		literal(s[at:m[0]])
		name := s[m[2]:m[3]]
		at = m[1]
		if end, ok := lineEnds[name]; ok {
			literal(end)
			continue
		}
		if had[name] {
			return Template{}, fmt.Errorf("template: %%%s%% comes twice", name)
		}
		if n := len(t.parts); n > 0 && t.parts[n-1].name != "" {
			return Template{}, fmt.Errorf("template: nothing stands between %%%s%% and %%%s%%", t.parts[n-1].name, name)
		}
		had[name] = true
		t.parts = append(t.parts, part{name: name})
	}
	literal(s[at:])
	if len(had) == 0 {
		return Template{}, errors.New("template: it has no placeholder")
	}
	var pattern strings.Builder
	pattern.WriteString(`(?s)^`)
	for _, p := range t.parts {
		if p.name != "" {
			fmt.Fprintf(&pattern, `(?P<%s>.*?)`, p.name)
		} else {
			pattern.WriteString(regexp.QuoteMeta(p.text))
		}
	}
	pattern.WriteString(`$`)
	whole, err := regexp.Compile(pattern.String())
	if err != nil {
		return Template{}, fmt.Errorf("template: %w", err)
	}
	t.whole = whole
	return t, nil
}

// Has reports whether a placeholder is in the template.
func (t Template) Has(name string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.name == name })
}

// End is the text behind the last placeholder, for Texts; empty if there is none.
func (t Template) End() string {
	if n := len(t.parts); n > 0 {
		return t.parts[n-1].text
	}
	return ""
}

// Write makes the text of a read: the values by the placeholders' names, empty
// for those that are missing.
func (t Template) Write(values map[string]string) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name != "" {
			b.WriteString(values[p.name])
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// Read gives the values by the placeholders' names. The text includes its end.
func (t Template) Read(text string) (map[string]string, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("text of %d bytes: want %d at most", len(text), MaxText)
	}
	if t.whole == nil {
		return nil, errors.New("text: no template to read it by")
	}
	found := t.whole.FindStringSubmatch(text)
	if found == nil {
		return nil, errors.New("the text does not fit the template")
	}
	values := make(map[string]string, len(found))
	for i, name := range t.whole.SubexpNames() {
		if name != "" {
			values[name] = found[i]
		}
	}
	return values, nil
}
