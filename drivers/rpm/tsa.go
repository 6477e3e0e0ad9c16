// Package rpm holds the drivers of radiation portal monitors.
//
// The driver "tsa-portal" is spread over a few files: tsa.go reads the link and
// hands each record to what it concerns, occupancy.go assembles occupancies,
// sigma.go repeats the portal's alarm test, background.go keeps backgrounds,
// faults and the slow baseline, setup.go follows the portal's own settings.
package rpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

// TSAPortal is the driver of Rapiscan/TSA portals with an SC-7xx or SC-8xx
// controller, which send the records of package tsa.
func TSAPortal() drivers.Driver {
	return drivers.Driver{
		Name:    "tsa-portal",
		Summary: "Rapiscan/TSA radiation portal (VM-250, TM-850, RPM4500 families), line protocol",
		Schemes: []string{"tcp", "serial"},
		Lines:   true,
		Silence: 12 * time.Second, // two backgrounds lost
		New:     newPortal,
	}
}

// The portal's own rhythm.
const (
	// backgroundCadence is the time between two backgrounds of one kind.
	backgroundCadence = 5 * time.Second
	// gammaSpan and neutronSpan are what one sample covers.
	gammaSpan   = 200 * time.Millisecond
	neutronSpan = time.Second
	// preSamples is how many gamma samples from before the beam was cut come at
	// the start of an occupancy.
	preSamples = 5
	// secondOfSamples is how many gamma samples make one second, the unit of
	// backgrounds.
	secondOfSamples = 5
)

// Bounds on what comes from outside, and times of this driver.
const (
	readSize = 4 << 10
	// maxHeld bounds the records that wait for the occupancy to begin.
	maxHeld = 16
	// minNSigma, maxNSigma and maxIntervals bound settings, whoever made them.
	minNSigma    = 0.1
	maxNSigma    = 100
	maxIntervals = 50
	// burstLimit ends a setup burst after which nothing comes.
	burstLimit = time.Second
	// grace is how long a read must find nothing before a time limit that has
	// passed is believed: bytes may be waiting after a slow disk.
	grace = 20 * time.Millisecond
	// lateWake is how much later than asked a read may return before the time
	// is taken for the process's own pause and not for the portal's silence.
	lateWake = 500 * time.Millisecond
)

func newPortal(decode func(any) error) (drivers.Instrument, error) {
	s := defaultSettings()
	if err := decode(&s); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return newPortalWith(s), nil
}

func newPortalWith(s Settings) *portal {
	p := &portal{
		keeper:    keeper{key: keptPortal},
		settings:  s,
		algorithm: s.algorithm(),
		known:     s.asSetup(),
		faults:    map[string]bool{},
		baseline:  newBaseline(s.BaselineWindow),
		onLine:    tsa.Detectors,
	}
	for i, l := range s.Detectors {
		if fitted(l) {
			p.places = append(p.places, i)
			p.labels = append(p.labels, l)
		}
	}
	return p
}

// portal is one portal over all its connections.
type portal struct {
	settings Settings
	places   []int    // of the fitted detectors in a record
	labels   []string // of the same

	algorithm algorithm
	onLine    int               // detectors in use by the portal's own report
	known     map[string]string // settings by name, as last known
	reported  bool              // the portal itself told settings

	// counter is the last GX's; without counts the occupancies since then that
	// ended without one.
	counter     int
	haveCounter bool
	without     int

	faults   map[string]bool // by kind; raised ones are true
	tamper   string          // the last state told; empty if none
	keeper   keeper
	baseline *baseline
}

// pick takes the fitted detectors' values out of a record.
func (p *portal) pick(counts [tsa.Detectors]int) []int {
	list := make([]int, len(p.places))
	for i, place := range p.places {
		list[i] = counts[place]
	}
	return list
}

// state is what the portal was last known to be doing.
type state int

const (
	unknown  state = iota // joined, and nothing told it yet
	idle                  // free
	occupied              // in an occupancy
	lost                  // went silent in an occupancy
)

