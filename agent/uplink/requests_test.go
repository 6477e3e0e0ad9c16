package uplink

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

const (
	requestTopic  = "lanepost/v1/test/agent/a-1/request"
	responseTopic = "lanepost/v1/test/agent/a-1/response"
)

// desk is a central system that asks, and the agent's side that answers.
type desk struct {
	t      testing.TB
	client mqtt.Client
	came   chan mqtt.Message

	mu      sync.Mutex
	handled []Request
	done    []string
}

func newDesk(t testing.TB, addr string) *desk {
	d := &desk{t: t, came: make(chan mqtt.Message, 100)}
	d.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("desk").SetAutoReconnect(false))
	token := d.client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	t.Cleanup(func() { d.client.Disconnect(100) })
	token = d.client.Subscribe("+/"+responseTopic+"/#", 1, func(_ mqtt.Client, m mqtt.Message) { d.came <- m })
	require.True(t, token.WaitTimeout(patience))
	return d
}

func (d *desk) requests(allow ...string) *Requests {
	return &Requests{
		Allow: allow,
		Handle: func(_ context.Context, r Request) Response {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.handled = append(d.handled, r)
			switch r.Command {
			case "reload":
				return Response{Error: "the file is not valid"}
			case "diagnostics":
				return Response{Result: strings.Repeat("x", maxReply)}
			}
			return Response{Result: map[string]int{"backlog": 0}}
		},
		Done: func(r Request, accepted bool, outcome string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.done = append(d.done, fmt.Sprint(r.ID, " ", r.Command, " ", r.From, " ", accepted, " ", outcome))
		},
	}
}

func (d *desk) ask(retained bool, payload string) {
	token := d.client.Publish("x/"+requestTopic, 1, retained, payload)
	require.True(d.t, token.WaitTimeout(patience))
	require.NoError(d.t, token.Error())
}

