package lane

import (
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/scale"
)

func weigh(t *testing.T, change func(*ScaleSettings), script ...drivers.Chunk) drivers.Played {
	t.Helper()
	d, err := Scale().New(func(into any) error {
		s := into.(*ScaleSettings)
		s.Format = "csv"
		if change != nil {
			change(s)
		}
		return nil
	})
	require.NoError(t, err)
	p, err := drivers.Play(t.Context(), d, script)
	require.NoError(t, err)
	return p
}

// say is the frames of a scale, one each 200 ms from a moment on.
func say(at time.Duration, format string, o scale.Options, list ...scale.Reading) (script []drivers.Chunk) {
	f, _ := scale.Lookup(format, o)
	for i, r := range list {
		script = append(script, drivers.Chunk{At: at + time.Duration(i)*200*time.Millisecond, Bytes: f.Append(nil, o, r)})
	}
	return script
}

func readings(motion scale.Stability, kg ...float64) (list []scale.Reading) {
	for _, v := range kg {
		list = append(list, scale.Reading{Value: v, Unit: "kg", Motion: motion})
	}
	return list
}

func times(n int, r scale.Reading) (list []scale.Reading) {
	for range n {
		list = append(list, r)
	}
	return list
}

func all(lists ...[]scale.Reading) (list []scale.Reading) {
	for _, l := range lists {
		list = append(list, l...)
	}
	return list
}

