package uplink

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

const otherTopic = "lanepost/v1/test/entry-1/rpm-2/lanepost.device.state"

func twoDevices() []Message {
	return []Message{{otherTopic, []byte("online")}, {deviceTopic, []byte("online")}}
}

// TestMosquittoForbidsState: with max_queued_messages 0 it confirms what its access
// list forbids and ends the session.
func TestMosquittoForbidsState(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte("topic read #\ntopic write lanepost/v1/test/agent/#\ntopic write lanepost/v1/test/entry-1/rpm-1/#\n"), 0o600))
	m := startMosquitto(t, "allow_anonymous true", "acl_file "+acl)
	sub := m.subscribe(nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 50, 100)
	record(t, s, event.Routine, 50, 100)
	q := &shelf{}
	o := q.options(t, "tcp://"+m.addr)
	o.Retained = twoDevices
	u, _ := start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	eventuallyStatus(t, u, func(s Status) bool { return len(s.LeftOut) == 1 && s.State == Online })
	require.Equal(t, []string{otherTopic}, u.Status().LeftOut)
	eventually(t, func() bool { return sub.has(deviceTopic, []byte("online")) })
	require.Empty(t, q.list())
	require.Empty(t, u.Status().Stuck)
	eventually(t, func() bool {
		return sub.has(eventTopic, body(event.Urgent, 50, 100)) && sub.has(eventTopic, body(event.Routine, 50, 100))
	})
	requireEvents(t, sub.all(), event.Urgent, 50, 100)
	requireEvents(t, sub.all(), event.Routine, 50, 100)
}

// TestForbiddenStates: a broker that closes the connection at some states, before or
// after it has confirmed them, until it permits them.
func TestForbiddenStates(t *testing.T) {
	t.Parallel()
	for name, confirms := range map[string]bool{"confirmed": true, "not confirmed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newRawBroker(t)
			var mu sync.Mutex
			var permitted atomic.Bool
			got := map[string]bool{}
			b.serve(func(_, _ int, p rawPacket) (bool, bool) {
				if !permitted.Load() && (p.topic == otherTopic || p.topic == "gone/1") {
					return confirms, false
				}
				mu.Lock()
				got[p.topic+" "+p.payload] = true
				mu.Unlock()
				return true, true
			})
			s := newSpool(t)
			record(t, s, event.Urgent, 20, 100)
			q := &shelf{}
			o := q.options(t, "tcp://"+b.addr)
			o.Retained = func() []Message { return append(twoDevices(), Message{"gone/1", []byte("removed")}) }
			o.tryLeftAfter = 100 * time.Millisecond
			u, _ := start(t, s, o)
			eventuallyStatus(t, u, func(s Status) bool { return len(s.LeftOut) == 2 })
			requireInnocent(t, s, q, u)
			require.Empty(t, u.Status().Stuck)
			u.PublishState(Message{otherTopic, []byte("silent")})
			permitted.Store(true)
			eventuallyStatus(t, u, func(s Status) bool { return len(s.LeftOut) == 0 })
			eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return got["gone/1 removed"] && (got[otherTopic+" silent"] || got[otherTopic+" online"])
			})
		})
	}
}

// TestTakeOverLeavesNoStateOut: another client takes the id over again and again.
func TestTakeOverLeavesNoStateOut(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Routine, 1000, 5_000)
	q := &shelf{}
	o := q.options(t, "tcp://"+b.addr)
	o.Window = 1
	o.Retained = twoDevices
	u, _ := start(t, s, o)
	for range 30 {
		eventually(t, func() bool { return u.Status().State != Offline || backlog(s) == 0 })
		thief := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID("lanepost-a-1").SetAutoReconnect(false))
		token := thief.Connect()
		require.True(t, token.WaitTimeout(patience))
		thief.Disconnect(0)
		require.Empty(t, u.Status().LeftOut)
	}
	requireInnocent(t, s, q, u)
}
