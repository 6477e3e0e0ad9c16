package simulator

import (
	"context"

	"golang.org/x/sys/unix"
)

// users can't see on darwin who opens a pseudo-terminal, and takes it that
// somebody always has.
type users struct{}

func watchUsers(string, func(), func()) (*users, error) { return &users{}, nil }

func (*users) present() bool { return true }

func (*users) session() int { return 1 }

func (*users) wait(ctx context.Context) error { return ctx.Err() }

func (*users) close() error { return nil }

func resetLine(int) error { return nil }

// fionread is FIONREAD of sys/filio.h.
const fionread = 0x4004667f

// queued is how many bytes wait on the slave side.
func queued(fd int) (int, error) { return unix.IoctlGetInt(fd, fionread) }
