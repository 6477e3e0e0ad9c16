// Package profiles holds the firmware profiles: what is known of a family of
// instruments as data. A profile names the driver, the defaults of its link,
// the driver's settings, and self-test vectors: bytes that come in, and the
// events that must come out.
//
// The profiles in this folder are embedded in the program. A directory on disk
// can replace them and add to them.
package profiles

import (
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

//go:generate go run ../cmd/internal/pack . packed *.yaml

// embedded has the profiles compressed: the box has little room. A test says when they are
// not those of the folder.
//
//go:embed packed/*.yaml.gz
var embedded embed.FS

// packed is where they lie.
const packed = "packed"

// unpack gives the text of a built-in profile.
func unpack(name string) ([]byte, error) {
	f, err := embedded.Open(path.Join(packed, name+".gz"))
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(z, yamlfile.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return b, nil
}

// Bounds of profiles.
const (
	maxProfiles = 500
	maxVectors  = 200
	maxList     = 100
	// minSilence and maxSilence bound a silence limit.
	minSilence = time.Second
	maxSilence = 24 * time.Hour
)

// Profile is one profile.
type Profile struct {
	// Name is what a configuration calls it.
	Name string
	// Summary is one line for a person.
	Summary string
	// Driver is the name of its driver.
	Driver string
	// Evidence says how certain it is: "verified" on captures of real devices,
	// "documented" by a vendor or by working software of others, or "assumed".
	Evidence string
	// Products are what it is for.
	Products []Product
	// Link holds defaults for connect URLs, by the names of their options.
	Link map[string]string
	// Silence is how long a healthy instrument stays quiet at the most; zero
	// leaves it to the driver.
	Silence time.Duration
	// Caveats are what a technician should know.
	Caveats []Caveat
	// Identify is how it is told from others.
	Identify Identify
	// Vectors are its self-tests.
	Vectors []Vector
	// Origin is "built in", or "local: " and the file.
	Origin string

	file     string
	source   []byte
	driverAt ast.Node
	linkAt   map[string]ast.Node
	settings ast.Node // nil if there are none

	// decoding guards doc: one profile serves several devices at once, and the
	// YAML library does not say that its trees may be shared.
	decoding sync.Mutex
	doc      *yamlfile.Document
}

// Product is a make of instrument.
type Product struct {
	Vendor   string `yaml:"vendor"`
	Model    string `yaml:"model"`
	Firmware string `yaml:"firmware"`
}

// Caveat is a warning with a link to more.
type Caveat struct {
	Text string `yaml:"text"`
	Link string `yaml:"link"`
}

// Source is the profile's text.
func (p *Profile) Source() string { return string(p.source) }

// Decode fills the driver's settings from the profile. The error is a
// yamlfile.Problems.
func (p *Profile) Decode(settings any) error { return p.decode(p.settings, settings) }

func (p *Profile) decode(n ast.Node, settings any) error {
	if n == nil {
		return nil
	}
	p.decoding.Lock()
	defer p.decoding.Unlock()
	d := p.doc.Fresh()
	d.Decode(n, "settings", settings)
	return d.Err()
}

// Lookup finds a driver by name.
type Lookup func(name string) (drivers.Driver, bool)

// Set is all profiles by name. It is for one goroutine.
type Set struct {
	// byName are those from disk, and those built-in ones that were asked for: reading
	// all of them takes longer than the rest of a start. builtIn are the names of these.
	byName  map[string]*Profile
	builtIn map[string]bool
	// Problems are what is wrong with the profile files on disk. The profiles of
	// such files are not in the set; everything else is, and so is a built-in
	// profile that such a file was to replace: see Spoiled.
	Problems yamlfile.Problems
	// spoiled are the names that such files bear.
	spoiled map[string]bool
}

// Spoiled reports whether a file on disk was to give a profile of this name and
// is not valid. What the set has under the name then, if anything, is not what
// the operator wrote: a device must not run on it unasked.
func (s *Set) Spoiled(name string) bool { return s.spoiled[name] }

// Load finds the built-in profiles, and reads those of a directory if dir is not
// empty. A file of the directory that can't be read does not take the others
// away: it is told in Problems. Load fails only if the directory itself can't be
// read.
func Load(dir string) (*Set, error) {
	s := &Set{byName: map[string]*Profile{}, builtIn: map[string]bool{}, spoiled: map[string]bool{}}
	entries, err := embedded.ReadDir(packed)
	if err != nil {
		return nil, fmt.Errorf("built-in profiles: %w", err)
	}
	for _, e := range entries {
		s.builtIn[strings.TrimSuffix(e.Name(), ".yaml.gz")] = true
	}
	if dir == "" {
		return s, nil
	}
	if err := s.addAll(os.DirFS(dir), dir); err != nil {
		return nil, fmt.Errorf("read the profiles in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Set) addAll(from fs.FS, dir string) error {
	entries, err := fs.ReadDir(from, ".")
	if err != nil {
		return err
	}
	fromHere := map[string]string{}
	read := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yml") && !strings.HasPrefix(e.Name(), ".") {
			s.refuse(filepath.Join(dir, e.Name()), "the file of a profile ends in .yaml, so this one is not read", "rename it")
		}
		if !strings.HasSuffix(e.Name(), ".yaml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if read++; read > maxProfiles {
			s.refuse(path, fmt.Sprintf("more than %d profiles in one directory", maxProfiles), "take some out; this one and those after it were not read")
			break
		}
		b, err := readBounded(from, e.Name())
		if err != nil {
			s.refuse(path, err.Error(), "")
			continue
		}
		p, err := parseProfile(path, b)
		if err != nil {
			s.reject(p, err)
			continue
		}
		if other, twice := fromHere[p.Name]; twice {
			s.spoiled[p.Name] = true
			s.refuse(path, fmt.Sprintf("profile %s is in %s already", p.Name, other), "rename one of them; no device can use the profile until then")
			continue
		}
		fromHere[p.Name] = path
		p.Origin = "local: " + path
		s.byName[p.Name] = p
	}
	return nil
}

func (s *Set) refuse(path, text, hint string) {
	s.Problems = append(s.Problems, yamlfile.Problem{File: path, Text: text, Hint: hint})
}

// reject notes what is wrong with a profile, and what it means for the built-in
// one of its name, if there is one.
func (s *Set) reject(p *Profile, err error) {
	var problems yamlfile.Problems
	if !errors.As(err, &problems) {
		problems = yamlfile.Problems{{File: p.file, Text: err.Error()}}
	}
	s.Problems = append(s.Problems, problems...)
	name := p.Name
	if name == "" { // the file is not even YAML
		if m := nameLine.FindSubmatch(p.source); m != nil {
			name = string(m[1])
		}
	}
	s.spoiled[name] = true
	if s.builtIn[name] {
		s.refuse(p.file, fmt.Sprintf("no device can use the profile %s until this file is mended or taken away", name), "")
	}
}

// nameLine finds the name in a file that can't be read.
var nameLine = regexp.MustCompile(`(?m)^profile:[ \t]*["']?([a-z0-9-]+)`)

// CheckDrivers tries each profile from disk with its driver. One that has none,
// or settings that the driver refuses, goes to Problems, and the built-in
// profile of its name comes back.
func (s *Set) CheckDrivers(lookup Lookup) {
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		p := s.byName[name]
		if p.Origin == builtInOrigin {
			continue
		}
		if err := p.checkDriver(lookup); err != nil {
			delete(s.byName, name)
			s.reject(p, err)
		}
	}
}

func (p *Profile) checkDriver(lookup Lookup) error {
	d, ok := lookup(p.Driver)
	if !ok {
		doc := p.doc.Fresh()
		doc.At(p.driverAt, fmt.Sprintf("there is no driver %q in this version", p.Driver), "")
		return doc.Err()
	}
	if len(p.Link) > 0 {
		doc := p.doc.Fresh()
		for _, key := range slices.Sorted(maps.Keys(p.Link)) {
			if err := link.CheckDefault(d.Schemes, key, p.Link[key]); err != nil {
				doc.At(p.linkAt[key], err.Error(), "")
			}
		}
		if err := doc.Err(); err != nil {
			return err
		}
	}
	decoded := true
	_, err := d.New(func(settings any) error {
		err := p.Decode(settings)
		decoded = err == nil
		return err
	})
	if err == nil || !decoded {
		return err
	}
	doc := p.doc.Fresh()
	NoteSettings(doc, p.settings, p.driverAt, err)
	return doc.Err()
}

// NoteSettings notes what a driver says is wrong with its settings, each problem of a joined
// error where it stands; at otherwise if there are no settings.
func NoteSettings(doc *yamlfile.Document, settings, otherwise ast.Node, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			NoteSettings(doc, settings, otherwise, one)
		}
		return
	}
	text, hint := err.Error(), ""
	var parts interface{ Parts() (text, hint string) }
	if errors.As(err, &parts) {
		text, hint = parts.Parts()
	}
	doc.At(settingAt(settings, otherwise, err), text, hint)
}

