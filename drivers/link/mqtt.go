package link

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Bounds and times of a link to a broker.
const (
	// MaxMessage is the largest message that is taken, in bytes.
	MaxMessage = 32 << 20
	// maxTopic bounds the part of a topic that is in the URL, in bytes.
	maxTopic = 512
	// mqttKeepalive is how often the broker is asked whether it is there, and
	// mqttPatience how long the answer may take: behind a large message, or while
	// the disk takes nothing, it takes long.
	mqttKeepalive = 30 * time.Second
	mqttPatience  = 2 * time.Minute
	// mqttGoodbye bounds a logout, in milliseconds.
	mqttGoodbye = 250
)

// Errors of a broker.
var (
	errBrokerLogin = errors.New("the broker does not let the agent in")
	errBrokerACL   = errors.New("the broker does not let the agent read")
	errNotMQTT     = errors.New("it does not answer as an MQTT broker does")
)

// Message is one message of a device that publishes. Done says that it is on disk.
type Message struct {
	Topic   string
	Payload []byte
	// Retained: the broker had it before the agent subscribed.
	Retained bool

	once sync.Once
	done chan struct{}
}

// Done confirms the message to the broker, which forgets it then. A message that is
// not confirmed comes again with the next connection. Later calls do nothing.
func (m *Message) Done() { m.once.Do(func() { close(m.done) }) }

// Subscriber is a link to an instrument that publishes to an MQTT broker. Messages
// come one at a time: the next one when the one before is confirmed. The broker keeps
// what comes while the agent is away, as far as the device publishes with QoS 1.
type Subscriber struct {
	meter
	*ending
	prefix string
	queue  chan *Message
	// filters are what was subscribed to; wanted is closed when that is known.
	filters []string
	wanted  chan struct{}
	once    sync.Once

	client mqtt.Client // nil for one of a script
	conn   net.Conn
}

// NewSubscriber makes a subscriber without a broker, for tests and scripts.
func NewSubscriber(prefix string) *Subscriber {
	return newSubscriber(prefix)
}

func newSubscriber(prefix string) *Subscriber {
	return &Subscriber{ending: newEnding(), prefix: prefix, queue: make(chan *Message), wanted: make(chan struct{})}
}

// Prefix is what stands in the URL behind the broker, without slashes around it: the
// part of the device's topics that is its own. Empty if nothing does.
func (s *Subscriber) Prefix() string { return s.prefix }

// Topic puts the prefix before a topic or a filter.
func (s *Subscriber) Topic(rest string) string {
	if s.prefix == "" {
		return rest
	}
	return s.prefix + "/" + rest
}

