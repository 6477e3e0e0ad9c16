package lane

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/mrz"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// Bounds of a document reader.
const (
	// maxMRZFrame bounds a message, in bytes: three lines and what is around them.
	maxMRZFrame = 512
	// minKey and maxKey bound the site's key, in bytes.
	minKey, maxKey = 32, 4 << 10
	minMRZPause    = 50 * time.Millisecond
	maxMRZPause    = time.Minute
)

// What is kept of a document's number.
const (
	keepHash   = "hash"
	keepMasked = "masked"
)

// MRZ is the driver of readers of the machine-readable zone of travel documents. It is off
// until the settings say that personal data may be read.
func MRZ() drivers.Driver {
	return drivers.Driver{
		Name:    "lane-mrz",
		Summary: "reader of travel documents (MRZ); off unless allow_personal_data says otherwise, and no number or name is kept",
		Schemes: []string{"serial", "tcp"},
		Silence: 24 * time.Hour,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := MRZSettings{
				Keep: keepHash, Format: "lines", Pause: time.Second,
				Checksum: textframe.Checksum{Kind: "xor", Place: "after_end", WithEnd: true},
			}
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newDocumentReader(s)
		},
	}
}

// MRZSettings are the settings of a document reader.
type MRZSettings struct {
	// AllowPersonalData must be true. Without it the device is refused.
	AllowPersonalData bool `yaml:"allow_personal_data"`
	// Keep is "hash", the default: the number of a document is kept as a keyed hash, by which
	// the same document is recognised; or "masked": as its first and last character.
	//
	// A hash without a key would not do: there are so few numbers of documents that whoever
	// has the hash finds the number by trying.
	Keep string `yaml:"keep"`
	// KeyFile is the file with the key of the hash, and KeyEnv the variable of the environment
	// that has it, in place of a file. Who compares documents of several boxes gives all of
	// them the same key.
	KeyFile string `yaml:"key_file"`
	KeyEnv  string `yaml:"key_env"`
	// Format is "lines" for a reader that sends the lines of a zone with CR, LF or both behind
	// each, or "rte6701" for one that sends messages like the 3M RTE6701.
	Format string `yaml:"format"`
	// Checksum is the byte behind the ETX of rte6701. Its rule is not published: the exclusive
	// or of everything behind SOH up to ETX is assumed. Its kind "none" is for a reader
	// without.
	Checksum textframe.Checksum `yaml:"checksum"`
	// Pause is after what time a document that was begun is broken off.
	Pause time.Duration `yaml:"idle_gap"`
}

type documentReader struct {
	settings MRZSettings
	format   *framing.Format // of rte6701
	key      []byte
	keyID    string
}

func newDocumentReader(s MRZSettings) (drivers.Instrument, error) {
	if !s.AllowPersonalData {
		return nil, errors.New("allow_personal_data: a document reader reads personal data, and stays off until the settings say allow_personal_data: true; " +
			"make sure that the law lets this site do it, and then add that line")
	}
	r := &documentReader{settings: s}
	switch s.Format {
	case "lines":
	case "rte6701":
		if s.Checksum.Kind == "none" {
			s.Checksum = textframe.Checksum{}
		}
		var err error
		r.format, err = framing.Framing{Kind: framing.Marks, Framing: textframe.Framing{
			Start: `\x01`, End: `\x03`, Checksum: s.Checksum, Most: maxMRZFrame,
		}}.Compile()
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("format: %q is not known; take lines or rte6701", s.Format)
	}
	if s.Pause < minMRZPause || s.Pause > maxMRZPause {
		return nil, fmt.Errorf("idle_gap: %s; take %s to %s", s.Pause, minMRZPause, maxMRZPause)
	}
	switch s.Keep {
	case keepMasked:
		if s.KeyFile != "" || s.KeyEnv != "" {
			return nil, errors.New("key_file, key_env: what is masked needs no key; take them out, or set keep: hash")
		}
		return r, nil
	case keepHash:
	default:
		return nil, fmt.Errorf("keep: %q is not known; take %s or %s", s.Keep, keepHash, keepMasked)
	}
	var err error
	if r.key, err = s.key(); err != nil {
		return nil, err
	}
	r.keyID = r.hash("key id")[:8]
	return r, nil
}

