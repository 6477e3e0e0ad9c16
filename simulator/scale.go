package simulator

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/scale"
)

// readingsPerSecond is how often an indicator tells the weight.
const readingsPerSecond = 5

// scaleSwitches are what scales were seen to do.
var scaleSwitches = []string{
	"checksum",          // of Toledo frames
	"motion-forever",    // the load never stands still
	"overload",          // each third vehicle is too heavy
	"negative",          // the empty scale tells less than zero
	"zero-not-returned", // the empty scale tells 60 kg
	"bad-checksum",      // each fifth frame is damaged
	"parity",            // the parity bit is on the line
	"dribble",           // one byte at a time
	"stays",             // each third vehicle stands on it for twenty minutes
}

// scaleModel is a truck scale whose indicator talks by itself. Its option "format" is one
// of scale.Names.
type scaleModel struct {
	env     cameraEnv
	format  scale.Format
	options scale.Options

	mu    sync.Mutex
	queue []scale.Reading
	sent  int
}

func newScale(env cameraEnv) (cameraModel, error) {
	name := env.Settings.Options["format"]
	if name == "" {
		name = "toledo"
	}
	c := &scaleModel{env: env, options: scale.Options{Checksum: env.Settings.Has("checksum")}}
	var ok bool
	if c.format, ok = scale.Lookup(name, c.options); !ok {
		return nil, fmt.Errorf("format: %q is not known; there are %v", name, scale.Names())
	}
	return c, nil
}

// ServeHTTP implements http.Handler; a scale serves nothing.
func (c *scaleModel) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// massOf gives the mass of a vehicle in kg, a multiple of 20 as truck scales tell it.
func massOf(seed uint64, s Sighting) float64 {
	rng := newRand(seed, "mass", strconv.Itoa(s.Vehicle))
	least, most := 1100.0, 2200.0
	switch s.Kind {
	case "motorcycle":
		least, most = 220, 420
	case "van":
		least, most = 1900, 3500
	case "bus":
		least, most = 9000, 18000
	case "truck":
		least, most = 9000+900*s.Length, 14000+1600*s.Length
	}
	return math.Round((least+(most-least)*rng.Float64())/20) * 20
}

func (c *scaleModel) observe(ctx context.Context, s Sighting) error {
	has := c.env.Settings.Has
	kg := massOf(c.env.Seed, s)
	over := has("overload") && s.Serial%3 == 0
	c.env.Weighed(WeightTruth{Kind: "weight", AtS: seconds(s.At), Vehicle: s.Vehicle, KG: kg, Overload: over})
	var list []scale.Reading
	add := func(kg float64, motion scale.Stability, n int) {
		for range n {
			list = append(list, scale.Reading{Value: math.Round(kg/20) * 20, Unit: "kg", Motion: motion})
		}
	}
	for i := 1; i < 8; i++ {
		add(kg*float64(i)/8, scale.Moving, 1)
	}
	still := 25
	if has("stays") && s.Serial%3 == 0 {
		still = 20 * 60 * readingsPerSecond
	}
	switch {
	case over:
		for range still {
			list = append(list, scale.Reading{Over: true, Unit: "kg", Motion: scale.Stable})
		}
	case has("motion-forever"):
		for i := range still {
			add(kg+float64(40*(i%3)), scale.Moving, 1)
		}
	default:
		add(kg, scale.Stable, still)
	}
	for i := 7; i > 0; i-- {
		add(kg*float64(i)/8, scale.Moving, 1)
	}
	list = append(list, c.empty(), c.empty())
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.env.Fast {
		c.queue = append(c.queue, list...)
		return nil
	}
	if err := c.env.Line.client(ctx); err != nil {
		return err
	}
	return c.tell(ctx, list)
}

// empty is what the scale tells with nothing on it.
func (c *scaleModel) empty() scale.Reading {
	r := scale.Reading{Unit: "kg", Motion: scale.Stable}
	switch {
	case c.env.Settings.Has("negative"):
		r.Value = -60
	case c.env.Settings.Has("zero-not-returned"):
		r.Value = 60
	}
	return r
}

func (c *scaleModel) tell(ctx context.Context, list []scale.Reading) error {
	has := c.env.Settings.Has
	var all []byte
	for _, r := range list {
		frame := c.format.Append(nil, c.options, r)
		c.sent++
		if has("bad-checksum") && c.sent%5 == 0 {
			frame[len(frame)/2] ^= 0x41
		}
		if has("parity") {
			for i := range frame {
				if i%2 == 0 {
					frame[i] |= 0x80
				}
			}
		}
		all = append(all, frame...)
	}
	step := len(all)
	if has("dribble") {
		step = 1
	}
	for i := 0; i < len(all); i += max(step, 1) {
		if _, err := c.env.Line.send(ctx, all[i:i+step]); err != nil {
			return err
		}
	}
	return nil
}

func (c *scaleModel) tick(ctx context.Context, _ time.Duration) {
	if c.env.Fast {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), readingsPerSecond)
	list := c.queue[:n:n]
	c.queue = c.queue[n:]
	for len(list) < readingsPerSecond {
		list = append(list, c.empty())
	}
	if err := c.tell(ctx, list); err != nil && ctx.Err() == nil {
		c.env.Log.Warn("a scale can't talk", "error", err)
	}
}
