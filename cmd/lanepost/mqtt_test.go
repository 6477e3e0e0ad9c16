package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// publishes plays a camera that publishes to mosquitto, from where the driver has it.
func publishes(t *testing.T, d drivers.Driver, connect, model, prefix string, camera simulator.CameraSettings, settings func(any) error) (*recordingHost, []string) {
	t.Helper()
	port := freePort(t)
	mosquitto(t, port)
	h := newRecordingHost()
	runDriver(t, d, fmt.Sprintf("mqtt://127.0.0.1:%d/%s", port, connect), settings, h)
	camera.Push = fmt.Sprintf("mqtt://127.0.0.1:%d%s", port, prefix)
	// What is published before somebody has subscribed is lost to him.
	probe := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)))
	defer probe.Disconnect(0)
	topic := connect + "/onvif-ej/probe"
	if model == "vzen" {
		topic = "device/" + connect + "/message/up/keep_alive"
	}
	require.Eventually(t, func() bool {
		if !probe.IsConnected() {
			if c := probe.Connect(); !c.WaitTimeout(patience) || c.Error() != nil {
				return false // tried again
			}
		}
		if p := probe.Publish(topic, 1, false, `{"UtcTime":"","Data":{"a":"b"}}`); !p.WaitTimeout(patience) || p.Error() != nil {
			return false
		}
		_, _, valid := h.said()
		return valid > 0
	}, patience, 50*time.Millisecond, "nobody has subscribed")
	sim := simulator.Start(t, cameraScenario(model, 10*time.Minute, camera))
	require.NoError(t, sim.Wait())
	plates := seen(sim.Truth())
	require.Greater(t, len(plates), 5)
	return h, plates
}

func TestVzenOverMQTT(t *testing.T) {
	t.Parallel()
	all := []string{"heartbeat", "offline", "duplicate", "both-kinds", "millis", "wrong-clock", "serial-first", "no-pictures"}
	sets := map[string][]string{"plain": nil, "all together": all}
	for _, s := range all {
		sets[s] = []string{s}
	}
	for name, switches := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{NoRead: 0.2, Script: "cyrillic", Switches: switches}
			h, plates := publishes(t, anpr.VzenPush(), "b2c3d4e5-00112233", "vzen", "", camera, nil)
			want := plates
			if camera.Has("both-kinds") {
				want = append(want, plates...)
			}
			h.wait(t, "every read", func() bool { return len(h.reads()) >= len(want) })
			require.ElementsMatch(t, want, h.reads())
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				if d, ok := o.Data.(event.PlateRead); ok {
					require.Len(t, d.Attachments, map[bool]int{false: 2, true: 0}[camera.Has("no-pictures")])
				}
			}
		})
	}
}

func TestONVIFOverMQTT(t *testing.T) {
	t.Parallel()
	filters := func(vendor string, list ...string) func(any) error {
		return func(into any) error {
			s := into.(*anpr.ONVIFMQTTSettings)
			s.Vendor, s.Filters = vendor, list
			return nil
		}
	}
	for name, c := range map[string]struct {
		switches []string
		vendor   string
		filters  []string
		// metadata: plates come from scenes, where an unread one is none.
		metadata bool
	}{
		"plain":         {nil, "onvif", []string{"onvif-ej/#"}, false},
		"metadata":      {[]string{"metadata"}, "onvif", []string{"onvif-ej/#"}, false},
		"only-metadata": {[]string{"only-metadata"}, "onvif", []string{"onvif-ej/#", "onvif-mj/#"}, true},
		"hikvision":     {[]string{"hikvision"}, "hikvision-onvif", []string{"onvif-ej/#"}, false},
		"property":      {[]string{"property"}, "onvif", []string{"onvif-ej/#"}, false},
		"motion":        {[]string{"motion"}, "onvif", []string{"onvif-ej/#"}, false},
		"resend":        {[]string{"resend", "metadata"}, "onvif", []string{"onvif-ej/#"}, false},
		"no-pictures":   {[]string{"no-pictures"}, "onvif", []string{"onvif-ej/#"}, false},
		"together":      {[]string{"metadata", "property", "motion", "resend", "no-pictures"}, "onvif", []string{"onvif-ej/#"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{Switches: c.switches}
			if !camera.Has("resend") {
				camera.NoRead = 0.2 // one that is told twice can't be known
			}
			h, plates := publishes(t, anpr.ONVIFMQTT(), "lane/cam1", "onvif-publisher", "/lane/cam1", camera, filters(c.vendor, c.filters...))
			if !c.metadata {
				h.wait(t, "every read", func() bool { return len(h.reads()) >= len(plates) })
				require.Equal(t, plates, h.reads())
				require.Empty(t, h.problems())
				return
			}
			// Two words on each: the plate without its last character, and the whole.
			var want []string
			for _, p := range plates {
				if p != "" {
					want = append(want, p[:len(p)-1], p)
				}
			}
			h.wait(t, "every word", func() bool { return len(h.reads()) >= len(want) })
			require.Equal(t, want, h.reads())
			ids := map[string][]string{}
			for _, o := range h.events() {
				d := o.Data.(event.PlateRead)
				ids[d.ReadID] = append(ids[d.ReadID], d.Capture.Revision)
			}
			require.Len(t, ids, len(want)/2)
			for _, revisions := range ids {
				require.Equal(t, []string{event.RevisionNew, event.RevisionUpdate}, revisions)
			}
		})
	}
}

