package event

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDiagnosticsOfVehiclesAreUrgent(t *testing.T) {
	for kind, want := range map[string]Class{
		DiagGXCounterJump: Urgent, DiagObjectCounterJump: Urgent, DiagObjectCounterReset: Urgent, DiagLooksLate: Urgent,
		DiagAlarmMismatch: Urgent, DiagAlarmOutput: Urgent,
		DiagOccupancyStuck: Urgent,
		DiagGXOrphan:       Routine, DiagGXCounterReset: Routine, DiagSpeedOrphan: Routine, DiagBackgroundMissing: Routine,
		DiagRegistersMissing: Routine, DiagButton: Routine, DiagRegisterMap: Routine,
	} {
		require.Equal(t, want, RadiationDiagnostic{Kind: kind}.Class(), kind)
	}
}
