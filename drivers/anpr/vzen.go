package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/vzen"
)

// Times of a Vzen camera.
const (
	// vzenComet: a heartbeat that follows the answer to the one before so soon is that
	// of a camera which posts the next at once, and vzenPause how long its answer is
	// held back then.
	vzenComet = 500 * time.Millisecond
	vzenPause = 5 * time.Second
)

// vehicleWithoutPlate is the type of a plate that is none, whatever the text says.
const vehicleWithoutPlate = "31"

// VzenPush is the driver of cameras that post or publish AlarmInfoPlate.
func VzenPush() drivers.Driver {
	return drivers.Driver{
		Name:    "vzen-push",
		Summary: "Vzen (Zhenshi) camera and its many relatives, posting to the agent or over MQTT (AlarmInfoPlate)",
		Schemes: []string{"http-listen", "mqtt", "mqtts"},
		// A heartbeat comes each 5 or 30 s where it is turned on.
		Silence: pushSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := VzenSettings{Clock: "seconds", ContinueReply: "inside"}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if s.Clock != "seconds" && s.Clock != "calendar" {
				return nil, fmt.Errorf("clock: %q is not known; take seconds or calendar", s.Clock)
			}
			if s.ContinueReply != "inside" && s.ContinueReply != "beside" {
				return nil, fmt.Errorf("continue_reply: %q is not known; take inside or beside", s.ContinueReply)
			}
			if err := s.Check(); err != nil {
				return nil, err
			}
			return &vzenCamera{settings: s, recorder: NewRecorder(plate.Vzen, s.Settings)}, nil
		},
	}
}

// VzenSettings are the settings of a Vzen camera.
type VzenSettings struct {
	Settings `yaml:",inline"`
	// Clock says which of the camera's two times to believe where they disagree:
	// "seconds" since 1970, or the "calendar" figures in zone.
	Clock string `yaml:"clock"`
	// ContinueReply says where the wish for the next kept message stands: "inside" the
	// answer, or "beside" it.
	ContinueReply string `yaml:"continue_reply"`
}

type vzenCamera struct {
	settings VzenSettings
	recorder *Recorder

	mu       sync.Mutex
	answered time.Time // the last heartbeat
}

// Run implements drivers.Instrument.
func (c *vzenCamera) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if s, ok := link.As[*link.Subscriber](conn); ok {
		return c.subscribe(ctx, s, h)
	}
	return answerPosts(ctx, conn, func(d *link.Delivery) (answer, error) { return c.take(h, d) })
}

// subscribe takes what the camera publishes. Its serial number is in the link; firmware
// has it in one of two places.
func (c *vzenCamera) subscribe(ctx context.Context, s *link.Subscriber, h drivers.Host) error {
	if s.Prefix() == "" {
		return errors.New("the camera's serial number is missing; write it behind the broker, as in mqtt://10.0.3.5/SERIAL-NUMBER")
	}
	filters := []string{"device/" + s.Prefix() + "/message/up/+", s.Prefix() + "/device/message/up/+"}
	return takeMessages(ctx, s, filters, func(m *link.Message) error {
		if !strings.HasSuffix(m.Topic, "/ivs_result") {
			h.Valid() // a sign of life, an input, the barrier's state
			return nil
		}
		p, err := vzen.Parse(c.recorder.Text(m.Payload), c.recorder.Decode)
		switch {
		case errors.Is(err, vzen.ErrHeartbeat):
			h.Valid()
			return nil
		case err != nil && vzen.Secret(m.Payload):
			h.Unparsed("a message of the camera: "+err.Error(), nil)
			return nil
		case err != nil:
			h.Unparsed("a message of the camera: "+err.Error(), sample(m.Payload))
			return nil
		}
		h.Valid()
		if p.Kind != vzen.Plate {
			return nil
		}
		raw := m.Payload
		if vzen.Secret(raw) {
			raw = nil
		}
		p.Offline = p.Offline || m.Retained
		p.SerialNo = cmp.Or(p.SerialNo, s.Prefix())
		return c.record(h, &p, raw)
	})
}

