package event

// Flags of RadiationRate and RadiationEnvironment: why figures are missing, or to be looked at.
const (
	// RateNoReading: the instrument told nothing that could be read as a value. What passed
	// is unobserved, not clear.
	RateNoReading = "no_reading"
	// RateOverload: there was more than it can measure, and for that time there is no value.
	RateOverload = "overload"
	// RateFault: a fault stands, or stood in the interval.
	RateFault = "fault"
	// RateFrozen: it told the very same for too long, and what it told does not count.
	RateFrozen = "frozen"
	// RateUnitUnknown: a value is in the instrument's own unit.
	RateUnitUnknown = "unit_unknown"
	// RateCounterReset: a dose that only grows was less than before, so that no rate could
	// be made of it.
	RateCounterReset = "counter_reset"
	// RateAlarmsUnknown: whether the instrument itself alarms was not told, or not all the
	// time. That Alarms is empty says nothing then.
	RateAlarmsUnknown = "alarms_unknown"
	// RateThresholdIdle: a threshold of the settings could be held against no value of a frame,
	// for its unit or channel.
	RateThresholdIdle = "threshold_idle"
)

// RadiationRate is what an area monitor or a hand-held instrument measured, thinned: one event
// per interval. A value for which the instrument was overloaded, in fault or frozen is in
// none of the figures; it is counted beside them.
type RadiationRate struct {
	// IntervalS is the time covered, in seconds.
	IntervalS float64 `json:"interval_s"`
	// Instrument is what the instrument calls itself, a number or a model; absent if it does
	// not tell.
	Instrument string `json:"instrument,omitempty"`
	// Frames counts what was read of it in the interval. Of these NoValue told no value
	// where there should have been one, and Overloads that there was more than it can
	// measure.
	Frames    int `json:"frames"`
	NoValue   int `json:"no_value"`
	Overloads int `json:"overloads"`
	// Channels are what it measured, each of its channels once, or once for each
	// unit if it was set to another; empty if no value came.
	Channels []RateChannel `json:"channels"`
	// Alarms and Faults are the kinds that stand at the end of the interval.
	Alarms []string `json:"alarms"`
	Faults []string `json:"faults"`
	// Quality are what a person should look at: "no_reading" (no value came at all: what
	// passed is unobserved, not clear), "overload", "fault", "frozen", "unit_unknown",
	// "counter_reset", "status" (a status whose meaning is not public), "monitor_off"
	// (the instrument's own monitor status is off), "alarms_unknown" (whether the instrument
	// alarms was not told, or not all the time, so that empty Alarms say nothing),
	// "threshold_idle" (a threshold of the settings is in a unit that the values are not in).
	Quality []string `json:"quality"`
	// Raw is the last frame of the interval.
	Raw Raw `json:"raw"`
}

// RateChannel is one channel of an instrument over an interval.
type RateChannel struct {
	// Channel is what radiation it is of: "dose" if the instrument does not say what its dose
	// rate is of, "total" for gamma and neutrons together.
	Channel string `json:"channel" jsonschema:"enum=gamma,enum=neutron,enum=neutron_high_energy,enum=alpha,enum=beta,enum=total,enum=dose"`
	// Quantity is "dose_rate", "count_rate", or "unknown" if the unit is not known.
	Quantity string `json:"quantity" jsonschema:"enum=dose_rate,enum=count_rate,enum=unknown"`
	// Unit of the figures: "uSv/h" (or "uGy/h") for a dose rate, "cps" for a count rate;
	// otherwise the instrument's own, empty if it is not known.
	Unit string `json:"unit"`
	// Readings counts the values, Min, Mean, Max and Last are of them, in Unit.
	Readings int     `json:"readings"`
	Min      float64 `json:"min"`
	Mean     float64 `json:"mean"`
	Max      float64 `json:"max"`
	Last     float64 `json:"last"`
	// ValueRaw is the last value as the instrument told it: the dose, of one that tells doses
	// which only grow. UnitRaw is its unit: the instrument's own word or number for it, or if
	// it tells none, what its format or the settings say; empty if it is not known.
	ValueRaw string `json:"value_raw"`
	UnitRaw  string `json:"unit_raw"`
}

// Who alarms.
const (
	// ByInstrument: it is the instrument's alarm, by its own threshold.
	ByInstrument = "instrument"
	// ByAgent: it is the agent's, by a threshold of its settings.
	ByAgent = "agent"
)

