package uplink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy forwards connections to a broker and does damage on the way.
type proxy struct {
	addr   string
	target string
	ln     net.Listener

	// cutAfter gives for each connection after how many bytes from the client it
	// is cut, and cutBack after how many from the broker; nil for never.
	cutAfter, cutBack func() int
	// rate bounds the bytes per second from the client; zero for no bound.
	rate int
	// delay is how long everything takes in each direction.
	delay time.Duration
	// tap gives for each connection what sees the bytes that pass; nil for none.
	tap func() func(fromClient bool, p []byte)

	// hole makes every byte and every end of a connection vanish.
	hole atomic.Bool
	// deaf makes every byte from the client vanish, mute every byte from the
	// broker.
	deaf, mute atomic.Bool
	// full makes the line take nothing more from the client.
	full atomic.Bool
	shut atomic.Bool
	cuts atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
	group sync.WaitGroup
}

// newProxy listens. The caller sets the faults before anything connects.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: ln.Addr().String(), target: target, ln: ln, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		p.shut.Store(true)
		_ = ln.Close()
		p.cut()
		p.group.Wait()
	})
	return p
}

func (p *proxy) serve() *proxy {
	p.group.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			p.group.Go(func() { p.forward(c.(*net.TCPConn)) })
		}
	})
	return p
}

// cut ends all connections abruptly.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *proxy) forward(client *net.TCPConn) {
	defer client.Close()
	broker, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer broker.Close()
	if p.rate > 0 {
		_ = client.SetReadBuffer(64 << 10)
	}
	p.mu.Lock()
	p.conns[client], p.conns[broker] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, broker)
	}()
	left, leftBack := -1, -1
	p.mu.Lock()
	if p.cutAfter != nil {
		left = p.cutAfter()
	}
	if p.cutBack != nil {
		leftBack = p.cutBack()
	}
	p.mu.Unlock()
	see := func(bool, []byte) {}
	if p.tap != nil {
		see = p.tap()
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		if p.copy(client, broker, see, false, leftBack) {
			p.cuts.Add(1)
			_ = client.SetLinger(0)
		}
		p.outOfHole()
		_ = client.Close()
	}()
	if p.copy(broker, client, see, true, left) {
		p.cuts.Add(1)
		_ = client.SetLinger(0)
	}
	p.outOfHole()
	_ = client.Close()
	_ = broker.Close()
	<-back
}

func (p *proxy) outOfHole() {
	for p.hole.Load() && !p.shut.Load() {
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// copy forwards until an end fails, or until left bytes have passed: then it
// returns true.
func (p *proxy) copy(to io.Writer, from io.Reader, see func(bool, []byte), fromClient bool, left int) bool {
	buf := make([]byte, 32<<10)
	lost := &p.mute
	if fromClient {
		lost = &p.deaf
	}
	if fromClient && p.rate > 0 {
		buf = buf[:max(p.rate/100, 1)]
	}
	clock := time.Now() // when the slow line will have taken what has passed
	for {
		for fromClient && p.full.Load() && !p.shut.Load() {
			time.Sleep(5 * time.Millisecond) // between two looks
		}
		n, err := from.Read(buf)
		time.Sleep(p.delay) // this is the line's length
		part := buf[:n]
		if left >= 0 && n >= left {
			part = part[:left]
		}
		if !p.hole.Load() && !lost.Load() && len(part) > 0 {
			see(fromClient, part)
			if _, werr := to.Write(part); werr != nil {
				return false
			}
		}
		if left >= 0 {
			if left -= len(part); left == 0 {
				return true
			}
		}
		if err != nil {
			return false
		}
		if fromClient && p.rate > 0 {
			if now := time.Now(); clock.Before(now.Add(-100 * time.Millisecond)) {
				clock = now // it was idle
			}
			clock = clock.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
			time.Sleep(time.Until(clock)) // this is the line's speed
		}
	}
}

// tap reads along what a client publishes and what its broker confirms.
type tap struct {
	mu        sync.Mutex
	list      []published
	confirmed map[uint64]bool
	err       error
}

// connection makes what sees the bytes of a new connection.
func (l *tap) connection() func(fromClient bool, p []byte) {
	var up, down []byte
	ids := map[uint16]uint64{} // sequences by packet id
	return func(fromClient bool, p []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if fromClient {
			up = frames(append(up, p...), func(kind byte, packet []byte) { l.sent(ids, kind, packet) })
			return
		}
		down = frames(append(down, p...), func(kind byte, packet []byte) {
			if seq, ok := ids[binary.BigEndian.Uint16(append(packet, 0, 0))]; ok && kind == 0x40 {
				l.confirmed[seq] = true
			}
		})
	}
}

// sent notes a packet from the client.
func (l *tap) sent(ids map[uint16]uint64, kind byte, packet []byte) {
	if kind>>4 != typePublish {
		return
	}
	end := 2 + int(binary.BigEndian.Uint16(packet))
	p := published{topic: string(packet[2:end]), payload: bytes.Clone(packet[end+2:]), retain: kind&1 == 1, qos: kind >> 1 & 3}
	l.list = append(l.list, p)
	if p.topic != eventTopic {
		return
	}
	var class string
	var seq uint64
	if _, err := fmt.Sscanf(string(p.payload), "%s %d ", &class, &seq); err != nil {
		l.err = err
	}
	ids[binary.BigEndian.Uint16(packet[end:])] = seq
}

// frames takes whole packets off the front of b.
func frames(b []byte, each func(kind byte, packet []byte)) (rest []byte) {
	for len(b) >= 2 {
		length, n := binary.Uvarint(b[1:])
		if n <= 0 || len(b) < 1+n+int(length) {
			break
		}
		each(b[0], b[1+n:1+n+int(length):1+n+int(length)])
		b = b[1+n+int(length):]
	}
	return b
}
