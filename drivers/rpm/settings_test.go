package rpm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSettings(t *testing.T) {
	s := defaultSettings()
	require.NoError(t, s.check())

	p := newTestPortal(t, map[string]any{
		"detectors": []any{1, "upper", "", ""}, "stall": "2500ms", "nsigma": 4, "neutron": false,
	}).(*portal)
	require.Equal(t, []string{"1", "upper"}, p.labels)
	require.Equal(t, 2500*time.Millisecond, p.settings.Stall)
	require.Equal(t, 4.0, p.settings.NSigma)
	require.False(t, p.settings.Neutron)
	require.Equal(t, 5, p.settings.Intervals, "what is not given keeps its default")

	// Each refusal names the setting.
	for text, settings := range map[string]map[string]any{
		"detectors: 2 labels given, but a record has 4 places":  {"detectors": []string{"1", "2"}},
		"detectors: no place has a label":                       {"detectors": []string{"", "", "", ""}},
		`detectors: the label "a" is given twice`:               {"detectors": []string{"a", "b", "a", ""}},
		`is longer than 32 bytes`:                               {"detectors": []string{"a123456789012345678901234567890123", "b", "c", ""}},
		"nsigma: 0 is not between 0.1 and 100":                  {"nsigma": 0},
		"nsigma: NaN is not between":                            {"nsigma": ".nan"},
		"groups: none given":                                    {"groups": []string{}},
		`groups: "diagonal" is not one of sum, horizontal`:      {"groups": []string{"diagonal"}},
		`groups: "sum" is given twice`:                          {"groups": []string{"sum", "sum"}},
		"intervals: 0 is not between 1 and 50 samples":          {"intervals": 0},
		"hold_in: -1 is not between":                            {"hold_in": -1},
		"background_interval: 1s is not between 5s and 1h0m0s":  {"background_interval": "1s"},
		"stall: 100ms is not between 1s and 1m0s":               {"stall": "100ms"},
		"speed_hold: 1m0s is not between 100ms and 4s":          {"speed_hold": "1m"},
		"speed_min_kph: 50 is not under speed_max_kph, 40":      {"speed_min_kph": 50, "speed_max_kph": 40},
		"speed_max_kph: 1000 is not between":                    {"speed_max_kph": 1000},
		"baseline_window: 2h0m0s is not between 1m0s and 30m0s": {"baseline_window": "2h"},
		"depressed_below: 1.5 is not between 0.1 and 1":         {"depressed_below": 1.5},
		"series_limit: -1 is not between 0 and 5000":            {"series_limit": -1},
		"unknown field": {"sigma": 4},
	} {
		_, err := TSAPortal().New(func(to any) error { return decode(settings, to) })
		require.ErrorContains(t, err, text)
	}
}
