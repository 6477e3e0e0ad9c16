// Package tee lets other programs read along what a device sends. A portal's
// controller serves one client, and that is the agent; whoever else wants the
// portal's stream connects to the agent instead, and reads the same bytes.
//
// Those who read along can neither hold up nor disturb the device: each has a
// bounded queue, who does not keep up is dropped, and what they send is thrown
// away.
package tee

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of a tee.
const (
	// DefaultClients is how many may read along if the settings do not say, and
	// MaxClients how many they may say.
	DefaultClients = 4
	MaxClients     = 32
	// MaxAllowed bounds the list of addresses.
	MaxAllowed = 64
	// queueBytes is what may wait for one client, beside as much in the system's
	// send buffer. A portal that is always occupied needs some five minutes to fill it.
	queueBytes = 256 << 10
	// lastWords is how long a connection that is closed in good order may take for
	// what still waits.
	lastWords = time.Second
	// refusedEvery spaces what the log says of those who were turned away.
	refusedEvery = time.Minute
	// acceptPause follows an accept that failed, of too many open files for instance.
	acceptPause = time.Second
	// keepaliveIdle, keepaliveEvery and keepaliveProbes find a client whose machine is
	// gone within 35 s, as a link to an instrument does.
	keepaliveIdle, keepaliveEvery, keepaliveProbes = 15 * time.Second, 5 * time.Second, 4
)

// Settings say where others may attach and who may.
type Settings struct {
	// Address is HOST:PORT to listen on; the host is an IP address.
	Address string
	// Allow is who may attach; empty means the box itself only.
	Allow []netip.Prefix
	// Clients is how many may be attached at a time.
	Clients int
}

// Equal reports whether both say the same.
func (s Settings) Equal(o Settings) bool {
	return s.Address == o.Address && s.Clients == o.Clients && slices.Equal(s.Allow, o.Allow)
}

// Stats count what a tee has done.
type Stats struct {
	// Clients are attached now, Attached were so far.
	Clients  int
	Attached int64
	// Slow were dropped since they did not keep up, Refused were turned away: not on
	// the list, or too many.
	Slow, Refused int64
}

// Tee copies the bytes of one device to whoever is attached.
type Tee struct {
	settings Settings
	log      *slog.Logger
	listener *net.TCPListener
	done     chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	clients map[*client]struct{}
	closed  bool
	stats   Stats
	untold  int64     // refused since the log said so
	told    time.Time // when it did
}

// client is one that reads along. Tee.mu guards what changes.
type client struct {
	conn   *net.TCPConn
	remote string
	wake   chan struct{} // holds one

	waiting  []byte
	got      bool // anything, since it attached
	finished bool // it will send no more, so it may have gone
	ending   bool // it gets what waits, and no more
	gone     bool
}

// Open listens. It fails when the address can't be had, and names it.
func Open(s Settings, log *slog.Logger) (*Tee, error) {
	if s.Clients == 0 {
		s.Clients = DefaultClients
	}
	address, err := net.ResolveTCPAddr("tcp", s.Address)
	if err != nil {
		return nil, fmt.Errorf("tee: listen on %s: %w", s.Address, err)
	}
	ln, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("tee: %w", err)
	}
	t := &Tee{settings: s, log: log, listener: ln, done: make(chan struct{}), clients: map[*client]struct{}{}}
	t.running.Go(t.accept)
	log.Info("others may read along", "address", ln.Addr().String(), "clients", s.Clients)
	return t, nil
}

// Addr is where it listens, with the port that was chosen.
func (t *Tee) Addr() net.Addr { return t.listener.Addr() }

// Settings are what it was opened with.
func (t *Tee) Settings() Settings { return t.settings }

// Stats tell what was done so far.
func (t *Tee) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Clients = len(t.clients)
	return s
}

// Received gives everybody what came from the device. It waits for nobody, and
// does not keep b.
func (t *Tee) Received(b []byte) {
	for _, slow := range t.give(b) {
		t.log.Warn("a reader of the device's stream does not keep up and is dropped", "remote", slow.remote,
			"waiting", slow.bytes, "hint", "let that program read what it gets, or attach fewer to one box")
	}
}

// dropped is a client that did not keep up.
type dropped struct {
	remote string
	bytes  int
}

// give gives everybody b, and says who was dropped. Nothing is logged while the lock is
// held: a log that hangs must not hold up the device.
func (t *Tee) give(b []byte) (slow []dropped) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		switch {
		case c.ending || c.gone:
		case len(c.waiting)+len(b) > queueBytes:
			t.stats.Slow++
			slow = append(slow, dropped{c.remote, len(c.waiting)})
			_ = c.conn.SetLinger(0) // it shall see that this is no orderly end
			t.dropLocked(c)
		default:
			c.waiting, c.got = append(c.waiting, b...), true
			c.nudge()
		}
	}
	return slow
}

