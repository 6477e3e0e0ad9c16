package rpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

func monitor(t testing.TB, change func(*AreaSettings)) drivers.Instrument {
	t.Helper()
	d, err := AreaMonitor().New(func(into any) error {
		change(into.(*AreaSettings))
		return nil
	})
	require.NoError(t, err)
	return d
}

// each second one frame, from a moment on.
func each(from int, frames ...string) (script []drivers.Chunk) {
	for i, f := range frames {
		script = append(script, drivers.Chunk{At: time.Duration(from+i) * time.Second, Bytes: []byte(f)})
	}
	return script
}

// said is what came of a script, one word for each event.
func said(t testing.TB, list []drivers.Observation) (words []string) {
	t.Helper()
	for _, o := range list {
		switch e := o.Data.(type) {
		case event.RadiationRate:
			word := fmt.Sprintf("rate %d", e.Frames)
			for _, c := range e.Channels {
				word += fmt.Sprintf(" %s %g %g %g %g %s", c.Channel, c.Min, c.Mean, c.Max, c.Last, c.Unit)
			}
			for _, q := range e.Quality {
				word += " " + q
			}
			words = append(words, word)
		case event.RadiationRateAlarm:
			require.Equal(t, o.Subject, e.AlarmID)
			word := fmt.Sprintf("%s %s %s by %s", e.Kind, e.Channel, e.State, e.By)
			if e.Value != nil {
				word += fmt.Sprintf(" %g", *e.Value)
			}
			if e.PeakValue != nil {
				word += fmt.Sprintf(" peak %g", *e.PeakValue)
			}
			if e.Interrupted {
				word += " interrupted"
			}
			words = append(words, word)
		case event.RadiationFault:
			words = append(words, fmt.Sprintf("fault %s %s %s", e.Kind, e.State, e.Code))
		}
	}
	return words
}

func eye(value, flags string) string {
	return "\x02 " + value + " 0 544 5 " + flags + " G-10 9 \r\n\x03"
}

