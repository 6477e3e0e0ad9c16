package event

// What is known of a document's validity.
const (
	// DocumentInDate and DocumentExpired are by the agent's clock and the date in the document.
	DocumentInDate  = "in_date"
	DocumentExpired = "expired"
	// DocumentDateUnknown: the date was not read, or its check digit does not fit.
	DocumentDateUnknown = "unknown"
)

// LaneDocument is one travel document of which a reader has read the machine-readable zone.
//
// Nothing in it tells whose document it is. What lets the same document be recognised stands
// in private only, and is never the number itself. Devices that make this event are off until
// the configuration says in so many words that personal data may be read.
type LaneDocument struct {
	// ReadID is the agent's own id of the reading (UUIDv7), also the event's subject.
	ReadID string `json:"read_id"`
	// Format is the size of the zone by ICAO Doc 9303: cards, larger documents, passports, and
	// visas of two sizes.
	Format string `json:"format" jsonschema:"enum=td1,enum=td2,enum=td3,enum=mrva,enum=mrvb"`
	// DocumentType is the code of the kind of document: P is a passport, V a visa. It is empty
	// unless Valid: a part of something else may stand where it should.
	DocumentType string `json:"document_type"`
	// IssuingState is the code of the state or organisation, as the document has it, mostly
	// three letters of ISO 3166-1; empty unless Valid.
	IssuingState string `json:"issuing_state"`
	// Valid is true if no check digit says that something was read wrongly. It says nothing
	// of whether the document is genuine.
	Valid bool `json:"valid"`
	// Checks are what the check digits say.
	Checks DocumentChecks `json:"checks"`
	// Validity is "in_date", "expired" or "unknown".
	Validity string `json:"validity" jsonschema:"enum=in_date,enum=expired,enum=unknown"`
	// MonthsLeft is how many whole months the document is still valid; negative since it has
	// expired; null if that is unknown.
	MonthsLeft *int `json:"months_left" jsonschema:"minimum=-1200,maximum=1200"`
	// ReadTS is when it was read, by the agent's clock.
	ReadTS Time `json:"read_ts"`
	// Private is what lets the document be recognised: an object, or in the public form of the
	// event the hash of it.
	Private *DocumentPrivate `json:"private,omitempty"`
}

// DocumentChecks are the results of the check digits of a document: "valid", "invalid" (a
// character was read wrongly, or the document is not as it should be; nothing is repaired) or
// "absent" (the format has no such digit, or the field is empty).
type DocumentChecks struct {
	// Number is of the document's number.
	Number string `json:"number" jsonschema:"enum=valid,enum=invalid,enum=absent"`
	// BirthDate is of the holder's date of birth, which itself is not told.
	BirthDate string `json:"birth_date" jsonschema:"enum=valid,enum=invalid,enum=absent"`
	// ExpiryDate is of the last day on which the document is valid.
	ExpiryDate string `json:"expiry_date" jsonschema:"enum=valid,enum=invalid,enum=absent"`
	// Optional is of what the issuer put in of its own.
	Optional string `json:"optional" jsonschema:"enum=valid,enum=invalid,enum=absent"`
	// Composite is over all of them together.
	Composite string `json:"composite" jsonschema:"enum=valid,enum=invalid,enum=absent"`
}

// DocumentPrivate is what lets a document be recognised.
type DocumentPrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// NumberHash is the HMAC-SHA-256, in lower-case hexadecimal, under the site's key of the
	// number alone, which a check digit covers: the same document has the same. Absent if the
	// number was not read without doubt, or is masked instead.
	NumberHash string `json:"number_hash,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// KeyID tells one key from another, so that hashes of different keys are not compared.
	KeyID string `json:"key_id,omitempty" jsonschema:"pattern=^[0-9a-f]{8}$"`
	// NumberMasked is the first and the last character of the number with asterisks between;
	// absent if it is hashed instead.
	NumberMasked string `json:"number_masked,omitempty"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// Type implements Data.
func (LaneDocument) Type() string { return "lanepost.lane.document.v1" }

// Class implements Data.
func (LaneDocument) Class() Class { return Routine }

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p DocumentPrivate) MarshalJSON() ([]byte, error) {
	type object DocumentPrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *DocumentPrivate) UnmarshalJSON(b []byte) error {
	type object DocumentPrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = DocumentPrivate(o)
	return err
}
