package config

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

var update = flag.Bool("update", false, "write the expected messages anew; read every one before you commit them")

// The messages are what a technician reads, so they are kept as files to be
// read: a configuration, and beside it what the agent says of it.
func TestRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/refused/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file)
			require.Error(t, err)
			got := strings.ReplaceAll(err.Error(), "testdata/refused/", "") + "\n"
			expected := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(expected, []byte(got), 0o600))
			}
			want, err := os.ReadFile(expected)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
			require.NotContains(t, got, "hunter2")
			require.NotContains(t, got, "secret@")
		})
	}
}

// smallest is the configuration of the README, word for word.
const smallest = `site: medyka
lanes:
  - id: entry-3
    devices:
      - id: rpm-1
        profile: rapiscan-tsa
        connect: tcp://10.0.3.21:1600
      - id: rpm-2
        profile: rapiscan-tsa-serial
        connect: serial:/dev/serial/by-id/usb-FTDI-0001?baud=19200&parity=odd
mqtt:
  brokers: [tls://mqtt.example:8883]
spool:
  dir: /var/lib/lanepost
`

func TestSmallest(t *testing.T) {
	c, err := Parse("lanepost.yaml", []byte(smallest))
	require.NoError(t, err)
	require.Equal(t, "medyka", c.Site)
	require.Equal(t, []string{"tls://mqtt.example:8883"}, c.MQTT.Brokers)
	require.Equal(t, "/var/lib/lanepost", c.SpoolDir)
	require.Empty(t, c.Warnings)
	d := c.Devices()
	require.Len(t, d, 2)
	require.Equal(t, "entry-3", d[0].Lane)
	require.Equal(t, "rpm-1", d[0].ID)
	require.Equal(t, "tsa-portal", d[0].Driver.Name)
	require.Equal(t, "tcp", d[0].Endpoint.Scheme())
	require.Equal(t, 12*time.Second, d[0].Silence)
	require.Contains(t, d[1].Endpoint.String(), "parity=odd")
	require.Contains(t, d[1].Endpoint.String(), "stop=1")
	for _, one := range d {
		i, err := one.New()
		require.NoError(t, err)
		require.NotNil(t, i)
	}
	require.NotEqual(t, d[0].Fingerprint, d[1].Fingerprint)
}

func TestTheREADMEShowsTheSmallest(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	require.Contains(t, string(b), smallest)
}

