package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lanepost.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "good.key"), []byte(strings.Repeat("ab", 32)+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "short.key"), []byte("abcdef\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "words.key"), []byte(strings.Repeat("secret", 20)+"\n"), 0o600))
	c, err := Parse(path, []byte(oneDevice+"plates:\n  pseudonym_key_file: good.key\n"))
	require.NoError(t, err)
	key, err := c.Plates.PseudonymKey()
	require.NoError(t, err)
	require.Len(t, key, 32)
	c, err = Parse(path, []byte(oneDevice))
	require.NoError(t, err)
	key, err = c.Plates.PseudonymKey()
	require.NoError(t, err)
	require.Nil(t, key)
	for text, want := range map[string]string{
		"pseudonym_key_file: short.key": "openssl rand -hex 32 makes one",
		"pseudonym_key_file: words.key": "does not hold a key",
		"pseudonym_key_file: none.key":  "none.key",
		"pseudonym_key: abcdef":         "keys don't belong in this file",
	} {
		_, err := Parse(path, []byte(oneDevice+"plates:\n  "+text+"\n"))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secretsecret")
	}
}
