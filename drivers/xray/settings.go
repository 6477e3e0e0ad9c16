// Package xray holds the drivers of X-ray scanners. This file is what they are set to;
// scan.go makes events of scans; folder.go watches the folders into which scanners drop
// their files; dicos.go puts DICOS objects together.
package xray

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/cargovision"
	"github.com/lanepost/lanepost/protocol/manifest"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// Bounds of the settings.
const (
	maxDays     = 400
	maxCodes    = 64
	maxFileSize = 1 << 30
)

// FolderSettings are the settings of a scanner that drops files into a folder.
type FolderSettings struct {
	// Dialect is how the documents beside the pictures are written: "cargovision",
	// "manifest", "configured" for what Sidecar says, "dicos" for DICOS files, or "opaque"
	// for scanners that drop one file for each scan, in a form that is not published.
	Dialect string           `yaml:"dialect"`
	Sidecar *sidecar.Dialect `yaml:"sidecar"`
	// Sidecars are the patterns of their names. Ignore are those of other files that look
	// like them too, and Deadline is how long the files that a scan names are waited for;
	// then it goes without them, and what comes later makes a revision.
	Sidecars               []string `yaml:"sidecars"`
	drivers.FollowSettings `yaml:",inline"`
	// Days are the folders of a day, with the signs of strftime: "%Y/%m/%d". Empty for
	// a scanner that has none. Back is how many days back are looked at: exports come
	// late, and clocks are wrong.
	Days []string `yaml:"days"`
	Back int      `yaml:"back"`
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
	s := FolderSettings{Dialect: "cargovision", Sidecars: []string{"*.xml"}, FollowSettings: drivers.DefaultFollow(), Back: 2, MaxFile: 64 << 20}
	s.Depth = 4
	s.Ignore = append(s.Ignore, "*ocr.xml", "*atr.xml", "*.inprogress")
	return s
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
	if err := s.Check("sidecars", s.Sidecars); err != nil {
		return err
	}
	if len(s.Days) > 8 {
		return errors.New("days: more than 8 are not looked at")
	}
	for _, d := range s.Days {
		if _, err := dayFolder(d, time.Unix(0, 0).UTC()); err != nil {
			return fmt.Errorf("days: %w", err)
		}
	}
	switch {
	case s.Back < 0 || s.Back > maxDays:
		return fmt.Errorf("back: %d; take 0 to %d days", s.Back, maxDays)
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
