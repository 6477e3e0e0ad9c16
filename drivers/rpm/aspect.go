package rpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/aspect"
	"github.com/lanepost/lanepost/protocol/event"
)

// AspectPortal is the driver of Aspect portals, whose registers (package aspect) are read
// over Modbus. It never writes.
//
// aspect.go reads the registers, aspectfaults.go tells of what is wrong with them and with
// the portal, aspectoccupancy.go assembles occupancies.
func AspectPortal() drivers.Driver {
	return drivers.Driver{
		Name:    "aspect-portal",
		Summary: "Aspect radiation portal over Modbus, read only",
		Schemes: []string{"modbus-tcp", "modbus-rtu", "modbus-rtu-tcp"},
		Silence: 10 * time.Second,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := defaultAspectSettings()
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			return newAspectPortal(s), nil
		},
	}
}

// Bounds of the settings.
const (
	minAspectEvery = 10 * time.Millisecond
	maxAspectEvery = time.Second
	maxAspectLate  = time.Minute
	minCountTime   = time.Millisecond
	maxCountTime   = 10 * time.Minute
	minStuckAfter  = 10 * time.Second
	maxStuckAfter  = 24 * time.Hour
	minFrozenAfter = 5 * time.Second
	// frozenCounts are the counts that may be alike before a portal is taken for frozen, at the
	// least.
	frozenCounts    = 3
	maxFrozenAfter  = time.Hour
	maxAspectLinger = 10 * time.Second
	maxCounterJump  = 1<<16 - 2
)

// AspectSettings are the settings of the driver "aspect-portal".
type AspectSettings struct {
	// Every is how often the registers are read. The portal keeps nothing for who comes
	// late.
	Every time.Duration `yaml:"every"`
	// LateAfter is how long after a look the next one may come before what was between
	// counts as not observed.
	LateAfter time.Duration `yaml:"late_after"`
	// Description says whether the portal is asked where its registers lie. Base and Size
	// are where they lie if it does not say, or is not asked.
	Description bool `yaml:"description"`
	Base        int  `yaml:"base"`
	Size        int  `yaml:"size"`
	// Neutron says whether the portal has neutron detectors.
	Neutron bool `yaml:"neutron"`
	// CountTime is the time that the portal's counts, and its backgrounds, are of; 0 if it
	// is not known, and then nothing is told in counts per second.
	CountTime time.Duration `yaml:"count_time"`
	// Linger is for how long after the last occupancy input an occupancy stays open: a late
	// alarm and a gap between two axles belong to it then.
	Linger time.Duration `yaml:"linger"`
	// StuckAfter is for how long an occupancy input may be set without a break; 0 for ever.
	StuckAfter time.Duration `yaml:"stuck_after"`
	// FrozenAfter is for how long all registers may stay the very same; 0 for ever.
	FrozenAfter time.Duration `yaml:"frozen_after"`
	// CounterJump is by how much the object counter goes up between two looks at most; more
	// is a counter that was set back.
	CounterJump int `yaml:"counter_jump"`
	// BackgroundInterval, Stall and SeriesLimit are as for "tsa-portal".
	BackgroundInterval time.Duration `yaml:"background_interval"`
	Stall              time.Duration `yaml:"stall"`
	SeriesLimit        int           `yaml:"series_limit"`
}

func defaultAspectSettings() AspectSettings {
	return AspectSettings{
		Every: 150 * time.Millisecond, LateAfter: 500 * time.Millisecond,
		Description: true, Base: aspect.FixedBase, Size: aspect.BlockSize, Neutron: true, CounterJump: 1000,
		BackgroundInterval: time.Minute, Stall: 3 * time.Second, SeriesLimit: 2000,
		StuckAfter: 15 * time.Minute, FrozenAfter: time.Minute,
	}
}

