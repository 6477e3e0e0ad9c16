package axis

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is typed by hand in the form of the vendor's text.
const sample = `{"packetCounter":"118903","capture_timestamp":"1740816912654","frame_timestamp":"0","capture_ts":"1740816912654000000",
 "datetime":"20250301 101512654","plateText":"\u0041\u00411234BB","plateUnicode":"AA1234BB","plateUTF8":"AA1234BB","plateASCII":"AA1234BB",
 "plateCountry":"UKR","plateRegion":"","plateConfidence":"0.719034","carState":"lost","roiID":"2","carID":"1144696",
 "geotag":{"lat":50.4,"lon":30.4},"imageType":"plate","carMoveDirection":"in","plateCoordinates":[1185,532,140,28],
 "imagesURI":["/local/fflprapp/tools.cgi?action=getImage&name=45/a.jpg"],
 "camera_info":{"SerialNumber":"ACCC8E000000","ProdShortName":"AXIS P1465-LE-3","MACAddress":"AC:CC:8E:00:00:00"},"sensorProviderID":"lane2"}`

func sampleEvent() Event {
	return Event{
		State: Lost, Packet: "118903", CarID: "1144696", Plate: "AA1234BB", ASCII: "AA1234BB", Country: "UKR", Confidence: "0.719034",
		Direction: "in", Captured: "1740816912654", ROI: "2", Sensor: "lane2", Serial: "ACCC8E000000", Product: "AXIS P1465-LE-3", MAC: "AC:CC:8E:00:00:00",
		Coordinates: []int{1185, 532, 140, 28}, ImageURIs: []string{"/local/fflprapp/tools.cgi?action=getImage&name=45/a.jpg"},
	}
}

func TestParse(t *testing.T) {
	e, err := Parse([]byte(sample))
	require.NoError(t, err)
	require.Equal(t, sampleEvent(), e)
	require.Equal(t, "2025-03-01T08:15:12.654Z", e.Time().Format("2006-01-02T15:04:05.000Z07:00"))
	// Numbers in place of strings, an update under its short name, pictures in both forms.
	picture := base64.StdEncoding.EncodeToString([]byte("\xff\xd8\xffpicture\xff\xd9"))
	e, err = Parse([]byte(`{"packetCounter":7,"carID":3,"carState":"update","plateASCII":"AB 12","plateConfidence":0.5,"ImageArray":["` + picture + `",{"ImageType":"plate","BinaryImage":"` + picture + `"},"no picture",5]}`))
	require.NoError(t, err)
	require.Equal(t, "7", e.Packet)
	require.Equal(t, "3", e.CarID)
	require.Equal(t, Updated, e.State)
	require.Equal(t, "AB 12", e.Plate)
	require.Equal(t, "0.5", e.Confidence)
	require.Len(t, e.Images, 2)
	require.Equal(t, 2, e.Unread)
	require.True(t, e.Time().IsZero())
	for text, want := range map[string]string{
		"{'heartbeat': 'x'}":           "no read",
		"{'plateUTF8': 'x'}":           "JSON",
		`{"packetCounter":"1"}`:        "no read",
		"{}":                           "no read",
		"":                             "no read",
		strings.Repeat("[", 100) + "1": "inside each other",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

// Documents come cut anywhere, and together.
func TestSplitter(t *testing.T) {
	tricky := `{"a":"}{\"","b":[{"c":"\\"}]}`
	stream := sample + tricky + "\r\n " + sample
	for cut := range len(stream) {
		var s Splitter
		var got []string
		for _, piece := range []string{stream[:cut], stream[cut:]} {
			_, _ = s.Write([]byte(piece))
			for {
				d, err := s.Next()
				require.NoError(t, err)
				if d == nil {
					break
				}
				got = append(got, string(d))
			}
		}
		require.Equal(t, []string{sample, tricky, sample}, got, "cut at %d", cut)
		require.Zero(t, s.Pending())
	}
	var s Splitter
	_, _ = s.Write([]byte("{}x{}"))
	d, err := s.Next()
	require.NoError(t, err)
	require.Equal(t, "{}", string(d))
	for range 2 {
		_, err = s.Next()
		require.ErrorIs(t, err, ErrNotJSON)
	}
	s = Splitter{}
	_, _ = s.Write(append([]byte(`{"`), bytes.Repeat([]byte("x"), MaxDocument+1)...))
	_, err = s.Next()
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestRoundTrip(t *testing.T) {
	want := sampleEvent()
	want.Plate, want.ASCII = "ČÖ-\"1\\2", "CO12"
	want.Images = [][]byte{[]byte("\xff\xd8\xffa"), []byte("\x89PNG\r\nb")}
	got, err := Parse(Append(nil, want, true))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// A vehicle whose plate was not read is no sign of life.
func TestUnreadIsAnEvent(t *testing.T) {
	for _, text := range []string{
		`{"packetCounter":"1","capture_timestamp":"1740816912654","plateUTF8":""}`,
		`{"plateUTF8":""}`, `{"plateASCII":" "}`, `{"capture_timestamp":1740816912654}`, `{"carID":"3"}`, `{"carState":"lost"}`,
	} {
		e, err := Parse([]byte(text))
		require.NoError(t, err, text)
		require.Empty(t, e.Plate)
	}
}

// Of the bytes that came none is changed but the pictures.
func TestWithoutImages(t *testing.T) {
	for text, want := range map[string]string{
		`{ "a":[1, 2], "ImageArray" : ["x",{"y":"]"}] ,"z":1.50}`: `{ "a":[1, 2], "ImageArray" : [] ,"z":1.50}`,
		`{"imagearray":[1],"ImageArray":"q"}`:                     `{"imagearray":[],"ImageArray":[]}`,
		`{"deep":{"ImageArray":[1]}}`:                             `{"deep":{"ImageArray":[1]}}`,
		sample:                                                    sample,
		`[1]`:                                                     `[1]`,
		`{"ImageArray":[`:                                         `{"ImageArray":[`,
		``:                                                        ``,
	} {
		require.Equal(t, want, string(WithoutImages([]byte(text))))
	}
}

func TestTooDeep(t *testing.T) {
	var s Splitter
	_, _ = s.Write([]byte(strings.Repeat(`{"a":`, maxDepth+2)))
	_, err := s.Next()
	require.ErrorIs(t, err, ErrTooDeep)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample), uint8(9))
	f.Add([]byte(`{"carState":"new","ImageArray":[{"a":{}}]}{}`), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		if e, err := Parse(b); err == nil {
			if again, err := Parse(Append(nil, e, true)); err != nil || again.Plate != strings.ToValidUTF8(again.Plate, "") {
				t.Fatal(err)
			}
		}
		if n := len(WithoutImages(b)); n > len(b)+1 {
			t.Fatal("bytes were added")
		}
		var s Splitter
		k := min(int(cut), len(b))
		total := 0
		for _, piece := range [][]byte{b[:k], b[k:]} {
			_, _ = s.Write(piece)
			for {
				d, err := s.Next()
				if err != nil || d == nil {
					break
				}
				total += len(d)
			}
		}
		if total > len(b) {
			t.Fatal("more documents than bytes")
		}
	})
}