func TestAreaMonitor(t *testing.T) {
	ludlum := func(s *AreaSettings) { s.Format, s.Unit = "ludlum-375", "mR/h" }
	radeye := func(s *AreaSettings) { s.Format = "radeye" }
	none := func(s *AreaSettings) { s.Format, s.Checksum, s.Unit = "drm", "none", "uSv/h" }
	drm := func(status, rate string) string { return "\n004217" + status + "000012.30" + rate + "000\r" }
	for name, c := range map[string]struct {
		change   func(*AreaSettings)
		script   []drivers.Chunk
		want     []string
		unparsed int
		written  bool
	}{
		"thinned": {change: ludlum, script: append(each(0, "0000.1000010\r\n", "0000.3000010\r\n", "0000.2000010\r\n"), drivers.Chunk{At: 61 * time.Second}), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "rate 2 gamma 2 2.5 3 2 uSv/h",
		}},
		"a unit that is not known": {change: func(s *AreaSettings) { s.Format = "ludlum-375" }, script: each(0, "0642.1000010\r\n"), want: []string{
			"rate 1 gamma 642.1 642.1 642.1 642.1  unit_unknown",
		}},
		"two thresholds": {change: ludlum, script: each(0, "0000.1000010\r\n", "0001.0001010\r\n", "0005.0011010\r\n", "0001.0001010\r\n", "0000.1000010\r\n"), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "low gamma raised by instrument 10 peak 10", "high gamma raised by instrument 50 peak 50",
			"high gamma cleared by instrument 10 peak 50", "low gamma cleared by instrument 1 peak 50", "rate 4 gamma 1 17.75 50 1 uSv/h",
		}},
		"over range is no low reading": {change: ludlum, script: each(0, "0000.1000010\r\n", "0000.0000110\r\n", "0000.0000110\r\n", "0000.1000010\r\n"), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "overload  raised by instrument", "overload  cleared by instrument", "rate 3 gamma 1 1 1 1 uSv/h overload",
		}},
		"nothing but over range": {change: ludlum, script: each(0, "0000.0000110\r\n"), want: []string{
			"overload  raised by instrument", "rate 1 no_reading overload",
		}},
		"an error code": {change: ludlum, script: each(0, "0000.1000010\r\n", "0000.0000013\r\n", "0000.1000010\r\n"), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "fault failure raised 3", "fault failure cleared ", "rate 2 gamma 1 1 1 1 uSv/h fault",
		}},
		"an alarm at the printer": {change: func(s *AreaSettings) { s.Format, s.Unit = "ludlum-375-printer", "uR/h" }, script: each(0, "0642.1   04/21/95 16:56:24 ALARM\r\n", "0000.0   04/21/95 16:57:24  FAIL\r\n"), want: []string{
			"threshold gamma raised by instrument 6.421 peak 6.421", "rate 1 gamma 6.421 6.421 6.421 6.421 uSv/h",
			"fault failure raised FAIL", "rate 1 fault no_reading",
		}},
		"an error ends no alarm": {change: ludlum, script: each(0, "0012.3011010\r\n", "0000.0000017\r\n", "0000.0000017\r\n", "0012.3011010\r\n"), want: []string{
			"high gamma raised by instrument 123 peak 123", "low gamma raised by instrument 123 peak 123", "rate 1 gamma 123 123 123 123 uSv/h",
			"fault failure raised 7", "fault failure cleared ", "rate 3 gamma 123 123 123 123 uSv/h fault",
		}},
		"a monitor that is off watches nothing": {change: ludlum, script: each(0, "0012.3011010\r\n", "0000.0000000\r\n", "0000.0000000\r\n", "0000.1000010\r\n"), want: []string{
			"high gamma raised by instrument 123 peak 123", "low gamma raised by instrument 123 peak 123", "rate 1 gamma 123 123 123 123 uSv/h",
			"fault monitor_off raised ", "fault monitor_off cleared ", "high gamma cleared by instrument 1 peak 123", "low gamma cleared by instrument 1 peak 123",
			"rate 3 gamma 1 1 1 1 uSv/h fault monitor_off",
		}},
		"one thing at a time": {change: none, script: each(0, drm("0", "10000"), drm("2", "50001"), drm("4", "50001"), drm("1", "99999"), drm("0", "10000")), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "threshold gamma raised by instrument 50 peak 50", "fault battery_low raised 4", "overload  raised by instrument",
			"fault battery_low cleared ", "overload  cleared by instrument", "threshold gamma cleared by instrument 1 peak 50", "rate 4 gamma 1 33.66666667 50 1 uSv/h fault overload",
		}},
		"a detector that fails": {change: none, script: each(0, drm("0", "10000"), drm("8", "00000"), drm("0", "10000")), want: []string{
			"rate 1 gamma 1 1 1 1 uSv/h", "fault detector raised 8", "fault detector cleared ", "rate 2 gamma 1 1 1 1 uSv/h fault",
		}},
		"a RadEye": {change: radeye, written: true, script: each(0, eye("12", "00"), eye("231", "04"), eye("0", "06"), eye("12", "20")), want: []string{
			"rate 1 gamma 0.12 0.12 0.12 0.12 uSv/h", "threshold  raised by instrument 2.31 peak 2.31", "overload  raised by instrument",
			"fault battery_low raised 20", "overload  cleared by instrument", "threshold  cleared by instrument 0.12 peak 2.31",
			"rate 3 gamma 0.12 1.215 2.31 0.12 uSv/h fault overload",
		}},
		"nothing is sent": {change: func(s *AreaSettings) { s.Format, s.Ask = "radeye", false }, script: each(0, eye("12", "00")), want: []string{"rate 1 gamma 0.12 0.12 0.12 0.12 uSv/h"}},
		"the agent's own threshold": {
			change:  func(s *AreaSettings) { s.Format, s.AlarmAboveUSvH, s.ClearAfter = "radeye", 2, 2*time.Second },
			written: true, script: each(0, eye("12", "00"), eye("200", "00"), eye("199", "00"), eye("300", "00"), eye("12", "00"), eye("12", "00"), eye("12", "00")), want: []string{
				"rate 1 gamma 0.12 0.12 0.12 0.12 uSv/h", "own gamma raised by agent 2 peak 2", "own gamma cleared by agent 0.12 peak 3", "rate 6 gamma 0.12 1.225 3 0.12 uSv/h",
			},
		},
		"frozen": {change: func(s *AreaSettings) { s.Format, s.FrozenAfter = "radeye", 2*time.Second }, written: true,
			script: each(0, eye("12", "00"), eye("12", "00"), eye("12", "00"), eye("12", "00"), eye("13", "00")), want: []string{
				"rate 1 gamma 0.12 0.12 0.12 0.12 uSv/h", "fault frozen raised ", "fault frozen cleared ", "rate 4 gamma 0.12 0.125 0.13 0.13 uSv/h fault frozen",
			}},
		"silent": {change: radeye, written: true, script: append(each(0, eye("12", "00")), drivers.Chunk{At: 125 * time.Second}), want: []string{
			"rate 1 gamma 0.12 0.12 0.12 0.12 uSv/h", "rate 0 no_reading", "rate 0 no_reading",
		}},
		"damaged, and joined in the middle": {change: func(s *AreaSettings) { s.Format = "fht-6020" }, written: true, unparsed: 2,
			script: each(0, " 0000 2D\x03\x0701RM1 0.115 0000 0000 2D\x03", "\x0701RM1 0.116 0000 0000 2D\x03", "\x0701RM1 0.\x0701RM2 0.02 0000 0000 F9\x03"), want: []string{
				"rate 1 gamma 0.115 0.115 0.115 0.115 uSv/h alarms_unknown", "rate 1 neutron 0.02 0.02 0.02 0.02 uSv/h alarms_unknown",
			}},
		"no value": {change: func(s *AreaSettings) { s.Format = "fht-6020" }, written: true, script: each(0, "\x06\x03"), want: []string{"rate 1 alarms_unknown no_reading"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := drivers.Play(t.Context(), monitor(t, c.change), c.script)
			require.NoError(t, err)
			require.Equal(t, c.want, said(t, p.Observations))
			require.Len(t, p.Unparsed, c.unparsed)
			require.Equal(t, c.written, p.Written > 0)
		})
	}
}

