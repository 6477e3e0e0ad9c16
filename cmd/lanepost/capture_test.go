package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// dayFile is a recorded daily file and what an occupancy assembler must find in
// it, by an independent reckoning.
type dayFile struct {
	name, file, want string
}

// captures are the project's own fixture, and a real capture where the folder
// with it stands beside the checkout.
func captures(t *testing.T) []dayFile {
	t.Helper()
	list := []dayFile{{"own", "testdata/own.csv", "testdata/own.occupancies.csv"}}
	shared := filepath.Join("..", "..", "..", "shared", "data", "radiation")
	real := dayFile{
		"real", filepath.Join(shared, "S2-C3-NORM2.csv"), filepath.Join(shared, "S2-C3-NORM2.occupancies.csv"),
	}
	if _, err := os.Stat(real.file); err == nil {
		list = append(list, real)
	} else {
		t.Logf("the real capture is not at hand, so only the project's own is played: %v", err)
	}
	return list
}

// row is one line of the expected table by column.
type row map[string]string

func table(t *testing.T, path string) []row {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var rows []row
	for _, rec := range records[1:] {
		r := row{}
		for i, name := range records[0] {
			r[name] = rec[i]
		}
		rows = append(rows, r)
	}
	require.NotEmpty(t, rows)
	return rows
}

// asRow writes an occupancy as the table does.
func asRow(o *event.RadiationOccupancy, like row) row {
	r := row{
		"gx_counter":            fmt.Sprintf("%06d", *o.GXCounter),
		"gamma_samples":         strconv.Itoa(o.GammaSamples),
		"gamma_alarm_samples":   strconv.Itoa(o.GammaAlarmSamples),
		"neutron_samples":       strconv.Itoa(o.NeutronSamples),
		"neutron_alarm_samples": strconv.Itoa(o.NeutronAlarmSamples),
		"neutron_counts":        strconv.Itoa(o.NeutronCounts),
		"gamma_bg_sum_cps":      strconv.Itoa(*o.GammaBgSumCPS),
		"gamma_max_5sample_sum": strconv.Itoa(*o.GammaMax5SampleSum),
		"neutron_bg_cps":        strconv.FormatFloat(*o.NeutronBgCPS, 'f', -1, 64),
		"gamma_max_nsigma":      strconv.FormatFloat(*o.GammaMaxNSigma, 'f', -1, 64),
		"speed_records":         strconv.Itoa(o.SpeedRecords),
	}
	var speeds []string
	for _, s := range o.SpeedsKPH {
		speeds = append(speeds, strconv.FormatFloat(s, 'f', 2, 64))
	}
	r["speeds_kph"] = strings.Join(speeds, " ")
	// Lines and times of the file are not on the wire.
	for _, c := range []string{"first_line", "gx_line", "start_ts", "end_ts"} {
		if v, ok := like[c]; ok {
			r[c] = v
		}
	}
	return r
}

func requireOccupancies(t *testing.T, want []row, events []event.Event) {
	t.Helper()
	got := all[*event.RadiationOccupancy](t, events, "lanepost.radiation.occupancy.v1")
	require.Len(t, got, len(want))
	for i, o := range got {
		require.Equal(t, event.EndGX, o.End, "occupancy %d", i)
		require.Equal(t, want[i], asRow(o, want[i]), "occupancy %d", i)
		require.Equal(t, want[i]["gamma_alarm_samples"] != "0", o.GammaAlarm)
		require.Equal(t, want[i]["neutron_alarm_samples"] != "0", o.NeutronAlarm)
	}
}

// TestCapture plays each capture into the program, over TCP and through a
// pseudo-terminal with each serial backend that can do it, and compares every
// occupancy figure by figure.
func TestCapture(t *testing.T) {
	t.Parallel()
	links := []struct {
		name, profile, listen, query string
	}{
		{"tcp", "rapiscan-tsa", "tcp://127.0.0.1:0", ""},
		{"serial go.bug.st", "rapiscan-tsa-serial", "pty:", "?baud=115200&parity=odd"},
		{"serial goserial", "rapiscan-tsa-serial", "pty:", "?baud=115200&parity=none&backend=goserial"},
	}
	for _, c := range captures(t) {
		want := table(t, c.want)
		for _, l := range links {
			t.Run(c.name+" over "+l.name, func(t *testing.T) {
				f, err := os.Open(c.file)
				require.NoError(t, err)
				defer f.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
				defer cancel()
				r, err := simulator.ReplayListen(ctx, f, l.listen, simulator.ReplayOptions{Speed: 0})
				require.NoError(t, err)
				defer r.Close()
				connect := r.Connect + l.query
				p := start(t, writeConfig(t, deviceYAML("rpm-1", l.profile, connect, "settings: {nsigma: 4.0, groups: [sum, vertical]}")))
				done, err := r.Wait()
				require.NoError(t, err)
				require.Zero(t, done.LostLines)
				p.waitFor("lanepost.device.offline.v1", 1)
				requireOccupancies(t, want, p.stop())
			})
		}
	}
}
