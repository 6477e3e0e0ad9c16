package event

// What the analysis of an instrument that identifies nuclides came to. Only the first two
// say that it came to an end.
const (
	// NuclidesIdentified: the instrument names at least one nuclide.
	NuclidesIdentified = "identified"
	// NothingIdentified: it looked for nuclides and names none. That is no statement that
	// nothing is there.
	NothingIdentified = "nothing_identified"
	// NotAnalysed: it has not looked for nuclides.
	NotAnalysed = "not_analysed"
	// AnalysisFailed: it says that its analysis failed.
	AnalysisFailed = "failed"
)

// RadiationIdentification is what an instrument that identifies nuclides has found: one
// document with an alarm or the result of an analysis.
//
// What names persons or goods stands in private only; the document itself is attached.
type RadiationIdentification struct {
	// IdentificationID is the agent's own id (UUIDv7), also the event's subject.
	IdentificationID string `json:"identification_id"`
	// Outcome is "identified", "nothing_identified", "not_analysed" or "failed". None of
	// them means that a vehicle is clear.
	Outcome string `json:"outcome" jsonschema:"enum=identified,enum=nothing_identified,enum=not_analysed,enum=failed"`
	// Alarms are the instrument's own, in its order.
	Alarms []InstrumentAlarm `json:"alarms"`
	// Nuclides are those that the instrument names, in its order; those that it lists and
	// says are not identified too.
	Nuclides []Nuclide `json:"nuclides"`
	// Occupied is what the instrument says of its occupancy sensor; null if it says nothing.
	Occupied *bool `json:"occupied"`
	// OccupancyRef is the instrument's own name of the passage, the id of its measurement
	// group for instance; empty if it has none.
	OccupancyRef string `json:"occupancy_ref"`
	// MeasuredFromTS and MeasuredToTS are when what was analysed was measured, by the
	// instrument's clock, without background measurements; null if it does not say.
	MeasuredFromTS *Time `json:"measured_from_ts"`
	MeasuredToTS   *Time `json:"measured_to_ts"`
	// Replayed is true for a document that was there before the agent looked.
	Replayed bool `json:"replayed"`
	// Instrument is the instrument, as it names itself.
	Instrument RadiationInstrument `json:"instrument"`
	// Measurements are those of the document. MeasurementsTruncated says that there are
	// more; the document has all of them.
	Measurements          []SpectralMeasurement `json:"measurements"`
	MeasurementsTruncated bool                  `json:"measurements_truncated"`
	// Faults are what the instrument says is wrong with it.
	Faults []InstrumentFault `json:"faults"`
	// Flags are what is wrong or uncertain in the document; see RadiationSpectrum.
	Flags []string `json:"flags"`
	// Document tells of the document, Attachments has it.
	Document    SpectralDocument `json:"document"`
	Attachments []Attachment     `json:"attachments"`
	// Private is what is personal: an object, or in the public form of the event the
	// hash of it.
	Private *RadiationPrivate `json:"private,omitempty"`
}

