package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// maxAccepted is how many connections of one device are served at a time.
const maxAccepted = 8

// Acceptor is a link to an instrument that connects to the agent. Some keep the
// connection, some make one for each message.
type Acceptor struct {
	meter
	refusals
	endpoint *acceptEndpoint
	listener *net.TCPListener

	mu     sync.Mutex
	conns  map[*acceptedConn]struct{}
	closed bool
	woken  bool
}

// Accept waits for a connection from an address that is allowed.
func (a *Acceptor) Accept(ctx context.Context) (Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = a.SetReadDeadline(time.Unix(1, 0)) }) // the accept below reports
	defer stop()
	for {
		c, err := a.listener.AcceptTCP()
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case errors.Is(err, net.ErrClosed):
				return nil, fmt.Errorf("waiting on %s: %w", a.endpoint.address, ErrClosed)
			case errors.Is(err, os.ErrDeadlineExceeded):
				return nil, fmt.Errorf("waiting on %s: %w", a.endpoint.address, os.ErrDeadlineExceeded)
			}
			return nil, fmt.Errorf("waiting on %s: %w", a.endpoint.address, err)
		}
		remote := remoteOf(c)
		if !allows(a.endpoint.allow, remote) {
			a.add(Refusal{At: time.Now(), Remote: remote, Reason: "wrong_source"})
			_ = c.Close() // nothing was said that could be lost
			continue
		}
		if conn := a.take(c); conn != nil {
			return conn, nil
		}
		a.add(Refusal{At: time.Now(), Remote: remote, Reason: "too_many"})
		_ = c.Close() // as above
	}
}

// Serve calls read for each connection that the instrument makes, in a goroutine of its
// own, and closes the connection when read returns. It returns when there are no more, and
// all have ended, with the reason. What read returns is only logged: an instrument may make
// a connection for each message.
func (a *Acceptor) Serve(ctx context.Context, log *slog.Logger, read func(context.Context, Conn) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	for {
		conn, err := a.Accept(ctx)
		if err != nil {
			return err
		}
		running.Go(func() {
			defer func() {
				if p := recover(); p != nil { // the agent contains those of the driver's own goroutine only
					cancel(fmt.Errorf("a connection of the instrument: panic: %v", p))
				}
				_ = conn.Close() // it was read to its end
			}()
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
			defer stop()
			if err := read(ctx, conn); ctx.Err() == nil && !errors.Is(err, ErrUnplugged) {
				log.Debug("a connection of the instrument ended", "error", err)
			}
		})
	}
}

// Refuse tells that what connected was turned away, by the driver, for a reason that
// event.RefusedSender has.
func (a *Acceptor) Refuse(conn Conn, reason string) {
	if c, ok := conn.(*acceptedConn); ok {
		a.add(Refusal{At: time.Now(), Remote: remoteOf(c.c), Reason: reason})
	}
}

func remoteOf(c net.Conn) netip.Addr {
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return at.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (a *Acceptor) take(c *net.TCPConn) Conn {
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: defaultKeepalive, Interval: keepaliveEvery, Count: keepaliveProbes}) // without it a dead connection is noticed later
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.conns) >= maxAccepted {
		return nil
	}
	conn := &acceptedConn{tcpConn: tcpConn{c: c, address: c.RemoteAddr().String(), writeTimeout: defaultWriteTimeout}, a: a}
	if a.woken {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // a read then fails for another reason
	}
	a.conns[conn] = struct{}{}
	return conn
}

// acceptedConn is one of the connections.
type acceptedConn struct {
	tcpConn
	a *Acceptor
}

func (c *acceptedConn) Read(p []byte) (int, error) {
	n, err := c.tcpConn.Read(p)
	c.a.count(n)
	return n, err
}

func (c *acceptedConn) SetReadDeadline(t time.Time) error {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	if c.a.woken {
		t = time.Unix(1, 0)
	}
	return c.tcpConn.SetReadDeadline(t)
}

func (c *acceptedConn) Close() error {
	c.a.mu.Lock()
	delete(c.a.conns, c)
	c.a.mu.Unlock()
	return c.tcpConn.Close()
}

// Addr is the address that is listened on, with the port that was chosen.
func (a *Acceptor) Addr() net.Addr { return a.listener.Addr() }

// Read implements Conn; an acceptor is not read.
func (a *Acceptor) Read([]byte) (int, error) {
	return 0, errors.New("a tcp-listen link is not read: the driver and the link do not fit")
}

// Write implements Conn; an acceptor is not written to.
func (a *Acceptor) Write([]byte) (int, error) {
	return 0, errors.New("a tcp-listen link is not written to: the driver and the link do not fit")
}

// SetReadDeadline bounds Accept. One in the past wakes the reads of all
// connections too, for good: so the agent stops a driver.
func (a *Acceptor) SetReadDeadline(t time.Time) error {
	err := a.listener.SetDeadline(t)
	if !t.IsZero() && t.Before(time.Now()) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.woken = true
		for c := range a.conns {
			err = errors.Join(err, c.tcpConn.SetReadDeadline(t))
		}
	}
	return err
}

// Close ends the listening and every connection.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	conns := a.conns
	a.conns = map[*acceptedConn]struct{}{}
	a.mu.Unlock()
	err := a.listener.Close()
	for c := range conns {
		err = errors.Join(err, c.tcpConn.Close())
	}
	return err
}

type acceptEndpoint struct {
	address string
	allow   []netip.Prefix
}

func parseTCPListen(rest string, s *settings) (Endpoint, error) {
	const example = "tcp-listen://0.0.0.0:5000?allow=10.0.3.31"
	address, path, err := listenAddress("tcp-listen", rest, example)
	if err != nil {
		return nil, err
	}
	if path != "" {
		return nil, fmt.Errorf("connect: a tcp-listen: link has no path; take out %q", echo("/"+path))
	}
	e := &acceptEndpoint{address: address}
	if e.allow, err = s.addresses("allow"); err != nil {
		return nil, err
	}
	host, _, _ := strings.Cut(address, ":")
	if len(e.allow) == 0 && host != "127.0.0.1" {
		return nil, fmt.Errorf("connect: anybody could connect to %s and send plates; add allow=ADDRESS of the instrument, for example %s", address, example)
	}
	return e, nil
}

func (e *acceptEndpoint) Scheme() string { return "tcp-listen" }

func (e *acceptEndpoint) String() string {
	if len(e.allow) == 0 {
		return "tcp-listen://" + e.address
	}
	return "tcp-listen://" + e.address + "?allow=" + prefixes(e.allow)
}

func (e *acceptEndpoint) Open(ctx context.Context) (Conn, error) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", e.address)
	if err != nil {
		return nil, fmt.Errorf("listen for the instrument on %s: %w", e.address, err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen for the instrument on %s: not a TCP listener", e.address), ln.Close())
	}
	return &Acceptor{endpoint: e, listener: tcp, conns: map[*acceptedConn]struct{}{}}, nil
}
