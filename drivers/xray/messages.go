package xray

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/sidecar"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// Bounds and times of messages.
const (
	// messagePause ends a message that was begun, where the settings say nothing.
	messagePause = 5 * time.Second
	// repeatWithin is how long after it was told a message without a time is taken for one that
	// was sent again.
	repeatWithin = 24 * time.Hour
	// messageSample is how much of a message that can't be read is kept, in bytes.
	messageSample = 4 << 10
	// maxHeartbeat bounds a message that may say only that the scanner is alive, in bytes.
	maxHeartbeat = 4 << 10
)

// What is done with a message that has no id of a scan.
const (
	withoutIDRefuse  = "refuse"
	withoutIDHash    = "hash"
	withoutIDArrival = "arrival"
)

// Messages is the driver of scanners that send a message for each scan: X-ray scanners and
// those that look under vehicles.
func Messages() drivers.Driver {
	return drivers.Driver{
		Name:    "xray-messages",
		Summary: "scanner that sends XML, JSON or text for each scan: TCP both ways, serial, HTTP push; what stands where is in the settings",
		Schemes: []string{"tcp", "tcp-listen", "serial", "http-listen"},
		// Most have no heartbeat, and a lane may be empty for a night.
		Silence: 24 * time.Hour,
		New:     newMessenger,
	}
}

// MessageSettings are the settings of a scanner that sends messages.
type MessageSettings struct {
	// Meaning is how what the scanner says is taken.
	Meaning `yaml:",inline"`
	// Framing is how messages stand in the stream; by HTTP a request is a message. Its
	// idle_gap, 5 s if it is not set, is the pause after which a message that was begun is
	// broken off.
	Framing framing.Framing `yaml:"framing"`
	// Sidecar says where things stand in the messages, as for the dialect "configured" of
	// files. Files can't be named by messages.
	Sidecar sidecar.Dialect `yaml:"sidecar"`
	// Text is for messages that are neither XML nor JSON: its pattern, columns or parts give
	// the fields, which have the names that those of Sidecar have. Of Sidecar only times and
	// yes count then.
	Text *textframe.Grammar `yaml:"text"`
	// Pictures are where pictures stand, in base64.
	Pictures []MessagePicture `yaml:"pictures"`
	// MaxPicture is the largest picture that is taken, in bytes.
	MaxPicture int `yaml:"max_picture"`
	// WithoutID is what is done with a message that has no id of a scan: "refuse" it, the
	// default; take a "hash" of the message, so that the same bytes are the same scan; or
	// take each for a scan of its own by its "arrival".
	WithoutID string `yaml:"without_id"`
	// Heartbeat matches messages that say only that the scanner is alive, from their
	// beginning to their end but for blanks around.
	Heartbeat string `yaml:"heartbeat"`
	// Reply is what the scanner gets when its message is on disk, all of it, with escapes
	// like \x06; nothing if it is empty.
	Reply string `yaml:"reply"`
}

type messenger struct {
	settings  MessageSettings
	format    *framing.Format
	text      *textframe.Format
	heartbeat *regexp.Regexp
	reply     []byte
	pause     time.Duration

	// mu: a scanner may have several connections, and a scan is told by one at a time.
	mu       sync.Mutex
	unkept   unkept
	forgotAt time.Time
}

func newMessenger(decode func(any) error) (drivers.Instrument, error) {
	s := MessageSettings{
		Sidecar:    sidecar.Dialect{Fields: map[string][]string{"id": {"id", "Id", "ID"}}},
		MaxPicture: 16 << 20, WithoutID: withoutIDRefuse,
	}
	if err := decode(&s); err != nil {
		return nil, err
	}
	m := &messenger{settings: s, pause: s.Framing.Idle}
	if m.pause == 0 {
		m.pause = messagePause
	}
	if err := m.settings.check(); err != nil {
		return nil, err
	}
	s.Framing.Root = s.Sidecar.Root
	var err error
	if m.format, err = s.Framing.Compile(); err != nil {
		return nil, fmt.Errorf("framing: %w", err)
	}
	if s.Text != nil {
		if m.text, err = s.Text.CompileFor(textframe.Vocabulary{Names: sidecar.Fields()}); err != nil {
			return nil, fmt.Errorf("text: %w", err)
		}
	}
	if s.Heartbeat != "" {
		if _, err = regexp.Compile(s.Heartbeat); err != nil {
			return nil, fmt.Errorf("heartbeat: %w", err)
		}
		// A scan in which the word stands somewhere is none.
		if m.heartbeat, err = regexp.Compile(`^\s*(?:` + s.Heartbeat + `)\s*$`); err != nil {
			return nil, fmt.Errorf("heartbeat: %w", err)
		}
	}
	if m.reply, err = textframe.Bytes(s.Reply); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	return m, nil
}

