//go:build !linux

package link

// SerialPath is empty on this system.
func SerialPath(Endpoint) string { return "" }

// Users are not known on this system.
func Users(string) []string { return nil }

// Admit knows of no groups on this system.
func Admit(_, device string) string { return "look at the permissions of " + device }

// Access is not known on this system.
func Access(string) string { return "" }
