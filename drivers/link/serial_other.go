//go:build !linux

package link

import (
	"context"
	"fmt"
	"runtime"
)

// Open fails: serial links are there on Linux only.
func (e *serialEndpoint) Open(context.Context) (Conn, error) {
	return nil, fmt.Errorf("opening serial port %s: serial links need Linux, this is %s; connect by tcp: instead", e.path, runtime.GOOS)
}
