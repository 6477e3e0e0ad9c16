package hikvision

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// Namespaces of the same elements, by firmware.
var Namespaces = []string{
	"http://www.hikvision.com/ver20/XMLSchema", "http://www.isapi.org/ver20/XMLSchema",
	"http://www.std-cgi.com/ver20/XMLSchema", "urn:psialliance-org",
}

// Form says how an alert is written.
type Form struct {
	// Namespace is one of Namespaces; empty is the first.
	Namespace string
	// LF ends lines without CR. DynChannel is the way of recorders.
	LF, DynChannel bool
	// JSON writes JSON with every value as text, and ANPR as "aNPR".
	JSON bool
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// field is one element with its text, or with others inside.
type field struct {
	name, text string
	inside     []field
}

// Append appends the alert.
func (f Form) Append(b []byte, a Alert) []byte {
	channel := field{name: "channelID", text: a.Channel}
	if f.DynChannel {
		channel.name = "dynChannelID"
	}
	fields := []field{
		{name: "ipAddress", text: "192.0.2.10"}, {name: "portNo", text: "80"}, {name: "protocol", text: "HTTP"},
		{name: "macAddress", text: a.MAC}, channel, {name: "dateTime", text: a.DateTime}, {name: "activePostCount", text: "1"},
		{name: "eventType", text: a.EventType}, {name: "eventState", text: a.EventState},
		{name: "eventDescription", text: a.Description}, {name: "channelName", text: a.ChannelName},
	}
	if r := a.Read; r != nil {
		anpr := []field{
			{name: "country", text: r.Country}, {name: "licensePlate", text: r.Plate}, {name: "line", text: r.Line},
			{name: "direction", text: r.Direction}, {name: "confidenceLevel", text: r.Confidence},
			{name: "plateType", text: r.PlateType}, {name: "plateColor", text: r.PlateColor},
			{name: "dangmark", text: r.DangerousGoods}, {name: "plateCharBelieve", text: r.CharacterConfidence},
			{name: "vehicleType", text: r.VehicleType}, {name: "detectType", text: r.DetectType},
			{name: "vehicleInfo", inside: []field{
				{name: "color", text: r.VehicleColor}, {name: "vehicleLogoRecog", text: r.VehicleLogo},
				{name: "vehileSubLogoRecog", text: "0"}, {name: "vehileModel", text: "0"},
			}},
		}
		var infos []field
		for _, p := range r.PictureInfo {
			infos = append(infos, field{name: "pictureInfo", inside: []field{
				{name: "fileName", text: p.FileName}, {name: "type", text: p.Type}, {name: "dataType", text: "0"},
				{name: "absTime", text: p.AbsTime}, {name: "pId", text: p.ID},
			}})
		}
		anpr = append(anpr, field{name: "pictureInfoList", inside: infos}, field{name: "originalLicensePlate", text: r.Original},
			field{name: "vehicleListName", text: r.List}, field{name: "speed", text: r.Speed})
		name := "ANPR"
		if f.JSON {
			name = "aNPR"
		}
		fields = append(fields, field{name: name, inside: anpr})
	}
	if a.UUID != "" {
		fields = append(fields, field{name: "UUID", text: a.UUID})
	}
	if a.Pictures >= 0 {
		fields = append(fields, field{name: "picNum", text: strconv.Itoa(a.Pictures)})
	}
	fields = append(fields, field{name: "isDataRetransmission", text: strconv.FormatBool(a.Retransmitted)})
	if f.JSON {
		b = append(b, `{"EventNotificationAlert":`...)
		b = appendJSON(b, fields)
		return append(b, '}')
	}
	ns := f.Namespace
	if ns == "" {
		ns = Namespaces[0]
	}
	end := "\r\n"
	if f.LF {
		end = "\n"
	}
	b = fmt.Appendf(b, `<EventNotificationAlert version="2.0" xmlns="%s">%s`, ns, end)
	b = appendXML(b, fields, end)
	return fmt.Appendf(b, "</EventNotificationAlert>%s", end)
}

func appendXML(b []byte, fields []field, end string) []byte {
	for _, f := range fields {
		if f.inside == nil {
			b = fmt.Appendf(b, "<%s>%s</%s>%s", f.name, escape(f.text), f.name, end)
			continue
		}
		b = fmt.Appendf(b, "<%s>%s", f.name, end)
		b = appendXML(b, f.inside, end)
		b = fmt.Appendf(b, "</%s>%s", f.name, end)
	}
	return b
}

func appendJSON(b []byte, fields []field) []byte {
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, f.name), ':')
		switch {
		case f.inside == nil:
			b = appendQuoted(b, f.text)
		case f.name == "pictureInfoList":
			b = append(b, '[')
			for k, p := range f.inside {
				if k > 0 {
					b = append(b, ',')
				}
				b = appendJSON(b, p.inside)
			}
			b = append(b, ']')
		default:
			b = appendJSON(b, f.inside)
		}
	}
	return append(b, '}')
}

func appendQuoted(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string can always be encoded
	}
	return append(b, quoted...)
}

// AppendPlates appends the answer of the plates poll.
func AppendPlates(b []byte, list []Listed) []byte {
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<Plates version="2.0" xmlns="http://www.isapi.org/ver20/XMLSchema">`+"\n"...)
	for _, p := range list {
		b = append(b, "<Plate>\n"...)
		b = appendXML(b, []field{
			{name: "captureTime", text: p.CaptureTime}, {name: "plateNumber", text: p.Plate}, {name: "picName", text: p.PicName},
			{name: "country", text: p.Country}, {name: "laneNo", text: p.Lane}, {name: "direction", text: p.Direction},
		}, "\n")
		b = append(b, "</Plate>\n"...)
	}
	return append(b, "</Plates>\n"...)
}

// AppendDevice appends the answer of System/deviceInfo.
func AppendDevice(b []byte, d Device) []byte {
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<DeviceInfo version="2.0" xmlns="http://www.hikvision.com/ver20/XMLSchema">`+"\n"...)
	b = appendXML(b, []field{
		{name: "deviceName", text: d.Name}, {name: "model", text: d.Model}, {name: "serialNumber", text: d.Serial},
		{name: "macAddress", text: d.MAC}, {name: "firmwareVersion", text: d.Firmware},
	}, "\n")
	return append(b, "</DeviceInfo>\n"...)
}

// AppendStatus appends a ResponseStatus.
func AppendStatus(b []byte, url string, s Status) []byte {
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<ResponseStatus version="2.0" xmlns="http://www.hikvision.com/ver20/XMLSchema">`+"\n"...)
	b = appendXML(b, []field{
		{name: "requestURL", text: url}, {name: "statusCode", text: s.Code}, {name: "statusString", text: s.Text}, {name: "subStatusCode", text: s.Sub},
	}, "\n")
	return append(b, "</ResponseStatus>\n"...)
}
