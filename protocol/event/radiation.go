package event

// Modality says what is known of one kind of observation. "no_data" and
// "fault" never mean clear.
type Modality string

// The four states of a modality.
const (
	// NotFitted: the portal has no such detectors.
	NotFitted Modality = "not_fitted"
	// NoData: it has them, and nothing came from them.
	NoData Modality = "no_data"
	// HasData: they were measured.
	HasData Modality = "data"
	// ModalityFault: the portal reports a fault of them, so what they measured
	// does not count.
	ModalityFault Modality = "fault"
)

// Outcome sums up an occupancy.
type Outcome string

// Outcomes of an occupancy.
const (
	// OutcomeAlarm: the portal alarmed, even if the rest was not observed.
	OutcomeAlarm Outcome = "alarm"
	// OutcomeNoAlarm: no alarm, and the occupancy was observed from its
	// beginning to its end, with a background to judge by, every fitted detector
	// kind delivering, none in fault, and no record of it unreadable.
	OutcomeNoAlarm Outcome = "no_alarm"
	// OutcomeIncomplete: no alarm was seen, and not all was observed.
	OutcomeIncomplete Outcome = "incomplete"
)

// How an occupancy ended.
const (
	// EndGX: the portal sent its end-of-occupancy record, GX.
	EndGX = "gx"
	// EndGXLost: the portal sent background although no GX had come.
	EndGXLost = "gx_lost"
	// EndClear: no occupancy input of a portal whose registers are read is set any
	// more.
	EndClear = "clear"
	// EndNextObject: such a portal counted the next object while its occupancy
	// inputs were still set, so where this one ended was not seen.
	EndNextObject = "next_object"
	// EndStuck: an occupancy input of such a portal has been set for so long that it can't be
	// one vehicle.
	EndStuck = "stuck"
	// EndStalled: nothing came for the driver's stall limit.
	EndStalled = "stalled"
	// EndDisconnected: the link broke, or the agent stopped.
	EndDisconnected = "disconnected"
)

