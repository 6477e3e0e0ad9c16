package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// A profile file that is dropped in, changed and broken is taken up by a reload, and
// only the devices that it is for are restarted.
func TestReloadTakesProfileFiles(t *testing.T) {
	t.Parallel()
	const profile = "profile: our-portal\nsummary: ours\ndriver: tsa-portal\nevidence: assumed\nsilence: 40s\n"
	sim := quietLane(t, 20)
	dir := t.TempDir()
	devices := func(profiles ...string) (text string) {
		for i, name := range profiles {
			text += deviceYAML(fmt.Sprintf("rpm-%d", i+1), name, sim.Devices()[i].Connect)
		}
		return text
	}
	path := writeConfig(t, devices("rapiscan-tsa"), "profiles: "+dir+"\n")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	p := start(t, path)
	p.waitFor("lanepost.device.online.v1", 1)
	n := 0
	reload := func() *event.AgentConfigChanged {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
		n++
		return decode[*event.AgentConfigChanged](t, p.waitFor("lanepost.agent.config-changed.v1", n))
	}
	put := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "our-portal.yaml"), []byte(text), 0o600))
	}

	put(profile)
	with := strings.Replace(string(whole), devices("rapiscan-tsa"), devices("rapiscan-tsa", "our-portal"), 1)
	require.NoError(t, os.WriteFile(path, []byte(with), 0o600))
	changed := reload()
	require.Equal(t, []string{"entry-1/rpm-2"}, changed.Added)
	require.Empty(t, changed.Changed)
	p.waitFor("lanepost.device.online.v1", 2)

	put(strings.Replace(profile, "40s", "50s", 1))
	changed = reload()
	require.Equal(t, []string{"entry-1/rpm-2"}, changed.Changed)
	p.waitFor("lanepost.device.online.v1", 3)

	put(strings.Replace(profile, "silence", "silense", 1))
	changed = reload()
	require.False(t, changed.Applied)
	require.Contains(t, strings.Join(changed.Problems, "\n"), `unknown key "silense"`)

	put(profile)
	require.True(t, reload().Applied)
	p.waitFor("lanepost.device.online.v1", 4)
	for _, e := range p.stop() {
		disturbed := e.Type == "lanepost.device.offline.v1" || e.Type == "lanepost.device.silent.v1"
		require.False(t, disturbed && e.Source == "/test/entry-1/rpm-1", "rpm-1 was disturbed: %s", e.Type)
	}
}
