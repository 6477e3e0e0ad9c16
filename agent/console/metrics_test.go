package console

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// full is a snapshot in which everything is set.
func full() Status {
	at := event.At(time.Date(2026, 11, 28, 4, 0, 0, 500_000_000, time.UTC))
	one, ms, free, total := 1.5, int64(250), int64(7), int64(9)
	return Status{
		At: at, Started: at, Version: "v1 \"x\"\\\n", Clock: Clock{"no", &ms},
		Config: Config{LoadedAt: at, LastReload: &Reload{At: at}}, Problems: []Problem{{}, {}},
		Lanes: []Lane{{ID: "entry-1", Devices: []Device{
			{Lane: "entry-1", ID: "rpm-1", State: "online", LastRecord: &at, Records: 5, ClockOffsetS: &one,
				Passed: Passed{Occupancies: 9, AlarmOccupancies: 2, IncompleteOccupancies: 3, GammaAlarms: 1, NeutronAlarms: 1, PlateReads: 4, NoReads: 1, Scans: 6}},
			{Lane: "entry-1", ID: "rpm-2", State: "silent"},
		}}},
		Uplinks: []Uplink{{
			Name: "national", Connected: true, WaitingUrgent: 1, WaitingRoutine: 2, OldestWaiting: &at, LastConfirmed: &at,
			Certificates: []Certificate{{Role: "broker", Expires: event.At(at.Add(time.Hour))}, {Role: "broker", Expires: at}, {Role: "ca", Expires: at}},
		}},
		Spool: Spool{Urgent: SpoolClass{OldestWaiting: &at, LastSequence: 12}, DiskFreeBytes: &free, DiskTotalBytes: &total, Refused: "full", OldSince: &at},
	}
}

func parsed(t *testing.T, s Status) map[string]*dto.MetricFamily {
	t.Helper()
	var b bytes.Buffer
	writeMetrics(&b, &s)
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(&b)
	require.NoError(t, err)
	return families
}

// The text is read by the parser of Prometheus itself, and tells each metric of the table
// with its labels and nothing else.
func TestMetricsAreReadByPrometheus(t *testing.T) {
	t.Parallel()
	families := parsed(t, full())
	require.Len(t, families, len(Metrics()))
	for _, m := range Metrics() {
		f := families[m.Name]
		require.NotNil(t, f, m.Name)
		require.Equal(t, m.Help, f.GetHelp())
		require.Equal(t, strings.ToUpper(m.Type), f.GetType().String(), m.Name)
		require.Equal(t, m.Type == counter, strings.HasSuffix(m.Name, "_total"), "%s: counters and only they end in _total", m.Name)
		require.Regexp(t, `^(lanepost|go)_[a-z][a-z0-9_]*$`, m.Name)
		require.NotRegexp(t, `_(ms|milliseconds|kb|percent)(_|$)`, m.Name, "base units")
		require.True(t, strings.HasSuffix(m.Help, "."), m.Name)
		for _, one := range f.GetMetric() {
			var labels []string
			for _, l := range one.GetLabel() {
				labels = append(labels, l.GetName())
			}
			require.ElementsMatch(t, m.Labels, labels, m.Name)
		}
	}
	value := func(name string, labels ...string) float64 {
		for _, one := range families[name].GetMetric() {
			found := true
			for i := 0; i < len(labels); i += 2 {
				has := false
				for _, l := range one.GetLabel() {
					has = has || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				found = found && has
			}
			if found {
				return one.GetGauge().GetValue() + one.GetCounter().GetValue()
			}
		}
		t.Fatalf("there is no %s %s", name, labels)
		return 0
	}
	at := float64(time.Date(2026, 11, 28, 4, 0, 0, 0, time.UTC).Unix()) + 0.5
	require.Equal(t, 1.0, value("lanepost_build_info", "version", "v1 \"x\"\\\n"))
	require.Equal(t, at, value("lanepost_start_time_seconds"))
	require.Equal(t, 0.25, value("lanepost_clock_max_error_seconds"))
	require.Equal(t, 0.0, value("lanepost_clock_synchronised"))
	require.Equal(t, 0.0, value("lanepost_config_last_reload_successful"))
	require.Equal(t, 1.0, value("lanepost_device_up", "device", "rpm-1"))
	require.Equal(t, 0.0, value("lanepost_device_up", "device", "rpm-2"))
	require.Equal(t, 1.0, value("lanepost_device_state", "device", "rpm-2", "state", "silent"))
	require.Equal(t, 0.0, value("lanepost_device_state", "device", "rpm-2", "state", "online"))
	require.Equal(t, 4.0, value("lanepost_occupancies_total", "outcome", "no_alarm"))
	require.Equal(t, 1.0, value("lanepost_plate_reads_total", "result", "no_read"))
	require.Equal(t, 2.0, value("lanepost_uplink_events_waiting", "class", "routine"))
	require.Equal(t, at, value("lanepost_uplink_certificate_expiry_timestamp_seconds", "role", "broker"), "the first that ends")
	require.Equal(t, 1.0, value("lanepost_spool_refusing"))
	require.Equal(t, 0.0, value("lanepost_spool_answering"))

	// What a device counts is told before the first, else nobody could see it come.
	fresh := parsed(t, Status{Lanes: []Lane{{Devices: []Device{{Kind: Portal}, {Kind: PlateReader}, {Kind: Scanner}}}}})
	for name, series := range map[string]int{
		"lanepost_occupancies_total": 3, "lanepost_occupancy_alarms_total": 2, "lanepost_plate_reads_total": 2, "lanepost_xray_scans_total": 1,
	} {
		require.Len(t, fresh[name].GetMetric(), series, name)
		require.Zero(t, fresh[name].GetMetric()[0].GetCounter().GetValue())
	}

	// What is not known is not told, and least of all as zero.
	few := parsed(t, Status{At: event.At(time.Now()), Clock: Clock{Synchronised: "unknown"}, Lanes: []Lane{{Devices: []Device{{}}}}})
	for _, name := range []string{
		"lanepost_clock_synchronised", "lanepost_clock_max_error_seconds", "lanepost_device_last_record_timestamp_seconds",
		"lanepost_device_clock_offset_seconds", "lanepost_occupancies_total", "lanepost_plate_reads_total", "lanepost_xray_scans_total", "lanepost_disk_free_bytes", "lanepost_uplink_connected",
	} {
		require.NotContains(t, few, name)
	}
}

// docs/console.md lists the metrics and the paths that there are.
func TestDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/console.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `((?:lanepost|go)_[a-z0-9_]+)` \\| (\\w+) \\| ([^|]*) \\| (.*) \\|$")
	var rows []string
	for _, m := range row.FindAllStringSubmatch(string(b), -1) {
		rows = append(rows, strings.Join(m[1:], "|"))
	}
	var want []string
	for _, m := range Metrics() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		want = append(want, strings.Join([]string{m.Name, m.Type, labels, m.Help}, "|"))
	}
	require.Equal(t, want, rows)
	for _, one := range routes {
		require.Contains(t, string(b), "`"+one.method+" "+one.path+"`")
	}
}
