package config

import (
	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// How the console shows number plates.
const (
	// PlatesNone: not at all.
	PlatesNone = "none"
	// PlatesMasked: the first and the last character.
	PlatesMasked = "masked"
	// PlatesPseudonym: the first digits of the pseudonym.
	PlatesPseudonym = "pseudonym"
	// PlatesFull: as they are.
	PlatesFull = "full"
)

// Console says what is shown of the running agent, and to whom.
type Console struct {
	// Plates is how number plates are shown.
	Plates string
	// Pictures says that pictures may be shown, on which plates can be read.
	Pictures bool
}

var defaultConsole = Console{Plates: PlatesMasked}

func (r *reader) readConsole(n ast.Node) {
	c := &r.c.Console
	r.Mapping(n, "console",
		yamlfile.Key{Name: "plates", Read: func(n ast.Node) {
			c.Plates = r.oneOf(n, "console.plates", PlatesNone, PlatesMasked, PlatesPseudonym, PlatesFull)
		}},
		yamlfile.Key{Name: "pictures", Read: func(n ast.Node) {
			c.Pictures = r.oneOf(n, "console.pictures", "none", "thumbnails") == "thumbnails"
		}},
	)
}
