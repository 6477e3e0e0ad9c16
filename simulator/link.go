package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Times of links.
const (
	// stalledAfter is how long a client may take nothing before it is dropped.
	stalledAfter = 30 * time.Second
	// lingerFor is how long a client may take to read what is left at the end.
	lingerFor = time.Second
	// acceptPause is the pause after an accept that failed.
	acceptPause = 50 * time.Millisecond
)

// ErrDisconnected is what Serve and Replay return when the scenario breaks the
// connection, or the other side does.
var ErrDisconnected = errors.New("the connection is broken")

// link is where the bytes of a device go. One goroutine sends.
type link interface {
	// send gives bytes to the client and reports whether there was one that
	// took them. An error ends the device.
	send(ctx context.Context, b []byte) (bool, error)
	// breakOff drops the client and lets nobody in for a while.
	breakOff(down time.Duration) error
	// client waits until somebody is there.
	client(ctx context.Context) error
	// session counts the clients that were there so far.
	session() int
	// connect is the URL at which the device is reached.
	connect() string
	// close ends the link. With drain it first lets the client have what was
	// sent.
	close(drain bool) error
}

// openLink opens the place where a device is reached. event is called, from any
// goroutine, when a client is "connected", "disconnected" or "refused".
func openLink(address listenAddress, log *slog.Logger, event func(what string)) (link, error) {
	if address.scheme == "pty" {
		return openTerminal(address.link, log, event)
	}
	ln, err := net.Listen("tcp", address.tcp)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp://%s: %w; another program may have the port, give another one", address.tcp, err)
	}
	return newServer(ln, log, event), nil
}

// server is a link on a listener, for one client at a time.
type server struct {
	listener net.Listener
	log      *slog.Logger
	event    func(string)

	mu          sync.Mutex
	conn        net.Conn
	sessions    int
	heard       func(session int, b []byte)
	refuseUntil time.Time
	closed      bool

	arrived chan struct{} // a hint that conn was set
	ended   chan struct{}
	running sync.WaitGroup
}

func newServer(ln net.Listener, log *slog.Logger, event func(string)) *server {
	s := &server{listener: ln, log: log, event: event, arrived: make(chan struct{}, 1), ended: make(chan struct{})}
	s.running.Add(1)
	go s.accept()
	return s
}

func (s *server) accept() {
	defer s.running.Done()
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-s.ended:
				return
			case <-time.After(acceptPause):
				s.log.Warn("accept a client", "error", err)
				continue
			}
		}
		s.mu.Lock()
		if s.closed || s.conn != nil || time.Now().Before(s.refuseUntil) {
			busy := s.conn != nil
			s.mu.Unlock()
			refuse(conn)
			s.log.Info("client refused", "client", conn.RemoteAddr().String(), "another_is_connected", busy)
			s.event("refused")
			continue
		}
		s.conn = conn
		s.sessions++
		sessions := s.sessions
		s.running.Add(1)
		s.mu.Unlock()
		s.event("connected")
		select {
		case s.arrived <- struct{}{}:
		default:
		}
		go s.watch(conn, sessions)
	}
}

// refuse resets a connection.
func refuse(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset is a courtesy; a plain close refuses too
	}
	_ = conn.Close() // nothing was sent that could be lost
}

// watch notices that the client goes. Most instruments don't listen to it.
func (s *server) watch(conn net.Conn, session int) {
	defer s.running.Done()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		s.mu.Lock()
		heard := s.heard
		s.mu.Unlock()
		if heard != nil && n > 0 {
			heard(session, buf[:n])
		}
		if err != nil {
			break // whatever the reason, the client is gone
		}
	}
	s.drop(conn)
}

// hear asks for what the clients send.
func (s *server) hear(f func(session int, b []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = f
}

func (s *server) drop(conn net.Conn) {
	s.mu.Lock()
	gone := s.conn == conn
	if gone {
		s.conn = nil
	}
	s.mu.Unlock()
	if gone {
		_ = conn.Close() // nobody is interested any more
		s.event("disconnected")
	}
}

func (s *server) current() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func (s *server) send(_ context.Context, b []byte) (bool, error) {
	conn := s.current()
	if conn == nil {
		return false, nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(stalledAfter)); err != nil {
		s.drop(conn)
		return false, nil
	}
	if _, err := conn.Write(b); err != nil {
		s.log.Info("client lost", "error", err)
		s.drop(conn)
		return false, nil
	}
	return true, nil
}

func (s *server) breakOff(down time.Duration) error {
	s.mu.Lock()
	s.refuseUntil = time.Now().Add(down)
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		s.drop(conn)
	}
	return nil
}

func (s *server) client(ctx context.Context) error {
	for {
		if s.current() != nil {
			return nil
		}
		select {
		case <-s.arrived:
		case <-s.ended:
			return net.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *server) session() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func (s *server) connect() string { return "tcp://" + s.listener.Addr().String() }

func (s *server) close(drain bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conn := s.conn
	s.conn = nil
	s.mu.Unlock()
	close(s.ended)
	err := s.listener.Close()
	if conn != nil {
		// The system delivers what was sent before the end of the stream, unless the client
		// says something meanwhile: that would be answered by a reset. So it is let finish.
		if half, ok := conn.(interface{ CloseWrite() error }); drain && ok && half.CloseWrite() == nil && conn.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
			s.running.Wait()
		}
		err = errors.Join(err, conn.Close())
	}
	s.running.Wait()
	return err
}

// given is a link on a connection that the caller has.
type given struct {
	w io.Writer
}

func (g given) send(ctx context.Context, b []byte) (bool, error) {
	if d, ok := g.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetWriteDeadline(time.Unix(1, 0)) }) // wakes the write
		defer stop()
	}
	if _, err := g.w.Write(b); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return true, nil
}

func (g given) breakOff(time.Duration) error {
	if c, ok := g.w.(io.Closer); ok {
		if err := c.Close(); err != nil {
			return fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
	}
	return ErrDisconnected
}

func (g given) client(context.Context) error { return nil }
func (g given) session() int                 { return 1 }
func (g given) connect() string              { return "" }
func (g given) close(bool) error             { return nil }

// PipeListener is a listener in memory, for tests that run on simulated time
// (testing/synctest) or without a network.
type PipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewPipeListener returns a listener whose clients come by Dial. An aspect-portal
// and a plc can't be given one.
func NewPipeListener() *PipeListener {
	return &PipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects to the listener. As with a network, being connected does not
// mean being served.
func (l *PipeListener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *PipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
