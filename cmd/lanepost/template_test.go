package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/textframe"
	"github.com/lanepost/lanepost/simulator"
)

// readsAll plays a reader to its end and checks that the driver read what it saw,
// once and in order.
func readsAll(t *testing.T, model string, camera simulator.CameraSettings, d drivers.Driver, connect string, settings func(any) error) *recordingHost {
	t.Helper()
	sim := simulator.Start(t, cameraScenario(model, 5*time.Minute, camera))
	if connect == "" {
		connect = sim.Devices()[0].Connect
	}
	h := newRecordingHost()
	runDriver(t, d, connect, settings, h)
	require.NoError(t, sim.Wait())
	want := seen(sim.Truth())
	require.Greater(t, len(want), 4)
	h.wait(t, fmt.Sprintf("%d reads", len(want)), func() bool { return len(h.reads()) >= len(want) })
	require.Equal(t, want, h.reads())
	return h
}

// grammar fills the settings of a driver for templates.
func grammar(g textframe.Grammar, more func(*anpr.TemplateSettings)) func(any) error {
	return func(into any) error {
		s := into.(*anpr.TemplateSettings)
		s.Vendor, s.Grammar = "vaxtor", g
		if more != nil {
			more(s)
		}
		return nil
	}
}

func TestTextReader(t *testing.T) {
	t.Parallel()
	const columns = `^(?P<plate>[^;\x00-\x1f]*);(?P<country>[A-Z]*);(?P<confidence>\d+);(?P<direction>\d)$`
	template := map[string]string{"template": "{plate};{country};{confidence};{direction}"}
	with := func(options map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range []map[string]string{template, options} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	stx := textframe.Framing{Start: `\x02`, End: `\x03`, Checksum: textframe.Checksum{Kind: "xor", Place: "after_end", WithEnd: true}}
	cases := map[string]struct {
		camera  simulator.CameraSettings
		framing textframe.Framing
		noisy   bool
	}{
		"CR LF":                {simulator.CameraSettings{NoRead: 0.2}, textframe.Framing{End: `\r\n`}, false},
		"CR LF, dribbled":      {simulator.CameraSettings{Switches: []string{"dribble"}}, textframe.Framing{End: `\r\n`, Idle: 5 * time.Second}, false},
		"CR LF, noise, pairs":  {simulator.CameraSettings{Switches: []string{"noise", "pairs"}}, textframe.Framing{End: `\r\n`}, true},
		"the code page 1251":   {simulator.CameraSettings{Script: "cyrillic", Options: map[string]string{"encoding": "windows-1251"}}, textframe.Framing{End: `\r\n`, Encoding: "windows-1251"}, false},
		"STX, ETX, a checksum": {simulator.CameraSettings{Options: map[string]string{"start": `\x02`, "end": `\x03`, "checksum": "xor", "place": "after_end"}}, stx, false},
		"the same, with everything against it": {simulator.CameraSettings{
			Misread: 0.3, NoRead: 0.3, WrongCountry: 0.3, Switches: []string{"noise", "pairs", "damage", "dribble"},
			Options: map[string]string{"start": `\x02`, "end": `\x03`, "checksum": "xor", "place": "after_end"},
		}, stx, true},
		"CRC before the end, in digits": {simulator.CameraSettings{
			Script: "greek", Sees: "rear", Switches: []string{"noise"}, Options: map[string]string{"start": "$", "end": `\n`, "checksum": "crc16-ccitt-false", "digits": "hex"},
		}, textframe.Framing{Start: "$", End: `\n`, Checksum: textframe.Checksum{Kind: "crc16-ccitt-false", Digits: "hex"}}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.camera.Options = with(c.camera.Options)
			h := readsAll(t, "text-reader", c.camera, anpr.Template(), "", grammar(textframe.Grammar{Framing: c.framing, Pattern: columns}, nil))
			require.Equal(t, c.noisy, len(h.problems()) > 0, h.problems())
			for _, o := range h.events() {
				if d, ok := o.Data.(event.PlateRead); ok {
					require.NotEmpty(t, d.Country.Code)
					require.NotNil(t, d.Confidence.Value)
					require.Equal(t, map[bool]string{false: "toward", true: "away"}[c.camera.Sees == "rear"], d.Direction)
				}
			}
		})
	}
}

func TestPlatesOnLines(t *testing.T) {
	t.Parallel()
	// A reader without settings, and a driver without settings: an empty line is a
	// vehicle without a plate.
	h := readsAll(t, "text-reader", simulator.CameraSettings{NoRead: 0.4, Switches: []string{"dribble"}}, anpr.Template(), "", nil)
	require.Empty(t, h.problems())
	require.Contains(t, h.reads(), "")
}

