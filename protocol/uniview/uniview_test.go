package uniview

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var picture = append([]byte{0xff, 0xd8, 0xff}, make([]byte, 100)...)

var post = `{"Reference":"/LAPI/V1.0/System/Event/Subscription/3","TimeStamp":1740816912,"StructureInfo":{"ObjInfo":{"VehicleInfoList":[
 {"PlateAttributeInfo":{"PlateNo":"AA12` + "\x01" + `34BB"},"VehicleAttributeInfo":{"Type":1,"VehicleColor":2},"LaneInfo":{"ID":4}}]},
 "ImageInfoList":[{"CaptureTime":"20250301101512","Data":"` + base64.StdEncoding.EncodeToString(picture) + `"}]}}`

func TestParsePost(t *testing.T) {
	p, err := ParsePost([]byte(post))
	require.NoError(t, err)
	require.Equal(t, Post{
		Reference: "/LAPI/V1.0/System/Event/Subscription/3", Time: "1740816912", About: true,
		Vehicles: []Vehicle{{"AA12 34BB", "1", "2", "4"}}, Pictures: [][]byte{picture},
	}, p)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 0, time.UTC), p.At())
	require.Equal(t, 654*time.Millisecond, (&Post{Time: "1740816912654"}).At().Sub(p.At()))
	require.True(t, (&Post{Time: "20250301101512"}).At().Year() < 3000)

	p, err = ParsePost([]byte(`{"MotorVehicleListObject":{"MotorVehicleObject":[{"PlateNo":"X1"},{"PlateNo":"X2"}]}}`))
	require.NoError(t, err)
	require.Equal(t, []Vehicle{{Plate: "X1"}, {Plate: "X2"}}, p.Vehicles)
	p, err = ParsePost([]byte(`{"Reference":"x","AlarmType":"MotionDetection"}`))
	require.NoError(t, err)
	require.False(t, p.About)
	for _, bad := range []string{"", "{}", "<a/>", `{"x":1}`} {
		_, err := ParsePost([]byte(bad))
		require.Error(t, err, bad)
	}
	require.Equal(t, `{"ResponseCode":0,"ResponseURL":"/a"}`, string(AppendReply(nil, "/a")))
}

func TestSubscription(t *testing.T) {
	s := Subscription{"10.0.3.2", 8080, 60}
	require.Equal(t, `{"AddressType":0,"IPAddress":"10.0.3.2","Port":8080,"Duration":60}`, string(s.Append(nil)))
	again, err := ParseSubscription(s.Append(nil))
	require.NoError(t, err)
	require.Equal(t, s, again)
	again, err = ParseSubscription(AppendRenewal(nil, 90))
	require.NoError(t, err)
	require.Equal(t, Subscription{Duration: 90}, again)
	id, err := ParseID(AppendID(nil, 17))
	require.NoError(t, err)
	require.Equal(t, "17", id)
	for _, bad := range []string{"", "{}", `{"Response":{"Data":{"ID":"../x"}}}`} {
		_, err := ParseID([]byte(bad))
		require.Error(t, err, bad)
	}
	_, err = ParseSubscription([]byte("{}"))
	require.Error(t, err)
}

func FuzzParsePost(f *testing.F) {
	f.Add([]byte(post))
	f.Add([]byte(strings.ToUpper(post)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePost(b)
		if err != nil || !p.About {
			return
		}
		p.At()
		again, err := ParsePost(AppendPost(nil, p))
		if err != nil || len(again.Vehicles) != len(p.Vehicles) {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
