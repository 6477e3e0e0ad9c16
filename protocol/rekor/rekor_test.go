package rekor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const group = `{"data_type":"alpr_group","version":2,"epoch_start":1740816912654,"epoch_end":1740816914000,"best_uuid":"u-1","uuids":["u-1","u-2"],
 "best_plate_number":"AA1234BB","best_confidence":92.25,"best_region":"eu-ua","travel_direction":181.5,"camera_id":1234,"agent_uid":"AG",
 "best_plate":{"plate":"AA1234BB","candidates":[{"plate":"AA1234BB","confidence":92.25},{"plate":"AA1234B8","confidence":80}]},
 "vehicle":{"color":[{"name":"white","confidence":90},{"name":"silver","confidence":5}],"make":[{"name":"volvo"}],"body_type":[{"name":"tractor-trailer"}]}}`

func TestParse(t *testing.T) {
	g, err := Parse([]byte(group))
	require.NoError(t, err)
	require.Equal(t, &Group{
		Plate: "AA1234BB", Confidence: "92.25", Region: "eu-ua", Start: "1740816912654", UUID: "u-1", Camera: "1234", Agent: "AG", Direction: "181.5",
		Color: "white", Make: "volvo", Body: "tractor-trailer", Candidates: []Candidate{{"AA1234B8", "80"}},
	}, g)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 654e6, time.UTC), g.Time())
	for _, other := range []string{`{"data_type":"heartbeat"}`, `{"data_type":"alpr_results","results":[{"plate":"AA1234BB"}]}`} {
		g, err := Parse([]byte(other))
		require.NoError(t, err)
		require.Nil(t, g)
	}
	_, err = Parse([]byte(`{"plate":"A"}`))
	require.ErrorContains(t, err, "data_type")
	require.True(t, (&Group{Start: "x"}).Time().IsZero())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(group))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Parse(b)
		if err != nil || g == nil {
			return
		}
		_ = g.Time()
		again, err := Parse(Append(nil, *g))
		if err != nil || again == nil || again.Plate != g.Plate {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