// Subscribe asks the broker for what fits the filters. What the broker has kept comes
// before its answer, so the caller must take messages by Next meanwhile.
func (s *Subscriber) Subscribe(ctx context.Context, filters ...string) error {
	s.once.Do(func() {
		s.filters = filters
		close(s.wanted)
	})
	if s.client == nil {
		return nil
	}
	wanted := map[string]byte{}
	for _, f := range filters {
		wanted[f] = 1
	}
	token := s.client.SubscribeMultiple(wanted, nil)
	select {
	case <-token.Done():
	case <-s.over.Done():
		return context.Cause(s.over)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if t, ok := token.(*mqtt.SubscribeToken); ok {
		for _, f := range filters {
			if t.Result()[f] == 0x80 {
				return fmt.Errorf("subscribe to %s: %w", f, errBrokerACL)
			}
		}
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// Next waits for a message. The caller confirms each by Done.
func (s *Subscriber) Next(ctx context.Context) (*Message, error) {
	select {
	case m := <-s.queue:
		return m, nil
	case <-s.over.Done():
		return nil, context.Cause(s.over)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Offer hands a message to whoever calls Next and waits until it is confirmed. It
// fails when the link ends or ctx does.
func (s *Subscriber) Offer(ctx context.Context, m *Message) error {
	m.done = make(chan struct{})
	select {
	case s.queue <- m:
	case <-s.over.Done():
		return context.Cause(s.over)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-m.done:
		return nil
	case <-s.over.Done():
	case <-ctx.Done():
	}
	// It may have been confirmed in the same moment.
	select {
	case <-m.done:
		return nil
	default:
	}
	if s.over.Err() != nil {
		return context.Cause(s.over)
	}
	return context.Cause(ctx)
}

// Read implements Conn; a subscriber is not read.
func (s *Subscriber) Read([]byte) (int, error) {
	return 0, errors.New("an mqtt link is not read but subscribed to: the driver and the link do not fit")
}

// Write implements Conn; nothing is published over this link.
func (s *Subscriber) Write([]byte) (int, error) {
	return 0, errors.New("an mqtt link is not written to: the driver and the link do not fit")
}

// Close logs out. The broker goes on keeping what comes.
func (s *Subscriber) Close() error {
	s.end(ErrClosed)
	if s.client == nil {
		return nil
	}
	s.client.Disconnect(mqttGoodbye)
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("log out from the broker: %w", err)
	}
	return nil
}

type mqttEndpoint struct {
	scheme, host   string
	port           int
	prefix         string
	clientID       string // empty for one that is made
	connectTimeout time.Duration
	trust          trust
	login          login
}

func parseMQTT(rest string, s *settings) (Endpoint, error) { return parseBroker("mqtt", 1883, rest, s) }

func parseMQTTS(rest string, s *settings) (Endpoint, error) {
	return parseBroker("mqtts", 8883, rest, s)
}

func parseBroker(scheme string, port int, rest string, s *settings) (Endpoint, error) {
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, fmt.Errorf("connect: %s: needs two slashes before the broker, for example %s", scheme, schemes()[scheme].example)
	}
	authority, prefix, _ := strings.Cut(authority, "/")
	host, own, err := splitHostPort(authority)
	if err != nil {
		return nil, err
	}
	if own != "" {
		s.values["port"], s.origin["port"] = own, "connect"
	}
	e := &mqttEndpoint{scheme: scheme, host: host, port: port, clientID: s.values["client_id"]}
	if e.prefix, err = url.PathUnescape(prefix); err != nil {
		return nil, errors.New("connect: the topic has a % that two hexadecimal digits do not follow; write % itself as %25")
	}
	e.prefix = strings.Trim(e.prefix, "/")
	switch {
	case len(e.prefix) > maxTopic:
		return nil, fmt.Errorf("connect: the topic has %d bytes, at most %d are allowed", len(e.prefix), maxTopic)
	case strings.ContainsAny(e.prefix, "#+\x00"):
		return nil, fmt.Errorf("connect: write the topic without + and #, as %s: the driver adds what follows", schemes()[scheme].example)
	case len(e.clientID) > 64:
		return nil, fmt.Errorf("%s: client_id has %d bytes; at most 64 are taken by every broker", s.origin["client_id"], len(e.clientID))
	}
	var errs [4]error
	if _, ok := s.values["port"]; ok {
		e.port, errs[0] = s.number("port", 1, 65535)
	}
	e.connectTimeout, errs[1] = s.duration("connect_timeout", defaultConnectTimeout, 100*time.Millisecond, 5*time.Minute, false)
	e.trust, errs[2] = s.trust()
	errs[3] = s.credentials(&e.login)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *mqttEndpoint) Scheme() string { return e.scheme }

// place is the broker and the topic without options, for errors.
func (e *mqttEndpoint) place() string {
	text := e.scheme + "://" + net.JoinHostPort(e.host, strconv.Itoa(e.port))
	if e.prefix != "" {
		text += "/" + strings.ReplaceAll(url.PathEscape(e.prefix), "%2F", "/")
	}
	return text
}

func (e *mqttEndpoint) String() string {
	var options []string
	for _, o := range []struct{ key, value string }{
		{"username", e.login.user}, {"password_file", e.login.file}, {"password_env", e.login.env},
		{"client_id", e.clientID}, {"pin", e.trust.pin}, {"ca_file", e.trust.caFile},
	} {
		if o.value != "" {
			options = append(options, o.key+"="+url.QueryEscape(o.value))
		}
	}
	if e.connectTimeout != defaultConnectTimeout && e.connectTimeout != 0 {
		options = append(options, "connect_timeout="+e.connectTimeout.String())
	}
	if len(options) > 0 {
		return e.place() + "?" + strings.Join(options, "&")
	}
	return e.place()
}

// id names the agent to the broker. It is the same after a restart, so that the
// broker knows which messages it has kept for it, and another for each machine and
// each device.
func (e *mqttEndpoint) id() string {
	if e.clientID != "" {
		return e.clientID
	}
	host, _ := os.Hostname() // without a name, machines with the same device can't be told apart
	sum := sha256.Sum256([]byte(host + "|" + e.place()))
	return "lanepost-" + hex.EncodeToString(sum[:6])
}

// Open connects and logs in.
func (e *mqttEndpoint) Open(ctx context.Context) (Conn, error) {
	s := newSubscriber(e.prefix)
	o := mqtt.NewClientOptions().
		AddBroker("tcp://" + net.JoinHostPort(e.host, strconv.Itoa(e.port))).
		SetClientID(e.id()).
		SetProtocolVersion(4). // or paho tries MQTT 3.1 after each refusal
		SetCleanSession(false).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true).
		SetAutoAckDisabled(true).
		SetStore(mqtt.NewMemoryStore()).
		SetConnectTimeout(e.connectTimeout).
		SetWriteTimeout(defaultWriteTimeout).
		SetKeepAlive(mqttKeepalive).
		SetPingTimeout(mqttPatience)
	if e.login.user != "" {
		password, err := e.login.password()
		if err != nil {
			return nil, fmt.Errorf("log in at %s: %w", e.place(), err)
		}
		o.SetUsername(e.login.user).SetPassword(password)
	}
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	guard := &packetGuard{Conn: conn, count: s.count}
	s.conn = guard
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return guard, nil })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		if guard.err != nil {
			err = guard.err
		}
		s.end(fmt.Errorf("%s: %w: %w", e.place(), ErrUnplugged, err))
	})
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		// paho calls it for one message after the other. A session that the broker kept
		// may have filters that nobody asks for any more.
		select {
		case <-s.wanted:
		case <-s.over.Done():
			return
		}
		if !slices.ContainsFunc(s.filters, func(f string) bool { return topicFits(f, m.Topic()) }) {
			m.Ack()
			return
		}
		if s.Offer(context.Background(), &Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained()}) == nil {
			m.Ack()
		}
	})
	s.client = mqtt.NewClient(o)
	_ = conn.SetDeadline(time.Now().Add(e.connectTimeout)) // the login reports what fails
	login := s.client.Connect()
	select {
	case <-login.Done():
	case <-ctx.Done():
		_ = conn.Close()
		<-login.Done()
	}
	if err := login.Error(); err != nil || ctx.Err() != nil {
		_ = conn.Close() // the login's error is the one that matters
		s.end(ErrClosed)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("log in at %s: %w", e.place(), context.Cause(ctx))
		}
		return nil, fmt.Errorf("log in at %s: %w", e.place(), refusal(login, err))
	}
	_ = conn.SetDeadline(time.Time{}) // reading reports what fails
	return s, nil
}

