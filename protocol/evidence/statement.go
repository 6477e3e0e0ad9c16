// Package evidence signs and checks what makes the events of lanepost evidence:
// the agent's signed statements about its hash chains, and what a subscriber has
// stored against them. docs/evidence.md says in words what all this proves.
//
// The package is pure: it does no I/O and reads no clock.
package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of a statement.
const (
	// MaxStatement bounds its size in bytes.
	MaxStatement = 1024
	// MaxName bounds an agent's id in it, in bytes.
	MaxName = 128
)

// ErrSignature says that a signature does not fit what it stands under.
var ErrSignature = errors.New("the signature is wrong")

// The first lines of the two kinds of statement.
const (
	checkpointTitle = "lanepost checkpoint v1"
	keyTitle        = "lanepost key v1"
)

// Head is how far the chain of one class has come.
type Head struct {
	// Sequence is that of the last event; zero if there is none yet.
	Sequence uint64
	// Hash is the chain's value after it; zero if there is none, or the agent can't
	// read its last event any more.
	Hash event.Hash
	// Count is how many events were recorded since the checkpoint before, or
	// since the agent's start.
	Count uint64
}

// Checkpoint is what an agent states about its chains.
type Checkpoint struct {
	Agent string
	Time  event.Time
	// ClockSync is "yes", "no" or "unknown", as in an event.
	ClockSync string
	// ClockMaxErrorMs bounds the clock's error in milliseconds; nil if unknown.
	ClockMaxErrorMs *int64
	Urgent, Routine Head
}

// Text is the statement in words, as it is signed.
func (c Checkpoint) Text() string {
	maxError := "-"
	if c.ClockMaxErrorMs != nil {
		maxError = strconv.FormatInt(*c.ClockMaxErrorMs, 10)
	}
	head := func(h Head) string {
		return fmt.Sprintf("%s %s %d", event.FormatSequence(h.Sequence), h.Hash, h.Count)
	}
	return checkpointTitle + "\nagent " + c.Agent + "\ntime " + c.Time.UTC().Format(event.TimeLayout) +
		"\nclock " + c.ClockSync + " " + maxError +
		"\nurgent " + head(c.Urgent) + "\nroutine " + head(c.Routine) + "\n"
}

// ParseCheckpoint reads a statement. It takes exactly what Text writes.
func ParseCheckpoint(text string) (Checkpoint, error) {
	c, err := parseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return c, nil
}

func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines, err := facts(text, checkpointTitle, "agent", "time", "clock", "urgent", "routine")
	if err != nil {
		return c, err
	}
	c.Agent = lines[0]
	if c.Time, err = parseAgentTime(lines[0], lines[1]); err != nil {
		return c, err
	}
	sync, maxError, _ := strings.Cut(lines[2], " ")
	if sync != "yes" && sync != "no" && sync != "unknown" {
		return c, fmt.Errorf(`clock is %q: want "yes", "no" or "unknown"`, sync)
	}
	c.ClockSync = sync
	if maxError != "-" {
		ms, err := strconv.ParseInt(maxError, 10, 64)
		if err != nil || ms < 0 {
			return c, fmt.Errorf(`the clock's largest error is %q: want milliseconds, or "-"`, maxError)
		}
		c.ClockMaxErrorMs = &ms
	}
	if c.Urgent, err = parseHead(lines[3]); err != nil {
		return c, fmt.Errorf("urgent: %w", err)
	}
	if c.Routine, err = parseHead(lines[4]); err != nil {
		return c, fmt.Errorf("routine: %w", err)
	}
	if c.Text() != text {
		return c, errors.New("a number or the time is not in its one form")
	}
	return c, nil
}

func parseHead(s string) (h Head, err error) {
	parts := strings.Split(s, " ")
	if len(parts) != 3 {
		return h, fmt.Errorf("%d words: want sequence, hash and count", len(parts))
	}
	if h.Sequence, err = event.ParseSequence(parts[0]); err != nil {
		return h, err
	}
	if h.Hash, err = event.ParseHash(parts[1]); err != nil {
		return h, err
	}
	if h.Count, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
		return h, fmt.Errorf("count %q is no number", parts[2])
	}
	switch {
	case h.Count > h.Sequence:
		return h, fmt.Errorf("%d events since the last checkpoint, and only %d were ever recorded", h.Count, h.Sequence)
	case h.Sequence == 0 && !h.Hash.IsZero():
		return h, errors.New("a hash, and nothing was recorded")
	}
	return h, nil
}

// Key is an agent's statement that it signs with a key from now on.
type Key struct {
	Agent     string
	Time      event.Time
	PublicKey ed25519.PublicKey
}

// Text is the statement in words, as it is signed.
func (k Key) Text() string {
	return keyTitle + "\nagent " + k.Agent + "\ntime " + k.Time.UTC().Format(event.TimeLayout) +
		"\npublic " + FormatKey(k.PublicKey) + "\n"
}

// ParseKeyStatement reads a statement. It takes exactly what Text writes.
func ParseKeyStatement(text string) (Key, error) {
	lines, err := facts(text, keyTitle, "agent", "time", "public")
	if err != nil {
		return Key{}, fmt.Errorf("key statement: %w", err)
	}
	k := Key{Agent: lines[0]}
	if k.Time, err = parseAgentTime(lines[0], lines[1]); err == nil {
		k.PublicKey, err = ParseKey(lines[2])
	}
	if err != nil {
		return Key{}, fmt.Errorf("key statement: %w", err)
	}
	if k.Text() != text {
		return Key{}, errors.New("key statement: the time is not in its one form")
	}
	return k, nil
}

