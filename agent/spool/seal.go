package spool

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Encryption at rest. A sealed frame has flagSealed in its header, and in its
// extension what is needed to open it:
//
//	40  8  key id
//	48 24  nonce, random
//	72     topic and payload, encrypted, of the lengths that the header gives
//	       tag of 16 bytes
//	       CRC of the whole frame before
//
// The cipher is XChaCha20-Poly1305. AES would be slow on the armv7 boxes, which
// have no instructions for it, and its tables leak through the cache there. The
// header is authenticated with the content, so a record can't be given another
// class, number or time. The CRC stays: it tells damage from a missing key, and
// lets everything that passes over frames work without one.
//
// No nonce may serve twice under a key. A counter would have to survive kills,
// file systems that are rolled back to an older state, disks that are cloned, and
// failed writes of which the disk may have kept anything. So there is none: each
// frame gets 192 random bits when it is encoded, and another 192 when the same
// record is encoded again. That two of n frames ever share a nonce has a
// probability below n²/2¹⁹³: with a thousand events a second for a hundred years
// (n < 2⁴²) less than 2⁻¹⁰⁹. A batch that is written once more into a new segment
// is the same bytes, which tells nothing new.
const (
	flagSealed    = 1
	sealExtension = len(KeyID{}) + chacha20poly1305.NonceSizeX
	sealTag       = chacha20poly1305.Overhead

	// maxKeyFile and maxKeys bound a key file.
	maxKeyFile = 16 << 10
	maxKeys    = 32
)

// KeyID names a key without giving anything of it away.
type KeyID [8]byte

// String is the id as 16 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// KeyError says that a record is sealed with a key that is not there. The record
// is neither damaged nor lost: it can be read again once the key is.
type KeyError struct {
	// Key is the key that is needed.
	Key KeyID
	// NoKeys says that there are no keys at all.
	NoKeys bool
}

// Error implements error.
func (e *KeyError) Error() string {
	if e.NoKeys {
		return fmt.Sprintf("the record is sealed with key %s and no key file is given: name the key file that holds it; nothing is lost meanwhile", e.Key)
	}
	return fmt.Sprintf("the record is sealed with key %s, which is not in the key file: add that key as a further line; nothing is lost meanwhile", e.Key)
}

// errSeal says that a frame is whole and not what was written with its key.
var errSeal = errors.New("the record was altered after it was sealed")

// Keyring holds the keys that records on disk are sealed with: one for new
// records, and older ones that only open. Nothing prints a key.
type Keyring struct {
	keys []sealKey // the first one seals
}

type sealKey struct {
	id   KeyID
	aead cipher.AEAD
}

const makeKey = "(umask 077; head -c 32 /dev/urandom | base64 > FILE) makes one"

// ReadKeyring reads a key file: 32 random bytes a line, in base64 or as 64
// hexadecimal digits. The first key is for new records, further ones open what
// was sealed before: a key is replaced by writing a new line above it. Empty
// lines and lines that begin with # are passed over.
//
// The file must be its owner's alone (mode 0600 or 0400). Group access is let
// pass in the directory in which systemd gives a service its credentials, where
// it stands for an access list that names the service's user.
func ReadKeyring(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	others := os.FileMode(0o077)
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(filepath.Clean(path)) == filepath.Clean(dir) {
		others = 0o037
	}
	if mode := info.Mode().Perm(); mode&others != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o, so others than its owner can get at the keys: chmod 0600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	k, err := ParseKeyring(text)
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// ParseKeyring reads the content of a key file. Its errors name lines, and
// nothing that stands in them.
func ParseKeyring(text []byte) (*Keyring, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("more than %d bytes: want one key a line, %d at most", maxKeyFile, maxKeys)
	}
	k := &Keyring{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if len(k.keys) == maxKeys {
			return nil, fmt.Errorf("line %d: more than %d keys: take out those that nothing is sealed with any more", number, maxKeys)
		}
		key, ok := decodeKey(line)
		if !ok {
			return nil, fmt.Errorf("line %d is no key: want 32 random bytes in base64 (44 characters) or as 64 hexadecimal digits; %s", number, makeKey)
		}
		if allZero(key) {
			return nil, fmt.Errorf("line %d is all zeros, which is no secret; %s", number, makeKey)
		}
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		id := keyID(key)
		clear(key)
		k.keys = append(k.keys, sealKey{id, aead})
	}
	if len(k.keys) == 0 {
		return nil, errors.New("no key in it; " + makeKey)
	}
	return k, nil
}

