package hikvision

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/document"
)

// anpr is an alert typed by hand in the form of the guide.
const anpr = `<EventNotificationAlert version="2.0" xmlns="http://www.hikvision.com/ver20/XMLSchema">
 <ipAddress>192.0.2.10</ipAddress><portNo>80</portNo><macAddress>00:00:5e:00:53:01</macAddress>
 <channelID>1</channelID><dateTime>2025-03-01T10:15:12+02:00</dateTime><activePostCount>1</activePostCount>
 <eventType>ANPR</eventType><eventState>active</eventState><eventDescription>ANPR</eventDescription><channelName>Lane 2 & more</channelName>
 <ANPR>
  <country>12</country><licensePlate>AA1234BB</licensePlate><line>2</line><direction>forward</direction>
  <confidenceLevel>97</confidenceLevel><plateType>unknown</plateType><plateColor>white</plateColor>
  <dangmark>no</dangmark><plateCharBelieve>99,99,99,99,99,99,99,99</plateCharBelieve><vehicleType>truck</vehicleType>
  <detectType>0</detectType>
  <vehicleInfo><index>8050</index><color>white</color><vehicleLogoRecog>1036</vehicleLogoRecog><vehileSubLogoRecog>0</vehileSubLogoRecog></vehicleInfo>
  <pictureInfoList>
   <pictureInfo><fileName>licensePlatePicture.jpg</fileName><type>licensePlatePicture</type><absTime>20250301101512654</absTime><pId>2025030110151448100</pId></pictureInfo>
   <pictureInfo><fileName>detectionPicture.jpg</fileName><type>detectionPicture</type><absTime>20250301101512654</absTime><plateRect><X>691</X></plateRect><pId>2025030110151448101</pId></pictureInfo>
  </pictureInfoList>
  <originalLicensePlate>AA1234BB</originalLicensePlate><CRIndex>12</CRIndex><vehicleListName>otherList</vehicleListName>
 </ANPR>
 <UUID>20250301101514449</UUID><picNum>2</picNum><isDataRetransmission>false</isDataRetransmission>
</EventNotificationAlert>`

func TestParsePlate(t *testing.T) {
	alerts, err := Parse([]byte(anpr))
	require.NoError(t, err)
	require.Equal(t, []Alert{{
		Kind: Plate, EventType: "ANPR", EventState: "active", Description: "ANPR", Channel: "1", ChannelName: "Lane 2 & more",
		MAC: "00:00:5e:00:53:01", DateTime: "2025-03-01T10:15:12+02:00", UUID: "20250301101514449", Pictures: 2,
		Read: &Read{
			Plate: "AA1234BB", Original: "AA1234BB", Country: "12", Confidence: "97", CharacterConfidence: "99,99,99,99,99,99,99,99",
			Direction: "forward", Line: "2", PlateType: "unknown", PlateColor: "white", VehicleType: "truck", VehicleColor: "white",
			VehicleLogo: "1036", List: "otherList", DangerousGoods: "no", DetectType: "0",
			PictureInfo: []PictureInfo{
				{FileName: "licensePlatePicture.jpg", Type: "licensePlatePicture", ID: "2025030110151448100", AbsTime: "20250301101512654"},
				{FileName: "detectionPicture.jpg", Type: "detectionPicture", ID: "2025030110151448101", AbsTime: "20250301101512654"},
			},
		},
	}}, alerts)
	at, zoned, err := alerts[0].Time(time.UTC)
	require.NoError(t, err)
	require.True(t, zoned)
	require.Equal(t, "2025-03-01T10:15:12.654+02:00", at.Format("2006-01-02T15:04:05.000Z07:00"))
}

func TestTime(t *testing.T) {
	kyiv, err := time.LoadLocation("Europe/Kyiv")
	require.NoError(t, err)
	pictures := &Read{PictureInfo: []PictureInfo{{AbsTime: "20250301101512654"}}}
	for _, c := range []struct {
		dateTime, want string
		zoned          bool
	}{
		{"2025-03-01T10:15:12+02:00", "2025-03-01T08:15:12.654Z", true},
		{"2025-03-01T10:15:13+02:00", "2025-03-01T08:15:13.000Z", true}, // another second: not the time of this
		{"2025-03-01T10:15:12", "2025-03-01T08:15:12.654Z", false},
		{"2025-07-01 10:15:12", "2025-07-01T07:15:12.000Z", false}, // summer time
		{"2025-03-01T08:15:12Z", "2025-03-01T08:15:12.000Z", true},
	} {
		a := Alert{DateTime: c.dateTime, Read: pictures}
		at, zoned, err := a.Time(kyiv)
		require.NoError(t, err, c.dateTime)
		require.Equal(t, c.want, at.UTC().Format("2006-01-02T15:04:05.000Z"), c.dateTime)
		require.Equal(t, c.zoned, zoned, c.dateTime)
	}
	_, _, err = (&Alert{DateTime: "yesterday"}).Time(time.UTC)
	require.ErrorContains(t, err, `"yesterday"`)
}

