// Package xray holds the drivers of X-ray scanners. This file is what they are set to;
// scan.go makes events of scans; folder.go watches the folders into which scanners drop
// their files; dicos.go puts DICOS objects together.
package xray

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/cargovision"
	"github.com/lanepost/lanepost/protocol/manifest"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Bounds of the settings.
const (
	minEvery, maxEvery       = 200 * time.Millisecond, 5 * time.Minute
	maxQuiet                 = 10 * time.Minute
	minDeadline, maxDeadline = time.Second, 48 * time.Hour
	maxDays, maxDepth        = 400, 6
	maxPatterns              = 64
	maxFileSize              = 1 << 30
)

// FolderSettings are the settings of a scanner that drops files into a folder.
type FolderSettings struct {
	// Dialect is how the documents beside the pictures are written: "cargovision",
	// "manifest", "configured" for what Sidecar says, "dicos" for DICOS files, or "opaque"
	// for scanners that drop one file for each scan, in a form that is not published.
	Dialect string           `yaml:"dialect"`
	Sidecar *sidecar.Dialect `yaml:"sidecar"`
	// Sidecars are the patterns of their names, Ignore those of other files that look
	// like them and of files that are not there in full.
	Sidecars []string `yaml:"sidecars"`
	Ignore   []string `yaml:"ignore"`
	// Days are the folders of a day, with the signs of strftime: "%Y/%m/%d". Empty for
	// a scanner that has none. Back is how many days back are looked at: exports come
	// late, and clocks are wrong.
	Days []string `yaml:"days"`
	Back int      `yaml:"back"`
	// Depth is how many folders below are looked into.
	Depth int `yaml:"depth"`
	// Every is how often it is looked, Quiet how long a file must not have changed.
	Every time.Duration `yaml:"every"`
	Quiet time.Duration `yaml:"quiet"`
	// Deadline is how long the files that a scan names are waited for. Then it goes
	// without them, and what comes later makes a revision.
	Deadline time.Duration `yaml:"deadline"`
	// Batch is how many scans are worked off between two looks, so that a new one does
	// not wait for an old heap.
	Batch int `yaml:"batch"`
	// Meaning is how what the scanner says is taken.
	Meaning `yaml:",inline"`
	// MachineClears: where the dialect is dicos, the CLEAR of all machines stands for an
	// inspection. Otherwise such a scan is pending until an operator has looked.
	MachineClears bool `yaml:"machine_clears"`
	// WithoutImages: the pictures that DICOS reports name are not expected. Otherwise a
	// scan without them is partial.
	WithoutImages bool `yaml:"without_images"`
	// Pictures is false to leave all files at the scanner.
	Pictures *bool `yaml:"pictures"`
	// MaxFile is the largest file that is taken, in bytes.
	MaxFile int64 `yaml:"max_file"`
}

func defaults() FolderSettings {
	return FolderSettings{
		Dialect: "cargovision", Sidecars: []string{"*.xml"}, Ignore: []string{"*ocr.xml", "*atr.xml", ".*", "*.tmp", "*.part", "*.filepart", "*.inprogress"},
		Back: 2, Depth: 4, Every: 2 * time.Second, Quiet: 2 * time.Second, Deadline: 2 * time.Minute, Batch: 20, MaxFile: 64 << 20,
	}
}

