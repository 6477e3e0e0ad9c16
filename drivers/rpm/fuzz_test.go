package rpm

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// FuzzPortal sends anything to the whole driver, in pieces with time between
// them, over two connections of the same portal.
func FuzzPortal(f *testing.F) {
	dirs, err := filepath.Glob("testdata/cases/*/wire.txt")
	require.NoError(f, err)
	require.NotEmpty(f, dirs)
	for _, path := range dirs {
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		var stream []byte
		for _, c := range readWire(f, string(b)) {
			for _, k := range c {
				stream = append(stream, k.Bytes...)
			}
		}
		f.Add(stream, uint16(40), uint16(200))
		f.Add(stream, uint16(7), uint16(0))
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece, pause uint16) {
		p := newPortalWith(defaultSettings())
		var script connection
		at := time.Duration(0)
		for b := stream; len(b) > 0; {
			n := min(int(piece)+1, len(b))
			script = append(script, drivers.Chunk{At: at, Bytes: b[:n]})
			at, b = at+time.Duration(pause)*time.Millisecond, b[n:]
		}
		half := len(script) / 2
		first, err := drivers.Play(t.Context(), p, script[:half])
		require.NoError(t, err)
		second, err := drivers.Play(t.Context(), p, script[half:])
		require.NoError(t, err)

		lines := bytes.Count(stream, []byte{'\n'}) + 1
		got := append(first.Observations, second.Observations...)
		// A line gives a summary, a mismatch, a counter's diagnostic, an orphan,
		// two faults and a background at the most.
		require.LessOrEqual(t, len(got), 7*lines+4)
		ends := bytes.Count(stream, []byte("GX,"))
		for _, o := range got {
			b, err := json.Marshal(o.Data)
			require.NoError(t, err)
			require.Less(t, len(b), 6*event.MaxRaw+400*len(stream)+4096)
			require.False(t, o.Time.IsZero())
			if e, ok := o.Data.(event.RadiationOccupancy); ok && e.Outcome == event.OutcomeNoAlarm {
				ends--
				require.Equal(t, event.EndGX, e.End)
				require.False(t, e.GammaAlarm || e.NeutronAlarm || e.JoinedMid)
				require.NotNil(t, e.GammaBgSumCPS)
				require.Positive(t, e.GammaSamples)
				require.Positive(t, e.NeutronSamples)
			}
		}
		require.GreaterOrEqual(t, ends, 0, "more harmless occupancies than ends")
		require.LessOrEqual(t, len(p.baseline.records), p.baseline.limit)
	})
}
