package rpm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// Bounds and times of area monitors.
const (
	areaRead    = 16 << 10
	minEvery    = 10 * time.Millisecond
	maxEvery    = time.Minute
	minInterval = time.Second
	maxInterval = time.Hour
	maxClear    = 10 * time.Minute
	maxFrozen   = 24 * time.Hour
	// startGap parts what is sent to make an instrument talk: it needs a moment to wake up.
	startGap = 50 * time.Millisecond
	// startAgain is after how long without a frame it is told to talk once more: it may have
	// been out of its cradle.
	startAgain = 15 * time.Second
	// answerIn is how long an answer may take that has begun.
	answerIn = 2 * time.Second
	// noAnswer ends a connection on which a request is not answered, where one is open at a time.
	noAnswer = 10 * time.Second
	// burstSpan is over how many times Every what comes unasked, one close after the other, is
	// taken for one answer.
	burstSpan = 5
	// shortest is the shortest time of which a rate is made from two doses.
	shortest = 10 * time.Millisecond
	// counterHour makes a dose rate in uSv/h of pSv in a second.
	counterHour = 3600 * 1e-6
)

// AreaMonitor is the driver of area monitors and hand-held dose rate meters whose formats are
// public: those of package ratemeter.
func AreaMonitor() drivers.Driver {
	return drivers.Driver{
		Name:    "area-monitor",
		Summary: "radiation area monitor or hand-held instrument, listened to or asked",
		Schemes: []string{"serial", "tcp"},
		Silence: 30 * time.Second,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := defaultAreaSettings()
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newAreaMonitor(s)
		},
	}
}

// AreaSettings are the settings of an area monitor.
type AreaSettings struct {
	// Format is how the instrument tells what it measures: one of ratemeter.Names.
	Format string `yaml:"format"`
	// Checksum, Address, Channels, NoError and LiveTime are those of ratemeter.Options.
	Checksum string   `yaml:"checksum"`
	Address  int      `yaml:"address"`
	Channels []string `yaml:"channels"`
	NoError  string   `yaml:"no_error"`
	LiveTime string   `yaml:"live_time"`
	// Unit is that of an instrument which tells none: one of ratemeter.Units. Without it the
	// figures stay as the instrument tells them.
	Unit string `yaml:"unit"`
	// USvPerMR is how many microsieverts a milliroentgen counts for.
	USvPerMR float64 `yaml:"usv_per_mr"`
	// Ask sends what the format needs to talk: requests that read, each Every, and for a RadEye
	// what turns its sending on. Without it nothing is sent.
	Ask   bool          `yaml:"ask"`
	Every time.Duration `yaml:"every"`
	// Interval is what one event covers.
	Interval time.Duration `yaml:"interval"`
	// AlarmAboveUSvH and AlarmAboveCPS are the agent's own thresholds for each channel; 0 for
	// none. ClearAfter is how long it must be below until such an alarm is over.
	AlarmAboveUSvH float64       `yaml:"alarm_above_usvh"`
	AlarmAboveCPS  float64       `yaml:"alarm_above_cps"`
	ClearAfter     time.Duration `yaml:"clear_after"`
	// FrozenAfter is how long the instrument may tell the very same until that is a fault; 0
	// for ever.
	FrozenAfter time.Duration `yaml:"frozen_after"`
}

// areaMonitor is one instrument over all its connections.
type areaMonitor struct {
	settings AreaSettings
	format   ratemeter.Format

	keeper  keeper
	orphans bool // what nothing watches any more is to be ended

	told   bool // an event of what it measures went out
	alarms map[alarmKey]*standing
	faults map[alarmKey]bool
	// values are the last of each channel.
	values map[string]rateValue
	// same are the last frames with values, by their first channel.
	same map[string]sameFrame
}

// sameFrame is a frame and when it came first.
type sameFrame struct {
	frame []byte
	since time.Time
}

// rateValue is a value in the unit of its quantity, with what the instrument told.
type rateValue struct {
	v                    float64
	channel, quantity    string
	unit, text, unitText string
}

