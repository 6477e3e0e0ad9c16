package anpr

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/dahua"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
)

// dahuaSilence: a keep-alive comes about each 30 s.
const dahuaSilence = 2 * time.Minute

// DahuaPush is the driver of cameras that post over ITSAPI.
func DahuaPush() drivers.Driver {
	return drivers.Driver{
		Name:    "dahua-push",
		Summary: "Dahua camera and its relatives, posting to the agent (ITSAPI)",
		Schemes: []string{"http-listen"},
		Silence: dahuaSilence,
		New:     newPosts(plate.Dahua, takeDahua),
	}
}

// takeDahua makes an event of a post. One that nobody understands is kept as a sample
// and answered: the camera would send it for ever.
func takeDahua(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	p, err := dahua.ParsePost(r.Text(d.Body))
	if err != nil {
		why := "a post of the camera: " + err.Error()
		if bytes.Contains(sample(d.Body), []byte("<EventNotificationAlert")) {
			why += "; this camera speaks as Hikvision does: take the profile hikvision-push"
		}
		h.Unparsed(why, sample(d.Body))
		return jsonAnswer(dahua.AppendReply(nil, p)), nil
	}
	h.Valid()
	if p.Kind == dahua.Plate {
		if err := r.Record(h, dahuaReading(r, h, p, d.Body)); err != nil {
			return answer{}, err
		}
	}
	return jsonAnswer(dahua.AppendReply(nil, p)), nil
}

func dahuaReading(r *Recorder, h drivers.Host, p dahua.Post, body []byte) Reading {
	v := p.Read
	x := Reading{
		Plate: v.Plate, Confidence: v.Confidence, Country: v.Region, Direction: v.Direction, PlateType: v.PlateType, PlateColor: v.PlateColor,
		Trigger: v.Trigger, Vehicle: dahuaVehicle(v), VendorEventID: v.UploadNum,
		Reader: event.PlateReader{Serial: p.DeviceID, Camera: cmp.Or(v.Address, v.Channel), Lane: v.Lane}, Received: h.Now(),
	}
	// The count begins anew with the camera, so the time belongs to it. A post without
	// pictures has the count alone.
	// The name of a picture has it in it; where there is one the count says no more, and
	// may go up with each try.
	when := cmp.Or(v.AccurateTime, v.SnapTime)
	switch {
	case v.PicName != "":
		x.MessageKey = plate.MessageKey(v.PicName, cmp.Or(when, "-"), cmp.Or(v.Lane, "-"), cmp.Or(v.Plate, "-"))
	case v.UploadNum != "":
		x.MessageKey = plate.MessageKey(v.UploadNum, when, cmp.Or(v.Channel, "-"), cmp.Or(v.Lane, "-"), cmp.Or(v.Plate, "-"))
	}
	x.NoPlate = v.Exists == "false"
	if at := v.Time(r.Location()); !at.IsZero() {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDeviceZone
	}
	if v.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a read are no base64, or too many", v.Unread), nil)
	}
	var pictures []Picture
	for i, pic := range v.Pictures {
		// The camera's own name holds the plate with some settings.
		pictures = append(pictures, Picture{Name: fmt.Sprintf("%s-%d.jpg", pic.Kind, i+1), Content: pic.Content})
	}
	return withPictures(h, x, body, pictures...)
}

func dahuaVehicle(v *dahua.Read) *event.PlateVehicle {
	w := event.PlateVehicle{Type: word(said(v.Type)), Color: word(said(v.Color)), Make: word(said(v.Sign)), Model: word(said(v.Series))}
	// A vehicle that was not measured has a speed of 0 too.
	if s := speed(v.Speed); s != nil && *s > 0 {
		w.SpeedKPH = s
	}
	if strings.ContainsAny(v.ADR, "0123456789") {
		w.DangerousGoods = "yes"
	}
	if w == (event.PlateVehicle{}) {
		return nil
	}
	return &w
}
