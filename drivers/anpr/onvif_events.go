package anpr

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/onvif"
	"github.com/lanepost/lanepost/protocol/plate"
)

// ONVIFEventSettings are the settings of how a camera tells plates by ONVIF, whatever
// the way.
type ONVIFEventSettings struct {
	Settings `yaml:",inline"`
	// Vendor is whose conventions the values follow: onvif, hikvision-onvif, axis,
	// milesight.
	Vendor string `yaml:"vendor"`
	// Topics are those that tell plates, without prefixes.
	Topics []string `yaml:"topics"`
	// Items are what the camera calls things in its notifications, beside what is
	// known: plate, confidence, country, direction and so on, each with a name.
	Items map[string]string `yaml:"items"`
}

func defaultONVIFEvents() ONVIFEventSettings {
	return ONVIFEventSettings{Vendor: string(plate.ONVIF), Topics: onvif.Topics()}
}

// onvifEvents makes events of what a camera tells by ONVIF.
type onvifEvents struct {
	told     ONVIFEventSettings
	items    onvif.Items
	recorder *Recorder
}

func newONVIFEvents(s ONVIFEventSettings) (onvifEvents, error) {
	e := onvifEvents{told: s, items: onvif.KnownItems()}
	if err := s.Check(); err != nil {
		return e, err
	}
	if !slices.Contains(plate.Vendors(), plate.Vendor(s.Vendor)) {
		return e, fmt.Errorf("vendor: %q is not known; there are %v", s.Vendor, plate.Vendors())
	}
	for field, name := range s.Items {
		if !slices.Contains(onvif.ItemFields(), field) {
			return e, fmt.Errorf("items: there is no %q; there are %s", field, strings.Join(onvif.ItemFields(), ", "))
		}
		e.items[field] = append([]string{name}, e.items[field]...)
	}
	e.recorder = NewRecorder(plate.Vendor(s.Vendor), s.Settings)
	return e, nil
}

// notification records what is about a plate.
func (e *onvifEvents) notification(h drivers.Host, n onvif.Notification) error {
	told := slices.Contains(e.told.Topics, onvif.Topic(n.Topic))
	if !told && n.Plate == nil || n.Operation == "Deleted" {
		return nil
	}
	r, ok := n.Read(e.items)
	if !ok {
		h.Unparsed("an event about plates in which nothing is called as a plate is: see the setting items", []byte(itemNames(n)))
		return nil
	}
	x := onvifReading(r, e.recorder.Location())
	x.Raw = bytes.Clone(n.Raw)
	if len(n.Image) > 0 {
		x.Raw = bytes.ReplaceAll(x.Raw, []byte(base64.StdEncoding.EncodeToString(n.Image)), nil)
	}
	return e.recorder.Record(h, x)
}

// itemNames are the names in a notification, for whoever writes the settings. The
// values may be personal.
func itemNames(n onvif.Notification) string {
	names := []string{n.Topic + ":"}
	for _, list := range [][]onvif.Item{n.Source, n.Key, n.Data} {
		for _, i := range list {
			names = append(names, i.Name)
		}
	}
	return strings.Join(names, " ")
}

// onvifReading makes a reading of what a camera tells by ONVIF.
func onvifReading(r onvif.Read, zone *time.Location) Reading {
	x := Reading{
		Plate: r.Plate, Confidence: r.Confidence, Country: r.Country, Direction: r.Direction, PlateType: r.PlateType, PlateColor: r.PlateColor,
		VehicleList: r.Label, Trigger: r.Operation, Reader: event.PlateReader{Camera: r.VideoSource, Lane: r.Rule}, Replayed: r.Operation == "Initialized",
	}
	v := event.PlateVehicle{Type: r.VehicleType, Make: r.VehicleBrand, Model: r.VehicleModel, Color: r.VehicleHue, SpeedKPH: speed(r.Speed)}
	if v != (event.PlateVehicle{}) {
		x.Vehicle = &v
	}
	if at, zoned, ok := onvif.ParseTime(r.UTCTime); ok && at.Year() >= 2000 {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
		if !zoned {
			// ONVIF wants UTC; a camera that leaves the Z out may mean its own zone.
			x.DeviceTime = onWall(at, zone)
			x.TimeSource = event.TimeFromDeviceZone
		}
	}
	if r.Plate != "" {
		// Two vehicles without a plate would have one key.
		x.MessageKey = plate.MessageKey(r.UTCTime, r.Plate, cmp.Or(r.Rule, "-"), cmp.Or(r.VideoSource, "-"), cmp.Or(r.Object, "-"))
	}
	if len(r.Image) > 0 {
		x.Pictures = []Picture{{Name: "picture", MediaType: http.DetectContentType(r.Image), Content: r.Image}}
	}
	return x
}
