package rpm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// Settings of the driver "tsa-portal". What the portal reports in its setup
// records (nsigma, groups, intervals, hold_in) replaces the values here from
// then on.
type Settings struct {
	// Detectors labels the four gamma detector places of a record, in the order
	// of its fields. An empty label says that nothing is fitted there.
	Detectors []string `yaml:"detectors"`
	// Neutron says whether the portal has neutron detectors. Their places bear
	// the labels of Detectors.
	Neutron bool `yaml:"neutron"`

	// NSigma is the portal's gamma alarm threshold in standard deviations of
	// the background.
	NSigma float64 `yaml:"nsigma"`
	// Groups are the sums of detectors that the portal tests: "sum" (all),
	// "vertical" (1+2 and 3+4), "horizontal" (1+3 and 2+4), "single" (each).
	Groups []string `yaml:"groups"`
	// Intervals is over how many samples of 200 ms the portal sums.
	Intervals int `yaml:"intervals"`
	// HoldIn is for how many intervals of 200 ms the portal stays occupied
	// after its sensors are clear. It is only compared with what the portal
	// reports.
	HoldIn int `yaml:"hold_in"`

	// BackgroundInterval is the time between two background events; the portal
	// itself sends background every 5 s.
	BackgroundInterval time.Duration `yaml:"background_interval"`
	// Stall ends an occupancy in which nothing comes for so long. The portal's
	// normal gap is under 0.6 s.
	Stall time.Duration `yaml:"stall"`
	// SpeedHold is for how long a speed record waits for its occupancy: about
	// half of them come before its first sample, up to 0.3 s.
	SpeedHold time.Duration `yaml:"speed_hold"`
	// SpeedMinKPH and SpeedMaxKPH bound the plausible speeds. Others are kept,
	// but stay out of the median.
	SpeedMinKPH float64 `yaml:"speed_min_kph"`
	SpeedMaxKPH float64 `yaml:"speed_max_kph"`
	// BaselineWindow is over how much background the slow baseline is taken.
	BaselineWindow time.Duration `yaml:"baseline_window"`
	// DepressedBelow is the part of the slow baseline under which an
	// occupancy's frozen background counts as depressed. With the default, a
	// tenth, a harmless passage seems four sigma stronger than it is at a
	// background of 1600 counts per second; the noise of a background averaged
	// over 20 s is a fortieth of that.
	DepressedBelow float64 `yaml:"depressed_below"`
	// SeriesLimit is how many samples of each kind an occupancy event carries.
	SeriesLimit int `yaml:"series_limit"`
}

func defaultSettings() Settings {
	return Settings{
		Detectors:          []string{"1", "2", "3", "4"},
		Neutron:            true,
		NSigma:             5,
		Groups:             []string{"sum", "vertical"},
		Intervals:          5,
		HoldIn:             10,
		BackgroundInterval: time.Minute,
		Stall:              3 * time.Second,
		SpeedHold:          time.Second,
		SpeedMinKPH:        1,
		SpeedMaxKPH:        100,
		BaselineWindow:     30 * time.Minute,
		DepressedBelow:     0.9,
		SeriesLimit:        3000,
	}
}

// maxLabel bounds a detector label.
const maxLabel = 32

// check says what is wrong with the settings.
func (s *Settings) check() error {
	if err := checkLabels(s.Detectors); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.Detectors, fitted) {
		return fmt.Errorf("detectors: no place has a label, but a portal has at least one gamma detector")
	}
	if len(s.Groups) == 0 {
		return fmt.Errorf("groups: none given; name at least one of %s", strings.Join(groupKinds(), ", "))
	}
	for i, g := range s.Groups {
		if !slices.Contains(groupKinds(), g) {
			return fmt.Errorf("groups: %q is not one of %s", g, strings.Join(groupKinds(), ", "))
		}
		if slices.Contains(s.Groups[:i], g) {
			return fmt.Errorf("groups: %q is given twice", g)
		}
	}
	for _, r := range []struct {
		name        string
		value       float64
		least, most float64
		comment     string
	}{
		{"nsigma", s.NSigma, minNSigma, maxNSigma, "; the portal's own value is the fifth field of SG1"},
		{"intervals", float64(s.Intervals), 1, maxIntervals, " samples of 200 ms"},
		{"hold_in", float64(s.HoldIn), 0, 99, " intervals of 200 ms"},
		{"speed_min_kph", s.SpeedMinKPH, 0, 200, " km/h"},
		{"speed_max_kph", s.SpeedMaxKPH, 0, 200, " km/h"},
		{"depressed_below", s.DepressedBelow, 0.1, 1, " of the slow baseline"},
		{"series_limit", float64(s.SeriesLimit), 0, 5000, " samples"},
	} {
		if !(r.value >= r.least && r.value <= r.most) { // so that NaN is refused too
			return fmt.Errorf("%s: %v is not between %v and %v%s", r.name, r.value, r.least, r.most, r.comment)
		}
	}
	if s.SpeedMinKPH >= s.SpeedMaxKPH {
		return fmt.Errorf("speed_min_kph: %v is not under speed_max_kph, %v", s.SpeedMinKPH, s.SpeedMaxKPH)
	}
	for _, r := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration
	}{
		{"background_interval", s.BackgroundInterval, backgroundCadence, time.Hour},
		{"stall", s.Stall, time.Second, time.Minute},
		{"speed_hold", s.SpeedHold, 100 * time.Millisecond, 4 * time.Second},
		{"baseline_window", s.BaselineWindow, time.Minute, 30 * time.Minute},
	} {
		if r.value < r.least || r.value > r.most {
			return fmt.Errorf("%s: %s is not between %s and %s", r.name, r.value, r.least, r.most)
		}
	}
	return nil
}

func checkLabels(labels []string) error {
	if len(labels) != tsa.Detectors {
		return fmt.Errorf("detectors: %d labels given, but a record has %d places; give an empty label (\"\") to a place that is not fitted",
			len(labels), tsa.Detectors)
	}
	for i, l := range labels {
		if len(l) > maxLabel {
			return fmt.Errorf("detectors: the label %q is longer than %d bytes", l, maxLabel)
		}
		if l != "" && slices.Contains(labels[:i], l) {
			return fmt.Errorf("detectors: the label %q is given twice", l)
		}
	}
	return nil
}

func fitted(label string) bool { return label != "" }
