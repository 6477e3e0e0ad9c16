package main

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/protocol/order"
)

// leftOut stands in place of what may tell of persons.
const leftOut = "(left out: it may tell of persons)"

// impersonal are the drivers of instruments that know nothing of persons: radiation, weight,
// signals. A driver that is not here is taken for one that may tell a plate, a document or
// a tag.
var impersonal = []string{"tsa-portal", "n42-stream", "area-monitor", "tsa-environment", "aspect-portal", "scale", "state-bus"}

// mayTellPersons reports whether what a device, "lane/id", sends or what is said of it may
// hold a plate, a document or a tag. What is no device may not.
func (s *supported) mayTellPersons(device string) bool {
	if s.o.personal || device == "" {
		return false
	}
	known := false
	if s.cfg != nil {
		for _, d := range s.cfg.Devices() {
			if d.Lane+"/"+d.ID == device {
				known = true
				if !slices.Contains(impersonal, d.Driver.Name) {
					return true
				}
			}
		}
	}
	if s.status != nil { // what runs, if the file was changed since
		for _, l := range s.status.Lanes {
			for _, d := range l.Devices {
				if d.Device == device {
					known = true
					if !slices.Contains(impersonal, d.Driver) {
						return true
					}
				}
			}
		}
	}
	return !known && strings.Contains(device, "/")
}

// namesFiles reports whether errors of a device may hold names of files that tell of persons:
// folders of scans are named by plates. Errors of other links say who refuses what.
func (s *supported) namesFiles(device string) bool {
	if !s.mayTellPersons(device) {
		return false
	}
	if s.cfg != nil {
		for _, d := range s.cfg.Devices() {
			if d.Lane+"/"+d.ID == device && d.Endpoint.Scheme() == "folder" {
				return true
			}
		}
	}
	if s.status != nil {
		for _, l := range s.status.Lanes {
			for _, d := range l.Devices {
				if d.Device == device && strings.HasPrefix(d.Connect, "folder:") {
					return true
				}
			}
		}
	}
	return false
}

var (
	lineDevice = regexp.MustCompile(`\bdevice"?[=:]"?([^\s",]+)`)
	lineLane   = regexp.MustCompile(`\blane"?[=:]"?([^\s",]+)`)
)

// deviceOfLine finds which device a line of the log is about, in either form of the log.
func deviceOfLine(line string) string {
	d := lineDevice.FindStringSubmatch(line)
	if d == nil {
		return ""
	}
	if l := lineLane.FindStringSubmatch(line); l != nil && !strings.Contains(d[1], "/") {
		return l[1] + "/" + d[1]
	}
	if strings.Contains(d[1], "/") {
		return d[1]
	}
	return "unknown/" + d[1]
}

// depersonalised is a status without what may tell of persons, whatever the configuration
// permits the console to show.
func (s *supported) depersonalised(v console.Status) console.Status {
	if s.o.personal {
		return v
	}
	v.Lanes = slices.Clone(v.Lanes)
	for i := range v.Lanes {
		v.Lanes[i].Devices = slices.Clone(v.Lanes[i].Devices)
		for j := range v.Lanes[i].Devices {
			d := &v.Lanes[i].Devices[j]
			d.Plates = slices.Clone(d.Plates)
			for k := range d.Plates {
				d.Plates[k].Text = ""
			}
			if !s.mayTellPersons(d.Device) {
				continue
			}
			if d.Scan != nil {
				scan := *d.Scan
				scan.ID = ""
				d.Scan = &scan
			}
			if d.LastEvent != nil {
				e := *d.LastEvent
				e.Text = leftOut
				d.LastEvent = &e
			}
			// Names of files may be plates.
			if d.Reason != "" && s.namesFiles(d.Device) {
				d.Reason = leftOut
			}
		}
	}
	v.Problems = slices.Clone(v.Problems)
	for i := range v.Problems {
		if s.namesFiles(v.Problems[i].Device) {
			v.Problems[i].What = leftOut
		}
	}
	return v
}

// withoutVectors takes the vectors out of a profile: recordings of what a device sent. whole
// is true if there were none.
func withoutVectors(text string) (rest string, whole bool) {
	var b strings.Builder
	within, cut := false, false
	for line := range strings.Lines(text) {
		top := strings.TrimSpace(line) != "" && !strings.ContainsAny(line[:1], " \t-#]}")
		if top {
			within = strings.HasPrefix(strings.Trim(line, `"'`), "vectors")
			if within {
				cut = true
				b.WriteString("# vectors: left out, they may tell of persons\n")
			}
		}
		if !within {
			b.WriteString(line)
		}
	}
	if strings.Contains(strings.ReplaceAll(b.String(), "# vectors: left out", ""), "vectors") {
		return "# left out: it may hold vectors that tell of persons\n", false // written in another way
	}
	return b.String(), !cut
}

