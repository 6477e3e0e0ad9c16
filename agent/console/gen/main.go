// Command gen packs the files of the console's page. It runs in agent/console; see
// "make generate".
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := pack("page", "packed"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pack writes each file of a directory compressed to another, and takes out there what is
// no longer in the first.
func pack(from, to string) error {
	old, err := filepath.Glob(filepath.Join(to, "*.gz"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
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
		if err := os.WriteFile(filepath.Join(to, f.Name()+".gz"), z.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
