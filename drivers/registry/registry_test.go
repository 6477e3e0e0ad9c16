package registry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRegistry(t *testing.T) {
	names := map[string]bool{}
	for _, d := range All() {
		require.Regexp(t, `^[a-z][a-z0-9-]*$`, d.Name)
		require.False(t, names[d.Name], "%s is registered twice", d.Name)
		names[d.Name] = true
		require.NotEmpty(t, d.Summary, d.Name)
		require.NotEmpty(t, d.Schemes, d.Name)
		require.GreaterOrEqual(t, d.Silence, time.Second, d.Name)
		// The defaults alone make an instrument, but for a bus whose addresses nobody knows,
		// what reads personal data, and what is not described yet.
		i, err := d.New(func(any) error { return nil })
		if why := map[string]string{"state-bus": "signals: there are none", "lane-mrz": "allow_personal_data", "own-device": "records: there are none"}[d.Name]; why != "" {
			require.ErrorContains(t, err, why)
			continue
		}
		require.NoError(t, err, d.Name)
		require.NotNil(t, i, d.Name)
		same, ok := ByName(d.Name)
		require.True(t, ok)
		require.Equal(t, d.Summary, same.Summary)
	}
	require.True(t, names["tsa-portal"])
	_, ok := ByName("no-such-driver")
	require.False(t, ok)
}
