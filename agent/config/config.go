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
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of a configuration.
const (
	maxLanes   = 64
	maxDevices = 256 // in all lanes together
	maxBrokers = 16
	minSilence = time.Second
	maxSilence = 24 * time.Hour
	// maxSecret bounds a password or user name file, in bytes.
	maxSecret = 4096
)

// Config is a valid configuration.
type Config struct {
	// Path is the file, SHA256 the hash of its content.
	Path, SHA256 string
	// Site is the crossing point.
	Site string
	// MQTT is nil if there is no broker.
	MQTT *MQTT
	// SpoolDir is where events are kept.
	SpoolDir string
	// Log is how to log.
	Log Log
	// Warnings are worth a look and no reason not to start.
	Warnings []yamlfile.Problem

	devices []Device
}

// Device is one instrument, ready to be run.
type Device struct {
	Lane, ID string
	Profile  *profiles.Profile
	Driver   drivers.Driver
	Endpoint link.Endpoint
	// Silence is how long it may stay without a valid record: from the device,
	// else the profile, else the driver.
	Silence time.Duration
	// New makes the instrument with its settings: the driver's defaults, over
	// them the profile's, over them the device's.
	New func() (drivers.Instrument, error)
	// Fingerprint changes when anything does that the device's run depends on.
	Fingerprint string
}

// Devices lists the devices in the order of the file.
func (c *Config) Devices() []Device { return c.devices }

// Log says how to log.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string
	// Format is "text" or "json".
	Format string
}

// SlogLevel is the level for package slog.
func (l Log) SlogLevel() slog.Level {
	var v slog.Level
	if err := v.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo // Parse lets no other word through
	}
	return v
}

// MQTT is where events go.
type MQTT struct {
	Brokers                               []string
	ClientID                              string
	Username, UsernameFile                string
	PasswordFile, PasswordEnv             string
	CAFile, CertFile, KeyFile, ServerName string
	// Window is how many messages may be under way; zero for the default.
	Window int
}

// Equal reports whether two say the same; nil is no broker.
func (m *MQTT) Equal(o *MQTT) bool { return reflect.DeepEqual(m, o) }

// TLS reports whether settings for TLS are given.
func (m *MQTT) TLS() bool { return m.CAFile != "" || m.CertFile != "" || m.ServerName != "" }

// ReadUsername gives the user name, empty for none.
func (m *MQTT) ReadUsername() (string, error) {
	if m.UsernameFile == "" {
		return m.Username, nil
	}
	return readSecret("mqtt.username_file", m.UsernameFile)
}

// ReadPassword gives the password, empty for none.
func (m *MQTT) ReadPassword() (string, error) {
	switch {
	case m.PasswordFile != "":
		return readSecret("mqtt.password_file", m.PasswordFile)
	case m.PasswordEnv != "":
		v, ok := os.LookupEnv(m.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("mqtt.password_env: there is no environment variable %s", m.PasswordEnv)
		}
		return v, nil
	}
	return "", nil
}

// readSecret reads a one-line file. The line's end is not part of the secret.
func readSecret(what, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("%s: %s has more than %d bytes", what, path, maxSecret)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

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
	c           *Config
	profilesDir string
	profiles    *profiles.Set
	lanes       map[string]ast.Node
	deviceIDs   map[string]ast.Node
	connects    map[string]ast.Node
	// open are the devices to make once the profiles are known.
	open []*rawDevice
}

// rawDevice is a device as it stands in the file.
type rawDevice struct {
	node, profileAt, connectAt, settings ast.Node
	lane, id, profile, connect           string
	link                                 map[string]string
	silence                              time.Duration
}

