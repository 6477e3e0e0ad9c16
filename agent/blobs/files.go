package blobs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// files changes files, each change after the hook has let it.
type files struct {
	hook func(op, path string) error
	// noSync leaves out what only a power cut needs, for tests.
	noSync bool
}

func (f files) step(op, path string) error {
	if f.hook == nil {
		return nil
	}
	return f.hook(op, path)
}

func (f files) mkdir(dir string) error {
	if err := f.step("mkdir", dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o700)
}

func (f files) create(name string) (*os.File, error) {
	if err := f.step("create", name); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (f files) write(file *os.File, b []byte) (int, error) {
	if err := f.step("write", file.Name()); err != nil {
		return 0, err
	}
	return file.Write(b)
}

func (f files) writeAt(file *os.File, b []byte, at int64) error {
	if err := f.step("write", file.Name()); err != nil {
		return err
	}
	_, err := file.WriteAt(b, at)
	return err
}

func (f files) sync(file *os.File) error {
	if err := f.step("sync", file.Name()); err != nil {
		return err
	}
	if f.noSync {
		return nil
	}
	return file.Sync()
}

func (f files) rename(from, to string) error {
	if err := f.step("rename", from+"\x00"+to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (f files) remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	return os.Remove(name)
}

func (f files) syncDir(dir string) error {
	if err := f.step("syncdir", dir); err != nil || f.noSync {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // opened for reading, nothing to lose
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // a file system whose directories need no sync
	}
	return err
}

// noSpace makes ErrFull of a full disk.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
