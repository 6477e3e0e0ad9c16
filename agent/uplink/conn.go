package uplink

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Bounds of a connection.
const (
	// writeChunk is how much is written under one deadline: a slow line is not a
	// dead one as long as chunks go through.
	writeChunk = 16 << 10
	// kernelBuffer bounds what the kernel takes ahead of the line, so that what
	// it takes tells how fast the line is.
	kernelBuffer = 128 << 10
	// keptBuffer is the largest write buffer that is kept for reuse.
	keptBuffer = 256 << 10
	// byeTimeout bounds the wait until a DISCONNECT is on the line.
	byeTimeout = time.Second
	// maxInbound bounds a PUBLISH from the broker. This agent subscribes to
	// nothing, but some brokers subscribe their clients by themselves.
	maxInbound = 1 << 20
)

// conn is the connection under paho. It adds what paho lacks:
//
//   - Write never blocks: a goroutine writes, several packets at once. So paho's
//     Publish does not block either, and a PINGREQ does not wait for a lock.
//   - A write is given up when the line takes nothing for a while, and not when
//     a large message takes long on a slow line.
//   - Whatever ends the connection closes dead at once and is kept as the cause.
//   - paho learns of the end by Read only, and never while a Publish is under way
//     (see unlessClosing): it would wait for a goroutine that has left.
//   - Frames from the broker are checked before paho decodes them (inbound).
type conn struct {
	net.Conn
	raw   *net.TCPConn // under TLS and websocket; nil if there is none
	r     *bufio.Reader
	in    inbound
	stall time.Duration
	limit int

	began time.Time
	heard atomic.Int64 // when something was last read, in ns since began
	idle  atomic.Int64 // when nothing was left to write the last time, likewise

	gate    sync.Mutex
	closing bool // paho knows of the end, or is about to

	dead  chan struct{} // closed when the connection has ended
	wake  chan struct{}
	ended chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	cause   error // why it ended
	queue   []byte
	writing bool
	drained chan struct{} // closed when the queue is written, if not nil
}

// errEnded is the cause of a connection that this side ended in good order.
var errEnded = errors.New("the connection was closed by this side")

// newConn takes a connection over. limit bounds the bytes that wait to be
// written.
func newConn(nc net.Conn, stall time.Duration, limit int) *conn {
	c := &conn{
		Conn: nc, stall: stall, limit: limit, began: time.Now(),
		dead: make(chan struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	for under := nc; under != nil; {
		if tcp, ok := under.(*net.TCPConn); ok {
			c.raw = tcp
			// If it fails, a slow line is recognised a little later.
			_ = tcp.SetWriteBuffer(kernelBuffer)
			break
		}
		wrapper, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = wrapper.NetConn()
	}
	c.r = bufio.NewReader(source{c})
	go c.writer()
	return c
}

// source reads from the network and notes that something came.
type source struct{ c *conn }

func (s source) Read(p []byte) (int, error) {
	n, err := s.c.Conn.Read(p)
	if n > 0 {
		s.c.heard.Store(int64(time.Since(s.c.began)))
	}
	return n, err
}

// end ends the connection, once. Unless it ends in good order it is reset, so
// that nothing that the kernel still holds arrives later.
func (c *conn) end(cause error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.cause = cause
	close(c.dead)
	c.mu.Unlock()
	if c.raw != nil && !errors.Is(cause, errEnded) {
		_ = c.raw.SetLinger(0) // a connection that is gone already needs no reset
		_ = c.raw.Close()      // nothing can be lost here that is not sent again
		return
	}
	_ = c.Conn.Close() // likewise
}

// Close ends the connection in good order.
func (c *conn) Close() error {
	c.end(errEnded)
	return nil
}

// reason is why the connection ended; nil if it has not.
func (c *conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Read reads what the broker sends. Every error ends the connection.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == nil {
		err = c.in.check(p[:n])
	}
	if err != nil {
		c.end(err)
		c.gate.Lock()
		c.closing = true
		c.gate.Unlock()
		return 0, c.reason()
	}
	return n, nil
}

// unlessClosing calls publish unless paho knows that the connection has ended.
func (c *conn) unlessClosing(publish func()) bool {
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.closing {
		return false
	}
	publish()
	return true
}

// Write queues p. Only after a DISCONNECT it waits until all is on the line,
// because paho closes the connection then. When the connection has ended it
// does nothing, and Read tells.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return len(p), nil
	}
	if len(c.queue)+len(p) > c.limit {
		c.mu.Unlock()
		c.end(fmt.Errorf("more than %d bytes wait to be written", c.limit))
		return len(p), nil
	}
	c.queue = append(c.queue, p...)
	var drained chan struct{}
	if len(p) > 0 && p[0] == packets.Disconnect<<4 {
		drained = make(chan struct{})
		c.drained = drained
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	if drained != nil {
		select {
		case <-drained:
		case <-c.dead:
		case <-time.After(byeTimeout):
		}
	}
	return len(p), nil
}

// writer writes the queue until the connection ends.
func (c *conn) writer() {
	defer close(c.ended)
	var spare []byte
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = spare[:0]
		c.writing = len(batch) > 0
		if len(batch) == 0 && c.drained != nil {
			close(c.drained)
			c.drained = nil
		}
		c.mu.Unlock()
		spare = nil
		if cap(batch) <= keptBuffer {
			spare = batch
		}
		if len(batch) == 0 {
			c.idle.Store(int64(time.Since(c.began)))
			select {
			case <-c.wake:
				continue
			case <-c.dead:
				return
			}
		}
		if err := c.push(batch); err != nil {
			c.end(err)
			return
		}
	}
}

