// Package sharpv reads and writes what Genetec AutoVu SharpV cameras post by their HTTP
// extension, as JSON or XML, and what Security Center's exporter posts in their place. It
// does no I/O.
//
// Facts are from techdocs.genetec.com and from parkpow's receiver.
package sharpv

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

const (
	// MaxDocument bounds a post in bytes; two pictures are in it.
	MaxDocument = 24 << 20
	// maxAnalytics bounds what is told of one plate.
	maxAnalytics = 64
)

// Read is one vehicle.
type Read struct {
	// ID is a GUID; the exporter tells none.
	ID    string
	Plate string
	// State is where the plate is from, by name. Confidence runs from 0 to 100.
	State, Confidence string
	// Motion is for instance "Moving Away".
	Motion, VehicleType string
	// Camera took the picture of the plate, Context that of the vehicle.
	Camera, Context string
	// Timestamp has an offset in XML and none in JSON. Date and Clock are the exporter's,
	// in UTC; the date is written dd/mm/yyyy.
	Timestamp, Date, Clock string
	PlateImage, Image      []byte
	// Unread counts the pictures that are no base64.
	Unread int
}

// Time is when the plate was read. zoned is false where the camera does not say in which
// zone: then it is by the clock on its wall, in UTC for want of another.
func (r *Read) Time() (at time.Time, zoned, ok bool) {
	if r.Date != "" {
		for _, layout := range []string{"02/01/2006 15:04:05", "02/01/2006 15:04:05.999999999"} {
			if t, err := time.Parse(layout, r.Date+" "+r.Clock); err == nil && t.Year() >= 2000 {
				return t, true, true
			}
		}
		return at, false, false
	}
	if t, err := time.Parse(time.RFC3339Nano, r.Timestamp); err == nil && t.Year() >= 2000 {
		return t, true, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, r.Timestamp); err == nil && t.Year() >= 2000 {
			return t, false, true
		}
	}
	return at, false, false
}

// Parse reads a post.
func Parse(body []byte) (*Read, error) {
	n, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return nil, err
	}
	plate := n.Child("PlateRead", "Plate")
	if plate == nil {
		return nil, errors.New("a document without a PlateRead or a Plate")
	}
	r := &Read{
		ID: n.Get("Id", "ID"), Plate: plate.Text, State: n.Get("State"), Confidence: n.Get("ConfidenceScore"),
		Camera: n.Get("LprCameraName", "CameraName"), Context: n.Get("ContextCameraName"),
		Timestamp: n.Get("Timestamp"), Date: n.Get("DateUtc"), Clock: n.Get("TimeUtc"),
		Motion: n.Child("Attributes").Get("Relative Motion"), VehicleType: n.Child("Attributes").Get("Vehicle Type"),
	}
	for _, a := range analytics(n) {
		value := a.Get("Value")
		switch a.Get("Key") {
		case "State Name":
			r.State = value
		case "Vehicle Type":
			r.VehicleType = value
		case "Relative Motion":
			r.Motion = value
		case "Confidence Score":
			r.Confidence = value
			// A score of -1 is none.
			if score := a.Get("Score"); value == "" && !strings.HasPrefix(score, "-") {
				r.Confidence = score
			}
		}
	}
	for _, p := range []struct {
		name string
		to   *[]byte
	}{{"PlateImage", &r.PlateImage}, {"ContextImage", &r.Image}} {
		if text := n.Get(p.name); text != "" {
			if *p.to = document.Base64(text); *p.to == nil {
				r.Unread++
			}
		}
	}
	return r, nil
}

// analytics are what the camera tells of the plate: a list in JSON, and elements within
// one in XML.
func analytics(n *document.Node) []*document.Node {
	var list []*document.Node
	for _, a := range n.All("PlateAnalytics") {
		if a.Child("Key") != nil {
			list = append(list, a)
			continue
		}
		for _, c := range a.Children {
			if c.Child("Key") != nil {
				list = append(list, c)
			}
		}
	}
	return list[:min(len(list), maxAnalytics)]
}

// Append appends the JSON of a camera's post, or that of the exporter if the date is set.
func Append(b []byte, r Read) []byte {
	m := map[string]any{}
	if r.Date != "" {
		m = map[string]any{
			"CameraName": r.Camera, "DateUtc": r.Date, "TimeUtc": r.Clock, "Plate": r.Plate, "State": r.State, "ConfidenceScore": r.Confidence,
			"Attributes": map[string]string{"Relative Motion": r.Motion, "Vehicle Type": r.VehicleType},
		}
	} else {
		m["Id"], m["PlateRead"], m["LprCameraName"], m["ContextCameraName"], m["Timestamp"] = r.ID, r.Plate, r.Camera, r.Context, r.Timestamp
		m["PlateAnalytics"] = []map[string]any{
			{"Key": "State Name", "Score": -1, "Value": r.State}, {"Key": "Vehicle Type", "Score": -1, "Value": r.VehicleType},
			{"Key": "Relative Motion", "Score": -1, "Value": r.Motion}, {"Key": "Confidence Score", "Score": -1, "Value": r.Confidence},
		}
		m["PlateImage"], m["ContextImage"] = base64.StdEncoding.EncodeToString(r.PlateImage), base64.StdEncoding.EncodeToString(r.Image)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return b // texts can always be encoded
	}
	return append(b, text...)
}
