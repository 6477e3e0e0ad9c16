package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What a TCP link does unless its URL or profile says otherwise.
const (
	defaultConnectTimeout = 10 * time.Second
	// defaultKeepalive is the quiet time after which the kernel asks whether the
	// other side is still there.
	defaultKeepalive = 15 * time.Second
	// It asks keepaliveProbes times, keepaliveEvery apart: an instrument whose
	// cable was pulled is missed after 15 + 4 x 5 = 35 s, not after two hours.
	keepaliveEvery  = 5 * time.Second
	keepaliveProbes = 4
	// defaultWriteTimeout bounds a write that makes no headway.
	defaultWriteTimeout = 10 * time.Second
	// tcpWriteChunk is what one write timeout is for.
	tcpWriteChunk = 64 << 10
)

type tcpEndpoint struct {
	host           string // without brackets
	port           int
	connectTimeout time.Duration
	keepalive      time.Duration // 0: off
	writeTimeout   time.Duration
}

func parseTCP(rest string, s *settings) (Endpoint, error) {
	const example = "tcp://10.0.3.21:1600"
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, fmt.Errorf("connect: tcp: needs two slashes before the host, for example %s", example)
	}
	authority, path, _ := strings.Cut(authority, "/")
	if path != "" {
		return nil, fmt.Errorf("connect: a tcp: link has no path; take out %q", echo("/"+path))
	}
	host, port, err := splitHostPort(authority)
	if err != nil {
		return nil, err
	}
	if port != "" {
		s.values["port"], s.origin["port"] = port, "connect"
	}
	s.require("port")
	if len(s.missing) > 0 {
		return nil, fmt.Errorf("connect: port is not set, and the profile has none; write for example %s", example)
	}
	e := &tcpEndpoint{host: host}
	var errs [4]error
	e.port, errs[0] = s.number("port", 1, 65535)
	e.connectTimeout, errs[1] = s.duration("connect_timeout", defaultConnectTimeout, 100*time.Millisecond, 5*time.Minute, false)
	e.keepalive, errs[2] = s.duration("keepalive", defaultKeepalive, time.Second, 2*time.Hour, true)
	e.writeTimeout, errs[3] = s.duration("write_timeout", defaultWriteTimeout, 100*time.Millisecond, 5*time.Minute, false)
	if e.keepalive%time.Second != 0 {
		errs[2] = fmt.Errorf("%s: keepalive=%v is not in whole seconds", s.origin["keepalive"], e.keepalive)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return e, nil
}

// splitHostPort takes an authority apart and checks the host. The port may be
// missing, then it is "".
func splitHostPort(authority string) (host, port string, err error) {
	if inner, ok := strings.CutPrefix(authority, "["); ok {
		host, tail, ok := strings.Cut(inner, "]")
		if !ok {
			return "", "", fmt.Errorf("connect: %q lacks the closing ]", echo(authority))
		}
		host, err := url.PathUnescape(host)
		if err != nil {
			return "", "", fmt.Errorf("connect: %q has a %% that two hexadecimal digits do not follow; before a zone write %%25", echo(authority))
		}
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is6() || !isZone(addr.Zone()) {
			return "", "", fmt.Errorf("connect: %q is not an IPv6 address", echo(host))
		}
		port, ok = strings.CutPrefix(tail, ":")
		if (!ok && tail != "") || (ok && port == "") {
			return "", "", fmt.Errorf("connect: after [%s] a colon and the port must follow", echo(host))
		}
		return host, port, nil
	}
	host, port, found := strings.Cut(authority, ":")
	if strings.Contains(port, ":") {
		return "", "", fmt.Errorf("connect: %q has more than one colon; write an IPv6 address in brackets, as in tcp://[fd00::21]:1600", echo(authority))
	}
	if found && port == "" {
		return "", "", fmt.Errorf("connect: after %s: the port must follow, for example %s:1600", echo(host), echo(host))
	}
	return host, port, checkHost(host)
}

// isZone says whether an IPv6 zone is empty or an interface name that a URL
// carries as it is.
func isZone(zone string) bool {
	return strings.Trim(zone, hostLetters+"_") == ""
}

const hostLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."

