package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/identify"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/ratemeter"
	"github.com/lanepost/lanepost/protocol/scale"
	"github.com/lanepost/lanepost/simulator"
)

func recogniser(t *testing.T) *identify.Recogniser {
	t.Helper()
	set, err := profiles.Load("")
	require.NoError(t, err)
	r := identify.New(set, registry.ByName)
	require.Empty(t, set.Problems)
	return r
}

// identified is a simulated instrument and what must be made of it.
type identified struct {
	name, model string
	camera      simulator.CameraSettings
	portal      *simulator.PortalSettings
	// profile is the right one. level is what must be reached; worst, if set, what will do.
	profile      string
	level, worst identify.Level
	// probe: it says nothing by itself over a connection.
	probe bool
	// tcpOnly: it has no serial line.
	tcpOnly bool
}

func opts(pairs ...string) (o map[string]string) {
	o = map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i]] = pairs[i+1]
	}
	return o
}

// everyIdentified is every model of the simulator with a link that can be listened to or
// asked, in every format that it has.
func everyIdentified() []identified {
	portal := func(change func(*simulator.PortalSettings)) *simulator.PortalSettings {
		s := simulator.DefaultPortal()
		change(&s)
		return &s
	}
	camera := func(o map[string]string, switches ...string) simulator.CameraSettings {
		return simulator.CameraSettings{Options: o, Switches: switches}
	}
	list := []identified{
		{name: "portal", model: "tsa-portal", profile: "rapiscan-tsa", level: identify.Certain},
		{name: "portal, guarded", model: "tsa-portal", portal: portal(func(s *simulator.PortalSettings) { s.Guards = true }), profile: "rapiscan-tsa", level: identify.Certain},
		{name: "portal, two detectors", model: "tsa-portal", portal: portal(func(s *simulator.PortalSettings) { s.Detectors = []int{1, 2} }), profile: "rapiscan-tsa", level: identify.Certain},
		{name: "portal, extended", model: "tsa-portal", portal: portal(func(s *simulator.PortalSettings) { s.Extended = true }), profile: "rapiscan-tsa-extended", level: identify.Certain},
		{name: "N42", model: "n42-streamer", profile: "n42-stream", level: identify.Certain, tcpOnly: true},
		{name: "environment", model: "tsa-environment", profile: "tsa-environment", level: identify.Certain},
		{name: "speed link", model: "tsa-environment", camera: camera(nil, "speed-link"), profile: "tsa-speed-link", level: identify.Possible},
		{name: "RFID", model: "llrp-reader", profile: "llrp", level: identify.Certain, tcpOnly: true},
		{name: "documents, lines", model: "mrz-reader", profile: "mrz-reader", level: identify.Certain},
		{name: "documents, RTE6701", model: "mrz-reader", camera: camera(opts("format", "rte6701")), profile: "mrz-reader", level: identify.Certain},
		{name: "Nedap TLV", model: "nedap-anpr", profile: "nedap-anpr", level: identify.Certain, tcpOnly: true},
		{name: "Nedap TLV, big endian", model: "nedap-anpr", camera: camera(nil, "big-endian"), profile: "nedap-anpr", level: identify.Certain, tcpOnly: true},
		{name: "Nedap RS-485, raw", model: "nedap-anpr", camera: camera(nil, "rs485-raw"), profile: "nedap-rs485", level: identify.Possible},
		{name: "Nedap RS-485, packets", model: "nedap-anpr", camera: camera(nil, "rs485-packet"), profile: "nedap-rs485", level: identify.Certain},
		{name: "plate and line end", model: "text-reader", profile: "serial-plate", level: identify.Possible},
		{name: "Vaxtor", model: "text-reader", camera: camera(opts("template", "{plate};{country};{confidence};{direction};", "end", `\n`)), profile: "vaxtor-tcp", level: identify.Possible, tcpOnly: true},
		{name: "VIDAR", model: "text-reader", camera: camera(opts("template", "{id};{time};{plate};{camera}", "time", "unix_ms", "end", `\n`)), profile: "vidar-tcp", level: identify.Possible, tcpOnly: true},
		{name: "LUMO", model: "text-reader", camera: camera(opts("template", "{plate};{country};{confidence};{direction}")), profile: "lumo-tcp", level: identify.Possible, tcpOnly: true},
		{name: "Axxon messages", model: "text-reader", camera: camera(opts("template", "{time}{camera}{plate}", "start", `\x02`, "end", `\x03`, "camera", "07")), profile: "axxon-events", level: identify.Likely, tcpOnly: true},
		{name: "Axxon XML", model: "text-reader", camera: camera(opts("template", `<CAR_PLATE plate="{plate}" direction="in" time="{time}" cam-id="1"/>`, "end", "")), profile: "axxon-xml", level: identify.Certain, worst: identify.Likely, tcpOnly: true},
		{name: "scanner, XML", model: "xray-messenger", profile: "xray-messages", level: identify.Possible, tcpOnly: true},
		{name: "Aspect portal", model: "aspect-portal", profile: "aspect-modbus", level: identify.Likely, probe: true, tcpOnly: true},
		{name: "Aspect portals, 3 units", model: "aspect-portal", camera: camera(opts("units", "3")), profile: "aspect-modbus", level: identify.Likely, probe: true, tcpOnly: true},
		{name: "controller, Modbus", model: "plc", profile: "state-bus-modbus", level: identify.Possible, probe: true, tcpOnly: true},
		{name: "controller, OPC UA", model: "plc-opcua", profile: "state-bus-opcua", level: identify.Possible, probe: true, tcpOnly: true},
		{name: "Hikvision", model: "hikvision", profile: "hikvision-stream", level: identify.Likely, probe: true, tcpOnly: true},
		{name: "Hikvision with a login", model: "hikvision", camera: simulator.CameraSettings{Username: "lane", Password: "hunter2"}, profile: "hikvision-stream", level: identify.Likely, probe: true, tcpOnly: true},
		{name: "Dahua", model: "dahua-stream", profile: "dahua-stream", level: identify.Likely, probe: true, tcpOnly: true},
	}
	scales := map[string]string{"toledo": "scale-toledo", "yaohua": "scale-yaohua", "yaohua-a12": "scale-yaohua", "yaohua-back": "scale-yaohua", "csv": "scale-csv", "mt-sics": "scale-mt-sics", "rinstrum": "scale-rinstrum", "scp-01": "scale-scp01", "systec": "scale-systec"}
	for _, format := range scale.Names() {
		c := identified{name: "scale, " + format, model: "scale", camera: camera(opts("format", format)), profile: cmp.Or(scales[format], "?"), level: identify.Certain}
		switch format {
		case "scp-01", "yaohua-back":
			c.level = identify.Likely
		}
		list = append(list, c)
	}
	monitors := map[string]string{"berthold-lb6420": "berthold-lb6420", "drm": "rotem-drm", "fht-6020": "thermo-fht6020", "kromek": "kromek-d5", "ludlum-375": "ludlum-375", "ludlum-375-printer": "ludlum-375-printer", "radeye": "thermo-radeye"}
	for _, format := range ratemeter.Names() {
		c := identified{
			name: "monitor, " + format, model: "area-monitor", camera: camera(opts("format", format)), profile: cmp.Or(monitors[format], "?"), level: identify.Certain,
			probe: slices.Contains([]string{"berthold-lb6420", "fht-6020", "kromek"}, format),
		}
		switch format {
		case "ludlum-375":
			c.level = identify.Likely
		case "ludlum-375-printer":
			c.camera.Switches = []string{"alarm"} // otherwise it prints nothing
		case "kromek":
			c.worst = identify.Likely // its answers are long: how many come in the time is chance
		case "berthold-lb6420":
			c.level = identify.Likely
			c.tcpOnly = true
		}
		list = append(list, c)
	}
	list = append(list, identified{name: "monitor, drm, hex", model: "area-monitor", camera: camera(opts("format", "drm", "checksum", "hex")), profile: "rotem-drm", level: identify.Certain})
	return list
}

