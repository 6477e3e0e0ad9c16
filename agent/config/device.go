package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/agent/tee"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// Device is one instrument, ready to be run.
type Device struct {
	Lane, ID string
	// LaneName is the lane's name for people, empty if it has none. Events bear
	// ids only.
	LaneName string
	Profile  *profiles.Profile
	Driver   drivers.Driver
	Endpoint link.Endpoint
	// Silence is how long it may stay without a valid record: from the device,
	// else the profile, else the driver.
	Silence time.Duration
	// New makes the instrument with its settings: the driver's defaults, over
	// them the profile's, over them the device's.
	New func() (drivers.Instrument, error)
	// Fingerprint changes if, and only if, something does that the device's run
	// depends on: its names, driver, link, silence limit, or a setting, whether
	// this file, the profile or the driver's defaults say so.
	Fingerprint string
	// Tee says where others may read along what the device sends; nil for nowhere.
	// Like Daily it is no part of the device's run, and not of the Fingerprint.
	Tee *tee.Settings
	// Daily is what its daily files are called behind the site, LANE-DEVICE; empty if
	// it has none.
	Daily string
}

// rawDevice is a device as it stands in the file.
type rawDevice struct {
	profileAt, connectAt, settings       ast.Node
	teeAt                                ast.Node
	tee                                  *tee.Settings
	lane, laneName, id, profile, connect string
	beside                               []besideKey
	silence                              time.Duration
}

// besideKey is an option of the link that stands beside the URL.
type besideKey struct {
	name, value string
	at          ast.Node
}

// defaultScanFiles is how long the files of an X-ray scan are waited for before it is told
// that none came.
const defaultScanFiles = 30 * time.Minute

// Scans says what a lane has that tells of X-ray scans: a state bus, and a scanner that
// gives files, for which it is waited so long; zero without one.
func (c *Config) Scans(lane string) (filesWithin time.Duration, stateBus bool) {
	for _, d := range c.devices {
		switch {
		case d.Lane != lane:
		case d.Driver.Name == "state-bus":
			stateBus = true
		case strings.HasPrefix(d.Driver.Name, "xray-"):
			filesWithin = c.scanFiles[lane]
		}
	}
	return filesWithin, stateBus
}

func (r *reader) readLanes(n ast.Node) {
	count := 0
	r.Sequence(n, "lanes", maxLanes, func(n ast.Node) {
		lane, laneName, within := "", "", defaultScanFiles
		var devices ast.Node
		r.Mapping(n, "a lane",
			yamlfile.Key{Name: "id", Required: true, Read: func(n ast.Node) {
				lane = r.name(n, "lane id")
				if lane == event.AgentLane {
					r.At(n, fmt.Sprintf("the lane id %q is taken", lane), "the agent's own events stand under it; call the lane otherwise")
				}
				r.unique(r.lanes, lane, n, "lane id "+lane)
			}},
			yamlfile.Key{Name: "name", Read: func(n ast.Node) { laneName = r.text(n, "lane name") }},
			yamlfile.Key{Name: "scan_files_within", Read: func(n ast.Node) {
				if d, ok := r.Duration(n, "scan_files_within", time.Minute, 7*24*time.Hour); ok {
					within = d
				}
			}},
			yamlfile.Key{Name: "devices", Required: true, Read: func(n ast.Node) { devices = n }},
		)
		r.c.scanFiles[lane] = within
		if devices == nil {
			return
		}
		ids := map[string]ast.Node{}
		r.Sequence(devices, "devices", maxDevices, func(n ast.Node) {
			if count++; count == maxDevices+1 {
				r.At(n, fmt.Sprintf("more than %d devices", maxDevices), "one agent serves at most so many; run another for the other lanes")
			}
			if count <= maxDevices {
				r.readDevice(n, &rawDevice{lane: lane, laneName: laneName}, ids)
			}
		})
	})
}

// besideSchemes are the options of a link that may stand beside its URL, with the
// kinds of link that know them.
var besideSchemes = link.Options()

func (r *reader) readDevice(n ast.Node, d *rawDevice, ids map[string]ast.Node) {
	keys := []yamlfile.Key{
		{Name: "id", Required: true, Read: func(n ast.Node) {
			d.id = r.name(n, "device id")
			r.unique(ids, d.id, n, "device id "+d.id)
		}},
		{Name: "profile", Required: true, Read: func(n ast.Node) { d.profile, d.profileAt = r.text(n, "profile"), n }},
		{Name: "connect", Required: true, Read: func(n ast.Node) { d.connect, d.connectAt = r.text(n, "connect"), n }},
		{Name: "settings", Read: func(n ast.Node) { d.settings = n }},
		{Name: "tee", Read: func(n ast.Node) { d.tee, d.teeAt = r.readTee(n), n }},
		{Name: "silence", Read: func(n ast.Node) { d.silence, _ = r.Duration(n, "silence", minSilence, maxSilence) }},
	}
	own := len(keys)
	for name := range besideSchemes {
		keys = append(keys, yamlfile.Key{Name: name, Read: func(n ast.Node) {
			if v := r.text(n, name); v != "" {
				d.beside = append(d.beside, besideKey{name, v, n})
			}
		}})
	}
	order.By(keys[own:], func(a, b yamlfile.Key) int { return cmp.Compare(a.Name, b.Name) })
	what := "a device"
	if id := yamlfile.Value(n, "id"); id != nil && profiles.ValidName(id.String()) {
		what = "device " + d.lane + "/" + id.String()
	}
	r.Mapping(n, what, keys...)
	r.open = append(r.open, d)
}