func (d *desk) answer() (topic, payload string) {
	d.t.Helper()
	select {
	case m := <-d.came:
		require.False(d.t, m.Retained())
		require.EqualValues(d.t, 1, m.Qos())
		return strings.TrimPrefix(m.Topic(), "x/"), string(m.Payload())
	case <-time.After(patience):
		require.FailNow(d.t, "no answer came")
		return "", ""
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	d := newDesk(t, b.addr)
	d.ask(true, `{"id":"old","command":"status"}`) // retained: out of date
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.TopicPrefix, o.Requests = "x", d.requests("status", "reload", "diagnostics")
	u, _ := start(t, newSpool(t), o)
	eventually(t, func() bool { return u.Status().Requests.Dropped == 1 })

	for _, c := range []struct{ request, topic, answer string }{
		{`{"id":"q-1","command":"status","args":{"verbose":true}}`, responseTopic, `{"id":"q-1","command":"status","ok":true,"error":"","result":{"backlog":0}}`},
		{`{"id":"q-1","command":"status","args":{"verbose":true}}`, responseTopic, `{"id":"q-1","command":"status","ok":true,"error":"","result":{"backlog":0}}`},
		{`{"id":"q-1","command":"reload"}`, responseTopic, `{"id":"q-1","command":"reload","ok":false,"error":"the id was used for another request: use a new one for each","result":null}`},
		{`{"id":"q-2","command":"reload","reply_to":"desk-2"}`, responseTopic + "/desk-2", `{"id":"q-2","command":"reload","ok":false,"error":"the file is not valid","result":null}`},
		{`{"id":"q-3","command":"resend"}`, responseTopic, `{"id":"q-3","command":"resend","ok":false,"error":"resend is not allowed here: the agent's configuration allows status, reload, diagnostics","result":null}`},
		{`{"id":"q-4","command":"open-barrier"}`, responseTopic, `{"id":"q-4","command":"open-barrier","ok":false,"error":"open-barrier is not allowed here: the agent's configuration allows status, reload, diagnostics","result":null}`},
		{`{"id":"q-5","command":"diagnostics"}`, responseTopic, `{"id":"q-5","command":"diagnostics","ok":false,"error":"the answer has 32837 bytes, the most is 32768","result":null}`},
	} {
		d.ask(false, c.request)
		topic, answer := d.answer()
		require.Equal(t, c.topic, topic)
		require.Equal(t, c.answer, answer)
	}
	d.ask(false, `{"id":"q-6","command":"status","level":3}`)
	eventually(t, func() bool { return u.Status().Requests.Malformed == 1 })
	d.mu.Lock()
	require.Equal(t, []string{
		"q-1 status mqtt:mqtt true ok",
		"q-1 reload mqtt:mqtt false the id was used for another request: use a new one for each",
		"q-2 reload mqtt:mqtt true the file is not valid",
		"q-3 resend mqtt:mqtt false resend is not allowed here: the agent's configuration allows status, reload, diagnostics",
		"q-4 open-barrier mqtt:mqtt false open-barrier is not allowed here: the agent's configuration allows status, reload, diagnostics",
		"q-5 diagnostics mqtt:mqtt true ok",
	}, d.done)
	require.Len(t, d.handled, 3, "what came twice is executed once")
	require.Equal(t, `{"verbose":true}`, string(d.handled[0].Args))
	d.mu.Unlock()
	require.Equal(t, RequestCounts{Executed: 3, Refused: 3, Repeated: 1, Dropped: 1, Malformed: 1}, u.Status().Requests)

	// A flood is dropped, and the session goes on with the next.
	for n := range 30 {
		d.ask(false, fmt.Sprintf(`{"id":"flood-%d","command":"status"}`, n))
	}
	eventually(t, func() bool { return u.Status().Requests.Dropped >= 20 })
	require.Zero(t, u.Status().Reconnects)
	// After a new session requests are taken again.
	b.kick(t, "lanepost-a-1")
	eventually(t, func() bool { return u.Status().Reconnects == 1 })
}

// TestAnswerSurvivesLostSession: an answer that was not confirmed is sent again.
func TestAnswerSurvivesLostSession(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	d := &desk{t: t}
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Requests = d.requests("status")
	u, _ := start(t, newSpool(t), o)
	subscribed := func(c *rawConn, code byte) {
		p, err := c.readAny()
		require.NoError(t, err)
		require.EqualValues(t, typeSubscribe, p.kind)
		c.send(0x90, 3, byte(p.id>>8), byte(p.id), code)
	}
	c := b.welcome()
	subscribed(c, 1)
	request := `{"id":"q-1","command":"status"}`
	packet := []byte{0x32, byte(2 + len(requestTopic) + 2 + len(request))}
	packet = binary.BigEndian.AppendUint16(packet, uint16(len(requestTopic)))
	packet = append(append(append(packet, requestTopic...), 0, 7), request...)
	c.send(packet...)
	var first rawPacket
	for first.kind != typePublish {
		first = c.expect() // the PUBACK of the request may come first
	}
	require.Equal(t, responseTopic, first.topic)
	require.NoError(t, c.Close())
	c = b.welcome()
	again := c.expect()
	if again.kind != typePublish {
		c.send(0x90, 3, byte(again.id>>8), byte(again.id), 0x80)
		again = c.expect()
	} else {
		subscribed(c, 0x80)
	}
	require.Equal(t, first.payload, again.payload)
	c.puback(again.id)
	eventually(t, func() bool {
		return strings.Contains(u.Status().Requests.Error, "does not let this client subscribe to "+requestTopic)
	})
	require.Equal(t, Online, u.Status().State, "the rest goes on")
	// A second SUBACK is nobody's.
	c.send(0x90, 3, 0, 9, 0)
	eventuallyStatus(t, u, func(s Status) bool { return strings.Contains(s.LastError, "a packet of type 9") })
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"id":"a","command":"status"}`:                                    "",
		`{"id":"a-1_b.c:2","command":"status","args":null,"reply_to":"x"}`: "",
		`{"id":"a","command":"status","args":{"a":[[[[[1]]]]]}}`:           "",
		`{"id":"a","command":"status","args":{"a":"[[[[[[[[[[[[\"[[["}}`:   "",
		`{"id":"a","command":"status","args":{"a":[[[[[[[1]]]]]]]}}`:       "nested more than 8 deep",
		`{"id":"a","command":"status","args":[1]}`:                         "args is no object",
		`{"id":"a","command":"status"} {}`:                                 "there is more behind it",
		`{"id":"a","command":"status","x":1}`:                              `unknown field "x"`,
		`{"id":"a"}`:                                                       "id and command are needed",
		`{"command":"status"}`:                                             "id and command are needed",
		`{"id":"a/b","command":"status"}`:                                  "id and command are needed",
		`{"id":"a","command":"status","reply_to":"+"}`:                     "id and command are needed",
		`{"id":"` + strings.Repeat("a", 65) + `","command":"status"}`:      "id and command are needed",
		`{"id":1,"command":"status"}`:                                      "cannot unmarshal number",
		``:                                                                 "EOF",
		`null`:                                                             "id and command are needed",
		"\xff":                                                             "not UTF-8",
		`{"id":"a","command":"status","args":"` + strings.Repeat("a", 16<<10) + `"}`: "the most is 16384",
	} {
		r, _, err := parseRequest([]byte(in))
		if want == "" {
			require.NoError(t, err, in)
			require.Equal(t, "status", r.Command)
			continue
		}
		require.ErrorContains(t, err, want, in)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"id":"a","command":"status","args":{"a":[1]},"reply_to":"x"}`))
	f.Add([]byte(`{"id":"a","command":"status","args":{"a":"\"[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, replyTo, err := parseRequest(b)
		if err != nil {
			return
		}
		require.True(t, requestName(r.ID) && requestName(r.Command))
		require.NotContains(t, replyTo, "/")
		require.True(t, r.Args == nil || json.Valid(r.Args))
	})
}

func TestRequestsRefused(t *testing.T) {
	t.Parallel()
	handle := func(context.Context, Request) Response { return Response{} }
	for want, r := range map[string]*Requests{
		"nothing handles them":                   {Topic: "a/request"},
		"no topic is given":                      {Handle: handle},
		`there is no request "open-barrier"`:     {Topic: "a/request", Handle: handle, Allow: []string{"open-barrier"}},
		`"a/+/request" is no topic for requests`: {Topic: "a/+/request", Handle: handle},
	} {
		_, err := New(nil, Options{Brokers: []string{"tcp://h"}, ClientID: "x", Requests: r})
		require.ErrorContains(t, err, want)
	}
}
