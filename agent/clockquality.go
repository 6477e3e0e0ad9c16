package agent

import "time"

// ClockQuality asks the kernel about this box's clock: synced is "yes", "no" or "unknown",
// and within is how far off it is at the most, if it is known.
func ClockQuality() (synced string, within time.Duration) {
	synced, ms := clockQuality()
	if ms != nil {
		within = time.Duration(*ms) * time.Millisecond
	}
	return synced, within
}