func (r *reader) makeDevices() {
	var err error
	if r.profiles, err = profiles.Load(r.profileDir); err != nil {
		at := r.Root()
		if r.profilesAt != nil {
			at = r.profilesAt
		}
		r.At(at, err.Error(), "")
		return
	}
	r.profiles.CheckDrivers(registry.ByName)
	missing := false
	for _, d := range r.open {
		if _, ok := r.profiles.Get(d.profile); d.profile != "" && (!ok || r.profiles.Spoiled(d.profile)) {
			missing = true
		}
		r.makeDevice(d)
	}
	// A profile file that no device may need must not stop the start, but be
	// seen. It may be why a profile is missing.
	if missing {
		r.Include(r.profiles.Problems)
	}
	for _, p := range r.profiles.Problems {
		p.Snippet = ""
		p.Text = "profile not read: " + p.Text
		r.c.Warnings = append(r.c.Warnings, p)
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
		if r.profiles.Spoiled(d.profile) {
			r.At(d.profileAt, fmt.Sprintf("the profile %q can't be used as its file is", d.profile), "mend that file; what is wrong with it stands here too")
			return
		}
		hint := "there are " + strings.Join(r.profiles.Names(), ", ")
		if near := yamlfile.Nearest(d.profile, r.profiles.Names()); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.At(d.profileAt, fmt.Sprintf("there is no profile %q", d.profile), hint)
		return
	}
	if r.profiles.Spoiled(d.profile) {
		r.At(d.profileAt, fmt.Sprintf("the profile %s of the profiles directory is not valid", d.profile),
			"mend its file, or take it away to use the built-in one if there is one")
		return
	}
	driver, ok := registry.ByName(p.Driver)
	if !ok {
		r.At(d.profileAt, fmt.Sprintf("profile %s wants the driver %q, which this version does not have", p.Name, p.Driver), "")
		return
	}
	endpoint, linked := r.endpoint(d, p, driver)
	device := Device{
		Lane: d.lane, LaneName: d.laneName, ID: d.id,
		Profile: p, Driver: driver, Endpoint: endpoint, Silence: d.silence,
	}
	if device.Silence == 0 {
		device.Silence = p.Silence
	}
	if device.Silence == 0 {
		device.Silence = driver.Silence
	}
	// The first making checks the settings; its problems are noted where they
	// stand.
	var effective any
	_, err := driver.New(func(settings any) error {
		effective = settings
		if err := p.Decode(settings); err != nil {
			return err
		}
		if d.settings != nil && !r.Decode(d.settings, "settings", settings) {
			return errDecoded
		}
		return nil
	})
	if err != nil {
		if !errors.Is(err, errDecoded) {
			profiles.NoteSettings(r.Document, d.settings, d.profileAt, err)
		}
		return
	}
	settings, document := d.settings, r.Fresh()
	device.New = func() (drivers.Instrument, error) {
		return driver.New(func(into any) error {
			if err := p.Decode(into); err != nil {
				return err
			}
			if settings == nil {
				return nil
			}
			again := document.Fresh()
			again.Decode(settings, "settings", into)
			return again.Err()
		})
	}
	if !linked {
		return
	}
	written, err := yaml.Marshal(effective)
	if err != nil {
		r.At(d.profileAt, fmt.Sprintf("driver %s: its settings can't be compared: %v", driver.Name, err), "")
		return
	}
	r.noteFiles(endpoint, written)
	sum := sha256.Sum256([]byte(strings.Join([]string{
		d.lane, d.id, p.Name, driver.Name, endpoint.String(), device.Silence.String(), string(written),
	}, "\x00")))
	device.Fingerprint = hex.EncodeToString(sum[:])
	device.Tee = d.tee
	if r.dailyAt != nil && isDaily(driver, endpoint) {
		device.Daily = d.lane + "-" + d.id
	}
	r.c.devices = append(r.c.devices, device)
}

