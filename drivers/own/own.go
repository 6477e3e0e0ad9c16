// Package own holds the driver of instruments that the technician describes: how their messages
// stand on the line, what is where in them and what it means are settings (package grammar), and
// the events are made by what makes those of the instruments that are known.
//
// What is not as it is described is told as unparsed, and is never taken for a good value. Where
// the instrument's word for an alarm or a signal can't be read, that is unknown from then on.
package own

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/grammar"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// Bounds and times.
const (
	// usualPause ends a message that was begun, where the settings say nothing.
	usualPause = 5 * time.Second
	// shortest is how long a request is waited for at least.
	shortest = 10 * time.Millisecond
	// sampleSize is how much of a message that can't be read is kept, in bytes.
	sampleSize = 4 << 10
	minAsk     = 50 * time.Millisecond
	maxAsk     = time.Hour
)

// Device is the driver.
func Device() drivers.Driver {
	return drivers.Driver{
		Name:    "own-device",
		Summary: "an instrument that you describe: lines, columns, fixed widths, XML or JSON; grammar in the settings",
		Schemes: []string{"serial", "tcp", "tcp-listen", "http-listen"},
		Silence: time.Minute,
		New:     newDevice,
	}
}

// Settings are the settings of an instrument that is described.
type Settings struct {
	grammar.Settings `yaml:",inline"`
	// Radiation, Weight, Plates, Tags and Signals are how the events are made.
	Radiation RadiationSettings     `yaml:"radiation"`
	Weight    lane.WeighingSettings `yaml:"weight"`
	Plates    PlateSettings         `yaml:"plates"`
	Tags      lane.TagSettings      `yaml:"tags"`
	Signals   SignalSettings        `yaml:"signals"`
	// Ask sends something to the instrument again and again, for one that does not talk by
	// itself. Without it nothing is ever sent.
	Ask AskSettings `yaml:"ask"`
}

// AskSettings are what is sent, with the escapes of textframe.Framing.Start, and how often.
type AskSettings struct {
	Send  string        `yaml:"send"`
	Every time.Duration `yaml:"every"`
}

// RadiationSettings are those of an instrument that measures radiation.
type RadiationSettings struct {
	rpm.RatesSettings `yaml:",inline"`
	// Alarms is "not_told" for one that does not tell whether it alarms. Its events then say
	// alarms_unknown.
	Alarms string `yaml:"alarms"`
}

// PlateSettings are those of a plate reader.
type PlateSettings struct {
	anpr.Settings `yaml:",inline"`
	// Vendor is whose conventions the values follow, or another word for none.
	Vendor string `yaml:"vendor"`
}

// SignalSettings are those of a device that tells signals.
type SignalSettings struct {
	// ReportEvery is how often a number that changes is told at the most.
	ReportEvery time.Duration `yaml:"report_every"`
}

// Step is what was made of one record, or of bytes that are none.
type Step struct {
	// Time is when it came, and Raw what came.
	Time time.Time
	Raw  []byte
	grammar.Message
}

// Explainer is an instrument of this driver, for a person who writes its description.
type Explainer interface {
	// Explain calls f for each record, from then on.
	Explain(f func(Step))
}

var _ Explainer = (*device)(nil)

// device is one instrument over all its connections.
type device struct {
	settings Settings
	format   *grammar.Format
	pause    time.Duration
	ask      []byte

	// mu: an instrument may have several connections.
	mu          sync.Mutex
	connections int
	explain     func(Step)
	teller
}

func newDevice(decode func(any) error) (drivers.Instrument, error) {
	s := Settings{
		Radiation: RadiationSettings{RatesSettings: rpm.DefaultRatesSettings()}, Weight: lane.DefaultWeighingSettings(),
		Plates: PlateSettings{Vendor: "own"}, Tags: lane.DefaultTagSettings(), Signals: SignalSettings{ReportEvery: 10 * time.Second},
	}
	if err := decode(&s); err != nil {
		return nil, err
	}
	d := &device{settings: s, pause: s.Framing.Idle}
	if d.pause == 0 {
		d.pause = usualPause
	}
	var err error
	if d.format, err = grammar.Compile(s.Settings, vocabularies()); err != nil {
		return nil, err
	}
	if err := d.teller.compile(s, d.format); err != nil {
		return nil, err
	}
	if d.ask, err = textframe.Bytes(s.Ask.Send); err != nil {
		return nil, fmt.Errorf("ask: send: %w", err)
	}
	if len(d.ask) > 0 && (s.Ask.Every < minAsk || s.Ask.Every > maxAsk) {
		return nil, grammar.Wrong("ask: every", s.Ask.Every.String(), fmt.Sprintf("take %s to %s", minAsk, maxAsk))
	}
	if len(d.ask) == 0 && s.Ask.Every != 0 {
		return nil, grammar.Wrong("ask", "send is missing", "add send: what makes the instrument answer, or take ask out")
	}
	return d, nil
}

// Explain implements Explainer.
func (d *device) Explain(f func(Step)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.explain, d.format.Explain = f, true
}

