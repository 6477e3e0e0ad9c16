package plate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"unicode/utf8"
)

// Mask makes a plate presentable where it must not be read: the first and the
// last character with three asterisks between, however many there were, and
// only the asterisks for a plate of fewer than five characters.
func Mask(text string) string {
	const hidden = "***"
	s := Clean(text)
	if utf8.RuneCountInString(s) < 5 {
		return hidden
	}
	_, first := utf8.DecodeRuneInString(s)
	_, last := utf8.DecodeLastRuneInString(s)
	return s[:first] + hidden + s[len(s)-last:]
}

// MinPseudonymKey is the least length of a key for Pseudonym, in bytes.
const MinPseudonymKey = 32

// Pseudonym lets a receiver recognise a plate that it has met before without
// learning it: HMAC-SHA-256 under key of the UTF-8 bytes of the match key, and
// of nothing else, in lower-case hexadecimal. Who has the same key can compute
// it for the plates of a list, and by trying can find the plate of any
// pseudonym, for there are few plates; so the key must not go to the receivers.
//
// It is empty without a match key. It fails for a key below MinPseudonymKey.
func Pseudonym(key []byte, matchKey string) (string, error) {
	if len(key) < MinPseudonymKey {
		return "", fmt.Errorf("pseudonym of a plate: the key has %d bytes: want %d at least", len(key), MinPseudonymKey)
	}
	if matchKey == "" {
		return "", nil
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(matchKey))
	return hex.EncodeToString(mac.Sum(nil)), nil
}