// settingAt is the place of the setting that a driver's error names: it begins with the keys
// that lead there, "grammar: checksum: ...". An element of a list is named by its number, from 1,
// or by its own name. It is the place of all settings if the error names none, or of otherwise
// if there are none.
func settingAt(settings, otherwise ast.Node, err error) ast.Node {
	if settings == nil {
		return otherwise
	}
	at := settings
	for rest, more := err.Error(), true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ":")
		name = strings.TrimSpace(name)
		next := yamlfile.Value(at, name)
		if list, isList := at.(*ast.SequenceNode); isList {
			for i, element := range list.Values {
				if s, isText := yamlfile.Value(element, "name").(*ast.StringNode); strconv.Itoa(i+1) == name || isText && s.Value == name {
					next = element
					break
				}
			}
		}
		if next == nil {
			break
		}
		at = next
	}
	return at
}

func readBounded(from fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(from, name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // opening a pipe would wait for ever
		return nil, errors.New("not a file")
	}
	f, err := from.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading only
	return io.ReadAll(io.LimitReader(f, yamlfile.MaxBytes+1))
}

// builtInOrigin is the Origin of a profile that is in the program.
const builtInOrigin = "built in"

// Get returns a profile by name. A built-in one that can't be read, which a test keeps from
// being released, goes to Problems.
func (s *Set) Get(name string) (*Profile, bool) {
	if p, ok := s.byName[name]; ok || !s.builtIn[name] {
		return p, ok
	}
	file := name + ".yaml"
	b, err := unpack(file)
	if err != nil {
		s.refuse(file, err.Error(), "")
		return nil, false
	}
	p, err := parseProfile(file, b)
	if err == nil && p.Name != name {
		err = fmt.Errorf("the profile in it is called %q", p.Name)
	}
	if err != nil {
		s.reject(p, err)
		return nil, false
	}
	p.Origin = builtInOrigin
	s.byName[name] = p
	return p, true
}

