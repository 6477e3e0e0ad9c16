package main

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// pushCase is a simulated camera that posts, with its switches.
type pushCase struct {
	driver drivers.Driver
	model  string
	// events is how many there are of each vehicle, one unless it says more.
	events   int
	pictures int
	camera   simulator.CameraSettings
	settings func(any) error
}

// run plays the camera until its end and checks that every plate came once, in order.
func (c pushCase) run(t *testing.T) *recordingHost {
	t.Helper()
	// The port is free again at once, and the driver takes it.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())
	h := newRecordingHost()
	runDriver(t, c.driver, "http-listen://"+address+"/camera/c2VjcmV0LXBhdGg", c.settings, h)
	c.camera.Push = "http://" + address + "/camera/c2VjcmV0LXBhdGg"
	sim := simulator.Start(t, cameraScenario(c.model, 10*time.Minute, c.camera))
	require.NoError(t, sim.Wait())
	plates := seen(sim.Truth())
	require.Greater(t, len(plates), 5)
	each := max(c.events, 1)
	h.wait(t, "every read", func() bool { return len(h.reads()) >= each*len(plates) })
	var want []string
	for _, p := range plates {
		for range each {
			want = append(want, p)
		}
	}
	require.ElementsMatch(t, want, h.reads())
	require.Empty(t, h.problems())
	for _, p := range sim.Truth().Plates {
		require.NotEqual(t, "barrier", p.What, "an answer moved the barrier")
	}
	for _, o := range h.events() {
		if d, ok := o.Data.(event.PlateRead); ok {
			require.Len(t, d.Attachments, c.pictures)
			_, pictures := document.Elide([]byte(d.Private.Raw.Text))
			require.Zero(t, pictures, "no picture in the raw bytes")
		}
	}
	return h
}

// all gives a case the switches, alone and together.
func (c pushCase) all(t *testing.T, name string, together []string, change map[string]func(*pushCase)) {
	t.Helper()
	sets := map[string][]string{"plain": nil, "all together": together}
	for _, s := range together {
		sets[s] = []string{s}
	}
	for set, switches := range sets {
		t.Run(name+"/"+set, func(t *testing.T) {
			t.Parallel()
			c := c
			c.camera.Switches = switches
			for _, s := range switches {
				if f := change[s]; f != nil {
					f(&c)
				}
			}
			c.run(t)
		})
	}
}

var noPictures = func(c *pushCase) { c.pictures = 0 }

func TestVzenSwitches(t *testing.T) {
	c := pushCase{driver: anpr.VzenPush(), model: "vzen", pictures: 2, camera: simulator.CameraSettings{NoRead: 0.2, Script: "cyrillic", Misread: 0.2}}
	c.all(t, "vzen", []string{"heartbeat", "comet", "offline", "duplicate", "both-kinds", "millis", "wrong-clock", "no-pictures"}, map[string]func(*pushCase){
		"both-kinds":  func(c *pushCase) { c.events = 2 },
		"no-pictures": noPictures,
	})
}

func TestDahuaPushSwitches(t *testing.T) {
	c := pushCase{
		driver: anpr.DahuaPush(), model: "dahua", pictures: 2,
		camera: simulator.CameraSettings{NoRead: 0.2, Script: "greek", WrongCountry: 0.2, Zone: "Europe/Kyiv"},
	}
	c.all(t, "dahua", []string{"misspelt", "keepalive", "resend", "three", "no-pictures"}, map[string]func(*pushCase){
		"three":       func(c *pushCase) { c.pictures = 3 },
		"no-pictures": noPictures,
	})
}

func TestEngineSwitches(t *testing.T) {
	pushCase{driver: anpr.Rekor(), model: "rekor", camera: simulator.CameraSettings{NoRead: 0.2, Misread: 0.2}}.
		all(t, "rekor", []string{"frames", "heartbeat", "resend"}, nil)
	pushCase{driver: anpr.PlateRecognizer(), model: "plate-recognizer", camera: simulator.CameraSettings{NoRead: 0.2}}.
		all(t, "plate-recognizer", []string{"form", "resend"}, map[string]func(*pushCase){"form": func(c *pushCase) { c.pictures = 1 }})
}
