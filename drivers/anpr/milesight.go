package anpr

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/milesight"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Milesight is the driver of Milesight plate cameras, which post what they read or put it
// into the query of a GET.
func Milesight() drivers.Driver {
	return drivers.Driver{
		Name:    "milesight",
		Summary: "Milesight camera, posting to the agent (HTTP notification)",
		Schemes: []string{"http-listen"},
		Silence: pushSilence,
		New:     newPosts(plate.Milesight, takeMilesight),
	}
}

func takeMilesight(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	body := d.Body
	var v *milesight.Read
	var err error
	switch {
	case d.Method == http.MethodGet && len(d.Query) > 0:
		body = []byte(d.Query.Encode())
		for _, values := range d.Query {
			for i := range values {
				values[i], _ = r.Decode([]byte(values[i])) // what can't be read is marked in it
			}
		}
		v, err = milesight.ParseQuery(d.Query)
	case len(body) == 0:
		h.Valid() // a test of the connection
		return answer{}, nil
	default:
		v, err = milesight.Parse(r.Text(body))
	}
	if err != nil {
		h.Unparsed("a message of the camera: "+err.Error(), sample(body))
		return answer{}, nil
	}
	h.Valid()
	x := Reading{
		Plate: v.Plate, Confidence: v.Confidence, Country: v.Region, Direction: v.Direction, PlateColor: v.PlateColor,
		Reader: event.PlateReader{Camera: v.Device, Lane: v.ROI}, Received: h.Now(),
	}
	vehicle := event.PlateVehicle{Type: word(v.VehicleType), Color: word(v.VehicleColor)}
	if s := speed(v.Speed); s != nil && *s > 0 {
		vehicle.SpeedKPH = s
	}
	if vehicle != (event.PlateVehicle{}) {
		x.Vehicle = &vehicle
	}
	if at := v.At(r.Location()); !at.IsZero() {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDeviceZone
		if v.Plate != "" { // the time is in seconds: two unread ones may share it
			x.MessageKey = plate.MessageKey(cmp.Or(v.Device, "-"), v.Time, cmp.Or(v.ROI, "-"), v.Plate)
		}
	}
	if v.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a read are no base64", v.Unread), nil)
	}
	x = withPictures(h, x, body,
		Picture{Name: "vehicle.jpg", Content: v.FullImage}, Picture{Name: "plate.jpg", Content: v.PlateImage}, Picture{Name: "evidence.jpg", Content: v.Evidence})
	return answer{}, r.Record(h, x)
}
