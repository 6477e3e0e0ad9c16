package spool

import "io"

// FS is what the spool needs of a file system.
type FS interface {
	// MkdirAll makes a directory and its parents with mode 0700.
	MkdirAll(dir string) error
	// OpenFile opens a file with the given os.O_ flags and mode 0600.
	OpenFile(name string, flag int) (File, error)
	// ReadDir lists the files in a directory.
	ReadDir(dir string) ([]FileInfo, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Free says how many bytes this process may still write to the file system that
	// holds a directory, and how many it has in all.
	Free(dir string) (free, total int64, err error)
}

// FileInfo is a file in a directory.
type FileInfo struct {
	Name string
	Size int64
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate gives the file the size and the space for it, reading as zeros;
	// errors.ErrUnsupported where the file system can't.
	Allocate(size int64) error
	// Sync makes the content and the size durable.
	Sync() error
	// Lock takes the file's lock for this process without waiting; ErrLocked if
	// another has it. Close gives it back.
	Lock() error
	// Gone reports whether the name surely stands for no file any more, or for
	// another one.
	Gone(name string) bool
}
