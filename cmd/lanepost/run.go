package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/cmd/internal/version"
)

func runCommand() *cobra.Command {
	var path string
	var stdout bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent until it is told to stop",
		Long: "run reads the configuration and runs the agent.\n\n" +
			"SIGHUP reloads the configuration and restarts only the devices that changed;\n" +
			"SIGINT and SIGTERM stop the agent in good order, which takes some seconds if a\n" +
			"device or the disk does not answer; a second one does not hurry it.\n\n" +
			"As long as the configuration names neither a lane nor a broker, it waits for a\n" +
			"reload. It ends with 78 if the configuration is refused at the start. systemd is\n" +
			"told how the agent is (see docs/install.md).",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), path, stdout)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&stdout, "stdout", false, "print each event as one JSON line on standard output once it is on disk")
	return cmd
}

func run(ctx context.Context, path string, stdout bool) error {
	// Before anything else: a SIGHUP during a slow start must not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	// A reader of standard output that leaves must not take the agent along.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(end)
	reload := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case s := <-end:
				// Later ones change nothing: the devices are saying what they still
				// hold.
				stop(fmt.Errorf("signal: %s", s))
				return
			case <-hup:
				select {
				case reload <- struct{}{}:
				default: // one is waiting already
				}
			case <-ctx.Done():
				return
			}
		}
	}()

	cfg, err := config.Load(path)
	if err != nil {
		if hint := fileHint(err); hint != "" {
			err = fmt.Errorf("%w\n  hint: %s", err, hint)
		}
		return configError{err}
	}
	log := newLogger(os.Stderr, cfg.Log, os.Getenv("JOURNAL_STREAM"))
	slog.SetDefault(log) // for what has no device to speak for
	service, closeService, err := openService(os.Getenv)
	defer closeService()
	if err != nil {
		log.Warn("systemd can't be told how the agent is", "err", err)
	}
	if cfg = awaitLanes(ctx, cfg, reload, service, log); cfg == nil {
		return nil
	}
	o := agent.Options{
		ConfigPath: path,
		Version:    version.Number(),
		Reload:     reload,
		Service:    service,
		Log:        log,
	}
	if stdout {
		o.Stdout = os.Stdout
	}
	return agent.Run(ctx, o)
}

// newLogger makes a logger in the form that the configuration asks for. It lets every
// level pass: the agent says what is logged. Text that goes to the journal has no time,
// which stands there already, and the level as the journal knows it.
func newLogger(f *os.File, c config.Log, journalStream string) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelDebug}
	switch {
	case c.Format == "json":
		return slog.New(slog.NewJSONHandler(f, o))
	case inJournal(f, journalStream):
		return slog.New(newJournalHandler(f))
	}
	return slog.New(slog.NewTextHandler(f, o))
}
