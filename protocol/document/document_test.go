package document

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	// Both forms of the same.
	for name, body := range map[string]string{
		"XML":                   `<?xml version="1.0"?><a:root xmlns:a="urn:x" version="2"><list><v>1</v><v> two &amp; x </v></list><empty/><c><![CDATA[ A<B ]]></c></a:root>`,
		"XML with junk before":  "junk\x00<root><list><v>1</v><v>two & x</v></list><empty></empty><c>A<!-- no -->&lt;B</c></root>\x00\r\n",
		"JSON":                  `{"list":{"v":[1,"two & x"]},"empty":null,"c":"A<B"}`,
		"JSON with a mark":      "\xef\xbb\xbf\r\n" + `{"list":[{"v":1,"x":true},{"v":"other"}],"empty":"","c":" A<B "}`,
		"JSON with a raw break": "{\"list\":{\"v\":[1,\"two & x\"]},\n\"empty\":null,\"c\":\"A<B\x01\n\"}",
	} {
		n, err := ParseOne([]byte(body), 1000)
		require.NoError(t, err, name)
		require.Equal(t, "1", n.At("list", "v").Text, name)
		require.Equal(t, "A<B", n.Get("c"), name)
		require.NotNil(t, n.Child("empty"), name)
		require.Empty(t, n.Get("empty"), name)
		require.Nil(t, n.Child("none").Child("deeper"), name)
		require.Nil(t, n.At("c", "none", "deeper"), name)
	}
	n, err := ParseOne([]byte(`<x:root version="2" n:a="b"><v>1</v><v>2</v></x:root>`), 1000)
	require.NoError(t, err)
	require.Equal(t, "root", n.Name)
	require.Equal(t, "2", n.Attr("version"))
	require.Equal(t, "b", n.Attr("a"))
	require.Empty(t, n.Child("none").Attr("a"))
	require.Equal(t, []string{"1", "2"}, Texts(n.All("v")))

	two, err := Parse([]byte(`<a/><b>`), 100)
	require.ErrorContains(t, err, "ends inside <b>")
	require.Len(t, two, 1, "what is whole is given")
	two, err = Parse([]byte(`{"a":1},{"b":2}`), 100)
	require.NoError(t, err)
	require.Len(t, two, 2)
}

func TestParseRefuses(t *testing.T) {
	for what, body := range map[string]string{
		"neither XML nor JSON":   "plate",
		"at most 100000":         strings.Repeat(" ", 100001),
		"elements inside":        strings.Repeat("<a>", MaxDepth+1),
		"JSON: more than 32":     strings.Repeat(`{"a":`, MaxDepth+2) + "1" + strings.Repeat("}", MaxDepth+2),
		"more than 8192":         "<a>" + strings.Repeat("<b/>", MaxNodes) + "</a>",
		"more than 8192 element": "<a " + strings.Repeat(`b="" `, MaxNodes) + "/>",
		"JSON: more than 8192":   `{"a":[` + strings.Repeat("1,", MaxNodes) + "1]}",
		"type definition":        `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`,
		"more than 64 documents": strings.Repeat("<a/>", MaxDocuments+1),
		"was not begun":          "<a></b></a>",
		"XML without an element": "<!-- -->",
		"unexpected end of JSON": `{"a":`,
	} {
		_, err := Parse([]byte(body), 100000)
		if what == "unexpected end of JSON" {
			require.Error(t, err)
			continue
		}
		require.ErrorContains(t, err, what)
	}
}

func TestBase64(t *testing.T) {
	require.Equal(t, []byte("any carnal pleas"), Base64("YW55IGNhcm5hbCBwbGVhcw=="))
	require.Equal(t, []byte("any carnal pleas"), Base64("YW55IGNhcm5h\r\nbCBwbGVhcw"))
	require.Equal(t, []byte("any carnal pleas"), Base64("data:image/jpeg;base64,YW55IGNhcm5hbCBwbGVhcw=="))
	for _, none := range []string{"", "=", "no base64!", "http://10.0.0.1/a.jpg", "YW55I"} {
		require.Nil(t, Base64(none), none)
	}
}

// Elide leaves every byte that is not of a picture.
func TestElide(t *testing.T) {
	picture := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xff\xd8/>?", 300)))
	require.Contains(t, picture, "/")
	for before, after := range map[string]string{
		`{"plate":"AA1234BB","img":"` + picture + `"}`:                                 `{"plate":"AA1234BB","img":""}`,
		`{"img":"` + strings.ReplaceAll(picture, "/", `\/`) + `","plate":"A"}`:         `{"img":"","plate":"A"}`,
		`<i>` + picture[:800] + "\r\n" + picture[800:] + `</i><p>A</p>`:                `<i></i><p>A</p>`,
		`{"a":"` + strings.Repeat("0", longBase64-1) + `"}`:                            `{"a":"` + strings.Repeat("0", longBase64-1) + `"}`,
		`{"img":"data:image/jpeg;base64,` + picture + `"}`:                             `{"img":"data:image/jpeg;base64,"}`,
		`{"img":"` + picture[:600] + `\n` + picture[600:] + `\r\n","b":"` + "x" + `"}`: `{"img":"","b":"x"}`,
	} {
		rest, n := Elide([]byte(before))
		require.Equal(t, after, string(rest))
		require.Equal(t, before != after, n == 1)
	}
	rest, n := Elide([]byte(picture + `","` + picture))
	require.Equal(t, `","`, string(rest))
	require.Equal(t, 2, n)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<a b="c"><d>e</d></a>`))
	f.Add([]byte(`{"a":[{"b":1},null,true,"x"]}{"c":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Parse(b, 1<<16)
		if err == nil && len(list) == 0 {
			t.Fatal("neither a document nor an error")
		}
		if len(list) > MaxDocuments+1 {
			t.Fatal("too many documents")
		}
		if rest, n := Elide(b); n == 0 && len(rest) != len(b) || len(rest) > len(b) {
			t.Fatal("Elide took what is no picture")
		}
	})
}

// Where a value stands in the body, so that a person can be shown it.
func TestOffsets(t *testing.T) {
	xml := "\xef\xbb\xbf <a><b x=\"1\"/> <c>2</c></a><d/>"
	list, err := Parse([]byte(xml), len(xml))
	require.NoError(t, err)
	require.Equal(t, "<a>", xml[list[0].Offset:][:3])
	require.Equal(t, "<b ", xml[list[0].Child("b").Offset:][:3])
	require.Equal(t, "<c>", xml[list[0].Child("c").Offset:][:3])
	require.Equal(t, "<d/", xml[list[1].Offset:][:3])
	json := `noise {"a": 1, "b": {"c": [2, 3]}}  {"d": null}`
	list, err = Parse([]byte(json), len(json))
	require.NoError(t, err)
	require.Equal(t, `{"a`, json[list[0].Offset:][:3])
	require.Equal(t, `: 1`, json[list[0].Child("a").Offset:][:3])
	require.Equal(t, `, 3`, json[list[0].Child("b").All("c")[1].Offset:][:3])
	require.Equal(t, `: null`, json[list[1].Child("d").Offset:][:6])
}
