package nedap

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTemplate(t *testing.T) {
	plain, err := ParseTemplate("%LP%%CR%%LF%")
	require.NoError(t, err)
	require.Equal(t, "\r\n", plain.End())
	require.Equal(t, "AB123CD\r\n", plain.Write(map[string]string{"LP": "AB123CD"}))
	values, err := plain.Read("AB123CD\r\n")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"LP": "AB123CD"}, values)

	long, err := ParseTemplate("\x02%LP%;%STATE_ALPHA_3%;%CONF%%;50%\x03")
	require.NoError(t, err)
	require.Equal(t, "%;50%\x03", long.End())
	text := long.Write(map[string]string{"LP": "AB123CD", "CONF": "92", "OTHER": "x"})
	require.Equal(t, "\x02AB123CD;;92%;50%\x03", text)
	values, err = long.Read(text)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"LP": "AB123CD", "STATE_ALPHA_3": "", "CONF": "92"}, values)

	bytes, err := plain.Read("\xc0\xc21234\r\n")
	require.NoError(t, err)
	require.Equal(t, "\xc0\xc21234", bytes["LP"], "the device's bytes, whatever they mean")

	for text, want := range map[string]string{
		"AB123CD":                      "the text does not fit the template",
		"":                             "the text does not fit the template",
		strings.Repeat("x", MaxText+1): "text of 4097 bytes: want 4096 at most",
	} {
		_, err := plain.Read(text)
		require.EqualError(t, err, want)
	}
	_, err = Template{}.Read("x")
	require.EqualError(t, err, "text: no template to read it by")
	require.Empty(t, Template{}.End())

	for template, want := range map[string]string{
		"":                                 "template: it has no placeholder",
		"%CR%%LF%":                         "template: it has no placeholder",
		"100%":                             "template: it has no placeholder",
		"%LP%%CONF%":                       "template: nothing stands between %LP% and %CONF%",
		"%LP%;%LP%":                        "template: %LP% comes twice",
		strings.Repeat("x", MaxTemplate+1): "template: it has 4097 bytes: want 4096 at most",
	} {
		_, err := ParseTemplate(template)
		require.EqualError(t, err, want)
	}
}

func TestTemplateRoundTrip(t *testing.T) {
	template, err := ParseTemplate("%LP%|%CONF%|%DIRECTION%%CR%%LF%")
	require.NoError(t, err)
	value := rapid.StringMatching(`[^|\r\n]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{"LP": value.Draw(t, "lp"), "CONF": value.Draw(t, "conf"), "DIRECTION": value.Draw(t, "direction")}
		got, err := template.Read(template.Write(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("%LP%%CR%%LF%", "AB123CD\r\n")
	f.Add("\x02%LP%;%CONF%%;50%\x03", "\x02AB;;\x03")
	f.Fuzz(func(t *testing.T, template, text string) {
		x, err := ParseTemplate(template)
		if err != nil {
			return
		}
		values, err := x.Read(text)
		if err != nil {
			return
		}
		require.Equal(t, text, x.Write(values))
	})
}
