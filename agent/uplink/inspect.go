package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of an inspection.
const (
	// echoWait is how long a message that this client has subscribed to may take to
	// come back after it was confirmed.
	echoWait = 3 * time.Second
	// echoLeast, and so many times what it took to be confirmed, is what a larger one
	// gets once a small one has come back.
	echoLeast  = 300 * time.Millisecond
	echoFactor = 5
	// packetGrain is how exactly the limit of a broker's packets is looked for, in
	// bytes.
	packetGrain = 1 << 10
	// maxAddresses is how many addresses of a name are told.
	maxAddresses = 4
)

// Verdict is what came of a step.
type Verdict string

// The verdicts.
const (
	// Good: it works.
	Good Verdict = "ok"
	// Doubtful: it works, or will not for long, or nothing certain can be known.
	Doubtful Verdict = "warning"
	// Bad: it does not work, and nothing after it was tried.
	Bad Verdict = "failed"
)

// Step is one thing that Inspect has found out.
type Step struct {
	// Name is "files", "DNS", "TCP", "TLS", "websocket", "login", "publish", "passed on" or "packet size".
	Name    string
	Verdict Verdict
	// Detail is what was seen, Hint what to do; Hint is empty when nothing is.
	Detail, Hint string
	// Err is the cause of Bad.
	Err error
}

// Inspect tries the first of the brokers step by step: its name, the connection, its
// certificates, the login, whether a message is confirmed, whether it is passed on as far
// as that can be known, and whether messages of up to largest bytes go through. It stops
// at the first step that fails. The messages are not retained; their topic is, behind the
// prefix, "lanepost/v1/{site}/agent/{client id}/lanepost.agent.probe". The error is of
// options that can't be right.
func Inspect(ctx context.Context, o Options, site string, largest int) ([]Step, error) {
	brokers, err := o.complete()
	if err != nil {
		return nil, err
	}
	i := &inspection{
		o: &o, broker: brokers[0], largest: largest,
		topic: event.Topic(event.Source(site, event.AgentLane, o.ClientID), "lanepost.agent.probe.v1"),
		echo:  make(chan int, 16),
	}
	i.run(ctx)
	return i.steps, nil
}

type inspection struct {
	o       *Options
	broker  *url.URL
	topic   string
	largest int
	steps   []Step

	s *session // nil when there is none
	// echo gets the size of each message that comes back; listening says that the broker
	// has taken the subscription.
	echo      chan int
	listening bool
}

func (i *inspection) add(name string, v Verdict, detail, hint string) {
	i.steps = append(i.steps, Step{Name: name, Verdict: v, Detail: detail, Hint: hint})
}

func (i *inspection) bad(name string, err error) {
	i.steps = append(i.steps, Step{Name: name, Verdict: Bad, Detail: err.Error(), Hint: Hint(err), Err: err})
}

func (i *inspection) run(ctx context.Context) {
	defer i.leave()
	if !i.reach(ctx) {
		return
	}
	small := probe(0)
	if err := i.publish(ctx, small); err != nil {
		err = i.explain(ctx, err)
		i.bad("publish", err)
		if closedByPeer(err) {
			i.steps[len(i.steps)-1].Hint = i.write() + "; look in the broker's log"
		}
		return
	}
	i.add("publish", Good, "a message was confirmed", "")
	if !i.passedOn(ctx, small) || i.largest <= len(small) {
		return
	}
	i.packets(ctx)
}

// probe is a message of size bytes, or as few as can be: JSON as all that comes by such a
// topic.
func probe(size int) []byte {
	b := []byte(`{"probe":"lanepost check"}`)
	return append(b, bytes.Repeat([]byte(" "), max(size-len(b), 0))...)
}

