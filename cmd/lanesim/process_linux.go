package main

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from the agent: the demo stops it itself,
// after the instruments' last records. Should the demo be killed, the kernel
// stops the agent.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
