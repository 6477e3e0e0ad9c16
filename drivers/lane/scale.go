// Package lane holds the drivers of a lane's other instruments.
package lane

import (
	"bytes"
	"context"
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
	"github.com/lanepost/lanepost/protocol/scale"
)

// Bounds and times of a scale.
const (
	scaleRead = 4 << 10
	// maxWeights bounds the weights of a load that stands still which are kept for the
	// median.
	maxWeights = 4096
	minAsk     = 50 * time.Millisecond
	maxAsk     = time.Minute
	maxLoad    = 200_000 // kg; the heaviest scale of a lane weighs less
	maxLongest = 24 * time.Hour
	// zeroSettles is how long a scale that was left may take until it tells zero.
	zeroSettles = 2 * time.Second
)

// Scale is the driver of weighing indicators.
func Scale() drivers.Driver {
	return drivers.Driver{
		Name:    "scale",
		Summary: "truck scale, continuous output or asked for",
		Schemes: []string{"serial", "tcp"},
		Silence: 30 * time.Second,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := ScaleSettings{Format: "toledo", Unit: "kg", EmptyBelowKG: 200, ZeroWithinKG: 40, StableFor: time.Second, SameWithinKG: 20, Longest: 15 * time.Minute, Every: 200 * time.Millisecond}
			if err := decode(&s); err != nil {
				return nil, err
			}
			return newWeigher(s)
		},
	}
}

// ScaleSettings are the settings of a scale.
type ScaleSettings struct {
	// Format is how the indicator tells weights: one of scale.Names.
	Format string `yaml:"format"`
	// Checksum of Toledo frames; StableBit is the value of SCP-01's motion bit that means
	// a stable load.
	Checksum  bool `yaml:"checksum"`
	StableBit bool `yaml:"stable_bit"`
	// Unit is that of formats which tell none: kg, g, t or lb.
	Unit string `yaml:"unit"`
	// Ask sends the format's request again and again, each Every, for an indicator that
	// does not talk by itself. Request is another one, with \r and \n.
	Ask     bool          `yaml:"ask"`
	Request string        `yaml:"request"`
	Every   time.Duration `yaml:"every"`
	// EmptyBelowKG is the weight below which nothing stands on the scale, ZeroWithinKG how
	// far from zero it may be then.
	EmptyBelowKG float64 `yaml:"empty_below_kg"`
	ZeroWithinKG float64 `yaml:"zero_within_kg"`
	// StableFor is how long a weight must stay within SameWithinKG to be stable, where the
	// format has no word for it.
	StableFor    time.Duration `yaml:"stable_for"`
	SameWithinKG float64       `yaml:"same_within_kg"`
	// Longest is how long a weighing takes at the most. What stands longer is told, and
	// told again when it leaves.
	Longest time.Duration `yaml:"longest"`
	// AxleGap is how long it takes at the most until the next axle is on a scale that weighs
	// one axle at a time; 0 for a scale that takes the whole vehicle.
	AxleGap time.Duration `yaml:"axle_gap"`
}

type weigher struct {
	settings ScaleSettings
	format   scale.Format
	request  []byte

	axles axles

	w *weighing
	// told: what stands on the scale was told already, being there for too long.
	told bool
	// steady is what formats without a word for motion are judged by.
	steady struct {
		kg    float64
		since time.Time
	}
	last      []byte // the last frame, to see that it is the very same
	lastSince time.Time
}

// weighing is one load.
type weighing struct {
	began        time.Time
	left         time.Time // when it told less than a vehicle weighs; zero before
	weights      []float64 // while it stood still
	stable       int
	readings     int
	peak         float64
	hasPeak      bool
	tare         float64
	hasTare, net bool
	stood, moved bool
	flags        []string
	unit, record string
	raw, still   []byte
}

