package vzen

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/plate"
)

// alarm is typed by hand in the form of the vendor's text.
const alarm = `{"AlarmInfoPlate":{"channel":0,"deviceName":"Lane 2","ipaddr":"192.0.2.30","serialno":"a1b2c3d4-e5f60718","user_data":"",
 "result":{"PlateResult":{"license":"AA1234BB","confidence":97,"colorType":1,"type":26,"direction":4,
 "location":{"RECT":{"left":412,"top":300,"right":520,"bottom":330}},
 "timeStamp":{"Timeval":{"sec":1740816912,"usec":687772,"decyear":2025,"decmon":3,"decday":1,"dechour":10,"decmin":15,"decsec":12}},
 "triggerType":1,"plateid":8050,"isoffline":1,"is_fake_plate":0,"plates":[],
 "imageFile":"/9j/2wA=","imageFileLen":5,"imageFragmentFile":"no picture!","gioouts":[]}}}}`

func TestParse(t *testing.T) {
	m, err := Parse([]byte(alarm), nil)
	require.NoError(t, err)
	require.Equal(t, Message{
		Kind: Plate, DeviceName: "Lane 2", Address: "192.0.2.30", SerialNo: "a1b2c3d4-e5f60718", PlateID: "8050",
		Plates: []string{"AA1234BB"}, Confidence: "97", ColorType: "1", Type: "26", Direction: "4", Trigger: "1", Offline: true,
		Seconds: "1740816912", Sub: "687772", Calendar: time.Date(2025, 3, 1, 10, 15, 12, 0, time.UTC),
		Image: []byte("\xff\xd8\xff\xdb\x00"), Unread: 1,
	}, m)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 687772000, time.UTC), m.Time())
	kyiv, err := time.LoadLocation("Europe/Kyiv")
	require.NoError(t, err)
	require.True(t, m.LocalTime(kyiv).Equal(m.Time()))
	m.Sub = "687"
	require.Equal(t, 687*time.Millisecond, time.Duration(m.Time().Nanosecond()), "what is below 1000 is milliseconds")

	// Over MQTT the plate is base64, and two of them are joined.
	m, err = Parse([]byte(`{"payload":{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"QUExMjM0QkJ8QUMzMTVURA==","plateid":"7"}}}},"sn":"x1"}`), utf8Text)
	require.NoError(t, err)
	require.Equal(t, []string{"AA1234BB", "AC315TD"}, m.Plates)
	require.Equal(t, "x1", m.SerialNo)

	// A vehicle without a plate is one, and more plates of a list are not lost.
	m, err = Parse([]byte(`{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"_无_","type":31,"plates":[{"license":"_无_"}]}}}}`), nil)
	require.NoError(t, err)
	require.Equal(t, Plate, m.Kind)
	require.Empty(t, m.Plates)
	m, err = Parse([]byte(`{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"A1","plates":[{"license":"A1"},{"license":"B2"},"C3"]}}}}`), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"A1", "B2", "C3"}, m.Plates)
	require.True(t, m.Time().IsZero())
	require.True(t, m.LocalTime(kyiv).IsZero())
}

func TestOtherKinds(t *testing.T) {
	for body, want := range map[string]Kind{
		`{"AlarmGioIn":{"serialno":"s","result":{"TriggerResult":{"source":0,"value":1}}}}`: Input,
		`{"SerialData":{"serialChannel":0,"data":"AAE=","dataLen":2}}`:                      Serial,
		`{"TriggerImage":{"imageFile":"AAE="}}`:                                             Picture,
		`{"something":1}`:                                                                   Other,
	} {
		m, err := Parse([]byte(body), nil)
		require.NoError(t, err)
		require.Equal(t, want, m.Kind, body)
	}
	_, err := Parse([]byte(`{"AlarmInfoPlate":{}}`), nil)
	require.ErrorContains(t, err, "without a result")
	_, err = Parse([]byte("license=1"), nil)
	require.ErrorContains(t, err, "neither")
	// What holds a login is a heartbeat in whatever form, and no more is said of it.
	for _, body := range []string{
		"--b\r\nContent-Disposition: form-data; name=\"pass_wd\"\r\n\r\nadmin1\r\n--b--",
		"device_name=x&user_name=admin&pass_wd=admin1", `{"user_name":"admin","pass_wd":"admin1"}`, `{"pass_wd":"admin1"`,
	} {
		_, err := Parse([]byte(body), nil)
		require.ErrorIs(t, err, ErrHeartbeat)
		require.NotContains(t, err.Error(), "admin1")
		require.True(t, Secret([]byte(body)))
	}
	require.False(t, Secret([]byte(alarm)))
}

