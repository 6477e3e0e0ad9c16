// Package config reads the agent's configuration: one YAML file. It refuses what
// it does not know and says everything that is wrong at once, each with line,
// column, the offending text and what to do.
//
// No secret ever stands in the file or in a Config: passwords are named by the
// file or the environment variable that holds them, and read when they are
// needed.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/daily"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// Bounds of a configuration.
const (
	maxLanes   = 64
	maxDevices = 256 // in all lanes together
	maxBrokers = 16
	maxWindow  = 1024
	minSilence = time.Second
	maxSilence = 24 * time.Hour
	// maxSecret bounds a password or user name file, maxPEM one with
	// certificates or a key, in bytes.
	maxSecret = 4096
	maxPEM    = 1 << 20
	// maxText bounds a name, a path or a URL, in bytes.
	maxText = 4096
)

// Config is a valid configuration.
type Config struct {
	// Path is the file, SHA256 the hash of its content.
	Path, SHA256 string
	// Site is the crossing point.
	Site string
	// MQTT are the uplinks; empty if there is no broker.
	MQTT []*MQTT
	// Spool is where and how events are kept.
	Spool Spool
	// Evidence says how often the hash chains are signed.
	Evidence Evidence
	// Log is how to log.
	Log    Log
	Plates Plates
	// Console says what is shown of the running agent, and to whom.
	Console Console
	// Daily says where daily files are kept; without a Dir there are none.
	Daily daily.Settings
	// ProfileDir is the directory of the site's own profiles; empty for none.
	ProfileDir string
	// Files are all that the agent must be able to read: the file itself, and those
	// that it, its links and the settings of its devices name. Each stands here once.
	Files []string
	// Warnings are worth a look and no reason not to start.
	Warnings []yamlfile.Problem

	devices []Device
	// scanFiles is by lane how long the files of an X-ray scan are waited for.
	scanFiles map[string]time.Duration
}

// Devices lists the devices in the order of the file.
func (c *Config) Devices() []Device { return c.devices }

// Load reads the configuration file and what it refers to. The error, if the
// file is wrong, is a yamlfile.Problems.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	b, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, b)
}

// Lines gives an error as one text for each problem, without snippets.
func Lines(err error) []string {
	var p yamlfile.Problems
	if !errors.As(err, &p) {
		return []string{err.Error()}
	}
	list := make([]string, 0, len(p))
	for _, one := range p {
		one.Snippet = ""
		list = append(list, strings.ReplaceAll(one.String(), "\n    ", "; "))
	}
	return list
}

// reader reads one file.
type reader struct {
	*yamlfile.Document
	c          *Config
	profilesAt ast.Node // nil if there are only the built-in ones
	profileDir string
	profiles   *profiles.Set
	// lanes and uplinks are the names so far; checks are of what can be known only
	// when all is read.
	lanes, uplinks map[string]ast.Node
	checks         []func()
	// places and ports are the links so far, by their URL and by their device
	// file.
	places, ports map[string]ast.Node
	lines         map[string]bool // serial lines with Modbus units
	// tees are the addresses of tees so far, dailyAt is nil without daily files.
	tees    map[string]ast.Node
	dailyAt ast.Node
	// open are the devices to make once the profiles are known.
	open []*rawDevice
}

