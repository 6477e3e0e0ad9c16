package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/onvif"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Bounds of an ONVIF camera over MQTT.
const (
	maxONVIFFilters = 16
	// maxONVIFObjects bounds the objects of metadata that are followed.
	maxONVIFObjects = 256
)

// ONVIFMQTT is the driver of cameras that publish events or metadata as ONVIF's
// Profile M says.
func ONVIFMQTT() drivers.Driver {
	return drivers.Driver{
		Name:    "onvif-mqtt",
		Summary: "ONVIF camera that publishes plates over MQTT (Profile M)",
		Schemes: []string{"mqtt", "mqtts"},
		Silence: pushSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := ONVIFMQTTSettings{ONVIFEventSettings: defaultONVIFEvents(), Filters: []string{"onvif-ej/#"}}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if len(s.Filters) == 0 || len(s.Filters) > maxONVIFFilters {
				return nil, fmt.Errorf("filters: there are %d; take 1 to %d", len(s.Filters), maxONVIFFilters)
			}
			for _, f := range s.Filters {
				if f == "" || strings.HasPrefix(f, "/") || len(f) > 256 {
					return nil, fmt.Errorf("filters: %q is no topic; write it without the prefix and without a slash before it, as onvif-ej/#", f)
				}
			}
			events, err := newONVIFEvents(s.ONVIFEventSettings)
			if err != nil {
				return nil, err
			}
			return &onvifPublisher{onvifEvents: events, filters: s.Filters, objects: map[string]*onvifObject{}}, nil
		},
	}
}

// ONVIFMQTTSettings are the settings of a camera that publishes.
type ONVIFMQTTSettings struct {
	ONVIFEventSettings `yaml:",inline"`
	// Filters are the topics to read, below the prefix that stands in connect:
	// "onvif-ej/#" for events, "onvif-mj/#" for metadata. A camera tells the same
	// plate in both; events are once for each, metadata once for each picture.
	Filters []string `yaml:"filters"`
}

type onvifPublisher struct {
	onvifEvents
	filters []string
	objects map[string]*onvifObject // of metadata, by topic and number
}

// onvifObject is what a camera follows in its scenes. Its number is used again.
type onvifObject struct {
	first string // when it was seen first, by the camera
	last  time.Time
	told  bool
}

// objectGone is how long after it was seen last a number is of another object.
const objectGone = 30 * time.Second

// object gives the object of a number, a new one if the last was seen long ago.
func (c *onvifPublisher) object(number string, r onvif.Read, now time.Time) *onvifObject {
	o := c.objects[number]
	if o == nil || now.Sub(o.last) > objectGone {
		if len(c.objects) >= maxONVIFObjects {
			oldest := ""
			for k, x := range c.objects {
				if oldest == "" || x.last.Before(c.objects[oldest].last) {
					oldest = k
				}
			}
			delete(c.objects, oldest)
		}
		o = &onvifObject{first: r.UTCTime}
		c.objects[number] = o
	}
	o.last = now
	return o
}

// Run implements drivers.Instrument.
func (c *onvifPublisher) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	s, ok := link.As[*link.Subscriber](conn)
	if !ok {
		return errors.New("the driver onvif-mqtt needs an mqtt: or mqtts: link")
	}
	var filters []string
	for _, f := range c.filters {
		filters = append(filters, s.Topic(f))
	}
	return takeMessages(ctx, s, filters, func(m *link.Message) error {
		if len(bytes.TrimSpace(m.Payload)) == 0 {
			return nil // a retained state that was taken back
		}
		if onvif.IsMetadata(m.Topic) {
			return c.metadata(h, m)
		}
		n, err := onvif.DecodeEvent(m.Topic, m.Payload)
		if err != nil {
			h.Unparsed("an event of the camera: "+err.Error(), sample(m.Payload))
			return nil
		}
		h.Valid()
		if m.Retained {
			n.Operation = "Initialized"
		}
		return c.notification(h, n)
	})
}

// metadata records the plates of the objects in a scene. An object is in many scenes;
// each text that the camera reads of it is told once, as a revision of one read.
func (c *onvifPublisher) metadata(h drivers.Host, m *link.Message) error {
	list, err := onvif.DecodeMetadata(m.Payload)
	if err != nil {
		h.Unparsed("metadata of the camera: "+err.Error(), sample(m.Payload))
		return nil
	}
	h.Valid()
	for _, r := range list {
		var o *onvifObject
		if r.Object != "" {
			o = c.object(m.Topic+" "+r.Object, r, h.Now())
		}
		if r.Plate == "" {
			continue // not read yet; a scene is no passage
		}
		x := onvifReading(r, c.recorder.Location())
		x.Raw, x.Replayed = m.Payload, m.Retained
		if o != nil {
			x.MessageKey = plate.MessageKey(m.Topic, r.Object, cmp.Or(o.first, "-"), r.Plate)
			x.Group, x.Revision = m.Topic+" "+r.Object+" "+o.first, event.RevisionUpdate
			if !o.told {
				x.Revision = event.RevisionNew
			}
		}
		if c.recorder.Known(h, x.MessageKey) {
			continue
		}
		if err := c.recorder.Record(h, x); err != nil {
			return err
		}
		if o != nil {
			o.told = true
		}
	}
	return nil
}
