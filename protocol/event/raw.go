package event

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// MaxRaw bounds the raw bytes that one event carries. Of longer ones the head
// is carried, and the hash and the size still cover the whole.
const MaxRaw = 64 << 10

// Raw is what came over the wire, byte for byte.
type Raw struct {
	// Size is the number of bytes that came.
	Size int `json:"size"`
	// SHA256 is the hash of all Size bytes in lower-case hexadecimal.
	SHA256 string `json:"sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Text holds the bytes when they are printable ASCII with line ends.
	Text string `json:"text,omitempty"`
	// Base64 holds the bytes otherwise.
	Base64 string `json:"base64,omitempty" jsonschema_extras:"contentEncoding=base64"`
	// Truncated is true when Text or Base64 holds only the first bytes. Then
	// Size and SHA256 still tell of all that came.
	Truncated bool `json:"truncated,omitempty"`
}

// RawOf makes a Raw of b, carrying at most MaxRaw bytes.
func RawOf(b []byte) Raw {
	sum := sha256.Sum256(b)
	r := Raw{Size: len(b), SHA256: hex.EncodeToString(sum[:])}
	if len(b) > MaxRaw {
		b, r.Truncated = b[:MaxRaw], true
	}
	if printable(b) {
		r.Text = string(b)
	} else {
		r.Base64 = base64.StdEncoding.EncodeToString(b)
	}
	return r
}

func printable(b []byte) bool {
	for _, c := range b {
		if (c < 0x20 || c > 0x7e) && c != '\r' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}
