package onvif

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// What stands in an MQTT topic before events and before metadata.
const (
	eventTopic    = "onvif-ej/"
	metadataTopic = "onvif-mj/"
)

// IsMetadata reports whether an MQTT topic is of metadata, for DecodeMetadata;
// otherwise it is of an event, for DecodeEvent, or of neither.
func IsMetadata(topic string) bool { return strings.Contains("/"+topic, "/"+metadataTopic) }

// DecodeEvent reads an event that a camera published. Its topic is in the MQTT
// topic, <prefix>/onvif-ej/<topic>/&<source values>; cameras that use an MQTT topic
// of their own have it as it is.
func DecodeEvent(topic string, payload []byte) (Notification, error) {
	root, err := parseJSON(payload)
	if err != nil {
		return Notification{}, err
	}
	if _, rest, ok := strings.Cut("/"+topic, "/"+eventTopic); ok {
		topic, _, _ = strings.Cut(rest, "/&")
	}
	n := Notification{Topic: topic, UTCTime: root.value("UtcTime"), Operation: root.value("PropertyOperation"), Raw: payload}
	if root.at("Source") == nil && root.at("Data") == nil {
		return n, errors.New("the event has neither Source nor Data")
	}
	n.Source, n.Key = leaves(root.at("Source")), leaves(root.at("Key"))
	if data := root.at("Data"); data != nil {
		n.addData(data)
	}
	return n, nil
}

// addData takes the data of an event in JSON: values, and elements perhaps within
// a member of the item's name.
func (n *Notification) addData(data *element) {
	for _, c := range data.children {
		switch {
		case c.name == "LicensePlateInfo" && c.child("LicensePlateInfo") != nil, c.name == "VehicleInfo" && c.child("VehicleInfo") != nil:
			n.addElement(c.children[0], c.name)
		case len(c.children) > 0:
			n.addElement(c, c.name)
		default:
			n.add(Item{c.name, strings.TrimSpace(c.text)})
		}
	}
}

func leaves(x *element) []Item {
	var list []Item
	if x != nil {
		for _, c := range x.children {
			if len(c.children) == 0 {
				list = append(list, Item{c.name, strings.TrimSpace(c.text)})
			}
		}
	}
	return list
}

// DecodeMetadata reads a piece of metadata: the plates of the objects in its
// frames. Objects without a plate's information are passed over.
func DecodeMetadata(payload []byte) ([]Read, error) {
	root, err := parseJSON(payload)
	if err != nil {
		return nil, err
	}
	frames := root.all("Frame")
	if len(frames) == 0 {
		frames = root.at("VideoAnalytics").all("Frame")
	}
	if len(frames) == 0 {
		return nil, errors.New("the metadata has no frame")
	}
	var list []Read
	for _, f := range frames {
		for _, o := range f.all("Object") {
			info := o.at("Appearance", "LicensePlateInfo")
			if info == nil {
				continue
			}
			if len(list) == MaxNotifications {
				return nil, fmt.Errorf("the metadata has more than %d plates", MaxNotifications)
			}
			r := Read{UTCTime: f.attr("UtcTime"), Object: o.attr("ObjectId")}
			var p PlateInfo
			read(info, p.values())
			r.plate(&p)
			if v := o.at("Appearance", "VehicleInfo"); v != nil {
				var info VehicleInfo
				read(v, info.values())
				r.vehicle(&info)
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// jsonOf writes values as cameras do: a text, or an object if there is a likelihood.
func jsonOf(values map[string]*Value) map[string]any {
	out := map[string]any{}
	for name, v := range values {
		switch {
		case v.Likelihood != "":
			out[name] = map[string]any{"@Likelihood": json.Number(v.Likelihood), "#text": v.Text}
		case v.Text != "":
			out[name] = v.Text
		}
	}
	return out
}

// EncodeEvent writes an event and its MQTT topic without the prefix. It fails for
// a likelihood that is no number.
func (n Notification) EncodeEvent() (topic string, payload []byte, err error) {
	source, data := map[string]string{}, map[string]any{}
	topic = eventTopic + strings.TrimPrefix(n.Topic, "tns1:") + "/&"
	for i, s := range n.Source {
		source[s.Name] = s.Value
		if i > 0 {
			topic += "/"
		}
		topic += s.Value
	}
	for _, d := range n.Data {
		data[d.Name] = d.Value
	}
	if len(n.Image) > 0 {
		data["Image"] = n.Image // base64
	}
	if n.Plate != nil {
		data["LicensePlateInfo"] = jsonOf(n.Plate.values())
	}
	if n.Vehicle != nil {
		data["VehicleInfo"] = jsonOf(n.Vehicle.values())
	}
	payload, err = json.Marshal(map[string]any{"UtcTime": n.UTCTime, "Source": source, "Data": data})
	if err != nil {
		return "", nil, fmt.Errorf("write an event: %w", err)
	}
	return topic, payload, nil
}

// EncodeMetadata writes a frame with one object. It fails for a likelihood that is
// no number.
func EncodeMetadata(utcTime, object string, p PlateInfo) ([]byte, error) {
	b, err := json.Marshal(map[string]any{"Frame": []any{map[string]any{
		"@UtcTime": utcTime, "Object": []any{map[string]any{
			"@ObjectId": object, "Appearance": map[string]any{"LicensePlateInfo": jsonOf(p.values())},
		}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	return b, nil
}
