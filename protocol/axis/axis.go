// Package axis reads and writes what Axis License Plate Verifier and the FF Group
// applications beneath it (CAMMRA, fflprapp) send, and LILIN cameras with the same
// fields: one JSON document for each word on a read, over HTTP or one after the
// other over TCP. It does no I/O.
//
// Facts are from the VAPIX text and a sample event. Every scalar is a JSON string
// there; numbers are taken as well.
package axis

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what comes.
const (
	// MaxDocument bounds one document in bytes; pictures are in it.
	MaxDocument = 24 << 20
	// maxDepth bounds how deep a document is, maxImages the pictures of one.
	maxDepth, maxImages = 16, 16
)

// States of a read.
const (
	New     = "new"     // first sight
	Updated = "updated" // another text or country
	Lost    = "lost"    // out of sight, the last word
)

// Event is one word on a read.
type Event struct {
	// State is New, Updated or Lost; "update" is Updated.
	State string
	// Packet counts the documents of the device; CarID counts its reads.
	Packet, CarID string
	Plate, ASCII  string
	// Country is alpha-3.
	Country, Region string
	// Confidence runs from 0 to 1.
	Confidence string
	// Direction is "in", "out" or "unknown": what that means is set at the camera.
	Direction string
	// Captured is milliseconds since 1970 in UTC.
	Captured             string
	ROI, Sensor          string
	Serial, Product, MAC string
	// Images are the pictures of ImageArray: JPEG, PNG, GIF or BMP.
	Images [][]byte
	// Unread counts what stands in ImageArray and is not in Images: another kind of
	// picture, no base64, or one too many.
	Unread int
	// Coordinates are where the plate stands in the picture: left, top, width and
	// height in pixels.
	Coordinates []int
	// ImageURIs are paths on the camera.
	ImageURIs []string
}

// Time is when it was captured; zero if it does not tell.
func (e *Event) Time() time.Time {
	ms, err := strconv.ParseInt(e.Captured, 10, 64)
	if err != nil || ms <= 0 || ms > 4e12 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// text is a JSON string, number or boolean as text.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
	case len(b) > 0 && (b[0] == '{' || b[0] == '['), string(b) == "null":
		*t = ""
	default:
		*t = text(b)
	}
	return nil
}

func (t *text) string() string {
	if t == nil {
		return ""
	}
	return string(*t)
}

// document is an event on the wire.
type document struct {
	PacketCounter text  `json:"packetCounter"`
	CaptureMs     text  `json:"capture_timestamp"`
	PlateText     *text `json:"plateText"`
	PlateUnicode  *text `json:"plateUnicode"`
	PlateUTF8     *text `json:"plateUTF8"`
	PlateASCII    *text `json:"plateASCII"`
	Country       text  `json:"plateCountry"`
	Region        text  `json:"plateRegion"`
	Confidence    text  `json:"plateConfidence"`
	State         text  `json:"carState"`
	ROI           text  `json:"roiID"`
	CarID         text  `json:"carID"`
	Direction     text  `json:"carMoveDirection"`
	Sensor        text  `json:"sensorProviderID"`
	Camera        struct {
		Serial  text `json:"SerialNumber"`
		Product text `json:"ProdShortName"`
		MAC     text `json:"MACAddress"`
	} `json:"camera_info"`
	URIs   []text            `json:"imagesURI"`
	Images []json.RawMessage `json:"ImageArray"`
	Where  json.RawMessage   `json:"plateCoordinates"`
}

// maxHeartbeat bounds a body that is no JSON and counts as a sign of life: the
// documented one has quotes that JSON does not know.
const maxHeartbeat = 1 << 10

// isHeartbeat says whether a body that is no JSON can only be a sign of life.
func isHeartbeat(b []byte) bool {
	return len(b) <= maxHeartbeat && !bytes.Contains(bytes.ToLower(b), []byte("plate"))
}

