package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lanepost/lanepost/simulator"
)

// tellTimeout bounds what a peer of the teller may take.
const tellTimeout = 5 * time.Second

// telling is a teller that is served.
type telling struct {
	url    string
	server *http.Server
}

// tell serves a teller on an address of this machine.
func tell(address string, teller *simulator.Teller) (*telling, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, usageError{fmt.Errorf("--tell %q: want HOST:PORT, for instance 127.0.0.1:7490", address)}
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("tell what is played: %w; name another port", err)
	}
	if at, ok := ln.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		return nil, usageError{errors.Join(fmt.Errorf("--tell %s: it is told on this machine only; write for example 127.0.0.1:7490", address), ln.Close())}
	}
	s := &http.Server{
		Handler: teller, ReadHeaderTimeout: tellTimeout, ReadTimeout: tellTimeout, WriteTimeout: tellTimeout, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(logger().Handler(), slog.LevelDebug),
	}
	go func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			logger().Warn("what is played is not told any more", "err", err)
		}
	}()
	return &telling{url: "http://" + ln.Addr().String(), server: s}, nil
}

func (t *telling) close() { _ = t.server.Close() } // nobody waits for an answer any more
