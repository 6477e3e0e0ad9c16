package simulator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEmbeddedScenarios(t *testing.T) {
	var names []string
	for _, info := range Scenarios() {
		names = append(names, info.Name)
		require.NotEmpty(t, info.Summary)
		s, err := Load(info.Name)
		require.NoError(t, err)
		require.Equal(t, info.Name, s.Name, "the name is that of the file")
	}
	require.Equal(t, []string{"back-to-back", "busy", "demo", "depressed-background", "every-fault", "quiet"}, names)
	files, err := embedded.ReadDir("scenarios")
	require.NoError(t, err)
	require.Len(t, files, len(names), "every embedded file loads")
}

func TestLoad(t *testing.T) {
	_, err := Load("nonesuch")
	require.ErrorContains(t, err, `no scenario is called "nonesuch"; there are back-to-back, busy, demo,`)
	_, err = Load("./nonesuch.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)

	path := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(path, []byte(minute), 0o600))
	s, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, time.Minute, s.Duration)
	require.Equal(t, DefaultPortal(), *s.Lanes[0].Devices[0].Settings)
	require.Equal(t, "tcp://127.0.0.1:0", s.Lanes[0].Devices[0].Listen)

	require.NoError(t, os.WriteFile(path, make([]byte, maxScenarioBytes+1), 0o600))
	_, err = Load(path)
	require.ErrorContains(t, err, "longer than")
	_, err = Parse("big", make([]byte, maxScenarioBytes+1))
	require.ErrorContains(t, err, "longer than")
}

