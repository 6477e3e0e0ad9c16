package uplink

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// Options of New and Probe. Brokers and ClientID are needed, all else has a
// default.
type Options struct {
	// Brokers are URLs, tried in turn: tcp:// or mqtt:// (port 1883), tls://,
	// ssl:// or mqtts:// (8883), ws:// (80), wss:// (443).
	Brokers []string
	// ClientID must be unique at the broker: a second client of the same id
	// takes the session over.
	ClientID string
	// Username and Password are asked at each connect, so that a changed file
	// counts without a restart; nil for none.
	Username, Password func() (string, error)
	// TLS is for tls:// and wss:// brokers. If nil, the system's certificate
	// authorities are trusted and no client certificate is shown.
	TLS *TLSOptions

	// Name tells several uplinks of one spool apart, each of which has a cursor of
	// its own under its name; DefaultName if empty.
	Name string
	// Filter chooses the events to send.
	Filter Filter
	// TopicPrefix comes before each topic, with a slash between, those of the states
	// and of the last will included; empty for none.
	TopicPrefix string
	// Redact sends events in their public form (see event.Hash), without what is
	// personal.
	Redact bool
	// MaxPacket is the largest MQTT packet that the brokers take, in bytes; zero if
	// that is not known.
	MaxPacket int
	// Quarantine takes an event out of the line that the broker will never take: one
	// that is too large, or that ends every session (see quarantine.go for the
	// proof that is asked for). It must keep the record and have its loss recorded;
	// the cursor moves over it when it returned nil, and on an error it is called
	// again a second later. It is called on a goroutine of its own, one event of a
	// class at a time, and must return soon when ctx ends. After a crash it may be
	// called twice for one event. If it is nil, such an event holds up its class
	// until a person helps.
	Quarantine func(ctx context.Context, r spool.Record, reason string) error
	// PoisonAfter is how many sessions in a row an event must end, alone on the
	// line, to be taken out; 5 if zero.
	PoisonAfter int

	// Window is how many messages may be on their way unconfirmed, 1 to 1024; 64
	// if zero. Over a long line the rate is Window per round trip.
	Window int
	// WindowBytes bounds the same in bytes, 4 MiB if zero. One larger message
	// goes out alone.
	WindowBytes int

	// KeepAlive is MQTT's, in whole seconds, 20 s if zero. The broker fires the
	// last will after one and a half of it; a line on which nothing moves for
	// twice as long is given up.
	KeepAlive time.Duration
	// ConnectTimeout bounds the dialling with the TLS handshake, and once more
	// the broker's answer to the login; 10 s if zero.
	ConnectTimeout time.Duration
	// AckTimeout is how long a message may go unconfirmed when it is the first in
	// its queue and the line has taken it, and how long the line may take
	// nothing; 30 s if zero.
	AckTimeout time.Duration
	// StopTimeout bounds the orderly end; 5 s if zero. Half of it is for events
	// that still wait.
	StopTimeout time.Duration
	// Heartbeat is how often State is published anew, a minute if zero. It heals
	// brokers that lose their retained messages.
	Heartbeat time.Duration
	// RetryMin and RetryMax bound the pause between two rounds through the
	// brokers: the first is random between zero and RetryMin (1 s if zero), and
	// the upper end doubles up to RetryMax (a minute if zero).
	RetryMin, RetryMax time.Duration
	// ReturnAfter is how long a session with a broker that is not the first of
	// the list lasts before those before it are called; if one answers, the
	// session ends in good order and the list is tried from the top. 5 min if
	// zero; it doubles up to an hour as long as that brings nothing better.
	ReturnAfter time.Duration

	// State makes the agent's retained state: published first in each session,
	// then at each Heartbeat, and with online false at an orderly end.
	State func(online bool) (topic string, payload []byte)
	// Will makes the last will that the broker publishes, retained, when the
	// session ends in any other way.
	Will func(session uint64) (topic string, payload []byte)
	// Session counts a new session and makes the count durable. It is called
	// when the last number may have reached a broker, and not for each attempt.
	// The number counts even if it comes with an error: a disk that refuses must
	// not stop the delivery.
	Session func() (uint64, error)
	// Skipped makes the notice of events that the filter keeps back. It is needed
	// with a filter.
	Skipped func(event.AgentSkipped) (topic string, payload []byte)
	// Retained lists the other retained states, published after State at the
	// beginning of each session.
	Retained func() []Message

	// Idle is a source of messages that can wait; nil for none.
	Idle *Idle

	// Requests takes requests of a central system; nil for none.
	Requests *Requests

	// Log gets a line for each change; nil for none.
	Log *slog.Logger

	trialHold, trialFor, tryLeftAfter time.Duration // for tests; the constants if zero
}

