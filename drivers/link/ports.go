package link

import (
	"cmp"
	"strings"

	"github.com/lanepost/lanepost/protocol/order"
)

// Port is a serial port of this machine, as far as it can be known without
// opening it: opening moves the control lines, and some instruments restart by
// that.
type Port struct {
	// Name is the device, /dev/ttyUSB0 or COM3. The kernel numbers the adapters
	// as it finds them, so after a restart the name can mean another one.
	Name string `json:"name"`
	// ByID and ByPath are names that stay: the first follows the adapter, the
	// second the socket that it sits in. Empty if udev made none.
	ByID   string `json:"by_id,omitempty"`
	ByPath string `json:"by_path,omitempty"`
	// VID and PID are the USB vendor and product, four hexadecimal digits each in
	// upper case; empty for a port that is not USB. So are the other three, and
	// when the adapter does not tell.
	VID          string `json:"vid,omitempty"`
	PID          string `json:"pid,omitempty"`
	SerialNumber string `json:"serial_number,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	// Driver is the kernel's driver, such as ftdi_sio.
	Driver string `json:"driver,omitempty"`
	// Users are the programs that have the port open, as far as this user may
	// see: "minicom (pid 812)".
	Users []string `json:"users,omitempty"`
	// Problem says what stands in the way of opening the port and what to do;
	// empty if nothing is known to.
	Problem string `json:"problem,omitempty"`
	// Console: the kernel writes its console there. It is no port for an instrument.
	Console bool `json:"console,omitempty"`
}

// Stable is the best name to write into a configuration.
func (p Port) Stable() string {
	return cmp.Or(p.ByID, p.ByPath, p.Name)
}

// sortPorts sorts ttyUSB2 before ttyUSB10.
func sortPorts(ports []Port) {
	order.By(ports, func(a, b Port) int {
		const digits = "0123456789"
		return cmp.Or(
			strings.Compare(strings.TrimRight(a.Name, digits), strings.TrimRight(b.Name, digits)),
			cmp.Compare(len(a.Name), len(b.Name)),
			strings.Compare(a.Name, b.Name),
		)
	})
}