func (s *AspectSettings) check() error {
	description := aspect.Description{Base: uint16(max(0, min(s.Base, 0xffff))), Size: uint16(max(0, min(s.Size, 0xffff)))} //nolint:gosec // bounded
	_, mapErr := description.Map()
	switch {
	case s.Every < minAspectEvery || s.Every > maxAspectEvery:
		return fmt.Errorf("every: %s; take %s to %s, at best 100ms to 200ms: the portal keeps nothing for who comes late", s.Every, minAspectEvery, maxAspectEvery)
	case s.LateAfter < 2*s.Every || s.LateAfter > maxAspectLate:
		return fmt.Errorf("late_after: %s; take twice every (%s) to %s", s.LateAfter, 2*s.Every, maxAspectLate)
	case mapErr != nil || int(description.Base) != s.Base || int(description.Size) != s.Size:
		return fmt.Errorf("base, size: there can't be %d registers at address %d; take 100 and 21, or what the portal's papers say", s.Size, s.Base)
	case s.CountTime != 0 && (s.CountTime < minCountTime || s.CountTime > maxCountTime):
		return fmt.Errorf("count_time: %s; take 0 (not known), or %s to %s", s.CountTime, minCountTime, maxCountTime)
	case s.StuckAfter != 0 && (s.StuckAfter < minStuckAfter || s.StuckAfter > maxStuckAfter):
		return fmt.Errorf("stuck_after: %s; take 0 (for ever), or %s to %s", s.StuckAfter, minStuckAfter, maxStuckAfter)
	case s.FrozenAfter != 0 && (s.FrozenAfter < minFrozenAfter || s.FrozenAfter > maxFrozenAfter):
		return fmt.Errorf("frozen_after: %s; take 0 (for ever), or %s to %s", s.FrozenAfter, minFrozenAfter, maxFrozenAfter)
	case s.FrozenAfter != 0 && s.FrozenAfter < frozenCounts*s.CountTime:
		return fmt.Errorf("frozen_after: %s with a count_time of %s; a portal that is well tells the same for so long: take 0 (for ever), or %s and more", s.FrozenAfter, s.CountTime, frozenCounts*s.CountTime)
	case s.Linger < 0 || s.Linger > maxAspectLinger:
		return fmt.Errorf("linger: %s; take 0 to %s", s.Linger, maxAspectLinger)
	case s.CounterJump < 1 || s.CounterJump > maxCounterJump:
		return fmt.Errorf("counter_jump: %d; take 1 to %d", s.CounterJump, maxCounterJump)
	case s.BackgroundInterval < time.Second || s.BackgroundInterval > 24*time.Hour:
		return fmt.Errorf("background_interval: %s; take 1s to 24h", s.BackgroundInterval)
	case s.Stall < s.LateAfter || s.Stall > 5*time.Minute:
		return fmt.Errorf("stall: %s; take late_after (%s) to 5m", s.Stall, s.LateAfter)
	case s.SeriesLimit < 1 || s.SeriesLimit > 10000:
		return fmt.Errorf("series_limit: %d; take 1 to 10000", s.SeriesLimit)
	}
	return nil
}

// aspectPortal is one portal over all its connections.
type aspectPortal struct {
	settings AspectSettings

	counter     uint16 // of objects, as last read
	haveCounter bool
	faults      map[string]bool // by kind; raised ones are true
	tamper      string          // the last state told; empty if none
	setup       map[string]string
	described   bool   // it told its map since the agent started
	missing     string // what can't be read, as last told
	unread      struct {
		last    string // what can't be read
		changes int    // since it was last told
		told    time.Time
		pace    pace
	}

	edges   map[string]*edge
	button  edge
	stuck   aspect.Inputs // occupancy inputs that say nothing
	block   []byte        // the registers as last read
	changed time.Time     // and when they were first so
	keeper  keeper
	told    *int // the counter up to which all was told
}

func newAspectPortal(s AspectSettings) *aspectPortal {
	return &aspectPortal{
		settings: s, keeper: keeper{key: keptPortal}, faults: map[string]bool{}, edges: map[string]*edge{},
		setup: map[string]string{"block_base": strconv.Itoa(s.Base), "block_size": strconv.Itoa(s.Size)},
	}
}

