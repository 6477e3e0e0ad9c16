package event

// What an X-ray scan was made for.
const (
	// ScanOperational: a vehicle was inspected.
	ScanOperational = "operational"
	// ScanTraining, ScanReference and ScanTest: a drill, a picture to compare with, a
	// test of the scanner. None of them ever raises an alarm.
	ScanTraining  = "training"
	ScanReference = "reference"
	ScanTest      = "test"
	// ScanNonOperational: the scanner says that it was no inspection, and not what.
	ScanNonOperational = "non_operational"
)

// What came of the inspection of a scan.
const (
	// DecisionSuspicious: a person or a machine found something.
	DecisionSuspicious = "suspicious"
	// DecisionNothingFound: somebody has looked, and found nothing. Nothing else is
	// ever called so.
	DecisionNothingFound = "nothing_found"
	// DecisionPending: nobody has looked yet.
	DecisionPending = "pending"
	// DecisionUnknown: somebody has looked, and what he said can't be understood by
	// the settings.
	DecisionUnknown = "unknown"
)

// XrayScan is one scan of a vehicle, as far as the scanner has told of it. A scanner
// writes it anew when an operator has looked, and when a file comes late: each time is a
// revision, an event of its own.
//
// The plates, and what the scanner wrote, stand in private only.
type XrayScan struct {
	// ScanID is the scanner's own id of the scan, also the event's subject.
	ScanID string `json:"scan_id"`
	// Revision counts from 1. A later one stands in place of an earlier one.
	Revision int `json:"revision" jsonschema:"minimum=1"`
	// Supersedes is the id of the event of the revision before; absent for the first.
	Supersedes string `json:"supersedes,omitempty"`
	// Completeness is "complete", or "partial" if files that the scanner names have not
	// come in time. They make a later revision if they come.
	Completeness string `json:"completeness" jsonschema:"enum=complete,enum=partial"`
	// Missing are the files that have not come, or not to their end.
	Missing []string `json:"missing"`
	// Mode is what the scan was made for. Only an operational one is an inspection.
	Mode string `json:"mode" jsonschema:"enum=operational,enum=training,enum=reference,enum=test,enum=non_operational"`
	// Decision is what came of it.
	Decision string `json:"decision" jsonschema:"enum=suspicious,enum=nothing_found,enum=pending,enum=unknown"`
	// DecisionRaw is what the scanner wrote of it; empty if nothing.
	DecisionRaw string `json:"decision_raw,omitempty"`
	// Analyses are those who have looked, in the scanner's order.
	Analyses []XrayAnalysis `json:"analyses"`
	// StartedTS and EndedTS are when the scan was made, by the scanner's clock; absent
	// if it does not tell.
	StartedTS *Time `json:"started_ts,omitempty"`
	EndedTS   *Time `json:"ended_ts,omitempty"`
	// TimeSource says where the event's time comes from.
	TimeSource string `json:"time_source" jsonschema:"enum=arrival,enum=device,enum=device_zone_assumed"`
	// ReceivedTS is when the scan was complete, or given up waiting for, by the agent's
	// clock.
	ReceivedTS Time `json:"received_ts"`
	// Replayed is true for a scan that was there before the agent looked.
	Replayed bool `json:"replayed"`
	// Remarks are what does not fit together: "ends_before_start",
	// "analysis_ends_before_start", "analysis_before_scan", "clock_ahead"; and of a time that
	// is told without a zone, "time_ambiguous" (where clocks are changed, the hour comes twice)
	// and "time_impossible" (it does not come at all).
	Remarks []string `json:"remarks"`
	// Scanner is the device.
	Scanner XrayScanner `json:"scanner"`
	// Containers are the container numbers that the scanner tells.
	Containers []ContainerCode `json:"containers"`
	// Files are all files of the scan. Attachments has the content of those that came.
	Files []XrayFile `json:"files"`
	// Attachments are the pictures and the other files, and a small picture that the
	// agent made, called "thumbnail.jpg".
	Attachments []Attachment `json:"attachments"`
	// Private is what is personal: an object, or in the public form of the event the
	// hash of it.
	Private *XrayPrivate `json:"private,omitempty"`
}

// XrayScanner is a scanner, as it names itself.
type XrayScanner struct {
	// Dialect is how its files are read, by the agent's settings.
	Dialect string `json:"dialect"`
	// System, Site and Software are the scanner's own words.
	System   string `json:"system,omitempty"`
	Site     string `json:"site,omitempty"`
	Software string `json:"software,omitempty"`
}

