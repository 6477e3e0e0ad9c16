package anpr

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/sharpv"
)

// SharpV is the driver of Genetec AutoVu SharpV cameras, which post what they read.
func SharpV() drivers.Driver {
	return drivers.Driver{
		Name:    "sharpv",
		Summary: "Genetec AutoVu SharpV camera or Security Center, posting to the agent",
		Schemes: []string{"http-listen"},
		Silence: pushSilence,
		New:     newPosts(plate.Genetec, takeSharpV),
	}
}

func takeSharpV(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	if len(strings.TrimSpace(string(sample(d.Body)))) == 0 {
		h.Valid() // a test of the connection
		return answer{}, nil
	}
	v, err := sharpv.Parse(r.Text(d.Body))
	if err != nil {
		h.Unparsed("a post of the camera: "+err.Error(), sample(d.Body))
		return answer{}, nil
	}
	h.Valid()
	x := Reading{
		Plate: v.Plate, Confidence: v.Confidence, Country: v.State, Direction: v.Motion, VendorEventID: v.ID, MessageKey: plate.MessageKey(v.ID),
		Reader: event.PlateReader{Camera: v.Camera}, Received: h.Now(),
	}
	if v.ID == "" && v.Plate != "" {
		x.MessageKey = plate.MessageKey(cmp.Or(v.Camera, "-"), v.Date+v.Clock+v.Timestamp, v.Plate)
	}
	if v.VehicleType != "" {
		x.Vehicle = &event.PlateVehicle{Type: word(v.VehicleType)}
	}
	if at, zoned, ok := v.Time(); ok {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
		if !zoned {
			x.DeviceTime, x.TimeSource = onWall(at, r.Location()), event.TimeFromDeviceZone
		}
	}
	if v.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a read are no base64", v.Unread), nil)
	}
	x = withPictures(h, x, d.Body, Picture{Name: "vehicle.jpg", Content: v.Image}, Picture{Name: "plate.jpg", Content: v.PlateImage})
	return answer{}, r.Record(h, x)
}

// onWall takes the figures of a time for those of a clock in a zone.
func onWall(at time.Time, zone *time.Location) time.Time {
	return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), zone)
}
