package main

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Every read of a simulated camera comes, its words in order and under one read id,
// over HTTP and TCP.
func TestAxisSwitches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tcp      bool
		switches []string
		words    int
	}{
		"plain":                {words: 2},
		"multipart":            {switches: []string{"multipart"}, words: 2},
		"no-pictures":          {switches: []string{"no-pictures"}, words: 2},
		"lost-only":            {switches: []string{"lost-only"}, words: 1},
		"changes":              {switches: []string{"changes"}, words: 3},
		"heartbeat":            {switches: []string{"heartbeat"}, words: 2},
		"tcp":                  {tcp: true, words: 2},
		"tcp, pieces":          {tcp: true, switches: []string{"pieces"}, words: 2},
		"all together":         {switches: []string{"multipart", "changes", "heartbeat"}, words: 3},
		"all together, by TCP": {tcp: true, switches: []string{"pieces", "changes"}, words: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The port is free again at once, and the driver takes it.
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := ln.Addr().String()
			require.NoError(t, ln.Close())
			connect, push := "http-listen://"+address+"/axis/c2VjcmV0LXBhdGg", "http://"+address+"/axis/c2VjcmV0LXBhdGg"
			if c.tcp {
				connect, push = "tcp-listen://"+address, "tcp://"+address
			}
			h := newRecordingHost()
			runDriver(t, anpr.AxisLPV(), connect, nil, h)
			sim := simulator.Start(t, cameraScenario("axis-lpv", 5*time.Minute, simulator.CameraSettings{
				Push: push, Switches: c.switches, NoRead: 0.2, Script: "cyrillic",
			}))
			want := 0
			require.NoError(t, sim.Wait())
			plates := seen(sim.Truth())
			require.NotEmpty(t, plates)
			want = c.words * len(plates)
			h.wait(t, "every word", func() bool { return len(h.reads()) >= want })
			require.Len(t, h.reads(), want)
			require.Empty(t, h.problems())
			var last []string
			ids := map[string]int{}
			for _, o := range h.events() {
				ids[o.Subject]++
				switch d := o.Data.(type) {
				case event.PlateRead:
					if d.Capture.Revision == event.RevisionLost {
						last = append(last, d.Private.Plate)
					}
					require.Equal(t, event.TimeFromDevice, d.Capture.TimeSource)
					if len(c.switches) == 0 || c.switches[0] != "no-pictures" {
						require.Len(t, d.Attachments, 2)
					}
				case event.PlateNoRead:
					if d.Capture.Revision == event.RevisionLost {
						last = append(last, "")
					}
				}
			}
			require.Equal(t, plates, last)
			require.Len(t, ids, len(plates))
			for _, n := range ids {
				require.Equal(t, c.words, n)
			}
		})
	}
}
