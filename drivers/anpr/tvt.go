package anpr

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/tvt"
)

// TVT is the driver of TVT cameras and recorders, which post what they see.
func TVT() drivers.Driver {
	return drivers.Driver{
		Name:    "tvt",
		Summary: "TVT camera or recorder and its relatives (Viewtron, Provision-ISR), posting to the agent",
		Schemes: []string{"http-listen"},
		Silence: pushSilence,
		New:     newPosts(plate.TVT, takeTVT),
	}
}

func takeTVT(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	reply := answer{contentType: "application/xml", body: []byte(tvt.Reply)}
	m, err := tvt.Parse(r.Text(d.Body))
	if err != nil {
		h.Unparsed("a post of the camera: "+err.Error(), sample(d.Body))
		if len(m.Reads) == 0 {
			return reply, nil
		}
	}
	h.Valid()
	if !m.Vehicle {
		return reply, nil
	}
	if m.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a message are no base64, or too many", m.Unread), nil)
	}
	if len(m.Reads) == 0 {
		if err == nil && m.Overview == nil && m.Unread == 0 {
			h.Unparsed("a message about a vehicle in which no plate stands where it is known to stand", sample(d.Body))
		}
		m.Reads = []tvt.Read{{}}
	}
	for i, v := range m.Reads {
		x := Reading{Plate: v.Plate, VehicleList: v.List, Trigger: m.Smart, Reader: event.PlateReader{Serial: m.Device}, Received: h.Now()}
		if at := m.At(); !at.IsZero() {
			x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
		}
		x.MessageKey = plate.MessageKey(cmp.Or(m.Device, "-"), m.Time, strconv.Itoa(i), cmp.Or(v.Plate, "-"))
		x = withPictures(h, x, d.Body, Picture{Name: "vehicle.jpg", Content: m.Overview}, Picture{Name: "plate.jpg", Content: v.Crop}, Picture{Name: "source.jpg", Content: m.Source})
		if err := r.Record(h, x); err != nil {
			return answer{}, err
		}
	}
	return reply, nil
}
