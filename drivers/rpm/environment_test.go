package rpm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

func boards(t testing.TB, change func(*EnvironmentSettings)) drivers.Instrument {
	t.Helper()
	d, err := TSAEnvironment().New(func(into any) error {
		if change != nil {
			change(into.(*EnvironmentSettings))
		}
		return nil
	})
	require.NoError(t, err)
	return d
}

// round is what the boards tell each ten seconds, with the master's battery voltage.
func round(volts string) string {
	return "!TPDT,294.7,295.1,293.0,000.0,0\r\n#!RHDT,038.2,040.0,041.5,000.0,0\r\n#!PRES,01012,01013,00998,00000,0\r\n#!DEWP,279.9,280.4,281.0,000.0,0\r\n#" +
		"!MBAT," + volts + ",001.2,00000,000.6,0\r\n#!MTRH,297.8,031.0,291.5,000.0,0\r\n#!SBAT,012.9,001.1,00000,000.0,0\r\n#!STRH,296.0,033.0,000.0,055.5,0\r\n#"
}

func of[T any](t testing.TB, list []drivers.Observation) (some []T) {
	t.Helper()
	for _, o := range list {
		if e, ok := o.Data.(T); ok {
			some = append(some, e)
		}
	}
	return some
}

func TestEnvironment(t *testing.T) {
	d := boards(t, func(s *EnvironmentSettings) {
		s.Detectors, s.BatteryLowV, s.ACLostA = []string{"left", "middle", "right", ""}, 12, 0.1
	})
	p, err := drivers.Play(t.Context(), d, []drivers.Chunk{
		{At: 0, Bytes: []byte("000.0,0\r\n#" + round("013.4"))}, // joined in the middle
		{At: 10 * time.Second, Bytes: []byte(round("011.9") + "!TPDT,294.7,295\r\n#")},
		{At: 20 * time.Second, Bytes: []byte(round("012.1"))}, // not enough to be over
		{At: 30 * time.Second, Bytes: []byte(round("013.0"))},
		{At: 95 * time.Second},
	})
	require.NoError(t, err)
	require.Len(t, p.Unparsed, 1)
	require.Zero(t, p.Written)
	faults := of[event.RadiationFault](t, p.Observations)
	var edges []string
	for _, f := range faults {
		edges = append(edges, f.Kind+" "+f.Detectors[0]+" "+f.State)
	}
	require.Equal(t, []string{"ac_lost slave raised", "battery_low master raised", "battery_low master cleared"}, edges)

	list := of[event.RadiationEnvironment](t, p.Observations)
	require.Len(t, list, 2)
	first, second := list[0], list[1]
	require.Equal(t, 8, first.Records)
	require.Equal(t, []string{"ac_lost/slave"}, first.Faults)
	require.Equal(t, []string{"no_thermocouple"}, first.Quality)
	require.Len(t, first.Detectors, 3)
	require.Equal(t, &event.Spread{Readings: 1, Min: 21.55, Max: 21.55, Last: 21.55}, first.Detectors[0].TemperatureC)
	require.Equal(t, 998.0, first.Detectors[2].PressureHPa.Last)
	require.Equal(t, "master", first.Pillars[0].Pillar)
	require.Equal(t, 18.35, first.Pillars[0].ThermocoupleC.Last)
	require.Nil(t, first.Pillars[0].OutsideHumidityPct)
	require.Nil(t, first.Pillars[1].ThermocoupleC)
	require.Equal(t, 55.5, first.Pillars[1].OutsideHumidityPct.Last)
	require.Equal(t, 0.0, first.Pillars[1].ACCurrentA.Last)
	require.Equal(t, 24, second.Records)
	require.Equal(t, &event.Spread{Readings: 3, Min: 11.9, Max: 13, Last: 13}, second.Pillars[0].BatteryV)
	require.NotContains(t, second.Quality, event.RateNoReading)
}

// A board that tells nothing is null, and a line on which nothing comes is told.
func TestEnvironmentSilent(t *testing.T) {
	p, err := drivers.Play(t.Context(), boards(t, nil), []drivers.Chunk{
		{At: 0, Bytes: []byte("!MBAT,000.0,000.0,00000,000.0,0\r\n#")}, {At: 70 * time.Second}, {At: 130 * time.Second},
	})
	require.NoError(t, err)
	list := of[event.RadiationEnvironment](t, p.Observations)
	require.Len(t, list, 2)
	require.Equal(t, []string{"no_battery_voltage"}, list[0].Quality)
	require.Nil(t, list[0].Detectors[0].TemperatureC)
	require.Equal(t, []string{event.RateNoReading}, list[1].Quality)
	require.Empty(t, of[event.RadiationFault](t, p.Observations), "a fault only where the site has said what is one")
}

