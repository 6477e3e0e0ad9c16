package sidecar

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func dialect() *Dialect {
	return &Dialect{
		Fields: map[string][]string{
			"id": {"head/ID", "head@id"}, "start": {"SCANTIME"}, "container": {"container_no", "attributes/attribute@name=Container1"},
			"operator_result": {"result/verdict"}, "suspicious": {"result/alarm"}, "inspected": {"result/done"}, "training": {"drill"},
			"plate": {"plate@text"},
		},
		Files: []string{"files/file", "files/extra@name"}, Times: []string{"20060102150405"}, Yes: []string{"ja"},
		Roles: map[string]string{"*.jpg": "image", "*thumbxray.jpg": "preview"},
	}
}

func TestDialect(t *testing.T) {
	d := dialect()
	require.NoError(t, d.Check())
	want := &Scan{
		ID: "77", Start: time.Date(2026, 3, 14, 8, 22, 41, 0, time.UTC), Training: true, Suspicious: true,
		Analyses: []Analysis{{Name: "operator", Result: "2"}}, Plates: []Plate{{Text: "AA1234BB"}},
		Containers: []Container{{Position: 1, Text: "CSQU3054383"}},
		Files:      []File{{Name: "A-thumbxray.jpg", Role: "preview"}, {Name: "a.JPG", Role: "image"}, {Name: "b.raw", Role: "other"}},
	}
	s, err := d.Parse([]byte(`<scan><head id="77"/><SCANTIME>20260314082241</SCANTIME><attributes><attribute name="Other">x</attribute><attribute name="Container1">CSQU3054383</attribute></attributes>`+
		`<plate text="AA1234BB"/><drill>Ja</drill><result><verdict>2</verdict><alarm>-1</alarm><done>0</done></result><files><file>A-thumbxray.jpg</file><file>a.JPG</file><extra name="b.raw"/></files></scan>`), "")
	require.NoError(t, err)
	require.Equal(t, want, s)

	d.Fields["plate"] = []string{"plate/text"}
	s, err = d.Parse([]byte(`{"head":{"ID":77},"SCANTIME":"20260314082241","container_no":"CSQU3054383","plate":{"text":"AA1234BB"},"drill":true,"result":{"verdict":2,"alarm":true,"done":false},"files":{"file":["A-thumbxray.jpg","a.JPG","b.raw"]}}`), "")
	require.NoError(t, err)
	require.Equal(t, want, s)

	_, err = d.Parse([]byte(`<scan/>`), "")
	require.ErrorContains(t, err, "no id of the scan")
	d.Root = "other"
	_, err = d.Parse([]byte(`<scan/>`), "")
	require.ErrorContains(t, err, "<other>")
	for _, bad := range []func(*Dialect){
		func(d *Dialect) { d.Fields["id"] = nil }, func(d *Dialect) { d.Fields["colour"] = []string{"x"} }, func(d *Dialect) { d.Files = []string{"/"} },
		func(d *Dialect) { d.Roles["["] = "image" }, func(d *Dialect) { d.Roles["x"] = "picture" },
	} {
		d := dialect()
		bad(d)
		require.Error(t, d.Check())
	}
}

func TestDecode(t *testing.T) {
	for sent, want := range map[string]string{"\xff\xfeA\x00\x10\x04": "AА", "\xfe\xff\x00A\x04\x10": "AА", "\xef\xbb\xbfA": "A", "А": "А"} {
		got, err := Decode([]byte(sent), "")
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	_, err := Decode([]byte("\xc0"), "")
	require.ErrorContains(t, err, "code_page")
	got, err := Decode([]byte("\xc0"), "windows-1251")
	require.NoError(t, err)
	require.Equal(t, "А", string(got))
}

func TestBare(t *testing.T) {
	for name, want := range map[string]bool{"a.jpg": true, "": false, "..": false, "../a": false, "a/b": false, `a\b`: false, "/a": false, "C:a": false, "a:stream": false, "a\x00": false, "..a": true} {
		require.Equal(t, want, Bare(name), name)
	}
}

func FuzzDialect(f *testing.F) {
	f.Add([]byte(`<scan><head id="77"/><SCANTIME>20260314082241</SCANTIME><files><file>a.jpg</file></files></scan>`))
	f.Add([]byte(`{"head":{"ID":77},"files":{"file":["a","b"]}}`))
	d := dialect()
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := d.Parse(b, "windows-1252")
		if err == nil && (s.ID == "" || len(s.Files) > MaxFiles) {
			t.Fatalf("%+v", s)
		}
	})
}

// A time that nobody can mean is none: what is told as one can be written.
func TestParseTimeYears(t *testing.T) {
	for text, ok := range map[string]bool{
		"2026-03-14T08:22:41Z": true, "2000-01-01T00:00:00+14:00": true, "2199-12-31T23:59:59-12:00": true, "1999-12-31T23:59:59Z": false,
		"0001-01-01T00:00:00Z": false, "2200-01-01T00:00:00Z": false, "9999-12-31T23:59:59-05:00": false,
	} {
		_, _, got := ParseTime(text, XMLTimes()...)
		require.Equal(t, ok, got, text)
	}
}