// noteFiles notes the files of a device: a link's option and a setting that end in _file
// name one.
func (r *reader) noteFiles(e link.Endpoint, settings []byte) {
	note := func(name string, v any) {
		if path, ok := v.(string); ok && path != "" && strings.HasSuffix(name, "_file") {
			r.needs(path)
		}
	}
	var named yaml.MapSlice
	if yaml.Unmarshal(settings, &named) == nil { // else the driver has no settings
		for _, one := range named {
			name, _ := one.Key.(string)
			note(name, one.Value)
		}
	}
	_, options, _ := strings.Cut(e.String(), "?")
	for option := range strings.SplitSeq(options, "&") {
		name, value, _ := strings.Cut(option, "=")
		if path, err := url.QueryUnescape(value); err == nil {
			note(name, path)
		}
	}
}

// endpoint makes a device's link of its URL, what stands beside that, and the
// profile's defaults.
func (r *reader) endpoint(d *rawDevice, p *profiles.Profile, driver drivers.Driver) (link.Endpoint, bool) {
	connect, beside := d.connect, d.beside
	scheme, _, _ := strings.Cut(strings.ToLower(connect), ":")
	_, query, _ := strings.Cut(connect, "?")
	if !link.Known(scheme) {
		beside = nil // link.Parse says what is wrong with the URL
	}
	ok := true
	for _, b := range beside {
		if known := besideSchemes[b.name]; !slices.Contains(known, scheme) {
			r.At(b.at, fmt.Sprintf("%s does not belong to a %s: link", b.name, scheme), "take it out; it is for "+strings.Join(known, ": and ")+":")
			ok = false
			continue
		}
		if strings.HasPrefix(query, b.name+"=") || strings.Contains(query, "&"+b.name+"=") {
			r.At(b.at, b.name+" stands in connect and beside it", fmt.Sprintf("keep one of the two; connect is in line %d", yamlfile.Line(d.connectAt)))
			ok = false
			continue
		}
		sign := "&"
		if !strings.Contains(connect, "?") {
			sign = "?"
		}
		connect += sign + b.name + "=" + strings.ReplaceAll(url.PathEscape(b.value), "&", "%26")
	}
	if !ok {
		return nil, false
	}
	endpoint, err := link.Parse(connect, p.Link)
	switch {
	case err == nil && slices.Contains(driver.Schemes, endpoint.Scheme()):
		r.onlyClient(d, endpoint)
		r.checkTee(d, endpoint)
		return endpoint, true
	case err == nil:
		r.At(d.connectAt, fmt.Sprintf("profile %s can't be reached by %s:", p.Name, endpoint.Scheme()), "use one of "+strings.Join(driver.Schemes, ", "))
		return nil, false
	}
	// Each of its lines is one mistake, and after the semicolon comes the mend.
	for line := range strings.Lines(err.Error()) {
		text, hint, _ := strings.Cut(strings.TrimSpace(line), "; ")
		at := d.connectAt
		for _, b := range beside {
			if strings.Contains(text, " "+b.name+"=") {
				at = b.at
			}
		}
		r.At(at, text, hint)
	}
	return nil, false
}

// onlyClient refuses a second device on the same link: a portal's controller
// serves one client, and a serial port one program.
func (r *reader) onlyClient(d *rawDevice, e link.Endpoint) {
	place, options, _ := strings.Cut(e.String(), "?")
	line := place
	if strings.HasPrefix(e.Scheme(), "modbus-") { // behind a gateway, or on a line, there are several units
		unit, _, _ := strings.Cut(options, "&")
		place += "?" + unit
	}
	if u, err := url.Parse(place); err == nil && e.Scheme() == "tcp" {
		host := strings.ToLower(u.Hostname())
		if ip, err := netip.ParseAddr(host); err == nil {
			host = ip.String() // one of the ways to write it
		}
		place = "tcp://" + net.JoinHostPort(host, u.Port())
	}
	r.unique(r.places, place, d.connectAt, place+", which serves one client,")
	port, isSerial := strings.CutPrefix(strings.TrimPrefix(line, "modbus-rtu:"), "serial:")
	isSerial = isSerial || e.Scheme() == "modbus-rtu"
	if !isSerial {
		return
	}
	// Two names of one port, as udev makes them. Which name leads where changes
	// with what is plugged in, so this stops no start.
	if name, err := url.PathUnescape(port); err == nil {
		if target, err := filepath.EvalSymlinks(name); err == nil {
			if first, ok := r.ports[target]; ok && e.Scheme() == "modbus-rtu" && r.lines[line] {
				return // another unit on the same line
			} else if ok && yamlfile.Line(first) != yamlfile.Line(d.connectAt) {
				r.warn(d.connectAt, fmt.Sprintf("%s is the same port as that in line %d, %s", name, yamlfile.Line(first), target), "give each device its own")
				return
			}
			r.ports[target] = d.connectAt
			if e.Scheme() == "modbus-rtu" {
				r.lines[line] = true
			}
		}
	}
}
