package agent

import "golang.org/x/sys/unix"

// clockQuality asks the kernel whether its clock is disciplined, and within
// which bound. See adjtimex(2).
func clockQuality() (sync string, maxErrorMs *int64) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return "unknown", nil
	}
	ms := (int64(t.Maxerror) + 999) / 1000 //nolint:unconvert // it is 32 bits wide on arm
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return "no", nil // the kernel's bound means nothing then
	}
	return "yes", &ms
}
