//go:build unix

package link

import (
	"os"
	"path/filepath"
	"syscall"
)

// mountPoint reports whether another file system begins at a path.
func mountPoint(path string) (bool, error) {
	at, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	above, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	a, ok := at.Sys().(*syscall.Stat_t)
	b, ok2 := above.Sys().(*syscall.Stat_t)
	return ok && ok2 && (a.Dev != b.Dev || a.Ino == b.Ino), nil
}