func newAreaMonitor(s AreaSettings) (*areaMonitor, error) {
	f, err := ratemeter.Lookup(s.Format, ratemeter.Options{Checksum: s.Checksum, Address: s.Address, Channels: s.Channels, NoError: s.NoError, LiveTime: s.LiveTime})
	switch {
	case err != nil:
		return nil, err
	case s.Unit != "" && !slices.Contains(ratemeter.Units(), s.Unit):
		return nil, fmt.Errorf("unit: %q is not known; take %s", s.Unit, strings.Join(ratemeter.Units(), ", "))
	case s.Every < minEvery || s.Every > maxEvery:
		return nil, fmt.Errorf("every: %s; take %s to %s", s.Every, minEvery, maxEvery)
	}
	m, err := newRatesMonitor(s)
	if err != nil {
		return nil, err
	}
	if err := s.useless(); err != nil {
		return nil, err
	}
	m.format = f
	return m, nil
}

// newRatesMonitor checks the settings that do not depend on the format.
func newRatesMonitor(s AreaSettings) (*areaMonitor, error) {
	switch {
	case !(s.USvPerMR > 0 && s.USvPerMR <= 100):
		return nil, fmt.Errorf("usv_per_mr: %g; take more than 0 and at most 100", s.USvPerMR)
	case s.Interval < minInterval || s.Interval > maxInterval:
		return nil, fmt.Errorf("interval: %s; take %s to %s", s.Interval, minInterval, maxInterval)
	case !(s.AlarmAboveUSvH >= 0):
		return nil, fmt.Errorf("alarm_above_usvh: %g; take 0 for none, or more", s.AlarmAboveUSvH)
	case !(s.AlarmAboveCPS >= 0):
		return nil, fmt.Errorf("alarm_above_cps: %g; take 0 for none, or more", s.AlarmAboveCPS)
	case s.ClearAfter < 0 || s.ClearAfter > maxClear:
		return nil, fmt.Errorf("clear_after: %s; take 0 to %s", s.ClearAfter, maxClear)
	case s.FrozenAfter < 0 || s.FrozenAfter > maxFrozen:
		return nil, fmt.Errorf("frozen_after: %s; take 0 to %s", s.FrozenAfter, maxFrozen)
	}
	return &areaMonitor{settings: s, keeper: keeper{key: keptMonitor}, alarms: map[alarmKey]*standing{}, faults: map[alarmKey]bool{}, values: map[string]rateValue{}, same: map[string]sameFrame{}}, nil
}

// areaSession is one connection.
type areaSession struct {
	*areaMonitor
	conn link.Conn
	h    drivers.Host

	frames  *ratemeter.Splitter
	started int       // what of Start was sent
	turn    int       // which request is next
	ask     time.Time // when something is to be sent next
	asked   time.Time // when a request was sent, or an answer came unasked
	heard   time.Time // when the last frame came

	counters map[string]doseCounter
	open     bool          // a request is not answered yet, of a format that counts
	at       time.Time     // when the counters of the reading in hand were so,
	delay    time.Duration // give or take half of this
	held     heldCounts
	thin     rates
}

type doseCounter struct {
	v     float64
	at    time.Time
	delay time.Duration
}

// heldCounts are counters that came unasked: what a stalled network held up comes all at once,
// and only the last of it is of now.
type heldCounts struct {
	r         ratemeter.Reading
	frame     []byte // nil if none are held
	first, at time.Time
}

// due is when no more of a burst is waited for.
func (x heldCounts) due(every time.Duration) time.Time {
	due := x.at.Add(every / 2)
	if last := x.first.Add(burstSpan * every); due.After(last) {
		return last
	}
	return due
}

// begin begins a connection.
func (a *areaMonitor) begin(conn link.Conn, h drivers.Host) *areaSession {
	a.recall(h)
	now := h.Now()
	s := &areaSession{
		areaMonitor: a, conn: conn, h: h, frames: ratemeter.NewSplitter(a.format), ask: now, heard: now,
		counters: map[string]doseCounter{}, thin: rates{since: now},
	}
	for _, x := range a.alarms {
		x.interrupted, x.below = true, time.Time{}
	}
	clear(a.same)
	clear(a.values) // they are of another time
	return s
}

