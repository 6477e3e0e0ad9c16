package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Console{
		"": {Door: console.Settings{Listen: "127.0.0.1:7480", Default: true}, Plates: "masked"},
		"console: {plates: none, pictures: thumbnails}": {
			Door: console.Settings{Listen: "127.0.0.1:7480", Default: true}, Plates: "none", Pictures: true,
		},
		"console: {listen: off, simulator: \"http://127.0.0.1:7490\"}": {Plates: "masked", Simulator: "http://127.0.0.1:7490"},
		"console: {listen: \"off\"}":                                   {Plates: "masked"},
		"console: {listen: off}":                                       {Plates: "masked"},
		"console: {listen: localhost:80}":                              {Door: console.Settings{Listen: "127.0.0.1:80"}, Plates: "masked"},
		"console: {listen: \"[::1]:80\"}":                              {Door: console.Settings{Listen: "[::1]:80"}, Plates: "masked"},
		"console: {listen: 127.0.0.2:8080}\n":                          {Door: console.Settings{Listen: "127.0.0.2:8080"}, Plates: "masked"},
	} {
		c, err := Parse("c.yaml", []byte("site: a\nlanes: []\n"+text))
		require.NoError(t, err, text)
		require.Equal(t, want, c.Console, text)
	}
}

// The name of a device stands in quotes or not.
func TestLogDevices(t *testing.T) {
	t.Parallel()
	for _, devices := range []string{
		`{"entry-1/rpm-1": debug, 'entry-1/rpm-2': error}`, `{entry-1/rpm-1: debug, entry-1/rpm-2: error}`,
		"\n    \"entry-1/rpm-1\": debug\n    entry-1/rpm-2: error",
	} {
		c, err := Parse("c.yaml", []byte("site: a\nlanes:\n  - id: entry-1\n    devices:\n      - {id: rpm-1, profile: rapiscan-tsa, connect: \"tcp://10.0.0.1:1600\"}\n"+
			"      - {id: rpm-2, profile: rapiscan-tsa, connect: \"tcp://10.0.0.2:1600\"}\nlog:\n  devices: "+devices+"\n"))
		require.NoError(t, err, devices)
		require.Equal(t, map[string]string{"entry-1/rpm-1": "debug", "entry-1/rpm-2": "error"}, c.Log.Devices)
	}
	one, err := Parse("c.yaml", []byte("site: a\nlanes:\n  - id: entry-1\n    devices:\n      - {id: rpm-1, profile: rapiscan-tsa, connect: \"tcp://10.0.0.1:1600\"}\nlog:\n  devices:\n    entry-1/rpm-1: warn\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"entry-1/rpm-1": "warn"}, one.Log.Devices)
}

// What is secret in any of the refused configurations, and in one that is right, does not
// stand in what is shown of them.
func TestRedact(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/refused/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		shown := Redact(string(b))
		require.NotContains(t, shown, "hunter2", file)
		require.NotContains(t, shown, "secret@", file)
		require.Equal(t, strings.Count(string(b), "\n"), strings.Count(shown, "\n"), "line numbers stay: %s", file)
	}
	for text, want := range map[string]string{
		"connect: http://admin:pw@10.0.0.1/x?a=b&pwd=q#c":            "connect: http://***@10.0.0.1/x?a=b&pwd=***",
		"connect: http-listen://0.0.0.0:8080/hik/Zm9v?allow=1.2.3.4": "connect: http-listen://0.0.0.0:8080/***?allow=1.2.3.4",
		"  username: anna # of the shift":                            "  username: ***",
		"  password_file: /etc/lanepost/pw":                          "  password_file: /etc/lanepost/pw",
		"  password_env: MQTT_PASSWORD":                              "  password_env: MQTT_PASSWORD",
		"mqtt: {password_file: x, username: bo, window: 3}":          "mqtt: {password_file: x, username: ***",
		"password: |\n  a\n  b\n\nsite: x":                           "password: ***\n  ***\n  ***\n\nsite: x",
		"password:\n  a\nsite: x\r\n":                                "password:\n  ***\nsite: x\r\n",
		"pseudonym_key_file: /etc/k\npseudonym_key: abc":             "pseudonym_key_file: /etc/k\npseudonym_key: ***",
		"brokers: [tls://mqtt.example:8883]":                         "brokers: [tls://mqtt.example:8883]",
		"\"username\": bo":                                           "\"username\": ***",
		"site: medyka # user: anna":                                  "site: medyka # user: ***",
		"users_file: /etc/lanepost/users":                            "users_file: /etc/lanepost/users",
		"connect: http://admin:pa/ss@10.0.0.1":                       "connect: http://***@10.0.0.1",
		"connect: \"http://admin:p'a s@s@10.0.0.1/x\"":               "connect: \"http://***@10.0.0.1/x\"",
		"connect: http://10.0.0.1/x?pwd=a'b c&d":                     "connect: http://10.0.0.1/x?pwd=***",
		"key: |\n  -----BEGIN PRIVATE KEY-----\n  MC4C\nsite: x":     "key: ***\n  ***\n  ***\nsite: x",
		"tls: {private_key: MC4C, ca_file: x}":                       "tls: {private_key: ***",
		"message_key: [id, time]":                                    "message_key: [id, time]",
		`{"password":"x"}`:                                           `{"password": ***`,
		"password:\tx":                                               "password: ***",
	} {
		require.Equal(t, want, Redact(text))
	}
}

// secretPlaces are where people write secrets.
var secretPlaces = []string{
	"password: %s", "password: \"%s\"", "key: |\n  %s\n  %[1]s", "mqtt: {username: a, password: %s}", `{"token":"%s"}`,
	"devices:\n  - password:\n      %s", "connect: http://admin:%s@10.0.0.1/x", "connect: 'http://%s@10.0.0.1'",
	"connect: http://10.0.0.1/x?a=b&password=%s", "brokers: [\"tls://a:%s@x\", tls://y] # two",
}

func FuzzRedact(f *testing.F) {
	f.Add("mqtt: {username: x}\n", "a")
	f.Add("password: |\r\n  x\n", "/ ' \" @")
	f.Fuzz(func(t *testing.T, text, around string) {
		if strings.Count(text, "\n") != strings.Count(Redact(text), "\n") {
			t.Fatal("the lines do not stay")
		}
		around = strings.ReplaceAll(around, "\n", "")
		for _, place := range secretPlaces {
			if shown := Redact(fmt.Sprintf(place, around+"hunter2"+around)); strings.Contains(shown, "hunter2") {
				t.Fatalf("%s is shown: %q", place, shown)
			}
		}
	})
}
