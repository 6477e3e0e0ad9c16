// Package n42 reads and writes ANSI N42.42, the XML in which radiation instruments tell
// what they have measured and found: both generations, that of 2006 and that of 2012, which
// is also IEC 62755. It does no I/O.
//
// Where the facts come from: the examples of the standard's annexes that NIST publishes,
// documents of instruments, and public descriptions of how readers of others treat them.
package n42

import (
	"math"
	"time"
)

// Bounds of a document.
const (
	// MaxBytes bounds a document, in bytes, unless Options says otherwise. A passage of a
	// spectroscopic portal has about 3 MB.
	MaxBytes = 16 << 20
	// MaxDepth bounds how many elements are inside each other.
	MaxDepth = 64
	// MaxElements bounds how many elements there are.
	MaxElements = 1 << 20
	// MaxChannels bounds the channels of one spectrum, as the standard does.
	MaxChannels = 65536
	// MaxTotalChannels bounds the channels of all spectra of a document: a run of zeros
	// takes few bytes, and many channels.
	MaxTotalChannels = 4 << 20
	// MaxSlices bounds the measurements of a document, and the detectors, calibrations,
	// spectra of a measurement, analyses and nuclides.
	MaxSlices = 20000
	// MaxText bounds one text, in bytes; of a longer one the beginning is kept.
	MaxText = 2048
	// maxFlags bounds the flags of a document.
	maxFlags = 64
)

// Generation is the edition of the standard that a document is written by.
type Generation string

// The editions.
const (
	Edition2006 Generation = "2006"
	Edition2012 Generation = "2012"
)

// Classes of a measurement.
const (
	Background        = "Background"
	Foreground        = "Foreground"
	Calibration       = "Calibration"
	IntrinsicActivity = "IntrinsicActivity"
	NotSpecified      = "NotSpecified"
)

// Document is what one document tells.
type Document struct {
	Generation Generation
	// Wrapper is the name of the element around it, "Event" or "MessageEnvelope" for
	// instance; empty if there is none.
	Wrapper string
	// EventNumber is the number that the wrapper gives.
	EventNumber string
	// UUID may be empty, and the same in many documents.
	UUID string
	// Creator is the software that wrote it.
	Creator string
	// Remarks are what people or programs wrote; they may name persons.
	Remarks []string

	Instrument   Instrument
	Detectors    []Detector
	Items        []Item
	Calibrations []EnergyCalibration
	Windows      []EnergyWindows
	Groups       []string // the ids of measurement groups
	Measurements []Measurement
	Analyses     []Analysis
	// Faults are those that belong to no measurement: of the instrument (2006), of an
	// analysis.
	Faults []Fault

	// Flags are what is wrong or uncertain in it though it could be read.
	Flags []Flag
}

// What a Flag tells.
const (
	FlagNoZone         = "no_zone"          // a time without a zone; that of Options was taken
	FlagTime           = "time_unreadable"  // a time that is none
	FlagDayFirst       = "date_order"       // a date whose order of day and month is an assumption
	FlagDuration       = "duration_unread"  // a duration that is none
	FlagRealZero       = "real_time_zero"   // nothing may be divided by it
	FlagLiveZero       = "live_time_zero"   // nothing may be divided by it
	FlagLiveMissing    = "live_missing"     // a spectrum or count without a live time
	FlagLiveOverReal   = "live_over_real"   // a live time that is longer than the real time
	FlagSpectrum       = "spectrum_unread"  // channels that can't be read
	FlagCounts         = "counts_unread"    // gross counts that can't be read
	FlagZeroesCut      = "zeroes_cut"       // a 0 at the end with no length of its run
	FlagZeroesDouble   = "zeroes_double"    // a run of no zeros
	FlagCompression    = "compression"      // a compression that is not known
	FlagDoseUnit       = "dose_unit"        // a dose rate in a unit that can't be converted
	FlagNumber         = "number_unread"    // another number that is none
	FlagTextCut        = "text_cut"         // a text that is too long
	FlagOccupancy      = "occupancy_unread" // an occupancy that is neither true nor false
	FlagReference      = "reference"        // a detector that is not described
	FlagMoreOfThem     = "more_flags"       // there are more flags than are kept
	FlagMeasured       = "measured_unread"  // something that was measured, of a kind that is not taken
	FlagAnalysis       = "analysis_unread"  // something in the results of an analysis that is not understood
	FlagConfidenceText = "confidence_text"  // a confidence that is no number
)

