package config

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Plates says how number plates, which are personal data, are handled.
type Plates struct {
	// PseudonymKeyFile holds the key of the pseudonyms; empty for none. Events bear
	// them beside the plate, and in place of it where an uplink redacts.
	PseudonymKeyFile string
}

// PseudonymKey reads the key, nil if there is none. The file holds it in
// hexadecimal.
func (p Plates) PseudonymKey() ([]byte, error) {
	if p.PseudonymKeyFile == "" {
		return nil, nil
	}
	text, err := readSecret("plates.pseudonym_key_file", p.PseudonymKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) < plate.MinPseudonymKey {
		// The error of the decoder repeats a character of the key.
		return nil, fmt.Errorf("plates.pseudonym_key_file: %s does not hold a key of at least %d hexadecimal digits; openssl rand -hex %d makes one",
			p.PseudonymKeyFile, 2*plate.MinPseudonymKey, plate.MinPseudonymKey)
	}
	return key, nil
}

func (r *reader) readPlates(n ast.Node) {
	p := &r.c.Plates
	r.Mapping(n, "plates",
		yamlfile.Key{Name: "pseudonym_key_file", Read: func(n ast.Node) {
			p.PseudonymKeyFile = r.path(n, "plates.pseudonym_key_file")
			if p.PseudonymKeyFile != "" {
				r.needs(p.PseudonymKeyFile)
			}
			if _, err := p.PseudonymKey(); err != nil && p.PseudonymKeyFile != "" {
				text, hint, _ := strings.Cut(err.Error(), "; ")
				r.At(n, text, hint)
			}
		}},
		yamlfile.Key{Name: "pseudonym_key", Instead: "keys don't belong in this file: write it to a file of its own and name that with pseudonym_key_file"},
	)
}
