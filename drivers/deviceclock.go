package drivers

import (
	"fmt"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of what is made of a device's clock.
const (
	// ClockTolerance is by how much a device's clock may differ from the box's before
	// it is worth a word. Messages are on their way for a while.
	ClockTolerance = 30 * time.Second
	// zoneGrain is what time zones differ by, and zoneTolerance how near to a multiple of it
	// a difference is taken for one.
	zoneGrain     = 15 * time.Minute
	zoneTolerance = 90 * time.Second
	mostZones     = 14 * time.Hour
)

// ClockWords say what is wrong with a device's clock that is offset ahead of the box's
// (behind, if negative), and what to do; empty if nothing is.
func ClockWords(offset time.Duration) (text, hint string) {
	if offset.Abs() < ClockTolerance {
		return "", ""
	}
	side := "ahead of"
	if offset < 0 {
		side = "behind"
	}
	text = fmt.Sprintf("its clock is %s %s this box's", Span(offset.Abs()), side)
	quarters := offset.Abs().Round(zoneGrain)
	if quarters > 0 && quarters <= mostZones && (offset.Abs()-quarters).Abs() <= zoneTolerance {
		return text, "that is a whole step of time zones: set the zone and summer time in the device, or the zone in its settings; and check the zone and clock of this box (timedatectl)"
	}
	return text, "set the device's clock, or let it ask a time server; and check the clock of this box (timedatectl)"
}

// Span is a time as people say it, without what does not matter.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d.Round(time.Second) < time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
	case d.Round(time.Minute) < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	case d < 48*time.Hour:
		m := int(d.Round(time.Minute) / time.Minute)
		if m%60 == 0 {
			return fmt.Sprintf("%d h", m/60)
		}
		return fmt.Sprintf("%d h %d min", m/60, m%60)
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// ClockOf is by how much an observation shows the device's clock to be ahead of the box's;
// false if it shows nothing: most instruments tell no time, and what was kept or on its way
// for a while tells nothing of the clock.
func ClockOf(o Observation) (offset time.Duration, ok bool) {
	var c event.PlateCapture
	switch d := o.Data.(type) {
	case event.PlateRead:
		c = d.Capture
	case event.PlateNoRead:
		c = d.Capture
	}
	if c.ClockOffsetS == nil {
		return 0, false
	}
	return time.Duration(*c.ClockOffsetS * float64(time.Second)), true
}
