package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// What was not observed does not read as clear in an exported document, and the occupancy of
// a portal whose samples are of another length is refused.
func TestExportedOccupancy(t *testing.T) {
	start := time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC)
	about := n42Portal{Manufacturer: "unspecified", Model: "unspecified", GammaKind: "Other", NeutronKind: "Other"}
	o := event.RadiationOccupancy{
		OccupancyID: "019ceb6f-0000-7000-8000-000000000001", Outcome: event.OutcomeIncomplete, End: event.EndClear, JoinedMid: true,
		Gamma: event.ModalityFault, Neutron: event.NoData, StartTS: event.At(start), EndTS: event.At(start.Add(time.Second)), FirstSampleTS: event.At(start), DurationS: 1,
	}
	for _, samples := range []int{0, 3} {
		for i := range samples {
			o.GammaSeries = append(o.GammaSeries, event.Sample{OffsetS: float64(i) / 5, Counts: []int{100}})
		}
		made, err := occupancyDocument(&foundOccupancy{"lane/portal", o}, about)
		require.NoError(t, err)
		b, err := n42.Append(nil, made)
		require.NoError(t, err)
		d, err := n42.Decode(b, n42.Options{})
		require.NoError(t, err)
		require.Equal(t, n42.OutcomeFailed, d.Outcome())
		require.Contains(t, d.Remarks[len(d.Remarks)-1], "beginning is missing")
		var faults []string
		for _, m := range d.Measurements {
			for _, f := range m.Faults {
				faults = append(faults, f.Code)
			}
		}
		require.Equal(t, []string{"gamma_fault", "neutron_no_data"}, faults)
	}
	o.Reported = map[string]float64{"gamma_count": 1000}
	_, err := occupancyDocument(&foundOccupancy{"lane/portal", o}, about)
	require.ErrorContains(t, err, "read over Modbus")
}
