package anpr

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/vzen"
)

const vzenOne = `{"AlarmInfoPlate":{"serialno":"s-1","result":{"PlateResult":{"license":"AA1234BB|AC315TD","plateid":9,"isoffline":1,"timeStamp":{"Timeval":{"sec":1740816912,"usec":5,"decyear":2025,"decmon":3,"decday":1,"dechour":11,"decmin":15,"decsec":12}}}}}}`

// Every answer leaves the barrier alone, and the kept messages are asked for.
func TestVzenAnswers(t *testing.T) {
	i, err := VzenPush().New(func(any) error { return nil })
	require.NoError(t, err)
	p, err := drivers.PlayRequests(t.Context(), i, []drivers.Exchange{
		{ContentType: "application/json", Body: []byte(vzenOne)},
		{At: time.Second, ContentType: "multipart/form-data; boundary=b", Body: []byte("--b\r\nContent-Disposition: form-data; name=\"pass_wd\"\r\n\r\nverysecret\r\n--b--\r\n")},
		{At: 2 * time.Second, ContentType: "application/json", Body: []byte(`{"pass_wd":"verysecret"`)},
		{At: 3 * time.Second, ContentType: "application/json", Body: []byte("license")},
		{At: 4 * time.Second, ContentType: "application/json", Body: []byte(`{"AlarmGioIn":{}}`)},
		{At: 5 * time.Second, ContentType: "application/json", Body: []byte(strings.Replace(vzenOne, `"serialno":"s-1"`, `"serialno":"s-1","user_name":"admin","pass_wd":"verysecret"`, 1))},
		{At: 6 * time.Second, ContentType: "application/json", Body: []byte(`{"AlarmInfoPlate":{"user_name":"admin","pass_wd":"verysecret"}}`)},
	})
	require.NoError(t, err)
	require.Len(t, p.Replies, 7)
	require.JSONEq(t, `{"Response_AlarmInfoPlate":{"info":"no","plateid":9,"ContinuePushOffline":{"plateid":9,"continue":1}}}`, string(p.Replies[0].Body))
	for _, r := range p.Replies {
		require.Equal(t, 200, r.Status)
		require.Contains(t, string(r.Body), `"info":"no"`)
		for _, word := range []string{"ok", "serialData", "ivs_ioctrl", "manualTrigger", "verysecret"} {
			require.NotContains(t, string(r.Body), word)
		}
	}
	require.Len(t, p.Unparsed, 2, "the body that is none, and the alarm without a result; no heartbeat")
	require.Empty(t, p.Unparsed[1].Raw, "the login is in it")
	require.Equal(t, "license", string(p.Unparsed[0].Raw))
	require.Len(t, p.Observations, 2, "both plates of the message, and none when it comes again")
	require.Equal(t, "AC315TD", p.Observations[1].Data.(event.PlateRead).Private.Plate)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 5_000_000, time.UTC), p.Observations[0].DeviceTime.UTC())
}

// A read in a body that holds the login keeps the plate and not the body.
func TestVzenLoginInRead(t *testing.T) {
	i, err := VzenPush().New(func(s any) error {
		s.(*VzenSettings).Clock, s.(*VzenSettings).Zone = "calendar", "Europe/Kyiv"
		return nil
	})
	require.NoError(t, err)
	p, err := drivers.PlayRequests(t.Context(), i, []drivers.Exchange{
		{ContentType: "application/json", Body: []byte(strings.Replace(vzenOne, `"serialno":"s-1"`, `"serialno":"s-1","pass_wd":"verysecret"`, 1))},
	})
	require.NoError(t, err)
	require.Len(t, p.Observations, 2)
	read := p.Observations[0].Data.(event.PlateRead)
	require.Equal(t, "AA1234BB", read.Private.Plate)
	require.Equal(t, event.RawOf(nil), read.Private.Raw)
	require.Equal(t, event.TimeFromDeviceZone, read.Capture.TimeSource)
	require.Equal(t, time.Date(2025, 3, 1, 9, 15, 12, 5_000_000, time.UTC), p.Observations[0].DeviceTime.UTC(), "11:15 on the wall in Kyiv")
}

// The answer to a heartbeat that follows the answer before at once is held back.
func TestVzenComet(t *testing.T) {
	c := &vzenCamera{}
	h := &clockHost{at: drivers.ScriptStart()}
	require.Zero(t, c.heartbeat(h, vzen.Answer{}).wait)
	h.at = h.at.Add(20 * time.Millisecond)
	require.Equal(t, vzenPause, c.heartbeat(h, vzen.Answer{}).wait)
	h.at = h.at.Add(vzenPause + 20*time.Millisecond) // it had its answer, and posts again
	require.Equal(t, vzenPause, c.heartbeat(h, vzen.Answer{}).wait)
	h.at = h.at.Add(2*vzenPause + time.Second)
	require.Zero(t, c.heartbeat(h, vzen.Answer{}).wait)
}

// clockHost is a host whose clock a test sets, and that hears nothing.
type clockHost struct {
	drivers.Host
	at time.Time
}

func (h *clockHost) Now() time.Time         { return h.at }
func (h *clockHost) Ledger() drivers.Ledger { return nil }
func (h *clockHost) Valid()                 {}

// TestCodePage: a camera that writes its plates in a code page and not in UTF-8.
func TestCodePage(t *testing.T) {
	body := "{\"AlarmInfoPlate\":{\"serialno\":\"s\",\"result\":{\"PlateResult\":{\"license\":\"\xc0\xc21234\",\"plateid\":1,\"timeStamp\":{\"Timeval\":{\"sec\":1740816912}}}}}}"
	for page, want := range map[string]struct {
		plate string
		lossy bool
	}{"windows-1251": {"АВ1234", false}, "": {"1234", true}} {
		d, err := VzenPush().New(func(into any) error {
			into.(*VzenSettings).CodePage = page
			return nil
		})
		require.NoError(t, err)
		played, err := drivers.PlayRequests(t.Context(), d, []drivers.Exchange{{ContentType: "application/json", Body: []byte(body)}})
		require.NoError(t, err)
		require.Len(t, played.Observations, 1)
		read := played.Observations[0].Data.(event.PlateRead)
		require.Equal(t, want.lossy, read.Private.Lossy)
		require.Equal(t, want.plate, strings.ReplaceAll(read.Private.Plate, "\ufffd", ""))
		require.Equal(t, len(body), read.Private.Raw.Size, "the bytes are those that came")
	}
}
