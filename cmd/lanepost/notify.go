package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/agent/config"
)

// notifyTimeout bounds the wait for a service manager that takes no messages.
const notifyTimeout = time.Second

// openService makes what the environment says of the service manager, if there is
// one: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as in sd_notify(3) and
// sd_watchdog_enabled(3).
func openService(getenv func(string) string) (s agent.Service, end func(), err error) {
	end = func() {}
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return s, end, nil
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return s, end, fmt.Errorf("NOTIFY_SOCKET is %q: want a path, or @ and a name", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return s, end, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	s.Tell = func(message string) error {
		if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
			return err
		}
		_, err := conn.Write([]byte(message))
		return err
	}
	end = func() { _ = conn.Close() }
	if text := getenv("WATCHDOG_USEC"); text != "" {
		micros, err := strconv.ParseInt(text, 10, 64)
		if err != nil || micros <= 0 || micros > int64(24*time.Hour/time.Microsecond) {
			return s, end, fmt.Errorf("WATCHDOG_USEC is %q: want microseconds, a day at the most", text)
		}
		if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
			s.Watchdog = time.Duration(micros) * time.Microsecond
		}
	}
	return s, end, nil
}

// awaitLanes waits, for as long as the configuration names neither a lane nor a
// broker, for a reload that does. There is nothing to observe until then, and
// nothing is recorded under a name that a package has made up. The result is nil if
// ctx ends first.
func awaitLanes(ctx context.Context, cfg *config.Config, reload <-chan struct{}, s agent.Service, log *slog.Logger) *config.Config {
	if !cfg.Blank() {
		return cfg
	}
	what := "no lane is configured yet, so nothing is observed: write the site and its lanes into " + cfg.Path + " and reload"
	log.Warn(what)
	var alive <-chan time.Time
	if s.Watchdog > 0 {
		tick := time.NewTicker(s.Watchdog / 4)
		defer tick.Stop()
		alive = tick.C
	}
	tell := func(message string) {
		if s.Tell == nil {
			return
		}
		if err := s.Tell(message); err != nil {
			log.Warn("systemd can't be told how the agent is", "err", err)
		}
	}
	tell("READY=1\n" + agent.ServiceStatus(what))
	for {
		select {
		case <-ctx.Done():
			tell("STOPPING=1\n" + agent.ServiceStatus("stops"))
			return nil
		case <-alive:
			tell("WATCHDOG=1")
		case <-reload:
			if text, err := agent.ServiceReloading(); err == nil {
				tell(text)
			}
			next, err := config.Load(cfg.Path)
			switch {
			case err != nil:
				log.Error("the configuration is not valid and was not loaded", "err", err)
				tell("READY=1\n" + agent.ServiceStatus("the configuration is not valid, so nothing is observed: "+strings.Join(config.Lines(err), "; ")))
			case next.Blank():
				log.Warn(what)
				tell("READY=1\n" + agent.ServiceStatus(what))
			default:
				return next
			}
		}
	}
}
