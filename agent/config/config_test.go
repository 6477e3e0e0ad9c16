package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/event"
)

// The messages are what a technician reads, so they are kept as files to be
// read: a configuration, and beside it what the agent must say of it. Both are
// written by hand.
func TestRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/refused/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file)
			require.Error(t, err)
			got := strings.ReplaceAll(err.Error(), "testdata/refused/", "") + "\n"
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
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
	require.Equal(t, []string{"tls://mqtt.example:8883"}, c.MQTT[0].Brokers)
	require.Equal(t, "/var/lib/lanepost", c.Spool.Dir)
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
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no README.md")
	}
	require.NoError(t, err)
	require.Contains(t, string(b), smallest)
}

var example = filepath.Join("..", "..", "deploy", "lanepost.example.yaml")

func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(example), "*.yaml"))
	require.NoError(t, err)
	require.Contains(t, files, example)
	for _, file := range files {
		c, err := Load(file)
		require.NoError(t, err)
		require.NotEmpty(t, c.Devices())
		require.Empty(t, c.Warnings)
	}
}

// What the example shows in comments must be right too: with one comment after
// the other made a key, nothing is wrong but that files and variables are not
// on this box.
func TestExampleComments(t *testing.T) {
	b, err := os.ReadFile(example)
	require.NoError(t, err)
	comment := regexp.MustCompile(`^(\s*)# ((?:  )?[a-z_]+:.*)$`)
	lines := strings.Split(string(b), "\n")
	tried := 0
	for i := range lines {
		if !comment.MatchString(lines[i]) {
			continue
		}
		open := slices.Clone(lines)
		open[i] = comment.ReplaceAllString(lines[i], "$1$2")
		if strings.HasSuffix(open[i], ":") { // and what stands under it
			for k := i + 1; k < len(lines) && comment.MatchString(lines[k]); k++ {
				open[k] = comment.ReplaceAllString(lines[k], "$1$2")
			}
		} else if strings.Contains(lines[i], "#   ") {
			continue // stands under another
		}
		tried++
		_, err := Parse("example.yaml", []byte(strings.Join(open, "\n")))
		if err == nil {
			continue
		}
		var problems yamlfile.Problems
		require.ErrorAs(t, err, &problems)
		for _, p := range problems {
			allowed := []string{"no such file or directory", "there is no directory", "is not set or empty", "a password without a username", "without cert_file", "without key_file", "can do data=8"}
			require.True(t, slices.ContainsFunc(allowed, func(s string) bool { return strings.Contains(p.Text, s) }),
				"with %q: %s", open[i], p)
		}
	}
	require.Greater(t, tried, 12)
}

func TestWithoutBroker(t *testing.T) {
	c, err := Parse("c.yaml", []byte("site: a\nlanes: []\n"))
	require.NoError(t, err)
	require.Empty(t, c.MQTT)
	require.Equal(t, defaultSpoolDir, c.Spool.Dir)
	require.Equal(t, Log{Level: "info", Format: "text"}, c.Log)
	require.Equal(t, slog.LevelInfo, SlogLevel(c.Log.Level))
	require.Equal(t, []string{"c.yaml:1:1: no device is configured, so nothing is observed"}, warnings(c))
	require.Equal(t, "43d54c89", c.SHA256[:8])
}

func warnings(c *Config) []string {
	var list []string
	for _, w := range c.Warnings {
		list = append(list, w.String())
	}
	return list
}