// notListened are the models that have no link to listen to or to ask: they send to the
// agent, drop files, or are subscribed to.
var notListened = []string{
	"axis-lpv", "dahua", "dicos-scanner", "milesight", "n42-dropper", "n42-poster", "onvif-camera", "onvif-publisher", "plate-recognizer", "rekor", "sharpv", "tvt",
	"uniview", "vzen", "xray-scanner",
}

// Every simulated device is told by what it sends: the right profile, and never a wrong one
// as certain. The table says how long it takes.
func TestIdentifyEverySimulatedDevice(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	const (
		speed    = 10 // times real time
		listenTo = 12 * time.Second
		atOnce   = 24
	)
	cases := everyIdentified()
	tried := slices.Clone(notListened)
	for _, c := range cases {
		tried = append(tried, c.model)
	}
	require.Subset(t, tried, simulator.Models(), "a model that nobody tries to identify")

	r := recogniser(t)
	type row struct {
		identified
		link   string
		report identify.Report
	}
	var rows []row
	for _, c := range cases {
		rows = append(rows, row{identified: c, link: "TCP"})
		if !c.tcpOnly {
			c.probe = false // where nothing is heard they talk all the same
			rows = append(rows, row{identified: c, link: "serial"})
		}
	}
	gate := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i := range rows {
		c := &rows[i]
		device := simulator.Device{ID: "d", Model: c.model, Listen: "tcp://127.0.0.1:0", Settings: c.portal}
		if c.model != "tsa-portal" {
			device.Camera = &c.camera
		}
		if c.link == "serial" {
			device.Listen = "pty:"
		}
		gamma := 1.0
		sim := simulator.Start(t, &simulator.Scenario{
			Name: "identify", Summary: "a busy lane", Seed: 7,
			Lanes: []simulator.Lane{{ID: "l", Devices: []simulator.Device{device}, Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 600, Gamma: gamma}}}},
		}, simulator.Options{Speed: speed, Wait: true})
		connect := sim.Devices()[0].Connect
		group.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			o := identify.Options{For: listenTo, Probe: c.probe}
			if c.probe {
				o.For = 1500 * time.Millisecond
			}
			_, place, _ := strings.Cut(connect, ":")
			if c.link == "serial" {
				c.report = r.Serial(context.Background(), place, o)
				return
			}
			c.report = r.Address(context.Background(), strings.TrimPrefix(place, "//"), o)
		})
	}
	group.Wait()

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tLINK\tRIGHT PROFILE\tTOLD\tLEVEL\tRECORDS\tSECONDS\tSIMULATED")
	right := 0
	for _, c := range rows {
		told := strings.TrimSpace(c.report.Profile + " " + c.report.Settings)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d/%d\t%.1f\t%.0f\n", c.name, c.link, c.profile, told, c.report.Level,
			c.report.Records, c.report.Records+c.report.Unparsed, c.report.Seconds, c.report.Seconds*speed)
	}
	require.NoError(t, w.Flush())
	t.Log("\n" + table.String())
	for _, c := range rows {
		ok := c.report.Level == c.level || c.worst != "" && c.report.Level == c.worst
		named := c.report.Profile == c.profile
		for _, o := range c.report.Others {
			named = named || c.report.Level == identify.Possible && o.Profile == c.profile
		}
		if c.link == "serial" && c.profile == "rapiscan-tsa" {
			named = c.report.Profile == "rapiscan-tsa-serial"
		}
		if ok && named {
			right++
		} else {
			t.Errorf("%s over %s: %s %s, want %s %s: %+v", c.name, c.link, c.report.Level, c.report.Profile, c.level, c.profile, c.report)
		}
	}
	t.Logf("%d of %d right", right, len(rows))
}

