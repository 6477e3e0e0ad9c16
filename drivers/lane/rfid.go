package lane

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/llrp"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds of a reader.
const (
	llrpRead = 16 << 10
	// maxPresent bounds the tags that are there at once. One more, and that which is there
	// for the longest is told before it is gone.
	maxPresent  = 1024
	maxSetup    = 64
	maxAntennas = 64
)

// LLRP is the driver of RFID readers that speak EPCglobal's Low Level Reader Protocol.
func LLRP() drivers.Driver {
	return drivers.Driver{
		Name:    "llrp",
		Summary: "RFID reader, LLRP",
		Schemes: []string{"tcp"},
		Silence: time.Minute,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := LLRPSettings{Enable: true, GoneAfter: 3 * time.Second, Longest: 5 * time.Minute, Every: 10 * time.Second}
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newTagReader(s)
		},
	}
}

// LLRPSettings are the settings of an RFID reader.
type LLRPSettings struct {
	// Setup are whole LLRP messages in hexadecimal digits, which are sent in this order
	// when the reader is connected: those that make it read, if its own tool has not.
	Setup []string `yaml:"setup"`
	// Enable asks for events and reports that the reader held back while nobody was
	// connected.
	Enable bool `yaml:"enable"`
	// Every is how often the reader is asked for what it has; 0 for never.
	Every time.Duration `yaml:"every"`
	// GoneAfter is how long a tag is not told until it is gone. Longest is after what time
	// one that stays is told.
	GoneAfter time.Duration `yaml:"gone_after"`
	Longest   time.Duration `yaml:"longest"`
	// Antennas are those of this lane; empty for all. WeakBelowDBM is a signal that is too
	// weak for a vehicle in this lane; 0 for none. Tags of a neighbour's are told with a
	// flag: which vehicle a tag belongs to is not for a reader to decide.
	Antennas     []int `yaml:"antennas"`
	WeakBelowDBM int   `yaml:"weak_below_dbm"`
}

type tagReader struct {
	settings LLRPSettings
	setup    [][]byte
	id       uint32
	present  map[string]*presence
}

// presence is one tag that is there.
type presence struct {
	epc         []byte
	first, last time.Time
	deviceFirst time.Time
	antennas    []int
	reports     int
	peak        *int
}

func newTagReader(s LLRPSettings) (*tagReader, error) {
	r := &tagReader{settings: s, present: map[string]*presence{}}
	switch {
	case s.GoneAfter < 100*time.Millisecond || s.GoneAfter > 10*time.Minute:
		return nil, fmt.Errorf("gone_after: %s; take 100ms to 10m", s.GoneAfter)
	case s.Longest < s.GoneAfter || s.Longest > maxLongest:
		return nil, fmt.Errorf("longest: %s; take gone_after to %s", s.Longest, maxLongest)
	case s.Every != 0 && (s.Every < time.Second || s.Every > time.Hour):
		return nil, fmt.Errorf("every: %s; take 1s to 1h, or 0 for never", s.Every)
	case len(s.Antennas) > maxAntennas || slices.ContainsFunc(s.Antennas, func(a int) bool { return a < 1 || a > 65535 }):
		return nil, fmt.Errorf("antennas: %v; take at most %d numbers from 1 on", s.Antennas, maxAntennas)
	case s.WeakBelowDBM < -128 || s.WeakBelowDBM > 0:
		return nil, fmt.Errorf("weak_below_dbm: %d; take -128 to -1, or 0 for none", s.WeakBelowDBM)
	case len(s.Setup) > maxSetup:
		return nil, fmt.Errorf("setup: %d messages; take at most %d", len(s.Setup), maxSetup)
	}
	for i, text := range s.Setup {
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return nil, fmt.Errorf("setup: message %d is not in hexadecimal digits: %w", i+1, err)
		}
		var one llrp.Splitter
		one.Write(b)
		m, ok, err := one.Next()
		if err != nil || !ok || len(m.Append(nil)) != len(b) {
			return nil, fmt.Errorf("setup: message %d is not exactly one LLRP message; its header has the version, the type, the length and an id", i+1)
		}
		r.setup = append(r.setup, b)
	}
	return r, nil
}

// Run implements drivers.Instrument.
func (r *tagReader) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	return r.interrupted(h, r.read(ctx, conn, h))
}

// interrupted tells of the tags that are there when the link breaks, and gives the reason back.
func (r *tagReader) interrupted(h drivers.Host, reason error) error {
	for _, p := range r.oldest() {
		if err := r.tell(h, p, "interrupted"); err != nil {
			return err // what was not told is told with the next connection
		}
	}
	return reason
}

