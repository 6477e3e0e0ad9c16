package milesight

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const post = `{"device":"Lane 2","time":"2025-03-01 10:15:12","plate":"AA1234BB","plate_color":"White","vehicle_type":"Car","vehicle_color":"Black",
 "direction":"In","speed":12,"confidence":93,"region":"UKR","roi":"1","plate_image":"/9j/AwQ=","full_image":"data:image/jpeg;base64,/9j/AQI=","evidence_image0":"???"}`

func TestParse(t *testing.T) {
	kyiv, err := time.LoadLocation("Europe/Kyiv")
	require.NoError(t, err)
	want := &Read{
		Device: "Lane 2", Plate: "AA1234BB", PlateColor: "White", VehicleType: "Car", VehicleColor: "Black", Time: "2025-03-01 10:15:12",
		Direction: "In", Speed: "12", Confidence: "93", Region: "UKR", ROI: "1",
		PlateImage: []byte{0xff, 0xd8, 0xff, 3, 4}, FullImage: []byte{0xff, 0xd8, 0xff, 1, 2}, Unread: 1,
	}
	r, err := Parse([]byte(post))
	require.NoError(t, err)
	require.Equal(t, want, r)
	require.True(t, r.At(kyiv).Equal(time.Date(2025, 3, 1, 8, 15, 12, 0, time.UTC)))

	q, err := url.ParseQuery("device=Lane+2&time=2025-03-01%2010:15:12&plate=AA1234BB&direction=Out")
	require.NoError(t, err)
	r, err = ParseQuery(q)
	require.NoError(t, err)
	require.Equal(t, &Read{Device: "Lane 2", Plate: "AA1234BB", Time: "2025-03-01 10:15:12", Direction: "Out"}, r)
	_, err = ParseQuery(url.Values{"device": {"x"}})
	require.ErrorIs(t, err, ErrNoPlate)
	for _, bad := range []string{"", "{}", `{"device":"x"}`, "plate=1"} {
		_, err := Parse([]byte(bad))
		require.Error(t, err, bad)
	}
	require.True(t, (&Read{Time: "now"}).At(time.UTC).IsZero())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(post))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		r.At(time.UTC)
		again, err := Parse(Append(nil, r))
		if err != nil || again.Plate != r.Plate {
			t.Fatalf("what is written can't be read: %v", err)
		}
		again, err = ParseQuery(r.Values())
		if err != nil || again.Plate != r.Plate {
			t.Fatalf("what is written into a query can't be read: %v", err)
		}
	})
}