// reach connects and logs in, and tells of each step of it.
func (i *inspection) reach(ctx context.Context) bool {
	var names []string
	var address string
	var looked, connected time.Duration
	began := time.Now()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone: func(d httptrace.DNSDoneInfo) {
			looked = time.Since(began)
			for _, a := range d.Addrs {
				names = append(names, a.String())
			}
		},
		ConnectDone: func(_, to string, err error) {
			if err == nil && address == "" {
				address, connected = to, time.Since(began)
			}
		},
	})
	s, err := i.connect(traced)
	var trusted []CertificateStatus
	if s != nil {
		trusted = s.trust.certificates()
	}
	if as[*localError]()(err) {
		i.bad("files", err)
		return false
	}
	host := i.broker.Hostname()
	_, notAnAddress := netip.ParseAddr(host)
	switch {
	case as[*net.DNSError]()(err):
		i.bad("DNS", err)
		return false
	case notAnAddress != nil && len(names) > 0:
		slices.Sort(names)
		names = slices.Compact(names)
		i.add("DNS", Good, fmt.Sprintf("%s is %s, %s", host, strings.Join(names[:min(len(names), maxAddresses)], ", "), rounded(looked)), "")
	}
	if address == "" && err != nil {
		i.bad("TCP", err)
		return false
	}
	i.add("TCP", Good, fmt.Sprintf("connected to %s, %s", address, rounded(connected-looked)), "")
	switch {
	case as[*handshakeError]()(err), as[*closedUnderTLS]()(err), alert()(err):
		// The certificate's end is of use above all when it is the reason.
		i.certificates(trusted)
		i.bad("TLS", err)
		return false
	case guarded(i.broker):
		i.certificates(trusted)
	}
	switch {
	case as[*upgradeError]()(err):
		i.bad("websocket", err)
		return false
	case err != nil:
		i.bad("login", err)
		return false
	}
	detail := "as " + i.o.ClientID
	if user, _ := i.user(); user != "" {
		detail = "as user " + user
	}
	i.add("login", Good, "logged in "+detail, "")
	return true
}

// user is the name to log in with; that it can be read has been seen at the login.
func (i *inspection) user() (string, error) {
	if i.o.Username == nil {
		return "", nil
	}
	return i.o.Username()
}

// connect opens a session. With an error the session is there too, for its certificates.
func (i *inspection) connect(ctx context.Context) (*session, error) {
	s := &session{prefix: i.o.prefix()}
	if err := s.connect(ctx, i.broker, i.o, Message{}, func() {}); err != nil {
		return s, err
	}
	i.s = s
	return s, nil
}

// leave ends the session, if there is one.
func (i *inspection) leave() {
	if i.s == nil {
		return
	}
	if i.s.conn.reason() == nil {
		i.s.client.Disconnect(uint(byeTimeout / time.Millisecond))
	}
	i.s.down()
	i.s = nil
}

// certificates tells when each certificate ends that the connection rests on.
func (i *inspection) certificates(list []CertificateStatus) {
	for _, c := range list {
		name := roleWords[c.Role].name
		if c.File != "" {
			name += " " + c.File
		}
		detail := fmt.Sprintf("%s (%s) is valid until %s", name, c.Subject, day(c.NotAfter))
		verdict, hint := Good, ""
		for _, p := range (Status{Certificates: []CertificateStatus{c}}).Problems(time.Now()) {
			verdict = Doubtful
			detail, hint = p.What, p.ToDo
		}
		i.add("TLS", verdict, detail, hint)
	}
}

// explain gives the cause of a failed message.
func (i *inspection) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errNoAck
	}
	if cause := i.s.conn.reason(); cause != nil {
		err = cause
	}
	return explain(running, err, i.broker, i.o.ClientID)
}

// publish sends a message and waits until it is confirmed.
func (i *inspection) publish(ctx context.Context, payload []byte) error {
	return i.s.sendAndWait(ctx, Message{i.topic, payload}, false, i.o.AckTimeout)
}

// passedOn finds out whether the broker passes on what it has confirmed: a broker that
// does not allow a client to publish may confirm all the same, and with MQTT 3.1.1 there is
// no other answer. It can be known only if the client may read what it has published.
// It reports whether the session goes on.
func (i *inspection) passedOn(ctx context.Context, payload []byte) bool {
	const name = "passed on"
	err := i.listen(ctx)
	if err != nil && i.s.conn.reason() != nil {
		// The broker ends the session of a client that does what it may not: which was it?
		i.leave()
		if _, err := i.connect(ctx); err != nil {
			i.bad("login", err)
			return false
		}
		if again := i.listen(ctx); again == nil || i.s.conn.reason() == nil {
			i.steps = append(i.steps, Step{
				Name: name, Verdict: Bad, Err: err,
				Detail: "the broker confirmed the message and ended the session: it does not let this user publish to " + i.s.prefix + i.topic,
				Hint:   i.write(),
			})
			return false
		}
	}
	if err != nil {
		if i.s.conn.reason() != nil {
			// Some brokers end the session of a client that asks for what it may not.
			i.add(name, Doubtful, "the broker confirms messages and ends the session when this user subscribes: whether it passes them on can't be known from here",
				i.look())
			i.leave()
			if _, err := i.connect(ctx); err != nil {
				i.bad("login", err)
				return false
			}
			return true
		}
		i.add(name, Doubtful, "the broker confirms messages; whether it passes them on can't be known, since this user may not read its own topic", i.look())
		return true
	}
	if err := i.publish(ctx, payload); err != nil {
		i.bad("publish", i.explain(ctx, err))
		return false
	}
	if i.heard(ctx, len(payload), echoWait) {
		i.add(name, Good, "the message came back by a subscription", "")
		return true
	}
	i.listening = false
	i.add(name, Doubtful, "the broker confirmed the message and did not give it to this user's own subscription: it may throw away what this user publishes, or not let it read", i.look())
	return true
}

