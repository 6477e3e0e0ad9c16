package sharpv

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const post = `{"ContextCameraName":"Context","ContextImage":"/9j/AQI=","Id":"5f0e6a1c-0000-4000-8000-000000000001","Latitude":50.4,"Longitude":30.4,
 "LprCameraName":"Lane 2","PlateAnalytics":[{"Key":"State Name","Score":-1,"Value":"Ukraine"},{"Key":"Vehicle Type","Score":-1,"Value":"Truck"},
 {"Key":"Relative Motion","Score":-1,"Value":"Moving Away"},{"Key":"Confidence Score","Score":-1,"Value":"97"},{"Key":"Characters Height","Score":-1,"Value":"33"}],
 "PlateImage":"/9j/AwQ=","PlateRead":"AA1234BB","SourceUrl":"","Timestamp":"2025-03-01T10:15:12.654"}`

const xmlPost = `<?xml version="1.0"?><LprRead xmlns="x"><Id>g-1</Id><LprCameraName>Lane 2</LprCameraName><PlateRead>AA1234BB</PlateRead>
 <PlateAnalytics><Analytic><Key>Confidence Score</Key><Score>88</Score><Value></Value></Analytic></PlateAnalytics>
 <Timestamp>2025-03-01T10:15:12.6540000+02:00</Timestamp></LprRead>`

const exporter = `{"CameraName":"Lane 2","DateUtc":"01/03/2025","TimeUtc":"08:15:12","Plate":"AA1234BB","State":"Ukraine","ConfidenceScore":"91",
 "Attributes":{"Relative Motion":"Moving Away"}}`

func TestParse(t *testing.T) {
	moment := time.Date(2025, 3, 1, 8, 15, 12, 0, time.UTC)
	r, err := Parse([]byte(post))
	require.NoError(t, err)
	require.Equal(t, &Read{
		ID: "5f0e6a1c-0000-4000-8000-000000000001", Plate: "AA1234BB", State: "Ukraine", Confidence: "97", Motion: "Moving Away", VehicleType: "Truck",
		Camera: "Lane 2", Context: "Context", Timestamp: "2025-03-01T10:15:12.654", PlateImage: []byte{0xff, 0xd8, 0xff, 3, 4}, Image: []byte{0xff, 0xd8, 0xff, 1, 2},
	}, r)
	at, zoned, ok := r.Time()
	require.True(t, ok && !zoned)
	require.Equal(t, moment.Add(2*time.Hour+654*time.Millisecond), at)

	r, err = Parse([]byte(xmlPost))
	require.NoError(t, err)
	require.Equal(t, "88", r.Confidence)
	at, zoned, ok = r.Time()
	require.True(t, ok && zoned)
	require.True(t, at.Equal(moment.Add(654*time.Millisecond)))

	r, err = Parse([]byte(exporter))
	require.NoError(t, err)
	require.Equal(t, []string{"AA1234BB", "Ukraine", "91", "Moving Away", ""}, []string{r.Plate, r.State, r.Confidence, r.Motion, r.ID})
	at, zoned, ok = r.Time()
	require.True(t, ok && zoned)
	require.Equal(t, moment, at)

	for _, bad := range []string{"", "{}", `{"Id":"1"}`, "<a/>", "plate"} {
		_, err := Parse([]byte(bad))
		require.Error(t, err, bad)
	}
	r, err = Parse([]byte(`{"PlateRead":"A","PlateImage":"no_base64","Timestamp":"yesterday"}`))
	require.NoError(t, err)
	require.Equal(t, 1, r.Unread)
	_, _, ok = r.Time()
	require.False(t, ok)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{post, xmlPost, exporter} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		r.Time()
		again, err := Parse(Append(nil, *r))
		if err != nil || again.Plate != r.Plate {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