func (r *tagReader) read(ctx context.Context, conn link.Conn, h drivers.Host) error {
	var messages llrp.Splitter
	buf := make([]byte, llrpRead)
	started, asked := false, h.Now()
	for {
		if err := r.gone(h); err != nil {
			return err
		}
		if now := h.Now(); started && r.settings.Every > 0 && now.Sub(asked) >= r.settings.Every {
			asked = now
			if err := r.send(conn, llrp.GetReport); err != nil {
				return err
			}
		}
		if err := conn.SetReadDeadline(r.next(started, asked)); err != nil {
			return fmt.Errorf("set the read deadline of the reader's link: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		messages.Write(buf[:n])
		for {
			m, ok, problem := messages.Next()
			if problem != nil {
				h.Unparsed(problem.Error(), bytes.Clone(buf[:n]))
				return fmt.Errorf("%w: is this the reader's LLRP port (5084)?", problem)
			}
			if !ok {
				break
			}
			if err := r.take(conn, h, m, &started); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("read from the RFID reader: %w", err)
		}
	}
}

// next is when something is to be done though nothing comes; zero for never.
func (r *tagReader) next(started bool, asked time.Time) (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if started && r.settings.Every > 0 {
		sooner(asked.Add(r.settings.Every))
	}
	for _, p := range r.present {
		sooner(p.last.Add(r.settings.GoneAfter))
		sooner(p.first.Add(r.settings.Longest))
	}
	return at
}

func (r *tagReader) send(conn link.Conn, t llrp.Type) error {
	r.id++
	return write(conn, llrp.Message{Type: t, ID: r.id}.Append(nil))
}

func write(conn link.Conn, b []byte) error {
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("send to the RFID reader: %w", err)
	}
	return nil
}

// take takes one message. The reader speaks first, and is not spoken to before.
func (r *tagReader) take(conn link.Conn, h drivers.Host, m llrp.Message, started *bool) error {
	switch m.Type {
	case llrp.ReaderEventNotification:
		e, err := llrp.ParseEvent(m.Payload)
		if err != nil {
			h.Unparsed("event of the reader: "+err.Error(), m.Append(nil))
			return nil
		}
		h.Valid()
		switch {
		case e.Closing:
			return errors.New("the RFID reader ends the connection")
		case e.Attempt && e.Status != 0 && !*started:
			return fmt.Errorf("the RFID reader refuses the connection with status %d: it serves one client at a time; disconnect the other one", e.Status)
		case e.Attempt && !*started:
			*started = true
			for _, b := range r.setup {
				if err := write(conn, b); err != nil {
					return err
				}
			}
			if r.settings.Enable {
				return r.send(conn, llrp.EnableEventsAndReports)
			}
		}
	case llrp.Keepalive:
		h.Valid()
		return write(conn, llrp.Message{Type: llrp.KeepaliveAck, ID: m.ID}.Append(nil))
	case llrp.ROAccessReport:
		tags, err := llrp.ParseReport(m.Payload)
		if err != nil {
			h.Unparsed("report of tags: "+err.Error(), m.Append(nil))
		} else {
			h.Valid()
		}
		for _, t := range tags {
			if err := r.seen(h, t); err != nil {
				return err
			}
		}
	case llrp.ErrorMessage:
		h.Unparsed("the reader refuses a message that was sent to it; see setup", m.Append(nil))
	default:
		h.Valid() // an answer to setup, or what only the maker knows
	}
	return nil
}

func (r *tagReader) seen(h drivers.Host, t llrp.Tag) error {
	now, key := h.Now(), string(t.EPC)
	p := r.present[key]
	if p != nil && (now.Sub(p.last) >= r.settings.GoneAfter || now.Sub(p.first) >= r.settings.Longest) {
		if err := r.gone(h); err != nil {
			return err
		}
		p = r.present[key]
	}
	if p == nil {
		if len(r.present) >= maxPresent {
			if err := r.tell(h, r.oldest()[0], "crowded"); err != nil {
				return err
			}
		}
		p = &presence{epc: t.EPC, first: now, deviceFirst: t.FirstSeen}
		r.present[key] = p
	}
	p.last = now
	p.reports++
	if a := int(t.Antenna); a != 0 && !slices.Contains(p.antennas, a) && len(p.antennas) < maxAntennas {
		p.antennas = append(p.antennas, a)
	}
	if rssi := int(t.RSSI); t.HasRSSI && (p.peak == nil || rssi > *p.peak) {
		p.peak = &rssi
	}
	return nil
}

// oldest lists the tags that are there, that which came first before the others.
func (r *tagReader) oldest() (list []*presence) {
	for _, p := range r.present {
		list = append(list, p)
	}
	order.By(list, func(a, b *presence) int {
		return cmp.Or(a.first.Compare(b.first), bytes.Compare(a.epc, b.epc))
	})
	return list
}

// gone tells of the tags that are gone, and of those that stay for too long.
func (r *tagReader) gone(h drivers.Host) error {
	now := h.Now()
	for _, p := range r.oldest() {
		var err error
		switch {
		case now.Sub(p.last) >= r.settings.GoneAfter:
			err = r.tell(h, p)
		case now.Sub(p.first) >= r.settings.Longest:
			err = r.tell(h, p, "still_there")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tell makes the event, and forgets the tag when that is on disk.
func (r *tagReader) tell(h drivers.Host, p *presence, flags ...string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of a tag's passage: %w", err)
	}
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make a salt: %w", err)
	}
	here := func(a int) bool { return slices.Contains(r.settings.Antennas, a) }
	if len(r.settings.Antennas) > 0 && len(p.antennas) > 0 && !slices.ContainsFunc(p.antennas, here) {
		flags = append(flags, "other_antenna")
	}
	if weak := r.settings.WeakBelowDBM; weak != 0 && p.peak != nil && *p.peak < weak {
		flags = append(flags, "weak")
	}
	e := event.LaneTag{
		PassageID: id.String(), Antennas: append([]int{}, p.antennas...), Reports: p.reports, PeakRSSIDBM: p.peak, Flags: append([]string{}, flags...),
		FirstTS: event.At(p.first), LastTS: event.At(p.last),
		Private: &event.TagPrivate{Salt: event.Salt(random), EPC: strings.ToUpper(hex.EncodeToString(p.epc))},
	}
	if !p.deviceFirst.IsZero() {
		at := event.At(p.deviceFirst)
		e.DeviceFirstTS = &at
	}
	if err := h.Emit(drivers.Observation{Data: e, Time: p.first, DeviceTime: p.deviceFirst, Subject: e.PassageID}); err != nil {
		return err
	}
	delete(r.present, string(p.epc))
	return nil
}
