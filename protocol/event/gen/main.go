// Command gen writes docs/events.md and docs/schemas from the Go types of
// package event, their comments and their examples. Run it with "make
// generate", or anywhere in the repository with go run ./protocol/event/gen. A
// test fails while the files are not what it would write.
package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := repositoryRoot()
	if err != nil {
		return err
	}
	files, err := generate(root)
	if err != nil {
		return err
	}
	stale, err := staleFiles(root, files)
	if err != nil {
		return err
	}
	for _, p := range stale {
		if err := os.Remove(filepath.Join(root, p)); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, p)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, files[p]) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[p], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Where the files go, from the root of the repository.
const (
	docsFile   = "docs/events.md"
	schemasDir = "docs/schemas"
	sourceDir  = "protocol/event"
)

// generate gives each file's content by its path from the root.
func generate(root string) (map[string][]byte, error) {
	s, err := readSource(filepath.Join(root, sourceDir))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	schemas, err := s.schemas(false)
	if err != nil {
		return nil, err
	}
	for typ, b := range schemas {
		files[schemasDir+"/"+typ+".json"] = b
	}
	files[docsFile], err = s.docs()
	return files, err
}

// staleFiles lists schemas of types that there are no more.
func staleFiles(root string, files map[string][]byte) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, schemasDir))
	if os.IsNotExist(err) {
		return nil, nil
	}
	var stale []string
	for _, e := range entries {
		if p := schemasDir + "/" + e.Name(); files[p] == nil {
			stale = append(stale, p)
		}
	}
	return stale, err
}
