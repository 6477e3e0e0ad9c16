package anpr

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

func axisPost(t *testing.T, body string) drivers.Played {
	t.Helper()
	got, err := drivers.PlayRequests(context.Background(), made(t, AxisLPV(), func(*Settings) {}), []drivers.Exchange{
		{ContentType: "application/json", Body: []byte(body)},
	})
	require.NoError(t, err)
	require.Len(t, got.Replies, 1)
	require.Equal(t, 200, got.Replies[0].Status)
	return got
}

// What an event keeps as the device's bytes are the device's bytes.
func TestAxisRawIsWhatCame(t *testing.T) {
	picture := base64.StdEncoding.EncodeToString([]byte("\xff\xd8\xff not a real picture"))
	head, tail := `{ "plateUTF8":"AA1234BB","carState":"lost","geotag":{"lat":50.40},"plateCoordinates":[1, 2,3,4],"new_in_some_firmware":true,"ImageArray":`, ` ,"carID":"7"}`
	got := axisPost(t, head+`["`+picture+`"]`+tail)
	require.Empty(t, got.Unparsed)
	require.Len(t, got.Observations, 1)
	d := got.Observations[0].Data.(event.PlateRead)
	require.Equal(t, event.RawOf([]byte(head+"[]"+tail)), d.Private.Raw)
	require.Len(t, got.Observations[0].Attachments, 1)
	require.Equal(t, "\xff\xd8\xff not a real picture", string(got.Observations[0].Attachments[0].Content))

	// Without pictures not one byte differs.
	got = axisPost(t, head+"null"+tail)
	require.Equal(t, event.RawOf([]byte(head+"null"+tail)), got.Observations[0].Data.(event.PlateRead).Private.Raw)
}

// A picture is kept whatever its kind; one that is none stays in the document, which
// is attached.
func TestAxisPicturesAreKept(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n not a real picture"
	body := `{"plateUTF8":"AA1234BB","carState":"lost","ImageArray":["` + base64.StdEncoding.EncodeToString([]byte(png)) + `"]}`
	got := axisPost(t, body)
	require.Empty(t, got.Unparsed)
	a := got.Observations[0].Attachments
	require.Len(t, a, 1)
	require.Equal(t, png, string(a[0].Content))
	require.Equal(t, "image/png", a[0].MediaType)

	for name, array := range map[string]string{
		"another kind": `["` + base64.StdEncoding.EncodeToString([]byte("RIFF of some kind")) + `"]`,
		"no base64":    `["%%%"]`,
		"too many":     `[` + strings.TrimSuffix(strings.Repeat(`"`+base64.StdEncoding.EncodeToString([]byte(png))+`",`, 17), ",") + `]`,
	} {
		body := `{"plateUTF8":"AA1234BB","carState":"lost","ImageArray":` + array + `}`
		got := axisPost(t, body)
		require.NotEmpty(t, got.Unparsed, name)
		a := got.Observations[0].Attachments
		require.Equal(t, body, string(a[0].Content), name)
		require.Equal(t, event.RawOf([]byte(body)), got.Observations[0].Data.(event.PlateRead).Private.Raw, name)
	}
}

// A vehicle without a plate is no heartbeat, and a heartbeat is no rubbish.
func TestAxisUnreadAndAlive(t *testing.T) {
	got := axisPost(t, `{"packetCounter":"1","capture_timestamp":"1740816912654","plateUTF8":""}`)
	require.Len(t, got.Observations, 1)
	require.Equal(t, event.PlateNoRead{}.Type(), got.Observations[0].Data.Type())
	for _, body := range []string{"", "{'heartbeat': 'alive'}", `heartbeat "alive"`} {
		got := axisPost(t, body)
		require.Empty(t, got.Observations, body)
		require.Empty(t, got.Unparsed, body)
		require.Equal(t, 1, got.Valid, body)
	}
}

func TestAxisConnectionCutInADocument(t *testing.T) {
	got, err := drivers.Play(context.Background(), made(t, AxisLPV(), func(*Settings) {}), []drivers.Chunk{
		{Bytes: []byte(`{'heartbeat': 'alive'}{"plateUTF8":"AA12`)},
	})
	require.NoError(t, err)
	require.Empty(t, got.Observations)
	require.Len(t, got.Unparsed, 1)
	require.Equal(t, `{"plateUTF8":"AA12`, string(got.Unparsed[0].Raw))
}