// Parted tells that the link to the device has ended. Whoever got anything is
// closed once it has all: what comes on the next link may begin in the middle of a
// record, and must not be joined to the half of another.
func (t *Tee) Parted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		if c.got {
			t.endLocked(c)
		}
	}
}

// Close ends the listening and every connection, with what still waits for it, and
// returns when nothing of the tee runs any more.
func (t *Tee) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	for c := range t.clients {
		t.endLocked(c)
	}
	t.mu.Unlock()
	err := t.listener.Close()
	t.running.Wait()
	if err != nil {
		return fmt.Errorf("tee: close %s: %w", t.settings.Address, err)
	}
	return nil
}

func (t *Tee) accept() {
	for {
		conn, err := t.listener.AcceptTCP()
		if err != nil {
			select {
			case <-t.done:
				return
			default:
			}
			t.log.Warn("nobody more can attach to the device's stream now", "err", err)
			select {
			case <-t.done:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		t.admit(conn)
	}
}

// admit takes a client in, or closes the connection.
func (t *Tee) admit(conn *net.TCPConn) {
	remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // the zero one is allowed nowhere
	c, why, count := t.take(conn, remote)
	switch {
	case c == nil && count > 0:
		t.log.Warn("refused to let somebody read the device's stream", "remote", remote.String(), "reason", why, "count", count)
	case c != nil:
		t.log.Info("a reader of the device's stream attached", "remote", c.remote)
	}
}

// take gives the client of a connection, or why there is none, and how many were refused
// since the log said so; 0 if it need not say so now.
func (t *Tee) take(conn *net.TCPConn, remote netip.AddrPort) (c *client, why string, count int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		why = "the tee is being closed"
	case !t.settings.allows(remote.Addr().Unmap()):
		why = "its address is not in allow"
	case len(t.clients) >= t.settings.Clients && !t.makeRoomLocked():
		why = fmt.Sprintf("%d clients are attached, and no more are let in", t.settings.Clients)
	}
	if why != "" {
		_ = conn.Close() // nothing was said that could be lost
		return nil, why, t.refusedLocked()
	}
	// Without these a dead client is noticed later, and more may wait for a slow one.
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveEvery, Count: keepaliveProbes})
	_ = conn.SetWriteBuffer(queueBytes)
	c = &client{conn: conn, remote: remote.String(), wake: make(chan struct{}, 1)}
	t.clients[c] = struct{}{}
	t.stats.Attached++
	t.running.Go(func() { t.write(c) })
	t.running.Go(func() { t.discard(c) })
	return c, "", 0
}

// makeRoomLocked drops one that may have gone, and reports whether there was one.
func (t *Tee) makeRoomLocked() bool {
	for c := range t.clients {
		if c.finished && !c.ending {
			t.dropLocked(c)
			return true
		}
	}
	return false
}

func (t *Tee) refusedLocked() (count int64) {
	t.stats.Refused++
	t.untold++
	if now := time.Now(); t.told.IsZero() || now.Sub(t.told) >= refusedEvery {
		count = t.untold
		t.told, t.untold = now, 0
	}
	return count
}

// allows reports whether an address may attach.
func (s Settings) allows(a netip.Addr) bool {
	if len(s.Allow) == 0 {
		return a.IsLoopback()
	}
	return slices.ContainsFunc(s.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// nudge wakes the writer.
func (c *client) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (t *Tee) endLocked(c *client) {
	if c.ending || c.gone {
		return
	}
	c.ending = true
	_ = c.conn.SetWriteDeadline(time.Now().Add(lastWords)) // if it fails the connection is broken, and so is the write
	c.nudge()
}

func (t *Tee) dropLocked(c *client) {
	if c.gone {
		return
	}
	c.gone = true
	delete(t.clients, c)
	_ = c.conn.Close() // nothing more is said on it
	c.nudge()
}

// write sends what waits for a client, until it is gone.
func (t *Tee) write(c *client) {
	var out []byte
	for range c.wake {
		for {
			t.mu.Lock()
			out, c.waiting = c.waiting, out[:0]
			gone, ending := c.gone, c.ending
			t.mu.Unlock()
			if gone {
				return
			}
			if len(out) == 0 {
				if !ending {
					break
				}
				t.leave(c, nil)
				return
			}
			if _, err := c.conn.Write(out); err != nil {
				t.leave(c, err)
				return
			}
		}
	}
}

// discard reads what a client sends, so that its end is noticed. One that only
// says that it will send no more goes on reading.
func (t *Tee) discard(c *client) {
	if _, err := io.Copy(io.Discard, c.conn); err != nil {
		t.leave(c, err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c.finished = true
}

// leave takes a client out.
func (t *Tee) leave(c *client, err error) {
	t.mu.Lock()
	gone := c.gone
	t.dropLocked(c)
	t.mu.Unlock()
	if gone {
		return
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		t.log.Info("a reader of the device's stream left", "remote", c.remote, "reason", err)
	} else {
		t.log.Info("a reader of the device's stream was closed", "remote", c.remote)
	}
}
