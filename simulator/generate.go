package simulator

import (
	"errors"
	"fmt"
	"time"
)

// Chunk is a piece of a device's output.
type Chunk struct {
	// At is when it is sent, in simulated time since the start.
	At time.Duration
	// Bytes are the bytes; empty for a Break.
	Bytes []byte
	// Break says that the connection breaks here, and nobody is let in for
	// Down.
	Break bool
	Down  time.Duration
}

// Generate gives the whole output of every tsa-portal of a scenario, under
// "LANE/DEVICE", and the truth of the lanes that have one: what clients get that
// are always there. What devices of the other models send depends on who asks
// and when; they and their truth are left out, and New or Start plays them. The
// scenario must have a duration and a tsa-portal.
func Generate(s *Scenario) (map[string][]Chunk, *Truth, error) {
	if err := s.Validate(); err != nil {
		return nil, nil, err
	}
	if s.Duration == 0 {
		return nil, nil, errors.New("a scenario without a duration has no end; set one to generate it")
	}
	streams, truth := map[string][]Chunk{}, &Truth{}
	for i := range s.Lanes {
		lane := &s.Lanes[i]
		witness := true // the first portal tells of the vehicles
		for k := range lane.Devices {
			d := &lane.Devices[k]
			if d.Model != portalModel {
				continue
			}
			chunks, err := generate(newWire(s, lane, d, witness), truth)
			if err != nil {
				return nil, nil, err
			}
			streams[deviceKey(lane.ID, d.ID)] = chunks
			witness = false
		}
	}
	if len(streams) == 0 {
		return nil, nil, errors.New("the scenario has no " + portalModel + ", and only what those send can be generated; play it with New or Start")
	}
	return streams, truth, nil
}

func generate(w *wire, truth *Truth) ([]Chunk, error) {
	var a account
	var chunks []Chunk
	for {
		it, ok := w.next()
		if !ok {
			return chunks, w.err()
		}
		switch {
		case it.truth != nil:
			a.tell(it.truth)
			truth.add(it.truth)
		case it.link == linkBreak:
			a.broken(it.at, it.occ, it.fault)
			a.skip, a.skipFault = it.skip, it.fault
			chunks = append(chunks, Chunk{At: it.at, Break: true, Down: it.down})
		default:
			a.cut(&it)
			a.passed(it, false)
			if len(it.bytes) > 0 {
				chunks = append(chunks, Chunk{At: it.at, Bytes: it.bytes})
			}
		}
	}
}

func deviceKey(lane, id string) string { return fmt.Sprintf("%s/%s", lane, id) }