func (s *FolderSettings) check() error {
	switch s.Dialect {
	case "cargovision", "manifest", dialectOpaque, dialectDICOS:
		if s.Sidecar != nil {
			return fmt.Errorf("sidecar: it is for the dialect configured; the dialect %s has none that can be described", s.Dialect)
		}
	case "configured":
		if s.Sidecar == nil {
			return errors.New("sidecar: it is missing; describe there where things stand in the scanner's documents")
		}
		if err := s.Sidecar.Check(); err != nil {
			return fmt.Errorf("sidecar: %w", err)
		}
	default:
		return fmt.Errorf("dialect: %q is not known; take cargovision, manifest, configured, dicos or opaque", s.Dialect)
	}
	if s.Dialect != dialectDICOS && (s.MachineClears || s.WithoutImages) {
		return errors.New("machine_clears and without_images: they are for the dialect dicos")
	}
	if err := s.checkAlerts(s.Dialect); err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	for name, list := range map[string][]string{"sidecars": s.Sidecars, "ignore": s.Ignore} {
		if len(list) > maxPatterns {
			return fmt.Errorf("%s: there are more than %d patterns", name, maxPatterns)
		}
		for _, p := range list {
			if _, err := path.Match(p, "x"); err != nil || strings.Contains(p, "/") {
				return fmt.Errorf("%s: %q is no pattern of file names, as *.xml is", name, p)
			}
		}
	}
	if len(s.Sidecars) == 0 {
		return errors.New("sidecars: there is none; write for example *.xml")
	}
	if len(s.Days) > 8 {
		return errors.New("days: more than 8 are not looked at")
	}
	for _, d := range s.Days {
		if _, err := dayFolder(d, time.Unix(0, 0).UTC()); err != nil {
			return fmt.Errorf("days: %w", err)
		}
	}
	for _, c := range []struct {
		name     string
		is       time.Duration
		min, max time.Duration
	}{{"every", s.Every, minEvery, maxEvery}, {"quiet", s.Quiet, 0, maxQuiet}, {"deadline", s.Deadline, minDeadline, maxDeadline}} {
		if c.is < c.min || c.is > c.max {
			return fmt.Errorf("%s: %s; take %s to %s", c.name, c.is, c.min, c.max)
		}
	}
	switch {
	case s.Back < 0 || s.Back > maxDays:
		return fmt.Errorf("back: %d; take 0 to %d days", s.Back, maxDays)
	case s.Depth < 0 || s.Depth > maxDepth:
		return fmt.Errorf("depth: %d; take 0 to %d", s.Depth, maxDepth)
	case s.Batch < 1 || s.Batch > 10_000:
		return fmt.Errorf("batch: %d; take 1 to 10000", s.Batch)
	case s.MaxFile < 1 || s.MaxFile > maxFileSize:
		return fmt.Errorf("max_file: %d; take 1 to %d bytes", s.MaxFile, maxFileSize)
	}
	return s.Meaning.check()
}

// parse reads a sidecar.
func (s *FolderSettings) parse(b []byte) (*sidecar.Scan, error) {
	switch s.Dialect {
	case "cargovision":
		return cargovision.Parse(b, s.CodePage)
	case "manifest":
		return manifest.Parse(b, s.CodePage)
	}
	return s.Sidecar.Parse(b, s.CodePage)
}

// dayFolder fills a folder's name with a day.
func dayFolder(mask string, day time.Time) (string, error) {
	var b strings.Builder
	for i := 0; i < len(mask); i++ {
		if mask[i] != '%' {
			b.WriteByte(mask[i])
			continue
		}
		short := i+1 < len(mask) && mask[i+1] == '-'
		if short {
			i++
		}
		if i++; i >= len(mask) {
			return "", fmt.Errorf("%q ends with a %%", mask)
		}
		layouts := map[byte][2]string{'Y': {"2006", "2006"}, 'y': {"06", "06"}, 'm': {"01", "1"}, 'd': {"02", "2"}, 'H': {"15", "15"}, 'j': {"002", "002"}}
		l, ok := layouts[mask[i]]
		if !ok {
			return "", fmt.Errorf("%q has %%%c; there are %%Y, %%y, %%m, %%d, %%j, and %%-m and %%-d without a zero", mask, mask[i])
		}
		if short {
			b.WriteString(day.Format(l[1]))
		} else {
			b.WriteString(day.Format(l[0]))
		}
	}
	name := path.Clean(b.String())
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
		return "", fmt.Errorf("%q leads out of the folder", mask)
	}
	return name, nil
}

// matches reports whether a name fits one of the patterns, in upper or lower case.
func matches(patterns []string, name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(strings.ToLower(p), name)
		return err == nil && ok
	})
}
