package anpr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

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
			return &onvifPublisher{onvifEvents: events, filters: s.Filters, objects: map[string]bool{}}, nil
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
	objects map[string]bool // of metadata, by Group
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
		if r.Plate == "" {
			continue // not read yet; a scene is no passage
		}
		x := onvifReading(r, c.recorder.Location())
		x.Raw, x.Replayed = m.Payload, m.Retained
		if r.Object != "" {
			x.MessageKey = plate.MessageKey(m.Topic, r.Object, r.Plate)
			x.Group, x.Revision = m.Topic+" "+r.Object, event.RevisionUpdate
			if !c.objects[x.Group] {
				x.Revision = event.RevisionNew
			}
		}
		if c.recorder.Known(x.MessageKey, h.Now()) {
			continue
		}
		if err := c.recorder.Record(h, x); err != nil {
			return err
		}
		if len(c.objects) >= maxONVIFObjects {
			clear(c.objects)
		}
		if x.Group != "" {
			c.objects[x.Group] = true
		}
	}
	return nil
}