// What goes wrong with scales, by its name.
func TestScales(t *testing.T) {
	empty := readings(scale.Stable, 0)
	for name, c := range map[string]struct {
		format string
		o      scale.Options
		list   []scale.Reading
		change func(*ScaleSettings)
		check  func(*testing.T, []event.LaneWeight)
	}{
		"a vehicle": {list: all(empty, readings(scale.Moving, 9000, 20000), readings(scale.Stable, 40240, 40260, 40260), readings(scale.Moving, 20000), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, 40260.0, *l[0].WeightKG)
			require.Equal(t, event.WeightStable, l[0].Outcome)
			require.Equal(t, []int{6, 3}, []int{l[0].Readings, l[0].StableReadings})
			require.Empty(t, l[0].Flags)
		}},
		"motion for ever": {list: all(empty, readings(scale.Moving, 40240, 40300, 40260), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Nil(t, l[0].WeightKG)
			require.Equal(t, 40300.0, *l[0].PeakKG)
			require.Equal(t, event.WeightUnstable, l[0].Outcome)
		}},
		"overload": {list: all(empty, times(5, scale.Reading{Over: true}), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, event.WeightNone, l[0].Outcome)
			require.Equal(t, []string{"overload"}, l[0].Flags)
			require.Nil(t, l[0].PeakKG)
		}},
		"under load": {list: all(empty, readings(scale.Stable, 1200), times(2, scale.Reading{Under: true})), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, []string{"underload"}, l[0].Flags)
		}},
		"negative when it is empty": {list: all(empty, readings(scale.Stable, 1200), readings(scale.Stable, -60)), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, []string{"zero_not_returned", "negative"}, l[0].Flags)
		}},
		"zero not returned": {list: all(empty, readings(scale.Stable, 1200), readings(scale.Stable, 80)), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, []string{"zero_not_returned"}, l[0].Flags)
		}},
		"the last axle leaves": {list: all(empty, readings(scale.Stable, 1200), readings(scale.Moving, 160, 100), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Len(t, l, 1)
			require.Empty(t, l[0].Flags)
			require.Equal(t, 0.2, l[0].DurationS, "until it left")
		}},
		"zero is never told again": {list: all(empty, readings(scale.Stable, 1200), times(12, scale.Reading{Value: 160, Unit: "kg", Motion: scale.Moving})), check: func(t *testing.T, l []event.LaneWeight) {
			require.Len(t, l, 1)
			require.Equal(t, []string{"zero_not_returned"}, l[0].Flags)
		}},
		"the next one follows at once": {list: all(empty, readings(scale.Stable, 1200), readings(scale.Moving, 160), readings(scale.Stable, 1500), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Len(t, l, 2)
			require.Equal(t, []float64{1200, 1500}, []float64{*l[0].WeightKG, *l[1].WeightKG})
			require.Empty(t, l[0].Flags)
		}},
		"a unit that changes": {list: all(empty, readings(scale.Stable, 1200), []scale.Reading{{Value: 1200, Unit: "kg", Motion: scale.Stable}}, empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, "kg", l[0].UnitRaw)
		}},
		"it moves after it stood": {list: all(empty, readings(scale.Stable, 40000, 40000), readings(scale.Moving, 41000), readings(scale.Stable, 40500), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.True(t, l[0].Moved)
		}},
		"a format without a word for motion": {format: "yaohua", list: all(empty, readings(scale.Unknown, 9000, 20000), times(20, scale.Reading{Value: 40260}), readings(scale.Unknown, 15000), empty), check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, 40260.0, *l[0].WeightKG)
			require.Equal(t, 15, l[0].StableReadings, "it stood still for a second first")
		}},
		"a vehicle that stays": {list: all(empty, times(400, scale.Reading{Value: 1200, Unit: "kg", Motion: scale.Stable}), empty, readings(scale.Stable, 900), empty), change: func(s *ScaleSettings) { s.Longest = 30 * time.Second },
			check: func(t *testing.T, l []event.LaneWeight) {
				require.Len(t, l, 2)
				require.Equal(t, []string{"still_there", "frozen"}, l[0].Flags)
				require.Equal(t, 900.0, *l[1].WeightKG)
			}},
		"axles one at a time": {list: all(empty, readings(scale.Moving, 3000), readings(scale.Stable, 6200, 6200), readings(scale.Moving, 900), readings(scale.Stable, 0, 0, 0), readings(scale.Stable, 11400, 11400), empty,
			readings(scale.Moving, 9000, 9100), times(20, scale.Reading{Unit: "kg", Motion: scale.Stable}), readings(scale.Stable, 7000), times(20, scale.Reading{Unit: "kg", Motion: scale.Stable})),
			change: func(s *ScaleSettings) { s.AxleGap = 2 * time.Second }, check: func(t *testing.T, l []event.LaneWeight) {
				require.Len(t, l, 2, "two vehicles")
				require.Equal(t, []*float64{new(6200.0), new(11400.0), nil}, l[0].AxlesKG)
				require.Nil(t, l[0].WeightKG, "one axle never stood still")
				require.Equal(t, event.WeightUnstable, l[0].Outcome)
				require.Equal(t, 11400.0, *l[0].PeakKG)
				require.Equal(t, 8, l[0].Readings)
				require.Equal(t, 2.4, l[0].DurationS, "from the first axle to the last")
				require.Equal(t, []*float64{new(7000.0)}, l[1].AxlesKG)
				require.Equal(t, 7000.0, *l[1].WeightKG)
			}},
		"the link breaks between two axles": {list: all(empty, readings(scale.Stable, 6200), empty), change: func(s *ScaleSettings) { s.AxleGap = 5 * time.Second }, check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, []*float64{new(6200.0)}, l[0].AxlesKG)
		}},
		"stale frames: the indicator repeats the very same": {list: all(empty, times(200, scale.Reading{Value: 40260, Unit: "kg", Motion: scale.Stable}), empty), change: func(s *ScaleSettings) { s.Longest = 30 * time.Second },
			check: func(t *testing.T, l []event.LaneWeight) {
				require.Equal(t, []string{"still_there", "frozen"}, l[0].Flags)
			}},
		"a check sum": {format: "toledo", o: scale.Options{Checksum: true}, list: all(empty, readings(scale.Stable, 40260), empty), change: func(s *ScaleSettings) { s.Checksum = true }, check: func(t *testing.T, l []event.LaneWeight) {
			require.Equal(t, 40260.0, *l[0].WeightKG)
			require.Equal(t, 0.0, *l[0].TareKG)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			format := c.format
			if format == "" {
				format = "csv"
			}
			p := weigh(t, func(s *ScaleSettings) {
				s.Format = format
				if c.change != nil {
					c.change(s)
				}
			}, say(0, format, c.o, c.list...)...)
			var list []event.LaneWeight
			for _, o := range p.Observations {
				list = append(list, o.Data.(event.LaneWeight))
			}
			require.NotEmpty(t, list)
			c.check(t, list)
			require.Empty(t, p.Unparsed)
			require.Zero(t, p.Written, "a scale that talks by itself is not written to")
		})
	}
}