// One file may say all there is.
func TestEverything(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"user": "lane-3\r\n", "password": "hunter2\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	ca, key := certificate(t, filepath.Join(dir, "ca"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "profiles"), 0o700))
	path := filepath.Join(dir, "lanepost.yaml")
	require.NoError(t, os.WriteFile(path, []byte("\ufeff"+`site: medyka
lanes:
  - id: entry-3
    name: Wjazd, ciężarówki
    devices:
      - id: rpm-1
        profile: rapiscan-tsa
        connect: tcp://10.0.3.21
        connect_timeout: 5s
        write_timeout: 3s
        keepalive: off
        silence: 1m
        settings: {nsigma: 4.5, stall: 4s, neutron: false}
      - id: rpm-2
        profile: rapiscan-tsa-serial
        connect: serial:/dev/ttyUSB0
        baud: 9600
        data: 7
        parity: even
        stop: 2
        backend: go.bug.st
profiles: profiles
mqtt:
  brokers: [tls://mqtt.example, "ssl://[fd00::1]:8884", wss://mqtt.example/mqtt]
  client_id: lane 3 of Medyka
  username_file: user
  password_file: password
  ca_file: ca.pem
  cert_file: ca.pem
  key_file: ca.key
  server_name: broker
  window: 100
spool:
  dir: spool
log:
  level: debug
  format: json
`), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
	require.Equal(t, []*MQTT{{
		Name:     "mqtt",
		Brokers:  []string{"tls://mqtt.example", "ssl://[fd00::1]:8884", "wss://mqtt.example/mqtt"},
		ClientID: "lane 3 of Medyka", UsernameFile: filepath.Join(dir, "user"), PasswordFile: filepath.Join(dir, "password"),
		CAFile: ca, CertFile: ca, KeyFile: key, ServerName: "broker", Window: 100,
	}}, c.MQTT)
	require.True(t, c.MQTT[0].TLS())
	user, err := c.MQTT[0].ReadUsername()
	require.NoError(t, err)
	require.Equal(t, "lane-3", user)
	require.Equal(t, filepath.Join(dir, "spool"), c.Spool.Dir)
	require.Equal(t, Log{Level: "debug", Format: "json"}, c.Log)
	require.Equal(t, slog.LevelDebug, SlogLevel(c.Log.Level))
	d := c.Devices()
	require.Equal(t, "Wjazd, ciężarówki", d[0].LaneName)
	require.Equal(t, time.Minute, d[0].Silence)
	require.Equal(t, "tcp://10.0.3.21:1600?connect_timeout=5s&keepalive=off&write_timeout=3s", d[0].Endpoint.String())
	require.Equal(t, "serial:/dev/ttyUSB0?baud=9600&data=7&parity=even&stop=2&backend=go.bug.st", d[1].Endpoint.String())
}

func TestUplinksAndSpool(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "spool.key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("0f", 32)+"\n"), 0o600))
	c, err := Parse(filepath.Join(dir, "lanepost.yaml"), []byte(`
site: medyka
lanes:
  - {id: entry-3, devices: []}
mqtt:
  - name: national
    brokers: [wss://mqtt.example, tls://other.example]
    alpn: [mqtt]
    max_packet: 256KiB
    requests: [status, resend]
  - name: alarms
    brokers: [tcp://10.0.3.2]
    only: {lanes: [entry-3, agent], types: ["lanepost.radiation.*"], classes: [urgent]}
    topic_prefix: pl/medyka/
    redact: true
spool:
  dir: spool
  urgent: {max_size: 1GiB}
  routine: {max_size: 500 MB, max_age: 30d}
  min_free: 7.5%
  retain: {for: 36h, max_size: 2GiB}
  commit_delay: 5ms
  key_file: spool.key
evidence: {checkpoint_events: 500, checkpoint_every: 5m}
`))
	require.NoError(t, err)
	require.Equal(t, []*MQTT{
		{
			Name: "national", Brokers: []string{"wss://mqtt.example", "tls://other.example"}, ALPN: []string{"mqtt"},
			MaxPacket: 256 << 10, Requests: []string{"status", "resend"},
		},
		{
			Name: "alarms", Brokers: []string{"tcp://10.0.3.2"},
			Only:        Only{Lanes: []string{"entry-3", "agent"}, Types: []string{"lanepost.radiation.*"}, Classes: []event.Class{event.Urgent}},
			TopicPrefix: "pl/medyka", Redact: true,
		},
	}, c.MQTT)
	require.Equal(t, Spool{
		Dir: filepath.Join(dir, "spool"), Urgent: SpoolClass{MaxBytes: 1 << 30},
		Routine: SpoolClass{MaxBytes: 500_000_000, MaxAge: 720 * time.Hour}, MinFreeShare: 0.075,
		RetainFor: 36 * time.Hour, RetainBytes: 2 << 30, CommitDelay: 5 * time.Millisecond, KeyFile: key,
	}, c.Spool)
	require.Equal(t, Evidence{CheckpointEvents: 500, CheckpointEvery: 5 * time.Minute}, c.Evidence)
}

// certificate makes a self-signed certificate and its key, in path.pem and
// path.key.
func certificate(t *testing.T, path string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return path + ".pem", path + ".key"
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	certificate(t, filepath.Join(dir, "a"))
	certificate(t, filepath.Join(dir, "b"))
	load := func(cert, key string) error {
		_, err := Parse(filepath.Join(dir, "c.yaml"), fmt.Appendf(nil,
			"site: a\nlanes: []\nmqtt:\n  brokers: [tls://b]\n  cert_file: %s\n  key_file: %s\n", cert, key))
		return err
	}
	require.NoError(t, load("a.pem", "a.key"))
	require.ErrorContains(t, load("a.pem", "b.key"), "c.yaml:5:14: "+filepath.Join(dir, "a.pem")+" and "+filepath.Join(dir, "b.key")+
		" are no client certificate and its key: private key does not match public key")
	require.ErrorContains(t, load("a.key", "a.key"), "are no client certificate")
	require.ErrorContains(t, load("a.pem", "a.pem"), "are no client certificate")

	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.ErrorContains(t, load("a.pem", "pipe"), "pipe: not a file")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxPEM+1), 0o600))
	require.ErrorContains(t, load("large", "a.key"), "more than 1048576 bytes")
	if os.Geteuid() != 0 {
		require.NoError(t, os.Chmod(filepath.Join(dir, "b.key"), 0))
		err := load("b.pem", "b.key")
		require.ErrorContains(t, err, "permission denied")
		require.ErrorContains(t, err, "let the agent's user read it")
	}
}

