// Package vzen reads and writes what the plate cameras of Vzen (Zhenshi) and of the
// many makers that sell the same hardware send: AlarmInfoPlate over HTTP and MQTT. It
// does no I/O.
//
// Facts are from the vendor's texts on both. No answer that this package writes opens
// a barrier.
package vzen

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

// Bounds of what comes.
const (
	// MaxDocument bounds a document in bytes; two pictures are in it.
	MaxDocument = 24 << 20
	// maxPlates bounds the plates of one message.
	maxPlates = 8
)

// Kind is what a message is about.
type Kind string

// The kinds.
const (
	// Plate is a read, or a vehicle whose plate was not read.
	Plate Kind = "plate"
	// Input is a contact at the camera, Serial what came over the line behind it, and
	// Picture one that somebody asked for.
	Input   Kind = "input"
	Serial  Kind = "serial"
	Picture Kind = "picture"
	// Other is what is none of these, of a camera that lives.
	Other Kind = "other"
)

// NoPlate stands in place of a plate that was not read.
const NoPlate = "_无_"

// Message is what a camera says.
type Message struct {
	Kind Kind
	// DeviceName, Address and SerialNo are of the camera.
	DeviceName, Address, SerialNo string
	// PlateID counts the reads of the camera.
	PlateID string
	// Plates are the texts that were read, the first one first; a text with "|" in it
	// holds several. Without any the vehicle had none.
	Plates []string
	// Lossy: bytes of a plate could not be read as text.
	Lossy bool
	// Confidence runs from 0 to 100. ColorType and Type are numbers; type 26 is any
	// foreign plate, 31 a vehicle without one.
	Confidence, ColorType, Type string
	// Direction is 0 for unknown, 1 left, 2 right, 3 up, 4 down in the picture.
	Direction string
	// Trigger is 1 for the camera itself, 2 an input, 4 software, 8 a virtual loop,
	// 64 to 66 a vehicle that stays or turns back.
	Trigger string
	// Offline: the camera had kept the message.
	Offline bool
	// Fake: the camera takes the plate for a picture of one.
	Fake bool
	// Seconds are since 1970. Sub is milliseconds by the text on it and microseconds by
	// its sample, so what is above 999 is microseconds.
	Seconds, Sub string
	// Calendar is the same moment in figures, year to second: zero if it is not whole.
	// The two can disagree.
	Calendar time.Time
	// Image shows the vehicle, Crop the plate.
	Image, Crop []byte
	// Unread counts the pictures that could not be decoded.
	Unread int
}

// Time is when the plate was read by the seconds; zero if it is not told.
func (m *Message) Time() time.Time {
	s, err := strconv.ParseInt(m.Seconds, 10, 64)
	if err != nil || s < 946_684_800 || s > 1e11 { // a clock that was never set
		return time.Time{}
	}
	return time.Unix(s, 0).Add(m.fraction()).UTC()
}

// LocalTime is when the plate was read by the figures, which are in the camera's zone;
// zero if they are not told.
func (m *Message) LocalTime(zone *time.Location) time.Time {
	c := m.Calendar
	if c.IsZero() {
		return c
	}
	return time.Date(c.Year(), c.Month(), c.Day(), c.Hour(), c.Minute(), c.Second(), 0, zone).Add(m.fraction())
}

func (m *Message) fraction() time.Duration {
	n, err := strconv.ParseInt(m.Sub, 10, 64)
	switch {
	case err != nil || n < 0 || n > 999_999:
		return 0
	case n > 999:
		return time.Duration(n) * time.Microsecond
	}
	return time.Duration(n) * time.Millisecond
}

// ErrHeartbeat says that a body is a sign of life. It holds the camera's login in clear
// text, so nobody may write it down.
var ErrHeartbeat = errors.New("the camera's heartbeat")

