package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Which word of a device on one read an event is.
const (
	// RevisionSingle: the device sends one message for each read.
	RevisionSingle = "single"
	// RevisionNew: the first of several; more may follow, with another plate and
	// another country.
	RevisionNew = "new"
	// RevisionUpdate: the device has come to another opinion.
	RevisionUpdate = "update"
	// RevisionLost: the vehicle is out of sight; this is the last word.
	RevisionLost = "lost"
)

// Where the time of a read comes from.
const (
	// TimeFromArrival: the device told no time that can be used; it is when the
	// message arrived.
	TimeFromArrival = "arrival"
	// TimeFromDevice: the device told it with its zone.
	TimeFromDevice = "device"
	// TimeFromDeviceZone: the device told a time without a zone, and the zone is
	// that of its settings.
	TimeFromDeviceZone = "device_zone_assumed"
	// TimeFromDeviceCorrected: the device told it, and what its clock was found to
	// be wrong is taken off.
	TimeFromDeviceCorrected = "device_corrected"
)

// PlateRead is one number plate that a reader saw. A vehicle can make several: a
// reader may read it twice, and the plates of a lorry and its trailer are two.
//
// The plate itself stands in private only, which is not sent to every receiver.
type PlateRead struct {
	// ReadID is the agent's own id of the read (UUIDv7), also the event's
	// subject. All revisions of a read have the same.
	ReadID string `json:"read_id"`
	// Capture tells when and by what it was read.
	Capture PlateCapture `json:"capture"`
	// Direction is where the vehicle was going, seen from the camera: "toward" it,
	// "away" from it, "left", "right" or "unknown".
	Direction string `json:"direction" jsonschema:"enum=toward,enum=away,enum=left,enum=right,enum=unknown"`
	// DirectionRaw is the direction as the device told it.
	DirectionRaw string `json:"direction_raw,omitempty"`
	// LaneDirection is what the direction means in the lane by the agent's
	// settings: "entry", "exit" or "unknown".
	LaneDirection string `json:"lane_direction" jsonschema:"enum=entry,enum=exit,enum=unknown"`
	// Confidence is how sure the device is.
	Confidence PlateConfidence `json:"confidence"`
	// Country is where the device thinks the plate is from.
	Country PlateCountry `json:"country"`
	// PlateType is the kind of plate in the device's words.
	PlateType string `json:"plate_type,omitempty"`
	// PlateColor is the colour of the plate in the device's words.
	PlateColor string `json:"plate_color,omitempty"`
	// Vehicle is what the device says of the vehicle; absent if it says nothing.
	Vehicle *PlateVehicle `json:"vehicle,omitempty"`
	// VehicleList is the list of the device's own that it found the plate on, in
	// its words.
	VehicleList string `json:"vehicle_list,omitempty"`
	// Attachments are the pictures. They show the plate; what they are called here
	// does not tell it.
	Attachments []Attachment `json:"attachments"`
	// Pseudonym is HMAC-SHA-256 of the match key under the agent's secret key, in
	// lower-case hexadecimal: the same for the same plate; absent where none is
	// configured.
	Pseudonym string `json:"pseudonym,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Private is what is personal: an object, or in the public form of the event
	// the hash of it.
	Private *PlatePrivate `json:"private,omitempty"`
}

// PlateNoRead says that a reader saw a vehicle, or was told that there is one,
// and read no plate. That is neither a fault nor the same as no vehicle.
type PlateNoRead struct {
	// ReadID is the agent's own id of the attempt (UUIDv7), also the event's
	// subject. If the device reads the plate later on, that read has the same.
	ReadID string `json:"read_id"`
	// Reason is "no_text" (the device sent no text), "marked" (it says that it read
	// none) or "no_characters" (what it sent has neither a letter nor a digit).
	Reason string `json:"reason" jsonschema:"enum=no_text,enum=marked,enum=no_characters"`
	// Capture tells when and by what it was attempted.
	Capture PlateCapture `json:"capture"`
	// Direction is where the vehicle was going, seen from the camera: "toward" it,
	// "away" from it, "left", "right" or "unknown".
	Direction string `json:"direction" jsonschema:"enum=toward,enum=away,enum=left,enum=right,enum=unknown"`
	// DirectionRaw is the direction as the device told it.
	DirectionRaw string `json:"direction_raw,omitempty"`
	// LaneDirection is what the direction means in the lane by the agent's
	// settings: "entry", "exit" or "unknown".
	LaneDirection string `json:"lane_direction" jsonschema:"enum=entry,enum=exit,enum=unknown"`
	// Vehicle is what the device says of the vehicle; absent if it says nothing.
	Vehicle *PlateVehicle `json:"vehicle,omitempty"`
	// Attachments are the pictures. They may show a plate that a person can read.
	Attachments []Attachment `json:"attachments"`
	// Private is what may be personal: an object, or in the public form of the
	// event the hash of it.
	Private *NoReadPrivate `json:"private,omitempty"`
}

// PlateCapture tells when and by what a plate was read, or not read.
type PlateCapture struct {
	// Revision says which word of the device on this read it is.
	Revision string `json:"revision" jsonschema:"enum=single,enum=new,enum=update,enum=lost"`
	// VendorEventID is the device's own id of its message, by which it can be
	// found in the device; absent if it has none, or none without the plate in it.
	VendorEventID string `json:"vendor_event_id,omitempty"`
	// Replayed is true when the device had kept the message, because it could not
	// deliver it at once.
	Replayed bool `json:"replayed"`
	// ReceivedTS is when the message arrived, by the agent's clock.
	ReceivedTS Time `json:"received_ts"`
	// TimeSource says where the event's time comes from.
	TimeSource string `json:"time_source" jsonschema:"enum=arrival,enum=device,enum=device_zone_assumed,enum=device_corrected"`
	// ClockOffsetS is by how many seconds the device's clock is ahead of the
	// agent's, below zero if it is behind; absent if not known.
	ClockOffsetS *float64 `json:"clock_offset_s,omitempty"`
	// Trigger is what made the device look, in its words.
	Trigger string `json:"trigger,omitempty"`
	// Reader is the device.
	Reader PlateReader `json:"reader"`
}

// PlateReader is a camera or an engine that reads plates, as it names itself.
type PlateReader struct {
	// Vendor is the maker or the interface that the agent takes it for, by its
	// settings.
	Vendor string `json:"vendor"`
	// Model, Serial and Firmware are the device's own words.
	Model    string `json:"model,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Firmware string `json:"firmware,omitempty"`
	// Camera is the camera of a device that has several: its number or name.
	Camera string `json:"camera,omitempty"`
	// Lane is the lane by the device's own count or name. The lane that counts is
	// that of the event's source.
	Lane string `json:"lane,omitempty"`
}

