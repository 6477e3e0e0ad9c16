package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// n42Told is what came of the documents of an instrument.
type n42Told struct {
	nuclides, alarms []string
	flags            []string
	spectra, broken  int
}

func toldOf(h *recordingHost) (told n42Told) {
	for _, o := range h.events() {
		switch e := o.Data.(type) {
		case event.RadiationIdentification:
			told.nuclides = append(told.nuclides, e.Nuclides[0].Name)
			for _, a := range e.Alarms {
				told.alarms = append(told.alarms, a.Category)
			}
			told.flags = append(told.flags, e.Flags...)
		case event.RadiationSpectrum:
			told.spectra++
		case event.DeviceUnparsed:
			told.broken++
		}
	}
	told.broken += len(h.problems())
	return told
}

func n42Scenario(model string, camera simulator.CameraSettings) *simulator.Scenario {
	s := cameraScenario(model, 20*time.Minute, camera)
	s.Lanes[0].Traffic.Random.Gamma, s.Lanes[0].Traffic.Random.Neutron = 0.3, 0.2
	return s
}

// Every source is told with its nuclide, in order, once, whatever the documents are like
// and however they come; and each document that is broken is told.
func TestSimulatedN42(t *testing.T) {
	t.Parallel()
	type way struct {
		model  string
		driver drivers.Driver
		set    func(any)
	}
	ways := map[string]way{
		"stream": {"n42-streamer", rpm.N42Stream(), func(s any) { s.(*rpm.N42StreamSettings).SpectrumInterval = 0 }},
		"files": {"n42-dropper", rpm.N42Folder(), func(s any) {
			f := s.(*rpm.N42FolderSettings)
			f.Every, f.Quiet, f.Deadline, f.Batch = 200*time.Millisecond, 0, time.Second, 1000
		}},
		"push": {"n42-poster", rpm.N42Push(), func(any) {}},
	}
	wide := []string{"utf16", "time-traps", "malformed", "prefix", "envelope", "zero-traps"}
	cases := map[string]struct {
		way      string
		switches []string
		flag     string // that must be told
		breaks   bool
	}{
		"stream, as it should be": {way: "stream"}, "files, as it should be": {way: "files"}, "push, as it should be": {way: "push"},
		"files, all together": {way: "files", switches: wide, breaks: true}, "push, all together": {way: "push", switches: append(slices.Clone(wide), "truncated"), breaks: true},
		"stream, all together": {way: "stream", switches: append(slices.Clone(wide), "dribble", "noise", "truncated"), breaks: true},
		"files, truncated":     {way: "files", switches: []string{"truncated"}, breaks: true},
	}
	for _, s := range []string{"edition-2006", "utf16", "prefix", "undeclared", "envelope", "dribble", "joined-inside"} {
		cases["stream, "+s] = struct {
			way      string
			switches []string
			flag     string
			breaks   bool
		}{way: "stream", switches: []string{s}}
	}
	for s, flag := range map[string]string{"zero-traps": "zeroes_double", "time-traps": "no_zone", "live-traps": "live_over_real", "truncated": "", "malformed": "", "noise": ""} {
		cases["stream, "+s] = struct {
			way      string
			switches []string
			flag     string
			breaks   bool
		}{way: "stream", switches: []string{s}, flag: flag, breaks: flag == ""}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ways[c.way]
			camera := simulator.CameraSettings{Switches: c.switches}
			h := newRecordingHost()
			connect := ""
			if c.way == "push" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				address := l.Addr().String()
				require.NoError(t, l.Close())
				camera.Push = "http://" + address + "/n42/c2VjcmV0LXBhdGg"
				connect = "http-listen://" + address + "/n42/c2VjcmV0LXBhdGg"
			}
			sim := simulator.Start(t, n42Scenario(w.model, camera))
			if connect == "" {
				connect = sim.Devices()[0].Connect
			}
			runDriver(t, w.driver, connect, func(into any) error { w.set(into); return nil }, h)
			require.NoError(t, sim.Wait())
			var want, alarms []string
			for _, n := range sim.Truth().Nuclides {
				want, alarms = append(want, n.Nuclide), append(alarms, n.Alarm)
			}
			require.Greater(t, len(want), 4)
			h.wait(t, "every source", func() bool {
				told := toldOf(h)
				return len(told.nuclides) >= len(want) && (!c.breaks || told.broken > 0)
			})
			told := toldOf(h)
			if c.way == "files" { // the newest is told first
				slices.Sort(want)
				slices.Sort(told.nuclides)
				slices.Sort(alarms)
				slices.Sort(told.alarms)
			}
			require.Equal(t, want, told.nuclides)
			require.Positive(t, told.spectra)
			if !camera.Has("edition-2006") { // which has none
				require.Equal(t, alarms, told.alarms)
			}
			require.Equal(t, c.breaks, told.broken > 0, fmt.Sprint(told.broken))
			if c.flag != "" {
				require.Contains(t, told.flags, c.flag)
			}
		})
	}
}

// An instrument that connects to the agent is read as one that is connected to.
func TestN42Listens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	h := newRecordingHost()
	runDriver(t, rpm.N42Stream(), "tcp-listen://"+address, nil, h)
	const doc = "\x02<RadInstrumentData><AnalysisResults><NuclideAnalysisResults><Nuclide><NuclideName>Co-60</NuclideName></Nuclide></NuclideAnalysisResults></AnalysisResults></RadInstrumentData>\x03"
	send := func(doc string) {
		require.Eventually(t, func() bool { // the agent listens a moment later
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			_, err = conn.Write([]byte(doc))
			return err == nil && conn.Close() == nil
		}, patience, 10*time.Millisecond)
	}
	send(doc)
	send(strings.Replace(doc, "Co-60", "Cs-137", 1)) // another connection
	h.wait(t, "the nuclide", func() bool { return len(h.events()) == 2 })
	require.Equal(t, []string{"Co-60", "Cs-137"}, toldOf(h).nuclides)
}