func newWeigher(s ScaleSettings) (*weigher, error) {
	f, ok := scale.Lookup(s.Format, scale.Options{Checksum: s.Checksum, StableBit: s.StableBit})
	switch {
	case !ok:
		return nil, fmt.Errorf("format: %q is not known; there are %s", s.Format, strings.Join(scale.Names(), ", "))
	case !slices.Contains([]string{"kg", "g", "t", "lb"}, s.Unit):
		return nil, fmt.Errorf("unit: %q is not known; take kg, g, t or lb", s.Unit)
	case s.EmptyBelowKG <= 0 || s.EmptyBelowKG > maxLoad:
		return nil, fmt.Errorf("empty_below_kg: %g; take more than 0 and at most %d", s.EmptyBelowKG, maxLoad)
	case s.ZeroWithinKG < 0 || s.ZeroWithinKG >= s.EmptyBelowKG:
		return nil, fmt.Errorf("zero_within_kg: %g; take 0 to less than empty_below_kg", s.ZeroWithinKG)
	case s.SameWithinKG < 0 || s.SameWithinKG > maxLoad:
		return nil, fmt.Errorf("same_within_kg: %g; take 0 to %d", s.SameWithinKG, maxLoad)
	case s.StableFor < 0 || s.StableFor > time.Minute:
		return nil, fmt.Errorf("stable_for: %s; take 0 to 1m", s.StableFor)
	case s.Longest < time.Second || s.Longest > maxLongest:
		return nil, fmt.Errorf("longest: %s; take 1s to %s", s.Longest, maxLongest)
	case s.AxleGap < 0 || s.AxleGap > time.Minute:
		return nil, fmt.Errorf("axle_gap: %s; take 0 to 1m", s.AxleGap)
	case s.Every < minAsk || s.Every > maxAsk:
		return nil, fmt.Errorf("every: %s; take %s to %s", s.Every, minAsk, maxAsk)
	case len(s.Request) > 64:
		return nil, errors.New("request: more than 64 bytes are not sent")
	}
	w := &weigher{settings: s, format: f}
	if s.Ask {
		request := s.Request
		if request == "" {
			request = f.Request
		}
		if request == "" {
			return nil, fmt.Errorf("ask: the format %s has no request that is known; set request", s.Format)
		}
		w.request = []byte(request)
	}
	return w, nil
}

// Run implements drivers.Instrument.
func (w *weigher) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	frames := scale.NewSplitter(w.format)
	buf := make([]byte, scaleRead)
	asked := time.Time{}
	for {
		if err := ctx.Err(); err != nil {
			return w.interrupted(h, err)
		}
		deadline := time.Time{}
		if w.request != nil {
			if now := h.Now(); now.Sub(asked) >= w.settings.Every {
				asked = now
				if _, err := conn.Write(w.request); err != nil {
					return w.interrupted(h, fmt.Errorf("ask the scale: %w", err))
				}
			}
			deadline = asked.Add(w.settings.Every)
		}
		if err := conn.SetReadDeadline(deadline); err != nil {
			return w.interrupted(h, fmt.Errorf("set the read deadline of the scale's link: %w", err))
		}
		if err := ctx.Err(); err != nil {
			return w.interrupted(h, err)
		}
		n, err := conn.Read(buf)
		frames.Write(buf[:n])
		if err := w.take(frames, h); err != nil {
			return err
		}
		switch {
		case err == nil:
		case ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) && w.request != nil:
		case ctx.Err() != nil:
			return w.interrupted(h, ctx.Err())
		default:
			return w.interrupted(h, fmt.Errorf("read from the scale: %w", err))
		}
	}
}

func (w *weigher) take(frames *scale.Splitter, h drivers.Host) error {
	for frame, ok := frames.Next(); ok; frame, ok = frames.Next() {
		r, err := w.format.Parse(frame)
		if err != nil {
			h.Unparsed(err.Error(), frame)
			continue
		}
		h.Valid()
		if err := w.reading(h, r, frame); err != nil {
			return err
		}
	}
	return nil
}

func (w *weigher) flag(name string) {
	if !slices.Contains(w.w.flags, name) {
		w.w.flags = append(w.w.flags, name)
	}
}