// PlateConfidence is how sure a device is of a read. Each vendor means something
// else by it, so do not compare it over vendors.
type PlateConfidence struct {
	// Value runs from 0 to 1; null if the device tells none, or counts in a scale
	// that is not known. That is not the same as 0.
	Value *float64 `json:"value" jsonschema:"minimum=0,maximum=1"`
	// Raw is what the device said; empty if nothing.
	Raw string `json:"raw"`
	// Scale is what the device counts in, for instance "0-100"; empty if it tells
	// no confidence, "unknown" if nobody knows.
	Scale string `json:"scale"`
}

// PlateCountry is where a device thinks a plate is from. Devices often take one
// country for another with plates of the same form.
type PlateCountry struct {
	// Code is ISO 3166-1 alpha-2, XK for Kosovo; empty if the device tells none, or
	// none that is known.
	Code string `json:"code" jsonschema:"pattern=^([A-Z]{2})?$"`
	// Raw is what the device said; empty if nothing.
	Raw string `json:"raw"`
}

// PlateVehicle is what a plate reader says of the vehicle. The words are the
// device's own, and each vendor has others.
type PlateVehicle struct {
	// Type is what it is, for instance "truck".
	Type string `json:"type,omitempty"`
	// Color is its colour, Make who made it, Model what he calls it.
	Color string `json:"color,omitempty"`
	Make  string `json:"make,omitempty"`
	Model string `json:"model,omitempty"`
	// SpeedKPH is its speed in km/h.
	SpeedKPH *float64 `json:"speed_kph,omitempty"`
	// Axles is the number of its axles.
	Axles *int `json:"axles,omitempty"`
	// DangerousGoods says whether the device saw a mark of dangerous goods: "yes",
	// "no" or "unknown"; absent if it does not look for one.
	DangerousGoods string `json:"dangerous_goods,omitempty" jsonschema:"enum=yes,enum=no,enum=unknown"`
	// HazardPlate is what the device read on the orange plate of dangerous goods.
	HazardPlate string `json:"hazard_plate,omitempty"`
}

