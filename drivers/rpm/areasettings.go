package rpm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/ratemeter"
)

func defaultAreaSettings() AreaSettings {
	return AreaSettings{
		Format: "ludlum-375", Address: 1, USvPerMR: 10, Ask: true, Every: time.Second,
		Interval: time.Minute, ClearAfter: 3 * time.Second,
	}
}

// areaFormats are the settings that act for a format beside those that act for all, and the
// units of its values: nil if that is the setting unit, for each of its places otherwise.
var areaFormats = map[string]struct {
	settings string
	units    []string
	told     bool // the instrument tells the unit
}{
	"ludlum-375":         {settings: "no_error unit usv_per_mr frozen_after"},
	"ludlum-375-printer": {settings: "unit usv_per_mr"}, // each line has its own time
	"drm":                {settings: "checksum unit usv_per_mr frozen_after"},
	"radeye":             {settings: "usv_per_mr frozen_after", told: true},
	"fht-6020":           {settings: "checksum address every frozen_after", units: []string{"uSv/h", "uSv/h"}},
	"berthold-lb6420":    {settings: "every frozen_after", units: []string{"uSv/h", "uSv/h", "uSv/h", "uSv/h"}},
	"kromek":             {settings: "checksum live_time every frozen_after", units: []string{"uSv/h", "cps", "cps"}},
}

// useless refuses settings that would never act: whoever sets a threshold relies on it.
func (s AreaSettings) useless() error {
	d, f := defaultAreaSettings(), areaFormats[s.Format]
	acts := strings.Fields(f.settings)
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"address", s.Address != d.Address}, {"no_error", s.NoError != ""}, {"live_time", s.LiveTime != ""}, {"unit", s.Unit != ""},
		{"usv_per_mr", s.USvPerMR != d.USvPerMR}, {"every", s.Every != d.Every}, {"frozen_after", s.FrozenAfter != 0},
	} {
		if x.set && !slices.Contains(acts, x.name) {
			return fmt.Errorf("%s: it does nothing for %s; take it out (of the settings of one format only, %s uses %s)", x.name, s.Format, s.Format, strings.Join(acts, ", "))
		}
	}
	if f.told {
		return nil // what unit that is shows while it runs
	}
	units := s.unitsOf(f.units)
	for _, x := range []struct {
		name, want string
		above      float64
	}{{"alarm_above_usvh", "uSv/h", s.AlarmAboveUSvH}, {"alarm_above_cps", "cps", s.AlarmAboveCPS}} {
		if x.above == 0 || slices.Contains(units, x.want) {
			continue
		}
		switch {
		case f.units == nil && s.Unit == "":
			return fmt.Errorf("%s: %s tells no unit, so that nothing would ever alarm; say with unit what the instrument shows", x.name, s.Format)
		case s.Format == "kromek" && x.want == "cps" && s.LiveTime == "":
			return fmt.Errorf("%s: without live_time there are no count rates, so that nothing would ever alarm; set live_time, or take alarm_above_usvh", x.name)
		}
		return fmt.Errorf("%s: no value of these settings is in %s, so that nothing would ever alarm; take the threshold of the other unit, or look at unit and channels", x.name, x.want)
	}
	return nil
}

// unitsOf are the units that a threshold can be held against.
func (s AreaSettings) unitsOf(places []string) (list []string) {
	channels := s.Channels
	if len(channels) == 0 {
		channels = ratemeter.DefaultChannels(s.Format)
	}
	for i, c := range channels {
		_, _, unit := ratemeter.SI(0, s.Unit, s.USvPerMR)
		if places != nil {
			unit = places[i]
		}
		switch {
		case c == "" || s.Format == "kromek" && unit == "cps" && s.LiveTime == "":
		case unit == "uGy/h" && !heavy[c]:
			list = append(list, "uSv/h")
		default:
			list = append(list, unit)
		}
	}
	return list
}