// Secret reports whether a body may hold the login of the camera.
func Secret(body []byte) bool {
	rest, _ := document.Elide(body) // or a picture might spell it
	low := bytes.ToLower(rest)
	for _, word := range []string{"pass_wd", "passwd", "password", "user_name"} {
		if bytes.Contains(low, []byte(word)) {
			return true
		}
	}
	return false
}

// Parse reads the body of a message. mqtt is for one that came over MQTT, where the plate
// is base64: it makes text of the bytes, and says whether some were none. It is nil for a
// post.
func Parse(body []byte, mqtt func([]byte) (text string, lossy bool)) (Message, error) {
	root, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		if Secret(body) && !bytes.Contains(body, []byte("AlarmInfoPlate")) {
			return Message{}, ErrHeartbeat
		}
		return Message{}, err
	}
	alarm := find(root, 0, "AlarmInfoPlate")
	result := find(root, 0, "PlateResult")
	if result == nil && alarm != nil {
		result = alarm.Child("result")
	}
	device := alarm
	if device == nil {
		device = root
	}
	m := Message{
		Kind: Other, DeviceName: device.Get("deviceName", "device_name"), Address: device.Get("ipaddr"),
		SerialNo: device.Get("serialno", "sn"),
	}
	if m.SerialNo == "" {
		m.SerialNo = root.Get("serialno", "sn")
	}
	if result == nil {
		switch {
		case alarm != nil:
			return m, errors.New("an AlarmInfoPlate without a result")
		case find(root, 0, "AlarmGioIn") != nil:
			m.Kind = Input
		case find(root, 0, "SerialData") != nil:
			m.Kind = Serial
		case find(root, 0, "TriggerImage") != nil:
			m.Kind = Picture
		case Secret(body):
			return m, ErrHeartbeat
		}
		return m, nil
	}
	m.Kind = Plate
	m.PlateID, m.Confidence, m.ColorType, m.Type = result.Get("plateid", "plateId", "plateID"), result.Get("confidence"), result.Get("colorType"), result.Get("type")
	m.Direction, m.Trigger = result.Get("direction"), result.Get("triggerType")
	m.Offline, m.Fake = truth(result.Get("isoffline")), truth(result.Get("is_fake_plate"))
	at := result.Child("timeStamp")
	if v := at.Child("Timeval"); v != nil {
		at = v
	}
	m.Seconds, m.Sub, m.Calendar = at.Get("sec"), at.Get("usec"), calendar(at)
	m.addPlates(result.Get("license"), mqtt)
	for _, p := range result.All("plates") {
		text := p.Text
		if text == "" {
			text = p.Get("license", "plate")
		}
		m.addPlates(text, mqtt)
	}
	for _, p := range []struct {
		name string
		to   *[]byte
	}{{"imageFile", &m.Image}, {"imageFragmentFile", &m.Crop}} {
		if text := result.Get(p.name); text != "" {
			if *p.to = document.Base64(text); *p.to == nil {
				m.Unread++
			}
		}
	}
	return m, nil
}

// addPlates adds the texts of a list, without those that are there.
func (m *Message) addPlates(text string, mqtt func([]byte) (string, bool)) {
	if mqtt != nil {
		// A plate that is no base64 may look like some: what it would be is no text then.
		if b := document.Base64(text); b != nil {
			decoded, lossy := mqtt(b)
			control := strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f })
			surely := strings.ContainsFunc(text, func(r rune) bool { return r == '=' || r >= 'a' && r <= 'z' })
			if !control && (!lossy || surely) {
				text, m.Lossy = decoded, m.Lossy || lossy
			}
		}
	}
next:
	for _, p := range strings.Split(text, "|") {
		if p = strings.TrimSpace(p); p == "" || p == NoPlate || len(m.Plates) == maxPlates {
			continue
		}
		for _, other := range m.Plates {
			if other == p {
				continue next
			}
		}
		m.Plates = append(m.Plates, p)
	}
}

