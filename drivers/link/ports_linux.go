package link

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of what is looked at.
const (
	maxAttribute = 256     // bytes of a file in sysfs
	maxProcesses = 1 << 16 // processes
	maxDescent   = 16      // folders from a device up to its USB adapter
)

// machine is where Ports looks; tests build their own.
type machine struct {
	sys, dev, proc string
}

func here() machine {
	return machine{sys: "/sys", dev: "/dev", proc: "/proc"}
}

// Ports lists the serial ports of this machine, sorted by name; none is no
// error. It reads what the kernel tells and opens no port. (The enumerator of
// go.bug.st/serial opens every ttyS and sets it to 9600 baud, which would break
// a link that is at work.)
func Ports() ([]Port, error) {
	return here().ports()
}

func (m machine) ports() ([]Port, error) {
	entries, err := os.ReadDir(filepath.Join(m.sys, "class/tty"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing serial ports: %w", err)
	}
	byID, byPath := m.links("by-id"), m.links("by-path")
	var ports []Port
	for _, entry := range entries {
		tty := filepath.Join(m.sys, "class/tty", entry.Name())
		device, err := filepath.EvalSymlinks(filepath.Join(tty, "device"))
		if err != nil {
			continue // a screen, a pseudo-terminal, or just unplugged
		}
		// The kernel keeps a row of ttyS for chips that it does not find.
		if attribute(filepath.Join(tty, "type")) == "0" {
			continue
		}
		name := filepath.Join(m.dev, entry.Name())
		port := Port{Name: name, ByID: byID[name], ByPath: byPath[name]}
		m.describe(&port, device)
		port.Problem = access(name)
		if onConsole(m, name) {
			port.Problem, port.Console = consoleNote(entry.Name()), true
		}
		ports = append(ports, port)
	}
	sortPorts(ports)
	m.findUsers(ports)
	return ports, nil
}

// links reads a folder of /dev/serial: device by what points at it.
func (m machine) links(folder string) map[string]string {
	folder = filepath.Join(m.dev, "serial", folder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil // no USB adapter, or no udev
	}
	links := map[string]string{}
	for _, entry := range entries {
		link := filepath.Join(folder, entry.Name())
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(folder, target)
		}
		// udev may give one device several names; the first will do.
		if _, ok := links[target]; !ok {
			links[target] = link
		}
	}
	return links
}

// describe walks from the device up to its adapter.
func (m machine) describe(port *Port, device string) {
	for range maxDescent {
		if port.Driver == "" {
			if driver, err := os.Readlink(filepath.Join(device, "driver")); err == nil {
				port.Driver = filepath.Base(driver)
				// serial-base only stands between a chip's driver and its ports.
				if filepath.Base(filepath.Dir(filepath.Dir(driver))) == "serial-base" {
					port.Driver = ""
				}
			}
		}
		if vid := attribute(filepath.Join(device, "idVendor")); vid != "" {
			port.VID = strings.ToUpper(vid)
			port.PID = strings.ToUpper(attribute(filepath.Join(device, "idProduct")))
			port.SerialNumber = attribute(filepath.Join(device, "serial"))
			port.Manufacturer = attribute(filepath.Join(device, "manufacturer"))
			port.Product = attribute(filepath.Join(device, "product"))
			return
		}
		up := filepath.Dir(device)
		if up == device || up == filepath.Join(m.sys, "devices") {
			return
		}
		device = up
	}
}

// attribute reads a small file of sysfs; an absent one is "". What an adapter
// says of itself is made printable.
func attribute(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxAttribute))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(text), "")))
}

// access says why this process may not open a port, or nothing.
func access(name string) string {
	err := unix.Faccessat(unix.AT_FDCWD, name, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EACCES):
		return notAllowed(name)
	case errors.Is(err, unix.ENOENT):
		return "the kernel has the port and there is no " + name + "; inside a container, pass the device in"
	}
	return err.Error()
}

// notAllowed says that this user may not open a device, and how to be let into it.
func notAllowed(name string) string {
	who := ""
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	return fmt.Sprintf("user %s may not open %s: %s", who, name, Admit(who, name))
}

// Admit says how to let a user open a serial port. What is none stays closed.
func Admit(who, device string) string {
	if onConsole(here(), device) {
		return consoleNote(filepath.Base(device))
	}
	group := "dialout"
	if info, err := os.Stat(device); err == nil {
		path, err := filepath.EvalSymlinks(device)
		if info.Mode()&os.ModeCharDevice == 0 || err != nil || !strings.HasPrefix(path, "/dev/tty") && !strings.HasPrefix(path, "/dev/pts/") {
			return "let it read that, and enter the folders above"
		}
		g, err := &user.Group{}, fs.ErrNotExist
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Gid != 0 && info.Mode().Perm()&0o060 == 0o060 {
			g, err = user.LookupGroupId(strconv.Itoa(int(st.Gid)))
		}
		if err != nil {
			return fmt.Sprintf("the port's group may not open it: sudo chgrp dialout %s && sudo chmod 660 %s && sudo usermod -aG dialout %s, and start again", path, path, who)
		}
		group = g.Name
	}
	return fmt.Sprintf("add it to group %s (sudo usermod -aG %s %s) and start again", group, group, who)
}

// onConsole reports whether the kernel writes its console to a port.
func onConsole(m machine, device string) bool {
	return slices.Contains(strings.Fields(attribute(filepath.Join(m.sys, "class/tty/console/active"))), filepath.Base(device))
}

func consoleNote(name string) string {
	return "the kernel writes its console to this port; take another, or take console=" + name + " off the kernel's command line"
}

// findUsers fills in which processes have the ports open, this one too.
func (m machine) findUsers(ports []Port) {
	if len(ports) == 0 {
		return
	}
	index := map[string]int{}
	for i, p := range ports {
		index[p.Name] = i
	}
	processes, err := os.ReadDir(m.proc)
	if err != nil {
		return
	}
	seen := 0
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		if seen++; seen > maxProcesses {
			return
		}
		folder := filepath.Join(m.proc, process.Name(), "fd")
		fds, err := os.ReadDir(folder)
		if err != nil {
			continue // another user's, or it just ended
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(folder, fd.Name()))
			if err != nil {
				continue
			}
			i, ok := index[target]
			if !ok {
				continue
			}
			command := attribute(filepath.Join(m.proc, process.Name(), "comm"))
			use := fmt.Sprintf("%s (pid %d)", command, pid)
			if !slices.Contains(ports[i].Users, use) {
				ports[i].Users = append(ports[i].Users, use)
			}
		}
	}
}

// usersOf are the programs that have one device open.
func usersOf(device string) []string {
	one := []Port{{Name: device}}
	here().findUsers(one)
	return one[0].Users
}