const oneDevice = `site: a
lanes:
  - id: l
    devices:
      - id: d
        profile: rapiscan-tsa
        connect: tcp://10.0.0.1
`

// one makes a configuration of one device with the given lines in it.
func one(t *testing.T, lines ...string) Device {
	t.Helper()
	text := oneDevice
	for _, l := range lines {
		text += "        " + l + "\n"
	}
	c, err := Parse("c.yaml", []byte(text))
	require.NoError(t, err)
	return c.Devices()[0]
}

func TestFingerprint(t *testing.T) {
	base := one(t)
	for _, same := range [][]string{
		{"# a comment changes nothing"},
		{"settings: {nsigma: 5}"}, // what the profile says
		{"settings: {hold_in: 10, nsigma: 5.0}"},
		{"silence: 12s"},
		{"keepalive: 15s"},
	} {
		require.Equal(t, base.Fingerprint, one(t, same...).Fingerprint, same)
	}
	seen := map[string]string{base.Fingerprint: "nothing"}
	for _, line := range []string{
		"silence: 30s", "settings: {nsigma: 4}", "settings: {nsigma: 4.5}", "settings: {groups: [sum]}", "settings: {neutron: false}",
		`settings: {detectors: ["1", "2", "4", "3"]}`, "settings: {stall: 4s}", "keepalive: off",
	} {
		f := one(t, line).Fingerprint
		require.NotContains(t, seen, f, "%s changes nothing, like %s", line, seen[f])
		seen[f] = line
	}
	for _, change := range [][2]string{
		{"rapiscan-tsa", "rapiscan-tsa-extended"},
		{"10.0.0.1", "10.0.0.2"},
		{"id: l\n", "id: l2\n"},
		{"id: d\n", "id: d2\n"},
	} {
		c, err := Parse("c.yaml", []byte(strings.Replace(oneDevice, change[0], change[1], 1)))
		require.NoError(t, err)
		f := c.Devices()[0].Fingerprint
		require.NotContains(t, seen, f, "%s changes nothing, like %s", change, seen[f])
		seen[f] = change[1]
	}
	c, err := Parse("c.yaml", []byte(strings.Replace(oneDevice, "site: a", "site: b\nspool: {dir: /x}", 1)))
	require.NoError(t, err)
	require.Equal(t, base.Fingerprint, c.Devices()[0].Fingerprint, "what is not the device's")
}