// ErrNoEvent says that a document is whole and tells of no read.
var ErrNoEvent = errors.New("the document tells of no read: it has neither a state nor a plate")

// Parse reads one document.
func Parse(b []byte) (Event, error) {
	if len(b) > MaxDocument {
		return Event{}, fmt.Errorf("a document of %d bytes; at most %d are read", len(b), MaxDocument)
	}
	if n := depth(b); n > maxDepth {
		return Event{}, fmt.Errorf("a document of %d values inside each other; at most %d are read", n, maxDepth)
	}
	var d document
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), &d); err != nil {
		if isHeartbeat(b) {
			return Event{}, ErrNoEvent
		}
		return Event{}, fmt.Errorf("JSON: %w", err)
	}
	e := Event{
		State: strings.ToLower(string(d.State)), Packet: string(d.PacketCounter), CarID: string(d.CarID), ASCII: d.PlateASCII.string(),
		Country: string(d.Country), Region: string(d.Region), Confidence: string(d.Confidence), Direction: string(d.Direction),
		Captured: string(d.CaptureMs), ROI: string(d.ROI), Sensor: string(d.Sensor),
		Serial: string(d.Camera.Serial), Product: string(d.Camera.Product), MAC: string(d.Camera.MAC),
	}
	for _, p := range []*text{d.PlateUTF8, d.PlateUnicode, d.PlateText, d.PlateASCII} {
		if e.Plate = strings.TrimSpace(p.string()); e.Plate != "" {
			break
		}
	}
	if e.State == "update" {
		e.State = Updated
	}
	// A capture, or the place of a plate with nothing in it, is a vehicle whose plate
	// was not read, and no sign of life.
	if e.State == "" && e.CarID == "" && e.Captured == "" && !d.tellsPlate() {
		return Event{}, ErrNoEvent
	}
	for _, u := range d.URIs[:min(len(d.URIs), maxImages)] {
		e.ImageURIs = append(e.ImageURIs, string(u))
	}
	// In a form that is not the documented one they are kept raw only.
	if json.Unmarshal(d.Where, &e.Coordinates) != nil || len(e.Coordinates) > maxImages {
		e.Coordinates = nil
	}
	for _, raw := range d.Images {
		found := images(raw)
		if len(found) == 0 || len(e.Images)+len(found) > maxImages {
			e.Unread++
			continue
		}
		e.Images = append(e.Images, found...)
	}
	return e, nil
}

// tellsPlate says whether there is a place for a plate.
func (d *document) tellsPlate() bool {
	return d.PlateUTF8 != nil || d.PlateUnicode != nil || d.PlateText != nil || d.PlateASCII != nil
}

// WithoutImages gives a document with an empty ImageArray and every other byte as
// it came. It gives b itself if there is none, or if it can't be told where it
// stands.
func WithoutImages(b []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return b
	}
	var out []byte
	copied := 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return b
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return b
		}
		// The decoder that Parse rests on takes names in any case.
		if name, ok := key.(string); ok && strings.EqualFold(name, "ImageArray") {
			end := int(d.InputOffset())
			out = append(append(out, b[copied:end-len(value)]...), "[]"...)
			copied = end
		}
	}
	if copied == 0 {
		return b
	}
	return append(out, b[copied:]...)
}

// images decodes an entry of ImageArray: base64 itself, or an object that has it in
// its values, in the order of their names.
func images(raw json.RawMessage) [][]byte {
	var values []text
	var one text
	var object map[string]text
	if json.Unmarshal(raw, &object) == nil {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			values = append(values, object[name])
		}
	} else if json.Unmarshal(raw, &one) == nil {
		values = []text{one}
	}
	var found [][]byte
	for _, v := range values {
		if b, err := base64.StdEncoding.DecodeString(string(v)); err == nil && isPicture(b) {
			found = append(found, b)
		}
	}
	return found
}

