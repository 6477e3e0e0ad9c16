package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// recorder keeps what a broker delivers, a line each, as mosquitto_sub -v does.
type recorder struct {
	mu     sync.Mutex
	lines  bytes.Buffer
	topics []string
	events []event.Event
	client mqtt.Client
}

func recordFrom(t *testing.T, port int, filter string) *recorder {
	t.Helper()
	r := &recorder{}
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("recorder").
		SetCleanSession(false).SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).SetMaxReconnectInterval(100 * time.Millisecond).
		SetOrderMatters(true)
	receive := func(_ mqtt.Client, m mqtt.Message) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintf(&r.lines, "%s %s\n", m.Topic(), m.Payload())
		r.topics = append(r.topics, m.Topic())
		if e, err := event.Parse(m.Payload()); err == nil {
			r.events = append(r.events, e)
		}
	}
	o.SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe(filter, 1, receive) })
	r.client = mqtt.NewClient(o)
	r.client.Connect()
	require.Eventually(t, r.client.IsConnectionOpen, patience, 10*time.Millisecond)
	t.Cleanup(func() { r.client.Disconnect(50) })
	return r
}

func (r *recorder) count(fits func(event.Event) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if fits(e) {
			n++
		}
	}
	return n
}

func (r *recorder) wait(t *testing.T, what string, n int, fits func(event.Event) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return r.count(fits) >= n }, patience, 10*time.Millisecond, "waited for %s", what)
}

func ofType(name string) func(event.Event) bool {
	return func(e event.Event) bool { return event.TypeName(e.Type) == name }
}

// verify runs `lanepost verify` over what was recorded.
func (r *recorder) verify(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recorded")
	r.mu.Lock()
	require.NoError(t, os.WriteFile(path, r.lines.Bytes(), 0o600))
	r.mu.Unlock()
	text, code := output(t, "verify", path)
	require.Zero(t, code, "%s", text)
	return text
}

// Two uplinks: everything to one broker, urgent radiation events to another, which
// is away for a while. Neither waits for the other, and both receivers can verify
// what they got.
func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	national, alarms := freePort(t), freePort(t)
	mosquitto(t, national, "max_queued_messages 0")
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim), fmt.Sprintf(`
mqtt:
  - name: national
    brokers: [tcp://127.0.0.1:%d]
    requests: [status, resend, flush, reload, diagnostics]
  - name: alarms
    brokers: [tcp://127.0.0.1:%d]
    only: {types: ["lanepost.radiation.*"], classes: [urgent]}
    topic_prefix: pl/medyka
    redact: true
evidence: {checkpoint_events: 10, checkpoint_every: 1s}
`, national, alarms))
	everything := recordFrom(t, national, event.TopicRoot+"/#")
	p := start(t, path)
	everything.wait(t, "the first alarm", 1, ofType("lanepost.radiation.alarm"))

	// The alarm station comes late, and gets all.
	broker := mosquitto(t, alarms, "max_queued_messages 0")
	station := recordFrom(t, alarms, "pl/medyka/#")
	station.wait(t, "alarms", 2, ofType("lanepost.radiation.alarm"))
	require.NoError(t, broker.Process.Kill())
	_ = broker.Wait()
	before := everything.count(ofType("lanepost.radiation.alarm"))
	everything.wait(t, "an alarm while the alarm station is away", before+1, ofType("lanepost.radiation.alarm"))
	mosquitto(t, alarms, "max_queued_messages 0")
	alarmed := everything.count(ofType("lanepost.radiation.alarm"))
	station.wait(t, "the alarms of the time when it was away", alarmed, ofType("lanepost.radiation.alarm"))

	p.stop()
	everything.wait(t, "the last event", 1, ofType("lanepost.agent.stopped"))
	offline := func(e event.Event) bool {
		return ofType("lanepost.agent.state")(e) && bytes.Contains(e.Data, []byte(`"state":"offline"`))
	}
	station.wait(t, "the offline state", 1, offline)
	printed := p.seen()
	ids := map[string]bool{}
	everything.mu.Lock()
	for _, e := range everything.events {
		ids[e.ID] = true
	}
	everything.mu.Unlock()
	for _, e := range printed {
		require.True(t, ids[e.ID], "%s %s %s is missing at the national system", e.Type, e.Priority, e.Sequence)
	}
	station.mu.Lock()
	for _, topic := range station.topics {
		require.True(t, strings.HasPrefix(topic, "pl/medyka/"+event.TopicRoot), topic)
	}
	for _, e := range station.events {
		switch event.TypeName(e.Type) {
		case "lanepost.agent.checkpoint", "lanepost.agent.key", "lanepost.agent.loss", "lanepost.agent.skipped", "lanepost.agent.state", "lanepost.device.state":
		default:
			require.True(t, strings.HasPrefix(e.Type, "lanepost.radiation.") && e.Priority == event.Urgent, "%s %s", e.Type, e.Priority)
		}
	}
	station.mu.Unlock()
	t.Log(everything.verify(t))
	t.Log(station.verify(t))
}