// TestScenarioErrors: each says where and what.
func TestScenarioErrors(t *testing.T) {
	device := "name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: tsa-portal}\n"
	for _, c := range []struct{ yaml, want string }{
		{"", "x.yaml:1:1: name: missing"},
		{"name: [", "x.yaml:1:7: "},
		{"name: x\nname: y\n", "x.yaml:2:1: "},
		{"name: x\n---\nname: y\n", "2 documents in one file"},
		{"name: x\ncolour: red\n", `x.yaml:2:1: unknown field "colour"`},
		{"name: x\nduration: 30\n", "x.yaml:2:11: 30: durations have a unit, for instance 1s, 5m or 200ms"},
		{"name: x\nduration: -30s\n", "x.yaml:2:11: duration: -30s is out of range"},
		{"name: x\nseed: many\n", "x.yaml:2:7: "},
		{"name: x\n", "x.yaml:1:1: lanes: missing"},
		{"name: x\nlanes:\n  - id: l\n", "lanes[0].devices: missing"},
		{"name: x\nlanes:\n  - id: L 1\n    devices: [{id: d, model: tsa-portal}]\n", `x.yaml:3:9: lanes[0].id: "L 1" is no id`},
		{"name: x\nlanes:\n  - id: l\n    devices: [{id: d, model: n42}]\n", `x.yaml:4:30: lanes[0].devices[0].model: "n42" is no model; lanesim list names those that there are`},
		{"name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: tsa-portal}\n      - {id: d, model: tsa-portal}\n", `x.yaml:6:14: lanes[0].devices[1].id: device "d" is there twice`},
		{device + "  - id: l\n    devices: [{id: d, model: tsa-portal}]\n", `x.yaml:6:9: lanes[1].id: lane "l" is there twice`},
		{"name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: tsa-portal, listen: 'udp://127.0.0.1:1'}\n", `x.yaml:5:44: lanes[0].devices[0].listen: "udp://127.0.0.1:1": want tcp://HOST:PORT`},
		{"name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: tsa-portal, listen: 'tcp://127.0.0.1'}\n", `want tcp://HOST:PORT`},
		{"name: x\nlanes:\n  - id: l\n    devices:\n      - {id: a, model: tsa-portal, listen: 'tcp://127.0.0.1:1600'}\n      - {id: b, model: tsa-portal, listen: 'tcp://127.0.0.1:1600'}\n", "x.yaml:6:44: lanes[0].devices[1].listen: tcp://127.0.0.1:1600 is also the place of l/a"},
		{"name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: tsa-portal, listen: 'tcp://127.0.0.1:99999'}\n", `x.yaml:5:44: lanes[0].devices[0].listen: "tcp://127.0.0.1:99999": 99999 is no port; want 1 to 65535`},
		{device + "        settings: {}\n", "x.yaml:6:9: "},
		{device + "    traffic:\n      vehicles: [{kind: car, arrive: 1}]\n", "x.yaml:7:38: 1: durations have a unit"},
		{device + "    faults: [{kind: drop, at: 30s}, {kind: drop, at: 1m, every: 1s}]\nduration: 1m\n", "x.yaml:6:54: lanes[0].faults[1].at: 1m0s is not before the end of the scenario (1m0s)"},
	} {
		_, err := Parse("x.yaml", []byte(c.yaml))
		assert.ErrorContains(t, err, c.want, "%s", c.yaml)
	}

	settings := "name: x\nlanes:\n  - id: l\n    devices:\n      - id: d\n        model: tsa-portal\n        settings:\n          "
	for setting, want := range map[string]string{
		"detectors: []":               "detectors: no detector is fitted",
		"detectors: [1, 5]":           "want each of 1, 2, 3, 4 at most once",
		"detectors: [1, 1]":           "want each of 1, 2, 3, 4 at most once",
		"gamma_background: [1, 2, 3]": "gamma_background: 3 values, want 4",
		"gamma_background: [-1, 2, 3, 4]": "x.yaml:8:30: lanes[0].devices[0].settings.gamma_background[0]: " +
			"-1 is out of range; want 0 to 100000 counts per second",
		"n_sigma: 4.25":         "x.yaml:8:20: lanes[0].devices[0].settings.n_sigma: 4.25 has more than one decimal",
		"n_sigma: .nan":         "n_sigma: NaN is out of range",
		"groups: [sum, cross]":  `"cross" is no group; want some of sum, horizontal, vertical, single`,
		"intervals: 0":          "intervals: 0 is out of range",
		"firmware: 1.10":        "want six letters, digits or dots",
		"counter: 1000000":      "counter: 1e+06 is out of range",
		"spurious_speed: 2":     "spurious_speed: 2 is out of range",
		"n_sigmas: 5":           `x.yaml:8:11: unknown field "n_sigmas"`,
		"neutron_alarm: twelve": "x.yaml:8:26: ",
	} {
		_, err := Parse("x.yaml", []byte(settings+setting))
		assert.ErrorContains(t, err, want, setting)
	}

	for vehicle, want := range map[string]string{
		"{kind: tank}":                                                `x.yaml:8:18: lanes[0].traffic.vehicles[0].kind: "tank" is no kind of vehicle; want one of bus, car,`,
		"{kind: car, length: 300}":                                    "300 is out of range; want 0.5 to 100 m",
		"{kind: car, speed: 0.5}":                                     "want 1 to 160 km/h",
		"{kind: car, shielding: 1}":                                   "want 0 to 0.9",
		"{kind: car, gamma: {cps: -1}}":                               "gamma.cps: -1 is out of range",
		"{kind: car, neutron: {cps: 1, offset: 3}}":                   "neutron.offset: 3 is out of range",
		"{kind: car, stops: [{at: 1}]}":                               "stops[0].for: 0s is out of range",
		"{kind: car, stops: [{at: 2, for: 1s}, {at: 1, for: 1s}]}":    "stops[1].at: stops must be in the order of driving",
		"{kind: car, reverse: {at: 2}}":                               "reverse.by: 0 is out of range",
		"{kind: car, arrive: 10s}\n        - {kind: car, arrive: 9s}": "x.yaml:9:31: lanes[0].traffic.vehicles[1].arrive: 9s is before the vehicle ahead (10s)",
	} {
		_, err := Parse("x.yaml", []byte(device+"    traffic:\n      vehicles:\n        - "+vehicle+"\n"))
		assert.ErrorContains(t, err, want, vehicle)
	}

	// One reason for one mistake.
	_, err := Parse("x.yaml", []byte(device+"    traffic: {vehicles: [{kind: car, arrive: -1s}]}\n"))
	require.EqualError(t, err, "x.yaml:6:46: lanes[0].traffic.vehicles[0].arrive: -1s is out of range; want 0s to 8784h0m0s")

	for random, want := range map[string]string{
		"{per_hour: 0}":                   "per_hour: 0 is out of range",
		"{per_hour: 10, gamma: 2}":        "gamma: 2 is out of range",
		"{per_hour: 10, mix: {tank: 1}}":  "mix.tank: no such kind of vehicle",
		"{per_hour: 10, mix: {truck: 0}}": "mix: no kind of vehicle has any weight",
	} {
		_, err := Parse("x.yaml", []byte(device+"    traffic: {random: "+random+"}\n"))
		assert.ErrorContains(t, err, want, random)
	}

	for fault, want := range map[string]string{
		"{kind: gremlins}":                                       `x.yaml:7:16: lanes[0].faults[0].kind: "gremlins" is no kind of fault; want one of counter-reset, cut,`,
		"{kind: cut, device: e}":                                 `the lane has no device "e"`,
		"{kind: tailgate, device: d}":                            "happens in the lane, not to a device",
		"{kind: cut, tag: gx}":                                   `x.yaml:7:26: lanes[0].faults[0].tag: no record has the tag "gx"; want one of GB,`,
		"{kind: cut, tag: NB1}":                                  "only a portal with extended: true sends NB1, and none here has it",
		"{kind: cut, for: 3s}":                                   "a fault of kind cut has no for",
		"{kind: tamper, tag: GX}":                                "a fault of kind tamper has no tag",
		"{kind: tamper, records: 2}":                             "a fault of kind tamper has no records",
		"{kind: cut, cps: 3}":                                    "a fault of kind cut has no cps",
		"{kind: cut, detectors: [1]}":                            "a fault of kind cut has no detectors",
		"{kind: cut, set: {n_sigma: 4}}":                         "a fault of kind cut has no set",
		"{kind: cut, records: 5000}":                             "records: 5000 is out of range",
		"{kind: gamma-high, detectors: [0]}":                     "want each of 1, 2, 3, 4 at most once",
		"{kind: setup, set: {n_sigma: 4.05}}":                    "more than one decimal",
		"{kind: setup, set: {groups: [all]}}":                    `"all" is no group`,
		"{kind: setup, set: {hold_in: 0, gamma_high: -1}}":       "set.hold_in: 0 is out of range",
		"{kind: cut, every: 1ms}":                                "every: 1ms is out of range",
		"{kind: cut, at: 400d}":                                  `x.yaml:7:25: "400d": unknown unit "d" in duration; want a number with a unit`,
		"{kind: tamper, for: 9000h}":                             "for: 9000h0m0s is out of range",
		"{kind: gamma-low, cps: .inf}":                           "cps: +Inf is out of range",
		"{kind: cut}\n      - {kind: cut}\n      - {kinds: cut}": `x.yaml:9:10: unknown field "kinds"`,
	} {
		_, err := Parse("x.yaml", []byte(device+"    faults:\n      - "+fault+"\n"))
		assert.ErrorContains(t, err, want, fault)
	}

	scale := strings.Replace(device, "tsa-portal", "scale", 1)
	for fault, want := range map[string]string{
		"{kind: drop, device: d}": "x.yaml:7:30: lanes[0].faults[0].device: a fault of kind drop happens to a tsa-portal only",
		"{kind: tamper}":          "x.yaml:7:16: lanes[0].faults[0].kind: a fault of kind tamper happens to a tsa-portal, and the lane has none",
		"{kind: tailgate}":        "",
	} {
		_, err := Parse("x.yaml", []byte(scale+"    faults:\n      - "+fault+"\n"))
		if want == "" {
			assert.NoError(t, err, fault)
			continue
		}
		assert.ErrorContains(t, err, want, fault)
	}

	// Several at once, in the order of the file.
	_, err = Parse("x.yaml", []byte("name: x\nlanes:\n  - id: L\n    devices:\n      - {id: d, model: none, listen: here}\n"))
	require.Equal(t, []string{
		`x.yaml:3:9: lanes[0].id: "L" is no id; want small letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit`,
		`x.yaml:5:24: lanes[0].devices[0].model: "none" is no model; lanesim list names those that there are`,
		`x.yaml:5:38: lanes[0].devices[0].listen: "here": want tcp://HOST:PORT, pty: or pty:PATH`,
	}, strings.Split(err.Error(), "\n"))
}

