package uplink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Bounds of requests.
const (
	maxRequest      = 16 << 10 // bytes of a request
	maxRequestDepth = 8        // of its JSON
	maxRequestName  = 64       // bytes of its id, command and reply_to
	maxReply        = 32 << 10 // bytes of an answer
	maxInbox        = 16       // requests that wait
	maxReplies      = 32       // answers that wait
	rememberedIDs   = 64
	requestBurst    = 10
	requestEvery    = time.Second // above the burst
	requestTimeout  = 30 * time.Second
)

// Command is something that a central system can ask for.
type Command struct{ Name, Summary string }

// Commands lists what can be allowed. None of them acts on an instrument.
func Commands() []Command { return slices.Clone(commands[:]) }

var commands = [...]Command{
	{"status", "how the agent and its devices are"},
	{"resend", "send a range of events again, as far as they are kept"},
	{"flush", "send now what would wait for a while"},
	{"reload", "read the configuration file again"},
	{"diagnostics", "what a person needs to find a fault"},
}

// Requests are taken from the broker: JSON messages
//
//	{"id":"q-1","command":"status","args":{},"reply_to":"desk-2"}
//
// of which args and reply_to may be missing. Each is answered, with QoS 1 and not
// retained, on the topic beside the requests' that ends in "response", or in
// "response/{reply_to}":
//
//	{"id":"q-1","command":"status","ok":true,"error":"","result":{}}
//
// A request whose id came before is not executed again and gets the same answer.
// Retained requests are out of date and passed over, and so are those above the
// rate: one per second, ten at a time.
type Requests struct {
	// Topic is where requests come, without the uplink's prefix; the topic of the
	// agent's state with its last level replaced by "request" if empty.
	Topic string
	// Allow names the commands that are executed; all others are refused.
	Allow []string
	// Handle executes a request, one at a time. ctx ends after 30 s and at the end
	// of Run.
	Handle func(ctx context.Context, r Request) Response
	// Done is told of each request before it is answered, to record it: whether its
	// command was allowed, and "ok" or why not. It must return soon when the uplink
	// is to end. Nil for none.
	Done func(r Request, accepted bool, outcome string)
}

// Request is what a central system asks.
type Request struct {
	ID, Command string
	// Args is a JSON object, or nil.
	Args json.RawMessage
	// From is the way by which it came: "mqtt:" and the uplink's name.
	From string
}

// Response is the answer to a request.
type Response struct {
	// Error says in words why the request failed; empty if it did not.
	Error string
	// Result is encoded as JSON; nil for none.
	Result any
}

func (o *Options) checkRequests() error {
	r := o.Requests
	if r == nil {
		return nil
	}
	if r.Topic == "" && o.State == nil {
		return errors.New("requests are taken, and no topic is given for them")
	}
	if r.Handle == nil {
		return errors.New("requests are taken, and nothing handles them")
	}
	if strings.ContainsAny(r.Topic, "+#\x00") || strings.HasSuffix(r.Topic, "/") {
		return fmt.Errorf("%q is no topic for requests", r.Topic)
	}
	for _, name := range r.Allow {
		if !slices.ContainsFunc(commands[:], func(c Command) bool { return c.Name == name }) {
			return fmt.Errorf("there is no request %q", name)
		}
	}
	return nil
}

// RequestCounts count requests since New.
type RequestCounts struct {
	// Executed were handed to Handle, Refused were for a command that is not
	// allowed, or with an id that was used for another request.
	Executed, Refused uint64
	// Repeated were answered again, Dropped were retained, above the rate or too
	// many at a time, and Malformed can't be read.
	Repeated, Dropped, Malformed uint64
	// Error says why no requests are taken; empty if they are, or if none are
	// wanted.
	Error string
}

// errand is a request as it came.
type errand struct {
	payload []byte
	replies string // the topic of the answer
}

// reply is an encoded answer.
type reply struct {
	ID      string `json:"id"`
	Command string `json:"command"`
	OK      bool   `json:"ok"`
	Error   string `json:"error"`
	Result  any    `json:"result"`
}