func (s *MessageSettings) check() error {
	if err := s.Meaning.check(); err != nil {
		return err
	}
	switch s.WithoutID {
	case withoutIDRefuse, withoutIDHash, withoutIDArrival:
	default:
		return fmt.Errorf("without_id: %q is not known; take %s, %s or %s", s.WithoutID, withoutIDRefuse, withoutIDHash, withoutIDArrival)
	}
	if len(s.Sidecar.Files) > 0 || len(s.Sidecar.Roles) > 0 {
		return errors.New("sidecar: files and roles are for scanners that drop files; say with pictures where pictures stand in a message")
	}
	if err := s.Sidecar.CheckPlaces(); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	if err := checkPictures(s.Pictures, s.MaxPicture); err != nil {
		return err
	}
	if s.Text == nil {
		if len(s.Sidecar.Fields["id"]) == 0 && s.WithoutID == withoutIDRefuse {
			return errors.New("sidecar: fields: id is missing; say where the scanner's id of the scan stands, or set without_id")
		}
		return nil
	}
	switch {
	case len(s.Pictures) > 0:
		return errors.New("pictures: a text has none; they need XML or JSON")
	case s.CodePage != "":
		return errors.New("code_page: it is text.encoding for texts")
	case s.Text.Framing != (textframe.Framing{Encoding: s.Text.Encoding}):
		return errors.New("text: start, end, checksum, idle_gap and max_frame stand in framing for this driver")
	case s.Text.Heartbeat != "":
		return errors.New("text: heartbeat stands beside it for this driver, not in it")
	}
	return nil
}

// Run implements drivers.Instrument.
func (m *messenger) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if inbox, ok := link.As[*link.Inbox](conn); ok {
		return m.serve(ctx, inbox, h)
	}
	if acceptor, ok := link.As[*link.Acceptor](conn); ok {
		return acceptor.Serve(ctx, h.Log(), func(ctx context.Context, conn link.Conn) error { return m.read(ctx, conn, h) })
	}
	return m.read(ctx, conn, h)
}

// read takes what comes over one connection. What is begun at its end is told as broken off:
// the next connection begins anew.
func (m *messenger) read(ctx context.Context, conn link.Conn, h drivers.Host) error {
	splitter := m.format.Splitter()
	drain := func() error {
		var failed error
		for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
			if p.Problem != "" {
				h.Unparsed(p.Problem, sample(p.Bytes))
				continue
			}
			scans, good, err := m.take(h, p.Data)
			if err != nil {
				// What came with it may be recorded all the same; nothing more is answered, or the
				// scanner would take the answer for one to this message.
				failed = errors.Join(failed, err)
				h.Unparsed("a message was not recorded: "+err.Error(), sample(p.Data))
			}
			if scans == 0 || !good || len(m.reply) == 0 || failed != nil {
				continue
			}
			if _, err := conn.Write(m.reply); err != nil {
				failed = fmt.Errorf("answer the scanner: %w", err)
			}
		}
		return failed
	}
	return drivers.Stream{
		Of: "the scanner",
		Take: func(b []byte) error {
			_, _ = splitter.Write(b) // it never fails
			return drain()
		},
		Pending: splitter.Pending,
		Pause:   m.pause,
		Idle: func() error {
			splitter.Idle()
			return drain()
		},
	}.Run(ctx, conn, h)
}

// serve takes what comes by HTTP.
func (m *messenger) serve(ctx context.Context, inbox *link.Inbox, h drivers.Host) error {
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return err
		}
		_, good, err := m.take(h, d.Body)
		if err != nil {
			return err // not answered, so that the scanner sends it again
		}
		if !good {
			d.Reply(http.StatusBadRequest, "text/plain", []byte("this is no scan by the settings\n"))
			continue
		}
		d.Reply(http.StatusOK, "text/plain", m.reply)
	}
}

// messageScan is one scan of a message.
type messageScan struct {
	scan *sidecar.Scan
	node *document.Node // nil for a text
}

// take records what a message says: scans counts those that are on disk now, and good is
// false if it can't be read, or not all of it. An error is one of the agent.
func (m *messenger) take(h drivers.Host, data []byte) (scans int, good bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h = m.unkept.over(h)
	if len(bytes.TrimSpace(data)) == 0 {
		return 0, true, nil // it says nothing, not even that somebody is there
	}
	if m.heartbeat != nil && len(data) <= maxHeartbeat && m.heartbeat.Match(data) {
		h.Valid()
		return 0, true, nil
	}
	list, raw, problem := m.parse(data)
	var failed error
	for i, x := range list {
		switch bad := m.tell(h, x, data, raw, i); {
		case errors.Is(bad, errNoScan), errors.Is(bad, drivers.ErrUnrecordable):
			problem = errors.Join(problem, bad)
		case bad != nil: // the others may be recorded
			failed = errors.Join(failed, bad)
		default:
			scans++
		}
	}
	if problem != nil {
		h.Unparsed(problem.Error(), sample(raw))
	}
	return scans, problem == nil && failed == nil, failed
}

