package anpr

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/rekor"
)

// Rekor is the driver of Rekor Scout and OpenALPR agents, which post their groups.
func Rekor() drivers.Driver {
	return drivers.Driver{
		Name:    "rekor",
		Summary: "Rekor Scout or OpenALPR agent, posting its groups to this one",
		Schemes: []string{"http-listen"},
		// It posts a heartbeat each minute where that is turned on.
		Silence: pushSilence,
		New:     newPosts(plate.Rekor, takeRekor),
	}
}

func takeRekor(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	if len(bytes.TrimSpace(d.Body)) == 0 {
		h.Valid()
		return answer{}, nil
	}
	g, err := rekor.Parse(r.Text(d.Body))
	if err != nil {
		raw := sample(d.Body)
		if bytes.Contains(d.Body, []byte("license_key")) || bytes.Contains(d.Body, []byte("rtsp://")) {
			raw = nil // logins are in it
		}
		h.Unparsed("a post of the agent: "+err.Error(), raw)
		return answer{}, nil
	}
	h.Valid()
	if g == nil {
		return answer{}, nil
	}
	x := Reading{
		Plate: g.Plate, Confidence: g.Confidence, Country: g.Region, Direction: g.Direction, MessageKey: plate.MessageKey(g.UUID, cmp.Or(g.Start, "-"), cmp.Or(g.Plate, "-")), VendorEventID: g.UUID,
		Reader: event.PlateReader{Serial: g.Agent, Camera: g.Camera}, Raw: d.Body, Received: h.Now(),
	}
	for _, c := range g.Candidates {
		x.Alternatives = append(x.Alternatives, Alternative(c))
	}
	if v := (event.PlateVehicle{Type: word(g.Body), Color: word(g.Color), Make: word(g.Make), Model: word(g.Model)}); v != (event.PlateVehicle{}) {
		x.Vehicle = &v
	}
	if at := g.Time(); !at.IsZero() {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
	}
	if g.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a read are no base64", g.Unread), nil)
	}
	x = withPictures(h, x, d.Body, Picture{Name: "plate.jpg", Content: g.PlateCrop}, Picture{Name: "vehicle.jpg", Content: g.VehicleCrop})
	return answer{}, r.Record(h, x)
}
