package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
)

// What the running agent knows of a device's clock has a row, whatever its state.
func TestClockOfARunningAgentsDevice(t *testing.T) {
	t.Parallel()
	behind, right := -3600.0, 0.4
	for _, state := range []string{"connecting", "online", "silent"} {
		d := console.Device{Device: "entry-1/cam-1", State: state, ClockOffsetS: &behind, Reason: "its clock is 1 h behind this box's"}
		rows := deviceOfAgent(d)
		require.Len(t, rows, 2)
		require.Equal(t, "device", rows[0].Check)
		require.Equal(t, "clock", rows[1].Check)
		require.Equal(t, isFailed, rows[1].State)
		require.Equal(t, "its clock is 1 h behind this box's", rows[1].Detail)
		require.Contains(t, rows[1].Hint, "time zones")

		d.ClockOffsetS = &right
		rows = deviceOfAgent(d)
		require.Equal(t, isOK, rows[1].State)
		require.Equal(t, "within 1 s of this box's", rows[1].Detail)
		d.ClockOffsetS = nil
		require.Len(t, deviceOfAgent(d), 1)
	}
}