// TestBrokerKeeps: what a camera publishes while the agent is away, and what the agent
// had not recorded, comes later.
func TestBrokerKeeps(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	mosquitto(t, port)
	endpoint, err := link.Parse(fmt.Sprintf("mqtt://127.0.0.1:%d/lane?client_id=box-7", port), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// What is published before a first subscription is nobody's; after it, the broker's answer
	// may come behind what it has kept.
	open := func(first bool) *link.Subscriber {
		conn, err := endpoint.Open(ctx)
		require.NoError(t, err)
		s, ok := link.As[*link.Subscriber](conn)
		require.True(t, ok)
		subscribed := make(chan error, 1)
		go func() { subscribed <- s.Subscribe(ctx, s.Topic("#")) }()
		if first {
			require.NoError(t, <-subscribed)
		} else {
			t.Cleanup(func() { require.NoError(t, <-subscribed) })
		}
		return s
	}
	camera := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)))
	connected := camera.Connect()
	require.True(t, connected.WaitTimeout(patience))
	require.NoError(t, connected.Error())
	defer camera.Disconnect(0)
	publish := func(text string) {
		require.True(t, camera.Publish("lane/a", 1, false, text).WaitTimeout(patience))
	}
	next := func(s *link.Subscriber) *link.Message {
		m, err := s.Next(ctx)
		require.NoError(t, err)
		return m
	}
	s := open(true)
	for _, text := range []string{"1", "2"} {
		publish(text)
	}
	m := next(s)
	require.Equal(t, "1", string(m.Payload))
	m.Done()
	require.Equal(t, "2", string(next(s).Payload)) // and the agent stops before it is on disk
	require.NoError(t, s.Close())
	var waiting []string
	for i := range 50 { // more than paho holds
		waiting = append(waiting, fmt.Sprint(i+3))
		publish(waiting[i])
	}
	s = open(false)
	for _, want := range append([]string{"2"}, waiting...) {
		m := next(s)
		require.Equal(t, want, string(m.Payload))
		m.Done()
	}
	require.NoError(t, s.Close())
}

func TestBrokerRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users, secret, wrong := filepath.Join(dir, "users"), filepath.Join(dir, "secret"), filepath.Join(dir, "wrong")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", users, "lane", "hunter2").CombinedOutput(); err != nil {
		require.Empty(t, os.Getenv("CI"), "mosquitto_passwd: %v: %s", err, out)
		t.Skipf("mosquitto_passwd: %v: %s", err, out)
	}
	require.NoError(t, os.WriteFile(secret, []byte("hunter2\n"), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte("hunter3\n"), 0o600))
	port := freePort(t)
	mosquitto(t, port, "user root", "allow_anonymous false", "password_file "+users)
	open := func(connect string) (link.Conn, error) {
		endpoint, err := link.Parse(connect, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return endpoint.Open(ctx)
	}
	conn, err := open(fmt.Sprintf("mqtt://127.0.0.1:%d/x?username=lane&password_file=%s", port, secret))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = open(fmt.Sprintf("mqtt://127.0.0.1:%d/x?username=lane&password_file=%s", port, wrong))
	require.ErrorContains(t, err, "the broker does not let the agent in")
	require.Contains(t, link.Hint(err), "check username and password_file")
	require.NotContains(t, err.Error(), "hunter3")
	_, err = open(fmt.Sprintf("mqtt://127.0.0.1:%d/x", port))
	require.ErrorContains(t, err, "the broker does not let the agent in")
	_, err = open(fmt.Sprintf("mqtt://127.0.0.1:%d/x", freePort(t)))
	require.ErrorContains(t, err, "connection refused")
	require.NotEmpty(t, link.Hint(err))
}