// RadiationOccupancy is the summary of one occupancy of a portal: one vehicle,
// or a part of one. The fields from gx_counter to speeds_kph say what the
// portal sent; recomputed and baseline say what the agent makes of it.
type RadiationOccupancy struct {
	// OccupancyID is the agent's own id of the occupancy (UUIDv7), also the
	// event's subject. The portal's counter restarts and can't serve as a key.
	OccupancyID string `json:"occupancy_id"`
	// Outcome sums it up. Use it, not the absence of an alarm flag, to decide
	// that nothing was found.
	Outcome Outcome `json:"outcome"`
	// End tells how the occupancy ended. Only "gx" and "clear" are observed ends.
	End string `json:"end" jsonschema:"enum=gx,enum=gx_lost,enum=clear,enum=next_object,enum=stuck,enum=stalled,enum=disconnected"`
	// JoinedMid is true when the agent connected in the middle of the occupancy.
	JoinedMid bool `json:"joined_mid"`
	// Gamma and Neutron tell what is known of each kind of detector.
	Gamma   Modality `json:"gamma"`
	Neutron Modality `json:"neutron"`

	// GXCounter is the portal's occupancy number, the object counter of a portal
	// whose registers are read; null when GX was lost, or no object was counted.
	GXCounter *int `json:"gx_counter"`
	// NeutronBgCPS is the neutron background in counts per second as GX tells
	// it (its field is in 1/1000 counts per second); null when GX was lost.
	NeutronBgCPS *float64 `json:"neutron_bg_cps"`
	// StartTS is when the first record of the occupancy arrived.
	StartTS Time `json:"start_ts"`
	// EndTS is when GX arrived, or when the agent gave the occupancy up.
	EndTS Time `json:"end_ts"`
	// FirstSampleTS is when the measurement of the first gamma sample began. It
	// lies before StartTS, because the portal sends samples from before the beam
	// was cut; the same as StartTS when there is no gamma sample.
	FirstSampleTS Time `json:"first_sample_ts"`
	// DurationS is from StartTS to EndTS in seconds, by the monotonic clock.
	DurationS float64 `json:"duration_s"`
	// GammaAlarm and NeutronAlarm are the portal's own alarms, latched.
	GammaAlarm   bool `json:"gamma_alarm"`
	NeutronAlarm bool `json:"neutron_alarm"`
	// GammaSamples counts gamma samples of 200 ms, GammaAlarmSamples those which
	// the portal marked as alarming. Of a portal whose registers are read a sample
	// is one look at them.
	GammaSamples      int `json:"gamma_samples"`
	GammaAlarmSamples int `json:"gamma_alarm_samples"`
	// NeutronSamples counts neutron samples of 1 s, NeutronAlarmSamples those
	// marked as alarming, NeutronCounts the counts in all of them. Of a portal
	// whose registers are read a sample is one look, and NeutronCounts the highest
	// count that it told.
	NeutronSamples      int `json:"neutron_samples"`
	NeutronAlarmSamples int `json:"neutron_alarm_samples"`
	NeutronCounts       int `json:"neutron_counts"`
	// GammaBgSumCPS is the frozen gamma background, summed over the detectors,
	// in counts per second; null when no background was seen before.
	GammaBgSumCPS *int `json:"gamma_bg_sum_cps"`
	// GammaMax5SampleSum is the highest sum of five samples in a row (one
	// second) over all detectors; null with fewer than five samples.
	GammaMax5SampleSum *int `json:"gamma_max_5sample_sum"`
	// GammaMaxNSigma is (GammaMax5SampleSum - B) / sqrt(B) with
	// B = GammaBgSumCPS, rounded to three decimals; null without both.
	GammaMaxNSigma *float64 `json:"gamma_max_nsigma"`
	// Direction says which way it went, by the portal's own sides: "0_to_1" or
	// "1_to_0"; left out if the portal does not tell.
	Direction string `json:"direction,omitempty" jsonschema:"enum=0_to_1,enum=1_to_0"`
	// ObjectMark is what the portal says of the object, its wheels perhaps; left
	// out if it says nothing.
	ObjectMark *int `json:"object_mark,omitempty"`
	// Reported holds, by name, figures of a portal whose registers are read, in the
	// portal's own units: of counts the highest, of backgrounds and variances those
	// at the beginning.
	Reported map[string]float64 `json:"reported,omitempty"`
	// Signals names the bits of a portal whose registers are read that were set at any time in the
	// occupancy: of its "inputs" and "outputs", and of the "gamma_status" and
	// "neutron_status". One without a known meaning is written as its number, 0x4000 for
	// instance.
	Signals map[string][]string `json:"signals,omitempty"`
	// SpeedRecords counts speed records, SpeedsKPH lists them all in km/h.
	SpeedRecords int       `json:"speed_records"`
	SpeedsKPH    []float64 `json:"speeds_kph"`
	// SpeedKPH is the median of the plausible speeds in km/h; null when there is
	// none.
	SpeedKPH *float64 `json:"speed_kph"`

	// Recomputed is the agent's own judgement with the portal's algorithm; null
	// when there is nothing to judge by.
	Recomputed *Recomputed `json:"recomputed"`
	// Baseline sets the occupancy against the slow baseline; null when there is
	// none.
	Baseline *Baseline `json:"baseline"`
	// GammaSeries holds the gamma samples in order, NeutronSeries the neutron
	// samples. Both are bounded; SeriesTruncated says that samples are missing
	// from them (the figures above still cover all).
	GammaSeries     []Sample `json:"gamma_series"`
	NeutronSeries   []Sample `json:"neutron_series"`
	SeriesTruncated bool     `json:"series_truncated"`
	// Raw is what the portal sent from the first record of the occupancy to the
	// last.
	Raw Raw `json:"raw"`
}

// Sample is one sample of all detectors.
type Sample struct {
	// OffsetS is when the measurement of the sample began, in seconds after the
	// occupancy's start; negative for the samples from before the beam was cut.
	OffsetS float64 `json:"t"`
	// Counts holds the counts of each detector: in 200 ms for gamma, in 1 s for
	// neutrons. Of a portal whose registers are read it is the one count that it
	// tells of all of them.
	Counts []int `json:"counts"`
	// Alarm is the portal's own mark on the sample.
	Alarm bool `json:"alarm"`
}

// Recomputed is the agent's repetition of the portal's gamma alarm test over
// each group of detectors: a sample alarms if the sum of the last Intervals
// samples reaches B + NSigma * sqrt(B), with B the frozen background.
type Recomputed struct {
	// NSigma and Intervals are the settings used.
	NSigma    float64 `json:"nsigma"`
	Intervals int     `json:"intervals"`
	// Source tells where the settings came from: "setup" (the portal's own
	// report) or "profile".
	Source string `json:"source" jsonschema:"enum=setup,enum=profile"`
	// Groups holds each group of detectors that the portal's algorithm looks at.
	Groups []GroupSigma `json:"groups"`
	// AlarmSamples counts the samples for which any group alarms by the agent's
	// own reckoning.
	AlarmSamples int `json:"alarm_samples"`
	// DisagreeingSamples counts samples on which the portal and the agent
	// differ. BorderlineSamples of them lie within two counts of the threshold.
	DisagreeingSamples int `json:"disagreeing_samples"`
	BorderlineSamples  int `json:"borderline_samples"`
	// Agrees is true when portal and agent come to the same latched alarm.
	Agrees bool `json:"agrees"`
}