// Names lists the profiles' names in order.
func (s *Set) Names() []string {
	names := maps.Clone(s.builtIn)
	for n := range s.byName {
		names[n] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Parse reads one profile. The error is a yamlfile.Problems with everything
// that is wrong. The driver's settings are checked by the driver, later.
func Parse(file string, b []byte) (*Profile, error) {
	p, err := parseProfile(file, b)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// parseProfile gives what it could read beside an error too.
func parseProfile(file string, b []byte) (*Profile, error) {
	d := yamlfile.Parse(file, b)
	p := &Profile{file: file, source: b, doc: d, Link: map[string]string{}, linkAt: map[string]ast.Node{}, Identify: Identify{Proof: ProofNone, Records: defaultProofRecords}}
	if d.Root() == nil {
		return p, d.Err()
	}
	text := func(to *string, what string) func(ast.Node) {
		return func(n ast.Node) { *to, _ = d.Text(n, what) }
	}
	d.Mapping(d.Root(), "the profile",
		yamlfile.Key{Name: "profile", Required: true, Read: func(n ast.Node) {
			p.Name, _ = d.Text(n, "profile")
			if !ValidName(p.Name) {
				d.At(n, fmt.Sprintf("profile name %q", p.Name), NameRule)
			}
		}},
		yamlfile.Key{Name: "summary", Required: true, Read: text(&p.Summary, "summary")},
		yamlfile.Key{Name: "driver", Required: true, Read: func(n ast.Node) {
			p.Driver, _ = d.Text(n, "driver")
			p.driverAt = n
		}},
		yamlfile.Key{Name: "evidence", Required: true, Read: func(n ast.Node) {
			p.Evidence, _ = d.Text(n, "evidence")
			if levels := []string{"verified", "documented", "assumed"}; !slices.Contains(levels, p.Evidence) {
				d.At(n, fmt.Sprintf("evidence is %q", p.Evidence), "want one of "+strings.Join(levels, ", "))
			}
		}},
		yamlfile.Key{Name: "products", Read: func(n ast.Node) {
			d.Sequence(n, "products", maxList, func(n ast.Node) {
				var v Product
				d.Decode(n, "a product", &v)
				p.Products = append(p.Products, v)
			})
		}},
		yamlfile.Key{Name: "link", Read: func(n ast.Node) {
			d.Pairs(n, "link", func(key string, _, value ast.Node) {
				if v, ok := d.Text(value, "link "+key); ok {
					p.Link[key], p.linkAt[key] = v, value
				}
			})
		}},
		yamlfile.Key{Name: "silence", Read: func(n ast.Node) {
			p.Silence, _ = d.Duration(n, "silence", minSilence, maxSilence)
		}},
		yamlfile.Key{Name: "settings", Read: func(n ast.Node) { p.settings = n }},
		yamlfile.Key{Name: "identify", Read: func(n ast.Node) { p.Identify = parseIdentify(d, n) }},
		yamlfile.Key{Name: "caveats", Read: func(n ast.Node) {
			d.Sequence(n, "caveats", maxList, func(n ast.Node) {
				var v Caveat
				d.Decode(n, "a caveat", &v)
				p.Caveats = append(p.Caveats, v)
			})
		}},
		yamlfile.Key{Name: "vectors", Read: func(n ast.Node) {
			d.Sequence(n, "vectors", maxVectors, func(n ast.Node) {
				p.Vectors = append(p.Vectors, parseVector(d, n, p.Vectors))
			})
		}},
	)
	return p, d.Err()
}

// NameRule says what ValidName takes.
const NameRule = "use 1 to 40 lower-case letters, digits and dashes, a letter or digit first"

// ValidName reports whether a name can stand in a topic, a file name and a
// configuration.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 40 || s[0] == '-' {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
