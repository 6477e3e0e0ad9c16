package onvif

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The topics of plates that are known, without prefixes.
const (
	// TopicLicensePlate is ONVIF's own.
	TopicLicensePlate = "RuleEngine/Recognition/LicensePlate"
	// TopicHikvision is Hikvision's, with the prefix tnshik at its end.
	TopicHikvision = "RuleEngine/VehicleDetector/Vehicle"
	// TopicAxis is of Axis License Plate Verifier.
	TopicAxis = "CameraApplicationPlatform/ALPV.AllPlates"
	// TopicMilesight is Milesight's.
	TopicMilesight = "RuleEngine/LicensePlateDetector/LicensePlate"
)

// Topics lists them.
func Topics() []string {
	return []string{TopicLicensePlate, TopicHikvision, TopicAxis, TopicMilesight}
}

// Topic takes the prefixes and blanks off a topic.
func Topic(s string) string {
	parts := strings.Split(strings.TrimSpace(s), "/")
	for i, p := range parts {
		parts[i] = localName(p)
	}
	return strings.Join(parts, "/")
}

// Item is a name and a value of a notification.
type Item struct{ Name, Value string }

// Value is a text of LicensePlateInfo, and how likely the camera finds it, from 0
// to 1; empty if it does not say.
type Value struct{ Text, Likelihood string }

// PlateInfo is ONVIF's LicensePlateInfo. Country is ISO 3166-1 alpha-2.
type PlateInfo struct{ Number, Type, Country, Issuer, Color Value }

// VehicleInfo is ONVIF's VehicleInfo.
type VehicleInfo struct{ Type, Brand, Model, Color Value }

// The values of both by their names.
func (p *PlateInfo) values() map[string]*Value {
	return map[string]*Value{"PlateNumber": &p.Number, "PlateType": &p.Type, "CountryCode": &p.Country, "IssuingEntity": &p.Issuer, "Color": &p.Color}
}

func (v *VehicleInfo) values() map[string]*Value {
	return map[string]*Value{"Type": &v.Type, "Brand": &v.Brand, "Model": &v.Model, "Color": &v.Color}
}

// Notification is something that happened.
type Notification struct {
	// Topic is as it came; see the function Topic.
	Topic string
	// UTCTime is when, by the camera's clock; see ParseTime.
	UTCTime string
	// Operation is "Initialized", "Changed" or "Deleted" of a property, whose state
	// is told again to each who subscribes; empty of an event.
	Operation string
	// Source tells who says so, Key about what, Data what.
	Source, Key, Data []Item
	// Plate and Vehicle are elements among the data; nil if they are not there.
	Plate   *PlateInfo
	Vehicle *VehicleInfo
	// Image is a picture among the data.
	Image []byte
	// Raw is what the camera sent: a part of the document that was decoded.
	Raw []byte
}

func decodeNotification(x *element) Notification {
	m := x.at("Message", "Message")
	if m == nil {
		m = x.at("Message")
	}
	n := Notification{Topic: x.value("Topic"), UTCTime: m.attr("UtcTime"), Operation: m.attr("PropertyOperation")}
	n.Source, n.Key = simpleItems(m.at("Source")), simpleItems(m.at("Key"))
	data := m.at("Data")
	for _, i := range simpleItems(data) {
		n.add(i)
	}
	for _, e := range data.all("ElementItem") {
		for _, c := range e.children {
			n.addElement(c, e.attr("Name"))
		}
		if len(e.children) == 0 {
			n.add(Item{e.attr("Name"), strings.TrimSpace(e.text)})
		}
	}
	return n
}

func simpleItems(x *element) []Item {
	var list []Item
	for _, s := range x.all("SimpleItem") {
		list = append(list, Item{s.attr("Name"), s.attr("Value")})
	}
	return list
}

// add takes an item of the data; a picture apart from the others.
func (n *Notification) add(i Item) {
	if i.Name == "Image" && n.Image == nil {
		if b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(i.Value), "")); err == nil {
			n.Image = b
			return
		}
	}
	n.Data = append(n.Data, i)
}

// addElement takes an element of the data, whatever item it is in.
func (n *Notification) addElement(x *element, item string) {
	switch {
	case x.name == "LicensePlateInfo" && n.Plate == nil:
		n.Plate = &PlateInfo{}
		read(x, n.Plate.values())
	case x.name == "VehicleInfo" && n.Vehicle == nil:
		n.Vehicle = &VehicleInfo{}
		read(x, n.Vehicle.values())
	case len(x.children) == 0 && strings.TrimSpace(x.text) != "":
		n.add(Item{item, strings.TrimSpace(x.text)})
	}
}

// read takes values by their names, text or with a likelihood.
func read(x *element, into map[string]*Value) {
	for name, v := range into {
		if e := x.child(name); e != nil {
			*v = Value{strings.TrimSpace(e.text), e.attr("Likelihood")}
		}
	}
}

func (n Notification) write(b *strings.Builder) {
	fmt.Fprintf(b, `<n:NotificationMessage><n:Topic Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">%s</n:Topic>`, escaped(n.Topic))
	fmt.Fprintf(b, `<n:Message><tt:Message UtcTime="%s"`, escaped(n.UTCTime))
	if n.Operation != "" {
		fmt.Fprintf(b, ` PropertyOperation="%s"`, escaped(n.Operation))
	}
	b.WriteString(">")
	for _, part := range []struct {
		name  string
		items []Item
	}{{"Source", n.Source}, {"Key", n.Key}} {
		if len(part.items) == 0 {
			continue
		}
		fmt.Fprintf(b, "<tt:%s>", part.name)
		writeItems(b, part.items)
		fmt.Fprintf(b, "</tt:%s>", part.name)
	}
	b.WriteString("<tt:Data>")
	writeItems(b, n.Data)
	if len(n.Image) > 0 {
		writeItems(b, []Item{{"Image", base64.StdEncoding.EncodeToString(n.Image)}})
	}
	if n.Plate != nil {
		writeElement(b, "LicensePlateInfo", n.Plate.values())
	}
	if n.Vehicle != nil {
		writeElement(b, "VehicleInfo", n.Vehicle.values())
	}
	b.WriteString("</tt:Data></tt:Message></n:Message></n:NotificationMessage>")
}

func writeItems(b *strings.Builder, items []Item) {
	for _, i := range items {
		fmt.Fprintf(b, `<tt:SimpleItem Name="%s" Value="%s"/>`, escaped(i.Name), escaped(i.Value))
	}
}

func writeElement(b *strings.Builder, name string, values map[string]*Value) {
	fmt.Fprintf(b, `<tt:ElementItem Name="%s"><tt:%s>`, name, name)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		v := values[k]
		if v.Text == "" && v.Likelihood == "" {
			continue
		}
		fmt.Fprintf(b, "<tt:%s", k)
		if v.Likelihood != "" {
			fmt.Fprintf(b, ` Likelihood="%s"`, escaped(v.Likelihood))
		}
		fmt.Fprintf(b, ">%s</tt:%s>", escaped(v.Text), k)
	}
	fmt.Fprintf(b, "</tt:%s></tt:ElementItem>", name)
}