// Run implements drivers.Instrument.
func (a *areaMonitor) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	s := a.begin(conn, h)
	buf := make([]byte, areaRead)
	for {
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		if err := s.talk(h.Now()); err != nil {
			return s.end(err)
		}
		if now := h.Now(); !now.Before(s.thin.since.Add(a.settings.Interval)) {
			if err := s.summary(now); err != nil {
				return err
			}
		}
		if s.held.frame != nil && !h.Now().Before(s.held.due(a.settings.Every)) {
			if err := s.release(); err != nil {
				return err
			}
		}
		deadline := s.thin.since.Add(a.settings.Interval)
		if s.held.frame != nil {
			deadline = drivers.Sooner(deadline, s.held.due(a.settings.Every))
		}
		if s.asks() && s.ask.Before(deadline) {
			deadline = s.ask
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return s.end(fmt.Errorf("set the read deadline of the monitor's link: %w", err))
		}
		if err := ctx.Err(); err != nil {
			return s.end(err)
		}
		n, err := conn.Read(buf)
		s.frames.Write(buf[:n])
		if err := s.take(); err != nil {
			return err
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.end(ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return s.end(fmt.Errorf("read from the monitor: %w", err))
		}
	}
}

// errCut ends a connection on which nobody can tell any more where an answer begins.
var errCut = errors.New("the monitor's answer did not come whole, and where the next one begins can't be seen: connect anew")

// errNoAnswer ends a connection on which an answer is awaited for too long: one that came later
// could not be told from that to another request.
var errNoAnswer = fmt.Errorf("the monitor did not answer a request within %s: connect anew", noAnswer)

// asks reports whether anything is sent at all.
func (s *areaSession) asks() bool {
	return s.settings.Ask && len(s.format.Start)+len(s.format.Requests) > 0
}

// talk sends what is due.
func (s *areaSession) talk(now time.Time) error {
	if !s.asks() || now.Before(s.ask) {
		return nil
	}
	start, requests := s.format.Start, s.format.Requests
	if s.started == len(start) && len(requests) == 0 {
		if s.ask = s.heard.Add(startAgain); now.Before(s.ask) {
			return nil
		}
		s.started = 0
	}
	var b []byte
	if s.started < len(start) {
		b = start[s.started]
		s.started++
		s.ask = now.Add(startGap)
		if s.started == len(start) && len(requests) == 0 {
			s.heard = now // it has its time to answer
		}
	} else {
		if s.format.ByTime && s.frames.Waiting() > 0 {
			if now.Sub(s.asked) < min(max(answerIn, 2*s.settings.Every), noAnswer) {
				s.ask = drivers.Sooner(now.Add(s.settings.Every), s.asked.Add(noAnswer))
				return nil
			}
			p, _ := s.frames.Flush()
			s.h.Unparsed(fmt.Sprintf("%s: %d bytes of an answer that did not come whole", s.format.Name, len(p.Bytes)), p.Bytes)
			return errCut
		}
		if s.open {
			if now.Sub(s.asked) >= noAnswer {
				return errNoAnswer
			}
			s.ask = drivers.Sooner(now.Add(s.settings.Every), s.asked.Add(noAnswer))
			return nil
		}
		s.asked = now
		b = requests[s.turn]
		s.turn = (s.turn + 1) % len(requests)
		s.ask = now.Add(s.settings.Every)
		if s.open = s.format.Counts; s.open {
			s.ask = drivers.Sooner(s.ask, now.Add(noAnswer))
		}
	}
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("ask the monitor: %w", err)
	}
	return nil
}

