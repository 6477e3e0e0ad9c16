package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
	"github.com/lanepost/lanepost/simulator"
)

// areaCases are the formats with what each of them can do.
func areaCases() map[string]simulator.CameraSettings {
	cases := map[string]simulator.CameraSettings{}
	words := map[string][]string{
		"ludlum-375":         {"alarm", "overload", "fail"},
		"ludlum-375-printer": {"alarm", "fail"},
		"drm":                {"alarm", "overload", "low-battery", "fail"},
		"radeye":             {"alarm", "overload", "low-battery"},
		"kromek":             {"alarm"},
	}
	for _, format := range ratemeter.Names() {
		for _, s := range append([]string{"", "bad-checksum", "dribble", "silent", "frozen"}, words[format]...) {
			if format == "ludlum-375-printer" && s == "frozen" {
				continue // each line has its own time
			}
			camera := simulator.CameraSettings{Options: map[string]string{"format": format}}
			if s != "" {
				camera.Switches = []string{s}
			}
			cases[format+" "+s] = camera
		}
	}
	cases["drm all together"] = simulator.CameraSettings{
		Options: map[string]string{"format": "drm", "checksum": "hex"}, Switches: []string{"low-battery", "bad-checksum", "dribble"},
	}
	return cases
}

// tally counts what area monitors told.
type tally struct {
	raised, cleared map[string]int // alarms by kind
	faults          map[string]int // raised, by kind
	open            int            // faults that stand
	rates           []event.RadiationRate
}

func tallyOf(list []drivers.Observation) tally {
	t := tally{raised: map[string]int{}, cleared: map[string]int{}, faults: map[string]int{}}
	for _, o := range list {
		switch e := o.Data.(type) {
		case event.RadiationRateAlarm:
			if e.State == "raised" {
				t.raised[e.Kind]++
			} else {
				t.cleared[e.Kind]++
			}
		case event.RadiationFault:
			if e.State == "raised" {
				t.faults[e.Kind]++
				t.open++
			} else {
				t.open--
			}
		case event.RadiationRate:
			t.rates = append(t.rates, e)
		}
	}
	return t
}

// Every vehicle that a monitor alarms for is told, once; an overload is an alarm and no low
// reading; what a monitor says of itself is a fault.
func TestSimulatedAreaMonitors(t *testing.T) {
	t.Parallel()
	for name, camera := range areaCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			format := camera.Options["format"]
			scenario := cameraScenario("area-monitor", 5*time.Minute, camera)
			doses := format == "berthold-lb6420" // rates by the real clock: no source near the threshold
			source := &simulator.Source{CPS: 3000}
			if doses {
				source = nil
			}
			scenario.Lanes[0].Traffic = simulator.Traffic{Vehicles: []simulator.Vehicle{
				{Kind: "car", Arrive: 10 * time.Second}, {Kind: "truck", Arrive: time.Minute, Gamma: source}, {Kind: "car", Arrive: 2 * time.Minute},
				{Kind: "van", Arrive: 3 * time.Minute}, {Kind: "truck", Arrive: 4 * time.Minute, Gamma: source},
			}}
			// One that talks by itself is frozen only to somebody with a clock.
			asked := slices.Contains([]string{"kromek", "fht-6020", "berthold-lb6420"}, format)
			var options []simulator.Options
			if camera.Has("frozen") && !asked {
				options = append(options, simulator.Options{Speed: 100, Wait: true})
			}
			sim := simulator.Start(t, scenario, options...)
			h := newRecordingHost()
			own := format == "fht-6020"
			runDriver(t, rpm.AreaMonitor(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*rpm.AreaSettings)
				s.Format, s.Checksum, s.ClearAfter = format, camera.Options["checksum"], 0
				if asked {
					s.Every = 10 * time.Millisecond
				}
				switch {
				case own:
					s.AlarmAboveUSvH = 1
				case doses:
					s.Every = 25 * time.Millisecond
				}
				if format == "ludlum-375" || format == "ludlum-375-printer" {
					s.Unit = "uR/h"
				}
				if format == "drm" {
					s.Unit = "uSv/h"
				}
				if camera.Has("frozen") {
					s.FrozenAfter = 200 * time.Millisecond
				}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			want := struct{ alarms, overloads, fails, low int }{}
			for _, x := range sim.Truth().Rates {
				for p, on := range map[*int]bool{&want.alarms: x.Alarm, &want.overloads: x.Overload, &want.fails: x.Fails, &want.low: x.LowBattery} {
					if on {
						*p++
					}
				}
			}
			require.Len(t, sim.Truth().Rates, 5)
			if !doses {
				require.Positive(t, want.alarms+want.overloads)
			}
			kind := "threshold"
			switch {
			case own:
				kind = "own"
			case format == "ludlum-375":
				kind = "high"
			}
			h.wait(t, "all that the monitor told", func() bool {
				got := tallyOf(h.events())
				alarms := got.raised[kind] >= want.alarms && got.cleared[kind] >= want.alarms && got.cleared["overload"] >= want.overloads
				faults := got.faults["failure"]+got.faults["detector"] >= want.fails && got.faults["battery_low"] >= want.low
				frozen := !camera.Has("frozen") || got.faults["frozen"] > 0
				return (doses || alarms) && faults && frozen && len(got.rates) > 0 && (frozen && camera.Has("frozen") || got.open == 0)
			})
			got := tallyOf(h.events())
			if !doses {
				require.Equal(t, want.alarms, got.raised[kind])
				require.Equal(t, want.alarms, got.cleared[kind])
			} else {
				require.Empty(t, got.raised)
			}
			if format == "ludlum-375" {
				require.Equal(t, want.alarms, got.raised["low"])
			}
			require.Equal(t, want.overloads, got.raised["overload"])
			require.Equal(t, want.fails, got.faults["failure"]+got.faults["detector"])
			require.Equal(t, want.low, got.faults["battery_low"])
			require.Equal(t, camera.Has("frozen"), got.faults["frozen"] > 0)
			require.Equal(t, camera.Has("bad-checksum"), len(h.problems()) > 0, "%q", h.problems())
			for _, r := range got.rates {
				for _, c := range r.Channels {
					require.Positive(t, c.Readings)
					if c.Unit == "uSv/h" && c.Channel != "neutron" && !doses {
						require.Greater(t, c.Min, 0.04, "nothing is less than half the background")
					}
				}
			}
		})
	}
}

