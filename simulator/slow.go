package simulator

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// retransmission is how long TCP takes to send again what was lost: its first time-out.
const retransmission = time.Second

// slowConn is a connection on a bad line: what is written is late, and now and then very
// late, since a piece was lost.
type slowConn struct {
	net.Conn
	settings CameraSettings

	mu   *sync.Mutex // of rand
	rand *rand.Rand
}

// Write implements io.Writer.
func (c slowConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	lost := c.rand.Float64() < c.settings.Loss
	c.mu.Unlock()
	late := c.settings.Latency
	if lost {
		late += retransmission
	}
	time.Sleep(late) // this is the line's length
	return c.Conn.Write(b)
}

// late waits as long as a message is on its way over a line that is not slow by itself.
func (e *cameraEnv) late(ctx context.Context) {
	wait := e.Settings.Latency
	if e.Settings.Loss > 0 && e.Rand.Float64() < e.Settings.Loss {
		wait += retransmission
	}
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lateLink is a line on which everything is late.
type lateLink struct {
	link
	env *cameraEnv
}

func (l lateLink) send(ctx context.Context, b []byte) (bool, error) {
	l.env.late(ctx)
	return l.link.send(ctx, b)
}

// slowListener makes slow connections.
type slowListener struct {
	net.Listener
	settings CameraSettings
	rand     *rand.Rand
}

// Accept implements net.Listener.
func (l slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.settings.Latency == 0 && l.settings.Loss == 0 {
		return conn, err
	}
	return slowConn{conn, l.settings, &sync.Mutex{}, rand.New(rand.NewPCG(l.rand.Uint64(), 1))}, nil
}

// slowDial dials slow connections, for cameras that send.
func slowDial(s CameraSettings, r *rand.Rand) func(ctx context.Context, network, address string) (net.Conn, error) {
	var mu sync.Mutex
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil || s.Latency == 0 && s.Loss == 0 {
			return conn, err
		}
		return slowConn{conn, s, &mu, r}, nil
	}
}