// facts splits a statement into what follows each name.
func facts(text, title string, names ...string) ([]string, error) {
	if len(text) > MaxStatement {
		return nil, fmt.Errorf("%d bytes: the most is %d", len(text), MaxStatement)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != len(names)+2 || lines[len(lines)-1] != "" {
		return nil, fmt.Errorf("want %d lines, each ended by a line feed", len(names)+1)
	}
	if lines[0] != title {
		return nil, fmt.Errorf("the first line is not %q", title)
	}
	values := make([]string, len(names))
	for i, name := range names {
		v, ok := strings.CutPrefix(lines[i+1], name+" ")
		if !ok {
			return nil, fmt.Errorf("line %d does not begin with %q", i+2, name)
		}
		values[i] = v
	}
	return values, nil
}

func parseAgentTime(agent, at string) (event.Time, error) {
	for _, c := range []byte(agent) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("-_.~", rune(c)) {
			return event.Time{}, fmt.Errorf("agent %q: want letters, digits and -_.~", agent)
		}
	}
	if agent == "" || len(agent) > MaxName {
		return event.Time{}, fmt.Errorf("the agent's id has %d characters: want 1 to %d", len(agent), MaxName)
	}
	t, err := time.Parse(event.TimeLayout, at)
	if err != nil {
		return event.Time{}, fmt.Errorf("time %q: want it as %s", at, event.TimeLayout)
	}
	return event.At(t), nil
}

// strict takes one spelling of each value only.
var strict = base64.StdEncoding.Strict()

func decode64(s string, size int) ([]byte, error) {
	if len(s) != strict.EncodedLen(size) {
		return nil, fmt.Errorf("%d characters: want %d bytes in base64", len(s), size)
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) != size {
		return nil, fmt.Errorf("%d bytes: want %d", len(b), size)
	}
	return b, nil
}

// ParseKey reads a public key in base64.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := decode64(s, ed25519.PublicKeySize)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return b, nil
}

// FormatKey writes a public key as ParseKey reads it.
func FormatKey(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// Fingerprint is a public key's short name for people to compare: the first half
// of its SHA-256, in groups of four hexadecimal digits.
func Fingerprint(k ed25519.PublicKey) string {
	sum := sha256.Sum256(k)
	var b strings.Builder
	for i := 0; i < len(sum)/2; i += 2 {
		if i > 0 {
			b.WriteByte('-')
		}
		fmt.Fprintf(&b, "%04x", sum[i:i+2])
	}
	return b.String()
}

// Sign makes the event of a checkpoint. It fails for what can't be stated, for
// instance an agent without a name.
func (c Checkpoint) Sign(key ed25519.PrivateKey) (event.AgentCheckpoint, error) {
	text := c.Text()
	if _, err := ParseCheckpoint(text); err != nil {
		return event.AgentCheckpoint{}, fmt.Errorf("sign a %w", err)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return event.AgentCheckpoint{}, errors.New("sign a checkpoint: this is no Ed25519 key")
	}
	return event.AgentCheckpoint{Statement: text, Signature: sign(key, text), PublicKey: FormatKey(public)}, nil
}

// VerifyCheckpoint reads the checkpoint of an event and the key that has signed
// it. Whether that key is the agent's is another question. The error is
// ErrSignature, or says what can't be read.
func VerifyCheckpoint(d event.AgentCheckpoint) (Checkpoint, ed25519.PublicKey, error) {
	key, err := ParseKey(d.PublicKey)
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("checkpoint: %w", err)
	}
	if err := verify(key, d.Statement, d.Signature); err != nil {
		return Checkpoint{}, nil, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(d.Statement)
	return c, key, err
}

// Reasons for a key, see event.AgentKey.
const (
	ReasonFirst   = "first"
	ReasonRotated = "rotated"
	ReasonLost    = "lost"
)

// Event makes the event that tells a key. previous is the key that was in use
// before and endorses it; nil if there is none.
func (k Key) Event(reason string, previous ed25519.PrivateKey) (event.AgentKey, error) {
	text := k.Text()
	if _, err := ParseKeyStatement(text); err != nil {
		return event.AgentKey{}, fmt.Errorf("sign a %w", err)
	}
	d := event.AgentKey{PublicKey: FormatKey(k.PublicKey), Reason: reason, Statement: text}
	if previous != nil {
		public, ok := previous.Public().(ed25519.PublicKey)
		if !ok {
			return event.AgentKey{}, errors.New("endorse a key: the previous one is no Ed25519 key")
		}
		d.PreviousPublicKey, d.Endorsement = FormatKey(public), sign(previous, text)
	}
	return d, nil
}

// VerifyKey reads a key and the key that endorses it, nil if none does. Whether
// that one is the agent's is another question.
func VerifyKey(d event.AgentKey) (k Key, endorsedBy ed25519.PublicKey, err error) {
	if k, err = ParseKeyStatement(d.Statement); err != nil {
		return Key{}, nil, err
	}
	if FormatKey(k.PublicKey) != d.PublicKey {
		return Key{}, nil, errors.New("key statement: it is about another key than the event")
	}
	if d.Endorsement == "" {
		return k, nil, nil
	}
	previous, err := ParseKey(d.PreviousPublicKey)
	if err != nil {
		return Key{}, nil, fmt.Errorf("key statement: previous %w", err)
	}
	if err := verify(previous, d.Statement, d.Endorsement); err != nil {
		return Key{}, nil, fmt.Errorf("key statement: %w", err)
	}
	return k, previous, nil
}

func sign(key ed25519.PrivateKey, text string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

func verify(key ed25519.PublicKey, text, signature string) error {
	b, err := decode64(signature, ed25519.SignatureSize)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if !ed25519.Verify(key, []byte(text), b) {
		return ErrSignature
	}
	return nil
}
