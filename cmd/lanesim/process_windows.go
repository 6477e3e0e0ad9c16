package main

import (
	"os"
	"os/exec"
)

func detach(*exec.Cmd) {}

// Windows has no signal to ask with.
func interrupt(p *os.Process) error { return p.Kill() }
