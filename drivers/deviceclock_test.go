package drivers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestClockWords(t *testing.T) {
	for offset, want := range map[time.Duration][2]string{
		0:                                {"", ""},
		29 * time.Second:                 {"", ""},
		-31 * time.Second:                {"its clock is 31 s behind this box's", "set the device's clock"},
		time.Hour - 400*time.Millisecond: {"its clock is 1 h ahead of this box's", "whole step of time zones"},
		time.Hour:                        {"its clock is 1 h ahead of this box's", "whole step of time zones"},
		-2*time.Hour - 40*time.Second:    {"its clock is 2 h 1 min behind this box's", "whole step of time zones"},
		5*time.Hour + 45*time.Minute:     {"its clock is 5 h 45 min ahead of this box's", "whole step of time zones"},
		time.Hour + 4*time.Minute:        {"its clock is 1 h 4 min ahead of this box's", "set the device's clock"},
		24 * time.Hour:                   {"its clock is 24 h ahead of this box's", "set the device's clock"},
		-20 * 365 * 24 * time.Hour:       {"its clock is 7300 days behind this box's", "set the device's clock"},
		6*time.Minute + 40*time.Second:   {"its clock is 7 min ahead of this box's", "set the device's clock"},
	} {
		text, hint := ClockWords(offset)
		require.Equal(t, want[0], text)
		require.Contains(t, hint, want[1])
		require.Equal(t, text == "", hint == "")
	}
}

func TestClockOf(t *testing.T) {
	_, ok := ClockOf(Observation{Data: event.DeviceUnparsed{}, DeviceTime: time.Now()})
	require.False(t, ok)
	_, ok = ClockOf(Observation{Data: event.PlateRead{}})
	require.False(t, ok, "what was kept by the device tells nothing")
	seconds := -3600.5
	capture := event.PlateCapture{ClockOffsetS: &seconds}
	for _, d := range []event.Data{event.PlateRead{Capture: capture}, event.PlateNoRead{Capture: capture}} {
		offset, ok := ClockOf(Observation{Data: d})
		require.True(t, ok)
		require.Equal(t, -3600500*time.Millisecond, offset)
	}
}
