// Package milesight reads and writes what Milesight plate cameras send by HTTP: JSON in
// a post, or the same names in the query of a GET. It does no I/O.
//
// Facts are from support.milesight.com. The binary form over TCP is not here: its layout
// changed between firmware versions.
package milesight

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

// MaxDocument bounds a post in bytes; three pictures are in it.
const MaxDocument = 32 << 20

// Read is one vehicle.
type Read struct {
	Device, Plate, PlateColor, VehicleType, VehicleColor string
	// Time is by the clock on the camera's wall.
	Time string
	// Direction is "In" or "Out", by how the camera is set up.
	Direction string
	// Speed and Confidence are in units that the document does not tell.
	Speed, Confidence string
	// Region is of the plate, ROI the part of the picture in which it was read.
	Region, ROI string
	// PlateImage, FullImage and Evidence are pictures.
	PlateImage, FullImage, Evidence []byte
	// Unread counts the pictures that are no base64.
	Unread int
}

// At is when the plate was read in the camera's zone; zero if it is not told.
func (r *Read) At(zone *time.Location) time.Time {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006/01/02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, strings.TrimSpace(r.Time), zone); err == nil && t.Year() >= 2000 {
			return t
		}
	}
	return time.Time{}
}

// ErrNoPlate says that there is nothing of a plate in what was sent.
var ErrNoPlate = errors.New("nothing in it is called plate")

// Parse reads the body of a post.
func Parse(body []byte) (*Read, error) {
	n, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return nil, err
	}
	if n.Child("plate") == nil {
		return nil, ErrNoPlate
	}
	return read(func(name string) string { return n.Get(name) }), nil
}

// ParseQuery reads the query of a GET.
func ParseQuery(q url.Values) (*Read, error) {
	if !q.Has("plate") {
		return nil, ErrNoPlate
	}
	return read(func(name string) string { return strings.ToValidUTF8(q.Get(name), "\ufffd") }), nil
}

func read(get func(string) string) *Read {
	r := &Read{
		Device: get("device"), Plate: get("plate"), PlateColor: get("plate_color"), VehicleType: get("vehicle_type"), VehicleColor: get("vehicle_color"),
		Time: get("time"), Direction: get("direction"), Speed: get("speed"), Confidence: get("confidence"), Region: get("region"),
	}
	if r.ROI = get("roi"); r.ROI == "" {
		r.ROI = get("roi_id")
	}
	for _, p := range []struct {
		name string
		to   *[]byte
	}{{"plate_image", &r.PlateImage}, {"full_image", &r.FullImage}, {"evidence_image0", &r.Evidence}} {
		if text := get(p.name); text != "" {
			if *p.to = document.Base64(text); *p.to == nil {
				r.Unread++
			}
		}
	}
	return r
}

// Values gives what is sent by name, pictures as base64.
func (r *Read) Values() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{
		"device": r.Device, "time": r.Time, "plate": r.Plate, "plate_color": r.PlateColor, "vehicle_type": r.VehicleType, "vehicle_color": r.VehicleColor,
		"direction": r.Direction, "speed": r.Speed, "confidence": r.Confidence, "region": r.Region, "roi": r.ROI,
		"plate_image": base64.StdEncoding.EncodeToString(r.PlateImage), "full_image": base64.StdEncoding.EncodeToString(r.FullImage),
		"evidence_image0": base64.StdEncoding.EncodeToString(r.Evidence),
	} {
		if v != "" || name == "plate" {
			q.Set(name, v)
		}
	}
	return q
}

// Append appends the JSON of a post.
func Append(b []byte, r *Read) []byte {
	m := map[string]string{}
	for name, list := range r.Values() {
		m[name] = list[0]
	}
	text, err := json.Marshal(m)
	if err != nil {
		return b // texts can always be encoded
	}
	return append(b, text...)
}