func (c *vzenCamera) take(h drivers.Host, d *link.Delivery) (answer, error) {
	a := vzen.Answer{Beside: c.settings.ContinueReply == "beside"}
	t := strings.ToLower(d.ContentType)
	form := strings.HasPrefix(t, "multipart/") || strings.HasPrefix(t, "application/x-www-form-urlencoded")
	// What some libraries call a form is none, and a form may hold a read.
	if from := bytes.IndexByte(d.Body, '{'); form && from >= 0 && bytes.Contains(d.Body[from:], []byte("AlarmInfoPlate")) {
		d.Body, form = d.Body[from:], false
	}
	if form {
		return c.heartbeat(h, a), nil // and nothing of it is kept: it holds the camera's login
	}
	raw := d.Body
	if vzen.Secret(raw) {
		raw = nil
	}
	m, err := vzen.Parse(c.recorder.Text(d.Body), nil)
	switch {
	case errors.Is(err, vzen.ErrHeartbeat):
		return c.heartbeat(h, a), nil
	case err != nil:
		h.Unparsed("a post of the camera: "+err.Error(), sample(raw))
		return jsonAnswer(a.Append(nil)), nil
	}
	h.Valid()
	if m.Kind != vzen.Plate {
		return jsonAnswer(a.Append(nil)), nil
	}
	if err := c.record(h, &m, raw); err != nil {
		return answer{}, err
	}
	a.PlateID, a.More = m.PlateID, m.Offline
	return jsonAnswer(a.Append(nil)), nil
}

// heartbeat answers a heartbeat, late if the camera sends the next one at once.
func (c *vzenCamera) heartbeat(h drivers.Host, a vzen.Answer) answer {
	h.Valid()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := h.Now()
	reply := jsonAnswer(a.Append(nil))
	if gap := now.Sub(c.answered); gap < vzenComet {
		reply.wait = vzenPause
	}
	c.answered = now.Add(reply.wait)
	return reply
}

// record makes the events of a message: one for each plate in it.
func (c *vzenCamera) record(h drivers.Host, m *vzen.Message, raw []byte) error {
	at, source := m.Time(), event.TimeFromDevice
	local := m.LocalTime(c.recorder.Location())
	if c.settings.Clock == "calendar" && !local.IsZero() || at.IsZero() {
		at, source = local, event.TimeFromDeviceZone
	}
	if m.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a read are no base64", m.Unread), nil)
	}
	kind := m.Type
	if m.Fake {
		kind += ", taken for a picture of a plate"
	}
	// The count may begin anew with the camera, so a time belongs to it.
	when := cmp.Or(m.Seconds, "-")
	if m.Seconds == "" && !m.Calendar.IsZero() {
		when = m.Calendar.Format(time.RFC3339)
	}
	texts := m.Plates
	if len(texts) == 0 {
		texts = []string{vzen.NoPlate}
	}
	for i, text := range texts {
		x := Reading{
			Plate: text, Lossy: m.Lossy, NoPlate: m.Type == vehicleWithoutPlate, Confidence: m.Confidence, Direction: m.Direction, PlateType: kind, PlateColor: m.ColorType, Trigger: m.Trigger,
			Reader:     event.PlateReader{Serial: m.SerialNo, Camera: m.DeviceName},
			MessageKey: plate.MessageKey(cmp.Or(m.SerialNo, "-"), m.PlateID, when, strconv.Itoa(i)), VendorEventID: m.PlateID,
			Replayed: m.Offline, DeviceTime: at, TimeSource: source, Received: h.Now(),
		}
		x = withPictures(h, x, raw, Picture{Name: "vehicle.jpg", Content: m.Image}, Picture{Name: "plate.jpg", Content: m.Crop})
		if err := c.recorder.Record(h, x); err != nil {
			return err
		}
	}
	return nil
}
