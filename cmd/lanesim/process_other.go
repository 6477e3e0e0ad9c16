//go:build !linux && !windows

package main

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from the agent: the demo stops it itself,
// after the instruments' last records.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
