package dicos

import (
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// charsets are the values of SpecificCharacterSet (0008,0005) that are read, by DICOM PS3.3
// C.12.1.1.2. Those that switch between sets within a text, for Japanese and Korean, are not:
// their tables are larger than everything else here.
var charsets = map[string]encoding.Encoding{
	"ISO_IR 6": charmap.ISO8859_1, "ISO_IR 100": charmap.ISO8859_1, "ISO_IR 101": charmap.ISO8859_2, "ISO_IR 109": charmap.ISO8859_3,
	"ISO_IR 110": charmap.ISO8859_4, "ISO_IR 126": charmap.ISO8859_7, "ISO_IR 127": charmap.ISO8859_6, "ISO_IR 138": charmap.ISO8859_8,
	"ISO_IR 144": charmap.ISO8859_5, "ISO_IR 148": charmap.ISO8859_9, "ISO_IR 166": charmap.Windows874, "ISO_IR 192": unicode.UTF8,
	"GB18030": simplifiedchinese.GB18030, "GBK": simplifiedchinese.GBK,
}

// decoderOf reads texts as the values of SpecificCharacterSet say; nil for UTF-8, as which
// is read what is not known.
func decoderOf(names []string) *encoding.Decoder {
	if len(names) == 0 || charsets[names[0]] == nil {
		return nil
	}
	// With several, the others are only reached by escape sequences.
	return charsets[names[0]].NewDecoder()
}