// GroupSigma is the strongest moment of one group of detectors.
type GroupSigma struct {
	// Group names the group: "sum" is all detectors, "vertical" the two of one
	// pillar, "horizontal" a pair across the lane, "single" one alone.
	Group string `json:"group" jsonschema:"enum=sum,enum=vertical-1,enum=vertical-2,enum=horizontal-1,enum=horizontal-2,enum=single-1,enum=single-2,enum=single-3,enum=single-4"`
	// Detectors are the labels of its detectors.
	Detectors []string `json:"detectors"`
	// BgCPS is the group's frozen background in counts per second.
	BgCPS int `json:"bg_cps"`
	// MaxSum is the highest sum of as many samples in a row as the settings'
	// intervals say.
	MaxSum int `json:"max_sum"`
	// MaxNSigma is that sum's distance from the background in units of its
	// square root, rounded to three decimals; null with no background.
	MaxNSigma *float64 `json:"max_nsigma"`
	// AlarmSamples counts the samples at which the group alarms.
	AlarmSamples int `json:"alarm_samples"`
}

// Baseline sets the highest five-sample sum against the median of the gamma
// background of the last half hour. A vehicle that stands beside the portal
// drags the portal's own 20 s background down, and the next one seems hotter
// than it is; this shows it. It never suppresses the portal's alarm.
type Baseline struct {
	// BaselineCPS is the median background over the window, all detectors.
	BaselineCPS float64 `json:"baseline_cps"`
	// WindowS is how many seconds of background it rests on, at most 1800.
	WindowS float64 `json:"window_s"`
	// MaxNSigma is the highest five-sample sum against it, rounded to three
	// decimals; null without one.
	MaxNSigma *float64 `json:"max_nsigma"`
	// BackgroundDepressed is true when the frozen background lies well under
	// the baseline.
	BackgroundDepressed bool `json:"background_depressed"`
}

// RadiationAlarm is sent at the onset of an alarm, while the vehicle is still
// in the portal. The occupancy's summary repeats it.
type RadiationAlarm struct {
	// OccupancyID is the id that the occupancy's summary will bear.
	OccupancyID string `json:"occupancy_id"`
	// Kind is "gamma" or "neutron".
	Kind string `json:"kind" jsonschema:"enum=gamma,enum=neutron"`
	// Counts is the alarming sample, one value for each detector, and Detectors
	// their labels.
	Counts    []int    `json:"counts"`
	Detectors []string `json:"detectors"`
	// Sum is, for gamma, the sum of the last five samples (as many as there are)
	// and for neutron the counts of the alarming sample. Of a portal whose
	// registers are read it is the count that it tells.
	Sum int `json:"sum"`
	// Status names the bits of the channel's status that were set with the alarm,
	// of a portal that has them: alarm1, alarm2, ready, n0 to n7 and others.
	Status []string `json:"status,omitempty"`
	// Reported holds figures by name in the portal's own units, of a portal whose
	// registers are read.
	Reported map[string]float64 `json:"reported,omitempty"`
	// BgSumCPS is the frozen background in counts per second; null if unknown.
	BgSumCPS *float64 `json:"bg_sum_cps"`
	// NSigma is the sum's distance from the background, for gamma; null if
	// unknown, and with fewer than five samples.
	NSigma *float64 `json:"nsigma"`
	// Raw is the record that alarmed.
	Raw Raw `json:"raw"`
}