// A profile's content counts as far as the device's run depends on it.
func TestFingerprintOfAProfile(t *testing.T) {
	const profile = "profile: rapiscan-tsa\nsummary: ours\ndriver: tsa-portal\nevidence: assumed\nsilence: 40s\nlink: {port: 1700}\nsettings: {nsigma: 6}\n"
	dir := t.TempDir()
	load := func(text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(text), 0o600))
		c, err := Parse(filepath.Join(dir, "c.yaml"), []byte("profiles: .\n"+oneDevice))
		require.NoError(t, err)
		require.Empty(t, c.Warnings)
		require.Equal(t, "local: "+filepath.Join(dir, "mine.yaml"), c.Devices()[0].Profile.Origin)
		return c.Devices()[0].Fingerprint
	}
	base := load(profile)
	require.Equal(t, base, load("# a comment\n"+strings.Replace(profile, "ours", "still ours", 1)))
	seen := []string{base}
	for _, change := range [][2]string{{"nsigma: 6", "nsigma: 7"}, {"40s", "41s"}, {"1700", "1701"}, {"settings: {nsigma: 6}", ""}} {
		f := load(strings.Replace(profile, change[0], change[1], 1))
		require.NotContains(t, seen, f, change)
		seen = append(seen, f)
	}
}

// alarmN plays an alarm into a device and tells with which N it was repeated.
func alarmN(t *testing.T, d Device) float64 {
	t.Helper()
	instrument, err := d.New()
	require.NoError(t, err)
	var script []drivers.Chunk
	for _, c := range []struct {
		at   time.Duration
		text string
	}{
		{0, "NB,000000,000000,000000,000000\r\nGB,000400,000400,000400,000400\r\n"},
		{3 * time.Second, "NS,000000,000000,000000,000000\r\n" + strings.Repeat("GA,000150,000150,000150,000150\r\n", 6)},
		{4 * time.Second, "GX,000001,001000,000000,000000\r\n"},
	} {
		script = append(script, drivers.Chunk{At: c.at, Bytes: []byte(c.text)})
	}
	played, err := drivers.Play(t.Context(), instrument, script)
	require.NoError(t, err)
	last := played.Observations[len(played.Observations)-1].Data
	occupancy, ok := last.(event.RadiationOccupancy)
	require.True(t, ok, "%T", last)
	require.NotNil(t, occupancy.Recomputed)
	return occupancy.Recomputed.NSigma
}

// The driver's defaults lie under the profile's settings, those under the
// device's.
func TestSettingsLieOverTheProfile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bare.yaml"), []byte("profile: bare\nsummary: x\ndriver: tsa-portal\nevidence: assumed\nlink: {port: 1600}\n"), 0o600))
	for _, c := range []struct {
		profile, settings string
		want              float64
	}{
		{"bare", "", 5}, // the driver's default
		{"rapiscan-tsa-extended", "", 4},
		{"rapiscan-tsa-extended", "        settings: {nsigma: 6.5}\n", 6.5},
		{"rapiscan-tsa-extended", "        settings: {hold_in: 9}\n", 4},
	} {
		text := "profiles: .\n" + strings.Replace(oneDevice, "rapiscan-tsa", c.profile, 1) + c.settings
		config, err := Parse(filepath.Join(dir, "c.yaml"), []byte(text))
		require.NoError(t, err)
		d := config.Devices()[0]
		require.Equal(t, c.want, alarmN(t, d), "%s %s", c.profile, c.settings)
		require.Equal(t, c.want, alarmN(t, d), "and again, as after a restart")
		require.Equal(t, 12*time.Second, d.Silence)
	}
}

