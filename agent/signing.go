package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/evidence"
)

// The key's files stand in the spool directory, beside the agent's identity: who
// signs is as much the disk's as who records.
const (
	signingKeyFile = "signing-key.pem"
	// oldSigningKeyFile is the key before, until it has endorsed the present one
	// in the stream.
	oldSigningKeyFile = "signing-key.old.pem"
	// signingReasonFile says why there is a new key, until the stream says it.
	signingReasonFile = "signing-key.reason"
	// maxKeyFile bounds what is read of each, in bytes.
	maxKeyFile = 4 << 10
	pemType    = "PRIVATE KEY"
)

// Signer signs an agent's checkpoints with the Ed25519 key of its spool
// directory. Its methods are for one goroutine at a time.
type Signer struct {
	dir    string
	key    ed25519.PrivateKey
	old    ed25519.PrivateKey // endorses key; nil if there is none
	reason string             // why the stream must be told of key; "" if it was
}

// OpenSigner reads the key, or makes one. A damaged key must not keep the lane
// unobserved: it is moved aside, and the new one is told as lost. It fails when
// the disk does not take a new key or the file may not be read, and can be tried
// again.
func OpenSigner(dir string) (*Signer, error) {
	s := &Signer{dir: dir}
	reason, err := readBounded(filepath.Join(dir, signingReasonFile), maxKeyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read why there is a new signing key: %w", err)
	}
	s.reason = strings.TrimSpace(string(reason))
	oldPath, path := filepath.Join(dir, oldSigningKeyFile), filepath.Join(dir, signingKeyFile)
	if s.old, err = readKey(oldPath); errors.Is(err, errDamagedKey) {
		err = s.setAside(oldPath)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.key, err = readKey(path)
	switch {
	case err == nil && s.old != nil:
		s.reason = evidence.ReasonRotated
		return s, nil
	case err == nil:
		return s, nil
	case errors.Is(err, errDamagedKey):
		if err = s.setAside(path); s.old != nil {
			s.reason = evidence.ReasonRotated // the damaged one was not told yet
		}
	case !errors.Is(err, fs.ErrNotExist):
	case s.old != nil: // a power cut in the middle of RotateSigningKey
		err = s.because(evidence.ReasonRotated)
	case s.reason == "":
		err = s.because(evidence.ReasonFirst)
	default: // a power cut in the middle of this function
		err = nil
	}
	if err != nil {
		return nil, err
	}
	text, key, err := newKey()
	if err != nil {
		return nil, err
	}
	s.key = key
	if err := writeKeyFile(path, text, dir); err != nil {
		return nil, err
	}
	return s, nil
}

// because notes why there is a new key, before there is one.
func (s *Signer) because(reason string) error {
	s.reason = reason
	return writeKeyFile(filepath.Join(s.dir, signingReasonFile), []byte(reason+"\n"), s.dir)
}

// setAside moves a damaged key out of the way, for a person to look at.
func (s *Signer) setAside(path string) error {
	if err := s.because(evidence.ReasonLost); err != nil {
		return err
	}
	if err := os.Rename(path, path+".damaged"); err != nil {
		return fmt.Errorf("move the damaged signing key %s aside: %w", path, err)
	}
	return nil
}

// Announcement makes the event that tells the stream of the key. due is false if
// it was told already. Once it is recorded, call Announced.
func (s *Signer) Announcement(agent string, now time.Time) (d event.AgentKey, due bool, err error) {
	if s.reason == "" {
		return event.AgentKey{}, false, nil
	}
	public, err := s.PublicKey()
	if err != nil {
		return event.AgentKey{}, false, err
	}
	d, err = evidence.Key{Agent: agent, Time: event.At(now), PublicKey: public}.Event(s.reason, s.old)
	return d, err == nil, err
}

// Announced notes that the announcement is on disk, and deletes the old key. If
// it fails, the next start tells of the key once more.
func (s *Signer) Announced() error {
	s.reason, s.old = "", nil
	for _, name := range []string{oldSigningKeyFile, signingReasonFile} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the signing key is told: %w", err)
		}
	}
	if err := syncDir(s.dir); err != nil {
		return fmt.Errorf("the signing key is told: %w", err)
	}
	return nil
}

// PublicKey is the key that verifies the checkpoints.
func (s *Signer) PublicKey() (ed25519.PublicKey, error) { return publicKey(s.key) }

// Checkpoint signs a checkpoint.
func (s *Signer) Checkpoint(c evidence.Checkpoint) (event.AgentCheckpoint, error) {
	return c.Sign(s.key)
}

// SigningKey reads the public key of a spool directory and changes nothing.
// rotating says that the agent has not taken it up yet.
func SigningKey(dir string) (public ed25519.PublicKey, rotating bool, err error) {
	key, err := readKey(filepath.Join(dir, signingKeyFile))
	if err != nil {
		return nil, false, err
	}
	if _, err := os.Stat(filepath.Join(dir, oldSigningKeyFile)); err == nil {
		rotating = true
	}
	public, err = publicKey(key)
	return public, rotating, err
}

// RotateSigningKey puts a new key into a spool directory. The old one stays until
// the agent has endorsed the new one with it, at its next start or reload.
func RotateSigningKey(dir string) (public ed25519.PublicKey, err error) {
	path, oldPath := filepath.Join(dir, signingKeyFile), filepath.Join(dir, oldSigningKeyFile)
	if _, rotating, err := SigningKey(dir); err != nil {
		return nil, err
	} else if rotating {
		return nil, fmt.Errorf("%s is still there: the agent has not taken up the last new key; start it or reload its configuration first", oldPath)
	}
	text, key, err := newKey()
	if err != nil {
		return nil, err
	}
	if public, err = publicKey(key); err != nil {
		return nil, err
	}
	if err := os.Rename(path, oldPath); err != nil {
		return nil, fmt.Errorf("keep the old signing key: %w", err)
	}
	if err := writeKeyFile(path, text, oldPath); err != nil {
		return nil, errors.Join(err, os.Rename(oldPath, path)) // the old key goes on
	}
	return public, nil
}

// errDamagedKey says that a key file holds no key that can be used.
var errDamagedKey = errors.New("the signing key is damaged")

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := readBounded(path, maxKeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read the signing key: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errDamagedKey, err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%w: %s is not one %s block in PEM", errDamagedKey, path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamagedKey, path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: the key in %s is no Ed25519 key", errDamagedKey, path)
	}
	return key, nil
}

// readBounded reads a file of at most so many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, nil
}

func newKey() (text []byte, key ed25519.PrivateKey, err error) {
	if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), key, nil
}

func publicKey(key ed25519.PrivateKey) (ed25519.PublicKey, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the signing key has no public key")
	}
	return public, nil
}

// writeKeyFile writes a file that only the agent may read, so that a power cut
// leaves all of it or nothing. It belongs to whom like belongs: a key that root
// makes is for the agent to read.
func writeKeyFile(path string, text []byte, like string) error {
	next := path + ".new"
	err := writeNew(next, text, like)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(next) // already failing; the next attempt writes it anew
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeNew(path string, text []byte, like string) error {
	// What a power cut left may have other rights.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	_, writeErr := f.Write(text)
	return errors.Join(err, writeErr, f.Sync(), f.Close())
}