// RadiationBackground is the background of a free portal, thinned: one event
// per interval covers Records background records.
type RadiationBackground struct {
	// IntervalS is the time covered, in seconds.
	IntervalS float64 `json:"interval_s"`
	// Records counts the gamma background records in the interval, or the looks at
	// a portal's registers.
	Records int `json:"records"`
	// GammaCPS is the mean gamma background per detector in counts per second;
	// empty when there was no record, or the portal's unit is not known.
	GammaCPS []float64 `json:"gamma_cps"`
	// GammaSumMinCPS and GammaSumMaxCPS bound the sum over all detectors, in
	// counts per second. Both are zero when GammaCPS is empty.
	GammaSumMinCPS int `json:"gamma_sum_min_cps"`
	GammaSumMaxCPS int `json:"gamma_sum_max_cps"`
	// NeutronCPS is the mean neutron background per detector in counts per
	// second; empty when there was no record. The classic record cuts it to whole
	// numbers, so zero is healthy; NeutronExact is true when the portal sends the
	// uncut record.
	NeutronCPS   []float64 `json:"neutron_cps"`
	NeutronExact bool      `json:"neutron_exact"`
	// BaselineCPS is the slow baseline over all detectors, in counts per second;
	// null before the first record.
	BaselineCPS *float64 `json:"baseline_cps"`
	// Reported holds, by name, the means over the interval of what a portal tells
	// in its own units whose registers are read.
	Reported map[string]float64 `json:"reported,omitempty"`
	// Signals names the bits of a portal whose registers are read that were set at any time in the
	// interval: of its "inputs" and "outputs", and of the "gamma_status" and
	// "neutron_status". One without a known meaning is written as its number, 0x4000 for
	// instance.
	Signals map[string][]string `json:"signals,omitempty"`
	// Detectors are the labels of the detectors, in the order of the values.
	Detectors []string `json:"detectors"`
	// Gamma and Neutron tell what is known of each kind of detector; a fault in a part of the
	// interval counts, and what was measured in that part is in no mean.
	Gamma   Modality `json:"gamma"`
	Neutron Modality `json:"neutron"`
	// Raw holds the last records of the interval, one of each kind.
	Raw Raw `json:"raw"`
}

// RadiationFault is a fault that a portal or another radiation instrument reports, on each
// edge.
type RadiationFault struct {
	// Kind is "gamma_high", "gamma_low", "neutron_high" or "neutron_low" for a background that
	// the portal takes for a detector's fault, "gamma_overload" and "neutron_overload" for more
	// than the detectors can measure, "gamma_not_ready" and "neutron_not_ready" for detectors
	// that do not measure yet or any more; "detector" (the instrument says that its detector
	// fails), "failure" (it says that it fails), "error" and "reset" (as it calls them),
	// "battery_low", "external_power" (it has none), "monitor_off" (it says that it does not
	// watch), "ac_lost" (a pillar has no alternating current), "frozen" (it tells the very same
	// for too long; the agent notices that itself).
	Kind string `json:"kind" jsonschema:"enum=gamma_high,enum=gamma_low,enum=neutron_high,enum=gamma_overload,enum=gamma_not_ready,enum=neutron_low,enum=neutron_overload,enum=neutron_not_ready,enum=detector,enum=failure,enum=error,enum=reset,enum=battery_low,enum=external_power,enum=monitor_off,enum=ac_lost,enum=frozen"`
	// State is "raised" or "cleared".
	State string `json:"state" jsonschema:"enum=raised,enum=cleared"`
	// Changes says how often it came and went since the last event of it, if that was more than
	// once: of what flickers not every edge is told.
	Changes int `json:"changes,omitempty"`
	// Code is the instrument's own code of it, if it has one.
	Code string `json:"code,omitempty"`
	// CPS is the background record that told it, per detector in counts per
	// second; empty for a fault that no background told.
	CPS []int `json:"cps"`
	// Detectors are the labels of the detectors, in the order of the values; of a fault that
	// no background told, those that it is about, a pillar for instance.
	Detectors []string `json:"detectors"`
	// Raw is the record that told it.
	Raw Raw `json:"raw"`
}

// RadiationTamper is the portal's tamper contact, on each edge.
type RadiationTamper struct {
	// State is "on" or "clear".
	State string `json:"state" jsonschema:"enum=on,enum=clear"`
	// Changes says how often it changed since the last event, if that was more than once: of a
	// loose contact not every edge is told.
	Changes int `json:"changes,omitempty"`
	// Raw is the record that told it.
	Raw Raw `json:"raw"`
}

// RadiationSetupChanged says that the portal reported settings, and which of
// them differ from what was known before. Thresholds decide what alarms, so an
// unannounced change matters.
type RadiationSetupChanged struct {
	// First is true for the first report since the agent started: the changes
	// are then against the profile.
	First bool `json:"first"`
	// Changes lists the differing fields.
	Changes []SetupChange `json:"changes"`
	// Setup holds every reported field by name, as text.
	Setup map[string]string `json:"setup"`
	// Raw holds the records of the report.
	Raw Raw `json:"raw"`
}

// SetupChange is one setting that differs.
type SetupChange struct {
	// Name is the name of the setting, as in the event's setup.
	Name string `json:"name"`
	// Before is what was known, After what is reported now, both as text.
	Before string `json:"before"`
	After  string `json:"after"`
}

