package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/simulator"
)

func runCommand() *cobra.Command {
	rate := speed(1)
	var seed uint64
	var truth, tellAt string
	var wait bool
	listen := map[string]string{}
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Play a scenario: a name from `lanesim list`, or a file",
		Long: "run opens the links of a scenario's devices, prints where they are reached, and\n" +
			"plays the scenario to its end or until Ctrl-C.",
		Args: exactly(1, "one scenario, a name from `lanesim list` or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			scenario, err := load(args[0], seed)
			if err != nil {
				return err
			}
			o := simulator.Options{Speed: float64(rate), Wait: wait, Listen: listen, Log: logger()}
			if tellAt != "" {
				if rate == 0 {
					return usageError{errors.New("--tell tells by the clock: want --speed 1x or 20x, and not max")}
				}
				teller := &simulator.Teller{Scenario: scenario.Name, Speed: float64(rate)}
				told, err := tell(tellAt, teller)
				if err != nil {
					return err
				}
				defer told.close()
				o.OnTruth = teller.Take
			}
			if truth != "" {
				f, err := os.Create(truth)
				if err != nil {
					return fmt.Errorf("write the truth: %w", err)
				}
				o.Truth = f
				return errors.Join(play(cmd.Context(), cmd.OutOrStdout(), scenario, o), f.Close())
			}
			return play(cmd.Context(), cmd.OutOrStdout(), scenario, o)
		},
	}
	f := cmd.Flags()
	f.Var(&rate, "speed", "how fast time passes: 1x, 20x, or max for as fast as the clients read")
	f.Uint64Var(&seed, "seed", 0, "another seed than the scenario's (0: its own)")
	f.StringVar(&truth, "truth", "", "write what really happens to this file, as JSON lines")
	f.StringVar(&tellAt, "tell", "", "tell vehicles and faults to the page of an agent at this address, for instance 127.0.0.1:7490; its configuration names it as console.simulator")
	f.BoolVar(&wait, "wait", false, "begin when every device that listens has had its first client; folders, and what sends by itself, are not waited for")
	f.StringToStringVar(&listen, "listen", nil, "where a device listens, LANE/DEVICE=tcp://HOST:PORT or =pty:[PATH]")
	return cmd
}

func load(name string, seed uint64) (*simulator.Scenario, error) {
	scenario, err := simulator.Load(name)
	if err != nil {
		return nil, err
	}
	if seed != 0 {
		scenario.Seed = seed
	}
	return scenario, nil
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func play(ctx context.Context, out io.Writer, scenario *simulator.Scenario, o simulator.Options) error {
	sim, err := simulator.New(scenario, o)
	if err != nil {
		return err
	}
	if err := sim.Start(ctx); err != nil {
		return err
	}
	for _, d := range sim.Devices() {
		fmt.Fprintf(out, "%s/%s  %s  %s\n", d.Lane, d.ID, d.Model, d.Connect)
	}
	err = sim.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // Ctrl-C is an orderly end
	}
	return errors.Join(err, sim.Close())
}

func replayCommand() *cobra.Command {
	rate := speed(1)
	var listen string
	var keepTime bool
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Play a recording, or a daily file, to whoever connects",
		Long: "replay waits for a client, plays the file once with the pauses that its time\n" +
			"column tells, and closes. The time column, which no portal sends, is left out. What\n" +
			"`lanepost record` has written is played read by read, and where the link ended\n" +
			"in it the client is left.",
		Args: exactly(1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("replay: %w", err)
			}
			defer f.Close() //nolint:errcheck // opened for reading only
			r, err := simulator.ReplayListen(cmd.Context(), f, listen, simulator.ReplayOptions{
				Speed: float64(rate), KeepTime: keepTime, Log: logger(),
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), r.Connect)
			done, err := r.Wait()
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d lines, %d with a time, %d bytes sent, %d lines that nobody received\n",
				done.Lines, done.Timed, done.Bytes, done.LostLines)
			return err
		},
	}
	f := cmd.Flags()
	f.Var(&rate, "speed", "1x keeps the pauses of the file; 20x; max")
	f.StringVar(&listen, "listen", "tcp://127.0.0.1:1600", "where to listen: HOST:PORT, tcp://HOST:PORT, or pty:[PATH]")
	f.BoolVar(&keepTime, "keep-time", false, "leave the time column in")
	cmd.PreRun = func(*cobra.Command, []string) {
		if !strings.Contains(listen, "://") && !strings.HasPrefix(listen, "pty:") {
			listen = "tcp://" + listen
		}
	}
	return cmd
}

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the built-in scenarios and the models of instruments",
		Args:  exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range simulator.Scenarios() {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Summary)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "\nmodels of instruments: %s\n", strings.Join(simulator.Models(), ", "))
			return err
		},
	}
}
