// Package rekor reads and writes what the agents of Rekor Scout and OpenALPR post of
// number plates. It does no I/O. Facts are from openalpr/doc.
package rekor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

const (
	// MaxDocument bounds a post in bytes, maxCandidates the other readings of one.
	MaxDocument = 8 << 20
	// maxNodes bounds its values: a group names every frame of a vehicle that stands for
	// long.
	maxNodes      = 1 << 18
	maxCandidates = 16
)

// Group is one vehicle, told once when it is out of sight: up to ten seconds late.
type Group struct {
	Plate, Confidence, Region string
	// Start is when it was first seen, in milliseconds since 1970.
	Start     string
	UUID      string
	Camera    string
	Agent     string
	Direction string // degrees
	// Color, Make, Model and Body are of the vehicle.
	Color, Make, Model, Body string
	Candidates               []Candidate
	// PlateCrop and VehicleCrop are pictures, Unread counts those that are no base64.
	PlateCrop, VehicleCrop []byte
	Unread                 int
}

// Candidate is another reading; Confidence is from 0 to 100.
type Candidate struct{ Plate, Confidence string }

// Time is when the vehicle was first seen; zero if it is not told.
func (g *Group) Time() time.Time {
	ms, err := strconv.ParseInt(g.Start, 10, 64)
	if err != nil || ms <= 0 || ms > 4e12 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Parse reads a post. It gives nil for what is no group: the frames of which groups are
// made, and the heartbeat of each minute.
func Parse(body []byte) (*Group, error) {
	n, err := document.ParseLarge(body, MaxDocument, maxNodes)
	if err != nil {
		return nil, err
	}
	switch t := n.Get("data_type"); {
	case t == "alpr_group":
	case t == "":
		return nil, fmt.Errorf("a document without a data_type")
	default:
		return nil, nil
	}
	v := n.Child("vehicle")
	g := &Group{
		Plate: n.Get("best_plate_number"), Confidence: n.Get("best_confidence"), Region: n.Get("best_region"), Start: n.Get("epoch_start"),
		UUID: n.Get("best_uuid"), Camera: n.Get("camera_id"), Agent: n.Get("agent_uid"), Direction: n.Get("travel_direction"),
		Color: v.Child("color").Get("name"), Make: v.Child("make").Get("name"), Model: v.Child("make_model").Get("name"), Body: v.Child("body_type").Get("name"),
	}
	for _, p := range []struct {
		name string
		to   *[]byte
	}{{"plate_crop_jpeg", &g.PlateCrop}, {"vehicle_crop_jpeg", &g.VehicleCrop}} {
		text := n.Child("best_plate").Get(p.name)
		if text == "" {
			text = n.Get(p.name)
		}
		if text != "" {
			if *p.to = document.Base64(text); *p.to == nil {
				g.Unread++
			}
		}
	}
	for _, c := range append(n.All("candidates"), n.Child("best_plate").All("candidates")...) {
		if text := c.Get("plate"); text != "" && text != g.Plate && len(g.Candidates) < maxCandidates {
			g.Candidates = append(g.Candidates, Candidate{text, c.Get("confidence")})
		}
	}
	return g, nil
}

// Append appends the post of a group.
func Append(b []byte, g Group) []byte {
	text, err := json.Marshal(map[string]any{
		"data_type": "alpr_group", "version": 2, "best_plate_number": g.Plate, "best_confidence": number(g.Confidence), "best_region": g.Region,
		"epoch_start": number(g.Start), "epoch_end": number(g.Start), "best_uuid": g.UUID, "uuids": []string{g.UUID}, "camera_id": number(g.Camera), "agent_uid": g.Agent,
		"travel_direction": number(g.Direction), "vehicle": map[string]any{"color": []any{map[string]any{"name": g.Color, "confidence": 80.5}}},
	})
	if err != nil {
		return b // texts and numbers can always be encoded
	}
	return append(b, text...)
}

func number(s string) json.Number {
	if _, err := strconv.ParseFloat(s, 64); err != nil || !json.Valid([]byte(s)) {
		s = ""
	}
	return json.Number(cmp.Or(s, "0"))
}
