// Command pack compresses files that are embedded in a program: pack FROM TO PATTERN
// writes each file of the folder FROM whose name fits to the folder TO, and takes out there
// what is no longer in FROM. See "make generate".
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	err := errors.New("usage: pack FROM TO PATTERN")
	if len(os.Args) == 4 {
		err = pack(os.Args[1], os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(from, to, pattern string) error {
	old, err := filepath.Glob(filepath.Join(to, "*.gz"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, pattern))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no file in %s fits %s", from, pattern)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var z bytes.Buffer
		w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err = w.Write(b); err == nil {
			err = w.Close()
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)+".gz"), z.Bytes(), 0o644); err != nil { //nolint:gosec // they are sources
			return err
		}
	}
	return nil
}