// Parse reads a configuration from memory. Relative paths in it count from the
// folder of name.
func Parse(name string, b []byte) (*Config, error) {
	sum := sha256.Sum256(b)
	r := &reader{
		Document: yamlfile.Parse(name, b),
		c: &Config{
			Path: name, SHA256: hex.EncodeToString(sum[:]), SpoolDir: defaultSpoolDir,
			Log: Log{Level: "info", Format: "text"},
		},
		lanes: map[string]ast.Node{}, deviceIDs: map[string]ast.Node{}, connects: map[string]ast.Node{},
	}
	if r.Root() == nil {
		return nil, r.Err()
	}
	r.Mapping(r.Root(), "the configuration",
		yamlfile.Key{Name: "site", Required: true, Read: func(n ast.Node) { r.c.Site = r.name(n, "site") }},
		yamlfile.Key{Name: "lanes", Required: true, Read: r.readLanes},
		yamlfile.Key{Name: "mqtt", Read: r.readMQTT},
		yamlfile.Key{Name: "spool", Read: func(n ast.Node) {
			r.Mapping(n, "spool", yamlfile.Key{Name: "dir", Required: true, Read: func(n ast.Node) { r.c.SpoolDir = r.path(n, "spool.dir") }})
		}},
		yamlfile.Key{Name: "profiles", Read: func(n ast.Node) { r.profilesDir = r.directory(n, "profiles") }},
		yamlfile.Key{Name: "log", Read: func(n ast.Node) {
			r.Mapping(n, "log",
				yamlfile.Key{Name: "level", Read: func(n ast.Node) { r.c.Log.Level = r.oneOf(n, "log.level", "debug", "info", "warn", "error") }},
				yamlfile.Key{Name: "format", Read: func(n ast.Node) { r.c.Log.Format = r.oneOf(n, "log.format", "text", "json") }},
			)
		}},
	)
	r.makeDevices()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return r.c, nil
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

func (r *reader) text(n ast.Node, what string) string {
	s, ok := r.Text(n, what)
	if ok && s == "" {
		r.At(n, what+" is empty", "write a value or take the key out")
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
	if s != "" && !filepath.IsAbs(s) {
		s = filepath.Join(filepath.Dir(r.c.Path), s)
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

// file reads the path of a file that must be readable.
func (r *reader) file(to *string, what string) func(ast.Node) {
	return func(n ast.Node) {
		s := r.path(n, what)
		if s == "" {
			return
		}
		f, err := os.Open(s)
		if err != nil {
			hint := "correct the path, or put the file there"
			if errors.Is(err, os.ErrPermission) {
				hint = "let the agent's user read it"
			}
			r.At(n, fmt.Sprintf("%s: %v", what, err), hint)
			return
		}
		_ = f.Close() // opened only to see whether it opens
		*to = s
	}
}

func (r *reader) readLanes(n ast.Node) {
	count := 0
	r.Sequence(n, "lanes", maxLanes, func(n ast.Node) {
		lane := ""
		var devices ast.Node
		r.Mapping(n, "a lane",
			yamlfile.Key{Name: "id", Required: true, Read: func(n ast.Node) {
				lane = r.name(n, "lane id")
				if lane == event.AgentLane {
					r.At(n, fmt.Sprintf("the lane id %q is taken", lane), "the agent's own events stand under it; call the lane otherwise")
				}
				r.unique(r.lanes, lane, n, "lane id "+lane)
			}},
			yamlfile.Key{Name: "name", Read: func(n ast.Node) { r.text(n, "lane name") }},
			yamlfile.Key{Name: "devices", Required: true, Read: func(n ast.Node) { devices = n }},
		)
		if devices == nil {
			return
		}
		r.Sequence(devices, "devices", maxDevices, func(n ast.Node) {
			if count++; count == maxDevices+1 {
				r.At(n, fmt.Sprintf("more than %d devices", maxDevices), "one agent serves at most so many; run another for the other lanes")
			}
			if count <= maxDevices {
				r.readDevice(lane, n)
			}
		})
	})
}

// unique notes the second use of a name.
func (r *reader) unique(seen map[string]ast.Node, key string, n ast.Node, what string) {
	if key == "" {
		return
	}
	if first, ok := seen[key]; ok {
		r.At(n, what+" is used twice", fmt.Sprintf("the first is in line %d", first.GetToken().Position.Line))
		return
	}
	seen[key] = n
}

func (r *reader) readDevice(lane string, n ast.Node) {
	d := &rawDevice{node: n, lane: lane, link: map[string]string{}}
	keys := []yamlfile.Key{
		{Name: "id", Required: true, Read: func(n ast.Node) {
			d.id = r.name(n, "device id")
			if d.id != "" {
				r.unique(r.deviceIDs, lane+"/"+d.id, n, "device id "+d.id)
			}
		}},
		{Name: "profile", Required: true, Read: func(n ast.Node) { d.profile, d.profileAt = r.text(n, "profile"), n }},
		{Name: "connect", Required: true, Read: func(n ast.Node) { d.connect, d.connectAt = r.text(n, "connect"), n }},
		{Name: "settings", Read: func(n ast.Node) { d.settings = n }},
		{Name: "silence", Read: func(n ast.Node) { d.silence, _ = r.Duration(n, "silence", minSilence, maxSilence) }},
	}
	// Whatever does not fit into the URL may stand beside it.
	for _, k := range []string{"baud", "data", "parity", "stop", "backend"} {
		keys = append(keys, yamlfile.Key{Name: k, Read: func(n ast.Node) {
			if v, ok := r.Text(n, k); ok {
				d.link[k] = v
			}
		}})
	}
	r.Mapping(n, "a device", keys...)
	r.open = append(r.open, d)
}

func (r *reader) makeDevices() {
	var err error
	if r.profiles, err = profiles.Load(r.profilesDir); err != nil {
		r.At(r.Root(), err.Error(), "")
		return
	}
	for _, p := range r.profiles.Problems {
		// A file that no device may need must not stop the start, but be seen.
		r.c.Warnings = append(r.c.Warnings, yamlfile.Problem{File: r.profilesDir, Text: "a profile was not read: " + p.Error()})
	}
	for _, d := range r.open {
		r.makeDevice(d)
	}
}

// errDecoded says that a settings problem has been noted with its place.
var errDecoded = errors.New("the settings are noted")

func (r *reader) makeDevice(d *rawDevice) {
	if d.profile == "" || d.connect == "" {
		return
	}
	p, ok := r.profiles.Get(d.profile)
	if !ok {
		hint := "there are " + strings.Join(r.profiles.Names(), ", ")
		if near := yamlfile.Nearest(d.profile, r.profiles.Names()); near != "" {
			hint = fmt.Sprintf("did you mean %q? %s", near, hint)
		}
		r.At(d.profileAt, fmt.Sprintf("there is no profile %q", d.profile), hint)
		return
	}
	driver, ok := registry.ByName(p.Driver)
	if !ok {
		r.At(d.profileAt, fmt.Sprintf("profile %s wants the driver %q, which this version does not have", p.Name, p.Driver), "")
		return
	}
	defaults := map[string]string{}
	for k, v := range p.Link {
		defaults[k] = v
	}
	for k, v := range d.link {
		defaults[k] = v
		if _, query, _ := strings.Cut(d.connect, "?"); query != "" {
			if q, err := url.ParseQuery(query); err == nil && q.Has(k) {
				r.At(d.connectAt, fmt.Sprintf("%s stands in connect and beside it", k), "keep one of the two")
			}
		}
	}
	endpoint, err := link.Parse(d.connect, defaults)
	if err != nil {
		r.At(d.connectAt, err.Error(), "")
		return
	}
	if !slices.Contains(driver.Schemes, endpoint.Scheme()) {
		r.At(d.connectAt, fmt.Sprintf("profile %s can't be reached by %s:", p.Name, endpoint.Scheme()), "use one of "+strings.Join(driver.Schemes, ", "))
		return
	}
	place, _, _ := strings.Cut(endpoint.String(), "?")
	r.unique(r.connects, place, d.connectAt, place+", which serves one client,")

	device := Device{Lane: d.lane, ID: d.id, Profile: p, Driver: driver, Endpoint: endpoint, Silence: d.silence}
	if device.Silence == 0 {
		device.Silence = p.Silence
	}
	if device.Silence == 0 {
		device.Silence = driver.Silence
	}
	// The first making checks the settings; its problems are noted where they
	// stand.
	_, err = driver.New(func(settings any) error {
		if err := p.Decode(settings); err != nil {
			return fmt.Errorf("profile %s: %w", p.Name, err)
		}
		if d.settings != nil && !r.Decode(d.settings, "settings", settings) {
			return errDecoded
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDecoded) {
		at := d.settings
		if at == nil {
			at = d.profileAt
		}
		r.At(at, err.Error(), "")
	}
	settings := d.settings
	file := r.c.Path
	device.New = func() (drivers.Instrument, error) {
		return driver.New(func(into any) error {
			if err := p.Decode(into); err != nil {
				return err
			}
			if settings == nil {
				return nil
			}
			again := yamlfile.Parse(file, []byte("{}"))
			again.Decode(settings, "settings", into)
			return again.Err()
		})
	}
	var plain any
	if d.settings != nil {
		plain = r.Any(d.settings)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{
		d.lane, d.id, p.Name, p.Source(), endpoint.String(), device.Silence.String(), yamlfile.Canonical(plain),
	}, "\x00")))
	device.Fingerprint = hex.EncodeToString(sum[:])
	r.c.devices = append(r.c.devices, device)
}

// brokerSchemes are the kinds of broker URL, and whether TLS guards them.
var brokerSchemes = map[string]bool{
	"tcp": false, "mqtt": false, "ws": false, "tls": true, "ssl": true, "mqtts": true, "wss": true,
}

func (r *reader) readMQTT(n ast.Node) {
	m := &MQTT{}
	r.c.MQTT = m
	text := func(to *string, what string) func(ast.Node) {
		return func(n ast.Node) { *to = r.text(n, what) }
	}
	secure, count := false, 0
	var tlsAt, certAt, passwordAt, userAt ast.Node
	guarded := func(read func(ast.Node)) func(ast.Node) {
		return func(n ast.Node) { tlsAt = n; read(n) }
	}
	r.Mapping(n, "mqtt",
		yamlfile.Key{Name: "brokers", Required: true, Read: func(n ast.Node) {
			r.Sequence(n, "mqtt.brokers", maxBrokers, func(n ast.Node) {
				count++
				if s, ok := r.Text(n, "a broker"); ok && r.checkBroker(n, s, &secure) {
					m.Brokers = append(m.Brokers, s)
				}
			})
			if count == 0 {
				r.At(n, "mqtt.brokers is empty", "name at least one broker, or take the mqtt section out")
			}
		}},
		yamlfile.Key{Name: "client_id", Read: text(&m.ClientID, "mqtt.client_id")},
		yamlfile.Key{Name: "username", Read: func(n ast.Node) { m.Username, userAt = r.text(n, "mqtt.username"), n }},
		yamlfile.Key{Name: "username_file", Read: r.file(&m.UsernameFile, "mqtt.username_file")},
		yamlfile.Key{Name: "password", Instead: "passwords don't belong in this file: write it to a file of its own and name that with password_file, or use password_env"},
		yamlfile.Key{Name: "password_file", Read: func(n ast.Node) { passwordAt = n; r.file(&m.PasswordFile, "mqtt.password_file")(n) }},
		yamlfile.Key{Name: "password_env", Read: func(n ast.Node) {
			if passwordAt != nil {
				r.At(n, "password_file and password_env are both given", "keep one of the two")
			}
			passwordAt = n
			m.PasswordEnv = r.text(n, "mqtt.password_env")
			if _, ok := os.LookupEnv(m.PasswordEnv); m.PasswordEnv != "" && !ok {
				r.At(n, fmt.Sprintf("there is no environment variable %s", m.PasswordEnv), "set it for the agent, for instance with Environment= in its systemd unit")
			}
		}},
		yamlfile.Key{Name: "ca_file", Read: guarded(r.file(&m.CAFile, "mqtt.ca_file"))},
		yamlfile.Key{Name: "cert_file", Read: guarded(func(n ast.Node) { certAt = n; r.file(&m.CertFile, "mqtt.cert_file")(n) })},
		yamlfile.Key{Name: "key_file", Read: guarded(func(n ast.Node) {
			if certAt == nil {
				certAt = n
			}
			r.file(&m.KeyFile, "mqtt.key_file")(n)
		})},
		yamlfile.Key{Name: "server_name", Read: guarded(text(&m.ServerName, "mqtt.server_name"))},
		yamlfile.Key{Name: "window", Read: func(n ast.Node) { m.Window, _ = r.Whole(n, "mqtt.window", 1, 1024) }},
	)
	if tlsAt != nil && !secure && len(m.Brokers) > 0 {
		r.At(tlsAt, "settings for TLS, but no broker is reached by TLS", "write tls:// before the broker's name")
	}
	if (m.CertFile == "") != (m.KeyFile == "") && !r.Failed() {
		r.At(certAt, "a client certificate needs both cert_file and key_file", "add the other one")
	}
	if userAt != nil && m.UsernameFile != "" {
		r.At(userAt, "username and username_file are both given", "keep one of the two")
	}
	if passwordAt != nil && userAt == nil && m.UsernameFile == "" {
		r.At(passwordAt, "a password without a username", "add username")
	}
}

func (r *reader) checkBroker(n ast.Node, s string, secure *bool) bool {
	u, err := url.Parse(s)
	// The text is not repeated: a password may stand in it.
	if err == nil && u.User != nil {
		r.At(n, "a broker URL with a user name", "take it out of the URL and use username and password_file")
		return false
	}
	if err != nil || u.Host == "" || u.Hostname() == "" {
		r.At(n, "the broker is not a URL", "for instance tls://mqtt.example:8883")
		return false
	}
	guarded, known := brokerSchemes[u.Scheme]
	if !known {
		r.At(n, fmt.Sprintf("the broker's kind of link %q is not known", u.Scheme), "use tls:// or tcp://")
		return false
	}
	if guarded {
		*secure = true
	}
	return true
}