// Parse reads a configuration from memory. Relative paths in it count from the
// folder of name.
func Parse(name string, b []byte) (*Config, error) {
	sum := sha256.Sum256(b)
	r := &reader{
		Document: yamlfile.Parse(name, b),
		c: &Config{
			Path: name, Files: []string{name}, SHA256: hex.EncodeToString(sum[:]), Spool: Spool{Dir: defaultSpoolDir},
			Evidence: Evidence{CheckpointEvents: defaultCheckpointEvents, CheckpointEvery: defaultCheckpointEvery},
			Log:      Log{Level: "info", Format: "text"}, Console: defaultConsole, scanFiles: map[string]time.Duration{},
		},
		places: map[string]ast.Node{}, ports: map[string]ast.Node{}, lines: map[string]bool{},
		tees:  map[string]ast.Node{},
		lanes: map[string]ast.Node{}, uplinks: map[string]ast.Node{},
	}
	if r.Root() == nil {
		return nil, r.Err()
	}
	r.Mapping(r.Root(), "the configuration",
		yamlfile.Key{Name: "site", Required: true, Read: func(n ast.Node) {
			r.c.Site = r.name(n, "site")
			r.checks = append(r.checks, func() { r.checkSite(n) })
		}},
		yamlfile.Key{Name: "lanes", Required: true, Read: r.readLanes},
		yamlfile.Key{Name: "mqtt", Read: r.readMQTT},
		yamlfile.Key{Name: "spool", Read: r.readSpool},
		yamlfile.Key{Name: "evidence", Read: r.readEvidence},
		yamlfile.Key{Name: "plates", Read: r.readPlates},
		yamlfile.Key{Name: "daily", Read: r.readDaily},
		yamlfile.Key{Name: "profiles", Read: func(n ast.Node) {
			r.profileDir, r.profilesAt = r.directory(n, "profiles"), n
			r.c.ProfileDir = r.profileDir
		}},
		yamlfile.Key{Name: "console", Read: r.readConsole},
		yamlfile.Key{Name: "log", Read: r.readLog},
	)
	r.makeDevices()
	r.checkDaily()
	for _, check := range r.checks {
		check()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if len(r.c.devices) == 0 {
		r.warn(r.Root(), "no device is configured, so nothing is observed", "")
	}
	return r.c, nil
}

// warn notes what is worth a look.
func (r *reader) warn(n ast.Node, text, hint string) {
	p := r.ProblemAt(n, text, hint)
	p.Snippet = "" // a warning is one line of a log
	r.c.Warnings = append(r.c.Warnings, p)
}

// Evidence says how often the heads of the hash chains are signed: after so many
// events, or when so much time has passed since the last time and there are new
// ones.
type Evidence struct {
	CheckpointEvents int
	CheckpointEvery  time.Duration
}

// Defaults of Evidence.
const (
	defaultCheckpointEvents = 1000
	defaultCheckpointEvery  = time.Minute
)

func (r *reader) readEvidence(n ast.Node) {
	e := &r.c.Evidence
	r.Mapping(n, "evidence",
		yamlfile.Key{Name: "checkpoint_events", Read: func(n ast.Node) {
			e.CheckpointEvents, _ = r.Whole(n, "evidence.checkpoint_events", 10, 1_000_000)
		}},
		yamlfile.Key{Name: "checkpoint_every", Read: func(n ast.Node) {
			e.CheckpointEvery, _ = r.Duration(n, "evidence.checkpoint_every", time.Second, 24*time.Hour)
		}},
	)
}

// defaultSpoolDir is where a package puts the spool.
const defaultSpoolDir = "/var/lib/lanepost"

// name reads an id.
func (r *reader) name(n ast.Node, what string) string {
	s, ok := r.Text(n, what)
	if ok && !profiles.ValidName(s) {
		r.At(n, fmt.Sprintf("%s %q can't stand in a topic", what, s), profiles.NameRule)
		return ""
	}
	return s
}

// text reads a text of one line.
func (r *reader) text(n ast.Node, what string) string {
	s, ok := r.Text(n, what)
	switch {
	case !ok:
		return ""
	case strings.TrimSpace(s) == "":
		r.At(n, what+" is empty", "write a value or take the key out")
		return ""
	case len(s) > maxText:
		r.At(n, fmt.Sprintf("%s has %d bytes", what, len(s)), fmt.Sprintf("at most %d are allowed", maxText))
		return ""
	case strings.ContainsFunc(s, unicode.IsControl):
		r.At(n, what+" has a line break or another control character", "write it on one line")
		return ""
	}
	return s
}

func (r *reader) oneOf(n ast.Node, what string, words ...string) string {
	s, ok := r.Text(n, what)
	if ok && !slices.Contains(words, s) {
		hint := "want " + strings.Join(words, ", ")
		if near := yamlfile.Nearest(s, words); near != "" {
			hint += fmt.Sprintf("; did you mean %q?", near)
		}
		r.At(n, fmt.Sprintf("%s is %q", what, s), hint)
	}
	return s
}

// path reads a path, which counts from the folder of the configuration.
func (r *reader) path(n ast.Node, what string) string {
	s := r.text(n, what)
	switch {
	case s == "":
		return ""
	case strings.HasPrefix(s, "~"), strings.HasPrefix(s, "$"):
		r.At(n, fmt.Sprintf("%s: %s is for a shell to understand", what, s), "write the path in full")
		return ""
	case !filepath.IsAbs(s):
		return filepath.Join(filepath.Dir(r.c.Path), s)
	}
	return s
}

// directory reads the path of a directory that must be there.
func (r *reader) directory(n ast.Node, what string) string {
	s := r.path(n, what)
	if s == "" {
		return ""
	}
	if st, err := os.Stat(s); err != nil || !st.IsDir() {
		r.At(n, fmt.Sprintf("%s: there is no directory %s", what, s), "make it, or correct the path")
		return ""
	}
	return s
}

// file reads the path of a file, and its content, to see that it can be read.
// The content is nil if it can't.
func (r *reader) file(n ast.Node, what string, most int64) (path string, content []byte) {
	path = r.path(n, what)
	if path == "" {
		return "", nil
	}
	r.needs(path)
	b, err := readFile(path, most)
	if err != nil {
		hint := "correct the path, or put the file there"
		if errors.Is(err, os.ErrPermission) {
			hint = "let the agent's user read it"
		}
		r.At(n, fmt.Sprintf("%s: %v", what, err), hint)
		return path, nil
	}
	return path, b
}

// needs notes a file that the agent reads.
func (r *reader) needs(path string) {
	if !slices.Contains(r.c.Files, path) {
		r.c.Files = append(r.c.Files, path)
	}
}

// secretFile reads the path of a file with a secret in it.
func (r *reader) secretFile(n ast.Node, what string) string {
	path, b := r.file(n, what, maxSecret)
	if b != nil {
		if _, err := readSecret(what, path); err != nil {
			r.At(n, err.Error(), "write one line of text into it")
		}
	}
	return path
}

// unique notes the second use of a name.
func (r *reader) unique(seen map[string]ast.Node, key string, n ast.Node, what string) {
	if key == "" {
		return
	}
	if first, ok := seen[key]; ok {
		r.At(n, what+" is used twice", fmt.Sprintf("the first is in line %d; change one of the two", yamlfile.Line(first)))
		return
	}
	seen[key] = n
}
