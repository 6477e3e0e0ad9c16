package spool

import "sync/atomic"

// Counters count what a spool asks of its disk. They tell about wear, and are
// kept in memory only.
type Counters struct {
	// Syncs counts fsync and fdatasync, of files and directories.
	Syncs atomic.Uint64
	// Bytes counts the bytes that were written.
	Bytes atomic.Uint64
}

// Counting is an FS that counts what is asked of fs; nil is the operating
// system's.
func Counting(fs FS, c *Counters) FS {
	if fs == nil {
		fs = osFS{}
	}
	return countingFS{fs, c}
}

type countingFS struct {
	FS
	c *Counters
}

func (f countingFS) OpenFile(name string, flag int) (File, error) {
	file, err := f.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return countingFile{file, f.c}, nil
}

func (f countingFS) SyncDir(dir string) error {
	f.c.Syncs.Add(1)
	return f.FS.SyncDir(dir)
}

type countingFile struct {
	File
	c *Counters
}

func (f countingFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	f.c.Bytes.Add(uint64(n))
	return n, err
}

func (f countingFile) Sync() error {
	f.c.Syncs.Add(1)
	return f.File.Sync()
}
