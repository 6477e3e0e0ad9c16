package simulator

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const clocked = `
name: clocked
seed: 3
duration: 50s
lanes:
  - id: l
    devices: [{id: d, model: %s, camera: {clock_start: 2026-01-05T06:00:00Z}}]
    traffic:
      vehicles: [{kind: car, arrive: 5s}, {kind: truck, arrive: 20s, gamma: {cps: 2000}}, {kind: van, arrive: 44s}]
`

// TestSameBytesByAFixedClock: what talks by itself writes the time at which it says so, and not
// that at which this machine got round to it.
func TestSameBytesByAFixedClock(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"n42-streamer", "llrp-reader", "nedap-anpr", "scale", "area-monitor", "mrz-reader", "tsa-environment", "text-reader", "xray-messenger"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			var bytes []string
			var truths []*Truth
			for _, speed := range []float64{1000, 300} {
				sim := Start(t, MustParse(t, fmt.Sprintf(clocked, model)), Options{Speed: speed, Wait: true})
				conn := dial(t, sim.Devices()[0].Connect)
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				require.NotEmpty(t, got)
				require.NoError(t, sim.Wait())
				truth := sim.Truth()
				truth.Links = nil
				bytes, truths = append(bytes, string(got)), append(truths, truth)
			}
			require.True(t, bytes[0] == bytes[1], "%d and %d bytes", len(bytes[0]), len(bytes[1]))
			require.Equal(t, truths[0], truths[1])
			for _, s := range truths[0].Scans {
				require.Positive(t, s.AtS, s.What)
				require.LessOrEqual(t, s.AtS, (50 * time.Second).Seconds(), s.What)
			}
		})
	}
}
