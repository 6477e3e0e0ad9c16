//go:build !linux

package link

// SerialPath is empty on this system.
func SerialPath(Endpoint) string { return "" }

// Users are not known on this system.
func Users(string) []string { return nil }

// Access is not known on this system.
func Access(string) string { return "" }