// RadiationSpectrum is what an instrument with spectra has measured without an alarm and
// without a result of an analysis: one document, or the last one of an interval.
type RadiationSpectrum struct {
	// IntervalS is the time covered, in seconds, and Documents how many documents came in
	// it; what is told below is the last one. Zero and 1 where each document is told.
	IntervalS float64 `json:"interval_s"`
	Documents int     `json:"documents" jsonschema:"minimum=1"`
	// Occupied is what the instrument says of its occupancy sensor; null if it says nothing.
	Occupied *bool `json:"occupied"`
	// Replayed is true for a document that was there before the agent looked.
	Replayed bool `json:"replayed"`
	// Instrument is the instrument, as it names itself.
	Instrument RadiationInstrument `json:"instrument"`
	// Measurements are those of the document. MeasurementsTruncated says that there are
	// more; the document has all of them.
	Measurements          []SpectralMeasurement `json:"measurements"`
	MeasurementsTruncated bool                  `json:"measurements_truncated"`
	// Faults are what the instrument says is wrong with it. FaultsChanged is true if that
	// differs from what it said before; such a document is told at once.
	Faults        []InstrumentFault `json:"faults"`
	FaultsChanged bool              `json:"faults_changed"`
	// Flags are what is wrong or uncertain in the document, each once: "no_zone" (times
	// without a zone; that of the settings was taken), "date_order" (day and month may be
	// the other way round), "time_unreadable", "duration_unread", "real_time_zero",
	// "live_time_zero", "live_missing", "live_over_real", "spectrum_unread",
	// "counts_unread", "zeroes_cut" and "zeroes_double" (odd runs of zeros), "compression",
	// "dose_unit" (one that can't be converted), "number_unread", "occupancy_unread",
	// "reference" (a detector that the document does not describe),
	// "confidence_text", "findings_cut" (there are more alarms or nuclides than the event
	// has), "measured_unread" (something measured of a kind that is not taken), "analysis_unread" (something in the results that is not
	// understood), "text_cut" and "more_flags".
	Flags []string `json:"flags"`
	// Document tells of the document, Attachments has it.
	Document    SpectralDocument `json:"document"`
	Attachments []Attachment     `json:"attachments"`
	// Private is what is personal: an object, or in the public form of the event the
	// hash of it.
	Private *RadiationPrivate `json:"private,omitempty"`
}

// InstrumentAlarm is an alarm of an instrument.
type InstrumentAlarm struct {
	// Category is the instrument's word: "Gamma", "Neutron", "Isotope" or another.
	Category string `json:"category"`
	// Description and Light are the instrument's own words, Light the colour that it shows.
	Description string `json:"description,omitempty"`
	Light       string `json:"light,omitempty"`
	// Detectors are those that alarm; empty if it does not say.
	Detectors []string `json:"detectors"`
}

// Nuclide is a nuclide that an instrument names.
type Nuclide struct {
	// Name is as the instrument writes it.
	Name string `json:"name"`
	// Identified is false for one that the instrument lists and says is not identified;
	// null if it does not say.
	Identified *bool `json:"identified"`
	// ConfidenceRaw is the confidence as the instrument writes it, empty for none, and
	// ConfidenceText its word for it. ConfidenceScale is what the number is by the agent's
	// settings: "fraction" (to 1), "percent", "ten" (to 10) or "unknown". Confidence is it
	// from 0 to 1; null if the scale is unknown or the number beyond it.
	ConfidenceRaw   string   `json:"confidence_raw"`
	ConfidenceText  string   `json:"confidence_text,omitempty"`
	ConfidenceScale string   `json:"confidence_scale" jsonschema:"enum=fraction,enum=percent,enum=ten,enum=unknown"`
	Confidence      *float64 `json:"confidence" jsonschema:"minimum=0,maximum=1"`
	// Category is the instrument's word: "SNM", "NORM", "Industrial", "Medical" or another;
	// empty for none.
	Category string `json:"category"`
	// ActivityBq is the activity in becquerel; null if it tells none or its unit can't be
	// converted. ActivityRaw is as the instrument writes it, with its unit.
	ActivityBq  *float64 `json:"activity_bq"`
	ActivityRaw string   `json:"activity_raw,omitempty"`
}

// RadiationInstrument is an instrument, as it names itself.
type RadiationInstrument struct {
	// Manufacturer, Model, Serial and Software are its own words; empty if it tells none.
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Serial       string `json:"serial"`
	Software     string `json:"software,omitempty"`
	// ClassRaw is what kind of instrument it is, in its words.
	ClassRaw string `json:"class_raw"`
	// BatteryPercent is the charge of its battery; null if it tells none.
	BatteryPercent *float64 `json:"battery_percent"`
}