// Flag is one thing that is wrong or uncertain.
type Flag struct {
	Code string
	// Where is the id of the measurement or the spectrum, if it has one.
	Where string
	// Detail says it in words.
	Detail string
}

// Instrument describes the instrument.
type Instrument struct {
	ID           string
	Manufacturer string
	Model        string
	Serial       string
	Description  string
	// Class is as the document says, for instance "Spectroscopic Portal Monitor".
	Class           string
	Versions        []Version
	Characteristics []Characteristic
	// Lane is the number of the lane (2006).
	Lane string
}

// Version is the version of one component.
type Version struct{ Component, Version string }

// Characteristic is one property; its value is as the document says.
type Characteristic struct{ Name, Value, Unit string }

// Detector describes one detector.
type Detector struct {
	ID, Name string
	// Category is "Gamma", "Neutron" or another, Kind "NaI", "PVT", "He3" or another.
	Category, Kind, Description string
}

// Item is what was measured: a vehicle, a container. What it says is personal.
type Item struct {
	ID, Description string
	Characteristics []Characteristic
}

// EnergyCalibration says which energy a channel has, in keV.
type EnergyCalibration struct {
	ID string
	// Coefficients are of a polynomial in the channel, the constant first.
	Coefficients []float64
	// Boundaries are the lower energies of the channels, and the upper one of the last.
	Boundaries []float64
}

// EnergyWindows are the windows of gross counts, in keV.
type EnergyWindows struct {
	ID         string
	Start, End []float64
}

// Time is a moment as the document tells it.
type Time struct {
	Raw string
	// At is zero if Raw could not be read.
	At time.Time
}

// Duration is a time span as the document tells it.
type Duration struct {
	Raw string
	// Seconds is valid if Known.
	Seconds float64
	Known   bool
}

// Measurement is one time slice.
type Measurement struct {
	ID string
	// Groups are the ids of the measurement groups that it belongs to.
	Groups []string
	// Derived is true for what the instrument has computed of others, sums for instance.
	Derived bool
	// Class is one of the classes; ClassRaw is what stands there.
	Class, ClassRaw string
	// Occupied is nil if the document does not say. It goes before Class: portals mark
	// occupied slices as background too.
	Occupied   *bool
	Start      Time
	Real       Duration
	Spectra    []Spectrum
	Counts     []GrossCounts
	DoseRates  []DoseRate
	Faults     []Fault
	Remarks    []string
	SpeedMS    *float64 // of the item or the instrument, in m/s
	Latitude   *float64 // in degrees
	Longitude  *float64
	Properties []Characteristic // of the instrument's state
}

// Spectrum is one spectrum. A measurement may have the same counts in several, by
// different calibrations: they must not be added.
type Spectrum struct {
	ID, Detector, Calibration string
	Live                      Duration
	// Real is that of the spectrum alone (2006), else not known.
	Real Duration
	// Counts has the channels; nil if they can't be read, with a flag.
	Counts []float64
	// Start and ClassRaw are those of the spectrum alone (2006).
	Start    Time
	ClassRaw string
}

// Total is the sum of the channels.
func (s *Spectrum) Total() (sum float64) {
	for _, c := range s.Counts {
		sum += c
	}
	return sum
}

// GrossCounts are counts without energies, or in a few windows.
type GrossCounts struct {
	ID, Detector, Windows string
	Live                  Duration
	Counts                []float64
}

