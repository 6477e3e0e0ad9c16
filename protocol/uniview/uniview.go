// Package uniview reads and writes what Uniview (UNV) plate cameras say by LAPI: the
// subscription that makes them post, and what they post. It does no I/O.
//
// Facts are from adarlegendre/dataloggerpy and the vendor's texts as far as they are
// public. Where pictures stand in a post is not: any text beside them that is a picture
// in base64 is taken for one.
package uniview

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

const (
	// MaxDocument bounds a post in bytes; its pictures are in it.
	MaxDocument = 32 << 20
	// maxVehicles bounds the vehicles of one post, maxPictures its pictures.
	maxVehicles = 16
	maxPictures = 12
)

// Paths of a camera and of its host.
const (
	SubscriptionPath = "/LAPI/V1.0/System/Event/Subscription"
	// NotificationPath is followed by /Structure, /Alarm or /ANPR.
	NotificationPath = "/LAPI/V1.0/System/Event/Notification"
)

// Post is what a camera posts.
type Post struct {
	// Reference is of the subscription, Time in seconds or milliseconds since 1970.
	Reference, Time string
	// About: it is about vehicles, and not an alarm of another kind.
	About    bool
	Vehicles []Vehicle
	Pictures [][]byte
	// Unread counts the pictures that are too many.
	Unread int
}

// Vehicle is one vehicle of a post.
type Vehicle struct{ Plate, Type, Color, Lane string }

// At is when it happened; zero if it is not told as a number.
func (p *Post) At() time.Time {
	n, err := strconv.ParseInt(p.Time, 10, 64)
	switch {
	case err != nil || n < 946_684_800:
		return time.Time{}
	case n < 1e11:
		return time.Unix(n, 0).UTC()
	case n < 1e14:
		return time.UnixMilli(n).UTC()
	}
	return time.Time{}
}

// ParsePost reads the body of a post.
func ParsePost(body []byte) (Post, error) {
	root, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return Post{}, err
	}
	if list := root.At("MotorVehicleListObject"); list != nil { // GA/T 1400
		p := Post{About: true}
		for _, v := range list.All("MotorVehicleObject") {
			if len(p.Vehicles) == maxVehicles {
				return p, fmt.Errorf("more than %d vehicles in one post", maxVehicles)
			}
			p.Vehicles = append(p.Vehicles, Vehicle{Plate: v.Get("PlateNo")})
		}
		return p, nil
	}
	p := Post{Reference: root.Get("Reference"), Time: root.Get("TimeStamp")}
	info := root.Child("StructureInfo")
	if info == nil {
		if p.Reference == "" && p.Time == "" {
			return p, errors.New("neither StructureInfo nor a Reference nor a TimeStamp")
		}
		return p, nil // an alarm of another kind
	}
	for _, v := range info.Child("ObjInfo").All("VehicleInfoList") {
		p.About = true
		if len(p.Vehicles) == maxVehicles {
			return p, fmt.Errorf("more than %d vehicles in one post", maxVehicles)
		}
		attributes := v.Child("VehicleAttributeInfo")
		p.Vehicles = append(p.Vehicles, Vehicle{
			v.At("PlateAttributeInfo").Get("PlateNo"), attributes.Get("Type"), attributes.Get("VehicleColor"), v.Child("LaneInfo").Get("ID"),
		})
	}
	for _, image := range info.All("ImageInfoList") {
		for _, c := range image.Children {
			if len(c.Text) < 64 {
				continue
			}
			b := document.Base64(c.Text)
			if b == nil || !strings.HasPrefix(http.DetectContentType(b), "image/") {
				continue
			}
			if len(p.Pictures) == maxPictures {
				p.Unread++
				continue
			}
			p.Pictures = append(p.Pictures, b)
		}
	}
	return p, nil
}

// AppendPost appends the body of a post.
func AppendPost(b []byte, p Post) []byte {
	var vehicles, images []any
	for _, v := range p.Vehicles {
		vehicles = append(vehicles, map[string]any{
			"PlateAttributeInfo":   map[string]any{"PlateNo": v.Plate},
			"VehicleAttributeInfo": map[string]any{"Type": v.Type, "VehicleColor": v.Color}, "LaneInfo": map[string]any{"ID": v.Lane},
		})
	}
	for _, i := range p.Pictures {
		images = append(images, map[string]any{"CaptureTime": p.Time, "Data": base64.StdEncoding.EncodeToString(i)})
	}
	at := any(p.Time)
	if n, err := strconv.ParseInt(p.Time, 10, 64); err == nil {
		at = n
	}
	text, err := json.Marshal(map[string]any{
		"Reference": p.Reference, "TimeStamp": at,
		"StructureInfo": map[string]any{"ObjInfo": map[string]any{"VehicleInfoList": vehicles}, "ImageInfoList": images},
	})
	if err != nil {
		return b // texts and numbers can always be encoded
	}
	return append(b, text...)
}

// AppendReply appends the answer to a post at a path.
func AppendReply(b []byte, path string) []byte {
	url, err := json.Marshal(path)
	if err != nil {
		return b // a text can always be encoded
	}
	return append(append(append(b, `{"ResponseCode":0,"ResponseURL":`...), url...), '}')
}

// Subscription asks a camera to post to a host.
type Subscription struct {
	// Address and Port are the host's.
	Address string
	Port    int
	// Duration is for how many seconds it holds unless it is renewed.
	Duration int
}

// Append appends the body of a subscription.
func (s Subscription) Append(b []byte) []byte {
	address, err := json.Marshal(s.Address)
	if err != nil {
		return b // a text can always be encoded
	}
	return fmt.Appendf(b, `{"AddressType":0,"IPAddress":%s,"Port":%d,"Duration":%d}`, address, s.Port, s.Duration)
}

// AppendRenewal appends the body of a renewal for so many seconds.
func AppendRenewal(b []byte, duration int) []byte { return fmt.Appendf(b, `{"Duration":%d}`, duration) }

// ParseSubscription reads the body of a subscription or of a renewal.
func ParseSubscription(body []byte) (Subscription, error) {
	var s Subscription
	n, err := document.ParseOne(body, 64<<10)
	if err != nil {
		return s, err
	}
	s.Address = n.Get("IPAddress")
	s.Port, _ = strconv.Atoi(n.Get("Port")) // a renewal has none
	if s.Duration, err = strconv.Atoi(n.Get("Duration")); err != nil || s.Duration <= 0 {
		return s, errors.New("a subscription without a duration")
	}
	return s, nil
}

// ParseID reads a camera's answer to a subscription: its id.
func ParseID(body []byte) (string, error) {
	n, err := document.ParseOne(body, 64<<10)
	if err != nil {
		return "", err
	}
	id := n.At("Response", "Data").Get("ID")
	if id == "" || strings.Trim(id, "0123456789abcdefABCDEF-") != "" {
		return "", errors.New("the answer holds no id of a subscription")
	}
	return id, nil
}

// Refused reports whether a camera's answer says in its body that it did not do as it was
// asked, whatever its status is.
func Refused(body []byte) bool {
	n, err := document.ParseOne(body, 64<<10)
	if err != nil {
		return false
	}
	code := n.Child("Response").Get("ResponseCode", "StatusCode")
	return code != "" && code != "0"
}

// AppendID appends a camera's answer to a subscription.
func AppendID(b []byte, id int) []byte {
	return fmt.Appendf(b, `{"Response":{"ResponseURL":%q,"ResponseCode":0,"ResponseString":"Succeed","Data":{"ID":%d}}}`, SubscriptionPath, id)
}