// A RadEye is told to send when the link opens, and again when it has said nothing for a while;
// as long as it sends, nothing more is sent to it.
func TestStartedAgain(t *testing.T) {
	set := func(s *AreaSettings) { s.Format = "radeye" }
	p, err := drivers.Play(t.Context(), monitor(t, set), append(each(0, eye("12", "00"), eye("13", "00")), each(14, eye("12", "00"))...))
	require.NoError(t, err)
	require.Equal(t, 2, p.Written)
	p, err = drivers.Play(t.Context(), monitor(t, set), append(each(0, eye("12", "00")), each(20, eye("12", "00"))...))
	require.NoError(t, err)
	require.Equal(t, 4, p.Written)
}

// An instrument of another format is told, and not read in silence.
func TestAnotherFormat(t *testing.T) {
	var other []string
	for range 60 {
		other = append(other, "0000.1000010\r\n")
	}
	for _, format := range []string{"drm", "radeye", "fht-6020", "ludlum-375-printer"} {
		p, err := drivers.Play(t.Context(), monitor(t, func(s *AreaSettings) { s.Format = format }), each(0, other...))
		require.NoError(t, err)
		require.NotEmpty(t, p.Unparsed, format)
		require.Zero(t, p.Valid)
	}
}

// A link that breaks clears no alarm.
func TestAreaMonitorInterrupted(t *testing.T) {
	d := monitor(t, func(s *AreaSettings) { s.Format = "radeye" })
	p, err := drivers.Play(t.Context(), d, each(0, eye("231", "04")))
	require.NoError(t, err)
	require.Equal(t, []string{"threshold  raised by instrument 2.31 peak 2.31", "rate 1 gamma 2.31 2.31 2.31 2.31 uSv/h"}, said(t, p.Observations))
	require.Equal(t, []string{"threshold"}, p.Observations[1].Data.(event.RadiationRate).Alarms)
	p, err = drivers.Play(t.Context(), d, each(100, eye("240", "04"), eye("12", "00")))
	require.NoError(t, err)
	require.Equal(t, []string{"threshold  cleared by instrument 0.12 peak 2.4 interrupted", "rate 2 gamma 0.12 1.26 2.4 0.12 uSv/h"}, said(t, p.Observations))
	require.Equal(t, 101.0, p.Observations[0].Data.(event.RadiationRateAlarm).DurationS)
}