// What goes wrong with the bytes of scales, by its name: the weighing is what it was.
func TestScaleLines(t *testing.T) {
	list := all(readings(scale.Stable, 0), readings(scale.Moving, 20000), readings(scale.Stable, 40260, 40260, 40260), readings(scale.Stable, 0))
	o := scale.Options{Checksum: true}
	clean := say(0, "toledo", o, list...)
	other := say(0, "toledo", o, times(len(list), scale.Reading{Value: 1500, Unit: "kg", Motion: scale.Stable})...)
	bytesOf := func(script []drivers.Chunk) (b []byte) {
		for _, c := range script {
			b = append(b, c.Bytes...)
		}
		return b
	}
	for name, c := range map[string]struct {
		script   []drivers.Chunk
		unparsed bool
		weighs   []float64
	}{
		"split frames": {script: func() (s []drivers.Chunk) {
			for i, b := range bytesOf(clean) {
				s = append(s, drivers.Chunk{At: time.Duration(i) * 10 * time.Millisecond, Bytes: []byte{b}})
			}
			return s
		}(), weighs: []float64{40260}},
		"merged frames": {script: []drivers.Chunk{{Bytes: bytesOf(clean)}}, weighs: []float64{40260}},
		"7E1 read as 8N1, so that parity is in bit 7": {script: func() (s []drivers.Chunk) {
			for _, chunk := range say(0, "toledo", o, list...) {
				for i, b := range chunk.Bytes {
					if bits.OnesCount8(b)%2 == 1 {
						chunk.Bytes[i] |= 0x80
					}
				}
				s = append(s, chunk)
			}
			return s
		}(), weighs: []float64{40260}},
		"bad checksum": {script: func() (s []drivers.Chunk) {
			s = say(0, "toledo", o, list...)
			s[3].Bytes[7] ^= 1
			return s
		}(), unparsed: true, weighs: []float64{40260}},
		// What reaches the agent are pieces of both. Nothing is made of them that neither has told.
		"two indicators that share a port server": {script: func() (s []drivers.Chunk) {
			a, b := bytesOf(clean), bytesOf(other)
			for i := 0; i < len(a); i += 7 {
				s = append(s, drivers.Chunk{At: time.Duration(i) * 10 * time.Millisecond, Bytes: slices.Concat(a[i:min(i+7, len(a))], b[i:min(i+7, len(b))])})
			}
			return s
		}(), unparsed: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := weigh(t, func(s *ScaleSettings) { s.Format, s.Checksum = "toledo", true }, c.script...)
			require.Equal(t, c.unparsed, len(p.Unparsed) > 0, "%v", p.Unparsed)
			var got []float64
			for _, o := range p.Observations {
				got = append(got, *o.Data.(event.LaneWeight).WeightKG)
			}
			require.Equal(t, c.weighs, got)
		})
	}
}

// TestBrokenFrames: damaged frames are told, and the weighing goes on.
func TestBrokenFrames(t *testing.T) {
	script := say(0, "yaohua", scale.Options{}, all(readings(scale.Unknown, 0), times(10, scale.Reading{Value: 40260}), readings(scale.Unknown, 0))...)
	script[4].Bytes[5] ^= 1
	p := weigh(t, func(s *ScaleSettings) { s.Format = "yaohua" }, script...)
	require.Len(t, p.Unparsed, 1)
	require.Len(t, p.Observations, 1)
	require.Equal(t, 40260.0, *p.Observations[0].Data.(event.LaneWeight).WeightKG)
}

// TestTheLinkBreaks: what is known of a load is told.
func TestTheLinkBreaks(t *testing.T) {
	p := weigh(t, nil, say(0, "csv", scale.Options{}, all(readings(scale.Stable, 0), readings(scale.Stable, 1200, 1200))...)...)
	require.Len(t, p.Observations, 1)
	e := p.Observations[0].Data.(event.LaneWeight)
	require.Equal(t, []string{"interrupted"}, e.Flags)
	require.Equal(t, 1200.0, *e.WeightKG)
}

func TestAsked(t *testing.T) {
	script := say(0, "mt-sics", scale.Options{}, all(readings(scale.Stable, 0), readings(scale.Stable, 1200, 1200), readings(scale.Stable, 0))...)
	p := weigh(t, func(s *ScaleSettings) { s.Format, s.Ask = "mt-sics", true }, script...)
	require.Len(t, p.Observations, 1)
	require.NotZero(t, p.Written)
	for name, change := range map[string]func(*ScaleSettings){
		"format":         func(s *ScaleSettings) { s.Format = "avery" },
		"unit":           func(s *ScaleSettings) { s.Unit = "stone" },
		"empty_below_kg": func(s *ScaleSettings) { s.EmptyBelowKG = 0 },
		"zero_within_kg": func(s *ScaleSettings) { s.ZeroWithinKG = 500 },
		"stable_for":     func(s *ScaleSettings) { s.StableFor = time.Hour },
		"longest":        func(s *ScaleSettings) { s.Longest = 0 },
		"every":          func(s *ScaleSettings) { s.Every = 0 },
		"axle_gap":       func(s *ScaleSettings) { s.AxleGap = time.Hour },
		"ask":            func(s *ScaleSettings) { s.Ask = true },
		"same_within_kg": func(s *ScaleSettings) { s.SameWithinKG = -1 },
	} {
		_, err := Scale().New(func(into any) error { change(into.(*ScaleSettings)); return nil })
		require.ErrorContains(t, err, name)
	}
}
