package link

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree builds a /sys, /dev and /proc: "path -> target" makes a link, "path = text"
// a file, "path" alone a folder.
func tree(t *testing.T, lines string) machine {
	root := t.TempDir()
	m := machine{sys: root + "/sys", dev: root + "/dev", proc: root + "/proc"}
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		path, target, isLink := strings.Cut(line, " -> ")
		path, text, isFile := strings.Cut(path, " = ")
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		switch {
		case isLink:
			if after, ok := strings.CutPrefix(target, "//"); ok {
				target = filepath.Join(root, after)
			}
			require.NoError(t, os.Symlink(target, path))
		case isFile:
			require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		default:
			require.NoError(t, os.MkdirAll(path, 0o700))
		}
	}
	return m
}

// laneBox is a box with two chips of its own, one of them the console, an FTDI
// adapter with a number of its own, a nameless CDC device, and the two rows that
// every kernel has: screens, and ttyS without a chip.
const laneBox = `
sys/class/tty/tty0 -> ../../devices/virtual/tty/tty0
sys/devices/virtual/tty/tty0
sys/class/tty/console/active = tty0 ttyS0
sys/class/tty/ttyS0 -> ../../devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS0
sys/devices/pnp0/00:01/driver -> ../../../bus/pnp/drivers/serial
sys/devices/pnp0/00:01/00:01:0/driver -> ../../../../bus/serial-base/drivers/ctrl
sys/devices/pnp0/00:01/00:01:0/00:01:0.0/driver -> ../../../../../bus/serial-base/drivers/port
sys/devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS0/device -> ../../../00:01:0.0
sys/devices/pnp0/00:01/00:01:0/00:01:0.0/tty/ttyS0/type = 4
sys/class/tty/ttyS1 -> ../../devices/platform/serial8250/tty/ttyS1
sys/devices/platform/serial8250/tty/ttyS1/device -> ../../../serial8250
sys/devices/platform/serial8250/tty/ttyS1/type = 0
sys/class/tty/ttyUSB10 -> ../../devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/ttyUSB10/tty/ttyUSB10
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/ttyUSB10/tty/ttyUSB10/device -> ../../../ttyUSB10
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/ttyUSB10/driver -> ../../../../../../../bus/usb-serial/drivers/ftdi_sio
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/idVendor = 0403
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/idProduct = 6001
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/serial = A50285BI
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/manufacturer = FTDI
sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/product = FT232R USB UART
sys/class/tty/ttyUSB9 -> ../../devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/ttyUSB9/tty/ttyUSB9
sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/ttyUSB9/tty/ttyUSB9/device -> ../../../ttyUSB9
sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/ttyUSB9/driver -> ../../../../../../../bus/usb-serial/drivers/ch341-uart
sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/idVendor = 1a86
sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/idProduct = 7523
sys/class/tty/ttyACM0 -> ../../devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/tty/ttyACM0
sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/tty/ttyACM0/device -> ../../../1-4:1.0
sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/driver -> ../../../../../../bus/usb/drivers/cdc_acm
sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/idVendor = 2341
sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/idProduct = 0043
sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/serial =
dev/ttyS0 = a device
dev/ttyUSB9 = a device
dev/ttyUSB10 = a device
dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0 -> ../../ttyUSB10
dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0 -> ../../ttyUSB10
dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0 -> ../../ttyUSB9
proc/812/comm = minicom
proc/812/fd/0 -> //dev/null
proc/812/fd/3 -> //dev/ttyUSB10
proc/812/fd/4 -> //dev/ttyUSB10
proc/900/comm = idle
proc/900/fd/0 -> //dev/null
proc/self -> 812
`

func TestPortsOfALaneBox(t *testing.T) {
	m := tree(t, laneBox)
	ports, err := m.ports()
	require.NoError(t, err)
	require.Equal(t, []Port{
		{
			Name: m.dev + "/ttyACM0", VID: "2341", PID: "0043", Driver: "cdc_acm",
			Problem: "the kernel has the port and there is no " + m.dev + "/ttyACM0; inside a container, pass the device in",
		},
		{
			Name: m.dev + "/ttyS0", Driver: "serial",
			Problem: "the kernel writes its console to this port; take another, or take console=ttyS0 off the kernel's command line", Console: true,
		},
		{
			Name: m.dev + "/ttyUSB9", VID: "1A86", PID: "7523", Driver: "ch341-uart",
			ByPath: m.dev + "/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0",
		},
		{
			Name: m.dev + "/ttyUSB10", VID: "0403", PID: "6001", Driver: "ftdi_sio",
			SerialNumber: "A50285BI", Manufacturer: "FTDI", Product: "FT232R USB UART",
			ByID:   m.dev + "/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
			ByPath: m.dev + "/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
			Users:  []string{"minicom (pid 812)"},
		},
	}, ports)
	require.Equal(t, ports[0].Name, ports[0].Stable())
	require.Equal(t, ports[2].ByPath, ports[2].Stable())
	require.Equal(t, ports[3].ByID, ports[3].Stable())
}

