package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/config"
)

func TestInitReplacesThePackagesFile(t *testing.T) {
	t.Parallel()
	brought, err := os.ReadFile("../../deploy/package/lanepost.yaml")
	require.NoError(t, err)
	run := func(t *testing.T, there string, older bool) (dir, text string, code int) {
		dir = t.TempDir()
		path := filepath.Join(dir, "lanepost.yaml")
		require.NoError(t, os.WriteFile(path, []byte(there), 0o600))
		if older {
			require.NoError(t, os.WriteFile(path+".old", []byte("older"), 0o600))
		}
		text, code = output(t, "init", "--config", path, "--site", "medyka", "--lane", "entry-3",
			"--device", "id=rpm-1,profile=rapiscan-tsa,connect=tcp://10.0.3.21", "--no-broker")
		return dir, text, code
	}
	t.Run("as it was brought", func(t *testing.T) {
		t.Parallel()
		dir, text, code := run(t, string(brought), false)
		require.Zero(t, code, text)
		require.Contains(t, text, "named neither a lane nor a broker")
		cfg, err := config.Load(filepath.Join(dir, "lanepost.yaml"))
		require.NoError(t, err)
		require.Len(t, cfg.Devices(), 1)
		old, err := os.ReadFile(filepath.Join(dir, "lanepost.yaml.old"))
		require.NoError(t, err)
		require.Equal(t, string(brought), string(old))
	})
	for name, there := range map[string]string{
		"a broker":      "site: medyka\nlanes: []\nmqtt: {brokers: [tcp://127.0.0.1]}\nspool: {dir: /var/lib/lanepost}\n",
		"not valid":     string(brought) + "lanez: 1\n",
		"an older .old": string(brought),
		"an empty file": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, text, code := run(t, there, name == "an older .old")
			require.Equal(t, exitFailed, code, text)
			require.Contains(t, text, "is there already and stays as it is")
			now, err := os.ReadFile(filepath.Join(dir, "lanepost.yaml"))
			require.NoError(t, err)
			require.Equal(t, there, string(now))
		})
	}
}

func TestTheProgramHasItsCommands(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"record", "replay"} {
		text, code := output(t, command, "--help")
		require.Zero(t, code, text)
	}
}
