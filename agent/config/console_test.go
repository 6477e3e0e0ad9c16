package config

import (
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
		"console: {listen: \"off\"}":          {Plates: "masked"},
		"console: {listen: off}":              {Plates: "masked"},
		"console: {listen: localhost:80}":     {Door: console.Settings{Listen: "127.0.0.1:80"}, Plates: "masked"},
		"console: {listen: \"[::1]:80\"}":     {Door: console.Settings{Listen: "[::1]:80"}, Plates: "masked"},
		"console: {listen: 127.0.0.2:8080}\n": {Door: console.Settings{Listen: "127.0.0.2:8080"}, Plates: "masked"},
	} {
		c, err := Parse("c.yaml", []byte("site: a\nlanes: []\n"+text))
		require.NoError(t, err, text)
		require.Equal(t, want, c.Console, text)
	}
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
	} {
		require.Equal(t, want, Redact(text))
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("mqtt: {username: x}\n")
	f.Add("password: |\r\n  x\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "\n") != strings.Count(Redact(text), "\n") {
			t.Fatal("the lines do not stay")
		}
	})
}
