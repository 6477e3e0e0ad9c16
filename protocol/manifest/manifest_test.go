package manifest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/sidecar"
)

const document = `<?xml version="1.0" encoding="UTF-8"?>
<manifest><accession>20260314000000000000123</accession><system>P60_NOVO</system><createdate>2026-03-14T08:22:41Z</createdate><exportdate>2026-03-14T08:26:00Z</exportdate>
<xraydone>-1</xraydone><inspectdone>-1</inspectdone><inspectionsuspicious>0</inspectionsuspicious><searchdone>0</searchdone><searchfound>0</searchfound>
<attributes><attribute name="Comments"/><attribute name="Container2"></attribute><attribute name="Container1">CSQU3054383</attribute><attribute name="ANPR">AA1234BB</attribute><attribute name="NavisResp">OK</attribute></attributes>
<files><file type="XRAYJPEG">XRAY-20260314000000000000123-001--Array-0000-xray.jpg</file><file type="SNAPSHOT">XRAY-20260314000000000000123-002.jpg</file><file type="XRAY">XRAY-20260314000000000000123-003--Array-0000.img</file></files></manifest>`

func TestParse(t *testing.T) {
	s, err := Parse([]byte(document), "")
	require.NoError(t, err)
	require.Equal(t, &sidecar.Scan{
		ID: "20260314000000000000123", System: "P60_NOVO", Start: time.Date(2026, 3, 14, 8, 22, 41, 0, time.UTC), Zoned: true, Inspected: true, Clear: true,
		Raw:        "inspectdone=-1 inspectionsuspicious=0 searchdone=0 searchfound=0",
		Plates:     []sidecar.Plate{{Text: "AA1234BB"}},
		Containers: []sidecar.Container{{Position: 1, Text: "CSQU3054383"}},
		Files: []sidecar.File{
			{Name: "XRAY-20260314000000000000123-001--Array-0000-xray.jpg", Role: "preview"}, {Name: "XRAY-20260314000000000000123-002.jpg", Role: "snapshot"},
			{Name: "XRAY-20260314000000000000123-003--Array-0000.img", Role: "image"},
		},
	}, s)
	for _, yes := range []string{"-1", "1", "true"} {
		s, err := Parse([]byte(`<manifest><accession>1</accession><searchfound>`+yes+`</searchfound></manifest>`), "")
		require.NoError(t, err)
		require.True(t, s.Suspicious)
		require.False(t, s.Inspected, "nobody has said that")
	}
	for body, clear := range map[string]bool{
		"<inspectdone>-1</inspectdone><inspectionsuspicious>0</inspectionsuspicious>":                                                            true,
		"<inspectdone>-1</inspectdone><inspectionsuspicious>False</inspectionsuspicious><searchdone>-1</searchdone><searchfound>0</searchfound>": true,
		"<inspectdone>-1</inspectdone>":                                                                            false, // he does not say what he saw
		"<inspectdone>0</inspectdone><inspectionsuspicious>0</inspectionsuspicious>":                               false,
		"<inspectdone>-1</inspectdone><inspectionsuspicious>-1</inspectionsuspicious>":                             false,
		"<inspectdone>-1</inspectdone><inspectionsuspicious>0</inspectionsuspicious><searchfound>-1</searchfound>": false,
		"<inspectdone>-1</inspectdone><inspectionsuspicious>0</inspectionsuspicious><searchdone>-1</searchdone>":   false,
	} {
		s, err := Parse([]byte(`<manifest><accession>1</accession>`+body+`</manifest>`), "")
		require.NoError(t, err)
		require.Equal(t, clear, s.Clear, body)
	}
	for _, bad := range []string{"", "<manifest/>", "<a/>", "<manifest><accession>1"} {
		_, err := Parse([]byte(bad), "")
		require.Error(t, err, bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(document))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b, "")
		if err != nil {
			return
		}
		again, err := Parse(Append(nil, s), "")
		if err != nil || again.ID != s.ID || again.Suspicious != s.Suspicious || again.Inspected != s.Inspected {
			t.Fatalf("what is written can't be read: %v", err)
		}
	})
}