// Run implements drivers.Instrument.
func (d *device) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if inbox, ok := link.As[*link.Inbox](conn); ok {
		return d.serve(ctx, inbox, h)
	}
	if acceptor, ok := link.As[*link.Acceptor](conn); ok {
		return acceptor.Serve(ctx, h.Log(), func(ctx context.Context, conn link.Conn) error { return d.read(ctx, conn, h) })
	}
	return d.read(ctx, conn, h)
}

// begin and end are those of a connection: of several at once, of the first and the last.
func (d *device) begin(h drivers.Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connections++; d.connections == 1 {
		d.teller.begin(h)
	}
}

func (d *device) end(h drivers.Host, reason error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.connections--; d.connections > 0 {
		return reason
	}
	return d.teller.end(h, reason)
}

// read takes what comes over one connection.
func (d *device) read(ctx context.Context, conn link.Conn, h drivers.Host) error {
	d.begin(h)
	return d.end(h, d.stream(ctx, conn, h))
}

func (d *device) stream(ctx context.Context, conn link.Conn, h drivers.Host) error {
	splitter := d.format.Splitter()
	var asked time.Time
	return drivers.Stream{
		Of: "the instrument",
		Take: func(b []byte) error {
			_, _ = splitter.Write(b) // it never fails
			return d.drain(h, splitter)
		},
		Pending: splitter.Pending,
		Pause:   d.pause,
		Idle: func() error {
			splitter.Idle()
			return d.drain(h, splitter)
		},
		Tick: func() error {
			now := h.Now()
			if len(d.ask) > 0 && (asked.IsZero() || now.Sub(asked) >= d.settings.Ask.Every) && ctx.Err() == nil {
				asked = now
				if _, err := conn.Write(d.ask); err != nil {
					return fmt.Errorf("ask the instrument: %w", err)
				}
			}
			return d.tick(h)
		},
		Due: func() time.Time {
			if len(d.ask) == 0 {
				return d.nextTick()
			}
			return drivers.Sooner(d.nextTick(), asked.Add(d.settings.Ask.Every))
		},
	}.Run(ctx, conn, h)
}

func (d *device) drain(h drivers.Host, splitter framing.Splitter) (failed error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
		if p.Problem != "" {
			if d.explain != nil {
				d.explain(Step{h.Now(), bytes.Clone(p.Bytes), d.format.Broken(p)})
			}
			h.Unparsed(p.Problem, sample(p.Bytes))
			d.damaged()
			continue
		}
		if _, err := d.take(h, p.Data); err != nil {
			// What came with it may be recorded all the same.
			failed = errors.Join(failed, err)
			h.Unparsed("a record was not kept: "+err.Error(), sample(p.Data))
		}
	}
	return failed
}

func (d *device) tick(h drivers.Host) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.teller.tick(h)
}

// nextTick is when tick has something to do; zero for never.
func (d *device) nextTick() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.teller.due()
}

// serve takes what comes by HTTP.
func (d *device) serve(ctx context.Context, inbox *link.Inbox, h drivers.Host) error {
	d.begin(h)
	return d.end(h, d.requests(ctx, inbox, h))
}

func (d *device) requests(ctx context.Context, inbox *link.Inbox, h drivers.Host) error {
	for {
		if err := d.tick(h); err != nil {
			return err
		}
		waitCtx, cancel := ctx, context.CancelFunc(func() {})
		if due := d.nextTick(); !due.IsZero() {
			waitCtx, cancel = context.WithTimeout(ctx, max(shortest, due.Sub(h.Now())))
		}
		x, err := inbox.Next(waitCtx)
		cancel()
		switch {
		case err == nil:
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			continue
		default:
			return err
		}
		d.mu.Lock()
		refused, err := d.take(h, x.Body)
		d.mu.Unlock()
		if err != nil {
			return err // not answered, so that the instrument sends it again
		}
		if refused {
			x.Reply(http.StatusBadRequest, "text/plain", []byte("this is no record by the settings\n"))
			continue
		}
		x.Reply(http.StatusOK, "text/plain", nil)
	}
}

// take takes one message. refused is true if it has records, and none of them could be read: of
// one that is read in part nothing is told twice because it is sent again. An error is one of
// the agent; the other records are taken all the same.
func (d *device) take(h drivers.Host, data []byte) (refused bool, failed error) {
	if grammar.Blank(data) {
		return false, nil // it says nothing, not even that somebody is there
	}
	read := false
	for _, m := range d.format.Decode(data) {
		if d.explain != nil {
			d.explain(Step{h.Now(), bytes.Clone(data), m})
		}
		var err error
		if m.Failure != nil {
			refused = true
			h.Unparsed(m.Failure.Error(), sample(data))
			err = d.teller.unreadable(h, m)
		} else {
			h.Valid()
			err = d.teller.tell(h, m, data)
			read = read || err == nil
		}
		switch {
		case errors.Is(err, drivers.ErrUnrecordable): // sent again, it would be no better
			refused = true
			h.Unparsed(err.Error(), sample(data))
		case err != nil:
			failed = errors.Join(failed, err)
		}
	}
	return refused && !read, failed
}

func sample(b []byte) []byte { return bytes.Clone(b[:min(len(b), sampleSize)]) }

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
