package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The service of the package, and its user.
const (
	serviceUnit = "lanepost.service"
	serviceUser = "lanepost"
	// maxUnit bounds a unit file, in bytes.
	maxUnit = 64 << 10
)

// account is the user that the agent runs as.
type account struct {
	name   string
	uid    int
	gid    int
	groups []int
}

// agentAccount finds the agent's user for a check that is run as root: root may open and
// write what the agent may not. It is nil if this is not root, or there is no such user.
// Systemd may give a service more groups than its user has.
func agentAccount(name string) (*account, error) {
	if os.Geteuid() != 0 {
		if name != "" {
			return nil, errors.New("--user can be told by root only: run it with sudo")
		}
		return nil, nil
	}
	asked := name != ""
	var more []string
	if !asked {
		name, more = serviceUser, nil
		if unit := serviceProperties(); len(unit) > 0 {
			if unit["User"] == "" {
				return nil, nil // it runs as root
			}
			name, more = unit["User"], strings.Fields(unit["SupplementaryGroups"])
		}
	}
	u, err := user.Lookup(name)
	if err != nil {
		if asked {
			return nil, fmt.Errorf("--user %s: there is no such user on this machine", name)
		}
		return nil, nil
	}
	a := &account{name: name}
	var errs [2]error
	a.uid, errs[0] = strconv.Atoi(u.Uid)
	a.gid, errs[1] = strconv.Atoi(u.Gid)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("the user %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of the user %s: %w", name, err)
	}
	for _, g := range more {
		if found, err := user.LookupGroup(g); err == nil {
			ids = append(ids, found.Gid)
		}
	}
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil && !slices.Contains(a.groups, n) {
			a.groups = append(a.groups, n)
		}
	}
	if a.uid == 0 {
		return nil, nil
	}
	return a, nil
}

// unitFolders are where systemd looks for units, the later over the earlier.
var unitFolders = []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system"}

// serviceProperties reads whose rights the agent's service has: the last unit file counts,
// and what was added to it. It is empty where there is no service.
func serviceProperties() map[string]string {
	found := map[string]string{}
	for i := len(unitFolders) - 1; i >= 0 && len(found) == 0; i-- {
		readUnit(filepath.Join(unitFolders[i], serviceUnit), found)
	}
	for _, folder := range unitFolders {
		added, err := filepath.Glob(filepath.Join(folder, serviceUnit+".d", "*.conf"))
		if err != nil || len(found) == 0 {
			continue // nothing was added
		}
		for _, path := range added {
			readUnit(path, found)
		}
	}
	return found
}

// readUnit reads settings of a unit file. Lists grow, and an empty value empties them.
func readUnit(path string, into map[string]string) {
	f, err := os.Open(path)
	if err != nil {
		return // there is none
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	b, err := io.ReadAll(io.LimitReader(f, maxUnit))
	if err != nil {
		return
	}
	into["path"] = path
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";"):
		case key == "SupplementaryGroups" && value != "":
			into[key] += " " + value
		default:
			into[key] = value
		}
	}
}

// do runs f with the rights of the account on files, as the kernel checks them: those of
// a thread of its own, which ends with f. A nil account is the one that runs the check.
func (a *account) do(f func() error) error {
	if a == nil {
		return f()
	}
	had, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("the groups of this user: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its rights
		done <- func() error {
			// The groups are those of the whole program for a moment. It runs as root, whose
			// rights don't depend on them.
			err := syscall.Setgroups(a.groups)
			if err == nil {
				err = unix.Setfsgid(a.gid)
			}
			if err == nil {
				err = unix.Setfsuid(a.uid)
			}
			if err != nil {
				return fmt.Errorf("take on the rights of the user %s: %w", a.name, err)
			}
			return f()
		}()
	}()
	err = <-done
	return errors.Join(err, syscall.Setgroups(had))
}

// who names the account for a person.
func (a *account) who() string {
	return "user " + a.user()
}

// user is the account's name.
func (a *account) user() string {
	if a != nil {
		return a.name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "$USER"
}

// mayRead says how to let the account read a file that a configuration in dir names. A file
// elsewhere, such as a key in /etc/ssl, may be others' too, and stays as it is.
func (a *account) mayRead(path, dir string) string {
	group := a.name
	if g, err := user.LookupGroupId(strconv.Itoa(a.gid)); err == nil {
		group = g.Name
	}
	if within, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(within) {
		return fmt.Sprintf("sudo chgrp %s %s && sudo chmod 640 %s; the folders above must be open to it too", group, path, path)
	}
	copied := filepath.Join(dir, filepath.Base(path))
	return fmt.Sprintf("give the agent a copy and name that in the configuration: sudo install -m 640 -g %s %s %s", group, path, copied)
}

// reason is an error without the name of the system call and the path that the row says.
func reason(err error) string {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		return inPath.Err.Error()
	}
	return err.Error()
}
