// Command lanesim reproduces the instruments of a lane, byte for byte, so that
// the whole lane can be run and tested without hardware.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/cmd/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endSignals...)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:]))
}

// endSignals end a command in good order. SIGHUP is a terminal that was closed.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// usageError is a mistake in the command line.
type usageError struct{ error }

func execute(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "lanesim",
		Short:         "Simulated instruments of a border crossing lane",
		Long:          "lanesim reproduces the instruments of a lane, byte for byte.",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), replayCommand(), demoCommand(), listCommand())
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "lanesim:", err)
	var usage usageError
	if errors.As(err, &usage) || cmd == root {
		fmt.Fprintf(os.Stderr, "Try: %s --help\n", cmd.CommandPath())
		return 2
	}
	return 1
}

// speed is a flag like 1x, 20x or max.
type speed float64

// Speeds are bounded so that a typing error shows as one.
const maxSpeed = 10_000

func (s *speed) String() string {
	if *s == 0 {
		return "max"
	}
	return strconv.FormatFloat(float64(*s), 'g', -1, 64) + "x"
}

func (s *speed) Type() string { return "speed" }

func (s *speed) Set(text string) error {
	if text == "max" {
		*s = 0
		return nil
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(v > 0 && v <= maxSpeed) {
		return fmt.Errorf("want 1x, 20x or another number up to %dx, or max", maxSpeed)
	}
	*s = speed(v)
	return nil
}

// exactly refuses any other number of arguments.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("want %s", what)}
		}
		return nil
	}
}