// What the speed link tells is kept as it is.
func TestSpeedLink(t *testing.T) {
	p, err := drivers.Play(t.Context(), boards(t, func(s *EnvironmentSettings) { s.SpeedLink = true }), []drivers.Chunk{
		{At: 0, Bytes: []byte("7\r\n0123\r\n")}, {At: time.Second, Bytes: []byte("0456\n\nx0789\r\n")},
	})
	require.NoError(t, err)
	require.Len(t, p.Unparsed, 1)
	require.Equal(t, 3, p.Valid)
	list := of[event.RadiationEnvironment](t, p.Observations)
	require.Len(t, list, 2)
	require.Equal(t, "0123\r\n", list[0].SpeedRaw.Text)
	require.Equal(t, 2, list[1].SpeedMessages)
	require.Equal(t, "0456\n\n0789\r\n", list[1].SpeedRaw.Text)
	require.Empty(t, list[1].Detectors)
}

func TestEnvironmentSettings(t *testing.T) {
	for name, change := range map[string]func(*EnvironmentSettings){
		"detectors":                     func(s *EnvironmentSettings) { s.Detectors = []string{"1"} },
		"interval":                      func(s *EnvironmentSettings) { s.Interval = 0 },
		"battery_low_v":                 func(s *EnvironmentSettings) { s.BatteryLowV = -1 },
		"pillars":                       func(s *EnvironmentSettings) { s.Pillars = []string{"left"} },
		"ac_lost_a: the speed link":     func(s *EnvironmentSettings) { s.SpeedLink, s.ACLostA = true, 0.1 },
		"battery_low_v: the speed link": func(s *EnvironmentSettings) { s.SpeedLink, s.BatteryLowV = true, 12 },
		"ac_lost_a":                     func(s *EnvironmentSettings) { s.ACLostA = 1000 },
	} {
		_, err := TSAEnvironment().New(func(into any) error { change(into.(*EnvironmentSettings)); return nil })
		require.ErrorContains(t, err, name)
	}
}

// Of a pillar without a board zeros come: they are no reading and no fault. One that is not
// named is not told at all.
func TestPillarWithoutABoard(t *testing.T) {
	zeros := []drivers.Chunk{{At: 0, Bytes: []byte("!SBAT,000.0,000.0,00000,000.0,0\r\n#!MBAT,013.1,001.2,00000,000.6,0\r\n#!SBAT,000.0,000.0,00000,000.0,0\r\n#")}, {At: 65 * time.Second}}
	p, err := drivers.Play(t.Context(), boards(t, func(s *EnvironmentSettings) { s.BatteryLowV, s.ACLostA = 12, 0.1 }), zeros)
	require.NoError(t, err)
	require.Empty(t, of[event.RadiationFault](t, p.Observations))
	first := of[event.RadiationEnvironment](t, p.Observations)[0]
	require.Equal(t, "slave", first.Pillars[1].Pillar)
	require.Nil(t, first.Pillars[1].BatteryV)
	require.Equal(t, 13.1, first.Pillars[0].BatteryV.Last)
	require.Contains(t, first.Quality, "no_battery_voltage")

	p, err = drivers.Play(t.Context(), boards(t, func(s *EnvironmentSettings) { s.Pillars = []string{"master"} }), zeros)
	require.NoError(t, err)
	first = of[event.RadiationEnvironment](t, p.Observations)[0]
	require.Len(t, first.Pillars, 1)
	require.Empty(t, first.Quality)
}

// More messages than an event keeps: all are counted, and the last are kept.
func TestManySpeeds(t *testing.T) {
	var b []byte
	for i := range 1 + 3*speedsKept {
		b = fmt.Appendf(b, "%04d\r\n", i)
	}
	p, err := drivers.Play(t.Context(), boards(t, func(s *EnvironmentSettings) { s.SpeedLink = true }), []drivers.Chunk{{At: 0, Bytes: b}})
	require.NoError(t, err)
	list := of[event.RadiationEnvironment](t, p.Observations)
	require.Equal(t, 1+3*speedsKept, list[0].SpeedMessages)
	require.Len(t, list[0].SpeedRaw.Text, 6*speedsKept)
	require.True(t, strings.HasSuffix(list[0].SpeedRaw.Text, "0192\r\n"))
}

// BenchmarkSpeedLink is what a message of the speed link costs.
func BenchmarkSpeedLink(b *testing.B) {
	line := bytes.Repeat([]byte("0123\r\n"), 1000)
	chunks := []drivers.Chunk{{At: 0, Bytes: line}}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := drivers.Play(b.Context(), boards(b, func(s *EnvironmentSettings) { s.SpeedLink = true }), chunks)
		require.NoError(b, err)
		require.Equal(b, 1000, p.Valid)
	}
}
