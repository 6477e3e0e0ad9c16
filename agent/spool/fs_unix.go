//go:build unix && !linux

package spool

import "errors"

// Allocate is left out: segments grow.
func (f osFile) Allocate(int64) error { return errors.ErrUnsupported }

// Sync is os.File's, which on darwin flushes the drive's cache too.
func (f osFile) Sync() error { return f.File.Sync() }