// RadiationRateAlarm is an alarm of an area monitor or a hand-held instrument, at its onset
// and again when it is over. An overload is an alarm: there is no value then, because there
// is more than the instrument can measure. An alarm that stands while the agent is started anew
// goes on under its id, with Interrupted.
type RadiationRateAlarm struct {
	// AlarmID is the agent's own id of the alarm (UUIDv7), the same at onset and end, also
	// the event's subject.
	AlarmID string `json:"alarm_id"`
	// Kind is "high" or "low" for an instrument with two thresholds (the low one warns first),
	// "threshold" for one that tells only that a threshold is exceeded, "overload", or
	// "own" for the agent's.
	Kind string `json:"kind" jsonschema:"enum=high,enum=low,enum=threshold,enum=overload,enum=own"`
	// Channel is what it goes by; empty if the instrument does not tell.
	Channel string `json:"channel"`
	// By is "instrument" or "agent".
	By string `json:"by" jsonschema:"enum=instrument,enum=agent"`
	// State is "raised" or "cleared". Cleared is told only of what the instrument was seen to
	// be over; a broken link clears nothing.
	State string `json:"state" jsonschema:"enum=raised,enum=cleared"`
	// Value is the last value of the channel, in Unit; null if there is none. Of an alarm
	// without a channel it is the highest of the channels.
	Value *float64 `json:"value"`
	Unit  string   `json:"unit"`
	// PeakValue is the highest value while the alarm stood, in Unit; null if none came.
	PeakValue *float64 `json:"peak_value"`
	// Threshold is the agent's own, in Unit; null for the instrument's, which does not tell it.
	Threshold *float64 `json:"threshold"`
	// ValueRaw and UnitRaw are the last value and its unit as in radiation.rate; empty if none
	// came.
	ValueRaw string `json:"value_raw"`
	UnitRaw  string `json:"unit_raw"`
	// StartedTS is when it was seen first, by the agent's clock; DurationS how long ago that is, in
	// seconds, by a clock that nobody sets.
	StartedTS Time    `json:"started_ts"`
	DurationS float64 `json:"duration_s"`
	// Interrupted is true if the link broke while the alarm stood, so that it may have been over
	// and come again.
	Interrupted bool `json:"interrupted"`
	// Raw is the frame that told it.
	Raw Raw `json:"raw"`
}

// RadiationEnvironment is what the environmental boards of a portal measured, thinned: one
// event per interval. A value that no board told is null.
type RadiationEnvironment struct {
	// IntervalS is the time covered, in seconds.
	IntervalS float64 `json:"interval_s"`
	// Records counts the environmental records.
	Records int `json:"records"`
	// Detectors are the detectors' boards, in the order of the records, Pillars those of the
	// two pillars.
	Detectors []DetectorEnvironment `json:"detectors"`
	Pillars   []PillarEnvironment   `json:"pillars"`
	// SpeedMessages counts the messages of the speed link. What they mean is not public;
	// SpeedRaw has the last 64 of them, one after another; null if none came.
	SpeedMessages int  `json:"speed_messages"`
	SpeedRaw      *Raw `json:"speed_raw"`
	// Faults are the kinds that stand at the end of the interval, with the pillar:
	// "battery_low/master".
	Faults []string `json:"faults"`
	// Quality are what a person should look at: "no_reading" (no record came at all),
	// "no_thermocouple" (a pillar told no temperature of its thermocouple, as it does
	// when that is broken), "no_battery_voltage" (a pillar told zero volts).
	Quality []string `json:"quality"`
	// Raw holds the last record of each kind.
	Raw Raw `json:"raw"`
}

// DetectorEnvironment is the board of one detector.
type DetectorEnvironment struct {
	// Detector is its label.
	Detector string `json:"detector"`
	// TemperatureC and DewPointC in degrees Celsius, HumidityPct in percent, PressureHPa in
	// hectopascal.
	TemperatureC *Spread `json:"temperature_c"`
	HumidityPct  *Spread `json:"humidity_pct"`
	PressureHPa  *Spread `json:"pressure_hpa"`
	DewPointC    *Spread `json:"dew_point_c"`
}

// PillarEnvironment is the board of one pillar.
type PillarEnvironment struct {
	// Pillar is "master" or "slave".
	Pillar string `json:"pillar" jsonschema:"enum=master,enum=slave"`
	// TemperatureC of the board and ThermocoupleC of the pillar's thermocouple in degrees
	// Celsius; HumidityPct of the board and OutsideHumidityPct in percent.
	TemperatureC       *Spread `json:"temperature_c"`
	HumidityPct        *Spread `json:"humidity_pct"`
	ThermocoupleC      *Spread `json:"thermocouple_c"`
	OutsideHumidityPct *Spread `json:"outside_humidity_pct"`
	// BatteryV in volts, DCCurrentA and ACCurrentA in amperes.
	BatteryV   *Spread `json:"battery_v"`
	DCCurrentA *Spread `json:"dc_current_a"`
	ACCurrentA *Spread `json:"ac_current_a"`
}

// Spread is one measured quantity over an interval.
type Spread struct {
	// Readings counts the values, Min, Max and Last are of them.
	Readings int     `json:"readings"`
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	Last     float64 `json:"last"`
}

// Type implements Data.
func (RadiationRate) Type() string        { return "lanepost.radiation.rate.v1" }
func (RadiationRateAlarm) Type() string   { return "lanepost.radiation.rate-alarm.v1" }
func (RadiationEnvironment) Type() string { return "lanepost.radiation.environment.v1" }

// Class implements Data.
func (RadiationRate) Class() Class        { return Routine }
func (RadiationRateAlarm) Class() Class   { return Urgent }
func (RadiationEnvironment) Class() Class { return Routine }