// parseRequest reads a request strictly.
func parseRequest(b []byte) (r Request, replyTo string, err error) {
	if len(b) > maxRequest {
		return r, "", fmt.Errorf("it has %d bytes, the most is %d", len(b), maxRequest)
	}
	if !utf8.Valid(b) {
		return r, "", errors.New("it is not UTF-8")
	}
	if depth(b) > maxRequestDepth {
		return r, "", fmt.Errorf("it is nested more than %d deep", maxRequestDepth)
	}
	var w struct {
		ID      string          `json:"id"`
		Command string          `json:"command"`
		Args    json.RawMessage `json:"args"`
		ReplyTo string          `json:"reply_to"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return r, "", err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, "", errors.New("there is more behind it")
	}
	if !requestName(w.ID) || !requestName(w.Command) || w.ReplyTo != "" && !requestName(w.ReplyTo) {
		return r, "", fmt.Errorf("id and command are needed, and they and reply_to have 1 to %d letters, digits, -, _, : and . each", maxRequestName)
	}
	if string(w.Args) == "null" {
		w.Args = nil
	}
	if w.Args != nil && w.Args[0] != '{' {
		return r, "", errors.New("args is no object")
	}
	return Request{ID: w.ID, Command: w.Command, Args: w.Args}, w.ReplyTo, nil
}

// requestName tells whether s can name a request. It becomes a level of a topic.
func requestName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= maxRequestName
}

// depth is how deep JSON is nested at the most.
func depth(b []byte) (most int) {
	now, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// subscribe asks the broker for requests. birth is the topic of the agent's state.
func (s *session) subscribe(birth string) {
	u := s.u
	r := u.o.Requests
	if r == nil {
		return
	}
	topic := r.Topic
	if topic == "" {
		topic = beside(birth, "request")
	}
	replies := beside(topic, "response")
	s.conn.unlessClosing(func() {
		s.conn.in.subacks.Store(1)
		s.subscription = s.client.Subscribe(s.prefix+topic, qos, func(_ mqtt.Client, m mqtt.Message) {
			if m.Topic() != s.prefix+topic || m.Retained() {
				u.count(func(c *RequestCounts) { c.Dropped++ })
				return
			}
			select {
			case u.inbox <- errand{m.Payload(), replies}:
			default:
				u.count(func(c *RequestCounts) { c.Dropped++ })
			}
		})
	})
}

// beside is a topic with another last level.
func beside(topic, level string) string { return topic[:strings.LastIndexByte(topic, '/')+1] + level }

// subscribed looks for the broker's answer to the subscription.
func (s *session) subscribed() {
	if s.subscription == nil {
		return
	}
	select {
	case <-s.subscription.Done():
	default:
		return
	}
	var text string
	if t, ok := s.subscription.(*mqtt.SubscribeToken); ok {
		for topic, code := range t.Result() {
			if code > 2 {
				text = "the broker does not let this client subscribe to " + topic
			}
		}
	}
	if err := s.subscription.Error(); err != nil {
		text = err.Error()
	}
	s.subscription = nil
	s.u.count(func(c *RequestCounts) { c.Error = text })
	if text != "" {
		s.u.log.Warn("no requests are taken", "err", text, "hint", "allow it at the broker, or take the requests out of the configuration")
	}
}

func (u *Uplink) count(change func(*RequestCounts)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.status.Requests)
}

// clerk answers requests, one after the other.
type clerk struct {
	u       *Uplink
	known   []remembered // the oldest first
	credit  float64
	counted time.Time
}

type remembered struct {
	id     string
	digest [sha256.Size]byte
	answer Message
}

// serve works until ctx ends.
func (c *clerk) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.u.inbox:
			c.take(ctx, e, time.Now())
		}
	}
}

func (c *clerk) take(ctx context.Context, e errand, now time.Time) {
	u := c.u
	c.credit = min(requestBurst, c.credit+float64(now.Sub(c.counted))/float64(requestEvery))
	c.counted = now
	if c.credit < 1 {
		u.count(func(n *RequestCounts) { n.Dropped++ })
		return
	}
	c.credit--
	r, replyTo, err := parseRequest(e.payload)
	if err != nil {
		u.count(func(n *RequestCounts) { n.Malformed++ })
		u.log.Warn("a request can't be read", "bytes", len(e.payload), "err", err)
		return
	}
	r.From = "mqtt:" + u.o.Name
	topic := e.replies
	if replyTo != "" {
		topic += "/" + replyTo
	}
	digest := sha256.Sum256(e.payload)
	if i := slices.IndexFunc(c.known, func(k remembered) bool { return k.id == r.ID }); i >= 0 {
		k := c.known[i]
		if k.digest == digest {
			u.count(func(n *RequestCounts) { n.Repeated++ })
			u.reply(k.answer)
			return
		}
		c.refuse(r, topic, "the id was used for another request: use a new one for each")
		return
	}
	if !slices.Contains(u.o.Requests.Allow, r.Command) {
		c.refuse(r, topic, fmt.Sprintf("%s is not allowed here: the agent's configuration allows %s", r.Command, allowed(u.o.Requests.Allow)))
		return
	}
	handling, cancel := context.WithTimeout(ctx, requestTimeout)
	answer := u.o.Requests.Handle(handling, r)
	cancel()
	u.count(func(n *RequestCounts) { n.Executed++ })
	outcome := answer.Error
	if outcome == "" {
		outcome = "ok"
	}
	c.done(r, true, outcome)
	m := Message{topic, encodeReply(r, answer)}
	if len(c.known) == rememberedIDs {
		c.known = slices.Delete(c.known, 0, 1)
	}
	c.known = append(c.known, remembered{r.ID, digest, m})
	u.reply(m)
}

func allowed(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func (c *clerk) refuse(r Request, topic, why string) {
	c.u.count(func(n *RequestCounts) { n.Refused++ })
	c.u.log.Warn("a request is refused", "id", r.ID, "command", r.Command, "reason", why)
	c.done(r, false, why)
	c.u.reply(Message{topic, encodeReply(r, Response{Error: why})})
}

func (c *clerk) done(r Request, accepted bool, outcome string) {
	if done := c.u.o.Requests.Done; done != nil {
		done(r, accepted, outcome)
	}
}

func encodeReply(r Request, a Response) []byte {
	b, err := json.Marshal(reply{r.ID, r.Command, a.Error == "", a.Error, a.Result})
	if err == nil && len(b) <= maxReply {
		return b
	}
	why := fmt.Sprintf("the answer has %d bytes, the most is %d", len(b), maxReply)
	if err != nil {
		why = "the answer can't be encoded: " + err.Error()
	}
	b, err = json.Marshal(reply{r.ID, r.Command, false, why, nil})
	if err != nil {
		return []byte(`{}`) // strings can always be encoded
	}
	return b
}

// reply has an answer sent. If too many wait, the oldest is dropped.
func (u *Uplink) reply(m Message) {
	u.mu.Lock()
	if len(u.replies) == maxReplies {
		u.replies = slices.Delete(u.replies, 0, 1)
	}
	u.replies = append(u.replies, m)
	u.mu.Unlock()
	wake(u.states)
}

// fillReplies sends the answers that wait.
func (s *session) fillReplies() error {
	u := s.u
	for s.room(0) {
		u.mu.Lock()
		if len(u.replies) == 0 {
			u.mu.Unlock()
			return nil
		}
		m := u.replies[0]
		u.replies = slices.Delete(u.replies, 0, 1)
		u.mu.Unlock()
		f, err := s.publish(m, false)
		if err != nil {
			u.mu.Lock()
			u.replies = append([]Message{m}, u.replies...)
			u.mu.Unlock()
			return err
		}
		s.replies.add(f)
	}
	return nil
}
