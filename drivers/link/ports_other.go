//go:build !linux

package link

import (
	"fmt"

	"go.bug.st/serial"
)

// Ports lists the serial ports of this machine by name alone; none is no error.
func Ports() ([]Port, error) {
	names, err := serial.GetPortsList()
	if err != nil {
		return nil, fmt.Errorf("listing serial ports: %w", err)
	}
	var ports []Port
	for _, name := range names {
		ports = append(ports, Port{Name: name})
	}
	sortPorts(ports)
	return ports, nil
}

func notAllowed(name string) string {
	return fmt.Sprintf("this user may not open %s", name)
}

func usersOf(string) []string { return nil }
