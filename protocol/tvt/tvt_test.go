package tvt

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const message = `<?xml version="1.0" encoding="UTF-8"?>
<!-- sent by a camera -->
<config version="1.7" xmlns="http://www.ipc.com/ver10">
 <smartType type="openAlramObj">VEHICE</smartType><currentTime type="tint64">1740816912654000</currentTime>
 <listInfo type="list" count="2">
  <item><targetImageData><targetBase64Data type="string"><![CDATA[/9j/AQI=]]></targetBase64Data></targetImageData></item>
  <item><plateNumber type="string"><![CDATA[AA1234BB]]></plateNumber><vehicleListType type="string">whiteList</vehicleListType>
   <targetImageData><targetBase64Data type="string"><![CDATA[/9j/AwQ=]]></targetBase64Data></targetImageData></item>
 </listInfo>
 <sourceDataInfo><sourceBase64Data type="string"><![CDATA[NO_PICTURE]]></sourceBase64Data></sourceDataInfo>
</config>`

func TestParse(t *testing.T) {
	m, err := Parse([]byte(message))
	require.NoError(t, err)
	require.Equal(t, Message{
		Smart: "VEHICE", Time: "1740816912654000", Vehicle: true, Overview: []byte{0xff, 0xd8, 0xff, 1, 2}, Unread: 1,
		Reads: []Read{{"AA1234BB", "whiteList", []byte{0xff, 0xd8, 0xff, 3, 4}}},
	}, m)
	require.Equal(t, time.Date(2025, 3, 1, 8, 15, 12, 654e6, time.UTC), m.At())

	m, err = Parse([]byte(`<config><messageType>alarmData</messageType><smartType>vehicle</smartType><licensePlateListInfo><item><plateNumber>X1</plateNumber></item><item><plateNumber>X2</plateNumber></item></licensePlateListInfo></config>`))
	require.NoError(t, err)
	require.Equal(t, []Read{{Plate: "X1"}, {Plate: "X2"}}, m.Reads)
	require.True(t, m.At().IsZero())

	for _, alive := range []string{"", " \r\n", `<DeviceInfo><DeviceNo.>7</DeviceNo.></DeviceInfo>`, `<config><smartType>PEA</smartType></config>`} {
		m, err := Parse([]byte(alive))
		require.NoError(t, err, alive)
		require.False(t, m.Vehicle)
	}
	for _, bad := range []string{"<a/>", "{}", "x", "<config>"} {
		_, err := Parse([]byte(bad))
		require.Error(t, err, bad)
	}
}

// TestCapture reads somebody else's capture, where it is at hand.
func TestCapture(t *testing.T) {
	b, err := os.ReadFile("../../../shared/data/plates/tvt-lpr.xml")
	if err != nil {
		t.Skip("the captures are not here: ", err)
	}
	m, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, Message{Smart: "VEHICE", Time: "1732045234584193", Vehicle: true, Reads: []Read{{"ABC1234", "whiteList", nil}}, Unread: 3}, m)
	require.Equal(t, time.Date(2024, 11, 19, 19, 40, 34, 584193000, time.UTC), m.At())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(message))
	f.Add([]byte(`<DeviceInfo><DeviceNo.>7</DeviceNo.></DeviceInfo>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil || !m.Vehicle {
			return
		}
		m.At()
		again, err := Parse(Append(nil, m))
		if err != nil || len(again.Reads) != len(m.Reads) {
			t.Fatalf("what is written can't be read: %v", err)
		}
		for i := range m.Reads {
			if again.Reads[i].Plate != m.Reads[i].Plate {
				t.Fatalf("%q became %q", m.Reads[i].Plate, again.Reads[i].Plate)
			}
		}
	})
}
