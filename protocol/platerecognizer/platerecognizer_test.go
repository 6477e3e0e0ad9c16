package platerecognizer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const post = `{"hook":{"target":"x","id":"lane-1","event":"recognition","filename":"lane-1/s/2025.jpg"},
 "data":{"camera_id":"lane-1","filename":"lane-1/s/2025.jpg","timestamp":"2025-03-01T08:15:12.654321Z","timestamp_local":"2025-03-01 10:15:12.654321+02:00",
 "results":[{"plate":"aa1234bb","score":0.904,"dscore":0.8,"region":{"code":"ua","score":0.6},"box":{"xmin":1},"vehicle":{"type":"Big Truck","score":0.2},
  "candidates":[{"plate":"aa1234bb","score":0.904},{"plate":"aa1234b8","score":0.7}],"direction":210,"position_sec":12.5},
  {"plate":{"type":"Plate","score":0.8,"props":{"plate":[{"value":"ce5678bb","score":0.7}],"region":[{"value":"pl","score":0.3}]}}},
  {"plate":null,"vehicle":{"type":"Sedan"}}]}}`

func TestParse(t *testing.T) {
	p, err := Parse([]byte(post))
	require.NoError(t, err)
	require.Equal(t, &Post{
		HookID: "lane-1", FileName: "lane-1/s/2025.jpg", Camera: "lane-1", Timestamp: "2025-03-01T08:15:12.654321Z",
		Results: []Result{
			{Plate: "aa1234bb", Score: "0.904", Region: "ua", Direction: "210", VehicleType: "Big Truck", Candidates: []Candidate{{"aa1234b8", "0.7"}}},
			{Plate: "ce5678bb", Score: "0.7", Region: "pl"},
			{VehicleType: "Sedan"},
		},
	}, p)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 654321000, time.UTC), p.Time())
	require.True(t, (&Post{Timestamp: "yesterday"}).Time().IsZero())
	_, err = Parse([]byte(`{"hook":{}}`))
	require.ErrorContains(t, err, "without data")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(post))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		_ = p.Time()
		again, err := Parse(Append(nil, *p))
		if err != nil || len(again.Results) != len(p.Results) {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
