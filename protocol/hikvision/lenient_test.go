package hikvision

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No plate is lost for a name that is not as the standards have texts, nor for
// another document before it.
func TestNoPlateIsLostForItsCompany(t *testing.T) {
	xml := func(channel, plate string) string {
		return "<EventNotificationAlert><channelName>" + channel + "</channelName><eventType>ANPR</eventType>" +
			"<ANPR><licensePlate>" + plate + "</licensePlate></ANPR></EventNotificationAlert>"
	}
	json := func(plate string) string { return `{"eventType":"ANPR","aNPR":{"licensePlate":"` + plate + `"}}` }
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"a channel in another code page": {`<?xml version="1.0" encoding="UTF-8"?>` + xml("\xb5\xc0", "AA1"), []string{"AA1"}},
		"a declared code page":           {`<?xml version="1.0" encoding="GB2312"?>` + xml("\xb5\xc0", "AA1"), []string{"AA1"}},
		"a plate in another code page":   {xml("Lane", "\xc0A1"), []string{"\ufffdA1"}},
		"NULs in a name":                 {xml("Lane\x00\x00", "AA1"), []string{"AA1"}},
		"a control character":            {xml("Lane\x01", "AA1"), []string{"AA1"}},
		"NULs between documents":         {xml("Lane", "AA1") + "\x00\x00" + xml("Lane", "AA2"), []string{"AA1", "AA2"}},
		"two of JSON":                    {json("AA1") + "\r\n" + json("AA2"), []string{"AA1", "AA2"}},
		"a list of JSON":                 {"[" + json("AA1") + "," + json("AA2") + "]", []string{"AA1", "AA2"}},
		"a name beside the alert":        {`{"EventNotificationAlert":` + json("AA1") + `,"version":"2.0"}`, []string{"AA1"}},
	} {
		t.Run(name, func(t *testing.T) {
			alerts, err := Parse([]byte(c.body))
			require.NoError(t, err)
			var got []string
			for _, a := range alerts {
				require.Equal(t, Plate, a.Kind)
				got = append(got, a.Read.Plate)
			}
			require.Equal(t, c.want, got)
		})
	}
}
