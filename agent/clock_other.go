//go:build !linux

package agent

// clockQuality is not known on this system.
func clockQuality() (sync string, maxErrorMs *int64) { return "unknown", nil }