// checkHost finds slips before the resolver turns them into a long wait.
func checkHost(host string) error {
	switch {
	case host == "":
		return errors.New("connect: the host is missing; write for example tcp://10.0.3.21:1600")
	case len(host) > 253:
		return fmt.Errorf("connect: the host name is %d bytes long, at most 253 are allowed", len(host))
	case strings.Trim(host, hostLetters+"_") != "" || strings.HasPrefix(host, "-"):
		return fmt.Errorf("connect: %q is no host name: letters, digits, dots and dashes are allowed", echo(host))
	}
	last := host[strings.LastIndex(host, ".")+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("connect: %s is not an IP address: it takes four numbers from 0 to 255, without leading zeros", echo(host))
		}
	}
	return nil
}

func (e *tcpEndpoint) Scheme() string { return "tcp" }

// address is host:port.
func (e *tcpEndpoint) address() string {
	return net.JoinHostPort(e.host, strconv.Itoa(e.port))
}

// String leaves out the options that have their usual value.
func (e *tcpEndpoint) String() string {
	var options []string
	for _, o := range []struct {
		key          string
		value, usual time.Duration
	}{
		{"connect_timeout", e.connectTimeout, defaultConnectTimeout},
		{"keepalive", e.keepalive, defaultKeepalive},
		{"write_timeout", e.writeTimeout, defaultWriteTimeout},
	} {
		switch {
		case o.value == o.usual:
		case o.value == 0:
			options = append(options, o.key+"=off")
		default:
			options = append(options, o.key+"="+o.value.String())
		}
	}
	u := "tcp://" + strings.ReplaceAll(e.address(), "%", "%25")
	if len(options) > 0 {
		u += "?" + strings.Join(options, "&")
	}
	return u
}

func (e *tcpEndpoint) Open(ctx context.Context) (Conn, error) {
	dialer := net.Dialer{
		Timeout: e.connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   e.keepalive > 0,
			Idle:     e.keepalive,
			Interval: keepaliveEvery,
			Count:    keepaliveProbes,
		},
	}
	if e.keepalive == 0 {
		dialer.KeepAlive = -1
	}
	c, err := dialer.DialContext(ctx, "tcp", e.address())
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", e.address(), plain(err))
	}
	return &tcpConn{c: c, address: e.address(), writeTimeout: e.writeTimeout}, nil
}

type tcpConn struct {
	c            net.Conn
	address      string
	writeTimeout time.Duration
}

func (t *tcpConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, errEmptyRead
	}
	n, err := t.c.Read(p)
	if n > 0 {
		// An error that came with bytes comes again with the next read.
		return n, nil
	}
	return 0, t.failed("reading from", err)
}

func (t *tcpConn) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		// The bound is on standing still, so it begins anew with each chunk.
		if err := t.c.SetWriteDeadline(time.Now().Add(t.writeTimeout)); err != nil {
			return written, t.failed("writing to", err)
		}
		n, err := t.c.Write(p[written:min(written+tcpWriteChunk, len(p))])
		written += n
		if err != nil {
			return written, t.failed("writing to", err)
		}
	}
	return written, nil
}

func (t *tcpConn) SetReadDeadline(at time.Time) error {
	if err := t.c.SetReadDeadline(at); err != nil {
		return t.failed("setting the read deadline of", err)
	}
	return nil
}

func (t *tcpConn) Close() error {
	if err := t.c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return t.failed("closing", err)
	}
	return nil
}

// gone are the system's words for a peer that is no longer there. ETIMEDOUT is
// what unanswered keep-alive probes end in.
var gone = []error{
	io.EOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
	syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN,
}

// failed maps the errors of package net to those of a Conn.
func (t *tcpConn) failed(doing string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%s %s: %w", doing, t.address, ErrClosed)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s %s: %w", doing, t.address, os.ErrDeadlineExceeded)
	}
	for _, g := range gone {
		if !errors.Is(err, g) {
			continue
		}
		if errors.Is(g, io.EOF) {
			return fmt.Errorf("%s %s: %w: it closed the connection", doing, t.address, ErrUnplugged)
		}
		return fmt.Errorf("%s %s: %w: %w", doing, t.address, ErrUnplugged, plain(err))
	}
	return fmt.Errorf("%s %s: %w", doing, t.address, err)
}
