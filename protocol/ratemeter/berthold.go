package ratemeter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// An LB 6420 answers a request with a head of twelve bytes, whose content is not public, and
// 64 numbers of eight bytes, high byte first. Four of them are understood: doses since it
// began, in picosieverts. From a public program that reads it on TCP port 1000.
const (
	bertholdHead  = 12
	bertholdFrame = bertholdHead + 64*8
)

// bertholdPlaces are the numbers of the doses: all radiation, gamma, high-energy neutrons,
// neutrons.
var bertholdPlaces = [...]int{19, 31, 33, 34}

func berthold(o Options) Format {
	return Format{
		Requests: [][]byte{{0x0e, 0x04, 0x00, 0x00}}, ByTime: true, Counts: true, longest: bertholdFrame,
		frame: func(b []byte) int {
			if len(b) < bertholdFrame {
				return 0
			}
			return bertholdFrame
		},
		parse: func(b []byte) (Reading, error) {
			if len(b) != bertholdFrame {
				return Reading{}, fmt.Errorf("an answer has %d bytes, and not %d", bertholdFrame, len(b))
			}
			var r Reading
			for i, place := range bertholdPlaces {
				v := int64(binary.BigEndian.Uint64(b[bertholdHead+8*place:])) //nolint:gosec // the sign is wanted
				if v < 0 {
					return Reading{}, errors.New("a dose is below zero: the answer did not begin where it was thought to")
				}
				if i < len(o.Channels) && o.Channels[i] != "" {
					r.Values = append(r.Values, Value{Channel: o.Channels[i], Value: float64(v), Unit: "pSv", Text: strconv.FormatInt(v, 10), UnitText: "", Counter: true})
				}
			}
			return r, nil
		},
		append: func(b []byte, r Reading) []byte {
			frame := make([]byte, bertholdFrame)
			for i, place := range bertholdPlaces {
				for _, v := range r.Values {
					if i < len(o.Channels) && v.Channel == o.Channels[i] {
						binary.BigEndian.PutUint64(frame[bertholdHead+8*place:], uint64(max(v.Value, 0)))
					}
				}
			}
			return append(b, frame...)
		},
	}
}
