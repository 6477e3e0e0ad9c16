package drivers

import (
	"context"
	"fmt"
	"time"
)

// recogniseTime bounds one attempt to recognise a sample.
const recogniseTime = time.Second

// Recognise tells whether bytes that came from somewhere are records of an instrument:
// it plays them to a new one and counts. They are if more records came of them than
// pieces that were not understood. Nothing is emitted and nothing is sent.
func Recognise(newInstrument func() (Instrument, error), sample []byte) (is bool) {
	if len(sample) == 0 {
		return false
	}
	// Bytes of one instrument are what the driver of another has never seen.
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	i, err := newInstrument()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), recogniseTime)
	defer cancel()
	// The link opens first; what came may begin inside a record.
	played, _ := Play(ctx, i, []Chunk{{}, {At: time.Second, Bytes: sample}}) // how it ended does not count
	return played.Valid > len(played.Unparsed)
}

// Exchanged says that what came from a device is what another one should send.
func Exchanged(other, profile string) string {
	return fmt.Sprintf("these are records of %s, which %s should send: the two are probably exchanged, so swap their cables, or what stands under connect", profile, other)
}
