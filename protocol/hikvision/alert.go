package hikvision

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

// Kind is what an alert is about.
type Kind string

// The kinds.
const (
	// Heartbeat is a sign of life: "videoloss" that is inactive, "heartBeat", or
	// "Heartbeat" of the oldest firmware.
	Heartbeat Kind = "heartbeat"
	// Plate is a read of a number plate.
	Plate Kind = "plate"
	// VideoLoss is a camera without a picture. The same word, inactive, is a
	// heartbeat.
	VideoLoss Kind = "video-loss"
	// Subscribed answers a subscription.
	Subscribed Kind = "subscribed"
	// Other is anything else: motion, tampering, the alerts of other functions.
	Other Kind = "other"
)

// Alert is one EventNotificationAlert.
type Alert struct {
	Kind Kind
	// EventType and EventState are the camera's words.
	EventType, EventState, Description string
	// Channel is the camera's own channel, or that of the camera behind a
	// recorder: there 33 is its first network camera.
	Channel, ChannelName string
	MAC                  string
	// DateTime is when it happened, as the camera writes it.
	DateTime string
	UUID     string
	// Retransmitted: the camera had kept it.
	Retransmitted bool
	// Pictures is how many pictures follow, -1 if it does not tell.
	Pictures int
	// Read is of a Plate alert, nil in others.
	Read *Read
}

// Read is the ANPR part of an alert.
type Read struct {
	// Plate is the text, or a word for an unread plate; Original is what it was
	// before the camera corrected it.
	Plate, Original string
	// Country is a number of HikvisionIndex or a text; CRIndex is preferred.
	Country string
	// Confidence is from 0 to 100, CharacterConfidence a list of the same.
	Confidence, CharacterConfidence string
	Direction, Line                 string
	PlateType, PlateColor           string
	VehicleType, VehicleColor       string
	VehicleLogo                     string
	// List is the camera's own list that the plate is on.
	List string
	// DangerousGoods is "yes", "no" or "unknown".
	DangerousGoods string
	Speed          string
	DetectType     string
	PictureInfo    []PictureInfo
}

// PictureInfo announces a picture.
type PictureInfo struct {
	// FileName and ID (pId) name it; Type is for instance "licensePlatePicture".
	FileName, Type, ID string
	// AbsTime is local time without a zone: yyyyMMddHHmmssSSS.
	AbsTime string
}

// Parse reads the alerts of one part or body. With an error it gives those before
// it.
func Parse(body []byte) ([]Alert, error) {
	documents, err := parse(body)
	var alerts []Alert
	for _, d := range documents {
		switch d.Name {
		case "EventNotificationAlert":
			alerts = append(alerts, alertOf(d))
		case "SubscribeEventResponse":
			alerts = append(alerts, Alert{Kind: Subscribed, EventType: d.Name, Pictures: -1})
		default:
			if err == nil {
				err = fmt.Errorf("<%s> is no alert", d.Name)
			}
		}
	}
	return alerts, err
}

func alertOf(d *document.Node) Alert {
	a := Alert{
		EventType: d.Get("eventType"), EventState: d.Get("eventState"), Description: d.Get("eventDescription"),
		Channel: cmp.Or(d.Get("channelID"), d.Get("dynChannelID")), ChannelName: d.Get("channelName"),
		MAC: d.Get("macAddress"), DateTime: d.Get("dateTime"), UUID: d.Get("UUID", "uuid"),
		Retransmitted: strings.EqualFold(d.Get("isDataRetransmission"), "true"), Pictures: -1,
	}
	if n, err := strconv.Atoi(d.Get("picNum")); err == nil && n >= 0 {
		a.Pictures = n
	}
	a.Kind = kindOf(&a)
	if a.Kind != Plate {
		return a
	}
	x := d.Child("ANPR", "aNPR")
	vehicle := x.Child("vehicleInfo")
	a.Read = &Read{
		Plate: x.Get("licensePlate"), Original: x.Get("originalLicensePlate"),
		Country:    country(x.Get("CRIndex"), x.Get("country"), d.Get("countryAbbreviation")),
		Confidence: x.Get("confidenceLevel"), CharacterConfidence: x.Get("plateCharBelieve"),
		Direction: x.Get("direction"), Line: x.Get("line", "laneNo"),
		PlateType: x.Get("plateType"), PlateColor: x.Get("plateColor"),
		VehicleType: x.Get("vehicleType"), VehicleColor: vehicle.Get("color"), VehicleLogo: vehicle.Get("vehicleLogoRecog"),
		List: x.Get("vehicleListName", "listType"), DangerousGoods: x.Get("dangmark"),
		Speed: cmp.Or(x.Get("speed"), vehicle.Get("speed")), DetectType: x.Get("detectType"),
	}
	if a.Read.Plate == "" {
		a.Read.Plate = a.Read.Original
	}
	list := x.Child("pictureInfoList")
	infos := list.All("pictureInfo")
	if len(infos) == 0 { // JSON has the values under the name of the list
		infos = x.All("pictureInfoList")
	}
	for _, p := range infos {
		info := PictureInfo{FileName: p.Get("fileName"), Type: p.Get("type"), ID: p.Get("pId", "pID"), AbsTime: p.Get("absTime")}
		if info != (PictureInfo{}) {
			a.Read.PictureInfo = append(a.Read.PictureInfo, info)
		}
	}
	if a.Pictures < 0 && len(a.Read.PictureInfo) > 0 {
		a.Pictures = len(a.Read.PictureInfo)
	}
	return a
}

