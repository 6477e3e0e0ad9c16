package rpm

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
)

// An instrument that only acknowledges what it is asked measures nothing: it must fall
// silent, and not count as one that works.
func TestOnlyAcknowledged(t *testing.T) {
	for name, answer := range map[string][]byte{
		"fht-6020": {0x06, 0x03},
		"kromek":   {0xc0, 0x07, 0x00, 0x00, 0x07, 0xfe, 0x9e, 0xe1, 0xc0},
	} {
		d, err := AreaMonitor().New(func(into any) error {
			s := into.(*AreaSettings)
			s.Format = name
			return nil
		})
		require.NoError(t, err, name)
		p, err := drivers.Play(t.Context(), d, []drivers.Chunk{
			{At: 0, Bytes: bytes.Clone(answer)}, {At: time.Second, Bytes: answer}, {At: 2 * time.Second, Bytes: answer}, {At: 3 * time.Second},
		})
		require.NoError(t, err, name)
		require.Empty(t, p.Unparsed, name)
		require.Zero(t, p.Valid, name)
	}
}