// TestUnknownSwitches: what a model does not have is refused where it stands.
func TestUnknownSwitches(t *testing.T) {
	t.Parallel()
	yaml := "name: x\nlanes:\n  - id: l\n    devices:\n      - {id: d, model: %s, camera: {switches: [dead], options: {alive: x}}}\n"
	for model := range cameraModels {
		_, err := Parse("x.yaml", fmt.Appendf(nil, yaml, model))
		column := len("      - {id: d, model: , camera: {switches: [") + len(model) + 1
		assert.ErrorContains(t, err, fmt.Sprintf(`x.yaml:5:%d: lanes[0].devices[0].camera.switches[0]: %s has no switch "dead"; it has `, column, model))
		assert.ErrorContains(t, err, fmt.Sprintf(`x.yaml:5:%d: lanes[0].devices[0].camera.options.alive: %s has no option "alive"; it has `, column+len("dead], options: {alive: "), model))
	}
	_, err := Parse("x.yaml", fmt.Appendf(nil, yaml, "hikvision"))
	require.ErrorContains(t, err, `has no option "alive"; it has boundary`)
	_, err = Parse("x.yaml", fmt.Appendf(nil, yaml, "scale"))
	require.ErrorContains(t, err, `has no option "alive"; it has format`)
	_, err = Parse("x.yaml", fmt.Appendf(nil, yaml, "vzen"))
	require.ErrorContains(t, err, `has no option "alive"; it has none`)
}

