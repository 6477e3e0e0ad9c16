package config

import (
	"github.com/goccy/go-yaml/ast"
)

// PlaceholderSite is the site in the configuration that a package brings.
const PlaceholderSite = "change-me"

// Blank reports whether the file names neither a lane nor a broker, as the one that
// a package brings: there is nothing to observe and nobody to tell.
func (c *Config) Blank() bool { return len(c.scanFiles) == 0 && len(c.MQTT) == 0 }

// checkSite refuses a lane whose events would tell the placeholder as their site.
func (r *reader) checkSite(n ast.Node) {
	if r.c.Site == PlaceholderSite && !r.c.Blank() {
		r.At(n, "the site is still called "+PlaceholderSite, "name the crossing point: it begins the source of every event, and stays")
	}
}