// country prefers CRIndex, and takes what says something.
func country(words ...string) string {
	for _, w := range words {
		switch strings.ToUpper(w) {
		case "", "0", "255", "NON", "NULL", "UNKNOWN":
		default:
			return w
		}
	}
	return ""
}

func kindOf(a *Alert) Kind {
	switch strings.ToLower(a.EventType) {
	case "anpr", "vehicledetection":
		return Plate
	case "heartbeat":
		return Heartbeat
	case "videoloss":
		if strings.EqualFold(a.EventState, "inactive") {
			return Heartbeat
		}
		return VideoLoss
	case "other":
		if strings.EqualFold(a.Description, "heartbeat") {
			return Heartbeat
		}
	}
	return Other
}

// Time is when the plate was read. The milliseconds are from the pictures'
// absTime, where that is the same second. zoned is false if the camera told no
// zone; it is then taken for zone.
func (a *Alert) Time(zone *time.Location) (t time.Time, zoned bool, err error) {
	text := strings.TrimSpace(a.DateTime)
	t, err = time.Parse(time.RFC3339, text)
	zoned = err == nil
	if err != nil {
		if t, err = time.ParseInLocation("2006-01-02T15:04:05", text, zone); err != nil {
			if t, err = time.ParseInLocation("2006-01-02 15:04:05", text, zone); err != nil {
				return time.Time{}, false, fmt.Errorf("dateTime %q is no time", text)
			}
		}
	}
	if t.Nanosecond() == 0 && a.Read != nil {
		for _, p := range a.Read.PictureInfo {
			if len(p.AbsTime) != 17 {
				continue
			}
			// The layouts of package time want a dot before a fraction.
			at, err := time.ParseInLocation("20060102150405.000", p.AbsTime[:14]+"."+p.AbsTime[14:], t.Location())
			if err == nil && at.Truncate(time.Second).Equal(t.Truncate(time.Second)) {
				return at, zoned, nil
			}
		}
	}
	return t, zoned, nil
}

// Listed is one entry of the answer of the plates poll.
type Listed struct {
	CaptureTime, Plate, PicName, Country, Lane, Direction string
}

// Time is when the plate was read, by the camera's clock on the wall in zone. The figures
// after the second are of unknown unit and left out.
func (l *Listed) Time(zone *time.Location) (time.Time, bool) {
	const layout = "20060102T150405"
	if len(l.CaptureTime) < len(layout) {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(layout, l.CaptureTime[:len(layout)], zone)
	return t, err == nil && t.Year() >= 2000
}

// ParsePlates reads the answer of the plates poll, XML or JSON. The list is in no
// order.
func ParsePlates(body []byte) ([]Listed, error) {
	documents, err := parse(body)
	if err != nil {
		return nil, err
	}
	var list []Listed
	for _, d := range documents {
		plates := d.All("Plate")
		if d.Name != "Plates" && len(plates) == 0 {
			return nil, fmt.Errorf("<%s> is no list of plates", d.Name)
		}
		for _, p := range plates {
			if x := (Listed{p.Get("captureTime"), p.Get("plateNumber"), p.Get("picName"), p.Get("country"), p.Get("laneNo"), p.Get("direction")}); x != (Listed{}) {
				list = append(list, x)
			}
		}
	}
	return list, nil
}

// Later says whether one picName is after another. They are numbers of more digits
// than a computer's number has.
func Later(a, b string) bool {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// AppendAfter appends the body that asks for the plates after a picName or a time.
func AppendAfter(b []byte, after string) []byte {
	return fmt.Appendf(b, "<AfterTime><picTime>%s</picTime></AfterTime>", escape(after))
}

// Device is what a camera says of itself.
type Device struct{ Name, Model, Serial, MAC, Firmware string }

// ParseDevice reads the answer of System/deviceInfo.
func ParseDevice(body []byte) (Device, error) {
	documents, err := parse(body)
	if err != nil {
		return Device{}, err
	}
	d := documents[0]
	device := Device{d.Get("deviceName"), d.Get("model"), d.Get("serialNumber"), d.Get("macAddress"), d.Get("firmwareVersion")}
	if device == (Device{}) {
		return device, fmt.Errorf("<%s> tells nothing of a device", d.Name)
	}
	return device, nil
}

// Status is a ResponseStatus, by which a camera refuses.
type Status struct{ Code, Text, Sub string }

// ParseStatus reads a ResponseStatus; false if the body is none.
func ParseStatus(body []byte) (Status, bool) {
	documents, err := parse(body)
	if err != nil || len(documents) == 0 {
		return Status{}, false
	}
	d := documents[0]
	s := Status{d.Get("statusCode"), d.Get("statusString"), d.Get("subStatusCode")}
	return s, s != Status{}
}