func TestScenariosMadeInGo(t *testing.T) {
	s := &Scenario{
		Name: "made in Go", Duration: time.Minute,
		Lanes: []Lane{{ID: "l", Devices: []Device{{ID: "d", Model: "tsa-portal"}}, Traffic: Traffic{Vehicles: []Vehicle{{Kind: "car", Arrive: 10 * time.Second}}}}},
	}
	streams, truth, err := Generate(s)
	require.NoError(t, err)
	require.NotEmpty(t, streams["l/d"])
	require.Len(t, truth.Occupancies, 1)

	// A portal that is not the first in its lane sees the same, and who else is there is left out.
	s.Lanes[0].Devices = []Device{{ID: "c", Model: "hikvision"}, {ID: "d", Model: "tsa-portal"}, {ID: "e", Model: "tsa-portal"}}
	beside, told, err := Generate(s)
	require.NoError(t, err)
	require.Equal(t, streams["l/d"], beside["l/d"])
	require.Len(t, beside, 2)
	require.Equal(t, truth.Vehicles, told.Vehicles)
	require.Len(t, told.Vehicles, 1)
	s.Lanes[0].Devices = s.Lanes[0].Devices[:1]
	_, _, err = Generate(s)
	require.EqualError(t, err, "the scenario has no tsa-portal, and only what those send can be generated; play it with New or Start")

	s.Duration = 0
	_, _, err = Generate(s)
	require.ErrorContains(t, err, "has no end")
	s.Lanes[0].ID = ""
	_, _, err = Generate(s)
	require.ErrorContains(t, err, `lanes[0].id: "" is no id`)
	require.Error(t, s.Validate())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minute))
	f.Add([]byte("name: x\nlanes: [{id: l, devices: [{id: d, model: tsa-portal, settings: {}}]}]"))
	files, err := embedded.ReadDir("scenarios")
	require.NoError(f, err)
	for _, file := range files {
		data, err := embedded.ReadFile("scenarios/" + file.Name())
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz", data)
		if err != nil {
			return
		}
		// What is accepted can be played.
		s.Duration = min(max(s.Duration, time.Second), 30*time.Second)
		if len(s.Lanes) > 2 || len(s.Lanes[0].Devices) > 2 {
			return
		}
		if _, _, err := Generate(s); err != nil && !strings.Contains(err.Error(), "the scenario has no tsa-portal") {
			t.Fatalf("an accepted scenario does not play: %v", err)
		}
	})
}

// TestReadme: its scenario loads, and its list of faults is complete.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(data), "```yaml\n")
	require.True(t, ok)
	yaml, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	_, truth, err := Generate(MustParse(t, yaml))
	require.NoError(t, err)
	require.NotEmpty(t, truth.Occupancies)
	for _, kind := range FaultKinds() {
		require.Contains(t, string(data), "`"+kind+"`")
	}
}