// session is one connection to a portal.
type session struct {
	p    *portal
	host drivers.Host

	splitter tsa.Splitter
	now      time.Time // when the bytes in hand arrived
	heard    time.Time // when the last well-formed record did
	wire     []byte    // the line in hand, nil if nothing came
	column   time.Time // its own time, zero if it tells none

	state   state
	occ     *occupancy              // nil unless occupied
	gamma   *[tsa.Detectors]int     // the last gamma background
	neutron *[tsa.Detectors]int     // the last neutron background
	exact   *[tsa.Detectors]float64 // the last uncut neutron background
	held    []held
	burst   *burst
	thin    thinner
}

// Run implements drivers.Instrument.
func (p *portal) Run(ctx context.Context, conn link.Conn, host drivers.Host) error {
	s := &session{p: p, host: host, now: host.Now()}
	p.recall(host)
	buf := make([]byte, readSize)
	for {
		deadline := s.due()
		if soon := host.Now().Add(grace); !deadline.IsZero() && deadline.Before(soon) {
			deadline = soon
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return s.end(fmt.Errorf("set the read deadline of the portal's link: %w", err))
		}
		// After the deadline, so that one that was set to wake this loop is not
		// overwritten unseen.
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		n, err := conn.Read(buf)
		s.now = host.Now()
		if emitErr := s.take(buf[:n]); emitErr != nil {
			return emitErr
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.end(ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.now.Sub(deadline) > lateWake {
				continue
			}
			if err := s.tick(); err != nil {
				return err
			}
		default:
			return s.end(fmt.Errorf("read from the portal: %w", err))
		}
	}
}

// due is the next moment at which something must happen if nothing comes; zero
// if there is none.
func (s *session) due() time.Time {
	var due time.Time
	at := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	if s.occ != nil {
		at(s.heard.Add(s.p.settings.Stall))
	}
	for _, h := range s.held {
		if h.speed {
			at(h.at.Add(s.p.settings.SpeedHold))
		}
	}
	if s.burst != nil {
		at(s.burst.began.Add(burstLimit))
	}
	return due
}

// tick does what is due.
func (s *session) tick() error {
	s.wire, s.column = nil, time.Time{}
	if s.occ != nil && s.now.Sub(s.heard) >= s.p.settings.Stall {
		if err := s.close(event.EndStalled, nil); err != nil {
			return err
		}
		s.state = lost
	}
	if err := s.dropSpeeds(func(h held) bool { return s.now.Sub(h.at) >= s.p.settings.SpeedHold }); err != nil {
		return err
	}
	if s.burst != nil && s.now.Sub(s.burst.began) >= burstLimit {
		return s.endBurst()
	}
	return nil
}

// end emits what is still held, and returns the reason.
func (s *session) end(reason error) error {
	s.wire, s.column = nil, time.Time{}
	if s.occ != nil {
		if err := s.close(event.EndDisconnected, nil); err != nil {
			return err
		}
	}
	if err := s.dropSpeeds(func(held) bool { return true }); err != nil {
		return err
	}
	if err := s.endBurst(); err != nil {
		return err
	}
	s.keep()
	return reason
}

// recall takes up what was kept when the agent ran last.
func (p *portal) recall(host drivers.Host) {
	var k keptState
	if !p.keeper.recall(host, &k) {
		return
	}
	if k.Counter != nil {
		p.counter, p.without, p.haveCounter = *k.Counter, k.Without, true
	}
	for _, kind := range k.Faults {
		p.faults[kind] = true
	}
	p.tamper = k.Tamper
}

// keep makes durable what has changed.
func (s *session) keep() {
	p := s.p
	k := keptState{Tamper: p.tamper}
	if p.haveCounter {
		counter := p.counter
		k.Counter, k.Without = &counter, p.without
	}
	for kind, raised := range p.faults {
		if raised {
			k.Faults = append(k.Faults, kind)
		}
	}
	slices.Sort(k.Faults)
	p.keeper.keep(s.host, k)
}

// take handles bytes as they came.
func (s *session) take(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := s.splitter.Write(b); err != nil {
		return fmt.Errorf("split into records: %w", err)
	}
	for {
		l, ok := s.splitter.Next()
		if !ok {
			s.keep()
			return nil
		}
		if err := s.line(l); err != nil {
			return err
		}
	}
}

func (s *session) line(l tsa.Line) error {
	s.wire, s.column = s.splitter.Wire(), time.Time{}
	var rec tsa.Record
	var err error
	if l.Problem == "" {
		rec, err = tsa.Parse(l.Bytes)
	} else {
		err = errors.New(l.Problem)
	}
	if err != nil {
		var done bool
		if rec, done = s.broken(l, err); done {
			return nil
		}
	} else if l.First && !rec.Known() {
		return nil // the tail of a record that joining cut
	}
	s.heard = s.now
	if rec.Time.Form == tsa.FormFull { // the other form has no date
		s.column = rec.Time.At
	}
	if err := s.dropSpeeds(func(h held) bool { return s.now.Sub(h.at) > s.p.settings.SpeedHold }); err != nil {
		return err
	}
	if rec.Known() {
		s.host.Valid()
	} else {
		// A tag of two to four characters, so the reasons are not many.
		s.host.Unparsed(fmt.Sprintf("unknown tag %s", rec.Tag), bytes.Clone(s.wire))
		if rec.Tag[0] == 'G' || rec.Tag[0] == 'N' {
			// As likely as a record of new firmware it is what a sample that lost
			// its end made of the next record's tag.
			s.prelude(true)
			return nil
		}
	}
	return s.record(rec)
}

// broken handles a line that is no record. An alarm must not be lost with the
// noise before it, so a whole record at the line's end is taken; done is true
// if there is none.
func (s *session) broken(l tsa.Line, why error) (rec tsa.Record, done bool) {
	rec, at, ok := tsa.Rescue(l.Bytes)
	// Of a line that is too long only the beginning is in hand, without an end.
	if !ok || !bytes.HasSuffix(s.wire, []byte{'\n'}) {
		if l.First && l.Problem == "" {
			return rec, true // the tail of a record that joining cut
		}
		s.host.Unparsed(why.Error(), bytes.Clone(s.wire))
		s.prelude(mayBeSample(l.Bytes))
		return rec, true
	}
	whole := s.wire
	begins := bytes.LastIndex(whole, l.Bytes[at:])
	s.wire = whole[:begins]
	s.host.Unparsed(why.Error()+"; the record at its end was read", bytes.Clone(whole))
	s.prelude(mayBeSample(l.Bytes[:at]))
	s.wire = whole[begins:]
	return rec, false
}

// record is the portal's state machine.
func (s *session) record(rec tsa.Record) error {
	if rec.Setup != nil {
		s.note()
		return s.setup(rec)
	}
	if err := s.endBurst(); err != nil {
		return err
	}
	switch rec.Tag {
	case tsa.GS, tsa.GA, tsa.NS, tsa.NA:
		return s.sample(rec)
	case tsa.GX:
		return s.endOfOccupancy(rec)
	case tsa.GB, tsa.GH, tsa.GL, tsa.NB, tsa.NH:
		return s.background(rec)
	case tsa.SP:
		return s.speed(rec)
	case tsa.NZ:
		s.prelude(false)
		return nil
	}
	s.note()
	switch rec.Tag {
	case tsa.NB1:
		s.exactBackground(rec)
	case tsa.TT:
		return s.tamper("on")
	case tsa.TC:
		return s.tamper("clear")
	}
	// The other extended records are not understood, and unknown tags even less.
	// AA in particular belongs to a test of the portal's that is not its alarm.
	return nil
}

// note keeps a record that has no part in the state machine with the occupancy
// in which it came.
func (s *session) note() {
	s.forgetPrelude()
	if s.occ != nil {
		s.occ.raw.add(s.wire)
	}
}

func (s *session) tamper(to string) error {
	if s.p.tamper == to {
		return nil
	}
	s.p.tamper = to
	return s.emit(event.RadiationTamper{State: to, Raw: event.RawOf(s.wire)}, "")
}

// emit records what the line in hand tells.
func (s *session) emit(d event.Data, subject string) error {
	return s.emitAt(d, subject, s.now, s.column)
}

// emitAt records what was told at another time.
func (s *session) emitAt(d event.Data, subject string, at, column time.Time) error {
	err := s.host.Emit(drivers.Observation{Data: d, Time: at, DeviceTime: column, Subject: subject})
	if err != nil {
		return fmt.Errorf("record %s: %w", d.Type(), err)
	}
	return nil
}

func (s *session) diagnose(kind, occupancy, detail string, values map[string]float64) error {
	return s.emit(event.RadiationDiagnostic{
		Kind: kind, OccupancyID: occupancy, Detail: detail, Values: values, Raw: event.RawOf(s.wire),
	}, occupancy)
}
