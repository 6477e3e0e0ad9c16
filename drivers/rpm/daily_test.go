package rpm

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

const columnLayout = "2006-01-02 15:04:05.000 -07"

// readDaily makes chunks of a daily file by its time column. It tells when the
// file begins.
func readDaily(t *testing.T, path string, keepColumn bool) (c connection, begin time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for n, line := range strings.Split(strings.TrimSuffix(string(b), "\r\n"), "\r\n") {
		r, err := tsa.Parse([]byte(line))
		require.NoError(t, err, "%s:%d", path, n+1)
		require.Equal(t, tsa.FormFull, r.Time.Form, "%s:%d", path, n+1)
		if n == 0 {
			begin = r.Time.At
		}
		if !keepColumn {
			line = line[:strings.LastIndexByte(line, ',')]
		}
		c = append(c, drivers.Chunk{At: r.Time.At.Sub(begin), Bytes: []byte(line + "\r\n")})
	}
	return c, begin
}

// TestDailyFiles plays whole files and compares with an independent reckoning
// of their occupancies: one file made for this, and a real one where the folder
// with it stands beside the checkout.
func TestDailyFiles(t *testing.T) {
	shared := filepath.Join("..", "..", "..", "shared", "data", "radiation")
	for _, f := range []struct {
		name, dir string
		nsigma    float64
	}{
		{"daily", "testdata", 5},
		{"S2-C3-NORM2", shared, 4},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(f.dir, f.name+".csv")
			if _, err := os.Stat(path); err != nil {
				t.Skipf("the real capture is not at hand: %v", err)
			}
			want := readTable(t, filepath.Join(f.dir, f.name+".occupancies.csv"))
			settings := map[string]any{"nsigma": f.nsigma, "groups": []string{"sum", "vertical"}}

			c, begin := readDaily(t, path, false)
			got := play(t, settings, []connection{c})
			require.Empty(t, got.Unparsed)
			require.Equal(t, len(c), got.Valid)
			requireTable(t, want, got, begin.Sub(drivers.ScriptStart()))

			marked, _ := readDaily(t, path, true)
			got = play(t, settings, []connection{marked})
			requireTable(t, want, got, begin.Sub(drivers.ScriptStart()))
			for _, o := range got.Observations {
				if e, ok := o.Data.(event.RadiationOccupancy); ok {
					require.Equal(t, o.DeviceTime.Sub(begin), e.EndTS.Sub(drivers.ScriptStart()))
				}
			}

			// As fast as possible: no time passes from the first byte to the last.
			for i := range c {
				c[i].At = 0
			}
			for name, pieces := range map[string]connection{
				"records": c, "merged": c.merged(), "pieces of 7": c.cut(func() int { return 7 }),
			} {
				got := play(t, settings, []connection{pieces})
				require.Empty(t, got.Unparsed, name)
				for _, r := range want {
					delete(r, "start_ts")
					delete(r, "end_ts")
				}
				requireTable(t, want, got, 0)
			}
		})
	}
}

func readTable(t *testing.T, path string) (rows []map[string]string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	for _, r := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = r[i]
		}
		// Lines of the file are not on the wire.
		delete(row, "first_line")
		delete(row, "gx_line")
		rows = append(rows, row)
	}
	require.NotEmpty(t, rows)
	return rows
}

// requireTable compares every column of every row, and that the portal's alarm
// test is repeated exactly. shift is what the file's clock is ahead.
func requireTable(t *testing.T, want []map[string]string, got drivers.Played, shift time.Duration) {
	t.Helper()
	var n int
	for _, o := range got.Observations {
		switch e := o.Data.(type) {
		case event.RadiationOccupancy:
			require.Less(t, n, len(want), "more occupancies than %d", len(want))
			w := want[n]
			n++
			zone := time.UTC
			if at, err := time.Parse(columnLayout, w["start_ts"]); err == nil {
				zone = at.Location()
			}
			speeds := []string{}
			for _, v := range e.SpeedsKPH {
				speeds = append(speeds, strconv.FormatFloat(v, 'f', 2, 64))
			}
			have := map[string]string{
				"gx_counter":            fmt.Sprintf("%06d", *e.GXCounter),
				"neutron_bg_cps":        strconv.FormatFloat(*e.NeutronBgCPS, 'f', -1, 64),
				"start_ts":              e.StartTS.Add(shift).In(zone).Format(columnLayout),
				"end_ts":                e.EndTS.Add(shift).In(zone).Format(columnLayout),
				"gamma_samples":         strconv.Itoa(e.GammaSamples),
				"gamma_alarm_samples":   strconv.Itoa(e.GammaAlarmSamples),
				"neutron_samples":       strconv.Itoa(e.NeutronSamples),
				"neutron_alarm_samples": strconv.Itoa(e.NeutronAlarmSamples),
				"neutron_counts":        strconv.Itoa(e.NeutronCounts),
				"gamma_bg_sum_cps":      strconv.Itoa(*e.GammaBgSumCPS),
				"gamma_max_5sample_sum": strconv.Itoa(*e.GammaMax5SampleSum),
				"gamma_max_nsigma":      strconv.FormatFloat(*e.GammaMaxNSigma, 'f', -1, 64),
				"speed_records":         strconv.Itoa(e.SpeedRecords),
				"speeds_kph":            strings.Join(speeds, " "),
			}
			for name, v := range w {
				if name == "gamma_max_nsigma" { // 163.5 stands for 163.500
					f, err := strconv.ParseFloat(v, 64)
					require.NoError(t, err)
					v = strconv.FormatFloat(f, 'f', -1, 64)
				}
				require.Equal(t, v, have[name], "occupancy %d, %s", n, name)
			}
			require.Equal(t, event.EndGX, e.End)
			require.False(t, e.JoinedMid)
			require.Equal(t, w["gamma_alarm_samples"] != "0", e.GammaAlarm)
			require.Equal(t, w["neutron_alarm_samples"] != "0", e.NeutronAlarm)
			if e.GammaAlarm || e.NeutronAlarm {
				require.Equal(t, event.OutcomeAlarm, e.Outcome)
			} else {
				require.Equal(t, event.OutcomeNoAlarm, e.Outcome)
			}
			require.True(t, e.Recomputed.Agrees, "occupancy %d", n)
			require.Equal(t, e.Recomputed.BorderlineSamples, e.Recomputed.DisagreeingSamples, "occupancy %d", n)
			require.Len(t, e.GammaSeries, e.GammaSamples)
			require.Equal(t, -1.0, e.GammaSeries[0].OffsetS)
		case event.RadiationDiagnostic:
			require.NotEqual(t, event.DiagAlarmMismatch, e.Kind)
			require.NotEqual(t, event.DiagSpeedOrphan, e.Kind)
		}
	}
	require.Equal(t, len(want), n, "occupancies")
}