// What identify says can be pasted, and then the agent reads the device; while it does,
// identify leaves it alone and says who has it.
func TestIdentifyCommand(t *testing.T) {
	t.Parallel()
	sim := quietLane(t, 20)
	place := strings.TrimPrefix(sim.Devices()[0].Connect, "tcp://")
	text, code := output(t, "identify", place)
	require.Zero(t, code, text)
	require.Contains(t, text, place+": rapiscan-tsa: ")
	require.Contains(t, text, "This is certain.")
	require.Contains(t, text, "these take nearly anything, so they prove nothing: ")
	_, pasted, found := strings.Cut(text, "to paste under devices: in the configuration:\n")
	require.True(t, found, text)
	pasted, _, _ = strings.Cut(pasted, "  ->")
	require.Contains(t, pasted, "      - id: rpm-1\n        profile: rapiscan-tsa\n        connect: tcp://"+place+"\n")
	config := writeConfig(t, pasted)

	agent := start(t, config)
	agent.waitFor("lanepost.device.online.v1", 1)
	text, code = output(t, "identify", place)
	require.Equal(t, 1, code)
	require.Regexp(t, `can't listen: \S+ \(pid `+fmt.Sprint(agent.cmd.Process.Pid)+`\) has a connection to `+place, text)
	require.Contains(t, text, "systemctl stop lanepost")
	text, _ = output(t, "identify", "127.0.0.1", "--port", portOnly(place))
	require.Contains(t, text, "has a connection to "+place)
	agent.stop()

	// A range: what answers is listened to. As JSON.
	// The portal serves one client, and may not have noticed yet that the agent has gone.
	require.Eventually(t, func() bool {
		text, code = output(t, "identify", "127.0.0.1/32", "--port", portOnly(place), "--json")
		return code == 0
	}, patience, 100*time.Millisecond)
	var reports []identify.Report
	require.NoError(t, json.Unmarshal([]byte(text), &reports))
	require.Len(t, reports, 1)
	require.Equal(t, identify.Certain, reports[0].Level)
	require.Equal(t, "rapiscan-tsa", reports[0].Profile)
	require.Positive(t, reports[0].Records)
}