// Total is the sum of the windows. Windows may overlap: then it is no count of events.
func (g *GrossCounts) Total() (sum float64) {
	for _, c := range g.Counts {
		sum += c
	}
	return sum
}

// Rate is counts by a time span, in 1/s; ok is false if the span is not known or nothing
// may be divided by it.
func Rate(counts float64, live Duration) (perSecond float64, ok bool) {
	if !live.Known || live.Seconds <= 0 {
		return 0, false
	}
	perSecond = counts / live.Seconds
	return perSecond, !math.IsInf(perSecond, 0)
}

// DoseRate is an ambient dose equivalent rate.
type DoseRate struct {
	ID, Detector string
	// Raw and Unit are what the document says; MicroSvH is that in µSv/h, nil if the unit
	// can't be converted.
	Raw, Unit string
	MicroSvH  *float64
	Level     string
}

// Fault is what the instrument says is wrong with it.
type Fault struct{ Code, Description, Severity string }

// Analysis is what the instrument has found.
type Analysis struct {
	// Measurements are the ids of those that it is about, Groups those of the measurement
	// groups that it is about. Mostly one of both is empty.
	Measurements []string
	Groups       []string
	Start        Time
	Algorithm    string
	// Status is what the document says of how it went, "Success" or "Failure"; mostly empty.
	Status      string
	Description string
	Remarks     []string
	Alarms      []Alarm
	// Identified is true if the analysis looked for nuclides, whether or not there are any.
	Identified bool
	Nuclides   []Nuclide
}

// Alarm is one alarm.
type Alarm struct {
	// Category is as the document says: "Gamma", "Neutron", "Isotope" and others.
	Category, Description, Light string
	Detectors                    []string
	Start                        Time
	Remarks                      []string
}

// Nuclide is one nuclide that the instrument names.
type Nuclide struct {
	Name string
	// Indicator says whether it is identified; nil if the document does not say, as those of
	// 2006.
	Indicator *bool
	// Confidence is as the document says; its scale is not fixed. ConfidenceText is a word
	// for it.
	Confidence, ConfidenceText string
	// Category is "SNM", "NORM", "Industrial", "Medical" or another.
	Category string
	// Activity and its unit are as the document says; ActivityBq is nil if that can't be
	// converted.
	Activity, ActivityUnit string
	ActivityBq             *float64
}

// Outcome sums up the analyses of a document.
type Outcome string

// The outcomes. Only Identified and NothingIdentified say that an analysis came to an end.
const (
	OutcomeIdentified        Outcome = "identified"
	OutcomeNothingIdentified Outcome = "nothing_identified"
	OutcomeNotAnalysed       Outcome = "not_analysed"
	OutcomeFailed            Outcome = "failed"
)

// Outcome gives the outcome. A nuclide counts unless the document says that it is not
// identified. One analysis that failed is told, if no other has identified anything.
func (d *Document) Outcome() Outcome {
	outcome := OutcomeNotAnalysed
	for i := range d.Analyses {
		a := &d.Analyses[i]
		for _, n := range a.Nuclides {
			if n.Indicator == nil || *n.Indicator {
				return OutcomeIdentified
			}
		}
		switch {
		case failed(a.Status):
			outcome = OutcomeFailed
		case a.Identified && outcome == OutcomeNotAnalysed:
			outcome = OutcomeNothingIdentified
		}
	}
	return outcome
}

// Alarmed reports whether the document has an alarm.
func (d *Document) Alarmed() bool {
	for i := range d.Analyses {
		if len(d.Analyses[i].Alarms) > 0 {
			return true
		}
	}
	return false
}

// Occupied is true if one of the measurements is of an occupied portal, false if all that
// say so are not, and nil if none says.
func (d *Document) Occupied() *bool {
	var is *bool
	for i := range d.Measurements {
		if o := d.Measurements[i].Occupied; o != nil && (is == nil || *o) {
			is = o
		}
	}
	return is
}
