package rpm

import (
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// RatesSettings are those of AreaSettings that do not depend on how an instrument tells what it
// measures, with the same meaning.
type RatesSettings struct {
	USvPerMR       float64       `yaml:"usv_per_mr"`
	Interval       time.Duration `yaml:"interval"`
	AlarmAboveUSvH float64       `yaml:"alarm_above_usvh"`
	AlarmAboveCPS  float64       `yaml:"alarm_above_cps"`
	ClearAfter     time.Duration `yaml:"clear_after"`
	FrozenAfter    time.Duration `yaml:"frozen_after"`
}

// DefaultRatesSettings are those of the driver of area monitors.
func DefaultRatesSettings() RatesSettings {
	return RatesSettings{USvPerMR: 10, Interval: time.Minute, ClearAfter: 3 * time.Second}
}

// Rates makes of what a radiation instrument tells the events of an area monitor, for a driver
// that reads it in its own way. It is for one goroutine at a time.
type Rates struct {
	monitor *areaMonitor
	session *areaSession
}

// NewRates checks the settings.
func NewRates(s RatesSettings) (*Rates, error) {
	m, err := newRatesMonitor(AreaSettings{
		USvPerMR: s.USvPerMR, Interval: s.Interval, AlarmAboveUSvH: s.AlarmAboveUSvH, AlarmAboveCPS: s.AlarmAboveCPS,
		ClearAfter: s.ClearAfter, FrozenAfter: s.FrozenAfter,
	})
	if err != nil {
		return nil, err
	}
	return &Rates{monitor: m}, nil
}

// Begin begins a connection: alarms that stand may have been over meanwhile.
func (r *Rates) Begin(h drivers.Host) { r.session = r.monitor.begin(nil, h) }

// Overloaded reports whether an alarm stands for more than can be measured.
func (r *Rates) Overloaded() bool { return r.monitor.alarms[alarmKey{overloadAlarm, ""}] != nil }

// Take takes one reading. alarmsKnown is false as long as the instrument has not told whether
// it alarms.
func (r *Rates) Take(x ratemeter.Reading, alarmsKnown bool, frame []byte) error {
	if !alarmsKnown {
		r.AlarmsUnknown()
	}
	return r.session.reading(r.session.h.Now(), x, frame)
}

// AlarmsUnknown notes that nobody knows whether the instrument alarms.
func (r *Rates) AlarmsUnknown() { r.session.thin.flag(event.RateAlarmsUnknown) }

// Due is when Tick has something to do.
func (r *Rates) Due() time.Time { return r.session.thin.since.Add(r.monitor.settings.Interval) }

// Tick tells what was measured when the interval is over.
func (r *Rates) Tick() error {
	if now := r.session.h.Now(); !now.Before(r.Due()) {
		return r.session.summary(now)
	}
	return nil
}

// End ends a connection and gives the reason back.
func (r *Rates) End(reason error) error { return r.session.end(reason) }