func portOnly(place string) string { return place[strings.LastIndex(place, ":")+1:] }

// A serial port: what was heard, and each mistake with its mend.
func TestIdentifyMistakes(t *testing.T) {
	t.Parallel()
	scenario := simulator.MustLoad(t, "quiet")
	scenario.Lanes[0].Devices[0].Listen = "pty:"
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
	_, port, _ := strings.Cut(sim.Devices()[0].Connect, ":")
	text, code := output(t, "identify", port)
	require.Zero(t, code, text)
	require.Contains(t, text, port+": rapiscan-tsa-serial at 9600 8N1: ")
	require.Contains(t, text, "connect: serial:"+port+"?baud=9600&parity=none\n")

	// Another process has the port.
	agent := start(t, writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa-serial", "serial:"+port+"?baud=9600&parity=none")))
	agent.waitFor("lanepost.device.online.v1", 1)
	text, code = output(t, "identify", port)
	require.Equal(t, 1, code)
	require.Contains(t, text, "can't listen: ")
	require.Contains(t, text, fmt.Sprintf("(pid %d)", agent.cmd.Process.Pid))
	require.Contains(t, text, "end that program")
	agent.stop()

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	controls, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer controls.Close()
	go func() {
		for {
			c, err := controls.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("\x1b[2J\x1b]0;owned\x07 서울12가3456 \xff\xfe\r\n\x1b[31mHELLO 42 hello\r\n")) // it hangs up afterwards
			_ = c.Close()
		}
	}()
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"/dev/ttyNOTHERE0"}, 1, []string{"can't listen", "there is no /dev/ttyNOTHERE0"}},
		{[]string{"/dev/null"}, 1, []string{"is no serial port"}},
		{[]string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}, 1, []string{"connection refused", "check the port number"}},
		{[]string{"no-such-portal.invalid:1600"}, 1, []string{"can't listen", "no-such-portal.invalid"}},
		{[]string{silent.Addr().String(), "--for", "1s"}, 1, []string{"nothing came", "--probe", "let one come", "thermo-fht6020"}},
		{[]string{controls.Addr().String(), "--for", "2s"}, 0, []string{"can't tell: nedap-rs485 (2 of 2 records parsed) would do"}},
		{[]string{"127.0.0.1", "--port", fmt.Sprint(freePort(t))}, 1, []string{"nothing answers"}},
		{[]string{}, 2, []string{"lanepost ports"}},
		{[]string{"10.0.3.0/16"}, 2, []string{"256 addresses"}},
		{[]string{"portal-1"}, 2, []string{"HOST:PORT"}},
		{[]string{"127.0.0.1:1", "--for", "1ms"}, 2, []string{"1s to 1h"}},
		{[]string{"127.0.0.1", "--port", "70000"}, 2, []string{"65535"}},
	} {
		text, code := output(t, append([]string{"identify"}, c.args...)...)
		require.Equal(t, c.code, code, "%v: %s", c.args, text)
		for _, want := range c.says {
			require.Contains(t, text, want, "%v", c.args)
		}
		require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r == 0x7f) }), "%v: %q", c.args, text)
		require.True(t, utf8.ValidString(text))
	}
}