func TestPlatesOnASerialLine(t *testing.T) {
	t.Parallel()
	scenario := cameraScenario("text-reader", 5*time.Minute, simulator.CameraSettings{NoRead: 0.2})
	scenario.Lanes[0].Devices[0].Listen = "pty:"
	sim := simulator.Start(t, scenario)
	h := newRecordingHost()
	runDriver(t, anpr.Template(), sim.Devices()[0].Connect+"?baud=9600&data=8&parity=none&stop=1", nil, h)
	require.NoError(t, sim.Wait())
	want := seen(sim.Truth())
	h.wait(t, "all reads", func() bool { return len(h.reads()) >= len(want) })
	require.Equal(t, want, h.reads())
}

func TestAxxonMessages(t *testing.T) {
	t.Parallel()
	camera := simulator.CameraSettings{Zone: "Europe/Kyiv", NoRead: 0.3, Options: map[string]string{
		"template": "{time}{camera}{plate}", "start": `\x02`, "end": `\x03`, "camera": "07", "unread": "Not defined",
	}}
	g := textframe.Grammar{Framing: textframe.Framing{Start: `\x02`, End: `\x03`}, Pattern: `^(?P<time>\d{14})(?P<camera>\d\d)(?P<plate>.*)$`}
	h := readsAll(t, "text-reader", camera, anpr.Template(), "", grammar(g, func(s *anpr.TemplateSettings) {
		s.Vendor, s.TimeFormat, s.Zone = "axxon", "20060102150405", "Europe/Kyiv"
	}))
	require.Empty(t, h.problems())
	for _, o := range h.events() {
		require.Equal(t, 2026, o.DeviceTime.Year())
		if d, ok := o.Data.(event.PlateRead); ok {
			require.Equal(t, event.TimeFromDeviceZone, d.Capture.TimeSource)
			require.Equal(t, "07", d.Capture.Reader.Camera)
		}
	}
}

func TestReadersThatConnect(t *testing.T) {
	t.Parallel()
	options := map[string]string{"template": "{id};{time};{plate};{camera}", "time": "unix_ms", "end": `\n`}
	g := textframe.Grammar{Framing: textframe.Framing{End: `\n`}, Separator: ";", Columns: []string{"id", "time", "plate", "camera"}}
	vidar := func(s *anpr.TemplateSettings) {
		s.Vendor, s.TimeFormat, s.MessageKey = "vidar", "unix_ms", []string{"id", "time"}
	}
	for name, switches := range map[string][]string{"one connection": {"dribble"}, "a connection for each": {"reconnect"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := fmt.Sprint(freePort(t))
			camera := simulator.CameraSettings{Push: "tcp://127.0.0.1:" + port, Options: options, Switches: switches, NoRead: 0.2}
			sim := simulator.Start(t, cameraScenario("text-reader", 5*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, anpr.Template(), "tcp-listen://127.0.0.1:"+port, grammar(g, vidar), h)
			require.NoError(t, sim.Wait())
			want := seen(sim.Truth())
			h.wait(t, "all reads", func() bool { return len(h.reads()) >= len(want) })
			// Connections are read side by side, so their order is not sure.
			require.ElementsMatch(t, want, h.reads())
			require.Empty(t, h.problems())
		})
	}
}

func TestReadersThatPost(t *testing.T) {
	t.Parallel()
	parts := textframe.Grammar{Framing: textframe.Framing{Most: 1 << 20}, Parts: map[string]string{
		"plate": `(?m)^plate=(.*)$`, "country": `(?m)^country=(.*)$`, "id": `(?m)^id=(.*)$`,
	}}
	object := textframe.Grammar{Framing: textframe.Framing{Most: 1 << 20}, Escapes: "json", Parts: map[string]string{
		"plate": `"plate":"([^"]*)"`, "picture": `"normal_img":"([^"]*)"`, "plate_picture": `"lp_img":"([^"]*)"`,
	}}
	for name, c := range map[string]struct {
		camera   simulator.CameraSettings
		grammar  textframe.Grammar
		pictures int
	}{
		"JSON with pictures": {simulator.CameraSettings{Script: "cyrillic", Options: map[string]string{
			"template": `{"plate":"{plate}","normal_img":"{picture:base64}","lp_img":"{plate_picture:base64}"}`, "content_type": "application/json",
		}}, object, 2},
		"a query": {simulator.CameraSettings{Switches: []string{"get"}, NoRead: 0.3, Options: map[string]string{"template": "plate={plate}&country={country}&id={id}"}}, parts, 0},
		"a form": {simulator.CameraSettings{Options: map[string]string{
			"template": "plate={plate}&country={country}&id={id}", "content_type": "application/x-www-form-urlencoded",
		}}, parts, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := "127.0.0.1:" + fmt.Sprint(freePort(t)) + "/0123456789abcdef"
			c.camera.Push = "http://" + path
			h := readsAll(t, "text-reader", c.camera, anpr.Template(), "http-listen://"+path, grammar(c.grammar, nil))
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				require.Len(t, o.Attachments, c.pictures)
			}
		})
	}
}

