package profiles

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is in the program is what is in the folder.
func TestPackedProfilesAreThoseOfTheFolder(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	require.NoError(t, err)
	there, err := embedded.ReadDir(packed)
	require.NoError(t, err)
	require.Len(t, there, len(files), "run: make generate")
	for _, name := range files {
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		got, err := unpack(name)
		require.NoError(t, err, "run: make generate")
		require.Equal(t, string(want), string(got), "%s has changed: run make generate", name)
	}
}
