package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// The broker is away for longer than the cap of the routine events allows. The
// oldest give way, and the stream says which: every sequence is there, or named.
func TestLongOutage(t *testing.T) {
	t.Parallel()
	scenario := simulator.MustLoad(t, "busy")
	scenario.Duration = 0
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 2000})
	port := freePort(t)
	path := writeConfig(t, devicesOf(sim), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\nevidence: {checkpoint_events: 100, checkpoint_every: 1s}\n", port))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("spool:\n"), []byte("spool:\n  routine: {max_size: 1MiB}\n"), 1), 0o600))
	p := start(t, path)
	evicted := event.AgentLoss{}
	p.wait("two losses", func(list []event.Event) bool {
		n := 0
		for _, e := range list {
			if e.Type == evicted.Type() {
				n++
			}
		}
		return n >= 2
	})
	for _, loss := range all[*event.AgentLoss](t, p.seen(), evicted.Type()) {
		require.Equal(t, "evicted", loss.Reason)
		require.Equal(t, event.Routine, loss.Priority)
		t.Log(loss.Detail)
	}

	mosquitto(t, port, "max_queued_messages 0")
	everything := recordFrom(t, port, event.TopicRoot+"/+/+/+/+")
	everything.wait(t, "the first event", 1, ofType("lanepost.agent.started"))
	p.stop()
	everything.wait(t, "the last event", 1, ofType("lanepost.agent.stopped"))
	printed := p.seen()
	there := map[string]bool{}
	var last string // the routine event up to which the agent came before it stopped
	everything.mu.Lock()
	for _, e := range everything.events {
		there[e.ID] = true
		if e.Priority == event.Routine {
			last = max(last, e.Sequence)
		}
	}
	everything.mu.Unlock()
	lost := all[*event.AgentLoss](t, printed, evicted.Type())
	var missing int
	for _, e := range printed {
		if there[e.ID] || e.Priority == event.Routine && e.Sequence > last {
			continue
		}
		missing++
		require.Equal(t, event.Routine, e.Priority, "an urgent event is missing: %s %s", e.Type, e.Sequence)
		named := false
		for _, l := range lost {
			named = named || l.FirstSequence <= e.Sequence && e.Sequence <= l.LastSequence
		}
		require.True(t, named, "routine %s is missing, and no loss names it", e.Sequence)
	}
	require.NotZero(t, missing)
	t.Logf("%d events recorded, %d gave way", len(printed), missing)
}