// dose is an answer of an LB 6420 with one dose, in pSv, in all its places.
func dose(v uint64) string {
	b := make([]byte, 524)
	for _, place := range []int{19, 31, 33, 34} {
		binary.BigEndian.PutUint64(b[12+8*place:], v)
	}
	return string(b)
}

// Rates are made of doses that only grow.
func TestDoses(t *testing.T) {
	set := func(s *AreaSettings) { s.Format, s.Channels = "berthold-lb6420", []string{"total"} }
	// 28 pSv in a second are 28 * 3600 / 1e6 = 0.1008 uSv/h.
	p, err := drivers.Play(t.Context(), monitor(t, set), each(0, dose(1000), dose(1028), dose(1084), dose(3), dose(31)))
	require.NoError(t, err)
	require.Equal(t, []string{"rate 2 total 0.1008 0.1008 0.1008 0.1008 uSv/h alarms_unknown", "rate 3 total 0.1008 0.1512 0.2016 0.1008 uSv/h alarms_unknown counter_reset"}, said(t, p.Observations))
	c := p.Observations[0].Data.(event.RadiationRate).Channels[0]
	require.Equal(t, "1028", c.ValueRaw)
	require.Equal(t, "pSv", c.UnitRaw)

	// An answer that does not come whole ends the connection: nobody knows where the next one
	// would begin.
	p, err = drivers.Play(t.Context(), monitor(t, set), append(each(0, dose(1000)[:100]), each(10, dose(1000), dose(1028))...))
	require.ErrorIs(t, err, errCut)
	require.Len(t, p.Unparsed, 1)
	require.Contains(t, p.Unparsed[0].Reason, "100 bytes")
	require.Empty(t, p.Observations)
}

// Kromek tells values and alarms in two reports.
func TestTwoReports(t *testing.T) {
	f, err := ratemeter.Lookup("kromek", ratemeter.Options{LiveTime: "ms"})
	require.NoError(t, err)
	values := func(usv, cps float64) string {
		return string(f.Append(nil, ratemeter.Reading{Values: []ratemeter.Value{{Channel: "dose", Value: usv, Unit: "uSv/h"}, {Channel: "gamma", Value: cps, Unit: "cps"}}}))
	}
	status := func(channels ...string) string {
		r := ratemeter.Reading{Status: true}
		for _, c := range channels {
			r.Alarms = append(r.Alarms, ratemeter.Alarm{Kind: "threshold", Channel: c})
		}
		return string(f.Append(nil, r))
	}
	p, err := drivers.Play(t.Context(), monitor(t, func(s *AreaSettings) { s.Format, s.LiveTime = "kromek", "ms" }), each(0,
		status(), values(0.125, 480), status("gamma"), values(0.25, 900), status("gamma", "dose"), values(0.125, 480), status()))
	require.NoError(t, err)
	require.Equal(t, []string{
		"rate 2 dose 0.125 0.125 0.125 0.125 uSv/h gamma 480 480 480 480 cps neutron 0 0 0 0 cps",
		"threshold gamma raised by instrument 480 peak 480",
		"threshold dose raised by instrument 0.25 peak 0.25",
		"threshold dose cleared by instrument 0.125 peak 0.25",
		"threshold gamma cleared by instrument 480 peak 900",
		"rate 5 dose 0.125 0.1875 0.25 0.125 uSv/h gamma 480 690 900 480 cps neutron 0 0 0 0 cps",
	}, said(t, p.Observations))
}

