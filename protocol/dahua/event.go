package dahua

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/protocol/document"
)

// Bounds of one part of a stream.
const (
	// maxEvent bounds its text in bytes, maxLines its lines, maxPath how deep a key is.
	maxEvent, maxLines, maxPath = 1 << 20, 4096, 16
	// maxEvents bounds the events of one part.
	maxEvents = 32
)

// Event is what a stream of snapManager or eventManager tells of one thing.
type Event struct {
	// Code is what happened, "TrafficJunction" for instance; Action is "Pulse", "Start"
	// or "Stop".
	Code, Action string
	// Passage is nil for what is no vehicle.
	Passage *Passage
}

// Passage is one sight of a vehicle: several of one GroupID are of the same one.
type Passage struct {
	Plate, Confidence, Country string
	// Driving is "Approach" or "Leave", or where that is not told "Head" or "Tail", the
	// side that is seen.
	Driving                    string
	PlateType, PlateColor      string
	VehicleType, Color, Sign   string
	Speed, Lane, Camera        string
	EventID, GroupID           string
	CountInGroup, IndexInGroup string
	// RealUTC is seconds since 1970. UTC is not: it is the wall clock's time counted as
	// if it were that. Milliseconds are of both.
	RealUTC, UTC, Milliseconds string
}

// Time is when it was seen. zoned is true if the camera told it in UTC; else it is the
// wall clock's in zone. It is zero if it is not told.
func (p *Passage) Time(zone *time.Location) (t time.Time, zoned bool) {
	ms, err := strconv.ParseUint(p.Milliseconds, 10, 16)
	if err != nil || ms > 999 {
		ms = 0
	}
	for i, text := range []string{p.RealUTC, p.UTC} {
		s, err := strconv.ParseInt(text, 10, 64)
		if err != nil || s < 946684800 || s > 1e11 { // before 2000 the clock was never set
			continue
		}
		t = time.Unix(s, int64(ms)*1e6).UTC()
		if i == 1 {
			t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
		}
		return t, i == 0
	}
	return time.Time{}, false
}

// ErrHeartbeat says that a part is a sign of life.
var ErrHeartbeat = errors.New("the camera's heartbeat")

// eventKey is a key of a part of snapManager, by firmware with another first word.
var eventKey = regexp.MustCompile(`^(?:Return)?Events\[(\d{1,4})\]\.(.+)$`)

// codeStart is where an event of eventManager begins.
var codeStart = regexp.MustCompile(`(?m)^Code=`)

// ParseEvents reads a part of text of either stream. With an error it gives those
// before it.
func ParseEvents(body []byte) ([]Event, error) {
	if len(body) > maxEvent {
		return nil, fmt.Errorf("an event of %d bytes; at most %d are read", len(body), maxEvent)
	}
	body = bytes.Trim(body, "\x00 \t\r\n")
	switch {
	case strings.EqualFold(string(body), "Heartbeat"):
		return nil, ErrHeartbeat
	case bytes.HasPrefix(body, []byte("Code=")):
		// Several may stand in one part, each at the beginning of a line.
		var events []Event
		for i, text := range codeStart.Split(string(body), maxEvents+1)[1:] {
			if i == maxEvents {
				return events, fmt.Errorf("more than %d events in one part", maxEvents)
			}
			e, err := parseCode("Code=" + text)
			if err != nil {
				return events, err
			}
			events = append(events, e)
		}
		return events, nil
	}
	roots := map[string]*document.Node{}
	var order []string
	lines := 0
	for line := range strings.Lines(string(body)) {
		if lines++; lines > maxLines {
			return nil, fmt.Errorf("more than %d lines in an event", maxLines)
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		m := eventKey.FindStringSubmatch(key)
		if !ok || m == nil {
			continue // of the stream itself
		}
		if roots[m[1]] == nil {
			if len(order) == maxEvents {
				return nil, fmt.Errorf("more than %d events in one part", maxEvents)
			}
			roots[m[1]] = &document.Node{}
			order = append(order, m[1])
		}
		if err := set(roots[m[1]], m[2], strings.ToValidUTF8(value, string(utf8.RuneError))); err != nil {
			return nil, err
		}
	}
	if len(order) == 0 {
		return nil, errors.New("neither a heartbeat nor an event")
	}
	var events []Event
	for _, i := range order {
		n := roots[i]
		base := n.Child("EventBaseInfo")
		events = append(events, eventOf(n, cmp.Or(base.Get("Code"), n.Get("Code")), cmp.Or(base.Get("Action"), n.Get("Action"))))
	}
	return events, nil
}

// set puts a value at a path like TrafficCar.DrivingDirection[0].
func set(n *document.Node, path, value string) error {
	names := strings.Split(path, ".")
	if len(names) > maxPath {
		return fmt.Errorf("a key of more than %d names", maxPath)
	}
	for _, name := range names {
		c := n.Child(name)
		if c == nil {
			c = &document.Node{Name: name}
			n.Children = append(n.Children, c)
		}
		n = c
	}
	n.Text = strings.TrimSpace(value)
	return nil
}

// parseCode reads Code=...;action=...;index=0;data={...}, in whose last value anything
// may stand.
func parseCode(text string) (Event, error) {
	head, data, has := strings.Cut(text, ";data=")
	var code, action string
	for part := range strings.SplitSeq(head, ";") {
		key, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "code":
			code = strings.TrimSpace(value)
		case "action":
			action = strings.TrimSpace(value)
		}
	}
	if !has {
		return Event{Code: code, Action: action}, nil
	}
	n, err := document.ParseOne([]byte(data), maxEvent)
	if err != nil {
		return Event{}, fmt.Errorf("the data of a %s: %w", cut(code), err)
	}
	return eventOf(n, code, action), nil
}

func eventOf(n *document.Node, code, action string) Event {
	e := Event{Code: code, Action: action}
	car, object, vehicle, info := n.Child("TrafficCar"), n.Child("Object"), n.Child("Vehicle"), n.Child("CommInfo")
	// Counts of traffic are called Traffic too, and an event has a beginning and an end.
	if car == nil && (!strings.HasPrefix(code, "Traffic") || object == nil && vehicle == nil) || action == "Stop" {
		return e
	}
	if t := object.Get("ObjectType"); t != "" && t != "Plate" {
		object = nil // its text is the badge of the vehicle
	}
	e.Passage = &Passage{
		Plate: cmp.Or(car.Get("PlateNumber"), object.Get("Text")), Confidence: object.Get("Confidence"),
		Country:   cmp.Or(car.Get("Country"), info.Get("Country")),
		Driving:   cmp.Or(car.Get("DrivingDirection[0]", "DrivingDirection"), n.Get("VehicleDirection")),
		PlateType: car.Get("PlateType"), PlateColor: car.Get("PlateColor"),
		VehicleType: cmp.Or(vehicle.Get("Category"), info.Get("SnapCategory")), Color: car.Get("VehicleColor"), Sign: car.Get("VehicleSign"),
		Speed: car.Get("Speed"), Lane: cmp.Or(car.Get("Lane"), n.Get("Lane")), Camera: car.Get("MachineName"),
		EventID: n.Get("EventID"), GroupID: n.Get("GroupID"), CountInGroup: n.Get("CountInGroup"), IndexInGroup: n.Get("IndexInGroup"),
		RealUTC: n.Get("RealUTC"), UTC: cmp.Or(n.Get("UTC"), car.Get("UTC")), Milliseconds: n.Get("UTCMS"),
	}
	return e
}
