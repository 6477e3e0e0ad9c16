package multipart

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Style says how a stream is written. The zero value is the standard's way with a
// Content-Length.
type Style struct {
	// Boundary stands after the two dashes of each delimiter.
	Boundary string
	// LF ends lines without CR.
	LF bool
	// NoLength leaves the Content-Length out; OffBy is added to it.
	NoLength bool
	OffBy    int
	// Fold breaks each Content-Disposition over two lines.
	Fold bool
	// NoBlank leaves out the blank line between header and body.
	NoBlank bool
}

// Append appends a part to b: its delimiter, header and body, and the line end
// after that. Names of headers are written as they are given, in their order by
// name, before the Content-Length.
func (s Style) Append(b []byte, header map[string]string, body []byte) []byte {
	end := "\r\n"
	if s.LF {
		end = "\n"
	}
	b = append(b, "--"+s.Boundary+end...)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := header[name]
		if s.Fold && name == "Content-Disposition" {
			value = strings.Replace(value, "; ", ";"+end+" ", 1)
		}
		b = append(b, name+": "+value+end...)
	}
	if !s.NoLength {
		b = append(b, "Content-Length: "+strconv.Itoa(max(0, len(body)+s.OffBy))+end...)
	}
	if !s.NoBlank {
		b = append(b, end...)
	}
	b = append(b, body...)
	return append(b, end...)
}

// Close appends the closing delimiter.
func (s Style) Close(b []byte) []byte {
	end := "\r\n"
	if s.LF {
		end = "\n"
	}
	return append(b, "--"+s.Boundary+"--"+end...)
}
