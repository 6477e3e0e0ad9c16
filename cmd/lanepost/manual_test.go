package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The manual page names every command.
func TestManualPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../deploy/package/lanepost.8")
	require.NoError(t, err)
	text, code := output(t, "--help")
	require.Zero(t, code)
	commands := regexp.MustCompile(`(?m)^  ([a-z]+)  +[A-Z]`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(commands), 10)
	for _, m := range commands {
		if !slices.Contains([]string{"help", "completion"}, m[1]) { // of every program made so
			require.Regexp(t, `(?m)^\.B `+m[1]+`$`, string(page))
		}
	}
}

// A page of the package leads to no page that is not in it.
func TestPackagedPages(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	list, err := os.ReadFile(filepath.Join(root, "deploy", "package", "nfpm.yaml"))
	require.NoError(t, err)
	var pages []string
	for _, m := range regexp.MustCompile(`src: docs/([a-z-]+\.md)\n`).FindAllStringSubmatch(string(list), -1) {
		pages = append(pages, m[1])
	}
	require.Greater(t, len(pages), 10)
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([a-z-]+\.md)[#)]`).FindAllStringSubmatch(string(text), -1) {
			require.Contains(t, pages, m[1], "%s leads to it", page)
		}
	}
}
