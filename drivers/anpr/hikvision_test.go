package anpr

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// What a camera is answered with 200 for it does not send again: the plates in it
// must have become events.
func TestHikvisionPushAnsweredIsRecorded(t *testing.T) {
	xml := func(channel, text string) string {
		return "<EventNotificationAlert><channelName>" + channel + "</channelName><eventType>ANPR</eventType>" +
			"<ANPR><licensePlate>" + text + "</licensePlate></ANPR></EventNotificationAlert>"
	}
	json := func(text string) string { return `{"eventType":"ANPR","aNPR":{"licensePlate":"` + text + `"}}` }
	for name, c := range map[string]struct {
		contentType, body, codePage string
		want                        []string
		lossy                       bool
	}{
		"a channel in another code page":     {"application/xml", xml("\xb5\xc0", "AA1111"), "", []string{"AA1111"}, false},
		"a plate in the code page":           {"application/xml", xml("Lane", "\xc0\xc01111"), "windows-1251", []string{"АА1111"}, false},
		"a plate in a code page nobody told": {"application/xml", xml("Lane", "\xc01111"), "", []string{"\ufffd1111"}, true},
		"NULs in a name":                     {"application/xml", xml("Lane\x00", "AA1111"), "", []string{"AA1111"}, false},
		"two of JSON":                        {"application/json", json("AA1111") + json("AA2222"), "", []string{"AA1111", "AA2222"}, false},
		"parts announced, a document sent":   {"multipart/form-data; boundary=b", xml("Lane", "AA1111"), "", []string{"AA1111"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := made(t, HikvisionPush(), func(s *HikvisionSettings) { s.CodePage = c.codePage })
			got, err := drivers.PlayRequests(context.Background(), i, []drivers.Exchange{
				{Method: http.MethodPost, ContentType: c.contentType, Body: []byte(c.body)},
			})
			require.NoError(t, err)
			require.Len(t, got.Replies, 1)
			require.Equal(t, http.StatusOK, got.Replies[0].Status)
			require.Empty(t, got.Unparsed)
			var plates []string
			for _, o := range got.Observations {
				private := o.Data.(event.PlateRead).Private
				plates = append(plates, private.PlateRaw)
				require.Equal(t, c.lossy, private.Lossy)
			}
			require.Equal(t, c.want, plates)
		})
	}
}
