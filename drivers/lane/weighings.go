package lane

import (
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/scale"
)

// WeighingSettings are those of ScaleSettings that do not depend on how an indicator tells
// weights, with the same meaning.
type WeighingSettings struct {
	EmptyBelowKG float64       `yaml:"empty_below_kg"`
	ZeroWithinKG float64       `yaml:"zero_within_kg"`
	StableFor    time.Duration `yaml:"stable_for"`
	SameWithinKG float64       `yaml:"same_within_kg"`
	Longest      time.Duration `yaml:"longest"`
	AxleGap      time.Duration `yaml:"axle_gap"`
}

// DefaultWeighingSettings are those of the driver of scales.
func DefaultWeighingSettings() WeighingSettings {
	return WeighingSettings{EmptyBelowKG: 200, ZeroWithinKG: 40, StableFor: time.Second, SameWithinKG: 20, Longest: 15 * time.Minute}
}

// Weighings makes of what an indicator tells one event for each load, for a driver that reads
// it in its own way. It is for one goroutine at a time.
type Weighings struct{ w *weigher }

// NewWeighings checks the settings.
func NewWeighings(s WeighingSettings) (*Weighings, error) {
	w, err := newWeigher(ScaleSettings{
		Format: "csv", Unit: "kg", Every: time.Second, // not used: nothing is asked and nothing parsed
		EmptyBelowKG: s.EmptyBelowKG, ZeroWithinKG: s.ZeroWithinKG, StableFor: s.StableFor, SameWithinKG: s.SameWithinKG,
		Longest: s.Longest, AxleGap: s.AxleGap,
	})
	if err != nil {
		return nil, err
	}
	return &Weighings{w}, nil
}

// Take takes one reading.
func (x *Weighings) Take(h drivers.Host, r scale.Reading, frame []byte) error {
	return x.w.reading(h, r, frame)
}

// End tells what is known of a load when the link breaks, and gives the reason back.
func (x *Weighings) End(h drivers.Host, reason error) error { return x.w.interrupted(h, reason) }
