package onvif

import (
	"cmp"
	"slices"
	"strings"
)

// Read is what a notification, or a piece of metadata, tells of a plate.
type Read struct {
	Topic, UTCTime, Operation string
	// Object is the camera's number of what it follows; empty if it tells none.
	Object string
	// Plate is empty if none was read.
	Plate, PlateType, PlateColor string
	// Confidence is the likelihood of the plate, or where there is none that of the
	// recognition.
	Confidence string
	Country    string
	Issuer     string
	Direction  string
	// Speed is the camera's, whose unit the vendor knows; ONVIF's is km/h.
	Speed string
	// Label is the list that the plate is on, "Whitelisted" for instance.
	Label string
	// VideoSource and Rule are who read it.
	VideoSource, Rule                                   string
	VehicleType, VehicleBrand, VehicleModel, VehicleHue string
	// ImageURI is where the camera keeps the picture, Image the picture.
	ImageURI string
	Image    []byte
}

// into gives the fields by their names in settings.
func (r *Read) into() map[string]*string {
	return map[string]*string{
		"plate": &r.Plate, "confidence": &r.Confidence, "country": &r.Country, "direction": &r.Direction, "speed": &r.Speed,
		"label": &r.Label, "video_source": &r.VideoSource, "rule": &r.Rule, "plate_type": &r.PlateType, "plate_color": &r.PlateColor,
		"vehicle_type": &r.VehicleType, "vehicle_brand": &r.VehicleBrand, "vehicle_model": &r.VehicleModel, "vehicle_color": &r.VehicleHue,
		"object": &r.Object, "image_uri": &r.ImageURI,
	}
}

// Items says by field what the items of a notification are called, the best name
// first. Upper and lower case are alike.
type Items map[string][]string

// KnownItems are the names that ONVIF, Hikvision and Axis use. What Axis and
// Milesight call them in notifications is not documented; those of Axis are from
// its JSON.
func KnownItems() Items {
	return Items{
		"plate":        {"PlateNumber", "plateUTF8", "plateText", "plateASCII", "LicensePlate", "Plate"},
		"confidence":   {"Likelihood", "plateConfidence", "Confidence"},
		"country":      {"CountryCode", "plateCountry", "Nation", "Country"},
		"direction":    {"Direction", "VehicleDirection", "carMoveDirection"},
		"speed":        {"Speed"},
		"label":        {"Label"},
		"video_source": {"VideoSource", "VideoSourceToken", "VideoSourceConfigurationToken"},
		"rule":         {"Rule"},
		"plate_type":   {"PlateType"},
		"plate_color":  {"PlateColor"},
		"vehicle_type": {"VehicleType"},
		"image_uri":    {"ImageURI"},
		"object":       {"ObjectId", "carID"},
	}
}

// ItemFields lists the fields of Items.
func ItemFields() []string {
	var list []string
	for name := range (&Read{}).into() {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// Read takes what a notification tells of a plate. It is false if nothing in it is
// called as a plate is, whether one was read or not.
func (n Notification) Read(names Items) (Read, bool) {
	r := Read{Topic: Topic(n.Topic), UTCTime: n.UTCTime, Operation: n.Operation, Image: n.Image}
	items := map[string]string{}
	for _, list := range [][]Item{n.Source, n.Key, n.Data} {
		for _, i := range list {
			items[strings.ToLower(i.Name)] = strings.TrimSpace(i.Value)
		}
	}
	has := n.Plate != nil
	for field, target := range r.into() {
		for _, name := range names[field] {
			value, ok := items[strings.ToLower(name)]
			if !ok {
				continue
			}
			has = has || field == "plate"
			if *target = value; value != "" {
				break
			}
		}
	}
	if n.Plate != nil {
		r.plate(n.Plate)
	}
	if n.Vehicle != nil {
		r.vehicle(n.Vehicle)
	}
	return r, has
}

func (r *Read) plate(p *PlateInfo) {
	r.Plate = cmp.Or(p.Number.Text, r.Plate)
	r.Confidence = cmp.Or(p.Number.Likelihood, r.Confidence)
	r.Country = cmp.Or(p.Country.Text, r.Country)
	r.Issuer, r.PlateType, r.PlateColor = p.Issuer.Text, cmp.Or(p.Type.Text, r.PlateType), cmp.Or(p.Color.Text, r.PlateColor)
}

func (r *Read) vehicle(v *VehicleInfo) {
	r.VehicleType, r.VehicleHue = cmp.Or(v.Type.Text, r.VehicleType), cmp.Or(v.Color.Text, r.VehicleHue)
	r.VehicleBrand, r.VehicleModel = cmp.Or(v.Brand.Text, r.VehicleBrand), cmp.Or(v.Model.Text, r.VehicleModel)
}
