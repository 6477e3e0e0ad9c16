package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/capture"
)

// Times of serving.
const (
	// serveStall is how long a client may take nothing before it is given up.
	serveStall = 30 * time.Second
	// serveLinger is how long a client may take to read what is left at the end.
	serveLinger = 5 * time.Second
	// maxServeSpeed bounds a speed, so that a typing error shows as one.
	maxServeSpeed = 10_000
)

// line is where the bytes of a tape are served: one client at a time.
type line interface {
	// client waits for somebody to connect.
	client(ctx context.Context) (io.WriteCloser, error)
	// where it is reached, as a connect URL.
	where() string
	// parts reports whether a connection can be ended.
	parts() bool
	close() error
}

// serveTape gives the bytes of a tape to whoever connects, with their pauses. While nobody
// is there, time stands still. Where the link ended in the recording it is ended here.
func serveTape(ctx context.Context, out, notes io.Writer, t *tape, at, speedText string) error {
	speed, err := parseSpeed(speedText)
	if err != nil {
		return usageError{err}
	}
	var l line
	if path, isPty := strings.CutPrefix(at, "pty:"); isPty {
		l, err = openPseudoTerminal(path)
	} else {
		l, err = listenFor(at)
	}
	if err != nil {
		return err
	}
	defer l.close() //nolint:errcheck // the end is told; nothing depends on how the listener closed
	stop := context.AfterFunc(ctx, func() { _ = l.close() })
	defer stop()
	fmt.Fprintln(out, l.where())
	s := server{t: t, speed: speed, parts: l.parts()}
	err = s.serve(ctx, l)
	t.report(notes)
	fmt.Fprintf(notes, "bytes given: %d\n", s.given)
	switch {
	case ctx.Err() != nil:
		return nil // Ctrl-C is an orderly end
	case err != nil:
		return err
	case t.damaged:
		return errReported
	}
	return nil
}

func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(v > 0 && v <= maxServeSpeed) {
		return 0, fmt.Errorf("--speed %q: want 1x, 20x or another number up to %dx, or max", text, maxServeSpeed)
	}
	return v, nil
}

type server struct {
	t     *tape
	speed float64 // 0 without pauses
	parts bool
	given int64
}

func (s *server) serve(ctx context.Context, l line) error {
	var held *capture.Entry // that nobody got yet
	for {
		c, err := l.client(ctx)
		if err != nil {
			return err
		}
		held, err = s.client(ctx, c, held)
		closeErr := c.Close()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case closeErr != nil && held == nil:
			return fmt.Errorf("give the last bytes: %w", closeErr)
		}
	}
}

// client plays to one client, from an entry on that was read already if held is not nil.
// The error is nil if the client is to be parted from, or has gone; then rest is what it
// did not get.
func (s *server) client(ctx context.Context, c io.Writer, held *capture.Entry) (rest *capture.Entry, err error) {
	var began, first time.Time // by this clock, and by that of the recording
	got := false
	for {
		var e capture.Entry
		if held != nil {
			e, held = *held, nil
		} else if e, err = s.t.read(); err != nil {
			return nil, err
		}
		switch {
		case e.Conn > 0:
			return nil, errors.New("the recording is of an instrument that makes its connections itself, so there is nothing that a program could connect to; play it with --profile")
		case first.IsZero():
			began, first = time.Now(), e.At
		case s.speed > 0:
			// A clock that was set back in the recording makes no pause.
			if err := pause(ctx, time.Until(began.Add(time.Duration(float64(e.At.Sub(first))/s.speed)))); err != nil {
				return nil, err
			}
		}
		switch {
		case e.Mark == capture.Parted && got && s.parts:
			return nil, nil
		case len(e.Bytes) == 0:
			continue
		}
		if err := giveAll(ctx, c, e.Bytes); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return &e, nil // it is gone; the next one gets this read whole
		}
		got = true
		s.given += int64(len(e.Bytes))
	}
}

func giveAll(ctx context.Context, c io.Writer, b []byte) error {
	if d, ok := c.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := d.SetWriteDeadline(time.Now().Add(serveStall)); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = d.SetWriteDeadline(time.Unix(1, 0)) }) // wakes the write
		defer stop()
	}
	_, err := c.Write(b)
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tcpLine is a listener.
type tcpLine struct{ ln net.Listener }

func listenFor(at string) (line, error) {
	address, ok := strings.CutPrefix(at, "tcp://")
	if !ok {
		return nil, usageError{fmt.Errorf("--serve %q: want pty: or tcp://HOST:PORT, for instance tcp://127.0.0.1:1600", at)}
	}
	ln, err := net.Listen("tcp", strings.TrimSuffix(address, "/"))
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w; another program may have the port, give another one", at, err)
	}
	return tcpLine{ln}, nil
}

func (l tcpLine) where() string { return "tcp://" + l.ln.Addr().String() }
func (l tcpLine) parts() bool   { return true }
func (l tcpLine) close() error  { return l.ln.Close() }

func (l tcpLine) client(ctx context.Context) (io.WriteCloser, error) {
	c, err := l.ln.Accept()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("wait for a client: %w", err)
	}
	go func() { // what a client says is read and thrown away, or the last bytes would be lost by a reset
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}()
	return lingering{c.(*net.TCPConn)}, nil //nolint:forcetypeassert // it is of a TCP listener
}

// lingering lets the other end read what is left before the connection is closed.
type lingering struct{ *net.TCPConn }

func (c lingering) Close() error {
	_ = c.CloseWrite() // if the client is gone already there is nothing to wait for
	_ = c.SetReadDeadline(time.Now().Add(serveLinger))
	return nil // the goroutine that reads closes it
}
