package blobs

import (
	"fmt"
	"syscall"
)

// freeBytes is what the file system has left for this user.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	block := uint64(st.Bsize) // of another type on other machines
	return int64(min(st.Bavail, 1<<60/block) * block), nil
}
