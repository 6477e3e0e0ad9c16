package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	// problems: it sends what can't be understood, and everything else comes all the same.
	problems bool
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
	require.Equal(t, c.problems, len(h.problems()) > 0, h.problems())
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

func TestWebhookSwitches(t *testing.T) {
	pushCase{driver: anpr.SharpV(), model: "sharpv", pictures: 2, camera: simulator.CameraSettings{NoRead: 0.2, Zone: "Europe/Kyiv"}}.
		all(t, "sharpv", []string{"exporter", "no-pictures", "resend"}, map[string]func(*pushCase){
			"no-pictures": noPictures, "exporter": func(c *pushCase) {
				c.pictures = 0
				if c.camera.Has("resend") {
					c.camera.NoRead = 0 // the exporter tells no id, so an unread one that comes twice is two
				}
			},
		})
	pushCase{driver: anpr.TVT(), model: "tvt", pictures: 3, camera: simulator.CameraSettings{NoRead: 0.2, Script: "cyrillic"}}.
		all(t, "tvt", []string{"vehicle", "keepalive", "other-alarms", "no-pictures", "resend"}, map[string]func(*pushCase){"no-pictures": noPictures})
	pushCase{driver: anpr.Milesight(), model: "milesight", pictures: 2, camera: simulator.CameraSettings{Script: "greek", Zone: "Asia/Almaty"}}.
		all(t, "milesight", []string{"get", "no-pictures", "resend"}, map[string]func(*pushCase){"no-pictures": noPictures, "get": noPictures})
}

// TestBadPictures: a picture that is none loses no plate.
func TestBadPictures(t *testing.T) {
	c := pushCase{driver: anpr.TVT(), model: "tvt", pictures: 2, camera: simulator.CameraSettings{NoRead: 0.2, Switches: []string{"placeholder"}}, problems: true}
	for _, p := range c.run(t).problems() {
		require.Equal(t, "1 pictures of a message are no base64, or too many", p)
	}
}

func TestUniviewSwitches(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter2\n"), 0o600))
	all := []string{"control-characters", "anpr-path", "milliseconds", "forgetful", "resend", "no-pictures"}
	sets := map[string][]string{"plain": nil, "all together": all}
	for _, s := range all {
		sets[s] = []string{s}
	}
	for name, switches := range sets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{NoRead: 0.2, Username: "lane", Password: "hunter2", Switches: switches}
			sim := simulator.Start(t, cameraScenario("uniview", 10*time.Minute, camera))
			port := freePort(t)
			h := newRecordingHost()
			runDriver(t, anpr.Uniview(), fmt.Sprintf("http-listen://127.0.0.1:%d/LAPI/V1.0/System/Event/Notification?allow=127.0.0.1", port), func(into any) error {
				s := into.(*anpr.UniviewSettings)
				s.Camera = sim.Devices()[0].Connect + "?username=lane&password_file=" + password
				s.Address, s.Port, s.Term = "127.0.0.1", port, 20*time.Second
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			require.Greater(t, len(want), 5)
			h.wait(t, "every read", func() bool { return len(h.reads()) >= len(want) })
			require.Equal(t, want, h.reads())
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				if d, ok := o.Data.(event.PlateRead); ok {
					require.Len(t, d.Attachments, map[bool]int{false: 2, true: 0}[camera.Has("no-pictures")])
				}
			}
		})
	}
}