// The kinds, with the traps: a sign of life has the name of a fault.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		typ, state, description string
		want                    Kind
	}{
		{"videoloss", "inactive", "videoloss alarm", Heartbeat},
		{"videoloss", "active", "videoloss alarm", VideoLoss},
		{"heartBeat", "active", "heartBeat", Heartbeat},
		{"other", "active", "Heartbeat", Heartbeat},
		{"other", "active", "something", Other},
		{"VMD", "active", "Motion alarm", Other},
		{"ANPR", "active", "ANPR", Plate},
		{"", "", "", Other},
	} {
		for _, ns := range Namespaces {
			text := fmt.Sprintf("junk <?xml version='1.0'?><EventNotificationAlert xmlns=%q version='1.0'><eventType>%s</eventType><eventState>%s</eventState><eventDescription>%s</eventDescription></EventNotificationAlert>\x00",
				ns, c.typ, c.state, c.description)
			alerts, err := Parse([]byte(text))
			require.NoError(t, err)
			require.Len(t, alerts, 1)
			require.Equal(t, c.want, alerts[0].Kind, "%+v", c)
		}
	}
}

func TestVariants(t *testing.T) {
	// A recorder, in the form of a capture of one: another element for the channel.
	alerts, err := Parse([]byte("<EventNotificationAlert version=\"1.0\">\n<channelID></channelID>\n<dynChannelID>33</dynChannelID>\n<eventType>videoloss</eventType>\n<eventState>active</eventState>\n</EventNotificationAlert>\n<EventNotificationAlert><eventType>heartBeat</eventType></EventNotificationAlert>"))
	require.NoError(t, err)
	require.Len(t, alerts, 2)
	require.Equal(t, "33", alerts[0].Channel)
	require.Equal(t, VideoLoss, alerts[0].Kind)
	require.Equal(t, Heartbeat, alerts[1].Kind)

	// JSON: every value a text, or not; ANPR spelt in two ways.
	for _, name := range []string{"ANPR", "aNPR"} {
		alerts, err = Parse([]byte(`{"EventNotificationAlert":{"eventType":"ANPR","dateTime":"2025-03-01T10:15:12+02:00","UUID":"u-1","picNum":1,"isDataRetransmission":true,"` + name + `":{"licensePlate":"unknown","originalLicensePlate":"","confidenceLevel":"0","line":3,"CRIndex":"0","country":"UKR","pictureInfoList":[{"fileName":"a.jpg","pId":"202503011015144810012345"}]}}}`))
		require.NoError(t, err)
		require.Len(t, alerts, 1)
		require.Equal(t, Plate, alerts[0].Kind)
		require.True(t, alerts[0].Retransmitted)
		require.Equal(t, 1, alerts[0].Pictures)
		require.Equal(t, "unknown", alerts[0].Read.Plate)
		require.Equal(t, "UKR", alerts[0].Read.Country)
		require.Equal(t, "3", alerts[0].Read.Line)
		require.Equal(t, []PictureInfo{{FileName: "a.jpg", ID: "202503011015144810012345"}}, alerts[0].Read.PictureInfo)
	}
	alerts, err = Parse([]byte(`{"eventType":"ANPR","ANPR":{"originalLicensePlate":"AA1234BB"}}`))
	require.NoError(t, err)
	require.Equal(t, "AA1234BB", alerts[0].Read.Plate)
	require.Equal(t, -1, alerts[0].Pictures)

	alerts, err = Parse([]byte(`<SubscribeEventResponse version="2.0"><id>1</id></SubscribeEventResponse>`))
	require.NoError(t, err)
	require.Equal(t, Subscribed, alerts[0].Kind)
}

func TestRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", document.MaxDepth+1)
	for text, want := range map[string]string{
		"":                            "neither XML nor JSON",
		"Heartbeat":                   "neither XML nor JSON",
		"<html></html>":               "<html> is no alert",
		"<EventNotificationAlert><a>": "ends inside <a>",
		"<a></b>":                     "end of <b>",
		`<!DOCTYPE x [<!ENTITY e "e">]><EventNotificationAlert>&e;</EventNotificationAlert>`: "type definition",
		deep:                               "inside each other",
		`{"a":`:                            "JSON",
		`{"a":` + strings.Repeat("[", 100): "JSON",
		"<a>" + strings.Repeat("<b/>", document.MaxNodes) + "</a>": "elements",
		strings.Repeat("<a/>", document.MaxDocuments+1):            "documents in one part",
		strings.Repeat("x", MaxDocument+1):                         "at most",
	} {
		alerts, err := Parse([]byte(text))
		require.ErrorContains(t, err, want)
		require.Empty(t, alerts)
	}
}

