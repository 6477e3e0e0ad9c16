package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// dial opens a connection to a broker, with the TLS handshake and the
// websocket's. t gets what it rests on, as far as it came.
func dial(ctx context.Context, broker *url.URL, o *Options, t *trust) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	web := broker.Scheme == "ws" || broker.Scheme == "wss"
	var config *tls.Config
	if guarded(broker) {
		var err error
		if config, err = t.configure(o.TLS, broker.Hostname()); err != nil {
			return nil, err
		}
	}
	if web {
		return dialWebsocket(ctx, broker, config, t)
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", broker.Host)
	if err != nil || config == nil {
		return nc, err
	}
	secured := tls.Client(nc, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error is the one that matters
		t.failed(err)
		return nil, &handshakeError{err}
	}
	return secured, nil
}

// handshakeError tells a failed TLS handshake from other failures.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// dialWebsocket opens a websocket, over TLS if there is a configuration for it.
// A proxy that the environment names (HTTPS_PROXY) is used.
func dialWebsocket(ctx context.Context, broker *url.URL, config *tls.Config, t *trust) (net.Conn, error) {
	var shake error
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { shake = err },
	})
	if config != nil {
		config.NextProtos = []string{"http/1.1"}
	}
	// What is sent and read before the websocket stands obeys deadlines only, so
	// the end of ctx must close the connection.
	stop := func() bool { return true }
	defer func() { stop() }()
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				stop = context.AfterFunc(ctx, func() { _ = nc.Close() }) // nothing can be lost here
			}
			return nc, err
		},
		TLSClientConfig: config,
		Subprotocols:    []string{"mqtt"},
	}
	ws, response, err := dialer.DialContext(ctx, broker.String(), nil)
	if response != nil && response.Body != nil {
		_ = response.Body.Close() // gorilla has read it
	}
	switch {
	case err == nil && !stop():
		_ = ws.Close() // it came too late
		return nil, ctx.Err()
	case err == nil:
		return &webConn{Conn: ws}, nil
	case shake != nil:
		t.failed(shake)
		return nil, &handshakeError{shake}
	case ctx.Err() != nil:
		return nil, ctx.Err() // and not that the connection was closed
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		return nil, &upgradeError{fmt.Errorf("it answers %q", strings.TrimSpace(response.Status))}
	case !as[net.Error]()(err) && !closedByPeer(err):
		return nil, &upgradeError{err}
	}
	return nil, err
}

// upgradeError is the answer of a server that opens no websocket.
type upgradeError struct{ error }

func (e *upgradeError) Unwrap() error { return e.error }

// webConn is a websocket as a stream: each Write is one binary message, as the
// MQTT standard wants, and Read reads one message after the other. There is one
// reader and one writer.
type webConn struct {
	*websocket.Conn
	message io.Reader // the one that is being read, if any
}

func (c *webConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *webConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, closed(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("%w: text over the websocket", errProtocol)
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, closed(err)
		}
	}
}

// SetDeadline is for both directions.
func (c *webConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// closed takes the websocket's own end for the end of the stream.
func closed(err error) error {
	if as[*websocket.CloseError]()(err) {
		return io.EOF
	}
	return err
}

// guarded tells whether TLS guards the connection to a broker.
func guarded(broker *url.URL) bool {
	return broker.Scheme != "tcp" && broker.Scheme != "mqtt" && broker.Scheme != "ws"
}