// PlatePrivate is what is personal in a read.
type PlatePrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event,
	// so that the plate can't be found by trying plates against the hash.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// Plate is the plate: upper case, without separators, in its own script.
	Plate string `json:"plate"`
	// MatchKey is what to compare plates by: the plate with letters of all scripts
	// that look alike made the same.
	MatchKey string `json:"match_key"`
	// PlateRaw is the plate as the device sent it.
	PlateRaw string `json:"plate_raw"`
	// Lossy is true when some of what the device sent could not be read as text, or
	// was too long for a plate. Raw has all of it.
	Lossy bool `json:"lossy"`
	// Alternatives are what else the device thinks that it may be, the likeliest
	// first.
	Alternatives []PlateAlternative `json:"alternatives"`
	// Raw is what the device sent, without pictures.
	Raw Raw `json:"raw"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// PlateAlternative is another reading of the same plate.
type PlateAlternative struct {
	// Plate is the plate: upper case, without separators, in its own script.
	Plate string `json:"plate"`
	// Confidence runs from 0 to 1; null if the device tells none, or counts in a
	// scale that is not known.
	Confidence *float64 `json:"confidence" jsonschema:"minimum=0,maximum=1"`
}

// NoReadPrivate is what may be personal where no plate was read.
type NoReadPrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// PlateRaw is what the device sent in place of a plate.
	PlateRaw string `json:"plate_raw"`
	// Raw is what the device sent, without pictures.
	Raw Raw `json:"raw"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// Type implements Data.
func (PlateRead) Type() string   { return "lanepost.plate.read.v1" }
func (PlateNoRead) Type() string { return "lanepost.plate.no-read.v1" }

// Class implements Data. A read is routine whatever the list of the device that
// the plate is on: to judge is for the central system.
func (PlateRead) Class() Class   { return Routine }
func (PlateNoRead) Class() Class { return Routine }

// MinSalt is the least number of random bytes in the salt of a private object.
const MinSalt = 16

// Salt makes the salt of a private object of random bytes.
func Salt(random [MinSalt]byte) string { return base64.StdEncoding.EncodeToString(random[:]) }

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p PlatePrivate) MarshalJSON() ([]byte, error) {
	type object PlatePrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *PlatePrivate) UnmarshalJSON(b []byte) error {
	type object PlatePrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = PlatePrivate(o)
	return err
}

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p NoReadPrivate) MarshalJSON() ([]byte, error) {
	type object NoReadPrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *NoReadPrivate) UnmarshalJSON(b []byte) error {
	type object NoReadPrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = NoReadPrivate(o)
	return err
}

// redactedPrefix stands before the hash in place of a private object.
const redactedPrefix = "sha256:"

func marshalPrivate(salt string, redacted Hash, object any) ([]byte, error) {
	if !redacted.IsZero() {
		return json.Marshal(redactedPrefix + redacted.String())
	}
	if err := checkSalt(salt); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func unmarshalPrivate(b []byte, object any) (redacted Hash, err error) {
	if len(b) == 0 || b[0] != '"' {
		if err := json.Unmarshal(b, object); err != nil {
			return Hash{}, err
		}
		if err := checkPresent(reflect.TypeOf(object).Elem(), b); err != nil {
			return Hash{}, fmt.Errorf("private: %w", err)
		}
		var head struct {
			Salt string `json:"salt"`
		}
		if err := json.Unmarshal(b, &head); err != nil {
			return Hash{}, err
		}
		return Hash{}, checkSalt(head.Salt)
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return Hash{}, err
	}
	digits, ok := strings.CutPrefix(text, redactedPrefix)
	if !ok || !validHash(digits) {
		return Hash{}, errors.New(`private is neither an object nor "sha256:" and a hash`)
	}
	redacted, err = ParseHash(digits)
	if err == nil && redacted.IsZero() {
		err = errors.New("private: the hash is zero, which is the hash of nothing")
	}
	return redacted, err
}

func checkSalt(salt string) error {
	b, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return fmt.Errorf("the salt of private is not base64: %w", err)
	}
	if len(b) < MinSalt {
		return fmt.Errorf("the salt of private has %d bytes: want %d random ones at least", len(b), MinSalt)
	}
	return nil
}
