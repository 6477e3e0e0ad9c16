// Package platerecognizer reads and writes what Plate Recognizer Stream posts to a
// webhook. It does no I/O.
//
// Facts are from parkpow/deep-license-plate-recognition. How newer versions nest a
// plate is known from its name "props" alone; the names inside are guessed, and the
// older form is tried first.
package platerecognizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
)

const (
	// MaxDocument bounds a post in bytes, maxResults the plates of one.
	MaxDocument = 4 << 20
	maxResults  = 64
	// maxCandidates bounds the other readings of one plate.
	maxCandidates = 16
)

// Post is one picture in which plates were looked for.
type Post struct {
	// HookID and FileName tell posts apart, together with the plate.
	HookID, FileName string
	Camera           string
	// Timestamp is in UTC.
	Timestamp string
	Results   []Result
}

// Result is one plate.
type Result struct {
	// Plate is in small letters. Score runs from 0 to 1.
	Plate, Score, Region string
	// Direction is in degrees.
	Direction, VehicleType string
	Candidates             []Candidate
}

// Candidate is another reading of the same plate.
type Candidate struct{ Plate, Score string }

// Time is when the picture was taken; zero if it is not told.
func (p *Post) Time() time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, p.Timestamp); err == nil && t.Year() >= 2000 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Parse reads the JSON of a post.
func Parse(body []byte) (*Post, error) {
	n, err := document.ParseOne(body, MaxDocument)
	if err != nil {
		return nil, err
	}
	hook, data := n.Child("hook"), n.Child("data")
	if data == nil {
		return nil, errors.New("a post without data")
	}
	p := &Post{
		HookID: hook.Get("id"), FileName: cmp.Or(hook.Get("filename"), data.Get("filename")),
		Camera: data.Get("camera_id"), Timestamp: data.Get("timestamp"),
	}
	for _, r := range data.All("results") {
		if len(p.Results) == maxResults {
			return p, errors.New("more plates in one post than are read")
		}
		plate := r.Child("plate")
		nested := plate.At("props", "plate")
		x := Result{
			Plate: r.Get("plate"), Score: r.Get("score"), Region: r.Child("region").Get("code"),
			Direction: r.Get("direction"), VehicleType: r.Child("vehicle").Get("type"),
		}
		if x.Plate == "" && nested != nil {
			x.Plate = cmp.Or(nested.Text, nested.Get("value"))
			x.Score = cmp.Or(nested.Get("score"), plate.Get("score"))
			x.Region = cmp.Or(x.Region, plate.At("props", "region").Get("value"))
		}
		for _, c := range r.All("candidates") {
			if text := c.Get("plate"); text != "" && text != x.Plate && len(x.Candidates) < maxCandidates {
				x.Candidates = append(x.Candidates, Candidate{text, c.Get("score")})
			}
		}
		p.Results = append(p.Results, x)
	}
	return p, nil
}

// Append appends the JSON of a post.
func Append(b []byte, p Post) []byte {
	results := []any{}
	for _, r := range p.Results {
		results = append(results, map[string]any{
			"plate": r.Plate, "score": json.RawMessage(cmp.Or(valid(r.Score), "0")), "region": map[string]any{"code": r.Region, "score": 0.5},
			"vehicle": map[string]any{"type": r.VehicleType}, "candidates": []any{map[string]any{"plate": r.Plate, "score": 0.5}},
		})
	}
	text, err := json.Marshal(map[string]any{
		"hook": map[string]any{"target": "lanepost", "id": p.HookID, "event": "recognition", "filename": p.FileName},
		"data": map[string]any{"camera_id": p.Camera, "filename": p.FileName, "timestamp": p.Timestamp, "results": results},
	})
	if err != nil {
		return b // texts and numbers can always be encoded
	}
	return append(b, text...)
}

// valid lets a number through.
func valid(s string) string {
	var f float64
	if json.Unmarshal([]byte(s), &f) != nil {
		return ""
	}
	return s
}
