package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// markedWidth is how many columns of a message are shown, and markedBefore how many of them
// before the place that is marked.
const (
	markedWidth  = 100
	markedBefore = 60
)

// controls are the names of the control characters that instruments send.
var controls = [...]string{
	"NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI",
	"DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
}

// visible is a character as it can be shown: nothing of a device reaches a terminal that could
// steer it, or hide what stands beside it.
func visible(r rune, size int, first byte) string {
	switch {
	case r == utf8.RuneError && size == 1:
		return fmt.Sprintf("<%02X>", first)
	case r >= 0 && int(r) < len(controls):
		return "<" + controls[r] + ">"
	case r == 0x7f:
		return "<DEL>"
	case !unicode.IsPrint(r):
		return fmt.Sprintf("<U+%04X>", r)
	}
	return string(r)
}

// safe makes a text of outside safe to print; its line ends stay.
func safe(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '\n' {
			b.WriteByte('\n')
		} else {
			b.WriteString(visible(r, size, s[i]))
		}
		i += size
	}
	return b.String()
}

// clean makes a text safe for a terminal, on one line.
func clean(s string) string {
	var b strings.Builder
	for _, field := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' }) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(safe(field))
	}
	return b.String()
}

// wide has the ranges of characters that take two columns of a terminal: Chinese, Japanese and
// Korean.
var wide = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, {Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
	{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, {Lo: 0xff00, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
}, R32: []unicode.Range32{{Lo: 0x20000, Hi: 0x3fffd, Stride: 1}}}

func columns(s string) (n int) {
	for _, r := range s {
		switch {
		case unicode.Is(wide, r):
			n += 2
		case unicode.Is(unicode.Mn, r):
		default:
			n++
		}
	}
	return n
}

// marked shows a message on one line, and a line with carets under its bytes from and to; none
// if from is below zero. Of a long one it shows what is around.
func marked(s string, from, to int) (text, carets string) {
	type cell struct {
		text string
		at   int
	}
	// What is far from the mark is not looked at.
	begin := 0
	if from > 8*markedWidth {
		for begin = from - 8*markedWidth; begin < len(s) && !utf8.RuneStart(s[begin]); begin++ {
		}
	}
	end := min(len(s), max(from, begin)+8*markedWidth)
	var cells []cell
	for i := begin; i < end; {
		r, size := utf8.DecodeRuneInString(s[i:])
		cells = append(cells, cell{visible(r, size, s[i]), i})
		i += size
	}
	at := slices.IndexFunc(cells, func(c cell) bool { return c.at >= from })
	if from < 0 {
		at = 0
	} else if at < 0 {
		at = len(cells)
	}
	first := at
	for width := 0; first > 0 && width < markedBefore; first-- {
		width += columns(cells[first-1].text)
	}
	var b strings.Builder
	if first > 0 || begin > 0 {
		b.WriteString("... ")
	}
	width, left, length := columns(b.String()), 0, 0
	for i, c := range cells[first:] {
		if width > markedWidth+4 {
			b.WriteString(" ...")
			break
		}
		w := columns(c.text)
		switch {
		case first+i < at:
			left = width + w
		case first+i == at:
			left = width
			fallthrough
		default:
			if c.at < to {
				length += w
			}
		}
		b.WriteString(c.text)
		width += w
	}
	if at == len(cells) {
		left = width
	}
	if from < 0 {
		return b.String(), ""
	}
	return b.String(), strings.Repeat(" ", left) + strings.Repeat("^", max(1, length))
}

// onTerminal reports whether a file is a terminal, at which somebody sits. What is no file is
// none.
func onTerminal(file any) bool {
	f, ok := file.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