// find gives the first node of a name, however deep.
func find(n *document.Node, depth int, name string) *document.Node {
	if n == nil || depth > 8 {
		return nil
	}
	if c := n.Child(name); c != nil {
		return c
	}
	for _, c := range n.Children {
		if f := find(c, depth+1, name); f != nil {
			return f
		}
	}
	return nil
}

func truth(text string) bool { return text == "1" || strings.EqualFold(text, "true") }

// calendar reads the figures. The names of those between year and second are guessed
// from the names of these two; where they are others the figures are not whole.
func calendar(n *document.Node) time.Time {
	var f [6]int
	for i, names := range [][]string{{"decyear"}, {"decmon", "decmonth"}, {"decday"}, {"dechour"}, {"decmin", "decminute"}, {"decsec"}} {
		v, err := strconv.Atoi(n.Get(names...))
		if err != nil || v < 0 || v > 9999 {
			return time.Time{}
		}
		f[i] = v
	}
	t := time.Date(f[0], time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC)
	if t.Year() < 2000 || t.Month() != time.Month(f[1]) || t.Day() != f[2] || t.Hour() != f[3] {
		return time.Time{}
	}
	return t
}

// Answer is the answer to a message.
type Answer struct {
	// PlateID is that of the message, empty for a heartbeat.
	PlateID string
	// More asks for the next of the messages that the camera kept: without it the camera
	// stops after one.
	More bool
	// Beside puts that wish beside the answer and not into it: the texts can be read
	// both ways.
	Beside bool
}

// Append appends the answer. Its info is "no", which leaves the barrier as it is.
func (a Answer) Append(b []byte) []byte {
	id := ""
	if _, err := strconv.ParseUint(a.PlateID, 10, 63); err == nil {
		id = a.PlateID
	}
	b = append(b, `{"Response_AlarmInfoPlate":{"info":"no"`...)
	if id != "" {
		b = fmt.Appendf(b, `,"plateid":%s`, id)
	}
	if a.More && id != "" {
		more := fmt.Sprintf(`,"ContinuePushOffline":{"plateid":%s,"continue":1}`, id)
		if a.Beside {
			return append(b, "}"+more+"}"...)
		}
		b = append(b, more...)
	}
	return append(b, "}}"...)
}

// Append appends the body of a plate's message.
func Append(b []byte, m Message, mqtt bool) []byte {
	license := NoPlate
	if len(m.Plates) > 0 {
		license = strings.Join(m.Plates, "|")
	}
	if mqtt {
		license = base64.StdEncoding.EncodeToString([]byte(license))
	}
	at := map[string]any{"sec": number(m.Seconds), "usec": number(m.Sub)}
	if c := m.Calendar; !c.IsZero() {
		at["decyear"], at["decmon"], at["decday"] = c.Year(), int(c.Month()), c.Day()
		at["dechour"], at["decmin"], at["decsec"] = c.Hour(), c.Minute(), c.Second()
	}
	result := map[string]any{
		"license": license, "confidence": number(m.Confidence), "colorType": number(m.ColorType), "type": number(m.Type),
		"direction": number(m.Direction), "triggerType": number(m.Trigger), "plateid": number(m.PlateID),
		"isoffline": bit(m.Offline), "is_fake_plate": bit(m.Fake), "timeStamp": map[string]any{"Timeval": at},
	}
	if m.Image != nil {
		result["imageFile"], result["imageFileLen"] = base64.StdEncoding.EncodeToString(m.Image), len(m.Image)
	}
	if m.Crop != nil {
		result["imageFragmentFile"] = base64.StdEncoding.EncodeToString(m.Crop)
	}
	text, err := json.Marshal(map[string]any{"AlarmInfoPlate": map[string]any{
		"channel": 0, "deviceName": m.DeviceName, "ipaddr": m.Address, "serialno": m.SerialNo, "result": map[string]any{"PlateResult": result},
	}})
	if err != nil {
		return b // texts and numbers can always be encoded
	}
	return append(b, text...)
}

func number(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	return 0
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