// A monitor with a clock, over a pseudo-terminal too: it talks, and what it measures is told.
func TestAreaMonitorOnALine(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"tcp": "", "serial": "pty:"} {
		t.Run(name, func(t *testing.T) {
			scenario := cameraScenario("area-monitor", 0, simulator.CameraSettings{Switches: []string{"alarm"}})
			scenario.Lanes[0].Devices[0].Listen = listen
			scenario.Lanes[0].Traffic.Random.PerHour = 600
			sim := simulator.Start(t, scenario, simulator.Options{Speed: 60})
			h := newRecordingHost()
			connect := sim.Devices()[0].Connect
			if listen != "" {
				connect += "?baud=9600&data=7&parity=even&stop=2"
			}
			runDriver(t, rpm.AreaMonitor(), connect, func(into any) error {
				into.(*rpm.AreaSettings).Format = "radeye"
				return nil
			}, h)
			h.wait(t, "an alarm and its end", func() bool {
				got := tallyOf(h.events())
				return got.cleared["threshold"] > 0 && len(got.rates) > 0
			})
		})
	}
}

// The environmental boards and the speed link, with everything that goes wrong with them.
func TestSimulatedEnvironment(t *testing.T) {
	t.Parallel()
	for name, switches := range map[string][]string{
		"as it should be": nil, "no-slave": {"no-slave"}, "thermocouple": {"thermocouple"}, "battery": {"battery"}, "ac-lost": {"ac-lost"},
		"two-detectors": {"two-detectors"}, "cut": {"cut"}, "garble": {"garble"}, "dribble": {"dribble"}, "speed-link": {"speed-link"},
		"speed-link-0a0a": {"speed-link-0a0a", "dribble"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			camera := simulator.CameraSettings{Switches: switches}
			speed := camera.Has("speed-link") || camera.Has("speed-link-0a0a")
			sim := simulator.Start(t, cameraScenario("tsa-environment", 10*time.Minute, camera))
			h := newRecordingHost()
			runDriver(t, rpm.TSAEnvironment(), sim.Devices()[0].Connect, func(into any) error {
				s := into.(*rpm.EnvironmentSettings)
				if s.SpeedLink = speed; !speed {
					s.BatteryLowV, s.ACLostA = 11, 0.1
				}
				return nil
			}, h)
			require.NoError(t, sim.Wait())
			sum := func() (records, speeds int, all []event.RadiationEnvironment) {
				for _, o := range h.events() {
					if e, ok := o.Data.(event.RadiationEnvironment); ok {
						all = append(all, e)
						records, speeds = records+e.Records, speeds+e.SpeedMessages
					}
				}
				return records, speeds, all
			}
			told := 60 * 8 // each ten seconds for ten minutes
			if camera.Has("no-slave") {
				told = 60 * 6
			}
			if speed {
				h.wait(t, "the speed link", func() bool { _, n, _ := sum(); return n > 4 })
				_, _, all := sum()
				require.NotNil(t, all[0].SpeedRaw)
				require.Empty(t, h.problems())
				return
			}
			h.wait(t, "every record", func() bool { n, _, _ := sum(); return n+len(h.problems()) >= told })
			_, _, all := sum()
			require.Equal(t, camera.Has("cut") || camera.Has("garble"), len(h.problems()) > 0)
			faults := map[string]int{}
			for _, o := range h.events() {
				if f, ok := o.Data.(event.RadiationFault); ok {
					faults[f.Kind+" "+f.Detectors[0]+" "+f.State]++
				}
			}
			wantFaults := map[string]int{}
			if camera.Has("battery") {
				wantFaults["battery_low master raised"] = 1
			}
			if camera.Has("ac-lost") {
				wantFaults["ac_lost slave raised"] = 1
			}
			require.Equal(t, wantFaults, faults)
			pillars := map[string]bool{}
			for _, e := range all {
				for _, p := range e.Pillars {
					pillars[p.Pillar] = true
					if p.Pillar == "master" && camera.Has("thermocouple") {
						require.Nil(t, p.ThermocoupleC)
					}
				}
				if camera.Has("two-detectors") {
					require.Nil(t, e.Detectors[2].TemperatureC)
					require.Nil(t, e.Detectors[3].HumidityPct)
				}
				if x := e.Detectors[0].TemperatureC; x != nil {
					require.Equal(t, 20.95, x.Last)
				}
			}
			require.Equal(t, !camera.Has("no-slave"), pillars["slave"])
		})
	}
}