// isPicture says whether bytes begin as JPEG, PNG, GIF or BMP do.
func isPicture(b []byte) bool {
	for _, mark := range []string{"\xff\xd8\xff", "\x89PNG\r\n", "GIF8", "BM"} {
		if bytes.HasPrefix(b, []byte(mark)) {
			return true
		}
	}
	return false
}

// depth is how many values are inside each other at most.
func depth(b []byte) int {
	most, now, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// Splitter finds documents that come one after the other with nothing between,
// cut anywhere. After an error the connection must be closed: there is no mark to
// begin anew at.
type Splitter struct {
	buf    []byte
	seen   int // of buf, looked at
	nested int
	quoted bool
	escape bool
	err    error
}

// ErrNotJSON, ErrTooLarge and ErrTooDeep end a stream of documents.
var (
	ErrTooDeep  = fmt.Errorf("a document has more than %d values inside each other", maxDepth)
	ErrNotJSON  = errors.New("bytes between documents that begin none")
	ErrTooLarge = fmt.Errorf("a document has more than %d bytes", MaxDocument)
)

// Write takes what came.
func (s *Splitter) Write(b []byte) (int, error) {
	s.buf = append(s.buf, b...)
	return len(b), nil
}

// Rest is what waits for the rest of its document.
func (s *Splitter) Rest() []byte { return s.buf }

// Pending is how many bytes wait for the rest of their document.
func (s *Splitter) Pending() int { return len(s.buf) }

// Next gives a document, nil if there is no whole one.
func (s *Splitter) Next() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.nested == 0 {
		s.buf = bytes.TrimLeft(s.buf, " \t\r\n\x00")
		s.seen = 0
		if len(s.buf) > 0 && s.buf[0] != '{' {
			s.err = ErrNotJSON
			return nil, s.err
		}
	}
	for ; s.seen < len(s.buf); s.seen++ {
		if s.nested > maxDepth {
			s.err = ErrTooDeep
			return nil, s.err
		}
		switch c := s.buf[s.seen]; {
		case s.escape:
			s.escape = false
		case s.quoted && c == '\\':
			s.escape = true
		case c == '"':
			s.quoted = !s.quoted
		case s.quoted:
		case c == '{' || c == '[':
			s.nested++
		case c == '}' || c == ']':
			if s.nested--; s.nested == 0 {
				d := bytes.Clone(s.buf[:s.seen+1])
				s.buf = s.buf[:copy(s.buf, s.buf[s.seen+1:])]
				s.seen = 0
				return d, nil
			}
		}
		if s.seen > MaxDocument {
			s.err, s.buf = ErrTooLarge, nil
			return nil, s.err
		}
	}
	return nil, nil
}

// Append appends the document of an event, with its pictures in base64 if inline.
func Append(b []byte, e Event, inline bool) []byte {
	d := map[string]any{
		"packetCounter": e.Packet, "capture_timestamp": e.Captured, "plateUTF8": e.Plate, "plateText": e.Plate, "plateASCII": e.ASCII,
		"plateCountry": e.Country, "plateRegion": e.Region, "plateConfidence": e.Confidence, "carState": e.State, "roiID": e.ROI, "carID": e.CarID,
		"carMoveDirection": e.Direction, "sensorProviderID": e.Sensor,
		"camera_info": map[string]string{"SerialNumber": e.Serial, "ProdShortName": e.Product, "MACAddress": e.MAC},
	}
	if len(e.Coordinates) > 0 {
		d["plateCoordinates"] = e.Coordinates
	}
	if len(e.ImageURIs) > 0 {
		d["imagesURI"] = e.ImageURIs
	}
	if inline {
		var images []string
		for _, img := range e.Images {
			images = append(images, base64.StdEncoding.EncodeToString(img))
		}
		d["ImageArray"] = images
	}
	text, err := json.Marshal(d)
	if err != nil {
		return b // strings and numbers can always be encoded
	}
	return append(b, text...)
}