func decodeKey(line []byte) ([]byte, bool) {
	key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	var n int
	var err error
	if len(line) == 2*chacha20poly1305.KeySize {
		n, err = hex.Decode(key, line)
	} else {
		n, err = base64.StdEncoding.Decode(key, line)
	}
	return key[:n], err == nil && n == chacha20poly1305.KeySize
}

func keyID(key []byte) (id KeyID) {
	sum := sha256.Sum256(append([]byte("lanepost spool key id\x00"), key...))
	copy(id[:], sum[:])
	return id
}

// Keys returns the ids of the keys, that for new records first.
func (k *Keyring) Keys() []KeyID {
	if k == nil {
		return nil
	}
	ids := make([]KeyID, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id
	}
	return ids
}

// Format prints the ids of the keys, whatever the verb.
func (k *Keyring) Format(w fmt.State, _ rune) {
	_, _ = fmt.Fprintf(w, "keys %s", k.Keys()) // fmt has nowhere to report to
}

// appendFrame appends a frame, sealed if there are keys.
func (k *Keyring) appendFrame(b []byte, class byte, seq uint64, recorded time.Time, topic string, payload []byte) []byte {
	if k == nil {
		return appendFrame(b, class, seq, recorded, topic, payload)
	}
	at := len(b)
	b = appendFrameHeader(b, class, flagSealed, sealExtension, seq, recorded, len(topic), len(payload))
	b = append(b, k.keys[0].id[:]...)
	nonceAt := len(b)
	b = append(b, make([]byte, chacha20poly1305.NonceSizeX)...)
	_, _ = rand.Read(b[nonceAt:]) // ends the program rather than fail
	plainAt := len(b)
	b = append(b, topic...)
	b = append(b, payload...)
	b = k.keys[0].aead.Seal(b[:plainAt], b[nonceAt:plainAt], b[plainAt:], b[at:at+frameHeader])
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

// open gives a frame its topic and payload, which are a sealed frame's own
// memory then. The errors are *KeyError and errSeal.
func (k *Keyring) open(f *frame) error {
	if f.sealed == nil || f.payload != nil {
		return nil
	}
	const nonceAt = frameHeader + len(KeyID{})
	id := KeyID(f.sealed[frameHeader:nonceAt])
	if k == nil {
		return &KeyError{Key: id, NoKeys: true}
	}
	for _, key := range k.keys {
		if key.id != id {
			continue
		}
		nonce := f.sealed[nonceAt : frameHeader+sealExtension]
		secret := f.sealed[frameHeader+sealExtension : f.size-frameTrailer]
		plain, err := key.aead.Open(make([]byte, 0, len(secret)), nonce, secret, f.sealed[:frameHeader])
		if err != nil {
			return errSeal
		}
		n := int(binary.LittleEndian.Uint16(f.sealed[6:]))
		f.topic, f.payload = plain[:n:n], plain[n:]
		return nil
	}
	return &KeyError{Key: id}
}

// content is the length of topic and payload, whether the frame is open or not.
func (f *frame) content() int {
	if f.sealed != nil {
		return f.size - frameMin - sealExtension - sealTag
	}
	return len(f.topic) + len(f.payload)
}

// SetKeys replaces the keys of an open spool, which must have been opened with
// some: from the next record on the new ones seal, and what waited for a key can
// be read if it is among them.
func (s *Spool) SetKeys(k *Keyring) error {
	if (k == nil) != (s.keys.Load() == nil) {
		return fmt.Errorf("spool %s: encryption is switched on and off at the next start, not while the spool is open", s.dir)
	}
	s.keys.Store(k)
	return nil
}