func TestAreaSettings(t *testing.T) {
	for name, change := range map[string]func(*AreaSettings){
		"format":           func(s *AreaSettings) { s.Format = "polimaster" },
		"checksum":         func(s *AreaSettings) { s.Format, s.Checksum = "drm", "crc" },
		"unit":             func(s *AreaSettings) { s.Unit = "stone" },
		"usv_per_mr":       func(s *AreaSettings) { s.USvPerMR = 0 },
		"every":            func(s *AreaSettings) { s.Every = 0 },
		"interval":         func(s *AreaSettings) { s.Interval = 0 },
		"alarm_above_usvh": func(s *AreaSettings) { s.AlarmAboveUSvH = -1 },
		"alarm_above_cps":  func(s *AreaSettings) { s.AlarmAboveCPS = -1 },
		"clear_after":      func(s *AreaSettings) { s.ClearAfter = time.Hour },
		"frozen_after":     func(s *AreaSettings) { s.FrozenAfter = -1 },
	} {
		_, err := AreaMonitor().New(func(into any) error {
			s := into.(*AreaSettings)
			s.Format = "radeye"
			change(s)
			return nil
		})
		require.ErrorContains(t, err, name)
	}
}

// FuzzAreaMonitor sends anything to the whole driver, over two connections.
func FuzzAreaMonitor(f *testing.F) {
	f.Add("radeye", []byte(eye("12", "04")+eye("0", "06")+eye("12", "00")), uint16(10), uint16(900))
	f.Add("ludlum-375", []byte("0000.1000010\r\n0001.0011110\r\n0000.1000013\r\n"), uint16(13), uint16(30))
	f.Add("berthold-lb6420", []byte(dose(10)+dose(20)), uint16(523), uint16(1000))
	f.Fuzz(func(t *testing.T, format string, stream []byte, piece, pause uint16) {
		d, err := AreaMonitor().New(func(into any) error {
			s := into.(*AreaSettings)
			s.Format, s.AlarmAboveUSvH, s.FrozenAfter, s.Every = format, 1, time.Minute, time.Minute
			return nil
		})
		if err != nil {
			return
		}
		var script []drivers.Chunk
		at := time.Duration(0)
		for b := stream; len(b) > 0; {
			n := min(int(piece)+1, len(b))
			script = append(script, drivers.Chunk{At: at, Bytes: b[:n]})
			at, b = at+time.Duration(pause)*time.Millisecond, b[n:]
		}
		stands := map[string]bool{}
		for _, part := range [][]drivers.Chunk{script[:len(script)/2], script[len(script)/2:]} {
			p, err := drivers.Play(t.Context(), d, part)
			require.True(t, err == nil || errors.Is(err, errCut) || errors.Is(err, errNoAnswer), "%v", err)
			for _, o := range p.Observations {
				switch e := o.Data.(type) {
				case event.RadiationRateAlarm:
					require.Equal(t, e.State == "cleared", stands[e.AlarmID], "an alarm is raised once and cleared once")
					stands[e.AlarmID] = e.State == "raised"
				case event.RadiationRate:
					for _, c := range e.Channels {
						require.True(t, c.Min <= c.Mean && c.Mean <= c.Max && c.Readings > 0 && c.Min >= 0)
					}
					require.Equal(t, len(e.Channels) == 0, contains(e.Quality, event.RateNoReading))
				}
			}
		}
	})
}

func contains(list []string, x string) bool {
	for _, s := range list {
		if s == x {
			return true
		}
	}
	return false
}
