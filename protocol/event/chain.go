package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256.
//
// The events of one agent and class form a hash chain. With E(n) the event of
// sequence n in its public form, as bytes:
//
//	D(n) = SHA-256(E(n))             the event's digest
//	C(n) = SHA-256(C(n-1) || D(n))   the chain's value after it
//
// Event n carries C(n-1) as its attribute prevhash, 64 zeros where there is no
// predecessor or the agent does not know it any more. So each event fixes all
// before it, and who holds the digests of events that were not meant for him can
// follow the chain over them.
//
// The public form of an event is the event itself, unless its data ends with a
// member "private", an object with what is personal and a random salt. In the
// public form "sha256:" and the hexadecimal SHA-256 of that object's bytes stand
// in the object's place. An uplink that redacts sends the public form, so its
// receiver verifies the same chain, and learns nothing of what was taken out.
type Hash [sha256.Size]byte

// String is the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero says that it is no hash of anything.
func (h Hash) IsZero() bool { return h == Hash{} }

// ParseHash reads what String wrote.
func ParseHash(s string) (h Hash, err error) {
	if len(s) != hex.EncodedLen(len(h)) {
		return h, fmt.Errorf("hash of %d characters: want 64 hexadecimal digits", len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash: %w", err)
	}
	return h, nil
}

// Neither of these texts can stand within a JSON string, where quotes have
// backslashes before them.
const (
	privateMember  = `"private":{`
	prevHashMember = `,"prevhash":"`
)

// private finds the private object of an encoded event: text[from:to].
func private(text []byte) (from, to int, ok bool) {
	at := bytes.Index(text, []byte(privateMember))
	if at < 0 || !bytes.HasSuffix(text, []byte("}}}")) {
		return 0, 0, false
	}
	return at + len(privateMember) - 1, len(text) - len("}}"), true
}

// Redact gives the public form of an encoded event, which is text itself if it
// has nothing private.
func Redact(text []byte) []byte {
	from, to, ok := private(text)
	if !ok {
		return text
	}
	sum := Hash(sha256.Sum256(text[from:to]))
	b := make([]byte, 0, len(text))
	b = append(b, text[:from]...)
	b = append(b, `"sha256:`...)
	b = append(b, sum.String()...)
	b = append(b, '"')
	return append(b, text[to:]...)
}

// Digest is D of an encoded event, in full or in its public form.
func Digest(text []byte) Hash { return sha256.Sum256(Redact(text)) }

// Link is C after an event: the hash of C before it and its digest.
func Link(previous, digest Hash) Hash {
	var both [2 * sha256.Size]byte
	copy(both[:], previous[:])
	copy(both[sha256.Size:], digest[:])
	return sha256.Sum256(both[:])
}

// After is the chain's value after an encoded event, computed from the event
// alone. An event without prevhash counts as the first of a chain.
func After(text []byte) Hash {
	public := Redact(text)
	previous, _ := PrevHash(public)
	return Link(previous, sha256.Sum256(public))
}

// PrevHash reads the chain's value before an encoded event. ok is false if the
// event carries none.
func PrevHash(text []byte) (h Hash, ok bool) {
	at := bytes.Index(text, []byte(prevHashMember))
	if at < 0 {
		return h, false
	}
	digits := text[at+len(prevHashMember):]
	if len(digits) < prevHashDigits {
		return h, false
	}
	h, err := ParseHash(string(digits[:prevHashDigits]))
	return h, err == nil
}

// prevHashDigits is the width of a hash in an event.
const prevHashDigits = 2 * sha256.Size
