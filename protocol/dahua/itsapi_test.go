package dahua

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tollgate is typed by hand in the form of the API text.
const tollgate = `{"Picture":{
 "NormalPic":{"PicName":"a-1.jpg","Content":"/9j/2wA="},
 "CutoutPic":{"PicName":"a-2.jpg","Content":"/9j/2wE="},
 "CombinPic":[{"PicName":"c-1.jpg","Content":"/9j/2wI="},{"PicName":"c-2.jpg","Content":"none!"}],
 "Plate":{"IsExist":true,"PlateNumber":"AA1234BB","ADR":"33/1203","PlateColor":"White","PlateType":"Normal","Confidence":92,
  "BoundingBox":[412,300,520,330],"UploadNum":1,"Channel":0,"Region":"UKR"},
 "Vehicle":{"VehicleColor":"White","VehicleSign":"Unknown","VehicleType":"HeavyTruck","VehicleSeries":"x","Speed":12,"VehicleBoundingBox":[0,0,1,1]},
 "SnapInfo":{"DeviceID":"d-1","SnapTime":"2025-03-01 10:15:12","AccurateTime":"2025-03-01 10:15:12.654","TimeZone":17,"DSTTune":0,
  "SnapAddress":"Lane 2","LanNo":2,"Direction":"Obverse","TriggerSource":"Video","OpenStrobe":false}}}`

func TestParsePost(t *testing.T) {
	p, err := ParsePost([]byte(tollgate))
	require.NoError(t, err)
	require.Equal(t, Post{Kind: Plate, DeviceID: "d-1", Read: &Read{
		Exists: "true", Plate: "AA1234BB", ADR: "33/1203", PlateColor: "White", PlateType: "Normal", Confidence: "92", Region: "UKR",
		UploadNum: "1", Channel: "0", Color: "White", Sign: "Unknown", Type: "HeavyTruck", Series: "x", Speed: "12",
		SnapTime: "2025-03-01 10:15:12", AccurateTime: "2025-03-01 10:15:12.654", TimeZone: "17", Lane: "2", Direction: "Obverse", Address: "Lane 2", Trigger: "Video",
		PicName: "a-1.jpg", Unread: 1,
		Pictures: []Picture{{"normal", []byte("\xff\xd8\xff\xdb\x00")}, {"cutout", []byte("\xff\xd8\xff\xdb\x01")}, {"combined", []byte("\xff\xd8\xff\xdb\x02")}},
	}}, p)
	kyiv, err := time.LoadLocation("Europe/Kyiv")
	require.NoError(t, err)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 654e6, time.UTC), p.Read.Time(kyiv).UTC())
	p.Read.AccurateTime = ""
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 0, time.UTC), p.Read.Time(kyiv).UTC())
	p.Read.SnapTime = "0000-00-00 00:00:00"
	require.True(t, p.Read.Time(kyiv).IsZero())

	// The spellings of other firmware, and a SnapInfo beside.
	p, err = ParsePost([]byte(`{"Picture":{"CutouPic":{"PicName":"x","Content":"/9j/2wE="},"Plate":{"IsExit":"False","PlateNumber":""},"Vehicle":{"VehocleSeries":"s"}},"SnapInfo":{"DeviceID":"d"}}`))
	require.NoError(t, err)
	require.Equal(t, "false", p.Read.Exists)
	require.Equal(t, "s", p.Read.Series)
	require.Len(t, p.Read.Pictures, 1)
	require.Equal(t, "d", p.DeviceID)

	for body, kind := range map[string]Kind{
		`{"Active":"keepAlive","DeviceID":"d-1"}`:                 KeepAlive,
		`{"DeviceName":"n","DeviceModel":"ITC","DeviceID":"d-1"}`: DeviceInfo,
		`{"ParkingSpace":1}`:                                      Other,
		`{"Picture":{"Vehicle":{"VehicleType":"HeavyTruck"}}}`:    Plate,
	} {
		p, err := ParsePost([]byte(body))
		require.NoError(t, err)
		require.Equal(t, kind, p.Kind, body)
	}
	_, err = ParsePost([]byte(`{"Picture":{"SnapInfo":{}}}`))
	require.ErrorContains(t, err, "neither a Plate nor a Vehicle")
	_, err = ParsePost([]byte(`<EventNotificationAlert/>`))
	require.ErrorContains(t, err, "XML")
}

func TestReply(t *testing.T) {
	require.JSONEq(t, `{"Result":true}`, string(AppendReply(nil, Post{Kind: Plate})))
	require.JSONEq(t, `{"Active":true,"DeviceID":"d\"1"}`, string(AppendReply(nil, Post{Kind: KeepAlive, DeviceID: `d"1`})))
	require.True(t, Accepted([]byte(`{"Result": true}`)))
	for _, no := range []string{"", "OK", `{"Result":false}`, `{"Active":true}`} {
		require.False(t, Accepted([]byte(no)), no)
	}
}

func FuzzParsePost(f *testing.F) {
	f.Add([]byte(tollgate))
	f.Add([]byte(`{"Active":"keepAlive"}`))
	f.Add([]byte(`{"Picture":{"Plate":{"IsExit":1},"CombinPic":[{}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePost(b)
		if err != nil {
			return
		}
		if (p.Kind == Plate) != (p.Read != nil) {
			t.Fatal("a plate without a read, or the other way round")
		}
		if p.Kind != Plate {
			return
		}
		_ = p.Read.Time(time.UTC)
		again, err := ParsePost(Append(nil, p, true))
		if err != nil || again.Read == nil || again.Read.Plate != p.Read.Plate {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