func TestPortsWithoutAny(t *testing.T) {
	for name, lines := range map[string]string{
		"nothing at all": "",
		"no ports":       "sys/class/tty/tty0 -> ../../devices/virtual/tty/tty0\nsys/devices/virtual/tty/tty0",
		"a dangling one": "sys/class/tty/ttyUSB0 -> ../../devices/gone",
	} {
		t.Run(name, func(t *testing.T) {
			ports, err := tree(t, lines).ports()
			require.NoError(t, err)
			require.Empty(t, ports)
		})
	}
}

// TestPortsKeepsTextInBounds: what an adapter says of itself comes from outside.
func TestPortsKeepsTextInBounds(t *testing.T) {
	m := tree(t, laneBox)
	usb := filepath.Join(m.sys, "devices/pci0000:00/0000:00:14.0/usb1/1-2")
	require.NoError(t, os.WriteFile(usb+"/product", []byte("\x1b[31mred\xff"+strings.Repeat("x", 1000)), 0o600))
	ports, err := m.ports()
	require.NoError(t, err)
	require.Equal(t, "[31mred"+strings.Repeat("x", maxAttribute-9), ports[3].Product)
}

// TestPortsHere runs on whatever this machine has.
func TestPortsHere(t *testing.T) {
	ports, err := Ports()
	require.NoError(t, err)
	for _, p := range ports {
		require.FileExists(t, filepath.Join("/sys/class/tty", filepath.Base(p.Name), "uevent"))
		if p.Console {
			require.NotContains(t, noSuchPort("/dev/ttyUSB9"), p.Stable())
		}
	}
}

func TestUsersOfFindsThisProcess(t *testing.T) {
	p := newPair(t)
	require.Contains(t, strings.Join(usersOf(p.slave.Name()), "\n"), fmt.Sprintf("(pid %d)", os.Getpid()))
	require.Empty(t, usersOf("/dev/ttyNOBODY"))
}

func TestNotAllowedNamesTheGroup(t *testing.T) {
	me, err := user.Current()
	require.NoError(t, err)
	require.Equal(t, "user "+me.Username+" may not open /dev/nothing-like-it: add it to group dialout (sudo usermod -aG dialout "+me.Username+") and start again",
		notAllowed("/dev/nothing-like-it"))
	// What is no serial port is never to be opened to others.
	for _, path := range []string{"/etc/shadow", "/dev/null"} {
		require.NotContains(t, Admit("anna", path), "sudo", path)
	}

	p := newPair(t)
	device := p.slave.Name()
	require.NoError(t, p.slave.Chmod(0o600))
	shut := "the port's group may not open it: sudo chgrp dialout " + device + " && sudo chmod 660 " + device + " && sudo usermod -aG dialout anna, and start again"
	require.Equal(t, shut, Admit("anna", device))
	group, err := user.LookupGroup("tty")
	if err != nil {
		t.Skip("this system has no group tty: ", err)
	}
	gid, err := strconv.Atoi(group.Gid)
	require.NoError(t, err)
	if err := os.Chown(device, -1, gid); err != nil {
		t.Skip("giving a file to a group takes root: ", err)
	}
	require.Equal(t, shut, Admit("anna", device))
	require.NoError(t, p.slave.Chmod(0o660))
	require.Equal(t, "add it to group tty (sudo usermod -aG tty anna) and start again", Admit("anna", device))
}

// TestSerialNotAllowed needs a user who is not root, who may open everything.
func TestSerialNotAllowed(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	p := newPair(t)
	require.NoError(t, p.slave.Chmod(0))
	_, err := openSerial(t, "serial:"+p.slave.Name()+n81)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.Contains(t, Hint(err), "may not open "+p.slave.Name())
	require.Contains(t, access(p.slave.Name()), "may not open "+p.slave.Name())
}
