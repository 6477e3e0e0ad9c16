package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// TestALPN: a broker that shares its port with other servers lets in only who
// names the protocol.
func TestALPN(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "127.0.0.1", time.Now().Add(time.Hour))
	config := ca.server(cert, key, nil)
	config.NextProtos = []string{"x-amzn-mqtt-ca"}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol == "" {
			return errors.New("this is not a web server's client")
		}
		return nil
	}
	b := tlsBroker(t, config, func(cl *mochi.Client, _ packets.Packet) bool {
		return cl.Net.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "x-amzn-mqtt-ca"
	})
	probe := func(names ...string) error {
		return Probe(context.Background(), Options{
			Brokers: []string{"tls://" + b.addr}, ClientID: "x", TLS: &TLSOptions{CAFile: ca.file, ALPN: names},
		}, "test")
	}
	require.NoError(t, probe("x-amzn-mqtt-ca"))
	require.NoError(t, probe("mqtt", "x-amzn-mqtt-ca"))
	err := probe("mqtt")
	require.EqualError(t, err, "the broker takes none of the protocol names that this agent offers (ALPN)")
	require.Contains(t, Hint(err), "the name that the broker wants on port "+port(b.addr))
	require.Error(t, probe())

	// A broker that knows nothing of ALPN takes everybody.
	plain := tlsBroker(t, ca.server(cert, key, nil), nil)
	require.NoError(t, Probe(context.Background(), Options{
		Brokers: []string{"tls://" + plain.addr}, ClientID: "x", TLS: &TLSOptions{CAFile: ca.file, ALPN: []string{"mqtt"}},
	}, "test"))

	for _, bad := range []string{"", strings.Repeat("x", 256)} {
		_, err := New(nil, Options{Brokers: []string{"tls://h"}, ClientID: "x", TLS: &TLSOptions{ALPN: []string{bad}}})
		require.ErrorContains(t, err, "a protocol name (ALPN) has 1 to 255 bytes")
	}
}

// TestMosquittoWebsocket delivers over websockets with and without TLS, from a
// path of its own, while the line is cut.
func TestMosquittoWebsocket(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "mqtt.example", time.Now().Add(time.Hour))
	plain, secure := freeAddress(t), freeAddress(t)
	m := startMosquitto(t, "allow_anonymous true",
		"listener "+port(plain)+" 127.0.0.1", "protocol websockets",
		"listener "+port(secure)+" 127.0.0.1", "protocol websockets", "certfile "+cert, "keyfile "+key)
	sub := m.subscribe(nil)
	s := newSpool(t)
	for i, c := range []struct{ scheme, addr string }{{"ws", plain}, {"wss", secure}} {
		p := newProxy(t, c.addr).serve()
		record(t, s, event.Routine, 1000, 600)
		o := (&agent{}).options(t, c.scheme+"://"+p.addr+"/mqtt")
		o.TLS = &TLSOptions{CAFile: ca.file, ServerName: "mqtt.example", ALPN: []string{"mqtt"}}
		o.StopTimeout = patience
		u, stop := start(t, s, o)
		eventually(t, func() bool { return s.Stats().Routine.Acked > uint64(1000*i+200) })
		p.cut()
		eventually(t, func() bool { return backlog(s) == 0 && u.Status().Reconnects == 1 })
		stop()
		eventually(t, func() bool { return sub.has(eventTopic, body(event.Routine, uint64(1000*i+1000), 600)) })
		require.Len(t, u.Status().Certificates, 2*i, "authority and broker, with TLS")
	}
	requireEvents(t, sub.all(), event.Routine, 2000, 600)
}

// TestWebsocketInterrupted: Run ends at once, however far the opening of the
// websocket has come.
func TestWebsocketInterrupted(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "127.0.0.1", time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		scheme string
		server *tls.Config
	}{
		"no answer to the request":          {"ws", nil},
		"no TLS handshake":                  {"wss", nil},
		"no answer to the request over TLS": {"wss", ca.server(cert, key, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			if c.server != nil {
				ln = tls.NewListener(ln, c.server)
			}
			heard := make(chan struct{})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				_, _ = nc.Read(make([]byte, 1)) // a handshake is done first, if there is one
				close(heard)
				_, _ = io.Copy(io.Discard, nc) // to the client's end
			}()
			t.Cleanup(func() {
				_ = ln.Close()
				<-ended
			})
			o := (&agent{}).options(t, c.scheme+"://"+ln.Addr().String())
			o.ConnectTimeout = time.Hour
			o.TLS = &TLSOptions{CAFile: ca.file}
			_, stop := start(t, newSpool(t), o)
			<-heard
			began := time.Now()
			stop()
			require.Less(t, time.Since(began), 2*time.Second)
		})
	}
}

// TestWebsocketRefused: what does not open a websocket is told in words.
func TestWebsocketRefused(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	text := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = ws.WriteMessage(websocket.TextMessage, []byte{0x20, 2, 0, 0})
		_, _, _ = ws.ReadMessage()
	}))
	t.Cleanup(text.Close)
	leaving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if websocket.Subprotocols(r) == nil {
			http.Error(w, "no subprotocol", http.StatusBadRequest)
			return
		}
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "bye"), time.Now().Add(time.Second))
		_, _, _ = ws.ReadMessage()
	}))
	t.Cleanup(leaving.Close)
	mute := newRawBroker(t)
	go func() { // a server that closes what it does not understand
		c := <-mute.conns
		_, _ = c.Conn.Read(make([]byte, 1000))
		_ = c.Close()
	}()
	garbage := newRawBroker(t)
	go func() {
		c := <-garbage.conns
		_, _ = c.Conn.Read(make([]byte, 1000))
		_, _ = c.Write([]byte("220 mail.example ESMTP\r\n\r\n"))
	}()
	silent := newRawBroker(t)
	for _, c := range []struct{ addr, reason, hint string }{
		{page.Listener.Addr().String(), `opens no websocket on port {port}: it answers "404 Not Found"`, "the path in the broker's URL"},
		{text.Listener.Addr().String(), "does not speak MQTT on port {port}", "check the port"},
		{leaving.Listener.Addr().String(), "closed the connection at the login", "look in its log"},
		{mute.addr, "closed the connection before the websocket was open", "the broker's for websockets"},
		{garbage.addr, "opens no websocket on port {port}: malformed HTTP", "the broker's for websockets"},
		{silent.addr, "does not answer on port {port}", "firewall"},
	} {
		err := Probe(context.Background(), Options{
			Brokers: []string{"ws://" + c.addr + "/wrong"}, ClientID: "x", ConnectTimeout: 500 * time.Millisecond,
		}, "test")
		require.ErrorContains(t, err, strings.ReplaceAll(c.reason, "{port}", port(c.addr)))
		require.Contains(t, Hint(err), c.hint)
	}
}
