package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lanepost/lanepost/protocol/evidence"
)

// Bounds of a subscription.
const (
	// brokerPatience bounds the wait for an answer of the broker.
	brokerPatience = 20 * time.Second
	// liveQueue bounds the messages that wait for their check.
	liveQueue = 256
)

// liveOptions is where to subscribe, and for how long.
type liveOptions struct {
	broker, topic, username, passwordFile, caFile string
	duration                                      time.Duration
}

// watch subscribes and feeds what comes.
func (o liveOptions) watch(ctx context.Context, says io.Writer, v *evidence.Verifier) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	lost := make(chan error, 1)
	messages := make(chan mqtt.Message, liveQueue)
	options, err := o.client()
	if err != nil {
		return err
	}
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	client := mqtt.NewClient(options)
	if err := answered(ctx, client.Connect(), "log in at "+o.broker); err != nil {
		return err
	}
	defer client.Disconnect(250)
	take := func(_ mqtt.Client, m mqtt.Message) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}
	token := client.Subscribe(o.topic, 1, take)
	if err := answered(ctx, token, "subscribe to "+o.topic); err != nil {
		return err
	}
	if t, ok := token.(*mqtt.SubscribeToken); ok && t.Result()[o.topic] > 2 {
		return fmt.Errorf("subscribe to %s: the broker refuses it; check what the user may read", o.topic)
	}
	fmt.Fprintf(says, "listening to %s at %s\n", o.topic, o.broker)
	for {
		select {
		case m := <-messages:
			v.Feed(m.Topic(), m.Payload())
		case err := <-lost:
			return fmt.Errorf("the connection to %s broke: %w", o.broker, err)
		case <-ctx.Done():
			for { // what came before the end counts
				select {
				case m := <-messages:
					v.Feed(m.Topic(), m.Payload())
				default:
					return nil
				}
			}
		}
	}
}

func (o liveOptions) client() (*mqtt.ClientOptions, error) {
	var id [6]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("make a client id: %w", err)
	}
	options := mqtt.NewClientOptions().AddBroker(o.broker).
		SetClientID("verify-" + hex.EncodeToString(id[:])).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectTimeout(brokerPatience).
		SetUsername(o.username)
	if o.passwordFile != "" {
		b, err := readBounded(o.passwordFile, 4<<10)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		options.SetPassword(strings.TrimRight(string(b), "\r\n"))
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.caFile != "" {
		b, err := readBounded(o.caFile, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", o.caFile)
		}
	}
	return options.SetTLSConfig(t), nil
}

// answered waits for the broker.
func answered(ctx context.Context, t mqtt.Token, what string) error {
	select {
	case <-t.Done():
		if err := t.Error(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-time.After(brokerPatience):
		return fmt.Errorf("%s: no answer within %s", what, brokerPatience)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, errors.New("the time was over before the broker answered"))
	}
}
