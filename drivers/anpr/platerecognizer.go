package anpr

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/multipart"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/platerecognizer"
)

// PlateRecognizer is the driver of Plate Recognizer Stream, which posts to a webhook.
func PlateRecognizer() drivers.Driver {
	return drivers.Driver{
		Name:    "plate-recognizer",
		Summary: "Plate Recognizer Stream, posting to the agent (webhook)",
		Schemes: []string{"http-listen"},
		Silence: pushSilence,
		New:     newPosts(plate.PlateRecognizer, takePlateRecognizer),
	}
}

// takePlateRecognizer makes events of a post, one for each plate. Every post is
// answered as taken: after some errors the engine would stop posting for good.
func takePlateRecognizer(r *Recorder, h drivers.Host, d *link.Delivery) (answer, error) {
	text, pictures, err := platePost(d)
	if err != nil {
		h.Unparsed("a post of parts: "+err.Error(), sample(d.Body))
	}
	if len(bytes.TrimSpace(text)) == 0 {
		if err == nil {
			h.Valid() // a test of the connection
		}
		return answer{}, nil
	}
	p, err := platerecognizer.Parse(r.Text(text))
	if err != nil {
		h.Unparsed("a post of the engine: "+err.Error(), sample(text))
	}
	if p == nil {
		return answer{}, nil
	}
	h.Valid()
	for i, v := range p.Results {
		x := Reading{
			Plate: v.Plate, Confidence: v.Score, Country: v.Region, Direction: v.Direction,
			Reader: event.PlateReader{Camera: p.Camera}, Pictures: pictures, Raw: text, Received: h.Now(),
		}
		// A place in the list too: two unread plates are in one picture.
		if v.Plate != "" {
			x.MessageKey = plate.MessageKey(cmp.Or(p.HookID, "-"), p.FileName, cmp.Or(p.Timestamp, "-"), v.Plate)
		} else {
			x.MessageKey = plate.MessageKey(cmp.Or(p.HookID, "-"), p.FileName, cmp.Or(p.Timestamp, "-"), "no plate", strconv.Itoa(i))
		}
		for _, c := range v.Candidates {
			x.Alternatives = append(x.Alternatives, Alternative{c.Plate, c.Score})
		}
		if v.VehicleType != "" {
			x.Vehicle = &event.PlateVehicle{Type: word(v.VehicleType)}
		}
		if at := p.Time(); !at.IsZero() {
			x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
		}
		if err := r.Record(h, x); err != nil {
			return answer{}, err
		}
	}
	return answer{}, nil
}

// platePost finds the JSON and the pictures of a post: the body, or a form whose field
// "json" has it.
func platePost(d *link.Delivery) (text []byte, pictures []Picture, err error) {
	t := strings.ToLower(d.ContentType)
	if strings.HasPrefix(t, "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(d.Body))
		return []byte(form.Get("json")), nil, err
	}
	if !strings.HasPrefix(t, "multipart/") {
		return d.Body, nil, nil
	}
	m := multipart.NewReader(bytes.NewReader(d.Body), d.ContentType)
	for range 4 * maxPictures {
		p, err := m.Next()
		switch {
		case errors.Is(err, io.EOF):
			return text, pictures, nil
		case err != nil:
			return text, pictures, err
		case isPicture(p.MediaType(), p.Body):
			content := bytes.Clone(p.Body)
			pictures = append(pictures, Picture{Name: "upload.jpg", MediaType: http.DetectContentType(content), Content: content})
		case text == nil && (p.Name() == "json" || p.Name() == ""):
			text = bytes.Clone(p.Body)
		}
	}
	return text, pictures, errors.New("more parts than are read")
}
