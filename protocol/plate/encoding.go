package plate

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// codePages are the encodings that readers sent before UTF-8, by the names for
// settings.
var codePages = map[string]encoding.Encoding{
	"windows-1251": charmap.Windows1251,
	"windows-1253": charmap.Windows1253,
	"iso-8859-2":   charmap.ISO8859_2,
	"gbk":          simplifiedchinese.GBK,
}

// CodePages lists what Decode takes for a code page.
func CodePages() []string { return slices.Sorted(maps.Keys(codePages)) }

// Decode reads the bytes of a text. UTF-8 stays as it is. Other bytes are read
// by the legacy code page, one of CodePages, or empty for none. lossy is true if
// that failed too; each byte that could not be read is then U+FFFD. It fails for
// a code page that it does not know.
func Decode(raw []byte, codePage string) (text string, lossy bool, err error) {
	legacy, known := codePages[codePage]
	if !known && codePage != "" {
		return "", false, fmt.Errorf("decode a plate: no code page %q: want one of %s", codePage, strings.Join(CodePages(), ", "))
	}
	if utf8.Valid(raw) {
		return string(raw), false, nil
	}
	if known {
		b, err := legacy.NewDecoder().Bytes(raw)
		if err == nil && !bytes.ContainsRune(b, utf8.RuneError) {
			return string(b), false, nil
		}
	}
	var b strings.Builder
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		b.WriteRune(r)
		raw = raw[n:]
	}
	return b.String(), true, nil
}
