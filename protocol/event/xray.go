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
	// DecisionNothingFound: somebody has looked at an inspection that is there in full, and
	// found nothing. Nothing else is ever called so.
	DecisionNothingFound = "nothing_found"
	// DecisionPending: nobody has looked yet.
	DecisionPending = "pending"
	// DecisionUnknown: somebody has looked, and what he said can't be understood by
	// the settings, or he found nothing in a scan that is partial or was no inspection.
	DecisionUnknown = "unknown"
)

// XrayScan is one scan of a vehicle, as far as the scanner has told of it. A scanner
// writes it anew when an operator has looked, and when a file comes late: each time is a
// revision, an event of its own.
//
// The plates, and what the scanner wrote, stand in private only.
type XrayScan struct {
	// ScanID is the scanner's own id of the scan, also the event's subject. A DICOS scan
	// without a UID has its number, the day and the machine in it, with "@" between them.
	ScanID string `json:"scan_id"`
	// Revision counts from 1. A later one stands in place of an earlier one.
	Revision int `json:"revision" jsonschema:"minimum=1"`
	// Supersedes is the id of the event of the revision before; absent for the first. If the
	// agent's power failed while it told a revision, that may be one that never came.
	Supersedes string `json:"supersedes,omitempty"`
	// Completeness is "complete", or "partial" if files that the scanner names have not
	// come in time, or if a DICOS scan has no picture or more objects than are kept. They
	// make a later revision if they come.
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
	// Threats are what those who have looked marked in the picture, the report that was
	// made last first. At most 200 of them are told, and ThreatsMore is how many more
	// there are.
	Threats     []XrayThreat `json:"threats"`
	ThreatsMore int          `json:"threats_more,omitempty"`
	// ObjectType is what was scanned, in the scanner's word ("CARGO", "PERSON"); absent if
	// it does not tell. Its id is in private.
	ObjectType string `json:"object_type,omitempty"`
	// AcquisitionStatus is how the scan went, in the scanner's word ("SUCCESSFUL", "JAM");
	// absent if it does not tell.
	AcquisitionStatus string `json:"acquisition_status,omitempty"`
	// TestArticle is what was scanned for a test, in the scanner's word ("CTIQ"); absent
	// if it does not tell. Words that the standard does not have, as "NONE", are told too, and
	// make no test.
	TestArticle string `json:"test_article,omitempty"`
	// ScanNumber is what the scanner calls the scan, where ScanID is a number without
	// meaning.
	ScanNumber string `json:"scan_number,omitempty"`
	// Replayed is true for a scan that was there before the agent looked.
	Replayed bool `json:"replayed"`
	// Remarks are what does not fit together: "ends_before_start",
	// "analysis_ends_before_start", "analysis_before_scan", "clock_ahead"; of a time that is
	// told without a zone, "time_ambiguous" (where clocks are changed, the hour comes twice)
	// and "time_impossible" (it does not come at all); "alarm_of_earlier_revision" (this
	// one says nothing of the decision, and takes no alarm back), "same_message_later" (a
	// message without a time came again after more than a day: it may be of another vehicle,
	// for which the scanner's id was used anew); and of DICOS
	// files: "objects_differ" (they share a scan and name different objects),
	// "scan_type_differs" (some say that it was no operational scan, and some that it
	// was), "clear_with_threats" (a report says CLEAR, and marks a threat or counts
	// alarms), "not_acquired" (the scan did not succeed), "without_scan_uid" (a file that
	// does not tell by a UID which scan it belongs to), "values_left_out" (something in a
	// file is not in its form, or more than is read or kept), "objects_left_out" (the
	// scan has more pictures or reports than are kept), "without_picture" (there are
	// reports and no picture), "pictures_not_named" (those who found nothing name other
	// pictures than are there), "threat_projected" (the scanner put the picture of a
	// threat into that of the object, as a drill), "time_out_of_range" (a time that is
	// none, or before 2000 or after 2200, and is not told), "alarm_remembered" (an
	// earlier revision, of which the files are forgotten, was suspicious).
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
	// By is "operator", "machine", "aggregate" (a machine put other reports together),
	// "ground_truth" (what really was in it, which is no inspection) or "unknown".
	By string `json:"by" jsonschema:"enum=operator,enum=machine,enum=aggregate,enum=ground_truth,enum=unknown"`
	// Name is what was done, in the scanner's word.
	Name string `json:"name"`
	// Status is "done", "failed" (there is no result, whatever it looks like) or
	// "unknown".
	Status string `json:"status" jsonschema:"enum=done,enum=failed,enum=unknown"`
	// Decision is what came of it by the settings.
	Decision string `json:"decision" jsonschema:"enum=suspicious,enum=nothing_found,enum=pending,enum=unknown"`
	// ResultRaw is what the scanner wrote.
	ResultRaw string `json:"result_raw,omitempty"`
	// Reason is why it failed, in the scanner's word; absent if it does not tell.
	Reason string `json:"reason,omitempty"`
	// Algorithm is who made what has looked, its version and its parameters.
	Algorithm []string `json:"algorithm,omitempty"`
	// Objects is how many things were looked at, Alarms how many of them alarm; absent if
	// the scanner does not tell.
	Objects *int `json:"objects,omitempty" jsonschema:"minimum=0"`
	Alarms  *int `json:"alarms,omitempty" jsonschema:"minimum=0"`
	// AdditionalScreening is true if the scanner says that the object was looked at once
	// more.
	AdditionalScreening bool `json:"additional_screening,omitempty"`
	// StartedTS and EndedTS are by the scanner's clock; absent if it does not tell.
	StartedTS *Time `json:"started_ts,omitempty"`
	EndedTS   *Time `json:"ended_ts,omitempty"`
}

