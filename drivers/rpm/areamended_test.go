package rpm

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// saidBy plays a script and gives one word for each event.
func saidBy(t *testing.T, change func(*AreaSettings), script []drivers.Chunk) []string {
	t.Helper()
	p, err := drivers.Play(t.Context(), monitor(t, change), script)
	require.NoError(t, err)
	return said(t, p.Observations)
}

// A setting that could never act is refused, a threshold first of all.
func TestUselessSettings(t *testing.T) {
	for want, change := range map[string]func(*AreaSettings){
		"alarm_above_usvh: ludlum-375 tells no unit":          func(s *AreaSettings) { s.AlarmAboveUSvH = 1 },
		"alarm_above_cps: drm tells no unit":                  func(s *AreaSettings) { s.Format, s.AlarmAboveCPS = "drm", 1 },
		"alarm_above_usvh: no value of these settings is in":  func(s *AreaSettings) { s.Unit, s.AlarmAboveUSvH = "cpm", 1 },
		"alarm_above_cps: no value of these settings is in":   func(s *AreaSettings) { s.Format, s.AlarmAboveCPS = "fht-6020", 1 },
		"alarm_above_cps: no value of these settings is in c": func(s *AreaSettings) { s.Format, s.AlarmAboveCPS = "berthold-lb6420", 1 },
		"alarm_above_cps: without live_time":                  func(s *AreaSettings) { s.Format, s.AlarmAboveCPS = "kromek", 1 },
		"address: it does nothing for radeye":                 func(s *AreaSettings) { s.Format, s.Address = "radeye", 7 },
		"unit: it does nothing for fht-6020":                  func(s *AreaSettings) { s.Format, s.Unit = "fht-6020", "mR/h" },
		"unit: it does nothing for radeye":                    func(s *AreaSettings) { s.Format, s.Unit = "radeye", "mR/h" },
		"no_error: it does nothing for ludlum-375-printer":    func(s *AreaSettings) { s.Format, s.NoError = "ludlum-375-printer", "3" },
		"live_time: it does nothing for drm":                  func(s *AreaSettings) { s.Format, s.LiveTime = "drm", "ms" },
		"frozen_after: it does nothing for ludlum-375-p":      func(s *AreaSettings) { s.Format, s.FrozenAfter = "ludlum-375-printer", time.Minute },
		"every: it does nothing for radeye":                   func(s *AreaSettings) { s.Format, s.Every = "radeye", 2*time.Second },
		"usv_per_mr: it does nothing for kromek":              func(s *AreaSettings) { s.Format, s.USvPerMR = "kromek", 8.77 },
	} {
		_, err := AreaMonitor().New(func(into any) error { change(into.(*AreaSettings)); return nil })
		require.ErrorContains(t, err, want)
	}
	for _, change := range []func(*AreaSettings){
		func(s *AreaSettings) { s.Unit, s.AlarmAboveUSvH = "mR/h", 1 },
		func(s *AreaSettings) { s.Unit, s.AlarmAboveUSvH = "mGy/h", 1 },
		func(s *AreaSettings) { s.Unit, s.AlarmAboveCPS = "cpm", 1 },
		func(s *AreaSettings) { s.Format, s.AlarmAboveUSvH = "kromek", 1 },
		func(s *AreaSettings) { s.Format, s.AlarmAboveCPS, s.LiveTime = "kromek", 1, "ms" },
		func(s *AreaSettings) { s.Format, s.AlarmAboveCPS = "radeye", 1 },
		func(s *AreaSettings) { s.Format, s.Address, s.AlarmAboveUSvH = "fht-6020", 7, 1 },
	} {
		monitor(t, change)
	}
}

// A threshold in sieverts holds for grays too; one in a unit that does not come is told.
func TestThresholdUnits(t *testing.T) {
	require.Equal(t, []string{"own gamma raised by agent 9e+06 peak 9e+06", "rate 1 gamma 9e+06 9e+06 9e+06 9e+06 uGy/h"},
		saidBy(t, func(s *AreaSettings) { s.Unit, s.AlarmAboveUSvH = "mGy/h", 1 }, each(0, "9000.0000010\r\n")))
	eye := func(unit string) []drivers.Chunk { return each(0, "\x02 9000 "+unit+" 0 5 00 G-10 9 \r\n\x03") }
	require.Equal(t, []string{"rate 1 gamma 90 90 90 90 cps threshold_idle"},
		saidBy(t, func(s *AreaSettings) { s.Format, s.AlarmAboveUSvH = "radeye", 1 }, eye("5")))
	require.Equal(t, []string{"rate 1 gamma 9000 9000 9000 9000  threshold_idle unit_unknown"},
		saidBy(t, func(s *AreaSettings) { s.Format, s.AlarmAboveUSvH = "radeye", 1 }, eye("4")))
}

