package rpm

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// The only alarming sample of an occupancy shares its line with what was broken
// before it.
func TestAnAlarmBehindSomethingBrokenIsTold(t *testing.T) {
	const before = "NB,000000,000000,000000,000000\r\nGB,000400,000400,000400,000400\r\n" +
		"NS,000000,000000,000000,000000\r\n" + "GS,000080,000080,000080,000080\r\n"
	const ga = "GA,000500,000500,000500,000500\r\n"
	for name, broken := range map[string]string{
		"noise":              "\xb9\x00\x80\xff",
		"a cut sample":       "GS,000080,0000",
		"a cut guard":        "!GS,000080,0000",
		"a cut background":   "GB,0004",
		"another whole line": "GS,000080,000080,000080,000080",
	} {
		t.Run(name, func(t *testing.T) {
			i, err := newPortal(func(any) error { return nil })
			require.NoError(t, err)
			played, err := drivers.Play(context.Background(), i, []drivers.Chunk{
				{Bytes: []byte(before)},
				{At: 200 * time.Millisecond, Bytes: []byte(broken + ga)},
				{At: 400 * time.Millisecond, Bytes: []byte("GX,000001,001000,000000,000000\r\n")},
			})
			require.NoError(t, err)
			require.Len(t, played.Unparsed, 1)
			require.Equal(t, broken+ga, string(played.Unparsed[0].Raw))
			var alarms, occupancies int
			for _, o := range played.Observations {
				switch d := o.Data.(type) {
				case event.RadiationAlarm:
					alarms++
					require.Equal(t, []int{500, 500, 500, 500}, d.Counts)
				case event.RadiationOccupancy:
					occupancies++
					require.True(t, d.GammaAlarm)
					require.Equal(t, event.OutcomeAlarm, d.Outcome)
					require.Equal(t, 1, d.GammaAlarmSamples)
				}
			}
			require.Equal(t, 1, alarms)
			require.Equal(t, 1, occupancies)
		})
	}
}

func TestNothingIsRescuedFromTheMiddleOfALine(t *testing.T) {
	i, err := newPortal(func(any) error { return nil })
	require.NoError(t, err)
	long := strings.Repeat("x", 34) + "GA,000500,000500,000500,000500" + strings.Repeat("x", 300) + "\r\n"
	played, err := drivers.Play(context.Background(), i, []drivers.Chunk{{Bytes: []byte("\r\n" + long)}})
	require.NoError(t, err)
	require.Empty(t, played.Observations)
	require.NotEmpty(t, played.Unparsed)
}