// XrayAnalysis is one look at a scan.
type XrayAnalysis struct {
	// By is "operator" or "machine".
	By string `json:"by" jsonschema:"enum=operator,enum=machine"`
	// Name is what was done, in the scanner's word.
	Name string `json:"name"`
	// Status is "done", "failed" (there is no result, whatever it looks like) or
	// "unknown".
	Status string `json:"status" jsonschema:"enum=done,enum=failed,enum=unknown"`
	// Decision is what came of it by the settings.
	Decision string `json:"decision" jsonschema:"enum=suspicious,enum=nothing_found,enum=pending,enum=unknown"`
	// ResultRaw is what the scanner wrote.
	ResultRaw string `json:"result_raw,omitempty"`
	// StartedTS and EndedTS are by the scanner's clock; absent if it does not tell.
	StartedTS *Time `json:"started_ts,omitempty"`
	EndedTS   *Time `json:"ended_ts,omitempty"`
}

// XrayFile is one file of a scan.
type XrayFile struct {
	// Name is the file's name.
	Name string `json:"name"`
	// Role is "image", "preview", "snapshot", "ocr", "dual_energy", "radiation",
	// "sidecar", "opaque" (the scan as a file of a form that is not published) or "other".
	Role string `json:"role" jsonschema:"enum=image,enum=preview,enum=snapshot,enum=ocr,enum=dual_energy,enum=radiation,enum=sidecar,enum=opaque,enum=other"`
	// Looks is what an opaque file looks like from its first bytes: "zip", "xml", "hdf5",
	// "dicom" or "unknown". It is not known to be that. Absent for other files.
	Looks string `json:"looks,omitempty" jsonschema:"enum=zip,enum=xml,enum=hdf5,enum=dicom,enum=unknown"`
	// State is "here", "incomplete" (its end has not come in time; what there is of it is
	// attached), "missing", "deleted" (the scanner says that it is gone) or "too_large"
	// (it is left at the scanner).
	State string `json:"state" jsonschema:"enum=here,enum=incomplete,enum=missing,enum=deleted,enum=too_large"`
	// SHA256 is the hash of the content in lower-case hexadecimal; absent if it is not
	// here.
	SHA256 string `json:"sha256,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
}

// ContainerCode is a container number (ISO 6346) as a device read it.
type ContainerCode struct {
	// Position is where the container stands, by the device's count from 1.
	Position int `json:"position" jsonschema:"minimum=1"`
	// Code is four letters and seven digits if it is one, the last of them the check
	// digit; empty otherwise.
	Code string `json:"code" jsonschema:"pattern=^([A-Z]{4}[0-9]{7})?$"`
	// Raw is what the device said.
	Raw string `json:"raw"`
	// Check is "valid", "corrected" (one character that is often taken for another was
	// put right, and only one way to do so gives a valid number), "invalid" (the check
	// digit does not fit) or "no_code" (it has not the form of one).
	Check string `json:"check" jsonschema:"enum=valid,enum=corrected,enum=invalid,enum=no_code"`
	// Confidence runs from 0 to 1; null if the device tells none.
	Confidence *float64 `json:"confidence" jsonschema:"minimum=0,maximum=1"`
}

// XrayPrivate is what is personal in a scan.
type XrayPrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// Plates are those of the vehicle and its trailers that the scanner tells.
	Plates []XrayPlate `json:"plates"`
	// Raw is what the scanner wrote beside the pictures.
	Raw Raw `json:"raw"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// XrayPlate is a number plate that a scanner tells.
type XrayPlate struct {
	// Of is "vehicle" or "trailer".
	Of string `json:"of" jsonschema:"enum=vehicle,enum=trailer"`
	// Plate is the plate: upper case, without separators, in its own script.
	Plate string `json:"plate"`
	// MatchKey is what to compare plates by.
	MatchKey string `json:"match_key"`
	// PlateRaw is the plate as the scanner tells it.
	PlateRaw string `json:"plate_raw"`
	// Confidence runs from 0 to 1; null if the scanner tells none, or it was typed in by
	// hand.
	Confidence *float64 `json:"confidence" jsonschema:"minimum=0,maximum=1"`
}

// Type implements Data.
func (XrayScan) Type() string { return "lanepost.xray.scan.v1" }

// Class implements Data. An inspection in which something was found is urgent; a drill
// never is.
func (s XrayScan) Class() Class {
	if s.Mode == ScanOperational && s.Decision == DecisionSuspicious {
		return Urgent
	}
	return Routine
}

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p XrayPrivate) MarshalJSON() ([]byte, error) {
	type object XrayPrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *XrayPrivate) UnmarshalJSON(b []byte) error {
	type object XrayPrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = XrayPrivate(o)
	return err
}
