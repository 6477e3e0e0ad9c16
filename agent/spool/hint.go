package spool

import (
	"errors"
	"io/fs"
	"syscall"
)

// hints say what to do when the disk refuses, the first that fits.
var hints = []struct {
	of  error
	say string
}{
	{syscall.EROFS, "the disk is mounted read-only, which Linux also does by itself when a disk fails: look in dmesg, mount it writable (mount -o remount,rw and its mount point), and take it out of any overlay; a disk that fails must be replaced"},
	{syscall.ENOSPC, "the disk is full: free space on it (df -h and df -i show what is left), or make the caps under spool: smaller"},
	{syscall.EDQUOT, "the agent's user has used up its quota on this disk: raise it"},
	{ErrFull, "the receiver has not taken as many events as are kept for it: bring it back (see the uplinks), or set a larger cap under spool:"},
	{fs.ErrPermission, "the agent's user may not write there: make a directory for it (sudo install -d -m 700 -o USER DIRECTORY) and name that as spool.dir; lanepost check says more"},
	{ErrLocked, "another agent runs with this spool: stop it (systemctl stop lanepost), or give each its own spool.dir"},
	{syscall.EIO, "the disk fails: look in dmesg, and replace it; what is readable is kept"},
	{syscall.ENOTDIR, "a file is in the way where a directory should be: correct spool.dir"},
	{syscall.EMFILE, "too many files are open: raise the limit (LimitNOFILE= in the service)"},
}

// Hint says in one sentence what to do about an error of the spool or of its disk; it is
// "" if there is nothing better to say than the error itself.
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.of) {
			return h.say
		}
	}
	return ""
}