// reading takes one weight.
func (w *weigher) reading(h drivers.Host, r scale.Reading, frame []byte) error {
	now, s := h.Now(), w.settings
	kg := scale.KG(r.Value, r.Unit, s.Unit)
	valid := !r.Over && !r.Under && !r.NoValue && kg <= maxLoad && kg >= -maxLoad
	if !bytes.Equal(frame, w.last) {
		w.last, w.lastSince = bytes.Clone(frame), now
	}
	occupied := r.Over || valid && kg >= s.EmptyBelowKG
	if !occupied {
		w.told = false
		if w.w == nil {
			return w.axles.passed(h, now, s.AxleGap)
		}
		if w.w.left.IsZero() {
			w.w.left = now
		}
		if valid && (kg > s.ZeroWithinKG || kg < -s.ZeroWithinKG) {
			// The last axle is leaving, perhaps.
			if r.Motion != scale.Stable && now.Sub(w.w.left) < zeroSettles {
				return nil
			}
			w.flag("zero_not_returned")
		}
		if valid && kg < 0 {
			w.flag("negative")
		}
		if r.Under {
			w.flag("underload")
		}
		return w.finish(h, now)
	}
	if w.w != nil && !w.w.left.IsZero() { // the next one follows at once
		if err := w.finish(h, now); err != nil {
			return err
		}
	}
	if w.told {
		return nil
	}
	if w.w == nil {
		w.w = &weighing{began: now}
		w.steady.kg, w.steady.since = kg, now
	}
	x := w.w
	x.readings++
	x.raw = bytes.Clone(frame)
	if r.Unit != "" {
		if x.unit != "" && x.unit != r.Unit {
			w.flag("unit_changed")
		}
		x.unit = r.Unit
	}
	if r.Over {
		w.flag("overload")
	}
	if valid {
		x.peak, x.hasPeak = max(x.peak, kg), true
		x.net = x.net || r.Net
		if r.HasTare {
			x.tare, x.hasTare = scale.KG(r.Tare, r.Unit, s.Unit), true
		}
		if r.Record != "" {
			x.record = r.Record
		}
		still := r.Motion == scale.Stable
		if r.Motion == scale.Unknown {
			if kg > w.steady.kg+s.SameWithinKG || kg < w.steady.kg-s.SameWithinKG {
				w.steady.kg, w.steady.since = kg, now
			}
			still = now.Sub(w.steady.since) >= s.StableFor
		}
		switch {
		case still:
			x.stood = true
			x.stable++
			x.still = x.raw
			if len(x.weights) < maxWeights {
				x.weights = append(x.weights, kg)
			}
		case x.stood && (r.Motion == scale.Moving || now.Sub(w.steady.since) < s.StableFor):
			x.moved = true
		}
	}
	if now.Sub(x.began) >= s.Longest {
		w.flag("still_there")
		if now.Sub(w.lastSince) >= s.Longest/2 {
			w.flag("frozen")
		}
		w.told = true
		return w.finish(h, now)
	}
	return nil
}

// interrupted tells what is known of a load when the link breaks.
func (w *weigher) interrupted(h drivers.Host, reason error) error {
	if w.w != nil {
		if w.w.left.IsZero() {
			w.flag("interrupted")
		}
		if err := w.finish(h, h.Now()); err != nil {
			return err
		}
	}
	if err := w.axles.tell(h); err != nil {
		return err
	}
	return reason
}

// finish makes the event.
func (w *weigher) finish(h drivers.Host, now time.Time) error {
	x := w.w
	if !x.left.IsZero() {
		now = x.left
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of a weighing: %w", err)
	}
	raw := x.raw
	if x.still != nil {
		raw = x.still
	}
	e := event.LaneWeight{
		WeighingID: id.String(), Outcome: event.WeightNone, Net: x.net, Readings: x.readings, StableReadings: x.stable, Moved: x.moved,
		Flags: append([]string{}, x.flags...), UnitRaw: x.unit, RecordID: x.record,
		StartedTS: event.At(x.began), EndedTS: event.At(now), DurationS: now.Sub(x.began).Round(time.Millisecond).Seconds(), Raw: event.RawOf(raw),
	}
	if x.hasPeak {
		peak := x.peak
		e.PeakKG, e.Outcome = &peak, event.WeightUnstable
	}
	if x.hasTare {
		tare := x.tare
		e.TareKG = &tare
	}
	if len(x.weights) > 0 {
		slices.Sort(x.weights)
		median := x.weights[len(x.weights)/2]
		e.WeightKG, e.Outcome = &median, event.WeightStable
	}
	// Nothing is forgotten that is not on disk: an error ends the driver, and the load is
	// told with the next reading.
	if w.settings.AxleGap > 0 {
		err = w.axles.add(h, e, x.began, now)
	} else {
		err = h.Emit(drivers.Observation{Data: e, Time: x.began, Subject: e.WeighingID})
	}
	if err != nil {
		return err
	}
	w.w = nil
	return nil
}