// aspectSession is one connection to it.
type aspectSession struct {
	p    *aspectPortal
	host drivers.Host
	bus  link.Bus

	place   aspect.Map
	points  []link.Point    // those of the block that can be read
	offsets []int           // their places in the block
	retried time.Time       // when all were last asked for
	retry   bool            // they are now, to see whether those that could not be read can
	absent  map[int]absence // what can't be read, by its place in the block
	probed  time.Time       // when one of those that matter was last asked for alone
	turn    int             // the place of that one

	now    time.Time
	wire   []byte    // the registers in hand
	read   time.Time // when the last ones before were read, zero before the first
	first  bool      // the look in hand is the first of this connection
	late   lateness
	alarms [2]bool   // of gamma and neutron, at the last look
	inside time.Time // since when an occupancy input is set; zero if none is

	occ  *aspectOccupancy // nil unless something is in the portal
	thin aspectThinner
}

// absence is why a register can't be read. One that lasts is asked for seldom.
type absence struct {
	why   string
	lasts bool
}

// Times of asking again.
const (
	// describeTries is how often a portal that can't tell its map now is asked for it,
	// describePause how long it is left alone in between.
	describeTries = 3
	describePause = time.Second
	// probeEvery is how often one of the registers that matter is asked for alone while the
	// portal refuses it: all of them in two seconds.
	probeEvery = 500 * time.Millisecond
)

// watchedBy are the registers without which a vehicle or an alarm passes unseen.
var watchedBy = []aspect.Field{aspect.InputSignals, aspect.GammaStatus, aspect.NeutronStatus, aspect.ObjectCounter}

// Run implements drivers.Instrument.
func (p *aspectPortal) Run(ctx context.Context, conn link.Conn, host drivers.Host) error {
	bus, ok := link.As[link.Bus](conn)
	if !ok {
		return errors.New("this link has no registers to read: the driver and the link do not fit")
	}
	s := &aspectSession{p: p, host: host, bus: bus, now: host.Now(), absent: map[int]absence{}}
	s.thin.since = s.now
	p.recall(host)
	if err := s.describe(ctx); err != nil {
		return s.end(err)
	}
	s.all()
	next := host.Now()
	for {
		samples, err := bus.Sample(ctx, s.points)
		s.now = host.Now()
		if err != nil {
			return s.end(cmp.Or(ctx.Err(), fmt.Errorf("read the portal's registers: %w", err)))
		}
		if err := s.look(samples); err != nil {
			return err
		}
		if err := s.probe(ctx); err != nil {
			return s.end(err)
		}
		// The rhythm is kept as long as the portal is quick enough for it.
		now := host.Now()
		if next = next.Add(p.settings.Every); next.Before(now) {
			next = now
		}
		if err := drivers.Pause(ctx, bus, next.Sub(now)); err != nil {
			return s.end(err)
		}
	}
}

// end emits what is still held, and returns the reason.
func (s *aspectSession) end(reason error) error {
	if s.occ != nil {
		s.now = s.host.Now()
		if err := s.close(event.EndDisconnected); err != nil {
			return err
		}
	}
	s.keep()
	return reason
}

// recall takes up what was kept when the agent ran last.
func (p *aspectPortal) recall(host drivers.Host) {
	var k keptState
	if !p.keeper.recall(host, &k) {
		return
	}
	if k.Counter != nil && *k.Counter >= 0 && *k.Counter <= math.MaxUint16 {
		p.counter, p.haveCounter, p.told = uint16(*k.Counter), true, k.Counter //nolint:gosec // bounded
	}
	for _, kind := range k.Faults {
		p.faults[kind] = true
	}
	p.tamper = k.Tamper
}

// keep makes durable what has changed. The number of an object counts when all of it is told.
func (s *aspectSession) keep() {
	p := s.p
	if s.occ == nil && p.haveCounter {
		n := int(p.counter)
		p.told = &n
	}
	k := keptState{Counter: p.told, Tamper: p.tamper}
	for kind, raised := range p.faults {
		if raised {
			k.Faults = append(k.Faults, kind)
		}
	}
	slices.Sort(k.Faults)
	p.keeper.keep(s.host, k)
}

