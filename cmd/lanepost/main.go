// Command lanepost is the edge agent for the lanes of a border crossing point:
// it reads the lane's instruments, keeps every event safe on disk, and delivers
// the events over MQTT.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lanepost/lanepost/cmd/internal/version"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// defaultConfig is where a package puts the configuration.
const defaultConfig = "/etc/lanepost/lanepost.yaml"

// Exit codes.
const (
	exitFailed = 1 // something that was asked for did not work
	exitUsage  = 2 // the command line was wrong, or there was nothing to verify
	// exitConfig says that run refused the configuration. systemd prints it as CONFIG.
	exitConfig = 78
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:]))
}

// errReported ends a command that has said already what is wrong.
var errReported = errors.New("reported")

// usageError is a mistake in the command line.
type usageError struct{ error }

// configError is a configuration with which the agent does not start.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// commands is the program with all its commands.
func commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "lanepost",
		Short: "The edge agent for the lanes of a border crossing point",
		Long: "lanepost reads a lane's instruments, keeps every event safe on disk,\n" +
			"and delivers the events over MQTT.",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{flagError(err)} })
	root.AddCommand(initCommand(), checkCommand(), runCommand(), watchCommand(), identifyCommand(), portsCommand(), recordCommand(),
		replayCommand(), supportCommand(), spoolCommand(), exportCommand(), verifyCommand(), keyCommand(), consoleCommand(), versionCommand())
	return root
}

func execute(ctx context.Context, args []string) int {
	root := commands()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errReported) {
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "lanepost:", safe(strings.ReplaceAll(err.Error(), "\t", "    ")))
	var unread unreadError
	if errors.As(err, &unread) {
		return exitUsage
	}
	var refused configError
	if errors.As(err, &refused) {
		return exitConfig
	}
	var usage usageError
	if errors.As(err, &usage) || cmd == root {
		fmt.Fprintf(os.Stderr, "Try: %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// flagError says what is wrong with a flag in words for a person.
func flagError(err error) error {
	var none *pflag.ValueRequiredError
	if errors.As(err, &none) && none.GetFlag() != nil {
		return fmt.Errorf("--%s needs a value: %s", none.GetFlag().Name, none.GetFlag().Usage)
	}
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) || bad.GetFlag() == nil {
		return err
	}
	name, value := bad.GetFlag().Name, bad.GetValue()
	switch bad.GetFlag().Value.Type() {
	case "duration":
		if strings.Trim(value, "0123456789.") == "" {
			return fmt.Errorf("--%s %q: a duration needs a unit, for instance 30s or 10m", name, value)
		}
		return fmt.Errorf("--%s %q is no duration: write for instance 30s or 10m", name, value)
	case "int", "uint64", "intSlice":
		return fmt.Errorf("--%s %q: want a whole number", name, value)
	}
	return err
}

// noArgs refuses arguments to a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if near := yamlfile.Nearest(args[0], names); near != "" {
		return usageError{fmt.Errorf("unexpected argument %q; did you mean %s?", args[0], near)}
	}
	return usageError{fmt.Errorf("unexpected argument %q", args[0])}
}
