// Package tvt reads and writes the plate messages of TVT cameras and recorders, which are
// sold as Viewtron, Provision-ISR and others too. It does no I/O.
//
// Facts are from mikehaldas/IP-Camera-API; spellings that look wrong are those of the wire.
package tvt

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

const (
	// MaxDocument bounds a message in bytes; its pictures are in it.
	MaxDocument = 32 << 20
	// maxReads bounds the plates of one message, maxPictures its pictures.
	maxReads    = 16
	maxPictures = 12
)

// Message is what a camera or a recorder says.
type Message struct {
	// Smart is what it is about, by the device's word: "VEHICE", "VEHICLE", "PEA". Empty
	// for a sign of life.
	Smart string
	// Time is in microseconds since 1970, with the oldest firmware in seconds or
	// milliseconds. Recorders were seen to write one that overflowed.
	Time string
	// Device is the number or the name of the device, where it is told.
	Device string
	// Vehicle: the message is about vehicles. Reads may be empty then.
	Vehicle bool
	Reads   []Read
	// Overview shows the vehicle and what is around it; Source is the whole picture.
	Overview, Source []byte
	// Unread counts the pictures that are no base64, or too many.
	Unread int
}

// Read is one plate.
type Read struct {
	Plate string
	// List is whiteList, blackList, or what else the device has.
	List string
	Crop []byte
}

// At is when the picture was taken; zero if it is not told.
func (m *Message) At() time.Time {
	n, err := strconv.ParseInt(m.Time, 10, 64)
	const year2000 = 946_684_800
	switch {
	case err != nil:
	case n >= year2000 && n < 4e9:
		return time.Unix(n, 0).UTC()
	case n >= year2000*1e3 && n < 4e12:
		return time.UnixMilli(n).UTC()
	case n >= year2000*1e6 && n < 4e15:
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}

// Parse reads a message. An empty one is a sign of life.
func Parse(body []byte) (Message, error) {
	var m Message
	if len(bytes.TrimSpace(body)) == 0 {
		return m, nil
	}
	root, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return m, err
	}
	switch root.Name {
	case "config":
	case "DeviceInfo":
		m.Device = root.Get("DeviceNo.", "DeviceNo", "DeviceName")
		return m, nil
	default:
		return m, fmt.Errorf("<%s>, and no <config>", root.Name)
	}
	m.Smart, m.Time = root.Get("smartType"), root.Get("currentTime")
	m.Device = root.Get("deviceNo", "deviceName", "mac", "DeviceNo.")
	if info := root.Child("DeviceInfo"); m.Smart == "" && info != nil {
		m.Device = info.Get("DeviceNo.", "DeviceNo", "DeviceName")
	}
	m.Vehicle = strings.EqualFold(m.Smart, "VEHICE") || strings.EqualFold(m.Smart, "VEHICLE")
	if !m.Vehicle {
		return m, nil
	}
	for _, list := range []string{"listInfo", "licensePlateListInfo"} {
		for _, item := range root.Child(list).All("item") {
			image := m.picture(item.At("targetImageData", "targetBase64Data"))
			plate := item.Child("plateNumber")
			if plate == nil { // a recorder's
				plate = item.Child("licensePlateAttribute").Child("licensePlateNumber", "plateNumber")
			}
			if plate == nil {
				if m.Overview == nil {
					m.Overview = image
				} else if image != nil {
					m.Unread++
				}
				continue
			}
			if len(m.Reads) == maxReads {
				return m, fmt.Errorf("more than %d plates in one message", maxReads)
			}
			m.Reads = append(m.Reads, Read{plate.Text, item.Get("vehicleListType"), image})
		}
	}
	m.Source = m.picture(root.At("sourceDataInfo", "sourceBase64Data"))
	return m, nil
}

func (m *Message) picture(n *document.Node) []byte {
	if n == nil || n.Text == "" {
		return nil
	}
	b := document.Base64(n.Text)
	if b == nil {
		m.Unread++
	}
	return b
}

// Reply is the answer to every message.
const Reply = `<?xml version="1.0" encoding="UTF-8"?><config version="1.0" xmlns="http://www.ipc.com/ver10"><status>success</status></config>`

// Append appends a camera's message, as version 1 has it.
func Append(b []byte, m Message) []byte {
	b = append(b, `<?xml version="1.0" encoding="UTF-8"?><config version="1.7" xmlns="http://www.ipc.com/ver10">`...)
	b = element(b, `smartType type="openAlramObj"`, m.Smart)
	b = element(b, `currentTime type="tint64"`, m.Time)
	if m.Device != "" {
		b = element(b, "deviceNo", m.Device)
	}
	b = append(b, `<listInfo type="list">`...)
	if m.Overview != nil {
		b = image(append(b, "<item>"...), m.Overview)
		b = append(b, "</item>"...)
	}
	for _, r := range m.Reads {
		b = append(b, "<item>"...)
		b = element(b, `plateNumber type="string"`, r.Plate)
		b = element(b, `vehicleListType type="string"`, r.List)
		if r.Crop != nil {
			b = image(b, r.Crop)
		}
		b = append(b, "</item>"...)
	}
	b = append(b, "</listInfo>"...)
	if m.Source != nil {
		b = append(b, "<sourceDataInfo>"...)
		b = element(b, `sourceBase64Data type="string"`, base64.StdEncoding.EncodeToString(m.Source))
		b = append(b, "</sourceDataInfo>"...)
	}
	return append(b, "</config>"...)
}

func image(b, content []byte) []byte {
	b = append(b, "<targetImageData>"...)
	b = element(b, `targetBase64Data type="string"`, base64.StdEncoding.EncodeToString(content))
	return append(b, "</targetImageData>"...)
}

// element appends an element whose tag may have attributes.
func element(b []byte, tag, text string) []byte {
	b = append(b, '<')
	b = append(append(b, tag...), '>')
	w := bytes.NewBuffer(b)
	_ = xml.EscapeText(w, []byte(text)) // a buffer takes everything
	name, _, _ := strings.Cut(tag, " ")
	return append(w.Bytes(), "</"+name+">"...)
}