// complete checks the options and fills in defaults.
func (o *Options) complete() ([]*url.URL, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("no broker is given")
	}
	if o.ClientID == "" {
		return nil, errors.New("no client id is given")
	}
	var brokers []*url.URL
	for _, b := range o.Brokers {
		u, err := parseBroker(b)
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, u)
	}
	o.Name = cmp.Or(o.Name, DefaultName)
	if err := o.Filter.check(); err != nil {
		return nil, err
	}
	if !o.Filter.all() && o.Skipped == nil {
		return nil, errors.New("a filter is given, and no way to tell of what it keeps back")
	}
	if len(o.TopicPrefix) > maxPrefix || strings.ContainsAny(o.TopicPrefix, "+#\x00") || strings.HasPrefix(o.TopicPrefix, "$") ||
		strings.HasSuffix(o.TopicPrefix, "/") {
		return nil, fmt.Errorf("%q can't come before topics: want at most %d bytes without +, # and a slash at the end", o.TopicPrefix, maxPrefix)
	}
	if o.MaxPacket != 0 && o.MaxPacket < minPacket {
		return nil, fmt.Errorf("the largest packet must be %d bytes at least, not %d", minPacket, o.MaxPacket)
	}
	if err := errors.Join(o.checkQuarantine(), o.Idle.check(), o.checkRequests()); err != nil {
		return nil, err
	}
	o.PoisonAfter = cmp.Or(o.PoisonAfter, defaultPoisonAfter)
	if o.Window < 0 || o.Window > maxWindow {
		return nil, fmt.Errorf("the window must be 1 to %d messages, not %d", maxWindow, o.Window)
	}
	o.Window = cmp.Or(o.Window, defaultWindow)
	o.WindowBytes = cmp.Or(max(o.WindowBytes, 0), defaultWindowBytes)
	o.KeepAlive = cmp.Or(o.KeepAlive, defaultKeepAlive)
	if o.KeepAlive < time.Second || o.KeepAlive > maxKeepAlive {
		return nil, fmt.Errorf("the keep-alive must be 1 s to %s, not %s", maxKeepAlive, o.KeepAlive)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.ConnectTimeout, defaultConnect}, {&o.AckTimeout, defaultAck}, {&o.StopTimeout, defaultStop},
		{&o.Heartbeat, defaultHeartbeat}, {&o.RetryMin, defaultRetryMin}, {&o.RetryMax, defaultRetryMax},
		{&o.ReturnAfter, defaultReturn},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("a time of the uplink is negative: %s", *d.value)
		}
		*d.value = cmp.Or(*d.value, d.fallback)
	}
	if err := o.TLS.check(); err != nil {
		return nil, err
	}
	o.trialHold, o.trialFor = cmp.Or(o.trialHold, trialHold), cmp.Or(o.trialFor, trialFor)
	o.tryLeftAfter = cmp.Or(o.tryLeftAfter, tryLeftAfter)
	o.RetryMax = max(o.RetryMin, o.RetryMax)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return brokers, nil
}

// prefix is what stands before each topic.
func (o *Options) prefix() string {
	if o.TopicPrefix == "" {
		return ""
	}
	return o.TopicPrefix + "/"
}

// skipLimit is how many events one notice covers.
func (o *Options) skipLimit() int {
	if o.MaxPacket == 0 {
		return maxSkipped
	}
	fits := (o.MaxPacket - noticeSlack - len(o.TopicPrefix)) / base64.StdEncoding.EncodedLen(len(event.Hash{}))
	return min(maxSkipped, max(1, fits))
}

// parseBroker reads a broker URL and fills in the port.
func parseBroker(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The text of url's error holds the URL, and that may hold a password.
		return nil, errors.New("a broker URL can't be read: want for example tls://mqtt.example:8883")
	}
	if u.User != nil {
		return nil, fmt.Errorf("broker %s: user name and password do not belong into the URL", u.Redacted())
	}
	port, known := brokerPorts[u.Scheme]
	if !known {
		return nil, fmt.Errorf("broker %s: want tcp://, tls://, ws:// or wss:// before the host", s)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("broker %s: the host is missing", s)
	}
	if u.Port() == "" {
		u.Host += ":" + port
	}
	return u, nil
}
