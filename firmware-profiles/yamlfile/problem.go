package yamlfile

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lanepost/lanepost/protocol/order"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int // from 1, in characters; 0 if it is not about one place
	Text         string
	// Snippet is the offending line, without what may be a secret; Hint says
	// what to do. Either may be empty.
	Snippet, Hint string

	caret int // where in Snippet the place is, in characters from 0
}

// String is what a person reads: the place and the text, the line with a caret
// under the place, and the hint.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.File != "" {
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	if p.Snippet != "" {
		fmt.Fprintf(&b, "\n    %s\n    %s^", p.Snippet, strings.Repeat(" ", p.caret))
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "\n    hint: %s", p.Hint)
	}
	return b.String()
}

// Problems is everything that is wrong, in the order of the file. As an error it
// reads as one block for each problem.
type Problems []Problem

func (p Problems) Error() string {
	list := make([]string, 0, len(p))
	for _, one := range p {
		list = append(list, one.String())
	}
	return strings.Join(list, "\n")
}

// sorted is the order to tell them in: those of the file first, by place.
func (p Problems) sorted(file string) Problems {
	other := func(one Problem) int {
		if one.File == file {
			return 0
		}
		return 1
	}
	p = slices.Clone(p)
	order.Stable(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(other(a), other(b)), cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return p
}

// problem makes a problem of a place, with the line for people to see.
func (d *Document) problem(line, column int, text, hint string) Problem {
	p := Problem{File: d.file, Line: line, Column: column, Text: text, Hint: hint}
	if line > 0 && line <= len(d.lines) && !d.insideSecret(line) {
		p.Snippet, p.caret = snippet(d.lines[line-1], column)
	}
	return p
}

// snippet is a line as it can be shown, and where in it the column is.
func snippet(line string, column int) (string, int) {
	at := 0 // in bytes
	for range max(0, column-1) {
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
	}
	line, at = redact(strings.TrimRight(line, " \t\r"), at)
	caret := utf8.RuneCountInString(line[:min(at, len(line))])
	shown := []rune(line)
	for i, r := range shown {
		switch {
		case r == '\t':
			shown[i] = ' '
		case !unicode.IsPrint(r):
			shown[i] = '?'
		}
	}
	const before, after = "... ", " ..."
	if skip := caret - maxSnippet + 20; skip > 0 {
		shown, caret = append([]rune(before), shown[skip:]...), caret-skip+len(before)
	}
	if len(shown) > maxSnippet {
		shown = append(shown[:maxSnippet:maxSnippet], []rune(after)...)
	}
	return string(shown), caret
}

// What a line may hold that must not stand in a log: the value of a key that
// speaks of a password, even a misspelt one, and a login in a URL.
var (
	secretKey   = regexp.MustCompile(`(?i)[\w-]*(?:pass|pasw|pwd|secret|token|credential)[\w-]*["']?\s*:`)
	secretValue = regexp.MustCompile(secretKey.String() + `\s*([^\s,}][^,}]*)`)
	secretFile  = regexp.MustCompile(`(?i)_file["']?\s*:`)
	secretEnv   = regexp.MustCompile(`(?i:_env)["']?\s*:\s*["']?[A-Z_][A-Z0-9_]*["']?\s*$`)
	urlLogin    = regexp.MustCompile(`([^\s"'/\[,]+)@`)
	// badLogin and badQuoted are those whose password holds what must be escaped in a URL.
	badLogin  = regexp.MustCompile(`//(\S+)@`)
	badQuoted = regexp.MustCompile(`//([^"]+)@`)
)

// redact takes secrets out of a line, and moves at, a place in it, along.
func redact(line string, at int) (string, int) {
	for _, pattern := range []*regexp.Regexp{secretValue, badLogin, badQuoted, urlLogin} {
		const stars = "***"
		var b strings.Builder
		last, moved := 0, at
		for _, m := range pattern.FindAllStringSubmatchIndex(line, -1) {
			whole, from, to := line[m[0]:m[1]], m[2], m[3]
			if pattern == secretValue && (secretFile.MatchString(whole) || secretEnv.MatchString(whole)) {
				continue // names the place of a secret, and is none
			}
			b.WriteString(line[last:from])
			if at > from && at < to {
				moved = b.Len()
			} else if at >= to {
				moved += len(stars) - (to - from)
			}
			b.WriteString(stars)
			last = to
		}
		b.WriteString(line[last:])
		line, at = b.String(), moved
	}
	return line, at
}

// insideSecret reports whether a line continues the value of a key that speaks
// of a password: a block of text or a list under it.
func (d *Document) insideSecret(line int) bool {
	least := indentation(d.lines[line-1])
	for i := line - 2; i >= 0 && least > 0; i-- {
		l := d.lines[i]
		if n := indentation(l); strings.TrimSpace(l) != "" && n < least {
			least = n
			if m := secretKey.FindString(l); m != "" && !secretFile.MatchString(m) {
				return true
			}
		}
	}
	return false
}

func indentation(l string) int { return len(l) - len(strings.TrimLeft(l, " \t")) }