// XrayFile is one file of a scan.
type XrayFile struct {
	// Name is the file's name.
	Name string `json:"name"`
	// Role is "image", "preview", "snapshot", "ocr", "dual_energy", "radiation",
	// "sidecar", "threat_report", "opaque" (the scan as a file of a form that is not published) or "other".
	Role string `json:"role" jsonschema:"enum=image,enum=preview,enum=snapshot,enum=ocr,enum=dual_energy,enum=radiation,enum=sidecar,enum=threat_report,enum=opaque,enum=other"`
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

// XrayThreat is one thing that somebody marked in a scan.
type XrayThreat struct {
	// ObjectID is its number in the report; null if it has none.
	ObjectID *int `json:"object_id" jsonschema:"minimum=0"`
	// By is who marked it, as in an analysis.
	By string `json:"by" jsonschema:"enum=operator,enum=machine,enum=aggregate,enum=ground_truth,enum=unknown"`
	// Assessments are what was thought of it.
	Assessments []XrayAssessment `json:"assessments"`
	// Regions are where it is.
	Regions []XrayRegion `json:"regions"`
	// Location is where it is, in the scanner's words.
	Location string `json:"location,omitempty"`
	// Mass, Density, ZEffective and Volume are in the units of the scanner; null if it does
	// not tell.
	Mass       *float64 `json:"mass"`
	Density    *float64 `json:"density"`
	ZEffective *float64 `json:"z_effective"`
	Volume     *float64 `json:"volume"`
}

// XrayAssessment is what somebody thinks of a thing in a scan.
type XrayAssessment struct {
	// Category, Flag and Ability are the scanner's words: "CONTRABAND", "HIGH_THREAT",
	// "SHIELD".
	Category string `json:"category,omitempty"`
	Flag     string `json:"flag,omitempty"`
	Ability  string `json:"ability,omitempty"`
	// Probability runs from 0 to 1; null if the scanner does not tell, or tells something
	// else.
	Probability *float64 `json:"probability" jsonschema:"minimum=0,maximum=1"`
	// Text is what was written of it.
	Text string `json:"text,omitempty"`
}

// XrayRegion is a place in a picture.
type XrayRegion struct {
	// Image is the UID of the picture; absent if it is not told.
	Image string `json:"image,omitempty"`
	// Base and Extents are a box, in pixels or voxels: where it begins and how large it
	// is, as x, y, z. Absent for a polygon.
	Base    *[3]float64 `json:"base,omitempty"`
	Extents *[3]float64 `json:"extents,omitempty"`
	// Polygon are corners, each x, y, z. At most 64 are told. Absent for a box.
	Polygon [][3]float64 `json:"polygon,omitempty"`
	// Set is how many pixels or voxels of the box belong to the thing; null if the box is
	// meant as a whole.
	Set *int `json:"set" jsonschema:"minimum=0"`
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
	// Object names what was scanned: a vehicle, a container or a person. Absent if the
	// scanner does not tell.
	Object *XrayObject `json:"object,omitempty"`
	// Raw is what the scanner wrote beside the pictures.
	Raw Raw `json:"raw"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// XrayObject is what was scanned, as the scanner names it.
type XrayObject struct {
	// ID is its name, Authority who gave it, IDType how it was read ("TEXT", "BARCODE"),
	// in the scanner's words.
	ID        string `json:"id"`
	Authority string `json:"authority,omitempty"`
	IDType    string `json:"id_type,omitempty"`
	// OtherIDs are more names of it.
	OtherIDs []string `json:"other_ids,omitempty"`
	// Descriptor is what it is, in words.
	Descriptor string `json:"descriptor,omitempty"`
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
