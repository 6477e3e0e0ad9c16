package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Every document is told, whatever the reader does, and nothing of whose it is.
func TestSimulatedMRZ(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("k", 40)), 0o600))
	all := []string{"misread", "no-read", "half", "damaged", "noise", "dribble", "cards"}
	cases := map[string][]string{"as it should be": nil, "all together": all}
	for _, s := range all {
		cases[s] = []string{s}
	}
	for name, switches := range cases {
		for _, format := range []string{"lines", "rte6701"} {
			t.Run(name+", "+format, func(t *testing.T) {
				t.Parallel()
				camera := simulator.CameraSettings{Switches: switches, Options: map[string]string{"format": format}}
				sim := simulator.Start(t, cameraScenario("mrz-reader", 10*time.Minute, camera))
				h := newRecordingHost()
				runDriver(t, lane.MRZ(), sim.Devices()[0].Connect, func(into any) error {
					s := into.(*lane.MRZSettings)
					s.AllowPersonalData, s.KeyFile, s.Format = true, key, format
					return nil
				}, h)
				require.NoError(t, sim.Wait())
				truth := sim.Truth().Documents
				require.Greater(t, len(truth), 4)
				h.wait(t, "every document", func() bool { return len(h.events()) >= len(truth) })
				require.Len(t, h.events(), len(truth))
				hashes := map[string]bool{}
				for i, o := range h.events() {
					e := o.Data.(event.LaneDocument)
					require.Equal(t, truth[i].Format, e.Format)
					require.Equal(t, !truth[i].Misread, e.Valid)
					hashes[e.Private.NumberHash] = true
				}
				require.Greater(t, len(hashes), 3)
				said := fmt.Sprintf("%+v", h.problems())
				for _, o := range h.events() {
					b, err := json.Marshal(o.Data)
					require.NoError(t, err)
					said += string(b)
				}
				require.NotContains(t, said, "SPECIMEN")
				require.NotContains(t, said, "<<")
				require.NotContains(t, said, `\u003c`)
				troubled := camera.Has("no-read") || camera.Has("half") || camera.Has("noise") || camera.Has("damaged") && format == "rte6701"
				require.Equal(t, troubled, len(h.problems()) > 0, h.problems())
			})
		}
	}
}
