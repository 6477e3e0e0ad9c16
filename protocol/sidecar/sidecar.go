// Package sidecar is what the files say that scanners write beside their pictures, in one
// form for all of them, and reads those that are described by settings. It does no I/O.
//
// Cargo X-ray systems are, by all public evidence, droppers of files: a folder for each
// scan, pictures, and a document beside them. Two dialects of it are known by files
// (packages cargovision and manifest); of others only the names of single elements are,
// so what they are called is a setting and nothing is guessed here.
package sidecar

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/lanepost/lanepost/protocol/document"
)

// MaxDocument bounds a sidecar in bytes.
const MaxDocument = 2 << 20

// Bounds of what is taken from one.
const (
	MaxFiles      = 200
	MaxAnalyses   = 64
	MaxContainers = 16
	MaxPlates     = 8
)

// Scan is one scan, in the scanner's words.
type Scan struct {
	ID                     string
	System, Site, Software string
	// Training, Reference and Test: it is none of an inspection.
	Training, Reference, Test bool
	// Start and End are by the scanner's clock; zero if not told. Zoned is false if the
	// scanner does not say in which zone, and they are as if in UTC.
	Start, End time.Time
	Zoned      bool
	// Suspicious, Inspected and Raw are what the scanner says of the outcome as a whole.
	// Clear: the dialect itself defines that this means that somebody has looked and found
	// nothing. Raw alone never does: it may be any word.
	Suspicious, Inspected, Clear bool
	Raw                          string
	// Codes are those that each site gives a meaning of its own, by the scanner's name for
	// them; nil if it has none.
	Codes      map[string]string
	Analyses   []Analysis
	Plates     []Plate
	Containers []Container
	Files      []File
}

// Analysis is one look at the scan.
type Analysis struct {
	// Machine is true for an automatic one.
	Machine bool
	Name    string
	// Failed: there is no result. Result is what it says, Text what stands beside.
	Failed       bool
	Result, Text string
	Start, End   time.Time
}

// Plate is a number plate. Confidence is from 0 to 100; empty or below zero for none.
type Plate struct {
	Trailer          bool
	Text, Confidence string
}

// Container is a container number.
type Container struct {
	Position         int
	Text, Confidence string
}

// File is a file that the sidecar names, by a bare name.
type File struct {
	Name string
	// Role is one of the roles of event.XrayFile.
	Role    string
	Deleted bool
}

// Decode gives a document as UTF-8: by its byte order mark, and where it is no UTF-8 by
// the code page that is configured.
func Decode(b []byte, codePage string) ([]byte, error) {
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		d := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
		return d.NewDecoder().Bytes(b)
	case bytes.HasPrefix(b, []byte{0xef, 0xbb, 0xbf}):
		b = b[3:]
	}
	if utf8.Valid(b) {
		return b, nil
	}
	legacy := map[string]encoding.Encoding{"windows-1252": charmap.Windows1252, "windows-1251": charmap.Windows1251, "gbk": simplifiedchinese.GBK}[codePage]
	if legacy == nil {
		return nil, fmt.Errorf("the document is neither UTF-8 nor UTF-16; set code_page to one of %s", strings.Join(CodePages(), ", "))
	}
	return legacy.NewDecoder().Bytes(b)
}

// CodePages lists the code pages that Decode knows.
func CodePages() []string { return []string{"windows-1252", "windows-1251", "gbk"} }

// firstYear and lastYear bound what is taken for a time: others are of a clock that was
// never set, or mean "never".
const firstYear, lastYear = 2000, 2199

// ParseTime reads a time of a layout in which the zone may be missing: then it is as if in
// UTC and zoned is false.
func ParseTime(text string, layouts ...string) (at time.Time, zoned, ok bool) {
	text = strings.TrimSpace(text)
	for _, layout := range layouts {
		t, err := time.Parse(layout, text)
		if err != nil || t.Year() < firstYear || t.Year() > lastYear {
			continue
		}
		zoned := strings.ContainsAny(layout, "Z") || strings.Contains(layout, "-07") || strings.Contains(layout, "MST")
		return t, zoned, true
	}
	return time.Time{}, false, false
}

// XMLTimes are the layouts of XML Schema.
func XMLTimes() []string {
	return []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05"}
}

// parse reads the one document of a file.
func parse(b []byte, codePage string) (*document.Node, error) {
	text, err := Decode(b, codePage)
	if err != nil {
		return nil, err
	}
	return document.ParseOne(text, MaxDocument)
}

// Parse reads the document of a file and checks its name, which is empty for JSON.
func Parse(b []byte, codePage, root string) (*document.Node, error) {
	n, err := parse(b, codePage)
	if err != nil {
		return nil, err
	}
	if n.Name != root {
		return nil, fmt.Errorf("<%s>, and no <%s>", n.Name, root)
	}
	return n, nil
}

// Bare reports whether a name is that of a file in the same folder, and nothing that
// leads elsewhere.
func Bare(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\\:\x00") && utf8.ValidString(name)
}

// True reads a word for yes.
func True(word string, yes ...string) bool {
	for _, y := range yes {
		if strings.EqualFold(strings.TrimSpace(word), y) {
			return true
		}
	}
	return false
}