// parse reads a message. raw is what is kept of it: the pictures in it are attachments, or
// are not wanted. With an error list has what could be read.
func (m *messenger) parse(data []byte) (list []messageScan, raw []byte, err error) {
	if m.text != nil {
		x, err := m.text.DecodeText(data)
		if err != nil {
			return nil, data, err
		}
		scan := m.settings.Sidecar.Fill(func(field string) string { return strings.TrimSpace(x.Fields[field]) })
		return []messageScan{{scan: scan}}, data, nil
	}
	text, err := sidecar.Decode(data, m.settings.CodePage)
	if err != nil {
		return nil, data, err
	}
	raw, pictures := document.Elide(text)
	if pictures == 0 {
		raw = data
	}
	nodes, err := document.Parse(text, len(text))
	for _, n := range nodes {
		scan, bad := m.settings.Sidecar.Read(n)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		list = append(list, messageScan{scan, n})
	}
	return list, raw, err
}

// errNoScan is of what can be read and is no scan.
var errNoScan = errors.New("no scan")

// tell makes the event of a scan, unless the very same message was told before.
func (m *messenger) tell(h drivers.Host, x messageScan, data, raw []byte, index int) error {
	now := h.Now()
	sum := sha256.New()
	sum.Write(data)
	if index > 0 { // another one of the same message
		sum.Write([]byte{'#', byte(index)})
	}
	hash := hex.EncodeToString(sum.Sum(nil))
	if len(x.scan.ID) > maxWord {
		return fmt.Errorf("%w: the id has %d bytes, and at most %d are taken", errNoScan, len(x.scan.ID), maxWord)
	}
	single := false
	if x.scan.ID == "" {
		switch m.settings.WithoutID {
		case withoutIDHash:
			x.scan.ID = hash[:32]
		case withoutIDArrival:
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make the id of a scan: %w", err)
			}
			x.scan.ID, single = id.String(), true
		default:
			return fmt.Errorf("%w: the message has no id of one where the settings say that it stands; correct sidecar, or set without_id", errNoScan)
		}
	}
	before, known := toldBefore(h, x.scan.ID)
	dialect := "configured"
	if x.node == nil {
		dialect = "text"
	}
	e, err := m.settings.scanEvent(dialect, x.scan, raw, now)
	if err != nil {
		return err
	}
	// Scanners send again what was not answered, and connections are read side by side, so an old
	// message may come behind a newer one. It takes nothing back. Only an alarm that was
	// told, taken back and is told once more counts: it may be meant.
	alarm := e.Decision == event.DecisionSuspicious && before.Decision != event.DecisionSuspicious
	if known && (before.SHA256 == hash || slices.Contains(before.Earlier, hash) && !alarm) {
		if x.scan.Start.IsZero() && m.settings.WithoutID != withoutIDHash && now.Sub(time.Unix(before.At, 0)) > repeatWithin {
			// It has no time, and its id may have been used anew: then this is another vehicle.
			e.Remarks = append(e.Remarks, "same_message_later")
			if e.Decision == event.DecisionNothingFound {
				e.Decision = event.DecisionUnknown
			}
		} else {
			h.Valid()
			return nil
		}
	}
	list := m.attach(&e, x.node)
	doubt(&e)
	if len(raw) > event.MaxRaw { // the event has the head of it only
		a := event.NewAttachment(raw, "application/octet-stream", "message")
		e.Attachments = append(e.Attachments, a)
		list = append(list, drivers.Attachment{Attachment: a, Content: bytes.Clone(raw)})
	}
	if single {
		e.Revision = 1
		err = h.Emit(observation(e, list))
	} else {
		next := told{Revision: before.Revision + 1, SHA256: hash, Missing: len(e.Missing), At: now.Unix(), Earlier: before.earlier(hash)}
		err = publish(h, x.scan.ID, e, before, next, list)
		if err == nil {
			err = m.forget(h, now)
		}
	}
	if err != nil {
		return err
	}
	h.Valid()
	return nil
}

// forget takes scans out of the ledger that are so old that nobody speaks of them any more.
func (m *messenger) forget(h drivers.Host, now time.Time) error {
	if now.Sub(m.forgotAt) < forgetEvery {
		return nil
	}
	m.forgotAt = now
	return forgetOld(h.Ledger(), now.Add(-rememberScans), maxRemembered, func(string) bool { return false })
}

// sample is what is kept of bytes that can't be read, without pictures.
func sample(b []byte) []byte {
	rest, _ := document.Elide(b)
	return bytes.Clone(rest[:min(len(rest), messageSample)])
}

// suffixed numbers the pictures of one place from the second on.
func suffixed(name string, k int) string {
	if k == 0 {
		return name
	}
	return name + "-" + strconv.Itoa(k+1)
}
