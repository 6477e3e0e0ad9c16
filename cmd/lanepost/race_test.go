package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutRace is for tests that the race detector makes too slow to be worth it: those that
// draw many pictures, start many processes or measure times. `make test` runs them without
// it, by WITHOUT_RACE in the Makefile.
func withoutRace(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("make test runs it without the race detector")
	}
}

// What is skipped under the race detector is run without it.
func TestWhatRaceSkipsIsRun(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^WITHOUT_RACE := (.+)$`).FindSubmatch(makefile)
	require.NotNil(t, m)
	runs := regexp.MustCompile(string(m[1]))
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	found := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, f := range regexp.MustCompile(`(?ms)^func (Test\w+)\(t \*testing\.T\) \{\n(.*?)^\}`).FindAllSubmatch(text, -1) {
			if regexp.MustCompile(`\bwithoutRace\(t\)`).Match(f[2]) {
				found++
				require.True(t, runs.Match(f[1]), "%s is run nowhere: put it into WITHOUT_RACE", f[1])
			}
		}
	}
	require.Greater(t, found, 5)
}
