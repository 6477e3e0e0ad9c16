package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers/link"
)

// exampleWord is a word of a command line, perhaps in quotes.
var exampleWord = regexp.MustCompile(`'([^']*)'|(\S+)`)

// Each line that a help shows as an example is one that the program takes: its flags and
// arguments, and the link or the devices that are in it.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	var lines []string
	var collect func(*cobra.Command)
	collect = func(cmd *cobra.Command) {
		text := strings.ReplaceAll(cmd.Example+"\n"+cmd.Long, "\\\n", " ")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "  lanepost ") || strings.HasPrefix(line, "  sudo lanepost ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		for _, c := range cmd.Commands() {
			collect(c)
		}
	}
	collect(commands())
	require.Greater(t, len(lines), 10)
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " >")
		var words []string
		for _, m := range exampleWord.FindAllStringSubmatch(strings.TrimPrefix(line, "sudo "), -1) {
			words = append(words, m[1]+m[2])
		}
		cmd, rest, err := commands().Find(words[1:])
		require.NoError(t, err, line)
		require.NotEqual(t, "lanepost", cmd.Name(), line)
		require.NoError(t, cmd.ParseFlags(rest), line)
		require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), line)
		if f := cmd.Flags().Lookup("connect"); f != nil && f.Changed {
			_, err := link.Parse(f.Value.String(), nil)
			require.NoError(t, err, line)
		}
		if cmd.Name() == "init" {
			lane, err := cmd.Flags().GetString("lane")
			require.NoError(t, err)
			devices, err := cmd.Flags().GetStringArray("device")
			require.NoError(t, err)
			s, err := (&initOptions{site: "medyka", lane: lane, devices: devices}).starter()
			require.NoError(t, err, line)
			require.NoError(t, s.check("lanepost.yaml"), line)
		}
	}
}

// A mistake in the command line is told in plain words.
func TestPlainWords(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none.yaml")
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"identify --for 5 /dev/ttyUSB0", `--for "5": a duration needs a unit, for instance 30s or 10m`, exitUsage},
		{"check --wait soon", `--wait "soon" is no duration: write for instance 30s or 10m`, exitUsage},
		{"check --records x", `--records "x": want a whole number`, exitUsage},
		{"check -c", "--config needs a value: configuration file", exitUsage},
		{"spool stt", `unexpected argument "stt"; did you mean stat?`, exitUsage},
		{"run --config " + none, "hint: lanepost init writes a first one", exitConfig},
	} {
		text, code := output(t, strings.Fields(c.args)...)
		require.Contains(t, text, c.want, c.args)
		require.Equal(t, c.code, code, c.args)
	}
}
