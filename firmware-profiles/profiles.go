// Package profiles holds the firmware profiles: what is known of a family of
// instruments as data. A profile names the driver, the defaults of its link,
// the driver's settings, and self-test vectors: bytes that come in, and the
// events that must come out.
//
// The profiles in this folder are embedded in the program. A directory on disk
// can replace them and add to them.
package profiles

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

//go:embed *.yaml
var embedded embed.FS

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
	// Vectors are its self-tests.
	Vectors []Vector
	// Origin is "built in", or "local: " and the file.
	Origin string

	file     string
	source   []byte
	settings ast.Node // nil if there are none
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

// Decode fills the driver's settings from the profile.
func (p *Profile) Decode(settings any) error {
	if p.settings == nil {
		return nil
	}
	// The document is parsed again, so that problems are those of this call.
	d := yamlfile.Parse(p.file, p.source)
	d.Decode(p.settings, "settings", settings)
	return d.Err()
}

// Set is all profiles by name.
type Set struct {
	byName map[string]*Profile
	// Problems are the errors of profile files on disk. The profiles of such a
	// file are not in the set; everything else is.
	Problems []error
}

// Load reads the embedded profiles, and those of a directory if dir is not
// empty. A file of the directory that can't be read does not take the others
// away: it is told in Problems. Load fails only if the directory itself can't be
// read.
func Load(dir string) (*Set, error) {
	s := &Set{byName: map[string]*Profile{}}
	if err := s.addAll(embedded, "", "built in"); err != nil {
		return nil, err
	}
	if err := errors.Join(s.Problems...); err != nil {
		return nil, fmt.Errorf("built-in profiles: %w", err)
	}
	if dir == "" {
		return s, nil
	}
	if err := s.addAll(os.DirFS(dir), dir, "local: "); err != nil {
		return nil, fmt.Errorf("read the profiles in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Set) addAll(from fs.FS, dir, origin string) error {
	names, err := fs.Glob(from, "*.yaml")
	if err == nil && dir != "" {
		_, err = fs.Stat(from, ".") // Glob is silent about a directory that is not there
	}
	if err != nil {
		return err
	}
	if len(names) > maxProfiles {
		return fmt.Errorf("%d files, at most %d are read", len(names), maxProfiles)
	}
	slices.Sort(names)
	fromHere := map[string]string{}
	for _, name := range names {
		path := filepath.Join(dir, name)
		b, err := readBounded(from, name)
		if err != nil {
			s.Problems = append(s.Problems, fmt.Errorf("read profile %s: %w", path, err))
			continue
		}
		p, err := Parse(path, b)
		if err != nil {
			s.Problems = append(s.Problems, err)
			continue
		}
		if other, twice := fromHere[p.Name]; twice {
			s.Problems = append(s.Problems, fmt.Errorf("%s: profile %s is in %s already; rename one of them", path, p.Name, other))
			continue
		}
		fromHere[p.Name] = path
		p.Origin = origin
		if dir != "" {
			p.Origin += path
		}
		s.byName[p.Name] = p
	}
	return nil
}

func readBounded(from fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(from, name)
	if err != nil {
		return nil, err
	}
	if st.Size() > yamlfile.MaxBytes {
		return nil, fmt.Errorf("%d bytes, at most %d are read", st.Size(), yamlfile.MaxBytes)
	}
	return fs.ReadFile(from, name)
}

// Get returns a profile by name.
func (s *Set) Get(name string) (*Profile, bool) {
	p, ok := s.byName[name]
	return p, ok
}

// Names lists the profiles' names in order.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.byName))
	for n := range s.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Parse reads one profile. The error is a yamlfile.Problems with everything
// that is wrong. The driver's settings are checked by the driver, later.
func Parse(file string, b []byte) (*Profile, error) {
	d := yamlfile.Parse(file, b)
	if d.Root() == nil {
		return nil, d.Err()
	}
	p := &Profile{file: file, source: b, Link: map[string]string{}}
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
		yamlfile.Key{Name: "driver", Required: true, Read: text(&p.Driver, "driver")},
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
					p.Link[key] = v
				}
			})
		}},
		yamlfile.Key{Name: "silence", Read: func(n ast.Node) {
			p.Silence, _ = d.Duration(n, "silence", minSilence, maxSilence)
		}},
		yamlfile.Key{Name: "settings", Read: func(n ast.Node) { p.settings = n }},
		yamlfile.Key{Name: "caveats", Read: func(n ast.Node) {
			d.Sequence(n, "caveats", maxList, func(n ast.Node) {
				var v Caveat
				d.Decode(n, "a caveat", &v)
				p.Caveats = append(p.Caveats, v)
			})
		}},
		yamlfile.Key{Name: "vectors", Read: func(n ast.Node) {
			d.Sequence(n, "vectors", maxVectors, func(n ast.Node) {
				if v, ok := parseVector(d, n); ok {
					p.Vectors = append(p.Vectors, v)
				}
			})
		}},
	)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return p, nil
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