func TestABrokenProfileWarns(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("profile: rapiscan-tsa-extended\nsilence: soon\n"), 0o600))
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte("profiles: .\n"+oneDevice))
	require.NoError(t, err)
	require.Equal(t, "built in", c.Devices()[0].Profile.Origin)
	for i, want := range []string{
		":1:1: profile not read: the profile has no summary\n    hint: add summary: ...",
		":1:1: profile not read: the profile has no driver\n    hint: add driver: ...",
		":1:1: profile not read: the profile has no evidence\n    hint: add evidence: ...",
		":2:10: profile not read: silence is \"soon\", want a time from 1s to 24h\n    hint: write a number with its unit, for instance 12s or 2m",
		": profile not read: no device can use the profile rapiscan-tsa-extended until this file is mended or taken away",
	} {
		require.Equal(t, filepath.Join(dir, "broken.yaml")+want, warnings(c)[i])
	}
	require.Len(t, c.Warnings, 5)
}

// A device never runs on the built-in profile because the operator's own one is
// broken: it would alarm and fall silent by other limits, unasked.
func TestABrokenProfileIsNotReplacedUnasked(t *testing.T) {
	for _, text := range []string{
		"profile: rapiscan-tsa\nsilence: soon\n",
		"profile: rapiscan-tsa\nsummary: [\n",
		"\tprofile: x\nprofile: \"rapiscan-tsa\"\n",
		"profile: rapiscan-tsa\nsummary: ours\ndriver: tsa-portal\nevidence: assumed\nsettings: {nsigma: 500}\n",
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(text), 0o600))
		_, err := Parse(filepath.Join(dir, "c.yaml"), []byte("profiles: .\n"+oneDevice))
		require.ErrorContains(t, err, "the profile rapiscan-tsa of the profiles directory is not valid", text)
		require.ErrorContains(t, err, "mine.yaml:", text)
	}
}

// Two names of one port are told, but stop no start: which name leads where
// changes with what is plugged in.
func TestTwoNamesOfOnePortWarn(t *testing.T) {
	dir := t.TempDir()
	port := filepath.Join(dir, "ttyUSB0")
	require.NoError(t, os.WriteFile(port, nil, 0o600))
	require.NoError(t, os.Symlink(port, filepath.Join(dir, "usb-FTDI-0001")))
	c, err := Parse("c.yaml", fmt.Appendf(nil, `site: a
lanes:
  - id: l
    devices:
      - {id: a, profile: rapiscan-tsa-serial, connect: "serial:%s/ttyUSB0?baud=9600&parity=none"}
      - {id: b, profile: rapiscan-tsa-serial, connect: "serial:%[1]s/usb-FTDI-0001?baud=9600&parity=none"}
`, dir))
	require.NoError(t, err)
	require.Len(t, c.Devices(), 2)
	require.Equal(t, []string{"c.yaml:6:56: " + dir + "/usb-FTDI-0001 is the same port as that in line 5, " + port + "\n    hint: give each device its own"}, warnings(c))
}