// Kinds of RadiationDiagnostic.
const (
	// DiagGXOrphan: an end of occupancy came with no occupancy open.
	DiagGXOrphan = "gx_orphan"
	// DiagGXCounterReset: the portal's occupancy counter restarted.
	DiagGXCounterReset = "gx_counter_reset"
	// DiagGXCounterJump: the counter skipped numbers, so occupancies passed
	// that the agent did not see.
	DiagGXCounterJump = "gx_counter_jump"
	// DiagSpeedOrphan: a speed record came with no occupancy.
	DiagSpeedOrphan = "speed_orphan"
	// DiagAlarmMismatch: the portal's alarm and the agent's recomputation
	// differ. Thresholds in profile and portal may differ.
	DiagAlarmMismatch = "alarm_mismatch"
	// DiagBackgroundMissing: an occupancy began before any background was seen.
	DiagBackgroundMissing = "background_missing"
	// DiagObjectCounterJump: the portal counted objects that the agent did not
	// see.
	DiagObjectCounterJump = "object_counter_jump"
	// DiagObjectCounterReset: the portal's object counter was set back, so how many
	// objects were not seen is not known.
	DiagObjectCounterReset = "object_counter_reset"
	// DiagLooksLate: the portal's registers were read too seldom for a while; what
	// they told in between is lost.
	DiagLooksLate = "looks_late"
	// DiagRegistersMissing: some of the portal's registers can't be read.
	DiagRegistersMissing = "registers_missing"
	// DiagRegisterMap: what the portal says of its registers can't be, or it says
	// nothing any more, and the usual ones were read.
	DiagRegisterMap = "register_map"
	// DiagAlarmOutput: the portal's alarm output was on in an occupancy in which
	// neither of its channels alarmed.
	DiagAlarmOutput = "alarm_output"
	// DiagOccupancyStuck: an occupancy input has been set for so long that vehicles can't be
	// told apart by it; or it is not any more.
	DiagOccupancyStuck = "occupancy_stuck"
	// DiagButton: somebody pressed the portal's button.
	DiagButton = "button"
)

// RadiationDiagnostic reports something about a portal that a person should
// look at, and that is neither an alarm nor a fault.
type RadiationDiagnostic struct {
	// Kind tells what it is about.
	Kind string `json:"kind" jsonschema:"enum=gx_orphan,enum=gx_counter_reset,enum=gx_counter_jump,enum=speed_orphan,enum=alarm_mismatch,enum=background_missing,enum=object_counter_jump,enum=object_counter_reset,enum=looks_late,enum=registers_missing,enum=register_map,enum=alarm_output,enum=occupancy_stuck,enum=button"`
	// OccupancyID is the occupancy that it is about, if it is about one.
	OccupancyID string `json:"occupancy_id,omitempty"`
	// Detail says in words what was seen and what to do.
	Detail string `json:"detail"`
	// Values holds the numbers behind it, by name.
	Values map[string]float64 `json:"values,omitempty"`
	// Raw is the record that gave rise to it.
	Raw Raw `json:"raw"`
}

// Type implements Data.
func (RadiationOccupancy) Type() string    { return "lanepost.radiation.occupancy.v1" }
func (RadiationAlarm) Type() string        { return "lanepost.radiation.alarm.v1" }
func (RadiationBackground) Type() string   { return "lanepost.radiation.background.v1" }
func (RadiationFault) Type() string        { return "lanepost.radiation.fault.v1" }
func (RadiationTamper) Type() string       { return "lanepost.radiation.tamper.v1" }
func (RadiationSetupChanged) Type() string { return "lanepost.radiation.setup-changed.v1" }
func (RadiationDiagnostic) Type() string   { return "lanepost.radiation.diagnostic.v1" }

// Class implements Data. An occupancy that can't be called free of alarms
// travels as urgently as one with an alarm.
func (o RadiationOccupancy) Class() Class {
	if o.Outcome == OutcomeNoAlarm {
		return Routine
	}
	return Urgent
}
func (RadiationAlarm) Class() Class        { return Urgent }
func (RadiationBackground) Class() Class   { return Routine }
func (RadiationFault) Class() Class        { return Urgent }
func (RadiationTamper) Class() Class       { return Urgent }
func (RadiationSetupChanged) Class() Class { return Urgent }

// Class implements Data. That a vehicle passed unseen, or that an alarm does not agree
// with what was counted, is for whoever decides about the vehicle now.
func (d RadiationDiagnostic) Class() Class {
	switch d.Kind {
	case DiagGXCounterJump, DiagObjectCounterJump, DiagObjectCounterReset, DiagLooksLate, DiagAlarmMismatch, DiagAlarmOutput, DiagOccupancyStuck:
		return Urgent
	}
	return Routine
}