// look says where to look for the permission to publish.
func (i *inspection) look() string {
	return fmt.Sprintf("have somebody subscribe to %s at the broker while you run this again; if nothing comes there, %s", i.s.prefix+i.topic, i.write())
}

func (i *inspection) write() string {
	return fmt.Sprintf("the broker's access list must let this user write to %slanepost/v1/# (mosquitto: topic write)", i.s.prefix)
}

// listen subscribes to the topic of the inspection.
func (i *inspection) listen(ctx context.Context) error {
	i.listening = false
	var token mqtt.Token
	alive := i.s.conn.unlessClosing(func() {
		i.s.conn.in.subacks.Store(1)
		token = i.s.client.Subscribe(i.s.prefix+i.topic, qos, func(_ mqtt.Client, m mqtt.Message) {
			select {
			case i.echo <- len(m.Payload()):
			default: // nobody waits any more
			}
		})
	})
	if !alive {
		return i.s.conn.reason()
	}
	select {
	case <-token.Done():
	case <-i.s.conn.dead:
		return i.s.conn.reason()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(echoWait):
		return errNoAck
	}
	if err := token.Error(); err != nil {
		return err
	}
	if t, ok := token.(*mqtt.SubscribeToken); ok {
		for topic, code := range t.Result() {
			if code > 2 {
				return fmt.Errorf("the broker does not let this client subscribe to %s", topic)
			}
		}
	}
	i.listening = true
	return nil
}

// heard waits for a message to come back.
func (i *inspection) heard(ctx context.Context, size int, wait time.Duration) bool {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		select {
		case n := <-i.echo:
			if n == size {
				return true
			}
		case <-i.s.conn.dead:
			return false
		case <-ctx.Done():
			return false
		case <-patience.C:
			return false
		}
	}
}

// errThrownAway: a message was confirmed, and one that was smaller had come back.
var errThrownAway = errors.New("confirmed and thrown away")

// try sends a message of so many bytes; nil if it goes through.
func (i *inspection) try(ctx context.Context, size int) error {
	if i.s == nil {
		listened := i.listening
		if _, err := i.connect(ctx); err != nil {
			return err
		}
		if listened {
			if err := i.listen(ctx); err != nil {
				return err
			}
		}
	}
	began := time.Now()
	err := i.publish(ctx, probe(size))
	// It comes back about as fast as it went.
	wait := min(echoLeast+echoFactor*time.Since(began), echoWait)
	switch {
	case err != nil:
		err = i.explain(ctx, err)
		i.leave()
		return err
	case i.listening && !i.heard(ctx, size, wait):
		return errThrownAway
	}
	return nil
}

// packets finds out whether the largest message goes through, and if not, what does.
func (i *inspection) packets(ctx context.Context) {
	const name = "packet size"
	err := i.try(ctx, i.largest)
	if err == nil {
		i.add(name, Good, fmt.Sprintf("%s in one message go through", kib(i.largest)), "")
		return
	}
	if ctx.Err() != nil {
		i.add(name, Doubtful, fmt.Sprintf("whether %s go through was not found out in time", kib(i.largest)),
			"the line is slow or the broker busy; run this again when it is not")
		return
	}
	reason := err
	good, refused := 0, i.largest
	for refused-good > packetGrain {
		size := (good + refused) / 2
		switch err := i.try(ctx, size); {
		case ctx.Err() != nil:
			refused = min(refused, good+packetGrain) // as exactly as time allowed
		case err != nil:
			refused, reason = size, err
		default:
			good = size
		}
	}
	does := "ends the connection at"
	if errors.Is(reason, errThrownAway) {
		does = "confirms and throws away"
	}
	i.steps = append(i.steps, Step{
		Name: name, Verdict: Bad, Err: reason,
		Detail: fmt.Sprintf("the broker %s messages above about %s, and pictures are sent in pieces of %s", does, kib(good), kib(i.largest)),
		Hint: fmt.Sprintf("have the broker's limit raised to %s at least (mosquitto: max_packet_size and message_size_limit; others: max packet size)",
			kib(i.largest+packetGrain)),
	})
}

func kib(n int) string { return fmt.Sprintf("%d KiB", (n+512)>>10) }

// rounded is a time as a person wants it.
func rounded(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
