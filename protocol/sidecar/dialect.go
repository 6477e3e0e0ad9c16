package sidecar

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/lanepost/lanepost/protocol/document"
)

// Dialect describes the sidecars of a scanner of which nobody has published more than
// names.
type Dialect struct {
	// Root is the name of the document; empty for JSON, and to take any.
	Root string `yaml:"root"`
	// Fields say where things stand: by the names of Fields the places to look at, the
	// first that has something wins. A place is the names of elements from the root
	// down, with slashes; "@name" at its end is an attribute, "name=value" picks the
	// element whose attribute "name" has that value, as in "attributes/attribute@name=ANPR".
	Fields map[string][]string `yaml:"fields"`
	// Files are where names of files stand; all of them count.
	Files []string `yaml:"files"`
	// Times are layouts of times beside those of XML, as Go's package time has them.
	Times []string `yaml:"times"`
	// Yes are the words for yes.
	Yes []string `yaml:"yes"`
	// Roles say by patterns of file names what a file is, as "*thumbxray.jpg": preview.
	Roles map[string]string `yaml:"roles"`
}

// Fields lists the names of what a Dialect can tell.
func Fields() []string {
	return []string{
		"id", "start", "end", "system", "site", "software", "plate", "plate_confidence", "trailer_plate", "container", "container_2",
		"training", "reference", "test", "suspicious", "inspected", "result", "operator_result",
	}
}

// RoleNames lists what a file can be.
func RoleNames() []string {
	return []string{"image", "preview", "snapshot", "ocr", "dual_energy", "radiation", "other"}
}

// Check finds what is wrong with the dialect of a sidecar, which must have an id.
func (d *Dialect) Check() error {
	if err := d.CheckPlaces(); err != nil {
		return err
	}
	if len(d.Fields["id"]) == 0 {
		return errors.New("fields: id is missing; say where the scanner's id of the scan stands")
	}
	return nil
}

// CheckPlaces finds what is wrong with what the dialect says, and wants nothing of it.
func (d *Dialect) CheckPlaces() error {
	known := map[string]bool{}
	for _, f := range Fields() {
		known[f] = true
	}
	for f, places := range d.Fields {
		if !known[f] {
			return fmt.Errorf("fields: there is no %q; there are %s", f, strings.Join(Fields(), ", "))
		}
		for _, p := range places {
			if err := CheckPlace(p); err != nil {
				return fmt.Errorf("fields: %s: %w", f, err)
			}
		}
	}
	for _, p := range d.Files {
		if err := CheckPlace(p); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	roles := map[string]bool{}
	for _, r := range RoleNames() {
		roles[r] = true
	}
	for pattern, role := range d.Roles {
		if _, err := path.Match(pattern, "x"); err != nil {
			return fmt.Errorf("roles: %q is no pattern of file names: %w", pattern, err)
		}
		if !roles[role] {
			return fmt.Errorf("roles: %s is %q; take one of %s", pattern, role, strings.Join(RoleNames(), ", "))
		}
	}
	return nil
}

// CheckPlace finds what is wrong with a place in a document.
func CheckPlace(p string) error {
	if strings.Trim(p, "/") == "" || len(p) > 256 {
		return fmt.Errorf("%q is no place; write names with slashes, as AdminData/Vehicle/PlateNumber", p)
	}
	return nil
}

// Parse reads a sidecar.
func (d *Dialect) Parse(b []byte, codePage string) (*Scan, error) {
	n, err := parse(b, codePage)
	if err != nil {
		return nil, err
	}
	s, err := d.Read(n)
	if err == nil && s.ID == "" {
		return nil, errors.New("the document has no id of the scan where the settings say that it stands")
	}
	return s, err
}

// Read takes a scan out of a document. Its id is empty if the document has none.
func (d *Dialect) Read(n *document.Node) (*Scan, error) {
	if d.Root != "" && n.Name != d.Root {
		return nil, fmt.Errorf("<%s>, and no <%s>", n.Name, d.Root)
	}
	s := d.Fill(func(field string) string {
		for _, place := range d.Fields[field] {
			for _, text := range TextsAt(n, place) {
				if text != "" {
					return text
				}
			}
		}
		return ""
	})
	for _, place := range d.Files {
		for _, name := range TextsAt(n, place) {
			if name == "" {
				continue
			}
			if len(s.Files) == MaxFiles {
				return s, fmt.Errorf("more than %d files in one scan", MaxFiles)
			}
			s.Files = append(s.Files, File{Name: name, Role: d.Role(name)})
		}
	}
	return s, nil
}

// Fill makes a scan, without files, of the texts of its fields, which get finds by their
// names: empty for one that is not told. The scan's id is empty if that is.
func (d *Dialect) Fill(get func(field string) string) *Scan {
	yes := func(field string) bool {
		return True(get(field), append([]string{"1", "-1", "true", "yes", "y"}, d.Yes...)...)
	}
	s := &Scan{
		ID: get("id"), System: get("system"), Site: get("site"), Software: get("software"),
		Training: yes("training"), Reference: yes("reference"), Test: yes("test"),
		Suspicious: yes("suspicious"), Inspected: yes("inspected"), Raw: get("result"),
	}
	layouts := append(XMLTimes(), d.Times...)
	var zoned bool
	s.Start, s.Zoned, _ = ParseTime(get("start"), layouts...)
	if s.End, zoned, _ = ParseTime(get("end"), layouts...); s.Start.IsZero() {
		s.Zoned = zoned
	}
	if r := get("operator_result"); r != "" {
		s.Analyses = append(s.Analyses, Analysis{Name: "operator", Result: r})
	}
	if p := get("plate"); p != "" {
		s.Plates = append(s.Plates, Plate{Text: p, Confidence: get("plate_confidence")})
	}
	if p := get("trailer_plate"); p != "" {
		s.Plates = append(s.Plates, Plate{Trailer: true, Text: p})
	}
	for i, field := range []string{"container", "container_2"} {
		if c := get(field); c != "" {
			s.Containers = append(s.Containers, Container{Position: i + 1, Text: c})
		}
	}
	return s
}

// Role says by its name what a file is.
func (d *Dialect) Role(name string) string {
	best := ""
	for pattern := range d.Roles {
		if ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(name)); err == nil && ok && len(pattern) > len(best) {
			best = pattern
		}
	}
	if best == "" {
		return "other"
	}
	return d.Roles[best]
}

// TextsAt gives the texts at a place.
func TextsAt(n *document.Node, place string) []string { return document.Texts(NodesAt(n, place)) }

// NodesAt gives what stands at a place; an attribute as a node with its text.
func NodesAt(n *document.Node, place string) []*document.Node {
	nodes := []*document.Node{n}
	for _, step := range strings.Split(strings.Trim(place, "/"), "/") {
		name, attribute, picks := strings.Cut(step, "@")
		wanted, value, compares := strings.Cut(attribute, "=")
		var next []*document.Node
		for _, parent := range nodes {
			children := []*document.Node{parent}
			if name != "" {
				children = parent.All(name)
			}
			for _, c := range children {
				switch {
				case compares && c.Attr(wanted) != value:
				case picks && !compares:
					next = append(next, &document.Node{Text: strings.TrimSpace(c.Attr(attribute)), Offset: c.Offset})
				default:
					next = append(next, c)
				}
			}
		}
		nodes = next
	}
	return nodes
}

// Confidence reads a confidence from 0 to 100. It is nil for one that is not told, or is
// below zero: that is of what was not read, or typed in by hand.
func Confidence(text string) *float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(v >= 0 && v <= 100) {
		return nil
	}
	v /= 100
	return &v
}