// topicFits reports whether a topic fits a filter of MQTT.
func topicFits(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// refusal says why a login failed.
func refusal(login mqtt.Token, err error) error {
	t, ok := login.(*mqtt.ConnectToken)
	code := byte(0)
	if ok {
		code = t.ReturnCode()
	}
	switch code {
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		return fmt.Errorf("%w: %s", errBrokerLogin, packets.ConnackReturnCodes[code])
	case packets.ErrRefusedBadProtocolVersion, packets.ErrRefusedIDRejected, packets.ErrRefusedServerUnavailable:
		return fmt.Errorf("the broker refuses the connection: %s", packets.ConnackReturnCodes[code])
	}
	return fmt.Errorf("%w: %w", errNotMQTT, err)
}

func (e *mqttEndpoint) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: e.connectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: defaultKeepalive, Interval: keepaliveEvery, Count: keepaliveProbes,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(e.host, strconv.Itoa(e.port)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", e.place(), plain(err))
	}
	if e.scheme != "mqtts" {
		return conn, nil
	}
	config, err := e.trust.config(e.host, e.place())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, e.connectTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one that matters
		return nil, fmt.Errorf("connect to %s: %w", e.place(), err)
	}
	return secured, nil
}

// packetGuard reads the lengths of packets along and refuses one that is too large
// before paho makes room for it.
type packetGuard struct {
	net.Conn
	count func(int)
	err   error

	left   int // bytes of the packet that are to come
	inHead bool
	length int
	shift  uint
}

// Read implements io.Reader.
func (g *packetGuard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.Conn.Read(p)
	g.count(n)
	for i := 0; i < n; i++ {
		switch {
		case g.left > 0:
			skip := min(g.left, n-i)
			g.left -= skip
			i += skip - 1
		case !g.inHead:
			g.inHead, g.length, g.shift = true, 0, 0
		default:
			g.length |= int(p[i]&0x7f) << g.shift
			if g.shift += 7; p[i]&0x80 != 0 && g.shift <= 21 {
				continue
			}
			g.inHead, g.left = false, g.length
			if g.length > MaxMessage+maxTopic || p[i]&0x80 != 0 {
				g.err = fmt.Errorf("a message of %d bytes; at most %d are taken", g.length, MaxMessage)
				return 0, g.err
			}
		}
	}
	return n, err
}
