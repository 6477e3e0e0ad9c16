package rpm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// The agent is started anew while the agent's own alarm stands: it is not raised twice, and
// its end is told under the same id. Without its setting it ends at once.
func TestAreaAlarmOverARestart(t *testing.T) {
	for _, withSetting := range []bool{true, false} {
		ledger := &drivers.MemoryLedger{}
		run := func(above float64, values ...string) []event.RadiationRateAlarm {
			t.Helper()
			d, err := AreaMonitor().New(func(into any) error {
				s := into.(*AreaSettings)
				s.Format, s.Unit, s.AlarmAboveUSvH, s.ClearAfter = "ludlum-375", "uSv/h", above, 0
				return nil
			})
			require.NoError(t, err)
			var chunks []drivers.Chunk
			for i, v := range values {
				chunks = append(chunks, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: []byte(v + "000010\r\n")})
			}
			p, err := drivers.PlayWith(t.Context(), ledger, d, chunks)
			require.NoError(t, err)
			return of[event.RadiationRateAlarm](t, p.Observations)
		}
		first := run(5, "0001.0", "0009.0", "0009.0")
		require.Len(t, first, 1)
		require.Equal(t, "raised", first[0].State)
		above := 5.0
		if withSetting {
			require.Empty(t, run(5, "0009.0", "0009.0"), "it stands already")
		} else {
			above = 0
		}
		last := run(above, "0001.0", "0001.0")
		require.Len(t, last, 1)
		require.Equal(t, "cleared", last[0].State)
		require.Equal(t, first[0].AlarmID, last[0].AlarmID)
		require.True(t, last[0].Interrupted)
		require.Empty(t, run(above, "0001.0", "0001.0"))
	}
}
