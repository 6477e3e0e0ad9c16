package event

// What a weighing came to.
const (
	// WeightStable: the load stood still, and the weight is that.
	WeightStable = "stable"
	// WeightUnstable: it never stood still. There is a peak and no weight.
	WeightUnstable = "unstable"
	// WeightNone: the scale told no weight, being overloaded for instance.
	WeightNone = "none"
)

// LaneWeight is one weighing of one vehicle: what a scale told from the moment when
// something stood on it until it was empty.
type LaneWeight struct {
	// WeighingID is the agent's own id of the weighing (UUIDv7), also the event's subject.
	WeighingID string `json:"weighing_id"`
	// Outcome is "stable", "unstable" or "none".
	Outcome string `json:"outcome" jsonschema:"enum=stable,enum=unstable,enum=none"`
	// WeightKG is the median of what was told while the load stood still, in kilograms;
	// null if it never did.
	WeightKG *float64 `json:"weight_kg"`
	// PeakKG is the highest weight that was told; null if none was.
	PeakKG *float64 `json:"peak_kg"`
	// AxlesKG are the weights of the axles in the order in which they came, on a scale that
	// weighs one at a time; null for one that never stood still. WeightKG is the sum of
	// them, and PeakKG that of the heaviest.
	AxlesKG []*float64 `json:"axles_kg,omitempty"`
	// TareKG is the tare of the scale; null if it tells none. Net is true if it is taken
	// off the weights.
	TareKG *float64 `json:"tare_kg"`
	Net    bool     `json:"net"`
	// Readings counts what was told, StableReadings what of that was of a load that stood
	// still.
	Readings       int `json:"readings"`
	StableReadings int `json:"stable_readings"`
	// Moved is true if the load moved again after it had stood still, so that another
	// vehicle may have come or an axle left.
	Moved bool `json:"moved"`
	// Flags are what a person should look at: "overload", "underload", "negative",
	// "zero_not_returned" (empty, the scale does not tell zero), "still_there" (nobody has
	// left), "unit_changed", "interrupted" (the link broke), "frozen" (it tells the very same
	// for longer than a load stands still).
	Flags []string `json:"flags"`
	// UnitRaw is the unit that the scale tells; empty if it tells none.
	UnitRaw string `json:"unit_raw"`
	// RecordID is the number under which the scale has stored the weighing, where its law
	// wants that.
	RecordID string `json:"record_id,omitempty"`
	// StartedTS and EndedTS are when something stood on the scale, by the agent's clock.
	StartedTS Time `json:"started_ts"`
	EndedTS   Time `json:"ended_ts"`
	// DurationS is that in seconds, by a clock that nobody sets.
	DurationS float64 `json:"duration_s"`
	// Raw is the last frame of the load that stood still, or the last at all.
	Raw Raw `json:"raw"`
}

// Type implements Data.
func (LaneWeight) Type() string { return "lanepost.lane.weight.v1" }

// Class implements Data.
func (LaneWeight) Class() Class { return Routine }

// LaneTag is one RFID tag that passed: what a reader told of it from the first time that
// it was seen until it was gone.
//
// What is on the tag stands in private only: it names a vehicle or a person's card.
type LaneTag struct {
	// PassageID is the agent's own id of this passing of the tag (UUIDv7), also the event's
	// subject.
	PassageID string `json:"passage_id"`
	// Antennas are those that saw it, from 1 on, in the order in which they did.
	Antennas []int `json:"antennas"`
	// Reports counts how often it was told.
	Reports int `json:"reports"`
	// PeakRSSIDBM is the strongest signal, in dBm; null if the reader tells none.
	PeakRSSIDBM *int `json:"peak_rssi_dbm" jsonschema:"minimum=-128,maximum=127"`
	// Flags are what a person should look at: "still_there" (it is told before it was gone,
	// and will be told again), "interrupted" (the link broke while it was there), "crowded"
	// (more tags at once than are kept), "other_antenna" (none of the lane's own antennas saw
	// it) and "weak" (the signal is too weak for a vehicle in the lane): perhaps a neighbour
	// lane's.
	Flags []string `json:"flags"`
	// FirstTS and LastTS are when it was told first and last, by the agent's clock;
	// DeviceFirstTS is by the reader's, null if it tells none.
	FirstTS       Time  `json:"first_ts"`
	LastTS        Time  `json:"last_ts"`
	DeviceFirstTS *Time `json:"device_first_ts"`
	// Private is what is on the tag: an object, or in the public form of the event the hash
	// of it.
	Private *TagPrivate `json:"private,omitempty"`
}

// TagPrivate is what is on a tag.
type TagPrivate struct {
	// Salt is random bytes in base64, at least 16 of them and new for each event.
	Salt string `json:"salt" jsonschema_extras:"contentEncoding=base64"`
	// EPC is what is on the tag, in hexadecimal digits, upper case.
	EPC string `json:"epc"`

	// Redacted is the hash that stands in place of all of it in the public form of
	// an event; zero if this is the object itself. It is set by decoding.
	Redacted Hash `json:"-"`
}

// Type implements Data.
func (LaneTag) Type() string { return "lanepost.lane.tag.v1" }

// Class implements Data.
func (LaneTag) Class() Class { return Routine }

// MarshalJSON writes the object, or the hash if that is all there is. It fails
// for an object without a proper salt.
func (p TagPrivate) MarshalJSON() ([]byte, error) {
	type object TagPrivate
	return marshalPrivate(p.Salt, p.Redacted, object(p))
}

// UnmarshalJSON reads both forms.
func (p *TagPrivate) UnmarshalJSON(b []byte) error {
	type object TagPrivate
	var o object
	redacted, err := unmarshalPrivate(b, &o)
	o.Redacted = redacted
	*p = TagPrivate(o)
	return err
}