// SpectralMeasurement is one measurement of one detector. A document may have the same
// counts in two of them, by different calibrations: do not add them up.
type SpectralMeasurement struct {
	// ID is the instrument's own.
	ID string `json:"id"`
	// Kind is "spectrum", "counts" (in all, or in a few windows of energy) or "dose_rate".
	Kind string `json:"kind" jsonschema:"enum=spectrum,enum=counts,enum=dose_rate"`
	// Class is "Background", "Foreground", "Calibration", "IntrinsicActivity" or
	// "NotSpecified", as the instrument says. Portals call occupied slices background too:
	// Occupied goes before it.
	Class    string `json:"class"`
	Occupied *bool  `json:"occupied"`
	// Derived is true for what the instrument has computed of other measurements.
	Derived bool `json:"derived"`
	// Detector is its id, and Category what it detects, "Gamma" or "Neutron" for instance.
	Detector string `json:"detector"`
	Category string `json:"category"`
	// StartTS is by the instrument's clock; null if it can't be read.
	StartTS *Time `json:"start_ts"`
	// RealS and LiveS are the real and the live time in seconds; null if not known.
	RealS *float64 `json:"real_s"`
	LiveS *float64 `json:"live_s"`
	// Channels is how many channels or windows there are, TotalCounts the sum of them; null
	// if they can't be read. CPS is that by the live time, in counts per second; null if
	// nothing may be divided by it.
	Channels    int      `json:"channels"`
	TotalCounts *float64 `json:"total_counts"`
	CPS         *float64 `json:"cps"`
	// DoseRateUSVH is a dose rate in µSv/h; null if there is none, or its unit can't be
	// converted. DoseRateRaw is as the instrument writes it, with its unit.
	DoseRateUSVH *float64 `json:"dose_rate_usv_h"`
	DoseRateRaw  string   `json:"dose_rate_raw,omitempty"`
}

// InstrumentFault is what an instrument says is wrong with it, in its words.
type InstrumentFault struct {
	// Code is its number or name of the fault.
	Code string `json:"code"`
	// Severity is "Warning", "Error", "Fatal" or another.
	Severity string `json:"severity"`
	// Description says it in words.
	Description string `json:"description"`
}

// SpectralDocument tells of a document.
type SpectralDocument struct {
	// Format is "n42-2006" or "n42-2012".
	Format string `json:"format" jsonschema:"enum=n42-2006,enum=n42-2012"`
	// UUID is the document's own id. It may be empty, and the same in many documents.
	UUID string `json:"uuid"`
	// Name is the name of the file; empty for one that came another way.
	Name string `json:"name"`
	// Size is its size in bytes, SHA256 its hash in lower-case hexadecimal.
	Size   int    `json:"size"`
	SHA256 string `json:"sha256" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Wrapper is the element around it, "Event" for instance; absent if there is none.
	Wrapper string `json:"wrapper,omitempty"`
}

// RadiationPrivate is what is personal in a document of an instrument.
type RadiationPrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// Remarks are what people or programs wrote into it.
	Remarks []string `json:"remarks"`
	// Items are what it says of what was measured, a container's number or a manifest for
	// instance, and Properties what it says of the instrument, an operator's name for
	// instance.
	Items      []Property `json:"items"`
	Properties []Property `json:"properties"`
	// Latitude and Longitude are where the instrument was, in degrees; null if it does not
	// say.
	Latitude  *float64 `json:"latitude" jsonschema:"minimum=-90,maximum=90"`
	Longitude *float64 `json:"longitude" jsonschema:"minimum=-180,maximum=180"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// Property is a name and what a document says under it.
type Property struct {
	// Name is the document's name for it.
	Name string `json:"name"`
	// Value is what stands there.
	Value string `json:"value"`
}

// Type implements Data.
func (RadiationIdentification) Type() string { return "lanepost.radiation.identification.v1" }
func (RadiationSpectrum) Type() string       { return "lanepost.radiation.spectrum.v1" }

// Class implements Data. Only that nothing was identified, without an alarm and a fault of
// the analysis, can wait.
func (i RadiationIdentification) Class() Class {
	if i.Outcome == NothingIdentified && len(i.Alarms) == 0 {
		return Routine
	}
	return Urgent
}

// Class implements Data. A fault that is new, or gone, is urgent.
func (s RadiationSpectrum) Class() Class {
	if s.FaultsChanged {
		return Urgent
	}
	return Routine
}

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p RadiationPrivate) MarshalJSON() ([]byte, error) {
	type object RadiationPrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *RadiationPrivate) UnmarshalJSON(b []byte) error {
	type object RadiationPrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = RadiationPrivate(o)
	return err
}