func TestExample(t *testing.T) {
	c, err := Load(filepath.Join("..", "..", "deploy", "lanepost.example.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, c.Devices())
	require.Empty(t, c.Warnings)
}

func TestWithoutBroker(t *testing.T) {
	c, err := Parse("c.yaml", []byte("site: a\nlanes: []\n"))
	require.NoError(t, err)
	require.Nil(t, c.MQTT)
	require.Equal(t, defaultSpoolDir, c.SpoolDir)
	require.Equal(t, Log{"info", "text"}, c.Log)
	require.Equal(t, slog.LevelInfo, c.Log.SlogLevel())
}

// one makes a configuration of one device with the given lines in it.
func one(t *testing.T, lines ...string) Device {
	t.Helper()
	text := "site: a\nlanes:\n  - id: l\n    devices:\n      - id: d\n        profile: rapiscan-tsa\n        connect: tcp://10.0.0.1\n"
	for _, l := range lines {
		text += "        " + l + "\n"
	}
	c, err := Parse("c.yaml", []byte(text))
	require.NoError(t, err)
	return c.Devices()[0]
}

func TestFingerprint(t *testing.T) {
	base := one(t)
	require.Equal(t, base.Fingerprint, one(t, "# a comment changes nothing").Fingerprint)
	require.Equal(t,
		one(t, "settings: {nsigma: 4.5, groups: [sum]}").Fingerprint,
		one(t, "settings: {groups: [sum], nsigma: 4.5}").Fingerprint, "nor does the order")
	seen := map[string]string{base.Fingerprint: "nothing"}
	for _, line := range []string{
		"silence: 30s", "settings: {nsigma: 4}", "settings: {nsigma: 4.5}", "settings: {groups: [sum]}", "settings: {neutron: false}",
	} {
		f := one(t, line).Fingerprint
		require.NotContains(t, seen, f, "%s changes nothing, like %s", line, seen[f])
		seen[f] = line
	}
}

func TestSettingsLieOverTheProfile(t *testing.T) {
	var got rpm.Settings
	d := one(t, "silence: 30s", "settings: {nsigma: 4.5}")
	require.Equal(t, 30*time.Second, d.Silence)
	require.NoError(t, d.Profile.Decode(&got))
	require.Equal(t, 5.0, got.NSigma, "the profile stays as it is")
	require.Equal(t, []string{"sum", "vertical"}, got.Groups)
}

func TestALocalProfileWinsAndABrokenOneWarns(t *testing.T) {
	dir := t.TempDir()
	profileDir := filepath.Join(dir, "profiles")
	require.NoError(t, os.Mkdir(profileDir, 0o700))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(profileDir, name), []byte(text), 0o600))
	}
	write("mine.yaml", "profile: rapiscan-tsa\nsummary: ours\ndriver: tsa-portal\nevidence: assumed\nsilence: 40s\nlink: {port: 1700}\n")
	write("broken.yaml", "profile: x\n")
	path := filepath.Join(dir, "c.yaml")
	text := "site: a\nprofiles: profiles\nlanes:\n  - id: l\n    devices:\n      - id: d\n        profile: rapiscan-tsa\n        connect: tcp://10.0.0.1\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	d := c.Devices()[0]
	require.Equal(t, "local: "+filepath.Join(profileDir, "mine.yaml"), d.Profile.Origin)
	require.Equal(t, 40*time.Second, d.Silence)
	require.Contains(t, d.Endpoint.String(), ":1700")
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0].String(), "broken.yaml")
	before := d.Fingerprint

	write("mine.yaml", "profile: rapiscan-tsa\nsummary: ours\ndriver: tsa-portal\nevidence: assumed\nsilence: 40s\nlink: {port: 1700}\nsettings: {nsigma: 6}\n")
	c, err = Load(path)
	require.NoError(t, err)
	require.NotEqual(t, before, c.Devices()[0].Fingerprint, "a changed profile file changes the device")
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2\n"), 0o600))
	path := filepath.Join(dir, "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte("site: a\nlanes: []\nmqtt:\n  brokers: [tcp://b]\n  username: lane\n  password_file: secret\n"), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	password, err := c.MQTT.ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "hunter2", password)
	require.NoError(t, os.Remove(secret))
	_, err = c.MQTT.ReadPassword()
	require.ErrorContains(t, err, "mqtt.password_file")

	t.Setenv("LANEPOST_TEST_PASSWORD", "hunter3")
	c, err = Parse("c.yaml", []byte("site: a\nlanes: []\nmqtt:\n  brokers: [tcp://b]\n  username: lane\n  password_env: LANEPOST_TEST_PASSWORD\n"))
	require.NoError(t, err)
	password, err = c.MQTT.ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "hunter3", password)
}

func TestEqual(t *testing.T) {
	a := &MQTT{Brokers: []string{"tcp://a"}}
	require.True(t, a.Equal(&MQTT{Brokers: []string{"tcp://a"}}))
	require.False(t, a.Equal(&MQTT{Brokers: []string{"tcp://b"}}))
	require.False(t, a.Equal(nil))
	require.True(t, (*MQTT)(nil).Equal(nil))
}

func TestTooMuch(t *testing.T) {
	_, err := Parse("c.yaml", make([]byte, yamlfile.MaxBytes+1))
	require.ErrorContains(t, err, "at most")
	_, err = Parse("c.yaml", []byte("site: a\nlanes:\n"+strings.Repeat("  - {id: a, devices: []}\n", 65)))
	require.ErrorContains(t, err, "lanes has 65 elements")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	files, err := filepath.Glob("testdata/refused/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("fuzz.yaml", b)
		if err == nil {
			for _, d := range c.Devices() {
				_, err := d.New()
				require.NoError(t, err, "what was accepted must run")
			}
		}
	})
}
