// Package dahua reads and writes what cameras of Dahua and of the makers that sell
// them under other names (Amcrest, Lorex, Intelbras) say of number plates: the posts of
// ITSAPI. It does no I/O.
//
// Facts are from the vendor's API text and from programs that talk to real cameras;
// spellings that look wrong are those of the wire.
package dahua

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

// Bounds of what comes.
const (
	// MaxDocument bounds a post in bytes; its pictures are in it.
	MaxDocument = 32 << 20
	// maxPictures bounds the pictures of one post.
	maxPictures = 12
)

// Kind is what a post is about.
type Kind string

// The kinds.
const (
	// Plate is a vehicle, with its plate or without.
	Plate Kind = "plate"
	// KeepAlive comes about each 30 s, DeviceInfo once for each connection.
	KeepAlive  Kind = "keepalive"
	DeviceInfo Kind = "device-info"
	// Other is a parking space, an alarm, or what a later version says.
	Other Kind = "other"
)

// Post is what a camera posts.
type Post struct {
	Kind Kind
	// DeviceID names the camera; Model is told by DeviceInfo only.
	DeviceID, Model string
	Read            *Read
}

// Read is one vehicle.
type Read struct {
	// Exists is what the camera says of whether there is a plate: "true", "false", or
	// empty.
	Exists string
	Plate  string
	// ADR is what stands on the orange plate of dangerous goods, where it is read.
	ADR                    string
	PlateColor, PlateType  string
	Confidence, Region     string
	UploadNum, Channel     string
	Color, Sign, Type      string // of the vehicle
	Series, Speed          string
	SnapTime, AccurateTime string
	// TimeZone is an index of Dahua's own list, and no number of hours.
	TimeZone, Lane, Direction, Address, Trigger string
	// PicName is the name of the first picture that has one.
	PicName  string
	Pictures []Picture
	// Unread counts the pictures that are no base64, or one too many.
	Unread int
}

// Picture is one of a post: "normal", "cutout", "vehicle" or "combined".
type Picture struct {
	Kind    string
	Content []byte
}

// Time is when the vehicle passed, by the camera's clock on the wall in zone; zero if
// it does not tell.
func (r *Read) Time(zone *time.Location) time.Time {
	for _, text := range []string{r.AccurateTime, r.SnapTime} {
		for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006/01/02 15:04:05"} {
			if t, err := time.ParseInLocation(layout, strings.TrimSpace(text), zone); err == nil && t.Year() >= 2000 {
				return t
			}
		}
	}
	return time.Time{}
}

// pictureNames are the places of pictures, with the spellings of firmware.
var pictureNames = []struct {
	kind  string
	names []string
}{
	{"normal", []string{"NormalPic"}},
	{"cutout", []string{"CutoutPic", "CutouPic"}},
	{"vehicle", []string{"VehiclePic"}},
	{"combined", []string{"CombinPic"}},
}

// ParsePost reads the body of a post. What it is follows from what is in it: the paths
// can be changed at the camera.
func ParsePost(body []byte) (Post, error) {
	root, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return Post{}, err
	}
	if root.Name != "" {
		return Post{}, fmt.Errorf("XML, <%s>, and no JSON as ITSAPI has it", cut(root.Name))
	}
	p := Post{Kind: Other, DeviceID: root.Get("DeviceID"), Model: root.Get("DeviceModel")}
	x := root.Child("Picture")
	switch {
	case x.Child("Plate") != nil || x.Child("Vehicle") != nil:
	case x != nil:
		return p, errors.New("a post with a Picture that has neither a Plate nor a Vehicle")
	case root.Get("Active") != "":
		p.Kind = KeepAlive
		return p, nil
	case p.Model != "" || root.Get("DeviceName", "Manufacturer") != "":
		p.Kind = DeviceInfo
		return p, nil
	default:
		return p, nil
	}
	p.Kind = Plate
	plate, vehicle, snap := x.Child("Plate"), x.Child("Vehicle"), x.Child("SnapInfo")
	if snap == nil {
		snap = root.Child("SnapInfo")
	}
	if id := snap.Get("DeviceID"); id != "" {
		p.DeviceID = id
	}
	r := &Read{
		Exists: strings.ToLower(plate.Get("IsExist", "IsExit")), Plate: plate.Get("PlateNumber"), ADR: plate.Get("ADR"),
		PlateColor: plate.Get("PlateColor"), PlateType: plate.Get("PlateType"), Confidence: plate.Get("Confidence"), Region: plate.Get("Region"),
		UploadNum: plate.Get("UploadNum"), Channel: plate.Get("Channel"),
		Color: vehicle.Get("VehicleColor"), Sign: vehicle.Get("VehicleSign"), Type: vehicle.Get("VehicleType"),
		Series: vehicle.Get("VehicleSeries", "VehocleSeries"), Speed: vehicle.Get("Speed"),
		SnapTime: snap.Get("SnapTime"), AccurateTime: snap.Get("AccurateTime"), TimeZone: snap.Get("TimeZone"),
		Lane: snap.Get("LanNo", "LaneNo"), Direction: snap.Get("Direction"), Address: snap.Get("SnapAddress"), Trigger: snap.Get("TriggerSource"),
	}
	for _, place := range pictureNames {
		for _, name := range place.names {
			for _, n := range x.All(name) {
				r.add(place.kind, n)
			}
		}
	}
	p.Read = r
	return p, nil
}

