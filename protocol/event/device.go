package event

// DeviceOnline says that a device speaks: its first well-formed record since
// the agent started, or since it was silent or offline.
type DeviceOnline struct {
	// Connect is where the device was reached, without secrets.
	Connect string `json:"connect"`
	// Profile is the name of the firmware profile in use.
	Profile string `json:"profile"`
	// AbsentS is for how long the device had not been heard, in seconds; left
	// out at the first contact since the agent's start.
	AbsentS *float64 `json:"absent_s,omitempty"`
}

// DeviceSilent says that the link to a device is open and nothing well-formed
// has come for the profile's silence limit. A silent device observes nothing:
// whatever passes its lane now is unobserved, not clear.
type DeviceSilent struct {
	// Connect is where the device is reached, without secrets.
	Connect string `json:"connect"`
	// LastValid is when the last well-formed record arrived; absent if none has
	// since the agent started.
	LastValid *Time `json:"last_valid,omitempty"`
	// LimitS is the silence limit in seconds.
	LimitS float64 `json:"limit_s"`
	// BytesSince counts bytes that arrived since then and made no well-formed
	// record: above zero suggests wrong serial settings or a wrong profile.
	BytesSince int64 `json:"bytes_since"`
	// Hint says what to do about it.
	Hint string `json:"hint"`
}

// DeviceOffline says that the link to a device can't be opened, or broke, or that
// the agent did not read it because its disk took no events; the event's time is
// then when the reading stopped.
type DeviceOffline struct {
	// Connect is where the device is reached, without secrets.
	Connect string `json:"connect"`
	// LastValid is when the last well-formed record arrived; absent if none has
	// since the agent started.
	LastValid *Time `json:"last_valid,omitempty"`
	// Reason is the error in words.
	Reason string `json:"reason"`
	// Hint says what to do about it.
	Hint string `json:"hint"`
}

// DeviceFault says that the agent's driver for a device failed in a way that
// is the agent's own fault. The driver is started anew; other devices go on.
type DeviceFault struct {
	// Connect is where the device is reached, without secrets.
	Connect string `json:"connect"`
	// Reason is what went wrong, in words.
	Reason string `json:"reason"`
	// Hint says what to do about it.
	Hint string `json:"hint"`
}

// DeviceUnparsed carries samples of what a device sent and no decoder
// understood. It is rate-limited, so that a babbling device can't crowd out the
// others.
type DeviceUnparsed struct {
	// Count is the number of pieces that could not be understood since the last
	// event of this type from this device.
	Count int64 `json:"count"`
	// Total counts them since the agent's start.
	Total int64 `json:"total"`
	// Samples holds the first of them.
	Samples []UnparsedSample `json:"samples"`
	// Attachments is a document that could not be understood, whole; absent for pieces
	// that are not kept so.
	Attachments []Attachment `json:"attachments,omitempty"`
}

// UnparsedSample is one piece that was not understood.
type UnparsedSample struct {
	// Time is when it arrived.
	Time Time `json:"time"`
	// Reason is why it was not understood.
	Reason string `json:"reason"`
	// Raw is what came.
	Raw Raw `json:"raw"`
}

// DeviceRefused names senders whose messages did not reach a device that is
// written to over the network, because they are not its own: a camera that posts
// to another lane's path, or something that has no business there. What they sent
// was not read. It is sent once a minute at the most.
type DeviceRefused struct {
	// Senders are those that were refused since the last event of this type from
	// this device.
	Senders []RefusedSender `json:"senders"`
	// More counts what was refused besides.
	More int64 `json:"more"`
	// Hint says what to do about it.
	Hint string `json:"hint"`
}

// RefusedSender is an address that was refused.
type RefusedSender struct {
	// Time is when it was first refused.
	Time Time `json:"time"`
	// Address is its IP address.
	Address string `json:"address"`
	// Reason is "wrong_source" (the address is not on the device's list),
	// "too_large" (what it sends is larger than is taken), "too_many" (it makes
	// more connections than an instrument does), "wrong_name" (it calls itself, or
	// this side, by another name than is agreed) or "wrong_login" (it has not told
	// the right user name and password).
	Reason string `json:"reason" jsonschema:"enum=wrong_source,enum=too_large,enum=too_many,enum=wrong_name,enum=wrong_login"`
	// BelongsTo is the device on whose list the address is, as "LANE/DEVICE";
	// absent if it is on none.
	BelongsTo string `json:"belongs_to,omitempty"`
	// Count is how often it was refused.
	Count int64 `json:"count"`
}

// Type implements Data.
func (DeviceRefused) Type() string { return "lanepost.device.refused.v1" }

// Class implements Data.
func (DeviceRefused) Class() Class { return Urgent }

// Type implements Data.
func (DeviceOnline) Type() string   { return "lanepost.device.online.v1" }
func (DeviceSilent) Type() string   { return "lanepost.device.silent.v1" }
func (DeviceOffline) Type() string  { return "lanepost.device.offline.v1" }
func (DeviceFault) Type() string    { return "lanepost.device.fault.v1" }
func (DeviceUnparsed) Type() string { return "lanepost.device.unparsed.v1" }

// Class implements Data. All changes of a device's state share one class, so
// that they stay in order.
func (DeviceOnline) Class() Class   { return Urgent }
func (DeviceSilent) Class() Class   { return Urgent }
func (DeviceOffline) Class() Class  { return Urgent }
func (DeviceFault) Class() Class    { return Urgent }
func (DeviceUnparsed) Class() Class { return Routine }