func TestNedapReader(t *testing.T) {
	t.Parallel()
	tlv := func(order string) func(any) error {
		return func(into any) error {
			s := into.(*anpr.NedapTLVSettings)
			s.ByteOrder, s.DateFormat, s.ConfidenceScale = order, "yyyy-mm-dd", "0-100"
			return nil
		}
	}
	for name, c := range map[string]struct {
		camera simulator.CameraSettings
		order  string
	}{
		"plain":                    {simulator.CameraSettings{NoRead: 0.2}, "little"},
		"shuffled, in Cyrillic":    {simulator.CameraSettings{Script: "cyrillic", Switches: []string{"shuffle"}}, "little"},
		"the other way, dribbled":  {simulator.CameraSettings{Switches: []string{"shuffle", "big-endian", "no-pictures", "dribble"}}, "big"},
		"misread and from abroad ": {simulator.CameraSettings{Misread: 0.4, WrongCountry: 0.4, Sees: "rear", Switches: []string{"shuffle"}}, "little"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := readsAll(t, "nedap-anpr", c.camera, anpr.NedapTLV(), "", tlv(c.order))
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				require.Equal(t, 2026, o.DeviceTime.Year())
				require.Len(t, o.Attachments, map[bool]int{false: 2, true: 0}[c.camera.Has("no-pictures")])
				if d, ok := o.Data.(event.PlateRead); ok {
					require.NotEmpty(t, d.Country.Code)
					require.NotNil(t, d.Confidence.Value)
				}
			}
		})
	}
	serial := func(mode, order string) func(any) error {
		return func(into any) error {
			s := into.(*anpr.NedapRS485Settings)
			s.Mode, s.ByteOrder = mode, order
			return nil
		}
	}
	for name, c := range map[string]struct {
		camera      simulator.CameraSettings
		mode, order string
		noisy       bool
	}{
		"raw":                               {simulator.CameraSettings{NoRead: 0.2, Switches: []string{"rs485-raw", "dribble"}}, "raw", "little", false},
		"packets":                           {simulator.CameraSettings{Switches: []string{"rs485-packet"}}, "packet", "little", false},
		"packets, damaged and sent again":   {simulator.CameraSettings{NoRead: 0.2, Switches: []string{"rs485-packet", "damage", "resend", "dribble"}}, "packet", "little", true},
		"packets the other way, sent again": {simulator.CameraSettings{Script: "greek", Switches: []string{"rs485-packet", "big-endian", "resend"}}, "packet", "big", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := readsAll(t, "nedap-anpr", c.camera, anpr.NedapRS485(), "", serial(c.mode, c.order))
			require.Equal(t, c.noisy, len(h.problems()) > 0, h.problems())
		})
	}
}

func TestONVIFCamera(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("hunter2\n"), 0o600))
	login := func(vendor string) func(any) error {
		return func(into any) error {
			s := into.(*anpr.ONVIFSettings)
			s.Vendor, s.Username, s.PasswordFile, s.PullTimeout = vendor, "lane", password, time.Second
			return nil
		}
	}
	for name, c := range map[string]struct {
		camera simulator.CameraSettings
		vendor string
	}{
		"plain":                       {simulator.CameraSettings{NoRead: 0.2}, "onvif"},
		"a clock that is wrong":       {simulator.CameraSettings{ClockOffset: 2 * time.Hour, Zone: "Asia/Almaty", Script: "cyrillic"}, "onvif"},
		"another address, and motion": {simulator.CameraSettings{Switches: []string{"foreign-address", "motion", "no-pictures"}}, "onvif"},
		"with a reference, as Axis":   {simulator.CameraSettings{Switches: []string{"reference"}}, "onvif"},
		"told again":                  {simulator.CameraSettings{Switches: []string{"property", "forgetful"}}, "onvif"},
		"Hikvision":                   {simulator.CameraSettings{NoRead: 0.3, WrongCountry: 0.3, Switches: []string{"hikvision", "forgetful"}}, "hikvision-onvif"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.camera.Username, c.camera.Password = "lane", "hunter2"
			h := readsAll(t, "onvif-camera", c.camera, anpr.ONVIFPullPoint(), "", login(c.vendor))
			require.Empty(t, h.problems())
			for _, o := range h.events() {
				require.Len(t, o.Attachments, map[bool]int{false: 1, true: 0}[c.camera.Has("no-pictures")])
				if d, ok := o.Data.(event.PlateRead); ok {
					require.NotNil(t, d.Confidence.Value)
					require.NotEmpty(t, d.Country.Code)
					require.NotContains(t, d.Private.Raw.Text, "/9j/", "the picture is no part of what is kept as text")
				}
			}
		})
	}
}