func (r *Read) add(kind string, n *document.Node) {
	if r.PicName == "" {
		r.PicName = n.Get("PicName")
	}
	text := n.Get("Content")
	if text == "" {
		return
	}
	content := document.Base64(text)
	if content == nil || len(r.Pictures) == maxPictures {
		r.Unread++
		return
	}
	r.Pictures = append(r.Pictures, Picture{kind, content})
}

func cut(s string) string { return s[:min(len(s), 40)] }

// AppendReply appends the answer to a post. It holds nothing that opens a gate; without
// it the camera posts the same again.
func AppendReply(b []byte, p Post) []byte {
	if p.Kind != KeepAlive {
		return append(b, `{"Result":true}`...)
	}
	id, err := json.Marshal(p.DeviceID)
	if err != nil {
		id = []byte(`""`) // a text can always be encoded
	}
	return fmt.Appendf(b, `{"Active":true,"DeviceID":%s}`, id)
}

// Accepted reports whether an answer is the one to a post that was taken.
func Accepted(answer []byte) bool {
	n, err := document.ParseOne(answer, MaxDocument)
	return err == nil && strings.EqualFold(n.Get("Result"), "true")
}

// Append appends the body of a post. Misspelt has the spellings that some firmware
// has.
func Append(b []byte, p Post, misspelt bool) []byte {
	spell := func(right, wrong string) string {
		if misspelt {
			return wrong
		}
		return right
	}
	var v any
	switch p.Kind {
	case KeepAlive:
		v = map[string]string{"Active": "keepAlive", "DeviceID": p.DeviceID}
	case Plate:
		r := p.Read
		x := map[string]any{
			"Plate": map[string]any{
				spell("IsExist", "IsExit"): r.Exists == "true", "PlateNumber": r.Plate, "ADR": r.ADR, "PlateColor": r.PlateColor, "PlateType": r.PlateType,
				"Confidence": json.Number(orZero(r.Confidence)), "UploadNum": json.Number(orZero(r.UploadNum)), "Channel": json.Number(orZero(r.Channel)), "Region": r.Region,
			},
			"Vehicle": map[string]any{
				"VehicleColor": r.Color, "VehicleSign": r.Sign, "VehicleType": r.Type, spell("VehicleSeries", "VehocleSeries"): r.Series, "Speed": json.Number(orZero(r.Speed)),
			},
			"SnapInfo": map[string]any{
				"DeviceID": p.DeviceID, "SnapTime": r.SnapTime, "AccurateTime": r.AccurateTime, "TimeZone": json.Number(orZero(r.TimeZone)), "DSTTune": 0,
				"SnapAddress": r.Address, "LanNo": json.Number(orZero(r.Lane)), "Direction": r.Direction, "TriggerSource": r.Trigger, "OpenStrobe": false,
			},
		}
		for i, pic := range r.Pictures {
			name := map[string]string{"normal": "NormalPic", "cutout": spell("CutoutPic", "CutouPic"), "vehicle": "VehiclePic", "combined": "CombinPic"}[pic.Kind]
			x[name] = map[string]string{"PicName": fmt.Sprintf("%s-%d.jpg", strings.TrimSuffix(r.PicName, "-0.jpg"), i), "Content": base64.StdEncoding.EncodeToString(pic.Content)}
		}
		v = map[string]any{"Picture": x}
	default:
		v = map[string]string{"DeviceName": "camera", "DeviceModel": p.Model, "DeviceID": p.DeviceID, "Manufacturer": "Dahua"}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return b // texts and numbers that orZero let through can always be encoded
	}
	return append(b, text...)
}

// orZero lets a whole number through.
func orZero(s string) string {
	if s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" || len(s) > 1 && s[0] == '0' {
		return "0"
	}
	return s
}