// The unit of the settings is not put in the place of one that the instrument told.
func TestUnitThatIsNotKnown(t *testing.T) {
	m := monitor(t, func(s *AreaSettings) { s.Format = "radeye" })
	m.(*areaMonitor).settings.Unit = "uSv/h"
	p, err := drivers.Play(t.Context(), m, each(0, "\x02 12 4 544 5 00 G-10 9 \r\n\x03"))
	require.NoError(t, err)
	require.Equal(t, []string{"rate 1 gamma 12 12 12 12  unit_unknown"}, said(t, p.Observations))
}

// One channel that stands still is one fault, whatever the other tells.
func TestFrozenChannel(t *testing.T) {
	f, err := ratemeter.Lookup("fht-6020", ratemeter.Options{Address: 1})
	require.NoError(t, err)
	var frames []string
	for i := range 40 {
		v := ratemeter.Value{Channel: "gamma", Value: 0.1 + float64(i)*0.01}
		if i%2 == 1 {
			v = ratemeter.Value{Channel: "neutron", Value: 0}
		}
		frames = append(frames, string(f.Append(nil, ratemeter.Reading{Values: []ratemeter.Value{v}})))
	}
	got := saidBy(t, func(s *AreaSettings) { s.Format, s.Ask, s.FrozenAfter = "fht-6020", false, 10*time.Second }, each(0, frames...))
	require.Len(t, got, 3)
	require.Equal(t, "fault frozen raised ", got[1])
}

// An instrument that tells values and not whether it alarms is not taken for quiet.
func TestAlarmsUnknown(t *testing.T) {
	f, err := ratemeter.Lookup("kromek", ratemeter.Options{})
	require.NoError(t, err)
	value := func(i int, v float64) string {
		return string(f.Append(nil, ratemeter.Reading{ID: fmt.Sprint(i), Values: []ratemeter.Value{{Channel: "dose", Value: v, Unit: "uSv/h"}}}))
	}
	status := string(f.Append(nil, ratemeter.Reading{Status: true}))
	change := func(s *AreaSettings) { s.Format = "kromek" }
	require.Equal(t, []string{"rate 1 dose 0.125 0.125 0.125 0.125 uSv/h alarms_unknown", "rate 1 dose 0.25 0.25 0.25 0.25 uSv/h alarms_unknown"},
		saidBy(t, change, each(0, value(1, 0.125), value(2, 0.25))))
	require.Equal(t, []string{"rate 1 dose 0.125 0.125 0.125 0.125 uSv/h alarms_unknown", "rate 2 dose 0.25 0.25 0.25 0.25 uSv/h"},
		saidBy(t, change, each(0, value(1, 0.125), value(2, 0.25), status)))

	// An acknowledgement takes no value away, and a new connection does.
	alarm := string(f.Append(nil, ratemeter.Reading{Status: true, Alarms: []ratemeter.Alarm{{Kind: "threshold", Channel: "dose"}}}))
	got := saidBy(t, change, each(0, value(1, 5), "\xc0\x07\x00\x00\x07\xfe\x9e\xe1\xc0", alarm))
	require.Equal(t, "threshold dose raised by instrument 5 peak 5", got[1])
	m := monitor(t, change)
	_, err = drivers.Play(t.Context(), m, each(0, value(1, 0.125)))
	require.NoError(t, err)
	p, err := drivers.Play(t.Context(), m, each(100, alarm))
	require.NoError(t, err)
	require.Equal(t, "threshold dose raised by instrument", said(t, p.Observations)[0])
}

// An own alarm is over when it was below all the time, and not with an overload between.
func TestOwnAlarmOverOverload(t *testing.T) {
	got := saidBy(t, func(s *AreaSettings) { s.Format, s.AlarmAboveUSvH = "radeye", 1 },
		each(0, eye("500", "00"), eye("12", "00"), eye("0", "02"), eye("0", "02"), eye("0", "02"), eye("12", "00"), eye("500", "00")))
	require.NotContains(t, fmt.Sprint(got), "own gamma cleared")
}
