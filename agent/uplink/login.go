package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/lanepost/lanepost/agent/spool"
)

// connect opens the connection and logs in. reached is called when the broker
// may hear of this session.
func (s *session) connect(ctx context.Context, broker *url.URL, o *Options, will Message, reached func()) error {
	po, err := s.clientOptions(o, will)
	if err != nil {
		return explain(dialing, err, broker, o.ClientID)
	}
	nc, err := dial(ctx, broker, o, &s.trust)
	if err != nil {
		return explain(dialing, err, broker, o.ClientID)
	}
	reached()
	s.conn = newConn(nc, o.AckTimeout, o.WindowBytes+2*(spool.MaxRecord+spool.MaxTopic))
	po.Servers = []*url.URL{broker}
	po.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return s.conn, nil })
	s.client = mqtt.NewClient(po)
	login := s.client.Connect()
	select {
	case <-login.Done():
	case <-ctx.Done():
		s.conn.end(ctx.Err())
		<-login.Done() // it was reading from the connection
	}
	if err = login.Error(); err == nil {
		return nil
	}
	if cause := s.conn.reason(); cause != nil && !errors.Is(cause, errEnded) {
		err = cause
	}
	if t, ok := login.(*mqtt.ConnectToken); ok && t.ReturnCode() > 0 && t.ReturnCode() <= packets.ErrRefusedNotAuthorised {
		err = refused(t.ReturnCode())
	}
	// Not down: a Disconnect at the end of paho's failed Connect would wait for
	// goroutines that never started. There is nothing of paho left to end.
	s.conn.end(errCut)
	<-s.conn.ended
	if guarded(broker) && closedByPeer(err) {
		err = &closedUnderTLS{err}
	}
	return explain(loggingIn, err, broker, o.ClientID)
}

// clientOptions sets paho up so that a token without an error means PUBACK: no
// reconnecting by itself, a clean session, and one client for one connection.
func (s *session) clientOptions(o *Options, will Message) (*mqtt.ClientOptions, error) {
	po := mqtt.NewClientOptions().
		SetClientID(o.ClientID).
		SetProtocolVersion(4). // or paho tries MQTT 3.1 after each refusal
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(false).
		SetStore(mqtt.NewMemoryStore()).
		SetConnectTimeout(o.ConnectTimeout).
		SetWriteTimeout(handOver).
		SetKeepAlive(o.KeepAlive).
		// paho would give a line up on which the answer to a ping waits behind a
		// large message. watch does it better.
		SetPingTimeout(24 * time.Hour)
	if will.Topic != "" {
		po.SetBinaryWill(will.Topic, will.Payload, qos, true)
	}
	var user, password string
	for _, credential := range []struct {
		read func() (string, error)
		into *string
		name string
	}{{o.Username, &user, "user name"}, {o.Password, &password, "password"}} {
		if credential.read == nil {
			continue
		}
		v, err := credential.read()
		if err != nil {
			return nil, &localError{fmt.Errorf("read the %s: %w", credential.name, err)}
		}
		*credential.into = v
	}
	if user == "" && password != "" {
		return nil, &localError{errors.New("there is a password and no user name; MQTT 3.1.1 can't send that")}
	}
	return po.SetUsername(user).SetPassword(password), nil
}
