package link

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SerialPath is the device file of a link over a serial port, in full and without symbolic
// links if it is there; empty for any other link.
func SerialPath(e Endpoint) string {
	if bus, ok := e.(*modbusEndpoint); ok {
		e = bus.carrier
	}
	line, ok := e.(*serialEndpoint)
	if !ok {
		return ""
	}
	if device, err := filepath.EvalSymlinks(line.path); err == nil {
		return device
	}
	return line.path
}

// Users are the programs that have a serial port open, as far as this user may see:
// "minicom (pid 812)". A pseudo-terminal's maker may hold it open for good reason, so of
// those there are none.
func Users(device string) []string {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil || isPTY(&st) {
		return nil
	}
	return usersOf(device)
}

func isPTY(st *unix.Stat_t) bool {
	major := unix.Major(uint64(st.Rdev)) //nolint:unconvert // 32 bits wide on some machines
	return major >= 136 && major <= 143  // Unix98 pseudo-terminals
}

// Access says why this process may not open a serial port and what to do; empty if it may.
func Access(device string) string { return access(device) }
