package evidence

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// blocks are the pieces of the page in a language.
func blocks(t *testing.T, language string) (list []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/evidence.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		list = append(list, m[1])
	}
	return list
}

// The page's numbers are what this package computes, and what its script does.
func TestPage(t *testing.T) {
	events, printed := blocks(t, "json"), blocks(t, "text")
	lines := strings.Split(strings.TrimSpace(events[0]), "\n")
	require.Len(t, lines, 2)
	var want strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&want, "D %s\nC %s\n", event.Digest([]byte(line)), event.After([]byte(line)))
	}
	require.Equal(t, want.String(), printed[0])
	require.Equal(t, event.After([]byte(lines[0])).String(), strings.Split(lines[1], `"`)[11])
	require.Equal(t, strings.TrimSpace(events[1]), string(event.Redact([]byte(lines[1]))))

	c, err := ParseCheckpoint(printed[1])
	require.NoError(t, err)
	require.Equal(t, uint64(1184), c.Urgent.Sequence)
	_, err = ParseKeyStatement(printed[2])
	require.NoError(t, err)

	t.Run("script", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Skip("python3 is not installed")
		}
		cmd := exec.Command(python, "-c", blocks(t, "python")[0])
		cmd.Stdin = strings.NewReader(events[0])
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, printed[0], string(out))
	})
	t.Run("shell", func(t *testing.T) {
		for _, tool := range []string{"sh", "sha256sum", "xxd"} {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skip(tool + " is not installed")
			}
		}
		cmd := exec.Command("sh", "-c", blocks(t, "sh")[0])
		cmd.Dir = t.TempDir()
		require.NoError(t, os.WriteFile(cmd.Dir+"/first", []byte(lines[0]), 0o600))
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, event.Digest([]byte(lines[0])).String()+"  -\n"+event.After([]byte(lines[0])).String()+"  -\n", string(out))
	})
}

// The page lists every kind of finding, and the bounds that it names hold.
func TestPageKinds(t *testing.T) {
	page, err := os.ReadFile("../../docs/evidence.md")
	require.NoError(t, err)
	for k, is := range kinds {
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %s | %s |\n", k, is.severity, is.meaning))
	}
	require.Len(t, regexp.MustCompile("(?m)^\\| `[a-z-]+` \\| (note|warning|error) \\|").FindAllString(string(page), -1), len(kinds))
	for text, bound := range map[string]int{
		"the last %d events": maxRemembered, "up to %d gaps": maxRuns, "at most %d bytes": MaxStatement, "1 to %d of letters": MaxName,
	} {
		require.Contains(t, string(page), fmt.Sprintf(text, bound))
	}
}
