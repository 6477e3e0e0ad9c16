package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// retained is what a broker keeps for those who come later, asked anew.
func retained(t *testing.T, port int, topic string) (payload []byte) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("late"))
	token := client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	defer client.Disconnect(100)
	var mu sync.Mutex
	token = client.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		if m.Retained() {
			payload = m.Payload()
		}
	})
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	time.Sleep(100 * time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	return payload
}

// A device that is taken out of the configuration must not stand as "online" at
// the broker for ever, whether the agent runs at that moment or not.
func TestARemovedDeviceIsNotOnline(t *testing.T) {
	port := freePort(t)
	mosquitto(t, port)
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port))
	state := func(device string) string {
		b := retained(t, port, event.Topic(event.Source("test", "entry-1", device), event.DeviceState{}.Type()))
		if b == nil {
			return ""
		}
		e, err := event.Parse(b)
		require.NoError(t, err)
		return decode[*event.DeviceState](t, e).State
	}
	becomes := func(device, want string) {
		require.Eventually(t, func() bool { return state(device) == want }, patience, 20*time.Millisecond, "%s is %q, not %q", device, state(device), want)
	}

	p := start(t, path)
	becomes("rpm-1", "online")
	becomes("rpm-2", "online")
	p.stop()

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "      - id: rpm-2")
	_, rest, _ := strings.Cut(string(text), "spool:")
	require.NoError(t, os.WriteFile(path, []byte(first+"spool:"+rest), 0o600))
	p = start(t, path)
	becomes("rpm-2", "removed")
	becomes("rpm-1", "online")
	p.stop()

	// It comes back.
	require.NoError(t, os.WriteFile(path, text, 0o600))
	p = start(t, path)
	becomes("rpm-2", "online")
	p.stop()
}
