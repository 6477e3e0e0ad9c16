package dahua

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// snap is a part of snapManager in the form of the API text, with either style of keys.
const snap = "Events[0].EventBaseInfo.Code=TrafficJunction\r\nEvents[0].EventBaseInfo.Action=Pulse\r\nEvents[0].EventBaseInfo.Index=0\r\n" +
	"Events[0].TrafficCar.PlateNumber=AA1234BB\r\nEvents[0].TrafficCar.PlateColor=White\r\nEvents[0].TrafficCar.Lane=1\r\n" +
	"Events[0].TrafficCar.MachineName=a=b\r\nEvents[0].TrafficCar.DrivingDirection[0]=Leave\r\nEvents[0].JunctionDirection=Obverse\r\n" +
	"Events[0].VehicleDirection=Head\r\nEvents[0].Object.Confidence=204\r\nEvents[0].CommInfo.Country=UKR\r\n" +
	"Events[0].GroupID=7\r\nEvents[0].CountInGroup=3\r\nEvents[0].IndexInGroup=1\r\nEvents[0].EventID=10\r\nEvents[0].UTC=1706625295\r\nEvents[0].UTCMS=125\r\n"

func TestParseEvents(t *testing.T) {
	want := Event{Code: "TrafficJunction", Action: "Pulse", Passage: &Passage{
		Plate: "AA1234BB", Confidence: "204", Country: "UKR", Driving: "Leave", PlateColor: "White", Lane: "1", Camera: "a=b",
		EventID: "10", GroupID: "7", CountInGroup: "3", IndexInGroup: "1", UTC: "1706625295", Milliseconds: "125",
	}}
	for name, body := range map[string]string{
		"snapManager":    snap,
		"the other keys": strings.ReplaceAll(strings.ReplaceAll(snap, "Events[0]", "ReturnEvents[0]"), "EventBaseInfo.", ""),
		"line feeds":     strings.ReplaceAll(snap, "\r\n", "\n"),
		"eventManager": `Code=TrafficJunction;action=Pulse;index=0;data={
 "TrafficCar": {"PlateNumber":"AA1234BB","PlateColor":"White","Lane":1,"MachineName":"a=b","DrivingDirection":["Leave","x;data=y"]},
 "VehicleDirection":"Head","Object":{"Confidence":204},"CommInfo":{"Country":"UKR"},"GroupID":7,"CountInGroup":3,"IndexInGroup":1,"EventID":10,"UTC":1706625295,"UTCMS":125
}`,
	} {
		events, err := ParseEvents([]byte(body))
		require.NoError(t, err, name)
		require.Equal(t, []Event{want}, events, name)
	}

	// UTC is the wall's time; RealUTC, where it is told, is not. The figures are those
	// of a capture at UTC+7.
	bangkok := time.FixedZone("", 7*3600)
	at, zoned := want.Passage.Time(bangkok)
	require.False(t, zoned)
	require.Equal(t, time.UnixMilli(1706600095125).UTC(), at.UTC())
	want.Passage.RealUTC = "1706600095"
	at, zoned = want.Passage.Time(time.UTC)
	require.True(t, zoned)
	require.Equal(t, time.UnixMilli(1706600095125).UTC(), at)
	want.Passage.RealUTC, want.Passage.UTC = "0", "12"
	at, _ = want.Passage.Time(time.UTC)
	require.True(t, at.IsZero())

	two, err := ParseEvents([]byte("Events[0].Code=VideoMotion\nEvents[1].Code=TrafficGate\nEvents[1].TrafficCar.PlateNumber=X=1\n"))
	require.NoError(t, err)
	require.Len(t, two, 2)
	require.Nil(t, two[0].Passage)
	require.Equal(t, "X=1", two[1].Passage.Plate)

	_, err = ParseEvents([]byte("Heartbeat\r\n\r\n"))
	require.ErrorIs(t, err, ErrHeartbeat)
	for body, want := range map[string]string{
		"Error: no":                         "neither a heartbeat",
		"Code=A;data={":                     "data of a A",
		strings.Repeat("a=b\n", maxLines+1): "lines",
		"Events[0]." + strings.Repeat("a.", maxPath) + "b=1": "names",
		strings.Repeat(" ", maxEvent+1):                      "at most",
	} {
		_, err := ParseEvents([]byte(body))
		require.ErrorContains(t, err, want)
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add([]byte(snap))
	f.Add([]byte(`Code=TrafficGate;action=Start;index=0;data={"TrafficCar":{"DrivingDirection":["Leave"]}}`))
	f.Add([]byte("Heartbeat"))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := ParseEvents(b)
		if err == nil && len(events) == 0 {
			t.Fatal("neither an event nor an error")
		}
		for _, e := range events {
			if e.Passage != nil {
				_, _ = e.Passage.Time(time.UTC)
			}
		}
	})
}