// No answer opens a barrier or moves anything else.
func TestAnswer(t *testing.T) {
	require.JSONEq(t, `{"Response_AlarmInfoPlate":{"info":"no","plateid":8050}}`, string(Answer{PlateID: "8050"}.Append(nil)))
	require.JSONEq(t, `{"Response_AlarmInfoPlate":{"info":"no","plateid":8050,"ContinuePushOffline":{"plateid":8050,"continue":1}}}`,
		string(Answer{PlateID: "8050", More: true}.Append(nil)))
	require.JSONEq(t, `{"Response_AlarmInfoPlate":{"info":"no","plateid":8050},"ContinuePushOffline":{"plateid":8050,"continue":1}}`,
		string(Answer{PlateID: "8050", More: true, Beside: true}.Append(nil)))
	for _, id := range []string{"", "x", `1,"info":"ok"`, "-1", "1e3"} {
		require.JSONEq(t, `{"Response_AlarmInfoPlate":{"info":"no"}}`, string(Answer{PlateID: id, More: true}.Append(nil)), id)
	}
}

// utf8Text is how a receiver without a code page reads bytes.
func utf8Text(b []byte) (string, bool) {
	return strings.ToValidUTF8(string(b), "\ufffd"), !utf8.Valid(b)
}

// TestBase64: over MQTT a plate is base64, and what only looks like it is none.
func TestBase64(t *testing.T) {
	gbk := func(b []byte) (string, bool) {
		text, lossy, err := plate.Decode(b, "gbk")
		require.NoError(t, err)
		return text, lossy
	}
	for license, want := range map[string]struct {
		plates []string
		lossy  bool
	}{
		"QUExMjM0QkI=": {[]string{"AA1234BB"}, false}, "y9VBOEhLNTI=": {[]string{"苏A8HK52"}, false}, "X87eXw==": {nil, false},
		"AA1234BB": {[]string{"AA1234BB"}, false}, "X+aXoF8=": {nil, false}, "CE5678BB": {[]string{"CE5678BB"}, false},
	} {
		m, err := Parse([]byte(`{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"`+license+`"}}}}`), gbk)
		require.NoError(t, err)
		require.Equal(t, want.plates, m.Plates, license)
		require.Equal(t, want.lossy, m.Lossy)
	}
	m, err := Parse([]byte(`{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"y9VBOEhLNTI="}}}}`), utf8Text)
	require.NoError(t, err)
	require.True(t, m.Lossy, "without the code page it is not all there, and said so")
	require.Contains(t, m.Plates[0], "A8HK52")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(alarm), false)
	f.Add([]byte(`{"AlarmInfoPlate":{"result":{"PlateResult":{"license":"QUE=","timeStamp":{"sec":-1}}}}}`), true)
	f.Add([]byte(`{"AlarmGioIn":{}}`), false)
	f.Fuzz(func(t *testing.T, b []byte, mqtt bool) {
		var decoder func([]byte) (string, bool)
		if mqtt {
			decoder = utf8Text
		}
		m, err := Parse(b, decoder)
		_, _ = m.Time(), m.LocalTime(time.UTC)
		if err != nil || m.Kind != Plate {
			return
		}
		again, err := Parse(Append(nil, m, mqtt), decoder)
		if err != nil || again.Kind != Plate || len(again.Plates) != len(m.Plates) {
			t.Fatalf("what is written can't be read: %v, %q and %q", err, m.Plates, again.Plates)
		}
	})
}
