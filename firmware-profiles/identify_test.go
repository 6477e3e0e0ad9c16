package profiles_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

// What stands under identify is checked, and each mistake is told.
func TestIdentifyIsChecked(t *testing.T) {
	t.Parallel()
	p, err := profiles.Parse("p.yaml", []byte(head))
	require.NoError(t, err)
	require.Equal(t, profiles.ProofNone, p.Identify.Proof, "who says nothing proves nothing")

	p, err = profiles.Parse("p.yaml", []byte(head+`identify:
  proof: grammar
  records: 4
  pattern: 'NB1,'
  like: rapiscan-tsa
  lines: [19200 8O1]
  variants:
    - {settings: {nsigma: 4.0}, proof: form}
    - {settings: {hold_in: 5}}
  note: look at its label
  ask: {path: /info, answer: 'realm="Gate'}
`))
	require.NoError(t, err)
	require.Equal(t, 4, p.Identify.Records)
	require.True(t, p.Identify.Pattern.MatchString("x NB1,"))
	require.Equal(t, []string{"19200 8O1"}, p.Identify.Lines)
	require.Len(t, p.Identify.Variants, 2)
	require.Equal(t, "form", p.Identify.Variants[0].Proof)
	require.Equal(t, "grammar", p.Identify.Variants[1].Proof)
	require.Equal(t, "{nsigma: 4.0}", p.Identify.Variants[0].Text)
	var s struct {
		NSigma float64 `yaml:"nsigma"`
	}
	require.NoError(t, p.DecodeVariant(p.Identify.Variants[0], &s))
	require.InDelta(t, 4.0, s.NSigma, 0)

	for text, want := range map[string]string{
		"{records: 3}":                                   "proof",
		"{proof: sure}":                                  `proof is "sure"`,
		"{proof: check, records: 0}":                     "records",
		"{proof: check, pattern: '('}":                   "missing closing",
		"{proof: check, pattern: ''}":                    "0 bytes",
		"{proof: check, lines: [fast]}":                  "no settings of a serial line",
		"{proof: check, like: Über}":                     "profile name",
		"{proof: check, variants: [{proof: no}]}":        "proof is",
		"{proof: check, variants: [{settings: 4}]}":      "set of settings",
		"{proof: check, ask: {path: info, answer: x}}":   "begin with /",
		"{proof: check, ask: {path: /info}}":             "answer",
		"{proof: check, sure: true}":                     "unknown key",
		"{proof: check, ask: {path: /info, answer: []}}": "answer",
	} {
		_, err := profiles.Parse("p.yaml", []byte(head+"identify: "+text+"\n"))
		require.ErrorContains(t, err, want, text)
	}
}