// take reads what has come.
func (s *areaSession) take() error {
	for p, ok := s.frames.Next(); ok; p, ok = s.frames.Next() {
		if p.Junk {
			if !p.First {
				s.h.Unparsed(s.format.Name+": bytes that belong to no frame", p.Bytes)
			}
			continue
		}
		r, err := s.format.Parse(p.Bytes)
		if err != nil {
			if !p.First {
				s.h.Unparsed(err.Error(), p.Bytes)
			}
			continue
		}
		if !r.Bare { // one that measures nothing any more must fall silent
			s.h.Valid()
		}
		now := s.h.Now()
		switch {
		case s.format.Counts && s.open:
			s.open, s.ask = false, s.asked.Add(s.settings.Every)
			if err := s.release(); err != nil {
				return err
			}
			s.delay = now.Sub(s.asked) // it is of a moment after the request and before the answer
			s.at = s.asked.Add(s.delay / 2)
		case s.format.Counts:
			s.hold(now, r, p.Bytes)
			continue
		}
		if err := s.reading(now, r, p.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps counters that nobody has asked for, until it is seen whether more come with them.
func (s *areaSession) hold(now time.Time, r ratemeter.Reading, frame []byte) {
	if s.held.frame == nil {
		s.held.first = now
	} else {
		s.thin.frames++ // the one that was held
	}
	s.held.r, s.held.frame, s.held.at = r, bytes.Clone(frame), now
	if s.asks() {
		s.asked, s.ask = now, now.Add(s.settings.Every) // somebody else asks, or it talks by itself
	}
}

// release takes the counters that are held.
func (s *areaSession) release() error {
	x := s.held
	if x.frame == nil {
		return nil
	}
	s.held = heldCounts{}
	s.at, s.delay = x.at, s.settings.Every/4
	return s.reading(s.h.Now(), x.r, x.frame)
}

// reading takes one frame. Alarms and faults go out at once.
func (s *areaSession) reading(now time.Time, r ratemeter.Reading, frame []byte) error {
	defer s.keep()
	s.heard = now
	t := &s.thin
	t.frames++
	t.status = t.status || r.Status
	t.raw = append(t.raw[:0], frame...)
	t.instrument = cmp.Or(r.ID, t.instrument)
	for _, f := range r.Flags {
		t.flag(f)
	}
	if err := s.dropOrphans(now, frame); err != nil {
		return err
	}
	frozen, err := s.frozen(now, r, frame)
	if err != nil {
		return err
	}
	var values []rateValue
	if !frozen {
		values = s.rates(r)
	}
	for _, v := range values {
		s.values[v.channel] = v
		t.add(v)
	}
	switch {
	case r.Over:
		t.over++
		t.flag(event.RateOverload)
	case r.NoValue || frozen:
		t.noValue++
	}
	if r.Over || r.NoValue {
		clear(s.values)
	}
	if err := s.faultEdges(now, r, frame); err != nil {
		return err
	}
	if err := s.alarmEdges(now, r, values, frozen, frame); err != nil {
		return err
	}
	if !s.told && (len(values) > 0 || r.Over || r.NoValue || frozen) {
		return s.summary(now)
	}
	return nil
}

// rates gives the values of a frame in their units. Of counters whose times are known too badly
// there are none: the next ones will do, and then for all the time since the last.
func (s *areaSession) rates(r ratemeter.Reading) (list []rateValue) {
	for _, v := range r.Values {
		x := rateValue{channel: v.Channel, text: v.Text, unitText: cmp.Or(v.UnitText, v.Unit, s.settings.Unit)}
		if !v.Counter {
			unit := v.Unit
			if v.UnitText == "" { // where it told one that nobody knows, no other is put in its place
				unit = cmp.Or(unit, s.settings.Unit)
			}
			x.v, x.quantity, x.unit = ratemeter.SI(v.Value, unit, s.settings.USvPerMR)
			if x.quantity == "unknown" {
				s.thin.flag(event.RateUnitUnknown)
			}
			list = append(list, x)
			continue
		}
		before, known := s.counters[v.Channel]
		elapsed := s.at.Sub(before.at)
		if known && elapsed < max(shortest, s.delay+before.delay) {
			continue
		}
		s.counters[v.Channel] = doseCounter{v.Value, s.at, s.delay}
		switch {
		case !known:
		case v.Value < before.v:
			s.thin.flag(event.RateCounterReset)
		default:
			x.v, x.quantity, x.unit = ratemeter.SI((v.Value-before.v)/elapsed.Seconds()*counterHour, "uSv/h", 0)
			list = append(list, x)
		}
	}
	return list
}

// frozen tells whether the instrument has told the very same for too long.
func (s *areaSession) frozen(now time.Time, r ratemeter.Reading, frame []byte) (bool, error) {
	if s.settings.FrozenAfter == 0 || len(r.Values) == 0 {
		return false, nil
	}
	channel := r.Values[0].Channel
	if !bytes.Equal(frame, s.same[channel].frame) {
		s.same[channel] = sameFrame{bytes.Clone(frame), now}
	}
	frozen := now.Sub(s.same[channel].since) >= s.settings.FrozenAfter
	if frozen {
		s.thin.flag(event.RateFrozen)
	}
	return frozen, s.fault(now, ratemeter.Fault{Kind: event.RateFrozen}, channel, frozen, frame)
}

// end tells what is held when the connection is over.
func (s *areaSession) end(reason error) error {
	if err := s.release(); err != nil {
		return err
	}
	if s.thin.frames > 0 {
		if err := s.summary(s.h.Now()); err != nil {
			return err
		}
	}
	return reason
}