// key reads the site's key. No error shows any of it.
func (s *MRZSettings) key() ([]byte, error) {
	var key []byte
	switch {
	case (s.KeyFile == "") == (s.KeyEnv == ""):
		return nil, errors.New("key_file, key_env: keep: hash needs exactly one of them, with a key of 32 bytes or more (head -c 32 /dev/urandom | base64)")
	case s.KeyEnv != "":
		if key = []byte(os.Getenv(s.KeyEnv)); len(key) == 0 {
			return nil, fmt.Errorf("key_env: the environment variable %s is not set or empty", s.KeyEnv)
		}
	default:
		if !filepath.IsAbs(s.KeyFile) {
			return nil, fmt.Errorf("key_file: %s: write the whole path, beginning with a slash", s.KeyFile)
		}
		info, err := os.Stat(s.KeyFile)
		if err == nil && info.Size() > maxKey {
			return nil, fmt.Errorf("key_file: %s has %d bytes; a key has %d at most", s.KeyFile, info.Size(), maxKey)
		}
		if err == nil {
			key, err = os.ReadFile(s.KeyFile)
		}
		if err != nil {
			return nil, fmt.Errorf("key_file: %w", err)
		}
	}
	key = []byte(strings.TrimSpace(string(key)))
	if len(key) < minKey {
		return nil, fmt.Errorf("key_file, key_env: the key has %d bytes: want %d at least", len(key), minKey)
	}
	return key, nil
}

func (r *documentReader) hash(text string) string {
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// Run implements drivers.Instrument. Nothing that the reader sends goes to the host: not as a
// sample of what can't be read, and not into an error.
func (r *documentReader) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	stream := r.lines(h)
	if r.format != nil {
		stream = r.messages(h)
	}
	stream.Of, stream.Pause = "the document reader", r.settings.Pause
	return stream.Run(ctx, conn, h)
}

func (r *documentReader) lines(h drivers.Host) drivers.Stream {
	var splitter mrz.Splitter
	drain := func() error {
		for z, ok := splitter.Next(); ok; z, ok = splitter.Next() {
			if z.Problem != "" {
				h.Unparsed(z.Problem, nil)
			} else if err := r.document(h, z.Lines); err != nil {
				return err
			}
		}
		return nil
	}
	return drivers.Stream{
		Take:    func(b []byte) error { _, _ = splitter.Write(b); return drain() }, // it never fails
		Pending: splitter.Pending,
		Idle:    func() error { splitter.Idle(); return drain() },
	}
}

func (r *documentReader) messages(h drivers.Host) drivers.Stream {
	splitter := r.format.Splitter()
	drain := func() error {
		for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
			if p.Problem != "" {
				h.Unparsed(p.Problem, nil)
				continue
			}
			lines, err := mrz.ParseMessage(p.Data)
			if err != nil {
				if errors.Is(err, mrz.ErrNothingRead) {
					h.Valid() // the reader is well
				}
				h.Unparsed(err.Error(), nil)
				continue
			}
			if err := r.document(h, lines); err != nil {
				return err
			}
		}
		return nil
	}
	return drivers.Stream{
		Take:    func(b []byte) error { _, _ = splitter.Write(b); return drain() }, // it never fails
		Pending: splitter.Pending,
		Idle:    func() error { splitter.Idle(); return drain() },
	}
}

// document makes the event of a zone.
func (r *documentReader) document(h drivers.Host, lines []string) error {
	d, err := mrz.Parse(lines)
	if err != nil {
		h.Unparsed(err.Error(), nil)
		return nil
	}
	h.Valid()
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of a reading: %w", err)
	}
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make a salt: %w", err)
	}
	now := h.Now()
	e := event.LaneDocument{
		ReadID: id.String(), Format: string(d.Size), Valid: d.Valid(), Validity: event.DocumentDateUnknown, ReadTS: event.At(now),
		Checks: event.DocumentChecks{
			Number: string(d.NumberCheck), BirthDate: string(d.BirthCheck), ExpiryDate: string(d.ExpiryCheck),
			Optional: string(d.OptionalCheck), Composite: string(d.CompositeCheck),
		},
		Private: &event.DocumentPrivate{Salt: event.Salt(random)},
	}
	if d.Valid() {
		e.DocumentType = d.Code
		// No check digit covers it: an O that was read as 0 would be another state.
		if !strings.ContainsFunc(d.Issuer, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			e.IssuingState = d.Issuer
		}
	}
	if last, ok := d.Expiry(now); ok && d.ExpiryCheck == mrz.Valid {
		months := monthsUntil(now.UTC(), last)
		e.MonthsLeft, e.Validity = &months, event.DocumentInDate
		if now.UTC().After(last.AddDate(0, 0, 1)) {
			e.Validity = event.DocumentExpired
		}
	}
	// A number that was read wrongly would be that of another document.
	if d.NumberCheck == mrz.Valid && d.Valid() {
		if r.settings.Keep == keepMasked {
			e.Private.NumberMasked = plate.Mask(d.Number)
		} else {
			e.Private.NumberHash, e.Private.KeyID = r.hash(d.Number), r.keyID
		}
	}
	return h.Emit(drivers.Observation{Data: e, Time: now, Subject: e.ReadID})
}

// monthsUntil counts whole months between two days; it is negative for one that has passed.
func monthsUntil(from, to time.Time) int {
	months := 12*(to.Year()-from.Year()) + int(to.Month()) - int(from.Month())
	switch {
	case months > 0 && to.Day() < from.Day():
		months--
	case months < 0 && to.Day() > from.Day():
		months++
	}
	return months
}
