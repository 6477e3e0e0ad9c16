package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
)

// Below these the spool's disk is worth a warning.
const (
	littleSpace = 256 << 20 // bytes
	fewInodes   = 10_000
)

// checkFiles looks whether the agent's user can read the files that the configuration
// names, and the configuration itself.
func checkFiles(cfg *config.Config, a *account) (rows []result) {
	if cfg.ProfileDir != "" {
		row := result{"profiles", "directory", isOK, cfg.ProfileDir, ""}
		names, err := profileFiles(cfg.ProfileDir, a)
		switch {
		case err != nil:
			row.State, row.Detail = isFailed, fmt.Sprintf("%s: %s", cfg.ProfileDir, reason(err))
			row.Hint = fmt.Sprintf("let %s enter and read the directory and read the .yaml files in it, or have them in one of their own, such as /etc/lanepost/profiles", a.who())
		case len(names) == 0:
			row.State, row.Detail = isWarning, cfg.ProfileDir+" holds no profile"
			row.Hint = "put profiles there, with names that end in .yaml, or take profiles: out of the configuration"
		default:
			row.Detail += ": " + plural(len(names), "file")
		}
		rows = append(rows, row)
	}
	if a == nil {
		return rows // config.Load has read them all
	}
	var unreadable []string
	dir, err := filepath.Abs(filepath.Dir(cfg.Path))
	if err != nil {
		dir = filepath.Dir(defaultConfig)
	}
	for _, path := range cfg.Files {
		err := a.do(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			return f.Close()
		})
		if err != nil {
			unreadable = append(unreadable, path)
			rows = append(rows, result{
				"configuration", "readable", isFailed, fmt.Sprintf("user %s can't read %s: %s", a.name, path, reason(err)),
				a.mayRead(path, dir),
			})
		}
	}
	if len(unreadable) == 0 {
		rows = append(rows, result{"configuration", "readable", isOK, "user " + a.name + " can read it and all files that it names", ""})
	}
	return rows
}

func profileFiles(dir string, a *account) (names []string, err error) {
	err = a.do(func() error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".yaml") || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			f, err := os.Open(filepath.Join(dir, e.Name()))
			if err != nil {
				return fmt.Errorf("%s: %w", e.Name(), err)
			}
			if err := f.Close(); err != nil {
				return err
			}
			names = append(names, e.Name())
		}
		return nil
	})
	return names, err
}

// checkSpool looks whether the agent could write to the spool's directory, and
// changes nothing there: what root makes, the agent's user can't write to.
// running means that an agent holds it.
func checkSpool(dir string, a *account) (rows []result, running bool) {
	fail := func(check, detail, hint string) ([]result, bool) {
		return append(rows, result{"spool", check, isFailed, detail, hint}), false
	}
	at := dir
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, err = os.Stat(at)
	}
	switch {
	case err != nil:
		return fail("directory", err.Error(), cmp.Or(spool.Hint(err), "correct spool.dir in the configuration"))
	case !info.IsDir():
		return fail("directory", at+" is not a directory", "correct spool.dir in the configuration")
	}
	if at == dir {
		if running, err = locked(filepath.Join(dir, "lock")); err != nil {
			return fail("directory", err.Error(), cmp.Or(writeHint(err, a, dir, dir), "look at the permissions of "+dir))
		}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(at, &disk); err != nil {
		return fail("free space", fmt.Sprintf("%s: %v", at, err), cmp.Or(spool.Hint(err), "look at the disk"))
	}
	readOnly := int64(disk.Flags)&unix.ST_RDONLY != 0 //nolint:unconvert // 32 bits wide on arm
	switch {
	case running:
		rows = append(rows, result{"spool", "writable", isSkipped, dir + " is in use: an agent is running", ""})
	case readOnly:
		return fail("writable", at+" is on a disk that is mounted read-only", spool.Hint(syscall.EROFS))
	default:
		if err := a.do(func() error { return tryWrite(at) }); err != nil {
			return fail("writable", fmt.Sprintf("%s can't write to %s: %s", a.who(), at, reason(err)), cmp.Or(writeHint(err, a, dir, at), "look at the disk"))
		}
		row := result{"spool", "writable", isOK, a.who() + " can write to " + dir, ""}
		if at != dir {
			row.Detail = fmt.Sprintf("%s is not there yet: the agent makes it, since %s may write to %s", dir, a.who(), at)
		}
		rows = append(rows, row)
	}
	free := disk.Bavail * uint64(disk.Bsize) //nolint:gosec // a block size is positive
	row := result{"spool", "free space", isOK, fmt.Sprintf("%d MB free", free>>20), ""}
	if free < littleSpace {
		row.State, row.Hint = isWarning, "the disk is nearly full: events wait there while the broker can't be reached; free space on it (df -h)"
	}
	rows = append(rows, row)
	if disk.Files > 0 { // some file systems don't count them
		row := result{"spool", "inodes", isOK, fmt.Sprintf("room for %s", plural(int64(min(disk.Ffree, math.MaxInt64)), "more file")), ""}
		if disk.Ffree < fewInodes {
			row.State, row.Hint = isWarning, "there are too many small files on this disk: find and delete what is not needed (df -i)"
		}
		rows = append(rows, row)
	}
	return rows, running
}

// ofSpool are the names in a spool's directory.
var ofSpool = []string{
	"urgent", "routine", "quarantine", "blobs", "ledgers", "lock", "reserve", "agent.json", "signing-key.pem", "console.sock", "lost+found",
}

// isSpool reports whether a directory holds a spool and nothing else.
func isSpool(dir string) bool {
	entries, err := os.ReadDir(dir)
	found := 0
	for _, e := range entries {
		if !slices.Contains(ofSpool, e.Name()) {
			return false
		}
		if e.Name() == "urgent" || e.Name() == "routine" {
			found++
		}
	}
	return err == nil && found == 2
}

// writeHint says what to do about a spool's directory that can't be written to; at is the
// directory, or the nearest above it that is there. What others use too, such as /var/lib,
// must not change hands.
func writeHint(err error, a *account, dir, at string) string {
	if !errors.Is(err, fs.ErrPermission) || a == nil && os.Geteuid() == 0 {
		return spool.Hint(err)
	}
	before := ""
	if a == nil {
		before = "if the agent runs as another user, run this with sudo; otherwise: "
	}
	switch _, err := os.ReadDir(dir); {
	case at == dir && errors.Is(err, fs.ErrPermission):
		return before + "name another directory as spool.dir: this one is another user's"
	case at == dir && isSpool(dir):
		return fmt.Sprintf("%ssudo chown -R %s %s", before, a.user(), dir)
	case at == dir:
		dir = filepath.Join(dir, "lanepost")
		return fmt.Sprintf("%sgive the spool a directory of its own: sudo install -d -m 700 -o %s %s, and spool.dir: %s", before, a.user(), dir, dir)
	}
	return fmt.Sprintf("%ssudo install -d -m 700 -o %s %s makes it, or name another directory as spool.dir", before, a.user(), dir)
}

// locked reports whether a running agent holds the lock file of a spool.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // nothing was written; closing lets the lock go
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// tryWrite writes a file that it takes away again.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".lanepost-check-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