// ask sends a request and returns the answer.
func ask(t *testing.T, r *recorder, topic, id, command, args string) (answer struct {
	OK     bool            `json:"ok"`
	Error  string          `json:"error"`
	Result json.RawMessage `json:"result"`
}) {
	t.Helper()
	came := make(chan []byte, 1)
	token := r.client.Subscribe(topic+"/response", 1, func(_ mqtt.Client, m mqtt.Message) {
		if bytes.Contains(m.Payload(), []byte(`"`+id+`"`)) {
			select {
			case came <- bytes.Clone(m.Payload()):
			default:
			}
		}
	})
	require.True(t, token.WaitTimeout(patience))
	text := fmt.Sprintf(`{"id":%q,"command":%q,"args":%s}`, id, command, args)
	token = r.client.Publish(topic+"/request", 1, false, text)
	require.True(t, token.WaitTimeout(patience))
	select {
	case payload := <-came:
		require.NoError(t, json.Unmarshal(payload, &answer), "%s", payload)
	case <-time.After(patience):
		t.Fatalf("%s was not answered", command)
	}
	return answer
}

// A central system asks for the state, for events that it has lost, for a
// checkpoint and for a reload. Each request is an event.
func TestRequests(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	mosquitto(t, port, "max_queued_messages 0")
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n  requests: [status, resend, flush, reload, diagnostics]\n", port))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("spool:\n"), []byte("spool:\n  retain: {for: 1h}\n"), 1), 0o600))
	all := recordFrom(t, port, event.TopicRoot+"/#")
	p := start(t, path)
	started := p.waitFor("lanepost.agent.started.v1", 1)
	p.waitFor("lanepost.radiation.occupancy.v1", 2)
	topic := event.TopicRoot + "/test/agent/" + started.Agent
	all.wait(t, "the state", 1, ofType("lanepost.agent.state"))

	answer := ask(t, all, topic, "q-status", "status", "{}")
	require.True(t, answer.OK, answer.Error)
	var state event.AgentState
	require.NoError(t, json.Unmarshal(answer.Result, &state))
	require.Equal(t, "online", state.State)
	require.NotZero(t, state.UrgentHead)

	answer = ask(t, all, topic, "q-flush", "flush", "{}")
	require.True(t, answer.OK, answer.Error)
	require.JSONEq(t, `{"complete":true,"waiting":0}`, string(answer.Result))
	all.wait(t, "a checkpoint", 1, ofType("lanepost.agent.checkpoint"))

	first := func(e event.Event) bool { return e.ID == started.ID }
	require.Equal(t, 1, all.count(first))
	answer = ask(t, all, topic, "q-resend", "resend",
		`{"priority":"urgent","first_sequence":"00000000000000000001","last_sequence":"00000000000000000002"}`)
	require.True(t, answer.OK, answer.Error)
	all.wait(t, "the first event once more", 2, first)
	since := started.RecordedTime.UTC().Format(event.TimeLayout)
	answer = ask(t, all, topic, "q-again", "resend", fmt.Sprintf(`{"priority":"urgent","since":%q,"until":%q}`, since, since))
	require.True(t, answer.OK, answer.Error)
	all.wait(t, "the first event a third time", 3, first)
	for name, args := range map[string]string{
		"a range that there is not": `{"priority":"urgent","first_sequence":"00000000000009999999","last_sequence":"00000000000009999999"}`,
		"both kinds of range":       `{"priority":"urgent","first_sequence":"00000000000000000001","since":"2026-01-01T00:00:00Z"}`,
		"no class":                  `{"first_sequence":"00000000000000000001","last_sequence":"00000000000000000002"}`,
		"a key that there is not":   `{"priority":"urgent","sequence":1}`,
	} {
		answer = ask(t, all, topic, "q-"+strings.ReplaceAll(name, " ", "-"), "resend", args)
		require.False(t, answer.OK, name)
		require.NotEmpty(t, answer.Error, name)
		time.Sleep(time.Second) // the rate of requests
	}

	answer = ask(t, all, topic, "q-reload", "reload", "{}")
	require.True(t, answer.OK, answer.Error)
	require.Contains(t, string(answer.Result), `"applied":true`)
	answer = ask(t, all, topic, "q-diagnostics", "diagnostics", "{}")
	require.True(t, answer.OK, answer.Error)
	require.Contains(t, string(answer.Result), `"uplinks":[{"name":"mqtt"`)
	time.Sleep(time.Second)
	answer = ask(t, all, topic, "q-open", "open-barrier", "{}")
	require.False(t, answer.OK)

	all.wait(t, "the requests as events", 9, ofType("lanepost.agent.request"))
	p.stop()
	all.verify(t)
}

// After a SIGKILL the next run's events continue the chain of the one before.
func TestChainOverAKill(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	mosquitto(t, port, "max_queued_messages 0")
	sim := quietLane(t, 50)
	path := writeConfig(t, devicesOf(sim), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\nevidence: {checkpoint_events: 10, checkpoint_every: 1s}\n", port))
	all := recordFrom(t, port, event.TopicRoot+"/#")
	for i := range 3 {
		p := start(t, path)
		p.waitFor("lanepost.radiation.occupancy.v1", 3)
		if i < 2 {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
			<-p.done
		} else {
			p.stop()
		}
	}
	all.wait(t, "the last event", 1, ofType("lanepost.agent.stopped"))
	require.Contains(t, all.verify(t), "urgent")
}