// describe asks where the block lies.
func (s *aspectSession) describe(ctx context.Context) error {
	p := s.p
	s.place = aspect.Map{Base: p.settings.Base, Size: p.settings.Size}
	if !p.settings.Description {
		return nil
	}
	points := make([]link.Point, aspect.DescriptionSize)
	for i := range points {
		points[i] = register(aspect.DescriptionAddress + i)
	}
	var words [aspect.DescriptionSize]uint16
	for try := 1; ; try++ {
		samples, err := s.bus.Sample(ctx, points)
		s.now = s.host.Now()
		if err != nil {
			return cmp.Or(ctx.Err(), fmt.Errorf("read the description of the portal's registers: %w", err))
		}
		why, lasts := error(nil), false
		s.wire = s.wire[:0]
		for i, x := range samples {
			if x.Err != nil && !lasts {
				why, lasts = x.Err, lasting(x.Err)
			}
			words[i] = uint16(x.Value)
			s.wire = append(s.wire, byte(words[i]>>8), byte(words[i]))
		}
		if why == nil {
			break
		}
		if lasts {
			return s.undescribed(fmt.Sprintf("the portal gives no description of its registers any more (%s)", why))
		}
		// A portal that is busy now may well have one, and what lies at the usual place is
		// something else then.
		if try == describeTries {
			return fmt.Errorf("the portal can't say now where its registers lie, and without that they can't be told apart; "+
				"if its papers say where, set base, size and description: false: %w", why)
		}
		if err := drivers.Pause(ctx, s.bus, describePause); err != nil {
			return err
		}
	}
	d, err := aspect.ParseDescription(words)
	if err != nil {
		return s.undescribed(err.Error())
	}
	place, err := d.Map()
	if err != nil {
		return s.diagnose(event.DiagRegisterMap, "",
			fmt.Sprintf("%s; registers %d to %d were read in its place. Compare with the portal's papers, and set base, size and description: false", err, s.place.Base, s.place.Base+s.place.Size-1),
			map[string]float64{"block_base": float64(d.Base), "block_size": float64(d.Size)})
	}
	s.place = place
	return s.described(d)
}

// undescribed tells that a portal which had a description has none now; one that never had
// is as it should be.
func (s *aspectSession) undescribed(why string) error {
	if !s.p.described {
		return nil
	}
	return s.diagnose(event.DiagRegisterMap, "",
		fmt.Sprintf("%s, and had one before: is it another device? Registers %d to %d are read", why, s.place.Base, s.place.Base+s.place.Size-1), nil)
}

func (s *aspectSession) described(d aspect.Description) error {
	setup := map[string]string{
		"signature": fmt.Sprintf("0x%04x", d.Signature), "registers": strconv.Itoa(int(d.Registers)), "block_id": strconv.Itoa(int(d.BlockID)),
		"block_base": strconv.Itoa(int(d.Base)), "block_size": strconv.Itoa(int(d.Size)),
	}
	first := !s.p.described
	changes := []event.SetupChange{}
	for _, name := range []string{"signature", "registers", "block_id", "block_base", "block_size"} {
		if before, known := s.p.setup[name]; known && before != setup[name] {
			changes = append(changes, event.SetupChange{Name: name, Before: before, After: setup[name]})
		}
	}
	s.p.setup, s.p.described = setup, true
	if !first && len(changes) == 0 {
		return nil
	}
	return s.emit(event.RadiationSetupChanged{First: first, Changes: changes, Setup: setup, Raw: event.RawOf(s.wire)}, "")
}

func register(address int) link.Point {
	return link.Point{At: "holding:" + strconv.Itoa(address), Type: "u16"}
}

// all asks for every register of the block from now on.
func (s *aspectSession) all() {
	s.points, s.offsets, s.retried = nil, nil, s.host.Now()
	for i := range s.place.Readable() {
		s.points, s.offsets = append(s.points, register(s.place.Base+i)), append(s.offsets, i)
	}
}

