package anpr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// Every post is answered as taken, with nothing in the answer that opens a gate, and
// what is no read makes none.
func TestDahuaPushAnswers(t *testing.T) {
	i, err := DahuaPush().New(func(any) error { return nil })
	require.NoError(t, err)
	read := `{"Picture":{"NormalPic":{"PicName":"AA1234BB.jpg","Content":"bm90IHJlYWw="},"CutoutPic":{"PicName":"b","Content":"none!"},` +
		`"Plate":{"IsExist":true,"PlateNumber":"AA1234BB","ADR":"33/1203","UploadNum":1},"SnapInfo":{"DeviceID":"d-1","SnapTime":"2025-03-01 10:15:12"}}}`
	var script []drivers.Exchange
	for _, body := range []string{
		read, read, `{"Active":"keepAlive","DeviceID":"d-1"}`, `{"DeviceName":"n","DeviceID":"d-1"}`, `{"ParkingSpace":1}`, "no JSON",
		// The same count at another time is another vehicle: the camera began anew.
		`{"Picture":{"Plate":{"PlateNumber":"CE5678BB","UploadNum":1},"SnapInfo":{"DeviceID":"d-1","SnapTime":"2025-03-02 10:15:12"}}}`,
		// Without a count and a picture nothing tells two posts apart, and both are kept.
		`{"Picture":{"Plate":{"PlateNumber":"CE5678BB"}}}`, `{"Picture":{"Plate":{"PlateNumber":"CE5678BB"}}}`,
		// Bytes that are no UTF-8 lose a character and not the read.
		"{\"Picture\":{\"Plate\":{\"PlateNumber\":\"\xcb\xd5A8HK52\"}}}",
	} {
		script = append(script, drivers.Exchange{ContentType: "application/json", Body: []byte(body)})
	}
	p, err := drivers.PlayRequests(t.Context(), i, script)
	require.NoError(t, err)
	require.Len(t, p.Replies, len(script))
	for k, r := range p.Replies {
		require.Equal(t, 200, r.Status)
		want := `{"Result":true}`
		if k == 2 {
			want = `{"Active":true,"DeviceID":"d-1"}`
		}
		require.JSONEq(t, want, string(r.Body))
	}
	require.Len(t, p.Unparsed, 3, "the picture that is none, both times, and the body that is none")
	require.Len(t, p.Observations, 5)
	last := p.Observations[4].Data.(event.PlateRead)
	require.True(t, last.Private.Lossy)
	require.Contains(t, last.Private.Plate, "A8HK52")
	first := p.Observations[0].Data.(event.PlateRead)
	require.Equal(t, "yes", first.Vehicle.DangerousGoods)
	require.Len(t, first.Attachments, 1)
	require.Equal(t, "normal-1.jpg", first.Attachments[0].Name, "a name with the plate in it goes nowhere")
}