// push writes a batch in chunks, each with a deadline of its own.
func (c *conn) push(batch []byte) error {
	for len(batch) > 0 {
		n := min(len(batch), writeChunk)
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return err
		}
		if _, err := c.Conn.Write(batch[:n]); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// SetDeadline is paho's bound on the login. Writing has its own.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: see push.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// lastHeard is when something was last read.
func (c *conn) lastHeard() time.Time { return c.began.Add(time.Duration(c.heard.Load())) }

// lastIdle is when nothing was left to write the last time.
func (c *conn) lastIdle() time.Time { return c.began.Add(time.Duration(c.idle.Load())) }

// busy tells whether data waits for the line.
func (c *conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writing || len(c.queue) > 0
}

// inbound checks what a broker sends, frame by frame: only what may come to a
// publisher passes, with the length that it must have. Nothing else reaches
// paho's decoders, and no length that a broker claims is allocated unseen.
type inbound struct {
	// welcomed: the answer to the login, which comes first and once, has come.
	welcomed bool

	state  inboundState
	kind   byte
	length int
	shift  int
	done   int // bytes of the body that have passed
	// subacks is how many answers to a subscription may come: paho would take one
	// with the id of a PUBLISH for its confirmation.
	subacks atomic.Int32
}

type inboundState int

const (
	inHeader inboundState = iota
	inLength
	inBody
)

// inboundLengths are the least and the greatest length of each frame that may
// come, after its header.
var inboundLengths = map[byte]struct{ least, most int }{
	packets.Connack:  {2, 2},
	packets.Publish:  {2, maxInbound},
	packets.Puback:   {2, 2},
	packets.Suback:   {3, 3}, // for one topic
	packets.Pubrel:   {2, 2},
	packets.Pingresp: {0, 0},
}

// check takes the next bytes of the stream.
func (f *inbound) check(p []byte) error {
	for len(p) > 0 {
		switch f.state {
		case inHeader:
			f.kind, f.length, f.shift, f.done = p[0]>>4, 0, 0, 0
			if f.kind == packets.Disconnect {
				return io.EOF // MQTT 5 only, but some brokers say so before they close
			}
			_, known := inboundLengths[f.kind]
			if !known || f.kind == packets.Suback && f.subacks.Add(-1) < 0 {
				return fmt.Errorf("%w: a packet of type %d", errProtocol, f.kind)
			}
			if (f.kind == packets.Connack) == f.welcomed {
				return fmt.Errorf("%w: a packet of type %d at this point", errProtocol, f.kind)
			}
			f.welcomed = true
			f.state = inLength
			p = p[1:]
		case inLength:
			f.length |= int(p[0]&0x7f) << f.shift
			more := p[0]&0x80 != 0
			p = p[1:]
			if f.shift += 7; more && f.shift < 28 {
				continue
			}
			if want := inboundLengths[f.kind]; more || f.length < want.least || f.length > want.most {
				return fmt.Errorf("%w: a packet of type %d and %d bytes", errProtocol, f.kind, f.length)
			}
			f.state = inBody
			if f.length == 0 {
				f.state = inHeader
			}
		case inBody:
			n := min(len(p), f.length-f.done)
			// Code 0 is acceptance, 1 to 5 are in the standard, and paho takes what
			// is above for acceptance too.
			if at := 1 - f.done; f.kind == packets.Connack && at >= 0 && at < n && p[at] > packets.ErrRefusedNotAuthorised {
				return refused(p[at])
			}
			p = p[n:]
			if f.done += n; f.done == f.length {
				f.state = inHeader
			}
		}
	}
	return nil
}

// errProtocol: the other side does not speak MQTT 3.1.1, or not as a broker.
var errProtocol = errors.New("the other side sent what no MQTT broker sends to a publisher")

var _ io.ReadWriteCloser = (*conn)(nil)
