package config

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// Log says how to log.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string
	// Format is "text" or "json".
	Format string
	// Devices are levels of single devices, by "lane/id"; nil for none.
	Devices map[string]string
}

var logLevels = []string{"debug", "info", "warn", "error"}

// SlogLevel is a level of the configuration for package slog.
func SlogLevel(level string) slog.Level {
	var v slog.Level
	if err := v.UnmarshalText([]byte(level)); err != nil {
		return slog.LevelInfo // Parse lets no other word through
	}
	return v
}

func (r *reader) readLog(n ast.Node) {
	l := &r.c.Log
	r.Mapping(n, "log",
		yamlfile.Key{Name: "level", Read: func(n ast.Node) { l.Level = r.oneOf(n, "log.level", logLevels...) }},
		yamlfile.Key{Name: "format", Read: func(n ast.Node) { l.Format = r.oneOf(n, "log.format", "text", "json") }},
		yamlfile.Key{Name: "devices", Read: r.readLogDevices},
	)
}

// readLogDevices reads levels by the names of devices.
func (r *reader) readLogDevices(n ast.Node) {
	r.c.Log.Devices = map[string]string{}
	r.Pairs(n, "log.devices", func(key string, at, value ast.Node) {
		r.c.Log.Devices[key] = r.oneOf(value, "log.devices "+key, logLevels...)
		r.checks = append(r.checks, func() {
			var known []string
			for _, d := range r.c.devices {
				known = append(known, d.Lane+"/"+d.ID)
			}
			if slices.Contains(known, key) {
				return
			}
			hint := "name a device as lane/id"
			if near := yamlfile.Nearest(key, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			r.At(at, fmt.Sprintf("log.devices: there is no device %q", key), hint)
		})
	})
}