// The list of the poll: in no order, with numbers that no computer's number holds.
func TestPlates(t *testing.T) {
	list, err := ParsePlates([]byte(`x<?xml version="1.0"?><Plates version="2.0"><Plate><captureTime>20250301T1015120000</captureTime><plateNumber>AA1234BB</plateNumber><picName>2025030110151200001234567</picName><country>UKR</country><laneNo>2</laneNo><direction>forward</direction></Plate><Plate><plateNumber>CE5678</plateNumber><picName>998</picName></Plate></Plates>`))
	require.NoError(t, err)
	require.Equal(t, []Listed{
		{"20250301T1015120000", "AA1234BB", "2025030110151200001234567", "UKR", "2", "forward"},
		{Plate: "CE5678", PicName: "998"},
	}, list)
	list, err = ParsePlates([]byte(`<Plates/>`))
	require.NoError(t, err)
	require.Empty(t, list)
	list, err = ParsePlates([]byte(`{"Plates":{"Plate":[{"plateNumber":"AA1","picName":123456789012345678901}]}}`))
	require.NoError(t, err)
	require.Equal(t, []Listed{{Plate: "AA1", PicName: "123456789012345678901"}}, list)
	_, err = ParsePlates([]byte(`<html/>`))
	require.ErrorContains(t, err, "no list of plates")
	require.True(t, Later("2025030110151200001234568", "2025030110151200001234567"))
	require.True(t, Later("1000", "0999"))
	require.False(t, Later("0999", "999"))
	require.Equal(t, "<AfterTime><picTime>1&lt;2</picTime></AfterTime>", string(AppendAfter(nil, "1<2")))
}

func TestDeviceAndStatus(t *testing.T) {
	d, err := ParseDevice([]byte(`<DeviceInfo version="2.0"><deviceName>cam</deviceName><model>iDS-TCM203</model><serialNumber>S1</serialNumber><macAddress>00:00:5e:00:53:01</macAddress><firmwareVersion>V5.1</firmwareVersion></DeviceInfo>`))
	require.NoError(t, err)
	require.Equal(t, Device{"cam", "iDS-TCM203", "S1", "00:00:5e:00:53:01", "V5.1"}, d)
	again, err := ParseDevice(AppendDevice(nil, d))
	require.NoError(t, err)
	require.Equal(t, d, again)
	_, err = ParseDevice([]byte("<html/>"))
	require.ErrorContains(t, err, "tells nothing")
	s, ok := ParseStatus([]byte(`<ResponseStatus><statusCode>4</statusCode><statusString>Invalid Operation</statusString><subStatusCode>notSupport</subStatusCode></ResponseStatus>`))
	require.True(t, ok)
	require.Equal(t, Status{"4", "Invalid Operation", "notSupport"}, s)
	again2, ok := ParseStatus(AppendStatus(nil, "/x", s))
	require.True(t, ok)
	require.Equal(t, s, again2)
	_, ok = ParseStatus([]byte("no"))
	require.False(t, ok)
}

// What is written in every form is read alike.
func TestRoundTrip(t *testing.T) {
	alerts, err := Parse([]byte(anpr))
	require.NoError(t, err)
	want := alerts[0]
	want.Read.Plate = `А"<&>В 1234`
	want.Read.Speed = "12"
	for _, ns := range Namespaces {
		for i := range 8 {
			f := Form{Namespace: ns, LF: i&1 > 0, DynChannel: i&2 > 0, JSON: i&4 > 0}
			got, err := Parse(f.Append(nil, want))
			require.NoError(t, err, "%+v", f)
			require.Equal(t, []Alert{want}, got, "%+v", f)
		}
	}
	list := []Listed{{"20250301T1015120000", "AA1234BB", "2025030110151200001234567", "UKR", "2", "forward"}}
	got, err := ParsePlates(AppendPlates(nil, list))
	require.NoError(t, err)
	require.Equal(t, list, got)
}

// A real camera's stream holds signs of life and motion, and nothing else.
func TestCapture(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "plates", "hikvision-alertstream-camera.jsonl"))
	if err != nil {
		t.Skip("the capture is not part of the repository")
	}
	defer f.Close()
	kinds := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var part struct{ Content string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &part))
		alerts, err := Parse([]byte(part.Content))
		require.NoError(t, err)
		for _, a := range alerts {
			key := string(a.Kind)
			if a.Kind == Other {
				key = a.EventType
			}
			kinds[key]++
			_, zoned, err := a.Time(time.UTC)
			require.NoError(t, err)
			require.True(t, zoned)
		}
	}
	require.NoError(t, lines.Err())
	// Motion is VMD, and a line that something crossed.
	require.Equal(t, map[string]int{"heartbeat": 349, "VMD": 289, "linedetection": 132}, kinds)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(anpr))
	f.Add([]byte(`{"EventNotificationAlert":{"eventType":"ANPR","aNPR":{"pictureInfoList":[{"pId":1}]}}}`))
	f.Add([]byte(`<Plates><Plate><picName>1</picName></Plate></Plates>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		alerts, _ := Parse(b)
		for i := range alerts {
			if (alerts[i].Kind == Plate) != (alerts[i].Read != nil) {
				t.Fatal("a read without a plate, or the other way round")
			}
			_, _, _ = alerts[i].Time(time.UTC)
			again, err := Parse(Form{}.Append(nil, alerts[i]))
			if err != nil || len(again) != 1 {
				t.Fatalf("what is written can't be read: %v", err)
			}
		}
		_, _ = ParsePlates(b)
		_, _ = ParseDevice(b)
		_, _ = ParseStatus(b)
	})
}