func TestPasswordInTheClearWarns(t *testing.T) {
	t.Setenv("LANEPOST_TEST_PASSWORD", "hunter3")
	c, err := Parse("c.yaml", []byte(oneDevice+`mqtt:
  brokers: [tls://a, tcp://b, tcp://localhost, "tcp://[::1]:1883", tcp://127.0.0.1]
  username: lane
  password_env: LANEPOST_TEST_PASSWORD
`))
	require.NoError(t, err)
	require.Equal(t, []string{"c.yaml:9:22: the password goes to this broker in the clear\n    hint: use tls:// if the broker can"}, warnings(c))
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2\r\n"), 0o600))
	load := func(line string) *Config {
		c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(oneDevice+"mqtt:\n  brokers: [tls://b]\n  username: lane\n  "+line+"\n"))
		require.NoError(t, err)
		// Whatever prints a configuration, no secret is in it.
		asJSON, err := json.Marshal(c.MQTT[0])
		require.NoError(t, err)
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "c", c, "m", c.MQTT[0])
		for _, printed := range []string{fmt.Sprint(c.MQTT[0]), fmt.Sprintf("%#v", c.MQTT[0]), fmt.Sprintf("%+v", *c), string(asJSON), logged.String()} {
			require.NotContains(t, printed, "hunter")
		}
		return c
	}
	c := load("password_file: secret")
	password, err := c.MQTT[0].ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "hunter2", password)
	require.NoError(t, os.WriteFile(secret, []byte("hunter4"), 0o600))
	password, err = c.MQTT[0].ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "hunter4", password, "read anew")
	for content, why := range map[string]string{
		"":                               "is empty",
		"\n":                             "is empty",
		"hunter\ntwo\n":                  "more than one line",
		"hunter\xff":                     "not UTF-8",
		strings.Repeat("x", maxSecret+1): "more than 4096 bytes",
	} {
		require.NoError(t, os.WriteFile(secret, []byte(content), 0o600))
		_, err = c.MQTT[0].ReadPassword()
		require.ErrorContains(t, err, why)
		require.ErrorContains(t, err, "mqtt.password_file: "+secret)
		require.NotContains(t, err.Error(), "hunter")
	}
	require.NoError(t, os.Remove(secret))
	_, err = c.MQTT[0].ReadPassword()
	require.ErrorContains(t, err, "mqtt.password_file: "+secret+": no such file")

	t.Setenv("LANEPOST_TEST_PASSWORD", "hunter3")
	c = load("password_env: LANEPOST_TEST_PASSWORD")
	password, err = c.MQTT[0].ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "hunter3", password)
	t.Setenv("LANEPOST_TEST_PASSWORD", "")
	_, err = c.MQTT[0].ReadPassword()
	require.ErrorContains(t, err, "LANEPOST_TEST_PASSWORD is not set or empty")
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
	require.EqualError(t, err, "c.yaml: the file has more than 1048576 bytes\n    hint: at most so many are read")
	_, err = Parse("c.yaml", []byte("site: a\nlanes:\n"+strings.Repeat("  - {id: a, devices: []}\n", 65)))
	require.ErrorContains(t, err, "lanes has 65 elements")
	_, err = Parse("c.yaml", []byte("site: a\nlanes: []\nspool: {dir: "+strings.Repeat("x", 5000)+"}\n"))
	require.ErrorContains(t, err, "spool.dir has 5000 bytes")

	_, err = Parse("c.yaml", []byte(devices(200, 56)))
	require.NoError(t, err)
	_, err = Parse("c.yaml", []byte(devices(200, 57)))
	require.ErrorContains(t, err, "more than 256 devices")
	_, err = Parse("c.yaml", []byte(devices(257)))
	require.ErrorContains(t, err, "devices has 257 elements")
}

// devices makes a configuration of lanes with so many devices each.
func devices(lanes ...int) string {
	var b strings.Builder
	b.WriteString("site: a\nlanes:\n")
	for l, n := range lanes {
		fmt.Fprintf(&b, "  - id: l%d\n    devices:\n", l)
		for d := range n {
			fmt.Fprintf(&b, "      - id: d%d\n        profile: rapiscan-tsa\n        connect: tcp://10.0.%d.%d\n        settings: {nsigma: 4.5, stall: 4s}\n", d, l, d)
		}
	}
	return b.String()
}

func BenchmarkParse256(b *testing.B) {
	text := []byte(devices(128, 128))
	for b.Loop() {
		if _, err := Parse("c.yaml", text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "nowhere.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "nowhere.yaml")
	_, err = Load(dir)
	require.ErrorContains(t, err, "is a directory")
	require.Equal(t, []string{err.Error()}, Lines(err))

	_, err = Parse("c.yaml", []byte("sitee: a\nlanes: 5\n"))
	require.Equal(t, []string{
		`c.yaml:1:1: unknown key "sitee" in the configuration; hint: did you mean "site"?`,
		`c.yaml:2:8: lanes must be a list, not "5"; hint: begin each element with a dash: - ...`,
	}, Lines(err))
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
		if err != nil {
			var problems yamlfile.Problems
			require.ErrorAs(t, err, &problems)
			require.NotEmpty(t, problems)
			require.Less(t, len(problems), 60)
			for _, p := range problems {
				require.True(t, utf8.ValidString(p.Snippet))
				require.NotContains(t, p.Snippet, "\n")
			}
			return
		}
		for _, d := range c.Devices() {
			_, err := d.New()
			require.NoError(t, err, "what was accepted must run")
		}
	})
}