// scrubber takes out what is known to be secret, wherever it stands. What goes into the
// archive is without secrets by itself; this is the second lock.
type scrubber struct {
	secrets []string
	known   map[string]bool // the same
	// withheld is why nothing is let through: it is not known what is secret. Empty if it is.
	withheld string
	replace  *strings.Replacer
}

// withheldText stands in place of what can't be let through.
const withheldText = "(left out)"

const (
	// leastSecret is how long a secret must be that is looked for: a shorter one would
	// take words apart.
	leastSecret = 5
	// maxSecretFile bounds a file with a secret, and maxSecrets how many forms of secrets are
	// looked for. Beyond, nothing is let through.
	maxSecretFile = 64 << 10
	maxSecrets    = 20_000
	scrubbed      = "***"
)

var (
	secretFileKey = regexp.MustCompile(`(?i)([a-z_]*_file)["']?[ \t]*[:=][ \t]*["']?([^\s"'&,}]+)`)
	secretEnvKey  = regexp.MustCompile(`(?i)[a-z_]*_env["']?[ \t]*[:=][ \t]*["']?([A-Za-z_][A-Za-z0-9_]*)`)
	publicFile    = []string{"cert_file", "ca_file"}
	// parted are what stands around a secret in a line that was redacted.
	parted = regexp.MustCompile(`[\s'"@:/\\,{}\[\]&?=#]+`)
)

// learn notes the secrets of a configuration: what its redaction hides, and what stands in
// the files and variables that it names.
func (c *scrubber) learn(text string) {
	shown := strings.Split(config.Redact(text), "\n")
	for i, line := range strings.Split(text, "\n") {
		if i >= len(shown) || line == shown[i] {
			continue
		}
		for _, word := range parted.Split(line, -1) {
			if !strings.Contains(shown[i], word) {
				c.note(word)
			}
		}
	}
	for _, m := range secretFileKey.FindAllStringSubmatch(text, -1) {
		if slices.Contains(publicFile, strings.ToLower(m[1])) {
			continue
		}
		name := m[2]
		if unescaped, err := url.QueryUnescape(name); err == nil {
			if _, err := os.Stat(name); err != nil {
				name = unescaped
			}
		}
		b, err := readBounded(name, maxSecretFile)
		if errors.Is(err, errTooLarge) {
			c.withhold(fmt.Sprintf("a file with secrets has more than %s, so it can't be told what must not be in the archive", size(maxSecretFile)))
			continue
		}
		if err != nil {
			continue // what can't be read can't be given away either
		}
		c.note(string(b))
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "-----") {
				continue
			}
			c.note(line)
			for _, word := range strings.Split(line, ":") {
				c.note(strings.TrimSpace(word))
			}
		}
	}
	for _, m := range secretEnvKey.FindAllStringSubmatch(text, -1) {
		c.note(os.Getenv(m[1]))
	}
}

// note has a secret looked for, in the forms in which it may be written.
func (c *scrubber) note(secret string) {
	secret = strings.TrimRight(secret, "\r\n")
	if len(secret) < leastSecret || secret == "lanepost" {
		return
	}
	for _, form := range []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawStdEncoding.EncodeToString([]byte(secret)),
		base64.URLEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	} {
		switch {
		case c.known[form]:
		case len(c.secrets) == maxSecrets:
			c.withhold("there are more secrets than can be looked for, so they can't be taken out of the archive")
			return
		default:
			if c.known == nil {
				c.known = map[string]bool{}
			}
			c.known[form] = true
			c.secrets = append(c.secrets, form)
		}
	}
	c.replace = nil
}

func (c *scrubber) clone() *scrubber {
	return &scrubber{secrets: slices.Clone(c.secrets), known: maps.Clone(c.known), withheld: c.withheld}
}

// withhold lets nothing through any more; the first reason stays.
func (c *scrubber) withhold(why string) { c.withheld = cmp.Or(c.withheld, why) }

func (c *scrubber) clean(b []byte) []byte {
	if c.withheld != "" {
		return []byte(withheldText + "\n")
	}
	if len(c.secrets) == 0 {
		return b
	}
	if c.replace == nil {
		// The longest first: a secret may begin with another one.
		order.By(c.secrets, func(a, b string) int { return len(b) - len(a) })
		pairs := make([]string, 0, 2*len(c.secrets))
		for _, x := range c.secrets {
			pairs = append(pairs, x, scrubbed)
		}
		c.replace = strings.NewReplacer(pairs...)
	}
	return []byte(c.replace.Replace(string(b)))
}