// look takes what was read.
func (s *aspectSession) look(samples []link.Sample) error {
	retry := s.retry
	s.retry = false
	var r aspect.Registers
	var why error
	for i, x := range samples {
		at := s.offsets[i]
		if x.Err != nil {
			why = x.Err
			s.absent[at] = absence{strings.TrimPrefix(x.Err.Error(), s.points[i].At+": "), lasting(x.Err)}
			continue
		}
		delete(s.absent, at)
		r.Words[at], r.Read[at] = uint16(x.Value), true
	}
	s.wire = r.Bytes()
	if len(s.wire) == 0 {
		return s.nothing(why)
	}
	if err := s.tellAbsent(); err != nil {
		return err
	}
	b, problems := aspect.Decode(r)
	if problems != nil {
		s.host.Unparsed(problems.Error(), slices.Clone(s.wire))
	}
	watched := s.watched(b)
	if watched {
		s.host.Valid()
	}
	if err := s.lateLook(retry); err != nil {
		return err
	}
	s.first, s.read = s.read.IsZero(), s.now
	if err := s.frozen(); err != nil {
		return err
	}
	if err := s.faultEdges(b); err != nil {
		return err
	}
	if err := s.passages(b); err != nil {
		return err
	}
	s.choose()
	if s.occ == nil && watched {
		if err := s.background(b); err != nil {
			return err
		}
	}
	s.keep()
	return nil
}

// watched says whether the look shows a vehicle and an alarm of it. A portal that tells
// neither is as good as silent.
func (s *aspectSession) watched(b aspect.Block) bool {
	has := b.Read.Has
	return (has(aspect.InputSignals) || has(aspect.ObjectCounter)) && (has(aspect.GammaStatus) || has(aspect.NeutronStatus))
}

// lasting says whether what can't be read now can't be read at the next look either.
func lasting(err error) bool {
	var refused *link.Exception
	return errors.As(err, &refused) && refused.Lasts()
}

// probe asks for one of the registers that matter, if the portal refuses some, also while a
// vehicle is in it: alone, so that a portal that never has it is asked one short question
// more. When it is there again all are asked for.
func (s *aspectSession) probe(ctx context.Context) error {
	if len(s.absent) == 0 || s.host.Now().Sub(s.probed) < probeEvery {
		return nil
	}
	s.probed = s.host.Now()
	for range watchedBy {
		s.turn = (s.turn + 1) % len(watchedBy)
		place := watchedBy[s.turn].Offset()
		if x, absent := s.absent[place]; !absent || !x.lasts {
			continue
		}
		samples, err := s.bus.Sample(ctx, []link.Point{register(s.place.Base + place)})
		if err != nil {
			return cmp.Or(ctx.Err(), fmt.Errorf("read the portal's registers: %w", err))
		}
		if !lasting(samples[0].Err) {
			s.all()
			s.retry = true
		}
		return nil
	}
	return nil
}

// choose says what is read next. What the portal does not have is asked for seldom, and while
// the portal is free: the rest comes in one request then. What it can't tell at the moment is
// asked for again at the next look.
func (s *aspectSession) choose() {
	switch {
	case len(s.absent) == 0 && len(s.points) == s.place.Readable():
		return
	case s.occ == nil && s.now.Sub(s.retried) >= s.p.settings.BackgroundInterval:
		s.all()
		s.retry = true
		return
	}
	s.points, s.offsets = nil, nil
	for i := range s.place.Readable() {
		if !s.absent[i].lasts {
			s.points, s.offsets = append(s.points, register(s.place.Base+i)), append(s.offsets, i)
		}
	}
}

// nothing handles a look that gave no register at all. That is no reading, and not a free
// portal.
func (s *aspectSession) nothing(why error) error {
	s.all()
	if s.occ != nil {
		s.occ.damaged = true
		if s.now.Sub(s.read) >= s.p.settings.Stall {
			if err := s.close(event.EndStalled); err != nil {
				return err
			}
		}
	}
	return s.tellMissing(fmt.Sprintf("no register of the portal can be read (%s); no vehicle is watched", why))
}

func (s *aspectSession) emit(d event.Data, subject string) error {
	err := s.host.Emit(drivers.Observation{Data: d, Time: s.now, Subject: subject})
	if err != nil {
		return fmt.Errorf("record %s: %w", d.Type(), err)
	}
	return nil
}

func (s *aspectSession) diagnose(kind, occupancy, detail string, values map[string]float64) error {
	return s.emit(event.RadiationDiagnostic{
		Kind: kind, OccupancyID: occupancy, Detail: detail, Values: values, Raw: event.RawOf(s.wire),
	}, occupancy)
}
