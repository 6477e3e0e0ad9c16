package simulator

import (
	"context"
	"io"
	"net"
	"strings"
	"time"
)

// retryPause is the pause between two tries of a reader that sends by itself.
const retryPause = 50 * time.Millisecond

// outward is an instrument that connects to its client (CameraSettings.Push, tcp://HOST:PORT).
type outward struct {
	env     cameraEnv
	conn    net.Conn
	unwatch func() bool
}

// send gives pieces to the client, without a clock for as long as it takes, and reports
// whether it took them. With last the connection ends behind them.
func (o *outward) send(ctx context.Context, pieces [][]byte, last bool) (bool, error) {
	for {
		err := o.write(ctx, pieces, last)
		switch {
		case err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !o.env.Fast:
			o.env.Log.Info("a message was not taken", "error", err)
			return false, nil
		}
		if err := pause(ctx, retryPause); err != nil {
			return false, err
		}
	}
}

func (o *outward) write(ctx context.Context, pieces [][]byte, last bool) error {
	if o.conn == nil {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(o.env.Settings.Push, "tcp://"))
		if err != nil {
			return err
		}
		o.conn = conn
		o.unwatch = context.AfterFunc(ctx, func() { _ = conn.Close() }) // the end of the simulation
	}
	for _, piece := range pieces {
		if _, err := o.conn.Write(piece); err != nil {
			o.hangUp()
			return err
		}
	}
	if last {
		o.end()
	}
	return nil
}

// end ends the connection in order: what comes over the next one comes after what was sent
// over this one.
func (o *outward) end() {
	if c, ok := o.conn.(*net.TCPConn); ok && c.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(pushTimeout)) // a client may keep its side open
		_, _ = io.Copy(io.Discard, c)                      // until it has taken everything
	}
	o.hangUp()
}

// hangUp ends the connection; what was written is delivered.
func (o *outward) hangUp() {
	o.unwatch()
	_ = o.conn.Close() // as the comment above says
	o.conn = nil
}

// pause waits for real time to pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
