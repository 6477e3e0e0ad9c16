package main

import (
	"fmt"
	"time"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/drivers"
)

// checkClock says whether this box's clock is kept right, and whether the devices that
// tell the time speak against it.
func checkClock(devices []deviceRows) []result {
	synced, within := agent.ClockQuality()
	var offsets []time.Duration
	for _, d := range devices {
		if d.offset != nil {
			offsets = append(offsets, *d.offset)
		}
	}
	return []result{clockRow(synced, within, offsets)}
}

func clockRow(synced string, within time.Duration, offsets []time.Duration) result {
	row := result{"clock", "synchronised", isOK, "synchronised", ""}
	switch synced {
	case "yes":
		row.Detail = "synchronised, right to within " + drivers.Span(within)
	case "no":
		row.State, row.Detail = isWarning, "this box's clock is not synchronised: each event says so, and its times may be wrong"
		row.Hint = "set a time server and switch it on: timedatectl set-ntp true, its name in /etc/systemd/timesyncd.conf; timedatectl timesync-status shows whether it answers; timedatectl set-time sets the clock by hand"
	default:
		row.State, row.Detail = isSkipped, "this system does not tell whether its clock is synchronised"
	}
	if off, ok := agreed(offsets); ok && synced != "yes" {
		side := "behind"
		if off < 0 {
			side = "ahead of"
		}
		row.State = isFailed
		row.Detail = fmt.Sprintf("this box's clock is not synchronised, and %d devices agree that it is %s %s theirs", len(offsets), drivers.Span(off.Abs()), side)
		row.Hint = "this box's clock is the one that is wrong: set it (timedatectl set-time), and have it synchronised (timedatectl set-ntp true)"
	}
	return row
}

// agreed is by how much all of several devices say that their clocks are ahead of this
// box's; false if they don't, or say that it is right.
func agreed(offsets []time.Duration) (time.Duration, bool) {
	if len(offsets) < 2 {
		return 0, false
	}
	for _, o := range offsets {
		if o.Abs() < drivers.ClockTolerance || (o-offsets[0]).Abs() > drivers.ClockTolerance {
			return 0, false
		}
	}
	return offsets[0], true
}
