//go:build !linux && !darwin

package simulator

import (
	"fmt"
	"log/slog"
	"runtime"
)

func openTerminal(string, *slog.Logger, func(string)) (link, error) {
	return nil, fmt.Errorf("there are no pseudo-terminals on %s; let the device listen on tcp://127.0.0.1:0 instead", runtime.GOOS)
}
